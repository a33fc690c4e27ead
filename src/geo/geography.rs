//! Everything that orders clusters for a client, at one moment.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::shape::share_region;
use super::space::{Canonical, canonical};
use super::table_map::TableMap;
use super::{
    Atlas, Conflict, GeoTable, Located, Lookup, Order, Place, PodLookup, PodNetworks, Shape, Share,
    Site, Source, Target, distance_km, order,
};
use crate::model::{ClusterId, ClusterSet, Coordinates};

/// Tables of one atlas and one set of places, as far as they are compiled.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Address space to places.
    pub atlas: Arc<Atlas>,
    /// Clusters' places, by id.
    pub sites: Arc<[Site]>,
    /// A table of all clusters, the fall-back while a set's own is not compiled. Its scopes are
    /// at most too narrow: it tells apart all that any set's table does.
    whole: Arc<GeoTable>,
    stage: Stage,
    /// Tables of sets of clusters that some service's shards occupy.
    by_set: TableMap,
    /// For each cluster those that have a region in common with it, itself among them.
    beside: Arc<[ClusterSet]>,
}

/// A set of clusters and how much of their order is wanted.
type Wanted = (ClusterSet, Shape);

/// What the table of all clusters is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Of the clusters that were known before, by name: see [`Compiled::provisional`].
    Provisional,
    /// Of the sites and the atlas.
    Compiled,
}

impl Compiled {
    /// Compiles the table of all clusters, which takes a tenth of a second with a large database.
    #[must_use]
    pub fn new(atlas: Arc<Atlas>, sites: Arc<[Site]>) -> Self {
        let whole = GeoTable::compile(&atlas, &sites, &ClusterSet::first(sites.len()));
        Self::of(atlas, sites, whole, Stage::Compiled)
    }

    /// What serves other clusters than those of `before` until their tables are compiled: the
    /// orders that there were, with the clusters that are new behind the others. Every scope is
    /// that of the client's place, so that none is wider than the compiled tables will have it.
    #[must_use]
    pub fn provisional(before: Option<&Self>, atlas: &Arc<Atlas>, sites: Arc<[Site]>) -> Self {
        let atlas = before.map_or(atlas, |before| &before.atlas).clone();
        let before = before.map(|before| (&*before.whole, &*before.sites));
        let whole = GeoTable::provisional(before, &sites);
        Self::of(atlas, sites, whole, Stage::Provisional)
    }

    fn of(atlas: Arc<Atlas>, sites: Arc<[Site]>, whole: GeoTable, stage: Stage) -> Self {
        let all = || (0..sites.len()).map(ClusterId::new);
        let beside = |one| all().filter(|&other| share_region(&sites, one, other)).collect();
        let beside = all().map(beside).collect();
        Self { atlas, sites, whole: Arc::new(whole), stage, by_set: TableMap::default(), beside }
    }

    /// Whether the tables are compiled of this atlas and these sites.
    #[must_use]
    pub fn is_of(&self, atlas: &Arc<Atlas>, sites: &[Site]) -> bool {
        self.stage == Stage::Compiled && Arc::ptr_eq(&self.atlas, atlas) && *self.sites == *sites
    }

    /// Whether the tables are for the same clusters with the same ids, wherever they stand.
    #[must_use]
    pub fn has_clusters_of(&self, sites: &[Site]) -> bool {
        let names = |sites: &[Site]| sites.iter().map(|site| site.name.clone()).collect::<Vec<_>>();
        names(&self.sites) == names(sites)
    }

    /// Tables for exactly `sets`: those that are there, and of the others the first `most`, which
    /// are compiled.
    #[must_use]
    pub fn with_sets(&self, sets: &[(ClusterSet, Shape)], most: usize) -> Self {
        let mut left = most;
        let mut table = |(set, shape): &Wanted| {
            if let Some(table) = self.by_set.of(set, *shape) {
                return Some(table.clone());
            }
            left = left.checked_sub(1)?;
            Some(Arc::new(GeoTable::shaped(&self.atlas, &self.sites, set, *shape)))
        };
        let tables = sets.iter().filter_map(|wanted| Some((wanted.clone(), table(wanted)?)));
        Self { by_set: TableMap::new(tables.collect()), ..self.clone() }
    }

