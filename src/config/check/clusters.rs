//! The section `clusters`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_saphyr::Spanned;

use super::checks;
use super::federation::{NamespaceList, some_namespaces};
use super::notes::{At, Notes, Refused, at};
use super::values::{Kind, all, coordinates, duration, existing, scalar};
use crate::cluster::{
    AddressScope, ApiSettings, ApiSource, Export, InternalAddresses, Namespaces, Settings, Source,
    home,
};
use crate::config::raw;
use crate::model::{ClusterId, Drain, Label, Member};

/// A label as it was first written.
#[derive(Clone, Debug)]
struct Seen {
    text: String,
    at: At,
}

/// Whether there are clusters beside those of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// There are none.
    None,
    /// Secrets of the home cluster register them.
    Registers,
}

/// Names of clusters, regions and availability zones of the file, also of clusters that have
/// other mistakes.
#[derive(Debug, Default)]
pub(super) struct Registry {
    names: BTreeMap<Label, Seen>,
    regions: BTreeMap<Label, Seen>,
    /// By region, then availability zone.
    zones: BTreeMap<(Label, Label), Seen>,
    /// Whether some cluster's region is told by its nodes.
    regions_from_nodes: bool,
    /// Whether some cluster's availability zones are told by its nodes.
    zones_from_nodes: bool,
}

impl Registry {
    /// Checks every cluster but for its source, and remembers its names.
    pub(super) fn members(
        &mut self,
        raw: &Spanned<Vec<raw::Cluster>>,
        home: Home,
        notes: &mut Notes,
    ) -> Result<Vec<Member>, Refused> {
        let place = at("clusters", raw);
        // Those that Secrets register may be in any region.
        self.regions_from_nodes |= home == Home::Registers;
        self.zones_from_nodes |= home == Home::Registers;
        let count = match raw.value.len() {
            0 if home == Home::Registers => Ok(()),
            0 => Err(notes.mistake(
                &place,
                "is empty: a federation has at least one cluster, here or registered at 'home'",
            )),
            1..=ClusterId::MAX_CLUSTERS => Ok(()),
            many => {
                let reason = format!("has {many} clusters, over {}", ClusterId::MAX_CLUSTERS);
                Err(notes.mistake(&place, reason))
            }
        };
        let clusters = raw.value.iter().enumerate();
        let members = all(clusters.map(|(index, cluster)| self.member(index, cluster, notes)));
        count.and(members)
    }

    fn member(
        &mut self,
        index: usize,
        raw: &raw::Cluster,
        notes: &mut Notes,
    ) -> Result<Member, Refused> {
        let path = |key: &str| format!("clusters[{index}].{key}");
        let name = self.name(at(path("name"), &raw.name), &raw.name.value, notes);
        let region = raw.region.as_ref().map(|text| {
            let at = at(path("region"), text);
            place_label(notes, &at, "region", &text.value)
                .and_then(|label| spelt(&mut self.regions, label.clone(), label, &at, text, notes))
        });
        let region = region.transpose();
        let of_zones = region.as_ref().map(Option::as_ref).map_err(|refused| *refused);
        let zones = self.zones(index, raw, of_zones, notes);
        let location = raw
            .location
            .as_ref()
            .map(|location| coordinates(notes, &at(path("location"), location), location.value));
        let drain = scalar(notes, &path("drain"), raw.drain.as_ref(), Drain::No);
        let stale_grace = stale_grace(&path("staleGrace"), raw.stale_grace.as_ref(), notes);
        let checks = checks::of_cluster(&path("checks"), &raw.checks, notes);
        self.regions_from_nodes |= raw.region.is_none();
        self.zones_from_nodes |= raw.zones.is_empty();
        let location = location.transpose()?;
        Ok(Member {
            name: name?,
            region: region?,
            zones: zones?,
            location,
            drain: drain?,
            force: None,
            stale_grace: stale_grace?,
            checks: checks?,
        })
    }

    fn name(&mut self, at: At, text: &str, notes: &mut Notes) -> Result<Label, Refused> {
        let label = label(notes, &at, "cluster name", text)?;
        if let Some(first) = self.names.get(&label) {
            let reason = if first.text == text {
                format!("'{text}' is already {}", first.at.path)
            } else {
                format!(
                    "'{text}' and '{}' ({}) both become the label '{label}'",
                    first.text, first.at.path
                )
            };
            return Err(notes.mistake(&at, reason));
        }
        warn_if_changed(notes, &at, text, &label);
        self.names.insert(label.clone(), Seen { text: text.to_owned(), at });
        Ok(label)
    }

