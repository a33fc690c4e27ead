//! Each kind, as API servers write it.

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;
use crate::model::{
    Drain, Internal, MinReady, Policy, Protocol, ServiceOptions, Ties, WhenNoneHealthy,
};

fn rules(export: Export) -> Rules {
    let apex = DomainName::parse("example.com").unwrap();
    Rules::new(export, ["127.0.1.0/24".parse().unwrap()].into(), apex)
}

/// A Service with the label, `spec`, `status.loadBalancer.ingress` and annotations.
fn service(spec: Value, ingress: Value, annotations: Value) -> NarrowService {
    let object: Service = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": "ns", "name": "web", "labels": {FEDERATE: "true"},
            "annotations": annotations,
        },
        "spec": spec, "status": {"loadBalancer": {"ingress": ingress}},
    }))
    .unwrap();
    rules(Export::Label).service(&object).unwrap()
}

fn exported(service: &NarrowService) -> &ExportedService {
    service.export.as_ref().expect("exported")
}

fn addresses(service: &NarrowService) -> Vec<String> {
    exported(service).shard.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn addresses_come_from_ingress_external_ips_and_the_annotation() {
    let found = service(
        json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.7", "192.0.2.1"]}),
        json!([
            {"ip": "192.0.2.1", "hostname": "both.example.net"},
            {"hostname": "LB.example.net."},
            {"hostname": "203.0.113.5"},
            {"ip": "::ffff:192.0.2.9"},
            {},
        ]),
        json!({"meridian.dev/addresses": " 2001:db8::1 , other.example.net,"}),
    );
    assert_eq!(
        addresses(&found),
        ["192.0.2.1", "192.0.2.9", "198.51.100.7", "203.0.113.5", "2001:db8::1"]
    );
    let hostnames = &exported(&found).shard.hostnames();
    assert_eq!(**hostnames, ["lb.example.net".into(), "other.example.net".into()]);
    assert!(found.reasons.is_empty() && exported(&found).shard.refused().is_empty());
}

#[test]
fn unusable_addresses_are_refused_with_reasons() {
    let found = service(
        json!({"externalIPs": ["010.0.0.1", "127.0.1.9", "127.0.0.1"]}),
        json!([{"ip": "fe80::1"}, {"hostname": "web.ns.svc.EXAMPLE.com"}, {"hostname": "a b"}]),
        json!({"meridian.dev/addresses": "0.0.0.0, ., web_1..x"}),
    );
    assert_eq!(addresses(&found), ["127.0.1.9"], "allowNets lets it through");
    let refused: Vec<&str> =
        exported(&found).shard.refused().iter().map(|refusal| &*refusal.address).collect();
    let expected = [
        "fe80::1",
        "web.ns.svc.EXAMPLE.com",
        "a b",
        "010.0.0.1",
        "127.0.0.1",
        "0.0.0.0",
        ".",
        "web_1..x",
    ];
    assert_eq!(refused, expected);
    assert!(exported(&found).shard.hostnames().is_empty());
    assert_eq!(found.reasons.len(), 1, "{:?}", found.reasons);
    assert!(found.reasons[0].contains("own zone"));
}

#[test]
fn a_service_without_addresses_is_exported_all_the_same() {
    let found = service(json!({"clusterIP": "10.0.0.1"}), Value::Null, json!({}));
    assert_eq!(addresses(&found), <[&str; 0]>::default());
}

#[test]
fn ports_are_the_named_ones() {
    let found = service(
        json!({"ports": [
            {"name": "https", "port": 443, "targetPort": 8443, "nodePort": 30443},
            {"port": 80},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "bad", "port": 70000},
            {"name": "odd", "port": 1, "protocol": "ICMP"},
        ]}),
        Value::Null,
        json!({}),
    );
    let ports: Vec<_> = exported(&found)
        .shard
        .ports
        .named()
        .iter()
        .map(|port| (port.name.as_str(), port.protocol, port.number))
        .collect();
    assert_eq!(ports, [("dns", Protocol::Udp, 53), ("https", Protocol::Tcp, 443)]);
    assert_eq!(found.reasons.len(), 2, "{:?}", found.reasons);
    assert_eq!(exported(&found).shard.ports.tcp(), Some(443));
}

