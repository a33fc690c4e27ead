//! Single rules, then any history.

use proptest::prelude::*;

use super::*;

const GRACE: u64 = 30;

fn members(stale_graces: &[Option<u64>]) -> Vec<Member> {
    let member = |(index, grace): (usize, &Option<u64>)| Member {
        name: Label::parse(&format!("c{index}")).expect("a label"),
        region: None,
        zones: Default::default(),
        location: None,
        drain: Default::default(),
        force: None,
        stale_grace: grace.map(Duration::from_secs),
        checks: Default::default(),
    };
    stale_graces.iter().enumerate().map(member).collect()
}

/// A tracker with its own clock, seconds from the start.
struct Bench {
    start: Instant,
    tracker: Tracker,
}

impl Bench {
    fn new(stale_graces: &[Option<u64>]) -> Self {
        let start = Instant::now();
        let now = Now { instant: start, unix: 0 };
        Self { start, tracker: Tracker::new(Tracking::default(), &members(stale_graces), now) }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn lost(&self, since: u64) -> Contact {
        Contact::Lost { since: self.at(since), reason: "cut".into() }
    }

    fn probed(&self, times: u32, since: u64) -> Option<Row> {
        let outcome = if times == 0 { Outcome::Passed } else { Outcome::Failed("cut".into()) };
        Some(Row { outcome, times: times.max(1), since: self.at(since) })
    }

    fn signal(&mut self, cluster: usize, watch: Contact, probe: Option<Row>) {
        let signals = Signals { reading: Reading::Read, reach: watch.clone(), watch, probe };
        self.tracker.signal(ClusterId::new(cluster), signals);
    }

    fn check(&mut self, cluster: usize, passed: bool) {
        let checks = if passed { Checks::Answering } else { Checks::Failing };
        self.tracker.checked(ClusterId::new(cluster), checks, None);
    }

    fn states(&mut self, seconds: u64) -> Vec<ClusterState> {
        self.states_by(seconds, Mode::Deciding)
    }

    fn states_by(&mut self, seconds: u64, mode: Mode) -> Vec<ClusterState> {
        self.tracker.judge(Now { instant: self.at(seconds), unix: seconds }, mode);
        self.tracker.standings().map(|standing| standing.state).collect()
    }

    fn reason(&self, cluster: usize) -> Reason {
        self.tracker.standings().nth(cluster).expect("registered").reason.clone()
    }
}

use ClusterState::{Down, Stale, Unread, Up};

#[test]
fn a_lost_cluster_is_stale_until_the_grace_is_over_and_its_checks_fail() {
    let mut bench = Bench::new(&[None, None]);
    assert_eq!(bench.states(0), [Unread, Unread]);
    for cluster in [0, 1] {
        bench.signal(cluster, Contact::Made, bench.probed(0, 0));
    }
    assert_eq!(bench.states(1), [Up, Up]);
    bench.signal(0, bench.lost(10), bench.probed(2, 10));
    assert_eq!(bench.states(15), [Stale, Up]);
    assert_eq!(bench.reason(0), Reason::WatchLost("cut".into()), "two failures are not three");
    assert_eq!(bench.tracker.suspects().count(), 0);
    bench.signal(0, bench.lost(10), bench.probed(3, 10));
    assert_eq!(bench.tracker.suspects().collect::<Vec<_>>(), [ClusterId::new(0)]);
    assert_eq!(bench.states(100), [Stale, Up], "without a check there is no verdict");
    bench.check(0, false);
    assert_eq!(bench.states(39), [Stale, Up], "within the grace");
    assert_eq!(bench.tracker.deadline(bench.at(39)), Some(bench.at(10 + GRACE)));
    assert_eq!(bench.states(40), [Down, Up]);
    assert_eq!(bench.tracker.deadline(bench.at(40)), None);
    bench.check(0, true);
    assert_eq!(bench.states(50), [Stale, Up], "its load balancers are back");
    bench.signal(0, Contact::Made, bench.probed(0, 60));
    assert_eq!(bench.states(60), [Up, Up]);
    bench.check(0, false);
    assert_eq!(
        bench.states(99),
        [Up, Up],
        "checks alone say nothing of a cluster whose API answers"
    );
}

#[test]
fn a_stale_grace_ends_without_checks() {
    let mut bench = Bench::new(&[Some(60), None]);
    bench.signal(0, bench.lost(0), None);
    bench.signal(1, Contact::Made, None);
    assert_eq!(bench.states(59), [Stale, Up]);
    assert_eq!(bench.tracker.deadline(bench.at(59)), Some(bench.at(60)));
    assert_eq!(bench.states(60), [Down, Up]);
    assert_eq!(bench.reason(0), Reason::StaleGraceOver);
}

#[test]
fn all_lost_at_once_is_our_fault() {
    let mut bench = Bench::new(&[None, Some(40), None]);
    bench.signal(0, bench.lost(0), None);
    bench.signal(1, bench.lost(5), None);
    bench.check(0, false);
    assert_eq!(bench.states(44), [Stale, Stale, Unread], "nothing speaks for the other");
    assert_eq!(bench.reason(0), Reason::FailStatic);
    bench.check(1, true);
    assert_eq!(bench.states(44), [Down, Stale, Unread], "its load balancers do");
    assert_eq!(bench.states(45), [Stale, Stale, Unread], "and no more than for its staleGrace");
    assert_eq!(bench.reason(0), Reason::FailStatic);
    bench.signal(1, Contact::Made, None);
    assert_eq!(bench.states(46), [Down, Up, Unread]);
}

/// The API that answers may be that of the cluster in which we are ourselves.
#[test]
fn where_all_checks_fail_none_is_down_by_them_though_an_api_answers() {
    let mut bench = Bench::new(&[None, None]);
    bench.signal(0, bench.lost(0), None);
    bench.signal(1, Contact::Made, None);
    bench.check(0, false);
    bench.check(1, false);
    assert_eq!(bench.states_by(40, Mode::FailStatic), [Stale, Up]);
    assert_eq!(bench.reason(0), Reason::FailStatic);
    assert_eq!(bench.states_by(41, Mode::Deciding), [Down, Up]);
}

#[test]
fn what_is_known_of_a_cluster_outlives_a_reload() {
    let mut bench = Bench::new(&[None, None]);
    bench.signal(0, bench.lost(0), None);
    bench.signal(1, Contact::Made, None);
    bench.check(0, false);
    assert_eq!(bench.states(30), [Down, Up]);
    let mut next = members(&[None, None, None]);
    next.rotate_left(1);
    let now = Now { instant: bench.at(31), unix: 31 };
    bench.tracker.register(Tracking::default(), &next, now);
    assert_eq!(bench.states(31), [Up, Unread, Down]);
    assert_eq!(bench.tracker.standings().nth(2).expect("registered").since, 30);
}

#[test]
fn last_known_good_is_stale_and_can_be_given_up() {
    let mut bench = Bench::new(&[None, None]);
    bench.signal(1, Contact::Made, None);
    let reach = bench.lost(0);
    let signals =
        Signals { reading: Reading::LastKnownGood, reach, watch: Contact::Untried, probe: None };
    bench.tracker.signal(ClusterId::new(0), signals);
    assert_eq!(bench.states(40), [Stale, Up]);
    assert_eq!(bench.reason(0), Reason::LastKnownGood);
    bench.check(0, false);
    assert_eq!(bench.states(41), [Down, Up]);
}

/// One thing that happens to a cluster, `after` seconds from what happened before.
#[derive(Clone, Debug)]
struct Step {
    after: u64,
    cluster: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Connected,
    Lost,
    Probe(bool),
    Check(bool),
    Nothing,
}

const CLUSTERS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let what = prop_oneof![
        1 => Just(What::Connected),
        3 => Just(What::Lost),
        1 => Just(What::Probe(true)),
        4 => Just(What::Probe(false)),
        1 => Just(What::Check(true)),
        6 => Just(What::Check(false)),
        1 => Just(What::Nothing),
    ];
    (0..12_u64, 0..CLUSTERS, what).prop_map(|(after, cluster, what)| Step { after, cluster, what })
}

