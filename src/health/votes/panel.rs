//! From what instances see to what is shown: the council's votes, damped. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ballot::{Ballot, Sights};
use super::council::{Council, Decision, Electorate, Findings, Tally};
use super::damper::{Damper, Damping, Seen};
use crate::health::{Failure, Lacking, Now, Suspicion};
use crate::model::{Label, ServiceKey};

/// By what is decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Who decides.
    pub electorate: Electorate,
    /// How long a ballot counts that is not renewed.
    pub lease: Duration,
    /// How fast shards may come and go.
    pub damping: Damping,
}

/// How it is decided at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// By the votes.
    #[default]
    Deciding,
    /// Not: too few voters are heard, and what was decided before stays.
    Frozen,
    /// Every cluster is seen failing, so the fault is taken for ours: nothing is out by checks.
    FailStatic,
    /// Not, and before every cluster was seen failing: nothing is out by checks, and that stays.
    #[serde(rename = "frozen")]
    FrozenStatic,
}

impl Mode {
    /// Every mode with a word of its own.
    pub const ALL: [Self; 3] = [Self::Deciding, Self::Frozen, Self::FailStatic];

    /// The mode as a word, in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Deciding => "deciding",
            Self::Frozen | Self::FrozenStatic => "frozen",
            Self::FailStatic => "fail_static",
        }
    }

    /// Whether nothing is decided for want of voters.
    #[must_use]
    pub fn is_frozen(self) -> bool {
        matches!(self, Self::Frozen | Self::FrozenStatic)
    }

    /// Whether what every cluster suffers is taken for a fault of ours.
    #[must_use]
    pub fn is_fail_static(self) -> bool {
        matches!(self, Self::FailStatic | Self::FrozenStatic)
    }

    /// What it is where too few voters are heard from now on: what was decided stays.
    fn frozen(self) -> Self {
        if self.is_fail_static() { Self::FrozenStatic } else { Self::Frozen }
    }
}

/// What is decided of all shards and clusters. What changes is told by [`Self::decide`] and
/// [`Self::due`]; then each of these shards is asked for with [`Self::shard`], at once, or, where
/// nothing is shown of it, goes through [`Self::pass`].
#[derive(Debug)]
pub struct Panel {
    rules: Rules,
    council: Council,
    findings: Findings,
    mode: Mode,
    clusters: BTreeMap<Label, Held>,
    /// Those that have been out and are not forgotten.
    shards: HashMap<Label, HashMap<ServiceKey, Held>>,
    /// When time alone may change one of them; those that hold no more are passed over.
    deadlines: BinaryHeap<Reverse<(Instant, Label, ServiceKey)>>,
}

/// Something that is or was out.
#[derive(Debug, Default)]
struct Held {
    damper: Damper,
    failure: Option<Arc<Failure>>,
    deadline: Option<Instant>,
}

/// What is shown of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Why it is out, where it is.
    pub failing: Option<Arc<Failure>>,
    /// Whether that may change soon, or has just changed.
    pub unsettled: bool,
    /// By whom it is seen failing, where it is not out for that.
    pub suspicion: Option<Suspicion>,
}

/// What may be shown differently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Clusters with all their shards.
    pub clusters: BTreeSet<Label>,
    /// Single shards.
    pub shards: BTreeSet<(Label, ServiceKey)>,
}

