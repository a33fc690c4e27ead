//! Exactness of [`Networks`] at borders on either side of the /64.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::{Builder, Networks, Value};
use crate::geo::overlay::{bounds, paint};
use crate::geo::space::EMBEDDING;

impl Value for u8 {
    const FINE: Self = u8::MAX;
}

/// IPv6 networks that crowd around two /64s and differ in value.
fn networks() -> impl Strategy<Value = Vec<(IpNet, u8)>> {
    let network = (0u128..4, 0u32..8, 60u8..=128, 1u8..4).prop_map(|(half, bit, len, value)| {
        let address = 0x2a00_u128 << 112 | half << 64 | 1_u128.checked_shl(bit * 9).unwrap_or(0);
        let network = IpNet::new(Ipv6Addr::from(address).into(), len).expect("a length");
        (network.trunc(), value)
    });
    proptest::collection::vec(network, 0..10)
}

fn build(networks: &[(IpNet, u8)]) -> Networks<u8> {
    let mut builder = Builder::default();
    builder.push_v4(0, 0);
    for (start, value) in paint(networks.iter().copied(), 0) {
        builder.push_v6(start, value);
    }
    builder.finish()
}

fn uniform(networks: &[(IpNet, u8)], prefix: IpNet) -> bool {
    let (first, last) = bounds(prefix);
    let mut ranges = paint(networks.iter().copied(), 0);
    ranges.dedup_by_key(|range| range.1);
    !ranges.iter().any(|&(start, _)| first < start && start <= last)
}

proptest! {
    #[test]
    fn longer_networks_than_64_are_exact(networks in networks()) {
        let table = build(&networks);
        // Every border, from both sides.
        let borders = networks.iter().flat_map(|(network, _)| {
            let (first, last) = bounds(*network);
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
        });
        for address in borders {
            let ip = IpAddr::V6(Ipv6Addr::from(address));
            let expected = networks.iter().rev().filter(|(network, _)| network.contains(&ip));
            let expected = expected.max_by_key(|(n, _)| n.prefix_len()).map_or(0, |(_, v)| *v);
            let (value, scope) = table.lookup(ip);
            prop_assert_eq!(value, expected);
            let prefix = |len| IpNet::new(ip, len).expect("a length").trunc();
            prop_assert!(uniform(&networks, prefix(scope)));
            prop_assert!(scope == 0 || !uniform(&networks, prefix(scope - 1)));
        }
    }

    #[test]
    fn iteration_gives_back_what_was_put_in(networks in networks()) {
        let table = build(&networks);
        let mut again = Builder::default();
        table.iter_v4().for_each(|(start, value)| again.push_v4(start, value));
        table.iter_v6().for_each(|(start, value)| again.push_v6(start, value));
        prop_assert_eq!(again.finish(), table);
    }
}

#[test]
fn embedded_ipv4_answers_with_its_scope_behind_the_prefix() {
    let mut builder = Builder::default();
    builder.push_v4(0, 0);
    builder.push_v4(0x0800_0000, 1);
    builder.push_v4(0x0900_0000, 0);
    for (start, value) in paint(EMBEDDING.map(|block| (block.network, 9)), 0) {
        builder.push_v6(start, value);
    }
    let table = builder.finish();
    let at = |text: &str| table.lookup(text.parse().expect("an address"));
    assert_eq!(at("8.1.2.3"), (1, 8));
    assert_eq!(at("::ffff:8.1.2.3"), (1, 104));
    assert_eq!(at("::ffff:0:8.1.2.3"), (1, 104));
    assert_eq!(at("64:ff9b::8.1.2.3"), (1, 104));
    assert_eq!(at("2002:801:203::1"), (1, 24));
    assert_eq!(at("2001::f7f7:f7f7"), (1, 104));
    // What stands beside them is not covered by a prefix that covers them.
    assert_eq!(at("::1"), (0, 81));
    assert_eq!(at("2001:1::1"), (0, 32));
    assert_eq!(at("2003::1"), (0, 16));
    assert_eq!(at("64:ff9b::1:0:0:0"), (0, 80));
}
