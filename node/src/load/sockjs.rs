//! SockJS as a client needs it: frames found one after the other, the texts in them, and its own
//! messages in a list.

use std::fmt::Display;
use std::io;

use super::client::Stage;
use super::frame::{self as wire, TEXT};

/// What the server says in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// The session is open.
    Open,
    /// Messages: a JSON list of strings.
    Messages(&'a [u8]),
    /// The session is closed, with these words.
    Closed(&'a [u8]),
    /// Nothing but a sign of life.
    Heartbeat,
}

/// What a frame is.
pub(super) fn frame(bytes: &[u8]) -> io::Result<Frame<'_>> {
    match bytes {
        b"o" => Ok(Frame::Open),
        [b'a', messages @ ..] => Ok(Frame::Messages(messages)),
        [b'c', words @ ..] => Ok(Frame::Closed(words)),
        // Alone, or what an answer that goes on begins with.
        [b'h', ..] => Ok(Frame::Heartbeat),
        _ => Err(io::Error::other("a frame that is none of SockJS")),
    }
}

/// The first whole line of an answer's body, without what makes it an event, and what follows it; `None`
/// if it is not whole yet. An empty line is between events.
///
/// The event stream writes `%` as `%25`: no move has one, and it is left as it is.
pub(super) fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Some((line.strip_prefix(b"data: ").unwrap_or(line), rest))
}

/// Does what a frame asks for, and shows its messages; `text` is memory for one.
pub(super) fn hear(
    frame: Frame<'_>,
    stage: &mut Stage,
    text: &mut Vec<u8>,
    show: &mut impl FnMut(wire::Frame<'_>),
) -> io::Result<()> {
    match frame {
        Frame::Open if *stage == Stage::Ready => {
            return Err(io::Error::other("the server lost the session"));
        }
        Frame::Open => *stage = Stage::Ready,
        Frame::Messages(list) => texts(list, text, |payload| {
            show(wire::Frame {
                opcode: TEXT,
                payload,
            });
        })?,
        Frame::Closed(words) => {
            let words = String::from_utf8_lossy(words).escape_debug().to_string();
            return Err(io::Error::other(format!("closed with {words}")));
        }
        Frame::Heartbeat => {}
    }
    Ok(())
}

/// Shows every text in a list of strings; `text` is memory for one.
pub(super) fn texts(
    list: &[u8],
    text: &mut Vec<u8>,
    mut show: impl FnMut(&[u8]),
) -> io::Result<()> {
    let wrong = || io::Error::other("messages that are no list of strings");
    if list == b"[]" {
        return Ok(());
    }
    let mut rest = list.strip_prefix(b"[").ok_or_else(wrong)?;
    loop {
        text.clear();
        rest = string(rest, text).ok_or_else(wrong)?;
        show(text);
        match rest {
            [b',', after @ ..] => rest = after,
            b"]" => return Ok(()),
            _ => return Err(wrong()),
        }
    }
}

/// Reads a JSON string without blanks around it; gives what follows.
fn string<'a>(bytes: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        text.extend_from_slice(&rest[..end]);
        if rest[end] == b'"' {
            return Some(&rest[end + 1..]);
        }
        let (escaped, after) = rest[end + 1..].split_first()?;
        rest = after;
        match escaped {
            b'"' | b'\\' | b'/' => text.push(*escaped),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'u' => rest = unit(rest, text)?,
            _ => return None,
        }
    }
}

/// Reads what follows `\u`: half of a pair brings the other one with it.
fn unit<'a>(bytes: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (first, mut rest) = hex(bytes)?;
    let mut units = [first, 0];
    let mut count = 1;
    if (0xd800..0xdc00).contains(&first)
        && let Some(after) = rest.strip_prefix(b"\\u")
    {
        let (second, after) = hex(after)?;
        // What is no second half stays to be read for itself.
        if (0xdc00..0xe000).contains(&second) {
            (units[1], count, rest) = (second, 2, after);
        }
    }
    for character in char::decode_utf16(units[..count].iter().copied()) {
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(rest)
}

fn hex(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = bytes.split_first_chunk::<4>()?;
    let digits = std::str::from_utf8(digits).ok()?;
    let unit = u16::from_str_radix(digits, 16).ok()?;
    Some((unit, rest))
}

/// Appends a message as clients say it: a list of one string.
pub(super) fn put(out: &mut Vec<u8>, text: impl Display) {
    out.extend_from_slice(b"[\"");
    for byte in text.to_string().bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.extend_from_slice(b"\"]");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(list: &str) -> Option<Vec<String>> {
        let mut found = Vec::new();
        let show = |text: &[u8]| found.push(String::from_utf8(text.to_vec()).unwrap());
        texts(list.as_bytes(), &mut Vec::new(), show).ok()?;
        Some(found)
    }

    #[test]
    fn texts_are_what_json_says_they_are() {
        for list in [
            "[]",
            r#"["a"]"#,
            r#"["","b,c","]"]"#,
            r#"["{\"x\":1,\"t\":2}","\\\\\"","\/\n\r\t\b\f"]"#,
            r#"["\u00e9\u2028ü\ud83d\ude00"]"#,
        ] {
            let expected: Vec<String> = serde_json::from_str(list).unwrap();
            assert_eq!(read(list), Some(expected), "{list}");
        }
        assert_eq!(
            read(r#"["\ud800","\udc00","\ud800\u0041"]"#),
            Some(vec![
                "\u{fffd}".into(),
                "\u{fffd}".into(),
                "\u{fffd}A".into()
            ])
        );
    }

    #[test]
    fn what_is_no_list_of_strings_is_refused() {
        for list in [
            "",
            "[",
            "]",
            "[1]",
            r#"["a""#,
            r#"["a]"#,
            r#"["a",]"#,
            r#"["a"]x"#,
            r#"["\x"]"#,
            r#"["\u12"]"#,
            r#"["\"#,
        ] {
            assert_eq!(read(list), None, "{list}");
        }
    }

    #[test]
    fn what_is_said_is_read_again() {
        let mut out = Vec::new();
        put(&mut out, r#"{"x":"\\"}"#);
        let said: Vec<String> = serde_json::from_slice(&out).unwrap();
        assert_eq!(said, [r#"{"x":"\\"}"#]);
    }

    #[test]
    fn lines_of_either_stream_are_frames() {
        let mut rest =
            &b"hhh\no\r\na[\"x\"]\n\r\ndata: h\r\n\r\ndata: c[3000,\"Go away!\"]\r\n\r\na["[..];
        let mut found = Vec::new();
        while let Some((line, after)) = line(rest) {
            rest = after;
            if !line.is_empty() {
                found.push(frame(line).unwrap());
            }
        }
        let expected = [
            Frame::Heartbeat,
            Frame::Open,
            Frame::Messages(b"[\"x\"]"),
            Frame::Heartbeat,
            Frame::Closed(b"[3000,\"Go away!\"]"),
        ];
        assert_eq!(found, expected);
        assert_eq!(rest, b"a[");
        assert!(frame(b"").is_err() && frame(b"<html>").is_err());
    }
}