    fn zones(
        &mut self,
        index: usize,
        raw: &raw::Cluster,
        region: Result<Option<&Label>, Refused>,
        notes: &mut Notes,
    ) -> Result<BTreeSet<Label>, Refused> {
        let mut own = BTreeSet::new();
        let zones = raw.zones.iter().enumerate().map(|(zone, text)| {
            let at = at(format!("clusters[{index}].zones[{zone}]"), text);
            let label = place_label(notes, &at, "availability zone", &text.value)?;
            if !own.insert(label.clone()) {
                return Err(notes.mistake(&at, format!("'{label}' is listed twice")));
            }
            let Some(region) = region? else {
                let reason = "stands in no region: give the cluster its 'region' too";
                return Err(notes.mistake(&at, reason));
            };
            let key = (region.clone(), label.clone());
            spelt(&mut self.zones, key, label, &at, text, notes)
        });
        all(zones)
    }

    /// Warns of availability zones that have no short name `S.N.F.svc.ZONE.DOMAIN` because
    /// something else has it.
    pub(super) fn warn_of_shared_names(&self, notes: &mut Notes) {
        let mut regions_of: BTreeMap<&Label, &Label> = BTreeMap::new();
        for ((region, zone), seen) in &self.zones {
            if let Some(rival) = self.regions.get(zone) {
                let reason = format!(
                    "availability zone '{zone}' has the name of a region ({}): names below that \
                     label are the region's",
                    rival.at.path
                );
                notes.warn(&seen.at, reason);
            } else if let Some(other) = regions_of.insert(zone, region) {
                let reason = format!(
                    "availability zone '{zone}' is also in region '{other}': it has names only \
                     below its region"
                );
                notes.warn(&seen.at, reason);
            }
        }
    }

    /// Whether a cluster is so called.
    pub(super) fn has_cluster(&self, name: &Label) -> bool {
        self.names.contains_key(name)
    }

    /// Whether a region is so called, or may turn out to be from the labels of nodes.
    pub(super) fn may_have_region(&self, name: &Label) -> bool {
        self.regions_from_nodes || self.regions.contains_key(name)
    }

    /// Whether an availability zone, of `region` where given, is so called or may turn out to be.
    pub(super) fn may_have_zone(&self, region: Option<&Label>, name: &Label) -> bool {
        self.zones_from_nodes
            || self.zones.keys().any(|(r, z)| z == name && region.is_none_or(|region| region == r))
    }

    /// The key of the region or availability zone that has `label` beside the apex.
    pub(super) fn place_named(&self, label: &[u8]) -> Option<&At> {
        let region = self.regions.iter().find(|(region, _)| region.as_bytes() == label);
        let zone = || self.zones.iter().find(|((_, zone), _)| zone.as_bytes() == label);
        region.map(|(_, seen)| &seen.at).or_else(|| zone().map(|(_, seen)| &seen.at))
    }

    /// What stands between `S.N` and the apex in the longest of the federation's names, and how
    /// many octets a name has beside `S.N` and the apex. A cluster's name stands before `S.N`.
    pub(super) fn longest_level(&self, federation: &Label) -> (String, usize) {
        let octets = |labels: &[&Label]| labels.iter().map(|l| l.as_bytes().len() + 1).sum();
        let names = self.names.keys().map(|name| (octets(&[name]), String::new()));
        let regions = self.regions.keys().map(|region| (octets(&[region]), format!(".{region}")));
        let zones = self.zones.keys().map(|(r, z)| (octets(&[r, z]), format!(".{z}.{r}")));
        let longest = names.chain(regions).chain(zones).max();
        let (level, place): (usize, String) = longest.unwrap_or_default();
        let svc = 4;
        (format!("{federation}.svc{place}"), level + svc + octets(&[federation]))
    }
}

/// `never`, the default, or a duration.
fn stale_grace(
    path: &str,
    raw: Option<&raw::Text>,
    notes: &mut Notes,
) -> Result<Option<Duration>, Refused> {
    match raw.filter(|text| text.value != "never") {
        None => Ok(None),
        Some(text) => duration(notes, path, Some(text), Duration::ZERO, Duration::ZERO).map(Some),
    }
}

