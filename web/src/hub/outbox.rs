//! What waits for one connection's socket: bounded, shared where it can be, and never a reason for
//! anyone else to wait.
//!
//! A chunk of whole frames goes straight to the socket if nothing waits, otherwise it queues. Over
//! its bound the queue is dropped and the connection *lags*: it queues nothing more until its socket
//! has taken what was begun, and then skips ahead to what its room holds as newest. The downside is
//! chosen: such a client misses messages, but it costs a bounded amount and slows nobody.
//!
//! It also knows what else is kept for the connection, the beginning of a message from it, so that
//! the connection can pay when all of them together hold too much (see [`Budget`]).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::budget::{Budget, Hold, Kept, Means, Moment, Place};
use crate::metrics::Metrics;
use crate::websocket::close::Close;
use crate::websocket::frame::{self, Opcode};
use bytes::Bytes;

/// Where wire bytes go: the only thing that rooms and outboxes know of a socket.
pub(crate) trait FrameSink: Send + Sync + 'static {
    /// Writes as much of `bytes` as the socket takes now; `WouldBlock` if that is nothing.
    fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Calls whoever serves the connection: [`Outbox::state`] may have changed by someone else's doing.
    fn call(&self);

    /// From now on as little as possible is to wait where newer frames cannot overtake it.
    fn narrow(&self) {}
}

/// Wire bytes of whole frames, shared by all connections that wait for them and counted as memory
/// until the last one has let go.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// The frames.
    pub(crate) bytes: Bytes,
    /// The room's sequence numbers of the frames.
    pub(crate) numbers: Numbers,
}

/// The sequence numbers of the frames in a chunk, rising.
#[derive(Debug, Clone)]
pub(crate) enum Numbers {
    /// One after the other.
    Run(Range<u64>),
    /// With gaps.
    List(Vec<u64>),
}

impl Numbers {
    fn count(&self) -> u64 {
        match self {
            Self::Run(range) => range.end - range.start,
            Self::List(list) => list.len() as u64,
        }
    }

    /// The number of the frame at `index`, which must be inside.
    fn at(&self, index: usize) -> u64 {
        match self {
            Self::Run(range) => range.start + index as u64,
            Self::List(list) => list[index],
        }
    }

    /// The numbers of the frames from `index` on.
    fn from(&self, index: usize) -> Self {
        match self {
            Self::Run(range) => Self::Run(range.start + index as u64..range.end),
            Self::List(list) => Self::List(list[index..].to_vec()),
        }
    }
}

/// What a queued chunk counts beyond its bytes, so that many small ones are bounded too.
const CHUNK_COST: usize = 512;

/// Chunks handed to the socket in one call.
const SLICES_MAX: usize = 16;

/// A longer chunk of which less than half is left is copied, so that what is written is freed.
pub(crate) const CHUNK_BYTES_WHOLE: usize = 64 * 1024;

thread_local! {
    /// Outboxes that were given something since this thread began to gather; `None` while it does not.
    static GATHERED: RefCell<Option<Vec<Weak<Outbox>>>> = const { RefCell::new(None) };
}

/// Does `flushes`, and writes what they gave to connections in several rooms only then: in one go for
/// each, as a write costs much the same whatever is in it.
pub(crate) fn gather(flushes: impl FnOnce()) {
    GATHERED.set(Some(Vec::new()));
    flushes();
    for outbox in GATHERED.take().unwrap_or_default() {
        if let Some(outbox) = outbox.upgrade() {
            outbox.release();
        }
    }
}

/// The outbox of one connection.
pub(crate) struct Outbox {
    me: Weak<Self>,
    sink: Arc<dyn FrameSink>,
    bytes_max: usize,
    budget: Arc<Budget>,
    /// Its connection is in several rooms.
    gathers: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Bytes of the first entry that are written.
    written: usize,
    /// What waits, waits for other rooms' flushes and not for the socket.
    gathered: bool,
    /// The sink was told to be narrow.
    narrow: bool,
    /// Bytes and chunk costs of data entries.
    cost: usize,
    /// While lagging: the sequence number of the last frame that was or will be written.
    lagging_since: Option<u64>,
    /// Since when what was dropped last had waited; until the socket takes something again.
    skipped: Option<Moment>,
    /// The beginning of a message from the client.
    input: Option<Input>,
    /// Its place among those that hold something.
    listed: Option<Place>,
    /// A v1 connection is owed something by its rooms.
    owed: Option<Owed>,
    /// The connection is to be closed, and why.
    ending: Option<Close>,
    /// It pays with its end: nothing is taken any more but the close frame.
    cut: bool,
    /// The frame that it may finish before that.
    goodbye: Option<Hold>,
    /// The close frame is queued: nothing comes after it.
    closed: bool,
    /// The socket failed.
    broken: bool,
}

