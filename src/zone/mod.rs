//! Names and the record tree of the federation's zone. Pure.
//!
//! *Owns*: which names exist ([`Zone::lookup`]), levels and their fallback ([`Levels`]), services
//! compiled from shards ([`Service`]), static records ([`Statics`]), the zone of cluster-internal
//! names ([`InternalZone`]). *Guarantees*: a bucket built
//! from the same shards is the same, whatever was built before. *Does not*: know which shards are
//! healthy, where clients are, or how a message looks.

mod addresses;
mod internal;
mod levels;
mod service;
mod statics;
mod tails;
mod terms;
#[cfg(test)]
mod testing;
mod tree;

pub use addresses::{Addresses, Singles};
pub use internal::{INTERNAL_TTL, InternalSettings, InternalZone};
pub use levels::{Level, Levels};
pub use service::{Family, Plain, Service, ServiceEntry};
pub use statics::{RrSet, StaticNode, Statics};
pub use terms::NamedPort;
pub use tree::{Lookup, Position, ServiceName, Zone};

use std::net::IpAddr;
use std::num::NonZeroU16;

use crate::model::{DomainName, Label, Policy, Ties, WhenNoneHealthy};

/// What the configuration says of the federation's zone; every field is valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The federation's name, the label F of every owner name.
    pub federation: Label,
    /// The apex D, dedicated to the federation.
    pub domain: DomainName,
    /// Name servers of D, at least one, in the order of the file.
    pub nameservers: Vec<Nameserver>,
    /// Start of authority.
    pub soa: SoaSettings,
    /// TTL of service records, seconds.
    pub ttl: u32,
    /// TTL of negative answers, seconds.
    pub negative_ttl: u32,
    /// TTL of the negative answer of a service with no served shard, seconds.
    pub unhealthy_ttl: u32,
    /// The most that the TTL of service records is while their health is unsettled, seconds; by
    /// default a third of what it is otherwise.
    pub unsettled_ttl: Option<u32>,
    /// The most addresses of one RRset.
    pub max_addresses: NonZeroU16,
    /// Which served shards an answer holds, unless a service says otherwise.
    pub policy: Policy,
    /// What becomes of clusters that are equally near, unless a service says otherwise.
    pub ties: Ties,
    /// What the global name holds while no shard is served, unless a service says otherwise.
    pub when_none_healthy: WhenNoneHealthy,
    /// Static records of D.
    pub records: Vec<StaticRecord>,
    /// Where the instance sits, if it serves cluster-internal names.
    pub internal: Option<InternalSettings>,
}

impl Settings {
    /// Below this a third of a TTL is not lowered, seconds: more queries than that are no use, as
    /// changes are not seen faster.
    pub const LEAST_UNSETTLED_TTL: u32 = 5;

    /// What `ttl` is while the health of a service is unsettled; never more than it is otherwise.
    #[must_use]
    pub fn lowered(&self, ttl: u32) -> u32 {
        let third = || (ttl / 3).max(Self::LEAST_UNSETTLED_TTL);
        ttl.min(self.unsettled_ttl.unwrap_or_else(third))
    }
}

/// A name server of the zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Nameserver {
    /// Its host name.
    pub name: DomainName,
    /// Its addresses, served as authoritative data where the name is within D.
    pub addresses: Vec<IpAddr>,
}

/// Fields of the SOA record (RFC 1035 §3.3.13) that are configured; the serial is not.
#[derive(Clone, Debug, PartialEq)]
pub struct SoaSettings {
    /// The mailbox of the person responsible, as a name.
    pub rname: DomainName,
    /// Seconds between refreshes of a secondary.
    pub refresh: u32,
    /// Seconds between retries.
    pub retry: u32,
    /// Seconds until a secondary gives up.
    pub expire: u32,
}

/// One static record.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticRecord {
    /// Owner, within D.
    pub owner: DomainName,
    /// RR type number.
    pub rtype: u16,
    /// Seconds.
    pub ttl: u32,
    /// RDATA in wire form, names uncompressed.
    pub rdata: Box<[u8]>,
}
