//! From what each instance sees to what is agreed. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ballot::{Ballot, Seeing, Sight, Sights};
use crate::health::Witness;
use crate::model::{Label, ServiceKey};

/// How many of the voting clusters must see something failing for it to be taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quorum {
    /// More than half.
    #[default]
    Majority,
    /// One.
    Any,
    /// Every one.
    All,
    /// So many.
    Count(NonZeroU16),
}

/// Who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Electorate {
    /// This instance, for itself.
    Alone,
    /// These clusters, one vote each, whether they are heard or not.
    Voters {
        /// The one for which this instance votes.
        own: Label,
        /// This instance, by which others know it.
        instance: Label,
        /// All of them.
        all: BTreeSet<Label>,
        /// How many of them it takes.
        quorum: Quorum,
    },
    /// Which clusters vote is not known yet.
    Unknown,
}

impl Electorate {
    /// Whether what this instance sees counts at all.
    #[must_use]
    pub fn has_own(&self) -> bool {
        match self {
            Self::Alone => true,
            Self::Unknown => false,
            Self::Voters { own, all, .. } => all.contains(own),
        }
    }

    /// How many votes it takes; `None` where that is not known.
    #[must_use]
    pub fn needed(&self) -> Option<usize> {
        match self {
            Self::Alone => Some(1),
            Self::Unknown => None,
            Self::Voters { all, quorum, .. } => Some(match quorum {
                Quorum::Majority => majority(all.len()),
                Quorum::Any => 1,
                Quorum::All => all.len().max(1),
                Quorum::Count(count) => usize::from(count.get()),
            }),
        }
    }
}

/// The least that is more than half.
fn majority(of: usize) -> usize {
    of / 2 + 1
}

/// The ballots of other instances, as they are heard.
///
/// A ballot counts while it is renewed: once a second renewal of it has been *seen*, until none has
/// been for the time of a lease on the clock of the reader; then it is as if it were new. So no clock of another machine matters,
/// and what an instance that is gone left behind never votes.
#[derive(Debug, Default)]
pub struct Council {
    heard: BTreeMap<(Label, Box<str>), Heard>,
}

#[derive(Debug)]
struct Heard {
    ballot: Arc<Ballot>,
    /// When it was last seen to be another than before, or first seen at all.
    at: Instant,
    renewed: Renewed,
}

/// Whether a ballot has been seen to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewed {
    NotYet,
    Seen,
}

/// What is agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Fewer than a majority of the voters are heard: what was decided before stays.
    Frozen,
    /// What is seen failing by any voter.
    Taken(Findings),
}

/// What is seen failing, by whom, and whether that is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Whole clusters.
    pub clusters: BTreeMap<Label, Tally>,
    /// Single shards by cluster; those of `clusters` need not be listed.
    pub shards: BTreeMap<Label, BTreeMap<ServiceKey, Tally>>,
}

/// The votes on something that is seen failing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Whether they are enough.
    pub agreed: bool,
    /// The voters that see it failing, one vote each; empty where the instance decides for itself.
    pub seen_by: Arc<[Witness]>,
    /// Unix time, seconds, when the first of them saw it.
    pub since: u64,
    /// What is seen, for people.
    pub why: Arc<str>,
}

impl Findings {
    /// What is seen of a shard: one in a cluster that fails as a whole fails too.
    #[must_use]
    pub fn shard(&self, cluster: &Label, key: &ServiceKey) -> Option<&Tally> {
        let single = self.shards.get(cluster).and_then(|shards| shards.get(key));
        single.or_else(|| self.clusters.get(cluster))
    }
}

/// What one voting cluster sees: its instances that are heard, each by name.
type Voter<'b> = (&'b Label, Vec<(&'b str, &'b Sights)>);

impl Council {
    /// Takes in all ballots that can be read at `now`. One that is gone, or that cannot be read for
    /// a while, is as one that is not renewed.
    pub fn hear<'b>(
        &mut self,
        ballots: impl IntoIterator<Item = &'b Arc<Ballot>>,
        lease: Duration,
        now: Instant,
    ) {
        // Long enough to tell one that is left behind from one that is new.
        let kept = lease.saturating_mul(10);
        self.heard.retain(|_, heard| now.saturating_duration_since(heard.at) < kept);
        for ballot in ballots {
            let id = (ballot.voter.clone(), ballot.instance.clone());
            let count = |ballot: &Ballot| (ballot.run, ballot.renewal);
            let renewed = match self.heard.get(&id) {
                Some(heard) if count(&heard.ballot) == count(ballot) => continue,
                Some(heard) if now.saturating_duration_since(heard.at) < lease => Renewed::Seen,
                // After a gap its instance may be long gone again.
                Some(_) | None => Renewed::NotYet,
            };
            self.heard.insert(id, Heard { ballot: ballot.clone(), at: now, renewed });
        }
    }

    /// The ballots that count at `now`.
    pub fn alive(&self, lease: Duration, now: Instant) -> impl Iterator<Item = &Arc<Ballot>> {
        let counts = move |heard: &&Heard| {
            heard.renewed == Renewed::Seen && now.saturating_duration_since(heard.at) < lease
        };
        self.heard.values().filter(counts).map(|heard| &heard.ballot)
    }

    /// When the next ballot ceases to count, if none is renewed; later than `now`.
    #[must_use]
    pub fn deadline(&self, lease: Duration, now: Instant) -> Option<Instant> {
        let counting = self.heard.values().filter(|heard| heard.renewed == Renewed::Seen);
        counting.filter_map(|heard| heard.at.checked_add(lease)).filter(|end| *end > now).min()
    }

    /// Counts the votes at `now`, `own` being what this instance sees itself.
    #[must_use]
    pub fn decide(
        &self,
        own: &Sights,
        electorate: &Electorate,
        lease: Duration,
        now: Instant,
    ) -> Decision {
        let (name, instance, all) = match electorate {
            Electorate::Unknown => return Decision::Frozen,
            Electorate::Alone => return Decision::Taken(alone(own)),
            Electorate::Voters { own, instance, all, .. } => (own, instance, all),
        };
        let mut voters: BTreeMap<&Label, Vec<(&str, &Sights)>> = BTreeMap::new();
        let others = self.alive(lease, now);
        let others = others.map(|b| (&b.voter, (&*b.instance, &*b.sights)));
        let own = (name, (instance.as_str(), own));
        for (voter, seen) in others.chain([own]).filter(|(voter, _)| all.contains(*voter)) {
            voters.entry(voter).or_default().push(seen);
        }
        if voters.len() < majority(all.len()) {
            return Decision::Frozen;
        }
        let voters: Vec<Voter<'_>> = voters.into_iter().collect();
        Decision::Taken(count(&voters, electorate.needed().unwrap_or(usize::MAX)))
    }
}

