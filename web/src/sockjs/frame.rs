//! SockJS frames: what the server sends (`o`, `h`, `a[…]`, `c[…]`), how messages are written in them so
//! that every transport carries them unharmed, and how what clients send is read.

use std::fmt::Write;

use thiserror::Error;

/// The first frame of every session.
pub(crate) const OPEN: &str = "o";
/// A sign of life.
pub(crate) const HEARTBEAT: &str = "h";

/// `a["…","…"]`.
pub(crate) fn messages<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut frame = String::from("a[");
    for (index, text) in texts.into_iter().enumerate() {
        if index > 0 {
            frame.push(',');
        }
        quote(text, &mut frame);
    }
    frame.push(']');
    frame
}

/// `c[code,"reason"]`.
pub(crate) fn close(code: u16, reason: &str) -> String {
    let mut frame = format!("c[{code},");
    quote(reason, &mut frame);
    frame.push(']');
    frame
}

/// A JSON string. Beyond what JSON asks for, characters are escaped that some browser or proxy is known
/// to change on the way (the list is that of the protocol's test suite).
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    // Nearly all bytes go as they are, so they are copied in runs.
    while let Some(at) = rest.bytes().position(may_begin_escaped) {
        let (plain, from) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = from.chars();
        if let Some(character) = characters.next() {
            escape(character, out);
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// Whether a character whose first byte this is may have to be escaped. No byte inside a character is
/// taken for its first.
fn may_begin_escaped(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\' | 0xe2 | 0xef)
}

fn escape(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\u{1f}'
        | '\u{200c}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fff0}'..='\u{ffff}' => {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
        _ => out.push(character),
    }
}

/// Why what a client sent is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum PayloadError {
    /// Nothing, or JSON that is no list of strings.
    #[error("Payload expected.")]
    Expected,
    /// No JSON.
    #[error("Broken JSON encoding.")]
    Broken,
}

/// The messages in what a client sent: a JSON list of strings, or one string if `single` is allowed.
/// Escapes of half a surrogate pair, which JSON has and Unicode text has not, become U+FFFD.
pub(crate) fn payload(text: &str, single: bool) -> Result<Vec<String>, PayloadError> {
    if text.trim().is_empty() {
        return Err(PayloadError::Expected);
    }
    let whole = without_lone_surrogates(text);
    let text = whole.as_deref().unwrap_or(text);
    let value: serde_json::Value = serde_json::from_str(text).map_err(|_| PayloadError::Broken)?;
    match value {
        serde_json::Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                serde_json::Value::String(text) => Ok(text),
                _ => Err(PayloadError::Expected),
            })
            .collect(),
        serde_json::Value::String(text) if single => Ok(vec![text]),
        _ => Err(PayloadError::Expected),
    }
}

/// `text` with every `\uD800`–`\uDFFF` that is not half of a pair replaced; `None` if there is none.
fn without_lone_surrogates(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut replaced: Option<String> = None;
    let (mut at, mut taken) = (0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let Some(unit) = escaped_unit(&bytes[at..]) else {
            // The escaped character may be a backslash itself.
            at += 2;
            continue;
        };
        let follows = || escaped_unit(&bytes[at + 6..]);
        match unit {
            0xd800..=0xdbff if follows().is_some_and(|low| (0xdc00..=0xdfff).contains(&low)) => {
                at += 12;
            }
            0xd800..=0xdfff => {
                let out = replaced.get_or_insert_default();
                out.push_str(&text[taken..at]);
                out.push_str("\\ufffd");
                at += 6;
                taken = at;
            }
            _ => at += 6,
        }
    }
    replaced.map(|mut out| {
        out.push_str(&text[taken..]);
        out
    })
}

/// The unit that `\uXXXX` at the beginning of `bytes` stands for.
fn escaped_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    // `from_str_radix` would take a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_as_the_protocol_has_them() {
        assert_eq!(messages(["x"]), r#"a["x"]"#);
        assert_eq!(
            messages(["a\"b", "\\", "\n\0"]),
            r#"a["a\"b","\\","\n\u0000"]"#
        );
        assert_eq!(close(3000, "Go away!"), r#"c[3000,"Go away!"]"#);
    }

    #[test]
    fn what_browsers_change_on_the_way_is_escaped() {
        assert_eq!(
            messages(["\u{200d}\u{2028}\u{ffff}é😀"]),
            r#"a["\u200d\u2028\uffffé😀"]"#
        );
    }

    #[test]
    fn lists_of_strings_are_taken_and_nothing_else() {
        let list = |text| payload(text, false);
        assert_eq!(list(r#"["a","b"]"#), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(list("[]"), Ok(vec![]));
        for text in ["", " ", "\"a\"", "{}", "1", "[1]", "[\"a\",null]"] {
            assert_eq!(list(text), Err(PayloadError::Expected), "{text}");
        }
        for text in ["[\"a", "x", "[\"a\"]]", "\"\\ud800"] {
            assert_eq!(list(text), Err(PayloadError::Broken), "{text}");
        }
        assert_eq!(payload("\"a\"", true), Ok(vec!["a".into()]));
    }

    #[test]
    fn half_a_pair_becomes_a_replacement_character() {
        let one = |text: &str| payload(&format!("[\"{text}\"]"), false).unwrap().remove(0);
        assert_eq!(one(r"\ud83d\ude00"), "😀");
        assert_eq!(one(r"\ud83d"), "\u{fffd}");
        assert_eq!(one(r"\ude00\ud83d"), "\u{fffd}\u{fffd}");
        assert_eq!(one(r"\ud83d\ud83d\ude00"), "\u{fffd}😀");
        assert_eq!(one(r"\\ud83d"), r"\ud83d");
        assert_eq!(one(r"\\\ud83dx"), "\\\u{fffd}x");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(texts in prop::collection::vec(any::<String>(), 0..4)) {
            let frame = messages(texts.iter().map(String::as_str));
            prop_assert_eq!(payload(&frame[1..], false).unwrap(), texts);
        }

        #[test]
        fn any_text_is_taken_or_refused(text in any::<String>(), single in any::<bool>()) {
            let _ = payload(&text, single);
        }

        #[test]
        fn any_escapes_are_taken(units in prop::collection::vec(any::<u16>(), 0..8)) {
            let text: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let read = payload(&format!("[\"{text}\"]"), false).unwrap();
            prop_assert_eq!(&read[0], &String::from_utf16_lossy(&units));
        }
    }
}