    /// How much address space has each order of all clusters: see [`GeoTable::census`].
    #[must_use]
    pub fn census(&self) -> Vec<Share<'_>> {
        self.whole.census(&self.atlas)
    }

    /// The table of all clusters.
    #[must_use]
    #[inline]
    pub fn whole(&self) -> &GeoTable {
        &self.whole
    }

    /// The table of exactly the clusters that have the bits of `low` below 64 and of which `is`
    /// is true, cut to exactly this shape, once it is compiled.
    #[must_use]
    #[inline]
    pub fn exact(
        &self,
        low: u64,
        is: impl Fn(&ClusterSet) -> bool,
        shape: Shape,
    ) -> Option<&GeoTable> {
        self.by_set.find(low, is, shape).map(|table| &**table)
    }

    /// For each cluster those that have a region in common with it, itself among them.
    #[must_use]
    pub fn beside(&self) -> &[ClusterSet] {
        &self.beside
    }

    /// Whether all of these clusters are equally near to every client outside of clusters.
    #[must_use]
    pub fn are_alike(&self, set: &ClusterSet) -> bool {
        let mut classes = set.iter().map(|id| self.whole.class(id));
        let first = classes.next();
        classes.all(|class| Some(class) == first)
    }

    /// Whether a set has its own table, or needs none.
    #[must_use]
    pub fn is_settled(&self, (set, shape): &(ClusterSet, Shape)) -> bool {
        let is_whole = *shape == Shape::Whole && set.len() == self.sites.len();
        set.len() < 2 || is_whole || self.by_set.of(set, *shape).is_some()
    }
}

/// Everything that orders clusters for a client.
#[derive(Clone, Debug)]
pub struct Geography {
    /// Tables.
    pub compiled: Arc<Compiled>,
    /// Networks of pods.
    pub pods: Arc<PodNetworks>,
    /// Networks of pods that two clusters claim.
    pub conflicts: Arc<[Conflict]>,
}

/// Which address placed the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocatedBy {
    /// None: the answer does not depend on the client.
    Nothing,
    /// The EDNS Client Subnet.
    Subnet,
    /// The source address of the query.
    Source,
}

/// The order of clusters for one client.
#[derive(Clone, Copy, Debug)]
pub struct Ranking<'g> {
    /// Nearest first; `None` where all clusters in question are equally near to everyone.
    pub order: Option<Order<'g>>,
    /// SCOPE PREFIX-LENGTH for the Client Subnet option (RFC 7871 §7.2.1), bits.
    pub scope: u8,
    /// Which address told.
    pub by: LocatedBy,
    /// Whether other clients may get something else.
    pub varies: bool,
    /// The client's network as a number, where a hash of it has a say.
    pub unit: Option<u64>,
}

/// The client's network as policies see it that hash it: an IPv4 /24 or an IPv6 /56, which RFC 7871
/// §11.1 recommends resolvers to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The network as a number; those of the two families differ.
    pub key: u64,
    /// The widest prefix for which this holds, bits.
    pub scope: u8,
    /// Which address told.
    pub by: LocatedBy,
}

impl Unit {
    fn of(address: IpAddr, by: LocatedBy) -> Self {
        match canonical(address) {
            Canonical::V4 { bits, offset } => {
                Self { key: u64::from(bits >> 8), scope: 24 + offset, by }
            }
            // The top 56 bits, above all of IPv4.
            Canonical::V6(bits) => Self { key: (bits >> 72) as u64 | 1 << 63, scope: 56, by },
        }
    }
}

impl Ranking<'_> {
    /// The ranking where geography has no say.
    pub const EQUAL: Self =
        Self { order: None, scope: 0, by: LocatedBy::Nothing, varies: false, unit: None };

    /// The ranking with a say for the client's network.
    #[must_use]
    pub fn with_unit(self, unit: Unit) -> Self {
        let scope = self.scope.max(unit.scope);
        Self { scope, by: unit.by, varies: true, unit: Some(unit.key), ..self }
    }
}

