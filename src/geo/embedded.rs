//! The table of places that the program brings along: who is in which country, and in which
//! subdivision of the eleven largest.
//!
//! *Owns*: the format of `data/dbip/places.bin`, both ways: [`Writer`] makes the file, for
//! `examples/make_geo_table.rs`, and [`database`] reads it. *Guarantees*: the same database makes
//! the same octets. *Does not*: hold any data; `data/dbip` does, under a licence of its own.
//!
//! After a magic number the file is one zlib stream of numbers as LEB128: when the source was
//! built; the places, each with country, subdivision, and latitude and longitude in hundredths of
//! a degree; then for IPv4 and for IPv6 how many ranges there are, how many blocks each is wide, and
//! the place of each. Widths and places stand apart because each compresses better by itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib;

use super::Country;
use super::clamp::{Clamp, Family};
use super::database::{Database, NOWHERE, Origin, Spots};
use super::ranges::{Key, Ranges};
use super::record::{Land, Placed};
use super::sphere::Direction;
use crate::model::Coordinates;

/// To be shown with what the table tells, as its licence (CC BY 4.0) asks.
pub const ATTRIBUTION: &str = "IP Geolocation by DB-IP (https://db-ip.com), reduced to countries \
                               and large subdivisions; CC BY 4.0";

const MAGIC: &[u8] = b"meridian places 1\n";

/// Blocks of the table. With /20 instead of /24 a tenth of the ranges remains, and one address in
/// thirty gets another nearest of four regions.
const V4: Family = Family { bits: 32, block: 20, dropped: 0 };
/// The same for IPv6: providers give sites /48s out of /40s or wider.
const V6: Family = Family { bits: 128, block: 40, dropped: 64 };

/// The table, read anew at each call; some 12 ms.
#[must_use]
pub fn database() -> Arc<Database> {
    let file = include_bytes!("../../data/dbip/places.bin");
    // The file is part of the program and a test below reads it, so it is well formed.
    Arc::new(read(file).expect("data/dbip/places.bin"))
}

/// Collects networks and their places, and writes the table.
#[derive(Debug, Default)]
pub struct Writer {
    v4: Vec<(u32, u8, u32)>,
    v6: Vec<(u128, u8, u32)>,
    places: Vec<Gathered>,
    known: BTreeMap<(Country, Box<str>), u32>,
}

/// A place and the sum of the directions of its networks, weighted by their size.
#[derive(Clone, Debug)]
struct Gathered {
    v4: Direction,
    v6: Direction,
}

impl Writer {
    /// The network is in this subdivision (empty: anywhere) of a country, at this point. Networks
    /// come in ascending order, those of each family for itself, and do not overlap.
    pub fn add(&mut self, network: IpNet, country: Country, subdivision: &str, at: Coordinates) {
        let next = self.places.len() as u32;
        let place = *self.known.entry((country, subdivision.into())).or_insert(next);
        if place == next {
            self.places.push(Gathered { v4: Direction::NONE, v6: Direction::NONE });
        }
        let gathered = &mut self.places[place as usize];
        let len = network.prefix_len();
        match network.addr() {
            IpAddr::V4(first) => {
                gathered.v4.add(Direction::of(at), f64::from(32 - len).exp2());
                self.v4.push((first.into(), len, place));
            }
            IpAddr::V6(first) => {
                // In /64s; what is longer counts as one.
                gathered.v6.add(Direction::of(at), f64::from(64 - len.min(64)).exp2());
                self.v6.push((first.into(), len, place));
            }
        }
    }

