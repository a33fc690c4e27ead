//! Which targets there are, and what they say of shards.

use proptest::prelude::*;

use super::*;
use crate::model::CheckMode;
use crate::publisher::checks::testing::{
    checked, failed, federation, key, passed, shard, unable, view,
};
use crate::snapshot::testing::label;

/// A roster of one cluster `x`.
struct Bench {
    roster: Roster,
    federation: Arc<Federation>,
    view: Arc<ClusterView>,
}

impl Bench {
    fn new(view: Arc<ClusterView>) -> Self {
        let federation = federation(&["x"], checked(CheckMode::Always));
        let mut bench = Self { roster: Roster::default(), federation, view };
        bench.follow(Level::Probed);
        bench
    }

    fn follow(&mut self, level: Level) {
        let member = &self.federation.members[0];
        self.roster.follow(member, level, &self.view, &self.federation);
    }

    /// Has every target at `address` end so often in a row.
    fn end(&mut self, address: &str, report: &Report, times: usize) {
        let at = |probe: &probes::Probe| probe.target.address.ip().to_string() == address;
        let probes = self.roster.probes.by_id.iter().filter(|(_, probe)| at(probe));
        let ids: Vec<_> = probes.map(|(id, _)| *id).collect();
        assert!(!ids.is_empty(), "no target at {address}");
        for id in ids {
            for second in 0..times {
                self.roster.report(id, report, second as u64);
            }
        }
    }

    fn changed(&mut self) -> Vec<String> {
        let (changed, gone) = self.roster.settle();
        let names =
            |shards: Vec<ShardName>| shards.into_iter().map(|(_, key)| key.name().to_owned());
        let gone = names(gone).map(|name| format!("-{name}"));
        let mut all: Vec<_> = names(changed).chain(gone).collect();
        all.sort();
        all
    }

    fn local(&self, name: &str) -> &Local {
        self.roster.local(&label("x"), &key(name)).expect("it is checked")
    }
}

#[test]
fn a_target_is_probed_once_however_many_shards_have_it() {
    let shards = ["a", "b", "c"].map(|name| shard(name, &["192.0.2.1", "192.0.2.2"]));
    let mut bench = Bench::new(view(shards.to_vec()));
    assert_eq!(bench.roster.fresh().len(), 2);
    assert_eq!(bench.changed(), ["a", "b", "c"]);
    bench.end("192.0.2.1", &failed(), 3);
    assert_eq!(bench.changed(), ["a", "b", "c"]);
    assert_eq!(bench.local("a").seen, LocalSeen::Nothing, "the other target may pass yet");
    bench.end("192.0.2.2", &passed(), 1);
    assert_eq!(bench.changed(), ["a", "b", "c"]);
    assert_eq!(bench.local("a").seen, LocalSeen::Well, "one target is enough");
    bench.end("192.0.2.2", &failed(), 1);
    assert_eq!(bench.changed(), ["a", "b", "c"]);
    assert!(bench.local("a").wavering);
    bench.end("192.0.2.2", &failed(), 2);
    assert_eq!(bench.changed(), ["a", "b", "c"]);
    assert!(matches!(bench.local("a").seen, LocalSeen::Failing(_)));
    assert_eq!(bench.roster.checks(&label("x")), Checks::Failing);
    assert_eq!(bench.roster.sights().clusters.len(), 1);
}

#[test]
fn what_changes_keeps_what_is_known_of_the_rest() {
    let mut bench = Bench::new(view(vec![shard("a", &["192.0.2.1"]), shard("b", &["192.0.2.2"])]));
    bench.end("192.0.2.1", &failed(), 3);
    bench.end("192.0.2.2", &passed(), 1);
    assert_eq!(bench.changed(), ["a", "b"]);
    assert_eq!(bench.roster.fresh().len(), 2);
    let mut next = (*bench.view).clone();
    next.shards.upsert(shard("b", &["192.0.2.1", "192.0.2.3"]), |old| old.key == key("b"));
    bench.view = Arc::new(next);
    bench.follow(Level::Probed);
    assert_eq!(bench.roster.fresh().len(), 1, "only the address that is new");
    assert_eq!(bench.changed(), ["b"]);
    assert_eq!(bench.local("b").seen, LocalSeen::Nothing, "its new target may pass");
    assert_eq!(bench.roster.targets(), 2);
    // A reload judges all anew, and knows what it knew.
    bench.federation = federation(&["x"], checked(CheckMode::Always));
    bench.follow(Level::Probed);
    assert_eq!(bench.roster.fresh().len(), 0);
    assert_eq!(bench.changed(), ["a", "b"]);
    assert!(matches!(bench.local("a").seen, LocalSeen::Failing(_)));
}

