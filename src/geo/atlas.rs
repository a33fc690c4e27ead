//! Stage one: the place of every address.
//!
//! *Owns*: [`Atlas`], and which source wins. *Guarantees*: every address has one place and one
//! source. *Does not*: know clusters.
//!
//! From the highest: IPv6 space that embeds IPv4 follows the IPv4 address; the operator's networks,
//! the longest first; space that is not the global Internet, whose users the resolver stands for;
//! the operator's rules by autonomous system, as the databases of such tell it; the databases of
//! places in the order of the configuration, each where it tells one, with the operator's rules by
//! subdivision and country in place of what it tells there; nothing known.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::database::{Database, Gazetteer, NOWHERE, Origin, Territory};
use super::networks::{Builder, Networks, Value};
use super::overlay::{Layer, overlay, paint};
use super::space::{Block, EMBEDDING, NON_GLOBAL};
use super::{Clients, NetworkRule, Target};
use crate::model::Coordinates;

/// The place of every address; immutable.
#[derive(Debug)]
pub struct Atlas {
    rules: Arc<[NetworkRule]>,
    /// Without their ranges, which are in `places`.
    databases: Box<[Arc<Gazetteer>]>,
    /// The first place of each database, then the number of places.
    bases: Box<[u32]>,
    places: Networks<PlaceId>,
    /// The points that some address has, neighbours on the globe mostly next to each other.
    points: Box<[PlaceId]>,
}

/// Names a place of an atlas: nothing known, then the special blocks, the rules, and the points of
/// each database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceId(u32);

impl Value for PlaceId {
    const FINE: Self = Self(u32::MAX);
}

impl From<PlaceId> for u32 {
    fn from(PlaceId(id): PlaceId) -> Self {
        id
    }
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
    /// The operator: the rule for these clients.
    Rule(Clients),
    /// The pod network of a node.
    Pods,
    /// This database.
    Database(Origin),
    /// The registries of special-purpose addresses.
    Registry,
    /// No one.
    Nobody,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(clients) => clients.fmt(f),
            Self::Pods => f.write_str("pod network"),
            Self::Database(origin) => origin.fmt(f),
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
            // Each database has fewer places than its file, below 4 GiB, has records of sixteen
            // octets; a dozen of the largest known ones fit.
            bases.push(bases[bases.len() - 1] + database.gazetteer().spots().len() as u32);
        }
        let mut places = Builder::default();
        let mut used = vec![false; bases[bases.len() - 1] as usize];
        let v4 = special(rules, |network| matches!(network, IpNet::V4(_)));
        let layers = Layers { databases, bases: &bases, rules };
        for (start, place) in layers.below(v4, |database| Box::new(database.iter_v4())) {
            // IPv4 ranges come from IPv4 networks only.
            places.push_v4(start as u32, place);
            used[place.index()] = true;
        }
        let v6 = special(rules, |network| matches!(network, IpNet::V6(_)));
        for (start, place) in layers.below(v6, |database| Box::new(database.iter_v6())) {
            places.push_v6(start, place);
            used[place.index()] = true;
        }
        let mut atlas = Self {
            rules: rules.into(),
            databases: databases.iter().map(|database| database.gazetteer().clone()).collect(),
            bases: bases.into(),
            places: places.finish(),
            points: Box::default(),
        };
        atlas.points = atlas.points_in_order(&used);
        atlas
    }

    /// The points that are used, in bands of a degree from pole to pole, each from west to east.
    fn points_in_order(&self, used: &[bool]) -> Box<[PlaceId]> {
        let places = (self.bases[0]..).zip(&used[self.bases[0] as usize..]);
        let points = places.filter(|(_, used)| **used).filter_map(|(id, _)| {
            let PlaceRef::Point(database, at) = self.place(PlaceId(id)) else { return None };
            let point = database.spots()[at].point;
            // Integers sort fast: thousandths of a degree are far finer than what the order is for.
            let band = point.latitude().floor() as i32;
            Some((band, (point.longitude() * 1000.0) as i32, PlaceId(id)))
        });
        let mut points: Vec<_> = points.collect();
        points.sort_unstable();
        points.into_iter().map(|(.., id)| id).collect()
    }

    /// Where an address is and who says so.
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Located {
        let (id, scope) = self.places.lookup(address);
        let (place, source) = match self.place(id) {
            PlaceRef::Unknown => (Place::Unknown, Source::Nobody),
            PlaceRef::Block(at) => (Place::NonGlobal(block(at)), Source::Registry),
            PlaceRef::Rule(rule) => {
                (Place::At(rule.target().clone()), Source::Rule(rule.clients().clone()))
            }
            PlaceRef::Point(database, point) => (
                Place::At(Target::Coordinates(database.spots()[point].point)),
                Source::Database(database.origin().clone()),
            ),
        };
        let network = IpNet::new(address, scope).unwrap_or_else(|_| address.into()).trunc();
        Located { place, source, network }
    }

    /// The widest prefix around an address all of which is in one place, bits: no table has a
    /// narrower one.
    #[must_use]
    pub fn extent(&self, address: IpAddr) -> u8 {
        self.places.lookup(address).1
    }

    /// For an address that is not global and that no rule places, the widest prefix around it of
    /// which both is true, within its block; bits.
    #[must_use]
    pub fn block_around(&self, address: IpAddr) -> Option<u8> {
        let (id, scope) = self.places.lookup(address);
        matches!(self.place(id), PlaceRef::Block(_)).then_some(scope)
    }

    /// The databases, the earlier winning.
    #[must_use]
    pub fn databases(&self) -> &[Arc<Gazetteer>] {
        &self.databases
    }

    /// Whether any database tells autonomous systems.
    #[must_use]
    pub fn knows_systems(&self) -> bool {
        self.databases.iter().any(|database| database.spots().is_empty())
    }

    /// The operator's networks.
    #[must_use]
    pub fn rules(&self) -> &[NetworkRule] {
        &self.rules
    }

    /// Octets of memory that the ranges and the list of points take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.places.bytes() + size_of_val(&*self.points)
    }

    /// Places of all addresses.
    pub(super) fn places(&self) -> &Networks<PlaceId> {
        &self.places
    }

    /// The points that some address has, in an order in which neighbours are mostly near.
    pub(super) fn points(&self) -> impl Iterator<Item = (PlaceId, Coordinates)> {
        self.points.iter().filter_map(|&id| match self.place(id) {
            PlaceRef::Point(database, at) => Some((id, database.spots()[at].point)),
            _ => None,
        })
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
    Point(&'a Gazetteer, usize),
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
    let numbered = numbered(rules).filter_map(|(rule, id)| Some((rule.network()?, id)));
    let ours = numbered.filter(|(network, _)| family(*network));
    let rules = Box::new(paint(ours, PlaceId::UNKNOWN).into_iter());
    let below = overlay(rules, non_global, PlaceId::UNKNOWN);
    overlay(embedding, below, PlaceId::UNKNOWN)
}

/// The rules with their places.
fn numbered(rules: &[NetworkRule]) -> impl Iterator<Item = (&NetworkRule, PlaceId)> {
    rules.iter().zip((PlaceId::FIRST_RULE..).map(PlaceId))
}

/// What databases say, and the rules that go by it.
struct Layers<'a> {
    databases: &'a [Arc<Database>],
    bases: &'a [u32],
    rules: &'a [NetworkRule],
}

