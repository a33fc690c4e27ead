//! Brings the signals of clusters to the tracker, and checks the addresses of those that are lost.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{self, Interval, MissedTickBehavior};
use tracing::debug;

use super::herald::Herald;
use super::known::View;
use super::{Reload, until};
use crate::cluster::link::{Link, ProbeOutcome, Reach, WatchState};
use crate::health::{
    Contact, Now, Outcome, Reading, Row, Settings, Signals, Standing, Tracker,
    check::sample as check,
};
use crate::model::{ClusterId, ClusterView, Label};
use crate::snapshot::Federation;

/// Rounds of checks start within this time after each other: many clusters lost at once are not
/// checked at one stroke.
const JITTER: Duration = Duration::from_millis(500);

/// The tracker with what it is told by.
#[derive(Debug)]
pub(super) struct Monitor {
    tracker: Tracker,
    names: Vec<Label>,
    health: Settings,
    /// The views as of the last look, for the addresses to check.
    views: Vec<Option<View>>,
    standings: watch::Sender<Vec<(Label, Standing)>>,
    /// When time alone changes a state next, as of the last look.
    deadline: Option<Instant>,
    checks: Rounds,
}

/// What others see of all clusters.
type Standings = watch::Receiver<Vec<(Label, Standing)>>;

/// Checks under way, at most one round a cluster.
#[derive(Debug)]
struct Rounds {
    /// Begun with the first cluster that is lost.
    ticks: Option<Interval>,
    running: JoinSet<(Label, Outcome)>,
    by_cluster: HashMap<Label, AbortHandle>,
    permits: Arc<Semaphore>,
    round: usize,
    jitter: RandomState,
}

/// What comes next of the checks.
enum Next {
    /// Rounds are due.
    Due,
    /// A round of this cluster has ended.
    Ended(Label, Outcome),
}

/// This moment.
pub(super) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Now { instant: Instant::now(), unix }
}

impl Monitor {
    pub(super) fn new(federation: &Federation) -> (Self, Standings) {
        let (standings, seen) = watch::channel(Vec::new());
        let health = federation.health.clone();
        let tracker = Tracker::new(health.tracking.clone(), &federation.members, now());
        let checks = Rounds {
            ticks: None,
            running: JoinSet::new(),
            by_cluster: HashMap::new(),
            permits: Arc::new(Semaphore::new(check::CONCURRENCY)),
            round: 0,
            jitter: RandomState::new(),
        };
        let names = names(federation);
        let views = Vec::new();
        (Self { tracker, names, health, views, standings, deadline: None, checks }, seen)
    }

    /// Follows the clusters of `federation` from now on.
    pub(super) fn register(&mut self, federation: &Federation) {
        self.health = federation.health.clone();
        self.tracker.register(self.health.tracking.clone(), &federation.members, now());
        self.names = names(federation);
    }

    /// Takes in the links and views of the clusters of `config`, in its order, and judges. Every
    /// change of a state is told by `herald`, once.
    pub(super) fn look(
        &mut self,
        config: &Reload,
        views: &[Option<View>],
        herald: &Herald,
    ) -> Vec<Standing> {
        for (index, (feed, view)) in config.feeds.iter().zip(views).enumerate() {
            let reading = view.as_ref().map_or(Reading::Never, |view| view.reading);
            let signals = signals(reading, &feed.link.borrow());
            self.tracker.signal(ClusterId::new(index), signals);
        }
        views.clone_into(&mut self.views);
        let now = now();
        self.tracker.judge(now).iter().for_each(|transition| herald.cluster(transition));
        self.deadline = self.tracker.deadline(now.instant);
        let standings: Vec<Standing> = self.tracker.standings().cloned().collect();
        self.standings.send_if_modified(|shown| {
            let new: Vec<_> = self.names.iter().cloned().zip(standings.iter().cloned()).collect();
            let changed = *shown != new;
            *shown = new;
            changed
        });
        let suspects: Vec<&Label> =
            self.tracker.suspects().filter_map(|id| self.names.get(id.index())).collect();
        self.checks.keep(&suspects);
        standings
    }

