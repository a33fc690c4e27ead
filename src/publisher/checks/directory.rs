//! Ballots in a shared directory, for federations without a Kubernetes home.
//!
//! One file an instance, `CLUSTER.INSTANCE.json`, replaced at one stroke. Files are found by
//! polling: notifications are silent on network mounts, which is what such a directory is on.
//! Whether a ballot counts is the council's to say: a file that is there proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time;

use crate::health::votes::{Ballot, BallotBox, BallotError, Heard, MAX_TEXT};
use crate::model::{Label, Report};

/// How often the directory is looked at: as often as that of manifests is too much for a network
/// mount, and a vote that comes half a second late matters little beside three failures.
const LOOK: Duration = Duration::from_millis(500);

/// A file that has not changed for so long was left behind by an instance that is gone; those of
/// our own cluster are removed, as every pod has another name.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// What is known of a directory. Its methods block on the file system.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    files: BTreeMap<PathBuf, Known>,
    /// What was last written.
    written: Option<Arc<Ballot>>,
    write_fault: Option<Report>,
}

/// A file as of the last look.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    since: Instant,
    /// What it holds, or last held that could be read.
    ballot: Option<Arc<Ballot>>,
    fault: Option<Report>,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(data: &Metadata) -> Self {
        Self { inode: data.ino(), size: data.len(), modified: (data.mtime(), data.mtime_nsec()) }
    }
}

/// Why a ballot cannot be read or written; the next look tries again.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it has {0} octets, more than any ballot")]
    TooLong(u64),
    #[error("{0}")]
    Content(#[from] BallotError),
    #[error("it is named otherwise than the ballot of {0} that it holds")]
    Misnamed(String),
    #[error("another instance writes it too: give each its own health.votes.instance")]
    Shared,
    #[error("it cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}

/// Carries ballots for ever. A directory that hangs or is away stops only the hearing: ballots
/// that are not seen to be renewed cease to count.
pub(super) async fn carry(path: PathBuf, mut ballots: BallotBox) {
    let mut directory =
        Directory { path, files: BTreeMap::new(), written: None, write_fault: None };
    let mut looks = time::interval(LOOK);
    looks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            changed = ballots.own.changed() => if changed.is_err() { return },
        }
        let own = ballots.own.borrow_and_update().clone();
        let look = spawn_blocking(move || {
            if let Some(own) = own {
                directory.write(own);
            }
            let heard = directory.look(Instant::now());
            (directory, heard)
        });
        let heard;
        (directory, heard) = match look.await {
            Ok(done) => done,
            // Only a panic, which the runtime has logged, or the runtime's end.
            Err(_) => return,
        };
        ballots.heard.send_if_modified(|before| {
            let changed = *before != heard;
            *before = heard;
            changed
        });
    }
}

impl Directory {
    /// Writes a ballot of our own, unless that has been done.
    fn write(&mut self, own: Arc<Ballot>) {
        if self.written.as_ref().is_some_and(|written| Arc::ptr_eq(written, &own)) {
            return;
        }
        let path = self.file(&own);
        let written = own.encode().map_err(Fault::from).and_then(|encoded| {
            // Hidden, and so read by nobody.
            let staging = self.path.join(format!(".{}.{}.new", own.voter, own.instance));
            fs::write(&staging, encoded.text)?;
            Ok(fs::rename(&staging, &path)?)
        });
        self.write_fault = match written {
            Ok(()) => {
                self.written = Some(own);
                None
            }
            Err(fault) => Some(report(&path, &format!("our ballot cannot be written: {fault}"))),
        };
    }

    fn file(&self, ballot: &Ballot) -> PathBuf {
        self.path.join(format!("{}.{}.json", ballot.voter, ballot.instance))
    }