    /// The table as a file; `built` is when the source was, seconds since 1970.
    #[must_use]
    pub fn finish(self, built: u64) -> Vec<u8> {
        let (mut v4, mut v6) = (Clamp::new(V4, NOWHERE), Clamp::new(V6, NOWHERE));
        for &(first, len, place) in &self.v4 {
            v4.add(first.into(), len, place + 1);
        }
        for &(first, len, place) in &self.v6 {
            v6.add(first, len, place + 1);
        }
        let (v4, v6): (Ranges<u32, u32>, Ranges<u64, u32>) = (v4.finish(), v6.finish());
        // The most used places have the smallest numbers, which take one octet.
        let mut uses = vec![0_usize; self.places.len() + 1];
        let values = v4.iter().map(|(_, value)| value).chain(v6.iter().map(|(_, value)| value));
        values.for_each(|value| uses[value as usize] += 1);
        let mut order: Vec<(&(Country, Box<str>), u32)> =
            self.known.iter().map(|(land, &place)| (land, place)).collect();
        order.sort_by_key(|(_, place)| std::cmp::Reverse(uses[*place as usize + 1]));
        let mut renamed = vec![NOWHERE; order.len() + 1];
        let mut out = Vec::new();
        number(&mut out, built);
        number(&mut out, order.len() as u64);
        for ((land, place), name) in order.iter().zip(1..) {
            renamed[*place as usize + 1] = name;
            let gathered = &self.places[*place as usize];
            let point = gathered.v4.point().or_else(|| gathered.v6.point());
            place_to(&mut out, land, point.unwrap_or_default());
        }
        ranges_to(&mut out, &v4, &renamed, V4);
        ranges_to(&mut out, &v6, &renamed, V6);
        // Ten is the strongest level of the library.
        [MAGIC, &compress_to_vec_zlib(&out, 10)].concat()
    }
}

/// Hundredths of a degree, moved to where all are positive.
const SHIFT: f64 = 18_000.0;

fn place_to(out: &mut Vec<u8>, (country, subdivision): &(Country, Box<str>), at: Coordinates) {
    out.extend_from_slice(country.code().as_bytes());
    number(out, subdivision.len() as u64);
    out.extend_from_slice(subdivision.as_bytes());
    for degrees in [at.latitude(), at.longitude()] {
        // On the globe, so from 0 to 36,000.
        number(out, ((degrees * 100.0).round() + SHIFT) as u64);
    }
}

