//! Joins what the sources say, decides when to build, and swaps.
//!
//! *Owns*: timing and the swap, nothing else: what is built is `snapshot`'s, what is read
//! `cluster`'s. *Guarantees*: the first change is published at once, unless nothing is answered yet
//! ([`hold`]), those of the next [`pace::GATHER`] together, compiled tables and a reload at once; an
//! old snapshot is freed here, never by a query worker. *Does not*: judge.

mod changes;
mod checks;
mod graveyard;
mod herald;
mod hold;
mod keeper;
mod known;
mod monitor;
mod operated;
mod operators;
mod pace;
mod stats;
mod tables;
mod waiting;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{self, MissedTickBehavior};
use tracing::{info, warn};

use crate::cluster::Feed;
use crate::cluster::home::Home;
use crate::cluster::lastgood::{KnownView, Registry};
use crate::geo::{Atlas, Compiled};
use crate::health::overrides::Overrides;
use crate::health::{Standing, votes};
use crate::model::{ClusterView, Label};
use crate::snapshot::{Federation, Inputs, Reports, Snapshot, SnapshotCell, build, reach};
use crate::telemetry::Telemetry;
use changes::Changes;
use checks::Checks;
use graveyard::Graveyard;
use herald::Herald;
use hold::Hold;
use keeper::Keeper;
use known::{Known, View};
use monitor::Monitor;
use operated::operations;
use operators::Operators;
use pace::Pace;
use tables::Tables;
use work::{Panicked, Work};

/// Timing of the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long to wait for sources that have not been read before DNS is answered without them.
    pub startup_grace: Duration,
    /// Where the last known good views are kept, where they are.
    pub last_known_good: Option<PathBuf>,
    /// Whether shards may be checked, and ballots given.
    pub checking: Checking,
}

/// Whether shards may be checked, and ballots given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checking {
    /// They may.
    Allowed,
    /// Not: nothing is to be served.
    Off,
}

/// So many changed buckets are built at once: a fraction of a millisecond, less than it may take to
/// hand the work to a thread that waits for a processor, and back.
const AT_ONCE: usize = 16;
/// How often what nobody reads any more is looked for; workers let go within their receive
/// time-out.
const SWEEP: Duration = Duration::from_millis(200);

/// What a reloaded configuration changes for the publisher.
#[derive(Debug)]
pub struct Reload {
    /// The new configuration.
    pub federation: Arc<Federation>,
    /// Its clusters, in the same order as the members.
    pub feeds: Vec<Arc<Feed>>,
    /// Where Events are written of what changes, if anywhere.
    pub home: Option<Arc<Home>>,
    /// What is registered there, where that is known; kept for the next start.
    pub registry: Option<Arc<Registry>>,
}

/// Address space to places; `None` until every database has been tried once.
pub type AtlasReceiver = watch::Receiver<Option<Arc<Atlas>>>;

/// The overrides file.
pub type OverridesReceiver = watch::Receiver<Arc<Overrides>>;

/// How far the start has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// These sources have not been read yet.
    Waiting(Vec<String>),
    /// Every source has been read, or the grace is over: DNS may be answered.
    Started,
}

/// The task that publishes.
#[derive(Debug)]
pub struct Publisher {
    cell: Arc<SnapshotCell>,
    telemetry: Telemetry,
    config: Reload,
    known: Known,
    hold: Hold,
    monitor: Monitor,
    sources: Sources,
    operators: Operators,
    /// Stands in for the atlas until there is one.
    no_atlas: Arc<Atlas>,
    reloads: mpsc::Receiver<Reload>,
    progress: watch::Sender<Progress>,
    compiled: Option<Arc<Compiled>>,
    tables: Tables,
    pace: Pace,
    graveyard: Graveyard,
    herald: Herald,
}

/// What tells of changes, beside the monitor.
#[derive(Debug)]
struct Sources {
    /// Of views and links.
    wake: Arc<Notify>,
    atlas: AtlasReceiver,
}

