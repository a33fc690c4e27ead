//! The configuration file.
//!
//! *Owns*: the keys of the file, their defaults, and every check of them. *Guarantees*: a
//! [`Config`] is valid as a whole; what is refused is refused with file, line, column, key and
//! reason, and beyond syntax *all* mistakes are told in one run; nothing is clamped or guessed.
//! *Does not*: watch the file, open sockets, or read manifests and databases (only that they are
//! there). The keys are described in `docs/configuration.md` and `config/reference.yaml`.
//!
//! Three layers: `raw` (what is written), `check` (one file a section), and the `Settings` that
//! each module owns, which this module only fills.

mod check;
mod errors;
mod raw;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_saphyr::{DefaultMessageFormatter, MessageFormatter};

pub use check::Common;
pub use errors::{ConfigError, Mistake};

use crate::model::Member;
use crate::{cluster, geo, health, publisher, server, snapshot, zone};

/// Everything that the file says, checked; only `main` sees it whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The federation's zone.
    pub federation: zone::Settings,
    /// Thresholds.
    pub health: health::Settings,
    /// The file of overrides, where there is one.
    pub overrides: Option<PathBuf>,
    /// Where clients are.
    pub geo: geo::Settings,
    /// How the server names itself.
    pub identity: snapshot::Identity,
    /// Sockets.
    pub server: server::Settings,
    /// The clusters, at least one, in the order of the file.
    pub members: Vec<Member>,
    /// How each of `members` is read, in the same order.
    pub sources: Vec<cluster::Settings>,
    /// What the clusters of the file have in common with those that are registered.
    pub common: Common,
    /// Where further clusters are registered.
    pub home: Option<cluster::home::Settings>,
    /// How host names of load balancers are resolved.
    pub resolver: cluster::ResolverSettings,
    /// What the start waits for, and what is kept for the next.
    pub publisher: publisher::Settings,
    /// What is valid but probably not meant, in the order of the file; for the log and `check`.
    pub warnings: Vec<Mistake>,
}

impl Config {
    /// Reads and checks the file at `path`; relative paths in it are relative to its directory.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read, or is no configuration.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { file: file.clone(), error })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")), &file)
    }

    /// Checks `text`, the content of a file called `file` in messages; relative paths in it are
    /// relative to `directory`. Looks at the file system only to see that named paths are there.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] or [`ConfigError::Mistakes`].
    pub fn parse(text: &str, directory: &Path, file: &str) -> Result<Self, ConfigError> {
        let options = serde_saphyr::options! {
            // The file is the operator's own: its size is no attack, and a federation of
            // thousands of clusters exceeds the default budget.
            budget: None,
            strict_booleans: true,
            with_snippet: false,
        };
        let raw: raw::File = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| syntax_error(&error, file))?;
        check::check(&raw, directory)
            .map_err(|mistakes| ConfigError::Mistakes { file: file.to_owned(), mistakes })
    }
}

fn syntax_error(error: &serde_saphyr::Error, file: &str) -> ConfigError {
    let (line, column) =
        error.location().map_or((1, 1), |place| (place.line().max(1), place.column().max(1)));
    let reason = errors::one_line(&reason(error.without_snippet()));
    ConfigError::Syntax { file: file.to_owned(), line, column, reason }
}

/// The parser's words, but for those that only its programmers know.
fn reason(error: &serde_saphyr::Error) -> Cow<'_, str> {
    use serde_saphyr::Error::{InvalidScalar, Unexpected};
    let told = match error {
        InvalidScalar { ty: "i64", .. } => "this must be a whole number",
        InvalidScalar { ty: "f64", .. } => "this must be a number",
        Unexpected { expected: "mapping start", .. } => "this must be a mapping of keys to values",
        Unexpected { expected: "sequence start", .. } => "this must be a list",
        Unexpected { expected: "string scalar", .. } => "this must be a text",
        _ => return DefaultMessageFormatter.format_message(error),
    };
    told.into()
}
