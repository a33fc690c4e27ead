//! The pure reducer of one cluster: events in, [`ClusterView`] out.
//!
//! *Owns*: everything known of one cluster, narrowed. *Guarantees*: no view until the first list
//! of every kind is complete; a list replaces what was known only when it is complete itself; the
//! state depends on the objects, never on the order in which they came; one object's change
//! recomputes its service alone and touches one bucket; a view is new only where it differs.
//! Objects that vanish are decided on together, by [`guard`]. *Does not*: wait, log, or know kube;
//! time is an argument.

mod absent;
mod exports;
mod guard;
mod hosts;
mod lists;
mod nodes;
mod owners;
mod packed;
mod pods;
mod reports;
mod services;
mod shelves;
mod slices;
mod withdraw;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Export;
use super::narrow::{NarrowExport, NarrowNode, NarrowService, NarrowSlice, ObjectId, Rules};
use crate::model::{ClusterView, Report, ServiceKey};

use absent::Absent;
use exports::{Exports, Offer};
use guard::{Guard, Object};
pub(super) use hosts::{HostAnswer, HostChange};
use hosts::{Hosts, Resolution};
pub(super) use lists::Change;
use lists::{First, List, Replacement};
use nodes::Nodes;
use reports::Reports;
use services::Services;

/// One thing that happened to a cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// To a Service.
    Service(Change<NarrowService>),
    /// To an EndpointSlice.
    Slice(Change<NarrowSlice>),
    /// To a Node.
    Node(Change<NarrowNode>),
    /// To a ServiceExport; without meaning where exporting does not depend on them.
    Export(Change<NarrowExport>),
    /// A load balancer's host name was looked up.
    Host {
        /// The name, as in `Shard::hostnames`.
        hostname: Box<str>,
        /// What came of it.
        answer: HostAnswer,
    },
    /// All that the source itself has to report; replaces what it reported before.
    Source {
        /// What is wrong.
        reports: BTreeSet<Report>,
        /// Whether some of the source could never be read.
        partial: bool,
    },
}

/// What an event did to the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Nothing that anyone could see.
    Nothing,
    /// There is a new view to publish.
    View,
}

/// All that is known of one cluster.
#[derive(Debug)]
pub(super) struct ClusterState {
    services: Services,
    nodes: Nodes,
    hosts: Hosts,
    /// Where exporting depends on ServiceExports.
    exports: Option<Exports>,
    export_list: List<NarrowExport>,
    service_list: List<NarrowService>,
    slice_list: List<NarrowSlice>,
    node_list: List<NarrowNode>,
    reports: Reports,
    source_reports: BTreeSet<Report>,
    /// Some of the source could never be read.
    partial: bool,
    dirty: bool,
    guard: Guard,
    /// The view of an earlier run, until there is one of this.
    remembered: Option<Arc<ClusterView>>,
    absent: Absent,
    /// Shards that the guard keeps, as the view tells it.
    withheld: usize,
}

impl ClusterState {
    /// A cluster of which nothing is known yet, where what vanishes at one stroke is kept for
    /// `confirm`.
    pub(super) fn new(rules: Arc<Rules>, confirm: Duration) -> Self {
        let by_export = rules.export_mode() == Export::ServiceExport;
        Self {
            exports: by_export.then(|| Exports::new(rules.clone())),
            export_list: List::new(First::AsTheyCome),
            services: Services::new(rules),
            nodes: Nodes::default(),
            hosts: Hosts::default(),
            service_list: List::new(First::AsTheyCome),
            slice_list: List::new(First::AsTheyCome),
            // What nodes say together is found out for all at once.
            node_list: List::new(First::AtOnce),
            reports: Reports::default(),
            source_reports: BTreeSet::new(),
            partial: false,
            dirty: false,
            guard: Guard::new(confirm),
            remembered: None,
            absent: Absent::default(),
            withheld: 0,
        }
    }

    /// Takes in the view of an earlier run: what load balancers' host names resolved to then counts
    /// until they are resolved anew, lest a restart withdraw them for that time. Which addresses
    /// came of which name is not known, so each has all of its shard's. The first list is guarded
    /// like those after it.
    pub(super) fn remember(&mut self, view: &Arc<ClusterView>) {
        self.remembered = Some(view.clone());
        for shard in view.shards.iter().map(|entry| &entry.shard) {
            for hostname in shard.hostnames().iter().filter(|_| !shard.addresses.is_empty()) {
                let ttl = shard.ttl_cap().unwrap_or_default();
                let resolution = Resolution { addresses: (*shard.addresses).into(), ttl };
                self.hosts.remember(hostname, resolution);
            }
        }
    }

    /// Takes in one event alone.
    #[cfg(test)]
    pub(super) fn apply(&mut self, event: Event) -> Changed {
        self.take(event);
        self.settle(Instant::now())
    }

