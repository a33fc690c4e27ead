//! Which source wins, by example and against the rule spelt out.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;

use super::{Atlas, Located, Place, Source};
use crate::geo::space::NON_GLOBAL;
use crate::geo::testing::{Tree, Value, at, city, database, label, rule};
use crate::geo::{Clients, Country, Database, NetworkRule, Target};

fn load(name: &str, tree: Tree, networks: &[(&str, Value)]) -> Arc<Database> {
    let bytes = database(tree, "City", networks);
    Arc::new(Database::parse(Path::new(name), &bytes).expect("a database"))
}

fn locate(atlas: &Atlas, address: &str) -> (String, String, String) {
    let Located { place, source, network } = atlas.locate(address.parse().expect("an address"));
    (place.to_string(), source.to_string(), network.to_string())
}

fn atlas() -> Atlas {
    let first = load("first", Tree::V6, &[("1.0.0.0/16", city(1.0, 1.0))]);
    let second = load(
        "second",
        Tree::V6WithAliases,
        &[
            ("1.0.0.0/8", city(2.0, 2.0)),
            ("10.0.0.0/8", city(2.0, 2.0)),
            ("2a00::/12", city(3.0, 3.0)),
        ],
    );
    let rules = [
        rule("1.0.5.0/25", Target::Cluster(label("home"))),
        rule("10.8.0.0/16", Target::Region(label("eu"))),
        rule("2a00:1::1/128", Target::Cluster(label("home"))),
        rule("2a00::/16", Target::Coordinates(at(4.0, 4.0))),
        rule("2a00::/16", Target::Coordinates(at(5.0, 5.0))),
    ];
    Atlas::build(&[first, second], &rules)
}

#[test]
fn rules_then_special_blocks_then_databases_in_order() {
    let atlas = atlas();
    for (address, place, source, network) in [
        ("1.0.5.1", "cluster home", "network 1.0.5.0/25", "1.0.5.0/25"),
        ("1.0.5.128", "1.00,1.00", "database first", "1.0.5.128/25"),
        ("1.0.4.1", "1.00,1.00", "database first", "1.0.4.0/24"),
        ("1.1.0.0", "2.00,2.00", "database second", "1.1.0.0/16"),
        ("9.9.9.9", "unknown", "no source", "8.0.0.0/7"),
        ("10.8.1.1", "region eu", "network 10.8.0.0/16", "10.8.0.0/16"),
        ("10.0.0.1", "not global: 10.0.0.0/8 (private, RFC 1918)", "special", "10.0.0.0/13"),
        ("2a00:1::1", "cluster home", "network 2a00:1::1/128", "2a00:1::1/128"),
        ("2a00:1::", "4.00,4.00", "network 2a00::/16", "2a00:1::/128"),
        ("2a00:2::", "4.00,4.00", "network 2a00::/16", "2a00:2::/31"),
        ("2a01::1", "3.00,3.00", "database second", "2a01::/16"),
        ("fc12::1", "not global: fc00::/7 (private, RFC 4193)", "special", "fc00::/7"),
        ("::1", "not global: ::/8 (reserved, with loopback, RFC 4291)", "special", "::/81"),
        ("::ffff:1.0.5.1", "cluster home", "network 1.0.5.0/25", "::ffff:1.0.5.0/121"),
        ("2002:100:501::1", "cluster home", "network 1.0.5.0/25", "2002:100:500::/41"),
        ("2001:0:1::feff:fafe", "cluster home", "network 1.0.5.0/25", "2001:0:1::feff:fa80/121"),
    ] {
        let located = locate(&atlas, address);
        assert_eq!((located.0.as_str(), located.2.as_str()), (place, network), "{address}");
        assert!(located.1.starts_with(source), "{address}: {}", located.1);
    }
}

#[test]
fn without_anything_only_special_blocks_are_known() {
    let atlas = Atlas::default();
    assert_eq!(locate(&atlas, "8.8.8.8").0, "unknown");
    assert_eq!(locate(&atlas, "192.168.1.1").2, "192.168.0.0/16");
    assert_eq!(locate(&atlas, "172.31.1.1").2, "172.16.0.0/12");
    assert_eq!(locate(&atlas, "100.64.0.1").2, "100.64.0.0/10");
}

fn network() -> impl Strategy<Value = IpNet> {
    // Two octets vary, so that networks of all layers meet.
    (any::<u16>(), 14u8..=32).prop_map(|(low, len)| {
        let address = Ipv4Addr::from(0x0a00_0000 - 0x8000 + u32::from(low));
        IpNet::new(address.into(), len).expect("a length").trunc()
    })
}

fn at_most_24(network: &IpNet) -> IpNet {
    let len = network.prefix_len().min(24);
    IpNet::new(network.addr(), len).expect("a length").trunc()
}

