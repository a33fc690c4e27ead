//! Leaves of a database cut to blocks of the size that resolvers send.
//!
//! *Owns*: [`Clamp`]. *Guarantees*: inside a block the value that covers most addresses wins, of
//! equals the lower one in address space; "nothing" never wins against something. *Does not*: read
//! databases.

use super::ranges::{Key, Ranges};

/// Cuts ascending, disjoint networks of one family to blocks, into ranges.
pub(super) struct Clamp<K, V> {
    ranges: Ranges<K, V>,
    family: Family,
    nothing: V,
    /// The first address not spoken of yet; `None` behind the last.
    cursor: Option<u128>,
    /// The block that is being filled, and how many addresses of it have which value, in their
    /// order.
    block: Option<u128>,
    shares: Vec<(V, u128)>,
}

/// An address family as the clamp sees it.
#[derive(Clone, Copy)]
pub(super) struct Family {
    /// Bits of an address.
    pub(super) bits: u8,
    /// Prefix length of a block.
    pub(super) block: u8,
    /// Bits of an address that its key lacks.
    pub(super) dropped: u8,
}

/// IPv4 in blocks of /24: RFC 7871 §11.1 recommends that resolvers send no more. It halves the
/// tables and touches 0.2 to 1.1 % of the blocks (GEO notes §5).
pub(super) const V4: Family = Family { bits: 32, block: 24, dropped: 0 };

/// IPv6 in blocks of /48, the usual size of a site; keys are the top 64 bits.
pub(super) const V6: Family = Family { bits: 128, block: 48, dropped: 64 };

impl<K: Key + TryFrom<u128>, V: Copy + Ord> Clamp<K, V> {
    /// An empty clamp; addresses that are never spoken of have the value `nothing`.
    pub(super) fn new(family: Family, nothing: V) -> Self {
        let ranges = Ranges::default();
        Self { ranges, family, nothing, cursor: Some(0), block: None, shares: Vec::new() }
    }

    /// The network of `len` bits from `first` on has this value.
    pub(super) fn add(&mut self, first: u128, len: u8, value: V) {
        if len <= self.family.block {
            self.close();
            self.emit(first, len, value);
            return;
        }
        let spare = self.family.bits - self.family.block;
        let block = first >> spare << spare;
        if self.block != Some(block) {
            self.close();
            self.block = Some(block);
        }
        if value != self.nothing {
            let size = 1 << (self.family.bits - len);
            match self.shares.last_mut() {
                Some((last, share)) if *last == value => *share += size,
                _ => self.shares.push((value, size)),
            }
        }
    }

    /// The ranges of everything that was added.
    pub(super) fn finish(mut self) -> Ranges<K, V> {
        self.close();
        if let Some(cursor) = self.cursor {
            self.push(cursor, self.nothing);
        }
        self.ranges.shrink();
        self.ranges
    }

    /// Decides the block that was being filled.
    fn close(&mut self) {
        if let Some(block) = self.block.take() {
            let winner = self.winner();
            self.shares.clear();
            self.emit(block, self.family.block, winner);
        }
    }

    /// The value with the largest share, of equals the one that came first.
    fn winner(&mut self) -> V {
        match self.shares[..] {
            [] => return self.nothing,
            [(value, _)] => return value,
            _ => {}
        }
        // Some blocks hold tens of thousands of networks, too many to look for each value's share.
        let mut places: Vec<(V, usize, u128)> = self
            .shares
            .iter()
            .enumerate()
            .map(|(at, (value, share))| (*value, at, *share))
            .collect();
        places.sort_unstable_by_key(|(value, at, _)| (*value, *at));
        let shares = places.chunk_by(|a, b| a.0 == b.0).map(|same| {
            let (value, first, _) = same[0];
            (same.iter().map(|(.., share)| share).sum::<u128>(), std::cmp::Reverse(first), value)
        });
        shares.max_by_key(|(share, first, _)| (*share, *first)).map_or(self.nothing, |(.., v)| v)
    }

    fn emit(&mut self, first: u128, len: u8, value: V) {
        match self.cursor {
            Some(cursor) if cursor < first => self.push(cursor, self.nothing),
            _ => {}
        }
        self.push(first, value);
        let spare = u32::from(self.family.bits - len);
        let after = 1_u128.checked_shl(spare).and_then(|size| first.checked_add(size));
        self.cursor =
            after.filter(|after| self.family.bits == 128 || after >> self.family.bits == 0);
    }

    fn push(&mut self, start: u128, value: V) {
        if let Ok(key) = K::try_from(start >> self.family.dropped) {
            self.ranges.push(key, value);
        } else {
            debug_assert!(false, "{start} is no address of the family");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Clamp, Family, V4};

    /// Addresses of ten bits in blocks of four addresses, so that a model can hold them all.
    const TINY: Family = Family { bits: 10, block: 8, dropped: 0 };

    /// Splits a network in halves at random, as a search tree does, into leaves.
    fn leaves(seed: &mut impl Iterator<Item = u8>, first: u128, len: u8, out: &mut Vec<Leaf>) {
        let choice = seed.next().unwrap_or(0);
        if len < TINY.bits && !choice.is_multiple_of(3) {
            leaves(seed, first, len + 1, out);
            leaves(seed, first + (1 << (TINY.bits - len - 1)), len + 1, out);
        } else if choice < 200 {
            out.push((first, len, choice % 4));
        }
    }

    type Leaf = (u128, u8, u8);

    proptest! {
        #[test]
        fn most_addresses_win(seed in proptest::collection::vec(any::<u8>(), 1000)) {
            let mut added = Vec::new();
            leaves(&mut seed.into_iter(), 0, 0, &mut added);
            let mut clamp: Clamp<u32, u8> = Clamp::new(TINY, 0);
            let mut model = vec![0u8; 1 << TINY.bits];
            for &(first, len, value) in &added {
                clamp.add(first, len, value);
                model[first as usize..][..1 << (TINY.bits - len)].fill(value);
            }
            let ranges: Vec<_> = clamp.finish().iter().collect();
            prop_assert!(ranges.is_sorted_by(|a, b| a.0 < b.0 && a.1 != b.1));
            for block in 0..1u32 << TINY.block {
                let held = &model[block as usize * 4..][..4];
                let count = |value: u8| held.iter().filter(|v| **v == value).count();
                let most = (1..4).map(count).max().unwrap_or(0);
                let winner = held.iter().copied().find(|v| *v != 0 && count(*v) == most);
                let found = ranges.iter().rev().find(|range| range.0 <= block * 4);
                prop_assert_eq!(found.map(|range| range.1), Some(winner.unwrap_or(0)));
            }
        }
    }

    #[test]
    fn the_end_of_the_address_space_is_reached() {
        let mut clamp: Clamp<u32, u8> = Clamp::new(V4, 0);
        clamp.add(0xffff_fff0, 28, 1);
        let ranges: Vec<_> = clamp.finish().iter().collect();
        assert_eq!(ranges, [(0, 0), (0xffff_ff00, 1)]);
        let mut all: Clamp<u64, u8> = Clamp::new(super::V6, 0);
        all.add(0, 0, 1);
        assert_eq!(all.finish().iter().collect::<Vec<_>>(), [(0, 1)]);
    }
}
