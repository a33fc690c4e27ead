use super::*;
use crate::model::ServiceOptions;
use crate::snapshot::testing::{Fixture, name};

fn fixture() -> Fixture {
    Fixture::new()
        .cluster("home", "eu", &["eu-1", "eu-2"], None)
        .cluster("away", "us", &["us-1"], None)
        .shard(1, "ns/web", &["192.0.2.1"], 1, ServiceOptions::default())
}

/// Where the service's name leads, as what stands between its namespace and D.
fn leads_to(fixture: &Fixture, prefix: usize) -> Option<Vec<u8>> {
    let snapshot = fixture.build();
    let zone = &snapshot.zone;
    let entry = zone.services().iter().next().expect("a service");
    let level = zone.internal()?.leads_to(zone, &entry.service, prefix)?;
    Some(zone.levels().tail(level).to_vec())
}

#[test]
fn names_lead_to_the_instances_own_place() {
    let to = |zone| leads_to(&fixture().inside("home", zone), 0).expect("a name");
    assert_eq!(to(Some("eu-2")), b"\x03fed\x03svc\x04eu-2\x02eu");
    assert_eq!(to(None), b"\x03fed\x03svc\x02eu");
    // Not in this cluster, which is reported.
    assert_eq!(to(Some("us-1")), b"\x03fed\x03svc\x02eu");
    let nowhere = fixture().cluster("bare", "", &[], None);
    assert_eq!(leads_to(&nowhere.inside("bare", None), 0), Some(b"\x03fed\x03svc".to_vec()));
}

#[test]
fn what_is_not_registered_is_reported() {
    let reported = |fixture: Fixture| {
        let snapshot = fixture.build();
        snapshot.reports.iter().map(|report| report.reason.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(reported(fixture().inside("home", Some("eu-1"))), [""; 0]);
    let wrong_zone = reported(fixture().inside("home", Some("us-1")));
    assert_eq!(
        wrong_zone,
        ["cluster 'home' has no availability zone 'us-1': names lead one level higher"]
    );
    let unknown = reported(fixture().inside("gone", None));
    assert_eq!(unknown, ["no cluster 'gone' is registered: every name leads to the global one"]);
    let same = fixture().shard(1, "fed/web", &["192.0.2.2"], 1, ServiceOptions::default());
    assert!(reported(same)[0].starts_with("its namespace is called like the federation"));
}

/// A target that is too long does not exist: the one above is taken.
#[test]
fn names_that_are_too_long_are_skipped() {
    let mut fixture = fixture().inside("home", Some("eu-2"));
    let labels = [&b"d".repeat(60)[..], &b"e".repeat(60), &b"f".repeat(60), &b"g".repeat(30)];
    fixture.zone.domain = name("com").prefixed(labels).expect("short enough");
    // web.ns is 7 octets, D 219: 255 leaves 29, the tail of eu-2 has 16.
    assert_eq!(leads_to(&fixture, 13), Some(b"\x03fed\x03svc\x04eu-2\x02eu".to_vec()));
    assert_eq!(leads_to(&fixture, 14), Some(b"\x03fed\x03svc\x02eu".to_vec()));
    assert_eq!(leads_to(&fixture, 19), Some(b"\x03fed\x03svc".to_vec()));
    assert_eq!(leads_to(&fixture, 22), None);
}

#[test]
fn names_below_the_apex_are_those_of_services() {
    let snapshot = fixture().inside("home", None).build();
    let zone = snapshot.zone.internal().expect("served");
    let found = |prefix: &str| {
        let name = QuestionName::from_domain(&name(&format!("{prefix}fed.svc.cluster.local")));
        let above = zone.contains(&name).expect("within");
        match zone.lookup(&snapshot.zone, &name, above) {
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
    assert_eq!(zone.contains(&outside), None);
}