#[test]
fn a_port_to_connect_to_needs_no_name() {
    let port = |ports: Value| {
        let found = service(json!({ "ports": ports }), Value::Null, json!({}));
        exported(&found).shard.ports.tcp()
    };
    assert_eq!(port(json!([{"port": 53, "protocol": "UDP"}, {"port": 80}])), Some(80));
    assert_eq!(port(json!([{"port": 53, "protocol": "UDP"}])), None);
    assert_eq!(port(json!([])), None);
}

#[test]
fn a_port_name_leaves_room_for_the_underscore_of_its_srv_name() {
    let (fits, too_long) = ("p".repeat(62), "q".repeat(63));
    let ports = json!({"ports": [{"name": fits, "port": 1}, {"name": too_long, "port": 2}]});
    let found = service(ports, Value::Null, json!({}));
    let ports: Vec<_> =
        exported(&found).shard.ports.named().iter().map(|port| port.number).collect();
    assert_eq!(ports, [1]);
    assert!(found.reasons.len() == 1 && found.reasons[0].contains("at most 62 octets"));
}

#[test]
fn what_stands_in_for_shards_is_guarded_as_they_are() {
    let read = |text: &str| {
        let found =
            service(json!({}), Value::Null, json!({"meridian.dev/when-none-healthy": text}));
        let choice = exported(&found).shard.options().cloned().and_then(|o| o.when_none_healthy);
        (choice, found.reasons)
    };
    for (text, why) in [
        ("127.0.0.1", "127.0.0.1 is a loopback address"),
        ("192.0.2.1, 169.254.169.254", "169.254.169.254 is a link-local address"),
        ("fe80::1", "fe80::1 is a link-local address"),
        ("web.ns.f.svc.EXAMPLE.com", "own zone"),
        ("example.com.", "own zone"),
    ] {
        let (choice, reasons) = read(text);
        assert_eq!(choice, None, "{text}");
        assert!(reasons.len() == 1 && reasons[0].contains(why), "{text}: {reasons:?}");
    }
    for text in ["127.0.1.9", "192.0.2.1,2001:db8::1", "sorry.example.net", "nothing", "all"] {
        assert_eq!(read(text), (text.parse().ok(), vec![]), "{text}");
    }
}

#[test]
fn unknown_annotations_are_reported_with_the_known_ones() {
    let found = service(
        json!({}),
        Value::Null,
        json!({"meridian.dev/tll": "30", "other.dev/tll": "30", "meridian.dev/drain": "false"}),
    );
    assert_eq!(found.reasons.len(), 1, "{:?}", found.reasons);
    let (what, known) = found.reasons[0].split_once(": ").expect("a reason");
    assert_eq!(what, "annotation meridian.dev/tll is unknown and ignored");
    for name in ["addresses", "ttl", "policy", "when-none-healthy", "min-ready", "drain"] {
        assert!(known.contains(name), "{known}");
    }
}

#[test]
fn a_ttl_is_at_least_a_second() {
    let ttl = |text: &str| {
        let found = service(json!({}), Value::Null, json!({"meridian.dev/ttl": text}));
        (exported(&found).shard.options().and_then(|o| o.ttl), found.reasons.len())
    };
    assert_eq!(
        [ttl("0"), ttl("1"), ttl("2147483647")],
        [(None, 1), (Some(1), 0), (Some(0x7fff_ffff), 0)]
    );
}

