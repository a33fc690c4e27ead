//! Drains and loads over time.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::LoadLimit;
use super::*;
use crate::model::{Buckets, ServiceOptions, ShardParts, Until};

const TTL: u32 = 100;

fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new(&label("ns"), &label(name))
}

fn view(shards: &[(&str, ServiceOptions)]) -> Option<Arc<ClusterView>> {
    let entries = shards.iter().map(|(name, options)| {
        let options = Some(Box::new(options.clone()));
        ShardEntry::new(key(name), ShardParts { options, ..ShardParts::default() })
    });
    Some(Arc::new(ClusterView { shards: Buckets::from_items(entries), ..ClusterView::default() }))
}

fn drained(drain: Drain) -> ServiceOptions {
    ServiceOptions { drain, ..ServiceOptions::default() }
}

fn loaded(load: f64) -> ServiceOptions {
    ServiceOptions { load: Some(load), ..ServiceOptions::default() }
}

fn forced(to: Forced, until: Until) -> ServiceOptions {
    let force = Force { to, author: "a".into(), reason: "b".into(), until };
    ServiceOptions { force: Some(Arc::new(force)), ..ServiceOptions::default() }
}

fn member(name: &str, drain: Drain) -> Member {
    Member { drain, ..Member::named(label(name)) }
}

/// One cluster `a` and what is said of it.
#[derive(Default)]
struct World {
    tracker: PhaseTracker,
    overrides: Arc<Overrides>,
    drain: Drain,
}

impl World {
    fn see(&mut self, view: &Option<Arc<ClusterView>>, now: u64) -> Phases {
        let seen = Seen {
            settings: &Settings::default(),
            members: &[member("a", self.drain)],
            views: std::slice::from_ref(view),
            overrides: &self.overrides,
            now,
        };
        self.tracker.observe(seen, |key| if key.is_some() { TTL } else { 2 * TTL }).clone()
    }

    fn leaving(&mut self, view: &Option<Arc<ClusterView>>, now: u64) -> Option<u64> {
        self.see(view, now).shards.get(&key("web"), &label("a"))?.leaving
    }

    fn rule(&mut self, text: &str) {
        let rules = super::super::overrides::parse(text).expect("valid");
        self.overrides = Arc::new(Overrides { rules, fault: None });
    }
}

#[test]
fn a_drain_lasts_for_the_old_ttl_from_when_it_was_seen_to_begin() {
    let (plain, planned) = (drained(Drain::No), drained(Drain::Planned));
    let (before, after) = (view(&[("web", plain)]), view(&[("web", planned.clone())]));
    let mut world = World::default();
    assert_eq!(world.leaving(&before, 10), None);
    assert_eq!(world.leaving(&after, 20), Some(120));
    // Another view in which it is still drained.
    assert_eq!(world.leaving(&view(&[("web", planned.clone())]), 60), Some(120));
    assert_eq!(world.leaving(&after, 500), Some(120), "remembered when it is over");
    assert_eq!(world.leaving(&before, 510), None);
    assert_eq!(world.leaving(&after, 520), Some(620), "another one");
    assert_eq!(world.leaving(&view(&[]), 530), None);
    assert_eq!(world.leaving(&after, 540), None, "it came drained");
    assert_eq!(World::default().leaving(&after, 20), None, "it was drained at the start");
}

#[test]
fn what_was_out_is_not_brought_back_by_a_planned_drain() {
    let at = |drain| view(&[("web", drained(drain))]);
    let mut world = World::default();
    world.leaving(&at(Drain::No), 1);
    assert_eq!(world.leaving(&at(Drain::AtOnce), 2), None);
    assert_eq!(world.leaving(&at(Drain::Planned), 3), None);
    // Nor by the end of an override.
    let ended = view(&[("web", forced(Forced::Down, Until::At(10)))]);
    let mut world = World::default();
    world.rule("- {service: ns/web, state: drained, author: a, reason: b, until: never}");
    assert_eq!(world.leaving(&ended, 1), None);
    assert_eq!(world.leaving(&ended, 11), None);
}

