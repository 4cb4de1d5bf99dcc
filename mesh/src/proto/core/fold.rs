//! The fold: one member out of what several owners say of it.
//!
//! The highest (epoch, boot, node) wins. A `Moved` entry is a pointer, so at its own epoch it loses
//! to any row or tombstone. Only the fold emits joined, updated and left.

use std::collections::{BTreeMap, BTreeSet};

use super::super::event::{Event, LeaveReason, Member};
use super::super::identity::{Boot, MemberId, NodeName, Time};
use super::super::rule::Rule;
use super::super::table::Entry;
use super::super::wire::OwnerId;
use super::Core;

/// What clients are shown, and who says something of whom.
#[derive(Debug, Default)]
pub(super) struct Fold {
    /// Owners, this node among them, with an entry for a member; hidden owners too.
    owners: BTreeMap<MemberId, BTreeSet<OwnerId>>,
    shown: BTreeMap<MemberId, Member>,
    /// Members shown only because they are on their way to another node, and until when.
    moving: BTreeMap<MemberId, Time>,
}

impl Fold {
    pub(super) fn shown(&self) -> impl Iterator<Item = &Member> {
        self.shown.values()
    }

    pub(super) fn get(&self, member: MemberId) -> Option<&Member> {
        self.shown.get(&member)
    }

    /// Notes that an owner has, or no longer has, an entry for a member.
    pub(super) fn note(&mut self, member: MemberId, owner: &OwnerId, has: bool) {
        if has {
            self.owners.entry(member).or_default().insert(owner.clone());
        } else if let Some(owners) = self.owners.get_mut(&member) {
            owners.remove(owner);
            if owners.is_empty() {
                self.owners.remove(&member);
            }
        }
    }

    /// Entries in the index and in the list of the moving: for tests of memory bounds.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.owners.len(), self.moving.len())
    }
}

/// The winning entry, copied out so that the fold can be changed.
struct Winner {
    owner: OwnerId,
    entry: Entry,
}

impl Core {
    /// Looks at a member anew and emits what changed. `reason` is given if it has left.
    pub(super) fn refold(&mut self, member: MemberId, reason: LeaveReason) {
        let winner = self.winner(member);
        if let Some(winner) = &winner {
            self.yield_to(member, winner);
        }
        match winner {
            // Whoever said that it is on its way is gone too: it still has its time to arrive.
            None if self.fold.moving.contains_key(&member) => {}
            None => self.hide(member, reason),
            Some(Winner { owner, entry }) => match entry {
                Entry::Present(row) => {
                    self.fold.moving.remove(&member);
                    self.show(Member {
                        node: owner.node,
                        boot: owner.boot,
                        row,
                    });
                }
                Entry::Gone { reason, .. } => self.hide(member, reason),
                Entry::Moved { epoch, .. } => self.keep_moving(member, epoch),
            },
        }
    }

    /// Ends the keeping of members whose new node did not show up.
    pub(super) fn check_moving(&mut self) {
        if !self.holds(Rule::MovedTimesOut) {
            return;
        }
        let due: Vec<MemberId> = self
            .fold
            .moving
            .iter()
            .filter(|(_, until)| self.now >= **until)
            .map(|(member, _)| *member)
            .collect();
        for member in due {
            self.hide(member, LeaveReason::NodeLost);
        }
    }

    /// The highest epoch that any owner, hidden ones too, knows of a member.
    pub(super) fn highest_epoch(&self, member: MemberId) -> u32 {
        let owners = self.fold.owners.get(&member);
        owners
            .into_iter()
            .flatten()
            .filter_map(|owner| self.entry(owner, member))
            .map(Entry::epoch)
            .max()
            .unwrap_or(0)
    }

    fn winner(&self, member: MemberId) -> Option<Winner> {
        let owners = self.fold.owners.get(&member)?;
        let by_epoch = self.holds(Rule::HighestEpochWins);
        let rank = |owner: &OwnerId, entry: &Entry| -> (u32, bool, Boot, NodeName) {
            let epoch = if by_epoch { entry.epoch() } else { 0 };
            let settled = !matches!(entry, Entry::Moved { .. });
            (epoch, settled, owner.boot, owner.node.clone())
        };
        owners
            .iter()
            .filter(|owner| self.is_visible(owner))
            .filter(|owner| self.fold.shown.contains_key(&member) || !self.is_over(owner))
            .filter_map(|owner| Some((owner, self.entry(owner, member)?)))
            .max_by_key(|(owner, entry)| rank(owner, entry))
            .map(|(owner, entry)| Winner {
                owner: owner.clone(),
                entry: entry.clone(),
            })
    }

    /// Whether a newer life of the owner is known. Its rows are shown a little longer, so that a
    /// quick resume is no leave; but nobody joins out of them.
    fn is_over(&self, owner: &OwnerId) -> bool {
        self.replicas
            .get(owner)
            .is_some_and(|replica| replica.superseded)
    }

    fn entry(&self, owner: &OwnerId, member: MemberId) -> Option<&Entry> {
        if *owner == self.me {
            self.own.members.get(&member)
        } else {
            self.replicas.get(owner)?.table.members.get(&member)
        }
    }

    /// A row of this node that lost is withdrawn, and its connection told.
    fn yield_to(&mut self, member: MemberId, winner: &Winner) {
        if winner.owner == self.me || !self.holds(Rule::LoserYields) {
            return;
        }
        let Some(row) = self.own.row(member) else {
            return;
        };
        let room = row.room.clone();
        let to = match &winner.entry {
            Entry::Moved { to, .. } => to.clone(),
            Entry::Present(_) | Entry::Gone { .. } => winner.owner.node.clone(),
        };
        let epoch = winner.entry.epoch();
        self.emit(Event::MovedAway {
            member,
            to: to.clone(),
        });
        self.withdraw(member, room, epoch, to);
    }

    /// A member is on its way to another node: it stays shown until that node's row arrives. If
    /// that row or a later one was there already and does not point onwards itself, its node went
    /// away.
    fn keep_moving(&mut self, member: MemberId, epoch: u32) {
        let arrived = self.fold.get(member).is_some_and(|shown| {
            let owner = OwnerId {
                node: shown.node.clone(),
                boot: shown.boot,
            };
            let points_on = matches!(self.entry(&owner, member), Some(Entry::Moved { .. }));
            shown.row.epoch > epoch || (shown.row.epoch == epoch && !points_on)
        });
        if arrived || !self.holds(Rule::MovedKeepsShowing) {
            return self.hide(member, LeaveReason::NodeLost);
        }
        if self.fold.shown.contains_key(&member) {
            let until = self.now.after(self.evidence_max());
            self.fold.moving.entry(member).or_insert(until);
        }
    }

    fn show(&mut self, member: Member) {
        let id = member.row.member;
        match self.fold.shown.get(&id) {
            Some(before) if *before == member => return,
            Some(before) if before.row.room != member.row.room => {
                self.hide(id, LeaveReason::Superseded);
                self.emit(Event::Joined(Box::new(member.clone())));
            }
            Some(_) => self.emit(Event::Updated(Box::new(member.clone()))),
            None => self.emit(Event::Joined(Box::new(member.clone()))),
        }
        self.fold.shown.insert(id, member);
        self.release_cursor(id);
    }

    fn hide(&mut self, member: MemberId, reason: LeaveReason) {
        self.fold.moving.remove(&member);
        if let Some(before) = self.fold.shown.remove(&member) {
            self.forget_seen(&before);
            self.emit(Event::Left {
                room: before.row.room,
                member,
                reason,
            });
        }
    }
}
