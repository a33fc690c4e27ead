//! Sources of cluster state: everything between Kubernetes objects and
//! [`ClusterView`](crate::model::ClusterView).
//!
//! *Owns*: one task for each cluster, which reads its source, resolves its load balancers' host
//! names, and reduces both to a view. *Guarantees*: a view is published only after the first
//! complete list, and only where it differs from the one before; it is never emptied because a
//! source broke. *Does not*: decide what is served, or join clusters; that is the publisher's.
//!
//! | part | role |
//! |---|---|
//! | `narrow` | Kubernetes objects to plain values, at the border |
//! | `lastgood` | views and registrations on disk, for a start while no source answers |
//! | `state` | the pure reducer of one cluster |
//! | `manifests` | a directory as a source |
//! | `kube` | an API server as a source |
//! | `ballots` | what instances see failing, through the API servers |
//! | `home` | clusters registered by Secrets of the home cluster |
//! | `resolver` | host names of load balancers |
//! | `link` | how a source is reached, for those who judge it |

mod ballots;
mod feed;
pub mod home;
mod kube;
pub mod lastgood;
pub mod link;
mod manifests;
mod narrow;
mod resolver;
mod state;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::Label;

pub use ballots::Office;
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
    /// Which namespaces it may export.
    pub namespaces: Namespaces,
    /// Which addresses are published.
    pub addresses: AddressScope,
    /// Networks of addresses that may be published although they are of a kind that never is.
    pub allow_nets: Arc<[IpNet]>,
    /// How API servers are asked.
    pub api: ApiSettings,
    /// How long shards that vanish at one stroke with most others are kept until that counts.
    pub confirm: Duration,
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
    /// Its API server.
    Api(ApiSource),
    /// Nowhere yet: it was registered in an earlier run, and its credentials come with the home
    /// cluster. The text is what [`Self::identity`] wrote then.
    Awaited(Box<str>),
}

/// How an API server is reached.
#[derive(Clone, PartialEq)]
pub enum ApiSource {
    /// By a kubeconfig file, which is read again when it changes.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The context, else the current one.
        context: Option<String>,
    },
    /// By the text of a kubeconfig, which can neither run programs nor read files of ours: whoever
    /// may write the Secret that it stands in need not be who runs us.
    Inline(Arc<str>),
    /// As the service account of the pod that this runs in.
    InCluster,
}

/// Without the credentials that a text holds.
impl fmt::Debug for ApiSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubeconfig { path, context } => {
                f.debug_struct("Kubeconfig").field("path", path).field("context", context).finish()
            }
            Self::Inline(_) => f.write_str("Inline"),
            Self::InCluster => f.write_str("InCluster"),
        }
    }
}

/// How API servers are asked.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiSettings {
    /// How often `/readyz` is asked.
    pub probe_period: Duration,
    /// How long it may take to answer.
    pub probe_timeout: Duration,
    /// How long the server may keep a watch before it is opened anew, in whole seconds; a stream
    /// that stalls without a word is noticed after this and five seconds more.
    pub watch_timeout: Duration,
    /// The namespace that ballots are in, in every cluster; none are carried where there is none.
    pub ballots: Option<Arc<str>>,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            // Of the order: three failures in a row are noticed within 15 s.
            probe_period: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(2),
            // Opening a watch anew costs one request; API servers send a bookmark before they
            // close one, so that nothing is lost between.
            watch_timeout: Duration::from_secs(60),
            ballots: None,
        }
    }
}

impl Source {
    /// Which source it is, as text that stays the same from run to run.
    #[must_use]
    pub fn identity(&self) -> String {
        match self {
            Self::Manifests(directory) => format!("manifests:{}", directory.display()),
            Self::Api(ApiSource::InCluster) => "inCluster".to_owned(),
            Self::Api(ApiSource::Kubeconfig { path, context: None }) => {
                format!("kubeconfig:{}", path.display())
            }
            Self::Api(ApiSource::Kubeconfig { path, context: Some(context) }) => {
                format!("kubeconfig:{}#{context}", path.display())
            }
            // Its credentials may change, and are nobody's business; its server tells it.
            Self::Api(ApiSource::Inline(text)) => {
                format!("registered:{}", kube::server(text).unwrap_or_default())
            }
            Self::Awaited(identity) => identity.to_string(),
        }
    }
}

/// Which Services of a cluster are federated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// Those with the label `meridian.dev/federate: "true"`.
    Label,
    /// Those with a ServiceExport of the same namespace and name in the same cluster.
    ServiceExport,
    /// All.
    All,
}

/// The namespaces whose Services may be exported. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Those that the operator gave this cluster, where a list is kept: it cannot capture the
    /// services of others.
    pub given: Option<Arc<BTreeSet<Box<str>>>>,
    /// With [`Export::All`]: those to export, where a list is kept.
    pub include: Option<Arc<BTreeSet<Box<str>>>>,
    /// With [`Export::All`]: those not to export.
    pub exclude: Arc<BTreeSet<Box<str>>>,
}

/// Which addresses are published, beside those that never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressScope {
    /// Private ones too.
    #[default]
    Any,
    /// Only those that are reachable from the Internet.
    Public,
}
