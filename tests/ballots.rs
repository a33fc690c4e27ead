//! Three instances that vote through API servers: each keeps its ballot in the cluster that it sits
//! in, and reads those of all three.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

use std::cell::RefCell;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use support::apiserver::ApiServer;
use support::client::Over;
use support::dns::Query;
use support::forward::Forward;
use support::kubernetes::{eventually, federated, service, slice};
use support::server::{Server, Until, User};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// The address of the load balancer in a cluster.
fn address(cluster: usize) -> String {
    format!("127.0.9.{}", cluster + 1)
}

/// A load balancer, which takes every connection and ends it.
struct Balancer {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Balancer {
    fn over(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("bound");
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = stopped.clone();
        let accept = move || {
            let streams = listener.incoming().map_while(Result::ok);
            streams.take_while(|_| !flag.load(SeqCst)).for_each(drop);
        };
        Self { address, stopped, accepting: Some(thread::spawn(accept)) }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            thread.join().expect("it does not panic");
        }
    }
}

/// Load balancers of all clusters, on one port.
fn balancers() -> (Vec<Balancer>, u16) {
    loop {
        let first = TcpListener::bind((address(0), 0)).expect("a port");
        let port = first.local_addr().expect("bound").port();
        let others = [1, 2].map(|cluster| TcpListener::bind((address(cluster), port)));
        if let [Ok(second), Ok(third)] = others {
            return ([first, second, third].map(Balancer::over).into(), port);
        }
    }
}

/// An API server for each cluster, with a service `web` there.
fn clusters() -> Vec<ApiServer> {
    let all: Vec<ApiServer> = NAMES.iter().map(|_| ApiServer::start()).collect();
    for (cluster, api) in all.iter().enumerate() {
        api.put("services", service("web", &address(cluster), federated()));
        api.put("endpointslices", slice("web", federated()));
    }
    all
}

/// The instance in cluster `own`, which reaches each API server by the URL beside it and has `keys`
/// more for cluster `b`.
fn start(own: &str, apis: &[(&ApiServer, String)], port: u16, keys: &str) -> Server {
    let directory = tempfile::tempdir().expect("room for files");
    let mut members = String::new();
    for (name, (api, url)) in NAMES.iter().zip(apis) {
        let kubeconfig = api.kubeconfig("").replace(&api.url(), url);
        fs::write(directory.path().join(format!("{name}.kubeconfig")), kubeconfig)
            .expect("writable");
        let more = if *name == "b" { keys } else { "" };
        members += &format!(
            "  - {{name: {name}, region: {name}, source: {{kubeconfig: {{path: {name}.kubeconfig}}}}{more}}}\n"
        );
    }
    let config = format!(
        "federation:\n  name: fed\n  domain: example.com\n  allowNets: [127.0.0.0/8]\n  \
         nameservers: [{{name: ns.example.net}}]\n\
         listen: {{dns: [$DNS], http: $HTTP}}\n\
         shutdown: {{drain: 0s}}\n\
         kubernetes: {{probe: {{period: 200ms, timeout: 2s}}, watchTimeout: 2s}}\n\
         home: {{source: {{kubeconfig: {{path: {own}.kubeconfig}}}}, namespace: meridian}}\n\
         health:\n  grace: 1h\n  \
         checks: {{mode: always, check: 'tcp:{port}', interval: 200ms, rise: 1, fall: 2}}\n  \
         damping: {{minUp: 0s, holdOff: 0s}}\n  \
         votes: {{cluster: {own}, instance: {own}-0, heartbeat: 200ms, lease: 3s}}\n\
         clusters:\n{members}"
    );
    Server::start(directory, &config, None, User::Same, Until::Ready)
}

/// The clusters whose shards are answered.
fn served(server: &Server) -> String {
    let query = Query::new("web.default.fed.svc.example.com.", "A");
    let answer = server.client().ask(Over::Udp, &query).expect("an answer").answer();
    let has = |cluster: &usize| {
        let address = format!(" {}", address(*cluster));
        answer.iter().any(|record| record.ends_with(&address))
    };
    (0..3).filter(has).map(|cluster| NAMES[cluster]).collect()
}

fn serve(servers: &[&Server], expected: &str) {
    for server in servers {
        eventually(server, &format!("{expected} served"), || served(server) == expected);
    }
}

fn hear(server: &Server, voters: usize) {
    let series = "meridian_voters{state=\"heard\"}";
    eventually(server, &format!("{voters} voters heard"), || {
        server.metric(series) == voters as f64
    });
}

/// The ballot in a cluster.
fn ballot(api: &ApiServer) -> Value {
    let object = api.objects("configmaps").pop().unwrap_or_default();
    let text = object["data"]["ballot"].as_str().unwrap_or("{}");
    serde_json::from_str(text).expect("JSON")
}

/// How often the ballot in a cluster has been renewed, by its annotation.
fn renewal(api: &ApiServer) -> u64 {
    let object = api.objects("configmaps").pop().unwrap_or_default();
    let text = object["metadata"]["annotations"]["meridian.dev/ballot-renewal"].as_str();
    let count = text.and_then(|text| text.split_once('/')).map(|(_, count)| count.to_owned());
    count.and_then(|count| count.parse().ok()).unwrap_or_default()
}

