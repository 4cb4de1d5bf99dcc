//! The run: connect everyone, move for a while, count what arrives.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use super::client::{Client, Lane, Part, Stage};
use super::frame::Frame;
use super::histogram::Histogram;
use super::process::{self, Usage};
use super::protocol::Protocol;
use super::transport::Transport;

/// Clients that are being connected at the same time.
const CONNECTING_MAX: usize = 256;
/// How long nobody may make progress while connecting.
const STUCK: Duration = Duration::from_secs(15);
/// One in so many frames is looked into for its age.
const SAMPLED: u64 = 16;
const READ_BYTES: usize = 256 * 1024;
/// Moves that may be written in one go before sockets are read again.
const BURST: usize = 64;
/// How often a slow client reads, and how much: 10 KB a second.
const SLOW_PAUSE: Duration = Duration::from_millis(100);
const SLOW_BYTES: usize = 1000;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Servers, as `ws://HOST:PORT` or `wss://HOST:PORT`; clients of a room are spread over them in turn.
    pub urls: Vec<String>,
    /// Certificates (PEM) that servers with `wss` are to be trusted for.
    pub ca: Option<PathBuf>,
    /// What is spoken.
    pub protocol: Protocol,
    /// What carries it; anything but a WebSocket carries the tutorial's JSON only.
    pub transport: Transport,
    /// Number of rooms.
    pub rooms: usize,
    /// Clients in each room.
    pub members: usize,
    /// Rooms of its own that each client is in besides, v1 only.
    pub more: usize,
    /// How many of them move.
    pub senders: usize,
    /// How many of the others read 10 KB a second and no more. What arrives at them is told apart.
    pub slow: usize,
    /// Moves per second of each that moves.
    pub rate: f64,
    /// How long is measured.
    pub measured: Duration,
    /// How long is moved before that.
    pub warmup: Duration,
    /// Processes whose processor time and memory are told.
    pub pids: Vec<u32>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Clients that were there.
    pub clients: usize,
    /// New clients per second while all were connecting.
    pub connects_per_second: f64,
    /// Memory that the processes took for each idle client, in bytes; of all processes together.
    pub idle_client_bytes: Option<f64>,
    /// Length of the measurement in seconds.
    pub seconds: f64,
    /// Moves sent in it.
    pub sent: u64,
    /// Moves made in it that were never sent: a newer one came while the one before them was under way.
    /// Over HTTP only.
    pub replaced: u64,
    /// Moves that should have arrived in it: every one at everybody in the room (v1: everybody else).
    pub expected: u64,
    /// Moves that arrived in it.
    pub delivered: u64,
    /// Processor time of the processes per move that arrived, in microseconds.
    pub cpu_us_per_delivered: Option<f64>,
    /// The processes' processor time in it, in processors.
    pub cpu_used: f64,
    /// The same of the load itself: near 1 it measured itself.
    pub load_cpu_used: f64,
    /// The longest that a move was sent after its time, in milliseconds.
    pub late_ms_max: f64,
    /// Ages of moves on arrival in milliseconds: median, 90 %, 99 %, oldest.
    pub age_ms: Option<[f64; 4]>,
    /// The same at clients that read slowly: of the newest move of each reading.
    pub slow_age_ms: Option<[f64; 4]>,
    /// How much larger the processes are after the measurement than before anything moved, in bytes.
    pub grown_bytes: Option<u64>,
    /// Clients lost on the way, and why the last one was.
    pub lost: (usize, Option<String>),
}

impl Report {
    /// Part of the expected that arrived.
    pub fn ratio(&self) -> f64 {
        self.delivered as f64 / self.expected.max(1) as f64
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "clients": self.clients,
            "connects_per_second": self.connects_per_second,
            "idle_client_bytes": self.idle_client_bytes,
            "seconds": self.seconds,
            "sent": self.sent,
            "replaced": self.replaced,
            "expected": self.expected,
            "delivered": self.delivered,
            "ratio": self.ratio(),
            "cpu_us_per_delivered": self.cpu_us_per_delivered,
            "cpu_used": self.cpu_used,
            "load_cpu_used": self.load_cpu_used,
            "late_ms_max": self.late_ms_max,
            "age_ms": self.age_ms,
            "slow_age_ms": self.slow_age_ms,
            "grown_bytes": self.grown_bytes,
            "lost": self.lost.0,
            "lost_because": self.lost.1,
        })
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan cannot be carried out.
    #[error("{0}")]
    Plan(String),
    /// Clients could not be connected.
    #[error(
        "only {ready} of {clients} clients are there: {problem}\n  remedy: see whether the server runs, \
         its limits, and `ulimit -n` on both sides"
    )]
    Connect {
        /// Clients that got there.
        ready: usize,
        /// Clients wanted.
        clients: usize,
        /// What happened to the last that did not.
        problem: String,
    },
    /// The operating system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Does what is planned, in this thread. `tell` gets a line for people now and then.
