//! What changes faster than a service's records: the health of its shards.

use super::{Inputs, Snapshot};
use crate::health::{Exclusion, Verdict, first};
use crate::model::{ClusterId, ClusterSet, Clusters};
use crate::zone::Service;

/// What changes faster than a service's records, kept beside it.
///
/// As small as it can be, for it is read with the service: see [`Service`].
#[derive(Clone, Debug)]
pub struct Live {
    /// Of the first 64 clusters, those whose shard of the service is healthy by itself; whether the
    /// cluster as a whole is up is kept once for all services in [`Snapshot::up`].
    low: u64,
    /// All else, where there is something.
    rest: Option<Box<Rest>>,
}

const _: () = assert!(size_of::<Live>() == 16);

/// What few services have, but in a federation of more than 64 clusters.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rest {
    /// The clusters above the first 64, as [`ClusterSet::above`] gives them.
    high: Box<[u64]>,
    trouble: Option<Box<Trouble>>,
}

/// What is known beside the shards that are healthy, of services that are not served as they might
/// be in every cluster.
#[derive(Clone, Debug, Default, PartialEq)]
struct Trouble {
    /// What the clusters served and those up do not tell.
    exception: Option<Exception>,
    /// Whether some shard of it may change soon, so that its TTL is lowered.
    unsettled: bool,
    /// Clusters whose shard is not served like any other, and since when, Unix time in seconds.
    unserved: Box<[(ClusterId, u64)]>,
}

/// Which shards of a service are served where overrides or loads have a say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exception {
    /// Clusters whose shard is served now: the healthy ones in clusters that are up, and those that
    /// are forced up; where there is none, those that are overloaded or held back.
    pub eligible: ClusterSet,
    /// The service's clusters but for those whose shard is forced out, which even `whenNoneHealthy`
    /// does not bring back.
    pub unbarred: ClusterSet,
}

/// The clusters of a service by what became of its shards.
#[derive(Default)]
struct Sorted {
    /// Those forced up among them.
    served: ClusterSet,
    forced: ClusterSet,
    spare: ClusterSet,
    barred: ClusterSet,
}

impl Sorted {
    fn take(&mut self, id: ClusterId, verdict: &Verdict) {
        match verdict {
            Verdict::Forced(_) => {
                self.served.insert(id);
                self.forced.insert(id);
            }
            Verdict::Served => self.served.insert(id),
            Verdict::Spare(_) => self.spare.insert(id),
            Verdict::Out(Exclusion::Forced(_)) => self.barred.insert(id),
            Verdict::Out(_) => {}
        }
    }

    fn exception(&self, service: &Service, up: &ClusterSet) -> Option<Exception> {
        if [&self.forced, &self.spare, &self.barred].into_iter().all(ClusterSet::is_empty) {
            return None;
        }
        let mut eligible = self.served.intersection(up);
        eligible.extend_from(&self.forced);
        if eligible.is_empty() {
            eligible = self.spare.intersection(up);
        }
        let mut unbarred = service.clusters.clone();
        self.barred.iter().for_each(|id| unbarred.remove(id));
        Some(Exception { eligible, unbarred })
    }
}

impl Live {
    fn new(served: &ClusterSet, trouble: Trouble) -> Self {
        let trouble = (trouble != Trouble::default()).then(|| Box::new(trouble));
        let rest = Rest { high: served.above().into(), trouble };
        let rest = (rest != Rest::default()).then(|| Box::new(rest));
        Self { low: served.word(0), rest }
    }

