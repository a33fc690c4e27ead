//! The real binary beside API servers that misbehave on demand. For each fault: what was served
//! before is served after; then the fault ends, and what changed meanwhile is served.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use support::apiserver::http::{EARLY, EXPIRED, GOOD};
use support::apiserver::{ApiServer, Fault, Gone, Streaming};
use support::client::Over;
use support::dns::Query;
use support::kubernetes::{
    answers, ask, cluster, config, eventually, failed, federated, publish, service, slice, start,
};
use support::server::{Server, Until, User, replace};

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

/// Kubernetes 1.35 over etcd 3.4.23 does this.
#[test]
fn a_server_that_cannot_stream_lists_is_read_in_pages() {
    let api = ApiServer::start();
    api.streaming(Streaming::Incapable);
    publish(&api, "web", "192.0.2.1");
    let server = start("", &[("one", &api)], "", Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    publish(&api, "web", "192.0.2.2");
    answers(&server, "web", &["192.0.2.2"]);
    assert_eq!(server.metric("meridian_watch_failures_total"), 0.0, "nothing has failed");
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

/// A token is refused until there is another one; `put` writes into a directory what leads to it,
/// a kubeconfig among it.
fn a_token_that_expires(put: impl Fn(&ApiServer, &Path, &str)) {
    let api = ApiServer::start();
    api.token("first");
    publish(&api, "web", "192.0.2.1");
    let directory = tempfile::tempdir().expect("room for files");
    put(&api, directory.path(), "first");
    let text = config("", &cluster("one", ""), "");
    let server = Server::start(directory, &text, None, User::Same, Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    api.token("second");
    api.cut();
    failed(&server, "Service", "unauthorized");
    assert_eq!(ask(&server, "web"), ["192.0.2.1"], "what was served is served");
    publish(&api, "web", "192.0.2.2");
    put(&api, &server.path(""), "second");
    answers(&server, "web", &["192.0.2.2"]);
}

#[test]
fn a_token_that_expires_is_read_again() {
    a_token_that_expires(|api, directory, token| {
        let text = api.kubeconfig(&format!("token: {token}"));
        replace(&directory.join("one.kubeconfig"), &text);
    });
}

#[test]
fn a_token_in_a_file_is_read_again() {
    a_token_that_expires(|api, directory, token| {
        let file = directory.join("token");
        replace(&file, token);
        let text = api.kubeconfig(&format!("tokenFile: '{}'", file.display()));
        replace(&directory.join("one.kubeconfig"), &text);
    });
}

#[test]
fn a_plugin_is_asked_for_another_token() {
    a_token_that_expires(|api, directory, token| {
        let version = "client.authentication.k8s.io/v1";
        let credential = json!({"apiVersion": version, "kind": "ExecCredential",
                                "status": {"token": token}});
        let file = directory.join("credential.json");
        replace(&file, &credential.to_string());
        let text = api.kubeconfig(&format!(
            "exec: {{apiVersion: {version}, interactiveMode: Never, command: cat, args: ['{}']}}",
            file.display()
        ));
        replace(&directory.join("one.kubeconfig"), &text);
    });
}

#[test]
fn a_certificate_that_has_expired() {
    a_certificate_out_of_its_time(EXPIRED, "certificate expired");
}

#[test]
fn a_certificate_of_a_clock_that_is_ahead() {
    a_certificate_out_of_its_time(EARLY, "certificate not valid yet");
}

fn a_certificate_out_of_its_time(certificate: &str, why: &str) {
    let api = ApiServer::start_tls(GOOD);
    publish(&api, "web", "192.0.2.1");
    let server = start("", &[("one", &api)], "", Until::Ready);
    answers(&server, "web", &["192.0.2.1"]);
    api.certificate(certificate);
    api.cut();
    // Whichever watch is opened next over the connection of the probe does not notice.
    let noticed = "meridian_watch_failures_total{reason=\"unreachable\"}";
    eventually(&server, noticed, || server.metric(noticed) > 0.0);
    let told = || server.get("/state").expect("a page").body.contains(why);
    eventually(&server, "the reason", told);
    assert_eq!(ask(&server, "web"), ["192.0.2.1"], "what was served is served");
    publish(&api, "web", "192.0.2.2");
    api.certificate(GOOD);
    answers(&server, "web", &["192.0.2.2"]);
    eventually(&server, "the reason gone", || !told());
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
