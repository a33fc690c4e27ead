//! Stage two: for a set of clusters, the order in which each client gets them.
//!
//! *Owns*: [`GeoTable`]. *Guarantees*: a table is a function of the atlas, the sites and the set;
//! the scope of a look-up is the widest prefix whose clients all get the same order, and scopes do
//! not overlap (RFC 7871 §7.2.1: "the network described by the addresses ... MUST NOT overlap").
//! *Does not*: know health; a cluster that is out is skipped in the order.
//!
//! Orders are made for places, not for networks, and only for places that some address has; then
//! one pass over the atlas merges neighbours with the same order.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::atlas::{Atlas, BLOCKS, PlaceId, PlaceRef};
use super::networks::{Builder, Networks, Value};
use super::order::{Order, Ranked, Ranker, Site, Walk};
use super::pods::{PodLookup, PodNetworks};
use super::shape::Shape;
use crate::model::{ClusterId, ClusterSet, Coordinates};

/// Orders of one set of clusters for every client; immutable.
#[derive(Debug, PartialEq)]
pub struct GeoTable {
    orders: Orders,
    clients: Clients,
    unknown: Code,
    /// For each cluster of the registry the order for clients inside it.
    own: Box<[Code]>,
    /// Whether clients inside some cluster get another order than all others do.
    own_differs: bool,
    classes: Classes,
    grid: Grid,
    /// The clusters that every order lists, where each lists these and no other and all ids are below
    /// 64; otherwise none.
    lists: u64,
}

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// These clusters, nearest first.
    Found {
        /// The order.
        order: Order<'a>,
        /// The widest prefix, bits of the client's address family, that has this order.
        scope: u8,
    },
    /// The address is not global and tells nothing: what the resolver's own address gets.
    UseResolver {
        /// The widest prefix, bits of the client's address family, for which this is so.
        scope: u8,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Clients {
    /// All get this order.
    Alike(Code),
    /// The order depends on the network.
    ByNetwork(Arc<Networks<Code>>),
}

/// An order, or one of the blocks whose clients are placed by their resolver. Two octets keep a
/// table of forty places below 8 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code(u16);

impl Value for Code {
    const FINE: Self = Self(u16::MAX);
}

impl From<Code> for u32 {
    fn from(Code(code): Code) -> Self {
        code.into()
    }
}

impl Code {
    /// Blocks have codes of their own, so that no scope reaches from one into the next.
    const FIRST_BLOCK: u16 = u16::MAX - BLOCKS;
    /// The most orders of a table.
    const MAX_ORDERS: usize = Self::FIRST_BLOCK as usize;
}

/// The grid to which points of databases are moved, degrees; zero leaves them where they are.
type Grid = f64;

/// Grids in the order in which they are tried. Distinct orders grow with the clusters and with
/// the points. Measured with City databases, all points stay exact up to sixty to eighty places of
/// clusters; from there on half a degree, by which no client moves more than 40 km, suffices well
/// beyond all regions of all clouds. The last grid has a thousand cells.
const GRIDS: [Grid; 6] = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0];

/// The most clusters that the orders of a table may list, all in all: 8 MiB, about what the ranges
/// of a City database take. Forty places need 0.6 million.
const MAX_RANKED: usize = 4 << 20;

impl GeoTable {
    /// The orders of those of `sites` that are `members`, for every client of the atlas.
    #[must_use]
    pub fn compile(atlas: &Atlas, sites: &[Site], members: &ClusterSet) -> Self {
        Self::shaped(atlas, sites, members, Shape::Whole)
    }

    /// As [`GeoTable::compile`], with the orders cut to `shape`.
    ///
    /// Where exact points would need more orders than a table holds, clients are moved to the
    /// middle of cells of a grid, the finest that suffices; [`GeoTable::grid_degrees`] tells.
    #[must_use]
    pub fn shaped(atlas: &Atlas, sites: &[Site], members: &ClusterSet, shape: Shape) -> Self {
        let ranker = Ranker::new(sites, members);
        let attempt = |grid| Compilation::new(&ranker, atlas, grid, (sites, shape))?.run();
        let table = GRIDS.into_iter().find_map(attempt).unwrap_or_else(|| {
            // Not even the coarsest grid suffices, which takes thousands of clusters: every
            // client gets the order of unknown ones, and a grid of one cell tells so.
            let unknown = Code(0);
            let orders = Orders::one(shape.trim(ranker.unknown(), sites));
            let own = vec![unknown; sites.len()].into();
            let clients = Clients::Alike(unknown);
            let classes = Classes::of([&*orders.ranked], sites.len());
            let (own_differs, grid, lists) = (false, 360.0, 0);
            Self { orders, clients, unknown, own, own_differs, classes, grid, lists }
        });
        let lists = match shape {
            Shape::Whole if members.width() == 1 => members.word(0),
            _ => 0,
        };
        Self { lists, ..table }
    }

