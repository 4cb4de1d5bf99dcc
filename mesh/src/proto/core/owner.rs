//! This node's own log: joins, updates, leaves, moves, interest, and pushing them to peers.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;

use super::super::event::{CloseCode, Event, Lane, LeaveReason, Row, User};
use super::super::identity::{ConnId, MemberId, NodeName, RoomName, Time};
use super::super::rule::Rule;
use super::super::table::{Entry, Touched};
use super::super::wire::{Bye, Delta, Frame, Op, OwnerId, STATE_BYTES_MAX, USER_BYTES_MAX};
use super::{Core, PURGE_AFTER, links};

/// At most one push to a peer in half its round trip, within these bounds; the first change after a
/// pause leaves at once. A near peer has it within a tick of the web edge, where packets cost little; to
/// a far one more goes into each.
const PUSH_EVERY_MIN: Duration = Duration::from_millis(16);
const PUSH_EVERY: Duration = Duration::from_millis(50);
/// Bytes of operations in one delta: well below a frame.
pub(super) const DELTA_BYTES: usize = 48 * 1024;
/// Unsent presence bytes to a peer beyond which pushing stops and the digest repairs.
pub(super) const PRESENCE_UNSENT_MAX: usize = 1024 * 1024;
/// A boot that has to be raised twice within this time was not a clock's doing.
const RAISED_AGAIN: Duration = Duration::from_secs(30);
/// Links are told anew when a round trip changed by a fifth, at most this often.
const ABOUT_EVERY: Duration = Duration::from_secs(2);

/// By how much, in milliseconds, two boots raised above the same one differ at most.
const RAISED_APART: u64 = 65_536;

impl Core {
    pub(super) fn join(&mut self, mut row: Row) {
        if row.state.len() > STATE_BYTES_MAX
            || row.user.id.len() > USER_BYTES_MAX
            || row.user.name.len() > USER_BYTES_MAX
        {
            return;
        }
        let member = row.member;
        if self.holds(Rule::EpochRises) {
            row.epoch = row.epoch.max(self.highest_epoch(member)).saturating_add(1);
        } else {
            row.epoch += 1;
        }
        self.handle_last = self.handle_last.wrapping_add(1);
        row.handle = self.handle_last;
        row.away = false;
        self.grace.remove(&member);
        self.retired.retain(|(_, retired)| *retired != member);
        self.write(Op::Put(row));
    }

    pub(super) fn update(
        &mut self,
        member: MemberId,
        user: Option<User>,
        state: Option<Bytes>,
        away: Option<bool>,
    ) {
        let Some(row) = self.own.row(member) else {
            return;
        };
        let mut changed = row.clone();
        changed.user = user.unwrap_or(changed.user);
        changed.state = state.unwrap_or(changed.state);
        changed.away = away.unwrap_or(changed.away);
        let fits = changed.state.len() <= STATE_BYTES_MAX
            && changed.user.id.len() <= USER_BYTES_MAX
            && changed.user.name.len() <= USER_BYTES_MAX;
        if changed != *row && fits {
            if !changed.away {
                self.grace.remove(&member);
            }
            self.write(Op::Put(changed));
        }
    }

    /// A connection broke without a word: its row stays, away, until the grace period ends.
    pub(super) fn break_off(&mut self, member: MemberId) {
        match self.own.row(member) {
            Some(row) if row.resumable && self.holds(Rule::BrokenIsAway) => {
                self.grace.insert(member, self.now.after(self.config.grace));
                self.update(member, None, None, Some(true));
            }
            Some(_) => self.leave_member(member, LeaveReason::Closed),
            None => {}
        }
    }

    pub(super) fn leave_member(&mut self, member: MemberId, reason: LeaveReason) {
        let Some(row) = self.own.row(member) else {
            return;
        };
        self.grace.remove(&member);
        // A first epoch was never anywhere else, so nothing older can come back and nothing has to
        // be remembered.
        let after = self.own_head(&row.room);
        let op = if row.epoch > 1 && self.holds(Rule::GoneStays) {
            let (room, epoch) = (row.room.clone(), row.epoch);
            self.retired.push_back((self.now, member));
            Op::Gone {
                member,
                room,
                epoch,
                reason,
                after,
            }
        } else {
            Op::Leave {
                member,
                reason,
                after,
            }
        };
        self.cursors.forget(member);
        self.write(op);
    }

    /// Another node has the member now; the row becomes a pointer to it.
    pub(super) fn withdraw(&mut self, member: MemberId, room: RoomName, epoch: u32, to: NodeName) {
        self.grace.remove(&member);
        self.retired.push_back((self.now, member));
        self.cursors.forget(member);
        self.append(Op::Moved {
            member,
            room,
            epoch,
            to,
        });
    }

