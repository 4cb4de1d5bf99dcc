//! Ages in microseconds, kept to within 1.6 %.

/// Each power of two is divided into so many buckets.
const SUB: u64 = 64;

/// Counts of values; of any number of them in the same memory.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; index(u64::MAX) + 1],
            total: 0,
            largest: 0,
        }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, value: u64) {
        self.counts[index(value)] += 1;
        self.total += 1;
        self.largest = self.largest.max(value);
    }

    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.largest = 0;
    }

    /// The value that so many of all (0 to 1) do not exceed; `None` if there is none.
    pub(super) fn quantile(&self, part: f64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        if part >= 1.0 {
            return Some(self.largest);
        }
        let mut left = (self.total as f64 * part).ceil().max(1.0) as u64;
        for (index, count) in self.counts.iter().enumerate() {
            if *count >= left {
                return Some(upper(index).min(self.largest));
            }
            left -= count;
        }
        Some(self.largest)
    }
}

fn index(value: u64) -> usize {
    let (shift, rest) = if value < SUB {
        (0, value)
    } else {
        let shift = u64::from(value.ilog2() - SUB.ilog2());
        (shift + 1, (value >> shift) - SUB)
    };
    usize::try_from(shift * SUB + rest).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let (shift, rest) = (index as u64 / SUB, index as u64 % SUB);
    match shift.checked_sub(1) {
        None => rest,
        Some(shift) => ((SUB + rest) << shift) + ((1 << shift) - 1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|value| histogram.add(value));
        for part in [0.01, 0.5, 0.9, 0.99] {
            let exact = 100_000.0 * part;
            let told = histogram.quantile(part).unwrap() as f64;
            assert!((told - exact).abs() <= exact * 0.02, "{part}: {told}");
        }
        assert_eq!(histogram.quantile(1.0), Some(100_000));
    }

    #[test]
    fn any_value_has_a_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for value in [0, 1, 63, 64, 65, 1_000_000, u64::MAX] {
            histogram.add(value);
            assert!(upper(index(value)) >= value);
        }
        histogram.clear();
        assert_eq!(histogram.quantile(0.5), None);
    }
}
