//! Services with their slices.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::hosts::Hosts;
use super::pods::Pods;
use super::ports::Interner;
use super::reports::Reports;
use crate::cluster::narrow::{
    EndpointMark, ExportedService, FederateLabel, NarrowService, NarrowSlice, ObjectId, Readiness,
    Rules,
};
use crate::model::{Endpoints, Internal, Refusal, Report, ServiceKey, Shard, ShardEntry};

/// The Services and EndpointSlices of one cluster.
///
/// Laid out for memory: what most services share costs them nothing. The shard is the one that
/// the view holds; what cannot be told from it is in [`Rest`], which most services do without.
#[derive(Debug)]
pub(super) struct Services {
    rules: Arc<Rules>,
    groups: HashMap<ObjectId, Box<Group>, RandomState>,
    /// The service that each slice belongs to.
    slices: HashMap<ObjectId, ObjectId, RandomState>,
    pods: Pods,
    /// Exported services whose names were changed to make a key, by key and name.
    renamed: HashMap<ServiceKey, BTreeMap<Box<str>, ObjectId>>,
    ports: Interner,
}

/// A Service and its slices, either of which may come first.
#[derive(Debug, Default)]
struct Group {
    exported: Option<Exported>,
    slices: SmallVec<[Slice; 1]>,
    rest: Option<Box<Rest>>,
}

/// A Service that is federated.
#[derive(Debug)]
struct Exported {
    key: ServiceKey,
    shard: Arc<Shard>,
}

/// An EndpointSlice. Two endpoints fit without an allocation.
#[derive(Debug)]
struct Slice {
    id: ObjectId,
    endpoints: SmallVec<[EndpointMark; 2]>,
    federate: FederateLabel,
}

/// What only some services have.
#[derive(Debug, Default)]
struct Rest {
    /// `namespace/name` as written, where the Service is known.
    name: Box<str>,
    /// Where it has host names: what the Service itself has.
    own: Option<Own>,
    readiness: Readiness,
    reasons: Vec<Box<str>>,
    /// The reports that stand in the view.
    shown: BTreeSet<Report>,
}

/// The part of a shard that resolved addresses are added to.
#[derive(Clone, Debug)]
struct Own {
    addresses: Box<[IpAddr]>,
    refused: Box<[Refusal]>,
}

