//! The one function that is the DNS server.

use std::net::IpAddr;

use crate::snapshot::Snapshot;

/// Who asks, and over what.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Source address of the query.
    pub address: IpAddr,
    /// How it came.
    pub transport: Transport,
}

/// How a query came; decides the size limit of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// At most the smaller of the client's and our EDNS buffer size, 512 octets without EDNS.
    Udp,
    /// At most 65,535 octets.
    Tcp,
}

/// What was answered, for the counters of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Octets written to the reply buffer.
    pub len: usize,
    /// The zone asked for.
    pub zone: ZoneKind,
    /// QTYPE as asked; 0 where there was no readable question.
    pub qtype: u16,
    /// RCODE with the extended bits (RFC 6891 §6.1.3).
    pub rcode: u16,
    /// Which address placed the client, where geography was asked.
    pub located: LocatedBy,
}

/// The zone that a query fell in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneKind {
    /// None of ours: refused, malformed, CHAOS.
    None,
    /// The federation's zone.
    Federation,
}

/// Which address placed the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocatedBy {
    /// The answer does not depend on the client.
    Nothing,
    /// The EDNS Client Subnet.
    Subnet,
    /// The source address of the query.
    Source,
}

/// Answers one query.
///
/// Writes the reply to `reply`, which holds at least [`crate::snapshot::Identity::udp_payload`]
/// octets for UDP and 65,535 for TCP. `turn` rotates equals: give each query the next number.
/// `None` where nothing may be sent (RFC: responses are never answered; runts have no id).
pub fn answer(
    snapshot: &Snapshot,
    query: &[u8],
    client: Client,
    turn: u32,
    reply: &mut [u8],
) -> Option<Answered> {
    let _ = (snapshot, query, client, turn, reply);
    None
}
