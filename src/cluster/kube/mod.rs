//! An API server as a source.
//!
//! *Owns*: the client of one cluster with its credentials, its watches and its probe.
//! *Guarantees*: objects are narrowed before they leave here; a watch that breaks is tried again
//! for ever, at a jittered pace, and takes nothing away; each reason for a failure is told apart;
//! credentials that change or expire are read anew. *Does not*: judge whether the cluster is lost.
//!
//! | part | role |
//! |---|---|
//! | `client` | credentials to a client |
//! | `observe` | sees which watches open and when the server asks to wait |
//! | `watch` | follows one kind |
//! | `exports` | finds the version of ServiceExport that the server has |
//! | `probe` | asks `/readyz` |
//! | `fault` | tells errors apart |
//! | `guarded` | keeps an object that cannot be read from spoiling a list |
//! | `board` | where all of these say how they fare |

mod board;
mod client;
mod exports;
mod fault;
mod guarded;
mod observe;
mod probe;
mod watch;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::watcher::{self, DefaultBackoff};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{Instrument, info, warn};

pub(super) use board::Board;
pub(super) use client::{Connection, connect, refuse_foreign, server};
pub(super) use fault::{describe, of as fault_of};
use guarded::Guarded;
pub(super) use watch::{Follow, Narrowed, Outlet};

use super::ballots::Reader;
use super::feed::Batch;
use super::link::Kind;
use super::narrow::{FEDERATE_SELECTOR, Rules, Scope, Unnamed};
use super::state::{Change, Event};
use super::{ApiSettings, ApiSource, Export};

/// How often the files of a kubeconfig are looked at: a rotated credential is in use well before
/// the old one expires, and reading some small files costs nothing.
const LOOK: Duration = Duration::from_secs(2);

/// Where what a cluster holds goes to.
pub(super) struct Outlets {
    /// What the reducer takes.
    pub(super) events: mpsc::Sender<Batch<Event>>,
    /// Ballots, where they are read.
    pub(super) ballots: Option<Reader>,
}

/// Reads a cluster's API server for ever.
pub(super) async fn run(
    source: ApiSource,
    settings: ApiSettings,
    rules: Arc<Rules>,
    board: Arc<Board>,
    Outlets { events, ballots }: Outlets,
) {
    let sessions = |connection: &Connection, renew: &Arc<Notify>| {
        let session = Session {
            connection: connection.clone(),
            settings: settings.clone(),
            rules: rules.clone(),
            board: board.clone(),
            batches: events.clone(),
            renew: renew.clone(),
        };
        let mut tasks = JoinSet::new();
        let services = session.clone().follow(
            Scope::Namespaced,
            Kind::Service,
            Rules::service,
            Event::Service,
        );
        tasks.spawn(services.in_current_span());
        let slices = session.clone().follow(
            Scope::Namespaced,
            Kind::EndpointSlice,
            Rules::slice,
            Event::Slice,
        );
        tasks.spawn(slices.in_current_span());
        let nodes = session.clone().follow(Scope::Cluster, Kind::Node, Rules::node, Event::Node);
        tasks.spawn(nodes.in_current_span());
        if let Some(reader) = ballots.clone() {
            let reading = reader.follow(connection, &settings, rules.clone(), renew.clone());
            tasks.spawn(reading.in_current_span());
        }
        if rules.export_mode() == Export::ServiceExport {
            tasks.spawn(exports::follow(session).in_current_span());
        }
        tasks
    };
    keep_connected(&source, &settings, &board, sessions).await;
}

/// Keeps a client with fresh credentials and the tasks that use it, which `start` begins. Returns
/// only where one of them has panicked.
pub(super) async fn keep_connected(
    source: &ApiSource,
    settings: &ApiSettings,
    board: &Arc<Board>,
    start: impl Fn(&Connection, &Arc<Notify>) -> JoinSet<()>,
) {
    let renew = Arc::new(Notify::new());
    let mut backoff = DefaultBackoff::default();
    let mut connection = first_connection(source, settings, board).await;
    loop {
        let began = Instant::now();
        let mut tasks = start(&connection, &renew);
        let probe = probe::run(connection.clone(), settings.clone(), board.clone(), renew.clone());
        tasks.spawn(probe.in_current_span());
        connection = tokio::select! {
            _ = tasks.join_next() => return,
            next = replacement(source, settings, &connection, &renew) => next,
        };
        // Credentials that are refused as soon as they are new are not asked for in a loop.
        tasks.shutdown().await;
        if began.elapsed() < Duration::from_secs(60) {
            sleep(backoff.next().unwrap_or(LOOK)).await;
        } else {
            backoff = DefaultBackoff::default();
        }
        info!("connecting with credentials read anew");
    }
}

