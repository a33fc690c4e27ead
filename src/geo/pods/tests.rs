//! Which cluster a pod's address is in, and who disputes it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::{Conflict, PodLookup, PodNetworks};
use crate::geo::testing::{label, rule};
use crate::geo::{NetworkRule, Target};
use crate::model::ClusterId;

fn networks(texts: &[&str]) -> BTreeSet<IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

fn build(clusters: &[&[&str]], rules: &[NetworkRule]) -> (PodNetworks, Vec<Conflict>) {
    let sets: Vec<_> = clusters.iter().map(|texts| networks(texts)).collect();
    let numbered = sets.iter().enumerate().map(|(at, set)| (ClusterId::new(at), set));
    PodNetworks::build(numbered, rules)
}

fn inside(cluster: usize, scope: u8) -> PodLookup {
    PodLookup::Inside { cluster: ClusterId::new(cluster), scope }
}

fn outside(scope: u8) -> PodLookup {
    PodLookup::Outside { scope }
}

fn lookup(pods: &PodNetworks, address: &str) -> PodLookup {
    pods.lookup(address.parse().expect("an address"))
}

#[test]
fn both_families_and_embedded_addresses() {
    let (pods, conflicts) = build(
        &[&["10.0.0.0/24", "10.0.1.0/24", "fd00:1::/64"], &["10.1.0.0/16", "fd00:2::/64"]],
        &[],
    );
    assert_eq!(conflicts, []);
    // Neighbours of one cluster make one prefix.
    assert_eq!(lookup(&pods, "10.0.1.7"), inside(0, 23));
    assert_eq!(lookup(&pods, "10.1.255.1"), inside(1, 16));
    assert_eq!(lookup(&pods, "10.2.0.1"), outside(15));
    assert_eq!(lookup(&pods, "192.0.2.1"), outside(1));
    assert_eq!(lookup(&pods, "fd00:2::5"), inside(1, 64));
    assert_eq!(lookup(&pods, "::ffff:10.1.0.1"), inside(1, 112));
    // IPv6 without pods does not cover IPv6 that embeds IPv4.
    assert_eq!(lookup(&pods, "2003::1"), outside(16));
}

#[test]
fn without_pods_nothing_is_told_apart() {
    let (pods, _) = build(&[&[], &[]], &[]);
    assert_eq!(lookup(&pods, "10.0.0.1"), outside(0));
    assert_eq!(lookup(&pods, "2001:db8::1"), outside(0));
}

#[test]
fn the_operators_networks_are_cut_out() {
    let here = rule("10.0.128.0/17", Target::Cluster(label("other")));
    let (pods, conflicts) = build(&[&["10.0.0.0/16"]], &[here]);
    assert_eq!(conflicts, []);
    assert_eq!(lookup(&pods, "10.0.0.1"), inside(0, 17));
    assert_eq!(lookup(&pods, "10.0.128.1"), outside(17));
}

#[test]
fn what_two_clusters_claim_is_dropped_and_reported_once_a_pair() {
    let (pods, conflicts) = build(
        &[
            &["10.244.0.0/24", "10.244.1.0/24", "10.9.0.0/16"],
            &["10.244.0.0/24", "10.244.1.0/24"],
            &["10.9.7.0/24", "10.9.7.128/25", "10.10.0.0/16"],
        ],
        &[],
    );
    for address in ["10.244.0.1", "10.244.1.1", "10.9.7.1", "10.9.7.200", "10.9.0.1"] {
        assert!(matches!(lookup(&pods, address), PodLookup::Outside { .. }), "{address}");
    }
    assert_eq!(lookup(&pods, "10.10.0.1"), inside(2, 16));
    let told = conflicts.iter().map(|c| (c.clusters.map(ClusterId::index), c.counts));
    let told: Vec<_> = told.collect();
    assert_eq!(told, [([0, 1], [2, 2]), ([0, 2], [1, 2])]);
    assert_eq!(
        conflicts[1].describe([&"east", &"west"]),
        "pod networks of clusters east and west overlap (10.9.0.0/16 and 10.9.7.0/24; 1 and 2 in \
         all) and place no client; name them under geo.networks if they should"
    );
}

fn claim() -> impl Strategy<Value = (usize, IpNet)> {
    (0usize..3, 0u32..64, 24u8..=32).prop_map(|(cluster, host, len)| {
        let address = Ipv4Addr::from(0x0a00_0000 + host * 4);
        (cluster, IpNet::new(address.into(), len).expect("a length").trunc())
    })
}

proptest! {
    #[test]
    fn a_claim_counts_unless_another_clusters_overlaps(
        claims in proptest::collection::vec(claim(), 0..8),
        hosts in proptest::collection::vec(0u32..256, 20),
    ) {
        let mut sets = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for (cluster, network) in &claims {
            sets[*cluster].insert(*network);
        }
        let numbered = sets.iter().enumerate().map(|(at, set)| (ClusterId::new(at), set));
        let (pods, conflicts) = PodNetworks::build(numbered, &[]);
        let disputed = |(cluster, net): &(usize, IpNet)| {
            claims.iter().any(|(other, theirs)| {
                other != cluster && (theirs.contains(net) || net.contains(theirs))
            })
        };
        prop_assert_eq!(conflicts.is_empty(), !claims.iter().any(disputed));
        for host in hosts {
            let address = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + host));
            let holding = |claim: &&(usize, IpNet)| claim.1.contains(&address);
            let owner = claims.iter().filter(holding).find(|claim| !disputed(claim));
            let (found, scope) = match pods.lookup(address) {
                PodLookup::Inside { cluster, scope } => (Some(cluster.index()), scope),
                PodLookup::Outside { scope } => (None, scope),
            };
            prop_assert_eq!(found, owner.map(|(cluster, _)| *cluster));
            // All of the prefix is alike; the one around it is not.
            let alike = |len: u8| {
                let prefix = IpNet::new(address, len).expect("a length").trunc();
                (0..256u32).all(|host| {
                    let other = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + host));
                    !prefix.contains(&other)
                        || matches!((pods.lookup(other), found),
                            (PodLookup::Inside { cluster, .. }, Some(own)) if cluster.index() == own)
                        || matches!((pods.lookup(other), found), (PodLookup::Outside { .. }, None))
                })
            };
            prop_assert!(alike(scope));
            prop_assert!(scope <= 24 || !alike(scope - 1));
        }
    }
}
