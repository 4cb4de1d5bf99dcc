//! The threads that serve WebSocket connections, each with a poller of its own.
//!
//! A connection belongs to one thread from its upgrade to its end. Reading, deciding and the flushes of
//! rooms happen there, one after the other, so that a message costs no switch between threads and a
//! quiet connection costs no task. Whoever else has something for a connection writes to its socket
//! directly; what does not fit, its poller writes when the socket has room.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use rustls::ServerConnection;
use slab::Slab;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant};

use super::close::Close;
use super::connection::{Connection, READ_BYTES, Ready, Shared};
use super::mailbox::{Attention, Command, Mailbox};
use super::socket::Socket;
use crate::config::Config;
use crate::hub::Hub;
use crate::hub::outbox;
use crate::hub::room::Room;
use crate::hub::ticker::{self, Hosted, Load};
use crate::session::End;
use crate::session::dialect::Dialect;

/// Events taken from the system at a time.
const EVENTS: usize = 1024;

/// The least time between two looks at a connection that are for the time's sake.
const PAUSE_MIN: Duration = Duration::from_millis(1);

const WAKE: Token = Token(usize::MAX);

/// A connection that has become a WebSocket.
pub(crate) struct Arrival {
    /// Its socket.
    pub(crate) stream: TcpStream,
    /// The state of its encryption, if it is encrypted.
    pub(crate) tls: Option<ServerConnection>,
    /// What the client sent right after its opening handshake.
    pub(crate) early: Bytes,
    /// What it speaks.
    pub(crate) dialect: Dialect,
    /// Whether it speaks that in SockJS frames.
    pub(crate) framed: bool,
    /// Its share of the connection limit.
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
}

/// The threads that serve connections. They end, and their connections with them, when it is dropped.
pub(crate) struct Pollers {
    mailboxes: Vec<Arc<Mailbox>>,
    next: AtomicUsize,
}

impl Pollers {
    /// Starts `count` threads, which also run the flushes of the hub's rooms. To be called from within
    /// a tokio runtime.
    pub(crate) fn start(count: usize, hub: &Hub, config: &Arc<Config>) -> io::Result<Self> {
        let mut pollers = Self {
            mailboxes: Vec::new(),
            next: AtomicUsize::new(0),
        };
        let mut hosts: Vec<Hosted> = Vec::new();
        for index in 0..count.max(1) {
            let poll = Poll::new()?;
            let mailbox = Arc::new(Mailbox::new(Waker::new(poll.registry(), WAKE)?));
            let load = Arc::new(Load::new(config.tick));
            let poller = Poller {
                poll,
                mailbox: mailbox.clone(),
                shared: Shared {
                    hub: hub.clone(),
                    config: config.clone(),
                    scratch: Box::new([0; READ_BYTES]),
                },
                connections: Slab::new(),
                timers: BinaryHeap::new(),
                flushes: BinaryHeap::new(),
                stopping: false,
            };
            let runtime = Handle::current();
            let gauge = ticker::Gauge::new(load.clone(), Instant::now());
            thread::Builder::new()
                .name(format!("web-{index}"))
                .spawn(move || {
                    // Rooms start timers of the runtime.
                    let _guard = runtime.enter();
                    poller.run(gauge);
                })?;
            pollers.mailboxes.push(mailbox.clone());
            hosts.push((mailbox, load));
        }
        hub.context().ticker.install(hosts);
        Ok(pollers)
    }

    /// Serves a connection on one of the threads, the next in turn.
    pub(crate) fn adopt(&self, arrival: Arrival) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mailbox = &self.mailboxes[turn % self.mailboxes.len()];
        // Where the node has stopped meanwhile, the socket is dropped.
        let _ = mailbox.send(Command::Adopt(Box::new(arrival)));
    }

    /// Closes all connections with code 1012, those that come later too.
    pub(crate) fn stop(&self) {
        self.tell_all(|| Command::Stop);
    }

    /// Drops all connections and ends the threads.
    pub(crate) fn quit(&self) {
        self.tell_all(|| Command::Quit);
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for mailbox in &self.mailboxes {
            // One that is gone has nothing left to do.
            let _ = mailbox.send(command());
        }
    }
}

impl Drop for Pollers {
    fn drop(&mut self) {
        self.quit();
    }
}

/// What one thread has.
struct Poller {
    poll: Poll,
    mailbox: Arc<Mailbox>,
    shared: Shared,
    connections: Slab<Connection>,
    /// When connections are to be driven. An entry counts if it is the connection's own timer.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    flushes: BinaryHeap<Flush>,
    stopping: bool,
}

