//! Which shards have changed their state from one snapshot to the next. Pure; the work grows with
//! what changed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::health::{Exclusion, Verdict};
use crate::model::{ClusterId, ClusterView, Force, Label, ServiceKey, ShardEntry};
use crate::snapshot::{Inputs, Snapshot};

/// The state of one shard by itself; whether its cluster is up is told of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ShardState {
    /// Its cluster exports no such service.
    Absent,
    /// It is served.
    Served,
    /// It is, whatever its cluster's state: forced by an override.
    Forced(Arc<Force>),
    /// It is not like any other, and why.
    Excluded(Exclusion),
}

impl ShardState {
    /// Every state as one word, as in the metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Served => "served",
            Self::Forced(_) => "forced_up",
            Self::Excluded(why) => why.label(),
        }
    }
}

/// Why a shard is in its state, for people.
impl fmt::Display for ShardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("is not exported any more"),
            Self::Served => f.write_str("is healthy"),
            Self::Forced(force) => force.fmt(f),
            Self::Excluded(why) => why.fmt(f),
        }
    }
}

/// A shard has changed its state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ShardChange {
    pub(super) cluster: Label,
    pub(super) key: ServiceKey,
    pub(super) from: ShardState,
    pub(super) to: ShardState,
}

/// Changes of shards that are told one by one; of more, only how many and one example.
pub(super) const MOST: usize = 20;

/// What many shards have in common: the words for their states before and after.
type Way = (&'static str, &'static str);

/// Changes of shards, in bounded space however many they are.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The first [`MOST`].
    first: Vec<ShardChange>,
    /// All of them by way: there are as many ways as pairs of words.
    groups: Vec<Group>,
    count: usize,
}

/// Shards that changed in the same way.
#[derive(Debug)]
pub(super) struct Group {
    /// The first of them.
    pub(super) example: ShardChange,
    /// How many.
    pub(super) shards: usize,
    /// In which clusters.
    pub(super) clusters: BTreeSet<Label>,
}

/// What is to be told of changes.
#[derive(Debug)]
pub(super) enum Telling<'a> {
    /// Each by itself.
    Each(&'a [ShardChange]),
    /// One for all that changed in the same way.
    Summed(&'a [Group]),
}

impl Changes {
    /// The shards whose own state differs between two snapshots. A cluster that was not read before,
    /// or is not there in one of them, has changed as a whole: nothing is told of its shards.
    pub(super) fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let mut changes = Self::default();
        let (old, new) = (&before.inputs, &after.inputs);
        let same_members = Arc::ptr_eq(&old.federation, &new.federation);
        let rebuilt: Vec<u64> = after.rebuilt_since(before).collect();
        for (id, view) in new.read_views() {
            let Some(member) = new.federation.members.get(id.index()) else { continue };
            // A reload may have moved it.
            let place = match same_members {
                true => Some(id.index()),
                false => old.federation.members.iter().position(|m| m.name == member.name),
            };
            let known = place.and_then(|place| Some((place, old.views.get(place)?.as_ref()?)));
            let Some((place, known)) = known else { continue };
            let then = Judged { view: known, id: ClusterId::new(place), inputs: old };
            let now = Judged { view, id, inputs: new };
            for hash in &rebuilt {
                changes.compare(&member.name, &then, &now, *hash);
            }
        }
        changes
    }

    /// Compares the services of one hash: one, but for collisions.
    fn compare(&mut self, cluster: &Label, then: &Judged<'_>, now: &Judged<'_>, hash: u64) {
        fn find<'v>(view: &'v ClusterView, like: &ShardEntry) -> Option<&'v ShardEntry> {
            view.shards.find(like.hash).find(|entry| entry.key == like.key)
        }
        for entry in now.view.shards.find(hash) {
            let before = find(then.view, entry);
            let from = before.map_or(ShardState::Absent, |before| then.state(before));
            self.add(cluster, &entry.key, from, now.state(entry));
        }
        for entry in then.view.shards.find(hash) {
            if find(now.view, entry).is_none() {
                self.add(cluster, &entry.key, then.state(entry), ShardState::Absent);
            }
        }
    }

    fn add(&mut self, cluster: &Label, key: &ServiceKey, from: ShardState, to: ShardState) {
        // The same reason with other numbers is the same state.
        if from.label() != to.label() {
            self.push(ShardChange { cluster: cluster.clone(), key: key.clone(), from, to });
        }
    }

    fn push(&mut self, change: ShardChange) {
        let way = way(&change);
        self.count += 1;
        match self.groups.iter_mut().find(|group| self::way(&group.example) == way) {
            Some(group) => {
                group.shards += 1;
                if !group.clusters.contains(&change.cluster) {
                    group.clusters.insert(change.cluster.clone());
                }
            }
            None => {
                let clusters = BTreeSet::from([change.cluster.clone()]);
                self.groups.push(Group { example: change.clone(), shards: 1, clusters });
            }
        }
        if self.first.len() < MOST {
            self.first.push(change);
        }
    }

    /// Takes later changes in.
    pub(super) fn append(&mut self, later: Self) {
        self.count += later.count;
        let room = MOST - self.first.len();
        self.first.extend(later.first.into_iter().take(room));
        for group in later.groups {
            let same = |known: &&mut Group| way(&known.example) == way(&group.example);
            match self.groups.iter_mut().find(same) {
                Some(known) => {
                    known.shards += group.shards;
                    known.clusters.extend(group.clusters);
                }
                None => self.groups.push(group),
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each, or where they are too many the sums.
    pub(super) fn telling(&self) -> Telling<'_> {
        if self.count <= MOST { Telling::Each(&self.first) } else { Telling::Summed(&self.groups) }
    }
}

fn way(change: &ShardChange) -> Way {
    (change.from.label(), change.to.label())
}

/// A view with the rules that it was judged by.
struct Judged<'a> {
    view: &'a ClusterView,
    inputs: &'a Inputs,
    id: ClusterId,
}

impl Judged<'_> {
    fn state(&self, entry: &ShardEntry) -> ShardState {
        match self.inputs.assess(self.id, entry).verdict {
            Verdict::Forced(force) => ShardState::Forced(force),
            Verdict::Served => ShardState::Served,
            Verdict::Spare(why) | Verdict::Out(why) => ShardState::Excluded(why),
        }
    }
}

#[cfg(test)]
mod tests;
