//! `/api/mesh`: what a picture of the mesh needs, as this node sees it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cursormesh_mesh::net::LinkStats;
use cursormesh_mesh::proto::{Overview, PeerOverview};
use serde_json::{Value, json};

use crate::directory::{round_ms, state};

/// Rooms listed, largest first.
pub(crate) const ROOMS_MAX: usize = 100;

/// The loss of a link is that of so long at most, as far as somebody asked meanwhile.
const LOSS_OVER: Duration = Duration::from_secs(10);
/// A look that is younger than this is not kept: whoever asks often needs no more.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Packets sent and lost per peer, at some moments.
#[derive(Debug, Default)]
pub(crate) struct Losses(Mutex<VecDeque<(Instant, Packets)>>);

type Packets = BTreeMap<String, (u64, u64)>;

impl Losses {
    /// The share of packets lost of those sent to each peer, about the last ten seconds; nothing of
    /// peers that were sent nothing.
    fn look(&self, now: Instant, links: &[LinkStats]) -> BTreeMap<String, f64> {
        let packets: Packets = links
            .iter()
            .map(|link| {
                (
                    link.peer.to_string(),
                    (link.sent_packets, link.lost_packets),
                )
            })
            .collect();
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last look that is older than that begins the time.
        while looks
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= LOSS_OVER)
        {
            looks.pop_front();
        }
        let first = looks.front().map(|(_, first)| first);
        let loss = |(peer, (sent, lost)): (&String, &(u64, u64))| {
            let (sent_then, lost_then) = first.and_then(|first| first.get(peer)).copied()?;
            // Of a newer link than that nothing was counted then.
            let (sent, lost) = match (sent.checked_sub(sent_then), lost.checked_sub(lost_then)) {
                (Some(sent), Some(lost)) => (sent, lost),
                _ => (*sent, *lost),
            };
            (sent > 0).then(|| (peer.clone(), (lost as f64 / sent as f64).min(1.0)))
        };
        let losses = packets.iter().filter_map(loss).collect();
        let is_due = looks
            .back()
            .is_none_or(|(at, _)| now.saturating_duration_since(*at) >= LOOK_EVERY);
        if is_due {
            looks.push_back((now, packets));
        }
        losses
    }
}

/// What the node knows beside its overview.
pub(crate) struct Around<'a> {
    pub(crate) links: &'a [LinkStats],
    pub(crate) losses: &'a Losses,
    /// Rooms and how many are in each.
    pub(crate) rooms: Vec<(String, usize)>,
    pub(crate) room_count: usize,
    pub(crate) member_count: usize,
    /// Where browsers reach a node, by its name.
    pub(crate) url: &'a dyn Fn(&str, &str) -> Option<String>,
    /// Whom it is cut from; `None` without levers.
    pub(crate) cuts: Option<Vec<String>>,
}

/// The picture: `{"node", "cluster", "region", "version", "dev", "nodes", "links", "rooms", "cuts"}`.
pub(crate) fn picture(overview: &Overview, around: &Around<'_>, now: Instant) -> Value {
    let own = json!({
        "node": overview.node.as_str(),
        "region": overview.region,
        "self": true,
        "state": "alive",
        "visible": true,
        "hidden_because": null,
        "relay": null,
        "members": overview.rows,
        "rooms": overview.room_count,
        "url": (around.url)(overview.node.as_str(), ""),
        "evidence_age_ms": null,
        "boot": overview.boot.to_string(),
    });
    let others = overview.peers.iter().map(|peer| node(peer, around));
    let nodes: Vec<Value> = std::iter::once(own).chain(others).collect();
    let losses = around.losses.look(now, around.links);
    let own_links = around.links.iter().map(|link| {
        json!({
            "from": overview.node.as_str(),
            "to": link.peer.as_str(),
            "rtt_ms": round_ms(link.rtt),
            "loss": losses.get(link.peer.as_str()),
            "sent_bytes": link.udp_tx_bytes,
            "received_bytes": link.udp_rx_bytes,
        })
    });
    let told = overview.peers.iter().flat_map(|peer| {
        let rest = peer.links.iter().filter(|(to, _)| *to != overview.node);
        rest.map(|(to, rtt)| {
            json!({
                "from": peer.node.as_str(),
                "to": to.as_str(),
                "rtt_ms": round_ms(*rtt),
                "loss": null,
                "sent_bytes": null,
                "received_bytes": null,
            })
        })
    });
    let links: Vec<Value> = own_links.chain(told).collect();
    let rooms = around.rooms.iter();
    let listed: Vec<Value> = rooms
        .map(|(room, count)| json!({ "room": room, "count": count }))
        .collect();
    json!({
        "node": overview.node.as_str(),
        "cluster": overview.cluster.as_str(),
        "region": overview.region,
        "version": env!("CARGO_PKG_VERSION"),
        "dev": around.cuts.is_some(),
        "nodes": nodes,
        "links": links,
        "rooms": {
            "count": around.room_count,
            "members": around.member_count,
            "listed": listed,
        },
        "cuts": around.cuts.clone().unwrap_or_default(),
    })
}

