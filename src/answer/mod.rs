//! The one function that is the DNS server, whatever the transport.
//!
//! *Owns*: every decision of DNS policy. *Guarantees*: no clock, log, lock, allocation or
//! `await`; any input yields a well-formed reply with the query's id, or nothing. *Does not*: know
//! sockets.
//!
//! | standard | where |
//! |---|---|
//! | RFC 1035, 2181, 4592 answering, AA, TC | here, [`service`] |
//! | RFC 2308 negative answers | [`Answer::negative`] |
//! | RFC 4892 CHAOS identity | [`chaos`] |
//! | RFC 6891 EDNS | here |
//! | RFC 7871 Client Subnet | [`service`] |
//! | RFC 8482 ANY | [`service`], `zone::StaticNode` |
//! | RFC 8914 extended errors | here |

mod chaos;
mod internal;
mod quick;
mod ranking;
mod resolve;
mod service;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use crate::geo::LocatedBy;
pub use quick::{Ahead, Found};
pub use ranking::{Choice, Eligible, ranking, visit};
pub use resolve::{End, Path, resolve};

use crate::snapshot::Snapshot;
use crate::wire::number::{class, rcode, rtype};
use crate::wire::query::HEADER_LEN;
use crate::wire::{
    Edns, ExtendedError, Flags, Full, InvalidMessage, Owner, Query, QuestionName, Reply, ReplyEdns,
    Section,
};
use crate::zone::{Lookup, StaticNode};

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
    /// Which address placed the client.
    pub located: LocatedBy,
}

/// The zone that a query fell in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneKind {
    /// None of ours: refused, malformed, CHAOS.
    None,
    /// The federation's zone.
    Federation,
    /// That of cluster-internal names.
    Internal,
}

/// Octets of a reply without EDNS over UDP (RFC 1035 §2.3.4).
const PLAIN_UDP_LIMIT: usize = 512;
/// Octets of the longest message, which two octets of length can tell (RFC 1035 §4.2.2).
pub const MAX_MESSAGE: usize = 65_535;

/// Answers one query.
///
/// Writes the reply to `reply`, whose length limits it beside
/// [`udp_payload`](crate::snapshot::Identity::udp_payload) over UDP and [`MAX_MESSAGE`] over TCP, and
/// which holds at least 512 octets. `turn` rotates equals: give each query the next number. `None`
/// where nothing may be sent: to a response, lest two servers talk for ever, and to a runt without
/// an id.
pub fn answer(
    snapshot: &Snapshot,
    query: &[u8],
    client: Client,
    turn: u32,
    reply: &mut [u8],
) -> Option<Answered> {
    let mut ahead = Ahead::default();
    ahead.read(query);
    answer_ahead(Found::nothing(snapshot), query, &ahead, client, turn, reply)
}

/// As [`answer`], of a query that `ahead` has read already; another query's is no query's answer.
#[inline]
pub fn answer_ahead(
    found: Found<'_>,
    query: &[u8],
    ahead: &Ahead,
    client: Client,
    turn: u32,
    reply: &mut [u8],
) -> Option<Answered> {
    match quick::quick(found, query, ahead, client, turn, reply) {
        Some(answered) => Some(answered),
        None => thorough(found.snapshot, query, client, turn, reply),
    }
}

/// The answer to any query, the long way.
#[inline(never)]
fn thorough(
    snapshot: &Snapshot,
    query: &[u8],
    client: Client,
    turn: u32,
    reply: &mut [u8],
) -> Option<Answered> {
    let mut name = QuestionName::root();
    match Query::parse(query, &mut name) {
        Ok(query) => Some(Answer::new(snapshot, query, client, turn, reply).run()),
        Err(fault) => refuse(fault, snapshot.identity().udp_payload, reply),
    }
}

/// A reply of the header alone to what cannot be read further.
fn refuse(fault: InvalidMessage, payload: u16, reply: &mut [u8]) -> Option<Answered> {
    let (header, edns, rcode) = match fault {
        InvalidMessage::Runt | InvalidMessage::Response => return None,
        InvalidMessage::Opcode(header, edns) => (header, edns, rcode::NOTIMP),
        InvalidMessage::Question(header) => (header, None, rcode::FORMERR),
        InvalidMessage::Record(header, edns) => (header, edns, rcode::FORMERR),
    };
    // RFC 6891 §6.1.1: "If an OPT record is present in a received request, compliant responders
    // MUST include an OPT record in their respective responses."
    let edns = edns.map(|query| ReplyEdns { query, payload, nsid: None, error: None });
    let writer = Reply::new(reply, PLAIN_UDP_LIMIT, &[], edns.as_ref());
    let edns = edns.as_ref().map(|edns| (edns, 0));
    let len = writer.finish(header, Flags::default(), rcode, edns);
    let (zone, located) = (ZoneKind::None, LocatedBy::Nothing);
    Some(Answered { len, zone, qtype: 0, rcode, located })
}

