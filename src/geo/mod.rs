//! Where clients are, and which clusters are near them.

mod geography;
mod stub;

pub use geography::{Compiled, Geography, LocatedBy, Ranking};
pub use stub::*;

use std::path::PathBuf;

use ipnet::IpNet;

use crate::model::{Coordinates, Label};

/// What the configuration says of geography.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// MaxMind-format files; earlier ones win.
    pub databases: Vec<PathBuf>,
    /// The operator's own networks; the longest prefix wins.
    pub networks: Vec<NetworkRule>,
}

/// A network of the operator's and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRule {
    /// The clients.
    pub network: IpNet,
    /// Where they are.
    pub target: Target,
}

/// Where a network is.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// In this cluster.
    Cluster(Label),
    /// In this region.
    Region(Label),
    /// In this availability zone, of `region` where it is given, else of any region.
    Zone {
        /// The region, where the zone's name alone does not tell.
        region: Option<Label>,
        /// The availability zone.
        zone: Label,
    },
    /// At this point.
    Coordinates(Coordinates),
}
