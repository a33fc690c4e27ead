//! What a database record says of a place.
//!
//! *Owns*: [`Record`] and [`SystemRecord`], the fields that the common layouts share. *Guarantees*:
//! coordinates on the globe or none. *Does not*: read search trees.

use std::fmt;
use std::marker::PhantomData;

use maxminddb::{LookupResult, MaxMindDbError, PathElement};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::countries;
use crate::model::Coordinates;

/// A record in any of the layouts that place addresses. MaxMind City, Enterprise and Country (and
/// DB-IP's own files): `location.latitude`, `country.iso_code`, `registered_country.iso_code`.
/// The flat layout of ip-location-db: `latitude`, `longitude`, `country_code`. IPinfo's: `country`
/// as a text.
#[derive(serde::Deserialize, Default)]
pub(super) struct Record<'a> {
    #[serde(default)]
    location: Option<Location>,
    #[serde(default)]
    latitude: Option<Degrees>,
    #[serde(default)]
    longitude: Option<Degrees>,
    #[serde(borrow, default)]
    country: Option<Country<'a>>,
    #[serde(borrow, default)]
    country_code: Option<Country<'a>>,
    /// `registered_country`, which nearly every record has beside its `country`, and which is asked
    /// for only where that is missing: reading a database is mostly decoding.
    #[serde(skip)]
    registered: Option<Country<'a>>,
    #[serde(borrow, default)]
    subdivisions: First<Subdivision<'a>>,
    #[serde(borrow, default)]
    state1: Option<&'a str>,
}

/// Where a record puts its addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Placed<'a> {
    /// At a point: the record's own, else that of its country.
    At(Coordinates, Land<'a>),
    /// Nowhere: it says nothing, or only what the program has no point for.
    Nowhere,
    /// At coordinates that are off the globe, and in no country.
    OffGlobe,
}

/// The country and the first subdivision of a record; empty where it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Land<'a> {
    /// ISO 3166-1 alpha-2.
    pub(super) country: &'a str,
    /// The part of an ISO 3166-2 code behind the country's.
    pub(super) code: &'a str,
    /// The subdivision's English name.
    pub(super) name: &'a str,
}

impl<'a> Record<'a> {
    /// The record's place.
    pub(super) fn place(&self) -> Placed<'a> {
        let nested = self.location.as_ref().and_then(|l| Some((l.latitude?, l.longitude?)));
        let flat = || Some((self.latitude?, self.longitude?));
        let own = nested.or_else(flat).map(|(lat, lon)| Coordinates::new(lat.0, lon.0));
        if let Some(Ok(point)) = own {
            return Placed::At(point, self.land());
        }
        let country = self.countries().find_map(countries::coordinates_of);
        match (country, own) {
            (Some(point), _) => Placed::At(point, self.land()),
            (None, Some(_)) => Placed::OffGlobe,
            (None, None) => Placed::Nowhere,
        }
    }

    /// Decodes what is in the database's data.
    pub(super) fn decode(leaf: &LookupResult<'a, &'a [u8]>) -> Result<Self, MaxMindDbError> {
        let mut record: Self = leaf.decode()?.unwrap_or_default();
        if record.countries().next().is_none() {
            record.registered = leaf.decode_path(&[PathElement::Key("registered_country")])?;
        }
        Ok(record)
    }

    fn countries(&self) -> impl Iterator<Item = &'a str> {
        let countries = [&self.country, &self.country_code, &self.registered];
        countries.into_iter().flatten().map(|c| c.0).filter(|code| !code.is_empty())
    }

    fn land(&self) -> Land<'a> {
        let country = self.countries().next().unwrap_or_default();
        match &self.subdivisions.0 {
            Some(first) => {
                let name = first.names.as_ref().and_then(|names| names.en).unwrap_or_default();
                Land { country, code: first.iso_code.unwrap_or_default(), name }
            }
            None => Land { country, code: "", name: self.state1.unwrap_or_default() },
        }
    }
}

/// What a database of autonomous systems says of a network. MaxMind ASN and ISP, and DB-IP's:
/// `autonomous_system_number`; IPinfo's: `asn` as a text such as `AS64500`.
#[derive(serde::Deserialize, Default)]
pub(super) struct SystemRecord<'a> {
    #[serde(default)]
    autonomous_system_number: Option<u32>,
    #[serde(borrow, default)]
    asn: Option<&'a str>,
}

impl<'a> SystemRecord<'a> {
    /// Decodes what is in the database's data.
    pub(super) fn decode(leaf: &LookupResult<'a, &'a [u8]>) -> Result<Self, MaxMindDbError> {
        Ok(leaf.decode()?.unwrap_or_default())
    }

    /// The number of the autonomous system; 0, which no network has (RFC 7607), where none is told.
    pub(super) fn number(&self) -> u32 {
        let text = || self.asn?.trim_start_matches("AS").parse().ok();
        self.autonomous_system_number.or_else(text).unwrap_or(0)
    }
}

/// The first item of a list.
struct First<T>(Option<T>);

impl<T> Default for First<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = First<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<First<T>, S::Error> {
                let first = items.next_element()?;
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

#[derive(serde::Deserialize)]
struct Subdivision<'a> {
    #[serde(borrow, default)]
    iso_code: Option<&'a str>,
    #[serde(borrow, default)]
    names: Option<Names<'a>>,
}

#[derive(serde::Deserialize)]
struct Names<'a> {
    #[serde(borrow, default)]
    en: Option<&'a str>,
}

#[derive(serde::Deserialize)]
struct Location {
    #[serde(default)]
    latitude: Option<Degrees>,
    #[serde(default)]
    longitude: Option<Degrees>,
}

/// A number of any type: MaxMind writes coordinates as doubles, flat databases as floats.
#[derive(Clone, Copy)]
struct Degrees(f64);

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Degrees;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("degrees")
            }

            fn visit_f64<E: de::Error>(self, degrees: f64) -> Result<Degrees, E> {
                Ok(Degrees(degrees))
            }

            fn visit_f32<E: de::Error>(self, degrees: f32) -> Result<Degrees, E> {
                Ok(Degrees(degrees.into()))
            }

            fn visit_i32<E: de::Error>(self, degrees: i32) -> Result<Degrees, E> {
                Ok(Degrees(degrees.into()))
            }

            fn visit_u32<E: de::Error>(self, degrees: u32) -> Result<Degrees, E> {
                Ok(Degrees(degrees.into()))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// A country's code, plain or as the `iso_code` of a map; empty where the map has none.
struct Country<'a>(&'a str);

impl<'de: 'a, 'a> Deserialize<'de> for Country<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Code;
        impl<'de> Visitor<'de> for Code {
            type Value = Country<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a country code or a map with one")
            }

            fn visit_borrowed_str<E: de::Error>(self, code: &'de str) -> Result<Country<'de>, E> {
                Ok(Country(code))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Country<'de>, M::Error> {
                let mut code = "";
                while let Some(key) = map.next_key::<&str>()? {
                    if key == "iso_code" {
                        code = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Country(code))
            }
        }
        deserializer.deserialize_any(Code)
    }
}
