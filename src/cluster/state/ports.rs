//! Port lists, shared.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::model::Port;

/// Equal port lists, held once: most services of a cluster have the same few.
#[derive(Debug, Default)]
pub(super) struct Interner(HashSet<Arc<[Port]>, RandomState>);

impl Interner {
    /// The one copy of `ports`.
    pub(super) fn intern(&mut self, ports: Arc<[Port]>) -> Arc<[Port]> {
        if let Some(known) = self.0.get(&ports) {
            return known.clone();
        }
        self.0.insert(ports.clone());
        ports
    }

    /// Frees the lists that nobody else holds.
    pub(super) fn prune(&mut self) {
        self.0.retain(|ports| Arc::strong_count(ports) > 1);
    }
}