struct Entry {
    kind: Kind,
    bytes: Bytes,
    numbers: Numbers,
    /// Since when it waits.
    since: Moment,
}

/// The beginning of a message.
struct Input {
    since: Moment,
    bytes: usize,
    _hold: Hold,
    /// It goes with the connection.
    _goodbye: Option<Hold>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A tutorial message: the connection lags without it.
    Data,
    /// A v1 frame that may not be left out.
    Vital,
    /// A v1 presence diff: a snapshot makes up for it.
    Presence,
    Ping,
    Pong,
    Close,
}

/// What the rooms of a v1 connection are to send it once its socket takes bytes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owed {
    /// What each room has noted by itself: pages, positions.
    Rest,
    /// New snapshots too: presence diffs were left out.
    Snapshots,
}

/// What is to be done about a connection because of its outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing waits.
    Idle,
    /// Bytes wait for the socket; nothing was skipped.
    Waiting,
    /// The last frame before a gap waits for the socket.
    Lagging,
    /// The socket took what was begun, and frames after this sequence number were skipped: the room
    /// is to be asked for what is newest.
    Behind(u64),
    /// The socket took everything, and the connection's rooms owe it something.
    Owed,
    /// The connection is to be closed.
    Ending(Close),
    /// The close frame is written.
    Closed,
    /// The socket failed.
    Broken,
}

