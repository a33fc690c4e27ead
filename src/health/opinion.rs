//! What is known of single shards beside what their own clusters say of them.

use std::fmt;
use std::sync::Arc;

use super::suspicion::{Suspicion, Witness, write_witnesses};
use crate::model::{Buckets, Keyed, Label, ServiceKey, differing};

/// Values for a few of all shards, found by service and by the *name* of the cluster: a reload that
/// moves the ids of clusters changes nothing here. Shared by bucket between generations, so that
/// what changed is found by comparing pointers; one changed value replaces one bucket.
#[derive(Clone, Debug)]
pub struct PerShard<T>(Buckets<OfService<T>>);

/// The values of one service's shards.
#[derive(Clone, Debug)]
struct OfService<T> {
    key: ServiceKey,
    hash: u64,
    /// In the order of their names; at least one.
    shards: Box<[(Label, T)]>,
}

impl<T> Keyed for OfService<T> {
    fn hash(&self) -> u64 {
        self.hash
    }
}

impl<T> Default for PerShard<T> {
    fn default() -> Self {
        Self(Buckets::default())
    }
}

impl<T> PerShard<T> {
    /// The values of a service, by cluster, in the order of the names.
    #[must_use]
    pub fn of(&self, key: &ServiceKey) -> &[(Label, T)] {
        let mut found = self.0.find(key.hash());
        found.find(|service| service.key == *key).map_or(&[], |service| &service.shards)
    }

    /// The value of the shard of a service in a cluster.
    #[must_use]
    pub fn get(&self, key: &ServiceKey, cluster: &Label) -> Option<&T> {
        let shards = self.of(key);
        let at = shards.binary_search_by(|(name, _)| name.cmp(cluster)).ok()?;
        Some(&shards[at].1)
    }

    /// Every value.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceKey, &Label, &T)> {
        self.0.iter().flat_map(|service| {
            service.shards.iter().map(|(cluster, value)| (&service.key, cluster, value))
        })
    }

    /// Whether a bucket, as of [`crate::model::bucket_of`], is the very same in both.
    #[must_use]
    pub fn same(&self, other: &Self, bucket: usize) -> bool {
        self.0.same(&other.0, bucket)
    }

    /// The buckets that differ between two.
    pub fn changed<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        self.0.changed(&other.0)
    }

    /// Whether nothing is known of any shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> PerShard<T> {
    /// The hashes of the services of a bucket of which other values are known in `other`, as `same`
    /// tells of two.
    pub fn differing<'a>(
        &'a self,
        other: &'a Self,
        bucket: usize,
        same: impl Fn(&T, &T) -> bool + 'a,
    ) -> impl Iterator<Item = u64> + 'a {
        let alike =
            move |((a, old), (b, new)): (&(Label, T), &(Label, T))| a == b && same(old, new);
        let same = move |a: &OfService<T>, b: &OfService<T>| {
            let shards = a.shards.iter().zip(&b.shards);
            a.key == b.key && a.shards.len() == b.shards.len() && shards.into_iter().all(&alike)
        };
        differing(self.0.bucket(bucket), other.0.bucket(bucket), same)
    }
}

impl<T: Clone + PartialEq> PerShard<T> {
    /// Sets the value of one shard, or takes it away; says whether that changed anything. What is
    /// equal to what was there keeps its bucket's pointer.
    pub fn set(&mut self, key: &ServiceKey, cluster: &Label, value: Option<T>) -> bool {
        if self.get(key, cluster) == value.as_ref() {
            return false;
        }
        let others = self.of(key).iter().filter(|(name, _)| name != cluster).cloned();
        let mut shards: Vec<_> =
            others.chain(value.map(|value| (cluster.clone(), value))).collect();
        shards.sort_by(|(a, _), (b, _)| a.cmp(b));
        let hash = key.hash();
        let same = |old: &OfService<T>| old.key == *key;
        if shards.is_empty() {
            self.0.remove(hash, same);
        } else {
            let service = OfService { key: key.clone(), hash, shards: shards.into() };
            self.0.upsert(service, same);
        }
        true
    }
}

/// What is seen of all shards from outside of their clusters.
pub type Opinions = PerShard<Opinion>;

/// What is seen of one shard from outside of its cluster, after damping and votes. The default is
/// that of a shard of which nothing is known: such need not be among the [`Opinions`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opinion {
    /// What the active checks of its addresses say.
    pub check: Checked,
    /// The load that its checks bring, where they bring any.
    pub load: Option<Load>,
    /// Whether it may change soon: someone sees it failing, it has failed too few times to be out,
    /// or it has just changed. The TTL is lowered meanwhile.
    pub unsettled: bool,
    /// Who sees it failing, where that does not take it out, or not yet.
    pub suspicion: Option<Arc<Suspicion>>,
}

impl Opinion {
    /// Whether a shard is judged alike by both: who sees it failing and how is for people alone.
    #[must_use]
    pub fn weighs_like(&self, other: &Self) -> bool {
        let Self { check, load, unsettled, suspicion: _ } = self;
        let same_check = match (check, &other.check) {
            (Checked::Failing(one), Checked::Failing(other)) => one.held == other.held,
            (one, other) => one == other,
        };
        same_check && *load == other.load && *unsettled == other.unsettled
    }
}

