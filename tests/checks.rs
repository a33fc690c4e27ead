//! Active checks by the real binary, of real targets on loopback that fail in every way.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;
#[path = "checks/targets.rs"]
mod targets;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use support::client::Over;
use support::dns::Query;
use support::server::{Server, Until, User};
use support::{PATIENCE, PAUSE};
use targets::{Act, Certificate, EXPIRED, GOOD, OTHER, OWN, Target};

/// How a service is checked, and a way in which its target fails.
struct Case {
    name: &'static str,
    /// Without its port, which stands where the first `$` is.
    check: &'static str,
    well: Act,
    fault: Act,
    /// What is told of it.
    why: &'static str,
}

impl Case {
    /// The check, with all the time that a busy machine may need where none has to run out.
    fn timed(&self) -> String {
        let more = if self.why.contains("within") { "" } else { " timeout=10s" };
        format!("{}{more}", self.check)
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is well";
const HTTP: Act = Act::Http(OK);
const HTTPS: Act = Act::Https(GOOD, OK);
const TLS: &str = "https:$/ host=shop.example.com";
const SERVING: Act = Act::Grpc(&[0, 0, 0, 0, 2, 8, 1]);
const ANSWERS: Act = Act::Dns(ResponseCode::NoError, 1);

const fn case(
    name: &'static str,
    (check, well): (&'static str, Act),
    fault: Act,
    why: &'static str,
) -> Case {
    Case { name, check, well, fault, why }
}

const fn https(certificate: Certificate) -> Act {
    Act::Https(certificate, OK)
}

const CASES: [Case; 25] = [
    case("tcp-refused", ("tcp:$", HTTP), Act::Refuse, "Connection refused"),
    case("tcp-dropped", ("tcp:$", HTTP), Act::BlackHole, "no connection within 2s"),
    case("http-refused", ("http:$/", HTTP), Act::Refuse, "Connection refused"),
    case("http-dropped", ("http:$/", HTTP), Act::BlackHole, "no connection within 2s"),
    case("http-deaf", ("http:$/", HTTP), Act::Deaf, "no whole reply within 2s"),
    case("http-mute", ("http:$/", HTTP), Act::Mute, "no whole reply within 2s"),
    case("http-late", ("http:$/", HTTP), Act::Late(OK), "no whole reply within 2s"),
    case("http-closes", ("http:$/", HTTP), Act::Http(""), "connection closed"),
    case("http-half", ("http:$/", HTTP), Act::Http("HTTP/1.1 200 OK\r\nCont"), "connection closed"),
    case(
        "http-half-body",
        ("http:$/ contains=well", HTTP),
        Act::Http("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nall is well"),
        "end of file before message length reached",
    ),
    case(
        "http-status",
        ("http:$/healthz status=2xx", HTTP),
        Act::Http("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
        "status 503 is not in 200-299",
    ),
    case(
        "http-text",
        ("http:$/ contains='is well'", HTTP),
        Act::Http("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nill"),
        "the body does not hold 'is well'",
    ),
    case(
        "http-pattern",
        ("http:$/ matches='^all .* well$'", HTTP),
        Act::Http("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nnot all is ok"),
        "the body does not match '^all .* well$'",
    ),
    case("http-other", ("http:$/", HTTP), Act::Http("SSH-2.0-x\r\n\r\n"), "invalid HTTP"),
    case("https-expired", (TLS, HTTPS), https(EXPIRED), "the certificate has expired"),
    case("https-name", (TLS, HTTPS), https(OTHER), "the certificate is for another name"),
    case("https-own", (TLS, HTTPS), https(OWN), "the certificate is one of an authority"),
    case("https-mute", (TLS, HTTPS), Act::Mute, "no TLS session within 2s"),
    case("https-plain", (TLS, HTTPS), Act::Http(OK), "no TLS session within 2s"),
    case(
        "grpc-not-serving",
        ("grpc:$/shop", SERVING),
        Act::Grpc(&[0, 0, 0, 0, 2, 8, 2]),
        "its health is NOT_SERVING",
    ),
    case("grpc-unknown", ("grpc:$/shop", SERVING), Act::GrpcStatus("5"), "no service 'shop'"),
    case("grpc-mute", ("grpc:$", SERVING), Act::Mute, "no whole reply within 2s"),
    case("dns-mute", ("dns:$/a.example", ANSWERS), Act::Mute, "no reply within 2s"),
    case(
        "dns-refused",
        ("dns:$/a.example", ANSWERS),
        Act::Dns(ResponseCode::Refused, 0),
        "response code Query Refused",
    ),
    case(
        "dns-empty",
        ("dns:$/a.example", ANSWERS),
        Act::Dns(ResponseCode::NoError, 0),
        "the reply has no record",
    ),
];

/// A server over the clusters `x`, which fails, and `y`, in which nothing does; each has all
/// services, and one in `x` stays well too, as all that fail at once would be a fault of ours.
struct World {
    server: Server,
    runtime: Runtime,
    targets: Vec<Target>,
}

const IN_X: &str = "127.0.8.1";
const IN_Y: &str = "127.0.8.2";

impl World {
    fn new() -> Self {
        let runtime = targets::runtime();
        let (targets, well) = runtime.block_on(async {
            let mut targets = Vec::new();
            for case in &CASES {
                targets.push(Target::start(IN_X, case.well).await);
            }
            (targets, Target::start(IN_Y, HTTP).await)
        });
        let home = TempDir::new().expect("a directory");
        let write = |cluster: &str, services: Vec<Value>| {
            fs::create_dir(home.path().join(cluster)).expect("new");
            let list = json!({"apiVersion": "v1", "kind": "List", "items": services});
            let file = home.path().join(cluster).join("all.json");
            fs::write(file, list.to_string()).expect("writable");
        };
        let checked = CASES.iter().zip(&targets);
        let checked =
            checked.map(|(case, target)| service(case.name, IN_X, &case.timed(), target.address));
        write("x", checked.chain([service("well", IN_Y, "tcp:$", well.address)]).collect());
        let names = CASES.iter().map(|case| case.name);
        write("y", names.map(|name| service(name, IN_Y, "http:$/", well.address)).collect());
        let config = config(&home);
        let server = Server::start(home, &config, None, User::Same, Until::Ready);
        Self { server, runtime, targets }
    }

    fn turn(&mut self, act: impl Fn(&Case) -> Act) {
        for (case, target) in CASES.iter().zip(&mut self.targets) {
            self.runtime.block_on(target.turn(act(case)));
        }
    }

    /// Waits until `holds`.
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let told = || format!("{}\n{}", self.state(), self.server.log());
            assert!(Instant::now() < deadline, "{what}\n{}", told());
            thread::sleep(PAUSE);
        }
    }

    /// Waits until each service has these addresses.
    fn served(&self, expected: &[&str]) {
        for Case { name, .. } in &CASES {
            self.until(&format!("{name}: {expected:?}"), || self.answer(name) == expected);
        }
    }

    fn answer(&self, name: &str) -> Vec<String> {
        let query = Query::new(&format!("{name}.n.f.svc.example.com."), "A");
        let reply = self.server.client().ask(Over::Udp, &query).expect("a reply");
        let address = |record: &String| record.rsplit(' ').next().unwrap_or_default().to_owned();
        let mut addresses: Vec<_> = reply.answer().iter().map(address).collect();
        addresses.sort();
        addresses
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.server.get("/state").expect("state").body).expect("JSON")
    }

    /// Checks with this outcome so far.
    fn checks(&self, outcome: &str) -> f64 {
        self.server.metric(&format!("meridian_checks_total{{outcome=\"{outcome}\"}}"))
    }

    fn out(&self) -> f64 {
        self.server.metric(r#"meridian_shards{cluster="x",state="checks_fail"}"#)
    }
}

fn service(name: &str, ip: &str, check: &str, at: SocketAddr) -> Value {
    let check = check.replacen('$', &at.port().to_string(), 1);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": "n", "name": name,
            "annotations": {"meridian.dev/min-ready": "0", "meridian.dev/check": check},
        },
        "spec": {"ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": ip}]}},
    })
}

