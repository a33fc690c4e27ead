//! Dense cluster ids and small bit sets of them.

use std::hash::{Hash, Hasher};

/// The place of a cluster in the registry of one snapshot: dense, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(u16);

impl ClusterId {
    /// The most clusters of one federation; ids fit 15 bits so that an order of clusters can
    /// mark where a group of equals begins in the sixteenth.
    pub const MAX_CLUSTERS: usize = 1 << 15;

    /// The id of the cluster at `index`.
    ///
    /// # Panics
    /// When `index` is not below [`Self::MAX_CLUSTERS`], which the configuration refuses.
    #[must_use]
    #[inline]
    pub fn new(index: usize) -> Self {
        assert!(index < Self::MAX_CLUSTERS, "cluster index {index} out of range");
        Self(index as u16)
    }

    /// The index into arrays with one item a cluster.
    #[must_use]
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of clusters of any width; up to 64 clusters it needs no allocation.
///
/// In the order of its fields, so that the first 64 stand first. Every service has some, and they
/// are read by every answer, so it takes sixteen octets.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct ClusterSet {
    /// The first 64 clusters, which are all of them in most federations.
    low: u64,
    high: High,
}

/// A set of clusters that is held elsewhere, whichever way.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Clusters<'s> {
    low: u64,
    /// Those from 64 on, sixty-four a word.
    high: &'s [u64],
}

impl<'s> Clusters<'s> {
    /// Those among the first 64, as bits, and those above, sixty-four a word.
    #[must_use]
    #[inline]
    pub fn new(low: u64, high: &'s [u64]) -> Self {
        Self { low, high }
    }

    /// Sixty-four clusters from `64 * index` on, as bits; zero beyond the end.
    #[must_use]
    #[inline]
    pub fn word(self, index: usize) -> u64 {
        match index.checked_sub(1) {
            None => self.low,
            Some(above) => self.high.get(above).copied().unwrap_or(0),
        }
    }

    /// Whether the cluster is in the set.
    #[must_use]
    #[inline]
    pub fn contains(self, id: ClusterId) -> bool {
        self.word(id.index() / 64) & (1 << (id.index() % 64)) != 0
    }

    /// The clusters in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> ClusterSet {
        let high = self.high.iter().zip(other.high).map(|(a, b)| a & b).collect();
        ClusterSet { low: self.low & other.low, high: High::new(high) }
    }
}

/// Those from 64 on.
///
/// Invariant: the last word is not zero, and there is nothing for no word, so that equal sets are
/// equal here.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct High(Option<Box<Box<[u64]>>>);

impl High {
    fn new(mut words: Vec<u64>) -> Self {
        while words.last() == Some(&0) {
            words.pop();
        }
        Self((!words.is_empty()).then(|| Box::new(words.into())))
    }

    #[inline]
    fn words(&self) -> &[u64] {
        self.0.as_deref().map_or(&[], |words| words)
    }

    fn take(&mut self) -> Vec<u64> {
        self.0.take().map_or(Vec::new(), |words| words.into_vec())
    }
}

// Instances of other builds, that hold it in another way, are to tell the same digest.
impl Hash for ClusterSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view().hash(state);
    }
}

impl ClusterSet {
    /// No cluster.
    pub const EMPTY: Self = Self { low: 0, high: High(None) };

    /// The clusters with ids below `count`.
    #[must_use]
    pub fn first(count: usize) -> Self {
        (0..count).map(ClusterId::new).collect()
    }

