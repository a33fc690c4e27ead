//! The sections `health.votes` and `health.damping`.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::clusters::{Registry, label};
use super::notes::{At, Notes, Refused, at};
use super::values::{Kind, duration, existing};
use crate::config::raw;
use crate::health::votes::{Damping, Quorum, Settings};
use crate::model::Label;

/// Below this a ballot would be written more often than it is read.
const LEAST_HEARTBEAT: Duration = Duration::from_millis(100);

/// Where Linux tells the name of the host, which is that of the pod in Kubernetes.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Checks how the instance takes part in votes.
pub(super) fn settings(
    file: &raw::File,
    registry: &Registry,
    directory: &Path,
    notes: &mut Notes,
) -> Result<Option<Settings>, Refused> {
    let Some(spanned) = &file.health.votes else { return Ok(None) };
    let (whole, raw) = (at("health.votes", spanned), &spanned.value);
    let cluster = cluster(raw.cluster.as_ref(), file.internal.as_ref(), &whole, notes);
    let instance = instance(raw.instance.as_ref(), &whole, notes);
    let voters = raw.voters.as_ref().map(|raw| voters(raw, &cluster, notes)).transpose();
    if let (Ok(cluster), None, None) = (&cluster, &raw.voters, &file.home)
        && !registry.has_cluster(cluster)
    {
        let reason = format!(
            "there is no cluster '{cluster}', and every cluster votes: name another, or the 'voters'"
        );
        notes.mistake(&raw.cluster.as_ref().map_or(whole.clone(), |c| at(CLUSTER, c)), reason);
    }
    let known = match (&voters, &file.home) {
        (Ok(Some(voters)), _) => Some(voters.len()),
        (Ok(None), None) => Some(file.clusters.value.len()),
        // Those that a home registers are not known here.
        _ => None,
    };
    let quorum = raw.quorum.as_ref().map(|raw| quorum(raw, known, notes)).transpose();
    let shared = raw.directory.as_ref();
    let directory = self::shared(shared, file.home.as_ref(), directory, &whole, notes);
    let times = times(raw, notes);
    if known == Some(2) {
        let reason = "two voters decide nothing while one of them is not heard: three are better";
        notes.warn(&whole, reason);
    }
    let (heartbeat, lease) = times?;
    Ok(Some(Settings {
        cluster: cluster?,
        instance: instance?,
        voters: voters?,
        quorum: quorum?.unwrap_or_default(),
        directory: directory?,
        heartbeat,
        lease,
    }))
}

const CLUSTER: &str = "health.votes.cluster";

/// The cluster that is voted for: the one that the instance sits in, unless another is named.
fn cluster(
    raw: Option<&raw::Text>,
    internal: Option<&raw::Internal>,
    whole: &At,
    notes: &mut Notes,
) -> Result<Label, Refused> {
    match (raw, internal) {
        (Some(raw), _) => label(notes, &at(CLUSTER, raw), "cluster name", &raw.value),
        // Checked there.
        (None, Some(internal)) => Label::from_kubernetes(&internal.cluster.value)
            .ok_or_else(|| notes.mistake(whole, "votes for no cluster: give 'cluster'")),
        (None, None) => Err(notes.mistake(whole, "votes for no cluster: give 'cluster'")),
    }
}

fn instance(raw: Option<&raw::Text>, whole: &At, notes: &mut Notes) -> Result<Label, Refused> {
    let path = "health.votes.instance";
    match raw {
        Some(raw) => label(notes, &at(path, raw), "instance name", &raw.value),
        None => {
            let name = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
            Label::from_kubernetes(name.trim()).ok_or_else(|| {
                notes.mistake(whole, "the host has no name that can be used: give 'instance'")
            })
        }
    }
}

fn voters(
    raw: &Spanned<Vec<raw::Text>>,
    cluster: &Result<Label, Refused>,
    notes: &mut Notes,
) -> Result<BTreeSet<Label>, Refused> {
    let path = "health.votes.voters";
    let mut seen = BTreeSet::new();
    let read = raw.value.iter().enumerate().map(|(index, text)| {
        let at = at(format!("{path}[{index}]"), text);
        let name = label(notes, &at, "cluster name", &text.value)?;
        match seen.insert(name.clone()) {
            true => Ok(name),
            false => Err(notes.mistake(&at, format!("'{name}' is listed twice"))),
        }
    });
    let voters: BTreeSet<Label> = super::values::all(read)?;
    match cluster {
        Ok(own) if !voters.contains(own) => {
            let reason = format!("does not list '{own}', for which this instance votes");
            Err(notes.mistake(&at(path, raw), reason))
        }
        _ => Ok(voters),
    }
}

