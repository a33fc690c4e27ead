//! Socket addresses and packet information as the kernel lays them out, read and written without
//! pointers.
//!
//! Linux fixes these layouts (`netinet/in.h`, ip(7), ipv6(7)); the assertions below compare ours
//! with those of libc.

use std::mem::{align_of, offset_of, size_of};
use std::net::{IpAddr, Ipv6Addr};

use nix::libc::{
    IP_PKTINFO, IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, SOL_UDP, UDP_GRO, c_int, in_pktinfo,
    in6_pktinfo, sockaddr_in, sockaddr_in6,
};

use crate::telemetry::Family;

/// Words of the longest socket address: `sockaddr_in6`.
const ADDRESS: usize = 7;

/// Words of the longest packet information: `in6_pktinfo`.
const INFORMATION: usize = 5;

/// A `sockaddr_in` or `sockaddr_in6`. What the kernel leaves unwritten is zero, so that equal
/// words mean the same socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Peer([u32; ADDRESS]);

/// An `in_pktinfo` or `in6_pktinfo`: the address that was asked, in the form in which it is given
/// to the kernel as the source of the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Asked([u32; INFORMATION]);

const _: () = {
    assert!(size_of::<Peer>() == size_of::<sockaddr_in6>());
    assert!(align_of::<Peer>() == align_of::<sockaddr_in6>());
    assert!(align_of::<Peer>() == align_of::<sockaddr_in>());
    assert!(offset_of!(sockaddr_in, sin_port) == 2 && offset_of!(sockaddr_in6, sin6_port) == 2);
    assert!(offset_of!(sockaddr_in, sin_addr) == 4 && offset_of!(sockaddr_in6, sin6_addr) == 8);
    assert!(size_of::<Asked>() == size_of::<in6_pktinfo>());
    assert!(align_of::<Asked>() == align_of::<in6_pktinfo>());
    assert!(align_of::<Asked>() == align_of::<in_pktinfo>());
    assert!(offset_of!(in_pktinfo, ipi_ifindex) == 0);
    assert!(offset_of!(in6_pktinfo, ipi6_addr) == 0 && offset_of!(in6_pktinfo, ipi6_ifindex) == 16);
};

impl Peer {
    /// Octets that an address of `family` has.
    pub(super) fn len(family: Family) -> usize {
        match family {
            Family::V4 => size_of::<sockaddr_in>(),
            Family::V6 => size_of::<sockaddr_in6>(),
        }
    }

    /// Address and port of a client.
    pub(super) fn client(&self, family: Family) -> (IpAddr, u16) {
        let [_, _, high, low] = self.0[0].to_ne_bytes();
        let address = match family {
            Family::V4 => IpAddr::from(self.0[1].to_ne_bytes()),
            Family::V6 => ipv6(&self.0[2..6]).into(),
        };
        (address, u16::from_be_bytes([high, low]))
    }

