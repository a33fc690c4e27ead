//! The documents, held true: what they name is there, and what is there they name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The source files below a directory, tests left out.
fn sources(directory: &str) -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.file_stem().expect("a file").to_owned();
            if name == "tests" {
                continue;
            }
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut files = Vec::new();
    walk(&root().join(directory), &mut files);
    assert!(!files.is_empty(), "no sources in {directory}");
    files.iter().map(|file| fs::read_to_string(file).expect("readable")).collect()
}

/// Every run of `part` characters behind an occurrence of `start`.
fn behind<'t>(text: &'t str, start: &str, part: fn(char) -> bool) -> BTreeSet<&'t str> {
    text.split(start)
        .skip(1)
        .map(|rest| &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())])
        .filter(|found| !found.is_empty())
        .collect()
}

/// The first cells of the table rows of a document, in their order.
fn first_cells(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
}

/// What stands between pairs of backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_readme_tells_of_every_metric() {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let readme = read("README.md");
    let told = behind(&readme, "meridian_", is_name);
    let code = sources("src/telemetry").join("\n");
    let made = behind(&code, "\"meridian_", is_name);
    assert!(made.len() > 10, "only {made:?} found in the code");
    assert_eq!(told, made, "metrics of the README (left) and of src/telemetry (right)");
}

#[test]
fn the_readme_tells_of_every_annotation() {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '-';
    let readme = read("README.md");
    let told = behind(&readme, "meridian.dev/", is_name);
    let code = sources("src/cluster/narrow").join("\n")
        + &self::read("src/cluster/home.rs")
        + &self::read("src/cluster/home/secret.rs");
    let read: BTreeSet<&str> = ["read(\"", "text(\"", "annotation(\"", "\"meridian.dev/"]
        .into_iter()
        .flat_map(|start| behind(&code, start, is_name))
        .collect();
    assert!(read.len() > 5, "only {read:?} found in the code");
    assert_eq!(told, read, "keys of the README (left) and of src/cluster/narrow (right)");
}

/// The paths of all leaves of a YAML value; items of a list are `[]`.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(value, &format!("{path}{dot}{key}"), found);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().for_each(|item| leaves(item, &format!("{path}[]"), found));
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// Whether `key` is `path` or a level above it.
fn covers(key: &str, path: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[test]
fn every_key_is_described() {
    let text = read("docs/configuration.md");
    let mut described = Vec::new();
    for cell in first_cells(&text) {
        let mut before: Option<String> = None;
        for key in quoted(cell) {
            // `.retry` stands for the neighbour of the key before it.
            let whole = match (key.strip_prefix('.'), &before) {
                (Some(last), Some(before)) => {
                    let (parent, _) = before.rsplit_once('.').expect("a key with a parent");
                    format!("{parent}.{last}")
                }
                _ => key.to_owned(),
            };
            before = Some(whole.clone());
            described.push(whole);
        }
    }
    let mut known = BTreeSet::new();
    let reference: Value =
        serde_saphyr::from_str(&read("config/reference.yaml")).expect("valid YAML");
    leaves(&reference, "", &mut known);
    assert!(known.len() > 40, "only {known:?} found in the reference");
    let missing: Vec<_> =
        known.iter().filter(|path| !described.iter().any(|key| covers(key, path))).collect();
    assert!(missing.is_empty(), "not described: {missing:?}");
    let made_up: Vec<_> =
        described.iter().filter(|key| !known.iter().any(|path| covers(key, path))).collect();
    assert!(made_up.is_empty(), "described, but not in config/reference.yaml: {made_up:?}");
}

/// `config/reference.yaml` is that of all keys only if it has those that the code reads.
#[test]
fn the_reference_has_every_key_that_is_read() {
    let reference = read("config/reference.yaml");
    let raw = read("src/config/raw.rs") + &read("src/config/raw/votes.rs");
    let fields = raw.lines().filter_map(|line| line.trim().strip_prefix("pub "));
    let names = fields.filter_map(|field| Some(field.split_once(':')?.0));
    let mut seen = 0;
    for name in names {
        let mut parts = name.split('_');
        let mut key = parts.next().unwrap_or_default().replace("rtype", "type");
        for part in parts {
            key.push_str(&part[..1].to_uppercase());
            key.push_str(&part[1..]);
        }
        let there =
            reference.contains(&format!("{key}: ")) || reference.contains(&format!("{key}:\n"));
        assert!(there, "config/reference.yaml lacks {key}");
        seen += 1;
    }
    assert!(seen > 40, "only {seen} keys found in the code");
}

#[test]
fn architecture_lists_the_modules_in_their_order() {
    let text = read("ARCHITECTURE.md");
    let told: Vec<&str> = first_cells(&text).flat_map(quoted).collect();
    let lib = read("src/lib.rs");
    let modules: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(told, modules, "modules of ARCHITECTURE.md (left) and of src/lib.rs (right)");
}

#[test]
fn links_and_named_files_are_there() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/configuration.md",
        "docs/geography.md",
        "docs/health.md",
        "docs/kubernetes.md",
        "docs/performance.md",
    ] {
        let text = read(document);
        let folder = root().join(document).parent().expect("a folder").to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let file = link.split('#').next().unwrap_or_default();
            assert!(folder.join(file).exists(), "{document} links to {link}, which is not there");
        }
        let starts = ["config/", "src/", "tests/", "docs/", "deploy/", ".ci/"];
        let files = quoted(&text)
            .flat_map(str::split_whitespace)
            .filter(|word| starts.iter().any(|start| word.starts_with(start)));
        for file in files {
            assert!(root().join(file).exists(), "{document} names {file}, which is not there");
        }
    }
}

/// The two commands of the README are those that `.ci/run` runs, or builds and starts.
#[test]
fn the_readmes_commands_are_what_ci_runs() {
    let readme = read("README.md");
    assert!(readme.contains("\ncargo run --release -- serve --config config/demo.yaml\n"));
    assert!(readme.contains("\ncargo test\n"));
    let ci = read(".ci/run");
    for command in ["cargo test ", "cargo build --release", "config/demo.yaml"] {
        assert!(ci.contains(command), ".ci/run lacks {command}");
    }
}
