//! What of a snapshot has to be made anew for the inputs of the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::state::Timing;
use super::{Inputs, Snapshot};
use crate::health::Opinion;
use crate::health::overrides::Rule;
use crate::model::{BUCKETS, ClusterId, ClusterSet, ClusterView, ShardEntry, differing};

/// What of a bucket is to be made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The services with these hashes, in order.
    Services(Vec<u64>),
    /// All of them.
    Whole,
}

impl Extent {
    pub(super) fn touches(&self, hash: u64) -> bool {
        match self {
            Self::Services(hashes) => hashes.binary_search(&hash).is_ok(),
            Self::Whole => true,
        }
    }

    /// The shards in a bucket of the services that are to be made anew.
    pub(super) fn shards<'i>(
        &self,
        inputs: &'i Inputs,
        bucket: usize,
    ) -> Vec<(ClusterId, &'i ShardEntry)> {
        match self {
            Self::Whole => inputs.shards(bucket).collect(),
            Self::Services(hashes) => {
                let of_view = |(id, view): (ClusterId, &'i Arc<ClusterView>)| {
                    let found = hashes.iter().flat_map(|hash| view.shards.find(*hash));
                    found.map(|entry| (id, entry)).collect::<Vec<_>>()
                };
                inputs.read_views().flat_map(of_view).collect()
            }
        }
    }
}

/// What is to be made anew on top of `previous`, where the clusters of `up` are; buckets that are
/// not told of stay as they are. The work grows with what differs.
pub(super) fn extents(
    previous: &Snapshot,
    inputs: &Inputs,
    up: &ClusterSet,
) -> BTreeMap<usize, Extent> {
    let changes = Changes::between(previous, inputs, up);
    let whole = changes.whole();
    let Timing { deadlines, .. } = &*previous.timing;
    let parts = changes.told().into_iter().filter(|index| !whole.contains(index));
    let part = |index| match deadlines.contains_key(&index) {
        // It is not kept whose deadline that is, as there are few of them.
        true => Extent::Whole,
        false => Extent::Services(changes.services(index).into_iter().collect()),
    };
    let parts: Vec<_> = parts.map(|index| (index, part(index))).collect();
    // What is told in other words alone makes nothing else of any service.
    let parts = parts.into_iter().filter(|(_, part)| *part != Extent::Services(Vec::new()));
    whole.iter().map(|index| (*index, Extent::Whole)).chain(parts).collect()
}

/// How many buckets have something to be made anew, or all where that is not found at once.
pub(super) fn reach(previous: &Snapshot, inputs: &Inputs, up: &ClusterSet) -> usize {
    let changes = Changes::between(previous, inputs, up);
    match changes.rules.is_empty() && changes.other_out.is_empty() {
        true => changes.whole().union(&changes.told()).count(),
        // To find whom they are about takes a look at every shard.
        false => BUCKETS,
    }
}

/// What differs between a snapshot and the inputs of the next one.
struct Changes<'a> {
    previous: &'a Snapshot,
    inputs: &'a Inputs,
    /// Overrides of shards that came, went or changed.
    rules: Vec<&'a Rule>,
    other_up: bool,
    /// Clusters that the overrides file began or ceased to take out: there an annotation's `up`
    /// ceases or begins to count.
    other_out: ClusterSet,
}

impl<'a> Changes<'a> {
    fn between(previous: &'a Snapshot, inputs: &'a Inputs, up: &ClusterSet) -> Self {
        let (old, new) = (&previous.inputs.overrides, &inputs.overrides);
        let rules = if Arc::ptr_eq(old, new) { Vec::new() } else { old.changed(new) };
        let members = inputs.federation.members.iter().enumerate();
        let other_out = members.filter(|(_, member)| {
            let out = |inputs: &Inputs| inputs.overrides.takes_out(&member.name, inputs.now);
            out(&previous.inputs) != out(inputs)
        });
        let other_out = other_out.map(|(index, _)| ClusterId::new(index)).collect();
        Self { previous, inputs, rules, other_up: previous.up != *up, other_out }
    }

    /// Buckets in which something counts for every service.
    fn whole(&self) -> BTreeSet<usize> {
        let Timing { deadlines, exceptional } = &*self.previous.timing;
        let due = deadlines.iter().filter(|(_, deadline)| **deadline <= self.inputs.now);
        let mut whole: BTreeSet<usize> = due.map(|(index, _)| *index).collect();
        if self.other_up {
            whole.extend(exceptional);
        }
        if !self.rules.is_empty() {
            whole.extend((0..BUCKETS).filter(|index| self.ruled(*index)));
        }
        if !self.other_out.is_empty() {
            whole.extend((0..BUCKETS).filter(|index| self.lifted(*index)));
        }
        whole
    }

    /// Whether an override that changed is about a service in a bucket.
    fn ruled(&self, index: usize) -> bool {
        // Had its shards changed, it would be built anew for that.
        let mut shards = self.inputs.shards(index);
        shards.any(|(_, entry)| self.rules.iter().any(|rule| rule.is_about(&entry.key)))
    }

    /// Whether an annotation speaks for a shard of a bucket in a cluster that the file took out, or
    /// takes out no more.
    fn lifted(&self, index: usize) -> bool {
        let mut shards = self.inputs.shards(index);
        shards.any(|(id, entry)| {
            self.other_out.contains(id)
                && entry.shard.options().is_some_and(|options| options.force.is_some())
        })
    }

    /// The views of each cluster, before and now, that are not the same.
    fn views(&self) -> impl Iterator<Item = [Option<&'a ClusterView>; 2]> + '_ {
        let views = self.previous.inputs.views.iter().zip(&self.inputs.views);
        let views = views.map(|(old, new)| [old, new].map(Option::as_deref));
        views.filter(|[old, new]| match (old, new) {
            (Some(old), Some(new)) => !std::ptr::eq(*old, *new),
            (None, None) => false,
            _ => true,
        })
    }

    /// Buckets of whose shards something else is told than before.
    fn told(&self) -> BTreeSet<usize> {
        let (old, new) = (&self.previous.inputs, self.inputs);
        let mut told: BTreeSet<usize> = old.opinions.changed(&new.opinions).collect();
        told.extend(old.phases.shards.changed(&new.phases.shards));
        for views in self.views() {
            match views {
                [Some(old), Some(new)] => told.extend(old.shards.changed(&new.shards)),
                [None, Some(view)] | [Some(view), None] => {
                    told.extend((0..BUCKETS).filter(|i| !view.shards.bucket(*i).is_empty()));
                }
                [None, None] => {}
            }
        }
        told
    }

    /// The services of a bucket of whose shards something else is told.
    fn services(&self, index: usize) -> BTreeSet<u64> {
        let (old, new) = (&self.previous.inputs, self.inputs);
        let opinions = old.opinions.differing(&new.opinions, index, Opinion::weighs_like);
        let mut services: BTreeSet<u64> = opinions.collect();
        services.extend(old.phases.shards.differing(&new.phases.shards, index, PartialEq::eq));
        for views in self.views() {
            let [old, new] = views.map(|view| view.map_or(&[][..], |v| v.shards.bucket(index)));
            if !std::ptr::eq(old, new) {
                services.extend(differing(old, new, ShardEntry::says_the_same));
            }
        }
        services
    }
}
