//! The text of the overrides file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Pattern, Rule, ServicePattern};
use crate::model::Force;

/// Why a file is not in force.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read; worth another try.
    #[error("{file}: {error}", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// It holds what is no override.
    #[error("{}", listed(file, faults))]
    Faults {
        /// The file.
        file: PathBuf,
        /// What is wrong, in the order of the file; at least one.
        faults: Vec<Fault>,
    },
}

fn listed(file: &std::path::Path, faults: &[Fault]) -> String {
    let lines = faults.iter().map(|fault| format!("{}:{fault}", file.display()));
    lines.collect::<Vec<_>>().join("\n")
}

/// Something wrong with the file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
    /// What, and what would be right.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.reason)
    }
}

type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    cluster: Option<Text>,
    service: Option<Text>,
    state: Text,
    author: Text,
    reason: Text,
    until: Text,
}

/// Reads the rules of a file: a list of entries, or nothing at all.
///
/// # Errors
/// All faults, or the first where it is no YAML or has other keys; a file is in force whole or not
/// at all.
pub fn parse(text: &str) -> Result<Vec<Rule>, Vec<Fault>> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let entries: Option<Vec<Spanned<Entry>>> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| {
        let (line, column) =
            error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
        let reason = error.without_snippet().to_string();
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        vec![Fault { line, column, reason }]
    })?;
    let (mut rules, mut faults) = (Vec::new(), Vec::new());
    for entry in entries.into_iter().flatten() {
        rules.extend(rule(&entry, &mut faults));
    }
    if faults.is_empty() { Ok(rules) } else { Err(faults) }
}

fn rule(entry: &Spanned<Entry>, faults: &mut Vec<Fault>) -> Option<Rule> {
    let Entry { cluster, service, state, author, reason, until } = &entry.value;
    if cluster.is_none() && service.is_none() {
        let reason = "names neither a 'cluster' nor a 'service': write cluster: \"*\" for all";
        faults.push(fault(entry, reason));
    }
    let pattern = cluster.as_ref().map(|text| read::<Pattern>(text, faults));
    let service = service.as_ref().map(|text| service_pattern(text, faults));
    let state = read(state, faults);
    let (author, why) = (told(author, "author", faults), told(reason, "reason", faults));
    let until = read(until, faults);
    let everywhere = || "*".parse().ok();
    Some(Rule {
        cluster: pattern.unwrap_or_else(everywhere)?,
        service: match service {
            None => None,
            Some(service) => Some(service?),
        },
        force: Arc::new(Force { to: state?, author: author?, reason: why?, until: until? }),
        line: entry.referenced.line(),
    })
}

fn fault<T>(at: &Spanned<T>, reason: impl Into<String>) -> Fault {
    Fault { line: at.referenced.line(), column: at.referenced.column(), reason: reason.into() }
}

fn read<T: FromStr<Err: fmt::Display>>(text: &Text, faults: &mut Vec<Fault>) -> Option<T> {
    text.value
        .trim()
        .parse()
        .map_err(|error: T::Err| faults.push(fault(text, error.to_string())))
        .ok()
}

fn service_pattern(text: &Text, faults: &mut Vec<Fault>) -> Option<ServicePattern> {
    let Some((namespace, name)) = text.value.trim().split_once('/') else {
        let reason = format!("'{}' is no service: write NAMESPACE/NAME", text.value);
        faults.push(fault(text, reason));
        return None;
    };
    let parsed = namespace.parse().and_then(|namespace| {
        let name = name.parse()?;
        Ok(ServicePattern { namespace, name })
    });
    parsed
        .map_err(|error: super::pattern::InvalidPattern| {
            faults.push(fault(text, error.to_string()));
        })
        .ok()
}

fn told(text: &Text, key: &str, faults: &mut Vec<Fault>) -> Option<Box<str>> {
    Force::word(&text.value).map_err(|why| faults.push(fault(text, format!("'{key}' {why}")))).ok()
}