fn quorum(
    raw: &Spanned<raw::Quorum>,
    voters: Option<usize>,
    notes: &mut Notes,
) -> Result<Quorum, Refused> {
    let count = match raw.value {
        raw::Quorum::Majority => return Ok(Quorum::Majority),
        raw::Quorum::Any => return Ok(Quorum::Any),
        raw::Quorum::All => return Ok(Quorum::All),
        raw::Quorum::Count(count) => count,
    };
    let most = voters.and_then(|count| u16::try_from(count).ok()).unwrap_or(u16::MAX);
    let valid = u16::try_from(count).ok().filter(|count| *count <= most).and_then(NonZeroU16::new);
    valid.map(Quorum::Count).ok_or_else(|| {
        let reason = format!("{count} is not from 1 to {most}: how many of the clusters that vote");
        notes.mistake(&at("health.votes.quorum", raw), reason)
    })
}

/// The directory that carries ballots, where API servers do not.
fn shared(
    raw: Option<&raw::Text>,
    home: Option<&raw::Home>,
    directory: &Path,
    whole: &At,
    notes: &mut Notes,
) -> Result<Option<PathBuf>, Refused> {
    match (raw, home) {
        (Some(raw), _) => {
            let at = at("health.votes.directory", raw);
            existing(notes, &at, directory, &raw.value, Kind::Directory).map(Some)
        }
        (None, Some(_)) => Ok(None),
        (None, None) => {
            let reason = "nothing carries the ballots: give a 'directory' that all instances \
                          share, or a 'home' cluster to keep them in";
            Err(notes.mistake(whole, reason))
        }
    }
}

/// The namespace of the ballots in every cluster, unless that of the home cluster is said: the one
/// that the manifests in `deploy/` make.
const NAMESPACE: &str = "meridian";

/// Where API servers have the ballots, if they carry any.
pub(super) fn namespace(file: &raw::File) -> Option<Arc<str>> {
    let votes = &file.health.votes.as_ref()?.value;
    let home = file.home.as_ref().filter(|_| votes.directory.is_none())?;
    Some(home.namespace.as_ref().map_or(NAMESPACE, |text| &text.value).into())
}

/// Heartbeat and lease.
fn times(raw: &raw::Votes, notes: &mut Notes) -> Result<(Duration, Duration), Refused> {
    let (path, beat) = ("health.votes.heartbeat", raw.heartbeat.as_ref());
    let heartbeat = duration(notes, path, beat, Settings::HEARTBEAT, LEAST_HEARTBEAT);
    let (path, lease) = ("health.votes.lease", raw.lease.as_ref());
    // Left alone, the lease follows the heartbeat: two renewals may be lost.
    let default = heartbeat.as_ref().map_or(Settings::LEASE, |beat| *beat * 3);
    let length = duration(notes, path, lease, default, LEAST_HEARTBEAT);
    let (heartbeat, length) = (heartbeat?, length?);
    if length < heartbeat * 2 {
        let reason = format!(
            "{length:?} is less than two heartbeats of {heartbeat:?}: one that comes late would end it"
        );
        let place = lease
            .map_or_else(|| beat.map(|b| at("health.votes.heartbeat", b)), |l| Some(at(path, l)));
        if let Some(place) = place {
            return Err(notes.mistake(&place, reason));
        }
    }
    Ok((heartbeat, length))
}

/// Checks how fast what checks say may come and go.
pub(super) fn damping(raw: &raw::Damping, notes: &mut Notes) -> Result<Damping, Refused> {
    let default = Damping::default();
    let mut time = |key, raw: &Option<raw::Text>, default| {
        duration(notes, &format!("health.damping.{key}"), raw.as_ref(), default, Duration::ZERO)
    };
    let min_up = time("minUp", &raw.min_up, default.min_up);
    let hold_off = time("holdOff", &raw.hold_off, default.hold_off);
    // Left alone, the most is no less than what it begins with.
    let most = hold_off.as_ref().map_or(default.max_hold_off, |h| default.max_hold_off.max(*h));
    let max_hold_off = time("maxHoldOff", &raw.max_hold_off, most);
    let forget = time("forget", &raw.forget, default.forget);
    let (hold_off, max_hold_off) = (hold_off?, max_hold_off?);
    if let Some(raw) = raw.max_hold_off.as_ref().filter(|_| max_hold_off < hold_off) {
        let reason = format!("{max_hold_off:?} is less than holdOff, {hold_off:?}");
        return Err(notes.mistake(&at("health.damping.maxHoldOff", raw), reason));
    }
    Ok(Damping { min_up: min_up?, hold_off, max_hold_off, forget: forget? })
}
