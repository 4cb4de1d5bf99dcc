//! The replicated table and the mesh's state for readers outside the mesh task.
//!
//! Only the driver writes here, from the events it hands to the node; readers never wait for the
//! mesh and never make it wait longer than it takes to copy one room.

use std::collections::{BTreeMap, btree_map::Entry};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dashmap::{DashMap, DashSet};

use super::traffic::{Meter, Traffic};
use crate::proto::event::{Member, User};
use crate::proto::{ConnId, Event, MemberId, NodeName, Overview, RoomName};

/// The concurrent projection of the mesh; cheap to share, safe to read from anywhere.
#[derive(Debug)]
pub struct View {
    rooms: DashMap<RoomName, BTreeMap<MemberId, Arc<Member>>>,
    /// Rooms in which other nodes have clients.
    watched: DashSet<RoomName>,
    members: AtomicUsize,
    overview: RwLock<Arc<Overview>>,
    asked: AtomicBool,
    links: RwLock<BTreeMap<ConnId, LinkProbe>>,
    counters: Counters,
    meter: Arc<Meter>,
}

/// A room and how many members it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomCount {
    /// The room.
    pub room: RoomName,
    /// Its members, on all nodes.
    pub members: usize,
}

/// A user in a room: members with one user id folded into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// The user as its newest member states it.
    pub user: User,
    /// How many members it has in the room.
    pub members: usize,
    /// Whether all of them are away.
    pub away: bool,
    /// Milliseconds since the Unix epoch at which the first of them joined.
    pub joined_at: u64,
}

/// What QUIC knows about one live link, at the moment of asking.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkStats {
    /// The node at the other end.
    pub peer: NodeName,
    /// Its socket address.
    pub addr: SocketAddr,
    /// Whether this node opened the link.
    pub dialled: bool,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Congestion events so far.
    pub congestion_events: u64,
    /// QUIC packets sent.
    pub sent_packets: u64,
    /// Of those, declared lost.
    pub lost_packets: u64,
    /// UDP payloads sent.
    pub udp_tx_datagrams: u64,
    /// Bytes in them.
    pub udp_tx_bytes: u64,
    /// UDP payloads received.
    pub udp_rx_datagrams: u64,
    /// Bytes in them.
    pub udp_rx_bytes: u64,
    /// Largest UDP payload the path is known to carry, in bytes.
    pub mtu: u16,
    /// QUIC datagrams (cursors, membership, liveness) sent.
    pub datagrams_sent: u64,
    /// QUIC datagrams received.
    pub datagrams_received: u64,
    /// Cursor datagrams not sent because too much was queued already.
    pub cursor_datagrams_dropped: u64,
    /// Membership and liveness datagrams not sent, for the same reason.
    pub urgent_datagrams_dropped: u64,
    /// Datagrams not sent because they did not fit into the path's packets.
    pub datagrams_too_large: u64,
    /// Frames received on ordered lanes.
    pub frames_received: u64,
    /// Frame bytes received on ordered lanes.
    pub frame_bytes_received: u64,
    /// Frames handed to QUIC on ordered lanes.
    pub frames_sent: u64,
    /// Frame bytes handed to QUIC on ordered lanes.
    pub frame_bytes_sent: u64,
    /// Frame bytes that wait to be handed to QUIC.
    pub queued_bytes: u64,
}

impl View {
    pub(super) fn new(overview: Overview) -> Self {
        Self {
            rooms: DashMap::new(),
            watched: DashSet::new(),
            members: AtomicUsize::new(0),
            overview: RwLock::new(Arc::new(overview)),
            asked: AtomicBool::new(false),
            links: RwLock::new(BTreeMap::new()),
            counters: Counters::default(),
            meter: Arc::default(),
        }
    }

    /// How many members a room has, on all nodes. Takes the same time for any room.
    pub fn count(&self, room: &RoomName) -> usize {
        self.rooms.get(room).map_or(0, |members| members.len())
    }

