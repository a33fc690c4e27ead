//! Clusters registered at run time, by Secrets of the home cluster.
//!
//! *Owns*: what such a Secret says and how it is read, and the Events that are written beside it.
//! *Guarantees*: the list is told only once it
//! is complete; a Secret that becomes unusable keeps what it said before and touches no other; an
//! API server that is lost takes no cluster away. *Does not*: join them with those that are
//! configured; that is the command's.

mod events;
mod instance;
mod name;
mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{Instrument, info_span, warn};

use super::ballots::{self, Office};
use super::feed::{Batch, LinkSender};
use super::kube::{Board, Connection, Follow, Narrowed, Outlet, keep_connected, whole_seconds};
use super::link::{Kind, Link};
use super::narrow::{ObjectId, Rules, Scope};
use super::state::Change;
use super::{ApiSettings, ApiSource, Export, Source};
use crate::model::{DomainName, Member, Report};
use crate::tasks::{Ended, Kept, keep};
use crate::telemetry::{EventCounts, Task, TaskMetrics, WatchClock};
pub use events::{Notice, Severity};
use events::{Outbox, Poster};
pub(super) use instance::Instance;
use secret::{Narrow, Unusable};

/// Where clusters are registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The home cluster.
    pub source: ApiSource,
    /// The namespace of the Secrets; by default that of the credentials.
    pub namespace: Option<String>,
    /// How its API server is asked.
    pub api: ApiSettings,
}

impl Settings {
    /// Which home it is, as text that stays the same from run to run.
    #[must_use]
    pub fn identity(&self) -> String {
        let source = Source::Api(self.source.clone()).identity();
        format!("{source} namespace:{}", self.namespace.as_deref().unwrap_or_default())
    }
}

/// A cluster that is registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// What the Secret says of it.
    pub member: Member,
    /// How it is reached.
    pub source: ApiSource,
    /// The Secret.
    pub secret: SecretName,
}

/// Which object a Secret is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// What tells it from an earlier one of that name.
    pub uid: Box<str>,
}

/// As reports call it.
impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}/{}", self.namespace, self.name)
    }
}

/// All clusters that are registered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registered {
    /// In the order of their names; two may have the same, of which the first counts.
    pub clusters: Vec<Registration>,
    /// What cannot be used as it is, and why.
    pub reports: BTreeSet<Report>,
}

/// The home cluster being read; dropping it ends that.
#[derive(Debug)]
pub struct Home {
    /// The clusters; `None` until the first list is complete.
    pub registered: watch::Receiver<Option<Arc<Registered>>>,
    /// How the home cluster is reached.
    pub link: watch::Receiver<Link>,
    /// When what is registered was last known to be current.
    pub clock: Arc<WatchClock>,
    /// Before the outbox: without that it would end by itself, which counts as a failure.
    _task: Kept,
    outbox: Outbox,
}

impl Home {
    /// Has an Event written of `notice`; without waiting, and without one where too many wait.
    pub fn post(&self, notice: Notice) {
        self.outbox.post(notice);
    }

    /// What has become of Events so far.
    #[must_use]
    pub fn events(&self) -> &Arc<EventCounts> {
        self.outbox.counts()
    }
}

/// Begins to read the home cluster of the federation whose zone is `apex`, and to write our ballot
/// there where that is configured, within the current tokio runtime; should that fail, it begins
/// anew.
#[must_use]
pub fn spawn(
    settings: Settings,
    apex: DomainName,
    ballots: Arc<Office>,
    metrics: &TaskMetrics,
) -> Home {
    let (sender, registered) = watch::channel(None);
    let (link_sender, link) = watch::channel(Link::default());
    // Nobody is woken: whoever judges clusters is not interested in this one.
    let link_sender = LinkSender::new(link_sender, Arc::default());
    let (outbox, poster) = events::channel(apex.clone(), registered.clone());
    let clock = Arc::new(WatchClock::new());
    let told = clock.clone();
    let make = move || {
        let board = Board::new(link_sender.clone(), told.clone());
        let carried = (poster.clone(), ballots.clone());
        run(settings.clone(), apex.clone(), sender.clone(), board, carried)
    };
    let task = info_span!("home").in_scope(|| keep(Task::Home, metrics, make));
    Home { registered, link, clock, outbox, _task: task }
}

/// The label of Secrets that register a cluster.
const SELECTOR: &str = "meridian.dev/cluster=true";

