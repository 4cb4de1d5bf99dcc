//! Pulls and snapshots: getting what a push missed, all at once or not at all.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::super::event::{CloseCode, Lane, LeaveReason};
use super::super::identity::{ConnId, MemberId, RoomName, Time};
use super::super::rule::Rule;
use super::super::table::Table;
use super::super::wire::{
    Delta, Frame, Op, OwnerId, Pull, ROOMS_PER_OWNER_MAX, ROWS_PER_OWNER_MAX, Snapshot,
};
use super::Core;
use super::owner::{DELTA_BYTES, PRESENCE_UNSENT_MAX};

/// A pull is asked anew after this long without a part.
const PULL_PATIENCE: Duration = Duration::from_secs(5);
/// The same before the first part: whoever was asked may have had nothing new. It is three times what
/// an answer takes, and not less than this: before the answer a slow link sends what is queued.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_PATIENCE_MAX: Duration = Duration::from_secs(4);
/// An owner with a direct link pushes by itself; a third party's word that this node is behind
/// counts only if it stays behind for twice what an answer of the owner takes, within these bounds.
const BEHIND_PATIENCE: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1_500)];
/// Bytes of one snapshot part, below a bulk frame.
pub const SNAPSHOT_PART_BYTES: usize = 200 * 1024;

/// Parts of a snapshot: with [`SNAPSHOT_PART_BYTES`], 1 GiB.
const PARTS_MAX: u32 = 5_120;
/// Parts handed to the transport and not yet sent, in bytes.
const BULK_UNSENT_MAX: usize = 1024 * 1024;
/// Snapshot bytes prepared for one peer; what would exceed it is not prepared, the peer asks again.
const PREPARED_MAX: usize = 64 * 1024 * 1024;

/// One outstanding pull.
#[derive(Debug)]
pub(super) struct Pulling {
    conn: ConnId,
    heard_at: Time,
    /// How far the owner's log is known to reach: less of it does not end the pull.
    goal: u64,
    assembly: Option<Assembly>,
}

impl Pulling {
    pub(super) fn is_assembling(&self) -> bool {
        self.assembly.is_some()
    }

    pub(super) fn conn(&self) -> ConnId {
        self.conn
    }

    /// Deltas brought the replica so far; true if that was all that was asked for.
    pub(super) fn reached(&mut self, applied: u64, now: Time) -> bool {
        self.heard_at = now;
        applied >= self.goal
    }
}

#[derive(Debug)]
struct Assembly {
    at: u64,
    parts: u32,
    next: u32,
    entries: Vec<Op>,
}

/// Snapshots on their way to one peer.
#[derive(Debug, Default)]
pub(super) struct Serving {
    parts: VecDeque<(OwnerId, Bytes)>,
    bytes: usize,
}

impl Core {
    /// A digest says that this node lacks something.
    pub(super) fn wants(&mut self, conn: ConnId, owner: &OwnerId, goal: u64) {
        let direct = self.link_to(&owner.node).map(|(direct, _)| direct);
        let now = self.now;
        if direct.is_some_and(|direct| direct != conn) {
            // The owner itself pushes: only a lasting lag is worth a pull, and from the owner.
            let [least, most] = BEHIND_PATIENCE;
            let patience = (self.answer_within(&owner.node) * 2).clamp(least, most);
            let Some(peer) = self.peers.get_mut(&owner.node) else {
                return;
            };
            match peer.behind {
                Some((since, goal)) if goal == owner.boot && now.since(since) >= patience => {
                    peer.behind = None;
                }
                Some((_, goal)) if goal == owner.boot => return,
                _ => {
                    peer.behind = Some((now, owner.boot));
                    return;
                }
            }
        }
        self.pull(owner, conn, goal);
    }

    /// Pulls an owner's log, up to `goal` at least: from the owner if it is linked, else from `conn`.
    pub(super) fn pull(&mut self, owner: &OwnerId, conn: ConnId, goal: u64) {
        let from = self.link_to(&owner.node).map_or(conn, |(direct, _)| direct);
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(owner) else {
            return;
        };
        if replica.pull.is_some() {
            return;
        }
        replica.pull = Some(Pulling {
            conn: from,
            heard_at: now,
            goal,
            assembly: None,
        });
        let have = replica.applied;
        self.counters.pulls_sent_total += 1;
        let frame = Frame::Pull(Pull {
            owner: owner.clone(),
            have,
        });
        self.send(from, Lane::Presence, &frame);
    }

