//! Single rules, then any history of several instances.

use std::num::NonZeroU16;

use proptest::prelude::*;

use super::super::ballot::Sight;
use super::super::council::Quorum;
use super::*;

const LEASE: Duration = Duration::from_secs(15);
const CLUSTERS: [&str; 3] = ["x", "y", "z"];

fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

fn key(index: usize) -> ServiceKey {
    ServiceKey::new(&label("n"), &label(&format!("s{index}")))
}

fn damping() -> Damping {
    let seconds = Duration::from_secs;
    Damping {
        min_up: seconds(10),
        hold_off: seconds(30),
        max_hold_off: seconds(100),
        forget: seconds(300),
    }
}

fn all() -> BTreeSet<Label> {
    CLUSTERS.iter().map(|name| label(name)).collect()
}

/// Services of each cluster.
const SERVICES: usize = 2;

/// For each cluster, whether each of its shards fails.
type Failing = [[bool; SERVICES]; 3];

/// What one sees to whom these fail.
fn sights(failing: &Failing) -> Sights {
    let sight = || Sight { since: 1, why: "refused".into() };
    let mut sights = Sights { judged: all(), ..Sights::default() };
    for (name, shards) in CLUSTERS.iter().zip(failing) {
        if shards.iter().all(|failing| *failing) {
            sights.clusters.insert(label(name), sight());
        } else {
            let listed = (0..SERVICES).filter(|i| shards[*i]).map(|i| (key(i), sight()));
            sights.shards.insert(label(name), listed.collect());
        }
    }
    sights
}

/// A panel with its own clock, which asks for what is touched or due, as it is to be.
struct Bench {
    start: Instant,
    seconds: u64,
    panel: Panel,
    shown: BTreeMap<(Label, ServiceKey), Shown>,
}

impl Bench {
    fn new(electorate: Electorate) -> Self {
        let rules = Rules { electorate, lease: LEASE, damping: damping() };
        let panel = Panel::new(rules);
        Self { start: Instant::now(), seconds: 0, panel, shown: BTreeMap::new() }
    }

    fn now(&self) -> Now {
        Now { instant: self.start + Duration::from_secs(self.seconds), unix: self.seconds }
    }

    fn decide(&mut self, own: &Failing) {
        let now = self.now();
        let touched = self.panel.decide(&sights(own), &all(), now);
        let due = self.panel.due(now.instant);
        let whole = touched.clusters.into_iter();
        let whole = whole.flat_map(|name| (0..SERVICES).map(move |i| (name.clone(), key(i))));
        for (cluster, key) in whole.chain(touched.shards).chain(due) {
            let shown = self.panel.shard(&cluster, &key, now);
            self.shown.insert((cluster, key), shown);
        }
    }

    fn after(&mut self, seconds: u64, own: &Failing) -> Vec<String> {
        self.seconds += seconds;
        self.decide(own);
        self.failing()
    }

    fn failing(&self) -> Vec<String> {
        let failing = self.shown.iter().filter(|(_, shown)| shown.failing.is_some());
        failing.map(|((cluster, key), _)| format!("{cluster} {}", key.name())).collect()
    }

    fn hear(&mut self, voter: &str, renewal: u64, failing: &Failing) {
        let (voter, instance) = (label(voter), "1".into());
        let sights = Arc::new(sights(failing));
        let ballot = Ballot { voter, instance, run: 1, renewal, sights };
        self.panel.hear([&Arc::new(ballot)], self.now().instant);
    }
}

const WELL: Failing = [[false; SERVICES]; 3];
const ONE: Failing = [[true, false], [false; 2], [false; 2]];
const WHOLE: Failing = [[true, true], [false; 2], [false; 2]];
const EVERYTHING: Failing = [[true; SERVICES]; 3];

#[test]
fn one_that_decides_alone_follows_what_it_sees() {
    let mut bench = Bench::new(Electorate::Alone);
    assert_eq!(bench.after(0, &WELL), [""; 0]);
    assert_eq!(bench.after(1, &ONE), ["x s0"]);
    assert_eq!(bench.after(1, &WHOLE), ["x s0", "x s1"]);
    assert!(bench.panel.cluster(&label("x")).is_some());
    assert_eq!(bench.after(1, &ONE), ["x s0"]);
    assert_eq!(bench.after(1, &WELL), [""; 0]);
    let shown = |bench: &Bench| bench.shown[&(label("x"), key(0))].clone();
    assert!(shown(&bench).unsettled, "it has just come back");
    assert_eq!(
        bench.panel.deadline(bench.now().instant),
        Some(bench.start + Duration::from_secs(13))
    );
    bench.after(9, &WELL);
    bench.after(21, &WELL);
    assert_eq!(shown(&bench), Shown::default(), "its deadline was seen to");
}

