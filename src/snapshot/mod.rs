//! The one value that answers come from, how it is built, and the one swap.
//!
//! *Owns*: [`Snapshot`], the only place where zone, health and geography meet; [`build`]; the
//! only `ArcSwap` ([`SnapshotCell`]). *Guarantees*: a snapshot never changes; built on top of
//! another it equals one built from scratch of the same inputs; its generation and serial grow.
//! *Does not*: wait, log, or decide when to build.

mod build;
mod cell;
mod extent;
mod inputs;
mod live;
mod location;
mod state;
mod warm;
mod work;

pub use build::{build, reach};
pub use cell::SnapshotCell;
pub use inputs::{Federation, Identity, Inputs, Membership, places};
pub use live::{Exception, Live, Tally};
pub use state::{Missing, NotLocal, Reports, Snapshot};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
