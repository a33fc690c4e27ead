//! Random federations, small enough that names and addresses meet often.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::LazyLock;

use meridian::model::{
    Drain, Forced, MinReady, Protocol, ServiceKey, ServiceOptions, WhenNoneHealthy, bucket_of,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::federation::{self, Cluster, Key, ServiceShard, Told, name};

/// Labels of 63 octets, with which names become too long.
const LONG: [&str; 4] = [
    "a23456789-123456789-123456789-123456789-123456789-123456789-123",
    "b23456789-123456789-123456789-123456789-123456789-123456789-123",
    "c23456789-123456789-123456789-123456789-123456789-123456789-123",
    "d23456789-123456789-123456789-123456789-123456789-123456789-123",
];

/// Regions and zones share names with each other and with what is reserved.
const REGIONS: [&str; 6] = ["eu", "us", "ap", "x", "svc", LONG[0]];
const ZONES: [&str; 7] = ["a", "b", "eu", "x", "f", "pod", LONG[1]];
const SERVICES: [&str; 4] = ["web", "api", "svc", LONG[2]];
const NAMESPACES: [&str; 4] = ["n", "m", "f", LONG[3]];

/// When histories begin, Unix time in seconds.
pub(crate) const START: u64 = 1_700_000_000;

/// Types that a name may have, lack, or that mean something else.
pub(crate) fn qtypes() -> [u16; 6] {
    [1, 28, 33, 5, 255, 16]
}

fn label(labels: &'static [&'static str]) -> impl Strategy<Value = String> {
    // The last one, a long one, is rare.
    let common = select(&labels[..labels.len() - 1]);
    prop_oneof![9 => common, 1 => Just(labels[labels.len() - 1])].prop_map(str::to_owned)
}

/// Names of services that share a bucket, as some do in every large federation.
static NEIGHBOURS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let bucket = |name: &str| {
        let label = federation::label;
        bucket_of(ServiceKey::new(&label("n"), &label(name)).hash())
    };
    let others = (0..).map(|i| format!("s{i}")).filter(|name| bucket(name) == bucket("web"));
    others.take(2).chain(["web".to_owned()]).collect()
});

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        (label(&SERVICES), label(&NAMESPACES)),
        (select(&NEIGHBOURS[..]), Just("n".to_owned())),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1u8..6).prop_map(|last| IpAddr::from([192, 0, 2, last])),
        (1u16..4).prop_map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])),
    ]
}

fn options() -> impl Strategy<Value = ServiceOptions> {
    let when = prop_oneof![
        Just(WhenNoneHealthy::Nothing),
        Just(WhenNoneHealthy::All),
        Just(WhenNoneHealthy::Name(name("sorry.example.net"))),
        btree_set(address(), 1..3)
            .prop_map(|set| WhenNoneHealthy::Addresses(set.into_iter().collect())),
    ];
    let ttl = option::weighted(0.2, 1u32..300);
    let needed =
        prop_oneof![(0u32..3).prop_map(MinReady::Count), (0u8..=100).prop_map(MinReady::Percent)];
    let drain =
        prop_oneof![8 => Just(Drain::No), 1 => Just(Drain::AtOnce), 1 => Just(Drain::Planned)];
    (ttl, option::weighted(0.3, when), option::weighted(0.2, needed), drain).prop_map(
        |(ttl, when_none_healthy, min_ready, drain)| ServiceOptions {
            ttl,
            when_none_healthy,
            min_ready,
            drain,
            ..ServiceOptions::default()
        },
    )
}

fn shard() -> impl Strategy<Value = ServiceShard> {
    let protocol = select(&[Protocol::Tcp, Protocol::Udp][..]);
    let port = (select(&["http", "dns", LONG[1]][..]).prop_map(str::to_owned), protocol);
    (btree_set(address(), 0..4), 0u32..3, btree_map(port, 1u16..4, 0..3), options()).prop_map(
        |(addresses, ready, ports, options)| ServiceShard { addresses, ready, ports, options },
    )
}

fn services() -> impl Strategy<Value = BTreeMap<Key, ServiceShard>> {
    btree_map(key(), shard(), 0..4)
}

/// Times are those of a history: its steps are 1000 s apart.
fn told() -> impl Strategy<Value = Told> {
    let seldom = || prop::bool::weighted(0.2);
    let time = || (0u64..12).prop_map(|step| START + 500 + 1000 * step);
    let force = option::weighted(0.4, (select(&Forced::ALL[..]), time()));
    (seldom(), 0u8..2, seldom(), seldom(), force, option::of(time())).prop_map(
        |(failing, words, overloaded, unsettled, force, leaving)| Told {
            failing,
            words,
            overloaded,
            unsettled,
            force,
            leaving,
        },
    )
}

