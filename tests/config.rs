//! The configuration from outside: the files that are shipped, and what is said of bad ones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian::cluster::{Export, InternalAddresses, Source};
use meridian::config::{Config, ConfigError};
use meridian::geo::Target;
use meridian::health;
use meridian::health::votes::{self, Quorum};
use meridian::model::{CheckMode, ClusterId, Drain, Label, MinReady, Policy, WhenNoneHealthy};
use proptest::prelude::*;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

/// Parses `text` as if it lay in `config/`, so that its manifests are there.
fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, &shipped(), "test.yaml")
}

/// A valid file: `federation` is put into that section, `rest` after all.
fn minimal(federation: &str, rest: &str) -> String {
    format!(
        "federation:
  name: myfederation
  domain: example.com
  nameservers: [{{name: ns.example.net}}]
{federation}
listen: {{dns: ['127.0.0.1:0']}}
clusters:
  - name: gce-us-central1-a
    region: us-central1
    zones: [us-central1-a]
    source: {{manifests: clusters/gce-us-central1-a}}
{rest}"
    )
}

/// `path: reason` of every mistake of a file that must have some.
fn mistakes(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Mistakes { mistakes, .. }) => {
            mistakes.iter().map(|mistake| format!("{}: {}", mistake.path, mistake.reason)).collect()
        }
        other => panic!("expected mistakes, got {other:?}"),
    }
}

fn syntax(text: &str) -> (u64, u64, String) {
    match parse(text) {
        Err(ConfigError::Syntax { line, column, reason, .. }) => (line, column, reason),
        other => panic!("expected a syntax error, got {other:?}"),
    }
}

#[test]
fn every_shipped_file_is_valid() {
    let files: Vec<PathBuf> = std::fs::read_dir(shipped())
        .expect("config/ is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    assert!(files.len() >= 2, "only {files:?} found");
    for file in files {
        let config = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.warnings, [], "{}", file.display());
        assert_eq!(config.members.len(), config.sources.len());
    }
}

#[test]
fn the_demo_is_what_the_readme_says() {
    let demo = Config::load(&shipped().join("demo.yaml")).expect("valid");
    let names: Vec<String> = demo.members.iter().map(|member| member.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "gce-asia-east1-a",
            "gce-asia-east1-b",
            "gce-europe-west1-b",
            "gce-us-central1-a",
            "gce-us-central1-b",
            "gce-us-central1-c",
            "gce-us-east1-b"
        ]
    );
    for (member, source) in demo.members.iter().zip(&demo.sources) {
        assert_eq!(member.name, source.name);
        assert!(member.location.is_some() && member.region.is_some() && member.zones.len() == 1);
        let Source::Manifests(directory) = &source.source else { panic!("a directory") };
        assert!(directory.ends_with(format!("clusters/{}", member.name)));
    }
    assert_eq!(demo.federation.ttl, 180);
    assert_eq!(demo.federation.nameservers[0].addresses.len(), 2);
    assert_eq!(demo.server.dns.len(), 2);
    assert!(demo.server.http.is_some());
}

