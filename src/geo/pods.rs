//! Pod networks: which cluster a client inside one is in.
//!
//! *Owns*: [`PodNetworks`]. *Guarantees*: a network is in one cluster or in none. *Does not*: hold
//! the operator's networks, which outrank it and are cut out. Small and apart from the tables, so
//! that a node that comes or goes rebuilds nothing else.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::NetworkRule;
use super::overlay::{bounds, overlay, paint};
use super::ranges::{ExactRanges, Key, Ranges};
use super::space::{Canonical, EMBEDDING, canonical};
use crate::model::ClusterId;

/// Pod networks of all clusters; immutable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodNetworks {
    /// `None` where there is no pod network at all.
    families: Option<Families>,
}

#[derive(Clone, Debug, PartialEq)]
struct Families {
    v4: ExactRanges<u32, Owner>,
    v6: ExactRanges<u128, Owner>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Only in layers: what is below shows through.
    Clear,
    /// No cluster.
    Nobody,
    /// IPv6 space that embeds IPv4, which no prefix may cover.
    Embedding,
    Cluster(ClusterId),
}

/// Where a client is, seen from pod networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodLookup {
    /// In a cluster.
    Inside {
        /// The cluster.
        cluster: ClusterId,
        /// The widest prefix, bits of the client's address family, that is all in it.
        scope: u8,
    },
    /// In none.
    Outside {
        /// The widest prefix, bits of the client's address family, that holds no pod network.
        scope: u8,
    },
}

/// Pod networks of two clusters that overlap; neither places a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The clusters, the lower id first.
    pub clusters: [ClusterId; 2],
    /// The first two networks of theirs that overlap, in the same order.
    pub networks: [IpNet; 2],
    /// How many networks of each overlap with the other's.
    pub counts: [usize; 2],
}

impl Conflict {
    /// What to tell of it, with the clusters' names.
    #[must_use]
    pub fn describe(&self, names: [&dyn fmt::Display; 2]) -> String {
        let [one, other] = names;
        let [first, second] = self.networks;
        let [few, many] = self.counts;
        format!(
            "pod networks of clusters {one} and {other} overlap ({first} and {second}; {few} and \
             {many} in all) and place no client; name them under geo.networks if they should"
        )
    }
}

impl PodNetworks {
    /// The networks that each cluster's nodes have, less those that another cluster has too, and
    /// less the operator's.
    #[must_use]
    pub fn build<'a>(
        clusters: impl IntoIterator<Item = (ClusterId, &'a BTreeSet<IpNet>)>,
        rules: &[NetworkRule],
    ) -> (Self, Vec<Conflict>) {
        let claims: Vec<(IpNet, ClusterId)> = clusters
            .into_iter()
            .flat_map(|(id, networks)| networks.iter().map(move |net| (net.trunc(), id)))
            .collect();
        let (claims, conflicts) = undisputed(claims);
        if claims.is_empty() {
            return (Self::default(), conflicts);
        }
        let v4 = family(&claims, rules, |network| matches!(network, IpNet::V4(_)));
        let v6 = family(&claims, rules, |network| matches!(network, IpNet::V6(_)));
        (Self { families: Some(Families { v4, v6 }) }, conflicts)
    }

    /// Whether no address is in a cluster's pod network.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.families.is_none()
    }

    /// Which cluster the address is in.
    #[must_use]
    #[inline]
    pub fn lookup(&self, client: IpAddr) -> PodLookup {
        let Some(families) = &self.families else { return PodLookup::Outside { scope: 0 } };
        let (owner, scope) = match canonical(client) {
            Canonical::V4 { bits, offset } => {
                let (owner, scope) = families.v4.lookup(bits);
                (owner, scope + offset)
            }
            Canonical::V6(bits) => families.v6.lookup(bits),
        };
        match owner {
            Owner::Cluster(cluster) => PodLookup::Inside { cluster, scope },
            Owner::Clear | Owner::Nobody | Owner::Embedding => PodLookup::Outside { scope },
        }
    }
}

