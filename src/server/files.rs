//! How many files the process may have open: each connection and each check is one.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many files the process may have open once [`raise_open_files`] was called; 1024, which is
/// usual, where the system does not tell.
#[must_use]
pub fn most_open_files() -> usize {
    let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, most)| most);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Has the process open as many files as it may: the usual limit of 1024 is only for programs that
/// wait for files by `select`, which cannot count further, and no other needs leave to exceed it.
///
/// # Errors
/// The system refuses; the limit is as it was.
pub fn raise_open_files() -> Result<(), Errno> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if now < most { setrlimit(Resource::RLIMIT_NOFILE, most, most) } else { Ok(()) }
}
