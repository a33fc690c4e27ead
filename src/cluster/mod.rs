//! Sources of cluster state.

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
