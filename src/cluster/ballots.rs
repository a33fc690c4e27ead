//! Ballots carried by the API servers of the clusters: each instance writes its own into the home
//! cluster, and reads those of every cluster beside what else it watches there.
//!
//! *Owns*: the form of the object (one ConfigMap an instance), its watch and its writing.
//! *Guarantees*: what is read from a cluster votes for that cluster alone, whatever it says, so
//! that nobody votes for another; a ballot that cannot be carried changes nothing else: neither the
//! state of a cluster nor how it is read. *Does not*: count votes, or tell a ballot that is renewed
//! from one that was left behind.
//!
//! ConfigMaps, since a ballot may be too long for the annotations of a Lease (256 KiB); renewals
//! are counted in the ballot, and leases end by the clock of whoever reads it.

mod urn;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::health::votes::{Ballot, BallotBox, Heard};
use crate::model::Report;
use crate::tasks::Ended;

pub(super) use urn::{Reader, open};
pub(super) use write::write;

/// The label of ConfigMaps that hold a ballot.
const LABEL: (&str, &str) = ("meridian.dev/ballot", "true");

/// The annotation that renews the ballot that a ConfigMap holds.
const RENEWAL: &str = "meridian.dev/ballot-renewal";

/// Where a ConfigMap holds it.
const KEY: &str = "ballot";

/// Where all that carry ballots meet.
#[derive(Debug, Default)]
pub struct Office {
    own: watch::Sender<Option<Arc<Ballot>>>,
    heard: watch::Sender<Heard>,
    parts: Mutex<Parts>,
}

/// What is heard, by where it is from.
#[derive(Debug, Default)]
struct Parts {
    urns: u64,
    of_urns: BTreeMap<u64, Heard>,
    /// Why our own is not in the home cluster.
    unwritten: Option<Report>,
}

impl Office {
    /// Carries ballots between `ballots` and the clusters, until nobody gives any more.
    pub async fn carry(&self, mut ballots: BallotBox) -> Ended {
        let mut heard = self.heard.subscribe();
        ballots.own.mark_changed();
        loop {
            tokio::select! {
                changed = ballots.own.changed() => match changed {
                    Ok(()) => drop(self.own.send_replace(ballots.own.borrow_and_update().clone())),
                    Err(_) => return Ended::Unneeded,
                },
                // The sender is ours.
                Ok(()) = heard.changed() => {
                    let now = heard.borrow_and_update().clone();
                    ballots.heard.send_replace(now);
                }
            }
        }
    }

    /// A number for another urn.
    fn number(&self) -> u64 {
        let mut parts = self.parts();
        parts.urns += 1;
        parts.urns
    }

    /// Takes in what an urn holds now; `None` where it is closed.
    fn put(&self, urn: u64, heard: Option<Heard>) {
        let mut parts = self.parts();
        match heard {
            Some(heard) => drop(parts.of_urns.insert(urn, heard)),
            None => drop(parts.of_urns.remove(&urn)),
        }
        self.tell(&parts);
    }

    /// Our own is written, or why not.
    fn wrote(&self, fault: Option<Report>) {
        let mut parts = self.parts();
        if parts.unwritten != fault {
            parts.unwritten = fault;
            self.tell(&parts);
        }
    }

    fn tell(&self, parts: &Parts) {
        let all = || parts.of_urns.values();
        let heard = Heard {
            ballots: all().flat_map(|heard| heard.ballots.iter().cloned()).collect(),
            faults: all()
                .flat_map(|heard| &heard.faults)
                .chain(&parts.unwritten)
                .cloned()
                .collect(),
        };
        self.heard.send_if_modified(|before| {
            let changed = *before != heard;
            *before = heard;
            changed
        });
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // Each change is one assignment, so they are good even after a panic.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
