//! The parts of a snapshot that are kept by bucket, being brought up to date.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::{fast, quality};

use super::extent::Extent;
use super::state::{Faults, Placement, Placements, Reports, Timing, Wanted, tables};
use super::{Inputs, Live, Snapshot, Tally};
use crate::geo::Site;
use crate::health::first;
use crate::model::{Buckets, ClusterSet, Keyed, Report};
use crate::zone::{Service, Zone};

/// Hashes by one fixed seed, the same on every replica.
pub(super) trait HashOne: Hash {
    fn hash_one(&self) -> u64 {
        quality::FixedState::with_seed(0).hash_one(self)
    }
}

impl<T: Hash + ?Sized> HashOne for T {}

pub(super) struct Work {
    pub(super) zone: Zone<Live>,
    pub(super) digest: u64,
    /// A hash of what is answered beside services: settings and locations.
    pub(super) structure: u64,
    pub(super) reports: Reports,
    pub(super) tallies: Vec<Tally>,
    pub(super) timing: Arc<Timing>,
    placements: Placements,
    /// By how much these are to change.
    moves: HashMap<Wanted, isize, fast::FixedState>,
}

impl Work {
    pub(super) fn on(previous: &Snapshot) -> Self {
        Self {
            zone: previous.zone.clone(),
            placements: previous.placements.clone(),
            digest: previous.content_digest,
            structure: previous.structure_digest,
            reports: previous.reports.clone(),
            tallies: previous.tallies.clone(),
            timing: previous.timing.clone(),
            moves: HashMap::default(),
        }
    }

    pub(super) fn from_scratch(inputs: &Inputs, sites: &[Site]) -> Self {
        let clusters: Vec<_> =
            sites.iter().map(|site| (site.name.clone(), site.topologies.clone())).collect();
        let (zone, reports) = Zone::new(inputs.federation.zone.clone(), &clusters);
        // Settings are plain data, and their debug form tells all of them; so do the clusters'.
        let structure = (format!("{:?}", zone.settings()), format!("{clusters:?}")).hash_one();
        Self {
            zone,
            placements: Placements::default(),
            digest: 0,
            structure,
            reports: Reports { structure: reports.into(), ..Reports::default() },
            tallies: vec![Tally::default(); sites.len()],
            timing: Arc::default(),
            moves: HashMap::default(),
        }
    }

    /// Brings a bucket up to date; `base` is what it was made from so far.
    pub(super) fn rebuild(
        &mut self,
        (index, extent): (usize, &Extent),
        base: Option<&Inputs>,
        previous: Option<&Snapshot>,
        inputs: &Inputs,
        up: &ClusterSet,
    ) {
        let shards = extent.shards(inputs, index);
        for (id, entry) in base.iter().flat_map(|base| {
            extent.shards(base, index).into_iter().map(|(id, entry)| (id, base.assess(id, entry)))
        }) {
            *self.tallies[id.index()].of(&entry.verdict) -= 1;
        }
        for (id, entry) in &shards {
            *self.tallies[id.index()].of(&inputs.assess(*id, entry).verdict) += 1;
        }
        self.count(index, extent, -1);
        let (touched, mut deadline) = (|hash| extent.touches(hash), None);
        let faults = self.zone.rebuild_bucket(index, touched, shards.into_iter(), |service| {
            let (live, until) = Live::judge(service, previous, inputs, up);
            deadline = first(deadline, until);
            live
        });
        self.put_faults(index, extent, faults);
        let mut all = self.zone.services().bucket(index).iter();
        let exceptional = all.any(|entry| entry.beside().exception().is_some());
        self.time(index, deadline, exceptional);
        self.count(index, extent, 1);
    }

    /// Replaces what the touched services of a bucket cannot have as they ask.
    fn put_faults(&mut self, index: usize, extent: &Extent, found: Vec<(u64, Report)>) {
        let known = self.reports.by_bucket.bucket(index);
        if found.is_empty() && !known.iter().any(|faults| extent.touches(faults.hash)) {
            return;
        }
        let kept = known.iter().filter(|faults| !extent.touches(faults.hash));
        let mut all: Vec<Faults> = kept.cloned().collect();
        for (hash, report) in found {
            match all.iter_mut().find(|faults| faults.hash == hash) {
                Some(faults) => faults.reports.push(report),
                None => all.push(Faults { hash, reports: vec![report] }),
            }
        }
        all.sort_by_key(|faults| faults.hash);
        self.reports.by_bucket.replace(index, all);
    }

    /// Notes when time alone changes something in a bucket, which has no other deadline, and whether
    /// it matters there which clusters are up.
    fn time(&mut self, index: usize, deadline: Option<u64>, exceptional: bool) {
        let Timing { deadlines, exceptional: known } = &*self.timing;
        if deadlines.get(&index).copied() == deadline && known.contains(&index) == exceptional {
            return;
        }
        let timing = Arc::make_mut(&mut self.timing);
        match deadline {
            Some(deadline) => drop(timing.deadlines.insert(index, deadline)),
            None => drop(timing.deadlines.remove(&index)),
        }
        match exceptional {
            true => timing.exceptional.insert(index),
            false => timing.exceptional.remove(&index),
        };
    }

    /// Counts the touched services of a bucket in, or out where `step` is -1.
    fn count(&mut self, index: usize, extent: &Extent, step: isize) {
        let most = self.zone.settings().max_addresses;
        let services = self.zone.services().bucket(index).iter();
        for entry in services.filter(|entry| extent.touches(entry.hash())) {
            for wanted in tables(entry.service(), entry.beside(), most) {
                *self.moves.entry(wanted).or_default() += step;
            }
            let part = part(entry.service(), entry.beside());
            // A sum does not depend on the order in which services came.
            self.digest = match step < 0 {
                true => self.digest.wrapping_sub(part),
                false => self.digest.wrapping_add(part),
            };
        }
    }

    /// How many services want which table, all buckets being up to date.
    pub(super) fn settle_placements(&mut self) -> Placements {
        let moves = std::mem::take(&mut self.moves).into_iter().filter(|(_, step)| *step != 0);
        let moves = moves.map(|(wanted, step)| (wanted.hash_one(), wanted, step));
        let mut placements = std::mem::take(&mut self.placements);
        if placements.is_empty() {
            let placement = |(hash, wanted, step): (u64, Wanted, isize)| Placement {
                hash,
                wanted,
                services: step.unsigned_abs(),
            };
            return Buckets::from_items(moves.map(placement));
        }
        for (hash, wanted, step) in moves {
            let same = |known: &Placement| known.wanted == wanted;
            let before = placements.find(hash).find(|known| same(known));
            let services = before.map_or(0, |known| known.services).saturating_add_signed(step);
            if services == 0 {
                placements.remove(hash, same);
            } else {
                let wanted = wanted.clone();
                placements.upsert(Placement { hash, wanted, services }, same);
            }
        }
        placements
    }
}

/// A service's part of the digest.
fn part(service: &Service, live: &Live) -> u64 {
    (service.digest(), live.served(), live.exception(), live.is_unsettled()).hash_one()
}