impl Panel {
    /// A panel that has heard nobody and holds nothing for failing.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            council: Council::default(),
            findings: Findings::default(),
            mode: Mode::default(),
            clusters: BTreeMap::new(),
            shards: HashMap::new(),
            deadlines: BinaryHeap::new(),
        }
    }

    /// Decides by other rules from the next decision on.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// By what is decided.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How it is decided since the last decision.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Takes in the ballots of all others that can be read at `now`.
    pub fn hear<'b>(&mut self, ballots: impl IntoIterator<Item = &'b Arc<Ballot>>, now: Instant) {
        self.council.hear(ballots, self.rules.lease, now);
    }

    /// The ballots of others that count at `now`.
    pub fn alive(&self, now: Instant) -> impl Iterator<Item = &Arc<Ballot>> {
        self.council.alive(self.rules.lease, now)
    }

    /// Counts the votes at `now`: `own` is what this instance sees, `all` are the clusters that
    /// would have to fail for the fault to be ours.
    pub fn decide(&mut self, own: &Sights, all: &BTreeSet<Label>, now: Now) -> Touched {
        let Rules { electorate, lease, damping } = &self.rules;
        let mut mode = self.mode.frozen();
        let mut touched = Touched::default();
        if let Decision::Taken(findings) = self.council.decide(own, electorate, *lease, now.instant)
        {
            touched.differences(&self.findings, &findings);
            self.findings = findings;
            let seen = self.findings.clusters.keys().cloned();
            for name in seen.chain(self.clusters.keys().cloned()).collect::<BTreeSet<_>>() {
                let tally = self.findings.clusters.get(&name);
                let held = self.clusters.entry(name).or_default();
                held.see(tally, damping, now);
            }
            self.clusters.retain(|_, held| !held.damper.is_fresh());
            // What is agreed now: one that is only held back is seen well.
            let fails = |name| self.findings.clusters.get(name).is_some_and(|tally| tally.agreed);
            mode = match !all.is_empty() && all.iter().all(fails) {
                true => Mode::FailStatic,
                false => Mode::Deciding,
            };
        }
        let moved = mode != self.mode;
        if moved {
            self.mode = mode;
            touched.everything(&self.findings);
        }
        // Those that are remembered, whether anyone checks them now or not.
        for (name, shards) in &self.shards {
            if moved || touched.clusters.contains(name) {
                touched.shards.extend(shards.keys().map(|key| (name.clone(), key.clone())));
            }
        }
        touched
    }

    /// The shards of which time alone may have changed what is shown, at `now`.
    pub fn due(&mut self, now: Instant) -> Vec<(Label, ServiceKey)> {
        let mut due = Vec::new();
        while let Some(Reverse((at, ..))) = self.deadlines.peek()
            && *at <= now
        {
            let Some(Reverse((at, cluster, key))) = self.deadlines.pop() else { break };
            let held = self.shards.get_mut(&cluster).and_then(|shards| shards.get_mut(&key));
            if let Some(held) = held.filter(|held| held.deadline == Some(at)) {
                held.deadline = None;
                due.push((cluster, key));
            }
        }
        due
    }

    /// What is shown of a shard from `now` on.
    pub fn shard(&mut self, cluster: &Label, key: &ServiceKey, now: Now) -> Shown {
        let damping = &self.rules.damping;
        let tally = self.findings.shard(cluster, key);
        let suspicion = tally.map(|tally| self.suspicion(tally));
        let suspected = tally.is_some();
        let ill = tally.is_some_and(|tally| tally.agreed) && self.mode == Mode::Deciding;
        let held = self.shards.get_mut(cluster).and_then(|shards| shards.get_mut(key));
        let held = match held {
            Some(held) => held,
            None if ill => {
                self.shards.entry(cluster.clone()).or_default().entry(key.clone()).or_default()
            }
            None => return Shown { failing: None, unsettled: suspected, suspicion },
        };
        if self.mode == Mode::Deciding {
            held.see(tally, damping, now);
        }
        let down = held.damper.is_down();
        let failing = held.failure.clone().filter(|_| !self.mode.is_fail_static());
        let shown = Shown {
            suspicion: suspicion.filter(|_| failing.is_none()),
            failing,
            unsettled: suspected != down || held.damper.is_recovering(damping, now.instant),
        };
        let deadline = held.damper.deadline(damping, now.instant);
        if deadline != held.deadline {
            held.deadline = deadline;
            let entry = deadline.map(|at| Reverse((at, cluster.clone(), key.clone())));
            self.deadlines.extend(entry);
        }
        if held.damper.is_fresh() {
            self.forget(cluster, key);
        }
        shown
    }

    /// Lets time go by until `now` for a shard of which nothing is to be shown at the moment.
    pub fn pass(&mut self, cluster: &Label, key: &ServiceKey, now: Now) {
        if self.shards.get(cluster).is_some_and(|shards| shards.contains_key(key)) {
            self.shard(cluster, key, now);
        }
    }

    /// Forgets a shard that is there no more, or checked no more.
    pub fn forget(&mut self, cluster: &Label, key: &ServiceKey) {
        if let Some(shards) = self.shards.get_mut(cluster) {
            shards.remove(key);
            if shards.is_empty() {
                self.shards.remove(cluster);
            }
        }
    }

    /// Why a cluster as a whole is seen failing, where that is agreed; also while the fault is
    /// taken for ours.
    #[must_use]
    pub fn cluster(&self, cluster: &Label) -> Option<&Arc<Failure>> {
        self.clusters.get(cluster)?.failure.as_ref()
    }

    /// The clusters that as a whole are seen failing, where that is agreed.
    pub fn clusters(&self) -> impl Iterator<Item = (&Label, &Arc<Failure>)> {
        self.clusters.iter().filter_map(|(name, held)| Some((name, held.failure.as_ref()?)))
    }

    /// The clusters that as a whole are seen failing by someone, but not out for it.
    pub fn suspected_clusters(&self) -> impl Iterator<Item = (&Label, Suspicion)> {
        let seen = self.findings.clusters.iter();
        let others = seen.filter(|(name, _)| self.cluster(name).is_none());
        others.map(|(name, tally)| (name, self.suspicion(tally)))
    }

    /// What is told of something that is seen failing and not out.
    fn suspicion(&self, tally: &Tally) -> Suspicion {
        let needed = self.rules.electorate.needed().unwrap_or(usize::MAX);
        let lacking = match (self.mode, tally.agreed) {
            (Mode::Frozen | Mode::FrozenStatic, _) => Lacking::Hearing,
            (Mode::FailStatic, true) => Lacking::Fault,
            (Mode::Deciding, true) => Lacking::LeastTime,
            (_, false) => Lacking::Votes { counted: tally.seen_by.len(), needed },
        };
        let Tally { since, why, seen_by, .. } = tally;
        Suspicion { since: *since, why: why.clone(), seen_by: seen_by.clone(), lacking }
    }

    /// Whether anything in a cluster is seen failing by anyone, or was.
    #[must_use]
    pub fn is_suspected(&self, cluster: &Label) -> bool {
        self.findings.clusters.contains_key(cluster)
            || self.findings.shards.contains_key(cluster)
            || self.clusters.contains_key(cluster)
            || self.shards.contains_key(cluster)
    }

    /// When time alone may next change anything; later than `now`.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let damping = &self.rules.damping;
        let clusters = self.clusters.values();
        let clusters = clusters.filter_map(|held| held.damper.deadline(damping, now)).min();
        let shards = self.deadlines.peek().map(|Reverse((at, ..))| *at);
        let lease = self.council.deadline(self.rules.lease, now);
        [clusters, shards, lease].into_iter().flatten().min()
    }
}

