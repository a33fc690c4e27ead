//! Stage one: the place of every address.
//!
//! *Owns*: [`Atlas`], and which source wins. *Guarantees*: every address has one place and one
//! source. *Does not*: know clusters.
//!
//! From the highest: IPv6 space that embeds IPv4 follows the IPv4 address; the operator's networks,
//! the longest first; space that is not the global Internet, whose users the resolver stands for;
//! the databases in the order of the configuration, each where it tells a place; nothing known.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use super::database::{Database, NOWHERE};
use super::networks::{Builder, Networks, Value};
use super::overlay::{Layer, overlay, paint};
use super::space::{Block, EMBEDDING, NON_GLOBAL};
use super::{NetworkRule, Target};

/// The place of every address; immutable.
#[derive(Debug)]
pub struct Atlas {
    rules: Arc<[NetworkRule]>,
    databases: Box<[Arc<Database>]>,
    /// The first place of each database, then the number of places.
    bases: Box<[u32]>,
    places: Networks<PlaceId>,
}

/// Names a place of an atlas: nothing known, then the special blocks, the rules, and the points of
/// each database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceId(u32);

impl Value for PlaceId {
    const FINE: Self = Self(u32::MAX);
}

impl PlaceId {
    /// Nothing is known; in a layer, what is below shows through.
    const UNKNOWN: Self = Self(0);
    const FIRST_BLOCK: u32 = 1;
    const FIRST_EMBEDDING: u32 = Self::FIRST_BLOCK + NON_GLOBAL.len() as u32;
    const FIRST_RULE: u32 = Self::FIRST_EMBEDDING + EMBEDDING.len() as u32;

    /// Places of an atlas are dense from zero.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a client is.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// There.
    At(Target),
    /// In space that is not the global Internet: wherever the resolver is.
    NonGlobal(Block),
    /// Nobody says.
    Unknown,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(target) => target.fmt(f),
            Self::NonGlobal(block) => write!(f, "not global: {block}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Who placed a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The operator: this configured network.
    Rule(IpNet),
    /// The database in this file.
    Database(Arc<Path>),
    /// The registries of special-purpose addresses.
    Registry,
    /// No one.
    Nobody,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(network) => write!(f, "network {network}"),
            Self::Database(file) => write!(f, "database {}", file.display()),
            Self::Registry => f.write_str("special-purpose address registry"),
            Self::Nobody => f.write_str("no source"),
        }
    }
}

/// An address located, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// Where it is.
    pub place: Place,
    /// Who says so.
    pub source: Source,
    /// The widest network around the address that the source puts at the same place.
    pub network: IpNet,
}

impl Default for Atlas {
    /// The atlas without networks and databases.
    fn default() -> Self {
        Self::build(&[], &[])
    }
}

impl Atlas {
    /// Lays the sources over one another. Of two rules for the same network the earlier one wins.
    #[must_use]
    pub fn build(databases: &[Arc<Database>], rules: &[NetworkRule]) -> Self {
        let mut bases = vec![PlaceId::FIRST_RULE + rules.len() as u32];
        for database in databases {
            // Each database has fewer points than its file, below 4 GiB, has records of sixteen
            // octets; a dozen of the largest known ones fit.
            bases.push(bases[bases.len() - 1] + database.points().len() as u32);
        }
        let mut places = Builder::default();
        let v4 = special(rules, |network| matches!(network, IpNet::V4(_)));
        for (start, place) in layers(v4, databases, &bases, |d| Box::new(d.iter_v4())) {
            // IPv4 ranges come from IPv4 networks only.
            places.push_v4(start as u32, place);
        }
        let v6 = special(rules, |network| matches!(network, IpNet::V6(_)));
        for (start, place) in layers(v6, databases, &bases, |d| Box::new(d.iter_v6())) {
            places.push_v6(start, place);
        }
        Self {
            rules: rules.into(),
            databases: databases.into(),
            bases: bases.into(),
            places: places.finish(),
        }
    }

    /// Where an address is and who says so.
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Located {
        let (id, scope) = self.places.lookup(address);
        let (place, source) = match self.place(id) {
            PlaceRef::Unknown => (Place::Unknown, Source::Nobody),
            PlaceRef::Block(at) => (Place::NonGlobal(block(at)), Source::Registry),
            PlaceRef::Rule(rule) => (Place::At(rule.target.clone()), Source::Rule(rule.network)),
            PlaceRef::Point(database, point) => (
                Place::At(Target::Coordinates(database.points()[point])),
                Source::Database(database.file().clone()),
            ),
        };
        let network = IpNet::new(address, scope).unwrap_or_else(|_| address.into()).trunc();
        Located { place, source, network }
    }

