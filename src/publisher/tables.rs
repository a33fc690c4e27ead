//! Has geographic tables compiled in the background.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::geo::Compiled;
use crate::snapshot::Snapshot;

/// The least time from one look for missing tables to the next: to find which are wanted, all sets
/// of clusters that services are in have to be compared, and what is missing costs only that scopes
/// are narrower for a while.
const PAUSE: Duration = Duration::from_millis(100);

/// A look or a compilation that took long is followed by a pause of so many times as long.
const PAUSE_FACTOR: u32 = 4;

/// The tables that are being compiled, if any.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// A snapshot that has not been looked at, the newest.
    unseen: Option<Arc<Snapshot>>,
    working: Option<JoinHandle<Option<Compiled>>>,
    begun: Option<Instant>,
    /// No look before this.
    pause: Option<Instant>,
}

impl Tables {
    /// Has the tables compiled soon that `snapshot` lacks, in the place of what was to be looked at
    /// so far.
    pub(super) fn look(&mut self, snapshot: Arc<Snapshot>) {
        self.unseen = Some(snapshot);
    }

    /// Waits for tables. May be dropped at any time.
    pub(super) async fn compiled(&mut self) -> Compiled {
        loop {
            if let Some(working) = &mut self.working {
                let found = working.await;
                self.working = None;
                let now = Instant::now();
                let took = self.begun.map_or(Duration::ZERO, |begun| now - begun);
                self.pause = Some(now + PAUSE.max(took * PAUSE_FACTOR));
                match found {
                    // Part of what is wanted may be missing still, which the next snapshot tells.
                    Ok(Some(compiled)) => {
                        self.pause = None;
                        return compiled;
                    }
                    Ok(None) => {}
                    Err(panic) => {
                        warn!(%panic, "compiling geography failed; scopes stay narrower than needed");
                    }
                }
            } else if self.unseen.is_some() {
                if let Some(pause) = self.pause {
                    sleep_until(pause).await;
                }
                // It is there still: nobody took it meanwhile.
                let Some(snapshot) = self.unseen.take() else { continue };
                self.begun = Some(Instant::now());
                self.working = Some(spawn_blocking(move || {
                    let missing = snapshot.missing_tables();
                    // Nobody needs it for as long as compiling takes.
                    drop(snapshot);
                    missing.map(|missing| missing.compile())
                }));
            } else {
                std::future::pending().await
            }
        }
    }
}
