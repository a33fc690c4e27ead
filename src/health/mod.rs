//! Which shards are served. Pure: what it needs to know of time is an argument.
//!
//! *Owns*: the judgement of one shard ([`judge`]) and of whole clusters ([`Tracker`]), with the
//! reason for each exclusion, and the checks of addresses (`check`, the one part that does I/O).
//! *Does not*: know names, distances or how signals arrive.

pub mod check;
pub mod gauge;
mod opinion;
mod tracker;
pub mod votes;

pub use opinion::{Checked, Failure, Load, LoadLimit, Opinion, Opinions, PerShard};
pub use tracker::{
    Checks, Contact, Now, Outcome, Reading, Reason, Row, Signals, Standing, Tracker, Tracking,
    Transition,
};

use std::sync::Arc;

use crate::model::{ClusterId, ClusterSet, Member, Shard};

/// Thresholds of the federation.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Ready endpoints below which a shard is not served, unless its Service says otherwise.
    pub min_ready: u32,
    /// When clusters that do not answer are given up.
    pub tracking: Tracking,
    /// How addresses are checked.
    pub checks: check::Settings,
    /// How fast what checks say may come and go.
    pub damping: votes::Damping,
    /// How this instance takes part in votes; where that is not set it decides for itself.
    pub votes: Option<votes::Settings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_ready: 1,
            tracking: Tracking::default(),
            checks: check::Settings::default(),
            damping: votes::Damping::default(),
            votes: None,
        }
    }
}

/// What is known of a cluster as a whole (DESIGN §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ClusterState {
    /// Its source has never been read completely: what it holds is unknown.
    Unread,
    /// Its source is read and current.
    Up,
    /// Its source cannot be reached; the last known view is served.
    Stale,
    /// Lost: none of its shards is served.
    Down,
}

impl ClusterState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Unread, Self::Up, Self::Stale, Self::Down];

    /// The state as one word, in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unread => "unread",
            Self::Up => "up",
            Self::Stale => "stale",
            Self::Down => "down",
        }
    }
}

/// Why a shard is not served.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Exclusion {
    /// Neither an ingress address nor one that a host name resolved to.
    #[error("has no address")]
    NoAddress,
    /// Fewer ready endpoints than asked for.
    #[error("{ready} of {needed} needed endpoints ready")]
    NotReady {
        /// Ready endpoints.
        ready: u32,
        /// `minReady`.
        needed: u32,
    },
    /// `meridian.dev/drain` on the Service.
    #[error("drained by annotation")]
    Drained,
    /// Voted down by active checks.
    #[error("{0}")]
    ChecksFail(Arc<Failure>),
    /// The cluster is drained by the operator.
    #[error("its cluster is drained")]
    ClusterDrained,
    /// The cluster is down.
    #[error("its cluster is down")]
    ClusterDown,
}

impl Exclusion {
    /// The reason as one word, in metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::NotReady { .. } => "not_ready",
            Self::Drained => "drained",
            Self::ChecksFail(_) => "checks_fail",
            Self::ClusterDrained => "cluster_drained",
            Self::ClusterDown => "cluster_down",
        }
    }
}

/// Judges a shard by what its own cluster says of it.
///
/// # Errors
/// The first reason, in the order of DESIGN §3, for which it is not served.
pub fn judge(shard: &Shard, settings: &Settings) -> Result<(), Exclusion> {
    let options = shard.options.as_deref();
    let needed = options.and_then(|o| o.min_ready).unwrap_or(settings.min_ready);
    if shard.addresses.is_empty() {
        Err(Exclusion::NoAddress)
    } else if shard.endpoints.ready < needed {
        Err(Exclusion::NotReady { ready: shard.endpoints.ready, needed })
    } else if options.is_some_and(|o| o.drain) {
        Err(Exclusion::Drained)
    } else {
        Ok(())
    }
}

/// Judges a shard by what its own cluster says of it and by what is seen of it from outside.
///
/// # Errors
/// The first reason for which it is not served; those of [`judge`] come first.
pub fn assess(
    shard: &Shard,
    opinion: Option<&Opinion>,
    settings: &Settings,
) -> Result<(), Exclusion> {
    judge(shard, settings)?;
    match opinion.map(|opinion| &opinion.check) {
        Some(Checked::Failing(failure)) => Err(Exclusion::ChecksFail(failure.clone())),
        Some(Checked::NotChecked | Checked::Passing) | None => Ok(()),
    }
}

