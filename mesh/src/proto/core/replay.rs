//! Replay: the events that a client missed while it was away, from this node's rings or from those
//! who have them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::event::{Event, Lane, Message, MessageKind};
use super::super::identity::{ConnId, RoomName, Time};
use super::super::wire::{Frame, MessagePull, Messages, OwnerId};
use super::Core;
use super::messages::RING_AGE;

/// Clients whose missed events are being gathered; more are told that theirs are incomplete.
const PENDING_MAX: usize = 1_024;
/// How long others have to answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Clients that wait for what they missed, by ticket.
#[derive(Debug, Default)]
pub(super) struct Replays {
    pending: BTreeMap<u64, Pending>,
}

#[derive(Debug)]
struct Pending {
    until: Time,
    awaited: BTreeSet<OwnerId>,
    items: Vec<(OwnerId, u64, Message)>,
    complete: bool,
}

impl Replays {
    pub(super) fn awaits(&self, ticket: u64, origin: &OwnerId) -> bool {
        self.pending
            .get(&ticket)
            .is_some_and(|pending| pending.awaited.contains(origin))
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
            until: self.now.after(PATIENCE),
            awaited: BTreeSet::new(),
            items: Vec::new(),
            complete: true,
        };
        // Nobody keeps events for longer than a ring does, so after that nothing can be promised.
        let listened = self.interested_for(room).is_some_and(|since| since >= away);
        pending.complete = away < RING_AGE;
        for origin in origins {
            let from = seen.get(&origin).copied().unwrap_or(0);
            let (complete, items) = self.kept(room, &origin, from, u64::MAX);
            // Without anything kept there was nothing to keep, if this node was there to hear it.
            let nothing_said = items.is_empty() && (listened || origin == self.me);
            if complete || (nothing_said && !self.is_kept(room, &origin)) {
                pending.take(&origin, items);
            } else if let Some(conn) = self.who_has(room, &origin) {
                let frame = Frame::MessagePull(MessagePull {
                    origin: origin.clone(),
                    room: room.clone(),
                    from,
                    to: u64::MAX,
                    ticket,
                });
                self.send(conn, Lane::Messages, &frame);
                pending.awaited.insert(origin);
            } else {
                pending.complete = false;
                pending.take(&origin, items);
            }
        }
        self.replays.pending.insert(ticket, pending);
        self.finish_replays();
    }

    /// The answer to a pull with a ticket.
    pub(super) fn replay_answer(&mut self, frame: Messages) {
        if let Some(pending) = self.replays.pending.get_mut(&frame.ticket)
            && pending.awaited.remove(&frame.origin)
        {
            pending.complete &= frame.lost == 0;
            pending.take(&frame.origin, frame.items);
        }
        self.finish_replays();
    }

    /// Tells who has all answers, or has waited long enough.
    pub(super) fn finish_replays(&mut self) {
        let now = self.now;
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

    /// The origin if it is linked, else any linked node that is interested in the room.
    fn who_has(&self, room: &RoomName, origin: &OwnerId) -> Option<ConnId> {
        if let Some((conn, link)) = self.link_to(&origin.node)
            && link.boot() == origin.boot
        {
            return Some(conn);
        }
        let others = self.watchers.get(room).into_iter().flatten();
        others
            .filter_map(|node| self.link_to(node))
            .map(|(conn, _)| conn)
            .next()
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
