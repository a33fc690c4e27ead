//! Joins views, builds and swaps snapshots.

use std::time::Duration;

/// When the first snapshot is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long to wait for sources that have not been read before answering without them.
    pub startup_grace: Duration,
}
