//! EndpointSlices of one Service, laid out for memory.

use smallvec::SmallVec;
use triomphe::ThinArc;

use crate::cluster::narrow::{EndpointMark, FederateLabel, ObjectId};

/// An EndpointSlice: one allocation, whatever it holds.
#[derive(Clone, Debug)]
pub(super) struct Slice(ThinArc<(ObjectId, FederateLabel), EndpointMark>);

impl Slice {
    pub(super) fn new(id: ObjectId, federate: FederateLabel, endpoints: &[EndpointMark]) -> Self {
        Self(ThinArc::from_header_and_slice((id, federate), endpoints))
    }

    pub(super) fn id(&self) -> ObjectId {
        self.0.header.header.0
    }

    pub(super) fn federate(&self) -> FederateLabel {
        self.0.header.header.1
    }

    pub(super) fn endpoints(&self) -> &[EndpointMark] {
        &self.0.slice
    }
}

/// The slices of a Service: nearly always one, or one a family.
#[derive(Debug, Default)]
pub(super) enum Slices {
    #[default]
    None,
    One(Slice),
    Many(ThinArc<(), Slice>),
}

impl Slices {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Slice> {
        match self {
            Self::None => [].iter(),
            Self::One(slice) => std::slice::from_ref(slice).iter(),
            Self::Many(slices) => slices.slice.iter(),
        }
    }

    /// Adds a slice, or changes the one of the same identity.
    pub(super) fn put(&mut self, slice: Slice) {
        let (mut all, id) = (self.all(), slice.id());
        match all.iter_mut().find(|old| old.id() == id) {
            Some(old) => *old = slice,
            None => all.push(slice),
        }
        *self = Self::of(&all);
    }

    /// Removes a slice.
    pub(super) fn remove(&mut self, id: ObjectId) {
        let mut all = self.all();
        all.retain(|slice| slice.id() != id);
        *self = Self::of(&all);
    }

    fn all(&self) -> SmallVec<[Slice; 4]> {
        self.iter().cloned().collect()
    }

    fn of(all: &[Slice]) -> Self {
        match all {
            [] => Self::None,
            [slice] => Self::One(slice.clone()),
            all => Self::Many(ThinArc::from_header_and_iter((), all.iter().cloned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::narrow::Rules;
    use crate::model::DomainName;

    #[test]
    fn each_slice_is_there_once_until_it_is_removed() {
        let apex = DomainName::parse("example.com").unwrap();
        let rules = Rules::new(crate::cluster::Export::All, [].into(), apex);
        let slice = |name: &str, federate| Slice::new(rules.id("ns", name), federate, &[]);
        let mut slices = Slices::default();
        let held = |slices: &Slices| -> Vec<_> {
            slices.iter().map(|slice| (slice.id(), slice.federate())).collect()
        };
        let names = ["a", "b", "c"];
        for (count, name) in names.iter().enumerate() {
            slices.put(slice(name, FederateLabel::Missing));
            slices.put(slice(name, FederateLabel::Satisfied));
            assert_eq!(slices.iter().len(), count + 1);
        }
        let all = names.map(|name| (rules.id("ns", name), FederateLabel::Satisfied));
        assert_eq!(held(&slices), all);
        slices.remove(rules.id("ns", "b"));
        slices.remove(rules.id("ns", "none"));
        assert_eq!(held(&slices), [all[0], all[2]]);
        slices.remove(rules.id("ns", "a"));
        slices.remove(rules.id("ns", "c"));
        assert!(matches!(slices, Slices::None));
    }

    /// There is one for every service of every cluster.
    #[test]
    fn slices_take_two_words() {
        assert_eq!((size_of::<Slice>(), size_of::<Slices>()), (8, 16));
    }
}
