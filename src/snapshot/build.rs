//! Building a snapshot on top of the one before it.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::location::{reports, sites};
use super::state::{Placements, Reports, Tally, tables};
use super::{Inputs, Live, Snapshot};
use crate::geo::{Compiled, Geography, PodNetworks, Site};
use crate::health;
use crate::model::{BUCKETS, Buckets, ClusterId, ClusterView, Report};
use crate::zone::{self, INTERNAL_TTL, InternalZone, Service, Zone};

/// Builds the snapshot of `inputs`. What `previous` was built from and is still the same is taken
/// over: the work grows with what changed.
#[must_use]
pub fn build(previous: Option<&Snapshot>, inputs: Inputs) -> Snapshot {
    let sites = sites(&inputs);
    let geography = geography(previous, &inputs, &sites);
    let base = previous.filter(|p| same_structure(p, &inputs, &sites));
    let mut work = match base {
        Some(previous) => Work::on(previous),
        None => Work::from_scratch(&inputs, &sites),
    };
    for index in 0..BUCKETS {
        if base.is_none_or(|p| bucket_changed(p, &inputs, index)) {
            work.tally(index, base.map(|p| &p.inputs), &inputs);
            work.rebuild(index, previous, &inputs);
        }
    }
    let same_places = base.is_some_and(|p| {
        Arc::ptr_eq(&p.inputs.atlas, &inputs.atlas)
            && Arc::ptr_eq(&p.geography.conflicts, &geography.conflicts)
    });
    if !same_places {
        work.reports.places = reports(&inputs, &sites, &geography);
    }
    work.reports.federation = name_collision(&work.zone);
    let up = health::up(&inputs.federation.members, &inputs.standings);
    let digest = (work.digest, work.structure, &up).hash_one();
    let serial = serial(previous, digest, &inputs, &work.zone);
    let settings = work.zone.settings();
    let internal_soa = work.zone.internal().map(|_| soa(settings, serial, INTERNAL_TTL));
    let soa = soa(settings, serial, settings.negative_ttl);
    Snapshot {
        generation: previous.map_or(1, |p| p.generation + 1),
        serial,
        up,
        complete: inputs.complete(),
        digest,
        reports: work.reports,
        tallies: work.tallies,
        content_digest: work.digest,
        structure_digest: work.structure,
        live: work.live,
        placements: work.placements,
        soa,
        internal_soa: internal_soa.unwrap_or_default(),
        zone: work.zone,
        geography,
        sites: sites.into(),
        inputs,
    }
}

/// Hashes by one fixed seed, the same on every replica.
trait HashOne: Hash {
    fn hash_one(&self) -> u64 {
        FixedState::with_seed(0).hash_one(self)
    }
}

impl<T: Hash + ?Sized> HashOne for T {}

/// Whether configuration and places are those that `previous` was compiled for, so that its
/// unchanged buckets hold.
fn same_structure(previous: &Snapshot, inputs: &Inputs, sites: &[Site]) -> bool {
    Arc::ptr_eq(&previous.inputs.federation, &inputs.federation) && *previous.sites == *sites
}

fn bucket_changed(previous: &Snapshot, inputs: &Inputs, index: usize) -> bool {
    if !previous.inputs.opinions.same(&inputs.opinions, index) {
        return true;
    }
    let views = previous.inputs.views.iter().zip(&inputs.views);
    views.into_iter().any(|(old, new)| match (old, new) {
        (Some(old), Some(new)) => !Arc::ptr_eq(old, new) && !old.shards.same(&new.shards, index),
        (None, Some(view)) | (Some(view), None) => !view.shards.bucket(index).is_empty(),
        (None, None) => false,
    })
}

/// Tables, and pod networks of the present nodes.
fn geography(previous: Option<&Snapshot>, inputs: &Inputs, sites: &[Site]) -> Geography {
    let compiled = compiled(previous, inputs, sites);
    let same_pods = previous.filter(|p| {
        Arc::ptr_eq(&p.inputs.federation, &inputs.federation)
            && p.inputs.views.len() == inputs.views.len()
            && p.inputs.views.iter().zip(&inputs.views).all(|(a, b)| pods_of(a) == pods_of(b))
    });
    let (pods, conflicts) = match same_pods {
        Some(previous) => (previous.geography.pods.clone(), previous.geography.conflicts.clone()),
        None => {
            let networks = inputs.read_views().map(|(id, view)| (id, &*view.pod_networks));
            let (pods, conflicts) = PodNetworks::build(networks, &inputs.federation.networks);
            (Arc::new(pods), conflicts.into())
        }
    };
    Geography { compiled, pods, conflicts }
}

