//! The section `geo`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_saphyr::Spanned;

use super::clusters::{Registry, label};
use super::notes::{At, Notes, Refused, at};
use super::values::{Kind, all, coordinates, existing, network};
use crate::config::raw;
use crate::geo::{Clients, Country, Embedded, NetworkRule, Settings, Target};

/// Checks databases and networks; relative paths are relative to `directory`.
pub(super) fn settings(
    raw: &raw::Geo,
    registry: &Registry,
    directory: &Path,
    notes: &mut Notes,
) -> Result<Settings, Refused> {
    let databases = databases(&raw.databases, directory, notes);
    let networks = networks(&raw.networks, registry, notes);
    let embedded = match raw.embedded {
        None | Some(true) => Embedded::Used,
        Some(false) => Embedded::Off,
    };
    Ok(Settings { databases: databases?, embedded, networks: networks? })
}

fn databases(
    raw: &[raw::Text],
    directory: &Path,
    notes: &mut Notes,
) -> Result<Vec<PathBuf>, Refused> {
    let mut seen = BTreeMap::new();
    all(raw.iter().enumerate().map(|(index, text)| {
        let at = at(format!("geo.databases[{index}]"), text);
        let path = existing(notes, &at, directory, &text.value, Kind::File)?;
        match seen.insert(path.clone(), index) {
            None => Ok(path),
            Some(first) => {
                Err(notes
                    .mistake(&at, format!("'{}' is already geo.databases[{first}]", text.value)))
            }
        }
    }))
}

fn networks(
    raw: &[Spanned<raw::Network>],
    registry: &Registry,
    notes: &mut Notes,
) -> Result<Vec<NetworkRule>, Refused> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    all(raw.iter().enumerate().map(|(index, rule)| {
        let target = target(index, rule, registry, notes);
        let (clients, at) = clients(index, rule, notes)?;
        // Codes and names are alike in any case.
        let key = clients.to_string().to_lowercase();
        if let Some(first) = seen.get(&key) {
            let reason = format!("{clients} is already geo.networks[{first}]");
            return Err(notes.mistake(&at, reason));
        }
        seen.insert(key, index);
        NetworkRule::of(clients, target?).map_err(|error| notes.mistake(&at, error.to_string()))
    }))
}

/// Whom a rule is about, and where it says so.
fn clients(
    index: usize,
    rule: &Spanned<raw::Network>,
    notes: &mut Notes,
) -> Result<(Clients, At), Refused> {
    let path = format!("geo.networks[{index}]");
    let raw = &rule.value;
    match (&raw.cidr, &raw.asn, &raw.country, &raw.subdivision) {
        (Some(cidr), None, None, None) => {
            let at = at(format!("{path}.cidr"), cidr);
            Ok((Clients::Network(network(notes, &at, &cidr.value)?), at))
        }
        (None, Some(asn), None, None) => {
            let at = at(format!("{path}.asn"), asn);
            // "AS 0 ... MUST NOT" be used (RFC 7607), and the last one is reserved (RFC 7300).
            let number = u32::try_from(asn.value).ok().filter(|n| (1..u32::MAX).contains(n));
            match number {
                Some(number) => Ok((Clients::System(number), at)),
                None => {
                    let reason = format!("{} is no number of an autonomous system", asn.value);
                    Err(notes.mistake(&at, reason))
                }
            }
        }
        (None, None, Some(country), subdivision) => {
            let at = at(format!("{path}.country"), country);
            let Some(code) = Country::parse(&country.value) else {
                let reason = format!("'{}' is no country: write two letters", country.value);
                return Err(notes.mistake(&at, reason));
            };
            let subdivision = subdivision.as_ref().map(|part| part.value.trim().into());
            Ok((Clients::Land { country: code, subdivision }, at))
        }
        (None, None, None, Some(part)) => {
            let at = at(format!("{path}.subdivision"), part);
            Err(notes.mistake(&at, "give its 'country' too"))
        }
        (None, None, None, None) => {
            let reason = "names no clients: give 'cidr', 'asn' or 'country'";
            Err(notes.mistake(&at(path, rule), reason))
        }
        _ => {
            let reason = "names clients twice: give one of 'cidr', 'asn' and 'country' (with its \
                          'subdivision')";
            Err(notes.mistake(&at(path, rule), reason))
        }
    }
}

fn target(
    index: usize,
    rule: &Spanned<raw::Network>,
    registry: &Registry,
    notes: &mut Notes,
) -> Result<Target, Refused> {
    let path = format!("geo.networks[{index}]");
    let raw = &rule.value;
    match (&raw.cluster, &raw.region, &raw.zone, &raw.location) {
        (Some(cluster), None, None, None) => {
            let at = at(format!("{path}.cluster"), cluster);
            let name = label(notes, &at, "cluster name", &cluster.value)?;
            if !registry.has_cluster(&name) {
                return Err(notes.mistake(&at, format!("there is no cluster '{name}'")));
            }
            Ok(Target::Cluster(name))
        }
        (None, Some(region), None, None) => {
            let at = at(format!("{path}.region"), region);
            let name = label(notes, &at, "region", &region.value)?;
            if !registry.may_have_region(&name) {
                return Err(notes.mistake(&at, format!("no cluster is in a region '{name}'")));
            }
            Ok(Target::Region(name))
        }
        (None, region, Some(zone), None) => {
            zone_target(&path, region.as_ref(), zone, registry, notes)
        }
        (None, None, None, Some(location)) => {
            let at = at(format!("{path}.location"), location);
            coordinates(notes, &at, location.value).map(Target::Coordinates)
        }
        (None, None, None, None) => {
            let reason = "names no place: give 'cluster', 'region', 'zone' or 'location'";
            Err(notes.mistake(&at(path, rule), reason))
        }
        _ => {
            let reason = "names several places: give one of 'cluster', 'region', 'zone' (with its \
                          'region') and 'location'";
            Err(notes.mistake(&at(path, rule), reason))
        }
    }
}

fn zone_target(
    path: &str,
    region: Option<&raw::Text>,
    zone: &raw::Text,
    registry: &Registry,
    notes: &mut Notes,
) -> Result<Target, Refused> {
    let region = region.map(|text| {
        let at = at(format!("{path}.region"), text);
        label(notes, &at, "region", &text.value)
    });
    let at = at(format!("{path}.zone"), zone);
    let name = label(notes, &at, "availability zone", &zone.value);
    let (region, zone) = (region.transpose()?, name?);
    if registry.may_have_zone(region.as_ref(), &zone) {
        return Ok(Target::Zone { region, zone });
    }
    let place = region.map(|region| format!(" of region '{region}'")).unwrap_or_default();
    Err(notes.mistake(&at, format!("no cluster is in an availability zone '{zone}'{place}")))
}
