//! The short way to the answer of nearly every query.
//!
//! *Owns*: nothing but speed: addresses at the names of levels where shards are served and nothing
//! is special about the service, and names of services that do not exist. *Guarantees*: what it
//! answers is octet for octet what the long way answers, which a property test holds. *Does not*:
//! decide anything of its own; whatever it does not know it declines.

use std::net::{IpAddr, Ipv4Addr};

use super::ranking::by_distance;
use super::service::rdata;
use super::{Answered, Client, MAX_MESSAGE, PLAIN_UDP_LIMIT, Transport, ZoneKind};
use crate::geo::{GeoTable, Geography, LocatedBy, Order, Ranking, Shape};
use crate::model::ClusterId;
use crate::snapshot::Snapshot;
use crate::wire::number::{rcode, rtype};
use crate::wire::query::HEADER_LEN;
use crate::wire::question::fold;
use crate::wire::{AddressHead, ClientSubnet, Edns, Flags, Full, Header, Owner, edns, subnet};
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
    let mut asked = Asked::default();
    asked.read(query, &mut name)?;
    let zone = &snapshot.zone;
    let level = zone.speaks_for(name.get(asked.key..asked.len)?)?;
    let mut draft = Draft::new(snapshot, query, &asked, client.transport, reply)?;
    let Some((service, position)) = zone.service(&name[..asked.key]) else {
        // While some source has never been read, absence is unknown.
        let absent = snapshot.complete && !zone.has_statics_among();
        let soa = absent.then(|| snapshot.negative())?;
        let apex = asked.len - zone.apex().wire().len();
        draft.put(&Owner::in_question(apex).octets())?;
        draft.put(soa)?;
        return draft.finish(&asked, rcode::NXDOMAIN, [0, 1], (0, LocatedBy::Nothing));
    };
    let (plain, live) = (service.plain()?, snapshot.live(position));
    let [served, up] = live.eligible(&snapshot.up);
    let served = served.word(0) & up.word(0) & level;
    let ttl = snapshot.ttl(service, live);
    let most = zone.settings().max_addresses.get().into();
    let geography = &snapshot.geography;
    let way = Way { geography, plain, turn, subnet: &asked.opt.subnet, client: &client };
    let mut chosen = Chosen::default();
    let (records, by) = match asked.qtype {
        rtype::A => {
            let head = AddressHead::v4(Owner::QUESTION, ttl);
            let by = way.choose(served & service.v4().clusters().word(0), &mut chosen)?;
            let record = |octets: &_| head.record(octets);
            (draft.addresses(service.v4(), &chosen, turn, most, record)?, by)
        }
        rtype::AAAA => {
            let head = AddressHead::v6(Owner::QUESTION, ttl);
            let by = way.choose(served & service.v6().clusters().word(0), &mut chosen)?;
            let record = |octets: &_| head.record(octets);
            (draft.addresses(service.v6(), &chosen, turn, most, record)?, by)
        }
        _ => return None,
    };
    draft.finish(&asked, rcode::NOERROR, [records, 0], by)
}

/// What is asked, as far as it is asked in the common way: class IN, no record beside an OPT.
///
/// Filled in place, like all that is too large to be moved about for every query.
#[derive(Default)]
struct Asked<'q> {
    header: Header,
    /// Where in the name its first two labels end, which are a service's if any.
    key: usize,
    /// Octets of the name, root included.
    len: usize,
    qtype: u16,
    opt: Opt<'q>,
}

