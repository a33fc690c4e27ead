use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::health::check::{MOST_TARGETS, Settings, Target, Timing, targets};
use crate::model::{
    Check, CheckMode, ClusterChecks, Label, Member, Ports, ServiceOptions, Shard, ShardParts,
};

fn member(checks: ClusterChecks) -> Member {
    Member { checks, ..Member::named(Label::parse("eu").expect("a label")) }
}

fn shard(tcp_port: Option<u16>, check: Option<&str>) -> Shard {
    let check = check.map(|text| text.parse().expect("a check"));
    let addresses = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let parts = ShardParts {
        addresses: addresses[..].into(),
        ports: Ports::new([].into(), tcp_port),
        options: Some(Box::new(ServiceOptions { check, ..ServiceOptions::default() })),
        ..ShardParts::default()
    };
    parts.into()
}

fn check(text: &str) -> Arc<Check> {
    Arc::new(text.parse().expect("a check"))
}

fn told(targets: &[Target]) -> Vec<String> {
    targets.iter().map(|target| target.address.to_string()).collect()
}

#[test]
fn a_tcp_connection_unless_told_otherwise() {
    let (settings, member) = (Settings::default(), member(ClusterChecks::default()));
    let found = targets(&shard(Some(80), None), &settings, &member);
    assert_eq!(told(&found), ["192.0.2.1:80", "[2001:db8::1]:80"]);
    assert!(found.iter().all(|target| target.kind == Check::tcp().kind));
    assert_eq!(found[0].timing, Timing::default());
    assert_eq!(targets(&shard(None, None), &settings, &member), []);
    assert_eq!(told(&targets(&shard(None, Some("tcp:1")), &settings, &member)).len(), 2);
}

#[test]
fn address_and_port_may_differ() {
    let (settings, member) = (Settings::default(), member(ClusterChecks::default()));
    let of = |check| told(&targets(&shard(Some(80), Some(check)), &settings, &member));
    assert_eq!(of("http:8080/"), ["192.0.2.1:8080", "[2001:db8::1]:8080"]);
    assert_eq!(of("https/"), ["192.0.2.1:80", "[2001:db8::1]:80"]);
    assert_eq!(of("tcp address=192.0.2.9"), ["192.0.2.9:80"]);
    assert_eq!(of("dns/example.com"), ["192.0.2.1:53", "[2001:db8::1]:53"]);
    assert!(of("off").is_empty());
}

/// No Service takes the checks of the others with a list of addresses.
#[test]
fn the_first_addresses_are_checked() {
    let (settings, member) = (Settings::default(), member(ClusterChecks::default()));
    let addresses = (1..=40).map(|last| IpAddr::from([192, 0, 2, last])).collect();
    let many = ShardParts { addresses, ..shard(Some(80), None).parts() }.into();
    let found = told(&targets(&many, &settings, &member));
    assert_eq!(found.len(), MOST_TARGETS);
    assert_eq!((&*found[0], &*found[15]), ("192.0.2.1:80", "192.0.2.16:80"));
}

/// They hand out the credentials of the machine that asks.
#[test]
fn metadata_services_are_not_checked() {
    let (settings, member) = (Settings::default(), member(ClusterChecks::default()));
    let texts = ["168.63.129.16", "169.254.169.254", "192.0.2.1", "fd00:ec2::254"];
    let addresses = texts.into_iter().map(|text| text.parse().unwrap()).collect();
    let shard = ShardParts { addresses, ..shard(Some(80), None).parts() }.into();
    assert_eq!(told(&targets(&shard, &settings, &member)), ["192.0.2.1:80"]);
}

/// The Service decides before its cluster, the cluster before the federation.
#[test]
fn the_narrower_place_decides() {
    let settings = Settings { check: check("tcp:1 fall=7"), ..Settings::default() };
    let of_cluster = ClusterChecks {
        check: Some(check("tcp:2")),
        timing: check("tcp interval=9s timeout=8s").timing,
        ..ClusterChecks::default()
    };
    let first = |shard: &Shard, checks: &ClusterChecks| {
        let found = targets(shard, &settings, &member(checks.clone()));
        let Target { address, timing, .. } = &found[0];
        (address.port(), timing.interval.as_secs(), timing.timeout.as_secs(), timing.fall.get())
    };
    let none = ClusterChecks::default();
    assert_eq!(first(&shard(None, None), &none), (1, 5, 2, 7));
    assert_eq!(first(&shard(None, None), &of_cluster), (2, 9, 8, 3));
    assert_eq!(first(&shard(None, Some("tcp:3 interval=1s")), &of_cluster), (3, 1, 8, 3));
}

#[test]
fn modes() {
    let off = ClusterChecks { mode: Some(CheckMode::Off), ..ClusterChecks::default() };
    let always = ClusterChecks { mode: Some(CheckMode::Always), ..ClusterChecks::default() };
    let settings = Settings::default();
    assert_eq!(settings.mode(&member(ClusterChecks::default())), CheckMode::Suspect);
    assert_eq!(settings.mode(&member(always)), CheckMode::Always);
    assert_eq!(targets(&shard(Some(80), Some("tcp:1")), &settings, &member(off)), []);
}

/// Services behind one load balancer have targets in common, however their checks are written.
#[test]
fn equal_targets_are_one() {
    let (settings, member) = (Settings::default(), member(ClusterChecks::default()));
    let of = |check| targets(&shard(Some(80), check), &settings, &member);
    let alike = [None, Some("tcp"), Some("tcp:80"), Some("tcp interval=5s"), Some("tcp fall=3")];
    let distinct: HashSet<Target> = alike.into_iter().flat_map(of).collect();
    assert_eq!(distinct.len(), 2);
    let others: HashSet<Target> = ["tcp:81", "tcp fall=2", "http/", "http/ status=200"]
        .into_iter()
        .flat_map(|check| of(Some(check)))
        .collect();
    assert_eq!(others.len(), 8);
    assert!(others.is_disjoint(&distinct));
    assert_eq!(Timing::default().interval, Duration::from_secs(5));
}
