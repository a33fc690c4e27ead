//! Sources of cluster state: everything between Kubernetes objects and [`ClusterView`].
//!
//! *Owns*: one task for each cluster, which reads its source, resolves its load balancers' host
//! names, and reduces both to a view. *Guarantees*: a view is published only after the first
//! complete list, and only where it differs from the one before; it is never emptied because a
//! source broke. *Does not*: decide what is served, or join clusters; that is the publisher's.
//!
//! | part | role |
//! |---|---|
//! | `narrow` | Kubernetes objects to plain values, at the border |
//! | `state` | the pure reducer of one cluster |
//! | `manifests` | a directory as a source |
//! | `resolver` | host names of load balancers |

mod feed;
mod manifests;
mod narrow;
mod resolver;
mod state;

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::Label;

pub use feed::{Feed, Shared, Update, spawn};
pub use resolver::ResolverSettings;

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
    /// Whether it is the cluster that the instance sits in.
    pub internal: InternalAddresses,
}

/// What becomes of the addresses by which pods of a cluster reach its services: only the instance
/// that sits in the cluster has a use for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InternalAddresses {
    /// They are kept.
    Kept,
    /// They are left out, and take no memory.
    #[default]
    LeftOut,
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
