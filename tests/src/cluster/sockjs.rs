//! SockJS sessions whose every request goes to the next node, as a load balancer without sticky sessions
//! sends them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Failure;

/// A request that is answered with one thing is answered within this time.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How a session hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `xhr`.
    XhrPolling,
    /// `xhr_streaming`.
    XhrStreaming,
    /// `eventsource`.
    EventSource,
    /// `htmlfile`.
    HtmlFile,
    /// `jsonp`.
    Jsonp,
}

impl Transport {
    /// All that go over HTTP.
    pub const ALL: [Self; 5] = [
        Self::XhrPolling,
        Self::XhrStreaming,
        Self::EventSource,
        Self::HtmlFile,
        Self::Jsonp,
    ];

    fn receive(self) -> (&'static str, &'static str) {
        match self {
            Self::XhrPolling => ("POST", "xhr?"),
            Self::XhrStreaming => ("POST", "xhr_streaming?"),
            Self::EventSource => ("GET", "eventsource?"),
            Self::HtmlFile => ("GET", "htmlfile?c=cb&"),
            Self::Jsonp => ("GET", "jsonp?c=cb&"),
        }
    }

    fn send(self) -> (&'static str, &'static str, u16) {
        match self {
            Self::Jsonp => ("jsonp_send", "text/plain", 200),
            _ => ("xhr_send", "text/plain", 204),
        }
    }

    /// The frames in a part of an answer, which has whole ones.
    fn frames(self, part: &str) -> Result<Vec<String>, Failure> {
        let quoted = |begin: &str, end: &str| -> Result<Vec<String>, Failure> {
            let inside = part.split(begin).skip(1);
            inside
                .map(|one| {
                    let text = one.split(end).next().unwrap_or_default();
                    Ok(serde_json::from_str(text)?)
                })
                .collect()
        };
        Ok(match self {
            Self::XhrPolling | Self::XhrStreaming => part
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with("hh"))
                .map(str::to_owned)
                .collect(),
            Self::EventSource => part
                .split("\r\n")
                .filter_map(|line| line.strip_prefix("data: "))
                .map(|line| line.replace("%25", "%"))
                .collect(),
            Self::HtmlFile => quoted("<script>\np(", ");\n</script>")?,
            Self::Jsonp => quoted("/**/cb(", ");\r\n")?,
        })
    }
}

/// Sends each request to the next node.
#[derive(Debug)]
pub struct Balancer {
    nodes: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Balancer {
    /// To these nodes in turn.
    pub fn new(nodes: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            nodes: Mutex::new(nodes),
            next: AtomicUsize::new(0),
        })
    }

    /// From now on to these.
    pub fn set(&self, nodes: Vec<SocketAddr>) {
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    fn next(&self) -> SocketAddr {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes[self.next.fetch_add(1, Ordering::Relaxed) % nodes.len()]
    }
}

/// What a session hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It is open: for the first time, or again.
    Open,
    /// A message.
    Message(String),
    /// It is closed, for this reason.
    Closed(u16),
}

/// A session. It hears on one task and sends on another, as browsers do.
#[derive(Debug)]
pub struct Session {
    balancer: Arc<Balancer>,
    transport: Transport,
    base: String,
    room: String,
}

/// The session's ear.
#[derive(Debug)]
pub struct Ear {
    session: Arc<Session>,
    connections: BTreeMap<SocketAddr, Connection>,
    /// The answer that goes on, and what was heard of it and not taken.
    answer: Option<Answer>,
    heard: std::collections::VecDeque<Heard>,
    /// How many requests there were.
    pub requests: usize,
}

/// The session's mouth.
#[derive(Debug)]
pub struct Mouth {
    session: Arc<Session>,
    connections: BTreeMap<SocketAddr, Connection>,
}

impl Session {
    /// A session that nobody knows yet, in a room of its own. It takes the address that `/info` gives if
    /// it `follows` that.
    pub async fn begin(
        balancer: &Arc<Balancer>,
        transport: Transport,
        name: &str,
        follows: bool,
    ) -> Result<(Ear, Mouth), Failure> {
        let mut base = "/ws".to_owned();
        if follows {
            let addr = balancer.next();
            let mut connection = Connection::open(addr).await?;
            let answer = connection.ask("GET", "/ws/info", "", "").await?;
            let body = answer.whole(&mut connection).await?;
            let info: Value = serde_json::from_slice(&body)?;
            let url = info["base_url"].as_str().ok_or("no base_url in /info")?;
            let path = url.split_once("://").ok_or("no URL")?.1;
            base = path[path.find('/').ok_or("no path")?..].to_owned();
        }
        let session = Arc::new(Self {
            balancer: balancer.clone(),
            transport,
            base: format!("{base}/000/{name}"),
            room: name.to_owned(),
        });
        let ear = Ear {
            session: session.clone(),
            connections: BTreeMap::new(),
            answer: None,
            heard: std::collections::VecDeque::new(),
            requests: 0,
        };
        let mouth = Mouth {
            session,
            connections: BTreeMap::new(),
        };
        Ok((ear, mouth))
    }
}

