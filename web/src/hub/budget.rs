//! What the node keeps for all its connections together, and who pays when that is too much.
//!
//! Four things are kept because a client does not do its part: frames that its socket does not take,
//! the rest of a frame that is begun, the newest message per sender for those who will skip ahead,
//! and the beginning of a message that does not end. Each is counted where it is kept, by a [`Hold`].
//!
//! Past the bound the connection pays whose oldest part is oldest: first it skips ahead, then it is
//! closed. A client that takes what it is sent holds nothing for longer than its network's delay, so
//! it is behind everyone who does not. The order is kept lazily: a connection is listed when it
//! begins to hold something, and its place is corrected only when it comes to the front. So a
//! message costs no search, and a connection for which nothing waits costs nothing at all.
//!
//! Apart from that, what local clients said is counted until the last one has let go of it, this
//! node's links to others included. There nobody in particular is to blame: past a bound of its own
//! clients wait before they are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::outbox::Outbox;
use crate::metrics::{Gauge, Metrics};

/// Who holds something for longer does not keep up, and pays before all others.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// While more bytes of what local clients said are anywhere on the node, no message begins to be read;
/// half as much again, and nothing is read.
const SAID_BYTES_MAX: u64 = 12 * 1024 * 1024;

/// One part in so many of the budget is for frames that connections which are being closed may
/// finish, so that they see the close frame. Past it they are cut off.
const GOODBYE_SHARE: u64 = 8;

/// The memory of all connections of a node.
pub(crate) struct Budget {
    bytes_max: u64,
    stalled_after: Duration,
    metrics: Arc<Metrics>,
    /// Bytes that connections hold which are closed already.
    leaving: Gauge,
    holders: Mutex<Holders>,
    /// Held by whoever makes others pay: one is enough.
    relieving: Mutex<()>,
    began: Instant,
    last_moment: AtomicU64,
}

/// What may be read of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Everything.
    Free,
    /// The rest of messages that are begun.
    Ending,
    /// Nothing.
    Stopped,
}

/// When something began to be held: microseconds, made unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment(u64);

/// What a connection can pay with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// It can skip ahead.
    Skip,
    /// It can only be closed.
    Close,
}

/// The place of a connection among those that hold something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Since when it holds its oldest part, or earlier.
    pub(crate) since: Moment,
    /// What it could pay with when it was listed.
    pub(crate) means: Means,
}

#[derive(Default)]
struct Holders {
    skip: BTreeMap<Moment, Weak<Outbox>>,
    close: BTreeMap<Moment, Weak<Outbox>>,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Frames for sockets.
    Output,
    /// Newest messages of senders.
    Newest,
    /// Messages that are not complete.
    Input,
    /// What local clients said; not part of the budget.
    Said,
    /// Part of the others: what goes with connections that are being closed.
    Leaving,
}

/// Bytes that are kept, counted until this is dropped.
pub(crate) struct Hold {
    budget: Arc<Budget>,
    kept: Kept,
    bytes: u64,
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            bytes_max: bytes_max as u64,
            stalled_after: STALLED_AFTER,
            metrics,
            leaving: Gauge::default(),
            holders: Mutex::default(),
            relieving: Mutex::default(),
            began: Instant::now(),
            last_moment: AtomicU64::new(0),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts `bytes`.
    pub(crate) fn hold(self: &Arc<Self>, kept: Kept, bytes: usize) -> Hold {
        let bytes = bytes as u64;
        self.gauge(kept).rise(bytes);
        Hold {
            budget: self.clone(),
            kept,
            bytes,
        }
    }

    /// Makes wire bytes shareable, and counts them until the last share is dropped.
    pub(crate) fn share(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        let hold = self.hold(Kept::Output, bytes.capacity());
        Bytes::from_owner(Counted { bytes, _hold: hold })
    }

    /// Counts what a local client said until the last share is dropped, wherever that is.
    pub(crate) fn said(self: &Arc<Self>, text: Bytes) -> Bytes {
        let hold = self.hold(Kept::Said, text.len());
        Bytes::from_owner(Counted {
            bytes: text,
            _hold: hold,
        })
    }

