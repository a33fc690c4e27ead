//! What tests of geography share: sites, and a writer of MaxMind-format databases.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::{NetworkRule, Site, Target};
use crate::model::{Coordinates, Label, Topology};

/// A label.
pub(super) fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

/// A point.
pub(super) fn at(latitude: f64, longitude: f64) -> Coordinates {
    Coordinates::new(latitude, longitude).expect("on the globe")
}

/// A cluster's site.
pub(super) fn site(
    name: &str,
    topologies: &[(&str, Option<&str>)],
    point: Option<(f64, f64)>,
) -> Site {
    let topology = |(region, zone): &(&str, Option<&str>)| Topology {
        region: label(region),
        zone: zone.map(label),
    };
    Site {
        name: label(name),
        topologies: topologies.iter().map(topology).collect(),
        coordinates: point.map(|(latitude, longitude)| at(latitude, longitude)),
    }
}

/// Up to twelve clusters in four regions with two zones each; some share a point, some have none.
pub(super) fn sites() -> impl Strategy<Value = Vec<Site>> {
    const POINTS: [(f64, f64); 6] =
        [(50.1, 8.7), (39.0, -77.5), (1.35, 103.8), (-33.9, 151.2), (35.7, 139.7), (-23.5, -46.6)];
    let one = (0..4usize, 0..3usize, 0..8usize);
    proptest::collection::vec(one, 1..12).prop_map(|all| {
        let make = |(index, (region, zone, point)): (usize, (usize, usize, usize))| {
            let region = format!("r{region}");
            let zone = ["z1", "z2"].get(zone).copied();
            site(&format!("c{index}"), &[(&region, zone)], POINTS.get(point).copied())
        };
        all.into_iter().enumerate().map(make).collect()
    })
}

/// A value in a MaxMind-format database.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(&'static str),
    Double(f64),
    Float(f32),
    Number(u16),
    Count(u32),
    Long(u64),
    Map(Vec<(&'static str, Value)>),
    List(Vec<Value>),
}

impl Value {
    /// Type and size, then the value (MaxMind DB file format specification 2.0, "Data section").
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                head(2, text.len(), out);
                out.extend(text.as_bytes());
            }
            Self::Double(number) => {
                head(3, 8, out);
                out.extend(number.to_be_bytes());
            }
            Self::Float(number) => {
                head(15, 4, out);
                out.extend(number.to_be_bytes());
            }
            Self::Number(number) => {
                head(5, 2, out);
                out.extend(number.to_be_bytes());
            }
            Self::Count(number) => {
                head(6, 4, out);
                out.extend(number.to_be_bytes());
            }
            Self::Long(number) => {
                head(9, 8, out);
                out.extend(number.to_be_bytes());
            }
            Self::Map(entries) => {
                head(7, entries.len(), out);
                for (key, value) in entries {
                    Self::Text(key).write(out);
                    value.write(out);
                }
            }
            Self::List(values) => {
                head(11, values.len(), out);
                values.iter().for_each(|value| value.write(out));
            }
        }
    }
}

/// The control octet, for types above 7 with the octet that extends it; sizes below 285.
fn head(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (short, rest) = if size < 29 { (size as u8, None) } else { (29, Some(size as u8 - 29)) };
    if kind > 7 {
        out.extend([short, kind - 7]);
    } else {
        out.push(kind << 5 | short);
    }
    out.extend(rest);
}

/// A record in the layout of MaxMind City databases.
pub(super) fn city(latitude: f64, longitude: f64) -> Value {
    let point = [("latitude", Value::Double(latitude)), ("longitude", Value::Double(longitude))];
    let names = Value::Map(vec![("en", Value::Text("Somewhere"))]);
    Value::Map(vec![
        ("city", Value::Map(vec![("geoname_id", Value::Number(7)), ("names", names)])),
        ("location", Value::Map(point.into())),
        ("subdivisions", Value::List(vec![Value::Map(vec![("iso_code", Value::Text("X"))])])),
    ])
}

/// A record in the layout of MaxMind Country databases.
pub(super) fn country(code: &'static str) -> Value {
    let country = vec![("geoname_id", Value::Number(7)), ("iso_code", Value::Text(code))];
    Value::Map(vec![("country", Value::Map(country))])
}

