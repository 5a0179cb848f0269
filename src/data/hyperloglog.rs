//! HyperLogLog: an estimate of how many different elements were seen, in a string of at most 12 KiB.
//!
//! Each element is hashed; the hash names one of 16384 registers, which keeps the longest row of zeros (plus one) that a
//! hash has shown there. The value is a string that clients can GET and SET, and that Redis and shardis read from each
//! other's files: bytes are Redis's, after the same additions, including the estimate that is kept in the header.
//!
//! ```text
//! +------+----------+----------+-----------------------------------------+-----------+
//! | HYLL | encoding | 3 unused | estimate: u64 LE, highest bit: outdated | registers |
//! +------+----------+----------+-----------------------------------------+-----------+
//!   dense (0):  16384 registers of 6 bits, the first in the lowest bits: 12288 bytes
//!   sparse (1): rows of equal registers
//!               00nnnnnn            n+1 registers are 0
//!               01nnnnnn nnnnnnnn   n+1 registers are 0 (big endian)
//!               1vvvvvnn            n+1 registers are v+1
//! ```
//!
//! A value begins sparse and becomes dense when it would exceed `hll-sparse-max-bytes` or when a register exceeds 32; never
//! back. The estimate is Ertl's ("New cardinality estimation algorithms for HyperLogLog sketches", 2017,
//! arXiv:1702.01284), which needs how often each register value occurs and no table of corrections.
//!
//! What a client has written may be damaged: [`View::new`] looks at the header only, so that it costs nothing; whoever
//! goes through the registers finds out whether there are 16384 of them.

/// How many registers there are.
pub const REGISTER_COUNT: usize = 1 << INDEX_BITS;
/// Bits of a hash that name the register.
const INDEX_BITS: u32 = 14;
/// Bits of a hash in which zeros are counted.
const PATTERN_BITS: u32 = 64 - INDEX_BITS;
/// Bits of a dense register.
const REGISTER_BITS: usize = 6;
/// Bytes in front of the registers.
const HEADER_BYTES: usize = 16;
/// Bytes of a dense value.
pub const DENSE_BYTES: usize = HEADER_BYTES + REGISTER_COUNT * REGISTER_BITS / 8;

const MAGIC: &[u8; 4] = b"HYLL";
const ENCODING_AT: usize = 4;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const ESTIMATE_AT: usize = 8;
/// In the last byte of the estimate: registers have changed since it was made.
const OUTDATED: u8 = 0x80;

/// Registers in a row of zeros of one byte, and of two bytes.
const ZERO_ROW_MAX: usize = 64;
/// Registers in a row of equal values.
const VALUE_ROW_MAX: usize = 4;
/// The highest value in a sparse row.
const VALUE_MAX: u8 = 32;
/// Rows that are looked at for neighbours to join after a change, as in Redis: bytes must be the same.
const JOINED_ROWS_MAX: usize = 5;

/// Registers, one in each byte.
pub type Registers = [u8; REGISTER_COUNT];

/// The string has no header of a HyperLogLog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAHyperLogLog;

/// The header is right, the registers are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupted;

/// How the registers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Dense,
    Sparse,
}

/// A value, for reading.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    bytes: &'a [u8],
}

impl<'a> View<'a> {
    /// The value in a string, judged by its header and length.
    pub fn new(bytes: &'a [u8]) -> Result<View<'a>, NotAHyperLogLog> {
        if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
            return Err(NotAHyperLogLog);
        }
        match bytes[ENCODING_AT] {
            SPARSE => Ok(View { bytes }),
            DENSE if bytes.len() == DENSE_BYTES => Ok(View { bytes }),
            _ => Err(NotAHyperLogLog),
        }
    }

    /// How its registers are kept.
    pub fn form(self) -> Form {
        if self.bytes[ENCODING_AT] == DENSE {
            Form::Dense
        } else {
            Form::Sparse
        }
    }

    /// The estimate in the header, if no register has changed since.
    pub fn cached_estimate(self) -> Option<u64> {
        let (_, from) = self.bytes.split_at(ESTIMATE_AT);
        let estimate = u64::from_le_bytes(*from.first_chunk().expect("the header has been checked"));
        (estimate >> 63 == 0).then_some(estimate)
    }

