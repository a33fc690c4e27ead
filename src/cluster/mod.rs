//! Sources of cluster state.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::Label;

/// How one cluster is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The cluster's name.
    pub name: Label,
    /// Where its objects come from.
    pub source: Source,
    /// Which Services are federated.
    pub export: Export,
    /// Networks of addresses that may be published although they are of a kind that never is.
    pub allow_nets: Arc<[IpNet]>,
}

/// Where a cluster's objects come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A watched directory of Kubernetes YAML and JSON files.
    Manifests(PathBuf),
}

/// Which Services of a cluster are federated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// Those with the label `meridian.dev/federate: "true"`.
    Label,
    /// All.
    All,
}

/// How host names of load balancers are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolverSettings {
    /// Recursive resolvers to ask, in this order; the system's configuration where empty.
    pub upstreams: Vec<SocketAddr>,
}
