//! The NATS client protocol: lines that end with CR LF, and after a `MSG` line a payload.
//!
//! Over a WebSocket it stays a stream: frames may hold several lines, or end within one.

use std::io;

use super::step::Step;

/// A line is not waited for beyond this: the longest is the server's `INFO`.
const LINE_BYTES_MAX: usize = 32 * 1024;
/// NATS servers' own bound unless they are told otherwise.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// What a client that listens to a room says first; the server's `PONG` then says that it does.
pub(super) fn hello(room: &str) -> String {
    format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {room} 1\r\nPING\r\n")
}

/// What the first whole thing in `bytes` asks for, and what follows it; `None` if there is none yet.
pub(super) fn take(bytes: &[u8]) -> io::Result<Option<(Step<'_>, &[u8])>> {
    let head = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        if head.len() == LINE_BYTES_MAX {
            return Err(io::Error::other("a line of more than 32 KiB"));
        }
        return Ok(None);
    };
    let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.starts_with(b"MSG ") {
        return Ok(payload(line, rest)?.map(|(payload, rest)| (Step::Move(payload), rest)));
    }
    let step = match line {
        b"PING" => Step::Answer(b"PONG\r\n"),
        b"PONG" => Step::Joined,
        _ if line.starts_with(b"-ERR") => Step::Refused(line),
        _ => Step::Nothing,
    };
    Ok(Some((step, rest)))
}

/// The payload that a `MSG` line announces with its last number, once it is there with its CR LF.
fn payload<'a>(line: &[u8], rest: &'a [u8]) -> io::Result<Option<(&'a [u8], &'a [u8])>> {
    let digits = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let len = std::str::from_utf8(digits).ok();
    let len = len.and_then(|digits| digits.parse::<usize>().ok());
    let Some(len) = len.filter(|len| *len <= PAYLOAD_BYTES_MAX) else {
        return Err(io::Error::other("a message without a length within 1 MiB"));
    };
    let Some((whole, rest)) = rest.split_at_checked(len + 2) else {
        return Ok(None);
    };
    match whole.split_at(len) {
        (payload, b"\r\n") => Ok(Some((payload, rest))),
        _ => Err(io::Error::other("a message longer or shorter than it says")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::partial::Partial;
    use super::*;

    const STREAM: &[u8] = b"INFO {\"a\":1}\r\nPONG\r\nMSG load-0 1 5\r\nMSG \r\r\nPING\r\n+OK\r\n\
        MSG load-0 1 0\r\n\r\nMSG load-0 1 reply 2\r\n\r\n\r\n";

    /// All that is found when the stream comes in pieces of so many bytes.
    fn steps(piece: usize) -> Vec<String> {
        let (mut partial, mut found) = (Partial::default(), Vec::new());
        for fresh in STREAM.chunks(piece) {
            let digest = |bytes: &[u8]| {
                let mut rest = bytes;
                while let Some((step, after)) = take(rest)? {
                    found.push(format!("{step:?}"));
                    rest = after;
                }
                Ok(rest.len())
            };
            partial.feed(fresh, digest).unwrap();
        }
        found
    }

    #[test]
    fn lines_are_found_joined_and_split_anywhere() {
        let expected = [
            Step::Nothing,
            Step::Joined,
            Step::Move(b"MSG \r"),
            Step::Answer(b"PONG\r\n"),
            Step::Nothing,
            Step::Move(b""),
            Step::Move(b"\r\n"),
        ];
        let expected = expected.map(|step| format!("{step:?}"));
        for piece in 1..=STREAM.len() {
            assert_eq!(steps(piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn an_error_keeps_its_words() {
        let (step, rest) = take(b"-ERR 'Slow Consumer'\r\n").unwrap().unwrap();
        assert_eq!(step, Step::Refused(b"-ERR 'Slow Consumer'"));
        assert!(rest.is_empty());
    }

    #[test]
    fn what_cannot_become_a_message_is_refused() {
        assert!(take(b"MSG load-0 1 1048577\r\n").is_err());
        assert!(take(b"MSG load-0 1 99999999999999999999999\r\n").is_err());
        assert!(take(b"MSG load-0 1 -1\r\n").is_err());
        assert!(take(b"MSG \r\n").is_err());
        assert!(take(b"MSG load-0 1 2\r\nabcd").is_err());
        assert!(take(&[b'x'; LINE_BYTES_MAX - 1]).unwrap().is_none());
        assert!(take(&[b'x'; LINE_BYTES_MAX]).is_err());
    }
}
