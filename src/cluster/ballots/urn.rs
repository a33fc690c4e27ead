//! The ballots of one cluster, as its API server has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use tokio::sync::{Notify, mpsc, watch};

use super::{KEY, LABEL, Office, RENEWAL};
use crate::cluster::ApiSettings;
use crate::cluster::feed::{Batch, LinkSender};
use crate::cluster::kube::{Board, Connection, Follow, Narrowed, Outlet, whole_seconds};
use crate::cluster::link::{Kind, Link};
use crate::cluster::narrow::{ObjectId, Rules, Scope};
use crate::cluster::state::Change;
use crate::health::votes::{Ballot, Heard, Renewal};
use crate::model::{Label, Report};
use crate::telemetry::WatchClock;

/// Follows the ballots of one cluster.
#[derive(Clone)]
pub(in crate::cluster) struct Reader {
    namespace: Arc<str>,
    board: Arc<Board>,
    batches: mpsc::Sender<Batch<Change<Found>>>,
}

/// A ConfigMap, narrowed.
pub(in crate::cluster) struct Found {
    id: ObjectId,
    name: Box<str>,
    read: Result<Arc<Ballot>, Box<str>>,
}

/// Makes room for the ballots in `namespace` of `cluster`: who follows them, and who hands them to
/// `office` as long as it is polled.
pub(in crate::cluster) fn open(
    office: Arc<Office>,
    cluster: Label,
    namespace: Arc<str>,
) -> (Reader, impl Future<Output = ()> + Send + 'static) {
    // Told to nobody who judges clusters, nor to their metrics: whether ballots can be read says
    // nothing of services.
    let link = LinkSender::new(watch::channel(Link::default()).0, Arc::default());
    let (board, of_watch) = Board::new(link, Arc::new(WatchClock::new()));
    let (batches, events) = mpsc::channel(1);
    let urn = Urn::new(office.number(), office, cluster);
    (Reader { namespace, board, batches }, urn.collect(events, of_watch))
}

impl Reader {
    /// Follows them by `connection` for ever.
    pub(in crate::cluster) fn follow(
        self,
        connection: &Connection,
        settings: &ApiSettings,
        rules: Arc<Rules>,
        renew: Arc<Notify>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let api: Api<DeserializeGuard<ConfigMap>> =
            Api::namespaced(connection.client.clone(), &self.namespace);
        let config = watcher::Config::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
        let follow = Follow {
            kind: Kind::ConfigMap,
            scope: Scope::Namespaced,
            config: config.timeout(whole_seconds(settings.watch_timeout)),
            rules: rules.clone(),
            board: self.board,
            outlet: Outlet { batches: self.batches, wrap: |change| change },
            observer: connection.observer.clone(),
            renew,
        };
        let narrow = move |DeserializeGuard(object): DeserializeGuard<ConfigMap>| match object {
            Ok(object) => match rules.id_of(&object.metadata, Scope::Namespaced) {
                Ok(id) => Narrowed::Value(Found::of(id, &object)),
                Err(unnamed) => Narrowed::Skipped { id: None, reason: unnamed.to_string() },
            },
            Err(invalid) => {
                let id = rules.id_of(&invalid.metadata, Scope::Namespaced).ok();
                Narrowed::Skipped { id, reason: invalid.error }
            }
        };
        follow.run(api, narrow)
    }
}

impl Found {
    pub(super) fn of(id: ObjectId, object: &ConfigMap) -> Self {
        let text = object.data.as_ref().and_then(|data| data.get(KEY));
        let read = match text.map(|text| Ballot::decode(text)) {
            Some(Ok(ballot)) => Ok(renewed(object, Arc::new(ballot))),
            Some(Err(error)) => Err(error.to_string().into()),
            None => Err(format!("it has no data.{KEY}").into()),
        };
        Self { id, name: object.metadata.name.clone().unwrap_or_default().into(), read }
    }
}

