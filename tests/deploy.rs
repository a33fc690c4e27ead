//! What `deploy/` holds, held true: that it can be read, fits together, and asks for no more than
//! the server needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian::config::Config;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn documents(file: &str, text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{file}: {error}\n{text}"))
}

fn manifests(file: &str) -> Vec<Value> {
    documents(file, &text(file))
}

fn manifest(file: &str) -> Value {
    manifests(file).into_iter().next().unwrap_or_else(|| panic!("{file} is empty"))
}

/// The files below a directory of `deploy`, relative to `deploy`.
fn files(directory: &str) -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(directory), &mut found);
    let relative = |path: PathBuf| path.strip_prefix(root()).expect("below").display().to_string();
    let mut found: Vec<_> = found.into_iter().map(relative).collect();
    found.sort();
    found
}

/// A template as YAML: its control lines are dropped, so that every branch is there, and what it
/// inserts is `x`. (Real Helm is not needed to see whether rules and contexts are right.)
fn skeleton(template: &str) -> Vec<Value> {
    let source = text(template);
    let mut plain = String::new();
    for line in source.lines().filter(|line| !line.trim_start().starts_with("{{")) {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("{{") {
            plain.push_str(before);
            plain.push('x');
            rest = after.split_once("}}").unwrap_or_else(|| panic!("{template}: {line}")).1;
        }
        plain.push_str(rest);
        plain.push('\n');
    }
    documents(template, &plain)
}