impl<'a> Layers<'a> {
    /// Lays `top` over the ranges of the databases, earlier ones over later ones.
    fn below(
        &self,
        top: Layer<'a, PlaceId>,
        ranges: impl Fn(&'a Database) -> Layer<'a, u32>,
    ) -> Layer<'a, PlaceId> {
        let systems = self.systems();
        let tells_systems = |database: &Database| database.gazetteer().spots().is_empty();
        let by_system = self.databases.iter().filter(|database| tells_systems(database));
        let by_system = by_system.filter(|_| !systems.is_empty()).fold(top, |above, database| {
            let systems = systems.clone();
            let place = move |number| systems.get(&number).copied().unwrap_or(PlaceId::UNKNOWN);
            let ranges = ranges(database).map(move |(start, number)| (start, place(number)));
            overlay(above, Box::new(ranges), PlaceId::UNKNOWN)
        });
        let places = self.databases.iter().zip(self.bases);
        let places = places.filter(|(database, _)| !tells_systems(database));
        places.fold(by_system, |above, (database, &base)| {
            let lands = self.lands(database.gazetteer());
            let place = move |value| match value {
                NOWHERE => PlaceId::UNKNOWN,
                value => lands
                    .get(value as usize - 1)
                    .and_then(|rule| *rule)
                    .unwrap_or(PlaceId(base + value - 1)),
            };
            let ranges = ranges(database).map(move |(start, value)| (start, place(value)));
            overlay(above, Box::new(ranges), PlaceId::UNKNOWN)
        })
    }

    /// The rules by autonomous system; of two for one the earlier.
    fn systems(&self) -> HashMap<u32, PlaceId> {
        let by_system = numbered(self.rules).filter_map(|(rule, id)| match rule.clients() {
            Clients::System(number) => Some((*number, id)),
            Clients::Network(_) | Clients::Land { .. } => None,
        });
        let mut systems = HashMap::new();
        for (number, id) in by_system {
            systems.entry(number).or_insert(id);
        }
        systems
    }

    /// The rule for each place of a database, where there is one: that for its subdivision, else
    /// that for its country; empty where there are no such rules.
    fn lands(&self, database: &Gazetteer) -> Vec<Option<PlaceId>> {
        let by_land = || {
            numbered(self.rules).filter_map(|(rule, id)| match rule.clients() {
                Clients::Land { country, subdivision } => {
                    Some((country, subdivision.as_deref(), id))
                }
                Clients::Network(_) | Clients::System(_) => None,
            })
        };
        if by_land().next().is_none() {
            return Vec::new();
        }
        let rule = |territory: &Territory| {
            let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
            let here =
                || by_land().filter(|(country, ..)| same(country.code(), &territory.country));
            let part = here().find(|(_, part, _)| {
                part.is_some_and(|p| same(p, &territory.code) || same(p, &territory.name))
            });
            part.or_else(|| here().find(|(_, part, _)| part.is_none())).map(|(.., id)| id)
        };
        let rules: Vec<_> = database.territories().iter().map(rule).collect();
        database.spots().iter().map(|spot| rules[spot.territory as usize]).collect()
    }
}

#[cfg(test)]
mod tests;
