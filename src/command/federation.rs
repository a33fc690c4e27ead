//! From a configuration to the parts that run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meridian::cluster::home::{self, Home, Registered};
use meridian::cluster::lastgood::{KnownCluster, LastGood, Registry};
use meridian::cluster::{self, Feed, Office, Source};
use meridian::config::Config;
use meridian::geo;
use meridian::health::overrides;
use meridian::model::{ClusterId, Member, Report};
use meridian::publisher::{
    AtlasReceiver, Checking, OverridesReceiver, Progress, Publisher, Reload, Settings,
};
use meridian::snapshot::{Federation, Membership, Snapshot, SnapshotCell};
use meridian::tasks::{Ended, Kept, keep};
use meridian::telemetry::{Task, TaskMetrics, Telemetry};
use tokio::sync::{Notify, watch};
use tracing::warn;

/// A configuration being run: what the publisher joins, kept to compare the next one with.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    sources: Vec<cluster::Settings>,
    feeds: Vec<Arc<Feed>>,
    shared: cluster::Shared,
    geo: Arc<Geography>,
    overrides: Arc<OverridesFile>,
    home: Option<RunningHome>,
    /// What the home cluster registers, or did in an earlier run.
    registry: Option<Arc<Registry>>,
}

/// The task that keeps up with the overrides file; it runs as long as the server and is told of
/// another file.
#[derive(Debug)]
pub(crate) struct OverridesFile {
    file: watch::Sender<Option<PathBuf>>,
    /// What is in force.
    pub(crate) overrides: OverridesReceiver,
    _task: Kept,
}

impl OverridesFile {
    /// Reads the file at once, so that nothing is answered against it.
    fn start(file: Option<PathBuf>, wake: Arc<Notify>, tasks: &TaskMetrics) -> Self {
        let loader = overrides::watch::Loader::new(file.clone());
        let (overrides, seen) = watch::channel(loader.current().clone());
        let (file, file_seen) = watch::channel(file);
        let mut loader = Some(loader);
        let make = move || {
            let resume = || {
                let file = file_seen.borrow().clone();
                overrides::watch::Loader::resume(file, overrides.borrow().clone())
            };
            let loader = loader.take().unwrap_or_else(resume);
            let run =
                overrides::watch::run(loader, file_seen.clone(), overrides.clone(), wake.clone());
            async {
                match run.await {
                    Ok(()) => Ended::Unneeded,
                    Err(_) => Ended::Broken("reading overrides"),
                }
            }
        };
        Self { file, overrides: seen, _task: keep(Task::Overrides, tasks, make) }
    }
}

/// The home cluster being read.
#[derive(Clone, Debug)]
struct RunningHome {
    settings: home::Settings,
    home: Arc<Home>,
    /// Of our own, so that it remembers what was seen.
    registered: watch::Receiver<Option<Arc<Registered>>>,
}

/// The task that reads databases; it runs as long as the server and is told of new settings.
#[derive(Debug)]
pub(crate) struct Geography {
    settings: watch::Sender<geo::Settings>,
    /// Address space to places.
    pub(crate) atlas: AtlasReceiver,
    /// What became of the configured databases.
    pub(crate) status: watch::Receiver<geo::watch::Status>,
    _task: Kept,
}

/// A cluster beside those of the file.
struct Candidate {
    member: Member,
    source: Source,
    /// What registers it, for reports.
    subject: String,
}

/// The clusters of the file and those that are registered.
struct Joined {
    members: Vec<Member>,
    sources: Vec<cluster::Settings>,
    reports: BTreeSet<Report>,
}

/// Joins the clusters of the file with those that are registered, which come after them in the
/// order of their names. What cannot be joined is reported and left out.
fn join(config: &Config, registered: Vec<Candidate>, reports: BTreeSet<Report>) -> Joined {
    let (members, sources) = (config.members.clone(), config.sources.clone());
    let mut joined = Joined { members, sources, reports };
    for Candidate { member, source, subject } in registered {
        let fault = if joined.members.iter().any(|other| other.name == member.name) {
            Some(format!("registers no cluster: another has the name '{}' already", member.name))
        } else if joined.members.len() >= ClusterId::MAX_CLUSTERS {
            let most = ClusterId::MAX_CLUSTERS;
            Some(format!("registers no cluster: there are {most} already, which is the most"))
        } else if member.region.as_ref().is_some_and(|r| *r == config.federation.federation) {
            Some("registers no cluster: its region has the name of the federation".to_owned())
        } else {
            None
        };
        if let Some(reason) = fault {
            warn!(subject, reason, "not joined");
            joined.reports.insert(Report { subject: subject.into(), reason: reason.into() });
            continue;
        }
        joined.sources.push(config.common.settings(member.name.clone(), source));
        joined.members.push(member);
    }
    joined
}

