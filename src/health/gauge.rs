//! What the outcomes of the checks of one target add up to. Pure.

use std::sync::Arc;

use super::check::{Probed, Timing};

/// What is held of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet: it has never passed, nor failed often enough.
    #[default]
    Unknown,
    /// It answers as it should.
    Passing,
    /// It does not.
    Failing(Failed),
}

/// When and how a target began to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Unix time, seconds, of the first failure in a row.
    pub since: u64,
    /// How the last failure went with which it fell, for people.
    pub why: Arc<str>,
}

/// Counts outcomes of one target. Its verdict changes with an outcome only, never by time: what
/// bounds how often the *answers* change is the [`super::votes::Damper`], over all targets and
/// voters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    verdict: Verdict,
    /// Outcomes in a row that speak against the verdict.
    against: u32,
    /// When the first of them was, Unix time in seconds.
    since: u64,
    /// How the first of them went, where it failed.
    why: Option<Arc<str>>,
    /// Passes in a row, counted until they are enough for one that failed to rise.
    passes: u32,
    /// Whether they have been, since it last failed.
    risen: bool,
    /// Whether nothing is known of it because it could not be asked the last time.
    unable: bool,
}

/// What can be asked of a gauge, failures by their kind alone.
type Told = (bool, bool, bool, std::mem::Discriminant<Verdict>);

impl Gauge {
    /// Takes in how a check ended at `unix`, Unix time in seconds; says whether anything that can
    /// be asked has changed.
    pub fn take(&mut self, outcome: &Probed, timing: &Timing, unix: u64) -> bool {
        if matches!(outcome, Probed::Late(_)) {
            return false;
        }
        let before = self.told();
        self.unable = self.verdict == Verdict::Unknown && matches!(outcome, Probed::Unable(_));
        let against = match (&self.verdict, outcome) {
            // A fault of ours says nothing, and does not end a row.
            (_, Probed::Unable(_) | Probed::Late(_)) => return before != self.told(),
            // One that is not known to fail needs no proof that it answers.
            (Verdict::Unknown, Probed::Passed) => {
                self.verdict = Verdict::Passing;
                false
            }
            (Verdict::Passing, Probed::Passed) | (Verdict::Failing(_), Probed::Failed(_)) => false,
            (Verdict::Unknown | Verdict::Passing, Probed::Failed(_))
            | (Verdict::Failing(_), Probed::Passed) => true,
        };
        self.count(outcome, timing);
        if !against {
            self.against = 0;
        } else {
            if self.against == 0 {
                self.since = unix;
                self.why = match outcome {
                    Probed::Failed(why) => Some(why.clone()),
                    Probed::Passed | Probed::Unable(_) | Probed::Late(_) => None,
                };
            }
            self.against = self.against.saturating_add(1);
            self.turn(outcome, timing);
        }
        before != self.told()
    }

    fn told(&self) -> Told {
        (self.unable, self.is_wavering(), self.risen, std::mem::discriminant(&self.verdict))
    }

    /// Counts passes in a row.
    fn count(&mut self, outcome: &Probed, timing: &Timing) {
        if matches!(outcome, Probed::Failed(_)) {
            self.passes = 0;
        } else if !self.risen {
            self.passes += 1;
            self.risen = self.passes >= timing.rise.get();
        }
    }

    /// Turns the verdict where enough speaks against it.
    fn turn(&mut self, outcome: &Probed, timing: &Timing) {
        let turned = match outcome {
            Probed::Passed => (self.against >= timing.rise.get()).then_some(Verdict::Passing),
            Probed::Failed(why) => (self.against >= timing.fall.get())
                .then(|| Verdict::Failing(Failed { since: self.since, why: why.clone() })),
            Probed::Unable(_) | Probed::Late(_) => None,
        };
        if let Some(verdict) = turned {
            (self.risen, self.passes) = (verdict == Verdict::Passing, 0);
            (self.verdict, self.against) = (verdict, 0);
        }
    }

    /// What is held of the target.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Whether nothing is known of the target because it could not be asked the last time, by a
    /// fault of ours: where a family of addresses is missing here, that stays so.
    #[must_use]
    pub fn is_unable(&self) -> bool {
        self.unable
    }

    /// Whether it has passed often enough in a row for one that failed to pass again, and has not
    /// failed since. One of which nothing was known passes with its first pass, and rises later.
    #[must_use]
    pub fn has_risen(&self) -> bool {
        self.risen
    }

    /// Since when it has failed, and how, where that has not been often enough to count.
    #[must_use]
    pub fn doubt(&self) -> Option<(u64, &Arc<str>)> {
        let fails = matches!(self.verdict, Verdict::Failing(_));
        self.why.as_ref().filter(|_| self.against > 0 && !fails).map(|why| (self.since, why))
    }

