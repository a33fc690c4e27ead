//! Tables against a direct computation from the networks that went into them.

mod provisional;
mod public;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;

use super::{GeoTable, Lookup};
use crate::geo::order::{Ranked, Ranker, Site};
use crate::geo::overlay::bounds;
use crate::geo::space::{EMBEDDING, NON_GLOBAL};
use crate::geo::testing::{Tree, at, city, database, label, rule, site, sites};
use crate::geo::{Atlas, Database, NetworkRule, Order, PodLookup, PodNetworks, Shape, Target};
use crate::model::{ClusterId, ClusterSet};

/// Everything that a table is made of, in a form from which answers are computed directly.
#[derive(Debug)]
struct World {
    sites: Vec<Site>,
    members: ClusterSet,
    shape: Shape,
    rules: Vec<NetworkRule>,
    /// Networks of the only database and their coordinates; later ones cover earlier ones.
    located: Vec<(IpNet, (f64, f64))>,
}

/// What an address gets.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Ordered(Vec<Ranked>),
    /// As the resolver does, for being in this block.
    Resolver(IpNet),
}

impl World {
    fn table(&self) -> GeoTable {
        GeoTable::shaped(&self.atlas(), &self.sites, &self.members, self.shape)
    }

    fn atlas(&self) -> Atlas {
        let texts: Vec<_> = self.located.iter().map(|(net, p)| (net.to_string(), *p)).collect();
        let networks: Vec<_> =
            texts.iter().map(|(net, (lat, lon))| (net.as_str(), city(*lat, *lon))).collect();
        let bytes = database(Tree::V6, "City", &networks);
        let databases = match Database::parse(Path::new("test"), &bytes) {
            Ok(database) => vec![Arc::new(database)],
            Err(_) => Vec::new(),
        };
        Atlas::build(&databases, &self.rules)
    }

    /// The IPv4 address that an address stands for, where it embeds one.
    fn stands_for(address: IpAddr) -> IpAddr {
        let IpAddr::V6(v6) = address else { return address };
        let octets = v6.octets();
        let [.., a, b, c, d] = octets;
        let block = EMBEDDING.iter().position(|block| block.network.contains(&address));
        match block {
            Some(0..=2) => Ipv4Addr::new(a, b, c, d).into(),
            Some(3) => Ipv4Addr::new(!a, !b, !c, !d).into(),
            Some(_) => Ipv4Addr::new(octets[2], octets[3], octets[4], octets[5]).into(),
            None => address,
        }
    }

    /// What the client gets, computed from the networks themselves.
    fn answer(&self, client: IpAddr) -> Answer {
        let address = Self::stands_for(client);
        let ranker = Ranker::new(&self.sites, &self.members);
        let ordered = |order| Answer::Ordered(self.shape.trim(order, &self.sites));
        let holding = self.rules.iter().rev().filter(|rule| network(rule).contains(&address));
        if let Some(rule) = holding.max_by_key(|rule| network(rule).prefix_len()) {
            return ordered(ranker.toward(rule.target()));
        }
        let blocks = NON_GLOBAL.iter().filter(|block| block.network.contains(&address));
        if let Some(block) = blocks.max_by_key(|block| block.network.prefix_len()) {
            return Answer::Resolver(block.network);
        }
        let located = self.located.iter().rev().find(|(network, _)| network.contains(&address));
        ordered(match located {
            Some((_, (lat, lon))) => ranker.near(at(*lat, *lon)),
            None => ranker.unknown(),
        })
    }

    /// Addresses at both sides of every border that the world has. Borders of IPv4 networks come
    /// up again wherever IPv6 embeds IPv4.
    fn borders(&self) -> Vec<IpAddr> {
        let rules = self.rules.iter().map(network);
        let located = self.located.iter().map(|(network, _)| *network);
        let blocks = NON_GLOBAL.iter().chain(&EMBEDDING).map(|block| block.network);
        let sides = rules.chain(located).chain(blocks).flat_map(sides);
        sides.flat_map(|side| [vec![side], embedded(side)].concat()).collect()
    }
}

