//! Names of Events that all instances give to one change, so that the API server takes one of them.
//!
//! Instances see a change at different moments, and have nothing else in common that would tell it
//! from the same change a while later. So a name is made of what changed, of the minute, and of how
//! often that was seen within the minute. What is seen early in a minute may have been told of late
//! in the one before by another instance: then [`Named::earlier`] is its name.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use k8s_openapi::jiff::Timestamp;

use crate::model::DomainName;

/// What is seen more than once within this many seconds is told apart by counting, which an instance
/// that has just begun cannot know: it may then leave out one of those that it sees first.
const WINDOW: i64 = 60;

/// By how many seconds instances may be apart: more than the periods and thresholds of probes let
/// them, with clocks that are nearly right.
const APART: i64 = 30;

/// Gives names to what one instance sees.
#[derive(Debug)]
pub(super) struct Names {
    apex: DomainName,
    /// Which minute since 1970 `seen` is of.
    minute: i64,
    seen: HashMap<String, u32>,
    /// In the minute before.
    before: HashMap<String, u32>,
}

/// The name of an Event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Under which it is written.
    pub(super) name: String,
    /// Under which it may be there already.
    pub(super) earlier: Option<String>,
}

impl Names {
    /// Names of Events about the federation whose zone is `apex`.
    pub(super) fn new(apex: DomainName) -> Self {
        Self { apex, minute: 0, seen: HashMap::new(), before: HashMap::new() }
    }

    /// The name of the change `what` that was seen at `at`.
    pub(super) fn next(&mut self, what: &str, at: Timestamp) -> Named {
        let minute = at.as_second().div_euclid(WINDOW);
        if minute != self.minute {
            self.before = std::mem::take(&mut self.seen);
            if minute != self.minute + 1 {
                self.before.clear();
            }
            self.minute = minute;
        }
        let before = self.before.get(what).copied().unwrap_or_default();
        let seen = self.seen.entry(what.to_owned()).or_default();
        let count = *seen;
        *seen += 1;
        let early = count == 0 && at.as_second().rem_euclid(WINDOW) < APART;
        Named {
            name: self.name(what, minute, count),
            // The one after those that we know of.
            earlier: early.then(|| self.name(what, minute - 1, before)),
        }
    }

    /// Notes that what [`Self::next`] named last was there under its earlier name.
    pub(super) fn was_earlier(&mut self, what: &str) {
        self.seen.remove(what);
        *self.before.entry(what.to_owned()).or_default() += 1;
    }

    fn name(&self, what: &str, minute: i64, count: u32) -> String {
        // Of one version all instances hash alike; in the midst of an upgrade two Events are no harm.
        let hash = FixedState::default().hash_one((&self.apex, what, minute, count));
        format!("meridian.{hash:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new(DomainName::parse("example.com").unwrap())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(60 * 1_000_000 + second).unwrap()
    }

    #[test]
    fn instances_give_one_name_to_one_change() {
        let (mut one, mut two) = (names(), names());
        for second in [0, 7, 31, 59] {
            let name = one.next("web went", at(second)).name;
            assert_eq!(two.next("web went", at(second.max(29))).name, name, "at {second}");
        }
        let other = Names::new(DomainName::parse("example.org").unwrap()).next("web went", at(0));
        assert_ne!(names().next("web went", at(0)), other, "another federation");
    }

    #[test]
    fn changes_have_names_of_their_own() {
        let mut names = names();
        let mut all: Vec<String> = [("a", 1), ("a", 2), ("b", 2), ("a", 59), ("a", 61), ("b", 119)]
            .into_iter()
            .map(|(what, second)| names.next(what, at(second)).name)
            .collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    /// One sees it at the end of a minute, the other at the beginning of the next.
    #[test]
    fn a_minute_that_ends_between_two_instances_is_no_matter() {
        let (mut one, mut two) = (names(), names());
        for _ in 0..2 {
            one.next("web went", at(30));
            two.next("web went", at(30));
        }
        let last = one.next("web went", at(59));
        assert_eq!(last.earlier, None, "late in a minute there is nothing to look for");
        let late = two.next("web went", at(61));
        assert_eq!(late.earlier, Some(last.name));
        two.was_earlier("web went");
        // Both are as far again.
        let (next, other) = (one.next("web went", at(70)), two.next("web went", at(70)));
        assert_eq!(next.name, other.name);
        assert_eq!(next.earlier, other.earlier, "neither looks for what it knows");
        assert_eq!(one.next("web went", at(100)).earlier, None);
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let mut names = names();
        names.next("web went", at(59));
        let fresh = self::names().next("web went", at(200));
        assert_eq!(names.next("web went", at(200)), fresh);
    }
}
