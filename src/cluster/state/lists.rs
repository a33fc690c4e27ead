//! Lists that are taken whole or not at all.

use std::collections::HashSet;

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
    pending: Option<Vec<T>>,
    /// Objects of the list under way that cannot be read.
    kept: HashSet<ObjectId>,
    first: First,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Awaited,
    Complete,
}

/// What a complete list changes.
pub(super) struct Replacement<T> {
    /// The known objects that it does not hold.
    pub(super) gone: Vec<ObjectId>,
    /// The objects that it holds, each once.
    pub(super) items: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { pending: None, kept: HashSet::new(), first: First::Awaited }
    }
}

impl<T> List<T> {
    /// Whether a list has ever been complete.
    pub(super) fn is_complete(&self) -> bool {
        self.first == First::Complete
    }

    /// Starts a list.
    pub(super) fn begin(&mut self) {
        self.pending = Some(Vec::new());
        self.kept.clear();
    }

    /// Notes an object of the list under way that cannot be read.
    pub(super) fn keep(&mut self, id: ObjectId) {
        self.kept.insert(id);
    }

    /// Adds an object to the list under way.
    pub(super) fn push(&mut self, item: T) {
        self.pending.get_or_insert_default().push(item);
    }

    /// Adds an object that changed while a list is under way, lest the list's end undo it.
    pub(super) fn amend(&mut self, item: impl FnOnce() -> T) {
        if let Some(pending) = &mut self.pending {
            pending.push(item());
        }
    }

    /// Takes objects out of the list under way.
    pub(super) fn strike(&mut self, matches: impl Fn(&T) -> bool) {
        if let Some(pending) = &mut self.pending {
            pending.retain(|item| !matches(item));
        }
    }

    /// Ends the list; `known` are the objects known so far. An end without a beginning changes
    /// nothing.
    pub(super) fn finish(
        &mut self,
        known: impl Iterator<Item = ObjectId>,
        id: impl Fn(&T) -> ObjectId,
    ) -> Replacement<T> {
        let Some(mut items) = self.pending.take() else {
            return Replacement { gone: Vec::new(), items: Vec::new() };
        };
        self.first = First::Complete;
        // Of an object that changed meanwhile the last word alone counts: to go back to the one
        // before it, if only in passing, would forget what its host names resolved to.
        let mut listed = HashSet::with_capacity(items.len());
        let kept = std::mem::take(&mut self.kept);
        items.reverse();
        items.retain(|item| listed.insert(id(item)));
        let gone = |id: &ObjectId| !listed.contains(id) && !kept.contains(id);
        Replacement { gone: known.filter(gone).collect(), items }
    }
}
