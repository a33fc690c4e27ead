//! What operators say, and how far it has come: the overrides file and planned drains.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time;

use super::OverridesReceiver;
use super::known::View;
use crate::health::overrides::Overrides;
use crate::health::{PhaseTracker, Phases, Seen};
use crate::snapshot::{Federation, Snapshot};
use crate::telemetry::{Outcome, Reload, Telemetry};

/// The overrides file, and the memory that drains need.
#[derive(Debug)]
pub(super) struct Operators {
    overrides: OverridesReceiver,
    tracker: PhaseTracker,
}

impl Operators {
    pub(super) fn new(overrides: OverridesReceiver) -> Self {
        Self { overrides, tracker: PhaseTracker::default() }
    }

    /// Takes in the views at `now`, Unix time in seconds; what is drained from now on is served for
    /// as long as resolvers may keep what `previous` answers.
    pub(super) fn look(
        &mut self,
        federation: &Federation,
        views: &[Option<View>],
        previous: Option<&Snapshot>,
        now: u64,
    ) -> (Arc<Overrides>, Phases) {
        let overrides = self.overrides.borrow().clone();
        let views: Vec<_> = views.iter().map(|view| Some(view.as_ref()?.view.clone())).collect();
        let seen = Seen {
            settings: &federation.health,
            members: &federation.members,
            views: &views,
            overrides: &overrides,
            now,
        };
        let phases = self.tracker.observe(seen, |key| {
            let Some(zone) = previous.map(|previous| &previous.zone) else { return 0 };
            match key {
                Some(key) => zone.service(key.wire()).map_or(0, |(service, _)| service.ttl),
                None => zone.services().iter().map(|entry| entry.service().ttl).max().unwrap_or(0),
            }
        });
        let phases = phases.clone();
        (overrides, phases)
    }
}

/// Counts that the overrides file was read anew, if it was.
pub(super) fn count(before: &Arc<Overrides>, now: &Arc<Overrides>, telemetry: &Telemetry) {
    if !Arc::ptr_eq(before, now) {
        let outcome = if now.fault.is_none() { Outcome::Success } else { Outcome::Failure };
        telemetry.reloaded(Reload::Overrides, outcome);
    }
}

/// Waits until the clock shows `deadline`, Unix time in seconds; for ever where there is none.
pub(super) async fn due(deadline: Option<u64>) {
    // Looked at again now and then, as the clock may be set.
    const LOOK: Duration = Duration::from_secs(60);
    let Some(deadline) = deadline else { return std::future::pending().await };
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match Duration::from_secs(deadline).checked_sub(now) {
            None | Some(Duration::ZERO) => return,
            Some(left) => time::sleep(left.min(LOOK)).await,
        }
    }
}
