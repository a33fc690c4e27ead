//! From outcomes and ballots to opinions.

use super::*;
use crate::health::votes::{Quorum, Sight};
use crate::model::ClusterView;
use crate::publisher::checks::testing::{
    assignment, at, checked, failed, federation, key, names, passed, shard, view,
};
use crate::snapshot::Federation;
use crate::snapshot::testing::label;

/// A desk of instance `1` in cluster `us` over the clusters `x` and `y`, each with two services.
struct Bench {
    desk: Desk,
    federation: Arc<Federation>,
    views: Vec<Arc<ClusterView>>,
    start: Instant,
    seconds: u64,
    renewal: u64,
}

impl Bench {
    fn new(health: health::Settings, lost: &[bool]) -> Self {
        let federation = federation(&["x", "y"], health);
        let views = [1, 2].map(|net| {
            let address = |host| format!("192.0.{net}.{host}");
            view(vec![shard("a", &[&address(1)]), shard("b", &[&address(2)])])
        });
        let (start, views) = (Instant::now(), views.to_vec());
        let desk = Desk::new(7, Verdicts::default(), start);
        let mut bench = Self { desk, federation, views, start, seconds: 0, renewal: 0 };
        bench.assign(lost);
        bench
    }

    fn voting(mode: CheckMode, lost: &[bool]) -> Self {
        let votes = Settings {
            cluster: label("us"),
            instance: label("1"),
            voters: Some(names(&["us", "eu", "asia"]).into_iter().collect()),
            quorum: Quorum::Majority,
            directory: None,
            heartbeat: Settings::HEARTBEAT,
            lease: Settings::LEASE,
        };
        Self::new(health::Settings { votes: Some(votes), ..checked(mode) }, lost)
    }

    /// Has another desk take over what this one told.
    fn begin_anew(&mut self, lost: &[bool]) {
        let now = at(self.start, self.seconds).instant;
        self.desk = Desk::new(8, self.desk.verdicts().clone(), now);
        self.desk.assign(assignment(&self.federation, self.views.clone(), lost));
        self.desk.fresh();
        self.settle();
    }

    fn assign(&mut self, lost: &[bool]) {
        self.desk.assign(assignment(&self.federation, self.views.clone(), lost));
        self.settle();
    }

    fn settle(&mut self) {
        assert!(self.desk.is_stale());
        self.desk.settle(at(self.start, self.seconds));
        assert!(!self.desk.is_stale());
    }

    /// Has all checks of some addresses end often enough to count.
    fn end(&mut self, well: impl Fn(&str) -> bool) {
        let ids: Vec<_> = (0..100).map(ProbeId::for_test).collect();
        for id in ids {
            let Some(target) = self.desk.target(id) else { continue };
            let report = if well(&target.address.ip().to_string()) { passed() } else { failed() };
            for _ in 0..3 {
                self.desk.report(id, &report, at(self.start, self.seconds));
            }
        }
        if self.desk.is_stale() {
            self.settle();
        }
    }

    /// Hears an instance that sees these clusters failing as wholes.
    fn hear(&mut self, voter: &str, failing: &[&str]) {
        let sight = || Sight { since: 1, why: "no answer".into() };
        let sights = Sights {
            judged: names(&["x", "y"]).into_iter().collect(),
            clusters: names(failing).into_iter().map(|name| (name, sight())).collect(),
            ..Sights::default()
        };
        for _ in 0..2 {
            self.renewal += 1;
            let (voter, instance) = (label(voter), "1".into());
            let sights = Arc::new(sights.clone());
            let ballot = Ballot { voter, instance, run: 1, renewal: self.renewal, sights };
            self.desk.hear(&[Arc::new(ballot)], at(self.start, self.seconds).instant);
        }
        self.settle();
    }

    fn later(&mut self, seconds: u64) {
        self.seconds += seconds;
        self.desk.wake();
        self.settle();
    }

