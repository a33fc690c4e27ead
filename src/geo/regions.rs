//! Where the regions of cloud providers are.
//!
//! *Owns*: `regions.csv`, and how each provider names the availability zones of a region.
//! *Guarantees*: one answer for a name, the same always; [`ambiguities_of`] tells where providers
//! use one name for places far apart. *Does not*: know any cluster's region.

use std::fmt;
use std::sync::LazyLock;

use super::sphere::distance_km;
use crate::model::Coordinates;

/// A region of a cloud provider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CloudRegion {
    /// The provider, lower case.
    pub provider: &'static str,
    /// The region's name, lower case.
    pub name: &'static str,
    /// Where it is.
    pub coordinates: Coordinates,
    /// The city, or what is publicly known of it, and the country.
    pub city: &'static str,
}

impl fmt::Display for CloudRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({})", self.name, self.provider, self.city)
    }
}

/// The regions in the order of the file, which is the order in which providers win.
static TABLE: LazyLock<Vec<CloudRegion>> = LazyLock::new(|| {
    let lines = include_str!("regions.csv").lines().filter(|line| !line.starts_with('#'));
    // The file is part of the program and a test below reads it, so every line is a region.
    lines.map(|line| row(line).expect("a line of regions.csv")).collect()
});

fn row(line: &'static str) -> Option<CloudRegion> {
    let mut fields = line.splitn(5, ',');
    let (provider, name) = (fields.next()?, fields.next()?);
    let (latitude, longitude) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let coordinates = Coordinates::new(latitude, longitude).ok()?;
    Some(CloudRegion { provider, name, coordinates, city: fields.next()? })
}

/// Where the region of this name is, in any case; a name that is no region's is tried as that of
/// an availability zone. Where providers share a name, the first of the table wins.
#[must_use]
pub fn coordinates_of(name: &str) -> Option<Coordinates> {
    candidates(name).first().map(|region| region.coordinates)
}

/// The region taken for `name` and those that other providers have under the same name further
/// than [`SAME_PLACE_KM`] away; `None` where the name says enough.
#[must_use]
pub fn ambiguities_of(name: &str) -> Option<(CloudRegion, Vec<CloudRegion>)> {
    let candidates = candidates(name);
    let (&taken, others) = candidates.split_first()?;
    let far =
        |other: &&&CloudRegion| distance_km(taken.coordinates, other.coordinates) > SAME_PLACE_KM;
    let others: Vec<CloudRegion> = others.iter().filter(far).map(|other| **other).collect();
    (!others.is_empty()).then_some((*taken, others))
}

/// Regions nearer to one another than this, kilometres, are in one place for our purpose: less
/// than lies between the closest two places of one provider (Abu Dhabi and Dubai, 130).
pub const SAME_PLACE_KM: f64 = 100.0;

fn candidates(name: &str) -> Vec<&'static CloudRegion> {
    let name = name.to_ascii_lowercase();
    let exact: Vec<_> = TABLE.iter().filter(|region| region.name == name).collect();
    if !exact.is_empty() {
        return exact;
    }
    let of_zone = |region: &&CloudRegion| {
        name.strip_prefix(region.name).is_some_and(|suffix| is_zone(region, suffix))
    };
    TABLE.iter().filter(of_zone).collect()
}

/// Whether `suffix` behind the name of `region` makes the name of one of its zones.
fn is_zone(region: &CloudRegion, suffix: &str) -> bool {
    let bytes = suffix.as_bytes();
    match region.provider {
        "gcp" => matches!(bytes, [b'-', b'a'..=b'z']),
        "aws" => matches!(bytes, [b'a'..=b'z']),
        "azure" | "ibm" | "scaleway" => matches!(bytes, [b'-', b'1'..=b'9']),
        // cn-hangzhou-b, but us-east-1a.
        "alibaba" => matches!(bytes, [b'-', b'a'..=b'z'] | [b'a'..=b'z']),
        "hetzner" => suffix
            .strip_prefix("-dc")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())),
        // Domains of OCI are named after tenancies; the others have no zones.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{TABLE, ambiguities_of, coordinates_of};

    #[test]
    fn every_region_stands_once_and_on_the_globe() {
        let names: BTreeSet<_> = TABLE.iter().map(|r| (r.provider, r.name)).collect();
        assert_eq!(names.len(), TABLE.len());
        assert!(TABLE.iter().all(|r| r.name == r.name.to_ascii_lowercase() && !r.city.is_empty()));
    }

    #[test]
    fn zones_stand_where_their_region_does() {
        for (zone, region) in [
            ("us-central1-a", "us-central1"),
            ("eu-west-1c", "eu-west-1"),
            ("westeurope-2", "westeurope"),
            ("fsn1-dc14", "fsn1"),
            ("cn-hangzhou-b", "cn-hangzhou"),
            ("fr-par-2", "fr-par"),
            ("US-CENTRAL1-A", "us-central1"),
        ] {
            assert!(coordinates_of(region).is_some(), "{region}");
            assert_eq!(coordinates_of(zone), coordinates_of(region), "{zone}");
        }
        for unknown in ["", "us", "us-central1-", "us-central1-aa", "westeurope-a", "fsn1-dc", "x"]
        {
            assert_eq!(coordinates_of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_name_of_two_providers_is_told_where_it_matters() {
        let (taken, others) = ambiguities_of("me-central-1").expect("aws and alibaba");
        assert_eq!((taken.provider, others[0].provider), ("aws", "alibaba"));
        assert_eq!(coordinates_of("me-central-1"), Some(taken.coordinates));
        assert_eq!(ambiguities_of("us-east-1"), None, "both in Virginia");
        assert_eq!(ambiguities_of("us-central1"), None);
    }
}