fn nodes() -> impl Strategy<Value = BTreeSet<(String, Option<String>)>> {
    btree_set((label(&REGIONS), option::of(label(&ZONES))), 0..3)
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let place = option::of((label(&REGIONS), vec(label(&ZONES), 0..3)));
    let flags = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        option::of((-80i16..80, -170i16..170)),
    );
    let told = btree_map(key(), told(), 0..3);
    (place, nodes(), services(), flags, told).prop_map(|(place, nodes, services, flags, told)| {
        let (drained, unread, down, location) = flags;
        let (region, zones) = place.unzip();
        let zones = zones.unwrap_or_default();
        let name = String::new();
        Cluster { name, region, zones, nodes, location, drained, unread, down, services, told }
    })
}

/// A federation of a few clusters.
pub(crate) fn clusters() -> impl Strategy<Value = Vec<Cluster>> {
    // One has the name of a service, one that of a region.
    const NAMES: [&str; 3] = ["c0", "web", "eu"];
    vec(cluster(), 1..=NAMES.len()).prop_map(|mut clusters| {
        for (cluster, name) in clusters.iter_mut().zip(NAMES) {
            cluster.name = name.to_owned();
        }
        clusters
    })
}

/// Names made of labels that mean something, in any order.
pub(crate) fn names() -> impl Strategy<Value = Vec<String>> {
    const LABELS: [&str; 16] = [
        "web", "api", "n", "m", "f", "svc", "eu", "us", "a", "b", "c0", "_http", "_tcp", "www",
        "pod", "q",
    ];
    let labels = vec(select(&LABELS[..]), 0..8);
    let name = (labels, prop::bool::weighted(0.9)).prop_map(|(labels, inside)| {
        let domain = if inside { "example.com" } else { "example.org" };
        format!("{}.{domain}", labels.join("."))
    });
    vec(name, 0..8)
}

/// A change of one cluster.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A shard comes, changes, or goes.
    Shard(Index, Key, Option<ServiceShard>),
    /// Everything is read anew.
    Whole(Index, BTreeMap<Key, ServiceShard>),
    /// The nodes stand elsewhere.
    Nodes(Index, BTreeSet<(String, Option<String>)>),
    /// The cluster is lost or back.
    Down(Index, bool),
    /// Something else is known of a shard, which need not be there.
    Told(Index, Key, Option<Told>),
    /// Another configuration is read, which says something else of this.
    Reload(Settings),
}

/// What a configuration may say otherwise than before.
#[derive(Clone, Debug)]
pub(crate) enum Settings {
    /// Nothing.
    Nothing,
    /// Whether a cluster is drained.
    Drained(Index, bool),
    /// Where a cluster is.
    Location(Index, (i16, i16)),
    /// The TTL, seconds.
    Ttl(u32),
    /// How many endpoints have to be ready.
    MinReady(MinReady),
    /// Which clusters there are: one no more, unless it is the last one.
    Gone(Index),
}

fn settings() -> impl Strategy<Value = Settings> {
    let at = any::<Index>;
    prop_oneof![
        Just(Settings::Nothing),
        (at(), any::<bool>()).prop_map(|(at, drained)| Settings::Drained(at, drained)),
        (at(), (-80i16..80, -170i16..170)).prop_map(|(at, place)| Settings::Location(at, place)),
        (1u32..300).prop_map(Settings::Ttl),
        (0u32..3).prop_map(|count| Settings::MinReady(MinReady::Count(count))),
        at().prop_map(Settings::Gone),
    ]
}

/// A history.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = any::<Index>;
    let step = prop_oneof![
        8 => (at(), key(), option::weighted(0.7, shard()))
            .prop_map(|(at, key, shard)| Step::Shard(at, key, shard)),
        1 => (at(), services()).prop_map(|(at, services)| Step::Whole(at, services)),
        1 => (at(), nodes()).prop_map(|(at, nodes)| Step::Nodes(at, nodes)),
        1 => (at(), any::<bool>()).prop_map(|(at, down)| Step::Down(at, down)),
        6 => (at(), key(), option::weighted(0.8, told()))
            .prop_map(|(at, key, told)| Step::Told(at, key, told)),
        2 => settings().prop_map(Step::Reload),
    ];
    vec(step, 0..12)
}
