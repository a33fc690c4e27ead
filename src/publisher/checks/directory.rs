//! Ballots in a shared directory, for federations without a Kubernetes home.
//!
//! One file an instance, `CLUSTER.INSTANCE.json`, replaced at one stroke; beside it, where only the
//! renewal is another than there, `CLUSTER.INSTANCE.renewal`, so that a long ballot is not written
//! again and again. Files are found by polling: notifications are silent on network mounts, which is what such a directory is on.
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
use tracing::info;

use crate::health::votes::{Ballot, BallotBox, BallotError, Heard, Leavings, MAX_TEXT, Renewal};
use crate::model::Report;
use crate::tasks::Ended;

/// How often the directory is looked at: as often as that of manifests is too much for a network
/// mount, and a vote that comes half a second late matters little beside three failures.
const LOOK: Duration = Duration::from_millis(500);

/// What a file beside a ballot is called that tells of its renewals.
const RENEWAL: &str = "renewal";

/// What is known of a directory. Its methods block on the file system.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    files: BTreeMap<PathBuf, Known>,
    /// What was last written.
    written: Option<Arc<Ballot>>,
    /// The file as that left it.
    left: Option<Stamp>,
    leavings: Leavings,
    write_fault: Option<Report>,
}

/// A file as of the last look.
#[derive(Debug)]
struct Known {
    /// Of what was read; `None` where that did not work out, so that the next look tries again.
    stamp: Option<Stamp>,
    /// What it holds; with a fault what was last heard of it, which nothing renews.
    ballot: Option<Arc<Ballot>>,
    fault: Option<Report>,
    renewal: Option<(Stamp, Renewal)>,
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

fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().as_ref().map(Stamp::from)
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
pub(super) async fn carry(path: PathBuf, mut ballots: BallotBox) -> Ended {
    let mut directory = Directory::new(path);
    let mut looks = time::interval(LOOK);
    looks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            changed = ballots.own.changed() => if changed.is_err() {
                return Ended::Unneeded;
            },
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
            Err(_) => return Ended::Broken("looking at the directory"),
        };
        ballots.heard.send_if_modified(|before| {
            let changed = *before != heard;
            *before = heard;
            changed
        });
    }
}

