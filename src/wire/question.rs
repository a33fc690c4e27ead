//! The name asked for, folded to lower case, with its labels found.

use crate::model::DomainName;

/// The longest name has 127 one-octet labels (255 octets with the root).
const MAX_LABELS: usize = 127;
/// Room for the longest name in whole blocks.
const OCTETS: usize = (DomainName::MAX_LEN + 1).next_multiple_of(BLOCK);
/// Octets that a vector register of every supported machine holds.
const BLOCK: usize = 16;

/// The name of a question in lower-case wire form, and where each label starts.
///
/// Invariant: `octets[..len]` is a well-formed uncompressed name that ends in the root octet.
#[derive(Clone)]
pub struct QuestionName {
    octets: [u8; OCTETS],
    starts: [u8; MAX_LABELS + 1],
    len: u8,
    labels: u8,
}

impl QuestionName {
    /// The root, to be replaced by [`Self::read`].
    #[must_use]
    #[inline]
    pub fn root() -> Self {
        Self { octets: [0; OCTETS], starts: [0; MAX_LABELS + 1], len: 1, labels: 0 }
    }

    /// Reads the uncompressed name at the start of `wire` in place, as a name is too large to be
    /// moved about for every query. A compression pointer has nothing to point to in the first
    /// name of a message, so it is refused like every other malformation.
    #[inline]
    pub(super) fn read(&mut self, wire: &[u8]) -> Option<()> {
        // RFC 1035 §2.3.4: names are 255 octets or less, labels 63. A label has two octets at
        // least, so there are no more of them than `starts` has room for.
        let within = &wire[..wire.len().min(DomainName::MAX_LEN)];
        let (mut labels, mut at) = (0, 0);
        loop {
            let len = usize::from(*within.get(at)?);
            if len == 0 {
                break;
            }
            if len > 63 {
                return None;
            }
            *self.starts.get_mut(labels)? = at as u8;
            labels += 1;
            at += len + 1;
        }
        fold(&within[..=at], &mut self.octets);
        self.len = (at + 1) as u8;
        self.labels = labels as u8;
        Some(())
    }

    /// A name from elsewhere than a message, for those who explain.
    #[must_use]
    pub fn from_domain(name: &DomainName) -> Self {
        let mut read = Self::root();
        // A `DomainName` is a well-formed name by construction.
        read.read(name.wire()).expect("domain names are well-formed");
        read
    }

    /// Wire form in lower case, root included.
    #[must_use]
    #[inline]
    pub fn wire(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }

    /// How many labels there are, the root not counted.
    #[must_use]
    #[inline]
    pub fn labels(&self) -> usize {
        usize::from(self.labels)
    }

    /// Where the label with `index` (from the left) starts, its length octet included; the end of
    /// the labels, where the root octet stands, for `index == labels()`.
    #[must_use]
    #[inline]
    pub fn start(&self, index: usize) -> usize {
        if index < self.labels() { usize::from(self.starts[index]) } else { self.wire().len() - 1 }
    }

    /// The label with `index` from the left, without its length octet.
    #[must_use]
    #[inline]
    pub fn label(&self, index: usize) -> &[u8] {
        &self.octets[self.start(index) + 1..self.start(index + 1)]
    }

    /// The labels from `from` up to, not including, `to`, in wire form without a root.
    #[must_use]
    #[inline]
    pub fn span(&self, from: usize, to: usize) -> &[u8] {
        &self.octets[self.start(from)..self.start(to)]
    }

    /// How many labels stand in front of `apex`; `None` where the name is outside of it.
    #[must_use]
    #[inline]
    pub fn within(&self, apex: &[u8], apex_labels: usize) -> Option<usize> {
        let above = self.labels().checked_sub(apex_labels)?;
        (&self.wire()[self.start(above)..] == apex).then_some(above)
    }
}

/// Takes the octets of a name over in lower case, in blocks, the last of which overlaps the one
/// before it so that nothing is left to be copied one by one. What stands behind them is arbitrary.
///
/// # Panics
/// Where the name is longer than `N`, a multiple of 16.
#[inline]
pub fn fold<const N: usize>(name: &[u8], to: &mut [u8; N]) {
    const { assert!(N > 0 && N.is_multiple_of(BLOCK)) };
    // Length octets are below 64 and so never taken for the letters A to Z.
    let Some(last) = name.last_chunk::<BLOCK>() else {
        to[..name.len()].copy_from_slice(name);
        to[..BLOCK].make_ascii_lowercase();
        return;
    };
    for (to, from) in to.as_chunks_mut::<BLOCK>().0.iter_mut().zip(name.as_chunks::<BLOCK>().0) {
        *to = from.map(|octet| octet.to_ascii_lowercase());
    }
    if let Some(to) = to[..name.len()].last_chunk_mut::<BLOCK>() {
        *to = last.map(|octet| octet.to_ascii_lowercase());
    }
}

impl std::fmt::Debug for QuestionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.wire()))
    }
}

#[cfg(test)]
mod tests {
    use super::QuestionName;
    use crate::model::DomainName;

    fn parse(wire: &[u8]) -> Option<QuestionName> {
        let mut name = QuestionName::root();
        name.read(wire).map(|()| name)
    }

    #[test]
    fn finds_labels_and_folds_case() {
        let name = parse(b"\x03WwW\x07eXample\x00rest").expect("well-formed");
        assert_eq!(name.wire(), b"\x03www\x07example\x00");
        assert_eq!((name.labels(), name.label(1)), (2, &b"example"[..]));
        assert_eq!(name.span(0, 1), b"\x03www");
        let apex = DomainName::parse("example").expect("valid");
        assert_eq!(name.within(apex.wire(), 1), Some(1));
        let other = DomainName::parse("xample").expect("valid");
        assert_eq!(name.within(other.wire(), 1), None);
    }

    #[test]
    fn every_length_is_folded_whole() {
        for len in 1..=63_u8 {
            for second in [0, 1, 9] {
                let label = |len: u8| [vec![len], vec![b'Q'; len.into()]].concat();
                let wire = match second {
                    0 => [label(len), vec![0]].concat(),
                    second => [label(len), label(second), vec![0]].concat(),
                };
                let lower = wire.to_ascii_lowercase();
                // At the end of a message, and with octets behind it.
                for message in [wire.clone(), [&wire[..], b"BEHIND"].concat()] {
                    let name = parse(&message).expect("well-formed");
                    assert_eq!(name.wire(), lower);
                    assert_eq!(name.labels(), 1 + usize::from(second > 0));
                }
            }
        }
    }

    #[test]
    fn limits() {
        let mut longest = Vec::new();
        for _ in 0..127 {
            longest.extend_from_slice(b"\x01a");
        }
        longest.push(0);
        assert_eq!(parse(&longest).map(|n| n.labels()), Some(127));
        longest.splice(0..0, *b"\x01a");
        assert!(parse(&longest).is_none(), "257 octets");
        for bad in [&b""[..], b"\x01", b"\x01a", b"\xc0\x0c", b"\x40aaaa"] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
        assert_eq!(parse(b"\x00").map(|n| n.labels()), Some(0));
    }
}