/// One answer in the making: what is asked, what is written, what the header will say.
struct Answer<'s, 'q, 'b> {
    snapshot: &'s Snapshot,
    query: Query<'q>,
    client: Client,
    turn: u32,
    reply: Reply<'b>,
    edns: Option<ReplyEdns<'s>>,
    flags: Flags,
    rcode: u16,
    /// SCOPE PREFIX-LENGTH; 0 unless geography says otherwise (RFC 7871 §7.2.1).
    scope: u8,
    /// The apex of the zone in which the answer ends, with its SOA and the longest TTL that its
    /// negative answers have.
    apex: Owner,
    soa: &'s [u8],
    most_negative_ttl: u32,
    /// TTL of the records of the service that is asked for, seconds.
    ttl: u32,
    /// Where the chain within D begins.
    head: Owner,
    zone: ZoneKind,
    located: LocatedBy,
}

impl<'s, 'q, 'b> Answer<'s, 'q, 'b> {
    #[inline]
    fn new(
        snapshot: &'s Snapshot,
        query: Query<'q>,
        client: Client,
        turn: u32,
        buffer: &'b mut [u8],
    ) -> Self {
        let identity = snapshot.identity();
        let limit = match (client.transport, query.edns) {
            (Transport::Tcp, _) => MAX_MESSAGE,
            (Transport::Udp, None) => PLAIN_UDP_LIMIT,
            // RFC 6891 §6.2.3: "Values lower than 512 MUST be treated as equal to 512".
            (Transport::Udp, Some(Edns { payload, .. })) => {
                usize::from(payload.clamp(PLAIN_UDP_LIMIT as u16, identity.udp_payload))
            }
        };
        let limit = limit.min(buffer.len());
        let room = limit - HEADER_LEN - query.question.len();
        let edns = query.edns.map(|asked| {
            let edns = ReplyEdns {
                nsid: identity.nsid.as_deref().filter(|_| asked.nsid),
                query: asked,
                payload: identity.udp_payload,
                error: None,
            };
            edns.within(room)
        });
        let reply = Reply::new(buffer, limit, query.question, edns.as_ref());
        Self {
            snapshot,
            query,
            client,
            turn,
            reply,
            edns,
            flags: Flags::default(),
            rcode: rcode::NOERROR,
            scope: 0,
            apex: Owner::QUESTION,
            soa: &[],
            most_negative_ttl: u32::MAX,
            ttl: 0,
            head: Owner::QUESTION,
            zone: ZoneKind::None,
            located: LocatedBy::Nothing,
        }
    }

    #[inline]
    fn run(mut self) -> Answered {
        let start = self.reply.mark();
        if self.fill().is_err() {
            // RFC 2181 §9: TC says that a required RRset did not fit whole. Nothing partial is
            // sent along, as nobody may use it.
            self.reply.rewind(start);
            self.flags.truncated = true;
        }
        let edns = self.edns.as_ref().map(|edns| (edns, self.scope));
        let len = self.reply.finish(self.query.header, self.flags, self.rcode, edns);
        Answered {
            len,
            zone: self.zone,
            qtype: self.query.qtype,
            rcode: self.rcode,
            located: self.located,
        }
    }

    #[inline]
    fn fill(&mut self) -> Result<(), Full> {
        if self.query.edns.is_some_and(|edns| edns.version != 0) {
            // RFC 6891 §6.1.3: "If a responder does not implement the VERSION level of the
            // request, then it MUST respond with RCODE=BADVERS".
            return self.fail(rcode::BADVERS, None);
        }
        if self.query.edns.is_some_and(|edns| edns.malformed) {
            return self.fail(rcode::FORMERR, None);
        }
        match (self.query.qclass, self.query.qtype) {
            (_, rtype::OPT) => self.fail(rcode::FORMERR, None),
            (class::CH, _) => self.chaos(),
            (class::IN, qtype) => match self.snapshot.zone.contains(self.query.name) {
                None => self.outside(qtype),
                Some(above) => {
                    self.zone = ZoneKind::Federation;
                    self.apex = Owner::in_question(self.query.name.start(above));
                    self.soa = self.snapshot.soa();
                    self.in_zone(qtype, above)
                }
            },
            _ => self.fail(rcode::REFUSED, Some(ExtendedError::NotAuthoritative)),
        }
    }

