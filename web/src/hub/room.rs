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

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep, sleep_until};
use uuid::Uuid;

use super::departed::Departed;
use super::outbox::{Chunk, Numbers, Outbox};
use super::{Context, Inner};
use crate::cluster::{LeaveReason, Member, Outbound, User};
use crate::demo;
use crate::metrics::Metrics;
use crate::websocket::close::Close;
use crate::websocket::frame::{self, Opcode};

/// Notices of departure that are kept for connections that lag.
const NOTICES_MAX: usize = 4096;

/// A room with its local connections.
pub(crate) struct Room {
    name: String,
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
    /// Bytes of messages from other nodes in `items`.
    downstream: usize,
    departed: Departed,
    local: usize,
    interested: bool,
    /// Counts entries and exits, so that a timer sees whether the room was empty all along.
    generation: u64,
    flush_due: bool,
    last_flush: Option<Instant>,
}

enum Item {
    Message {
        sender: Uuid,
        text: Bytes,
        local: bool,
    },
    Left(Uuid),
    Outbound(Outbound),
}

#[derive(Default)]
struct Delivery {
    /// The sequence number of the last frame.
    number: u64,
    seats: Vec<Seat>,
    senders: HashMap<Uuid, Sender>,
    notices: VecDeque<Notice>,
    /// Notices up to this sequence number are no longer kept.
    notices_lost: u64,
    upstream: VecDeque<Outbound>,
    stranger_check_due: bool,
}

/// A local connection.
struct Seat {
    member: Uuid,
    outbox: Arc<Outbox>,
    /// The sequence number of the last frame before it came.
    entered: u64,
}

