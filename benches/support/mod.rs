//! Federations and queries of any size for the benchmarks.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use meridian::geo::{Atlas, NetworkRule, Target};
use meridian::health::{self, ClusterState, Reason, Standing};
use meridian::model::{
    Buckets, ClusterView, Coordinates, DomainName, Endpoints, Label, Member, Policy, Port, Ports,
    Protocol, ServiceKey, Shard, ShardEntry, ShardParts, Ties, WhenNoneHealthy,
};
use meridian::snapshot::{Federation, Identity, Inputs, Membership, Snapshot, build};
use meridian::zone::{self, Nameserver, SoaSettings};

/// The clusters of the federation: name, region, zone, place. Four are taken first; more are
/// spread around the globe.
const PLACES: [(&str, &str, f64, f64); 4] = [
    ("asia-east1", "asia-east1-a", 24.05, 120.52),
    ("europe-west1", "europe-west1-b", 50.47, 3.87),
    ("us-central1", "us-central1-a", 41.26, -95.86),
    ("us-east1", "us-east1-b", 33.20, -80.01),
];

/// A deterministic source of numbers (splitmix64), so that every run asks the same.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

/// The key of service number `index`; a hundred services a namespace.
pub(crate) fn key(index: usize) -> ServiceKey {
    let namespace = format!("team-{}", index / 100);
    ServiceKey::new(&label(&namespace), &label(&format!("service-{index}")))
}

/// The shard of a service in a cluster: one load balancer address, one port.
pub(crate) fn shard(cluster: usize, index: usize, ready: u32, ports: &Ports) -> Shard {
    let [_, b, c, d] = (index as u32).to_be_bytes();
    let address = IpAddr::V4(Ipv4Addr::new(100 + cluster as u8, b, c, d));
    let (addresses, endpoints) = ([address][..].into(), Endpoints { ready, total: 3 });
    ShardParts { addresses, ports: ports.clone(), endpoints, ..ShardParts::default() }.into()
}

/// The one port of every service.
pub(crate) fn ports() -> Ports {
    let port = Port { name: label("http"), protocol: Protocol::Tcp, number: 80 };
    Ports::new([port].into(), None)
}

/// Client networks: every /16 of unicast space at a random place on land's latitudes, so that
/// the table has tens of thousands of ranges and answers differ.
fn networks() -> Vec<NetworkRule> {
    let mut random = Random(7);
    (1u32..224)
        .filter(|first| !matches!(first, 10 | 127))
        .flat_map(|first| (0u32..256).map(move |second| (first << 24) | (second << 16)))
        .map(|network| {
            let latitude = random.below(130) as f64 - 60.0;
            let longitude = random.below(360) as f64 - 180.0;
            let point = Coordinates::new(latitude, longitude).expect("on the globe");
            let cidr = ipnet::Ipv4Net::new(network.into(), 16).expect("a prefix").into();
            NetworkRule::new(cidr, Target::Coordinates(point)).expect("a rule")
        })
        .collect()
}

/// Everything that a snapshot of `services` services in `clusters` clusters is built from; every
/// service has a healthy shard in each.
pub(crate) fn inputs(services: usize, clusters: usize) -> Inputs {
    let ports = ports();
    let members: Vec<Member> = (0..clusters)
        .map(|index| {
            let (region, zone, latitude, longitude) = PLACES[index % PLACES.len()];
            let turn = (index / PLACES.len()) as f64;
            let suffix = if index < PLACES.len() { String::new() } else { format!("{turn}") };
            Member {
                name: label(&format!("gce-{zone}{suffix}")),
                region: Some(label(&format!("{region}{suffix}"))),
                zones: [label(&format!("{zone}{suffix}"))].into(),
                location: Coordinates::new(latitude - turn, longitude + turn).ok(),
                drain: Default::default(),
                force: None,
                stale_grace: None,
                checks: Default::default(),
            }
        })
        .collect();
    let views = (0..clusters)
        .map(|cluster| {
            let entries =
                (0..services).map(|i| ShardEntry::new(key(i), shard(cluster, i, 2, &ports)));
            let shards = Buckets::from_items(entries);
            Some(Arc::new(ClusterView { shards, ..ClusterView::default() }))
        })
        .collect();
    let domain = DomainName::parse("example.com").expect("a name");
    let networks = networks();
    let zone = zone::Settings {
        federation: label("myfederation"),
        nameservers: vec![Nameserver {
            name: DomainName::parse("ns1.example.com").expect("a name"),
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
        }],
        soa: SoaSettings { rname: domain.clone(), refresh: 3600, retry: 600, expire: 604_800 },
        domain,
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
    Inputs {
        atlas: Arc::new(Atlas::build(&[], &networks)),
        federation: Arc::new(Federation {
            zone: Arc::new(zone),
            health: health::Settings::default(),
            networks,
            identity: Identity { version: None, id: None, nsid: None, udp_payload: 1232 },
            members,
            membership: Membership::Known,
            reports: Default::default(),
        }),
        views,
        opinions: Default::default(),
        standings: vec![
            Standing { state: ClusterState::Up, since: 0, reason: Reason::Current };
            clusters
        ],
        overrides: Default::default(),
        phases: Default::default(),
        compiled: None,
        now: 1_700_000_000,
    }
}

/// The settled snapshot of `inputs`.
pub(crate) fn snapshot(inputs: Inputs) -> Snapshot {
    let mut snapshot = build(None, inputs);
    while let Some(missing) = snapshot.missing_tables() {
        let compiled = Some(Arc::new(missing.compile()));
        let inputs = Inputs { compiled, ..snapshot.inputs.clone() };
        snapshot = build(Some(&snapshot), inputs);
    }
    snapshot
}

/// A kind of query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// A, global names, EDNS with the /24 of a random client.
    Ecs,
    /// A, names of every level, no EDNS.
    Plain,
    /// A, names that do not exist, no EDNS.
    Nx,
}

/// Pre-built queries over a federation of `services` services.
pub(crate) fn queries(load: Load, services: usize, count: usize) -> Vec<Vec<u8>> {
    let mut random = Random(load as u64 + 1);
    (0..count).map(|_| query(load, services, &mut random)).collect()
}

fn query(load: Load, services: usize, random: &mut Random) -> Vec<u8> {
    let index = random.below(services);
    let tail = match (load, random.below(8)) {
        (Load::Plain, 0) => ".us-central1-a.us-central1",
        (Load::Plain, 1) => ".us-central1",
        (Load::Plain, 2) => ".asia-east1-a.asia-east1",
        (Load::Plain, 3) => ".europe-west1",
        _ => "",
    };
    let prefix = if load == Load::Nx { "absent" } else { "service" };
    let name = format!("{prefix}-{index}.team-{}.myfederation.svc{tail}.example.com", index / 100);
    let name = DomainName::parse(&name).expect("a name");
    let id = (random.next() as u16).to_be_bytes();
    let additional = u8::from(load == Load::Ecs);
    let mut wire = vec![id[0], id[1], 0, 0, 0, 1, 0, 0, 0, 0, 0, additional];
    wire.extend_from_slice(name.wire());
    wire.extend_from_slice(&[0, 1, 0, 1]);
    if load == Load::Ecs {
        let client = 1 + random.below(222) as u8;
        let client = if client == 127 || client == 10 { 8 } else { client };
        let [_, b, c, _] = (random.next() as u32).to_be_bytes();
        wire.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11]);
        wire.extend_from_slice(&[0, 8, 0, 7, 0, 1, 24, 0, client, b, c]);
    }
    wire
}