    /// Takes in one event. What it changes shows after [`Self::settle`], which is to follow when
    /// all events that came in together are taken.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Service(change) => self.apply_service(change),
            Event::Slice(change) => self.apply_slice(change),
            Event::Node(change) => self.apply_node(change),
            Event::Export(change) => self.apply_export(change),
            Event::Host { hostname, answer } => {
                let untried = self.hosts.untried();
                for id in self.hosts.answered(&hostname, answer) {
                    self.refresh(id);
                }
                self.dirty |= self.hosts.untried() != untried;
            }
            Event::Source { reports, partial } => {
                self.dirty |= self.reports.replace(&self.source_reports, &reports);
                self.dirty |= self.partial != partial;
                (self.source_reports, self.partial) = (reports, partial);
            }
        }
    }

    /// Ends the events that came in together up to `now`; also to be called at
    /// [`Self::deadline`].
    #[must_use]
    pub(super) fn settle(&mut self, now: Instant) -> Changed {
        self.settle_vanished(now);
        self.settle_absent(now);
        if self.services.shown().is_none() && self.is_complete() {
            self.services.show_all(|listed| {
                if let Some(before) = self.remembered.take() {
                    self.absent = Absent::of(listed, &before, &self.guard, now);
                }
            });
            self.dirty = true;
        }
        self.tell_withheld();
        match self.services.shown() {
            Some(_) if std::mem::take(&mut self.dirty) => Changed::View,
            _ => Changed::Nothing,
        }
    }

    /// When time alone changes something next: what has vanished is then given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.guard.deadline().into_iter().chain(self.absent.deadline()).min()
    }

    /// The cluster as it is now; `None` until the first list of every kind is complete. Cheap:
    /// it shares all but the array of buckets with the views before it.
    pub(super) fn view(&self) -> Option<Arc<ClusterView>> {
        Some(Arc::new(ClusterView {
            shards: self.services.shown()?.clone(),
            topologies: self.nodes.topologies(),
            pod_networks: self.nodes.networks(),
            reports: self.reports.all(),
            withheld: self.withheld,
            partial: self.partial,
            unresolved: self.hosts.untried(),
        }))
    }

    /// The host names that became wanted or unwanted since the last call.
    pub(super) fn take_host_changes(&mut self) -> Vec<HostChange> {
        self.hosts.take_changes()
    }

    fn is_complete(&self) -> bool {
        self.service_list.is_complete()
            && self.slice_list.is_complete()
            && self.node_list.is_complete()
            && (self.exports.is_none() || self.export_list.is_complete())
    }

    fn apply_service(&mut self, change: Change<NarrowService>) {
        match change {
            Change::Init => self.service_list.begin(),
            Change::InitApply(service) => {
                if let Some(service) = self.service_list.push(service.id, service) {
                    self.see_service(service);
                }
            }
            Change::InitKeep(id) => self.service_list.keep(id),
            Change::InitDone => {
                let known: Vec<ObjectId> = match &self.exports {
                    Some(exports) => exports.service_ids().collect(),
                    None => self.services.service_ids().collect(),
                };
                let Replacement { gone, were, items } =
                    self.service_list.finish(known.into_iter(), |service| service.id);
                items.into_iter().for_each(|service| self.see_service(service));
                gone.into_iter().for_each(|id| self.lose(Object::Service(id), were));
            }
            Change::Apply(service) => {
                self.service_list.amend(service.id, || service.clone());
                self.see_service(service);
            }
            Change::Delete(id) => {
                self.service_list.strike(id, |service| service.id);
                self.guard.vanished(Object::Service(id));
            }
        }
    }

    fn apply_slice(&mut self, change: Change<NarrowSlice>) {
        match change {
            Change::Init => self.slice_list.begin(),
            Change::InitApply(slice) => {
                if let Some(slice) = self.slice_list.push(slice.id, slice) {
                    self.see_slice(slice);
                }
            }
            Change::InitKeep(id) => self.slice_list.keep(id),
            Change::InitDone => {
                let known = self.services.slice_ids();
                let Replacement { gone, were, items } =
                    self.slice_list.finish(known, |slice| slice.id);
                items.into_iter().for_each(|slice| self.see_slice(slice));
                gone.into_iter().for_each(|id| self.lose(Object::Slice(id), were));
            }
            Change::Apply(slice) => {
                self.slice_list.amend(slice.id, || slice.clone());
                self.see_slice(slice);
            }
            Change::Delete(id) => {
                self.slice_list.strike(id, |slice| slice.id);
                self.guard.vanished(Object::Slice(id));
            }
        }
    }

    fn apply_node(&mut self, change: Change<NarrowNode>) {
        match change {
            Change::Init => self.node_list.begin(),
            Change::InitApply(node) => {
                if let Some(node) = self.node_list.push(node.id, node) {
                    self.nodes.change([node], [], &mut self.reports, &mut self.dirty);
                }
            }
            Change::InitKeep(id) => self.node_list.keep(id),
            Change::InitDone => {
                let Replacement { gone, items, .. } =
                    self.node_list.finish(self.nodes.ids(), |node| node.id);
                self.nodes.change(items, gone, &mut self.reports, &mut self.dirty);
            }
            Change::Apply(node) => {
                self.node_list.amend(node.id, || node.clone());
                self.nodes.change([node], [], &mut self.reports, &mut self.dirty);
            }
            Change::Delete(id) => {
                self.node_list.strike(id, |node| node.id);
                self.nodes.change([], [id], &mut self.reports, &mut self.dirty);
            }
        }
    }

    fn apply_export(&mut self, change: Change<NarrowExport>) {
        let Some(exports) = &self.exports else { return };
        match change {
            Change::Init => self.export_list.begin(),
            Change::InitApply(export) => {
                if let Some(export) = self.export_list.push(export.id, export) {
                    self.see_export(export);
                }
            }
            Change::InitKeep(id) => self.export_list.keep(id),
            Change::InitDone => {
                let known: Vec<ObjectId> = exports.ids().collect();
                let Replacement { gone, were, items } =
                    self.export_list.finish(known.into_iter(), |export| export.id);
                items.into_iter().for_each(|export| self.see_export(export));
                gone.into_iter().for_each(|id| self.lose(Object::Export(id), were));
            }
            Change::Apply(export) => {
                self.export_list.amend(export.id, || export.clone());
                self.see_export(export);
            }
            Change::Delete(id) => {
                self.export_list.strike(id, |export| export.id);
                self.guard.vanished(Object::Export(id));
            }
        }
    }

    fn see_service(&mut self, service: NarrowService) {
        self.guard.seen(Object::Service(service.id));
        self.put_service(service);
    }

    fn see_slice(&mut self, slice: NarrowSlice) {
        self.guard.seen(Object::Slice(slice.id));
        self.put_slice(slice);
    }

    fn see_export(&mut self, export: NarrowExport) {
        self.guard.seen(Object::Export(export.id));
        self.put_export(export);
    }

    fn put_export(&mut self, export: NarrowExport) {
        let Some(exports) = &mut self.exports else { return };
        let (service, changed) = exports.export(export, &mut self.reports);
        self.dirty |= changed;
        service.into_iter().for_each(|service| self.settle_service(service));
    }

    fn delete_export(&mut self, id: ObjectId) {
        let Some(exports) = &mut self.exports else { return };
        let (service, changed) = exports.end(id, &mut self.reports);
        self.dirty |= changed;
        service.into_iter().for_each(|service| self.settle_service(service));
    }

    fn put_service(&mut self, service: NarrowService) {
        let service = match &mut self.exports {
            None => service,
            Some(exports) => {
                let Offer { service, changed } = exports.offer(service, &mut self.reports);
                self.dirty |= changed;
                service
            }
        };
        self.settle_service(service);
    }

    /// Takes in a Service as it counts.
    fn settle_service(&mut self, service: NarrowService) {
        let id = service.id;
        let settled = self.services.put(service, &mut self.hosts);
        settled.iter().for_each(|key| self.publish(key));
        self.report(id);
    }

    fn delete_service(&mut self, id: ObjectId) {
        if let Some(exports) = &mut self.exports {
            self.dirty |= exports.withdraw(id, &mut self.reports);
        }
        let settled = self.services.remove(id, &mut self.hosts, &mut self.reports, &mut self.dirty);
        settled.iter().for_each(|key| self.publish(key));
    }

    fn put_slice(&mut self, slice: NarrowSlice) {
        let touched = self.services.put_slice(slice);
        touched.into_iter().flatten().for_each(|id| self.refresh(id));
    }

    fn delete_slice(&mut self, id: ObjectId) {
        if let Some(service) = self.services.remove_slice(id) {
            self.refresh(service);
        }
    }

    /// Recomputes one service after its slices or the addresses of its host names changed.
    fn refresh(&mut self, id: ObjectId) {
        if let Some(key) = self.services.refresh(id, &self.hosts) {
            self.publish(&key);
        }
        self.report(id);
    }

    /// Brings what the view shows under `key` up to date.
    fn publish(&mut self, key: &ServiceKey) {
        for loser in self.services.claimants(key) {
            self.report(loser);
        }
        if self.services.winner(key).is_some() {
            self.absent.seen(key);
        }
        self.dirty |= self.services.show(key, || self.absent.keeps(key));
    }

    /// Brings the reports on one service up to date.
    fn report(&mut self, id: ObjectId) {
        self.dirty |= self.services.report(id, &self.hosts, &mut self.reports);
    }
}

#[cfg(test)]
mod tests;
