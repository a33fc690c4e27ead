//! The targets that are probed, each once, and what they say together. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Doubt, Local, LocalSeen, Place};
use crate::health::Lacking;
use crate::health::check::{Probed, Report, Target};
use crate::health::gauge::{Gauge, Verdict};
use crate::health::votes::Sight;
use crate::model::CheckKind;

/// A target that is probed; never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::publisher::checks) struct ProbeId(u64);

impl ProbeId {
    #[cfg(test)]
    pub(in crate::publisher::checks) fn for_test(number: u64) -> Self {
        Self(number)
    }
}

/// What is asked and where, whenever that is: what is known of it outlives another timing.
type Asked = (Arc<CheckKind>, SocketAddr);

/// All targets.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// More than one where services ask the same at different times.
    by_asked: HashMap<Asked, Vec<ProbeId>>,
    pub(super) by_id: HashMap<ProbeId, Probe>,
    last: u64,
    /// Those that nobody has scheduled yet.
    fresh: Vec<ProbeId>,
}

#[derive(Debug)]
pub(super) struct Probe {
    pub(super) target: Arc<Target>,
    gauge: Gauge,
    load: Option<f64>,
    /// How many shards it speaks for.
    uses: usize,
    /// Where these are, or were.
    places: Vec<Place>,
}

/// What the targets of a shard say of it.
pub(super) struct Said {
    pub(super) local: Local,
    /// Whether one of them passes, and has done so often enough for one that had failed.
    pub(super) risen: bool,
}

impl Probes {
    /// Has a target probed for a shard in `place`.
    pub(super) fn acquire(&mut self, target: Target, place: Place) -> ProbeId {
        let id = self.find(&target).unwrap_or_else(|| self.begin(target));
        if let Some(probe) = self.by_id.get_mut(&id) {
            probe.uses += 1;
            if !probe.places.contains(&place) {
                probe.places.push(place);
            }
        }
        id
    }

    fn find(&self, target: &Target) -> Option<ProbeId> {
        let ids = self.by_asked.get(&asked(target))?;
        let same = |id: &&ProbeId| self.by_id.get(id).is_some_and(|p| *p.target == *target);
        ids.iter().find(same).copied()
    }

    /// Begins with what is known by another timing.
    fn begin(&mut self, target: Target) -> ProbeId {
        self.last += 1;
        let id = ProbeId(self.last);
        let ids = self.by_asked.entry(asked(&target)).or_default();
        let known = ids.iter().filter_map(|id| self.by_id.get(id));
        let known = known.max_by_key(|probe| *probe.gauge.verdict() != Verdict::Unknown);
        let (gauge, load) = known.map(|p| (p.gauge.clone(), p.load)).unwrap_or_default();
        ids.push(id);
        let (target, places) = (Arc::new(target), Vec::new());
        self.by_id.insert(id, Probe { target, gauge, load, uses: 0, places });
        self.fresh.push(id);
        id
    }

    /// One shard less has it probed.
    pub(super) fn release(&mut self, id: ProbeId) {
        let Some(probe) = self.by_id.get_mut(&id) else { return };
        probe.uses -= 1;
        if probe.uses > 0 {
            return;
        }
        let asked = asked(&probe.target);
        self.by_id.remove(&id);
        if let Some(ids) = self.by_asked.get_mut(&asked) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.by_asked.remove(&asked);
            }
        }
    }

    /// Those that have come since this was last asked.
    pub(super) fn fresh(&mut self) -> Vec<ProbeId> {
        let fresh = std::mem::take(&mut self.fresh);
        fresh.into_iter().filter(|id| self.by_id.contains_key(id)).collect()
    }

    /// What is probed; `None` where no shard has it any more.
    pub(super) fn target(&self, id: ProbeId) -> Option<&Arc<Target>> {
        self.by_id.get(&id).map(|probe| &probe.target)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes in how a check ended at `unix`, Unix time in seconds; returns the places of shards of
    /// which it may say something else now.
    pub(super) fn report(&mut self, id: ProbeId, report: &Report, unix: u64) -> &[Place] {
        let Some(probe) = self.by_id.get_mut(&id) else { return &[] };
        let mut changed = probe.gauge.take(&report.outcome, &probe.target.timing, unix);
        // What fails says nothing of its load.
        if report.outcome == Probed::Passed && probe.load != report.load {
            probe.load = report.load;
            changed = true;
        }
        if changed { &probe.places } else { &[] }
    }

    /// What these say of their shard: it is well while any of them is. Nobody waits for one that
    /// cannot be asked from here, while another can.
    pub(super) fn say(&self, ids: &[ProbeId]) -> Said {
        let mut local = Local::default();
        let (mut well, mut steady, mut wavers, mut risen) = (false, false, false, false);
        let (mut unknown, mut unable) = (false, false);
        let mut failing: Vec<Sight> = Vec::new();
        for probe in ids.iter().filter_map(|id| self.by_id.get(id)) {
            let wavering = probe.gauge.is_wavering();
            wavers |= wavering;
            local.load = match (local.load, probe.load) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
            local.doubt = earlier(local.doubt, probe.doubt());
            match probe.gauge.verdict() {
                Verdict::Unknown if probe.gauge.is_unable() => unable = true,
                Verdict::Unknown => unknown = true,
                Verdict::Passing => {
                    (well, steady) = (true, steady | !wavering);
                    risen |= probe.gauge.has_risen();
                }
                Verdict::Failing(failed) => {
                    failing.push(Sight { since: failed.since, why: failed.why.clone() });
                }
            }
        }
        // The last one made it the whole.
        let last = failing.iter().rev().max_by_key(|sight| sight.since);
        (local.seen, local.wavering) = match last {
            _ if well => (LocalSeen::Well, !steady),
            Some(last) if !unknown => (LocalSeen::Failing(last.clone()), wavers),
            None if unable && !unknown => (LocalSeen::Unable, wavers),
            _ => (LocalSeen::Nothing, wavers),
        };
        let whole = matches!(local.seen, LocalSeen::Failing(_));
        let of_failing = failing.into_iter();
        let of_failing = of_failing.map(|sight| Doubt { sight, lacking: Lacking::OtherTargets });
        local.doubt = of_failing.fold(local.doubt, |a, b| earlier(a, Some(b)));
        local.doubt = local.doubt.filter(|_| !whole);
        Said { local, risen }
    }
}

impl Probe {
    /// That it fails, but not often enough to count.
    fn doubt(&self) -> Option<Doubt> {
        let (since, why) = self.gauge.doubt()?;
        let lacking = Lacking::Failures { needed: self.target.timing.fall.get() };
        Some(Doubt { sight: Sight { since, why: why.clone() }, lacking })
    }
}

fn asked(target: &Target) -> Asked {
    (target.kind.clone(), target.address)
}

/// The one that began first.
fn earlier(one: Option<Doubt>, other: Option<Doubt>) -> Option<Doubt> {
    one.into_iter().chain(other).min_by_key(|doubt| doubt.sight.since)
}
