//! What can be wrong with a configuration file, and where.

use std::fmt;
use std::io;

/// One value of the file that cannot be used as it stands, or that deserves a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, from the root of the file: `clusters[2].name`.
    pub path: String,
    /// Line of the value, from 1.
    pub line: u64,
    /// Column of the value, in characters from 1.
    pub column: u64,
    /// What is wrong with it and what would be right.
    pub reason: String,
}

/// `LINE:COLUMN: path: reason`
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.line, self.column, self.path, self.reason)
    }
}

/// Why a configuration file is refused; always as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read; trying again may help.
    #[error("{file}: {error}")]
    Read {
        /// The file as it was named.
        file: String,
        /// What the system said.
        error: io::Error,
    },
    /// No YAML, an unknown key, a key missing, or a value of the wrong type.
    #[error("{file}:{line}:{column}: {reason}")]
    Syntax {
        /// The file as it was named.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column, in characters from 1.
        column: u64,
        /// What is wrong.
        reason: String,
    },
    /// Everything that can be read but makes no sense, in the order of the file; never empty.
    #[error("{}", Lines(file, mistakes))]
    Mistakes {
        /// The file as it was named.
        file: String,
        /// All of them.
        mistakes: Vec<Mistake>,
    },
}

/// One `FILE:LINE:COLUMN: path: reason` a line.
struct Lines<'a>(&'a str, &'a [Mistake]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.1.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{}:{mistake}", self.0)?;
        }
        Ok(())
    }
}

/// `text` on one line: control characters, which values of the file may hold, are escaped.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}