fn ranges_to<K: Key>(out: &mut Vec<u8>, ranges: &Ranges<K, u32>, renamed: &[u32], family: Family) {
    let spare = family.bits - family.dropped - family.block;
    number(out, ranges.len() as u64);
    let mut before = 0;
    for (start, _) in ranges.iter() {
        let start = start.to_bits() >> spare;
        // At most 2^40 blocks.
        number(out, (start - before) as u64);
        before = start;
    }
    for (_, value) in ranges.iter() {
        number(out, renamed[value as usize].into());
    }
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a table; `None` where it is none.
fn read(file: &[u8]) -> Option<Database> {
    let octets = decompress_to_vec_zlib(file.strip_prefix(MAGIC)?).ok()?;
    let mut rest = Octets(&octets);
    let built = rest.number()?;
    let mut spots = Spots::default();
    let count = u32::try_from(rest.number()?).ok()?;
    for expected in 1..=count {
        let country = std::str::from_utf8(rest.take(2)?).ok()?;
        let len = usize::try_from(rest.number()?).ok()?;
        let name = std::str::from_utf8(rest.take(len)?).ok()?;
        let mut degrees = || Some((rest.number()? as f64 - SHIFT) / 100.0);
        let point = Coordinates::new(degrees()?, degrees()?).ok()?;
        let land = Land { country, code: "", name };
        if spots.value(Placed::At(point, land)) != expected {
            return None;
        }
    }
    let v4 = rest.ranges(V4, count)?;
    let v6 = rest.ranges(V6, count)?;
    let kind = "country and subdivision".into();
    rest.0.is_empty().then(|| spots.finish(Origin::Embedded, kind, built, v4, v6))
}

/// What is left to be read.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let octet = u64::from(*self.take(1)?.first()?);
            number |= (octet & 0x7f) << shift;
            if octet < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// Ranges from zero, strictly ascending, of values up to `most`.
    fn ranges<K: Key + TryFrom<u64>>(
        &mut self,
        family: Family,
        most: u32,
    ) -> Option<Ranges<K, u32>> {
        let spare = family.bits - family.dropped - family.block;
        let count = usize::try_from(self.number()?).ok()?;
        let mut starts = Vec::new();
        let mut at = 0_u64;
        for index in 0..count {
            let width = self.number()?;
            if (width == 0) != (index == 0) {
                return None;
            }
            at = at.checked_add(width)?;
            let start = at.checked_shl(spare.into()).filter(|start| start >> spare == at)?;
            starts.push(K::try_from(start).ok()?);
        }
        let mut ranges = Ranges::default();
        for start in starts {
            let value = u32::try_from(self.number()?).ok().filter(|value| *value <= most)?;
            ranges.push(start, value);
        }
        ranges.shrink();
        (ranges.len() > 0).then_some(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::{Writer, database, read};
    use crate::geo::testing::at;
    use crate::geo::{Atlas, Country, Embedded, Settings};

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        let fi = Country::parse("fi").expect("a country");
        let us = Country::parse("US").expect("a country");
        for (network, country, part, point) in [
            ("1.0.0.0/16", us, "Ohio", at(40.0, -83.0)),
            ("1.1.0.0/16", us, "Texas", at(31.0, -97.0)),
            // The table knows blocks of /20, in which most addresses win.
            ("1.2.0.0/21", fi, "", at(60.0, 25.0)),
            ("1.2.8.0/24", us, "Ohio", at(40.0, -83.0)),
            ("2a00::/32", fi, "", at(65.0, 25.0)),
            ("2a00:1:100::/40", us, "Texas", at(31.0, -97.0)),
        ] {
            writer.add(network.parse().expect("a network"), country, part, point);
        }
        let table = read(&writer.finish(1_750_000_000)).expect("a table");
        assert_eq!((table.summary().places, table.summary().built), (3, 1_750_000_000));
        let atlas = Atlas::build(&[table.into()], &[]);
        for (address, place, network) in [
            ("1.0.255.255", "40.00,-83.00", "1.0.0.0/16"),
            ("1.1.0.1", "31.00,-97.00", "1.1.0.0/16"),
            ("1.2.8.1", "60.00,25.00", "1.2.0.0/20"),
            ("1.2.16.0", "unknown", "1.2.16.0/20"),
            ("2a00::1", "60.00,25.00", "2a00::/32"),
            ("2a00:1:1ff::1", "31.00,-97.00", "2a00:1:100::/40"),
        ] {
            let located = atlas.locate(address.parse().expect("an address"));
            assert_eq!(located.place.to_string(), place, "{address}");
            assert_eq!(located.network.to_string(), network, "{address}");
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let mut writer = Writer::default();
        let fi = Country::parse("FI").expect("a country");
        writer.add("1.0.0.0/8".parse().expect("a network"), fi, "", at(60.0, 25.0));
        let whole = writer.finish(0);
        assert!(read(&whole).is_some());
        assert!((0..whole.len()).all(|len| read(&whole[..len]).is_none()), "cut short");
        assert!(read(&[&whole[..4], b"x", &whole[5..]].concat()).is_none(), "another magic");
    }

    #[test]
    fn the_table_of_the_program_knows_the_world() {
        let atlas = Atlas::build(&[database()], &[]);
        let near = |address: &str, latitude: f64, longitude: f64| {
            let located = atlas.locate(address.parse().expect("an address"));
            let Some(crate::geo::Target::Coordinates(point)) = (match located.place {
                crate::geo::Place::At(target) => Some(target),
                _ => None,
            }) else {
                panic!("{address} is not placed");
            };
            let km = crate::geo::distance_km(point, at(latitude, longitude));
            assert!(km < 600.0, "{address} is at {point}, {km:.0} km off");
            assert_eq!(located.source.to_string(), "embedded table");
        };
        // Universities and national networks, which do not move.
        near("130.149.7.201", 51.2, 10.4);
        near("18.9.22.69", 42.36, -71.09);
        near("128.32.206.1", 37.0, -120.0);
        near("133.11.0.1", 35.7, 139.7);
        near("2001:638::1", 51.2, 10.4);
        assert!(database().summary().places > 500, "{:?}", database().summary());
        assert_eq!(Settings::default().embedded, Embedded::Used);
    }
}