#[test]
fn every_manifest_is_an_object_that_a_kustomization_names() {
    let all = files("kustomize");
    assert!(all.len() > 15, "only {all:?} found");
    for file in &all {
        for object in manifests(file) {
            let said = |key: &str| object[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(said("apiVersion") && said("kind"), "{file}: {object}");
        }
        let (directory, name) = file.rsplit_once('/').expect("in a directory");
        if directory == "kustomize/register" {
            // A template, for people to fill in.
            continue;
        }
        let kustomization = manifest(&format!("{directory}/kustomization.yaml"));
        let resources = kustomization["resources"].as_array().expect("a list");
        let named = resources.iter().any(|resource| resource == name);
        assert!(named || name == "kustomization.yaml", "{directory} leaves {name} out");
        for resource in resources {
            let path = root().join(directory).join(resource.as_str().expect("a path"));
            assert!(path.exists(), "{directory} names {resource}, which is not there");
        }
    }
}

/// The configurations that are shipped, and where their pods' settings are.
fn configurations() -> [(String, Value); 2] {
    let map = manifest("kustomize/home/configmap.yaml");
    let plain = map["data"]["meridian.yaml"].as_str().expect("the file").to_owned();
    let deployment = manifest("kustomize/home/deployment.yaml");
    let values = manifest("helm/meridian/values.yaml");
    let config = serde_saphyr::to_string(&values["config"]).expect("plain values");
    let template = json!({"spec": {"template": {"spec": {
        "terminationGracePeriodSeconds": values["terminationGracePeriodSeconds"],
        "containers": [{"ports": [
            {"name": "dns", "containerPort": values["containerPorts"]["dns"]},
            {"name": "dns-tcp", "containerPort": values["containerPorts"]["dns"]},
            {"name": "http", "containerPort": values["containerPorts"]["http"]},
        ]}],
    }}}});
    [(plain, deployment), (config, template)]
}

#[test]
fn the_configurations_are_valid_and_fit_their_pods() {
    // Files are looked for where the pods have them.
    let state = tempfile::tempdir().expect("a directory");
    for (text, workload) in configurations() {
        let text = text.replace("/var/lib/meridian", &state.path().display().to_string());
        let config = Config::parse(&text, &root(), "meridian.yaml")
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(config.warnings, [], "{text}");
        assert_eq!(config.federation.ttl, 30);
        let kept = config.publisher.last_known_good.expect("kept");
        assert_eq!(kept.parent(), Some(state.path()));
        assert!(config.home.is_some() && config.federation.internal.is_some());
        let pod = &workload["spec"]["template"]["spec"];
        let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a number");
        // Connections are closed within seconds of the drain period's end.
        assert!(config.server.drain + Duration::from_secs(5) <= Duration::from_secs(grace));
        let ports: BTreeMap<&str, u64> = pod["containers"][0]["ports"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|p| (p["name"].as_str().expect("named"), p["containerPort"].as_u64().unwrap()))
            .collect();
        for address in &config.server.dns {
            assert_eq!((ports["dns"], ports["dns-tcp"]), (address.port().into(), ports["dns"]));
            assert!(address.ip().is_unspecified() && address.port() >= 1024, "{address}");
        }
        let http = config.server.http.expect("probes need it");
        assert_eq!(ports["http"], u64::from(http.port()));
        assert!(http.ip().is_unspecified(), "{http}");
    }
}

#[test]
fn pods_run_without_privileges_and_are_probed() {
    let plain = manifest("kustomize/home/deployment.yaml");
    let chart = skeleton("helm/meridian/templates/workload.yaml").remove(0);
    for workload in [&plain, &chart] {
        let pod = &workload["spec"]["template"]["spec"];
        let context = json!({
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        assert_eq!(pod["securityContext"], context);
        let [container] = &pod["containers"].as_array().expect("a list")[..] else {
            panic!("not one container")
        };
        let context = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(container["securityContext"], context);
        let probe = |name: &str| container[name]["httpGet"]["path"].as_str();
        assert_eq!(
            (probe("livenessProbe"), probe("readinessProbe")),
            (Some("/livez"), Some("/readyz"))
        );
        assert!(pod.get("hostNetwork").is_none());
        let mounts = &container["volumeMounts"];
        assert_eq!(
            (&mounts[0]["readOnly"], &mounts[1]["mountPath"]),
            (&json!(true), &json!("/var/lib/meridian"))
        );
    }
    assert_eq!(plain["spec"]["replicas"], 2);
    assert_eq!(manifest("helm/meridian/values.yaml")["replicas"], 2);
    let budget = manifest("kustomize/home/poddisruptionbudget.yaml");
    assert_eq!(budget["spec"]["minAvailable"], 1);
    assert_eq!(budget["spec"]["selector"], plain["spec"]["selector"]);
    // The image's user is the pod's.
    let dockerfile = fs::read_to_string(root().join("../Dockerfile")).expect("readable");
    assert!(dockerfile.contains("\nUSER 65532:65532\n"));
}

/// The image is built from `src` alone, so cargo must not be told of targets that stand elsewhere.
#[test]
fn the_image_is_built_without_what_it_does_not_copy() {
    let read = |name: &str| fs::read_to_string(root().join("..").join(name)).expect("readable");
    let (dockerfile, cargo) = (read("Dockerfile"), read("Cargo.toml"));
    let cut = dockerfile.lines().find(|line| line.contains("sed -i")).expect("it cuts some out");
    let kinds: Vec<_> = cargo.lines().filter_map(|line| line.strip_prefix("[[")).collect();
    assert!(!kinds.is_empty());
    for kind in kinds {
        let kind = kind.trim_end_matches("]]");
        assert!(cut.contains(kind), "the Dockerfile leaves [[{kind}]] in");
    }
}

#[test]
fn services_lead_port_53_to_the_pods_and_keep_source_addresses() {
    let plain = manifest("kustomize/home/service.yaml");
    let chart = skeleton("helm/meridian/templates/service.yaml").remove(0);
    let ports = json!([
        {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "targetPort": "dns-tcp", "protocol": "TCP"},
    ]);
    assert_eq!(plain["spec"]["ports"], ports);
    assert_eq!(chart["spec"]["ports"], ports);
    assert_eq!(plain["spec"]["externalTrafficPolicy"], "Local");
    let values = manifest("helm/meridian/values.yaml");
    assert_eq!(values["service"]["externalTrafficPolicy"], "Local");
    let deployment = manifest("kustomize/home/deployment.yaml");
    let selected = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(plain["spec"]["selector"], *selected);
}

/// `group/resource: verbs` of the rules of a role.
fn rules(role: &Value) -> BTreeSet<String> {
    let words = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.map(|item| item.as_str().expect("a text").to_owned()).collect()
    };
    let mut found = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        let verbs = words(&rule["verbs"]).join(" ");
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                found.insert(format!("{group}/{resource}: {verbs}"));
            }
        }
        for path in words(&rule["nonResourceURLs"]) {
            found.insert(format!("{path}: {verbs}"));
        }
    }
    found
}

