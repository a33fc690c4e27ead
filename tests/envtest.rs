//! The life of a cluster against real `etcd` and `kube-apiserver`, by the convention of envtest:
//! `KUBEBUILDER_ASSETS` names the directory of both programs. Without it there is nothing to test
//! against, which is said.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;

use support::PAUSE;
use support::client::Over;
use support::dns::Query;
use support::server::{Server, Until, User};

/// A real API server takes some seconds to start, and longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The token of the one user, who may do everything.
const TOKEN: &str = "envtest";

/// A key for service accounts, which nobody uses.
const KEY: &str = include_str!("support/apiserver/tls/server.key");

/// A program that is killed with its owner.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One cluster: its API server over its own store.
struct Cluster {
    assets: PathBuf,
    home: TempDir,
    etcd: u16,
    port: u16,
    server: Option<Program>,
    _store: Program,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port()
}

fn run(program: &Path, log: &Path, arguments: &[String]) -> Program {
    let log = fs::File::create(log).expect("writable");
    let errors = log.try_clone().expect("a file");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(errors);
    Program(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display())))
}

impl Cluster {
    fn start(assets: &Path) -> Self {
        let home = tempfile::tempdir().expect("room for files");
        let (etcd, peers) = (free_port(), free_port());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let store = run(
            &assets.join("etcd"),
            &home.path().join("etcd.log"),
            &[
                format!("--data-dir={}", home.path().join("etcd").display()),
                format!("--listen-client-urls={}", url(etcd)),
                format!("--advertise-client-urls={}", url(etcd)),
                format!("--listen-peer-urls={}", url(peers)),
                format!("--initial-advertise-peer-urls={}", url(peers)),
                format!("--initial-cluster=default={}", url(peers)),
                "--unsafe-no-fsync".to_owned(),
            ],
        );
        fs::write(home.path().join("key.pem"), KEY).expect("writable");
        let users = format!("{TOKEN},admin,admin,system:masters\n");
        fs::write(home.path().join("tokens.csv"), users).expect("writable");
        let mut cluster = Self {
            assets: assets.to_owned(),
            home,
            etcd,
            port: free_port(),
            server: None,
            _store: store,
        };
        cluster.restart();
        cluster
    }

    /// Starts its API server, again at the same port.
    fn restart(&mut self) {
        let file = |name: &str| self.home.path().join(name).display().to_string();
        let key = file("key.pem");
        let server = run(
            &self.assets.join("kube-apiserver"),
            Path::new(&file("apiserver.log")),
            &[
                format!("--etcd-servers=http://127.0.0.1:{}", self.etcd),
                format!("--cert-dir={}", file("certificates")),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                format!("--secure-port={}", self.port),
                format!("--token-auth-file={}", file("tokens.csv")),
                "--authorization-mode=RBAC".to_owned(),
                "--service-account-issuer=https://127.0.0.1/".to_owned(),
                format!("--service-account-key-file={key}"),
                format!("--service-account-signing-key-file={key}"),
                "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
            ],
        );
        self.server = Some(server);
    }

    fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'https://127.0.0.1:{}', \
             insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: test, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.port
        )
    }

    /// A client of an API server that is ready.
    async fn client(&self) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig()).expect("a kubeconfig");
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            let client = Client::try_from(config.expect("a config")).expect("a client");
            let services: Api<Service> = Api::default_namespaced(client.clone());
            match services.list(&Default::default()).await {
                Ok(_) => return client,
                Err(error) if Instant::now() > deadline => {
                    let log = fs::read_to_string(self.home.path().join("apiserver.log"));
                    panic!("the API server is not ready: {error}\n{}", log.unwrap_or_default());
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Creates or changes a federated service with `ip`, and a node in `region`.
    async fn publish(&self, region: &str, ip: &str) {
        let client = self.client().await;
        let labels = json!({"meridian.dev/federate": "true"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node",
            "labels": {"topology.kubernetes.io/region": region}}});
        create(&Api::<Node>::all(client.clone()), &node).await;
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "labels": labels},
            "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]}});
        let services: Api<Service> = Api::default_namespaced(client.clone());
        create(&services, &service).await;
        let mut labels = labels;
        labels["kubernetes.io/service-name"] = "web".into();
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "labels": labels}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": true}}]});
        create(&Api::<EndpointSlice>::default_namespaced(client), &slice).await;
        // No controller runs, so that we are the load balancer.
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}});
        let parameters = PatchParams::default();
        services
            .patch_status("web", &parameters, &Patch::Merge(&status))
            .await
            .expect("a status that can be written");
    }
}

