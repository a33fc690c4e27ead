//! Parsing of requests.

use super::edns::Edns;
use super::number::rtype;
use super::question::QuestionName;
use super::reply::Flags;

/// Octets of the fixed header (RFC 1035 §4.1.1).
pub const HEADER_LEN: usize = 12;
/// Opcode of a standard query (RFC 1035 §4.1.1).
const QUERY: u8 = 0;

/// The header fields of a request that its reply repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Message id.
    pub id: u16,
    /// Kind of query, four bits.
    pub opcode: u8,
    /// Recursion desired.
    pub recursion_desired: bool,
    /// Checking disabled (RFC 4035 §3.1.6: copied).
    pub checking_disabled: bool,
}

impl Header {
    /// The header of a message; `None` of a response.
    #[inline]
    pub(crate) fn read(head: &[u8; HEADER_LEN]) -> Option<Self> {
        (head[2] & 0x80 == 0).then(|| Self {
            id: u16::from_be_bytes([head[0], head[1]]),
            opcode: (head[2] >> 3) & 0xf,
            recursion_desired: head[2] & 1 != 0,
            checking_disabled: head[3] & 0x10 != 0,
        })
    }

    /// The header of the reply, with the number of records in each section.
    #[inline]
    pub(crate) fn reply(self, flags: Flags, rcode: u16, counts: [u16; 4]) -> [u8; HEADER_LEN] {
        let [i0, i1] = self.id.to_be_bytes();
        let upper = 0x80
            | self.opcode << 3
            | u8::from(flags.authoritative) << 2
            | u8::from(flags.truncated) << 1
            | u8::from(self.recursion_desired);
        let lower = u8::from(self.checking_disabled) << 4 | (rcode & 0xf) as u8;
        let [[q0, q1], [a0, a1], [n0, n1], [r0, r1]] = counts.map(u16::to_be_bytes);
        [i0, i1, upper, lower, q0, q1, a0, a1, n0, n1, r0, r1]
    }
}

/// Turns the header of a standard query into that of its authoritative reply, with the number of
/// records in each section; what [`Header::reply`] gives.
#[inline]
pub(crate) fn turn_into_reply(head: &mut [u8; HEADER_LEN], rcode: u16, counts: [u16; 4]) {
    let [i0, i1, f0, f1, ..] = *head;
    // RD and CD are repeated; QR and AA are set.
    let (upper, lower) = (f0 & 0x01 | 0x84, f1 & 0x10 | (rcode & 0xf) as u8);
    let [[q0, q1], [a0, a1], [n0, n1], [r0, r1]] = counts.map(u16::to_be_bytes);
    *head = [i0, i1, upper, lower, q0, q1, a0, a1, n0, n1, r0, r1];
}

/// A request with one question.
#[derive(Clone, Debug)]
pub struct Query<'m> {
    /// What the reply's header repeats.
    pub header: Header,
    /// The question as it stands in the message, case kept, to be echoed.
    pub question: &'m [u8],
    /// The name asked for, in lower case.
    pub name: &'m QuestionName,
    /// QTYPE.
    pub qtype: u16,
    /// QCLASS.
    pub qclass: u16,
    /// EDNS, where the query has it.
    pub edns: Option<Edns>,
}

/// Why a message is no query that can be answered in earnest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// Too short to have an id: nothing can be sent.
    #[error("shorter than a header")]
    Runt,
    /// A response: never answered, lest two servers talk for ever.
    #[error("a response, not a query")]
    Response,
    /// An opcode other than QUERY: NOTIMP, with EDNS where the rest can be read like a query.
    #[error("opcode {} is not offered", .0.opcode)]
    Opcode(Header, Option<Edns>),
    /// Not one question, or one that cannot be read: FORMERR.
    #[error("no readable question")]
    Question(Header),
    /// A malformed record after the question: FORMERR, with the EDNS that came before it.
    #[error("a malformed record after the question")]
    Record(Header, Option<Edns>),
}

impl<'m> Query<'m> {
    /// Reads a request, and the name that it asks for into `name`.
    ///
    /// # Errors
    /// [`InvalidMessage`] says what, if anything, may be sent back.
    #[inline]
    pub fn parse(message: &'m [u8], name: &'m mut QuestionName) -> Result<Self, InvalidMessage> {
        let (head, body) = message.split_first_chunk().ok_or(InvalidMessage::Runt)?;
        let header = Header::read(head).ok_or(InvalidMessage::Response)?;
        let body = Self::read(message, body, header, name);
        if header.opcode == QUERY {
            return body;
        }
        let edns = match body {
            Ok(Self { edns, .. }) | Err(InvalidMessage::Record(_, edns)) => edns,
            Err(_) => None,
        };
        Err(InvalidMessage::Opcode(header, edns))
    }

    /// Reads what follows the header.
    #[inline]
    fn read(
        head: &'m [u8],
        body: &'m [u8],
        header: Header,
        name: &'m mut QuestionName,
    ) -> Result<Self, InvalidMessage> {
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        // RFC 9619 §4: a QUERY with QDCOUNT > 1 MUST be answered with FORMERR. None at all is
        // kept for cookies (RFC 7873 §5.4), which are not offered yet.
        if word(4) != 1 {
            return Err(InvalidMessage::Question(header));
        }
        name.read(body).ok_or(InvalidMessage::Question(header))?;
        let end = name.wire().len();
        let fixed = body.get(end..end + 4).ok_or(InvalidMessage::Question(header))?;
        let mut query = Self {
            header,
            question: &body[..end + 4],
            name,
            qtype: u16::from_be_bytes([fixed[0], fixed[1]]),
            qclass: u16::from_be_bytes([fixed[2], fixed[3]]),
            edns: None,
        };
        let before = usize::from(word(6)) + usize::from(word(8));
        match query.read_records(&body[end + 4..], before, usize::from(word(10))) {
            Some(()) => Ok(query),
            None => Err(InvalidMessage::Record(header, query.edns)),
        }
    }

    /// Walks the records after the question: `before` of answer and authority, which a query
    /// has no use for, then `additional`, of which one may be an OPT. `None` where one is
    /// malformed or octets are left over.
    fn read_records(&mut self, mut rest: &[u8], before: usize, additional: usize) -> Option<()> {
        for index in 0..before + additional {
            let owner_len = name_len(rest)?;
            let (fixed, after) = rest[owner_len..].split_at_checked(10)?;
            let len = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
            let (rdata, after) = after.split_at_checked(len)?;
            if u16::from_be_bytes([fixed[0], fixed[1]]) == rtype::OPT {
                // RFC 6891 §6.1.1: "If a query message with more than one OPT RR is received, a
                // FORMERR MUST be returned"; its owner is the root, its place the additional
                // section.
                if index < before || owner_len != 1 || self.edns.is_some() {
                    return None;
                }
                let class = u16::from_be_bytes([fixed[2], fixed[3]]);
                let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
                self.edns = Some(Edns::parse(class, ttl, rdata));
            }
            rest = after;
        }
        rest.is_empty().then_some(())
    }
}

/// Octets of the owner name at the start of `wire`; a compression pointer ends it, whatever it
/// points to, as owners of a query's records are not used.
fn name_len(wire: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *wire.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += usize::from(len) + 1,
            0xc0.. => return (at + 2 <= wire.len()).then_some(at + 2),
            _ => return None,
        }
    }
}
