//! When rooms flush, and how often.
//!
//! The tick is the least time between two flushes of a room. It is the configured one as long as the
//! threads that flush keep up. When they do not, the tick grows: a flush costs one write per connection
//! whatever is in it, so fewer flushes are less work, and positions that are a little coarser are better
//! than positions that are late. It shrinks again when there is time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::time::{Duration, Instant, sleep_until};

use super::room::Room;

/// The longest tick: below ten frames a second a cursor does not look alive.
const TICK_MAX: Duration = Duration::from_millis(100);

/// Something that runs flushes when they are due.
pub(crate) trait Host: Send + Sync {
    /// Flushes `room` at `due`, or as soon after it as it can; gives it back if it runs no flushes any
    /// more.
    fn flush_at(&self, due: Instant, room: Arc<Room>) -> Result<(), Arc<Room>>;
}

/// A host and how busy it is.
pub(crate) type Hosted = (Arc<dyn Host>, Arc<Load>);

/// The tick of one node, and who runs its flushes.
pub(crate) struct Ticker {
    configured: Duration,
    began: Instant,
    hosts: OnceLock<Vec<Hosted>>,
}

impl Ticker {
    /// A ticker without hosts: flushes are tasks of the runtime until there are some.
    pub(crate) fn new(configured: Duration) -> Self {
        Self {
            configured,
            began: Instant::now(),
            hosts: OnceLock::new(),
        }
    }

    /// From now on `hosts` run the flushes, unless others do already.
    pub(crate) fn install(&self, hosts: Vec<Hosted>) {
        let _ = self.hosts.set(hosts);
    }

    /// The least time between two flushes of a room, at present.
    pub(crate) fn tick(&self) -> Duration {
        let hosts = self.hosts.get().map_or(&[][..], Vec::as_slice);
        let longest = hosts.iter().map(|(_, load)| load.tick()).max();
        longest.unwrap_or_default().max(self.configured)
    }

    /// When a room may flush again that did at `last`: a tick later, give or take half of one. All rooms
    /// flush at the same moments, so that whoever runs the flushes sleeps once per tick, not once per
    /// room, and the cluster is told of all of them at once.
    pub(crate) fn next_flush(&self, last: Instant) -> Instant {
        next_on_grid(self.began, last, self.tick())
    }

    /// Has the room with this number flushed at `due`.
    pub(crate) fn flush_at(&self, due: Instant, number: u32, room: Arc<Room>) {
        let hosted = match self.hosts.get().filter(|hosts| !hosts.is_empty()) {
            Some(hosts) => hosts[number as usize % hosts.len()].0.flush_at(due, room),
            None => Err(room),
        };
        if let Err(room) = hosted {
            tokio::spawn(async move {
                sleep_until(due).await;
                room.flush();
            });
        }
    }
}

/// The first whole number of ticks after `began` that is more than half a tick after `last`.
fn next_on_grid(began: Instant, last: Instant, tick: Duration) -> Instant {
    let tick = tick.max(Duration::from_micros(1));
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let ticks = nanos(last - began + tick / 2) / nanos(tick);
    began + Duration::from_nanos(nanos(tick) * (ticks + 1))
}

/// How busy one host is, by its own account, and the tick that follows from it.
#[derive(Debug)]
pub(crate) struct Load {
    configured: Duration,
    tick_us: AtomicU64,
}

impl Load {
    /// Of a host that has time.
    pub(crate) fn new(configured: Duration) -> Self {
        Self {
            configured,
            tick_us: AtomicU64::new(0),
        }
    }

    /// The tick that it can keep up with.
    pub(crate) fn tick(&self) -> Duration {
        Duration::from_micros(self.tick_us.load(Ordering::Relaxed)).max(self.configured)
    }

    fn set(&self, tick: Duration) {
        let us = u64::try_from(tick.as_micros()).unwrap_or(u64::MAX);
        self.tick_us.store(us, Ordering::Relaxed);
    }
}

/// Judges from time to time whether a host keeps up.
#[derive(Debug)]
pub(crate) struct Gauge {
    load: Arc<Load>,
    began: Instant,
    busy: Duration,
    late: Duration,
    flushes: u32,
}

impl Gauge {
    /// One judgement is made of so much time at least.
    const WINDOW: Duration = Duration::from_millis(200);
    /// Above this part of a processor it does not keep up for long.
    const BUSY_MAX: f64 = 0.95;
    /// Below this part there is time for a tick that is a step shorter: one step makes at most a
    /// quarter more work, so that the two bounds do not chase each other.
    const BUSY_ENOUGH: f64 = 0.70;
    const STEP: f64 = 1.25;

    /// Begins to judge, from `now` on.
    pub(crate) fn new(load: Arc<Load>, now: Instant) -> Self {
        Self {
            load,
            began: now,
            busy: Duration::ZERO,
            late: Duration::ZERO,
            flushes: 0,
        }
    }

