//! Snapshots built on top of one another, and what they report.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::testing::{Fixture, label, name};
use super::*;
use crate::health::overrides::{self, Overrides};
use crate::health::{Checked, ClusterState, Failure, Opinion};
use crate::model::{BUCKETS, ClusterId, ClusterView, ServiceOptions};
use crate::zone::StaticRecord;

fn reports(snapshot: &Snapshot) -> Vec<String> {
    snapshot.reports.iter().map(|report| report.subject.to_string()).collect()
}

fn one_cluster() -> Fixture {
    Fixture::new().cluster("a", "eu", &["eu-1"], None)
}

/// Inputs with one shard that has `ready` endpoints, at a time.
fn shard(before: &Snapshot, ready: u32, now: u64) -> Inputs {
    let fixture = one_cluster().shard(0, "ns/web", &["192.0.2.1"], ready, Default::default());
    Inputs { views: fixture.inputs().views, now, ..before.inputs.clone() }
}

#[test]
fn a_change_of_what_is_answered_raises_the_serial_whatever_the_clock() {
    let first = one_cluster().build();
    let now = first.inputs.now;
    let second = build(Some(&first), shard(&first, 2, now - 1000));
    assert_eq!((second.generation, second.serial), (first.generation + 1, first.serial + 1));
    let third = build(Some(&second), shard(&second, 0, now + 1000));
    assert_eq!(third.serial, first.serial + 1000);
}

#[test]
fn what_changes_no_answer_keeps_the_serial() {
    let first = build(None, shard(&one_cluster().build(), 2, 1));
    let second = build(Some(&first), shard(&first, 1, 2));
    assert_eq!((second.serial, second.digest), (first.serial, first.digest), "still ready");
    // A reload without a difference: equal settings behind another pointer.
    let again = Inputs { federation: one_cluster().inputs().federation, ..second.inputs.clone() };
    let third = build(Some(&second), Inputs { now: 3, ..again });
    assert_eq!((third.serial, third.digest), (first.serial, first.digest));
    let mut settings = one_cluster();
    settings.zone.negative_ttl += 1;
    let changed = Inputs { federation: settings.inputs().federation, ..third.inputs.clone() };
    assert_eq!(build(Some(&third), changed).serial, 3, "the time of the change");
}

#[test]
fn serials_wrap() {
    let first = Snapshot { serial: u32::MAX, ..one_cluster().build() };
    assert_eq!(build(Some(&first), shard(&first, 1, 0)).serial, 0);
}

#[test]
fn unchanged_buckets_are_shared() {
    let fixture = Fixture::new().cluster("a", "eu", &["eu-1"], None);
    let first = fixture.clone().shard(0, "ns/web", &["192.0.2.1"], 1, Default::default()).build();
    let view = fixture.shard(0, "ns/web", &["192.0.2.1"], 1, Default::default()).shard(
        0,
        "ns/api",
        &["192.0.2.2"],
        1,
        Default::default(),
    );
    let mut buckets = first.inputs.views[0].as_ref().expect("read").shards.clone();
    for entry in &view.shards[0] {
        if entry.key.name() == "api" {
            buckets.upsert(entry.clone(), |old| old.key == entry.key);
        }
    }
    let view = crate::model::ClusterView { shards: buckets, ..Default::default() };
    let inputs = Inputs { views: vec![Some(Arc::new(view))], ..first.inputs.clone() };
    let second = build(Some(&first), inputs);
    assert_eq!(first.zone.services().changed(second.zone.services()).count(), 1);
    assert_eq!(second.tallies[0].served, 2);
}

