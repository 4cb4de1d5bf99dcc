//! Replay: the events that a client missed while it was away, from this node's rings or from those
//! who have them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::event::{Event, Lane, Message, MessageKind};
use super::super::identity::{ConnId, NodeName, RoomName, Time};
use super::super::rule::Rule;
use super::super::wire::{Frame, MessagePull, Messages, OwnerId};
use super::Core;
use super::messages::{GAP_MAX, RING_AGE};

/// Clients whose missed events are being gathered; more are told that theirs are incomplete.
const PENDING_MAX: usize = 1_024;
/// How long others have to answer at least: one that stands still for a moment still does.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// Clients that wait for what they missed, by ticket.
#[derive(Debug, Default)]
pub(super) struct Replays {
    pending: BTreeMap<u64, Pending>,
}

#[derive(Debug)]
struct Pending {
    room: RoomName,
    until: Time,
    /// The origins whose events are asked for.
    awaited: BTreeMap<OwnerId, Awaited>,
    items: BTreeMap<(OwnerId, u64), Message>,
    complete: bool,
}

#[derive(Debug)]
struct Awaited {
    /// From which number on.
    from: u64,
    /// Of an origin that cannot answer itself: who else has not answered yet. What it said last may
    /// have got to any of them.
    others: Option<BTreeSet<NodeName>>,
    /// How far those who answered have heard it.
    heard: u64,
    /// How often somebody was asked, and when the next is: who does not answer in time may be about to
    /// stop, or not have everything.
    asked: usize,
    ask_at: Time,
}

impl Replays {
    pub(super) fn awaits(&self, ticket: u64, origin: &OwnerId) -> bool {
        self.pending
            .get(&ticket)
            .is_some_and(|pending| pending.awaited.contains_key(origin))
    }
}

impl Core {
    pub(super) fn replay(
        &mut self,
        ticket: u64,
        room: &RoomName,
        seen: Vec<(OwnerId, u64)>,
        away: Duration,
    ) {
        let full = self.replays.pending.len() >= PENDING_MAX;
        if ticket == 0 || full || !self.own.rooms.contains(room) {
            return self.emit(Event::Replayed {
                ticket,
                items: Vec::new(),
                complete: false,
            });
        }
        let seen: BTreeMap<OwnerId, u64> = seen.into_iter().take(PENDING_MAX).collect();
        let current = self
            .replicas
            .iter()
            .filter(|(_, replica)| !replica.superseded);
        let mut origins: BTreeSet<OwnerId> = current.map(|(owner, _)| owner.clone()).collect();
        origins.insert(self.me.clone());
        origins.extend(seen.keys().cloned());
        let mut pending = Pending {
            room: room.clone(),
            until: self.now.after(self.answers_within(room, PATIENCE_MIN)),
            awaited: BTreeMap::new(),
            items: BTreeMap::new(),
            complete: true,
        };
        // Nobody keeps events for longer than a ring does, so after that nothing can be promised.
        pending.complete = away < RING_AGE;
        for origin in origins {
            let from = seen.get(&origin).copied().unwrap_or(0);
            let (complete, items) = self.kept(room, &origin, from, u64::MAX);
            let whole = origin == self.me && self.has_all_after(room, from);
            // Whoever fell silent before the client was away said nothing meanwhile. If it is only out
            // of sight, what it says when it is back is no news to be skipped.
            let ended = self.ended_for(&origin);
            let silent = ended.is_some_and(|time| time >= away.saturating_add(GAP_MAX));
            let silent = silent
                && self.delivered(room, &origin) <= from
                && (self.says_nothing_more(&origin) || self.hear_from(room, &origin, from));
            // Who has seen a later life of that node was on one that had done with this life before.
            let later = |other: &OwnerId| other.node == origin.node && other.boot > origin.boot;
            let followed = self.says_nothing_more(&origin)
                && seen.keys().any(later)
                && self.delivered(room, &origin) <= from
                && self.holds(Rule::LaterLifeIsSeen);
            let silent = silent || followed;
            if complete || whole || silent || self.heard_nothing_after(room, &origin, from) {
                pending.take(&origin, items);
            } else if let Some(awaited) = self.ask_for_missed(ticket, room, &origin, from) {
                pending.awaited.insert(origin, awaited);
            } else {
                pending.complete = false;
                pending.take(&origin, items);
            }
        }
        self.replays.pending.insert(ticket, pending);
        self.finish_replays();
    }

    /// The answer to a pull with a ticket.
    pub(super) fn replay_answer(&mut self, said_by: &NodeName, frame: Messages) {
        let (room, origin) = (frame.room.clone(), frame.origin.clone());
        let delivered = self.delivered(&room, &origin);
        let pending = self.replays.pending.get_mut(&frame.ticket);
        let Some(pending) = pending.filter(|pending| pending.room == room) else {
            return;
        };
        let Some(awaited) = pending.awaited.get_mut(&origin) else {
            return;
        };
        let to_the_end = frame.to == u64::MAX;
        let last = frame.items.last().map_or(awaited.from, |(last, _)| *last);
        let heard = if to_the_end { last } else { frame.to };
        match &mut awaited.others {
            // Who knows less than this node, or than the client, cannot say that there is no more.
            None if *said_by != origin.node && frame.to < delivered.max(awaited.from) => return,
            None => {}
            Some(others) => {
                // Each is heard once.
                if !others.remove(said_by) {
                    return;
                }
                awaited.heard = awaited.heard.max(heard);
                if !others.is_empty() && !to_the_end {
                    pending.take(&origin, frame.items);
                    pending.complete &= frame.lost == 0;
                    return;
                }
            }
        }
        let heard = heard.max(awaited.heard);
        // What this node heard itself and keeps no more, others must have heard as well.
        pending.complete &= to_the_end || heard >= delivered;
        pending.awaited.remove(&origin);
        pending.take(&origin, frame.items);
        pending.complete &= frame.lost == 0;
        // What the origin says after that is no news to be skipped, whoever answered.
        if frame.lost == 0 && !self.says_nothing_more(&origin) {
            let hears = self.hear_from(&room, &origin, heard);
            if let Some(pending) = self.replays.pending.get_mut(&frame.ticket) {
                pending.complete &= hears;
            }
        }
        self.finish_replays();
    }