async fn run(
    settings: Settings,
    apex: DomainName,
    sender: watch::Sender<Option<Arc<Registered>>>,
    (board, mut reports): (Arc<Board>, watch::Receiver<BTreeSet<Report>>),
    (poster, ballots): (Poster, Arc<Office>),
) -> Ended {
    let (batches, mut events) = mpsc::channel(1);
    // Only identities are asked of these rules.
    let rules = Arc::new(Rules::new(Export::All, Arc::default(), apex));
    let Settings { source, namespace, api } = settings;
    let following = api.clone();
    let mut secrets = Secrets::after(sender.borrow().as_deref(), &rules);
    let (follow_board, follow_rules) = (board.clone(), rules);
    let start = move |connection: &Connection, renew: &Arc<Notify>| {
        let secrets = follow(
            connection,
            &following,
            namespace.as_deref(),
            follow_rules.clone(),
            follow_board.clone(),
            batches.clone(),
            renew.clone(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(secrets.in_current_span());
        let posting = poster.clone().run(connection.client.clone(), renew.clone());
        tasks.spawn(posting.in_current_span());
        if let Some(namespace) = following.ballots.clone() {
            let client = connection.client.clone();
            let voting = ballots::write(ballots.clone(), client, namespace, renew.clone());
            tasks.spawn(voting.in_current_span());
        }
        tasks
    };
    let reading = async { keep_connected(&source, &api, &board, start).await };
    let telling = async {
        loop {
            tokio::select! {
                batch = events.recv() => match batch {
                    Some(Batch { events, .. }) => events.into_iter().for_each(|e| secrets.apply(e)),
                    None => return,
                },
                Ok(()) = reports.changed() => {
                    secrets.of_source = reports.borrow_and_update().clone();
                }
            }
            secrets.tell(&sender);
        }
    };
    tokio::select! {
        () = reading => Ended::Broken("reading the home cluster"),
        () = telling => Ended::Broken("what it reads"),
    }
}

fn follow(
    connection: &Connection,
    settings: &ApiSettings,
    namespace: Option<&str>,
    rules: Arc<Rules>,
    board: Arc<Board>,
    batches: mpsc::Sender<Batch<Change<Narrow>>>,
    renew: Arc<Notify>,
) -> impl Future<Output = ()> + Send + 'static {
    let client = connection.client.clone();
    let api: Api<DeserializeGuard<Secret>> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::default_namespaced(client),
    };
    let config = watcher::Config::default().labels(SELECTOR);
    let follow = Follow {
        kind: Kind::Secret,
        scope: Scope::Namespaced,
        config: config.timeout(whole_seconds(settings.watch_timeout)),
        rules: rules.clone(),
        board,
        outlet: Outlet { batches, wrap: |change| change },
        observer: connection.observer.clone(),
        renew,
    };
    let narrow = move |DeserializeGuard(object): DeserializeGuard<Secret>| match object {
        Ok(secret) => match rules.id_of(&secret.metadata, Scope::Namespaced) {
            Ok(id) => Narrowed::Value(Narrow::of(id, &secret)),
            Err(unnamed) => Narrowed::Skipped { id: None, reason: unnamed.to_string() },
        },
        Err(invalid) => {
            let id = rules.id_of(&invalid.metadata, Scope::Namespaced).ok();
            Narrowed::Skipped { id, reason: invalid.error }
        }
    };
    follow.run(api, narrow)
}

/// The Secrets as they are known.
#[derive(Default)]
struct Secrets {
    known: BTreeMap<ObjectId, Known>,
    pending: Option<BTreeSet<ObjectId>>,
    read: bool,
    of_source: BTreeSet<Report>,
}

/// What is known of one Secret.
#[derive(Default)]
struct Known {
    /// Its last usable content.
    good: Option<Registration>,
    /// Why its present content is not in force.
    fault: Option<Report>,
}

impl Secrets {
    /// The Secrets as a run of the task before had told of them, so that one that is unusable now
    /// keeps what it said; those that are gone go with the first list.
    fn after(told: Option<&Registered>, rules: &Rules) -> Self {
        let known = told.into_iter().flat_map(|told| &told.clusters).filter_map(|registration| {
            let SecretName { namespace, name, .. } = &registration.secret;
            let metadata = ObjectMeta {
                namespace: Some(namespace.to_string()),
                name: Some(name.to_string()),
                ..ObjectMeta::default()
            };
            let id = rules.id_of(&metadata, Scope::Namespaced).ok()?;
            Some((id, Known { good: Some(registration.clone()), fault: None }))
        });
        Self { known: known.collect(), ..Self::default() }
    }

    fn apply(&mut self, change: Change<Narrow>) {
        match change {
            Change::Init => self.pending = Some(BTreeSet::new()),
            Change::InitApply(secret) => {
                self.pending.get_or_insert_default().insert(secret.id);
                self.put(secret);
            }
            Change::InitKeep(id) => {
                self.pending.get_or_insert_default().insert(id);
            }
            Change::InitDone => {
                if let Some(listed) = self.pending.take() {
                    self.known.retain(|id, _| listed.contains(id));
                    self.read = true;
                }
            }
            Change::Apply(secret) => {
                self.pending.iter_mut().for_each(|listed| {
                    listed.insert(secret.id);
                });
                self.put(secret);
            }
            Change::Delete(id) => {
                self.known.remove(&id);
            }
        }
    }

    fn put(&mut self, Narrow { id, name, said }: Narrow) {
        let known = self.known.entry(id).or_default();
        match said {
            Ok(registration) => *known = Known { good: Some(registration), fault: None },
            Err(Unusable(why)) => {
                let kept = match &known.good {
                    Some(_) => "what it said before stays in force",
                    None => "it registers no cluster",
                };
                let subject = name.to_string().into();
                known.fault = Some(Report { subject, reason: format!("{why}; {kept}").into() });
            }
        }
    }

    fn tell(&self, sender: &watch::Sender<Option<Arc<Registered>>>) {
        if !self.read {
            return;
        }
        let mut clusters: Vec<_> =
            self.known.values().filter_map(|known| known.good.clone()).collect();
        clusters.sort_by(|a, b| (&a.member.name, &a.secret).cmp(&(&b.member.name, &b.secret)));
        let faults = self.known.values().filter_map(|known| known.fault.clone());
        let reports: BTreeSet<Report> = faults.chain(self.of_source.iter().cloned()).collect();
        let now = Registered { clusters, reports };
        sender.send_if_modified(|told| {
            if told.as_deref() == Some(&now) {
                return false;
            }
            let before = told.as_ref().map(|before| before.reports.clone()).unwrap_or_default();
            for report in now.reports.difference(&before) {
                warn!(subject = %report.subject, reason = %report.reason, "not in force");
            }
            *told = Some(Arc::new(now));
            true
        });
    }
}

#[cfg(test)]
mod tests;
