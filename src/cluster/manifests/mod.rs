//! A directory of Kubernetes manifests as a source.
//!
//! *Owns*: which files there are, what each last held, and which object wins where two files hold
//! it. *Guarantees*: a change takes effect within a second; a file that cannot be read or parsed
//! keeps its last good content and touches no other; a directory that is gone or unreadable keeps
//! everything. *Does not*: look into subdirectories (as `kubectl apply -f` without `-R`).
//!
//! **Why it polls.** Every [`PERIOD`] each file's metadata is compared with what it was. inotify
//! would have to be backed by the same comparison: it is silent on network and FUSE mounts, loses
//! events when its queue is full, stays with the old inode when a directory is replaced, and has to
//! be re-armed through the `..data` link of a ConfigMap mount, where one rename of a link changes
//! every file behind it. One `stat` a file and period, about 1 µs each, is right in all these
//! cases, so there is no second mechanism.
//!
//! The narrowed objects of every file are kept, so that an object comes to light again when the
//! file that hid it goes; a directory therefore costs more memory than an API server.

mod file;
mod parse;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::warn;

use self::file::{File, Listing};
use self::parse::{Object, ObjectKey};
use super::narrow::Rules;
use super::state::{Change, Event};
use crate::model::Report;

/// The pause between two looks at the directory. A change takes effect when two looks agree on it,
/// so after about two periods, well within the second that is promised.
pub(super) const PERIOD: Duration = Duration::from_millis(200);

/// After so many looks in a row that all differ, a file is read although it is being written, and
/// no first list waits for it.
const RESTLESS_LOOKS: u8 = 3;

/// The directory as it was last read.
#[derive(Debug)]
pub(super) struct Scanner {
    directory: PathBuf,
    rules: Arc<Rules>,
    progress: Progress,
    /// Why the last look could not read the directory.
    trouble: Option<String>,
    last: Listing,
    files: BTreeMap<OsString, File>,
    /// Looks in a row at which a file's metadata differed.
    restless: HashMap<OsString, u8>,
    /// What is wrong with the files, as of the last that was read.
    faults: BTreeSet<Report>,
    /// What was last reported, and whether some file could never be read.
    reported: (BTreeSet<Report>, bool),
}

/// Whether the directory has ever been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Not yet, after so many looks.
    NeverRead { looks: u8 },
    /// It has.
    Read,
}

impl Scanner {
    /// A scanner that has not looked yet.
    pub(super) fn new(directory: PathBuf, rules: Arc<Rules>) -> Self {
        Self {
            directory,
            rules,
            progress: Progress::NeverRead { looks: 0 },
            trouble: None,
            last: Listing::new(),
            files: BTreeMap::new(),
            restless: HashMap::new(),
            faults: BTreeSet::new(),
            reported: (BTreeSet::new(), false),
        }
    }

    /// Why the last look could not read the directory, where it could not.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Looks at the directory once, and reads what has changed and stands still. Blocks on the
    /// file system.
    pub(super) fn scan(&mut self) -> Vec<Event> {
        let now = SystemTime::now();
        let listing = match file::list(&self.directory) {
            Ok(listing) => listing,
            Err(error) => {
                self.trouble = Some(error.to_string());
                let subject = self.directory.display().to_string().into();
                let reason = format!(
                    "the directory cannot be read: {error}; what was last read stays in force"
                );
                return self.report(Some(Report { subject, reason: reason.into() }));
            }
        };
        self.trouble = None;
        let mut touched = HashSet::new();
        let due = self.due(&listing);
        let any_due = !due.is_empty();
        for name in due {
            match listing.get(&name) {
                Some(stamp) => {
                    let path = self.directory.join(&name);
                    let file = self.files.entry(name).or_default();
                    file.reread(&path, stamp, now, &self.rules, &mut touched);
                }
                None => {
                    let file = self.files.remove(&name);
                    touched.extend(file.iter().flat_map(File::keys));
                }
            }
        }
        if any_due {
            self.faults = self.files.values().flat_map(File::reports).collect();
            self.faults.extend(self.hidden());
        }
        let unsteady = self.is_unsteady(&listing);
        self.last = listing;
        let mut events = match self.progress {
            Progress::NeverRead { looks } if unsteady && looks < RESTLESS_LOOKS => {
                self.progress = Progress::NeverRead { looks: looks + 1 };
                return Vec::new();
            }
            Progress::NeverRead { .. } => {
                self.progress = Progress::Read;
                self.first_list()
            }
            Progress::Read => self.changes(&touched),
        };
        events.extend(self.report(None));
        events
    }

    /// Whether a file is faulty that two looks have not found alike: it may be half written, and
    /// the first list would say that what it holds is not there.
    fn is_unsteady(&self, listing: &Listing) -> bool {
        let mut faulty = self.files.iter().filter(|(_, file)| file.is_faulty());
        faulty.any(|(name, _)| self.last.get(name) != listing.get(name))
    }

