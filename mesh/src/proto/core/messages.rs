//! The message lane: numbering, rings, gaps, and what gives way on a slow link.
//!
//! Numbers rise per origin and boot over all rooms; each frame says from where to where it makes
//! its receiver complete in its room, so a room nobody used for a while needs no memory at all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::MESSAGE_BYTES_MAX;
use super::super::event::{Event, Lane, Message, MessageKind};
use super::super::identity::{Boot, ConnId, MemberId, NodeName, RoomName, Time};
use super::super::rule::Rule;
use super::super::wire::{Frame, MessagePull, Messages, OwnerId};
use super::Core;
use super::region::Way;

/// What a ring keeps of a room.
const RING_MESSAGES: usize = 256;
const RING_BYTES: usize = 64 * 1024;
/// What it keeps while some of it went by way of a gateway that may turn out to be gone: the same again
/// must be there for the gateway's neighbours. From half of it on nothing more is shared, until the
/// room has calmed down to an eighth.
const RING_SHARED_MESSAGES: usize = 2 * 1024;
const RING_SHARED_BYTES: usize = 1024 * 1024;
/// What all rings keep together; past it the oldest are emptied.
const RINGS_BYTES: usize = 8 * 1024 * 1024;
pub(super) const RING_AGE: Duration = Duration::from_secs(30);
/// A gateway passes on within this time, or its link is given up.
pub(super) const PASSED_ON_WITHIN: Duration = Duration::from_secs(4);
/// Unsent message bytes to a peer beyond which a link counts as slow.
const UNSENT_MAX: usize = 256 * 1024;
/// Unsent message bytes that are as good as none.
const DRAINED_MAX: usize = 16 * 1024;
/// Payload bytes after which a frame is full.
const FRAME_PAYLOAD: usize = 48 * 1024;
/// For how long after a message through a relay it is said, every second, how far they are.
const TAILS_FOR: Duration = Duration::from_secs(5);
/// A gap is given up after this long with a way to the origin: a stalled link is noticed within 3 s,
/// its successor is up a second later.
pub(super) const GAP_MAX: Duration = Duration::from_secs(5);
/// The same when the origin is out of sight, or three times what others' answers take.
const GAP_HIDDEN_MAX: Duration = Duration::from_millis(1_500);
/// Where nobody is to be asked, one is looked for again after this long.
const ASK_NOBODY: Duration = Duration::from_millis(500);
/// Nodes of which it is remembered when a life ended.
const OVER_MAX: usize = 1_024;
/// Bytes that wait behind one gap.
const GAP_BYTES: usize = 256 * 1024;

/// Everything the node knows of messages.
#[derive(Debug, Default)]
pub(super) struct Messaging {
    /// The last number this node gave.
    last: u64,
    /// No ring that was dropped had a later number of this node.
    forgotten: u64,
    rings: BTreeMap<RoomName, Ring>,
    /// Bytes in all rings.
    kept_bytes: usize,
    incoming: BTreeMap<RoomName, BTreeMap<OwnerId, Incoming>>,
    /// With which operation of the own log this node's interest in a room began.
    listening: BTreeMap<RoomName, u64>,
    gaps: BTreeSet<(RoomName, OwnerId)>,
    /// When to look at a room's ring next.
    expiry: VecDeque<(Time, RoomName)>,
    /// Owners whose life is over, and when what is known of their messages goes too.
    ended: VecDeque<(Time, OwnerId)>,
    /// Owners that said `Bye` after their last message.
    finished: BTreeSet<OwnerId>,
    /// The newest life of each node that ended, and when: for clients that still name it.
    over: BTreeMap<NodeName, (Boot, Time)>,
}

#[derive(Debug, Default)]
struct Ring {
    items: VecDeque<Kept>,
    bytes: usize,
    /// The last number of this node in the room.
    own_last: u64,
    /// Everything after this number is in the ring, per origin.
    floors: BTreeMap<OwnerId, u64>,
    /// The last number that was dropped, per origin.
    dropped: BTreeMap<OwnerId, u64>,
    /// When something last went by way of a gateway.
    shared_at: Option<Time>,
    /// More is said than is shared.
    overflows: bool,
    /// It is due to be looked at.
    due: bool,
}

#[derive(Debug)]
struct Kept {
    at: Time,
    origin: OwnerId,
    number: u64,
    message: Message,
}

impl Ring {
    /// Keeps what `origin` said; `me` is this node.
    fn keep(
        &mut self,
        now: Time,
        me: &OwnerId,
        origin: &OwnerId,
        base: u64,
        number: u64,
        message: Message,
    ) {
        self.floors.entry(origin.clone()).or_insert(base);
        self.bytes += message.payload.len();
        self.items.push_back(Kept {
            at: now,
            origin: origin.clone(),
            number,
            message,
        });
        self.trim(now, me);
    }

    fn is_over(&self, messages: usize, bytes: usize) -> bool {
        self.items.len() > messages || self.bytes > bytes
    }

    /// Drops the oldest down to the bounds, but not what a gateway may not have passed on yet.
    fn trim(&mut self, now: Time, me: &OwnerId) {
        let within = |at: Time| now.since(at) < PASSED_ON_WITHIN;
        let shares = self.shared_at.is_some_and(within);
        let is_held = |kept: &Kept| shares && within(kept.at) && kept.origin == *me;
        while self.items.len() > 1 && self.is_over(RING_MESSAGES, RING_BYTES) {
            match self.items.iter().position(|kept| !is_held(kept)) {
                Some(index) => self.drop_at(index),
                None if self.is_over(RING_SHARED_MESSAGES, RING_SHARED_BYTES) => self.drop_oldest(),
                None => return,
            }
        }
    }

    /// Whether there is room to keep what is shared for as long as a gateway may take.
    fn has_room_to_share(&self) -> bool {
        let part = if self.overflows { 8 } else { 2 };
        !self.is_over(RING_SHARED_MESSAGES / part, RING_SHARED_BYTES / part)
    }

    fn expire(&mut self, now: Time) {
        while self
            .items
            .front()
            .is_some_and(|kept| now.since(kept.at) >= RING_AGE)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        self.drop_at(0);
    }

