//! The state as it stands in the file: borrowed when written and while read, one shard after the
//! other.
//!
//! The order of fields and variants is the format: a change needs another version.

mod options;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::ser::{SerializeSeq as _, SerializeTuple as _};
use serde::{Deserialize, Serialize, Serializer};
use tracing::warn;

use options::{Drain, Force, Options};

use super::{KnownCluster, KnownView, LastGood, Registry};
use crate::cluster::narrow::Rules;
use crate::model::{
    self, Buckets, Check, CheckMode, ClusterChecks, ClusterView, Coordinates, Endpoints, Label,
    Member, Ports, Protocol, ServiceKey, ShardEntry, Topology,
};
use crate::tasks::Pieces;

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

/// What a home cluster registers.
#[derive(Serialize, Deserialize)]
pub(super) struct Registered<'a> {
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

/// One cluster, in front of its shards.
#[derive(Serialize, Deserialize)]
pub(super) struct Cluster<'a> {
    name: &'a str,
    source: &'a str,
    /// Region and availability zone.
    topologies: Vec<(&'a str, Option<&'a str>)>,
    pod_networks: Vec<(IpAddr, u8)>,
    /// Each list once: most services of a cluster have the same few.
    #[serde(borrow)]
    ports: Vec<Vec<Port<'a>>>,
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

/// The state as it is written: each shard is turned into what stands in the file when its turn has
/// come, as all of them at once take far more memory than the file.
pub(super) struct Federation<'a>(pub(super) &'a LastGood);

impl Serialize for Federation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(LastGood { views, registry, .. }) = self;
        let mut federation = serializer.serialize_tuple(2)?;
        // One of which something is missing would count as whole when it is read again.
        let registry = registry.as_deref().filter(|registry| !registry.partial);
        federation.serialize_element(&registry.map(Registered::of))?;
        federation.serialize_element(&Clusters(views))?;
        federation.end()
    }
}

/// Shards between two looks whether enough was written at a stretch: some 30 us of work, beside which
/// asking for the time is nothing.
const LOOKS: u32 = 64;

struct Clusters<'a>(&'a [KnownView]);

impl Serialize for Clusters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut clusters = serializer.serialize_seq(Some(self.0.len()))?;
        for known in self.0 {
            let (cluster, lists) = Cluster::of(known);
            clusters.serialize_element(&(cluster, Shards(&known.view.shards, lists)))?;
        }
        clusters.end()
    }
}

/// The shards of a cluster, and the numbers of their lists of ports.
struct Shards<'a>(&'a Buckets<ShardEntry>, HashMap<&'a [model::Port], u32>);

impl Serialize for Shards<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(shards, lists) = self;
        let mut seq = serializer.serialize_seq(Some(shards.len()))?;
        let mut pieces = Pieces::every(LOOKS);
        for entry in shards.iter() {
            pieces.step();
            // Every list of a shard has been numbered.
            let list = lists.get(&**entry.shard.ports.named()).copied().unwrap_or_default();
            seq.serialize_element(&Shard::of(&entry.key, &entry.shard, list))?;
        }
        seq.end()
    }
}

impl<'a> Registered<'a> {
    fn of(registry: &'a Registry) -> Self {
        let clusters = registry.clusters.iter().map(Registration::of).collect();
        Self { home: &registry.home, clusters }
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
    fn of(known: &'a KnownView) -> (Self, HashMap<&'a [model::Port], u32>) {
        let KnownView { name, source, view } = known;
        let mut lists: HashMap<&[model::Port], u32> = HashMap::new();
        let mut ports = Vec::new();
        let mut pieces = Pieces::every(LOOKS);
        for entry in view.shards.iter() {
            pieces.step();
            let list: &[model::Port] = entry.shard.ports.named();
            lists.entry(list).or_insert_with(|| {
                ports.push(list.iter().map(Port::of).collect());
                // A Service has some ports: four thousand million lists are no cluster.
                ports.len() as u32 - 1
            });
        }
        let topologies = view.topologies.iter();
        let cluster = Self {
            name: name.as_str(),
            source,
            topologies: topologies
                .map(|t| (t.region.as_str(), t.zone.as_ref().map(Label::as_str)))
                .collect(),
            pod_networks: view.pod_networks.iter().map(|n| (n.addr(), n.prefix_len())).collect(),
            ports,
        };
        (cluster, lists)
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
            hostnames: shard.hostnames().iter().map(|host| &**host).collect(),
            ttl_cap: shard.ttl_cap(),
            ports,
            tcp_port: shard.ports.tcp(),
            ready: shard.endpoints.ready,
            total: shard.endpoints.total,
            options: shard.options().map(Options::of),
            refused: shard.refused().iter().map(|r| (&*r.address, &*r.reason)).collect(),
            internal: shard.internal().map(|internal| match internal {
                model::Internal::ClusterIp(list) => Internal::ClusterIp(Cow::Borrowed(list)),
                model::Internal::Headless(list) => Internal::Headless(Cow::Borrowed(list)),
            }),
        }
    }
}

//--- Reading ---

/// What of the file is still to be read, one part after the other.
pub(super) struct Content<'a>(pub(super) &'a [u8]);

impl<'a> Content<'a> {
    /// The next part, which the caller knows.
    pub(super) fn take<T: Deserialize<'a>>(&mut self) -> Result<T, postcard::Error> {
        let (value, rest) = postcard::take_from_bytes(self.0)?;
        self.0 = rest;
        Ok(value)
    }

    /// Hands each shard of a cluster to `each`.
    pub(super) fn shards(
        &mut self,
        mut each: impl FnMut(Shard<'a>),
    ) -> Result<(), postcard::Error> {
        for _ in 0..self.take::<usize>()? {
            each(self.take()?);
        }
        Ok(())
    }
}