/// The values that `reference.yaml` calls defaults are those of a file without them.
#[test]
fn the_reference_tells_the_defaults() {
    let reference = Config::load(&shipped().join("reference.yaml")).expect("valid");
    let bare = parse(&minimal("", "")).expect("valid");
    let (told, real) = (&reference.federation, &bare.federation);
    assert_eq!(told.soa, real.soa);
    assert_eq!(
        (told.ttl, told.negative_ttl, told.unhealthy_ttl, told.max_addresses),
        (real.ttl, real.negative_ttl, real.unhealthy_ttl, real.max_addresses)
    );
    assert_eq!((&told.policy, &told.when_none_healthy), (&real.policy, &real.when_none_healthy));
    // How many checks run at a time depends on the machine, and votes are an example.
    let mut health = health::Settings { votes: None, ..reference.health.clone() };
    health.checks.concurrency = bare.health.checks.concurrency;
    assert_eq!(health, bare.health);
    let votes = reference.health.votes.expect("an example");
    assert_eq!((votes.quorum, votes.heartbeat), (Quorum::Majority, votes::Settings::HEARTBEAT));
    assert_eq!(votes.lease, votes::Settings::LEASE);
    assert_eq!(reference.sources[0].export, bare.sources[0].export);
    assert_eq!(reference.sources[0].allow_nets, bare.sources[0].allow_nets);
    assert_eq!(reference.members[0].drain, bare.members[0].drain);
    assert_eq!(reference.members[0].stale_grace, bare.members[0].stale_grace);
    assert_eq!(reference.sources[0].confirm, bare.sources[0].confirm);
    assert_eq!(bare.publisher.last_known_good, None);
    assert_eq!(reference.server.tcp, bare.server.tcp);
    assert_eq!(reference.server.drain, bare.server.drain);
    assert_eq!(reference.publisher.startup_grace, bare.publisher.startup_grace);
    assert_eq!(reference.identity.udp_payload, bare.identity.udp_payload);
    assert_eq!((bare.identity.version, bare.identity.id, bare.identity.nsid), (None, None, None));
    assert_eq!((bare.server.http, bare.resolver.upstreams), (None, vec![]));
}

#[test]
fn drains_and_least_counts_are_written_as_in_annotations() {
    let min_ready = |text: &str| {
        let config = parse(&minimal(&format!("  minReady: {text}"), ""));
        config.map(|config| config.health.min_ready).map_err(|error| error.to_string())
    };
    assert_eq!(min_ready("2"), Ok(MinReady::Count(2)));
    assert_eq!(
        (min_ready("50%"), min_ready("'50%'")),
        (Ok(MinReady::Percent(50)), Ok(MinReady::Percent(50)))
    );
    for bad in ["101%", "half", "1.5", "true", "-1"] {
        let error = min_ready(bad).expect_err("refused");
        assert!(error.contains("federation.minReady: ") && error.contains("write"), "{error}");
    }
    let drain = |text: &str| {
        let text = minimal("", "").replace(
            "    region: us-central1\n",
            &format!("    region: us-central1\n    drain: {text}\n"),
        );
        let config = parse(&text).map_err(|error| error.to_string());
        config.map(|config| config.members[0].drain)
    };
    assert_eq!((drain("true"), drain("false")), (Ok(Drain::AtOnce), Ok(Drain::No)));
    assert_eq!((drain("planned"), drain("'true'")), (Ok(Drain::Planned), Ok(Drain::AtOnce)));
    let error = drain("yes").expect_err("refused");
    assert!(error.contains("clusters[0].drain: 'yes' is no drain"), "{error}");
}

#[test]
fn the_lower_ttl_is_a_third_but_never_more_than_the_ttl() {
    let zone = parse(&minimal("", "")).expect("valid").federation;
    assert_eq!([180, 16, 15, 9, 5, 4, 1].map(|ttl| zone.lowered(ttl)), [60, 5, 5, 5, 5, 4, 1]);
    let overridden =
        "- {cluster: gce-us-central1-a, state: up, author: a, reason: b, until: never}";
    assert!(parse(&minimal("", "health: {load: {limit: 0.5, hysteresis: 0.6}}\n")).is_err());
    assert!(meridian::health::overrides::parse(overridden).is_ok_and(|rules| rules.len() == 1));
    let shipped =
        std::fs::read_to_string(shipped().join("operators/overrides.yaml")).expect("there");
    assert!(meridian::health::overrides::parse(&shipped).is_ok_and(|rules| rules.len() == 2));
}

