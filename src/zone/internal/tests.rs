use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::model::{Port, Ports, Protocol, ServiceKey, ShardEntry, ShardParts, bucket_of};
use crate::zone::{Nameserver, testing};

fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

fn name(text: &str) -> DomainName {
    DomainName::parse(text).expect("a name")
}

fn settings(domain: DomainName, cluster: &str, zone: Option<&str>) -> Settings {
    Settings {
        nameservers: vec![Nameserver { name: name("ns1.example.net"), addresses: Vec::new() }],
        domain,
        internal: Some(InternalSettings {
            cluster: label(cluster),
            apex: name("fed.svc.cluster.local"),
            zone: zone.map(label),
        }),
        ..testing::settings()
    }
}

/// A zone with `service` in the cluster `away`, seen from an instance elsewhere.
fn zone_with(settings: Settings, service: &str) -> (Zone<()>, Vec<Report>) {
    let place =
        |zone: &str, region: &str| Topology { region: label(region), zone: Some(label(zone)) };
    let clusters = [
        (label("home"), BTreeSet::from([place("eu-1", "eu"), place("eu-2", "eu")])),
        (label("away"), BTreeSet::from([place("us-1", "us")])),
        (label("bare"), BTreeSet::new()),
        (label("wide"), BTreeSet::from([place("eu-1", "eu"), place("us-1", "us")])),
    ];
    let (mut zone, mut reports) = Zone::new(Arc::new(settings), &clusters);
    let (namespace, service) = service.split_once('/').expect("namespace/name");
    let port = Port { name: label("http"), protocol: Protocol::Tcp, number: 80 };
    let shard = ShardParts {
        addresses: [IpAddr::from([192, 0, 2, 1])][..].into(),
        ports: Ports::new([port].into(), None),
        ..ShardParts::default()
    };
    let key = ServiceKey::new(&label(namespace), &label(service));
    let entry = ShardEntry::new(key, shard);
    let bucket = bucket_of(entry.hash);
    let away = [(ClusterId::new(1), &entry)].into_iter();
    let found = zone.rebuild_bucket(bucket, |_| true, away, |_| ());
    reports.extend(found.into_iter().map(|(_, report)| report));
    (zone, reports)
}

fn zone(cluster: &str, own: Option<&str>) -> (Zone<()>, Vec<Report>) {
    zone_with(settings(name("example.com"), cluster, own), "ns/web")
}

/// Where the service's name leads, as what stands between its namespace and D.
fn leads_to(zone: &Zone<()>, prefix: usize) -> Option<&[u8]> {
    let entry = zone.services().iter().next().expect("a service");
    let level = zone.internal()?.leads_to(zone, entry.service(), prefix)?;
    Some(zone.levels().tail(level))
}

#[test]
fn names_lead_to_the_instances_own_place() {
    for (cluster, own, tail) in [
        ("home", Some("eu-2"), &b"\x03fed\x03svc\x04eu-2\x02eu"[..]),
        ("home", None, b"\x03fed\x03svc\x02eu"),
        // Not in this cluster, which is reported.
        ("home", Some("us-1"), b"\x03fed\x03svc\x02eu"),
        ("bare", None, b"\x03fed\x03svc"),
        ("wide", Some("us-1"), b"\x03fed\x03svc\x04us-1\x02us"),
        // In two regions: neither is the instance's for certain.
        ("wide", None, b"\x03fed\x03svc"),
        ("gone", None, b"\x03fed\x03svc"),
    ] {
        assert_eq!(leads_to(&zone(cluster, own).0, 0), Some(tail), "{cluster} {own:?}");
    }
}

#[test]
fn what_cannot_be_as_configured_is_reported() {
    let reasons = |reports: Vec<Report>| -> Vec<String> {
        // Of the zones of `wide` and `home`, which share one, nothing is to be said.
        reports.into_iter().map(|report| report.reason.into()).collect()
    };
    assert_eq!(reasons(zone("home", Some("eu-1")).1), [""; 0]);
    assert_eq!(
        reasons(zone("home", Some("us-1")).1),
        ["cluster 'home' has no availability zone 'us-1': names lead one level higher"]
    );
    assert_eq!(
        reasons(zone("gone", None).1),
        ["no cluster 'gone' is registered: every name leads to the global one"]
    );
}

/// A target that is too long does not exist: the one above is taken.
#[test]
fn names_that_are_too_long_are_skipped() {
    let labels = [&b"d".repeat(60)[..], &b"e".repeat(60), &b"f".repeat(60), &b"g".repeat(30)];
    let domain = name("com").prefixed(labels).expect("short enough");
    let (zone, _) = zone_with(settings(domain, "home", Some("eu-2")), "ns/web");
    // web.ns has 7 octets and D 219, which leaves 29 of 255; the tail of eu-2 has 16.
    assert_eq!(leads_to(&zone, 13), Some(&b"\x03fed\x03svc\x04eu-2\x02eu"[..]));
    assert_eq!(leads_to(&zone, 14), Some(&b"\x03fed\x03svc\x02eu"[..]));
    assert_eq!(leads_to(&zone, 19), Some(&b"\x03fed\x03svc"[..]));
    assert_eq!(leads_to(&zone, 22), None);
}

#[test]
fn names_below_the_apex_are_those_of_services() {
    let (zone, _) = zone("home", None);
    let internal = zone.internal().expect("served");
    let found = |prefix: &str| {
        let name = QuestionName::from_domain(&name(&format!("{prefix}fed.svc.cluster.local")));
        let above = internal.contains(&name).expect("within");
        match internal.lookup(&zone, &name, above) {
            Lookup::Service(hit) => format!("{} {}", hit.service.key, hit.port.is_some()),
            Lookup::Static(_) => "static".to_owned(),
            Lookup::EmptyNonTerminal => "empty".to_owned(),
            Lookup::Nothing => "nothing".to_owned(),
        }
    };
    assert_eq!(found(""), "static");
    assert_eq!(found("ns."), "empty");
    assert_eq!(found("other."), "nothing");
    assert_eq!(found("web.ns."), "ns/web false");
    assert_eq!(found("_tcp.web.ns."), "empty");
    assert_eq!(found("_http._tcp.web.ns."), "ns/web true");
    // Shards have no names here.
    assert_eq!(found("away.web.ns."), "nothing");
    let outside = QuestionName::from_domain(&name("web.ns.fed.svc.example.com"));
    assert_eq!(internal.contains(&outside), None);
}
