//! One room: what arrives, and the flush that sends it on.
//!
//! Whatever happens in a room becomes an item in its queue, in the order of arrival. A flush takes
//! the queue, encodes it once for all local connections, and hands the local part to the cluster.
//! It runs at once if the room was quiet for a tick, otherwise when the tick is over; nothing is
//! timed while nothing happens.
//!
//! Two locks: `pending` is held for moments only, so that whoever brings something never waits for a
//! flush; `delivery` is held during the flush, which writes to sockets. Where both are needed,
//! `delivery` is taken first.

pub(crate) mod visit;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep, sleep_until};
use uuid::Uuid;

use super::audience::{Audience, Heads};
use super::budget::{Budget, Hold, Kept};
use super::departed::Departed;
use super::outbox::{CHUNK_BYTES_WHOLE, Chunk, Numbers, Outbox};
use super::{Context, Inner, unix_ms};
use crate::cluster::{Cursor, Event, LeaveReason, Member, Outbound, User};
use crate::demo;
use crate::metrics::Metrics;
use crate::protocol::Sample;
use crate::websocket::close::Close;
use crate::websocket::frame::{self, Opcode};

/// Notices of departure that are kept for connections that lag.
const NOTICES_MAX: usize = 4096;

/// A room with its local connections.
pub(crate) struct Room {
    name: String,
    /// Stands for the room in binary frames of this node.
    number: u32,
    context: Arc<Context>,
    /// Local connections, counted under the lock of the hub's map.
    pub(super) occupants: AtomicUsize,
    /// Bytes of local messages that the cluster has not taken.
    unsent: AtomicUsize,
    /// Whether local connections are not to be read.
    paused: watch::Sender<bool>,
    pending: Mutex<Pending>,
    delivery: Mutex<Delivery>,
}

#[derive(Default)]
struct Pending {
    items: Vec<Item>,
    /// The newest position of each v1 member that moved.
    moves: HashMap<Uuid, Move>,
    /// Bytes of messages from other nodes in `items`.
    downstream: usize,
    departed: Departed,
    local: usize,
    interested: bool,
    interested_since: Option<Instant>,
    /// Counts entries and exits, so that a timer sees whether the room was empty all along.
    generation: u64,
    flush_due: bool,
    /// When the room is flushed whatever happens until then.
    again: Option<Instant>,
    last_flush: Option<LastFlush>,
}

/// When a flush began, and when it was done.
#[derive(Debug, Clone, Copy)]
struct LastFlush {
    began: Instant,
    done: Instant,
}

enum Item {
    Message {
        sender: Uuid,
        text: Bytes,
        local: bool,
    },
    /// A member is gone, and how.
    Left(Uuid, LeaveReason),
    /// The cluster shows a member, for the first time (true) or changed.
    Shown(Box<Member>, bool),
    /// Another node has a member now.
    MovedAway(Uuid),
    /// Named events of one origin.
    Events {
        origin: String,
        items: Vec<Event>,
    },
    /// Where the events of an origin begin.
    Head {
        origin: String,
        number: u64,
    },
    /// What a client missed.
    Replayed {
        ticket: u64,
        items: Vec<(String, Event)>,
        complete: bool,
    },
    /// Joins that wait for others to say where their events begin have waited enough.
    Ask,
    /// Another node began to watch: what was kept from the cluster goes with this flush.
    Watched,
    Outbound(Outbound),
}

/// A new position of a v1 member.
#[derive(Debug, Clone, Copy)]
struct Move {
    sample: Sample,
    /// It is a member of this node.
    local: bool,
}

#[derive(Default)]
struct Delivery {
    /// The sequence number of the last frame.
    number: u64,
    seats: Vec<Seat>,
    /// Seats that are behind.
    behind: usize,
    senders: HashMap<Uuid, Sender>,
    /// Newest messages are kept.
    keeps: bool,
    notices: VecDeque<Notice>,
    /// Notices up to this sequence number are no longer kept.
    notices_lost: u64,
    upstream: VecDeque<Outbound>,
    /// New positions of local members that the cluster has not taken.
    upstream_moves: HashMap<Uuid, Sample>,
    /// The v1 connections, since the first one came.
    audience: Option<Box<Audience>>,
    /// Where v1 members are, until there is an audience.
    positions: HashMap<Uuid, Sample>,
    /// Where the origins' events stand.
    heads: Heads,
    stranger_check_due: bool,
    /// When the room is to be flushed if nothing else happens: changes are told together then.
    flush_again: Option<Instant>,
}

