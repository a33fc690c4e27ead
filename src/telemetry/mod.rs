//! Counters of workers, summed at scrape, and figures of what is published.
//!
//! *Owns*: every metric name and label, the counters that workers write, [`Readiness`].
//! *Guarantees*: counting a query takes no lock, no allocation and, over UDP, no cache line that
//! another worker writes; labels come from small fixed sets, never from a client's address or a
//! name that was asked. *Does not*: decide what is ready, log, or serve HTTP.

mod checks;
mod collector;
mod counters;
mod family;
mod home;
mod readiness;
pub mod state;
mod stats;
mod tasks;
#[cfg(test)]
mod tests;
mod watches;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

pub use checks::CheckMetrics;
pub use counters::{Counters, Dropped, Family, Proto, SharedCounters};
pub use home::{EventCounts, HomeStats};
pub use readiness::Readiness;
pub use stats::{ClusterStats, SnapshotStats, WatchClock, ZoneStats};
pub use tasks::{Task, TaskMetrics};
pub use watches::Watches;

use collector::Workers;
use stats::Published;

/// From watch event to published snapshot, seconds: the aim is below 1.5 ms for one change and
/// 100 ms for a whole cluster; seconds are a first build of a large federation.
const PUBLISH_BOUNDS: [f64; 13] =
    [0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// All metrics of the process.
#[derive(Clone, Debug)]
pub struct Telemetry {
    registry: Registry,
    workers: Workers,
    published: Published,
    publish_duration: Histogram,
    reloads: IntCounterVec,
    saves: IntCounterVec,
    tcp: TcpMetrics,
    checks: CheckMetrics,
    tasks: TaskMetrics,
}

/// Metrics of DNS connections.
#[derive(Clone, Debug)]
pub struct TcpMetrics {
    /// Open connections.
    pub open: IntGauge,
    /// Connections accepted and served.
    pub accepted: IntCounter,
    /// Connections closed at once, because there were too many in all.
    pub refused_total: IntCounter,
    /// Connections closed at once, because their client had too many.
    pub refused_client: IntCounter,
    /// Connections closed because nothing whole arrived, or nothing was taken, for too long.
    pub timed_out: IntCounter,
    /// Failures to accept, such as too many open files.
    pub accept_errors: IntCounter,
}

/// What is reloaded while running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The configuration file.
    Config,
    /// A geographic database.
    Database,
    /// The overrides file.
    Overrides,
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new is in force.
    Success,
    /// The old stays in force.
    Failure,
}

/// Label of queries for cluster-internal names where there is no such zone, so that there are none.
const NO_INTERNAL: &str = "internal";

impl Telemetry {
    /// Metrics with all counts zero; `zone` is the apex of the federation's zone as text, the
    /// label of its queries.
    #[must_use]
    pub fn new(zone: &str) -> Self {
        Self::for_zones(zone, None)
    }