    /// The shards that are out.
    fn out(&self) -> Vec<String> {
        let opinions = self.desk.verdicts().opinions.iter();
        let failing = opinions.filter(|(_, _, o)| matches!(o.check, Checked::Failing(_)));
        let mut names: Vec<_> =
            failing.map(|(key, cluster, _)| format!("{cluster} {}", key.name())).collect();
        names.sort();
        names
    }

    fn opinion(&self, cluster: &str, name: &str) -> Opinion {
        let opinions = &self.desk.verdicts().opinions;
        opinions.get(&key(name), &label(cluster)).cloned().unwrap_or_default()
    }

    fn said(&self, cluster: &str) -> Option<Checks> {
        self.desk.verdicts().clusters.get(&label(cluster)).copied()
    }
}

#[test]
fn all_are_checked_always_and_only_suspects_else() {
    let targets = |mode, lost: &[bool]| Bench::new(checked(mode), lost).desk.fresh().len();
    assert_eq!(targets(CheckMode::Always, &[false, false]), 4);
    assert_eq!(targets(CheckMode::Suspect, &[false, false]), 0);
    assert_eq!(targets(CheckMode::Suspect, &[false, true]), 2);
    assert_eq!(targets(CheckMode::Off, &[true, true]), 0);
}

#[test]
fn a_shard_that_fails_is_out_and_one_that_wavers_is_unsettled() {
    let mut bench = Bench::new(checked(CheckMode::Always), &[false, false]);
    bench.end(|_| true);
    assert_eq!(bench.opinion("x", "a"), Opinion { check: Checked::Passing, ..Opinion::default() });
    bench.desk.report(ProbeId::for_test(1), &failed(), at(bench.start, 1));
    bench.settle();
    let doubted: Vec<_> =
        bench.desk.verdicts().opinions.iter().filter(|(_, _, o)| o.unsettled).collect();
    assert_eq!((doubted.len(), bench.out()), (1, vec![]));
    bench.end(|address| address != "192.0.1.1");
    assert_eq!(bench.out(), ["x a"]);
    assert_eq!(bench.said("x"), Some(Checks::Answering));
    bench.end(|address| !address.starts_with("192.0.1."));
    assert_eq!(bench.out(), ["x a", "x b"]);
    assert_eq!(bench.said("x"), Some(Checks::Failing));
    bench.end(|_| true);
    assert_eq!(bench.out(), [""; 0]);
    assert!(bench.opinion("x", "a").unsettled, "it has just come back");
    bench.later(1000);
    assert!(!bench.opinion("x", "a").unsettled);
}

/// What has flapped is held back however its endpoints come and go meanwhile.
#[test]
fn a_shard_that_is_not_ready_for_a_while_keeps_its_past() {
    let mut bench = Bench::new(checked(CheckMode::Always), &[false, false]);
    let others = |address: &str| address != "192.0.1.1";
    bench.end(others);
    bench.end(|_| true);
    bench.later(11);
    bench.end(others);
    bench.end(|_| true);
    assert_eq!(bench.out(), ["x a"], "held back");
    let ready = bench.views[0].clone();
    let mut entry = shard("a", &["192.0.1.1"]);
    entry.shard.endpoints.ready = 0;
    bench.views[0] = view(vec![entry, shard("b", &["192.0.1.2"])]);
    bench.assign(&[false, false]);
    assert_eq!(bench.out(), [""; 0], "it need not answer");
    bench.later(10);
    bench.views[0] = ready.clone();
    bench.assign(&[false, false]);
    assert_eq!(bench.out(), ["x a"]);
    bench.later(20);
    assert_eq!(bench.out(), [""; 0], "time went on for it meanwhile");
    // One that is there no more is forgotten.
    bench.end(|_| true);
    bench.later(31);
    bench.end(others);
    bench.views[0] = view(vec![shard("b", &["192.0.1.2"])]);
    bench.assign(&[false, false]);
    bench.views[0] = ready;
    bench.assign(&[false, false]);
    bench.end(|_| true);
    assert_eq!(bench.out(), [""; 0], "a new one of the name has no past");
}