/// What the home cluster has told.
fn told(registered: &Registered) -> Vec<Candidate> {
    let candidate = |told: &home::Registration| Candidate {
        member: told.member.clone(),
        source: Source::Api(told.source.clone()),
        subject: told.secret.to_string(),
    };
    registered.clusters.iter().map(candidate).collect()
}

/// What it had told in an earlier run; credentials were not kept.
fn remembered(registry: &Registry) -> Vec<Candidate> {
    let candidate = |known: &KnownCluster| Candidate {
        member: known.member.clone(),
        source: Source::Awaited(known.source.as_str().into()),
        subject: format!("cluster {} of an earlier run", known.member.name),
    };
    registry.clusters.iter().map(candidate).collect()
}

/// The same in the form that is kept.
fn registry(home: String, clusters: &[Candidate]) -> Registry {
    let known = |candidate: &Candidate| KnownCluster {
        member: candidate.member.clone(),
        source: candidate.source.identity(),
    };
    Registry { home, clusters: clusters.iter().map(known).collect(), partial: false }
}

/// What is known of clusters beside those of the file.
struct Beside {
    membership: Membership,
    registry: Option<Arc<Registry>>,
    candidates: Vec<Candidate>,
    reports: BTreeSet<Report>,
}

impl Beside {
    /// What `home` tells, else what is `known` from before.
    fn of(home: Option<&RunningHome>, known: Option<&Arc<Registry>>) -> Self {
        let nothing = |membership| Self {
            membership,
            registry: None,
            candidates: Vec::new(),
            reports: BTreeSet::new(),
        };
        let Some(home) = home else { return nothing(Membership::Known) };
        let identity = home.settings.identity();
        if let Some(registered) = home.registered.borrow().as_deref() {
            let candidates = told(registered);
            let registry = Some(Arc::new(registry(identity, &candidates)));
            let reports = registered.reports.clone();
            return Self { membership: Membership::Known, registry, candidates, reports };
        }
        match known.filter(|known| known.home == identity) {
            // As with views, what was known last counts as known, but for what is missing of it.
            Some(known) => Self {
                registry: Some(known.clone()),
                candidates: remembered(known),
                ..nothing(match known.partial {
                    true => Membership::Awaited,
                    false => Membership::Known,
                })
            },
            None => nothing(Membership::Awaited),
        }
    }
}

impl Geography {
    fn start(settings: geo::Settings, tasks: &TaskMetrics) -> Self {
        let (settings, settings_seen) = watch::channel(settings);
        let (atlas, atlas_seen) = watch::channel(None);
        let (status, status_seen) = watch::channel(geo::watch::Status::default());
        let make = move || {
            let channels = geo::watch::Channels { atlas: atlas.clone(), status: status.clone() };
            let run = geo::watch::run(settings_seen.clone(), channels);
            async {
                run.await;
                Ended::Unneeded
            }
        };
        let task = keep(Task::Databases, tasks, make);
        Self { settings, atlas: atlas_seen, status: status_seen, _task: task }
    }
}

