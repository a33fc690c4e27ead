//! How many connections there may be, in all and of one client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::TcpSettings;

/// Places for connections, shared by all listeners. Locked when a connection comes and goes,
/// never for a query.
#[derive(Debug)]
pub(super) struct Slots {
    max: usize,
    max_per_client: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// The place of one connection, free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    client: IpAddr,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Connections in all.
    Total,
    /// Connections of this client.
    Client,
}

impl Slots {
    pub(super) fn new(settings: &TcpSettings) -> Arc<Self> {
        Arc::new(Self {
            max: settings.max_connections,
            max_per_client: settings.max_connections_per_client,
            used: Mutex::default(),
        })
    }

    /// A place for a connection from `address`.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Slot, Full> {
        let client = client_of(address);
        let mut used = self.used();
        if used.total >= self.max {
            return Err(Full::Total);
        }
        let own = used.by_client.get(&client).copied().unwrap_or(0);
        if own >= self.max_per_client {
            return Err(Full::Client);
        }
        used.by_client.insert(client, own + 1);
        used.total += 1;
        Ok(Slot { slots: Arc::clone(self), client })
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Nothing can panic between the first and the last change of a count.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut used = self.slots.used();
        used.total -= 1;
        if let Entry::Occupied(mut own) = used.by_client.entry(self.client) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 /64, all of which one host commands.
fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slots(max_connections: usize, max_connections_per_client: usize) -> Arc<Slots> {
        let idle_timeout = Duration::from_secs(1);
        Slots::new(&TcpSettings { max_connections, max_connections_per_client, idle_timeout })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_slot_is_free_again_when_dropped() {
        let slots = slots(2, 1);
        let first = slots.take(ip("192.0.2.1")).unwrap();
        assert_eq!(slots.take(ip("192.0.2.1")).unwrap_err(), Full::Client);
        let second = slots.take(ip("192.0.2.2")).unwrap();
        assert_eq!(slots.take(ip("192.0.2.3")).unwrap_err(), Full::Total);
        drop((first, second));
        assert!(slots.used().by_client.is_empty());
        assert_eq!(slots.used().total, 0);
        slots.take(ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn an_ipv6_client_is_a_64() {
        let slots = slots(9, 1);
        let _held = slots.take(ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(slots.take(ip("2001:db8:0:1:ffff::2")).unwrap_err(), Full::Client);
        assert!(slots.take(ip("2001:db8:0:2::1")).is_ok());
    }
}
