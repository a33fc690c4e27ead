//! Ends of checks.

use std::error::Error;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// Why a check has no good answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The target gave none.
    Target(String),
    /// We could not ask.
    Ours(String),
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

/// When a check must have ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// The end of what may take `limit` from now on.
    pub(super) fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    /// What `step` yields, if it does in time; `missing` tells what was waited for.
    pub(super) async fn limit<T>(
        self,
        missing: &str,
        step: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        timeout_at(self.at, step)
            .await
            .unwrap_or_else(|_| Err(Fault::Target(format!("{missing} within {:?}", self.limit))))
    }
}