#[test]
fn what_is_left_is_forgotten() {
    let mut bench = Bench::new(view(vec![shard("a", &["192.0.2.1"]), shard("b", &["192.0.2.2"])]));
    bench.end("192.0.2.1", &failed(), 3);
    bench.changed();
    let mut next = (*bench.view).clone();
    next.shards.remove(key("a").hash(), |old| old.key == key("a"));
    bench.view = Arc::new(next);
    bench.follow(Level::Probed);
    assert_eq!(bench.changed(), ["-a"]);
    assert_eq!(bench.roster.targets(), 1);
    assert!(bench.roster.sights().is_empty());
    bench.follow(Level::Listed);
    assert_eq!((bench.roster.targets(), bench.changed()), (0, vec!["b".to_owned()]));
    assert!(bench.roster.shards(&label("x")).eq([&key("b")]));
    assert!(!bench.roster.is_probed(&label("x")));
    bench.roster.retain(|_| false);
    assert_eq!(bench.changed(), ["-b"]);
}

#[test]
fn shards_that_need_not_answer_are_not_checked() {
    let mut unready = shard("a", &["192.0.2.1"]);
    unready.shard.endpoints.ready = 0;
    let mut portless = shard("b", &["192.0.2.2"]);
    portless.shard.ports = Default::default();
    let bench = Bench::new(view(vec![unready, portless, shard("c", &["192.0.2.3"])]));
    assert_eq!(bench.roster.targets(), 1);
}

/// Until something is known of all shards, silence does not mean that they are well.
#[test]
fn a_cluster_is_judged_once_all_of_it_is_known() {
    let mut bench = Bench::new(view(vec![shard("a", &["192.0.2.1"]), shard("b", &["192.0.2.2"])]));
    bench.end("192.0.2.1", &passed(), 1);
    bench.end("192.0.2.2", &failed(), 2);
    bench.changed();
    assert!(bench.roster.sights().judged.is_empty());
    bench.end("192.0.2.2", &failed(), 1);
    bench.changed();
    let sights = bench.roster.sights();
    assert_eq!((sights.judged.len(), sights.len()), (1, 1));
    let mut next = (*bench.view).clone();
    next.shards.upsert(shard("c", &["192.0.2.3"]), |_| false);
    bench.view = Arc::new(next);
    bench.follow(Level::Probed);
    bench.changed();
    assert_eq!(bench.roster.sights().judged.len(), 1, "a new shard does not undo it");
}

#[test]
fn the_highest_load_of_a_shards_targets_is_its_own() {
    let mut bench = Bench::new(view(vec![shard("a", &["192.0.2.1", "192.0.2.2"])]));
    let loaded = |load| Report { load: Some(load), ..passed() };
    bench.end("192.0.2.1", &loaded(0.5), 1);
    bench.end("192.0.2.2", &loaded(0.7), 1);
    bench.changed();
    assert_eq!(bench.local("a").load, Some(0.7));
    bench.end("192.0.2.2", &failed(), 1);
    bench.changed();
    assert_eq!(bench.local("a").load, Some(0.7), "what fails says nothing of its load");
}

/// On a machine without IPv6, what has addresses of both families is checked by IPv4.
#[test]
fn a_target_that_cannot_be_asked_is_not_waited_for() {
    let (two, other) = (["192.0.2.1", "2001:db8::1"], ["192.0.2.2", "2001:db8::2"]);
    let mut bench = Bench::new(view(vec![shard("a", &two), shard("b", &other)]));
    for address in ["2001:db8::1", "2001:db8::2"] {
        bench.end(address, &unable(), 1);
    }
    bench.end("192.0.2.1", &failed(), 3);
    bench.end("192.0.2.2", &passed(), 1);
    bench.changed();
    assert!(matches!(bench.local("a").seen, LocalSeen::Failing(_)));
    assert_eq!(bench.roster.sights().judged.len(), 1);
    bench.end("192.0.2.2", &failed(), 3);
    bench.changed();
    assert_eq!(bench.roster.checks(&label("x")), Checks::Failing);
    // Once it can be asked, it counts.
    bench.end("2001:db8::1", &failed(), 1);
    bench.changed();
    assert_eq!(bench.local("a").seen, LocalSeen::Nothing, "it may pass yet");
    bench.end("2001:db8::1", &passed(), 1);
    bench.changed();
    assert_eq!(bench.local("a").seen, LocalSeen::Well);
}

