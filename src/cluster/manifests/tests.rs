//! Files in, events out; each look is called by hand, so nothing waits.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::cluster::Export;
use crate::cluster::state::{Changed, ClusterState};
use crate::model::{ClusterView, DomainName};

/// How long what vanishes at one stroke is kept.
const CONFIRM: Duration = Duration::from_secs(300);

/// A directory, its scanner, and the state that it feeds.
struct Directory {
    home: TempDir,
    scanner: Scanner,
    state: ClusterState,
}

impl Directory {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let apex = DomainName::parse("example.com").unwrap();
        let rules = Arc::new(Rules::new(Export::All, [].into(), apex));
        let scanner = Scanner::new(home.path().join("manifests"), rules.clone());
        fs::create_dir(home.path().join("manifests")).unwrap();
        Self { home, scanner, state: ClusterState::new(rules, CONFIRM) }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join("manifests").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Looks once.
    fn look(&mut self) -> Changed {
        let mut changed = Changed::Nothing;
        for event in self.scanner.scan() {
            if self.state.apply(event) == Changed::View {
                changed = Changed::View;
            }
        }
        changed
    }

    /// Looks until two looks have agreed on every change.
    fn settle(&mut self) -> Changed {
        let changes = [self.look(), self.look(), self.look()];
        if changes.contains(&Changed::View) { Changed::View } else { Changed::Nothing }
    }

    fn view(&self) -> Arc<ClusterView> {
        self.state.view().expect("complete")
    }

    /// The services of the view, as `name address`.
    fn services(&self) -> Vec<String> {
        let view = self.view();
        let mut services: Vec<String> = view
            .shards
            .iter()
            .map(|entry| {
                let addresses = entry.shard.addresses.iter();
                let address = addresses.map(ToString::to_string).collect::<Vec<_>>().join(",");
                format!("{} {address}", entry.key.name())
            })
            .collect();
        services.sort();
        services
    }

    /// The reports, with subjects relative to the directory.
    fn reports(&self) -> Vec<String> {
        let directory = self.path("").display().to_string();
        self.view()
            .reports
            .iter()
            .map(|report| format!("{}: {}", report.subject, report.reason).replace(&directory, ""))
            .collect()
    }
}

fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  externalIPs: [{address}]\n"
    )
}

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
    assert_eq!((web.shard.endpoints.ready, web.shard.ports[0].number), (1, 80));
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
fn edits_renames_replacements_and_deletions() {
    let mut directory = Directory::new();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.look();
    directory.write("a.yaml", &service("web", "192.0.2.2"));
    assert_eq!(directory.look(), Changed::Nothing, "it may still be written to");
    assert_eq!(directory.look(), Changed::View);
    assert_eq!(directory.services(), ["web 192.0.2.2"]);

    fs::rename(directory.path("a.yaml"), directory.path("b.yaml")).unwrap();
    assert_eq!(directory.settle(), Changed::Nothing, "the object is the same");
    assert_eq!(directory.services(), ["web 192.0.2.2"]);

    directory.write("new.tmp", &service("web", "192.0.2.3"));
    fs::rename(directory.path("new.tmp"), directory.path("b.yaml")).unwrap();
    assert_eq!(directory.settle(), Changed::View);
    assert_eq!(directory.services(), ["web 192.0.2.3"]);

    // Deleted and written anew between two looks, or seen as gone by one: it never vanishes.
    fs::remove_file(directory.path("b.yaml")).unwrap();
    assert_eq!(directory.look(), Changed::Nothing);
    directory.write("b.yaml", &service("web", "192.0.2.3"));
    assert_eq!(directory.settle(), Changed::Nothing);

    fs::remove_file(directory.path("b.yaml")).unwrap();
    assert_eq!(directory.settle(), Changed::View);
    assert!(directory.services().is_empty());
}

#[test]
fn a_file_that_is_always_being_written_is_read_in_the_end() {
    let mut directory = Directory::new();
    directory.write("a.yaml", "");
    directory.look();
    let mut looks = 0;
    let mut text = service("web", "192.0.2.1");
    while directory.services().is_empty() {
        text.push_str("# more\n");
        directory.write("a.yaml", &text);
        directory.look();
        looks += 1;
        assert!(looks <= RESTLESS_LOOKS + 1);
    }
}

