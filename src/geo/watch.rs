//! Loads the configured databases, watches them, and publishes the atlas.
//!
//! *Owns*: the geography's only I/O. *Guarantees*: an atlas is published as soon as every database
//! has been tried once; a database that is missing, broken or half written leaves the one before
//! it in force. *Does not*: block the async threads: files are read and parsed on blocking ones.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{Atlas, Database, DatabaseError, Embedded, Settings, Summary, embedded};

/// How often the files are looked at. Databases appear weekly at most, so that seconds of delay do
/// not matter; looking costs one system call a file, and unlike notification it works on every
/// mount and through every chain of symbolic links, as Kubernetes makes them.
pub const POLL: Duration = Duration::from_secs(5);

/// What became of the configured databases.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The databases in the order of the configuration.
    pub databases: Vec<FileStatus>,
    /// The table that the program brings along, where it is used.
    pub embedded: Option<EmbeddedStatus>,
    /// How many loads have failed since the start.
    pub failures: u64,
}

/// What became of one configured database.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileStatus {
    /// The file.
    pub file: PathBuf,
    /// What is in force, where anything is.
    pub loaded: Option<Summary>,
    /// Why what the file holds now is not in force.
    pub error: Option<Box<str>>,
}

/// The table that the program brings along.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddedStatus {
    /// What there is to tell of it.
    #[serde(flatten)]
    pub summary: Summary,
    /// Whose data it is.
    pub attribution: &'static str,
}

/// Reads one database.
///
/// # Errors
/// [`DatabaseError`], where the file cannot be read or is no database that tells places.
pub fn load(file: &Path) -> Result<Database, DatabaseError> {
    let unreadable = |error: io::Error| DatabaseError::Unreadable { file: file.to_owned(), error };
    let bytes = fs::read(file).map_err(unreadable)?;
    Database::parse(file, &bytes)
}

/// The configured databases and what of them is in force. All methods block; [`run`] drives it.
#[derive(Debug, Default)]
pub struct Loader {
    settings: Settings,
    files: HashMap<PathBuf, FileState>,
    /// Of the table that the program brings along, where it is used.
    embedded: Option<Summary>,
    failures: u64,
    started: bool,
}

#[derive(Debug, Default)]
struct FileState {
    /// What the file looked like when it was last loaded or found wanting.
    tried: Option<Fingerprint>,
    /// What it looked like at the last look.
    seen: Option<Fingerprint>,
    database: Option<Arc<Database>>,
    error: Option<Box<str>>,
}

/// Tells a file from what it was before: replaced, written to, made readable, gone.
#[derive(Clone, Debug, PartialEq)]
enum Fingerprint {
    Present {
        device: u64,
        inode: u64,
        size: u64,
        modified: (i64, i64),
        /// Tells of changes of the permissions too, and cannot be set back by `cp -p`.
        changed: (i64, i64),
    },
    Absent,
}

impl Fingerprint {
    fn of(file: &Path) -> Self {
        match fs::metadata(file) {
            Ok(data) => Self::Present {
                device: data.dev(),
                inode: data.ino(),
                size: data.size(),
                modified: (data.mtime(), data.mtime_nsec()),
                changed: (data.ctime(), data.ctime_nsec()),
            },
            // Loading it will tell why.
            Err(_) => Self::Absent,
        }
    }
}

impl Loader {
    /// A loader of these databases that has not looked at them yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Takes other settings; databases that stay configured are not read again. The next
    /// [`Loader::refresh`] gives an atlas.
    pub fn configure(&mut self, settings: Settings) {
        self.files.retain(|file, _| settings.databases.contains(file));
        self.settings = settings;
        self.started = false;
    }

    /// Looks at the files and loads those that have changed and are no longer being written to:
    /// at the second look that finds them alike, but at once where nothing was loaded before.
    /// Gives a new atlas where there is anything new in it.
    pub fn refresh(&mut self) -> Option<Arc<Atlas>> {
        let mut changed = !self.started;
        self.started = true;
        for file in &self.settings.databases {
            let state = self.files.entry(file.clone()).or_default();
            let now = Fingerprint::of(file);
            let settled = state.seen.replace(now.clone()).is_none_or(|before| before == now);
            if settled && state.tried.as_ref() != Some(&now) {
                state.tried = Some(now);
                changed |= state.load(file, &mut self.failures);
            }
        }
        changed.then(|| self.atlas())
    }

