//! Messages that overtook their sender's join: they wait for it, for a moment.
//!
//! Presence and messages travel on streams of their own, and presence is gathered before it is sent:
//! after a loss, or when two nodes have just found each other, what a newcomer says is there before it.
//! The other end of a member's life is `late`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::event::MessageKind;
use super::super::identity::{NodeName, RoomName, Time};
use super::super::rule::Rule;
use super::super::wire::{Messages, OwnerId};
use super::Core;
use super::messages::size;

/// How long a message waits for its sender at most, beside what an answer of its node takes: a gateway
/// that dies with the join is noticed within 1.2 s, and a digest, which says what is missing, comes every
/// second.
const PATIENCE: Duration = Duration::from_millis(2_500);
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Bytes that wait of an origin in a room, and of all; beyond either they go on without their sender.
const BYTES_MAX: usize = 1024 * 1024;
const ALL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What waits, in the order it came.
#[derive(Debug, Default)]
pub(super) struct EarlyMessages {
    waiting: BTreeMap<(RoomName, OwnerId), Waiting>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<(Time, Messages)>,
    bytes: usize,
    /// When a digest of the owner came last that brought nothing new.
    complete_at: Option<Time>,
}

impl EarlyMessages {
    /// Nobody here is in the room any more.
    pub(super) fn forget_room(&mut self, room: &RoomName) {
        self.waiting.retain(|(other, _), waiting| {
            let stays = other != room;
            self.bytes -= if stays { 0 } else { waiting.bytes };
            stays
        });
    }
}

impl Core {
    /// Takes messages as soon as their senders are known, and those that follow them no earlier.
    pub(super) fn take_in_turn(&mut self, frame: Messages) {
        let key = (frame.room.clone(), frame.origin.clone());
        if !self.early.waiting.contains_key(&key) && !self.is_ahead_of_join(&frame) {
            return self.take_messages(frame);
        }
        self.counters.messages_early_total += 1;
        self.early.bytes += size(&frame);
        let waiting = self.early.waiting.entry(key.clone()).or_default();
        waiting.bytes += size(&frame);
        waiting.frames.push_back((self.now, frame));
        if waiting.bytes > BYTES_MAX || self.early.bytes > ALL_BYTES_MAX {
            self.release_messages(&key, |_, _| true);
        }
    }

    /// Whether a member says something that is not shown and of whom its node has said nothing yet. Only
    /// events have a member behind them that others are shown.
    fn is_ahead_of_join(&self, frame: &Messages) -> bool {
        let events = frame.items.iter().map(|(_, message)| message);
        let mut senders = events
            .filter(|message| message.kind == MessageKind::Event)
            .map(|message| message.sender);
        let table = self
            .replicas
            .get(&frame.origin)
            .map(|replica| &replica.table);
        let visible = self.is_visible(&frame.origin);
        let is_said =
            |member| visible && table.is_some_and(|table| table.members.contains_key(&member));
        self.holds(Rule::MessagesFollowJoin)
            && senders.any(|sender| {
                // Who has left already waits for these messages, and they must not wait for it.
                let is_leaving = self.late.reason(sender, &frame.origin).is_some();
                self.fold.get(sender).is_none() && !is_said(sender) && !is_leaving
            })
    }

    /// Lets messages go on whose senders are known now, or that waited long enough.
    pub(super) fn release_early(&mut self) {
        if self.early.waiting.is_empty() {
            return;
        }
        let keys: Vec<(RoomName, OwnerId)> = self.early.waiting.keys().cloned().collect();
        for key in keys {
            self.release_messages(&key, |core, (at, frame)| {
                let answer = core.answer_within(&frame.origin.node);
                let patience = PATIENCE + answer.min(ANSWER_MAX);
                core.now.since(*at) >= patience || !core.is_ahead_of_join(frame)
            });
        }
    }

    /// A node said how far its log is, and nothing of it is missing here: whoever spoke without being
    /// in it has left again. The first such digest may have been under way before the message,
    /// the next follows a second later.
    pub(super) fn release_early_of(&mut self, node: &NodeName) {
        let complete = |core: &Self, owner: &OwnerId| {
            let replica = core.replicas.get(owner);
            replica.is_some_and(|replica| replica.applied >= replica.announced)
        };
        let keys = self.early.waiting.keys();
        let keys: Vec<(RoomName, OwnerId)> = keys
            .filter(|(_, owner)| owner.node == *node && complete(self, owner))
            .cloned()
            .collect();
        for key in keys {
            let waiting = self.early.waiting.get_mut(&key);
            let before = waiting.and_then(|waiting| waiting.complete_at.replace(self.now));
            if let Some(before) = before {
                self.release_messages(&key, |_, (came_at, _)| *came_at <= before);
            }
        }
    }

    /// An owner's life is over, or it is out of sight: what it said was said.
    pub(super) fn release_early_with(&mut self, owner: &OwnerId) {
        let keys = self.early.waiting.keys();
        let keys: Vec<(RoomName, OwnerId)> =
            keys.filter(|(_, other)| other == owner).cloned().collect();
        for key in keys {
            self.release_messages(&key, |_, _| true);
        }
    }

    fn release_messages(
        &mut self,
        key: &(RoomName, OwnerId),
        may: impl Fn(&Self, &(Time, Messages)) -> bool,
    ) {
        while let Some(waiting) = self.early.waiting.get(key) {
            let Some(first) = waiting.frames.front() else {
                self.early.waiting.remove(key);
                return;
            };
            if !may(self, first) {
                return;
            }
            let Some(waiting) = self.early.waiting.get_mut(key) else {
                return;
            };
            if let Some((_, frame)) = waiting.frames.pop_front() {
                waiting.bytes -= size(&frame);
                self.early.bytes -= size(&frame);
                self.take_messages(frame);
            }
        }
    }
}
