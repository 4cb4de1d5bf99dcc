//! Bytes between this node and each peer, and between regions: sums over all connections since the node
//! started, so that they only rise while connections come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::Connection;

use crate::proto::{NodeName, Overview};

/// Regions with a sum of their own. A peer says its region by itself; bytes of further ones count for
/// [`OTHER_REGIONS`].
const REGIONS_MAX: usize = 64;
const OTHER_REGIONS: &str = "other";

/// UDP payloads in one place, both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Volume {
    /// Bytes of UDP payloads sent.
    pub sent_bytes: u64,
    /// Bytes of UDP payloads received.
    pub received_bytes: u64,
    /// UDP payloads sent.
    pub sent: u64,
    /// UDP payloads received.
    pub received: u64,
}

/// What went between this node and others since it started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Each peer that has said its region and is not forgotten, by name: its region, and its volume over all
    /// connections with it, the live, bulk and carrying ones.
    pub peers: Vec<(NodeName, String, Volume)>,
    /// The same by the peers' region, of peers that were forgotten too.
    pub regions: Vec<(String, Volume)>,
}

/// Who counts.
#[derive(Debug, Default)]
pub(super) struct Meter {
    sums: Mutex<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    peers: BTreeMap<NodeName, Peer>,
    regions: BTreeMap<String, Volume>,
}

#[derive(Debug, Default)]
struct Peer {
    /// Of connections that have ended.
    ended: Volume,
    open: Vec<Connection>,
    /// As last known; empty until then.
    region: String,
    /// What of it is in a region's sum.
    placed: Volume,
}

impl Meter {
    /// Counts an authenticated connection with `peer`, its handshake included, until it ends. To be called
    /// in a tokio runtime.
    pub(super) fn watch(self: &Arc<Self>, peer: &NodeName, connection: &Connection) {
        let mut sums = self.sums();
        let open = &mut sums.peers.entry(peer.clone()).or_default().open;
        open.push(connection.clone());
        drop(sums);
        let (meter, peer, connection) = (Arc::clone(self), peer.clone(), connection.clone());
        tokio::spawn(async move {
            // The clones here keep it from ending with its last user: whoever dials or accepts a
            // connection closes it with a word.
            let _ = connection.closed().await;
            meter.ended(&peer, &connection);
        });
    }

    /// The sums now. `overview` says the peers' regions.
    pub(super) fn traffic(&self, overview: &Overview) -> Traffic {
        let mut sums = self.sums();
        sums.place(overview);
        let peers = sums.peers.iter();
        let known = peers.filter(|(_, peer)| !peer.region.is_empty());
        Traffic {
            peers: known
                .map(|(node, peer)| (node.clone(), peer.region.clone(), peer.placed))
                .collect(),
            regions: sums
                .regions
                .iter()
                .map(|(region, volume)| (region.clone(), *volume))
                .collect(),
        }
    }

    /// Forgets the peers that an overview made just now does not know any more; one that is connected is
    /// about to be known.
    pub(super) fn forget(&self, overview: &Overview) {
        let mut sums = self.sums();
        sums.place(overview);
        sums.peers.retain(|node, peer| {
            !peer.open.is_empty() || overview.peers.iter().any(|known| known.node == *node)
        });
    }

    /// Lets go of all connections; what they carried stays counted.
    pub(super) fn close(&self) {
        for peer in self.sums().peers.values_mut() {
            peer.ended = peer.total();
            peer.open.clear();
        }
    }

    fn ended(&self, peer: &NodeName, connection: &Connection) {
        let mut sums = self.sums();
        let Some(peer) = sums.peers.get_mut(peer) else {
            return;
        };
        let same = |one: &Connection| one.stable_id() == connection.stable_id();
        if let Some(index) = peer.open.iter().position(same) {
            let last = volume(&peer.open.swap_remove(index));
            peer.ended = peer.ended.and(last);
        }
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sums {
    /// Adds what went since the last time to the regions' sums.
    fn place(&mut self, overview: &Overview) {
        for known in &overview.peers {
            if let Some(peer) = self.peers.get_mut(&known.node)
                && !known.region.is_empty()
            {
                peer.region.clone_from(&known.region);
            }
        }
        for peer in self.peers.values_mut() {
            if peer.region.is_empty() {
                continue;
            }
            let total = peer.total();
            place(&mut self.regions, &peer.region, total.since(peer.placed));
            peer.placed = total;
        }
    }
}

impl Peer {
    fn total(&self) -> Volume {
        self.open.iter().map(volume).fold(self.ended, Volume::and)
    }
}

impl Volume {
    fn and(self, other: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            sent: self.sent.saturating_sub(before.sent),
            received: self.received.saturating_sub(before.received),
        }
    }
}

/// Adds to a region's sum.
fn place(regions: &mut BTreeMap<String, Volume>, region: &str, more: Volume) {
    let has_room = regions.len() < REGIONS_MAX || regions.contains_key(region);
    let name = if has_room { region } else { OTHER_REGIONS };
    let sum = regions.entry(name.to_owned()).or_default();
    *sum = sum.and(more);
}

fn volume(connection: &Connection) -> Volume {
    let stats = connection.stats();
    Volume {
        sent_bytes: stats.udp_tx.bytes,
        received_bytes: stats.udp_rx.bytes,
        sent: stats.udp_tx.datagrams,
        received: stats.udp_rx.datagrams,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_bounded() {
        let mut regions = BTreeMap::new();
        let one = Volume {
            sent_bytes: 1,
            ..Volume::default()
        };
        for index in 0..1_000 {
            place(&mut regions, &format!("r{index:03}"), one);
        }
        place(&mut regions, "r000", one);
        assert_eq!(regions.len(), REGIONS_MAX + 1);
        assert_eq!(regions["r000"].sent_bytes, 2);
        let sum: u64 = regions.values().map(|volume| volume.sent_bytes).sum();
        assert_eq!(sum, 1_001);
    }
}
