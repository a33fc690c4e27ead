use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::answer::{Answered, LocatedBy, ZoneKind};
use crate::health::ClusterState;
use crate::model::{CheckMode, ServiceOptions};
use crate::snapshot::testing::Fixture;

const ZONE: &str = "example.com.";

fn answered(qtype: u16, rcode: u16, len: usize) -> Answered {
    Answered { len, zone: ZoneKind::Federation, qtype, rcode, located: LocatedBy::Nothing }
}

/// The value of the line that begins with `series` and a space.
fn value(telemetry: &Telemetry, series: &str) -> Option<f64> {
    let text = telemetry.render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|number| number.parse().unwrap())
}

#[test]
fn workers_are_summed() {
    let telemetry = Telemetry::new(ZONE);
    let mut first = telemetry.udp_worker(Family::V4);
    let mut second = telemetry.udp_worker(Family::V4);
    let tcp = telemetry.tcp_listener(Family::V6);
    first.record(&answered(1, 0, 100));
    first.record(&answered(1, 3, 100));
    second.record(&answered(1, 0, 100));
    tcp.record(&answered(1, 0, 100));
    let requests = |proto, family| {
        let labels = format!(r#"zone="{ZONE}",proto="{proto}",family="{family}",type="A""#);
        value(&telemetry, &format!("meridian_dns_requests_total{{{labels}}}"))
    };
    assert_eq!(requests("udp", 1), Some(3.0));
    assert_eq!(requests("tcp", 2), Some(1.0));
    assert_eq!(requests("udp", 2), None, "what was never counted has no series");
    let responses = |rcode| {
        let labels = format!(r#"zone="{ZONE}",rcode="{rcode}""#);
        value(&telemetry, &format!("meridian_dns_responses_total{{{labels}}}"))
    };
    assert_eq!(responses("NOERROR"), Some(3.0));
    assert_eq!(responses("NXDOMAIN"), Some(1.0));
    assert_eq!(value(&telemetry, "meridian_dns_response_size_bytes_sum"), Some(400.0));
    // Counters outlive their worker.
    drop(first);
    assert_eq!(requests("udp", 1), Some(3.0));
}

#[test]
fn concurrent_connections_lose_no_count() {
    let telemetry = Telemetry::new(ZONE);
    let counters = telemetry.tcp_listener(Family::V4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let counters = counters.clone();
            scope.spawn(move || (0..10_000).for_each(|_| counters.record(&answered(28, 0, 64))));
        }
    });
    let series = format!(r#"zone="{ZONE}",proto="tcp",family="1",type="AAAA""#);
    let series = format!("meridian_dns_requests_total{{{series}}}");
    assert_eq!(value(&telemetry, &series), Some(40_000.0));
}

#[test]
fn rare_types_and_codes_are_other() {
    let telemetry = Telemetry::new(ZONE);
    let mut worker = telemetry.udp_worker(Family::V4);
    for qtype in [0, 99, 258, 259, 65535] {
        worker.record(&answered(qtype, 9, 64));
    }
    worker.record(&answered(257, 23, 64));
    let text = telemetry.render();
    let count = |label: &str| {
        let lines = text.lines().filter(|line| line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(count(r#"type="other""#), ["5"]);
    assert_eq!(count(r#"type="CAA""#), ["1"]);
    assert_eq!(count(r#"rcode="other""#), ["5"]);
    assert_eq!(count(r#"rcode="BADCOOKIE""#), ["1"]);
}

#[test]
fn sizes_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
    for (len, below, within) in [(64, None, 64), (65, Some(64), 128), (512, Some(256), 512)] {
        let telemetry = Telemetry::new(ZONE);
        telemetry.udp_worker(Family::V4).record(&answered(1, 0, len));
        let bucket = |bound: usize| {
            value(
                &telemetry,
                &format!(r#"meridian_dns_response_size_bytes_bucket{{le="{bound}"}}"#),
            )
        };
        assert_eq!(bucket(within), Some(1.0), "{len}");
        assert!(below.is_none_or(|bound| bucket(bound) == Some(0.0)), "{len}");
    }
    let telemetry = Telemetry::new(ZONE);
    telemetry.udp_worker(Family::V4).record(&answered(1, 0, 65_535));
    telemetry.udp_worker(Family::V4).record(&answered(1, 0, 0));
    let largest = r#"meridian_dns_response_size_bytes_bucket{le="65536"}"#;
    assert_eq!(value(&telemetry, largest), Some(2.0));
}

#[test]
fn the_time_of_a_batch_is_shared_by_its_queries() {
    let telemetry = Telemetry::new(ZONE);
    let mut worker = telemetry.udp_worker(Family::V4);
    worker.batch(Duration::from_micros(256), 64);
    worker.batch(Duration::from_secs(1), 1);
    worker.batch(Duration::from_secs(1), 0);
    let name = "meridian_dns_request_duration_seconds";
    let bucket = |le| value(&telemetry, &format!(r#"{name}_bucket{{le="{le}"}}"#));
    // 4 µs each.
    assert_eq!((bucket("0.000003"), bucket("0.000005")), (Some(0.0), Some(64.0)));
    assert_eq!((bucket("0.1"), bucket("+Inf")), (Some(64.0), Some(65.0)));
    assert_eq!(value(&telemetry, &format!("{name}_count")), Some(65.0));
    assert_eq!(value(&telemetry, &format!("{name}_sum")), Some(1.000256));
}

#[test]
fn lookups_and_drops_are_counted_by_kind() {
    let telemetry = Telemetry::new(ZONE);
    let mut worker = telemetry.udp_worker(Family::V6);
    worker.record(&Answered { located: LocatedBy::Subnet, ..answered(1, 0, 64) });
    worker.record(&Answered { located: LocatedBy::Source, ..answered(1, 0, 64) });
    worker.record(&Answered { zone: ZoneKind::None, ..answered(1, 5, 64) });
    let reasons = [
        (Dropped::Unanswerable, "unanswerable"),
        (Dropped::PortZero, "port_zero"),
        (Dropped::Oversize, "oversize"),
        (Dropped::NoDestination, "no_destination"),
        (Dropped::Send, "send_error"),
        (Dropped::Receive, "receive_error"),
    ];
    for (n, (reason, _)) in reasons.iter().enumerate() {
        worker.dropped(*reason, n + 1);
    }
    for source in ["subnet", "source"] {
        let series = format!(r#"meridian_geo_lookups_total{{source="{source}"}}"#);
        assert_eq!(value(&telemetry, &series), Some(1.0), "{source}");
    }
    for (n, (_, label)) in reasons.iter().enumerate() {
        let series = format!(r#"meridian_dns_dropped_total{{reason="{label}"}}"#);
        assert_eq!(value(&telemetry, &series), Some((n + 1) as f64), "{label}");
    }
    let refused = r#"meridian_dns_responses_total{zone=".",rcode="REFUSED"}"#;
    assert_eq!(value(&telemetry, refused), Some(1.0));
}

#[test]
fn the_published_snapshot_shows() {
    let telemetry = Telemetry::new(ZONE);
    let clock = Arc::new(WatchClock::new());
    let cluster = |name: &str, state| ClusterStats {
        name: name.into(),
        state,
        withheld: 2,
        clock: Arc::clone(&clock),
        shards: vec![("served", 3), ("drained", 0)],
    };
    let (home, events) = (Arc::new(WatchClock::new()), Arc::new(EventCounts::default()));
    let stats = SnapshotStats {
        generation: 7,
        zones: vec![ZoneStats { apex: ZONE.into(), serial: 1_800_000_000, digest: 0xab }],
        internal: None,
        overrides: vec![("up", 0), ("down", 2)],
        clusters: vec![cluster("a", ClusterState::Up), cluster("b", ClusterState::Stale)],
        home: Some(HomeStats { clock: home.clone(), events: events.clone() }),
    };
    telemetry.publish(stats, Some(Duration::from_millis(2)));
    let is = |series: &str| value(&telemetry, series);
    assert_eq!(is("meridian_snapshot_generation"), Some(7.0));
    assert_eq!(is(r#"meridian_zone_serial{zone="example.com."}"#), Some(1.8e9));
    let content = r#"meridian_zone_content_info{zone="example.com.",digest="00000000000000ab"}"#;
    assert_eq!(is(content), Some(1.0));
    assert_eq!(is(r#"meridian_withdrawals_held{cluster="a"}"#), Some(2.0));
    assert_eq!(is(r#"meridian_cluster_state{cluster="a",state="up"}"#), Some(1.0));
    assert_eq!(is(r#"meridian_cluster_state{cluster="a",state="stale"}"#), Some(0.0));
    assert_eq!(is(r#"meridian_cluster_state{cluster="b",state="stale"}"#), Some(1.0));
    assert_eq!(is(r#"meridian_shards{cluster="a",state="served"}"#), Some(3.0));
    assert_eq!(is(r#"meridian_shards{cluster="b",state="drained"}"#), Some(0.0));
    assert_eq!(is(r#"meridian_overrides{state="down"}"#), Some(2.0));
    assert_eq!(is("meridian_publish_duration_seconds_count"), Some(1.0));
    // The age is taken when asked for, and there is none before the first sign of life.
    let age = r#"meridian_cluster_watch_age_seconds{cluster="a"}"#;
    assert_eq!(is(age), None);
    clock.touch();
    assert!(is(age).is_some_and(|age| age >= 0.0));
    // The home cluster is told without a name.
    home.watches().enter("Secret", "watching");
    home.touch();
    events.failed();
    assert_eq!(is(r#"meridian_watch_state{kind="Secret",state="watching"}"#), Some(1.0));
    assert!(is("meridian_home_watch_age_seconds").is_some_and(|age| age >= 0.0));
    assert_eq!(is(r#"meridian_events_total{outcome="failed"}"#), Some(1.0));
    assert_eq!(is(r#"meridian_events_total{outcome="written"}"#), Some(0.0));
    // A cluster that is no longer registered leaves nothing behind.
    telemetry.publish(SnapshotStats::default(), None);
    assert!(!telemetry.render().contains("cluster="));
}

#[test]
fn what_a_dashboard_or_alert_needs_is_there_from_the_start() {
    let telemetry = Telemetry::new(ZONE);
    let text = telemetry.render();
    assert!(!text.contains("# no"), "{text}");
    for series in [
        r#"meridian_reloads_total{outcome="failure",what="config"} 0"#,
        r#"meridian_reloads_total{outcome="failure",what="database"} 0"#,
        r#"meridian_dns_tcp_refused_total{reason="client"} 0"#,
        r#"meridian_dns_tcp_refused_total{reason="total"} 0"#,
        r#"meridian_dns_dropped_total{reason="send_error"} 0"#,
        "meridian_dns_tcp_connections 0",
        "meridian_snapshot_generation 0",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(series), "{series} is missing in\n{text}");
    }
    assert!(text.contains(&format!(r#"version="{}""#, env!("CARGO_PKG_VERSION"))));
    telemetry.reloaded(Reload::Config, Outcome::Failure);
    let failures = r#"meridian_reloads_total{outcome="failure",what="config"}"#;
    assert_eq!(value(&telemetry, failures), Some(1.0));
}

#[test]
fn readiness_reads_a_reason_a_line() {
    assert_eq!(Readiness::Ready.to_string(), "ok\n");
    let missing = Readiness::NotReady(vec!["cluster a: never read".into(), "draining".into()]);
    assert_eq!(missing.to_string(), "cluster a: never read\ndraining\n");
}

/// How a shard is checked is told as it would be written.
#[test]
fn state_tells_of_checks() {
    let checked = |check: &str| ServiceOptions {
        check: Some(check.parse().expect("a check")),
        ..ServiceOptions::default()
    };
    let mut fixture = Fixture::new().cluster("a", "", &[], None).cluster("b", "", &[], None);
    fixture.members[1].checks.mode = Some(CheckMode::Always);
    let fixture = fixture
        .shard(0, "ns/web", &["192.0.2.1"], 1, ServiceOptions::default())
        .shard(1, "ns/web", &["192.0.2.2"], 1, checked("http port=80 path=/healthz"))
        .shard(1, "ns/off", &["192.0.2.3"], 1, checked("off"));
    let databases = crate::geo::watch::Status::default();
    let told = state::of(&fixture.build(), &[], &databases, &Default::default());
    assert_eq!(told["clusters"][0]["checks"], "suspect");
    assert_eq!(told["clusters"][1]["checks"], "always");
    let shards = &told["services"]["ns/web"]["shards"];
    assert_eq!(
        (&shards["a"]["checkedBy"], &shards["b"]["checkedBy"]),
        (&"tcp".into(), &"http:80/healthz".into())
    );
    assert!(told["services"]["ns/off"]["shards"]["b"].get("checkedBy").is_none());
}
