//! Active checks and votes, with the real binary and load balancers on loopback.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use support::client::Over;
use support::dns::Query;
use support::server::{Server, Until, User, replace};
use support::{PATIENCE, PAUSE};

/// Clusters with one service each, `n/web` at `127.0.7.N`, read by any number of instances.
struct World {
    home: TempDir,
    clusters: Vec<String>,
}

impl World {
    fn new(clusters: &[&str]) -> Self {
        let home = TempDir::new().expect("a directory");
        for (index, name) in clusters.iter().enumerate() {
            fs::create_dir(home.path().join(name)).expect("new");
            let service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {
                    "namespace": "n", "name": "web",
                    "annotations": {"meridian.dev/min-ready": "0"},
                },
                "spec": {"ports": [{"port": 80}]},
                "status": {"loadBalancer": {"ingress": [{"ip": address(index)}]}},
            });
            let file = home.path().join(name).join("s.json");
            fs::write(file, service.to_string()).expect("writable");
        }
        fs::create_dir(home.path().join("ballots")).expect("new");
        let clusters = clusters.iter().map(|name| (*name).to_owned()).collect();
        Self { home, clusters }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// An instance by which the load balancers of each cluster are checked as `checks` has it.
    fn start(&self, checks: &[String], health: &str) -> Server {
        let directory = TempDir::new().expect("a directory");
        let config = self.config(checks, health);
        Server::start(directory, &config, None, User::Same, Until::Ready)
    }

    fn config(&self, checks: &[String], health: &str) -> String {
        let home = self.home.path().display();
        let clusters = self.clusters.iter().zip(checks).map(|(name, checks)| {
            format!(
                "  - {{name: {name}, source: {{manifests: {home}/{name}}}, checks: {checks}}}\n"
            )
        });
        let clusters: String = clusters.collect();
        format!(
            "federation:\n  name: f\n  domain: example.com\n  allowNets: [127.0.0.0/8]\n  \
             export: all\n  nameservers: [{{name: ns.example.net}}]\nlisten: {{dns: [$DNS], http: \
             $HTTP}}\nclusters:\n{clusters}health:\n  checks: {HASTY}\n{health}\n"
        )
    }

    /// An instance that votes for `voter`, by ballots in the directory `ballots`.
    fn vote(&self, voter: &str, checks: &[String], ballots: &str) -> Server {
        let ballots = self.path(ballots).display().to_string();
        self.start(
            checks,
            &format!(
                "  damping: {{minUp: 0s, holdOff: 0s}}\n  votes: {{cluster: {voter}, instance: one, \
                 voters: [a, b, c], directory: {ballots}, heartbeat: 300ms, lease: 3s}}"
            ),
        )
    }
}

/// So that tests need not wait.
const HASTY: &str = "{mode: always, interval: 200ms, timeout: 1s, rise: 2, fall: 2}";

fn address(index: usize) -> String {
    format!("127.0.7.{}", index + 1)
}

/// A load balancer as one instance sees it: a port of its own, so that it can fail for one alone.
struct Balancer {
    address: String,
    port: u16,
    listener: Option<TcpListener>,
}

impl Balancer {
    fn new(cluster: usize) -> Self {
        let address = address(cluster);
        let listener = TcpListener::bind((address.as_str(), 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        Self { address, port, listener: Some(listener) }
    }

    fn check(&self) -> String {
        format!("{{check: \"tcp:{}\"}}", self.port)
    }

    fn fail(&mut self) {
        self.listener = None;
    }

    /// It may take a moment until the system gives the port again.
    fn recover(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.listener.is_none() {
            self.listener = TcpListener::bind((self.address.as_str(), self.port)).ok();
            assert!(Instant::now() < deadline, "port {} is taken", self.port);
            thread::sleep(PAUSE);
        }
    }
}

/// Waits until `holds`.
fn until(what: &str, server: &Server, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come about:\n{}", server.log());
        thread::sleep(PAUSE);
    }
}

/// The addresses of the service.
fn answer(server: &Server) -> Vec<String> {
    let query = Query::new("web.n.f.svc.example.com.", "A");
    let reply = server.client().ask(Over::Udp, &query).expect("a reply");
    let address = |record: &String| record.rsplit(' ').next().unwrap_or_default().to_owned();
    let mut addresses: Vec<_> = reply.answer().iter().map(address).collect();
    addresses.sort();
    addresses
}

fn state(server: &Server) -> Value {
    serde_json::from_str(&server.get("/state").expect("state").body).expect("JSON")
}

fn mode(server: &Server) -> String {
    state(server)["checks"]["mode"].as_str().expect("a mode").to_owned()
}

/// What is explained of the service.
fn explained(server: &Server) -> String {
    let page = server.get("/explain?name=web.n.f.svc.example.com&client=192.0.2.1");
    page.expect("explained").body
}

/// Why the shard in a cluster is not served.
fn excluded(server: &Server, cluster: &str) -> String {
    let state = state(server);
    state["services"]["n/web"]["shards"][cluster]["excluded"].as_str().unwrap_or("").to_owned()
}

/// Three instances, each with its own way to each of the clusters `x` and `y`.
struct Federation {
    world: World,
    servers: Vec<Server>,
    /// By instance, then by cluster.
    balancers: Vec<Vec<Balancer>>,
}

impl Federation {
    fn new() -> Self {
        let world = World::new(&["x", "y"]);
        let balancers: Vec<Vec<Balancer>> =
            (0..3).map(|_| (0..2).map(Balancer::new).collect()).collect();
        // The last one reaches the shared directory by a link that can be cut.
        symlink(world.path("ballots"), world.path("link")).expect("a link");
        let servers = ["a", "b", "c"].iter().zip(&balancers).map(|(voter, balancers)| {
            let checks: Vec<String> = balancers.iter().map(Balancer::check).collect();
            world.vote(voter, &checks, if *voter == "c" { "link" } else { "ballots" })
        });
        let servers: Vec<_> = servers.collect();
        for server in &servers {
            until("all are heard", server, || state(server)["checks"]["voting"]["heard"] == 3);
            until("it decides", server, || mode(server) == "deciding");
            assert_eq!(answer(server), ["127.0.7.1", "127.0.7.2"]);
        }
        Self { world, servers, balancers }
    }