    /// What may be read of clients, by how much of what they said is under way.
    pub(crate) fn flow(&self) -> Flow {
        match self.metrics.said_bytes.get() {
            0..=SAID_BYTES_MAX => Flow::Free,
            bytes if bytes <= SAID_BYTES_MAX / 2 * 3 => Flow::Ending,
            _ => Flow::Stopped,
        }
    }

    /// Counts `bytes` as they leave with a connection that is closed; `None` if too many do.
    pub(crate) fn goodbye(self: &Arc<Self>, bytes: usize) -> Option<Hold> {
        let fits = self.leaving.get() + bytes as u64 <= self.bytes_max / GOODBYE_SHARE;
        fits.then(|| self.hold(Kept::Leaving, bytes))
    }

    /// Now, and different from every other moment.
    pub(crate) fn moment(&self) -> Moment {
        let now = self.micros();
        let next = |last: u64| Some(now.max(last + 1));
        match self
            .last_moment
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        {
            Ok(last) | Err(last) => Moment(now.max(last + 1)),
        }
    }

    /// Lists a connection that holds something. It must not be listed yet.
    pub(crate) fn list(&self, place: Place, outbox: Weak<Outbox>) {
        self.holders().of(place.means).insert(place.since, outbox);
    }

    /// Takes a connection off the list.
    pub(crate) fn unlist(&self, place: Place) {
        self.holders().of(place.means).remove(&place.since);
    }

    /// Makes those pay who hold on longest, until what is kept is within the bound. To be called
    /// without any lock.
    pub(crate) fn relieve(&self) {
        if !self.is_over() {
            return;
        }
        let _alone = match self.relieving.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        while self.is_over() {
            let Some((place, outbox)) = self.first() else {
                return;
            };
            if let Some(outbox) = outbox.upgrade() {
                outbox.pay(place);
            }
        }
    }

    fn is_over(&self) -> bool {
        let Metrics {
            outbox_bytes,
            newest_bytes,
            input_bytes,
            ..
        } = &*self.metrics;
        let kept = outbox_bytes.get() + newest_bytes.get() + input_bytes.get();
        kept > self.bytes_max + self.leaving.get()
    }

    /// Takes the connection off the list that is to pay first: of those that do not keep up one that
    /// can skip ahead, then one that cannot, then whoever is there.
    fn first(&self) -> Option<(Place, Weak<Outbox>)> {
        let stalled_micros = self.stalled_after.as_micros() as u64;
        let stalled = Moment(self.micros().saturating_sub(stalled_micros));
        let mut holders = self.holders();
        let skip = holders.skip.first_key_value().map(|(since, _)| *since);
        let close = holders.close.first_key_value().map(|(since, _)| *since);
        let means = match (skip, close) {
            (None, None) => return None,
            (Some(skip), Some(close)) if skip > stalled && close < skip => Means::Close,
            (Some(_), _) => Means::Skip,
            (None, Some(_)) => Means::Close,
        };
        let (since, outbox) = holders.of(means).pop_first()?;
        Some((Place { since, means }, outbox))
    }

