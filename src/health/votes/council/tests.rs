//! Single rules, then any votes.

use proptest::prelude::*;

use super::*;

const LEASE: Duration = Duration::from_secs(15);

fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

fn key() -> ServiceKey {
    ServiceKey::new(&label("n"), &label("web"))
}

fn sight(since: u64) -> Sight {
    Sight { since, why: "refused".into() }
}

fn electorate(own: &str, all: &[&str], quorum: Quorum) -> Electorate {
    let all = all.iter().map(|name| label(name)).collect();
    Electorate::Voters { own: label(own), instance: label("0"), all, quorum }
}

/// What one sees that has looked at the cluster `x`.
fn sights(failing: bool) -> Sights {
    let shards: BTreeMap<_, _> = failing.then(|| (key(), sight(5))).into_iter().collect();
    Sights {
        judged: [label("x")].into(),
        clusters: BTreeMap::new(),
        shards: [(label("x"), shards)].into(),
    }
}

fn ballot(voter: &str, instance: &str, renewal: u64, sights: Sights) -> Arc<Ballot> {
    let (voter, instance) = (label(voter), instance.into());
    Arc::new(Ballot { voter, instance, run: 1, renewal, sights: Arc::new(sights) })
}

/// A council that counts these ballots at `now`.
fn heard(ballots: &[(&str, &str, Sights)], now: Instant) -> Council {
    let mut council = Council::default();
    for renewal in [1, 2] {
        let told = ballots.iter().map(|(v, i, s)| ballot(v, i, renewal, s.clone()));
        council.hear(&told.collect::<Vec<_>>(), LEASE, now);
    }
    council
}

/// Who sees the shard failing and whether that is enough; `None` while frozen.
fn verdict(decision: &Decision) -> Option<(Vec<&str>, bool)> {
    match decision {
        Decision::Frozen => None,
        Decision::Taken(findings) => Some(findings.shard(&label("x"), &key()).map_or_else(
            || (Vec::new(), false),
            |tally| {
                (
                    tally.seen_by.iter().map(|witness| witness.cluster.as_str()).collect(),
                    tally.agreed,
                )
            },
        )),
    }
}

#[test]
fn an_instance_without_voters_decides_alone() {
    let (council, now) = (Council::default(), Instant::now());
    let decide = |sights| council.decide(&sights, &Electorate::Alone, LEASE, now);
    assert_eq!(verdict(&decide(sights(true))), Some((vec![], true)));
    assert_eq!(verdict(&decide(sights(false))), Some((vec![], false)));
    let only = electorate("a", &["a"], Quorum::Majority);
    let decision = council.decide(&sights(true), &only, LEASE, now);
    assert_eq!(verdict(&decision), Some((vec!["a"], true)));
    let decision = council.decide(&sights(true), &Electorate::Unknown, LEASE, now);
    assert_eq!(decision, Decision::Frozen);
}

#[test]
fn it_takes_a_majority_of_those_that_are_known() {
    let now = Instant::now();
    let of_five = electorate("a", &["a", "b", "c", "d", "e"], Quorum::Majority);
    let decide = |others: &[(&str, &str, Sights)]| {
        let decision = heard(others, now).decide(&sights(true), &of_five, LEASE, now);
        verdict(&decision).map(|(seen_by, agreed)| (seen_by.concat(), agreed))
    };
    let (yes, no) = (|| sights(true), || sights(false));
    assert_eq!(decide(&[("b", "1", yes())]), None, "two of five are heard");
    let three = [("b", "1", yes()), ("c", "1", no())];
    assert_eq!(decide(&three), Some(("ab".into(), false)), "two of three that are heard");
    let three = [("b", "1", yes()), ("c", "1", yes())];
    assert_eq!(decide(&three), Some(("abc".into(), true)));
    let stranger = [("b", "1", yes()), ("x", "1", yes())];
    assert_eq!(decide(&stranger), None, "one that is no voter is not heard");
}