pub fn run(plan: &Plan, mut tell: impl FnMut(&str)) -> Result<Report, LoadError> {
    let mut load = Load::new(plan)?;
    let idle = process::usage(&plan.pids);
    let began = Instant::now();
    load.connect()?;
    let took = began.elapsed();
    let count = load.clients.len();
    tell(&format!(
        "{count} clients are there after {:.2} s",
        took.as_secs_f64()
    ));
    // What was needed for connecting only is given back, if it is.
    load.pass(Duration::from_millis(500))?;
    let connected = process::usage(&plan.pids);

    load.moving = plan.senders > 0 && plan.rate > 0.0;
    load.next_at = load.now_us();
    load.pass(plan.warmup)?;
    load.begin_measuring();
    let (server, own) = (process::usage(&plan.pids), process::own());
    let began = Instant::now();
    load.pass(plan.measured)?;
    let seconds = began.elapsed().as_secs_f64();
    let spent = |before: Usage, after: Usage| after.cpu_seconds - before.cpu_seconds;
    let server_seconds = spent(server, process::usage(&plan.pids));
    let own_seconds = spent(own, process::own());

    let there = load.clients.iter().flatten().count();
    let known = !plan.pids.is_empty();
    let grown = connected.resident_bytes.saturating_sub(idle.resident_bytes);
    let after = process::usage(&plan.pids).resident_bytes;
    Ok(Report {
        clients: there,
        connects_per_second: count as f64 / took.as_secs_f64(),
        idle_client_bytes: known.then(|| grown as f64 / count.max(1) as f64),
        seconds,
        sent: load.sent,
        replaced: load.replaced,
        expected: load.expected,
        delivered: load.delivered,
        cpu_us_per_delivered: (known && load.delivered > 0)
            .then(|| server_seconds * 1e6 / load.delivered as f64),
        cpu_used: server_seconds / seconds,
        load_cpu_used: own_seconds / seconds,
        late_ms_max: load.late_us_max as f64 / 1000.0,
        age_ms: ages(&load.ages),
        slow_age_ms: ages(&load.slow_ages),
        grown_bytes: known.then(|| after.saturating_sub(connected.resident_bytes)),
        lost: (count - there, load.problem.take()),
    })
}

/// Median, 90 %, 99 % and oldest, in milliseconds.
fn ages(of: &Histogram) -> Option<[f64; 4]> {
    let age = |part| of.quantile(part).map(|us| us as f64 / 1000.0);
    Some([age(0.5)?, age(0.9)?, age(0.99)?, age(1.0)?])
}

struct Load<'a> {
    plan: &'a Plan,
    /// The servers, and whether TLS is spoken with them.
    addrs: Vec<(SocketAddr, bool)>,
    tls: Option<Arc<ClientConfig>>,
    rooms: Vec<String>,
    /// What sessions of this run are called, before their number.
    sessions: String,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    clients: Vec<Option<Client>>,
    /// Indices of those who move, in the order of their turns.
    senders: Vec<usize>,
    /// Clients there in each room.
    there: Vec<u64>,
    start: Instant,
    moving: bool,
    turn: usize,
    next_at: u64,
    frame: Vec<u8>,
    seen: u64,
    sent: u64,
    replaced: u64,
    expected: u64,
    delivered: u64,
    late_us_max: u64,
    ages: Histogram,
    slow_ages: Histogram,
    /// When slow clients read next.
    slow_at: Instant,
    ready: usize,
    problem: Option<String>,
}

