//! One SockJS session over HTTP: what its connection has for the client, and the request that takes it.
//!
//! A session outlives the requests that carry it. While a receiver is there, what the connection writes
//! is handed to it, a little ahead of what it has sent; while none is, the session takes nothing and the
//! connection's outbox keeps it, skips ahead or ends, as with any client that reads slowly.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::frame;
use super::transport::Transport;
use crate::config::SockJs;
use crate::hub::outbox::FrameSink;
use crate::websocket::frame::{self as wire, Opcode};

/// Bytes of messages that are handed to a receiver ahead of what it has sent.
const AHEAD_BYTES_MAX: usize = 16 * 1024;
/// Posts that wait for the connection; a client that keeps to the protocol has one at a time.
const POSTS_MAX: usize = 4;

/// A session, shared by its connection and its requests.
pub(crate) struct Session {
    state: Mutex<State>,
    /// Something happened that concerns the connection.
    changed: Notify,
    posts: mpsc::Sender<Post>,
    limits: Limits,
}

/// The times of sessions.
#[derive(Debug, Clone, Copy)]
struct Limits {
    heartbeat: std::time::Duration,
    disconnect_delay: std::time::Duration,
}

/// What a client said in one request.
pub(super) struct Post {
    /// The messages.
    pub(super) texts: Vec<String>,
    /// To be told when the connection has taken them.
    pub(super) taken: oneshot::Sender<()>,
}

struct State {
    /// Texts for the receiver; empty while there is none.
    texts: Vec<String>,
    texts_bytes: usize,
    /// The connection was told that nothing is taken for now.
    held_up: bool,
    /// `o` was sent.
    opened: bool,
    /// The close frame: every receiver from now on gets it.
    closed: Option<String>,
    /// A heartbeat is due.
    beats: bool,
    /// The receiver is to end its answer.
    released: bool,
    has_receiver: bool,
    /// The receiver waits for something to send.
    waiting: Option<Waker>,
    /// When a receiver came, went, or was sent something last.
    active_at: Instant,
    /// Nobody hears the session any more, or a receiver broke off.
    over: bool,
    /// The node stops.
    stopping: bool,
}

/// What is to be done about a session by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing before then.
    Until(Instant),
    /// Its client is gone.
    Over,
}

impl Session {
    /// A session that nobody has heard yet, and what its clients say.
    pub(super) fn new(config: &SockJs) -> (Arc<Self>, mpsc::Receiver<Post>) {
        let (posts, said) = mpsc::channel(POSTS_MAX);
        let session = Arc::new(Self {
            state: Mutex::new(State {
                texts: Vec::new(),
                texts_bytes: 0,
                held_up: false,
                opened: false,
                closed: None,
                beats: false,
                released: false,
                has_receiver: false,
                waiting: None,
                active_at: Instant::now(),
                over: false,
                stopping: false,
            }),
            changed: Notify::new(),
            posts,
            limits: Limits {
                heartbeat: config.heartbeat,
                disconnect_delay: config.disconnect_delay,
            },
        });
        (session, said)
    }

    /// The answer to a request that wants to hear the session, of `bytes_max` bytes at most but for the
    /// last frame. While another request does, it says so and ends. `None` if the session is over.
    pub(super) fn receive(
        self: &Arc<Self>,
        transport: Transport,
        callback: String,
        bytes_max: usize,
    ) -> Option<Receiver> {
        let mut state = self.lock();
        if state.over {
            return None;
        }
        let is_second = std::mem::replace(&mut state.has_receiver, true);
        if !is_second {
            state.active_at = Instant::now();
            // The silence that is a client's end becomes the one that a heartbeat breaks.
            self.changed.notify_one();
        }
        drop(state);
        Some(Receiver {
            session: (!is_second).then(|| self.clone()),
            transport,
            callback,
            left: bytes_max,
            begun: false,
            done: false,
        })
    }

    /// Has the receiver end its answer in good order, if there is one. Its client comes back.
    pub(super) fn release(&self) {
        let mut state = self.lock();
        if state.has_receiver {
            state.released = true;
            state.wake();
        }
    }

    /// The connection takes what the client says. False if it has ended.
    pub(super) async fn post(&self, texts: Vec<String>) -> bool {
        let (taken, done) = oneshot::channel();
        self.posts.send(Post { texts, taken }).await.is_ok() && done.await.is_ok()
    }

    /// The node stops: the connection closes, and nobody waits for a client that may not come.
    pub(super) fn shut_down(&self) {
        let mut state = self.lock();
        state.stopping = true;
        drop(state);
        self.changed.notify_one();
    }

