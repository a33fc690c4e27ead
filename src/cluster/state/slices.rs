//! EndpointSlices of one Service, laid out for memory.

use smallvec::SmallVec;

use crate::cluster::narrow::{EndpointMark, FederateLabel, ObjectId, Readiness};
use crate::model::Endpoints;

/// Endpoints of a slice that are held in place: most services have three replicas at most, and one
/// more would take eight octets of each.
const FEW: usize = 3;

/// The slices of a Service: nearly always one, of a few endpoints, which then is held in place.
#[derive(Debug)]
pub(super) enum Slices {
    /// One. Of the marks as many count as `count` says; the others are zero.
    One { id: ObjectId, marks: [u32; FEW], count: u8, federate: FederateLabel },
    /// Any number, in one allocation. Invariant: of each the halves of its identity, twice the number
    /// of its endpoints (and one more where it lacks the label), and their marks.
    Any(Box<[u32]>),
}

/// Words of a slice beside its marks.
const HEAD: usize = 3;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice<'s> {
    id: ObjectId,
    federate: FederateLabel,
    marks: &'s [u32],
}

impl<'s> Slice<'s> {
    pub(super) fn id(self) -> ObjectId {
        self.id
    }

    pub(super) fn federate(self) -> FederateLabel {
        self.federate
    }

    pub(super) fn endpoints(self) -> impl Iterator<Item = EndpointMark> + 's {
        self.marks.iter().map(|mark| EndpointMark::from_bits(*mark))
    }

    /// It as it stands among any number.
    fn words(self) -> impl Iterator<Item = u32> + 's {
        let id = self.id.bits();
        let missing = u32::from(self.federate == FederateLabel::Missing);
        // An API server gives a slice a thousand endpoints at most.
        let head = [(id >> 32) as u32, id as u32, (self.marks.len() as u32) << 1 | missing];
        head.into_iter().chain(self.marks.iter().copied())
    }

    /// The first of some words, and those behind it.
    fn split(words: &'s [u32]) -> Option<(Self, &'s [u32])> {
        let ([high, low, count], behind) = words.split_first_chunk::<HEAD>()?;
        let (marks, next) = behind.split_at_checked((count >> 1) as usize)?;
        let federate = match count & 1 {
            0 => FederateLabel::Satisfied,
            _ => FederateLabel::Missing,
        };
        let id = ObjectId::from_bits(u64::from(*high) << 32 | u64::from(*low));
        Some((Self { id, federate, marks }, next))
    }
}

impl Default for Slices {
    fn default() -> Self {
        Self::Any(Box::default())
    }
}

impl Slices {
    pub(super) fn iter(&self) -> impl Iterator<Item = Slice<'_>> + Clone {
        let (one, mut rest) = match self {
            Self::One { id, marks, count, federate } => {
                let marks = &marks[..usize::from(*count).min(FEW)];
                (Some(Slice { id: *id, federate: *federate, marks }), &[][..])
            }
            Self::Any(words) => (None, &**words),
        };
        one.into_iter().chain(std::iter::from_fn(move || {
            let (slice, next) = Slice::split(rest)?;
            rest = next;
            Some(slice)
        }))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ObjectId> {
        self.iter().map(Slice::id)
    }

    /// Counts endpoints, each once over all slices: an endpoint with an IPv4 and an IPv6 address
    /// stands in a slice of each family. It is ready if any slice says so.
    pub(super) fn count(&self, readiness: Readiness) -> Endpoints {
        let mut marks: SmallVec<[EndpointMark; 16]> =
            self.iter().flat_map(Slice::endpoints).collect();
        marks.sort_unstable();
        let mut endpoints = Endpoints::default();
        for same in marks.chunk_by(|a, b| a.identity() == b.identity()) {
            endpoints.total += 1;
            let ready = readiness == Readiness::Ignored || same.iter().any(|mark| mark.is_ready());
            endpoints.ready += u32::from(ready);
        }
        endpoints
    }

