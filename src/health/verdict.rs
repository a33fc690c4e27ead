//! The judgement of single shards and of clusters as wholes, with reasons.

use std::sync::Arc;

use super::{Checked, ClusterState, Failure, Load, Opinion, Phase, Settings};
use crate::model::{Drain, Force, Forced, Member, Shard};

/// Why a shard is not served.
#[derive(Clone, Debug, PartialEq, thiserror::Error, serde::Serialize)]
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
    /// Voted down by active checks, or held back after that.
    #[error("{0}")]
    ChecksFail(Arc<Failure>),
    /// Its load is over the limit, and others are below it.
    #[error("overloaded: its load came to {0:.2}")]
    Overloaded(f64),
    /// Forced down or drained by an override.
    #[error("{0}")]
    Forced(Arc<Force>),
    /// The cluster is drained by the operator.
    #[error("its cluster is drained")]
    ClusterDrained,
    /// The cluster is down.
    #[error("its cluster is down")]
    ClusterDown,
    /// The cluster is forced down or drained by an override.
    #[error("its cluster is {0}")]
    ClusterForced(Arc<Force>),
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
            Self::Overloaded(_) => "overloaded",
            Self::Forced(_) => "forced_out",
            Self::ClusterDrained => "cluster_drained",
            Self::ClusterDown => "cluster_down",
            Self::ClusterForced(_) => "cluster_forced_out",
        }
    }
}

/// Whether a shard is served, the cluster as a whole aside.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is, even where its cluster is not up: forced by an override.
    Forced(Arc<Force>),
    /// It is.
    Served,
    /// Only where no other is: it is overloaded, or held back though it is seen well.
    Spare(Exclusion),
    /// It is not.
    Out(Exclusion),
}

impl Verdict {
    /// Why it is not served like any other.
    #[must_use]
    pub fn exclusion(&self) -> Option<&Exclusion> {
        match self {
            Self::Forced(_) | Self::Served => None,
            Self::Spare(why) | Self::Out(why) => Some(why),
        }
    }
}

/// What became of everything that is known of a shard, or of a cluster as a whole, at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment<V> {
    /// Whether it is served.
    pub verdict: V,
    /// Whether that may change soon, so that it is to be answered with a lower TTL.
    pub unsettled: bool,
    /// When time alone makes it another, Unix time in seconds; later than the moment.
    pub until: Option<u64>,
}

/// Everything that is known of a shard.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What its own cluster says.
    pub shard: &'a Shard,
    /// What is seen from outside.
    pub opinion: Option<&'a Opinion>,
    /// How far its drain is, and what its load was.
    pub phase: Option<&'a Phase>,
    /// The override that is in force.
    pub force: Option<&'a Arc<Force>>,
}

impl Evidence<'_> {
    /// Judges the shard by itself at `now`, Unix time in seconds. An override beats every signal,
    /// but gives no address to a shard that has none; of the others the first reason counts.
    #[must_use]
    pub fn assess(&self, settings: &Settings, now: u64) -> Assessment<Verdict> {
        let leaving = self.leaving(now);
        let verdict = match self.force {
            _ if self.shard.addresses.is_empty() => Verdict::Out(Exclusion::NoAddress),
            None => self.by_signals(settings, leaving),
            Some(force) => match (force.to, leaving) {
                (Forced::Up, _) => Verdict::Forced(force.clone()),
                (Forced::Drained, Some(_)) => self.by_signals(settings, leaving),
                (Forced::Down | Forced::Drained, _) => {
                    Verdict::Out(Exclusion::Forced(force.clone()))
                }
            },
        };
        let doubtful = leaving.is_some() || self.opinion.is_some_and(|opinion| opinion.unsettled);
        Assessment {
            unsettled: doubtful && !matches!(verdict, Verdict::Forced(_)),
            until: first(self.force.and_then(|force| force.end()), leaving),
            verdict,
        }
    }

    fn by_signals(&self, settings: &Settings, leaving: Option<u64>) -> Verdict {
        if let Err(why) = self.ready(settings, 0).and_then(|()| self.undrained(leaving)) {
            return Verdict::Out(why);
        }
        if let Some(Checked::Failing(failure)) = self.opinion.map(|opinion| &opinion.check) {
            let why = Exclusion::ChecksFail(failure.clone());
            return if failure.held { Verdict::Spare(why) } else { Verdict::Out(why) };
        }
        let loads = [self.phase.and_then(|p| p.load), self.opinion.and_then(|o| o.load)];
        let over = loads.into_iter().flatten().find_map(|load| match load {
            Load::Over(load) => Some(load),
            Load::Within(_) => None,
        });
        match over {
            Some(load) => Verdict::Spare(Exclusion::Overloaded(load)),
            None => Verdict::Served,
        }
    }

    /// Judges the shard at `now` by what pods of its own cluster ask of it: no address beyond the
    /// cluster, and no health of one, but at least one ready endpoint, without which its address
    /// inside leads nowhere; unless an override forces it up.
    ///
    /// # Errors
    /// The first reason for which its own cluster is not answered with it.
    pub fn judge_internal(&self, settings: &Settings, now: u64) -> Result<(), Exclusion> {
        let leaving = self.leaving(now);
        match self.force.map(|force| (force, force.to)) {
            Some((_, Forced::Up)) => {}
            Some((force, Forced::Drained)) if leaving.is_none() => {
                return Err(Exclusion::Forced(force.clone()));
            }
            Some((force, Forced::Down)) => return Err(Exclusion::Forced(force.clone())),
            Some((_, Forced::Drained)) | None => {
                self.ready(settings, 1).and_then(|()| self.undrained(leaving))?;
            }
        }
        let internal = self.shard.internal();
        match internal.is_none_or(|internal| internal.addresses().is_empty()) {
            true => Err(Exclusion::NoAddress),
            false => Ok(()),
        }
    }

    /// Until when a drain that is under way lets it be served.
    fn leaving(&self, now: u64) -> Option<u64> {
        self.phase.and_then(|phase| phase.leaving).filter(|end| now < *end)
    }

    fn ready(&self, settings: &Settings, least: u32) -> Result<(), Exclusion> {
        let own = self.shard.options().and_then(|options| options.min_ready);
        let endpoints = self.shard.endpoints;
        let needed = own.unwrap_or(settings.min_ready).needed(endpoints.total).max(least);
        match endpoints.ready < needed {
            true => Err(Exclusion::NotReady { ready: endpoints.ready, needed }),
            false => Ok(()),
        }
    }

    fn undrained(&self, leaving: Option<u64>) -> Result<(), Exclusion> {
        match (self.shard.options().map(|options| options.drain), leaving) {
            (None | Some(Drain::No), _) | (Some(Drain::Planned), Some(_)) => Ok(()),
            (Some(Drain::AtOnce | Drain::Planned), _) => Err(Exclusion::Drained),
        }
    }
}

