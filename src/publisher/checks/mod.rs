//! Active checks and votes: from views to [`Opinions`], by probing and by asking others.
//!
//! *Owns*: which target is checked when, the ballot of this instance, and what follows for shards
//! and whole clusters. *Guarantees*: one probe a distinct target, spread in time; one changed
//! service does not walk all; what fails by a fault of ours speaks against nobody. *Does not*:
//! decide what is served, which takes more than checks.
//!
//! | part | role |
//! |---|---|
//! | `roster` | which targets speak for which shards, and what they say |
//! | `schedule` | when each is checked |
//! | `desk` | what is seen, joined with what is voted |
//! | `standing` | what holds while a task that was begun anew knows too little |
//! | `runner` | the task: probes, ballots, time |
//! | `directory` | ballots in a shared directory |

mod desk;
mod directory;
mod roster;
mod runner;
mod schedule;
mod standing;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::health::votes::{Ballot, BallotBox, Heard, Mode, Status};
use crate::health::{Checks as Said, Failure, Opinions};
use crate::model::{ClusterView, Label};
use crate::snapshot::Federation;
use crate::tasks::{Kept, keep};
use crate::telemetry::{CheckMetrics, Task, TaskMetrics, Telemetry};
use runner::{Channels, Runner};

/// What is to be checked, if need be.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) federation: Arc<Federation>,
    /// By id, as all that follows.
    pub(super) views: Vec<Option<Arc<ClusterView>>>,
    /// Whether the API of each is lost.
    pub(super) lost: Vec<bool>,
}

/// What follows from checks and votes.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdicts {
    pub(super) opinions: Opinions,
    /// Of clusters as wholes, as far as anything is known.
    pub(super) clusters: Arc<BTreeMap<Label, Said>>,
    /// Why those fail that as wholes are agreed to.
    pub(super) failing: Arc<BTreeMap<Label, Arc<Failure>>>,
    /// How that was decided.
    pub(super) mode: Mode,
    /// Who voted when it was last decided in another way than before; `None` where nobody else does.
    pub(super) attendance: Option<Attendance>,
}

/// How many voters are heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attendance {
    pub(super) heard: usize,
    pub(super) voters: usize,
}

/// The task that checks, as the publisher holds it; it ends with this.
#[derive(Debug)]
pub(super) struct Checks {
    assigned: watch::Sender<Option<Arc<Assignment>>>,
    verdicts: watch::Receiver<Verdicts>,
    /// What it is made of when it is started.
    parts: Option<(Channels, CheckMetrics, TaskMetrics)>,
    task: Option<Kept>,
}

impl Checks {
    /// Checks nothing until it is started. What is given beside it is for those that carry ballots,
    /// and for people.
    pub(super) fn new(telemetry: &Telemetry) -> (Self, BallotBox, watch::Receiver<Status>) {
        let (assigned, assigned_seen) = watch::channel(None);
        let (verdicts, verdicts_seen) = watch::channel(Verdicts::default());
        let (own, own_seen) = watch::channel(None::<Arc<Ballot>>);
        let (heard, heard_seen) = watch::channel(Heard::default());
        let (status, status_seen) = watch::channel(Status::default());
        let ballots = BallotBox { own: own_seen, heard };
        let channels = Channels {
            assigned: assigned_seen,
            verdicts,
            own,
            heard: heard_seen,
            ballots: ballots.clone(),
            status,
        };
        let parts = Some((channels, telemetry.checks().clone(), telemetry.tasks().clone()));
        let checks = Self { assigned, verdicts: verdicts_seen, parts, task: None };
        (checks, ballots, status_seen)
    }

    /// Begins to check, within the current tokio runtime.
    pub(super) fn start(&mut self) {
        if let Some((channels, metrics, tasks)) = self.parts.take() {
            let of_runner = tasks.clone();
            // Begun anew it knows nothing but what was told, which holds until it knows as much.
            let make =
                move || Runner::new(channels.clone(), metrics.clone(), of_runner.clone()).run();
            self.task = Some(keep(Task::Checks, &tasks, make));
        }
    }

    /// Has this checked from now on.
    pub(super) fn assign(&self, assignment: Assignment) {
        self.assigned.send_if_modified(|before| {
            let same = before.as_ref().is_some_and(|before| before.is(&assignment));
            if !same {
                *before = Some(Arc::new(assignment));
            }
            !same
        });
    }

    /// What follows so far.
    pub(super) fn verdicts(&mut self) -> Verdicts {
        self.verdicts.borrow_and_update().clone()
    }

    /// Waits until something else follows than what was last asked for.
    pub(super) async fn changed(&mut self) {
        if self.verdicts.changed().await.is_err() {
            // Nothing is checked: what was last said stays.
            std::future::pending().await
        }
    }
}

impl Assignment {
    /// Whether it is the same, by pointers.
    fn is(&self, other: &Self) -> bool {
        let same_view = |(a, b): (&Option<Arc<ClusterView>>, &Option<_>)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        Arc::ptr_eq(&self.federation, &other.federation)
            && self.lost == other.lost
            && self.views.len() == other.views.len()
            && self.views.iter().zip(&other.views).all(same_view)
    }
}
