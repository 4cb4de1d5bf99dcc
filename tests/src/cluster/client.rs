//! A page that moves, writes and watches, over the tutorial's protocol, and keeps a diary of what
//! its user sees.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::Failure;

/// How often a page tries again when its connection is lost.
const RETRY: Duration = Duration::from_millis(200);
/// Every so many movements it also writes something.
const WRITE_EVERY: u64 = 10;
/// Problems beyond this many are not kept: the first ones tell.
const PROBLEMS_MAX: usize = 20;

/// A page on one node; dropping it closes it.
#[derive(Debug)]
pub struct Client {
    /// Its name, which it also tells the others.
    pub name: String,
    /// The node it is connected to.
    pub node: String,
    diary: Arc<Mutex<Diary>>,
    task: JoinHandle<()>,
}

/// What one page's user saw.
#[derive(Debug, Default)]
pub struct Diary {
    /// Everybody who was heard, this page included, by the id that the server gave.
    pub heard: BTreeMap<String, Heard>,
    /// The page's own ids, one per connection, the last one current.
    pub own: Vec<String>,
    /// Connections that were opened so far.
    pub connections: u64,
    /// Connections that could not be opened.
    pub refused: u64,
    /// Whether the connection is open now.
    pub open: bool,
    /// What must not be: something twice, or something older after something newer.
    pub problems: Vec<String>,
}

/// What a page heard of one sender.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    /// The name the sender tells.
    pub who: String,
    /// Messages.
    pub messages: u64,
    /// The newest number.
    pub last: u64,
    /// Numbers that were skipped, since the last mark.
    pub missing: u64,
    /// When the newest message came.
    pub at: Option<Instant>,
    /// The longest time without a message since the last mark.
    pub gap_max: Duration,
    /// Ages of messages on arrival since the last mark, in microseconds.
    pub ages_us: Vec<u64>,
    /// How often the page was told that the sender left, since the last mark.
    pub left: u32,
}

impl Client {
    /// Opens a page on `node`, which moves every `period`, or only watches.
    pub fn open(
        name: &str,
        node: &str,
        addr: SocketAddr,
        room: &str,
        period: Option<Duration>,
    ) -> Self {
        let diary = Arc::new(Mutex::new(Diary::default()));
        let page = Page {
            name: name.to_owned(),
            addr,
            room: room.to_owned(),
            period,
            diary: diary.clone(),
        };
        Self {
            name: name.to_owned(),
            node: node.to_owned(),
            diary,
            task: tokio::spawn(page.run()),
        }
    }

    /// What the user saw so far.
    pub fn diary(&self) -> MutexGuard<'_, Diary> {
        lock(&self.diary)
    }

    /// The id of the current connection, once its own first message came back.
    pub fn id(&self) -> Option<String> {
        self.diary().own.last().cloned()
    }

    /// From now on gaps, ages, departures and missing numbers count anew.
    pub fn mark(&self) {
        for heard in self.diary().heard.values_mut() {
            heard.missing = 0;
            heard.gap_max = Duration::ZERO;
            heard.ages_us.clear();
            heard.left = 0;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Diary {
    fn note(&mut self, text: &str, own_name: &str) {
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return self.problem(format!("not JSON: {text}"));
        };
        let Some(sender) = message["sender"].as_str() else {
            return self.problem(format!("no sender: {text}"));
        };
        let now = Instant::now();
        let heard = self.heard.entry(sender.to_owned()).or_default();
        if message["left"] == true {
            heard.left += 1;
            heard.at = None;
            return;
        }
        let (Some(number), Some(sent)) = (message["n"].as_u64(), message["t"].as_u64()) else {
            return self.problem(format!("not of a page: {text}"));
        };
        if heard.messages == 0 {
            heard.who = message["who"].as_str().unwrap_or_default().to_owned();
        } else if number <= heard.last {
            let last = heard.last;
            let who = heard.who.clone();
            return self.problem(format!("{who} said {number} after {last}"));
        } else {
            heard.missing += number - heard.last - 1;
        }
        if let Some(before) = heard.at {
            heard.gap_max = heard.gap_max.max(now - before);
        }
        heard.at = Some(now);
        heard.last = number;
        heard.messages += 1;
        heard.ages_us.push(unix_us().saturating_sub(sent));
        let own = heard.who == own_name && !self.own.iter().any(|id| id == sender);
        if own {
            self.own.push(sender.to_owned());
        }
    }

    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }
}