    /// Two sets whose intersection is the clusters in which the service is served, given those that
    /// are up.
    #[must_use]
    #[inline]
    pub fn eligible<'s>(&'s self, up: &'s ClusterSet) -> [Clusters<'s>; 2] {
        match self.exception() {
            None => [self.served(), up.view()],
            Some(exception) => [exception.eligible.view(); 2],
        }
    }

    /// Clusters whose shard of the service is healthy by itself.
    #[must_use]
    #[inline]
    pub fn served(&self) -> Clusters<'_> {
        Clusters::new(self.low, self.rest.as_ref().map_or(&[], |rest| &rest.high))
    }

    #[inline]
    fn trouble(&self) -> Option<&Trouble> {
        self.rest.as_ref()?.trouble.as_deref()
    }

    /// What is not told by these and the clusters that are up, for the few services of which there is
    /// something.
    #[must_use]
    #[inline]
    pub fn exception(&self) -> Option<&Exception> {
        self.trouble()?.exception.as_ref()
    }

    /// Whether some shard of it may change soon, so that its TTL is lowered.
    #[must_use]
    #[inline]
    pub fn is_unsettled(&self) -> bool {
        self.trouble().is_some_and(|trouble| trouble.unsettled)
    }

    /// The clusters in which the service may be served, but for those that are not up.
    pub(super) fn candidates(&self) -> Clusters<'_> {
        self.exception().map_or(self.served(), |exception| exception.eligible.view())
    }

    /// Since when the shard in a cluster has not been served like any other, Unix time in seconds;
    /// `None` where it is, or where there is none.
    #[must_use]
    pub fn unserved_since(&self, cluster: ClusterId) -> Option<u64> {
        let unserved = &self.trouble()?.unserved;
        unserved.iter().find(|(id, _)| *id == cluster).map(|(_, since)| *since)
    }

    /// What is known of the health of one service's shards, where the clusters of `up` are, and when
    /// time alone changes it. A shard that was not healthy before is so since then.
    pub(super) fn judge(
        service: &Service,
        previous: Option<&Snapshot>,
        inputs: &Inputs,
        up: &ClusterSet,
    ) -> (Self, Option<u64>) {
        let since = since(service, previous, inputs);
        let mut sorted = Sorted::default();
        let (mut unsettled, mut until, mut unserved) = (false, None, Vec::new());
        for id in service.clusters.iter() {
            let Some(entry) = inputs.shard(id, &service.key) else { continue };
            let assessment = inputs.assess(id, entry);
            unsettled |= assessment.unsettled;
            until = first(until, assessment.until);
            sorted.take(id, &assessment.verdict);
            if assessment.verdict.exclusion().is_some() {
                unserved.push((id, since(id).unwrap_or(inputs.now)));
            }
        }
        let exception = sorted.exception(service, up);
        let trouble = Trouble { exception, unsettled, unserved: unserved.into() };
        (Self::new(&sorted.served, trouble), until)
    }
}

/// Since when a shard has not been served, as far as the snapshot before knows.
fn since<'a>(
    service: &Service,
    previous: Option<&'a Snapshot>,
    inputs: &'a Inputs,
) -> impl Fn(ClusterId) -> Option<u64> + 'a {
    let before = previous.and_then(|p| Some((p, p.zone.service(service.key.wire())?.1)));
    move |id| {
        let (previous, position) = before?;
        // Ids are places in the registry, which a new configuration may have moved.
        let name = |inputs: &Inputs| Some(inputs.federation.members.get(id.index())?.name.clone());
        let known = name(&previous.inputs) == name(inputs);
        previous.live(position).unserved_since(id).filter(|_| known)
    }
}

/// How many shards of one cluster are in each state by themselves, the cluster as a whole aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Healthy.
    pub served: u64,
    /// Forced up by an override, and served whatever the cluster's state.
    pub forced_up: u64,
    /// Without an address.
    pub no_address: u64,
    /// With too few ready endpoints.
    pub not_ready: u64,
    /// Drained by annotation.
    pub drained: u64,
    /// Voted down by active checks.
    pub checks_fail: u64,
    /// Over the limit of load, and served only where no other is.
    pub overloaded: u64,
    /// Forced down or drained by an override.
    pub forced_out: u64,
}

impl Tally {
    /// The number that a verdict counts towards.
    pub(super) fn of(&mut self, verdict: &Verdict) -> &mut u64 {
        let why = match verdict {
            Verdict::Forced(_) => return &mut self.forced_up,
            Verdict::Served => return &mut self.served,
            Verdict::Spare(why) | Verdict::Out(why) => why,
        };
        match why {
            Exclusion::NoAddress => &mut self.no_address,
            Exclusion::NotReady { .. } => &mut self.not_ready,
            Exclusion::ChecksFail(_) => &mut self.checks_fail,
            Exclusion::Overloaded(_) => &mut self.overloaded,
            Exclusion::Forced(_) => &mut self.forced_out,
            // Shards are not judged by what their cluster is; that is counted at once for all.
            Exclusion::Drained
            | Exclusion::ClusterDrained
            | Exclusion::ClusterDown
            | Exclusion::ClusterForced(_) => &mut self.drained,
        }
    }

    /// All shards.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { served, forced_up, no_address, not_ready, drained, .. } = self;
        let Self { checks_fail, overloaded, forced_out, .. } = self;
        let own = served + forced_up + no_address + not_ready + drained;
        own + checks_fail + overloaded + forced_out
    }
}
