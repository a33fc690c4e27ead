//! How the watches of API servers fare.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Figures of one cluster's watches: written by the cluster's task, read at scrape. Labels come
/// from the fixed vocabularies of `cluster::link`.
#[derive(Debug, Default)]
pub struct Watches(Mutex<Figures>);

/// By kind of object.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// `listing`, `watching`, or the reason why neither.
    pub(super) states: BTreeMap<&'static str, &'static str>,
    /// By kind and reason.
    pub(super) failures: BTreeMap<(&'static str, &'static str), u64>,
    pub(super) undecodable: BTreeMap<&'static str, u64>,
}

impl Watches {
    /// The watch of `kind` is in `state` now.
    pub fn enter(&self, kind: &'static str, state: &'static str) {
        self.figures().states.insert(kind, state);
    }

    /// A request of the watch of `kind` has failed for `reason`.
    pub fn failed(&self, kind: &'static str, reason: &'static str) {
        *self.figures().failures.entry((kind, reason)).or_default() += 1;
    }

    /// An object of `kind` was skipped because it could not be decoded.
    pub fn undecodable(&self, kind: &'static str) {
        *self.figures().undecodable.entry(kind).or_default() += 1;
    }

    pub(super) fn read(&self) -> Figures {
        self.figures().clone()
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        // Each change is one insertion, so the figures are good even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