#[test]
fn a_shard_that_cannot_be_checked_from_here_counts_as_not_checked() {
    let of = |b: &str| Bench::new(view(vec![shard("a", &["192.0.2.1"]), shard("b", &[b])]));
    let mut bench = of("2001:db8::1");
    bench.end("192.0.2.1", &failed(), 3);
    bench.changed();
    assert_eq!(bench.roster.checks(&label("x")), Checks::Unknown, "the other may pass yet");
    bench.end("2001:db8::1", &unable(), 1);
    bench.changed();
    let sights = bench.roster.sights();
    assert_eq!((sights.judged.len(), sights.clusters.len()), (1, 1));
    assert_eq!(bench.roster.checks(&label("x")), Checks::Failing);
    assert_eq!(bench.local("b").seen, LocalSeen::Unable);
    // A cut of ours, by which none can be asked, says nothing at all.
    let mut bench = of("192.0.2.2");
    bench.end("192.0.2.1", &unable(), 9);
    bench.end("192.0.2.2", &unable(), 9);
    bench.changed();
    assert_eq!(bench.roster.sights(), Sights::default());
    assert_eq!(bench.roster.checks(&label("x")), Checks::Unknown);
    assert!(!bench.roster.is_probed(&label("x")));
    // What leaves is counted no more.
    bench.view = view(vec![shard("a", &["192.0.2.1"])]);
    bench.follow(Level::Probed);
    bench.end("192.0.2.1", &failed(), 3);
    bench.changed();
    assert_eq!(bench.roster.checks(&label("x")), Checks::Failing);
}

/// The cluster by other settings of its checks.
fn reload(bench: &mut Bench, change: impl FnOnce(&mut health::check::Settings)) {
    let mut settings = checked(CheckMode::Always);
    change(&mut settings.checks);
    bench.federation = federation(&["x"], settings);
    bench.follow(Level::Probed);
}

fn http(settings: &mut health::check::Settings) {
    settings.check = Arc::new("http:80/healthz".parse().expect("a check"));
}

#[test]
fn what_is_known_outlives_another_timing() {
    let mut bench = Bench::new(view(vec![shard("a", &["192.0.2.1"]), shard("b", &["192.0.2.2"])]));
    bench.end("192.0.2.1", &passed(), 1);
    bench.end("192.0.2.2", &failed(), 3);
    bench.changed();
    let sights = bench.roster.sights();
    assert_eq!((sights.judged.len(), sights.len()), (1, 1));
    bench.roster.fresh();
    reload(&mut bench, |checks| {
        checks.timing.interval *= 2;
        checks.timing.timeout *= 2;
        checks.timing.rise = 3.try_into().expect("not zero");
    });
    bench.changed();
    assert_eq!(bench.roster.sights(), sights, "all is known as before");
    assert_eq!((bench.roster.fresh().len(), bench.roster.targets()), (2, 2), "at other times");
    bench.end("192.0.2.2", &passed(), 2);
    bench.changed();
    assert!(matches!(bench.local("b").seen, LocalSeen::Failing(_)), "by the new threshold");
    bench.end("192.0.2.2", &passed(), 1);
    bench.changed();
    assert_eq!(bench.local("b").seen, LocalSeen::Well);
}

/// A reload brings no dead shard back and takes no living one out before the new check has spoken.
#[test]
fn what_was_said_stands_until_another_check_has_spoken() {
    let mut bench = Bench::new(view(vec![
        shard("a", &["192.0.2.1"]),
        shard("b", &["192.0.2.2"]),
        // Asked together with the others by the new check alone.
        shard("c", &["192.0.2.1", "192.0.2.2"]),
    ]));
    bench.end("192.0.2.1", &passed(), 1);
    bench.end("192.0.2.2", &failed(), 3);
    bench.changed();
    let before = bench.roster.sights();
    reload(&mut bench, http);
    bench.changed();
    assert_eq!(bench.roster.targets(), 2);
    assert_eq!(bench.roster.sights(), before);
    // Fewer failures than count, fewer passes than let it rise, and faults of ours.
    bench.end("192.0.2.1", &failed(), 2);
    bench.end("192.0.2.2", &passed(), 1);
    bench.end("192.0.2.2", &unable(), 2);
    bench.changed();
    assert_eq!((&bench.local("a").seen, bench.roster.sights().len()), (&LocalSeen::Well, 1));
    assert!(bench.local("a").doubt.is_some());
    // Another reload in between changes nothing.
    reload(&mut bench, |checks| {
        http(checks);
        checks.timing.jitter += 1;
    });
    bench.changed();
    assert_eq!((&bench.local("a").seen, bench.roster.sights().len()), (&LocalSeen::Well, 1));
    bench.end("192.0.2.1", &failed(), 1);
    bench.end("192.0.2.2", &passed(), 1);
    bench.changed();
    assert!(matches!(bench.local("a").seen, LocalSeen::Failing(_)));
    assert_eq!(bench.local("b").seen, LocalSeen::Well);
    // At another address nothing is known.
    bench.view = view(vec![shard("a", &["192.0.2.9"])]);
    bench.follow(Level::Probed);
    bench.changed();
    assert_eq!(bench.local("a").seen, LocalSeen::Nothing);
}

