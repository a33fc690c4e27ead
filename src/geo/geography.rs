//! Everything that orders clusters for a client, at one moment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;

use ipnet::IpNet;

use super::{
    Atlas, GeoTable, Located, Lookup, Order, Place, PodLookup, PodNetworks, Site, Source, Target,
    distance_km, order,
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
    /// Tables of sets of clusters that some service's shards occupy.
    by_set: HashMap<ClusterSet, Arc<GeoTable>, FixedState>,
}

impl Compiled {
    /// Compiles the table of all clusters.
    #[must_use]
    pub fn new(atlas: Arc<Atlas>, sites: Arc<[Site]>) -> Self {
        let whole = Arc::new(GeoTable::compile(&atlas, &sites, &ClusterSet::first(sites.len())));
        Self { atlas, sites, whole, by_set: HashMap::default() }
    }

    /// Compiles tables for exactly `sets`, keeping those that are there.
    #[must_use]
    pub fn with_sets(&self, sets: &[ClusterSet]) -> Self {
        let table = |set: &ClusterSet| match self.by_set.get(set) {
            Some(table) => table.clone(),
            None => Arc::new(GeoTable::compile(&self.atlas, &self.sites, set)),
        };
        let by_set = sets.iter().map(|set| (set.clone(), table(set))).collect();
        Self { by_set, ..self.clone() }
    }

    /// The table of a set of clusters, or the one of all clusters until it is compiled.
    #[must_use]
    pub fn table(&self, set: &ClusterSet) -> &Arc<GeoTable> {
        self.by_set.get(set).unwrap_or(&self.whole)
    }

    /// Whether a set has its own table, or needs none.
    #[must_use]
    pub fn is_settled(&self, set: &ClusterSet) -> bool {
        set.len() < 2 || set.len() == self.sites.len() || self.by_set.contains_key(set)
    }
}

/// Everything that orders clusters for a client.
#[derive(Clone, Debug)]
pub struct Geography {
    /// Tables.
    pub compiled: Arc<Compiled>,
    /// Networks of pods.
    pub pods: Arc<PodNetworks>,
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
}

impl Ranking<'_> {
    /// The ranking where geography has no say.
    pub const EQUAL: Self = Self { order: None, scope: 0, by: LocatedBy::Nothing };
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
        let Some(subnet) = subnet else {
            let order = self.place(table, source).0.or(Some(table.unknown()));
            // "tailored by the resolver's address" says nothing of networks: no scope.
            return Ranking { order, scope: 0, by: LocatedBy::Source };
        };
        match self.place(table, subnet) {
            (Some(order), scope) => Ranking { order: Some(order), scope, by: LocatedBy::Subnet },
            // RFC 7871 §11.3: private addresses are not used; the resolver's is, and the scope
            // covers the whole private block.
            (None, scope) => {
                let order = self.place(table, source).0.or(Some(table.unknown()));
                Ranking { order, scope, by: LocatedBy::Source }
            }
        }
    }

    /// Whether the order that a table gives depends on the client at all.
    #[must_use]
    pub fn varies(&self, table: &GeoTable) -> bool {
        table.varies() || (!self.pods.is_empty() && table.single().is_none())
    }

    /// The order for a client that asks from inside a pod network without telling its subnet.
    #[must_use]
    #[inline]
    pub fn rank_pod<'g>(&self, table: &'g GeoTable, source: IpAddr) -> Option<Ranking<'g>> {
        match self.pods.lookup(source) {
            PodLookup::Inside { cluster, .. } => {
                let order = Some(table.own(cluster));
                Some(Ranking { order, scope: 0, by: LocatedBy::Source })
            }
            PodLookup::Outside { .. } => None,
        }
    }

    /// The order for one address and the prefix length for which it holds; `None` for an address
    /// that says nothing of a place.
    #[inline]
    fn place<'g>(&self, table: &'g GeoTable, address: IpAddr) -> (Option<Order<'g>>, u8) {
        match table.lookup_with_pods(&self.pods, address) {
            Lookup::Found { order, scope } => (Some(order), scope),
            Lookup::UseResolver { scope } => (None, scope),
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
