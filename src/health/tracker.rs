//! Whether each cluster as a whole can be relied on, from signals and time alone.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ClusterState;
use super::votes::Mode;
use crate::model::{ClusterId, Label, Member};

/// When a cluster that does not answer is given up.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracking {
    /// How long an API must have been lost, beside failing checks, before its cluster is down.
    pub grace: Duration,
    /// Failures in a row after which a probe or check counts as failing.
    pub failures: NonZeroU32,
    /// Successes in a row after which it counts as passing.
    pub successes: NonZeroU32,
}

impl Default for Tracking {
    /// As Kubernetes' own probes: three failures, one success; and the grace after which its node
    /// controller acts is of the same size (40 s).
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            failures: NonZeroU32::MIN.saturating_add(2),
            successes: NonZeroU32::MIN,
        }
    }
}

/// The time, for decisions and for people.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For decisions.
    pub instant: Instant,
    /// Unix time, seconds, for people.
    pub unix: u64,
}

/// Where the view of a cluster comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// There is none.
    #[default]
    Never,
    /// From an earlier run or an earlier configuration; its source has not been read since.
    LastKnownGood,
    /// From its source.
    Read,
}

/// Whether something of a cluster's source is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Contact {
    /// It has not been tried yet.
    #[default]
    Untried,
    /// It is.
    Made,
    /// It is not.
    Lost {
        /// Since when.
        since: Instant,
        /// Why, for people.
        reason: Arc<str>,
    },
}

/// The last outcomes of something that is tried again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// How the last attempt ended.
    pub outcome: Outcome,
    /// How many attempts in a row ended so.
    pub times: u32,
    /// When the first of these did.
    pub since: Instant,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Passed,
    /// Not well, and why, for people.
    Failed(Arc<str>),
}

impl Row {
    fn passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }

    /// What the row says by the thresholds; `None` where it is too short to say anything new.
    fn verdict(&self, tracking: &Tracking) -> Option<bool> {
        let needed = if self.passed() { tracking.successes } else { tracking.failures };
        (self.times >= needed.get()).then_some(self.passed())
    }
}

/// What is known of a cluster at a moment, beside the checks that [`Tracker::checked`] takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signals {
    /// Where its view comes from.
    pub reading: Reading,
    /// Whether its source is reached.
    pub reach: Contact,
    /// Whether its source tells of changes as they happen.
    pub watch: Contact,
    /// How the probe of its API went, where there is one: it then decides in the place of `reach`.
    pub probe: Option<Row>,
}

/// The state of a cluster, since when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The state.
    pub state: ClusterState,
    /// Unix time, seconds, from which on it has been in this state.
    pub since: u64,
    /// Why.
    pub reason: Reason,
}

/// Why a cluster is in its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `Unread`: no view.
    NotRead,
    /// `Up`.
    Current,
    /// `Stale`: the view is of an earlier run.
    LastKnownGood,
    /// `Stale`: the API answers, but tells of no changes.
    WatchLost(Arc<str>),
    /// `Stale`: the API does not answer.
    ApiLost {
        /// Why not.
        why: Arc<str>,
        /// What the checks say of the cluster's addresses.
        checks: Checks,
    },
    /// `Stale` in the place of `Down`: all clusters look lost.
    FailStatic,
    /// `Down`: the API is lost for the grace period and the checks fail.
    ChecksFail,
    /// `Down`: the API is lost for longer than `staleGrace`.
    StaleGraceOver,
}

/// What the checks of a cluster's addresses say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Nothing: there was none, or too few, or too few voters see it.
    Unknown,
    /// Some address answers.
    Answering,
    /// None does.
    Failing,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRead => f.write_str("not read yet"),
            Self::Current => f.write_str("read and current"),
            Self::LastKnownGood => f.write_str("last known good; its source is not read yet"),
            Self::WatchLost(why) => write!(f, "changes are not seen: {why}"),
            Self::ApiLost { why, checks } => {
                let checks = match checks {
                    Checks::Unknown => "nothing is agreed of its load balancers",
                    Checks::Answering => "its load balancers answer",
                    Checks::Failing => "its load balancers do not answer either",
                };
                write!(f, "its API does not answer: {why}; {checks}")
            }
            Self::FailStatic => f.write_str(
                "every cluster looks lost at once, so the fault is taken for ours and the last \
                 known view is served",
            ),
            Self::ChecksFail => f.write_str(
                "its API has not answered for the grace period, nor do its load balancers",
            ),
            Self::StaleGraceOver => {
                f.write_str("its API has not answered for longer than its staleGrace")
            }
        }
    }
}