    /// The estimate, from the registers.
    pub fn estimate(self) -> Result<u64, Corrupted> {
        let mut histogram = [0; 64];
        match self.form() {
            Form::Dense => histogram = dense_histogram(self.registers()),
            Form::Sparse => {
                let mut index = 0;
                for row in self.rows() {
                    index += row.count;
                    histogram[row.value as usize] += row.count as u32;
                }
                if index != REGISTER_COUNT {
                    return Err(Corrupted);
                }
            }
        }
        Ok(estimate(&histogram))
    }

    /// Raises each of `registers` to what it is here.
    pub fn merge_into(self, registers: &mut Registers) -> Result<(), Corrupted> {
        match self.form() {
            Form::Dense => {
                let (packed, _) = self.registers().as_chunks::<REGISTER_BITS>();
                let (eights, _) = registers.as_chunks_mut::<8>();
                for (eight, packed) in eights.iter_mut().zip(packed) {
                    for (register, value) in eight.iter_mut().zip(unpack(packed)) {
                        *register = (*register).max(value);
                    }
                }
            }
            Form::Sparse => {
                let mut index = 0;
                for row in self.rows() {
                    if row.value != 0 {
                        let place = registers.get_mut(index..index + row.count).ok_or(Corrupted)?;
                        place
                            .iter_mut()
                            .for_each(|register| *register = (*register).max(row.value));
                    }
                    index += row.count;
                }
                if index != REGISTER_COUNT {
                    return Err(Corrupted);
                }
            }
        }
        Ok(())
    }

    /// Whether adding the element to a dense value would change it.
    fn dense_would_change(self, element: &[u8]) -> bool {
        let (index, value) = pattern(element);
        dense_get(self.registers(), index) < value
    }

    /// The rows of a sparse value as text (PFDEBUG DECODE), whatever they add up to: `z:n` and `Z:n` for `n` zeros in one
    /// byte or in two, `v:x,n` for `n` registers of value `x`. Nothing for a dense one.
    pub fn decoded(self) -> Option<String> {
        if self.form() == Form::Dense {
            return None;
        }
        let rows = self.rows().map(|row| match (row.value, row.bytes) {
            (0, 1) => format!("z:{}", row.count),
            (0, _) => format!("Z:{}", row.count),
            (value, _) => format!("v:{value},{}", row.count),
        });
        Some(rows.collect::<Vec<_>>().join(" "))
    }

    fn registers(self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    fn rows(self) -> impl Iterator<Item = Row> + use<'a> {
        let mut rest = self.registers();
        std::iter::from_fn(move || {
            let row = Row::first_of(rest)?;
            rest = rest.get(row.bytes..).unwrap_or_default();
            Some(row)
        })
    }
}

/// A row of equal registers in a sparse value.
#[derive(Clone, Copy)]
struct Row {
    value: u8,
    count: usize,
    /// Bytes it takes.
    bytes: usize,
}

impl Row {
    /// The first row; where the second byte of one is missing, it counts as zero.
    fn first_of(bytes: &[u8]) -> Option<Row> {
        let (&first, rest) = bytes.split_first()?;
        let low = usize::from(first & 0x3f);
        Some(match first >> 6 {
            0 => Row {
                value: 0,
                count: low + 1,
                bytes: 1,
            },
            1 => Row {
                value: 0,
                count: (low << 8 | usize::from(rest.first().copied().unwrap_or(0))) + 1,
                bytes: 2,
            },
            _ => Row {
                value: (first >> 2 & 31) + 1,
                count: usize::from(first & 3) + 1,
                bytes: 1,
            },
        })
    }

    fn push_zeros(count: usize, out: &mut Vec<u8>) {
        let less = count.wrapping_sub(1);
        match count {
            0 => {}
            1..=ZERO_ROW_MAX => out.push(less as u8),
            _ => out.extend([0x40 | (less >> 8) as u8, less as u8]),
        }
    }

    fn push_value(value: u8, count: usize, out: &mut Vec<u8>) {
        if count > 0 {
            out.push(0x80 | (value - 1) << 2 | (count - 1) as u8);
        }
    }
}

