//! The members of a room as v1 clients are told of them: who is here, under which alias, and what
//! changed since the last version.
//!
//! Everything in it comes from what the cluster shows, local members included, so that there is one
//! path for all. A member's JSON is made once, when it changes.
//!
//! Telling everybody of everybody costs as many bytes as the square of the members. So a room tells of
//! its first [`LISTED_MAX`] members as they come, and of a later one when it does something that others
//! see: it moves, says something, or changes its state. Of the rest clients know the number. And changes
//! are told together: at once in a small room, every so often in a larger one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use crate::cluster::{LeaveReason, Member};
use crate::protocol::{self, Changes};

/// An alias stands for nobody else for so long after its member left.
const ALIAS_REST: Duration = Duration::from_secs(30);
/// Members in one page of a snapshot, and changes in one diff.
const PAGE_MEMBERS_MAX: usize = 200;
/// Members of which everybody is told, whatever they do.
const LISTED_MAX: usize = 500;
/// The least time between two diffs, by members of the room.
const DIFF_EVERY: [(usize, Duration); 3] = [
    (100, Duration::ZERO),
    (1000, Duration::from_millis(100)),
    (usize::MAX, Duration::from_millis(500)),
];

/// The members of one room.
#[derive(Debug)]
pub(super) struct Roster {
    room: String,
    version: u64,
    members: BTreeMap<Uuid, Entry>,
    aliases: Aliases,
    changed: BTreeMap<Uuid, Change>,
    /// How many of the members clients are told of, or will be with the next diff.
    listed: usize,
    /// How many clients were told that they are not told of.
    told_unlisted: usize,
    told_at: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    alias: u16,
    json: Bytes,
    /// Clients are told of it, or will be with the next diff.
    listed: bool,
    /// What makes a change one of its node rather than its own.
    circumstances: (u32, bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Joined,
    Updated,
    Left(LeaveReason),
}

/// A diff, ready to be sent, and whom it concerns.
#[derive(Debug)]
pub(super) struct Diff {
    pub(super) text: String,
    pub(super) members: Vec<Uuid>,
}

/// One page of a snapshot.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) text: String,
    /// The last member in it, if more follow.
    pub(super) last: Option<Uuid>,
}

impl Roster {
    /// The members of a room at this moment, as its first version.
    pub(super) fn new(room: String, members: Vec<Member>) -> Self {
        let mut roster = Self {
            room,
            version: 1,
            members: BTreeMap::new(),
            aliases: Aliases::default(),
            changed: BTreeMap::new(),
            listed: 0,
            told_unlisted: 0,
            told_at: None,
        };
        let now = Instant::now();
        for member in members {
            roster.put(&member, now);
        }
        roster.changed.clear();
        roster.told_unlisted = roster.unlisted();
        roster
    }

    /// How many are here.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The version of the last diff.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What stands for a member in cursor frames; `None` if clients are not told of it (yet), or if all
    /// aliases are in use.
    pub(super) fn alias(&self, member: Uuid) -> Option<u16> {
        self.members
            .get(&member)
            .filter(|entry| entry.listed && entry.alias != NO_ALIAS)
            .map(|entry| entry.alias)
            .filter(|_| !self.is_pending(member))
    }

    /// Whether clients are told of a member with the next diff, and not before.
    pub(super) fn is_pending(&self, member: Uuid) -> bool {
        !self.changed.is_empty() && self.changed.get(&member) == Some(&Change::Joined)
    }

    /// A member does something that others see: clients are to be told of it if they were not.
    pub(super) fn list(&mut self, member: Uuid) {
        if self.listed == self.members.len() {
            return;
        }
        if let Some(entry) = self.members.get_mut(&member)
            && !entry.listed
        {
            entry.listed = true;
            self.listed += 1;
            self.changed.insert(member, Change::Joined);
        }
    }

    /// When the next diff may be; `None` if nothing changed.
    pub(super) fn diff_due(&self, now: Instant) -> Option<Instant> {
        if self.changed.is_empty() && self.unlisted() == self.told_unlisted {
            return None;
        }
        let every = DIFF_EVERY
            .iter()
            .find(|(most, _)| self.members.len() <= *most)
            .map_or(Duration::ZERO, |(_, every)| *every);
        // After a quiet time it may be at once.
        Some(self.told_at.map_or(now, |told_at| told_at + every))
    }

    /// How many members clients are not told of.
    pub(super) fn unlisted(&self) -> usize {
        self.members.len() - self.listed
    }

