//! What is read first waits, at the start, for what is read soon after it.
//!
//! While nothing is answered yet nobody needs a snapshot of half of the clusters, and one made anew
//! for each cluster that has been read holds twice the memory of the last one, and leaves holes.
//! Pure; time is an argument.

use std::time::{Duration, Instant};

use super::known::Fresh;

/// The longest that views wait for those of other sources. Clusters that are read at the same time
/// are complete within some seconds of each other; a source that cannot be read must not keep
/// `/state` from telling the others for long. DNS is not answered meanwhile either way.
const LONGEST: Duration = Duration::from_secs(10);

/// Whether views of sources that have been read for the first time wait.
#[derive(Debug, Default)]
pub(super) struct Hold {
    state: State,
    /// When nothing waits any more, whatever has been read.
    last: Option<Instant>,
}

#[derive(Debug, Default)]
enum State {
    /// None has been read.
    #[default]
    Idle,
    /// Those that have been read wait until then.
    Until(Instant),
    /// Nothing waits any more.
    Over,
}

impl Hold {
    /// DNS waits for sources from `now` on for `grace` at most. Half of that is left for what is
    /// made of the views in the background, the geographic tables among it.
    pub(super) fn end_within(&mut self, now: Instant, grace: Duration) {
        self.last = Some(now + grace / 2);
        if let (State::Until(until), Some(last)) = (&mut self.state, self.last) {
            *until = last.min(*until);
        }
    }

    /// Whether nothing waits any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether views that were read for the first time are to be used at `now`: where `all_read`,
    /// no source is awaited; where `some_read`, a view is there that is not in use.
    pub(super) fn look(&mut self, all_read: bool, some_read: bool, now: Instant) -> Fresh {
        match self.state {
            State::Over => return Fresh::Used,
            State::Idle if some_read => {
                let until = now + LONGEST;
                self.state = State::Until(self.last.map_or(until, |last| last.min(until)));
            }
            State::Idle | State::Until(_) => {}
        }
        let due = self.deadline().is_some_and(|until| until <= now);
        if all_read || due {
            self.state = State::Over;
            return Fresh::Used;
        }
        Fresh::Held
    }

    /// When what waits is to be used at the latest; `None` where nothing waits.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Until(until) => Some(until),
            State::Idle | State::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_waits_for_the_last_source() {
        let (mut hold, start) = (Hold::default(), Instant::now());
        let after = |secs| start + Duration::from_secs(secs);
        assert_eq!(hold.look(false, false, start), Fresh::Held);
        assert_eq!(hold.deadline(), None, "there is nothing to wait with");
        assert_eq!(hold.look(false, true, after(100)), Fresh::Held);
        assert_eq!(hold.look(false, true, after(105)), Fresh::Held);
        assert_eq!(hold.look(true, true, after(106)), Fresh::Used);
        assert_eq!(hold.look(false, true, after(107)), Fresh::Used, "a cluster that is new");
        assert_eq!(hold.deadline(), None);
    }

    #[test]
    fn a_source_that_cannot_be_read_is_not_waited_for_for_long() {
        let (mut hold, start) = (Hold::default(), Instant::now());
        assert_eq!(hold.look(false, true, start), Fresh::Held);
        let until = hold.deadline().expect("it waits");
        assert_eq!(until, start + LONGEST);
        assert_eq!(hold.look(false, true, until - Duration::from_millis(1)), Fresh::Held);
        assert_eq!(hold.look(false, true, until), Fresh::Used);
        assert!(hold.is_over());
        let (secs, mut hold) = (Duration::from_secs, Hold::default());
        hold.end_within(start, secs(6));
        assert_eq!(hold.look(false, true, start + secs(2)), Fresh::Held);
        assert_eq!(hold.look(false, true, start + secs(3)), Fresh::Used);
        // Something was read before it was known how long that is.
        let mut hold = Hold::default();
        assert_eq!(hold.look(false, true, start), Fresh::Held);
        hold.end_within(start, Duration::ZERO);
        assert_eq!(hold.look(false, true, start), Fresh::Used, "without a grace");
    }
}
