//! Replicas: what is known here of other owners' logs, whether to show it, and for how long.

use std::collections::BTreeMap;

use super::super::event::{CloseCode, Event, Lane, LeaveReason};
use super::super::identity::{ConnId, MemberId, NodeName, RoomName, Time};
use super::super::rule::Rule;
use super::super::table::{Entry, Table, Touched};
use super::super::wire::{Bye, Delta, OwnerId};
use super::snapshot::Pulling;
use super::{Core, PURGE_AFTER};

/// Other nodes this node keeps in mind at most: a peer cannot make it invent more.
pub(super) const NODES_MAX: usize = 1_000;
/// Deltas that wait for an earlier one or for a snapshot, per owner.
const BUFFERED_MAX: usize = 1_024;
/// SWIM's "down" is believed once nobody has seen a heartbeat for this long.
const SWIM_DOWN_AFTER_MS: u64 = 2_000;

/// What is known of one owner.
#[derive(Debug)]
pub(super) struct Replica {
    /// When this life was first heard of.
    pub(super) known_since: Time,
    pub(super) table: Table,
    pub(super) applied: u64,
    /// How many operations it said that it has, itself.
    pub(super) announced: u64,
    pub(super) heartbeat: u64,
    /// When its last new heartbeat was fresh, by this node's clock.
    pub(super) evidence_at: Option<Time>,
    /// The same without what was forgiven after a pause of this process: what others are told.
    pub(super) heard_at: Option<Time>,
    pub(super) visible: bool,
    pub(super) hidden_at: Time,
    pub(super) hidden_because: &'static str,
    /// A newer life of the node is known.
    pub(super) superseded: bool,
    /// It said Bye and its rows stay until then.
    lingers_until: Option<Time>,
    /// It left on purpose.
    departed: bool,
    pub(super) swim_down: bool,
    pub(super) pull: Option<Pulling>,
    buffered: Vec<Delta>,
    /// The last cursor delivered of each member.
    pub(super) seen: BTreeMap<MemberId, (u32, u32)>,
}

impl Core {
    pub(super) fn is_visible(&self, owner: &OwnerId) -> bool {
        *owner == self.me
            || self
                .replicas
                .get(owner)
                .is_some_and(|replica| replica.visible)
    }

    /// The current life of another node.
    pub(super) fn current(&self, node: &NodeName) -> Option<OwnerId> {
        let boot = *self.boots.get(node)?;
        Some(OwnerId {
            node: node.clone(),
            boot,
        })
    }

    /// Makes sure there is a replica of this owner; false if the owner is stale or not to be had.
    pub(super) fn adopt(&mut self, owner: &OwnerId) -> bool {
        if owner.node == self.me.node {
            return false;
        }
        match self.boots.get(&owner.node).copied() {
            Some(known) if owner.boot < known => {
                return !self.holds(Rule::StaleBootIsDropped) && self.replicas.contains_key(owner);
            }
            Some(known) if owner.boot == known && self.replicas.contains_key(owner) => return true,
            None if self.boots.len() >= NODES_MAX => return false,
            Some(known) if owner.boot > known => {
                self.boots.insert(owner.node.clone(), owner.boot);
                self.doubt_addresses(&owner.node);
                self.supersede(OwnerId {
                    node: owner.node.clone(),
                    boot: known,
                });
            }
            _ => {
                self.boots.insert(owner.node.clone(), owner.boot);
            }
        }
        self.replicas.insert(
            owner.clone(),
            Replica {
                known_since: self.now,
                table: Table::default(),
                applied: 0,
                announced: 0,
                heartbeat: 0,
                evidence_at: None,
                heard_at: None,
                visible: false,
                hidden_at: self.now,
                hidden_because: "no evidence of life yet",
                superseded: false,
                lingers_until: None,
                departed: false,
                swim_down: false,
                pull: None,
                buffered: Vec::new(),
                seen: BTreeMap::new(),
            },
        );
        true
    }

