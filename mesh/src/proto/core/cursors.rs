//! The cursor lane: newest position per member, in datagrams, never a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::super::event::{Cursor, Event, Member};
use super::super::identity::{ConnId, MemberId, NodeName, RoomName, Time};
use super::super::rule::Rule;
use super::super::wire::{
    CursorRecord, DATAGRAM_BYTES_MAX, DATAGRAM_WRAPPED_BYTES_MAX, Datagram, OwnerId, VERSION_OLDEST,
};
use super::Core;
use super::region::Way;

/// The last position of a cursor that stopped is sent again after these times: its last datagram
/// may have been lost.
const RESEND_AFTER: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// A position whose member is not known yet waits this long: datagrams outrun joins.
const HELD_FOR: Duration = Duration::from_secs(2);
const HELD_MAX: usize = 4_096;
/// What a relay's wrapping takes besides the names of origin and target: kind, lengths, boot, hops.
const WRAPPING_BYTES: usize = 20;

/// What the node knows of cursors.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    out: BTreeMap<MemberId, Own>,
    rooms: BTreeMap<RoomName, BTreeSet<MemberId>>,
    /// When members are looked at that may have stopped: one entry each at most. It is not moved with
    /// every move, as most come before it is due.
    resends: BTreeSet<(Time, MemberId)>,
    held: BTreeMap<(OwnerId, u32), (Time, CursorRecord)>,
}

#[derive(Debug)]
struct Own {
    room: RoomName,
    record: CursorRecord,
    moved_at: Time,
    /// How often its last position was sent again.
    resent: usize,
    /// Its entry among the resends.
    look_at: Option<Time>,
}

impl Cursors {
    pub(super) fn timeout(&self) -> Time {
        self.resends.first().map_or(Time(u64::MAX), |(at, _)| *at)
    }

    /// A local member is gone.
    pub(super) fn forget(&mut self, member: MemberId) {
        if let Some(own) = self.out.remove(&member) {
            if let Some(at) = own.look_at {
                self.resends.remove(&(at, member));
            }
            if let Some(members) = self.rooms.get_mut(&own.room) {
                members.remove(&member);
                if members.is_empty() {
                    self.rooms.remove(&own.room);
                }
            }
        }
    }

    /// Sees to it that the member is looked at when its position is due to be sent again.
    fn schedule(&mut self, member: MemberId) {
        let Some(own) = self.out.get_mut(&member) else {
            return;
        };
        let Some(after) = RESEND_AFTER.get(own.resent) else {
            return;
        };
        let due = own.moved_at.after(*after);
        if own.look_at.is_some_and(|at| at <= due) {
            return;
        }
        if let Some(later) = own.look_at.replace(due) {
            self.resends.remove(&(later, member));
        }
        self.resends.insert((due, member));
    }
}

impl Core {
    /// New positions of local members: the hub's flush is the batch.
    pub(super) fn move_cursors(&mut self, room: &RoomName, items: Vec<Cursor>) {
        let mut records = Vec::with_capacity(items.len());
        let is_watched = self.watchers.contains_key(room);
        for cursor in items {
            let member = cursor.member;
            let Some(row) = self.own.row(member).filter(|row| row.room == *room) else {
                continue;
            };
            let (handle, epoch) = (row.handle, row.epoch);
            let mut record = CursorRecord {
                handle,
                epoch,
                seq: 1,
                time_ms: cursor.time_ms,
                x: cursor.x,
                y: cursor.y,
            };
            // A member stays in its room as long as it lives.
            if let Some(own) = self.cursors.out.get_mut(&member) {
                if own.record.handle == handle {
                    record.seq = own.record.seq.wrapping_add(1);
                }
                (own.record, own.moved_at, own.resent) = (record, self.now, 0);
            } else {
                let own = Own {
                    room: room.clone(),
                    record,
                    moved_at: self.now,
                    resent: 0,
                    look_at: None,
                };
                self.cursors.out.insert(member, own);
                let members = self.cursors.rooms.entry(room.clone()).or_default();
                members.insert(member);
            }
            // Without watchers nothing was sent that could have been lost.
            if is_watched && self.holds(Rule::CursorResent) {
                self.cursors.schedule(member);
            }
            records.push((member, record));
        }
        self.spread_cursors(room, &records);
    }

    pub(super) fn run_cursors(&mut self) {
        while let Some((at, member)) = self.cursors.resends.first().copied() {
            if at > self.now {
                break;
            }
            self.cursors.resends.pop_first();
            let Some(own) = self.cursors.out.get_mut(&member) else {
                continue;
            };
            own.look_at = None;
            let due = RESEND_AFTER.get(own.resent);
            let is_due = due.is_some_and(|after| own.moved_at.after(*after) <= self.now);
            own.resent += usize::from(is_due);
            let (room, record) = (own.room.clone(), own.record);
            self.cursors.schedule(member);
            if is_due {
                self.spread_cursors(&room, &[(member, record)]);
            }
        }
        if !self.cursors.held.is_empty() {
            let now = self.now;
            self.cursors
                .held
                .retain(|_, (at, _)| now.since(*at) < HELD_FOR);
        }
    }

