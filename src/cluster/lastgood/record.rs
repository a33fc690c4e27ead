//! The state as it stands in the file: borrowed when written and while read.
//!
//! The order of fields and variants is the format: a change needs another version.

mod options;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use options::{Drain, Force, Options};

use super::{KnownCluster, KnownView, LastGood, Registry};
use crate::cluster::narrow::Rules;
use crate::model::{
    self, Buckets, Check, CheckMode, ClusterChecks, ClusterView, Coordinates, Endpoints, Label,
    Member, Protocol, ServiceKey, ShardEntry, Topology,
};

/// What the types of the model refuse.
#[derive(Debug, thiserror::Error)]
pub(in crate::cluster) enum Invalid {
    #[error(transparent)]
    Label(#[from] model::InvalidLabel),
    #[error(transparent)]
    Name(#[from] model::InvalidName),
    #[error("a network with a prefix too long")]
    Network(#[from] ipnet::PrefixLenError),
    #[error(transparent)]
    Option(#[from] model::InvalidOption),
    #[error(transparent)]
    Coordinates(#[from] model::InvalidCoordinates),
    #[error("a list of ports that is not there")]
    Ports,
}

/// All clusters.
#[derive(Serialize, Deserialize)]
pub(super) struct Federation<'a> {
    #[serde(borrow)]
    registered: Option<Registered<'a>>,
    #[serde(borrow)]
    clusters: Vec<Cluster<'a>>,
}

/// What a home cluster registers.
#[derive(Serialize, Deserialize)]
struct Registered<'a> {
    home: &'a str,
    #[serde(borrow)]
    clusters: Vec<Registration<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Registration<'a> {
    name: &'a str,
    source: &'a str,
    region: Option<&'a str>,
    zones: Vec<&'a str>,
    /// Latitude and longitude, degrees.
    location: Option<(f64, f64)>,
    drain: Drain,
    #[serde(borrow)]
    force: Option<Force<'a>>,
    stale_grace: Option<Duration>,
    /// Which of its shards are checked, in the form of the annotation.
    checks: Option<&'a str>,
    /// How and when, in the form of the annotation.
    check: Option<Cow<'a, str>>,
}

/// One cluster.
#[derive(Serialize, Deserialize)]
pub(super) struct Cluster<'a> {
    name: &'a str,
    source: &'a str,
    /// Region and availability zone.
    topologies: Vec<(&'a str, Option<&'a str>)>,
    pod_networks: Vec<(IpAddr, u8)>,
    /// Each list once: most services of a cluster have the same few.
    ports: Vec<Vec<Port<'a>>>,
    #[serde(borrow)]
    shards: Vec<Shard<'a>>,
}

#[derive(Serialize, Deserialize)]
pub(in crate::cluster) struct Port<'a> {
    name: &'a str,
    protocol: Transport,
    number: u16,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Transport {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Serialize, Deserialize)]
pub(in crate::cluster) struct Shard<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(borrow)]
    addresses: Addresses<'a>,
    hostnames: Vec<&'a str>,
    ttl_cap: Option<u32>,
    /// An index into the cluster's lists.
    ports: u32,
    tcp_port: Option<u16>,
    ready: u32,
    total: u32,
    #[serde(borrow)]
    options: Option<Options<'a>>,
    /// Address and reason.
    refused: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    internal: Option<Internal<'a>>,
}

/// How pods of the cluster reach it.
#[derive(Serialize, Deserialize)]
enum Internal<'a> {
    #[serde(borrow)]
    ClusterIp(Addresses<'a>),
    #[serde(borrow)]
    Headless(Addresses<'a>),
}

/// Lent when written, owned when read.
type Addresses<'a> = Cow<'a, [IpAddr]>;

//--- Writing ---

impl<'a> Federation<'a> {
    pub(super) fn of(state: &'a LastGood) -> Self {
        let registered = state.registry.as_ref().map(|registry| Registered {
            home: &registry.home,
            clusters: registry.clusters.iter().map(Registration::of).collect(),
        });
        Self { registered, clusters: state.views.iter().map(Cluster::of).collect() }
    }

    /// What `home` registers, where that is known and each of it can be.
    pub(super) fn registry(&self, home: &str) -> Result<Option<Registry>, Invalid> {
        let Some(registered) = self.registered.as_ref().filter(|r| r.home == home) else {
            return Ok(None);
        };
        let clusters = registered.clusters.iter().map(Registration::read);
        Ok(Some(Registry { home: home.to_owned(), clusters: clusters.collect::<Result<_, _>>()? }))
    }

    /// The cluster with this name and source.
    pub(super) fn find(&self, name: &str, source: &str) -> Option<&Cluster<'a>> {
        self.clusters.iter().find(|cluster| (cluster.name, cluster.source) == (name, source))
    }
}