/// Where each cluster's objects come from.
pub(super) fn sources(
    file: &raw::File,
    directory: &Path,
    notes: &mut Notes,
) -> Result<Vec<Source>, Refused> {
    let mut read_by: BTreeMap<PathBuf, usize> = BTreeMap::new();
    all(file.clusters.value.iter().enumerate().map(|(index, cluster)| {
        let path = |key: &str| format!("clusters[{index}].source{key}");
        match &cluster.source.value {
            raw::Source::Manifests(text) => {
                let at = at(path(".manifests"), text);
                let wanted = directory.join(&text.value);
                let path = if file.last_known_good.is_some() && !wanted.exists() {
                    // A start without it is what the last known good state is for.
                    notes.warn(&at, format!("{} is not there yet", wanted.display()));
                    wanted
                } else {
                    existing(notes, &at, directory, &text.value, Kind::Directory)?
                };
                if let Some(first) = read_by.insert(path.clone(), index) {
                    notes.warn(&at, format!("the directory is also that of clusters[{first}]"));
                }
                Ok(Source::Manifests(path))
            }
            raw::Source::Kubeconfig(kubeconfig) => {
                let path = path(".kubeconfig.path");
                self::kubeconfig(&path, kubeconfig, directory, notes).map(Source::Api)
            }
            raw::Source::InCluster(_) => Ok(Source::Api(ApiSource::InCluster)),
        }
    }))
}

/// A kubeconfig file need only be there: what it says may change at any time.
fn kubeconfig(
    path: &str,
    raw: &raw::Kubeconfig,
    directory: &Path,
    notes: &mut Notes,
) -> Result<ApiSource, Refused> {
    let at = at(path, &raw.path);
    let path = existing(notes, &at, directory, &raw.path.value, Kind::File)?;
    let context = raw.context.as_ref().map(|context| context.value.clone());
    Ok(ApiSource::Kubeconfig { path, context })
}

/// The section `home`.
pub(super) fn home(
    raw: &raw::Home,
    directory: &Path,
    api: &ApiSettings,
    notes: &mut Notes,
) -> Result<home::Settings, Refused> {
    let source = match &raw.source.value {
        raw::Source::Kubeconfig(raw) => {
            self::kubeconfig("home.source.kubeconfig.path", raw, directory, notes)
        }
        raw::Source::InCluster(_) => Ok(ApiSource::InCluster),
        raw::Source::Manifests(_) => {
            let reason = "a directory holds no Secrets: write 'kubeconfig' or 'inCluster'";
            Err(notes.mistake(&at("home.source", &raw.source), reason))
        }
    };
    let namespace = raw.namespace.as_ref().map(|text| {
        let at = at("home.namespace", text);
        let label = Label::parse(&text.value);
        label.map_err(|error| notes.mistake(&at, error.to_string()))?;
        Ok(text.value.clone())
    });
    let namespace = namespace.transpose()?;
    Ok(home::Settings { source: source?, namespace, api: api.clone() })
}

/// The section `kubernetes`.
pub(super) fn api(raw: &raw::Kubernetes, notes: &mut Notes) -> Result<ApiSettings, Refused> {
    // Asked more often than ten times a second, an API server would be harmed, not watched.
    const LEAST: Duration = Duration::from_millis(100);
    // What the API calls a watch's time-out has whole seconds.
    const LEAST_WATCH: Duration = Duration::from_secs(1);
    let default = ApiSettings::default();
    let raw::Probe { period, timeout } = &raw.probe;
    let (path, raw_period) = ("kubernetes.probe.period", period.as_ref());
    let period = duration(notes, path, raw_period, default.probe_period, LEAST);
    let path = "kubernetes.probe.timeout";
    let timeout = duration(notes, path, timeout.as_ref(), default.probe_timeout, LEAST);
    let path = "kubernetes.watchTimeout";
    let watch =
        duration(notes, path, raw.watch_timeout.as_ref(), default.watch_timeout, LEAST_WATCH);
    Ok(ApiSettings {
        probe_period: period?,
        probe_timeout: timeout?,
        watch_timeout: watch?,
        ballots: None,
    })
}