impl<'a> Load<'a> {
    fn new(plan: &'a Plan) -> Result<Self, LoadError> {
        if plan.senders > plan.members {
            let text = format!(
                "{} senders in a room of {} members\n  remedy: give --senders up to --members",
                plan.senders, plan.members
            );
            return Err(LoadError::Plan(text));
        }
        if plan.senders + plan.slow > plan.members {
            let text = format!(
                "{} senders and {} slow readers in a room of {} members\n  remedy: give fewer, or more \
                 --members",
                plan.senders, plan.slow, plan.members
            );
            return Err(LoadError::Plan(text));
        }
        if plan.transport != Transport::Websocket && plan.protocol != Protocol::Tutorial {
            let text = "SockJS carries the tutorial's JSON only\n  remedy: give --protocol tutorial, or \
                        --transport websocket";
            return Err(LoadError::Plan(text.to_owned()));
        }
        let addrs: Vec<(SocketAddr, bool)> = plan
            .urls
            .iter()
            .map(|url| addr(url))
            .collect::<Result<_, _>>()?;
        let tls = match &plan.ca {
            Some(ca) => Some(trust(ca)?),
            None if addrs.iter().any(|(_, encrypted)| *encrypted) => {
                let text = "wss needs certificates to trust\n  remedy: give --ca FILE (PEM)";
                return Err(LoadError::Plan(text.to_owned()));
            }
            None => None,
        };
        // Rooms take turns, so that not all moves of a room come at once.
        let senders = (0..plan.senders)
            .flat_map(|member| (0..plan.rooms).map(move |room| room * plan.members + member))
            .collect();
        Ok(Self {
            plan,
            addrs,
            tls,
            rooms: (0..plan.rooms).map(|room| format!("load-{room}")).collect(),
            sessions: format!("load-{:x}", since_epoch().as_nanos()),
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BYTES],
            clients: Vec::with_capacity(plan.rooms * plan.members),
            senders,
            there: vec![0; plan.rooms],
            start: Instant::now(),
            moving: false,
            turn: 0,
            next_at: 0,
            frame: Vec::new(),
            seen: 0,
            sent: 0,
            replaced: 0,
            expected: 0,
            delivered: 0,
            late_us_max: 0,
            ages: Histogram::default(),
            slow_ages: Histogram::default(),
            slow_at: Instant::now(),
            ready: 0,
            problem: None,
        })
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn connect(&mut self) -> Result<(), LoadError> {
        let wanted = self.plan.rooms * self.plan.members;
        let (mut best, mut since) = (0, Instant::now());
        while self.ready < wanted {
            while self.clients.len() < wanted && self.clients.len() - self.ready < CONNECTING_MAX {
                let index = self.clients.len();
                let (room, member) = (index / self.plan.members, index % self.plan.members);
                let (addr, encrypted) = self.addrs[member % self.addrs.len()];
                let session = format!("{}-{index}", self.sessions);
                let part = Part {
                    protocol: self.plan.protocol,
                    transport: self.plan.transport,
                    room: &self.rooms[room],
                    session: &session,
                };
                let tls = encrypted.then_some(&self.tls).and_then(Option::as_ref);
                let client = Client::connect(
                    self.poll.registry(),
                    index,
                    (addr, tls),
                    (room, part),
                    (0..self.plan.more).map(|more| format!("load-own-{index}-{more}")),
                    member >= self.plan.members - self.plan.slow,
                )?;
                self.clients.push(Some(client));
            }
            self.turn_once(Duration::from_millis(100))?;
            if self.ready > best {
                (best, since) = (self.ready, Instant::now());
            }
            if self.problem.is_some() || since.elapsed() > STUCK {
                let problem = self.problem.take();
                return Err(LoadError::Connect {
                    ready: self.ready,
                    clients: wanted,
                    problem: problem.unwrap_or_else(|| "no answer for 15 s".to_owned()),
                });
            }
        }
        Ok(())
    }

    fn begin_measuring(&mut self) {
        (self.sent, self.replaced, self.expected) = (0, 0, 0);
        (self.delivered, self.late_us_max) = (0, 0);
        self.ages.clear();
        self.slow_ages.clear();
    }

