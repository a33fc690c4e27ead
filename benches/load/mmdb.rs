//! A made-up City database in the MaxMind format, for all servers alike: networks of /16 to /24
//! that cover unicast space, each in one of a few thousand places.
//!
//! MaxMind DB file format specification 2.0; fields as in GeoLite2-City.

use std::fs;
use std::io;
use std::path::Path;

use super::model::{REGIONS, Random};

/// Places that networks are in.
const PLACES: usize = 4_000;

/// Seed of places and networks.
const SEED: u64 = 7;

/// A place on land or near it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    continent: &'static str,
    country: &'static str,
}

/// Boxes that hold most of the land: south, north, west, east, continent and a country there.
const LANDS: [(f64, f64, f64, f64, &str, &str); 6] = [
    (-34.0, 35.0, -16.0, 40.0, "AF", "KE"),
    (5.0, 65.0, 60.0, 140.0, "AS", "IN"),
    (37.0, 65.0, -9.0, 40.0, "EU", "DE"),
    (15.0, 60.0, -125.0, -65.0, "NA", "US"),
    (-40.0, 10.0, -75.0, -40.0, "SA", "BR"),
    (-40.0, -12.0, 115.0, 175.0, "OC", "AU"),
];

/// Networks, first address and length of prefix, with the place of each.
pub(crate) struct Networks {
    pub(crate) places: Vec<Place>,
    /// In the order of addresses: first address, prefix length, index of a place.
    pub(crate) networks: Vec<(u32, u8, u16)>,
}

impl Networks {
    /// The same every time.
    pub(crate) fn make() -> Self {
        let mut random = Random(SEED);
        let places = (0..PLACES)
            .map(|_| {
                let (south, north, west, east, continent, country) = LANDS[random.below(6)];
                let mut between = |low: f64, high: f64| {
                    // Hundredths of a degree, as City databases have at best.
                    let steps = ((high - low) * 100.0) as usize;
                    low + random.below(steps) as f64 / 100.0
                };
                let (latitude, longitude) = (between(south, north), between(west, east));
                Place { latitude, longitude, continent, country }
            })
            .collect();
        let mut networks = Vec::new();
        for block in (1u32 << 8)..(224 << 8) {
            if is_global(block) {
                split(block << 16, 16, &mut random, &mut networks);
            }
        }
        Self { places, networks }
    }

    /// The place of an address that is in some network.
    pub(crate) fn place(&self, address: u32) -> Option<&Place> {
        let after = self.networks.partition_point(|(first, ..)| *first <= address);
        let (_, _, place) = self.networks.get(after.checked_sub(1)?)?;
        Some(&self.places[usize::from(*place)])
    }

    /// Writes the database.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let offsets: Vec<usize> = self
            .places
            .iter()
            .map(|place| {
                let offset = data.len();
                place.write(&mut data);
                offset
            })
            .collect();
        let tree = Tree::of(self, &offsets);
        let mut out = tree.encode();
        out.extend([0; 16]);
        out.extend(data);
        out.extend(b"\xab\xcd\xefMaxMind.com");
        metadata(tree.nodes.len(), &mut out);
        out
    }
}

/// Whether a /16 has global addresses only: a client that says it is elsewhere is placed by its
/// resolver (IANA IPv4 Special-Purpose Address Registry).
fn is_global(block: u32) -> bool {
    let (first, second) = (block >> 8, block & 0xff);
    !matches!(
        (first, second),
        (10 | 127, _)
            | (100, 64..128)
            | (169, 254)
            | (172, 16..32)
            | (192, 0 | 31 | 52 | 88 | 168 | 175)
            | (198, 18 | 19 | 51)
            | (203, 0)
    )
}

/// Halves a network at random, down to /24.
fn split(first: u32, len: u8, random: &mut Random, out: &mut Vec<(u32, u8, u16)>) {
    // Makes some nine networks of each /16, half a million in all.
    if len < 24 && random.below(100) < 58 {
        split(first, len + 1, random, out);
        split(first | 1 << (31 - len), len + 1, random, out);
    } else {
        out.push((first, len, random.below(PLACES) as u16));
    }
}

