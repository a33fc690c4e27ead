//! The fuzz target's property, without a fuzzer: over its corpus, over arbitrary octets, over valid
//! queries and over those with a slip in them.

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "support/dns.rs"]
mod dns;
#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "support/federation.rs"]
mod federation;
#[path = "support/property.rs"]
mod property;
#[path = "support/seeds.rs"]
mod seeds;

use std::path::PathBuf;
use std::sync::LazyLock;

use meridian::snapshot::{Snapshot, build};
use proptest::prelude::*;

/// As in `fuzz/fuzz_targets/answer.rs`.
static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let (clusters, identity) = federation::everything();
    federation::settle(build(None, federation::inputs(&clusters, identity, 1_700_000_000)))
});

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/answer")
}

/// Also what a fuzzer has added to it.
#[test]
fn the_corpus_holds() {
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus()).expect("the corpus is there") {
        let path = entry.expect("readable").path();
        let packet = std::fs::read(&path).expect("readable");
        property::check(&SNAPSHOT, &packet, replayed);
        replayed += 1;
    }
    assert!(replayed as usize >= seeds::seeds().len(), "only {replayed} files");
}

/// The seeds in the repository are those that `seeds` makes; `MERIDIAN_WRITE_SEEDS=1` writes them.
#[test]
fn the_seeds_are_in_the_corpus() {
    for (name, packet) in seeds::seeds() {
        let path = corpus().join(&name);
        if std::env::var_os("MERIDIAN_WRITE_SEEDS").is_some() {
            std::fs::write(&path, &packet).expect("writable");
        }
        assert_eq!(std::fs::read(&path).ok(), Some(packet), "{name}: set MERIDIAN_WRITE_SEEDS=1");
    }
}

/// A slip of the wire.
#[derive(Clone, Debug)]
enum Slip {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, usize),
    Append(Vec<u8>),
}

fn slip() -> impl Strategy<Value = Slip> {
    let index = any::<prop::sample::Index>;
    let octets = || proptest::collection::vec(any::<u8>(), 1..8);
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, bits)| Slip::Flip(at, bits)),
        1 => index().prop_map(Slip::Cut),
        1 => (index(), octets()).prop_map(|(at, octets)| Slip::Insert(at, octets)),
        1 => (index(), 1usize..20).prop_map(|(at, len)| Slip::Repeat(at, len)),
        1 => octets().prop_map(Slip::Append),
    ]
}

impl Slip {
    fn make(&self, packet: &mut Vec<u8>) {
        if packet.is_empty() {
            return;
        }
        match self {
            Self::Flip(at, bits) => {
                let at = at.index(packet.len());
                packet[at] ^= bits;
            }
            Self::Cut(at) => packet.truncate(at.index(packet.len())),
            Self::Insert(at, octets) => {
                let at = at.index(packet.len());
                packet.splice(at..at, octets.iter().copied());
            }
            Self::Repeat(at, len) => {
                let at = at.index(packet.len());
                let piece = packet[at..(at + len).min(packet.len())].to_vec();
                packet.splice(at..at, piece);
            }
            Self::Append(octets) => packet.extend(octets),
        }
    }
}

/// A label that occurs in some name, or any other one.
fn label() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: [&str; 28] = [
        "web", "one", "big", "down", "all", "named", "n", "f", "svc", "eu", "us", "ap", "eu-a",
        "us-a", "us-b", "ap-a", "us1", "eu1", "_http", "_tcp", "_udp", "www", "alias", "example",
        "com", "WEB", "Svc", "*",
    ];
    let known = prop::sample::select(&KNOWN[..]).prop_map(|label| label.as_bytes().to_vec());
    prop_oneof![8 => known, 1 => proptest::collection::vec(any::<u8>(), 1..=63)]
}

/// A question in wire form, often of a name in the zone.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let labels = proptest::collection::vec(label(), 0..9);
    (labels, any::<prop::sample::Index>()).prop_map(|(labels, inside)| {
        let mut wire = Vec::new();
        for label in labels {
            wire.push(label.len() as u8);
            wire.extend(label);
        }
        let tail = if inside.index(8) > 0 { "example.com" } else { "" };
        wire.extend(dns::wire_name(tail));
        wire
    })
}

fn options() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    let data = || proptest::collection::vec(any::<u8>(), 0..20);
    let subnet = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(octets, len)| {
        let net = ipnet::Ipv4Net::new(octets.into(), len).expect("a length").trunc();
        (dns::SUBNET, dns::subnet_option(net.into()))
    });
    let any_option = (any::<u16>(), data());
    let option = prop_oneof![
        4 => subnet,
        1 => data().prop_map(|data| (dns::SUBNET, data)),
        1 => Just((dns::NSID, Vec::new())),
        1 => any_option,
    ];
    proptest::collection::vec(option, 0..3)
}

fn query() -> impl Strategy<Value = Vec<u8>> {
    let qtype = prop_oneof![
        prop::sample::select(&[1u16, 28, 33, 5, 255, 6, 2, 16, 43, 41, 252][..]),
        any::<u16>()
    ];
    let opt = (any::<u16>(), 0u8..2, any::<u16>(), options()).prop_map(
        |(payload, version, flags, options)| dns::Opt {
            payload,
            extended_rcode: 0,
            version: u8::from(version == 1 && flags & 7 == 0),
            flags,
            options,
        },
    );
    (name(), qtype, any::<u16>(), any::<u16>(), proptest::option::of(opt)).prop_map(
        |(name, qtype, id, flags, opt)| {
            let flags = flags & 0x01f0;
            dns::Query { id, flags, name, qtype, qclass: 1, opt }.bytes()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_octets(packet in proptest::collection::vec(any::<u8>(), 0..600), turn: u32) {
        property::check(&SNAPSHOT, &packet, turn);
    }

    #[test]
    fn valid_queries(packet in query(), turn: u32) {
        property::check(&SNAPSHOT, &packet, turn);
    }

    #[test]
    fn queries_with_slips(
        mut packet in query(),
        slips in proptest::collection::vec(slip(), 1..4),
        turn: u32,
    ) {
        for slip in slips {
            slip.make(&mut packet);
        }
        property::check(&SNAPSHOT, &packet, turn);
    }
}
