//! Metrics of tasks that are to run as long as the server does.

use prometheus::{IntCounterVec, Opts, Registry};

use super::register;

/// A task that is begun anew where it fails by a fault of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Reads one cluster.
    Cluster,
    /// Reads the home cluster, and writes Events and the ballot there.
    Home,
    /// Checks shards and counts votes.
    Checks,
    /// Carries ballots.
    Ballots,
    /// Keeps up with the overrides file.
    Overrides,
    /// Keeps up with geographic databases.
    Databases,
}

impl Task {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Cluster, Self::Home, Self::Checks, Self::Ballots, Self::Overrides, Self::Databases];

    /// The task as one word, in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Home => "home",
            Self::Checks => "checks",
            Self::Ballots => "ballots",
            Self::Overrides => "overrides",
            Self::Databases => "databases",
        }
    }
}

/// How often tasks have failed.
#[derive(Clone, Debug)]
pub struct TaskMetrics {
    restarts: IntCounterVec,
}

impl TaskMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let restarts = Opts::new(
            "meridian_task_restarts_total",
            "Tasks that failed by a fault of Meridian's own and were begun anew.",
        );
        let restarts = register(registry, IntCounterVec::new(restarts, &["task"]));
        // All exist from the start, so that an alert sees the first failure.
        for task in Task::ALL {
            restarts.with_label_values(&[task.label()]);
        }
        Self { restarts }
    }

    /// A task has failed, and begins anew.
    pub fn restarted(&self, task: Task) {
        self.restarts.with_label_values(&[task.label()]).inc();
    }
}
