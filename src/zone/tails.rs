//! What names of services end in, by level.
//!
//! Nearly every query is for `S.N` in front of one of a few dozen ends, so these are found whole, by
//! one hash and one comparison, where walking the labels takes one of each for every label.

use super::levels::{Level, Levels};
use crate::model::key_hash;

/// All ends of names of levels, D included; frozen open addressing.
#[derive(Debug)]
pub(super) struct Tails {
    /// That of the global level, which is asked for most.
    global: Box<[u8]>,
    /// Those of all, a power of two of them, at least half empty.
    slots: Box<[Option<Tail>]>,
    /// The ends one behind the other.
    octets: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Tail {
    hash: u64,
    /// Those of the first 64 clusters for which the level speaks.
    clusters: u64,
    start: u32,
    len: u16,
}

impl Tails {
    /// The ends of all levels' names, and of their synonyms, over the apex D in wire form.
    pub(super) fn compile(levels: &Levels, apex: &[u8]) -> Self {
        let mut ends: Vec<(Vec<u8>, Level)> = Vec::new();
        for level in levels.all().chain([Level::Global]) {
            ends.push((levels.tail(level).to_vec(), level));
            ends.extend(levels.synonym(level).map(|end| (end, level)));
        }
        let mut tails = Self {
            global: [levels.tail(Level::Global), apex].concat().into(),
            slots: vec![None; (2 * ends.len()).next_power_of_two()].into(),
            octets: Box::default(),
        };
        let mut octets = Vec::new();
        for (mut end, level) in ends {
            end.extend_from_slice(apex);
            // No name ends in what exceeds a name by itself.
            let Ok(len) = u16::try_from(end.len()) else { continue };
            let hash = key_hash(&end);
            let clusters = levels.clusters(level).map_or(u64::MAX, |set| set.word(0));
            let start = octets.len() as u32;
            octets.extend_from_slice(&end);
            let mut at = tails.home(hash);
            while tails.slots[at].is_some() {
                at = tails.next(at);
            }
            tails.slots[at] = Some(Tail { hash, clusters, start, len });
        }
        tails.octets = octets.into();
        tails
    }

    /// Those of the first 64 clusters for which the level speaks whose names end in `end`.
    #[inline]
    pub(super) fn clusters(&self, end: &[u8]) -> Option<u64> {
        if *end == *self.global {
            return Some(u64::MAX);
        }
        let hash = key_hash(end);
        let mut at = self.home(hash);
        // Half of the slots are empty, so this ends.
        while let Some(tail) = &self.slots[at] {
            let start = tail.start as usize;
            if tail.hash == hash && self.octets[start..start + usize::from(tail.len)] == *end {
                return Some(tail.clusters);
            }
            at = self.next(at);
        }
        None
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
}