/// The tables given beforehand or taken over, where they are of this atlas and these sites. Until
/// such are compiled, which is nothing to wait for here, those of the same clusters as they stood
/// before; for other clusters what can be said at once.
fn compiled(previous: Option<&Snapshot>, inputs: &Inputs, sites: &[Site]) -> Arc<Compiled> {
    let before = previous.map(|p| &p.geography.compiled);
    let fitting = inputs.compiled.iter().chain(before).find(|c| c.is_of(&inputs.atlas, sites));
    let valid = || before.filter(|c| c.has_clusters_of(sites));
    fitting.or_else(valid).cloned().unwrap_or_else(|| {
        let before = before.map(|compiled| &**compiled);
        Arc::new(Compiled::provisional(before, &inputs.atlas, sites.into()))
    })
}

fn pods_of(view: &Option<Arc<ClusterView>>) -> Option<&BTreeSet<ipnet::IpNet>> {
    view.as_ref().map(|view| &*view.pod_networks)
}

/// The parts that are kept by bucket, being brought up to date.
struct Work {
    zone: Zone,
    live: Buckets<Live>,
    placements: Placements,
    digest: u64,
    /// A hash of what is answered beside services: settings and locations.
    structure: u64,
    reports: Reports,
    tallies: Vec<Tally>,
}

impl Work {
    fn on(previous: &Snapshot) -> Self {
        Self {
            zone: previous.zone.clone(),
            live: previous.live.clone(),
            placements: previous.placements.clone(),
            digest: previous.content_digest,
            structure: previous.structure_digest,
            reports: previous.reports.clone(),
            tallies: previous.tallies.clone(),
        }
    }

    fn from_scratch(inputs: &Inputs, sites: &[Site]) -> Self {
        let clusters: Vec<_> =
            sites.iter().map(|site| (site.name.clone(), site.topologies.clone())).collect();
        let (zone, reports) = Zone::new(inputs.federation.zone.clone(), &clusters);
        let live = Buckets::default();
        let reports = Reports { structure: reports, ..Reports::default() };
        let tallies = vec![Tally::default(); sites.len()];
        // Settings are plain data, and their debug form tells all of them; so do the clusters'.
        let structure = (format!("{:?}", zone.settings()), format!("{clusters:?}")).hash_one();
        let placements = Placements::default();
        Self { zone, live, placements, digest: 0, structure, reports, tallies }
    }

    fn rebuild(&mut self, index: usize, previous: Option<&Snapshot>, inputs: &Inputs) {
        self.uncount(index);
        let shards = inputs.read_views().map(|(id, view)| (id, view.shards.bucket(index)));
        let reports = self.zone.rebuild_bucket(index, shards);
        if reports.is_empty() {
            self.reports.by_bucket.remove(&index);
        } else {
            self.reports.by_bucket.insert(index, reports);
        }
        let services = self.zone.services().bucket(index).iter();
        let live = services.map(|e| judge(&e.service, previous, inputs)).collect();
        self.live.replace(index, live);
        self.count(index);
    }

    /// Brings the counts of shards by state up to what a bucket holds now.
    fn tally(&mut self, index: usize, before: Option<&Inputs>, now: &Inputs) {
        if let Some(before) = before {
            for (id, entry) in before.shards(index) {
                *self.tallies[id.index()].of(&before.assess(id, entry)) -= 1;
            }
        }
        for (id, entry) in now.shards(index) {
            *self.tallies[id.index()].of(&now.assess(id, entry)) += 1;
        }
    }

    fn count(&mut self, index: usize) {
        let live = self.live.bucket(index);
        let most = self.zone.settings().max_addresses;
        for (entry, live) in self.zone.services().bucket(index).iter().zip(live) {
            for wanted in tables(&entry.service, live, most) {
                *self.placements.entry(wanted).or_default() += 1;
            }
            // A sum does not depend on the order in which services came.
            let part = (entry.service.digest(), &live.served).hash_one();
            self.digest = self.digest.wrapping_add(part);
        }
    }