    /// Whether the node stops.
    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Looks after the session by time: sends a heartbeat if one is due.
    pub(super) fn on_time(&self, now: Instant) -> Health {
        let mut state = self.lock();
        if state.over {
            return Health::Over;
        }
        let rest = if state.has_receiver {
            self.limits.heartbeat
        } else {
            self.limits.disconnect_delay
        };
        let due = state.active_at + rest;
        if now < due {
            return Health::Until(due);
        }
        if !state.has_receiver {
            state.over = true;
            return Health::Over;
        }
        state.beats = true;
        state.active_at = now;
        state.wake();
        Health::Until(now + self.limits.heartbeat)
    }

    /// Resolves when there is something for the connection to look at.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a receiver sends next.
enum Next {
    Frame(String),
    /// The answer ends with this frame.
    Last(String),
    /// The answer ends.
    End,
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    fn next(&mut self, transport: Transport) -> Option<Next> {
        if !std::mem::replace(&mut self.opened, true) {
            return Some(Next::Frame(frame::OPEN.to_owned()));
        }
        if !self.texts.is_empty() {
            let texts = std::mem::take(&mut self.texts);
            self.texts_bytes = 0;
            let frame = frame::messages(texts.iter().map(String::as_str));
            return Some(Next::Frame(frame));
        }
        if let Some(closed) = &self.closed {
            return Some(Next::Last(closed.clone()));
        }
        if self.released && !transport.is_polling() {
            return Some(Next::End);
        }
        // A poll has to end with something.
        let beats = std::mem::take(&mut self.beats) || self.released;
        beats.then(|| Next::Frame(frame::HEARTBEAT.to_owned()))
    }
}

/// The connection's side: frames as they would go to a WebSocket.
impl FrameSink for Session {
    fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.closed.is_some() || state.over {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !state.has_receiver || state.texts_bytes >= AHEAD_BYTES_MAX {
            state.held_up = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        for slice in bytes {
            if state.texts_bytes >= AHEAD_BYTES_MAX {
                state.held_up = true;
                break;
            }
            // All of a slice is taken or nothing, so that each begins with a frame.
            for (opcode, payload) in wire::frames(slice) {
                if opcode == Opcode::Text as u8 {
                    let text = String::from_utf8_lossy(payload).into_owned();
                    state.texts_bytes += text.len();
                    state.texts.push(text);
                } else if opcode == Opcode::Close as u8 {
                    let (code, reason) = wire::close_parts(payload);
                    state.closed = Some(frame::close(code, reason));
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

/// A request that hears a session: the body of its answer, one item per frame.
pub(crate) struct Receiver {
    /// `None` for one that is turned away.
    session: Option<Arc<Session>>,
    transport: Transport,
    callback: String,
    /// Bytes until the answer is as long as one may be.
    left: usize,
    /// The prelude is sent.
    begun: bool,
    /// The answer is whole.
    done: bool,
}

impl Stream for Receiver {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut this.begun, true) {
            let prelude = this.transport.prelude(&this.callback);
            if !prelude.is_empty() {
                return Poll::Ready(Some(prelude.into()));
            }
        }
        let Some(session) = &this.session else {
            this.done = true;
            let frame = frame::close(2010, "Another connection still open");
            return Poll::Ready(Some(this.transport.wrap(&frame, &this.callback).into()));
        };
        let mut state = session.lock();
        let (frame, ends) = match state.next(this.transport) {
            Some(Next::Frame(frame)) => (Some(frame), this.transport.is_polling()),
            Some(Next::Last(frame)) => (Some(frame), true),
            Some(Next::End) => (None, true),
            None => {
                state.waiting = Some(cx.waker().clone());
                // Nothing is ahead of it any more, so the connection may go on.
                if std::mem::take(&mut state.held_up) {
                    session.changed.notify_one();
                }
                return Poll::Pending;
            }
        };
        state.active_at = Instant::now();
        let text = frame.map(|frame| this.transport.wrap(&frame, &this.callback));
        this.left = this
            .left
            .saturating_sub(text.as_ref().map_or(0, String::len));
        if ends || this.left == 0 {
            this.done = true;
            state.has_receiver = false;
            state.released = false;
            session.changed.notify_one();
        }
        Poll::Ready(text.map(Bytes::from))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(session) = &self.session {
            // The client broke off, and what was on its way may be lost: the session is over.
            let mut state = session.lock();
            state.has_receiver = false;
            state.waiting = None;
            state.over = true;
            session.changed.notify_one();
        }
    }
}