    fn gauge(&self, kept: Kept) -> &Gauge {
        match kept {
            Kept::Output => &self.metrics.outbox_bytes,
            Kept::Newest => &self.metrics.newest_bytes,
            Kept::Input => &self.metrics.input_bytes,
            Kept::Said => &self.metrics.said_bytes,
            Kept::Leaving => &self.leaving,
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holders {
    fn of(&mut self, means: Means) -> &mut BTreeMap<Moment, Weak<Outbox>> {
        match means {
            Means::Skip => &mut self.skip,
            Means::Close => &mut self.close,
        }
    }
}

/// Bytes with their hold.
struct Counted<B> {
    bytes: B,
    _hold: Hold,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Counted<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.budget.gauge(self.kept).fall(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{self, IoSlice};
    use std::sync::atomic::AtomicUsize;

    use super::super::outbox::{Chunk, FrameSink, Numbers, State};
    use super::*;
    use crate::websocket::close::Close;
    use crate::websocket::frame::{self, Opcode};

    /// A socket that takes so many bytes more.
    #[derive(Clone, Default)]
    struct Socket(Arc<AtomicUsize>);

    impl FrameSink for Socket {
        fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
            let wanted = bytes.iter().map(|slice| slice.len()).sum::<usize>();
            let taken = wanted.min(self.0.load(Ordering::SeqCst));
            self.0.fetch_sub(taken, Ordering::SeqCst);
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(taken)
        }

        fn call(&self) {}
    }

    struct Client {
        socket: Socket,
        outbox: Arc<Outbox>,
        budget: Arc<Budget>,
        number: u64,
    }

    fn budget(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget::new(bytes_max, Arc::default()))
    }

    fn client(budget: &Arc<Budget>, takes: usize) -> Client {
        let socket = Socket(Arc::new(AtomicUsize::new(takes)));
        Client {
            outbox: Outbox::new(Arc::new(socket.clone()), 256 * 1024, budget.clone()),
            socket,
            budget: budget.clone(),
            number: 0,
        }
    }

    impl Client {
        /// Sends it a frame of `length` bytes.
        fn send(&mut self, length: usize) {
            self.number += 1;
            let mut bytes = Vec::with_capacity(length);
            frame::encode(Opcode::Text, &vec![b'x'; length - 4], &mut bytes);
            self.outbox.push(Chunk {
                bytes: self.budget.share(bytes),
                numbers: Numbers::Run(self.number..self.number + 1),
            });
            self.budget.relieve();
        }

        fn takes(&self, bytes: usize) {
            self.socket.0.store(bytes, Ordering::SeqCst);
            self.outbox.write();
        }
    }

    fn kept(budget: &Budget) -> u64 {
        let metrics = budget.metrics();
        metrics.outbox_bytes.get() + metrics.newest_bytes.get() + metrics.input_bytes.get()
    }

    #[test]
    fn who_holds_on_longest_skips_ahead_first() {
        let budget = budget(10_000);
        let (mut first, mut second) = (client(&budget, 0), client(&budget, 0));
        second.send(1_000);
        first.send(4_000);
        first.send(4_000);
        assert_eq!(second.outbox.state(), State::Waiting);
        first.send(4_000);
        assert_eq!(second.outbox.state(), State::Behind(0), "it waited first");
        assert_eq!(
            first.outbox.state(),
            State::Behind(0),
            "that was not enough"
        );
        assert_eq!(kept(&budget), 0);
        assert_eq!(budget.metrics().backlog_closes.get(), 0);
    }

    #[test]
    fn who_has_skipped_ahead_is_closed() {
        let budget = budget(10_000);
        let mut client = client(&budget, 100);
        client.send(1_000);
        client.send(9_500);
        assert_eq!(client.outbox.state(), State::Lagging, "a frame is begun");
        let hold = budget.hold(Kept::Newest, 9_500);
        budget.relieve();
        assert_eq!(client.outbox.state(), State::Ending(Close::TOO_FAR_BEHIND));
        client.outbox.close(frame::close(Close::TOO_FAR_BEHIND));
        client.takes(900);
        assert_eq!(
            client.outbox.state(),
            State::Lagging,
            "the close frame waits"
        );
        client.takes(1_000);
        assert_eq!(client.outbox.state(), State::Closed);
        assert_eq!(budget.metrics().backlog_closes.get(), 1);
        drop(hold);
        assert_eq!((kept(&budget), budget.leaving.get()), (0, 0));
    }

    #[test]
    fn one_that_skipped_ahead_and_still_takes_nothing_is_as_old_as_before() {
        let budget = budget(10_000);
        let (mut dead, mut young) = (client(&budget, 0), client(&budget, 50));
        dead.send(4_000);
        young.send(4_000);
        young.send(4_000);
        assert_eq!(dead.outbox.state(), State::Behind(0));
        let bytes = budget.share(frame::text("newest"));
        let numbers = Numbers::Run(1..2);
        dead.outbox
            .catch_up(Some(Chunk { bytes, numbers }), 1, true);
        assert_eq!(dead.outbox.state(), State::Waiting);
        dead.send(3_000);
        assert_eq!(dead.outbox.state(), State::Ending(Close::TOO_FAR_BEHIND));
        assert_eq!(young.outbox.state(), State::Waiting);
    }

    #[test]
    fn a_frame_is_finished_only_while_few_are() {
        let budget = budget(80_000);
        let mut clients: Vec<Client> = (0..10).map(|_| client(&budget, 10)).collect();
        for client in &mut clients {
            client.send(8_000);
        }
        assert_eq!(budget.metrics().backlog_closes.get(), 0);
        let hold = budget.hold(Kept::Newest, 60_000);
        budget.relieve();
        assert!(budget.leaving.get() <= 10_000);
        let finishing = |client: &&Client| !client.outbox.is_empty();
        let ending = |client: &&Client| matches!(client.outbox.state(), State::Ending(_));
        assert_eq!(clients.iter().filter(ending).count(), 8);
        assert_eq!(clients.iter().filter(finishing).count(), 3);
        assert!(kept(&budget) <= 90_000);
        drop(clients);
        assert_eq!(budget.leaving.get(), 0);
        drop(hold);
        assert_eq!(kept(&budget), 0);
        assert!(budget.holders().skip.is_empty() && budget.holders().close.is_empty());
    }

    #[test]
    fn the_message_that_is_unfinished_for_longest_is_given_up() {
        let budget = budget(10_000);
        let clients: Vec<Client> = (0..3).map(|_| client(&budget, usize::MAX)).collect();
        for (bytes, is_new) in [(2_000, true), (4_000, false)] {
            for client in &clients[..2] {
                client.outbox.keep_input(bytes, is_new);
                budget.relieve();
            }
        }
        // The first goes on with another message.
        clients[0].outbox.keep_input(4_000, true);
        clients[2].outbox.keep_input(4_000, true);
        budget.relieve();
        let states: Vec<State> = clients.iter().map(|one| one.outbox.state()).collect();
        assert_eq!(
            states,
            [State::Idle, State::Ending(Close::UNFINISHED), State::Idle]
        );
        clients[1].outbox.keep_input(0, true);
        assert_eq!((kept(&budget), budget.leaving.get()), (8_000, 0));
    }

    /// Readers whose sockets are full for a moment, again and again, among many that read nothing.
    #[test]
    fn who_keeps_up_loses_nothing() {
        let budget = budget(1_000_000);
        let mut dead: Vec<Client> = (0..100).map(|_| client(&budget, 500)).collect();
        let mut alive: Vec<Client> = (0..20).map(|_| client(&budget, 0)).collect();
        for round in 0..1_000 {
            dead[round % 100].send(10_000);
            let reader = &mut alive[round % 20];
            reader.send(8_000);
            reader.send(1_000);
            alive[(round + 10) % 20].takes(1_000_000);
            if round % 7 == 0 {
                // Another one takes its place.
                dead[round % 100] = client(&budget, 500);
            }
            assert!(kept(&budget) <= 1_125_000);
        }
        assert!(budget.metrics().backlog_closes.get() > 50);
        for reader in &alive {
            reader.takes(1_000_000);
            assert_eq!(reader.outbox.state(), State::Idle);
        }
        let everything = 1_000 * 9_000;
        let dead_took = budget.metrics().bytes_out.get() - everything;
        assert!(
            dead_took <= 300 * 500,
            "every byte went to who read: {dead_took}"
        );
    }

    #[test]
    fn of_those_that_do_not_keep_up_all_skip_ahead_before_one_is_closed() {
        let budget = Arc::new(Budget {
            stalled_after: Duration::ZERO,
            ..Budget::new(50_000, Arc::default())
        });
        let mut dead: Vec<Client> = (0..4).map(|_| client(&budget, 10)).collect();
        for client in &mut dead {
            client.send(2_000);
            client.send(10_000);
        }
        let mut reader = client(&budget, 10);
        for _ in 0..4 {
            reader.send(9_000);
        }
        assert_eq!(budget.metrics().backlog_closes.get(), 0);
        assert_eq!(reader.outbox.state(), State::Waiting);
        let lagging = |one: &&Client| one.outbox.state() == State::Lagging;
        assert_eq!(dead.iter().filter(lagging).count(), 4);
    }
}