#[test]
fn a_namespace_of_the_federations_name_is_reported_while_it_lasts() {
    let fixture = Fixture::new().cluster("a", "eu", &["eu-1"], Some((50.1, 8.7)));
    assert!(reports(&fixture.build()).is_empty());
    let taken = fixture.shard(0, "fed/web", &["192.0.2.1"], 1, Default::default());
    let snapshot = taken.build();
    assert_eq!(reports(&snapshot), ["federation fed"]);
    let empty = Inputs { views: vec![Some(Arc::default())], ..snapshot.inputs.clone() };
    assert!(reports(&build(Some(&snapshot), empty)).is_empty());
}

#[test]
fn static_records_under_a_location_of_nodes_stay() {
    let mut fixture = Fixture::new().cluster("a", "", &[], Some((50.1, 8.7)));
    fixture.zone.records.push(StaticRecord {
        owner: name("www.example.com"),
        rtype: 16,
        ttl: 60,
        rdata: Box::new([1, b'x']),
    });
    assert!(reports(&fixture.build()).is_empty());
    let topology = crate::model::Topology { region: label("www"), zone: None };
    let view =
        crate::model::ClusterView { topologies: Arc::new([topology].into()), ..Default::default() };
    let inputs = Inputs { views: vec![Some(Arc::new(view))], ..fixture.inputs() };
    let snapshot = build(None, inputs);
    let asked = crate::wire::QuestionName::from_domain(&name("www.example.com"));
    assert!(matches!(snapshot.zone.lookup(&asked, 1), crate::zone::Lookup::Static(_)));
    let below = crate::wire::QuestionName::from_domain(&name("svc.www.example.com"));
    assert!(matches!(snapshot.zone.lookup(&below, 2), crate::zone::Lookup::EmptyNonTerminal));
}

#[test]
fn a_shard_is_unserved_since_it_became_so() {
    let first = one_cluster().build();
    let second = build(Some(&first), shard(&first, 0, 100));
    let key = crate::model::ServiceKey::new(&label("ns"), &label("web"));
    let since = |snapshot: &Snapshot| {
        let (_, position) = snapshot.zone.service(key.wire()).expect("a service");
        snapshot.live(position).unserved_since(crate::model::ClusterId::new(0))
    };
    assert_eq!(since(&second), Some(100));
    let later = build(Some(&second), shard(&second, 0, 200));
    assert_eq!(since(&later), Some(100), "another view, as unready as before");
    // Another configuration, by which every bucket is built anew.
    let again = Inputs { federation: one_cluster().inputs().federation, ..later.inputs.clone() };
    assert_eq!(since(&build(Some(&later), again)), Some(100));
    let healthy = build(Some(&later), shard(&later, 1, 300));
    assert_eq!(since(&healthy), None);
    assert_eq!(since(&build(Some(&healthy), shard(&healthy, 0, 400))), Some(400));
}

/// What the client at an address gets of two clusters or more: their names and the scope.
fn ranked(snapshot: &Snapshot, client: [u8; 4]) -> (Vec<String>, u8) {
    let geography = &snapshot.geography;
    let ranking = geography.rank(geography.compiled.whole(), Some(client.into()), client.into());
    let order = ranking.order.expect("clusters in different places").ranked();
    let name = |ranked: &crate::geo::Ranked| {
        let member = &snapshot.inputs.federation.members[ranked.cluster().index()];
        member.name.to_string()
    };
    (order.iter().map(name).collect(), ranking.scope)
}

#[test]
fn another_atlas_takes_effect_when_its_tables_are_compiled() {
    let two = Fixture::new()
        .cluster("a", "eu", &["eu-1"], Some((50.1, 8.7)))
        .cluster("b", "us", &["us-1"], Some((39.0, -77.5)))
        .network("20.0.0.0/8", (40.0, -75.0));
    let first = two.clone().network("198.18.0.0/16", (48.0, 2.0)).build();
    let (client, names) = ([198, 18, 0, 1], |order: [&str; 2]| order.map(str::to_owned).to_vec());
    assert_eq!(ranked(&first, client), (names(["a", "b"]), 16));
    let moved = two.network("198.18.0.0/16", (40.0, -75.0)).inputs();
    let inputs = Inputs { atlas: moved.atlas, ..first.inputs.clone() };
    let second = build(Some(&first), inputs);
    assert!(second.missing_tables().is_some());
    assert_eq!(ranked(&second, client), (names(["a", "b"]), 16), "as before");
    let third = super::testing::settle(second);
    assert_eq!(ranked(&third, client), (names(["b", "a"]), 16));
}