#[test]
fn quorums() {
    let now = Instant::now();
    let decide = |quorum, yes: usize| {
        let all = ["a", "b", "c", "d"];
        let others = all[1..].iter().enumerate().map(|(i, name)| (*name, "1", sights(i + 1 < yes)));
        let council = heard(&others.collect::<Vec<_>>(), now);
        let electorate = electorate("a", &all, quorum);
        let decision = council.decide(&sights(yes > 0), &electorate, LEASE, now);
        verdict(&decision).expect("all are heard").1
    };
    let least = |quorum| (0..=4).find(|yes| decide(quorum, *yes));
    assert_eq!(least(Quorum::Any), Some(1));
    assert_eq!(least(Quorum::Majority), Some(3));
    assert_eq!(least(Quorum::All), Some(4));
    assert_eq!(least(Quorum::Count(NonZeroU16::new(2).expect("not zero"))), Some(2));
    assert_eq!(least(Quorum::Count(NonZeroU16::new(5).expect("not zero"))), None);
}

/// "One vote a cluster, however many replicas run there."
#[test]
fn instances_of_a_cluster_have_one_vote() {
    let now = Instant::now();
    let three = electorate("a", &["a", "b", "c"], Quorum::Majority);
    let decide = |others: &[(&str, &str, Sights)]| {
        let decision = heard(others, now).decide(&sights(false), &three, LEASE, now);
        verdict(&decision).map(|(seen_by, agreed)| (seen_by.concat(), agreed))
    };
    let crowd = [("b", "1", sights(true)), ("b", "2", sights(true)), ("b", "3", sights(true))];
    assert_eq!(decide(&crowd), Some(("b".into(), false)));
    let split = [("b", "1", sights(true)), ("b", "2", sights(false)), ("c", "1", sights(true))];
    assert_eq!(decide(&split), Some(("c".into(), false)), "one of them sees it well");
    let starting =
        [("b", "1", sights(true)), ("b", "2", Sights::default()), ("c", "1", sights(true))];
    assert_eq!(decide(&starting), Some(("bc".into(), true)), "one has just started");
    let replica = [("a", "2", sights(true)), ("b", "1", sights(true)), ("c", "1", sights(false))];
    assert_eq!(decide(&replica), Some(("b".into(), false)), "we see it well ourselves");
}

#[test]
fn leases_age_on_the_clock_of_the_reader_by_renewals_that_it_sees() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let two = electorate("a", &["a", "b"], Quorum::Majority);
    let mut council = Council::default();
    let mut step = |renewal, seconds| {
        council.hear([&ballot("b", "1", renewal, sights(true))], LEASE, at(seconds));
        let decision = council.decide(&sights(true), &two, LEASE, at(seconds));
        (decision != Decision::Frozen, council.deadline(LEASE, at(seconds)))
    };
    assert_eq!(step(7, 0), (false, None), "it may have been left behind by one that is gone");
    assert_eq!(step(7, 5), (false, None));
    assert_eq!(step(8, 6), (true, Some(at(21))));
    assert_eq!(step(8, 20), (true, Some(at(21))));
    assert_eq!(step(8, 21), (false, None));
    assert_eq!(step(9, 30), (false, None), "after a gap it may be left behind again");
    assert_eq!(step(9, 44), (false, None));
    assert_eq!(step(3, 44), (true, Some(at(59))), "another number is a renewal, a lower one too");
    assert_eq!(step(3, 300), (false, None));
    assert_eq!(step(4, 600), (false, None), "after so long it is as if it were new");
    assert_eq!(step(5, 601), (true, Some(at(616))));
}

