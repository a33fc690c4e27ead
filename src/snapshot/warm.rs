//! Memory fetched ahead of answers.
//!
//! Out of a hundred thousand services the one that is asked for is in no cache of the processor. An
//! answer reads some six places one after another, each of which tells where the next is, and waits
//! for every one of them. So they are asked for in four steps, each of which needs what the step
//! before asked for, and between which a worker answers other queries.

use std::net::IpAddr;

use super::{Live, Snapshot};
use crate::zone::ServiceEntry;

impl Snapshot {
    /// The first step: where the services are told whose keys have hashes like this one, and the index
    /// by which the order of clusters is found for this client, where it is of IPv4.
    #[inline]
    pub fn fetch_directory(&self, hash: u64, client: Option<IpAddr>) {
        self.zone.services().fetch_bucket(hash);
        if let Some(IpAddr::V4(client)) = client {
            self.geography.compiled.whole().fetch_index(client);
        }
    }

    /// The second: where the service is likely to stand, its health, and the client's order.
    #[inline]
    pub fn fetch_near(&self, hash: u64, client: Option<IpAddr>) {
        self.zone.fetch_near(hash);
        if let Some(IpAddr::V4(client)) = client {
            self.geography.compiled.whole().fetch_ranges(client);
        }
    }

    /// The third: the first service with this hash of its key, and its health. Gives it, so that the
    /// fourth can be what it leads to.
    #[inline]
    pub fn fetch_found(&self, hash: u64) -> Option<&ServiceEntry<Live>> {
        let entry = self.zone.first_with(hash)?;
        entry.fetch();
        Some(entry)
    }
}
