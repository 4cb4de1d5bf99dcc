//! Leaves that overtook the member's last messages: they wait for them, for a moment.
//!
//! Presence and messages travel on streams of their own, so that neither waits for the other; the
//! one place where their order matters is the end of a member that had just said something.

use std::collections::BTreeMap;

use super::super::event::LeaveReason;
use super::super::identity::{MemberId, RoomName, Time};
use super::super::rule::Rule;
use super::super::wire::{Op, OwnerId};
use super::Core;
use super::messages::GAP_MAX;

/// Leaves that wait, by member. One of which the same owner says something new is taken out.
#[derive(Debug, Default)]
pub(super) struct LateLeaves(BTreeMap<MemberId, Late>);

#[derive(Debug)]
struct Late {
    owner: OwnerId,
    room: RoomName,
    after: u64,
    reason: LeaveReason,
    until: Time,
}

impl LateLeaves {
    /// Why a member has left that is still shown, as its owner said.
    pub(super) fn reason(&self, member: MemberId, owner: &OwnerId) -> Option<LeaveReason> {
        let late = self.0.get(&member)?;
        (late.owner == *owner).then_some(late.reason)
    }

    /// The owner says something new of the member.
    pub(super) fn remove(&mut self, member: MemberId, owner: &OwnerId) {
        if self.0.get(&member).is_some_and(|late| late.owner == *owner) {
            self.0.remove(&member);
        }
    }
}

impl Core {
    /// The room and message number that this operation, a leave, has to wait for; `None` if it
    /// need not wait.
    pub(super) fn is_ahead_of_messages(&self, owner: &OwnerId, op: &Op) -> Option<(RoomName, u64)> {
        let (Op::Leave { member, after, .. } | Op::Gone { member, after, .. }) = *op else {
            return None;
        };
        let room = &self.replicas.get(owner)?.table.row(member)?.room;
        let ahead = self.own.rooms.contains(room)
            && after > self.delivered(room, owner)
            && self.holds(Rule::LeaveFollowsMessages);
        ahead.then(|| (room.clone(), after))
    }

    pub(super) fn postpone(
        &mut self,
        member: MemberId,
        owner: &OwnerId,
        until: Option<(RoomName, u64)>,
        reason: LeaveReason,
    ) {
        let Some((room, after)) = until else {
            return;
        };
        let late = Late {
            owner: owner.clone(),
            room,
            after,
            reason,
            until: self.now.after(GAP_MAX),
        };
        self.late.0.insert(member, late);
        // Others may say something of the member meanwhile.
        self.note_entry(owner, member);
    }

    /// Lets those leave whose messages are here, have been waited for long enough, concern nobody
    /// here any more, or cannot come because their owner is out of sight.
    pub(super) fn release_leaves(&mut self) {
        if self.late.0.is_empty() {
            return;
        }
        let due: Vec<MemberId> = self
            .late
            .0
            .iter()
            .filter(|(_, late)| {
                self.now >= late.until
                    || !self.own.rooms.contains(&late.room)
                    || !self.is_visible(&late.owner)
                    || self.delivered(&late.room, &late.owner) >= late.after
            })
            .map(|(member, _)| *member)
            .collect();
        for member in due {
            if let Some(late) = self.late.0.remove(&member) {
                self.touched(&late.owner, member, late.reason);
            }
        }
    }
}