impl<'q> Asked<'q> {
    /// Reads a query, and the name that it asks for, in lower case, into `name`.
    #[inline]
    fn read(&mut self, query: &'q [u8], name: &mut [u8; NAME]) -> Option<()> {
        let (head, body) = query.split_first_chunk::<HEADER_LEN>()?;
        let [_, _, _, _, counts @ ..] = *head;
        // One question, and at most one additional record.
        let additional = u64::from_be_bytes(counts) ^ 1 << 48;
        self.header = Header::read(head)?;
        if self.header.opcode != 0 {
            return None;
        }
        let within = &body[..body.len().min(NAME)];
        self.key = after_label(within, after_label(within, 0)?)?;
        let mut root = self.key;
        while let Some(next) = after_label(within, root) {
            root = next;
        }
        if *within.get(root)? != 0 {
            return None;
        }
        self.len = root + 1;
        fold(&within[..self.len], name);
        let (fixed, rest) = body[self.len..].split_first_chunk()?;
        let [t0, t1, 0, 1] = *fixed else { return None };
        self.qtype = u16::from_be_bytes([t0, t1]);
        if !matches!(self.qtype, 1..rtype::FIRST_META) || self.qtype == rtype::OPT {
            return None;
        }
        match additional {
            0 if rest.is_empty() => Some(()),
            1 => self.opt.read(rest),
            _ => None,
        }
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

/// An OPT record whose only option is the /24 of an IPv4 client: what nearly all that are asked for
/// an answer by place send. It is read and written whole.
type Usual = [u8; 22];

/// An OPT record, as far as it says what most do.
#[derive(Default)]
struct Opt<'q> {
    present: bool,
    usual: Option<&'q Usual>,
    dnssec_ok: bool,
    payload: u16,
    /// The client's prefix, where the query tells it.
    subnet: Option<IpAddr>,
    /// The Client Subnet option as it was sent, empty where it was not: the reply repeats it but
    /// for the scope.
    option: &'q [u8],
}

impl<'q> Opt<'q> {
    /// Reads the record that is all that stands behind the question.
    #[inline]
    fn read(&mut self, record: &'q [u8]) -> Option<()> {
        self.present = true;
        if let Ok(usual) = <&Usual>::try_from(record)
            && let [0, 0, 41, p0, p1, _, 0, _, _, 0, 11, option @ ..] = *usual
            && let [0, 8, 0, 7, 0, 1, 24, 0, a, b, c] = option
        {
            self.payload = u16::from_be_bytes([p0, p1]);
            self.subnet = Some(Ipv4Addr::new(a, b, c, 0).into());
            self.usual = Some(usual);
            return Some(());
        }
        self.read_any(record)
    }

    /// Reads what other record that may be.
    #[inline(never)]
    fn read_any(&mut self, record: &'q [u8]) -> Option<()> {
        let (fixed, mut data) = record.split_first_chunk::<{ Edns::BARE_LEN }>()?;
        let [0, t0, t1, p0, p1, _, 0, flags, _, l0, l1] = *fixed else { return None };
        let is_opt = u16::from_be_bytes([t0, t1]) == rtype::OPT;
        if !is_opt || usize::from(u16::from_be_bytes([l0, l1])) != data.len() {
            return None;
        }
        self.dnssec_ok = flags & 0x80 != 0;
        self.payload = u16::from_be_bytes([p0, p1]);
        while let [c0, c1, l0, l1, rest @ ..] = data {
            let len = usize::from(u16::from_be_bytes([*l0, *l1]));
            let (option, after) = rest.split_at_checked(len)?;
            match u16::from_be_bytes([*c0, *c1]) {
                subnet::CODE if self.option.is_empty() => {
                    self.subnet = ClientSubnet::parse(option).ok()?.address();
                    self.option = &data[..4 + len];
                }
                // Twice, which is malformed; or the server's identifier is asked for.
                subnet::CODE | edns::NSID => return None,
                _ => {}
            }
            data = after;
        }
        data.is_empty().then_some(())
    }

    /// Puts the reply's record, with our `payload`, behind what was drafted.
    #[inline]
    fn write(&self, payload: u16, scope: u8, draft: &mut Draft<'_>) -> Option<()> {
        let [p0, p1] = payload.to_be_bytes();
        let Some(usual) = self.usual else { return self.write_any([p0, p1], scope, draft) };
        let [a, b, c] = [usual[19], usual[20], usual[21]];
        // Extended RCODE and version 0, DO as it was, zeros.
        let bare = [0, 0, 41, p0, p1, 0, 0, usual[7] & 0x80, 0, 0, 11];
        let mut whole: Usual = [0; 22];
        whole[..11].copy_from_slice(&bare);
        whole[11..].copy_from_slice(&[0, 8, 0, 7, 0, 1, 24, scope, a, b, c]);
        draft.put(&whole)
    }

