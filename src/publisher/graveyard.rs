//! Old snapshots until nobody reads them.

use std::sync::Arc;

use crate::snapshot::Snapshot;

/// Snapshots that were replaced and that some worker may still read.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    old: Vec<Arc<Snapshot>>,
}

impl Graveyard {
    /// Keeps a replaced snapshot until it is read no more.
    pub(super) fn bury(&mut self, snapshot: Arc<Snapshot>) {
        self.old.push(snapshot);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.old.is_empty()
    }

    /// Frees what nobody else holds: as the cell gives it out no more, a count of one stays one.
    /// A large federation takes milliseconds to free, which are spent off the async threads.
    pub(super) fn sweep(&mut self) {
        let unread = |snapshot: &mut Arc<Snapshot>| Arc::strong_count(snapshot) == 1;
        let dead: Vec<_> = self.old.extract_if(.., unread).collect();
        if !dead.is_empty() {
            tokio::task::spawn_blocking(move || drop(dead));
        }
    }
}
