//! What the clients speak: how they join, how a move is written, and how moves are found in frames.

use std::io::Write;

use serde_json::{Value, json};

use super::frame::{self, Frame};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
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
        }
    }

    pub(super) fn subprotocol(self) -> Option<&'static str> {
        (self == Self::V1).then_some("cursormesh.v1")
    }

    /// The frames to begin with; `None` if the client is there as soon as it is connected.
    pub(super) fn hello(self, room: &str) -> Option<Vec<u8>> {
        if self == Self::Tutorial {
            return None;
        }
        let mut out = Vec::new();
        let hello = json!({ "type": "hello", "client": "cursormesh-load" });
        frame::put(&mut out, TEXT, hello.to_string().as_bytes());
        let join = json!({ "type": "join", "room": room });
        frame::put(&mut out, TEXT, join.to_string().as_bytes());
        Some(out)
    }

    /// Looks at a frame of the server while joining; true once the client is there.
    pub(super) fn joins(self, frame: Frame<'_>, membership: &mut Membership) -> bool {
        if frame.opcode == BINARY {
            return frame.payload.first() == Some(&2);
        }
        let message: Value = serde_json::from_slice(frame.payload).unwrap_or_default();
        if message["type"] == "joined" {
            let number = |value: &Value| value.as_u64().unwrap_or(0);
            membership.room_number = u32::try_from(number(&message["number"])).unwrap_or(0);
            membership.alias = u16::try_from(number(&message["self"]["alias"])).unwrap_or(0);
        }
        false
    }

    /// Writes a move made at `now_us` as a frame.
    pub(super) fn put_move(self, out: &mut Vec<u8>, membership: Membership, now_us: u64) {
        match self {
            Self::Tutorial => {
                let mut text = [0; 64];
                let mut rest = &mut text[..];
                // 64 bytes hold the longest.
                let _ = write!(rest, "{{\"x\":512.25,\"y\":384.5,\"t\":{now_us}}}");
                let left = rest.len();
                frame::put(out, TEXT, &text[..64 - left]);
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

    /// How many moves of others (the tutorial's server sends a client its own too) a frame holds.
    pub(super) fn moves(self, frame: Frame<'_>, membership: Membership) -> u64 {
        match (self, frame.opcode) {
            (Self::Tutorial, TEXT | BINARY) => 1,
            (Self::V1, BINARY) => records(frame.payload)
                .filter(|record| record[..2] != membership.alias.to_le_bytes())
                .count() as u64,
            _ => 0,
        }
    }

    /// The age in microseconds of a move in the frame.
    pub(super) fn age_us(self, frame: Frame<'_>, now_us: u64) -> Option<u64> {
        match (self, frame.opcode) {
            (Self::Tutorial, TEXT | BINARY) => {
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

fn records(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_cursors = payload.first() == Some(&2);
    let body = payload.get(8..).filter(|_| is_cursors).unwrap_or_default();
    body.chunks_exact(12)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: u64 = 1_234_567_890;

    #[test]
    fn a_tutorial_move_is_found_again_with_its_age() {
        let mut out = Vec::new();
        Protocol::Tutorial.put_move(&mut out, Membership::default(), NOW);
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
    fn a_v1_move_of_another_counts_and_has_an_age() {
        let mut out = Vec::new();
        let membership = Membership {
            room_number: 7,
            alias: 1,
        };
        Protocol::V1.put_move(&mut out, membership, NOW);
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