    /// A newer life of the node is known: what the old one had is over, but members that can be
    /// resumed are shown until the evidence runs out, so that a quick resume is no leave.
    fn supersede(&mut self, old: OwnerId) {
        if !self.holds(Rule::NewBootSupersedes) {
            return;
        }
        let node = old.node.clone();
        let older: Vec<OwnerId> = self
            .replicas
            .iter()
            .filter(|(owner, replica)| owner.node == node && replica.superseded)
            .map(|(owner, _)| owner.clone())
            .collect();
        for owner in older {
            self.drop_replica(&owner, LeaveReason::NodeLost);
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.sent.clear();
            peer.pushed = 0;
        }
        self.forget_origin(&old);
        let Some(replica) = self.replicas.get_mut(&old) else {
            return;
        };
        replica.superseded = true;
        replica.pull = None;
        replica.buffered.clear();
        let rooms = std::mem::take(&mut replica.table.rooms);
        let over: Vec<MemberId> = replica
            .table
            .members
            .iter()
            .filter(|(_, entry)| !matches!(entry, Entry::Present(row) if row.resumable))
            .map(|(member, _)| *member)
            .collect();
        for member in &over {
            let leave = super::super::wire::Op::Leave {
                member: *member,
                reason: LeaveReason::NodeLost,
                after: 0,
            };
            // Taking something out of a table never exceeds a limit.
            let _ = replica.table.apply(leave);
        }
        for room in rooms {
            self.unwatched(&node, &room);
        }
        for member in over {
            self.fold.note(member, &old, false);
            self.refold(member, LeaveReason::NodeLost);
        }
    }

    /// Forgets an owner and everything it said.
    fn drop_replica(&mut self, owner: &OwnerId, reason: LeaveReason) {
        let Some(replica) = self.replicas.remove(owner) else {
            return;
        };
        if !replica.superseded {
            for room in &replica.table.rooms {
                self.unwatched(&owner.node, room);
            }
        }
        for member in replica.table.members.keys() {
            self.fold.note(*member, owner, false);
        }
        for member in replica.table.members.keys() {
            self.refold(*member, reason);
        }
        self.forget_origin(owner);
        self.forget_held(owner);
    }

    /// Evidence that an owner is alive: a heartbeat that is new here, and how old it is. What is
    /// heard of an owner for the first time from somebody else is noted, but proves nothing.
    pub(super) fn observe(
        &mut self,
        from: &NodeName,
        owner: &OwnerId,
        heartbeat: u64,
        age_ms: u32,
    ) {
        if owner.node == self.me.node {
            if owner.boot > self.me.boot {
                self.raise_boot(owner.boot);
            }
            return;
        }
        let first = !self.replicas.contains_key(owner);
        if !self.adopt(owner) {
            return;
        }
        let direct = *from == owner.node;
        let counts = !first || direct || !self.holds(Rule::FirstSightingIsNoEvidence);
        let carries_age = self.holds(Rule::EvidenceCarriesAge);
        let now = self.now;
        let arrived = self.arrived_since();
        let Some(replica) = self.replicas.get_mut(owner) else {
            return;
        };
        if heartbeat <= replica.heartbeat {
            return;
        }
        replica.heartbeat = heartbeat;
        if counts && !replica.superseded {
            let age = std::time::Duration::from_millis(if carries_age { age_ms.into() } else { 0 });
            // Evidence from before this node's clock began cannot be dated; the next one can.
            let dated = |from: Time| (age <= from.since(Time::default())).then(|| from.before(age));
            replica.evidence_at = replica.evidence_at.max(dated(now));
            replica.heard_at = replica.heard_at.max(dated(arrived));
        }
    }

    /// Direct contact is evidence without a heartbeat.
    pub(super) fn touch(&mut self, owner: &OwnerId) {
        let now = self.now;
        let arrived = self.arrived_since();
        if let Some(replica) = self.replicas.get_mut(owner) {
            replica.evidence_at = Some(now);
            replica.heard_at = replica.heard_at.max(Some(arrived));
            replica.swim_down = false;
            replica.departed = false;
            replica.lingers_until = None;
        }
    }

