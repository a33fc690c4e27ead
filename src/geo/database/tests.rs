//! Layouts, clamping and refusals, on databases that the test writes.

use std::path::Path;
use std::sync::Arc;

use super::{Database, DatabaseError};
use crate::geo::testing::{Tree, Value, at, city, country, database, flat, label};
use crate::geo::{Atlas, Clients, NetworkRule, Place, Target};
use crate::model::Coordinates;

fn parse(bytes: &[u8]) -> Result<Database, DatabaseError> {
    Database::parse(Path::new("/geo/test.mmdb"), bytes)
}

/// The ranges of one family with points instead of values.
fn named(
    database: &Database,
    ranges: impl Iterator<Item = (u128, u32)>,
) -> Vec<(u128, Option<Coordinates>)> {
    let point =
        |value: u32| Some(database.gazetteer().spots()[value.checked_sub(1)? as usize].point);
    ranges.map(|(start, value)| (start, point(value))).collect()
}

fn v4(octets: [u8; 4]) -> u128 {
    u32::from_be_bytes(octets).into()
}

#[test]
fn reads_the_layouts_that_place_addresses() {
    let bytes = database(
        Tree::V4,
        "GeoLite2-City",
        &[
            ("1.0.0.0/24", city(60.17, 24.94)),
            ("1.0.1.0/24", country("FI")),
            ("1.0.2.0/24", flat(43.5, -1.25)),
            ("1.0.3.0/24", Value::Map(vec![("country", Value::Text("fi"))])),
            ("1.0.4.0/24", Value::Map(vec![("country_code", Value::Text("FI"))])),
            ("1.0.5.0/24", Value::Map(vec![("registered_country", Value::Text("FI"))])),
            ("1.0.6.0/24", Value::Map(Vec::new())),
        ],
    );
    let read = parse(&bytes).expect("a database");
    let finland = crate::geo::countries::coordinates_of("FI");
    let expected = [
        (0, None),
        (v4([1, 0, 0, 0]), Some(at(60.17, 24.94))),
        (v4([1, 0, 1, 0]), finland),
        (v4([1, 0, 2, 0]), Some(at(43.5, -1.25))),
        (v4([1, 0, 3, 0]), finland),
        (v4([1, 0, 6, 0]), None),
    ];
    assert_eq!(named(&read, read.iter_v4()), expected);
    assert_eq!(named(&read, read.iter_v6()), [(0, None)], "an IPv4 database works by itself");
    assert_eq!((read.summary().places, read.summary().built), (3, 1_750_000_000));
}

#[test]
fn reads_both_families_and_leaves_aliases_out() {
    let networks =
        [("1.2.0.0/16", city(1.0, 1.0)), ("2a00::/12", city(2.0, 2.0)), ("::/1", city(3.0, 3.0))];
    let read = parse(&database(Tree::V6WithAliases, "City", &networks[..2])).expect("a database");
    let one = (v4([1, 2, 0, 0]), Some(at(1.0, 1.0)));
    assert_eq!(named(&read, read.iter_v4()), [(0, None), one, (v4([1, 3, 0, 0]), None)]);
    let two = (0x2a00 << 112, Some(at(2.0, 2.0)));
    assert_eq!(named(&read, read.iter_v6()), [(0, None), two, (0x2a10 << 112, None)]);

    // A database of IPv6 alone, with a record that covers the place where IPv4 would be.
    let read = parse(&database(Tree::V6, "City", &networks[2..])).expect("a database");
    assert_eq!(named(&read, read.iter_v4()), [(0, None)]);
    assert_eq!(named(&read, read.iter_v6()), [(0, Some(at(3.0, 3.0))), (1 << 127, None)]);
}

#[test]
fn clamps_to_24_and_48() {
    let bytes = database(
        Tree::V6,
        "City",
        &[
            ("1.0.0.0/24", city(1.0, 1.0)),
            ("1.0.0.64/27", city(2.0, 2.0)),
            ("1.0.1.0/26", city(3.0, 3.0)),
            ("2a00::/48", city(1.0, 1.0)),
            ("2a00::/49", city(2.0, 2.0)),
            ("2a00::/50", city(3.0, 3.0)),
            ("2a00:0:1::1/128", city(3.0, 3.0)),
        ],
    );
    let read = parse(&bytes).expect("a database");
    // Seven eighths; then a quarter against nothing.
    assert_eq!(
        named(&read, read.iter_v4())[1..],
        [
            (v4([1, 0, 0, 0]), Some(at(1.0, 1.0))),
            (v4([1, 0, 1, 0]), Some(at(3.0, 3.0))),
            (v4([1, 0, 2, 0]), None),
        ]
    );
    // A half, a quarter, a quarter; then a single address against nothing.
    let half = 0x2a00_u128 << 112;
    assert_eq!(
        named(&read, read.iter_v6())[1..],
        [(half, Some(at(1.0, 1.0))), (half | 1 << 80, Some(at(3.0, 3.0))), (half | 2 << 80, None),]
    );
}

#[test]
fn coordinates_off_the_globe_fall_back_to_the_country() {
    let wrong = |code| {
        Value::Map(vec![
            ("country_code", Value::Text(code)),
            ("latitude", Value::Float(95.0)),
            ("longitude", Value::Float(0.0)),
        ])
    };
    let bytes =
        database(Tree::V4, "City", &[("1.0.0.0/24", wrong("FI")), ("1.0.1.0/24", wrong("??"))]);
    let read = parse(&bytes).expect("a database");
    assert_eq!((read.summary().places, read.summary().off_globe), (1, 1));
}