    /// A member's JSON.
    pub(super) fn json(&self, member: Uuid) -> Option<Bytes> {
        self.members.get(&member).map(|entry| entry.json.clone())
    }

    /// Whether a member left since the last version: it cannot be told of anew before that is.
    pub(super) fn has_left(&self, member: Uuid) -> bool {
        matches!(self.changed.get(&member), Some(Change::Left(_)))
    }

    /// A member is shown, for the first time or changed.
    pub(super) fn put(&mut self, member: &Member, now: Instant) {
        let known = self.members.get(&member.id);
        let alias = known.map_or_else(|| self.aliases.take(now), |entry| entry.alias);
        let circumstances = (member.epoch, member.away);
        let was_listed = known.is_some_and(|entry| entry.listed);
        // Also a later one, if it changed by its own doing.
        let lists = was_listed
            || known.map_or(self.listed < LISTED_MAX, |entry| {
                entry.circumstances == circumstances
            });
        let entry = Entry {
            alias,
            json: to_json(member, alias),
            listed: lists,
            circumstances,
        };
        self.members.insert(member.id, entry);
        if !lists {
            return;
        }
        self.listed += usize::from(!was_listed);
        let change = if was_listed && !self.is_pending(member.id) {
            Change::Updated
        } else {
            Change::Joined
        };
        self.changed.insert(member.id, change);
    }

    /// A member is gone.
    pub(super) fn remove(&mut self, member: Uuid, reason: LeaveReason, now: Instant) {
        let Some(entry) = self.members.remove(&member) else {
            return;
        };
        self.aliases.free(entry.alias, now);
        if !entry.listed {
            return;
        }
        self.listed -= 1;
        if self.changed.get(&member) == Some(&Change::Joined) {
            // Nobody was told that it came.
            self.changed.remove(&member);
        } else {
            self.changed.insert(member, Change::Left(reason));
        }
    }

    /// What changed since the last version, each part a version of its own.
    pub(super) fn take_diffs(&mut self, now: Instant) -> Vec<Diff> {
        let mut diffs = Vec::new();
        self.list_rest();
        let unlisted = self.unlisted();
        let is_other = std::mem::replace(&mut self.told_unlisted, unlisted) != unlisted;
        let unlisted = (unlisted > 0 || is_other).then_some(unlisted);
        if is_other && self.changed.is_empty() {
            self.version += 1;
            let text = Changes::default().presence(&self.room, self.version, unlisted);
            diffs.push(Diff {
                text,
                members: Vec::new(),
            });
        }
        let mut rest = std::mem::take(&mut self.changed).into_iter().peekable();
        while rest.peek().is_some() {
            let mut changes = Changes::default();
            let mut members = Vec::new();
            for (member, change) in rest.by_ref().take(PAGE_MEMBERS_MAX) {
                members.push(member);
                let json = self.members.get(&member).map(|entry| as_text(&entry.json));
                match (change, json) {
                    (Change::Joined, Some(json)) => Changes::add(&mut changes.joined, json),
                    (Change::Updated, Some(json)) => Changes::add(&mut changes.updated, json),
                    (Change::Left(reason), _) => changes.add_left(member, reason),
                    (Change::Joined | Change::Updated, None) => {}
                }
            }
            self.version += 1;
            let text = changes.presence(&self.room, self.version, unlisted);
            diffs.push(Diff { text, members });
        }
        if !diffs.is_empty() {
            self.told_at = Some(now);
        }
        diffs
    }

    /// When there is room for them again, the members that were only counted are listed, too.
    fn list_rest(&mut self) {
        if self.unlisted() == 0 || self.members.len() > LISTED_MAX {
            return;
        }
        for (id, entry) in &mut self.members {
            if !std::mem::replace(&mut entry.listed, true) {
                self.changed.insert(*id, Change::Joined);
            }
        }
        self.listed = self.members.len();
    }

    /// The members after `after`, of at most `bytes_max` unless it is one, as a page of a snapshot
    /// that began at `version`. Those that the next diff tells of are not in it, but for the `reader`.
    pub(super) fn page(
        &self,
        reader: Uuid,
        after: Option<Uuid>,
        version: u64,
        bytes_max: usize,
    ) -> Page {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self
            .members
            .range((from, Bound::Unbounded))
            .filter(|(id, entry)| entry.listed && (**id == reader || !self.is_pending(**id)))
            .peekable();
        let mut members = String::new();
        let mut last = None;
        let mut count = 0;
        while let Some((id, entry)) = rest.peek() {
            if count == PAGE_MEMBERS_MAX
                || (count > 0 && members.len() + entry.json.len() > bytes_max)
            {
                break;
            }
            Changes::add(&mut members, as_text(&entry.json));
            last = Some(**id);
            count += 1;
            rest.next();
        }
        let more = rest.peek().is_some();
        Page {
            text: protocol::snapshot(&self.room, version, &members, more, self.told_unlisted),
            last: last.filter(|_| more),
        }
    }