    /// The set, borrowed.
    #[must_use]
    #[inline]
    pub fn view(&self) -> Clusters<'_> {
        Clusters { low: self.low, high: self.high.words() }
    }

    /// Those from 64 on, sixty-four a word; the last word is not zero.
    #[must_use]
    pub fn above(&self) -> &[u64] {
        self.high.words()
    }

    /// Adds a cluster.
    pub fn insert(&mut self, id: ClusterId) {
        let (word, bit) = (id.index() / 64, id.index() % 64);
        match word.checked_sub(1) {
            None => self.low |= 1 << bit,
            Some(word) => {
                let mut words = self.high.take();
                words.resize(words.len().max(word + 1), 0);
                words[word] |= 1 << bit;
                self.high = High::new(words);
            }
        }
    }

    /// Removes a cluster.
    pub fn remove(&mut self, id: ClusterId) {
        let (word, bit) = (id.index() / 64, id.index() % 64);
        match word.checked_sub(1) {
            None => self.low &= !(1 << bit),
            Some(word) => {
                let mut words = self.high.take();
                if let Some(word) = words.get_mut(word) {
                    *word &= !(1 << bit);
                }
                self.high = High::new(words);
            }
        }
    }

    /// Whether the cluster is in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, id: ClusterId) -> bool {
        self.view().contains(id)
    }

    /// How many clusters of the set have a lower id; `None` where the cluster is not in the set.
    #[must_use]
    #[inline]
    pub fn rank(&self, id: ClusterId) -> Option<usize> {
        let (word, bit) = (id.index() / 64, 1_u64 << (id.index() % 64));
        if self.word(word) & bit == 0 {
            return None;
        }
        let below = self.word(word) & (bit - 1);
        let before: u32 = (0..word).map(|index| self.word(index).count_ones()).sum();
        Some((before + below.count_ones()) as usize)
    }

    /// Sixty-four clusters from `64 * index` on, as bits; zero beyond the end.
    #[must_use]
    #[inline]
    pub fn word(&self, index: usize) -> u64 {
        match index {
            0 => self.low,
            index => self.view().word(index),
        }
    }

    /// A number of words beyond which no bit is set; 1 for sets below 64.
    #[must_use]
    #[inline]
    pub fn width(&self) -> usize {
        1 + self.high.words().len()
    }

    /// Whether no cluster is in the set.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.low == 0 && self.high.0.is_none()
    }

    /// How many clusters are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        (0..self.width()).map(|index| self.word(index).count_ones() as usize).sum()
    }

    /// Whether any cluster is in both sets.
    #[must_use]
    #[inline]
    pub fn meets(&self, other: &Self) -> bool {
        // Of this set nothing more is read where the other is narrow: it may be far away in memory.
        let high = || self.high.words().iter().zip(other.high.words()).any(|(a, b)| a & b != 0);
        self.low & other.low != 0 || other.high.0.is_some() && high()
    }

    /// The clusters in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.view().intersection(other.view())
    }

    /// Adds every cluster of `other`.
    pub fn extend_from(&mut self, other: &Self) {
        for id in other.iter() {
            self.insert(id);
        }
    }

    /// The ids in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ClusterId> + '_ {
        (0..self.width()).flat_map(|index| {
            let mut rest = self.word(index);
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(ClusterId::new(index * 64 + bit))
            })
        })
    }
}

impl FromIterator<ClusterId> for ClusterSet {
    fn from_iter<I: IntoIterator<Item = ClusterId>>(ids: I) -> Self {
        let mut set = Self::default();
        for id in ids {
            set.insert(id);
        }
        set
    }
}

impl std::fmt::Debug for ClusterSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter().map(ClusterId::index)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{ClusterId, ClusterSet};

    proptest! {
        #[test]
        fn behaves_like_a_set_of_integers(
            a in proptest::collection::btree_set(0usize..300, 0..40),
            b in proptest::collection::btree_set(0usize..300, 0..40),
        ) {
            let make = |ids: &BTreeSet<usize>| -> ClusterSet {
                ids.iter().copied().map(ClusterId::new).collect()
            };
            let mut both: ClusterSet = make(&a);
            let shared: BTreeSet<usize> = a.intersection(&b).copied().collect();
            prop_assert_eq!(both.intersection(&make(&b)), make(&shared));
            prop_assert_eq!(both.meets(&make(&b)), !shared.is_empty());
            for id in b.iter().copied() {
                both.remove(ClusterId::new(id));
            }
            let rest: BTreeSet<usize> = a.difference(&b).copied().collect();
            for id in 0..300 {
                let rank = rest.contains(&id).then(|| rest.range(..id).count());
                prop_assert_eq!(both.rank(ClusterId::new(id)), rank);
            }
            prop_assert_eq!(&both, &make(&rest));
            prop_assert_eq!(both.len(), rest.len());
            prop_assert_eq!(both.iter().map(ClusterId::index).collect::<BTreeSet<_>>(), rest);
        }
    }
}
