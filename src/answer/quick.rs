//! The short way to the answer of nearly every query.
//!
//! *Owns*: nothing but speed: addresses at the names of levels where shards are served and nothing
//! is special about the service, and names of services that do not exist. *Guarantees*: what it
//! answers is octet for octet what the long way answers, which a property test holds. *Does not*:
//! decide anything of its own; whatever it does not know it declines.

use std::net::IpAddr;

use super::ranking::{by_distance, visit_low};
use super::service::rdata;
use super::{Answered, Client, MAX_MESSAGE, PLAIN_UDP_LIMIT, Transport, ZoneKind};
use crate::geo::{Ranking, Shape};
use crate::snapshot::{Live, Snapshot};
use crate::wire::number::{class, rcode, rtype};
use crate::wire::query::HEADER_LEN;
use crate::wire::question::fold;
use crate::wire::{AddressHead, Edns, Flags, Full, Header, Owner, ReplyEdns};
use crate::zone::{Addresses, Plain};

/// Room for a name. Longer ones are rare and take the long way.
const NAME: usize = 128;

/// Answers one of the many alike; `None` where the long way has to be taken, after which `reply`
/// may hold anything.
#[inline]
pub(super) fn quick(
    snapshot: &Snapshot,
    query: &[u8],
    client: Client,
    turn: u32,
    reply: &mut [u8],
) -> Option<Answered> {
    let mut name = [0; NAME];
    let asked = Asked::read(query, &mut name)?;
    let zone = &snapshot.zone;
    let level = zone.speaks_for(name.get(asked.key..asked.len)?)?;
    let mut draft = Draft::new(snapshot, query, &asked, client.transport, reply)?;
    let Some((service, position)) = zone.service(&name[..asked.key]) else {
        // While some source has never been read, absence is unknown.
        let soa = snapshot.complete.then(|| snapshot.negative())?;
        let apex = asked.len - zone.apex().wire().len();
        draft.put(&Owner::in_question(apex).octets()).ok()?;
        draft.put(soa).ok()?;
        return draft.finish(rcode::NXDOMAIN, [0, 1], &Ranking::EQUAL);
    };
    let (plain, live) = (service.plain()?, snapshot.live(position));
    let served = live.served.word(0) & snapshot.up.word(0) & level;
    let way = Way { snapshot, plain, live, served, turn, client: (asked.subnet(), client.address) };
    let (records, ranking) = match asked.qtype {
        rtype::A => {
            let head = AddressHead::v4(Owner::QUESTION, service.ttl);
            way.write(service.v4(), |octets| draft.put(&head.record(octets)))?
        }
        rtype::AAAA => {
            let head = AddressHead::v6(Owner::QUESTION, service.ttl);
            way.write(service.v6(), |octets| draft.put(&head.record(octets)))?
        }
        _ => return None,
    };
    draft.finish(rcode::NOERROR, [records, 0], &ranking)
}

/// What is asked, as far as it is asked in the common way: class IN, no record beside an OPT.
struct Asked {
    header: Header,
    /// Where in the name its first two labels end, which are a service's if any.
    key: usize,
    /// Octets of the name, root included.
    len: usize,
    qtype: u16,
    edns: Option<Edns>,
}

impl Asked {
    /// Reads a query, and the name that it asks for, in lower case, into `name`.
    #[inline]
    fn read(query: &[u8], name: &mut [u8; NAME]) -> Option<Self> {
        let (head, body) = query.split_first_chunk::<HEADER_LEN>()?;
        let header = Header::read(head).filter(|header| header.opcode == 0)?;
        let [.., 0, 1, 0, 0, 0, 0, 0, additional] = *head else { return None };
        let within = &body[..body.len().min(NAME)];
        let key = after_label(within, after_label(within, 0)?)?;
        let mut root = key;
        while let Some(next) = after_label(within, root) {
            root = next;
        }
        let len = root + 1;
        if *within.get(root)? != 0 {
            return None;
        }
        fold(&within[..len], name);
        let (fixed, rest) = body[len..].split_first_chunk()?;
        let [t0, t1, c0, c1] = *fixed;
        let edns = match additional {
            0 if rest.is_empty() => None,
            1 => Some(Edns::of_last_record(rest)?),
            _ => return None,
        };
        let special = edns.is_some_and(|e| e.version != 0 || e.malformed || e.nsid);
        let qtype = u16::from_be_bytes([t0, t1]);
        let usual = u16::from_be_bytes([c0, c1]) == class::IN && !special;
        usual.then_some(Self { header, key, len, qtype, edns })
    }

    /// The client's prefix, where the query tells it.
    #[inline]
    fn subnet(&self) -> Option<IpAddr> {
        self.edns?.subnet?.address()
    }
}