impl serde::Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A cluster has changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The cluster.
    pub cluster: Label,
    /// Its state before.
    pub from: ClusterState,
    /// Its state now.
    pub to: Standing,
}

/// The states of all clusters. A state is a function of the last signals, what checks say, and the
/// time; not of the order in which signals came.
#[derive(Debug)]
pub struct Tracker {
    tracking: Tracking,
    clusters: Vec<Cluster>,
}

#[derive(Debug)]
struct Cluster {
    name: Label,
    stale_grace: Option<Duration>,
    reading: Reading,
    watch: Contact,
    api: Api,
    checks: Checks,
    standing: Standing,
}

/// Whether an API answers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Api {
    Answers,
    Lost { since: Instant, why: Arc<str> },
}

impl Tracker {
    /// Follows `members`, of which nothing is known at `now`.
    #[must_use]
    pub fn new(tracking: Tracking, members: &[Member], now: Now) -> Self {
        let mut tracker = Self { tracking, clusters: Vec::new() };
        tracker.register(tracker.tracking.clone(), members, now);
        tracker
    }

    /// Follows `members` from now on; what is known of those that were there already is kept.
    pub fn register(&mut self, tracking: Tracking, members: &[Member], now: Now) {
        let mut before = std::mem::take(&mut self.clusters);
        self.tracking = tracking;
        self.clusters = members
            .iter()
            .map(|member| match before.iter().position(|old| old.name == member.name) {
                Some(index) => {
                    Cluster { stale_grace: member.stale_grace, ..before.swap_remove(index) }
                }
                None => Cluster::unread(member, now),
            })
            .collect();
    }

    /// Takes in what is known of a cluster now.
    pub fn signal(&mut self, id: ClusterId, signals: Signals) {
        let Some(cluster) = self.clusters.get_mut(id.index()) else { return };
        let Signals { reading, reach, watch, probe } = signals;
        cluster.api = api(&cluster.api, &reach, probe.as_ref(), &self.tracking);
        cluster.watch = watch;
        cluster.reading = reading;
    }

    /// Takes in what active checks say of a cluster now. It counts while the API is lost.
    pub fn checked(&mut self, id: ClusterId, checks: Checks) {
        if let Some(cluster) = self.clusters.get_mut(id.index()) {
            cluster.checks = checks;
        }
    }

    /// The clusters whose addresses are to be checked: those whose API is lost.
    pub fn suspects(&self) -> impl Iterator<Item = ClusterId> {
        let clusters = self.clusters.iter().enumerate();
        let suspects = clusters.filter(|(_, c)| c.reading != Reading::Never && c.is_lost());
        suspects.map(|(index, _)| ClusterId::new(index))
    }

    /// Judges every cluster by what is known at `now`; returns what has changed. `mode` is how the
    /// checks are decided: where their fault is taken for ours, no cluster is down by them.
    pub fn judge(&mut self, now: Now, mode: Mode) -> Vec<Transition> {
        let tracking = &self.tracking;
        let mut known = self.clusters.iter().filter(|c| c.reading != Reading::Never);
        // Where none is known, none is judged.
        let all_lost = mode.is_fail_static() || known.all(|c| c.looks_lost(now.instant));
        let mut transitions = Vec::new();
        for cluster in &mut self.clusters {
            let (state, reason) = cluster.judge(now.instant, tracking, all_lost);
            let from = cluster.standing.state;
            if state == from {
                cluster.standing.reason = reason;
                continue;
            }
            cluster.standing = Standing { state, since: now.unix, reason };
            let to = cluster.standing.clone();
            transitions.push(Transition { cluster: cluster.name.clone(), from, to });
        }
        transitions
    }

    /// The states as of the last [`Self::judge`], by id.
    pub fn standings(&self) -> impl Iterator<Item = &Standing> {
        self.clusters.iter().map(|cluster| &cluster.standing)
    }

