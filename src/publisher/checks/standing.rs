//! What was told before the task that checks was begun anew: it holds until the new one knows as
//! much. Pure.

use std::time::{Duration, Instant};

use super::Verdicts;
use crate::health::check::Target;

/// What was told, and until when it holds at most.
#[derive(Debug)]
pub(super) struct Standing {
    told: Verdicts,
    begun: Instant,
    /// How long it may take until something is known of every target.
    span: Duration,
}

/// How far the new task has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Whether something is known of all that is checked.
    pub(super) judged: bool,
    /// Whether nothing is decided for want of voters.
    pub(super) frozen: bool,
    /// How long a ballot counts, where others vote: whoever is there is heard within it.
    pub(super) lease: Option<Duration>,
}

impl Standing {
    /// `None` where nothing was told: then there is nothing to keep.
    pub(super) fn new(told: Verdicts, begun: Instant) -> Option<Self> {
        let blank = told.opinions.is_empty() && told.clusters.is_empty();
        (!blank).then_some(Self { told, begun, span: Duration::ZERO })
    }

    pub(super) fn told(&self) -> &Verdicts {
        &self.told
    }

    /// Notes that there is a target.
    pub(super) fn wait_for(&mut self, target: &Target) {
        let timing = &target.timing;
        // Twice as long as its failures take, for checks that wait for their turn.
        let longest = (timing.interval + timing.timeout).saturating_mul(2 * timing.fall.get());
        self.span = self.span.max(target.first_within() + longest);
    }

    /// Whether what follows now is as well founded as what was told. What stays unknown keeps it
    /// for a while only; while nothing is decided, what was decided stays.
    pub(super) fn is_over(&self, progress: Progress, now: Instant) -> bool {
        let [heard, last] = self.ends(progress.lease);
        !progress.frozen && now >= heard && (progress.judged || now >= last)
    }

    /// When time alone may next end it; later than `now`.
    pub(super) fn deadline(&self, lease: Option<Duration>, now: Instant) -> Option<Instant> {
        self.ends(lease).into_iter().filter(|end| *end > now).min()
    }

    /// When all voters have been heard that will be, and when no target is waited for any more.
    fn ends(&self, lease: Option<Duration>) -> [Instant; 2] {
        let lease = lease.unwrap_or_default();
        [lease, lease.max(self.span)].map(|time| self.begun + time)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::health::check::Timing;
    use crate::health::{Checked, Opinion};
    use crate::model::CheckKind;
    use crate::publisher::checks::testing::key;
    use crate::snapshot::testing::label;

    #[test]
    fn it_ends_when_all_is_known_or_has_taken_too_long() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(Standing::new(Verdicts::default(), begun).is_none());
        let mut told = Verdicts::default();
        let opinion = Opinion { check: Checked::Passing, ..Opinion::default() };
        told.opinions.set(&key("a"), &label("x"), Some(opinion));
        let mut standing = Standing::new(told, begun).expect("something was told");
        // 5 s + 2 × 3 × (5 s + 2 s)
        let (kind, address) = (Arc::new(CheckKind::Tcp), (Ipv4Addr::LOCALHOST, 80).into());
        standing.wait_for(&Target { kind, address, timing: Timing::default() });
        let alone = Progress { judged: false, frozen: false, lease: None };
        assert!(!standing.is_over(alone, at(46)) && standing.is_over(alone, at(47)));
        assert!(standing.is_over(Progress { judged: true, ..alone }, begun));
        let voting = Progress { judged: true, lease: Some(Duration::from_secs(10)), ..alone };
        assert!(!standing.is_over(voting, at(9)) && standing.is_over(voting, at(10)));
        assert!(!standing.is_over(Progress { frozen: true, ..voting }, at(1000)));
        assert_eq!(standing.deadline(voting.lease, begun), Some(at(10)));
        assert_eq!(standing.deadline(voting.lease, at(10)), Some(at(47)));
        assert_eq!(standing.deadline(voting.lease, at(47)), None);
    }
}
