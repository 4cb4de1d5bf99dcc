//! Answers of HTTP as a client needs them that makes one request after the other.

use std::io;

/// A head or a line of a chunk is not waited for beyond this.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The answer that is being read, taken apart as it comes.
#[derive(Debug, Default)]
pub(super) struct Answer {
    awaits: Awaits,
    /// The connection ends with it.
    closes: bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Awaits {
    #[default]
    Head,
    /// So many bytes of a body whose length is known.
    Body(usize),
    /// The line before a chunk.
    Size,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The end of the line after a chunk.
    ChunkEnd,
    /// Lines after the last chunk.
    Trailer,
}

/// Part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// The line with its status.
    Status(&'a [u8]),
    /// Some of its body.
    Body(&'a [u8]),
    /// What is around chunks.
    Between,
    /// It is whole.
    End {
        /// No request can follow on its connection.
        closes: bool,
    },
}

impl Answer {
    /// The first piece in `bytes` and what follows it; `None` if more has to come first. Of a body
    /// anything is a piece.
    pub(super) fn take<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> io::Result<Option<(Piece<'a>, &'a [u8])>> {
        match self.awaits {
            Awaits::Head => {
                let Some((head, rest)) = until(bytes, b"\r\n\r\n")? else {
                    return Ok(None);
                };
                Ok(Some((Piece::Status(self.head(head)?), rest)))
            }
            Awaits::Body(0) => Ok(Some((self.end(), bytes))),
            Awaits::Body(left) | Awaits::Chunk(left) => {
                if bytes.is_empty() {
                    return Ok(None);
                }
                let (piece, rest) = bytes.split_at(left.min(bytes.len()));
                let left = left - piece.len();
                self.awaits = match self.awaits {
                    Awaits::Body(_) => Awaits::Body(left),
                    _ if left > 0 => Awaits::Chunk(left),
                    _ => Awaits::ChunkEnd,
                };
                Ok(Some((Piece::Body(piece), rest)))
            }
            Awaits::Size | Awaits::ChunkEnd | Awaits::Trailer => {
                let Some((line, rest)) = until(bytes, b"\r\n")? else {
                    return Ok(None);
                };
                Ok(Some((self.line(line)?, rest)))
            }
        }
    }

    /// Reads a line between chunks or after the last.
    fn line<'a>(&mut self, line: &[u8]) -> io::Result<Piece<'a>> {
        self.awaits = match self.awaits {
            Awaits::ChunkEnd if line.is_empty() => Awaits::Size,
            Awaits::ChunkEnd => return Err(io::Error::other("a chunk longer than it says")),
            Awaits::Trailer if line.is_empty() => return Ok(self.end()),
            Awaits::Trailer => Awaits::Trailer,
            _ => match size(line)? {
                0 => Awaits::Trailer,
                size => Awaits::Chunk(size),
            },
        };
        Ok(Piece::Between)
    }

    /// Reads a head; gives its first line.
    fn head<'a>(&mut self, head: &'a [u8]) -> io::Result<&'a [u8]> {
        let mut lines = head.split(|byte| *byte == b'\n');
        let status = lines.next().unwrap_or_default();
        let status = status.strip_suffix(b"\r").unwrap_or(status);
        let (mut length, mut is_chunked) = (None, false);
        self.closes = !status.starts_with(b"HTTP/1.1 ");
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':');
            let (name, value) = line.split_at(colon.unwrap_or(line.len()));
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"content-length") {
                length = std::str::from_utf8(value).ok();
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                is_chunked = value.eq_ignore_ascii_case(b"chunked");
            } else if name.eq_ignore_ascii_case(b"connection") {
                self.closes |= value.eq_ignore_ascii_case(b"close");
            }
        }
        let is_bodiless = matches!(status.get(9..12), Some(b"204" | b"304"));
        self.awaits = match length.map(str::parse) {
            _ if is_bodiless => Awaits::Body(0),
            _ if is_chunked => Awaits::Size,
            Some(Ok(length)) => Awaits::Body(length),
            _ => return Err(io::Error::other("an answer that does not tell its length")),
        };
        Ok(status)
    }

    fn end<'a>(&mut self) -> Piece<'a> {
        let Self { closes, .. } = std::mem::take(self);
        Piece::End { closes }
    }
}

/// What comes before `mark`, and what after it.
fn until<'a>(bytes: &'a [u8], mark: &[u8]) -> io::Result<Option<(&'a [u8], &'a [u8])>> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    match head.windows(mark.len()).position(|some| some == mark) {
        Some(at) => Ok(Some((&bytes[..at], &bytes[at + mark.len()..]))),
        None if head.len() == HEAD_BYTES_MAX => Err(io::Error::other("a head of more than 32 KiB")),
        None => Ok(None),
    }
}

/// The size that a line before a chunk tells; what follows a semicolon does not matter.
fn size(line: &[u8]) -> io::Result<usize> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = std::str::from_utf8(digits.trim_ascii()).unwrap_or_default();
    usize::from_str_radix(digits, 16).map_err(|_| io::Error::other("a chunk without a size"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::partial::Partial;
    use super::*;

    /// What is found when the stream comes in pieces of so many bytes: statuses and ends, and bodies in
    /// one piece each.
    fn read(stream: &[u8], piece: usize) -> io::Result<Vec<String>> {
        let (mut answer, mut partial) = (Answer::default(), Partial::default());
        let (mut found, mut body) = (Vec::new(), Vec::new());
        for fresh in stream.chunks(piece) {
            partial.feed(fresh, |bytes| {
                let mut rest = bytes;
                while let Some((piece, after)) = answer.take(rest)? {
                    rest = after;
                    match piece {
                        Piece::Status(line) => {
                            found.push(String::from_utf8_lossy(line).into_owned());
                        }
                        Piece::Body(some) => body.extend_from_slice(some),
                        Piece::Between => {}
                        Piece::End { closes } => {
                            found.push(String::from_utf8_lossy(&body).into_owned());
                            found.push(format!("closes: {closes}"));
                            body.clear();
                        }
                    }
                }
                Ok(rest.len())
            })?;
        }
        Ok(found)
    }

    #[test]
    fn answers_are_found_one_after_the_other_split_anywhere() {
        let stream = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
            3\r\no\r\n\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nafter: all\r\n\r\n\
            HTTP/1.1 204 No Content\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length:2\r\nConnection: close\r\n\r\nh\n";
        let expected = [
            "HTTP/1.1 200 OK",
            "o\r\n0123456789abcdef",
            "closes: false",
            "HTTP/1.1 204 No Content",
            "",
            "closes: false",
            "HTTP/1.1 200 OK",
            "h\n",
            "closes: true",
        ];
        for piece in 1..=stream.len() {
            assert_eq!(
                read(stream, piece).unwrap(),
                expected,
                "in pieces of {piece}"
            );
        }
    }

    #[test]
    fn what_cannot_become_an_answer_is_refused() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "ffffffffffffffffff\r\n",
            "1\r\nab\r\n",
        ] {
            assert!(
                read([head, body].concat().as_bytes(), 7).is_err(),
                "{body:?}"
            );
        }
        assert!(read(b"HTTP/1.1 200 OK\r\n\r\n", 7).is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", 7).is_err());
        assert!(read(&[b'x'; HEAD_BYTES_MAX], HEAD_BYTES_MAX).is_err());
    }
}
