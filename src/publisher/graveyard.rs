//! Old snapshots until nobody reads them.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::snapshot::Snapshot;
use crate::tasks::Pieces;

/// How long after much was freed the allocator is reminded of it: mimalloc keeps free memory for
/// a second, or for as long as `MIMALLOC_PURGE_DELAY` says, before it gives it back to the system.
const REMINDER: Duration = Duration::from_millis(1_500);

/// So much is asked for and freed for that, octets: too much to be put among other things, which is
/// what makes mimalloc look for memory to be given back. It is never touched, and so costs nothing.
const REMINDING: usize = 16 << 20;

/// Snapshots that were replaced and that some worker may still read.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    old: Vec<Arc<Snapshot>>,
    /// When the allocator is to be reminded of what was freed.
    reminder: Option<Instant>,
}

impl Graveyard {
    /// Keeps a replaced snapshot until it is read no more.
    pub(super) fn bury(&mut self, snapshot: Arc<Snapshot>) {
        self.old.push(snapshot);
    }

    /// Whether there is nothing to sweep.
    pub(super) fn is_empty(&self) -> bool {
        self.old.is_empty() && self.reminder.is_none()
    }

    /// Frees what nobody else holds: as the cell gives it out no more, a count of one stays one.
    /// A large federation takes milliseconds to free, which are spent off the async threads.
    pub(super) fn sweep(&mut self, now: Instant) {
        let unread = |snapshot: &mut Arc<Snapshot>| Arc::strong_count(snapshot) == 1;
        let dead: Vec<_> = self.old.extract_if(.., unread).collect();
        if !dead.is_empty() {
            self.reminder = Some(now + REMINDER);
            tokio::task::spawn_blocking(move || free(dead));
        } else if self.reminder.take_if(|at| *at <= now).is_some() {
            tokio::task::spawn_blocking(remind);
        }
    }
}

/// Frees snapshots one by one: a storm of changes leaves fifty between two sweeps.
fn free(dead: Vec<Arc<Snapshot>>) {
    let mut pieces = Pieces::every(1);
    for snapshot in dead {
        drop(snapshot);
        pieces.step();
    }
}

/// Has the allocator give free memory back, which it does only when something else is freed: after a
/// first list a sixth of what was resident stayed so for as long as nothing changed.
fn remind() {
    drop(black_box(Vec::<u8>::with_capacity(REMINDING)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::testing::Fixture;

    #[tokio::test]
    async fn what_nobody_reads_is_freed_and_the_allocator_reminded() {
        let (mut graveyard, start) = (Graveyard::default(), Instant::now());
        let snapshot = Arc::new(Fixture::new().build());
        let reader = snapshot.clone();
        graveyard.bury(snapshot);
        graveyard.sweep(start);
        assert_eq!((graveyard.old.len(), graveyard.reminder), (1, None), "it is read");
        drop(reader);
        graveyard.sweep(start);
        assert!(graveyard.old.is_empty());
        assert!(!graveyard.is_empty(), "it is to be swept until the allocator was reminded");
        graveyard.sweep(start + REMINDER / 2);
        assert!(!graveyard.is_empty());
        graveyard.sweep(start + REMINDER);
        assert!(graveyard.is_empty());
    }
}
