//! Events in, views compared.

mod exports;
mod guard;
mod history;
mod lists;

use serde_json::{Value, json};

use super::*;
use crate::cluster::{Export, InternalAddresses};
use crate::model::{DomainName, Internal, Shard, ShardEntry, bucket_of};

/// How long what vanishes at one stroke is kept.
const CONFIRM: Duration = Duration::from_secs(300);

fn rules() -> Arc<Rules> {
    let apex = DomainName::parse("example.com").unwrap();
    // The instance's own cluster: what it keeps beside the others changes like all else.
    let rules = Rules::new(Export::Label, [].into(), apex);
    Arc::new(rules.with_internal(InternalAddresses::Kept))
}

/// A complete state under test.
struct Cluster {
    rules: Arc<Rules>,
    state: ClusterState,
}

impl Cluster {
    /// Of which nothing is known yet.
    fn unread() -> Self {
        let rules = rules();
        let state = ClusterState::new(rules.clone(), CONFIRM);
        Self { rules, state }
    }

    fn empty() -> Self {
        let Self { rules, mut state } = Self::unread();
        for event in [
            Event::Service(Change::Init),
            Event::Service(Change::InitDone),
            Event::Slice(Change::Init),
            Event::Slice(Change::InitDone),
            Event::Node(Change::Init),
        ] {
            assert_eq!(state.apply(event), Changed::Nothing);
            assert!(state.view().is_none(), "not every kind is listed");
        }
        assert_eq!(state.apply(Event::Node(Change::InitDone)), Changed::View);
        Self { rules, state }
    }

    fn service(&self, name: &str, ip: &str) -> NarrowService {
        self.service_with(name, json!({"ip": ip}), json!({}))
    }

    fn service_with(&self, name: &str, ingress: Value, spec: Value) -> NarrowService {
        let object = serde_json::from_value(json!({
            "metadata": {
                "namespace": "ns", "name": name, "labels": {"meridian.dev/federate": "true"},
            },
            "spec": spec, "status": {"loadBalancer": {"ingress": [ingress]}},
        }))
        .unwrap();
        self.rules.service(&object).unwrap()
    }

    /// A slice of `service` with endpoints `(uid, ready)`.
    fn slice(&self, name: &str, service: &str, endpoints: &[(&str, bool)]) -> NarrowSlice {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|(uid, ready)| {
                json!({
                    "addresses": ["10.0.0.1"], "targetRef": {"uid": uid},
                    "conditions": {"ready": ready},
                })
            })
            .collect();
        let object = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": name, "labels": {
                "kubernetes.io/service-name": service, "meridian.dev/federate": "true",
            }},
            "addressType": "IPv4", "endpoints": endpoints,
        }))
        .unwrap();
        self.rules.slice(&object).unwrap()
    }

    fn node(&self, name: &str, region: &str, zone: &str, cidr: &str) -> NarrowNode {
        let object = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {
                "topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone,
            }},
            "spec": {"podCIDR": cidr},
        }))
        .unwrap();
        self.rules.node(&object).unwrap()
    }

    fn put(&mut self, service: NarrowService) -> Changed {
        self.state.apply(Event::Service(Change::Apply(service)))
    }

    fn put_slice(&mut self, slice: NarrowSlice) -> Changed {
        self.state.apply(Event::Slice(Change::Apply(slice)))
    }

    fn id(&self, name: &str) -> ObjectId {
        self.rules.id("ns", name)
    }

    fn view(&self) -> Arc<ClusterView> {
        self.state.view().expect("complete")
    }

    fn shard(&self, name: &str) -> Option<Shard> {
        let view = self.view();
        view.shards.iter().find(|entry| entry.key.name() == name).map(|entry| entry.shard.clone())
    }

    /// Ready and all endpoints of a shard.
    fn endpoints(&self, name: &str) -> (u32, u32) {
        let endpoints = self.shard(name).expect("exported").endpoints;
        (endpoints.ready, endpoints.total)
    }

    fn addresses(&self, name: &str) -> Vec<String> {
        self.shard(name).expect("exported").addresses.iter().map(ToString::to_string).collect()
    }

    fn reasons(&self) -> Vec<String> {
        self.view().reports.iter().map(|r| format!("{}: {}", r.subject, r.reason)).collect()
    }
}

