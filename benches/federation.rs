//! A whole server over API servers of its own on loopback: time to ready, memory, and the time from
//! a change in a cluster to the answer that has it.
//!
//!     cargo bench --bench federation
//!
//! 4 clusters with 2,500 federated services each, once with other services in every cluster
//! (10,000 keys), once with all 10,000 in each (40,000 shards). Each change makes the only endpoint
//! of a shard unready, or ready again; it is timed from before the API server tells its watches
//! until a UDP client has the changed answer, so both ends are in it. `CHANGES` sets how many.

#[allow(dead_code, reason = "of the tests' support it takes a part")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::apiserver::ApiServer;
use support::dns::Query;
use support::kubernetes::{config, federated, service, slice};
use support::server::{Server, Until, User};

const CLUSTERS: usize = 4;
const SERVICES: usize = 10_000;

/// How long an answer may take to change.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which services a cluster has.
#[derive(Clone, Copy)]
enum Spread {
    /// A quarter of all, which no other has.
    Divided,
    /// All of them.
    Shared,
}

fn main() {
    let changes = std::env::var("CHANGES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    println!(
        "| {CLUSTERS} clusters | time to ready | resident, ready | resident, after {changes} changes \
         | change to answer, p50 | p99 | longest |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, spread) in [
        ("2,500 services each, 10,000 keys", Spread::Divided),
        ("the same 10,000 services, 40,000 shards", Spread::Shared),
    ] {
        let row = run(spread, changes);
        println!("| {name} | {row} |");
    }
}

fn run(spread: Spread, changes: usize) -> String {
    let apis: Vec<ApiServer> = (0..CLUSTERS).map(|_| ApiServer::start()).collect();
    for (cluster, api) in apis.iter().enumerate() {
        for index in (0..SERVICES).filter(|index| holds(spread, cluster, *index)) {
            let [a, b, c, d] = address(cluster, index);
            let ip = format!("{a}.{b}.{c}.{d}");
            api.put("services", service(&name(index), &ip, federated()));
            api.put("endpointslices", slice(&name(index), federated()));
        }
    }
    let directory = tempfile::tempdir().expect("room for files");
    let mut clusters = String::new();
    for (index, api) in apis.iter().enumerate() {
        let file = format!("c{index}.kubeconfig");
        fs::write(directory.path().join(&file), api.kubeconfig("")).expect("writable");
        clusters += &format!(
            "  - {{name: c{index}, region: r{index}, location: {{latitude: {index}, longitude: 0}}, \
             source: {{kubeconfig: {{path: {file}}}}}}}\n"
        );
    }
    // All times as they are by default, but that nothing ends the wait for what is not read.
    let text = config("", &clusters, "").replace("startup: {grace: 1s}", "startup: {grace: 1h}");
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with("kubernetes:") && !line.starts_with("health:"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let began = Instant::now();
    let server = Server::start(directory, &text, None, User::Same, Until::Ready);
    let ready = began.elapsed();
    let resident = || server.metric("process_resident_memory_bytes") / f64::from(1 << 20);
    let at_first = resident();
    let mut took = timed(&server, &apis, spread, changes);
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!(
        "{:.2} s | {at_first:.0} MiB | {:.0} MiB | {:.2} ms | {:.2} ms | {:.1} ms",
        ready.as_secs_f64(),
        resident(),
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// How long each change took.
fn timed(server: &Server, apis: &[ApiServer], spread: Spread, changes: usize) -> Vec<Duration> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(server.dns).expect("loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let ready_again = |change: usize| change % 2 == 1;
    let timed = (0..changes).map(|change| {
        // Every pair of changes is of another service, all over the key space.
        let index = change / 2 * 7_919 % SERVICES;
        let cluster = match spread {
            Spread::Divided => index % CLUSTERS,
            Spread::Shared => change / 2 % CLUSTERS,
        };
        let (name, address) = (name(index), address(cluster, index));
        let mut slice: Value = slice(&name, federated());
        slice["endpoints"][0]["conditions"] = json!({"ready": ready_again(change)});
        let query = Query::new(&format!("{name}.default.fed.svc.example.com."), "A").bytes();
        // So that no change meets the server at the same point of its own rhythm.
        thread::sleep(Duration::from_micros(5_000 + (change as u64 * 7_877) % 10_000));
        let began = Instant::now();
        apis[cluster].put("endpointslices", slice);
        loop {
            socket.send(&query).expect("sent");
            let mut reply = [0; 1500];
            let len = socket.recv(&mut reply).expect("a reply");
            let has = reply[..len].windows(4).any(|octets| octets == address);
            let took = began.elapsed();
            if has == ready_again(change) {
                return took;
            }
            assert!(took < PATIENCE, "change {change} of {name} is not answered\n{}", server.log());
        }
    });
    timed.collect()
}

fn holds(spread: Spread, cluster: usize, index: usize) -> bool {
    match spread {
        Spread::Divided => index % CLUSTERS == cluster,
        Spread::Shared => true,
    }
}

fn name(index: usize) -> String {
    format!("service-{index}")
}

/// One of its own for every shard.
fn address(cluster: usize, index: usize) -> [u8; 4] {
    [10, 200 + cluster as u8, (index >> 8) as u8, index as u8]
}
