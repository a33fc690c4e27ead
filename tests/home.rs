//! The real binary with a home cluster: clusters that Secrets register, and Events.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use support::PAUSE;
use support::apiserver::{ApiServer, Fault, Gone};
use support::client::Over;
use support::dns::Query;
use support::kubernetes::{
    answers, ask, cluster, config, eventually, federated, publish, secret, slice,
};
use support::server::{Server, Until, User};

#[test]
fn secrets_register_clusters_at_run_time() {
    let (home, one, two) = (ApiServer::start(), ApiServer::start(), ApiServer::start());
    publish(&one, "web", "192.0.2.1");
    publish(&two, "web", "192.0.2.2");
    home.put("secrets", secret("one", &one, json!({"meridian.dev/region": "eu"})));
    let directory = tempfile::tempdir().expect("room for files");
    fs::write(directory.path().join("home.kubeconfig"), home.kubeconfig("")).expect("writable");
    let registry = "home: {source: {kubeconfig: {path: home.kubeconfig}}, namespace: meridian}\n";
    let text = config("", "", registry);
    let server = Server::start(directory, &text, None, User::Same, Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    let regional = Query::new("web.default.fed.svc.eu.example.com.", "A");
    let reply = server.client().ask(Over::Udp, &regional).expect("an answer");
    assert_eq!(reply.rcode(), 0, "the region of the annotation");
    // Added.
    home.put("secrets", secret("two", &two, json!({"meridian.dev/name": "second"})));
    let both = || {
        let mut answer = ask(&server, "web");
        answer.sort();
        answer
    };
    eventually(&server, "both clusters", || both() == ["192.0.2.1", "192.0.2.2"]);
    // Unusable: reported, and what it said before stays.
    let mut unusable = secret("two", &two, json!({"meridian.dev/zones": "z"}));
    home.put("secrets", unusable.take());
    eventually(&server, "a report", || {
        server.get("/state").expect("a page").body.contains("Secret meridian/two")
    });
    assert_eq!(both(), ["192.0.2.1", "192.0.2.2"]);
    // Changed: drained.
    let drained = json!({"meridian.dev/name": "second", "meridian.dev/drain": "true"});
    home.put("secrets", secret("two", &two, drained));
    eventually(&server, "one is drained", || both() == ["192.0.2.1"]);
    home.put("secrets", secret("two", &two, json!({"meridian.dev/name": "second"})));
    eventually(&server, "both clusters", || both() == ["192.0.2.1", "192.0.2.2"]);
    // The home cluster is lost: nobody goes.
    home.fault("*", Fault::Status(500, None));
    home.forget(Gone::Status);
    thread::sleep(PAUSE);
    assert_eq!(both(), ["192.0.2.1", "192.0.2.2"]);
    home.heal();
    // Removed.
    home.delete("secrets", "meridian", "one");
    eventually(&server, "one is gone", || both() == ["192.0.2.2"]);
    assert_eq!(server.client().ask(Over::Udp, &regional).expect("an answer").rcode(), 3);
}

/// How the shards of a cluster are checked is a matter of its Secret, as it is of the file.
#[test]
fn a_secret_sets_the_checks_of_its_cluster() {
    let (home, one, two) = (ApiServer::start(), ApiServer::start(), ApiServer::start());
    publish(&one, "web", "127.0.9.1");
    publish(&two, "web", "127.0.9.2");
    let balancers = ["127.0.9.1:0", "127.0.9.2:0"].map(|at| TcpListener::bind(at).expect("a port"));
    let port = |at: usize| balancers[at].local_addr().expect("bound").port();
    let closed = TcpListener::bind("127.0.9.1:0").expect("a port").local_addr().expect("bound");
    let register = |name: &str, api: &ApiServer, check: &str| {
        let check = json!({"meridian.dev/checks": "always", "meridian.dev/check": check});
        home.put("secrets", secret(name, api, check));
    };
    let hasty = "interval=200ms rise=1 fall=1";
    register("one", &one, &format!("tcp:{} {hasty}", port(0)));
    register("two", &two, &format!("tcp:{} {hasty}", port(1)));
    let directory = tempfile::tempdir().expect("room for files");
    fs::write(directory.path().join("home.kubeconfig"), home.kubeconfig("")).expect("writable");
    let text = config("  allowNets: [127.0.0.0/8]\n", "", HOME);
    let server = Server::start(directory, &text, None, User::Same, Until::Ready);
    let served = |expected: &[&str]| {
        eventually(&server, &format!("{expected:?}"), || {
            let mut answer = ask(&server, "web");
            answer.sort();
            answer == expected
        });
    };
    let both = ["127.0.9.1", "127.0.9.2"];
    served(&both);
    eventually(&server, "both are checked", || {
        server.metric(r#"meridian_checks_total{outcome="passed"}"#) >= 2.0
    });
    register("one", &one, &format!("tcp:{} {hasty}", closed.port()));
    served(&both[1..]);
    let state = || server.get("/state").expect("a page").body;
    let said = [format!("tcp:{}", closed.port()), "its checks fail: Connection refused".to_owned()];
    assert!(said.iter().all(|part| state().contains(part)), "{}", state());
    register("one", &one, "http:80 status=fine");
    let report = "meridian.dev/check 'http:80 status=fine' is no check: status";
    eventually(&server, "a report", || state().contains(report));
    served(&both[1..]);
    register("one", &one, &format!("tcp:{} {hasty}", port(0)));
    served(&both);
    eventually(&server, "no report", || !state().contains(report));
}

/// A server with `home` as its home cluster and `one` as its only member.
fn beside(home: &ApiServer, one: &ApiServer) -> Server {
    let directory = tempfile::tempdir().expect("room for files");
    fs::write(directory.path().join("home.kubeconfig"), home.kubeconfig("")).expect("writable");
    fs::write(directory.path().join("one.kubeconfig"), one.kubeconfig("")).expect("writable");
    let text = config("", &cluster("one", ""), HOME);
    Server::start(directory, &text, None, User::Same, Until::Ready)
}

const HOME: &str = "home: {source: {kubeconfig: {path: home.kubeconfig}}, namespace: meridian}\n";

/// The Events that have a reason and a note that holds `part`.
fn events(home: &ApiServer, reason: &str, part: &str) -> Vec<Value> {
    let said = |event: &Value| {
        event["reason"] == reason && event["note"].as_str().is_some_and(|note| note.contains(part))
    };
    home.objects("events").into_iter().filter(said).collect()
}

/// The slice of a service without a ready endpoint.
fn unready(name: &str) -> Value {
    let mut slice = slice(name, federated());
    slice["endpoints"][0]["conditions"]["ready"] = false.into();
    slice
}

#[test]
fn changes_of_shards_are_events_and_lines() {
    let (home, one) = (ApiServer::start(), ApiServer::start());
    publish(&one, "web", "192.0.2.1");
    let server = beside(&home, &one);
    answers(&server, "web", &["192.0.2.1"]);
    one.put("endpointslices", unready("web"));
    let part = "the shard of default/web in cluster one went from served to not_ready: \
                0 of 1 needed endpoints ready";
    let told = || events(&home, "ShardNotServed", part);
    eventually(&server, "an Event of the shard", || told().len() == 1);
    let event = &told()[0];
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reportingController"], "meridian.dev/meridian");
    // No pod is known here and no Secret registers the cluster.
    let place = json!({"apiVersion": "v1", "kind": "Namespace", "name": "default",
                       "namespace": "default"});
    assert_eq!(event["regarding"], place);
    assert!(event["eventTime"].is_string() && event["action"].is_string(), "{event}");
    let line = "shard changed its state service=default/web cluster=one from=\"served\" \
                to=\"not_ready\" reason=0 of 1 needed endpoints ready";
    eventually(&server, "a line of it", || server.log().contains(line));
    one.put("endpointslices", slice("web", federated()));
    eventually(&server, "an Event that it is back", || {
        !events(&home, "ShardServed", "from not_ready to served: is healthy").is_empty()
    });
    eventually(&server, "a count", || {
        server.metric("meridian_events_total{outcome=\"written\"}") >= 2.0
    });
}

#[test]
fn changes_of_a_registered_cluster_stand_beside_its_secret() {
    let (home, mut one) = (ApiServer::start(), ApiServer::start());
    publish(&one, "web", "192.0.2.1");
    let mut registration = secret("one", &one, json!({}));
    registration["metadata"]["uid"] = "8f1c".into();
    home.put("secrets", registration);
    let directory = tempfile::tempdir().expect("room for files");
    fs::write(directory.path().join("home.kubeconfig"), home.kubeconfig("")).expect("writable");
    let server = Server::start(directory, &config("", "", HOME), None, User::Same, Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    one.stop();
    let told = || events(&home, "ClusterStale", "cluster one went from up to stale: ");
    eventually(&server, "an Event of the cluster", || !told().is_empty());
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "namespace": "meridian",
                        "name": "one", "uid": "8f1c"});
    assert_eq!(told()[0]["regarding"], secret);
    assert_eq!(told()[0]["metadata"]["namespace"], "meridian");
    one.restart();
    eventually(&server, "an Event that it is back", || {
        !events(&home, "ClusterUp", "from stale to up").is_empty()
    });
}

/// Both see it at nearly the same moment, which may be the end of a minute.
#[test]
fn two_instances_write_one_event_of_one_change() {
    let (home, one) = (ApiServer::start(), ApiServer::start());
    publish(&one, "web", "192.0.2.1");
    let instances = [beside(&home, &one), beside(&home, &one)];
    let each = |what: &str, check: &dyn Fn(&Server) -> bool| {
        instances.iter().for_each(|server| eventually(server, what, || check(server)));
    };
    let told = |part: &str| events(&home, "ShardNotServed", part).len();
    let count = |server: &Server, outcome: &str| {
        server.metric(&format!("meridian_events_total{{outcome=\"{outcome}\"}}"))
    };
    let handled = |server: &Server| count(server, "written") + count(server, "shared");
    each("what is told of the cluster", &|server| handled(server) == 1.0);
    each("the service", &|server| ask(server, "web") == ["192.0.2.1"]);
    // Again and again: each is an Event of its own.
    for round in 1..=3 {
        one.put("endpointslices", unready("web"));
        let expected = f64::from(2 * round);
        each("what is told of it", &|server| handled(server) == expected);
        assert_eq!(told("default/web"), round as usize, "{:?}", home.objects("events"));
        one.put("endpointslices", slice("web", federated()));
        each("what is told of its return", &|server| handled(server) == expected + 1.0);
    }
    assert_eq!(events(&home, "ShardServed", "default/web").len(), 3);
    let of = |outcome: &str| instances.iter().map(|server| count(server, outcome)).sum::<f64>();
    assert_eq!((of("written"), of("shared")), (7.0, 7.0));
}

/// Nothing is taken out when all is lost at once, and people are told so.
#[test]
fn fail_static_is_an_event_when_it_begins_and_when_it_ends() {
    let (home, one) = (ApiServer::start(), ApiServer::start());
    publish(&one, "web", "192.0.2.1");
    let directory = tempfile::tempdir().expect("room for files");
    fs::write(directory.path().join("home.kubeconfig"), home.kubeconfig("")).expect("writable");
    fs::write(directory.path().join("one.kubeconfig"), one.kubeconfig("")).expect("writable");
    let text = config("", &cluster("one", ", staleGrace: 1s"), HOME);
    let server = Server::start(directory, &text, None, User::Same, Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    one.fault("*", Fault::Status(500, None));
    let begun = || events(&home, "FailStatic", "the fault is taken for ours");
    eventually(&server, "an Event that it begins", || begun().len() == 1);
    assert_eq!(begun()[0]["type"], "Warning");
    assert_eq!(server.metric("meridian_fail_static"), 1.0);
    answers(&server, "web", &["192.0.2.1"]);
    one.heal();
    let over = || events(&home, "FailStaticOver", "not every cluster looks lost");
    eventually(&server, "an Event that it ends", || over().len() == 1);
    assert_eq!(server.metric("meridian_fail_static"), 0.0);
    assert_eq!(begun().len(), 1);
}

#[test]
fn an_outage_of_many_shards_is_a_few_events() {
    let (home, one) = (ApiServer::start(), ApiServer::start());
    let names: BTreeSet<String> = (0..300).map(|n| format!("web{n}")).collect();
    for name in &names {
        publish(&one, name, "192.0.2.1");
    }
    let server = beside(&home, &one);
    answers(&server, "web299", &["192.0.2.1"]);
    for name in &names {
        one.put("endpointslices", unready(name));
    }
    eventually(&server, "all are out", || {
        server.metric("meridian_shards{cluster=\"one\",state=\"not_ready\"}") >= 300.0
    });
    // The first may be told one by one; the others come together.
    let sums = || events(&home, "ShardNotServed", " shards in cluster one went from served");
    eventually(&server, "a sum", || !sums().is_empty());
    let told = |note: &str| note.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let shards = || -> usize {
        let all = events(&home, "ShardNotServed", "");
        all.iter().map(|event| told(event["note"].as_str().unwrap_or_default())).sum()
    };
    eventually(&server, "every shard is told of", || shards() == 300);
    let count = events(&home, "ShardNotServed", "").len();
    assert!(count < 150, "{count} Events of 300 shards");
}

#[test]
fn events_that_cannot_be_written_harm_nobody() {
    let (home, one) = (ApiServer::start(), ApiServer::start());
    publish(&one, "web", "192.0.2.1");
    home.fault("events", Fault::Status(403, None));
    let server = beside(&home, &one);
    answers(&server, "web", &["192.0.2.1"]);
    one.put("endpointslices", unready("web"));
    answers(&server, "web", &[]);
    publish(&one, "web", "192.0.2.2");
    answers(&server, "web", &["192.0.2.2"]);
    eventually(&server, "both counted", || {
        server.metric("meridian_events_total{outcome=\"failed\"}") >= 2.0
    });
    assert_eq!(server.log().matches("Events cannot be written").count(), 1, "{}", server.log());
    eventually(&server, "both told", || {
        server.log().matches("shard changed its state").count() == 2
    });
}

/// Nothing but the file is there: neither the home cluster nor any other answers.
#[test]
fn registered_clusters_outlive_a_restart_without_a_home() {
    let (mut home, mut one) = (ApiServer::start(), ApiServer::start());
    publish(&one, "web", "192.0.2.1");
    home.put("secrets", secret("one", &one, json!({"meridian.dev/region": "eu"})));
    let drained = json!({"meridian.dev/region": "eu", "meridian.dev/drain": "true"});
    let drained = secret("one", &one, drained);
    let kept = tempfile::tempdir().expect("room for files");
    let path = |name: &str| kept.path().join(name).display().to_string();
    fs::write(path("home.kubeconfig"), home.kubeconfig("")).expect("writable");
    let start = || {
        let directory = tempfile::tempdir().expect("room for files");
        let more = HOME.replace("home.kubeconfig", &path("home.kubeconfig"));
        let more = format!("{more}lastKnownGood: {{path: {}}}\n", path("state"));
        // Only what is known ends the wait before that.
        let text = config("", "", &more).replace("startup: {grace: 1s}", "startup: {grace: 10m}");
        Server::start(directory, &text, None, User::Same, Until::Ready)
    };
    let mut server = start();
    answers(&server, "web", &["192.0.2.1"]);
    server.signal("TERM");
    assert!(server.ended().success());
    home.stop();
    one.stop();
    let file = fs::read(path("state")).expect("kept");
    assert!(!file.windows(15).any(|part| part == b"current-context"), "no credentials are kept");
    let server = start();
    assert_eq!(ask(&server, "web"), ["192.0.2.1"]);
    let regional = Query::new("web.default.fed.svc.eu.example.com.", "A");
    let reply = server.client().ask(Over::Udp, &regional).expect("an answer");
    assert_eq!(reply.rcode(), 0, "its places are kept");
    assert_eq!(server.metric("meridian_cluster_state{cluster=\"one\",state=\"stale\"}"), 1.0);
    // The home cluster is back, and has changed meanwhile; then the other.
    home.put("secrets", drained);
    home.restart();
    answers(&server, "web", &[]);
    one.restart();
    eventually(&server, "it is read", || {
        server.metric("meridian_cluster_state{cluster=\"one\",state=\"up\"}") == 1.0
    });
    home.delete("secrets", "meridian", "one");
    answers(&server, "web", &["rcode 3"]);
}