    #[inline]
    fn in_zone(&mut self, qtype: u16, above: usize) -> Result<(), Full> {
        match qtype {
            // Zone transfers are offered to nobody.
            rtype::AXFR | rtype::IXFR => {
                return self.fail(rcode::REFUSED, Some(ExtendedError::NotSupported));
            }
            rtype::ANY | 0..rtype::FIRST_META | 256.. => {}
            _ => return self.fail(rcode::NOTIMP, Some(ExtendedError::NotSupported)),
        }
        self.flags.authoritative = true;
        let ttl = self.snapshot.zone.settings().negative_ttl;
        // The snapshot outlives the answer, so what is found in it borrows nothing of `self`.
        let snapshot = self.snapshot;
        let internal = snapshot.zone.internal().filter(|_| self.zone == ZoneKind::Internal);
        let found = match internal {
            None => snapshot.zone.lookup(self.query.name, above),
            Some(zone) => zone.lookup(&snapshot.zone, self.query.name, above),
        };
        match (found, internal) {
            (Lookup::Service(name), None) => self.service(name),
            (Lookup::Service(name), Some(zone)) => self.internal(zone, name),
            (Lookup::Static(node), _) => self.statics(node, above),
            (Lookup::EmptyNonTerminal, _) => self.negative(rcode::NOERROR, ttl),
            (Lookup::Nothing, _) if !snapshot.complete => {
                // While some source has never been read, absence is unknown.
                self.flags.authoritative = false;
                self.fail(rcode::SERVFAIL, Some(ExtendedError::NotReady))
            }
            (Lookup::Nothing, _) => self.negative(rcode::NXDOMAIN, ttl),
        }
    }

    /// No data, only a code and, where the query has EDNS, the reason.
    fn fail(&mut self, rcode: u16, error: Option<ExtendedError>) -> Result<(), Full> {
        self.rcode = rcode;
        if let Some(edns) = &mut self.edns {
            edns.error = error;
        }
        Ok(())
    }

    /// A negative answer: the SOA in the authority section carries its TTL (RFC 2308 §3, §5).
    fn negative(&mut self, rcode: u16, ttl: u32) -> Result<(), Full> {
        self.rcode = rcode;
        let ttl = ttl.min(self.most_negative_ttl);
        self.reply.record(Section::Authority, self.apex, rtype::SOA, ttl, &[self.soa])
    }

    /// Static records, the apex among them.
    fn statics(&mut self, node: &StaticNode, above: usize) -> Result<(), Full> {
        let settings = self.snapshot.zone.settings();
        let at_apex = above == 0;
        if at_apex && matches!(self.query.qtype, rtype::SOA | rtype::ANY) {
            let (ttl, soa) = (settings.ttl, &[self.soa]);
            return self.reply.record(Section::Answer, Owner::QUESTION, rtype::SOA, ttl, soa);
        }
        let Some(set) = node.rrset(self.query.qtype) else {
            return self.negative(rcode::NOERROR, settings.negative_ttl);
        };
        for rdata in &set.rdata {
            self.reply.record(Section::Answer, Owner::QUESTION, set.rtype, set.ttl, &[rdata])?;
        }
        if at_apex && set.rtype == rtype::NS && self.zone == ZoneKind::Federation {
            self.glue();
        }
        Ok(())
    }

    /// Addresses of name servers within the zone, as far as they fit: additional records are
    /// left out without TC (RFC 2181 §9).
    fn glue(&mut self) {
        let zone = &self.snapshot.zone;
        let apex = self.apex;
        for server in &zone.settings().nameservers {
            let wire = server.name.wire();
            let Some(relative) = wire.len().checked_sub(zone.apex().wire().len()) else { continue };
            if !server.name.is_within(zone.apex()) {
                continue;
            }
            let Some(node) = zone.statics().get(&wire[..relative]) else { continue };
            for rtype in [rtype::A, rtype::AAAA] {
                let Some(set) = node.rrset(rtype).filter(|set| set.rtype == rtype) else {
                    continue;
                };
                let name = (&wire[..relative], apex);
                if self.reply.additional(name, rtype, set.ttl, &set.rdata).is_err() {
                    return;
                }
            }
        }
    }
}
