//! One copy for a region: what several nodes of another region are to get crosses to one of them, the
//! gateway, and that one passes it on to its neighbours.
//!
//! The wrapping is a relay's, with the gateway itself among the targets. The direct links stay what they
//! were: heartbeats, digests, heads and pulls go over them, and through them whatever a gateway does not
//! pass on is noticed and asked for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::event::Lane;
use super::super::identity::{ConnId, NodeName, RoomName, Time};
use super::super::rule::Rule;
use super::super::wire::{Delta, Frame};
use super::messages::PASSED_ON_WITHIN;
use super::owner::{DELTA_BYTES, PRESENCE_UNSENT_MAX};
use super::{Core, EVIDENCE_MAX};

/// The protocol version from which on a node opens what is wrapped for itself and others, and passes it on.
const GATEWAY_SINCE: u16 = 2;

/// Nodes behind one gateway beside itself; names take room in datagrams.
const TARGETS_MAX: usize = 8;

/// A gateway of which nothing was heard for this long is none: it was due to be heard of twice. In clusters
/// of more than 32 nodes heartbeats go to a few, so there it is one until its link ends.
const SILENT: Duration = Duration::from_millis(1_200);

/// Which nodes of other regions are gateways now.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    /// The one that is preferred in each region. Where it is not among those that are to be reached,
    /// another one is taken.
    chosen: BTreeMap<String, NodeName>,
    /// What is used, where it is, and when it was last.
    used: BTreeMap<NodeName, (String, Time)>,
    /// Nodes and rooms whose last message went by way of a gateway, and of which.
    doubted: BTreeMap<(NodeName, RoomName), NodeName>,
    /// When own operations went to gateways, and after which.
    deltas: VecDeque<(Time, u64)>,
}

impl Gateways {
    /// Whether something went by way of a node lately.
    pub(super) fn is_one(&self, node: &NodeName) -> bool {
        self.used.contains_key(node)
    }

    /// A node is none from now on; whether it was one.
    fn remove(&mut self, node: &NodeName) -> bool {
        self.chosen.retain(|_, chosen| chosen != node);
        self.used.remove(node).is_some()
    }

    /// Own operations up to a number have gone to gateways, those after `from` just now.
    fn shared_deltas(&mut self, now: Time, from: u64) {
        self.deltas
            .retain(|(at, _)| now.since(*at) < PASSED_ON_WITHIN);
        self.deltas.push_back((now, from));
    }

    /// Before which of the own operations all have been passed on, if any went to a gateway lately.
    fn deltas_passed_on(&self, now: Time) -> Option<u64> {
        let lately = |(at, _): &&(Time, u64)| now.since(*at) < PASSED_ON_WITHIN;
        self.deltas
            .iter()
            .filter(lately)
            .map(|(_, from)| *from)
            .min()
    }

    /// A room's last message went to a node by way of a gateway.
    pub(super) fn doubt(&mut self, node: &NodeName, room: &RoomName, gateway: &NodeName) {
        let key = (node.clone(), room.clone());
        self.doubted.insert(key, gateway.clone());
    }

    /// The node has been told how far the room's messages are, or need not be.
    pub(super) fn trust(&mut self, node: &NodeName, room: &RoomName) {
        self.doubted.remove(&(node.clone(), room.clone()));
    }

    /// Where the last message went by way of a gateway, and nothing was said since.
    pub(super) fn doubted(&self) -> Vec<(NodeName, RoomName)> {
        self.doubted.keys().cloned().collect()
    }

    /// Whether a room's last message went to a node by way of a gateway, and nothing was said since.
    pub(super) fn is_doubted(&self, key: &(NodeName, RoomName)) -> bool {
        self.doubted.contains_key(key)
    }

    /// The same in one room.
    pub(super) fn doubted_in(&self, room: &RoomName) -> Vec<(NodeName, RoomName)> {
        let all = self.doubted.keys();
        all.filter(|(_, other)| other == room).cloned().collect()
    }

    /// The same for one gateway.
    fn doubted_through(&self, gateway: &NodeName) -> Vec<(NodeName, RoomName)> {
        let through = self.doubted.iter().filter(|(_, by)| *by == gateway);
        through.map(|(key, _)| key.clone()).collect()
    }
}

