//! One WebSocket connection, from the upgrade to the last byte. It never waits: its poller says what
//! happened, and it says when it wants to be looked after next.

use std::io;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::close::Close;
use super::decoder::{Decoder, Incoming};
use super::frame::{self, Opcode};
use super::pace::{CLOGGED_READ_BYTES, Pace};
use super::socket::Socket;
use crate::config::Config;
use crate::hub::Hub;
use crate::hub::budget::Flow;
use crate::hub::outbox::{Outbox, State};
use crate::metrics::Metrics;
use crate::session::dialect::Dialect;
use crate::session::{End, Session};
use crate::sockjs::framing::Framed;

/// Bytes read from a socket at a time, into a buffer that the connections of a poller share.
pub(super) const READ_BYTES: usize = 16 * 1024;

/// How often in a row a connection is given what it was owed. A client that takes it as fast as it
/// comes lets others go first then.
const CATCH_UPS: usize = 8;

/// What happened to a connection's socket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ready {
    /// There may be something to read, or an end.
    pub(super) readable: bool,
    /// It may take something.
    pub(super) writable: bool,
}

/// What all connections of a poller share.
pub(super) struct Shared {
    pub(super) hub: Hub,
    pub(super) config: Arc<Config>,
    pub(super) scratch: Box<[u8; READ_BYTES]>,
}

/// One connection.
pub(super) struct Connection {
    id: Uuid,
    socket: Arc<Socket>,
    outbox: Arc<Outbox>,
    stage: Stage,
    /// The socket may hold something that was not read.
    readable: bool,
    /// The poller's timer for it, if one runs.
    pub(super) timer: Option<Instant>,
    _permit: Arc<OwnedSemaphorePermit>,
}

enum Stage {
    Open(Box<Open>),
    /// It is over but for the last bytes.
    Leaving {
        deadline: Instant,
        /// All is written.
        shut: bool,
    },
}

/// A connection that is not over.
struct Open {
    session: Box<dyn Session>,
    decoder: Decoder,
    /// What the decoder holds, as the outbox knows it.
    held_bytes: usize,
    /// Whole messages so far.
    messages: u64,
    /// Something waited, and the session does not know yet that it is taken.
    waited: bool,
    last_heard: Instant,
    last_ping: Instant,
    /// How often it is pinged.
    ping_interval: Duration,
    /// When to see next whether the client lives.
    check_at: Instant,
    /// When what is readable may be read.
    read_at: Instant,
    pace: Pace,
}

impl Connection {
    /// A connection that speaks `dialect`; `early` is what the client sent right after its opening
    /// handshake.
    pub(super) fn open(
        socket: Arc<Socket>,
        dialect: Dialect,
        early: &[u8],
        permit: Arc<OwnedSemaphorePermit>,
        shared: &Shared,
    ) -> Self {
        let Shared { hub, config, .. } = shared;
        let outbox = hub.outbox(socket.clone());
        let now = Instant::now();
        let framed = socket.is_framed();
        let transport = if framed {
            "sockjs websocket"
        } else {
            "websocket"
        };
        let (id, mut session) = dialect.open(hub, config, &outbox, transport);
        if framed {
            session = Box::new(Framed::new(session, config.message_bytes_max));
        }
        let metrics = hub.metrics();
        metrics.connections.rise(1);
        metrics.connections_total.increment();
        let mut open = Box::new(Open {
            session,
            // In a frame of SockJS there are several messages, with escapes that make them longer.
            decoder: Decoder::new(if framed {
                config.message_bytes_max.max(config.sockjs.body_bytes_max)
            } else {
                config.message_bytes_max
            }),
            held_bytes: 0,
            messages: 0,
            waited: false,
            last_heard: now,
            last_ping: now,
            ping_interval: if framed {
                config.ping_interval.min(config.sockjs.heartbeat)
            } else {
                config.ping_interval
            },
            check_at: now,
            read_at: now,
            pace: Pace::new(now),
        });
        open.check_at = open.next_check(config);
        let end = open.take(early, &outbox, metrics);
        open.read_ends(0, &outbox, shared);
        let mut connection = Self {
            id,
            socket,
            outbox,
            stage: Stage::Open(open),
            readable: true,
            timer: None,
            _permit: permit,
        };
        if let Some(end) = end {
            connection.end(end, shared);
        }
        connection
    }

    /// Does what is to be done `now`. False when the connection is gone.
    pub(super) fn drive(&mut self, ready: Ready, now: Instant, shared: &mut Shared) -> bool {
        self.socket.attended();
        self.readable |= ready.readable;
        // A socket that failed says so when it is read.
        if ready.writable && self.socket.flush().unwrap_or(false) {
            self.outbox.write();
        }
        if let Stage::Open(open) = &mut self.stage {
            let (socket, outbox) = (&*self.socket, &*self.outbox);
            let Some(end) = open.drive(&mut self.readable, now, socket, outbox, shared) else {
                return true;
            };
            if !self.end(end, shared) {
                return false;
            }
        }
        self.leave(now, shared)
    }

