//! Checks of single values: numbers, durations, addresses, networks, places.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use serde_saphyr::Spanned;

use super::notes::{At, Notes, Refused, at};
use crate::config::raw;
use crate::model::{Coordinates, unusable_address};

/// The numbers that a key takes, and why.
pub(super) struct Range {
    pub least: i64,
    pub most: i64,
    pub why: &'static str,
}

/// A number in `range` as `convert` makes it; `default` where the key is absent.
pub(super) fn number<N>(
    notes: &mut Notes,
    path: &str,
    raw: Option<&raw::Number>,
    default: N,
    range: &Range,
    convert: impl Fn(i64) -> Option<N>,
) -> Result<N, Refused> {
    let Some(raw) = raw else { return Ok(default) };
    let Range { least, most, why } = range;
    Some(raw.value).filter(|value| (*least..=*most).contains(value)).and_then(convert).ok_or_else(
        || {
            let reason = format!("{} is not from {least} to {most}: {why}", raw.value);
            notes.mistake(&at(path, raw), reason)
        },
    )
}

/// A value in the form of its annotation; `default` where the key is absent.
pub(super) fn scalar<T: FromStr<Err: fmt::Display>>(
    notes: &mut Notes,
    path: &str,
    raw: Option<&Spanned<raw::Scalar>>,
    default: T,
) -> Result<T, Refused> {
    let Some(raw) = raw else { return Ok(default) };
    raw.value.0.parse().map_err(|error: T::Err| notes.mistake(&at(path, raw), error.to_string()))
}

/// A duration with its unit, such as `500ms`, `30s` or `1m 30s`, from `least` to an hour.
pub(super) fn duration(
    notes: &mut Notes,
    path: &str,
    raw: Option<&raw::Text>,
    default: Duration,
    least: Duration,
) -> Result<Duration, Refused> {
    // Nothing that is configured here is of use after an hour; more is a wrong unit.
    const MOST: Duration = Duration::from_secs(3600);
    let Some(raw) = raw else { return Ok(default) };
    let read = raw.value.parse::<SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    match read {
        Some(duration) if (least..=MOST).contains(&duration) => Ok(duration),
        Some(_) => {
            let least = SignedDuration::try_from(least).unwrap_or_default();
            let reason = format!("'{}' is not from {least:#} to 1h", raw.value);
            Err(notes.mistake(&at(path, raw), reason))
        }
        None => {
            let reason = format!("'{}' is no duration: write a unit, such as 30s", raw.value);
            Err(notes.mistake(&at(path, raw), reason))
        }
    }
}

/// A network in CIDR form without host bits.
pub(super) fn network(notes: &mut Notes, at: &At, text: &str) -> Result<IpNet, Refused> {
    let Ok(network) = text.parse::<IpNet>() else {
        let reason = if text.parse::<IpAddr>().is_ok() {
            format!("'{text}' has no prefix length: write {}", host_prefix(text))
        } else {
            format!("'{text}' is no network: write one such as 10.8.0.0/16 or 2001:db8::/32")
        };
        return Err(notes.mistake(at, reason));
    };
    if network != network.trunc() {
        let reason = format!("'{text}' has bits set beyond its prefix: write {}", network.trunc());
        return Err(notes.mistake(at, reason));
    }
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
            let reason = format!("'{text}' is IPv4-mapped: write the IPv4 network");
            Err(notes.mistake(at, reason))
        }
        _ => Ok(network),
    }
}

fn host_prefix(address: &str) -> String {
    let bits = if address.contains(':') { 128 } else { 32 };
    format!("{address}/{bits} for this one address")
}

/// Networks, none twice.
pub(super) fn networks(
    notes: &mut Notes,
    path: &str,
    raw: &[raw::Text],
) -> Result<Vec<IpNet>, Refused> {
    let mut seen: Vec<(IpNet, usize)> = Vec::new();
    let read = raw.iter().enumerate().map(|(index, text)| {
        let at = at(format!("{path}[{index}]"), text);
        let network = network(notes, &at, &text.value)?;
        if let Some((_, first)) = seen.iter().find(|(earlier, _)| *earlier == network) {
            return Err(notes.mistake(&at, format!("{network} is already {path}[{first}]")));
        }
        seen.push((network, index));
        Ok(network)
    });
    all(read)
}

/// An address that a host can have.
pub(super) fn host_address(notes: &mut Notes, at: &At, text: &str) -> Result<IpAddr, Refused> {
    match text.parse::<IpAddr>() {
        Ok(address) => match unusable_address(address) {
            None => Ok(address),
            Some(kind) => Err(notes.mistake(at, format!("a host cannot have {address}, {kind}"))),
        },
        Err(_) => Err(notes.mistake(at, format!("'{text}' is no IP address"))),
    }
}

/// An address and port to listen on; port 0 lets the system choose.
pub(super) fn listen_address(
    notes: &mut Notes,
    at: &At,
    text: &str,
) -> Result<SocketAddr, Refused> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        let reason = format!(
            "'{text}' is no listen address: write ADDRESS:PORT, such as \"127.0.0.1:5300\" or \
             \"[::1]:5300\""
        );
        return Err(notes.mistake(at, reason));
    };
    match unusable_address(address.ip()) {
        Some(kind) if !address.ip().is_unspecified() => {
            Err(notes.mistake(at, format!("cannot listen on {}, {kind}", address.ip())))
        }
        _ => Ok(address),
    }
}

/// A point on the globe.
pub(super) fn coordinates(
    notes: &mut Notes,
    at: &At,
    raw: raw::Location,
) -> Result<Coordinates, Refused> {
    Coordinates::new(raw.latitude, raw.longitude)
        .map_err(|error| notes.mistake(at, error.to_string()))
}

/// What a configured path must lead to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// A path that exists, relative to `directory`.
pub(super) fn existing(
    notes: &mut Notes,
    at: &At,
    directory: &Path,
    text: &str,
    kind: Kind,
) -> Result<PathBuf, Refused> {
    let path = directory.join(text);
    let fault = match (std::fs::metadata(&path), kind) {
        (Ok(found), Kind::File) if found.is_dir() => "is a directory, not a file".to_owned(),
        (Ok(found), Kind::Directory) if !found.is_dir() => "is no directory".to_owned(),
        (Ok(_), _) => return Ok(path),
        (Err(error), _) => format!("cannot be read: {error}"),
    };
    Err(notes.mistake(at, format!("{} {fault}", path.display())))
}

/// All results, or the proof that one is missing; every one is made, so that all mistakes show.
pub(super) fn all<T, C: FromIterator<T>>(
    results: impl IntoIterator<Item = Result<T, Refused>>,
) -> Result<C, Refused> {
    let results: Vec<_> = results.into_iter().collect();
    results.into_iter().collect()
}