    /// Drops pulls that nobody answers; the next digest asks anew.
    pub(super) fn check_pulls(&mut self) {
        if !self.holds(Rule::PullIsRenewed) {
            return;
        }
        let now = self.now;
        let given_up = |pull: &Pulling| {
            let patience = if pull.is_assembling() {
                PULL_PATIENCE
            } else {
                let asked = self
                    .peer_of(pull.conn)
                    .map(|node| self.answer_within(&node) * 3);
                let asked = asked.unwrap_or_default();
                asked.clamp(ANSWER_PATIENCE, ANSWER_PATIENCE_MAX)
            };
            now.since(pull.heard_at) >= patience
        };
        let late: Vec<OwnerId> = self
            .replicas
            .iter()
            .filter(|(_, replica)| replica.pull.as_ref().is_some_and(given_up))
            .map(|(owner, _)| owner.clone())
            .collect();
        for owner in late {
            if let Some(replica) = self.replicas.get_mut(&owner) {
                replica.pull = None;
            }
        }
    }

    /// The owner itself is linked now: an unanswered pull from somebody else need not be waited for.
    pub(super) fn drop_detour(&mut self, owner: &OwnerId) {
        if let Some(replica) = self.replicas.get_mut(owner)
            && replica
                .pull
                .as_ref()
                .is_some_and(|pull| !pull.is_assembling())
        {
            replica.pull = None;
        }
    }

    /// A connection is gone: what was pulled over it is dropped.
    pub(super) fn drop_pulls(&mut self, conn: ConnId) {
        for replica in self.replicas.values_mut() {
            if replica
                .pull
                .as_ref()
                .is_some_and(|pull| pull.conn() == conn)
            {
                replica.pull = None;
            }
        }
    }

    /// Answers a pull: the owner from its log if that reaches back, anybody with a snapshot.
    pub(super) fn pulled(&mut self, conn: ConnId, pull: Pull) {
        if pull.owner == self.me {
            let mut from = pull.have;
            while let Some((ops, to)) = self.log.after(from, DELTA_BYTES) {
                let Some(link) = self.conns.get_mut(&conn).filter(|_| to > from) else {
                    return;
                };
                if link.unsent(Lane::Presence) > PRESENCE_UNSENT_MAX {
                    // A digest follows when there is room, and with it the next pull.
                    link.behind = true;
                    return;
                }
                let frame = Frame::Delta(Delta {
                    owner: self.me.clone(),
                    from,
                    to,
                    ops,
                });
                self.send(conn, Lane::Presence, &frame);
                from = to;
            }
            let (at, ops) = (self.log.seq(), self.own.to_ops());
            self.serve(conn, pull.owner, at, ops);
        } else if let Some(replica) = self.replicas.get(&pull.owner)
            && replica.applied > pull.have
            && !replica.superseded
            && self.holds(Rule::AnyNodeServes)
        {
            let (at, ops) = (replica.applied, replica.table.to_ops());
            self.serve(conn, pull.owner, at, ops);
        }
    }

    fn serve(&mut self, conn: ConnId, owner: OwnerId, at: u64, ops: Vec<Op>) {
        let part_bytes = self.config.snapshot_part_bytes;
        let Some(link) = self.conns.get_mut(&conn) else {
            return;
        };
        let version = link.version;
        let serving = &mut link.serving;
        if serving.bytes > PREPARED_MAX || serving.parts.iter().any(|(other, _)| *other == owner) {
            return;
        }
        let mut groups: Vec<Vec<Op>> = vec![Vec::new()];
        let mut bytes = 0;
        for op in ops {
            let size = op.size_hint();
            if bytes > 0 && bytes + size > part_bytes {
                groups.push(Vec::new());
                bytes = 0;
            }
            bytes += size;
            if let Some(group) = groups.last_mut() {
                group.push(op);
            }
        }
        let parts = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        for (part, entries) in (0..).zip(groups) {
            let frame = Frame::Snapshot(Snapshot {
                owner: owner.clone(),
                at,
                part,
                parts,
                entries,
            })
            .encode(version);
            serving.bytes += frame.len();
            serving.parts.push_back((owner.clone(), frame));
        }
        self.counters.snapshots_sent_total += 1;
        self.pump_bulk(conn);
    }

