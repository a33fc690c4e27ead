//! What a snapshot is built from.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::geo::{Atlas, Compiled, NetworkRule};
use crate::health::{self, Exclusion, Opinions, Standing};
use crate::model::{ClusterId, ClusterView, Member, Report, ShardEntry, Topology};
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
    /// Address space to places.
    pub atlas: Arc<Atlas>,
    /// Geographic tables compiled beforehand; used where they are of this `atlas` and of the
    /// clusters' present places.
    pub compiled: Option<Arc<Compiled>>,
    /// Unix time, seconds.
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

    /// Judges the shard `entry` of a cluster by itself, the cluster as a whole aside.
    ///
    /// # Errors
    /// The first reason for which it is not served.
    pub fn assess(&self, id: ClusterId, entry: &ShardEntry) -> Result<(), Exclusion> {
        let cluster = &self.federation.members[id.index()].name;
        let opinion = self.opinions.get(&entry.key, cluster);
        health::assess(&entry.shard, opinion, &self.federation.health)
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