#[test]
fn values_reach_the_settings() {
    let text = minimal(
        "  policy: {nearest: 2}
  whenNoneHealthy: 192.0.2.9
  minReady: 0
  maxAddresses: 3
  unsettledTtl: 7
  export: all
  allowNets: [127.0.0.0/8]
  records:
    - {name: www, type: A, data: 192.0.2.1}
    - {name: www.example.com., type: A, data: 192.0.2.2}
    - {name: mail.example.com, type: AAAA, ttl: 60, data: '::1'}",
        "dns: {udpPayloadSize: 4096, udpWorkers: 3, udpReceiveOffload: true, tcp: {maxConnections: 4, idleTimeout: 1m 30s}, nsid: a}
startup: {grace: 0s}
health: {grace: 1m, failureThreshold: 5, successThreshold: 2, load: {limit: 0.05}, overrides: operators/overrides.yaml}
withdrawal: {confirm: 10m}
lastKnownGood: {path: state}
shutdown: {drain: 500ms}
resolver: {upstreams: ['192.0.2.53', '[2001:db8::53]:5353']}
internal: {cluster: GCE-us-central1-a, clusterDomain: k8s.example.net, zone: us-central1-a}
geo:
  networks:
    - {cidr: 10.0.0.0/8, cluster: gce-us-central1-a}
    - {cidr: 10.1.0.0/16, zone: us-central1-a}
",
    );
    let config = parse(&text).expect("valid");
    let zone = &config.federation;
    assert!(matches!(zone.policy, Policy::Nearest(n) if n.get() == 2));
    assert!(matches!(zone.when_none_healthy, WhenNoneHealthy::Addresses(_)));
    assert_eq!((zone.max_addresses.get(), config.health.min_ready), (3, MinReady::Count(0)));
    assert_eq!((zone.unsettled_ttl, zone.lowered(180), zone.lowered(5)), (Some(7), 7, 5));
    let load = &config.health.load;
    assert_eq!((load.limit, load.hysteresis), (0.05, 0.05), "it follows a lower limit");
    assert_eq!(config.overrides, Some(shipped().join("operators/overrides.yaml")));
    let records: Vec<_> =
        zone.records.iter().map(|r| (r.owner.to_string(), r.rtype, r.ttl, r.rdata.len())).collect();
    assert_eq!(
        records,
        [
            ("www.example.com.".to_owned(), 1, 180, 4),
            ("www.example.com.".to_owned(), 1, 180, 4),
            ("mail.example.com.".to_owned(), 28, 60, 16)
        ]
    );
    let internal = zone.internal.as_ref().expect("configured");
    assert_eq!(internal.apex.to_string(), "myfederation.svc.k8s.example.net.");
    assert_eq!((&internal.cluster, internal.zone.is_some()), (&config.members[0].name, true));
    assert_eq!(config.sources[0].internal, InternalAddresses::Kept);
    assert_eq!(config.sources[0].export, Export::All);
    assert_eq!(config.sources[0].allow_nets.len(), 1);
    assert_eq!(config.identity.udp_payload, 4096);
    assert_eq!(config.identity.nsid.as_deref(), Some(&b"a"[..]));
    assert_eq!((config.server.udp_workers.get(), config.server.udp_receive_offload), (3, true));
    assert_eq!(config.server.tcp.max_connections_per_client, 4);
    assert_eq!(config.server.tcp.idle_timeout, Duration::from_secs(90));
    assert_eq!(config.server.drain, Duration::from_millis(500));
    assert_eq!(config.publisher.startup_grace, Duration::ZERO);
    assert_eq!(config.publisher.last_known_good, Some(shipped().join("state")));
    let tracking = &config.health.tracking;
    let thresholds = (tracking.failures.get(), tracking.successes.get());
    assert_eq!((tracking.grace, thresholds), (Duration::from_secs(60), (5, 2)));
    assert_eq!(config.sources[0].confirm, Duration::from_secs(600));
    let ports: Vec<u16> = config.resolver.upstreams.iter().map(|a| a.port()).collect();
    assert_eq!(ports, [53, 5353]);
    assert!(matches!(config.geo.networks[0].target(), Target::Cluster(_)));
    assert!(matches!(config.geo.networks[1].target(), Target::Zone { region: None, .. }));
}

