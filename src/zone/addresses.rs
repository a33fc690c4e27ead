//! The addresses of a service in one family.

use std::hash::{Hash, Hasher};
use std::mem::offset_of;
use std::slice;

use crate::model::{ClusterId, ClusterSet, fetch};

/// Addresses by cluster, as RDATA of `N` octets; frozen.
///
/// In the order of its fields, so that what nearly every answer reads stands in the first 32 octets.
#[derive(Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Addresses<const N: usize> {
    held: Held<N>,
    clusters: ClusterSet,
}

/// Octets of addresses that are held in place: one of each of four clusters in IPv4, of one in IPv6.
const IN_PLACE: usize = 16;

/// Those of each cluster of the set, ascending. What can be in place is.
#[derive(Debug, PartialEq, Eq)]
enum Held<const N: usize> {
    /// One for each cluster, as many as are counted; zeros behind them.
    InPlace {
        count: u8,
        octets: [u8; IN_PLACE],
    },
    Elsewhere(Box<Elsewhere<N>>),
}

/// `ends` is empty where each cluster has one, and else tells where each one's end.
#[derive(Debug, PartialEq, Eq)]
struct Elsewhere<const N: usize> {
    octets: Box<[[u8; N]]>,
    ends: Box<[u16]>,
}

impl<const N: usize> Default for Addresses<N> {
    fn default() -> Self {
        Self::NONE
    }
}

// Instances of other builds, that hold them in another way, are to tell the same digest.
impl<const N: usize> Hash for Addresses<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (octets, ends) = self.held.parts();
        (&self.clusters, octets, ends).hash(state);
    }
}

impl<const N: usize> Held<N> {
    /// The addresses, and where each cluster's end if any has several.
    #[inline]
    fn parts(&self) -> (&[[u8; N]], &[u16]) {
        match self {
            Self::InPlace { count, octets } => {
                let (all, _) = octets.as_chunks();
                (all.get(..usize::from(*count)).unwrap_or(all), &[])
            }
            Self::Elsewhere(elsewhere) => (&elsewhere.octets, &elsewhere.ends),
        }
    }
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
    /// Gives the addresses of clusters to `each`, with what stands beside their ids; `None` where one
    /// has none.
    #[inline]
    pub fn visit<P>(
        self,
        ids: impl Iterator<Item = (P, u8)>,
        mut each: impl FnMut(P, &'a [u8; N]),
    ) -> Option<()> {
        match self {
            Self::OfAll(octets) => {
                for (place, id) in ids {
                    each(place, octets.get(usize::from(id))?);
                }
            }
            Self::Of(clusters, octets) => {
                for (place, id) in ids {
                    let below = clusters & !(u64::MAX << (id % 64));
                    each(place, octets.get(below.count_ones() as usize)?);
                }
            }
        }
        Some(())
    }
}

impl<const N: usize> Addresses<N> {
    /// Octets at its front that hold addresses, but for their clusters.
    pub(super) const HELD: usize = offset_of!(Self, clusters);

    /// Of no cluster.
    pub(super) const NONE: Self = Self {
        held: Held::InPlace { count: 0, octets: [0; IN_PLACE] },
        clusters: ClusterSet::EMPTY,
    };

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
        let octets: Box<[[u8; N]]> = all.iter().map(|(_, octets)| *octets).collect();
        let flat = octets.as_flattened();
        let held = if ends.is_empty() && flat.len() <= IN_PLACE {
            let (count, mut place) = (octets.len() as u8, [0; IN_PLACE]);
            place[..flat.len()].copy_from_slice(flat);
            Held::InPlace { count, octets: place }
        } else {
            Held::Elsewhere(Box::new(Elsewhere { octets, ends }))
        };
        Self { clusters: groups().map(|group| group[0].0).collect(), held }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.held.parts().0.len()
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
        let (octets, ends) = self.held.parts();
        if ends.is_empty() {
            return slice::from_ref(&octets[at]);
        }
        let start = at.checked_sub(1).map_or(0, |before| ends[before]);
        &octets[start.into()..ends[at].into()]
    }

    /// The one address of each cluster, where all have one; ids below 64.
    #[must_use]
    #[inline]
    pub fn singles(&self) -> Option<Singles<'_, N>> {
        let (octets, ends) = self.held.parts();
        let clusters = self.clusters.word(0);
        ends.is_empty().then_some(match clusters & clusters.wrapping_add(1) {
            0 => Singles::OfAll(octets),
            _ => Singles::Of(clusters, octets),
        })
    }

    /// Has fetched what is not in place, if anything is.
    #[inline]
    pub(super) fn fetch_behind(&self) {
        if let Held::Elsewhere(elsewhere) = &self.held
            && let Some(octets) = elsewhere.octets.first()
        {
            fetch(octets);
        }
    }

    /// Whether an address stands twice, at two clusters then.
    pub(super) fn repeat(&self) -> bool {
        let mut sorted = self.held.parts().0.to_vec();
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
        for counts in [vec![1, 1, 1], vec![1; 8], vec![1; 9], vec![2, 1, 3], vec![]] {
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
                    let visited = singles
                        .visit([((), id(at).index() as u8)].into_iter(), |(), own| {
                            found = Some(own)
                        });
                    assert_eq!((visited, found), (Some(()), own.first()));
                }
            }
            assert!(addresses.of(ClusterId::new(0)).is_empty());
            assert!(addresses.of(ClusterId::new(300)).is_empty());
            assert_eq!(addresses.clusters().len(), counts.len());
        }
    }
}
