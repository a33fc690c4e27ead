//! Where the tasks of one cluster say how they fare.
//!
//! Everything that is told here is told on: to the link, for those who judge; to the metrics; to
//! the reports of the view, for `/state`; and to the log, where a line is written for a change and
//! not for each attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::cluster::feed::LinkSender;
use crate::cluster::link::{
    Fault, Kind, Link, Probe, ProbeOutcome, Reach, WatchState, WatchStatus,
};
use crate::model::Report;
use crate::telemetry::WatchClock;

/// Objects that cannot be read are named up to this many; all are counted. A kind of which nothing
/// can be read needs no list of ten thousand names.
const NAMED: usize = 50;

/// How the tasks of one cluster fare.
pub(in crate::cluster) struct Board {
    link: LinkSender,
    clock: Arc<WatchClock>,
    reports: watch::Sender<BTreeSet<Report>>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    failing: BTreeMap<Kind, (Fault, Report)>,
    /// Why there is no client.
    unusable: Option<Report>,
    unreadable: BTreeMap<(Kind, Box<str>), Report>,
    /// Of which a complete list was taken in. Not read from the link, which outlives this board and
    /// the state that took it in.
    listed: BTreeSet<Kind>,
}

impl Notes {
    fn reports(&self) -> BTreeSet<Report> {
        let failing = self.failing.values().map(|(_, report)| report);
        failing.chain(&self.unusable).chain(self.unreadable.values()).cloned().collect()
    }
}

impl Board {
    /// A board, and the reports that it makes.
    pub(in crate::cluster) fn new(
        link: LinkSender,
        clock: Arc<WatchClock>,
    ) -> (Arc<Self>, watch::Receiver<BTreeSet<Report>>) {
        let (reports, seen) = watch::channel(BTreeSet::new());
        let notes = Mutex::new(Notes::default());
        (Arc::new(Self { link, clock, reports, notes }), seen)
    }

    /// Something was heard of a watch.
    pub(super) fn alive(&self) {
        self.clock.touch();
    }