/// A local connection.
struct Seat {
    member: Uuid,
    outbox: Arc<Outbox>,
    /// The sequence number of the last frame before it came.
    entered: u64,
    /// Its socket has not taken everything.
    behind: bool,
}

/// A member that sent something since the room's first connection came.
struct Sender {
    color: u16,
    /// Its newest message, while there is a seat that may have to skip ahead to it.
    newest: Option<Newest>,
    /// The sequence number of its newest message.
    number: u64,
    last_message: Instant,
    /// Its departure will be told: it is local, or the directory knows it.
    confirmed: bool,
}

/// The newest message of a sender.
struct Newest {
    text: Bytes,
    _hold: Hold,
}

/// A departure, as it was told.
struct Notice {
    number: u64,
    /// The sequence number of the sender's last message: who came after it is not told.
    last_message: u64,
    text: Bytes,
}

/// A local connection's presence in a room; it leaves when dropped.
pub(crate) struct Membership {
    room: Arc<Room>,
    hub: Weak<Inner>,
    outbox: Arc<Outbox>,
    member: Uuid,
    color: u16,
    reason: LeaveReason,
}

impl Membership {
    /// The member: the tutorial's `sender`.
    pub(crate) fn member(&self) -> Uuid {
        self.member
    }

    /// Its hue, 0–359.
    pub(crate) fn color(&self) -> u16 {
        self.color
    }

    /// Sends messages that are [stamped](demo::stamp) already, in order.
    pub(crate) fn send(&self, texts: Vec<Bytes>) {
        self.room.receive(self.member, texts);
    }

    /// Whether the room takes no more messages for now.
    pub(crate) fn pauses(&self) -> watch::Receiver<bool> {
        self.room.paused.subscribe()
    }

    /// Gives the outbox, whose connection missed the frames after number `since`, what is newest.
    pub(crate) fn catch_up(&self, since: u64) {
        self.room.catch_up(self.member, &self.outbox, since);
    }

    /// The connection's socket has taken everything that waited.
    pub(crate) fn taken(&self) {
        self.room.taken(self.member);
    }

    /// Leaves the room, for a reason.
    pub(crate) fn leave(mut self, reason: LeaveReason) {
        self.reason = reason;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.room.exit(self.member, self.reason, &self.hub);
    }
}

