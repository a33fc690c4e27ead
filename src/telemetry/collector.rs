//! Sums the counters of all workers when a scrape asks, and puts them in Prometheus terms.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily};

use super::counters::{
    Block, Counters, DROPPED, DURATIONS, Family, Proto, RCODES, SIZES, SharedCounters, TYPES,
    ZONES, rcode_label, size_bound, type_label,
};
use super::family::{self, Distribution};

const REQUESTS: (&str, &str) = (
    "meridian_dns_requests_total",
    "DNS queries answered, by zone, transport, address family (1: IPv4, 2: IPv6) and type.",
);
const RESPONSES: (&str, &str) =
    ("meridian_dns_responses_total", "DNS replies, by zone and response code.");
const DURATION: (&str, &str) = (
    "meridian_dns_request_duration_seconds",
    "Time from query received to reply sent: that of a batch shared equally by its queries.",
);
const SIZE: (&str, &str) = ("meridian_dns_response_size_bytes", "Size of DNS replies.");
const GEO: (&str, &str) = (
    "meridian_geo_lookups_total",
    "Clients placed, by what placed them: EDNS Client Subnet or source address.",
);
const DROPS: (&str, &str) = (
    "meridian_dns_dropped_total",
    "Queries without a reply, by reason; for receive_error failures to receive.",
);

/// Every worker's counters, kept for the life of the process: a counter never goes back.
#[derive(Clone, Debug)]
pub(super) struct Workers {
    blocks: Arc<Mutex<Vec<Arc<Block>>>>,
    /// Label value for each kind of zone.
    zones: Arc<Mutex<Zones>>,
    descriptions: Arc<[Desc]>,
}

type Zones = [Arc<str>; ZONES];

/// CoreDNS writes "." for queries outside all zones.
fn zones(federation: &str, internal: &str) -> Zones {
    [".".into(), federation.into(), internal.into()]
}

impl Workers {
    /// No workers; the apexes of the federation's zone and of that of cluster-internal names as
    /// text.
    pub(super) fn new(federation: &str, internal: &str) -> Self {
        let descriptions = [REQUESTS, RESPONSES, DURATION, SIZE, GEO, DROPS].map(family::describe);
        Self {
            blocks: Arc::default(),
            zones: Arc::new(Mutex::new(zones(federation, internal))),
            descriptions: descriptions.into(),
        }
    }

    /// Calls the zones otherwise from now on; what was counted goes on counting.
    pub(super) fn rename(&self, federation: &str, internal: &str) {
        *self.zones() = zones(federation, internal);
    }

    fn zones(&self) -> std::sync::MutexGuard<'_, Zones> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counters for a new UDP worker.
    pub(super) fn udp(&self, family: Family) -> Counters {
        Counters(self.add(Block::new(Proto::Udp, family)))
    }

    /// Counters for a new TCP listener.
    pub(super) fn tcp(&self, family: Family) -> SharedCounters {
        SharedCounters(self.add(Block::new(Proto::Tcp, family)))
    }

    fn add(&self, block: Block) -> Arc<Block> {
        let block = Arc::new(block);
        self.blocks().push(Arc::clone(&block));
        block
    }

    fn blocks(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Block>>> {
        // A list of pointers is whole even if a thread died while it held the lock.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Workers {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let blocks = self.blocks();
        let drops = DROPPED.iter().enumerate().map(|(i, reason)| {
            family::counter(&[("reason", reason)], sum(&blocks, |b| &b.dropped[i]))
        });
        let geo = ["subnet", "source"].iter().enumerate().map(|(i, source)| {
            family::counter(&[("source", source)], sum(&blocks, |b| &b.located[i]))
        });
        vec![
            family::counters(REQUESTS, self.requests(&blocks)),
            family::counters(RESPONSES, self.responses(&blocks)),
            family::histograms(DURATION, vec![durations(&blocks).metric(&[])]),
            family::histograms(SIZE, vec![sizes(&blocks).metric(&[])]),
            family::counters(GEO, geo.collect()),
            family::counters(DROPS, drops.collect()),
        ]
    }
}

impl Workers {
    /// Series that were ever counted; the rest of the product of the labels would be noise.
    fn requests(&self, blocks: &[Arc<Block>]) -> Vec<Metric> {
        let mut series = Vec::new();
        let zones = self.zones();
        for proto in [Proto::Udp, Proto::Tcp] {
            for family in [Family::V4, Family::V6] {
                let of = |b: &&Arc<Block>| b.proto == proto && b.family == family;
                let blocks: Vec<_> = blocks.iter().filter(of).map(Arc::clone).collect();
                for (zone, name) in zones.iter().enumerate() {
                    for qtype in 0..TYPES {
                        let n = sum(&blocks, |b| &b.requests[zone][qtype]);
                        if n > 0 {
                            let labels = [
                                ("zone", &**name),
                                ("proto", proto.label()),
                                ("family", family.label()),
                                ("type", type_label(qtype)),
                            ];
                            series.push(family::counter(&labels, n));
                        }
                    }
                }
            }
        }
        series
    }

    fn responses(&self, blocks: &[Arc<Block>]) -> Vec<Metric> {
        let mut series = Vec::new();
        for (zone, name) in self.zones().iter().enumerate() {
            for code in 0..RCODES {
                let n = sum(blocks, |b| &b.responses[zone][code]);
                if n > 0 {
                    let labels = [("zone", &**name), ("rcode", rcode_label(code))];
                    series.push(family::counter(&labels, n));
                }
            }
        }
        series
    }
}

fn sum<'a>(blocks: &'a [Arc<Block>], cell: impl Fn(&'a Block) -> &'a AtomicU64) -> u64 {
    blocks.iter().map(|block| cell(block).load(Relaxed)).sum()
}

fn durations(blocks: &[Arc<Block>]) -> Distribution {
    let count = |i: usize| sum(blocks, |b| &b.durations[i]);
    let bounds = DURATIONS.iter().enumerate();
    Distribution {
        buckets: bounds.map(|(i, bound)| (*bound as f64 / 1e9, count(i))).collect(),
        beyond: count(DURATIONS.len()),
        sum: sum(blocks, |b| &b.nanoseconds) as f64 / 1e9,
    }
}

fn sizes(blocks: &[Arc<Block>]) -> Distribution {
    let bucket = |i| (size_bound(i) as f64, sum(blocks, |b| &b.sizes[i]));
    Distribution {
        buckets: (0..SIZES).map(bucket).collect(),
        beyond: 0,
        sum: sum(blocks, |b| &b.size_sum) as f64,
    }
}