#[test]
fn checks_have_two_forms_and_clusters_their_own() {
    let text = minimal(
        "",
        "    checks: {mode: always, check: 'tcp:8443', interval: 1s, fall: 2, jitter: 50}
health:
  checks:
    mode: off
    check: {https: {port: 443, path: /healthz, status: [200, 204], verify: false}}
    interval: 10s
    timeout: 3s
    rise: 4
    fall: 5
    jitter: 0
    concurrency: 7
    authorities: [../src/health/check/tests/tls/authority.pem]
",
    );
    let config = parse(&text).expect("valid");
    let checks = &config.health.checks;
    let written = "https:443/healthz verify=false status=200,204";
    assert_eq!((checks.mode, checks.check.to_string()), (CheckMode::Off, written.to_owned()));
    let timing = &checks.timing;
    assert_eq!((timing.interval.as_secs(), timing.timeout.as_secs()), (10, 3));
    assert_eq!((timing.rise.get(), timing.fall.get()), (4, 5));
    assert_eq!((timing.jitter, checks.concurrency.get(), checks.authorities.len()), (0, 7, 1));
    let own = &config.members[0].checks;
    assert_eq!(own.mode, Some(CheckMode::Always));
    assert_eq!(own.check.as_ref().map(ToString::to_string).as_deref(), Some("tcp:8443"));
    assert_eq!((own.timing.interval, own.timing.timeout), (Some(Duration::from_secs(1)), None));
    let as_text = format!("health: {{checks: {{check: '{written}'}}}}");
    let as_text = parse(&minimal("", &as_text)).expect("valid").health.checks.check;
    assert_eq!(as_text, checks.check);
    let long = format!("health: {{checks: {{check: 'http:80/{}'}}}}", "a".repeat(1000));
    let told = mistakes(&minimal("", &long));
    assert_eq!(told, ["health.checks.check: is longer than 1000 octets"]);
}

/// As of `--config meridian.yaml`, in the directory where one is.
#[test]
fn a_file_may_stand_where_we_are() {
    let text = minimal("", "lastKnownGood: {path: state}").replace("clusters/", "config/clusters/");
    let config = Config::parse(&text, Path::new(""), "meridian.yaml").expect("valid");
    assert_eq!(config.publisher.last_known_good.as_deref(), Some(Path::new("state")));
}

#[test]
fn an_instance_sits_in_no_cluster_unless_told() {
    let bare = parse(&minimal("", "")).expect("valid");
    assert_eq!(bare.federation.internal, None);
    assert_eq!(bare.sources[0].internal, InternalAddresses::LeftOut);
    let inside = parse(&minimal("", "internal: {cluster: gce-us-central1-a}")).expect("valid");
    let internal = inside.federation.internal.expect("configured");
    assert_eq!(internal.apex.to_string(), "myfederation.svc.cluster.local.");
    assert_eq!(internal.zone, None);
    // Its zones are told by its nodes: any may come.
    let told_by_nodes = minimal("", "internal: {cluster: gce-us-central1-a, zone: z}")
        .replace("    zones: [us-central1-a]\n", "");
    assert!(parse(&told_by_nodes).is_ok());
    // A cluster that is not in the file may be registered at a home.
    let elsewhere = minimal("", "internal: {cluster: other}");
    assert_eq!(mistakes(&elsewhere), ["internal.cluster: there is no cluster 'other'"]);
    let home =
        parse(&format!("{elsewhere}\nhome: {{source: {{inCluster: {{}}}}}}")).expect("valid");
    let other = Label::parse("other").expect("a label");
    assert_eq!(home.common.inside, Some(other.clone()));
    let registered = home.common.settings(other, Source::Manifests(shipped()));
    assert_eq!(registered.internal, InternalAddresses::Kept);
}