    /// What the client at an address gets, by its network alone.
    #[must_use]
    #[inline]
    pub fn lookup(&self, client: IpAddr) -> Lookup<'_> {
        match &self.clients {
            Clients::Alike(code) => Lookup::Found { order: self.order(*code), scope: 0 },
            Clients::ByNetwork(networks) => match networks.lookup(client) {
                (Code(code), scope) if code >= Code::FIRST_BLOCK => Lookup::UseResolver { scope },
                (code, scope) => Lookup::Found { order: self.order(code), scope },
            },
        }
    }

    /// As [`Self::lookup`] of an IPv4 address, where the order depends on the network at all.
    #[inline]
    pub(super) fn by_v4(&self, client: Ipv4Addr) -> Option<(Option<Order<'_>>, u8)> {
        let Clients::ByNetwork(networks) = &self.clients else { return None };
        let (code, scope) = networks.lookup_v4(client.to_bits());
        Some(((code.0 < Code::FIRST_BLOCK).then(|| self.order(code)), scope))
    }

    /// Has fetched what a look-up of a client reads first.
    #[inline]
    pub fn fetch_index(&self, client: Ipv4Addr) {
        if let Clients::ByNetwork(networks) = &self.clients {
            networks.fetch_index_v4(client.to_bits());
        }
    }

    /// Has fetched what it reads then.
    #[inline]
    pub fn fetch_ranges(&self, client: Ipv4Addr) {
        if let Clients::ByNetwork(networks) = &self.clients {
            networks.fetch_ranges_v4(client.to_bits());
        }
    }

    /// What the client at an address gets, where pods are placed in their clusters.
    #[must_use]
    #[inline]
    pub fn lookup_with_pods(&self, pods: &PodNetworks, client: IpAddr) -> Lookup<'_> {
        if let Some(order) = self.single() {
            return Lookup::Found { order, scope: 0 };
        }
        match pods.lookup(client) {
            PodLookup::Inside { cluster, scope } => {
                Lookup::Found { order: self.own(cluster), scope }
            }
            PodLookup::Outside { scope: beside_pods } => match self.lookup(client) {
                Lookup::Found { order, scope } => {
                    Lookup::Found { order, scope: scope.max(beside_pods) }
                }
                Lookup::UseResolver { scope } => {
                    Lookup::UseResolver { scope: scope.max(beside_pods) }
                }
            },
        }
    }

    /// Whether the order depends on the client's network; where not, every scope is 0.
    #[must_use]
    #[inline]
    pub fn varies(&self) -> bool {
        matches!(self.clients, Clients::ByNetwork(_))
    }

    /// The order that every client gets, inside and outside of clusters, where there is only one.
    #[must_use]
    #[inline]
    pub fn single(&self) -> Option<Order<'_>> {
        match self.clients {
            Clients::Alike(code) if !self.own_differs => Some(self.order(code)),
            _ => None,
        }
    }

    /// The order for clients inside a cluster, of the set or not.
    #[must_use]
    #[inline]
    pub fn own(&self, cluster: ClusterId) -> Order<'_> {
        self.order(self.own.get(cluster.index()).copied().unwrap_or(self.unknown))
    }

    /// The order for clients of whom nothing is known.
    #[must_use]
    #[inline]
    pub fn unknown(&self) -> Order<'_> {
        self.order(self.unknown)
    }

    /// A number that a cluster of the set shares with those that are as near as it to every
    /// client outside of clusters.
    #[must_use]
    pub fn class(&self, cluster: ClusterId) -> u16 {
        self.classes.numbers.get(cluster.index()).copied().unwrap_or(0)
    }

    /// Whether the clusters with these bits, ids below 64, are all of one [`Self::class`].
    #[must_use]
    #[inline]
    pub fn are_alike(&self, low: u64) -> bool {
        let alike = self.classes.low.get(low.trailing_zeros() as usize);
        alike.is_none_or(|alike| low & !alike == 0)
    }

    /// Whether every order lists the clusters with these bits, ids below 64, and no other.
    #[must_use]
    #[inline]
    pub fn lists(&self, low: u64) -> bool {
        low != 0 && self.lists == low
    }

    /// How far, in degrees of latitude and longitude, cells are apart in whose middle points of
    /// databases were taken to be; 0 where they are exact.
    #[must_use]
    pub fn grid_degrees(&self) -> f64 {
        self.grid
    }

    /// How many distinct orders there are.
    #[must_use]
    pub fn order_count(&self) -> usize {
        self.orders.ends.len()
    }

    /// Octets of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let clients = match &self.clients {
            Clients::Alike(_) => 0,
            Clients::ByNetwork(networks) => networks.bytes(),
        };
        let Orders { ranked, ends } = &self.orders;
        clients + size_of_val(&**ranked) + size_of_val(&**ends) + size_of_val(&*self.own)
    }

    #[inline]
    fn order(&self, Code(code): Code) -> Order<'_> {
        let Orders { ranked, ends } = &self.orders;
        let code = usize::from(code);
        let start = code.checked_sub(1).map_or(0, |before| ends[before] as usize);
        Order(&ranked[start..ends[code] as usize])
    }
}