    /// Ends the connection, unless it is over already. False when it is gone.
    pub(super) fn end(&mut self, end: End, shared: &Shared) -> bool {
        let deadline = Instant::now() + shared.config.close_timeout;
        let leaving = Stage::Leaving {
            deadline,
            shut: false,
        };
        let Stage::Open(_) = &self.stage else {
            return true;
        };
        let Stage::Open(open) = std::mem::replace(&mut self.stage, leaving) else {
            return true;
        };
        let metrics = shared.hub.metrics();
        drop(open.decoder);
        self.outbox.keep_input(0, true);
        open.session.end(end);
        metrics.connections.fall(1);
        match goodbye(self.id, end, metrics) {
            Some(frame) => {
                self.outbox.close(frame);
                true
            }
            None => false,
        }
    }

    /// When to drive it again, whatever happens.
    pub(super) fn deadline(&self) -> Instant {
        match &self.stage {
            Stage::Leaving { deadline, .. } => *deadline,
            Stage::Open(open) => {
                let read_at = self.readable.then_some(open.read_at);
                let due = open.session.deadline().into_iter().chain(read_at).min();
                due.map_or(open.check_at, |due| due.min(open.check_at))
            }
        }
    }

    /// Writes what waits, then reads and discards until the client closes too. A socket dropped with
    /// unread input would be reset, and the client might never see the close frame.
    fn leave(&mut self, now: Instant, shared: &mut Shared) -> bool {
        let Stage::Leaving { deadline, shut } = &mut self.stage else {
            return true;
        };
        if now >= *deadline {
            return false;
        }
        if !*shut {
            match (self.outbox.state(), self.socket.flush()) {
                (State::Waiting | State::Lagging, Ok(_)) | (_, Ok(false)) => {}
                (_, Err(_)) => return false,
                _ => {
                    *shut = true;
                    if self.socket.shutdown().is_err() {
                        return false;
                    }
                }
            }
        }
        for _ in 0..CATCH_UPS {
            match self.socket.read(&mut shared.scratch[..]) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        self.socket.ask_attention();
        true
    }
}

impl Open {
    fn drive(
        &mut self,
        readable: &mut bool,
        now: Instant,
        socket: &Socket,
        outbox: &Outbox,
        shared: &mut Shared,
    ) -> Option<End> {
        if let Some(end) = self.on_time(now, outbox, &shared.config) {
            return Some(end);
        }
        let clogged = match self.settle(socket, outbox, shared) {
            Ok(clogged) => clogged,
            Err(end) => return Some(end),
        };
        if self.session.is_paused() {
            // Silence while the node does not listen is not the client's.
            self.last_heard = now;
            self.read_at = now + shared.config.tick;
            return None;
        }
        self.read_at = self.pace.next_read(clogged);
        if !*readable || now < self.read_at {
            return None;
        }
        if may_read(&self.decoder, shared) == 0 {
            self.rest(now, outbox, &shared.config);
            return None;
        }
        let end = self.read(readable, now, clogged, socket, outbox, shared);
        self.read_at = self.pace.next_read(clogged);
        end
    }

    /// Gives the client what it was owed, as long as it takes it. True if something waits that was not
    /// left out.
    fn settle(&mut self, socket: &Socket, outbox: &Outbox, shared: &Shared) -> Result<bool, End> {
        for _ in 0..CATCH_UPS {
            match outbox.state() {
                State::Idle => {
                    if std::mem::take(&mut self.waited) {
                        self.session.taken();
                    }
                    return Ok(false);
                }
                state @ (State::Waiting | State::Lagging) => {
                    self.waited = true;
                    return Ok(state == State::Waiting);
                }
                State::Behind(since) => self.session.catch_up(Some(since)),
                State::Owed => self.session.catch_up(None),
                State::Ending(close) => return Err(End::Node(close)),
                State::Closed | State::Broken => return Err(End::Broken),
            }
            self.waited = true;
            shared.hub.context().budget.relieve();
        }
        socket.ask_attention();
        Ok(false)
    }

    /// Whether the client lives, and what its session wants to do by time.
    fn on_time(&mut self, now: Instant, outbox: &Outbox, config: &Config) -> Option<End> {
        let is_check = now >= self.check_at;
        let is_session = self.session.deadline().is_some_and(|due| now >= due);
        if !is_check && !is_session {
            return None;
        }
        if let Err(close) = self.session.on_time(now) {
            return Some(End::Node(close));
        }
        if !is_check {
            return None;
        }
        // A process that was stopped did not listen, and that silence is not the client's.
        let late = now.saturating_duration_since(self.check_at);
        self.last_heard = (self.last_heard + late).min(now);
        if !self.session.is_paused() && now >= self.last_heard + config.dead_after {
            return Some(End::Node(Close::DEAD));
        }
        if now >= self.last_ping + self.ping_interval {
            self.last_ping = now;
            outbox.ping();
        }
        self.check_at = self.next_check(config).max(now + self.ping_interval / 20);
        None
    }

    fn next_check(&self, config: &Config) -> Instant {
        (self.last_ping + self.ping_interval).min(self.last_heard + config.dead_after)
    }

