//! Positions on the earth as scores of a sorted set: the 52-bit geohash, distances, and which ranges of scores a search
//! has to look through.
//!
//! A position is two numbers of 26 bits, how far it lies between the western and the eastern, the southern and the
//! northern bound, interleaved into one: latitude in the even bits, longitude in the odd ones. Cutting off pairs of bits
//! from below gives the number of a larger cell, so all positions of a cell are neighbours in the order of scores, and a
//! search looks through one cell and the eight around it, chosen large enough to cover what is searched. 52 bits are what
//! a score, a double, holds exactly.
//!
//! ```text
//!   north_west  north  north_east        a cell of `step` bits for each coordinate, and what lies
//!         west  center  east             around it; cells that cannot hold anything that is searched
//!   south_west  south  south_east        are left out
//! ```
//!
//! Everything here gives Redis's numbers to the last digit: the bounds of the Mercator projection (so there is nothing
//! beyond 85.05 degrees), its earth radius, the haversine formula in its order of operations, its choice of cells. The
//! order of the cells is visible to clients, in the order of unsorted replies and in what `COUNT n ANY` finds.
//!
//! Units: degrees, metres. Specified at <https://redis.io/docs/latest/commands/geoadd/> and, for the text form, at
//! <https://en.wikipedia.org/wiki/Geohash>.

/// Radius of the earth as the haversine formula here takes it.
pub const EARTH_RADIUS_M: f64 = 6_372_797.560_856;

/// Longitudes end here, in both directions.
pub const LONGITUDE_MAX: f64 = 180.0;

/// Latitudes end here, in both directions: where the Mercator projection is cut so that the map is a square
/// (EPSG:900913).
pub const LATITUDE_MAX: f64 = 85.051_128_78;

/// Half the equator in the Mercator projection: the side of the largest cells.
const MERCATOR_MAX_M: f64 = 20_037_726.37;

/// Bits of each coordinate in a score.
const STEP_MAX: u32 = 26;

/// Even bits: latitude.
const LATITUDE_BITS: u64 = 0x5555_5555_5555_5555;
/// Odd bits: longitude.
const LONGITUDE_BITS: u64 = 0xaaaa_aaaa_aaaa_aaaa;

/// Base 32 of geohash texts: digits and letters without a, i, l, o.
const GEOHASH_ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// Letters of a geohash text.
pub const GEOHASH_TEXT_BYTES: usize = 11;

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// East is positive.
    pub longitude: f64,
    /// North is positive.
    pub latitude: f64,
}

impl Position {
    /// A position, if it is one that can be kept (a NaN is none).
    pub fn new(longitude: f64, latitude: f64) -> Option<Position> {
        let is_kept =
            (-LONGITUDE_MAX..=LONGITUDE_MAX).contains(&longitude) && (-LATITUDE_MAX..=LATITUDE_MAX).contains(&latitude);
        is_kept.then_some(Position { longitude, latitude })
    }

    /// The score that stands for it.
    pub fn to_score(self) -> f64 {
        Cell::around(self, STEP_MAX, LATITUDE_MAX).bits as f64
    }

    /// The middle of the smallest cell of that score. Any score is taken, as Redis does: one that was not made by
    /// [`Position::to_score`] gives some position within the bounds.
    pub fn from_score(score: f64) -> Position {
        let cell = Cell {
            bits: score_bits(score),
            step: STEP_MAX,
        };
        let [west, south, east, north] = cell.bounds();
        let middle = |low: f64, high: f64, max: f64| ((low + high) / 2.0).clamp(-max, max);
        Position {
            longitude: middle(west, east, LONGITUDE_MAX),
            latitude: middle(south, north, LATITUDE_MAX),
        }
    }

    /// How far another one is, on a sphere.
    pub fn distance_m(self, other: Position) -> f64 {
        let (own_latitude, other_latitude) = (radians(self.latitude), radians(other.latitude));
        let u = ((other_latitude - own_latitude) / 2.0).sin();
        let v = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        let a = u * u + own_latitude.cos() * other_latitude.cos() * v * v;
        2.0 * EARTH_RADIUS_M * a.sqrt().asin()
    }