    /// Goes on for so long.
    fn pass(&mut self, time: Duration) -> Result<(), LoadError> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn_once(left)?;
        }
    }

    fn turn_once(&mut self, longest: Duration) -> Result<(), LoadError> {
        let mut wait = match self.send_due() {
            Some(us) => Duration::from_micros(us).min(longest),
            None => longest,
        };
        if self.plan.slow > 0 {
            wait = wait.min(self.slow_at.saturating_duration_since(Instant::now()));
        }
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let now_us = self.now_us();
        for event in &self.events {
            let (index, lane) = Lane::of(event.token());
            let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else {
                continue;
            };
            let registry = self.poll.registry();
            let before = client.stage();
            let mut outcome = Ok(());
            if event.is_writable() {
                outcome = client.flush(lane);
            }
            let waits = client.slow && before == Stage::Ready;
            if event.is_readable() && outcome.is_ok() && lane == Lane::Speaks {
                outcome = client.read_said(registry, &mut self.buffer, &mut self.frame);
            } else if event.is_readable() && outcome.is_ok() && !waits {
                let (protocol, membership) = (self.plan.protocol, client.membership());
                let (delivered, seen, ages) = (&mut self.delivered, &mut self.seen, &mut self.ages);
                let show = |frame: Frame<'_>| {
                    *delivered += protocol.moves(frame, membership);
                    *seen += 1;
                    if seen.is_multiple_of(SAMPLED)
                        && let Some(age) = protocol.age_us(frame, now_us)
                    {
                        ages.add(age);
                    }
                };
                outcome = client.read_at_most(registry, usize::MAX, &mut self.buffer, show);
            }
            if before != Stage::Ready && client.stage() == Stage::Ready {
                self.ready += 1;
                self.there[client.room] += u64::from(!client.slow);
            }
            if let Err(error) = outcome {
                if client.stage() == Stage::Ready {
                    self.there[client.room] -= u64::from(!client.slow);
                }
                self.problem = Some(error.to_string());
                self.clients[index] = None;
            }
        }
        if self.plan.slow > 0 && Instant::now() >= self.slow_at {
            self.slow_at = Instant::now() + SLOW_PAUSE;
            self.read_slowly();
        }
        Ok(())
    }

    /// Lets every slow client read a little.
    fn read_slowly(&mut self) {
        let now_us = self.now_us();
        let protocol = self.plan.protocol;
        let registry = self.poll.registry();
        for slot in &mut self.clients {
            let Some(client) = slot
                .as_mut()
                .filter(|client| client.slow && client.stage() == Stage::Ready)
            else {
                continue;
            };
            let mut newest: Option<u64> = None;
            let outcome = client.read_at_most(registry, SLOW_BYTES, &mut self.buffer, |frame| {
                if let Some(age) = protocol.age_us(frame, now_us) {
                    newest = Some(newest.map_or(age, |newest| newest.min(age)));
                }
            });
            if let Some(age) = newest {
                self.slow_ages.add(age);
            }
            if let Err(error) = outcome {
                self.problem = Some(error.to_string());
                *slot = None;
            }
        }
    }

    /// Sends the moves whose time has come; tells how long until the next, in microseconds.
    fn send_due(&mut self) -> Option<u64> {
        if !self.moving {
            return None;
        }
        let between = 1e6 / (self.plan.rate * self.senders.len() as f64);
        let begin = self.next_at;
        for _ in 0..BURST {
            let now_us = self.now_us();
            let due = begin + (self.turn as f64 * between) as u64;
            if due > now_us {
                return Some(due - now_us);
            }
            self.late_us_max = self.late_us_max.max(now_us - due);
            let index = self.senders[self.turn % self.senders.len()];
            self.turn += 1;
            let Some(client) = self.clients[index].as_mut() else {
                continue;
            };
            let registry = self.poll.registry();
            let room = &self.rooms[client.room];
            match client.say_move(registry, room, now_us, &mut self.frame) {
                Ok(false) => {
                    // This one takes the place of one that is counted already.
                    self.replaced += 1;
                    continue;
                }
                Ok(true) => {}
                Err(error) => self.problem = Some(error.to_string()),
            }
            self.sent += 1;
            let own = u64::from(self.plan.protocol.echoes());
            self.expected += self.there[client.room] + own - 1;
        }
        Some(0)
    }
}

fn since_epoch() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// What trusts the certificates in a file.
fn trust(ca: &Path) -> Result<Arc<ClientConfig>, LoadError> {
    let unusable = |problem: String| {
        LoadError::Plan(format!(
            "{}: {problem}\n  remedy: give a PEM file with the server's certificate or its issuer's",
            ca.display()
        ))
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca).map_err(|e| unusable(e.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A server's address, and whether TLS is spoken with it.
fn addr(url: &str) -> Result<(SocketAddr, bool), LoadError> {
    let wrong = |problem: &str| {
        LoadError::Plan(format!(
            "{}: {problem}\n  remedy: give a server's address such as ws://127.0.0.1:7071",
            url.escape_debug()
        ))
    };
    let (authority, encrypted) = match (url.strip_prefix("ws://"), url.strip_prefix("wss://")) {
        (Some(authority), _) => (authority, false),
        (_, Some(authority)) => (authority, true),
        _ => return Err(wrong("does not begin with ws:// or wss://")),
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let mut addrs = authority
        .to_socket_addrs()
        .map_err(|error| wrong(&error.to_string()))?;
    let addr = addrs.next();
    addr.map(|addr| (addr, encrypted))
        .ok_or_else(|| wrong("the name has no address"))
}