#[test]
fn annotations_are_read_or_reported() {
    let found = service(
        json!({"publishNotReadyAddresses": true}),
        Value::Null,
        json!({
            "meridian.dev/ttl": "30", "meridian.dev/policy": "nearest: 2",
            "meridian.dev/when-none-healthy": "192.0.2.99", "meridian.dev/min-ready": "0",
            "meridian.dev/drain": "true", "meridian.dev/sticky": "true",
            "meridian.dev/weight": "7", "other.dev/ttl": "x", "meridian.dev/load": "0.25",
            "meridian.dev/override": "down; by=alice; reason=a test; until=never",
            "meridian.dev/check": "http:80/healthz interval=1s",
        }),
    );
    let expected = ServiceOptions {
        ttl: Some(30),
        policy: Some(Policy::Nearest(2.try_into().unwrap())),
        ties: Some(Ties::Sticky),
        weight: Some(7),
        when_none_healthy: Some(WhenNoneHealthy::Addresses(["192.0.2.99".parse().unwrap()].into())),
        min_ready: Some(MinReady::Count(0)),
        drain: Drain::AtOnce,
        load: Some(0.25),
        force: Some(Arc::new("down; by=alice; reason=a test; until=never".parse().unwrap())),
        check: Some("http:80/healthz interval=1s".parse().unwrap()),
    };
    assert_eq!(exported(&found).shard.options(), Some(&expected));
    assert_eq!(exported(&found).readiness, Readiness::Ignored);
    let bad = service(
        json!({}),
        Value::Null,
        json!({
            "meridian.dev/ttl": "2147483648", "meridian.dev/policy": "random",
            "meridian.dev/when-none-healthy": "?", "meridian.dev/min-ready": "-1",
            "meridian.dev/drain": "yes", "meridian.dev/load": "1.5",
            "meridian.dev/override": "down", "meridian.dev/check": "ping",
        }),
    );
    assert_eq!(exported(&bad).shard.options(), None);
    assert_eq!(bad.reasons.len(), 8);
    for reason in &bad.reasons {
        assert!(reason.contains("is ignored") && reason.contains("write"), "{reason}");
    }
}

/// What runs where Meridian does is not for everyone who may annotate a Service to look at.
#[test]
fn checks_stay_within_what_is_published() {
    let reason = |check: &str| {
        let own = json!([{"ip": "192.0.2.9"}]);
        let found = service(json!({}), own, json!({"meridian.dev/check": check}));
        (found.reasons.first().map(ToString::to_string)).unwrap_or_default()
    };
    assert_eq!(reason("tcp:80 address=192.0.2.9"), "");
    assert_eq!(reason("tcp:80 address=127.0.1.9"), "", "it is in allowNets");
    for other in ["127.0.0.1", "192.0.2.8", "10.0.0.1"] {
        let reason = reason(&format!("tcp:80 address={other}"));
        assert!(reason.contains("is none of the Service's own"), "{reason}");
    }
    assert!(reason("tcp:80 address=169.254.169.254").contains("is the metadata service"));
    assert_eq!(reason("http:80/ method=OPTIONS"), "");
    assert!(reason("http:80/ method=POST").contains("method: POST may change"));
    assert!(reason("tcp interval=999ms").contains("shorter than 1s"));
    assert_eq!(reason("tcp timeout=10s"), "");
    assert!(reason("tcp timeout=10001ms").contains("timeout: it is longer than 10s"));
    let long = reason(&format!("http:80/{}", "a".repeat(1000)));
    assert!(long.contains("longer than 1000 octets") && long.len() < 400, "{long}");
}