#[test]
fn a_bad_file_keeps_its_last_good_content_and_touches_no_other() {
    let mut directory = Directory::new();
    directory.write("bad.yaml", "kind: Service\n  x: [\n");
    directory.write("web.yaml", &service("web", "192.0.2.1"));
    assert_eq!(directory.look(), Changed::Nothing, "it may be half written");
    assert_eq!(directory.look(), Changed::View, "it holds nothing else up");
    assert_eq!(directory.services(), ["web 192.0.2.1"]);
    let reports = directory.reports();
    assert!(reports.len() == 1 && reports[0].starts_with("bad.yaml:2: "), "{reports:?}");
    assert!(reports[0].ends_with("nothing of this file is in force"), "{reports:?}");

    let wrong_type = format!(
        "{}---\n{}  ports:\n  - port: http\n",
        service("api", "192.0.2.5"),
        service("web", "192.0.2.9")
    );
    directory.write("web.yaml", &wrong_type);
    directory.write("other.yaml", &service("other", "192.0.2.2"));
    fs::remove_file(directory.path("bad.yaml")).unwrap();
    directory.settle();
    assert_eq!(directory.services(), ["other 192.0.2.2", "web 192.0.2.1"]);
    let reports = directory.reports();
    assert_eq!(reports.len(), 1);
    assert!(reports[0].starts_with("web.yaml:8: Service web: spec.ports[0].port: "), "{reports:?}");
    assert!(reports[0].ends_with("its last good content stays in force"), "{reports:?}");

    directory.write("web.yaml", &service("web", "192.0.2.9"));
    directory.settle();
    assert_eq!(directory.services(), ["other 192.0.2.2", "web 192.0.2.9"]);
    assert!(directory.reports().is_empty());
}

#[test]
fn a_file_that_is_half_written_at_the_start_is_waited_for() {
    let mut directory = Directory::new();
    directory.write("a.yaml", "apiVersion: v1\nitems:\n");
    directory.write("b.yaml", &service("api", "192.0.2.2"));
    assert_eq!(directory.look(), Changed::Nothing);
    assert!(directory.state.view().is_none(), "absence is not known yet");
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    assert_eq!(directory.look(), Changed::View);
    assert_eq!(directory.services(), ["api 192.0.2.2", "web 192.0.2.1"]);
    assert!(directory.reports().is_empty());

    let mut directory = Directory::new();
    directory.write("b.yaml", &service("api", "192.0.2.2"));
    let mut text = String::from("{");
    for look in 0.. {
        assert!(look <= RESTLESS_LOOKS, "not for ever");
        text.push(' ');
        directory.write("a.yaml", &text);
        if directory.look() == Changed::View {
            break;
        }
    }
    assert_eq!(directory.services(), ["api 192.0.2.2"]);
}

