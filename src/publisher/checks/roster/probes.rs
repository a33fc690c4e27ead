//! The targets that are probed, each once, and what they say together. Pure.

use std::collections::{BTreeSet, HashMap};
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

/// Those who ask the same.
#[derive(Debug, Default)]
struct Askers {
    /// More than one where services ask at different times.
    all: BTreeSet<ProbeId>,
    /// One of them of which something is known.
    knows: Option<ProbeId>,
}

/// All targets.
#[derive(Debug, Default)]
pub(super) struct Probes {
    by_target: HashMap<Arc<Target>, ProbeId>,
    by_asked: HashMap<Asked, Askers>,
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
        let known = self.by_target.get(&target).copied();
        let id = known.unwrap_or_else(|| self.begin(target));
        if let Some(probe) = self.by_id.get_mut(&id) {
            probe.uses += 1;
            // It is found soonest among the newest: shards come by place.
            if !probe.places.iter().rev().any(|known| *known == place) {
                probe.places.push(place);
            }
        }
        id
    }

    /// Begins with what is known by another timing.
    fn begin(&mut self, target: Target) -> ProbeId {
        self.last += 1;
        let id = ProbeId(self.last);
        let askers = self.by_asked.entry(asked(&target)).or_default();
        // One that knows little is better than none.
        let known = askers.knows.or_else(|| askers.all.first().copied());
        let known = known.and_then(|id| self.by_id.get(&id));
        let (gauge, load) = known.map(|p| (p.gauge.clone(), p.load)).unwrap_or_default();
        askers.all.insert(id);
        let (target, places) = (Arc::new(target), Vec::new());
        self.by_target.insert(target.clone(), id);
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
        self.by_target.remove(&probe.target);
        self.by_id.remove(&id);
        let Some(askers) = self.by_asked.get_mut(&asked) else { return };
        askers.all.remove(&id);
        if askers.all.is_empty() {
            self.by_asked.remove(&asked);
        } else if askers.knows == Some(id) {
            // The first of the others, as what is asked alike becomes known of all at about the
            // same time.
            let knows = |id: &&ProbeId| self.by_id.get(id).is_some_and(Probe::is_known);
            askers.knows = askers.all.iter().find(knows).copied();
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
        let was_known = probe.is_known();
        let mut changed = probe.gauge.take(&report.outcome, &probe.target.timing, unix);
        // What fails says nothing of its load.
        if report.outcome == Probed::Passed && probe.load != report.load {
            probe.load = report.load;
            changed = true;
        }
        if !was_known
            && probe.is_known()
            && let Some(askers) = self.by_asked.get_mut(&asked(&probe.target))
        {
            askers.knows.get_or_insert(id);
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
    fn is_known(&self) -> bool {
        *self.gauge.verdict() != Verdict::Unknown
    }

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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::health::check::Timing;
    use crate::model::CheckKind;
    use crate::publisher::checks::testing::passed;

    /// The same question by thresholds of its own.
    fn variant(fall: u32) -> Target {
        let fall = fall.try_into().expect("not zero");
        let address = (Ipv4Addr::LOCALHOST, 80).into();
        let timing = Timing { fall, ..Timing::default() };
        Target { kind: Arc::new(CheckKind::Tcp), address, timing }
    }

    /// What is known goes from one that asks to the next for as long as there is any, whichever
    /// leave meanwhile.
    #[test]
    fn what_is_known_outlives_those_who_found_it_out() {
        let mut probes = Probes::default();
        let [first, second, third] = [1, 2, 3].map(|fall| probes.acquire(variant(fall), (0, 0)));
        assert_eq!(probes.acquire(variant(2), (0, 1)), second, "the same is probed once");
        probes.release(second);
        let known = |probes: &Probes, id| probes.by_id[&id].is_known();
        probes.report(second, &passed(), 1);
        assert_eq!([first, second, third].map(|id| known(&probes, id)), [false, true, false]);
        let heir = probes.acquire(variant(4), (0, 0));
        assert!(known(&probes, heir));
        for gone in [second, first] {
            probes.release(gone);
        }
        let next = probes.acquire(variant(5), (0, 0));
        assert!(known(&probes, next), "of the first heir");
        for gone in [heir, next] {
            probes.release(gone);
        }
        let late = probes.acquire(variant(6), (0, 0));
        assert!(!known(&probes, late), "the third knows nothing either");
        for gone in [third, late] {
            probes.release(gone);
        }
        assert!(probes.by_asked.is_empty() && probes.by_target.is_empty());
    }
}
