//! Which targets speak for which shards, and what they say. Pure.
//!
//! A target that several shards have in common is probed once. What changes of a cluster's shards
//! is found by the pointers of its buckets, so that one changed service does not walk them all.
//! Where a shard is asked in another way than before, what was said of it stands until the new way
//! has spoken.

mod probes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::health::check::{self, Report, Target};
use crate::health::votes::{Sight, Sights};
use crate::health::{self, Checks, Exclusion, Lacking};
use crate::model::{AddressList, BUCKETS, ClusterView, Label, Member, ServiceKey, bucket_of};
use crate::snapshot::Federation;
pub(super) use probes::ProbeId;
use probes::Probes;

/// How closely the shards of a cluster are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Level {
    /// Not at all.
    #[default]
    Left,
    /// It is known which can be checked: others have voted on the whole cluster.
    Listed,
    /// They are checked.
    Probed,
}

/// What the checks of this instance say of a shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Local {
    pub(super) seen: LocalSeen,
    /// Whether that may change with the next outcome.
    pub(super) wavering: bool,
    /// The highest that any of its targets told.
    pub(super) load: Option<f64>,
    /// What fails of it, where it does not fail as a whole.
    pub(super) doubt: Option<Doubt>,
}

/// A target that fails while its shard does not.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Doubt {
    pub(super) sight: Sight,
    /// What is lacking for the shard to fail.
    pub(super) lacking: Lacking,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum LocalSeen {
    #[default]
    Nothing,
    /// None of its targets can be asked from here.
    Unable,
    Well,
    Failing(Sight),
}

/// A shard by cluster and service.
pub(super) type ShardName = (Label, ServiceKey);

/// All shards that can be checked.
#[derive(Debug, Default)]
pub(super) struct Roster {
    numbers: HashMap<Label, usize>,
    clusters: Vec<Cluster>,
    probes: Probes,
    dirty: BTreeSet<Place>,
    /// Those that are there no more.
    gone: Vec<ShardName>,
}

/// A bucket of a cluster.
type Place = (usize, usize);

#[derive(Debug)]
struct Cluster {
    name: Label,
    level: Level,
    /// What its entries were made from.
    made_from: Option<(Arc<ClusterView>, Arc<Federation>)>,
    buckets: Vec<Vec<Entry>>,
    checked: usize,
    /// Of these, those of which nothing is known yet.
    unknown: usize,
    /// Of these, those that cannot be checked from here: they count as not checked.
    unable: usize,
    failing: BTreeMap<ServiceKey, Sight>,
    /// Whether something has been known of all of them at once. New ones do not undo it: they have
    /// been seen by nobody else either.
    judged: bool,
}

#[derive(Debug)]
struct Entry {
    key: ServiceKey,
    /// What its probes ask.
    addresses: AddressList,
    probes: Box<[ProbeId]>,
    local: Local,
    /// What was said of it by other probes at the same addresses: it stands until these have
    /// spoken.
    held: Option<Local>,
    /// Whether it has been told of since it was made.
    told: bool,
}

impl Roster {
    /// Follows `member`, which has `view`, at `level` from now on.
    pub(super) fn follow(
        &mut self,
        member: &Member,
        level: Level,
        view: &Arc<ClusterView>,
        federation: &Arc<Federation>,
    ) {
        let number = self.number(&member.name);
        let cluster = &mut self.clusters[number];
        let made_from = cluster.made_from.replace((view.clone(), federation.clone()));
        let all = cluster.level != level
            || made_from.as_ref().is_none_or(|(_, old)| !Arc::ptr_eq(old, federation));
        if !all && made_from.as_ref().is_some_and(|(old, _)| Arc::ptr_eq(old, view)) {
            return;
        }
        cluster.level = level;
        if all {
            // By another check, targets begin anew, and so may all that is known.
            cluster.judged = false;
        }
        if level == Level::Left {
            return self.leave(number);
        }
        cluster.buckets.resize_with(BUCKETS, Vec::new);
        let known = made_from.filter(|_| !all);
        let changed: Vec<usize> = match &known {
            Some((old, _)) => old.shards.changed(&view.shards).collect(),
            None => (0..BUCKETS).collect(),
        };
        for bucket in changed {
            let entries = self.entries((number, bucket), member, view, &federation.health);
            self.replace((number, bucket), entries);
        }
    }

    /// Follows only clusters for which `registered` holds.
    pub(super) fn retain(&mut self, registered: impl Fn(&Label) -> bool) {
        for number in 0..self.clusters.len() {
            if !registered(&self.clusters[number].name) {
                self.leave(number);
            }
        }
    }