/// Distinct orders, one behind the other.
#[derive(Debug, Default, PartialEq)]
struct Orders {
    ranked: Vec<Ranked>,
    /// Where each ends.
    ends: Vec<u32>,
}

impl Orders {
    /// Adds an order that is not there yet; `None` where the table holds no more.
    fn add(&mut self, order: &[Ranked]) -> Option<Code> {
        let (count, end) = (self.ends.len(), self.ranked.len() + order.len());
        if count == Code::MAX_ORDERS || end > MAX_RANKED {
            return None;
        }
        self.ranked.extend_from_slice(order);
        self.ends.push(end as u32);
        Some(Code(count as u16))
    }

    /// Only this one.
    fn one(order: Vec<Ranked>) -> Self {
        // An order has no more clusters than there are.
        Self { ends: vec![order.len() as u32], ranked: order }
    }
}

/// A table in the making.
struct Compilation<'a> {
    ranker: &'a Ranker<'a>,
    atlas: &'a Atlas,
    grid: Grid,
    sites: &'a [Site],
    shape: Shape,
    orders: Orders,
    known: HashMap<Box<[Ranked]>, Code, FixedState>,
    unknown: Code,
    /// The code of each place, `FINE` until it is needed.
    codes: Vec<Code>,
}

impl<'a> Compilation<'a> {
    /// Begins a table; like all that follows `None` where it would hold too many orders.
    fn new(
        ranker: &'a Ranker<'a>,
        atlas: &'a Atlas,
        grid: Grid,
        (sites, shape): (&'a [Site], Shape),
    ) -> Option<Self> {
        let mut new = Self {
            ranker,
            atlas,
            grid,
            sites,
            shape,
            orders: Orders::default(),
            known: HashMap::default(),
            unknown: Code::FINE,
            codes: vec![Code::FINE; atlas.place_count()],
        };
        new.unknown = new.intern(ranker.unknown())?;
        Some(new)
    }

    fn run(mut self) -> Option<GeoTable> {
        let sites = self.sites;
        self.order_points()?;
        let mut builder = Builder::default();
        let mut orders_used = OrdersUsed::None;
        let places = self.atlas.places();
        for (start, place) in places.iter_v4() {
            let code = self.code(place)?;
            orders_used.add(code);
            builder.push_v4(start, code);
        }
        for (start, place) in places.iter_v6() {
            let code = self.code(place)?;
            orders_used.add(code);
            builder.push_v6(start, code);
        }
        let clients = match orders_used {
            OrdersUsed::None => Clients::Alike(self.unknown),
            OrdersUsed::One(code) => Clients::Alike(code),
            OrdersUsed::Several => Clients::ByNetwork(builder.finish().into()),
        };
        // Clients inside clusters are left out: a pod network makes its own cluster nearer only
        // where the clusters are not all in one place, lest every node narrow every scope.
        let classes = Classes::of(self.known.keys().map(|order| &**order), sites.len());
        let mut inside = |site: &Site| self.intern(self.ranker.inside(&site.name));
        let own: Box<[Code]> = sites.iter().map(&mut inside).collect::<Option<_>>()?;
        let own_differs = match clients {
            Clients::Alike(code) => own.iter().any(|own| *own != code),
            Clients::ByNetwork(_) => true,
        };
        self.orders.ranked.shrink_to_fit();
        let (orders, unknown, grid) = (self.orders, self.unknown, self.grid);
        Some(GeoTable { orders, clients, unknown, own, own_differs, classes, grid, lists: 0 })
    }

    /// Gives each point its code. Of two that are neighbours most have the same order.
    fn order_points(&mut self) -> Option<()> {
        let (ranker, atlas) = (self.ranker, self.atlas);
        let mut walk = Walk::new(ranker);
        let mut last = None;
        for (place, point) in atlas.points() {
            let changed = walk.go(ranker, snap(point, self.grid));
            let code = match last {
                Some(code) if !changed => code,
                _ => self.intern(ranker.at(&walk))?,
            };
            last = Some(code);
            self.codes[place.index()] = code;
        }
        Some(())
    }

    fn code(&mut self, place: PlaceId) -> Option<Code> {
        let known = self.codes[place.index()];
        if known != Code::FINE {
            return Some(known);
        }
        let code = match self.atlas.place(place) {
            PlaceRef::Unknown => self.unknown,
            PlaceRef::Block(at) => Code(Code::FIRST_BLOCK + at),
            PlaceRef::Rule(rule) => self.intern(self.ranker.toward(rule.target()))?,
            // All that any address has were given one beforehand.
            PlaceRef::Point(..) => self.unknown,
        };
        self.codes[place.index()] = code;
        Some(code)
    }

    fn intern(&mut self, order: Vec<Ranked>) -> Option<Code> {
        let order = self.shape.trim(order, self.sites);
        if let Some(&code) = self.known.get(order.as_slice()) {
            return Some(code);
        }
        let code = self.orders.add(&order)?;
        self.known.insert(order.into(), code);
        Some(code)
    }
}

/// Which clusters stand in one group in every order that networks have.
#[derive(Debug, PartialEq)]
struct Classes {
    /// For each cluster of the registry the number of its class.
    numbers: Box<[u16]>,
    /// For each of the first 64 clusters those of them that are in its class.
    low: Box<[u64]>,
}

impl Classes {
    /// Parts the clusters by the groups that they stand in: two are in one class where every order
    /// has them in one group.
    fn of<'o>(orders: impl IntoIterator<Item = &'o [Ranked]>, sites: usize) -> Self {
        let mut classes: Vec<u16> = vec![0; sites];
        let mut groups: Vec<u16> = vec![0; sites];
        for order in orders {
            let mut group = 0;
            for ranked in order {
                // There are fewer groups and classes than clusters, whose ids fit 15 bits.
                group += u16::from(ranked.starts_group());
                groups[ranked.cluster().index()] = group;
            }
            let mut seen: HashMap<(u16, u16), u16, FixedState> = HashMap::default();
            for (class, group) in classes.iter_mut().zip(&groups) {
                let next = seen.len() as u16;
                *class = *seen.entry((*class, *group)).or_insert(next);
            }
        }
        classes.into_iter().collect()
    }
}