/// What others hold of a publisher.
#[derive(Debug)]
pub struct Handle {
    /// The swap.
    pub cell: Arc<SnapshotCell>,
    /// How far the start has come.
    pub progress: watch::Receiver<Progress>,
    /// New configurations. Dropping it ends the publisher.
    pub reloads: mpsc::Sender<Reload>,
    /// The state of every cluster by name, with the newest reasons.
    pub standings: watch::Receiver<Vec<(Label, Standing)>>,
    /// How checks and votes stand.
    pub checks: watch::Receiver<votes::Status>,
    /// For what carries ballots, where it is not a shared directory.
    pub ballots: votes::BallotBox,
}

impl Publisher {
    /// A publisher over `config`, which is told of changed views and links by `wake`. The first
    /// snapshot holds what is known now: of clusters whose source is not read, what `remembered`
    /// has.
    #[must_use]
    pub fn new(
        config: Reload,
        remembered: &[KnownView],
        atlas: AtlasReceiver,
        overrides: OverridesReceiver,
        wake: Arc<Notify>,
        telemetry: Telemetry,
    ) -> (Self, Handle) {
        let no_atlas = Arc::new(Atlas::default());
        let place = atlas.borrow().clone().unwrap_or_else(|| no_atlas.clone());
        let mut known = Known::new(remembered, config.registry.clone());
        let (checks, ballots, status) = Checks::new(&telemetry);
        let (mut monitor, standings) =
            Monitor::new(&config.federation, checks, telemetry.checks().clone());
        let mut hold = Hold::default();
        let views = known.views(&config, &mut hold);
        let mut operators = Operators::new(overrides);
        let mut herald = Herald::default();
        herald.register(config.home.clone());
        let told = (&mut monitor, &mut operators, &herald);
        let first = build(None, inputs(&config, views, told, (place, None), None));
        let cell = Arc::new(SnapshotCell::new(first));
        let (progress, progress_seen) = watch::channel(Progress::Waiting(Vec::new()));
        let (reloads_sender, reloads) = mpsc::channel(1);
        let handle = Handle {
            cell: cell.clone(),
            progress: progress_seen,
            reloads: reloads_sender,
            standings,
            checks: status,
            ballots,
        };
        let publisher = Self {
            cell,
            telemetry,
            config,
            known,
            hold,
            monitor,
            sources: Sources { wake, atlas },
            operators,
            no_atlas,
            reloads,
            progress,
            compiled: None,
            tables: Tables::default(),
            pace: Pace::default(),
            graveyard: Graveyard::default(),
            herald,
        };
        (publisher, handle)
    }