    /// Has the last instance read and write another directory, or the shared one again.
    fn link(&self, to: &str) {
        let beside = self.world.path("link.new");
        symlink(self.world.path(to), &beside).expect("a link");
        fs::rename(beside, self.world.path("link")).expect("replaced");
    }

    /// Waits until the ballot of an instance says that it sees the whole cluster `x` failing.
    fn sees_x_failing(&self, instance: usize, directory: &str) {
        until("it votes", &self.servers[instance], || {
            self.ballot(instance, directory).contains(r#""clusters":{"x""#)
        });
    }

    /// The text of an instance's ballot.
    fn ballot(&self, instance: usize, directory: &str) -> String {
        let name = ["a", "b", "c"][instance];
        let file = self.world.path(directory).join(format!("{name}.one.json"));
        fs::read_to_string(file).unwrap_or_default()
    }
}

#[test]
fn a_majority_takes_a_shard_out_and_lets_it_back_in() {
    let mut all = Federation::new();
    all.balancers[0][0].fail();
    all.sees_x_failing(0, "ballots");
    for server in &all.servers {
        let raised = r#"meridian_voters{state="heard"}"#;
        assert_eq!((server.metric(raised), answer(server).len()), (3.0, 2), "one voice of three");
        // Who raised it, and what is lacking, is told by all.
        let suspicion = || state(server)["services"]["n/web"]["shards"]["x"]["suspicion"].clone();
        until("it is suspect", server, || suspicion().is_object());
        assert_eq!(suspicion()["seenBy"], json!([{"cluster": "a", "instances": ["one"]}]));
        assert_eq!(suspicion()["lacking"], json!({"votes": {"counted": 1, "needed": 2}}));
        let whole = &state(server)["checks"]["suspectedClusters"]["x"];
        assert!(whole["why"].as_str().is_some_and(|why| why.contains("refused")), "{whole}");
        until("it is counted", server, || server.metric("meridian_suspect_shards") == 1.0);
        let page = explained(server);
        let told = "(seen by a: one), but of 2 votes that it takes there are 1";
        assert!(page.contains(told) && page.contains("seen failing since 2"), "{page}");
    }
    all.balancers[1][0].fail();
    for server in &all.servers {
        until("a majority sees it", server, || answer(server) == ["127.0.7.2"]);
        let why = excluded(server, "x");
        let seen_by = "(seen by a: one; b: one)";
        assert!(why.contains("refused") && why.contains(seen_by), "{why}");
        let page = explained(server);
        assert!(page.contains(seen_by) && page.contains(r#""since":"2"#), "{page}");
        let witness = |cluster| json!({"cluster": cluster, "instances": ["one"]});
        let told = &state(server)["checks"]["failingClusters"]["x"]["seenBy"];
        assert_eq!(*told, json!([witness("a"), witness("b")]));
        until("it is logged", server, || server.log().contains(seen_by));
        until("it is suspect no more", server, || server.metric("meridian_suspect_shards") == 0.0);
        assert_eq!(server.metric(r#"meridian_shards{cluster="x",state="checks_fail"}"#), 1.0);
    }
    all.balancers[0][0].recover();
    for server in &all.servers {
        until("it is no majority any more", server, || answer(server).len() == 2);
    }
}

#[test]
fn an_instance_that_is_cut_off_changes_nothing_and_decides_nothing() {
    let mut all = Federation::new();
    fs::create_dir(all.world.path("elsewhere")).expect("new");
    all.link("elsewhere");
    let cut = 2;
    until("it is frozen", &all.servers[cut], || mode(&all.servers[cut]) == "frozen");
    assert_eq!(all.servers[cut].metric(r#"meridian_votes_mode{mode="frozen"}"#), 1.0);
    assert_eq!(all.servers[cut].metric(r#"meridian_voters{state="heard"}"#), 1.0);
    // From there one cluster looks lost; neither it nor the others take it out for that, and it
    // does not vote for that either.
    all.balancers[cut][0].fail();
    let failed = r#"meridian_checks_total{outcome="failed"}"#;
    until("it sees it", &all.servers[cut], || all.servers[cut].metric(failed) >= 3.0);
    let ballot = || all.ballot(cut, "elsewhere");
    let renewal = || fs::read_to_string(all.world.path("elsewhere").join("c.one.renewal")).ok();
    let before = renewal();
    until("its ballot is renewed", &all.servers[cut], || renewal() != before);
    assert!(!ballot().contains("refused"), "{}", ballot());
    for server in &all.servers {
        assert_eq!(answer(server).len(), 2);
    }
    // The others are a majority by themselves.
    all.balancers[0][1].fail();
    all.balancers[1][1].fail();
    for server in &all.servers[..cut] {
        until("two of three agree", server, || answer(server) == ["127.0.7.1"]);
        assert_eq!(mode(server), "deciding");
    }
    assert_eq!(answer(&all.servers[cut]).len(), 2, "it is frozen");
    let log = all.servers[cut].log();
    assert!(log.contains("fewer than a majority of the voters are heard"), "{log}");
    all.link("ballots");
    let server = &all.servers[cut];
    until("it hears the others again", server, || answer(server) == ["127.0.7.1"]);
    assert_eq!(mode(server), "deciding");
}

#[test]
fn a_ballot_that_cannot_be_read_is_told_of() {
    let all = Federation::new();
    let file = all.world.path("ballots").join("b.two.json");
    replace(&file, "no ballot");
    let faults = |server: &Server| state(server)["checks"]["faults"].to_string();
    for server in &all.servers {
        until("it is told", server, || faults(server).contains("this ballot does not count"));
        assert_eq!(mode(server), "deciding");
    }
    fs::remove_file(file).expect("there");
    for server in &all.servers {
        until("it is gone", server, || faults(server) == "null");
    }
}

#[test]
fn modes_and_services_say_what_is_checked() {
    let world = World::new(&["always", "off", "suspect", "well"]);
    let mut balancers: Vec<_> = (0..4).map(Balancer::new).collect();
    let checks: Vec<_> = balancers
        .iter()
        .zip(["always", "off", "suspect", "always"])
        .map(|(b, mode)| format!("{{mode: {mode}, check: \"tcp:{}\"}}", b.port))
        .collect();
    for balancer in &mut balancers[..3] {
        balancer.fail();
    }
    let server = world.start(&checks, "");
    let others = ["127.0.7.2", "127.0.7.3", "127.0.7.4"];
    until("what is always checked is out", &server, || answer(&server) == others);
    assert_eq!(server.metric("meridian_check_targets"), 2.0);
    assert!(server.metric(r#"meridian_checks_total{outcome="failed"}"#) >= 2.0);
    until("the other is passed", &server, || {
        server.metric(r#"meridian_checks_total{outcome="passed"}"#) >= 1.0
    });
    // Without its API, the suspect is checked too.
    fs::rename(world.path("suspect"), world.path("away")).expect("there");
    until("the suspect is out", &server, || answer(&server) == ["127.0.7.2", "127.0.7.4"]);
    balancers[2].recover();
    until("it answers", &server, || answer(&server) == others);
}

/// A load balancer that answers HTTP with a load, percent; its thread ends with the process.
fn loaded(cluster: usize) -> (Arc<AtomicU32>, String) {
    let listener = TcpListener::bind((address(cluster), 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let load = Arc::new(AtomicU32::new(10));
    let told = load.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let _ = lines.find(String::is_empty);
            let load = f64::from(told.load(Ordering::Relaxed)) / 100.0;
            let reply = format!("HTTP/1.1 200 OK\r\nX-Load: {load}\r\nContent-Length: 0\r\n\r\n");
            // One that has been given up does not listen any more.
            let _ = stream.write_all(reply.as_bytes());
        }
    });
    (load, format!("{{check: \"http:{port}/\"}}"))
}

#[test]
fn the_load_that_a_check_tells_is_minded() {
    let world = World::new(&["x", "y"]);
    let (loads, checks): (Vec<_>, Vec<_>) = (0..2).map(loaded).unzip();
    let server = world.start(&checks, "");
    let both = ["127.0.7.1", "127.0.7.2"];
    let set = |cluster: usize, percent| loads[cluster].store(percent, Ordering::Relaxed);
    until("both are checked", &server, || {
        server.metric(r#"meridian_checks_total{outcome="passed"}"#) >= 2.0
    });
    assert_eq!(answer(&server), both);
    set(0, 95);
    until("the overloaded one is avoided", &server, || answer(&server) == both[1..]);
    assert!(excluded(&server, "x").contains("0.95"), "{}", excluded(&server, "x"));
    set(1, 99);
    until("both are, and used before none", &server, || answer(&server) == both);
    set(0, 10);
    until("one is not any more", &server, || answer(&server) == both[..1]);
}

#[test]
fn all_load_balancers_lost_at_once_stay_served() {
    let world = World::new(&["x", "y"]);
    let mut balancers: Vec<_> = (0..2).map(Balancer::new).collect();
    let checks: Vec<_> = balancers.iter().map(Balancer::check).collect();
    let server = world.start(&checks, "  damping: {minUp: 0s, holdOff: 0s}");
    balancers[0].fail();
    until("x is out", &server, || answer(&server) == ["127.0.7.2"]);
    balancers[1].fail();
    until("the fault is ours", &server, || mode(&server) == "failStatic");
    until("all are served", &server, || answer(&server).len() == 2);
    until("it is told", &server, || server.metric("meridian_fail_static") == 1.0);
    let logged = |text| until(text, &server, || server.log().contains(text));
    logged("so the fault is taken for ours");
    balancers[0].recover();
    until("y is out", &server, || answer(&server) == ["127.0.7.1"]);
    until("it is over", &server, || server.metric("meridian_fail_static") == 0.0);
    logged("not every cluster looks lost any more");
}

/// Whatever a reload changes of a check: what was out stays out until the new one has spoken.
#[test]
fn a_reload_brings_no_dead_shard_back() {
    let world = World::new(&["x", "y"]);
    let mut balancers: Vec<_> = (0..2).map(Balancer::new).collect();
    let checks: Vec<_> = balancers.iter().map(Balancer::check).collect();
    let damping = "  damping: {minUp: 0s, holdOff: 0s}";
    let server = world.start(&checks, damping);
    balancers[0].fail();
    until("x is out", &server, || answer(&server) == ["127.0.7.2"]);
    balancers[0].recover();
    until("x is back", &server, || answer(&server).len() == 2);
    balancers[0].fail();
    until("x is out", &server, || answer(&server) == ["127.0.7.2"]);
    // Nothing but a first check comes within an hour, and it takes two.
    let slow = HASTY.replace("interval: 200ms", "interval: 1h");
    let http = |balancer: &Balancer| format!("{{check: \"http:{}/\"}}", balancer.port);
    let checks: Vec<_> = balancers.iter().map(http).collect();
    let reloaded = r#"meridian_reloads_total{what="config",outcome="success"}"#;
    server.configure(&world.config(&checks, damping).replace(HASTY, &slow));
    until("it is reloaded", &server, || server.metric(reloaded) == 1.0);
    // The other does not speak HTTP either, and is not taken out for one failure.
    until("it is checked otherwise", &server, || {
        let suspicion = &state(&server)["services"]["n/web"]["shards"]["y"]["suspicion"];
        suspicion["lacking"] == json!({"failures": {"needed": 2}})
    });
    assert_eq!(answer(&server), ["127.0.7.2"]);
    assert!(excluded(&server, "x").contains("refused"), "{}", excluded(&server, "x"));
}

#[test]
fn what_flaps_is_held_back_and_says_so() {
    let world = World::new(&["x", "y"]);
    let mut balancers: Vec<_> = (0..2).map(Balancer::new).collect();
    let checks: Vec<_> = balancers.iter().map(Balancer::check).collect();
    let server = world.start(&checks, "  damping: {minUp: 0s, holdOff: 1h, maxHoldOff: 1h}");
    let out = |out: bool| {
        let expected = if out { 1 } else { 2 };
        until(&format!("out: {out}"), &server, || answer(&server).len() == expected);
    };
    balancers[0].fail();
    out(true);
    assert!(excluded(&server, "x").contains("refused"));
    balancers[0].recover();
    out(false);
    balancers[0].fail();
    out(true);
    balancers[0].recover();
    until("it is held back", &server, || {
        excluded(&server, "x").contains("it has come and gone, and must first answer for 3600s")
    });
    assert_eq!(answer(&server), ["127.0.7.2"]);
    balancers[1].fail();
    until("it is used before none", &server, || answer(&server) == ["127.0.7.1"]);
    assert_eq!(mode(&server), "deciding");
}
