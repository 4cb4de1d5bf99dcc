//! Round trips: how far away each peer is, and for how long an answer of it is waited for.
//!
//! A peer's round trip is smoothed as in RFC 6298, from two sources: what the transport measured of
//! the link, taken in with every heartbeat, and the way of SWIM's own probes and their
//! acknowledgements, which has in it what the peer's process takes. Of a node without a link it is
//! that of the way through its relay; of one that has neither, the last that was measured.
//!
//! What is waited for by this measure has a floor, since a peer on the same machine may stand still
//! for some hundred milliseconds, and a ceiling, which the bounds of docs/presence.md need.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::identity::{NodeName, RoomName, Time};
use super::super::rule::Rule;
use super::Core;

/// A way that was not measured yet: the first guess of RFC 9002.
const UNKNOWN: Duration = Duration::from_millis(333);
/// An answer may come so much later than the last ones at least: processors are shared.
const LATE_MIN: Duration = Duration::from_millis(100);
/// Nor is one waited for that comes later than this, however much the way varies.
const LATE_MAX: Duration = Duration::from_millis(300);
/// A sample beyond this says more of a process that stood still than of the way to it.
const SAMPLE_MAX: Duration = Duration::from_secs(2);
/// Up to this round trip a link that breaks is there again before evidence of four seconds is too old.
pub(super) const NEAR_MAX: Duration = Duration::from_millis(300);
/// Evidence is waited for longer the farther a node is, up to this round trip.
const FAR_MAX: Duration = Duration::from_secs(1);

