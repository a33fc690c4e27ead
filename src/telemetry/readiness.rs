//! Whether this instance should get queries, for `/readyz`.

use std::fmt;

/// Whether this instance should get queries; carried in a [`tokio::sync::watch`] channel from
/// whoever decides to whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It should.
    Ready,
    /// It should not, and what is missing, a line each.
    NotReady(Vec<String>),
}

/// The body of `/readyz`: `ok`, or what is missing, one per line.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => writeln!(f, "ok"),
            Self::NotReady(missing) => missing.iter().try_for_each(|line| writeln!(f, "{line}")),
        }
    }
}