    /// Drops one of which there is no older one of its origin.
    fn drop_at(&mut self, index: usize) {
        if let Some(kept) = self.items.remove(index) {
            self.bytes -= kept.message.payload.len();
            if let Some(floor) = self.floors.get_mut(&kept.origin) {
                *floor = (*floor).max(kept.number);
            }
            self.dropped.insert(kept.origin, kept.number);
        }
    }
}

/// How far the messages of a room have been sent to a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// Up to this number of this node.
    to: u64,
    /// There were later ones, and no way to the node.
    missed: bool,
    /// They went through a relay, which may drop them, or the link broke soon afterwards.
    unsure: bool,
    /// When the last of them was sent.
    at: Time,
}

/// How far one origin's messages in one room have been delivered.
#[derive(Debug)]
struct Incoming {
    last: u64,
    gap: Option<Gap>,
}

#[derive(Debug)]
struct Gap {
    began: Time,
    /// Since when there is a way to the origin.
    since: Time,
    ask_at: Time,
    asked: usize,
    waiting: BTreeMap<u64, Messages>,
    bytes: usize,
}

/// Messages for one peer that its link has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Parcel>,
    bytes: usize,
}

/// A batch and for whom: for the peer itself, or for a node it relays to.
#[derive(Debug)]
struct Parcel {
    /// Empty: for the peer.
    to: Vec<NodeName>,
    body: Messages,
}

impl Outgoing {
    /// What waits.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Messaging {
    fn forget_ring(&mut self, room: &RoomName) {
        if let Some(ring) = self.rings.remove(room) {
            self.kept_bytes -= ring.bytes;
            self.forgotten = self.forgotten.max(ring.own_last);
        }
    }

    /// Empties rings until all together are within the bound, those first that are to be looked at
    /// first. Their numbers stay, so that who missed something learns that it did.
    fn shed(&mut self) {
        for _ in 0..self.expiry.len() {
            if self.kept_bytes <= RINGS_BYTES {
                return;
            }
            let Some((at, room)) = self.expiry.pop_front() else {
                return;
            };
            if let Some(ring) = self.rings.get_mut(&room) {
                self.kept_bytes -= ring.bytes;
                while !ring.items.is_empty() {
                    ring.drop_oldest();
                }
            }
            self.expiry.push_back((at, room));
        }
    }
}

impl Core {
    /// Numbers the messages of this node's clients and sends them to who is interested.
    pub(super) fn publish(&mut self, room: RoomName, items: Vec<Message>) {
        let me = self.me.clone();
        let now = self.now;
        let mut numbered = Vec::with_capacity(items.len());
        let ring = self.messages.rings.entry(room.clone()).or_default();
        let fresh = !std::mem::replace(&mut ring.due, true);
        // A ring that is new may have had messages before; those are not in it.
        let before = if ring.own_last == 0 {
            self.messages.forgotten
        } else {
            ring.own_last
        };
        let mut base = before;
        let bytes_before = ring.bytes;
        for message in items {
            if message.payload.len() > MESSAGE_BYTES_MAX {
                continue;
            }
            self.messages.last += 1;
            let number = self.messages.last;
            ring.keep(now, &me, &me, base, number, message.clone());
            ring.own_last = number;
            base = number;
            numbered.push((number, message));
        }
        self.messages.kept_bytes = self.messages.kept_bytes + ring.bytes - bytes_before;
        if fresh {
            self.messages
                .expiry
                .push_back((now.after(RING_AGE), room.clone()));
        }
        self.messages.shed();
        let Some(to) = numbered.last().map(|(number, _)| *number) else {
            return;
        };
        self.publish_locally(&room, &numbered);
        let nodes: Vec<NodeName> = self
            .watchers
            .get(&room)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        // Who was not sent everything before, or nothing yet, needs more than these.
        let is_even = |node: &NodeName| {
            let sent = self.peers.get(node).and_then(|peer| peer.sent.get(&room));
            sent.is_some_and(|sent| {
                let follows = sent.to == before && !sent.missed;
                follows && (sent.unsure || self.is_drained(node))
            })
        };
        let (even, mut alone): (Vec<NodeName>, Vec<NodeName>) =
            nodes.into_iter().partition(is_even);
        let shared = match self.may_share(&room) {
            true => self.ways(&even),
            false => Vec::new(),
        };
        let shared = shared.into_iter().filter(Way::is_shared);
        let mut reached = BTreeSet::new();
        for way in shared {
            reached.extend(way.reaches.iter().cloned());
            self.share_messages(way, &room, before, to, &numbered);
        }
        alone.extend(even.into_iter().filter(|node| !reached.contains(node)));
        for node in alone {
            // What a gateway may not have passed on comes first, or what follows would have to wait for it.
            let key = (node, room.clone());
            let again = self.gateways.is_doubted(&key) && self.link_to(&key.0).is_some();
            if again {
                self.send_shared_again(vec![key.clone()]);
            }
            let sent = self.peers.get(&key.0).and_then(|peer| peer.sent.get(&room));
            if sent.is_none_or(|sent| sent.missed || sent.to < to) {
                self.send_messages(&key.0, &room, before, to, &numbered);
            }
        }
    }

    /// Whether what went to a node over its own link is about to arrive, so that what comes after it by
    /// way of a gateway does not come long before it.
    fn is_drained(&self, node: &NodeName) -> bool {
        let unsent_max = match self.gateways.is_one(node) {
            true => UNSENT_MAX / 2,
            false => DRAINED_MAX,
        };
        self.link_to(node).is_some_and(|(_, link)| {
            link.outgoing.queue.is_empty() && link.unsent(Lane::Messages) <= unsent_max
        })
    }

    /// Whether a room's messages may go by way of gateways. When there is too much of them to keep, what
    /// did goes to each alone while it is still there.
    fn may_share(&mut self, room: &RoomName) -> bool {
        let kept = self.messages.kept_bytes;
        let Some(ring) = self.messages.rings.get_mut(room) else {
            return false;
        };
        // Above half of what all rooms may keep none is shared, and then until it is a quarter: each time
        // it ends, the last seconds are sent again.
        let part = if ring.overflows { 4 } else { 2 };
        let has_room = kept <= RINGS_BYTES / part;
        let may = has_room && ring.has_room_to_share();
        let overflowed = std::mem::replace(&mut ring.overflows, !may);
        if !may && !overflowed {
            let doubted = self.gateways.doubted_in(room);
            self.send_shared_again(doubted);
        }
        may
    }

