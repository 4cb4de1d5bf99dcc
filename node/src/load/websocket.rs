//! A client on a WebSocket: its upgrade, what it answers, and the frame it has not got whole yet.

use std::io;

use mio::Registry;

use super::client::{Part, Stage};
use super::frame::{self, Frame};
use super::nats;
use super::partial::Partial;
use super::pipe::{Dial, Pipe};
use super::protocol::{Membership, Protocol};
use super::socketio;
use super::sockjs;
use super::step::Step;
use super::transport::{self, Transport};

const PING: u8 = 9;
const PONG: u8 = 10;
const CLOSE: u8 = 8;

#[derive(Debug)]
pub(super) struct WebSocket {
    pipe: Pipe,
    protocol: Protocol,
    /// Messages are in frames of SockJS.
    is_framed: bool,
    pub(super) stage: Stage,
    pub(super) membership: Membership,
    hello: Option<Vec<u8>>,
    partial: Partial,
    /// Of a protocol that is a stream across frames.
    line: Partial,
    /// Of a message that is written otherwise in its frame.
    text: Vec<u8>,
}

impl WebSocket {
    /// Begins to connect; what is to be sent first goes out when the socket can be written.
    pub(super) fn connect(
        registry: &Registry,
        dial: &Dial,
        part: Part<'_>,
        more: impl Iterator<Item = String>,
    ) -> io::Result<Self> {
        let Part { protocol, room, .. } = part;
        let is_framed = part.transport == Transport::Sockjs;
        let target = if is_framed {
            let path = transport::path(part.session);
            format!("{path}/websocket?room={room}")
        } else {
            protocol.target(room)
        };
        let subprotocol = protocol.subprotocol();
        let subprotocol = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
            dial.addr,
            subprotocol.unwrap_or_default()
        );
        Ok(Self {
            pipe: Pipe::connect(registry, dial, request.into_bytes())?,
            protocol,
            is_framed,
            stage: Stage::Upgrading,
            membership: Membership::default(),
            hello: protocol.hello(room, more),
            partial: Partial::default(),
            line: Partial::default(),
            text: Vec::new(),
        })
    }

    /// Sends what is waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }

    /// Sends a move made at `now_us`; `scratch` is memory for it.
    pub(super) fn say_move(
        &mut self,
        room: &str,
        now_us: u64,
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        scratch.clear();
        if self.is_framed {
            self.text.clear();
            sockjs::put(&mut self.text, Protocol::json_move(now_us));
            frame::put(scratch, frame::TEXT, &self.text);
        } else {
            self.protocol
                .put_move(scratch, self.membership, room, now_us);
        }
        self.pipe.send(scratch)
    }

    /// Reads what there is into `buffer`, but no more than so many bytes, and shows what may hold moves
    /// of a client that is there: every whole frame, or every message where a frame may hold several.
    pub(super) fn read_at_most(
        &mut self,
        bytes_max: usize,
        buffer: &mut [u8],
        mut show: impl FnMut(Frame<'_>),
    ) -> io::Result<()> {
        let mut left = bytes_max;
        while left > 0 {
            let most = left.min(buffer.len());
            let Some((n, may_have_more)) = self.pipe.read(&mut buffer[..most])? else {
                return Ok(());
            };
            // Taken out so that what is whole may be answered meanwhile.
            let mut partial = std::mem::take(&mut self.partial);
            partial.feed(&buffer[..n], |bytes| self.digest(bytes, &mut show))?;
            self.partial = partial;
            if !may_have_more {
                return Ok(());
            }
            left -= n;
        }
        Ok(())
    }

    /// Takes whole frames off the front; returns how many bytes are left over.
    fn digest(&mut self, bytes: &[u8], show: &mut impl FnMut(Frame<'_>)) -> io::Result<usize> {
        let mut rest = bytes;
        if self.stage == Stage::Upgrading {
            let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(rest.len());
            };
            let (head, frames) = rest.split_at(end + 4);
            if !head.starts_with(b"HTTP/1.1 101") {
                let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
                let line = String::from_utf8_lossy(line).escape_debug().to_string();
                return Err(io::Error::other(format!("answered {line}")));
            }
            rest = frames;
            if let Some(hello) = self.hello.take() {
                self.pipe.send(&hello)?;
            }
            self.stage = match self.protocol {
                Protocol::Tutorial if !self.is_framed => Stage::Ready,
                _ => Stage::Joining,
            };
        }
        while let Some((frame, after)) = frame::take(rest) {
            rest = after;
            match frame.opcode {
                PING => {
                    let mut pong = Vec::new();
                    frame::put(&mut pong, PONG, frame.payload);
                    self.pipe.send(&pong)?;
                }
                CLOSE => return Err(io::Error::other(closed(frame.payload))),
                _ if self.is_framed => sockjs::hear(
                    sockjs::frame(frame.payload)?,
                    &mut self.stage,
                    &mut self.text,
                    show,
                )?,
                _ => self.hear(frame, show)?,
            }
        }
        Ok(rest.len())
    }

    /// Does what a frame of the server's application asks for.
    fn hear(&mut self, frame: Frame<'_>, show: &mut impl FnMut(Frame<'_>)) -> io::Result<()> {
        match self.protocol {
            Protocol::Socketio => self.follow(socketio::step(frame.payload), frame.opcode, show),
            Protocol::Nats => {
                let mut line = std::mem::take(&mut self.line);
                line.feed(frame.payload, |bytes| {
                    let mut rest = bytes;
                    while let Some((step, after)) = nats::take(rest)? {
                        rest = after;
                        self.follow(step, frame::BINARY, show)?;
                    }
                    Ok(rest.len())
                })?;
                self.line = line;
                Ok(())
            }
            Protocol::Tutorial | Protocol::V1 => {
                if self.stage == Stage::Ready {
                    show(frame);
                } else if self.protocol.joins(frame, &mut self.membership) {
                    self.stage = Stage::Ready;
                }
                Ok(())
            }
        }
    }

    fn follow(
        &mut self,
        step: Step<'_>,
        opcode: u8,
        show: &mut impl FnMut(Frame<'_>),
    ) -> io::Result<()> {
        match step {
            Step::Move(payload) if self.stage == Stage::Ready => show(Frame { opcode, payload }),
            Step::Joined => self.stage = Stage::Ready,
            Step::Answer(text) => {
                let mut answer = Vec::new();
                frame::put(&mut answer, opcode, text);
                self.pipe.send(&answer)?;
            }
            Step::Refused(words) => {
                let words = String::from_utf8_lossy(words).escape_debug().to_string();
                return Err(io::Error::other(format!("refused with {words}")));
            }
            Step::Move(_) | Step::Nothing => {}
        }
        Ok(())
    }
}

fn closed(payload: &[u8]) -> String {
    let (code, reason) = payload.split_at_checked(2).unwrap_or_default();
    let code = code.try_into().map_or(1005, u16::from_be_bytes);
    let reason = String::from_utf8_lossy(reason).escape_debug().to_string();
    format!("closed with {code} {reason}")
}