#[test]
fn what_is_exported() {
    let narrow = |export, metadata: Value, spec: Value| {
        let object: Service =
            serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        rules(export).service(&object)
    };
    let labelled = |value: &str| json!({"name": "web", "labels": {FEDERATE: value}});
    let is_exported =
        |export, metadata, spec| narrow(export, metadata, spec).expect("named").export.is_some();
    assert!(is_exported(Export::Label, labelled("true"), json!({})));
    assert!(!is_exported(Export::Label, labelled("false"), json!({})));
    assert!(!is_exported(Export::Label, json!({"name": "web"}), json!({})));
    assert!(is_exported(Export::All, json!({"name": "web"}), json!({})));
    let deleted = json!({"name": "web", "deletionTimestamp": "2026-01-01T00:00:00Z"});
    assert!(!is_exported(Export::All, deleted, json!({})));
    let external = narrow(Export::All, json!({"name": "web"}), json!({"type": "ExternalName"}));
    let external = external.unwrap();
    assert!(external.export.is_none() && external.reasons.len() == 1);
    assert_eq!(&*external.name, "default/web");
    let renamed = narrow(Export::All, json!({"namespace": "A_b", "name": "Web"}), json!({}));
    let renamed = renamed.unwrap();
    assert_eq!(exported(&renamed).key.to_string(), "a-b/web");
    assert!(renamed.reasons[0].contains("a-b/web"));
    let nothing = narrow(Export::All, json!({"name": "..."}), json!({})).unwrap();
    assert!(nothing.export.is_none() && nothing.reasons.len() == 1);
    assert_eq!(narrow(Export::All, json!({}), json!({})), Err(Unnamed));
}

#[test]
fn endpoints_are_told_apart_and_judged() {
    let rules = rules(Export::Label);
    let slice = |labels: Value, endpoints: Value| {
        let object: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "web-abc", "labels": labels},
            "addressType": "IPv4", "endpoints": endpoints,
        }))
        .unwrap();
        rules.slice(&object).unwrap()
    };
    let found = slice(
        json!({"kubernetes.io/service-name": "web"}),
        json!([
            {"addresses": ["10.0.0.1"], "targetRef": {"uid": "1"}, "conditions": {"ready": true}},
            {"addresses": ["fd00::1"], "targetRef": {"uid": "1"}, "conditions": {"ready": false}},
            {"addresses": ["10.0.0.2"], "targetRef": {"kind": "Pod", "name": "a"}},
            {"addresses": ["10.0.0.3"], "hostname": "db-0", "conditions": {}},
            {"addresses": ["10.0.0.4"], "hostname": "db-0"},
            {"addresses": ["10.0.0.5"], "nodeName": "n",
             "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.6"], "nodeName": "n"},
        ]),
    );
    let identities: Vec<u32> = found.endpoints.iter().map(|mark| mark.identity()).collect();
    let same = |a: usize, b: usize| identities[a] == identities[b];
    assert!(same(0, 1) && same(3, 4));
    assert!(!same(1, 2) && !same(2, 3) && !same(4, 5) && !same(5, 6));
    let ready: Vec<bool> = found.endpoints.iter().map(|mark| mark.is_ready()).collect();
    assert_eq!(ready, [true, false, true, true, true, false, true]);
    assert_eq!(found.service, Some(rules.id("ns", "web")));
    assert_eq!(found.federate, FederateLabel::Missing);
    let stray = slice(json!({FEDERATE: "true"}), Value::Null);
    assert_eq!((stray.service, stray.federate), (None, FederateLabel::Satisfied));
}