/// The search tree. A record is a node, nothing, or an offset into the data.
struct Tree {
    nodes: Vec<[Record; 2]>,
}

#[derive(Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    Data(usize),
}

impl Tree {
    fn of(networks: &Networks, offsets: &[usize]) -> Self {
        let mut tree = Self { nodes: vec![[Record::Nothing; 2]] };
        for (first, len, place) in &networks.networks {
            // IPv4 is ::/96.
            let bits = (0..96 + u32::from(*len)).map(|bit| match bit {
                0..96 => 0,
                bit => (first >> (127 - bit) & 1) as usize,
            });
            tree.insert(bits, offsets[usize::from(*place)]);
        }
        tree
    }

    fn insert(&mut self, bits: impl ExactSizeIterator<Item = usize>, offset: usize) {
        let (mut node, last) = (0, bits.len() - 1);
        for (at, bit) in bits.enumerate() {
            if at == last {
                self.nodes[node][bit] = Record::Data(offset);
                return;
            }
            node = match self.nodes[node][bit] {
                Record::Node(next) => next,
                _ => {
                    self.nodes.push([Record::Nothing; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][bit] = Record::Node(next);
                    next
                }
            };
        }
    }

    /// Records of 32 bits.
    fn encode(&self) -> Vec<u8> {
        let count = self.nodes.len();
        let number = |record: &Record| match record {
            Record::Nothing => count,
            Record::Node(next) => *next,
            Record::Data(offset) => count + 16 + offset,
        };
        self.nodes.iter().flatten().flat_map(|r| (number(r) as u32).to_be_bytes()).collect()
    }
}

impl Place {
    fn write(&self, out: &mut Vec<u8>) {
        map(3, out);
        text("continent", out);
        map(1, out);
        text("code", out);
        text(self.continent, out);
        text("country", out);
        map(1, out);
        text("iso_code", out);
        text(self.country, out);
        text("location", out);
        map(2, out);
        for (key, value) in [("latitude", self.latitude), ("longitude", self.longitude)] {
            text(key, out);
            out.push(3 << 5 | 8);
            out.extend(value.to_be_bytes());
        }
    }
}

fn map(entries: u8, out: &mut Vec<u8>) {
    out.push(7 << 5 | entries);
}

/// At most 28 octets.
fn text(text: &str, out: &mut Vec<u8>) {
    out.push(2 << 5 | text.len() as u8);
    out.extend(text.as_bytes());
}

fn metadata(nodes: usize, out: &mut Vec<u8>) {
    map(9, out);
    for (key, number) in [
        ("binary_format_major_version", 2u16),
        ("binary_format_minor_version", 0),
        ("ip_version", 6),
        ("record_size", 32),
    ] {
        text(key, out);
        out.push(5 << 5 | 2);
        out.extend(number.to_be_bytes());
    }
    text("node_count", out);
    out.push(6 << 5 | 4);
    out.extend((nodes as u32).to_be_bytes());
    text("build_epoch", out);
    // Types above 7 have theirs, less 7, in an octet of its own.
    out.extend([8, 9 - 7]);
    out.extend(1_700_000_000u64.to_be_bytes());
    text("database_type", out);
    text("GeoLite2-City", out);
    text("languages", out);
    out.extend([1, 11 - 7]);
    text("en", out);
    text("description", out);
    map(1, out);
    text("en", out);
    text("made up for benchmarks", out);
}

/// Clusters by their distance from a place, nearest first, with the distance in kilometres.
pub(crate) fn nearest(place: &Place, clusters: usize) -> Vec<(usize, f64)> {
    let radians = |degrees: f64| degrees.to_radians();
    let distance = |(_, latitude, longitude): &(&str, f64, f64)| {
        let (a, b) = (radians(place.latitude), radians(*latitude));
        let half = |difference: f64| (difference / 2.0).sin().powi(2);
        let h = half(a - b) + a.cos() * b.cos() * half(radians(place.longitude - longitude));
        2.0 * 6371.0 * h.sqrt().asin()
    };
    let mut order: Vec<_> = REGIONS[..clusters].iter().map(distance).enumerate().collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    order
}