    /// Puts what other record that has to be.
    #[inline(never)]
    fn write_any(&self, [p0, p1]: [u8; 2], scope: u8, draft: &mut Draft<'_>) -> Option<()> {
        let [r0, r1] = rtype::OPT.to_be_bytes();
        let [l0, l1] = (self.option.len() as u16).to_be_bytes();
        let flags = u8::from(self.dnssec_ok) << 7;
        draft.put(&[0, r0, r1, p0, p1, 0, 0, flags, 0, l0, l1])?;
        if !self.option.is_empty() {
            let at = draft.at;
            draft.put(self.option)?;
            *draft.out.get_mut(at + subnet::SCOPE_AT)? = scope;
        }
        Some(())
    }
}

/// From a service to the clusters of an answer.
struct Way<'s> {
    geography: &'s Geography,
    plain: Plain,
    turn: u32,
    subnet: &'s Option<IpAddr>,
    client: &'s Client,
}

impl Way<'_> {
    /// Chooses the clusters in an answer of those `eligible`; gives the scope of the choice, and
    /// whose address made it. `None` where none is eligible, which leads elsewhere.
    #[inline]
    fn choose(&self, eligible: u64, chosen: &mut Chosen) -> Option<(u8, LocatedBy)> {
        if eligible == 0 {
            return None;
        }
        let whole = self.geography.compiled.whole();
        let most = self.plain.nearest.into();
        let alike = whole.are_alike(eligible);
        let exact = || {
            let shape = match self.plain.within {
                None => Shape::Whole,
                Some(within) => Shape::First(within).over(eligible.count_ones() as usize),
            };
            self.geography.compiled.exact(eligible, |set| set.width() == 1, shape)
        };
        // By the one IPv4 network that counts, where that tells all that is to be told.
        if !alike && let Some((order, scope, by)) = self.by_v4(exact().unwrap_or(whole)) {
            chosen.take(Some(order), eligible, self.turn, most);
            return Some((scope, by));
        }
        let client = (*self.subnet, self.client.address);
        let Ranking { order, scope, by, .. } = by_distance(self.geography, alike, exact, client);
        chosen.take(order, eligible, self.turn, most);
        Some((scope, by))
    }
}

impl<'s> Way<'s> {
    /// The order for an IPv4 client, the scope, and whose address told; `None` where more has to be
    /// asked than its network.
    #[inline]
    fn by_v4(&self, table: &'s GeoTable) -> Option<(Order<'s>, u8, LocatedBy)> {
        match (self.subnet, self.client.address) {
            (Some(IpAddr::V4(subnet)), _) => {
                let (order, scope) = self.geography.by_v4(table, *subnet)?;
                Some((order?, scope, LocatedBy::Subnet))
            }
            (None, IpAddr::V4(source)) => {
                let (order, _) = self.geography.by_v4(table, source)?;
                Some((order.unwrap_or(table.unknown()), 0, LocatedBy::Source))
            }
            _ => None,
        }
    }
}

/// Clusters in the order of an answer, ids below 64.
struct Chosen {
    ids: [u8; 64],
    count: usize,
}

impl Default for Chosen {
    #[inline]
    fn default() -> Self {
        Self { ids: [0; 64], count: 0 }
    }
}

impl Chosen {
    /// Takes at most `most` of those `eligible`, nearest first, equals in turn.
    #[inline]
    fn take(&mut self, order: Option<Order<'_>>, eligible: u64, turn: u32, most: usize) {
        let Some(order) = order else {
            self.add(eligible, turn);
            self.count = self.count.min(most);
            return;
        };
        let mut group = 0;
        for ranked in order.ranked() {
            if ranked.starts_group() && group != 0 {
                self.add(group, turn);
                group = 0;
                if self.count >= most {
                    break;
                }
            }
            let id = ranked.cluster().index();
            // Tables of all clusters hold ids beyond those of this service.
            group |= if id < 64 { eligible & 1 << id } else { 0 };
        }
        self.add(group, turn);
        self.count = self.count.min(most);
    }