    /// Sends messages that follow `before` to a gateway and its neighbours, who have all been sent what
    /// came before.
    fn share_messages(
        &mut self,
        way: Way,
        room: &RoomName,
        before: u64,
        to: u64,
        items: &[(u64, Message)],
    ) {
        let Way {
            conn,
            to: targets,
            reaches,
        } = way;
        let Some(gateway) = targets.first() else {
            return;
        };
        if let Some(ring) = self.messages.rings.get_mut(room) {
            ring.shared_at = Some(self.now);
        }
        for (index, node) in reaches.into_iter().enumerate() {
            let sent = Sent {
                to,
                missed: false,
                // The gateway may not pass it on.
                unsure: index > 0,
                at: self.now,
            };
            if sent.unsure {
                self.gateways.doubt(&node, room, gateway);
            }
            let peer = self.peers.entry(node).or_default();
            peer.sent.insert(room.clone(), sent);
        }
        let body = Messages {
            origin: self.me.clone(),
            room: room.clone(),
            base: before,
            to,
            lost: 0,
            ticket: 0,
            // How much of its log was known differs from node to node. One that has only just entered
            // the room waits for the head, which goes to each alone.
            known: 0,
            items: items.to_vec(),
        };
        for body in split(body) {
            let to = targets.clone();
            self.enqueue(conn, Parcel { to, body });
        }
    }

    /// Tells this node's own clients of events.
    fn publish_locally(&mut self, room: &RoomName, items: &[(u64, Message)]) {
        let events = items
            .iter()
            .filter(|(_, message)| message.kind == MessageKind::Event);
        let items: Vec<(u64, Message)> = events.cloned().collect();
        if !items.is_empty() && self.own.rooms.contains(room) {
            let (room, origin) = (room.clone(), self.me.clone());
            self.emit(Event::Published {
                room,
                origin,
                items,
            });
        }
    }

    /// Sends a node messages that follow `before`, and with them what could not be sent to it
    /// earlier. What has no way to the node is noted as missed.
    fn send_messages(
        &mut self,
        node: &NodeName,
        room: &RoomName,
        before: u64,
        to: u64,
        items: &[(u64, Message)],
    ) {
        let now = self.now;
        let route = self.route(node);
        let known = self.applied_of(node);
        let peer = self.peers.entry(node.clone()).or_default();
        let sent = peer.sent.entry(room.clone()).or_insert(Sent {
            to: before,
            missed: false,
            unsure: false,
            at: now,
        });
        let Some((conn, relay_to)) = route else {
            sent.missed = true;
            return;
        };
        let (base, missed) = (sent.to, sent.missed);
        *sent = Sent {
            to,
            missed: false,
            unsure: relay_to.is_some(),
            at: now,
        };
        let mut body = Messages {
            origin: self.me.clone(),
            room: room.clone(),
            base,
            to,
            lost: 0,
            ticket: 0,
            known,
            items: items.to_vec(),
        };
        if missed {
            let (complete, kept) = self.kept(room, &self.me, base, to);
            body.lost = u64::from(!complete);
            body.items = kept;
        }
        let to: Vec<NodeName> = relay_to.into_iter().collect();
        for body in split(body) {
            let to = to.clone();
            self.enqueue(conn, Parcel { to, body });
        }
    }

    /// What the ring of a room has of an origin after `from` and up to `to`, and whether that is all
    /// there was.
    pub(super) fn kept(
        &self,
        room: &RoomName,
        origin: &OwnerId,
        from: u64,
        to: u64,
    ) -> (bool, Vec<(u64, Message)>) {
        let ring = self.messages.rings.get(room);
        let Some(ring) = ring.filter(|_| self.holds(Rule::RingIsKept)) else {
            return (false, Vec::new());
        };
        let complete = ring.floors.get(origin).is_some_and(|floor| *floor <= from);
        let items = ring
            .items
            .iter()
            .filter(|kept| kept.origin == *origin && kept.number > from && kept.number <= to)
            .map(|kept| (kept.number, kept.message.clone()))
            .collect();
        (complete, items)
    }

    /// Tells a node how far a room's messages are, so that it notices what it missed.
    pub(super) fn send_head(&mut self, node: &NodeName, room: &RoomName) {
        self.send_head_at(node, room, self.head(room));
    }

    fn send_head_at(&mut self, node: &NodeName, room: &RoomName, head: u64) {
        let Some((conn, relay_to)) = self.route(node) else {
            return;
        };
        let known = self.applied_of(node);
        let peer = self.peers.entry(node.clone()).or_default();
        // A head may be lost on the way as well: through a relay it is repeated for a while.
        let relayed = relay_to.is_some();
        let before = peer.sent.get(room).filter(|_| relayed);
        let sent = Sent {
            to: head,
            missed: false,
            unsure: relayed,
            at: before.map_or(self.now, |sent| sent.at),
        };
        peer.sent.insert(room.clone(), sent);
        self.enqueue(
            conn,
            Parcel {
                to: relay_to.into_iter().collect(),
                body: Messages {
                    origin: self.me.clone(),
                    room: room.clone(),
                    base: head,
                    to: head,
                    lost: 0,
                    ticket: 0,
                    known,
                    items: Vec::new(),
                },
            },
        );
    }

    /// Says how far the messages are that went by way of a gateway, to its neighbours, in rooms that have
    /// been quiet for a while: of the last message there is nothing after it to show that it is missing.
    pub(super) fn send_quiet_heads(&mut self, quiet: Duration) {
        let now = self.now;
        for (node, room) in self.gateways.doubted() {
            let sent = self.peers.get(&node).and_then(|peer| peer.sent.get(&room));
            match sent.filter(|sent| sent.unsure && !sent.missed) {
                Some(sent) if now.since(sent.at) < quiet => {}
                Some(_) => {
                    self.gateways.trust(&node, &room);
                    self.send_head(&node, &room);
                }
                None => self.gateways.trust(&node, &room),
            }
        }
    }

