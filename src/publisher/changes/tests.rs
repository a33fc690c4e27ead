//! What is told of two snapshots.

use super::*;
use crate::model::{Drain, MinReady, ServiceOptions};
use crate::snapshot::testing::Fixture;

fn between(before: &Fixture, after: &Fixture) -> Changes {
    Changes::between(&before.build(), &after.build())
}

fn each(changes: &Changes) -> Vec<String> {
    let Telling::Each(changes) = changes.telling() else { panic!("{changes:?}") };
    let line = |c: &ShardChange| {
        format!("{}@{} {}>{}: {}", c.key, c.cluster, c.from.label(), c.to.label(), c.to)
    };
    let mut lines: Vec<_> = changes.iter().map(line).collect();
    lines.sort();
    lines
}

fn two() -> Fixture {
    Fixture::new().cluster("a", "eu", &[], None).cluster("b", "us", &[], None)
}

fn plain() -> ServiceOptions {
    ServiceOptions::default()
}

#[test]
fn shards_that_change_are_told_with_from_to_and_reason() {
    let drained = ServiceOptions { drain: Drain::AtOnce, ..plain() };
    let before = two()
        .shard(0, "n/ready", &["192.0.2.1"], 2, plain())
        .shard(0, "n/same", &["192.0.2.2"], 0, plain())
        .shard(0, "n/drained", &["192.0.2.3"], 1, plain())
        .shard(1, "n/gone", &["192.0.2.4"], 1, plain());
    let after = two()
        .shard(0, "n/ready", &["192.0.2.1"], 0, plain())
        .shard(0, "n/same", &[], 0, plain())
        .shard(0, "n/drained", &["192.0.2.3"], 1, drained)
        .shard(1, "n/new", &["192.0.2.5"], 1, plain());
    let told = each(&between(&before, &after));
    assert_eq!(
        told,
        [
            "n/drained@a served>drained: drained by annotation",
            "n/gone@b served>absent: is not exported any more",
            "n/new@b absent>served: is healthy",
            "n/ready@a served>not_ready: 0 of 1 needed endpoints ready",
            "n/same@a not_ready>no_address: has no address",
        ]
    );
    assert!(between(&before, &before).is_empty());
}

#[test]
fn the_same_reason_with_other_numbers_is_no_change() {
    let with = |ready| {
        let options = ServiceOptions { min_ready: Some(MinReady::Count(9)), ..plain() };
        two().shard(0, "n/web", &["192.0.2.1"], ready, options)
    };
    assert!(between(&with(1), &with(2)).is_empty());
    assert_eq!(each(&between(&with(1), &with(9))).len(), 1);
}

#[test]
fn a_cluster_that_is_first_read_or_moved_is_no_news_of_its_shards() {
    let mut unread = two();
    unread.read[0] = false;
    let read = two().shard(0, "n/web", &["192.0.2.1"], 1, plain());
    assert!(between(&unread, &read).is_empty());
    // The second cluster becomes the first, and its shard fails.
    let moved = Fixture::new().cluster("b", "us", &[], None);
    let before = two().shard(1, "n/web", &["192.0.2.1"], 1, plain());
    let after = moved.shard(0, "n/web", &["192.0.2.1"], 0, plain());
    let told = each(&between(&before, &after));
    assert_eq!(told, ["n/web@b served>not_ready: 0 of 1 needed endpoints ready"]);
}

#[test]
fn many_are_summed_in_bounded_space() {
    let with = |ready| {
        (0..500).fold(two(), |fixture, n| {
            let service = format!("n/web{n}");
            fixture.shard(0, &service, &["192.0.2.1"], ready, plain()).shard(
                1,
                &service,
                &["192.0.2.2"],
                ready,
                plain(),
            )
        })
    };
    let mut changes = between(&with(1), &with(0));
    changes.append(between(&with(0), &with(1)));
    assert_eq!(changes.first.len(), MOST);
    let Telling::Summed(groups) = changes.telling() else { panic!("told one by one") };
    let sums: Vec<_> =
        groups.iter().map(|g| (way(&g.example), g.shards, g.clusters.len())).collect();
    assert_eq!(sums, [(("served", "not_ready"), 1000, 2), (("not_ready", "served"), 1000, 2)]);
}