#[test]
fn syntax_errors_have_their_place() {
    let (line, _, reason) = syntax(&minimal("  tll: 180", ""));
    assert!(line == 5 && reason.contains("tll"), "{line}: {reason}");
    let (line, column, reason) = syntax(&minimal("  ttl: soon", ""));
    assert!((line, column) == (5, 8), "{line}:{column}: {reason}");
    let (line, _, reason) = syntax(&minimal("  policy: {furthest: 1}", ""));
    assert!(line == 5 && reason.contains("furthest"), "{line}: {reason}");
    let (line, _, reason) = syntax(&minimal("  policy: [all]", ""));
    assert!(line == 5 && reason.contains("nearest"), "{line}: {reason}");
    let (line, _, reason) = syntax(&minimal("  ttl: 1\n  ttl: 2", ""));
    assert!(line == 6 && reason.contains("ttl"), "{line}: {reason}");
    let (line, _, reason) =
        syntax(&minimal("", "geo: {networks: [{cidr: 10.0.0.0/8, cluster: a, as: 1}]}"));
    assert!(line == 12 && reason.contains("as"), "{line}: {reason}");
    let (line, _, reason) = syntax(&minimal("", "dns: {tcp: {idleTimeOut: 1s}}"));
    assert!(line == 12 && reason.contains("idleTimeOut"), "{line}: {reason}");
    for (bad, expected) in [
        ("  ttl: 1.5", "a whole number"),
        ("  soa: 1", "a mapping"),
        ("  records: 1", "a list"),
        ("  whenNoneHealthy: [all]", "a text"),
    ] {
        let (line, _, reason) = syntax(&minimal(bad, ""));
        assert!(line == 5 && reason.contains(expected), "{line}: {reason}");
    }
    let (line, ..) = syntax("federation:\n\tname: f");
    assert_eq!(line, 2);
    let (.., reason) = syntax("");
    assert!(!reason.is_empty());
    let message = parse(&minimal("  tll: 180", "")).expect_err("refused").to_string();
    assert!(message.starts_with("test.yaml:5:") && message.lines().count() == 1, "{message}");
}

#[test]
fn an_unreadable_file_is_named() {
    let missing = shipped().join("no-such-file.yaml");
    let error = Config::load(&missing).expect_err("not there");
    assert!(matches!(error, ConfigError::Read { .. }));
    assert!(error.to_string().contains("no-such-file.yaml"));
}

/// One file with every mistake that can stand beside the others; each is told once, in the order
/// of the file, with its place.
#[test]
fn every_mistake_is_told_in_one_run() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/mistakes.yaml");
    let text = std::fs::read_to_string(&file).expect("readable");
    let told = Config::parse(&text, Path::new("config"), "mistakes.yaml")
        .expect_err("refused")
        .to_string();
    let expected = std::fs::read_to_string(file.with_extension("txt")).expect("readable");
    assert_eq!(told.lines().collect::<Vec<_>>(), expected.lines().collect::<Vec<_>>());
}

