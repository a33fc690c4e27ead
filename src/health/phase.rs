//! How far planned drains are, and which loads are over their limit: what depends on what was
//! before, kept apart so that all else is a function of the present.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::overrides::Overrides;
use super::{Load, PerShard, Settings, first};
use crate::model::{
    ClusterView, Drain, Force, Forced, Label, Member, ServiceKey, ShardEntry, differing,
};

/// What there is to remember of one shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Phase {
    /// Until when a planned drain that was seen to begin lets it be served, Unix time in seconds; it
    /// stays when that is over, until the drain is ended.
    pub leaving: Option<u64>,
    /// What the load that its Service tells was, with regard to the limit.
    pub load: Option<Load>,
}

/// What there is to remember of all clusters and shards; the default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    /// Until when planned drains of whole clusters let them be served, as [`Phase::leaving`].
    pub clusters: Arc<BTreeMap<Label, u64>>,
    /// Shards.
    pub shards: PerShard<Phase>,
}

/// What is to be seen at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Thresholds.
    pub settings: &'a Settings,
    /// Registered clusters.
    pub members: &'a [Member],
    /// What each of them says; `None` until it has been read.
    pub views: &'a [Option<Arc<ClusterView>>],
    /// The overrides file.
    pub overrides: &'a Arc<Overrides>,
    /// Unix time, seconds.
    pub now: u64,
}

/// Follows clusters and shards. A planned drain begins when something is drained that was not
/// before; what is drained when it is seen for the first time is out at once, as nobody can have been
/// answered with it from here.
#[derive(Debug, Default)]
pub struct PhaseTracker {
    clusters: BTreeMap<Label, Known>,
    overrides: Arc<Overrides>,
    settings: Settings,
    now: u64,
    /// When an override that was seen ends by itself.
    deadline: Option<u64>,
    phases: Phases,
}

/// A cluster as it was last seen.
#[derive(Clone, Debug)]
struct Known {
    pull: Pull,
    view: Option<Arc<ClusterView>>,
}

/// How something is being taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pull {
    Not,
    Planned,
    AtOnce,
}

impl Pull {
    fn of(force: Option<&Force>, drain: Drain) -> Self {
        let drain = match drain {
            Drain::No => Self::Not,
            Drain::Planned => Self::Planned,
            Drain::AtOnce => Self::AtOnce,
        };
        match force.map(|force| force.to) {
            None => drain,
            Some(Forced::Up) => Self::Not,
            Some(Forced::Drained) => drain.max(Self::Planned),
            Some(Forced::Down) => Self::AtOnce,
        }
    }

    /// Until when it is served, given how it was taken out before, if it was there.
    fn leaving(
        self,
        before: Option<Self>,
        leaving: Option<u64>,
        begun: impl FnOnce() -> u64,
    ) -> Option<u64> {
        match (before, self) {
            (Some(Self::Not), Self::Planned) => Some(begun()),
            (Some(Self::Planned), Self::Planned) => leaving,
            _ => None,
        }
    }
}

impl PhaseTracker {
    /// Takes in what is to be seen now. `ttl` tells with which TTL at most, in seconds, a service is
    /// answered, or any service at all.
    pub fn observe(&mut self, seen: Seen<'_>, ttl: impl Fn(Option<&ServiceKey>) -> u32) -> &Phases {
        let everything = !Arc::ptr_eq(&self.overrides, seen.overrides)
            || self.settings.load != seen.settings.load
            || self.deadline.is_some_and(|deadline| deadline <= seen.now);
        if everything {
            self.deadline = seen.overrides.deadline(seen.now);
        }
        let mut leaving = BTreeMap::new();
        let mut known = std::mem::take(&mut self.clusters);
        for (member, view) in seen.members.iter().zip(seen.views) {
            let name = &member.name;
            let before = known.remove(name);
            let pull = cluster_pull(member, &seen);
            let was = before.as_ref().map(|known| known.pull);
            let end = pull.leaving(was, self.phases.clusters.get(name).copied(), || {
                seen.now + u64::from(ttl(None))
            });
            leaving.extend(end.map(|end| (name.clone(), end)));
            let old = before.and_then(|known| known.view);
            match (&old, view) {
                (Some(old), Some(view)) if !everything && Arc::ptr_eq(old, view) => {}
                (old, Some(view)) => {
                    self.scan(name, old.as_deref(), view, everything, &seen, &ttl);
                }
                // A view is never taken back but with its cluster.
                (Some(_), None) => self.forget(name),
                (None, None) => {}
            }
            self.clusters.insert(name.clone(), Known { pull, view: view.clone() });
        }
        known.into_keys().for_each(|name| self.forget(&name));
        if *self.phases.clusters != leaving {
            self.phases.clusters = Arc::new(leaving);
        }
        self.overrides = seen.overrides.clone();
        if self.settings != *seen.settings {
            self.settings = seen.settings.clone();
        }
        self.now = seen.now;
        &self.phases
    }

