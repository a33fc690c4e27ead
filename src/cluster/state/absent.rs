//! Shards that an earlier run served and that the first list lacks.
//!
//! Their objects are not known, only what was served, so they are kept in the view beside those
//! that have objects, and go when one comes or the confirmation period is over.

use std::collections::HashSet;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::ClusterState;
use super::guard::Guard;
use crate::model::{Buckets, ClusterView, ServiceKey, ShardEntry};

/// What is kept, and until when.
#[derive(Debug, Default)]
pub(super) struct Absent {
    kept: HashSet<ServiceKey, RandomState>,
    until: Option<Instant>,
    /// Whether that has changed since it was last told.
    untold: bool,
}

impl Absent {
    /// Compares `listed`, the first shards of this run, with those `before`, and where `guard`
    /// finds that too many are missing puts these back.
    pub(super) fn of(
        listed: &mut Buckets<ShardEntry>,
        before: &ClusterView,
        guard: &Guard,
        now: Instant,
    ) -> Self {
        let is_listed = |entry: &&ShardEntry| listed.find(entry.hash).any(|l| l.key == entry.key);
        let missing: Vec<&ShardEntry> =
            before.shards.iter().filter(|entry| !is_listed(entry)).collect();
        if !guard.is_mass(missing.len(), before.shards.len()) {
            return Self::default();
        }
        for entry in &missing {
            listed.upsert((*entry).clone(), |old| old.key == entry.key);
        }
        let kept = missing.into_iter().map(|entry| entry.key.clone()).collect();
        Self { kept, until: Some(now + guard.confirm()), untold: true }
    }

    /// Whether the shard of `key` is kept without an object.
    pub(super) fn keeps(&self, key: &ServiceKey) -> bool {
        self.kept.contains(key)
    }

    /// Notes that there is an object.
    pub(super) fn seen(&mut self, key: &ServiceKey) {
        self.untold |= self.kept.remove(key);
        if self.kept.is_empty() {
            self.until = None;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// When they are given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Whether what is kept has changed since this was last asked.
    pub(super) fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }
}

impl ClusterState {
    /// Gives up what was kept long enough.
    pub(super) fn settle_absent(&mut self, now: Instant) {
        if self.absent.until.is_none_or(|until| until > now) {
            return;
        }
        let gone = std::mem::take(&mut self.absent.kept);
        self.absent = Absent { untold: true, ..Absent::default() };
        gone.iter().for_each(|key| self.publish(key));
    }
}
