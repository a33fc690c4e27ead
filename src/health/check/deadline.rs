//! Ends of checks, and of what else waits for others.

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// Why a check has no good answer.
#[derive(Debug)]
pub enum Fault {
    /// The target gave none.
    Target(String),
    /// We could not ask.
    Ours(String),
    /// We asked, and had no processor to hear the answer in time.
    Late(String),
}

impl Fault {
    /// What `error` tells against the target, with what it was caused by.
    pub(super) fn of(error: &dyn Error) -> Self {
        let mut told = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors repeat their cause.
            if !told.contains(&text) {
                told = format!("{told}: {text}");
            }
            cause = error.source();
        }
        Self::Target(told)
    }
}

/// How often a check that waits looks at the clock: late by less than an eighth of its time-out is
/// not noticed, nor does it matter.
const LOOKS: u32 = 8;

/// When a check must have ended.
///
/// It also tells how long this process slept over it. On a machine that has no processor for us, a
/// reply that came in time is read too late, and that is said of no target.
#[derive(Debug)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
    /// How much later than it asked to be woken a check was, in all, until time was over.
    late: Duration,
}

impl Deadline {
    /// The end of what may take `limit` from now on.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit, late: Duration::ZERO }
    }

    /// What `step` yields, if it does in time; `missing` tells what was waited for.
    ///
    /// # Errors
    /// Those of `step`; [`Fault::Target`] or [`Fault::Late`] where time is over.
    pub async fn limit<T>(
        &mut self,
        missing: &str,
        step: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let mut step = pin!(step);
        loop {
            let now = Instant::now();
            let due = (now + self.limit / LOOKS).min(self.at).max(now);
            let ended = timeout_at(due, step.as_mut()).await;
            let now = Instant::now();
            self.late += now.min(self.at).saturating_duration_since(due);
            match ended {
                Ok(ended) => return ended,
                Err(_) if now < self.at => {}
                Err(_) => return Err(self.over(missing)),
            }
        }
    }

    /// Whose fault it is that time is over: ours, where we had less than half of it.
    fn over(&self, missing: &str) -> Fault {
        let Self { limit, late, .. } = self;
        if *late * 2 < *limit {
            return Fault::Target(format!("{missing} within {limit:?}"));
        }
        Fault::Late(format!(
            "{missing} within {limit:?}, but for {late:?} of that no processor was free for the check"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(160);

    #[test]
    fn a_target_is_to_blame_only_where_we_were_awake_for_most_of_the_time() {
        let over = |late: u64| {
            let late = Duration::from_millis(late);
            Deadline { at: Instant::now(), limit: LIMIT, late }.over("no reply")
        };
        let Fault::Target(why) = over(79) else { panic!("we were awake") };
        assert_eq!(why, "no reply within 160ms");
        let Fault::Late(why) = over(80) else { panic!("we slept over it") };
        assert!(why.contains("but for 80ms of that no processor was free"), "{why}");
    }

    /// The only thread does something else until the time is over.
    #[tokio::test]
    async fn what_was_slept_over_is_no_fault_of_the_target() {
        let mut deadline = Deadline::after(LIMIT);
        let busy = async {
            thread::sleep(LIMIT);
            pending().await
        };
        let ended: Result<(), Fault> = deadline.limit("no reply", busy).await;
        assert!(matches!(ended, Err(Fault::Late(_))), "{ended:?}");
    }

    #[tokio::test]
    async fn a_step_that_was_slept_over_leaves_no_time_to_the_next_and_no_blame() {
        let mut deadline = Deadline::after(LIMIT);
        let connected = async {
            thread::sleep(LIMIT);
            Ok(())
        };
        let connected = deadline.limit("no connection", connected).await;
        connected.expect("what has come is taken, however late");
        let ended: Result<(), Fault> = deadline.limit("no reply", pending()).await;
        assert!(matches!(ended, Err(Fault::Late(_))), "{ended:?}");
    }
}