    pub(super) fn interest(&mut self, room: RoomName, wanted: bool) {
        if self.own.rooms.contains(&room) == wanted {
            return;
        }
        if wanted {
            self.write(Op::Watch(room.clone()));
            if self.own.rooms.contains(&room) {
                self.begin_incoming(&room, self.log.seq());
            }
        } else {
            self.forget_incoming(&room);
            self.forget_seen_in(&room);
            self.write(Op::Unwatch(room));
        }
    }

    /// Ends grace periods and drops tombstones that are old enough.
    pub(super) fn check_grace(&mut self) {
        if self.holds(Rule::GraceEnds) {
            let due: Vec<MemberId> = self
                .grace
                .iter()
                .filter(|(_, until)| self.now >= **until)
                .map(|(member, _)| *member)
                .collect();
            for member in due {
                self.leave_member(member, LeaveReason::TimedOut);
            }
        }
        while let Some((since, member)) = self.retired.front().copied() {
            if self.now.since(since) < PURGE_AFTER || !self.holds(Rule::OldIsPurged) {
                break;
            }
            self.retired.pop_front();
            if !matches!(
                self.own.members.get(&member),
                Some(Entry::Present(_)) | None
            ) {
                self.write(Op::Leave {
                    member,
                    reason: LeaveReason::Closed,
                    after: 0,
                });
            }
        }
    }

