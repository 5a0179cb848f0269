//! Strings as rows of bits: counting, searching and combining them, and integers of any width that lie in them.
//!
//! Bits are numbered as Redis numbers them: bit 0 is the highest of the first byte. Behind the end of a string all bits are
//! zero.
//!
//! Whole strings are gone through in blocks of words, in loops without branches that the compiler makes vector code of.
//! Counting adds words as bits, three into two (a carry-save adder; Harley and Seal, in Warren, *Hacker's Delight*,
//! chapter 5), so that bits have to be counted in every sixteenth word only: the instructions that count bits in a
//! register are not among those that every processor of this kind has.
//!
//! Ranges are half open and lie within the string; making them from what a client says is [`inclusive_range`]'s.

use std::ops::Range;

/// Words that are added up as vectors.
const LANES: usize = 4;
/// Bytes that one round of the adder takes: sixteen vectors.
const ROUND_BYTES: usize = 16 * LANES * 8;
/// Bytes of the result that BITOP finishes before it goes on: so many stay in the first cache.
const BLOCK_BYTES: usize = 16 * 1024;

type Vector = [u64; LANES];

/// How many bits are set.
pub fn count(bytes: &[u8]) -> u64 {
    let (rounds, rest) = bytes.as_chunks::<ROUND_BYTES>();
    let mut sums = [[0; LANES]; 4];
    let mut sixteens = 0;
    for round in rounds {
        sixteens += u64::from(ones(add_round(&mut sums, round)));
    }
    let mut total = 16 * sixteens;
    for (index, sum) in sums.into_iter().enumerate() {
        total += u64::from(ones(sum)) << index;
    }
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        total += u64::from(u64::from_ne_bytes(*word).count_ones());
    }
    total + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

/// Adds sixteen vectors to the sums of ones, twos, fours and eights; returns what is carried into the sixteens.
#[inline]
fn add_round(sums: &mut [Vector; 4], round: &[u8; ROUND_BYTES]) -> Vector {
    let (words, _) = round.as_chunks::<8>();
    let vector =
        |index: usize| -> Vector { std::array::from_fn(|lane| u64::from_ne_bytes(words[index * LANES + lane])) };
    let [ones, twos, fours, eights] = sums;
    let pair = |index: usize, ones: &mut Vector| add(ones, vector(index), vector(index + 1));
    let mut four = |index: usize, twos: &mut Vector| {
        let (low, high) = (pair(index, ones), pair(index + 2, ones));
        add(twos, low, high)
    };
    let mut eight = |index: usize, fours: &mut Vector| {
        let (low, high) = (four(index, twos), four(index + 4, twos));
        add(fours, low, high)
    };
    let (low, high) = (eight(0, fours), eight(8, fours));
    add(eights, low, high)
}

/// Adds two bits to a sum of one bit, in every place; returns the carries.
#[inline]
fn add(sum: &mut Vector, a: Vector, b: Vector) -> Vector {
    let mut carry = [0; LANES];
    for lane in 0..LANES {
        let either = a[lane] ^ b[lane];
        carry[lane] = (a[lane] & b[lane]) | (sum[lane] & either);
        sum[lane] ^= either;
    }
    carry
}

#[inline]
fn ones(vector: Vector) -> u32 {
    vector.iter().map(|word| word.count_ones()).sum()
}

/// How many bits are set in a range of bits.
pub fn count_range(bytes: &[u8], range: Range<u64>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (first, last) = ((range.start / 8) as usize, ((range.end - 1) / 8) as usize);
    let head = 0xff >> (range.start % 8);
    let tail = 0xff << (7 - (range.end - 1) % 8);
    if first == last {
        return u64::from((bytes[first] & head & tail).count_ones());
    }
    u64::from((bytes[first] & head).count_ones() + (bytes[last] & tail).count_ones()) + count(&bytes[first + 1..last])
}

/// The first bit in a range of bits that is set, or that is clear.
pub fn find(bytes: &[u8], is_set: bool, range: Range<u64>) -> Option<u64> {
    if range.is_empty() {
        return None;
    }
    let flip = if is_set { 0 } else { 0xff };
    let (first, last) = ((range.start / 8) as usize, ((range.end - 1) / 8) as usize);
    let head = (bytes[first] ^ flip) & (0xff >> (range.start % 8));
    let (index, found) = if head != 0 {
        (first, head)
    } else {
        let skipped = different(&bytes[first + 1..=last], flip)?;
        let index = first + 1 + skipped;
        (index, bytes[index] ^ flip)
    };
    let position = index as u64 * 8 + u64::from(found.leading_zeros());
    // The last byte may belong to the range in part only.
    (position < range.end).then_some(position)
}