struct Page {
    name: String,
    addr: SocketAddr,
    room: String,
    period: Option<Duration>,
    diary: Arc<Mutex<Diary>>,
}

impl Page {
    async fn run(self) {
        loop {
            let outcome = timeout(Duration::from_secs(10), self.connect()).await;
            if let Ok(Ok(socket)) = outcome {
                {
                    let mut diary = lock(&self.diary);
                    diary.connections += 1;
                    diary.open = true;
                }
                // How a connection ends does not matter: the page opens another.
                let _ = self.converse(socket).await;
                let mut diary = lock(&self.diary);
                diary.open = false;
                // What others sent meanwhile was not for this page: no gap, nothing missing.
                diary.heard.clear();
            } else {
                lock(&self.diary).refused += 1;
            }
            sleep(RETRY).await;
        }
    }

    async fn connect(&self) -> Result<Socket, Failure> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let url = format!("ws://{}/ws?room={}", self.addr, self.room);
        Ok(tokio_tungstenite::client_async(url, stream).await?.0)
    }

    async fn converse(&self, socket: Socket) -> Result<(), Failure> {
        let (mut sink, mut stream) = socket.split();
        let talk = async {
            let Some(period) = self.period else {
                return std::future::pending::<Result<(), Failure>>().await;
            };
            let mut due = interval(period);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut number = 0;
            loop {
                due.tick().await;
                number += 1;
                sink.send(Message::text(self.message(number))).await?;
            }
        };
        let listen = async {
            while let Some(message) = stream.next().await {
                if let Message::Text(text) = message? {
                    lock(&self.diary).note(&text, &self.name);
                }
            }
            Ok(())
        };
        tokio::select! {
            outcome = talk => outcome,
            outcome = listen => outcome,
        }
    }

    fn message(&self, number: u64) -> String {
        let who = &self.name;
        let sent = unix_us();
        let angle = number as f64 / 20.0;
        let (x, y) = (400.0 + 300.0 * angle.cos(), 300.0 + 200.0 * angle.sin());
        let text = if number.is_multiple_of(WRITE_EVERY) {
            format!(",\"text\":\"{who} writes {number}\"")
        } else {
            String::new()
        };
        format!("{{\"x\":{x:.1},\"y\":{y:.1},\"n\":{number},\"t\":{sent},\"who\":\"{who}\"{text}}}")
    }
}

type Socket = tokio_tungstenite::WebSocketStream<TcpStream>;

fn lock(diary: &Mutex<Diary>) -> MutexGuard<'_, Diary> {
    diary.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told(number: u64) -> String {
        format!(
            "{{\"n\":{number},\"t\":{},\"who\":\"a\",\"sender\":\"s\"}}",
            unix_us()
        )
    }

    #[test]
    fn what_comes_twice_or_late_is_a_problem_and_what_is_skipped_is_counted() {
        let mut diary = Diary::default();
        for number in [1, 2, 5] {
            diary.note(&told(number), "b");
        }
        assert!(diary.problems.is_empty());
        assert_eq!(diary.heard["s"].missing, 2);
        diary.note(&told(5), "b");
        diary.note(&told(4), "b");
        assert_eq!(diary.problems, ["a said 5 after 5", "a said 4 after 5"]);
    }

    #[test]
    fn a_page_learns_its_own_id_and_counts_departures() {
        let mut diary = Diary::default();
        diary.note(&told(1), "a");
        diary.note("{\"x\":0,\"left\":true,\"sender\":\"t\"}", "a");
        assert_eq!(diary.own, ["s"]);
        assert_eq!(diary.heard["t"].left, 1);
    }
}
