//! The guard against mass withdrawal.
//!
//! An RBAC mistake, a restored etcd or a directory emptied by accident makes most of a cluster's
//! objects vanish at one stroke, which nobody means. So objects that vanish are counted over a short
//! window, and where most shards would go with them they are kept until a confirmation period is
//! over in which they did not come back. What a cluster says of an object that is there (not ready,
//! drained, no longer exported) is never held back.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::hosts::Resolution;
use crate::cluster::narrow::{NarrowExport, NarrowService, NarrowSlice, ObjectId};
use crate::model::ServiceKey;

/// How long objects count as having vanished together: a watch delivers tens of thousands of
/// deletions in this time, while a person deletes namespaces one by one.
const WINDOW: Duration = Duration::from_secs(10);

/// Fewer shards are never held: a small cluster is emptied within one deployment.
const LEAST: usize = 50;

/// The objects of a cluster that have vanished.
#[derive(Debug)]
pub(super) struct Guard {
    confirm: Duration,
    /// Vanished since the last time that it was decided.
    pending: HashSet<Object, RandomState>,
    /// Withdrawn within the window, to be put back should more follow.
    withdrawn: HashMap<Object, Withdrawn, RandomState>,
    /// Kept although they have vanished, and until when.
    held: HashMap<Object, Instant, RandomState>,
    /// Whether that has changed since the last time that it was told.
    untold: bool,
}

/// An object that can vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Object {
    Service(ObjectId),
    Slice(ObjectId),
    Export(ObjectId),
}

/// An object that was withdrawn, whole.
#[derive(Debug)]
struct Withdrawn {
    at: Instant,
    /// The shard that went with it, if one did.
    shard: Option<ServiceKey>,
    what: Removed,
}

/// What was removed.
#[derive(Debug)]
pub(super) enum Removed {
    /// A Service, with what its host names had resolved to.
    Service(NarrowService, Vec<(Box<str>, Resolution)>),
    /// An EndpointSlice.
    Slice(NarrowSlice),
    /// A ServiceExport.
    Export(NarrowExport),
}

/// What is to be done with the objects that have vanished.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Remove them.
    Withdraw(HashSet<Object, RandomState>),
    /// Keep them, and put these back.
    Hold(Vec<Removed>),
}

impl Guard {
    /// A guard that keeps what vanishes for `confirm`; zero switches it off.
    pub(super) fn new(confirm: Duration) -> Self {
        Self {
            confirm,
            pending: HashSet::default(),
            withdrawn: HashMap::default(),
            held: HashMap::default(),
            untold: false,
        }
    }

    /// Notes that an object has vanished; one that is held already stays so as long as it was to.
    pub(super) fn vanished(&mut self, object: Object) {
        if !self.held.contains_key(&object) {
            self.pending.insert(object);
        }
    }

    /// Notes that an object is there.
    pub(super) fn seen(&mut self, object: Object) {
        self.untold |= self.held.remove(&object).is_some();
        self.pending.remove(&object);
        self.withdrawn.remove(&object);
    }

    /// Whether `object` has vanished although it is still kept.
    pub(super) fn is_gone(&self, object: Object) -> bool {
        self.held.contains_key(&object) || self.pending.contains(&object)
    }

    /// What has vanished since the last time that it was decided.
    pub(super) fn pending(&self) -> impl Iterator<Item = Object> {
        self.pending.iter().copied()
    }

    /// What is kept although it has vanished.
    pub(super) fn held(&self) -> impl Iterator<Item = Object> {
        self.held.keys().copied()
    }

    /// How long what has vanished is kept.
    pub(super) fn confirm(&self) -> Duration {
        self.confirm
    }

    /// Whether `lost` shards of `all` are so many that they are kept.
    pub(super) fn is_mass(&self, lost: usize, all: usize) -> bool {
        !self.confirm.is_zero() && lost >= LEAST && lost > all / 2
    }

    /// Decides on what has vanished up to `now`. `lost` are the shards that would go with it,
    /// `shards` is how many there are, and `is_shown` whether one is among them.
    pub(super) fn decide(
        &mut self,
        lost: &HashSet<ServiceKey, RandomState>,
        shards: usize,
        is_shown: impl Fn(&ServiceKey) -> bool,
        now: Instant,
    ) -> Verdict {
        let pending = std::mem::take(&mut self.pending);
        let gone = || self.withdrawn.values().filter_map(|old| old.shard.as_ref());
        let unshown = gone().filter(|key| !is_shown(key)).collect::<HashSet<_>>().len();
        let all = shards.saturating_add(unshown);
        let lost = lost.iter().chain(gone()).collect::<HashSet<_>>().len();
        // A stroke that is being held goes on in the next batch.
        let recent = |until: &Instant| *until + WINDOW >= now + self.confirm;
        let goes_on = self.held.values().any(recent) && !self.confirm.is_zero();
        if !goes_on && !self.is_mass(lost, all) {
            return Verdict::Withdraw(pending);
        }
        let back: Vec<_> = self.withdrawn.drain().collect();
        // At most an hour is configured, so that there is such a time.
        let until = now + self.confirm;
        let held = pending.into_iter().chain(back.iter().map(|(object, _)| *object));
        self.held.extend(held.map(|object| (object, until)));
        self.untold = true;
        Verdict::Hold(back.into_iter().map(|(_, old)| old.what).collect())
    }

    /// Notes that an object was removed at `now`, and with it a shard, if one was.
    pub(super) fn withdrew(&mut self, what: Removed, shard: Option<ServiceKey>, now: Instant) {
        if self.confirm.is_zero() {
            return;
        }
        let object = match &what {
            Removed::Service(service, _) => Object::Service(service.id),
            Removed::Slice(slice) => Object::Slice(slice.id),
            Removed::Export(export) => Object::Export(export.id),
        };
        self.withdrawn.insert(object, Withdrawn { at: now, shard, what });
    }

    /// Gives up what has been held long enough, and forgets what was withdrawn long ago.
    pub(super) fn confirmed(&mut self, now: Instant) -> Vec<Object> {
        self.withdrawn.retain(|_, old| now.saturating_duration_since(old.at) <= WINDOW);
        let confirmed = self.held.extract_if(|_, until| *until <= now);
        let confirmed: Vec<Object> = confirmed.map(|(object, _)| object).collect();
        self.untold |= !confirmed.is_empty();
        confirmed
    }

    /// Whether what is held has changed since this was last asked.
    pub(super) fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }

    /// When something will have been held long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.values().min().copied()
    }
}
