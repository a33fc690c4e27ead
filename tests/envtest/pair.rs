//! A real API server over its own real store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::PAUSE;
use crate::support::manifests::text_of;
use crate::support::objects::{Cluster, Key, Who, key, plural};

/// An API server takes some ten seconds to start, several at once and on a loaded machine far more.
const PATIENCE: Duration = Duration::from_secs(240);

/// The token of the one user, who may do everything.
const TOKEN: &str = "envtest";

/// Keys for service accounts, which nobody uses.
const KEYS: [(&str, &str); 2] = [
    ("private.pem", include_str!("../support/apiserver/tls/server.key")),
    ("public.pem", include_str!("../support/apiserver/tls/server.pub")),
];

/// Who the objects are from.
const MANAGER: &str = "envtest";

/// A program that is killed with its owner.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &Path, log: &Path, arguments: &[String]) -> Program {
    let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("writable");
    let errors = log.try_clone().expect("a file");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(errors);
    Program(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display())))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port()
}

/// One cluster as far as it is an API.
pub(crate) struct Pair {
    assets: PathBuf,
    home: TempDir,
    etcd: u16,
    port: u16,
    server: Option<Program>,
    _store: Program,
    runtime: Arc<Runtime>,
    client: Client,
    /// The version of ServiceExport that it knows.
    exports: &'static str,
    namespaces: BTreeSet<String>,
    /// What was put and not deleted.
    there: BTreeMap<Key, Value>,
}

impl Pair {
    /// Starts one from the programs in `assets`, which is not waited for.
    pub(crate) fn start(assets: &Path, runtime: Arc<Runtime>, exports: &'static str) -> Self {
        let home = tempfile::tempdir().expect("room for files");
        let (etcd, peers, port) = (free_port(), free_port(), free_port());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let arguments = [
            format!("--data-dir={}", home.path().join("etcd").display()),
            format!("--listen-client-urls={}", url(etcd)),
            format!("--advertise-client-urls={}", url(etcd)),
            format!("--listen-peer-urls={}", url(peers)),
            format!("--initial-advertise-peer-urls={}", url(peers)),
            format!("--initial-cluster=default={}", url(peers)),
            "--unsafe-no-fsync".to_owned(),
        ];
        let store = run(&assets.join("etcd"), &home.path().join("etcd.log"), &arguments);
        for (name, key) in KEYS {
            fs::write(home.path().join(name), key).expect("writable");
        }
        let users = format!("{TOKEN},admin,admin,system:masters\n");
        fs::write(home.path().join("tokens.csv"), users).expect("writable");
        let client = runtime.block_on(client(&kubeconfig(port, TOKEN)));
        let mut pair = Self {
            assets: assets.to_owned(),
            home,
            etcd,
            port,
            server: None,
            _store: store,
            runtime,
            client,
            exports,
            namespaces: BTreeSet::new(),
            there: BTreeMap::new(),
        };
        pair.begin();
        pair
    }