/// Creates an object, unless it is there.
async fn create<K>(api: &Api<K>, object: &Value)
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let object = serde_json::from_value(object.clone()).expect("an object");
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => panic!("cannot create: {error}"),
    }
}

fn config(clusters: &[&str]) -> String {
    let cluster =
        |name: &&str| format!("  - {{name: {name}, source: {{kubeconfig: {{path: {name}}}}}}}\n");
    let clusters: String = clusters.iter().map(cluster).collect();
    format!(
        "federation:\n  name: fed\n  domain: example.com\n  \
         nameservers: [{{name: ns.example.net}}]\n\
         listen: {{dns: [$DNS], http: $HTTP}}\nstartup: {{grace: 1s}}\nshutdown: {{drain: 0s}}\n\
         health: {{grace: 1h}}\n\
         kubernetes: {{probe: {{period: 500ms}}, watchTimeout: 5s}}\nclusters:\n{clusters}"
    )
}

/// Addresses of the service's global name, in order; the code where there is none.
fn addresses(server: &Server) -> Vec<String> {
    let query = Query::new("web.default.fed.svc.example.com.", "A");
    let reply = server.client().ask(Over::Udp, &query).expect("an answer");
    let data = |record: &String| record.rsplit(' ').next().unwrap_or_default().to_owned();
    let mut answer: Vec<_> = reply.answer().iter().map(data).collect();
    answer.sort();
    answer
}

fn eventually(server: &Server, expected: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while addresses(server) != expected {
        assert!(Instant::now() < deadline, "never {expected:?}\n{}", server.log());
        thread::sleep(PAUSE);
    }
}

#[test]
fn a_cluster_joins_is_lost_returns_and_is_removed() {
    let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
        println!("skipped: KUBEBUILDER_ASSETS is not set, so there is no real kube-apiserver");
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (mut one, two) = (Cluster::start(&assets), Cluster::start(&assets));
    runtime.block_on(one.publish("eu", "192.0.2.1"));
    let directory = tempfile::tempdir().expect("room for files");
    for (name, cluster) in [("one", &one), ("two", &two)] {
        fs::write(directory.path().join(name), cluster.kubeconfig()).expect("writable");
    }
    let server = Server::start(directory, &config(&["one"]), None, User::Same, Until::Ready);
    eventually(&server, &["192.0.2.1"]);
    // Another joins.
    runtime.block_on(two.publish("us", "192.0.2.2"));
    server.configure(&config(&["one", "two"]));
    eventually(&server, &["192.0.2.1", "192.0.2.2"]);
    // One is lost: what it said is served on, and the other moves on.
    one.server = None;
    runtime.block_on(two.publish("us", "192.0.2.3"));
    eventually(&server, &["192.0.2.1", "192.0.2.3"]);
    // It returns, with news.
    one.restart();
    runtime.block_on(one.publish("eu", "192.0.2.4"));
    eventually(&server, &["192.0.2.3", "192.0.2.4"]);
    // A real API server gives the region of its node a name.
    let regional = Query::new("web.default.fed.svc.eu.example.com.", "A");
    assert_eq!(server.client().ask(Over::Udp, &regional).expect("an answer").rcode(), 0);
    // It is removed.
    server.configure(&config(&["two"]));
    eventually(&server, &["192.0.2.3"]);
}