impl Services {
    /// No services yet.
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            groups: HashMap::default(),
            slices: HashMap::default(),
            pods: Pods::default(),
            renamed: HashMap::new(),
            ports: Interner::default(),
        }
    }

    /// The Services that are known; those that only have slices are not.
    pub(super) fn service_ids(&self) -> impl Iterator<Item = ObjectId> {
        let known = |group: &Group| group.exported.is_some() || group.rest.is_some();
        self.groups.iter().filter(move |(_, group)| known(group)).map(|(id, _)| *id)
    }

    /// The EndpointSlices that are known.
    pub(super) fn slice_ids(&self) -> impl Iterator<Item = ObjectId> {
        self.slices.keys().copied()
    }

    /// All shards to be shown.
    pub(super) fn entries(&self) -> impl Iterator<Item = ShardEntry> {
        self.groups.iter().filter_map(|(id, group)| {
            let Exported { key, shard } = group.exported.as_ref()?;
            (self.winner(key) == Some(*id)).then(|| ShardEntry::new(key.clone(), shard.clone()))
        })
    }

    /// The shard of one Service, with its key.
    pub(super) fn shard(&self, id: ObjectId) -> Option<(&ServiceKey, &Arc<Shard>)> {
        let exported = self.groups.get(&id)?.exported.as_ref()?;
        Some((&exported.key, &exported.shard))
    }

    /// The Service of a slice.
    pub(super) fn service_of(&self, slice: ObjectId) -> Option<ObjectId> {
        self.slices.get(&slice).copied()
    }

    /// All slices of the Service that a slice belongs to.
    pub(super) fn siblings(&self, slice: ObjectId) -> impl Iterator<Item = ObjectId> {
        let service = self.service_of(slice);
        let group = service.and_then(|service| self.groups.get(&service));
        group.into_iter().flat_map(|group| group.slices.iter().map(|slice| slice.id))
    }

    /// A Service as it was put, where it is known.
    pub(super) fn narrowed(&self, id: ObjectId) -> Option<NarrowService> {
        let group = self.groups.get(&id)?;
        let rest = group.rest.as_deref();
        let export = group.exported.as_ref().map(|Exported { key, shard }| {
            let own = rest.and_then(|rest| rest.own.clone());
            let base =
                Shard { endpoints: Endpoints::default(), ttl_cap: None, ..(**shard).clone() };
            let shard = match own {
                Some(Own { addresses, refused }) => Shard { addresses, refused, ..base },
                None => base,
            };
            let readiness = rest.map(|rest| rest.readiness).unwrap_or_default();
            Box::new(ExportedService { key: key.clone(), shard, readiness })
        });
        let name = match (rest, &group.exported) {
            (Some(rest), _) => rest.name.clone(),
            (None, Some(exported)) => exported.key.to_string().into(),
            (None, None) => return None,
        };
        let reasons = rest.map(|rest| rest.reasons.clone()).unwrap_or_default();
        Some(NarrowService { id, name, export, reasons })
    }

    /// A slice as it was put, where it is known.
    pub(super) fn narrowed_slice(&self, id: ObjectId) -> Option<NarrowSlice> {
        let service = self.service_of(id)?;
        let slice = self.groups.get(&service)?.slices.iter().find(|slice| slice.id == id)?;
        let endpoints = slice.endpoints.to_vec().into();
        let pods = self.pods.of(id);
        Some(NarrowSlice { id, service: Some(service), endpoints, pods, federate: slice.federate })
    }

    /// Adds or changes a Service; returns the key to publish, where there is one.
    pub(super) fn put(&mut self, service: NarrowService, hosts: &mut Hosts) -> Option<ServiceKey> {
        let NarrowService { id, name, export, reasons } = service;
        let group = self.groups.entry(id).or_default();
        let before = group.exported.take();
        let fresh = export.as_ref().map_or(&[][..], |export| &export.shard.hostnames[..]);
        fresh.iter().for_each(|host| hosts.claim(host, id));
        for host in before.iter().flat_map(|before| &before.shard.hostnames) {
            if !fresh.contains(host) {
                hosts.release(host, id);
            }
        }
        let shown = group.rest.take().map(|rest| rest.shown).unwrap_or_default();
        let readiness = export.as_ref().map_or(Readiness::Conditions, |export| export.readiness);
        let own =
            export.as_ref().filter(|export| !export.shard.hostnames.is_empty()).map(|export| Own {
                addresses: export.shard.addresses.clone(),
                refused: export.shard.refused.clone(),
            });
        let plain = own.is_none() && readiness == Readiness::Conditions;
        if !(plain && reasons.is_empty() && shown.is_empty()) {
            let name = name.clone();
            group.rest = Some(Box::new(Rest { name, own, readiness, reasons, shown }));
        }
        let Some(export) = export else {
            self.drop_if_empty(id);
            let Exported { key, .. } = before?;
            self.forget_name(&key, &name);
            return Some(key);
        };
        let ExportedService { key, mut shard, .. } = *export;
        shard.ports = self.ports.intern(shard.ports);
        let shard = finish(shard, group, hosts, &self.pods, &self.rules);
        if *name != *key.to_string() {
            self.renamed.entry(key.clone()).or_default().insert(name, id);
        }
        match before {
            // Equal: keep what the view shares.
            Some(before) if *before.shard == shard => {
                group.exported = Some(before);
                None
            }
            before => {
                let key = before.map_or(key, |before| before.key);
                group.exported = Some(Exported { key: key.clone(), shard: Arc::new(shard) });
                Some(key)
            }
        }
    }

    /// Removes a Service; returns the key to publish, where there is one.
    pub(super) fn remove(
        &mut self,
        id: ObjectId,
        hosts: &mut Hosts,
        reports: &mut Reports,
        dirty: &mut bool,
    ) -> Option<ServiceKey> {
        let group = self.groups.get_mut(&id)?;
        let rest = group.rest.take().unwrap_or_default();
        *dirty |= reports.replace(&rest.shown, &BTreeSet::new());
        let exported = group.exported.take();
        self.drop_if_empty(id);
        let Exported { key, shard } = exported?;
        shard.hostnames.iter().for_each(|host| hosts.release(host, id));
        self.forget_name(&key, &rest.name);
        Some(key)
    }

    /// Adds, changes or moves a slice; returns the services that have changed.
    pub(super) fn put_slice(&mut self, slice: NarrowSlice) -> [Option<ObjectId>; 2] {
        let NarrowSlice { id, service, endpoints, pods, federate } = slice;
        let moved_from = self.slices.get(&id).copied().filter(|before| Some(*before) != service);
        if moved_from.is_some() {
            self.remove_slice(id);
        }
        let Some(service) = service else { return [moved_from, None] };
        self.slices.insert(id, service);
        self.pods.put(id, pods);
        let group = self.groups.entry(service).or_default();
        let slice = Slice { id, endpoints: SmallVec::from_slice(&endpoints), federate };
        match group.slices.iter_mut().find(|slice| slice.id == id) {
            Some(old) => *old = slice,
            None => group.slices.push(slice),
        }
        [moved_from, Some(service)]
    }

    /// Removes a slice; returns the service that has changed.
    pub(super) fn remove_slice(&mut self, id: ObjectId) -> Option<ObjectId> {
        let service = self.slices.remove(&id)?;
        self.pods.remove(id);
        if let Some(group) = self.groups.get_mut(&service) {
            group.slices.retain(|slice| slice.id != id);
        }
        self.drop_if_empty(service);
        Some(service)
    }

    /// Recomputes the shard of one Service; returns its key where the shard differs.
    pub(super) fn refresh(&mut self, id: ObjectId, hosts: &Hosts) -> Option<ServiceKey> {
        let group = self.groups.get_mut(&id)?;
        let shard = &group.exported.as_ref()?.shard;
        // Most changes of slices are none in what is counted.
        let same_pods = match shard.internal.as_deref() {
            Some(Internal::Headless(pods)) => *pods == group.pods(&self.pods),
            Some(Internal::ClusterIp(_)) | None => true,
        };
        if shard.hostnames.is_empty() && shard.endpoints == group.endpoints() && same_pods {
            return None;
        }
        let mut base = (**shard).clone();
        if let Some(own) = group.rest.as_ref().and_then(|rest| rest.own.clone()) {
            base = Shard { addresses: own.addresses, refused: own.refused, ttl_cap: None, ..base };
        }
        let shard = finish(base, group, hosts, &self.pods, &self.rules);
        let exported = group.exported.as_mut().filter(|exported| *exported.shard != shard)?;
        exported.shard = Arc::new(shard);
        Some(exported.key.clone())
    }

    /// Which of the Services with this key is served: the one whose name needed no change, else
    /// the first in order of names.
    pub(super) fn winner(&self, key: &ServiceKey) -> Option<ObjectId> {
        let exact = self.rules.id_of_key(key);
        if self.groups.get(&exact).is_some_and(|group| group.exported.is_some()) {
            return Some(exact);
        }
        self.renamed.get(key)?.values().next().copied()
    }

    /// The Services that have this key, where their names were changed to make it: what is
    /// reported of one depends on the others.
    pub(super) fn claimants(&self, key: &ServiceKey) -> Vec<ObjectId> {
        self.renamed.get(key).map(|names| names.values().copied().collect()).unwrap_or_default()
    }

    /// Brings the reports on one Service up to date; says whether they differ.
    pub(super) fn report(&mut self, id: ObjectId, hosts: &Hosts, reports: &mut Reports) -> bool {
        let Some(group) = self.groups.get(&id) else { return false };
        let told = self.reports_on(id, group, hosts);
        let Some(group) = self.groups.get_mut(&id) else { return false };
        if group.rest.is_none() && told.is_empty() {
            return false;
        }
        let name = group.exported.as_ref().map(|exported| exported.key.to_string());
        let rest = group.rest.get_or_insert_with(|| {
            Box::new(Rest { name: name.unwrap_or_default().into(), ..Rest::default() })
        });
        let changed = reports.replace(&rest.shown, &told);
        rest.shown = told;
        if rest.is_empty() {
            group.rest = None;
        }
        self.drop_if_empty(id);
        changed
    }

    /// Frees what interned values nothing uses any longer.
    pub(super) fn prune(&mut self) {
        self.ports.prune();
    }

    fn reports_on(&self, id: ObjectId, group: &Group, hosts: &Hosts) -> BTreeSet<Report> {
        let mut reasons: Vec<Box<str>> =
            group.rest.as_ref().map(|rest| rest.reasons.clone()).unwrap_or_default();
        let Some(Exported { key, shard }) = &group.exported else {
            return as_reports(group.rest.as_ref().map_or("", |rest| &rest.name), reasons);
        };
        let missing =
            group.slices.iter().filter(|slice| slice.federate == FederateLabel::Missing).count();
        if missing > 0 {
            let all = group.slices.len();
            reasons.push(
                format!(
                    "{missing} of its {all} EndpointSlices lack the label meridian.dev/federate \
                     of their Service: they count here, but a watch by label would not see them"
                )
                .into(),
            );
        }
        for host in &shard.hostnames {
            if let Some(why) = hosts.failure(host) {
                let kept = match hosts.resolution(host) {
                    Some(_) => "its last addresses are kept",
                    None => "it has no addresses yet",
                };
                let reason = format!("load balancer {host} cannot be resolved: {why}; {kept}");
                reasons.push(reason.into());
            }
        }
        if self.renamed.contains_key(key) && self.winner(key) != Some(id) {
            let reason = format!("another Service already has the DNS name {key}; rename this one");
            reasons.push(reason.into());
        }
        match &group.rest {
            Some(rest) => as_reports(&rest.name, reasons),
            None => as_reports(&key.to_string(), reasons),
        }
    }

    fn forget_name(&mut self, key: &ServiceKey, name: &str) {
        if let Some(names) = self.renamed.get_mut(key) {
            names.remove(name);
            if names.is_empty() {
                self.renamed.remove(key);
            }
        }
    }

    fn drop_if_empty(&mut self, id: ObjectId) {
        let empty = |group: &Group| {
            group.exported.is_none() && group.slices.is_empty() && group.rest.is_none()
        };
        if self.groups.get(&id).is_some_and(|group| empty(group)) {
            self.groups.remove(&id);
        }
    }
}

