//! What differs between IPv4 and IPv6 sockets: the shape of addresses and of packet information.

use std::net::IpAddr;

use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, SockaddrIn, SockaddrIn6, SockaddrLike,
};

/// An IP version.
pub(super) trait Ip {
    /// A socket address.
    type Address: SockaddrLike + Copy;
    /// The address that was asked, in the form in which it is given to the kernel as the source
    /// of the reply.
    type Asked: Copy + PartialEq;

    /// Room for the control message of one datagram, and for no other: the kernel then leaves
    /// the length as it was, and headers can be used again as they are.
    fn control_space() -> Vec<u8>;
    /// Address and port of a client.
    fn client(address: Self::Address) -> (IpAddr, u16);
    /// The address that was asked, from the control message of a query.
    fn asked(message: ControlMessageOwned) -> Option<Self::Asked>;
    /// The control message that makes `asked` the source of a reply.
    fn control(asked: &Self::Asked) -> ControlMessage<'_>;
}

/// IPv4.
pub(super) enum V4 {}

/// IPv6.
pub(super) enum V6 {}

impl Ip for V4 {
    type Address = SockaddrIn;
    type Asked = in_pktinfo;

    fn control_space() -> Vec<u8> {
        nix::cmsg_space!(in_pktinfo)
    }

    fn client(address: SockaddrIn) -> (IpAddr, u16) {
        (address.ip().into(), address.port())
    }

    fn asked(message: ControlMessageOwned) -> Option<in_pktinfo> {
        match message {
            // The local address (for a broadcast not its destination) stays in `ipi_spec_dst`;
            // interface 0 leaves the way back to the routing table.
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(in_pktinfo { ipi_ifindex: 0, ..info })
            }
            _ => None,
        }
    }

    fn control(asked: &in_pktinfo) -> ControlMessage<'_> {
        ControlMessage::Ipv4PacketInfo(asked)
    }
}

impl Ip for V6 {
    type Address = SockaddrIn6;
    type Asked = in6_pktinfo;

    fn control_space() -> Vec<u8> {
        nix::cmsg_space!(in6_pktinfo)
    }

    fn client(address: SockaddrIn6) -> (IpAddr, u16) {
        (address.ip().into(), address.port())
    }

    fn asked(message: ControlMessageOwned) -> Option<in6_pktinfo> {
        let ControlMessageOwned::Ipv6PacketInfo(info) = message else { return None };
        // fe80::/10 means nothing without its interface; all else goes by the routing table.
        let link_local =
            info.ipi6_addr.s6_addr[0] == 0xfe && info.ipi6_addr.s6_addr[1] & 0xc0 == 0x80;
        let interface = if link_local { info.ipi6_ifindex } else { 0 };
        Some(in6_pktinfo { ipi6_ifindex: interface, ..info })
    }

    fn control(asked: &in6_pktinfo) -> ControlMessage<'_> {
        ControlMessage::Ipv6PacketInfo(asked)
    }
}