    /// Says goodbye to everybody. With a linger, resumable rows are marked away first.
    pub(super) fn leave(&mut self, linger: Duration) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        if !linger.is_zero() {
            let there: Vec<MemberId> = self.own.members.keys().copied().collect();
            for member in there {
                self.update(member, None, None, Some(true));
            }
        }
        self.unshare();
        let bye = Frame::Bye(Bye {
            boot: self.me.boot,
            linger_ms: u32::try_from(linger.as_millis()).unwrap_or(u32::MAX),
        });
        let conns: Vec<ConnId> = self.up_conns();
        for conn in conns {
            self.send(conn, Lane::Presence, &bye);
            self.flush_messages(conn);
            self.send(conn, Lane::Messages, &bye);
        }
        self.leave_swim();
    }

    /// Writes an operation to the own log and folds what it touched.
    fn write(&mut self, op: Op) {
        if let Some((member, reason)) = self.append(op) {
            self.refold(member, reason);
        }
    }

    fn append(&mut self, op: Op) -> Option<(MemberId, LeaveReason)> {
        // Over its own limit a node stops taking members; the row is simply not there.
        let touched = self.own.apply(op.clone()).ok()?;
        self.log.push(self.now, op);
        match touched {
            Touched::Member(member, reason) => {
                let has = self.own.members.contains_key(&member);
                self.fold.note(member, &self.me, has);
                Some((member, reason.unwrap_or(LeaveReason::Closed)))
            }
            Touched::Room(..) | Touched::Nothing => None,
        }
    }

    /// When the next push is due, if there is something to push.
    pub(super) fn push_due(&self) -> Option<Time> {
        let seq = self.log.seq();
        if self.log_pushed >= seq {
            return None;
        }
        let relayed = (self.relays_told < seq).then(|| self.pushed_at.after(PUSH_EVERY));
        let links = self
            .conns
            .values()
            .filter(|link| link.up && link.told < seq);
        let links = links.map(|link| link.told_at.after(push_every(link.rtt)));
        Some(links.chain(relayed).min().unwrap_or(self.now))
    }

    /// Pushes to whom it is due, or to everybody.
    pub(super) fn push_deltas(&mut self, to_all: bool) {
        let (now, seq) = (self.now, self.log.seq());
        let due = self.due_for_push(to_all);
        for conn in &due {
            if let Some(link) = self.conns.get_mut(conn) {
                (link.told, link.told_at) = (seq, now);
            }
        }
        // Last words go to each alone: nobody passes them on in time.
        if !self.leaving {
            self.share_deltas(&due);
        }
        for conn in due {
            self.push_to(conn);
        }
        if to_all || now >= self.pushed_at.after(PUSH_EVERY) {
            (self.relays_told, self.pushed_at) = (seq, now);
            self.push_through_relays();
        }
        let is_told = |conn: &ConnId| self.conns.get(conn).is_none_or(|link| link.told >= seq);
        if self.relays_told >= seq && self.up_conns().iter().all(is_told) {
            self.log_pushed = seq;
        }
    }

    /// The links that have not been told of all of the log, and are to be now. When one to another region
    /// is due, so are its neighbours': they can share what is sent.
    fn due_for_push(&self, to_all: bool) -> Vec<ConnId> {
        let (now, seq) = (self.now, self.log.seq());
        let behind: Vec<(ConnId, &links::Conn)> = self
            .up_conns()
            .into_iter()
            .filter_map(|conn| Some((conn, self.conns.get(&conn)?)))
            .filter(|(_, link)| link.told < seq)
            .collect();
        let is_due = |link: &links::Conn| to_all || now >= link.told_at.after(push_every(link.rtt));
        let far = |link: &links::Conn| {
            let region = link.hello.as_ref().map(|hello| hello.region.clone());
            region.filter(|region| *region != self.config.region)
        };
        let links = behind.iter().map(|(_, link)| *link);
        let regions: BTreeSet<String> = links.filter(|link| is_due(link)).filter_map(far).collect();
        behind
            .iter()
            .filter(|(_, link)| is_due(link) || far(link).is_some_and(|far| regions.contains(&far)))
            .map(|(conn, _)| *conn)
            .collect()
    }

    /// Sends one peer what it has not been sent yet.
    pub(super) fn push_to(&mut self, conn: ConnId) {
        let seq = self.log.seq();
        loop {
            let Some(link) = self.conns.get_mut(&conn) else {
                return;
            };
            if link.pushed >= seq {
                return;
            }
            if link.unsent(Lane::Presence) > PRESENCE_UNSENT_MAX {
                link.behind = true;
                self.counters.delta_pushes_skipped_total += 1;
                return;
            }
            let from = link.pushed;
            match self.log.after(from, DELTA_BYTES) {
                Some((ops, to)) => {
                    link.pushed = to;
                    let owner = self.me.clone();
                    let frame = Frame::Delta(Delta {
                        owner,
                        from,
                        to,
                        ops,
                    });
                    self.send(conn, Lane::Presence, &frame);
                }
                // The log no longer reaches back: the digest makes the peer pull.
                None => {
                    link.pushed = seq;
                    link.behind = true;
                    return;
                }
            }
        }
    }

    /// The node's own data as of now.
    pub(super) fn write_about(&mut self) {
        self.about_at = self.now;
        let links = self
            .up_conns()
            .iter()
            .filter_map(|conn| self.conns.get(conn))
            .map(|link| {
                let rtt = u32::try_from(link.rtt.as_micros()).unwrap_or(u32::MAX);
                (link.peer.clone(), rtt)
            })
            .collect();
        self.write(Op::About {
            region: self.config.region.clone(),
            advertise: self.config.advertise,
            links,
        });
    }

    pub(super) fn check_about(&mut self) {
        let links: Vec<(&NodeName, u32)> = self
            .conns
            .values()
            .filter(|link| link.up)
            .map(|link| {
                let rtt = u32::try_from(link.rtt.as_micros()).unwrap_or(u32::MAX);
                (&link.peer, rtt)
            })
            .collect();
        let told = &self.own.links;
        let same_peers =
            links.len() == told.len() && links.iter().all(|(n, _)| told.contains_key(*n));
        let same_rtts = links.iter().all(|(node, rtt)| {
            told.get(*node)
                .is_some_and(|before| rtt.abs_diff(*before) <= (before / 5).max(2_000))
        });
        // Who is linked decides relays, so it is told at once; round trips can wait.
        if !same_peers || (!same_rtts && self.now.since(self.about_at) >= ABOUT_EVERY) {
            self.write_about();
        }
    }

    /// The clock was set back since this node's last life: take a boot above that one.
    pub(super) fn raise_boot(&mut self, known: u64) {
        if known < self.me.boot || !self.holds(Rule::BootIsRaised) {
            return;
        }
        let old = self.me.clone();
        // A clock that was set back is found out once; somebody who answers each raise is alive.
        if self
            .raised_at
            .is_some_and(|at| self.now.since(at) < RAISED_AGAIN)
        {
            self.emit(Event::Refused {
                peer: old.node.clone(),
                code: CloseCode::Name,
                reason: "another process seems to run under this node's name; stop one of them"
                    .to_owned(),
            });
        }
        self.raised_at = Some(self.now);
        // Whoever told may know less than others: an earlier life of this node may have been told the
        // same, and two lives must not have one boot.
        let apart = self.rng.random_range(0..RAISED_APART);
        self.me = OwnerId {
            node: old.node.clone(),
            boot: known.saturating_add(1).saturating_add(apart),
        };
        let members: Vec<MemberId> = self.own.members.keys().copied().collect();
        for member in members {
            self.fold.note(member, &old, false);
            self.fold.note(member, &self.me, true);
            self.refold(member, LeaveReason::Closed);
        }
        self.log.forget();
        self.renew_swim();
        self.close_all("this node took a newer boot");
    }
}

/// How often at most a peer is pushed to. Of one that was not measured yet nothing is known: zero.
fn push_every(round_trip: Duration) -> Duration {
    if round_trip.is_zero() {
        return PUSH_EVERY;
    }
    (round_trip / 2).clamp(PUSH_EVERY_MIN, PUSH_EVERY)
}
