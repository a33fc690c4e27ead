//! Values that many shards have in common, held once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use foldhash::fast::RandomState;

use super::{Ports, ServiceKey};

/// The keys and ports in use, each once: clusters of a federation have the same services, and most
/// services of a cluster the same few ports.
#[derive(Debug, Default)]
pub struct Pool {
    keys: Mutex<Interned<ServiceKey>>,
    ports: Mutex<Interned<Ports>>,
}

impl Pool {
    /// The one copy of `key`.
    #[must_use]
    pub fn key(&self, key: ServiceKey) -> ServiceKey {
        // A set is sound whatever its last user did before it panicked.
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.one(key, |key| key.copies() > 1)
    }

    /// The one copy of `ports`.
    #[must_use]
    pub fn ports(&self, ports: Ports) -> Ports {
        let mut all = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        all.one(ports, |ports| ports.copies() > 1)
    }
}

/// Equal values, held once. What nobody else holds is dropped, and room that is not needed given
/// back, after as many calls as values were kept the last time, so that each call pays for a
/// constant number of looks, and what is left behind goes even where nothing new comes.
#[derive(Debug)]
struct Interned<T> {
    values: HashSet<T, RandomState>,
    /// How many there were when the unused ones were last dropped.
    kept: usize,
    /// Calls since then.
    calls: usize,
}

/// There is no look after fewer calls.
const FIRST_LOOK: usize = 1024;

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { values: HashSet::default(), kept: 0, calls: 0 }
    }
}

impl<T: Clone + Eq + Hash> Interned<T> {
    fn one(&mut self, value: T, is_used: impl Fn(&T) -> bool) -> T {
        self.calls += 1;
        // Growth takes calls too: the number at most doubles between two looks.
        if self.calls >= FIRST_LOOK.max(self.kept) {
            self.values.retain(is_used);
            (self.kept, self.calls) = (self.values.len(), 0);
            // With as much room again, lest it grow at once.
            self.values.shrink_to(2 * self.kept);
        }
        if let Some(known) = self.values.get(&value) {
            return known.clone();
        }
        self.values.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Label, Port, Protocol};

    fn label(text: &str) -> Label {
        Label::parse(text).expect("valid")
    }

    fn key(name: &str) -> ServiceKey {
        ServiceKey::new(&label("ns"), &label(name))
    }

    #[test]
    fn equal_values_are_one() {
        let pool = Pool::default();
        let (first, second) = (pool.key(key("web")), pool.key(key("web")));
        // Both, and that of the pool.
        assert_eq!((first.copies(), &first), (3, &second));
        assert_eq!(pool.key(key("db")).copies(), 2);
        let ports = |number| {
            let port = Port { name: label("http"), protocol: Protocol::Tcp, number };
            pool.ports(Ports::new([port].into(), Some(number)))
        };
        let (first, second) = (ports(80), ports(80));
        assert_eq!((first.copies(), &first), (3, &second));
        assert_eq!(ports(81).copies(), 2);
    }

    #[test]
    fn what_nobody_uses_is_dropped() {
        let pool = Pool::default();
        let used = pool.key(key("web"));
        for index in 0..10 * FIRST_LOOK {
            let _ = pool.key(key(&format!("s{index}")));
        }
        let held = pool.keys.lock().expect("nobody panicked").values.len();
        assert!(held <= FIRST_LOOK, "{held}");
        assert_eq!(pool.key(key("web")).copies(), 3, "it is the one that is used: {used}");
    }

    /// As when a large cluster has gone, and the others change now and then.
    #[test]
    fn what_is_left_behind_goes_where_nothing_new_comes() {
        let pool = Pool::default();
        let used = pool.key(key("web"));
        let many: Vec<_> =
            (0..10 * FIRST_LOOK).map(|index| pool.key(key(&format!("s{index}")))).collect();
        drop(many);
        for _ in 0..11 * FIRST_LOOK {
            let _ = pool.key(used.clone());
        }
        let keys = pool.keys.lock().expect("nobody panicked");
        assert_eq!((keys.values.len(), used.copies()), (1, 2));
        assert!(keys.values.capacity() <= FIRST_LOOK, "{}", keys.values.capacity());
    }
}