    /// Publishes until the sender of reloads in its [`Handle`] is dropped; then the last known good
    /// state is on disk.
    pub async fn run(mut self, settings: Settings) {
        self.hold.end_within(Instant::now(), settings.startup_grace);
        let grace = time::sleep(settings.startup_grace);
        tokio::pin!(grace);
        let mut grace_over = false;
        if settings.checking == Checking::Allowed {
            self.monitor.start();
        }
        let mut keeper = Keeper::new(settings.last_known_good, self.telemetry.clone());
        keeper.offer(&self.known);
        // Sources may have been read before the first snapshot was built: then nothing changes.
        let first = Arc::clone(&self.cell.load());
        self.announce(&first, None, None);
        self.tell_progress();
        drop(first);
        let mut sweep = time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = self.cell.load().deadline();
            let rest = self.pace.rest();
            tokio::select! {
                () = changed(&mut self.sources, &mut self.monitor, deadline, rest) => {
                    self.publish().await;
                }
                () = keeper.write_when_due() => continue,
                () = until(self.herald.deadline()) => {
                    self.herald.tell_when_due(Instant::now());
                    continue;
                }
                compiled = self.tables.compiled() => {
                    self.compiled = Some(Arc::new(compiled));
                    self.publish().await;
                }
                reload = self.reloads.recv() => match reload {
                    None => return keeper.finish().await,
                    Some(reload) => {
                        self.monitor.register(&reload.federation);
                        self.herald.register(reload.home.clone());
                        self.known.register(reload.registry.clone());
                        self.config = reload;
                        self.publish().await;
                    }
                },
                _ = sweep.tick(), if !self.graveyard.is_empty() => {
                    self.graveyard.sweep(Instant::now());
                    continue;
                }
                () = until(self.hold.deadline()) => self.publish().await,
                () = &mut grace, if !grace_over => {
                    grace_over = true;
                    self.give_up_waiting();
                }
            }
            self.tell_progress();
            keeper.offer(&self.known);
        }
    }

    /// Publishes what there is to publish, and notes how long that took.
    async fn publish(&mut self) {
        let begun = Instant::now();
        self.publish_changes().await;
        self.pace.built(begun, Instant::now());
    }

    /// Builds on top of the present snapshot, and swaps.
    async fn publish_changes(&mut self) {
        let atlas = self.sources.atlas.borrow().clone().unwrap_or_else(|| self.no_atlas.clone());
        let held = !self.hold.is_over();
        let views = self.known.views(&self.config, &mut self.hold);
        // What was held back on purpose tells nothing of how long changes take.
        let changed_at = self.oldest_change(&views).filter(|_| !held);
        let previous = Arc::clone(&self.cell.load());
        let told = (&mut self.monitor, &mut self.operators, &self.herald);
        let geography = (atlas, self.compiled.clone());
        let inputs = inputs(&self.config, views, told, geography, Some(&previous));
        operators::count(&previous.inputs.overrides, &inputs.overrides, &self.telemetry);
        if unchanged(&previous, &inputs) {
            return;
        }
        let work = match reach(&previous, &inputs) {
            0..=AT_ONCE => Work::AtOnce,
            _ => Work::InBackground,
        };
        let before = previous.clone();
        let next = match work.run(move || build(Some(&before), inputs)).await {
            Ok(next) => Arc::new(next),
            Err(Panicked(panic)) => {
                // What is served stays served; the next change tries again.
                tracing::error!(panic, "building a snapshot failed; the last one stays in force");
                return;
            }
        };
        self.graveyard.bury(self.cell.swap(next.clone()));
        self.announce(&next, Some(&previous), changed_at.map(|at| at.elapsed()));
        let told = move || (Changes::between(&previous, &next), operations(&previous, &next));
        match work.run(told).await {
            Ok((changes, operations)) => {
                operations.iter().for_each(|operation| self.herald.operated(operation));
                self.herald.shards(changes, Instant::now());
            }
            Err(Panicked(panic)) => tracing::error!(panic, "changes of shards cannot be told"),
        }
    }

    /// What follows once a snapshot is in force, `took` after the first event that it holds, where
    /// it was an event that made it.
    fn announce(
        &mut self,
        snapshot: &Arc<Snapshot>,
        previous: Option<&Snapshot>,
        took: Option<Duration>,
    ) {
        self.telemetry.publish(stats::of(snapshot, &self.config), took);
        report(snapshot, previous);
        self.tables.look(snapshot.clone());
    }

    /// When the first event came in that is in `views` and not published yet.
    fn oldest_change(&self, views: &[Option<View>]) -> Option<Instant> {
        let snapshot = self.cell.load();
        let feeds = self.config.feeds.iter().zip(views).enumerate();
        let fresh = feeds.filter_map(|(index, (feed, view))| {
            let is = |view: &Arc<ClusterView>, other: &Arc<_>| Arc::ptr_eq(view, other);
            let old = snapshot.inputs.views.get(index).and_then(Option::as_ref);
            let update = feed.view.borrow().clone()?;
            let used = view.as_ref().is_some_and(|new| is(&new.view, &update.view));
            let known = old.is_some_and(|old| is(old, &update.view));
            (used && !known).then_some(update.changed_at)
        });
        fresh.min()
    }

    fn tell_progress(&self) {
        if *self.progress.borrow() == Progress::Started {
            return;
        }
        let snapshot = self.cell.load();
        // What is in force counts, not what has come in since.
        let placed = !Arc::ptr_eq(&snapshot.inputs.atlas, &self.no_atlas);
        // Before their first look-up, load balancers of host names look like none.
        let resolved = snapshot.inputs.views.iter().flatten().all(|view| view.unresolved == 0);
        let known = snapshot.inputs.all_read() && resolved;
        let next = if known && placed && snapshot.missing_tables().is_none() {
            Progress::Started
        } else {
            Progress::Waiting(self.waiting())
        };
        self.progress.send_if_modified(|now| {
            let changed = *now != next;
            *now = next;
            changed
        });
    }

    /// What is still missing, for people.
    fn waiting(&self) -> Vec<String> {
        waiting::waiting(&self.cell.load(), &self.config, self.sources.atlas.borrow().is_some())
    }

    fn give_up_waiting(&self) {
        if *self.progress.borrow() != Progress::Started {
            let missing = self.waiting().join("; ");
            info!(missing, "the start-up grace is over; answering with what is known");
            self.progress.send_replace(Progress::Started);
        }
    }
}