/// How something gets to nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// The connection that it goes over.
    pub(super) conn: ConnId,
    /// For whom it is wrapped; empty: it is for the peer alone, and not wrapped.
    pub(super) to: Vec<NodeName>,
    /// Whom it reaches.
    pub(super) reaches: Vec<NodeName>,
}

impl Way {
    /// Whether it is wrapped for a gateway and others.
    pub(super) fn is_shared(&self) -> bool {
        self.reaches.len() > 1
    }
}

impl Core {
    /// The ways to these nodes, as few as there may be across regions; those that have none are left out.
    pub(super) fn ways(&mut self, nodes: &[NodeName]) -> Vec<Way> {
        let mut ways = Vec::with_capacity(nodes.len());
        let mut regions: BTreeMap<String, Vec<NodeName>> = BTreeMap::new();
        for node in nodes {
            match self.region_behind_gateway(node) {
                Some(region) => regions.entry(region).or_default().push(node.clone()),
                None => ways.extend(self.way(node)),
            }
        }
        for (region, mut there) in regions {
            while there.len() > 1
                && let Some(way) = self.shared_way(&region, &mut there)
            {
                ways.push(way);
            }
            ways.extend(there.iter().filter_map(|node| self.way(node)));
        }
        ways
    }

    /// The way to one node.
    pub(super) fn way(&self, node: &NodeName) -> Option<Way> {
        let (conn, relay_to) = self.route(node)?;
        Some(Way {
            conn,
            to: relay_to.into_iter().collect(),
            reaches: vec![node.clone()],
        })
    }

    /// The region of a node that can be behind a gateway, or be one: one that is linked, elsewhere, and
    /// knows how.
    fn region_behind_gateway(&self, node: &NodeName) -> Option<String> {
        if !self.holds(Rule::OneCopyPerRegion) {
            return None;
        }
        let (conn, link) = self.link_to(node)?;
        let hello = link.hello.as_ref()?;
        let is_elsewhere = hello.region != self.config.region && !hello.region.is_empty();
        let knows = self.speaks(conn, GATEWAY_SINCE);
        (is_elsewhere && knows).then(|| hello.region.clone())
    }

    /// Gives up gateways that fell silent, well before their links break.
    pub(super) fn check_gateways(&mut self) {
        let now = self.now;
        self.gateways
            .used
            .retain(|_, (_, at)| now.since(*at) < PASSED_ON_WITHIN);
        let used = self.gateways.used.iter();
        let silent: Vec<(NodeName, String)> = used
            .filter(|(gateway, _)| !self.is_heard(gateway))
            .map(|(gateway, (region, _))| (gateway.clone(), region.clone()))
            .collect();
        for (gateway, region) in silent {
            self.gateway_lost(&gateway, &region);
        }
    }

    /// A node acknowledges nothing any more: if it is a gateway, its neighbours need not wait until that is
    /// certain.
    pub(super) fn quiet(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(link) = self.conns.get_mut(&conn) else {
            return;
        };
        link.quiet_at = Some(now);
        let Some(region) = link.hello.as_ref().map(|hello| hello.region.clone()) else {
            return;
        };
        let node = link.peer.clone();
        if self.gateways.is_one(&node) {
            self.gateway_lost(&node, &region);
        }
    }

    /// Whether a node was heard of lately over its own link, and does not leave.
    fn is_heard(&self, node: &NodeName) -> bool {
        let Some((_, link)) = self.link_to(node) else {
            return false;
        };
        let leaves = link.byes.contains(&true);
        if link.quiet_at.is_some_and(|at| link.heard_at <= at) {
            return false;
        }
        let few_hear = self.evidence_max() > EVIDENCE_MAX;
        !leaves && (few_hear || self.now.since(link.heard_at) < SILENT)
    }

    /// The link to a node broke, or it fell silent, or it leaves. If it was a gateway, what it was to pass
    /// on a moment ago goes to each alone, before later messages push it out of what is kept, and its
    /// neighbours are told how far everybody's operations are.
    pub(super) fn gateway_lost(&mut self, gateway: &NodeName, region: &str) {
        let was_gateway = self.gateways.remove(gateway);
        let doubted = self.gateways.doubted_through(gateway);
        self.send_shared_again(doubted);
        if !was_gateway {
            return;
        }
        for conn in self.up_conns() {
            let hello = self.conns.get(&conn).and_then(|link| link.hello.as_ref());
            if hello.is_some_and(|hello| hello.region == region) {
                self.send_digest(conn);
            }
        }
    }