    /// Metrics with all counts zero of a server that also has the zone `internal` of
    /// cluster-internal names, where it has one.
    #[must_use]
    pub fn for_zones(zone: &str, internal: Option<&str>) -> Self {
        let registry = Registry::new();
        let build = register(
            &registry,
            IntGaugeVec::new(
                Opts::new("meridian_build_info", "1, labelled by the version."),
                &["version", "arch", "os"],
            ),
        );
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), arch, os]).set(1);
        let publish_duration = register(
            &registry,
            Histogram::with_opts(
                HistogramOpts::new(
                    "meridian_publish_duration_seconds",
                    "Time from watch event to published snapshot.",
                )
                .buckets(PUBLISH_BOUNDS.to_vec()),
            ),
        );
        let reloads = Opts::new(
            "meridian_reloads_total",
            "Reloads of the configuration, databases and overrides; after a failure the old stays.",
        );
        let reloads = register(&registry, IntCounterVec::new(reloads, &["what", "outcome"]));
        // Both outcomes exist from the start, so that an alert sees the first failure.
        for what in [Reload::Config, Reload::Database, Reload::Overrides] {
            for outcome in [Outcome::Success, Outcome::Failure] {
                reloads.with_label_values(&[what.label(), outcome.label()]);
            }
        }
        let saves = Opts::new(
            "meridian_last_known_good_writes_total",
            "Writes of the last known good state to disk.",
        );
        let saves = register(&registry, IntCounterVec::new(saves, &["outcome"]));
        for outcome in [Outcome::Success, Outcome::Failure] {
            saves.with_label_values(&[outcome.label()]);
        }
        // CPU time, memory, files and threads of the process under their usual names.
        registry
            .register(Box::new(ProcessCollector::for_self()))
            // The names are those of the crate, and nothing else here begins with `process_`.
            .expect("metric registered once");
        let tcp = TcpMetrics::new(&registry);
        let (checks, tasks) = (CheckMetrics::new(&registry), TaskMetrics::new(&registry));
        let workers = register(&registry, Ok(Workers::new(zone, internal.unwrap_or(NO_INTERNAL))));
        let published = register(&registry, Ok(Published::new()));
        Self { registry, workers, published, publish_duration, reloads, saves, tcp, checks, tasks }
    }

    /// Counters for a new UDP worker thread.
    #[must_use]
    pub fn udp_worker(&self, family: Family) -> Counters {
        self.workers.udp(family)
    }

    /// Counters for a new TCP listener.
    #[must_use]
    pub fn tcp_listener(&self, family: Family) -> SharedCounters {
        self.workers.tcp(family)
    }

    /// Metrics of DNS connections.
    #[must_use]
    pub fn tcp(&self) -> &TcpMetrics {
        &self.tcp
    }

    /// Metrics of active checks and votes.
    #[must_use]
    pub fn checks(&self) -> &CheckMetrics {
        &self.checks
    }

    /// Metrics of tasks that are begun anew where they fail.
    #[must_use]
    pub fn tasks(&self) -> &TaskMetrics {
        &self.tasks
    }

    /// A snapshot was published, `took` after the first event that it holds; reloads and tables
    /// have none.
    pub fn publish(&self, stats: SnapshotStats, took: Option<Duration>) {
        // A new configuration may have renamed them.
        if let Some(zone) = stats.zones.first() {
            self.workers.rename(&zone.apex, stats.internal.as_deref().unwrap_or(NO_INTERNAL));
        }
        self.published.set(stats);
        if let Some(took) = took {
            self.publish_duration.observe(took.as_secs_f64());
        }
    }

    /// Something was reloaded, or refused.
    pub fn reloaded(&self, what: Reload, outcome: Outcome) {
        self.reloads.with_label_values(&[what.label(), outcome.label()]).inc();
    }

    /// The last known good state was written, or could not be.
    pub fn saved(&self, outcome: Outcome) {
        self.saves.with_label_values(&[outcome.label()]).inc();
    }

    /// The Prometheus text exposition (format 0.0.4).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            // Writing to a string cannot fail; what can is a family without series or name, which
            // would be a fault of ours: it is shown to whoever scrapes, after what was encoded.
            text.push_str(&format!("# {error}\n"));
        }
        text
    }
}

impl TcpMetrics {
    fn new(registry: &Registry) -> Self {
        let counter = |name, help| register(registry, IntCounter::new(name, help));
        let refused = Opts::new(
            "meridian_dns_tcp_refused_total",
            "DNS connections closed at once, because there were too many in all or of the client.",
        );
        let refused = register(registry, IntCounterVec::new(refused, &["reason"]));
        let open = IntGauge::new("meridian_dns_tcp_connections", "Open DNS connections.");
        Self {
            open: register(registry, open),
            accepted: counter("meridian_dns_tcp_accepted_total", "DNS connections served."),
            refused_total: refused.with_label_values(&["total"]),
            refused_client: refused.with_label_values(&["client"]),
            timed_out: counter(
                "meridian_dns_tcp_timeouts_total",
                "DNS connections closed because no whole query came, or no reply was taken.",
            ),
            accept_errors: counter(
                "meridian_dns_tcp_accept_errors_total",
                "Failures to accept a DNS connection.",
            ),
        }
    }
}

impl Reload {
    fn label(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Database => "database",
            Self::Overrides => "overrides",
        }
    }
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

fn register<C>(registry: &Registry, metric: prometheus::Result<C>) -> C
where
    C: Collector + Clone + 'static,
{
    // Both fail for an invalid or a repeated name only. The names are the constants of this
    // module, and a test makes a registry.
    let metric = metric.expect("valid metric");
    registry.register(Box::new(metric.clone())).expect("metric registered once");
    metric
}
