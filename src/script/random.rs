//! The random numbers of scripts: those of C's `lrand48`, so that a script that seeds them gets the numbers that it gets from Redis.
//!
//! A linear congruence over 48 bits (`x = 0x5DEECE66D x + 0xB`), of which the upper 31 are given out; POSIX specifies it under `drand48`. The state belongs
//! to the interpreter, but each run begins with what its host says, so that all attempts of one run see the same numbers.

/// The generator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random48 {
    state: u64,
}

/// The greatest number that it gives.
pub(super) const NUMBER_MAX: i64 = 0x7fff_ffff;

impl Random48 {
    /// As it is before anybody has seeded it.
    pub(super) fn new() -> Random48 {
        Random48 {
            state: 0x1234_ABCD_330E,
        }
    }

    /// Starts from any number.
    pub(super) fn start(&mut self, seed: u64) {
        self.state = seed & MASK;
    }

    /// Starts as `srand48` does.
    pub(super) fn seed(&mut self, seed: i32) {
        self.state = u64::from(seed as u32) << 16 | 0x330E;
    }

    /// A number from 0 to [`NUMBER_MAX`].
    pub(super) fn next(&mut self) -> i64 {
        self.state = self.state.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & MASK;
        (self.state >> 17) as i64
    }
}

const MASK: u64 = (1 << 48) - 1;
