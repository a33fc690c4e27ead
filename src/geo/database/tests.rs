//! Layouts, clamping and refusals, on databases that the test writes.

use std::path::Path;

use super::{Database, DatabaseError};
use crate::geo::testing::{Tree, Value, at, city, country, database, flat};
use crate::model::Coordinates;

fn parse(bytes: &[u8]) -> Result<Database, DatabaseError> {
    Database::parse(Path::new("/geo/test.mmdb"), bytes)
}

/// The ranges of one family with points instead of values.
fn named(
    database: &Database,
    ranges: impl Iterator<Item = (u128, u32)>,
) -> Vec<(u128, Option<Coordinates>)> {
    let point = |value: u32| Some(database.points()[value.checked_sub(1)? as usize]);
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
    let asn = Value::Map(vec![("autonomous_system_number", Value::Number(64500))]);
    let anonymous = Value::Map(vec![("is_anonymous", Value::Number(1))]);
    assert_eq!(
        text(&database(Tree::V4, "GeoLite2-ASN", &[("1.0.0.0/8", asn)])),
        "/geo/test.mmdb: a database of type 'GeoLite2-ASN' tells no places, only networks' \
         autonomous systems; configure a City or Country database"
    );
    let said = text(&database(Tree::V4, "GeoIP2-Anonymous-IP", &[("1.0.0.0/8", anonymous)]));
    assert!(said.contains("only proxies and hosting networks"), "{said}");

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
