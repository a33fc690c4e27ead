//! What one cluster says of itself and its services.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{Buckets, ClusterChecks, Drain, Force, Label, ShardEntry};

/// Where nodes stand: a region and, where known, an availability zone of it
/// (`topology.kubernetes.io/region` and `zone`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Topology {
    /// The region.
    pub region: Label,
    /// The availability zone, where known.
    pub zone: Option<Label>,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{zone}.{}", self.region),
            None => write!(f, "{}", self.region),
        }
    }
}

/// A point on the globe, degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, serde::Serialize)]
pub struct Coordinates {
    latitude: f64,
    longitude: f64,
}

impl Coordinates {
    /// A point at `latitude` (-90 to 90) and `longitude` (-180 to 180) degrees.
    ///
    /// # Errors
    /// [`InvalidCoordinates`] where either is out of range or no number.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, InvalidCoordinates> {
        if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
            // Adding zero turns -0.0 into 0.0, so that equal points have equal bits.
            Ok(Self { latitude: latitude + 0.0, longitude: longitude + 0.0 })
        } else {
            Err(InvalidCoordinates { latitude, longitude })
        }
    }

    /// Degrees north.
    #[must_use]
    pub fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east.
    #[must_use]
    pub fn longitude(self) -> f64 {
        self.longitude
    }
}

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2},{:.2}", self.latitude, self.longitude)
    }
}

/// Coordinates off the globe.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{latitude},{longitude} is no place: latitude goes from -90 to 90, longitude from -180 to 180"
)]
pub struct InvalidCoordinates {
    latitude: f64,
    longitude: f64,
}

/// Something in a cluster that cannot be served as it asks, for `/state` and the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Report {
    /// What: `Service mynamespace/nginx`, or a file and line.
    pub subject: Box<str>,
    /// What is wrong with it and what to do.
    pub reason: Box<str>,
}

/// Everything that one cluster's source says, immutable. Made only once its first list is
/// complete; buckets and parts that did not change are shared with the view before it.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Exported services.
    pub shards: Buckets<ShardEntry>,
    /// Regions and zones of its nodes, the union of all ever seen.
    pub topologies: Arc<BTreeSet<Topology>>,
    /// Pod networks of its nodes.
    pub pod_networks: Arc<BTreeSet<IpNet>>,
    /// What cannot be served as asked.
    pub reports: Arc<BTreeSet<Report>>,
    /// Shards that vanished at one stroke with most others, and are kept until that is confirmed.
    pub withheld: usize,
    /// Some of the source could never be read: what the view lacks may be there.
    pub partial: bool,
    /// Host names of load balancers whose first look-up has not ended yet.
    pub unresolved: usize,
}

/// A cluster as it is registered: what the operator says of it, beside what its API says.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The cluster's name as a label; it is the first label of shard names.
    pub name: Label,
    /// Its region, where configured; else the nodes' labels tell.
    pub region: Option<Label>,
    /// Its availability zones, where configured; they stand in `region`.
    pub zones: BTreeSet<Label>,
    /// Its coordinates, where configured; else its region's name tells.
    pub location: Option<Coordinates>,
    /// Whether the operator takes it out: then none of its shards is served.
    pub drain: Drain,
    /// What the operator forces it to be, as it is registered.
    pub force: Option<Arc<Force>>,
    /// How long its API may be lost before its last known view is served no more, where the
    /// operator sets a limit.
    pub stale_grace: Option<Duration>,
    /// How its shards are checked, where the operator sets it apart.
    pub checks: ClusterChecks,
}

impl Member {
    /// A cluster of which nothing is said but its name.
    #[must_use]
    pub fn named(name: Label) -> Self {
        Self {
            name,
            region: None,
            zones: BTreeSet::new(),
            location: None,
            drain: Drain::No,
            force: None,
            stale_grace: None,
            checks: ClusterChecks::default(),
        }
    }
}
