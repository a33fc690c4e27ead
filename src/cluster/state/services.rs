//! Services with their slices.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::hosts::Hosts;
use super::owners::Owners;
use super::pods::Pods;
use super::reports::Reports;
use super::shelves::Shelves;
use super::slices::Slices;
use crate::cluster::narrow::{
    ExportedService, FederateLabel, NarrowService, NarrowSlice, ObjectId, Readiness, Rules,
};
use crate::model::{
    AddressList, Buckets, Endpoints, Internal, Refusal, Report, ServiceKey, Shard, ShardEntry,
    ShardParts,
};

/// The Services and EndpointSlices of one cluster.
///
/// Laid out for memory: what most services share costs them nothing. A shard that the view shows is
/// held there alone; what cannot be told from it is in a [`Rest`], which most services do without.
#[derive(Debug)]
pub(super) struct Services {
    rules: Arc<Rules>,
    groups: Shelves<Group>,
    rests: Shelves<Box<Rest>>,
    /// The service that each slice belongs to.
    owners: Owners,
    pods: Pods,
    /// Exported services whose names were changed to make a key, by key and name.
    renamed: HashMap<ServiceKey, BTreeMap<Box<str>, ObjectId>>,
    /// The shards of the view; `None` while some list is not complete: they are made at one stroke
    /// when it is, which at 100,000 services is far cheaper than one by one.
    shown: Option<Buckets<ShardEntry>>,
    /// The shards that the view does not show: until there is one, all.
    unshown: HashMap<ObjectId, Shard, RandomState>,
}

/// A Service and its slices, either of which may come first.
#[derive(Debug, Default)]
struct Group {
    /// The Service's key, if it is federated.
    exported: Option<ServiceKey>,
    slices: Slices,
}

/// What only some Services have.
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
    addresses: AddressList,
    refused: Box<[Refusal]>,
}