    /// A diff that tells how these members are now, for a client that was sent an older state of
    /// them; with the current version.
    pub(super) fn state_of(&self, members: &[Uuid]) -> String {
        let mut changes = Changes::default();
        for member in members {
            match self.members.get(member) {
                Some(entry) => Changes::add(&mut changes.updated, as_text(&entry.json)),
                None => changes.add_left(*member, LeaveReason::Closed),
            }
        }
        let unlisted = Some(self.told_unlisted).filter(|unlisted| *unlisted > 0);
        changes.presence(&self.room, self.version, unlisted)
    }
}

fn to_json(member: &Member, alias: u16) -> Bytes {
    #[derive(Serialize)]
    struct Told<'a> {
        alias: u16,
        #[serde(flatten)]
        member: &'a Member,
    }
    // A member's fields always make JSON: a state that is none becomes null.
    serde_json::to_vec(&Told { alias, member })
        .unwrap_or_default()
        .into()
}

fn as_text(json: &Bytes) -> &str {
    std::str::from_utf8(json).unwrap_or("{}")
}

/// Stands for nobody.
const NO_ALIAS: u16 = 0;

/// The small numbers of a room.
#[derive(Debug, Default)]
struct Aliases {
    last: u16,
    resting: VecDeque<(Instant, u16)>,
}

impl Aliases {
    /// A new one while there are some, then the one that rested longest; [`NO_ALIAS`] if all are in
    /// use or tired.
    fn take(&mut self, now: Instant) -> u16 {
        if let Some(next) = self.last.checked_add(1) {
            self.last = next;
            return next;
        }
        match self.resting.front() {
            Some((since, alias)) if now >= *since + ALIAS_REST => {
                let alias = *alias;
                self.resting.pop_front();
                alias
            }
            _ => NO_ALIAS,
        }
    }

    fn free(&mut self, alias: u16, now: Instant) {
        if alias != NO_ALIAS {
            self.resting.push_back((now, alias));
        }
    }
}

/// Positions by member, and those that changed since the last flush.
#[derive(Debug, Default)]
pub(super) struct Positions {
    placed: HashMap<Uuid, protocol::Sample>,
    moved: Vec<Uuid>,
}

impl From<HashMap<Uuid, protocol::Sample>> for Positions {
    fn from(placed: HashMap<Uuid, protocol::Sample>) -> Self {
        let moved = Vec::new();
        Self { placed, moved }
    }
}

impl Positions {
    /// Whose positions are known.
    pub(super) fn members(&self) -> impl Iterator<Item = Uuid> {
        self.placed.keys().copied()
    }

    /// A member is at a new position.
    pub(super) fn set(&mut self, member: Uuid, sample: protocol::Sample) {
        self.placed.insert(member, sample);
        self.moved.push(member);
    }

    /// A member has an alias now.
    pub(super) fn renew(&mut self, member: Uuid) {
        if self.placed.contains_key(&member) {
            self.moved.push(member);
        }
    }

    /// A member is gone.
    pub(super) fn remove(&mut self, member: Uuid) {
        self.placed.remove(&member);
    }

    /// The positions that changed, each member once; those of members without alias wait for it.
    pub(super) fn take_moved(&mut self, roster: &Roster) -> Vec<protocol::Placed> {
        let mut moved = std::mem::take(&mut self.moved);
        moved.sort_unstable();
        moved.dedup();
        let pending = moved.iter().filter(|member| roster.is_pending(**member));
        self.moved.extend(pending);
        moved
            .iter()
            .filter_map(|member| Some((roster.alias(*member)?, *self.placed.get(member)?)))
            .collect()
    }

    /// What moved does not matter any more.
    pub(super) fn forget_moves(&mut self) {
        self.moved.clear();
    }

    /// All positions.
    pub(super) fn all(&self, roster: &Roster) -> Vec<protocol::Placed> {
        self.placed
            .iter()
            .filter_map(|(member, sample)| Some((roster.alias(*member)?, *sample)))
            .collect()
    }
}
