//! Gap-free ranges of keys and the table that finds a key's range.
//!
//! *Owns*: [`Ranges`], the growing list; [`RangeTable`], the frozen one with a first-level index;
//! [`ExactRanges`], the frozen one for few ranges. *Guarantees*: a look-up neither allocates nor
//! fails, and the scope it gives is the shortest prefix length that stays within the key's range.
//! *Does not*: know what keys and values mean.

use std::fmt;

use crate::model::fetch;

/// An address, or the part of it that tells networks apart.
pub(super) trait Key: Copy + Ord + fmt::Debug {
    /// The first key.
    const ZERO: Self;

    /// The key as the low bits of a number.
    fn to_bits(self) -> u128;

    /// The key before this one.
    fn previous(self) -> Option<Self>;

    /// How many leading bits two keys have in common.
    fn common_bits(self, other: Self) -> u8;
}

macro_rules! key {
    ($($int:ty),*) => {$(
        impl Key for $int {
            const ZERO: Self = 0;

            fn to_bits(self) -> u128 {
                self.into()
            }

            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }

            fn common_bits(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }
        }
    )*};
}
key!(u32, u64, u128);

/// A key that splits into a bucket, its top sixteen bits, and the rest.
pub(super) trait Indexed: Key {
    /// The rest, in as few octets as it takes: tables are millions of these.
    type Low: Copy + Ord + Default + fmt::Debug;

    /// Bucket and rest.
    fn split(self) -> (usize, Self::Low);

    /// The key with this bucket and rest.
    fn join(bucket: usize, low: Self::Low) -> Self;

    /// How many of `count` ranges of a bucket begin at or before the rest, if they are all as wide;
    /// `None` where they never are.
    fn guess(low: Self::Low, count: usize) -> Option<usize>;
}

impl Indexed for u32 {
    type Low = u16;

    fn split(self) -> (usize, u16) {
        ((self >> 16) as usize, self as u16)
    }

    fn join(bucket: usize, low: u16) -> Self {
        (bucket as u32) << 16 | u32::from(low)
    }

    #[inline]
    fn guess(low: u16, count: usize) -> Option<usize> {
        Some(((usize::from(low) * count) >> 16) + usize::from(count > 0))
    }
}

impl Indexed for u64 {
    type Low = Low48;

    fn split(self) -> (usize, Low48) {
        ((self >> 48) as usize, Low48([(self >> 32) as u16, (self >> 16) as u16, self as u16]))
    }

    fn join(bucket: usize, low: Low48) -> Self {
        (bucket as u64) << 48 | low.to_bits()
    }

    #[inline]
    fn guess(_: Low48, _: usize) -> Option<usize> {
        // A registry's /12 has thousands of networks, and most of it none.
        None
    }
}

/// Forty-eight bits in six octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Low48([u16; 3]);

impl Low48 {
    fn to_bits(self) -> u64 {
        let [high, middle, low] = self.0.map(u64::from);
        high << 32 | middle << 16 | low
    }
}

impl Ord for Low48 {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_bits().cmp(&other.to_bits())
    }
}

