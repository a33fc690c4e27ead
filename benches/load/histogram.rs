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