async fn first_connection(
    source: &ApiSource,
    settings: &ApiSettings,
    board: &Arc<Board>,
) -> Connection {
    let mut backoff = DefaultBackoff::default();
    loop {
        match connect(source, settings).await {
            Ok(connection) => return connection,
            Err(error) => board.unusable(&error),
        }
        sleep(backoff.next().unwrap_or(LOOK)).await;
    }
}

/// Waits until there is another client to use: files of the credentials have changed, a client
/// certificate has expired, or the API server refuses the old one.
async fn replacement(
    source: &ApiSource,
    settings: &ApiSettings,
    old: &Connection,
    renew: &Notify,
) -> Connection {
    let mut refused = None;
    loop {
        let asked = tokio::select! {
            () = renew.notified() => true,
            () = sleep(LOOK) => false,
        };
        let fingerprint = client::fingerprint(source).await;
        let changed = fingerprint != old.fingerprint && refused != Some(fingerprint);
        if !(asked || changed || old.has_expired()) {
            continue;
        }
        match connect(source, settings).await {
            Ok(connection) => return connection,
            Err(error) => {
                // What runs, runs on: half-written files are common, and the old credentials may
                // be good still.
                warn!(%error, "the changed credentials cannot be used; the old stay in use");
                refused = Some(fingerprint);
                sleep(LOOK).await;
            }
        }
    }
}

/// What the watches of one cluster share.
#[derive(Clone)]
struct Session {
    connection: Connection,
    settings: ApiSettings,
    rules: Arc<Rules>,
    board: Arc<Board>,
    batches: mpsc::Sender<Batch<Event>>,
    renew: Arc<Notify>,
}

impl Session {
    /// Follows all objects of a kind for ever: each by `narrow` to a value, which goes out by `wrap`.
    async fn follow<K, T>(
        self,
        scope: Scope,
        kind: Kind,
        narrow: fn(&Rules, &K) -> Result<T, Unnamed>,
        wrap: fn(Change<T>) -> Event,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let api: Api<Guarded<K>> = Api::all(self.connection.client.clone());
        let rules = self.rules.clone();
        let narrow = move |object| narrowed(&rules, object, scope, narrow);
        self.start(kind, scope, wrap).run(api, narrow).await;
    }

    /// A follower of `kind`.
    fn start<T>(self, kind: Kind, scope: Scope, wrap: fn(Change<T>) -> Event) -> Follow<T, Event> {
        let selected = self.rules.export_mode() == Export::Label
            && matches!(kind, Kind::Service | Kind::EndpointSlice);
        let config = watcher::Config::default();
        let config = if selected { config.labels(FEDERATE_SELECTOR) } else { config };
        Follow {
            kind,
            scope,
            config: config.timeout(whole_seconds(self.settings.watch_timeout)),
            rules: self.rules,
            board: self.board,
            outlet: Outlet { batches: self.batches, wrap },
            observer: self.connection.observer,
            renew: self.renew,
        }
    }
}

/// What an API's `timeoutSeconds` takes.
pub(super) fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// Narrows an object that may not have been readable.
fn narrowed<K, T>(
    rules: &Rules,
    Guarded(object): Guarded<K>,
    scope: Scope,
    narrow: fn(&Rules, &K) -> Result<T, Unnamed>,
) -> Narrowed<T> {
    match object {
        Ok(object) => match narrow(rules, &object) {
            Ok(value) => Narrowed::Value(value),
            // No API server gives out an object without a name.
            Err(unnamed) => Narrowed::Skipped { id: None, reason: unnamed.to_string() },
        },
        Err(invalid) => {
            let id = rules.id_of(&invalid.metadata, scope).ok();
            Narrowed::Skipped { id, reason: invalid.reason }
        }
    }
}