    /// Whether the last outcome spoke against the verdict, so that it may turn soon.
    #[must_use]
    pub fn is_wavering(&self) -> bool {
        self.against > 0
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn timing(rise: u32, fall: u32) -> Timing {
        let count = |n| NonZeroU32::new(n).expect("not zero");
        Timing { rise: count(rise), fall: count(fall), ..Timing::default() }
    }

    fn outcome(passed: bool) -> Probed {
        if passed { Probed::Passed } else { Probed::Failed("refused".into()) }
    }

    fn fed(history: &[bool], timing: Timing) -> Gauge {
        let mut gauge = Gauge::default();
        for (second, passed) in history.iter().enumerate() {
            gauge.take(&outcome(*passed), &timing, second as u64);
            // Between any two, nothing may be said by what we could not find out.
            gauge.take(&Probed::Unable("no socket".into()), &timing, second as u64);
        }
        gauge
    }

    #[test]
    fn it_falls_after_three_and_rises_after_two() {
        let usual = timing(2, 3);
        let failing = Verdict::Failing(Failed { since: 1, why: "refused".into() });
        assert_eq!(*fed(&[], usual).verdict(), Verdict::Unknown);
        assert_eq!(*fed(&[false, false], usual).verdict(), Verdict::Unknown);
        assert!(fed(&[true, false], usual).is_wavering());
        assert_eq!(*fed(&[true, false, false], usual).verdict(), Verdict::Passing);
        assert_eq!(*fed(&[true, false, false, false], usual).verdict(), failing);
        assert_eq!(*fed(&[true, false, false, false, true], usual).verdict(), failing);
        let back = fed(&[true, false, false, false, true, true], usual);
        assert_eq!(*back.verdict(), Verdict::Passing);
        assert!(!back.is_wavering());
    }

    #[test]
    fn the_first_pass_is_believed_and_only_several_make_it_risen() {
        let usual = timing(2, 2);
        let risen = |history: &[bool]| fed(history, usual).has_risen();
        assert!(!risen(&[true]) && *fed(&[true], usual).verdict() == Verdict::Passing);
        assert!(risen(&[true, true]) && risen(&[true, false, true, true]));
        assert!(!risen(&[true, false, true]), "not in a row");
        assert!(risen(&[true, true, false]), "it has not failed often enough");
        assert!(!risen(&[true, true, false, false]) && !risen(&[false, false, true]));
        assert!(risen(&[false, false, true, true]));
    }

    #[test]
    fn failures_below_the_threshold_are_told() {
        let gauge = fed(&[true, false], timing(2, 3));
        assert_eq!(gauge.doubt().map(|(since, why)| (since, &**why)), Some((1, "refused")));
        assert_eq!(fed(&[true, false, false, true], timing(2, 3)).doubt(), None);
        assert_eq!(fed(&[false, false, false, true], timing(2, 3)).doubt(), None, "it has failed");
    }

    #[test]
    fn what_cannot_be_asked_is_told_until_it_can() {
        let (mut gauge, unable) = (Gauge::default(), Probed::Unable("no route".into()));
        let usual = timing(2, 2);
        assert!(gauge.take(&unable, &usual, 0) && gauge.is_unable());
        assert!(!gauge.take(&unable, &usual, 1), "nothing new");
        assert!(gauge.take(&outcome(false), &usual, 2) && !gauge.is_unable());
        assert!(gauge.take(&unable, &usual, 3) && gauge.is_unable());
        assert!(gauge.take(&outcome(false), &usual, 4) && !gauge.is_unable());
        assert!(matches!(gauge.verdict(), Verdict::Failing(_)), "the row goes on");
        assert!(!gauge.take(&unable, &usual, 5) && !gauge.is_unable(), "it is known to fail");
    }

    #[test]
    fn what_comes_too_late_for_us_changes_nothing() {
        let (usual, late) = (timing(2, 3), Probed::Late("no processor".into()));
        let unable = Probed::Unable("no route".into());
        let mut unasked = Gauge::default();
        unasked.take(&unable, &usual, 0);
        for gauge in [unasked, fed(&[], usual), fed(&[false, false], usual), fed(&[true], usual)] {
            let mut after = gauge.clone();
            assert!(!after.take(&late, &usual, 9));
            assert_eq!(after, gauge);
        }
    }

    proptest! {
        /// By the whole history: the verdict is that of the newest run of equal outcomes that was
        /// long enough.
        #[test]
        fn the_last_run_that_was_long_enough_decides(
            history in prop::collection::vec(any::<bool>(), 0..60),
            rise in 1..5_u32,
            fall in 1..5_u32,
        ) {
            let runs = history.chunk_by(|a, b| a == b);
            let expected = runs.fold(None, |verdict, run| match (verdict, run[0]) {
                (None, true) => Some(true),
                (_, true) if run.len() >= rise as usize => Some(true),
                (_, false) if run.len() >= fall as usize => Some(false),
                _ => verdict,
            });
            let gauge = fed(&history, timing(rise, fall));
            let found = match gauge.verdict() {
                Verdict::Unknown => None,
                Verdict::Passing => Some(true),
                Verdict::Failing(_) => Some(false),
            };
            prop_assert_eq!(found, expected);
            let last = history.last().copied();
            prop_assert_eq!(gauge.is_wavering(), last.is_some() && last != expected);
        }

        #[test]
        fn changes_are_told(history in prop::collection::vec(any::<bool>(), 0..60)) {
            let mut gauge = Gauge::default();
            for (second, passed) in history.iter().enumerate() {
                let before = gauge.clone();
                let told = gauge.take(&outcome(*passed), &timing(2, 3), second as u64);
                let seen = |g: &Gauge| (g.verdict().clone(), g.is_wavering(), g.has_risen());
                prop_assert_eq!(told, seen(&before) != seen(&gauge));
            }
        }
    }
}
