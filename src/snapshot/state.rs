//! The snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU16;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::{Identity, Inputs, Live, Tally};
use crate::geo::{Atlas, Compiled, Geography, Shape, Site};
use crate::health::{Assessment, Exclusion};
use crate::model::{Buckets, ClusterId, ClusterSet, Forced, Internal, Keyed, Report, differing};
use crate::zone::{Family, Position, Service, ServiceEntry, Zone};

/// A set of clusters and how much of their order answers hold.
pub(super) type Wanted = (ClusterSet, Shape);

/// How many services want each table, were all clusters up.
pub(super) type Placements = Buckets<Placement>;

/// How many services want a table.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    /// Of what they want.
    pub(super) hash: u64,
    pub(super) wanted: Wanted,
    /// At least one.
    pub(super) services: usize,
}

impl Keyed for Placement {
    fn hash(&self) -> u64 {
        self.hash
    }
}

/// The tables by which a service is answered at the global name: of the served shards with
/// addresses of each family, and with each port.
pub(super) fn tables(service: &Service, live: &Live, most: NonZeroU16) -> BTreeSet<Wanted> {
    let most = service.most_clusters(most);
    let by_family = [Family::V4, Family::V6].map(|family| service.addressed(family));
    let by_port = service.ports().iter().map(|port| &port.clusters);
    let candidates = live.candidates();
    let wanted = by_family.into_iter().chain(by_port).filter_map(|base| {
        let set = base.view().intersection(candidates);
        let shape = Shape::of(service.policy(), most, set.len())?;
        Some((set, shape))
    });
    wanted.filter(|(set, _)| set.len() > 1).collect()
}

/// What cannot be served as asked, found while building. What did not change is shared from one
/// snapshot to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reports {
    /// Of locations.
    pub(super) structure: Arc<[Report]>,
    /// Of coordinates and networks.
    pub(super) places: Arc<[Report]>,
    /// Of services.
    pub(super) by_bucket: Buckets<Faults>,
    /// Of the federation's own name.
    pub(super) federation: Option<Report>,
    /// Of overrides.
    pub(super) overrides: Arc<[Report]>,
}

/// What services of one hash cannot have as they ask.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Faults {
    pub(super) hash: u64,
    pub(super) reports: Vec<Report>,
}

impl Keyed for Faults {
    fn hash(&self) -> u64 {
        self.hash
    }
}

impl Reports {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Report> {
        self.of_federation().chain(self.by_bucket.iter().flat_map(|faults| &faults.reports))
    }

    /// Those of the federation as a whole.
    fn of_federation(&self) -> impl Iterator<Item = &Report> {
        let own = self.structure.iter().chain(&*self.places).chain(&*self.overrides);
        own.chain(&self.federation)
    }