impl Directory {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            files: BTreeMap::new(),
            written: None,
            left: None,
            leavings: Leavings::default(),
            write_fault: None,
        }
    }

    /// Writes a ballot of our own, unless that has been done.
    fn write(&mut self, own: Arc<Ballot>) {
        if self.written.as_ref().is_some_and(|written| Arc::ptr_eq(written, &own)) {
            return;
        }
        let path = self.file(&own);
        let says = |ballot: &Ballot| (ballot.run, ballot.sights.clone());
        let same = self.written.as_ref().is_some_and(|written| says(written) == says(&own));
        // Unless it is as we left it, somebody has removed it or written another.
        let written = match same && self.left.is_some() && self.left == stamp(&path) {
            true => {
                let renewal = Renewal { run: own.run, renewal: own.renewal };
                self.replace(&own, &path.with_extension(RENEWAL), &renewal.to_string())
            }
            false => {
                let encoded = own.encode().map_err(Fault::from);
                encoded.and_then(|encoded| self.replace(&own, &path, &encoded.text))
            }
        };
        self.write_fault = match written {
            Ok(()) => {
                (self.written, self.left) = (Some(own), stamp(&path));
                None
            }
            Err(fault) => Some(report(&path, &format!("our ballot cannot be written: {fault}"))),
        };
    }

    /// Replaces a file at one stroke.
    fn replace(&self, own: &Ballot, path: &Path, text: &str) -> Result<(), Fault> {
        // Hidden, and so read by nobody.
        let staging = self.path.join(format!(".{}.{}.new", own.voter, own.instance));
        fs::write(&staging, text)?;
        Ok(fs::rename(&staging, path)?)
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
                    self.read(path, stamp);
                }
            }
            Err(error) => {
                let reason = format!("the votes of others cannot be read: {error}");
                faults.insert(report(&self.path, &reason));
            }
        }
        faults.extend(self.files.values().filter_map(|known| known.fault.clone()));
        let ballots: Vec<_> = self.files.values().filter_map(Known::renewed).collect();
        self.sweep(&ballots, now);
        Heard { ballots, faults }
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

    fn read(&mut self, path: PathBuf, stamp: Stamp) {
        let before = self.files.remove(&path);
        let mut known = match before {
            Some(known) if known.stamp == Some(stamp) => known,
            before => match self.parse(&path) {
                Ok(ballot) => {
                    let ballot = Some(Arc::new(ballot));
                    Known { stamp: Some(stamp), ballot, fault: None, renewal: None }
                }
                Err(fault) => {
                    let stamp = (!matches!(fault, Fault::Io(_))).then_some(stamp);
                    let told = report(&path, &format!("this ballot does not count: {fault}"));
                    // Its count must stay: another would look like a renewal.
                    let ballot = before.and_then(|known| known.renewed());
                    Known { stamp, ballot, fault: Some(told), renewal: None }
                }
            },
        };
        known.renewal = match known.fault {
            None => renewal(&path, known.renewal),
            // What is renewed is the new content, not what it held before.
            Some(_) => None,
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
    fn sweep(&mut self, ballots: &[Arc<Ballot>], now: Instant) {
        let Some(own) = self.written.clone() else { return };
        for instance in self.leavings.look(&own, ballots, now) {
            let path = self.path.join(format!("{}.{instance}.json", own.voter));
            info!(file = %path.display(), "removing the ballot of an instance that is gone");
            // Where that fails it is tried again much later; nobody counts it.
            let _ = fs::remove_file(path.with_extension(RENEWAL));
            let _ = fs::remove_file(path);
        }
    }
}

impl Known {
    /// The ballot as it is renewed by what stands beside it.
    fn renewed(&self) -> Option<Arc<Ballot>> {
        let ballot = self.ballot.as_ref()?;
        let renewal = self.renewal.as_ref().map(|(_, renewal)| renewal);
        Some(renewal.map_or_else(|| ballot.clone(), |renewal| renewal.of(ballot)))
    }
}

/// What stands beside the ballot at `path`, where anything does that can be read; `before` is what
/// did at the last look.
fn renewal(path: &Path, before: Option<(Stamp, Renewal)>) -> Option<(Stamp, Renewal)> {
    let path = path.with_extension(RENEWAL);
    let stamp = stamp(&path)?;
    match before {
        Some((known, renewal)) if known == stamp => Some((stamp, renewal)),
        before => {
            let mut text = String::new();
            let read = fs::File::open(path)
                .and_then(|file| file.take(Renewal::LONGEST).read_to_string(&mut text));
            // One that cannot be read renews nothing.
            read.ok().and_then(|_| Some((stamp, text.parse().ok()?))).or(before)
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
    use crate::health::votes::{LEFT_BEHIND, Sight, Sights};
    use crate::model::Label;

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
        Directory::new(path.to_owned())
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
    fn a_renewal_alone_does_not_write_the_ballot_again() {
        let shared = TempDir::new().expect("a directory");
        let (mut a, mut b) = (open(shared.path()), open(shared.path()));
        let now = Instant::now();
        let text = || fs::read_to_string(shared.path().join("a.one.json")).expect("written");
        a.write(ballot("a", 1, 1));
        let first = text();
        a.write(ballot("a", 1, 2));
        assert_eq!(text(), first);
        assert_eq!(b.look(now).ballots, [ballot("a", 1, 2)]);
        a.write(ballot("a", 1, 3));
        assert_eq!(b.look(now).ballots, [ballot("a", 1, 3)]);
        // What it sees has changed.
        let well = Arc::new(Ballot { sights: Arc::default(), ..(*ballot("a", 1, 4)).clone() });
        a.write(well.clone());
        assert_ne!(text(), first);
        assert_eq!(b.look(now).ballots, std::slice::from_ref(&well));
        // Of another run it is not.
        fs::write(shared.path().join("a.one.renewal"), "2/9").expect("writable");
        assert_eq!(b.look(now).ballots, std::slice::from_ref(&well));
        fs::write(shared.path().join("a.one.renewal"), "none").expect("writable");
        assert_eq!(b.look(now).ballots, [well]);
    }

    /// Else its voter's last words would count for as long as it goes on renewing others.
    #[test]
    fn a_ballot_that_cannot_be_read_any_more_is_renewed_by_nothing() {
        let shared = TempDir::new().expect("a directory");
        let (mut a, mut b) = (open(shared.path()), open(shared.path()));
        let now = Instant::now();
        let path = shared.path().join("a.one.json");
        a.write(ballot("a", 1, 1));
        a.write(ballot("a", 1, 2));
        assert_eq!(b.look(now).ballots, [ballot("a", 1, 2)]);
        fs::write(&path, "{").expect("writable");
        for renewal in 3..6 {
            fs::write(path.with_extension(RENEWAL), format!("1/{renewal}")).expect("writable");
            let heard = b.look(now);
            assert_eq!((heard.faults.len(), heard.ballots), (1, vec![ballot("a", 1, 2)]));
        }
        a.write(ballot("a", 1, 6));
        a.write(ballot("a", 1, 7));
        let heard = b.look(now);
        assert_eq!((heard.faults.len(), heard.ballots), (0, vec![ballot("a", 1, 7)]));
    }

    /// The fault may have been of the way to the file, which tells nothing of itself.
    #[test]
    fn what_could_not_be_read_is_read_again_though_nothing_has_changed() {
        let shared = TempDir::new().expect("a directory");
        let mut b = open(shared.path());
        let path = shared.path().join("a.one.json");
        let text = ballot("a", 1, 1).encode().expect("plain").text;
        let moment = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let fill = |octets: &[u8]| {
            // In place, so that the stamp is the same.
            fs::write(&path, octets).expect("writable");
            let file = fs::File::options().write(true).open(&path).expect("there");
            file.set_modified(moment).expect("ours");
            stamp(&path).expect("there")
        };
        let broken = fill(&vec![0xff; text.len()]);
        let heard = b.look(Instant::now());
        assert_eq!((heard.faults.len(), heard.ballots), (1, vec![]), "no UTF-8 is a fault of I/O");
        assert_eq!(fill(text.as_bytes()), broken);
        let heard = b.look(Instant::now());
        assert_eq!((heard.faults.len(), heard.ballots), (0, vec![ballot("a", 1, 1)]));
    }

    /// Such as one that ends late, after another process has begun in its place.
    #[test]
    fn a_ballot_that_was_written_over_or_removed_is_written_again() {
        let shared = TempDir::new().expect("a directory");
        let (mut a, mut before, mut b) =
            (open(shared.path()), open(shared.path()), open(shared.path()));
        let now = Instant::now();
        a.write(ballot("a", 1, 1));
        before.write(ballot("a", 7, 70));
        a.write(ballot("a", 1, 2));
        assert_eq!(b.look(now).ballots, [ballot("a", 1, 2)]);
        fs::remove_file(shared.path().join("a.one.json")).expect("there");
        a.write(ballot("a", 1, 3));
        assert_eq!(b.look(now).ballots, [ballot("a", 1, 3)]);
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
