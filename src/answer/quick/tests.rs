//! The short way answers as the long way does.

mod packets;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, LazyLock};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use self::packets::{query, slips};
use super::super::{Answered, Client, MAX_MESSAGE, Transport, thorough};
use super::{Ahead, quick};
use crate::health::ClusterState;
use crate::model::{Force, Forced, Policy, ServiceOptions, Ties, Until};
use crate::snapshot::testing::{Fixture, name, settle};
use crate::snapshot::{Snapshot, build};
use crate::zone::StaticRecord;

/// One shard: its cluster (5 is one beyond the first 64), service, addresses, ready endpoints,
/// policy, ties, and what an operator forces it to be.
type ShardOf =
    (usize, &'static str, Vec<&'static str>, u32, Option<Policy>, Option<Ties>, Option<Forced>);

fn shard() -> impl Strategy<Value = ShardOf> {
    let count = |n| NonZeroU16::new(n).expect("not zero");
    let policies = [
        Policy::All,
        Policy::Nearest(count(1)),
        Policy::Nearest(count(2)),
        Policy::Region,
        Policy::Weighted(count(1)),
    ];
    let addresses = [
        vec!["192.0.2.1"],
        vec!["192.0.2.2"],
        vec!["192.0.2.3", "192.0.2.4"],
        vec!["2001:db8::1"],
        vec!["192.0.2.5", "2001:db8::2"],
        vec![],
        MANY.iter().map(String::as_str).collect(),
    ];
    (
        0..6_usize,
        select(vec!["ns/web", "ns/api", "team/web"]),
        select(addresses.to_vec()),
        select(vec![0_u32, 1, 1, 1]),
        proptest::option::weighted(0.2, select(policies.to_vec())),
        proptest::option::weighted(0.1, Just(Ties::Sticky)),
        proptest::option::weighted(0.1, select(vec![Forced::Up, Forced::Down])),
    )
}

/// What may differ beside shards: which clusters are down, whether all sources are read and whether
/// static records stand among names of services.
#[derive(Clone, Debug)]
struct Setting {
    down: Vec<bool>,
    stale: bool,
    read: bool,
    records: bool,
    most: u16,
    /// Whether clusters have pod networks.
    pods: bool,
    /// Whether every table is compiled.
    settled: bool,
    payload: u16,
    /// Whether there are more than 64 clusters.
    many: bool,
}

fn setting() -> impl Strategy<Value = Setting> {
    let down = vec(proptest::bool::weighted(0.15), 5);
    let (read, records) = (proptest::bool::weighted(0.9), proptest::bool::weighted(0.2));
    let (pods, settled) = (proptest::bool::weighted(0.3), proptest::bool::weighted(0.8));
    let most = select(vec![1_u16, 2, 8, 64]);
    let payload = select(vec![512_u16, 1232, 4096]);
    let many = proptest::bool::weighted(0.2);
    (down, any::<bool>(), read, records, most, pods, settled, payload, many).prop_map(
        |(down, stale, read, records, most, pods, settled, payload, many)| Setting {
            down,
            stale,
            read,
            records,
            most,
            pods,
            settled,
            payload,
            many,
        },
    )
}

