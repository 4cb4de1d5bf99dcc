//! Frames from client to server, read strictly (RFC 6455 §5) and without input or output of its own.
//!
//! Every rule is checked as soon as the bytes that can break it are there: a length above the limit
//! before anything is stored, text that is not UTF-8 before its frame is complete. Memory grows with
//! the bytes that arrived, never with a length that was announced.

use super::close::{self, Close};

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// A text message, whole; valid UTF-8.
    Text(&'a [u8]),
    /// A binary message, whole.
    Binary(&'a [u8]),
    /// A ping; the answer carries the same payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The client closes; the answer carries the same code, if any. Nothing counts after it.
    Close(Option<u16>),
}

/// Control frames carry no more than this.
const CONTROL_BYTES_MAX: usize = 125;

/// What is kept of the message buffer between messages.
const BUFFER_KEPT_BYTES_MAX: usize = 1024;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The state of one connection's incoming half.
pub(crate) struct Decoder {
    message_bytes_max: usize,
    stage: Stage,
    /// The data message that is being assembled; control frames may come between its fragments.
    message: Vec<u8>,
    /// Its opcode, while more fragments are to come or its last frame is being read.
    message_kind: Option<u8>,
    /// How much of a text message is known to be UTF-8.
    checked: usize,
    control: Vec<u8>,
}

enum Stage {
    Header {
        bytes: [u8; 14],
        have: u8,
    },
    Payload(Frame),
    /// A message or control payload was given out; its buffer is cleared before anything else.
    Given {
        control: bool,
    },
}

#[derive(Clone, Copy)]
struct Frame {
    opcode: u8,
    last: bool,
    mask: [u8; 4],
    length: usize,
    have: usize,
}

impl Decoder {
    /// A decoder that takes messages of at most `message_bytes_max` bytes.
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            stage: Stage::EMPTY,
            message: Vec::new(),
            message_kind: None,
            checked: 0,
            control: Vec::new(),
        }
    }

    /// Takes bytes off the front of `input` until something is complete. `None` when all of it is
    /// taken; an error when the client broke a rule, after which the decoder is not to be used.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Incoming<'_>>, Close> {
        loop {
            match &mut self.stage {
                Stage::Given { control } => {
                    if *control {
                        self.control.clear();
                    } else {
                        self.forget_message();
                    }
                    self.stage = Stage::EMPTY;
                }
                Stage::Header { bytes, have } => {
                    let wanted = header_length(&bytes[..usize::from(*have)]);
                    if usize::from(*have) < wanted {
                        let Some((first, rest)) = input.split_first() else {
                            return Ok(None);
                        };
                        bytes[usize::from(*have)] = *first;
                        *have += 1;
                        *input = rest;
                        if *have == 2 {
                            let (first, second) = (bytes[0], bytes[1]);
                            self.check_start(first, second)?;
                        }
                        continue;
                    }
                    let bytes = *bytes;
                    let frame = self.open(&bytes)?;
                    self.stage = Stage::Payload(frame);
                }
                Stage::Payload(frame) => {
                    let take = input.len().min(frame.length - frame.have);
                    let (chunk, rest) = input.split_at(take);
                    *input = rest;
                    let control = is_control(frame.opcode);
                    let buffer = if control {
                        &mut self.control
                    } else {
                        &mut self.message
                    };
                    let rest = frame.length - frame.have;
                    reserve(buffer, take, rest);
                    unmask(chunk, frame.mask, frame.have, buffer);
                    frame.have += take;
                    let frame = *frame;
                    let complete = frame.have == frame.length;
                    if !control {
                        self.check_text(complete && frame.last)?;
                    }
                    if !complete {
                        return Ok(None);
                    }
                    if control || frame.last {
                        self.stage = Stage::Given { control };
                        return self.give(frame.opcode).map(Some);
                    }
                    self.stage = Stage::EMPTY;
                }
            }
        }
    }

    /// Bytes of memory that a message takes which is not complete. A short one takes none that is
    /// not there anyway.
    pub(crate) fn held_bytes(&self) -> usize {
        match self.message.capacity() {
            0..=BUFFER_KEPT_BYTES_MAX => 0,
            bytes => bytes,
        }
    }

    /// Bytes to the end of the frame, or of its header, in the middle of a message that takes memory.
    pub(crate) fn wanted_bytes(&self) -> usize {
        match &self.stage {
            _ if self.held_bytes() == 0 => 0,
            Stage::Header { bytes, have } => {
                let have = usize::from(*have);
                header_length(&bytes[..have]).saturating_sub(have)
            }
            Stage::Payload(frame) => frame.length - frame.have,
            Stage::Given { .. } => 0,
        }
    }

    /// The rules that the first two bytes of a frame can break.
    fn check_start(&self, first: u8, second: u8) -> Result<(), Close> {
        let last = first & 0x80 != 0;
        let opcode = first & 0x0f;
        if first & 0x70 != 0 {
            return Err(Close::protocol("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(Close::protocol("frame is not masked"));
        }
        match opcode {
            CONTINUATION if self.message_kind.is_none() => {
                Err(Close::protocol("nothing to continue"))
            }
            TEXT | BINARY if self.message_kind.is_some() => {
                Err(Close::protocol("message is not finished"))
            }
            CONTINUATION | TEXT | BINARY => Ok(()),
            CLOSE | PING | PONG if !last => Err(Close::protocol("control frame is fragmented")),
            CLOSE | PING | PONG if usize::from(second & 0x7f) > CONTROL_BYTES_MAX => {
                Err(Close::protocol("control frame is too long"))
            }
            CLOSE | PING | PONG => Ok(()),
            _ => Err(Close::protocol("unknown opcode")),
        }
    }

    /// Starts a frame whose header is complete.
    fn open(&mut self, header: &[u8; 14]) -> Result<Frame, Close> {
        let opcode = header[0] & 0x0f;
        let (length, mask) = match header[1] & 0x7f {
            126 => {
                let length = u64::from(u16::from_be_bytes([header[2], header[3]]));
                if length <= 125 {
                    return Err(Close::protocol("length is not encoded minimally"));
                }
                (length, [header[4], header[5], header[6], header[7]])
            }
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&header[2..10]);
                let length = u64::from_be_bytes(bytes);
                if length <= 0xffff || length > i64::MAX as u64 {
                    return Err(Close::protocol("length is not encoded minimally"));
                }
                (length, [header[10], header[11], header[12], header[13]])
            }
            short => (
                u64::from(short),
                [header[2], header[3], header[4], header[5]],
            ),
        };
        let length = usize::try_from(length).map_err(|_| Close::TOO_BIG)?;
        if !is_control(opcode) {
            if length > self.message_bytes_max - self.message.len() {
                return Err(Close::TOO_BIG);
            }
            if opcode != CONTINUATION {
                self.message_kind = Some(opcode);
            }
        }
        Ok(Frame {
            opcode,
            last: header[0] & 0x80 != 0,
            mask,
            length,
            have: 0,
        })
    }

    /// Checks what came of a text message; at its end nothing may be left open.
    fn check_text(&mut self, end: bool) -> Result<(), Close> {
        if self.message_kind != Some(TEXT) {
            return Ok(());
        }
        match std::str::from_utf8(&self.message[self.checked..]) {
            Ok(_) => {
                self.checked = self.message.len();
                Ok(())
            }
            Err(error) if error.error_len().is_none() && !end => {
                self.checked += error.valid_up_to();
                Ok(())
            }
            Err(_) => Err(Close::NOT_UTF8),
        }
    }

    fn give(&mut self, opcode: u8) -> Result<Incoming<'_>, Close> {
        match opcode {
            PING => Ok(Incoming::Ping(&self.control)),
            PONG => Ok(Incoming::Pong),
            CLOSE => match self.control.as_slice() {
                [] => Ok(Incoming::Close(None)),
                [_] => Err(Close::protocol("close frame is too short")),
                [high, low, reason @ ..] => {
                    let code = u16::from_be_bytes([*high, *low]);
                    if !close::may_be_sent(code) {
                        Err(Close::protocol("close code is not allowed"))
                    } else if std::str::from_utf8(reason).is_err() {
                        Err(Close::NOT_UTF8)
                    } else {
                        Ok(Incoming::Close(Some(code)))
                    }
                }
            },
            _ if self.message_kind == Some(TEXT) => Ok(Incoming::Text(&self.message)),
            _ => Ok(Incoming::Binary(&self.message)),
        }
    }

    fn forget_message(&mut self) {
        self.message_kind = None;
        self.checked = 0;
        if self.message.capacity() > BUFFER_KEPT_BYTES_MAX {
            self.message = Vec::new();
        } else {
            self.message.clear();
        }
    }
}

