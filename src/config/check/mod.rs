//! From what is written to what is meant, one file a section.
//!
//! Every check notes its mistakes and goes on, so that one run tells all of them; the settings
//! are put together at the end, by `?` over what each check yielded.

mod checks;
mod clusters;
mod domain;
mod federation;
mod geo;
mod health;
mod internal;
mod notes;
mod rdata;
mod records;
mod server;
mod values;
mod votes;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use clusters::Common;
use notes::{Notes, Refused, at};
use values::{Kind, duration, existing};

use super::{Config, Mistake, raw};
use crate::cluster::{ApiSettings, home};
use crate::{publisher, zone};

/// Checks the whole file; relative paths are relative to `directory`.
///
/// # Errors
/// Every mistake, in the order of the file; at least one.
pub(super) fn check(raw: &raw::File, directory: &Path) -> Result<Config, Vec<Mistake>> {
    let mut notes = Notes::default();
    let config = assemble(raw, directory, &mut notes);
    let (mistakes, warnings) = notes.finish();
    match config {
        Ok(config) if mistakes.is_empty() => Ok(Config { warnings, ..config }),
        _ => Err(mistakes),
    }
}

fn assemble(raw: &raw::File, directory: &Path, notes: &mut Notes) -> Result<Config, Refused> {
    let mut registry = clusters::Registry::default();
    let has_home = match raw.home {
        Some(_) => clusters::Home::Registers,
        None => clusters::Home::None,
    };
    let members = registry.members(&raw.clusters, has_home, notes);
    registry.warn_of_shared_names(notes);
    let sources = clusters::sources(raw, directory, notes);
    let given = clusters::given_namespaces(&raw.clusters, notes);
    let federation = federation::settings(&raw.federation, &registry, notes);
    let health = health::settings(raw, &registry, directory, notes);
    let overrides = health::overrides(&raw.health, directory, notes);
    let confirm = confirm(&raw.withdrawal, notes);
    let last_known_good = last_known_good(raw.last_known_good.as_ref(), directory, notes);
    let export = federation::export(&raw.federation, notes);
    let allow_nets = federation::allow_nets(&raw.federation, notes);
    let internal = internal::settings(raw, &registry, &members, &federation, notes);
    let api = clusters::api(&raw.kubernetes, notes);
    let api = api.map(|api| ApiSettings { ballots: votes::namespace(raw), ..api });
    let home = home(raw, directory, &api, notes);
    let geo = geo::settings(&raw.geo, &registry, directory, notes);
    let identity = server::identity(&raw.dns, notes);
    let server = server::settings(raw, notes);
    let resolver = server::resolver(&raw.resolver, notes);
    let startup = startup(&raw.startup, notes);
    let members = members?;
    let internal = internal?;
    let (export, namespaces) = export?;
    let common = Common {
        export,
        namespaces,
        addresses: clusters::scope(raw.federation.addresses),
        allow_nets: allow_nets?.into(),
        api: api?,
        confirm: confirm?,
        inside: internal.as_ref().map(|internal| internal.cluster.clone()),
    };
    let sources = clusters::with_names(&raw.clusters, &members, sources?, given?, &common);
    Ok(Config {
        federation: zone::Settings { internal, ..federation? },
        health: health?,
        overrides: overrides?,
        geo: geo?,
        identity: identity?,
        server: server?,
        members,
        sources,
        common,
        home: home?,
        resolver: resolver?,
        publisher: publisher::Settings {
            startup_grace: startup?,
            last_known_good: last_known_good?,
            checking: publisher::Checking::Allowed,
        },
        warnings: Vec::new(),
    })
}

fn home(
    raw: &raw::File,
    directory: &Path,
    api: &Result<ApiSettings, Refused>,
    notes: &mut Notes,
) -> Result<Option<home::Settings>, Refused> {
    let Some(home) = &raw.home else { return Ok(None) };
    // Where the API settings are refused, so is the file: the defaults only let the rest be checked.
    let api = api.as_ref().cloned().unwrap_or_default();
    clusters::home(home, directory, &api, notes).map(Some)
}

fn confirm(raw: &raw::Withdrawal, notes: &mut Notes) -> Result<Duration, Refused> {
    // Longer than an alert takes to reach a person who can stop it, shorter than an operator who
    // meant it is willing to wait.
    const CONFIRM: Duration = Duration::from_secs(300);
    let confirm = raw.confirm.as_ref();
    duration(notes, "withdrawal.confirm", confirm, CONFIRM, Duration::ZERO)
}

/// The file need not be there, its directory must.
fn last_known_good(
    raw: Option<&raw::LastKnownGood>,
    directory: &Path,
    notes: &mut Notes,
) -> Result<Option<PathBuf>, Refused> {
    let Some(raw) = raw else { return Ok(None) };
    let at = at("lastKnownGood.path", &raw.path);
    let path = directory.join(&raw.path.value);
    if path.is_dir() {
        let reason = format!("{} is a directory: name a file in it", path.display());
        return Err(notes.mistake(&at, reason));
    }
    // Both may be empty, which is where we are.
    let parent = Path::new(&raw.path.value).parent().filter(|parent| *parent != "");
    let parent = parent.unwrap_or(Path::new(".")).display();
    existing(notes, &at, directory, &parent.to_string(), Kind::Directory)?;
    Ok(Some(path))
}

fn startup(raw: &raw::Startup, notes: &mut Notes) -> Result<Duration, Refused> {
    // Longer than the first list of a large cluster takes, shorter than a rollout waits.
    const GRACE: Duration = Duration::from_secs(30);
    let grace = raw.grace.as_ref();
    duration(notes, "startup.grace", grace, GRACE, Duration::ZERO)
}