/// The findings of one who decides for itself.
fn alone(own: &Sights) -> Findings {
    let nobody: Arc<[Witness]> = Arc::default();
    let tally = |sight: &Sight| Tally {
        agreed: true,
        seen_by: nobody.clone(),
        since: sight.since,
        why: sight.why.clone(),
    };
    let shards = own.shards.iter().map(|(cluster, shards)| {
        (cluster.clone(), shards.iter().map(|(key, sight)| (key.clone(), tally(sight))).collect())
    });
    Findings {
        clusters: own.clusters.iter().map(|(name, sight)| (name.clone(), tally(sight))).collect(),
        shards: shards.collect(),
    }
}

fn count(voters: &[Voter<'_>], needed: usize) -> Findings {
    let mut poll = Poll { needed, seen_by: HashMap::new() };
    let sights = || voters.iter().flat_map(|(_, instances)| instances.iter().map(|(_, s)| *s));
    let mut findings = Findings::default();
    for cluster in sights().flat_map(|sights| sights.clusters.keys()).collect::<BTreeSet<_>>() {
        if let Some(tally) = poll.tally(voters, |sights| sights.cluster(cluster)) {
            findings.clusters.insert(cluster.clone(), tally);
        }
    }
    let mut listed: BTreeMap<&Label, BTreeSet<&ServiceKey>> = BTreeMap::new();
    for (cluster, shards) in sights().flat_map(|sights| &sights.shards) {
        listed.entry(cluster).or_default().extend(shards.keys());
    }
    for (cluster, keys) in listed {
        let tallies = keys.into_iter().filter_map(|key| {
            let tally = poll.tally(voters, |sights| sights.shard(cluster, key))?;
            Some((key.clone(), tally))
        });
        let tallies: BTreeMap<_, _> = tallies.collect();
        if !tallies.is_empty() {
            findings.shards.insert(cluster.clone(), tallies);
        }
    }
    findings
}

/// The places of those who see something failing: of a voter, and of an instance of it.
type Seers = Vec<(usize, usize)>;

/// Counts votes; the same witnesses are kept once, however many shards they see failing.
struct Poll {
    needed: usize,
    seen_by: HashMap<Seers, Arc<[Witness]>>,
}

impl Poll {
    /// The votes on one thing; `None` where no voter sees it failing.
    fn tally<'b>(
        &mut self,
        voters: &[Voter<'b>],
        see: impl Fn(&'b Sights) -> Seeing<'b>,
    ) -> Option<Tally> {
        let (mut votes, mut seers) = (Vec::new(), Seers::new());
        for (place, (_, instances)) in voters.iter().enumerate() {
            let seen = instances.iter().map(|(_, sights)| see(sights));
            votes.extend(vote(place, seen, &mut seers));
        }
        let first = votes.iter().min_by_key(|sight| sight.since)?;
        // Not every instance tells why.
        let told = votes.iter().map(|sight| &sight.why).find(|why| !why.is_empty());
        Some(Tally {
            agreed: votes.len() >= self.needed,
            since: first.since,
            why: told.unwrap_or(&first.why).clone(),
            seen_by: self.witnesses(voters, seers),
        })
    }

    /// Those in these places, by name.
    fn witnesses(&mut self, voters: &[Voter<'_>], seers: Seers) -> Arc<[Witness]> {
        let known = self.seen_by.entry(seers);
        let known = known.or_insert_with_key(|seers| {
            let of_one_voter = seers.chunk_by(|(a, _), (b, _)| a == b);
            let witness = |seers: &[(usize, usize)]| {
                let (name, instances) = &voters[seers[0].0];
                Witness::new((*name).clone(), seers.iter().map(|(_, place)| instances[*place].0))
            };
            of_one_voter.map(witness).collect()
        });
        known.clone()
    }
}

/// The vote of the cluster at `place` by what its instances see: that it fails, where one sees that
/// and none sees it well; those who do are added to `seers`. One that has just started has seen
/// nothing, and is not asked.
fn vote<'b>(
    place: usize,
    instances: impl Iterator<Item = Seeing<'b>>,
    seers: &mut Seers,
) -> Option<&'b Sight> {
    let (mut vote, others) = (None, seers.len());
    for (instance, seeing) in instances.enumerate() {
        match seeing {
            Seeing::Well => {
                seers.truncate(others);
                return None;
            }
            Seeing::Nothing => {}
            Seeing::Failing(sight) => {
                seers.push((place, instance));
                vote = vote.filter(|known: &&Sight| known.since <= sight.since).or(Some(sight));
            }
        }
    }
    vote
}

#[cfg(test)]
mod tests;
