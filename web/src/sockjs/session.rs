//! One SockJS session: what waits for its client, and the request that takes it.
//!
//! A session outlives the requests that carry it. What its connection sends is kept until a receiver
//! takes it, within a bound; past that the connection's outbox keeps it, skips ahead or ends, as with
//! any client that reads slowly. A receiver takes at its own pace: it is asked for the next bytes when
//! the last are gone.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use super::frame;
use super::transport::Transport;
use crate::hub::outbox::FrameSink;
use crate::websocket::frame as wire;

/// Bytes of messages that a session keeps for its next receiver.
const QUEUE_BYTES_MAX: usize = 64 * 1024;
/// A session without a receiver for so long is gone.
pub(crate) const DISCONNECT_DELAY: Duration = Duration::from_secs(5);
/// The longest silence while a receiver waits.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(25);

/// A session, shared by its connection and its requests.
pub(crate) struct Session {
    state: Mutex<State>,
    /// Something happened that concerns the connection.
    changed: Notify,
}

struct State {
    /// Texts that no receiver has taken.
    queue: VecDeque<String>,
    queue_bytes: usize,
    /// `o` was sent.
    opened: bool,
    /// The close frame: every receiver from now on gets it after what waits.
    closed: Option<String>,
    /// A heartbeat is due.
    beats: bool,
    receiver: Option<Waker>,
    has_receiver: bool,
    /// When a receiver came, went, or was sent something last.
    active_at: Instant,
    /// A receiver broke off: the session is over.
    interrupted: bool,
}

/// What is to be done about a session by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing before then.
    Until(Instant),
    /// Nobody hears it any more.
    Over,
}

impl Session {
    /// A session that nobody has heard yet.
    pub(crate) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                queue_bytes: 0,
                opened: false,
                closed: None,
                beats: false,
                receiver: None,
                has_receiver: false,
                active_at: now,
                interrupted: false,
            }),
            changed: Notify::new(),
        })
    }

    /// A request that wants to hear the session. `None` while another one does.
    pub(crate) fn receive(
        self: &Arc<Self>,
        transport: Transport,
        callback: String,
        bytes_max: usize,
    ) -> Option<Receiver> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.has_receiver, true) {
            return None;
        }
        state.active_at = Instant::now();
        drop(state);
        Some(Receiver {
            session: self.clone(),
            transport,
            callback,
            left: bytes_max,
            begun: false,
            done: false,
        })
    }

    /// The session is closed: its receivers are told why, until it is forgotten.
    pub(crate) fn close(&self, code: u16, reason: &str) {
        let mut state = self.lock();
        state.closed.get_or_insert_with(|| frame::close(code, reason));
        state.active_at = Instant::now();
        state.wake();
    }

    /// Looks after the session by time: sends a heartbeat if one is due.
    pub(crate) fn on_time(&self, now: Instant) -> Health {
        let mut state = self.lock();
        if state.interrupted {
            return Health::Over;
        }
        let rest = if state.has_receiver { HEARTBEAT } else { DISCONNECT_DELAY };
        let due = state.active_at + rest;
        if now < due {
            return Health::Until(due);
        }
        if !state.has_receiver {
            return Health::Over;
        }
        state.beats = true;
        state.active_at = now;
        state.wake();
        Health::Until(now + HEARTBEAT)
    }

    /// Resolves when there is something for the connection to look at.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.receiver.take() {
            waker.wake();
        }
    }

    /// The next frame for a receiver, and whether it is the last of the session.
    fn next_frame(&mut self) -> Option<(String, bool)> {
        if !std::mem::replace(&mut self.opened, true) {
            return Some((frame::OPEN.to_owned(), false));
        }
        if !self.queue.is_empty() {
            let texts = std::mem::take(&mut self.queue);
            self.queue_bytes = 0;
            let frame = frame::messages(texts.iter().map(String::as_str));
            return Some((frame, false));
        }
        if let Some(closed) = &self.closed {
            return Some((closed.clone(), true));
        }
        std::mem::take(&mut self.beats).then(|| (frame::HEARTBEAT.to_owned(), false))
    }
}

/// The connection's side: frames as they would go to a WebSocket.
impl FrameSink for Session {
    fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.closed.is_some() || state.interrupted {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.queue_bytes >= QUEUE_BYTES_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        for slice in bytes {
            // Outboxes hand over whole frames, and all of a slice is always taken.
            for (opcode, payload) in wire::frames(slice) {
                if opcode == wire::Opcode::Text
                    && let Ok(text) = std::str::from_utf8(payload)
                {
                    state.queue_bytes += text.len();
                    state.queue.push_back(text.to_owned());
                }
            }
            taken += slice.len();
        }
        state.wake();
        Ok(taken)
    }

    fn call(&self) {
        self.changed.notify_one();
    }
}

/// A request that hears a session: the body of its answer.
pub(crate) struct Receiver {
    session: Arc<Session>,
    transport: Transport,
    callback: String,
    /// Bytes until the answer is as long as one may be.
    left: usize,
    /// The prelude is sent.
    begun: bool,
    /// The answer is whole.
    done: bool,
}

impl Receiver {
    /// The next bytes of the answer; `None` at its end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.done {
            return Poll::Ready(None);
        }
        let prelude = self.transport.prelude(&self.callback);
        if !std::mem::replace(&mut self.begun, true) && !prelude.is_empty() {
            return Poll::Ready(Some(prelude.into()));
        }
        let mut state = self.session.lock();
        let Some((frame, last)) = state.next_frame() else {
            state.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.active_at = Instant::now();
        let text = self.transport.wrap(&frame, &self.callback);
        self.left = self.left.saturating_sub(text.len());
        if last || self.left == 0 || self.transport.is_polling() {
            self.done = true;
            state.has_receiver = false;
        }
        drop(state);
        // There is room for more.
        self.session.changed.notify_one();
        Poll::Ready(Some(text.into()))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // The client broke off, and what was on its way may be lost: the session ends.
        let mut state = self.session.lock();
        state.has_receiver = false;
        state.receiver = None;
        state.interrupted = true;
        drop(state);
        self.session.changed.notify_one();
    }
}
