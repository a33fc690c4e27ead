//! Figures of the home cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::WatchClock;

/// What has become of Kubernetes Events: written by the home cluster's task, read at scrape.
#[derive(Debug, Default)]
pub struct EventCounts {
    written: AtomicU64,
    shared: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl EventCounts {
    /// The API server has taken one.
    pub fn written(&self) {
        self.written.fetch_add(1, Relaxed);
    }

    /// Another instance had written one.
    pub fn shared(&self) {
        self.shared.fetch_add(1, Relaxed);
    }

    /// The API server has not taken one.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// One was left out, as too many waited.
    pub fn dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    /// By outcome.
    pub(super) fn read(&self) -> [(&'static str, u64); 4] {
        let Self { written, shared, failed, dropped } = self;
        [("written", written), ("shared", shared), ("failed", failed), ("dropped", dropped)]
            .map(|(outcome, count)| (outcome, count.load(Relaxed)))
    }
}

/// What the publisher says of the home cluster; both are read at every scrape.
#[derive(Clone, Debug)]
pub struct HomeStats {
    /// Of the watch of its Secrets.
    pub clock: Arc<WatchClock>,
    /// Of the Events written there.
    pub events: Arc<EventCounts>,
}