    fn leave(&mut self, number: usize) {
        let buckets = self.clusters[number].buckets.len();
        for bucket in 0..buckets {
            self.replace((number, bucket), Vec::new());
        }
        let cluster = &mut self.clusters[number];
        cluster.buckets = Vec::new();
        (cluster.level, cluster.made_from, cluster.judged) = (Level::Left, None, false);
    }

    fn number(&mut self, name: &Label) -> usize {
        *self.numbers.entry(name.clone()).or_insert_with(|| {
            self.clusters.push(Cluster::new(name.clone()));
            self.clusters.len() - 1
        })
    }

    /// The shards of a bucket that can be checked. One without ready endpoints need not answer; one
    /// that is drained still has to, as a planned drain lets it be served for a while.
    fn entries(
        &mut self,
        place: Place,
        member: &Member,
        view: &ClusterView,
        settings: &health::Settings,
    ) -> Vec<Entry> {
        let probed = self.clusters[place.0].level == Level::Probed;
        let mut entries = Vec::new();
        for entry in view.shards.bucket(place.1) {
            let judged = health::judge(&entry.shard, settings);
            if matches!(judged, Err(Exclusion::NoAddress | Exclusion::NotReady { .. })) {
                continue;
            }
            let targets = check::targets(&entry.shard, &settings.checks, member);
            if targets.is_empty() {
                continue;
            }
            let probes = match probed {
                true => targets.into_iter().map(|t| self.probes.acquire(t, place)).collect(),
                false => Box::default(),
            };
            entries.push(Entry {
                key: entry.key.clone(),
                addresses: entry.shard.addresses.clone(),
                probes,
                local: Local::default(),
                held: None,
                told: false,
            });
        }
        entries
    }

    fn replace(&mut self, place: Place, mut entries: Vec<Entry>) {
        let cluster = &mut self.clusters[place.0];
        let old = std::mem::take(&mut cluster.buckets[place.1]);
        for entry in &mut entries {
            let before = old.iter().find(|before| before.key == entry.key);
            entry.held = before.filter(|before| entry.inherits(before)).map(|b| b.local.clone());
        }
        cluster.buckets[place.1] = entries;
        let new = &cluster.buckets[place.1];
        cluster.checked = cluster.checked + new.len() - old.len();
        cluster.unknown += new.len();
        for entry in old {
            entry.probes.iter().for_each(|id| self.probes.release(*id));
            cluster.forget(&entry);
            if !cluster.buckets[place.1].iter().any(|new| new.key == entry.key) {
                self.gone.push((cluster.name.clone(), entry.key));
            }
        }
        self.dirty.insert(place);
    }

    /// The targets that have come since this was last asked.
    pub(super) fn fresh(&mut self) -> Vec<ProbeId> {
        self.probes.fresh()
    }

    /// A target; `None` where no shard has it any more.
    pub(super) fn target(&self, id: ProbeId) -> Option<&Arc<Target>> {
        self.probes.target(id)
    }

    /// How many targets there are.
    pub(super) fn targets(&self) -> usize {
        self.probes.len()
    }

    /// Takes in how a check ended at `unix`, Unix time in seconds.
    pub(super) fn report(&mut self, id: ProbeId, report: &Report, unix: u64) {
        self.dirty.extend(self.probes.report(id, report, unix));
    }

