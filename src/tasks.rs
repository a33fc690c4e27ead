//! Tasks that run as long as somebody needs what they do, and long work in pieces.
//!
//! *Owns*: what happens where one ends that should not, by a panic or because a part of it has
//! ended so. *Guarantees*: it is logged and counted, and the task is begun anew after a pause that
//! grows; whatever it had told before stays in force meanwhile. *Does not*: keep what a task knew:
//! each begins as at the start of the process.
//!
//! Those few that cannot begin anew, as the publisher, end the process instead: whoever started it
//! starts another.

mod pieces;

use std::any::Any;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{Instrument, Span, error};

pub use self::pieces::Pieces;
use crate::telemetry::{Task, TaskMetrics};

/// How a task has ended, other than by a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nobody needs it any more.
    Unneeded,
    /// A part of it has ended that should not have.
    Broken(&'static str),
}

/// A task that is kept running; it ends when this is dropped.
#[derive(Debug)]
pub struct Kept(JoinHandle<()>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long to wait until a task is begun anew.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// After the first time; twice as long after each further one.
    first: Duration,
    /// The most that this grows to; one that has run for so long has begun well.
    longest: Duration,
}

/// A second is nothing beside what such a task does, and what fails at once each time costs little
/// once a minute.
const PACE: Pace = Pace { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// Runs what `make` makes within the current tokio runtime, until it says that nobody needs it; where
/// it ends otherwise, what `make` makes then.
#[must_use]
pub fn keep<F>(task: Task, metrics: &TaskMetrics, make: impl FnMut() -> F + Send + 'static) -> Kept
where
    F: Future<Output = Ended> + Send + 'static,
{
    keep_at(PACE, task, metrics.clone(), make)
}

fn keep_at<F>(
    pace: Pace,
    task: Task,
    metrics: TaskMetrics,
    mut make: impl FnMut() -> F + Send + 'static,
) -> Kept
where
    F: Future<Output = Ended> + Send + 'static,
{
    let run = async move {
        let mut pause = pace.first;
        loop {
            let began = Instant::now();
            // It ends with this task.
            let mut running = Running(tokio::spawn(make().in_current_span()));
            let reason = match (&mut running.0).await {
                Ok(Ended::Unneeded) => return,
                Ok(Ended::Broken(part)) => format!("{part} has ended"),
                Err(ended) => match ended.try_into_panic() {
                    Ok(panic) => format!("it has panicked: {}", words(&*panic)),
                    // The runtime is ending.
                    Err(_) => return,
                },
            };
            metrics.restarted(task);
            if began.elapsed() >= pace.longest {
                pause = pace.first;
            }
            error!(
                task = task.label(),
                reason,
                ?pause,
                "a task has failed by a fault of ours, and begins anew"
            );
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(pace.longest);
        }
    };
    Kept(tokio::spawn(run.instrument(Span::current())))
}

/// A task that ends with its owner.
struct Running(JoinHandle<Ended>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a panic was told.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::telemetry::Telemetry;

    const AT_ONCE: Pace = Pace { first: Duration::ZERO, longest: Duration::ZERO };

    fn restarts(telemetry: &Telemetry) -> bool {
        telemetry.render().contains("meridian_task_restarts_total{task=\"overrides\"} 2")
    }

    /// Waits no longer than a test may take.
    async fn within<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), what).await.expect("in time")
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(test);
    }

    #[test]
    fn one_that_panics_or_breaks_is_begun_anew_and_counted() {
        run(async {
            let telemetry = Telemetry::new("example.com");
            let (began, mut seen) = mpsc::unbounded_channel();
            let mut turn = 0;
            let make = move || {
                turn += 1;
                let (turn, began) = (turn, began.clone());
                async move {
                    began.send(turn).expect("the test listens");
                    match turn {
                        1 => panic!("by the test"),
                        2 => Ended::Broken("a part"),
                        _ => Ended::Unneeded,
                    }
                }
            };
            let kept = keep_at(AT_ONCE, Task::Overrides, telemetry.tasks().clone(), make);
            for turn in 1..=3 {
                assert_eq!(within(seen.recv()).await, Some(turn));
            }
            assert_eq!(within(seen.recv()).await, None, "then nobody needs it");
            assert!(restarts(&telemetry), "{}", telemetry.render());
            drop(kept);
        });
    }

    #[test]
    fn it_ends_with_whoever_holds_it() {
        run(async {
            let telemetry = Telemetry::new("example.com");
            let (held, mut seen) = watch::channel(());
            let held = Arc::new(held);
            let make = move || {
                let held = held.clone();
                async move {
                    let _held = held;
                    std::future::pending().await
                }
            };
            let kept = keep(Task::Checks, telemetry.tasks(), make);
            // It runs before anything else does.
            tokio::task::yield_now().await;
            drop(kept);
            assert!(within(seen.changed()).await.is_err(), "nothing of it is left");
        });
    }

    #[test]
    fn panics_are_told_in_their_own_words() {
        assert_eq!(words(&"static"), "static");
        assert_eq!(words(&"made up".to_owned()), "made up");
        assert_eq!(words(&7), "no reason");
    }
}
