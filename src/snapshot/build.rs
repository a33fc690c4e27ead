//! Building a snapshot on top of the one before it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::extent::{self, Extent, extents};
use super::location::{self, reports};
use super::work::{HashOne, Work};
use super::{Inputs, Live, Snapshot};
use crate::geo::{Compiled, Geography, PodNetworks, Site};
use crate::health::{Assessment, Exclusion};
use crate::model::{BUCKETS, ClusterId, ClusterSet, ClusterView, Report};
use crate::wire::number::{class, rtype};
use crate::zone::{self, INTERNAL_TTL, InternalZone, Zone};

/// Builds the snapshot of `inputs`. What `previous` was built from and is still the same is taken
/// over: the work grows with what changed.
#[must_use]
pub fn build(previous: Option<&Snapshot>, inputs: Inputs) -> Snapshot {
    let sites = sites(previous, &inputs);
    let geography = geography(previous, &inputs, &sites);
    let wholes = inputs.assess_clusters();
    let up = clusters(&wholes, |whole| whole.verdict.is_ok());
    let base = previous.filter(|p| same_structure(p, &inputs, &sites));
    let mut work = compile(previous, base, &inputs, &sites, &up);
    report(&mut work, base, &inputs, &sites, &geography);
    let unsettled = clusters(&wholes, |whole| whole.unsettled);
    let forced = |whole: &Whole| matches!(whole.verdict, Err(Exclusion::ClusterForced(_)));
    let unbarred = clusters(&wholes, |whole| !forced(whole));
    let digest = (work.digest, work.structure, &up, &unsettled, &unbarred).hash_one();
    let serial = serial(previous, digest, &inputs, &work.zone);
    let settings = work.zone.settings();
    let internal_soa = work.zone.internal().map(|_| soa(settings, serial, INTERNAL_TTL));
    let soa = soa(settings, serial, settings.negative_ttl);
    Snapshot {
        generation: previous.map_or(1, |p| p.generation + 1),
        serial,
        up,
        unsettled,
        unbarred,
        wholes,
        complete: inputs.complete(),
        digest,
        placements: work.settle_placements(),
        reports: work.reports,
        tallies: work.tallies,
        content_digest: work.digest,
        structure_digest: work.structure,
        timing: work.timing,
        negative: negative(work.zone.settings(), &soa),
        soa,
        internal_soa: internal_soa.unwrap_or_default(),
        zone: work.zone,
        geography,
        sites,
        inputs,
    }
}

/// How many buckets of services [`build`] would make anew something of on top of `previous`, or all of
/// them where that is not found at once, or what it makes anew grows with the federation otherwise.
#[must_use]
pub fn reach(previous: &Snapshot, inputs: &Inputs) -> usize {
    let sites = sites(Some(previous), inputs);
    if !same_structure(previous, inputs, &sites) || !same_pods(previous, inputs) {
        return BUCKETS;
    }
    let up = clusters(&inputs.assess_clusters(), |whole| whole.verdict.is_ok());
    extent::reach(previous, inputs, &up)
}

/// Brings up to date on top of `base`, or makes from nothing, what is kept by bucket.
fn compile(
    previous: Option<&Snapshot>,
    base: Option<&Snapshot>,
    inputs: &Inputs,
    sites: &[Site],
    up: &ClusterSet,
) -> Work {
    match base {
        Some(base) => {
            let mut work = Work::on(base);
            for (index, extent) in &extents(base, inputs, up) {
                work.rebuild((*index, extent), Some(&base.inputs), previous, inputs, up);
            }
            work
        }
        None => {
            let mut work = Work::from_scratch(inputs, sites);
            for index in 0..BUCKETS {
                work.rebuild((index, &Extent::Whole), None, previous, inputs, up);
            }
            work
        }
    }
}

/// Brings the reports up to date that are not of services.
fn report(
    work: &mut Work,
    base: Option<&Snapshot>,
    inputs: &Inputs,
    sites: &[Site],
    geography: &Geography,
) {
    let same_federation =
        base.filter(|base| Arc::ptr_eq(&base.inputs.federation, &inputs.federation));
    let same_places = same_federation.is_some_and(|base| {
        Arc::ptr_eq(&base.inputs.atlas, &inputs.atlas)
            && Arc::ptr_eq(&base.geography.conflicts, &geography.conflicts)
    });
    if !same_places {
        work.reports.places = reports(inputs, sites, geography).into();
    }
    if same_federation.is_none_or(|base| !Arc::ptr_eq(&base.inputs.overrides, &inputs.overrides)) {
        work.reports.overrides = inputs.overrides.strays(&inputs.federation.members).collect();
    }
    work.reports.federation = name_collision(&work.zone);
}

/// What became of a cluster as a whole.
type Whole = Assessment<Result<(), Exclusion>>;

