//! Conformance, one module an RFC, each rule in a line beside the test that holds it: black-box
//! against the real binary, over UDP and TCP.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

mod conformance {
    pub(crate) mod rfc1035;
    pub(crate) mod rfc2181;
    pub(crate) mod rfc2308;
    pub(crate) mod rfc2782;
    pub(crate) mod rfc3597;
    pub(crate) mod rfc4343;
    pub(crate) mod rfc4892;
    pub(crate) mod rfc5001;
    pub(crate) mod rfc6891;
    pub(crate) mod rfc7766;
    pub(crate) mod rfc7871;
    pub(crate) mod rfc8020;
    pub(crate) mod rfc8482;
    pub(crate) mod rfc8906;
    pub(crate) mod rfc8914;
    pub(crate) mod rfc9619;
}

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use conformance::*;
use support::client::Over;
use support::dns::{Query, Reply};
use support::manifests::Content;
use support::server::{Server, Until, User};

/// A test: its name and what it does with a server over [`FILES`].
type Rule = (&'static str, fn(&Server));

/// Names the tests of a module.
macro_rules! rules {
    ($($name:ident),* $(,)?) => {
        pub(crate) const RULES: &[crate::Rule] = &[$((stringify!($name), $name)),*];
    };
}
pub(crate) use rules;

/// The federation that the rules are tried on, as a user would write it.
const CONFIG: &str = r#"
federation:
  name: f
  domain: example.com
  nameservers: [{name: ns1.example.com, addresses: [192.0.2.53, "2001:db8::53"]}]
  maxAddresses: 100
  records:
    - {name: www, type: A, data: 192.0.2.80}
    - {name: www, type: TXT, data: text}
    - {name: alias, type: CNAME, data: www.example.net.}
listen: {dns: [$DNS], http: $HTTP}
dns: {version: meridian, id: node-1, nsid: node-1}
clusters:
  - {name: us1, region: us, zones: [us-a], location: {latitude: 40, longitude: -75}, source: {manifests: us1}}
  - {name: eu1, region: eu, zones: [eu-a], location: {latitude: 50, longitude: 8}, source: {manifests: eu1}}
  - {name: ap1, region: ap, zones: [ap-a], location: {latitude: 35, longitude: 139}, source: {manifests: ap1}}
geo:
  networks:
    - {cidr: 198.18.1.0/24, location: {latitude: 50.1, longitude: 8.7}}
    - {cidr: 198.18.2.0/23, location: {latitude: 50.1, longitude: 8.7}}
    - {cidr: 127.0.0.9/32, location: {latitude: 50.1, longitude: 8.7}}
    - {cidr: "2001:db8:7::/48", location: {latitude: 50.1, longitude: 8.7}}
"#;

/// `web` in two places, `down` in none; `big` has more addresses than any datagram holds, `mid`
/// more than one without EDNS.
const FILES: [(&str, &str); 3] = [
    (
        "us1",
        r#"
- {service: n/web, ips: [192.0.2.1, "2001:db8::1"], ports: {http: 80}}
- {service: n/one, ips: [192.0.2.7]}
- {service: n/down, ips: [192.0.2.9], ready: 0}
"#,
    ),
    ("eu1", r#"[{service: n/web, ips: [192.0.2.2, "2001:db8::2"], ports: {http: 80}}]"#),
    ("ap1", "[]"),
];

fn main() -> ExitCode {
    let modules: [(&str, &[Rule]); 16] = [
        ("rfc1035", rfc1035::RULES),
        ("rfc2181", rfc2181::RULES),
        ("rfc2308", rfc2308::RULES),
        ("rfc2782", rfc2782::RULES),
        ("rfc3597", rfc3597::RULES),
        ("rfc4343", rfc4343::RULES),
        ("rfc4892", rfc4892::RULES),
        ("rfc5001", rfc5001::RULES),
        ("rfc6891", rfc6891::RULES),
        ("rfc7766", rfc7766::RULES),
        ("rfc7871", rfc7871::RULES),
        ("rfc8020", rfc8020::RULES),
        ("rfc8482", rfc8482::RULES),
        ("rfc8906", rfc8906::RULES),
        ("rfc8914", rfc8914::RULES),
        ("rfc9619", rfc9619::RULES),
    ];
    let arguments = Arguments::from_args();
    // One server for all, owned here, so that it ends with this function.
    let server = Arc::new(start(CONFIG));
    let rules = modules.iter().flat_map(|(module, rules)| rules.iter().map(move |r| (module, r)));
    let trials = rules.map(|(module, (name, run))| {
        let server = server.clone();
        Trial::test(format!("{module}::{name}"), move || {
            run(&server);
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Starts a server over [`FILES`].
fn start(config: &str) -> Server {
    let directory = tempfile::tempdir().expect("room for files");
    for (name, text) in FILES {
        let mut text = text.to_owned();
        if name == "us1" {
            text.push_str(&crowd("big", 60));
            text.push_str(&crowd("mid", 30));
        }
        let objects: Content = serde_saphyr::from_str(&text).expect("objects");
        let path = directory.path().join(name);
        fs::create_dir(&path).expect("a new directory");
        fs::write(path.join("objects.yaml"), objects.text()).expect("writable");
    }
    Server::start(directory, config, None, User::Same, Until::Ready)
}

/// A service with so many IPv6 addresses.
fn crowd(name: &str, count: u16) -> String {
    let ips: Vec<String> = (1..=count).map(|n| format!("\"2001:db8:f::{n:x}\"")).collect();
    format!("- {{service: n/{name}, ips: [{}], ports: {{http: 80}}}}\n", ips.join(", "))
}

/// Asks; a reply that is none to this query fails the test.
fn ask(server: &Server, over: Over, query: &Query) -> Reply {
    server.client().ask(over, query).unwrap_or_else(|why| panic!("over {over:?}: {why}"))
}

/// Sends any octets and reads the reply.
fn send(server: &Server, over: Over, octets: &[u8]) -> Reply {
    let reply = server.client().exchange(over, octets);
    let reply = reply.unwrap_or_else(|error| panic!("over {over:?}: {error}"));
    Reply::parse(&reply).unwrap_or_else(|why| panic!("over {over:?}: {why}"))
}