#[test]
fn all_failing_at_once_is_our_fault() {
    let mut bench = Bench::new(checked(CheckMode::Always), &[false, false]);
    bench.end(|_| false);
    assert_eq!((bench.out(), bench.desk.mode()), (vec![], Mode::FailStatic));
    assert_eq!(bench.desk.verdicts().mode, Mode::FailStatic, "no cluster is down either");
    bench.end(|address| address == "192.0.2.2");
    assert_eq!(bench.out(), ["x a", "x b", "y a"]);
    // A cluster whose API answers says that not all is lost, though none of its shards is checked.
    let mut bench = Bench::new(checked(CheckMode::Suspect), &[true, false]);
    bench.end(|_| false);
    assert_eq!(bench.out(), ["x a", "x b"]);
}

/// What others agree on counts here too, though nothing of it is checked from here.
#[test]
fn others_may_vote_a_cluster_out_that_is_not_checked_from_here() {
    let mut bench = Bench::voting(CheckMode::Suspect, &[false, false]);
    assert_eq!(bench.desk.mode(), Mode::Frozen, "nobody is heard yet");
    bench.hear("eu", &["x"]);
    assert_eq!((bench.out(), bench.desk.mode()), (vec![], Mode::Deciding));
    bench.hear("asia", &["x"]);
    assert_eq!(bench.out(), ["x a", "x b"]);
    let Checked::Failing(failure) = bench.opinion("x", "a").check else { panic!("it is out") };
    let seen_by: Vec<_> = failure.seen_by.iter().map(ToString::to_string).collect();
    assert_eq!(seen_by, ["asia: 1", "eu: 1"]);
    assert_eq!(bench.desk.fresh().len(), 0, "it is not checked for that");
    // A new shard of the cluster follows.
    let mut next = (*bench.views[0]).clone();
    next.shards.upsert(shard("c", &["192.0.1.3"]), |_| false);
    bench.views[0] = Arc::new(next);
    bench.assign(&[false, false]);
    assert_eq!(bench.out(), ["x a", "x b", "x c"]);
    bench.hear("eu", &[]);
    assert_eq!(bench.out(), [""; 0]);
    bench.hear("asia", &[]);
    bench.later(5000);
    assert_eq!(bench.desk.verdicts().opinions.iter().count(), 0, "all is forgotten");
}

#[test]
fn one_that_is_cut_off_neither_votes_out_nor_lets_back_in() {
    let mut bench = Bench::voting(CheckMode::Always, &[false, false]);
    bench.hear("eu", &["x"]);
    bench.end(|address| !address.starts_with("192.0.1."));
    assert_eq!(bench.out(), ["x a", "x b"]);
    // Nobody is heard any more, and from here everything fails.
    bench.later(Settings::LEASE.as_secs());
    bench.end(|_| false);
    assert_eq!((bench.out(), bench.desk.mode()), (vec!["x a".into(), "x b".into()], Mode::Frozen));
    let ballot = bench.desk.ballot().expect("it votes");
    assert!(ballot.sights.is_empty() && ballot.sights.judged.is_empty(), "it abstains");
    bench.end(|_| true);
    assert_eq!(bench.out(), ["x a", "x b"]);
    bench.hear("eu", &[]);
    assert_eq!(bench.out(), [""; 0]);
}

/// Its ballots may still reach the others, though theirs do not reach it.
#[test]
fn one_that_hears_too_few_does_not_vote_for_them() {
    let mut bench = Bench::voting(CheckMode::Always, &[false, false]);
    bench.end(|address| !address.starts_with("192.0.1."));
    let frozen = bench.desk.ballot().expect("it is heard");
    assert_eq!((bench.desk.mode(), &*frozen.sights), (Mode::Frozen, &Sights::default()));
    bench.hear("eu", &[]);
    let deciding = bench.desk.ballot().expect("it votes");
    assert!(deciding.sights.clusters.contains_key(&label("x")));
    assert!(deciding.renewal > frozen.renewal, "it says something else");
    bench.later(Settings::LEASE.as_secs());
    let again = bench.desk.ballot().expect("it is heard");
    assert_eq!((bench.desk.mode(), &*again.sights), (Mode::Frozen, &Sights::default()));
    assert!(again.renewal > deciding.renewal);
}

