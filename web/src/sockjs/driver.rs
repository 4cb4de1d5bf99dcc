//! The connection behind an HTTP session: a task that gives it what its client says, and has its outbox
//! written whenever the session takes something.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until};

use super::session::{Health, Post, Session};
use crate::config::Config;
use crate::hub::Hub;
use crate::hub::budget::Flow;
use crate::hub::outbox::{Outbox, State};
use crate::session::dialect::Dialect;
use crate::session::{self, End};
use crate::websocket::close::Close;
use crate::websocket::connection::goodbye;

/// The least time between two looks that are for the time's sake.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// How often in a row a client is given what it was owed before others go first.
const CATCH_UPS: usize = 8;

/// Serves a session that speaks `dialect`, until its client is gone.
pub(super) async fn drive(
    session: Arc<Session>,
    mut said: mpsc::Receiver<Post>,
    dialect: Dialect,
    hub: Hub,
    config: Arc<Config>,
) {
    let outbox = hub.outbox(session.clone());
    let metrics = hub.metrics();
    let (id, inner) = dialect.open(&hub, &config, &outbox, "sockjs");
    metrics.sockjs_sessions.rise(1);
    metrics.connections.rise(1);
    metrics.connections_total.increment();
    let mut open = Open {
        session: &session,
        outbox: &outbox,
        hub: &hub,
        config: &config,
        inner,
        waited: false,
    };
    let end = open.run(&mut said).await;
    open.inner.end(end);
    // Whoever still says something is told that nobody hears it.
    drop(said);
    metrics.connections.fall(1);
    if let Some(frame) = goodbye(id, end, metrics) {
        outbox.close(frame);
        while let Health::Until(due) = session.on_time(Instant::now()) {
            outbox.write();
            tokio::select! {
                () = session.changed() => {}
                () = sleep_until(due) => {}
            }
        }
    }
    metrics.sockjs_sessions.fall(1);
}

/// A session that is not over.
struct Open<'a> {
    session: &'a Session,
    outbox: &'a Arc<Outbox>,
    hub: &'a Hub,
    config: &'a Config,
    inner: Box<dyn session::Session>,
    /// Something waited, and the inner session does not know yet that it is taken.
    waited: bool,
}

impl Open<'_> {
    async fn run(&mut self, said: &mut mpsc::Receiver<Post>) -> End {
        loop {
            let now = Instant::now();
            if self.session.is_stopping() {
                return End::Node(Close::SHUTDOWN);
            }
            if self.inner.deadline().is_some_and(|due| now >= due)
                && let Err(close) = self.inner.on_time(now)
            {
                return End::Node(close);
            }
            self.outbox.write();
            if let Some(end) = self.settle().await {
                return end;
            }
            let mut due = match self.session.on_time(now) {
                Health::Over => return End::Broken,
                Health::Until(due) => due,
            };
            let is_full = self.hub.context().budget.flow() == Flow::Stopped;
            let is_paused = is_full || self.inner.is_paused();
            if is_paused {
                due = due.min(now + self.config.tick);
            }
            let due = self.inner.deadline().map_or(due, |inner| inner.min(due));
            let end = tokio::select! {
                () = self.session.changed() => None,
                Some(post) = said.recv(), if !is_paused => self.take(post),
                () = sleep_until(due.max(now + PAUSE_MIN)) => None,
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Gives the client what it was owed, as long as it takes it.
    async fn settle(&mut self) -> Option<End> {
        loop {
            for _ in 0..CATCH_UPS {
                match self.outbox.state() {
                    State::Idle => {
                        if std::mem::take(&mut self.waited) {
                            self.inner.taken();
                        }
                        return None;
                    }
                    State::Waiting | State::Lagging => {
                        self.waited = true;
                        return None;
                    }
                    State::Behind(since) => self.inner.catch_up(Some(since)),
                    State::Owed => self.inner.catch_up(None),
                    State::Ending(close) => return Some(End::Node(close)),
                    State::Closed | State::Broken => return Some(End::Broken),
                }
                self.waited = true;
                self.hub.context().budget.relieve();
            }
            tokio::task::yield_now().await;
        }
    }

    fn take(&mut self, post: Post) -> Option<End> {
        let metrics = self.hub.metrics();
        let mut end = None;
        for text in &post.texts {
            metrics.messages_in.increment();
            metrics.bytes_in.add(text.len() as u64);
            let taken = if text.len() > self.config.message_bytes_max {
                Err(Close::TOO_BIG)
            } else {
                self.inner.text(text.as_bytes())
            };
            if let Err(close) = taken {
                end = Some(End::Node(close));
                break;
            }
        }
        self.inner.read_ends();
        // Who asked may have gone; what it said counts all the same.
        let _ = post.taken.send(());
        end
    }
}