    /// Waits until something has happened that may change a state; begins checks when they are
    /// due. May be dropped at any time.
    pub(super) async fn changed(&mut self) {
        loop {
            // One that has passed meanwhile is due at once.
            let deadline = self.deadline;
            tokio::select! {
                () = until(deadline) => return,
                next = self.checks.next() => match next {
                    Next::Ended(name, outcome) => {
                        self.take(&name, outcome);
                        return;
                    }
                    Next::Due => self.begin_checks(),
                },
            }
        }
    }

    fn take(&mut self, name: &Label, outcome: Outcome) {
        self.checks.by_cluster.remove(name);
        if let Outcome::Failed(reason) = &outcome {
            debug!(cluster = %name, %reason, "no checked address answers");
        }
        if let Some(index) = self.names.iter().position(|known| known == name) {
            self.tracker.checked(ClusterId::new(index), outcome, Instant::now());
        }
    }

    fn begin_checks(&mut self) {
        self.checks.round = self.checks.round.wrapping_add(1);
        for id in self.tracker.suspects() {
            let (name, view) = (self.names.get(id.index()), self.views.get(id.index()));
            if let (Some(name), Some(Some(View { view, .. }))) = (name, view) {
                self.checks.begin(name, view, &self.health);
            }
        }
    }
}

impl Rounds {
    /// Ends what checks other clusters than `suspects`: one that is back is left alone.
    fn keep(&mut self, suspects: &[&Label]) {
        self.by_cluster.retain(|name, round| {
            let kept = suspects.contains(&name);
            if !kept {
                round.abort();
            }
            kept
        });
        if suspects.is_empty() {
            self.ticks = None;
        } else if self.ticks.is_none() {
            let mut ticks = time::interval(check::PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            self.ticks = Some(ticks);
        }
    }

    /// Waits for what comes next, for ever where nothing is lost.
    async fn next(&mut self) -> Next {
        let Some(ticks) = &mut self.ticks else { return std::future::pending().await };
        loop {
            tokio::select! {
                _ = ticks.tick() => return Next::Due,
                Some(round) = self.running.join_next() => {
                    // Those that were ended have nothing to say.
                    if let Ok((name, outcome)) = round {
                        return Next::Ended(name, outcome);
                    }
                }
            }
        }
    }

    fn begin(&mut self, name: &Label, view: &ClusterView, health: &Settings) {
        let targets = check::targets(view, health, self.round);
        // Without an address to try there is no verdict; a round that still runs goes on.
        if targets.is_empty() || self.by_cluster.contains_key(name) {
            return;
        }
        let share = (self.jitter.hash_one((name, self.round)) % 1000) as u32;
        let (wait, permits, cluster) = (JITTER * share / 1000, self.permits.clone(), name.clone());
        let round = self.running.spawn(async move {
            time::sleep(wait).await;
            (cluster, check::connect(targets, permits).await)
        });
        self.by_cluster.insert(name.clone(), round);
    }
}

fn names(federation: &Federation) -> Vec<Label> {
    federation.members.iter().map(|member| member.name.clone()).collect()
}

/// A link in the tracker's words.
fn signals(reading: Reading, link: &Link) -> Signals {
    let reach = match &link.reach {
        Reach::Untried => Contact::Untried,
        Reach::Connected => Contact::Made,
        Reach::Lost { since, reason } => {
            Contact::Lost { since: *since, reason: (&**reason).into() }
        }
    };
    let failed = link.watches.iter().find_map(|watch| match &watch.state {
        WatchState::Failed { reason, .. } => {
            let reason = format!("{}: {reason}", watch.kind).into();
            Some(Contact::Lost { since: watch.since, reason })
        }
        WatchState::Listing | WatchState::Watching => None,
    });
    let probe = link.probe.as_ref().map(|probe| Row {
        outcome: match &probe.outcome {
            ProbeOutcome::Ok => Outcome::Passed,
            ProbeOutcome::Failed(reason) => Outcome::Failed((&**reason).into()),
        },
        times: probe.in_a_row,
        since: probe.since,
    });
    Signals { reading, watch: failed.unwrap_or_else(|| reach.clone()), reach, probe }
}

#[cfg(test)]
mod tests;
