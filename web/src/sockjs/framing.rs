//! SockJS over a WebSocket: messages in frames of SockJS inside frames of WebSocket.

use std::cell::RefCell;
use std::io::IoSlice;

use tokio::time::Instant;

use super::frame;
use crate::session::{End, Session};
use crate::websocket::close::Close;
use crate::websocket::frame::{self as wire, Opcode};

/// Frames that are translated at a time, in bytes; at least one slice.
const BYTES_MAX: usize = 64 * 1024;

thread_local! {
    /// What was translated last, and what it became.
    static LAST: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// From frames as they would go to a plain WebSocket to frames for a SockJS client, appended to
/// `output`. All of a slice is taken or nothing; gives the bytes taken.
///
/// A flush of a room is the same for all who keep up with it, and comparing is cheaper than translating.
pub(crate) fn translate(bytes: &[IoSlice<'_>], output: &mut Vec<u8>) -> usize {
    let [only] = bytes else {
        return translate_anew(bytes, output);
    };
    if only.len() > BYTES_MAX {
        return translate_anew(bytes, output);
    }
    LAST.with_borrow_mut(|(said, translated)| {
        if said.as_slice() != &**only {
            said.clear();
            said.extend_from_slice(only);
            translated.clear();
            translate_anew(bytes, translated);
        }
        output.extend_from_slice(translated);
    });
    only.len()
}

fn translate_anew(bytes: &[IoSlice<'_>], output: &mut Vec<u8>) -> usize {
    let mut taken = 0;
    let mut texts: Vec<&str> = Vec::new();
    for slice in bytes {
        if taken > BYTES_MAX {
            break;
        }
        for (opcode, payload) in wire::frames(slice) {
            if opcode == Opcode::Text as u8 {
                // What the node writes as text is UTF-8.
                texts.extend(std::str::from_utf8(payload));
                continue;
            }
            say(&mut texts, output);
            if opcode == Opcode::Close as u8 {
                let (code, reason) = wire::close_parts(payload);
                wire::encode(Opcode::Text, frame::close(code, reason).as_bytes(), output);
                wire::encode(Opcode::Close, payload, output);
            } else if opcode == Opcode::Ping as u8 {
                // For the client's library, which hears nothing of the other.
                wire::encode(Opcode::Text, frame::HEARTBEAT.as_bytes(), output);
                wire::encode(Opcode::Ping, payload, output);
            } else if opcode == Opcode::Pong as u8 {
                wire::encode(Opcode::Pong, payload, output);
            }
        }
        taken += slice.len();
    }
    say(&mut texts, output);
    taken
}

/// The first frame of a connection.
pub(crate) fn opening() -> Vec<u8> {
    wire::text(frame::OPEN)
}

fn say(texts: &mut Vec<&str>, output: &mut Vec<u8>) {
    if !texts.is_empty() {
        let frame = frame::messages(texts.drain(..));
        wire::encode(Opcode::Text, frame.as_bytes(), output);
    }
}

/// A session whose client puts its messages into SockJS frames.
pub(crate) struct Framed {
    inner: Box<dyn Session>,
    message_bytes_max: usize,
}

impl Framed {
    /// A session of messages of this size at most, whatever their frame takes.
    pub(crate) fn new(inner: Box<dyn Session>, message_bytes_max: usize) -> Self {
        Self {
            inner,
            message_bytes_max,
        }
    }
}

impl Session for Framed {
    fn text(&mut self, text: &[u8]) -> Result<usize, Close> {
        if text.is_empty() {
            return Ok(0);
        }
        let text = std::str::from_utf8(text).map_err(|_| Close::NOT_UTF8)?;
        let messages = frame::payload(text, true).map_err(|_| Close::BROKEN_FRAMING)?;
        let mut bytes = 0;
        for message in messages {
            if message.len() > self.message_bytes_max {
                return Err(Close::TOO_BIG);
            }
            bytes += self.inner.text(message.as_bytes())?;
        }
        Ok(bytes)
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<usize, Close> {
        self.text(bytes)
    }

    fn read_ends(&mut self) {
        self.inner.read_ends();
    }

    fn catch_up(&mut self, since: Option<u64>) {
        self.inner.catch_up(since);
    }

    fn taken(&mut self) {
        self.inner.taken();
    }

    fn is_paused(&self) -> bool {
        self.inner.is_paused()
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    fn on_time(&mut self, now: Instant) -> Result<(), Close> {
        self.inner.on_time(now)
    }

    fn end(self: Box<Self>, end: End) {
        self.inner.end(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &[u8]) -> Vec<(u8, String)> {
        wire::frames(output)
            .map(|(opcode, payload)| (opcode, String::from_utf8_lossy(payload).into_owned()))
            .collect()
    }

    #[test]
    fn what_is_written_together_is_one_frame() {
        let (one, two) = (wire::text("a"), wire::text("\"b\""));
        let mut output = Vec::new();
        let slices = [IoSlice::new(&one), IoSlice::new(&two)];
        assert_eq!(translate(&slices, &mut output), one.len() + two.len());
        assert_eq!(read(&output), [(1, r#"a["a","\"b\""]"#.to_owned())]);
    }

    #[test]
    fn a_close_is_said_in_both_languages() {
        let mut run = wire::text("x");
        run.extend(wire::close(Close::SHUTDOWN));
        let mut output = Vec::new();
        translate(&[IoSlice::new(&run)], &mut output);
        let read = read(&output);
        assert_eq!(read[0], (1, r#"a["x"]"#.to_owned()));
        assert_eq!(
            read[1],
            (1, r#"c[1012,"node is shutting down"]"#.to_owned())
        );
        assert_eq!(read[2].0, Opcode::Close as u8);
    }

    #[test]
    fn a_ping_is_a_heartbeat_too() {
        let mut run = Vec::new();
        wire::encode(Opcode::Ping, b"", &mut run);
        let mut output = Vec::new();
        translate(&[IoSlice::new(&run)], &mut output);
        assert_eq!(read(&output), [(1, "h".to_owned()), (9, String::new())]);
    }

    #[test]
    fn what_is_said_to_many_is_translated_alike() {
        for text in ["a", "a", "b", "a"] {
            let frame = wire::text(text);
            let mut output = Vec::new();
            assert_eq!(translate(&[IoSlice::new(&frame)], &mut output), frame.len());
            assert_eq!(read(&output), [(1, format!("a[\"{text}\"]"))]);
        }
    }

    #[test]
    fn much_is_translated_in_parts() {
        let long = wire::text(&"x".repeat(BYTES_MAX));
        let mut output = Vec::new();
        let slices = [IoSlice::new(&long), IoSlice::new(&long)];
        assert_eq!(translate(&slices, &mut output), long.len());
    }
}
