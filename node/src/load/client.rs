//! One client: its socket, what it has not sent yet, and the frame it has not got whole yet.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::{Registry, Token};
use rustls::ClientConfig;

use super::frame::{self, Frame};
use super::nats;
use super::partial::{PARTIAL_BYTES_MAX, Partial};
use super::protocol::{Membership, Protocol};
use super::socketio;
use super::step::Step;
use super::wire::Wire;

const PING: u8 = 9;
const PONG: u8 = 10;
const CLOSE: u8 = 8;

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Upgrading,
    Joining,
    Ready,
}

#[derive(Debug)]
pub(super) struct Client {
    wire: Wire,
    /// Reads no more than so much in a time, once it is there.
    pub(super) slow: bool,
    pub(super) stage: Stage,
    pub(super) room: usize,
    protocol: Protocol,
    pub(super) membership: Membership,
    hello: Option<Vec<u8>>,
    unsent: Vec<u8>,
    partial: Partial,
    /// Of a protocol that is a stream across frames.
    line: Partial,
}

impl Client {
    /// Begins to connect; what is to be sent first goes out when the socket can be written.
    pub(super) fn connect(
        registry: &Registry,
        token: Token,
        (addr, tls): (SocketAddr, Option<&Arc<ClientConfig>>),
        protocol: Protocol,
        room: (usize, &str),
        more: impl Iterator<Item = String>,
        slow: bool,
    ) -> io::Result<Self> {
        let (number, name) = room;
        let wire = Wire::connect(registry, token, addr, tls, slow)?;
        let subprotocol = protocol.subprotocol();
        let subprotocol = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
            protocol.target(name),
            subprotocol.unwrap_or_default()
        );
        Ok(Self {
            wire,
            slow,
            stage: Stage::Upgrading,
            room: number,
            protocol,
            membership: Membership::default(),
            hello: protocol.hello(name, more),
            unsent: request.into_bytes(),
            partial: Partial::default(),
            line: Partial::default(),
        })
    }

    /// Sends what is waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()?;
        while !self.unsent.is_empty() {
            match self.wire.write(&self.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(self.unsent.drain(..n)),
                // Not connected yet, or no room: the poller says when.
                Err(error) if is_not_yet(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends a frame, or keeps what the socket does not take.
    pub(super) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.unsent.is_empty() {
            match self.wire.write(frame) {
                Ok(n) if n == frame.len() => return Ok(()),
                Ok(n) => self.unsent.extend_from_slice(&frame[n..]),
                Err(error) if is_not_yet(&error) => self.unsent.extend_from_slice(frame),
                Err(error) => return Err(error),
            }
        } else if self.unsent.len() < PARTIAL_BYTES_MAX {
            self.unsent.extend_from_slice(frame);
        }
        Ok(())
    }

    /// Reads what there is into `buffer` and shows what may hold moves of a client that is there:
    /// every whole frame, or every message where a frame may hold several.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        show: impl FnMut(Frame<'_>),
    ) -> io::Result<()> {
        self.read_at_most(usize::MAX, buffer, show)
    }

    /// Likewise, but no more than so many bytes.
    pub(super) fn read_at_most(
        &mut self,
        bytes_max: usize,
        buffer: &mut [u8],
        mut show: impl FnMut(Frame<'_>),
    ) -> io::Result<()> {
        let mut left = bytes_max;
        while left > 0 {
            let most = left.min(buffer.len());
            let buffer = &mut buffer[..most];
            let n = match self.wire.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                // A handshake that is done by now lets go what waited for it.
                Err(error) if is_not_yet(&error) => return self.flush(),
                Err(error) => return Err(error),
            };
            // Taken out so that what is whole may be answered meanwhile.
            let mut partial = std::mem::take(&mut self.partial);
            partial.feed(&buffer[..n], |bytes| self.digest(bytes, &mut show))?;
            self.partial = partial;
            // Less than there was room for: the socket is empty, and says so when it is not.
            if n < buffer.len() && self.wire.is_empty_after_short_read() {
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
                self.send(&hello)?;
            }
            self.stage = match self.protocol {
                Protocol::Tutorial => Stage::Ready,
                Protocol::V1 | Protocol::Socketio | Protocol::Nats => Stage::Joining,
            };
        }
        while let Some((frame, after)) = frame::take(rest) {
            rest = after;
            match frame.opcode {
                PING => {
                    let mut pong = Vec::new();
                    frame::put(&mut pong, PONG, frame.payload);
                    self.send(&pong)?;
                }
                CLOSE => return Err(io::Error::other(closed(frame.payload))),
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
                self.send(&answer)?;
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

fn is_not_yet(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), WouldBlock | NotConnected | Interrupted)
}
