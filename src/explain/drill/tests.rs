use std::collections::BTreeMap;

use super::*;
use crate::explain;
use crate::model::ServiceOptions;
use crate::snapshot::testing::Fixture;

/// Clusters in Europe, America and Asia, and the client networks nearest to each: a quarter, a
/// half and a quarter of the space.
fn world() -> Fixture {
    Fixture::new()
        .cluster("eu", "eu", &["eu-1"], Some((50.0, 8.0)))
        .cluster("us", "us", &["us-1"], Some((40.0, -90.0)))
        .cluster("asia", "asia", &["asia-1"], Some((35.0, 139.0)))
        .network("20.0.0.0/8", (48.0, 2.0))
        .network("22.0.0.0/7", (41.0, -88.0))
        .network("24.0.0.0/8", (36.0, 138.0))
        .network("2a00::/16", (48.0, 2.0))
        .network("2600::/16", (41.0, -88.0))
}

fn shards(mut fixture: Fixture, service: &str, policy: &str, clusters: &[(usize, u32)]) -> Fixture {
    for &(at, ready) in clusters {
        let options = ServiceOptions { policy: policy.parse().ok(), ..Default::default() };
        let address = format!("192.0.2.{at}");
        fixture = fixture.shard(at, service, &[&address], ready, options);
    }
    fixture
}

fn held(fixture: &Fixture, clusters: &[&str]) -> Drill {
    drill(&fixture.build(), &Request::parse(clusters).expect("names")).expect("a drill")
}

/// The moves as text: from, to, and thousandths of IPv4 and IPv6.
fn told(drill: &Drill) -> Vec<String> {
    let told = |m: &Move| {
        let [v4, v6] = [m.share.ipv4, m.share.ipv6].map(|share| (share * 1000.0).round());
        format!("{} {} {v4} {v6}", m.from, m.to.as_deref().unwrap_or("-"))
    };
    drill.moves.iter().map(told).collect()
}

#[test]
fn who_is_nearest_moves_to_who_is_next() {
    let web = shards(world(), "ns/web", "all", &[(0, 1), (1, 1), (2, 1)]);
    let drill = held(&web, &["eu"]);
    assert_eq!(told(&drill), ["eu us 250 0"], "no AAAA records, so no IPv6 share");
    assert_eq!((drill.services.ipv4, drill.touched.ipv4), (1, 1));
    assert!(drill.lost.is_empty());
    let dual = web.shard(1, "ns/six", &["2001:db8::1"], 1, Default::default());
    let dual = dual.shard(0, "ns/six", &["2001:db8::2"], 1, Default::default());
    assert_eq!(told(&held(&dual, &["us"])), ["us eu 500 500"]);
    assert_eq!(told(&held(&dual, &["us", "asia"])), ["us eu 500 500", "asia eu 250 0"]);
}

