//! Joins what this instance sees with what is voted: from views, outcomes and ballots to opinions.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::roster::{Level, Local, LocalSeen, ProbeId, Roster, ShardName};
use super::standing::{Progress, Standing};
use super::{Assignment, Attendance, Verdicts};
use crate::health::check::{Report as Probe, Target};
use crate::health::votes::{
    Ballot, Electorate, Mode, Panel, Rules, Seeing, Settings, Sights, Status, Touched, Voting,
};
use crate::health::{
    self, Checked, Checks, Failure, Lacking, LoadLimit, Now, Opinion, Suspicion, Witness,
};
use crate::model::{CheckMode, Label, ServiceKey};
use crate::snapshot::Membership;

/// What is known and what follows from it. Everything that may change something is told to it, then
/// [`Self::settle`] brings all up to date at once.
#[derive(Debug)]
pub(super) struct Desk {
    assignment: Option<Arc<Assignment>>,
    roster: Roster,
    panel: Panel,
    load: LoadLimit,
    /// This instance, where it votes.
    own: Arc<[Witness]>,
    sights: Arc<Sights>,
    verdicts: Verdicts,
    /// What was told before, while that still holds.
    standing: Option<Standing>,
    /// Shards that are seen failing and are not out for it.
    suspects: usize,
    /// Of this run: others see by it that we have begun anew.
    run: u64,
    renewal: u64,
    /// Whether something has been told since all was brought up to date.
    stale: bool,
}

impl Desk {
    /// A desk that knows nothing but what was told before it, at `now`; `run` is another number in
    /// each run of the program.
    pub(super) fn new(run: u64, told: Verdicts, now: Instant) -> Self {
        Self {
            assignment: None,
            roster: Roster::default(),
            panel: Panel::new(rules(&health::Settings::default(), None)),
            load: LoadLimit::default(),
            own: Arc::default(),
            sights: Arc::default(),
            verdicts: Verdicts::default(),
            standing: Standing::new(told, now),
            suspects: 0,
            run,
            renewal: 0,
            stale: false,
        }
    }

    /// Takes in other views, clusters or settings.
    pub(super) fn assign(&mut self, assignment: Arc<Assignment>) {
        let federation = &assignment.federation;
        let registered = (federation.membership == Membership::Known)
            .then(|| federation.members.iter().map(|member| member.name.clone()).collect());
        self.panel.set_rules(rules(&federation.health, registered));
        self.load = federation.health.load;
        let votes = federation.health.votes.iter();
        let own = votes.map(|v| Witness::new(v.cluster.clone(), [v.instance.as_str()]));
        self.own = own.collect();
        self.assignment = Some(assignment);
        self.follow();
        self.stale = true;
    }

    /// Has the roster follow what is assigned, each cluster as closely as it is needed.
    fn follow(&mut self) {
        let Some(assignment) = &self.assignment else { return };
        let federation = &assignment.federation;
        let views = assignment.views.iter().zip(&assignment.lost);
        for (member, (view, lost)) in federation.members.iter().zip(views) {
            let Some(view) = view else { continue };
            let level = match federation.health.checks.mode(member) {
                CheckMode::Off => Level::Left,
                CheckMode::Always => Level::Probed,
                CheckMode::Suspect if *lost => Level::Probed,
                CheckMode::Suspect if self.panel.is_suspected(&member.name) => Level::Listed,
                CheckMode::Suspect => Level::Left,
            };
            self.roster.follow(member, level, view, federation);
        }
        let names: BTreeSet<&Label> = federation.members.iter().map(|m| &m.name).collect();
        self.roster.retain(|name| names.contains(name));
    }

    /// Targets that have come and are to be checked.
    pub(super) fn fresh(&mut self) -> Vec<ProbeId> {
        let fresh = self.roster.fresh();
        if let Some(standing) = &mut self.standing {
            let targets = fresh.iter().filter_map(|id| self.roster.target(*id));
            targets.for_each(|target| standing.wait_for(target));
        }
        fresh
    }

