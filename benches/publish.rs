//! What it takes to publish a change: the next snapshot on top of the present one.
//!
//!     cargo bench --bench publish
//!
//! A change of one shard must not cost more where there are more services. Times are the median of
//! several runs; figures of one run are comparable with one another only.

#[allow(dead_code, reason = "each benchmark uses its part of it")]
mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian::health::{ClusterState, Reason, Standing};
use meridian::model::{ClusterView, ShardEntry};
use meridian::snapshot::{Inputs, Snapshot, build};

/// Clusters of every federation.
const CLUSTERS: usize = 4;

fn main() {
    println!(
        "| services x {CLUSTERS} clusters | one shard | a cluster down | a cluster unready | from nothing |"
    );
    println!("|---|---|---|---|---|");
    for services in [1_000, 10_000, 100_000] {
        let snapshot = support::snapshot(support::inputs(services, CLUSTERS));
        let one = median(101, |run| {
            let inputs = one_shard(&snapshot, run % services, 1 - run as u32 % 2);
            timed(|| build(Some(&snapshot), inputs))
        });
        let down = median(11, |_| {
            let inputs = down(&snapshot);
            timed(|| build(Some(&snapshot), inputs))
        });
        let unready = median(5, |_| {
            let inputs = unready(&snapshot);
            timed(|| build(Some(&snapshot), inputs))
        });
        let nothing = median(3, |_| {
            let inputs = snapshot.inputs.clone();
            timed(|| build(None, inputs))
        });
        println!("| {services} | {one:.0?} | {down:.0?} | {unready:.1?} | {nothing:.0?} |");
    }
}

/// Runs something; how long it took, freeing left out.
fn timed(run: impl FnOnce() -> Snapshot) -> Duration {
    let start = Instant::now();
    let next = black_box(run());
    let took = start.elapsed();
    drop(next);
    took
}

fn median(runs: usize, mut run: impl FnMut(usize) -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..runs).map(&mut run).collect();
    times.sort_unstable();
    times[runs / 2]
}

/// Inputs in which one shard of the first cluster has so many ready endpoints.
fn one_shard(snapshot: &Snapshot, index: usize, ready: u32) -> Inputs {
    let mut inputs = snapshot.inputs.clone();
    let Some(view) = &inputs.views[0] else { return inputs };
    let mut shards = view.shards.clone();
    let entry =
        ShardEntry::new(support::key(index), support::shard(0, index, ready, &support::ports()));
    shards.upsert(entry.clone(), |old| old.key == entry.key);
    inputs.views[0] = Some(Arc::new(ClusterView { shards, ..(**view).clone() }));
    inputs
}

/// Inputs in which the first cluster is down.
fn down(snapshot: &Snapshot) -> Inputs {
    let mut inputs = snapshot.inputs.clone();
    inputs.standings[0] = Standing { state: ClusterState::Down, since: 0, reason: Reason::Current };
    inputs
}

/// Inputs in which no shard of the first cluster has a ready endpoint, every one anew.
fn unready(snapshot: &Snapshot) -> Inputs {
    let mut inputs = snapshot.inputs.clone();
    let Some(view) = &inputs.views[0] else { return inputs };
    let ports = support::ports();
    let services = view.shards.len();
    let entries =
        (0..services).map(|i| ShardEntry::new(support::key(i), support::shard(0, i, 0, &ports)));
    let shards = meridian::model::Buckets::from_items(entries);
    inputs.views[0] = Some(Arc::new(ClusterView { shards, ..(**view).clone() }));
    inputs
}
