//! The judge: holds every event and every frame against what must never happen, and at rest the
//! tables of all nodes against the model.

use std::collections::{BTreeMap, BTreeSet};

use cursormesh_mesh::proto::event::{CloseCode, Event, LeaveReason, Member, Message, MessageKind};
use cursormesh_mesh::proto::wire::{Datagram, Frame, OwnerId, Relay, VERSION};
use cursormesh_mesh::proto::{ConnId, Input, MemberId, NodeName, RoomName};

use crate::clients::{Stage, grace_us};
use crate::world::{MS, SECOND, World};

/// Rows of a dead process are gone everywhere within this: 3 s to notice the lost link or 4 s of
/// silence, whichever is later, and a second for the checks in between.
const HIDE: u64 = 5 * SECOND;
/// To a node that is farther away than a round trip of this, the same takes 2.5 times of what it is
/// farther, up to a second of it: evidence has to outlive a link that is dialled again.
const NEAR: u64 = 300 * MS;
/// The same while links stall or nodes pause: evidence may be stuck in a stalled stream for as
/// long as a link lives.
const HIDE_DISTURBED: u64 = 14 * SECOND;
/// A gap in messages is given up after this long.
const GAP: u64 = 5 * SECOND;
/// A change is everywhere within this when nothing is wrong.
const SPREAD: u64 = 2 * SECOND;
/// A leave waits so much longer for the member's last messages, if those are missing.
const LATE: u64 = 5 * SECOND;

/// What the events of one node fold to, and what was delivered to its clients.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    pub(crate) shown: BTreeMap<MemberId, Member>,
    /// Messages delivered and when, and the last per origin, its life and room.
    pub(crate) messages: BTreeMap<u64, u64>,
    message_last: BTreeMap<(usize, u32, RoomName), (u64, u64)>,
    /// Messages that the node said were lost: when, per origin and room.
    pub(crate) lost: BTreeMap<(usize, RoomName), u64>,
    /// How far each origin's messages in a room have come to this node's clients.
    pub(crate) heads: BTreeMap<RoomName, BTreeMap<OwnerId, u64>>,
    /// When the link to a node came up last.
    linked_at: BTreeMap<NodeName, u64>,
    /// The last position of each member, who owned it then, when it came, and at which epoch.
    pub(crate) cursors: BTreeMap<MemberId, (u64, NodeName, u64, u64, u32)>,
    applied: BTreeMap<(NodeName, u64), u64>,
    /// How often each member joined and left.
    seen: BTreeMap<MemberId, (u32, u32)>,
    /// Members that left by themselves, and the owner that said so.
    closed: BTreeMap<MemberId, (NodeName, u64, u64)>,
    /// The newest life seen of each node.
    newest: BTreeMap<NodeName, u64>,
    /// Nodes whose rows are shown.
    pub(crate) visible: BTreeSet<NodeName>,
    /// Rooms that other nodes watch.
    pub(crate) watched: BTreeSet<RoomName>,
    /// How often SWIM's verdict on each node changed.
    pub(crate) verdicts: BTreeMap<NodeName, (u32, u32)>,
}

/// What the judge knows of the whole world.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub(crate) violations: Vec<String>,
    /// Nothing but loss, latency and crashes happens.
    pub(crate) mild: bool,
    /// Messages between nodes that both live must not even be reported as lost.
    pub(crate) lossless: bool,
    /// Some link carries noise, or did.
    pub(crate) garbage: bool,
    disturbed_at: Option<u64>,
    /// Frames that came to a node directly from their origin, to be relayed.
    relayable: BTreeMap<usize, BTreeSet<(NodeName, bytes::Bytes)>>,
    /// When a node last heard how far an origin's messages in a room are: node, origin, its boot.
    heads: BTreeMap<(usize, NodeName, u64, RoomName), u64>,
    /// Events whose senders were told that a peer did not get them: per node, its life and sender.
    pub(crate) refused: BTreeMap<(usize, u32, MemberId), u64>,
    /// What the run came by that few do, and how often.
    pub(crate) reached: BTreeMap<&'static str, u64>,
    pub(crate) closes: BTreeMap<String, u64>,
    pub(crate) relayed: u64,
    pub(crate) hide_us_max: u64,
    pub(crate) delivered: u64,
    pub(crate) lost_reported: u64,
}

impl Judge {
    pub(crate) fn disturbed(&mut self, now: u64) {
        self.disturbed_at = Some(now);
    }

    pub(crate) fn hide_bound(&self, nodes: usize) -> u64 {
        let large = match nodes {
            0..=32 => 0,
            33..=100 => 4 * SECOND,
            _ => 8 * SECOND,
        };
        large
            + if self.disturbed_at.is_some() && !self.mild {
                HIDE_DISTURBED
            } else {
                HIDE
            }
    }

