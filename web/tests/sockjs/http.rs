//! A small HTTP/1.1 client that shows what other clients hide: where chunks begin and end, an answer
//! that is not there yet, and requests that are never finished.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No single step of any test takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it does not happen")
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: String,
    path: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, path: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            path: path.into(),
            version: "1.1",
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new("POST", path)
    }

    pub(crate) fn options(path: impl Into<String>) -> Self {
        Self::new("OPTIONS", path)
    }

    /// As a client of HTTP/1.0 would say it.
    pub(crate) fn http10(mut self) -> Self {
        self.version = "1.0";
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_owned();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/{}\r\n", self.method, self.path, self.version);
        head.push_str("Host: localhost\r\n");
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        let framed = self.headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length")
                || name.eq_ignore_ascii_case("transfer-encoding")
        });
        if !framed && self.method != "GET" {
            write!(head, "Content-Length: {}\r\n", self.body.len()).unwrap();
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Asks on a connection of its own, and does not wait for the answer.
    pub(crate) async fn start(&self, addr: SocketAddr) -> Pending {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut pending = Pending::new(stream);
        pending.write(&self.bytes()).await;
        pending
    }

    /// Asks, and waits for the head of the answer.
    pub(crate) async fn stream(&self, addr: SocketAddr) -> Response {
        let mut pending = self.start(addr).await;
        pending.wait().await;
        pending.response().await
    }

    /// Asks, and waits for the whole answer.
    pub(crate) async fn fetch(&self, addr: SocketAddr) -> Answer {
        self.stream(addr).await.whole().await
    }
}

#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    /// Reads more; false at the end.
    async fn fill(&mut self) -> bool {
        let read = soon(self.stream.read_buf(&mut self.received)).await;
        read.expect("the connection broke") > 0
    }

    /// The end of a line, or of a head.
    fn find(&self, mark: &[u8]) -> Option<usize> {
        self.received
            .windows(mark.len())
            .position(|window| window == mark)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        self.received.drain(..length).collect()
    }
}

/// A request whose answer is not there yet.
#[derive(Debug)]
pub(crate) struct Pending(Wire);

impl Pending {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Wire {
            stream,
            received: Vec::new(),
        })
    }

    /// Sends more of the request's body.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        soon(self.0.stream.write_all(bytes)).await.unwrap();
    }

    /// Sends more than the server may want to hear; false if it does not want to.
    pub(crate) async fn flood(&mut self, bytes: &[u8]) -> bool {
        soon(self.0.stream.write_all(bytes)).await.is_ok()
    }

    /// Waits for the head of the answer. May be given up at any time.
    pub(crate) async fn wait(&mut self) {
        while self.0.find(b"\r\n\r\n").is_none() {
            assert!(self.0.fill().await, "no answer");
        }
    }

    /// The status of the answer; `None` if the connection ended without one.
    pub(crate) async fn status_if_any(mut self) -> Option<u16> {
        while self.0.find(b"\r\n").is_none() {
            match soon(self.0.stream.read_buf(&mut self.0.received)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
        let line = String::from_utf8(self.0.received).unwrap();
        Some(line.split(' ').nth(1).unwrap().parse().unwrap())
    }

    pub(crate) async fn response(mut self) -> Response {
        self.wait().await;
        let end = self.0.find(b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(self.0.take(end)).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let status = status.parse().unwrap();
        let headers = Headers(
            lines
                .map(|line| {
                    let (name, value) = line.split_once(':').unwrap();
                    (name.to_ascii_lowercase(), value.trim().to_owned())
                })
                .collect(),
        );
        let body = if matches!(status, 101 | 204 | 304) {
            Body::Done
        } else if headers.get("transfer-encoding") == Some("chunked") {
            Body::Chunked
        } else if let Some(length) = headers.get("content-length") {
            Body::Length(length.parse().unwrap())
        } else {
            Body::UntilTheEnd
        };
        Response {
            status,
            headers,
            wire: self.0,
            body,
        }
    }

    /// Hangs up, politely.
    pub(crate) fn hang_up(self) {
        drop(self);
    }

    /// Is gone, as after a crash.
    pub(crate) fn reset(self) {
        self.0.stream.set_zero_linger().unwrap();
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a header that may be there once.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(given, _)| given == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }

    /// The items of a header that holds a list, in alphabetical order.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let values = self.0.iter().filter(|(given, _)| given == name);
        let mut items: Vec<_> = values
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .collect();
        items.sort_unstable();
        items
    }

    /// The content type, spelled without spaces.
    pub(crate) fn content_type(&self) -> String {
        self.get("content-type").unwrap_or("").replace(' ', "")
    }
}

#[derive(Debug)]
enum Body {
    Length(usize),
    Chunked,
    UntilTheEnd,
    Done,
}

/// An answer whose head is there, and whose body is read piece by piece.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    wire: Wire,
    body: Body,
}

