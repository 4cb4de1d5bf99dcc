//! Which way a request goes: over the link to its node, or through the relay that the core chose.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::slice;
use std::time::Duration;

use super::super::view::Neighbour;
use crate::proto::{NodeName, PeerOverview};

/// The neighbour that a request is handed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) node: NodeName,
    pub(super) addr: SocketAddr,
}

impl From<Neighbour> for Hop {
    fn from(Neighbour { node, addr, .. }: Neighbour) -> Self {
        Self { node, addr }
    }
}

/// The relay to a visible node without a link, if there is one and it is linked.
pub(super) fn relay_to(
    node: &NodeName,
    peers: &[PeerOverview],
    neighbour: impl Fn(&NodeName) -> Option<Neighbour>,
) -> Option<Hop> {
    let peer = peers.iter().find(|peer| peer.node == *node)?;
    let relay = peer.relay.as_ref().filter(|_| peer.visible)?;
    neighbour(relay).map(Hop::from)
}

/// All nodes but `me` that can be asked: neighbours by round trip, then those behind a relay by the
/// round trip to the relay; equals by name.
pub(super) fn reachable(
    me: &NodeName,
    neighbours: Vec<Neighbour>,
    peers: &[PeerOverview],
) -> Vec<NodeName> {
    // Of two connections to one node, which exist for a moment, the newer one counts.
    let neighbours: BTreeMap<NodeName, Neighbour> = neighbours
        .into_iter()
        .filter(|neighbour| neighbour.node != *me)
        .map(|neighbour| (neighbour.node.clone(), neighbour))
        .collect();
    let mut relayed: Vec<(Duration, NodeName)> = peers
        .iter()
        .filter(|peer| peer.node != *me && !neighbours.contains_key(&peer.node))
        .filter_map(|peer| {
            let hop = relay_to(&peer.node, slice::from_ref(peer), |relay| {
                neighbours.get(relay).cloned()
            })?;
            Some((neighbours.get(&hop.node)?.rtt, peer.node.clone()))
        })
        .collect();
    relayed.sort_unstable();
    let mut direct: Vec<(Duration, NodeName)> = neighbours
        .into_values()
        .map(|neighbour| (neighbour.rtt, neighbour.node))
        .collect();
    direct.sort_unstable();
    direct
        .into_iter()
        .chain(relayed)
        .map(|(_, node)| node)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn neighbour(node: &str, millis: u64) -> Neighbour {
        Neighbour {
            node: name(node),
            addr: SocketAddr::from(([127, 0, 0, 1], 1)),
            rtt: Duration::from_millis(millis),
        }
    }

    fn peer(node: &str, relay: Option<&str>, visible: bool) -> PeerOverview {
        PeerOverview {
            node: name(node),
            region: String::new(),
            boot: 1,
            addr: None,
            alive: true,
            linked: relay.is_none(),
            version: None,
            public: String::new(),
            rtt: None,
            links: Vec::new(),
            relay: relay.map(name),
            visible,
            hidden_because: String::new(),
            applied: 0,
            rows: 0,
            rooms: Vec::new(),
            room_count: 0,
            evidence_age: None,
            refused: None,
        }
    }

    #[test]
    fn a_relay_leads_to_a_visible_node_while_it_is_linked_itself() {
        let peers = [
            peer("far", Some("near"), true),
            peer("hidden", Some("near"), false),
            peer("stray", Some("gone"), true),
            peer("alone", None, true),
        ];
        let links = |node: &NodeName| (node.as_str() == "near").then(|| neighbour("near", 1));
        let hop = relay_to(&name("far"), &peers, links).unwrap();
        assert_eq!(hop.node, name("near"));
        for node in ["hidden", "stray", "alone", "unknown"] {
            assert_eq!(relay_to(&name(node), &peers, links), None, "{node}");
        }
    }

    #[test]
    fn the_nearest_come_first_and_each_node_once_and_never_the_own() {
        let neighbours = vec![
            neighbour("slow", 90),
            neighbour("near", 5),
            neighbour("me", 0),
            neighbour("slow", 80),
            neighbour("mid", 20),
        ];
        let peers = [
            peer("behind-slow", Some("slow"), true),
            peer("behind-near", Some("near"), true),
            peer("hidden", Some("near"), false),
            peer("me", Some("near"), true),
            peer("mid", Some("near"), true),
            peer("unlinked", None, true),
        ];
        let nodes = reachable(&name("me"), neighbours, &peers);
        let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
        let expected = ["near", "mid", "slow", "behind-near", "behind-slow"];
        assert_eq!(nodes, expected);
    }
}
