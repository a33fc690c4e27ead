//! Telling threads and tasks to stop.

use tokio::sync::watch;

/// Asks every [`Stop`] made from it to stop when it is dropped.
#[derive(Debug)]
pub(super) struct StopSource(watch::Sender<()>);

/// Sees that the source was dropped.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<()>);

impl StopSource {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    pub(super) fn stop(&self) -> Stop {
        Stop(self.0.subscribe())
    }
}

impl Stop {
    /// Whether to stop; one atomic load.
    pub(super) fn requested(&self) -> bool {
        // An error says that the sender is gone; nothing is ever sent.
        self.0.has_changed().is_err()
    }

    /// Waits until it is time to stop.
    pub(super) async fn wait(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
