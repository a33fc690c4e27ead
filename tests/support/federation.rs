//! Federations in memory, described in plain values and turned into what a snapshot is built from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use meridian::geo::{Atlas, NetworkRule, Target};
use meridian::health::overrides::{Overrides, Rule, ServicePattern};
use meridian::health::{
    self, Checked, ClusterState, Failure, Load, Opinion, Opinions, Phase, Phases, Reason, Standing,
    Witness,
};
use meridian::model::{
    Buckets, ClusterView, Coordinates, DomainName, Drain, Endpoints, Force, Forced, Internal,
    Label, Member, Policy, Port, Ports, Protocol, ServiceKey, ServiceOptions, ShardEntry,
    ShardParts, Ties, Topology, Until, WhenNoneHealthy,
};
use meridian::snapshot::{self, Identity, Inputs, Membership, Snapshot, build};
use meridian::zone::{self, InternalSettings, Nameserver, SoaSettings, StaticRecord};

/// The federation's domain.
pub(crate) const DOMAIN: &str = "example.com";
/// TTLs: of records, of negative answers, of services that are down.
pub(crate) const TTL: u32 = 180;
pub(crate) const NEGATIVE_TTL: u32 = 60;
pub(crate) const UNHEALTHY_TTL: u32 = 5;

/// A service as `(name, namespace)`, in the order of their labels.
pub(crate) type Key = (String, String);

/// One cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    /// Configured place.
    pub(crate) region: Option<String>,
    pub(crate) zones: Vec<String>,
    /// Regions and zones of its nodes.
    pub(crate) nodes: BTreeSet<(String, Option<String>)>,
    pub(crate) location: Option<(i16, i16)>,
    pub(crate) drained: bool,
    /// Its source has never been read.
    pub(crate) unread: bool,
    pub(crate) down: bool,
    pub(crate) services: BTreeMap<Key, ServiceShard>,
    /// What is known of services in it beside what it says itself.
    pub(crate) told: BTreeMap<Key, Told>,
}

/// What is known of a service in a cluster beside what the cluster says, for the sake of brevity as
/// flags and times.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) failing: bool,
    /// How it fails: for people alone.
    pub(crate) words: u8,
    pub(crate) overloaded: bool,
    pub(crate) unsettled: bool,
    /// An override and when it ends.
    pub(crate) force: Option<(Forced, u64)>,
    /// Until when a planned drain lets it be served.
    pub(crate) leaving: Option<u64>,
}

impl Told {
    /// What is seen from outside.
    pub(crate) fn opinion(&self) -> Option<Opinion> {
        let why = format!("status {}", self.words).into();
        let seen_by = [Witness::new(label("c0"), ["i"])].into();
        let failure = Failure { since: 0, why, seen_by, held: false };
        let check = match self.failing {
            true => Checked::Failing(Arc::new(failure)),
            false => Checked::NotChecked,
        };
        let load = self.overloaded.then_some(Load::Over(1.0));
        let opinion = Opinion { check, load, unsettled: self.unsettled, suspicion: None };
        (opinion != Opinion::default()).then_some(opinion)
    }

    /// How far its drain is.
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.leaving.map(|end| Phase { leaving: Some(end), load: None })
    }
}

/// The overrides file that says what is told of single services.
pub(crate) fn overrides(clusters: &[Cluster]) -> Arc<Overrides> {
    let told = clusters.iter().flat_map(|c| c.told.iter().map(move |(key, told)| (c, key, told)));
    let rules = told.filter_map(|(cluster, (name, namespace), told)| {
        let (to, end) = told.force?;
        let (author, reason) = ("alice".into(), "a test".into());
        let pattern = |text: &str| text.parse().expect("a pattern");
        Some(Rule {
            cluster: pattern(&cluster.name),
            service: Some(ServicePattern { namespace: pattern(namespace), name: pattern(name) }),
            force: Arc::new(Force { to, author, reason, until: Until::At(end) }),
            line: 1,
        })
    });
    Arc::new(Overrides { rules: rules.collect(), fault: None })
}

/// A service in one cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceShard {
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) ready: u32,
    /// Port numbers by name and protocol.
    pub(crate) ports: BTreeMap<(String, Protocol), u16>,
    pub(crate) options: ServiceOptions,
}

