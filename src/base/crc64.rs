//! The checksum of Redis's files: CRC-64 with the polynomial of Jones, 0xad93d23594c935a9, reflected, initial value 0, no final
//! inversion ("123456789" gives 0xe9c6d914c4b8d9ca). It ends RDB files and DUMP payloads.
//!
//! A snapshot passes every byte through it when it is written, and once more when it is loaded: it is the library that folds with the
//! processor's carry-less multiplication, some ten times as fast as tables.

use crc_fast::CrcAlgorithm::Crc64Redis;
use crc_fast::{Digest, checksum_combine};

/// The checksum of `bytes` behind what `crc` is the checksum of; begin with 0.
pub fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new_with_init_state(Crc64Redis, crc);
    digest.update(bytes);
    digest.finalize()
}

/// The checksum of what `first` is the checksum of, with as many bytes behind it as `second_len` says, whose checksum is `second`.
pub fn combine(first: u64, second: u64, second_len: u64) -> u64 {
    checksum_combine(Crc64Redis, first, second, second_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jones's polynomial with its bits in reverse order, as the reflected form needs it.
    const POLYNOMIAL_REFLECTED: u64 = 0xad93_d235_94c9_35a9_u64.reverse_bits();

    /// Bit by bit, from the definition.
    fn by_definition(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ u64::from(byte), |crc: u64, _| {
                (crc >> 1) ^ if crc & 1 != 0 { POLYNOMIAL_REFLECTED } else { 0 }
            })
        })
    }

    #[test]
    fn check_value() {
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(0, b""), 0);
    }

    #[test]
    fn equals_the_definition_however_it_is_cut() {
        let mut generator = fastrand::Rng::with_seed(5);
        let bytes: Vec<u8> = (0..300).map(|_| generator.u8(..)).collect();
        for length in 0..bytes.len() {
            let (first, second) = bytes[..length].split_at(generator.usize(..=length));
            let whole = by_definition(&bytes[..length]);
            assert_eq!(crc64(crc64(0, first), second), whole);
            assert_eq!(combine(crc64(0, first), crc64(0, second), second.len() as u64), whole);
        }
    }
}
