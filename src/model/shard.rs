//! A federated service as one cluster reports it.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::{AddressList, DomainName, Force, Keyed, Label, Ports, ServiceCheck, ServiceKey};

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// `_tcp`
    Tcp,
    /// `_udp`
    Udp,
    /// `_sctp`
    Sctp,
}

impl Protocol {
    /// The protocol's label in an SRV owner name (RFC 2782), lower case.
    #[must_use]
    pub fn label(self) -> &'static [u8] {
        match self {
            Self::Tcp => b"_tcp",
            Self::Udp => b"_udp",
            Self::Sctp => b"_sctp",
        }
    }
}

/// A named port of a Service, as clients of the load balancer reach it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Port {
    /// The port's name; unnamed ports have no SRV record and are left out.
    pub name: Label,
    /// Its transport.
    pub protocol: Protocol,
    /// Its number at the load balancer.
    pub number: u16,
}

/// Endpoints behind a shard, each counted once over its slices and address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Endpoints {
    /// Those that are ready (or all, under `publishNotReadyAddresses`).
    pub ready: u32,
    /// All of them.
    pub total: u32,
}

/// Which of the served shards an answer holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// Every served shard, nearest first.
    All,
    /// The shards of the N nearest clusters.
    Nearest(NonZeroU16),
    /// The shards of the nearest region that has one, and of those as near as it.
    Region,
    /// The shards of N clusters that a hash of the client's network chooses by weight.
    Weighted(NonZeroU16),
    /// The shards of the first of these clusters that has one, then of any other cluster.
    Failover(Arc<[Label]>),
}

/// What becomes of clusters that are equally near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ties {
    /// They take turns, query by query.
    #[default]
    Rotate,
    /// A hash of the client's network puts them in an order.
    Sticky,
}

/// What the global name holds while no shard is served.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum WhenNoneHealthy {
    /// Nothing: NODATA.
    Nothing,
    /// All shards that have an address.
    All,
    /// These addresses.
    Addresses(Arc<[IpAddr]>),
    /// A CNAME to this name.
    Name(DomainName),
}

/// Ready endpoints below which a shard is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MinReady {
    /// So many.
    Count(u32),
    /// So many of a hundred of all endpoints of the shard, 0 to 100.
    Percent(u8),
}

impl MinReady {
    /// The number that it means for a shard of `total` endpoints. A share is rounded up; none but
    /// 0 % is met without any endpoint.
    #[must_use]
    pub fn needed(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(0) => 0,
            Self::Percent(share) => {
                let needed = (u64::from(total) * u64::from(share)).div_ceil(100).max(1);
                // No more than all of them, or 1.
                u32::try_from(needed).unwrap_or(u32::MAX)
            }
        }
    }
}

/// Whether a shard or a cluster is to be taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Drain {
    /// It is not.
    #[default]
    No,
    /// At once.
    AtOnce,
    /// When the TTL that was answered before is over; it is lowered meanwhile.
    Planned,
}

/// What the annotations of one cluster's Service ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceOptions {
    /// `meridian.dev/ttl`, seconds.
    pub ttl: Option<u32>,
    /// `meridian.dev/policy`.
    pub policy: Option<Policy>,
    /// `meridian.dev/sticky`.
    pub ties: Option<Ties>,
    /// `meridian.dev/weight`: this shard's, under the policy `weighted`.
    pub weight: Option<u32>,
    /// `meridian.dev/when-none-healthy`.
    pub when_none_healthy: Option<WhenNoneHealthy>,
    /// `meridian.dev/min-ready`: ready endpoints below which the shard is not served.
    pub min_ready: Option<MinReady>,
    /// `meridian.dev/drain`: take this shard out.
    pub drain: Drain,
    /// `meridian.dev/load`: how loaded the shard is, 0 to 1.
    pub load: Option<f64>,
    /// `meridian.dev/override`: what an operator forces the shard to be.
    pub force: Option<Arc<Force>>,
    /// `meridian.dev/check`: how this shard's addresses are checked.
    pub check: Option<ServiceCheck>,
}

/// An address that a shard asked for and that is not published.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    /// The address as the cluster wrote it.
    pub address: Box<str>,
    /// Why it is refused, for people.
    pub reason: Box<str>,
}

/// How pods of the same cluster reach a service, each list sorted and without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Internal {
    /// By its virtual addresses, one a family.
    ClusterIp(Box<[IpAddr]>),
    /// By the addresses of its ready pods: it is headless.
    Headless(Box<[IpAddr]>),
}

impl Internal {
    /// The addresses.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::ClusterIp(addresses) | Self::Headless(addresses) => addresses,
        }
    }
}

/// One service in one cluster, exported, narrowed to what DNS needs; packed, as there is one for
/// every service of every cluster. [`ShardParts`] is the same in the open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shard {
    /// Published addresses: ingress IPs, `externalIPs`, `meridian.dev/addresses`, and those that
    /// ingress host names resolved to; sorted, without duplicates.
    pub addresses: AddressList,
    /// Its ports.
    pub ports: Ports,
    /// Endpoints behind it.
    pub endpoints: Endpoints,
    /// What most shards do without.
    rare: Option<Arc<Rare>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Rare {
    hostnames: Box<[Box<str>]>,
    ttl_cap: Option<u32>,
    options: Option<Box<ServiceOptions>>,
    refused: Box<[Refusal]>,
    internal: Option<Box<Internal>>,
}