    /// A target; `None` where it is not to be checked any more.
    pub(super) fn target(&self, id: ProbeId) -> Option<&Arc<Target>> {
        self.roster.target(id)
    }

    /// Takes in how a check ended.
    pub(super) fn report(&mut self, id: ProbeId, report: &Probe, now: Now) {
        self.roster.report(id, report, now.unix);
        self.stale |= self.roster.is_dirty();
    }

    /// Takes in the ballots of others, or that time has passed.
    pub(super) fn hear(&mut self, ballots: &[Arc<Ballot>], now: Instant) {
        let own = self.voting().map(|settings| (&settings.cluster, settings.instance.as_str()));
        let of_others = |ballot: &&Arc<Ballot>| own != Some((&ballot.voter, &*ballot.instance));
        let others: Vec<_> = ballots.iter().filter(of_others).cloned().collect();
        self.panel.hear(&others, now);
        self.stale = true;
    }

    /// Notes that time alone may have changed something.
    pub(super) fn wake(&mut self) {
        self.stale = true;
    }

    /// Whether [`Self::settle`] has anything to do.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Brings everything up to date.
    pub(super) fn settle(&mut self, now: Now) {
        self.stale = false;
        let all = self.all();
        let mut touched: BTreeSet<ShardName> = self.drain().collect();
        let sights = self.see(&all);
        if *self.sights != sights {
            self.sights = Arc::new(sights);
            self.renewal += 1;
        }
        let mode = self.panel.mode();
        let voted = self.panel.decide(&self.sights, &all, now);
        if self.panel.mode() != mode {
            // What the ballot says depends on it.
            self.renewal += 1;
        }
        if voted != Touched::default() {
            // What others see of a cluster that is not checked from here counts here too.
            self.follow();
            touched.extend(self.drain());
        }
        for name in &voted.clusters {
            touched.extend(self.roster.shards(name).map(|key| (name.clone(), key.clone())));
        }
        touched.extend(voted.shards);
        touched.extend(self.panel.due(now.instant));
        for (cluster, key) in touched {
            let opinion = self.opinion(&cluster, &key, now);
            let suspected = |opinion: Option<&Opinion>| {
                usize::from(opinion.is_some_and(|opinion| opinion.suspicion.is_some()))
            };
            let opinions = &mut self.verdicts.opinions;
            self.suspects -= suspected(opinions.get(&key, &cluster));
            self.suspects += suspected(opinion.as_ref());
            opinions.set(&key, &cluster, opinion);
        }
        self.verdicts.clusters = Arc::new(self.clusters());
        self.verdicts.failing = Arc::new(self.failing());
        self.verdicts.mode = self.panel.mode();
        if self.panel.mode() != mode {
            self.verdicts.attendance = self.attendance(now.instant);
        }
        let progress = Progress {
            judged: self.roster.is_judged(),
            frozen: self.panel.mode().is_frozen(),
            lease: self.lease(),
        };
        self.standing.take_if(|standing| standing.is_over(progress, now.instant));
    }

    /// The shards of which the roster says something else than before; those that are there no more
    /// are forgotten. One that need not answer for a while, say for want of ready endpoints, keeps
    /// its past.
    fn drain(&mut self) -> impl Iterator<Item = ShardName> + use<> {
        let (changed, gone) = self.roster.settle();
        for (cluster, key) in &gone {
            if !self.is_there(cluster, key) {
                self.panel.forget(cluster, key);
            }
        }
        changed.into_iter().chain(gone)
    }

    /// Whether a shard is there, in a cluster of which any are checked.
    fn is_there(&self, cluster: &Label, key: &ServiceKey) -> bool {
        let Some(assignment) = &self.assignment else { return false };
        let federation = &assignment.federation;
        let mut members = federation.members.iter().zip(&assignment.views);
        let Some((member, Some(view))) = members.find(|(member, _)| member.name == *cluster) else {
            return false;
        };
        federation.health.checks.mode(member) != CheckMode::Off
            && view.shards.find(key.hash()).any(|entry| entry.key == *key)
    }

