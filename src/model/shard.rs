//! A federated service as one cluster reports it.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::{DomainName, Force, Keyed, Label, ServiceCheck};

/// The hash by which services are found: over the wire form of `name.namespace`, lower case,
/// length octets included, root excluded. One pass, the same on the query path and in views.
#[must_use]
pub fn key_hash(wire: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(wire);
    hasher.finish()
}

/// A federated service: the same key in all clusters.
///
/// Held as the two labels in wire form, service name first, as they stand in every owner name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey(Arc<[u8]>);

impl ServiceKey {
    /// The key of service `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &Label, name: &Label) -> Self {
        let mut wire = Vec::with_capacity(2 + 2 * Label::MAX_LEN);
        for label in [name, namespace] {
            wire.push(label.as_bytes().len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        Self(wire.into())
    }

    /// `name.namespace` as length-prefixed labels without the root.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The hash of [`Self::wire`].
    #[must_use]
    pub fn hash(&self) -> u64 {
        key_hash(&self.0)
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        let len = usize::from(self.0[0]);
        Self::text(&self.0[1..=len])
    }

    /// The service's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let len = usize::from(self.0[0]);
        Self::text(&self.0[len + 2..])
    }

    fn text(octets: &[u8]) -> &str {
        // Labels are ASCII by construction, so the fallback is never taken.
        std::str::from_utf8(octets).unwrap_or_default()
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.name())
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

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

/// One service in one cluster, exported, narrowed to what DNS needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shard {
    /// Published addresses: ingress IPs, `externalIPs`, `meridian.dev/addresses`, and those that
    /// ingress host names resolved to; sorted, without duplicates.
    pub addresses: Box<[IpAddr]>,
    /// Ingress host names, to be resolved in the background.
    pub hostnames: Box<[Box<str>]>,
    /// Longest TTL that the resolved addresses allow, seconds.
    pub ttl_cap: Option<u32>,
    /// Named ports, sorted, without duplicates.
    pub ports: Arc<[Port]>,
    /// Its first TCP port, named or not: where a check connects to.
    pub tcp_port: Option<u16>,
    /// Endpoints behind it.
    pub endpoints: Endpoints,
    /// Annotations; boxed, as most services have none.
    pub options: Option<Box<ServiceOptions>>,
    /// Addresses that were refused, with reasons.
    pub refused: Box<[Refusal]>,
    /// How pods of its cluster reach it; kept only of the cluster that the instance sits in.
    pub internal: Option<Box<Internal>>,
}

/// A shard with its key, as it stands in a view's buckets.
#[derive(Clone, Debug)]
pub struct ShardEntry {
    /// The service.
    pub key: ServiceKey,
    /// `key.hash()`, kept beside it.
    pub hash: u64,
    /// What the cluster says.
    pub shard: Arc<Shard>,
}

impl ShardEntry {
    /// An entry for the shard of `key`.
    #[must_use]
    pub fn new(key: ServiceKey, shard: Arc<Shard>) -> Self {
        Self { hash: key.hash(), key, shard }
    }

    /// Whether the cluster says the same of the same service.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let same = || Arc::ptr_eq(&self.shard, &other.shard) || self.shard == other.shard;
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
    use super::{Label, ServiceKey};

    #[test]
    fn key_is_wire_form() {
        let label = |t| Label::parse(t).expect("valid");
        let key = ServiceKey::new(&label("ns"), &label("web"));
        assert_eq!(key.wire(), b"\x03web\x02ns");
        assert_eq!((key.name(), key.namespace()), ("web", "ns"));
        assert_eq!(key.to_string(), "ns/web");
        assert_ne!(key.hash(), ServiceKey::new(&label("web"), &label("ns")).hash());
    }
}
