//! Keeps up with the overrides file.
//!
//! *Guarantees*: a file that is broken, missing or half written is told of and leaves the rules
//! before it in force. *Does not*: block the async threads.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinError;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use super::{FileError, Overrides, Rule, parse};
use crate::model::Report;

/// How often the file is looked at: an operator in an emergency waits for two looks.
const POLL: Duration = Duration::from_millis(250);

/// What tells one state of a file from another without reading it; `None` where there is none.
type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

fn stamp(file: &Path) -> Stamp {
    let data = fs::metadata(file).ok()?;
    let (modified, changed) =
        ((data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec()));
    Some((data.dev(), data.ino(), data.size(), modified, changed))
}

/// Reads the rules of a file.
///
/// # Errors
/// [`FileError`], where it cannot be read or holds anything that is no override.
pub fn load(file: &Path) -> Result<Vec<Rule>, FileError> {
    let unreadable = |error: io::Error| FileError::Read { file: file.to_owned(), error };
    let text = fs::read_to_string(file).map_err(unreadable)?;
    parse(&text).map_err(|faults| FileError::Faults { file: file.to_owned(), faults })
}

/// The file and what of it is in force. All methods block; [`run`] drives it.
#[derive(Debug)]
pub struct Loader {
    file: Option<PathBuf>,
    /// What it looked like at the last look, and when it was last read.
    seen: Stamp,
    read: Stamp,
    current: Arc<Overrides>,
}

impl Loader {
    /// A loader that has read the file, where there is one: what it says counts from the start.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Self {
        let mut loader = Self { file: None, seen: None, read: None, current: Arc::default() };
        loader.configure(file);
        loader
    }

    /// A loader that goes on from what is in force of a file, and reads it at its second look.
    #[must_use]
    pub fn resume(file: Option<PathBuf>, current: Arc<Overrides>) -> Self {
        Self { file, seen: None, read: None, current }
    }

    /// Goes over to another file, or to none. Where it cannot be used, the rules of the one before
    /// stay in force.
    pub fn configure(&mut self, file: Option<PathBuf>) {
        self.file = file;
        match self.file.clone() {
            Some(file) => {
                self.seen = stamp(&file);
                self.read(&file);
            }
            None => self.current = Arc::default(),
        }
    }

    /// The rules in force.
    #[must_use]
    pub fn current(&self) -> &Arc<Overrides> {
        &self.current
    }

    /// Looks at the file, and reads it where it has changed and is no longer being written to: at
    /// the second look that finds it alike. Says whether there is anything new.
    pub fn refresh(&mut self) -> bool {
        let Some(file) = self.file.clone() else { return false };
        let now = stamp(&file);
        let settled = std::mem::replace(&mut self.seen, now) == now;
        if !settled || self.read == now {
            return false;
        }
        self.read(&file);
        true
    }

    fn read(&mut self, file: &Path) {
        self.read = self.seen;
        self.current = Arc::new(match load(file) {
            Ok(rules) => {
                info!(file = %file.display(), rules = rules.len(), "loaded overrides");
                Overrides { rules, fault: None }
            }
            Err(error) => {
                error!("{error}");
                error!(
                    in_force = self.current.rules.len(),
                    "the overrides are refused; those read before stay in force"
                );
                let subject = format!("overrides {}", file.display()).into();
                let fault = Some(Report { subject, reason: error.to_string().into() });
                Overrides { rules: self.current.rules.clone(), fault }
            }
        });
    }
}

/// Keeps `overrides` up to date with the file that `files` names, and wakes whoever publishes. Ends
/// when no one is left who changes `files`.
///
/// # Errors
/// Where reading the file has panicked, which only a defect brings about; what is published stays in
/// force.
pub async fn run(
    mut loader: Loader,
    mut files: watch::Receiver<Option<PathBuf>>,
    overrides: watch::Sender<Arc<Overrides>>,
    wake: Arc<Notify>,
) -> Result<(), JoinError> {
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let other = tokio::select! {
            _ = poll.tick() => None,
            changed = files.changed() => match changed {
                Ok(()) => Some(files.borrow_and_update().clone()),
                Err(_) => return Ok(()),
            },
        };
        let looked = tokio::task::spawn_blocking(move || match other {
            Some(file) => {
                loader.configure(file);
                (loader, true)
            }
            None => {
                let new = loader.refresh();
                (loader, new)
            }
        });
        let new;
        (loader, new) = looked.await?;
        if new {
            overrides.send_replace(loader.current().clone());
            wake.notify_one();
        }
    }
}