/// What has nothing to stand for it is not seen well: others of the same cluster may know better.
#[test]
fn a_reload_that_begins_checks_anew_judges_anew() {
    let mut bench = Bench::new(view(vec![shard("a", &["192.0.2.1"]), shard("b", &["192.0.2.2"])]));
    let judged = |bench: &mut Bench| {
        bench.changed();
        bench.roster.sights().judged.len()
    };
    bench.end("192.0.2.1", &passed(), 1);
    assert_eq!(judged(&mut bench), 0);
    reload(&mut bench, http);
    assert_eq!(judged(&mut bench), 0, "the other may fail");
    bench.end("192.0.2.2", &failed(), 3);
    assert_eq!(judged(&mut bench), 1, "what was said of the first still stands");
}

#[test]
fn what_fails_of_a_shard_that_does_not_is_told() {
    let mut bench = Bench::new(view(vec![shard("a", &["192.0.2.1", "192.0.2.2"])]));
    let told = |bench: &mut Bench| {
        bench.changed();
        bench.local("a").doubt.as_ref().map(|doubt| (doubt.sight.since, doubt.lacking))
    };
    bench.end("192.0.2.1", &passed(), 1);
    assert_eq!(told(&mut bench), None);
    bench.end("192.0.2.2", &failed(), 1);
    assert_eq!(told(&mut bench), Some((0, Lacking::Failures { needed: 3 })));
    bench.end("192.0.2.2", &failed(), 2);
    assert_eq!(told(&mut bench), Some((0, Lacking::OtherTargets)));
    bench.end("192.0.2.1", &failed(), 3);
    assert_eq!(told(&mut bench), None, "it fails as a whole");
}

/// What happens to the only target.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ends(bool),
    /// By a fault of ours.
    Unable,
    /// It is asked something else.
    Asked(usize),
    /// It is asked at other times.
    Timed(u64),
}

proptest! {
    // A reload walks all buckets, which takes its time without optimisation.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Counted by the test in its own way: a shard turns by as many outcomes in a row as the
    /// thresholds say, of the check that it has now, whatever is reloaded in between.
    #[test]
    fn no_reload_turns_a_shard(steps in prop::collection::vec(prop_oneof![
        6 => any::<bool>().prop_map(Step::Ends),
        1 => Just(Step::Unable),
        1 => (0..3_usize).prop_map(Step::Asked),
        1 => (1..9_u64).prop_map(Step::Timed),
    ], 0..40)) {
        let mut bench = Bench::new(view(vec![shard("a", &["192.0.2.1"])]));
        let (mut asked, mut seconds) = (0, 5);
        let (mut row, mut last, mut well) = (0, None, None);
        for step in steps {
            match step {
                Step::Ends(passes) => {
                    bench.end("192.0.2.1", &if passes { passed() } else { failed() }, 1);
                    row = if last == Some(passes) { row + 1 } else { 1 };
                    last = Some(passes);
                    let needed = match (well, passes) {
                        (None, true) => 1,
                        (_, true) => 2,
                        (_, false) => 3,
                    };
                    if row >= needed {
                        well = Some(passes);
                    }
                }
                Step::Unable => bench.end("192.0.2.1", &unable(), 1),
                Step::Asked(other) => {
                    if other != asked {
                        (row, last) = (0, None);
                    }
                    asked = other;
                }
                Step::Timed(other) => seconds = other,
            }
            if matches!(step, Step::Asked(_) | Step::Timed(_)) {
                reload(&mut bench, |checks| {
                    let check = ["tcp:80", "http:80/a", "http:80/b"][asked];
                    checks.check = Arc::new(check.parse().expect("a check"));
                    checks.timing.interval = std::time::Duration::from_secs(seconds);
                });
            }
            bench.changed();
            let seen = match bench.local("a").seen {
                LocalSeen::Nothing | LocalSeen::Unable => None,
                LocalSeen::Well => Some(true),
                LocalSeen::Failing(_) => Some(false),
            };
            prop_assert_eq!(seen, well);
        }
    }
}