    /// There is no client: the credentials cannot be used.
    pub(super) fn unusable(&self, error: &(dyn std::error::Error + 'static)) {
        let reason: Box<str> = error.to_string().into();
        let at = Instant::now();
        let report = Report { subject: "credentials".into(), reason: reason.clone() };
        let mut notes = self.notes();
        if notes.unusable.as_ref() != Some(&report) {
            warn!(%reason, "the API server cannot be asked");
            notes.unusable = Some(report);
            self.tell(&notes);
        }
        drop(notes);
        self.link.update(|link| {
            lose(link, at, reason.clone());
            let probe = Probe::after(link.probe.as_ref(), ProbeOutcome::Failed(reason), at);
            link.probe = Some(probe);
            true
        });
    }

    /// A probe has ended.
    pub(super) fn probed(&self, outcome: ProbeOutcome) {
        let at = Instant::now();
        let mut notes = self.notes();
        if notes.unusable.take().is_some() {
            self.tell(&notes);
        }
        drop(notes);
        self.link.update(|link| {
            match &outcome {
                ProbeOutcome::Ok => {
                    if matches!(link.reach, Reach::Lost { .. }) {
                        info!("the API server answers again");
                    }
                    link.reach = Reach::Connected;
                    let current = |watch: &WatchStatus| watch.state == WatchState::Watching;
                    if !link.watches.is_empty() && link.watches.iter().all(current) {
                        self.clock.touch();
                    }
                }
                ProbeOutcome::Failed(reason) => {
                    if !matches!(link.reach, Reach::Lost { .. }) {
                        warn!(%reason, "the API server does not answer as it should");
                    }
                    lose(link, at, reason.clone());
                }
            }
            link.probe = Some(Probe::after(link.probe.as_ref(), outcome, at));
            true
        });
    }

    /// A complete list is being read.
    pub(super) fn listing(&self, kind: Kind) {
        self.enter(kind, WatchState::Listing);
    }

    /// Changes are followed.
    pub(super) fn watching(&self, kind: Kind) {
        self.enter(kind, WatchState::Watching);
        self.clock.touch();
        let mut notes = self.notes();
        if notes.failing.remove(&kind).is_some() {
            info!(%kind, "watched again");
            self.tell(&notes);
        }
    }

    /// A list is complete.
    pub(super) fn listed(&self, kind: Kind) {
        self.nothing_to_list(kind);
        self.watching(kind);
    }

    /// Whether a list of `kind` was ever complete since this board was made, or may count as such.
    pub(super) fn ever_listed(&self, kind: Kind) -> bool {
        self.notes().listed.contains(&kind)
    }

    /// There is nothing to list, which is known.
    pub(super) fn nothing_to_list(&self, kind: Kind) {
        self.notes().listed.insert(kind);
    }

    /// A request has failed and will be made again.
    pub(super) fn failed(&self, kind: Kind, fault: Fault, reason: &str) {
        self.clock.watches().failed(kind.as_str(), fault.as_str());
        self.enter(kind, WatchState::Failed { fault, reason: reason.into() });
        let mut notes = self.notes();
        let known = notes.failing.get(&kind).is_some_and(|(before, _)| *before == fault);
        if !known {
            // A place in the history that is forgotten mends itself by the next list.
            if fault != Fault::Expired {
                warn!(%kind, %fault, reason, "not watched; what was read stays in force");
            }
            let reason = format!("{fault}: {reason}; what was read before stays in force");
            let subject = format!("watch of {kind}").into();
            notes.failing.insert(kind, (fault, Report { subject, reason: reason.into() }));
            self.tell(&notes);
        }
    }

    /// An object cannot be read and is skipped.
    pub(super) fn unreadable(&self, kind: Kind, name: &str, reason: &str) {
        self.clock.watches().undecodable(kind.as_str());
        self.link.update(|link| {
            link.undecodable += 1;
            true
        });
        let mut notes = self.notes();
        let key = (kind, Box::from(name));
        let reason = format!("is skipped, as it cannot be read: {reason}");
        let report = Report { subject: format!("{kind} {name}").into(), reason: reason.into() };
        let there = notes.unreadable.contains_key(&key);
        if !there && notes.unreadable.len() >= NAMED {
            return;
        }
        if notes.unreadable.insert(key, report.clone()).as_ref() != Some(&report) {
            warn!(subject = %report.subject, reason = %report.reason, "an object is skipped");
            self.tell(&notes);
        }
    }

    /// An object can be read, or is gone.
    pub(super) fn readable(&self, kind: Kind, name: &str) {
        let mut notes = self.notes();
        if notes.unreadable.is_empty() {
            return;
        }
        if notes.unreadable.remove(&(kind, Box::from(name))).is_some() {
            self.tell(&notes);
        }
    }

    fn enter(&self, kind: Kind, state: WatchState) {
        self.clock.watches().enter(
            kind.as_str(),
            match &state {
                WatchState::Listing => "listing",
                WatchState::Watching => "watching",
                WatchState::Failed { fault, .. } => fault.as_str(),
            },
        );
        self.link.update(|link| {
            let status = status(link, kind);
            if let WatchState::Failed { .. } = state {
                status.failures += 1;
            }
            let differs = status.state != state;
            let same_class = match (&status.state, &state) {
                (
                    WatchState::Failed { fault: before, .. },
                    WatchState::Failed { fault: now, .. },
                ) => before == now,
                (before, now) => before == now,
            };
            if !same_class {
                status.since = Instant::now();
            }
            status.state = state;
            differs
        });
    }

    fn tell(&self, notes: &Notes) {
        self.reports.send_if_modified(|reports| {
            let now = notes.reports();
            let changed = *reports != now;
            *reports = now;
            changed
        });
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Each change is one insertion or removal, so the notes are good even after a panic.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lose(link: &mut Link, at: Instant, now: Box<str>) {
    match &mut link.reach {
        Reach::Lost { reason, .. } => *reason = now,
        reach => *reach = Reach::Lost { since: at, reason: now },
    }
}

/// The status of `kind`, which is added where it is missing.
fn status(link: &mut Link, kind: Kind) -> &mut WatchStatus {
    let index = link.watches.partition_point(|watch| watch.kind < kind);
    if link.watches.get(index).is_none_or(|watch| watch.kind != kind) {
        let fresh =
            WatchStatus { kind, state: WatchState::Listing, since: Instant::now(), failures: 0 };
        link.watches.insert(index, fresh);
    }
    &mut link.watches[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state that begins with nothing is to be told anew that there is nothing to list.
    #[test]
    fn a_task_that_begins_anew_has_listed_nothing() {
        let link = LinkSender::new(watch::channel(Link::default()).0, Arc::default());
        let begin = || Board::new(link.clone(), Arc::new(WatchClock::new())).0;
        let first = begin();
        first.listed(Kind::Service);
        first.nothing_to_list(Kind::ServiceExport);
        for kind in [Kind::Service, Kind::ServiceExport] {
            assert!(first.ever_listed(kind));
            assert!(!begin().ever_listed(kind), "{kind} of the task before");
        }
    }
}