    /// Asks somebody else for what did not come, and tells who has all answers, or has waited long
    /// enough.
    pub(super) fn finish_replays(&mut self) {
        let now = self.now;
        let mut again = Vec::new();
        for (ticket, pending) in &self.replays.pending {
            for (origin, awaited) in &pending.awaited {
                if now < awaited.ask_at {
                    continue;
                }
                let pull = MessagePull {
                    origin: origin.clone(),
                    room: pending.room.clone(),
                    from: awaited.from,
                    to: u64::MAX,
                    ticket: *ticket,
                };
                again.push((pull, awaited.others.clone(), awaited.asked));
            }
        }
        for (pull, others, asked) in again {
            let wait = match others {
                Some(others) => Some(self.ask_all(&pull, &others)),
                None => self.ask_in_turn(&pull, asked),
            };
            let pending = self.replays.pending.get_mut(&pull.ticket);
            if let Some(awaited) = pending.and_then(|p| p.awaited.get_mut(&pull.origin)) {
                awaited.asked += 1;
                awaited.ask_at = now.after(wait.unwrap_or(PATIENCE_MIN));
            }
        }
        let done: Vec<u64> = self
            .replays
            .pending
            .iter()
            .filter(|(_, pending)| pending.awaited.is_empty() || now >= pending.until)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in done {
            if let Some(pending) = self.replays.pending.remove(&ticket) {
                let items = pending.items.into_iter();
                self.emit(Event::Replayed {
                    ticket,
                    items: items
                        .map(|((origin, number), message)| (origin, number, message))
                        .collect(),
                    complete: pending.complete && pending.awaited.is_empty(),
                });
            }
        }
    }

    /// Asks for what an origin said after `from`. `None` if there is nobody to ask.
    fn ask_for_missed(
        &mut self,
        ticket: u64,
        room: &RoomName,
        origin: &OwnerId,
        from: u64,
    ) -> Option<Awaited> {
        let pull = MessagePull {
            origin: origin.clone(),
            room: room.clone(),
            from,
            to: u64::MAX,
            ticket,
        };
        let mut awaited = Awaited {
            from,
            others: None,
            heard: from,
            asked: 1,
            ask_at: self.now,
        };
        if self.is_visible(origin) && !self.says_nothing_more(origin) {
            awaited.ask_at = self.now.after(self.ask_in_turn(&pull, 0)?);
            return Some(awaited);
        }
        let interested = self.watchers.get(room).into_iter().flatten();
        let others: BTreeSet<NodeName> = interested
            .filter(|node| {
                let current = self.current(node);
                **node != origin.node && current.is_some_and(|current| self.is_visible(&current))
            })
            .cloned()
            .collect();
        awaited.ask_at = self.now.after(self.ask_all(&pull, &others));
        let anybody = !others.is_empty();
        awaited.others = Some(others);
        anybody.then_some(awaited)
    }

    /// Asks the origin itself, then linked nodes that are interested in the room, by turns. Tells how
    /// long the answer is waited for; `None` if there is nobody to ask.
    fn ask_in_turn(&mut self, pull: &MessagePull, asked: usize) -> Option<Duration> {
        let itself = self.link_to(&pull.origin.node);
        let itself = itself.filter(|(_, link)| link.boot() == pull.origin.boot);
        let others = self.watchers.get(&pull.room).into_iter().flatten();
        let ways: Vec<(ConnId, NodeName)> = itself
            .into_iter()
            .chain(others.filter_map(|node| self.link_to(node)))
            .map(|(conn, link)| (conn, link.peer.clone()))
            .collect();
        let (conn, node) = ways.get(asked % ways.len().max(1))?;
        self.send(*conn, Lane::Messages, &Frame::MessagePull(pull.clone()));
        Some(self.ask_again_after(node))
    }

    /// Asks all of these that are linked. Tells how long the slowest answer is waited for.
    fn ask_all(&mut self, pull: &MessagePull, nodes: &BTreeSet<NodeName>) -> Duration {
        let mut wait = Duration::from_millis(200);
        for node in nodes {
            if let Some((conn, _)) = self.link_to(node) {
                self.send(conn, Lane::Messages, &Frame::MessagePull(pull.clone()));
                wait = wait.max(self.ask_again_after(node));
            }
        }
        wait
    }
}

impl Pending {
    fn take(&mut self, origin: &OwnerId, items: Vec<(u64, Message)>) {
        let events = items
            .into_iter()
            .filter(|(_, message)| message.kind == MessageKind::Event);
        self.items
            .extend(events.map(|(number, message)| ((origin.clone(), number), message)));
    }
}
