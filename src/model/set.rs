//! Dense cluster ids and small bit sets of them.

use smallvec::SmallVec;

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
    pub fn new(index: usize) -> Self {
        assert!(index < Self::MAX_CLUSTERS, "cluster index {index} out of range");
        Self(index as u16)
    }

    /// The index into arrays with one item a cluster.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of clusters of any width; up to 128 clusters it needs no allocation.
///
/// Invariant: the last word is not zero, so equal sets have equal words.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterSet {
    words: SmallVec<[u64; 2]>,
}

impl ClusterSet {
    /// The clusters with ids below `count`.
    #[must_use]
    pub fn first(count: usize) -> Self {
        (0..count).map(ClusterId::new).collect()
    }

    /// Adds a cluster.
    pub fn insert(&mut self, id: ClusterId) {
        let (word, bit) = (id.index() / 64, id.index() % 64);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << bit;
    }

    /// Removes a cluster.
    pub fn remove(&mut self, id: ClusterId) {
        if let Some(word) = self.words.get_mut(id.index() / 64) {
            *word &= !(1 << (id.index() % 64));
            while self.words.last() == Some(&0) {
                self.words.pop();
            }
        }
    }

    /// Whether the cluster is in the set.
    #[must_use]
    pub fn contains(&self, id: ClusterId) -> bool {
        self.word(id.index() / 64) & (1 << (id.index() % 64)) != 0
    }

    /// Sixty-four clusters from `64 * index` on, as bits; zero beyond the end.
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// How many words hold a bit.
    #[must_use]
    pub fn width(&self) -> usize {
        self.words.len()
    }

    /// Whether no cluster is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many clusters are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Whether any cluster is in both sets.
    #[must_use]
    #[inline]
    pub fn meets(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    /// The clusters in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let words = self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect();
        Self::trimmed(words)
    }

    /// Adds every cluster of `other`.
    pub fn extend_from(&mut self, other: &Self) {
        for id in other.iter() {
            self.insert(id);
        }
    }

    /// The ids in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ClusterId> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(ClusterId::new(index * 64 + bit))
            })
        })
    }

    fn trimmed(mut words: SmallVec<[u64; 2]>) -> Self {
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
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
            prop_assert_eq!(&both, &make(&rest));
            prop_assert_eq!(both.len(), rest.len());
            prop_assert_eq!(both.iter().map(ClusterId::index).collect::<BTreeSet<_>>(), rest);
        }
    }
}
