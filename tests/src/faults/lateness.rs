//! How late a delayed packet leaves: timers and a busy machine add to what was asked for, and whoever
//! measures through the proxy has to know how much.

use std::time::Duration;

/// One bucket's width.
const STEP: Duration = Duration::from_micros(100);
/// Beyond the last bucket only the largest is known.
const BUCKETS: usize = 1000;

/// How many packets were how late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lateness {
    /// By steps of 0.1 ms; as long as needed.
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Lateness {
    /// Counts one packet.
    pub fn note(&mut self, late: Duration) {
        let index = (late.as_micros() / STEP.as_micros()) as usize;
        let index = index.min(BUCKETS);
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, 0);
        }
        self.buckets[index] += 1;
        self.count += 1;
        self.max = self.max.max(late);
    }

    /// Counts all that another counted.
    pub fn add(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many packets were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latest.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// A quantile (0 to 1), rounded up to a tenth of a millisecond; zero of none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let wanted = (self.count as f64 * quantile) as u64;
        let mut before = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            before += count;
            if before > wanted && index < BUCKETS {
                return (STEP * (index as u32 + 1)).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_noted() {
        let mut late = Lateness::default();
        assert_eq!(late.quantile(0.5), Duration::ZERO);
        for micros in 0..1000 {
            late.note(Duration::from_micros(micros * 10));
        }
        assert_eq!(late.count(), 1000);
        assert_eq!(late.quantile(0.5), Duration::from_micros(5100));
        assert_eq!(late.quantile(0.99), Duration::from_micros(9990));
        assert_eq!(late.max(), Duration::from_micros(9990));
    }

    #[test]
    fn what_is_very_late_counts_with_the_largest_and_sums_are_those_of_both() {
        let (mut one, mut other) = (Lateness::default(), Lateness::default());
        one.note(Duration::from_millis(1));
        other.note(Duration::from_secs(3));
        one.add(&other);
        assert_eq!((one.count(), one.max()), (2, Duration::from_secs(3)));
        assert_eq!(one.quantile(0.0), Duration::from_micros(1100));
        assert_eq!(one.quantile(0.9), Duration::from_secs(3));
    }
}
