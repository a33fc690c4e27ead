//! What vanishes at one stroke, and what does not.

use proptest::prelude::*;

use super::*;
use crate::cluster::state::hosts::HostAnswer;

/// Seconds after the start.
type Seconds = u64;

struct Guarded {
    cluster: Cluster,
    start: Instant,
}

impl Guarded {
    /// Services `s0`, `s1` and so on, each with a slice of one ready endpoint.
    fn new(services: usize) -> Self {
        let mut cluster = Cluster::empty();
        for index in 0..services {
            let _ = cluster.put(cluster.service(&format!("s{index}"), &address(index)));
            let name = format!("s{index}");
            let _ = cluster.put_slice(cluster.slice(&name, &name, &[("u", true)]));
        }
        Self { cluster, start: Instant::now() }
    }

    fn settle(&mut self, at: Seconds) -> Changed {
        self.cluster.state.settle(self.start + Duration::from_secs(at))
    }

    /// Lists services and slices anew, of which only those in `left` are there.
    fn relist(&mut self, left: impl Iterator<Item = usize> + Clone, at: Seconds) -> Changed {
        let state = &mut self.cluster.state;
        state.take(Event::Service(Change::Init));
        state.take(Event::Slice(Change::Init));
        for index in left {
            let name = format!("s{index}");
            let service = self.cluster.service(&name, &address(index));
            let slice = self.cluster.slice(&name, &name, &[("u", true)]);
            self.cluster.state.take(Event::Service(Change::InitApply(service)));
            self.cluster.state.take(Event::Slice(Change::InitApply(slice)));
        }
        self.cluster.state.take(Event::Service(Change::InitDone));
        self.cluster.state.take(Event::Slice(Change::InitDone));
        self.settle(at)
    }

    /// One service is deleted, alone.
    fn delete(&mut self, index: usize, at: Seconds) -> Changed {
        let id = self.cluster.id(&format!("s{index}"));
        self.cluster.state.take(Event::Service(Change::Delete(id)));
        self.cluster.state.take(Event::Slice(Change::Delete(id)));
        self.settle(at)
    }

    /// Ready shards, and those that are withheld.
    fn shards(&self) -> (usize, usize) {
        let view = self.cluster.view();
        let ready = view.shards.iter().filter(|entry| entry.shard.endpoints.ready > 0).count();
        (ready, view.withheld)
    }
}

fn address(index: usize) -> String {
    format!("192.0.2.{}", index % 250 + 1)
}

const OVER: Seconds = CONFIRM.as_secs();

#[test]
fn a_list_without_most_shards_is_held_and_then_believed() {
    let mut guarded = Guarded::new(100);
    assert_eq!(guarded.relist(0..40, 5), Changed::View);
    assert_eq!(guarded.shards(), (100, 60));
    let reasons = guarded.cluster.reasons();
    assert!(reasons[0].contains("vanished at one stroke"), "{reasons:?}");
    assert_eq!(guarded.relist(0..40, 100), Changed::Nothing, "the same again");
    assert_eq!(guarded.settle(5 + OVER - 1), Changed::Nothing);
    let deadline = guarded.start + Duration::from_secs(5 + OVER);
    assert_eq!(guarded.cluster.state.deadline(), Some(deadline));
    assert_eq!(guarded.settle(5 + OVER), Changed::View);
    assert_eq!(guarded.shards(), (40, 0));
    assert_eq!(guarded.cluster.view().shards.len(), 40);
    assert!(guarded.cluster.reasons().is_empty());
    assert_eq!(guarded.cluster.state.deadline(), None);
}

#[test]
fn what_comes_back_is_no_longer_held() {
    let mut guarded = Guarded::new(100);
    let _ = guarded.relist(0..0, 0);
    assert_eq!(guarded.shards(), (100, 100));
    let _ = guarded.relist(0..90, 60);
    assert_eq!(guarded.shards(), (100, 10));
    assert_eq!(guarded.settle(OVER), Changed::View);
    assert_eq!(guarded.shards(), (90, 0));
}

/// The view of an earlier run with as many shards, and a cluster that remembers it.
fn after_a_run_with(services: usize) -> Guarded {
    let before = Guarded::new(services).cluster.view();
    let mut cluster = Cluster::unread();
    cluster.state.remember(&before);
    Guarded { cluster, start: Instant::now() }
}

#[test]
fn a_first_list_without_most_shards_of_the_last_run_is_held() {
    let mut guarded = after_a_run_with(100);
    guarded.cluster.state.take(Event::Node(Change::Init));
    guarded.cluster.state.take(Event::Node(Change::InitDone));
    assert_eq!(guarded.relist(0..40, 5), Changed::View);
    assert_eq!(guarded.shards(), (100, 60));
    assert!(guarded.cluster.reasons()[0].contains("since the last run"));
    // One comes back; one comes back and goes by its own deletion.
    let one = guarded.cluster.service("s70", &address(70));
    guarded.cluster.state.take(Event::Service(Change::Apply(one)));
    assert_eq!(guarded.settle(6), Changed::View);
    assert_eq!(guarded.shards(), (99, 59), "it has no endpoint any more");
    assert_eq!(guarded.delete(70, 7), Changed::View);
    assert_eq!(guarded.cluster.view().shards.len(), 99);
    let deadline = guarded.start + Duration::from_secs(5 + OVER);
    assert_eq!(guarded.cluster.state.deadline(), Some(deadline));
    assert_eq!(guarded.settle(5 + OVER), Changed::View);
    assert_eq!(guarded.shards(), (40, 0));
    assert_eq!(guarded.cluster.view().shards.len(), 40);
    assert!(guarded.cluster.reasons().is_empty());
    assert_eq!(guarded.cluster.state.deadline(), None);
}