    /// Those that were not there `before`. The work grows with what differs.
    pub fn news<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Report> {
        let own = self.of_federation();
        let own = own.filter(|report| !before.of_federation().any(|known| known == *report));
        let buckets = self.by_bucket.changed(&before.by_bucket);
        let of_services = buckets.flat_map(|bucket| {
            let known = before.by_bucket.bucket(bucket);
            let is_known = move |report: &&Report| known.iter().any(|f| f.reports.contains(report));
            let now = self.by_bucket.bucket(bucket).iter().flat_map(|faults| &faults.reports);
            now.filter(move |report| !is_known(report))
        });
        own.chain(of_services)
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
    pub zone: Zone<Live>,
    /// Clusters whose shards may be served.
    pub up: ClusterSet,
    /// Clusters whose state may change soon: the TTLs of services with a shard there are lowered.
    pub unsettled: ClusterSet,
    /// Clusters that are not forced out, which even `whenNoneHealthy` does not bring back.
    pub unbarred: ClusterSet,
    /// What became of each cluster as a whole, by id.
    pub wholes: Vec<Assessment<Result<(), Exclusion>>>,
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
    /// Where the clusters stand; tables of other places may still be in force.
    pub(super) sites: Arc<[Site]>,
    pub(super) placements: Placements,
    pub(super) timing: Arc<Timing>,
    /// SOA RDATA.
    pub(super) soa: Box<[u8]>,
    /// Type, class, TTL, length and RDATA of the SOA record in negative answers.
    pub(super) negative: Box<[u8]>,
    /// SOA RDATA of the zone of cluster-internal names, where it is served.
    pub(super) internal_soa: Box<[u8]>,
}

/// Buckets that change without their services.
#[derive(Clone, Debug, Default)]
pub(super) struct Timing {
    /// When time alone changes something in a bucket, Unix time in seconds.
    pub(super) deadlines: BTreeMap<usize, u64>,
    /// Buckets with a service for which it matters which clusters are up.
    pub(super) exceptional: BTreeSet<usize>,
}

/// Why a cluster-internal name is not answered with addresses of the instance's own cluster.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
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
        self.zone.beside(position)
    }

    /// Where a cluster stands, as its names say; geography may still be that of before.
    #[must_use]
    pub fn site(&self, id: ClusterId) -> &Site {
        &self.sites[id.index()]
    }

    /// With which TTL the records of a service are answered now, seconds.
    #[must_use]
    #[inline]
    pub fn ttl(&self, service: &Service, live: &Live) -> u32 {
        match self.is_unsettled(service, live) {
            true => self.zone.settings().lowered(service.ttl),
            false => service.ttl,
        }
    }

    /// Whether a shard of a service may change soon, or the cluster that it is in.
    #[must_use]
    #[inline]
    pub fn is_unsettled(&self, service: &Service, live: &Live) -> bool {
        live.is_unsettled() || service.meets(&self.unsettled)
    }

    /// When time alone changes an answer, Unix time in seconds: at this time it has to be built
    /// anew.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let wholes = self.wholes.iter().filter_map(|whole| whole.until);
        wholes.chain(self.timing.deadlines.values().copied()).min()
    }

    /// The hashes of the services that were made anew since an earlier snapshot; the shards of all
    /// others are judged as they were. The work grows with their number.
    pub fn rebuilt_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = u64> + 'a {
        let (old, new) = (earlier.zone.services(), self.zone.services());
        let same = |a: &ServiceEntry<Live>, b: &ServiceEntry<Live>| a.is(b);
        new.changed(old).flat_map(move |i| differing(old.bucket(i), new.bucket(i), same))
    }

    /// How the server names itself.
    #[must_use]
    #[inline]
    pub fn identity(&self) -> &Identity {
        &self.inputs.federation.identity
    }

    /// RDATA of the zone's SOA record.
    #[must_use]
    pub fn soa(&self) -> &[u8] {
        &self.soa
    }

    /// The SOA record of negative answers, but for its owner.
    #[must_use]
    #[inline]
    pub fn negative(&self) -> &[u8] {
        &self.negative
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
    /// [`NotLocal`]: their names lead elsewhere.
    pub fn local(&self, service: &Service) -> Result<&Internal, NotLocal> {
        let home = self.zone.internal().and_then(|zone| zone.home()).ok_or(NotLocal::NoCluster)?;
        let entry = self.inputs.shard(home, &service.key);
        let evidence = entry.map(|entry| self.inputs.evidence(home, entry));
        let forced_up = evidence.is_some_and(|e| e.force.is_some_and(|f| f.to == Forced::Up));
        if !self.up.contains(home) && !forced_up {
            return Err(NotLocal::ClusterOut);
        }
        let (entry, evidence) = entry.zip(evidence).ok_or(NotLocal::NotExported)?;
        let health = &self.inputs.federation.health;
        evidence.judge_internal(health, self.inputs.now).map_err(NotLocal::Excluded)?;
        // What is judged fit has addresses.
        entry.shard.internal().ok_or(NotLocal::Excluded(Exclusion::NoAddress))
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
        for Placement { wanted: (set, shape), services: count, .. } in self.placements.iter() {
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
