//! How often a verdict may change. Pure.

use std::time::{Duration, Instant};

/// How fast a shard may come and go.
#[derive(Clone, Debug, PartialEq)]
pub struct Damping {
    /// How long one that has come back stays, whatever is seen of it.
    pub min_up: Duration,
    /// How long one that has fallen again soon after it came back must be seen well until it comes
    /// back once more; doubled with each further time.
    pub hold_off: Duration,
    /// The most that this grows to.
    pub max_hold_off: Duration,
    /// How long one must stay up for its earlier falls to count no more.
    pub forget: Duration,
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            // What three failures of the default interval take anyway: it is of effect where
            // checks come faster.
            min_up: Duration::from_secs(10),
            // As long as the grace of clusters, and longer than a pod takes to be replaced.
            hold_off: Duration::from_secs(30),
            // Five doublings. Whoever mends what has flapped for so long does not mind the wait.
            max_hold_off: Duration::from_secs(960),
            forget: Duration::from_secs(600),
        }
    }
}

impl Damping {
    /// How long one that has fallen again `flaps` times must be seen well until it comes back.
    #[must_use]
    pub fn hold_off_after(&self, flaps: u32) -> Duration {
        match flaps {
            0 => Duration::ZERO,
            // A factor of 2^31 is beyond any limit.
            _ => self.hold_off.saturating_mul(1 << (flaps - 1).min(31)).min(self.max_hold_off),
        }
    }
}

/// What is seen of something at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is well.
    Well,
    /// It is to be taken out.
    Ill,
}

/// Follows what is seen of one shard or cluster, and delays where it changes too often: the first
/// fall counts at once and so does the first recovery; every further one within a while takes
/// longer. The default is one that has never been ill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damper {
    state: State,
    /// Falls that came soon after a recovery.
    flaps: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    /// Never out as far as is remembered.
    #[default]
    Fresh,
    /// In again.
    Up { since: Instant },
    /// Out, and since when it is seen well, where it is.
    Down { well: Option<Instant> },
}

impl Damper {
    /// Takes in what is seen at `now`, which is never earlier than before.
    pub fn see(&mut self, seen: Seen, damping: &Damping, now: Instant) {
        match (&mut self.state, seen) {
            (State::Fresh, Seen::Well) => {}
            (State::Fresh, Seen::Ill) => self.state = State::Down { well: None },
            (State::Up { since }, Seen::Well) => {
                if now.saturating_duration_since(*since) >= damping.forget {
                    *self = Self::default();
                }
            }
            (State::Up { since }, Seen::Ill) => {
                let up_for = now.saturating_duration_since(*since);
                if up_for >= damping.min_up {
                    self.flaps =
                        if up_for < damping.forget { self.flaps.saturating_add(1) } else { 0 };
                    self.state = State::Down { well: None };
                }
            }
            (State::Down { well }, Seen::Ill) => *well = None,
            (State::Down { well }, Seen::Well) => {
                let well = *well.get_or_insert(now);
                if now.saturating_duration_since(well) >= damping.hold_off_after(self.flaps) {
                    self.state = State::Up { since: now };
                }
            }
        }
    }

