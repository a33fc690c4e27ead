//! The task that probes, carries time to the desk, and tells what follows.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{self, Interval, MissedTickBehavior};
use tracing::warn;

use super::desk::Desk;
use super::roster::ProbeId;
use super::schedule::Schedule;
use super::{Assignment, Verdicts, directory};
use crate::health::check::{self, Memory, Prober, Report};
use crate::health::votes::{Ballot, BallotBox, Heard, Settings, Status};
use crate::publisher::monitor::now;
use crate::tasks::{Ended, Kept, keep};
use crate::telemetry::{CheckMetrics, Task, TaskMetrics};

/// Outcomes and ballots that come within this time are taken together: short beside an interval
/// of checks, long beside what it takes to count votes.
const GATHER: Duration = Duration::from_millis(20);

/// The ends of channels that the task holds.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    pub(super) assigned: watch::Receiver<Option<Arc<Assignment>>>,
    pub(super) verdicts: watch::Sender<Verdicts>,
    pub(super) own: watch::Sender<Option<Arc<Ballot>>>,
    pub(super) heard: watch::Receiver<Heard>,
    /// For the task that carries ballots, where that is of our making.
    pub(super) ballots: BallotBox,
    pub(super) status: watch::Sender<Status>,
}

#[derive(Debug)]
pub(super) struct Runner {
    channels: Channels,
    metrics: CheckMetrics,
    tasks: TaskMetrics,
    desk: Desk,
    schedule: Schedule,
    checks: check::Settings,
    prober: Arc<Prober>,
    probes: Probing,
    /// When everything is next brought up to date.
    settle_at: Option<Instant>,
    /// How long what happens is gathered before that.
    gather: Duration,
    voting: Option<Settings>,
    heartbeat: Option<Interval>,
    carrier: Option<Kept>,
}

/// Probes under way.
#[derive(Debug, Default)]
struct Probing {
    tasks: JoinSet<(Report, Memory)>,
    begun: HashMap<Id, (ProbeId, Instant)>,
    /// What the last probe of a target left behind, where it left anything; gone with the target.
    memories: HashMap<ProbeId, Memory>,
}

/// What happened.
enum Event {
    Assigned,
    Ended(Result<(Id, (Report, Memory)), JoinError>),
    Heard,
    Heartbeat,
    /// Time has passed.
    Due,
}

impl Runner {
    pub(super) fn new(channels: Channels, metrics: CheckMetrics, tasks: TaskMetrics) -> Self {
        let checks = check::Settings::default();
        let told = channels.verdicts.borrow().clone();
        Self {
            channels,
            metrics,
            tasks,
            // Another number each time, and no secret.
            desk: Desk::new(RandomState::new().hash_one(now().unix), told, Instant::now()),
            schedule: Schedule::new(Instant::now()),
            prober: Arc::new(Prober::new(&checks)),
            checks,
            probes: Probing::default(),
            settle_at: None,
            gather: GATHER,
            voting: None,
            heartbeat: None,
            carrier: None,
        }
    }

    /// Checks until nobody assigns anything any more.
    pub(super) async fn run(mut self) -> Ended {
        // What was assigned before the start.
        self.channels.assigned.mark_changed();
        loop {
            let Some(event) = self.next().await else { return Ended::Unneeded };
            match event {
                Event::Assigned => self.assign(),
                Event::Ended(ended) => self.take(ended),
                Event::Heard => self.hear(),
                Event::Heartbeat => {
                    self.desk.renew();
                    self.publish();
                }
                Event::Due => {}
            }
            self.begin();
            self.settle();
        }
    }