    /// Sends to each alone what went to it by way of a gateway a moment ago, and all that was said
    /// since.
    pub(super) fn send_shared_again(&mut self, doubted: Vec<(NodeName, RoomName)>) {
        let now = self.now;
        for (node, room) in doubted {
            self.gateways.trust(&node, &room);
            let sent = self.peers.get(&node).and_then(|peer| peer.sent.get(&room));
            let is_even = sent.is_some_and(|sent| !sent.missed);
            let (Some(ring), true) = (self.messages.rings.get(&room), is_even) else {
                continue;
            };
            let own = ring.items.iter().filter(|kept| kept.origin == self.me);
            let (old, fresh): (Vec<&Kept>, Vec<&Kept>) =
                own.partition(|kept| now.since(kept.at) >= PASSED_ON_WITHIN);
            let floor = ring.floors.get(&self.me).copied().unwrap_or(0);
            let base = old.last().map_or(floor, |kept| kept.number);
            let items = fresh
                .into_iter()
                .map(|kept| (kept.number, kept.message.clone()))
                .collect();
            let body = Messages {
                origin: self.me.clone(),
                room: room.clone(),
                base,
                to: ring.own_last,
                lost: 0,
                ticket: 0,
                known: 0,
                items,
            };
            let Some((conn, None)) = self.route(&node) else {
                continue;
            };
            let sent = Sent {
                to: body.to,
                missed: false,
                unsure: false,
                at: now,
            };
            let peer = self.peers.entry(node).or_default();
            peer.sent.insert(room, sent);
            for body in split(body) {
                let to = Vec::new();
                self.enqueue(conn, Parcel { to, body });
            }
        }
    }

    /// Says how far the messages are that went to a node through a relay lately.
    pub(super) fn send_tails(&mut self, node: &NodeName) {
        if !self.holds(Rule::TailsThroughRelay) {
            return;
        }
        let now = self.now;
        let sent = self.peers.get(node).into_iter().flat_map(|peer| &peer.sent);
        let rooms: Vec<RoomName> = sent
            .filter(|(_, sent)| sent.unsure && !sent.missed && now.since(sent.at) < TAILS_FOR)
            .map(|(room, _)| room.clone())
            .collect();
        for room in rooms {
            self.send_head(node, &room);
        }
    }

    /// After a link came up: heads of every room with recent messages that the node is interested in.
    pub(super) fn send_heads(&mut self, node: &NodeName) {
        if !self.holds(Rule::HeadsOnLinkUp) {
            return;
        }
        let watched = |room: &RoomName| {
            self.watchers
                .get(room)
                .is_some_and(|nodes| nodes.contains(node))
        };
        let mut missed: Vec<(RoomName, u64)> = Vec::new();
        // What was on its way when the link broke may be gone, and by now from the ring too.
        let mut heads: BTreeMap<RoomName, u64> = BTreeMap::new();
        for (room, sent) in self.peers.get(node).into_iter().flat_map(|peer| &peer.sent) {
            if sent.missed && watched(room) {
                missed.push((room.clone(), self.head(room)));
            } else if sent.unsure && watched(room) {
                heads.insert(room.clone(), sent.to);
            }
        }
        for (room, ring) in &self.messages.rings {
            if ring.own_last > 0 && watched(room) {
                heads.insert(room.clone(), ring.own_last);
            }
        }
        for (room, head) in missed {
            heads.remove(&room);
            self.send_messages(node, &room, head, head, &[]);
        }
        for (room, head) in heads {
            self.send_head_at(node, &room, head);
        }
    }

    /// A link broke: of what was sent to the node last, nobody knows whether it arrived.
    pub(super) fn doubt_sent(&mut self, node: &NodeName) {
        if !self.holds(Rule::BrokenLinkIsDoubted) {
            return;
        }
        let now = self.now;
        let sent = self.peers.get_mut(node).map(|peer| &mut peer.sent);
        for sent in sent.into_iter().flat_map(BTreeMap::values_mut) {
            sent.unsure |= now.since(sent.at) < RING_AGE;
        }
    }

    /// The last number of this node in a room, or a later one if that is not known any more.
    fn head(&self, room: &RoomName) -> u64 {
        match self.messages.rings.get(room) {
            Some(ring) if ring.own_last > 0 => ring.own_last,
            _ => self.messages.forgotten,
        }
    }

    /// How much of a node's log has been applied here.
    fn applied_of(&self, node: &NodeName) -> u64 {
        let owner = self.current(node);
        let replica = owner.and_then(|owner| self.replicas.get(&owner));
        replica.map_or(0, |replica| replica.applied)
    }

    fn enqueue(&mut self, conn: ConnId, parcel: Parcel) {
        let Some(link) = self.conns.get_mut(&conn) else {
            return;
        };
        link.outgoing.bytes += size(&parcel.body);
        link.outgoing.queue.push_back(parcel);
        self.pump_messages(conn);
        self.conflate(conn);
    }

    /// Hands over what is queued for a peer without regard to what is unsent: nothing follows.
    pub(super) fn flush_messages(&mut self, conn: ConnId) {
        while let Some(link) = self.conns.get_mut(&conn) {
            let Some(parcel) = link.outgoing.queue.pop_front() else {
                return;
            };
            link.outgoing.bytes -= size(&parcel.body);
            self.counters.messages_out_total += parcel.body.items.len() as u64;
            self.send_along(conn, parcel.to, &Frame::Messages(parcel.body));
        }
    }

    /// Hands queued messages to the transport as it takes them.
    pub(super) fn pump_messages(&mut self, conn: ConnId) {
        while let Some(link) = self.conns.get_mut(&conn) {
            if link.unsent(Lane::Messages) > UNSENT_MAX {
                return;
            }
            let Some(parcel) = link.outgoing.queue.pop_front() else {
                return;
            };
            link.outgoing.bytes -= size(&parcel.body);
            self.counters.messages_out_total += parcel.body.items.len() as u64;
            let frame = Frame::Messages(parcel.body);
            self.send_along(conn, parcel.to, &frame);
        }
    }

