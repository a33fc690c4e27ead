//! Which addresses are never published.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::cluster::AddressScope;

/// Judges `address`; inside `allow` everything may be published.
pub(super) fn publishable(
    address: IpAddr,
    scope: AddressScope,
    allow: &[IpNet],
) -> Result<IpAddr, &'static str> {
    // ::ffff:a.b.c.d is no address that a client could reach: RFC 4291 §2.5.5.2 has it for hosts'
    // internal use. What is meant is the IPv4 address.
    let address = address.to_canonical();
    let private = || match scope {
        AddressScope::Any => None,
        AddressScope::Public => private(address),
    };
    match fault(address).or_else(private) {
        Some(fault) if !allow.iter().any(|net| net.contains(&address)) => Err(fault),
        _ => Ok(address),
    }
}

/// Why nobody beyond one host or link can reach `address`.
fn fault(address: IpAddr) -> Option<&'static str> {
    /// "This host on this network", 0.0.0.0/8 (RFC 1122 §3.2.1.3).
    fn is_this_network(v4: Ipv4Addr) -> bool {
        v4.octets()[0] == 0
    }
    let (unspecified, link_local) = match address {
        IpAddr::V4(v4) => (is_this_network(v4), v4.is_link_local()),
        IpAddr::V6(v6) => (v6.is_unspecified(), v6.is_unicast_link_local()),
    };
    if unspecified {
        Some("is an unspecified address; only federation.allowNets lets it be published")
    } else if address.is_loopback() {
        Some("is a loopback address; only federation.allowNets lets it be published")
    } else if link_local {
        Some("is a link-local address; only federation.allowNets lets it be published")
    } else if address.is_multicast() {
        Some("is a multicast address; only federation.allowNets lets it be published")
    } else if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("is the broadcast address; only federation.allowNets lets it be published")
    } else {
        None
    }
}

/// Why nobody beyond one site can reach `address`: RFC 1918, RFC 6598 §7 (behind the NAT of a
/// carrier), RFC 4193 (unique local).
fn private(address: IpAddr) -> Option<&'static str> {
    fn is_shared(v4: Ipv4Addr) -> bool {
        let [first, second, ..] = v4.octets();
        first == 100 && (64..128).contains(&second)
    }
    match address {
        IpAddr::V4(v4) if v4.is_private() => Some(
            "is a private address (RFC 1918), and 'addresses: public' is asked for; only \
             federation.allowNets lets it be published",
        ),
        IpAddr::V4(v4) if is_shared(v4) => Some(
            "is an address behind a carrier's NAT (RFC 6598), and 'addresses: public' is asked \
             for; only federation.allowNets lets it be published",
        ),
        IpAddr::V6(v6) if v6.is_unique_local() => Some(
            "is a unique local address (RFC 4193), and 'addresses: public' is asked for; only \
             federation.allowNets lets it be published",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publishable(address: IpAddr, allow: &[IpNet]) -> Result<IpAddr, &'static str> {
        super::publishable(address, AddressScope::Any, allow)
    }

    #[test]
    fn private_kinds_are_refused_where_public_ones_are_asked_for() {
        let public = |text: &str, allow: &[IpNet]| {
            super::publishable(text.parse().unwrap(), AddressScope::Public, allow)
        };
        let private =
            ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1"];
        for text in private.into_iter().chain(["100.127.255.255", "::ffff:10.0.0.1"]) {
            assert!(public(text, &[]).is_err(), "{text} must be refused");
            let all = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            assert!(public(text, &all).is_ok(), "{text} is allowed by name");
        }
        for text in ["100.128.0.1", "100.63.255.255", "172.32.0.1", "203.0.113.1", "2001:db8::1"] {
            assert!(public(text, &[]).is_ok(), "{text} is public");
        }
    }

    #[test]
    fn unreachable_kinds_are_refused() {
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:127.0.0.1",
            "::ffff:169.254.0.1",
        ];
        for text in refused {
            let address = text.parse().unwrap();
            assert!(publishable(address, &[]).is_err(), "{text} must be refused");
            let all = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            assert_eq!(publishable(address, &all), Ok(address.to_canonical()), "{text}");
        }
        let other = ["127.0.1.0/24".parse().unwrap()];
        assert!(publishable("127.0.0.1".parse().unwrap(), &other).is_err());
    }

    #[test]
    fn the_rest_is_published() {
        for text in ["192.0.2.1", "10.0.0.1", "100.64.0.1", "2001:db8::1", "fd00::1"] {
            let address = text.parse().unwrap();
            assert_eq!(publishable(address, &[]), Ok(address));
        }
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(publishable(mapped, &[]), Ok("192.0.2.1".parse().unwrap()));
    }
}