#[test]
fn the_ballot_is_renewed_by_changes_and_heartbeats() {
    let mut bench = Bench::voting(CheckMode::Always, &[false, false]);
    bench.hear("eu", &[]);
    let first = bench.desk.ballot().expect("it votes");
    assert_eq!((first.run, first.voter.as_str(), &*first.instance), (7, "us", "1"));
    bench.end(|address| address != "192.0.1.1");
    let second = bench.desk.ballot().expect("it votes");
    assert!(second.renewal > first.renewal && second.sights.len() == 1);
    bench.desk.renew();
    assert!(bench.desk.ballot().expect("it votes").renewal > second.renewal);
    let status = bench.desk.status(bench.start);
    let voting = status.voting.expect("it votes");
    assert_eq!((voting.needed, voting.heard, voting.voters.len()), (Some(2), 2, 3));
    assert!(Bench::new(checked(CheckMode::Always), &[]).desk.ballot().is_none());
}

/// While the home cluster has not told which clusters there are, it is not known who votes.
#[test]
fn nothing_is_decided_while_it_is_not_known_who_votes() {
    let mut bench = Bench::voting(CheckMode::Always, &[false, false]);
    let mut votes = bench.federation.health.votes.clone().expect("it votes");
    votes.voters = None;
    let health = health::Settings { votes: Some(votes), ..checked(CheckMode::Always) };
    let mut federation = federation(&["x", "y"], health);
    Arc::get_mut(&mut federation).expect("nobody else has it").membership = Membership::Awaited;
    bench.federation = federation;
    bench.assign(&[false, false]);
    bench.end(|address| !address.starts_with("192.0.1."));
    assert_eq!((bench.out(), bench.desk.mode()), (vec![], Mode::Frozen));
}

/// Every shard that someone sees failing and that is not out is told of, and counted.
#[test]
fn suspicions_are_told_and_counted() {
    let mut bench = Bench::voting(CheckMode::Always, &[false, false]);
    let told = |bench: &Bench, name: &str| {
        bench.opinion("x", name).suspicion.map(|suspicion| {
            let seen_by: Vec<_> = suspicion.seen_by.iter().map(ToString::to_string).collect();
            (seen_by.join("; "), suspicion.lacking)
        })
    };
    let count = |bench: &Bench| bench.desk.status(bench.start).suspects;
    let own = || "us: 1".to_owned();
    bench.end(|_| true);
    assert_eq!(count(&bench), 0);
    bench.end(|address| address != "192.0.1.1");
    assert_eq!(told(&bench, "a"), Some((own(), Lacking::Hearing)), "nobody is heard yet");
    bench.hear("eu", &[]);
    let one = Lacking::Votes { counted: 1, needed: 2 };
    assert_eq!((told(&bench, "a"), count(&bench)), (Some((own(), one)), 1));
    bench.hear("eu", &["x"]);
    assert_eq!((bench.out(), told(&bench, "a")), (vec!["x a".to_owned()], None));
    assert_eq!(told(&bench, "b"), Some(("eu: 1".to_owned(), one)));
    let status = bench.desk.status(bench.start);
    assert_eq!((status.suspects, status.suspected_clusters.len()), (1, 1));
    bench.hear("eu", &[]);
    bench.end(|_| false);
    assert_eq!(told(&bench, "a"), Some((own(), Lacking::Fault)), "everything fails from here");
    assert_eq!(count(&bench), 4);
    bench.end(|_| true);
    assert_eq!(count(&bench), 0);
    bench.end(|address| !address.starts_with("192.0.1."));
    bench.views[0] = view(vec![]);
    bench.assign(&[false, false]);
    assert_eq!(count(&bench), 0, "they are there no more");
}

