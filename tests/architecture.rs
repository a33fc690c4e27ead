//! The structure of ARCHITECTURE.md, held: a module imports only from rows above its own, and
//! every source file belongs to the module tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the top row down; each may use those before it. `main` and its commands come last
/// and may use all.
const ROWS: [&str; 14] = [
    "model",
    "wire",
    "zone",
    "health",
    "geo",
    "snapshot",
    "answer",
    "explain",
    "telemetry",
    "tasks",
    "cluster",
    "publisher",
    "server",
    "config",
];

fn sources() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The row of a file, by the first part of its path under `src`.
fn row(path: &Path) -> Option<usize> {
    let relative = path.strip_prefix(root()).expect("below src");
    let first = relative.components().next().expect("a file").as_os_str().to_string_lossy();
    ROWS.iter().position(|module| *module == first.trim_end_matches(".rs"))
}

/// The modules of this crate that a file's code names, with the numbers of the lines. A group such
/// as `use crate::{geo::Atlas, zone}` names each of its items.
fn used(code: &str) -> Vec<(usize, String)> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        let line = code[..at].lines().count().max(1);
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push((line, word(rest)));
            continue;
        };
        // Items of the group itself stand at depth 0.
        let (mut depth, mut item) = (0, String::new());
        for c in group.chars() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push((line, word(&std::mem::take(&mut item)))),
                c => item.push(c),
            }
        }
        found.push((line, word(&item)));
    }
    found
}

/// A file's text without line comments, line by line as before.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("readable");
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn grouped_imports_are_seen() {
    let code = "use crate::wire;\nuse crate::{geo::{self, Atlas}, zone,\n    server};";
    let names: Vec<_> = used(code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["wire", "geo", "zone", "server"]);
}

#[test]
fn modules_import_only_from_rows_above() {
    let mut upward = Vec::new();
    let mut seen = BTreeSet::new();
    for path in sources() {
        let Some(own) = row(&path) else { continue };
        seen.insert(own);
        for (line, module) in used(&code(&path)) {
            if ROWS.iter().position(|m| *m == module).is_some_and(|other| other > own) {
                upward.push(format!("{}:{line}: {module}", path.display()));
            }
        }
    }
    assert_eq!(seen.len(), ROWS.len(), "a row without files: has a module been renamed?");
    assert!(upward.is_empty(), "upward imports:\n{}", upward.join("\n"));
}

#[test]
fn no_file_is_orphaned() {
    let mut declared = BTreeSet::from([root().join("lib.rs"), root().join("main.rs")]);
    let mut queue: Vec<PathBuf> = declared.iter().cloned().collect();
    while let Some(path) = queue.pop() {
        let stem = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let own_directory = matches!(stem.as_str(), "mod" | "lib" | "main");
        let parent = path.parent().expect("below src");
        let directory = if own_directory { parent.to_owned() } else { parent.join(&stem) };
        for line in fs::read_to_string(&path).expect("readable").lines() {
            let line = line.trim_start();
            let bare =
                line.strip_prefix("pub(super) ").or_else(|| line.strip_prefix("pub(crate) "));
            let bare = bare.or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
            let Some(name) = bare.strip_prefix("mod ").and_then(|m| m.strip_suffix(';')) else {
                continue;
            };
            let file = directory.join(format!("{name}.rs"));
            let folder = directory.join(name).join("mod.rs");
            let found = if file.exists() { file } else { folder };
            if declared.insert(found.clone()) {
                queue.push(found);
            }
        }
    }
    let orphans: Vec<_> = sources().into_iter().filter(|p| !declared.contains(p)).collect();
    assert!(orphans.is_empty(), "files in no module: {orphans:?}");
}

#[test]
fn files_stay_short_enough_to_read() {
    // The bound of CONTRIBUTING.md, tests and comments not counted.
    const MAX_LINES: usize = 400;
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs"))
        .filter_map(|path| {
            let text = fs::read_to_string(&path).expect("readable");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let count = code
                .lines()
                .map(str::trim_start)
                .filter(|line| !line.is_empty() && !line.starts_with("//"))
                .count();
            (count > MAX_LINES).then(|| format!("{}: {count}", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "longer than {MAX_LINES} lines of code:\n{}", long.join("\n"));
}