#[test]
fn a_host_name_keeps_its_addresses_over_a_restart() {
    let mut cluster = Cluster::empty();
    let named = |cluster: &Cluster| {
        cluster.service_with("web", json!({"hostname": "lb.example.net"}), json!({}))
    };
    let _ = cluster.put(named(&cluster));
    let hostname: Box<str> = "lb.example.net".into();
    let resolved = |ip: &str| {
        let addresses = [ip.parse().unwrap()].into();
        let answer = HostAnswer::Resolved { addresses, ttl: 30 };
        Event::Host { hostname: hostname.clone(), answer }
    };
    let _ = cluster.state.apply(resolved("192.0.2.7"));
    let before = cluster.view();
    let mut cluster = Cluster::empty();
    cluster.state.remember(&before);
    let _ = cluster.put(named(&cluster));
    assert_eq!(cluster.addresses("web"), ["192.0.2.7"]);
    assert_eq!(cluster.shard("web").expect("exported").ttl_cap(), Some(30));
    let wanted = HostChange::Wanted(hostname.clone());
    assert_eq!(cluster.state.take_host_changes(), [wanted], "it is resolved nevertheless");
    let _ = cluster.state.apply(resolved("192.0.2.8"));
    assert_eq!(cluster.addresses("web"), ["192.0.2.8"]);
}

#[test]
fn slices_may_come_first_and_one_bucket_changes() {
    let mut cluster = Cluster::empty();
    let before = cluster.view();
    assert_eq!(cluster.put_slice(cluster.slice("web-1", "web", &[("a", true)])), Changed::Nothing);
    assert_eq!(cluster.put(cluster.service("web", "192.0.2.1")), Changed::View);
    assert_eq!(cluster.endpoints("web"), (1, 1));
    assert_eq!(cluster.addresses("web"), ["192.0.2.1"]);
    let after = cluster.view();
    assert_eq!(before.shards.changed(&after.shards).count(), 1);
    assert_eq!(cluster.put(cluster.service("web", "192.0.2.1")), Changed::Nothing);
    assert_eq!(after.shards.changed(&cluster.view().shards).count(), 0);
}

#[test]
fn an_endpoint_counts_once_over_slices_and_families() {
    let mut cluster = Cluster::empty();
    let _ = cluster.put(cluster.service("web", "192.0.2.1"));
    let _ = cluster.put_slice(cluster.slice("v4", "web", &[("a", true), ("b", false)]));
    let _ = cluster.put_slice(cluster.slice("v6", "web", &[("b", false), ("a", true)]));
    assert_eq!(cluster.endpoints("web"), (1, 2));
    let changed = cluster.put_slice(cluster.slice("v6", "web", &[("a", true), ("b", false)]));
    assert_eq!(changed, Changed::Nothing);
    let spec = json!({"publishNotReadyAddresses": true});
    let service = cluster.service_with("web", json!({"ip": "192.0.2.1"}), spec);
    assert_eq!(cluster.put(service), Changed::View);
    assert_eq!(cluster.endpoints("web"), (2, 2));
    assert_eq!(cluster.put_slice(cluster.slice("v6", "web", &[("c", false)])), Changed::View);
    assert_eq!(cluster.endpoints("web"), (3, 3));
    assert_eq!(cluster.put(cluster.service("web", "192.0.2.1")), Changed::View);
    assert_eq!(cluster.endpoints("web"), (1, 3));
}

#[test]
fn a_slice_may_move_and_a_service_come_back() {
    let mut cluster = Cluster::empty();
    let _ = cluster.put(cluster.service("web", "192.0.2.1"));
    let _ = cluster.put(cluster.service("api", "192.0.2.2"));
    let _ = cluster.put_slice(cluster.slice("s", "web", &[("a", true)]));
    assert_eq!(cluster.put_slice(cluster.slice("s", "api", &[("a", true)])), Changed::View);
    assert_eq!((cluster.endpoints("web"), cluster.endpoints("api")), ((0, 0), (1, 1)));
    let id = cluster.id("api");
    assert_eq!(cluster.state.apply(Event::Service(Change::Delete(id))), Changed::View);
    assert!(cluster.shard("api").is_none());
    assert_eq!(cluster.state.apply(Event::Service(Change::Delete(id))), Changed::Nothing);
    let _ = cluster.put(cluster.service("api", "192.0.2.3"));
    assert_eq!(cluster.endpoints("api"), (1, 1), "its slice was still there");
    let gone = Event::Slice(Change::Delete(cluster.id("s")));
    assert_eq!(cluster.state.apply(gone), Changed::View);
    assert_eq!(cluster.endpoints("api"), (0, 0));
}

