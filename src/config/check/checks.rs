//! The section `health.checks`, and what clusters set apart from it.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;

use serde_saphyr::Spanned;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::notes::{Notes, Refused, at};
use super::values::{Kind, Range, all, duration, existing, number};
use crate::config::raw;
use crate::health::check::{Settings, Timing};
use crate::model::{Check, CheckMode, CheckTiming, ClusterChecks};
use crate::server::most_open_files;

const IN_A_ROW: Range =
    Range { least: 1, most: CheckTiming::MOST_IN_A_ROW as i64, why: "checks in a row" };

const JITTER: Range =
    Range { least: 0, most: CheckTiming::MOST_JITTER as i64, why: "percent of the interval" };

/// More would need more sockets than a process is given.
const CONCURRENCY: Range = Range { least: 1, most: 100_000, why: "checks at a time" };

/// Checks what holds for the federation; the files of authorities are relative to `directory`.
pub(super) fn settings(
    raw: &raw::Checks,
    directory: &Path,
    notes: &mut Notes,
) -> Result<Settings, Refused> {
    let default = Settings::default();
    let path = "health.checks";
    let check = raw.check.as_ref().map(|raw| check(path, raw, notes)).transpose();
    let timing = timing(path, raw, notes);
    let (path, concurrency) = ("health.checks.concurrency", raw.concurrency.as_ref());
    let concurrency = number(notes, path, concurrency, usual_concurrency(), &CONCURRENCY, |n| {
        usize::try_from(n).ok().and_then(NonZeroUsize::new)
    });
    let files = raw.authorities.as_ref().map_or(&[][..], |files| &files.value);
    let authorities = authorities(files, directory, notes);
    let timing = Timing::default().with(timing?);
    if let Some(raw) = &raw.timeout
        && timing.timeout > timing.interval
    {
        // Valid: the next check then waits for the end of the one before.
        let (timeout, interval) = (timing.timeout, timing.interval);
        let reason = format!("{timeout:?} is longer than the interval, {interval:?}");
        notes.warn(&at("health.checks.timeout", raw), reason);
    }
    Ok(Settings {
        mode: raw.mode.map_or(default.mode, mode),
        check: check?.unwrap_or(default.check),
        timing,
        concurrency: concurrency?,
        authorities: authorities?,
    })
}

/// A quarter of the files that the process may have open: the others are for clients and sources.
fn usual_concurrency() -> NonZeroUsize {
    let quarter = NonZeroUsize::new(most_open_files() / 4).unwrap_or(NonZeroUsize::MIN);
    quarter.min(Settings::MOST_CONCURRENCY)
}

/// Checks what a cluster sets apart; `path` is that of its `checks`.
pub(super) fn of_cluster(
    path: &str,
    raw: &raw::Checks,
    notes: &mut Notes,
) -> Result<ClusterChecks, Refused> {
    let check = raw.check.as_ref().map(|raw| check(path, raw, notes)).transpose();
    let timing = timing(path, raw, notes);
    refuse_shared(path, raw, notes)?;
    Ok(ClusterChecks { mode: raw.mode.map(mode), check: check?, timing: timing? })
}

fn mode(raw: raw::CheckMode) -> CheckMode {
    match raw {
        raw::CheckMode::Off => CheckMode::Off,
        raw::CheckMode::Suspect => CheckMode::Suspect,
        raw::CheckMode::Always => CheckMode::Always,
    }
}