impl Ear {
    /// What comes next, over as many requests as that takes. A status other than 200, or an answer that
    /// breaks off, is an error.
    pub async fn hear(&mut self) -> Result<Heard, Failure> {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return Ok(heard);
            }
            let Some(mut answer) = self.answer.take() else {
                self.answer = Some(self.ask().await?);
                continue;
            };
            let addr = answer.addr;
            let connection = self.connections.get_mut(&addr).ok_or("no connection")?;
            match answer.part(connection).await {
                Ok(Some(part)) => {
                    let part = String::from_utf8(part)?;
                    for frame in self.session.transport.frames(&part)? {
                        read(&frame, &mut self.heard)?;
                    }
                    self.answer = Some(answer);
                }
                Ok(None) => {}
                Err(error) => {
                    self.connections.remove(&addr);
                    return Err(error);
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<Answer, Failure> {
        self.requests += 1;
        let session = &self.session;
        let addr = session.balancer.next();
        let (method, name) = session.transport.receive();
        let path = format!("{}/{name}room={}", session.base, session.room);
        let connection = Connection::of(&mut self.connections, addr).await?;
        let answer = connection.ask(method, &path, "", "").await?;
        if answer.status != 200 {
            return Err(format!("{path} at {addr} answered {}", answer.status).into());
        }
        Ok(answer)
    }
}

impl Mouth {
    /// Sends messages in one request.
    pub async fn say(&mut self, messages: &[String]) -> Result<(), Failure> {
        let session = &self.session;
        let addr = session.balancer.next();
        let (name, media, expected) = session.transport.send();
        let path = format!("{}/{name}", session.base);
        let body = serde_json::to_string(messages)?;
        let connection = Connection::of(&mut self.connections, addr).await?;
        let exchange = async {
            let answer = connection.ask("POST", &path, media, &body).await?;
            let status = answer.status;
            answer.whole(connection).await?;
            Ok::<_, Failure>(status)
        };
        let status = timeout(TIMEOUT, exchange).await??;
        if status != expected {
            return Err(format!("{path} at {addr} answered {status}").into());
        }
        Ok(())
    }
}

fn read(frame: &str, heard: &mut std::collections::VecDeque<Heard>) -> Result<(), Failure> {
    let (kind, rest) = frame.split_at(1);
    match kind {
        "o" => heard.push_back(Heard::Open),
        "h" => {}
        "a" => {
            let texts: Vec<String> = serde_json::from_str(rest)?;
            heard.extend(texts.into_iter().map(Heard::Message));
        }
        "c" => {
            let (code, _reason): (u16, String) = serde_json::from_str(rest)?;
            heard.push_back(Heard::Closed(code));
        }
        _ => return Err(format!("no frame: {frame}").into()),
    }
    Ok(())
}

/// A connection that is kept from request to request.
#[derive(Debug)]
struct Connection {
    addr: SocketAddr,
    stream: TcpStream,
    read: Vec<u8>,
}

/// The head of an answer, and how its body is told.
#[derive(Debug)]
struct Answer {
    addr: SocketAddr,
    status: u16,
    /// `None`: in chunks.
    length: Option<usize>,
    over: bool,
}

impl Connection {
    async fn open(addr: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            addr,
            stream,
            read: Vec::new(),
        })
    }

    async fn of(
        all: &mut BTreeMap<SocketAddr, Self>,
        addr: SocketAddr,
    ) -> Result<&mut Self, Failure> {
        // One that the node closed meanwhile says so when it is read.
        let is_usable = all.get(&addr).is_some_and(|known| {
            let mut byte = [0];
            matches!(known.stream.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        if !is_usable {
            all.insert(addr, Self::open(addr).await?);
        }
        all.get_mut(&addr).ok_or_else(|| "no connection".into())
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        media: &str,
        body: &str,
    ) -> Result<Answer, Failure> {
        let addr = self.addr;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await?;
        let head = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8(head)?.to_ascii_lowercase();
        let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        let length = match field("transfer-encoding:") {
            Some(_) => None,
            None => Some(field("content-length:").map_or(Ok(0), |text| text.parse())?),
        };
        Ok(Answer {
            addr,
            status,
            length,
            over: false,
        })
    }

    async fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(at) = self
                .read
                .windows(end.len())
                .position(|window| window == end)
            {
                let rest = self.read.split_off(at + end.len());
                return Ok(std::mem::replace(&mut self.read, rest));
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Failure> {
        while self.read.len() < count {
            self.more().await?;
        }
        let rest = self.read.split_off(count);
        Ok(std::mem::replace(&mut self.read, rest))
    }

    async fn more(&mut self) -> Result<(), Failure> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err("the answer broke off".into()),
            _ => Ok(()),
        }
    }
}

impl Answer {
    /// The next part of the body: a chunk, or all of it.
    async fn part(&mut self, connection: &mut Connection) -> Result<Option<Vec<u8>>, Failure> {
        if self.over {
            return Ok(None);
        }
        if let Some(length) = self.length {
            self.over = true;
            return Ok(Some(connection.exactly(length).await?));
        }
        let line = connection.until(b"\r\n").await?;
        let digits = std::str::from_utf8(&line)?.trim();
        let length = usize::from_str_radix(digits, 16)?;
        let mut chunk = connection.exactly(length + 2).await?;
        chunk.truncate(length);
        self.over = length == 0;
        Ok((!self.over).then_some(chunk))
    }

    async fn whole(mut self, connection: &mut Connection) -> Result<Vec<u8>, Failure> {
        let mut whole = Vec::new();
        while let Some(part) = self.part(connection).await? {
            whole.extend(part);
        }
        Ok(whole)
    }
}