    pub(super) fn forgive_evidence(&mut self, late: std::time::Duration) {
        let now = self.now;
        for replica in self.replicas.values_mut() {
            if let Some(at) = replica.evidence_at {
                replica.evidence_at = Some(at.after(late).min(now));
            }
        }
    }

    /// Shows and hides owners as their links and evidence say.
    pub(super) fn check_visibility(&mut self) {
        let through_others = self.holds(Rule::EvidenceThroughOthers);
        let hides = self.holds(Rule::SilentOwnerIsHidden);
        let purge_after = match (
            self.holds(Rule::HiddenRowsAreKept),
            self.holds(Rule::OldIsPurged),
        ) {
            (false, _) => std::time::Duration::ZERO,
            (_, false) => std::time::Duration::MAX,
            _ => PURGE_AFTER,
        };
        let now = self.now;
        let mut changed = Vec::new();
        let mut over = Vec::new();
        for (owner, replica) in &self.replicas {
            let linked = self
                .link_to(&owner.node)
                .is_some_and(|(_, link)| link.boot() == owner.boot);
            let age = replica.evidence_at.map(|at| now.since(at));
            let evidence_max = self.evidence_max_of(&owner.node);
            let fresh = age.is_some_and(|age| age < evidence_max) && through_others;
            let swim_down = replica.swim_down
                && age.is_none_or(|age| age.as_millis() >= u128::from(SWIM_DOWN_AFTER_MS));
            let lingers = replica.lingers_until.is_some_and(|until| now < until);
            let (visible, because) = if replica.departed || replica.lingers_until.is_some() {
                (lingers, "it left")
            } else if replica.superseded {
                (fresh, "it restarted")
            } else if linked {
                (true, "")
            } else if swim_down {
                (false, "no link, and SWIM holds it for down")
            } else {
                (fresh, "no link, and no heartbeat through others")
            };
            let visible = visible || (!hides && replica.visible);
            if visible != replica.visible {
                changed.push((owner.clone(), visible, because));
            }
            // One that left stays in mind, so that what others still say of it is no news.
            let purge = !replica.visible && now.since(replica.hidden_at) >= purge_after;
            if !visible && !linked && (replica.superseded || purge) {
                over.push(owner.clone());
            }
        }
        for (owner, visible, because) in changed {
            self.set_visible(&owner, visible, because);
        }
        for owner in over {
            let reason = self.lost_because(&owner);
            self.drop_replica(&owner, reason);
            if self.current(&owner.node).as_ref() == Some(&owner) {
                self.forget_node(&owner.node);
            }
        }
    }

    fn set_visible(&mut self, owner: &OwnerId, visible: bool, because: &'static str) {
        let now = self.now;
        if !visible {
            self.release_early_with(owner);
        }
        let reason = self.lost_because(owner);
        let Some(replica) = self.replicas.get_mut(owner) else {
            return;
        };
        replica.visible = visible;
        replica.hidden_because = because;
        if !visible {
            replica.hidden_at = now;
        }
        let members: Vec<MemberId> = replica.table.members.keys().copied().collect();
        self.emit(Event::Visibility {
            node: owner.node.clone(),
            boot: owner.boot,
            visible,
        });
        for member in members {
            // Who waited for its last messages has left for a reason of its own.
            let said = self.late.reason(member, owner);
            self.refold(member, said.unwrap_or(reason));
        }
    }

    /// What clients are told when this owner's members go.
    fn lost_because(&self, owner: &OwnerId) -> LeaveReason {
        match self.replicas.get(owner) {
            // Of one whose last operations are missing here nobody can say what became of its members.
            Some(replica) if replica.applied < replica.announced => LeaveReason::NodeLost,
            Some(replica) if replica.lingers_until.is_some() => LeaveReason::TimedOut,
            Some(replica) if replica.departed => LeaveReason::Closed,
            _ => LeaveReason::NodeLost,
        }
    }

