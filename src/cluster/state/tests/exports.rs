//! ServiceExports beside their Services, in every order.

use proptest::prelude::*;
use serde_json::json;

use super::super::*;
use crate::model::{DomainName, ShardEntry};

fn rules() -> Arc<Rules> {
    let apex = DomainName::parse("example.com").unwrap();
    Arc::new(Rules::new(Export::ServiceExport, [].into(), apex))
}

fn service(rules: &Rules, name: &str, ip: &str) -> NarrowService {
    let object = serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": name},
        "status": {"loadBalancer": {"ingress": [{"ip": ip}]}},
    }));
    rules.service(&object.unwrap()).unwrap()
}

fn export(rules: &Rules, name: &str) -> NarrowExport {
    let metadata = json!({"namespace": "ns", "name": name});
    rules.service_export(&serde_json::from_value(metadata).unwrap()).unwrap()
}

/// A complete, empty state.
fn empty(rules: &Arc<Rules>) -> ClusterState {
    let mut state = ClusterState::new(rules.clone(), Duration::from_secs(300));
    for event in [
        Event::Service(Change::Init),
        Event::Service(Change::InitDone),
        Event::Slice(Change::Init),
        Event::Slice(Change::InitDone),
        Event::Node(Change::Init),
        Event::Node(Change::InitDone),
        Event::Export(Change::Init),
    ] {
        assert_eq!(state.apply(event), Changed::Nothing);
        assert!(state.view().is_none(), "exports are not listed");
    }
    assert_eq!(state.apply(Event::Export(Change::InitDone)), Changed::View);
    state
}

/// Keys with their first address, and the reports.
fn seen(state: &ClusterState) -> (BTreeSet<(String, String)>, BTreeSet<Report>) {
    let view = state.view().unwrap();
    let shard = |entry: &ShardEntry| {
        let address = entry.shard.addresses.first().map(ToString::to_string);
        (entry.key.to_string(), address.unwrap_or_default())
    };
    (view.shards.iter().map(shard).collect(), (*view.reports).clone())
}

#[test]
fn a_service_is_exported_from_its_export_to_the_end_of_it() {
    let rules = rules();
    let mut state = empty(&rules);
    let _ = state.apply(Event::Service(Change::Apply(service(&rules, "web", "192.0.2.1"))));
    assert!(seen(&state).0.is_empty(), "nobody exports it");
    let _ = state.apply(Event::Export(Change::Apply(export(&rules, "web"))));
    assert_eq!(seen(&state).0.len(), 1);
    let _ = state.apply(Event::Service(Change::Apply(service(&rules, "web", "192.0.2.2"))));
    assert_eq!(seen(&state).0.first().unwrap().1, "192.0.2.2", "it follows its Service");
    // A list that lacks the export withdraws it when it is complete.
    let _ = state.apply(Event::Export(Change::Init));
    assert_eq!(seen(&state).0.len(), 1);
    assert_eq!(state.apply(Event::Export(Change::InitDone)), Changed::View);
    assert!(seen(&state).0.is_empty());
}

#[test]
fn an_export_of_nothing_is_reported_while_there_is_nothing() {
    let rules = rules();
    let mut state = empty(&rules);
    let _ = state.apply(Event::Export(Change::Apply(export(&rules, "web"))));
    let reports = seen(&state).1;
    assert_eq!(&*reports.first().unwrap().subject, "ServiceExport ns/web");
    let web = service(&rules, "web", "192.0.2.1");
    let id = web.id;
    let _ = state.apply(Event::Service(Change::Apply(web)));
    assert!(seen(&state).1.is_empty());
    let _ = state.apply(Event::Service(Change::Delete(id)));
    assert_eq!(seen(&state).1, reports);
    let _ = state.apply(Event::Export(Change::Delete(id)));
    assert!(seen(&state).1.is_empty() && seen(&state).0.is_empty());
}

#[test]
fn an_export_that_is_being_deleted_exports_nothing() {
    let rules = rules();
    let mut state = empty(&rules);
    let _ = state.apply(Event::Service(Change::Apply(service(&rules, "web", "192.0.2.1"))));
    let _ = state.apply(Event::Export(Change::Apply(export(&rules, "web"))));
    let metadata = json!({"namespace": "ns", "name": "web",
                          "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]});
    let going = rules.service_export(&serde_json::from_value(metadata).unwrap()).unwrap();
    let _ = state.apply(Event::Export(Change::Apply(going)));
    assert!(seen(&state).0.is_empty());
}

#[test]
fn an_external_name_is_no_valid_export() {
    let rules = rules();
    let mut state = empty(&rules);
    let object = serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "web"},
        "spec": {"type": "ExternalName", "externalName": "example.net"},
    }));
    let web = rules.service(&object.unwrap()).unwrap();
    let _ = state.apply(Event::Service(Change::Apply(web)));
    assert!(seen(&state).1.is_empty(), "nobody exports it, so nothing is wrong");
    let _ = state.apply(Event::Export(Change::Apply(export(&rules, "web"))));
    assert!(seen(&state).1.first().unwrap().reason.contains("ExternalName"));
}

#[test]
fn exports_that_vanish_at_one_stroke_are_held() {
    // As where somebody deletes the CRD, and with it every export.
    let rules = rules();
    let mut state = empty(&rules);
    let names: Vec<String> = (0..60).map(|n| format!("s{n}")).collect();
    for name in &names {
        let _ = state.apply(Event::Service(Change::Apply(service(&rules, name, "192.0.2.1"))));
        let _ = state.apply(Event::Export(Change::Apply(export(&rules, name))));
    }
    for name in &names {
        let _ = state.apply(Event::Export(Change::Delete(export(&rules, name).id)));
    }
    assert_eq!(seen(&state).0.len(), names.len(), "all are kept until it is confirmed");
    let last = Instant::now() + Duration::from_secs(300);
    let _ = state.settle(last);
    assert!(seen(&state).0.is_empty(), "confirmed");
}

proptest! {
    /// Whatever the order of puts and deletions, what is seen depends on what there is.
    #[test]
    fn order_does_not_matter(steps in prop::collection::vec((0..4u8, 0..3u8, 1..4u8), 0..40)) {
        let rules = rules();
        let mut state = empty(&rules);
        let mut services = std::collections::BTreeMap::new();
        let mut exports = BTreeSet::new();
        for (what, name, ip) in steps {
            let (name, ip) = (format!("s{name}"), format!("192.0.2.{ip}"));
            let id = export(&rules, &name).id;
            let event = match what {
                0 => {
                    services.insert(name.clone(), ip.clone());
                    Event::Service(Change::Apply(service(&rules, &name, &ip)))
                }
                1 => {
                    services.remove(&name);
                    Event::Service(Change::Delete(id))
                }
                2 => {
                    exports.insert(name.clone());
                    Event::Export(Change::Apply(export(&rules, &name)))
                }
                _ => {
                    exports.remove(&name);
                    Event::Export(Change::Delete(id))
                }
            };
            let _ = state.apply(event);
        }
        let shown = services.iter().filter(|(name, _)| exports.contains(*name));
        let shown: BTreeSet<_> =
            shown.map(|(name, ip)| (format!("ns/{name}"), ip.clone())).collect();
        let empty = exports.iter().filter(|name| !services.contains_key(*name)).count();
        let (shards, reports) = seen(&state);
        prop_assert_eq!(shards, shown);
        prop_assert_eq!(reports.len(), empty);
    }
}