    /// Reads what has changed since the last look.
    fn look(&mut self, now: Instant) -> Heard {
        let mut faults = BTreeSet::from_iter(self.write_fault.clone());
        match self.list() {
            Ok(found) => {
                self.files.retain(|path, _| found.contains_key(path));
                for (path, stamp) in found {
                    self.read(path, stamp, now);
                }
            }
            Err(error) => {
                let reason = format!("the votes of others cannot be read: {error}");
                faults.insert(report(&self.path, &reason));
            }
        }
        self.sweep(now);
        faults.extend(self.files.values().filter_map(|known| known.fault.clone()));
        let ballots = self.files.values().filter_map(|known| known.ballot.clone());
        Heard { ballots: ballots.collect(), faults }
    }

    fn list(&self) -> io::Result<BTreeMap<PathBuf, Stamp>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let hidden = path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
            if hidden || path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            // One that has gone meanwhile is as one that was not there.
            if let Ok(data) = fs::metadata(&path) {
                found.insert(path, Stamp::from(&data));
            }
        }
        Ok(found)
    }

    fn read(&mut self, path: PathBuf, stamp: Stamp, now: Instant) {
        let before = self.files.remove(&path);
        let known = match before {
            Some(known) if known.stamp == stamp => known,
            before => {
                let (ballot, fault) = match self.parse(&path) {
                    Ok(ballot) => (Some(Arc::new(ballot)), None),
                    Err(fault) => (
                        before.and_then(|known| known.ballot),
                        Some(report(&path, &format!("this ballot does not count: {fault}"))),
                    ),
                };
                Known { stamp, since: now, ballot, fault }
            }
        };
        self.files.insert(path, known);
    }

    fn parse(&self, path: &Path) -> Result<Ballot, Fault> {
        // Twice as much, for what a later version adds.
        let most = 2 * MAX_TEXT as u64;
        let file = fs::File::open(path)?;
        let size = file.metadata()?.len();
        if size > most {
            return Err(Fault::TooLong(size));
        }
        let mut text = String::new();
        file.take(most).read_to_string(&mut text)?;
        let ballot = Ballot::decode(&text)?;
        if self.file(&ballot) != path {
            return Err(Fault::Misnamed(ballot.to_string()));
        }
        let ours = self
            .written
            .as_ref()
            .filter(|own| (&own.voter, &own.instance) == (&ballot.voter, &ballot.instance));
        match ours {
            Some(own) if own.run != ballot.run => Err(Fault::Shared),
            _ => Ok(ballot),
        }
    }

    /// Removes what gone instances of our own cluster have left behind.
    fn sweep(&mut self, now: Instant) {
        let Some(own) = self.written.as_ref().map(|own| own.voter.clone()) else { return };
        let left = |voter: &Label, known: &Known| {
            *voter == own && now.saturating_duration_since(known.since) > LEFT_BEHIND
        };
        for (path, known) in &self.files {
            let voter = known.ballot.as_ref().map(|ballot| &ballot.voter);
            if voter.is_some_and(|voter| left(voter, known)) {
                // Where that fails it is tried again at the next look.
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn report(path: &Path, reason: &str) -> Report {
    Report { subject: path.display().to_string().into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::health::votes::{Sight, Sights};

    fn label(text: &str) -> Label {
        Label::parse(text).expect("a label")
    }

    fn ballot(voter: &str, run: u64, renewal: u64) -> Arc<Ballot> {
        let sight = Sight { since: 7, why: "refused".into() };
        let clusters = [(label("dark"), sight)].into();
        let sights = Arc::new(Sights { clusters, ..Sights::default() });
        Arc::new(Ballot { voter: label(voter), instance: "one".into(), run, renewal, sights })
    }

    fn open(path: &Path) -> Directory {
        let (path, files) = (path.to_owned(), BTreeMap::new());
        Directory { path, files, written: None, write_fault: None }
    }

    fn reasons(heard: &Heard) -> Vec<&str> {
        heard.faults.iter().map(|fault| &*fault.reason).collect()
    }

    #[test]
    fn what_one_writes_all_read() {
        let shared = TempDir::new().expect("a directory");
        let (mut a, mut b) = (open(shared.path()), open(shared.path()));
        let now = Instant::now();
        a.write(ballot("a", 1, 1));
        b.write(ballot("b", 2, 1));
        for directory in [&mut a, &mut b] {
            let heard = directory.look(now);
            assert_eq!(heard.ballots, [ballot("a", 1, 1), ballot("b", 2, 1)]);
            assert!(heard.faults.is_empty(), "{heard:?}");
        }
        b.write(ballot("b", 2, 2));
        assert_eq!(a.look(now).ballots, [ballot("a", 1, 1), ballot("b", 2, 2)]);
        fs::remove_file(shared.path().join("b.one.json")).expect("there");
        assert_eq!(a.look(now).ballots, [ballot("a", 1, 1)]);
    }

    #[test]
    fn a_bad_file_is_told_of_and_stops_no_other() {
        let shared = TempDir::new().expect("a directory");
        let mut a = open(shared.path());
        let write = |name: &str, text: &str| {
            fs::write(shared.path().join(name), text).expect("writable");
        };
        open(shared.path()).write(ballot("b", 2, 1));
        assert_eq!(a.look(Instant::now()).ballots.len(), 1);
        write("b.one.json", "{");
        write("c.one.json", &ballot("b", 2, 1).encode().expect("plain").text);
        write("notes.txt", "no ballot");
        write(".d.one.json", "hidden");
        write("e.one.json", &" ".repeat(2 * MAX_TEXT + 1));
        let heard = a.look(Instant::now());
        assert_eq!(heard.ballots, [ballot("b", 2, 1)], "what was last read; it ages");
        let reasons = reasons(&heard);
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        assert!(reasons[0].starts_with("this ballot does not count: it is no ballot: EOF"));
        assert!(reasons[1].contains("otherwise than the ballot of b/one"), "{reasons:?}");
        assert!(reasons[2].contains("more than any ballot"), "{reasons:?}");
    }

    #[test]
    fn a_directory_that_is_away_is_told_of() {
        let shared = TempDir::new().expect("a directory");
        let mut a = open(&shared.path().join("none"));
        a.write(ballot("a", 1, 1));
        let heard = a.look(Instant::now());
        let reasons = reasons(&heard);
        assert!(reasons.iter().any(|r| r.starts_with("our ballot cannot be written: ")));
        assert!(reasons.iter().any(|r| r.starts_with("the votes of others cannot be read: ")));
        fs::create_dir(shared.path().join("none")).expect("new");
        a.write(ballot("a", 1, 2));
        let heard = a.look(Instant::now());
        assert_eq!((heard.ballots.len(), heard.faults.len()), (1, 0));
    }

    #[test]
    fn two_that_write_the_same_file_are_told() {
        let shared = TempDir::new().expect("a directory");
        let (mut a, mut twin) = (open(shared.path()), open(shared.path()));
        a.write(ballot("a", 1, 1));
        assert!(a.look(Instant::now()).faults.is_empty());
        twin.write(ballot("a", 2, 1));
        let heard = a.look(Instant::now());
        assert!(reasons(&heard)[0].contains("another instance writes it too"), "{heard:?}");
    }

    #[test]
    fn what_gone_instances_of_our_cluster_left_behind_is_removed() {
        let shared = TempDir::new().expect("a directory");
        let now = Instant::now();
        let other = Arc::new(Ballot { instance: "two".into(), ..(*ballot("a", 2, 1)).clone() });
        open(shared.path()).write(other);
        open(shared.path()).write(ballot("b", 3, 1));
        let mut a = open(shared.path());
        a.write(ballot("a", 1, 1));
        assert_eq!(a.look(now).ballots.len(), 3);
        let late = now + LEFT_BEHIND + Duration::from_secs(1);
        a.write(ballot("a", 1, 2));
        a.look(late);
        let heard = a.look(late);
        assert_eq!(heard.ballots, [ballot("a", 1, 2), ballot("b", 3, 1)]);
    }
}