/// A ballot as its annotation renews it. One that is none renews nothing.
fn renewed(object: &ConfigMap, ballot: Arc<Ballot>) -> Arc<Ballot> {
    let annotations = object.metadata.annotations.as_ref();
    let renewal = annotations.and_then(|all| all.get(RENEWAL)?.parse().ok());
    renewal.map_or_else(|| ballot.clone(), |renewal: Renewal| renewal.of(&ballot))
}

/// The ballots of one cluster.
pub(super) struct Urn {
    number: u64,
    office: Arc<Office>,
    cluster: Label,
    known: BTreeMap<ObjectId, Result<Arc<Ballot>, Report>>,
    pending: Option<BTreeSet<ObjectId>>,
    of_watch: BTreeSet<Report>,
}

impl Urn {
    pub(super) fn new(number: u64, office: Arc<Office>, cluster: Label) -> Self {
        let (known, of_watch) = (BTreeMap::new(), BTreeSet::new());
        Self { number, office, cluster, known, pending: None, of_watch }
    }

    async fn collect(
        mut self,
        mut events: mpsc::Receiver<Batch<Change<Found>>>,
        mut of_watch: watch::Receiver<BTreeSet<Report>>,
    ) {
        loop {
            tokio::select! {
                batch = events.recv() => match batch {
                    Some(Batch { events, .. }) => events.into_iter().for_each(|e| self.apply(e)),
                    None => return,
                },
                Ok(()) = of_watch.changed() => {
                    self.of_watch = of_watch.borrow_and_update().clone();
                }
            }
            self.tell();
        }
    }

    /// A ballot that is gone or cannot be read is left out, which is as if it were not renewed.
    pub(super) fn apply(&mut self, change: Change<Found>) {
        match change {
            Change::Init => self.pending = Some(BTreeSet::new()),
            Change::InitApply(found) => {
                self.pending.get_or_insert_default().insert(found.id);
                self.put(found);
            }
            Change::InitKeep(id) => {
                self.pending.get_or_insert_default().insert(id);
            }
            Change::InitDone => {
                if let Some(listed) = self.pending.take() {
                    self.known.retain(|id, _| listed.contains(id));
                }
            }
            Change::Apply(found) => {
                if let Some(listed) = &mut self.pending {
                    listed.insert(found.id);
                }
                self.put(found);
            }
            Change::Delete(id) => drop(self.known.remove(&id)),
        }
    }

    fn put(&mut self, Found { id, name, read }: Found) {
        let cluster = &self.cluster;
        let read = read.and_then(|ballot| {
            if ballot.voter != *cluster {
                return Err(format!(
                    "it votes for '{}' and does not count: who writes here votes for '{cluster}'; \
                     health.votes.cluster must be the name by which others know the home cluster",
                    ballot.voter
                )
                .into());
            }
            // Else two objects may hold what passes for one ballot that is renewed with every look.
            let right = super::write::name(&ballot.instance);
            if *name != *right {
                let reason =
                    format!("the ballot of {ballot} that it holds counts in '{right}' only");
                return Err(reason.into());
            }
            Ok(ballot)
        });
        let report = |reason| {
            let subject = format!("ballot {name} in cluster {cluster}").into();
            Report { subject, reason }
        };
        self.known.insert(id, read.map_err(report));
    }

    pub(super) fn tell(&self) {
        let of_watch = self.of_watch.iter().map(|report| Report {
            subject: format!("{} for ballots in cluster {}", report.subject, self.cluster).into(),
            reason: report.reason.clone(),
        });
        let faults = self.known.values().filter_map(|known| known.as_ref().err().cloned());
        let heard = Heard {
            ballots: self.known.values().filter_map(|known| known.as_ref().ok().cloned()).collect(),
            faults: faults.chain(of_watch).collect(),
        };
        self.office.put(self.number, Some(heard));
    }
}

/// A cluster that is no longer read has no ballots.
impl Drop for Urn {
    fn drop(&mut self) {
        self.office.put(self.number, None);
    }
}
