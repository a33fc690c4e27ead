//! A reply in the making: the question, then what follows it.

use super::Chosen;
use super::ahead::Asked;
use crate::answer::service::rdata;
use crate::answer::{Answered, MAX_MESSAGE, PLAIN_UDP_LIMIT, Transport, ZoneKind};
use crate::geo::LocatedBy;
use crate::model::ClusterId;
use crate::snapshot::Snapshot;
use crate::wire::query::{HEADER_LEN, turn_into_reply};
use crate::wire::{Full, subnet};
use crate::zone::Addresses;

/// A reply, as far as it is written.
pub(super) struct Draft<'b> {
    query: &'b [u8],
    asked: &'b Asked,
    /// As much of the buffer as the reply may take.
    out: &'b mut [u8],
    at: usize,
    /// Our own UDP payload size.
    payload: u16,
}

impl<'b> Draft<'b> {
    #[inline]
    pub(super) fn new(
        snapshot: &Snapshot,
        query: &'b [u8],
        asked: &'b Asked,
        transport: Transport,
        reply: &'b mut [u8],
    ) -> Option<Self> {
        let payload = snapshot.identity().udp_payload;
        // Without EDNS the payload is 0, and so the limit 512.
        let limit = match transport {
            Transport::Tcp => MAX_MESSAGE,
            Transport::Udp => asked.opt.payload.max(PLAIN_UDP_LIMIT as u16).min(payload).into(),
        };
        let limit = limit.min(reply.len());
        let at = HEADER_LEN + asked.len() + 4;
        let out = &mut reply[..limit];
        out.get_mut(..at)?.copy_from_slice(query.get(..at)?);
        Some(Self { query, asked, out, at, payload })
    }

    #[inline]
    pub(super) fn put(&mut self, octets: &[u8]) -> Option<()> {
        let (to, _) = self.out.get_mut(self.at..)?.split_at_mut_checked(octets.len())?;
        to.copy_from_slice(octets);
        self.at += octets.len();
        Some(())
    }

    /// Room for the next octets, which the caller fills.
    #[inline]
    pub(super) fn room<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let room = self.out.get_mut(self.at..)?.first_chunk_mut()?;
        self.at += N;
        Some(room)
    }

    /// Puts a Client Subnet option with this scope.
    #[inline]
    pub(super) fn put_option(&mut self, option: &[u8], scope: u8) -> Option<()> {
        let at = self.at;
        self.put(option)?;
        if !option.is_empty() {
            *self.out.get_mut(at + subnet::SCOPE_AT)? = scope;
        }
        Some(())
    }

    /// Puts at most `most` addresses of clusters as records of `M` octets; gives their number.
    #[inline]
    pub(super) fn addresses<const N: usize, const M: usize>(
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
        let (room, _) = self.out.get_mut(self.at..)?.as_chunks_mut();
        let places = room.get_mut(..ids.len())?.iter_mut().zip(ids.iter().copied());
        singles.visit(places, |place, octets| *place = record(octets))?;
        self.at += ids.len() * M;
        Some(ids.len() as u16)
    }

    /// Completes a reply with so many records in the answer and in the authority section; `None`
    /// where there is no room.
    #[inline]
    pub(super) fn finish(
        mut self,
        rcode: u16,
        [answer, authority]: [u16; 2],
        (scope, located): (u8, LocatedBy),
    ) -> Option<Answered> {
        let Self { query, asked, payload, .. } = self;
        asked.opt.write(query, payload, scope, &mut self)?;
        let counts = [1, answer, authority, asked.opt.is_present().into()];
        turn_into_reply(self.out.first_chunk_mut()?, rcode, counts);
        let (zone, qtype) = (ZoneKind::Federation, asked.qtype);
        Some(Answered { len: self.at, zone, qtype, rcode, located })
    }
}