    /// The databases, the earlier winning.
    #[must_use]
    pub fn databases(&self) -> &[Arc<Database>] {
        &self.databases
    }

    /// The operator's networks.
    #[must_use]
    pub fn rules(&self) -> &[NetworkRule] {
        &self.rules
    }

    /// Octets of memory that the ranges take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.places.bytes()
    }

    /// Places of all addresses.
    pub(super) fn places(&self) -> &Networks<PlaceId> {
        &self.places
    }

    /// How many places there are.
    pub(super) fn place_count(&self) -> usize {
        self.bases[self.bases.len() - 1] as usize
    }

    /// What a place is.
    pub(super) fn place(&self, PlaceId(id): PlaceId) -> PlaceRef<'_> {
        if id < PlaceId::FIRST_BLOCK {
            PlaceRef::Unknown
        } else if id < PlaceId::FIRST_RULE {
            PlaceRef::Block((id - PlaceId::FIRST_BLOCK) as u16)
        } else if id < self.bases[0] {
            PlaceRef::Rule(&self.rules[(id - PlaceId::FIRST_RULE) as usize])
        } else {
            let database = self.bases.partition_point(|base| *base <= id) - 1;
            let point = (id - self.bases[database]) as usize;
            PlaceRef::Point(&self.databases[database], point)
        }
    }
}

/// A place of an atlas, borrowed.
pub(super) enum PlaceRef<'a> {
    /// Nothing is known.
    Unknown,
    /// A special block, by its number below [`BLOCKS`].
    Block(u16),
    /// A network of the operator's.
    Rule(&'a NetworkRule),
    /// A point of a database.
    Point(&'a Database, usize),
}

/// How many special blocks there are.
pub(super) const BLOCKS: u16 = (NON_GLOBAL.len() + EMBEDDING.len()) as u16;

fn block(at: u16) -> Block {
    let at = usize::from(at);
    // Addresses in the blocks that embed IPv4 are located by it, so those are never asked for.
    NON_GLOBAL.get(at).copied().unwrap_or_else(|| EMBEDDING[at - NON_GLOBAL.len()])
}

/// The layer of one family that needs no database.
fn special<'a>(rules: &[NetworkRule], family: impl Fn(IpNet) -> bool) -> Layer<'a, PlaceId> {
    let blocks = |blocks: &[Block], first: u32| -> Layer<'a, PlaceId> {
        let numbered = blocks.iter().zip(first..).map(|(block, id)| (block.network, PlaceId(id)));
        let ours = numbered.filter(|(network, _)| family(*network));
        Box::new(paint(ours, PlaceId::UNKNOWN).into_iter())
    };
    let non_global = blocks(&NON_GLOBAL, PlaceId::FIRST_BLOCK);
    let embedding = blocks(&EMBEDDING, PlaceId::FIRST_EMBEDDING);
    let numbered = rules.iter().zip(PlaceId::FIRST_RULE..);
    let ours = numbered
        .map(|(rule, id)| (rule.network, PlaceId(id)))
        .filter(|(network, _)| family(*network));
    let rules = Box::new(paint(ours, PlaceId::UNKNOWN).into_iter());
    let below = overlay(rules, non_global, PlaceId::UNKNOWN);
    overlay(embedding, below, PlaceId::UNKNOWN)
}

/// Lays `top` over the ranges of the databases, earlier ones over later ones.
fn layers<'a>(
    top: Layer<'a, PlaceId>,
    databases: &'a [Arc<Database>],
    bases: &'a [u32],
    ranges: impl Fn(&'a Database) -> Layer<'a, u32>,
) -> Layer<'a, PlaceId> {
    databases.iter().zip(bases).fold(top, |above, (database, &base)| {
        let place = move |value| match value {
            NOWHERE => PlaceId::UNKNOWN,
            value => PlaceId(base + value - 1),
        };
        let ranges = ranges(database).map(move |(start, value)| (start, place(value)));
        overlay(above, Box::new(ranges), PlaceId::UNKNOWN)
    })
}

#[cfg(test)]
mod tests;