#[test]
fn nodes() {
    let node = |labels: Value, spec: Value| {
        let metadata = json!({"name": "n1", "labels": labels});
        let object: Node =
            serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        rules(Export::All).node(&object).unwrap()
    };
    let place = |node: &NarrowNode| node.topology.as_ref().map(ToString::to_string);
    let found = node(
        json!({
            "topology.kubernetes.io/region": "RegionOne",
            "failure-domain.beta.kubernetes.io/region": "old",
            "failure-domain.beta.kubernetes.io/zone": "nova",
        }),
        json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00:1::/64", "x"]}),
    );
    assert_eq!(place(&found).as_deref(), Some("nova.regionone"));
    assert_eq!(*found.networks, ["10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()]);
    assert_eq!((found.reasons.len(), found.changed.len()), (1, 1));
    let old = node(json!({}), json!({"podCIDR": "10.1.0.7/24"}));
    assert_eq!((place(&old), old.reasons.len()), (None, 0));
    assert_eq!(*old.networks, ["10.1.0.0/24".parse().unwrap()]);
    let zone_only = node(json!({"topology.kubernetes.io/zone": "a"}), Value::Null);
    assert_eq!((place(&zone_only), zone_only.reasons.len()), (None, 1));
}

#[test]
fn only_admitted_namespaces_export() {
    let set = |names: &[&str]| Arc::new(names.iter().map(|name| Box::from(*name)).collect());
    let object = |namespace: &str| -> Service {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": "web", "labels": {FEDERATE: "true"}},
        }))
        .unwrap()
    };
    let slice = |namespace: &str| -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": "web-1",
                         "labels": {"kubernetes.io/service-name": "web", FEDERATE: "true"}},
            "addressType": "IPv4", "endpoints": [],
        }))
        .unwrap()
    };
    let limited = |export, namespaces| rules(export).limited_to(namespaces, AddressScope::Any);
    let given = Namespaces { given: Some(set(&["team"])), ..Namespaces::default() };
    let by_label = limited(Export::Label, given.clone());
    assert!(by_label.service(&object("team")).unwrap().export.is_some());
    let refused = by_label.service(&object("other")).unwrap();
    assert!(refused.export.is_none() && refused.reasons[0].contains("namespace other"));
    assert!(by_label.slice(&slice("team")).unwrap().service.is_some());
    assert!(by_label.slice(&slice("other")).unwrap().service.is_none(), "nothing of it is kept");
    let all = limited(Export::All, given);
    assert!(all.service(&object("other")).unwrap().reasons.is_empty(), "it holds for most");
    let lists = Namespaces { given: None, include: Some(set(&["a", "b"])), exclude: set(&["b"]) };
    let all = limited(Export::All, lists);
    let exports = |namespace| all.service(&object(namespace)).unwrap().export.is_some();
    assert!(exports("a") && !exports("b") && !exports("c"));
}

/// What pods of the instance's own cluster are told, and nothing of it for any other.
#[test]
fn internal_addresses_are_kept_where_asked_for() {
    let narrowed = |spec: Value, internal: InternalAddresses| {
        let object: Service = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "web"}, "spec": spec,
        }))
        .unwrap();
        let service = rules(Export::All).with_internal(internal).service(&object).unwrap();
        (exported(&service).shard.internal().cloned(), service.reasons)
    };
    let kept = |spec| narrowed(spec, InternalAddresses::Kept);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let dual = json!({"clusterIP": "10.96.0.1", "clusterIPs": ["fd00::1", "10.96.0.1"]});
    let both = Internal::ClusterIp([ip("10.96.0.1"), ip("fd00::1")].into());
    assert_eq!(kept(dual.clone()), (Some(both), vec![]));
    assert_eq!(narrowed(dual, InternalAddresses::LeftOut), (None, vec![]));
    let old = Internal::ClusterIp([ip("10.96.0.2")].into());
    assert_eq!(kept(json!({"clusterIP": "10.96.0.2"})).0, Some(old));
    let headless = Some(Internal::Headless([].into()));
    assert_eq!(kept(json!({"clusterIP": "None"})), (headless.clone(), vec![]));
    assert_eq!(kept(json!({"clusterIP": "None", "clusterIPs": ["None"]})).0, headless);
    assert_eq!(kept(json!({"clusterIP": ""})), (None, vec![]));
    let (none, reasons) = kept(json!({"clusterIPs": ["127.0.0.1", "x"]}));
    assert_eq!((none, reasons.len()), (None, 2), "{reasons:?}");

    let object: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "web-1"}, "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.0.0.1", "10.0.0.9"]},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["127.0.0.1"]}, {"addresses": ["host.example"]}, {"addresses": []},
        ],
    }))
    .unwrap();
    let pods = |internal| rules(Export::All).with_internal(internal).slice(&object).unwrap().pods;
    let pod = |address: &str, ready| PodAddress { address: ip(address), ready };
    assert_eq!(*pods(InternalAddresses::Kept), [pod("10.0.0.1", true), pod("10.0.0.2", false)]);
    assert!(pods(InternalAddresses::LeftOut).is_empty());
}
