//! What the clients speak: how they join, how a move is written, and how moves are found in frames.

use std::fmt::{self, Arguments, Display, Formatter};
use std::io::Write;

use serde_json::{Value, json};

use super::frame::{self, BINARY, Frame, TEXT};
use super::{nats, socketio};

/// A v1 move carries its time as a number of such steps, in microseconds, as many as a 32-bit float
/// counts exactly.
const STEP_US: u64 = 64;
const STEPS: u64 = 1 << 24;

/// What is spoken with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// The tutorial's JSON on /ws: any server that sends a text to everyone will do
    Tutorial,
    /// Protocol v1 with binary cursors, on /v1
    V1,
    /// Socket.IO 5 over a WebSocket alone: a server that sends each "move" to everyone will do
    Socketio,
    /// NATS over a WebSocket: a room is a subject; the server neither reads moves nor stamps them
    Nats,
}

/// What a client knows of its own membership.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Membership {
    room_number: u32,
    alias: u16,
}

impl Protocol {
    /// The request's target for a room.
    pub(super) fn target(self, room: &str) -> String {
        match self {
            Self::Tutorial => format!("/ws?room={room}"),
            Self::V1 => "/v1".to_owned(),
            Self::Socketio => socketio::target(room),
            Self::Nats => "/".to_owned(),
        }
    }

    pub(super) fn subprotocol(self) -> Option<&'static str> {
        (self == Self::V1).then_some("cursormesh.v1")
    }

    /// Whether who moves gets its own moves back.
    pub(super) fn echoes(self) -> bool {
        self != Self::V1
    }

    /// The frames to begin with, if the client is the one to speak first; `more` are rooms that a v1
    /// client joins besides.
    pub(super) fn hello(self, room: &str, more: impl Iterator<Item = String>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match self {
            Self::Tutorial | Self::Socketio => return None,
            Self::V1 => {
                let hello = json!({ "type": "hello", "client": "cursormesh-load" });
                frame::put(&mut out, TEXT, hello.to_string().as_bytes());
                for room in std::iter::once(room.to_owned()).chain(more) {
                    let join = json!({ "type": "join", "room": room });
                    frame::put(&mut out, TEXT, join.to_string().as_bytes());
                }
            }
            Self::Nats => frame::put(&mut out, BINARY, nats::hello(room).as_bytes()),
        }
        Some(out)
    }

    /// Looks at a v1 server's frame while joining; true once the client is there.
    pub(super) fn joins(self, frame: Frame<'_>, membership: &mut Membership) -> bool {
        if frame.opcode == BINARY {
            return frame.payload.first() == Some(&2);
        }
        // Lists of members are long, and nothing in them is wanted.
        if frame.payload.starts_with(br#"{"type":"joined""#) {
            let message: Value = serde_json::from_slice(frame.payload).unwrap_or_default();
            let number = |value: &Value| value.as_u64().unwrap_or(0);
            membership.room_number = u32::try_from(number(&message["number"])).unwrap_or(0);
            membership.alias = u16::try_from(number(&message["self"]["alias"])).unwrap_or(0);
        }
        false
    }

    /// A move of the tutorial's, made at `now_us`, as text.
    pub(super) fn json_move(now_us: u64) -> impl Display {
        Json(now_us)
    }

    /// Writes a move made at `now_us` in a room as a frame.
    pub(super) fn put_move(
        self,
        out: &mut Vec<u8>,
        membership: Membership,
        room: &str,
        now_us: u64,
    ) {
        let json = Json(now_us);
        match self {
            Self::Tutorial => put_text(out, TEXT, format_args!("{json}")),
            Self::Socketio => {
                let [before, after] = socketio::MOVE;
                put_text(out, TEXT, format_args!("{before}{json}{after}"));
            }
            Self::Nats => {
                let len = json.len();
                put_text(out, BINARY, format_args!("PUB {room} {len}\r\n{json}\r\n"));
            }
            Self::V1 => {
                let mut bytes = [0; 18];
                bytes[0] = 1;
                bytes[2] = 1;
                bytes[4..8].copy_from_slice(&membership.room_number.to_le_bytes());
                bytes[8..10].copy_from_slice(&((now_us / 1000) as u16).to_le_bytes());
                let steps = (now_us / STEP_US % STEPS) as f32;
                bytes[10..14].copy_from_slice(&steps.to_le_bytes());
                bytes[14..].copy_from_slice(&384.5f32.to_le_bytes());
                frame::put(out, BINARY, &bytes);
            }
        }
    }

    /// How many moves a frame holds: of others, or of all if the server [echoes](Self::echoes).
    pub(super) fn moves(self, frame: Frame<'_>, membership: Membership) -> u64 {
        match (self, frame.opcode) {
            (Self::Tutorial | Self::Socketio | Self::Nats, TEXT | BINARY) => 1,
            (Self::V1, BINARY) => records(frame.payload)
                .filter(|record| record[..2] != membership.alias.to_le_bytes())
                .count() as u64,
            _ => 0,
        }
    }

    /// The age in microseconds of a move in the frame.
    pub(super) fn age_us(self, frame: Frame<'_>, now_us: u64) -> Option<u64> {
        match (self, frame.opcode) {
            (Self::Tutorial | Self::Socketio | Self::Nats, TEXT | BINARY) => {
                let at = frame
                    .payload
                    .windows(4)
                    .rposition(|four| four == b"\"t\":")?;
                let digits = frame.payload[at + 4..]
                    .iter()
                    .take_while(|c| c.is_ascii_digit());
                let made = digits.fold(0, |sum: u64, c| {
                    sum.wrapping_mul(10).wrapping_add(u64::from(c - b'0'))
                });
                now_us.checked_sub(made)
            }
            (Self::V1, BINARY) => {
                let record = records(frame.payload).last()?;
                let steps = f32::from_le_bytes(record[4..8].try_into().ok()?) as u64;
                Some((STEPS + now_us / STEP_US % STEPS - steps % STEPS) % STEPS * STEP_US)
            }
            _ => None,
        }
    }
}