proptest! {
    #[test]
    fn the_winning_source_is_the_rule_spelt_out(
        rules in proptest::collection::vec(network(), 0..6),
        layers in proptest::collection::vec(proptest::collection::vec(network(), 1..4), 0..3),
        low in any::<u16>(),
    ) {
        // Networks of databases no longer than /24, so that clamping does not come in.
        let layers: Vec<Vec<IpNet>> = layers
            .iter()
            .map(|nets| nets.iter().map(at_most_24).collect())
            .collect();
        let databases: Vec<_> = layers
            .iter()
            .enumerate()
            .map(|(at, nets)| {
                let texts: Vec<String> = nets.iter().map(ToString::to_string).collect();
                let networks: Vec<_> =
                    texts.iter().map(|text| (text.as_str(), city(at as f64, 0.0))).collect();
                load(&at.to_string(), Tree::V4, &networks)
            })
            .collect();
        let targets: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(at, net)| rule(&net.to_string(), Target::Cluster(label(&format!("c{at}")))))
            .collect();
        let atlas = Atlas::build(&databases, &targets);

        let address = IpAddr::from(Ipv4Addr::from(0x0a00_0000 - 0x8000 + u32::from(low)));
        let holding = rules.iter().rev().filter(|net| net.contains(&address));
        let expected = if let Some(net) = holding.max_by_key(|net| net.prefix_len()) {
            Source::Rule(Clients::Network(*net))
        } else if "10.0.0.0/8".parse::<IpNet>().expect("a network").contains(&address) {
            Source::Registry
        } else {
            let has = |nets: &&Vec<IpNet>| nets.iter().any(|net| net.contains(&address));
            let database = layers.iter().position(|nets| has(&nets));
            database.map_or(Source::Nobody, |at| Source::Database(databases[at].gazetteer().origin().clone()))
        };
        let located = atlas.locate(address);
        prop_assert_eq!(&located.source, &expected);
        // The network is of one place, and the one around it is not.
        let len = located.network.prefix_len();
        let same = |len| {
            let around = IpNet::new(address, len).expect("a length").trunc();
            let blocks = NON_GLOBAL.iter().map(|block| block.network);
            let blocks = blocks.filter(|network| network.addr().is_ipv4());
            let borders = rules.iter().chain(layers.iter().flatten()).copied();
            let borders = borders.chain(blocks).chain([around]);
            let mut near = borders.flat_map(neighbours).filter(|n| around.contains(n));
            near.all(|near| {
                let other = atlas.locate(near);
                (&other.place, &other.source) == (&located.place, &located.source)
            })
        };
        prop_assert!(same(len));
        prop_assert!(len == 0 || !same(len - 1));
    }
}

/// The addresses on either side of a network's borders.
fn neighbours(network: IpNet) -> impl Iterator<Item = IpAddr> {
    let (first, last) = crate::geo::overlay::bounds(network);
    let (first, last) = (first as u32, last as u32);
    let near = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
    near.into_iter().map(|bits| Ipv4Addr::from(bits).into())
}

#[test]
fn unknown_is_told_as_such() {
    let located = atlas().locate("2400::1".parse().expect("an address"));
    assert_eq!((located.place, located.source), (Place::Unknown, Source::Nobody));
}

fn placed_by(clients: Clients, target: &str) -> NetworkRule {
    NetworkRule::of(clients, Target::Cluster(label(target))).expect("a rule")
}

fn land(country: &str, subdivision: Option<&str>) -> Clients {
    let country = Country::parse(country).expect("a country");
    Clients::Land { country, subdivision: subdivision.map(Box::from) }
}

#[test]
fn rules_by_system_and_land_go_by_what_databases_tell() {
    let system = |number| Value::Map(vec![("autonomous_system_number", Value::Count(number))]);
    let systems =
        load("asn", Tree::V4, &[("1.0.0.0/24", system(64500)), ("10.0.0.0/8", system(64500))]);
    let flat = |country, state| {
        Value::Map(vec![
            ("country_code", Value::Text(country)),
            ("state1", Value::Text(state)),
            ("latitude", Value::Float(40.0)),
            ("longitude", Value::Float(-83.0)),
        ])
    };
    let part = Value::Map(vec![("iso_code", Value::Text("TX"))]);
    let nested = Value::Map(vec![
        ("country", Value::Map(vec![("iso_code", Value::Text("US"))])),
        ("subdivisions", Value::List(vec![part])),
    ]);
    let places = [
        ("1.0.0.0/16", flat("US", "Ohio")),
        ("2.0.0.0/16", flat("US", "Iowa")),
        ("3.0.0.0/16", nested),
        ("4.0.0.0/16", flat("CA", "Ohio")),
    ];
    let places = load("places", Tree::V4, &places);
    let rules = [
        rule("1.0.0.0/25", Target::Cluster(label("cidr"))),
        placed_by(Clients::System(64500), "system"),
        placed_by(Clients::System(64500), "late"),
        placed_by(land("US", None), "country"),
        placed_by(land("us", Some("ohio")), "by-name"),
        placed_by(land("US", Some("tx")), "by-code"),
    ];
    // The order of the two kinds of database does not matter.
    for databases in [[systems.clone(), places.clone()], [places, systems]] {
        let atlas = Atlas::build(&databases, &rules);
        for (address, place, source) in [
            ("1.0.0.1", "cluster cidr", "network 1.0.0.0/25"),
            ("1.0.0.128", "cluster system", "autonomous system AS64500"),
            ("1.0.1.0", "cluster by-name", "subdivision ohio of country US"),
            ("2.0.1.0", "cluster country", "country US"),
            ("3.0.1.0", "cluster by-code", "subdivision tx of country US"),
            ("4.0.1.0", "40.00,-83.00", "database places"),
        ] {
            let located = locate(&atlas, address);
            assert_eq!((located.0.as_str(), located.1.as_str()), (place, source), "{address}");
        }
        let private = locate(&atlas, "10.0.0.1").0;
        assert!(private.starts_with("not global"), "no system has private networks: {private}");
    }
}