impl FromIterator<u16> for Classes {
    /// Takes the number of the class of each cluster.
    fn from_iter<I: IntoIterator<Item = u16>>(numbers: I) -> Self {
        let numbers: Box<[u16]> = numbers.into_iter().collect();
        let first = &numbers[..numbers.len().min(64)];
        let bit = |class: u16, (at, other): (usize, &u16)| u64::from(class == *other) << at;
        let low = |class: &u16| first.iter().enumerate().map(|other| bit(*class, other)).sum();
        Self { low: first.iter().map(low).collect(), numbers }
    }
}

/// How many different orders networks have; blocks have none.
enum OrdersUsed {
    None,
    One(Code),
    Several,
}

impl OrdersUsed {
    fn add(&mut self, code: Code) {
        match self {
            _ if code.0 >= Code::FIRST_BLOCK => {}
            Self::None => *self = Self::One(code),
            Self::One(other) if *other != code => *self = Self::Several,
            Self::One(_) | Self::Several => {}
        }
    }
}

/// The middle of the grid's cell in which a point lies.
fn snap(point: Coordinates, grid: Grid) -> Coordinates {
    if grid == 0.0 {
        return point;
    }
    let middle = |degrees: f64, limit: f64| {
        ((degrees / grid).floor() * grid + grid / 2.0).clamp(-limit, limit)
    };
    let (latitude, longitude) = (point.latitude(), point.longitude());
    // Clamped to the globe, so there is always a middle.
    Coordinates::new(middle(latitude, 90.0), middle(longitude, 180.0)).unwrap_or(point)
}

pub use census::Share;

mod census;
mod provisional;
#[cfg(test)]
mod tests;
