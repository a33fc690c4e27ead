//! Clusters registered at run time, by Secrets of the home cluster.
//!
//! *Owns*: what such a Secret says and how it is read. *Guarantees*: the list is told only once it
//! is complete; a Secret that becomes unusable keeps what it said before and touches no other; an
//! API server that is lost takes no cluster away. *Does not*: join them with those that are
//! configured; that is the command's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::config::Kubeconfig;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{Instrument, info_span, warn};

use super::feed::{AbortOnDrop, Batch, LinkSender};
use super::kube::{
    Board, Connection, Follow, Narrowed, Outlet, keep_connected, refuse_foreign, whole_seconds,
};
use super::link::{Kind, Link};
use super::narrow::{ObjectId, Rules, Scope};
use super::state::Change;
use super::{ApiSettings, ApiSource, Export};
use crate::model::{ClusterChecks, Coordinates, DomainName, Label, Member, Report};
use crate::telemetry::WatchClock;

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

/// A cluster that is registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// What the Secret says of it.
    pub member: Member,
    /// How it is reached.
    pub source: ApiSource,
    /// `Secret namespace/name`, for reports.
    pub subject: Box<str>,
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
    _task: AbortOnDrop,
}

/// Begins to read the home cluster of the federation whose zone is `apex`, within the current
/// tokio runtime.
#[must_use]
pub fn spawn(settings: Settings, apex: DomainName) -> Home {
    let (sender, registered) = watch::channel(None);
    let (link_sender, link) = watch::channel(Link::default());
    // Nobody is woken: whoever judges clusters is not interested in this one.
    let link_sender = LinkSender::new(link_sender, Arc::default());
    let task = run(settings, apex, sender, link_sender).instrument(info_span!("home"));
    Home { registered, link, _task: AbortOnDrop::new(tokio::spawn(task)) }
}

/// The label of Secrets that register a cluster.
const SELECTOR: &str = "meridian.dev/cluster=true";

async fn run(
    settings: Settings,
    apex: DomainName,
    sender: watch::Sender<Option<Arc<Registered>>>,
    link: LinkSender,
) {
    let (board, mut reports) = Board::new(link, Arc::new(WatchClock::new()));
    let (batches, mut events) = mpsc::channel(1);
    // Only identities are asked of these rules.
    let rules = Arc::new(Rules::new(Export::All, Arc::default(), apex));
    let Settings { source, namespace, api } = settings;
    let following = api.clone();
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
        tasks
    };
    let reading = async { keep_connected(&source, &api, &board, start).await };
    let mut secrets = Secrets::default();
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
        () = reading => {}
        () = telling => {}
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

/// A Secret, narrowed.
struct Narrow {
    id: ObjectId,
    subject: Box<str>,
    said: Result<Registration, Unusable>,
}

impl Narrow {
    fn of(id: ObjectId, secret: &Secret) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (namespace, name) = (text(&secret.metadata.namespace), text(&secret.metadata.name));
        let subject: Box<str> = format!("Secret {namespace}/{name}").into();
        Self { id, said: registration(secret, &name, subject.clone()), subject }
    }
}

/// Why a Secret registers no cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unusable(String);

impl<E: fmt::Display> From<E> for Unusable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Reads what a Secret says.
fn registration(
    secret: &Secret,
    secret_name: &str,
    subject: Box<str>,
) -> Result<Registration, Unusable> {
    let annotation = |key: &str| {
        let value = secret.metadata.annotations.as_ref()?.get(&format!("meridian.dev/{key}"))?;
        Some(value.trim()).filter(|value| !value.is_empty())
    };
    let name = label("name", annotation("name").unwrap_or(secret_name))?;
    let region = annotation("region").map(|text| place("region", text)).transpose()?;
    let zones: BTreeSet<Label> = annotation("zones")
        .into_iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| place("zones", text))
        .collect::<Result<_, _>>()?;
    if region.is_none() && !zones.is_empty() {
        return Err("meridian.dev/zones stand in no region: write meridian.dev/region too".into());
    }
    let location =
        location(annotation("location"), annotation("latitude"), annotation("longitude"))?;
    let drain = match annotation("drain") {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            return Err(format!("meridian.dev/drain '{other}' is not true or false").into());
        }
    };
    let data = secret.data.as_ref();
    let kubeconfig = ["kubeconfig", "value"].iter().find_map(|key| data?.get(*key));
    let bytes = kubeconfig.ok_or("it has neither data.kubeconfig nor data.value")?;
    let text = std::str::from_utf8(&bytes.0).map_err(|_| "its kubeconfig is not UTF-8")?;
    refuse_foreign(&Kubeconfig::from_yaml(text)?)?;
    let checks = ClusterChecks::default();
    let member = Member { name, region, zones, location, drain, stale_grace: None, checks };
    Ok(Registration { member, source: ApiSource::Inline(text.into()), subject })
}

fn label(key: &str, text: &str) -> Result<Label, Unusable> {
    let label = Label::from_kubernetes(text);
    label.ok_or_else(|| format!("meridian.dev/{key} '{text}' has no letter or digit").into())
}

fn place(key: &str, text: &str) -> Result<Label, Unusable> {
    let label = label(key, text)?;
    if label.is_reserved() {
        return Err(format!("meridian.dev/{key} '{label}' is reserved").into());
    }
    Ok(label)
}

/// From `latitude,longitude` in one annotation, or one in each of two.
fn location(
    both: Option<&str>,
    latitude: Option<&str>,
    longitude: Option<&str>,
) -> Result<Option<Coordinates>, Unusable> {
    let (latitude, longitude) = match (both, latitude, longitude) {
        (None, None, None) => return Ok(None),
        (Some(both), None, None) => both
            .split_once(',')
            .ok_or_else(|| format!("meridian.dev/location '{both}' is not LATITUDE,LONGITUDE"))?,
        (None, Some(latitude), Some(longitude)) => (latitude, longitude),
        _ => {
            return Err("write meridian.dev/location, or meridian.dev/latitude and longitude, \
                        and not a part of each"
                .into());
        }
    };
    let degrees = |text: &str| {
        text.trim().parse::<f64>().map_err(|_| format!("'{text}' is no number of degrees"))
    };
    Ok(Some(Coordinates::new(degrees(latitude)?, degrees(longitude)?)?))
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

    fn put(&mut self, Narrow { id, subject, said }: Narrow) {
        let known = self.known.entry(id).or_default();
        match said {
            Ok(registration) => *known = Known { good: Some(registration), fault: None },
            Err(Unusable(why)) => {
                let kept = match &known.good {
                    Some(_) => "what it said before stays in force",
                    None => "it registers no cluster",
                };
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
        clusters.sort_by(|a, b| (&a.member.name, &a.subject).cmp(&(&b.member.name, &b.subject)));
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