#[test]
fn a_file_that_is_cut_short_keeps_its_objects_until_it_is_deleted() {
    let mut directory = Directory::new();
    let item = "- apiVersion: v1\n  kind: Service\n  metadata: {name: NAME}\n  spec: \
                {externalIPs: [192.0.2.1]}\n";
    let items = format!("apiVersion: v1\nitems:\n{}", item.replace("NAME", "web"));
    let whole = format!("{items}{}kind: List\n", item.replace("NAME", "api"));
    directory.write("objects.yaml", &whole);
    directory.write("empty.yaml", "");
    directory.look();
    let both = ["api 192.0.2.1", "web 192.0.2.1"];
    assert_eq!(directory.services(), both);
    assert!(directory.reports().is_empty(), "a file that never held anything may be empty");

    for text in ["", "# nothing yet\n", &items, &whole[..whole.len() - 3]] {
        directory.write("objects.yaml", text);
        directory.settle();
        assert_eq!(directory.services(), both, "{text:?}");
        let reports = directory.reports();
        assert_eq!(reports.len(), 1, "{text:?}: {reports:?}");
        let told = if text.contains("items") { "is the file cut short?" } else { "is empty" };
        assert!(reports[0].contains(told), "{text:?}: {reports:?}");
        assert!(reports[0].contains("its last good content stays in force"), "{reports:?}");
    }
    directory.write("objects.yaml", &whole);
    directory.settle();
    assert!(directory.reports().is_empty());
    directory.write("objects.yaml", "");
    directory.settle();
    fs::remove_file(directory.path("objects.yaml")).unwrap();
    directory.settle();
    assert!(directory.reports().is_empty(), "gone with its fault");
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
fn the_later_of_two_files_wins_and_the_earlier_comes_to_light_again() {
    let mut directory = Directory::new();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.write("b.yaml", &service("web", "192.0.2.2"));
    directory.look();
    assert_eq!(directory.services(), ["web 192.0.2.2"]);
    let reports = directory.reports();
    assert!(reports.len() == 1 && reports[0].starts_with("a.yaml:1: Service web"), "{reports:?}");
    assert!(reports[0].contains("b.yaml"), "{reports:?}");
    directory.write("a.yaml", &service("web", "192.0.2.3"));
    directory.settle();
    assert_eq!(directory.services(), ["web 192.0.2.2"]);
    fs::remove_file(directory.path("b.yaml")).unwrap();
    directory.settle();
    assert_eq!(directory.services(), ["web 192.0.2.3"]);
    assert!(directory.reports().is_empty());
    let twice = format!("{}---\n{}", service("web", "192.0.2.4"), service("web", "192.0.2.5"));
    directory.write("a.yaml", &twice);
    directory.settle();
    assert_eq!(directory.services(), ["web 192.0.2.5"]);
    let expected = "a.yaml:1: Service web stands again in line 8; the later one is in force";
    assert_eq!(directory.reports(), [expected]);
}

#[test]
fn a_config_map_mount_is_swapped_as_a_whole() {
    let mut directory = Directory::new();
    let publish = |directory: &Directory, version: &str, files: &[(&str, String)]| {
        fs::create_dir(directory.path(version)).unwrap();
        for (name, text) in files {
            fs::write(directory.path(version).join(name), text).unwrap();
            let link = directory.path(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        symlink(version, directory.path("..data_tmp")).unwrap();
        fs::rename(directory.path("..data_tmp"), directory.path("..data")).unwrap();
    };
    publish(&directory, "..1", &[("a.yaml", service("web", "192.0.2.1"))]);
    directory.look();
    assert_eq!(directory.services(), ["web 192.0.2.1"]);
    let files = [("a.yaml", service("web", "192.0.2.2")), ("b.yaml", service("api", "192.0.2.3"))];
    publish(&directory, "..2", &files);
    fs::remove_dir_all(directory.path("..1")).unwrap();
    directory.settle();
    assert_eq!(directory.services(), ["api 192.0.2.3", "web 192.0.2.2"]);
    assert!(directory.reports().is_empty());
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

#[test]
fn a_file_that_cannot_be_read_is_reported_and_touches_no_other() {
    let mut directory = Directory::new();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.write("b.yaml", &service("api", "192.0.2.2"));
    directory.look();
    fs::remove_file(directory.path("a.yaml")).unwrap();
    symlink("a.yaml", directory.path("a.yaml")).unwrap();
    directory.write("b.yaml", &service("api", "192.0.2.3"));
    directory.settle();
    assert_eq!(directory.services(), ["api 192.0.2.3", "web 192.0.2.1"]);
    let reports = directory.reports();
    assert!(reports.len() == 1 && reports[0].starts_with("a.yaml: cannot be read"), "{reports:?}");
    fs::remove_file(directory.path("a.yaml")).unwrap();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.settle();
    assert!(directory.reports().is_empty());
}

#[test]
fn a_directory_that_is_gone_keeps_everything() {
    let mut directory = Directory::new();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.look();
    let moved = directory.home.path().join("moved");
    fs::rename(directory.path(""), &moved).unwrap();
    assert_eq!(directory.settle(), Changed::View, "it is reported");
    assert_eq!(directory.services(), ["web 192.0.2.1"]);
    assert!(directory.reports()[0].contains("cannot be read"), "{:?}", directory.reports());
    fs::rename(moved, directory.path("")).unwrap();
    directory.settle();
    assert_eq!(directory.services(), ["web 192.0.2.1"]);
    assert!(directory.reports().is_empty());
}

#[test]
fn content_that_changes_without_its_metadata_is_seen() {
    let mut directory = Directory::new();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.look();
    directory.write("a.yaml", &service("web", "192.0.2.2"));
    // As if the file system's clock had not ticked between the two.
    let listing = file::list(&directory.path("")).unwrap();
    for (name, stamp) in &listing {
        directory.scanner.files.get_mut(name).unwrap().pretend_stamp(stamp);
    }
    assert_eq!(directory.look(), Changed::View);
    assert_eq!(directory.services(), ["web 192.0.2.2"]);
}