    /// Whether another node has clients in a room. The name need not be a valid one.
    pub fn is_watched(&self, room: &str) -> bool {
        self.watched.contains(room)
    }

    /// How many rooms have members.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// How many members all rooms have together.
    pub fn member_count(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    /// The members of a room, by id.
    pub fn members(&self, room: &RoomName) -> Vec<Arc<Member>> {
        self.rooms
            .get(room)
            .map_or_else(Vec::new, |members| members.values().cloned().collect())
    }

    /// One member of a room.
    pub fn member(&self, room: &RoomName, member: MemberId) -> Option<Arc<Member>> {
        self.rooms
            .get(room)
            .and_then(|members| members.get(&member).cloned())
    }

    /// At most `limit` rooms, those with the most members first, equals by name.
    pub fn rooms(&self, limit: usize) -> Vec<RoomCount> {
        let mut all: Vec<RoomCount> = self
            .rooms
            .iter()
            .map(|room| RoomCount {
                room: room.key().clone(),
                members: room.value().len(),
            })
            .collect();
        all.sort_unstable_by(|a, b| b.members.cmp(&a.members).then_with(|| a.room.cmp(&b.room)));
        all.truncate(limit);
        all
    }

    /// The users of a room, first come first: members with the same user id are one user, a member
    /// without a user id is a user of its own.
    pub fn users(&self, room: &RoomName) -> Vec<UserEntry> {
        let mut named: BTreeMap<String, (u64, UserEntry)> = BTreeMap::new();
        let mut users = Vec::new();
        for member in self.members(room) {
            let row = &member.row;
            let own = UserEntry {
                user: row.user.clone(),
                members: 1,
                away: row.away,
                joined_at: row.joined_at,
            };
            if row.user.id.is_empty() {
                users.push(own);
                continue;
            }
            match named.entry(row.user.id.clone()) {
                Entry::Vacant(slot) => {
                    slot.insert((row.joined_at, own));
                }
                Entry::Occupied(mut slot) => {
                    let (newest, entry) = slot.get_mut();
                    entry.members += 1;
                    entry.away &= row.away;
                    entry.joined_at = entry.joined_at.min(row.joined_at);
                    if row.joined_at > *newest {
                        *newest = row.joined_at;
                        entry.user = row.user.clone();
                    }
                }
            }
        }
        users.extend(named.into_values().map(|(_, entry)| entry));
        users.sort_by(|a, b| {
            a.joined_at
                .cmp(&b.joined_at)
                .then_with(|| a.user.id.cmp(&b.user.id))
        });
        users
    }

    /// The mesh as this node sees it: at most 1 s old, at most 0.25 s while someone keeps asking.
    pub fn overview(&self) -> Arc<Overview> {
        self.asked.store(true, Ordering::Relaxed);
        Arc::clone(&self.overview.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The overview as it lies there, without having it renewed sooner for it.
    pub(super) fn last_overview(&self) -> Arc<Overview> {
        Arc::clone(&self.overview.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where a node with a live link is reached; by the newest of several links.
    pub(super) fn neighbour(&self, node: &NodeName) -> Option<Neighbour> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let mut newest_first = links.values().rev();
        let found = newest_first.find(|probe| probe.peer == *node);
        found.map(LinkProbe::neighbour)
    }

    /// The nodes with a live link, in the order in which the links came up.
    pub(super) fn neighbours(&self) -> Vec<Neighbour> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.values().map(LinkProbe::neighbour).collect()
    }

    /// The live links and what QUIC knows about each, in the order in which they came up.
    pub fn links(&self) -> Vec<LinkStats> {
        self.links
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(LinkProbe::stats)
            .collect()
    }

    /// What went to and from each peer and each region since start, over connections of all kinds that
    /// passed the handshake. Sums of regions only rise; a peer's end when it is forgotten.
    pub fn traffic(&self) -> Traffic {
        self.meter.traffic(&self.last_overview())
    }

    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Counters of this half since start: metric name (Prometheus, without prefix), help, value.
    /// Those of the other half are in [`Overview::counters`].
    pub fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.counters.list()
    }

    pub(super) fn count_up(&self) -> &Counters {
        &self.counters
    }

    /// Takes one event into the projection.
    pub(super) fn apply(&self, event: &Event) {
        match event {
            Event::Joined(member) | Event::Updated(member) => {
                let mut room = self.rooms.entry(member.row.room.clone()).or_default();
                let shown = Arc::new(Member::clone(member));
                if room.insert(member.row.member, shown).is_none() {
                    self.members.fetch_add(1, Ordering::Relaxed);
                }
            }
            Event::Left { room, member, .. } => {
                let mut emptied = false;
                if let Some(mut members) = self.rooms.get_mut(room)
                    && members.remove(member).is_some()
                {
                    self.members.fetch_sub(1, Ordering::Relaxed);
                    emptied = members.is_empty();
                }
                if emptied {
                    self.rooms.remove_if(room, |_, members| members.is_empty());
                }
            }
            Event::Watched {
                room,
                watched: true,
            } => {
                self.watched.insert(room.clone());
            }
            Event::Watched {
                room,
                watched: false,
            } => {
                self.watched.remove(room);
            }
            Event::MovedAway { .. }
            | Event::Messages { .. }
            | Event::Published { .. }
            | Event::Head { .. }
            | Event::Replayed { .. }
            | Event::MessageRefused { .. }
            | Event::Cursors { .. }
            | Event::LinkUp { .. }
            | Event::LinkDown { .. }
            | Event::Refused { .. }
            | Event::Membership { .. }
            | Event::Visibility { .. } => {}
        }
    }

    /// Whether someone asked for the overview since the last call.
    pub(super) fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    pub(super) fn set_overview(&self, overview: Overview) {
        // Peers that are forgotten are so here too, whether anybody asks for the sums or not.
        self.meter.forget(&overview);
        *self
            .overview
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(overview);
    }

    pub(super) fn add_link(&self, conn: ConnId, probe: LinkProbe) {
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(conn, probe);
    }

    pub(super) fn remove_link(&self, conn: ConnId) {
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&conn);
    }

    pub(super) fn clear_links(&self) {
        self.meter.close();
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// What one link counts beside what QUIC counts.
#[derive(Debug, Default)]
pub(super) struct LinkCounters {
    pub(super) cursor_datagrams_dropped: AtomicU64,
    pub(super) urgent_datagrams_dropped: AtomicU64,
    pub(super) datagrams_too_large: AtomicU64,
    pub(super) frames_received: AtomicU64,
    pub(super) frame_bytes_received: AtomicU64,
    pub(super) frames_sent: AtomicU64,
    pub(super) frame_bytes_sent: AtomicU64,
    pub(super) queued_bytes: AtomicU64,
}

/// Where a link's numbers are read.
#[derive(Debug)]
pub(super) struct LinkProbe {
    pub(super) peer: NodeName,
    pub(super) addr: SocketAddr,
    pub(super) dialled: bool,
    pub(super) connection: quinn::Connection,
    pub(super) counters: Arc<LinkCounters>,
}

/// A node with a live link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) node: NodeName,
    pub(super) addr: SocketAddr,
    pub(super) rtt: Duration,
}

impl LinkProbe {
    fn neighbour(&self) -> Neighbour {
        Neighbour {
            node: self.peer.clone(),
            addr: self.addr,
            rtt: self.connection.rtt(),
        }
    }

    fn stats(&self) -> LinkStats {
        let quic = self.connection.stats();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let own = &self.counters;
        LinkStats {
            peer: self.peer.clone(),
            addr: self.addr,
            dialled: self.dialled,
            rtt: quic.path.rtt,
            congestion_window: quic.path.cwnd,
            congestion_events: quic.path.congestion_events,
            sent_packets: quic.path.sent_packets,
            lost_packets: quic.path.lost_packets,
            udp_tx_datagrams: quic.udp_tx.datagrams,
            udp_tx_bytes: quic.udp_tx.bytes,
            udp_rx_datagrams: quic.udp_rx.datagrams,
            udp_rx_bytes: quic.udp_rx.bytes,
            mtu: quic.path.current_mtu,
            datagrams_sent: quic.frame_tx.datagram,
            datagrams_received: quic.frame_rx.datagram,
            cursor_datagrams_dropped: read(&own.cursor_datagrams_dropped),
            urgent_datagrams_dropped: read(&own.urgent_datagrams_dropped),
            datagrams_too_large: read(&own.datagrams_too_large),
            frames_received: read(&own.frames_received),
            frame_bytes_received: read(&own.frame_bytes_received),
            frames_sent: read(&own.frames_sent),
            frame_bytes_sent: read(&own.frame_bytes_sent),
            queued_bytes: read(&own.queued_bytes),
        }
    }
}

/// What this half counts over all links.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) turns: AtomicU64,
    pub(super) turn_micros_max: AtomicU64,
    pub(super) turns_over_budget: AtomicU64,
    pub(super) links_opened: AtomicU64,
    pub(super) dials_failed: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) peers_refused: AtomicU64,
    pub(super) limit_violations: AtomicU64,
    pub(super) bulk_connections: AtomicU64,
    pub(super) bulk_fallbacks: AtomicU64,
    pub(super) bulk_frames_dropped: AtomicU64,
    pub(super) cursor_events_dropped: AtomicU64,
    pub(super) ordered_pauses: AtomicU64,
    pub(super) carry_connections: AtomicU64,
    pub(super) carry_asked: AtomicU64,
    pub(super) carry_served: AtomicU64,
    pub(super) carry_relayed: AtomicU64,
    pub(super) carry_busy: AtomicU64,
    pub(super) carry_lost: AtomicU64,
}