/// Where the first byte stands that is not `byte`.
fn different(bytes: &[u8], byte: u8) -> Option<usize> {
    const STRIDE_BYTES: usize = 128;
    let word = u64::from_ne_bytes([byte; 8]);
    let (strides, _) = bytes.as_chunks::<STRIDE_BYTES>();
    let is_plain = |stride: &&[u8; STRIDE_BYTES]| {
        let (words, _) = stride.as_chunks::<8>();
        words
            .iter()
            .fold(0, |all, other| all | (u64::from_ne_bytes(*other) ^ word))
            == 0
    };
    let from = strides.iter().take_while(is_plain).count() * STRIDE_BYTES;
    let index = bytes[from..].iter().position(|&other| other != byte)?;
    Some(from + index)
}

/// The bit of that number.
pub fn get(bytes: &[u8], bit: u64) -> bool {
    usize::try_from(bit / 8)
        .ok()
        .and_then(|index| bytes.get(index))
        .is_some_and(|byte| byte >> (7 - bit % 8) & 1 == 1)
}

/// Sets or clears a bit, which must be within the string. Returns what it was.
pub fn set(bytes: &mut [u8], bit: u64, is_set: bool) -> bool {
    let (byte, mask) = (&mut bytes[(bit / 8) as usize], 0x80 >> (bit % 8));
    let was_set = *byte & mask != 0;
    if is_set {
        *byte |= mask;
    } else {
        *byte &= !mask;
    }
    was_set
}

/// What BITOP does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Combination {
    And,
    Or,
    Xor,
    /// Of one source only: the first.
    Not,
}

/// The sources combined bit by bit, as long as the longest; shorter ones go on with zeros.
pub fn combine(combination: Combination, sources: &[&[u8]]) -> Vec<u8> {
    let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let mut result = vec![0; len];
    let (first, others) = match sources {
        [] => return result,
        [first, others @ ..] => (first, others),
    };
    for (index, block) in result.chunks_mut(BLOCK_BYTES).enumerate() {
        let block_bytes = block.len();
        let part = |source: &[u8]| -> Range<usize> {
            let from = (index * BLOCK_BYTES).min(source.len());
            from..(from + block_bytes).min(source.len())
        };
        let range = part(first);
        block[..range.len()].copy_from_slice(&first[range]);
        if combination == Combination::Not {
            block.iter_mut().for_each(|byte| *byte = !*byte);
            continue;
        }
        for source in others {
            let other = &source[part(source)];
            let (both, alone) = block.split_at_mut(other.len());
            let pairs = both.iter_mut().zip(other);
            match combination {
                Combination::And => {
                    pairs.for_each(|(byte, other)| *byte &= other);
                    alone.fill(0);
                }
                Combination::Or => pairs.for_each(|(byte, other)| *byte |= other),
                Combination::Xor | Combination::Not => pairs.for_each(|(byte, other)| *byte ^= other),
            }
        }
    }
    result
}

/// The part of `len` things that a client means by `start` and `end`, both included and counted from the end when negative.
/// An end before the beginning is the first one.
pub fn inclusive_range(len: u64, start: i64, end: i64) -> Range<u64> {
    let absolute = |index: i64| {
        if index < 0 {
            len.saturating_sub(index.unsigned_abs())
        } else {
            index as u64
        }
    };
    let (from, to) = (absolute(start), absolute(end).saturating_add(1).min(len));
    if from < to { from..to } else { 0..0 }
}

/// What an integer in a row of bits is: BITFIELD's `i8`, `u63`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldKind {
    is_signed: bool,
    width: u32,
}

/// What happens when a number does not fit its field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overflow {
    /// The higher bits are lost.
    Wrap,
    /// It becomes the largest or the smallest that fits.
    Saturate,
    /// Nothing is written.
    Fail,
}

impl FieldKind {
    /// A width of 1 to 64 bits, or to 63 for one without a sign: every value is an `i64`.
    pub fn new(is_signed: bool, width: u32) -> Option<FieldKind> {
        let width_max = if is_signed { 64 } else { 63 };
        (1..=width_max)
            .contains(&width)
            .then_some(FieldKind { is_signed, width })
    }

