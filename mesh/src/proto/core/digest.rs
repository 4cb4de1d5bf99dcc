//! Digests: who has what of whom, so that whatever a push missed is pulled.

use std::time::Duration;

use rand::seq::SliceRandom;

use super::super::event::Lane;
use super::super::identity::ConnId;
use super::super::rule::Rule;
use super::super::wire::{Digest, DigestEntry, Frame, OwnerId};
use super::Core;

const DIGEST_EVERY: Duration = Duration::from_secs(1);
const DIGEST_PEERS: usize = 2;
/// Entries in one frame: with the longest names still below the lane's limit.
const DIGEST_ENTRIES_MAX: usize = 600;

impl Core {
    pub(super) fn send_digests(&mut self) {
        let every = self.jittered(DIGEST_EVERY);
        self.digest_at = self.now.after(every);
        if self.leaving || !self.holds(Rule::DigestRepairs) {
            return;
        }
        let mut conns = self.up_conns();
        conns.shuffle(&mut self.rng);
        conns.truncate(DIGEST_PEERS);
        for conn in conns {
            self.send_digest(conn);
        }
    }

    /// Tells one peer everything this node has.
    pub(super) fn send_digest(&mut self, conn: ConnId) {
        let mut entries = vec![DigestEntry {
            owner: self.me.clone(),
            applied: self.log.seq(),
            heartbeat: self.heartbeat,
            age_ms: 0,
        }];
        entries.extend(self.known_owners());
        self.send_entries(conn, entries, false);
    }

    pub(super) fn digest(&mut self, conn: ConnId, digest: Digest) {
        let Some(peer) = self.peer_of(conn) else {
            return;
        };
        for entry in &digest.entries {
            self.observe(&peer, &entry.owner, entry.heartbeat, entry.age_ms);
            let replica = self.replicas.get_mut(&entry.owner);
            let behind = replica.is_some_and(|replica| {
                if entry.owner.node == peer {
                    replica.announced = replica.announced.max(entry.applied);
                }
                !replica.superseded && entry.applied > replica.applied
            });
            if behind {
                self.wants(conn, &entry.owner, entry.applied);
            }
            // The peer knows it in a life that is over, or that came after its clock was set back.
            let node = &entry.owner.node;
            let current = self.current(node);
            let older = current.is_some_and(|current| current.boot > entry.owner.boot);
            if older && *node != peer && self.link_to(node).is_none() {
                self.tell_newer_life(conn, node);
            }
        }
        if digest.reply {
            return;
        }
        self.release_early_of(&peer);
        let theirs: std::collections::BTreeMap<&OwnerId, u64> = digest
            .entries
            .iter()
            .map(|e| (&e.owner, e.applied))
            .collect();
        let own = DigestEntry {
            owner: self.me.clone(),
            applied: self.log.seq(),
            heartbeat: self.heartbeat,
            age_ms: 0,
        };
        let ahead: Vec<DigestEntry> = std::iter::once(own)
            .chain(self.known_owners())
            .filter(|mine| mine.owner.node != peer)
            .filter(|mine| {
                theirs
                    .get(&mine.owner)
                    .is_none_or(|applied| mine.applied > *applied)
            })
            .collect();
        if !ahead.is_empty() {
            self.send_entries(conn, ahead, true);
        }
    }

    fn known_owners(&self) -> Vec<DigestEntry> {
        self.replicas
            .iter()
            .filter(|(_, replica)| replica.visible && !replica.superseded)
            .map(|(owner, replica)| DigestEntry {
                owner: owner.clone(),
                applied: replica.applied,
                heartbeat: replica.heartbeat,
                age_ms: replica.heard_at.map_or(u32::MAX, |at| {
                    u32::try_from(self.now.since(at).as_millis()).unwrap_or(u32::MAX)
                }),
            })
            .collect()
    }

    fn send_entries(&mut self, conn: ConnId, entries: Vec<DigestEntry>, reply: bool) {
        for chunk in entries.chunks(DIGEST_ENTRIES_MAX) {
            let frame = Frame::Digest(Digest {
                entries: chunk.to_vec(),
                reply,
            });
            self.send(conn, Lane::Presence, &frame);
        }
    }
}