#[test]
fn a_first_list_may_lack_half_of_the_last_run() {
    let mut guarded = after_a_run_with(100);
    guarded.cluster.state.take(Event::Node(Change::Init));
    guarded.cluster.state.take(Event::Node(Change::InitDone));
    let _ = guarded.relist(0..50, 0);
    assert_eq!((guarded.shards(), guarded.cluster.view().shards.len()), ((50, 0), 50));
}

#[test]
fn half_of_the_shards_or_few_may_go_at_once() {
    let mut half = Guarded::new(100);
    let _ = half.relist(0..50, 0);
    assert_eq!(half.shards(), (50, 0));
    let mut few = Guarded::new(49);
    let _ = few.relist(0..0, 0);
    assert_eq!(few.shards(), (0, 0));
}

#[test]
fn slices_alone_that_vanish_are_held_too() {
    let mut guarded = Guarded::new(60);
    guarded.cluster.state.take(Event::Slice(Change::Init));
    guarded.cluster.state.take(Event::Slice(Change::InitDone));
    assert_eq!(guarded.settle(0), Changed::View);
    assert_eq!(guarded.shards(), (60, 60));
    assert_eq!(guarded.settle(OVER), Changed::View);
    assert_eq!(guarded.shards(), (0, 0));
    assert_eq!(guarded.cluster.view().shards.len(), 60, "the Services are there");
}

#[test]
fn what_a_cluster_says_of_what_is_there_is_never_held() {
    let mut guarded = Guarded::new(100);
    for index in 0..80 {
        let name = format!("s{index}");
        let slice = guarded.cluster.slice(&name, &name, &[("u", false)]);
        guarded.cluster.state.take(Event::Slice(Change::Apply(slice)));
    }
    assert_eq!(guarded.settle(0), Changed::View);
    assert_eq!(guarded.shards(), (20, 0));
    // Nor while others are held.
    let _ = guarded.relist(0..0, 1);
    assert_eq!(guarded.cluster.view().withheld, 100);
    let slice = guarded.cluster.slice("s99", "s99", &[("u", false)]);
    let _ = guarded.cluster.put_slice(slice);
    assert_eq!(guarded.cluster.endpoints("s99"), (0, 1));
}

#[test]
fn deletions_one_by_one_are_put_back_when_they_become_many() {
    let mut guarded = Guarded::new(100);
    let named = guarded.cluster.service_with("s0", json!({"hostname": "a.example.net"}), json!({}));
    let _ = guarded.cluster.put(named);
    let addresses = ["192.0.2.7".parse().unwrap()].into();
    let answer = HostAnswer::Resolved { addresses, ttl: 60 };
    let _ = guarded.cluster.state.apply(Event::Host { hostname: "a.example.net".into(), answer });
    for index in 0..50 {
        assert_eq!(guarded.delete(index, 0), Changed::View);
    }
    assert_eq!(guarded.shards(), (50, 0), "half is not most");
    assert_eq!(guarded.delete(50, 10), Changed::View);
    assert_eq!(guarded.shards(), (100, 51));
    assert_eq!(guarded.cluster.addresses("s0"), ["192.0.2.7"], "nor is it resolved anew");
    assert_eq!(guarded.settle(10 + OVER), Changed::View);
    assert_eq!(guarded.cluster.view().shards.len(), 49);
}

#[test]
fn deletions_over_a_long_time_are_no_accident() {
    let mut guarded = Guarded::new(100);
    for index in 0..100 {
        assert_eq!(guarded.delete(index, 11 * index as u64), Changed::View);
        assert_eq!(guarded.shards(), (99 - index, 0));
    }
}

#[test]
fn no_confirmation_is_no_guard() {
    let mut guarded = Guarded::new(100);
    guarded.cluster.state.guard = Guard::new(Duration::ZERO);
    let _ = guarded.relist(0..0, 0);
    assert_eq!(guarded.shards(), (0, 0));
}

proptest! {
    /// Whatever lists come, no view has lost most of its shards against one of the last ten
    /// seconds; and at rest it holds what the last list held.
    #[test]
    fn no_stroke_takes_most(lists in prop::collection::vec((0..20_u64, 0..120_usize, 0..120_usize), 1..12)) {
        let mut guarded = Guarded::new(120);
        let mut now = 0;
        let mut history = vec![(0, 120)];
        for (after, from, to) in &lists {
            now += after;
            let before = guarded.cluster.state.deadline();
            let _ = guarded.relist(*from..*to, now);
            let (ready, _) = guarded.shards();
            // What was held long enough goes at one stroke, as it is to.
            if before.is_some_and(|at| at <= guarded.start + Duration::from_secs(now)) {
                history.clear();
            }
            for (at, earlier) in &history {
                let lost = earlier - ready.min(*earlier);
                let recent = now - at <= 10;
                prop_assert!(!recent || lost < 50 || lost * 2 <= *earlier, "{} of {}", lost, earlier);
            }
            history.push((now, ready));
        }
        let _ = guarded.settle(now + OVER);
        let (_, from, to) = lists.last().expect("at least one");
        prop_assert_eq!(guarded.shards(), (to.saturating_sub(*from), 0));
    }
}
