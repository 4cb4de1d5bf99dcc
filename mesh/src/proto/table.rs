//! One owner's table: what its log amounts to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use super::event::{LeaveReason, Row};
use super::identity::{MemberId, NodeName, RoomName};
use super::wire::{Op, ROOMS_PER_OWNER_MAX, ROWS_PER_OWNER_MAX};

/// What an owner says of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is there.
    Present(Row),
    /// It was taken over.
    Moved {
        room: RoomName,
        epoch: u32,
        to: NodeName,
    },
    /// It had moved to this owner and left.
    Gone {
        room: RoomName,
        epoch: u32,
        reason: LeaveReason,
    },
}

impl Entry {
    pub(super) fn epoch(&self) -> u32 {
        match self {
            Self::Present(row) => row.epoch,
            Self::Moved { epoch, .. } | Self::Gone { epoch, .. } => *epoch,
        }
    }
}

/// What applying an operation touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Touched {
    /// What is said of a member, with the reason if it left.
    Member(MemberId, Option<LeaveReason>),
    /// Interest in a room: began (true) or ended (false).
    Room(RoomName, bool),
    /// The owner's own data or nothing.
    Nothing,
}

/// The owner exceeded a limit; the operation was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// An owner's table.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) members: BTreeMap<MemberId, Entry>,
    pub(super) rooms: BTreeSet<RoomName>,
    pub(super) links: BTreeMap<NodeName, u32>,
    pub(super) region: String,
    pub(super) advertise: Option<SocketAddr>,
    handles: HashMap<u32, MemberId>,
    present: usize,
}

impl Table {
    /// Applies one operation.
    pub(super) fn apply(&mut self, op: Op) -> Result<Touched, TooMany> {
        match op {
            Op::Put(row) => {
                let member = row.member;
                let handle = row.handle;
                self.insert(member, Entry::Present(row))?;
                self.handles.insert(handle, member);
                Ok(Touched::Member(member, None))
            }
            Op::Leave { member, reason, .. } => {
                self.forget(member);
                Ok(Touched::Member(member, Some(reason)))
            }
            Op::Moved {
                member,
                room,
                epoch,
                to,
            } => {
                self.insert(member, Entry::Moved { room, epoch, to })?;
                Ok(Touched::Member(member, None))
            }
            Op::Gone {
                member,
                room,
                epoch,
                reason,
                after: _,
            } => {
                self.insert(
                    member,
                    Entry::Gone {
                        room,
                        epoch,
                        reason,
                    },
                )?;
                Ok(Touched::Member(member, Some(reason)))
            }
            Op::Watch(room) => {
                if self.rooms.len() >= ROOMS_PER_OWNER_MAX {
                    return Err(TooMany);
                }
                self.rooms.insert(room.clone());
                Ok(Touched::Room(room, true))
            }
            Op::Unwatch(room) => {
                self.rooms.remove(&room);
                Ok(Touched::Room(room, false))
            }
            Op::About {
                region,
                advertise,
                links,
            } => {
                self.region = region;
                self.advertise = Some(advertise);
                self.links = links.into_iter().collect();
                Ok(Touched::Nothing)
            }
        }
    }

    /// The operations that build this table from an empty one.
    pub(super) fn to_ops(&self) -> Vec<Op> {
        let about = self.advertise.map(|advertise| Op::About {
            region: self.region.clone(),
            advertise,
            links: self
                .links
                .iter()
                .map(|(n, rtt)| (n.clone(), *rtt))
                .collect(),
        });
        let rooms = self.rooms.iter().cloned().map(Op::Watch);
        let members = self.members.iter().map(|(member, entry)| match entry {
            Entry::Present(row) => Op::Put(row.clone()),
            Entry::Moved { room, epoch, to } => Op::Moved {
                member: *member,
                room: room.clone(),
                epoch: *epoch,
                to: to.clone(),
            },
            Entry::Gone {
                room,
                epoch,
                reason,
            } => Op::Gone {
                member: *member,
                room: room.clone(),
                epoch: *epoch,
                reason: *reason,
                after: 0,
            },
        });
        about.into_iter().chain(rooms).chain(members).collect()
    }

    /// The row of a member that is there.
    pub(super) fn row(&self, member: MemberId) -> Option<&Row> {
        match self.members.get(&member) {
            Some(Entry::Present(row)) => Some(row),
            _ => None,
        }
    }

    /// The member a handle stands for.
    pub(super) fn by_handle(&self, handle: u32) -> Option<MemberId> {
        self.handles.get(&handle).copied()
    }

    /// Members that are there.
    pub(super) fn present(&self) -> usize {
        self.present
    }

    fn insert(&mut self, member: MemberId, entry: Entry) -> Result<(), TooMany> {
        if self.members.len() >= ROWS_PER_OWNER_MAX && !self.members.contains_key(&member) {
            return Err(TooMany);
        }
        let there = matches!(entry, Entry::Present(_));
        self.forget(member);
        self.members.insert(member, entry);
        self.present += usize::from(there);
        Ok(())
    }

    fn forget(&mut self, member: MemberId) {
        if let Some(Entry::Present(row)) = self.members.remove(&member) {
            self.present -= 1;
            self.handles.remove(&row.handle);
        }
    }
}