#[test]
fn overrides_begin_drains_and_end_by_themselves() {
    let plain = view(&[("web", drained(Drain::No))]);
    let mut world = World::default();
    world.leaving(&plain, 1);
    world.rule(
        "- {service: ns/web, state: drained, author: a, reason: b, until: 1970-01-01T00:01:00Z}",
    );
    assert_eq!(world.leaving(&plain, 5), Some(105));
    assert_eq!(world.leaving(&plain, 59), Some(105));
    assert_eq!(world.leaving(&plain, 60), None, "the rule has ended");
    // By annotation.
    let until = |until| view(&[("web", forced(Forced::Drained, Until::At(until)))]);
    let (annotated, later) = (until(90), until(95));
    assert_eq!(world.leaving(&annotated, 70), Some(170));
    assert_eq!(world.leaving(&later, 80), Some(170));
    assert_eq!(world.leaving(&later, 92), Some(170));
    assert_eq!(world.leaving(&later, 95), None);
    // A rule that forces it up stops the drain.
    let planned = view(&[("web", drained(Drain::Planned))]);
    assert_eq!(world.leaving(&plain, 100), None);
    assert_eq!(world.leaving(&planned, 101), Some(201));
    world.rule("- {service: ns/*, state: up, author: a, reason: b, until: never}");
    assert_eq!(world.leaving(&planned, 102), None);
}

#[test]
fn whole_clusters_are_drained_for_the_longest_ttl() {
    let mut world = World::default();
    let plain = view(&[]);
    let leaving = |phases: Phases| phases.clusters.get("a").copied();
    assert_eq!(leaving(world.see(&plain, 1)), None);
    world.drain = Drain::Planned;
    let first = world.see(&plain, 2);
    assert_eq!(first.clusters.get("a"), Some(&202));
    assert!(Arc::ptr_eq(&first.clusters, &world.see(&plain, 3).clusters), "the same pointer");
    world.drain = Drain::AtOnce;
    assert_eq!(leaving(world.see(&plain, 4)), None);
    world.drain = Drain::No;
    world.see(&plain, 5);
    world.rule("- {cluster: a, state: drained, author: a, reason: b, until: never}");
    assert_eq!(leaving(world.see(&plain, 6)), Some(206));
    let mut world = World { drain: Drain::Planned, ..World::default() };
    assert_eq!(leaving(world.see(&plain, 1)), None, "drained from the start");
}

#[test]
fn loads_keep_their_hysteresis_and_are_forgotten_with_their_shards() {
    let mut world = World::default();
    let mut load = |load: f64, now| {
        let phases = world.see(&view(&[("web", loaded(load))]), now);
        phases.shards.get(&key("web"), &label("a")).and_then(|phase| phase.load)
    };
    assert_eq!(load(0.5, 1), Some(Load::Within(0.5)));
    assert_eq!(load(0.95, 2), Some(Load::Over(0.95)));
    assert_eq!(load(0.85, 3), Some(Load::Over(0.95)), "within the hysteresis");
    assert_eq!(load(0.75, 4), Some(Load::Within(0.75)));
    assert!(world.see(&view(&[]), 5).shards.is_empty());
    world.see(&view(&[("web", loaded(0.95))]), 6);
    let none = Seen {
        settings: &Settings::default(),
        members: &[],
        views: &[],
        overrides: &Arc::default(),
        now: 7,
    };
    assert!(world.tracker.observe(none, |_| 0).shards.is_empty(), "the cluster is gone");
}

#[test]
fn another_limit_counts_at_once() {
    let mut tracker = PhaseTracker::default();
    let view = [view(&[("web", loaded(0.7))])];
    let mut over = |limit, now| {
        let load = LoadLimit { limit, hysteresis: 0.1 };
        let settings = Settings { load, ..Settings::default() };
        let members = &[member("a", Drain::No)];
        let seen =
            Seen { settings: &settings, members, views: &view, overrides: &Arc::default(), now };
        let phases = tracker.observe(seen, |_| 0);
        phases.shards.get(&key("web"), &label("a")).and_then(|phase| phase.load)
    };
    assert_eq!(over(0.9, 1), Some(Load::Within(0.7)));
    assert_eq!(over(0.6, 2), Some(Load::Over(0.7)));
}

proptest! {
    /// Whatever is said, what was served is never out by a planned drain before the TTL that it was
    /// answered with is over, and is out when it is.
    #[test]
    fn planned_drains_keep_their_time(steps in vec((0u64..150, prop::bool::ANY), 1..30)) {
        let mut world = World::default();
        let (mut now, mut begun) = (1, None);
        world.see(&view(&[("web", drained(Drain::No))]), now);
        for (passed, drain) in steps {
            now += passed;
            let options = drained(if drain { Drain::Planned } else { Drain::No });
            let leaving = world.leaving(&view(&[("web", options)]), now);
            begun = if drain { Some(begun.unwrap_or(now)) } else { None };
            prop_assert_eq!(leaving, begun.map(|begun| begun + u64::from(TTL)));
        }
    }
}