/// What a cluster has signalled, kept by the test alone.
#[derive(Clone, Default)]
struct Known {
    lost_since: Option<u64>,
    probe: Option<(bool, u32, u64)>,
    /// Whether the API is lost by the thresholds, and since when.
    api_lost: Option<u64>,
    failing: bool,
    read: bool,
}

impl Known {
    fn take(&mut self, what: &What, now: u64) {
        match what {
            What::Connected => (self.lost_since, self.read) = (None, true),
            What::Lost => self.lost_since = self.lost_since.or(Some(now)),
            What::Probe(passed) => {
                self.probe = match self.probe {
                    Some((same, times, since)) if same == *passed => Some((same, times + 1, since)),
                    _ => Some((*passed, 1, now)),
                };
            }
            What::Check(passed) => self.failing = !passed,
            What::Nothing => {}
        }
        match self.probe {
            None => self.api_lost = self.lost_since,
            Some((true, ..)) => self.api_lost = None,
            Some((false, times, since)) if times >= 3 => self.api_lost = Some(since),
            Some(_) => {}
        }
    }
}

fn signal_all(bench: &mut Bench, known: &[Known], order: &[usize]) {
    for &cluster in order {
        let known = &known[cluster];
        let watch = known.lost_since.map_or(Contact::Made, |since| bench.lost(since));
        let probe = known.probe.map(|(passed, times, since)| Row {
            outcome: if passed { Outcome::Passed } else { Outcome::Failed("cut".into()) },
            times,
            since: bench.at(since),
        });
        let reading = if known.read { Reading::Read } else { Reading::Never };
        let signals = Signals { reading, reach: watch.clone(), watch, probe };
        bench.tracker.signal(ClusterId::new(cluster), signals);
    }
}

