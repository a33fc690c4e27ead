//! The addresses of a service in one family.

use std::slice;

use crate::model::{ClusterId, ClusterSet};

/// Addresses by cluster, as RDATA of `N` octets; frozen.
///
/// Invariant: `octets` holds those of each cluster of the set, ascending; `ends` is empty where
/// each has one, which is nearly always so, and else tells where each one's end.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Addresses<const N: usize> {
    clusters: ClusterSet,
    octets: Box<[[u8; N]]>,
    ends: Box<[u16]>,
}

/// One address for each of some clusters with ids below 64.
#[derive(Clone, Copy, Debug)]
pub enum Singles<'a, const N: usize> {
    /// Of the first ones without a gap: each stands at the index that is its cluster's id.
    OfAll(&'a [[u8; N]]),
    /// Of these clusters, ascending.
    Of(u64, &'a [[u8; N]]),
}

impl<'a, const N: usize> Singles<'a, N> {
    /// Gives each of some clusters' addresses to `each`; `None` where one has none.
    #[inline]
    pub fn visit(self, ids: &[u8], mut each: impl FnMut(usize, &'a [u8; N])) -> Option<()> {
        match self {
            Self::OfAll(octets) => {
                for (at, id) in ids.iter().enumerate() {
                    each(at, octets.get(usize::from(*id))?);
                }
            }
            Self::Of(clusters, octets) => {
                for (at, id) in ids.iter().enumerate() {
                    let below = clusters & !(u64::MAX << (id % 64));
                    each(at, octets.get(below.count_ones() as usize)?);
                }
            }
        }
        Some(())
    }
}

impl<const N: usize> Addresses<N> {
    /// The most that one service has in one family: ends are 16 bits wide.
    pub(super) const MAX: usize = u16::MAX as usize;

    /// Addresses with their clusters, sorted by cluster; those beyond [`Self::MAX`] are left out.
    pub(super) fn new(all: impl IntoIterator<Item = (ClusterId, [u8; N])>) -> Self {
        let all: Vec<_> = all.into_iter().take(Self::MAX).collect();
        let groups = || all.chunk_by(|(one, _), (other, _)| one == other);
        let mut end = 0;
        let ends = groups().map(|group| {
            end += group.len() as u16;
            end
        });
        let ends =
            if groups().all(|group| group.len() == 1) { Box::default() } else { ends.collect() };
        Self {
            clusters: groups().map(|group| group[0].0).collect(),
            octets: all.iter().map(|(_, octets)| *octets).collect(),
            ends,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// The clusters that have any.
    #[must_use]
    #[inline]
    pub fn clusters(&self) -> &ClusterSet {
        &self.clusters
    }

    /// Those of the shard in `cluster`.
    #[must_use]
    #[inline]
    pub fn of(&self, cluster: ClusterId) -> &[[u8; N]] {
        let Some(at) = self.clusters.rank(cluster) else { return &[] };
        if self.ends.is_empty() {
            return slice::from_ref(&self.octets[at]);
        }
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.octets[start.into()..self.ends[at].into()]
    }

    /// The one address of each cluster, where all have one; ids below 64.
    #[must_use]
    #[inline]
    pub fn singles(&self) -> Option<Singles<'_, N>> {
        let (clusters, octets) = (self.clusters.word(0), &*self.octets);
        self.ends.is_empty().then_some(match clusters & clusters.wrapping_add(1) {
            0 => Singles::OfAll(octets),
            _ => Singles::Of(clusters, octets),
        })
    }

    /// Something of the first of them.
    #[inline]
    pub(super) fn read_hot(&self) -> u8 {
        self.octets.first().map_or(0, |octets| octets[0])
    }

    /// Whether an address stands twice, at two clusters then.
    pub(super) fn repeat(&self) -> bool {
        let mut sorted = self.octets.to_vec();
        sorted.sort_unstable();
        sorted.windows(2).any(|pair| pair[0] == pair[1])
    }
}

#[cfg(test)]
mod tests {
    use super::Addresses;
    use crate::model::ClusterId;

    #[test]
    fn each_cluster_has_its_own() {
        for counts in [vec![1, 1, 1], vec![2, 1, 3], vec![]] {
            // Ids apart, some beyond one word.
            let id = |at: usize| ClusterId::new(1 + 40 * at);
            let all = counts.iter().enumerate();
            let all = all.flat_map(|(at, count)| (0..*count).map(move |i| (id(at), [at as u8, i])));
            let addresses = Addresses::new(all);
            for (at, count) in counts.iter().enumerate() {
                let own: Vec<[u8; 2]> = (0..*count).map(|i| [at as u8, i]).collect();
                assert_eq!(addresses.of(id(at)), own);
                if let Some(singles) = addresses.singles().filter(|_| id(at).index() < 64) {
                    let mut found = None;
                    let visited =
                        singles.visit(&[id(at).index() as u8], |_, own| found = Some(own));
                    assert_eq!((visited, found), (Some(()), own.first()));
                }
            }
            assert!(addresses.of(ClusterId::new(0)).is_empty());
            assert!(addresses.of(ClusterId::new(300)).is_empty());
            assert_eq!(addresses.clusters().len(), counts.len());
        }
    }
}