fn config(home: &TempDir) -> String {
    let home = home.path().display();
    let pem = |file: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    let good = pem("src/health/check/tests/tls/authority.pem");
    let other = pem("tests/support/apiserver/tls/ca.pem");
    format!(
        "federation:\n  name: f\n  domain: example.com\n  allowNets: [127.0.0.0/8]\n  \
         export: all\n  nameservers: [{{name: ns.example.net}}]\n\
         listen: {{dns: [$DNS], http: $HTTP}}\nclusters:\n  \
         - {{name: x, source: {{manifests: {home}/x}}}}\n  \
         - {{name: y, source: {{manifests: {home}/y}}}}\n\
         health:\n  damping: {{minUp: 0s, holdOff: 0s}}\n  checks:\n    mode: always\n    \
         interval: 500ms\n    timeout: 2s\n    rise: 2\n    fall: 2\n    \
         authorities: [{}, {}]\n",
        good.display(),
        other.display()
    )
}

#[test]
fn every_fault_takes_a_shard_out_and_is_told_until_it_is_mended() {
    let mut world = World::new();
    let both = [IN_X, IN_Y];
    // Each of them, and what is well in either cluster; twice, so that sessions are taken up.
    let targets = CASES.len() as f64 + 2.0;
    world.until("all are checked", || {
        world.checks("passed") >= targets * 2.0
            && world.server.metric("meridian_check_targets") == targets
    });
    world.served(&both);
    world.until("none is out", || world.out() == 0.0);

    let failed = world.checks("failed");
    world.turn(|case| case.fault);
    world.served(&both[1..]);
    world.until("they are counted", || world.out() == CASES.len() as f64);
    assert!(world.checks("failed") >= failed + CASES.len() as f64 * 2.0, "two each");
    assert_eq!(world.checks("unable"), 0.0);
    for Case { name, why, .. } in &CASES {
        let state = &world.state()["services"][format!("n/{name}")]["shards"];
        let told = state["x"]["excluded"].as_str().unwrap_or_default();
        assert!(told.starts_with("its checks fail: ") && told.contains(why), "{name}: {told}");
        assert_eq!(state["y"]["served"], true, "{name}");
        let page = format!("/explain?name={name}.n.f.svc.example.com&client=192.0.2.1");
        let page = world.server.get(&page).expect("explained").body;
        let page: Value = serde_json::from_str(&page).expect("JSON");
        let mut clusters = page["service"]["clusters"].as_array().expect("all").iter();
        let x = clusters.find(|cluster| cluster["cluster"] == "x").expect("it is told of");
        assert_eq!((x["excluded"].as_str(), x["since"].is_string()), (Some(told), true), "{name}");
    }
    assert_eq!(world.answer("well"), [IN_Y], "it is well in x");

    world.turn(|case| case.well);
    world.served(&both);
    world.until("none is out", || world.out() == 0.0);
}

#[test]
fn sessions_of_tls_are_taken_up() {
    let world = World::new();
    for (case, target) in CASES.iter().zip(&world.targets) {
        if matches!(case.well, Act::Https(..)) {
            world.until(case.name, || target.resumed() >= 2);
        }
    }
}