/// Judges a shard by what its own cluster says of it alone, as if nothing else were known.
///
/// # Errors
/// The first reason for which it is not served.
pub fn judge(shard: &Shard, settings: &Settings) -> Result<(), Exclusion> {
    if shard.addresses.is_empty() {
        return Err(Exclusion::NoAddress);
    }
    let evidence = Evidence { shard, opinion: None, phase: None, force: None };
    evidence.ready(settings, 0).and_then(|()| evidence.undrained(None))
}

/// Everything that is known of a cluster as a whole.
#[derive(Clone, Copy, Debug)]
pub struct ClusterEvidence<'a> {
    /// What the operator has registered.
    pub member: &'a Member,
    /// What became of its signals.
    pub state: ClusterState,
    /// Until when a planned drain lets it be served, where one has begun; Unix time, seconds.
    pub leaving: Option<u64>,
    /// The override that is in force.
    pub force: Option<&'a Arc<Force>>,
}

impl ClusterEvidence<'_> {
    /// Judges the cluster at `now`, Unix time in seconds: whether its shards may be served. One
    /// whose API is lost is unsettled, whether it is served or not.
    #[must_use]
    pub fn assess(&self, now: u64) -> Assessment<Result<(), Exclusion>> {
        let leaving = self.leaving.filter(|end| now < *end);
        let by_state = match self.state {
            ClusterState::Down => Err(Exclusion::ClusterDown),
            ClusterState::Unread | ClusterState::Up | ClusterState::Stale => Ok(()),
        };
        let by_signals = match (self.member.drain, leaving) {
            (Drain::No, _) | (Drain::Planned, Some(_)) => by_state,
            (Drain::AtOnce | Drain::Planned, _) => Err(Exclusion::ClusterDrained),
        };
        let verdict = match (self.force.map(|force| (force, force.to)), leaving) {
            (None, _) | (Some((_, Forced::Drained)), Some(_)) => by_signals,
            (Some((_, Forced::Up)), _) => Ok(()),
            (Some((force, Forced::Down | Forced::Drained)), _) => {
                Err(Exclusion::ClusterForced(force.clone()))
            }
        };
        let lost = matches!(self.state, ClusterState::Stale | ClusterState::Down);
        let forced_up = self.force.is_some_and(|force| force.to == Forced::Up);
        let unsettled = match &verdict {
            Ok(()) => (lost || leaving.is_some()) && !forced_up,
            // It comes back by itself; the others do not before the operator says so.
            Err(why) => *why == Exclusion::ClusterDown,
        };
        let until = first(self.force.and_then(|force| force.end()), leaving);
        Assessment { verdict, unsettled, until }
    }
}

/// The earlier of two times that may not come.
pub(crate) fn first(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests;
