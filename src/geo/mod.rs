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

use std::path::PathBuf;

mod atlas;
mod clamp;
mod countries;
mod database;
pub mod embedded;
mod geography;
mod networks;
mod order;
mod overlay;
mod pods;
mod ranges;
mod record;
mod regions;
mod rule;
mod shape;
mod space;
mod sphere;
mod table;
mod table_map;
#[cfg(test)]
mod testing;
pub mod watch;

pub use atlas::{Atlas, Located, Place, Source};
pub use database::{Database, DatabaseError, Gazetteer, Origin, Summary};
pub use geography::{Compiled, Geography, LocatedBy, Ranking, Unit};
pub use order::{Order, Ranked, Site};
pub use pods::{Conflict, PodLookup, PodNetworks};
pub use regions::{CloudRegion, SAME_PLACE_KM, ambiguities_of, coordinates_of};
pub use rule::{Clients, Country, InvalidRule, NetworkRule, Target};
pub use shape::Shape;
pub use space::Block;
pub use sphere::distance_km;
pub use table::{GeoTable, Lookup, Share};

/// What the configuration says of geography.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// MaxMind-format files; earlier ones win where they place a client.
    pub databases: Vec<PathBuf>,
    /// Whether the embedded table places those whom no database does.
    pub embedded: Embedded,
    /// The operator's own networks; the longest prefix wins.
    pub networks: Vec<NetworkRule>,
}

/// What becomes of the table that the program brings along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Embedded {
    /// It lies below the databases.
    #[default]
    Used,
    /// Nobody asks it.
    Off,
}
