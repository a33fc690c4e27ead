//! Metrics of active checks and votes.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::register;
use crate::health::check::Probed;
use crate::health::votes::{Mode, Status};

/// How active checks go, and how votes stand.
#[derive(Clone, Debug)]
pub struct CheckMetrics {
    /// Checks that passed.
    pub passed: IntCounter,
    /// Checks that failed.
    pub failed: IntCounter,
    /// Checks that could not be made, by a fault of ours.
    pub unable: IntCounter,
    /// 1 while every cluster looks lost, so that nothing is taken out for it.
    pub fail_static: IntGauge,
    targets: IntGauge,
    suspects: IntGauge,
    voters_known: IntGauge,
    voters_heard: IntGauge,
    modes: IntGaugeVec,
}

impl CheckMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let checks = Opts::new("meridian_checks_total", "Active checks by how they ended.");
        let checks = register(registry, IntCounterVec::new(checks, &["outcome"]));
        let targets = IntGauge::new("meridian_check_targets", "Targets that are checked.");
        let suspects = IntGauge::new(
            "meridian_suspect_shards",
            "Shards that someone sees failing and that are not out for it, or not yet.",
        );
        let fail_static = IntGauge::new(
            "meridian_fail_static",
            "1 while every cluster looks lost, so that nothing is taken out for that.",
        );
        let voters = Opts::new("meridian_voters", "Clusters that vote, and those that are heard.");
        let voters = register(registry, IntGaugeVec::new(voters, &["state"]));
        let modes = Opts::new(
            "meridian_votes_mode",
            "1 for how it is decided what checks take out, 0 for the other ways.",
        );
        let metrics = Self {
            passed: checks.with_label_values(&["passed"]),
            failed: checks.with_label_values(&["failed"]),
            unable: checks.with_label_values(&["unable"]),
            fail_static: register(registry, fail_static),
            targets: register(registry, targets),
            suspects: register(registry, suspects),
            voters_known: voters.with_label_values(&["known"]),
            voters_heard: voters.with_label_values(&["heard"]),
            modes: register(registry, IntGaugeVec::new(modes, &["mode"])),
        };
        metrics.stand(&Status::default());
        metrics
    }

    /// A check has ended.
    pub fn count(&self, outcome: &Probed) {
        match outcome {
            Probed::Passed => self.passed.inc(),
            Probed::Failed(_) => self.failed.inc(),
            Probed::Unable(_) | Probed::Late(_) => self.unable.inc(),
        }
    }

    /// Shows how it all stands.
    pub fn stand(&self, status: &Status) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.targets.set(count(status.targets));
        self.suspects.set(count(status.suspects));
        // One that decides for itself is the only voter, and hears itself.
        let (known, heard) =
            status.voting.as_ref().map_or((1, 1), |voting| (voting.voters.len(), voting.heard));
        self.voters_known.set(count(known));
        self.voters_heard.set(count(heard));
        for mode in Mode::ALL {
            let gauge = self.modes.with_label_values(&[mode.label()]);
            gauge.set(i64::from(mode.label() == status.mode.label()));
        }
    }
}
