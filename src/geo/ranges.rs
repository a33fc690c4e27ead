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

    /// Whether a range of the same bucket begins at or before the rest, in a form for many at once.
    #[inline]
    fn begins_by<V: Copy + Into<u32>>(range: Range<Self::Low, V>, low: Self::Low) -> bool {
        let start = range.low;
        start <= low
    }
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

    #[inline]
    fn begins_by<V: Copy + Into<u32>>(range: Range<u16, V>, low: u16) -> bool {
        // As numbers of four octets, of which a vector compares four as they stand in memory; to
        // pick the starts from among the values takes longer. No value is above these ones.
        let value: u32 = range.value.into();
        u32::from(range.low) << 16 | value & 0xffff <= u32::from(low) << 16 | 0xffff
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
pub(super) struct RangeTable<K: Indexed, V: Copy> {
    /// One for each bucket, then one that tells the number of ranges.
    index: Box<[Bucket]>,
    ranges: Box<[Range<K::Low, V>]>,
}

/// Where a range begins in its bucket, and its value: side by side, so that a look-up waits for one
/// place in memory instead of two. Packed, as a value of four octets would have two empty ones
/// before it; the start behind the value, as the higher half of one number on most processors.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, packed(2))]
pub(super) struct Range<L: Copy, V: Copy> {
    value: V,
    low: L,
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

impl<K: Indexed, V: Copy + Eq + Into<u32>> RangeTable<K, V> {
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
        let range = |(start, value): (K, V)| Range { value, low: start.split().1 };
        Self {
            index: begins.iter().enumerate().map(bucket).collect(),
            ranges: ranges.iter().map(range).collect(),
        }
    }

    /// The value of `key` and the length of the widest prefix around it that has this one value.
    #[inline]
    pub(super) fn lookup(&self, key: K) -> (V, u8) {
        let (bucket, low) = key.split();
        let (borders, ranges) = self.bucket(bucket);
        // Few are found as fast without a guess.
        let guess = if ranges.len() < WINDOW { None } else { K::guess(low, ranges.len()) };
        let near = guess.and_then(|guess| next_near::<K, V>(ranges, low, guess));
        let next = near
            .unwrap_or_else(|| ranges.partition_point(|&Range { low: start, .. }| start <= low));
        let beyond = |outside: K| 1 + key.common_bits(outside);
        let (value, left) = match next.checked_sub(1) {
            Some(at) => {
                let Range { value, low } = ranges[at];
                let start = (low != K::Low::default()).then(|| K::join(bucket, low));
                (value, start.and_then(K::previous).map_or(borders.left, beyond))
            }
            // The first range begins at zero, so there is one at or before every key.
            None => (self.ranges[borders.first() - 1].value, borders.left),
        };
        let right =
            ranges.get(next).map_or(borders.right, |next| beyond(K::join(bucket, next.low)));
        (value, left.max(right))
    }

    /// What is told of a bucket, and the ranges that begin in it.
    #[inline]
    fn bucket(&self, bucket: usize) -> (&Bucket, &[Range<K::Low, V>]) {
        let (borders, behind) = (&self.index[bucket], &self.index[bucket + 1]);
        (borders, &self.ranges[borders.first()..behind.first()])
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
        let (borders, ranges) = self.bucket(bucket);
        let start = window(ranges.len(), K::guess(low, ranges.len()).unwrap_or(0));
        let first = borders.first() + start;
        // Of the window's first key the range may be the one before.
        for at in [first.saturating_sub(1), first + WINDOW - 1] {
            if let Some(range) = self.ranges.get(at) {
                fetch(range);
            }
        }
    }

    /// The ranges' starts and values in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, V)> + '_ {
        (0..BUCKETS).flat_map(move |bucket| {
            let ranges = self.bucket(bucket).1.iter();
            ranges.map(move |range| (K::join(bucket, range.low), range.value))
        })
    }

    /// Octets of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.index) + size_of_val(&*self.ranges)
    }
}

/// How many ranges a look-up looks at around where it guesses: a line of the processor's cache where
/// a range takes four octets. Networks of one bucket are mostly of one size, or few, so that what is
/// sought is most often among them.
const WINDOW: usize = 16;

/// Where the window around a guess begins among `count` ranges.
#[inline]
fn window(count: usize, guess: usize) -> usize {
    guess.saturating_sub(WINDOW / 2).min(count.saturating_sub(WINDOW))
}

/// The first of a bucket's ranges that begins behind `low`, if it is found around `guess`.
#[inline]
fn next_near<K: Indexed, V: Copy + Into<u32>>(
    ranges: &[Range<K::Low, V>],
    low: K::Low,
    guess: usize,
) -> Option<usize> {
    let start = window(ranges.len(), guess);
    let near = ranges.get(start..)?.first_chunk::<WINDOW>()?;
    // All are counted, so that nothing has to be foretold.
    let begun = near.iter().map(|range| u16::from(K::begins_by(*range, low))).sum::<u16>();
    let begun = usize::from(begun);
    // None and all of them tell of no other, but at the ends.
    let told = (begun > 0 || start == 0) && (begun < WINDOW || start + WINDOW == ranges.len());
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

    use super::{ExactRanges, Indexed, Low48, Range, RangeTable, Ranges, WINDOW, next_near};

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

    /// Values at the ends of two and of four octets, where they could be taken for starts.
    fn value() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0), Just(0xffff), Just(0x1_0000), Just(u32::MAX), any::<u32>()]
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
            ranges in proptest::collection::btree_map(any::<u16>(), value(), 0..200),
            low in any::<u16>(),
            on in any::<proptest::sample::Index>(),
            guess in any::<proptest::sample::Index>(),
        ) {
            let lows: Vec<u16> = ranges.keys().copied().collect();
            let ranges: Vec<Range<u16, u32>> =
                ranges.into_iter().map(|(low, value)| Range { value, low }).collect();
            let sought = [Some(low), lows.get(on.index(lows.len().max(1))).copied()];
            for low in sought.into_iter().flatten() {
                let (next, guess) =
                    (lows.partition_point(|start| *start <= low), guess.index(lows.len() + 1));
                let found = next_near::<u32, u32>(&ranges, low, guess);
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
    fn ranges_have_no_empty_octets() {
        let of_orders = [size_of::<Range<u16, u16>>(), size_of::<Range<Low48, u16>>()];
        assert_eq!(of_orders, [4, 8]);
        let of_places = [size_of::<Range<u16, u32>>(), size_of::<Range<Low48, u32>>()];
        assert_eq!(of_places, [6, 10]);
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