#[test]
fn a_shard_that_failed_stays_out_when_it_is_checked_otherwise() {
    let mut bench = Bench::new(checked(CheckMode::Always), &[false, false]);
    bench.end(|address| address != "192.0.1.1");
    assert_eq!(bench.out(), ["x a"]);
    let mut health = checked(CheckMode::Always);
    health.checks.check = Arc::new("http:80/healthz".parse().expect("a check"));
    bench.federation = federation(&["x", "y"], health);
    bench.assign(&[false, false]);
    assert_eq!(bench.out(), ["x a"], "nothing is known by the new check");
    bench.later(100);
    assert_eq!(bench.out(), ["x a"]);
    bench.end(|_| true);
    assert_eq!(bench.out(), [""; 0]);
}

/// A fault of the task that checks is no evidence that anything has recovered.
#[test]
fn what_was_told_holds_until_one_begun_anew_knows_as_much() {
    let both = [false, false];
    let mut bench = Bench::new(checked(CheckMode::Always), &both);
    let others = |address: &str| address != "192.0.1.1";
    bench.end(others);
    bench.begin_anew(&both);
    assert_eq!((bench.out(), bench.said("y")), (vec!["x a".to_owned()], Some(Checks::Answering)));
    bench.desk.report(ProbeId::for_test(1), &failed(), at(bench.start, 1));
    bench.later(1);
    assert_eq!(bench.out(), ["x a"], "little is known yet");
    bench.end(others);
    assert_eq!(bench.out(), ["x a"]);
    bench.begin_anew(&both);
    bench.end(|_| true);
    assert_eq!(bench.out(), [""; 0], "it has recovered meanwhile");
    // What stays unknown is not waited for without end.
    bench.end(others);
    bench.begin_anew(&both);
    let now = at(bench.start, bench.seconds).instant;
    let wait = bench.desk.deadline(now).expect("it is waited for") - now;
    bench.later(wait.as_secs() - 1);
    assert_eq!(bench.out(), ["x a"]);
    bench.later(1);
    assert_eq!(bench.out(), [""; 0]);
}

/// Votes are not counted before all can have been heard.
#[test]
fn what_was_voted_holds_until_one_begun_anew_has_heard_the_others() {
    let both = [false, false];
    let mut bench = Bench::voting(CheckMode::Always, &both);
    bench.hear("eu", &["x"]);
    bench.hear("asia", &["x"]);
    bench.end(|_| true);
    assert_eq!(bench.out(), ["x a", "x b"]);
    bench.begin_anew(&both);
    bench.end(|_| true);
    bench.hear("eu", &["x"]);
    assert_eq!((bench.out().len(), bench.desk.mode()), (2, Mode::Deciding), "asia may be there");
    bench.hear("asia", &["x"]);
    bench.later(Settings::LEASE.as_secs() - 1);
    bench.hear("eu", &["x"]);
    bench.hear("asia", &["x"]);
    bench.later(1);
    assert_eq!(bench.out(), ["x a", "x b"]);
    bench.hear("eu", &[]);
    assert_eq!(bench.out(), [""; 0]);
}

#[test]
fn one_whose_cluster_does_not_vote_says_so() {
    let mut bench = Bench::voting(CheckMode::Always, &[false, false]);
    let mut votes = bench.federation.health.votes.clone().expect("it votes");
    votes.voters = Some(names(&["eu", "asia"]).into_iter().collect());
    let health = health::Settings { votes: Some(votes), ..checked(CheckMode::Always) };
    bench.federation = federation(&["x", "y"], health);
    bench.assign(&[false, false]);
    bench.hear("eu", &[]);
    bench.hear("asia", &[]);
    bench.end(|address| address != "192.0.1.1");
    let suspicion = bench.opinion("x", "a").suspicion.expect("it is seen");
    assert_eq!(suspicion.lacking, Lacking::Vote);
}