impl Group {
    /// Counts endpoints, each once over all slices: an endpoint with an IPv4 and an IPv6 address
    /// stands in a slice of each family. It is ready if any slice says so.
    fn endpoints(&self) -> Endpoints {
        let readiness = self.readiness();
        let mut marks: SmallVec<[EndpointMark; 16]> =
            self.slices.iter().flat_map(|slice| slice.endpoints.iter().copied()).collect();
        marks.sort_unstable();
        let mut endpoints = Endpoints::default();
        for same in marks.chunk_by(|a, b| a.identity() == b.identity()) {
            endpoints.total += 1;
            let ready = readiness == Readiness::Ignored || same.iter().any(|mark| mark.is_ready());
            endpoints.ready += u32::from(ready);
        }
        endpoints
    }
}

impl Group {
    /// Where its ready pods are reached within the cluster.
    fn pods(&self, pods: &Pods) -> Box<[IpAddr]> {
        pods.ready(self.slices.iter().map(|slice| slice.id), self.readiness())
    }

    fn readiness(&self) -> Readiness {
        self.rest.as_ref().map(|rest| rest.readiness).unwrap_or_default()
    }
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.own.is_none()
            && self.readiness == Readiness::Conditions
            && self.reasons.is_empty()
            && self.shown.is_empty()
    }
}

