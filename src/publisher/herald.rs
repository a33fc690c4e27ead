//! Tells people of changes: one log line and one Kubernetes Event for each, or one for many.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::changes::{Changes, Group, ShardChange, ShardState, Telling};
use super::checks::Attendance;
use super::operated::Operation;
use crate::cluster::home::{Home, Notice, Severity};
use crate::health::{ClusterState, Transition};
use crate::model::{Label, Until};

/// Changes of shards that follow the last telling within this time are told together: with at
/// most [`super::changes::MOST`] lines each time, an outage of any size is a few lines a second.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be told, and when something was last.
#[derive(Debug, Default)]
pub(super) struct Herald {
    pending: Changes,
    told: Option<Instant>,
    home: Option<Arc<Home>>,
}

impl Herald {
    /// Writes Events in `home` from now on, where there is one.
    pub(super) fn register(&mut self, home: Option<Arc<Home>>) {
        self.home = home;
    }

    /// Tells at once that a cluster has changed its state.
    pub(super) fn cluster(&self, transition: &Transition) {
        let Transition { cluster, from, to } = transition;
        let (from, now, reason) = (from.label(), to.state.label(), &to.reason);
        match to.state {
            ClusterState::Up => {
                info!(%cluster, from, to = now, %reason, "cluster changed its state");
            }
            _ => warn!(%cluster, from, to = now, %reason, "cluster changed its state"),
        }
        let (reason, severity) = match to.state {
            ClusterState::Unread => ("ClusterUnread", Severity::Warning),
            ClusterState::Up => ("ClusterUp", Severity::Normal),
            ClusterState::Stale => ("ClusterStale", Severity::Warning),
            ClusterState::Down => ("ClusterDown", Severity::Warning),
        };
        let what = format!("cluster {cluster} went from {from} to {now}");
        self.went(cluster, (reason, severity), what, &to.reason);
    }

    /// Tells at once that operators make something else of a cluster.
    pub(super) fn operated(&self, operation: &Operation) {
        let Operation { cluster, from, to } = operation;
        let (from, now) = (from.label(), to.label());
        info!(%cluster, from, to = now, reason = %to, "operators have changed a cluster");
        let what = format!("cluster {cluster} went from {from} to {now}");
        self.went(cluster, ("ClusterOperated", Severity::Normal), what, to);
    }

    /// Tells at once that too few voters are heard to decide anything, or that enough are again,
    /// and since when (Unix time, seconds) too few were: what could not be told then is told now.
    pub(super) fn votes(&self, to: Votes, attendance: Attendance, frozen_since: u64) {
        let Attendance { heard, voters } = attendance;
        let (reason, severity, note) = match to {
            Votes::Awaited => {
                let note = "until a majority of the voters is heard, checks decide nothing";
                ("VotesFrozen", Severity::Normal, note)
            }
            Votes::Frozen => {
                let note = "fewer than a majority of the voters are heard: what checks have \
                            decided stays";
                ("VotesFrozen", Severity::Warning, note)
            }
            Votes::Counted => {
                ("VotesCounted", Severity::Normal, "checks decide what is served again")
            }
        };
        match severity {
            Severity::Normal => info!(heard, voters, "{note}"),
            Severity::Warning => warn!(heard, voters, "{note}"),
        }
        let what = note.to_owned();
        let mut note = format!("{note}; {heard} of {voters} voters are heard");
        if to == Votes::Counted {
            note += &format!(", too few were since {}", Until::At(frozen_since));
        }
        self.post(Notice { cluster: None, what, reason, severity, note });
    }

    /// Tells at once that every cluster looks lost, so that nothing is taken out for that, or that
    /// this is over.
    pub(super) fn fail_static(&self, to: FailStatic) {
        let (reason, severity, note) = match to {
            FailStatic::Begun(Evidence::Checks) => (
                "FailStatic",
                Severity::Warning,
                "the checks of every cluster fail, so the fault is taken for ours: nothing is \
                 taken out by checks",
            ),
            FailStatic::Begun(Evidence::Apis) => (
                "FailStatic",
                Severity::Warning,
                "every cluster looks lost at once, so the fault is taken for ours: none is down \
                 for it",
            ),
            FailStatic::Over => (
                "FailStaticOver",
                Severity::Normal,
                "not every cluster looks lost any more: what fails is taken out again",
            ),
        };
        match severity {
            Severity::Normal => info!("{note}"),
            Severity::Warning => warn!("{note}"),
        }
        let (what, note) = (note.to_owned(), note.to_owned());
        self.post(Notice { cluster: None, what, reason, severity, note });
    }

