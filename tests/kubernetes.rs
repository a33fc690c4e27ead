//! The real binary beside API servers that misbehave on demand. For each fault: what was served
//! before is served after; then the fault ends, and what changed meanwhile is served.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

use std::fs;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use support::PAUSE;
use support::apiserver::http::{EXPIRED, GOOD, base64};
use support::apiserver::{ApiServer, Fault, Gone, Streaming};
use support::client::Over;
use support::dns::Query;
use support::server::{Server, Until, User, replace};

/// How long recovery may take: pauses between attempts grow to half a minute.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// `source` of a cluster whose kubeconfig is the file `NAME.kubeconfig`.
fn cluster(name: &str, more: &str) -> String {
    format!(
        "  - {{name: {name}, region: {name}, source: {{kubeconfig: {{path: {name}.kubeconfig}}}}\
         {more}}}\n"
    )
}

/// A configuration with `federation` put into that section and these clusters.
fn config(federation: &str, clusters: &str, rest: &str) -> String {
    format!(
        "federation:\n  name: fed\n  domain: example.com\n  \
         nameservers: [{{name: ns.example.net}}]\n{federation}\
         listen: {{dns: [$DNS], http: $HTTP}}\n\
         startup: {{grace: 1s}}\n\
         shutdown: {{drain: 0s}}\n\
         health: {{grace: 1h}}\n\
         kubernetes: {{probe: {{period: 200ms, timeout: 2s}}, watchTimeout: 2s}}\n\
         clusters:{}\n{clusters}{rest}",
        if clusters.is_empty() { " []" } else { "" }
    )
}

/// A server over clusters `name`, each with its API server and user.
fn start(federation: &str, clusters: &[(&str, &ApiServer)], rest: &str, until: Until) -> Server {
    let directory = tempfile::tempdir().expect("room for files");
    for (name, api) in clusters {
        let path = directory.path().join(format!("{name}.kubeconfig"));
        fs::write(path, api.kubeconfig("")).expect("writable");
    }
    let text: String = clusters.iter().map(|(name, _)| cluster(name, "")).collect();
    Server::start(directory, &config(federation, &text, rest), None, User::Same, until)
}

fn federated() -> Value {
    json!({"meridian.dev/federate": "true"})
}