impl Outbox {
    /// An outbox for `bytes_max` bytes, as long as the budget of all holds them.
    pub(crate) fn new(
        sink: Arc<dyn FrameSink>,
        bytes_max: usize,
        budget: Arc<Budget>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            sink,
            bytes_max,
            budget,
            gathers: AtomicBool::new(false),
            queue: Mutex::default(),
        })
    }

    /// Writes or queues the frames of `chunk`; drops them, and the queue, past the bound. True if the
    /// connection is behind then.
    pub(crate) fn push(&self, chunk: Chunk) -> bool {
        let mut queue = self.lock();
        if queue.is_shut() {
            return false;
        }
        if queue.lagging_since.is_some() {
            self.metrics()
                .messages_dropped
                .lagging
                .add(chunk.numbers.count());
            return true;
        }
        self.metrics().messages_out.add(chunk.numbers.count());
        self.append(&mut queue, Entry::data(chunk));
        if self.is_over(&queue) {
            self.skip(&mut queue);
        }
        queue.is_behind()
    }

    /// Whether tutorial messages wait, or were skipped.
    pub(crate) fn is_behind(&self) -> bool {
        self.lock().is_behind()
    }

    /// Queues what a lagging connection skipped ahead to, frames up to sequence number `until`.
    /// With `complete` nothing is missing after it, and the connection does not lag any more.
    pub(crate) fn catch_up(&self, chunk: Option<Chunk>, until: u64, complete: bool) {
        let mut queue = self.lock();
        if queue.is_shut() || queue.lagging_since.is_none() {
            return;
        }
        queue.lagging_since = (!complete).then_some(until);
        if let Some(chunk) = chunk {
            self.metrics().messages_out.add(chunk.numbers.count());
            self.append(&mut queue, Entry::data(chunk));
        }
    }

    /// Writes or queues a text frame of protocol v1 that may not be left out.
    pub(crate) fn say(&self, text: &str) {
        self.push_vital(self.budget.share(frame::text(text)), 1);
    }

    /// Writes or queues frames of protocol v1 that may not be left out, `frames` of them. If that is
    /// more than may wait even without presence diffs, the connection ends with code 1013.
    pub(crate) fn push_vital(&self, bytes: Bytes, frames: u64) {
        self.push_v1(Kind::Vital, bytes, frames);
    }

    /// Writes or queues a presence diff of protocol v1. It may be left out: then the connection is
    /// owed snapshots.
    pub(crate) fn push_presence(&self, bytes: Bytes) {
        self.push_v1(Kind::Presence, bytes, 1);
    }

    /// Writes or queues a v1 frame that is worth nothing later. False if others wait: it was not
    /// taken then, and the connection is owed what is newest.
    pub(crate) fn push_fleeting(&self, bytes: Bytes) -> bool {
        let mut queue = self.lock();
        if queue.is_shut() {
            return true;
        }
        if !queue.entries.is_empty() && !queue.gathered {
            queue.owed = queue.owed.max(Some(Owed::Rest));
            return false;
        }
        self.metrics().messages_out.increment();
        self.append(&mut queue, Entry::unnumbered(Kind::Vital, bytes));
        true
    }

    /// Whether the connection is in several rooms, so that what they flush together is written together.
    pub(crate) fn set_gathers(&self, gathers: bool) {
        self.gathers.store(gathers, Ordering::Relaxed);
    }

    /// The connection's rooms owe it something: [`State::Owed`] comes when its socket has taken what
    /// waits.
    pub(crate) fn owe(&self) {
        let mut queue = self.lock();
        queue.owed = queue.owed.max(Some(Owed::Rest));
        self.sink.call();
    }

    /// What is owed, to be paid now.
    pub(crate) fn take_owed(&self) -> Option<Owed> {
        self.lock().owed.take()
    }

    /// Whether nothing waits for the socket.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }

    /// Answers a ping. One answer waits at most: a newer one replaces it.
    pub(crate) fn pong(&self, payload: &[u8]) {
        self.control(Kind::Pong, Opcode::Pong, payload);
    }

    /// Asks the client for a sign of life.
    pub(crate) fn ping(&self) {
        self.control(Kind::Ping, Opcode::Ping, b"");
    }

    /// Queues a close frame after everything that waits; nothing is taken after it.
    pub(crate) fn close(&self, frame: Vec<u8>) {
        let mut queue = self.lock();
        if queue.closed || queue.broken {
            return;
        }
        queue.closed = true;
        queue.entries.push_back(Entry::control(Kind::Close, frame));
        self.write_queue(&mut queue);
    }

    /// So much is kept of a message that the client has not finished; `anew` if it is another one
    /// than last time.
    pub(crate) fn keep_input(&self, bytes: usize, anew: bool) {
        let mut queue = self.lock();
        let before = queue.input.take().filter(|_| !anew);
        if bytes == 0 {
            return;
        }
        queue.input = Some(Input {
            since: before.map_or_else(|| self.budget.moment(), |input| input.since),
            bytes,
            _hold: self.budget.hold(Kept::Input, bytes),
            _goodbye: None,
        });
        self.list(&mut queue);
    }

    /// The connection is at the front of those that hold something, at its place as far as that was
    /// known. If it still belongs there it pays, otherwise it is listed where it belongs.
    pub(crate) fn pay(&self, listed: Place) {
        let mut queue = self.lock();
        if queue.listed != Some(listed) {
            // It was listed anew in the meantime.
            return;
        }
        queue.listed = None;
        if queue.place() == Some(listed) {
            match listed.means {
                Means::Skip => self.skip(&mut queue),
                Means::Close => self.cut(&mut queue),
            }
        }
        self.list(&mut queue);
    }

    /// Has the connection closed.
    pub(crate) fn end(&self, close: Close) {
        self.lock().ending.get_or_insert(close);
        self.sink.call();
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn write(&self) {
        let mut queue = self.lock();
        if !queue.entries.is_empty() {
            self.write_queue(&mut queue);
        }
    }

    /// The newest frame is worth more to the client than all before it: little is left to the kernel.
    pub(crate) fn narrow(&self) {
        if !std::mem::replace(&mut self.lock().narrow, true) {
            self.sink.narrow();
        }
    }

    /// What is to be done now.
    pub(crate) fn state(&self) -> State {
        let queue = self.lock();
        if let Some(close) = queue.ending.filter(|_| !queue.closed) {
            State::Ending(close)
        } else if queue.broken {
            State::Broken
        } else if !queue.entries.is_empty() {
            if queue.lagging_since.is_some() {
                State::Lagging
            } else {
                State::Waiting
            }
        } else if queue.closed {
            State::Closed
        } else if let Some(since) = queue.lagging_since {
            State::Behind(since)
        } else if queue.owed.is_some() {
            State::Owed
        } else {
            State::Idle
        }
    }

    /// The bytes that may wait.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    fn metrics(&self) -> &Metrics {
        self.budget.metrics()
    }

    /// Whether more waits than may. What the client has begun to say counts, up to half of it.
    fn is_over(&self, queue: &Queue) -> bool {
        let input = queue.input.as_ref().map_or(0, |input| input.bytes);
        let output = queue.cost.saturating_sub(queue.written);
        output > self.bytes_max - input.min(self.bytes_max / 2)
    }

    fn push_v1(&self, kind: Kind, bytes: Bytes, frames: u64) {
        let mut queue = self.lock();
        if queue.is_shut() {
            return;
        }
        if kind == Kind::Presence && queue.owed == Some(Owed::Snapshots) {
            self.metrics().messages_dropped.lagging.add(frames);
            return;
        }
        self.metrics().messages_out.add(frames);
        self.append(&mut queue, Entry::unnumbered(kind, bytes));
        if self.is_over(&queue) {
            self.skip(&mut queue);
            if self.is_over(&queue) {
                queue.ending.get_or_insert(Close::OVERLOADED);
            }
        }
    }

    /// Writes `entry`, or queues it.
    fn append(&self, queue: &mut Queue, entry: Entry) {
        let mut written = 0;
        if queue.entries.is_empty() && self.is_gathered() {
            queue.gathered = true;
        } else if queue.entries.is_empty() {
            // The usual case touches nothing but the socket.
            let Some(count) = self.write_at_once(queue, &entry.bytes) else {
                return;
            };
            self.sink.call();
            if queue.broken {
                return;
            }
            written = count;
        }
        queue.written += written;
        queue.cost += entry.bytes.len() + CHUNK_COST;
        queue.entries.push_back(entry);
        if written > 0 {
            queue.trim(&self.budget);
        }
        let since = queue.skipped.unwrap_or_else(|| self.budget.moment());
        if let Some(last) = queue.entries.back_mut() {
            last.since = since;
        }
        self.list(queue);
    }

    /// Whether what comes now waits until the thread has gathered it all; it is noted for then.
    fn is_gathered(&self) -> bool {
        self.gathers.load(Ordering::Relaxed)
            && GATHERED.with_borrow_mut(|gathered| match gathered {
                Some(outboxes) => {
                    outboxes.push(self.me.clone());
                    true
                }
                None => false,
            })
    }

    /// What was gathered goes.
    fn release(&self) {
        let mut queue = self.lock();
        queue.gathered = false;
        if !queue.entries.is_empty() && self.write_queue(&mut queue) {
            self.sink.call();
        }
    }

    /// Drops what may be left out; the connection catches up later.
    fn skip(&self, queue: &mut Queue) {
        queue.skipped = queue.skipped.or(queue.output_since());
        if !std::mem::replace(&mut queue.narrow, true) {
            self.sink.narrow();
        }
        let dropped = if queue.has(Kind::Data) {
            queue.drop_data(&self.budget)
        } else {
            queue.drop_presence()
        };
        self.metrics().outbox_lags.increment();
        self.metrics().messages_dropped.lagging.add(dropped);
        self.sink.call();
    }

    /// Drops everything and closes the connection. A frame that is begun may be finished, so that
    /// the close frame is seen, unless too many do that already.
    fn cut(&self, queue: &mut Queue) {
        queue.cut = true;
        let unfinished = queue.input.as_ref().map(|input| input.since);
        let close = if unfinished.is_some() && unfinished == queue.since() {
            Close::UNFINISHED
        } else if queue.has(Kind::Vital) || queue.has(Kind::Presence) {
            Close::OVERLOADED
        } else {
            Close::TOO_FAR_BEHIND
        };
        if queue.has(Kind::Data) {
            queue.drop_data(&self.budget);
        }
        queue.entries.truncate(usize::from(queue.written > 0));
        queue.recount();
        if let Some(begun) = queue.entries.front() {
            queue.goodbye = self.budget.goodbye(begun.bytes.len());
            if queue.goodbye.is_none() {
                queue.fail();
            }
        }
        if let Some(input) = &mut queue.input {
            input._goodbye = Some(self.budget.hold(Kept::Leaving, input.bytes));
        }
        queue.ending.get_or_insert(close);
        self.metrics().backlog_closes.increment();
        self.sink.call();
    }

    /// Lists the connection if it holds something, and anew if it can pay with more.
    fn list(&self, queue: &mut Queue) {
        let place = match queue.listed {
            None => queue.place(),
            Some(place) if place.means == Means::Close && queue.can_skip() => {
                self.budget.unlist(place);
                Some(Place {
                    means: Means::Skip,
                    ..place
                })
            }
            Some(_) => return,
        };
        queue.listed = place;
        if let Some(place) = place {
            self.budget.list(place, self.me.clone());
        }
    }

    fn control(&self, kind: Kind, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(frame::frame_length(payload.len()));
        frame::encode(opcode, payload, &mut bytes);
        let entry = Entry::control(kind, bytes);
        let mut queue = self.lock();
        if queue.closed || queue.broken {
            return;
        }
        let first = usize::from(queue.written > 0);
        let waiting = queue
            .entries
            .iter()
            .take(first + 2)
            .skip(first)
            .position(|entry| entry.kind == kind);
        match waiting {
            Some(index) => queue.entries[first + index] = entry,
            None => queue.entries.insert(first, entry),
        }
        if queue.entries.len() == 1 && self.write_queue(&mut queue) {
            self.sink.call();
        }
    }

    /// Writes what nothing waits before. Gives how much of it is written if the rest has to wait, or if
    /// the socket failed.
    fn write_at_once(&self, queue: &mut Queue, bytes: &[u8]) -> Option<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.sink.try_write(&[IoSlice::new(&bytes[written..])]) {
                Ok(count) if count > 0 => {
                    self.metrics().bytes_out.add(count as u64);
                    queue.skipped = None;
                    written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    queue.fail();
                    return Some(0);
                }
            }
        }
        None
    }

    /// Writes until the queue is empty or the socket takes no more. True if whoever serves the
    /// connection has to go on with it.
    fn write_queue(&self, queue: &mut Queue) -> bool {
        while !queue.entries.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, entry) in slices.iter_mut().zip(&queue.entries) {
                let skip = if count == 0 { queue.written } else { 0 };
                *slice = IoSlice::new(&entry.bytes[skip..]);
                count += 1;
            }
            match self.sink.try_write(&slices[..count]) {
                Ok(bytes) if bytes > 0 => {
                    self.metrics().bytes_out.add(bytes as u64);
                    queue.advance(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    queue.trim(&self.budget);
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    queue.fail();
                    return true;
                }
            }
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let queue = self.queue.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = queue.listed {
            self.budget.unlist(place);
        }
    }
}