impl Running {
    /// Waits until other clusters are registered than those that run; for ever without a home.
    pub(crate) async fn registration_changed(&mut self) {
        if let Some(home) = &mut self.home
            && home.registered.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// Begins to read what the configuration names, within the current tokio runtime. What runs
    /// already with the same settings is taken over from `before`; `remembered` is from disk.
    pub(crate) fn start(
        config: &Config,
        wake: &Arc<Notify>,
        remembered: Arc<LastGood>,
        before: Option<&Self>,
        tasks: &TaskMetrics,
    ) -> (Self, Reload) {
        let shared = cluster::Shared {
            apex: config.federation.domain.clone(),
            resolver: config.resolver.clone(),
            wake: wake.clone(),
            remembered: remembered.clone(),
            pool: before
                .map_or_else(|| remembered.pool.clone(), |before| before.shared.pool.clone()),
            ballots: before.map(|before| before.shared.ballots.clone()).unwrap_or_default(),
            tasks: tasks.clone(),
        };
        let kept =
            before.filter(|b| b.shared.apex == shared.apex && b.shared.resolver == shared.resolver);
        let home = config.home.as_ref().map(|settings| {
            let same = |old: &&RunningHome| old.settings == *settings;
            let old = kept.and_then(|before| before.home.as_ref()).filter(same);
            old.cloned().unwrap_or_else(|| {
                let home = Arc::new(home::spawn(
                    settings.clone(),
                    shared.apex.clone(),
                    shared.ballots.clone(),
                    tasks,
                ));
                let registered = home.registered.clone();
                RunningHome { settings: settings.clone(), home, registered }
            })
        });
        let home = home.map(|home| {
            // What is told from here on is a change.
            let mut registered = home.home.registered.clone();
            registered.mark_unchanged();
            RunningHome { registered, ..home }
        });
        let known = before.and_then(|before| before.registry.as_ref());
        let known = known.or(remembered.registry.as_ref());
        let Beside { membership, registry, candidates, reports } = Beside::of(home.as_ref(), known);
        let Joined { members, sources, reports } = join(config, candidates, reports);
        let feeds: Vec<_> = sources
            .iter()
            .map(|settings| {
                let old = kept.and_then(|b| {
                    let same = b.sources.iter().position(|s| s == settings)?;
                    Some(b.feeds[same].clone())
                });
                old.unwrap_or_else(|| Arc::new(cluster::spawn(settings.clone(), shared.clone())))
            })
            .collect();
        let geo = match before {
            Some(before) => {
                before.geo.settings.send_if_modified(|settings| {
                    let changed = *settings != config.geo;
                    settings.clone_from(&config.geo);
                    changed
                });
                before.geo.clone()
            }
            None => Arc::new(Geography::start(config.geo.clone(), tasks)),
        };
        let overrides = match before {
            Some(before) => {
                before.overrides.file.send_if_modified(|file| {
                    let changed = *file != config.overrides;
                    file.clone_from(&config.overrides);
                    changed
                });
                before.overrides.clone()
            }
            None => Arc::new(OverridesFile::start(config.overrides.clone(), wake.clone(), tasks)),
        };
        let federation = Federation {
            zone: Arc::new(config.federation.clone()),
            health: config.health.clone(),
            networks: config.geo.networks.clone(),
            identity: config.identity.clone(),
            members,
            membership,
            reports,
        };
        // They are large, and of no use to feeds that are started later.
        let shared = cluster::Shared { remembered: Arc::default(), ..shared };
        let reload = Reload {
            federation: Arc::new(federation),
            feeds: feeds.clone(),
            home: home.as_ref().map(|running| running.home.clone()),
            registry: registry.clone(),
        };
        (Self { sources, feeds, shared, geo, overrides, home, registry }, reload)
    }

    /// The overrides file.
    pub(crate) fn overrides(&self) -> OverridesReceiver {
        self.overrides.overrides.clone()
    }

    /// Where ballots are carried by API servers.
    pub(crate) fn ballots(&self) -> &Arc<Office> {
        &self.shared.ballots
    }

    /// The task that reads databases.
    pub(crate) fn geography(&self) -> &Arc<Geography> {
        &self.geo
    }
}

/// Reads every source of a configuration once and builds its snapshot, for commands that serve
/// nothing.
pub(crate) fn read_once(config: Config) -> anyhow::Result<Arc<SnapshotCell>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let telemetry = Telemetry::new(&config.federation.domain.to_string());
        let wake = Arc::new(Notify::new());
        let tasks = telemetry.tasks().clone();
        let (mut running, reload) = Running::start(&config, &wake, Arc::default(), None, &tasks);
        let atlas = running.geography().atlas.clone();
        let (publisher, mut handle) =
            Publisher::new(reload, &[], atlas, running.overrides(), wake.clone(), telemetry);
        let task = tokio::spawn(publisher.run(Settings {
            startup_grace: READ_LIMIT,
            last_known_good: None,
            checking: Checking::Off,
        }));
        loop {
            tokio::select! {
                started = handle.progress.wait_for(|progress| *progress == Progress::Started) => {
                    started.context("reading the sources failed")?;
                    break;
                }
                () = running.registration_changed() => {
                    let (next, reload) =
                        Running::start(&config, &wake, Arc::default(), Some(&running), &tasks);
                    running = next;
                    handle.reloads.send(reload).await.context("reading the sources failed")?;
                }
            }
        }
        task.abort();
        Ok(handle.cell)
    })
}

/// Fails where a source has not been read: what is absent from such a snapshot may well exist.
pub(crate) fn expect_complete(snapshot: &Snapshot) -> anyhow::Result<()> {
    let members = snapshot.inputs.federation.members.iter().zip(&snapshot.inputs.views);
    let unread: Vec<_> = members
        .filter(|(_, view)| view.is_none())
        .map(|(member, _)| member.name.as_str())
        .collect();
    anyhow::ensure!(unread.is_empty(), "not read within {READ_LIMIT:?}: {}", unread.join(", "));
    Ok(())
}

/// The longest that `dump` and `explain --config` wait for sources that do not answer.
const READ_LIMIT: Duration = Duration::from_secs(10);
