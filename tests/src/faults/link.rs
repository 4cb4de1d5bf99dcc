//! One direction between two nodes: what becomes of each packet, without sockets or a clock.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What a direction does to packets. The default does nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Nothing passes.
    pub cut: bool,
    /// Added to every packet's way.
    pub delay: Duration,
    /// Up to so much more, evenly; packets keep their order all the same.
    pub jitter: Duration,
    /// The share of packets that are lost, 0 to 1, each independent of the others.
    pub loss: f64,
    /// The share of packets that come later than those behind them, 0 to 1.
    pub reorder: f64,
    /// The share of packets that come twice, 0 to 1.
    pub duplicate: f64,
    /// The most bits per second; `None`: as many as come.
    pub rate: Option<u64>,
    /// How many bytes may wait for the rate; a packet beyond that is lost.
    pub queue: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            cut: false,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            reorder: 0.0,
            duplicate: 0.0,
            rate: None,
            queue: 16 * 1024,
        }
    }
}

/// How much later a reordered packet comes, at least.
const REORDER_BY: Duration = Duration::from_millis(5);
/// How much later the second of two equal packets comes.
const DUPLICATE_AFTER: Duration = Duration::from_millis(1);
/// What a rate lets pass at once after a pause.
const BURST_BYTES: f64 = 3000.0;

/// What was counted of a direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that came.
    pub packets: u64,
    /// Their bytes, without IP and UDP headers.
    pub bytes: u64,
    /// Packets that were passed on, duplicates included.
    pub passed: u64,
    /// Packets that a cut stopped.
    pub cut: u64,
    /// Packets that the loss took.
    pub lost: u64,
    /// Packets for which the rate's queue had no room.
    pub overflowed: u64,
}

/// One direction between two nodes.
#[derive(Debug)]
pub struct Link {
    faults: Faults,
    counters: Counters,
    rng: StdRng,
    /// When the last packet in order leaves.
    last: Option<Instant>,
    /// When the rate has sent what was let in so far.
    busy_until: Option<Instant>,
}