/// A smoothed round trip and how much it varies.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl RoundTrip {
    /// Takes in what one exchange took.
    pub(super) fn take(&mut self, sample: Duration) {
        let sample = sample.min(SAMPLE_MAX);
        match self.smoothed {
            None => {
                self.smoothed = Some(sample);
                // Half of it, as RFC 6298 has it, would be for a single exchange; the transport has
                // smoothed a handshake's.
                self.variation = sample / 8;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    /// Within this an answer is there unless something is wrong.
    fn answer(&self) -> Duration {
        let late = (self.variation * 4).clamp(LATE_MIN, LATE_MAX);
        self.smoothed.unwrap_or(UNKNOWN) + late
    }
}

/// SWIM's probes that were not acknowledged yet: number and when it was sent, one for each node.
#[derive(Debug, Default)]
pub(super) struct Probes(BTreeMap<NodeName, (u8, Time)>);

impl Core {
    /// Takes in what the transport measured of each link.
    pub(super) fn measure_links(&mut self) {
        for peer in self.peers.values_mut() {
            let link = peer.up.and_then(|conn| self.conns.get(&conn));
            if let Some(link) = link.filter(|link| !link.rtt.is_zero()) {
                peer.round_trip.take(link.rtt);
            }
        }
    }

    /// SWIM probes a node.
    pub(super) fn note_probe(&mut self, node: &NodeName, number: u8) {
        if self.peers.contains_key(node) {
            self.probes.0.insert(node.clone(), (number, self.now));
        }
    }

    /// A node acknowledges a probe.
    pub(super) fn note_probe_answered(&mut self, node: &NodeName, number: u8) {
        let probe = self.probes.0.remove(node);
        let Some((_, sent_at)) = probe.filter(|(asked, _)| *asked == number) else {
            return;
        };
        // After a pause of this process the answer may have waited in a socket's buffer.
        if self.arrived_since() == self.now
            && let Some(peer) = self.peers.get_mut(node)
        {
            peer.round_trip.take(self.now.since(sent_at));
        }
    }

    /// Nothing is kept of a node that is forgotten.
    pub(super) fn forget_probe(&mut self, node: &NodeName) {
        self.probes.0.remove(node);
    }

    /// The way to a node: the first hop, and what comes after it if that is a relay.
    fn way_to(&self, node: &NodeName) -> (RoundTrip, Duration) {
        let measured = |node| self.peers.get(node).map(|peer| peer.round_trip);
        let relay = self.relay.to(node).filter(|_| self.link_to(node).is_none());
        let behind = relay.and_then(|relay| {
            let replica = self.replicas.get(&self.current(relay)?)?;
            let behind = Duration::from_micros((*replica.table.links.get(node)?).into());
            Some((measured(relay)?, behind))
        });
        behind.unwrap_or_else(|| (measured(node).unwrap_or_default(), Duration::ZERO))
    }

    /// The smoothed round trip to a node; `None` if it was never measured.
    pub(super) fn round_trip(&self, node: &NodeName) -> Option<Duration> {
        let (first, behind) = self.way_to(node);
        Some(first.smoothed? + behind)
    }

    /// Within this an answer of a node is there unless something is wrong.
    pub(super) fn answer_within(&self, node: &NodeName) -> Duration {
        let (first, behind) = self.way_to(node);
        first.answer() + behind
    }

    /// How long the answer of a node is waited for before it, or another one, is asked again.
    pub(super) fn ask_again_after(&self, node: &NodeName) -> Duration {
        let bounds = (Duration::from_millis(200), Duration::from_secs(1));
        self.answer_within(node).clamp(bounds.0, bounds.1)
    }

    /// How long all answers about a room are waited for: three times what the farthest takes of those
    /// that may have one. Before that a lost packet is sent again, and who did not answer is passed over.
    pub(super) fn answers_within(&self, room: &RoomName, floor: Duration) -> Duration {
        if !self.holds(Rule::PatienceFollowsRoundTrip) {
            return Duration::from_millis(1_500);
        }
        let interested = self.watchers.get(room).into_iter().flatten();
        let visible = interested.filter(|node| {
            let current = self.current(node);
            current.is_some_and(|current| self.is_visible(&current))
        });
        let farthest = visible.map(|node| self.answer_within(node)).max();
        let patience = farthest.unwrap_or_default() * 3;
        patience.clamp(floor, Duration::from_secs(3))
    }

    /// How old evidence of a node may get before it is hidden. A far node's outlives a link that
    /// breaks (2.5 s) and is dialled again (2.5 round trips until the other end's Hello is here).
    pub(super) fn evidence_max_of(&self, node: &NodeName) -> Duration {
        let base = self.evidence_max();
        if !self.holds(Rule::EvidenceFollowsRoundTrip) {
            return base;
        }
        let far = self.round_trip(node).unwrap_or_default().min(FAR_MAX);
        base + far.saturating_sub(NEAR_MAX) * 5 / 2
    }

    /// How much longer than on a near link silence is borne on one to this node.
    pub(super) fn farness(&self, node: &NodeName) -> Duration {
        let far = self.round_trip(node).unwrap_or_default().min(FAR_MAX);
        far.saturating_sub(NEAR_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_answer_is_awaited_for_as_long_as_answers_take() {
        let mut way = RoundTrip::default();
        assert_eq!(way.answer(), UNKNOWN + LATE_MIN);
        for _ in 0..50 {
            way.take(MS);
        }
        assert!(way.answer() <= LATE_MIN + MS, "{way:?}");
        for turn in 0..50 {
            way.take((if turn % 2 == 0 { 550 } else { 650 }) * MS);
        }
        assert!(
            way.answer() > 750 * MS && way.answer() < 900 * MS,
            "{way:?}"
        );
    }

    #[test]
    fn a_pause_of_the_peer_is_no_way_to_it() {
        let mut way = RoundTrip::default();
        (0..50).for_each(|_| way.take(10 * MS));
        way.take(60_000 * MS);
        assert!(
            way.smoothed.is_some_and(|smoothed| smoothed < 300 * MS),
            "{way:?}"
        );
        (0..50).for_each(|_| way.take(10 * MS));
        assert!(way.answer() <= 130 * MS, "{way:?}");
    }
}