#[test]
fn the_roles_are_those_of_the_documents_and_of_what_is_watched() {
    let member = rules(&manifest("kustomize/role/clusterrole.yaml"));
    let home = rules(&manifest("kustomize/home/role.yaml"));
    let read = "get list watch";
    let expected = [
        format!("/nodes: {read}"),
        format!("/services: {read}"),
        format!("discovery.k8s.io/endpointslices: {read}"),
        format!("multicluster.x-k8s.io/serviceexports: {read}"),
        "/readyz: get".to_owned(),
    ];
    assert_eq!(member, BTreeSet::from(expected));
    let expected = [
        format!("/secrets: {read}"),
        "/configmaps: list watch create patch delete".to_owned(),
        "events.k8s.io/events: create".to_owned(),
    ];
    assert_eq!(home, BTreeSet::from(expected));
    // Of the votes of others a member's account reads what is in their namespace.
    let ballots = rules(&manifests("kustomize/member/ballots.yaml")[0]);
    assert_eq!(ballots, BTreeSet::from(["/configmaps: list watch".to_owned()]));

    // What is watched, by the resources that the source tells apart.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cluster/kube/observe.rs");
    let source = fs::read_to_string(source).expect("readable");
    let code = source.split("#[cfg(test)]").next().expect("code");
    let arm =
        |line: &str| Some(line.split_once("\" => Some(Kind::")?.0.split_once('"')?.1.to_owned());
    let watched: BTreeSet<String> = code.lines().filter_map(arm).collect();
    let allowed = member.iter().chain(&home).filter_map(|rule| {
        let (resource, verbs) = rule.split_once(": ")?;
        let kind = resource.rsplit_once('/').map_or(resource, |(_, kind)| kind);
        verbs.contains("list watch").then(|| kind.to_owned())
    });
    assert_eq!(allowed.collect::<BTreeSet<_>>(), watched, "roles (left) and src/cluster/kube");

    // The chart has the same.
    assert_eq!(rules(&skeleton("helm/meridian/templates/clusterrole.yaml")[0]), member);
    assert_eq!(rules(&skeleton("helm/meridian/templates/role.yaml")[0]), home);
    assert_eq!(rules(&skeleton("helm/meridian/templates/ballots.yaml")[0]), ballots);
}