impl<'a> Registration<'a> {
    fn of(KnownCluster { member, source }: &'a KnownCluster) -> Self {
        Self {
            name: member.name.as_str(),
            source,
            region: member.region.as_ref().map(Label::as_str),
            zones: member.zones.iter().map(Label::as_str).collect(),
            location: member.location.map(|at| (at.latitude(), at.longitude())),
            drain: Drain::of(member.drain),
            force: member.force.as_deref().map(Force::of),
            stale_grace: member.stale_grace,
            checks: member.checks.mode.map(CheckMode::as_str),
            check: member.checks.as_set().map(|check| check.to_string().into()),
        }
    }
}

impl<'a> Cluster<'a> {
    fn of(known: &'a KnownView) -> Self {
        let KnownView { name, source, view } = known;
        let mut lists: HashMap<&[model::Port], u32> = HashMap::new();
        let mut ports = Vec::new();
        let shards = view.shards.iter().map(|entry| {
            let list: &[model::Port] = &entry.shard.ports;
            // A Service has some ports: four thousand million lists are no cluster.
            let index = *lists.entry(list).or_insert_with(|| {
                ports.push(list.iter().map(Port::of).collect());
                ports.len() as u32 - 1
            });
            Shard::of(&entry.key, &entry.shard, index)
        });
        let shards = shards.collect();
        let topologies = view.topologies.iter();
        Self {
            name: name.as_str(),
            source,
            topologies: topologies
                .map(|t| (t.region.as_str(), t.zone.as_ref().map(Label::as_str)))
                .collect(),
            pod_networks: view.pod_networks.iter().map(|n| (n.addr(), n.prefix_len())).collect(),
            ports,
            shards,
        }
    }
}

impl<'a> Port<'a> {
    pub(in crate::cluster) fn of(port: &'a model::Port) -> Self {
        let protocol = match port.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Sctp => Transport::Sctp,
        };
        Self { name: port.name.as_str(), protocol, number: port.number }
    }
}

impl<'a> Shard<'a> {
    /// A shard whose list of ports has the number `ports`.
    pub(in crate::cluster) fn of(key: &'a ServiceKey, shard: &'a model::Shard, ports: u32) -> Self {
        Self {
            namespace: key.namespace(),
            name: key.name(),
            addresses: Cow::Borrowed(&shard.addresses),
            hostnames: shard.hostnames.iter().map(|host| &**host).collect(),
            ttl_cap: shard.ttl_cap,
            ports,
            tcp_port: shard.tcp_port,
            ready: shard.endpoints.ready,
            total: shard.endpoints.total,
            options: shard.options.as_deref().map(Options::of),
            refused: shard.refused.iter().map(|r| (&*r.address, &*r.reason)).collect(),
            internal: shard.internal.as_deref().map(|internal| match internal {
                model::Internal::ClusterIp(list) => Internal::ClusterIp(Cow::Borrowed(list)),
                model::Internal::Headless(list) => Internal::Headless(Cow::Borrowed(list)),
            }),
        }
    }
}

//--- Reading ---

impl Registration<'_> {
    fn read(&self) -> Result<KnownCluster, Invalid> {
        let at = |(latitude, longitude)| Coordinates::new(latitude, longitude);
        let zones: Result<_, _> = self.zones.iter().map(|zone| Label::parse(zone)).collect();
        let mode = self.checks.map(str::parse).transpose()?;
        let mut checks = ClusterChecks { mode, ..ClusterChecks::default() };
        if let Some(check) = &self.check {
            checks.set(check.parse::<Check>()?);
        }
        let member = Member {
            name: Label::parse(self.name)?,
            region: self.region.map(Label::parse).transpose()?,
            zones: zones?,
            location: self.location.map(at).transpose()?,
            drain: self.drain.read(),
            force: self.force.as_ref().map(|force| Arc::new(force.read())),
            stale_grace: self.stale_grace,
            checks,
        };
        Ok(KnownCluster { member, source: self.source.to_owned() })
    }
}

/// Shards that are left out, as they hold what cannot be.
pub(super) struct Skipped {
    pub(super) count: usize,
    /// Namespace and name of the first.
    pub(super) first: String,
    /// What is wrong with it.
    pub(super) fault: Invalid,
}

