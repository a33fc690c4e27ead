//! Whether replies may be cut into fragments on their way.
//!
//! Whatever ICMP says of a path is not believed: a forged "fragmentation needed" would split
//! replies, and the second fragment is easily forged (DNS flag day 2020; RFC 9715 appendix C).

use std::net::UdpSocket;

use rustix::io::Errno;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

use crate::telemetry::Family;

/// The longest reply that is nowhere fragmented, octets: it is agreed that these fit every path, as
/// the least IPv6 MTU, 1280, leaves them room beside both headers (DNS flag day 2020).
const WHOLE: u16 = 1232;

/// What may become of a reply that is longer than a link takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragments {
    /// Nothing: none is that long.
    None,
    /// It is cut, by the sender and, over IPv4, on the way.
    Allowed,
}

impl Fragments {
    /// For replies of so many octets at most.
    pub(super) fn of(payload: u16) -> Self {
        if payload <= WHOLE { Self::None } else { Self::Allowed }
    }

    /// Has the kernel send the replies of a socket so.
    pub(super) fn apply(self, socket: &UdpSocket, family: Family) {
        let set: Result<(), Errno> = match (family, self) {
            // RFC 9715 §3.1, R2: "UDP responders should configure their systems to prevent
            // fragmentation of UDP packets when sending replies". With DF set the kernel need not
            // number datagrams either, which is a fiftieth of what a reply costs.
            (Family::V4, Self::None) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE),
            (Family::V4, Self::Allowed) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::OMIT),
            // No router fragments; the sender does by the MTU of its own interface.
            (Family::V6, _) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::OMIT),
        };
        if let Err(error) = set {
            // A safeguard that some sandboxes lack, no reason not to answer.
            tracing::debug!(?family, %error, "cannot have path MTU discovery ignored");
        }
    }
}