fn snapshot(shards: Vec<ShardOf>, setting: Setting) -> Snapshot {
    let mut fixture = Fixture::new()
        .cluster("a", "eu", &["eu-1"], Some((50.1, 8.7)))
        .cluster("b", "eu", &["eu-2"], Some((50.1, 8.7)))
        .cluster("c", "us", &["us-1"], Some((39.0, -77.5)))
        .cluster("d", "asia", &["us-1"], Some((24.0, 120.5)))
        .cluster("e", "asia", &[], None)
        .network("198.18.0.0/16", (24.0, 120.0))
        .network("198.19.0.0/17", (40.0, -80.0))
        .network("2001:db8:1::/48", (48.0, 10.0));
    if setting.many {
        // Those in between are never up to anything.
        for index in 5..64 {
            fixture = fixture.cluster(&format!("x{index}"), "eu", &[], None);
        }
        fixture = fixture.cluster("y", "us", &["us-1"], Some((39.0, -77.5)));
    }
    let mut seen = Vec::new();
    for (cluster, service, addresses, ready, policy, ties, force) in shards {
        let cluster = match cluster {
            5 if setting.many => 64,
            5 => continue,
            few => few,
        };
        if !seen.contains(&(cluster, service)) {
            seen.push((cluster, service));
            let force = force.map(|to| {
                let (author, reason) = ("someone".into(), "a test".into());
                Arc::new(Force { to, author, reason, until: Until::Never })
            });
            let options = ServiceOptions { policy, ties, force, ..ServiceOptions::default() };
            fixture = fixture.shard(cluster, service, &addresses, ready, options);
        }
    }
    for (state, down) in fixture.states.iter_mut().zip(setting.down) {
        if down {
            *state = ClusterState::Down;
        }
    }
    if setting.stale {
        // What may change soon has another TTL.
        fixture.states[2] = ClusterState::Stale;
        fixture.zone.unsettled_ttl = Some(7);
    }
    if setting.records {
        let owner = name("absent.ns.fed.svc.example.com");
        let record = StaticRecord { owner, rtype: 16, ttl: 60, rdata: Box::new([1, b'x']) };
        fixture.zone.records.push(record);
    }
    fixture.read[4] = setting.read;
    fixture.zone.max_addresses = NonZeroU16::new(setting.most).expect("not zero");
    let mut inputs = fixture.inputs();
    let federation = Arc::get_mut(&mut inputs.federation).expect("just made");
    federation.identity.udp_payload = setting.payload;
    if setting.pods {
        for (index, network) in ["198.18.3.0/24", "2001:db8:1:7::/64"].iter().enumerate() {
            let view = Arc::make_mut(inputs.views[index].as_mut().expect("it is read"));
            view.pod_networks = Arc::new([network.parse().expect("a network")].into());
        }
    }
    let snapshot = build(None, inputs);
    if setting.settled { settle(snapshot) } else { snapshot }
}

/// More addresses than an answer over UDP holds.
static MANY: LazyLock<Vec<String>> =
    LazyLock::new(|| (100..190).map(|last| format!("192.0.2.{last}")).collect());

fn run(
    answer: impl Fn(&Snapshot, &[u8], Client, u32, &mut [u8]) -> Option<Answered>,
    snapshot: &Snapshot,
    query: &[u8],
    client: Client,
    turn: u32,
) -> Option<(Answered, Vec<u8>)> {
    // Over UDP a reload may have raised what is allowed beyond the room that a worker has.
    let room = match client.transport {
        Transport::Tcp => MAX_MESSAGE,
        Transport::Udp => 512 + turn as usize * 977 % 3585,
    };
    let mut reply = vec![0xaa; room];
    let answered = answer(snapshot, query, client, turn, &mut reply)?;
    reply.truncate(answered.len);
    Some((answered, reply))
}

/// The short way after `ahead` has read the query, whatever it read before.
fn short(
    ahead: &mut Ahead,
    snapshot: &Snapshot,
    query: &[u8],
    client: Client,
    turn: u32,
) -> Option<(Answered, Vec<u8>)> {
    ahead.read(query);
    // Memory may be fetched for any query, and where something was found is no more than a hint.
    ahead.fetch_directory(snapshot);
    ahead.fetch_near(snapshot);
    let mut found = ahead.fetch_found(snapshot);
    found.fetch_behind();
    if turn % 2 == 1 {
        found.entry = snapshot.zone.services().iter().nth(turn as usize / 2 % 4);
    }
    let answer = |_: &_, query: &_, client, turn, reply: &mut _| {
        quick(found, query, ahead, client, turn, reply)
    };
    run(answer, snapshot, query, client, turn)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_ways_answer_alike(
        shards in vec(shard(), 0..12),
        setting in setting(),
        asked in vec((query(), slips(), any::<u32>(), any::<bool>()), 1..40),
    ) {
        let snapshot = snapshot(shards, setting);
        let mut ahead = Ahead::default();
        for (mut query, slips, turn, tcp) in asked {
            slips.iter().for_each(|slip| slip.make(&mut query));
            let transport = if tcp { Transport::Tcp } else { Transport::Udp };
            for address in ["203.0.113.9", "198.18.3.4", "2001:db8:1::53"] {
                let address: IpAddr = address.parse().expect("an address");
                let client = Client { address, transport };
                if let Some(short) = short(&mut ahead, &snapshot, &query, client, turn) {
                    let long = run(thorough, &snapshot, &query, client, turn);
                    prop_assert_eq!(Some(short), long);
                }
            }
        }
    }
}

/// A query for addresses without EDNS.
fn plain(text: &str, qtype: u8) -> Vec<u8> {
    let mut wire = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    wire.extend_from_slice(name(text).wire());
    wire.extend([0, qtype, 0, 1]);
    wire
}