/// Adds to `base`, the shard as its Service alone makes it, its endpoints, where it is headless
/// their addresses, and resolved addresses.
fn finish(mut base: Shard, group: &Group, hosts: &Hosts, pods: &Pods, rules: &Rules) -> Shard {
    let endpoints = group.endpoints();
    if let Some(Internal::Headless(addresses)) = base.internal.as_deref_mut() {
        *addresses = group.pods(pods);
    }
    if base.hostnames.is_empty() {
        return Shard { endpoints, ..base };
    }
    let mut addresses = base.addresses.into_vec();
    let mut refused = base.refused.into_vec();
    let mut ttl_cap: Option<u32> = None;
    for resolution in base.hostnames.iter().filter_map(|host| hosts.resolution(host)) {
        ttl_cap = Some(ttl_cap.map_or(resolution.ttl, |cap| cap.min(resolution.ttl)));
        for &address in &resolution.addresses {
            match rules.publishable(address) {
                Ok(address) => addresses.push(address),
                Err(reason) => {
                    let address = address.to_string().into();
                    let refusal = Refusal { address, reason: reason.into() };
                    if !refused.contains(&refusal) {
                        refused.push(refusal);
                    }
                }
            }
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    Shard { addresses: addresses.into(), refused: refused.into(), ttl_cap, endpoints, ..base }
}

fn as_reports(name: &str, reasons: Vec<Box<str>>) -> BTreeSet<Report> {
    let subject: Box<str> = format!("Service {name}").into();
    reasons.into_iter().map(|reason| Report { subject: subject.clone(), reason }).collect()
}