/// The ranges of one family.
fn family<K: Key + TryFrom<u128>>(
    claims: &[(IpNet, ClusterId)],
    rules: &[NetworkRule],
    is_of: impl Fn(IpNet) -> bool,
) -> ExactRanges<K, Owner> {
    let embedding = EMBEDDING.iter().map(|block| (block.network, Owner::Embedding));
    let networks = rules.iter().filter_map(NetworkRule::network);
    let rules = networks.map(|network| (network, Owner::Nobody));
    let claims = claims.iter().map(|(network, id)| (*network, Owner::Cluster(*id)));
    let embedding = paint(embedding.filter(|(network, _)| is_of(*network)), Owner::Clear);
    let rules = paint(rules.filter(|(network, _)| is_of(*network)), Owner::Clear);
    let claims = paint(claims.filter(|(network, _)| is_of(*network)), Owner::Nobody);
    let below = overlay(Box::new(rules.into_iter()), Box::new(claims.into_iter()), Owner::Clear);
    let mut ranges = Ranges::default();
    for (start, owner) in overlay(Box::new(embedding.into_iter()), below, Owner::Clear) {
        // Networks of one family only, so every start is an address of it.
        if let Ok(start) = K::try_from(start) {
            ranges.push(start, owner);
        }
    }
    ExactRanges::new(ranges)
}

/// The claims that no other cluster's overlap, and reports of those that do.
fn undisputed(mut claims: Vec<(IpNet, ClusterId)>) -> (Vec<(IpNet, ClusterId)>, Vec<Conflict>) {
    let key = |(network, id): &(IpNet, ClusterId)| {
        let (first, last) = bounds(*network);
        (matches!(network, IpNet::V6(_)), first, std::cmp::Reverse(last), *id)
    };
    claims.sort_by_key(key);
    let mut conflicts = Conflicts::default();
    // Networks nest or stand apart, so in this order those around a claim precede it.
    let mut around: Vec<usize> = Vec::new();
    for (at, (network, id)) in claims.iter().enumerate() {
        while around.pop_if(|outer| !claims[*outer].0.contains(network)).is_some() {}
        for &outer in &around {
            if claims[outer].1 != *id {
                conflicts.add((outer, claims[outer]), (at, (*network, *id)));
            }
        }
        around.push(at);
    }
    let disputed = conflicts.disputed();
    let rest = claims.iter().enumerate().filter(|(at, _)| !disputed.contains(at));
    (rest.map(|(_, claim)| *claim).collect(), conflicts.finish())
}

/// Conflicts by pair of clusters, with the positions of the networks among the claims.
#[derive(Default)]
struct Conflicts {
    pairs: std::collections::BTreeMap<[ClusterId; 2], Pair>,
}

struct Pair {
    first: [IpNet; 2],
    networks: [BTreeSet<usize>; 2],
}

impl Conflicts {
    fn add(&mut self, one: (usize, (IpNet, ClusterId)), other: (usize, (IpNet, ClusterId))) {
        let mut sides = [one, other];
        sides.sort_by_key(|(_, (_, id))| *id);
        let [(low, (low_net, low_id)), (high, (high_net, high_id))] = sides;
        let new = || Pair { first: [low_net, high_net], networks: Default::default() };
        let pair = self.pairs.entry([low_id, high_id]).or_insert_with(new);
        pair.networks[0].insert(low);
        pair.networks[1].insert(high);
    }

    fn disputed(&self) -> BTreeSet<usize> {
        self.pairs.values().flat_map(|pair| pair.networks.iter().flatten()).copied().collect()
    }

    fn finish(self) -> Vec<Conflict> {
        let conflict = |(clusters, pair): ([ClusterId; 2], Pair)| Conflict {
            clusters,
            networks: pair.first,
            counts: pair.networks.map(|networks| networks.len()),
        };
        self.pairs.into_iter().map(conflict).collect()
    }
}

#[cfg(test)]
mod tests;