    /// When time alone changes a state next, if ever; later than `now`.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let lost = self.clusters.iter().filter_map(|cluster| match &cluster.api {
            Api::Lost { since, .. } => Some((cluster, *since)),
            Api::Answers => None,
        });
        // A time beyond what the clock can tell never comes.
        let ends = lost.flat_map(|(cluster, since)| {
            let grace = since.checked_add(self.tracking.grace);
            [grace, cluster.stale_grace.and_then(|grace| since.checked_add(grace))]
        });
        ends.flatten().filter(|end| *end > now).min()
    }
}

impl Cluster {
    fn unread(member: &Member, now: Now) -> Self {
        let why: Arc<str> = "not connected yet".into();
        let since = now.instant;
        Self {
            name: member.name.clone(),
            stale_grace: member.stale_grace,
            reading: Reading::Never,
            watch: Contact::Untried,
            api: Api::Lost { since, why },
            checks: Checks::Unknown,
            standing: Standing {
                state: ClusterState::Unread,
                since: now.unix,
                reason: Reason::NotRead,
            },
        }
    }

    fn is_lost(&self) -> bool {
        self.api != Api::Answers
    }

    /// Whether nothing that can be seen from here speaks for the cluster: one that cannot be
    /// checked does not speak for itself. The grace does not count: were it to, a fault of ours
    /// would take clusters out one by one as theirs end.
    fn looks_lost(&self, now: Instant) -> bool {
        self.is_lost() && (self.checks != Checks::Answering || self.stale_grace_over(now))
    }

    fn lost_for(&self, now: Instant, time: Duration) -> bool {
        match &self.api {
            Api::Lost { since, .. } => now.saturating_duration_since(*since) >= time,
            Api::Answers => false,
        }
    }

    fn stale_grace_over(&self, now: Instant) -> bool {
        self.stale_grace.is_some_and(|grace| self.lost_for(now, grace))
    }

    fn judge(&self, now: Instant, tracking: &Tracking, all_lost: bool) -> (ClusterState, Reason) {
        let checks_fail = self.checks == Checks::Failing && self.lost_for(now, tracking.grace);
        let given_up = if checks_fail {
            Some(Reason::ChecksFail)
        } else {
            self.stale_grace_over(now).then_some(Reason::StaleGraceOver)
        };
        match (self.reading, &self.api, &self.watch, given_up) {
            (Reading::Never, ..) => (ClusterState::Unread, Reason::NotRead),
            (_, Api::Lost { .. }, _, Some(_)) if all_lost => {
                (ClusterState::Stale, Reason::FailStatic)
            }
            (_, Api::Lost { .. }, _, Some(reason)) => (ClusterState::Down, reason),
            (Reading::LastKnownGood, ..) => (ClusterState::Stale, Reason::LastKnownGood),
            (Reading::Read, Api::Lost { why, .. }, ..) => {
                let reason = Reason::ApiLost { why: why.clone(), checks: self.checks };
                (ClusterState::Stale, reason)
            }
            (Reading::Read, Api::Answers, Contact::Lost { reason, .. }, _) => {
                (ClusterState::Stale, Reason::WatchLost(reason.clone()))
            }
            (Reading::Read, Api::Answers, Contact::Untried | Contact::Made, _) => {
                (ClusterState::Up, Reason::Current)
            }
        }
    }
}

/// Whether an API answers: as its probe says by the thresholds, else as it was. Where nothing has
/// been probed, that it was reached is the sign of life.
fn api(before: &Api, reach: &Contact, probe: Option<&Row>, tracking: &Tracking) -> Api {
    let Some(row) = probe else {
        return match reach {
            Contact::Untried => before.clone(),
            Contact::Made => Api::Answers,
            Contact::Lost { since, reason } => Api::Lost { since: *since, why: reason.clone() },
        };
    };
    match (row.verdict(tracking), &row.outcome) {
        (Some(true), _) => Api::Answers,
        (Some(false), Outcome::Failed(why)) => Api::Lost { since: row.since, why: why.clone() },
        _ => before.clone(),
    }
}

#[cfg(test)]
mod tests;
