//! Building a snapshot on top of the one before it.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::location::{reports, sites};
use super::state::{Placements, Reports, Timing, tables};
use super::{Inputs, Live, Snapshot, Tally};
use crate::geo::{Compiled, Geography, PodNetworks, Site};
use crate::health::overrides::Rule;
use crate::health::{Assessment, Exclusion, first};
use crate::model::{BUCKETS, Buckets, ClusterId, ClusterSet, ClusterView, Report};
use crate::wire::number::{class, rtype};
use crate::zone::{self, INTERNAL_TTL, InternalZone, Service, Zone};

/// Builds the snapshot of `inputs`. What `previous` was built from and is still the same is taken
/// over: the work grows with what changed.
#[must_use]
pub fn build(previous: Option<&Snapshot>, inputs: Inputs) -> Snapshot {
    let sites = sites(&inputs);
    let geography = geography(previous, &inputs, &sites);
    let wholes = inputs.assess_clusters();
    let up = clusters(&wholes, |whole| whole.verdict.is_ok());
    let base = previous.filter(|p| same_structure(p, &inputs, &sites));
    let mut work = match base {
        Some(previous) => Work::on(previous),
        None => Work::from_scratch(&inputs, &sites),
    };
    let changes = base.map(|base| Changes::between(base, &inputs, &up));
    for index in 0..BUCKETS {
        if changes.as_ref().is_none_or(|changes| changes.touch(index)) {
            work.tally(index, base.map(|p| &p.inputs), &inputs);
            work.rebuild(index, previous, &inputs, &up);
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
    work.reports.overrides = inputs.overrides.strays(&inputs.federation.members).collect();
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
        reports: work.reports,
        tallies: work.tallies,
        content_digest: work.digest,
        structure_digest: work.structure,
        live: work.live,
        placements: work.placements,
        timing: work.timing,
        negative: negative(settings, &soa),
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

/// What became of a cluster as a whole.
type Whole = Assessment<Result<(), Exclusion>>;

fn clusters(wholes: &[Whole], are: impl Fn(&Whole) -> bool) -> ClusterSet {
    let those = wholes.iter().enumerate().filter(|(_, whole)| are(whole));
    those.map(|(index, _)| ClusterId::new(index)).collect()
}

/// Whether configuration and places are those that `previous` was compiled for, so that its
/// unchanged buckets hold. They do not where the clock was set back: what had ended may not have.
fn same_structure(previous: &Snapshot, inputs: &Inputs, sites: &[Site]) -> bool {
    Arc::ptr_eq(&previous.inputs.federation, &inputs.federation)
        && *previous.sites == *sites
        && previous.inputs.now <= inputs.now
}

/// What differs between a snapshot and the inputs of the next one.
struct Changes<'a> {
    previous: &'a Snapshot,
    inputs: &'a Inputs,
    /// Overrides of shards that came, went or changed.
    rules: Vec<&'a Rule>,
    other_up: bool,
    /// Clusters that the overrides file began or ceased to take out: there an annotation's `up`
    /// ceases or begins to count.
    other_out: ClusterSet,
}

impl<'a> Changes<'a> {
    fn between(previous: &'a Snapshot, inputs: &'a Inputs, up: &ClusterSet) -> Self {
        let (old, new) = (&previous.inputs.overrides, &inputs.overrides);
        let rules = if Arc::ptr_eq(old, new) { Vec::new() } else { old.changed(new) };
        let members = inputs.federation.members.iter().enumerate();
        let other_out = members.filter(|(_, member)| {
            let out = |inputs: &Inputs| inputs.overrides.takes_out(&member.name, inputs.now);
            out(&previous.inputs) != out(inputs)
        });
        let other_out = other_out.map(|(index, _)| ClusterId::new(index)).collect();
        Self { previous, inputs, rules, other_up: previous.up != *up, other_out }
    }

    /// Whether a bucket is to be built anew.
    fn touch(&self, index: usize) -> bool {
        let Timing { deadlines, exceptional } = &self.previous.timing;
        bucket_changed(self.previous, self.inputs, index)
            || deadlines.get(&index).is_some_and(|deadline| *deadline <= self.inputs.now)
            || (self.other_up && exceptional.contains(&index))
            || (!self.rules.is_empty() && self.ruled(index))
            || (!self.other_out.is_empty() && self.lifted(index))
    }

    /// Whether an override that changed is about a service in a bucket.
    fn ruled(&self, index: usize) -> bool {
        // Had its shards changed, it would be built anew for that.
        let mut shards = self.inputs.shards(index);
        shards.any(|(_, entry)| self.rules.iter().any(|rule| rule.is_about(&entry.key)))
    }

    /// Whether an annotation speaks for a shard of a bucket in a cluster that the file took out, or
    /// takes out no more.
    fn lifted(&self, index: usize) -> bool {
        let mut shards = self.inputs.shards(index);
        shards.any(|(id, entry)| {
            self.other_out.contains(id)
                && entry.shard.options().is_some_and(|options| options.force.is_some())
        })
    }
}

fn bucket_changed(previous: &Snapshot, inputs: &Inputs, index: usize) -> bool {
    if !previous.inputs.opinions.same(&inputs.opinions, index)
        || !previous.inputs.phases.shards.same(&inputs.phases.shards, index)
    {
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

/// As pointers, of which equal ones are not looked into.
fn pods_of(view: &Option<Arc<ClusterView>>) -> Option<&Arc<BTreeSet<ipnet::IpNet>>> {
    view.as_ref().map(|view| &view.pod_networks)
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
    timing: Timing,
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
            timing: previous.timing.clone(),
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
        let (placements, timing) = (Placements::default(), Timing::default());
        Self { zone, live, placements, digest: 0, structure, reports, tallies, timing }
    }

    fn rebuild(
        &mut self,
        index: usize,
        previous: Option<&Snapshot>,
        inputs: &Inputs,
        up: &ClusterSet,
    ) {
        self.uncount(index);
        let shards = inputs.read_views().map(|(id, view)| (id, view.shards.bucket(index)));
        let reports = self.zone.rebuild_bucket(index, shards);
        if reports.is_empty() {
            self.reports.by_bucket.remove(&index);
        } else {
            self.reports.by_bucket.insert(index, reports);
        }
        let services = self.zone.services().bucket(index).iter();
        let (live, untils): (Vec<Live>, Vec<Option<u64>>) =
            services.map(|e| Live::judge(&e.service, previous, inputs, up)).unzip();
        let Timing { deadlines, exceptional } = &mut self.timing;
        match untils.into_iter().fold(None, first) {
            Some(deadline) => deadlines.insert(index, deadline),
            None => deadlines.remove(&index),
        };
        match live.iter().any(|live| live.exception.is_some()) {
            true => exceptional.insert(index),
            false => exceptional.remove(&index),
        };
        self.live.replace(index, live);
        self.count(index);
    }

    /// Brings the counts of shards by state up to what a bucket holds now.
    fn tally(&mut self, index: usize, before: Option<&Inputs>, now: &Inputs) {
        if let Some(before) = before {
            for (id, entry) in before.shards(index) {
                *self.tallies[id.index()].of(&before.assess(id, entry).verdict) -= 1;
            }
        }
        for (id, entry) in now.shards(index) {
            *self.tallies[id.index()].of(&now.assess(id, entry).verdict) += 1;
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
            self.digest = self.digest.wrapping_add(part(&entry.service, live));
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
            self.digest = self.digest.wrapping_sub(part(&entry.service, live));
        }
    }
}

/// A service's part of the digest.
fn part(service: &Service, live: &Live) -> u64 {
    (service.digest(), &live.served, &live.exception, live.unsettled).hash_one()
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

/// `max(previous + 1, unix time)` at every published change and at no other time: what does not
/// change the digest changes no record. Serial arithmetic (RFC 1982) makes the
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
