//! One client, whatever carries it.

use std::io;
use std::sync::Arc;

use mio::{Registry, Token};
use rustls::ClientConfig;

use super::frame::Frame;
use super::pipe::Dial;
use super::protocol::{Membership, Protocol};
use super::requests::Requests;
use super::transport::Transport;
use super::websocket::WebSocket;

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Upgrading,
    Joining,
    Ready,
}

/// What a client is to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) protocol: Protocol,
    pub(super) transport: Transport,
    /// The room's name.
    pub(super) room: &'a str,
    /// The id of its session, where there are sessions.
    pub(super) session: &'a str,
}

/// Which of a client's connections: only SockJS over HTTP has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// The one on which it hears.
    Hears,
    /// The one on which it says something, if that is another.
    Speaks,
}

impl Lane {
    /// How the poller knows the connection of a client.
    pub(super) fn token(self, client: usize) -> Token {
        Token(client * 2 + usize::from(self == Self::Speaks))
    }

    /// The client and the connection that the poller means.
    pub(super) fn of(token: Token) -> (usize, Self) {
        let lane = if token.0.is_multiple_of(2) {
            Self::Hears
        } else {
            Self::Speaks
        };
        (token.0 / 2, lane)
    }
}

#[derive(Debug)]
pub(super) struct Client {
    /// Reads no more than so much in a time, once it is there.
    pub(super) slow: bool,
    /// The room's number.
    pub(super) room: usize,
    link: Link,
}

#[derive(Debug)]
enum Link {
    WebSocket(Box<WebSocket>),
    Requests(Box<Requests>),
}

impl Client {
    /// Begins to connect client `index`; `more` are rooms that it joins besides.
    pub(super) fn connect(
        registry: &Registry,
        index: usize,
        (addr, tls): (std::net::SocketAddr, Option<&Arc<ClientConfig>>),
        (room, part): (usize, Part<'_>),
        more: impl Iterator<Item = String>,
        slow: bool,
    ) -> io::Result<Self> {
        let dial = Dial {
            token: Lane::Hears.token(index),
            addr,
            tls: tls.cloned(),
            slow,
        };
        let link = match part.transport.hearing() {
            None => {
                let socket = WebSocket::connect(registry, &dial, part, more)?;
                Link::WebSocket(Box::new(socket))
            }
            Some(hearing) => {
                let speaks = Dial {
                    token: Lane::Speaks.token(index),
                    slow: false,
                    ..dial.clone()
                };
                let requests = Requests::connect(registry, [dial, speaks], part, hearing)?;
                Link::Requests(Box::new(requests))
            }
        };
        Ok(Self { slow, room, link })
    }

    pub(super) fn stage(&self) -> Stage {
        match &self.link {
            Link::WebSocket(socket) => socket.stage,
            Link::Requests(requests) => requests.stage,
        }
    }

    pub(super) fn membership(&self) -> Membership {
        match &self.link {
            Link::WebSocket(socket) => socket.membership,
            Link::Requests(_) => Membership::default(),
        }
    }

    /// Sends what is waiting.
    pub(super) fn flush(&mut self, lane: Lane) -> io::Result<()> {
        match (&mut self.link, lane) {
            (Link::WebSocket(socket), _) => socket.flush(),
            (Link::Requests(requests), Lane::Hears) => requests.flush(),
            (Link::Requests(requests), Lane::Speaks) => requests.flush_said(),
        }
    }

    /// Says a move made at `now_us` in its room; `scratch` is memory for it. False if an earlier one is
    /// never said because of it.
    pub(super) fn say_move(
        &mut self,
        registry: &Registry,
        room: &str,
        now_us: u64,
        scratch: &mut Vec<u8>,
    ) -> io::Result<bool> {
        match &mut self.link {
            Link::WebSocket(socket) => socket.say_move(room, now_us, scratch).map(|()| true),
            Link::Requests(requests) => requests.say_move(registry, now_us, scratch),
        }
    }

    /// Reads what there is to hear into `buffer`, but no more than so many bytes, and shows what may hold
    /// moves of a client that is there: every whole frame, or every message where a frame may hold
    /// several.
    pub(super) fn read_at_most(
        &mut self,
        registry: &Registry,
        bytes_max: usize,
        buffer: &mut [u8],
        show: impl FnMut(Frame<'_>),
    ) -> io::Result<()> {
        match &mut self.link {
            Link::WebSocket(socket) => socket.read_at_most(bytes_max, buffer, show),
            Link::Requests(requests) => requests.read_at_most(registry, bytes_max, buffer, show),
        }
    }

    /// Reads what is answered to what it said, where that comes on a connection of its own.
    pub(super) fn read_said(
        &mut self,
        registry: &Registry,
        buffer: &mut [u8],
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        match &mut self.link {
            Link::WebSocket(_) => Ok(()),
            Link::Requests(requests) => requests.read_said(registry, buffer, scratch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_connection_of_one_client() {
        for index in [0, 1, 99_999] {
            for lane in [Lane::Hears, Lane::Speaks] {
                assert_eq!(Lane::of(lane.token(index)), (index, lane));
            }
        }
    }
}