/// Mistakes that hide others, or each other, and so need a file of their own.
#[test]
fn who_votes_must_make_sense() {
    let file = |votes: &str| minimal("", &format!("health: {{votes: {{{votes}}}}}"));
    let three = "cluster: a, voters: [a, b, c], directory: clusters";
    for (votes, mistake) in [
        ("directory: clusters".into(), "health.votes: votes for no cluster: give 'cluster'"),
        (
            "cluster: other, directory: clusters".into(),
            "health.votes.cluster: there is no cluster 'other', and every cluster votes: name \
             another, or the 'voters'",
        ),
        (
            "cluster: gce-us-central1-a".into(),
            "health.votes: nothing carries the ballots: give a 'directory' that all instances \
             share, or a 'home' cluster to keep them in",
        ),
        (
            "cluster: d, voters: [a, b, c], directory: clusters".into(),
            "health.votes.voters: does not list 'd', for which this instance votes",
        ),
        (
            format!("{three}, quorum: 4"),
            "health.votes.quorum: 4 is not from 1 to 3: how many of the clusters that vote",
        ),
        (
            format!("{three}, heartbeat: 10s, lease: 15s"),
            "health.votes.lease: 15s is less than two heartbeats of 10s: one that comes late \
             would end it",
        ),
    ] {
        assert_eq!(mistakes(&file(&votes)), [mistake], "{votes}");
    }
    let config = parse(&file(&format!("{three}, quorum: 2, heartbeat: 1s"))).expect("valid");
    let votes = config.health.votes.expect("it votes");
    assert_eq!(votes.quorum, Quorum::Count(2.try_into().expect("not zero")));
    assert_eq!(votes.lease, Duration::from_secs(3), "three heartbeats");
    assert!(config.warnings.is_empty());
    let two = parse(&file("cluster: a, voters: [a, b], directory: clusters")).expect("valid");
    assert_eq!(
        two.warnings[0].reason,
        "two voters decide nothing while one of them is not heard: three are better"
    );
    let ballots = |file: &str| parse(file).expect("valid").common.api.ballots;
    let home = "home: {source: {inCluster: {}}, namespace: dns}\nhealth: {votes: {cluster: a";
    let by_home = minimal("", &format!("{home}}}}}"));
    assert_eq!(ballots(&by_home).as_deref(), Some("dns"), "API servers carry them");
    assert_eq!(ballots(&by_home.replace(", namespace: dns", "")).as_deref(), Some("meridian"));
    let by_directory = minimal("", &format!("{home}, directory: clusters}}}}"));
    assert_eq!(ballots(&by_directory), None);
    let inside = "internal: {cluster: gce-us-central1-a}\nhealth: {votes: {directory: clusters}}";
    let config = parse(&minimal("", inside)).expect("valid");
    assert_eq!(config.health.votes.expect("it votes").cluster.as_str(), "gce-us-central1-a");
}

#[test]
fn mistakes_of_their_own_file() {
    let no_clusters = "
federation: {name: f, domain: example.com, nameservers: []}
listen: {dns: []}
clusters: []
";
    assert_eq!(
        mistakes(no_clusters),
        [
            "federation.nameservers: is empty: a zone has at least one name server",
            "listen.dns: is empty: give at least one address to answer on",
            "clusters: is empty: a federation has at least one cluster, here or registered at \
             'home'",
        ]
    );
    let swap = |from: &str, to: &str| minimal("", "").replace(from, to);
    for (text, expected) in [
        (swap("domain: example.com", "domain: ."), "federation.domain: the root cannot"),
        (
            swap("domain: example.com", "domain: a..b"),
            "federation.domain: 'a..b' is no domain name",
        ),
        (
            swap("domain: example.com", &format!("domain: {}", vec!["a".repeat(60); 4].join("."))),
            "federation.domain: is too long: its 245 octets leave no room for services in \
             S.N.myfederation.svc.us-central1-a.us-central1.",
        ),
        (swap("name: myfederation", "name: us-central1"), "federation.name: 'us-central1' is also"),
        (
            swap("name: myfederation", "name: us-central1-a"),
            "federation.name: 'us-central1-a' is a",
        ),
        (
            minimal("  soa: {refresh: 10, retry: 10, expire: 19}", ""),
            "federation.soa.expire: 19 is less than refresh and retry together (20)",
        ),
        (minimal("  policy: {nearest: 0}", ""), "federation.policy: 'nearest: 0' is no policy"),
        (
            minimal("  whenNoneHealthy: none", ""),
            "federation.whenNoneHealthy: 'none' has no domain",
        ),
        (swap("name: myfederation", "name: \"a\\nb\""), "federation.name: 'a\\nb' is no DNS label"),
        (
            minimal("", "internal: {cluster: gce-us-central1-a, clusterDomain: example.com}"),
            "internal.clusterDomain: the zone myfederation.svc.example.com. of cluster-internal",
        ),
        (
            swap("domain: example.com", "domain: d.myfederation.svc.cluster.local")
                + "internal: {cluster: gce-us-central1-a}",
            "internal.cluster: the zone myfederation.svc.cluster.local. of cluster-internal names",
        ),
        (
            minimal("", "internal: {cluster: gce-us-central1-a, zone: us-central1-b}"),
            "internal.zone: 'us-central1-b' is none of the 'zones' of cluster 'gce-us-central1-a'",
        ),
        (
            minimal("", "internal: {cluster: gce-us-central1-a, clusterDomain: LONG}")
                .replace("LONG", &vec!["a".repeat(60); 4].join(".")),
            "internal.clusterDomain: is too long: it leaves no room for services in S.N.F.svc.",
        ),
        (
            minimal("", "health: {checks: {check: ping}}"),
            "health.checks.check: 'ping' is no check: 'ping' is no kind of check: write one of tcp,",
        ),
        (
            minimal("", "health: {checks: {check: {ping: {port: 1}}}}"),
            "health.checks.check: 'ping' is no kind of check",
        ),
        (
            minimal("", "health: {checks: {check: {dns: {port: 53}}}}"),
            "health.checks.check: name is missing",
        ),
        (
            swap(
                "zones: [us-central1-a]\n",
                "zones: [us-central1-a]\n    checks: {authorities: []}\n",
            ),
            "clusters[0].checks.authorities: is the same for all clusters",
        ),
        (swap("name: myfederation", "name: svc"), "federation.name: 'svc' is reserved"),
        (swap("name: myfederation", "name: '*'"), "federation.name: '*' is no DNS label"),
        (swap("name: myfederation", "name: a.b"), "federation.name: 'a.b' is no DNS label"),
    ] {
        let told = mistakes(&text);
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:#?}, not {expected}");
    }
}