impl Geography {
    /// Orders a table's clusters for a client who sent `subnet` from `source`.
    #[must_use]
    #[inline]
    pub fn rank<'g>(
        &self,
        table: &'g GeoTable,
        subnet: Option<IpAddr>,
        source: IpAddr,
    ) -> Ranking<'g> {
        let (address, by) = match subnet {
            Some(subnet) => (subnet, LocatedBy::Subnet),
            None => (source, LocatedBy::Source),
        };
        let (order, scope) = self.place(table, address);
        let (order, by) = match order {
            Some(order) => (order, by),
            None => (self.without_subnet(table, subnet.map(|_| source)), LocatedBy::Source),
        };
        // An order by the resolver's own address says nothing of networks: no scope.
        let scope = if subnet.is_some() { scope } else { 0 };
        Ranking { order: Some(order), scope, by, varies: self.varies(table), unit: None }
    }

    /// The order for an IPv4 client and the prefix length for which it holds, no order where its
    /// address says nothing of a place; `None` where more has a say than the client's network.
    #[inline]
    #[must_use]
    pub fn by_v4<'g>(
        &self,
        table: &'g GeoTable,
        client: Ipv4Addr,
    ) -> Option<(Option<Order<'g>>, u8)> {
        let alone = self.pods.is_empty() && self.compiled.stage == Stage::Compiled;
        alone.then(|| table.by_v4(client))?
    }

    /// The order for a client whose own prefix tells nothing: the resolver's, where that is another
    /// address. RFC 7871 §11.3: private addresses are not used; the scope covers the whole block.
    #[cold]
    fn without_subnet<'g>(&self, table: &'g GeoTable, resolver: Option<IpAddr>) -> Order<'g> {
        let found = resolver.and_then(|resolver| self.place(table, resolver).0);
        found.unwrap_or(table.unknown())
    }

    /// The network of a client who sent `subnet` from `source`, for policies that hash it.
    #[must_use]
    pub fn unit(&self, subnet: Option<IpAddr>, source: IpAddr) -> Unit {
        let by_source = |scope| Unit { scope, ..Unit::of(source, LocatedBy::Source) };
        let Some(subnet) = subnet else { return by_source(0) };
        match self.compiled.atlas.block_around(subnet) {
            Some(scope) => by_source(scope),
            None => Unit::of(subnet, LocatedBy::Subnet),
        }
    }

    /// Whether the order that a table gives depends on the client at all.
    #[must_use]
    #[inline]
    pub fn varies(&self, table: &GeoTable) -> bool {
        table.varies()
            || (!self.pods.is_empty() && table.single().is_none())
            || self.compiled.stage == Stage::Provisional
    }

    /// The order for a client that asks from inside a pod network without telling its subnet.
    #[must_use]
    #[inline]
    pub fn rank_pod<'g>(&self, table: &'g GeoTable, source: IpAddr) -> Option<Ranking<'g>> {
        match self.pods.lookup(source) {
            PodLookup::Inside { cluster, .. } => {
                let order = Some(table.own(cluster));
                Some(Ranking { order, by: LocatedBy::Source, varies: true, ..Ranking::EQUAL })
            }
            PodLookup::Outside { .. } => None,
        }
    }

    /// The order for one address and the prefix length for which it holds; `None` for an address
    /// that says nothing of a place.
    #[inline]
    fn place<'g>(&self, table: &'g GeoTable, address: IpAddr) -> (Option<Order<'g>>, u8) {
        let (order, scope) = match table.lookup_with_pods(&self.pods, address) {
            Lookup::Found { order, scope } => (Some(order), scope),
            Lookup::UseResolver { scope } => (None, scope),
        };
        match self.compiled.stage {
            Stage::Compiled => (order, scope),
            Stage::Provisional => (order, scope.max(self.compiled.atlas.extent(address))),
        }
    }

    /// Where an address is and who says so: the operator's networks, the pods', the databases.
    #[must_use]
    pub fn locate(&self, address: IpAddr) -> Located {
        let located = self.compiled.atlas.locate(address);
        match self.pods.lookup(address) {
            PodLookup::Inside { cluster, scope } => {
                let site = &self.compiled.sites[cluster.index()];
                Located {
                    place: Place::At(Target::Cluster(site.name.clone())),
                    source: Source::Pods,
                    network: IpNet::new(address, scope).unwrap_or(located.network).trunc(),
                }
            }
            PodLookup::Outside { .. } => located,
        }
    }

    /// The network beside the widest prefix of `scope` bits around an address, which got another
    /// answer: what keeps the prefix from being wider. `None` at length 0.
    #[must_use]
    pub fn neighbour(address: IpAddr, scope: u8) -> Option<IpNet> {
        let up = scope.checked_sub(1)?;
        let half = IpNet::new(address, scope).ok()?.trunc();
        IpNet::new(address, up).ok()?.trunc().subnets(scope).ok()?.find(|other| *other != half)
    }

    /// Kilometres between a client's place and a cluster, where both are known.
    #[must_use]
    pub fn distance_km(&self, client: &Located, cluster: ClusterId) -> Option<f64> {
        let site = &self.compiled.sites[cluster.index()];
        let from = self.point(&client.place)?;
        Some(distance_km(from, site.coordinates?))
    }

    /// The point that a place stands for: that of the clusters in it.
    fn point(&self, place: &Place) -> Option<Coordinates> {
        let Place::At(target) = place else { return None };
        order::point_of(&self.compiled.sites, target)
    }
}
