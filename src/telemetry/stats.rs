//! Figures of the published snapshot and of the clusters behind it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily};

use super::family;
use super::home::HomeStats;
use super::watches::Watches;
use crate::health::ClusterState;

const GENERATION: (&str, &str) =
    ("meridian_snapshot_generation", "Snapshots published since the start.");
const SERIAL: (&str, &str) = ("meridian_zone_serial", "SOA serial of the zone.");
const STATE: (&str, &str) =
    ("meridian_cluster_state", "1 for the state that the cluster is in, 0 for the others.");
const WATCH_AGE: (&str, &str) = (
    "meridian_cluster_watch_age_seconds",
    "Time since the cluster's source was last known to be current.",
);
const WATCH_STATE: (&str, &str) = (
    "meridian_watch_state",
    "1 for the state that the watch of a kind of object is in: listing, watching or why neither.",
);
const WATCH_FAILURES: (&str, &str) = (
    "meridian_watch_failures_total",
    "Requests of watches that failed, by kind of object and reason.",
);
const UNDECODABLE: (&str, &str) = (
    "meridian_undecodable_objects_total",
    "Objects of API servers that were skipped because they could not be decoded.",
);
const SHARDS: (&str, &str) =
    ("meridian_shards", "Shards of federated services, by cluster and whether they are served.");

const CONTENT: (&str, &str) = (
    "meridian_zone_content_info",
    "1, labelled by a digest of all that is answered: equal on replicas that know the same.",
);
const WITHHELD: (&str, &str) = (
    "meridian_withdrawals_held",
    "Shards that vanished at one stroke with most others of the cluster and are kept for now.",
);

const OVERRIDES: (&str, &str) =
    ("meridian_overrides", "Overrides of the overrides file that are in force.");
const HOME_AGE: (&str, &str) = (
    "meridian_home_watch_age_seconds",
    "Time since what the home cluster registers was last known to be current.",
);
const EVENTS: (&str, &str) = (
    "meridian_events_total",
    "Kubernetes Events of changes in the home cluster: written, shared (another instance had written \
     it), failed, or dropped as too many.",
);

/// What the publisher says of a snapshot when it has published it.
#[derive(Clone, Debug, Default)]
pub struct SnapshotStats {
    /// Of the snapshot, from 1; 0 where none has been published.
    pub generation: u64,
    /// Every zone.
    pub zones: Vec<ZoneStats>,
    /// Apex of the zone of cluster-internal names as text, where it is served.
    pub internal: Option<String>,
    /// Every registered cluster.
    pub clusters: Vec<ClusterStats>,
    /// How many overrides of the file are in force, by what they force.
    pub overrides: Vec<(&'static str, u64)>,
    /// The home cluster, where there is one.
    pub home: Option<HomeStats>,
}

/// What the publisher says of one zone.
#[derive(Clone, Debug)]
pub struct ZoneStats {
    /// Its apex as text.
    pub apex: String,
    /// SOA serial.
    pub serial: u32,
    /// Digest of its content.
    pub digest: u64,
}

/// What the publisher says of one cluster.
#[derive(Clone, Debug)]
pub struct ClusterStats {
    /// The cluster's name.
    pub name: String,
    /// Whether it can be relied on.
    pub state: ClusterState,
    /// Shards that vanished and are kept until that is confirmed.
    pub withheld: usize,
    /// Touched by the cluster's task; read at every scrape, also where nothing is published.
    pub clock: Arc<WatchClock>,
    /// How many of its shards are in each state: `served`, or the reason why not. A small fixed
    /// vocabulary; give states without shards too, so that series do not come and go.
    pub shards: Vec<(&'static str, u64)>,
}

/// When a cluster's source was last known to be current: written by the cluster's task at every
/// sign of life, read at scrape.
#[derive(Debug)]
pub struct WatchClock {
    start: Instant,
    /// Milliseconds from `start`; [`Self::NEVER`] before the first touch.
    heard: AtomicU64,
    watches: Watches,
}

impl WatchClock {
    const NEVER: u64 = u64::MAX;

    /// A clock that was never touched.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            heard: AtomicU64::new(Self::NEVER),
            watches: Watches::default(),
        }
    }

    /// The source is current at this moment.
    pub fn touch(&self) {
        // 584 million years in milliseconds fit.
        self.heard.store(self.start.elapsed().as_millis() as u64, Relaxed);
    }

    /// How its watches fare; empty for a directory.
    #[must_use]
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Time since the last touch, to the millisecond; `None` before the first.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        match self.heard.load(Relaxed) {
            Self::NEVER => None,
            heard => Some(self.start.elapsed().saturating_sub(Duration::from_millis(heard))),
        }
    }
}