/// The domain's limit that is told is exact.
#[test]
fn a_domain_of_the_length_told_is_taken() {
    // S.N.myfederation.svc.us-central1-a.us-central1: 4 + 13 + 4 + 14 + 12 octets beside it.
    let domain = |octets: usize| {
        let rest = octets - 1 - 3 * 61;
        format!("{0}.{0}.{0}.{1}", "a".repeat(60), "b".repeat(rest - 1))
    };
    let with = |octets| {
        let text =
            minimal("", "").replace("domain: example.com", &format!("domain: {}", domain(octets)));
        parse(&text)
    };
    let longest = 255 - (4 + 13 + 4 + 14 + 12);
    let config = with(longest).expect("the longest that leaves room");
    assert_eq!(config.federation.domain.wire().len(), longest);
    assert!(config.federation.soa.rname.to_string().starts_with("hostmaster."));
    let error = with(longest + 1).expect_err("one too long").to_string();
    assert!(error.contains(&format!("it may have {longest} of the 255 octets")), "{error}");
}

/// A region that nodes may yet name is no mistake; one that cannot come is.
#[test]
fn rules_may_name_places_that_nodes_will_tell() {
    let rules = "geo: {networks: [{cidr: 10.0.0.0/8, region: r}, {cidr: 10.0.0.0/9, zone: z}]}";
    assert_eq!(mistakes(&minimal("", rules)).len(), 2);
    let told_by_nodes = |key: &str| minimal("", rules).replace(key, "");
    assert_eq!(mistakes(&told_by_nodes("    zones: [us-central1-a]\n")).len(), 1);
    let neither = "    region: us-central1\n    zones: [us-central1-a]\n";
    assert!(parse(&told_by_nodes(neither)).is_ok());
}

#[test]
fn warnings_do_not_refuse() {
    let text =
        minimal("", "").replace("zones: [us-central1-a]", "zones: [Us_Central1, us-central1-a]");
    let second = "
  - name: Second
    region: us-east1
    zones: [us-central1-a]
    source: {manifests: clusters/gce-us-central1-a}
health: {checks: {interval: 1s, timeout: 2s}}
";
    let config = parse(&format!("{text}{second}")).expect("valid");
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "10:13: clusters[0].zones[0]: 'Us_Central1' becomes the label 'us-central1'",
            "10:13: clusters[0].zones[0]: availability zone 'us-central1' has the name of a region \
             (clusters[0].region): names below that label are the region's",
            "13:11: clusters[1].name: 'Second' becomes the label 'second'",
            "15:13: clusters[1].zones[0]: availability zone 'us-central1-a' is also in region \
             'us-central1': it has names only below its region",
            "16:25: clusters[1].source.manifests: the directory is also that of clusters[0]",
            "17:42: health.checks.timeout: 2s is longer than the interval, 1s",
        ]
    );
}

