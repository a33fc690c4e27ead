//! What names of services end in, by level.
//!
//! Nearly every query is for `S.N` in front of one of a few dozen ends, so these are found whole, by
//! one comparison as a rule, where walking the labels takes one for every label.

use super::levels::{Level, Levels};

/// All ends of names of levels, D included; frozen open addressing.
#[derive(Debug)]
pub(super) struct Tails {
    /// That of the global level, which is asked for most.
    global: Box<[u8]>,
    /// Where in the end of a regional or zonal name its first location stands, behind `F.svc`.
    location: usize,
    /// Those of all, a power of two of them, at least half empty.
    slots: Box<[Option<Tail>]>,
    /// The ends one behind the other.
    octets: Box<[u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Tail {
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
            location: levels.tail(Level::Global).len(),
            slots: vec![None; (2 * ends.len()).next_power_of_two()].into(),
            octets: Box::default(),
        };
        let mut octets = Vec::new();
        for (mut end, level) in ends {
            end.extend_from_slice(apex);
            // No name ends in what exceeds a name by itself.
            let Ok(len) = u16::try_from(end.len()) else { continue };
            let clusters = levels.clusters(level).map_or(u64::MAX, |set| set.word(0));
            let start = octets.len() as u32;
            octets.extend_from_slice(&end);
            let mut at = tails.home(&end);
            while tails.slots[at].is_some() {
                at = tails.next(at);
            }
            tails.slots[at] = Some(Tail { clusters, start, len });
        }
        tails.octets = octets.into();
        tails
    }

    /// Whether names of the global level end in `end`.
    #[inline]
    pub(super) fn is_global(&self, end: &[u8]) -> bool {
        *end == *self.global
    }

    /// Those of the first 64 clusters for which the level speaks whose names end in `end`.
    #[inline]
    pub(super) fn clusters(&self, end: &[u8]) -> Option<u64> {
        if self.is_global(end) {
            return Some(u64::MAX);
        }
        let mut at = self.home(end);
        // Half of the slots are empty, so this ends.
        while let Some(tail) = &self.slots[at] {
            let start = tail.start as usize;
            if self.octets[start..start + usize::from(tail.len)] == *end {
                return Some(tail.clusters);
            }
            at = self.next(at);
        }
        None
    }

    /// Where an end is looked for first. The last octets of the first location and the length of
    /// all nearly always tell ends apart; they are spread by Fibonacci hashing, a product by 2^64
    /// over the golden ratio.
    #[inline]
    fn home(&self, end: &[u8]) -> usize {
        let last = || {
            let behind = self.location + 1 + usize::from(*end.get(self.location)?);
            end.get(..behind)?.last_chunk().copied().map(u64::from_le_bytes)
        };
        let told = last().unwrap_or(0) ^ end.len() as u64;
        (told.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (self.slots.len() - 1)
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
}