#[test]
fn the_short_way_is_taken_where_it_can_be() {
    let one = |cluster, service, address| (cluster, service, vec![address], 1, None, None, None);
    let shards = vec![
        one(0, "ns/web", "192.0.2.1"),
        one(2, "ns/web", "192.0.2.2"),
        one(2, "ns/api", "2001:db8::1"),
    ];
    let setting = Setting {
        down: vec![],
        stale: false,
        read: true,
        records: false,
        most: 8,
        pods: false,
        settled: true,
        payload: 1232,
        many: false,
    };
    let snapshot = snapshot(shards, setting);
    let client = Client { address: [203, 0, 113, 9].into(), transport: Transport::Udp };
    let mut ahead = Ahead::default();
    for (text, qtype, taken) in [
        ("web.ns.fed.svc.example.com", 1, true),
        ("web.ns.fed.example.com", 1, true),
        ("web.ns.fed.svc.eu.example.com", 1, true),
        ("web.ns.fed.svc.us-1.us.example.com", 1, true),
        ("api.ns.fed.svc.example.com", 28, true),
        ("absent.ns.fed.svc.example.com", 1, true),
        ("a.web.ns.fed.svc.example.com", 1, true),
        // A chain; no data; another type; another kind of name; another cluster's.
        ("web.ns.fed.svc.asia.example.com", 1, false),
        ("web.ns.fed.svc.example.com", 28, false),
        ("web.ns.fed.svc.example.com", 16, false),
        ("b.web.ns.fed.svc.example.com", 1, false),
        ("_http._tcp.web.ns.fed.svc.example.com", 33, false),
        ("example.com", 1, false),
    ] {
        let query = plain(text, qtype);
        let answered = short(&mut ahead, &snapshot, &query, client, 0).is_some();
        assert_eq!(answered, taken, "{text} {qtype}");
    }
}

/// Sixty-four, which is all that the short way can hold, in front of more.
#[test]
fn clusters_behind_the_last_that_is_taken_change_nothing() {
    let mut fixture = Fixture::new().network("198.18.0.0/16", (0.0, 0.0));
    for index in 0..70_u8 {
        let point = Some((f64::from(index), f64::from(index) / 2.0));
        fixture = fixture.cluster(&format!("c{index}"), "eu", &[], point);
    }
    for index in 0..64 {
        let mut addresses = vec![format!("192.0.2.{}", index + 1)];
        if index == 5 {
            addresses.push("192.0.2.200".to_owned());
        }
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        fixture = fixture.shard(index, "ns/web", &addresses, 1, ServiceOptions::default());
    }
    fixture.zone.max_addresses = NonZeroU16::MAX;
    // Before the table of just these clusters is compiled, that of all is in force.
    let snapshot = build(None, fixture.inputs());
    let client = Client { address: [198, 18, 3, 4].into(), transport: Transport::Tcp };
    let query = plain("web.ns.fed.svc.example.com", 1);
    let quick = short(&mut Ahead::default(), &snapshot, &query, client, 0);
    assert!(quick.is_some());
    assert_eq!(quick, run(thorough, &snapshot, &query, client, 0));
}

/// Two of three clusters are as near as each other, and the order of all is taken as it stands.
#[test]
fn equals_take_turns_where_an_order_is_taken_whole() {
    let fixture = Fixture::new()
        .cluster("a", "eu", &[], Some((50.1, 8.7)))
        .cluster("b", "eu", &[], Some((50.1, 8.7)))
        .cluster("c", "us", &[], Some((39.0, -77.5)))
        .network("198.18.0.0/16", (24.0, 120.0))
        .network("198.19.0.0/16", (40.0, -80.0));
    let fixture = (0..3).fold(fixture, |fixture, cluster| {
        let address = format!("192.0.2.{cluster}");
        fixture.shard(cluster, "ns/web", &[&address], 1, ServiceOptions::default())
    });
    let snapshot = fixture.build();
    let table = snapshot.geography.compiled.whole();
    assert!(table.lists(0b111) && !table.lists(0b11) && !table.lists(0));
    let query = plain("web.ns.fed.svc.example.com", 1);
    let mut replies = Vec::new();
    for turn in 0..4 {
        let client = Client { address: [198, 18, 3, 4].into(), transport: Transport::Udp };
        let quick = short(&mut Ahead::default(), &snapshot, &query, client, turn);
        assert_eq!(quick, run(thorough, &snapshot, &query, client, turn));
        replies.extend(quick.map(|(_, reply)| reply));
    }
    assert_eq!(replies.len(), 4);
    assert!(replies.iter().any(|reply| *reply != replies[0]), "nobody's turn ends");
}
