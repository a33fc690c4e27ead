//! Latencies, counted in buckets that are three per cent wide.

/// Counts of nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

/// Buckets for each doubling: 2^5 makes them three per cent wide.
const FINE: u32 = 5;

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; (64 << FINE) as usize], total: 0, largest: 0 }
    }

    /// Counts one.
    pub(crate) fn add(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
        self.largest = self.largest.max(nanoseconds);
    }

    /// The least time that this share of all did not exceed, microseconds; 0 where there are none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(bucket).min(self.largest) as f64 / 1e3;
            }
        }
        0.0
    }

    /// The longest, microseconds.
    pub(crate) fn largest(&self) -> f64 {
        self.largest as f64 / 1e3
    }
}

fn bucket(value: u64) -> usize {
    let bits = 64 - value.leading_zeros();
    match bits.checked_sub(FINE + 1) {
        None => value as usize,
        Some(shift) => (((u64::from(shift) + 1) << FINE) + (value >> shift) - (1 << FINE)) as usize,
    }
}

/// The largest value that falls in a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    match (bucket >> FINE).checked_sub(1) {
        None => bucket,
        Some(shift) => ((((bucket & ((1 << FINE) - 1)) | 1 << FINE) + 1) << shift) - 1,
    }
}

/// The middle of so many, or the mean of the two in the middle; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[len / 2],
        len => (values[len / 2 - 1] + values[len / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_three_per_cent_right() {
        let mut histogram = Histogram::new();
        (1..=100_000).for_each(|n| histogram.add(n * 1_000));
        for share in [0.001, 0.5, 0.99, 0.999] {
            let (found, right) = (histogram.quantile(share), share * 100_000.0);
            assert!(found >= right && found < 1.04 * right, "{share}: {found}");
        }
        assert_eq!((histogram.quantile(1.0), histogram.largest()), (100_000.0, 100_000.0));
    }

    #[test]
    fn every_value_is_in_a_bucket_that_reaches_no_higher_than_needed() {
        for value in (0..70).chain((6..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit])) {
            assert!(upper(bucket(value)) >= value);
            assert!(bucket(value) == 0 || upper(bucket(value) - 1) < value, "{value}");
        }
    }
}