impl Services {
    /// No services yet.
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            groups: Shelves::default(),
            rests: Shelves::default(),
            owners: Owners::default(),
            pods: Pods::default(),
            renamed: HashMap::new(),
            shown: None,
            unshown: HashMap::default(),
        }
    }

    /// The Services that are known; those that only have slices are not.
    pub(super) fn service_ids(&self) -> impl Iterator<Item = ObjectId> {
        let is_exported = |id| self.groups.get(id).is_some_and(|group| group.exported.is_some());
        let exported = self.groups.iter().filter(|(_, group)| group.exported.is_some());
        let others = self.rests.iter().map(|(id, _)| id).filter(move |id| !is_exported(*id));
        exported.map(|(id, _)| id).chain(others)
    }

    /// The EndpointSlices that are known.
    pub(super) fn slice_ids(&self) -> impl Iterator<Item = ObjectId> {
        self.groups.iter().flat_map(|(_, group)| group.slices.ids())
    }

    /// The shards of the view, once there is one.
    pub(super) fn shown(&self) -> Option<&Buckets<ShardEntry>> {
        self.shown.as_ref()
    }

    /// Shows all shards, with what `amend` adds to them.
    pub(super) fn show_all(&mut self, amend: impl FnOnce(&mut Buckets<ShardEntry>)) {
        let winners: Vec<ObjectId> = self
            .groups
            .iter()
            .filter(|(id, group)| {
                let exported = group.exported.as_ref();
                exported.is_some_and(|key| self.winner(key) == Some(*id))
            })
            .map(|(id, _)| id)
            .collect();
        let entries = winners.into_iter().filter_map(|id| {
            let key = self.groups.get(id)?.exported.clone()?;
            Some(ShardEntry::new(key, self.unshown.remove(&id)?))
        });
        let mut shown = Buckets::from_items(entries);
        self.unshown.shrink_to_fit();
        self.groups.gather();
        self.owners.gather();
        amend(&mut shown);
        self.shown = Some(shown);
    }

    /// Brings what the view shows under `key` up to date, once there is one; says whether it
    /// differs. What no Service speaks for is left where `keep` says so.
    pub(super) fn show(&mut self, key: &ServiceKey, keep: impl FnOnce() -> bool) -> bool {
        let winner = self.winner(key);
        let Some(buckets) = &mut self.shown else { return false };
        let hash = key.hash();
        let shown = buckets.find(hash).find(|entry| entry.key == *key).map(|entry| &entry.shard);
        // Whose shard it was and is no longer keeps it for itself.
        for id in self.renamed.get(key).into_iter().flat_map(BTreeMap::values) {
            if Some(*id) != winner
                && let Some(shown) = shown
            {
                self.unshown.entry(*id).or_insert_with(|| shown.clone());
            }
        }
        let Some(winner) = winner else {
            return !keep() && buckets.remove(hash, |entry| entry.key == *key);
        };
        let Some(shard) = self.unshown.remove(&winner) else { return false };
        let differs = shown != Some(&shard);
        if differs {
            let entry = ShardEntry { key: key.clone(), hash, shard };
            buckets.upsert(entry, |entry| entry.key == *key);
        }
        differs
    }

    /// The shard of one Service, with its key.
    pub(super) fn shard(&self, id: ObjectId) -> Option<(&ServiceKey, &Shard)> {
        let key = self.groups.get(id)?.exported.as_ref()?;
        let shown = || self.shown.as_ref()?.find(key.hash()).find(|entry| entry.key == *key);
        Some((key, self.unshown.get(&id).or_else(|| Some(&shown()?.shard))?))
    }

    /// The Service of a slice.
    pub(super) fn service_of(&self, slice: ObjectId) -> Option<ObjectId> {
        let groups = self.owners.of(slice).flat_map(|owner| self.groups.beginning_with(owner));
        groups.filter(|(_, group)| group.slices.contains(slice)).map(|(service, _)| service).next()
    }

    /// All slices of the Service that a slice belongs to.
    pub(super) fn siblings(&self, slice: ObjectId) -> impl Iterator<Item = ObjectId> {
        let service = self.service_of(slice);
        let group = service.and_then(|service| self.groups.get(service));
        group.into_iter().flat_map(|group| group.slices.ids())
    }

    /// A Service as it was put, where it is known.
    pub(super) fn narrowed(&self, id: ObjectId) -> Option<NarrowService> {
        let rest = self.rests.get(id);
        let shard = self.shard(id);
        let export = shard.map(|(key, shard)| {
            let base =
                ShardParts { endpoints: Endpoints::default(), ttl_cap: None, ..shard.parts() };
            let parts = match rest.and_then(|rest| rest.own.clone()) {
                Some(Own { addresses, refused }) => ShardParts { addresses, refused, ..base },
                None => base,
            };
            let readiness = rest.map(|rest| rest.readiness).unwrap_or_default();
            Box::new(ExportedService { key: key.clone(), shard: parts.into(), readiness })
        });
        let name = match (rest, shard) {
            (Some(rest), _) => rest.name.clone(),
            (None, Some((key, _))) => key.to_string().into(),
            (None, None) => return None,
        };
        let reasons = rest.map(|rest| rest.reasons.clone()).unwrap_or_default();
        Some(NarrowService { id, name, export, reasons })
    }

    /// A slice as it was put, where it is known.
    pub(super) fn narrowed_slice(&self, id: ObjectId) -> Option<NarrowSlice> {
        let service = self.service_of(id)?;
        let slice = self.groups.get(service)?.slices.iter().find(|slice| slice.id() == id)?;
        let (endpoints, pods) = (slice.endpoints().collect(), self.pods.of(id));
        Some(NarrowSlice {
            id,
            service: Some(service),
            endpoints,
            pods,
            federate: slice.federate(),
        })
    }

    /// Adds or changes a Service; returns the key to publish, where there is one.
    pub(super) fn put(&mut self, service: NarrowService, hosts: &mut Hosts) -> Option<ServiceKey> {
        let NarrowService { id, name, export, reasons } = service;
        let before = self.shard(id).map(|(key, shard)| (key.clone(), shard.clone()));
        let fresh = export.as_ref().map_or(&[][..], |export| export.shard.hostnames());
        fresh.iter().for_each(|host| hosts.claim(host, id));
        for host in before.iter().flat_map(|(_, before)| before.hostnames()) {
            if !fresh.contains(host) {
                hosts.release(host, id);
            }
        }
        let shown = self.rests.remove(id).map(|rest| rest.shown).unwrap_or_default();
        let readiness = export.as_ref().map_or(Readiness::Conditions, |export| export.readiness);
        let own =
            export.as_ref().filter(|export| !export.shard.hostnames().is_empty()).map(|export| {
                let refused = export.shard.refused().into();
                Own { addresses: export.shard.addresses.clone(), refused }
            });
        let plain = own.is_none() && readiness == Readiness::Conditions;
        if !(plain && reasons.is_empty() && shown.is_empty()) {
            let name = name.clone();
            let rest = Rest { name, own, readiness, reasons, shown };
            self.rests.get_or_insert_with(id, || Box::new(rest));
        }
        let Some(export) = export else {
            self.withdraw(id);
            let (key, _) = before?;
            self.forget_name(&key, &name);
            return Some(key);
        };
        let ExportedService { key, shard, .. } = *export;
        let group = self.groups.get_or_insert_with(id, Group::default);
        let shard = finish(shard, &group.slices, readiness, hosts, &self.pods, &self.rules);
        if *name != *key.to_string() {
            self.renamed.entry(key.clone()).or_default().insert(name, id);
        }
        match before {
            // Equal: keep what the view shares.
            Some((_, before)) if before == shard => None,
            before => {
                let key = before.map_or(key, |(key, _)| key);
                group.exported = Some(key.clone());
                self.unshown.insert(id, shard);
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
        let shard = self.shard(id).map(|(_, shard)| shard.clone());
        let rest = self.rests.remove(id).unwrap_or_default();
        *dirty |= reports.replace(&rest.shown, &BTreeSet::new());
        let exported = self.withdraw(id);
        shard.iter().flat_map(Shard::hostnames).for_each(|host| hosts.release(host, id));
        let key = exported?;
        self.forget_name(&key, &rest.name);
        Some(key)
    }

    /// Adds, changes or moves a slice; returns the services that have changed.
    pub(super) fn put_slice(&mut self, slice: NarrowSlice) -> [Option<ObjectId>; 2] {
        let NarrowSlice { id, service, endpoints, pods, federate } = slice;
        let owner = self.service_of(id);
        let moved_from = owner.filter(|before| Some(*before) != service);
        if moved_from.is_some() {
            self.remove_slice(id);
        }
        let Some(service) = service else { return [moved_from, None] };
        if owner != Some(service) {
            self.owners.insert(id, service);
        }
        self.pods.put(id, pods);
        let group = self.groups.get_or_insert_with(service, Group::default);
        group.slices.put(id, federate, &endpoints);
        [moved_from, Some(service)]
    }

    /// Removes a slice; returns the service that has changed.
    pub(super) fn remove_slice(&mut self, id: ObjectId) -> Option<ObjectId> {
        let service = self.service_of(id)?;
        self.owners.remove(id, service);
        self.pods.remove(id);
        if let Some(group) = self.groups.get_mut(service) {
            group.slices.remove(id);
        }
        self.drop_if_empty(service);
        Some(service)
    }

    /// Recomputes the shard of one Service; returns its key where the shard differs.
    pub(super) fn refresh(&mut self, id: ObjectId, hosts: &Hosts) -> Option<ServiceKey> {
        let (key, before) = self.shard(id)?;
        let (group, rest) = (self.groups.get(id)?, self.rests.get(id));
        let readiness = rest.map(|rest| rest.readiness).unwrap_or_default();
        // Most changes of slices are none in what is counted.
        let same_pods = match before.internal() {
            Some(Internal::Headless(pods)) => {
                *pods == self.pods.ready(group.slices.ids(), readiness)
            }
            Some(Internal::ClusterIp(_)) | None => true,
        };
        let same_endpoints = before.endpoints == group.slices.count(readiness);
        if before.hostnames().is_empty() && same_endpoints && same_pods {
            return None;
        }
        let base = match rest.and_then(|rest| rest.own.clone()) {
            Some(Own { addresses, refused }) => {
                ShardParts { addresses, refused, ttl_cap: None, ..before.parts() }.into()
            }
            None => before.clone(),
        };
        let shard = finish(base, &group.slices, readiness, hosts, &self.pods, &self.rules);
        if *before == shard {
            return None;
        }
        let key = key.clone();
        self.unshown.insert(id, shard);
        Some(key)
    }

    /// Which of the Services with this key is served: the one whose name needed no change, else
    /// the first in order of names.
    pub(super) fn winner(&self, key: &ServiceKey) -> Option<ObjectId> {
        let exact = self.rules.id_of_key(key);
        if self.groups.get(exact).is_some_and(|group| group.exported.is_some()) {
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
        let told = self.reports_on(id, hosts);
        if told.is_empty() && self.rests.get(id).is_none() {
            return false;
        }
        let key = self.groups.get(id).and_then(|group| group.exported.as_ref());
        let rest = self.rests.get_or_insert_with(id, || {
            let name = key.map(ServiceKey::to_string).unwrap_or_default().into();
            Box::new(Rest { name, ..Rest::default() })
        });
        let changed = reports.replace(&rest.shown, &told);
        rest.shown = told;
        if rest.is_empty() {
            self.rests.remove(id);
        }
        changed
    }

    fn reports_on(&self, id: ObjectId, hosts: &Hosts) -> BTreeSet<Report> {
        let rest = self.rests.get(id);
        let mut reasons: Vec<Box<str>> = rest.map(|rest| rest.reasons.clone()).unwrap_or_default();
        let Some((key, shard)) = self.shard(id) else {
            return as_reports(rest.map_or("", |rest| &rest.name), reasons);
        };
        let slices = || self.groups.get(id).into_iter().flat_map(|group| group.slices.iter());
        let missing = slices().filter(|slice| slice.federate() == FederateLabel::Missing).count();
        if missing > 0 {
            let all = slices().count();
            reasons.push(
                format!(
                    "{missing} of its {all} EndpointSlices lack the label meridian.dev/federate \
                     of their Service: they count here, but a watch by label would not see them"
                )
                .into(),
            );
        }
        for host in shard.hostnames() {
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
        match rest {
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

    /// A Service is not exported, or is so no longer; returns the key that it had.
    fn withdraw(&mut self, id: ObjectId) -> Option<ServiceKey> {
        let exported = self.groups.get_mut(id)?.exported.take();
        self.unshown.remove(&id);
        self.drop_if_empty(id);
        exported
    }

    fn drop_if_empty(&mut self, id: ObjectId) {
        let empty = |group: &Group| group.exported.is_none() && group.slices.is_empty();
        if self.groups.get(id).is_some_and(empty) {
            self.groups.remove(id);
        }
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
fn finish(
    mut base: Shard,
    slices: &Slices,
    readiness: Readiness,
    hosts: &Hosts,
    pods: &Pods,
    rules: &Rules,
) -> Shard {
    base.endpoints = slices.count(readiness);
    let headless = matches!(base.internal(), Some(Internal::Headless(_)));
    if base.hostnames().is_empty() && !headless {
        return base;
    }
    let mut parts = base.parts();
    if let Some(Internal::Headless(addresses)) = parts.internal.as_deref_mut() {
        *addresses = pods.ready(slices.ids(), readiness);
    }
    if !parts.hostnames.is_empty() {
        hosts.add_addresses(&mut parts, rules);
    }
    parts.into()
}

fn as_reports(name: &str, reasons: Vec<Box<str>>) -> BTreeSet<Report> {
    let subject: Box<str> = format!("Service {name}").into();
    reasons.into_iter().map(|reason| Report { subject: subject.clone(), reason }).collect()
}