    /// Whether a slice is one of them.
    pub(super) fn contains(&self, id: ObjectId) -> bool {
        self.iter().any(|slice| slice.id == id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Adds a slice, or changes the one of the same identity.
    pub(super) fn put(&mut self, id: ObjectId, federate: FederateLabel, marks: &[EndpointMark]) {
        let marks: SmallVec<[u32; 16]> = marks.iter().map(|mark| mark.bits()).collect();
        self.replace(id, Some(Slice { id, federate, marks: &marks }));
    }

    /// Removes a slice.
    pub(super) fn remove(&mut self, id: ObjectId) {
        self.replace(id, None);
    }

    fn replace(&mut self, id: ObjectId, fresh: Option<Slice<'_>>) {
        *self = Self::of(self.iter().filter(|slice| slice.id != id).chain(fresh));
    }

    fn of<'s>(slices: impl Iterator<Item = Slice<'s>> + Clone) -> Self {
        let mut first = slices.clone();
        match (first.next(), first.next()) {
            (Some(Slice { id, federate, marks }), None) if marks.len() <= FEW => {
                let mut held = [0; FEW];
                held[..marks.len()].copy_from_slice(marks);
                Self::One { id, marks: held, count: marks.len() as u8, federate }
            }
            _ => {
                let len = slices.clone().map(|slice| HEAD + slice.marks.len()).sum();
                let mut words = Vec::with_capacity(len);
                words.extend(slices.flat_map(Slice::words));
                Self::Any(words.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn held(slices: &Slices) -> BTreeMap<ObjectId, (bool, Vec<EndpointMark>)> {
        let told = |slice: Slice<'_>| {
            let missing = slice.federate() == FederateLabel::Missing;
            (slice.id(), (missing, slice.endpoints().collect()))
        };
        slices.iter().map(told).collect()
    }

    proptest! {
        #[test]
        fn they_hold_what_was_put_last(
            steps in prop::collection::vec(
                (0..4_u64, prop::option::of((any::<bool>(), prop::collection::vec(any::<u32>(), 0..6)))),
                0..40,
            )
        ) {
            let (mut slices, mut map) = (Slices::default(), BTreeMap::new());
            for (id, put) in steps {
                // Halves that differ.
                let id = ObjectId::from_bits(id << 32 | 7);
                match put {
                    Some((missing, marks)) => {
                        let marks: Vec<_> = marks.into_iter().map(EndpointMark::from_bits).collect();
                        let federate = match missing {
                            true => FederateLabel::Missing,
                            false => FederateLabel::Satisfied,
                        };
                        slices.put(id, federate, &marks);
                        map.insert(id, (missing, marks));
                    }
                    None => {
                        slices.remove(id);
                        map.remove(&id);
                    }
                }
                prop_assert_eq!(held(&slices), map.clone());
                prop_assert_eq!(slices.iter().count(), map.len());
                prop_assert_eq!(slices.is_empty(), map.is_empty());
                prop_assert_eq!(slices.contains(id), map.contains_key(&id));
            }
        }
    }

    /// There is one for every service of every cluster.
    #[test]
    fn a_slice_of_few_endpoints_is_held_in_place() {
        assert_eq!(size_of::<Slices>(), 24);
        let mut slices = Slices::default();
        let marks = [5; FEW + 1].map(EndpointMark::from_bits);
        slices.put(ObjectId::from_bits(7), FederateLabel::Missing, &marks[..FEW]);
        assert!(matches!(slices, Slices::One { .. }));
        slices.put(ObjectId::from_bits(7), FederateLabel::Missing, &marks);
        assert!(matches!(&slices, Slices::Any(words) if words.len() == HEAD + FEW + 1));
        slices.put(ObjectId::from_bits(8), FederateLabel::Missing, &[]);
        slices.remove(ObjectId::from_bits(7));
        assert!(matches!(slices, Slices::One { count: 0, .. }));
    }
}
