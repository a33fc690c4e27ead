//! Keys of services.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;
use triomphe::Arc;

use super::Label;

/// The hash by which services are found: over the wire form of `name.namespace`, lower case,
/// length octets included, root excluded. One pass, the same on the query path and in views.
#[must_use]
pub fn key_hash(wire: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(wire);
    hasher.finish()
}

/// A federated service: the same key in all clusters.
///
/// Held as the two labels in wire form, service name first, as they stand in every owner name,
/// behind their hash. A pointer of eight octets, whose copies share what it points to.
#[derive(Clone)]
pub struct ServiceKey(Arc<Held>);

/// Beside the count of copies as long as a line of the processor's cache, which is where allocators
/// put what is as long as one.
struct Held {
    hash: u64,
    wire: Wire,
}

const _: () = assert!(size_of::<Held>() + size_of::<usize>() == 64);

/// Octets of a key that are held in place: names of services and of namespaces are seldom more than
/// twenty octets long.
const IN_PLACE: usize = 46;

enum Wire {
    InPlace { len: u8, octets: [u8; IN_PLACE] },
    Elsewhere(Box<[u8]>),
}

impl Wire {
    fn new(wire: &[u8]) -> Self {
        let mut octets = [0; IN_PLACE];
        match octets.get_mut(..wire.len()) {
            Some(place) => {
                place.copy_from_slice(wire);
                Self::InPlace { len: wire.len() as u8, octets }
            }
            None => Self::Elsewhere(wire.into()),
        }
    }
}

impl ServiceKey {
    /// The key of service `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &Label, name: &Label) -> Self {
        let mut wire = Vec::with_capacity(2 + 2 * Label::MAX_LEN);
        for label in [name, namespace] {
            wire.push(label.as_bytes().len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        Self(Arc::new(Held { hash: key_hash(&wire), wire: Wire::new(&wire) }))
    }

    /// `name.namespace` as length-prefixed labels without the root.
    #[must_use]
    #[inline]
    pub fn wire(&self) -> &[u8] {
        match &self.0.wire {
            Wire::InPlace { len, octets } => octets.get(..usize::from(*len)).unwrap_or(octets),
            Wire::Elsewhere(wire) => wire,
        }
    }

    /// The hash of [`Self::wire`].
    #[must_use]
    #[inline]
    pub fn hash(&self) -> u64 {
        self.0.hash
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        let wire = self.wire();
        let len = usize::from(wire[0]);
        Self::text(&wire[1..=len])
    }

    /// The service's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let wire = self.wire();
        let len = usize::from(wire[0]);
        Self::text(&wire[len + 2..])
    }

    /// How many copies there are of it.
    #[must_use]
    pub fn copies(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    fn text(octets: &[u8]) -> &str {
        // Labels are ASCII by construction, so the fallback is never taken.
        std::str::from_utf8(octets).unwrap_or_default()
    }
}

impl PartialEq for ServiceKey {
    fn eq(&self, other: &Self) -> bool {
        // Keys are mostly shared, and what is far away in memory is not read then.
        Arc::ptr_eq(&self.0, &other.0) || self.wire() == other.wire()
    }
}

impl Eq for ServiceKey {}

impl PartialOrd for ServiceKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ServiceKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.wire().cmp(other.wire())
    }
}

impl Hash for ServiceKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wire().hash(state);
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.name())
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> ServiceKey {
        let label = |t| Label::parse(t).expect("valid");
        ServiceKey::new(&label(namespace), &label(name))
    }

    #[test]
    fn key_is_wire_form() {
        let web = key("ns", "web");
        assert_eq!(web.wire(), b"\x03web\x02ns");
        assert_eq!((web.name(), web.namespace()), ("web", "ns"));
        assert_eq!(web.to_string(), "ns/web");
        assert_eq!(web.hash(), key_hash(web.wire()));
        assert_ne!(web.hash(), key("web", "ns").hash());
        assert_eq!(web, key("ns", "web"));
        assert!(web > key("ns", "we") && web < key("nt", "web"));
    }
}