#[test]
fn says_what_is_wrong_and_what_to_do() {
    let text = |bytes: &[u8]| parse(bytes).expect_err("not usable").to_string();
    let anonymous = Value::Map(vec![("is_anonymous", Value::Number(1))]);
    let said = text(&database(Tree::V4, "GeoIP2-Anonymous-IP", &[("1.0.0.0/8", anonymous)]));
    assert_eq!(
        said,
        "/geo/test.mmdb: a database of type 'GeoIP2-Anonymous-IP' tells no places, only proxies and \
         hosting networks; configure a City, Country or ASN database"
    );

    let whole = database(Tree::V4, "City", &[("1.0.0.0/8", city(1.0, 1.0))]);
    assert!(text(b"").contains("cut short"));
    assert!(text(b"\x1f\x8b\x08 not unpacked").contains("unpacked"));
    assert!(text(&whole[..whole.len() - 200]).contains("cut short"));
    // Metadata that claims more nodes than there are.
    let at = whole.windows(10).rposition(|w| w == b"node_count").expect("metadata") + 11;
    let mut bytes = whole.clone();
    bytes[at] = 0xff;
    assert!(text(&bytes).contains("search tree extends"), "{}", text(&bytes));
    // A record beyond the data: the first node's left branch.
    let mut bytes = whole.clone();
    bytes[..3].fill(0xff);
    assert!(text(&bytes).contains("corrupt"), "{}", text(&bytes));
    // A record that is no map.
    let said = text(&database(Tree::V4, "City", &[("1.0.0.0/8", Value::Text("x"))]));
    assert!(said.contains("corrupt"), "{said}");
}

#[test]
fn trees_that_would_take_for_ever_are_refused() {
    let whole = database(Tree::V6, "City", &[("2a00::/40", city(1.0, 1.0))]);
    // Both branches of the second node lead back to it.
    let mut circle = whole.clone();
    circle[6..12].copy_from_slice(&[0, 0, 1, 0, 0, 1]);
    // Both branches of every node but the last lead to the next one: 2^39 leaves.
    let mut ladder = whole;
    for node in 0..39 {
        let next = [0, 0, node + 1];
        ladder[usize::from(node) * 6..][..6].copy_from_slice(&[next, next].concat());
    }
    for bytes in [circle, ladder] {
        let said = parse(&bytes).expect_err("endless").to_string();
        assert!(said.contains("corrupt"), "{said}");
    }
}

/// A test database of MaxMind's.
fn public(name: &str) -> Result<Database, DatabaseError> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/maxmind-db").join(name);
    crate::geo::watch::load(&file)
}

#[test]
fn public_databases_place_as_another_reader_does() {
    for name in ["GeoIP2-City-Test.mmdb", "GeoIP2-Enterprise-Test.mmdb", "GeoIP2-Country-Test.mmdb"]
    {
        let database = Arc::new(public(name).expect("a database of places"));
        let atlas = Atlas::build(&[database], &[]);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/maxmind-db").join(name);
        let bytes = std::fs::read(file).expect("readable");
        let reader = maxminddb::Reader::from_source(&bytes[..]).expect("a database");
        let mut compared = 0;
        for leaf in reader.networks(Default::default()).expect("a tree") {
            let leaf = leaf.expect("a leaf");
            let network = leaf.network().expect("a network");
            let block = if network.is_ipv4() { 24 } else { 48 };
            let point = |path: &[maxminddb::PathElement<'_>]| leaf.decode_path::<f64>(path).ok()?;
            use maxminddb::PathElement::Key;
            let latitude = point(&[Key("location"), Key("latitude")]);
            let longitude = point(&[Key("location"), Key("longitude")]);
            // What is smaller than a block may have been outweighed.
            if network.prefix() > block || name.contains("Country") {
                continue;
            }
            let (Some(latitude), Some(longitude)) = (latitude, longitude) else { continue };
            let located = atlas.locate(network.ip());
            if let Place::At(place) = located.place {
                assert_eq!(place, Target::Coordinates(at(latitude, longitude)), "{name} {network}");
                compared += 1;
            } else {
                assert!(matches!(located.place, Place::NonGlobal(_)), "{name} {network}");
            }
        }
        assert!(compared > 5 || name.contains("Country"), "{name}: {compared}");
    }
    let countries = Arc::new(public("GeoIP2-Country-Test.mmdb").expect("a database of places"));
    let atlas = Atlas::build(&[countries], &[]);
    let japan = atlas.locate("2001:218::1".parse().expect("an address")).place;
    let point = crate::geo::countries::coordinates_of("JP").expect("Japan");
    assert_eq!(japan, Place::At(Target::Coordinates(point)));
}

#[test]
fn public_databases_of_systems_are_for_rules_and_of_proxies_for_nothing() {
    let systems = Arc::new(public("GeoLite2-ASN-Test.mmdb").expect("a database of systems"));
    assert_eq!(systems.summary().places, 0);
    let telstra = Target::Cluster(label("telstra"));
    let rule = NetworkRule::of(Clients::System(1221), telstra.clone()).expect("a rule");
    let atlas = Atlas::build(&[systems], &[rule]);
    let located = atlas.locate("1.129.0.1".parse().expect("an address"));
    assert_eq!(
        (located.place, located.network.to_string().as_str()),
        (Place::At(telstra), "1.128.0.0/11")
    );
    let other = atlas.locate("12.81.93.1".parse().expect("an address"));
    assert_eq!(other.place, Place::Unknown, "a database of systems tells no places");

    let refused = public("GeoIP2-Anonymous-IP-Test.mmdb").expect_err("no places").to_string();
    assert!(refused.contains("only proxies and hosting networks"), "{refused}");
}