/// A record in the flat layout, with coordinates as floats.
pub(super) fn flat(latitude: f32, longitude: f32) -> Value {
    Value::Map(vec![
        ("country_code", Value::Text("FR")),
        ("latitude", Value::Float(latitude)),
        ("longitude", Value::Float(longitude)),
    ])
}

/// Bits of an address in a database's tree.
pub(super) enum Tree {
    /// 32: IPv4 only.
    V4,
    /// 128, with IPv4 under ::/96.
    V6,
    /// As `V6`, and with the aliases that MaxMind writes: mapped, 6to4 and Teredo networks point
    /// to the IPv4 part of the tree.
    V6WithAliases,
}

/// A MaxMind-format database with these networks, the later ones over the earlier ones.
pub(super) fn database(tree: Tree, kind: &'static str, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut nodes = vec![[Branch::Nothing; 2]];
    let wide = !matches!(tree, Tree::V4);
    for (network, value) in networks {
        let offset = data.len();
        value.write(&mut data);
        let network: IpNet = network.parse().expect("a network");
        let (bits, len) = match (network.addr(), wide) {
            (IpAddr::V4(v4), true) => (u128::from(u32::from(v4)), network.prefix_len() + 96),
            (IpAddr::V4(v4), false) => (u128::from(u32::from(v4)) << 96, network.prefix_len()),
            (IpAddr::V6(v6), _) => (v6.into(), network.prefix_len()),
        };
        insert(&mut nodes, bits, len, Branch::Data(offset));
    }
    if matches!(tree, Tree::V6WithAliases) {
        let v4 = (0..96).try_fold(0, |node, _| match nodes[node][0] {
            Branch::Node(next) => Some(next),
            _ => None,
        });
        let v4 = Branch::Node(v4.expect("an IPv4 network"));
        for (alias, len) in [("::ffff:0:0", 96), ("2002::", 16), ("2001::", 32)] {
            let alias: Ipv6Addr = alias.parse().expect("an address");
            insert(&mut nodes, alias.into(), len, v4);
        }
    }
    assemble(&nodes, &data, if wide { 6 } else { 4 }, kind)
}

#[derive(Clone, Copy)]
enum Branch {
    Nothing,
    Node(usize),
    Data(usize),
}

fn insert(nodes: &mut Vec<[Branch; 2]>, bits: u128, len: u8, leaf: Branch) {
    let mut node = 0;
    for at in 0..len {
        let side = usize::from(bits << at >> 127 == 1);
        let next = nodes.len();
        let branch = &mut nodes[node][side];
        if at + 1 == len {
            *branch = leaf;
            return;
        }
        node = match *branch {
            Branch::Node(next) => next,
            old => {
                *branch = Branch::Node(next);
                nodes.push([old; 2]);
                next
            }
        };
    }
    // A network of length 0.
    nodes[0] = [leaf; 2];
}

fn assemble(nodes: &[[Branch; 2]], data: &[u8], version: u16, kind: &'static str) -> Vec<u8> {
    let mut out = Vec::new();
    for branch in nodes.iter().flatten() {
        let record = match branch {
            Branch::Nothing => nodes.len(),
            Branch::Node(node) => *node,
            // Data stands behind a separator of sixteen octets.
            Branch::Data(offset) => nodes.len() + 16 + offset,
        };
        out.extend(&(record as u32).to_be_bytes()[1..]);
    }
    out.extend([0; 16]);
    out.extend(data);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    let fields = BTreeMap::from([
        ("binary_format_major_version", Value::Number(2)),
        ("binary_format_minor_version", Value::Number(0)),
        ("build_epoch", Value::Long(1_750_000_000)),
        ("database_type", Value::Text(kind)),
        ("description", Value::Map(vec![("en", Value::Text("for tests"))])),
        ("ip_version", Value::Number(version)),
        ("languages", Value::List(Vec::new())),
        ("node_count", Value::Count(nodes.len() as u32)),
        ("record_size", Value::Number(24)),
    ]);
    Value::Map(fields.into_iter().collect()).write(&mut out);
    out
}

/// A network of the operator's.
pub(super) fn rule(network: &str, target: Target) -> NetworkRule {
    NetworkRule::new(network.parse().expect("a network"), target).expect("a rule")
}