impl Queue {
    /// Whether nothing is taken any more.
    fn is_shut(&self) -> bool {
        self.closed || self.broken || self.cut
    }

    fn is_behind(&self) -> bool {
        !self.is_shut()
            && self.ending.is_none()
            && (self.lagging_since.is_some() || self.has(Kind::Data))
    }

    fn has(&self, kind: Kind) -> bool {
        self.entries.iter().any(|entry| entry.kind == kind)
    }

    /// Since when the oldest frame waits that does.
    fn output_since(&self) -> Option<Moment> {
        let waits = self.entries.iter().find(|entry| entry.is_data());
        waits.map(|entry| entry.since)
    }

    /// Since when the oldest part is held.
    fn since(&self) -> Option<Moment> {
        let input = self.input.as_ref().map(|input| input.since);
        self.output_since().into_iter().chain(input).min()
    }

    /// Its place among those that hold something.
    fn place(&self) -> Option<Place> {
        if self.is_shut() || self.ending.is_some() {
            return None;
        }
        let means = if self.can_skip() {
            Means::Skip
        } else {
            Means::Close
        };
        self.since().map(|since| Place { since, means })
    }

    /// Whether something may be dropped: not twice before the socket has taken something.
    fn can_skip(&self) -> bool {
        if self.skipped.is_some() || self.lagging_since.is_some() {
            return false;
        }
        let begun = usize::from(self.written > 0);
        let is_optional = |(index, entry): (usize, &Entry)| match entry.kind {
            Kind::Data => index >= begun || entry.numbers.count() > 1,
            Kind::Presence => index >= begun,
            Kind::Vital | Kind::Ping | Kind::Pong | Kind::Close => false,
        };
        self.entries.iter().enumerate().any(is_optional)
    }

