//! How often is published. Pure; time is an argument.

use std::time::{Duration, Instant};

/// How long changes are gathered after a publication. The first one after quiet is not gathered.
/// Short beside the aim of 10 ms for 99 changes of 100; long beside the build of a few changes, so
/// that a thousand a second make some 270 publications, each of which costs hardly more than that
/// of one change.
pub(super) const GATHER: Duration = Duration::from_millis(3);

/// The longest rest after a build. Builds take longer than this where a large cluster is read or
/// reconfigured, which is rare: what changes next has waited for the build already, and is not to
/// wait for seconds more.
const LONGEST_REST: Duration = Duration::from_millis(250);

/// When the next build may begin.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rest: Option<Instant>,
}

impl Pace {
    /// Notes that a build, or a look that found nothing to build, began at `begun` and ended at
    /// `ended`. One that took long is followed by a rest as long, up to [`LONGEST_REST`]: however
    /// much changes, builds that are no longer than that take half of a processor at most.
    pub(super) fn built(&mut self, begun: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(begun);
        self.rest = Some(ended + took.clamp(GATHER, LONGEST_REST));
    }

    /// Before when no build begins; `None` where one may begin at once.
    pub(super) fn rest(&self) -> Option<Instant> {
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_not_gathered_and_those_that_follow_are() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let after = |micros| start + Duration::from_micros(micros);
        assert_eq!(pace.rest(), None);
        pace.built(start, after(100));
        assert_eq!(pace.rest(), Some(after(3_100)));
        pace.built(after(10_000), after(110_000));
        assert_eq!(pace.rest(), Some(after(210_000)), "as long as it took");
        pace.built(after(1_000_000), after(7_000_000));
        assert_eq!(pace.rest(), Some(after(7_250_000)), "and no longer than that");
    }

    /// A change every millisecond for a second, each build a tenth of one.
    #[test]
    fn a_storm_is_published_in_gathered_parts() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let (end, took) = (now + Duration::from_secs(1), Duration::from_micros(100));
        let mut published = 0;
        let mut change = now;
        while change < end {
            now = change.max(now).max(pace.rest().unwrap_or(change));
            pace.built(now, now + took);
            now += took;
            published += 1;
            // Those that came meanwhile are in it.
            while change <= now {
                change += Duration::from_millis(1);
            }
        }
        assert!((200..=334).contains(&published), "{published} publications of 1,000 changes");
    }
}
