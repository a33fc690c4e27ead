//! What happens to whole clusters: they join, are lost, return and are removed, and people are told.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::api::ApiResource;
use serde_json::json;

use crate::pair::Pair;
use crate::support::PAUSE;
use crate::support::apiserver::http::base64;
use crate::support::client::Over;
use crate::support::dns::Query;
use crate::support::manifests::Content;
use crate::support::objects::{Cluster, Who};
use crate::support::server::{Server, Until, User};

/// Two pairs, and what is done with them.
type Run = fn(&mut [Pair]);

/// The tests by name.
pub(crate) const TESTS: &[(&str, Run)] = &[
    (
        "a_cluster_joins_is_lost_returns_and_is_removed",
        a_cluster_joins_is_lost_returns_and_is_removed,
    ),
    (
        "a_secret_registers_a_cluster_whose_changes_are_one_event_each",
        a_secret_registers_a_cluster_whose_changes_are_one_event_each,
    ),
];

/// How long what must come true may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Puts objects in the form of the scenarios.
fn put(pair: &mut Pair, text: &str) {
    let content: Content = serde_saphyr::from_str(text).expect("objects");
    content.objects().iter().for_each(|object| pair.put(object));
}

/// Creates or changes a federated service with `ip`, and a node in `region`.
fn publish(pair: &mut Pair, region: &str, ip: &str) {
    put(pair, &format!("[{{service: default/web, ips: [{ip}]}}, {{node: n1, region: {region}}}]"));
}

fn config(clusters: &[&str]) -> String {
    let cluster =
        |name: &&str| format!("  - {{name: {name}, source: {{kubeconfig: {{path: {name}}}}}}}\n");
    let clusters: String = clusters.iter().map(cluster).collect();
    format!(
        "federation:\n  name: fed\n  domain: example.com\n  \
         nameservers: [{{name: ns.example.net}}]\n\
         listen: {{dns: [$DNS], http: $HTTP}}\nstartup: {{grace: 1s}}\nshutdown: {{drain: 0s}}\n\
         health: {{grace: 1h}}\n\
         kubernetes: {{probe: {{period: 500ms}}, watchTimeout: 5s}}\nclusters:\n{clusters}"
    )
}

/// Addresses of the service's global name, in order; the code where there is none.
fn addresses(server: &Server) -> Vec<String> {
    let query = Query::new("web.default.fed.svc.example.com.", "A");
    let reply = server.client().ask(Over::Udp, &query).expect("an answer");
    let data = |record: &String| record.rsplit(' ').next().unwrap_or_default().to_owned();
    let mut answer: Vec<_> = reply.answer().iter().map(data).collect();
    answer.sort();
    answer
}

fn eventually(server: &Server, expected: &[&str]) {
    until(server, &format!("{expected:?}"), || addresses(server) == expected);
}

fn until(server: &Server, what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < deadline, "never {what}\n{}", server.log());
        thread::sleep(PAUSE);
    }
}

fn a_cluster_joins_is_lost_returns_and_is_removed(pairs: &mut [Pair]) {
    let [one, two] = pairs else { panic!("two pairs") };
    publish(one, "eu", "192.0.2.1");
    let directory = tempfile::tempdir().expect("room for files");
    for (name, pair) in [("one", &*one), ("two", &*two)] {
        fs::write(directory.path().join(name), pair.kubeconfig(Who::Known)).expect("writable");
    }
    let server = Server::start(directory, &config(&["one"]), None, User::Same, Until::Ready);
    eventually(&server, &["192.0.2.1"]);
    // Another joins.
    publish(two, "us", "192.0.2.2");
    server.configure(&config(&["one", "two"]));
    eventually(&server, &["192.0.2.1", "192.0.2.2"]);
    // One is lost: what it said is served on, and the other moves on.
    one.stop();
    publish(two, "us", "192.0.2.3");
    eventually(&server, &["192.0.2.1", "192.0.2.3"]);
    // It returns, with news.
    one.restart();
    publish(one, "eu", "192.0.2.4");
    eventually(&server, &["192.0.2.3", "192.0.2.4"]);
    // A real API server gives the region of its node a name.
    let regional = Query::new("web.default.fed.svc.eu.example.com.", "A");
    assert_eq!(server.client().ask(Over::Udp, &regional).expect("an answer").rcode(), 0);
    // It is removed.
    server.configure(&config(&["two"]));
    eventually(&server, &["192.0.2.3"]);
}

/// Two replicas see it, and the API server takes what one of them writes.
fn a_secret_registers_a_cluster_whose_changes_are_one_event_each(pairs: &mut [Pair]) {
    let [home, member] = pairs else { panic!("two pairs") };
    publish(member, "eu", "192.0.2.1");
    let kubeconfig = base64(member.kubeconfig(Who::Known).as_bytes());
    home.put(&json!({"apiVersion": "v1", "kind": "Secret", "data": {"kubeconfig": kubeconfig},
        "metadata": {"namespace": "default", "name": "member",
                     "labels": {"meridian.dev/cluster": "true"}}}));
    let config = config(&[]).replace("clusters:\n", "clusters: []\n")
        + "home: {source: {kubeconfig: {path: home}}, namespace: default}\n";
    let replicas = [(); 2].map(|()| {
        let directory = tempfile::tempdir().expect("room for files");
        let text = home.kubeconfig(Who::Known);
        fs::write(directory.path().join("home"), text).expect("writable");
        Server::start(directory, &config, None, User::Same, Until::Ready)
    });
    replicas.iter().for_each(|server| eventually(server, &["192.0.2.1"]));
    put(member, "[{service: default/web, ips: [192.0.2.1], ready: 0, unready: 1}]");
    let told = "meridian_events_total{outcome=\"written\"}";
    let found = "meridian_events_total{outcome=\"shared\"}";
    for server in &replicas {
        // The first is that the cluster is up.
        until(server, "two Events", || server.metric(told) + server.metric(found) == 2.0);
    }
    let events = home.objects(&ApiResource::erase::<Event>(&()), "default");
    let events: Vec<_> = events.iter().filter(|e| e["reason"] == "ShardNotServed").collect();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0]["regarding"]["kind"], "Secret");
    assert_eq!(events[0]["regarding"]["name"], "member");
    assert!(events[0]["regarding"]["uid"].is_string(), "as `kubectl describe` looks for it");
}