impl Stage {
    const EMPTY: Self = Self::Header {
        bytes: [0; 14],
        have: 0,
    };
}

fn is_control(opcode: u8) -> bool {
    opcode & 0x08 != 0
}

/// How long a header is, as far as its first bytes tell.
fn header_length(bytes: &[u8]) -> usize {
    match bytes {
        [_, second, ..] => match second & 0x7f {
            126 => 8,
            127 => 14,
            _ => 6,
        },
        _ => 2,
    }
}

/// Makes room for `more` bytes: doubles the buffer, but not beyond `rest`, what its frame still brings.
fn reserve(buffer: &mut Vec<u8>, more: usize, rest: usize) {
    if buffer.capacity() - buffer.len() < more {
        buffer.reserve_exact(rest.min(buffer.capacity().max(more)));
    }
}

/// Appends `chunk` to `buffer` with the mask taken off; `offset` is the chunk's place in the payload.
fn unmask(chunk: &[u8], mut mask: [u8; 4], offset: usize, buffer: &mut Vec<u8>) {
    mask.rotate_left(offset % 4);
    let start = buffer.len();
    buffer.extend_from_slice(chunk);
    for part in buffer[start..].chunks_mut(4) {
        for (byte, key) in part.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Cursor, Read, Write};

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::Error;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

    use super::*;

    const LIMIT: usize = 300;

    /// What came out, without borrowing.
    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Seen {
        Text(Vec<u8>),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Pong,
        Close(Option<u16>),
        Refused(u16),
    }

    fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
        let mut decoder = Decoder::new(LIMIT);
        let mut seen = Vec::new();
        for mut chunk in chunks {
            loop {
                seen.push(match decoder.next(&mut chunk) {
                    Ok(None) => break,
                    Ok(Some(Incoming::Text(text))) => Seen::Text(text.to_vec()),
                    Ok(Some(Incoming::Binary(bytes))) => Seen::Binary(bytes.to_vec()),
                    Ok(Some(Incoming::Ping(payload))) => Seen::Ping(payload.to_vec()),
                    Ok(Some(Incoming::Pong)) => Seen::Pong,
                    Ok(Some(Incoming::Close(code))) => {
                        seen.push(Seen::Close(code));
                        return seen;
                    }
                    Err(close) => {
                        seen.push(Seen::Refused(close.code));
                        return seen;
                    }
                });
            }
        }
        seen
    }

    fn header(first: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        if length <= 125 {
            bytes.push(mask | length as u8);
        } else if length <= 0xffff {
            bytes.push(mask | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        } else {
            bytes.push(mask | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
        if masked {
            bytes.extend_from_slice(&[0x12, 0x34, 0x56, 0x78]);
        }
        bytes
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = header(first, true, payload.len());
        bytes.extend(
            payload
                .iter()
                .zip([0x12, 0x34, 0x56, 0x78].iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        bytes
    }

    fn frames(frames: &[(u8, &[u8])]) -> Vec<Seen> {
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(first, payload)| frame(*first, payload))
            .collect();
        decode([&bytes[..]])
    }

    #[test]
    fn a_decoder_that_gets_what_it_wants_stops_at_the_end_of_the_message() {
        let mut decoder = Decoder::new(100_000);
        let mut bytes = frame(0x01, &[b'x'; 3_000]);
        bytes.extend(frame(0x80, &[b'x'; 2_000]));
        bytes.extend(frame(0x81, b"next"));
        let mut at = 2_000;
        assert_eq!(decoder.next(&mut &bytes[..at]), Ok(None));
        let mut messages = 0;
        while decoder.wanted_bytes() > 0 {
            let mut input = &bytes[at..at + decoder.wanted_bytes()];
            at += input.len();
            while decoder.next(&mut input).unwrap().is_some() {
                messages += 1;
            }
        }
        assert_eq!((messages, decoder.held_bytes()), (1, 0));
        assert_eq!(bytes.len() - at, frame(0x81, b"next").len());
    }

    #[test]
    fn whole_messages_come_through() {
        assert_eq!(
            frames(&[(0x81, b"hi"), (0x82, &[0xff])]),
            [Seen::Text(b"hi".to_vec()), Seen::Binary(vec![0xff])]
        );
        assert_eq!(frames(&[(0x81, b"")]), [Seen::Text(Vec::new())]);
        assert_eq!(
            frames(&[(0x81, &[b'x'; LIMIT])]),
            [Seen::Text(vec![b'x'; LIMIT])]
        );
    }

    #[test]
    fn fragments_are_joined_and_control_frames_may_come_between() {
        assert_eq!(
            frames(&[
                (0x01, b"a"),
                (0x89, b"?"),
                (0x00, b""),
                (0x8a, b""),
                (0x80, b"b"),
                (0x81, b"c")
            ]),
            [
                Seen::Ping(b"?".to_vec()),
                Seen::Pong,
                Seen::Text(b"ab".to_vec()),
                Seen::Text(b"c".to_vec())
            ]
        );
    }

    #[test]
    fn a_character_may_be_split_between_fragments() {
        assert_eq!(
            frames(&[(0x01, &[0xf0, 0x9f]), (0x80, &[0x8e, 0x88])]),
            [Seen::Text("🎈".into())]
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_as_soon_as_it_shows() {
        assert_eq!(frames(&[(0x81, &[0xff])]), [Seen::Refused(1007)]);
        assert_eq!(
            frames(&[(0x81, &[0xc3])]),
            [Seen::Refused(1007)],
            "cut off at the end"
        );
        assert_eq!(
            frames(&[(0x01, &[b'a', 0xed, 0xa0])]),
            [Seen::Refused(1007)],
            "before the message ends"
        );
        let bytes = frame(0x81, &[b'a', 0xff, b'b', b'c']);
        assert_eq!(
            decode([&bytes[..8]]),
            [Seen::Refused(1007)],
            "before the frame ends"
        );
    }

    #[test]
    fn what_the_framing_forbids_is_refused_at_its_first_bytes() {
        for (first, second, why) in [
            (0x81, 0x00, "not masked"),
            (0xc1, 0x80, "rsv1"),
            (0xa1, 0x80, "rsv2"),
            (0x91, 0x80, "rsv3"),
            (0x83, 0x80, "reserved data opcode"),
            (0x8b, 0x80, "reserved control opcode"),
            (0x09, 0x80, "fragmented ping"),
            (0x08, 0x80, "fragmented close"),
            (0x89, 0xfe, "ping of 126 bytes"),
            (0x80, 0x80, "nothing to continue"),
        ] {
            assert_eq!(
                decode([&[first, second][..]]),
                [Seen::Refused(1002)],
                "{why}"
            );
        }
        assert_eq!(
            frames(&[(0x01, b"a"), (0x81, b"b")]),
            [Seen::Refused(1002)],
            "not finished"
        );
    }

    #[test]
    fn a_length_is_encoded_minimally() {
        assert_eq!(
            decode([&[0x81, 0xfe, 0, 125, 0, 0, 0, 0][..]]),
            [Seen::Refused(1002)]
        );
        assert_eq!(
            decode([&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0][..]]),
            [Seen::Refused(1002)]
        );
        assert_eq!(
            decode([&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]]),
            [Seen::Refused(1002)]
        );
    }

    #[test]
    fn a_message_above_the_limit_is_refused_by_its_header() {
        assert_eq!(
            decode([&header(0x81, true, LIMIT + 1)[..]]),
            [Seen::Refused(1009)]
        );
        assert_eq!(
            decode([&header(0x81, true, 1 << 40)[..]]),
            [Seen::Refused(1009)]
        );
        let mut bytes = frame(0x01, &[b'x'; LIMIT - 1]);
        bytes.extend(header(0x80, true, 2));
        assert_eq!(decode([&bytes[..]]), [Seen::Refused(1009)], "in fragments");
    }

    #[test]
    fn memory_grows_with_what_arrived_only() {
        let mut decoder = Decoder::new(1 << 40);
        let mut bytes = header(0x81, true, 1 << 39);
        bytes.extend([0; 10]);
        assert_eq!(decoder.next(&mut &bytes[..]), Ok(None));
        assert!(decoder.message.capacity() < 1024);
    }

    #[test]
    fn a_close_is_checked() {
        assert_eq!(frames(&[(0x88, b"")]), [Seen::Close(None)]);
        assert_eq!(
            frames(&[(0x88, &[0x03, 0xe8, b'b'])]),
            [Seen::Close(Some(1000))]
        );
        assert_eq!(frames(&[(0x88, &[0x0f, 0xa0])]), [Seen::Close(Some(4000))]);
        assert_eq!(frames(&[(0x88, &[0x03])]), [Seen::Refused(1002)]);
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            assert_eq!(
                frames(&[(0x88, &code.to_be_bytes())]),
                [Seen::Refused(1002)],
                "{code}"
            );
        }
        assert_eq!(
            frames(&[(0x88, &[0x03, 0xe8, 0xff])]),
            [Seen::Refused(1007)]
        );
    }

    #[test]
    fn a_large_message_does_not_leave_its_buffer_behind() {
        let mut decoder = Decoder::new(1 << 20);
        let mut bytes = frame(0x81, &[b'x'; 100_000]);
        bytes.extend(frame(0x89, b""));
        let mut input = &bytes[..];
        assert!(matches!(
            decoder.next(&mut input),
            Ok(Some(Incoming::Text(_)))
        ));
        assert!(matches!(
            decoder.next(&mut input),
            Ok(Some(Incoming::Ping(_)))
        ));
        assert!(decoder.message.capacity() <= BUFFER_KEPT_BYTES_MAX);
    }

    /// A socket that holds what the client sent and swallows what the server answers.
    struct Recorded(Cursor<Vec<u8>>);

    impl Read for Recorded {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Recorded {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What the reference implementation makes of the same bytes.
    fn reference(bytes: Vec<u8>) -> Vec<Seen> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(LIMIT))
            .max_frame_size(Some(LIMIT));
        let mut socket =
            WebSocket::from_raw_socket(Recorded(Cursor::new(bytes)), Role::Server, Some(config));
        let mut seen = Vec::new();
        loop {
            seen.push(match socket.read() {
                Ok(Message::Text(text)) => Seen::Text(text.as_bytes().to_vec()),
                Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
                Ok(Message::Ping(payload)) => Seen::Ping(payload.to_vec()),
                Ok(Message::Pong(_)) => Seen::Pong,
                Ok(Message::Close(close)) => {
                    seen.push(Seen::Close(close.map(|close| close.code.into())));
                    return seen;
                }
                Ok(Message::Frame(_)) => unreachable!("only written"),
                // The end of the input is no close handshake.
                Err(Error::Protocol(
                    tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                )) => return seen,
                Err(Error::Protocol(_)) => Seen::Refused(1002),
                Err(Error::Utf8(_)) => Seen::Refused(1007),
                Err(Error::Capacity(_)) => Seen::Refused(1009),
                Err(error) => panic!("{error}"),
            });
            if matches!(seen.last(), Some(Seen::Refused(_))) {
                return seen;
            }
        }
    }

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => ".{0,40}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..8),
            1 => (100usize..LIMIT + 20).prop_map(|length| vec![b'x'; length]),
            1 => prop::sample::select(vec![1000u16, 1001, 3000, 4999])
                .prop_map(|code| code.to_be_bytes().to_vec()),
        ]
    }

    fn first_byte() -> impl Strategy<Value = u8> {
        prop_oneof![
            8 => prop::sample::select(vec![0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
            1 => Just(0x88u8),
            1 => any::<u8>(),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_at_all_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            decode([&bytes[..]]);
        }

        #[test]
        fn the_cuts_between_reads_make_no_difference(
            sent in prop::collection::vec((first_byte(), payload()), 0..8),
            size in 1usize..9,
        ) {
            let bytes: Vec<u8> = sent.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
            prop_assert_eq!(decode(bytes.chunks(size)), decode([&bytes[..]]));
        }

        #[test]
        fn the_reference_implementation_agrees(
            sent in prop::collection::vec((first_byte(), payload()), 0..8),
        ) {
            let bytes: Vec<u8> = sent.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
            let ours = decode([&bytes[..]]);
            let theirs = reference(bytes);
            // Both refuse; which of a frame's faults is named first is not told by the RFC, and the
            // reference takes close codes that the RFC reserves.
            let split = |seen: &[Seen]| {
                let refused = seen.iter().position(|seen| matches!(seen, Seen::Refused(_) | Seen::Close(_)));
                let end = refused.unwrap_or(seen.len());
                (seen[..end].to_vec(), refused.is_some())
            };
            prop_assert_eq!(split(&ours), split(&theirs), "{:?} {:?}", ours, theirs);
        }
    }
}