impl Poller {
    fn run(mut self, mut gauge: ticker::Gauge) {
        let mut events = Events::with_capacity(EVENTS);
        let mut commands = Vec::new();
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    // Nothing that a client does leads here.
                    tracing::error!(%error, "a poller failed: its connections are dropped");
                    return;
                }
                _ => {}
            }
            let began = Instant::now();
            self.mailbox.wake_up();
            for event in &events {
                if event.token() != WAKE {
                    let ready = Ready {
                        readable: event.is_readable() || event.is_error(),
                        writable: event.is_writable(),
                    };
                    self.drive(event.token().0, ready, began);
                }
            }
            self.mailbox.take(&mut commands);
            for command in commands.drain(..) {
                match command {
                    Command::Adopt(arrival) => self.adopt(*arrival),
                    Command::Attend(number) => self.drive(number, Ready::default(), began),
                    Command::Flush(due, room) => self.flushes.push(Flush { due, room }),
                    Command::Stop => self.stop(),
                    Command::Quit => return self.quit(),
                }
            }
            if !self.flushes.is_empty() {
                outbox::gather(|| self.flush_due(&mut gauge));
            }
            self.drive_due();
            let now = Instant::now();
            gauge.worked(now - began, now);
        }
    }

    /// How long to wait for events.
    fn timeout(&self) -> Option<Duration> {
        if !self.mailbox.may_sleep() {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.peek().map(|Reverse((due, _))| *due);
        let flush = self.flushes.peek().map(|flush| flush.due);
        let due = timer.into_iter().chain(flush).min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn adopt(&mut self, arrival: Arrival) {
        let number = self.connections.vacant_key();
        let open = AssertUnwindSafe(|| self.open(number, arrival));
        match catch_unwind(open).unwrap_or_else(|_| Err(io::Error::other("a failure"))) {
            Ok(connection) => {
                self.connections.insert(connection);
                if self.stopping {
                    self.end(number);
                } else {
                    self.drive(number, Ready::default(), Instant::now());
                }
            }
            Err(error) => tracing::debug!(%error, "connection lost in its upgrade"),
        }
    }

    fn open(&mut self, number: usize, arrival: Arrival) -> io::Result<Connection> {
        let stream = mio::net::TcpStream::from_std(arrival.stream.into_std()?);
        let attention = Attention::new(self.mailbox.clone(), number);
        let mut socket = Socket::new(stream, arrival.tls, arrival.framed, attention);
        register(self.poll.registry(), &mut socket, number)?;
        Ok(Connection::open(
            Arc::new(socket),
            arrival.dialect,
            &arrival.early,
            arrival.permit,
            &self.shared,
        ))
    }

    /// Lets a connection do what it has to. One that panics is dropped, alone.
    fn drive(&mut self, number: usize, ready: Ready, now: Instant) {
        let Some(connection) = self.connections.get_mut(number) else {
            return;
        };
        let shared = &mut self.shared;
        let drive = AssertUnwindSafe(|| connection.drive(ready, now, shared));
        match catch_unwind(drive) {
            Ok(true) => self.set_timer(number, now),
            Ok(false) => drop(self.connections.remove(number)),
            Err(_) => {
                tracing::error!("a connection failed and was dropped");
                drop(self.connections.remove(number));
            }
        }
    }

    fn set_timer(&mut self, number: usize, now: Instant) {
        let connection = &mut self.connections[number];
        // Never at once: others go first.
        let due = connection.deadline().max(now + PAUSE_MIN);
        if connection.timer.is_none_or(|timer| due < timer) {
            connection.timer = Some(due);
            self.timers.push(Reverse((due, number)));
        }
    }

    fn drive_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, number))) = self.timers.peek().copied() {
            if due > now {
                return;
            }
            self.timers.pop();
            let Some(connection) = self.connections.get_mut(number) else {
                continue;
            };
            if connection.timer == Some(due) {
                connection.timer = None;
                self.drive(number, Ready::default(), now);
            }
        }
    }

    fn flush_due(&mut self, gauge: &mut ticker::Gauge) {
        let mut now = Instant::now();
        while self.flushes.peek().is_some_and(|flush| flush.due <= now) {
            let Some(Flush { due, room }) = self.flushes.pop() else {
                return;
            };
            gauge.flushed(now - due);
            if catch_unwind(AssertUnwindSafe(|| room.flush())).is_err() {
                tracing::error!(room = room.name(), "a flush failed");
            }
            now = Instant::now();
        }
    }

    /// Drops all connections. What that means for their rooms still goes to the cluster.
    fn quit(mut self) {
        self.connections.clear();
        for command in self.mailbox.close() {
            if let Command::Flush(due, room) = command {
                self.flushes.push(Flush { due, room });
            }
        }
        for Flush { room, .. } in self.flushes.drain() {
            room.flush();
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        let numbers: Vec<usize> = self.connections.iter().map(|(number, _)| number).collect();
        for number in numbers {
            self.end(number);
        }
    }

    fn end(&mut self, number: usize) {
        let stays = self.connections[number].end(End::Node(Close::SHUTDOWN), &self.shared);
        if stays {
            self.drive(number, Ready::default(), Instant::now());
        } else {
            self.connections.remove(number);
        }
    }
}

/// Readiness is told once per change, so that a socket that takes no bytes is not told about again
/// and again.
fn register(registry: &Registry, socket: &mut Socket, number: usize) -> io::Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    registry.register(socket.stream_mut(), Token(number), interest)
}

/// A room's flush; the one that is due first is the greatest.
struct Flush {
    due: Instant,
    room: Arc<Room>,
}

impl Ord for Flush {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}

impl PartialOrd for Flush {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flush {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Flush {}
