//! Brings the signals of clusters to the tracker, and what checks and votes say of them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::checks::{Assignment, Attendance, Checks, Verdicts};
use super::herald::{Evidence, FailStatic, Herald, Votes};
use super::known::View;
use super::{Reload, until};
use crate::cluster::Feed;
use crate::cluster::link::{Link, ProbeOutcome, Reach, WatchState};
use crate::health::{
    Checks as Said, Contact, Now, Opinions, Outcome, Reading, Reason, Row, Signals, Standing,
    Tracker,
};
use crate::model::{ClusterId, Label};
use crate::snapshot::Federation;
use crate::telemetry::CheckMetrics;

/// The tracker with what it is told by.
#[derive(Debug)]
pub(super) struct Monitor {
    tracker: Tracker,
    names: Vec<Label>,
    standings: watch::Sender<Vec<(Label, Standing)>>,
    /// When time alone changes a state next, as of the last look.
    deadline: Option<Instant>,
    checks: Checks,
    verdicts: Verdicts,
    /// What was last told of votes; nothing where too few have never been heard.
    votes: Option<Votes>,
    /// Since when too few are heard, or last were; Unix time in seconds.
    frozen_since: u64,
    fail_static: FailStatic,
    metrics: CheckMetrics,
}

/// What others see of all clusters.
type Standings = watch::Receiver<Vec<(Label, Standing)>>;

/// This moment.
pub(super) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Now { instant: Instant::now(), unix }
}

impl Monitor {
    pub(super) fn new(
        federation: &Federation,
        checks: Checks,
        metrics: CheckMetrics,
    ) -> (Self, Standings) {
        let (standings, seen) = watch::channel(Vec::new());
        let tracking = federation.health.tracking.clone();
        let tracker = Tracker::new(tracking, &federation.members, now());
        let (names, verdicts) = (names(federation), Verdicts::default());
        let monitor = Self {
            tracker,
            names,
            standings,
            deadline: None,
            checks,
            verdicts,
            votes: None,
            frozen_since: 0,
            fail_static: FailStatic::Over,
            metrics,
        };
        (monitor, seen)
    }

    /// Begins to check, within the current tokio runtime.
    pub(super) fn start(&mut self) {
        self.checks.start();
    }

    /// Follows the clusters of `federation` from now on.
    pub(super) fn register(&mut self, federation: &Federation) {
        let tracking = federation.health.tracking.clone();
        self.tracker.register(tracking, &federation.members, now());
        self.names = names(federation);
    }

    /// Takes in the links and views of the clusters of `config`, in its order, and what checks say,
    /// and judges. Every change of a state is told by `herald`, once.
    pub(super) fn look(
        &mut self,
        config: &Reload,
        views: &[Option<View>],
        herald: &Herald,
    ) -> Vec<Standing> {
        self.verdicts = self.checks.verdicts();
        self.tell_votes(herald);
        for (index, (feed, view)) in config.feeds.iter().zip(views).enumerate() {
            let reading = view.as_ref().map_or(Reading::Never, |view| view.reading);
            let signals = signals(reading, &feed.link.borrow());
            self.tracker.signal(ClusterId::new(index), signals);
        }
        for (index, name) in self.names.iter().enumerate() {
            let said = self.verdicts.clusters.get(name).copied().unwrap_or(Said::Unknown);
            let failure = self.verdicts.failing.get(name).cloned();
            self.tracker.checked(ClusterId::new(index), said, failure);
        }
        let now = now();
        let transitions = self.tracker.judge(now, self.verdicts.mode);
        transitions.iter().for_each(|transition| herald.cluster(transition));
        self.deadline = self.tracker.deadline(now.instant);
        let standings: Vec<Standing> = self.tracker.standings().cloned().collect();
        self.tell_fail_static(&standings, herald);
        self.standings.send_if_modified(|shown| {
            let new: Vec<_> = self.names.iter().cloned().zip(standings.iter().cloned()).collect();
            let changed = *shown != new;
            *shown = new;
            changed
        });
        self.assign(config, views);
        standings
    }

    /// Tells where voting freezes or thaws.
    fn tell_votes(&mut self, herald: &Herald) {
        let votes = match (self.verdicts.mode.is_frozen(), self.votes) {
            (true, None | Some(Votes::Awaited)) => Votes::Awaited,
            (true, Some(_)) => Votes::Frozen,
            (false, Some(_)) => Votes::Counted,
            (false, None) => {
                // Enough were heard before it could be told that too few are.
                self.votes = self.verdicts.attendance.map(|_| Votes::Counted);
                return;
            }
        };
        if self.votes.replace(votes) != Some(votes) {
            if votes != Votes::Counted {
                self.frozen_since = now().unix;
            }
            // One that decides for itself is the only voter, and hears itself.
            let alone = Attendance { heard: 1, voters: 1 };
            let attendance = self.verdicts.attendance.unwrap_or(alone);
            herald.votes(votes, attendance, self.frozen_since);
        }
    }

    /// Tells where fail static begins and ends, by whichever evidence.
    fn tell_fail_static(&mut self, standings: &[Standing], herald: &Herald) {
        let held_up = |standing: &Standing| standing.reason == Reason::FailStatic;
        let now = match (self.verdicts.mode.is_fail_static(), standings.iter().any(held_up)) {
            (true, _) => FailStatic::Begun(Evidence::Checks),
            (false, true) => FailStatic::Begun(Evidence::Apis),
            (false, false) => FailStatic::Over,
        };
        let begun = |state: FailStatic| matches!(state, FailStatic::Begun(_));
        if begun(now) != begun(self.fail_static) {
            herald.fail_static(now);
            self.metrics.fail_static.set(i64::from(begun(now)));
        }
        self.fail_static = now;
    }

    /// Has checked what may have to be.
    fn assign(&self, config: &Reload, views: &[Option<View>]) {
        let mut lost = vec![false; views.len()];
        for id in self.tracker.suspects() {
            if let Some(lost) = lost.get_mut(id.index()) {
                *lost = true;
            }
        }
        // What is held back is checked already: once it is served its dead shards are known.
        let newest = |feed: &Feed| feed.view.borrow().as_ref().map(|update| update.view.clone());
        let views = config.feeds.iter().zip(views);
        let views =
            views.map(|(feed, view)| newest(feed).or(view.as_ref().map(|v| v.view.clone())));
        let federation = config.federation.clone();
        self.checks.assign(Assignment { federation, views: views.collect(), lost });
    }

    /// What checks and votes said of single shards at the last look.
    pub(super) fn opinions(&self) -> &Opinions {
        &self.verdicts.opinions
    }

    /// Waits until something has happened that may change a state or an opinion. May be dropped at
    /// any time.
    pub(super) async fn changed(&mut self) {
        // One that has passed meanwhile is due at once.
        let deadline = self.deadline;
        tokio::select! {
            () = until(deadline) => {}
            () = self.checks.changed() => {}
        }
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