/// A member that sent something since the room's first connection came.
struct Sender {
    color: u16,
    /// Its newest message and that message's sequence number.
    newest: Bytes,
    number: u64,
    last_message: Instant,
    /// Its departure will be told: it is local, or the directory knows it.
    confirmed: bool,
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
    pub(super) fn new(name: String, context: Arc<Context>) -> Self {
        Self {
            name,
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
        };
        self.queue(|pending, _| {
            pending.generation += 1;
            pending.local += 1;
            if !pending.interested {
                pending.interested = true;
                pending.outbound(Outbound::Interest {
                    room: self.name.clone(),
                    wanted: true,
                });
            }
            pending.outbound(Outbound::Join(joined));
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
        self.delivery().seats.retain(|seat| seat.member != member);
        let mut emptied = None;
        self.queue(|pending, _| {
            pending.generation += 1;
            pending.local -= 1;
            if pending.departed.insert(member) {
                pending.items.push(Item::Left(member));
            }
            pending.outbound(Outbound::Leave { member, reason });
            if pending.local == 0 {
                emptied = Some(pending.generation);
            }
        });
        self.occupants.fetch_sub(1, Ordering::SeqCst);
        if let Some(generation) = emptied {
            self.linger(generation, hub.clone());
        }
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

    pub(super) fn joined(&self, member: Uuid) {
        self.pending().departed.remove(member);
    }

    pub(super) fn updated(&self, member: Uuid, color: u16) {
        if let Some(sender) = self.delivery().senders.get_mut(&member) {
            sender.color = color;
        }
    }

    pub(super) fn left(self: &Arc<Self>, member: Uuid, reason: LeaveReason) {
        let mut known = false;
        self.queue(|pending, _| {
            known = !pending.departed.insert(member);
            if !known {
                pending.items.push(Item::Left(member));
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
        if pending.items.is_empty() || pending.flush_due {
            return;
        }
        pending.flush_due = true;
        let due = pending
            .last_flush
            .map(|last| last + self.context.config.tick);
        drop(pending);
        match due {
            Some(due) if due > now => self.flush_at(due),
            Some(_) | None => self.flush(),
        }
    }

    fn flush_at(self: &Arc<Self>, due: Instant) {
        let room = self.clone();
        tokio::spawn(async move {
            sleep_until(due).await;
            room.flush();
        });
    }

    fn flush(self: &Arc<Self>) {
        let now = Instant::now();
        let metrics = &self.context.metrics;
        let mut delivery = self.delivery();
        let items = {
            let mut pending = self.pending();
            pending.flush_due = false;
            pending.last_flush = Some(now);
            pending.downstream = 0;
            std::mem::take(&mut pending.items)
        };
        metrics.flushes.increment();
        tracing::trace!(room = self.name, items = items.len(), "flush");
        let strangers = delivery.flush(&self.name, items, now, metrics);
        let check = strangers && !std::mem::replace(&mut delivery.stranger_check_due, strangers);
        let stuck = self.hand_on(&mut delivery.upstream);
        drop(delivery);
        self.update_pause();
        if stuck {
            metrics.upstream_full.increment();
            let mut pending = self.pending();
            if !std::mem::replace(&mut pending.flush_due, true) {
                self.flush_at(now + self.context.config.tick);
            }
        }
        if check {
            self.check_strangers_at(now + self.context.config.stranger_timeout);
        }
    }

    /// Gives the cluster what it takes; true if something is left.
    fn hand_on(&self, upstream: &mut VecDeque<Outbound>) -> bool {
        while let Some(outbound) = upstream.pop_front() {
            let bytes = message_bytes(&outbound);
            match self.context.outbound.try_send(outbound) {
                Err(TrySendError::Full(outbound)) => {
                    upstream.push_front(outbound);
                    return true;
                }
                Ok(()) | Err(TrySendError::Closed(_)) => {
                    self.unsent.fetch_sub(bytes, Ordering::SeqCst);
                }
            }
        }
        false
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
            .filter(|sender| sender.number > since);
        let notices = delivery
            .notices
            .iter()
            .filter(|notice| notice.number > since && notice.last_message > seat.entered);
        let mut missed: Vec<(u64, &Bytes)> = messages
            .map(|sender| (sender.number, &sender.newest))
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
            bytes: shared(bytes, &self.context.metrics),
            numbers: Numbers::List(numbers),
        });
        outbox.catch_up(chunk, until, complete);
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
                pending.outbound(Outbound::Interest {
                    room: self.name.clone(),
                    wanted: false,
                });
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
    fn outbound(&mut self, outbound: Outbound) {
        self.items.push(Item::Outbound(outbound));
    }

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
        now: Instant,
        metrics: &Arc<Metrics>,
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
            encoded_length(&items)
        });
        let mut told = Vec::new();
        let mut local = Vec::new();
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
                    }
                    if is_local {
                        local.push((sender, text));
                    }
                }
                Item::Left(member) => {
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
                    self.upstream.push_back(outbound);
                }
            }
        }
        self.queue_messages(room, &mut local);
        if !bytes.is_empty() {
            self.send(first, shared(bytes, metrics), &told);
        }
        strangers
    }

    /// Gives every seat the frames numbered from `first`, less the departures of senders that sent
    /// nothing while it was there.
    fn send(&self, first: u64, bytes: Bytes, told: &[Told]) {
        let numbers = first..self.number + 1;
        let oldest = told
            .iter()
            .map(|told| told.last_message)
            .min()
            .unwrap_or(u64::MAX);
        for seat in &self.seats {
            if seat.entered < oldest {
                seat.outbox.push(Chunk {
                    bytes: bytes.clone(),
                    numbers: Numbers::Run(numbers.clone()),
                });
                continue;
            }
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
                    seat.outbox.push(Chunk {
                        bytes: bytes.slice(start..told.bytes.start),
                        numbers,
                    });
                }
                (start, number) = (told.bytes.end, told.number + 1);
            }
        }
    }

    /// Keeps what is newest of a sender, under the current number. True if its join was not seen.
    fn note(&mut self, id: Uuid, text: &Bytes, local: bool, now: Instant) -> bool {
        // A message from another node is a slice of a larger frame: a copy does not hold the frame.
        let newest = if local {
            text.clone()
        } else {
            Bytes::copy_from_slice(text)
        };
        let number = self.number;
        let sender = self.senders.entry(id).or_insert_with(|| Sender {
            color: hue(id),
            newest: Bytes::new(),
            number,
            last_message: now,
            confirmed: local,
        });
        sender.color = demo::color_of(text).unwrap_or(sender.color);
        sender.newest = newest;
        sender.number = number;
        sender.last_message = now;
        !sender.confirmed
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
            Item::Left(_) => frame::frame_length(LEFT_LENGTH_MAX),
            Item::Outbound(_) => 0,
        })
        .sum()
}

/// Bytes of the messages in `outbound`.
fn message_bytes(outbound: &Outbound) -> usize {
    match outbound {
        Outbound::Messages { items, .. } => items.iter().map(|(_, text)| text.len()).sum(),
        Outbound::Join(_) | Outbound::Leave { .. } | Outbound::Interest { .. } => 0,
    }
}

/// A hue that is as random as the member's id.
fn hue(member: Uuid) -> u16 {
    let [first, second, third, fourth, ..] = *member.as_bytes();
    (u32::from_be_bytes([first, second, third, fourth]) % 360) as u16
}

fn unix_ms() -> u64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Makes `bytes` shareable, and counts them as memory until the last share is dropped.
fn shared(bytes: Vec<u8>, metrics: &Arc<Metrics>) -> Bytes {
    struct Counted {
        bytes: Vec<u8>,
        metrics: Arc<Metrics>,
    }
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.metrics.outbox_bytes.fall(self.bytes.capacity() as u64);
        }
    }
    metrics.outbox_bytes.rise(bytes.capacity() as u64);
    Bytes::from_owner(Counted {
        bytes,
        metrics: metrics.clone(),
    })
}