    /// Starts its API server, again at the same port.
    fn begin(&mut self) {
        let file = |name: &str| self.home.path().join(name).display().to_string();
        let arguments = [
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd),
            format!("--cert-dir={}", file("certificates")),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            // It would publish its address, which is of loopback, and be refused every ten seconds.
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://127.0.0.1/".to_owned(),
            format!("--service-account-key-file={}", file("public.pem")),
            format!("--service-account-signing-key-file={}", file("private.pem")),
            // Those of the scenarios.
            "--service-cluster-ip-range=10.96.0.0/12,fd00::/108".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ];
        let log = self.home.path().join("apiserver.log");
        self.server = Some(run(&self.assets.join("kube-apiserver"), &log, &arguments));
    }

    /// Waits until it serves ServiceExports, whose definition it is given, and all else.
    pub(crate) fn ready(&mut self) {
        self.until("it is ready", |pair| pair.get("/readyz"));
        let version = json!({"name": self.exports, "served": true, "storage": true,
            "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
        let names = json!({"kind": "ServiceExport", "listKind": "ServiceExportList",
                           "singular": "serviceexport", "plural": "serviceexports"});
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("serviceexports.{EXPORTS}")},
            "spec": {"group": EXPORTS, "scope": "Namespaced", "names": names,
                     "versions": [version]}});
        self.apply(&definition);
        let list = format!("/apis/{EXPORTS}/{}/serviceexports", self.exports);
        self.until("it knows ServiceExports", |pair| pair.get(&list));
    }

    /// Makes it run and empty of what was put, for another test.
    pub(crate) fn clear(&mut self) {
        if self.server.is_none() {
            self.restart();
        }
        let there: Vec<Value> = self.there.values().cloned().collect();
        there.iter().for_each(|object| self.delete(object));
    }

    /// All objects of a kind in a namespace.
    pub(crate) fn objects(&self, kind: &ApiResource, namespace: &str) -> Vec<Value> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, kind);
        let list = self.runtime.block_on(api.list(&ListParams::default())).expect("a list");
        list.iter().map(|object| serde_json::to_value(object).expect("plain values")).collect()
    }

    /// Whether it answers well.
    fn get(&self, path: &str) -> Result<(), String> {
        let request = http::Request::get(path).body(Vec::new()).expect("a request");
        let text = self.runtime.block_on(self.client.request_text(request));
        text.map(drop).map_err(|error| error.to_string())
    }

    fn until(&mut self, what: &str, check: impl Fn(&Self) -> Result<(), String>) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(why) = check(self) {
            let server = self.server.as_mut().expect("it was started");
            let ended = server.0.try_wait().expect("a child");
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.home.path().join("apiserver.log"));
                let log = log.unwrap_or_default();
                panic!("not seen: {what}: {why}, {ended:?}\n{log}");
            }
            thread::sleep(PAUSE);
        }
    }

    /// How objects of the kind of `object` are asked for here.
    fn api(&self, object: &Value) -> (ApiResource, Api<DynamicObject>) {
        let (group, version) = text_of(object, "/apiVersion").split_once('/').unwrap_or(("", "v1"));
        let version = if group == EXPORTS { self.exports } else { version };
        let kind = GroupVersionKind::gvk(group, version, text_of(object, "/kind"));
        let kind = ApiResource::from_gvk_with_plural(&kind, plural(object));
        let client = self.client.clone();
        let api = match text_of(object, "/metadata/namespace") {
            "" => Api::all_with(client, &kind),
            namespace => Api::namespaced_with(client, namespace, &kind),
        };
        (kind, api)
    }

    /// Server-side apply, and of the status where there is one: no controller runs, so that we are
    /// the load balancers.
    fn apply(&self, object: &Value) {
        let (kind, api) = self.api(object);
        let name = text_of(object, "/metadata/name");
        let parameters = PatchParams::apply(MANAGER).force();
        let mut object = object.clone();
        prune(&mut object);
        object["apiVersion"] = kind.api_version.clone().into();
        let status = object.as_object_mut().and_then(|object| object.remove("status"));
        let written = self.runtime.block_on(async {
            api.patch(name, &parameters, &Patch::Apply(&object)).await?;
            if let Some(status) = status {
                let status = json!({"apiVersion": kind.api_version, "kind": kind.kind,
                                    "metadata": {"name": name}, "status": status});
                api.patch_status(name, &parameters, &Patch::Apply(&status)).await?;
            }
            Ok::<(), kube::Error>(())
        });
        written.unwrap_or_else(|error| panic!("refused: {error}\n{object:#}"));
    }
}

/// The group of ServiceExport.
const EXPORTS: &str = "multicluster.x-k8s.io";

/// Leaves out what says nothing, which an API server may take for a wish; but not the endpoints,
/// which have to be there.
fn prune(value: &mut Value) {
    let Value::Object(map) = value else { return };
    map.values_mut().for_each(prune);
    map.retain(|key, value| {
        let empty = value.as_array().is_some_and(Vec::is_empty) && key != "endpoints";
        !(empty || value.is_null())
    });
}

fn kubeconfig(port: u16, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: 'https://127.0.0.1:{port}', \
         insecure-skip-tls-verify: true}}}}]\n\
         users: [{{name: test, user: {{token: {token}}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n"
    )
}

async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a config")).expect("a client")
}

impl Cluster for Pair {
    fn kubeconfig(&self, who: Who) -> String {
        kubeconfig(self.port, if who == Who::Known { TOKEN } else { "unknown" })
    }

    fn put(&mut self, object: &Value) {
        let namespace = text_of(object, "/metadata/namespace");
        if !namespace.is_empty() && self.namespaces.insert(namespace.to_owned()) {
            self.apply(&json!({"apiVersion": "v1", "kind": "Namespace",
                               "metadata": {"name": namespace}}));
        }
        self.there.insert(key(object), object.clone());
        self.apply(object);
    }

    fn delete(&mut self, object: &Value) {
        let (_, api) = self.api(object);
        let name = text_of(object, "/metadata/name");
        match self.runtime.block_on(api.delete(name, &DeleteParams::default())) {
            Ok(_) => {}
            // It was not made, because it was refused.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("cannot delete: {error}\n{object:#}"),
        }
        self.there.remove(&key(object));
    }

    fn stop(&mut self) {
        self.server = None;
    }

    fn restart(&mut self) {
        self.begin();
        self.until("it is back", |pair| pair.get("/readyz"));
    }
}

/// What a scenario is given for a while.
impl Cluster for &mut Pair {
    fn kubeconfig(&self, who: Who) -> String {
        (**self).kubeconfig(who)
    }

    fn put(&mut self, object: &Value) {
        (**self).put(object);
    }

    fn delete(&mut self, object: &Value) {
        (**self).delete(object);
    }

    fn stop(&mut self) {
        (**self).stop();
    }

    fn restart(&mut self) {
        (**self).restart();
    }
}