/// Timing as it is written in `raw`, the section `path`.
fn timing(path: &str, raw: &raw::Checks, notes: &mut Notes) -> Result<CheckTiming, Refused> {
    let path = |key: &str| format!("{path}.{key}");
    let mut time = |key, raw: &Option<raw::Text>| {
        // The default is never used, as only what is written is read.
        let least = CheckTiming::LEAST;
        let raw = raw.as_ref();
        raw.map(|raw| duration(notes, &path(key), Some(raw), least, least)).transpose()
    };
    let interval = time("interval", &raw.interval);
    let timeout = time("timeout", &raw.timeout);
    let mut count = |key, raw: &Option<raw::Number>| {
        let convert = |n| u32::try_from(n).ok().and_then(NonZeroU32::new);
        let read = |raw| number(notes, &path(key), Some(raw), NonZeroU32::MIN, &IN_A_ROW, convert);
        raw.as_ref().map(read).transpose()
    };
    let rise = count("rise", &raw.rise);
    let fall = count("fall", &raw.fall);
    let percent = |n| u8::try_from(n).ok();
    let jitter = raw.jitter.as_ref();
    let jitter = jitter.map(|raw| number(notes, &path("jitter"), Some(raw), 0, &JITTER, percent));
    Ok(CheckTiming {
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
        jitter: jitter.transpose()?,
    })
}

/// Refuses what no cluster has for itself, as the checks of all have it in common.
fn refuse_shared(path: &str, raw: &raw::Checks, notes: &mut Notes) -> Result<(), Refused> {
    let place = |key: &str| format!("{path}.{key}");
    let concurrency = raw.concurrency.as_ref().map(|raw| at(place("concurrency"), raw));
    let files = raw.authorities.as_ref().map(|raw| at(place("authorities"), raw));
    let given = [concurrency, files];
    let reason = "is the same for all clusters: write it in health.checks";
    all::<(), ()>(given.into_iter().flatten().map(|at| Err(notes.mistake(&at, reason))))
}

/// A check in either form. `path` is that of the section, which has the timing.
fn check(path: &str, raw: &Spanned<raw::Check>, notes: &mut Notes) -> Result<Arc<Check>, Refused> {
    let place = at(format!("{path}.check"), raw);
    let check = match &raw.value {
        raw::Check::Text(text) if text.len() > Check::LONGEST_TEXT => {
            let reason = format!("is longer than {} octets", Check::LONGEST_TEXT);
            return Err(notes.mistake(&place, reason));
        }
        raw::Check::Text(text) => {
            let check: Result<Check, _> = text.parse();
            check.map_err(|error| notes.mistake(&place, error.to_string()))?
        }
        raw::Check::Keys { kind, keys } => {
            let pairs = keys.iter().map(|(key, value)| (&**key, &*value.value.0));
            Check::from_fields(kind, pairs).map_err(|faults| {
                let mut refused = None;
                for fault in faults {
                    let value = fault.key.as_ref().and_then(|key| {
                        keys.iter().rfind(|(name, _)| name == key).map(|(_, value)| value)
                    });
                    let place = match (&fault.key, value) {
                        (Some(key), Some(value)) => at(format!("{path}.check.{kind}.{key}"), value),
                        _ => place.clone(),
                    };
                    let reason = match (&fault.key, value) {
                        (Some(key), None) => format!("{key} {}", fault.fault),
                        _ => fault.fault,
                    };
                    refused = Some(notes.mistake(&place, reason));
                }
                refused.unwrap_or_else(|| notes.mistake(&place, "is no check"))
            })?
        }
    };
    if check.timing != CheckTiming::default() {
        let reason = format!("has a timing of its own: write it beside it, as {path}.interval");
        return Err(notes.mistake(&place, reason));
    }
    Ok(Arc::new(check))
}

/// The certificates in PEM files.
fn authorities(
    raw: &[raw::Text],
    directory: &Path,
    notes: &mut Notes,
) -> Result<Arc<[CertificateDer<'static>]>, Refused> {
    let files: Vec<Vec<_>> = all(raw.iter().enumerate().map(|(index, text)| {
        let at = at(format!("health.checks.authorities[{index}]"), text);
        let path = existing(notes, &at, directory, &text.value, Kind::File)?;
        certificates(&path).map_err(|why| notes.mistake(&at, format!("{}: {why}", path.display())))
    }))?;
    Ok(files.into_iter().flatten().collect())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<CertificateDer<'static>> = read.map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("holds no certificate in PEM form".into());
    }
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        let added = store.add(certificate.clone());
        added.map_err(|error| format!("certificate {} cannot be used: {error}", index + 1))?;
    }
    Ok(certificates)
}