    /// On a slow link the newest tutorial message of each sender stays and events are refused.
    fn conflate(&mut self, conn: ConnId) {
        if !self.holds(Rule::SlowLinkGivesWay) {
            return;
        }
        let Some(link) = self.conns.get_mut(&conn) else {
            return;
        };
        let outgoing = &mut link.outgoing;
        if outgoing.bytes <= UNSENT_MAX {
            return;
        }
        // What goes to the peer and what it relays are for different readers.
        let mut newest: BTreeSet<(Vec<NodeName>, RoomName, MemberId)> = BTreeSet::new();
        let mut refused = Vec::new();
        let mut bytes = 0;
        for parcel in outgoing.queue.iter_mut().rev() {
            let (to, room) = (parcel.to.clone(), parcel.body.room.clone());
            let mut kept: Vec<(u64, Message)> = Vec::new();
            for (number, message) in parcel.body.items.drain(..).rev() {
                let keeps = match message.kind {
                    MessageKind::Tutorial => {
                        newest.insert((to.clone(), room.clone(), message.sender))
                    }
                    MessageKind::Event => bytes + message.payload.len() <= UNSENT_MAX,
                };
                if keeps {
                    bytes += message.payload.len();
                    kept.push((number, message));
                } else if message.kind == MessageKind::Tutorial {
                    self.counters.messages_conflated_total += 1;
                } else {
                    // Who gets the rest is told that it has not got all, and vouches for it to nobody.
                    parcel.body.lost = parcel.body.lost.saturating_add(1);
                    // Its sender is told for each node that does not get it.
                    for _ in 0..to.len().max(1) {
                        self.counters.messages_refused_total += 1;
                        refused.push((room.clone(), message.sender));
                    }
                }
            }
            kept.reverse();
            parcel.body.items = kept;
        }
        // Parcels that were emptied are joined with the next of their room, so that the queue is
        // bounded by what it carries.
        let mut joined: Vec<Parcel> = Vec::new();
        let mut last: BTreeMap<(Vec<NodeName>, RoomName), usize> = BTreeMap::new();
        for parcel in outgoing.queue.drain(..) {
            let key = (parcel.to.clone(), parcel.body.room.clone());
            let before = last.get(&key).and_then(|index| joined.get_mut(*index));
            match before {
                Some(before)
                    if before.body.to == parcel.body.base
                        && (before.body.items.is_empty() || parcel.body.items.is_empty()) =>
                {
                    before.body.to = parcel.body.to;
                    before.body.known = parcel.body.known;
                    before.body.lost = before.body.lost.saturating_add(parcel.body.lost);
                    before.body.items.extend(parcel.body.items);
                }
                _ => {
                    last.insert(key, joined.len());
                    joined.push(parcel);
                }
            }
        }
        outgoing.bytes = joined.iter().map(|parcel| size(&parcel.body)).sum();
        outgoing.queue = joined.into();
        for (room, sender) in refused {
            self.emit(Event::MessageRefused { room, sender });
        }
    }

    /// Messages of `origin` directly, through a relay, or in answer to a pull.
    pub(super) fn messages_frame(
        &mut self,
        conn: ConnId,
        origin: Option<&OwnerId>,
        frame: Messages,
    ) {
        let Some(peer) = self.peer_of(conn) else {
            return;
        };
        let said_by = origin.map_or(&peer, |origin| &origin.node);
        if frame.ticket != 0 {
            // Also of a life that is over, be it this node's own.
            if self.replays.awaits(frame.ticket, &frame.origin) {
                self.replay_answer(said_by, frame);
            }
            return;
        }
        let asked = self
            .messages
            .gaps
            .contains(&(frame.room.clone(), frame.origin.clone()));
        if frame.origin.node == self.me.node || (frame.origin.node != *said_by && !asked) {
            // A late answer of a third party to a pull that somebody else answered first.
            return;
        }
        if !self.adopt(&frame.origin) || !self.own.rooms.contains(&frame.room) {
            return;
        }
        self.take_in_turn(frame);
        self.release_leaves();
    }

    pub(super) fn take_messages(&mut self, frame: Messages) {
        let ignores_duplicates = self.holds(Rule::MessageDuplicateIsIgnored);
        let pulls_gaps = self.holds(Rule::MessageGapIsPulled);
        let begins_anew = self.holds(Rule::EarlierInterestIsOver);
        let now = self.now;
        let key = (frame.room.clone(), frame.origin.clone());
        let listening = self.messages.listening.get(&frame.room);
        let origins = self
            .messages
            .incoming
            .entry(frame.room.clone())
            .or_default();
        if !origins.contains_key(&frame.origin) {
            if begins_anew && listening.is_none_or(|since| frame.known < *since) {
                // Sent to an interest of before: the head of this one is on its way.
                return;
            }
            self.out.push_back(super::super::Output::Event(Event::Head {
                room: frame.room.clone(),
                origin: frame.origin.clone(),
                number: frame.base,
            }));
        }
        let state = origins.entry(frame.origin.clone()).or_insert(Incoming {
            last: frame.base,
            gap: None,
        });
        if frame.to <= state.last && ignores_duplicates {
            self.counters.messages_duplicate_total += frame.items.len() as u64;
            return;
        }
        if frame.base <= state.last || !pulls_gaps {
            self.deliver_messages(frame);
            self.close_gap(&key);
            return;
        }
        let gap = state.gap.get_or_insert_with(|| Gap {
            began: now,
            since: now,
            ask_at: now,
            asked: 0,
            waiting: BTreeMap::new(),
            bytes: 0,
        });
        let fresh = gap.waiting.is_empty();
        gap.bytes += size(&frame);
        let replaced = gap.waiting.insert(frame.base, frame);
        gap.bytes -= replaced.as_ref().map_or(0, size);
        let full = gap.bytes > GAP_BYTES;
        self.messages.gaps.insert(key.clone());
        if fresh {
            self.counters.message_gaps_total += 1;
            self.ask_for_gap(&key);
        }
        if full {
            self.give_up_gap(&key);
        }
    }

