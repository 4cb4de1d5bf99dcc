//! Which nodes a browser may go to, and in which order this node names them.

use std::cmp::Reverse;
use std::time::Duration;

use cursormesh_mesh::proto::PeerOverview;

/// The order in which this node, in `region`, names the others: its own region first, then by the round
/// trip of the link, those without one last.
pub(crate) fn sort(peers: &mut [&PeerOverview], region: &str) {
    peers.sort_by_key(|peer| {
        (
            Reverse(peer.region == region),
            peer.rtt.unwrap_or(Duration::MAX),
            &peer.node,
        )
    });
}

/// Whether a browser that is sent to this node finds it: it is in touch with this one, over a link or
/// through others, and neither dead nor about to leave.
pub(crate) fn stays(peer: &PeerOverview) -> bool {
    peer.alive && (peer.linked || peer.visible)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cursormesh_mesh::proto::NodeName;

    use super::*;

    fn peer(name: &str, region: &str, rtt_ms: Option<u64>) -> PeerOverview {
        PeerOverview {
            node: NodeName::new(name).unwrap(),
            region: region.to_owned(),
            boot: 1,
            addr: None,
            alive: true,
            linked: rtt_ms.is_some(),
            version: None,
            public: String::new(),
            rtt: rtt_ms.map(Duration::from_millis),
            links: Vec::new(),
            relay: None,
            visible: true,
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
    fn the_own_region_comes_first_and_then_the_nearest() {
        let peers = [
            peer("far", "ap", Some(180)),
            peer("relayed", "us", None),
            peer("near", "us", Some(80)),
            peer("slow-neighbour", "eu", Some(120)),
            peer("neighbour", "eu", Some(1)),
            peer("lonely", "eu", None),
        ];
        let mut order: Vec<&PeerOverview> = peers.iter().collect();
        sort(&mut order, "eu");
        let names: Vec<&str> = order.iter().map(|peer| peer.node.as_str()).collect();
        let expected = [
            "neighbour",
            "slow-neighbour",
            "lonely",
            "near",
            "far",
            "relayed",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn who_is_dead_gone_or_out_of_touch_does_not_stay() {
        assert!(stays(&peer("linked", "eu", Some(1))));
        assert!(stays(&peer("relayed", "eu", None)));
        let left = PeerOverview {
            alive: false,
            ..peer("left", "eu", Some(1))
        };
        assert!(!stays(&left));
        let silent = PeerOverview {
            visible: false,
            ..peer("silent", "eu", None)
        };
        assert!(!stays(&silent));
    }
}