/// Ballots are looked for in the namespace that the configuration says, and the chart may be
/// installed in any.
#[test]
fn the_chart_says_its_namespace() {
    let template = text("helm/meridian/templates/configmap.yaml");
    assert!(template.contains(r#"set $config.home "namespace" .Release.Namespace"#));
    assert!(template.contains("if not $config.home.namespace"), "what is given stays");
    assert!(template.contains("{{- toYaml $config |") && template.contains("deepCopy"));
    // The manifests are for the namespace that is the default.
    let kustomization = manifest("kustomize/home/kustomization.yaml");
    assert_eq!(kustomization["namespace"], "meridian");
}

/// The Secret that people fill in says what the code reads.
#[test]
fn the_template_of_a_registration_is_one() {
    let secret = manifest("kustomize/register/cluster.yaml");
    assert_eq!(secret["metadata"]["labels"], json!({"meridian.dev/cluster": "true"}));
    let kubeconfig = secret["stringData"]["kubeconfig"].as_str().expect("a file");
    let kubeconfig = kube::config::Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
    assert_eq!(kubeconfig.current_context.as_deref(), Some("member"));
    let code = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cluster/home/secret.rs");
    let code = fs::read_to_string(code).expect("readable");
    for key in secret["metadata"]["annotations"].as_object().expect("some").keys() {
        let key = key.strip_prefix("meridian.dev/").expect("ours");
        assert!(code.contains(&format!("annotation(\"{key}\")")), "nobody reads {key}");
    }
}

/// The paths of all keys of values, and whether a schema lists each; below an object of no stated
/// keys everything goes.
fn unlisted(values: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    let Some(values) = values.as_object() else { return };
    let Some(properties) = schema["properties"].as_object() else {
        assert_ne!(schema["additionalProperties"], false, "{path} takes no key");
        return;
    };
    for (key, value) in values {
        let path = format!("{path}.{key}");
        match properties.get(key) {
            Some(schema) => unlisted(value, schema, &path, found),
            None => found.push(path),
        }
    }
}

#[test]
fn the_schema_lists_every_value() {
    let schema: Value =
        serde_json::from_str(&text("helm/meridian/values.schema.json")).expect("valid JSON");
    let values = manifest("helm/meridian/values.yaml");
    assert_eq!(schema["additionalProperties"], false, "a misspelt key must be refused");
    let mut missing = Vec::new();
    unlisted(&values, &schema, "", &mut missing);
    assert!(missing.is_empty(), "not in values.schema.json: {missing:?}");
    let known: BTreeSet<&String> = schema["properties"].as_object().expect("keys").keys().collect();
    // helm adds `global` itself.
    let gone: Vec<_> =
        known.into_iter().filter(|key| *key != "global" && values.get(key).is_none()).collect();
    assert!(gone.is_empty(), "in values.schema.json only: {gone:?}");
}

#[test]
fn templates_use_every_value_and_no_other() {
    let values = manifest("helm/meridian/values.yaml");
    let mut used = BTreeSet::new();
    let mut defined = BTreeSet::new();
    let mut included = BTreeSet::new();
    for file in files("helm/meridian/templates") {
        let text = text(&file);
        let actions: Vec<&str> =
            text.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0)).collect();
        assert_eq!(actions.len(), text.matches("{{").count(), "{file}: an open action");
        assert_eq!(actions.len(), text.matches("}}").count(), "{file}: a stray end");
        let words = actions.iter().map(|action| action.trim_matches(['-', ' ']));
        let opened = |word: &str| {
            ["if ", "with ", "define ", "range "].iter().any(|open| word.starts_with(open))
        };
        let opens = words.clone().filter(|word| opened(word)).count();
        assert_eq!(opens, words.filter(|word| *word == "end").count(), "{file}: blocks");
        let path = |c: char| !(c.is_alphanumeric() || c == '.');
        for rest in text.split(".Values.").skip(1) {
            used.insert(rest.split(path).next().expect("a path").to_owned());
        }
        let quoted = |start: &str| -> BTreeSet<String> {
            let rest = text.split(start).skip(1);
            rest.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
        };
        defined.extend(quoted("define \""));
        included.extend(quoted("include \""));
    }
    assert_eq!(included, defined);
    for path in &used {
        let pointer = format!("/{}", path.replace('.', "/"));
        assert!(values.pointer(&pointer).is_some(), "values.yaml lacks {path}");
    }
    // A value is used if it, or the object that it belongs to, is.
    let mut unused = Vec::new();
    for (key, value) in values.as_object().expect("keys") {
        if used.contains(key) {
            continue;
        }
        let inner = value.as_object().unwrap_or_else(|| panic!("nobody uses {key}"));
        let paths = inner.keys().map(|inner| format!("{key}.{inner}"));
        unused.extend(paths.filter(|path| !used.contains(path)));
    }
    assert!(unused.is_empty(), "nobody uses {unused:?}");
}

/// The chart tells the version that it installs.
#[test]
fn the_chart_has_the_programs_version() {
    let chart = manifest("helm/meridian/Chart.yaml");
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let kustomization = manifest("kustomize/home/kustomization.yaml");
    assert_eq!(kustomization["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
}