    fn spread_cursors(&mut self, room: &RoomName, records: &[(MemberId, CursorRecord)]) {
        let nodes: Vec<NodeName> = self
            .watchers
            .get(room)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        if nodes.is_empty() || records.is_empty() {
            return;
        }
        let mut direct: Option<Vec<Bytes>> = None;
        // A gateway without room gets its own later, and its neighbours theirs from here.
        let has_room = |core: &Self, way: &Way| {
            let link = core.conns.get(&way.conn);
            link.is_some_and(|link| link.room_for_cursors)
        };
        let mut ways = Vec::with_capacity(nodes.len());
        for way in self.ways(&nodes) {
            if way.is_shared() && !has_room(self, &way) {
                ways.extend(way.reaches.iter().filter_map(|node| self.way(node)));
            } else {
                ways.push(way);
            }
        }
        for Way { conn, to, .. } in ways {
            let Some(link) = self.conns.get_mut(&conn) else {
                continue;
            };
            if to.is_empty() && !link.room_for_cursors {
                for (member, _) in records {
                    if link.cursors_waiting.insert(*member, room.clone()).is_some() {
                        self.counters.cursors_conflated_total += 1;
                    }
                }
                continue;
            }
            if !to.is_empty() {
                let records: Vec<CursorRecord> = records.iter().map(|(_, r)| *r).collect();
                self.send_records(conn, &to, &records);
                continue;
            }
            self.counters.cursors_out_total += records.len() as u64;
            let batches = direct.get_or_insert_with(|| {
                let records = records.iter().map(|(_, record)| *record);
                batches(self.me.boot, DATAGRAM_BYTES_MAX, records)
            });
            for batch in batches.clone() {
                self.send_datagram(conn, batch, false);
            }
        }
    }

    /// The link has room again: the newest positions that it could not take.
    pub(super) fn send_waiting_cursors(&mut self, conn: ConnId) {
        let Some(link) = self.conns.get_mut(&conn).filter(|link| link.up) else {
            return;
        };
        let waiting = std::mem::take(&mut link.cursors_waiting);
        let records: Vec<CursorRecord> = waiting
            .keys()
            .filter_map(|member| self.cursors.out.get(member))
            .map(|own| own.record)
            .collect();
        self.send_records(conn, &[], &records);
    }

    /// A node began to watch a room: where everybody here is.
    pub(super) fn send_current_cursors(&mut self, node: &NodeName, room: &RoomName) {
        let Some((conn, relay_to)) = self.route(node) else {
            return;
        };
        let members = self.cursors.rooms.get(room).into_iter().flatten();
        let records: Vec<CursorRecord> = members
            .filter_map(|member| self.cursors.out.get(member))
            .map(|own| own.record)
            .collect();
        self.send_records(conn, relay_to.as_slice(), &records);
        self.resend_all(room);
    }

    /// What was sent once to a newcomer may have been lost: it is sent again as if it had moved.
    fn resend_all(&mut self, room: &RoomName) {
        if !self.holds(Rule::CursorResent) {
            return;
        }
        let now = self.now;
        let members: Vec<MemberId> = self
            .cursors
            .rooms
            .get(room)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for member in members {
            if let Some(own) = self.cursors.out.get_mut(&member) {
                (own.moved_at, own.resent) = (now, 0);
            }
            self.cursors.schedule(member);
        }
    }

    /// After a link came up: where everybody is, in all rooms the node is known to watch.
    pub(super) fn send_all_current_cursors(&mut self, node: &NodeName) {
        let rooms: Vec<RoomName> = self
            .cursors
            .rooms
            .keys()
            .filter(|room| {
                self.watchers
                    .get(*room)
                    .is_some_and(|nodes| nodes.contains(node))
            })
            .cloned()
            .collect();
        for room in rooms {
            self.send_current_cursors(node, &room);
        }
    }

    fn send_records(&mut self, conn: ConnId, to: &[NodeName], records: &[CursorRecord]) {
        if records.is_empty() {
            return;
        }
        self.counters.cursors_out_total += records.len() as u64;
        // Wrapped for a relay it has to fit into a datagram still.
        let bytes_max = if to.is_empty() {
            DATAGRAM_BYTES_MAX
        } else {
            let names: usize = to.iter().map(|node| 1 + node.as_str().len()).sum();
            let names = self.me.node.as_str().len() + names;
            DATAGRAM_BYTES_MAX.min(DATAGRAM_WRAPPED_BYTES_MAX - WRAPPING_BYTES - names)
        };
        for batch in batches(self.me.boot, bytes_max, records.iter().copied()) {
            if to.is_empty() {
                self.send_datagram(conn, batch, false);
            } else {
                self.send_datagram_relayed(conn, to.to_vec(), batch);
            }
        }
    }