#[test]
fn one_that_flaps_is_held_back_and_that_is_told() {
    let mut bench = Bench::new(Electorate::Alone);
    for (seconds, own, failing) in [(0, ONE, 1), (5, WELL, 0), (10, ONE, 1), (5, WELL, 1)] {
        assert_eq!(bench.after(seconds, &own).len(), failing);
    }
    let failure = bench.shown[&(label("x"), key(0))].failing.clone().expect("held back");
    assert_eq!(&*failure.why, "it has come and gone, and must first answer for 30s");
    assert_eq!((failure.since, failure.held), (15, true));
    assert_eq!(bench.after(29, &WELL).len(), 1);
    assert_eq!(bench.after(1, &WELL), [""; 0]);
}

#[test]
fn all_lost_at_once_is_our_fault_until_one_is_back() {
    let mut bench = Bench::new(Electorate::Alone);
    assert_eq!(bench.after(0, &[[true; 2], [true; 2], [true, false]]).len(), 5);
    assert_eq!(bench.after(1, &EVERYTHING), [""; 0]);
    assert_eq!(bench.panel.mode(), Mode::FailStatic);
    assert!(bench.panel.cluster(&label("x")).is_some(), "the tracker is told");
    assert_eq!(bench.after(60, &WHOLE), ["x s0", "x s1"]);
    assert_eq!(bench.panel.mode(), Mode::Deciding);
}

/// What is held back is seen well, so that not all is lost.
#[test]
fn one_that_is_held_back_does_not_make_it_our_fault() {
    const OTHERS: Failing = [[false; SERVICES], [true; SERVICES], [true; SERVICES]];
    let mut bench = Bench::new(Electorate::Alone);
    for own in [WHOLE, WELL, WHOLE, WELL] {
        bench.after(10, &own);
    }
    assert_eq!(bench.failing(), ["x s0", "x s1"], "held back");
    assert_eq!(bench.after(1, &OTHERS).len(), 6);
    assert_eq!(bench.panel.mode(), Mode::Deciding);
    let held = |cluster| bench.shown[&(label(cluster), key(0))].failing.as_ref().map(|f| f.held);
    assert_eq!((held("x"), held("y")), (Some(true), Some(false)));
}

fn three() -> Electorate {
    let all = ["a", "b", "c"].iter().map(|name| label(name)).collect();
    Electorate::Voters { own: label("a"), instance: label("1"), all, quorum: Quorum::Majority }
}

#[test]
fn one_that_is_cut_off_changes_nothing() {
    let mut bench = Bench::new(three());
    assert_eq!(bench.after(0, &ONE), [""; 0]);
    assert_eq!(bench.panel.mode(), Mode::Frozen);
    for renewal in [1, 2] {
        bench.hear("b", renewal, &ONE);
    }
    assert_eq!(bench.after(1, &ONE), ["x s0"]);
    assert_eq!(bench.panel.alive(bench.now().instant).count(), 1);
    // From here on nobody is heard.
    assert_eq!(bench.after(15, &WHOLE), ["x s0"]);
    assert_eq!(bench.panel.mode(), Mode::Frozen);
    assert_eq!(bench.after(1000, &WELL), ["x s0"], "frozen both ways");
    bench.hear("b", 3, &WELL);
    bench.hear("b", 4, &WELL);
    assert_eq!(bench.after(0, &WELL), [""; 0]);
}

#[test]
fn one_voice_makes_a_shard_unsettled_only() {
    let mut bench = Bench::new(three());
    for renewal in [1, 2] {
        bench.hear("b", renewal, &WELL);
    }
    assert_eq!(bench.after(1, &ONE), [""; 0]);
    assert!(bench.shown[&(label("x"), key(0))].unsettled);
    bench.after(1, &WELL);
    assert!(!bench.shown[&(label("x"), key(0))].unsettled);
}

