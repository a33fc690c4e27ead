//! Memory fetched ahead of a batch of answers.
//!
//! Out of a hundred thousand services the one that is asked for is in no cache of the processor. An
//! answer reads some ten places one after another, each of which tells where the next is, and waits
//! for every one of them. Read step by step for many answers, the places of one step hang on nothing
//! but the step before, so that the processor fetches them all at once.

use std::hint::black_box;
use std::net::Ipv4Addr;

use super::Snapshot;
use crate::model::Keyed;
use crate::zone::Position;

impl Snapshot {
    /// The most answers at once: a processor has 10 to 16 fetches on their way, and what they
    /// bring has to stay in its first cache until it is used.
    pub const WARM: usize = 16;

    /// Has fetched what the answers for services with these key hashes read, at most
    /// [`Self::WARM`] of them. Gives where the first service with each hash stands.
    #[inline]
    pub fn warm_services(&self, hashes: &[u64]) -> [Option<Position>; Self::WARM] {
        let services = self.zone.services();
        let near = |hash: &u64| services.near(*hash).map_or(0, Keyed::hash);
        read(hashes.iter().map(near));
        let mut found = [None; Self::WARM];
        for (found, hash) in found.iter_mut().zip(hashes) {
            let (bucket, slot) = services.place(*hash);
            let entry = services.bucket(bucket).get(slot).filter(|entry| entry.hash() == *hash);
            *found = entry.map(|entry| (&*entry.service, Position { bucket, slot }));
        }
        let each = || found.iter().flatten();
        read(each().map(|(service, at)| service.read_hot() ^ self.live(*at).read_hot()));
        read(each().map(|(service, _)| service.read_behind()));
        found.map(|found| found.map(|(_, position)| position))
    }

    /// Has fetched what tells the order of clusters for these clients, at most [`Self::WARM`] of
    /// them. Changes nothing.
    #[inline]
    pub fn warm_clients(&self, clients: &[Ipv4Addr]) {
        self.geography.compiled.whole().warm(clients);
    }
}

/// Reads values of which nothing is wanted but that they were read.
#[inline]
fn read(values: impl Iterator<Item = u64>) {
    black_box(values.fold(0, |all, value| all ^ value));
}