/// What all clusters of the file have in common, and those that are registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// Which Services are federated.
    pub export: Export,
    /// Of which namespaces.
    pub namespaces: Namespaces,
    /// Which addresses are published.
    pub addresses: AddressScope,
    /// Networks of addresses that are published all the same.
    pub allow_nets: Arc<[IpNet]>,
    /// How API servers are asked.
    pub api: ApiSettings,
    /// How long shards that vanish at one stroke are kept.
    pub confirm: Duration,
    /// The cluster that the instance sits in, if it serves cluster-internal names.
    pub inside: Option<Label>,
}

impl Common {
    /// How a cluster is read of which nothing else is said.
    #[must_use]
    pub fn settings(&self, name: Label, source: Source) -> Settings {
        let internal = match &self.inside {
            Some(inside) if *inside == name => InternalAddresses::Kept,
            _ => InternalAddresses::LeftOut,
        };
        Settings {
            name,
            internal,
            source,
            export: self.export,
            namespaces: self.namespaces.clone(),
            addresses: self.addresses,
            allow_nets: self.allow_nets.clone(),
            api: self.api.clone(),
            confirm: self.confirm,
        }
    }
}

/// `any` where nothing is said.
pub(super) fn scope(raw: Option<raw::Addresses>) -> AddressScope {
    match raw {
        None | Some(raw::Addresses::Any) => AddressScope::Any,
        Some(raw::Addresses::Public) => AddressScope::Public,
    }
}

/// The namespaces that each cluster may export, where a list is kept.
pub(super) fn given_namespaces(
    raw: &Spanned<Vec<raw::Cluster>>,
    notes: &mut Notes,
) -> Result<Vec<Option<NamespaceList>>, Refused> {
    all(raw.value.iter().enumerate().map(|(index, cluster)| {
        let path = format!("clusters[{index}].namespaces");
        let list = cluster.namespaces.as_ref();
        list.map(|list| some_namespaces(&path, list, notes)).transpose()
    }))
}

/// Puts together what is said of each cluster's source and of all of them.
pub(super) fn with_names(
    raw: &Spanned<Vec<raw::Cluster>>,
    members: &[Member],
    sources: Vec<Source>,
    given: Vec<Option<NamespaceList>>,
    common: &Common,
) -> Vec<Settings> {
    let clusters = raw.value.iter().zip(members).zip(sources).zip(given);
    let settings = |(((raw, member), source), given): (((&raw::Cluster, &Member), _), _)| {
        let mut settings = common.settings(member.name.clone(), source);
        settings.namespaces.given = given;
        if raw.addresses.is_some() {
            settings.addresses = scope(raw.addresses);
        }
        settings
    };
    clusters.map(settings).collect()
}

/// A name made a label by the rule for Kubernetes names; `what` it names is for the message.
pub(super) fn label(notes: &mut Notes, at: &At, what: &str, text: &str) -> Result<Label, Refused> {
    Label::from_kubernetes(text).ok_or_else(|| {
        notes.mistake(at, format!("'{text}' is no {what}: it has no letter or digit"))
    })
}

pub(super) fn place_label(
    notes: &mut Notes,
    at: &At,
    what: &str,
    text: &str,
) -> Result<Label, Refused> {
    let label = label(notes, at, what, text)?;
    if label.is_reserved() {
        return Err(notes.mistake(at, format!("'{label}' is reserved and no {what} can have it")));
    }
    Ok(label)
}

/// Refuses a second spelling of what becomes one label; warns of the first where it changed.
fn spelt<K: Ord>(
    seen: &mut BTreeMap<K, Seen>,
    key: K,
    label: Label,
    at: &At,
    text: &raw::Text,
    notes: &mut Notes,
) -> Result<Label, Refused> {
    let text = &text.value;
    match seen.get(&key) {
        None => {
            warn_if_changed(notes, at, text, &label);
            seen.insert(key, Seen { text: text.clone(), at: at.clone() });
            Ok(label)
        }
        Some(first) if first.text == *text => Ok(label),
        Some(first) => {
            let reason = format!(
                "'{text}' and '{}' ({}) both become the label '{label}': write them alike",
                first.text, first.at.path
            );
            Err(notes.mistake(at, reason))
        }
    }
}

fn warn_if_changed(notes: &mut Notes, at: &At, text: &str, label: &Label) {
    if label.as_str() != text {
        notes.warn(at, format!("'{text}' becomes the label '{label}'"));
    }
}
