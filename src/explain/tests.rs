use super::*;
use crate::snapshot::testing::Fixture;

const WEB: &str = "web.ns.fed.svc.example.com";

fn federation() -> Fixture {
    Fixture::new()
        .cluster("near", "eu", &["eu-1"], Some((50.0, 8.0)))
        .cluster("far", "us", &["us-1"], Some((40.0, -90.0)))
        .cluster("idle", "asia", &["asia-1"], Some((35.0, 139.0)))
        .cluster("none", "asia", &["asia-2"], Some((35.0, 139.0)))
        .shard(0, "ns/web", &["192.0.2.1"], 1, Default::default())
        .shard(1, "ns/web", &["192.0.2.2", "2001:db8::2"], 1, Default::default())
        .shard(2, "ns/web", &["192.0.2.3"], 0, Default::default())
        .network("198.18.0.0/24", (48.0, 2.0))
        .network("198.18.1.0/24", (41.0, -88.0))
}

fn story(name: &str, qtype: &str, client: &str) -> Explanation {
    let request = Request::parse(name, qtype, client).expect("a request");
    explain(&federation().build(), &request)
}

#[test]
fn tells_order_distance_and_reasons() {
    let told = story(WEB, "a", "198.18.0.7");
    assert_eq!(told.location.source, "network 198.18.0.0/24");
    assert_eq!(told.scope, "198.18.0.0/24");
    assert_eq!(told.answer.len(), 2);
    assert!(told.answer[0].ends_with("192.0.2.1"), "{:?}", told.answer);
    let service = told.service.expect("a service");
    let names: Vec<_> = service.clusters.iter().map(|c| (c.cluster.as_str(), c.rank)).collect();
    assert_eq!(names, [("near", Some(1)), ("far", Some(2)), ("idle", None), ("none", None)]);
    let km = service.clusters[0].distance_km.expect("both are placed");
    assert!((400.0..600.0).contains(&km), "{km}");
    assert_eq!(service.clusters[2].excluded.as_deref(), Some("0 of 1 needed endpoints ready"));
    // The fixture's clock.
    assert_eq!(service.clusters[2].since.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(service.clusters[3].excluded.as_deref(), Some("does not export the service"));
}

#[test]
fn tells_the_path_up_and_the_missing_family() {
    let told = story("web.ns.fed.svc.asia-1.asia.example.com", "AAAA", "198.18.1.0/24");
    let service = told.service.expect("a service");
    let path = [
        "web.ns.fed.svc.asia-1.asia.example.com.",
        "web.ns.fed.svc.asia.example.com.",
        "web.ns.fed.svc.example.com.",
    ];
    assert_eq!(service.path, path);
    assert_eq!((service.clusters[0].cluster.as_str(), service.clusters[0].rank), ("far", Some(1)));
    let near = service.clusters.iter().find(|c| c.cluster == "near").expect("registered");
    assert_eq!(near.excluded.as_deref(), Some("has no address of the family asked for"));
}

#[test]
fn prints_a_table_and_survives_json() {
    let told = story(WEB, "TYPE1", "198.18.1.0/24");
    let json = serde_json::to_string(&told).expect("JSON");
    assert_eq!(serde_json::from_str::<Explanation>(&json).expect("the same"), told);
    let table = told.to_string();
    assert!(table.contains("1  far"), "{table}");
    assert!(table.contains("0 of 1 needed endpoints ready"), "{table}");
}

#[test]
fn refuses_what_it_cannot_understand() {
    assert!(matches!(Request::parse("a..b", "A", "::1"), Err(InvalidRequest::Name(_))));
    assert!(matches!(Request::parse("a.b", "NONE", "::1"), Err(InvalidRequest::Type(_))));
    assert!(matches!(Request::parse("a.b", "A", "1.2.3"), Err(InvalidRequest::Client(_))));
}

#[test]
fn dumps_every_name_once() {
    let mut text = String::new();
    dump::dump(&federation().build(), &mut text).expect("a string takes all");
    let lines = |start: &str| text.lines().filter(|l| l.starts_with(start)).count();
    assert_eq!(lines("web.ns.fed.svc.example.com. 180 IN A "), 2);
    assert_eq!(lines("web.ns.fed.svc.example.com. 180 IN AAAA 2001:db8::2"), 1);
    let cname = "web.ns.fed.svc.asia-1.asia.example.com. 180 IN CNAME \
                 web.ns.fed.svc.asia.example.com.";
    assert_eq!(lines(cname), 1, "{text}");
    assert_eq!(lines("_http._tcp.web.ns.fed.svc.eu.example.com. 180 IN SRV 0 1 80 near.web"), 1);
    assert_eq!(lines("ns1.example.com. 180 IN A 192.0.2.53"), 1);
    assert_eq!(lines("web.ns.fed.example.com. 180 IN A "), 2, "the synonym of G");
    assert_eq!(lines("web.ns.fed.svc.eu-1.example.com. 180 IN A "), 1, "the synonym of Z");
    assert_eq!(lines("; idle.web.ns.fed.svc.example.com."), 1);
}

#[test]
fn tells_of_cluster_internal_names() {
    const NAME: &str = "web.ns.fed.svc.cluster.local";
    let reached = crate::model::Internal::ClusterIp([IpAddr::from([10, 96, 0, 1])].into());
    let inside = |ready| {
        Fixture::new()
            .cluster("home", "eu", &["eu-1"], Some((50.0, 8.0)))
            .cluster("away", "us", &["us-1"], Some((40.0, -90.0)))
            .shard(0, "ns/web", &[], ready, Default::default())
            .reached_by(0, reached.clone())
            .shard(1, "ns/web", &["192.0.2.2"], 1, Default::default())
            .inside("home", None)
            .build()
    };
    let request = Request::parse(NAME, "A", "10.0.0.1").expect("a request");
    let dumped = |snapshot: &Snapshot| {
        let mut text = String::new();
        dump::dump(snapshot, &mut text).expect("a string takes all");
        let (_, internal) = text.split_once("$ORIGIN fed.svc.cluster.local.\n").expect("both");
        internal.lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let here = inside(1);
    let told = explain(&here, &request);
    assert!(told.found.ends_with("the ClusterIP of its own cluster: 10.96.0.1"), "{}", told.found);
    assert_eq!(told.answer.len(), 1);
    let srv = format!("_http._tcp.{NAME}. 5 IN SRV 0 1 80 {NAME}.");
    assert_eq!(dumped(&here), [format!("{NAME}. 5 IN A 10.96.0.1"), srv]);

    let away = inside(0);
    let told = explain(&away, &request);
    let why = "leads elsewhere as its shard 0 of 1 needed endpoints ready";
    assert!(told.found.ends_with(why), "{}", told.found);
    let path = told.service.expect("a service").path;
    let (region, global) = ("web.ns.fed.svc.eu.example.com.", "web.ns.fed.svc.example.com.");
    assert_eq!(path, [&format!("{NAME}."), region, global]);
    let cname = |port: &str| format!("{port}{NAME}. 5 IN CNAME {port}{region}");
    assert_eq!(dumped(&away), [cname(""), cname("_http._tcp.")]);
    let outside = Request::parse("cluster.local", "A", "10.0.0.1").expect("a request");
    assert_eq!(explain(&away, &outside).found, "outside of our zones");
}

#[test]
fn scopes_are_as_wide_among_hundreds_of_clusters() {
    let mut fixture = Fixture::new();
    for at in 0..200 {
        let name = format!("c{at}");
        let degrees = f64::from(at) * 1.7 - 170.0;
        fixture = fixture.cluster(&name, &name, &[], Some((10.0, degrees)));
    }
    for at in [3, 140, 199] {
        fixture = fixture.shard(at, "ns/web", &["192.0.2.1"], 1, Default::default());
    }
    // Beside c3 and c20, whose neighbours differ, and beside c199.
    fixture = fixture
        .network("20.0.0.0/10", (10.0, -164.9))
        .network("20.64.0.0/10", (10.0, -136.0))
        .network("20.128.0.0/9", (10.0, 168.3));
    let request = Request::parse(WEB, "A", "20.0.0.0/24").expect("a request");
    let told = explain(&fixture.build(), &request);
    assert_eq!(told.scope, "20.0.0.0/9");
    let limit = told.service.expect("a service").limit.expect("a limit");
    assert!(limit.starts_with("20.128.0.0/9 beside it, where 20.128.0.0 is "), "{limit}");
}

#[test]
fn ties_that_no_answer_holds_do_not_narrow_scopes() {
    let told = |near: &str, most: u16, ready: [u32; 3]| {
        let mut fixture = Fixture::new()
            .cluster("near", "eu", &[], Some((50.0, 8.0)))
            .cluster("far", "us", &[], Some((40.0, -90.0)))
            .cluster("twin", "us", &[], Some((40.0, -90.0)))
            .network("20.0.0.0/8", (48.0, 2.0))
            .network("22.0.0.0/8", (41.0, -88.0));
        for (at, ready) in ready.into_iter().enumerate() {
            let options =
                crate::model::ServiceOptions { policy: near.parse().ok(), ..Default::default() };
            let address = format!("192.0.2.{at}");
            fixture = fixture.shard(at, "ns/web", &[&address], ready, options);
        }
        fixture.zone.ties = crate::model::Ties::Sticky;
        fixture.zone.max_addresses = std::num::NonZeroU16::new(most).expect("not zero");
        let request = Request::parse(WEB, "A", "20.1.2.0/24").expect("a request");
        explain(&fixture.build(), &request).scope
    };
    for (policy, most, ready, scope) in [
        ("all", 8, [1, 1, 1], "20.1.2.0/24"),
        ("all", 3, [1, 1, 1], "20.1.2.0/24"),
        // Which of the two is left out is for the hash to say.
        ("all", 2, [1, 1, 1], "20.1.2.0/24"),
        ("all", 1, [1, 1, 1], "20.0.0.0/7"),
        ("all", 1, [0, 1, 1], "20.1.2.0/24"),
        ("all", 2, [1, 1, 0], "20.0.0.0/7"),
        ("nearest: 1", 8, [1, 1, 1], "20.0.0.0/7"),
        ("nearest: 2", 8, [1, 1, 1], "20.1.2.0/24"),
        ("nearest: 3", 1, [1, 1, 1], "20.0.0.0/7"),
        ("region", 8, [1, 1, 1], "20.0.0.0/7"),
    ] {
        assert_eq!(told(policy, most, ready), scope, "{policy}, {most} addresses, {ready:?}");
    }
}