impl PartialOrd for Low48 {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The length of the widest prefix around `key` that lies in `start..next` (to the end of all
/// keys where there is no `next`).
///
/// A prefix leaves the range as soon as it holds the key before `start` or `next` itself, so it
/// must be one bit longer than what `key` shares with either.
fn scope_within<K: Key>(key: K, start: K, next: Option<K>) -> u8 {
    let beyond = |outside: K| 1 + key.common_bits(outside);
    let before = start.previous().map_or(0, beyond);
    before.max(next.map_or(0, beyond))
}

/// A growing list of ranges in ascending order: each begins at its start and ends before the
/// next one's. Neighbours always differ in value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ranges<K, V> {
    starts: Vec<K>,
    values: Vec<V>,
}

impl<K, V> Default for Ranges<K, V> {
    fn default() -> Self {
        Self { starts: Vec::new(), values: Vec::new() }
    }
}

impl<K: Key, V: Copy + Eq> Ranges<K, V> {
    /// From `start` on the value is `value`. Starts ascend from zero; a repeated start replaces
    /// what was said of it before.
    pub(super) fn push(&mut self, start: K, value: V) {
        debug_assert!(self.starts.last().map_or(start.to_bits() == 0, |&last| last <= start));
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    /// The ranges' starts and values in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.starts.iter().copied().zip(self.values.iter().copied())
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Gives back the room that growing left over.
    pub(super) fn shrink(&mut self) {
        self.starts.shrink_to_fit();
        self.values.shrink_to_fit();
    }
}

/// How many buckets the first-level index has. At 2^16 a bucket of the IPv4 Internet holds about
/// a dozen ranges, one or two cache lines, and the index itself stays within a second-level cache.
const BUCKETS: usize = 1 << 16;

/// Frozen ranges that cover every key, found through a first-level index.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RangeTable<K: Indexed, V> {
    /// One for each bucket, then one that tells the number of ranges.
    index: Box<[Bucket]>,
    lows: Box<[K::Low]>,
    values: Box<[V]>,
}

/// What a look-up needs to know of a bucket before it looks at ranges. Where the ranges at its two
/// ends reach is told here, so that nobody searches for borders in other buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bucket {
    /// The first range that begins in it or after it, in halves, the lower one first: six octets a
    /// bucket instead of eight keep an index at 384 KiB.
    first: [u16; 2],
    /// Of its first keys, whose range begins at its border or before it: the length of the widest
    /// prefix that stays within the range on the left.
    left: u8,
    /// Of its last keys, whose range ends at its border or beyond it: the same on the right.
    right: u8,
}

impl Bucket {
    #[inline]
    fn first(self) -> usize {
        let [low, high] = self.first.map(usize::from);
        high << 16 | low
    }
}

impl<K: Indexed, V: Copy + Eq> RangeTable<K, V> {
    /// Freezes ranges that begin at zero.
    pub(super) fn new(ranges: Ranges<K, V>) -> Self {
        debug_assert!(ranges.starts.first().is_some_and(|start| start.to_bits() == 0));
        let mut begins = vec![0; BUCKETS + 1];
        for start in &ranges.starts {
            begins[start.split().0 + 1] += 1;
        }
        for bucket in 0..BUCKETS {
            begins[bucket + 1] += begins[bucket];
        }
        let bucket = |(bucket, &begin): (usize, &usize)| {
            let halves = [begin as u16, (begin >> 16) as u16];
            let Some(&end) = begins.get(bucket + 1) else {
                return Bucket { first: halves, left: 0, right: 0 };
            };
            let first = K::join(bucket, K::Low::default());
            let at = match ranges.starts.get(begin) {
                Some(start) if *start == first => begin,
                // The first range begins at zero, so there is one before any other key.
                _ => begin - 1,
            };
            // Borders outside of the bucket are told from all of its keys by the same bit.
            Bucket {
                first: halves,
                left: scope_within(first, ranges.starts[at], None),
                right: scope_within(first, K::ZERO, ranges.starts.get(end).copied()),
            }
        };
        Self {
            index: begins.iter().enumerate().map(bucket).collect(),
            lows: ranges.starts.iter().map(|start| start.split().1).collect(),
            values: ranges.values.into(),
        }
    }

    /// The value of `key` and the length of the widest prefix around it that has this one value.
    #[inline]
    pub(super) fn lookup(&self, key: K) -> (V, u8) {
        let (bucket, low) = key.split();
        let Bucket { left, right, .. } = self.index[bucket];
        let (first, lows) = self.bucket(bucket);
        // Few are found as fast without a guess.
        let guess = if lows.len() < WINDOW { None } else { K::guess(low, lows.len()) };
        let near = guess.and_then(|guess| next_near(lows, low, guess));
        let next = near.unwrap_or_else(|| lows.partition_point(|&start| start <= low));
        let beyond = |outside: K| 1 + key.common_bits(outside);
        let left = match next.checked_sub(1).map(|at| K::join(bucket, lows[at])) {
            Some(start) if start.split().1 != K::Low::default() => {
                start.previous().map_or(0, beyond)
            }
            _ => left,
        };
        let right = lows.get(next).map_or(right, |&next| beyond(K::join(bucket, next)));
        // The first range begins at zero, so there is one at or before every key.
        (self.values[first + next - 1], left.max(right))
    }