/// Those who see it are told by name, and what is lacking for it to be out.
#[test]
fn a_suspicion_is_told_until_it_is_a_verdict() {
    let mut bench = Bench::new(three());
    let told = |bench: &Bench| {
        let shown = &bench.shown[&(label("x"), key(0))];
        shown.suspicion.as_ref().map(|suspicion| {
            let names = suspicion.seen_by.iter().map(ToString::to_string).collect::<Vec<_>>();
            (names.join("; "), suspicion.lacking)
        })
    };
    for renewal in [1, 2] {
        bench.hear("b", renewal, &WELL);
    }
    bench.after(1, &ONE);
    let lacking = Lacking::Votes { counted: 1, needed: 2 };
    assert_eq!(told(&bench), Some(("a: 1".to_owned(), lacking)));
    bench.hear("b", 3, &ONE);
    assert_eq!(bench.after(1, &ONE), ["x s0"]);
    assert_eq!(told(&bench), None, "it is out");
    let failure = bench.shown[&(label("x"), key(0))].failing.clone().expect("out");
    assert_eq!(failure.to_string(), "its checks fail: refused (seen by a: 1; b: 1)");
    bench.hear("b", 4, &WELL);
    bench.after(1, &WELL);
    bench.hear("b", 5, &ONE);
    bench.after(1, &ONE);
    assert_eq!(told(&bench), Some(("a: 1; b: 1".to_owned(), Lacking::LeastTime)));
    bench.hear("b", 6, &WHOLE);
    bench.after(1, &ONE);
    let whole: Vec<_> = bench.panel.suspected_clusters().collect();
    assert_eq!((whole.len(), whole[0].1.lacking), (1, lacking));
    bench.hear("b", 7, &EVERYTHING);
    bench.after(1, &EVERYTHING);
    assert_eq!(told(&bench), Some(("a: 1; b: 1".to_owned(), Lacking::Fault)));
    bench.after(20, &EVERYTHING);
    assert_eq!(told(&bench), Some(("a: 1; b: 1".to_owned(), Lacking::Hearing)));
}

/// What was decided stays, also that nothing is taken out.
#[test]
fn one_that_is_cut_off_while_all_fails_takes_nothing_out() {
    let mut bench = Bench::new(three());
    for renewal in [1, 2] {
        bench.hear("b", renewal, &WHOLE);
    }
    assert_eq!(bench.after(1, &WHOLE), ["x s0", "x s1"]);
    bench.hear("b", 3, &EVERYTHING);
    assert_eq!(bench.after(1, &EVERYTHING), [""; 0]);
    assert_eq!(bench.panel.mode(), Mode::FailStatic);
    assert_eq!(bench.after(100, &EVERYTHING), [""; 0]);
    assert_eq!(bench.panel.mode(), Mode::FrozenStatic);
    for renewal in [4, 5] {
        bench.hear("b", renewal, &WHOLE);
    }
    assert_eq!(bench.after(1, &WHOLE), ["x s0", "x s1"]);
    assert_eq!(bench.panel.mode(), Mode::Deciding);
}

/// What happens, and how many seconds later.
#[derive(Clone, Debug)]
enum Step {
    /// We see this.
    Own(Failing),
    /// A voter is heard, and what it sees.
    Heard(usize, Failing),
    Nothing,
}

fn failing() -> impl Strategy<Value = Failing> {
    // Mostly single shards, at times everything.
    let shard = prop::bool::weighted(0.4);
    let cluster = prop_oneof![
        3 => [shard, shard].boxed(),
        1 => Just([true, true]).boxed(),
    ];
    prop_oneof![
        6 => [cluster.clone(), cluster.clone(), cluster].boxed(),
        1 => Just(EVERYTHING).boxed(),
        1 => Just(WELL).boxed(),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        3 => failing().prop_map(Step::Own),
        4 => (0..2_usize, failing()).prop_map(|(voter, f)| Step::Heard(voter, f)),
        1 => Just(Step::Nothing),
    ];
    prop::collection::vec((0..14_u64, step), 1..60)
}

