//! A map by identity, laid out for memory.

use crate::cluster::narrow::ObjectId;

/// How many of an identity's highest bits tell the shelf.
pub(super) const SHELF_BITS: u32 = 10;

/// Sizes of memory that the allocator knows for each doubling: what is asked for is rounded up to one
/// of them, so that to ask for less than it gives saves nothing.
const SIZES: usize = 4;

/// The least memory that is given, octets.
const LEAST: usize = 16;

/// Values by identity, each on the shelf of its highest bits, where they stand in order.
///
/// A hash table keeps an eighth to more than half of its places free, and is there twice while it
/// grows; of this a fifth is free at most, and one shelf grows at a time. Identities are hashes, so
/// that shelves are about as full as each other: of 100,000 items one holds a hundred, which moving
/// some aside costs less than it takes to fetch them from memory.
#[derive(Debug)]
pub(super) struct Shelves<V> {
    shelves: Box<[Vec<(ObjectId, V)>]>,
}

/// The shelf of an identity.
pub(super) fn shelf_of(id: ObjectId) -> usize {
    (id.bits() >> (u64::BITS - SHELF_BITS)) as usize
}

/// Makes room for one item where there is none, and for as many more as the allocator gives anyway.
pub(super) fn make_room<T>(shelf: &mut Vec<T>) {
    if shelf.len() == shelf.capacity() {
        let item = size_of::<T>();
        let needed = (shelf.len() + 1) * item;
        // Those above a power of two are as far apart as a quarter of it.
        let apart = needed.next_power_of_two() / (2 * SIZES);
        let given = needed.next_multiple_of(apart.max(LEAST));
        shelf.reserve_exact(given / item - shelf.len());
    }
}

/// Gives back the room of what many have left.
pub(super) fn spare_room<T>(shelf: &mut Vec<T>) {
    if shelf.len() < shelf.capacity() / 2 {
        shelf.shrink_to_fit();
    }
}

/// Moves all items to memory of just their size, where they stand close together. A shelf that has
/// outgrown its room leaves it behind among that of shelves that have not, so that the allocator cannot
/// give it back: after a first list of 100,000 services that was a quarter of what shelves took.
pub(super) fn gather<T>(shelves: &mut [Vec<T>]) {
    let lens: Vec<usize> = shelves.iter().map(Vec::len).collect();
    let mut all = Vec::with_capacity(lens.iter().sum());
    // All leave before the first comes back.
    shelves.iter_mut().for_each(|shelf| all.append(&mut std::mem::take(shelf)));
    let mut all = all.into_iter();
    for (shelf, len) in shelves.iter_mut().zip(lens) {
        shelf.reserve_exact(len);
        shelf.extend(all.by_ref().take(len));
    }
}

impl<V> Default for Shelves<V> {
    fn default() -> Self {
        Self { shelves: (0..1 << SHELF_BITS).map(|_| Vec::new()).collect() }
    }
}

impl<V> Shelves<V> {
    /// The shelf of an identity, and where on it the item stands, or is to stand.
    fn place(&self, id: ObjectId) -> (usize, Result<usize, usize>) {
        let shelf = shelf_of(id);
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
            make_room(shelf);
            shelf.insert(at, (id, make()));
            at
        });
        &mut shelf[at].1
    }

    pub(super) fn remove(&mut self, id: ObjectId) -> Option<V> {
        let (shelf, at) = self.place(id);
        let (at, shelf) = (at.ok()?, &mut self.shelves[shelf]);
        let (_, value) = shelf.remove(at);
        spare_room(shelf);
        Some(value)
    }

    /// Has them take no more memory than they must; to be called when many have come.
    pub(super) fn gather(&mut self) {
        gather(&mut self.shelves);
    }

    /// The items whose highest 32 bits are these.
    pub(super) fn beginning_with(&self, highest: u32) -> impl Iterator<Item = (ObjectId, &V)> {
        let first = ObjectId::from_bits(u64::from(highest) << u32::BITS);
        let shelf = &self.shelves[shelf_of(first)];
        let start = shelf.partition_point(|(id, _)| *id < first);
        let same = move |(id, _): &&(ObjectId, V)| id.bits() >> u32::BITS == u64::from(highest);
        shelf[start..].iter().take_while(same).map(|(id, value)| (*id, value))
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
                if step % 16 == 0 {
                    shelves.gather();
                }
                prop_assert_eq!(shelves.get(id), map.get(&id));
                prop_assert_eq!(shelves.get_mut(id), map.get_mut(&id));
            }
            for high in 0..3_u32 {
                let same: Vec<_> = shelves.beginning_with(high << 30).collect();
                let told = map.iter().filter(|(id, _)| id.bits() >> 62 == u64::from(high));
                prop_assert_eq!(same, told.map(|(id, value)| (*id, value)).collect::<Vec<_>>());
            }
            let held: Vec<_> = shelves.iter().map(|(id, value)| (id, *value)).collect();
            let told: Vec<_> = map.into_iter().collect();
            prop_assert_eq!(held, told);
        }
    }

    /// Sizes that mimalloc rounds up to.
    #[test]
    fn a_shelf_has_the_room_that_it_is_given() {
        let mut shelf = Vec::new();
        let mut rooms = Vec::new();
        for item in 0..200_u64 {
            make_room(&mut shelf);
            shelf.push([item; 5]);
            let room = shelf.capacity();
            rooms.retain(|other| *other != room);
            rooms.push(room);
        }
        let octets = [48, 80, 128, 160, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024];
        let more = [1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192];
        let told: Vec<_> = octets.iter().chain(&more).map(|octets| octets / 40).collect();
        assert_eq!(rooms, told);
    }

    #[test]
    fn little_room_is_free() {
        let mut shelves = Shelves::default();
        let ids = (0..1_300_u64).map(ObjectId::from_bits);
        ids.clone().for_each(|id| _ = shelves.get_or_insert_with(id, || id));
        // Of 16 octets each: 20 KiB would be too little.
        let room = shelves.shelves[0].capacity();
        assert_eq!(room * 16, 24 << 10);
        shelves.gather();
        assert!(shelves.shelves.iter().all(|shelf| shelf.capacity() == shelf.len()));
        ids.skip(100).for_each(|id| _ = shelves.remove(id));
        let room = shelves.shelves[0].capacity();
        assert!((100..=200).contains(&room), "{room}");
    }
}