    /// A number whose high bits are seldom the same for two peers of one batch.
    #[inline]
    pub(super) fn mix(&self) -> u64 {
        // The port with the IPv4 address, and the halves of an IPv6 address; the product by 2^64 over
        // the golden ratio has the high bits hang on all.
        let [port, v4, a, b, c, d, _] = self.0.map(u64::from);
        let (port, high, low) = (port | v4 << 32, a | b << 32, c | d << 32);
        (port ^ high.rotate_left(23) ^ low.rotate_left(41)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

impl Asked {
    /// Octets that the packet information of `family` has.
    pub(super) fn len(family: Family) -> usize {
        match family {
            Family::V4 => size_of::<in_pktinfo>(),
            Family::V6 => size_of::<in6_pktinfo>(),
        }
    }

    /// What to answer from, by the packet information that came with a query; `None` where that is
    /// cut short.
    pub(super) fn read(data: &[u8], family: Family) -> Option<Self> {
        let data = data.get(..Self::len(family))?;
        let mut words = [0; INFORMATION];
        for (word, octets) in words.iter_mut().zip(data.chunks_exact(size_of::<u32>())) {
            *word = u32::from_ne_bytes(octets.try_into().ok()?);
        }
        Some(Self(words).source(family))
    }

    /// What to answer from, by what came with a query.
    fn source(mut self, family: Family) -> Self {
        match family {
            // The local address (for a broadcast not its destination) stays in `ipi_spec_dst`;
            // interface 0 leaves the way back to the routing table.
            Family::V4 => self.0[0] = 0,
            // fe80::/10 means nothing without its interface; all else goes by the routing table.
            Family::V6 if ipv6(&self.0[..4]).is_unicast_link_local() => {}
            Family::V6 => self.0[4] = 0,
        }
        self
    }
}

/// What the control messages of a datagram say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// Octets of each car but the last, where it is a train; not zero.
    pub(super) car: Option<usize>,
    pub(super) asked: Option<Asked>,
}

impl Told {
    /// Reads messages as the kernel writes them (cmsg(3)): a length of one word that counts the
    /// header too, level and type, then the data, padded to a word.
    pub(super) fn read(mut octets: &[u8], family: Family) -> Self {
        const WORD: usize = size_of::<usize>();
        const HEADER: usize = WORD + 2 * size_of::<c_int>();
        let number = |octets: &[u8]| octets.first_chunk().map(|four| c_int::from_ne_bytes(*four));
        let mut told = Self::default();
        while let Some((fixed, _)) = octets.split_at_checked(HEADER)
            && let Some(word) = fixed.first_chunk()
            && let len = usize::from_ne_bytes(*word)
            && let Some(data) = octets.get(HEADER..len)
            && let (Some(level), Some(kind)) = (number(&fixed[WORD..]), number(&fixed[WORD + 4..]))
        {
            if (level, kind) == (SOL_UDP, UDP_GRO) {
                told.car =
                    number(data).and_then(|car| usize::try_from(car).ok()).filter(|c| *c > 0);
            } else if (level, kind) == information(family) {
                told.asked = Asked::read(data, family);
            }
            octets = octets.get(len.next_multiple_of(WORD)..).unwrap_or(&[]);
        }
        told
    }
}

/// What a control message says, by family: level and type.
pub(super) fn information(family: Family) -> (c_int, c_int) {
    match family {
        Family::V4 => (IPPROTO_IP, IP_PKTINFO),
        Family::V6 => (IPPROTO_IPV6, IPV6_PKTINFO),
    }
}

/// The address in four words.
fn ipv6(words: &[u32]) -> Ipv6Addr {
    let mut octets = [0; 16];
    for (octets, word) in octets.chunks_exact_mut(4).zip(words) {
        octets.copy_from_slice(&word.to_ne_bytes());
    }
    octets.into()
}

#[cfg(test)]
impl Peer {
    /// The same at another port.
    pub(super) fn with_port(mut self, port: u16) -> Self {
        let [family, more, ..] = self.0[0].to_ne_bytes();
        let [high, low] = port.to_be_bytes();
        self.0[0] = u32::from_ne_bytes([family, more, high, low]);
        self
    }
}

#[cfg(test)]
impl Asked {
    /// Any that is the same for the same number.
    pub(super) fn test(number: u32) -> Self {
        Self([number; INFORMATION])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<const N: usize>(octets: &[u8]) -> [u32; N] {
        let mut words = [0; N];
        for (word, octets) in words.iter_mut().zip(octets.chunks(4)) {
            *word = u32::from_ne_bytes(octets.try_into().unwrap());
        }
        words
    }

    #[test]
    fn control_messages_that_make_no_sense_say_nothing() {
        for octets in [&[][..], &[0; 15], &[0; 16], &[0xff; 64], &[16, 0, 0, 0]] {
            assert_eq!(Told::read(octets, Family::V4), Told::default(), "{octets:?}");
        }
    }

    #[test]
    fn clients_are_read() {
        let v4 = Peer(words(&[0, 0, 0x14, 0xE9, 192, 0, 2, 1]));
        assert_eq!(v4.client(Family::V4), (IpAddr::from([192, 0, 2, 1]), 5353));
        let mut octets = [0; 28];
        octets[2..4].copy_from_slice(&[0, 53]);
        let address: Ipv6Addr = "2001:db8::17".parse().unwrap();
        octets[8..24].copy_from_slice(&address.octets());
        let v6 = Peer(words(&octets));
        assert_eq!(v6.client(Family::V6), (address.into(), 53));
    }

    #[test]
    fn replies_leave_by_the_routing_table_but_on_links() {
        let v4 = Asked(words(&[9, 0, 0, 0, 127, 0, 0, 2, 127, 0, 0, 3]));
        assert_eq!(v4.source(Family::V4), Asked(words(&[0, 0, 0, 0, 127, 0, 0, 2, 127, 0, 0, 3])));
        for (address, kept) in [("fe80::1", 9), ("febf::1", 9), ("fec0::1", 0), ("2001:db8::1", 0)]
        {
            let address: Ipv6Addr = address.parse().unwrap();
            let mut asked = Asked(words(&address.octets()));
            asked.0[4] = 9;
            let source = asked.source(Family::V6);
            assert_eq!((source.0[4], &source.0[..4]), (kept, &asked.0[..4]), "{address}");
        }
    }
}