    /// The geohash as other systems write it: eleven letters, latitudes from -90 to 90. A score has too few bits for the
    /// last letter, which is always `0`.
    pub fn geohash(self) -> [u8; GEOHASH_TEXT_BYTES] {
        let bits = Cell::around(self, STEP_MAX, 90.0).bits;
        let mut text = [b'0'; GEOHASH_TEXT_BYTES];
        for (index, letter) in text.iter_mut().take(GEOHASH_TEXT_BYTES - 1).enumerate() {
            let shift = 2 * STEP_MAX as usize - (index + 1) * 5;
            *letter = GEOHASH_ALPHABET[(bits >> shift) as usize & 31];
        }
        text
    }
}

/// A score as bits, as a conversion in C on this kind of processor gives them for scores that are no geohash either.
fn score_bits(score: f64) -> u64 {
    const HALF: f64 = (1u64 << 63) as f64;
    if score < HALF {
        score as i64 as u64
    } else if score < 2.0 * HALF {
        score as u64
    } else {
        0
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * (std::f64::consts::PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

/// Spreads the bits of a number to the even places.
fn spread(number: u32) -> u64 {
    let mut bits = number as u64;
    bits = (bits | bits << 16) & 0x0000_ffff_0000_ffff;
    bits = (bits | bits << 8) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits << 2) & 0x3333_3333_3333_3333;
    (bits | bits << 1) & LATITUDE_BITS
}

/// Collects the even bits of a number.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & LATITUDE_BITS;
    bits = (bits | bits >> 1) & 0x3333_3333_3333_3333;
    bits = (bits | bits >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits >> 4) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff;
    (bits | bits >> 16) as u32
}

/// A cell of the map: the first `step` bits of each coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    bits: u64,
    step: u32,
}

impl Cell {
    /// The cell that a position lies in, on a map that ends at `latitude_max`.
    fn around(position: Position, step: u32, latitude_max: f64) -> Cell {
        let offset = |coordinate: f64, max: f64| ((coordinate + max) / (max + max) * (1u64 << step) as f64) as u32;
        let (latitude, longitude) = (
            offset(position.latitude, latitude_max),
            offset(position.longitude, LONGITUDE_MAX),
        );
        Cell {
            bits: spread(latitude) | spread(longitude) << 1,
            step,
        }
    }

    /// Its west, south, east and north end.
    fn bounds(self) -> [f64; 4] {
        let end = |offset: u64, max: f64| -max + offset as f64 / (1u64 << self.step) as f64 * (max + max);
        let (latitude, longitude) = (gather(self.bits) as u64, gather(self.bits >> 1) as u64);
        [
            end(longitude, LONGITUDE_MAX),
            end(latitude, LATITUDE_MAX),
            end(longitude + 1, LONGITUDE_MAX),
            end(latitude + 1, LATITUDE_MAX),
        ]
    }

    /// The cell so many cells to the east and to the north; beyond an edge it comes in at the opposite one.
    fn moved(self, east: i32, north: i32) -> Cell {
        let unused = 64 - 2 * self.step;
        let step_along = |own: u64, other: u64, by: i32| {
            // With all bits in between set, a carry runs through them.
            let gaps = other >> unused;
            let own = own & self.bits;
            match by {
                0 => own,
                1.. => own.wrapping_add(gaps + 1),
                _ => (own | gaps).wrapping_sub(gaps + 1),
            }
        };
        let longitude = step_along(LONGITUDE_BITS, LATITUDE_BITS, east);
        let latitude = step_along(LATITUDE_BITS, LONGITUDE_BITS, north);
        let longitude = if east == 0 {
            longitude
        } else {
            longitude & LONGITUDE_BITS >> unused
        };
        let latitude = if north == 0 {
            latitude
        } else {
            latitude & LATITUDE_BITS >> unused
        };
        Cell {
            bits: longitude | latitude,
            step: self.step,
        }
    }

    /// The scores of its positions.
    fn scores(self) -> ScoreRange {
        let unused = 2 * (STEP_MAX - self.step);
        ScoreRange {
            min: (self.bits << unused) as f64,
            end: ((self.bits + 1) << unused) as f64,
        }
    }
}

/// Scores from `min` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    pub min: f64,
    pub end: f64,
}

/// What is searched around a position, in a unit of the client's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Everything up to that far away.
    Circle { radius: f64 },
    /// As far as half of these to each side.
    Box { width: f64, height: f64 },
}

