//! The snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU16;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::{Identity, Inputs};
use crate::geo::{Atlas, Compiled, Geography, Shape, Site};
use crate::health::{self, Exclusion};
use crate::model::{Buckets, ClusterId, ClusterSet, Internal, Report};
use crate::zone::{Family, Position, Service, Zone};

/// What changes faster than a service's records, kept beside them at the same position.
#[derive(Clone, Debug)]
pub struct Live {
    /// Clusters whose shard of the service is healthy by itself; whether the cluster as a whole
    /// is up is kept once for all services in [`Snapshot::up`].
    pub served: ClusterSet,
    /// Clusters whose shard is not, and since when, Unix time in seconds.
    pub unserved: Box<[(ClusterId, u64)]>,
}

impl Live {
    /// Since when the shard in a cluster has not been healthy by itself, Unix time in seconds;
    /// `None` where it is, or where there is none.
    #[must_use]
    pub fn unserved_since(&self, cluster: ClusterId) -> Option<u64> {
        self.unserved.iter().find(|(id, _)| *id == cluster).map(|(_, since)| *since)
    }
}

/// A set of clusters and how much of their order answers hold.
pub(super) type Wanted = (ClusterSet, Shape);

/// How many services want a table, were all clusters up.
pub(super) type Placements = HashMap<Wanted, usize, FixedState>;

/// The tables by which a service is answered at the global name: of the served shards with
/// addresses of each family, and with each port.
pub(super) fn tables(service: &Service, live: &Live, most: NonZeroU16) -> BTreeSet<Wanted> {
    let most = service.most_clusters(most);
    let by_family = [Family::V4, Family::V6].map(|family| service.addressed(family));
    let by_port = service.ports().iter().map(|port| &port.clusters);
    let wanted = by_family.into_iter().chain(by_port).filter_map(|base| {
        let set = base.intersection(&live.served);
        let shape = Shape::of(&service.policy, most, set.len())?;
        Some((set, shape))
    });
    wanted.filter(|(set, _)| set.len() > 1).collect()
}

/// How many shards of one cluster are in each state by themselves, the cluster as a whole aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Healthy.
    pub served: u64,
    /// Without an address.
    pub no_address: u64,
    /// With too few ready endpoints.
    pub not_ready: u64,
    /// Drained by annotation.
    pub drained: u64,
    /// Voted down by active checks.
    pub checks_fail: u64,
}

impl Tally {
    /// The number that a verdict counts towards.
    pub(super) fn of(&mut self, verdict: &Result<(), Exclusion>) -> &mut u64 {
        match verdict {
            Ok(()) => &mut self.served,
            Err(Exclusion::NoAddress) => &mut self.no_address,
            Err(Exclusion::NotReady { .. }) => &mut self.not_ready,
            Err(Exclusion::ChecksFail(_)) => &mut self.checks_fail,
            // Shards are not judged by what their cluster is; that is counted at once for all.
            Err(Exclusion::Drained | Exclusion::ClusterDrained | Exclusion::ClusterDown) => {
                &mut self.drained
            }
        }
    }
}

/// What cannot be served as asked, found while building.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reports {
    /// Of locations.
    pub(super) structure: Vec<Report>,
    /// Of coordinates and networks.
    pub(super) places: Vec<Report>,
    /// Of services, by bucket.
    pub(super) by_bucket: BTreeMap<usize, Vec<Report>>,
    /// Of the federation's own name.
    pub(super) federation: Option<Report>,
}

impl Reports {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Report> {
        let services = self.by_bucket.values().flatten();
        self.structure.iter().chain(&self.places).chain(services).chain(&self.federation)
    }
}

/// Everything that answers depend on; immutable, replaced as a whole.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts published snapshots, from 1.
    pub generation: u64,
    /// SOA serial.
    pub serial: u32,
    /// Names.
    pub zone: Zone,
    /// Clusters whose shards may be served.
    pub up: ClusterSet,
    /// Distances.
    pub geography: Geography,
    /// Whether every source has been read: if not, absence is unknown.
    pub complete: bool,
    /// A digest of all records and their health, equal on replicas that know the same; geography,
    /// which chooses and orders but makes no record, is not in it.
    pub digest: u64,
    /// What cannot be served as asked, found while building.
    pub reports: Reports,
    /// Shards by cluster and state.
    pub tallies: Vec<Tally>,
    /// What it was built from.
    pub inputs: Inputs,
    pub(super) content_digest: u64,
    pub(super) structure_digest: u64,
    pub(super) live: Buckets<Live>,
    /// Where the clusters stand; tables of other places may still be in force.
    pub(super) sites: Arc<[Site]>,
    pub(super) placements: Placements,
    /// SOA RDATA.
    pub(super) soa: Box<[u8]>,
    /// SOA RDATA of the zone of cluster-internal names, where it is served.
    pub(super) internal_soa: Box<[u8]>,
}

