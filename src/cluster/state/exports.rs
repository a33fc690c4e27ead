//! ServiceExports beside the Services that they name, either of which may come first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use tracing::error;

use super::packed::Packed;
use super::reports::Reports;
use crate::cluster::narrow::{NarrowExport, NarrowService, ObjectId, Rules, Wish};
use crate::model::Report;

/// The exports of one cluster, and all its Services: an export may come long after its Service,
/// and nobody sends the Service again for it. They are kept packed, since most are never exported:
/// a Service costs about a hundred octets where the API's object has thousands.
#[derive(Debug)]
pub(super) struct Exports {
    rules: Arc<Rules>,
    offered: HashMap<ObjectId, Packed, RandomState>,
    /// The exports in force, with `namespace/name`.
    wanted: BTreeMap<ObjectId, Box<str>>,
}

impl Exports {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self { rules, offered: HashMap::default(), wanted: BTreeMap::new() }
    }

    /// Every Service that is known, exported or not.
    pub(super) fn service_ids(&self) -> impl Iterator<Item = ObjectId> {
        self.offered.keys().copied()
    }

    /// Every export that is known.
    pub(super) fn ids(&self) -> impl Iterator<Item = ObjectId> {
        self.wanted.keys().copied()
    }

    /// An export as it was narrowed.
    pub(super) fn narrowed(&self, id: ObjectId) -> Option<NarrowExport> {
        let name = self.wanted.get(&id)?.clone();
        Some(NarrowExport { id, name, wish: Wish::Export })
    }

    /// Takes in a Service; returns what is to be made of it.
    pub(super) fn offer(&mut self, service: NarrowService, reports: &mut Reports) -> Offer {
        let id = service.id;
        let known = self.offered.insert(id, Packed::of(&service)).is_some();
        match self.wanted.get(&id) {
            Some(name) => {
                let changed = !known && reports.replace(&without_service(name), &BTreeSet::new());
                Offer { service, changed }
            }
            None => Offer { service: withheld(service), changed: false },
        }
    }

    /// Forgets a Service; says whether the reports differ.
    pub(super) fn withdraw(&mut self, id: ObjectId, reports: &mut Reports) -> bool {
        self.offered.remove(&id).is_some()
            && self
                .wanted
                .get(&id)
                .is_some_and(|name| reports.replace(&BTreeSet::new(), &without_service(name)))
    }

    /// Takes in an export; returns its Service, where it is known.
    pub(super) fn export(
        &mut self,
        export: NarrowExport,
        reports: &mut Reports,
    ) -> (Option<NarrowService>, bool) {
        let NarrowExport { id, name, wish } = export;
        if wish == Wish::Withdrawn {
            return self.end(id, reports);
        }
        let is_new = self.wanted.insert(id, name.clone()).is_none();
        if !is_new {
            return (None, false);
        }
        match self.offered.get(&id).map(|packed| packed.unpack(id, &self.rules)) {
            Some(Ok(service)) => return (Some(service), false),
            Some(Err(fault)) => {
                error!(service = %name, %fault, "a Service is lost that was kept; change it, so that it is read again");
                self.offered.remove(&id);
            }
            None => {}
        }
        (None, reports.replace(&BTreeSet::new(), &without_service(&name)))
    }

    /// Forgets an export; returns its Service as it is without, where it is known.
    pub(super) fn end(
        &mut self,
        id: ObjectId,
        reports: &mut Reports,
    ) -> (Option<NarrowService>, bool) {
        let Some(name) = self.wanted.remove(&id) else { return (None, false) };
        match self.offered.contains_key(&id) {
            true => (Some(NarrowService { id, name, export: None, reasons: Vec::new() }), false),
            false => (None, reports.replace(&without_service(&name), &BTreeSet::new())),
        }
    }
}

/// What is to be made of a Service.
pub(super) struct Offer {
    /// The Service as it counts.
    pub(super) service: NarrowService,
    /// Whether the reports differ.
    pub(super) changed: bool,
}

/// A Service that nobody exports: nothing of it is shown, nor what would be wrong with it.
fn withheld(service: NarrowService) -> NarrowService {
    NarrowService { export: None, reasons: Vec::new(), ..service }
}

/// MCS-API: the condition `Valid` is `False` with reason `NoService`.
fn without_service(name: &str) -> BTreeSet<Report> {
    let reason = "exports nothing: this cluster has no Service of that namespace and name";
    let subject = format!("ServiceExport {name}").into();
    BTreeSet::from([Report { subject, reason: reason.into() }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Export;
    use crate::model::DomainName;

    /// It is as if there were none, until it is sent again.
    #[test]
    fn a_damaged_service_takes_no_other_down() {
        let apex = DomainName::parse("example.com").unwrap();
        let rules = Arc::new(Rules::new(Export::ServiceExport, [].into(), apex));
        let (mut exports, mut reports) = (Exports::new(rules.clone()), Reports::default());
        let id = rules.id("ns", "web");
        let wish = || NarrowExport { id, name: "ns/web".into(), wish: Wish::Export };
        exports.offered.insert(id, Packed::damaged());
        assert_eq!(exports.export(wish(), &mut reports), (None, true));
        assert_eq!(*reports.all(), without_service("ns/web"));
        let service =
            NarrowService { id, name: "ns/web".into(), export: None, reasons: Vec::new() };
        let offer = exports.offer(service.clone(), &mut reports);
        assert_eq!((offer.service, offer.changed), (service.clone(), true));
        assert!(reports.all().is_empty());
        let _ = exports.end(id, &mut reports);
        assert_eq!(exports.export(wish(), &mut reports), (Some(service), false));
    }
}
