//! Chance, behind one seam: whoever needs a random number is handed a [`Random`], and a test or the simulator hands in a
//! seeded one, so that a failure is a number that can be run again.
//!
//! Not for secrets: the generator (wyrand, in `fastrand`) is fast and fair, and guessable. Run ids and replication ids need only be
//! different from one another, and [`Random::from_entropy`] starts from what the operating system gives each process.

use std::ops::RangeBounds;

/// A generator of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    generator: fastrand::Rng,
}

/// How many seeds a test takes, of so many: a sanitizer makes every one some twenty times as long.
#[cfg(test)]
pub fn fewer_if_checked(seeds: u64) -> u64 {
    match std::env::var_os("ASAN_OPTIONS") {
        Some(_) => seeds.div_ceil(6),
        None => seeds,
    }
}

impl Random {
    /// A generator that gives the same numbers for the same seed.
    pub fn with_seed(seed: u64) -> Random {
        Random {
            generator: fastrand::Rng::with_seed(seed),
        }
    }

    /// A generator that differs from process to process and from call to call.
    pub fn from_entropy() -> Random {
        Random {
            generator: fastrand::Rng::new(),
        }
    }

    /// A new generator, seeded by this one: a stream of its own for a part of the process.
    pub fn fork(&mut self) -> Random {
        Random {
            generator: self.generator.fork(),
        }
    }

    /// Any 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.generator.u64(..)
    }

    /// An integer of the range, each equally likely. Panics on an empty range.
    pub fn u64_in(&mut self, range: impl RangeBounds<u64>) -> u64 {
        self.generator.u64(range)
    }

    /// An integer of the range, each equally likely. Panics on an empty range.
    pub fn usize_in(&mut self, range: impl RangeBounds<usize>) -> usize {
        self.generator.usize(range)
    }

    /// An index below `count`, each equally likely. Panics if `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        self.generator.usize(..count)
    }

    /// A double in `[0, 1)`.
    pub fn f64(&mut self) -> f64 {
        self.generator.f64()
    }

    /// True `numerator` times out of `denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.generator.u64(..denominator) < numerator
    }

    /// Puts the elements in a random order, each order equally likely.
    pub fn shuffle<T>(&mut self, elements: &mut [T]) {
        self.generator.shuffle(elements);
    }

    /// Fills `bytes` at random.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.generator.fill(bytes);
    }

    /// `count` lower-case hexadecimal digits: a run id or a replication id has 40.
    pub fn random_hex(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b"0123456789abcdef"[self.generator.usize(..16)]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let (mut first, mut second) = (Random::with_seed(42), Random::with_seed(42));
        assert_eq!(first.random_hex(40), second.random_hex(40));
        assert_eq!(first.fork().next_u64(), second.fork().next_u64());
        assert_ne!(Random::with_seed(1).next_u64(), Random::with_seed(2).next_u64());
    }

    #[test]
    fn hex_has_the_length_and_the_alphabet() {
        let id = Random::from_entropy().random_hex(40);
        assert_eq!(id.len(), 40);
        assert!(
            id.bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        );
    }

    #[test]
    fn chance_is_about_fair() {
        let mut random = Random::with_seed(3);
        let hits = (0..10_000).filter(|_| random.chance(1, 4)).count();
        assert!((2200..2800).contains(&hits), "{hits}");
        assert!(!random.chance(0, 5));
        assert!(random.chance(5, 5));
    }
}