    /// The files to read, or to forget where they are gone: those whose metadata differ from what
    /// was read and have stood still since the last look. So a file that is being written is left
    /// alone until it is whole, and one that is replaced by deletion and creation never vanishes.
    fn due(&mut self, listing: &Listing) -> Vec<OsString> {
        let names: BTreeSet<&OsString> = listing.keys().chain(self.files.keys()).collect();
        let mut due = Vec::new();
        let mut restless = HashMap::new();
        for name in names {
            let now = listing.get(name);
            let file = self.files.get(name);
            let differs = file.and_then(File::stamp) != now;
            if !differs && file.is_none_or(File::is_settled) {
                continue;
            }
            let looks = self.restless.get(name).copied().unwrap_or(0);
            let still = !differs || self.last.get(name) == now;
            let never_read = matches!(self.progress, Progress::NeverRead { .. });
            if never_read || still || looks >= RESTLESS_LOOKS {
                due.push(name.clone());
            } else {
                restless.insert(name.clone(), looks + 1);
            }
        }
        self.restless = restless;
        due
    }

    /// Everything, as a first complete list of each kind.
    fn first_list(&self) -> Vec<Event> {
        let mut events = vec![
            Event::Service(Change::Init),
            Event::Slice(Change::Init),
            Event::Node(Change::Init),
            Event::Export(Change::Init),
        ];
        let all = self.files.values().flat_map(File::keys).collect();
        events.extend(self.in_force(&all).into_values().map(|object| match object.clone() {
            Object::Service(service) => Event::Service(Change::InitApply(service)),
            Object::Slice(slice) => Event::Slice(Change::InitApply(slice)),
            Object::Node(node) => Event::Node(Change::InitApply(node)),
            Object::Export(export) => Event::Export(Change::InitApply(export)),
        }));
        events.extend([
            Event::Service(Change::InitDone),
            Event::Slice(Change::InitDone),
            Event::Node(Change::InitDone),
            Event::Export(Change::InitDone),
        ]);
        events
    }

    /// What became of the `touched` objects.
    fn changes(&self, touched: &HashSet<ObjectKey>) -> Vec<Event> {
        if touched.is_empty() {
            return Vec::new();
        }
        let in_force = self.in_force(touched);
        let gone = touched.iter().filter(|key| !in_force.contains_key(key)).map(|key| match *key {
            ObjectKey::Service(id) => Event::Service(Change::Delete(id)),
            ObjectKey::Slice(id) => Event::Slice(Change::Delete(id)),
            ObjectKey::Node(id) => Event::Node(Change::Delete(id)),
            ObjectKey::Export(id) => Event::Export(Change::Delete(id)),
        });
        let present = in_force.values().map(|&object| match object.clone() {
            Object::Service(service) => Event::Service(Change::Apply(service)),
            Object::Slice(slice) => Event::Slice(Change::Apply(slice)),
            Object::Node(node) => Event::Node(Change::Apply(node)),
            Object::Export(export) => Event::Export(Change::Apply(export)),
        });
        // What is new first: a service whose slice is renamed keeps its endpoints throughout.
        present.chain(gone).collect()
    }

    /// Those of the `wanted` objects that some file holds, each from the last file by name. One
    /// walk over all objects, some nanoseconds each: far less than reading a changed file costs.
    fn in_force(&self, wanted: &HashSet<ObjectKey>) -> HashMap<ObjectKey, &Object> {
        let all = self.files.values().flat_map(File::objects);
        all.filter(|(key, _)| wanted.contains(key)).collect()
    }

    /// An event where the source reports something else than before.
    fn report(&mut self, trouble: Option<Report>) -> Vec<Event> {
        if let Some(trouble) = &trouble
            && matches!(self.progress, Progress::NeverRead { .. })
            && !self.reported.0.contains(trouble)
        {
            // There is no view yet that could show it.
            warn!(subject = %trouble.subject, reason = %trouble.reason, "waiting for manifests");
        }
        let mut reports = self.faults.clone();
        reports.extend(trouble);
        // What such a file holds is unknown, as if the directory had not been read at all.
        let partial = self.files.values().any(File::is_unread);
        let told = (reports, partial);
        if told == self.reported {
            return Vec::new();
        }
        self.reported = told.clone();
        vec![Event::Source { reports: told.0, partial }]
    }

    /// Objects that are not in force because a later file holds them too.
    fn hidden(&self) -> Vec<Report> {
        let mut winners: HashMap<ObjectKey, &OsString> = HashMap::new();
        let mut hidden = Vec::new();
        for (name, file) in self.files.iter().rev() {
            for located in file.located() {
                match winners.get(&located.object.key()) {
                    Some(winner) => hidden.push(file::at(
                        &self.directory.join(name),
                        Some(located.line),
                        format!(
                            "{} also stands in {}, which comes later by name and is in force",
                            located.name,
                            winner.display()
                        ),
                    )),
                    None => {
                        winners.insert(located.object.key(), name);
                    }
                }
            }
        }
        hidden
    }
}

#[cfg(test)]
mod tests;