/// Judges a shard by what pods of its own cluster ask of it: no address beyond the cluster, but
/// at least one ready endpoint, without which its address inside leads nowhere.
///
/// # Errors
/// The first reason for which its own cluster is not answered with it.
pub fn judge_internal(shard: &Shard, settings: &Settings) -> Result<(), Exclusion> {
    let options = shard.options.as_deref();
    let needed = options.and_then(|o| o.min_ready).unwrap_or(settings.min_ready).max(1);
    if shard.endpoints.ready < needed {
        Err(Exclusion::NotReady { ready: shard.endpoints.ready, needed })
    } else if options.is_some_and(|o| o.drain) {
        Err(Exclusion::Drained)
    } else if shard.internal.as_ref().is_none_or(|internal| internal.addresses().is_empty()) {
        Err(Exclusion::NoAddress)
    } else {
        Ok(())
    }
}

/// Judges a cluster as a whole.
///
/// # Errors
/// Why none of its shards is served.
pub fn judge_cluster(member: &Member, state: ClusterState) -> Result<(), Exclusion> {
    if member.drain {
        Err(Exclusion::ClusterDrained)
    } else if state == ClusterState::Down {
        Err(Exclusion::ClusterDown)
    } else {
        Ok(())
    }
}

/// The clusters whose shards may be served.
#[must_use]
pub fn up(members: &[Member], standings: &[Standing]) -> ClusterSet {
    let judged = members.iter().zip(standings).enumerate();
    judged
        .filter(|(_, (member, standing))| judge_cluster(member, standing.state).is_ok())
        .map(|(index, _)| ClusterId::new(index))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Exclusion, Settings, judge, judge_internal};
    use crate::model::{Endpoints, Internal, ServiceOptions, Shard};

    fn shard(ready: u32, options: ServiceOptions) -> Shard {
        Shard {
            addresses: Box::new([IpAddr::from([192, 0, 2, 1])]),
            endpoints: Endpoints { ready, total: 3 },
            options: Some(Box::new(options)),
            ..Shard::default()
        }
    }

    #[test]
    fn thresholds() {
        let settings = Settings::default();
        let with = |min_ready, drain| ServiceOptions { min_ready, drain, ..Default::default() };
        assert_eq!(judge(&shard(1, with(None, false)), &settings), Ok(()));
        assert_eq!(judge(&shard(0, with(Some(0), false)), &settings), Ok(()));
        let not_ready = Exclusion::NotReady { ready: 1, needed: 2 };
        assert_eq!(judge(&shard(1, with(Some(2), false)), &settings), Err(not_ready));
        assert_eq!(judge(&shard(9, with(None, true)), &settings), Err(Exclusion::Drained));
        assert_eq!(judge(&Shard::default(), &settings), Err(Exclusion::NoAddress));
    }

    /// Inside its cluster a shard needs no outer address, but an endpoint always.
    #[test]
    fn inside_the_cluster() {
        let settings = Settings { min_ready: 0, ..Settings::default() };
        let reached = |ready, options, addresses: &[[u8; 4]]| {
            let addresses = addresses.iter().map(|a| IpAddr::from(*a)).collect();
            let internal = Some(Box::new(Internal::ClusterIp(addresses)));
            Shard { addresses: [].into(), internal, ..shard(ready, options) }
        };
        let judged = |shard: &Shard| judge_internal(shard, &settings);
        let none = ServiceOptions::default;
        assert_eq!(judged(&reached(1, none(), &[[10, 96, 0, 1]])), Ok(()));
        let not_ready = Exclusion::NotReady { ready: 0, needed: 1 };
        assert_eq!(judged(&reached(0, none(), &[[10, 96, 0, 1]])), Err(not_ready));
        assert_eq!(judged(&reached(1, none(), &[])), Err(Exclusion::NoAddress));
        assert_eq!(judged(&shard(1, none())), Err(Exclusion::NoAddress));
        let drained = ServiceOptions { drain: true, ..none() };
        assert_eq!(judged(&reached(1, drained, &[[10, 96, 0, 1]])), Err(Exclusion::Drained));
        let more = ServiceOptions { min_ready: Some(2), ..none() };
        let not_ready = Exclusion::NotReady { ready: 1, needed: 2 };
        assert_eq!(judged(&reached(1, more, &[[10, 96, 0, 1]])), Err(not_ready));
    }
}
