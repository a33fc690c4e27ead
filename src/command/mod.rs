//! The subcommands. Only they see the whole configuration.

mod ask;
pub(crate) mod check;
pub(crate) mod drill;
pub(crate) mod dump;
pub(crate) mod explain;
mod federation;
mod reload;
pub(crate) mod serve;

use std::io::Write as _;

/// Prints a line for people; a closed pipe (`meridian dump | head`) is no error.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints an error with its causes, or configuration mistakes as they are.
pub(crate) fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "{error:#}");
}