/// Where the label that begins `at` ends; `None` at the root, and where there is no label.
#[inline]
fn after_label(name: &[u8], at: usize) -> Option<usize> {
    match *name.get(at)? {
        len @ 1..=63 => Some(at + 1 + usize::from(len)),
        _ => None,
    }
}

/// From a service's addresses to those of an answer.
struct Way<'s> {
    snapshot: &'s Snapshot,
    plain: Plain,
    live: &'s Live,
    /// Clusters whose shards are served at the level asked for.
    served: u64,
    turn: u32,
    client: (Option<IpAddr>, IpAddr),
}

impl<'s> Way<'s> {
    /// Has the addresses of an answer written; gives their number and what they were ordered by.
    /// `None` where there is none, which leads elsewhere, or no room.
    #[inline]
    fn write<const N: usize>(
        &self,
        addresses: &Addresses<N>,
        mut write: impl FnMut(&[u8; N]) -> Result<(), Full>,
    ) -> Option<(u16, Ranking<'s>)> {
        let eligible = self.served & addresses.clusters().word(0);
        if eligible == 0 {
            return None;
        }
        let ranking = self.ranking(eligible);
        let most = self.snapshot.zone.settings().max_addresses.get();
        let mut left = usize::from(most);
        let nearest = self.plain.nearest.into();
        let end = visit_low(ranking.order, eligible, self.turn, nearest, |cluster, _| {
            let written = rdata(addresses.of(cluster), self.turn, &mut left, |octets| {
                write(octets).map(|()| true)
            });
            (written.is_err() || left == 0).then_some(written)
        });
        match end {
            Some(Err(Full)) => None,
            _ => Some((most - left as u16, ranking)),
        }
    }

    #[inline]
    fn ranking(&self, eligible: u64) -> Ranking<'s> {
        let (geography, table) = (&self.snapshot.geography, &*self.live.table);
        let exact = || {
            let shape = match self.plain.within {
                None => Shape::Whole,
                Some(within) => Shape::First(within).over(eligible.count_ones() as usize),
            };
            geography.compiled.exact(eligible, |set| set.width() == 1, shape)
        };
        by_distance(geography, table, table.are_alike(eligible), exact, self.client)
    }
}

/// A reply in the making: the question, then what follows it.
struct Draft<'a, 'b> {
    header: Header,
    qtype: u16,
    edns: Option<ReplyEdns<'a>>,
    /// As much of the buffer as the reply may take.
    out: &'b mut [u8],
    at: usize,
}

impl<'b> Draft<'_, 'b> {
    #[inline]
    fn new(
        snapshot: &Snapshot,
        query: &[u8],
        asked: &Asked,
        transport: Transport,
        reply: &'b mut [u8],
    ) -> Option<Self> {
        let payload = snapshot.identity().udp_payload;
        let limit = match (transport, &asked.edns) {
            (Transport::Tcp, _) => MAX_MESSAGE,
            (Transport::Udp, None) => PLAIN_UDP_LIMIT,
            (Transport::Udp, Some(edns)) => {
                edns.payload.clamp(PLAIN_UDP_LIMIT as u16, payload).into()
            }
        };
        let limit = limit.min(reply.len());
        let edns = asked.edns.map(|query| ReplyEdns { query, payload, nsid: None, error: None });
        let at = HEADER_LEN + asked.len + 4;
        let out = &mut reply[..limit];
        out.get_mut(..at)?.copy_from_slice(query.get(..at)?);
        Some(Self { header: asked.header, qtype: asked.qtype, edns, out, at })
    }

    #[inline]
    fn put(&mut self, octets: &[u8]) -> Result<(), Full> {
        let end = self.at + octets.len();
        self.out.get_mut(self.at..end).ok_or(Full)?.copy_from_slice(octets);
        self.at = end;
        Ok(())
    }

    /// Completes a reply with so many records in the answer and in the authority section; `None`
    /// where there is no room.
    #[inline]
    fn finish(
        self,
        rcode: u16,
        [answer, authority]: [u16; 2],
        ranking: &Ranking<'_>,
    ) -> Option<Answered> {
        let mut len = self.at;
        if let Some(edns) = &self.edns {
            len += edns.len();
            let room = self.out.get_mut(self.at..)?;
            if edns.len() > room.len() {
                return None;
            }
            edns.write(rcode, ranking.scope, room);
        }
        let flags = Flags { authoritative: true, truncated: false };
        let counts = [1, answer, authority, self.edns.is_some().into()];
        let head = self.header.reply(flags, rcode, counts);
        *self.out.first_chunk_mut()? = head;
        let (zone, qtype, located) = (ZoneKind::Federation, self.qtype, ranking.by);
        Some(Answered { len, zone, qtype, rcode, located })
    }
}
