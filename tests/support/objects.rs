//! Scenarios over API servers: what would lie in the files of a cluster lies in its API server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::apiserver::ApiServer;
use super::files::{Files, lay_out};
use super::kubernetes;
use super::manifests::{Content, text_of};
use super::player::Backing;
use super::scenario::{FileChange, Scenario};
use super::server::{Until, User, replace};

/// Who asks an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// One who may read all.
    Known,
    /// One whose token is refused.
    Unknown,
}

/// An API server that can hold the objects of a scenario.
pub(crate) trait Cluster {
    /// A kubeconfig for it.
    fn kubeconfig(&self, who: Who) -> String;

    /// Makes or replaces an object, its status included.
    fn put(&mut self, object: &Value);

    /// Removes an object.
    fn delete(&mut self, object: &Value);

    /// Takes it down.
    fn stop(&mut self);

    /// Brings it up again, with all its objects.
    fn restart(&mut self);
}

/// Kind, namespace and name.
pub(crate) type Key = [String; 3];

/// Which object it is.
pub(crate) fn key(object: &Value) -> Key {
    let paths = ["/kind", "/metadata/namespace", "/metadata/name"];
    paths.map(|path| text_of(object, path).to_owned())
}

/// The plural of a kind that tests have.
pub(crate) fn plural(object: &Value) -> &'static str {
    match text_of(object, "/kind") {
        "ConfigMap" => "configmaps",
        "CustomResourceDefinition" => "customresourcedefinitions",
        "EndpointSlice" => "endpointslices",
        "Namespace" => "namespaces",
        "Node" => "nodes",
        "Secret" => "secrets",
        "Service" => "services",
        "ServiceExport" => "serviceexports",
        kind => panic!("no test has had a {kind} before"),
    }
}

const TOKEN: &str = "known";

impl Cluster for ApiServer {
    fn kubeconfig(&self, who: Who) -> String {
        self.token(TOKEN);
        let token = if who == Who::Known { TOKEN } else { "unknown" };
        Self::kubeconfig(self, &format!("token: {token}"))
    }

    fn put(&mut self, object: &Value) {
        Self::put(self, plural(object), object.clone());
    }

    fn delete(&mut self, object: &Value) {
        let text = |path| text_of(object, path);
        Self::delete(self, plural(object), text("/metadata/namespace"), text("/metadata/name"));
    }

    fn stop(&mut self) {
        Self::stop(self);
    }

    fn restart(&mut self) {
        Self::restart(self);
    }
}

/// API servers that hold what the files of a scenario say.
pub(crate) struct Objects<C> {
    clusters: BTreeMap<String, Held<C>>,
}

/// One API server and what it is to hold.
struct Held<C> {
    api: C,
    files: BTreeMap<String, Content>,
    there: BTreeMap<Key, Value>,
}

impl<C: Cluster> Objects<C> {
    /// One of `apis`, which are empty, for each cluster of the scenario.
    pub(crate) fn new(scenario: &Scenario, apis: Vec<C>) -> Self {
        let held = |(name, api): (&String, C)| {
            let files = scenario.files[name].clone();
            (name.clone(), Held { api, files, there: BTreeMap::new() })
        };
        Self { clusters: scenario.clusters().zip(apis).map(held).collect() }
    }

    /// The cluster that `path` is a file of, and the file.
    fn file<'p>(&mut self, path: &'p str) -> Option<(&mut Held<C>, &'p str)> {
        let (directory, file) = path.split_once('/')?;
        self.clusters.get_mut(directory).map(|held| (held, file))
    }

    /// Takes over those of `files` that are of clusters; gives the others.
    fn take(&mut self, files: &BTreeMap<String, Content>) -> BTreeMap<String, Content> {
        let mut others = BTreeMap::new();
        for (path, content) in files {
            match self.file(path) {
                Some((held, file)) => drop(held.files.insert(file.to_owned(), content.clone())),
                None => drop(others.insert(path.clone(), content.clone())),
            }
        }
        others
    }

    fn rename(&mut self, old: &str, new: &str) {
        match (self.clusters.contains_key(old), self.clusters.get_mut(new)) {
            // Its source is lost, and returns.
            (true, None) => self.clusters.get_mut(old).expect("it is there").api.stop(),
            (false, Some(held)) => held.api.restart(),
            _ => panic!("{old} to {new}: only files have this, say `onlyFiles`"),
        }
    }
}

impl<C: Cluster> Held<C> {
    /// Puts into the API server what the files say, and only that.
    fn bring(&mut self) {
        let objects = self.files.values().flat_map(Content::objects);
        let wanted: BTreeMap<_, Value> = objects.map(|object| (key(&object), object)).collect();
        for (_, object) in self.there.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
            self.api.delete(object);
        }
        for (_, object) in wanted.iter().filter(|(key, new)| self.there.get(*key) != Some(*new)) {
            self.api.put(object);
        }
        self.there = wanted;
    }
}

impl<C: Cluster> Backing for Objects<C> {
    const PATIENCE: Duration = kubernetes::PATIENCE;
    const PIECEMEAL: bool = true;

    fn config(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for name in self.clusters.keys() {
            let source = format!("{{kubeconfig: {{path: {name}.kubeconfig}}}}");
            text = text.replace(&format!("{{manifests: {name}}}"), &source);
        }
        // What is lost is noticed at once, and nobody outside is asked whether it is there.
        let more = [
            "health: {grace: 1h, checks: {mode: off}}\n",
            "kubernetes: {probe: {period: 200ms, timeout: 2s}, watchTimeout: 5s}\n",
        ];
        for line in more {
            let key = line.split_inclusive(':').next().expect("a key");
            if !text.lines().any(|line| line.starts_with(key)) {
                text += line;
            }
        }
        text
    }

    fn begin(&mut self, directory: &Path, scenario: &Scenario) -> (User, Until) {
        let mut others = scenario.files.clone();
        others.retain(|name, _| !self.clusters.contains_key(name));
        lay_out(directory, &others);
        for (name, held) in &mut self.clusters {
            held.bring();
            let known = !scenario.unreadable.contains(name);
            let who = if known { Who::Known } else { Who::Unknown };
            fs::write(kubeconfig(directory, name), held.api.kubeconfig(who)).expect("writable");
        }
        let until = if scenario.unreadable.is_empty() { Until::Ready } else { Until::Up };
        (User::Same, until)
    }

    fn change(&mut self, directory: &Path, change: &FileChange) {
        match change {
            FileChange::Write(files) => {
                let others = self.take(files);
                Files.change(directory, &FileChange::Write(others));
            }
            FileChange::Replace(files) => {
                let others = self.take(files);
                Files.change(directory, &FileChange::Replace(others));
            }
            FileChange::Delete(names) => {
                for name in names {
                    let Some((held, file)) = self.file(name) else {
                        panic!("{name}: only files of clusters are deleted beside API servers");
                    };
                    held.files.remove(file).expect("a file that is there");
                }
            }
            FileChange::Rename(names) => {
                names.iter().for_each(|(old, new)| self.rename(old, new));
                return;
            }
            FileChange::Allow(names) => {
                for name in names {
                    let text = self.clusters[name].api.kubeconfig(Who::Known);
                    replace(&kubeconfig(directory, name), &text);
                }
            }
            FileChange::ConfigMap(_) => panic!("only files have this, say `onlyFiles`"),
        }
        self.clusters.values_mut().for_each(Held::bring);
    }
}

fn kubeconfig(directory: &Path, name: &str) -> std::path::PathBuf {
    directory.join(format!("{name}.kubeconfig"))
}