impl Link {
    /// A direction without faults. The seed decides all chances.
    pub fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            counters: Counters::default(),
            rng: StdRng::seed_from_u64(seed),
            last: None,
            busy_until: None,
        }
    }

    /// What it does to packets.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Changes what it does to packets that come from now on.
    pub fn set(&mut self, faults: Faults) {
        if faults.rate != self.faults.rate {
            self.busy_until = None;
        }
        self.faults = faults;
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// When a packet of `bytes` that comes now leaves: never, once or twice.
    pub fn pass(&mut self, now: Instant, bytes: usize) -> [Option<Instant>; 2] {
        self.counters.packets += 1;
        self.counters.bytes += bytes as u64;
        if self.faults.cut {
            self.counters.cut += 1;
            return [None, None];
        }
        if self.happens(self.faults.loss) {
            self.counters.lost += 1;
            return [None, None];
        }
        let Some(sent) = self.send(now, bytes) else {
            self.counters.overflowed += 1;
            return [None, None];
        };
        let mut at = sent + self.faults.delay;
        if !self.faults.jitter.is_zero() {
            at += self.faults.jitter.mul_f64(self.rng.random());
        }
        if self.happens(self.faults.reorder) {
            at += REORDER_BY + self.faults.jitter;
        } else {
            at = self.last.map_or(at, |last| at.max(last));
            self.last = Some(at);
        }
        self.counters.passed += 1;
        let again = self.happens(self.faults.duplicate).then(|| {
            self.counters.passed += 1;
            at + DUPLICATE_AFTER
        });
        [Some(at), again]
    }

    /// When the rate lets a packet out; `None` if its queue is full.
    fn send(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(rate) = self.faults.rate else {
            return Some(now);
        };
        let per_byte = 8.0 / rate.max(1) as f64;
        let took = |bytes: f64| Duration::from_secs_f64((bytes * per_byte).min(3600.0));
        // Being ahead by a burst is a debt of the past: the clock of the rate may lag by that much.
        let burst = took(BURST_BYTES);
        let lagging = now.checked_sub(burst).unwrap_or(now);
        let busy_until = self.busy_until.map_or(lagging, |until| until.max(lagging));
        let waiting = busy_until.saturating_duration_since(now).as_secs_f64() / per_byte;
        if waiting > 0.0 && waiting + bytes as f64 > self.faults.queue as f64 {
            return None;
        }
        let done = busy_until + took(bytes as f64);
        self.busy_until = Some(done);
        Some(done.max(now))
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.random::<f64>() < share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(faults: Faults) -> Link {
        let mut link = Link::new(1);
        link.set(faults);
        link
    }

    fn share(link: &mut Link, of: impl Fn([Option<Instant>; 2]) -> bool) -> f64 {
        let now = Instant::now();
        (0..10_000).filter(|_| of(link.pass(now, 100))).count() as f64 / 10_000.0
    }

    #[test]
    fn without_faults_a_packet_leaves_when_it_comes() {
        let now = Instant::now();
        let mut link = link(Faults::default());
        assert_eq!(link.pass(now, 1200), [Some(now), None]);
        let counters = link.counters();
        assert_eq!(
            (counters.packets, counters.bytes, counters.passed),
            (1, 1200, 1)
        );
    }

    #[test]
    fn a_cut_passes_nothing_and_counts_it() {
        let mut link = link(Faults {
            cut: true,
            ..Faults::default()
        });
        assert_eq!(share(&mut link, |out| out[0].is_some()), 0.0);
        assert_eq!(link.counters().cut, 10_000);
    }

    #[test]
    fn loss_and_duplicates_are_as_frequent_as_said() {
        let mut lossy = link(Faults {
            loss: 0.05,
            ..Faults::default()
        });
        let lost = share(&mut lossy, |out| out[0].is_none());
        assert!((0.04..0.06).contains(&lost), "{lost}");
        let mut double = link(Faults {
            duplicate: 0.1,
            ..Faults::default()
        });
        let twice = share(&mut double, |out| out[1].is_some());
        assert!((0.08..0.12).contains(&twice), "{twice}");
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_breaks_it() {
        let now = Instant::now();
        let (delay, jitter) = (Duration::from_millis(20), Duration::from_millis(10));
        let times = |link: &mut Link| -> Vec<Instant> {
            (0..1000u32)
                .filter_map(|n| link.pass(now + Duration::from_micros(100) * n, 100)[0])
                .collect()
        };
        let steady = times(&mut link(Faults {
            delay,
            jitter,
            ..Faults::default()
        }));
        assert!(steady.is_sorted());
        assert!(steady.iter().all(|at| *at >= now + delay));
        let mixed = times(&mut link(Faults {
            delay,
            reorder: 0.1,
            ..Faults::default()
        }));
        assert!(!mixed.is_sorted());
    }

    #[test]
    fn a_rate_spaces_packets_and_loses_what_its_queue_cannot_hold() {
        let now = Instant::now();
        let faults = Faults {
            rate: Some(1_000_000),
            queue: 10_000,
            ..Faults::default()
        };
        let mut limited = link(faults.clone());
        let out: Vec<Instant> = (0..100)
            .filter_map(|_| limited.pass(now, 1000)[0])
            .collect();
        // A burst of 3 leaves at once, 10 wait, the rest is lost; each takes 8 ms.
        assert_eq!(out.len(), 13, "{:?}", limited.counters());
        assert_eq!(limited.counters().overflowed, 87);
        assert!(
            out[12]
                .duration_since(now)
                .abs_diff(Duration::from_millis(80))
                < Duration::from_millis(1)
        );
        // In the long run no more than the rate passes.
        let mut limited = link(faults);
        let passed = (0..10_000u32)
            .filter(|n| limited.pass(now + Duration::from_millis(1) * *n, 1000)[0].is_some())
            .count();
        assert!((1245..1270).contains(&passed), "{passed} kB in 10 s");
    }

    #[test]
    fn the_same_seed_has_the_same_chances() {
        let now = Instant::now();
        let run = |seed| -> Vec<bool> {
            let mut link = Link::new(seed);
            link.set(Faults {
                loss: 0.3,
                ..Faults::default()
            });
            (0..200).map(|_| link.pass(now, 1)[0].is_some()).collect()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