/// A directory of manifests that is not there yet is no reason not to start, where the last known
/// good state may stand in for it.
#[test]
fn a_stale_grace_is_a_duration_and_a_directory_may_be_kept_good() {
    let more = "  - {name: b, staleGrace: 90s, source: {manifests: nowhere}}\n";
    let told = mistakes(&minimal("", more));
    assert!(told[0].starts_with("clusters[1].source.manifests: "), "{told:?}");
    let told = mistakes(&minimal("", "lastKnownGood: {path: none/state}"));
    assert!(told[0].contains("none cannot be read"), "{told:?}");
    let told = mistakes(&minimal("", "lastKnownGood: {path: clusters}"));
    assert!(told[0].ends_with("clusters is a directory: name a file in it"), "{told:?}");
    let config =
        parse(&minimal("", &format!("{more}lastKnownGood: {{path: state}}"))).expect("valid");
    let graces: Vec<_> = config.members.iter().map(|member| member.stale_grace).collect();
    assert_eq!(graces, [None, Some(Duration::from_secs(90))]);
    let warnings: Vec<_> = config.warnings.iter().map(|warning| &*warning.path).collect();
    assert_eq!(warnings, ["clusters[1].source.manifests"]);
}

/// An alias is placed where it is used, not where its anchor stands.
#[test]
fn aliases_and_merges_work() {
    let text = minimal("  ttl: &t 0\n  negativeTtl: *t", "");
    let told = parse(&text).expect_err("ttl 0").to_string();
    assert!(told.starts_with("test.yaml:5:"), "{told}");
    let text = minimal("  negativeTtl: &t 0\n  ttl: *t", "");
    let told = parse(&text).expect_err("ttl 0").to_string();
    assert!(told.starts_with("test.yaml:6:"), "{told}");
}

#[test]
fn more_clusters_than_ids_are_refused() {
    let cluster = |index| format!("  - {{name: c{index}, source: {{manifests: clusters}}}}\n");
    let more: String = (0..ClusterId::MAX_CLUSTERS).map(cluster).collect();
    let error = parse(&minimal("", &more)).expect_err("one too many").to_string();
    assert_eq!(error, "test.yaml:8:3: clusters: has 32769 clusters, over 32768");
}

proptest! {
    /// Whatever a slip of the hand makes of a good file, the answer is a configuration or an
    /// error with a place in the file.
    #[test]
    fn damaged_files_have_errors_with_places(
        at in 0.0..1.0f64,
        cut in 0usize..12,
        put in r#"[-a1:@'"{}\[\], \n.*&#]{0,3}"#,
    ) {
        let mut text = include_str!("../config/reference.yaml").to_owned();
        let floor = |index: usize| (0..=index).rev().find(|&i| text.is_char_boundary(i)).unwrap();
        let start = floor((at * text.len() as f64) as usize);
        let end = floor((start + cut).min(text.len()));
        text.replace_range(start..end.max(start), &put);
        let lines = text.lines().count() as u64 + 1;
        match parse(&text) {
            Ok(_) => {}
            Err(ConfigError::Syntax { line, column, reason, .. }) => {
                prop_assert!((1..=lines).contains(&line) && column > 0 && !reason.is_empty());
            }
            Err(ConfigError::Mistakes { mistakes, .. }) => {
                prop_assert!(!mistakes.is_empty());
                for mistake in mistakes {
                    prop_assert!((1..=lines).contains(&mistake.line), "{mistake}");
                }
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