    /// Before the last word: what went to gateways lately follows to each alone, because nobody waits for
    /// it after that word.
    pub(super) fn unshare(&mut self) {
        if let Some(passed_on) = self.gateways.deltas_passed_on(self.now) {
            for conn in self.up_conns() {
                if let Some(link) = self.conns.get_mut(&conn) {
                    link.pushed = link.pushed.min(passed_on);
                    link.told = link.told.min(passed_on);
                }
            }
        }
        self.push_deltas(true);
        let doubted = self.gateways.doubted();
        self.send_shared_again(doubted);
    }

    /// Sends own operations to gateways for their neighbours, to those of these links, and as far as all of
    /// them were sent the same. One that misses them finds out by its next digest.
    pub(super) fn share_deltas(&mut self, due: &[ConnId]) {
        let seq = self.log.seq();
        let mut even: BTreeMap<u64, Vec<NodeName>> = BTreeMap::new();
        for conn in due {
            let Some(link) = self.conns.get(conn) else {
                continue;
            };
            let keeps_up = !link.behind && link.unsent(Lane::Presence) <= PRESENCE_UNSENT_MAX;
            if keeps_up && link.pushed < seq {
                even.entry(link.pushed).or_default().push(link.peer.clone());
            }
        }
        for (from, nodes) in even {
            for way in self.ways(&nodes).into_iter().filter(Way::is_shared) {
                let Some((ops, to)) = self.log.after(from, DELTA_BYTES) else {
                    continue;
                };
                let owner = self.me.clone();
                let frame = Frame::Delta(Delta {
                    owner,
                    from,
                    to,
                    ops,
                });
                self.send_relayed(way.conn, Lane::Presence, way.to, &frame);
                self.gateways.shared_deltas(self.now, from);
                for node in way.reaches {
                    let conn = self.peers.get(&node).and_then(|peer| peer.up);
                    if let Some(link) = conn.and_then(|conn| self.conns.get_mut(&conn)) {
                        link.pushed = to;
                    }
                }
            }
        }
    }

    /// A way to the gateway of a region and to as many of `there` as it is linked to, which are taken
    /// out of it.
    fn shared_way(&mut self, region: &str, there: &mut Vec<NodeName>) -> Option<Way> {
        let chosen = self.gateways.chosen.get(region);
        let gateway = match chosen.filter(|chosen| there.contains(chosen)) {
            Some(gateway) => gateway.clone(),
            None => {
                let me = self.me.node.as_str();
                let rank = |node: &&NodeName| weight(me, node.as_str());
                let heard = there.iter().filter(|node| self.is_heard(node));
                let gateway = heard.max_by_key(rank)?.clone();
                // One that is only not asked for here stays the choice of rooms that have it.
                if chosen.is_none_or(|chosen| !self.is_heard(chosen)) {
                    let region = region.to_owned();
                    self.gateways.chosen.insert(region, gateway.clone());
                }
                gateway
            }
        };
        let owner = self.current(&gateway)?;
        let links = &self.replicas.get(&owner)?.table.links;
        let behind: Vec<NodeName> = there
            .iter()
            .filter(|node| **node != gateway && links.contains_key(*node))
            .take(TARGETS_MAX)
            .cloned()
            .collect();
        if behind.is_empty() {
            return None;
        }
        let (conn, _) = self.link_to(&gateway)?;
        match self.gateways.used.get_mut(&gateway) {
            Some((_, at)) => *at = self.now,
            None => {
                let used = (region.to_owned(), self.now);
                self.gateways.used.insert(gateway.clone(), used);
            }
        }
        let mut reaches = vec![gateway];
        reaches.extend(behind);
        there.retain(|node| !reaches.contains(node));
        Some(Way {
            conn,
            to: reaches.clone(),
            reaches,
        })
    }
}

/// Ranks nodes as gateways for a node: every node ranks otherwise, so that no gateway has them all, and
/// always the same. FNV-1a.
fn weight(me: &str, node: &str) -> u64 {
    let bytes = me.bytes().chain([0]).chain(node.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
