//! Short lists of a shard, laid out for memory: there is one of each for every shard.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use super::Port;

/// Addresses. One, as nearly every shard has, needs no allocation.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AddressList(Held);

/// Invariant: `Many` holds two or more, so that equal lists are held alike.
#[derive(Clone, Default, PartialEq, Eq)]
enum Held {
    #[default]
    None,
    One(IpAddr),
    Many(Arc<[IpAddr]>),
}

impl Deref for AddressList {
    type Target = [IpAddr];

    fn deref(&self) -> &[IpAddr] {
        match &self.0 {
            Held::None => &[],
            Held::One(address) => std::slice::from_ref(address),
            Held::Many(addresses) => addresses,
        }
    }
}

impl From<&[IpAddr]> for AddressList {
    fn from(addresses: &[IpAddr]) -> Self {
        Self(match addresses {
            [] => Held::None,
            [address] => Held::One(*address),
            _ => Held::Many(addresses.into()),
        })
    }
}

impl FromIterator<IpAddr> for AddressList {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let addresses: smallvec::SmallVec<[IpAddr; 4]> = addresses.into_iter().collect();
        (&*addresses).into()
    }
}

impl fmt::Debug for AddressList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The ports of a shard. Copies share what they hold, as most services of a cluster have the same
/// few.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports(Arc<PortsHeld>);

#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct PortsHeld {
    named: Arc<[Port]>,
    tcp: Option<u16>,
}

impl Ports {
    /// Named ports, sorted, without duplicates, and the first TCP port.
    #[must_use]
    pub fn new(named: Arc<[Port]>, tcp: Option<u16>) -> Self {
        Self(Arc::new(PortsHeld { named, tcp }))
    }

    /// Named ports, sorted, without duplicates.
    #[must_use]
    pub fn named(&self) -> &Arc<[Port]> {
        &self.0.named
    }

    /// The first TCP port, named or not: where a check connects to.
    #[must_use]
    pub fn tcp(&self) -> Option<u16> {
        self.0.tcp
    }

    /// How many copies there are of it.
    #[must_use]
    pub fn copies(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{AddressList, Held};

    #[test]
    fn lists_are_as_they_were_made() {
        let all = ["192.0.2.1", "2001:db8::1", "2001:db8::2"].map(|a| a.parse::<IpAddr>().unwrap());
        for count in 0..=all.len() {
            let list: AddressList = all[..count].into();
            assert_eq!(*list, all[..count]);
            assert_eq!(list, all[..count].iter().copied().collect());
            assert_eq!(matches!(list.0, Held::Many(_)), count > 1);
        }
    }

    /// Four hundred thousand shards have one each.
    #[test]
    fn a_list_is_hardly_longer_than_an_address() {
        assert_eq!((size_of::<IpAddr>(), size_of::<AddressList>()), (17, 24));
    }
}
