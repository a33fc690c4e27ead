//! A changed configuration, taken over while running.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meridian::config::Config;
use meridian::publisher::Reload;
use meridian::server;
use meridian::telemetry::{self, Outcome, Telemetry};
use tokio::signal::unix::Signal;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::federation::Running;

/// How often the file is looked at: one system call, and people wait this long for an edit.
const LOOK: Duration = Duration::from_secs(1);

/// Watches the configuration file and SIGHUP.
pub(crate) struct Reloader {
    path: PathBuf,
    seen: Option<Stamp>,
    running: Running,
    /// The configuration in force.
    config: Config,
    /// Settings of sockets, which a running server keeps.
    sockets: server::Settings,
    /// Where the last known good state is kept, as long as it runs.
    kept: Option<PathBuf>,
    wake: Arc<Notify>,
    telemetry: Telemetry,
    reloads: mpsc::Sender<Reload>,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<Metadata> for Stamp {
    fn from(data: Metadata) -> Self {
        Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
        }
    }
}

impl Reloader {
    pub(crate) fn new(
        path: &Path,
        config: Config,
        running: Running,
        wake: Arc<Notify>,
        telemetry: Telemetry,
        reloads: mpsc::Sender<Reload>,
    ) -> Self {
        Self {
            seen: stamp(path),
            path: path.to_owned(),
            running,
            sockets: config.server.clone(),
            kept: config.publisher.last_known_good.clone(),
            config,
            wake,
            telemetry,
            reloads,
        }
    }

    /// Reloads at every SIGHUP and change of the file, until the publisher ends.
    pub(crate) async fn run(mut self, mut hangup: Option<Signal>) {
        loop {
            let told = async {
                match &mut hangup {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            let forced = tokio::select! {
                _ = told => true,
                () = sleep(LOOK) => false,
                () = self.running.registration_changed() => {
                    self.join().await;
                    continue;
                }
                () = self.reloads.closed() => return,
            };
            let now = stamp(&self.path);
            // A file that is gone for a moment is being replaced.
            let changed = now.is_some() && now != self.seen;
            if forced || changed {
                self.seen = now;
                self.reload().await;
            }
        }
    }

    /// What is invalid is refused whole, logged and counted while the old stays in force.
    async fn reload(&mut self) {
        let config = match Config::load(&self.path) {
            Ok(config) => config,
            Err(error) => {
                error!("{error}");
                error!("the configuration is refused; the old one stays in force");
                self.telemetry.reloaded(telemetry::Reload::Config, Outcome::Failure);
                return;
            }
        };
        for warning in &config.warnings {
            warn!(file = %self.path.display(), "{warning}");
        }
        if config.server != self.sockets || config.publisher.last_known_good != self.kept {
            warn!(
                "listen, dns.udpWorkers, dns.udpReceiveOffload, dns.tcp, shutdown and lastKnownGood \
                 take effect at the next start"
            );
        }
        self.config = config;
        self.join().await;
        info!(file = %self.path.display(), "configuration reloaded");
        self.telemetry.reloaded(telemetry::Reload::Config, Outcome::Success);
    }

    /// Runs the clusters of the configuration and those that are registered now.
    async fn join(&mut self) {
        let (running, reload) = Running::start(
            &self.config,
            &self.wake,
            Arc::default(),
            Some(&self.running),
            self.telemetry.tasks(),
        );
        self.running = running;
        // Nobody takes it where the publisher has ended, and the server with it.
        let _ = self.reloads.send(reload).await;
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(Stamp::from)
}