    /// A flush ran so much after it was due.
    pub(crate) fn flushed(&mut self, late: Duration) {
        self.late += late;
        self.flushes += 1;
    }

    /// The host worked for `busy` until `now`.
    pub(crate) fn worked(&mut self, busy: Duration, now: Instant) {
        self.busy += busy;
        let window = now.saturating_duration_since(self.began);
        if window < Self::WINDOW {
            return;
        }
        let busy = self.busy.as_secs_f64() / window.as_secs_f64();
        let late = self.late / self.flushes.max(1);
        let before = self.load.tick();
        let after = self.judge(busy, late, before);
        if after != before {
            self.load.set(after);
            tracing::debug!(busy, ?late, tick = ?after, "the tick changed");
        }
        *self = Self::new(self.load.clone(), now);
    }

    fn judge(&self, busy: f64, late: Duration, tick: Duration) -> Duration {
        let configured = self.load.configured;
        let stretch = tick.as_secs_f64() / configured.as_secs_f64().max(f64::MIN_POSITIVE);
        // Time that others took from it shows as lateness. Fewer flushes help if they are what it does.
        if busy > Self::BUSY_MAX || (late > tick / 2 && busy > Self::BUSY_MAX / 2.0) {
            tick.mul_f64(Self::STEP).min(TICK_MAX.max(configured))
        } else if busy * stretch < Self::BUSY_ENOUGH {
            // There is time for the configured tick, whatever took it before.
            configured
        } else if busy < Self::BUSY_ENOUGH && late < tick / 4 {
            tick.div_f64(Self::STEP).max(configured)
        } else {
            tick
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(16);

    /// The tick after some windows of a host that is busy to `part`, were the tick the configured one.
    fn tick_after(windows: u32, part: f64, late: Duration, load: &Arc<Load>) -> Duration {
        let mut now = Instant::now();
        let mut gauge = Gauge::new(load.clone(), now);
        for _ in 0..windows {
            now += Gauge::WINDOW;
            let scaled = part * TICK.as_secs_f64() / load.tick().as_secs_f64();
            gauge.flushed(late);
            gauge.worked(Gauge::WINDOW.mul_f64(scaled.min(1.0)), now);
        }
        load.tick()
    }

    #[test]
    fn flushes_are_a_tick_apart_on_one_grid() {
        let began = Instant::now();
        let next = |last: Duration| next_on_grid(began, began + last, TICK) - began;
        let half = TICK / 2;
        let moment = Duration::from_micros(1);
        assert_eq!(next(Duration::ZERO), TICK);
        assert_eq!(next(half - moment), TICK);
        assert_eq!(next(half), TICK * 2);
        assert_eq!(next(TICK * 1000), TICK * 1001);
        assert_eq!(next(TICK * 1000 + half - moment), TICK * 1001);
        let year = Duration::from_secs(365 * 86_400);
        assert!(next(year) > year && next(year) <= year + TICK * 2);
    }

    #[test]
    fn the_tick_is_the_configured_one_while_there_is_time() {
        let load = Arc::new(Load::new(TICK));
        assert_eq!(tick_after(50, 0.8, Duration::ZERO, &load), TICK);
    }

    #[test]
    fn a_host_that_does_not_keep_up_flushes_less_often_until_it_does() {
        let load = Arc::new(Load::new(TICK));
        let settled = tick_after(50, 2.0, Duration::ZERO, &load);
        assert!(settled > TICK * 2 && settled < TICK * 4, "{settled:?}");
        assert_eq!(tick_after(50, 0.3, Duration::ZERO, &load), TICK);
    }

    #[test]
    fn the_tick_does_not_swing_under_a_steady_load() {
        let load = Arc::new(Load::new(TICK));
        let settled = tick_after(50, 1.5, Duration::ZERO, &load);
        for _ in 0..20 {
            assert_eq!(tick_after(1, 1.5, Duration::ZERO, &load), settled);
        }
    }

    #[test]
    fn flushes_that_come_late_count_as_too_much_work() {
        let load = Arc::new(Load::new(TICK));
        let late = tick_after(4, 1.0, Duration::from_millis(90), &load);
        assert!(late > TICK * 2, "{late:?}");
        let busy_with_others = Arc::new(Load::new(TICK));
        let late = tick_after(50, 0.1, Duration::from_millis(90), &busy_with_others);
        assert_eq!(late, TICK, "fewer flushes would not help");
    }

    #[test]
    fn once_there_is_time_the_tick_is_the_configured_one_at_once() {
        let load = Arc::new(Load::new(TICK));
        tick_after(50, 5.0, Duration::ZERO, &load);
        assert_eq!(tick_after(1, 0.3, Duration::ZERO, &load), TICK);
    }

    #[test]
    fn a_tick_configured_longer_than_the_longest_stays() {
        let configured = TICK_MAX * 2;
        let load = Arc::new(Load::new(configured));
        assert_eq!(tick_after(20, 50.0, Duration::ZERO, &load), configured);
    }
}
