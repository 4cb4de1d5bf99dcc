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