/// A search.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// The middle.
    pub center: Position,
    pub shape: Shape,
    /// Metres of one unit.
    pub unit_m: f64,
}

impl Area {
    /// The distance of a position in metres, if it lies in the area.
    pub fn distance_m(&self, position: Position) -> Option<f64> {
        match self.shape {
            Shape::Circle { radius } => {
                let distance = self.center.distance_m(position);
                (distance <= radius * self.unit_m).then_some(distance)
            }
            Shape::Box { width, height } => {
                let beside = Position {
                    longitude: self.center.longitude,
                    latitude: position.latitude,
                };
                let above = Position {
                    longitude: position.longitude,
                    latitude: self.center.latitude,
                };
                let is_outside = position.distance_m(beside) > width * self.unit_m / 2.0
                    || position.distance_m(above) > height * self.unit_m / 2.0;
                (!is_outside).then(|| self.center.distance_m(position))
            }
        }
    }

    /// The ranges of scores that positions in the area can have, in the order in which Redis looks through them.
    pub fn score_ranges(&self) -> impl Iterator<Item = ScoreRange> + use<> {
        let [min_longitude, min_latitude, max_longitude, max_latitude] = self.bounding_box();
        let mut step = self.estimated_step();
        let around = |step| Cell::around(self.center, step, LATITUDE_MAX);
        let mut center = around(step);
        // Near the edge of its cell, what is searched may reach beyond the neighbours.
        let is_too_fine = center.moved(0, 1).bounds()[3] < max_latitude
            || center.moved(0, -1).bounds()[1] > min_latitude
            || center.moved(1, 0).bounds()[2] < max_longitude
            || center.moved(-1, 0).bounds()[0] > min_longitude;
        if step > 1 && is_too_fine {
            step -= 1;
            center = around(step);
        }
        let [west, south, east, north] = center.bounds();
        // With the largest cells everything is a neighbour.
        let is_useless = move |to_east: i32, to_north: i32| {
            step >= 2
                && (to_north < 0 && south < min_latitude
                    || to_north > 0 && north > max_latitude
                    || to_east < 0 && west < min_longitude
                    || to_east > 0 && east > max_longitude)
        };
        const ORDER: [(i32, i32); 9] = [
            (0, 0),
            (0, 1),
            (0, -1),
            (1, 0),
            (-1, 0),
            (1, 1),
            (-1, 1),
            (1, -1),
            (-1, -1),
        ];
        // Very large cells can be neighbours of a cell in more than one direction. Redis leaves out one that is the same
        // as the one before it, but does not compare with the first.
        let mut last = None;
        ORDER
            .into_iter()
            .enumerate()
            .filter_map(move |(index, (to_east, to_north))| {
                let cell = center.moved(to_east, to_north);
                if is_useless(to_east, to_north) || last == Some(cell) {
                    return None;
                }
                last = (index > 0).then_some(cell);
                Some(cell.scores())
            })
    }

    /// Half the width and half the height, in metres.
    fn half_sides_m(&self) -> (f64, f64) {
        match self.shape {
            Shape::Circle { radius } => (self.unit_m * radius, self.unit_m * radius),
            Shape::Box { width, height } => (self.unit_m * (width / 2.0), self.unit_m * (height / 2.0)),
        }
    }

    /// West, south, east and north end of what is searched. The sides are those at the edge nearer to the pole, where a
    /// metre is the most degrees.
    fn bounding_box(&self) -> [f64; 4] {
        let Position { longitude, latitude } = self.center;
        let (width_m, height_m) = self.half_sides_m();
        let up = degrees(height_m / EARTH_RADIUS_M);
        let nearer_the_pole = if latitude < 0.0 { latitude - up } else { latitude + up };
        let aside = degrees(width_m / EARTH_RADIUS_M / radians(nearer_the_pole).cos());
        [longitude - aside, latitude - up, longitude + aside, latitude + up]
    }