impl<'a> Cluster<'a> {
    /// The view, with what may still be published by `rules`; without the shards that hold what
    /// cannot be, for which it is said to be partial.
    pub(super) fn view(&self, rules: &Rules) -> Result<(ClusterView, Option<Skipped>), Invalid> {
        let label = |text: &str| Label::parse(text);
        let topologies = self.topologies.iter().map(|(region, zone)| {
            Ok(Topology { region: label(region)?, zone: zone.map(label).transpose()? })
        });
        let topologies: Result<_, Invalid> = topologies.collect();
        let networks = self.pod_networks.iter().map(|(ip, len)| IpNet::new(*ip, *len));
        let networks: Result<_, ipnet::PrefixLenError> = networks.collect();
        let ports: Result<Vec<Arc<[model::Port]>>, Invalid> =
            self.ports.iter().map(|list| list.iter().map(Port::read).collect()).collect();
        let (entries, skipped) = self.entries(&ports?, rules);
        let view = ClusterView {
            shards: Buckets::from_items(entries),
            topologies: Arc::new(topologies?),
            pod_networks: Arc::new(networks?),
            partial: skipped.is_some(),
            ..ClusterView::default()
        };
        Ok((view, skipped))
    }

    fn entries(
        &self,
        ports: &[Arc<[model::Port]>],
        rules: &Rules,
    ) -> (Vec<ShardEntry>, Option<Skipped>) {
        // Namespaces are few: each is read and checked once.
        let mut namespaces: HashMap<&'a str, Label> = HashMap::new();
        let mut read = |shard: &Shard<'a>| {
            let namespace = match namespaces.get(shard.namespace) {
                Some(namespace) => namespace.clone(),
                None => {
                    let namespace = Label::parse(shard.namespace)?;
                    namespaces.insert(shard.namespace, namespace.clone());
                    namespace
                }
            };
            let key = ServiceKey::new(&namespace, &Label::parse(shard.name)?);
            Ok::<_, Invalid>(ShardEntry::new(key, Arc::new(shard.read(ports, rules)?)))
        };
        let (mut entries, mut skipped) = (Vec::new(), None::<Skipped>);
        for shard in self.shards.iter().filter(|shard| rules.admits(shard.namespace)) {
            match (read(shard), &mut skipped) {
                (Ok(entry), _) => entries.push(entry),
                (Err(_), Some(skipped)) => skipped.count += 1,
                (Err(fault), none) => {
                    let first = format!("{}/{}", shard.namespace, shard.name);
                    *none = Some(Skipped { count: 1, first, fault });
                }
            }
        }
        (entries, skipped)
    }
}

impl Port<'_> {
    pub(in crate::cluster) fn read(&self) -> Result<model::Port, Invalid> {
        let protocol = match self.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
            Transport::Sctp => Protocol::Sctp,
        };
        Ok(model::Port { name: Label::parse(self.name)?, protocol, number: self.number })
    }
}

impl Shard<'_> {
    /// Namespace and name of the service.
    pub(in crate::cluster) fn names(&self) -> (&str, &str) {
        (self.namespace, self.name)
    }

    /// The shard, with one of the lists of ports, and what may still be published by `rules`.
    pub(in crate::cluster) fn read(
        &self,
        ports: &[Arc<[model::Port]>],
        rules: &Rules,
    ) -> Result<model::Shard, Invalid> {
        let refused = self.refused.iter().map(|(address, reason)| model::Refusal {
            address: (*address).into(),
            reason: (*reason).into(),
        });
        let publishable = |address: &IpAddr| rules.publishable(*address).is_ok();
        Ok(model::Shard {
            addresses: self.addresses.iter().copied().filter(publishable).collect(),
            hostnames: self.hostnames.iter().map(|host| (*host).into()).collect(),
            ttl_cap: self.ttl_cap,
            ports: ports.get(self.ports as usize).ok_or(Invalid::Ports)?.clone(),
            tcp_port: self.tcp_port,
            endpoints: Endpoints { ready: self.ready, total: self.total },
            options: self.options.as_ref().map(Options::read).transpose()?.map(Box::new),
            refused: refused.collect(),
            internal: self.internal.as_ref().map(|internal| {
                Box::new(match internal {
                    Internal::ClusterIp(list) => model::Internal::ClusterIp(list[..].into()),
                    Internal::Headless(list) => model::Internal::Headless(list[..].into()),
                })
            }),
        })
    }
}