/// A value without elements, sparse.
pub fn empty() -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[ENCODING_AT] = SPARSE;
    Row::push_zeros(REGISTER_COUNT, &mut bytes);
    bytes
}

/// What adding elements to a value does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// Nothing is new.
    Unchanged,
    /// So many elements have changed a register of a dense value: [`add_to_dense`] writes that in place.
    InPlace,
    /// So many elements have changed a register; this is the value now.
    Replaced(Vec<u8>, usize),
}

/// Adds elements to a value, which is not changed itself: a dense one is to be changed in place, and a sparse one is short.
pub fn add<'e>(
    view: View<'_>,
    elements: impl Iterator<Item = &'e [u8]> + Clone,
    sparse_bytes_max: usize,
) -> Result<Added, Corrupted> {
    if view.form() == Form::Dense {
        let is_new = elements.clone().any(|element| view.dense_would_change(element));
        return Ok(if is_new { Added::InPlace } else { Added::Unchanged });
    }
    let mut bytes = view.bytes.to_vec();
    let mut count = 0;
    for element in elements {
        let (index, value) = pattern(element);
        count += usize::from(raise(&mut bytes, index, value, sparse_bytes_max)?);
    }
    Ok(if count == 0 {
        Added::Unchanged
    } else {
        Added::Replaced(bytes, count)
    })
}

/// Adds elements to a dense value; returns how many changed a register.
pub fn add_to_dense<'e>(bytes: &mut [u8], elements: impl Iterator<Item = &'e [u8]>) -> usize {
    let registers = &mut bytes[HEADER_BYTES..];
    let is_new = |element| {
        let (index, value) = pattern(element);
        dense_raise(registers, index, value)
    };
    let count = elements.map(is_new).filter(|is_new| *is_new).count();
    if count > 0 {
        outdate(bytes);
    }
    count
}

/// Raises the registers of a value to `registers`, as PFMERGE does: the result is outdated even if nothing was raised.
pub fn raise_all(bytes: &mut Vec<u8>, registers: &Registers, sparse_bytes_max: usize) -> Result<(), Corrupted> {
    for (index, &value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
        raise(bytes, index, value, sparse_bytes_max)?;
    }
    outdate(bytes);
    Ok(())
}

/// Makes a value dense, if it is sparse. The estimate stays as it is.
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<(), Corrupted> {
    let view = View { bytes };
    if view.form() == Form::Dense {
        return Ok(());
    }
    let mut dense = vec![0; DENSE_BYTES];
    dense[..HEADER_BYTES].copy_from_slice(&bytes[..HEADER_BYTES]);
    dense[ENCODING_AT] = DENSE;
    let mut index = 0;
    for row in view.rows() {
        let end = index + row.count;
        if row.value != 0 {
            if end > REGISTER_COUNT {
                return Err(Corrupted);
            }
            (index..end).for_each(|index| {
                dense_raise(&mut dense[HEADER_BYTES..], index, row.value);
            });
        }
        index = end;
    }
    if index != REGISTER_COUNT {
        return Err(Corrupted);
    }
    *bytes = dense;
    Ok(())
}

/// Writes an estimate into the header.
pub fn set_estimate(bytes: &mut [u8], estimate: u64) {
    bytes[ESTIMATE_AT..HEADER_BYTES].copy_from_slice(&estimate.to_le_bytes());
}

/// Notes that the estimate in the header is no longer right.
pub fn outdate(bytes: &mut [u8]) {
    bytes[HEADER_BYTES - 1] |= OUTDATED;
}

/// The estimate for registers that were merged.
pub fn estimate_of(registers: &Registers) -> u64 {
    let mut parts = [[0u32; 64]; 4];
    let (fours, _) = registers.as_chunks::<4>();
    for four in fours {
        for (part, register) in parts.iter_mut().zip(four) {
            part[usize::from(register & 63)] += 1;
        }
    }
    estimate(&sum(&parts))
}

