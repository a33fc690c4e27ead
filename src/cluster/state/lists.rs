//! Lists that are taken whole or not at all.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use crate::cluster::narrow::ObjectId;

/// What happened to objects of one kind, in the steps of kube's watcher.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cluster) enum Change<T> {
    /// A list begins; one that was under way is dropped.
    Init,
    /// An object of the list.
    InitApply(T),
    /// An object of the list that cannot be read: what was known of it stays.
    InitKeep(ObjectId),
    /// The list is complete: what it does not hold is gone.
    InitDone,
    /// An object is new or changed.
    Apply(T),
    /// An object is gone.
    Delete(ObjectId),
}

/// The list of one kind.
#[derive(Debug)]
pub(super) struct List<T> {
    under_way: Option<UnderWay<T>>,
    /// Objects of the list under way that cannot be read.
    kept: HashSet<ObjectId, RandomState>,
    progress: Progress,
    first: First,
}

/// What becomes of the objects of the first list of a kind. Nothing is shown before it is complete,
/// so they need not wait for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Each is taken in as it comes: to hold them all until the end takes as much memory again.
    AsTheyCome,
    /// All are taken in at the end, like those of later lists: one by one they cost more.
    AtOnce,
}

#[derive(Debug)]
enum UnderWay<T> {
    /// Its objects have been taken in; these are they.
    Taken(HashSet<ObjectId, RandomState>),
    /// Its objects.
    Waiting(Vec<T>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Awaited,
    Complete,
}

/// What a complete list changes.
pub(super) struct Replacement<T> {
    /// The known objects that it does not hold.
    pub(super) gone: Vec<ObjectId>,
    /// Whether any of them was ever shown.
    pub(super) were: Were,
    /// The objects that it holds and that have not been taken in yet, each once.
    pub(super) items: Vec<T>,
}

/// Whether objects were ever shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Were {
    /// They may have been.
    Shown,
    /// They were in a first list that broke off.
    NeverShown,
}

impl<T> List<T> {
    /// No list yet.
    pub(super) fn new(first: First) -> Self {
        Self { under_way: None, kept: HashSet::default(), progress: Progress::Awaited, first }
    }

    /// Whether a list has ever been complete.
    pub(super) fn is_complete(&self) -> bool {
        self.progress == Progress::Complete
    }

    /// Starts a list.
    pub(super) fn begin(&mut self) {
        self.under_way = Some(self.fresh());
        self.kept.clear();
    }

    fn fresh(&self) -> UnderWay<T> {
        match (self.progress, self.first) {
            (Progress::Awaited, First::AsTheyCome) => UnderWay::Taken(HashSet::default()),
            _ => UnderWay::Waiting(Vec::new()),
        }
    }

    /// Notes an object of the list under way that cannot be read.
    pub(super) fn keep(&mut self, id: ObjectId) {
        self.kept.insert(id);
    }

    /// Adds an object to the list under way; gives it back where it is to be taken in at once.
    #[must_use]
    pub(super) fn push(&mut self, id: ObjectId, item: T) -> Option<T> {
        let fresh = self.fresh();
        match self.under_way.get_or_insert(fresh) {
            UnderWay::Taken(listed) => {
                listed.insert(id);
                Some(item)
            }
            UnderWay::Waiting(items) => {
                items.push(item);
                None
            }
        }
    }

    /// Adds an object that changed while a list is under way, lest the list's end undo it.
    pub(super) fn amend(&mut self, id: ObjectId, item: impl FnOnce() -> T) {
        match &mut self.under_way {
            None => {}
            Some(UnderWay::Taken(listed)) => _ = listed.insert(id),
            Some(UnderWay::Waiting(items)) => items.push(item()),
        }
    }

    /// Takes an object out of the list under way.
    pub(super) fn strike(&mut self, gone: ObjectId, id: impl Fn(&T) -> ObjectId) {
        match &mut self.under_way {
            None => {}
            Some(UnderWay::Taken(listed)) => _ = listed.remove(&gone),
            Some(UnderWay::Waiting(items)) => items.retain(|item| id(item) != gone),
        }
    }

    /// Ends the list; `known` are the objects known so far. An end without a beginning changes
    /// nothing.
    pub(super) fn finish(
        &mut self,
        known: impl Iterator<Item = ObjectId>,
        id: impl Fn(&T) -> ObjectId,
    ) -> Replacement<T> {
        let (listed, items, were) = match self.under_way.take() {
            None => {
                return Replacement { gone: Vec::new(), were: Were::Shown, items: Vec::new() };
            }
            Some(UnderWay::Taken(listed)) => (listed, Vec::new(), Were::NeverShown),
            Some(UnderWay::Waiting(mut items)) => {
                // Of an object that changed meanwhile the last word alone counts: to go back to the
                // one before it, if only in passing, would forget what its host names resolved to.
                let mut listed =
                    HashSet::with_capacity_and_hasher(items.len(), RandomState::default());
                items.reverse();
                items.retain(|item| listed.insert(id(item)));
                (listed, items, Were::Shown)
            }
        };
        self.progress = Progress::Complete;
        let kept = std::mem::take(&mut self.kept);
        let gone = |id: &ObjectId| !listed.contains(id) && !kept.contains(id);
        Replacement { gone: known.filter(gone).collect(), were, items }
    }
}