    /// The step whose cells and their neighbours cover the area, mostly.
    fn estimated_step(&self) -> u32 {
        let mut radius_m = self.unit_m
            * match self.shape {
                Shape::Circle { radius } => radius,
                Shape::Box { width, height } => (width / 2.0 * (width / 2.0) + height / 2.0 * (height / 2.0)).sqrt(),
            };
        if radius_m == 0.0 {
            return STEP_MAX;
        }
        let mut step = 1;
        while radius_m < MERCATOR_MAX_M {
            radius_m *= 2.0;
            step += 1;
        }
        step -= 2;
        // Cells become narrower towards the poles.
        let latitude = self.center.latitude.abs();
        if latitude > 66.0 {
            step -= 1;
        }
        if latitude > 80.0 {
            step -= 1;
        }
        step.clamp(1, STEP_MAX as i32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PALERMO: Position = Position {
        longitude: 13.361389,
        latitude: 38.115556,
    };
    const CATANIA: Position = Position {
        longitude: 15.087269,
        latitude: 37.502669,
    };

    #[test]
    fn the_examples_of_the_documentation() {
        assert_eq!(PALERMO.to_score(), 3_479_099_956_230_698.0);
        assert_eq!(CATANIA.to_score(), 3_479_447_370_796_909.0);
        assert_eq!(&PALERMO.geohash(), b"sqc8b49rny0");
        assert_eq!(&Position::from_score(CATANIA.to_score()).geohash(), b"sqdtr74hyu0");
        let (a, b) = (
            Position::from_score(PALERMO.to_score()),
            Position::from_score(CATANIA.to_score()),
        );
        assert_eq!(format!("{:.4}", a.distance_m(b)), "166274.1516");
        assert_eq!(Position::new(180.1, 0.0), None);
        assert_eq!(Position::new(0.0, 86.0), None);
        assert_eq!(Position::new(f64::NAN, 0.0), None);
    }

    #[test]
    fn any_score_gives_a_position() {
        for score in [
            0.0,
            -1.0,
            -1e300,
            1e300,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.5,
            9.3e18,
            1.8e19,
            1.9e19,
        ] {
            let position = Position::from_score(score);
            assert!(
                Position::new(position.longitude, position.latitude).is_some(),
                "{score}"
            );
        }
    }

    fn positions() -> impl Strategy<Value = Position> {
        (-LONGITUDE_MAX..=LONGITUDE_MAX, -LATITUDE_MAX..=LATITUDE_MAX)
            .prop_map(|(longitude, latitude)| Position { longitude, latitude })
    }

    fn near_the_equator() -> impl Strategy<Value = Position> {
        (-170.0..170.0, -60.0..60.0).prop_map(|(longitude, latitude)| Position { longitude, latitude })
    }

    proptest! {
        #[test]
        fn a_score_keeps_the_place_to_a_metre(position in positions()) {
            let back = Position::from_score(position.to_score());
            prop_assert!((position.longitude - back.longitude).abs() < 3e-6);
            prop_assert!((position.latitude - back.latitude).abs() < 3e-6);
        }

        #[test]
        fn neighbours_and_back(position in positions(), step in 2u32..=26, to_east in -1..=1, to_north in -1..=1) {
            let cell = Cell::around(position, step, LATITUDE_MAX);
            prop_assume!(cell.bits >> (2 * step) == 0);
            let there = cell.moved(to_east, to_north);
            prop_assert_eq!(there.moved(-to_east, -to_north), cell);
            prop_assert_eq!(there == cell, to_east == 0 && to_north == 0);
        }

        #[test]
        fn a_search_looks_where_everything_is(
            center in near_the_equator(), at in near_the_equator(), radius in 0.1f64..200.0, height in 0.1f64..200.0, is_box: bool,
        ) {
            let shape = if is_box { Shape::Box { width: radius, height } } else { Shape::Circle { radius } };
            let area = Area { center, shape, unit_m: 1000.0 };
            // Most of the world is far away: come nearer.
            let at = Position {
                longitude: center.longitude + (at.longitude - center.longitude) / 100.0,
                latitude: center.latitude + (at.latitude - center.latitude) / 100.0,
            };
            let score = at.to_score();
            if area.distance_m(Position::from_score(score)).is_some() {
                prop_assert!(area.score_ranges().any(|range| range.min <= score && score < range.end));
            }
        }

        #[test]
        fn ranges_of_any_search_are_sound(center in positions(), exponent in -3i32..12) {
            let area = Area { center, shape: Shape::Circle { radius: 10f64.powi(exponent) }, unit_m: 1.0 };
            for range in area.score_ranges() {
                prop_assert!(range.min < range.end && range.end <= (1u64 << 54) as f64);
            }
        }
    }
}