proptest! {
    #[test]
    fn any_history_keeps_the_promises(
        steps in prop::collection::vec(step(), 1..80),
        stale_graces in prop::collection::vec(prop::option::of(20..90_u64), CLUSTERS),
    ) {
        let mut bench = Bench::new(&stale_graces);
        let lost = Known { lost_since: Some(0), api_lost: Some(0), ..Known::default() };
        let mut known = vec![lost; CLUSTERS];
        let mut now = 0;
        for Step { after, cluster, what } in &steps {
            now += after;
            if let What::Check(passed) = what {
                bench.check(*cluster, *passed);
            }
            known[*cluster].take(what, now);
            signal_all(&mut bench, &known, &[0, 1, 2]);
            let states = bench.states(now);
            let served = known.iter().zip(&states).filter(|(k, s)| k.read && **s != Down).count();
            prop_assert!(served > 0 || known.iter().all(|k| !k.read), "fail static");
            for ((known, state), grace) in known.iter().zip(&states).zip(&stale_graces) {
                prop_assert_eq!(*state == Unread, !known.read);
                let up = known.api_lost.is_none() && known.lost_since.is_none();
                prop_assert_eq!(*state == Up, up && known.read);
                if *state == Down {
                    let lost = known.api_lost.map(|since| now - since);
                    prop_assert!(lost.is_some(), "down while its API answers");
                    let over = lost >= *grace && grace.is_some();
                    let failed = known.failing && lost >= Some(GRACE);
                    prop_assert!(over || failed, "down before its time: {:?}", lost);
                }
            }
            // At a deadline, and not before, time alone changes a state.
            if let Some(deadline) = bench.tracker.deadline(bench.at(now)) {
                let before = (deadline - bench.start).as_secs().saturating_sub(1).max(now);
                prop_assert_eq!(bench.states(before), states);
            }
        }
    }

    #[test]
    fn at_rest_the_order_of_signals_does_not_matter(
        steps in prop::collection::vec(step(), 1..40),
        order in Just([0_usize, 1, 2]).prop_shuffle(),
    ) {
        // Each cluster's own history is kept; how the clusters' histories mix differs.
        let settle = |order: &[usize]| {
            let mut bench = Bench::new(&[None, Some(50), None]);
            let lost = Known { lost_since: Some(0), api_lost: Some(0), ..Known::default() };
            let mut known = vec![lost; CLUSTERS];
            for &cluster in order {
                for step in steps.iter().filter(|step| step.cluster == cluster) {
                    if let What::Check(passed) = step.what {
                        bench.check(cluster, passed);
                    }
                    known[cluster].take(&step.what, 0);
                    signal_all(&mut bench, &known, &[cluster]);
                    let _ = bench.states(0);
                }
            }
            bench.states(1000)
        };
        prop_assert_eq!(settle(&order), settle(&[0, 1, 2]));
    }
}