    /// Whether a node has heard of an origin's messages in a room since then.
    pub(crate) fn heard(
        &self,
        node: usize,
        origin: (&NodeName, u64),
        room: &RoomName,
        since: u64,
    ) -> bool {
        let key = (node, origin.0.clone(), origin.1, room.clone());
        self.heads.get(&key).is_some_and(|at| *at >= since)
    }

    /// A node says that it hears an origin's messages in a room from now on.
    fn note_head(&mut self, now: u64, node: usize, room: &RoomName, origin: &OwnerId) {
        let key = (node, origin.node.clone(), origin.boot, room.clone());
        self.heads.insert(key, now);
    }

    /// Takes an input of a node; `from` is the node at the other end of its connection.
    pub(crate) fn note_input(&mut self, node: usize, from: Option<&NodeName>, input: &Input) {
        let relay = match input {
            Input::Frame { bytes, .. } if bytes.first() == Some(&9) => {
                match Frame::decode(bytes, VERSION) {
                    Ok(Frame::Relay(relay)) => relay,
                    _ => return,
                }
            }
            Input::Datagram { bytes, .. } if bytes.first() == Some(&35) => {
                match Datagram::decode(bytes, VERSION) {
                    Ok(Datagram::Relay(relay)) => relay,
                    _ => return,
                }
            }
            _ => return,
        };
        if relay.left == 1 && from == Some(&relay.origin.node) {
            let seen = self.relayable.entry(node).or_default();
            if seen.len() > 5_000 {
                seen.clear();
            }
            seen.insert((relay.origin.node, relay.inner));
        }
    }
}

impl World {
    /// Rows of a node that ended are not shown any more by another one after this long.
    pub(crate) fn hide_bound(&self, observer: usize, node: usize) -> u64 {
        let way = self.way_us(observer, node);
        let measured = (way * 11 / 10).min(SECOND);
        let evidence = measured.saturating_sub(NEAR) * 5 / 2;
        let one_way = (way / 2).saturating_sub(NEAR / 2);
        self.judge.hide_bound(self.nodes.len()) + evidence + one_way
    }

    /// What the judge found so far; empty is good.
    pub fn violations(&self) -> &[String] {
        &self.judge.violations
    }

    /// Says that nothing but loss of at most 5 %, round trips of at most 150 ms and crashes happen.
    pub fn mild(&mut self) {
        self.judge.mild = true;
    }

    /// Says whether no message may be lost between nodes that live.
    pub fn lossless(&mut self, holds: bool) {
        self.judge.lossless = holds;
    }

    /// Cursor positions and the like that a node was shown: the last position of a member.
    pub fn cursor_at(&self, node: usize, member: MemberId) -> Option<u64> {
        self.nodes[node].mirror.cursors.get(&member).map(|c| c.0)
    }

    /// How many messages a node's clients were given.
    pub fn messages_at(&self, node: usize) -> usize {
        self.nodes[node].mirror.messages.len()
    }

    /// Whether a node shows a member.
    pub fn shows(&self, node: usize, member: MemberId) -> bool {
        self.nodes[node].mirror.shown.contains_key(&member)
    }

    /// How often a node saw a member join and leave.
    pub fn joins_and_leaves(&self, node: usize, member: MemberId) -> (u32, u32) {
        let seen = self.nodes[node].mirror.seen.get(&member);
        seen.copied().unwrap_or_default()
    }

    /// How often a node's SWIM said of another that it is alive, and that it is down.
    pub fn verdicts(&self, node: usize, other: usize) -> (u32, u32) {
        let verdicts = &self.nodes[node].mirror.verdicts;
        let of_other = verdicts.get(&self.nodes[other].name);
        of_other.copied().unwrap_or_default()
    }

    /// How many other nodes a node lists.
    pub fn peers(&self, node: usize) -> usize {
        self.core(node)
            .map_or(0, |core| core.overview(self.time(node)).peers.len())
    }

    /// Whether a node has a link to another.
    pub fn is_linked(&self, node: usize, other: usize) -> bool {
        let overview = self.core(node).map(|core| core.overview(self.time(node)));
        let name = &self.nodes[other].name;
        overview.is_some_and(|o| o.peers.iter().any(|p| p.node == *name && p.linked))
    }

    /// Says that something should hold now.
    pub fn expect(&mut self, holds: bool, what: &str) {
        if !holds {
            self.violation(format!("not so: {what}"));
        }
    }

    /// The node that a node shows a member at.
    pub fn shown_at(&self, node: usize, member: MemberId) -> Option<usize> {
        let shown = self.nodes[node].mirror.shown.get(&member)?;
        self.index_of(&shown.node)
    }

    /// Messages that nodes reported as lost.
    pub fn lost_reported(&self) -> u64 {
        self.judge.lost_reported
    }

    /// Messages that were delivered to clients of other nodes.
    pub fn delivered(&self) -> u64 {
        self.judge.delivered
    }

    /// Frames and datagrams that were forwarded.
    pub fn relayed(&self) -> u64 {
        self.judge.relayed
    }