    async fn next(&mut self) -> Option<Event> {
        let at = [self.schedule.next(), self.settle_at].into_iter().flatten().min();
        let deadline = self.desk.deadline(Instant::now());
        let due = async {
            match at.into_iter().chain(deadline).min() {
                Some(at) => time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let beat = async {
            match &mut self.heartbeat {
                Some(heartbeat) => heartbeat.tick().await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            changed = self.channels.assigned.changed() => match changed {
                Ok(()) => Event::Assigned,
                Err(_) => return None,
            },
            Some(ended) = self.probes.tasks.join_next_with_id() => Event::Ended(ended),
            Ok(()) = self.channels.heard.changed() => Event::Heard,
            _ = beat => Event::Heartbeat,
            () = due => {
                // A deadline of the desk's is over, unless it was something else's turn.
                if deadline.is_some_and(|at| at <= Instant::now()) {
                    self.desk.wake();
                }
                Event::Due
            }
        };
        Some(event)
    }

    fn assign(&mut self) {
        let Some(assignment) = self.channels.assigned.borrow_and_update().clone() else { return };
        let settings = &assignment.federation.health;
        if self.checks != settings.checks {
            self.checks = settings.checks.clone();
            self.prober = Arc::new(Prober::new(&self.checks));
        }
        let voting = settings.votes.clone();
        self.desk.assign(assignment);
        if self.voting != voting {
            self.voting = voting;
            self.vote();
        }
    }

    /// Begins to vote as it is configured now.
    fn vote(&mut self) {
        // Two must not write the same file.
        drop(self.carrier.take());
        self.heartbeat = self.voting.as_ref().map(|voting| {
            let mut heartbeat = time::interval(voting.heartbeat);
            heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            heartbeat
        });
        let directory = self.voting.as_ref().and_then(|voting| voting.directory.clone());
        self.carrier = directory.map(|path| {
            let ballots = self.channels.ballots.clone();
            let make = move || directory::carry(path.clone(), ballots.clone());
            keep(Task::Ballots, &self.tasks, make)
        });
        self.publish();
    }

    fn hear(&mut self) {
        let heard = self.channels.heard.borrow_and_update().clone();
        let before = &self.channels.status.borrow().faults;
        for fault in heard.faults.difference(before) {
            warn!(subject = %fault.subject, "{}", fault.reason);
        }
        self.desk.hear(&heard.ballots, Instant::now());
    }

    fn take(&mut self, ended: Result<(Id, (Report, Memory)), JoinError>) {
        let (task, ended) = match ended {
            Ok((task, ended)) => (task, Some(ended)),
            Err(error) => (error.id(), None),
        };
        let Some((id, begun)) = self.probes.begun.remove(&task) else { return };
        let memory = match ended {
            Some((report, memory)) => {
                self.metrics.count(&report.outcome);
                self.desk.report(id, &report, now());
                Some(memory).filter(|memory| !memory.is_empty())
            }
            // A panic, which the runtime has logged: it says nothing of the target.
            None => {
                self.metrics.unable.inc();
                None
            }
        };
        if let Some(target) = self.desk.target(id) {
            self.probes.memories.extend(memory.map(|memory| (id, memory)));
            self.schedule.again(id, &target.timing, begun, Instant::now());
        }
    }

    /// Begins what is due.
    fn begin(&mut self) {
        let now = Instant::now();
        let fresh = self.desk.fresh();
        let timed = fresh
            .into_iter()
            .filter_map(|id| self.desk.target(id).map(|target| (id, target.first_within())));
        self.schedule.add(&timed.collect::<Vec<_>>(), now);
        while let Some(id) = self.schedule.pop(now) {
            let mut memory = self.probes.memories.remove(&id).unwrap_or_default();
            let Some(target) = self.desk.target(id).cloned() else { continue };
            let prober = self.prober.clone();
            let task = self.probes.tasks.spawn(async move {
                let report = prober.probe(&target, &mut memory).await;
                (report, memory)
            });
            self.probes.begun.insert(task.id(), (id, now));
        }
    }

    /// Brings everything up to date, once some time has gone by since the first of what happened.
    fn settle(&mut self) {
        if !self.desk.is_stale() {
            return;
        }
        let moment = now();
        let at = *self.settle_at.get_or_insert(moment.instant + self.gather);
        if moment.instant < at {
            return;
        }
        self.settle_at = None;
        self.desk.settle(moment);
        // However much there is to bring up to date, it takes a fifth of a core at most.
        self.gather = GATHER.max(moment.instant.elapsed() * 4);
        let verdicts = self.desk.verdicts();
        self.channels.verdicts.send_if_modified(|told| {
            let same = told.clusters == verdicts.clusters
                && told.failing == verdicts.failing
                && told.mode == verdicts.mode
                && told.opinions.changed(&verdicts.opinions).next().is_none();
            if !same {
                told.clone_from(verdicts);
            }
            !same
        });
        self.publish();
    }

    /// Hands the ballot to those that carry it, and tells how votes stand.
    fn publish(&self) {
        let ballot = self.desk.ballot();
        self.channels.own.send_if_modified(|own| {
            let changed = own.as_deref() != ballot.as_ref();
            if changed {
                *own = ballot.map(Arc::new);
            }
            changed
        });
        let faults = self.channels.heard.borrow().faults.clone();
        let status = Status { faults, ..self.desk.status(Instant::now()) };
        self.metrics.stand(&status);
        self.channels.status.send_replace(status);
    }
}
