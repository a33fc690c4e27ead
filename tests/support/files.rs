//! Scenarios over directories of manifests.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use super::PATIENCE;
use super::manifests::Content;
use super::player::Backing;
use super::scenario::{FileChange, Scenario};
use super::server::{Until, User, replace};

/// The files as they stand in the scenario.
pub(crate) struct Files;

impl Backing for Files {
    const PATIENCE: Duration = PATIENCE;
    const PIECEMEAL: bool = false;

    fn config(&self, text: &str) -> String {
        text.to_owned()
    }

    fn begin(&mut self, directory: &Path, scenario: &Scenario) -> (User, Until) {
        lay_out(directory, &scenario.files);
        for name in &scenario.unreadable {
            set_mode(&directory.join(name), 0o000);
        }
        if scenario.unreadable.is_empty() {
            (User::Same, Until::Ready)
        } else {
            (User::Unprivileged, Until::Up)
        }
    }

    fn change(&mut self, directory: &Path, change: &FileChange) {
        let path = |relative: &str| directory.join(relative);
        match change {
            FileChange::Write(files) => {
                for (name, content) in files {
                    fs::write(path(name), content.text()).expect("writable");
                }
            }
            FileChange::Replace(files) => {
                files.iter().for_each(|(name, content)| replace(&path(name), &content.text()));
            }
            FileChange::Rename(names) => {
                for (old, new) in names {
                    fs::rename(path(old), path(new)).expect("renamed");
                }
            }
            FileChange::Delete(names) => {
                for path in names.iter().map(|name| path(name)) {
                    let is_directory = path.is_dir();
                    let remove = if is_directory { fs::remove_dir_all } else { fs::remove_file };
                    remove(&path).expect("deleted");
                }
            }
            FileChange::ConfigMap(directories) => {
                directories.iter().for_each(|(name, files)| swap_config_map(&path(name), files));
            }
            FileChange::Allow(names) => names.iter().for_each(|name| set_mode(&path(name), 0o755)),
        }
    }
}

/// Writes files into directories.
pub(super) fn lay_out(directory: &Path, files: &BTreeMap<String, BTreeMap<String, Content>>) {
    for (name, files) in files {
        let path = directory.join(name);
        fs::create_dir_all(&path).expect("a new directory");
        for (file, content) in files {
            fs::write(path.join(file), content.text()).expect("writable");
        }
    }
}

/// Puts files into a directory as Kubernetes mounts a ConfigMap: in a directory of their own, which
/// the link `..data` names, with a link beside it for each file; one rename changes them all.
fn swap_config_map(directory: &Path, files: &BTreeMap<String, Content>) {
    let number = fs::read_dir(directory).expect("a directory").count();
    let generation = format!("..generation_{number}");
    fs::create_dir(directory.join(&generation)).expect("a new directory");
    for (name, content) in files {
        fs::write(directory.join(&generation).join(name), content.text()).expect("writable");
    }
    symlink(&generation, directory.join("..data_tmp")).expect("a new link");
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).expect("renamed");
    for name in files.keys() {
        let link = directory.join(name);
        if !link.is_symlink() {
            symlink(format!("..data/{name}"), link).expect("a new link");
        }
    }
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let stale = entry.path().is_symlink() && !entry.path().exists();
        if stale {
            fs::remove_file(entry.path()).expect("ours");
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}
