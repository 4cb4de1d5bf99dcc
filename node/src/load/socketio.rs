//! Socket.IO 5 over Engine.IO 4 over a WebSocket: a packet is a message.
//!
//! Engine.IO's type is the first digit (0 open, 1 close, 2 ping, 3 pong, 4 message), Socket.IO's the
//! one after a 4 (0 connect, 1 disconnect, 2 event, 4 connect error).

use super::step::Step;

/// What a move is wrapped in.
pub(super) const MOVE: [&str; 2] = ["42[\"move\",", "]"];

pub(super) fn target(room: &str) -> String {
    format!("/socket.io/?EIO=4&transport=websocket&room={room}")
}

/// What a packet asks for.
pub(super) fn step(packet: &[u8]) -> Step<'_> {
    match packet {
        [b'4', b'2', b'[', ..] => Step::Move(packet),
        [b'4', b'0', ..] => Step::Joined,
        [b'0', ..] => Step::Answer(b"40"),
        [b'2', ..] => Step::Answer(b"3"),
        [b'1', ..] | [b'4', b'1' | b'4', ..] => Step::Refused(packet),
        _ => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_opens_joins_and_answers_pings() {
        let open = br#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
        assert_eq!(step(open), Step::Answer(b"40"));
        assert_eq!(step(br#"40{"sid":"y"}"#), Step::Joined);
        assert_eq!(step(b"2"), Step::Answer(b"3"));
    }

    #[test]
    fn events_are_moves_and_nothing_else_is() {
        let event = br#"42["move",{"x":1}]"#;
        assert_eq!(step(event), Step::Move(event));
        for other in [&b""[..], b"4", b"42", b"3", b"6", b"430[]", b"\xff\xff"] {
            assert_eq!(step(other), Step::Nothing);
        }
    }

    #[test]
    fn a_refusal_keeps_its_words() {
        for refusal in [&b"1"[..], b"41", br#"44{"message":"no"}"#] {
            assert_eq!(step(refusal), Step::Refused(refusal));
        }
    }
}
