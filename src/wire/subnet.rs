//! EDNS Client Subnet (RFC 7871).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Option code (RFC 7871 §6).
pub const CODE: u16 = 8;

/// Where in the option, code and length included, SCOPE PREFIX-LENGTH stands (RFC 7871 §6).
pub(crate) const SCOPE_AT: usize = 7;

/// A well-formed Client Subnet option of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSubnet {
    /// Address family number as sent: 1, 2, or 0 with an empty prefix.
    family: u16,
    /// SOURCE PREFIX-LENGTH, bits.
    source: u8,
    /// The address padded with zeros to its family's width.
    address: IpAddr,
}

/// Why an option is malformed. Every kind is answered with FORMERR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubnet {
    /// Shorter than its three fixed fields.
    #[error("shorter than four octets")]
    Short,
    /// Neither IPv4 nor IPv6.
    #[error("unknown address family")]
    Family,
    /// More bits than the family has.
    #[error("source prefix longer than the family's addresses")]
    Source,
    /// "SCOPE PREFIX-LENGTH ... MUST be set to 0" in queries (RFC 7871 §6).
    #[error("scope prefix length set in a query")]
    Scope,
    /// Not the octets that the prefix needs.
    #[error("too few or too many address octets")]
    Length,
    /// "padding with 0 bits" (RFC 7871 §6).
    #[error("address bits beyond the prefix")]
    Trailing,
}

impl ClientSubnet {
    /// Reads the option's data.
    ///
    /// # Errors
    /// RFC 7871 §7.1.2 and §7.2.1: "Queries that are wrongly formatted ... MUST result in a
    /// FORMERR".
    #[inline]
    pub fn parse(data: &[u8]) -> Result<Self, InvalidSubnet> {
        let [f0, f1, source, scope, octets @ ..] = data else { return Err(InvalidSubnet::Short) };
        let (family, source) = (u16::from_be_bytes([*f0, *f1]), *source);
        let width = match family {
            // Senders without a family in mind send 0 with an empty prefix (`dig +subnet=0`).
            0 => 0,
            1 => 32,
            2 => 128,
            _ => return Err(InvalidSubnet::Family),
        };
        if source > width {
            return Err(if family == 0 { InvalidSubnet::Family } else { InvalidSubnet::Source });
        }
        if *scope != 0 {
            return Err(InvalidSubnet::Scope);
        }
        if octets.len() != usize::from(source).div_ceil(8) {
            return Err(InvalidSubnet::Length);
        }
        let address = match octets {
            _ if family == 2 => {
                let mut padded = [0; 16];
                padded[..octets.len()].copy_from_slice(octets);
                IpAddr::V6(Ipv6Addr::from(padded))
            }
            // Nearly always /24; said one by one, as a copy of unknown length is a call.
            [a, b, c] => IpAddr::V4(Ipv4Addr::new(*a, *b, *c, 0)),
            [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(*a, *b, *c, *d)),
            [a, b] => IpAddr::V4(Ipv4Addr::new(*a, *b, 0, 0)),
            [a] => IpAddr::V4(Ipv4Addr::new(*a, 0, 0, 0)),
            // The width of IPv4 allows no more.
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let beyond = match address {
            IpAddr::V4(a) => a.to_bits().checked_shl(source.into()).unwrap_or(0) != 0,
            IpAddr::V6(a) => a.to_bits().checked_shl(source.into()).unwrap_or(0) != 0,
        };
        if beyond {
            return Err(InvalidSubnet::Trailing);
        }
        Ok(Self { family, source, address })
    }

    /// The option that a prefix of `source` bits of `address` makes, for those who explain.
    #[must_use]
    pub fn new(prefix: ipnet::IpNet) -> Self {
        let family = if prefix.addr().is_ipv4() { 1 } else { 2 };
        Self { family, source: prefix.prefix_len(), address: prefix.network() }
    }

    /// The client's prefix: its address padded with zeros; `None` where the client asked not to
    /// be placed by it ("a SOURCE PREFIX-LENGTH of 0 ... MUST NOT [be used]", RFC 7871 §7.1.2).
    #[must_use]
    #[inline]
    pub fn address(&self) -> Option<IpAddr> {
        (self.source > 0).then_some(self.address)
    }

    /// Octets of the option in a reply, code and length included.
    #[inline]
    pub(super) fn reply_len(&self) -> usize {
        8 + usize::from(self.source).div_ceil(8)
    }

    /// "FAMILY, SOURCE PREFIX-LENGTH, and ADDRESS ... MUST match those in the query"
    /// (RFC 7871 §7.2.1).
    ///
    /// `out` has at least [`Self::reply_len`] octets; what follows these in it is then arbitrary.
    #[inline]
    pub(super) fn write(&self, scope: u8, out: &mut [u8]) {
        let len = self.reply_len();
        let [c0, c1] = CODE.to_be_bytes();
        let [l0, l1] = (len as u16 - 4).to_be_bytes();
        let [f0, f1] = self.family.to_be_bytes();
        let head = [c0, c1, l0, l1, f0, f1, self.source, scope];
        match self.address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                let [h0, h1, h2, h3, h4, h5, h6, h7] = head;
                let whole = [h0, h1, h2, h3, h4, h5, h6, h7, a, b, c, d];
                // Whole where there is room, as a copy of unknown length is a call.
                match out.first_chunk_mut() {
                    Some(out) => *out = whole,
                    None => out[..len].copy_from_slice(&whole[..len]),
                }
            }
            IpAddr::V6(address) => {
                out[..8].copy_from_slice(&head);
                out[8..len].copy_from_slice(&address.octets()[..len - 8]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientSubnet, InvalidSubnet};

    #[test]
    fn well_formed_options_are_echoed() {
        for data in [
            &[0, 1, 24, 0, 198, 51, 100][..],
            &[0, 1, 20, 0, 198, 51, 0x60],
            &[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 1],
            &[0, 1, 0, 0],
            &[0, 0, 0, 0],
            &[0, 1, 32, 0, 1, 2, 3, 4],
        ] {
            let subnet = ClientSubnet::parse(data).expect("well-formed");
            let mut out = [0; 64];
            subnet.write(17, &mut out);
            assert_eq!(subnet.reply_len(), data.len() + 4);
            assert_eq!(out[4..7], data[..3]);
            assert_eq!(out[7], 17);
            assert_eq!(&out[8..data.len() + 4], &data[4..]);
            assert_eq!(subnet.address().is_none(), data[2] == 0);
        }
    }

    #[test]
    fn malformed_options_are_refused() {
        use InvalidSubnet::{Family, Length, Scope, Short, Source, Trailing};
        for (data, why) in [
            (&[0, 1, 24][..], Short),
            (&[0, 3, 0, 0], Family),
            (&[0, 0, 8, 0, 1], Family),
            (&[0, 1, 33, 0, 1, 2, 3, 4, 0], Source),
            (&[0, 2, 129, 0], Source),
            (&[0, 1, 24, 1, 1, 2, 3], Scope),
            (&[0, 1, 24, 0, 1, 2], Length),
            (&[0, 1, 24, 0, 1, 2, 3, 4], Length),
            (&[0, 1, 0, 0, 0], Length),
            (&[0, 1, 20, 0, 1, 2, 0x18], Trailing),
        ] {
            assert_eq!(ClientSubnet::parse(data), Err(why), "{data:?}");
        }
    }
}
