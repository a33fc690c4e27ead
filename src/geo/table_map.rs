//! Tables by the clusters and the shape that they are for.
//!
//! *Owns*: [`TableMap`], which the path of every query looks into. *Guarantees*: a look-up takes a
//! multiplication and, as a rule, one comparison; a set need not be made to be looked for.
//! *Does not*: compile tables.

use std::sync::Arc;

use super::{GeoTable, Shape};
use crate::model::ClusterSet;

/// Frozen open addressing by the first 64 clusters of a set.
#[derive(Clone, Debug, Default)]
pub(super) struct TableMap {
    /// A power of two of them, at least half empty; none where there is no table.
    slots: Box<[Option<Slot>]>,
}

#[derive(Clone, Debug)]
struct Slot {
    low: u64,
    shape: Shape,
    set: ClusterSet,
    table: Arc<GeoTable>,
}

impl TableMap {
    /// Takes in tables of distinct sets and shapes.
    pub(super) fn new(tables: Vec<((ClusterSet, Shape), Arc<GeoTable>)>) -> Self {
        if tables.is_empty() {
            return Self::default();
        }
        let size = (2 * tables.len()).next_power_of_two();
        let mut map = Self { slots: vec![None; size].into() };
        for ((set, shape), table) in tables {
            let low = set.word(0);
            let mut at = map.home(low);
            while map.slots[at].is_some() {
                at = (at + 1) & (size - 1);
            }
            map.slots[at] = Some(Slot { low, shape, set, table });
        }
        map
    }

    /// The table of a set and a shape.
    pub(super) fn of(&self, set: &ClusterSet, shape: Shape) -> Option<&Arc<GeoTable>> {
        self.find(set.word(0), |other| other == set, shape)
    }

    /// The table of the set that has the bits of `low` below 64 and of which `is` is true.
    #[inline]
    pub(super) fn find(
        &self,
        low: u64,
        is: impl Fn(&ClusterSet) -> bool,
        shape: Shape,
    ) -> Option<&Arc<GeoTable>> {
        let mut at = self.home(low);
        // Half of the slots are empty, so this ends.
        while let Some(slot) = self.slots.get(at)? {
            if slot.low == low && slot.shape == shape && is(&slot.set) {
                return Some(&slot.table);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    /// Where a set is looked for first: the upper bits of a product by 2^64 over the golden ratio,
    /// which spreads neighbouring numbers (Fibonacci hashing).
    #[inline]
    fn home(&self, low: u64) -> usize {
        let mixed = (low.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        mixed & self.slots.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::TableMap;
    use crate::geo::testing::site;
    use crate::geo::{Atlas, GeoTable, Shape};
    use crate::model::{ClusterId, ClusterSet};

    #[test]
    fn finds_what_was_put_in_and_nothing_else() {
        let set =
            |ids: &[usize]| -> ClusterSet { ids.iter().copied().map(ClusterId::new).collect() };
        let (atlas, sites) = (Atlas::default(), [site("a", &[("eu", None)], None)]);
        let keys = [
            (set(&[0, 1]), Shape::Whole),
            (set(&[0, 1]), Shape::First(1)),
            // The same below 64.
            (set(&[0, 1, 70]), Shape::Whole),
            (set(&[64, 200]), Shape::Whole),
        ];
        let tables: Vec<_> = keys
            .iter()
            .map(|key| (key.clone(), Arc::new(GeoTable::compile(&atlas, &sites, &key.0))))
            .collect();
        let map = TableMap::new(tables.clone());
        for ((set, shape), table) in &tables {
            assert!(map.of(set, *shape).is_some_and(|found| Arc::ptr_eq(found, table)));
        }
        for (absent, shape) in [
            (set(&[0]), Shape::Whole),
            (set(&[0, 1]), Shape::First(2)),
            (set(&[0, 1, 71]), Shape::Whole),
            (set(&[64]), Shape::Whole),
        ] {
            assert!(map.of(&absent, shape).is_none());
            assert!(TableMap::default().of(&absent, shape).is_none());
        }
    }
}