    fn advance(&mut self, bytes: usize) {
        self.skipped = None;
        self.written += bytes;
        while let Some(first) = self.entries.front() {
            if self.written < first.bytes.len() {
                return;
            }
            self.written -= first.bytes.len();
            if first.is_data() {
                self.cost -= first.bytes.len() + CHUNK_COST;
            }
            self.entries.pop_front();
            self.goodbye = None;
        }
        // A burst's capacity is not kept through quiet times.
        if self.entries.capacity() > SLICES_MAX {
            self.entries = VecDeque::new();
        }
    }

    /// Frees what is written of a long chunk.
    fn trim(&mut self, budget: &Arc<Budget>) {
        let Some(first) = self.entries.front_mut() else {
            return;
        };
        let whole = first.bytes.len();
        if first.kind != Kind::Data || whole <= CHUNK_BYTES_WHOLE || self.written <= whole / 2 {
            return;
        }
        let place = frame::frame_at(&first.bytes, self.written);
        let start = place.range.start;
        if start > whole / 2 {
            first.bytes = budget.share(first.bytes[start..].to_vec());
            first.numbers = first.numbers.from(place.index);
            self.written -= start;
            self.cost -= start;
        }
    }

    /// Drops all data but the frame that is begun, and remembers since when. Gives the number of
    /// frames dropped. A frame that is kept does not hold a chunk that is much longer.
    fn drop_data(&mut self, budget: &Arc<Budget>) -> u64 {
        let mut since = None;
        let mut dropped = 0;
        let mut kept = VecDeque::new();
        for (index, entry) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            if entry.kind != Kind::Data {
                kept.push_back(entry);
                continue;
            }
            dropped += entry.numbers.count();
            if index > 0 || self.written == 0 {
                since.get_or_insert(entry.numbers.at(0) - 1);
                continue;
            }
            let place = frame::frame_at(&entry.bytes, self.written - 1);
            let number = entry.numbers.at(place.index);
            since = Some(number);
            dropped -= place.index as u64 + 1;
            if self.written == place.range.end {
                self.written = 0;
                continue;
            }
            self.written -= place.range.start;
            let whole = entry.bytes.len();
            let mut bytes = entry.bytes.slice(place.range);
            if bytes.len() < whole / 2 {
                bytes = budget.share(bytes.to_vec());
            }
            kept.push_back(Entry {
                bytes,
                numbers: Numbers::Run(number..number + 1),
                ..entry
            });
        }
        self.entries = kept;
        self.recount();
        self.lagging_since = since;
        dropped
    }

    fn recount(&mut self) {
        self.cost = self
            .entries
            .iter()
            .filter(|entry| entry.is_data())
            .map(|entry| entry.bytes.len() + CHUNK_COST)
            .sum();
    }

    /// Drops the presence diffs that are not begun, which snapshots make up for; gives their number.
    fn drop_presence(&mut self) -> u64 {
        let begun = usize::from(self.written > 0);
        let before = self.entries.len();
        let (mut index, mut freed) = (0, 0);
        self.entries.retain(|entry| {
            index += 1;
            let keeps = entry.kind != Kind::Presence || index <= begun;
            if !keeps {
                freed += entry.bytes.len() + CHUNK_COST;
            }
            keeps
        });
        self.cost -= freed;
        let dropped = before - self.entries.len();
        if dropped > 0 {
            self.owed = Some(Owed::Snapshots);
        }
        dropped as u64
    }

    fn fail(&mut self) {
        self.broken = true;
        self.entries = VecDeque::new();
        self.written = 0;
        self.cost = 0;
        self.goodbye = None;
    }
}