#[test]
fn a_cluster_that_is_registered_comes_last_until_tables_are_compiled() {
    let fixture = |names: &[(&str, (f64, f64))]| {
        let fixture = Fixture::new().network("198.18.0.0/16", (48.0, 2.0));
        let fixture = fixture.network("198.18.128.0/24", (48.5, 2.5));
        let fixture = fixture.network("20.0.0.0/8", (40.0, -75.0));
        names.iter().fold(fixture, |f, (name, at)| f.cluster(name, name, &[], Some(*at)))
    };
    let (eu, us, fr) = (("eu", (50.1, 8.7)), ("us", (39.0, -77.5)), ("fr", (48.8, 2.3)));
    let first = fixture(&[eu, us]).build();
    let client = [198, 18, 0, 1];
    assert_eq!(ranked(&first, client), (vec!["eu".into(), "us".into()], 16));
    // Between the others, so that ids move.
    let registered = fixture(&[eu, fr, us]).inputs();
    let second = build(Some(&first), Inputs { atlas: first.inputs.atlas.clone(), ..registered });
    let last: Vec<String> = ["eu", "us", "fr"].map(Into::into).into();
    assert_eq!(ranked(&second, client), (last, 17), "the client's own place");
    let third = super::testing::settle(second);
    let near: Vec<String> = ["fr", "eu", "us"].map(Into::into).into();
    assert_eq!(ranked(&third, client), (near, 16));
    // One that goes leaves the order of the others.
    let fourth = build(Some(&third), fixture(&[fr, us]).inputs());
    assert_eq!(ranked(&fourth, client), (vec!["fr".into(), "us".into()], 17));
}

#[test]
fn without_any_table_the_order_is_that_of_the_registry() {
    let fixture = Fixture::new()
        .cluster("a", "eu", &["eu-1"], Some((50.1, 8.7)))
        .cluster("b", "us", &["us-1"], Some((39.0, -77.5)))
        .network("198.18.0.0/16", (40.0, -75.0));
    let snapshot = build(None, fixture.inputs());
    let order: Vec<String> = ["a", "b"].map(Into::into).into();
    assert_eq!(ranked(&snapshot, [198, 18, 0, 1]), (order, 16));
}

#[test]
fn what_time_alone_changes_has_a_deadline() {
    let force = "down; by=alice; reason=a test; until=1970-01-01T00:10:00Z".parse().expect("valid");
    let options = ServiceOptions { force: Some(Arc::new(force)), ..Default::default() };
    let fixture = one_cluster().shard(0, "ns/web", &["192.0.2.1"], 1, options);
    let at = |now| Inputs { now, ..fixture.inputs() };
    let first = build(None, at(500));
    assert_eq!((first.deadline(), first.tallies[0].forced_out), (Some(600), 1));
    let early = build(Some(&first), Inputs { now: 599, ..first.inputs.clone() });
    assert_eq!(early.rebuilt_since(&first).next(), None, "nothing has changed");
    let late = build(Some(&early), Inputs { now: 600, ..first.inputs.clone() });
    assert_eq!((late.deadline(), late.tallies[0].served, late.serial), (None, 1, 600));
    // A clock that is set back.
    let back = build(Some(&late), Inputs { now: 550, ..first.inputs.clone() });
    assert_eq!((back.deadline(), back.tallies[0].forced_out), (Some(600), 1));
    assert_eq!(back.digest, first.digest);
}