impl Room {
    pub(super) fn new(name: String, number: u32, context: Arc<Context>) -> Self {
        Self {
            name,
            number,
            context,
            occupants: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            paused: watch::Sender::new(false),
            pending: Mutex::default(),
            delivery: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether nothing is under way.
    pub(super) fn is_settled(&self) -> bool {
        let delivery = self.delivery();
        let pending = self.pending();
        delivery.upstream.is_empty() && pending.items.is_empty() && !pending.interested
    }

    pub(super) fn enter(self: &Arc<Self>, outbox: Arc<Outbox>, hub: Weak<Inner>) -> Membership {
        let member = Uuid::new_v4();
        let color = hue(member);
        {
            let mut delivery = self.delivery();
            let entered = delivery.number;
            delivery.seats.push(Seat {
                member,
                outbox: outbox.clone(),
                entered,
                behind: false,
            });
        }
        let joined = Member {
            id: member,
            room: self.name.clone(),
            user: User {
                id: String::new(),
                name: String::new(),
                color,
            },
            state: Bytes::from_static(b"null"),
            node: self.context.directory.node(),
            joined_at: unix_ms(),
            away: false,
            epoch: 0,
            resumable: false,
        };
        self.queue(|pending, _| {
            self.occupy(pending);
            self.outbound(pending, Outbound::Join(joined));
        });
        Membership {
            room: self.clone(),
            hub,
            outbox,
            member,
            color,
            reason: LeaveReason::Closed,
        }
    }

    fn exit(self: &Arc<Self>, member: Uuid, reason: LeaveReason, hub: &Weak<Inner>) {
        self.delivery().vacate(member);
        self.vacate(hub, |pending| {
            if pending.departed.insert(member) {
                pending.items.push(Item::Left(member, reason));
            }
            self.outbound(pending, Outbound::Leave { member, reason });
        });
    }

    /// One more local connection.
    fn occupy(&self, pending: &mut Pending) {
        pending.generation += 1;
        pending.local += 1;
        if !pending.interested {
            pending.interested = true;
            pending.interested_since = Some(Instant::now());
            self.outbound(
                pending,
                Outbound::Interest {
                    room: self.name.clone(),
                    wanted: true,
                },
            );
        }
    }

    /// One local connection less; `farewell` says what that means.
    fn vacate(self: &Arc<Self>, hub: &Weak<Inner>, farewell: impl FnOnce(&mut Pending)) {
        let mut emptied = None;
        self.queue(|pending, _| {
            pending.generation += 1;
            pending.local -= 1;
            farewell(pending);
            if pending.local == 0 {
                emptied = Some(pending.generation);
            }
        });
        self.occupants.fetch_sub(1, Ordering::SeqCst);
        if let Some(generation) = emptied {
            self.linger(generation, hub.clone());
        }
    }

    /// Queues a word to the cluster; what waits of these pauses the room's connections.
    fn outbound(&self, pending: &mut Pending, outbound: Outbound) {
        self.unsent.fetch_add(cost(&outbound), Ordering::SeqCst);
        pending.items.push(Item::Outbound(outbound));
    }

    fn receive(self: &Arc<Self>, sender: Uuid, texts: Vec<Bytes>) {
        self.queue(|pending, metrics| {
            // Removed by the cluster while its connection is still being closed.
            if pending.departed.contains(sender) {
                metrics.messages_dropped.departed.add(texts.len() as u64);
                return;
            }
            for text in texts {
                self.unsent.fetch_add(text.len(), Ordering::SeqCst);
                pending.items.push(Item::Message {
                    sender,
                    text,
                    local: true,
                });
            }
        });
        self.update_pause();
    }

    pub(super) fn deliver(self: &Arc<Self>, items: Vec<(Uuid, Bytes)>) {
        self.queue(|pending, metrics| {
            if pending.local == 0 {
                return;
            }
            metrics.messages_remote.add(items.len() as u64);
            for (sender, text) in items {
                if pending.departed.contains(sender) {
                    metrics.messages_dropped.departed.increment();
                } else if std::str::from_utf8(&text).is_err() {
                    metrics.messages_dropped.malformed.increment();
                } else {
                    pending.downstream += text.len();
                    pending.items.push(Item::Message {
                        sender,
                        text,
                        local: false,
                    });
                }
            }
            pending.shed(self.context.config.downstream_bytes_max, metrics);
        });
    }

    /// The cluster shows a member that it did not show before (`fresh`), or a changed one.
    pub(super) fn shown(self: &Arc<Self>, member: Member, fresh: bool) {
        if !fresh && let Some(sender) = self.delivery().senders.get_mut(&member.id) {
            sender.color = member.user.color;
        }
        self.queue(|pending, _| {
            if fresh {
                pending.departed.remove(member.id);
            }
            pending.items.push(Item::Shown(Box::new(member), fresh));
        });
    }

    pub(super) fn left(self: &Arc<Self>, member: Uuid, reason: LeaveReason) {
        let mut known = false;
        self.queue(|pending, _| {
            known = !pending.departed.insert(member);
            pending.moves.remove(&member);
            if !known {
                pending.items.push(Item::Left(member, reason));
            }
        });
        if known {
            return;
        }
        if let Some(seat) = self
            .delivery()
            .seats
            .iter()
            .find(|seat| seat.member == member)
        {
            tracing::info!(room = self.name, %member, ?reason, "removed by the cluster");
            seat.outbox.end(Close::REMOVED);
        }
    }

    /// Changes what is pending, and sees to it that it is flushed.
    fn queue(self: &Arc<Self>, change: impl FnOnce(&mut Pending, &Metrics)) {
        let now = Instant::now();
        let mut pending = self.pending();
        change(&mut pending, &self.context.metrics);
        if (pending.items.is_empty() && pending.moves.is_empty()) || pending.flush_due {
            return;
        }
        pending.flush_due = true;
        let ticker = &self.context.ticker;
        // A room is quiet when nothing was flushed for a tick. One whose flushes take longer than that
        // is not: all that has come meanwhile goes with the next.
        let due = pending
            .last_flush
            .filter(|last| now < last.done + ticker.tick())
            .map(|last| ticker.next_flush(last.began));
        drop(pending);
        match due {
            Some(due) => self.flush_at(due),
            // Whoever brings something to a quiet room waits for its flush: that holds back the mesh when
            // it brings more than can be sent on.
            None => self.flush(),
        }
    }

    fn flush_at(self: &Arc<Self>, due: Instant) {
        self.context.ticker.flush_at(due, self.number, self.clone());
    }

    /// Flushes at `due` what waits until then, unless that is arranged already.
    fn flush_again_at(self: &Arc<Self>, due: Instant) {
        let mut pending = self.pending();
        if pending.again.is_none() {
            pending.again = Some(due);
            drop(pending);
            self.flush_at(due);
        }
    }

    /// Sends on what is pending.
    pub(crate) fn flush(self: &Arc<Self>) {
        let now = Instant::now();
        let metrics = &self.context.metrics;
        let mut delivery = self.delivery();
        let (items, moves) = {
            let mut pending = self.pending();
            pending.flush_due = false;
            pending.again = pending.again.filter(|due| *due > now);
            pending.last_flush = Some(LastFlush {
                began: now,
                done: now,
            });
            pending.downstream = 0;
            (
                std::mem::take(&mut pending.items),
                std::mem::take(&mut pending.moves),
            )
        };
        metrics.flushes.increment();
        tracing::trace!(room = self.name, items = items.len(), "flush");
        let moves = self.with_colors(&delivery, moves);
        let strangers = delivery.flush(&self.name, items, moves, now, &self.context.budget);
        let check = strangers && !std::mem::replace(&mut delivery.stranger_check_due, strangers);
        let stuck = self.hand_on(&mut delivery);
        let again = delivery.flush_again.take();
        drop(delivery);
        if let Some(last) = &mut self.pending().last_flush {
            last.done = Instant::now();
        }
        self.context.budget.relieve();
        self.update_pause();
        if stuck {
            metrics.upstream_full.increment();
            let mut pending = self.pending();
            if !std::mem::replace(&mut pending.flush_due, true) {
                self.flush_at(self.context.ticker.next_flush(now));
            }
        }
        if let Some(due) = again {
            self.flush_again_at(due);
        }
        if check {
            self.check_strangers_at(now + self.context.config.stranger_timeout);
        }
    }

    /// Another node has its first client here.
    pub(super) fn watched(self: &Arc<Self>) {
        self.queue(|pending, _| pending.items.push(Item::Watched));
    }

    /// Gives the cluster what it takes; true if something is left. While no other node watches, it does
    /// not get what clients only say to each other; their positions are kept until one does.
    fn hand_on(&self, delivery: &mut Delivery) -> bool {
        let upstream = &mut delivery.upstream;
        if upstream.is_empty() && delivery.upstream_moves.is_empty() {
            return false;
        }
        let is_watched = self.context.directory.is_watched(&self.name);
        while let Some(outbound) = upstream.pop_front() {
            let bytes = cost(&outbound);
            if !is_watched && matches!(outbound, Outbound::Messages { .. }) {
                self.unsent.fetch_sub(bytes, Ordering::SeqCst);
                continue;
            }
            if let Some(outbound) = self.context.uplink.offer(outbound) {
                upstream.push_front(outbound);
                return true;
            }
            self.unsent.fetch_sub(bytes, Ordering::SeqCst);
        }
        if delivery.upstream_moves.is_empty() || !is_watched {
            return false;
        }
        let moves = Outbound::Cursors {
            room: self.name.clone(),
            items: delivery
                .upstream_moves
                .iter()
                .map(|(member, Sample { time_ms, x, y })| Cursor {
                    member: *member,
                    time_ms: *time_ms,
                    x: *x,
                    y: *y,
                })
                .collect(),
        };
        let full = self.context.uplink.offer(moves).is_some();
        if !full {
            delivery.upstream_moves.clear();
        }
        full
    }

    /// Positions of v1 members with the hue that tutorial connections see them in; without any such
    /// connection it does not matter.
    fn with_colors(
        &self,
        delivery: &Delivery,
        moves: HashMap<Uuid, Move>,
    ) -> Vec<(Uuid, Move, u16)> {
        let color = |member: Uuid| match delivery.senders.get(&member) {
            _ if delivery.seats.is_empty() => 0,
            Some(sender) => sender.color,
            None => self
                .context
                .directory
                .member(&self.name, member)
                .map_or_else(|| hue(member), |member| member.user.color),
        };
        moves
            .into_iter()
            .map(|(member, position)| (member, position, color(member)))
            .collect()
    }

    fn update_pause(&self) {
        self.paused.send_if_modified(|paused| {
            // Read under the channel's lock: whoever comes last decides by the newest value.
            let over = self.unsent.load(Ordering::SeqCst) > self.context.config.upstream_bytes_max;
            std::mem::replace(paused, over) != over
        });
    }

    fn catch_up(&self, member: Uuid, outbox: &Outbox, since: u64) {
        let delivery = self.delivery();
        let Some(seat) = delivery.seats.iter().find(|seat| seat.member == member) else {
            return;
        };
        if since < delivery.notices_lost {
            outbox.end(Close::TOO_FAR_BEHIND);
            return;
        }
        let messages = delivery
            .senders
            .values()
            .filter(|sender| sender.number > since)
            .filter_map(|sender| Some((sender.number, &sender.newest.as_ref()?.text)));
        let notices = delivery
            .notices
            .iter()
            .filter(|notice| notice.number > since && notice.last_message > seat.entered);
        let mut missed: Vec<(u64, &Bytes)> = messages
            .chain(notices.map(|notice| (notice.number, &notice.text)))
            .collect();
        missed.sort_unstable_by_key(|(number, _)| *number);

        let bytes_max = outbox.bytes_max();
        let mut bytes = Vec::new();
        let mut numbers = Vec::new();
        for (number, text) in &missed {
            if !numbers.is_empty() && bytes.len() + frame::frame_length(text.len()) > bytes_max {
                break;
            }
            frame::encode(Opcode::Text, text, &mut bytes);
            numbers.push(*number);
        }
        let complete = numbers.len() == missed.len();
        let until = numbers.last().copied().unwrap_or(since);
        let chunk = (!numbers.is_empty()).then(|| Chunk {
            bytes: self.context.budget.share(bytes),
            numbers: Numbers::List(numbers),
        });
        outbox.catch_up(chunk, until, complete);
    }

    fn taken(&self, member: Uuid) {
        let mut delivery = self.delivery();
        let Delivery { seats, behind, .. } = &mut *delivery;
        if let Some(seat) = seats.iter_mut().find(|seat| seat.member == member)
            && seat.behind
            && !seat.outbox.is_behind()
        {
            seat.behind = false;
            *behind -= 1;
            delivery.forget();
        }
    }

    /// After the last local connection: ends the cluster's interest first and the room later, unless
    /// someone comes.
    fn linger(self: &Arc<Self>, generation: u64, hub: Weak<Inner>) {
        let room = self.clone();
        let config = &self.context.config;
        let (interest, rest) = (
            config.interest_linger,
            config.room_linger.saturating_sub(config.interest_linger),
        );
        // While the runtime shuts down, connections are dropped outside of it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            sleep(interest).await;
            if !room.is_empty_since(generation) {
                return;
            }
            room.lose_interest(generation);
            sleep(rest).await;
            while room.is_empty_since(generation) {
                let Some(inner) = hub.upgrade() else {
                    return;
                };
                if inner.evict(&room) {
                    return;
                }
                drop(inner);
                sleep(Duration::from_secs(1)).await;
            }
        });
    }