pub(crate) fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

pub(crate) fn name(text: &str) -> DomainName {
    DomainName::parse(text).expect("a name")
}

impl Cluster {
    /// As it is registered.
    pub(crate) fn member(&self) -> Member {
        let at = |(latitude, longitude): (i16, i16)| {
            Coordinates::new(latitude.into(), longitude.into()).expect("on the globe")
        };
        Member {
            name: label(&self.name),
            region: self.region.as_deref().map(label),
            zones: self.zones.iter().map(|zone| label(zone)).collect(),
            location: self.location.map(at),
            drain: if self.drained { Drain::AtOnce } else { Drain::No },
            force: None,
            stale_grace: None,
            checks: Default::default(),
        }
    }

    /// What is known of it as a whole.
    pub(crate) fn standing(&self) -> Standing {
        let (state, reason) = match (self.unread, self.down) {
            (true, _) => (ClusterState::Unread, Reason::NotRead),
            (false, true) => (ClusterState::Down, Reason::ChecksFail(None)),
            (false, false) => (ClusterState::Up, Reason::Current),
        };
        Standing { state, since: 0, reason }
    }

    /// What its source says.
    pub(crate) fn view(&self) -> ClusterView {
        let topology = |(region, zone): &(String, Option<String>)| Topology {
            region: label(region),
            zone: zone.as_deref().map(label),
        };
        ClusterView {
            shards: Buckets::from_items(self.services.iter().map(|(key, shard)| shard.entry(key))),
            topologies: Arc::new(self.nodes.iter().map(topology).collect()),
            ..ClusterView::default()
        }
    }
}

impl ServiceShard {
    /// As it stands in a view.
    pub(crate) fn entry(&self, (name, namespace): &Key) -> ShardEntry {
        let port = |((name, protocol), number): (&(String, Protocol), &u16)| Port {
            name: label(name),
            protocol: *protocol,
            number: *number,
        };
        let shard = ShardParts {
            addresses: self.addresses.iter().copied().collect(),
            ports: Ports::new(self.ports.iter().map(port).collect(), None),
            endpoints: Endpoints { ready: self.ready, total: self.ready },
            options: Some(Box::new(self.options.clone())),
            internal: Some(Box::new(Internal::ClusterIp(
                [IpAddr::from([10, 96, 0, 1]), IpAddr::V6(Ipv6Addr::LOCALHOST)].into(),
            ))),
            ..ShardParts::default()
        };
        let key = ServiceKey::new(&label(namespace), &label(name));
        ShardEntry::new(key, shard)
    }
}

/// Static records: addresses, a text, an alias, one below an empty non-terminal.
pub(crate) fn records() -> Vec<StaticRecord> {
    let record = |owner: &str, rtype, rdata: &[u8]| StaticRecord {
        owner: name(&format!("{owner}.{DOMAIN}")),
        rtype,
        ttl: TTL,
        rdata: rdata.into(),
    };
    vec![
        record("www", 1, &[192, 0, 2, 80]),
        record("www", 16, b"\x04text"),
        record("alias", 5, name("www.example.net").wire()),
        record("deep.down", 1, &[192, 0, 2, 81]),
    ]
}