/// The Events of votes in a cluster, in their order, by reason and type.
fn events(api: &ApiServer) -> Vec<String> {
    let events = api.objects("events").into_iter();
    let of_votes = events
        .filter(|event| event["reason"].as_str().is_some_and(|reason| reason.starts_with("Votes")));
    let mut told: Vec<_> = of_votes
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            (text("eventTime"), format!("{} {}", text("reason"), text("type")))
        })
        .collect();
    told.sort();
    told.into_iter().map(|(_, told)| told).collect()
}

#[test]
fn one_that_is_cut_off_freezes_while_the_others_decide() {
    let (mut balancers, port) = balancers();
    let apis = clusters();
    let direct: Vec<_> = apis.iter().map(|api| (api, api.url())).collect();
    let ways: Vec<Forward> = apis
        .iter()
        .map(|api| {
            let url = api.url();
            Forward::to(url.strip_prefix("http://").expect("HTTP").parse().expect("an address"))
        })
        .collect();
    let around: Vec<_> =
        apis.iter().zip(&ways).map(|(api, way)| (api, format!("http://{}", way.address))).collect();
    let (a, b) = (start("a", &direct, port, ""), start("b", &direct, port, ""));
    let c = start("c", &around, port, "");
    let all = [&a, &b, &c];
    all.iter().for_each(|server| hear(server, 3));
    serve(&all, "abc");
    let object = &apis[0].objects("configmaps")[0];
    assert_eq!(object["metadata"]["namespace"], "meridian");
    assert_eq!(object["metadata"]["name"], "meridian-ballot-a-0");
    assert_eq!(object["metadata"]["labels"], json!({"meridian.dev/ballot": "true"}));
    // The third hears nobody, and is heard by nobody.
    ways.iter().for_each(Forward::cut);
    let frozen = "meridian_votes_mode{mode=\"frozen\"}";
    eventually(&c, "it is frozen", || c.metric(frozen) == 1.0);
    // At the start nobody is heard for a moment, which is nothing to look at.
    let alarmed = |api| events(api).contains(&"VotesFrozen Warning".to_owned());
    assert!(!alarmed(&apis[0]) && !alarmed(&apis[2]), "{:?}", events(&apis[0]));
    [&a, &b].into_iter().for_each(|server| hear(server, 2));
    // A load balancer fails. Two of three agree; the third sees it and may not decide.
    drop(balancers.remove(0));
    serve(&[&a, &b], "bc");
    let failed = "meridian_checks_total{outcome=\"failed\"}";
    let before = c.metric(failed);
    eventually(&c, "its own checks fail again and again", || c.metric(failed) > before + 5.0);
    assert_eq!(served(&c), "abc", "alone it changes nothing");
    ways.iter().for_each(Forward::mend);
    hear(&c, 3);
    serve(&all, "bc");
    // That it was frozen is told by the log, and when it reaches its home again.
    assert!(c.log().contains("fewer than a majority of the voters are heard"), "{}", c.log());
    eventually(&c, "an Event that it decides again", || {
        apis[2].objects("events").iter().any(|event| {
            let note = event["note"].as_str().unwrap_or_default();
            event["reason"] == "VotesCounted" && note.contains("too few were since 2")
        })
    });
    let again = TcpListener::bind((address(0), port)).expect("the port is free");
    balancers.push(Balancer::over(again));
    serve(&all, "abc");
}

#[test]
fn one_that_sees_what_others_do_not_takes_nothing_out() {
    let (_balancers, port) = balancers();
    let apis = clusters();
    let direct: Vec<_> = apis.iter().map(|api| (api, api.url())).collect();
    let (a, b) = (start("a", &direct, port, ""), start("b", &direct, port, ""));
    // Where it asks nobody listens.
    let closed = TcpListener::bind((address(1), 0)).expect("a port");
    let wrong = closed.local_addr().expect("bound").port();
    drop(closed);
    let c = start("c", &direct, port, &format!(", checks: {{check: 'tcp:{wrong}'}}"));
    [&a, &b, &c].into_iter().for_each(|server| hear(server, 3));
    eventually(&c, "it votes", || ballot(&apis[2])["clusters"]["b"].is_object());
    // What it says is not written again for that.
    let first = RefCell::new((0, Value::Null));
    eventually(&c, "it goes on voting", || {
        let (renewal, ballot) = (renewal(&apis[2]), ballot(&apis[2]));
        let mut first = first.borrow_mut();
        if first.1 != ballot {
            *first = (renewal, ballot);
        }
        renewal > first.0 + 5
    });
    // Whoever removes it does so for a moment only.
    apis[2].delete("configmaps", "meridian", "meridian-ballot-c-0");
    eventually(&c, "it is there again", || !apis[2].objects("configmaps").is_empty());
    serve(&[&a, &b, &c], "abc");
    // A second vote is a majority.
    drop(b);
    let b = start("b", &direct, port, &format!(", checks: {{check: 'tcp:{wrong}'}}"));
    serve(&[&a, &b, &c], "ac");
    // Alone it decides nothing, and says so.
    drop((b, c));
    eventually(&a, "an Event that it is frozen", || {
        events(&apis[0]).last().is_some_and(|event| event == "VotesFrozen Warning")
    });
}
