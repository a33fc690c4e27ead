//! What it takes to publish a change: the next snapshot on top of the present one, and the swap.
//!
//!     cargo bench --bench publish
//!
//! A change of one shard must not cost more where there are more services. Times are the median of
//! several runs; figures of one run are comparable with one another only.

#[allow(dead_code, reason = "each benchmark uses its part of it")]
mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use meridian::health::{ClusterState, Reason, Standing};
use meridian::model::{ClusterView, ShardEntry};
use meridian::snapshot::{Inputs, Snapshot, SnapshotCell, build};

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
    let (swap, load, quiet) = swap(support::inputs(1_000, CLUSTERS));
    println!(
        "\n| a swap while another thread loads | a load meanwhile | a load while none swaps |"
    );
    println!("|---|---|---|");
    println!("| {swap:.0} ns | {load:.0} ns | {quiet:.0} ns |");
}

/// What putting a snapshot in the place of another takes, and loading one, which a worker does once a
/// batch, nanoseconds each. Neither depends on what is in them.
fn swap(inputs: Inputs) -> (f64, f64, f64) {
    const SWAPS: u32 = 200_000;
    let each = |took: Duration, times: u32| took.as_nanos() as f64 / f64::from(times);
    let mut next = Arc::new(build(None, inputs.clone()));
    let cell = SnapshotCell::new(build(None, inputs));
    let over = AtomicBool::new(false);
    let loads = || {
        let (start, mut loads) = (Instant::now(), 0);
        while !over.load(Relaxed) && loads < u32::MAX {
            black_box(cell.load());
            loads += 1;
        }
        each(start.elapsed(), loads)
    };
    let (swap, load) = thread::scope(|scope| {
        let reader = scope.spawn(loads);
        let start = Instant::now();
        for _ in 0..SWAPS {
            next = cell.swap(next.clone());
        }
        let took = start.elapsed();
        over.store(true, Relaxed);
        (each(took, SWAPS), reader.join().expect("the reader does not panic"))
    });
    let start = Instant::now();
    (0..SWAPS).for_each(|_| drop(black_box(cell.load())));
    (swap, load, each(start.elapsed(), SWAPS))
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