    /// Takes in changes of shards up to `now`; they are told as soon as they may be.
    pub(super) fn shards(&mut self, changes: Changes, now: Instant) {
        self.pending.append(changes);
        self.tell_when_due(now);
    }

    /// When [`Self::tell_when_due`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // What comes first is told at once, so that whatever waits has something told before it.
        self.told.map(|at| at + PAUSE).filter(|_| !self.pending.is_empty())
    }

    /// Tells what is to be told, unless something was told a moment ago.
    pub(super) fn tell_when_due(&mut self, now: Instant) {
        if self.pending.is_empty() || self.told.is_some_and(|at| now < at + PAUSE) {
            return;
        }
        let changes = std::mem::take(&mut self.pending);
        self.told = Some(now);
        match changes.telling() {
            Telling::Each(changes) => changes.iter().for_each(|change| self.tell(change)),
            Telling::Summed(groups) => groups.iter().for_each(|group| self.tell_sum(group)),
        }
    }

    fn tell(&self, change: &ShardChange) {
        let ShardChange { cluster, key, from, to } = change;
        let (was, is) = (from.label(), to.label());
        let (reason, severity) = reason(to);
        match severity {
            Severity::Normal => {
                info!(service = %key, %cluster, from = was, to = is, reason = %to, "shard changed its state");
            }
            Severity::Warning => {
                warn!(service = %key, %cluster, from = was, to = is, reason = %to, "shard changed its state");
            }
        }
        let what = format!("the shard of {key} in cluster {cluster} went from {was} to {is}");
        self.went(cluster, (reason, severity), what, to);
    }

    fn tell_sum(&self, group: &Group) {
        let Group { example, shards, clusters } = group;
        let ShardChange { cluster, key, from, to } = example;
        let (from, is, clusters_count) = (from.label(), to.label(), clusters.len());
        let (reason, severity) = reason(to);
        let of = match (clusters.len(), clusters.first()) {
            (1, Some(cluster)) => format!("cluster {cluster}"),
            (many, _) => format!("{many} clusters"),
        };
        let example = format!("{key} in cluster {cluster}: {to}");
        match severity {
            Severity::Normal => {
                info!(
                    shards,
                    clusters = clusters_count,
                    from,
                    to = is,
                    example,
                    "shards changed their state"
                );
            }
            Severity::Warning => {
                warn!(
                    shards,
                    clusters = clusters_count,
                    from,
                    to = is,
                    example,
                    "shards changed their state"
                );
            }
        }
        // Without the number: another instance may have told of some of them already.
        let what = format!("shards in {of} went from {from} to {is}");
        let note = format!("{shards} {what}, for example {example}");
        let cluster = clusters.first().filter(|_| clusters.len() == 1).cloned();
        self.post(Notice { cluster, what, reason, severity, note });
    }

    /// Has an Event written that `cluster`, or what is in it, went from one state to another.
    fn went(
        &self,
        cluster: &Label,
        (reason, severity): (&'static str, Severity),
        what: String,
        why: &dyn fmt::Display,
    ) {
        let note = format!("{what}: {why}");
        self.post(Notice { cluster: Some(cluster.clone()), what, reason, severity, note });
    }

    fn post(&self, notice: Notice) {
        if let Some(home) = &self.home {
            home.post(notice);
        }
    }
}

/// How votes stand from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Votes {
    /// Not enough have been heard since the start.
    Awaited,
    /// Not enough are heard any more.
    Frozen,
    /// Enough are.
    Counted,
}

/// Whether every cluster looks lost, from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailStatic {
    /// It does, by this.
    Begun(Evidence),
    /// It does no more.
    Over,
}

/// What says that every cluster is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Checks, by what is agreed of them.
    Checks,
    /// That no API server answers, maybe beside checks.
    Apis,
}

/// The reason of an Event, and whether it is one to look at. What an operator does to a Service,
/// drains included, is no fault.
fn reason(to: &ShardState) -> (&'static str, Severity) {
    use crate::health::Exclusion;
    match to {
        ShardState::Served => ("ShardServed", Severity::Normal),
        ShardState::Forced(_) => ("ShardForced", Severity::Normal),
        ShardState::Excluded(Exclusion::Forced(_)) => ("ShardForced", Severity::Normal),
        ShardState::Absent => ("ShardAbsent", Severity::Normal),
        ShardState::Excluded(Exclusion::Drained | Exclusion::ClusterDrained) => {
            ("ShardDrained", Severity::Normal)
        }
        ShardState::Excluded(_) => ("ShardNotServed", Severity::Warning),
    }
}
