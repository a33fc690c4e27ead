//! Keeps the last known good state on disk.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, warn};

use super::known::Known;
use crate::cluster::lastgood::{self, LastGood, SaveError};
use crate::telemetry::{Outcome, Telemetry};

/// The least time from one write to the next: what a restart may lose, and a bound on the wear.
const PAUSE: Duration = Duration::from_secs(5);

/// A write that took long is followed by a pause of so many times as long: a large federation that
/// always changes costs no more than a twentieth of a core and of the disk.
const PAUSE_FACTOR: u32 = 20;

/// How long the last write may take before the process ends without it; whoever stops it kills it
/// after half a minute.
const FINISH: Duration = Duration::from_secs(10);

/// Writes what is served, when it has changed.
#[derive(Debug)]
pub(super) struct Keeper {
    path: Option<PathBuf>,
    telemetry: Telemetry,
    /// What was last written or is being written.
    written: LastGood,
    /// What differs from it.
    wanted: Option<LastGood>,
    writing: Option<JoinHandle<Result<(), SaveError>>>,
    begun: Instant,
    /// No write before this.
    pause: Instant,
}

impl Keeper {
    pub(super) fn new(path: Option<PathBuf>, telemetry: Telemetry) -> Self {
        let now = Instant::now();
        Self {
            path,
            telemetry,
            written: LastGood::default(),
            wanted: None,
            writing: None,
            begun: now,
            // At the start much changes within moments.
            pause: now + PAUSE,
        }
    }

    /// Has `known` written soon, where it differs from what was.
    pub(super) fn offer(&mut self, known: &Known) {
        if self.path.is_none() {
            return;
        }
        let known = known.all();
        self.wanted = (!same(known, &self.written)).then(|| known.clone());
    }

    /// Writes when something is to be written and may be; then returns. May be dropped at any
    /// time.
    pub(super) async fn write_when_due(&mut self) {
        if let Some(writing) = &mut self.writing {
            let result = writing.await;
            self.writing = None;
            self.take(result);
        } else if self.wanted.is_some() {
            sleep_until(self.pause).await;
            self.begin();
        } else {
            pending().await
        }
    }

    /// Writes what is to be written at once, and waits for it.
    pub(super) async fn finish(mut self) {
        let write = async {
            while self.writing.is_some() || self.wanted.is_some() {
                match &mut self.writing {
                    Some(writing) => {
                        let result = writing.await;
                        self.writing = None;
                        // Another attempt at the end of the process would hardly fare better.
                        let failed = !matches!(result, Ok(Ok(())));
                        self.take(result);
                        if failed {
                            return;
                        }
                    }
                    None => self.begin(),
                }
            }
        };
        if timeout(FINISH, write).await.is_err() {
            warn!("the last known good state was not written in time");
        }
    }

    fn begin(&mut self) {
        let (Some(path), Some(state)) = (self.path.clone(), self.wanted.take()) else { return };
        self.written.clone_from(&state);
        self.begun = Instant::now();
        self.writing = Some(spawn_blocking(move || lastgood::save(&path, &state)));
    }

    fn take(&mut self, result: Result<Result<(), SaveError>, tokio::task::JoinError>) {
        self.pause = Instant::now() + PAUSE.max(self.begun.elapsed() * PAUSE_FACTOR);
        let failure = match result {
            Ok(Ok(())) => {
                self.telemetry.saved(Outcome::Success);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        self.telemetry.saved(Outcome::Failure);
        error!("the last known good state cannot be written; trying again: {failure}");
        let lost = std::mem::take(&mut self.written);
        self.wanted.get_or_insert(lost);
    }
}

/// Whether two states have the same content on disk, by pointers: what is not kept does not count.
fn same(a: &LastGood, b: &LastGood) -> bool {
    a.registry == b.registry
        && a.views.len() == b.views.len()
        && a.views.iter().zip(&b.views).all(|(a, b)| {
            let parts = || {
                Arc::ptr_eq(&a.view.topologies, &b.view.topologies)
                    && Arc::ptr_eq(&a.view.pod_networks, &b.view.pod_networks)
                    && a.view.shards.changed(&b.view.shards).next().is_none()
            };
            let same = Arc::ptr_eq(&a.view, &b.view) || parts();
            a.name == b.name && a.source == b.source && same
        })
}