    /// Delivers what is new in a frame that follows what was delivered.
    fn deliver_messages(&mut self, frame: Messages) {
        let ignores_duplicates = self.holds(Rule::MessageDuplicateIsIgnored);
        let now = self.now;
        let Some(state) = self
            .messages
            .incoming
            .get_mut(&frame.room)
            .and_then(|origins| origins.get_mut(&frame.origin))
        else {
            return;
        };
        let last = state.last;
        state.last = last.max(frame.to);
        let fresh: Vec<(u64, Message)> = frame
            .items
            .into_iter()
            .filter(|(number, _)| *number > last || !ignores_duplicates)
            .collect();
        self.counters.messages_in_total += fresh.len() as u64;
        let lost_total = self.counters.messages_lost_total;
        self.counters.messages_lost_total = lost_total.saturating_add(frame.lost);
        if fresh.is_empty() && frame.lost == 0 {
            return;
        }
        let ring = self.messages.rings.entry(frame.room.clone()).or_default();
        if !std::mem::replace(&mut ring.due, true) {
            let due = (now.after(RING_AGE), frame.room.clone());
            self.messages.expiry.push_back(due);
        }
        // What was delivered before the ring began, or could not be had, is not in it.
        let floor = if frame.lost > 0 {
            ring.floors.insert(frame.origin.clone(), frame.to);
            frame.to
        } else {
            last.max(frame.base)
        };
        let mut items = Vec::with_capacity(fresh.len());
        let bytes_before = ring.bytes;
        for (number, message) in fresh {
            ring.keep(now, &self.me, &frame.origin, floor, number, message.clone());
            items.push((number, message));
        }
        self.messages.kept_bytes = self.messages.kept_bytes + ring.bytes - bytes_before;
        self.messages.shed();
        self.emit(Event::Messages {
            room: frame.room,
            origin: frame.origin,
            items,
            lost: frame.lost,
        });
    }

    /// Delivers what waited behind a gap and now follows; asks about the next one.
    fn close_gap(&mut self, key: &(RoomName, OwnerId)) {
        loop {
            let Some(state) = self
                .messages
                .incoming
                .get_mut(&key.0)
                .and_then(|origins| origins.get_mut(&key.1))
            else {
                return;
            };
            let Some(gap) = state.gap.as_mut() else {
                return;
            };
            match gap.waiting.first_key_value() {
                None => {
                    state.gap = None;
                    self.messages.gaps.remove(key);
                    return;
                }
                Some((base, _)) if *base <= state.last => {
                    let Some((_, frame)) = gap.waiting.pop_first() else {
                        return;
                    };
                    gap.bytes -= size(&frame);
                    self.deliver_messages(frame);
                }
                Some(_) => return self.ask_for_gap(key),
            }
        }
    }

    /// Asks the origin, then linked nodes that are interested in the room, in turn.
    fn ask_for_gap(&mut self, key: &(RoomName, OwnerId)) {
        let (room, origin) = key;
        let Some((from, to, asked)) = self.gap_range(key) else {
            return;
        };
        let others = self.watchers.get(room).into_iter().flatten();
        let ways: Vec<(ConnId, Option<NodeName>)> = self
            .route(&origin.node)
            .into_iter()
            .chain(others.filter_map(|node| Some((self.link_to(node)?.0, None))))
            .collect();
        let way = ways.get(asked % ways.len().max(1)).cloned();
        let asks = way.as_ref().and_then(|(conn, relay_to)| {
            let node = relay_to.clone().or_else(|| self.peer_of(*conn))?;
            Some(self.ask_again_after(&node))
        });
        let ask_at = self.now.after(asks.unwrap_or(ASK_NOBODY));
        if let Some(gap) = self.gap_of_mut(key) {
            gap.ask_at = ask_at;
        }
        let Some((conn, relay_to)) = way else {
            return;
        };
        let frame = Frame::MessagePull(MessagePull {
            origin: origin.clone(),
            room: room.clone(),
            from,
            to,
            ticket: 0,
        });
        self.send_along(conn, relay_to.into_iter().collect(), &frame);
    }

    fn send_along(&mut self, conn: ConnId, to: Vec<NodeName>, frame: &Frame) {
        if to.is_empty() {
            self.send(conn, Lane::Messages, frame);
        } else {
            self.send_relayed(conn, Lane::Messages, to, frame);
        }
    }

    fn gap_of_mut(&mut self, key: &(RoomName, OwnerId)) -> Option<&mut Gap> {
        let origins = self.messages.incoming.get_mut(&key.0)?;
        origins.get_mut(&key.1)?.gap.as_mut()
    }

    fn gap_range(&mut self, key: &(RoomName, OwnerId)) -> Option<(u64, u64, usize)> {
        let state = self.messages.incoming.get_mut(&key.0)?.get_mut(&key.1)?;
        let gap = state.gap.as_mut()?;
        gap.asked += 1;
        Some((state.last, *gap.waiting.first_key_value()?.0, gap.asked - 1))
    }

    /// Answers a pull from the ring; one that came through a relay, through one.
    pub(super) fn messages_pulled(&mut self, asker: &NodeName, pull: &MessagePull) {
        let Some((conn, relay_to)) = self.route(asker) else {
            return;
        };
        // On a link that does not keep up the answer would only queue; the asker asks again.
        let unsent = self
            .conns
            .get(&conn)
            .map(|link| link.unsent(Lane::Messages));
        if unsent.is_some_and(|unsent| unsent > 2 * UNSENT_MAX) {
            return;
        }
        let (complete, items) = self.kept(&pull.room, &pull.origin, pull.from, pull.to);
        let whole = pull.ticket != 0 && pull.origin == self.me;
        let complete = complete || (whole && self.has_all_after(&pull.room, pull.from));
        // Nor did it miss anything of whom nothing later was heard here.
        let nothing_later =
            pull.ticket != 0 && self.heard_nothing_after(&pull.room, &pull.origin, pull.from);
        // Nor of a life that ended longer ago than anybody may be away for.
        let long_over = pull.ticket != 0
            && self.says_nothing_more(&pull.origin)
            && self
                .ended_for(&pull.origin)
                .is_some_and(|time| time >= RING_AGE);
        let complete = complete || nothing_later || long_over;
        // One that is not the origin answers only if it can answer in full: the origin may yet.
        let reached = self
            .messages
            .incoming
            .get(&pull.room)
            .and_then(|origins| origins.get(&pull.origin))
            .is_some_and(|state| state.last >= pull.to);
        let reached = reached || pull.to == u64::MAX;
        let knows = pull.ticket == 0 || nothing_later || long_over || !items.is_empty();
        if pull.origin != self.me && !(complete && reached && knows) {
            return;
        }
        // A client that comes back is told how far its answer reaches.
        let (base, to) = if pull.ticket == 0 {
            (pull.from, pull.to)
        } else {
            let known = if pull.origin == self.me {
                self.head(&pull.room)
            } else {
                self.delivered(&pull.room, &pull.origin)
            };
            let last = items.last().map_or(0, |(number, _)| *number);
            let to = match long_over || self.heard_to_its_end(&pull.origin) {
                true => u64::MAX,
                false => known.max(last),
            };
            (pull.from.min(to), to)
        };
        let frame = Frame::Messages(Messages {
            origin: pull.origin.clone(),
            room: pull.room.clone(),
            base,
            to,
            lost: u64::from(!complete),
            ticket: pull.ticket,
            known: self.applied_of(asker),
            items,
        });
        self.send_along(conn, relay_to.into_iter().collect(), &frame);
    }

