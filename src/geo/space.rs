//! Address space that is not the global Internet, and IPv6 space that embeds IPv4.
//!
//! *Owns*: the list of special-purpose blocks, and [`canonical`], which turns an IPv6 address that
//! embeds an IPv4 address into that address. *Guarantees*: blocks of one kind do not cross.
//! *Does not*: place anything.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A block of addresses that says nothing of where its users are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its addresses.
    pub network: IpNet,
    /// What it is for, and where that is laid down.
    pub purpose: &'static str,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.network, self.purpose)
    }
}

const fn v4(octets: [u8; 4], len: u8, purpose: &'static str) -> Block {
    let [a, b, c, d] = octets;
    Block { network: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len)), purpose }
}

const fn v6(groups: [u16; 8], len: u8, purpose: &'static str) -> Block {
    let [a, b, c, d, e, f, g, h] = groups;
    let address = Ipv6Addr::new(a, b, c, d, e, f, g, h);
    Block { network: IpNet::V6(Ipv6Net::new_assert(address, len)), purpose }
}

/// Blocks whose addresses are used by no one on the Internet, or by many at once (the IANA
/// special-purpose address registries, RFC 6890).
pub(super) const NON_GLOBAL: [Block; 27] = [
    v4([0, 0, 0, 0], 8, "this network, RFC 791"),
    v4([10, 0, 0, 0], 8, "private, RFC 1918"),
    v4([100, 64, 0, 0], 10, "carrier-grade NAT, RFC 6598"),
    v4([127, 0, 0, 0], 8, "loopback, RFC 1122"),
    v4([169, 254, 0, 0], 16, "link-local, RFC 3927"),
    v4([172, 16, 0, 0], 12, "private, RFC 1918"),
    v4([192, 0, 0, 0], 24, "protocol assignments, RFC 6890"),
    v4([192, 0, 2, 0], 24, "documentation, RFC 5737"),
    v4([192, 88, 99, 0], 24, "6to4 relay anycast, RFC 7526"),
    v4([192, 168, 0, 0], 16, "private, RFC 1918"),
    v4([198, 18, 0, 0], 15, "benchmarking, RFC 2544"),
    v4([198, 51, 100, 0], 24, "documentation, RFC 5737"),
    v4([203, 0, 113, 0], 24, "documentation, RFC 5737"),
    v4([224, 0, 0, 0], 4, "multicast, RFC 5771"),
    v4([240, 0, 0, 0], 4, "reserved, RFC 1112"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 8, "reserved, with loopback, RFC 4291"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "local NAT64, RFC 8215"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard-only, RFC 6666"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "protocol assignments, RFC 2928"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation, RFC 3849"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation, RFC 9637"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment routing, RFC 9602"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "private, RFC 4193"),
    v6([0xfe00, 0, 0, 0, 0, 0, 0, 0], 9, "reserved, RFC 4291"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local, RFC 4291"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local, RFC 3879"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast, RFC 4291"),
];

/// IPv6 blocks whose addresses embed an IPv4 address, which tells where the client is. They
/// stand inside wider blocks, so the tables hold them as holes that no prefix may cover.
pub(super) const EMBEDDING: [Block; 5] = [
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "IPv4-mapped, RFC 4291"),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "IPv4-translated, RFC 2765"),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "NAT64, RFC 6052"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo, RFC 4380"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4, RFC 3056"),
];

/// An address as the tables look it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Canonical {
    /// An IPv4 address, by itself or embedded in an IPv6 address.
    V4 {
        /// The address.
        bits: u32,
        /// How many bits stand before it in the address asked for.
        offset: u8,
    },
    /// An IPv6 address that embeds none.
    V6(u128),
}

/// What stands for `address` in the tables.
#[inline]
pub(super) fn canonical(address: IpAddr) -> Canonical {
    let bits = match address {
        IpAddr::V4(address) => return Canonical::V4 { bits: address.into(), offset: 0 },
        IpAddr::V6(address) => u128::from(address),
    };
    let low = bits as u32;
    let [top, second, third, fourth] = [bits >> 96, bits >> 64, bits >> 48, bits >> 32];
    match (top as u32, second as u32, third as u16, fourth as u16) {
        // ::ffff:a.b.c.d, ::ffff:0:a.b.c.d and 64:ff9b::a.b.c.d
        (0, 0, 0, 0xffff) | (0, 0, 0xffff, 0) | (0x0064_ff9b, 0, 0, 0) => {
            Canonical::V4 { bits: low, offset: 96 }
        }
        // RFC 4380 §4: the client's address stands last, each bit inverted.
        (0x2001_0000, ..) => Canonical::V4 { bits: !low, offset: 96 },
        // RFC 3056 §2: 2002:aabb:ccdd::/48 belongs to a.b.c.d.
        _ if bits >> 112 == 0x2002 => Canonical::V4 { bits: (bits >> 80) as u32, offset: 16 },
        _ => Canonical::V6(bits),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Canonical, EMBEDDING, NON_GLOBAL, canonical};

    fn of(text: &str) -> Canonical {
        canonical(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn embedded_addresses_are_taken_out() {
        let google = u32::from_be_bytes([8, 8, 8, 8]);
        for (text, offset) in [
            ("8.8.8.8", 0),
            ("::ffff:8.8.8.8", 96),
            ("::ffff:0:8.8.8.8", 96),
            ("64:ff9b::8.8.8.8", 96),
            ("2002:808:808:1::5", 16),
            ("2001:0:1:2:3:4:f7f7:f7f7", 96),
        ] {
            assert_eq!(of(text), Canonical::V4 { bits: google, offset }, "{text}");
        }
        for text in ["::1", "::8.8.8.8", "64:ff9b:1::8.8.8.8", "2001:1::1", "::1:ffff:808:808"] {
            assert!(matches!(of(text), Canonical::V6(_)), "{text}");
        }
    }

    #[test]
    fn exactly_the_embedding_blocks_embed() {
        for block in EMBEDDING {
            assert!(matches!(canonical(block.network.network()), Canonical::V4 { .. }), "{block}");
            assert!(matches!(canonical(block.network.broadcast()), Canonical::V4 { .. }));
        }
    }

    #[test]
    fn blocks_are_networks_that_nest_or_stand_apart() {
        for (at, block) in NON_GLOBAL.iter().chain(&EMBEDDING).enumerate() {
            assert_eq!(block.network, block.network.trunc());
            let others = NON_GLOBAL.iter().chain(&EMBEDDING).skip(at + 1);
            assert!(others.map(|other| other.network).all(|other| other != block.network));
        }
    }
}