    /// Whether it is out.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down { .. })
    }

    /// How long it must have been seen well, where it is out only because it has not been for long
    /// enough.
    #[must_use]
    pub fn held(&self, damping: &Damping) -> Option<Duration> {
        match self.state {
            State::Down { well: Some(_) } => Some(damping.hold_off_after(self.flaps)),
            _ => None,
        }
    }

    /// Whether it has come back for less time than what another fall would cost, or is about to.
    #[must_use]
    pub fn is_recovering(&self, damping: &Damping, now: Instant) -> bool {
        match self.state {
            State::Fresh | State::Down { well: None } => false,
            State::Down { well: Some(_) } => true,
            State::Up { since } => now.saturating_duration_since(since) < self.settling(damping),
        }
    }

    /// Whether nothing of it needs to be remembered.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.state == State::Fresh
    }

    /// When time alone may next change what is said of it, if what is seen stays; later than
    /// `now`.
    #[must_use]
    pub fn deadline(&self, damping: &Damping, now: Instant) -> Option<Instant> {
        let ends = match self.state {
            State::Fresh | State::Down { well: None } => [None; 3],
            State::Down { well: Some(well) } => {
                [well.checked_add(damping.hold_off_after(self.flaps)), None, None]
            }
            State::Up { since } => [
                since.checked_add(damping.min_up),
                since.checked_add(self.settling(damping)),
                since.checked_add(damping.forget),
            ],
        };
        ends.into_iter().flatten().filter(|end| *end > now).min()
    }

    /// How long after a recovery it counts as settled.
    fn settling(&self, damping: &Damping) -> Duration {
        damping.min_up.max(damping.hold_off_after(self.flaps.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn damping() -> Damping {
        Damping {
            min_up: seconds(10),
            hold_off: seconds(30),
            max_hold_off: seconds(100),
            forget: seconds(300),
        }
    }

    #[test]
    fn hold_off_grows_with_each_flap_and_is_forgotten() {
        let (damping, start) = (damping(), Instant::now());
        let mut damper = Damper::default();
        let mut see = |at: u64, seen| {
            damper.see(seen, &damping, start + seconds(at));
            damper.is_down()
        };
        assert!(see(0, Seen::Ill), "the first fall counts at once");
        assert!(!see(5, Seen::Well), "and so does the first recovery");
        assert!(!see(14, Seen::Ill), "within the least time up");
        assert!(see(15, Seen::Ill));
        assert!(see(20, Seen::Well) && see(49, Seen::Well), "it has flapped once: 30 s");
        assert!(see(49, Seen::Ill) && see(50, Seen::Well) && see(79, Seen::Well), "anew");
        assert!(!see(80, Seen::Well));
        assert!(see(90, Seen::Ill) && see(91, Seen::Well) && see(150, Seen::Well), "60 s");
        assert!(!see(151, Seen::Well));
        assert!(see(161, Seen::Ill) && see(162, Seen::Well) && see(261, Seen::Well), "not 120");
        assert!(!see(262, Seen::Well));
        assert!(see(562, Seen::Ill), "long up");
        assert!(!see(563, Seen::Well), "all is forgotten");
    }

    #[test]
    fn one_that_stays_up_is_forgotten() {
        let (damping, start) = (damping(), Instant::now());
        let mut damper = Damper::default();
        damper.see(Seen::Ill, &damping, start);
        damper.see(Seen::Well, &damping, start);
        assert!(damper.is_recovering(&damping, start + seconds(29)));
        assert!(!damper.is_recovering(&damping, start + seconds(30)));
        damper.see(Seen::Well, &damping, start + seconds(299));
        assert!(!damper.is_fresh());
        damper.see(Seen::Well, &damping, start + seconds(300));
        assert!(damper.is_fresh());
    }

    /// What is seen, for how many seconds.
    fn history() -> impl Strategy<Value = Vec<(bool, u64)>> {
        prop::collection::vec((any::<bool>(), 1..50_u64), 1..60)
    }

    proptest! {
        /// "Never flaps faster than the hold-off."
        #[test]
        fn no_history_makes_it_flap_faster_than_the_hold_off(history in history()) {
            let (damping, start) = (damping(), Instant::now());
            let mut damper = Damper::default();
            let (mut now, mut flaps) = (0, 0_u32);
            // When it last fell, and when it last came back.
            let (mut fell, mut rose) = (None, None::<u64>);
            for (well, duration) in history {
                for _ in 0..duration {
                    now += 1;
                    let was = damper.is_down();
                    let seen = if well { Seen::Well } else { Seen::Ill };
                    damper.see(seen, &damping, start + seconds(now));
                    match (was, damper.is_down()) {
                        (false, true) => {
                            if let Some(rose) = rose {
                                prop_assert!(now - rose >= 10, "up for {} s only", now - rose);
                                flaps = if now - rose < 300 { flaps + 1 } else { 0 };
                            }
                            fell = Some(now);
                        }
                        (true, false) => {
                            let least = [0, 30, 60, 100][flaps.min(3) as usize];
                            let down = now - fell.expect("it was down");
                            prop_assert!(down >= least, "down for {down} s after {flaps} flaps");
                            rose = Some(now);
                        }
                        _ => {}
                    }
                }
            }
        }

        /// Whatever happened before, what stays so is followed in the end; and time alone changes
        /// nothing before a deadline.
        #[test]
        fn at_rest_it_is_what_is_seen(history in history(), well in any::<bool>()) {
            let (damping, start) = (damping(), Instant::now());
            let mut damper = Damper::default();
            let mut now = start;
            for (well, duration) in history {
                now += seconds(duration);
                damper.see(if well { Seen::Well } else { Seen::Ill }, &damping, now);
            }
            let seen = if well { Seen::Well } else { Seen::Ill };
            damper.see(seen, &damping, now);
            let shown = |d: &Damper, now| (d.is_down(), d.is_recovering(&damping, now));
            for _ in 0..10 {
                let before = shown(&damper, now);
                let Some(deadline) = damper.deadline(&damping, now) else { break };
                let shortly = deadline - seconds(1);
                if shortly > now {
                    damper.see(seen, &damping, shortly);
                    prop_assert_eq!(shown(&damper, shortly), before);
                }
                now = deadline;
                damper.see(seen, &damping, now);
            }
            prop_assert_eq!(damper.deadline(&damping, now), None, "it comes to rest");
            prop_assert_eq!(damper.is_down(), !well);
            prop_assert!(!well || damper.is_fresh());
        }
    }
}