    /// The peer leaves on purpose. It says so last of all on the presence and on the message lane,
    /// and has left when both were heard: neither overtakes what its members said last.
    pub(super) fn bye(&mut self, conn: ConnId, lane: Lane, bye: &Bye) {
        let Some(node) = self.peer_of(conn) else {
            return;
        };
        if let Some(link) = self.conns.get_mut(&conn) {
            link.byes[lane as usize] = true;
            let both = link.byes[Lane::Presence as usize] && link.byes[Lane::Messages as usize];
            let region = link.hello.as_ref().map(|hello| hello.region.clone());
            // It passes nothing on any more.
            if let Some(region) = region {
                self.gateway_lost(&node, &region);
            }
            if !both && self.holds(Rule::LeaveFollowsMessages) {
                return;
            }
        }
        let owner = OwnerId {
            node,
            boot: bye.boot,
        };
        let until = self
            .now
            .after(std::time::Duration::from_millis(bye.linger_ms.into()));
        self.finish_origin(&owner);
        let lingers = self.holds(Rule::ByeLingers);
        if let Some(replica) = self.replicas.get_mut(&owner) {
            if bye.linger_ms == 0 || !lingers {
                replica.departed = true;
            } else {
                replica.lingers_until = Some(until);
            }
        }
        self.check_visibility();
    }

    /// A delta, from its owner directly or through a relay.
    pub(super) fn delta(&mut self, conn: ConnId, origin: Option<&OwnerId>, delta: Delta) {
        let Some(peer) = self.peer_of(conn) else {
            return;
        };
        if delta.owner.node != *origin.map_or(&peer, |origin| &origin.node) {
            if origin.is_some() {
                // The relay only carried it.
                self.counters.relay_dropped_total += 1;
                return;
            }
            let reason = format!("a delta of {} from {peer}", delta.owner.node);
            return self.misbehaved(conn, CloseCode::Name, reason);
        }
        if !self.adopt(&delta.owner) {
            if origin.is_some() {
                self.tell_newer_life(conn, &delta.owner.node);
            }
            return;
        }
        let gap_is_pulled = self.holds(Rule::GapIsPulled);
        let ignores_duplicates = self.holds(Rule::DuplicateIsIgnored);
        let Some(replica) = self.replicas.get_mut(&delta.owner) else {
            return;
        };
        if delta.to <= replica.applied && ignores_duplicates {
            return;
        }
        let assembling = replica.pull.as_ref().is_some_and(Pulling::is_assembling);
        let gap = delta.from > replica.applied && gap_is_pulled;
        if gap || assembling {
            // Over the bound the oldest go: the pull or the next one brings them again.
            if replica.buffered.len() >= BUFFERED_MAX {
                replica.buffered.remove(0);
            }
            let (owner, goal) = (delta.owner.clone(), delta.from);
            replica.buffered.push(delta);
            if gap {
                self.counters.delta_gaps_total += 1;
                self.pull(&owner, conn, goal);
            }
            return;
        }
        let owner = delta.owner.clone();
        let (to, now) = (delta.to, self.now);
        if replica
            .pull
            .as_mut()
            .is_some_and(|pull| pull.reached(to, now))
        {
            replica.pull = None;
        }
        self.apply(conn, delta);
        self.apply_buffered(conn, &owner);
    }

    /// Applies what had to wait and now follows.
    pub(super) fn apply_buffered(&mut self, conn: ConnId, owner: &OwnerId) {
        loop {
            let Some(replica) = self.replicas.get_mut(owner) else {
                return;
            };
            let applied = replica.applied;
            replica.buffered.retain(|delta| delta.to > applied);
            let next = replica
                .buffered
                .iter()
                .position(|delta| delta.from <= applied);
            match next {
                Some(index) => {
                    let delta = replica.buffered.swap_remove(index);
                    self.apply(conn, delta);
                }
                None if replica.pull.is_some() => return,
                None => {
                    let Some(goal) = replica.buffered.iter().map(|delta| delta.from).min() else {
                        return;
                    };
                    return self.pull(owner, conn, goal);
                }
            }
        }
    }

