//! The federation that is measured: which services, clusters, names and addresses there are.
//!
//! Every service has one healthy shard in every cluster, with one address that tells both, so that
//! whoever reads a reply knows whether it is right without asking another server.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The federation's domain.
pub(crate) const DOMAIN: &str = "example.com";

/// The federation's name.
pub(crate) const FEDERATION: &str = "myfederation";

/// Regions of clusters with latitude and longitude. The first four are on three continents; more
/// are spread around the globe.
pub(crate) const REGIONS: [(&str, f64, f64); 16] = [
    ("asia-east1", 24.05, 120.52),
    ("europe-west1", 50.47, 3.87),
    ("us-central1", 41.26, -95.86),
    ("us-east1", 33.20, -80.01),
    ("australia-southeast1", -33.87, 151.21),
    ("southamerica-east1", -23.55, -46.63),
    ("asia-south1", 19.08, 72.88),
    ("europe-north1", 60.57, 27.19),
    ("us-west1", 45.59, -121.18),
    ("africa-south1", -26.20, 28.05),
    ("me-west1", 32.09, 34.78),
    ("asia-northeast1", 35.68, 139.69),
    ("asia-southeast1", 1.35, 103.99),
    ("northamerica-northeast1", 45.50, -73.57),
    ("us-south1", 32.78, -96.80),
    ("europe-southwest1", 40.42, -3.70),
];

/// Services beside the others whose two addresses always change together.
pub(crate) const PAIRS: usize = 64;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Services, each in every cluster.
    pub(crate) services: usize,
    /// Clusters, at most as many as there are regions.
    pub(crate) clusters: usize,
}

/// A deterministic source of numbers (splitmix64), so that every run asks the same.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// The region of a cluster.
pub(crate) fn region(cluster: usize) -> &'static str {
    REGIONS[cluster].0
}

/// The availability zone of a cluster.
pub(crate) fn zone(cluster: usize) -> String {
    format!("{}-a", region(cluster))
}

/// The name of a cluster.
pub(crate) fn cluster(cluster: usize) -> String {
    format!("gce-{}", zone(cluster))
}

/// The namespace of a service; a hundred services have one.
pub(crate) fn namespace(service: usize) -> String {
    format!("team-{}", service / 100)
}

/// The name of a service.
pub(crate) fn service(service: usize) -> String {
    format!("service-{service}")
}

/// The address of a service in a cluster.
pub(crate) fn address(cluster: usize, service: usize) -> Ipv4Addr {
    let [_, b, c, d] = (service as u32).to_be_bytes();
    Ipv4Addr::new(100 + cluster as u8, b, c, d)
}

/// The service and cluster that an address belongs to; whatever it is, both may be out of range.
pub(crate) fn owner(address: [u8; 4]) -> (usize, usize) {
    let [a, b, c, d] = address;
    (u32::from_be_bytes([0, b, c, d]) as usize, usize::from(a).wrapping_sub(100))
}

/// The two addresses of a pair in its generation. No other service has such.
pub(crate) fn pair_addresses(generation: u16) -> [Ipv4Addr; 2] {
    let [high, low] = generation.to_be_bytes();
    [0, 1].map(|last| Ipv4Addr::new(120, high, low, last))
}

/// The name of a pair, in the namespace `pairs` of the first cluster alone.
pub(crate) fn pair(index: usize) -> String {
    format!("pair-{index}")
}

/// Which name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Everywhere.
    Global,
    /// In the region of a cluster.
    Region(usize),
    /// In the availability zone of a cluster.
    Zone(usize),
    /// In a cluster.
    Shard(usize),
}

impl Level {
    /// All names that a service has, synonyms left out.
    pub(crate) fn all(clusters: usize) -> impl Iterator<Item = Self> {
        let of = move |level: fn(usize) -> Self| (0..clusters).map(level);
        [Self::Global]
            .into_iter()
            .chain(of(Self::Region))
            .chain(of(Self::Zone))
            .chain(of(Self::Shard))
    }

    /// The owner name relative to the domain, without its last dot.
    pub(crate) fn name(self, index: usize, out: &mut String) {
        if let Self::Shard(at) = self {
            let _ = write!(out, "{}.", cluster(at));
        }
        let _ = write!(out, "service-{index}.team-{}.{FEDERATION}.svc", index / 100);
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Global | Self::Shard(_) => Ok(()),
            Self::Region(at) => write!(out, ".{}", region(at)),
            Self::Zone(at) => write!(out, ".{}.{}", zone(at), region(at)),
        };
    }

    /// The clusters whose shards the name holds, a bit for each.
    pub(crate) fn clusters(self, clusters: usize) -> u16 {
        match self {
            Self::Global => u16::MAX >> (16 - clusters),
            Self::Region(at) | Self::Zone(at) | Self::Shard(at) => 1 << at,
        }
    }
}
