//! Votes: what the instances of all clusters see failing, and what is agreed of it. Pure, but for
//! the channels of [`BallotBox`].
//!
//! *Owns*: the [`Ballot`] that an instance publishes and its text, the count of votes
//! ([`Council`]), how often a verdict may change ([`Damper`]), and what comes of both ([`Panel`]).
//! *Guarantees*: one vote a cluster, however many instances it has; the voters that are *known*
//! are counted, not those that happen to be heard; one that hears fewer than a majority changes
//! nothing; while every cluster looks lost nothing is taken out; no shard comes and goes faster
//! than its hold-off. *Does not*: probe anything, or carry ballots.

mod ballot;
mod council;
mod damper;
mod leavings;
mod panel;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

pub use ballot::{
    Ballot, BallotError, Encoded, InvalidRenewal, MAX_TEXT, Renewal, Seeing, Sight, Sights,
};
pub use council::{Council, Decision, Electorate, Findings, Quorum, Tally};
pub use damper::{Damper, Damping, Seen};
pub use leavings::{LEFT_BEHIND, Leavings};
pub use panel::{Mode, Panel, Rules, Shown, Touched};
pub use status::{Settings, Status, Voting};

use crate::model::Report;

/// What carries ballots holds this end: it publishes the one of this instance, and tells those of
/// all others.
#[derive(Clone, Debug)]
pub struct BallotBox {
    /// The ballot of this instance; it changes with every renewal, and each is to be published.
    /// `None` until there is one.
    pub own: watch::Receiver<Option<Arc<Ballot>>>,
    /// Told after every look, or every change of any ballot.
    pub heard: watch::Sender<Heard>,
}

/// The ballots of others as they were last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// All that can be read, whether they are renewed or not; one's own may be among them, and is
    /// passed over.
    pub ballots: Vec<Arc<Ballot>>,
    /// What cannot be read or written, and why.
    pub faults: BTreeSet<Report>,
}
