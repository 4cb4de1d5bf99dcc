//! Relaying, around a partial partition or to the neighbours of a gateway: source-routed, two hops at most.
//!
//! The origin picks the relay and names the targets; a relay forwards only what came directly from
//! its origin, and what was forwarded once is never forwarded again, so nothing can go in circles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::super::event::Lane;
use super::super::identity::{ConnId, NodeName, Time};
use super::super::rule::Rule;
use super::super::wire::{
    DATAGRAM_WRAPPED_BYTES_MAX, Datagram, Delta, Digest, DigestEntry, Frame, Hello, OwnerId, Relay,
};
use super::Core;
use super::owner::DELTA_BYTES;

/// Another relay must have been better for this long before it takes over.
const HYSTERESIS: Duration = Duration::from_secs(2);
/// What a relay forwards for one origin, per second and at once.
const BUDGET_BYTES: u64 = 1024 * 1024;

/// Unsent bytes of a lane beyond which nothing is forwarded to its link.
const RELAYED_UNSENT_MAX: usize = 256 * 1024;
/// How often a node that only a relay reaches is told how far the messages are that were sent to it:
/// a relay may have dropped the last of them.
const TAIL_EVERY: Duration = Duration::from_secs(1);

/// Which relays are in use, and what was forwarded for whom.
#[derive(Debug, Default)]
pub(super) struct Relaying {
    /// Target → the relay in use and since when.
    routes: BTreeMap<NodeName, (NodeName, Time)>,
    budgets: BTreeMap<NodeName, (Time, u64)>,
    tails_at: Time,
}

impl Relaying {
    pub(super) fn to(&self, node: &NodeName) -> Option<&NodeName> {
        self.routes.get(node).map(|(relay, _)| relay)
    }

    pub(super) fn forget(&mut self, node: &NodeName) {
        self.routes.remove(node);
        self.budgets.remove(node);
    }

