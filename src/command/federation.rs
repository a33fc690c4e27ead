//! From a configuration to the parts that run.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meridian::cluster::lastgood::KnownView;
use meridian::cluster::{self, Feed};
use meridian::config::Config;
use meridian::geo;
use meridian::publisher::{AtlasReceiver, Progress, Publisher, Reload, Settings};
use meridian::snapshot::{Federation, SnapshotCell};
use meridian::telemetry::Telemetry;
use tokio::sync::{Notify, watch};

/// A configuration being run: what the publisher joins, kept to compare the next one with.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    sources: Vec<cluster::Settings>,
    feeds: Vec<Arc<Feed>>,
    shared: cluster::Shared,
    geo: Arc<Geography>,
}

/// The task that reads databases; it runs as long as the server and is told of new settings.
#[derive(Debug)]
pub(crate) struct Geography {
    settings: watch::Sender<geo::Settings>,
    /// Address space to places.
    pub(crate) atlas: AtlasReceiver,
    /// What became of the configured databases.
    pub(crate) status: watch::Receiver<geo::watch::Status>,
}

impl Geography {
    fn start(settings: geo::Settings) -> Self {
        let (settings, settings_seen) = watch::channel(settings);
        let (atlas, atlas_seen) = watch::channel(None);
        let (status, status_seen) = watch::channel(geo::watch::Status::default());
        tokio::spawn(geo::watch::run(settings_seen, geo::watch::Channels { atlas, status }));
        Self { settings, atlas: atlas_seen, status: status_seen }
    }
}

impl Running {
    /// Begins to read what the configuration names, within the current tokio runtime. What runs
    /// already with the same settings is taken over from `before`; `remembered` is from disk.
    pub(crate) fn start(
        config: &Config,
        wake: &Arc<Notify>,
        remembered: Arc<[KnownView]>,
        before: Option<&Self>,
    ) -> (Self, Reload) {
        let shared = cluster::Shared {
            apex: config.federation.domain.clone(),
            resolver: config.resolver.clone(),
            wake: wake.clone(),
            remembered,
        };
        let kept =
            before.filter(|b| b.shared.apex == shared.apex && b.shared.resolver == shared.resolver);
        let feeds: Vec<_> = config
            .sources
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
            None => Arc::new(Geography::start(config.geo.clone())),
        };
        let federation = Federation {
            zone: Arc::new(config.federation.clone()),
            health: config.health.clone(),
            networks: config.geo.networks.clone(),
            identity: config.identity.clone(),
            members: config.members.clone(),
        };
        // They are large, and of no use to feeds that are started later.
        let shared = cluster::Shared { remembered: Arc::default(), ..shared };
        let reload = Reload { federation: Arc::new(federation), feeds: feeds.clone() };
        (Self { sources: config.sources.clone(), feeds, shared, geo }, reload)
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
        let (running, reload) = Running::start(&config, &wake, Arc::default(), None);
        let atlas = running.geography().atlas.clone();
        let (publisher, mut handle) = Publisher::new(reload, &[], atlas, wake, telemetry);
        let task = tokio::spawn(publisher.run(Settings {
            startup_grace: config.publisher.startup_grace.min(READ_LIMIT),
            last_known_good: None,
        }));
        handle
            .progress
            .wait_for(|progress| *progress == Progress::Started)
            .await
            .context("reading the sources failed")?;
        task.abort();
        Ok(handle.cell)
    })
}

/// The longest that `dump` and `explain --config` wait for sources that do not answer.
const READ_LIMIT: Duration = Duration::from_secs(10);