impl Registered<'_> {
    /// What `home` registers, where these are its clusters, as far as it can be.
    pub(super) fn of_home(&self, home: &str) -> Option<Registry> {
        if self.home != home {
            return None;
        }
        let mut partial = false;
        let mut clusters = Vec::with_capacity(self.clusters.len());
        for registration in &self.clusters {
            match registration.read() {
                Ok(cluster) => clusters.push(cluster),
                Err(fault) => {
                    warn!(
                        %home, cluster = registration.name, %fault,
                        "a cluster that was registered cannot be used; the home is waited for"
                    );
                    partial = true;
                }
            }
        }
        Some(Registry { home: home.to_owned(), clusters, partial })
    }
}

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
    /// Whether it has this name and source.
    pub(super) fn is(&self, name: &Label, source: &str) -> bool {
        (self.name, self.source) == (name.as_str(), source)
    }

    /// The view as far as it is told in front of the shards.
    pub(super) fn view(&self) -> Result<ClusterView, Invalid> {
        let label = |text: &str| Label::parse(text);
        let topologies = self.topologies.iter().map(|(region, zone)| {
            Ok(Topology { region: label(region)?, zone: zone.map(label).transpose()? })
        });
        let topologies: Result<_, Invalid> = topologies.collect();
        let networks = self.pod_networks.iter().map(|(ip, len)| IpNet::new(*ip, *len));
        let networks: Result<_, ipnet::PrefixLenError> = networks.collect();
        let (topologies, pod_networks) = (Arc::new(topologies?), Arc::new(networks?));
        Ok(ClusterView { topologies, pod_networks, ..ClusterView::default() })
    }

    /// What takes in its shards.
    pub(super) fn entries<'r>(&self, rules: &'r Rules) -> Result<Entries<'a, 'r>, Invalid> {
        let lists = self.ports.iter().map(|list| list.iter().map(Port::read).collect());
        let (lists, namespaces, ports) =
            (lists.collect::<Result<_, Invalid>>()?, HashMap::new(), HashMap::new());
        Ok(Entries { rules, lists, namespaces, ports, entries: Vec::new(), skipped: None })
    }
}

/// The shards of a cluster so far.
pub(super) struct Entries<'a, 'r> {
    rules: &'r Rules,
    lists: Vec<Arc<[model::Port]>>,
    /// Namespaces are few: each is read and checked once.
    namespaces: HashMap<&'a str, Label>,
    /// So are ports, by the number of the list and the first TCP port.
    ports: HashMap<(u32, Option<u16>), Ports>,
    pub(super) entries: Vec<ShardEntry>,
    pub(super) skipped: Option<Skipped>,
}

impl<'a> Entries<'a, '_> {
    /// Takes in a shard, with what may still be published by the rules.
    pub(super) fn push(&mut self, shard: &Shard<'a>) {
        if !self.rules.admits(shard.namespace) {
            return;
        }
        match (self.read(shard), &mut self.skipped) {
            (Ok(entry), _) => self.entries.push(entry),
            (Err(_), Some(skipped)) => skipped.count += 1,
            (Err(fault), none) => {
                let first = format!("{}/{}", shard.namespace, shard.name);
                *none = Some(Skipped { count: 1, first, fault });
            }
        }
    }

    fn read(&mut self, shard: &Shard<'a>) -> Result<ShardEntry, Invalid> {
        let namespace = match self.namespaces.entry(shard.namespace) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Label::parse(shard.namespace)?),
        };
        let key = ServiceKey::new(namespace, &Label::parse(shard.name)?);
        let ports = match self.ports.entry((shard.ports, shard.tcp_port)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let list = self.lists.get(shard.ports as usize).ok_or(Invalid::Ports)?;
                let ports = Ports::new(list.clone(), shard.tcp_port);
                new.insert(self.rules.pool().ports(ports))
            }
        };
        let shard = shard.read(ports.clone(), self.rules)?;
        Ok(ShardEntry::new(self.rules.pool().key(key), shard))
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

    /// The shard with its ports, and what may still be published by `rules`.
    pub(in crate::cluster) fn read(
        &self,
        ports: Ports,
        rules: &Rules,
    ) -> Result<model::Shard, Invalid> {
        let refused = self.refused.iter().map(|(address, reason)| model::Refusal {
            address: (*address).into(),
            reason: (*reason).into(),
        });
        let publishable = |address: &IpAddr| rules.publishable(*address).is_ok();
        let shard = model::ShardParts {
            addresses: self.addresses.iter().copied().filter(publishable).collect(),
            hostnames: self.hostnames.iter().map(|host| (*host).into()).collect(),
            ttl_cap: self.ttl_cap,
            ports,
            endpoints: Endpoints { ready: self.ready, total: self.total },
            options: self.options.as_ref().map(Options::read).transpose()?.map(Box::new),
            refused: refused.collect(),
            internal: self.internal.as_ref().map(|internal| {
                Box::new(match internal {
                    Internal::ClusterIp(list) => model::Internal::ClusterIp(list[..].into()),
                    Internal::Headless(list) => model::Internal::Headless(list[..].into()),
                })
            }),
        };
        Ok(shard.into())
    }

    /// Its first TCP port.
    pub(in crate::cluster) fn tcp_port(&self) -> Option<u16> {
        self.tcp_port
    }
}