    /// How many bits it takes.
    pub fn width(self) -> u32 {
        self.width
    }

    /// The integer at a bit.
    pub fn read(self, bytes: &[u8], at: u64) -> i64 {
        // A field of 64 bits may lie in nine bytes.
        let mut window = [0; 16];
        let from = usize::try_from(at / 8).unwrap_or(usize::MAX).min(bytes.len());
        let there = &bytes[from..(from + 9).min(bytes.len())];
        window[..there.len()].copy_from_slice(there);
        let high = (u128::from_be_bytes(window) << (at % 8) >> 64) as u64;
        if self.is_signed {
            high as i64 >> (64 - self.width)
        } else {
            (high >> (64 - self.width)) as i64
        }
    }

    /// Writes an integer at a bit; all of the field must lie within the string.
    pub fn write(self, bytes: &mut [u8], at: u64, value: i64) {
        let (from, end) = ((at / 8) as usize, (at + u64::from(self.width)).div_ceil(8) as usize);
        let place = &mut bytes[from..end];
        let mut window = [0; 16];
        window[..place.len()].copy_from_slice(place);
        let shift = 128 - self.width - (at % 8) as u32;
        let mask = (u128::MAX >> (128 - self.width)) << shift;
        let new = (u128::from_be_bytes(window) & !mask) | ((value as u128) << shift & mask);
        place.copy_from_slice(&new.to_be_bytes()[..place.len()]);
    }

    /// The sum as it is to be written, or nothing if it does not fit and may not be made to.
    pub fn add(self, value: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        self.fit(i128::from(value) + i128::from(increment), overflow)
    }

