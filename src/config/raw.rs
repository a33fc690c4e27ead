//! The file as it is written: keys and types, nothing checked beyond them.
//!
//! Numbers are signed and addresses are text, so that a value out of range is a mistake with a
//! reason, listed with all others, and not the end of reading. What a key means, its unit and its
//! default: `docs/configuration.md`.

mod check;
mod votes;

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde_saphyr::Spanned;

pub(super) use check::Check;
pub(super) use votes::{Damping, Quorum, Votes};

pub(super) type Text = Spanned<String>;
pub(super) type Number = Spanned<i64>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    pub federation: Federation,
    pub listen: Listen,
    pub clusters: Spanned<Vec<Cluster>>,
    pub home: Option<Home>,
    #[serde(default)]
    pub kubernetes: Kubernetes,
    pub internal: Option<Internal>,
    #[serde(default)]
    pub geo: Geo,
    #[serde(default)]
    pub dns: Dns,
    #[serde(default)]
    pub resolver: Resolver,
    #[serde(default)]
    pub health: Health,
    #[serde(default)]
    pub withdrawal: Withdrawal,
    pub last_known_good: Option<LastKnownGood>,
    #[serde(default)]
    pub startup: Startup,
    #[serde(default)]
    pub shutdown: Shutdown,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Federation {
    pub name: Text,
    pub domain: Text,
    pub nameservers: Spanned<Vec<Nameserver>>,
    #[serde(default)]
    pub soa: Soa,
    pub ttl: Option<Number>,
    pub negative_ttl: Option<Number>,
    pub unhealthy_ttl: Option<Number>,
    pub unsettled_ttl: Option<Number>,
    pub max_addresses: Option<Number>,
    #[serde(default)]
    pub allow_nets: Vec<Text>,
    pub policy: Option<Spanned<Policy>>,
    pub sticky: Option<bool>,
    pub when_none_healthy: Option<Text>,
    pub min_ready: Option<Spanned<Scalar>>,
    pub export: Option<Spanned<Exported>>,
    pub addresses: Option<Addresses>,
    #[serde(default)]
    pub records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Nameserver {
    pub name: Text,
    #[serde(default)]
    pub addresses: Vec<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Soa {
    pub rname: Option<Text>,
    pub refresh: Option<Number>,
    pub retry: Option<Number>,
    pub expire: Option<Number>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Record {
    pub name: Text,
    #[serde(rename = "type")]
    pub rtype: Text,
    pub ttl: Option<Number>,
    pub data: Text,
}

/// A policy in the form of the annotation, or as a mapping.
#[derive(Debug)]
pub(super) enum Policy {
    Text(String),
    Nearest(i64),
    Weighted(i64),
    Failover(Vec<String>),
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        enum Keyed {
            Nearest(i64),
            Weighted(i64),
            Failover(Vec<String>),
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Policy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "'all', 'nearest: N', 'region', 'weighted' or 'failover: CLUSTER, CLUSTER'",
                )
            }

            fn visit_str<E>(self, text: &str) -> Result<Policy, E> {
                Ok(Policy::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Policy, A::Error> {
                Ok(match Keyed::deserialize(MapAccessDeserializer::new(map))? {
                    Keyed::Nearest(count) => Policy::Nearest(count),
                    Keyed::Weighted(count) => Policy::Weighted(count),
                    Keyed::Failover(clusters) => Policy::Failover(clusters),
                })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A truth value, a number or a text, as text: what an annotation would have.
#[derive(Debug)]
pub(super) struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl Visitor<'_> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a truth value, a number or a text")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A word, or `all` with lists.
#[derive(Debug)]
pub(super) enum Exported {
    Label,
    ServiceExport,
    All(All),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct All {
    pub include: Option<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub exclude: Vec<Text>,
}

impl<'de> Deserialize<'de> for Exported {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Lists {
            all: All,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Exported;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("'label', 'serviceExport', 'all' or 'all: {include: [], exclude: []}'")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Exported, E> {
                match text {
                    "label" => Ok(Exported::Label),
                    "serviceExport" => Ok(Exported::ServiceExport),
                    "all" => Ok(Exported::All(All::default())),
                    other => Err(E::unknown_variant(other, &["label", "serviceExport", "all"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Exported, A::Error> {
                let Lists { all } = Lists::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Exported::All(all))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Addresses {
    Any,
    Public,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Listen {
    pub dns: Spanned<Vec<Text>>,
    pub http: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Cluster {
    pub name: Text,
    pub region: Option<Text>,
    #[serde(default)]
    pub zones: Vec<Text>,
    pub location: Option<Spanned<Location>>,
    pub drain: Option<Spanned<Scalar>>,
    pub namespaces: Option<Spanned<Vec<Text>>>,
    pub addresses: Option<Addresses>,
    pub source: Spanned<Source>,
    pub stale_grace: Option<Text>,
    #[serde(default)]
    pub checks: Checks,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Location {
    pub latitude: f64,
    pub longitude: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) enum Source {
    Manifests(Text),
    Kubeconfig(Kubeconfig),
    InCluster(InCluster),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Kubeconfig {
    pub path: Text,
    pub context: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct InCluster {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Home {
    pub source: Spanned<Source>,
    pub namespace: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Kubernetes {
    #[serde(default)]
    pub probe: Probe,
    pub watch_timeout: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Probe {
    pub period: Option<Text>,
    pub timeout: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Internal {
    pub cluster: Text,
    pub cluster_domain: Option<Text>,
    pub zone: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Geo {
    #[serde(default)]
    pub databases: Vec<Text>,
    pub embedded: Option<bool>,
    #[serde(default)]
    pub networks: Vec<Spanned<Network>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Network {
    pub cidr: Option<Text>,
    pub asn: Option<Number>,
    pub country: Option<Text>,
    pub subdivision: Option<Text>,
    pub cluster: Option<Text>,
    pub region: Option<Text>,
    pub zone: Option<Text>,
    pub location: Option<Spanned<Location>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Dns {
    pub udp_payload_size: Option<Number>,
    pub udp_workers: Option<Number>,
    pub udp_receive_offload: Option<bool>,
    #[serde(default)]
    pub tcp: Tcp,
    pub version: Option<Text>,
    pub id: Option<Text>,
    pub nsid: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Tcp {
    pub max_connections: Option<Number>,
    pub max_connections_per_client: Option<Number>,
    pub idle_timeout: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Resolver {
    #[serde(default)]
    pub upstreams: Vec<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Health {
    pub grace: Option<Text>,
    pub failure_threshold: Option<Number>,
    pub success_threshold: Option<Number>,
    #[serde(default)]
    pub load: Load,
    pub overrides: Option<Text>,
    #[serde(default)]
    pub checks: Checks,
    #[serde(default)]
    pub damping: Damping,
    pub votes: Option<Spanned<Votes>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Load {
    pub limit: Option<Spanned<f64>>,
    pub hysteresis: Option<Spanned<f64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Checks {
    pub mode: Option<CheckMode>,
    pub check: Option<Spanned<Check>>,
    pub interval: Option<Text>,
    pub timeout: Option<Text>,
    pub rise: Option<Number>,
    pub fall: Option<Number>,
    pub jitter: Option<Number>,
    pub concurrency: Option<Number>,
    pub authorities: Option<Spanned<Vec<Text>>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum CheckMode {
    Off,
    Suspect,
    Always,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Withdrawal {
    pub confirm: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct LastKnownGood {
    pub path: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Startup {
    pub grace: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Shutdown {
    pub drain: Option<Text>,
}