fn node(peer: &PeerOverview, around: &Around<'_>) -> Value {
    json!({
        "node": peer.node.as_str(),
        "region": peer.region,
        "self": false,
        "state": state(peer),
        "visible": peer.visible,
        "hidden_because": (!peer.visible).then_some(&peer.hidden_because),
        "relay": peer.relay.as_ref().map(|relay| relay.as_str()),
        "members": peer.rows,
        "rooms": peer.room_count,
        "url": (around.url)(peer.node.as_str(), &peer.public),
        "evidence_age_ms": peer.evidence_age.map(round_ms),
        "boot": peer.boot.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cursormesh_mesh::proto::NodeName;

    use super::*;

    fn link(peer: &str, sent: u64, lost: u64) -> LinkStats {
        LinkStats {
            peer: NodeName::new(peer).unwrap(),
            addr: "127.0.0.1:7172".parse().unwrap(),
            dialled: true,
            rtt: Duration::from_millis(80),
            congestion_window: 0,
            congestion_events: 0,
            sent_packets: sent,
            lost_packets: lost,
            udp_tx_datagrams: 0,
            udp_tx_bytes: 5_000,
            udp_rx_datagrams: 0,
            udp_rx_bytes: 6_000,
            mtu: 1200,
            datagrams_sent: 0,
            datagrams_received: 0,
            cursor_datagrams_dropped: 0,
            urgent_datagrams_dropped: 0,
            datagrams_too_large: 0,
            frames_received: 0,
            frame_bytes_received: 0,
            frames_sent: 0,
            frame_bytes_sent: 0,
            queued_bytes: 0,
        }
    }

    #[test]
    fn loss_is_that_of_the_last_seconds() {
        let losses = Losses::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(losses.look(start, &[link("n2", 100, 50)]).is_empty());
        let first = losses.look(at(1_000), &[link("n2", 200, 51), link("n3", 10, 0)]);
        assert_eq!(first.get("n2"), Some(&0.01));
        // Nobody knows yet what it lost before.
        assert_eq!(first.get("n3"), None);
        for second in 2..=30 {
            losses.look(at(second * 1_000), &[link("n2", 200 + 10 * second, 51)]);
        }
        let last = losses.look(at(31_000), &[link("n2", 510, 51)]);
        assert_eq!(last.get("n2"), Some(&0.0));
        // A new link counts anew.
        let new = losses.look(at(32_000), &[link("n2", 8, 2)]);
        assert_eq!(new.get("n2"), Some(&0.25));
        assert!(losses.0.lock().unwrap().len() <= 12);
    }

    #[test]
    fn who_asks_often_is_not_kept_more_for() {
        let losses = Losses::default();
        let start = Instant::now();
        for ms in 0..5_000 {
            losses.look(start + Duration::from_millis(ms), &[link("n2", ms, 0)]);
        }
        assert!(losses.0.lock().unwrap().len() <= 13);
    }
}
