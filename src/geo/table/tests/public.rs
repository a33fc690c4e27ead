//! Tables of MaxMind's public test databases against a direct computation from their records, read
//! by the other reader's own means.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use maxminddb::PathElement::{Index, Key};
use maxminddb::{LookupResult, PathElement, Reader, WithinOptions};
use proptest::prelude::*;

use super::{Answer, GeoTable, World, alike, given, rule};
use crate::geo::testing::{label, site};
use crate::geo::{Atlas, Database, Shape, Target, countries};
use crate::model::ClusterId;

/// What a record tells of a place: the point, the country, the part of it by code and by name. Two
/// records that tell the same are one place.
type Told = ((f64, f64), [String; 3]);

fn told(record: &LookupResult<'_, &[u8]>) -> Option<Told> {
    let number = |path: &[PathElement<'_>]| record.decode_path::<f64>(path).ok()?;
    let text = |path: &[PathElement<'_>]| record.decode_path::<String>(path).ok().flatten();
    let country = ["country", "registered_country"];
    let mut countries_told = country.iter().filter_map(|c| text(&[Key(c), Key("iso_code")]));
    let country = countries_told.next();
    let own = number(&[Key("location"), Key("latitude")])
        .zip(number(&[Key("location"), Key("longitude")]));
    let of_country = || {
        let point = countries::coordinates_of(country.as_ref()?)?;
        Some((point.latitude(), point.longitude()))
    };
    let part = |path: &[PathElement<'_>]| {
        text(&[&[Key("subdivisions"), Index(0)], path].concat()).unwrap_or_default()
    };
    let parts = [part(&[Key("iso_code")]), part(&[Key("names"), Key("en")])];
    let [code, name] = parts;
    Some((own.or_else(of_country)?, [country.unwrap_or_default(), code, name]))
}

/// The networks of a database with their points; of those smaller than an IPv4 /24 or IPv6 /48 the
/// place of most addresses in the block, of equals the first.
fn located(bytes: &[u8]) -> Vec<(IpNet, (f64, f64))> {
    let reader = Reader::from_source(bytes).expect("a database");
    let mut found = Vec::new();
    let mut blocks: BTreeMap<IpNet, Vec<(Told, u128)>> = BTreeMap::new();
    let options = WithinOptions::default().include_networks_without_data();
    for leaf in reader.networks(options).expect("a tree") {
        let leaf = leaf.expect("a leaf");
        let network = leaf.network().expect("a network");
        let network = IpNet::new(network.ip(), network.prefix()).expect("a network");
        let Some(told) = leaf.offset().and_then(|_| told(&leaf)) else { continue };
        let block = if network.addr().is_ipv4() { 24 } else { 48 };
        if network.prefix_len() <= block {
            found.push((network, told.0));
            continue;
        }
        let size = 1 << (network.max_prefix_len() - network.prefix_len());
        let block = IpNet::new(network.addr(), block).expect("a length").trunc();
        let shares = blocks.entry(block).or_default();
        match shares.iter_mut().find(|(other, _)| *other == told) {
            Some((_, share)) => *share += size,
            None => shares.push((told, size)),
        }
    }
    for (block, shares) in blocks {
        let most = shares.iter().map(|(_, share)| *share).max().expect("not empty");
        let winner = shares.iter().find(|(_, share)| *share == most).expect("one has most");
        found.push((block, winner.0.0));
    }
    found
}

/// Clusters around the world, two of them in one region, two at one point.
fn world(bytes: &[u8], members: &[usize], shape: Shape) -> World {
    let at = |name, region, point| site(name, &[(region, None)], Some(point));
    World {
        sites: vec![
            at("frankfurt", "eu", (50.1, 8.7)),
            at("london", "eu", (51.5, -0.1)),
            at("virginia", "us", (39.0, -77.5)),
            at("oregon", "us", (45.6, -121.2)),
            at("dalles", "dalles", (45.6, -121.2)),
            at("tokyo", "jp", (35.7, 139.7)),
            at("sydney", "au", (-33.9, 151.2)),
        ],
        members: members.iter().copied().map(ClusterId::new).collect(),
        shape,
        // One of them inside a network of the databases, one around several.
        rules: vec![
            rule("81.2.69.160/28", Target::Cluster(label("tokyo"))),
            rule("2001:218::/40", Target::Cluster(label("sydney"))),
        ],
        located: located(bytes),
    }
}

/// An address of a network, by the low bits of a number.
fn inside(network: IpNet, bits: u128) -> IpAddr {
    match network {
        IpNet::V4(net) => {
            Ipv4Addr::from(u32::from(net.network()) | bits as u32 & u32::from(net.hostmask()))
                .into()
        }
        IpNet::V6(net) => {
            Ipv6Addr::from(u128::from(net.network()) | bits & u128::from(net.hostmask())).into()
        }
    }
}

#[test]
fn what_is_compared_is_not_nothing() {
    for name in ["GeoIP2-City-Test.mmdb", "GeoIP2-Enterprise-Test.mmdb", "GeoIP2-Country-Test.mmdb"]
    {
        let (file, bytes) = public(name);
        let located = located(&bytes);
        let places = Database::parse(&file, &bytes).expect("a database").summary().places;
        assert!(located.len() > 20 && places > 5, "{name}: {} {places}", located.len());
    }
}

fn public(name: &str) -> (std::path::PathBuf, Vec<u8>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/maxmind-db").join(name);
    let bytes = std::fs::read(&file).expect("readable");
    (file, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn tables_agree_with_the_records(
        name in prop_oneof![
            Just("GeoIP2-City-Test.mmdb"),
            Just("GeoIP2-Enterprise-Test.mmdb"),
            Just("GeoIP2-Country-Test.mmdb"),
        ],
        members in proptest::sample::subsequence((0..7).collect::<Vec<usize>>(), 1..=7),
        shape in prop_oneof![
            Just(Shape::Whole),
            (1u16..4).prop_map(Shape::First),
            (1u16..9).prop_map(Shape::Region),
        ],
        picks in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u128>()), 24),
    ) {
        let (file, bytes) = public(name);
        let world = world(&bytes, &members, shape);
        let database = Database::parse(&file, &bytes).expect("a database");
        let atlas = Atlas::build(&[Arc::new(database)], &world.rules);
        let table = GeoTable::shaped(&atlas, &world.sites, &world.members, shape);
        prop_assert!(table.varies() || world.members.len() < 3, "{:?}", world.members);
        let borders = world.borders();
        let clients = picks.iter().flat_map(|(pick, bits)| {
            let (network, _) = world.located[pick.index(world.located.len())];
            [borders[pick.index(borders.len())], inside(network, *bits), Ipv6Addr::from(*bits).into()]
        });
        for client in clients {
            let (order, scope) = given(table.lookup(client));
            match world.answer(client) {
                Answer::Ordered(expected) => prop_assert_eq!(&order, &Some(expected), "{}", client),
                Answer::Resolver(_) if table.varies() => prop_assert_eq!(&order, &None),
                Answer::Resolver(_) => {}
            }
            if !table.varies() {
                prop_assert_eq!(scope, 0);
                continue;
            }
            let prefix = IpNet::new(client, scope).expect("a length").trunc();
            for (_, bits) in &picks {
                let other = inside(prefix, *bits);
                prop_assert_eq!(&given(table.lookup(other)), &(order.clone(), scope), "{}", other);
                prop_assert_eq!(world.answer(other), world.answer(client), "{} {}", client, other);
            }
            prop_assert!(alike(&world, &borders, client, scope), "{client}/{scope} is too wide");
            prop_assert!(
                scope == 0 || !alike(&world, &borders, client, scope - 1),
                "{client}/{scope} is not the widest"
            );
        }
    }
}
