//! EndpointSlices of one Service, laid out for memory.

use crate::cluster::narrow::{EndpointMark, FederateLabel, ObjectId};

/// The slices of a Service, nearly always one, or one a family: one allocation, whatever they hold.
///
/// Invariant: of each slice its identity, twice the number of its endpoints (and one more where it
/// lacks the label), and their marks.
#[derive(Debug, Default)]
pub(super) struct Slices(Box<[u64]>);

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice<'s> {
    head: &'s [u64; 2],
    marks: &'s [u64],
}

impl<'s> Slice<'s> {
    pub(super) fn id(self) -> ObjectId {
        ObjectId::from_bits(self.head[0])
    }

    pub(super) fn federate(self) -> FederateLabel {
        match self.head[1] & 1 {
            0 => FederateLabel::Satisfied,
            _ => FederateLabel::Missing,
        }
    }

    pub(super) fn endpoints(self) -> impl Iterator<Item = EndpointMark> + 's {
        self.marks.iter().map(|mark| EndpointMark::from_bits(*mark))
    }
}

impl Slices {
    pub(super) fn iter(&self) -> impl Iterator<Item = Slice<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (head, behind) = rest.split_first_chunk::<2>()?;
            let (marks, next) = behind.split_at_checked(head[1] as usize >> 1)?;
            rest = next;
            Some(Slice { head, marks })
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a slice, or changes the one of the same identity.
    pub(super) fn put(&mut self, id: ObjectId, federate: FederateLabel, marks: &[EndpointMark]) {
        let mut all = self.without(id, 2 + marks.len());
        let missing = u64::from(federate == FederateLabel::Missing);
        all.extend([id.bits(), (marks.len() as u64) << 1 | missing]);
        all.extend(marks.iter().map(|mark| mark.bits()));
        self.0 = all.into();
    }

    /// Removes a slice.
    pub(super) fn remove(&mut self, id: ObjectId) {
        self.0 = self.without(id, 0).into();
    }

    /// All but one, with room for so many words more.
    fn without(&self, id: ObjectId, room: usize) -> Vec<u64> {
        let others = || self.iter().filter(|slice| slice.id() != id);
        let len = others().map(|slice| slice.head.len() + slice.marks.len()).sum::<usize>();
        let mut all = Vec::with_capacity(len + room);
        for slice in others() {
            all.extend_from_slice(slice.head);
            all.extend_from_slice(slice.marks);
        }
        all
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
        let id = |name: &str| rules.id("ns", name);
        let marks = [3, 5, 8].map(EndpointMark::from_bits);
        let mut slices = Slices::default();
        let held = |slices: &Slices| -> Vec<_> {
            let told = |slice: Slice<'_>| {
                (slice.id(), slice.federate(), slice.endpoints().collect::<Vec<_>>())
            };
            slices.iter().map(told).collect()
        };
        for (count, name) in ["a", "b", "c"].into_iter().enumerate() {
            slices.put(id(name), FederateLabel::Missing, &marks);
            slices.put(id(name), FederateLabel::Satisfied, &marks[count..]);
            assert_eq!(slices.iter().count(), count + 1);
        }
        let one = |name, from: usize| (id(name), FederateLabel::Satisfied, marks[from..].to_vec());
        assert_eq!(held(&slices), [one("a", 0), one("b", 1), one("c", 2)]);
        slices.put(id("a"), FederateLabel::Missing, &[]);
        slices.remove(id("b"));
        slices.remove(id("none"));
        let bare = (id("a"), FederateLabel::Missing, Vec::new());
        assert_eq!(held(&slices), [one("c", 2), bare]);
        slices.remove(id("a"));
        slices.remove(id("c"));
        assert!(slices.is_empty() && slices.iter().next().is_none());
    }

    /// There is one for every service of every cluster.
    #[test]
    fn a_slice_takes_two_words_beside_its_endpoints() {
        let mut slices = Slices::default();
        let marks = [0; 2].map(EndpointMark::from_bits);
        slices.put(ObjectId::from_bits(7), FederateLabel::Satisfied, &marks);
        assert_eq!((size_of::<Slices>(), size_of_val(&*slices.0)), (16, 32));
    }
}