#[test]
fn whole_clusters_count_for_each_of_their_shards() {
    let now = Instant::now();
    let three = electorate("a", &["a", "b", "c"], Quorum::Majority);
    let whole = Sights {
        judged: [label("x")].into(),
        clusters: [(label("x"), sight(3))].into(),
        shards: BTreeMap::new(),
    };
    let others = [("b", "1", whole.clone()), ("c", "1", sights(false))];
    let decision = heard(&others, now).decide(&sights(true), &three, LEASE, now);
    assert_eq!(verdict(&decision), Some((vec!["a", "b"], true)), "one lists the shard alone");
    let Decision::Taken(findings) = &decision else { panic!("three are heard") };
    assert!(!findings.clusters[&label("x")].agreed, "one sees the whole cluster failing");
    assert_eq!(findings.shards[&label("x")][&key()].since, 3, "the first to see it");
    let others = [("b", "1", whole.clone()), ("c", "1", whole)];
    let decision = heard(&others, now).decide(&sights(false), &three, LEASE, now);
    assert_eq!(verdict(&decision), Some((vec!["b", "c"], true)), "none lists the shard");
}

#[test]
fn witnesses_are_named_and_shared() {
    let now = Instant::now();
    let three = electorate("a", &["a", "b", "c"], Quorum::Majority);
    let other = ServiceKey::new(&label("n"), &label("api"));
    let mut both = sights(true);
    both.shards.entry(label("x")).or_default().insert(other.clone(), sight(9));
    let many = ["5", "3", "1", "2", "4"].map(|instance| ("b", instance, both.clone()));
    let doubtful = [("c", "1", both.clone()), ("c", "2", sights(false))];
    let others: Vec<_> = many.into_iter().chain(doubtful).collect();
    let Decision::Taken(findings) = heard(&others, now).decide(&both, &three, LEASE, now) else {
        panic!("three are heard")
    };
    let (x, key) = (label("x"), key());
    let seen_by = |key: &ServiceKey| findings.shard(&x, key).expect("seen").seen_by.clone();
    let told: Vec<_> = seen_by(&key).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["a: 0", "b: 1, 2, 3 and 2 more"], "c does not agree with itself");
    assert!(Arc::ptr_eq(&seen_by(&key), &seen_by(&other)), "once for all shards");
}

const VOTERS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What one instance sees of the shard: nothing, that it is well, that it fails.
fn seen() -> impl Strategy<Value = Option<bool>> {
    prop_oneof![Just(None), Just(Some(false)), Just(Some(true))]
}

proptest! {
    /// "A majority is needed", counted by the test in its own way; and the order in which ballots
    /// came changes nothing.
    #[test]
    fn a_majority_of_all_that_are_known_is_needed(
        own in seen(),
        others in prop::collection::vec((1..VOTERS.len(), 0..3_usize, seen()), 0..12)
            .prop_shuffle(),
        voters in 1..=VOTERS.len(),
    ) {
        let now = Instant::now();
        let electorate = electorate("a", &VOTERS[..voters], Quorum::Majority);
        let see = |seen: Option<bool>| seen.map_or_else(Sights::default, sights);
        let instance = |i: usize| ["x", "y", "z"][i];
        // The last ballot of an instance is the one that it has.
        let last: BTreeMap<_, _> = others.iter().map(|(v, i, s)| ((*v, *i), *s)).collect();
        let ballots: Vec<_> =
            last.iter().map(|((v, i), s)| (VOTERS[*v], instance(*i), see(*s))).collect();
        let decision = heard(&ballots, now).decide(&see(own), &electorate, LEASE, now);

        let mut votes = Vec::new();
        for voter in 0..voters {
            let mut seeing: Vec<Option<bool>> =
                last.iter().filter(|((v, _), _)| *v == voter).map(|(_, s)| *s).collect();
            if voter == 0 {
                seeing.push(own);
            }
            if !seeing.is_empty() {
                votes.push(seeing.contains(&Some(true)) && !seeing.contains(&Some(false)));
            }
        }
        let expected = (votes.len() * 2 > voters)
            .then(|| votes.iter().filter(|vote| **vote).count() * 2 > voters);
        prop_assert_eq!(verdict(&decision).map(|(_, agreed)| agreed), expected);

        let reversed: Vec<_> = ballots.into_iter().rev().collect();
        let again = heard(&reversed, now).decide(&see(own), &electorate, LEASE, now);
        prop_assert_eq!(decision, again);
    }
}
