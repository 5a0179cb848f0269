//! The checksum of Redis's files: CRC-64 with the polynomial of Jones, 0xad93d23594c935a9, reflected, initial value 0, no final
//! inversion ("123456789" gives 0xe9c6d914c4b8d9ca). It ends RDB files and DUMP payloads.
//!
//! A snapshot passes every byte through it, so eight bytes are taken at a time: table `k` holds what a byte adds to the checksum when `k`
//! more bytes follow it, and the eight lookups do not wait for one another ("slicing by 8", Kounavis and Berry, 2005). The tables are
//! built by the compiler.

/// Jones's polynomial with its bits in reverse order, as the reflected form needs it.
const POLYNOMIAL_REFLECTED: u64 = 0xad93_d235_94c9_35a9_u64.reverse_bits();

/// `TABLES[k][byte]`: the checksum of `byte` followed by `k` zero bytes.
static TABLES: [[u64; 256]; 8] = {
    let mut tables = [[0u64; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 {
                (crc >> 1) ^ POLYNOMIAL_REFLECTED
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut following = 1;
    while following < 8 {
        let mut byte = 0;
        while byte < 256 {
            let shorter = tables[following - 1][byte];
            tables[following][byte] = (shorter >> 8) ^ tables[0][(shorter & 0xff) as usize];
            byte += 1;
        }
        following += 1;
    }
    tables
};

/// The checksum of `bytes` behind what `crc` is the checksum of; begin with 0.
pub fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    let mut crc = crc;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mixed = (crc ^ u64::from_le_bytes(*word)).to_le_bytes();
        crc = TABLES[7][usize::from(mixed[0])]
            ^ TABLES[6][usize::from(mixed[1])]
            ^ TABLES[5][usize::from(mixed[2])]
            ^ TABLES[4][usize::from(mixed[3])]
            ^ TABLES[3][usize::from(mixed[4])]
            ^ TABLES[2][usize::from(mixed[5])]
            ^ TABLES[1][usize::from(mixed[6])]
            ^ TABLES[0][usize::from(mixed[7])];
    }
    for &byte in rest {
        crc = (crc >> 8) ^ TABLES[0][usize::from(crc as u8 ^ byte)];
    }
    crc
}

/// The checksum of what `first` is the checksum of, with as many bytes behind it as `second_len` says, whose checksum is `second`.
///
/// To append zero bytes is to multiply by a power of x modulo the polynomial, which is linear: the power for 2^k bytes comes from that for
/// 2^(k-1) by squaring, so the time is the logarithm of the length.
pub fn combine(first: u64, second: u64, second_len: u64) -> u64 {
    // The matrix that appends one zero bit: column `n` is what it makes of bit `n`.
    let mut square: Matrix = std::array::from_fn(|bit| match bit {
        0 => POLYNOMIAL_REFLECTED,
        _ => 1 << (bit - 1),
    });
    // Eight of them are a byte.
    for _ in 0..3 {
        square = squared(&square);
    }
    let (mut crc, mut left) = (first, second_len);
    while left > 0 {
        if left & 1 != 0 {
            crc = times(&square, crc);
        }
        left >>= 1;
        square = squared(&square);
    }
    crc ^ second
}

type Matrix = [u64; 64];

fn times(matrix: &Matrix, vector: u64) -> u64 {
    let columns = matrix.iter().enumerate().filter(|(bit, _)| vector >> bit & 1 != 0);
    columns.fold(0, |sum, (_, column)| sum ^ column)
}

fn squared(matrix: &Matrix) -> Matrix {
    std::array::from_fn(|bit| times(matrix, matrix[bit]))
}

#[cfg(test)]
mod tests {
    use super::*;

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