/// Raises one register, and says whether it was lower.
fn raise(bytes: &mut Vec<u8>, index: usize, value: u8, sparse_bytes_max: usize) -> Result<bool, Corrupted> {
    let view = View { bytes };
    if view.form() == Form::Dense {
        let is_new = dense_raise(&mut bytes[HEADER_BYTES..], index, value);
        if is_new {
            outdate(bytes);
        }
        return Ok(is_new);
    }
    if value > VALUE_MAX {
        return promote(bytes, index, value);
    }
    // The row that the register lies in, and the one before it.
    let (mut at, mut previous, mut first) = (HEADER_BYTES, HEADER_BYTES, 0);
    let row = loop {
        let row = Row::first_of(&bytes[at..]).ok_or(Corrupted)?;
        if at + row.bytes > bytes.len() {
            return Err(Corrupted);
        }
        if index < first + row.count {
            break row;
        }
        (previous, at, first) = (at, at + row.bytes, first + row.count);
    };
    if row.value >= value {
        return Ok(false);
    }
    let (before, behind) = (index - first, first + row.count - 1 - index);
    let mut rows = Vec::with_capacity(5);
    let push_rest = |count, rows: &mut Vec<u8>| match row.value {
        0 => Row::push_zeros(count, rows),
        old => Row::push_value(old, count, rows),
    };
    push_rest(before, &mut rows);
    Row::push_value(value, 1, &mut rows);
    push_rest(behind, &mut rows);
    if rows.len() > row.bytes && bytes.len() - row.bytes + rows.len() > sparse_bytes_max {
        return promote(bytes, index, value);
    }
    bytes.splice(at..at + row.bytes, rows);
    join_rows(bytes, previous);
    outdate(bytes);
    Ok(true)
}

/// Makes a sparse value dense, to raise a register that cannot be raised in it.
fn promote(bytes: &mut Vec<u8>, index: usize, value: u8) -> Result<bool, Corrupted> {
    make_dense(bytes)?;
    // Rows behind the last register may have been damaged: then it is not sure that this one was lower.
    let is_new = dense_raise(&mut bytes[HEADER_BYTES..], index, value);
    outdate(bytes);
    Ok(is_new)
}

/// Joins neighbours of the same value, in the few rows from `at` on.
fn join_rows(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINED_ROWS_MAX {
        let Some(row) = bytes.get(at..).and_then(Row::first_of) else {
            return;
        };
        if row.value != 0
            && let Some(next) = Row::first_of(&bytes[at + 1..])
            && next.value == row.value
            && row.count + next.count <= VALUE_ROW_MAX
        {
            bytes[at + 1] = 0x80 | (row.value - 1) << 2 | (row.count + next.count - 1) as u8;
            bytes.remove(at);
        } else {
            at += row.bytes;
        }
    }
}

/// The register that an element belongs to, and the value it asks for: one more than the zeros at the low end of what the
/// hash has besides the register's number.
fn pattern(element: &[u8]) -> (usize, u8) {
    let hash = murmur_hash_64a(element);
    let index = hash as usize & (REGISTER_COUNT - 1);
    // The bit behind the last one ends the row in any case.
    let pattern = hash >> INDEX_BITS | 1 << PATTERN_BITS;
    (index, pattern.trailing_zeros() as u8 + 1)
}

/// MurmurHash2 by Austin Appleby, the 64-bit variant for 64-bit platforms, little endian on every one, with Redis's seed.
fn murmur_hash_64a(text: &[u8]) -> u64 {
    const SEED: u64 = 0xadc8_3b19;
    const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
    const SHIFT: u32 = 47;
    let mut hash = SEED ^ (text.len() as u64).wrapping_mul(MULTIPLIER);
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word = (word ^ word >> SHIFT).wrapping_mul(MULTIPLIER);
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ hash >> SHIFT).wrapping_mul(MULTIPLIER);
    hash ^ hash >> SHIFT
}

fn dense_get(registers: &[u8], index: usize) -> u8 {
    let bit = index * REGISTER_BITS;
    // The last register ends with the last byte.
    let high = registers.get(bit / 8 + 1).copied().unwrap_or(0);
    let pair = u16::from_le_bytes([registers[bit / 8], high]);
    (pair >> (bit % 8)) as u8 & 63
}