/// What active checks say of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Checked {
    /// Nothing: it is not checked, or too little is known yet.
    #[default]
    NotChecked,
    /// It answers.
    Passing,
    /// It does not and is voted down, or it is held back for having done so.
    Failing(Arc<Failure>),
}

/// Why a shard is voted down.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Unix time, seconds, from which on it is.
    pub since: u64,
    /// What its checks see.
    pub why: Arc<str>,
    /// The clusters that see it, in the order of their names, and their instances.
    pub seen_by: Arc<[Witness]>,
    /// Whether it is seen well again, and only held back because it has come and gone.
    pub held: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its checks fail: {}", self.why)?;
        write_witnesses(f, &self.seen_by)
    }
}

/// A published load, from 0 to 1, by whether it is over the limit, hysteresis applied. The figure is
/// the one with which it last came over or below: were it the newest, every reading would be a
/// change of what is answered.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Load {
    /// Not over it.
    Within(f64),
    /// Over it: the shard is avoided while another is neither unhealthy nor over its limit.
    Over(f64),
}

/// When a shard counts as overloaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadLimit {
    /// The load from which on it does, 0 to 1.
    pub limit: f64,
    /// How far the load must fall below the limit until it does no more, 0 to `limit`.
    pub hysteresis: f64,
}

impl Default for LoadLimit {
    /// Nine tenths leave room for what comes between two readings; a tenth is more than a load
    /// trembles, and less than what it takes for one cluster to take over from another.
    fn default() -> Self {
        Self { limit: 0.9, hysteresis: 0.1 }
    }
}

impl LoadLimit {
    /// The load after another reading: what it was where that has not come over or fallen below.
    #[must_use]
    pub fn read(&self, before: Option<Load>, load: f64) -> Load {
        match before {
            Some(over @ Load::Over(_)) if load > self.limit - self.hysteresis => over,
            Some(within @ Load::Within(_)) if load < self.limit => within,
            _ if load >= self.limit => Load::Over(load),
            _ => Load::Within(load),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::bucket_of;

    fn label(text: &str) -> Label {
        Label::parse(text).expect("a label")
    }

    #[test]
    fn one_value_changes_one_bucket_and_an_equal_one_none() {
        let key = |name: &str| ServiceKey::new(&label("ns"), &label(name));
        let (web, api) = (key("web"), key("api"));
        let mut first = PerShard::default();
        assert!(first.set(&web, &label("b"), Some(1)) && first.set(&web, &label("a"), Some(2)));
        let mut second = first.clone();
        assert!(!second.set(&web, &label("a"), Some(2)) && !second.set(&api, &label("a"), None));
        assert!(second.same(&first, bucket_of(web.hash())), "nothing has changed");
        assert!(second.set(&api, &label("a"), Some(3)));
        assert!(second.same(&first, bucket_of(web.hash())));
        assert!(!second.same(&first, bucket_of(api.hash())));
        let all: Vec<_> =
            first.iter().map(|(_, cluster, value)| (cluster.as_str(), *value)).collect();
        assert_eq!(all, [("a", 2), ("b", 1)]);
        assert_eq!(
            (second.get(&api, &label("a")), second.get(&api, &label("b"))),
            (Some(&3), None)
        );
        assert!(first.set(&web, &label("a"), None) && first.set(&web, &label("b"), None));
        assert!(first.is_empty());
    }

    #[test]
    fn failures_are_told_with_those_who_see_them() {
        let witness = |name: &&str| Witness::new(label(name), ["m-0"]);
        let seen_by = |names: &[&str]| names.iter().map(witness).collect();
        let told = |names: &[&str]| {
            let (why, seen_by) = ("refused".into(), seen_by(names));
            Failure { since: 0, why, seen_by, held: false }.to_string()
        };
        assert_eq!(told(&[]), "its checks fail: refused");
        assert_eq!(told(&["a", "b"]), "its checks fail: refused (seen by a: m-0; b: m-0)");
    }

    proptest! {
        /// Once over the limit, a load that stays within the hysteresis changes nothing.
        #[test]
        fn loads_that_tremble_change_nothing(
            (limit, hysteresis) in (0.0f64..=1.0).prop_flat_map(|l| (Just(l), 0.0..=l)),
            loads in proptest::collection::vec(0.0f64..=1.0, 1..50),
        ) {
            let limits = LoadLimit { limit, hysteresis };
            let mut state = None;
            for load in loads {
                let next = limits.read(state, load);
                match (state, next) {
                    (Some(Load::Over(_)), Load::Within(_)) => prop_assert!(load <= limit - hysteresis),
                    (Some(Load::Within(_)) | None, Load::Over(_)) => prop_assert!(load >= limit),
                    (Some(before), after) => prop_assert_eq!(before, after),
                    (None, Load::Within(_)) => prop_assert!(load < limit),
                }
                state = Some(next);
            }
        }
    }
}