/// Why a cluster-internal name is not answered with addresses of the instance's own cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLocal {
    /// It serves no such names, or none of its name is registered.
    #[error("the cluster is not registered")]
    NoCluster,
    /// The cluster is drained or down.
    #[error("the cluster is drained or down")]
    ClusterOut,
    /// Its source has not been read yet, or does not export the service.
    #[error("the cluster does not export the service")]
    NotExported,
    /// The shard by itself.
    #[error("its shard {0}")]
    Excluded(Exclusion),
}

impl Snapshot {
    /// What is known now of the service at a position of [`Self::zone`].
    #[must_use]
    #[inline]
    pub fn live(&self, position: Position) -> &Live {
        &self.live.bucket(position.bucket)[position.slot]
    }

    /// How the server names itself.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inputs.federation.identity
    }

    /// RDATA of the zone's SOA record.
    #[must_use]
    pub fn soa(&self) -> &[u8] {
        &self.soa
    }

    /// RDATA of the SOA record of the zone of cluster-internal names; empty where it is not
    /// served.
    #[must_use]
    pub fn internal_soa(&self) -> &[u8] {
        &self.internal_soa
    }

    /// How pods of the instance's own cluster reach a service there.
    ///
    /// # Errors
    /// [`NotLocal`]: their names lead elsewhere (DESIGN §2 rule 4).
    pub fn local(&self, service: &Service) -> Result<&Internal, NotLocal> {
        let home = self.zone.internal().and_then(|zone| zone.home()).ok_or(NotLocal::NoCluster)?;
        if !self.up.contains(home) {
            return Err(NotLocal::ClusterOut);
        }
        let view = self.inputs.views[home.index()].as_ref();
        let mut entries = view.into_iter().flat_map(|v| v.shards.find(service.key.hash()));
        let entry = entries.find(|e| e.key == service.key).ok_or(NotLocal::NotExported)?;
        let health = &self.inputs.federation.health;
        health::judge_internal(&entry.shard, health).map_err(NotLocal::Excluded)?;
        // What is judged fit has addresses.
        entry.shard.internal.as_deref().ok_or(NotLocal::Excluded(Exclusion::NoAddress))
    }

    /// The sets of clusters that deserve a geographic table of their own, those of most services
    /// first, at most [`MAX_TABLES`]: a function of the inputs alone.
    #[must_use]
    pub fn wanted_tables(&self) -> Vec<(ClusterSet, Shape)> {
        let mut counts: HashMap<Wanted, usize, FixedState> = HashMap::default();
        // Regions and zones are nearly always in one place, and then need no table.
        let levels = self.zone.levels();
        let sets = levels.all().filter_map(|level| levels.clusters(level));
        let levels: Vec<_> = sets.filter(|s| !self.geography.compiled.are_alike(s)).collect();
        for ((set, shape), count) in &self.placements {
            let up = set.intersection(&self.up);
            if up.len() > 1 {
                for level in &levels {
                    let part = up.intersection(level);
                    if part.len() > 1 && part != up {
                        let shape = shape.over(part.len());
                        *counts.entry((part, shape)).or_default() += count;
                    }
                }
                let shape = shape.over(up.len());
                *counts.entry((up, shape)).or_default() += count;
            }
        }
        let mut wanted: Vec<_> = counts.into_iter().collect();
        wanted.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.cmp(b)));
        wanted.truncate(MAX_TABLES);
        wanted.into_iter().map(|(wanted, _)| wanted).collect()
    }

    /// The geographic tables that it lacks; `None` where every one that it wants is compiled, so
    /// that orders are those of the present places and scopes are as wide as they can be.
    #[must_use]
    pub fn missing_tables(&self) -> Option<Missing> {
        let compiled = &self.geography.compiled;
        if !compiled.is_of(&self.inputs.atlas, &self.sites) {
            return Some(Missing::Whole(self.inputs.atlas.clone(), self.sites.clone()));
        }
        let wanted = self.wanted_tables();
        let settled = wanted.iter().all(|set| compiled.is_settled(set));
        (!settled).then(|| Missing::Sets(compiled.clone(), wanted))
    }
}

/// Tables that are to be compiled, a tenth of a second each with a large database: not where
/// anything waits.
#[derive(Clone, Debug)]
pub enum Missing {
    /// The one of all clusters.
    Whole(Arc<Atlas>, Arc<[Site]>),
    /// Those of exactly these sets, beside what there is.
    Sets(Arc<Compiled>, Vec<(ClusterSet, Shape)>),
}

impl Missing {
    /// Compiles some of them, the most wanted first; the next snapshot tells what is still missing.
    #[must_use]
    pub fn compile(self) -> Compiled {
        match self {
            Self::Whole(atlas, sites) => Compiled::new(atlas, sites),
            Self::Sets(compiled, wanted) => compiled.with_sets(&wanted, AT_ONCE),
        }
    }
}

/// How many tables come into force together: half a second's work, so that the most wanted need not
/// wait for all.
const AT_ONCE: usize = 4;

/// A table of 40 places over a full City database takes up to 8 MiB; 64 of them are what a small pod
/// affords. Services in rarer sets share the table of all clusters.
const MAX_TABLES: usize = 64;