impl Default for WatchClock {
    fn default() -> Self {
        Self::new()
    }
}

/// The last published figures, as a collector.
#[derive(Clone, Debug)]
pub(super) struct Published {
    last: Arc<Mutex<SnapshotStats>>,
    descriptions: Arc<[Desc]>,
}

impl Published {
    pub(super) fn new() -> Self {
        let families = [
            GENERATION,
            SERIAL,
            CONTENT,
            STATE,
            WATCH_AGE,
            WATCH_STATE,
            WATCH_FAILURES,
            UNDECODABLE,
            SHARDS,
            WITHHELD,
            OVERRIDES,
            HOME_AGE,
            EVENTS,
        ];
        let descriptions = families.map(family::describe);
        Self { last: Arc::default(), descriptions: descriptions.into() }
    }

    pub(super) fn set(&self, stats: SnapshotStats) {
        *self.last() = stats;
    }

    fn last(&self) -> MutexGuard<'_, SnapshotStats> {
        // The value is replaced by one move, so it is whole even after a panic under the lock.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Series of watches.
#[derive(Default)]
struct OfWatches {
    states: Vec<Metric>,
    failures: Vec<Metric>,
    skipped: Vec<Metric>,
}

impl OfWatches {
    /// Adds those of one API server, which `labels` tell from others.
    fn add(&mut self, watches: &Watches, labels: &[(&str, &str)]) {
        let with = |more: &[(&'static str, &'static str)]| [labels, more].concat();
        let figures = watches.read();
        for (kind, state) in figures.states {
            self.states.push(family::gauge(&with(&[("kind", kind), ("state", state)]), 1.0));
        }
        for ((kind, reason), n) in figures.failures {
            self.failures.push(family::counter(&with(&[("kind", kind), ("reason", reason)]), n));
        }
        for (kind, n) in figures.undecodable {
            self.skipped.push(family::counter(&with(&[("kind", kind)]), n));
        }
    }
}

impl Collector for Published {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = self.last().clone();
        let serials = stats
            .zones
            .iter()
            .map(|zone| family::gauge(&[("zone", &zone.apex)], zone.serial.into()));
        let contents = stats.zones.iter().map(|zone| {
            let digest = format!("{:016x}", zone.digest);
            family::gauge(&[("zone", &zone.apex), ("digest", &digest)], 1.0)
        });
        let overrides = stats.overrides.iter();
        let overrides = overrides.map(|(state, n)| family::gauge(&[("state", state)], *n as f64));
        let (mut states, mut ages, mut shards) = (Vec::new(), Vec::new(), Vec::new());
        let mut of_watches = OfWatches::default();
        let mut withheld = Vec::new();
        for cluster in &stats.clusters {
            let name = ("cluster", cluster.name.as_str());
            for state in ClusterState::ALL {
                let is = if state == cluster.state { 1.0 } else { 0.0 };
                states.push(family::gauge(&[name, ("state", state.label())], is));
            }
            withheld.push(family::gauge(&[name], cluster.withheld as f64));
            let age = cluster.clock.age();
            ages.extend(age.map(|age| family::gauge(&[name], age.as_secs_f64())));
            of_watches.add(cluster.clock.watches(), &[name]);
            for (state, n) in &cluster.shards {
                shards.push(family::gauge(&[name, ("state", state)], *n as f64));
            }
        }
        let home = stats.home.as_ref();
        // It is no member by this, and has no name.
        home.iter().for_each(|home| of_watches.add(home.clock.watches(), &[]));
        let home_age = home.and_then(|home| home.clock.age());
        let home_age = home_age.map(|age| family::gauge(&[], age.as_secs_f64()));
        let events = stats.home.iter().flat_map(|home| home.events.read());
        let events = events.map(|(outcome, n)| family::counter(&[("outcome", outcome)], n));
        vec![
            family::gauges(GENERATION, vec![family::gauge(&[], stats.generation as f64)]),
            family::gauges(SERIAL, serials.collect()),
            family::gauges(CONTENT, contents.collect()),
            family::gauges(STATE, states),
            family::gauges(WATCH_AGE, ages),
            family::gauges(WATCH_STATE, of_watches.states),
            family::counters(WATCH_FAILURES, of_watches.failures),
            family::counters(UNDECODABLE, of_watches.skipped),
            family::gauges(SHARDS, shards),
            family::gauges(WITHHELD, withheld),
            family::gauges(OVERRIDES, overrides.collect()),
            family::gauges(HOME_AGE, home_age.into_iter().collect()),
            family::counters(EVENTS, events.collect()),
        ]
    }
}
