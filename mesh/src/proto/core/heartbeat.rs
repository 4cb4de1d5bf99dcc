//! Liveness: every node's heartbeat, and how fresh it was, spread by datagram.

use std::time::Duration;

use rand::seq::SliceRandom;

use super::super::identity::{ConnId, NodeName};
use super::super::wire::{DATAGRAM_BYTES_MAX, Datagram, Liveness, VERSION_OLDEST};
use super::Core;

/// How often heartbeats are sent.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);
/// In clusters up to this size heartbeats go to all peers, in larger ones to a few.
const ALL_PEERS_MAX: usize = 31;
const FEW_PEERS: usize = 4;

impl Core {
    pub(super) fn send_liveness(&mut self) {
        self.heartbeat_at = self.now.after(HEARTBEAT_EVERY);
        if self.leaving {
            return;
        }
        self.heartbeat += 1;
        self.measure_links();
        let mut conns: Vec<ConnId> = self.up_conns();
        if conns.len() > ALL_PEERS_MAX {
            conns.shuffle(&mut self.rng);
            conns.truncate(FEW_PEERS);
        }
        let datagrams = self.liveness_datagrams();
        for conn in conns {
            for datagram in &datagrams {
                self.send_datagram(conn, datagram.clone(), true);
            }
        }
    }

    pub(super) fn liveness(&mut self, peer: &NodeName, entries: Vec<Liveness>) {
        for entry in entries {
            self.observe(peer, &entry.owner, entry.heartbeat, entry.age_ms);
        }
    }

    fn liveness_datagrams(&self) -> Vec<bytes::Bytes> {
        let own = Liveness {
            owner: self.me.clone(),
            heartbeat: self.heartbeat,
            age_ms: 0,
        };
        let others = self.replicas.iter().filter_map(|(owner, replica)| {
            let age = self.now.since(replica.heard_at?);
            let fresh =
                replica.visible && !replica.superseded && age < self.evidence_max_of(&owner.node);
            fresh.then(|| Liveness {
                owner: owner.clone(),
                heartbeat: replica.heartbeat,
                age_ms: u32::try_from(age.as_millis()).unwrap_or(u32::MAX),
            })
        });
        let mut datagrams = Vec::new();
        let mut batch = Vec::new();
        let mut bytes = 0;
        for entry in std::iter::once(own).chain(others) {
            // Name with its length, boot, heartbeat and age as varints at their largest.
            let size = entry.owner.node.as_str().len() + 1 + 10 + 10 + 5;
            if bytes + size > DATAGRAM_BYTES_MAX - 8 {
                datagrams
                    .push(Datagram::Liveness(std::mem::take(&mut batch)).encode(VERSION_OLDEST));
                bytes = 0;
            }
            bytes += size;
            batch.push(entry);
        }
        datagrams.push(Datagram::Liveness(batch).encode(VERSION_OLDEST));
        datagrams
    }
}