    /// What follows: after a new beginning what was told before, until as much is known.
    pub(super) fn verdicts(&self) -> &Verdicts {
        self.standing.as_ref().map_or(&self.verdicts, Standing::told)
    }

    /// How long a ballot of others counts, where they vote.
    fn lease(&self) -> Option<Duration> {
        self.voting().map(|settings| settings.lease)
    }

    /// What this instance publishes, where others want to know. While it hears too few of them it
    /// abstains: what it sees from where it is may be its own trouble. That it is there is still
    /// heard, so that those who have all been frozen find each other again.
    pub(super) fn ballot(&self) -> Option<Ballot> {
        let settings = self.voting()?;
        let sights = match self.panel.mode() {
            Mode::Frozen | Mode::FrozenStatic => Arc::default(),
            Mode::Deciding | Mode::FailStatic => self.sights.clone(),
        };
        Some(Ballot {
            voter: settings.cluster.clone(),
            instance: settings.instance.as_str().into(),
            run: self.run,
            renewal: self.renewal,
            sights,
        })
    }

    /// Renews the ballot.
    pub(super) fn renew(&mut self) {
        self.renewal += 1;
    }

    /// When time alone may next change anything; later than `now`.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let standing = self.standing.as_ref().and_then(|s| s.deadline(self.lease(), now));
        self.panel.deadline(now).into_iter().chain(standing).min()
    }

    /// How this instance takes part in votes.
    pub(super) fn voting(&self) -> Option<&Settings> {
        self.assignment.as_ref()?.federation.health.votes.as_ref()
    }

    /// How it all stands, for people.
    pub(super) fn status(&self, now: Instant) -> Status {
        Status {
            mode: self.panel.mode(),
            targets: self.roster.targets(),
            voting: self.voting().map(|settings| self.voters(settings, now)),
            failing_clusters: (*self.verdicts().failing).clone(),
            suspected_clusters: self
                .panel
                .suspected_clusters()
                .map(|(name, suspicion)| (name.clone(), suspicion))
                .collect(),
            suspects: self.suspects,
            faults: BTreeSet::new(),
        }
    }

    /// The clusters that as wholes are agreed to fail.
    fn failing(&self) -> BTreeMap<Label, Arc<Failure>> {
        let failing = self.panel.clusters();
        failing.map(|(name, failure)| (name.clone(), failure.clone())).collect()
    }

    /// Who votes, and who is heard.
    fn attendance(&self, now: Instant) -> Option<Attendance> {
        let voting = self.voters(self.voting()?, now);
        Some(Attendance { heard: voting.heard, voters: voting.voters.len() })
    }

    fn voters(&self, settings: &Settings, now: Instant) -> Voting {
        let electorate = &self.panel.rules().electorate;
        let mut voters: BTreeMap<Label, Vec<Box<str>>> = match electorate {
            Electorate::Voters { all, .. } => {
                all.iter().map(|name| (name.clone(), Vec::new())).collect()
            }
            Electorate::Alone | Electorate::Unknown => BTreeMap::new(),
        };
        let own = (&settings.cluster, settings.instance.as_str());
        let others = self.panel.alive(now).map(|ballot| (&ballot.voter, &*ballot.instance));
        for (voter, instance) in std::iter::once(own).chain(others) {
            if let Some(instances) = voters.get_mut(voter) {
                instances.push(instance.into());
            }
        }
        Voting {
            cluster: settings.cluster.clone(),
            instance: settings.instance.clone(),
            needed: electorate.needed(),
            heard: voters.values().filter(|instances| !instances.is_empty()).count(),
            voters,
        }
    }

    /// The clusters that would all have to be seen failing for the fault to be ours: those that hold
    /// anything, but for those of which neither checks nor an API tell anything.
    fn all(&self) -> BTreeSet<Label> {
        let Some(assignment) = &self.assignment else { return BTreeSet::new() };
        let members = assignment.federation.members.iter().zip(&assignment.views);
        let counted = members.zip(&assignment.lost).filter(|((member, view), lost)| {
            let holds = view.as_ref().is_some_and(|view| !view.shards.is_empty());
            holds && (!**lost || self.roster.is_probed(&member.name))
        });
        counted.map(|((member, _), _)| member.name.clone()).collect()
    }

    /// What is voted: nothing where everything fails, since the fault is then taken for ours.
    fn see(&self, all: &BTreeSet<Label>) -> Sights {
        let sights = self.roster.sights();
        let blind = !all.is_empty() && all.iter().all(|name| sights.clusters.contains_key(name));
        // One that decides for itself has nobody to mislead; its panel takes the fault for ours.
        if blind && self.voting().is_some() { Sights::default() } else { sights }
    }

    /// `None` where there is nothing to tell of a shard.
    fn opinion(&mut self, cluster: &Label, key: &ServiceKey, now: Now) -> Option<Opinion> {
        let Some(local) = self.roster.local(cluster, key) else {
            self.panel.pass(cluster, key, now);
            return None;
        };
        let mut shown = self.panel.shard(cluster, key, now);
        let suspicion = shown.suspicion.take().or_else(|| self.doubt(cluster, key, local));
        let suspicion = suspicion.filter(|_| shown.failing.is_none()).map(Arc::new);
        let before = self.verdicts.opinions.get(key, cluster);
        let doubted = local.wavering || matches!(local.seen, LocalSeen::Failing(_));
        let unsettled = shown.unsettled || (doubted && shown.failing.is_none());
        let check = match (shown.failing, &local.seen) {
            (Some(failure), _) => Checked::Failing(failure),
            (None, LocalSeen::Nothing | LocalSeen::Unable) => Checked::NotChecked,
            (None, LocalSeen::Well | LocalSeen::Failing(_)) => Checked::Passing,
        };
        let load = local.load.map(|load| self.load.read(before.and_then(|b| b.load), load));
        let opinion = Opinion { check, load, unsettled, suspicion };
        (opinion != Opinion::default()).then_some(opinion)
    }

    /// What this instance alone sees failing of a shard, where its voice does not count.
    fn doubt(&self, cluster: &Label, key: &ServiceKey, local: &Local) -> Option<Suspicion> {
        let (sight, lacking) = match (&local.seen, &local.doubt) {
            (LocalSeen::Failing(sight), _) => {
                let voted = matches!(self.sights.shard(cluster, key), Seeing::Failing(_));
                let lacking = match self.panel.mode().is_frozen() {
                    true => Lacking::Hearing,
                    // What is not voted is taken for a fault of ours.
                    false if !voted => Lacking::Fault,
                    false if !self.panel.rules().electorate.has_own() => Lacking::Vote,
                    false => Lacking::Accord,
                };
                (sight, lacking)
            }
            (_, Some(doubt)) => (&doubt.sight, doubt.lacking),
            (_, None) => return None,
        };
        let (since, why, seen_by) = (sight.since, sight.why.clone(), self.own.clone());
        Some(Suspicion { since, why, seen_by, lacking })
    }

    /// What is said of each cluster as a whole.
    fn clusters(&self) -> BTreeMap<Label, Checks> {
        let Some(assignment) = &self.assignment else { return BTreeMap::new() };
        let names = assignment.federation.members.iter().map(|member| &member.name);
        let said = names.map(|name| {
            let said = match self.roster.checks(name) {
                _ if self.panel.cluster(name).is_some() => Checks::Failing,
                // By our own checks, but not enough others see it.
                Checks::Failing => Checks::Unknown,
                said => said,
            };
            (name.clone(), said)
        });
        said.filter(|(_, said)| *said != Checks::Unknown).collect()
    }

    /// How it is decided.
    #[cfg(test)]
    pub(super) fn mode(&self) -> Mode {
        self.panel.mode()
    }
}

fn rules(settings: &health::Settings, registered: Option<BTreeSet<Label>>) -> Rules {
    let (electorate, lease) = match &settings.votes {
        Some(votes) => (votes.electorate(registered), votes.lease),
        None => (Electorate::Alone, Settings::LEASE),
    };
    Rules { electorate, lease, damping: settings.damping.clone() }
}

#[cfg(test)]
mod tests;
