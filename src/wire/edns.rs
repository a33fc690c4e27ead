//! The OPT pseudo-record (RFC 6891).

use super::subnet::{self, ClientSubnet};

/// Option code of NSID (RFC 5001 §4).
pub(crate) const NSID: u16 = 3;
/// Option code of Extended DNS Errors (RFC 8914 §2).
const EXTENDED_ERROR: u16 = 15;

/// What a query's OPT record says, as far as the server acts on it; unknown options are ignored
/// (RFC 6891 §6.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Requestor's UDP payload size, octets, as sent.
    pub payload: u16,
    /// EDNS version.
    pub version: u8,
    /// "DNSSEC OK", copied to the reply (RFC 3225 §3).
    pub dnssec_ok: bool,
    /// Client Subnet.
    pub subnet: Option<ClientSubnet>,
    /// Whether the server's identifier is asked for.
    pub nsid: bool,
    /// The options do not add up, or Client Subnet is malformed or stands twice: FORMERR, with
    /// an OPT, lest the sender take us for a server without EDNS.
    pub malformed: bool,
}

impl Edns {
    /// The octets of an OPT record without options: root owner, type, class, TTL, length.
    pub(crate) const BARE_LEN: usize = 11;

    /// Reads class, TTL and RDATA of an OPT record.
    #[inline]
    pub(super) fn parse(class: u16, ttl: u32, data: &[u8]) -> Self {
        let [_, version, flags, _] = ttl.to_be_bytes();
        let mut edns = Self {
            payload: class,
            version,
            dnssec_ok: flags & 0x80 != 0,
            subnet: None,
            nsid: false,
            malformed: false,
        };
        // The options' format belongs to version 0; BADVERS follows whatever they are.
        if version == 0 && edns.read_options(data).is_none() {
            edns.malformed = true;
            edns.subnet = None;
        }
        edns
    }

    #[inline]
    fn read_options(&mut self, mut data: &[u8]) -> Option<()> {
        while !data.is_empty() {
            let [c0, c1, l0, l1, rest @ ..] = data else { return None };
            let len = usize::from(u16::from_be_bytes([*l0, *l1]));
            let (option, after) = rest.split_at_checked(len)?;
            match u16::from_be_bytes([*c0, *c1]) {
                subnet::CODE if self.subnet.is_some() => return None,
                subnet::CODE => self.subnet = Some(ClientSubnet::parse(option).ok()?),
                NSID => self.nsid = true,
                _ => {}
            }
            data = after;
        }
        Some(())
    }
}

/// Extended DNS Errors (RFC 8914 §4) that the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendedError {
    /// "Not Ready": a source has never been read, so that absence is not known.
    NotReady,
    /// "Not Authoritative": the name is outside of every zone.
    NotAuthoritative,
    /// "Not Supported": the operation or type is not offered.
    NotSupported,
}

impl ExtendedError {
    fn code(self) -> u16 {
        match self {
            Self::NotReady => 14,
            Self::NotAuthoritative => 20,
            Self::NotSupported => 21,
        }
    }
}

/// The OPT record of a reply.
#[derive(Clone, Copy, Debug)]
pub struct ReplyEdns<'a> {
    /// What the query said.
    pub query: Edns,
    /// Our own UDP payload size, octets.
    pub payload: u16,
    /// The server's identifier, where asked for and configured.
    pub nsid: Option<&'a [u8]>,
    /// Why there is no answer.
    pub error: Option<ExtendedError>,
}

impl ReplyEdns<'_> {
    /// Octets that an extended error takes, which is known later than the rest.
    const ERROR_LEN: usize = 6;

    /// Leaves the identifier out where the record would exceed `room` octets: it may have 255, and
    /// beside the longest question 512 have no place for it.
    #[must_use]
    pub fn within(mut self, room: usize) -> Self {
        if self.len() + Self::ERROR_LEN > room {
            self.nsid = None;
        }
        self
    }

    /// Octets that the record takes, so that room is kept before the answer is filled in
    /// (RFC 7871 §7.2.1).
    #[inline]
    pub(super) fn len(&self) -> usize {
        Edns::BARE_LEN
            + self.query.subnet.map_or(0, |s| s.reply_len())
            + self.nsid.map_or(0, |n| n.len() + 4)
            + self.error.map_or(0, |_| Self::ERROR_LEN)
    }

    /// Writes the record to the front of `out`, which has at least [`Self::len`] octets; what
    /// follows these in it is then arbitrary.
    #[inline]
    pub(super) fn write(&self, rcode: u16, scope: u8, out: &mut [u8]) {
        let [r0, r1] = super::number::rtype::OPT.to_be_bytes();
        let [p0, p1] = self.payload.to_be_bytes();
        let [l0, l1] = ((self.len() - Edns::BARE_LEN) as u16).to_be_bytes();
        // Root, extended RCODE, version 0, DO, zeros (RFC 6891 §6.1.3).
        let flags = u8::from(self.query.dnssec_ok) << 7;
        let bare = [0, r0, r1, p0, p1, (rcode >> 4) as u8, 0, flags, 0, l0, l1];
        let (fixed, mut rest) = out.split_at_mut(bare.len());
        fixed.copy_from_slice(&bare);
        if let Some(subnet) = &self.query.subnet {
            subnet.write(scope, rest);
            rest = &mut rest[subnet.reply_len()..];
        }
        if let Some(nsid) = self.nsid {
            let (option, after) = rest.split_at_mut(nsid.len() + 4);
            option[..2].copy_from_slice(&NSID.to_be_bytes());
            option[2..4].copy_from_slice(&(nsid.len() as u16).to_be_bytes());
            option[4..].copy_from_slice(nsid);
            rest = after;
        }
        if let Some(error) = self.error {
            rest[..2].copy_from_slice(&EXTENDED_ERROR.to_be_bytes());
            rest[2..4].copy_from_slice(&2u16.to_be_bytes());
            rest[4..6].copy_from_slice(&error.code().to_be_bytes());
        }
    }
}
