//! One WebSocket connection: its task, from the upgrade to the last byte.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{Instrument, Span};

use super::close::Close;
use super::decoder::{Decoder, Incoming};
use super::frame::{self, Opcode};
use crate::config::Config;
use crate::hub::Hub;
use crate::hub::budget::{Budget, Flow};
use crate::hub::outbox::{FrameSink, Outbox, State};
use crate::metrics::Metrics;
use crate::session::tutorial::Tutorial;
use crate::session::v1::V1;
use crate::session::{End, Session};

/// Bytes read from a socket at a time, into a buffer that the connections of a thread share.
const READ_BYTES: usize = 16 * 1024;

/// Bytes read from one connection and passed on for it in one tick; the rest waits in its socket, so
/// that a client that floods does not make its room pause all others.
const TICK_BYTES: usize = 128 * 1024;

/// Bytes read at a time, and the least time between two reads, from a client that does not take what
/// is sent to it. A client that writes first and reads then is paced by this instead of missing what
/// it could not read while it wrote; one that never reads is slowed, alone.
const CLOGGED_READ_BYTES: usize = 4 * 1024;
const CLOGGED_PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    static SCRATCH: RefCell<Box<[u8; READ_BYTES]>> = RefCell::new(Box::new([0; READ_BYTES]));
}

/// What a connection speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The tutorial's protocol, in a room.
    Tutorial(String),
    /// Protocol v1; with cursors in binary frames, or all in JSON.
    V1 {
        /// Binary frames.
        binary: bool,
    },
}

/// Serves a connection until it ends. `early` is what the client sent right after its opening
/// handshake; `shutdown` turns true when the node stops.
pub(crate) async fn serve(
    stream: TcpStream,
    early: Bytes,
    hub: Hub,
    dialect: Dialect,
    config: Arc<Config>,
    shutdown: watch::Receiver<bool>,
) {
    let stream = Arc::new(stream);
    let outbox = hub.outbox(Box::new(Socket(stream.clone())));
    let socket = (stream, outbox.clone());
    match dialect {
        Dialect::Tutorial(room) => {
            let membership = hub.enter(&room, outbox);
            let span = tracing::info_span!("connection", connection = %membership.member(), room);
            let session = Tutorial::new(hub.clone(), membership);
            run(socket, session, early, &hub, config, shutdown, span).await;
        }
        Dialect::V1 { binary } => {
            let session = V1::new(hub.clone(), outbox, config.clone(), binary);
            let span = tracing::info_span!("connection", connection = %session.id());
            run(socket, session, early, &hub, config, shutdown, span).await;
        }
    }
}

async fn run<S: Session>(
    (stream, outbox): (Arc<TcpStream>, Arc<Outbox>),
    session: S,
    early: Bytes,
    hub: &Hub,
    config: Arc<Config>,
    shutdown: watch::Receiver<bool>,
    span: Span,
) {
    let connection = Connection {
        decoder: Decoder::new(config.message_bytes_max),
        stream,
        outbox,
        session,
        held_bytes: 0,
        messages: 0,
        metrics: hub.metrics().clone(),
        budget: hub.context().budget.clone(),
        config,
        shutdown,
        last_heard: Instant::now(),
        pace: Pace::new(),
    };
    connection.run(early).instrument(span).await;
}

/// The socket as rooms and outboxes see it.
struct Socket(Arc<TcpStream>);

impl FrameSink for Socket {
    fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match bytes {
            // Costs the kernel less than a list of one.
            [bytes] => self.0.try_write(bytes),
            _ => self.0.try_write_vectored(bytes),
        }
    }
}

struct Connection<S> {
    stream: Arc<TcpStream>,
    decoder: Decoder,
    outbox: Arc<Outbox>,
    session: S,
    /// What the decoder holds, as the outbox knows it.
    held_bytes: usize,
    /// Whole messages so far.
    messages: u64,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    config: Arc<Config>,
    shutdown: watch::Receiver<bool>,
    last_heard: Instant,
    pace: Pace,
}

/// How fast a connection is read.
struct Pace {
    last_read: Instant,
    /// When the tick ends that `spent` belongs to.
    tick_end: Instant,
    spent: usize,
    /// The node has enough to do until then.
    rests_until: Instant,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            last_read: now,
            tick_end: now,
            spent: 0,
            rests_until: now,
        }
    }

    /// When the next read may be; `clogged` says that the client does not take what is sent to it.
    fn next_read(&self, clogged: bool) -> Instant {
        let next = if clogged {
            self.last_read + CLOGGED_PAUSE
        } else if self.spent >= TICK_BYTES {
            self.tick_end
        } else {
            self.last_read
        };
        next.max(self.rests_until)
    }

    fn begin(&mut self, tick: Duration) {
        self.last_read = Instant::now();
        if self.last_read >= self.tick_end {
            self.tick_end = self.last_read + tick;
            self.spent = 0;
        }
    }
}

