//! The core's answer to an operator.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::identity::{NodeName, RoomName, Time};
use super::super::overview::{Overview, PeerOverview};
use super::Core;

const ROOMS_LISTED: usize = 1_000;
const LINKS_LISTED: usize = 1_000;

impl Core {
    /// The mesh as this node sees it at `now`.
    pub fn overview(&self, now: Time) -> Overview {
        let names: BTreeSet<&NodeName> = self.boots.keys().chain(self.peers.keys()).collect();
        let mut counters = self.counters.list();
        let (rings, kept) = self.ring_sizes();
        let (indexed, moving) = self.fold.sizes();
        let mut gauge = |name, help, value: usize| counters.push((name, help, value as u64));
        gauge(
            "replicas",
            "Owners whose log is kept, old lives included.",
            self.replicas.len(),
        );
        gauge("rings", "Rooms with recent messages.", rings);
        gauge("ring_messages", "Messages kept for replay.", kept);
        gauge(
            "members_indexed",
            "Members that some owner says something of.",
            indexed,
        );
        gauge(
            "members_moving",
            "Members shown while they are on their way to another node.",
            moving,
        );
        gauge(
            "swim_alive",
            "Other nodes that SWIM holds for alive.",
            self.swim.alive(),
        );
        gauge(
            "own_entries",
            "Entries of the own table, tombstones included.",
            self.own.members.len(),
        );
        gauge(
            "message_bytes_queued",
            "Bytes of messages that wait for a peer's link to take them.",
            self.conns.values().map(|link| link.outgoing.bytes()).sum(),
        );
        Overview {
            node: self.me.node.clone(),
            cluster: self.config.cluster.clone(),
            region: self.config.region.clone(),
            boot: self.me.boot,
            seq: self.log.seq(),
            rows: self.own.present(),
            rooms: listed(&self.own.rooms),
            room_count: self.own.rooms.len(),
            peers: names
                .into_iter()
                .map(|node| self.peer_overview(node, now))
                .collect(),
            seeds: self.seeds(),
            counters,
        }
    }

    fn peer_overview(&self, node: &NodeName, now: Time) -> PeerOverview {
        let current = self.current(node);
        let replica = current.as_ref().and_then(|owner| self.replicas.get(owner));
        let peer = self.peers.get(node);
        let link = self.link_to(node).map(|(_, link)| link);
        let region = replica
            .map(|replica| replica.table.region.clone())
            .filter(|region| !region.is_empty())
            .or_else(|| peer.map(|peer| peer.region.clone()))
            .unwrap_or_default();
        let visible = replica.is_some_and(|replica| replica.visible);
        PeerOverview {
            node: node.clone(),
            region,
            boot: current.map_or(0, |owner| owner.boot),
            addr: peer
                .and_then(|peer| peer.addr)
                .or_else(|| replica.and_then(|replica| replica.table.advertise)),
            alive: self.swim.is_alive(node),
            linked: link.is_some(),
            version: link.map(|link| link.version),
            public: link.map(|link| link.public.clone()).unwrap_or_default(),
            rtt: link.map(|link| link.rtt),
            links: replica
                .filter(|replica| replica.visible)
                .into_iter()
                .flat_map(|replica| replica.table.links.iter().take(LINKS_LISTED))
                .map(|(node, us)| (node.clone(), Duration::from_micros(u64::from(*us))))
                .collect(),
            relay: self.relay_of(node),
            visible,
            hidden_because: match replica {
                Some(replica) if !visible => replica.hidden_because.to_owned(),
                _ => String::new(),
            },
            applied: replica.map_or(0, |replica| replica.applied),
            rows: replica.map_or(0, |replica| replica.table.present()),
            rooms: replica
                .map(|replica| listed(&replica.table.rooms))
                .unwrap_or_default(),
            room_count: replica.map_or(0, |replica| replica.table.rooms.len()),
            evidence_age: replica
                .and_then(|replica| replica.evidence_at)
                .map(|at| now.since(at)),
            refused: peer.and_then(|peer| peer.refused.clone()),
        }
    }
}

fn listed(rooms: &BTreeSet<RoomName>) -> Vec<RoomName> {
    rooms.iter().take(ROOMS_LISTED).cloned().collect()
}
