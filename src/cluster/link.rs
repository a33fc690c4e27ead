//! How a cluster's source is reached: plain values for those who judge, log and show them.
//!
//! *Owns*: the vocabulary. *Guarantees*: nothing here says anything of a service; a source that is
//! lost leaves the last view as it is. *Does not*: judge: how many failed probes make a lost API
//! is `health`'s to say.

use std::fmt;
use std::time::Instant;

/// The link to one source as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Whether the last attempt reached the source, thresholds not applied. All that there is for
    /// a directory of manifests, which is connected while it can be read.
    pub reach: Reach,
    /// The probe of an API server; `None` before the first, and for manifests.
    pub probe: Option<Probe>,
    /// Each kind that is watched, in the order of [`Kind`]; empty for manifests.
    pub watches: Vec<WatchStatus>,
    /// Objects that were skipped since the start because they could not be decoded.
    pub undecodable: u64,
}

/// Whether a source is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Reach {
    /// Nothing has come of the first attempt yet.
    #[default]
    Untried,
    /// It is.
    Connected,
    /// It is not.
    Lost {
        /// Since when without a break.
        since: Instant,
        /// The last reason, for people.
        reason: Box<str>,
    },
}

/// The last probe of an API server's `/readyz`, and how many before it ended alike, so that a
/// reader who misses some can still count.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// How it ended.
    pub outcome: ProbeOutcome,
    /// When it ended.
    pub at: Instant,
    /// When the first of those that ended alike in a row did.
    pub since: Instant,
    /// How many in a row have ended so, this one included; at least 1.
    pub in_a_row: u32,
}

impl Probe {
    /// The probe that follows `before`.
    #[must_use]
    pub fn after(before: Option<&Self>, outcome: ProbeOutcome, at: Instant) -> Self {
        match before.filter(|before| before.outcome.is_ok() == outcome.is_ok()) {
            Some(before) => Self {
                outcome,
                at,
                since: before.since,
                in_a_row: before.in_a_row.saturating_add(1),
            },
            None => Self { outcome, at, since: at, in_a_row: 1 },
        }
    }
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The API server calls itself ready.
    Ok,
    /// It does not, or did not answer in time; the reason for people.
    Failed(Box<str>),
}

impl ProbeOutcome {
    /// Whether the API server calls itself ready.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        *self == Self::Ok
    }
}

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Node.
    Node,
    /// `multicluster.x-k8s.io` ServiceExport.
    ServiceExport,
    /// `v1` Secret, of the home cluster.
    Secret,
    /// `v1` ConfigMap, with ballots.
    ConfigMap,
}

impl Kind {
    /// Its name as Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceExport => "ServiceExport",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One watch.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchStatus {
    /// Of what.
    pub kind: Kind,
    /// How far it is.
    pub state: WatchState,
    /// Since when it has been in this state; a failure for another reason is another state.
    pub since: Instant,
    /// Failures since the start.
    pub failures: u64,
}

/// How far a watch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// A complete list is being read.
    Listing,
    /// The list is complete and changes are followed.
    Watching,
    /// It has failed and will be tried again; what was read before stays in force.
    Failed {
        /// The class of the reason.
        fault: Fault,
        /// The reason for people.
        reason: Box<str>,
    },
}

/// Why a request to an API server failed, told apart because different people mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// 403: the credentials lack a permission (RBAC).
    Forbidden,
    /// 404: the API server does not know the kind (no CRD).
    Missing,
    /// 401: the credentials are not accepted, or could not be obtained.
    Unauthorized,
    /// 429: asked to wait.
    Throttled,
    /// 5xx.
    ServerError,
    /// No connection, one that broke, or no answer in time.
    Unreachable,
    /// 410: the place in the history is forgotten; a new list follows.
    Expired,
    /// The answer is not what the API promises.
    Undecodable,
    /// Any other refusal.
    Refused,
}

impl Fault {
    /// A word for metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Missing => "missing",
            Self::Unauthorized => "unauthorized",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Unreachable => "unreachable",
            Self::Expired => "expired",
            Self::Undecodable => "undecodable",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Probe, ProbeOutcome};

    #[test]
    fn probes_count_those_that_ended_alike() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let failed = |why: &str| ProbeOutcome::Failed(why.into());
        let first = Probe::after(None, failed("refused"), at(0));
        let second = Probe::after(Some(&first), failed("timed out"), at(5));
        assert_eq!((second.in_a_row, second.since), (2, at(0)), "another reason, still failed");
        let third = Probe::after(Some(&second), ProbeOutcome::Ok, at(10));
        assert_eq!((third.in_a_row, third.since), (1, at(10)));
        assert_eq!(Probe::after(Some(&third), ProbeOutcome::Ok, at(15)).in_a_row, 2);
    }
}
