//! What `meridian serve` starts from: its configuration, the database, kubeconfigs, and the last
//! known good state.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian::cluster::lastgood::{self, KnownView, LastGood};
use meridian::cluster::{ApiSource, Source};
use meridian::model::{
    Buckets, ClusterView, Endpoints, Label, Port, Ports, Protocol, ServiceKey, ShardEntry,
    ShardParts,
};

use super::mmdb::Networks;
use super::model::{
    DOMAIN, FEDERATION, PAIRS, REGIONS, Size, address, cluster, namespace, pair, pair_addresses,
    region, service, zone,
};

/// The port that every service has. UDP: shards with TCP ports would be connected to while a
/// cluster's API is lost, and no load leaves this machine.
pub(crate) const PORT: (&str, u16) = ("dns", 53);

/// The name of the database.
pub(crate) const DATABASE: &str = "city.mmdb";

/// The name of the last known good state.
pub(crate) const STATE: &str = "state";

/// Files in one directory.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) directory: PathBuf,
    pub(crate) size: Size,
    /// Whether the server takes trains of queries.
    offload: bool,
}

impl Files {
    pub(crate) fn new(directory: PathBuf, size: Size) -> Self {
        Self { directory, size, offload: false }
    }

    /// The same database in a directory within, for a server that takes trains of queries.
    pub(crate) fn with_offload(&self) -> io::Result<Self> {
        let directory = self.path("offload");
        fs::create_dir(&directory)?;
        fs::hard_link(self.path(DATABASE), directory.join(DATABASE))?;
        Ok(Self { directory, size: self.size, offload: true })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The database of places.
    pub(crate) fn write_database(&self) -> io::Result<()> {
        Networks::make().write(&self.path(DATABASE))
    }

    /// The configuration, to answer at `dns`; `apis` has the URL of each cluster's API server, which
    /// need not be there; the clusters `drained` are.
    pub(crate) fn write_config(
        &self,
        dns: SocketAddr,
        http: SocketAddr,
        apis: &[String],
        drained: &[usize],
    ) -> io::Result<PathBuf> {
        let mut text = format!(
            "federation:\n  name: {FEDERATION}\n  domain: {DOMAIN}\n  nameservers: \
             [{{name: ns1.{DOMAIN}, addresses: [127.0.0.1]}}]\n\
             listen: {{dns: [\"{dns}\"], http: \"{http}\"}}\n\
             dns: {{udpWorkers: 1, udpReceiveOffload: {}}}\n\
             geo: {{databases: [{DATABASE}]}}\n\
             kubernetes: {{watchTimeout: 1h}}\n\
             lastKnownGood: {{path: {STATE}}}\n\
             shutdown: {{drain: 0s}}\n\
             clusters:\n",
            self.offload
        );
        for at in 0..self.size.clusters {
            let (_, latitude, longitude) = REGIONS[at];
            let (name, region, zone) = (cluster(at), region(at), zone(at));
            let drain = drained.contains(&at);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "  - {{name: {name}, region: {region}, zones: [{zone}], drain: {drain}, location: \
                 {{latitude: {latitude}, longitude: {longitude}}}, \
                 source: {{kubeconfig: {{path: {name}.kubeconfig}}}}}}",
            );
            let url = &apis[at];
            let kubeconfig = format!(
                "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: \
                 {{server: '{url}'}}}}], users: [{{name: c, user: {{}}}}], contexts: [{{name: c, \
                 context: {{cluster: c, user: c}}}}]}}\n"
            );
            fs::write(self.path(&format!("{name}.kubeconfig")), kubeconfig)?;
        }
        // At one stroke, as a running server reads it.
        let path = self.path("meridian.yaml");
        fs::write(self.path("new"), text)?;
        fs::rename(self.path("new"), &path)?;
        Ok(path)
    }

    /// The last known good state with all services healthy everywhere.
    pub(crate) fn write_state(&self) -> io::Result<()> {
        let label = |text: &str| Label::parse(text).expect("a label");
        let (name, number) = PORT;
        let port = Port { name: label(name), protocol: Protocol::Udp, number };
        let ports = Ports::new([port].into(), None);
        let view = |at| {
            let shard = |addresses: &[IpAddr]| {
                let endpoints = Endpoints { ready: 2, total: 2 };
                let (addresses, ports) = (addresses.into(), ports.clone());
                ShardParts { addresses, ports, endpoints, ..ShardParts::default() }
            };
            let entry = |index: usize| {
                let key = ServiceKey::new(&label(&namespace(index)), &label(&service(index)));
                ShardEntry::new(key, shard(&[address(at, index).into()]))
            };
            let pair = |index: usize| {
                let key = ServiceKey::new(&label("pairs"), &label(&pair(index)));
                ShardEntry::new(key, shard(&pair_addresses(0).map(Into::into)))
            };
            let pairs = if at == 0 { PAIRS } else { 0 };
            let entries = (0..self.size.services).map(entry).chain((0..pairs).map(pair));
            let shards = Buckets::from_items(entries);
            let path = self.path(&format!("{}.kubeconfig", cluster(at)));
            let source = Source::Api(ApiSource::Kubeconfig { path, context: None }).identity();
            let view = Arc::new(ClusterView { shards, ..ClusterView::default() });
            KnownView { name: label(&cluster(at)), source, view }
        };
        let views = (0..self.size.clusters).map(view).collect();
        let kept = LastGood { views, ..LastGood::default() };
        lastgood::save(&self.path(STATE), &kept).map_err(io::Error::other)
    }
}

/// A URL where nobody listens.
pub(crate) const NOBODY: &str = "http://127.0.0.1:9";

/// Tells a directory that may be emptied.
const MARK: &str = ".made-by-load";

/// Makes a directory, empty. One that is there is emptied only if it was made here.
pub(crate) fn fresh(path: &Path) -> io::Result<()> {
    if path.exists() {
        if !path.join(MARK).exists() {
            let why = format!("{} is there and not ours: name another", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        fs::remove_dir_all(path)?;
    }
    fs::create_dir_all(path)?;
    fs::write(path.join(MARK), "")
}