    /// Hands prepared parts to the transport as it takes them.
    pub(super) fn pump_bulk(&mut self, conn: ConnId) {
        while let Some(link) = self.conns.get_mut(&conn) {
            if link.unsent(Lane::Bulk) > BULK_UNSENT_MAX {
                return;
            }
            let Some((_, part)) = link.serving.parts.pop_front() else {
                return;
            };
            link.serving.bytes -= part.len();
            self.send_bytes(conn, Lane::Bulk, part);
        }
    }

    /// A part of a snapshot that was asked for; others are ignored.
    pub(super) fn snapshot_part(&mut self, conn: ConnId, part: Snapshot) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&part.owner) else {
            return;
        };
        let applied = replica.applied;
        let Some(pull) = replica.pull.as_mut().filter(|pull| pull.conn == conn) else {
            return;
        };
        pull.heard_at = now;
        if part.at <= applied {
            replica.pull = None;
            return;
        }
        if part.parts > PARTS_MAX {
            return self.misbehaved(conn, CloseCode::Limit, "too many snapshot parts".to_owned());
        }
        if part.part == 0 {
            pull.assembly = Some(Assembly {
                at: part.at,
                parts: part.parts,
                next: 0,
                entries: Vec::new(),
            });
        }
        let Some(assembly) = pull.assembly.as_mut() else {
            return;
        };
        if part.part != assembly.next || part.at != assembly.at || part.parts != assembly.parts {
            replica.pull = None;
            return;
        }
        assembly.next += 1;
        assembly.entries.extend(part.entries);
        // Rows, rooms and what the node says of itself.
        if assembly.entries.len() > ROWS_PER_OWNER_MAX + ROOMS_PER_OWNER_MAX + 1 {
            let reason = "a snapshot with more entries than an owner may have".to_owned();
            return self.misbehaved(conn, CloseCode::Limit, reason);
        }
        if assembly.next == assembly.parts
            && let Some(assembly) = replica.pull.take().and_then(|pull| pull.assembly)
        {
            self.swap_in(conn, &part.owner, assembly);
        }
    }

    /// Replaces an owner's table: what the snapshot does not have is gone.
    fn swap_in(&mut self, conn: ConnId, owner: &OwnerId, assembly: Assembly) {
        let swaps = self.holds(Rule::SnapshotSwaps);
        let Some(replica) = self.replicas.get_mut(owner) else {
            return;
        };
        let mut table = if swaps {
            Table::default()
        } else {
            replica.table.clone()
        };
        for op in assembly.entries {
            if table.apply(op).is_err() {
                let reason = "more rows or rooms than an owner may have".to_owned();
                return self.misbehaved(conn, CloseCode::Limit, reason);
            }
        }
        let old = std::mem::replace(&mut replica.table, table);
        replica.applied = assembly.at;
        let mut members: BTreeSet<MemberId> = old.members.keys().copied().collect();
        members.extend(replica.table.members.keys().copied());
        members.retain(|member| old.members.get(member) != replica.table.members.get(member));
        let begun: Vec<RoomName> = replica
            .table
            .rooms
            .difference(&old.rooms)
            .cloned()
            .collect();
        let ended: Vec<RoomName> = old
            .rooms
            .difference(&replica.table.rooms)
            .cloned()
            .collect();
        self.counters.snapshots_applied_total += 1;
        for room in begun {
            self.watched(&owner.node, &room);
        }
        for room in ended {
            self.unwatched(&owner.node, &room);
        }
        for member in members {
            self.touched(owner, member, LeaveReason::Closed);
        }
        self.apply_buffered(conn, owner);
    }
}
