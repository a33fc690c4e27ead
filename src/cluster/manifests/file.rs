//! One file of the directory: its metadata, its last good content, its faults.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fmt::Display;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foldhash::fast::FixedState;

use super::parse::{self, Fault, Located, Object, ObjectKey};
use crate::cluster::narrow::Rules;
use crate::model::Report;

/// The manifest files of a directory, by name.
pub(super) type Listing = BTreeMap<OsString, Stamp>;

/// A file's metadata: equal where the content is, but for what [`File::is_settled`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Unlike the time of modification, this one cannot be set back by `touch` or `cp -p`.
    changed: (i64, i64),
}

/// File systems keep times to 2 s (FAT) or a clock tick: a file that was changed less than this
/// before it was read may change once more without its metadata telling.
const TIME_GRANULARITY: Duration = Duration::from_secs(2);

/// Lists the manifests: regular files, also behind links, named `*.yaml`, `*.yml` or `*.json`.
/// Hidden files are none: editors' swap files, and the `..data` of a ConfigMap mount, whose files
/// are found by the links beside it.
pub(super) fn list(directory: &Path) -> io::Result<Listing> {
    let mut listing = Listing::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !is_manifest(&name) {
            continue;
        }
        match std::fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_file() => {
                listing.insert(name, Stamp::new(&metadata));
            }
            // A directory or pipe is no manifest.
            Ok(_) => {}
            // Gone since it was listed, or a link to nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Say, a loop of links. Reading it tells why it cannot be read, and no other suffers.
            Err(_) => {
                listing.insert(name, Stamp::default());
            }
        }
    }
    Ok(listing)
}

fn is_manifest(name: &OsString) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    !name.as_encoded_bytes().starts_with(b".")
        && extension.is_some_and(|extension| {
            ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
        })
}

impl Stamp {
    fn new(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the last change lies far enough before `now` for another to show.
    fn is_settled_at(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(self.changed.0.try_into().unwrap_or(0));
        now > changed + TIME_GRANULARITY
    }
}

/// A report on a place in a file.
pub(super) fn at(path: &Path, line: Option<u64>, reason: impl Display) -> Report {
    let subject = match line {
        Some(line) => format!("{}:{line}", path.display()),
        None => path.display().to_string(),
    };
    Report { subject: subject.into(), reason: reason.to_string().into() }
}

/// One file as it was last read.
#[derive(Debug, Default)]
pub(super) struct File {
    stamp: Option<Stamp>,
    settled: bool,
    /// Hash of the content that was last parsed, well or not.
    content: Option<u64>,
    /// Whether it could ever be read.
    ever_read: bool,
    /// Its last good objects, each once.
    objects: Vec<Located>,
    /// Objects of those that stood in it more than once.
    repeated: Vec<Report>,
    /// Why its present content is not in force.
    fault: Option<Report>,
}

impl File {
    /// Its metadata when it was read.
    pub(super) fn stamp(&self) -> Option<&Stamp> {
        self.stamp.as_ref()
    }

    /// Whether any later change must show in the metadata.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Takes `stamp` for the one that it was read with.
    #[cfg(test)]
    pub(super) fn pretend_stamp(&mut self, stamp: &Stamp) {
        self.stamp = Some(stamp.clone());
    }

    /// Its last good objects.
    pub(super) fn located(&self) -> impl Iterator<Item = &Located> {
        self.objects.iter()
    }

    /// Its last good objects by key.
    pub(super) fn objects(&self) -> impl Iterator<Item = (ObjectKey, &Object)> {
        self.objects.iter().map(|located| (located.object.key(), &located.object))
    }

    /// The keys of its last good objects.
    pub(super) fn keys(&self) -> impl Iterator<Item = ObjectKey> {
        self.objects.iter().map(|located| located.object.key())
    }

    /// What is wrong with it.
    pub(super) fn reports(&self) -> impl Iterator<Item = Report> {
        self.repeated.iter().chain(&self.fault).cloned()
    }

    /// Whether its present content is not in force.
    pub(super) fn is_faulty(&self) -> bool {
        self.fault.is_some()
    }

    /// Whether none of its contents could be read so far.
    pub(super) fn is_unread(&self) -> bool {
        !self.ever_read
    }

    /// Reads it; adds to `touched` the objects that are no longer what they were.
    pub(super) fn reread(
        &mut self,
        path: &Path,
        stamp: &Stamp,
        now: SystemTime,
        rules: &Rules,
        touched: &mut HashSet<ObjectKey>,
    ) {
        self.stamp = Some(stamp.clone());
        self.settled = stamp.is_settled_at(now);
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                // So that the same content is parsed anew, which clears the fault.
                self.content = None;
                let reason = format!("cannot be read: {error}; {}", self.kept());
                self.fault = Some(at(path, None, reason));
                return;
            }
        };
        let content = FixedState::default().hash_one(&bytes);
        if self.content.replace(content) == Some(content) {
            return;
        }
        match parse::parse(&bytes, rules) {
            // What `kubectl ... > FILE` leaves while it runs and when it fails.
            Ok(None) if !self.objects.is_empty() => {
                let reason = format!("is empty; {}; delete it to remove its objects", self.kept());
                self.fault = Some(at(path, None, reason));
            }
            Ok(objects) => {
                self.fault = None;
                self.ever_read = true;
                self.replace(path, objects.unwrap_or_default(), touched);
            }
            Err(Fault { line, reason }) => {
                self.fault = Some(at(path, line, format!("{reason}; {}", self.kept())));
            }
        }
    }

    fn kept(&self) -> &'static str {
        if self.objects.is_empty() {
            "nothing of this file is in force"
        } else {
            "its last good content stays in force"
        }
    }

    fn replace(&mut self, path: &Path, parsed: Vec<Located>, touched: &mut HashSet<ObjectKey>) {
        let mut last: HashMap<ObjectKey, usize> = HashMap::with_capacity(parsed.len());
        self.repeated.clear();
        for (index, located) in parsed.iter().enumerate() {
            if let Some(earlier) = last.insert(located.object.key(), index) {
                let reason = format!(
                    "{} stands again in line {}; the later one is in force",
                    located.name, located.line
                );
                self.repeated.push(at(path, Some(parsed[earlier].line), reason));
            }
        }
        let objects: Vec<Located> = parsed
            .into_iter()
            .enumerate()
            .filter(|(index, located)| last.get(&located.object.key()) == Some(index))
            .map(|(_, located)| located)
            .collect();
        let old: HashMap<ObjectKey, &Object> = self.objects().collect();
        for located in &objects {
            if old.get(&located.object.key()) != Some(&&located.object) {
                touched.insert(located.object.key());
            }
        }
        touched.extend(old.into_keys().filter(|key| !last.contains_key(key)));
        self.objects = objects;
    }
}