impl Response {
    /// The next chunk as the server cut it, `None` at the end of the body. A body without chunks
    /// comes as it arrives. May be given up at any time; nothing is lost.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.body {
                Body::Done => return None,
                Body::Length(0) => self.body = Body::Done,
                Body::Length(length) => {
                    if self.wire.received.is_empty() {
                        assert!(self.wire.fill().await, "the body broke off");
                    }
                    let taken = length.min(self.wire.received.len());
                    self.body = Body::Length(length - taken);
                    return Some(self.wire.take(taken));
                }
                Body::UntilTheEnd => {
                    if !self.wire.received.is_empty() || self.wire.fill().await {
                        return Some(self.wire.take(self.wire.received.len()));
                    }
                    self.body = Body::Done;
                }
                Body::Chunked => {
                    if let Some(chunk) = self.whole_chunk() {
                        if !chunk.is_empty() {
                            return Some(chunk);
                        }
                        self.body = Body::Done;
                    } else {
                        assert!(self.wire.fill().await, "the body broke off");
                    }
                }
            }
        }
    }

    fn whole_chunk(&mut self) -> Option<Vec<u8>> {
        let start = self.wire.find(b"\r\n")? + 2;
        let size = std::str::from_utf8(&self.wire.received[..start - 2]).unwrap();
        let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
        if self.wire.received.len() < start + size + 2 {
            return None;
        }
        self.wire.take(start);
        let chunk = self.wire.take(size);
        assert_eq!(self.wire.take(2), b"\r\n");
        Some(chunk)
    }

    /// The next chunk as text.
    pub(crate) async fn text(&mut self) -> String {
        let chunk = self.chunk().await.expect("the body has ended");
        String::from_utf8(chunk).unwrap()
    }

    /// Nothing comes for this long.
    pub(crate) async fn is_silent_for(&mut self, time: Duration) {
        let chunk = timeout(time, self.chunk()).await;
        assert!(chunk.is_err(), "{chunk:?}");
    }

    pub(crate) async fn whole(mut self) -> Answer {
        let body = self.rest().await;
        Answer {
            status: self.status,
            headers: self.headers,
            body,
        }
    }

    /// All of the body that is still to come.
    pub(crate) async fn rest(&mut self) -> String {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await {
            body.extend(chunk);
        }
        String::from_utf8(body).unwrap()
    }

    /// Asks again on the same connection.
    pub(crate) async fn ask_again(mut self, request: &Request) -> Response {
        self.rest().await;
        let mut pending = Pending(self.wire);
        pending.write(&request.bytes()).await;
        pending.response().await
    }

    /// The server closes the connection too.
    pub(crate) async fn closes(mut self) {
        self.rest().await;
        assert!(!self.wire.fill().await, "something comes after the body");
    }

    /// Hangs up, politely.
    pub(crate) fn hang_up(self) {
        drop(self);
    }

    /// Is gone, as after a crash.
    pub(crate) fn reset(self) {
        self.wire.stream.set_zero_linger().unwrap();
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: String,
}
