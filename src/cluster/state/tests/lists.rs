//! Lists that replace what was read before.

use super::*;

#[test]
fn a_listed_object_that_cannot_be_read_stays_as_it_was() {
    let mut cluster = Cluster::empty();
    let _ = cluster.put(cluster.service("broken", "192.0.2.1"));
    let _ = cluster.put(cluster.service("gone", "192.0.2.2"));
    let id = cluster.id("broken");
    for change in [Change::Init, Change::InitKeep(id)] {
        assert_eq!(cluster.state.apply(Event::Service(change)), Changed::Nothing);
    }
    assert_eq!(cluster.state.apply(Event::Service(Change::InitDone)), Changed::View);
    assert!(cluster.shard("broken").is_some() && cluster.shard("gone").is_none());
    // It was kept for this list, not for ever.
    for change in [Change::Init, Change::InitDone] {
        let _ = cluster.state.apply(Event::Service(change));
    }
    assert!(cluster.shard("broken").is_none());
}

/// Its objects are taken in as they come, but those of one that broke off do not stay.
#[test]
fn a_first_list_that_breaks_off_leaves_nothing() {
    let mut cluster = Cluster::empty();
    cluster.state = ClusterState::new(cluster.rules.clone(), CONFIRM);
    // More than the guard would let go at one stroke, had they ever been shown.
    let mut events = vec![Event::Service(Change::Init)];
    let gone = (0..100).map(|i| cluster.service(&format!("gone{i}"), "192.0.2.1"));
    events.extend(gone.map(|service| Event::Service(Change::InitApply(service))));
    events.push(Event::Service(Change::Init));
    let stays = cluster.service("stays", "192.0.2.2");
    events.push(Event::Service(Change::InitApply(stays)));
    events.extend([Event::Service(Change::InitDone), Event::Slice(Change::Init)]);
    events.extend([Event::Slice(Change::InitDone), Event::Node(Change::Init)]);
    for event in events {
        assert_eq!(cluster.state.apply(event), Changed::Nothing);
    }
    assert_eq!(cluster.state.apply(Event::Node(Change::InitDone)), Changed::View);
    let view = cluster.view();
    let names: Vec<&str> = view.shards.iter().map(|entry| entry.key.name()).collect();
    assert_eq!((names, view.withheld), (vec!["stays"], 0));
}

#[test]
fn a_list_replaces_only_when_complete() {
    let mut cluster = Cluster::empty();
    let _ = cluster.put(cluster.service("old", "192.0.2.1"));
    let _ = cluster.put(cluster.service("kept", "192.0.2.2"));
    let before = cluster.view().shards.clone();
    let kept = |entry: &&ShardEntry| entry.key.name() == "kept";
    let bucket = bucket_of(before.iter().find(kept).expect("exported").hash);
    assert_eq!(cluster.state.apply(Event::Service(Change::Init)), Changed::Nothing);
    for (name, ip) in [("kept", "192.0.2.2"), ("new", "192.0.2.3")] {
        let event = Event::Service(Change::InitApply(cluster.service(name, ip)));
        assert_eq!(cluster.state.apply(event), Changed::Nothing);
    }
    assert!(cluster.shard("old").is_some() && cluster.shard("new").is_none());
    // Half a list that is begun anew leaves nothing behind.
    let half = Event::Service(Change::InitApply(cluster.service("half", "192.0.2.9")));
    let _ = cluster.state.apply(half);
    let _ = cluster.state.apply(Event::Service(Change::Init));
    for (name, ip) in [("kept", "192.0.2.2"), ("new", "192.0.2.3")] {
        let event = Event::Service(Change::InitApply(cluster.service(name, ip)));
        assert_eq!(cluster.state.apply(event), Changed::Nothing);
    }
    // What is deleted while the list comes in does not come back with its end.
    let id = cluster.id("new");
    assert_eq!(cluster.state.apply(Event::Service(Change::Delete(id))), Changed::Nothing);
    assert_eq!(cluster.state.apply(Event::Service(Change::InitDone)), Changed::View);
    assert!(cluster.shard("old").is_none() && cluster.shard("half").is_none());
    assert!(cluster.shard("new").is_none());
    assert!(before.same(&cluster.view().shards, bucket), "unchanged is shared");
    assert_eq!(cluster.state.apply(Event::Service(Change::InitDone)), Changed::Nothing);
    assert!(cluster.shard("kept").is_some(), "an end without a beginning is no list");
}