/// A [`Shard`] in the open, while it is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardParts {
    /// Published addresses, sorted, without duplicates.
    pub addresses: AddressList,
    /// Ingress host names, to be resolved in the background.
    pub hostnames: Box<[Box<str>]>,
    /// Longest TTL that the resolved addresses allow, seconds.
    pub ttl_cap: Option<u32>,
    /// Its ports.
    pub ports: Ports,
    /// Endpoints behind it.
    pub endpoints: Endpoints,
    /// Annotations; boxed, as most services have none.
    pub options: Option<Box<ServiceOptions>>,
    /// Addresses that were refused, with reasons.
    pub refused: Box<[Refusal]>,
    /// How pods of its cluster reach it; kept only of the cluster that the instance sits in.
    pub internal: Option<Box<Internal>>,
}

impl From<ShardParts> for Shard {
    fn from(parts: ShardParts) -> Self {
        let ShardParts { addresses, hostnames, ttl_cap, ports, endpoints, .. } = parts;
        let ShardParts { options, refused, internal, .. } = parts;
        let rare = Rare { hostnames, ttl_cap, options, refused, internal };
        // Equal shards are packed alike.
        let rare = (rare != Rare::default()).then(|| Arc::new(rare));
        Self { addresses, ports, endpoints, rare }
    }
}

impl Shard {
    /// It in the open.
    #[must_use]
    pub fn parts(&self) -> ShardParts {
        let Self { addresses, ports, endpoints, rare } = self.clone();
        let rare = rare.map(Arc::unwrap_or_clone).unwrap_or_default();
        let Rare { hostnames, ttl_cap, options, refused, internal } = rare;
        ShardParts { addresses, hostnames, ttl_cap, ports, endpoints, options, refused, internal }
    }

    /// Ingress host names, to be resolved in the background.
    #[must_use]
    pub fn hostnames(&self) -> &[Box<str>] {
        self.rare.as_ref().map_or(&[], |rare| &rare.hostnames)
    }

    /// Longest TTL that the resolved addresses allow, seconds.
    #[must_use]
    pub fn ttl_cap(&self) -> Option<u32> {
        self.rare.as_ref()?.ttl_cap
    }

    /// Annotations.
    #[must_use]
    pub fn options(&self) -> Option<&ServiceOptions> {
        self.rare.as_ref()?.options.as_deref()
    }

    /// Addresses that were refused, with reasons.
    #[must_use]
    pub fn refused(&self) -> &[Refusal] {
        self.rare.as_ref().map_or(&[], |rare| &rare.refused)
    }

    /// How pods of its cluster reach it; kept only of the cluster that the instance sits in.
    #[must_use]
    pub fn internal(&self) -> Option<&Internal> {
        self.rare.as_ref()?.internal.as_deref()
    }
}

/// A shard with its key, as it stands in a view's buckets.
#[derive(Clone, Debug)]
pub struct ShardEntry {
    /// The service.
    pub key: ServiceKey,
    /// `key.hash()`, kept beside it.
    pub hash: u64,
    /// What the cluster says.
    pub shard: Shard,
}

impl ShardEntry {
    /// An entry for the shard of `key`.
    #[must_use]
    pub fn new(key: ServiceKey, shard: impl Into<Shard>) -> Self {
        Self { hash: key.hash(), key, shard: shard.into() }
    }

    /// Whether the cluster says the same of the same service.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let same = || self.shard == other.shard;
        self.key == other.key && same()
    }
}

impl Keyed for ShardEntry {
    fn hash(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At 100,000 services in four clusters each octet more is a megabyte in three.
    #[test]
    fn a_shard_with_its_key_is_one_cache_line() {
        assert_eq!(size_of::<ShardEntry>(), 64);
    }

    #[test]
    fn a_shard_is_what_it_was_packed_from() {
        let plain =
            ShardParts { endpoints: Endpoints { ready: 1, total: 2 }, ..Default::default() };
        let rich = ShardParts {
            hostnames: ["lb.example.net".into()].into(),
            ttl_cap: Some(30),
            options: Some(Box::default()),
            refused: [Refusal { address: "::".into(), reason: "no host".into() }].into(),
            internal: Some(Box::new(Internal::ClusterIp(Box::default()))),
            ..plain.clone()
        };
        for parts in [plain, rich] {
            let shard = Shard::from(parts.clone());
            assert_eq!(shard.parts(), parts);
            assert_eq!(shard.hostnames(), &*parts.hostnames);
            assert_eq!(
                (shard.ttl_cap(), shard.options()),
                (parts.ttl_cap, parts.options.as_deref())
            );
            assert_eq!(
                (shard.refused(), shard.internal()),
                (&*parts.refused, parts.internal.as_deref())
            );
        }
    }
}
