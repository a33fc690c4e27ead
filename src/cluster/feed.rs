//! The task of one cluster, and what it hands on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{Instrument, debug, info, info_span, warn};

use super::ballots::{self, Office};
use super::lastgood::LastGood;
use super::link::{Link, Reach};
use super::manifests::{self, Scanner};
use super::narrow::Rules;
use super::resolver::{self, ResolverSettings};
use super::state::{Changed, ClusterState, Event, HostChange};
use super::{Settings, Source, kube};
use crate::model::{ClusterView, DomainName, Pool};
use crate::tasks::{Ended, Kept, keep};
use crate::telemetry::{Task, TaskMetrics, WatchClock};

/// What the clusters of a federation have in common.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The apex of the federation's zone: no name within it is resolved.
    pub apex: DomainName,
    /// How load balancers' host names are resolved.
    pub resolver: ResolverSettings,
    /// Notified after each new view, so that one publisher can wait for all clusters.
    pub wake: Arc<Notify>,
    /// What an earlier run knew, for what host names resolved to.
    pub remembered: Arc<LastGood>,
    /// Where values that shards have in common are held.
    pub pool: Arc<Pool>,
    /// Where the ballots that they hold are taken to.
    pub ballots: Arc<Office>,
    /// Where it is counted that a task has failed.
    pub tasks: TaskMetrics,
}

/// A new view of a cluster.
#[derive(Clone, Debug)]
pub struct Update {
    /// The cluster as it is.
    pub view: Arc<ClusterView>,
    /// When the change came in that made it.
    pub changed_at: Instant,
}

/// A cluster that is being read; dropping it ends that.
#[derive(Debug)]
pub struct Feed {
    /// The last view; `None` until the first list of every kind is complete.
    pub view: watch::Receiver<Option<Update>>,
    /// When the source was last known to be current.
    pub clock: Arc<WatchClock>,
    /// How the source is reached. Its changes wake the publisher too.
    pub link: watch::Receiver<Link>,
    /// Which source it is, as [`Source::identity`] writes it.
    pub source: String,
    _task: Kept,
}

#[cfg(test)]
impl Feed {
    /// Of a source that says what is sent to `view`.
    pub(crate) fn told(source: &str, view: watch::Receiver<Option<Update>>) -> Self {
        let metrics = crate::telemetry::Telemetry::new("example.com.").tasks().clone();
        let (_, link) = watch::channel(Link::default());
        let clock = Arc::new(WatchClock::new());
        let task = keep(Task::Cluster, &metrics, std::future::pending);
        Self { view, clock, link, source: source.to_owned(), _task: task }
    }
}

/// Begins to read a cluster, within the current tokio runtime. The task ends when the feed, or
/// every receiver made of it, is dropped; should it fail, it begins anew.
#[must_use]
pub fn spawn(settings: Settings, shared: Shared) -> Feed {
    let (sender, view) = watch::channel(None);
    let clock = Arc::new(WatchClock::new());
    let (link, link_seen) = watch::channel(Link::default());
    let link = LinkSender::new(link, shared.wake.clone());
    let source = settings.source.identity();
    let known = shared.remembered.views.iter();
    let known = known.filter(|known| known.name == settings.name && known.source == source);
    let known = known.map(|known| known.view.clone()).next();
    let views = Views { sender, known: Arc::new(Mutex::new(known)) };
    // The views of an earlier run are large, and of no more use.
    let shared = Shared { remembered: Arc::default(), ..shared };
    let (metrics, told) = (shared.tasks.clone(), clock.clone());
    let span = info_span!("cluster", name = %settings.name);
    let make =
        move || run(settings.clone(), shared.clone(), views.clone(), told.clone(), link.clone());
    let task = span.in_scope(|| keep(Task::Cluster, &metrics, make));
    Feed { view, clock, link: link_seen, source, _task: task }
}

/// Where the views of a cluster go, and what a task that begins anew goes on from.
#[derive(Clone, Debug)]
struct Views {
    sender: watch::Sender<Option<Update>>,
    /// That of an earlier run of the process, until there is one of this: it is large.
    known: Arc<Mutex<Option<Arc<ClusterView>>>>,
}