impl<S: Session> Connection<S> {
    async fn run(mut self, early: Bytes) {
        self.metrics.connections.rise(1);
        self.metrics.connections_total.increment();
        tracing::info!("connection opened");
        let end = self.take_early(&early);
        // It holds the buffer of the request.
        drop(early);
        let end = match end {
            Some(end) => end,
            None => self.exchange().await,
        };
        self.finish(end).await;
    }

    /// Reads and writes until the connection is to end.
    async fn exchange(&mut self) -> End {
        let mut last_ping = self.last_heard;
        let timer = sleep_until(self.next_deadline(last_ping));
        tokio::pin!(timer);
        // Something waited, and the session does not know yet that it is taken.
        let mut waited = false;
        loop {
            if let Some(due) = self
                .session
                .deadline()
                .filter(|due| *due < timer.deadline())
            {
                timer.as_mut().reset(due);
            }
            let state = self.outbox.state();
            if state != State::Idle {
                waited = true;
            } else if std::mem::take(&mut waited) {
                self.session.taken();
            }
            let (waiting, clogged) = match state {
                State::Idle => (false, false),
                State::Waiting => (true, true),
                State::Lagging => (true, false),
                State::Behind(since) => {
                    self.session.catch_up(Some(since));
                    self.budget.relieve();
                    tokio::task::yield_now().await;
                    continue;
                }
                State::Owed => {
                    self.session.catch_up(None);
                    self.budget.relieve();
                    tokio::task::yield_now().await;
                    continue;
                }
                State::Ending(close) => return End::Node(close),
                State::Closed | State::Broken => return End::Broken,
            };
            let paused = self.session.is_paused();
            if paused {
                // Silence while the node does not listen is not the client's.
                self.last_heard = Instant::now();
            }
            let next_read = self.pace.next_read(clogged);
            let early = Instant::now() < next_read;
            tokio::select! {
                readable = self.stream.readable(), if !paused && !early => {
                    if readable.is_err() {
                        return End::Broken;
                    }
                    if self.may_read() == 0 {
                        self.rest();
                        continue;
                    }
                    if let Some(end) = self.read(clogged) {
                        return end;
                    }
                }
                () = sleep_until(next_read), if early => {}
                writable = self.stream.writable(), if waiting => {
                    if writable.is_err() {
                        return End::Broken;
                    }
                    self.outbox.write();
                }
                () = self.outbox.changed() => {}
                () = sleep(self.config.tick), if paused => {}
                _ = self.shutdown.changed() => return End::Node(Close::SHUTDOWN),
                () = &mut timer => {
                    let now = Instant::now();
                    // A process that was stopped did not listen, and that silence is not the client's.
                    let late = now.saturating_duration_since(timer.deadline());
                    self.last_heard = (self.last_heard + late).min(now);
                    if let Err(close) = self.session.on_time(now) {
                        return End::Node(close);
                    }
                    if !paused && now >= self.last_heard + self.config.dead_after {
                        return End::Node(Close::DEAD);
                    }
                    if now >= last_ping + self.config.ping_interval {
                        last_ping = now;
                        self.outbox.ping();
                    }
                    let due = self.next_deadline(last_ping).max(now + self.config.ping_interval / 20);
                    timer.as_mut().reset(due);
                }
            }
        }
    }

    fn next_deadline(&self, last_ping: Instant) -> Instant {
        (last_ping + self.config.ping_interval).min(self.last_heard + self.config.dead_after)
    }

    /// How many bytes may be read at once now. Where a message that is begun may be finished, the next
    /// one does not begin with it.
    fn may_read(&self) -> usize {
        match self.budget.flow() {
            Flow::Free => READ_BYTES,
            Flow::Ending => self.decoder.wanted_bytes().min(READ_BYTES),
            Flow::Stopped => 0,
        }
    }

    /// The node has enough to do: what the client says waits for a tick. That is not its silence, and
    /// not its fault if a message is not finished.
    fn rest(&mut self) {
        self.last_heard = Instant::now();
        self.pace.rests_until = self.last_heard + self.config.tick;
        if self.held_bytes > 0 {
            self.outbox.keep_input(self.held_bytes, true);
        }
    }

