//! What the black-box tests share: the server as a child process, DNS clients over plain sockets,
//! manifests from a compact form, an upstream resolver.
//!
//! Only loopback addresses, ports that the system chose, and everything ends with its owner.

pub(crate) mod apiserver;
pub(crate) mod client;
pub(crate) mod dns;
pub(crate) mod files;
pub(crate) mod forward;
pub(crate) mod kubernetes;
pub(crate) mod manifests;
pub(crate) mod objects;
pub(crate) mod player;
pub(crate) mod scenario;
pub(crate) mod server;
pub(crate) mod upstream;

use std::time::Duration;

/// How long anything that must come true may take: far beyond the second that is promised, so that
/// a loaded machine fails no test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The pause between two looks at something that is to come true.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