    /// A number as it is to be written, or nothing. For a field without a sign a negative number is a very large one, as
    /// in Redis.
    pub fn take(self, value: i64, overflow: Overflow) -> Option<i64> {
        if self.is_signed {
            self.fit(i128::from(value), overflow)
        } else {
            self.fit(i128::from(value as u64), overflow)
        }
    }

    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = if self.is_signed {
            (-(1i128 << (self.width - 1)), (1i128 << (self.width - 1)) - 1)
        } else {
            (0, (1i128 << self.width) - 1)
        };
        if (min..=max).contains(&value) {
            return Some(value as i64);
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => Some(value.clamp(min, max) as i64),
            Overflow::Wrap => {
                let high = (value as u64) << (64 - self.width);
                Some(if self.is_signed {
                    high as i64 >> (64 - self.width)
                } else {
                    (high >> (64 - self.width)) as i64
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(bytes: &[u8]) -> Vec<bool> {
        (0..bytes.len() as u64 * 8).map(|bit| get(bytes, bit)).collect()
    }

    /// Bytes in which long rows of equal bits are likely.
    fn rows() -> impl Strategy<Value = Vec<u8>> {
        let row = (prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0usize..700);
        prop::collection::vec(row, 0..5)
            .prop_map(|rows| rows.into_iter().flat_map(|(byte, count)| vec![byte; count]).collect())
    }

    #[test]
    fn ranges_are_clamped_as_in_redis() {
        assert_eq!(inclusive_range(4, 0, -1), 0..4);
        assert_eq!(inclusive_range(4, -100, 100), 0..4);
        assert_eq!(inclusive_range(4, -100, -200), 0..1);
        assert_eq!(inclusive_range(4, -1, -2), 0..0);
        assert_eq!(inclusive_range(4, 4, 9), 0..0);
        assert_eq!(inclusive_range(0, 0, -1), 0..0);
        assert_eq!(inclusive_range(4, i64::MIN, i64::MAX), 0..4);
    }

    #[test]
    fn fields_wrap_saturate_and_fail() {
        let kind = |is_signed, width| FieldKind::new(is_signed, width).unwrap();
        assert_eq!(kind(false, 8).add(250, 10, Overflow::Wrap), Some(4));
        assert_eq!(kind(false, 8).add(250, 10, Overflow::Saturate), Some(255));
        assert_eq!(kind(false, 8).add(5, -10, Overflow::Saturate), Some(0));
        assert_eq!(kind(false, 8).take(-1, Overflow::Saturate), Some(255));
        assert_eq!(kind(true, 8).take(-129, Overflow::Saturate), Some(-128));
        assert_eq!(kind(true, 8).add(127, 1, Overflow::Wrap), Some(-128));
        assert_eq!(kind(true, 64).add(i64::MAX, 1, Overflow::Wrap), Some(i64::MIN));
        assert_eq!(kind(true, 64).add(i64::MIN, -1, Overflow::Fail), None);
        assert_eq!(kind(false, 63).add(i64::MAX, 1, Overflow::Wrap), Some(0));
        assert_eq!(FieldKind::new(false, 64), None);
        assert_eq!(FieldKind::new(true, 65), None);
        assert_eq!(FieldKind::new(true, 0), None);
        assert_eq!(kind(true, 8).read(b"", u64::MAX), 0);
    }

    proptest! {
        #[test]
        fn counting_and_finding_agree_with_single_bits(bytes in rows(), a: u64, b: u64) {
            let bits = bits(&bytes);
            let (a, b) = (a % (bits.len() as u64 + 1), b % (bits.len() as u64 + 1));
            let range = a.min(b)..a.max(b);
            let part = &bits[range.start as usize..range.end as usize];
            prop_assert_eq!(count(&bytes), bits.iter().filter(|bit| **bit).count() as u64);
            prop_assert_eq!(count_range(&bytes, range.clone()), part.iter().filter(|bit| **bit).count() as u64);
            for wanted in [true, false] {
                let expected = part.iter().position(|bit| *bit == wanted).map(|at| at as u64 + range.start);
                prop_assert_eq!(find(&bytes, wanted, range.clone()), expected);
            }
        }

        #[test]
        fn single_bits_are_set(bytes in prop::collection::vec(any::<u8>(), 1..20), at: u64, is_set: bool) {
            let (mut changed, at) = (bytes.clone(), at % (bytes.len() as u64 * 8));
            let was_set = set(&mut changed, at, is_set);
            let mut expected = bits(&bytes);
            prop_assert_eq!(std::mem::replace(&mut expected[at as usize], is_set), was_set);
            prop_assert_eq!(bits(&changed), expected);
        }

        #[test]
        fn combinations_agree_with_single_bytes(sources in prop::collection::vec(rows(), 0..4), repeats in prop::sample::select(vec![1usize, 30])) {
            let sources: Vec<Vec<u8>> = sources.iter().map(|source| source.repeat(repeats)).collect();
            let slices: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            let len = sources.iter().map(Vec::len).max().unwrap_or(0);
            let at = |source: &Vec<u8>, index: usize| source.get(index).copied().unwrap_or(0);
            let all = |fold: fn(u8, u8) -> u8| -> Vec<u8> {
                (0..len).map(|index| sources.iter().map(|source| at(source, index)).reduce(fold).unwrap()).collect()
            };
            prop_assert_eq!(combine(Combination::And, &slices), all(|a, b| a & b));
            prop_assert_eq!(combine(Combination::Or, &slices), all(|a, b| a | b));
            prop_assert_eq!(combine(Combination::Xor, &slices), all(|a, b| a ^ b));
            if let Some(first) = slices.first() {
                prop_assert_eq!(combine(Combination::Not, &slices[..1]), first.iter().map(|byte| !byte).collect::<Vec<_>>());
            }
        }

        #[test]
        fn fields_are_rows_of_bits(
            bytes in prop::collection::vec(any::<u8>(), 0..24), at in 0u64..200, is_signed: bool, width in 1u32..=64, value: i64,
        ) {
            let kind = FieldKind::new(is_signed, width.min(if is_signed { 64 } else { 63 })).unwrap();
            let of = |bytes: &[u8]| (0..u64::from(kind.width)).fold(0u64, |all, bit| all << 1 | u64::from(get(bytes, at + bit)));
            let low = u64::MAX >> (64 - kind.width);
            prop_assert_eq!(kind.read(&bytes, at) as u64 & low, of(&bytes));
            let value = kind.take(value, Overflow::Wrap).unwrap();
            let mut changed = bytes.clone();
            changed.resize(changed.len().max((at + 64).div_ceil(8) as usize), 0);
            let mut before = bits(&changed);
            kind.write(&mut changed, at, value);
            prop_assert_eq!(kind.read(&changed, at), value);
            for bit in 0..u64::from(kind.width) {
                before[(at + bit) as usize] = get(&changed, at + bit);
            }
            prop_assert_eq!(bits(&changed), before, "nothing beside the field has changed");
        }
    }
}