    /// Adds equals, from the one whose turn it is.
    #[inline]
    fn add(&mut self, members: u64, turn: u32) {
        if members & members.wrapping_sub(1) != 0 {
            return self.add_several(members, turn);
        }
        if members != 0 {
            // No cluster is added twice, so there are never more than 64.
            self.ids[self.count % 64] = members.trailing_zeros() as u8;
            self.count += 1;
        }
    }

    #[inline(never)]
    fn add_several(&mut self, members: u64, turn: u32) {
        let mut late = members;
        for _ in 0..turn % members.count_ones() {
            late &= late - 1;
        }
        for mut rest in [late, members & !late] {
            while rest != 0 {
                self.add(rest & rest.wrapping_neg(), turn);
                rest &= rest - 1;
            }
        }
    }

    #[inline]
    fn ids(&self) -> &[u8] {
        &self.ids[..self.count.min(64)]
    }
}

/// A reply in the making: the question, then what follows it.
struct Draft<'b> {
    /// As much of the buffer as the reply may take.
    out: &'b mut [u8],
    at: usize,
    /// Our own UDP payload size.
    payload: u16,
}

impl<'b> Draft<'b> {
    #[inline]
    fn new(
        snapshot: &Snapshot,
        query: &[u8],
        asked: &Asked<'_>,
        transport: Transport,
        reply: &'b mut [u8],
    ) -> Option<Self> {
        let payload = snapshot.identity().udp_payload;
        // Without EDNS the payload is 0, and so the limit 512.
        let limit = match transport {
            Transport::Tcp => MAX_MESSAGE,
            Transport::Udp => asked.opt.payload.clamp(PLAIN_UDP_LIMIT as u16, payload).into(),
        };
        let limit = limit.min(reply.len());
        let at = HEADER_LEN + asked.len + 4;
        let out = &mut reply[..limit];
        out.get_mut(..at)?.copy_from_slice(query.get(..at)?);
        Some(Self { out, at, payload })
    }

    #[inline]
    fn put(&mut self, octets: &[u8]) -> Option<()> {
        let (to, _) = self.out.get_mut(self.at..)?.split_at_mut_checked(octets.len())?;
        to.copy_from_slice(octets);
        self.at += octets.len();
        Some(())
    }

    /// Puts at most `most` addresses of clusters as records of `M` octets; gives their number.
    #[inline]
    fn addresses<const N: usize, const M: usize>(
        &mut self,
        addresses: &Addresses<N>,
        chosen: &Chosen,
        turn: u32,
        most: usize,
        record: impl Fn(&[u8; N]) -> [u8; M],
    ) -> Option<u16> {
        let ids = chosen.ids();
        let Some(singles) = addresses.singles() else {
            let mut left = most;
            for id in ids {
                let all = addresses.of(ClusterId::new((*id).into()));
                let write = |octets: &_| self.put(&record(octets)).map(|()| true).ok_or(Full);
                rdata(all, turn, &mut left, write).ok()?;
            }
            return Some((most - left) as u16);
        };
        let ids = &ids[..ids.len().min(most)];
        let mut room = self.out.get_mut(self.at..)?;
        for id in ids {
            let (to, rest) = room.split_first_chunk_mut()?;
            *to = record(singles.get(*id)?);
            room = rest;
        }
        self.at += ids.len() * M;
        Some(ids.len() as u16)
    }

    /// Completes a reply with so many records in the answer and in the authority section; `None`
    /// where there is no room.
    #[inline]
    fn finish(
        mut self,
        asked: &Asked<'_>,
        rcode: u16,
        [answer, authority]: [u16; 2],
        (scope, located): (u8, LocatedBy),
    ) -> Option<Answered> {
        if asked.opt.present {
            asked.opt.write(self.payload, scope, &mut self)?;
        }
        let flags = Flags { authoritative: true, truncated: false };
        let counts = [1, answer, authority, asked.opt.present.into()];
        *self.out.first_chunk_mut()? = asked.header.reply(flags, rcode, counts);
        let (zone, qtype) = (ZoneKind::Federation, asked.qtype);
        Some(Answered { len: self.at, zone, qtype, rcode, located })
    }
}

#[cfg(test)]
mod tests;