#[test]
fn zones_once_seen_stay_and_pod_networks_follow_the_nodes() {
    let mut cluster = Cluster::empty();
    let apply = |cluster: &mut Cluster, node| cluster.state.apply(Event::Node(Change::Apply(node)));
    let a = cluster.node("n1", "r", "a", "10.1.0.0/24");
    assert_eq!(apply(&mut cluster, a.clone()), Changed::View);
    assert_eq!(apply(&mut cluster, a), Changed::Nothing, "a heartbeat");
    let b = cluster.node("n1", "r", "b", "10.2.0.0/24");
    assert_eq!(apply(&mut cluster, b), Changed::View);
    let id = cluster.rules.id("", "n1");
    assert_eq!(cluster.state.apply(Event::Node(Change::Delete(id))), Changed::View);
    let view = cluster.view();
    let zones: Vec<String> = view.topologies.iter().map(ToString::to_string).collect();
    assert_eq!(zones, ["a.r", "b.r"]);
    assert!(view.pod_networks.is_empty());
}

#[test]
fn topology_values_that_fall_together_are_reported() {
    let mut cluster = Cluster::empty();
    for (name, region) in [("n1", "eu_west"), ("n2", "EU-west"), ("n3", "eu-west")] {
        let node = cluster.node(name, region, "a", "10.1.0.0/24");
        let _ = cluster.state.apply(Event::Node(Change::Apply(node)));
    }
    let expected =
        "Nodes' topology label eu-west: EU-west, eu-west, eu_west share this one DNS label";
    assert_eq!(cluster.reasons(), [expected]);
    let id = cluster.rules.id("", "n1");
    let _ = cluster.state.apply(Event::Node(Change::Delete(id)));
    assert!(cluster.reasons()[0].contains("EU-west, eu-west share"), "{:?}", cluster.reasons());
}

#[test]
fn host_names_are_resolved_beside_the_rest() {
    let mut cluster = Cluster::empty();
    let service = |cluster: &Cluster, host: &str| {
        let spec = json!({"externalIPs": ["192.0.2.1"]});
        cluster.service_with("web", json!({"hostname": host}), spec)
    };
    let _ = cluster.put(service(&cluster, "lb.example.net"));
    let wanted = |host: &str| HostChange::Wanted(host.into());
    assert_eq!(cluster.state.take_host_changes(), [wanted("lb.example.net")]);
    assert_eq!(cluster.addresses("web"), ["192.0.2.1"]);
    assert_eq!(cluster.state.view().unwrap().unresolved, 1);
    let resolved = |host: &str, addresses: &[&str], ttl| Event::Host {
        hostname: host.into(),
        answer: HostAnswer::Resolved {
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            ttl,
        },
    };
    let answer = resolved("lb.example.net", &["198.51.100.9", "127.0.0.1", "198.51.100.8"], 60);
    assert_eq!(cluster.state.apply(answer.clone()), Changed::View);
    assert_eq!(cluster.state.apply(answer), Changed::Nothing);
    assert_eq!(cluster.state.view().unwrap().unresolved, 0);
    assert_eq!(cluster.addresses("web"), ["192.0.2.1", "198.51.100.8", "198.51.100.9"]);
    let shard = cluster.shard("web").unwrap();
    assert_eq!(shard.ttl_cap(), Some(60));
    assert_eq!(&*shard.refused()[0].address, "127.0.0.1");
    let failed = Event::Host {
        hostname: "lb.example.net".into(),
        answer: HostAnswer::Failed { reason: "no answer".into() },
    };
    assert_eq!(cluster.state.apply(failed.clone()), Changed::View);
    assert!(cluster.reasons()[0].contains("last addresses are kept"), "{:?}", cluster.reasons());
    assert_eq!(cluster.addresses("web").len(), 3, "kept through the failure");
    // A change of slices keeps what was resolved.
    let _ = cluster.put_slice(cluster.slice("s", "web", &[("a", true)]));
    assert_eq!((cluster.addresses("web").len(), cluster.endpoints("web")), (3, (1, 1)));
    let _ = cluster.put(service(&cluster, "new.example.net"));
    let unwanted = HostChange::Unwanted("lb.example.net".into());
    assert_eq!(cluster.state.take_host_changes(), [wanted("new.example.net"), unwanted]);
    assert_eq!(cluster.addresses("web"), ["192.0.2.1"]);
    assert_eq!(cluster.state.apply(failed), Changed::Nothing, "nobody wants it any longer");
    assert_eq!(cluster.state.view().unwrap().unresolved, 1, "the new one");
    assert!(cluster.reasons().is_empty());
}

#[test]
fn a_host_name_that_changes_hands_is_not_forgotten() {
    let mut cluster = Cluster::empty();
    let balanced = |cluster: &Cluster, name: &str| {
        cluster.service_with(name, json!({"hostname": "lb.example.net"}), json!({}))
    };
    let _ = cluster.put(balanced(&cluster, "old"));
    let answer = HostAnswer::Resolved { addresses: ["192.0.2.1".parse().unwrap()].into(), ttl: 60 };
    let event = Event::Host { hostname: "lb.example.net".into(), answer };
    let _ = cluster.state.apply(event);
    cluster.state.take_host_changes();
    for change in [Change::Init, Change::InitApply(balanced(&cluster, "new")), Change::InitDone] {
        let _ = cluster.state.apply(Event::Service(change));
    }
    assert_eq!(cluster.addresses("new"), ["192.0.2.1"]);
    assert_eq!(cluster.state.take_host_changes(), []);
}

