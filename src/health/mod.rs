//! Which shards are served. Pure: what it needs to know of time is an argument.
//!
//! *Owns*: the judgement of one shard ([`Evidence`]) and of whole clusters ([`ClusterEvidence`]), with
//! the reason for each exclusion; what it goes by: the states of clusters ([`Tracker`]), what is seen
//! of shards from outside ([`Opinions`]), how far drains are ([`PhaseTracker`]), operators' words
//! ([`overrides`]); and the checks of addresses. I/O is in `check` and `overrides::watch` only.
//! *Does not*: know names, distances or how signals arrive.

pub mod check;
pub mod gauge;
mod opinion;
pub mod overrides;
mod phase;
mod suspicion;
mod tracker;
mod verdict;
pub mod votes;

pub use opinion::{Checked, Failure, Load, LoadLimit, Opinion, Opinions, PerShard};
pub use phase::{Phase, PhaseTracker, Phases, Seen};
pub use suspicion::{Lacking, Suspicion, Witness};
pub use tracker::{
    Checks, Contact, Now, Outcome, Reading, Reason, Row, Signals, Standing, Tracker, Tracking,
    Transition,
};
pub(crate) use verdict::first;
pub use verdict::{Assessment, ClusterEvidence, Evidence, Exclusion, Verdict, judge};

use crate::model::MinReady;

/// Thresholds of the federation.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Ready endpoints below which a shard is not served, unless its Service says otherwise.
    pub min_ready: MinReady,
    /// When a shard counts as overloaded.
    pub load: LoadLimit,
    /// When clusters that do not answer are given up.
    pub tracking: Tracking,
    /// How addresses are checked.
    pub checks: check::Settings,
    /// How fast what checks say may come and go.
    pub damping: votes::Damping,
    /// How this instance takes part in votes; where that is not set it decides for itself.
    pub votes: Option<votes::Settings>,
}

impl Settings {
    /// Whether shards are judged alike by both, given the same evidence.
    #[must_use]
    pub fn judges_like(&self, other: &Self) -> bool {
        // Of each field is said whether it counts: the others make evidence.
        let Self { min_ready, load: _, tracking: _, checks: _, damping: _, votes: _ } = self;
        *min_ready == other.min_ready
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_ready: MinReady::Count(1),
            load: LoadLimit::default(),
            tracking: Tracking::default(),
            checks: check::Settings::default(),
            damping: votes::Damping::default(),
            votes: None,
        }
    }
}

/// What is known of a cluster as a whole.
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
