//! What files hold.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn reads_what_kubectl_writes() {
    let mut directory = Directory::new();
    directory.write(
        "all.yaml",
        r#"
apiVersion: v1
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: ns}
  spec:
    type: LoadBalancer
    ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP}]
  status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}
- addressType: IPv4
  apiVersion: discovery.k8s.io/v1
  endpoints:
  - addresses: [10.0.0.1]
    conditions: {ready: true, serving: true, terminating: false}
    targetRef: {kind: Pod, name: web-0, namespace: ns, uid: "1"}
  kind: EndpointSlice
  metadata:
    labels: {kubernetes.io/service-name: web}
    name: web-abc
    namespace: ns
  ports: [{name: http, port: 8080, protocol: TCP}]
- {apiVersion: v1, kind: Secret, metadata: {name: x}, data: {kind: Service}}
kind: List
metadata: {resourceVersion: ""}
---
---
apiVersion: v1
kind: Node
metadata:
  name: n1
  labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: a}
spec: {podCIDRs: [10.1.0.0/24]}
"#,
    );
    directory.write(
        "more.json",
        "{\n\t\"kind\": \"ServiceList\", \"apiVersion\": \"v1\", \"items\": [\n\t\t{\"metadata\": \
         {\"name\": \"api\", \"namespace\": \"ns\"},\n\t\t\"spec\": {\"externalIPs\": \
         [\"192.0.2.2\"]}}\n\t]\n}\n",
    );
    directory.write("other.yml", &service("other", "192.0.2.3"));
    directory.write("knative.yaml", "apiVersion: serving.knative.dev/v1\nkind: Service\nspec: 7\n");
    directory.write("empty.json", r#"{"kind": "NodeList", "apiVersion": "v1", "items": null}"#);
    assert_eq!(directory.look(), Changed::View);
    assert_eq!(directory.reports(), <[&str; 0]>::default());
    assert_eq!(directory.services(), ["api 192.0.2.2", "other 192.0.2.3", "web 192.0.2.1"]);
    let view = directory.view();
    let web = view.shards.iter().find(|entry| entry.key.name() == "web").unwrap();
    assert_eq!((web.shard.endpoints.ready, web.shard.ports.named()[0].number), (1, 80));
    assert_eq!(view.topologies.first().unwrap().to_string(), "a.r");
    assert_eq!(view.pod_networks.len(), 1);
    assert_eq!(directory.settle(), Changed::Nothing);
}

#[test]
fn an_empty_directory_is_an_empty_view_and_none_is_no_view() {
    let mut directory = Directory::new();
    let path = directory.path("");
    fs::remove_dir(&path).unwrap();
    assert_eq!(directory.settle(), Changed::Nothing);
    assert!(directory.state.view().is_none());
    fs::create_dir(&path).unwrap();
    assert_eq!(directory.look(), Changed::View);
    assert!(directory.view().shards.is_empty() && directory.view().reports.is_empty());
}

#[test]
fn only_true_and_false_are_booleans() {
    let mut directory = Directory::new();
    let text = "kind: Service\napiVersion: v1\nmetadata:\n  name: web\n  namespace: no\n  \
                labels: {app: on, x: y, yes: off}\nspec: {publishNotReadyAddresses: true, \
                externalIPs: [192.0.2.1]}\n";
    directory.write("a.yaml", text);
    directory.settle();
    assert_eq!(directory.reports(), <[&str; 0]>::default());
    let view = directory.view();
    let keys: Vec<String> = view.shards.iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(keys, ["no/web"]);
}

#[test]
fn faults_say_where() {
    let rules = Rules::new(Export::All, [].into(), DomainName::parse("example.com").unwrap());
    let fault = |bytes: &[u8]| parse::parse(bytes, &rules).expect_err("a fault");
    for (text, line, word) in [
        (&b"a: 1\nb: \xff\n"[..], 2, "UTF-8"),
        (b"just text\n", 1, "expected mapping"),
        (b"---\napiVersion: v1\nmetadata: {name: x}\n", 2, "no kind"),
        (b"apiVersion: v1\nkind: Node\nmetadata: {}\n", 1, "metadata.name"),
        (b"{\"kind\": \"List\",\n\"items\": [\n{\"kind\": \"Service\"]}", 3, ""),
        (b"a: 1\na: 2\n", 2, "a"),
    ] {
        let fault = fault(text);
        let text = String::from_utf8_lossy(text);
        assert_eq!(fault.line, Some(line), "{text}: {fault:?}");
        assert!(fault.reason.contains(word) && !fault.reason.contains('\n'), "{text}: {fault:?}");
    }
}

#[test]
fn what_is_no_manifest_is_ignored() {
    let mut directory = Directory::new();
    let text = service("web", "192.0.2.1");
    for name in [".a.yaml", ".a.yaml.swp", "a.yaml~", "#a.yaml#", "a.yaml.bak", "README.md"] {
        directory.write(name, &text);
    }
    fs::create_dir(directory.path("dir.yaml")).unwrap();
    fs::write(directory.path("dir.yaml").join("a.yaml"), &text).unwrap();
    symlink("nowhere", directory.path("dangling.yaml")).unwrap();
    directory.look();
    assert!(directory.services().is_empty() && directory.reports().is_empty());
}
