//! The section `internal`.

use super::clusters::{Registry, label, place_label};
use super::notes::{Notes, Refused, at};
use crate::config::raw;
use crate::model::{DomainName, Label, Member};
use crate::zone::{self, InternalSettings};

/// What clusters are set up with unless told otherwise.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// `S.N` of one letter each, in octets.
const SHORTEST_SERVICE: usize = 4;

/// Checks where the instance sits.
pub(super) fn settings(
    raw: &raw::File,
    registry: &Registry,
    members: &Result<Vec<Member>, Refused>,
    federation: &Result<zone::Settings, Refused>,
    notes: &mut Notes,
) -> Result<Option<InternalSettings>, Refused> {
    let home = raw.home.is_some();
    let Some(raw) = &raw.internal else { return Ok(None) };
    let cluster = cluster(&raw.cluster, registry, home, notes);
    let members = members.as_deref().unwrap_or_default();
    let member = cluster.as_ref().ok().and_then(|name| members.iter().find(|m| m.name == *name));
    let zone = raw.zone.as_ref().map(|text| availability_zone(text, member, notes)).transpose();
    let apex = apex(raw, federation, notes);
    Ok(Some(InternalSettings { cluster: cluster?, apex: apex?, zone: zone? }))
}

/// Those that a home registers are not known here; one that never comes is reported.
fn cluster(
    raw: &raw::Text,
    registry: &Registry,
    home: bool,
    notes: &mut Notes,
) -> Result<Label, Refused> {
    let at = at("internal.cluster", raw);
    let name = label(notes, &at, "cluster name", &raw.value)?;
    if home || registry.has_cluster(&name) {
        Ok(name)
    } else {
        Err(notes.mistake(&at, format!("there is no cluster '{name}'")))
    }
}

fn availability_zone(
    raw: &raw::Text,
    member: Option<&Member>,
    notes: &mut Notes,
) -> Result<Label, Refused> {
    let at = at("internal.zone", raw);
    let zone = place_label(notes, &at, "availability zone", &raw.value)?;
    match member {
        // Zones that are not configured are told by the nodes.
        Some(member) if !member.zones.is_empty() && !member.zones.contains(&zone) => {
            let reason = format!("'{zone}' is none of the 'zones' of cluster '{}'", member.name);
            Err(notes.mistake(&at, reason))
        }
        _ => Ok(zone),
    }
}

/// `F.svc.<clusterDomain>`, apart from D and short enough for names of services.
fn apex(
    raw: &raw::Internal,
    federation: &Result<zone::Settings, Refused>,
    notes: &mut Notes,
) -> Result<DomainName, Refused> {
    let (place, text) = match &raw.cluster_domain {
        Some(text) => (at("internal.clusterDomain", text), text.value.as_str()),
        None => (at("internal.cluster", &raw.cluster), CLUSTER_DOMAIN),
    };
    let domain =
        DomainName::parse(text).map_err(|error| notes.mistake(&place, error.to_string()))?;
    let federation = federation.as_ref().map_err(|refused| *refused)?;
    let apex = domain.prefixed([federation.federation.as_bytes(), b"svc"]);
    let fits = |apex: &DomainName| apex.wire().len() + SHORTEST_SERVICE <= DomainName::MAX_LEN;
    let Some(apex) = apex.filter(fits) else {
        let reason = format!("is too long: it leaves no room for services in S.N.F.svc.{domain}");
        return Err(notes.mistake(&place, reason));
    };
    if apex.is_within(&federation.domain) || federation.domain.is_within(&apex) {
        let reason = format!(
            "the zone {apex} of cluster-internal names and the domain {} must stand apart",
            federation.domain
        );
        return Err(notes.mistake(&place, reason));
    }
    Ok(apex)
}
