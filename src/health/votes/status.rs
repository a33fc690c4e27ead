//! How votes stand, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Electorate, Mode, Quorum};
use crate::health::{Failure, Suspicion};
use crate::model::{Label, Report};

/// How an instance takes part in votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The cluster for which it votes.
    pub cluster: Label,
    /// Its own name, unique among those that vote for that cluster.
    pub instance: Label,
    /// The clusters that vote; every registered one where that is not said.
    pub voters: Option<BTreeSet<Label>>,
    /// How many of them it takes.
    pub quorum: Quorum,
    /// The shared directory that carries ballots; where there is none, another holder of the
    /// [`super::BallotBox`] does.
    pub directory: Option<PathBuf>,
    /// How often a ballot is renewed.
    pub heartbeat: Duration,
    /// How long a ballot counts that is not renewed.
    pub lease: Duration,
}

impl Settings {
    /// How often a ballot is renewed, unless it is said.
    pub const HEARTBEAT: Duration = Duration::from_secs(5);
    /// How long a ballot counts, unless it is said: two renewals may be lost.
    pub const LEASE: Duration = Duration::from_secs(15);

    /// Who decides, where `registered` are all clusters, as far as they are known.
    #[must_use]
    pub fn electorate(&self, registered: Option<BTreeSet<Label>>) -> Electorate {
        match self.voters.clone().or(registered) {
            Some(all) => Electorate::Voters {
                own: self.cluster.clone(),
                instance: self.instance.clone(),
                all,
                quorum: self.quorum,
            },
            None => Electorate::Unknown,
        }
    }
}

/// How checks and votes stand at a moment.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// How it is decided.
    pub mode: Mode,
    /// Targets that are checked.
    pub targets: usize,
    /// Who votes, where anyone but this instance does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voting: Option<Voting>,
    /// Clusters of which every checked shard is agreed to fail.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failing_clusters: BTreeMap<Label, Arc<Failure>>,
    /// Clusters of which every checked shard is seen to fail by someone, but not agreed to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub suspected_clusters: BTreeMap<Label, Suspicion>,
    /// Shards that are seen failing by someone and are not out for it, or not yet.
    pub suspects: usize,
    /// Ballots that cannot be read or written.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub faults: BTreeSet<Report>,
}

/// Who votes.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Voting {
    /// The cluster for which this instance votes.
    pub cluster: Label,
    /// Its own name.
    pub instance: Label,
    /// The votes that it takes; `None` while it is not known who votes.
    pub needed: Option<usize>,
    /// The clusters that vote, and which of their instances are heard.
    pub voters: BTreeMap<Label, Vec<Box<str>>>,
    /// Of these, those of which any is heard.
    pub heard: usize,
}