    /// Positions from another node, directly or through a relay.
    pub(super) fn cursor_batch(&mut self, origin: &OwnerId, records: &[CursorRecord]) {
        if self
            .boots
            .get(&origin.node)
            .is_some_and(|known| origin.boot < *known)
        {
            self.counters.cursors_stale_total += records.len() as u64;
            return;
        }
        let mut rooms: BTreeMap<RoomName, Vec<Cursor>> = BTreeMap::new();
        for record in records {
            if let Some((room, cursor)) = self.take_cursor(origin, *record) {
                rooms.entry(room).or_default().push(cursor);
            }
        }
        for (room, items) in rooms {
            self.counters.cursors_in_total += items.len() as u64;
            self.emit(Event::Cursors { room, items });
        }
    }

    /// A member is shown: a position that came before it need not wait any longer.
    pub(super) fn release_cursor(&mut self, member: MemberId) {
        if self.cursors.held.is_empty() {
            return;
        }
        let Some(shown) = self.fold.get(member) else {
            return;
        };
        let owner = OwnerId {
            node: shown.node.clone(),
            boot: shown.boot,
        };
        let handle = shown.row.handle;
        if let Some((_, record)) = self.cursors.held.remove(&(owner.clone(), handle)) {
            self.cursor_batch(&owner, &[record]);
        }
    }

    /// Clients forget where a member was when it is gone: it may be said again.
    pub(super) fn forget_seen(&mut self, gone: &Member) {
        let owner = OwnerId {
            node: gone.node.clone(),
            boot: gone.boot,
        };
        if let Some(replica) = self.replicas.get_mut(&owner) {
            replica.seen.remove(&gone.row.member);
        }
    }

    /// No client of this node is in a room any more: the next one knows no positions.
    pub(super) fn forget_seen_in(&mut self, room: &RoomName) {
        for replica in self.replicas.values_mut() {
            let table = &replica.table;
            replica
                .seen
                .retain(|member, _| table.row(*member).is_some_and(|row| row.room != *room));
        }
    }

    pub(super) fn forget_held(&mut self, owner: &OwnerId) {
        self.cursors.held.retain(|(other, _), _| other != owner);
    }

    fn take_cursor(
        &mut self,
        origin: &OwnerId,
        record: CursorRecord,
    ) -> Option<(RoomName, Cursor)> {
        let in_order = self.holds(Rule::CursorOrder);
        let known = self
            .replicas
            .get(origin)
            .and_then(|replica| replica.table.by_handle(record.handle));
        let shown = known
            .and_then(|member| self.fold.get(member))
            .filter(|shown| {
                shown.node == origin.node
                    && shown.boot == origin.boot
                    && shown.row.handle == record.handle
            });
        let Some(shown) = shown else {
            self.hold(origin, record);
            return None;
        };
        let (member, room) = (shown.row.member, shown.row.room.clone());
        if !self.own.rooms.contains(&room) {
            return None;
        }
        let seen = &mut self.replicas.get_mut(origin)?.seen;
        let stale = seen
            .get(&member)
            .is_some_and(|last| !is_newer(record, *last));
        if stale && in_order {
            self.counters.cursors_stale_total += 1;
            return None;
        }
        seen.insert(member, (record.epoch, record.seq));
        Some((
            room,
            Cursor {
                member,
                time_ms: record.time_ms,
                x: record.x,
                y: record.y,
            },
        ))
    }

    fn hold(&mut self, origin: &OwnerId, record: CursorRecord) {
        if !self.holds(Rule::CursorHeld) {
            return;
        }
        let key = (origin.clone(), record.handle);
        // The same position again waits anew: it was sent again because it is the last one.
        let takes = match self.cursors.held.get(&key) {
            Some((_, held)) => !is_newer(*held, (record.epoch, record.seq)),
            None => self.cursors.held.len() < HELD_MAX,
        };
        if takes {
            self.cursors.held.insert(key, (self.now, record));
        }
    }
}

/// Whether a position comes after the one with this epoch and number; numbers wrap.
fn is_newer(record: CursorRecord, (epoch, seq): (u32, u32)) -> bool {
    let ahead = record.seq.wrapping_sub(seq);
    record.epoch > epoch || (record.epoch == epoch && ahead != 0 && ahead < u32::MAX / 2)
}

/// Positions packed into as few datagrams as they need.
fn batches(boot: u64, bytes_max: usize, records: impl Iterator<Item = CursorRecord>) -> Vec<Bytes> {
    let mut datagrams = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for record in records {
        let size = varint(record.handle)
            + varint(record.epoch)
            + varint(record.seq)
            + varint(record.time_ms.into())
            + 8;
        if bytes + size > bytes_max - 16 {
            let records = std::mem::take(&mut batch);
            datagrams.push(Datagram::Cursors { boot, records }.encode(VERSION_OLDEST));
            bytes = 0;
        }
        bytes += size;
        batch.push(record);
    }
    let records = batch;
    datagrams.push(Datagram::Cursors { boot, records }.encode(VERSION_OLDEST));
    datagrams
}

/// Bytes of a number in postcard's varint.
fn varint(value: u32) -> usize {
    let bits = (32 - value.leading_zeros()).max(1) as usize;
    bits.div_ceil(7)
}