    /// How many ranges begin before a bucket, and where those begin that begin in it.
    #[inline]
    fn bucket(&self, bucket: usize) -> (usize, &[K::Low]) {
        let (first, end) = (self.index[bucket].first(), self.index[bucket + 1].first());
        (first, &self.lows[first..end])
    }

    /// Has fetched what a look-up of a key reads first.
    #[inline]
    pub(super) fn fetch_index(&self, key: K) {
        fetch(&self.index[key.split().0].first);
    }

    /// Has fetched what it most likely reads then.
    #[inline]
    pub(super) fn fetch_ranges(&self, key: K) {
        let (bucket, low) = key.split();
        let (first, lows) = self.bucket(bucket);
        let guess = K::guess(low, lows.len()).unwrap_or(0);
        // The range that begins before the next one has the value.
        let at = (first + guess).saturating_sub(1);
        if let (Some(low), Some(value)) = (self.lows.get(at), self.values.get(at)) {
            fetch(low);
            fetch(value);
        }
    }

    /// The ranges' starts and values in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, V)> + '_ {
        (0..BUCKETS).flat_map(move |bucket| {
            let (first, lows) = self.bucket(bucket);
            let keys = lows.iter().map(move |low| K::join(bucket, *low));
            keys.zip(self.values[first..].iter().copied())
        })
    }

    /// Octets of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.index) + size_of_val(&*self.lows) + size_of_val(&*self.values)
    }
}

/// How many ranges a look-up looks at around where it guesses: half a line of the processor's cache
/// where a start takes two octets. Networks of one bucket are mostly of one size, or few, so that
/// what is sought is most often among them.
const WINDOW: usize = 16;

/// Where the window around a guess begins among `count` ranges.
#[inline]
fn window(count: usize, guess: usize) -> usize {
    guess.saturating_sub(WINDOW / 2).min(count.saturating_sub(WINDOW))
}

/// The first of a bucket's ranges that begins behind `low`, if it is found around `guess`.
#[inline]
fn next_near<L: Copy + Ord>(lows: &[L], low: L, guess: usize) -> Option<usize> {
    let start = window(lows.len(), guess);
    let near = lows.get(start..)?.first_chunk::<WINDOW>()?;
    // All are counted, so that nothing has to be foretold.
    let begun = usize::from(near.iter().map(|&start| u16::from(start <= low)).sum::<u16>());
    // None and all of them tell of no other, but at the ends.
    let told = (begun > 0 || start == 0) && (begun < WINDOW || start + WINDOW == lows.len());
    told.then_some(start + begun)
}

/// Frozen ranges without an index, for the few that need exact addresses.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExactRanges<K, V> {
    ranges: Ranges<K, V>,
}

impl<K: Key, V: Copy + Eq> ExactRanges<K, V> {
    /// Freezes ranges that begin at zero.
    pub(super) fn new(mut ranges: Ranges<K, V>) -> Self {
        debug_assert!(ranges.starts.first().is_some_and(|start| start.to_bits() == 0));
        ranges.shrink();
        Self { ranges }
    }

    /// The value of `key` and the length of the widest prefix around it that has this one value.
    pub(super) fn lookup(&self, key: K) -> (V, u8) {
        let next = self.ranges.starts.partition_point(|&start| start <= key);
        // The first range begins at zero, so there is one at or before every key.
        let at = next - 1;
        let next = self.ranges.starts.get(next).copied();
        (self.ranges.values[at], scope_within(key, self.ranges.starts[at], next))
    }

