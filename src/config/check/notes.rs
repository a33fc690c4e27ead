//! Collects what is wrong, so that one run tells it all.

use serde_saphyr::Spanned;

use crate::config::Mistake;
use crate::config::errors::one_line;

/// A key and its place in the file.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub path: String,
    line: u64,
    column: u64,
}

/// The place of `value`, whose key is `path`.
pub(super) fn at<T>(path: impl Into<String>, value: &Spanned<T>) -> At {
    let place = value.referenced;
    At { path: path.into(), line: place.line(), column: place.column() }
}

/// Proof that a mistake has been noted. Only [`Notes::mistake`] makes one, so a check that yields
/// nothing has said why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(());

/// Mistakes and warnings so far.
#[derive(Debug, Default)]
pub(super) struct Notes {
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
}

impl Notes {
    /// Notes what makes the file invalid.
    pub(super) fn mistake(&mut self, at: &At, reason: impl Into<String>) -> Refused {
        self.mistakes.push(note(at, reason));
        Refused(())
    }

    /// Notes what is valid but probably not meant.
    pub(super) fn warn(&mut self, at: &At, reason: impl Into<String>) {
        self.warnings.push(note(at, reason));
    }

    /// Mistakes and warnings in the order of the file.
    pub(super) fn finish(mut self) -> (Vec<Mistake>, Vec<Mistake>) {
        for notes in [&mut self.mistakes, &mut self.warnings] {
            notes.sort_by_key(|note| (note.line, note.column));
        }
        (self.mistakes, self.warnings)
    }
}

fn note(at: &At, reason: impl Into<String>) -> Mistake {
    Mistake {
        path: at.path.clone(),
        line: at.line,
        column: at.column,
        reason: one_line(&reason.into()),
    }
}