/// The IPv6 addresses that embed an IPv4 address.
fn embedded(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V4(v4) = address else { return Vec::new() };
    let bits = u128::from(u32::from(v4));
    [0xffff_u128 << 32 | bits, 0xffff_u128 << 48 | bits, 0x0064_ff9b << 96 | bits]
        .into_iter()
        .chain([0x2001 << 112 | u128::from(!u32::from(v4)), 0x2002 << 112 | bits << 80])
        .map(|bits| Ipv6Addr::from(bits).into())
        .collect()
}

/// The network of a rule; there are no others here.
fn network(rule: &NetworkRule) -> IpNet {
    rule.network().expect("a rule for a network")
}

/// The addresses at both sides of a network's borders.
fn sides(network: IpNet) -> Vec<IpAddr> {
    let (first, last) = bounds(network);
    let near = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
    let address = |bits: u128| -> IpAddr {
        match network {
            IpNet::V4(_) => Ipv4Addr::from(bits as u32).into(),
            IpNet::V6(_) => Ipv6Addr::from(bits).into(),
        }
    };
    near.into_iter().map(address).collect()
}

fn given(lookup: Lookup<'_>) -> (Option<Vec<Ranked>>, u8) {
    match lookup {
        Lookup::Found { order, scope } => (Some(order.ranked().to_vec()), scope),
        Lookup::UseResolver { scope } => (None, scope),
    }
}

fn v4_network(longest: u8) -> impl Strategy<Value = IpNet> {
    (any::<u32>(), 4..=longest).prop_map(|(bits, len)| {
        // Half of the networks close together around 10.0.0.0/8.
        let bits = if bits % 2 == 0 { 0x09ff_0000 + bits % 0x2_0000 } else { bits };
        IpNet::new(Ipv4Addr::from(bits).into(), len).expect("a length").trunc()
    })
}

fn v6_network(longest: u8) -> impl Strategy<Value = IpNet> {
    (any::<u128>(), 8..=longest).prop_map(|(bits, len)| {
        let bits =
            if bits % 2 == 0 { (bits >> 3) | (1 << 125) } else { (bits % 4096) | (0x2a00 << 112) };
        IpNet::new(Ipv6Addr::from(bits).into(), len).expect("a length").trunc()
    })
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        (0..12).prop_map(|n| Target::Cluster(label(&format!("c{n}")))),
        (0..4).prop_map(|n| Target::Region(label(&format!("r{n}")))),
        (0..4, any::<bool>()).prop_map(|(n, named)| Target::Zone {
            region: named.then(|| label(&format!("r{n}"))),
            zone: label("z1"),
        }),
        (-90.0..90.0, -180.0..180.0).prop_map(|(lat, lon)| Target::Coordinates(at(lat, lon))),
    ]
}

fn world() -> impl Strategy<Value = World> {
    let rule_network = prop_oneof![v4_network(32), v6_network(128)];
    let rules = proptest::collection::vec((rule_network, target()), 0..5);
    // No longer than the blocks of the clamp, so that a direct computation need not clamp.
    let network = prop_oneof![v4_network(24), v6_network(48)];
    let located = proptest::collection::vec((network, (-90.0..90.0, -180.0..180.0)), 0..8);
    let members = proptest::collection::btree_set(0usize..12, 1..12);
    let shape = prop_oneof![
        Just(Shape::Whole),
        (1u16..4).prop_map(Shape::First),
        (1u16..9).prop_map(Shape::Region),
    ];
    (sites(), members, rules, located, shape).prop_map(|(sites, members, rules, located, shape)| {
        let of = |at: &usize| *at < sites.len();
        World {
            members: members.into_iter().filter(of).map(ClusterId::new).collect(),
            shape,
            sites,
            rules: rules.into_iter().filter_map(|(n, t)| NetworkRule::new(n, t).ok()).collect(),
            located,
        }
    })
}

