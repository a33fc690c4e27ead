//! A server beside API servers: its configuration, their objects, what is asked of it.

use std::fs;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::PAUSE;
use super::apiserver::ApiServer;
use super::apiserver::http::base64;
use super::client::Over;
use super::dns::Query;
use super::server::{Server, Until, User};

/// How long recovery may take: pauses between attempts grow to half a minute.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// `source` of a cluster whose kubeconfig is the file `NAME.kubeconfig`.
pub(crate) fn cluster(name: &str, more: &str) -> String {
    format!(
        "  - {{name: {name}, region: {name}, source: {{kubeconfig: {{path: {name}.kubeconfig}}}}\
         {more}}}\n"
    )
}

/// A configuration with `federation` put into that section and these clusters.
pub(crate) fn config(federation: &str, clusters: &str, rest: &str) -> String {
    format!(
        "federation:\n  name: fed\n  domain: example.com\n  \
         nameservers: [{{name: ns.example.net}}]\n{federation}\
         listen: {{dns: [$DNS], http: $HTTP}}\n\
         startup: {{grace: 1s}}\n\
         shutdown: {{drain: 0s}}\n\
         health: {{grace: 1h, checks: {{mode: off}}}}\n\
         kubernetes: {{probe: {{period: 200ms, timeout: 2s}}, watchTimeout: 2s}}\n\
         clusters:{}\n{clusters}{rest}",
        if clusters.is_empty() { " []" } else { "" }
    )
}

/// A server over clusters `name`, each with its API server and user.
pub(crate) fn start(
    federation: &str,
    clusters: &[(&str, &ApiServer)],
    rest: &str,
    until: Until,
) -> Server {
    let directory = tempfile::tempdir().expect("room for files");
    for (name, api) in clusters {
        let path = directory.path().join(format!("{name}.kubeconfig"));
        fs::write(path, api.kubeconfig("")).expect("writable");
    }
    let text: String = clusters.iter().map(|(name, _)| cluster(name, "")).collect();
    Server::start(directory, &config(federation, &text, rest), None, User::Same, until)
}

pub(crate) fn federated() -> Value {
    json!({"meridian.dev/federate": "true"})
}

/// A Service of a load balancer with `ip`.
pub(crate) fn service(name: &str, ip: &str, labels: Value) -> Value {
    json!({"metadata": {"namespace": "default", "name": name, "labels": labels},
           "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]},
           "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}})
}

/// Its EndpointSlice with one ready endpoint.
pub(crate) fn slice(name: &str, mut labels: Value) -> Value {
    labels["kubernetes.io/service-name"] = name.into();
    json!({"metadata": {"namespace": "default", "name": format!("{name}-1"), "labels": labels},
           "addressType": "IPv4",
           "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]})
}

/// Puts a federated service.
pub(crate) fn publish(api: &ApiServer, name: &str, ip: &str) {
    api.put("services", service(name, ip, federated()));
    api.put("endpointslices", slice(name, federated()));
}

/// The data of the answer for the global name of `name`, or its code.
pub(crate) fn ask(server: &Server, name: &str) -> Vec<String> {
    let query = Query::new(&format!("{name}.default.fed.svc.example.com."), "A");
    let reply = server.client().ask(Over::Udp, &query).unwrap_or_else(|why| {
        panic!("no answer: {why}\n{}", server.log());
    });
    let data = |record: &String| record.rsplit(' ').next().unwrap_or_default().to_owned();
    match reply.rcode() {
        0 => reply.answer().iter().map(data).collect(),
        code => vec![format!("rcode {code}")],
    }
}

/// Waits until `check` holds.
pub(crate) fn eventually(server: &Server, what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        let state = || server.get("/state").map(|page| page.body);
        assert!(Instant::now() < deadline, "not seen: {what}\n{:?}\n{}", state(), server.log());
        thread::sleep(PAUSE);
    }
}

pub(crate) fn answers(server: &Server, name: &str, expected: &[&str]) {
    eventually(server, &format!("{name} is {expected:?}"), || ask(server, name) == expected);
}

/// Waits until failures of a kind for `reason` have been counted.
pub(crate) fn failed(server: &Server, kind: &str, reason: &str) {
    let series = format!("meridian_watch_failures_total{{kind=\"{kind}\",reason=\"{reason}\"}}");
    eventually(server, &series, || server.metric(&series) > 0.0);
}

/// A Secret that registers `api`.
pub(crate) fn secret(name: &str, api: &ApiServer, annotations: Value) -> Value {
    let kubeconfig = base64(api.kubeconfig("").as_bytes());
    json!({"metadata": {"namespace": "meridian", "name": name, "annotations": annotations,
                        "labels": {"meridian.dev/cluster": "true"}},
           "data": {"kubeconfig": kubeconfig}})
}