/// What the next snapshot is built from; the one before tells with which TTLs was answered.
fn inputs(
    config: &Reload,
    views: Vec<Option<View>>,
    (monitor, operators, herald): (&mut Monitor, &mut Operators, &Herald),
    (atlas, compiled): (Arc<Atlas>, Option<Arc<Compiled>>),
    previous: Option<&Snapshot>,
) -> Inputs {
    let now = monitor::now().unix;
    let (overrides, phases) = operators.look(&config.federation, &views, previous, now);
    Inputs {
        standings: monitor.look(config, &views, herald),
        federation: config.federation.clone(),
        views: views.into_iter().map(|view| view.map(|view| view.view)).collect(),
        opinions: monitor.opinions().clone(),
        overrides,
        phases,
        atlas,
        compiled,
        now,
    }
}

/// Whether nothing differs but the time, and that does not matter, so that the serial stays: it
/// grows at every published change and at no other time.
fn unchanged(previous: &Snapshot, new: &Inputs) -> bool {
    let old = &previous.inputs;
    let same_views = old.views.len() == new.views.len()
        && old.views.iter().zip(&new.views).all(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        });
    let same_tables = match (&old.compiled, &new.compiled) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    };
    same_views
        && same_tables
        && previous.deadline().is_none_or(|deadline| new.now < deadline)
        && old.opinions.changed(&new.opinions).next().is_none()
        && old.phases.shards.changed(&new.phases.shards).next().is_none()
        && Arc::ptr_eq(&old.phases.clusters, &new.phases.clusters)
        && Arc::ptr_eq(&old.overrides, &new.overrides)
        && old.standings.len() == new.standings.len()
        && old.standings.iter().zip(&new.standings).all(|(a, b)| a.state == b.state)
        && Arc::ptr_eq(&old.federation, &new.federation)
        && Arc::ptr_eq(&old.atlas, &new.atlas)
}

/// Waits until something may have changed what is served, and before that until `rest` is over. May
/// be dropped at any time.
async fn changed(
    sources: &mut Sources,
    monitor: &mut Monitor,
    deadline: Option<u64>,
    rest: Option<Instant>,
) {
    if let Some(rest) = rest {
        time::sleep_until(rest.into()).await;
    }
    tokio::select! {
        () = sources.wake.notified() => {}
        () = monitor.changed() => {}
        () = operators::due(deadline) => {}
        Ok(()) = sources.atlas.changed() => {}
    }
}

/// Logs what cannot be served as asked, each as it begins. What is no longer so is forgotten: a
/// report that comes back is news again.
fn report(snapshot: &Snapshot, previous: Option<&Snapshot>) {
    let nothing = Reports::default();
    let before = previous.map_or(&nothing, |previous| &previous.reports);
    for report in snapshot.reports.news(before) {
        warn!(subject = %report.subject, "{}", report.reason);
    }
}

/// Waits for a moment, for ever where there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
