//! Requests over HTTP and their answers, one after the other on a connection that is kept.

use std::io;

use mio::Registry;

use super::http::{Answer, Piece};
use super::partial::Partial;
use super::pipe::{Dial, Pipe};

#[derive(Debug)]
pub(super) struct Exchange {
    dial: Dial,
    /// `None` before the first request, and where the server closed between two.
    pipe: Option<Pipe>,
    answer: Answer,
    partial: Partial,
    /// A request is not answered yet, or not wholly.
    is_under_way: bool,
}

impl Exchange {
    pub(super) fn new(dial: Dial) -> Self {
        Self {
            dial,
            pipe: None,
            answer: Answer::default(),
            partial: Partial::default(),
            is_under_way: false,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Makes a request. None may be under way.
    pub(super) fn ask(&mut self, registry: &Registry, request: &[u8]) -> io::Result<()> {
        self.is_under_way = true;
        match &mut self.pipe {
            Some(pipe) => pipe.send(request)?,
            None => self.pipe = Some(Pipe::connect(registry, &self.dial, request.to_vec())?),
        }
        Ok(())
    }

    /// Sends what is waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.pipe.as_mut().map_or(Ok(()), Pipe::flush)
    }

    /// Reads what there is of the answer, but no more than so many bytes, and shows its body; true once
    /// it is whole.
    pub(super) fn read_at_most(
        &mut self,
        bytes_max: usize,
        buffer: &mut [u8],
        mut show: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let mut left = bytes_max;
        while left > 0
            && let Some(pipe) = &mut self.pipe
        {
            let most = left.min(buffer.len());
            let (n, may_have_more) = match pipe.read(&mut buffer[..most]) {
                Ok(Some(read)) => read,
                Ok(None) => return Ok(false),
                // The server is free to close a connection on which nothing is asked.
                Err(_) if !self.is_under_way => {
                    self.pipe = None;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            if self.digest(&buffer[..n], &mut show)? {
                return Ok(true);
            }
            if !may_have_more {
                return Ok(false);
            }
            left -= n;
        }
        Ok(false)
    }

    /// Shows what has come; true once the answer is whole.
    fn digest(
        &mut self,
        fresh: &[u8],
        show: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        if !self.is_under_way {
            return Err(io::Error::other("an answer that nobody asked for"));
        }
        let answer = &mut self.answer;
        let mut end = None;
        self.partial.feed(fresh, |bytes| {
            let mut rest = bytes;
            while let Some((piece, after)) = answer.take(rest)? {
                rest = after;
                match piece {
                    Piece::Status(line) => accept(line)?,
                    Piece::Body(some) => show(some)?,
                    Piece::Between => {}
                    Piece::End { closes } => {
                        end = Some(closes);
                        break;
                    }
                }
            }
            Ok(rest.len())
        })?;
        let Some(closes) = end else {
            return Ok(false);
        };
        self.is_under_way = false;
        if closes {
            self.pipe = None;
        }
        Ok(true)
    }
}

/// Any answer but one that all is well is an error.
fn accept(status: &[u8]) -> io::Result<()> {
    if matches!(status.get(9..12), Some(b"200" | b"204")) {
        return Ok(());
    }
    let line = String::from_utf8_lossy(status).escape_debug().to_string();
    Err(io::Error::other(format!("answered {line}")))
}
