//! The section `health`, and what belongs to it of `federation`.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;

use super::clusters::Registry;
use super::notes::{Notes, Refused, at};
use super::values::{Kind, Range, duration, existing, number, scalar};
use super::{checks, votes};
use crate::config::raw;
use crate::health::{LoadLimit, Settings, Tracking};

/// Checks thresholds, active checks and votes; relative paths are relative to `directory`.
pub(super) fn settings(
    raw: &raw::File,
    registry: &Registry,
    directory: &Path,
    notes: &mut Notes,
) -> Result<Settings, Refused> {
    let default = Settings::default();
    let min_ready = raw.federation.min_ready.as_ref();
    let min_ready = scalar(notes, "federation.minReady", min_ready, default.min_ready);
    let load = load(&raw.health.load, notes);
    let tracking = tracking(&raw.health, notes);
    let checks = checks::settings(&raw.health.checks, directory, notes);
    let damping = votes::damping(&raw.health.damping, notes);
    let votes = votes::settings(raw, registry, directory, notes);
    Ok(Settings {
        min_ready: min_ready?,
        load: load?,
        tracking: tracking?,
        checks: checks?,
        damping: damping?,
        votes: votes?,
    })
}

/// The file of overrides, which must be there; what it holds is read while running too.
pub(super) fn overrides(
    raw: &raw::Health,
    directory: &Path,
    notes: &mut Notes,
) -> Result<Option<PathBuf>, Refused> {
    let Some(raw) = &raw.overrides else { return Ok(None) };
    let at = at("health.overrides", raw);
    existing(notes, &at, directory, &raw.value, Kind::File).map(Some)
}

fn tracking(raw: &raw::Health, notes: &mut Notes) -> Result<Tracking, Refused> {
    let default = Tracking::default();
    let range = Range { least: 1, most: 1000, why: "attempts in a row" };
    let mut count = |path, raw: &Option<raw::Number>, default| {
        number(notes, path, raw.as_ref(), default, &range, |n| {
            u32::try_from(n).ok().and_then(NonZeroU32::new)
        })
    };
    let failures = count("health.failureThreshold", &raw.failure_threshold, default.failures);
    let successes = count("health.successThreshold", &raw.success_threshold, default.successes);
    let grace = raw.grace.as_ref();
    let grace = duration(notes, "health.grace", grace, default.grace, Duration::ZERO);
    Ok(Tracking { grace: grace?, failures: failures?, successes: successes? })
}

fn load(raw: &raw::Load, notes: &mut Notes) -> Result<LoadLimit, Refused> {
    let default = LoadLimit::default();
    let limit = share("health.load.limit", raw.limit.as_ref(), default.limit, notes);
    // Left alone, the hysteresis follows a limit that is lower.
    let usual = limit.map_or(default.hysteresis, |limit| default.hysteresis.min(limit));
    let hysteresis = share("health.load.hysteresis", raw.hysteresis.as_ref(), usual, notes);
    if let (Some(value), Ok(limit), Ok(hysteresis)) = (&raw.hysteresis, limit, hysteresis)
        && hysteresis > limit
    {
        let reason = format!("{hysteresis} is more than limit, {limit}: no load is below 0");
        return Err(notes.mistake(&at("health.load.hysteresis", value), reason));
    }
    Ok(LoadLimit { limit: limit?, hysteresis: hysteresis? })
}

fn share(
    path: &str,
    raw: Option<&Spanned<f64>>,
    default: f64,
    notes: &mut Notes,
) -> Result<f64, Refused> {
    let Some(raw) = raw else { return Ok(default) };
    if (0.0..=1.0).contains(&raw.value) {
        return Ok(raw.value);
    }
    Err(notes.mistake(&at(path, raw), format!("{} is not from 0 to 1: a share of load", raw.value)))
}
