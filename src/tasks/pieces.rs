//! Long work in pieces.

use std::thread;
use std::time::{Duration, Instant};

/// How long a piece is. A thread that is on a processor keeps it for up to some milliseconds although
/// one with a higher priority waits, as the scheduler grants a slice to whoever has begun one (sched(7)):
/// a datagram that comes meanwhile waits as long.
const PIECE: Duration = Duration::from_micros(200);

/// The pause between two pieces. Linux makes 50 us more of it, unless told otherwise
/// (`PR_SET_TIMERSLACK`, prctl(2)). A sleep, as who yields (sched_yield(2)) loses the rest of its share,
/// and would come to nothing where processors are always busy.
const PAUSE: Duration = Duration::from_micros(20);

/// Work on a thread of its own that can wait, done in pieces, so that those who answer need not wait
/// for long.
#[derive(Debug)]
pub struct Pieces {
    begun: Instant,
    /// How often it was looked whether the piece is over.
    looks: u32,
    every: u32,
}

impl Pieces {
    /// Begins the first piece. Of so many looks one asks for the time.
    #[must_use]
    pub fn every(looks: u32) -> Self {
        Self { begun: Instant::now(), looks: 0, every: looks.max(1) }
    }

    /// Between two steps of the work: where the piece has been long enough, pauses, and begins another.
    /// Says whether it has paused.
    pub fn step(&mut self) -> bool {
        self.looks = (self.looks + 1) % self.every;
        let over = self.looks == 0 && self.begun.elapsed() >= PIECE;
        if over {
            thread::sleep(PAUSE);
            self.begun = Instant::now();
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_is_long_pauses() {
        let long_ago = || Instant::now().checked_sub(PIECE).unwrap();
        let mut pieces = Pieces { begun: Instant::now() + PIECE, looks: 0, every: 1 };
        assert!(!pieces.step(), "it has just begun");
        pieces.begun = long_ago();
        assert!(pieces.step());
        assert!(pieces.begun > long_ago(), "another has begun");
        let mut pieces = Pieces { begun: long_ago(), looks: 0, every: 3 };
        assert_eq!([pieces.step(), pieces.step(), pieces.step()], [false, false, true]);
    }
}