impl Entry {
    fn is_data(&self) -> bool {
        matches!(self.kind, Kind::Data | Kind::Vital | Kind::Presence)
    }

    fn data(chunk: Chunk) -> Self {
        Self {
            numbers: chunk.numbers,
            ..Self::unnumbered(Kind::Data, chunk.bytes)
        }
    }

    fn unnumbered(kind: Kind, bytes: Bytes) -> Self {
        Self {
            kind,
            bytes,
            numbers: Numbers::Run(0..0),
            since: Moment::default(),
        }
    }

    fn control(kind: Kind, frame: Vec<u8>) -> Self {
        Self::unnumbered(kind, frame.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// A socket that takes what it is told to, and keeps it.
    #[derive(Default)]
    struct Pipe {
        taken: Vec<u8>,
        room: usize,
        writes: usize,
    }

    struct PipeEnd(Arc<Mutex<Pipe>>);

    impl FrameSink for PipeEnd {
        fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut pipe = self.0.lock().unwrap();
            pipe.writes += 1;
            let mut count = 0;
            for slice in bytes {
                let take = slice.len().min(pipe.room);
                pipe.taken.extend_from_slice(&slice[..take]);
                pipe.room -= take;
                count += take;
            }
            if count == 0 {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(count)
            }
        }

        fn call(&self) {}
    }

    fn outbox(room: usize, bytes_max: usize) -> (Arc<Outbox>, Arc<Mutex<Pipe>>) {
        let pipe = Arc::new(Mutex::new(Pipe {
            taken: Vec::new(),
            room,
            writes: 0,
        }));
        let budget = Arc::new(Budget::new(usize::MAX, Arc::default()));
        let outbox = Outbox::new(Arc::new(PipeEnd(pipe.clone())), bytes_max, budget);
        (outbox, pipe)
    }

    /// A chunk whose frames carry their own numbers.
    fn chunk(numbers: Range<u64>) -> Chunk {
        let mut bytes = Vec::new();
        for number in numbers.clone() {
            frame::encode(Opcode::Text, number.to_string().as_bytes(), &mut bytes);
        }
        Chunk {
            bytes: bytes.into(),
            numbers: Numbers::Run(numbers),
        }
    }

    /// Opcodes and payloads of the frames in `bytes`.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, String)> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let place = frame::frame_at(bytes, 0);
            let payload = &bytes[2..place.range.end];
            frames.push((
                bytes[0] & 0x0f,
                String::from_utf8_lossy(payload).into_owned(),
            ));
            bytes = &bytes[place.range.end..];
        }
        frames
    }

    #[test]
    fn what_the_socket_takes_is_written_at_once() {
        let (outbox, pipe) = outbox(usize::MAX, 1000);
        outbox.push(chunk(1..3));
        assert_eq!(
            frames(&pipe.lock().unwrap().taken),
            [(1, "1".into()), (1, "2".into())]
        );
        assert_eq!(outbox.state(), State::Idle);
    }

    #[test]
    fn what_several_rooms_flush_together_is_written_together() {
        let (outbox, pipe) = outbox(usize::MAX, 1000);
        let cursors = |n: u8| Bytes::from(vec![0x82, 1, n]);
        outbox.set_gathers(true);
        gather(|| {
            assert!(outbox.push_fleeting(cursors(1)));
            assert!(
                outbox.push_fleeting(cursors(2)),
                "the first waits for it, not for the socket"
            );
            assert!(pipe.lock().unwrap().taken.is_empty());
        });
        assert_eq!(pipe.lock().unwrap().taken, [0x82, 1, 1, 0x82, 1, 2]);
        assert_eq!(pipe.lock().unwrap().writes, 1);
        assert!(outbox.push_fleeting(cursors(3)));
        assert_eq!(pipe.lock().unwrap().writes, 2, "alone it goes at once");

        pipe.lock().unwrap().room = 4;
        gather(|| assert!(outbox.push_fleeting(cursors(4)) && outbox.push_fleeting(cursors(5))));
        assert_eq!(outbox.state(), State::Waiting);
        assert!(
            !outbox.push_fleeting(cursors(6)),
            "now they wait for the socket"
        );
    }

    #[test]
    fn the_bound_holds_for_many_small_chunks() {
        let (outbox, _) = outbox(0, 64 * 1024);
        for number in 1..1000 {
            outbox.push(chunk(number..number + 1));
            assert!(outbox.lock().entries.len() <= 64 * 1024 / CHUNK_COST);
        }
        assert_eq!(outbox.state(), State::Behind(0));
        assert_eq!(outbox.metrics().outbox_lags.get(), 1);
        assert_eq!(outbox.metrics().messages_dropped.lagging.get(), 999);
    }

    #[test]
    fn what_is_written_of_a_long_chunk_is_freed() {
        let (outbox, pipe) = outbox(151_000, 256 * 1024);
        let text = vec![b'x'; 50_000];
        let mut bytes = Vec::new();
        for _ in 1..=4 {
            frame::encode(Opcode::Text, &text, &mut bytes);
        }
        let whole = outbox.budget.share(bytes);
        outbox.push(Chunk {
            bytes: whole.clone(),
            numbers: Numbers::Run(1..5),
        });
        drop(whole);
        assert!(outbox.metrics().outbox_bytes.get() < 101_000);
        pipe.lock().unwrap().room = 10_000;
        outbox.write();
        outbox.push(chunk(5..6));
        let place = outbox.lock().listed.unwrap();
        outbox.pay(place);
        assert_eq!(outbox.state(), State::Lagging);
        pipe.lock().unwrap().room = usize::MAX;
        outbox.write();
        assert_eq!(outbox.state(), State::Behind(4), "the frame that was begun");
        let taken = &pipe.lock().unwrap().taken;
        assert_eq!(taken.len(), 4 * frame::frame_length(50_000));
        assert_eq!(outbox.metrics().outbox_bytes.get(), 0);
    }

    #[test]
    fn a_begun_message_counts_against_what_may_wait() {
        let (outbox, _) = outbox(0, 8192);
        outbox.keep_input(4000, true);
        for number in 1..10 {
            outbox.push(chunk(number..number + 1));
        }
        assert_eq!(outbox.metrics().outbox_lags.get(), 1);
        outbox.keep_input(0, true);
        assert_eq!(outbox.metrics().input_bytes.get(), 0);
    }

    #[test]
    fn a_begun_frame_is_finished_before_anything_else() {
        let (outbox, pipe) = outbox(4, 2000);
        outbox.push(chunk(10..13));
        outbox.ping();
        for number in 13..20 {
            outbox.push(chunk(number..number + 1));
        }
        assert_eq!(outbox.state(), State::Lagging);
        outbox.pong(b"later");
        pipe.lock().unwrap().room = usize::MAX;
        outbox.write();
        assert_eq!(
            outbox.state(),
            State::Behind(10),
            "4 bytes are the frame of 10"
        );
        let kinds: Vec<u8> = frames(&pipe.lock().unwrap().taken)
            .into_iter()
            .map(|(kind, _)| kind)
            .collect();
        assert_eq!(kinds, [1, 10, 9]);
    }

    #[test]
    fn a_flood_of_pings_is_answered_once() {
        let (outbox, pipe) = outbox(1, 1000);
        for number in 0..1000 {
            outbox.pong(format!("{number:03}").as_bytes());
        }
        assert!(outbox.lock().entries.len() <= 2);
        pipe.lock().unwrap().room = usize::MAX;
        outbox.write();
        assert_eq!(
            frames(&pipe.lock().unwrap().taken),
            [(10, "000".into()), (10, "999".into())]
        );
    }

    #[test]
    fn nothing_comes_after_the_close_frame() {
        let (outbox, pipe) = outbox(0, 1000);
        outbox.push(chunk(1..2));
        outbox.close(frame::close(Close::DEAD));
        outbox.push(chunk(2..3));
        outbox.ping();
        assert_eq!(outbox.state(), State::Waiting);
        pipe.lock().unwrap().room = usize::MAX;
        outbox.write();
        assert_eq!(outbox.state(), State::Closed);
        let kinds: Vec<u8> = frames(&pipe.lock().unwrap().taken)
            .into_iter()
            .map(|(kind, _)| kind)
            .collect();
        assert_eq!(kinds, [1, 8]);
    }

    proptest! {
        /// Whatever the socket takes and whenever: the wire holds whole frames, in order, each
        /// once; the room is never asked for a frame that is on the wire already; and once all is
        /// taken the newest frame is the last.
        #[test]
        fn the_wire_is_always_whole_frames_in_order(
            steps in prop::collection::vec((0usize..40, 1u64..6, any::<bool>()), 1..60),
            bytes_max in 600usize..3000,
        ) {
            let (outbox, pipe) = outbox(0, bytes_max);
            let mut number = 1;
            for (room, count, control) in steps {
                pipe.lock().unwrap().room = room;
                outbox.write();
                if let State::Behind(since) = outbox.state() {
                    let newest = number - 1;
                    let last = frames(&pipe.lock().unwrap().taken).iter().rev()
                        .find(|(kind, _)| *kind == 1).map_or(0, |(_, text)| text.parse().unwrap());
                    // Frames between the two were overtaken by what was caught up with and dropped again.
                    prop_assert!(since >= last && since <= newest, "{} {} {}", last, since, newest);
                    let next = (newest > since).then(|| chunk(newest..newest + 1));
                    outbox.catch_up(next, newest, true);
                }
                if control {
                    outbox.ping();
                    outbox.pong(b"x");
                }
                outbox.push(chunk(number..number + count));
                number += count;
                prop_assert!(outbox.lock().cost <= bytes_max + 64);
            }
            pipe.lock().unwrap().room = usize::MAX;
            outbox.write();
            let texts: Vec<u64> = frames(&pipe.lock().unwrap().taken).into_iter()
                .filter(|(kind, _)| *kind == 1).map(|(_, text)| text.parse().unwrap()).collect();
            prop_assert!(texts.is_sorted_by(|a, b| a < b), "{:?}", texts);
            if outbox.state() == State::Idle && number > 1 {
                prop_assert_eq!(texts.last().copied(), Some(number - 1));
            }
        }
    }
}
