//! A client of SockJS over HTTP: it hears on one connection and speaks on another.

use std::io;

use mio::Registry;

use super::client::{Part, Stage};
use super::exchange::Exchange;
use super::frame::Frame;
use super::partial::Partial;
use super::pipe::Dial;
use super::protocol::Protocol;
use super::sockjs;
use super::transport::{self, Hearing};

#[derive(Debug)]
pub(super) struct Requests {
    pub(super) stage: Stage,
    hears: Exchange,
    /// The request for what there is to hear, made again whenever it is answered.
    hearing: Vec<u8>,
    /// The frame that is not whole yet.
    partial: Partial,
    /// Of a message, which is written otherwise in its frame.
    text: Vec<u8>,
    speaks: Exchange,
    /// What a request to say something begins with.
    saying: Vec<u8>,
    /// The newest move, if it was made while another was being said.
    waiting: Option<u64>,
}

impl Requests {
    /// Begins to connect. What is heard is known to the poller by one of two dials, and what is said by
    /// the other.
    pub(super) fn connect(
        registry: &Registry,
        dials: [Dial; 2],
        part: Part<'_>,
        hearing: Hearing,
    ) -> io::Result<Self> {
        let Hearing { method, name } = hearing;
        let (path, addr) = (transport::path(part.session), dials[0].addr);
        let room = part.room;
        let length = if method == "POST" {
            "Content-Length: 0\r\n"
        } else {
            ""
        };
        let hearing =
            format!("{method} {path}/{name}?room={room} HTTP/1.1\r\nHost: {addr}\r\n{length}\r\n");
        let saying = format!(
            "POST {path}/xhr_send?room={room} HTTP/1.1\r\nHost: {addr}\r\n\
             Content-Type: text/plain\r\nContent-Length: "
        );
        let [hears, speaks] = dials;
        let mut requests = Self {
            stage: Stage::Joining,
            hears: Exchange::new(hears),
            hearing: hearing.into_bytes(),
            partial: Partial::default(),
            text: Vec::new(),
            speaks: Exchange::new(speaks),
            saying: saying.into_bytes(),
            waiting: None,
        };
        requests.hears.ask(registry, &requests.hearing)?;
        Ok(requests)
    }

    /// Sends what is waiting on the connection that is heard.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.hears.flush()
    }

    /// Likewise on the other.
    pub(super) fn flush_said(&mut self) -> io::Result<()> {
        self.speaks.flush()
    }

    /// Says a move made at `now_us`, at once or when the one before has been taken; `scratch` is memory
    /// for it. False if one that waited for that is never said because of it.
    pub(super) fn say_move(
        &mut self,
        registry: &Registry,
        now_us: u64,
        scratch: &mut Vec<u8>,
    ) -> io::Result<bool> {
        if self.speaks.is_under_way() {
            return Ok(self.waiting.replace(now_us).is_none());
        }
        self.text.clear();
        sockjs::put(&mut self.text, Protocol::json_move(now_us));
        scratch.clear();
        scratch.extend_from_slice(&self.saying);
        scratch.extend_from_slice(self.text.len().to_string().as_bytes());
        scratch.extend_from_slice(b"\r\n\r\n");
        scratch.extend_from_slice(&self.text);
        self.speaks.ask(registry, scratch)?;
        Ok(true)
    }

    /// Reads what is answered to what was said, and says what waits for that.
    pub(super) fn read_said(
        &mut self,
        registry: &Registry,
        buffer: &mut [u8],
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        let is_whole = self.speaks.read_at_most(usize::MAX, buffer, |_| Ok(()))?;
        if let Some(made_us) = self.waiting.take_if(|_| is_whole) {
            self.say_move(registry, made_us, scratch)?;
        }
        Ok(())
    }

    /// Reads what there is to hear into `buffer`, but no more than so many bytes, and shows every message
    /// of a client that is there.
    pub(super) fn read_at_most(
        &mut self,
        registry: &Registry,
        bytes_max: usize,
        buffer: &mut [u8],
        mut show: impl FnMut(Frame<'_>),
    ) -> io::Result<()> {
        let Self {
            stage,
            partial,
            text,
            ..
        } = self;
        let is_whole = self.hears.read_at_most(bytes_max, buffer, |body| {
            partial.feed(body, |bytes| {
                let mut rest = bytes;
                while let Some((line, after)) = sockjs::line(rest) {
                    rest = after;
                    if !line.is_empty() {
                        sockjs::hear(sockjs::frame(line)?, stage, text, &mut show)?;
                    }
                }
                Ok(rest.len())
            })
        })?;
        if is_whole {
            self.hears.ask(registry, &self.hearing)?;
        }
        Ok(())
    }
}
