//! A map by identity, laid out for memory.

use crate::cluster::narrow::ObjectId;

/// How many of an identity's highest bits tell the shelf.
const SHELF_BITS: u32 = 10;

/// A full shelf gets room for one item in so many more.
const GROWTH: usize = 8;

/// Values by identity, each on the shelf of its highest bits, where they stand in order.
///
/// A hash table keeps an eighth to more than half of its places free, and is there twice while it
/// grows; of this an eighth is free at most, and one shelf grows at a time. Identities are hashes, so
/// that shelves are about as full as each other: of 100,000 items one holds a hundred, which moving
/// some aside costs less than it takes to fetch them from memory.
#[derive(Debug)]
pub(super) struct Shelves<V> {
    shelves: Box<[Vec<(ObjectId, V)>]>,
}

impl<V> Default for Shelves<V> {
    fn default() -> Self {
        Self { shelves: (0..1 << SHELF_BITS).map(|_| Vec::new()).collect() }
    }
}

impl<V> Shelves<V> {
    /// The shelf of an identity, and where on it the item stands, or is to stand.
    fn place(&self, id: ObjectId) -> (usize, Result<usize, usize>) {
        let shelf = (id.bits() >> (u64::BITS - SHELF_BITS)) as usize;
        (shelf, self.shelves[shelf].binary_search_by_key(&id, |(id, _)| *id))
    }

    pub(super) fn get(&self, id: ObjectId) -> Option<&V> {
        let (shelf, at) = self.place(id);
        Some(&self.shelves[shelf][at.ok()?].1)
    }

    pub(super) fn get_mut(&mut self, id: ObjectId) -> Option<&mut V> {
        let (shelf, at) = self.place(id);
        Some(&mut self.shelves[shelf][at.ok()?].1)
    }

    /// The value of `id`, which is made where there is none.
    pub(super) fn get_or_insert_with(&mut self, id: ObjectId, make: impl FnOnce() -> V) -> &mut V {
        let (shelf, at) = self.place(id);
        let shelf = &mut self.shelves[shelf];
        let at = at.unwrap_or_else(|at| {
            if shelf.len() == shelf.capacity() {
                shelf.reserve_exact(shelf.len() / GROWTH + 1);
            }
            shelf.insert(at, (id, make()));
            at
        });
        &mut shelf[at].1
    }

    pub(super) fn remove(&mut self, id: ObjectId) -> Option<V> {
        let (shelf, at) = self.place(id);
        let (at, shelf) = (at.ok()?, &mut self.shelves[shelf]);
        let (_, value) = shelf.remove(at);
        // What many have left gives its room back.
        if shelf.len() < shelf.capacity() / 2 {
            shelf.shrink_to_fit();
        }
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ObjectId, &V)> {
        self.shelves.iter().flatten().map(|(id, value)| (*id, value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few identities, on few shelves.
    fn id() -> impl Strategy<Value = ObjectId> {
        (0..3_u64, 0..20_u64).prop_map(|(high, low)| ObjectId::from_bits(high << 62 | low))
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((id(), any::<bool>()), 0..200)) {
            let (mut shelves, mut map) = (Shelves::default(), BTreeMap::new());
            for (step, (id, put)) in steps.into_iter().enumerate() {
                if put {
                    *shelves.get_or_insert_with(id, || 0) = step;
                    map.insert(id, step);
                } else {
                    prop_assert_eq!(shelves.remove(id), map.remove(&id));
                }
                prop_assert_eq!(shelves.get(id), map.get(&id));
                prop_assert_eq!(shelves.get_mut(id), map.get_mut(&id));
            }
            let held: Vec<_> = shelves.iter().map(|(id, value)| (id, *value)).collect();
            let told: Vec<_> = map.into_iter().collect();
            prop_assert_eq!(held, told);
        }
    }

    #[test]
    fn little_room_is_free() {
        let mut shelves = Shelves::default();
        let ids = (0..1_300_u64).map(ObjectId::from_bits);
        ids.clone().for_each(|id| _ = shelves.get_or_insert_with(id, || id));
        let room = shelves.shelves[0].capacity();
        assert!((1_300..=1_300 + 1_300 / GROWTH).contains(&room), "{room}");
        ids.skip(100).for_each(|id| _ = shelves.remove(id));
        let room = shelves.shelves[0].capacity();
        assert!((100..=200).contains(&room), "{room}");
    }
}
