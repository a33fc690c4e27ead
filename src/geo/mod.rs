//! Where clients are, and which clusters are near them.
//!
//! Databases and the operator's networks become, once, an [`Atlas`]: ranges of address space with
//! the place of each. For a set of clusters the atlas becomes a [`GeoTable`]: ranges with the
//! order of the clusters for each, merged so that the ECS scope of an answer is the widest prefix
//! that gets the same order (RFC 7871 §7.2.1). Nothing is decoded per query.
//!
//! *Owns*: databases, networks, coordinates, orders of clusters, pod networks. *Guarantees*: a
//! table is a function of its inputs, the same bits on every machine; look-ups neither allocate
//! nor fail. *Does not*: know health or DNS. Only [`watch`] does I/O.

use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::model::{Coordinates, Label};

mod atlas;
mod clamp;
mod countries;
mod database;
mod geography;
mod networks;
mod order;
mod overlay;
mod pods;
mod ranges;
mod record;
mod regions;
mod space;
mod sphere;
mod table;
#[cfg(test)]
mod testing;
pub mod watch;

pub use atlas::{Atlas, Located, Place, Source};
pub use database::{Database, DatabaseError, Summary};
pub use geography::{Compiled, Geography, LocatedBy, Ranking};
pub use order::{Order, Ranked, Site};
pub use pods::{Conflict, PodLookup, PodNetworks};
pub use regions::{CloudRegion, SAME_PLACE_KM, ambiguities_of, coordinates_of};
pub use space::Block;
pub use sphere::distance_km;
pub use table::{GeoTable, Lookup};

/// What the configuration says of geography.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// MaxMind-format files; earlier ones win where they place a client.
    pub databases: Vec<PathBuf>,
    /// The operator's own networks; the longest prefix wins.
    pub networks: Vec<NetworkRule>,
}

/// A network of the operator's and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRule {
    network: IpNet,
    target: Target,
}

impl NetworkRule {
    /// Clients in `network` are at `target`.
    ///
    /// # Errors
    /// [`InvalidRule`] where bits are set behind the prefix, which tells of a mistyped length, or
    /// where the network lies in IPv6 space whose addresses embed IPv4: those clients are placed
    /// by the IPv4 address.
    pub fn new(network: IpNet, target: Target) -> Result<Self, InvalidRule> {
        if network != network.trunc() {
            return Err(InvalidRule::HostBits { network, meant: network.trunc() });
        }
        match space::EMBEDDING.iter().find(|block| block.network.contains(&network)) {
            Some(&block) => Err(InvalidRule::Embedding { network, block }),
            None => Ok(Self { network, target }),
        }
    }

    /// The clients.
    #[must_use]
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// Where they are.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// Why a network cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// Bits are set behind the prefix.
    #[error("{network} has bits set behind its prefix; write {meant} or a longer prefix")]
    HostBits {
        /// As written.
        network: IpNet,
        /// Without those bits.
        meant: IpNet,
    },
    /// Addresses in it embed IPv4 addresses.
    #[error("{network} lies in {block}, whose addresses embed IPv4; write the IPv4 network")]
    Embedding {
        /// As written.
        network: IpNet,
        /// The block that it lies in.
        block: Block,
    },
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

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(cluster) => write!(f, "cluster {cluster}"),
            Self::Region(region) => write!(f, "region {region}"),
            Self::Zone { region: Some(region), zone } => write!(f, "zone {zone}.{region}"),
            Self::Zone { region: None, zone } => write!(f, "zone {zone}"),
            Self::Coordinates(point) => write!(f, "{point}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::label;
    use super::{NetworkRule, Target};

    #[test]
    fn networks_that_cannot_be_placed_say_why() {
        let refused = |text: &str| {
            let network = text.parse().expect("a network");
            NetworkRule::new(network, Target::Region(label("eu"))).expect_err("refused").to_string()
        };
        assert_eq!(
            refused("10.8.0.1/16"),
            "10.8.0.1/16 has bits set behind its prefix; write 10.8.0.0/16 or a longer prefix"
        );
        assert_eq!(
            refused("2002:a08::/32"),
            "2002:a08::/32 lies in 2002::/16 (6to4, RFC 3056), whose addresses embed IPv4; \
             write the IPv4 network"
        );
    }
}