/// Whatever the order: the bucket is built anew although its shards are as before, and although the
/// cluster was out already.
#[test]
fn an_annotation_does_not_lift_what_the_file_takes_out() {
    let force = "up; by=alice; reason=a test; until=never".parse().expect("valid");
    let options = ServiceOptions { force: Some(Arc::new(force)), ..Default::default() };
    for state in [ClusterState::Up, ClusterState::Down] {
        let mut fixture = one_cluster().shard(0, "ns/lifted", &["192.0.2.9"], 1, options.clone());
        fixture.states[0] = state;
        let first = fixture.build();
        let name = first.inputs.federation.members[0].name.clone();
        let rule =
            format!("[{{cluster: {name}, state: down, author: a, reason: b, until: never}}]");
        let rules = overrides::parse(&rule).expect("valid");
        let served = |snapshot: &Snapshot| snapshot.tallies[0].forced_up;
        assert_eq!(served(&first), 1);
        let file = Arc::new(Overrides { rules, fault: None });
        let out = build(Some(&first), Inputs { overrides: file, ..first.inputs.clone() });
        assert_eq!(served(&out), 0);
        let lifted = Inputs { overrides: Default::default(), ..out.inputs.clone() };
        assert_eq!(served(&build(Some(&out), lifted)), 1);
    }
}

/// Two clusters with the same services, `count` of them in one bucket.
fn crowded(count: usize) -> (Fixture, Vec<String>) {
    let key = |name: &str| crate::model::ServiceKey::new(&label("ns"), &label(name));
    let bucket = |name: &str| crate::model::bucket_of(key(name).hash());
    let names = (0..).map(|i| format!("s{i}")).filter(|name| bucket(name) == bucket("s0"));
    let names: Vec<String> = names.take(count).map(|name| format!("ns/{name}")).collect();
    let fixture = one_cluster().cluster("b", "us", &["us-1"], Some((39.0, -77.5)));
    let fixture = names.iter().enumerate().fold(fixture, |fixture, (at, name)| {
        let address = |cluster: usize| format!("192.0.2.{}", 10 * cluster + at);
        let shard = |fixture: Fixture, cluster| {
            fixture.shard(cluster, name, &[&address(cluster)], 1, ServiceOptions::default())
        };
        shard(shard(fixture, 0), 1)
    });
    (fixture, names)
}

#[test]
fn one_service_of_a_bucket_is_made_anew_alone() {
    let (fixture, names) = crowded(3);
    let first = fixture.build();
    let mut view = (**first.inputs.views[0].as_ref().expect("read")).clone();
    let mut entry = fixture.shards[0][1].clone();
    entry.shard.endpoints = Default::default();
    view.shards.upsert(entry.clone(), |old| old.key == entry.key);
    let mut inputs = first.inputs.clone();
    inputs.views[0] = Some(Arc::new(view));
    assert_eq!(reach(&first, &inputs), 1);
    let second = build(Some(&first), inputs);
    assert_eq!(second.rebuilt_since(&first).collect::<Vec<_>>(), [entry.hash], "{names:?}");
    assert_eq!((second.tallies[0].served, second.tallies[0].not_ready), (2, 1));
    assert_eq!((second.tallies[1], second.tallies[0].total()), (first.tallies[1], 3));
}

#[test]
fn what_is_told_in_other_words_makes_no_service_anew() {
    let (fixture, names) = crowded(2);
    let key = fixture.shards[0][0].key.clone();
    let told = |before: &Snapshot, why: &str, held: bool| {
        let failure = Failure { since: 1, why: why.into(), seen_by: Arc::default(), held };
        let check = Checked::Failing(Arc::new(failure));
        let mut inputs = before.inputs.clone();
        inputs.opinions.set(&key, &label("a"), Some(Opinion { check, ..Opinion::default() }));
        build(Some(before), inputs)
    };
    let rebuilt = |new: &Snapshot, old| new.rebuilt_since(old).collect::<Vec<_>>();
    let first = told(&fixture.build(), "refused", false);
    let second = told(&first, "no reply", false);
    assert_eq!((rebuilt(&second, &first), second.serial), (vec![], first.serial), "{names:?}");
    let evidence = |snapshot: &Snapshot| {
        snapshot.inputs.evidence(ClusterId::new(0), &fixture.shards[0][0]).opinion.cloned()
    };
    assert_ne!(evidence(&first), evidence(&second), "people see it");
    assert_eq!(second.tallies[0].checks_fail, 1);
    let third = told(&second, "no reply", true);
    assert_eq!(rebuilt(&third, &second), [key.hash()], "it is only held back now");
}

