//! Which Service each EndpointSlice belongs to, laid out for memory.

use super::shelves::{SHELF_BITS, gather, make_room, shelf_of, spare_room};
use crate::cluster::narrow::ObjectId;

/// Services by slice, of whose identities only as much is kept as eight octets take: the bits of the
/// slice's behind those that tell the shelf, and the highest of the Service's. Whoever looks a slice up
/// finds out from the Services, which hold their slices, whose it is.
#[derive(Debug)]
pub(super) struct Owners {
    /// Each in order of slices.
    shelves: Box<[Vec<(u32, Highest)>]>,
}

/// The highest bits of an identity.
pub(super) type Highest = u32;

/// The highest bits of an identity.
pub(super) fn highest(id: ObjectId) -> Highest {
    (id.bits() >> Highest::BITS) as Highest
}

/// The bits of an identity behind those that tell the shelf.
fn behind_shelf(id: ObjectId) -> u32 {
    (id.bits() << SHELF_BITS >> u32::BITS) as u32
}

impl Default for Owners {
    fn default() -> Self {
        Self { shelves: (0..1 << SHELF_BITS).map(|_| Vec::new()).collect() }
    }
}

impl Owners {
    /// The Services that a slice may belong to: where it belongs to one, that is among them, and hardly
    /// ever another.
    pub(super) fn of(&self, slice: ObjectId) -> impl Iterator<Item = Highest> {
        let (shelf, sought) = (&self.shelves[shelf_of(slice)], behind_shelf(slice));
        let start = shelf.partition_point(|(slice, _)| *slice < sought);
        let same = shelf[start..].iter().take_while(move |(slice, _)| *slice == sought);
        same.map(|(_, service)| *service)
    }

    /// Adds a slice, which belongs to no Service yet.
    pub(super) fn insert(&mut self, slice: ObjectId, service: ObjectId) {
        let shelf = &mut self.shelves[shelf_of(slice)];
        let entry = (behind_shelf(slice), highest(service));
        let at = shelf.partition_point(|other| *other < entry);
        make_room(shelf);
        shelf.insert(at, entry);
    }

    /// Has them take no more memory than they must; to be called when many have come.
    pub(super) fn gather(&mut self) {
        gather(&mut self.shelves);
    }

    /// Removes a slice of a Service.
    pub(super) fn remove(&mut self, slice: ObjectId, service: ObjectId) {
        let shelf = &mut self.shelves[shelf_of(slice)];
        let entry = (behind_shelf(slice), highest(service));
        if let Ok(at) = shelf.binary_search(&entry) {
            shelf.remove(at);
            spare_room(shelf);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few identities, of which some cannot be told apart by what is kept of them.
    fn id() -> impl Strategy<Value = ObjectId> {
        (0..2_u64, 0..3_u64, 0..3_u64)
            .prop_map(|(high, middle, low)| ObjectId::from_bits(high << 63 | middle << 32 | low))
    }

    proptest! {
        #[test]
        fn the_owner_is_always_among_those_that_it_may_be(
            steps in prop::collection::vec((id(), prop::option::of(id())), 0..200)
        ) {
            let (mut owners, mut map) = (Owners::default(), BTreeMap::new());
            for (slice, service) in steps {
                if let Some(before) = map.remove(&slice) {
                    owners.remove(slice, before);
                }
                if let Some(service) = service {
                    owners.insert(slice, service);
                    map.insert(slice, service);
                } else {
                    owners.gather();
                }
                for slice in map.keys() {
                    let alike = |(other, _): &(&ObjectId, _)| {
                        (shelf_of(**other), behind_shelf(**other))
                            == (shelf_of(*slice), behind_shelf(*slice))
                    };
                    let mut told: Vec<_> =
                        map.iter().filter(alike).map(|(_, owner)| highest(*owner)).collect();
                    told.sort_unstable();
                    prop_assert_eq!(owners.of(*slice).collect::<Vec<_>>(), told);
                }
            }
            let left = owners.shelves.iter().map(Vec::len).sum::<usize>();
            prop_assert_eq!(left, map.len());
        }
    }

    /// There is one for every slice of every cluster.
    #[test]
    fn a_slice_takes_eight_octets() {
        let entry = |owners: &Owners| size_of_val(&owners.shelves[0][0]);
        let mut owners = Owners::default();
        owners.insert(ObjectId::from_bits(1), ObjectId::from_bits(2));
        assert_eq!(entry(&owners), 8);
    }
}