    /// The node has enough to do: what the client says waits for a tick. That is not its silence, and
    /// not its fault if a message is not finished.
    fn rest(&mut self, now: Instant, outbox: &Outbox, config: &Config) {
        self.last_heard = now;
        self.pace.rest(now + config.tick);
        self.read_at = now + config.tick;
        if self.held_bytes > 0 {
            outbox.keep_input(self.held_bytes, true);
        }
    }

    /// Reads what the socket has, within the connection's pace.
    fn read(
        &mut self,
        readable: &mut bool,
        now: Instant,
        clogged: bool,
        socket: &Socket,
        outbox: &Outbox,
        shared: &mut Shared,
    ) -> Option<End> {
        self.pace.begin(now, shared.config.tick);
        let messages = self.messages;
        let mut end = None;
        let bytes_max = if clogged {
            CLOGGED_READ_BYTES
        } else {
            READ_BYTES
        };
        while end.is_none() && !self.pace.is_spent() {
            let bytes_max = bytes_max.min(may_read(&self.decoder, shared));
            if bytes_max == 0 {
                break;
            }
            match socket.read(&mut shared.scratch[..bytes_max]) {
                Ok(0) => end = Some(End::Broken),
                Ok(count) => {
                    self.last_heard = now;
                    let bytes = &shared.scratch[..count];
                    end = self.take(bytes, outbox, shared.hub.metrics());
                    if count < bytes_max && socket.is_empty_after_short_read() {
                        *readable = false;
                        break;
                    }
                    if clogged {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *readable = false;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => end = Some(End::Broken),
            }
        }
        self.read_ends(messages, outbox, shared);
        end
    }

    /// What was read at once is taken; before it there were so many `messages`.
    fn read_ends(&mut self, messages: u64, outbox: &Outbox, shared: &Shared) {
        self.session.read_ends();
        let held_bytes = self.decoder.held_bytes();
        let is_new = self.messages != messages;
        if held_bytes != self.held_bytes || (held_bytes > 0 && is_new) {
            self.held_bytes = held_bytes;
            outbox.keep_input(held_bytes, is_new);
            shared.hub.context().budget.relieve();
        }
    }

    /// Decodes `bytes`; the session takes the messages in it.
    fn take(&mut self, mut bytes: &[u8], outbox: &Outbox, metrics: &Metrics) -> Option<End> {
        metrics.bytes_in.add(bytes.len() as u64);
        self.pace.spend(bytes.len());
        loop {
            let taken = match self.decoder.next(&mut bytes) {
                Ok(None) => return None,
                Ok(Some(Incoming::Text(text))) => {
                    metrics.messages_in.increment();
                    self.messages += 1;
                    self.session.text(text)
                }
                Ok(Some(Incoming::Binary(bytes))) => {
                    metrics.messages_in.increment();
                    self.messages += 1;
                    self.session.binary(bytes)
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    outbox.pong(payload);
                    Ok(0)
                }
                Ok(Some(Incoming::Pong)) => Ok(0),
                Ok(Some(Incoming::Close(code))) => return Some(End::Client(code)),
                Err(close) => Err(close),
            };
            match taken {
                Ok(bytes) => self.pace.spend(bytes),
                Err(close) => return Some(End::Node(close)),
            }
        }
    }
}

/// How many bytes may be read at once now. Where a message that is begun may be finished, the next
/// one does not begin with it.
fn may_read(decoder: &Decoder, shared: &Shared) -> usize {
    match shared.hub.context().budget.flow() {
        Flow::Free => READ_BYTES,
        Flow::Ending => decoder.wanted_bytes().min(READ_BYTES),
        Flow::Stopped => 0,
    }
}

/// The close frame that goes with an end, which is counted and logged; `None` if nobody would get it.
pub(crate) fn goodbye(id: Uuid, end: End, metrics: &Metrics) -> Option<Vec<u8>> {
    match end {
        End::Node(close) => {
            count(metrics, close);
            tracing::info!(
                connection = %id,
                code = close.code,
                reason = close.reason,
                "connection closed by the node"
            );
            Some(frame::close(close))
        }
        End::Client(code) => {
            metrics.closes.client.increment();
            tracing::info!(connection = %id, code, "connection closed by the client");
            let mut frame = Vec::new();
            let payload = code.map(u16::to_be_bytes);
            let payload = payload.as_ref().map_or(&[][..], |code| &code[..]);
            frame::encode(Opcode::Close, payload, &mut frame);
            Some(frame)
        }
        End::Broken => {
            metrics.closes.broken.increment();
            tracing::info!(connection = %id, "connection broken");
            None
        }
    }
}

fn count(metrics: &Metrics, close: Close) {
    let closes = &metrics.closes;
    match close.code {
        1001 => closes.dead.increment(),
        1002 => closes.protocol.increment(),
        1007 => closes.utf8.increment(),
        1009 => closes.too_big.increment(),
        1012 => closes.restart.increment(),
        1013 => closes.overload.increment(),
        3000 => closes.sockjs.increment(),
        4400 => closes.bad_message.increment(),
        4408 => closes.no_hello.increment(),
        4409 => closes.superseded.increment(),
        _ => closes.policy.increment(),
    }
}