/// It touches no service, but every node of the federation is gone through.
#[test]
fn pod_networks_reach_everything() {
    let first = crowded(1).0.build();
    let with = |network: &str| {
        let pod_networks = Arc::new(BTreeSet::from([network.parse().expect("a network")]));
        let view = first.inputs.views[0].as_deref().expect("read").clone();
        let mut inputs = first.inputs.clone();
        inputs.views[0] = Some(Arc::new(ClusterView { pod_networks, ..view }));
        inputs
    };
    assert_eq!(reach(&first, &with("10.1.0.0/16")), BUCKETS);
    let second = build(Some(&first), with("10.1.0.0/16"));
    assert_eq!(reach(&second, &with("10.1.0.0/16")), 0, "equal ones change nothing");
    let ruled = crowded(1).0.network("10.1.2.0/24", (52.5, 13.4)).inputs().federation;
    assert_eq!(reach(&first, &Inputs { federation: ruled, ..first.inputs.clone() }), BUCKETS);
}

#[test]
fn a_reload_makes_anew_what_it_touches() {
    let (fixture, _) = crowded(2);
    let first = fixture.build();
    let reload = |change: fn(&mut Fixture)| {
        let mut changed = fixture.clone();
        change(&mut changed);
        Inputs { federation: changed.inputs().federation, ..first.inputs.clone() }
    };
    let drained = reload(|f| f.members[1].drain = crate::model::Drain::AtOnce);
    assert_eq!(reach(&first, &drained), 0);
    let second = build(Some(&first), drained);
    assert_eq!(second.rebuilt_since(&first).next(), None);
    assert_eq!(second.up, crate::model::ClusterSet::first(1));
    let all = first.zone.services().len();
    for change in [
        (|f| f.zone.ttl += 1) as fn(&mut Fixture),
        |f| f.members.swap(0, 1),
        |f| f.members[0].region = Some(label("ap")),
    ] {
        let next = build(Some(&first), reload(change));
        assert_eq!(next.rebuilt_since(&first).count(), all);
    }
}

#[test]
fn a_report_is_news_when_it_comes() {
    let none = one_cluster().build();
    let fault = ServiceOptions {
        policy: Some(crate::model::Policy::Failover([label("nowhere")].into())),
        ..ServiceOptions::default()
    };
    let fixture = one_cluster().shard(0, "ns/web", &["192.0.2.1"], 1, fault);
    let with =
        |before: &Snapshot, views| build(Some(before), Inputs { views, ..before.inputs.clone() });
    let first = with(&none, fixture.inputs().views);
    let news = |now: &Snapshot, before: &Snapshot| -> Vec<String> {
        now.reports.news(&before.reports).map(|report| report.subject.to_string()).collect()
    };
    assert_eq!(news(&first, &none), ["Service ns/web"]);
    let second = with(&first, fixture.inputs().views);
    assert!(news(&second, &first).is_empty(), "read anew, it says the same");
    let gone = with(&second, none.inputs.views.clone());
    assert!(news(&gone, &second).is_empty());
    assert_eq!(news(&with(&gone, fixture.inputs().views), &gone), ["Service ns/web"], "again");
    let scratch = build(None, second.inputs.clone());
    assert!(news(&scratch, &second).is_empty());
}