impl Views {
    /// The last view, where there is any. Begun anew, a task goes on from it like a process does.
    fn last(&self) -> Option<Arc<ClusterView>> {
        let last = self.sender.borrow().as_ref().map(|update| update.view.clone());
        last.or_else(|| self.known().clone())
    }

    fn send(&self, update: Update) {
        self.sender.send_replace(Some(update));
        *self.known() = None;
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<ClusterView>>> {
        // It is there or not, whatever its last user did before it panicked.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The sending end of a [`Link`].
#[derive(Clone, Debug)]
pub(super) struct LinkSender {
    link: watch::Sender<Link>,
    wake: Arc<Notify>,
}

impl LinkSender {
    /// Sends by `link`, and wakes whoever waits for `wake`.
    pub(super) fn new(link: watch::Sender<Link>, wake: Arc<Notify>) -> Self {
        Self { link, wake }
    }

    /// Changes it; `change` says whether it did.
    pub(super) fn update(&self, change: impl FnOnce(&mut Link) -> bool) {
        if self.link.send_if_modified(change) {
            self.wake.notify_one();
        }
    }
}

/// Events that came in together.
pub(super) struct Batch<E> {
    /// In their order.
    pub(super) events: Vec<E>,
    /// When the first came in.
    pub(super) at: Instant,
}

/// Answers of the resolver that may wait for the reducer; those that wait make one view.
const ANSWERS: usize = 64;

async fn run(
    settings: Settings,
    shared: Shared,
    views: Views,
    clock: Arc<WatchClock>,
    link: LinkSender,
) -> Ended {
    let Shared { apex, resolver, wake, pool, ballots, .. } = shared;
    let rules = Rules::new(settings.export, settings.allow_nets, apex.clone());
    let rules = rules.limited_to(settings.namespaces, settings.addresses);
    let rules = Arc::new(rules.with_internal(settings.internal).pooled(pool));
    let (batches, mut source) = mpsc::channel(1);
    let (hosts, wanted) = mpsc::unbounded_channel();
    let (answers, mut answered) = mpsc::channel(ANSWERS);
    // Children end with this task: their handles are dropped with it.
    let (board, mut reports) = kube::Board::new(link.clone(), clock.clone());
    let _source = AbortOnDrop(match settings.source {
        Source::Manifests(directory) => {
            let scanner = Scanner::new(directory, rules.clone());
            tokio::spawn(watch_manifests(scanner, batches, clock, link).in_current_span())
        }
        Source::Api(source) => {
            let opened = settings
                .api
                .ballots
                .clone()
                .map(|namespace| ballots::open(ballots, settings.name.clone(), namespace));
            let (reader, collecting) = opened.unzip();
            let outlets = kube::Outlets { events: batches, ballots: reader };
            let watching = kube::run(source, settings.api, rules.clone(), board, outlets);
            let collecting = async {
                match collecting {
                    Some(collecting) => collecting.await,
                    None => std::future::pending().await,
                }
            };
            // Both for ever, or until one has panicked.
            let both = async {
                tokio::select! {
                    () = watching => {}
                    () = collecting => {}
                }
            };
            tokio::spawn(both.in_current_span())
        }
        // Another feed takes its place when there are credentials.
        Source::Awaited(_) => tokio::spawn(async move {
            let _open = batches;
            std::future::pending().await
        }),
    });
    let resolver = resolver::run(resolver, apex, wanted, answers);
    let _resolver = AbortOnDrop(tokio::spawn(resolver.in_current_span()));
    let mut state = ClusterState::new(rules, settings.confirm);
    views.last().iter().for_each(|view| state.remember(view));
    let mut reducer = Reducer { state, hosts, views, wake };
    let mut events = Vec::with_capacity(ANSWERS);
    loop {
        let confirmed = async {
            match reducer.state.deadline() {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let batch = tokio::select! {
            () = reducer.views.sender.closed() => return Ended::Unneeded,
            () = confirmed => Batch { events: Vec::new(), at: Instant::now() },
            batch = source.recv() => match batch {
                Some(batch) => batch,
                None => return Ended::Broken("reading the source"),
            },
            Ok(()) = reports.changed() => {
                let reports = reports.borrow_and_update().clone();
                let told = Event::Source { reports, partial: false };
                Batch { events: vec![told], at: Instant::now() }
            }
            answers = answered.recv_many(&mut events, ANSWERS) => match answers {
                0 => return Ended::Broken("looking up host names"),
                _ => Batch { events: std::mem::take(&mut events), at: Instant::now() },
            },
        };
        reducer.take(batch);
    }
}

/// The state of a cluster with those who listen to it.
struct Reducer {
    state: ClusterState,
    hosts: mpsc::UnboundedSender<HostChange>,
    views: Views,
    wake: Arc<Notify>,
}

impl Reducer {
    /// Takes in a batch and publishes what it changes, at most one view.
    fn take(&mut self, batch: Batch<Event>) {
        batch.events.into_iter().for_each(|event| self.state.take(event));
        let changed = self.state.settle(Instant::now());
        for change in self.state.take_host_changes() {
            // A resolver that has ended leaves its names unresolved; nothing else is touched.
            let _ = self.hosts.send(change);
        }
        let view = match changed {
            Changed::View => self.state.view(),
            Changed::Nothing => None,
        };
        let Some(view) = view else { return };
        self.log_reports(&view);
        self.log_withheld(&view);
        self.views.send(Update { view, changed_at: batch.at });
        // `notify_one` keeps a permit while the publisher is busy; it is the only one that waits.
        self.wake.notify_one();
    }

    /// Logs how many shards the guard begins and ceases to keep.
    fn log_withheld(&self, view: &ClusterView) {
        let before = self.views.sender.borrow().as_ref().map_or(0, |update| update.view.withheld);
        match (before, view.withheld) {
            (0, 0) => {}
            (0, shards) => warn!(shards, "shards vanished at one stroke; held back for now"),
            (_, 0) => info!(shards = view.shards.len(), "no shard is held back any more"),
            _ => {}
        }
    }

    /// Logs each report once, when it is first made.
    fn log_reports(&self, view: &ClusterView) {
        let before = self.views.sender.borrow();
        let before = before.as_ref().map(|update| update.view.reports.clone()).unwrap_or_default();
        if Arc::ptr_eq(&before, &view.reports) {
            return;
        }
        for report in view.reports.difference(&before) {
            warn!(subject = %report.subject, reason = %report.reason, "not served as asked");
        }
        for report in before.difference(&view.reports) {
            debug!(subject = %report.subject, reason = %report.reason, "no longer so");
        }
    }
}

/// Looks at a directory for ever, off the threads that serve: a file system may hang.
async fn watch_manifests(
    mut scanner: Scanner,
    batches: mpsc::Sender<Batch<Event>>,
    clock: Arc<WatchClock>,
    link: LinkSender,
) {
    loop {
        let at = Instant::now();
        let scan = tokio::task::spawn_blocking(move || {
            let events = scanner.scan();
            (scanner, events)
        });
        let events;
        (scanner, events) = match scan.await {
            Ok(done) => done,
            // Only a panic, which the runtime has logged, or the runtime's end.
            Err(_) => return,
        };
        if scanner.trouble().is_none() {
            clock.touch();
        }
        let trouble = scanner.trouble().map(Into::into);
        link.update(|link| match (&mut link.reach, trouble) {
            (Reach::Connected, None) => false,
            (Reach::Lost { reason, .. }, Some(now)) if *reason == now => false,
            (Reach::Lost { reason, .. }, Some(now)) => {
                *reason = now;
                true
            }
            (reach, None) => {
                *reach = Reach::Connected;
                true
            }
            (reach, Some(reason)) => {
                *reach = Reach::Lost { since: at, reason };
                true
            }
        });
        if !events.is_empty() && batches.send(Batch { events, at }).await.is_err() {
            return;
        }
        tokio::time::sleep(manifests::PERIOD).await;
    }
}

#[cfg(test)]
mod tests;