    /// Listens to an origin in a room from a number on, if it does not yet: what follows is asked for.
    /// False if the origin is not known here, so that what it says next could be skipped unnoticed.
    pub(super) fn hear_from(&mut self, room: &RoomName, origin: &OwnerId, number: u64) -> bool {
        if !self.holds(Rule::AnswerIsPinned) {
            return true;
        }
        let known = self.current(&origin.node).as_ref() == Some(origin);
        if !known || !self.own.rooms.contains(room) {
            return false;
        }
        let origins = self.messages.incoming.entry(room.clone()).or_default();
        origins.entry(origin.clone()).or_insert(Incoming {
            last: number,
            gap: None,
        });
        true
    }

    /// For how long a life has been over or out of sight; `None` if it is not, or was never known.
    pub(super) fn ended_for(&self, owner: &OwnerId) -> Option<Duration> {
        if *owner == self.me {
            return None;
        }
        let over = self.messages.over.get(&owner.node);
        let at = match (over, self.replicas.get(owner)) {
            // An earlier life ended even earlier.
            (Some((boot, at)), _) if owner.boot <= *boot => *at,
            (_, Some(replica)) if !replica.visible => replica.hidden_at,
            // A life of this node that came before this one.
            (_, None) if owner.node == self.me.node => self.born,
            // One that was never heard of here ended before its successor was first heard of.
            (_, None) => {
                let later = self.current(&owner.node);
                let later = later.filter(|later| later.boot > owner.boot)?;
                self.replicas.get(&later)?.known_since
            }
            _ => return None,
        };
        Some(self.now.since(at))
    }

    /// Whether a life is known to have ended, so that nothing follows in it.
    pub(super) fn says_nothing_more(&self, owner: &OwnerId) -> bool {
        if owner.node == self.me.node {
            return *owner != self.me;
        }
        let followed = self
            .current(&owner.node)
            .is_some_and(|current| current.boot > owner.boot);
        followed || self.messages.ended.iter().any(|(_, other)| other == owner)
    }

    /// Whether a life ended with a `Bye` that was heard after its last message.
    pub(super) fn heard_to_its_end(&self, owner: &OwnerId) -> bool {
        self.messages.finished.contains(owner)
    }

    /// An owner said `Bye` after its last message.
    pub(super) fn finish_origin(&mut self, owner: &OwnerId) {
        if self.replicas.contains_key(owner) {
            self.messages.finished.insert(owner.clone());
        }
    }

    /// Whether this node listens to an origin in a room, and has heard nothing after a number.
    pub(super) fn heard_nothing_after(&self, room: &RoomName, origin: &OwnerId, from: u64) -> bool {
        let origins = self.messages.incoming.get(room);
        let state = origins.and_then(|origins| origins.get(origin));
        state.is_some_and(|state| state.last <= from && state.gap.is_none())
    }

    pub(super) fn check_message_gaps(&mut self) {
        let now = self.now;
        while self
            .messages
            .ended
            .front()
            .is_some_and(|(at, _)| now >= *at)
        {
            if let Some((_, owner)) = self.messages.ended.pop_front() {
                self.forget_ended(&owner);
            }
        }
        while let Some((at, _)) = self.messages.expiry.front() {
            if now < *at {
                break;
            }
            let Some((_, room)) = self.messages.expiry.pop_front() else {
                break;
            };
            if let Some(ring) = self.messages.rings.get_mut(&room) {
                let bytes_before = ring.bytes;
                ring.expire(now);
                ring.trim(now, &self.me);
                self.messages.kept_bytes = self.messages.kept_bytes + ring.bytes - bytes_before;
                match ring.items.front() {
                    Some(kept) => self
                        .messages
                        .expiry
                        .push_back((kept.at.after(RING_AGE), room)),
                    // While there are clients in the room it is known which numbers it had.
                    None if self.own.rooms.contains(&room) => ring.due = false,
                    None => self.messages.forget_ring(&room),
                }
            }
        }
        let gaps: Vec<(RoomName, OwnerId)> = self.messages.gaps.iter().cloned().collect();
        for key in gaps {
            let Some(gap) = self.gap_of(&key) else {
                self.messages.gaps.remove(&key);
                continue;
            };
            let (began, since, ask_at) = (gap.began, gap.since, gap.ask_at);
            // Who is out of sight may be dead: others are asked, and then it is given up.
            let patience = if self.is_visible(&key.1) {
                GAP_MAX
            } else {
                self.answers_within(&key.0, GAP_HIDDEN_MAX)
            };
            let waits = self.is_visible(&key.1) && self.route(&key.1.node).is_none();
            if waits && now.since(began) < RING_AGE {
                self.wait_for_origin(&key);
            } else if now.since(since) >= patience {
                self.give_up_gap(&key);
            } else if now >= ask_at {
                self.ask_for_gap(&key);
            }
        }
    }

    fn gap_of(&self, key: &(RoomName, OwnerId)) -> Option<&Gap> {
        self.messages
            .incoming
            .get(&key.0)?
            .get(&key.1)?
            .gap
            .as_ref()
    }