    /// The ranges' starts and values in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.ranges.iter()
    }

    /// Octets of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.ranges.starts) + size_of_val(&*self.ranges.values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ExactRanges, Indexed, RangeTable, Ranges, WINDOW, next_near};

    /// Keys whose borders fall on, beside and far from the borders of buckets.
    fn key() -> impl Strategy<Value = u32> {
        let any_key = (any::<u32>(), 0u32..=32, any::<bool>()).prop_map(|(key, zeros, ones)| {
            let low = u32::MAX.checked_shr(32 - zeros).unwrap_or(0);
            if ones { key | low } else { key & !low }
        });
        prop_oneof![3 => any_key, 1 => 0x0a00_0000..0x0a01_0000u32]
    }

    fn ranges() -> impl Strategy<Value = Vec<(u32, u16)>> {
        let starts = proptest::collection::btree_map(key(), 0u16..4, 0..40);
        // Many in one bucket, which are found by a guess.
        let dense = proptest::collection::btree_map(0x0a00_0000..0x0a01_0000u32, 0u16..4, 0..100);
        (0u16..4, starts, dense).prop_map(|(first, mut starts, dense)| {
            starts.extend(dense);
            starts.insert(0, first);
            starts.into_iter().collect()
        })
    }

    fn naive(ranges: &[(u32, u16)], key: u32) -> u16 {
        ranges.iter().rev().find(|(start, _)| *start <= key).expect("begins at zero").1
    }

    /// Whether every key of a prefix has one value: the value at its start and no other start
    /// with another value inside.
    fn uniform(ranges: &[(u32, u16)], key: u32, len: u8) -> bool {
        let low = u32::MAX.checked_shr(len.into()).unwrap_or(0);
        let (first, last) = (key & !low, key | low);
        let value = naive(ranges, first);
        ranges.iter().all(|(start, v)| *start <= first || *start > last || *v == value)
    }

    fn frozen<K: Indexed>(ranges: &[(u32, u16)], key: impl Fn(u32) -> K) -> RangeTable<K, u16> {
        let mut list = Ranges::default();
        for &(start, value) in ranges {
            list.push(key(start), value);
        }
        RangeTable::new(list)
    }

    proptest! {
        /// Wherever it is looked for: what is found is right, and it is found where it is close.
        #[test]
        fn what_is_near_is_found(
            lows in proptest::collection::btree_set(any::<u16>(), 0..200),
            low in any::<u16>(),
            on in any::<proptest::sample::Index>(),
            guess in any::<proptest::sample::Index>(),
        ) {
            let lows: Vec<u16> = lows.into_iter().collect();
            let sought = [Some(low), lows.get(on.index(lows.len().max(1))).copied()];
            for low in sought.into_iter().flatten() {
                let (next, guess) =
                    (lows.partition_point(|start| *start <= low), guess.index(lows.len() + 1));
                let found = next_near(&lows, low, guess);
                prop_assert!(found.is_none_or(|found| found == next), "{found:?} for {next}");
                if lows.len() >= WINDOW && next.abs_diff(guess) < WINDOW / 2 {
                    prop_assert_eq!(found, Some(next));
                }
            }
        }

        #[test]
        fn finds_the_value_and_the_widest_prefix(
            ranges in ranges(),
            keys in proptest::collection::vec(key(), 1..40),
        ) {
            let v4 = frozen(&ranges, |start| start);
            // The same ranges in the top half of IPv6 keys, where all scopes stay as they are, and
            // in the bottom half, where they grow by what is put before them.
            let v6 = frozen(&ranges, |start| u64::from(start) << 32);
            let low = frozen(&ranges, u64::from);
            let mut list = Ranges::default();
            for &(start, value) in &ranges {
                list.push(u128::from(start) << 96, value);
            }
            let exact = ExactRanges::new(list);
            for key in keys.into_iter().chain(ranges.iter().map(|r| r.0)) {
                let (value, scope) = v4.lookup(key);
                prop_assert_eq!(value, naive(&ranges, key));
                prop_assert!(uniform(&ranges, key, scope), "not of one value");
                prop_assert!(scope == 0 || !uniform(&ranges, key, scope - 1), "not the widest");
                prop_assert_eq!(v6.lookup(u64::from(key) << 32), (value, scope));
                let grown = if scope == 0 { 0 } else { scope + 32 };
                prop_assert_eq!(low.lookup(u64::from(key)), (value, grown));
                prop_assert_eq!(exact.lookup(u128::from(key) << 96), (value, scope));
            }
        }

        #[test]
        fn iterates_over_merged_ranges(ranges in ranges()) {
            let mut merged = ranges.clone();
            merged.dedup_by_key(|range| range.1);
            prop_assert_eq!(frozen(&ranges, |s| s).iter().collect::<Vec<_>>(), merged);
        }
    }

    #[test]
    fn repeated_start_replaces_and_merges() {
        let mut ranges = Ranges::default();
        for (start, value) in [(0u32, 'a'), (5, 'b'), (5, 'a'), (9, 'c'), (9, 'd'), (12, 'd')] {
            ranges.push(start, value);
        }
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(0, 'a'), (9, 'd')]);
    }
}