    /// Reads what the socket has, within the connection's pace.
    fn read(&mut self, clogged: bool) -> Option<End> {
        self.pace.begin(self.config.tick);
        let messages = self.messages;
        let end = SCRATCH.with_borrow_mut(|scratch| {
            let mut end = None;
            let bytes_max = if clogged {
                CLOGGED_READ_BYTES
            } else {
                READ_BYTES
            };
            while end.is_none() && self.pace.spent < TICK_BYTES {
                let bytes_max = bytes_max.min(self.may_read());
                if bytes_max == 0 {
                    break;
                }
                match self.stream.try_read(&mut scratch[..bytes_max]) {
                    Ok(0) => end = Some(End::Broken),
                    Ok(count) => {
                        self.last_heard = self.pace.last_read;
                        end = self.take(&scratch[..count]);
                        if clogged {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => end = Some(End::Broken),
                }
            }
            end
        });
        self.read_ends(messages);
        end
    }

    fn take_early(&mut self, early: &[u8]) -> Option<End> {
        let end = self.take(early);
        self.read_ends(0);
        end
    }

    /// What was read at once is taken; before it there were so many `messages`.
    fn read_ends(&mut self, messages: u64) {
        self.session.read_ends();
        let held_bytes = self.decoder.held_bytes();
        let is_new = self.messages != messages;
        if held_bytes != self.held_bytes || (held_bytes > 0 && is_new) {
            self.held_bytes = held_bytes;
            self.outbox.keep_input(held_bytes, is_new);
            self.budget.relieve();
        }
    }

    /// Decodes `bytes`; the session takes the messages in it.
    fn take(&mut self, mut bytes: &[u8]) -> Option<End> {
        self.metrics.bytes_in.add(bytes.len() as u64);
        self.pace.spent += bytes.len();
        loop {
            let taken = match self.decoder.next(&mut bytes) {
                Ok(None) => return None,
                Ok(Some(Incoming::Text(text))) => {
                    self.metrics.messages_in.increment();
                    self.messages += 1;
                    self.session.text(text)
                }
                Ok(Some(Incoming::Binary(bytes))) => {
                    self.metrics.messages_in.increment();
                    self.messages += 1;
                    self.session.binary(bytes)
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    self.outbox.pong(payload);
                    Ok(0)
                }
                Ok(Some(Incoming::Pong)) => Ok(0),
                Ok(Some(Incoming::Close(code))) => return Some(End::Client(code)),
                Err(close) => Err(close),
            };
            match taken {
                Ok(bytes) => self.pace.spent += bytes,
                Err(close) => return Some(End::Node(close)),
            }
        }
    }

    /// Leaves the rooms, says goodbye, and gives the client a moment to take it.
    async fn finish(self, end: End) {
        let Self {
            stream,
            outbox,
            decoder,
            session,
            metrics,
            config,
            ..
        } = self;
        drop(decoder);
        outbox.keep_input(0, true);
        session.end(end);
        metrics.connections.fall(1);
        let frame = match end {
            End::Node(close) => {
                count(&metrics, close);
                tracing::info!(
                    code = close.code,
                    reason = close.reason,
                    "connection closed by the node"
                );
                frame::close(close)
            }
            End::Client(code) => {
                metrics.closes.client.increment();
                tracing::info!(code, "connection closed by the client");
                let mut frame = Vec::new();
                let payload = code.map(u16::to_be_bytes);
                frame::encode(
                    Opcode::Close,
                    payload.as_ref().map_or(&[], |code| &code[..]),
                    &mut frame,
                );
                frame
            }
            End::Broken => {
                metrics.closes.broken.increment();
                tracing::info!("connection broken");
                return;
            }
        };
        outbox.close(frame);
        let deadline = Instant::now() + config.close_timeout;
        // The outcome does not matter: the socket is dropped either way.
        let _ = timeout_at(deadline, farewell(&stream, &outbox)).await;
    }
}

/// Writes what waits, then reads and discards until the client closes too. A socket dropped with
/// unread input would be reset, and the client might never see the close frame.
async fn farewell(stream: &TcpStream, outbox: &Outbox) -> io::Result<()> {
    while matches!(outbox.state(), State::Waiting | State::Lagging) {
        tokio::select! {
            writable = stream.writable() => {
                writable?;
                outbox.write();
            }
            readable = stream.readable() => {
                readable?;
                if discard(stream)? {
                    return Ok(());
                }
            }
        }
    }
    socket2::SockRef::from(stream).shutdown(Shutdown::Write)?;
    loop {
        stream.readable().await?;
        if discard(stream)? {
            return Ok(());
        }
    }
}

/// Discards one buffer of input; true at its end.
fn discard(stream: &TcpStream) -> io::Result<bool> {
    SCRATCH.with_borrow_mut(|scratch| match stream.try_read(&mut scratch[..]) {
        Ok(count) => Ok(count == 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    })
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
        4400 => closes.bad_message.increment(),
        4408 => closes.no_hello.increment(),
        4409 => closes.superseded.increment(),
        _ => closes.policy.increment(),
    }
}