fn clusters(wholes: &[Whole], are: impl Fn(&Whole) -> bool) -> ClusterSet {
    let those = wholes.iter().enumerate().filter(|(_, whole)| are(whole));
    those.map(|(index, _)| ClusterId::new(index)).collect()
}

/// Whether configuration and places are those that `previous` was compiled for, as far as services
/// depend on them, so that its unchanged buckets hold. They do not where the clock was set back:
/// what had ended may not have.
fn same_structure(previous: &Snapshot, inputs: &Inputs, sites: &Arc<[Site]>) -> bool {
    let (old, new) = (&previous.inputs.federation, &inputs.federation);
    // Of the clusters, their names, order and places count, which `sites` tells; the rest of a
    // member counts for its cluster as a whole.
    let same = || *old.zone == *new.zone && old.health.judges_like(&new.health);
    (Arc::ptr_eq(old, new) || same())
        && (Arc::ptr_eq(&previous.sites, sites) || previous.sites == *sites)
        && previous.inputs.now <= inputs.now
}

/// Where clusters are, as names and distances see it.
fn sites(previous: Option<&Snapshot>, inputs: &Inputs) -> Arc<[Site]> {
    let topologies = |view: &Option<Arc<ClusterView>>| view.as_ref().map(|v| v.topologies.clone());
    let same = previous.filter(|p| {
        let views = p.inputs.views.iter().zip(&inputs.views);
        Arc::ptr_eq(&p.inputs.federation, &inputs.federation)
            && views.into_iter().all(|(a, b)| match (topologies(a), topologies(b)) {
                (Some(a), Some(b)) => Arc::ptr_eq(&a, &b),
                (a, b) => a.is_none() && b.is_none(),
            })
    });
    same.map_or_else(|| location::sites(inputs).into(), |previous| previous.sites.clone())
}

/// Tables, and pod networks of the present nodes.
fn geography(previous: Option<&Snapshot>, inputs: &Inputs, sites: &[Site]) -> Geography {
    let compiled = compiled(previous, inputs, sites);
    let (pods, conflicts) = match previous.filter(|previous| same_pods(previous, inputs)) {
        Some(previous) => (previous.geography.pods.clone(), previous.geography.conflicts.clone()),
        None => {
            let networks = inputs.read_views().map(|(id, view)| (id, &*view.pod_networks));
            let (pods, conflicts) = PodNetworks::build(networks, &inputs.federation.networks);
            (Arc::new(pods), conflicts.into())
        }
    };
    Geography { compiled, pods, conflicts }
}

/// Whether what places pods is what it was for `previous`.
fn same_pods(previous: &Snapshot, inputs: &Inputs) -> bool {
    let (old, new) = (&previous.inputs.federation, &inputs.federation);
    let views = (&previous.inputs.views, &inputs.views);
    (Arc::ptr_eq(old, new) || old.networks == new.networks)
        && views.0.len() == views.1.len()
        && views.0.iter().zip(views.1).all(|(a, b)| pods_of(a) == pods_of(b))
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

/// As pointers, of which equal ones are not looked into.
fn pods_of(view: &Option<Arc<ClusterView>>) -> Option<&Arc<BTreeSet<ipnet::IpNet>>> {
    view.as_ref().map(|view| &view.pod_networks)
}

/// A namespace of the federation's name: "`S.N.myns.svc.cluster.local` produced by the search path
/// for pod namespace `myns` is taken for a federation query" by resolvers in the clusters.
fn name_collision(zone: &Zone<Live>) -> Option<Report> {
    let federation = &zone.settings().federation;
    zone.has_namespace(federation).then(|| Report {
        subject: format!("federation {federation}").into(),
        reason: "has the name of a namespace with federated services: short names of its pods are \
                 ambiguous in the clusters; rename either"
            .into(),
    })
}

/// `max(previous + 1, unix time)` at every published change and at no other time: what does not
/// change the digest changes no record. Serial arithmetic (RFC 1982) makes the
/// wrap in 2106 an increase like any other.
fn serial(previous: Option<&Snapshot>, digest: u64, inputs: &Inputs, zone: &Zone<Live>) -> u32 {
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

/// The SOA record of negative answers behind its owner (RFC 1035 §4.1.3): its TTL is theirs.
fn negative(settings: &zone::Settings, soa: &[u8]) -> Box<[u8]> {
    let [t0, t1] = rtype::SOA.to_be_bytes();
    let [c0, c1] = class::IN.to_be_bytes();
    // Two names and five numbers.
    let len = soa.len() as u16;
    let fixed: [&[u8]; 4] =
        [&[t0, t1, c0, c1], &settings.negative_ttl.to_be_bytes(), &len.to_be_bytes(), soa];
    fixed.concat().into()
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