    fn is_empty_since(&self, generation: u64) -> bool {
        self.pending().generation == generation
    }

    fn lose_interest(self: &Arc<Self>, generation: u64) {
        self.queue(|pending, _| {
            if pending.generation == generation && std::mem::take(&mut pending.interested) {
                self.outbound(
                    pending,
                    Outbound::Interest {
                        room: self.name.clone(),
                        wanted: false,
                    },
                );
            }
        });
    }

    fn check_strangers_at(self: &Arc<Self>, due: Instant) {
        let room = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep_until(due).await;
            if let Some(room) = room.upgrade() {
                room.check_strangers();
            }
        });
    }

    /// Asks the directory for the senders whose join was not seen; those that it does not know and
    /// that are silent have left.
    fn check_strangers(self: &Arc<Self>) {
        let now = Instant::now();
        let members: HashSet<Uuid> = self
            .context
            .directory
            .members(&self.name)
            .into_iter()
            .map(|member| member.id)
            .collect();
        let mut gone = Vec::new();
        let mut again = false;
        {
            let mut delivery = self.delivery();
            for (id, sender) in delivery
                .senders
                .iter_mut()
                .filter(|(_, sender)| !sender.confirmed)
            {
                if members.contains(id) {
                    sender.confirmed = true;
                } else if sender.last_message + self.context.config.stranger_timeout <= now {
                    gone.push(*id);
                } else {
                    again = true;
                }
            }
            delivery.stranger_check_due = again;
        }
        for member in gone {
            tracing::debug!(room = self.name, %member, "a sender that never joined is gone");
            self.left(member, LeaveReason::NodeLost);
        }
        if again {
            self.check_strangers_at(now + self.context.config.stranger_timeout);
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delivery(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// Past the bound: of the messages from other nodes keeps the newest per sender, and if that is
    /// not enough the newest of all.
    fn shed(&mut self, bytes_max: usize, metrics: &Metrics) {
        if self.downstream <= bytes_max {
            return;
        }
        let mut seen = HashSet::new();
        let mut bytes = 0;
        let mut dropped = 0;
        let mut kept: Vec<Item> = std::mem::take(&mut self.items)
            .into_iter()
            .rev()
            .filter(|item| {
                let Item::Message {
                    sender,
                    text,
                    local: false,
                } = item
                else {
                    return true;
                };
                let keep = seen.insert(*sender) && bytes + text.len() <= bytes_max;
                if keep {
                    bytes += text.len();
                } else {
                    dropped += 1;
                }
                keep
            })
            .collect();
        kept.reverse();
        self.items = kept;
        self.downstream = bytes;
        metrics.messages_dropped.overtaken.add(dropped);
    }
}

impl Delivery {
    /// Sends `items` to all seats and queues the local ones for the cluster. True if a sender was
    /// met whose join was not seen.
    fn flush(
        &mut self,
        room: &str,
        items: Vec<Item>,
        moves: Vec<(Uuid, Move, u16)>,
        now: Instant,
        budget: &Arc<Budget>,
    ) -> bool {
        if self.seats.is_empty() {
            self.senders.clear();
            self.notices.clear();
            self.notices_lost = self.number;
        }
        let first = self.number + 1;
        let mut bytes = Vec::with_capacity(if self.seats.is_empty() {
            0
        } else {
            encoded_length(&items) + moves.len() * frame::frame_length(MOVE_LENGTH_MAX)
        });
        let mut told = Vec::new();
        let mut local = Vec::new();
        let mut said = Vec::new();
        let mut strangers = false;
        for item in items {
            match item {
                Item::Message {
                    sender,
                    text,
                    local: is_local,
                } => {
                    if !self.seats.is_empty() {
                        self.number += 1;
                        frame::encode(Opcode::Text, &text, &mut bytes);
                        strangers |= self.note(sender, &text, is_local, now);
                        said.push((sender, self.number, text.clone()));
                    }
                    if let Some(audience) = &mut self.audience
                        && let Some(sample) = demo::position(&text, unix_ms())
                    {
                        audience.moved(sender, sample);
                    }
                    if is_local {
                        local.push((sender, text));
                    }
                }
                Item::Left(member, reason) => {
                    self.upstream_moves.remove(&member);
                    self.positions.remove(&member);
                    if let Some(audience) = &mut self.audience {
                        audience.left(member, reason, now);
                    }
                    let Some(sender) = self.senders.remove(&member) else {
                        continue;
                    };
                    self.number += 1;
                    let (number, last_message) = (self.number, sender.number);
                    let text = demo::left(member, sender.color);
                    let start = bytes.len();
                    frame::encode(Opcode::Text, &text, &mut bytes);
                    told.push(Told {
                        number,
                        bytes: start..bytes.len(),
                        last_message,
                    });
                    self.remember(Notice {
                        number,
                        last_message,
                        text,
                    });
                }
                Item::Outbound(outbound) => {
                    self.queue_messages(room, &mut local);
                    self.queue_outbound(outbound);
                }
                Item::Shown(member, fresh) => {
                    if let Some(audience) = &mut self.audience {
                        audience.shown(&member, fresh, now);
                    }
                }
                Item::MovedAway(member) => {
                    if let Some(audience) = &mut self.audience {
                        audience.moved_away(member);
                    }
                }
                Item::Events { origin, items } => self.events(origin, &items),
                Item::Head { origin, number } => self.head(origin, number, now),
                Item::Replayed {
                    ticket,
                    items,
                    complete,
                } => {
                    if let Some(audience) = &mut self.audience {
                        audience.replayed(ticket, items, complete);
                    }
                }
                Item::Ask => self.ask(now),
                Item::Watched => {}
            }
        }
        self.queue_messages(room, &mut local);
        for (member, Move { sample, local }, color) in moves {
            if !self.seats.is_empty() {
                let text = demo::cursor(member, color, sample);
                self.number += 1;
                frame::encode(Opcode::Text, &text, &mut bytes);
                // The cluster shows it, so its departure will be told.
                self.note(member, &text, true, now);
                said.push((member, self.number, text));
            }
            match &mut self.audience {
                Some(audience) => audience.moved(member, sample),
                None => {
                    self.positions.insert(member, sample);
                }
            }
            if local {
                self.upstream_moves.insert(member, sample);
            }
        }
        if let Some(audience) = &mut self.audience {
            self.flush_again = audience.flush(&self.heads, now);
        }
        if !bytes.is_empty() {
            if told.is_empty() && bytes.len() > CHUNK_BYTES_WHOLE {
                self.send_parts(first, &bytes, budget);
            } else {
                self.send(first, budget.share(bytes), &told);
            }
            if self.behind > 0 {
                self.keep(said, budget);
            }
            self.forget();
        }
        strangers
    }

    /// Gives every seat the frames numbered from `first` in several chunks, each freed when everybody has
    /// it: of one long chunk each connection that is in the middle of it would copy its rest.
    fn send_parts(&mut self, first: u64, bytes: &[u8], budget: &Arc<Budget>) {
        let (mut start, mut end) = (0, 0);
        let (mut number, mut next) = (first, first);
        let mut parts = Vec::new();
        while end < bytes.len() {
            end += frame::frame_at(&bytes[end..], 0).range.end;
            next += 1;
            if end - start >= CHUNK_BYTES_WHOLE / 2 || end >= bytes.len() {
                parts.push(Chunk {
                    bytes: budget.share(bytes[start..end].to_vec()),
                    numbers: Numbers::Run(number..next),
                });
                (start, number) = (end, next);
            }
        }
        self.behind = 0;
        for seat in &mut self.seats {
            for part in &parts {
                seat.behind = seat.outbox.push(part.clone());
            }
            self.behind += usize::from(seat.behind);
        }
    }

    /// Gives every seat the frames numbered from `first`, less the departures of senders that sent
    /// nothing while it was there.
    fn send(&mut self, first: u64, bytes: Bytes, told: &[Told]) {
        let numbers = first..self.number + 1;
        let oldest = told
            .iter()
            .map(|told| told.last_message)
            .min()
            .unwrap_or(u64::MAX);
        self.behind = 0;
        for seat in &mut self.seats {
            if seat.entered < oldest {
                seat.behind = seat.outbox.push(Chunk {
                    bytes: bytes.clone(),
                    numbers: Numbers::Run(numbers.clone()),
                });
                self.behind += usize::from(seat.behind);
                continue;
            }
            seat.behind = seat.outbox.is_behind();
            let (mut start, mut number) = (0, first);
            let end = Told {
                number: self.number + 1,
                bytes: bytes.len()..bytes.len(),
                last_message: 0,
            };
            for told in told
                .iter()
                .filter(|told| seat.entered >= told.last_message)
                .chain([&end])
            {
                if told.number > number {
                    let numbers = Numbers::Run(number..told.number);
                    seat.behind = seat.outbox.push(Chunk {
                        bytes: bytes.slice(start..told.bytes.start),
                        numbers,
                    });
                }
                (start, number) = (told.bytes.end, told.number + 1);
            }
            self.behind += usize::from(seat.behind);
        }
    }

    /// Keeps of what was said what is newest of its sender.
    fn keep(&mut self, said: Vec<(Uuid, u64, Bytes)>, budget: &Arc<Budget>) {
        self.keeps = true;
        for (id, number, text) in said {
            let Some(sender) = self
                .senders
                .get_mut(&id)
                .filter(|sender| sender.number == number)
            else {
                continue;
            };
            // A copy: the message may be a slice of a larger frame, and counts elsewhere.
            let text = Bytes::copy_from_slice(&text);
            sender.newest = Some(Newest {
                _hold: budget.hold(Kept::Newest, text.len()),
                text,
            });
        }
    }

    /// Lets go of newest messages if no seat is behind.
    fn forget(&mut self) {
        if self.behind == 0 && std::mem::take(&mut self.keeps) {
            for sender in self.senders.values_mut() {
                sender.newest = None;
            }
        }
    }

    /// A local connection goes.
    fn vacate(&mut self, member: Uuid) {
        let behind = &mut self.behind;
        self.seats.retain(|seat| {
            let goes = seat.member == member;
            *behind -= usize::from(goes && seat.behind);
            !goes
        });
        self.forget();
    }

    /// Notes that a sender said something, under the current number. True if its join was not seen.
    fn note(&mut self, id: Uuid, text: &Bytes, local: bool, now: Instant) -> bool {
        let number = self.number;
        let sender = self.senders.entry(id).or_insert_with(|| Sender {
            color: hue(id),
            newest: None,
            number,
            last_message: now,
            confirmed: local,
        });
        sender.color = demo::color_of(text).unwrap_or(sender.color);
        sender.number = number;
        sender.last_message = now;
        !sender.confirmed
    }

    fn events(&mut self, origin: String, items: &[Event]) {
        for event in items {
            if let Some(audience) = &mut self.audience {
                audience.event(&origin, event);
            }
        }
        if let Some(last) = items.last() {
            let head = self.heads.entry(origin).or_default();
            *head = (*head).max(last.number);
        }
    }

    fn head(&mut self, origin: String, number: u64, now: Instant) {
        if let Some(audience) = &mut self.audience {
            audience.head(&origin, number);
        }
        let head = self.heads.entry(origin).or_default();
        *head = (*head).max(number);
        self.ask(now);
    }

    /// Asks for what sessions missed that come back, as far as it is time.
    fn ask(&mut self, now: Instant) {
        if let Some(audience) = &mut self.audience {
            let asked = audience.ask(&self.heads, now);
            self.upstream.extend(asked);
        }
    }

    /// Queues a word for the cluster, after those that wait there; events go together.
    fn queue_outbound(&mut self, outbound: Outbound) {
        match (self.upstream.back_mut(), outbound) {
            (Some(Outbound::Events { items, .. }), Outbound::Events { items: more, .. }) => {
                items.extend(more);
            }
            (_, outbound) => {
                if matches!(outbound, Outbound::Interest { wanted: false, .. }) {
                    self.heads.clear();
                }
                self.upstream.push_back(outbound);
            }
        }
    }

    fn remember(&mut self, notice: Notice) {
        self.notices.push_back(notice);
        if self.notices.len() > NOTICES_MAX
            && let Some(oldest) = self.notices.pop_front()
        {
            self.notices_lost = oldest.number;
        }
    }

    /// Moves local messages to the queue for the cluster, together with those that wait there.
    fn queue_messages(&mut self, room: &str, local: &mut Vec<(Uuid, Bytes)>) {
        if local.is_empty() {
            return;
        }
        if let Some(Outbound::Messages { items, .. }) = self.upstream.back_mut() {
            items.append(local);
        } else {
            self.upstream.push_back(Outbound::Messages {
                room: room.to_owned(),
                items: std::mem::take(local),
            });
        }
    }
}

/// A departure among the frames of a flush.
struct Told {
    number: u64,
    bytes: Range<usize>,
    last_message: u64,
}

/// Room for all frames of `items`.
fn encoded_length(items: &[Item]) -> usize {
    /// A departure's text is at most this long.
    const LEFT_LENGTH_MAX: usize = 120;
    items
        .iter()
        .map(|item| match item {
            Item::Message { text, .. } => frame::frame_length(text.len()),
            Item::Left(..) => frame::frame_length(LEFT_LENGTH_MAX),
            _ => 0,
        })
        .sum()
}

/// A position of a v1 member is at most this long as a tutorial message.
const MOVE_LENGTH_MAX: usize = 180;

/// What a word to the cluster counts beside its contents.
const OUTBOUND_COST: usize = 64;

/// Bytes that `outbound` counts while it waits for the cluster.
fn cost(outbound: &Outbound) -> usize {
    let contents = |items: &[(Uuid, Bytes)]| items.iter().map(|(_, text)| text.len()).sum();
    match outbound {
        Outbound::Messages { items, .. } => contents(items),
        Outbound::Events { items, .. } => contents(items) + items.len() * OUTBOUND_COST,
        Outbound::Join(Member { state, .. })
        | Outbound::Update {
            state: Some(state), ..
        } => OUTBOUND_COST + state.len(),
        Outbound::Update { state: None, .. }
        | Outbound::Break { .. }
        | Outbound::Leave { .. }
        | Outbound::Interest { .. } => OUTBOUND_COST,
        Outbound::Cursors { .. } | Outbound::Replay { .. } => 0,
    }
}

/// A hue that is as random as the member's id.
fn hue(member: Uuid) -> u16 {
    let [first, second, third, fourth, ..] = *member.as_bytes();
    (u32::from_be_bytes([first, second, third, fourth]) % 360) as u16
}
