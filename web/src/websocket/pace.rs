//! How fast one connection is read.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes read from one connection and passed on for it in one tick; the rest waits in its socket, so
/// that a client that floods does not make its room pause all others.
pub(super) const TICK_BYTES: usize = 128 * 1024;

/// Bytes read at a time, and the least time between two reads, from a client that does not take what
/// is sent to it. A client that writes first and reads then is paced by this instead of missing what
/// it could not read while it wrote; one that never reads is slowed, alone.
pub(super) const CLOGGED_READ_BYTES: usize = 4 * 1024;
const CLOGGED_PAUSE: Duration = Duration::from_millis(50);

/// What a connection was read lately.
#[derive(Debug)]
pub(super) struct Pace {
    last_read: Instant,
    /// When the tick ends that `spent` belongs to.
    tick_end: Instant,
    spent: usize,
    /// The node has enough to do until then.
    rests_until: Instant,
}

impl Pace {
    /// Of a connection that begins `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last_read: now,
            tick_end: now,
            spent: 0,
            rests_until: now,
        }
    }

    /// When the next read may be; `clogged` says that the client does not take what is sent to it.
    pub(super) fn next_read(&self, clogged: bool) -> Instant {
        let next = if clogged {
            self.last_read + CLOGGED_PAUSE
        } else if self.is_spent() {
            self.tick_end
        } else {
            self.last_read
        };
        next.max(self.rests_until)
    }

    /// It is read `now`.
    pub(super) fn begin(&mut self, now: Instant, tick: Duration) {
        self.last_read = now;
        if now >= self.tick_end {
            self.tick_end = now + tick;
            self.spent = 0;
        }
    }

    /// It made the node take or pass on so many bytes.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.spent += bytes;
    }

    /// Whether it has had what it may have in a tick.
    pub(super) fn is_spent(&self) -> bool {
        self.spent >= TICK_BYTES
    }

    /// It is not read before `until`.
    pub(super) fn rest(&mut self, until: Instant) {
        self.rests_until = until;
    }
}