/// A move as text, with the time at which it was made in microseconds.
#[derive(Debug, Clone, Copy)]
struct Json(u64);

impl Json {
    fn len(self) -> usize {
        let digits = self.0.checked_ilog10().unwrap_or(0) as usize + 1;
        r#"{"x":512.25,"y":384.5,"t":}"#.len() + digits
    }
}

impl Display for Json {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, r#"{{"x":512.25,"y":384.5,"t":{}}}"#, self.0)
    }
}

/// Appends a frame with a text of a move's length.
fn put_text(out: &mut Vec<u8>, opcode: u8, text: Arguments<'_>) {
    let mut bytes = [0; 128];
    let mut rest = &mut bytes[..];
    // The longest, one for NATS in room four billion, has less than 100 bytes.
    let _ = rest.write_fmt(text);
    let len = 128 - rest.len();
    frame::put(out, opcode, &bytes[..len]);
}

fn records(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_cursors = payload.first() == Some(&2);
    let body = payload.get(8..).filter(|_| is_cursors).unwrap_or_default();
    body.chunks_exact(12)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::step::Step;
    use super::*;

    const NOW: u64 = 1_234_567_890;

    #[test]
    fn a_tutorial_move_is_found_again_with_its_age() {
        let mut out = Vec::new();
        Protocol::Tutorial.put_move(&mut out, Membership::default(), "load-0", NOW);
        let stamped = [&out[6..out.len() - 1], b",\"sender\":\"x\",\"color\":3}"].concat();
        let frame = Frame {
            opcode: TEXT,
            payload: &stamped,
        };
        serde_json::from_slice::<Value>(&stamped).unwrap();
        assert_eq!(Protocol::Tutorial.moves(frame, Membership::default()), 1);
        assert_eq!(Protocol::Tutorial.age_us(frame, NOW + 5_000), Some(5_000));
    }

    #[test]
    fn a_socketio_move_is_found_again_with_its_age() {
        let mut out = Vec::new();
        Protocol::Socketio.put_move(&mut out, Membership::default(), "load-0", NOW);
        let packet = &out[6..];
        assert_eq!(socketio::step(packet), Step::Move(packet));
        let event: Value = serde_json::from_slice(&packet[2..]).unwrap();
        assert_eq!((&event[0], &event[1]["t"]), (&json!("move"), &json!(NOW)));
        let frame = Frame {
            opcode: TEXT,
            payload: packet,
        };
        assert_eq!(Protocol::Socketio.moves(frame, Membership::default()), 1);
        assert_eq!(Protocol::Socketio.age_us(frame, NOW + 5_000), Some(5_000));
    }

    #[test]
    fn a_nats_move_is_found_again_with_its_age() {
        for now in [0, 9, 10, NOW, u64::MAX / 2] {
            let mut out = Vec::new();
            Protocol::Nats.put_move(&mut out, Membership::default(), "load-4294967295", now);
            // The server says it again under another name, to a subscription.
            let published = out[6..].strip_prefix(b"PUB load-4294967295 ").unwrap();
            let message = [b"MSG load-4294967295 1 ", published].concat();
            let (step, rest) = nats::take(&message).unwrap().unwrap();
            assert!(rest.is_empty());
            let Step::Move(payload) = step else {
                panic!("{step:?}");
            };
            serde_json::from_slice::<Value>(payload).unwrap();
            let frame = Frame {
                opcode: BINARY,
                payload,
            };
            assert_eq!(Protocol::Nats.age_us(frame, now + 5_000), Some(5_000));
        }
    }

    #[test]
    fn a_v1_move_of_another_counts_and_has_an_age() {
        let mut out = Vec::new();
        let membership = Membership {
            room_number: 7,
            alias: 1,
        };
        Protocol::V1.put_move(&mut out, membership, "load-0", NOW);
        let sent = &out[6..];
        assert_eq!(sent[4..8], 7u32.to_le_bytes());
        let mut payload = vec![2, 0, 2, 0, 7, 0, 0, 0, 1, 0];
        payload.extend_from_slice(&sent[8..]);
        payload.extend_from_slice(&[2, 0]);
        payload.extend_from_slice(&sent[8..]);
        let frame = Frame {
            opcode: BINARY,
            payload: &payload,
        };
        assert_eq!(Protocol::V1.moves(frame, membership), 1);
        let age = Protocol::V1.age_us(frame, NOW + 5_000).unwrap();
        assert!(age.abs_diff(5_000) <= STEP_US, "{age}");
    }

    #[test]
    fn a_v1_client_is_there_with_its_first_cursors() {
        let mut membership = Membership::default();
        let joined = br#"{"type":"joined","number":9,"self":{"alias":513}}"#;
        let frame = Frame {
            opcode: TEXT,
            payload: joined,
        };
        assert!(!Protocol::V1.joins(frame, &mut membership));
        assert_eq!((membership.room_number, membership.alias), (9, 513));
        let cursors = [2, 1, 0, 0, 9, 0, 0, 0];
        let frame = Frame {
            opcode: BINARY,
            payload: &cursors,
        };
        assert!(Protocol::V1.joins(frame, &mut membership));
    }
}
