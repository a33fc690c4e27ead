//! What a snapshot is built from.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::geo::{Atlas, Compiled, NetworkRule};
use crate::health::overrides::Overrides;
use crate::health::{
    self, Assessment, ClusterEvidence, Evidence, Exclusion, Opinions, Phases, Standing, Verdict,
};
use crate::model::{ClusterId, ClusterView, Member, Report, ServiceKey, ShardEntry, Topology};
use crate::zone;

/// How this server names itself to those who ask, and its UDP limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Answer to CH TXT `version.bind` and `version.server`; refused where `None`.
    pub version: Option<String>,
    /// Answer to CH TXT `id.server` and `hostname.bind`; refused where `None`.
    pub id: Option<String>,
    /// NSID (RFC 5001), sent where asked for.
    pub nsid: Option<Box<[u8]>>,
    /// The largest UDP reply and the EDNS buffer size announced, octets (512 to 4096).
    pub udp_payload: u16,
}

/// The part of the configuration that answers depend on; a reload replaces it whole.
#[derive(Debug)]
pub struct Federation {
    /// The zone.
    pub zone: Arc<zone::Settings>,
    /// Thresholds.
    pub health: health::Settings,
    /// The operator's networks.
    pub networks: Vec<NetworkRule>,
    /// How the server names itself.
    pub identity: Identity,
    /// Registered clusters, by id.
    pub members: Vec<Member>,
    /// Whether those are all.
    pub membership: Membership,
    /// What cannot be used of what registers clusters.
    pub reports: BTreeSet<Report>,
}

/// Whether all clusters of the federation are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    /// They are.
    #[default]
    Known,
    /// The home cluster, which registers some, has not been read yet.
    Awaited,
}

/// Everything that a snapshot is built from. What did not change is the same pointer as before.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Configuration.
    pub federation: Arc<Federation>,
    /// What each cluster says, by id; `None` until its source has been read.
    pub views: Vec<Option<Arc<ClusterView>>>,
    /// What is known of each cluster as a whole, by id. Only the states matter to answers: reasons
    /// are those of the moment when the state was last built from.
    pub standings: Vec<Standing>,
    /// What is seen of single shards from outside of their clusters.
    pub opinions: Opinions,
    /// The overrides file.
    pub overrides: Arc<Overrides>,
    /// How far drains are, and which loads are over their limit.
    pub phases: Phases,
    /// Address space to places.
    pub atlas: Arc<Atlas>,
    /// Geographic tables compiled beforehand; used where they are of this `atlas` and of the
    /// clusters' present places.
    pub compiled: Option<Arc<Compiled>>,
    /// Unix time, seconds, by which ends of overrides and drains are told.
    pub now: u64,
}

impl Inputs {
    /// Whether there is a view of every cluster.
    #[must_use]
    pub fn all_read(&self) -> bool {
        self.federation.membership == Membership::Known && self.views.iter().all(Option::is_some)
    }

    /// Whether every source has been read, and the whole of it, so that what is absent does not
    /// exist.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.all_read() && self.views.iter().flatten().all(|view| !view.partial)
    }

    /// What is known of the shard `entry` of a cluster.
    #[must_use]
    pub fn evidence<'a>(&'a self, id: ClusterId, entry: &'a ShardEntry) -> Evidence<'a> {
        let cluster = &self.federation.members[id.index()].name;
        let own = entry.shard.options().and_then(|options| options.force.as_ref());
        Evidence {
            shard: &entry.shard,
            opinion: self.opinions.get(&entry.key, cluster),
            phase: self.phases.shards.get(&entry.key, cluster),
            force: self.overrides.in_force(&entry.key, cluster, own, self.now),
        }
    }

    /// Judges the shard `entry` of a cluster by itself, the cluster as a whole aside.
    #[must_use]
    pub fn assess(&self, id: ClusterId, entry: &ShardEntry) -> Assessment<Verdict> {
        self.evidence(id, entry).assess(&self.federation.health, self.now)
    }

    /// What is known of a cluster as a whole.
    #[must_use]
    pub fn cluster_evidence(&self, id: ClusterId) -> ClusterEvidence<'_> {
        let member = &self.federation.members[id.index()];
        let own = || member.force.as_ref().filter(|force| force.in_force(self.now));
        ClusterEvidence {
            member,
            state: self.standings[id.index()].state,
            leaving: self.phases.clusters.get(&member.name).copied(),
            force: self.overrides.of_cluster(&member.name, self.now).or_else(own),
        }
    }

    /// Judges every cluster as a whole, by id.
    pub(super) fn assess_clusters(&self) -> Vec<Assessment<Result<(), Exclusion>>> {
        let ids = (0..self.federation.members.len()).map(ClusterId::new);
        ids.map(|id| self.cluster_evidence(id).assess(self.now)).collect()
    }

    /// The shard of a service in a cluster.
    #[must_use]
    pub fn shard(&self, id: ClusterId, key: &ServiceKey) -> Option<&ShardEntry> {
        let view = self.views[id.index()].as_ref()?;
        view.shards.find(key.hash()).find(|entry| entry.key == *key)
    }

    /// The clusters' views, by id.
    pub fn read_views(&self) -> impl Iterator<Item = (ClusterId, &Arc<ClusterView>)> {
        let views = self.views.iter().enumerate();
        views.filter_map(|(index, view)| Some((ClusterId::new(index), view.as_ref()?)))
    }

    /// The shards of one bucket in every cluster that has been read.
    pub(super) fn shards(&self, bucket: usize) -> impl Iterator<Item = (ClusterId, &ShardEntry)> {
        let views = self.read_views();
        views.flat_map(move |(id, view)| view.shards.bucket(bucket).iter().map(move |e| (id, e)))
    }
}

/// Where a cluster is: as configured, else as its nodes' labels say. A configured region without
/// zones takes those zones that the nodes report in it.
#[must_use]
pub fn places(member: &Member, view: Option<&ClusterView>) -> BTreeSet<Topology> {
    let seen = view.map(|view| &*view.topologies);
    let Some(region) = &member.region else { return seen.cloned().unwrap_or_default() };
    let mut places = BTreeSet::from([Topology { region: region.clone(), zone: None }]);
    if member.zones.is_empty() {
        places.extend(seen.into_iter().flatten().filter(|t| t.region == *region).cloned());
    } else {
        let zones = member.zones.iter().cloned();
        places.extend(zones.map(|zone| Topology { region: region.clone(), zone: Some(zone) }));
    }
    places
}