/// A Service of a load balancer with `ip`.
fn service(name: &str, ip: &str, labels: Value) -> Value {
    json!({"metadata": {"namespace": "default", "name": name, "labels": labels},
           "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]},
           "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}})
}

/// Its EndpointSlice with one ready endpoint.
fn slice(name: &str, mut labels: Value) -> Value {
    labels["kubernetes.io/service-name"] = name.into();
    json!({"metadata": {"namespace": "default", "name": format!("{name}-1"), "labels": labels},
           "addressType": "IPv4",
           "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]})
}

/// Puts a federated service.
fn publish(api: &ApiServer, name: &str, ip: &str) {
    api.put("services", service(name, ip, federated()));
    api.put("endpointslices", slice(name, federated()));
}

/// The data of the answer for the global name of `name`, or its code.
fn ask(server: &Server, name: &str) -> Vec<String> {
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
fn eventually(server: &Server, what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        let state = || server.get("/state").map(|page| page.body);
        assert!(Instant::now() < deadline, "not seen: {what}\n{:?}\n{}", state(), server.log());
        thread::sleep(PAUSE);
    }
}

fn answers(server: &Server, name: &str, expected: &[&str]) {
    eventually(server, &format!("{name} is {expected:?}"), || ask(server, name) == expected);
}

/// Waits until failures of a kind for `reason` have been counted.
fn failed(server: &Server, kind: &str, reason: &str) {
    let series = format!("meridian_watch_failures_total{{kind=\"{kind}\",reason=\"{reason}\"}}");
    eventually(server, &series, || server.metric(&series) > 0.0);
}

/// One cluster with one service, faulted by `fault` until `noticed`, then healed.
fn through_a_fault(fault: impl Fn(&ApiServer), noticed: impl Fn(&Server, &ApiServer)) {
    let api = ApiServer::start();
    publish(&api, "web", "192.0.2.1");
    let server = start("", &[("one", &api)], "", Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    fault(&api);
    noticed(&server, &api);
    assert_eq!(ask(&server, "web"), ["192.0.2.1"], "what was served is served");
    publish(&api, "web", "192.0.2.2");
    api.heal();
    answers(&server, "web", &["192.0.2.2"]);
}

/// All requests fail with `code` until it has been told apart as `reason`.
fn through_a_status(code: u16, retry_after: Option<u32>, reason: &str) {
    let fault = |api: &ApiServer| {
        api.fault("services", Fault::Status(code, retry_after));
        api.cut();
    };
    through_a_fault(fault, |server, _| {
        failed(server, "Service", reason);
        let subject = "watch of Service";
        eventually(server, "a report of it", || {
            let state = server.get("/state").expect("a page").body;
            state.contains(subject) && state.contains(reason)
        });
    });
}

#[test]
fn forbidden() {
    through_a_status(403, None, "forbidden");
}

#[test]
fn missing() {
    through_a_status(404, None, "missing");
}

#[test]
fn server_error() {
    through_a_status(500, None, "server_error");
}

#[test]
fn throttled() {
    through_a_status(429, Some(1), "throttled");
}

#[test]
fn expired_as_an_event() {
    through_a_fault(
        |api| api.forget(Gone::Event),
        |server, _| failed(server, "Service", "expired"),
    );
}

#[test]
fn expired_as_a_status() {
    through_a_fault(
        |api| api.forget(Gone::Status),
        |server, _| failed(server, "Service", "expired"),
    );
}

#[test]
fn expired_in_the_midst_of_pages() {
    let fault = |api: &ApiServer| {
        api.streaming(Streaming::Refused);
        api.fault("services", Fault::Status(410, None));
        api.forget(Gone::Status);
    };
    through_a_fault(fault, |server, _| failed(server, "Service", "expired"));
}

/// Counts requests for the watch of Services.
fn watches(api: &ApiServer) -> usize {
    let is = |request: &&String| request.contains("/services?") && request.contains("watch=true");
    api.requests().iter().filter(is).count()
}

#[test]
fn dropped_streams() {
    let fault = |api: &ApiServer| {
        api.fault("services", Fault::Drop);
        api.cut();
    };
    through_a_fault(fault, |server, api| {
        let before = watches(api);
        eventually(server, "the watch opened again and again", || watches(api) >= before + 3);
    });
}

#[test]
fn stalled_streams() {
    // Bytes cease, the connection stays: only the watch's own time-out tells.
    let fault = |api: &ApiServer| api.fault("services", Fault::Stall);
    through_a_fault(fault, |server, api| {
        let before = watches(api);
        eventually(server, "the stalled watch opened anew", || watches(api) > before);
    });
}

#[test]
fn half_a_streamed_list() {
    half_a_list(Streaming::Supported);
}

#[test]
fn half_a_list_in_pages() {
    half_a_list(Streaming::Refused);
}

fn half_a_list(streaming: Streaming) {
    let api = ApiServer::start();
    api.streaming(streaming);
    for n in 1..=8 {
        publish(&api, &format!("web{n}"), &format!("192.0.2.{n}"));
    }
    let server = start("", &[("one", &api)], "", Until::Ready);
    answers(&server, "web8", &["192.0.2.8"]);
    api.fault("services", Fault::Half);
    api.delete("services", "default", "web1");
    api.forget(Gone::Event);
    failed(&server, "Service", "unreachable");
    for n in 2..=8 {
        assert_eq!(ask(&server, &format!("web{n}")), [format!("192.0.2.{n}")], "web{n} is kept");
    }
    api.heal();
    answers(&server, "web1", &["rcode 3"]);
    assert_eq!(ask(&server, "web8"), ["192.0.2.8"]);
}

#[test]
fn an_object_that_cannot_be_read_is_skipped_and_named() {
    let api = ApiServer::start();
    publish(&api, "web", "192.0.2.1");
    publish(&api, "other", "192.0.2.7");
    let server = start("", &[("one", &api)], "", Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    let mut broken = service("web", "192.0.2.2", federated());
    broken["spec"]["ports"] = "eighty".into();
    api.put("services", broken);
    publish(&api, "other", "192.0.2.8");
    answers(&server, "other", &["192.0.2.8"]);
    assert_eq!(ask(&server, "web"), ["192.0.2.1"], "its last good state");
    let named = || {
        let state = server.get("/state").expect("a page").body;
        state.contains("Service default/web") && state.contains("cannot be read")
    };
    eventually(&server, "a report that names it", named);
    assert!(server.metric("meridian_undecodable_objects_total{kind=\"Service\"}") >= 1.0);
    // In a list too, where it could be taken for gone.
    api.forget(Gone::Event);
    publish(&api, "other", "192.0.2.9");
    answers(&server, "other", &["192.0.2.9"]);
    assert_eq!(ask(&server, "web"), ["192.0.2.1"], "its last good state");
    publish(&api, "web", "192.0.2.3");
    answers(&server, "web", &["192.0.2.3"]);
    eventually(&server, "the report gone", || !named());
}

#[test]
fn both_watches_select_by_label() {
    for streaming in [Streaming::Supported, Streaming::Refused] {
        let api = ApiServer::start();
        api.streaming(streaming);
        publish(&api, "web", "192.0.2.1");
        api.put("services", service("private", "192.0.2.2", json!({})));
        api.put("endpointslices", slice("private", json!({})));
        let server = start("", &[("one", &api)], "", Until::Ready);
        answers(&server, "web", &["192.0.2.1"]);
        assert_eq!(ask(&server, "private"), ["rcode 3"]);
        let requests = api.requests();
        for plural in ["services", "endpointslices"] {
            let path = format!("/{plural}?");
            let of_kind: Vec<_> = requests.iter().filter(|r| r.contains(&path)).collect();
            assert!(!of_kind.is_empty());
            for request in of_kind {
                assert!(
                    request.contains("labelSelector=meridian.dev%2Ffederate%3Dtrue"),
                    "{request}"
                );
            }
        }
        let paged = requests.iter().any(|r| r.contains("/services?") && r.contains("limit=500"));
        assert_eq!(paged, streaming == Streaming::Refused, "lists in pages only where needed");
        // A Service that loses its label leaves the selection.
        api.put("services", service("web", "192.0.2.1", json!({})));
        answers(&server, "web", &["rcode 3"]);
    }
}

#[test]
fn a_server_that_knows_no_streamed_lists_is_read_in_pages() {
    let api = ApiServer::start();
    api.streaming(Streaming::Unknown);
    publish(&api, "web", "192.0.2.1");
    let server = start("", &[("one", &api)], "", Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    publish(&api, "web", "192.0.2.2");
    answers(&server, "web", &["192.0.2.2"]);
}

#[test]
fn a_token_that_expires_is_read_again() {
    let api = ApiServer::start();
    api.token("first");
    publish(&api, "web", "192.0.2.1");
    let directory = tempfile::tempdir().expect("room for files");
    let path = directory.path().join("one.kubeconfig");
    fs::write(&path, api.kubeconfig("token: first")).expect("writable");
    let text = config("", &cluster("one", ""), "");
    let server = Server::start(directory, &text, None, User::Same, Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    api.token("second");
    api.cut();
    failed(&server, "Service", "unauthorized");
    assert_eq!(ask(&server, "web"), ["192.0.2.1"], "what was served is served");
    publish(&api, "web", "192.0.2.2");
    replace(&path, &api.kubeconfig("token: second"));
    answers(&server, "web", &["192.0.2.2"]);
}

#[test]
fn a_certificate_out_of_its_time() {
    let api = ApiServer::start_tls(GOOD);
    publish(&api, "web", "192.0.2.1");
    let server = start("", &[("one", &api)], "", Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    api.certificate(EXPIRED);
    api.cut();
    // Whichever watch is opened next over the connection of the probe does not notice.
    let noticed = "meridian_watch_failures_total{reason=\"unreachable\"}";
    eventually(&server, noticed, || server.metric(noticed) > 0.0);
    eventually(&server, "the reason", || {
        server.get("/state").expect("a page").body.to_lowercase().contains("certificate")
    });
    assert_eq!(ask(&server, "web"), ["192.0.2.1"], "what was served is served");
    publish(&api, "web", "192.0.2.2");
    api.certificate(GOOD);
    answers(&server, "web", &["192.0.2.2"]);
}

#[test]
fn an_api_server_that_is_lost_harms_nobody() {
    let (mut one, two) = (ApiServer::start(), ApiServer::start());
    publish(&one, "web", "192.0.2.1");
    publish(&one, "only", "192.0.2.5");
    publish(&two, "web", "192.0.2.2");
    let server = start("", &[("one", &one), ("two", &two)], "", Until::Ready);
    let both = || {
        let mut answer = ask(&server, "web");
        answer.sort();
        answer
    };
    eventually(&server, "both shards", || both() == ["192.0.2.1", "192.0.2.2"]);
    one.stop();
    failed(&server, "Service", "unreachable");
    assert_eq!(both(), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(ask(&server, "only"), ["192.0.2.5"]);
    publish(&two, "web", "192.0.2.3");
    eventually(&server, "the other moves on", || both() == ["192.0.2.1", "192.0.2.3"]);
    publish(&one, "web", "192.0.2.9");
    one.restart();
    eventually(&server, "it is back", || both() == ["192.0.2.3", "192.0.2.9"]);
}

fn export(name: &str) -> Value {
    json!({"metadata": {"namespace": "default", "name": name}})
}

#[test]
fn service_exports_before_and_after_their_services() {
    for version in ["v1beta1", "v1alpha1"] {
        let api = ApiServer::start();
        api.exports(Some(version));
        let plain = |name: &str, ip: &str| {
            api.put("services", service(name, ip, json!({})));
            api.put("endpointslices", slice(name, json!({})));
        };
        plain("after", "192.0.2.1");
        api.put("serviceexports", export("before"));
        let server = start("  export: serviceExport\n", &[("one", &api)], "", Until::Ready);
        answers(&server, "after", &["rcode 3"]);
        eventually(&server, "a report of an export without a service", || {
            server.get("/state").expect("a page").body.contains("ServiceExport default/before")
        });
        api.put("serviceexports", export("after"));
        answers(&server, "after", &["192.0.2.1"]);
        plain("before", "192.0.2.2");
        answers(&server, "before", &["192.0.2.2"]);
        plain("after", "192.0.2.3");
        answers(&server, "after", &["192.0.2.3"]);
        api.delete("serviceexports", "default", "after");
        answers(&server, "after", &["rcode 3"]);
        assert_eq!(ask(&server, "before"), ["192.0.2.2"]);
        // The kind goes, and with it only the means to change anything.
        api.exports(None);
        api.forget(Gone::Status);
        failed(&server, "ServiceExport", "missing");
        assert_eq!(ask(&server, "before"), ["192.0.2.2"]);
    }
}

#[test]
fn without_the_kind_nothing_is_exported_until_it_comes() {
    let api = ApiServer::start();
    api.exports(None);
    api.put("services", service("web", "192.0.2.1", json!({})));
    api.put("endpointslices", slice("web", json!({})));
    let server = start("  export: serviceExport\n", &[("one", &api)], "", Until::Ready);
    answers(&server, "web", &["rcode 3"]);
    api.put("serviceexports", export("web"));
    api.exports(Some("v1beta1"));
    answers(&server, "web", &["192.0.2.1"]);
}

#[test]
fn a_cluster_exports_from_its_namespaces_alone() {
    let api = ApiServer::start();
    publish(&api, "web", "192.0.2.1");
    let mut own = service("web", "10.0.0.1", federated());
    own["metadata"]["namespace"] = "team".into();
    own["status"]["loadBalancer"]["ingress"] = json!([{"ip": "10.0.0.1"}, {"ip": "192.0.2.2"}]);
    let mut endpoints = slice("web", federated());
    endpoints["metadata"]["namespace"] = "team".into();
    api.put("services", own);
    api.put("endpointslices", endpoints);
    let directory = tempfile::tempdir().expect("room for files");
    fs::write(directory.path().join("one.kubeconfig"), api.kubeconfig("")).expect("writable");
    let cluster = cluster("one", ", namespaces: [team], addresses: public");
    let text = config("", &cluster, "");
    let server = Server::start(directory, &text, None, User::Same, Until::Ready);
    let team = || {
        let query = Query::new("web.team.fed.svc.example.com.", "A");
        server.client().ask(Over::Udp, &query).expect("an answer").answer()
    };
    eventually(&server, "the team's service", || team().len() == 1);
    assert!(team()[0].ends_with("192.0.2.2"), "the private address is not published");
    assert_eq!(ask(&server, "web"), ["rcode 3"], "the namespace is not the cluster's");
    let state = server.get("/state").expect("a page").body;
    assert!(state.contains("namespace default is not among"), "{state}");
    assert!(state.contains("RFC 1918"), "{state}");
}

/// A Secret that registers `api`.
fn secret(name: &str, api: &ApiServer, annotations: Value) -> Value {
    let kubeconfig = base64(api.kubeconfig("").as_bytes());
    json!({"metadata": {"namespace": "meridian", "name": name, "annotations": annotations,
                        "labels": {"meridian.dev/cluster": "true"}},
           "data": {"kubeconfig": kubeconfig}})
}

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
