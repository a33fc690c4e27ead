//! A point for each country.
//!
//! *Owns*: `countries.csv`. *Guarantees*: every country of ISO 3166-1 has a point. *Does not*:
//! tell where in a country a client is; about one address in eight is nearer to another of four
//! regions than its country's point is (GEO notes §2).

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::model::Coordinates;

static TABLE: LazyLock<HashMap<&'static str, Coordinates>> = LazyLock::new(|| {
    let lines = include_str!("countries.csv").lines().filter(|line| !line.starts_with('#'));
    // The file is part of the program and a test below reads it, so every line is a country.
    lines.map(|line| row(line).expect("a line of countries.csv")).collect()
});

fn row(line: &'static str) -> Option<(&'static str, Coordinates)> {
    let (code, point) = line.split_once(',')?;
    let (latitude, longitude) = point.split_once(',')?;
    Some((code, Coordinates::new(latitude.parse().ok()?, longitude.parse().ok()?).ok()?))
}

/// The point of the country with this code (ISO 3166-1 alpha-2, in any case).
pub(super) fn coordinates_of(code: &str) -> Option<Coordinates> {
    TABLE.get(&*code.to_ascii_uppercase()).copied()
}

#[cfg(test)]
mod tests {
    use super::{TABLE, coordinates_of};

    #[test]
    fn every_country_has_a_point() {
        assert_eq!(TABLE.len(), 250, "249 countries of ISO 3166-1 and Kosovo");
        assert!(TABLE.keys().all(|c| c.len() == 2 && c.bytes().all(|b| b.is_ascii_uppercase())));
        let finland = coordinates_of("fi").expect("Finland");
        assert!((59.0..71.0).contains(&finland.latitude()));
        assert!((20.0..32.0).contains(&finland.longitude()));
        assert_eq!(coordinates_of("ZZ"), None);
    }
}