/// What a snapshot of `clusters` in the federation `f` is built from, at time `now`.
pub(crate) fn inputs(clusters: &[Cluster], identity: Identity, now: u64) -> Inputs {
    let point = |network: &str, latitude, longitude| {
        let point = Coordinates::new(latitude, longitude).expect("on the globe");
        let network = network.parse().expect("a network");
        NetworkRule::new(network, Target::Coordinates(point)).expect("a rule")
    };
    let networks = vec![
        point("198.18.1.0/24", 50.1, 8.7),
        point("198.18.2.0/24", 40.7, -74.0),
        point("2001:db8:7::/48", 35.7, 139.7),
    ];
    let zone = zone::Settings {
        federation: label("f"),
        domain: name(DOMAIN),
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
        ttl: TTL,
        negative_ttl: NEGATIVE_TTL,
        unhealthy_ttl: UNHEALTHY_TTL,
        unsettled_ttl: None,
        max_addresses: NonZeroU16::MAX,
        policy: Policy::All,
        ties: Ties::Rotate,
        when_none_healthy: WhenNoneHealthy::Nothing,
        records: records(),
        // An instance in the first cluster, if there is one.
        internal: clusters.first().map(|cluster| InternalSettings {
            cluster: label(&cluster.name),
            apex: name("f.svc.cluster.local"),
            zone: None,
        }),
    };
    let federation = snapshot::Federation {
        zone: Arc::new(zone),
        health: health::Settings::default(),
        networks: networks.clone(),
        identity,
        members: clusters.iter().map(Cluster::member).collect(),
        membership: Membership::Known,
        reports: BTreeSet::new(),
    };
    let view = |cluster: &Cluster| (!cluster.unread).then(|| Arc::new(cluster.view()));
    let (mut opinions, mut phases) = (Opinions::default(), Phases::default());
    for cluster in clusters {
        for ((name, namespace), told) in &cluster.told {
            let key = ServiceKey::new(&label(namespace), &label(name));
            opinions.set(&key, &label(&cluster.name), told.opinion());
            phases.shards.set(&key, &label(&cluster.name), told.phase());
        }
    }
    Inputs {
        federation: Arc::new(federation),
        views: clusters.iter().map(view).collect(),
        standings: clusters.iter().map(Cluster::standing).collect(),
        opinions,
        overrides: overrides(clusters),
        phases,
        atlas: Arc::new(Atlas::build(&[], &networks)),
        compiled: None,
        now,
    }
}

/// The same snapshot with every geographic table compiled that it wants.
pub(crate) fn settle(mut snapshot: Snapshot) -> Snapshot {
    while let Some(missing) = snapshot.missing_tables() {
        let compiled = Some(Arc::new(missing.compile()));
        let inputs = Inputs { compiled, ..snapshot.inputs.clone() };
        snapshot = build(Some(&snapshot), inputs);
    }
    snapshot
}

/// How the server names itself, where that does not matter.
pub(crate) fn anonymous() -> Identity {
    Identity { version: None, id: None, nsid: None, udp_payload: 1232 }
}

/// Clusters in which everything occurs that answers depend on, with an identity as long as it may
/// be: for packets rather than for answers.
pub(crate) fn everything() -> (Vec<Cluster>, Identity) {
    let cluster = |name: &str, region: &str, zones: &[&str], location| Cluster {
        name: name.into(),
        region: Some(region.into()),
        zones: zones.iter().map(|zone| (*zone).to_owned()).collect(),
        location: Some(location),
        ..Cluster::default()
    };
    let mut clusters = vec![
        cluster("us1", "us", &["us-a", "us-b"], (40, -75)),
        cluster("eu1", "eu", &["eu-a"], (50, 8)),
        cluster("ap1", "ap", &["ap-a"], (35, 139)),
    ];
    let long = "l".repeat(63);
    let mut add = |at: usize, service: &str, addresses: Vec<IpAddr>, ready, when| {
        let shard = ServiceShard {
            addresses: addresses.into_iter().collect(),
            ready,
            ports: [(("http".to_owned(), Protocol::Tcp), 80)].into(),
            options: ServiceOptions { when_none_healthy: when, ..ServiceOptions::default() },
        };
        clusters[at].services.insert((service.to_owned(), "n".to_owned()), shard);
    };
    let v4 = |last| IpAddr::from([192, 0, 2, last]);
    let v6 = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    for at in [0, 1] {
        add(at, "web", vec![v4(at as u8 + 1), v6(at as u16 + 1)], 1, None);
        add(at, "down", vec![v4(9)], 0, None);
        add(at, "all", vec![v4(at as u8 + 11)], 0, Some(WhenNoneHealthy::All));
        let sorry = WhenNoneHealthy::Name(name("sorry.example.net"));
        add(at, "named", vec![v4(9)], 0, Some(sorry));
    }
    add(0, "one", vec![v4(7)], 1, None);
    add(0, &long, vec![v4(8)], 1, None);
    add(0, "big", (1..=250).map(v6).collect(), 1, None);
    add(1, "big", (251..=500).map(v6).collect(), 1, None);
    let identity = Identity {
        version: Some("v".repeat(255)),
        id: Some("i".repeat(255)),
        nsid: Some(vec![b'n'; 255].into()),
        // The smallest that is allowed, so that every limit is met.
        udp_payload: 512,
    };
    (clusters, identity)
}
