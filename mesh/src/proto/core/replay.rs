//! Replay: the events that a client missed while it was away, from this node's rings or from those
//! who have them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::event::{Event, Lane, Message, MessageKind};
use super::super::identity::{ConnId, NodeName, RoomName, Time};
use super::super::wire::{Frame, MessagePull, Messages, OwnerId};
use super::Core;
use super::messages::RING_AGE;

/// Clients whose missed events are being gathered; more are told that theirs are incomplete.
const PENDING_MAX: usize = 1_024;
/// How long others have to answer.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Who does not answer within this time may be about to stop, or not have everything: the next is asked.
const ASK_EVERY: Duration = Duration::from_millis(300);

/// Clients that wait for what they missed, by ticket.
#[derive(Debug, Default)]
pub(super) struct Replays {
    pending: BTreeMap<u64, Pending>,
}

#[derive(Debug)]
struct Pending {
    room: RoomName,
    until: Time,
    /// From which of their numbers on the origins' events are asked for.
    awaited: BTreeMap<OwnerId, u64>,
    asked_at: Time,
    /// How often.
    asked: usize,
    items: Vec<(OwnerId, u64, Message)>,
    complete: bool,
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
            until: self.now.after(PATIENCE),
            awaited: BTreeMap::new(),
            asked_at: self.now,
            asked: 1,
            items: Vec::new(),
            complete: true,
        };
        // Nobody keeps events for longer than a ring does, so after that nothing can be promised.
        pending.complete = away < RING_AGE;
        for origin in origins {
            let from = seen.get(&origin).copied().unwrap_or(0);
            let (complete, items) = self.kept(room, &origin, from, u64::MAX);
            let whole = origin == self.me && self.has_all_after(room, from);
            if complete || whole || self.heard_nothing_after(room, &origin, from) {
                pending.take(&origin, items);
            } else if self.ask_for_missed(ticket, room, &origin, from, 0) {
                pending.awaited.insert(origin, from);
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
        let pending = self.replays.pending.get(&frame.ticket);
        let asked = pending.and_then(|pending| pending.awaited.get(&frame.origin));
        // Who knows less than this node, or than the client, cannot say that there is nothing more.
        let known = self.delivered(&frame.room, &frame.origin);
        let known = known.max(asked.copied().unwrap_or(0));
        let knows_less = *said_by != frame.origin.node && frame.to < known;
        if let Some(pending) = self.replays.pending.get_mut(&frame.ticket)
            && !knows_less
            && let Some(from) = pending.awaited.remove(&frame.origin)
        {
            let to_the_end = frame.to == u64::MAX;
            let last = frame.items.last().map_or(from, |(number, _)| *number);
            pending.take(&frame.origin, frame.items);
            let complete = frame.lost == 0
                && if self.says_nothing_more(&frame.origin) || !self.is_visible(&frame.origin) {
                    // What was said last may have got to others than to who answered.
                    to_the_end || self.heard_to_its_end(&frame.origin)
                } else {
                    // What the origin says after that is no news to be skipped, whoever answered.
                    let number = if to_the_end { last } else { frame.to };
                    self.hear_from(&frame.room, &frame.origin, number)
                };
            if let Some(pending) = self.replays.pending.get_mut(&frame.ticket) {
                pending.complete &= complete;
            }
        }
        self.finish_replays();
    }

    /// Asks somebody else for what did not come, and tells who has all answers, or has waited long
    /// enough.
    pub(super) fn finish_replays(&mut self) {
        let now = self.now;
        let mut again = Vec::new();
        for (ticket, pending) in &mut self.replays.pending {
            if now < pending.asked_at.after(ASK_EVERY) {
                continue;
            }
            pending.asked_at = now;
            for (origin, from) in &pending.awaited {
                let room = pending.room.clone();
                again.push((*ticket, room, origin.clone(), *from, pending.asked));
            }
            pending.asked += 1;
        }
        for (ticket, room, origin, from, asked) in again {
            self.ask_for_missed(ticket, &room, &origin, from, asked);
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
                self.emit(Event::Replayed {
                    ticket,
                    items: pending.items,
                    complete: pending.complete && pending.awaited.is_empty(),
                });
            }
        }
    }

    /// Asks for what an origin said after `from`: the origin itself, then linked nodes that are
    /// interested in the room, by turns. False if there is nobody to ask.
    fn ask_for_missed(
        &mut self,
        ticket: u64,
        room: &RoomName,
        origin: &OwnerId,
        from: u64,
        asked: usize,
    ) -> bool {
        let itself = self.link_to(&origin.node);
        let itself = itself.filter(|(_, link)| link.boot() == origin.boot);
        let others = self.watchers.get(room).into_iter().flatten();
        let ways: Vec<ConnId> = itself
            .into_iter()
            .chain(others.filter_map(|node| self.link_to(node)))
            .map(|(conn, _)| conn)
            .collect();
        let Some(conn) = ways.get(asked % ways.len().max(1)) else {
            return false;
        };
        let frame = Frame::MessagePull(MessagePull {
            origin: origin.clone(),
            room: room.clone(),
            from,
            to: u64::MAX,
            ticket,
        });
        self.send(*conn, Lane::Messages, &frame);
        true
    }
}

impl Pending {
    fn take(&mut self, origin: &OwnerId, items: Vec<(u64, Message)>) {
        let events = items
            .into_iter()
            .filter(|(_, message)| message.kind == MessageKind::Event);
        self.items
            .extend(events.map(|(number, message)| (origin.clone(), number, message)));
    }
}