    /// Takes `bytes` from an origin's budget; false if it is used up.
    fn spend(&mut self, origin: &NodeName, now: Time, bytes: u64) -> bool {
        let (since, left) = self
            .budgets
            .entry(origin.clone())
            .or_insert((now, BUDGET_BYTES));
        let refill = u64::try_from(now.since(*since).as_micros()).unwrap_or(u64::MAX);
        let refill = refill.saturating_mul(BUDGET_BYTES) / 1_000_000;
        if refill > 0 {
            *since = now;
            *left = left.saturating_add(refill).min(BUDGET_BYTES);
        }
        match left.checked_sub(bytes) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

impl Core {
    /// The connection that leads to a node: its own, or a relay's with the node to name.
    pub(super) fn route(&self, node: &NodeName) -> Option<(ConnId, Option<NodeName>)> {
        if let Some((conn, _)) = self.link_to(node) {
            return Some((conn, None));
        }
        let relay = self.relay.to(node)?;
        let (conn, _) = self.link_to(relay)?;
        Some((conn, Some(node.clone())))
    }

    /// Chooses relays for visible nodes without a link, and drops those not needed any more.
    pub(super) fn check_relays(&mut self) {
        let wanted: Vec<NodeName> = self
            .replicas
            .iter()
            .filter(|(owner, replica)| {
                replica.visible && !replica.superseded && self.link_to(&owner.node).is_none()
            })
            .map(|(owner, _)| owner.node.clone())
            .collect();
        self.relay.routes.retain(|node, _| wanted.contains(node));
        if !self.holds(Rule::RelayUsed) {
            return;
        }
        for node in wanted {
            self.choose_relay(&node);
        }
        if self.now.since(self.relay.tails_at) >= TAIL_EVERY {
            self.relay.tails_at = self.now;
            let targets: Vec<NodeName> = self.relay.routes.keys().cloned().collect();
            for node in targets {
                self.send_tails(&node);
            }
            self.send_quiet_heads(TAIL_EVERY);
        }
    }

    fn choose_relay(&mut self, node: &NodeName) {
        let mut best: Option<(Duration, NodeName)> = None;
        let mut current = None;
        let used = self.relay.routes.get(node).cloned();
        for (owner, replica) in &self.replicas {
            if replica.superseded || owner.node == *node {
                continue;
            }
            let (Some((_, link)), Some(rtt)) =
                (self.link_to(&owner.node), replica.table.links.get(node))
            else {
                continue;
            };
            let cost = link.rtt + Duration::from_micros((*rtt).into());
            if used.as_ref().is_some_and(|(relay, _)| *relay == owner.node) {
                current = Some(cost);
            }
            if best.as_ref().is_none_or(|(lowest, _)| cost < *lowest) {
                best = Some((cost, owner.node.clone()));
            }
        }
        let Some((cost, relay)) = best else {
            self.relay.routes.remove(node);
            return;
        };
        let keep = match (&used, current) {
            (Some((_, since)), Some(current)) => {
                current <= cost || self.now.since(*since) < HYSTERESIS
            }
            _ => false,
        };
        if !keep {
            let fresh = used.is_none_or(|(before, _)| before != relay);
            self.relay
                .routes
                .insert(node.clone(), (relay.clone(), self.now));
            if fresh {
                self.push_through_relays();
                self.send_heads(node);
                self.send_all_current_cursors(node);
            }
        }
    }

    /// Own operations for nodes that only a relay reaches.
    pub(super) fn push_through_relays(&mut self) {
        let seq = self.log.seq();
        let targets: Vec<NodeName> = self.relay.routes.keys().cloned().collect();
        for node in targets {
            let (Some((conn, Some(_))), Some(peer)) =
                (self.route(&node), self.peers.get_mut(&node))
            else {
                continue;
            };
            let from = peer.pushed;
            if from >= seq {
                continue;
            }
            match self.log.after(from, DELTA_BYTES) {
                Some((ops, to)) => {
                    peer.pushed = to;
                    let frame = Frame::Delta(Delta {
                        owner: self.me.clone(),
                        from,
                        to,
                        ops,
                    });
                    self.send_relayed(conn, Lane::Presence, vec![node], &frame);
                }
                // The digests of the relay bring it as a snapshot.
                None => peer.pushed = seq,
            }
        }
    }

    /// The frame has to be one of the oldest version: that of the targets is not known here.
    pub(super) fn send_relayed(
        &mut self,
        conn: ConnId,
        lane: Lane,
        to: Vec<NodeName>,
        frame: &Frame,
    ) {
        self.counters.shared_copies_total += u64::from(to.len() > 1);
        let wrapped = Frame::Relay(Relay {
            origin: self.me.clone(),
            left: 1,
            to,
            inner: frame.encode(self.config.versions.oldest),
        });
        self.send(conn, lane, &wrapped);
    }

    pub(super) fn send_datagram_relayed(&mut self, conn: ConnId, to: Vec<NodeName>, inner: Bytes) {
        self.counters.shared_copies_total += u64::from(to.len() > 1);
        let wrapped = Datagram::Relay(Relay {
            origin: self.me.clone(),
            left: 1,
            to,
            inner,
        });
        self.send_datagram(conn, wrapped.encode(self.version_of(conn)), false);
    }

    pub(super) fn relay_frame(&mut self, conn: ConnId, lane: Lane, relay: Relay) {
        if relay.left == 0 {
            return self.open_frame(conn, &relay);
        }
        // A frame on a lane that is not its own may be longer than its own takes.
        let own_lane = match relay.inner.first() {
            Some(3 | 4) => Lane::Presence,
            _ => Lane::Messages,
        };
        if lane != own_lane {
            self.counters.relay_dropped_total += 1;
            return;
        }
        let is_for_me = self.is_gateway(conn, &relay);
        for (target, frame) in self.forwarded(conn, Some(lane), &relay) {
            self.send(target, lane, &Frame::Relay(frame));
        }
        if is_for_me {
            self.open_frame(conn, &relay);
        }
    }

    /// Takes what is inside a frame for this node.
    fn open_frame(&mut self, conn: ConnId, relay: &Relay) {
        let newest = self.config.versions.newest;
        match self
            .opened(relay)
            .then(|| Frame::decode(&relay.inner, newest))
        {
            Some(Ok(Frame::Delta(delta))) => self.delta(conn, Some(&relay.origin), delta),
            Some(Ok(Frame::Digest(digest))) => self.hear_of_newer_life(&relay.origin, &digest),
            Some(Ok(Frame::Messages(messages))) => {
                self.messages_frame(conn, Some(&relay.origin), messages);
            }
            Some(Ok(Frame::MessagePull(pull))) => {
                self.messages_pulled(&relay.origin.node, &pull);
            }
            _ => self.counters.relay_dropped_total += 1,
        }
    }

    pub(super) fn relay_datagram(&mut self, conn: ConnId, relay: Relay) {
        if relay.left == 0 {
            return self.open_datagram(&relay);
        }
        let is_for_me = self.is_gateway(conn, &relay);
        for (target, relay) in self.forwarded(conn, None, &relay) {
            let bytes = Datagram::Relay(relay).encode(self.version_of(target));
            if bytes.len() <= DATAGRAM_WRAPPED_BYTES_MAX {
                self.send_datagram(target, bytes, false);
            } else {
                self.counters.relay_dropped_total += 1;
            }
        }
        if is_for_me {
            self.open_datagram(&relay);
        }
    }

    fn open_datagram(&mut self, relay: &Relay) {
        let newest = self.config.versions.newest;
        match self
            .opened(relay)
            .then(|| Datagram::decode(&relay.inner, newest))
        {
            Some(Ok(Datagram::Cursors { boot, records })) if boot == relay.origin.boot => {
                self.cursor_batch(&relay.origin, &records);
            }
            _ => self.counters.relay_dropped_total += 1,
        }
    }

    /// Whether something to be passed on is for this node too, and comes from its origin itself.
    fn is_gateway(&self, conn: ConnId, relay: &Relay) -> bool {
        relay.to.contains(&self.me.node)
            && self
                .peer_of(conn)
                .is_some_and(|peer| peer == relay.origin.node)
    }

    /// A node that only a relay reaches speaks out of a life that is over as far as this node knows:
    /// its clock was set back, and no Hello can tell it so.
    pub(super) fn tell_newer_life(&mut self, conn: ConnId, node: &NodeName) {
        let known = self.current(node);
        let Some(owner) = known.filter(|_| self.holds(Rule::NewerLifeIsTold)) else {
            return;
        };
        let entry = DigestEntry {
            owner,
            applied: 0,
            heartbeat: 0,
            age_ms: u32::MAX,
        };
        let digest = Frame::Digest(Digest {
            entries: vec![entry],
            reply: true,
        });
        self.send_relayed(conn, Lane::Presence, vec![node.clone()], &digest);
    }

    /// The answer to that: only what it says of this node counts.
    fn hear_of_newer_life(&mut self, from: &OwnerId, digest: &Digest) {
        for entry in &digest.entries {
            if entry.owner.node == self.me.node {
                self.observe(&from.node, &entry.owner, entry.heartbeat, entry.age_ms);
            }
        }
    }

    /// Whether a forwarded frame is for this node and from somebody else.
    fn opened(&self, relay: &Relay) -> bool {
        relay.origin.node != self.me.node && relay.to.contains(&self.me.node)
    }

    /// What to forward to whom, on a lane or as a datagram. A link that does not keep up gets nothing
    /// more: what waits for it is bounded, and the link is needed for its own.
    fn forwarded(
        &mut self,
        conn: ConnId,
        lane: Option<Lane>,
        relay: &Relay,
    ) -> Vec<(ConnId, Relay)> {
        let direct = self
            .peer_of(conn)
            .is_some_and(|peer| peer == relay.origin.node);
        if !direct && self.holds(Rule::RelayOnce) {
            self.counters.relay_dropped_total += 1;
            return Vec::new();
        }
        let mut out = Vec::new();
        // Neighbours are what a gateway is for; the detours of others are a favour.
        let is_gateway = relay.to.contains(&self.me.node);
        // Whoever is named twice gets it once: what a link takes is looked at before anything is sent.
        let targets: BTreeSet<&NodeName> = relay.to.iter().collect();
        for node in targets.into_iter().filter(|node| **node != self.me.node) {
            let Some((target, link)) = self.link_to(node) else {
                self.counters.relay_dropped_total += 1;
                continue;
            };
            let keeps_up = lane.is_none_or(|lane| link.unsent(lane) <= RELAYED_UNSENT_MAX);
            let is_near = |hello: &Hello| hello.region == self.config.region;
            let is_neighbour = is_gateway && link.hello.as_ref().is_some_and(is_near);
            let bytes = relay.inner.len() as u64;
            if !keeps_up || !(is_neighbour || self.relay.spend(&relay.origin.node, self.now, bytes))
            {
                self.counters.relay_dropped_total += 1;
                continue;
            }
            self.counters.relayed_total += 1;
            out.push((
                target,
                Relay {
                    origin: relay.origin.clone(),
                    left: 0,
                    to: vec![node.clone()],
                    inner: relay.inner.clone(),
                },
            ));
        }
        out
    }

    /// The node that stands between this one and a target, for the overview.
    pub(super) fn relay_of(&self, node: &NodeName) -> Option<NodeName> {
        self.relay.to(node).cloned()
    }
}
