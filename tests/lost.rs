//! Clusters that are lost, and starts without a source, with the real binary.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use support::client::Over;
use support::dns::Query;
use support::server::{Server, Until, User};
use support::{PATIENCE, PAUSE};

/// Directories of clusters, which outlive the servers that read them.
struct World {
    home: TempDir,
    clusters: Vec<(&'static str, &'static str)>,
    /// What the configuration has beside the federation and its clusters.
    more: String,
}

impl World {
    /// Clusters by name, each with further keys.
    fn new(clusters: &[(&'static str, &'static str)], more: &str) -> Self {
        let home = TempDir::new().expect("a directory");
        for (name, _) in clusters {
            fs::create_dir(home.path().join(name)).expect("new");
        }
        Self { home, clusters: clusters.to_vec(), more: more.to_owned() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    fn config(&self) -> String {
        let home = self.home.path().display();
        let clusters = self.clusters.iter().map(|(name, keys)| {
            format!("  - {{name: {name}, region: {name}, {keys} source: {{manifests: {home}/{name}}}}}\n")
        });
        let clusters: String = clusters.collect();
        let more = self.more.replace("$HOME", &home.to_string());
        format!(
            "federation:\n  name: f\n  domain: example.com\n  allowNets: [127.0.0.0/8]\n  \
             export: all\n  nameservers: [{{name: ns.example.net}}]\nlisten: {{dns: [$DNS], http: \
             $HTTP}}\nclusters:\n{clusters}{more}\n"
        )
    }

    /// A file with a service in each of `names`, at `address`, with an unnamed TCP port.
    fn services(&self, cluster: &str, names: &[String], address: &str, port: u16) {
        let objects = names.iter().map(|name| {
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {
                    "namespace": "n", "name": name,
                    "annotations": {"meridian.dev/min-ready": "0"},
                },
                "spec": {"ports": [{"port": port}]},
                "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
            })
        });
        let list =
            json!({"apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>()});
        fs::write(self.path(cluster).join("s.json"), list.to_string()).expect("writable");
    }

    fn start(&self) -> Server {
        let directory = TempDir::new().expect("a directory");
        Server::start(directory, &self.config(), None, User::Same, Until::Ready)
    }

    /// Moves the directory of a cluster out of the way.
    fn lose(&self, cluster: &str) {
        let away = format!("{cluster}-away");
        fs::rename(self.path(cluster), self.path(&away)).expect("there");
    }

    fn regain(&self, cluster: &str) {
        let away = format!("{cluster}-away");
        fs::rename(self.path(&away), self.path(cluster)).expect("there");
    }

    /// The names of files that begin with `start`.
    fn files(&self, start: &str) -> Vec<String> {
        let entries = fs::read_dir(self.home.path()).expect("readable");
        let names = entries.map(|e| e.expect("readable").file_name().into_string().expect("text"));
        names.filter(|name| name.starts_with(start)).collect()
    }
}

fn web() -> Vec<String> {
    vec!["web".to_owned()]
}

/// Waits until `holds`.
fn until(what: &str, server: &Server, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come about:\n{}", server.log());
        thread::sleep(PAUSE);
    }
}

/// The records of an answer, each as `TYPE data`.
fn answer(server: &Server, name: &str) -> Vec<String> {
    let query = Query::new(&format!("{name}.example.com."), "A");
    let reply = server.client().ask(Over::Udp, &query).expect("a reply");
    let short = |record: &String| record.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
    let mut records: Vec<_> = reply.answer().iter().map(short).collect();
    records.sort();
    records
}

/// What `/state` says of a cluster.
fn cluster(server: &Server, name: &str) -> Value {
    let page = server.get("/state").expect("state").body;
    let state: Value = serde_json::from_str(&page).expect("JSON");
    let clusters = state["clusters"].as_array().expect("clusters").iter();
    clusters.clone().find(|cluster| cluster["name"] == name).expect("registered").clone()
}

fn is(server: &Server, name: &str, state: &str) -> bool {
    cluster(server, name)["state"] == state
}

/// A port of `address` on which nobody listens.
fn closed(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("a port");
    listener.local_addr().expect("bound").port()
}

/// Decides at once, so that a test need not wait; the rules of time are the tracker's own tests.
const HASTY: &str = "health: {grace: 0s, failureThreshold: 1, checks: {interval: 200ms, rise: 1, \
                     fall: 1}}";

#[test]
fn a_lost_cluster_is_down_only_when_its_load_balancers_are() {
    let world = World::new(&[("dark", ""), ("lit", ""), ("well", "")], HASTY);
    let balancer = TcpListener::bind("127.0.0.12:0").expect("a port");
    let open = balancer.local_addr().expect("bound").port();
    world.services("dark", &web(), "127.0.0.11", closed("127.0.0.11"));
    world.services("lit", &web(), "127.0.0.12", open);
    world.services("well", &web(), "127.0.0.13", 80);
    let server = world.start();
    assert_eq!(answer(&server, "web.n.f.svc").len(), 3);
    world.lose("dark");
    world.lose("lit");
    until("dark is down", &server, || is(&server, "dark", "down"));
    until("lit was checked", &server, || {
        cluster(&server, "lit")["reason"].as_str().is_some_and(|r| r.ends_with("answer"))
    });
    assert!(is(&server, "lit", "stale") && is(&server, "well", "up"));
    assert_eq!(answer(&server, "web.n.f.svc"), ["A 127.0.0.12", "A 127.0.0.13"]);
    // Its names remain and lead up.
    let led = answer(&server, "web.n.f.svc.dark");
    assert_eq!(led, ["A 127.0.0.12", "A 127.0.0.13", "CNAME web.n.f.svc.example.com."]);
    let reason = cluster(&server, "dark")["reason"].to_string();
    assert!(reason.contains("its checks fail: ") && reason.contains("refused"), "{reason}");
    assert_eq!(server.metric(r#"meridian_cluster_state{cluster="dark",state="down"}"#), 1.0);
    assert_eq!(server.metric(r#"meridian_shards{cluster="dark",state="cluster_down"}"#), 1.0);
    let page = server.get("/explain?name=web.n.f.svc.example.com&client=192.0.2.1");
    let page = page.expect("explained").body;
    assert!(page.contains("its cluster is down: ") && page.contains(r#""since":"2"#), "{page}");
    let log = server.log();
    assert_eq!(log.matches("cluster=dark from=\"stale\" to=\"down\"").count(), 1, "{log}");
    world.regain("dark");
    until("dark is back", &server, || is(&server, "dark", "up"));
    until("it is served", &server, || answer(&server, "web.n.f.svc").len() == 3);
}

#[test]
fn all_lost_at_once_stay_served() {
    let world = World::new(&[("a", ""), ("b", "staleGrace: 0s,")], HASTY);
    world.services("a", &web(), "127.0.0.21", closed("127.0.0.21"));
    world.services("b", &web(), "127.0.0.22", closed("127.0.0.22"));
    let server = world.start();
    world.lose("b");
    until("b is down at the end of its staleGrace", &server, || is(&server, "b", "down"));
    assert_eq!(answer(&server, "web.n.f.svc"), ["A 127.0.0.21"]);
    world.lose("a");
    let fault = |name: &str| cluster(&server, name)["reason"].to_string().contains("ours");
    until("the fault is taken for ours", &server, || fault("a") && fault("b"));
    assert!(is(&server, "a", "stale") && is(&server, "b", "stale"));
    until("both are served", &server, || answer(&server, "web.n.f.svc").len() == 2);
}

/// Nothing but time passes: the file stays as it is.
#[test]
fn an_override_ends_by_itself() {
    let world = World::new(&[("a", "")], "health: {overrides: $HOME/overrides.yaml}");
    world.services("a", &web(), "127.0.0.61", 80);
    let rule = |cluster: &str, until: &str| {
        format!("- {{cluster: {cluster}, state: down, author: x, reason: y, until: {until}}}\n")
    };
    fs::write(world.path("overrides.yaml"), rule("a", "never")).expect("writable");
    let server = world.start();
    assert!(answer(&server, "web.n.f.svc").is_empty(), "it counts from the first answer on");
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    fs::write(world.path("overrides.yaml"), rule("a", &soon.to_string())).expect("writable");
    until("it is over", &server, || answer(&server, "web.n.f.svc").len() == 1);
    assert_eq!(server.metric(r#"meridian_overrides{state="down"}"#), 0.0);
    until("it is told", &server, || server.log().contains("from=\"forced_out\" to=\"signals\""));
}

#[test]
fn those_who_answer_come_before_those_who_do_not() {
    let world = World::new(&[("a", "")], "");
    world.services("a", &web(), "127.0.0.71", 80);
    let server = world.start();
    assert_eq!(answer(&server, "web.n.f.svc"), ["A 127.0.0.71"]);
    let threads = server.threads();
    let nice = |prefix: &str| {
        let those = threads.iter().filter(|(name, _)| name.starts_with(prefix));
        those.map(|(_, nice)| *nice).collect::<Vec<_>>()
    };
    let (workers, others) = (nice("udp-"), nice("tokio-"));
    assert!(!workers.is_empty() && !others.is_empty(), "{threads:?}");
    // As nice as this process is, the server's workers are.
    let highest = workers.iter().max();
    assert!(others.iter().all(|nice| Some(nice) > highest), "{threads:?}");
}

#[test]
fn a_drained_cluster_is_counted_as_such() {
    let world = World::new(&[("a", "drain: true,"), ("b", "")], "");
    world.services("a", &web(), "127.0.0.31", 80);
    world.services("b", &web(), "127.0.0.32", 80);
    let server = world.start();
    assert_eq!(answer(&server, "web.n.f.svc"), ["A 127.0.0.32"]);
    assert_eq!(cluster(&server, "a")["excluded"], "its cluster is drained");
    assert_eq!(server.metric(r#"meridian_shards{cluster="a",state="cluster_drained"}"#), 1.0);
    assert_eq!(server.metric(r#"meridian_cluster_state{cluster="a",state="up"}"#), 1.0);
}

#[test]
fn a_directory_emptied_by_mistake_withdraws_nothing() {
    let world = World::new(&[("a", "")], "");
    let names: Vec<String> = (0..60).map(|index| format!("s{index}")).collect();
    world.services("a", &names, "127.0.0.41", 80);
    let server = world.start();
    fs::rename(world.path("a").join("s.json"), world.path("kept")).expect("there");
    let held = || server.metric(r#"meridian_withdrawals_held{cluster="a"}"#);
    until("all are held", &server, || held() == 60.0);
    assert_eq!(answer(&server, "s7.n.f.svc"), ["A 127.0.0.41"]);
    assert_eq!(cluster(&server, "a")["withheld"], 60);
    assert!(server.log().contains("vanished at one stroke"), "{}", server.log());
    fs::rename(world.path("kept"), world.path("a").join("s.json")).expect("there");
    until("none is held", &server, || held() == 0.0);
    assert_eq!(answer(&server, "s7.n.f.svc"), ["A 127.0.0.41"]);
}

const KEPT: &str =
    "lastKnownGood: {path: $HOME/state}\nstartup: {grace: 1h}\nshutdown: {drain: 0s}";

/// Ends a server and waits for what it keeps.
fn stop(mut server: Server) {
    server.signal("TERM");
    let status = server.ended();
    assert!(status.success(), "{status}:\n{}", server.log());
}

#[test]
fn a_start_without_sources_serves_the_last_known_good() {
    let world = World::new(&[("a", ""), ("b", "")], KEPT);
    world.services("a", &web(), "127.0.0.51", 80);
    world.services("b", &web(), "127.0.0.52", 80);
    stop(world.start());
    assert_eq!(world.files("state"), ["state"]);
    world.lose("a");
    world.lose("b");
    // Ready although the grace is an hour: what was kept counts as read.
    let server = world.start();
    assert_eq!(answer(&server, "web.n.f.svc"), ["A 127.0.0.51", "A 127.0.0.52"]);
    assert_eq!(answer(&server, "none.n.f.svc"), [""; 0]);
    assert!(is(&server, "a", "stale"), "{}", server.log());
    let reason = cluster(&server, "a")["reason"].to_string();
    assert!(reason.contains("last known good"), "{reason}");
    // A source that comes back is read, and replaces what was kept.
    world.regain("a");
    world.services("a", &web(), "127.0.0.53", 80);
    until("a is read", &server, || is(&server, "a", "up"));
    until("a is served anew", &server, || {
        answer(&server, "web.n.f.svc") == ["A 127.0.0.52", "A 127.0.0.53"]
    });
    // The next start knows both what was read and what was not.
    stop(server);
    world.lose("a");
    let server = world.start();
    assert_eq!(answer(&server, "web.n.f.svc"), ["A 127.0.0.52", "A 127.0.0.53"]);
}

#[test]
fn a_damaged_file_is_set_aside_and_stops_nothing() {
    let world = World::new(&[("a", "")], KEPT);
    world.services("a", &web(), "127.0.0.61", 80);
    fs::write(world.path("state"), "anything but a state").expect("writable");
    let server = world.start();
    assert_eq!(answer(&server, "web.n.f.svc"), ["A 127.0.0.61"]);
    assert!(server.log().contains("was not written by meridian"), "{}", server.log());
    let aside: Vec<_> = world.files("state.damaged-");
    assert_eq!(aside.len(), 1, "{aside:?}");
    let kept = fs::read_to_string(world.path(&aside[0])).expect("readable");
    assert_eq!(kept, "anything but a state");
    stop(server);
    assert!(Path::new(&world.path("state")).exists(), "a good one is in its place");
}