    /// Without a way to the origin nothing new comes from it either: waiting delays nobody.
    fn wait_for_origin(&mut self, key: &(RoomName, OwnerId)) {
        let now = self.now;
        if let Some(gap) = self
            .messages
            .incoming
            .get_mut(&key.0)
            .and_then(|origins| origins.get_mut(&key.1)?.gap.as_mut())
        {
            gap.since = now;
        }
    }

    /// Nobody had what is missing: go on behind it, and say so.
    fn give_up_gap(&mut self, key: &(RoomName, OwnerId)) {
        let Some(state) = self
            .messages
            .incoming
            .get_mut(&key.0)
            .and_then(|origins| origins.get_mut(&key.1))
        else {
            return;
        };
        let first = state.gap.as_mut().and_then(|gap| {
            gap.since = self.now;
            gap.waiting.pop_first().map(|(_, frame)| {
                gap.bytes -= size(&frame);
                frame
            })
        });
        if let Some(mut frame) = first {
            state.last = frame.base;
            frame.lost = frame.lost.saturating_add(1);
            self.deliver_messages(frame);
        }
        self.close_gap(key);
    }

    /// This node has clients in a room, as operation `since` of its log says; tells from which of its
    /// own numbers on they hear events.
    pub(super) fn begin_incoming(&mut self, room: &RoomName, since: u64) {
        self.messages.listening.insert(room.clone(), since);
        let number = self.head(room);
        let (room, origin) = (room.clone(), self.me.clone());
        self.emit(Event::Head {
            room,
            origin,
            number,
        });
    }

    /// The last number this node gave in a room, while the room is used.
    pub(super) fn own_head(&self, room: &RoomName) -> u64 {
        self.messages
            .rings
            .get(room)
            .map_or(0, |ring| ring.own_last)
    }

    /// How far an origin's messages in a room have been delivered here.
    pub(super) fn delivered(&self, room: &RoomName, origin: &OwnerId) -> u64 {
        let origins = self.messages.incoming.get(room);
        let state = origins.and_then(|origins| origins.get(origin));
        state.map_or(0, |state| state.last)
    }

    /// Whether this node still has all that it said in a room after `from`, as far as it can tell: of a
    /// room that nobody here used for a ring's age it knows nothing, and such a time is no short absence.
    pub(super) fn has_all_after(&self, room: &RoomName, from: u64) -> bool {
        let ring = self.messages.rings.get(room);
        let dropped = ring.and_then(|ring| ring.dropped.get(&self.me));
        dropped.is_none_or(|dropped| *dropped <= from)
    }

    /// This node has no more clients in a room.
    pub(super) fn forget_incoming(&mut self, room: &RoomName) {
        self.messages.incoming.remove(room);
        self.messages.listening.remove(room);
        if let Some(ring) = self.messages.rings.get_mut(room) {
            // From now on it misses what others say: it is complete for this node alone.
            let me = &self.me;
            ring.floors.retain(|origin, _| origin == me);
            ring.dropped.retain(|origin, _| origin == me);
            ring.items.retain(|kept| kept.origin == *me);
            let bytes = ring
                .items
                .iter()
                .map(|kept| kept.message.payload.len())
                .sum();
            self.messages.kept_bytes = self.messages.kept_bytes + bytes - ring.bytes;
            ring.bytes = bytes;
            if !ring.due {
                self.messages.forget_ring(room);
            }
        }
        self.messages.gaps.retain(|(other, _)| other != room);
        self.early.forget_room(room);
    }

    /// An owner's life is over. As long as rings keep what it said, clients that come back are told
    /// that they missed something of it, or that they did not.
    pub(super) fn forget_origin(&mut self, owner: &OwnerId) {
        self.release_early_with(owner);
        for origins in self.messages.incoming.values_mut() {
            if origins.get(owner).is_some_and(|state| state.gap.is_some()) {
                origins.remove(owner);
            }
        }
        self.messages.gaps.retain(|(_, other)| other != owner);
        let at = self.now.after(RING_AGE);
        self.messages.ended.push_back((at, owner.clone()));
        let over = &mut self.messages.over;
        if over.len() < OVER_MAX || over.contains_key(&owner.node) {
            let last = over.entry(owner.node.clone()).or_default();
            if owner.boot > last.0 {
                *last = (owner.boot, self.now);
            }
        }
    }

    fn forget_ended(&mut self, owner: &OwnerId) {
        let replica = self.replicas.get(owner);
        if replica.is_some_and(|replica| !replica.superseded) {
            return;
        }
        self.messages.finished.remove(owner);
        for origins in self.messages.incoming.values_mut() {
            origins.remove(owner);
        }
        for ring in self.messages.rings.values_mut() {
            ring.floors.remove(owner);
            ring.dropped.remove(owner);
        }
    }

    /// Rooms with a ring, and messages kept, for the overview and for tests of memory bounds.
    pub(super) fn ring_sizes(&self) -> (usize, usize) {
        let kept = self
            .messages
            .rings
            .values()
            .map(|ring| ring.items.len())
            .sum();
        (self.messages.rings.len(), kept)
    }
}

/// A batch in frames that are not too large; each says what it makes its receiver complete to.
fn split(mut body: Messages) -> Vec<Messages> {
    let mut frames = Vec::new();
    loop {
        let mut bytes = 0;
        let full = body.items.iter().position(|(_, message)| {
            let before = bytes;
            bytes += message.payload.len();
            before > 0 && bytes > FRAME_PAYLOAD
        });
        let Some(full) = full else {
            frames.push(body);
            return frames;
        };
        let later = body.items.split_off(full);
        let last = body.items.last().map_or(body.base, |(number, _)| *number);
        let next = Messages {
            origin: body.origin.clone(),
            room: body.room.clone(),
            base: last,
            to: body.to,
            lost: 0,
            ticket: 0,
            known: body.known,
            items: later,
        };
        body.to = last;
        frames.push(std::mem::replace(&mut body, next));
    }
}

/// Bytes that a batch weighs in a queue.
pub(super) fn size(body: &Messages) -> usize {
    let payloads: usize = body.items.iter().map(|(_, m)| m.payload.len() + 40).sum();
    payloads + body.room.as_str().len() + 64
}
