//! Federations made by hand, for tests.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::{Federation, Identity, Inputs, Membership, Snapshot, build};
use crate::geo::{Atlas, NetworkRule, Target};
use crate::health::{self, ClusterState, Reason, Standing};
use crate::model::{
    Buckets, ClusterView, Coordinates, DomainName, Endpoints, Internal, Label, Member, Policy,
    Port, Ports, Protocol, ServiceKey, ServiceOptions, ShardEntry, ShardParts, Ties,
    WhenNoneHealthy,
};
use crate::zone::{self, InternalSettings, Nameserver, SoaSettings};

pub(crate) fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

pub(crate) fn name(text: &str) -> DomainName {
    DomainName::parse(text).expect("a name")
}

/// A cluster in `state` since the beginning of time.
pub(crate) fn standing(state: ClusterState) -> Standing {
    Standing { state, since: 0, reason: Reason::Current }
}

/// A federation `fed` in `example.com` in the making.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) zone: zone::Settings,
    pub(crate) udp_payload: u16,
    pub(crate) networks: Vec<NetworkRule>,
    pub(crate) members: Vec<Member>,
    pub(crate) shards: Vec<Vec<ShardEntry>>,
    pub(crate) read: Vec<bool>,
    pub(crate) states: Vec<ClusterState>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let zone = zone::Settings {
            federation: label("fed"),
            domain: name("example.com"),
            nameservers: vec![Nameserver {
                name: name("ns1.example.com"),
                addresses: vec![IpAddr::from([192, 0, 2, 53])],
            }],
            soa: SoaSettings {
                rname: name("hostmaster.example.com"),
                refresh: 3600,
                retry: 600,
                expire: 604_800,
            },
            ttl: 180,
            negative_ttl: 60,
            unhealthy_ttl: 5,
            unsettled_ttl: None,
            max_addresses: NonZeroU16::new(8).expect("not zero"),
            policy: Policy::All,
            ties: Ties::Rotate,
            when_none_healthy: WhenNoneHealthy::Nothing,
            records: Vec::new(),
            internal: None,
        };
        Self {
            zone,
            udp_payload: 1232,
            networks: Vec::new(),
            members: Vec::new(),
            shards: Vec::new(),
            read: Vec::new(),
            states: Vec::new(),
        }
    }

    /// The longest UDP reply, octets.
    pub(crate) fn udp_payload(mut self, octets: u16) -> Self {
        self.udp_payload = octets;
        self
    }

    /// Registers a cluster in `zones` of `region`, at a point where one is given.
    pub(crate) fn cluster(
        mut self,
        cluster: &str,
        region: &str,
        zones: &[&str],
        at: Option<(f64, f64)>,
    ) -> Self {
        self.members.push(Member {
            name: label(cluster),
            region: (!region.is_empty()).then(|| label(region)),
            zones: zones.iter().map(|zone| label(zone)).collect(),
            location: at.map(|(lat, lon)| Coordinates::new(lat, lon).expect("on the globe")),
            drain: Default::default(),
            force: None,
            stale_grace: None,
            checks: Default::default(),
        });
        self.shards.push(Vec::new());
        self.read.push(true);
        self.states.push(ClusterState::Up);
        self
    }

    /// Gives cluster `cluster` a shard of `service` (`namespace/name`) with a port `http`/TCP 80.
    pub(crate) fn shard(
        mut self,
        cluster: usize,
        service: &str,
        addresses: &[&str],
        ready: u32,
        options: ServiceOptions,
    ) -> Self {
        let (namespace, service) = service.split_once('/').expect("namespace/name");
        let key = ServiceKey::new(&label(namespace), &label(service));
        let addresses: Vec<IpAddr> =
            addresses.iter().map(|a| a.parse().expect("an address")).collect();
        let port = Port { name: label("http"), protocol: Protocol::Tcp, number: 80 };
        let shard = ShardParts {
            addresses: (*addresses).into(),
            ports: Ports::new([port].into(), None),
            endpoints: Endpoints { ready, total: ready },
            options: Some(Box::new(options)),
            ..ShardParts::default()
        };
        self.shards[cluster].push(ShardEntry::new(key, shard));
        self
    }

    /// Puts the instance into `cluster`, in an availability zone where one is given.
    pub(crate) fn inside(mut self, cluster: &str, zone: Option<&str>) -> Self {
        self.zone.internal = Some(InternalSettings {
            cluster: label(cluster),
            apex: name("fed.svc.cluster.local"),
            zone: zone.map(label),
        });
        self
    }

    /// Gives the last shard of cluster `cluster` addresses within it.
    pub(crate) fn reached_by(mut self, cluster: usize, internal: Internal) -> Self {
        let entry = self.shards[cluster].last_mut().expect("a shard");
        let internal = Some(Box::new(internal));
        entry.shard = ShardParts { internal, ..entry.shard.parts() }.into();
        self
    }

    /// Places clients of `network` at a point.
    pub(crate) fn network(mut self, network: &str, (lat, lon): (f64, f64)) -> Self {
        let target = Target::Coordinates(Coordinates::new(lat, lon).expect("on the globe"));
        let rule = NetworkRule::new(network.parse().expect("a network"), target);
        self.networks.push(rule.expect("a rule"));
        self
    }

    pub(crate) fn inputs(&self) -> Inputs {
        let federation = Federation {
            zone: Arc::new(self.zone.clone()),
            health: health::Settings::default(),
            networks: self.networks.clone(),
            identity: Identity {
                version: None,
                id: None,
                nsid: None,
                udp_payload: self.udp_payload,
            },
            members: self.members.clone(),
            membership: Membership::Known,
            reports: BTreeSet::new(),
        };
        let view = |(shards, read): (&Vec<ShardEntry>, &bool)| {
            let shards = Buckets::from_items(shards.iter().cloned());
            read.then(|| Arc::new(ClusterView { shards, ..ClusterView::default() }))
        };
        Inputs {
            federation: Arc::new(federation),
            views: self.shards.iter().zip(&self.read).map(view).collect(),
            standings: self.states.iter().copied().map(standing).collect(),
            opinions: Default::default(),
            overrides: Default::default(),
            phases: Default::default(),
            atlas: Arc::new(Atlas::build(&[], &self.networks)),
            compiled: None,
            now: 1_700_000_000,
        }
    }

    /// The snapshot with every geographic table compiled.
    pub(crate) fn build(&self) -> Snapshot {
        settle(build(None, self.inputs()))
    }
}

/// The same snapshot with every table compiled that it wants.
pub(crate) fn settle(mut snapshot: Snapshot) -> Snapshot {
    while let Some(missing) = snapshot.missing_tables() {
        let compiled = Some(Arc::new(missing.compile()));
        let inputs = Inputs { compiled, ..snapshot.inputs.clone() };
        snapshot = build(Some(&snapshot), inputs);
    }
    snapshot
}