    fn uncount(&mut self, index: usize) {
        let live = self.live.bucket(index);
        let most = self.zone.settings().max_addresses;
        for (entry, live) in self.zone.services().bucket(index).iter().zip(live) {
            for wanted in tables(&entry.service, live, most) {
                if let Some(count) = self.placements.get_mut(&wanted) {
                    *count -= 1;
                    if *count == 0 {
                        self.placements.remove(&wanted);
                    }
                }
            }
            let part = (entry.service.digest(), &live.served).hash_one();
            self.digest = self.digest.wrapping_sub(part);
        }
    }
}

/// What the clusters' views say of the health of one service's shards. A shard that was not healthy
/// before is so since then.
fn judge(service: &Service, previous: Option<&Snapshot>, inputs: &Inputs) -> Live {
    let hash = service.key.hash();
    let healthy = |id: &ClusterId| {
        let view = inputs.views[id.index()].as_ref();
        let entry = view.and_then(|v| v.shards.find(hash).find(|e| e.key == service.key));
        entry.is_some_and(|e| inputs.assess(*id, e).is_ok())
    };
    let before = previous.and_then(|p| Some((p, p.zone.service(service.key.wire())?.1)));
    let since = |id: ClusterId| {
        let (previous, position) = before?;
        // Ids are places in the registry, which a new configuration may have moved.
        let same =
            |p: &Snapshot| p.inputs.federation.members.get(id.index()).map(|m| m.name.clone());
        let known = same(previous) == Some(inputs.federation.members[id.index()].name.clone());
        previous.live(position).unserved_since(id).filter(|_| known)
    };
    let unserved = service.clusters.iter().filter(|id| !healthy(id));
    Live {
        served: service.clusters.iter().filter(healthy).collect(),
        unserved: unserved.map(|id| (id, since(id).unwrap_or(inputs.now))).collect(),
    }
}

/// A namespace of the federation's name: "`S.N.myns.svc.cluster.local` produced by the search path
/// for pod namespace `myns` is taken for a federation query" by resolvers in the clusters.
fn name_collision(zone: &Zone) -> Option<Report> {
    let federation = &zone.settings().federation;
    zone.has_namespace(federation).then(|| Report {
        subject: format!("federation {federation}").into(),
        reason: "has the name of a namespace with federated services: short names of its pods are \
                 ambiguous in the clusters; rename either"
            .into(),
    })
}

/// "max(previous + 1, unix time) at every published change and at no other time" (DESIGN §2 rule
/// 6): what does not change the digest changes no record. Serial arithmetic (RFC 1982) makes the
/// wrap in 2106 an increase like any other.
fn serial(previous: Option<&Snapshot>, digest: u64, inputs: &Inputs, zone: &Zone) -> u32 {
    let now = inputs.now as u32;
    let Some(previous) = previous else { return now };
    // Cluster-internal addresses are no part of what replicas in other clusters answer.
    let home = zone.internal().and_then(InternalZone::home);
    let same_home = home.is_none_or(|id| {
        let of = |inputs: &Inputs| inputs.views.get(id.index()).cloned().flatten();
        match (of(&previous.inputs), of(inputs)) {
            (Some(before), Some(now)) => Arc::ptr_eq(&before, &now),
            (before, now) => before.is_none() && now.is_none(),
        }
    });
    if previous.digest == digest && same_home {
        previous.serial
    } else {
        now.max(previous.serial.wrapping_add(1))
    }
}

/// SOA RDATA (RFC 1035 §3.3.13). MINIMUM is the TTL of negative answers (RFC 2308 §4).
fn soa(settings: &zone::Settings, serial: u32, minimum: u32) -> Box<[u8]> {
    let primary = settings.nameservers.first().map_or(&settings.domain, |server| &server.name);
    let mut rdata = [primary.wire(), settings.soa.rname.wire()].concat();
    let soa = &settings.soa;
    for number in [serial, soa.refresh, soa.retry, soa.expire, minimum] {
        rdata.extend_from_slice(&number.to_be_bytes());
    }
    rdata.into()
}