    /// Goes through the shards of a cluster that may have changed.
    fn scan(
        &mut self,
        cluster: &Label,
        old: Option<&ClusterView>,
        new: &ClusterView,
        everything: bool,
        seen: &Seen<'_>,
        ttl: &impl Fn(Option<&ServiceKey>) -> u32,
    ) {
        let Some(old) = old.filter(|_| !everything) else {
            let gone = old.iter().flat_map(|old| old.shards.iter());
            let gone = gone.filter(|entry| find(new, entry).is_none());
            gone.for_each(|entry| _ = self.phases.shards.set(&entry.key, cluster, None));
            for entry in new.shards.iter() {
                let before = old.and_then(|old| find(old, entry));
                self.shard(cluster, before, entry, seen, ttl);
            }
            return;
        };
        for bucket in old.shards.changed(&new.shards) {
            let (before, now) = (old.shards.bucket(bucket), new.shards.bucket(bucket));
            for hash in differing(before, now, ShardEntry::says_the_same) {
                let gone = old.shards.find(hash).filter(|entry| find(new, entry).is_none());
                gone.for_each(|entry| _ = self.phases.shards.set(&entry.key, cluster, None));
                for entry in new.shards.find(hash) {
                    self.shard(cluster, find(old, entry), entry, seen, ttl);
                }
            }
        }
    }

    fn shard(
        &mut self,
        cluster: &Label,
        before: Option<&ShardEntry>,
        entry: &ShardEntry,
        seen: &Seen<'_>,
        ttl: &impl Fn(Option<&ServiceKey>) -> u32,
    ) {
        let was = before.map(|old| pull(&self.overrides, cluster, old, self.now));
        let is = pull(seen.overrides, cluster, entry, seen.now);
        let options = entry.shard.options();
        let told = options.and_then(|options| options.force.as_ref()?.end());
        self.deadline = first(self.deadline, told.filter(|end| *end > seen.now));
        let old = self.phases.shards.get(&entry.key, cluster).cloned().unwrap_or_default();
        let begun = || seen.now + u64::from(ttl(Some(&entry.key)));
        let load = options.and_then(|options| options.load);
        let phase = Phase {
            leaving: is.leaving(was, old.leaving, begun),
            load: load.map(|load| seen.settings.load.read(old.load, load)),
        };
        let phase = (phase != Phase::default()).then_some(phase);
        self.phases.shards.set(&entry.key, cluster, phase);
    }

    fn forget(&mut self, cluster: &Label) {
        let all = self.phases.shards.iter();
        let of: Vec<_> =
            all.filter(|(_, name, _)| *name == cluster).map(|(k, ..)| k.clone()).collect();
        for key in &of {
            self.phases.shards.set(key, cluster, None);
        }
    }
}

fn find<'v>(view: &'v ClusterView, like: &ShardEntry) -> Option<&'v ShardEntry> {
    view.shards.find(like.hash).find(|entry| entry.key == like.key)
}

fn cluster_pull(member: &Member, seen: &Seen<'_>) -> Pull {
    let own = member.force.as_ref().filter(|force| force.in_force(seen.now));
    let force = seen.overrides.of_cluster(&member.name, seen.now).or(own);
    Pull::of(force.map(|force| &**force), member.drain)
}

fn pull(overrides: &Overrides, cluster: &Label, entry: &ShardEntry, now: u64) -> Pull {
    let options = entry.shard.options();
    let own = options.and_then(|options| options.force.as_ref()).filter(|f| f.in_force(now));
    let force = overrides.of_shard(&entry.key, cluster, now).or(own);
    Pull::of(force.map(|force| &**force), options.map_or(Drain::No, |options| options.drain))
}

#[cfg(test)]
mod tests;
