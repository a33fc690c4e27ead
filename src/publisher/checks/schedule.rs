//! When each target is checked. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::roster::ProbeId;
use crate::health::check::Timing;

/// Time for each of the targets that come at once: many of them are spread over all the time that
/// they may take, and few are checked at once.
const SPREAD: Duration = Duration::from_millis(1);

/// The targets in the order in which they are due. Each has its own place within its interval, by a
/// hash, so that they are spread evenly; and comes a bit earlier or later than that each time, so
/// that several instances do not keep step.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Intervals are counted from here.
    epoch: Instant,
    due: BinaryHeap<Reverse<(Instant, ProbeId)>>,
    /// Another in each instance.
    hasher: RandomState,
    turns: u64,
}

impl Schedule {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, due: BinaryHeap::new(), hasher: RandomState::new(), turns: 0 }
    }

    /// Has new targets checked soon, each within the time that it may take.
    pub(super) fn add(&mut self, fresh: &[(ProbeId, Duration)], now: Instant) {
        let together = SPREAD.saturating_mul(u32::try_from(fresh.len()).unwrap_or(u32::MAX));
        for (id, within) in fresh {
            let wait = self.share(*id, together.min(*within));
            self.due.push(Reverse((now + wait, *id)));
        }
    }

    /// Has a target whose check was begun at `begun` checked again, at `now` or later.
    pub(super) fn again(&mut self, id: ProbeId, timing: &Timing, begun: Instant, now: Instant) {
        let interval = timing.interval;
        // The first of its places that is at least half an interval away: after the first check,
        // which came soon, it falls into its place.
        let phase = self.share(id, interval);
        let from = begun + interval / 2;
        let since = from.saturating_duration_since(self.epoch + phase).as_nanos();
        let nanos = interval.as_nanos().max(1);
        let turns = u32::try_from(since.div_ceil(nanos)).unwrap_or(u32::MAX);
        let place = self.epoch + phase + interval.saturating_mul(turns);
        self.turns = self.turns.wrapping_add(1);
        let most = interval * u32::from(timing.jitter) / 100;
        let jitter = fraction(self.hasher.hash_one((id, self.turns)), most * 2);
        let at = (place + jitter).checked_sub(most).unwrap_or(place).max(now);
        self.due.push(Reverse((at, id)));
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// One that is due at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<ProbeId> {
        self.next().filter(|at| *at <= now)?;
        self.due.pop().map(|Reverse((_, id))| id)
    }

    /// The place of a target within a time.
    fn share(&self, id: ProbeId, of: Duration) -> Duration {
        fraction(self.hasher.hash_one(id), of)
    }
}

/// A part of a time, from nothing to almost all of it, by a hash.
fn fraction(hash: u64, of: Duration) -> Duration {
    // 2^16 parts of an hour are finer than a tick.
    of / (1 << 16) * (hash >> 48) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u64) -> Vec<ProbeId> {
        (0..count).map(ProbeId::for_test).collect()
    }

    #[test]
    fn few_are_checked_at_once_and_many_over_an_interval() {
        let now = Instant::now();
        let interval = Duration::from_secs(10);
        let last = |count| {
            let mut schedule = Schedule::new(now);
            let fresh: Vec<_> = ids(count).into_iter().map(|id| (id, interval)).collect();
            schedule.add(&fresh, now);
            let waits = schedule.due.iter().map(|Reverse((at, _))| *at - now);
            waits.max().expect("some")
        };
        assert!(last(5) < Duration::from_millis(5));
        let many = last(30_000);
        assert!(many < interval && many > interval * 9 / 10, "{many:?}");
    }

    /// 30,000 targets every 10 s are 3,000 a second, in every second; and no check comes much more
    /// often or seldom than its interval says.
    #[test]
    fn checks_are_spread_evenly_and_keep_their_interval() {
        let start = Instant::now();
        let timing = Timing { interval: Duration::from_secs(10), ..Timing::default() };
        let interval = timing.interval;
        let mut schedule = Schedule::new(start);
        let ids = ids(3_000);
        let fresh: Vec<_> = ids.iter().map(|id| (*id, interval)).collect();
        schedule.add(&fresh, start);
        let mut last = std::collections::HashMap::new();
        let mut per_second = [0_u32; 100];
        while let Some(at) = schedule.next().filter(|at| *at < start + interval * 10) {
            let id = schedule.pop(at).expect("due");
            per_second[(at - start).as_secs() as usize] += 1;
            if let Some(before) = last.insert(id, at)
                && at > start + interval * 2
            {
                let gap = (at - before).as_millis();
                assert!((7_900..=12_100).contains(&gap), "{gap} ms");
            }
            schedule.again(id, &timing, at, at);
        }
        assert_eq!(last.len(), 3_000);
        for (second, checks) in per_second.iter().enumerate().skip(20) {
            assert!((200..=400).contains(checks), "{checks} in second {second}");
        }
    }

    #[test]
    fn what_comes_late_is_not_made_up_for() {
        let start = Instant::now();
        let interval = Duration::from_secs(1);
        let timing = Timing { interval, jitter: 0, ..Timing::default() };
        let mut schedule = Schedule::new(start);
        let id = ids(1)[0];
        let late = start + interval * 100;
        schedule.again(id, &timing, start, late);
        assert_eq!(schedule.pop(late), Some(id), "at once");
        schedule.again(id, &timing, late, late);
        let next = schedule.next().expect("one");
        assert!(next >= late + interval / 2 && next <= late + interval * 3 / 2);
    }
}