impl Counters {
    fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            (
                "mesh_turns_total",
                "Turns of the mesh task.",
                read(&self.turns),
            ),
            (
                "mesh_turn_microseconds_max",
                "Longest turn of the mesh task since start.",
                read(&self.turn_micros_max),
            ),
            (
                "mesh_turns_over_budget_total",
                "Turns of the mesh task that took more than 5 ms.",
                read(&self.turns_over_budget),
            ),
            (
                "mesh_links_opened_total",
                "Live connections that passed all checks.",
                read(&self.links_opened),
            ),
            (
                "mesh_dials_failed_total",
                "Dials that led to no connection.",
                read(&self.dials_failed),
            ),
            (
                "mesh_handshakes_failed_total",
                "Incoming handshakes that failed, foreign certificates included.",
                read(&self.handshakes_failed),
            ),
            (
                "mesh_peers_refused_total",
                "Peers refused after the handshake because of their name or cluster.",
                read(&self.peers_refused),
            ),
            (
                "mesh_limit_violations_total",
                "Connections closed because the peer broke a framing rule.",
                read(&self.limit_violations),
            ),
            (
                "mesh_bulk_connections_total",
                "Bulk connections dialled.",
                read(&self.bulk_connections),
            ),
            (
                "mesh_bulk_fallbacks_total",
                "Bulk dials that failed, so that bulk frames went over the live connection.",
                read(&self.bulk_fallbacks),
            ),
            (
                "mesh_bulk_frames_dropped_total",
                "Bulk frames dropped: queue full, connection lost, or no live link to the sender.",
                read(&self.bulk_frames_dropped),
            ),
            (
                "mesh_cursor_events_dropped_total",
                "Cursor batches not given to the node because it was behind.",
                read(&self.cursor_events_dropped),
            ),
            (
                "mesh_ordered_pauses_total",
                "Times that ordered frames were not read because the node was behind.",
                read(&self.ordered_pauses),
            ),
            (
                "mesh_carry_connections_total",
                "Connections dialled to carry requests.",
                read(&self.carry_connections),
            ),
            (
                "mesh_carry_asked_total",
                "Requests that this node had for others, whatever became of them.",
                read(&self.carry_asked),
            ),
            (
                "mesh_carry_served_total",
                "Requests of other nodes that were given to this node's handler.",
                read(&self.carry_served),
            ),
            (
                "mesh_carry_relayed_total",
                "Requests that this node took to pass on to another.",
                read(&self.carry_relayed),
            ),
            (
                "mesh_carry_busy_total",
                "Requests, own ones and those of others, that this node refused as too many at once.",
                read(&self.carry_busy),
            ),
            (
                "mesh_carry_lost_total",
                "Own requests that ended because a connection or the node asked was lost.",
                read(&self.carry_lost),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;
    use crate::proto::event::{LeaveReason, Row};

    fn view() -> View {
        let name = NodeName::new("n1").unwrap();
        View::new(Overview {
            node: name.clone(),
            cluster: name,
            region: String::new(),
            boot: 1,
            seq: 0,
            rows: 0,
            rooms: Vec::new(),
            room_count: 0,
            peers: Vec::new(),
            seeds: Vec::new(),
            counters: Vec::new(),
        })
    }

    fn room(name: &str) -> RoomName {
        RoomName::new(name).unwrap()
    }

    fn member(id: u8, room_name: &str, user: &str, joined_at: u64, away: bool) -> Box<Member> {
        Box::new(Member {
            node: NodeName::new("n2").unwrap(),
            boot: 7,
            row: Row {
                member: MemberId([id; 16]),
                epoch: 0,
                room: room(room_name),
                user: User {
                    id: user.into(),
                    name: format!("{user} {id}"),
                    color: 0,
                },
                state: Bytes::new(),
                joined_at,
                away,
                resumable: true,
                handle: 0,
            },
        })
    }

    fn left(id: u8, room_name: &str) -> Event {
        Event::Left {
            room: room(room_name),
            member: MemberId([id; 16]),
            reason: LeaveReason::Closed,
        }
    }

    #[test]
    fn events_fold_into_counts_and_members() {
        let view = view();
        view.apply(&Event::Joined(member(1, "x", "", 10, false)));
        view.apply(&Event::Joined(member(2, "x", "", 20, false)));
        view.apply(&Event::Joined(member(3, "y", "", 30, false)));
        view.apply(&Event::Updated(member(2, "x", "u", 20, true)));
        assert_eq!((view.count(&room("x")), view.count(&room("y"))), (2, 1));
        assert_eq!((view.room_count(), view.member_count()), (2, 3));
        assert!(view.member(&room("x"), MemberId([2; 16])).unwrap().row.away);
        assert_eq!(view.rooms(1)[0].room, room("x"));

        view.apply(&left(1, "x"));
        view.apply(&left(1, "x"));
        view.apply(&left(2, "x"));
        assert_eq!((view.room_count(), view.member_count()), (1, 1));
        assert!(view.members(&room("x")).is_empty());
        assert_eq!(view.rooms(10).len(), 1);
    }

    #[test]
    fn members_of_one_user_fold_and_members_without_user_do_not() {
        let view = view();
        view.apply(&Event::Joined(member(1, "x", "ann", 30, true)));
        view.apply(&Event::Joined(member(2, "x", "ann", 10, false)));
        view.apply(&Event::Joined(member(3, "x", "", 20, true)));
        view.apply(&Event::Joined(member(4, "x", "", 40, false)));
        let users: Vec<(String, usize, bool, u64)> = view
            .users(&room("x"))
            .into_iter()
            .map(|entry| (entry.user.name, entry.members, entry.away, entry.joined_at))
            .collect();
        let expected = [
            ("ann 1", 2, false, 10),
            (" 3", 1, true, 20),
            (" 4", 1, false, 40),
        ];
        let expected = expected.map(|(name, count, away, at)| (name.to_owned(), count, away, at));
        assert_eq!(users, expected);
    }
}