#[test]
fn services_without_a_shard_left_are_named() {
    let fixture = shards(world(), "ns/web", "nearest: 1", &[(0, 1), (1, 1), (2, 0)]);
    let fixture = shards(fixture, "ns/only", "all", &[(0, 1), (1, 0)]);
    let fixture = fixture.shard(0, "ns/web6", &["2001:db8::1"], 1, Default::default());
    let fixture = shards(fixture, "ns/web6", "all", &[(1, 1)]);
    let drill = held(&fixture, &["eu"]);
    // Two services of three lose nothing but their share; the clients of Asia are nearer to Europe.
    assert_eq!(told(&drill), ["eu - 333 1000", "eu us 167 0"]);
    let lost = |service: &str, rtype: &str, gone| Lost {
        service: service.into(),
        types: vec![rtype.into()],
        gone,
    };
    let mut found = drill.lost.clone();
    found.sort_by(|a, b| a.service.cmp(&b.service));
    let only = fixture.build().zone.services().iter().find_map(|entry| {
        let name = entry.service().key.to_string();
        name.contains("only").then_some(name)
    });
    let only = only.expect("a service");
    assert_eq!(found[0], lost(&only, "A", true));
    assert_eq!(found[1], lost(&only.replace("only", "web6"), "AAAA", false));
    let text = drill.to_string();
    for line in ["without eu (generation ", "eu    nothing   33.3 %", "others are left"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn equals_weights_and_lines() {
    let twins = Fixture::new()
        .cluster("a", "eu", &["eu-1"], Some((50.0, 8.0)))
        .cluster("b", "eu", &["eu-1"], Some((50.0, 8.0)))
        .cluster("c", "us", &["us-1"], Some((40.0, -90.0)))
        .network("20.0.0.0/8", (48.0, 2.0))
        .network("22.0.0.0/8", (41.0, -88.0));
    let all = [(0, 1), (1, 2), (2, 5)];
    let by = |policy| shards(twins.clone(), "ns/web", policy, &all);
    assert_eq!(told(&held(&by("all"), &["a"])), ["a b 250 0"], "half of a half");
    assert_eq!(told(&held(&by("all"), &["a", "b"])), ["a c 250 0", "b c 250 0"]);
    assert_eq!(told(&held(&by("weighted"), &["b"])), ["b c 208 0", "b a 42 0"]);
    assert_eq!(told(&held(&by("failover: c, a"), &["c"])), ["c a 1000 0"]);
    assert_eq!(told(&held(&by("failover: c, a"), &["a"])), [] as [&str; 0]);
}

#[test]
fn clusters_that_serve_nothing_are_told_and_unknown_ones_refused() {
    let mut fixture = shards(world(), "ns/web", "all", &[(0, 1), (1, 1)]);
    fixture.states[1] = ClusterState::Down;
    let drill = held(&fixture, &["us"]);
    assert_eq!((drill.already_out.as_slice(), told(&drill)), (&["us".to_owned()][..], vec![]));
    let request = Request::parse(&["moon"]).expect("a name");
    let refused = super::drill(&fixture.build(), &request).expect_err("no cluster");
    assert_eq!(refused.to_string(), "cluster: there is no 'moon'; there are eu, us, asia");
    assert_eq!(Request::parse(&[] as &[&str]), Err(InvalidDrill::NoCluster));
}

#[test]
fn survives_json() {
    let drill = held(&shards(world(), "ns/web", "all", &[(0, 1), (1, 1)]), &["eu", "us"]);
    let json = serde_json::to_string(&drill).expect("JSON");
    assert_eq!(serde_json::from_str::<Drill>(&json).expect("the same"), drill);
    assert!(json.contains(r#""from":"us","to":null,"ipv4":"#), "{json}");
}

#[test]
fn what_is_told_is_what_happens() {
    // Sixteen networks of one size around the world, seven clusters, services here and there.
    let degrees = |at: usize| (at * 53 % 120) as f64 - 60.0;
    let mut fixture = Fixture::new();
    for at in 0..7 {
        let name = format!("c{at}");
        let place = (degrees(at + 3), (at * 51) as f64 - 170.0);
        fixture = fixture.cluster(&name, &format!("r{}", at % 3), &[], Some(place));
    }
    let networks: Vec<String> = (0..16).map(|at| format!("{}.0.0.0/8", 20 + at)).collect();
    for (at, network) in networks.iter().enumerate() {
        fixture = fixture.network(network, (degrees(at), (at * 23) as f64 - 175.0));
    }
    for (name, policy, clusters) in [
        ("ns/a", "all", &[0, 1, 2, 3, 4, 5, 6][..]),
        ("ns/b", "nearest: 1", &[0, 2, 5]),
        ("ns/c", "region", &[1, 2, 3, 4]),
        ("ns/d", "failover: c5, c2, c0", &[0, 2, 3, 5]),
        ("ns/e", "all", &[2]),
    ] {
        let clusters: Vec<_> = clusters.iter().map(|at| (*at, 1)).collect();
        fixture = shards(fixture, name, policy, &clusters);
    }
    let before = fixture.build();
    for out in [&["c2"][..], &["c5"], &["c2", "c5"], &["c0", "c1", "c3"]] {
        let request = Request::parse(out).expect("names");
        let told = super::drill(&before, &request).expect("a drill");
        let mut down = fixture.clone();
        for (at, state) in down.states.iter_mut().enumerate() {
            if out.contains(&format!("c{at}").as_str()) {
                *state = ClusterState::Down;
            }
        }
        let after = down.build();
        let mut moves: BTreeMap<(String, Option<String>), f64> = BTreeMap::new();
        for service in ["a", "b", "c", "d", "e"] {
            for network in &networks {
                let name = format!("{service}.ns.fed.svc.example.com");
                let request = explain::Request::parse(&name, "A", network).expect("a request");
                let first = |snapshot: &Snapshot| {
                    let clusters = explain::explain(snapshot, &request).service?.clusters;
                    clusters.into_iter().find(|c| c.rank == Some(1)).map(|c| c.cluster)
                };
                let from = first(&before).expect("served");
                let to = first(&after);
                if to.as_ref() != Some(&from) {
                    *moves.entry((from, to)).or_default() += 1.0 / (5.0 * networks.len() as f64);
                }
            }
        }
        let found = told.moves.into_iter().map(|m| ((m.from, m.to), m.share.ipv4));
        let found: BTreeMap<_, _> = found.collect();
        assert_eq!(found.keys().collect::<Vec<_>>(), moves.keys().collect::<Vec<_>>(), "{out:?}");
        for (pair, share) in moves {
            assert!((found[&pair] - share).abs() < 1e-9, "{out:?}: {pair:?} {share} {found:?}");
        }
    }
}

/// Of a family that no source places and whose space is reserved, no share can be told.
#[test]
fn a_family_without_clients_moves_nobody() {
    let snapshot = shards(world(), "ns/web", "all", &[(0, 1), (1, 1)]).build();
    let out: ClusterSet = [ClusterId::new(0)].into_iter().collect();
    let after = without(&snapshot, &out);
    let mut tally = Tally::default();
    let bucket = (0..BUCKETS).find(|bucket| !snapshot.zone.services().bucket(*bucket).is_empty());
    let bucket = bucket.expect("a service");
    let service = snapshot.zone.services().bucket(bucket)[0].service();
    tally.add([&snapshot, &after], service, Position { bucket, slot: 0 });
    let mut census = snapshot.geography.compiled.census();
    assert_eq!(tally.moves(&census, |id| id.index().to_string()).len(), 1);
    census.iter_mut().for_each(|share| share.v4 = 0);
    assert_eq!(tally.moves(&census, |id| id.index().to_string()), []);
}
