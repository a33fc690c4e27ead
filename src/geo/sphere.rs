//! Distances on the globe.
//!
//! *Owns*: [`Direction`], a point as a unit vector, and [`distance_km`]. *Guarantees*: the same
//! bits on every machine, so that replicas order clusters alike: sine and cosine come from `libm`,
//! not from the platform. *Does not*: know the flattening of the Earth, 0.3 % of a distance.

use crate::model::Coordinates;

/// Mean radius of the Earth, kilometres (IUGG).
const EARTH_RADIUS_KM: f64 = 6371.0088;

/// A point as the unit vector from the centre of the globe, or a sum of such.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Direction([f64; 3]);

impl Direction {
    /// The sum of no directions.
    pub(super) const NONE: Self = Self([0.0; 3]);

    /// Adds another direction, of this weight.
    pub(super) fn add(&mut self, other: Self, weight: f64) {
        for (sum, part) in self.0.iter_mut().zip(other.0) {
            *sum += part * weight;
        }
    }

    /// The point that a sum of directions leads to; `None` where they cancel out.
    pub(super) fn point(self) -> Option<Coordinates> {
        let [x, y, z] = self.0;
        let flat = (x * x + y * y).sqrt();
        if flat == 0.0 && z == 0.0 {
            return None;
        }
        let (latitude, longitude) = (libm::atan2(z, flat), libm::atan2(y, x));
        Coordinates::new(latitude.to_degrees(), longitude.to_degrees()).ok()
    }

    /// The direction of a point.
    pub(super) fn of(point: Coordinates) -> Self {
        let latitude = point.latitude().to_radians();
        let longitude = point.longitude().to_radians();
        let (sin, cos) = (libm::sin(latitude), libm::cos(latitude));
        Self([cos * libm::cos(longitude), cos * libm::sin(longitude), sin])
    }

    /// A number that grows with the distance between two points. Great circles, chords and this
    /// order points alike, and this needs no trigonometry.
    pub(super) fn remoteness(self, other: Self) -> Remoteness {
        let dot = self.0[0] * other.0[0] + self.0[1] * other.0[1] + self.0[2] * other.0[2];
        // The dot product falls from 1 to -1 with the distance. The bits of floating-point numbers
        // above zero ascend with them; two is enough to stay above zero whatever the rounding.
        Remoteness((2.0 - dot).to_bits())
    }
}

/// How far two points are from one another, fit only for comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Remoteness(u64);

/// The great-circle distance between two points, kilometres.
#[must_use]
pub fn distance_km(a: Coordinates, b: Coordinates) -> f64 {
    let half_sine = |a: f64, b: f64| libm::sin((b - a).to_radians() / 2.0);
    let across = half_sine(a.longitude(), b.longitude());
    let along = half_sine(a.latitude(), b.latitude());
    let cosines = libm::cos(a.latitude().to_radians()) * libm::cos(b.latitude().to_radians());
    let haversine = along * along + cosines * across * across;
    2.0 * EARTH_RADIUS_KM * libm::asin(haversine.sqrt().min(1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Direction, distance_km};
    use crate::model::Coordinates;

    fn point() -> impl Strategy<Value = Coordinates> {
        (-90.0..=90.0, -180.0..=180.0)
            .prop_map(|(lat, lon)| Coordinates::new(lat, lon).expect("on the globe"))
    }

    #[test]
    fn known_distances() {
        let at = |lat, lon| Coordinates::new(lat, lon).expect("on the globe");
        let (london, sydney) = (at(51.5, -0.12), at(-33.87, 151.21));
        assert!((distance_km(london, sydney) - 16_990.0).abs() < 20.0);
        assert_eq!(distance_km(london, london), 0.0);
        // Across the antimeridian, and between the poles.
        assert!((distance_km(at(0.0, 179.5), at(0.0, -179.5)) - 111.2).abs() < 0.1);
        assert!((distance_km(at(90.0, 0.0), at(-90.0, 77.0)) - 20_015.1).abs() < 0.1);
    }

    proptest! {
        #[test]
        fn remoteness_orders_as_distance_does(a in point(), b in point(), c in point()) {
            let (near, far) = (distance_km(a, b), distance_km(a, c));
            // A metre is far above the rounding of either.
            prop_assume!((near - far).abs() > 0.001);
            let of = Direction::of;
            let (b, c) = (of(a).remoteness(of(b)), of(a).remoteness(of(c)));
            prop_assert_eq!(near < far, b < c);
        }
    }
}