#[test]
fn names_that_fall_together_are_served_once_and_reported() {
    let mut cluster = Cluster::empty();
    let _ = cluster.put(cluster.service("a_b", "192.0.2.2"));
    assert_eq!(cluster.addresses("a-b"), ["192.0.2.2"]);
    let _ = cluster.put(cluster.service("a-b", "192.0.2.1"));
    let _ = cluster.put(cluster.service("A-b", "192.0.2.3"));
    assert_eq!(cluster.addresses("a-b"), ["192.0.2.1"], "the exact name wins");
    assert_eq!(cluster.reasons().iter().filter(|r| r.contains("already has")).count(), 2);
    let id = cluster.id("a-b");
    assert_eq!(cluster.state.apply(Event::Service(Change::Delete(id))), Changed::View);
    assert_eq!(cluster.addresses("a-b"), ["192.0.2.3"], "then the first by name");
    let already: Vec<String> =
        cluster.reasons().into_iter().filter(|r| r.contains("already has")).collect();
    assert!(already.len() == 1 && already[0].starts_with("Service ns/a_b"), "{already:?}");
}

#[test]
fn the_sources_own_reports_are_replaced() {
    let mut cluster = Cluster::empty();
    let report = |text: &str| Report { subject: text.into(), reason: "x".into() };
    let told = |texts: &[&str]| Event::Source {
        reports: texts.iter().map(|text| report(text)).collect(),
        partial: false,
    };
    assert_eq!(cluster.state.apply(told(&["a", "b"])), Changed::View);
    assert_eq!(cluster.state.apply(told(&["a", "b"])), Changed::Nothing);
    assert_eq!(cluster.state.apply(told(&["b"])), Changed::View);
    assert_eq!(cluster.reasons(), ["b: x"]);
}

/// The pods of a headless service are those of its ready endpoints, in whatever order slices come.
#[test]
fn headless_services_have_their_ready_pods() {
    let mut cluster = Cluster::empty();
    let slice = |cluster: &Cluster, name: &str, pods: &[(&str, bool)]| -> NarrowSlice {
        let endpoint = |(address, ready): &(&str, bool)| {
            json!({"addresses": [address], "targetRef": {"uid": address},
                   "conditions": {"ready": ready}})
        };
        let endpoints: Vec<Value> = pods.iter().map(endpoint).collect();
        let object = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": name, "labels": {
                "kubernetes.io/service-name": "db", "meridian.dev/federate": "true",
            }},
            "addressType": "IPv4", "endpoints": endpoints,
        }))
        .unwrap();
        cluster.rules.slice(&object).unwrap()
    };
    let pods = |cluster: &Cluster| -> Vec<String> {
        match cluster.shard("db").expect("exported").internal() {
            Some(Internal::Headless(pods)) => pods.iter().map(ToString::to_string).collect(),
            other => panic!("not headless: {other:?}"),
        }
    };
    let first = slice(&cluster, "db-1", &[("10.0.0.2", true), ("10.0.0.3", false)]);
    let _ = cluster.put_slice(first);
    let db = cluster.service_with("db", json!({}), json!({"clusterIP": "None"}));
    assert_eq!(cluster.put(db.clone()), Changed::View);
    assert_eq!(pods(&cluster), ["10.0.0.2"]);
    assert_eq!(cluster.put(db), Changed::Nothing);
    let second = slice(&cluster, "db-2", &[("10.0.0.1", true)]);
    assert_eq!(cluster.put_slice(second), Changed::View);
    assert_eq!(pods(&cluster), ["10.0.0.1", "10.0.0.2"]);
    // As many as before, but others: the counts alone do not tell.
    let moved = slice(&cluster, "db-2", &[("10.0.0.9", true)]);
    assert_eq!(cluster.put_slice(moved), Changed::View);
    assert_eq!(pods(&cluster), ["10.0.0.2", "10.0.0.9"]);
    let gone = Event::Slice(Change::Delete(cluster.id("db-2")));
    assert_eq!(cluster.state.apply(gone), Changed::View);
    assert_eq!(pods(&cluster), ["10.0.0.2"]);
    let all = json!({"clusterIP": "None", "publishNotReadyAddresses": true});
    let all = cluster.service_with("db", json!({}), all);
    assert_eq!(cluster.put(all), Changed::View);
    assert_eq!(pods(&cluster), ["10.0.0.2", "10.0.0.3"]);
}