impl Held {
    /// Takes in the votes of this moment.
    fn see(&mut self, tally: Option<&Tally>, damping: &Damping, now: Now) {
        let agreed = tally.filter(|tally| tally.agreed);
        let seen = if agreed.is_some() { Seen::Ill } else { Seen::Well };
        self.damper.see(seen, damping, now.instant);
        if !self.damper.is_down() {
            self.failure = None;
            return;
        }
        let since = self.failure.as_ref().map_or(now.unix, |failure| failure.since);
        let (why, seen_by) = match (agreed, self.damper.held(damping)) {
            (Some(tally), _) => (tally.why.clone(), tally.seen_by.clone()),
            (None, held) => {
                let held = held.unwrap_or_default();
                let why = format!("it has come and gone, and must first answer for {held:?}");
                (why.into(), Arc::default())
            }
        };
        let held = agreed.is_none();
        // The reason of the moment when it fell stays, unless others see it now.
        let same = |failure: &Arc<Failure>| failure.seen_by == seen_by && failure.held == held;
        if !self.failure.as_ref().is_some_and(same) {
            self.failure = Some(Arc::new(Failure { since, why, seen_by, held }));
        }
    }
}

impl Touched {
    /// Adds everything of which two findings differ.
    fn differences(&mut self, old: &Findings, new: &Findings) {
        let clusters = old.clusters.keys().chain(new.clusters.keys());
        let differ = |name: &&Label| old.clusters.get(*name) != new.clusters.get(*name);
        self.clusters.extend(clusters.filter(differ).cloned());
        let none = BTreeMap::new();
        let of = |findings: &'_ Findings, name: &Label| findings.shards.get(name).cloned();
        for name in old.shards.keys().chain(new.shards.keys()).collect::<BTreeSet<_>>() {
            let (before, after) = (of(old, name), of(new, name));
            let (before, after) =
                (before.as_ref().unwrap_or(&none), after.as_ref().unwrap_or(&none));
            let keys = before.keys().chain(after.keys());
            let changed = keys.filter(|key| before.get(*key) != after.get(*key));
            self.shards.extend(changed.map(|key| (name.clone(), key.clone())));
        }
    }

    /// Adds everything that is seen failing.
    fn everything(&mut self, findings: &Findings) {
        self.clusters.extend(findings.clusters.keys().cloned());
        let shards = findings.shards.iter();
        self.shards.extend(
            shards.flat_map(|(name, keys)| keys.keys().map(|key| (name.clone(), key.clone()))),
        );
    }
}

#[cfg(test)]
mod tests;
