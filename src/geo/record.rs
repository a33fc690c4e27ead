//! What a database record says of a place.
//!
//! *Owns*: [`Record`], the fields that the common layouts share. *Guarantees*: coordinates on the
//! globe or none. *Does not*: read search trees.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

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
    registered_country: Option<Country<'a>>,
    #[serde(borrow, default)]
    country_code: Option<Country<'a>>,
}

/// Where a record puts its addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Placed {
    /// At a point: the record's own, else that of its country.
    At(Coordinates),
    /// Nowhere: it says nothing, or only what the program has no point for.
    Nowhere,
    /// At coordinates that are off the globe, and in no country.
    OffGlobe,
}

impl Record<'_> {
    /// The record's place.
    pub(super) fn place(&self) -> Placed {
        let nested = self.location.as_ref().and_then(|l| Some((l.latitude?, l.longitude?)));
        let flat = || Some((self.latitude?, self.longitude?));
        let own = nested.or_else(flat).map(|(lat, lon)| Coordinates::new(lat.0, lon.0));
        if let Some(Ok(point)) = own {
            return Placed::At(point);
        }
        let countries = [&self.country, &self.country_code, &self.registered_country];
        let country = countries.into_iter().flatten().find_map(|c| countries::coordinates_of(c.0));
        match (country, own) {
            (Some(point), _) => Placed::At(point),
            (None, Some(_)) => Placed::OffGlobe,
            (None, None) => Placed::Nowhere,
        }
    }
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