fn dense_raise(registers: &mut [u8], index: usize, value: u8) -> bool {
    let old = dense_get(registers, index);
    if old >= value {
        return false;
    }
    let bit = index * REGISTER_BITS;
    let change = (u16::from(old ^ value) << (bit % 8)).to_le_bytes();
    registers[bit / 8] ^= change[0];
    if let Some(high) = registers.get_mut(bit / 8 + 1) {
        *high ^= change[1];
    }
    true
}

/// Eight registers.
#[inline]
fn unpack(packed: &[u8; REGISTER_BITS]) -> [u8; 8] {
    let mut word = packed_word(packed);
    // Apart in the middle, in the middle of each half, and of each quarter.
    word = (word & 0xff_ffff) | (word & 0xffff_ff00_0000) << 8;
    word = (word & 0x0000_0fff_0000_0fff) | (word & 0x00ff_f000_00ff_f000) << 4;
    word = (word & 0x003f_003f_003f_003f) | (word & 0x0fc0_0fc0_0fc0_0fc0) << 2;
    word.to_le_bytes()
}

#[inline]
fn packed_word(packed: &[u8; REGISTER_BITS]) -> u64 {
    let [a, b, c, d, e, f] = *packed;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// How often each value occurs in dense registers. Counted in four parts: equal neighbours would wait for each other.
fn dense_histogram(registers: &[u8]) -> [u32; 64] {
    let mut parts = [[0u32; 64]; 4];
    let (packed, _) = registers.as_chunks::<REGISTER_BITS>();
    for packed in packed {
        let word = packed_word(packed);
        for index in 0..8 {
            parts[index % 4][(word >> (index * REGISTER_BITS)) as usize & 63] += 1;
        }
    }
    sum(&parts)
}

fn sum(parts: &[[u32; 64]; 4]) -> [u32; 64] {
    std::array::from_fn(|value| parts.iter().map(|part| part[value]).sum())
}

/// Ertl's estimate from how often each value occurs.
fn estimate(histogram: &[u32; 64]) -> u64 {
    // 1 / (2 ln 2)
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    const COUNT: f64 = REGISTER_COUNT as f64;
    let full = histogram[PATTERN_BITS as usize + 1];
    let mut z = COUNT * tau((COUNT - f64::from(full)) / COUNT);
    for &count in histogram[1..=PATTERN_BITS as usize].iter().rev() {
        z = (z + f64::from(count)) * 0.5;
    }
    z += COUNT * sigma(f64::from(histogram[0]) / COUNT);
    (ALPHA * COUNT * COUNT / z).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Elements that the self test adds.
const SELF_TEST_COUNT: u64 = 100_000;

/// Adds known numbers of elements to a value that becomes dense in the course of it, and to one that is dense from the
/// start: both have to have the same registers, and estimates that are not further from the truth than chance makes
/// likely. Takes some milliseconds. The error says what was wrong.
pub fn self_test() -> Result<(), String> {
    let (mut mixed, mut dense) = (empty(), empty());
    let damaged = |_| "a value has not 16384 registers".to_owned();
    make_dense(&mut dense).map_err(damaged)?;
    let mut checkpoint = 1;
    for number in 1..=SELF_TEST_COUNT {
        let (index, value) = pattern(&number.to_le_bytes());
        let is_new = raise(&mut mixed, index, value, 3000).map_err(damaged)?;
        if is_new != raise(&mut dense, index, value, 3000).map_err(damaged)? {
            return Err(format!("sparse and dense registers differ at {number} elements"));
        }
        if number == checkpoint {
            checkpoint *= 10;
            let estimates = [&mixed, &dense].map(|bytes| View { bytes }.estimate());
            if estimates[0] != estimates[1] {
                return Err(format!("sparse and dense estimates differ at {number} elements"));
            }
            // The standard error is 1.04 / sqrt(16384): 0.81 %. Four times that, and one for small numbers.
            let allowed = number * 325 / 10_000 + 1;
            let estimate = estimates[0].map_err(damaged)?;
            if estimate.abs_diff(number) > allowed {
                return Err(format!("{number} elements are estimated as {estimate}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