    fn apply(&mut self, conn: ConnId, delta: Delta) {
        let Delta {
            owner,
            from,
            to,
            ops,
        } = delta;
        self.counters.deltas_applied_total += 1;
        let Some(replica) = self.replicas.get_mut(&owner) else {
            return;
        };
        let known = usize::try_from(replica.applied.saturating_sub(from)).unwrap_or(usize::MAX);
        let skip = if self.config.rules.hold(Rule::DuplicateIsIgnored) {
            known
        } else {
            0
        };
        replica.applied = to;
        // Members are looked at once all operations are applied: a node that reads a log from its
        // beginning must not show its clients the past.
        let mut members: BTreeMap<MemberId, LeaveReason> = BTreeMap::new();
        let mut too_many = false;
        for op in ops.into_iter().skip(skip) {
            let early = self.is_ahead_of_messages(&owner, &op);
            let Some(replica) = self.replicas.get_mut(&owner) else {
                return;
            };
            match replica.table.apply(op) {
                Ok(Touched::Member(member, reason)) if early.is_some() => {
                    members.remove(&member);
                    self.postpone(member, &owner, early, reason.unwrap_or(LeaveReason::Closed));
                }
                Ok(Touched::Member(member, reason)) => {
                    members.insert(member, reason.unwrap_or(LeaveReason::Closed));
                }
                Ok(Touched::Room(room, true)) => self.watched(&owner.node, &room),
                Ok(Touched::Room(room, false)) => self.unwatched(&owner.node, &room),
                Ok(Touched::Nothing) => {}
                Err(_) => {
                    too_many = true;
                    break;
                }
            }
        }
        for (member, reason) in members {
            self.touched(&owner, member, reason);
        }
        if too_many {
            // Half a table must not pass for a whole one, neither here nor with others.
            self.drop_replica(&owner, LeaveReason::NodeLost);
            if self.peer_of(conn).as_ref() == Some(&owner.node) {
                let reason = "more rows or rooms than an owner may have".to_owned();
                self.misbehaved(conn, CloseCode::Limit, reason);
            }
        }
    }

    /// Something an owner says of a member changed.
    pub(super) fn touched(&mut self, owner: &OwnerId, member: MemberId, reason: LeaveReason) {
        self.late.remove(member, owner);
        self.note_entry(owner, member);
        self.refold(member, reason);
    }

    /// Brings the fold's index up to what the owner's table has of a member.
    pub(super) fn note_entry(&mut self, owner: &OwnerId, member: MemberId) {
        let has = self.replicas.get_mut(owner).is_some_and(|replica| {
            if replica.table.row(member).is_none() {
                replica.seen.remove(&member);
            }
            replica.table.members.contains_key(&member)
        });
        self.fold.note(member, owner, has);
    }

    /// A node has its first connection in a room: tell it where things are.
    pub(super) fn watched(&mut self, node: &NodeName, room: &RoomName) {
        let nodes = self.watchers.entry(room.clone()).or_default();
        let is_first = nodes.is_empty();
        nodes.insert(node.clone());
        if is_first {
            self.emit(Event::Watched {
                room: room.clone(),
                watched: true,
            });
        }
        self.send_head(node, room);
        if self.holds(Rule::CurrentCursorsAreSent) {
            self.send_current_cursors(node, room);
        }
    }

    pub(super) fn unwatched(&mut self, node: &NodeName, room: &RoomName) {
        if let Some(nodes) = self.watchers.get_mut(room) {
            nodes.remove(node);
            if nodes.is_empty() {
                self.watchers.remove(room);
                self.emit(Event::Watched {
                    room: room.clone(),
                    watched: false,
                });
            }
        }
        if let Some(peer) = self.peers.get_mut(node) {
            peer.sent.remove(room);
        }
    }
}