    /// What became of the databases.
    #[must_use]
    pub fn status(&self) -> Status {
        let status = |file: &PathBuf| {
            let state = self.files.get(file);
            let database = state.and_then(|state| state.database.as_ref());
            FileStatus {
                file: file.clone(),
                loaded: database.map(|database| database.summary().clone()),
                error: state.and_then(|state| state.error.clone()),
            }
        };
        let databases = self.settings.databases.iter().map(status).collect();
        let embedded = self.embedded.clone();
        let embedded =
            embedded.map(|summary| EmbeddedStatus { summary, attribution: embedded::ATTRIBUTION });
        Status { databases, embedded, failures: self.failures }
    }

    fn atlas(&mut self) -> Arc<Atlas> {
        let files = self.settings.databases.iter().filter_map(|file| self.files.get(file));
        let mut databases: Vec<_> = files.filter_map(|state| state.database.clone()).collect();
        // Read anew each time, which is rare: kept, it would take more memory than the atlas needs
        // of it.
        let embedded = (self.settings.embedded == Embedded::Used).then(embedded::database);
        self.embedded = embedded.as_ref().map(|table| table.summary().clone());
        databases.extend(embedded);
        Arc::new(Atlas::build(&databases, &self.settings.networks))
    }
}

impl FileState {
    /// Loads the file; says whether another database is in force now.
    fn load(&mut self, file: &Path, failures: &mut u64) -> bool {
        // The reader is not ours and the file may hold anything: a panic in it is the file's fault
        // and must not take the other databases along.
        let loaded = std::panic::catch_unwind(|| load(file)).unwrap_or_else(|_| {
            Err(DatabaseError::Corrupt {
                file: file.to_owned(),
                reason: "the reader gave up".into(),
            })
        });
        match loaded {
            Ok(database) => {
                let summary = database.summary();
                info!(
                    file = %file.display(), kind = %summary.kind, places = summary.places,
                    "loaded database"
                );
                self.error = None;
                self.database = Some(Arc::new(database));
                true
            }
            Err(error) => {
                *failures += 1;
                let in_force = match self.database {
                    Some(_) => "the one loaded before stays in force",
                    None => "clients are placed without it",
                };
                warn!(%error, "cannot use database; {in_force}");
                self.error = Some(error.to_string().into());
                false
            }
        }
    }
}

/// Where [`run`] publishes.
#[derive(Debug)]
pub struct Channels {
    /// The atlas in force; `None` until every database has been tried once.
    pub atlas: watch::Sender<Option<Arc<Atlas>>>,
    /// What became of the databases, changed before the atlas is.
    pub status: watch::Sender<Status>,
}

/// Loads the databases, publishes the atlas, and keeps both up to date with the files and the
/// settings. Ends when no one is left who changes the settings.
pub async fn run(mut settings: watch::Receiver<Settings>, channels: Channels) {
    let mut loader = Loader::new(settings.borrow_and_update().clone());
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = poll.tick() => {}
            changed = settings.changed() => match changed {
                Ok(()) => loader.configure(settings.borrow_and_update().clone()),
                Err(_) => return,
            },
        }
        let looked = tokio::task::spawn_blocking(move || {
            let atlas = loader.refresh();
            (loader, atlas)
        });
        let atlas = match looked.await {
            Ok((back, atlas)) => {
                loader = back;
                atlas
            }
            Err(error) => {
                // Only a defect brings a panic here. What is published stays in force; the
                // databases are read anew at the next look.
                error!(%error, "reading databases failed");
                loader = Loader::new(settings.borrow().clone());
                continue;
            }
        };
        let status = loader.status();
        channels.status.send_if_modified(|old| {
            let modified = *old != status;
            *old = status;
            modified
        });
        if atlas.is_some() {
            channels.atlas.send_replace(atlas);
        }
    }
}

#[cfg(test)]
mod tests;
