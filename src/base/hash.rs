//! The hash of a key: 64 bits, keyed with a secret of the process.
//!
//! The table is addressed by the *top* bits and uses the lowest eight as tags, SCAN's cursor is a prefix of the hash,
//! and whoever can choose keys must not be able to choose hashes. So the function must mix well into all 64 bits and
//! depend on a secret. It is of the folded-multiply family (wyhash, 2019; ahash and foldhash are its relatives): two
//! words at a time are mixed with the secret, multiplied to 128 bits, and the halves are folded together. A key of up
//! to 16 bytes costs two multiplications and no loop.
//!
//! The secret belongs to the process and not to the table, because a slot moves between shards while a client is half
//! way through a SCAN of it.

use std::sync::{Mutex, PoisonError};

/// The secret, one for the process. Two different seeds give unrelated hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSeed(pub [u64; 2]);

/// Odd constants with balanced bits (the fractional digits of the golden ratio and of the square root of 2), so that a
/// zero seed still hashes.
const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0x6a09_e667_f3bc_c909;

/// The seeds of [`HashSeed::shared`]. A process has one; its tests have some more.
static SHARED: Mutex<Vec<&'static HashSeed>> = Mutex::new(Vec::new());

impl HashSeed {
    /// The same seed where it stays as long as the process, at one place for all who ask: for what is small and many.
    pub fn shared(self) -> &'static HashSeed {
        let mut known = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seed) = known.iter().find(|seed| ***seed == self) {
            return seed;
        }
        let seed: &'static HashSeed = Box::leak(Box::new(self));
        known.push(seed);
        seed
    }

    /// The hash of `key`.
    #[inline]
    pub fn hash(self, key: &[u8]) -> u64 {
        // Mixed with constants, so that even a seed of small numbers multiplies by large ones.
        let (s0, s1) = (self.0[0] ^ K0, self.0[1] ^ K1);
        let mut state = s0;
        let mut rest = key;
        while rest.len() > 16 {
            state = fold(word(rest, 0) ^ state, word(rest, 8) ^ s1);
            // The two halves change places with every round, so that blocks cannot be exchanged.
            state = state.rotate_left(23);
            rest = &rest[16..];
        }
        let (a, b) = match rest.len() {
            8.. => (word(rest, 0), word(rest, rest.len() - 8)),
            4.. => (half_word(rest, 0), half_word(rest, rest.len() - 4)),
            1.. => {
                let (first, middle, last) = (rest[0], rest[rest.len() / 2], rest[rest.len() - 1]);
                (u64::from(first) << 8 | u64::from(middle), u64::from(last))
            }
            0 => (0, 0),
        };
        let mixed = fold(a ^ state, b ^ s1);
        fold(mixed ^ s0, (key.len() as u64) ^ s1)
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

#[inline]
fn half_word(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(
        bytes[at..at + 4].try_into().expect("four bytes were sliced"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_byte_length_and_seed_matters() {
        let seed = HashSeed([1, 2]);
        let mut seen = HashSet::new();
        for len in 0..70 {
            let zeros = vec![0u8; len];
            assert!(seen.insert(seed.hash(&zeros)), "length {len}");
            for at in 0..len {
                for bit in 0..8 {
                    let mut key = zeros.clone();
                    key[at] ^= 1 << bit;
                    assert!(seen.insert(seed.hash(&key)), "bit {bit} of byte {at} of {len}");
                }
            }
        }
        assert_ne!(HashSeed([1, 2]).hash(b"a"), HashSeed([2, 2]).hash(b"a"));
        assert_ne!(HashSeed([1, 2]).hash(b"a"), HashSeed([1, 3]).hash(b"a"));
    }

    #[test]
    fn a_shared_seed_is_kept_once() {
        let (one, other) = (HashSeed([3, 4]), HashSeed([4, 3]));
        assert_eq!((*one.shared(), *other.shared()), (one, other));
        assert!(std::ptr::eq(one.shared(), one.shared()));
    }

    #[test]
    fn one_flipped_bit_flips_half_of_the_hash() {
        // Counters are what keys look like; the top and the bottom byte are what the table uses.
        let seed = HashSeed([0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321]);
        let mut flips = [0u32; 64];
        let rounds = 4096u32;
        for n in 0..rounds {
            let key = format!("key:{n:012}");
            let mut other = key.clone().into_bytes();
            other[15] ^= 1;
            let difference = seed.hash(key.as_bytes()) ^ seed.hash(&other);
            for (bit, count) in flips.iter_mut().enumerate() {
                *count += (difference >> bit & 1) as u32;
            }
        }
        for (bit, count) in flips.iter().enumerate() {
            assert!(
                (rounds * 4 / 10..rounds * 6 / 10).contains(count),
                "bit {bit}: {count} of {rounds}"
            );
        }
    }
}
