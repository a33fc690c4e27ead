//! What one Secret says of the cluster that it registers.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::config::Kubeconfig;

use super::{Registration, SecretName};
use crate::cluster::ApiSource;
use crate::cluster::kube::refuse_foreign;
use crate::cluster::narrow::ObjectId;
use crate::model::{Check, ClusterChecks, Coordinates, Label, Member};

/// A Secret, narrowed.
pub(super) struct Narrow {
    pub(super) id: ObjectId,
    pub(super) name: SecretName,
    pub(super) said: Result<Registration, Unusable>,
}

impl Narrow {
    pub(super) fn of(id: ObjectId, secret: &Secret) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default().into();
        let metadata = &secret.metadata;
        let name = SecretName {
            namespace: text(&metadata.namespace),
            name: text(&metadata.name),
            uid: text(&metadata.uid),
        };
        Self { id, said: registration(secret, name.clone()), name }
    }
}

/// Why a Secret registers no cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable(pub(super) String);

impl<E: fmt::Display> From<E> for Unusable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Reads what a Secret says.
pub(super) fn registration(
    secret: &Secret,
    secret_name: SecretName,
) -> Result<Registration, Unusable> {
    let annotation = |key: &str| {
        let value = secret.metadata.annotations.as_ref()?.get(&format!("meridian.dev/{key}"))?;
        Some(value.trim()).filter(|value| !value.is_empty())
    };
    let name = label("name", annotation("name").unwrap_or(&secret_name.name))?;
    let region = annotation("region").map(|text| place("region", text)).transpose()?;
    let zones: BTreeSet<Label> = annotation("zones")
        .into_iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| place("zones", text))
        .collect::<Result<_, _>>()?;
    if region.is_none() && !zones.is_empty() {
        return Err("meridian.dev/zones stand in no region: write meridian.dev/region too".into());
    }
    let location =
        location(annotation("location"), annotation("latitude"), annotation("longitude"))?;
    let drain = annotation("drain").map(|text| option("drain", text)).transpose()?;
    let force = annotation("override").map(|text| option("override", text)).transpose()?;
    let stale_grace = annotation("stale-grace").map(stale_grace).transpose()?.flatten();
    let data = secret.data.as_ref();
    let kubeconfig = ["kubeconfig", "value"].iter().find_map(|key| data?.get(*key));
    let bytes = kubeconfig.ok_or("it has neither data.kubeconfig nor data.value")?;
    let text = std::str::from_utf8(&bytes.0).map_err(|_| "its kubeconfig is not UTF-8")?;
    refuse_foreign(&Kubeconfig::from_yaml(text)?)?;
    let checks = checks(annotation("checks"), annotation("check"))?;
    let member = Member {
        name,
        region,
        zones,
        location,
        drain: drain.unwrap_or_default(),
        force: force.map(Arc::new),
        stale_grace,
        checks,
    };
    Ok(Registration { member, source: ApiSource::Inline(text.into()), secret: secret_name })
}

/// As `checks` of a cluster in the configuration, with the timing in the text of the check. Who may
/// write the Secret has Meridian speak to any host, as any server may stand in the kubeconfig; so
/// the limits are those of the configuration, not those of a Service.
fn checks(mode: Option<&str>, check: Option<&str>) -> Result<ClusterChecks, Unusable> {
    let mode = mode.map(|text| option("checks", text)).transpose()?;
    let mut checks = ClusterChecks { mode, ..ClusterChecks::default() };
    match check {
        None => {}
        Some("off") => {
            return Err(
                "meridian.dev/check 'off' is for Services: write meridian.dev/checks 'off' \
                        to have none of the cluster's shards checked"
                    .into(),
            );
        }
        Some(text) if text.len() > Check::LONGEST_TEXT => {
            let most = Check::LONGEST_TEXT;
            return Err(format!("meridian.dev/check is longer than {most} octets").into());
        }
        Some(text) => checks.set(option("check", text)?),
    }
    Ok(checks)
}

/// As `staleGrace` of a cluster in the configuration.
fn stale_grace(text: &str) -> Result<Option<Duration>, Unusable> {
    /// More is a wrong unit.
    const MOST: Duration = Duration::from_secs(3600);
    if text == "never" {
        return Ok(None);
    }
    let read = text.parse::<SignedDuration>().ok().and_then(|read| Duration::try_from(read).ok());
    let grace = read.filter(|grace| *grace <= MOST).ok_or_else(|| {
        format!("meridian.dev/stale-grace '{text}' is neither 'never' nor from 0s to 1h")
    });
    Ok(Some(grace?))
}

fn option<T: FromStr<Err: fmt::Display>>(key: &str, text: &str) -> Result<T, Unusable> {
    text.parse().map_err(|error| format!("meridian.dev/{key} {error}").into())
}

fn label(key: &str, text: &str) -> Result<Label, Unusable> {
    let label = Label::from_kubernetes(text);
    label.ok_or_else(|| format!("meridian.dev/{key} '{text}' has no letter or digit").into())
}

fn place(key: &str, text: &str) -> Result<Label, Unusable> {
    let label = label(key, text)?;
    if label.is_reserved() {
        return Err(format!("meridian.dev/{key} '{label}' is reserved").into());
    }
    Ok(label)
}

/// From `latitude,longitude` in one annotation, or one in each of two.
fn location(
    both: Option<&str>,
    latitude: Option<&str>,
    longitude: Option<&str>,
) -> Result<Option<Coordinates>, Unusable> {
    let (latitude, longitude) = match (both, latitude, longitude) {
        (None, None, None) => return Ok(None),
        (Some(both), None, None) => both
            .split_once(',')
            .ok_or_else(|| format!("meridian.dev/location '{both}' is not LATITUDE,LONGITUDE"))?,
        (None, Some(latitude), Some(longitude)) => (latitude, longitude),
        _ => {
            return Err("write meridian.dev/location, or meridian.dev/latitude and longitude, \
                        and not a part of each"
                .into());
        }
    };
    let degrees = |text: &str| {
        text.trim().parse::<f64>().map_err(|_| format!("'{text}' is no number of degrees"))
    };
    Ok(Some(Coordinates::new(degrees(latitude)?, degrees(longitude)?)?))
}