    /// Whether [`Self::settle`] has anything to do.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.gone.is_empty()
    }

    /// Brings what is said of shards up to date: first those of which something else is said than
    /// before or that are new, then those that are there no more.
    pub(super) fn settle(&mut self) -> (Vec<ShardName>, Vec<ShardName>) {
        let mut changed = Vec::new();
        for (number, bucket) in std::mem::take(&mut self.dirty) {
            let cluster = &mut self.clusters[number];
            let mut entries = match cluster.buckets.get_mut(bucket) {
                Some(entries) => std::mem::take(entries),
                None => continue,
            };
            for entry in &mut entries {
                let local = entry.told_by(&self.probes);
                if local != entry.local || !entry.told {
                    entry.told = true;
                    cluster.take(entry, local);
                    changed.push((cluster.name.clone(), entry.key.clone()));
                }
            }
            cluster.buckets[bucket] = entries;
        }
        for cluster in self.clusters.iter_mut().filter(|c| c.level == Level::Probed) {
            cluster.judged |= cluster.speakers() > 0 && cluster.unknown == 0;
        }
        (changed, std::mem::take(&mut self.gone))
    }

    /// What is said of a shard; `None` where it cannot be checked or its cluster is left alone.
    pub(super) fn local(&self, cluster: &Label, key: &ServiceKey) -> Option<&Local> {
        let cluster = self.cluster(cluster)?;
        let bucket = cluster.buckets.get(bucket_of(key.hash()))?;
        bucket.iter().find(|entry| entry.key == *key).map(|entry| &entry.local)
    }

    /// The shards of a cluster that can be checked.
    pub(super) fn shards(&self, cluster: &Label) -> impl Iterator<Item = &ServiceKey> {
        let entries = self.cluster(cluster).into_iter().flat_map(|c| c.buckets.iter().flatten());
        entries.map(|entry| &entry.key)
    }

    /// What is said of a cluster as a whole.
    pub(super) fn checks(&self, cluster: &Label) -> Checks {
        match self.cluster(cluster) {
            Some(cluster) if cluster.fails() => Checks::Failing,
            Some(cluster) if cluster.is_answering() => Checks::Answering,
            _ => Checks::Unknown,
        }
    }

    /// Whether any shard of a cluster is checked, and can be from here.
    pub(super) fn is_probed(&self, cluster: &Label) -> bool {
        self.cluster(cluster).is_some_and(|c| c.level == Level::Probed && c.speakers() > 0)
    }

    /// Whether something is known, or has been, of every shard that is checked.
    pub(super) fn is_judged(&self) -> bool {
        let mut probed = self.clusters.iter().filter(|c| c.level == Level::Probed);
        probed.all(|cluster| cluster.judged || cluster.unknown == 0)
    }

    /// What this instance sees of all clusters.
    pub(super) fn sights(&self) -> Sights {
        let mut sights = Sights::default();
        for cluster in self.clusters.iter().filter(|c| c.level == Level::Probed) {
            if cluster.judged {
                sights.judged.insert(cluster.name.clone());
            }
            if cluster.fails() {
                // The last one made it the whole.
                let last = cluster.failing.values().max_by_key(|sight| sight.since);
                sights.clusters.extend(last.map(|sight| (cluster.name.clone(), sight.clone())));
            } else if !cluster.failing.is_empty() {
                sights.shards.insert(cluster.name.clone(), cluster.failing.clone());
            }
        }
        sights
    }

    fn cluster(&self, name: &Label) -> Option<&Cluster> {
        self.numbers.get(name).map(|number| &self.clusters[*number])
    }
}

impl Cluster {
    fn new(name: Label) -> Self {
        Self {
            name,
            level: Level::Left,
            made_from: None,
            buckets: Vec::new(),
            checked: 0,
            unknown: 0,
            unable: 0,
            failing: BTreeMap::new(),
            judged: false,
        }
    }

    /// How many shards speak for the cluster, or will.
    fn speakers(&self) -> usize {
        self.checked - self.unable
    }

    fn fails(&self) -> bool {
        self.speakers() > 0 && self.failing.len() == self.speakers()
    }

    fn is_answering(&self) -> bool {
        self.speakers() > self.unknown + self.failing.len()
    }

    /// Counts no more what was said of a shard.
    fn forget(&mut self, entry: &Entry) {
        match &entry.local.seen {
            LocalSeen::Nothing => self.unknown -= 1,
            LocalSeen::Unable => self.unable -= 1,
            LocalSeen::Well => {}
            LocalSeen::Failing(_) => drop(self.failing.remove(&entry.key)),
        }
    }

    fn take(&mut self, entry: &mut Entry, local: Local) {
        self.forget(entry);
        match &local.seen {
            LocalSeen::Nothing => self.unknown += 1,
            LocalSeen::Unable => self.unable += 1,
            LocalSeen::Well => {}
            LocalSeen::Failing(sight) => {
                drop(self.failing.insert(entry.key.clone(), sight.clone()));
            }
        }
        entry.local = local;
    }
}

impl Entry {
    /// Whether what was said of the shard at `before` holds for it until its probes have spoken: it
    /// is asked in another way, but it is at the same addresses.
    fn inherits(&self, before: &Self) -> bool {
        let said = matches!(before.local.seen, LocalSeen::Well | LocalSeen::Failing(_));
        said && !self.probes.is_empty() && self.addresses == before.addresses
    }

    /// What is to be said of the shard now.
    fn told_by(&mut self, probes: &Probes) -> Local {
        let said = probes.say(&self.probes);
        let Some(held) = &self.held else { return said.local };
        let spoken = match (&held.seen, &said.local.seen) {
            (_, LocalSeen::Failing(_)) => true,
            // One pass is enough for what is not known to fail only.
            (LocalSeen::Failing(_), LocalSeen::Well) => said.risen,
            (_, LocalSeen::Well) => true,
            // A fault of ours says nothing.
            (_, LocalSeen::Nothing | LocalSeen::Unable) => false,
        };
        if spoken {
            self.held = None;
            return said.local;
        }
        let (seen, load) = (held.seen.clone(), said.local.load.or(held.load));
        Local { seen, load, ..said.local }
    }
}

#[cfg(test)]
mod tests;