proptest! {
    #[test]
    fn any_history_keeps_the_promises(steps in steps(), alone in any::<bool>()) {
        let electorate = if alone { Electorate::Alone } else { three() };
        let mut bench = Bench::new(electorate);
        // Kept by the test alone: what we see, what others saw when, what was shown.
        let mut own = WELL;
        let mut votes: [Option<(u64, Failing)>; 2] = [None; 2];
        let mut known: [Option<u64>; 2] = [None; 2];
        let mut fell: BTreeMap<String, u64> = BTreeMap::new();
        let mut rose: BTreeMap<String, u64> = BTreeMap::new();
        for (number, (after, step)) in steps.into_iter().enumerate() {
            // Second by second, so that nothing changes unseen.
            let wait = after.max(1);
            for second in 1..=wait {
                let before = (bench.failing(), bench.panel.mode());
                bench.seconds += 1;
                let now = bench.seconds;
                if second == wait {
                    match &step {
                        Step::Own(failing) => own = *failing,
                        Step::Heard(voter, failing) => {
                            bench.hear(["b", "c"][*voter], number as u64, failing);
                            // The first, and one after a gap, is not known to be renewed.
                            if known[*voter].is_some_and(|at| now - at < LEASE.as_secs()) {
                                votes[*voter] = Some((now, *failing));
                            }
                            known[*voter] = Some(now);
                        }
                        Step::Nothing => {}
                    }
                }
                bench.decide(&own);
                let failing = bench.failing();
                let alive: Vec<Failing> = votes.iter().flatten()
                    .filter(|(at, _)| now - at < LEASE.as_secs()).map(|(_, f)| *f).collect();
                let heard = alive.len() + 1;
                let frozen = !alone && heard < 2;
                prop_assert_eq!(frozen, bench.panel.mode().is_frozen());
                if frozen {
                    prop_assert_eq!(&failing, &before.0, "frozen, and yet it changed");
                }
                for name in failing.iter().filter(|name| !before.0.contains(name)) {
                    // What falls is seen failing by a majority of the three.
                    if bench.panel.mode() == Mode::Deciding && before.1 == Mode::Deciding {
                        let (cluster, key) = name.split_once(' ').expect("two words");
                        let cluster = CLUSTERS.iter().position(|c| *c == cluster).expect("known");
                        let key: usize = key[1..].parse().expect("a number");
                        let sees = alive.iter().chain([&own]).filter(|f| f[cluster][key]).count();
                        prop_assert!(sees >= if alone { 1 } else { 2 }, "{name}: {sees}");
                    }
                    if let Some(rose) = rose.get(name) && before.1 == Mode::Deciding {
                        prop_assert!(now - rose >= 10, "{name} up for {} s only", now - rose);
                    }
                    fell.insert(name.clone(), now);
                }
                for name in before.0.iter().filter(|name| !failing.contains(name)) {
                    rose.insert(name.clone(), now);
                }
                if bench.panel.mode().is_fail_static() {
                    prop_assert!(failing.is_empty(), "fail static");
                }
            }
        }
    }

    /// Whatever happened before and in whatever order: where all see the same and go on to, that is
    /// shown.
    #[test]
    fn at_rest_the_history_does_not_matter(steps in steps(), last in failing()) {
        let mut bench = Bench::new(three());
        let mut number = 0;
        for (after, step) in &steps {
            number += 1;
            bench.seconds += after;
            match step {
                Step::Own(failing) => bench.decide(failing),
                Step::Heard(voter, failing) => bench.hear(["b", "c"][*voter], number, failing),
                Step::Nothing => {}
            }
        }
        for _ in 0..100 {
            number += 1;
            bench.seconds += 5;
            bench.hear("b", number, &last);
            bench.hear("c", number, &last);
            bench.decide(&last);
        }
        let expected = if last == EVERYTHING { WELL } else { last };
        let flat = |f: &Failing| f.iter().flatten().filter(|failing| **failing).count();
        prop_assert_eq!(bench.failing().len(), flat(&expected));
        prop_assert!(bench.shown.values().all(|shown| !shown.unsettled) || last == EVERYTHING);
    }

    /// Which quorum it is matters to how many, not to what is promised otherwise.
    #[test]
    fn no_quorum_lets_one_that_is_cut_off_decide(own in failing(), count in 1..4_u16, which in 0..4) {
        let quorum = match which {
            0 => Quorum::Any,
            1 => Quorum::All,
            2 => Quorum::Majority,
            _ => Quorum::Count(NonZeroU16::new(count).expect("not zero")),
        };
        let Electorate::Voters { own: name, instance, all, .. } = three() else { unreachable!() };
        let mut bench = Bench::new(Electorate::Voters { own: name, instance, all, quorum });
        prop_assert_eq!(bench.after(1, &own), Vec::<String>::new());
    }
}