    /// How long after a crash the last row was gone, at most so far, in microseconds.
    pub fn hide_us_max(&self) -> u64 {
        self.judge.hide_us_max
    }

    /// Why connections were closed, and how often.
    pub fn closes(&self) -> &BTreeMap<String, u64> {
        &self.judge.closes
    }

    /// What the run came by that few do, and how often.
    pub fn reached(&self) -> &BTreeMap<&'static str, u64> {
        &self.judge.reached
    }

    pub(crate) fn reach(&mut self, what: &'static str) {
        *self.judge.reached.entry(what).or_default() += 1;
    }

    pub(crate) fn violation(&mut self, what: String) {
        self.note(|| format!("VIOLATION {what}"));
        let seconds = self.now / MS;
        if self.judge.violations.len() < 20 {
            self.judge.violations.push(format!(
                "at {}.{:03} s: {what}",
                seconds / 1_000,
                seconds % 1_000
            ));
        }
    }

    pub(crate) fn note_close(&mut self, index: usize, code: CloseCode, reason: &str) {
        *self
            .judge
            .closes
            .entry(format!("{code:?}: {reason}"))
            .or_default() += 1;
        let misbehaves = matches!(
            code,
            CloseCode::Protocol | CloseCode::Limit | CloseCode::Name
        );
        if misbehaves && !self.judge.garbage {
            self.violation(format!(
                "{} closed an honest link: {code:?}, {reason}",
                self.nodes[index].name
            ));
        }
    }

    /// Takes an event of a node.
    pub(crate) fn observe(&mut self, index: usize, event: Event) {
        let name = self.nodes[index].name.clone();
        match event {
            Event::Joined(member) => {
                let id = member.row.member;
                self.judge_join(index, &member);
                if member.node == name {
                    self.note_own_row(index, &member);
                }
                if self.nodes[index].mirror.shown.insert(id, *member).is_some() {
                    self.violation(format!("{name}: {id} joined, but was there"));
                }
            }
            Event::Updated(member) => {
                let id = member.row.member;
                if member.node == name {
                    self.note_own_row(index, &member);
                }
                match self.nodes[index].mirror.shown.insert(id, (*member).clone()) {
                    None => self.violation(format!("{name}: {id} was updated, but not there")),
                    Some(before) if before == *member => {
                        self.violation(format!("{name}: an update of {id} changed nothing"));
                    }
                    Some(before) if before.row.epoch > member.row.epoch => {
                        // Possible when the newer owner vanished; the older one is still there.
                    }
                    Some(_) => {}
                }
            }
            Event::Left {
                room,
                member,
                reason,
            } => match self.forget(index, member) {
                None => self.violation(format!("{name}: {member} left, but was not there")),
                Some(before) => {
                    if before.row.room != room {
                        self.violation(format!("{name}: {member} left a room it was not in"));
                    }
                    self.judge_leave(index, &before, reason);
                    if reason == LeaveReason::Closed {
                        let left = (before.node, before.boot, self.now);
                        self.nodes[index].mirror.closed.insert(member, left);
                    }
                }
            },
            Event::MovedAway { member, .. } => self.note_moved(index, member),
            Event::Messages {
                room,
                origin,
                items,
                lost,
            } => {
                if lost > 0 {
                    self.judge.lost_reported += lost;
                    if let Some(origin) = self.index_of(&origin.node) {
                        let now = self.now;
                        self.nodes[index]
                            .mirror
                            .lost
                            .insert((origin, room.clone()), now);
                        // A node that is out of sight may be dead: what is missing is given up.
                        let from = &self.nodes[origin].name;
                        let seen = self.nodes[index].mirror.visible.contains(from);
                        let missing = self.is_missing(index, origin, &room, &items);
                        // What comes over a new link overtakes what a relay still holds, which may
                        // be more than is kept to fill the gap.
                        let linked_at = self.nodes[index].mirror.linked_at.get(from);
                        let fresh = linked_at.is_some_and(|at| now < at + 2 * GAP);
                        // Nor is everything promised to a room that was entered just now.
                        let life = self.nodes[index].life;
                        let interest = self.clients.interest.get(&(index, life, room.clone()));
                        let fresh =
                            fresh || interest.is_none_or(|(_, since)| now < since + 2 * GAP);
                        let flaps = self.flaps(index, origin, GAP) || fresh;
                        // A slow link's sender was told, and so is who gets the rest.
                        let mut refused = self.judge.refused.keys();
                        let refused = refused.any(|(node, _, _)| *node == origin);
                        let silently = missing && !refused && !flaps;
                        if self.judge.lossless && self.is_up(origin) && seen && silently {
                            let from = &self.nodes[origin].name;
                            let text = format!("{name}: messages of {from} were lost");
                            self.violation(text);
                        }
                    }
                }
                for (_, item) in &items {
                    self.judge_sender(index, item.sender, &origin);
                    self.judge_stranger(index, item, &origin);
                    self.judge_message(index, &room, &origin.node, number_of(item));
                }
                if let Some((number, _)) = items.last() {
                    self.note_head(index, room, origin, *number);
                }
            }
            Event::Published {
                room,
                origin,
                items,
            } => {
                if let Some((number, _)) = items.last() {
                    self.note_head(index, room.clone(), origin.clone(), *number);
                }
                self.note_published(room, origin, items);
            }
            Event::Head {
                room,
                origin,
                number,
            } => {
                self.judge.note_head(self.now, index, &room, &origin);
                self.note_head(index, room, origin, number);
            }
            Event::Replayed {
                ticket,
                items,
                complete,
            } => self.judge_replay(index, ticket, items, complete),
            Event::MessageRefused { sender, .. } => {
                let key = (index, self.nodes[index].life, sender);
                *self.judge.refused.entry(key).or_default() += 1;
                self.reach("events refused");
            }
            Event::Cursors { room, items } => {
                self.judge_interest(index, &room, "cursors");
                for cursor in items {
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    self.judge_cursor(index, cursor.member, cursor.x as u64);
                }
            }
            Event::Watched { room, watched } => {
                let known = &mut self.nodes[index].mirror.watched;
                let changes = if watched {
                    known.insert(room.clone())
                } else {
                    known.remove(&room)
                };
                if !changes {
                    self.violation(format!("{name}: watching of {room} changed to what it was"));
                }
                if watched {
                    self.tell_positions_soon(index, room);
                }
            }
            Event::Membership { node, alive } => self.judge_verdict(index, &node, alive),
            Event::Visibility {
                node,
                boot,
                visible,
            } => {
                let known = &mut self.nodes[index].mirror.newest;
                let known = known.entry(node.clone()).or_default();
                *known = boot.max(*known);
                let newest = self
                    .index_of(&node)
                    .and_then(|other| self.nodes[other].boots.last());
                if newest.is_some_and(|newest| *newest <= boot) {
                    let seen = &mut self.nodes[index].mirror.visible;
                    if visible {
                        seen.insert(node);
                    } else {
                        seen.remove(&node);
                    }
                }
            }
            Event::LinkUp { peer, .. } => {
                let now = self.now;
                self.nodes[index].mirror.linked_at.insert(peer, now);
            }
            Event::LinkDown { .. } | Event::Refused { .. } => {}
        }
    }

    /// Clients forget a member that left, and where it was.
    fn forget(&mut self, index: usize, member: MemberId) -> Option<Member> {
        let mirror = &mut self.nodes[index].mirror;
        mirror.cursors.remove(&member);
        mirror.seen.entry(member).or_default().1 += 1;
        mirror.shown.remove(&member)
    }

    /// Whoever watches a room anew is told where its cursors are, whatever was known before.
    pub(crate) fn forget_cursors(&mut self, index: usize, room: &RoomName) {
        let mirror = &mut self.nodes[index].mirror;
        let Mirror { cursors, shown, .. } = mirror;
        cursors.retain(|member, _| {
            shown
                .get(member)
                .is_none_or(|shown| shown.row.room != *room)
        });
    }

    /// Whether a message that the node had to get is neither here nor among these.
    fn is_missing(
        &self,
        index: usize,
        origin: usize,
        room: &RoomName,
        items: &[(u64, Message)],
    ) -> bool {
        let life = self.nodes[index].life;
        let arriving: BTreeSet<u64> = items.iter().map(|(_, item)| number_of(item)).collect();
        let newest = arriving.last().copied().unwrap_or(u64::MAX);
        self.clients
            .published
            .range(..newest)
            .filter(|(_, m)| m.node == origin && m.life == self.nodes[origin].life)
            .filter(|(_, m)| m.room == *room)
            .filter(|(_, m)| m.targets.iter().any(|t| (t.0, t.1) == (index, life)))
            .any(|(number, _)| {
                !arriving.contains(number)
                    && !self.nodes[index].mirror.messages.contains_key(number)
            })
    }

    fn judge_verdict(&mut self, index: usize, node: &NodeName, alive: bool) {
        let entry = self.nodes[index]
            .mirror
            .verdicts
            .entry(node.clone())
            .or_default();
        if alive {
            entry.0 += 1;
        } else {
            entry.1 += 1;
        }
        let Some(other) = self.index_of(node) else {
            return;
        };
        let falsely = !alive && self.judge.mild && self.is_up(other);
        let settled = self.now > self.nodes[other].born + 60 * SECOND;
        if falsely && settled {
            let name = &self.nodes[index].name;
            let text = format!("{name}: SWIM holds {node} for down, which is up");
            self.violation(text);
        }
    }

    /// Nobody joins out of a life that is over, as far as this node knows or long since.
    fn judge_join(&mut self, index: usize, member: &Member) {
        let (name, id) = (self.nodes[index].name.clone(), member.row.member);
        self.nodes[index].mirror.closed.remove(&id);
        self.nodes[index].mirror.seen.entry(id).or_default().0 += 1;
        let newest = self.nodes[index].mirror.newest.get(&member.node);
        if newest.is_some_and(|newest| *newest > member.boot) {
            self.violation(format!(
                "{name}: {id} joined from an older life of {}",
                member.node
            ));
        }
        let Some(owner) = self.index_of(&member.node) else {
            return;
        };
        let hindered = self.nodes[index].hindered_at + 5 * SECOND > self.now
            && self.nodes[index].hindered_at > self.nodes[index].born;
        let bound = self.hide_bound(index, owner);
        let over = self.nodes[owner]
            .ended
            .get(&member.boot)
            .is_some_and(|ended| self.now > ended + bound);
        if over && !hindered {
            self.violation(format!(
                "{name}: {id} joined from {}, which is long dead",
                member.node
            ));
        }
    }

    /// Nobody speaks after having left. After an outage that may happen: a leave waits for so long
    /// only, and not at all where a snapshot brings it. Whoever comes back on a later life of the
    /// node may be heard before it is seen.
    fn judge_sender(&mut self, index: usize, sender: MemberId, origin: &OwnerId) {
        let mirror = &self.nodes[index].mirror;
        let Some((node, boot, told_at)) = mirror.closed.get(&sender) else {
            return;
        };
        let waited = self.clients.members.get(&sender).is_some_and(|client| {
            let left_at = client.attachments.iter().map(|a| a.changed_at).max();
            left_at.is_some_and(|left_at| *told_at >= left_at + LATE)
        });
        // In an interest that began later there is nobody who was told that it left.
        let since = self.interest_since(index, sender);
        let told = since.is_some_and(|since| *told_at >= since);
        if *node == origin.node && *boot == origin.boot && !waited && told && self.judge.mild {
            let name = &self.nodes[index].name;
            let text = format!("{name}: a message of {sender}, who had left");
            self.violation(text);
        }
    }

    /// Nobody is heard before it was seen: an event waits for its sender's join, though not for longer
    /// than a loss takes to repair, and not for whoever has left again.
    fn judge_stranger(&mut self, index: usize, item: &Message, origin: &OwnerId) {
        if item.kind != MessageKind::Event || !self.judge.mild {
            return;
        }
        let mirror = &self.nodes[index].mirror;
        let known = mirror.seen.contains_key(&item.sender);
        let left = self.clients.members.get(&item.sender).is_none_or(|client| {
            let last = client.attachments.last();
            last.is_none_or(|last| !last.is_there(self.now))
        });
        let from = self.index_of(&origin.node);
        let flaps = from.is_none_or(|from| self.flaps(index, from, GAP));
        let seen = mirror.visible.contains(&origin.node);
        if !known && !left && seen && !flaps {
            let name = &self.nodes[index].name;
            let text = format!("{name}: a message of {}, who has not joined", item.sender);
            self.violation(text);
        }
    }

    fn judge_leave(&mut self, index: usize, before: &Member, reason: LeaveReason) {
        let id = before.row.member;
        let now = self.now;
        let Some(client) = self.clients.members.get(&id) else {
            return self.violation(format!("{id} left, and nobody knows it"));
        };
        let Some(owner) = self.index_of(&before.node) else {
            return;
        };
        let any = |holds: &dyn Fn(&crate::clients::Attachment) -> bool| {
            client.attachments.iter().any(holds)
        };
        let closed = any(&|a| matches!(a.stage, Stage::Closed | Stage::Departed));
        let timed_out = any(&|a| match a.stage {
            Stage::Away(since) => now + 200 * MS >= since + grace_us(),
            _ => false,
        });
        let departed = any(&|a| a.stage == Stage::Departed);
        let broke = any(&|a| a.broke);
        let there = client
            .attachments
            .last()
            .is_some_and(|a| a.is_there(now + 200 * MS) && a.node == owner);
        let plausible = match reason {
            LeaveReason::Closed => closed || (timed_out && broke),
            LeaveReason::TimedOut => timed_out || departed,
            LeaveReason::NodeLost => {
                // A node whose clock was set back takes another boot: it is asked, not remembered.
                let boot = self
                    .core(owner)
                    .map(|core| core.overview(self.time(owner)).boot);
                let lives = self.is_up(owner) && boot == Some(before.boot);
                let elsewhere = client.attachments.last().is_some_and(|a| {
                    let process = &self.nodes[a.node];
                    let settled = now > process.born + 5 * SECOND;
                    a.is_there(now + 200 * MS) && process.life == a.life && settled
                });
                !(self.judge.mild && lives && (there || elsewhere))
            }
            LeaveReason::Kicked | LeaveReason::Superseded => false,
        };
        if !plausible {
            let name = &self.nodes[index].name;
            let text = format!(
                "{name}: {id} of {} left as {reason:?}, which it did not: {:?}",
                before.node,
                client
                    .attachments
                    .iter()
                    .map(|a| (a.node, a.stage))
                    .collect::<Vec<_>>()
            );
            self.violation(text);
        }
    }

    fn judge_interest(&mut self, index: usize, room: &RoomName, what: &str) {
        let life = self.nodes[index].life;
        let key = (index, life, room.clone());
        if !self.clients.interest.contains_key(&key) {
            let ended = self.clients.interest_ended.get(&(index, room.clone()));
            if ended.is_none_or(|ended| self.now > ended + SECOND) {
                let name = &self.nodes[index].name;
                let text = format!("{name}: {what} for room {room}, in which nobody is");
                self.violation(text);
            }
        }
    }

    fn judge_message(&mut self, index: usize, room: &RoomName, origin: &NodeName, number: u64) {
        let name = self.nodes[index].name.clone();
        self.judge_interest(index, room, "messages");
        self.judge.delivered += 1;
        let Some(published) = self.clients.published.get(&number).cloned() else {
            return self.violation(format!("{name}: message {number} was never sent"));
        };
        if self.index_of(origin) != Some(published.node) || published.room != *room {
            self.violation(format!(
                "{name}: message {number} under a false origin or room"
            ));
        }
        let life = self.nodes[index].life;
        let interest = self.clients.interest.get(&(index, life, room.clone()));
        let since = interest.map_or(0, |(_, since)| *since);
        let mirror = &mut self.nodes[index].mirror;
        // In an interest that began later there is nobody who heard it before, but for clients that
        // came back, and for those the replay's positions hold.
        let before = mirror.messages.insert(number, self.now);
        if before.is_some_and(|before| before >= since) {
            return self.violation(format!("{name}: message {number} came twice"));
        }
        let key = (published.node, published.life, room.clone());
        let last = mirror.message_last.insert(key, (number, self.now));
        if let Some((last, at)) = last
            && last > number
            && at >= since
        {
            self.violation(format!("{name}: message {number} came after {last}"));
        }
    }

    fn judge_cursor(&mut self, index: usize, member: MemberId, position: u64) {
        let name = self.nodes[index].name.clone();
        let now = self.now;
        let mirror = &mut self.nodes[index].mirror;
        let Some(shown) = mirror.shown.get(&member) else {
            return self.violation(format!("{name}: a cursor of {member}, who is not shown"));
        };
        let owner = (shown.node.clone(), shown.boot);
        let epoch = shown.row.epoch;
        let seen = (position, owner.0.clone(), owner.1, now, epoch);
        let before = mirror.cursors.insert(member, seen);
        let since = self.interest_since(index, member);
        // With the newer node out of sight, an older one's row and position are the best there is.
        if let Some((last, node, boot, at, last_epoch)) = before
            && epoch >= last_epoch
        {
            let same = (node, boot) == owner && since.is_some_and(|since| at >= since);
            if position < last || (same && position == last) {
                self.violation(format!(
                    "{name}: cursor of {member} went from {last} to {position}"
                ));
            }
        }
    }

    fn interest_since(&self, index: usize, member: MemberId) -> Option<u64> {
        let room = self.clients.members.get(&member)?.room.clone();
        let key = (index, self.nodes[index].life, room);
        self.clients.interest.get(&key).map(|(_, since)| *since)
    }

    pub(crate) fn judge_frame(&mut self, index: usize, conn: ConnId, frame: &bytes::Bytes) {
        if frame.first() == Some(&6)
            && let Ok(Frame::Snapshot(snapshot)) = Frame::decode(frame, VERSION)
            && snapshot.part == 1
        {
            self.reach("snapshots in parts");
        }
        if frame.first() == Some(&9)
            && let Ok(Frame::Relay(relay)) = Frame::decode(frame, VERSION)
        {
            self.judge_relay(index, conn, relay);
        }
    }

    pub(crate) fn judge_datagram(&mut self, index: usize, conn: ConnId, bytes: &bytes::Bytes) {
        if bytes.len() > 1_162 {
            let name = &self.nodes[index].name;
            let text = format!("{name}: a datagram of {} bytes", bytes.len());
            self.violation(text);
        }
        if bytes.first() == Some(&35)
            && let Ok(Datagram::Relay(relay)) = Datagram::decode(bytes, VERSION)
        {
            self.judge_relay(index, conn, relay);
        }
    }

    fn judge_relay(&mut self, index: usize, _conn: ConnId, relay: Relay) {
        let own = relay.origin.node == self.nodes[index].name;
        if relay.left == 1 {
            if !own {
                self.violation("a node passed on a relay frame with hops left".to_owned());
            }
            return;
        }
        self.judge.relayed += 1;
        let known = self
            .judge
            .relayable
            .get(&index)
            .is_some_and(|seen| seen.contains(&(relay.origin.node, relay.inner)));
        if own || !known {
            self.violation("a node relayed what did not come to it".to_owned());
        }
    }

    /// Rows of these lives must not be shown any more by a node that could know.
    pub(crate) fn check_ghosts(&mut self, index: usize, node: usize, boots: &[u64], since: u64) {
        let name = self.nodes[node].name.clone();
        let observer = &self.nodes[index];
        let hindered = observer.paused || observer.hindered_at + 5 * SECOND > since;
        if observer.core.is_none() || hindered {
            return;
        }
        let ghost = observer
            .mirror
            .shown
            .values()
            .find(|member| member.node == name && boots.contains(&member.boot));
        if let Some(ghost) = ghost {
            let text = format!(
                "{}: still shows {} of {name}, whose process ended at {} ms",
                observer.name,
                ghost.row.member,
                since / MS
            );
            self.violation(text);
        }
    }

    /// Every node's events must fold to what it shows, and what it applied must only rise.
    pub fn check_folds(&mut self) {
        for index in 0..self.nodes.len() {
            let time = self.time(index);
            let Some(core) = &self.nodes[index].core else {
                continue;
            };
            let shown: BTreeMap<MemberId, Member> = core
                .shown()
                .map(|member| (member.row.member, member.clone()))
                .collect();
            let peers = core.overview(time).peers;
            let name = self.nodes[index].name.clone();
            if shown != self.nodes[index].mirror.shown {
                self.violation(format!("{name}: its events do not fold to what it shows"));
            }
            for peer in peers {
                let key = (peer.node.clone(), peer.boot);
                let before = self.nodes[index].mirror.applied.insert(key, peer.applied);
                if before.is_some_and(|before| before > peer.applied && peer.applied > 0) {
                    self.violation(format!(
                        "{name}: applied of {} went from {before:?} to {}",
                        peer.node, peer.applied
                    ));
                }
            }
        }
    }

    /// All running nodes must show what the model says, but for what changed just now.
    pub fn check_converged(&mut self) {
        let now = self.now;
        let running: Vec<usize> = (0..self.nodes.len())
            .filter(|index| self.is_up(*index))
            .collect();
        let mut found = Vec::new();
        for (id, client) in &self.clients.members {
            let fresh = client.attachments.iter().any(|a| {
                let expires = match a.stage {
                    Stage::Away(since) => since + grace_us(),
                    _ => a.changed_at,
                };
                let late = if a.stage == Stage::Closed { LATE } else { 0 };
                now < a.changed_at + SPREAD + late
                    || (now < expires + SPREAD && now + SECOND > expires)
            });
            if fresh {
                continue;
            }
            let there: Vec<usize> = (0..client.attachments.len())
                .filter(|index| {
                    let attachment = &client.attachments[*index];
                    attachment.is_there(now) && self.nodes[attachment.node].life == attachment.life
                })
                .collect();
            for older in &there {
                let beaten = (0..client.attachments.len()).any(|newer| {
                    let by = &client.attachments[newer];
                    let lives =
                        self.nodes[by.node].life == by.life && self.nodes[by.node].core.is_some();
                    lives && client.descends(newer, *older)
                });
                if beaten {
                    found.push(format!("{id} was resumed, but its old row is still there"));
                }
            }
            if there.len() > 1 {
                found.push(format!("{id} is at {} nodes", there.len()));
                continue;
            }
            let expected = there.first().map(|index| &client.attachments[*index]);
            for index in &running {
                let shown = self.nodes[*index].mirror.shown.get(id);
                let name = &self.nodes[*index].name;
                match (expected, shown) {
                    (None, None) => {}
                    (None, Some(ghost)) => found.push(format!(
                        "{name}: shows {id} of {} boot {} epoch {}, which is nowhere: {:?}",
                        ghost.node,
                        ghost.boot,
                        ghost.row.epoch,
                        client
                            .attachments
                            .iter()
                            .map(|a| (a.node, a.stage, a.epoch))
                            .collect::<Vec<_>>()
                    )),
                    (Some(at), None) => found.push(format!(
                        "{name}: does not show {id} of {}",
                        self.nodes[at.node].name
                    )),
                    (Some(at), Some(shown)) => {
                        let away = matches!(at.stage, Stage::Away(_));
                        let same = shown.node == self.nodes[at.node].name
                            && shown.row.state == crate::clients::state_bytes(at.state)
                            && shown.row.away == away
                            && shown.row.epoch == at.epoch
                            && shown.row.room == client.room;
                        if !same {
                            found.push(format!(
                                "{name}: shows {id} at {} epoch {} away {}, but it is at {} epoch {} {:?}",
                                shown.node,
                                shown.row.epoch,
                                shown.row.away,
                                self.nodes[at.node].name,
                                at.epoch,
                                at.stage
                            ));
                        }
                    }
                }
            }
        }
        for index in &running {
            let unknown = self.nodes[*index]
                .mirror
                .shown
                .keys()
                .find(|id| !self.clients.members.contains_key(id));
            if let Some(id) = unknown {
                found.push(format!(
                    "{}: shows {id}, who never was",
                    self.nodes[*index].name
                ));
            }
        }
        for what in found {
            self.violation(what);
        }
    }

    /// Every cursor that has come to rest must be known wherever somebody looks at its room.
    pub fn check_cursors(&mut self) {
        let now = self.now;
        let mut found = Vec::new();
        for (id, client) in &self.clients.members {
            let Some(at) = client.attachments.last().filter(|a| a.is_there(now)) else {
                continue;
            };
            let (position, moved_at) = at.cursor;
            let rested = position > 0 && now > moved_at + 4 * SECOND;
            if !rested || self.nodes[at.node].life != at.life {
                continue;
            }
            for index in 0..self.nodes.len() {
                let key = (index, self.nodes[index].life, client.room.clone());
                let Some((_, since)) = self.clients.interest.get(&key) else {
                    continue;
                };
                if index == at.node || !self.is_up(index) || now < since + 4 * SECOND {
                    continue;
                }
                let seen = self.nodes[index].mirror.cursors.get(id);
                let fresh =
                    seen.is_some_and(|(last, _, _, came, _)| *last == position && came >= since);
                if !fresh {
                    found.push(format!(
                        "{}: the cursor of {id} rests at {position}, last seen {seen:?}, room watched since {} ms",
                        self.nodes[index].name,
                        since / MS
                    ));
                }
            }
        }
        for what in found {
            self.violation(what);
        }
    }

    /// Every message must have reached whoever was known to want it, or be reported as lost. On a
    /// slow link a tutorial message may have given way to a newer one of its sender that arrived,
    /// and an event if its sender was told.
    pub fn check_messages(&mut self) {
        let mut found = Vec::new();
        let conflated: u64 = (0..self.nodes.len())
            .map(|index| self.counter(index, "messages_conflated_total"))
            .sum();
        if conflated > 0 {
            *self.judge.reached.entry("messages conflated").or_default() += conflated;
        }
        let mut refused = self.judge.refused.clone();
        for (number, message) in &self.clients.published {
            let origin = &self.nodes[message.node];
            let settled = self.now > message.at + 5 * SECOND;
            if !settled || origin.life != message.life || origin.core.is_none() {
                continue;
            }
            for (index, life, since) in &message.targets {
                let key = (*index, *life, message.room.clone());
                let still = self
                    .clients
                    .interest
                    .get(&key)
                    .is_some_and(|(_, now_since)| now_since == since);
                let target = &self.nodes[*index];
                if !still || target.life != *life || target.core.is_none() {
                    continue;
                }
                let got = target.mirror.messages.contains_key(number);
                let told = target
                    .mirror
                    .lost
                    .get(&(message.node, message.room.clone()))
                    .is_some_and(|at| *at >= message.at);
                if got || told {
                    continue;
                }
                let gave_way = match message.kind {
                    MessageKind::Tutorial => {
                        let newer = target.mirror.messages.range(number + 1..);
                        conflated > 0
                            && newer.into_iter().any(|(newer, _)| {
                                self.clients.published.get(newer).is_some_and(|newer| {
                                    newer.sender == message.sender
                                        && newer.kind == MessageKind::Tutorial
                                        && (newer.node, newer.life) == (message.node, message.life)
                                })
                            })
                    }
                    MessageKind::Event => refused
                        .get_mut(&(message.node, message.life, message.sender))
                        .and_then(|left| left.checked_sub(1).map(|rest| *left = rest))
                        .is_some(),
                };
                if !gave_way {
                    found.push(format!(
                        "{}: message {number} of {} sent at {} ms never came",
                        target.name,
                        origin.name,
                        message.at / MS
                    ));
                }
            }
        }
        for what in found {
            self.violation(what);
        }
    }

    /// What every node keeps must be bounded by what there is.
    pub fn check_memory(&mut self) {
        let members = self.clients.members.len() as u64;
        let nodes = self.nodes.len() as u64;
        let mut found = Vec::new();
        for index in 0..self.nodes.len() {
            if !self.is_up(index) {
                continue;
            }
            let name = &self.nodes[index].name;
            let bounds = [
                ("replicas", nodes * 2),
                ("members_indexed", members),
                ("members_moving", members),
                ("own_entries", members),
                ("rings", 16),
                ("ring_messages", 16 * 256),
                ("swim_alive", nodes),
            ];
            for (what, bound) in bounds {
                let value = self.counter(index, what);
                if value > bound {
                    found.push(format!("{name}: {what} is {value}, more than {bound}"));
                }
            }
        }
        for what in found {
            self.violation(what);
        }
    }
}

/// The number that a message carries.
pub(crate) fn number_of(message: &Message) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&message.payload[..8]);
    u64::from_be_bytes(number)
}