/// Whether the prefix of `len` bits around `client` gets one answer, from a direct computation at
/// every border inside it.
fn alike(world: &World, borders: &[IpAddr], client: IpAddr, len: u8) -> bool {
    let prefix = IpNet::new(client, len).expect("a length").trunc();
    let inside = borders.iter().copied().chain(sides(prefix));
    let expected = world.answer(client);
    let in_embedding =
        |address: &IpAddr| EMBEDDING.iter().position(|block| block.network.contains(address));
    inside.filter(|address| prefix.contains(address)).all(|address| {
        world.answer(address) == expected && in_embedding(&address) == in_embedding(&client)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn tables_agree_with_a_direct_computation(
        world in world(),
        picks in proptest::collection::vec(any::<proptest::sample::Index>(), 12),
        random in proptest::collection::vec(any::<u128>(), 6),
    ) {
        let table = world.table();
        let borders = world.borders();
        let random = random.into_iter().flat_map(|bits| -> [IpAddr; 3] {
            let embedded = Ipv6Addr::from(0x2002 << 112 | bits >> 16);
            [Ipv4Addr::from(bits as u32).into(), Ipv6Addr::from(bits).into(), embedded.into()]
        });
        for client in picks.iter().map(|pick| borders[pick.index(borders.len())]).chain(random) {
            let (order, scope) = given(table.lookup(client));
            if !table.varies() {
                prop_assert_eq!(scope, 0);
                let expected = match world.answer(client) {
                    Answer::Ordered(order) => order,
                    Answer::Resolver(_) => continue,
                };
                prop_assert_eq!(order, Some(expected));
                continue;
            }
            match world.answer(client) {
                Answer::Ordered(expected) => prop_assert_eq!(order, Some(expected), "{}", client),
                Answer::Resolver(_) => prop_assert_eq!(order, None, "{}", client),
            }
            prop_assert!(alike(&world, &borders, client, scope), "{client}/{scope} is too wide");
            prop_assert!(
                scope == 0 || !alike(&world, &borders, client, scope - 1),
                "{client}/{scope} is not the widest"
            );
        }
    }

    #[test]
    fn a_table_varies_only_where_answers_do(world in world()) {
        let table = world.table();
        let orders: Vec<_> = world
            .borders()
            .into_iter()
            .filter_map(|address| match world.answer(address) {
                Answer::Ordered(order) => Some(order),
                Answer::Resolver(_) => None,
            })
            .collect();
        prop_assert_eq!(table.varies(), orders.iter().any(|order| *order != orders[0]));
        let again = world.table();
        prop_assert_eq!(table, again);
    }

    #[test]
    fn pods_come_first_and_narrow_the_scope(
        world in world(),
        pod in v4_network(28),
        cluster in 0usize..12,
        picks in proptest::collection::vec(any::<proptest::sample::Index>(), 12),
    ) {
        prop_assume!(cluster < world.sites.len());
        let table = world.table();
        let networks = [pod].into();
        let cluster = ClusterId::new(cluster);
        let (pods, _) = PodNetworks::build([(cluster, &networks)], &world.rules);
        let mut borders = world.borders();
        borders.extend(sides(pod));
        let direct = |address: IpAddr| match pods.lookup(address) {
            _ if table.single().is_some() => table.single().map(|order| order.ranked().to_vec()),
            PodLookup::Inside { cluster, .. } => Some(table.own(cluster).ranked().to_vec()),
            PodLookup::Outside { .. } => given(table.lookup(address)).0,
        };
        for pick in picks {
            let client = borders[pick.index(borders.len())];
            let (order, scope) = given(table.lookup_with_pods(&pods, client));
            prop_assert_eq!(&order, &direct(client));
            let prefix = IpNet::new(client, scope).expect("a length").trunc();
            for address in borders.iter().filter(|address| prefix.contains(*address)) {
                prop_assert_eq!(&direct(*address), &order, "{}/{} holds {}", client, scope, address);
            }
        }
    }
}

#[test]
fn clusters_at_one_place_make_scope_0() {
    let world = World {
        sites: vec![
            site("a", &[("eu", None)], Some((50.1, 8.7))),
            site("b", &[("eu", None)], Some((50.1, 8.7))),
            site("c", &[("us", None)], Some((39.0, -77.5))),
        ],
        members: [0, 1].map(ClusterId::new).into_iter().collect(),
        shape: Shape::Whole,
        rules: Vec::new(),
        located: vec![("1.0.0.0/8".parse().expect("a network"), (35.0, -80.0))],
    };
    let atlas = world.atlas();
    let table = GeoTable::compile(&atlas, &world.sites, &world.members);
    assert!(!table.varies() && table.single().is_none(), "clients in a and b differ");
    assert_eq!(given(table.lookup("10.0.0.1".parse().expect("an address"))).1, 0);
    let one = [1].map(ClusterId::new).into_iter().collect();
    let table = GeoTable::compile(&atlas, &world.sites, &one);
    assert_eq!(table.single().map(|order| order.ranked().len()), Some(1));
    let all = GeoTable::compile(&atlas, &world.sites, &ClusterSet::first(3));
    assert!(all.varies());
    let none = GeoTable::compile(&atlas, &world.sites, &ClusterSet::default());
    assert_eq!(none.single().map(Order::ranked), Some(&[][..]));
}

#[test]
fn more_orders_than_a_table_holds_are_bought_with_a_grid() {
    // 400 clusters all over the globe see nearly every point differently.
    let spread = |at: usize| (((at * 37) % 170) as f64 - 85.0, ((at * 101) % 359) as f64 - 179.0);
    let sites: Vec<_> =
        (0..400).map(|at| site(&format!("c{at}"), &[("r", None)], Some(spread(at)))).collect();
    let networks: Vec<String> = (0..12_000)
        .map(|n: u32| format!("{}.{}.{}.0/24", 20 + n / 65_536, n / 256, n % 256))
        .collect();
    let networks: Vec<_> = networks
        .iter()
        .enumerate()
        .map(|(n, text)| {
            let point = ((n % 120) as f64 * 1.4 - 84.0, (n / 120) as f64 * 3.5 - 178.0);
            (text.as_str(), city(point.0, point.1))
        })
        .collect();
    let bytes = database(Tree::V4, "City", &networks);
    let database = Database::parse(Path::new("test"), &bytes).expect("a database");
    let atlas = Atlas::build(&[Arc::new(database)], &[]);
    let table = GeoTable::compile(&atlas, &sites, &ClusterSet::first(400));
    assert!(table.grid_degrees() > 0.0 && table.grid_degrees() < 9.0);
    assert!(table.bytes() < 12 << 20);
    let few = GeoTable::compile(&atlas, &sites, &ClusterSet::first(40));
    assert_eq!(few.grid_degrees(), 0.0);
    // A coarse table still sends clients to the neighbourhood.
    let client = "20.20.0.0".parse().expect("an address");
    let (order, _) = given(table.lookup(client));
    let nearest = order.expect("a place")[0].cluster();
    let from = atlas.locate(client).place;
    let crate::geo::Place::At(Target::Coordinates(from)) = from else { panic!("{from}") };
    let point = sites[nearest.index()].coordinates.expect("placed");
    assert!(crate::geo::distance_km(from, point) < 3000.0);
}

#[test]
fn conformance_rfc_7871_section_10_private_blocks_keep_to_themselves() {
    let world = World {
        sites: vec![site("a", &[], Some((50.1, 8.7))), site("b", &[], Some((39.0, -77.5)))],
        members: ClusterSet::first(2),
        shape: Shape::Whole,
        rules: vec![rule("10.8.0.0/16", Target::Cluster(label("b")))],
        located: Vec::new(),
    };
    let table = world.table();
    for (address, scope) in [
        ("172.16.5.1", 12),
        ("192.168.1.1", 16),
        ("fc00::1", 7),
        ("fe80::1", 10),
        ("100.64.0.1", 10),
        ("127.0.0.1", 8),
        ("::ffff:192.168.1.1", 112),
        ("10.0.0.1", 13),
        ("10.9.0.1", 16),
    ] {
        let found = table.lookup(address.parse().expect("an address"));
        assert_eq!(found, Lookup::UseResolver { scope }, "{address}");
    }
}
