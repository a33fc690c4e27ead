//! What the view reports.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::Report;

/// The reports of a cluster, shared with the views that show them.
///
/// Invariant: no two owners make the same report, as each names itself in the subject. So an
/// owner's reports can be taken out without counting.
#[derive(Debug, Default)]
pub(super) struct Reports(Arc<BTreeSet<Report>>);

impl Reports {
    /// All of them.
    pub(super) fn all(&self) -> Arc<BTreeSet<Report>> {
        self.0.clone()
    }

    /// Puts one owner's reports in the place of those it made before; says whether they differ.
    pub(super) fn replace(&mut self, old: &BTreeSet<Report>, new: &BTreeSet<Report>) -> bool {
        if old == new {
            return false;
        }
        let all = Arc::make_mut(&mut self.0);
        for report in old.difference(new) {
            all.remove(report);
        }
        all.extend(new.difference(old).cloned());
        true
    }
}
