//! The arithmetic of INCRBYFLOAT: C's `long double` of x86-64, in software.
//!
//! Redis computes INCRBYFLOAT and HINCRBYFLOAT in `long double` and prints seventeen decimals. On x86-64 that is the extended format of
//! the 8087: a sign, a mantissa of 64 bits with no hidden bit, an exponent of 15 bits. Adding 0.1 and 0.2 gives `0.3` there
//! and `0.30000000000000004` in doubles, and the result is stored and replicated as text, so the digits must be the same. Rust
//! has no such type, and the same digits are wanted on every processor. Formats and rounding are IEEE 754's; the printing is
//! `printf("%.17Lf")` with its trailing zeros cut off. Both are checked against redis-server 7.0.15 on x86-64 (`tests` below).
//!
//! Numbers of usual size take one 128-bit multiplication or division to read. Long or extreme ones (up to 1e4932) go through
//! [`Natural`], plain schoolbook integers: slow, and hardly ever needed.
//!
//! # Invariants
//!
//! 1. A finite number is `mantissa × 2^exponent` with `exponent` in -16445 ..= 16320. The top bit of `mantissa` is set, unless
//!    the exponent is the smallest (subnormal numbers and zero).
//! 2. [`Unrounded`] carries at least 127 true bits and a sticky one, so every rounding here happens once.

use std::cmp::Ordering;
use std::ops::Add;

/// The exponent of subnormal numbers: the last bit of the smallest is worth 2^-16445.
const EXPONENT_MIN: i32 = -16445;
/// The exponent of the largest numbers: 16383 for the top one of 64 bits.
const EXPONENT_MAX: i32 = 16383 - 63;
/// Redis copies the text into a buffer of 5 KiB and refuses what does not fit with its NUL.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Decimals that are printed at most.
const DECIMALS: usize = 17;
const TEN_TO_DECIMALS: u64 = 10u64.pow(DECIMALS as u32);

/// An 80-bit extended floating-point number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    is_negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magnitude {
    Finite { mantissa: u64, exponent: i32 },
    Infinite,
    NotANumber,
}

impl LongDouble {
    /// Zero, positive.
    pub const ZERO: LongDouble = LongDouble {
        is_negative: false,
        magnitude: Magnitude::Finite {
            mantissa: 0,
            exponent: EXPONENT_MIN,
        },
    };

    /// Reads a number as INCRBYFLOAT does, all of `text` and nothing else: decimal or hexadecimal, with exponent, or `inf`; rounded to
    /// nearest. `None` for NaN, for anything else, and for what overflows or vanishes.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (is_negative, unsigned) = match text {
            [b'-', unsigned @ ..] => (true, unsigned),
            [b'+', unsigned @ ..] | unsigned => (false, unsigned),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble {
                is_negative,
                magnitude: Magnitude::Infinite,
            });
        }
        let unrounded = match unsigned {
            [b'0', b'x' | b'X', hexadecimal @ ..] => read_radix16(hexadecimal)?,
            decimal => read_radix10(decimal)?,
        };
        let value = LongDouble::round(is_negative, unrounded);
        let is_zero = matches!(value.magnitude, Magnitude::Finite { mantissa: 0, .. });
        let is_vanished = is_zero && unrounded != Unrounded::ZERO;
        (value.is_finite() && !is_vanished).then_some(value)
    }

    /// Every integer of 64 bits has its exact number.
    pub fn from_i64(value: i64) -> LongDouble {
        LongDouble::round(value < 0, Unrounded::normalized(value.unsigned_abs().into(), 0))
    }

    /// Every double has its exact number.
    pub fn from_f64(value: f64) -> LongDouble {
        let is_negative = value.is_sign_negative();
        if value.is_nan() {
            return LongDouble {
                is_negative,
                magnitude: Magnitude::NotANumber,
            };
        }
        if value.is_infinite() {
            return LongDouble {
                is_negative,
                magnitude: Magnitude::Infinite,
            };
        }
        let (fraction, biased) = (
            value.to_bits() & ((1 << 52) - 1),
            (value.to_bits() >> 52 & 0x7ff) as i32,
        );
        let (mantissa, exponent) = if biased == 0 {
            (fraction, -1074)
        } else {
            (fraction | 1 << 52, biased - 1075)
        };
        LongDouble::round(is_negative, Unrounded::normalized(mantissa.into(), exponent))
    }

    /// Whether it is neither infinite nor NaN.
    pub fn is_finite(self) -> bool {
        matches!(self.magnitude, Magnitude::Finite { .. })
    }

    /// A thousand times the number, rounded as any result is, and then up to a whole one: seconds as milliseconds. `None` if that is above
    /// all integers of 64 bits; what lies below them is the smallest.
    pub fn ceil_thousandfold(self) -> Option<i64> {
        let beyond = match self.is_negative {
            true => Some(i64::MIN),
            false => None,
        };
        let Magnitude::Finite { mantissa, exponent } = self.magnitude else {
            return beyond;
        };
        let product = Unrounded::normalized(u128::from(mantissa) * 1000, exponent);
        let Magnitude::Finite { mantissa, exponent } = LongDouble::round(self.is_negative, product).magnitude else {
            return beyond;
        };
        if mantissa == 0 {
            return Some(0);
        }
        if exponent > 0 {
            return beyond;
        }
        let point = exponent.unsigned_abs();
        let whole = mantissa.checked_shr(point).unwrap_or(0);
        let has_fraction = point >= 64 || mantissa & ((1u128 << point) - 1) as u64 != 0;
        match self.is_negative {
            true => Some(i64::try_from(whole).map_or(i64::MIN, |whole| -whole)),
            false => i64::try_from(whole + u64::from(has_fraction)).ok(),
        }
    }

    /// Appends it as Redis prints it for people: up to seventeen decimals without trailing zeros, never an exponent, no `-0`.
    pub fn write_human(self, out: &mut Vec<u8>) {
        let sign: &[u8] = if self.is_negative { b"-" } else { b"" };
        let (mantissa, exponent) = match self.magnitude {
            Magnitude::Finite { mantissa, exponent } => (mantissa, exponent),
            Magnitude::Infinite => return out.extend_from_slice(&[sign, b"inf"].concat()),
            Magnitude::NotANumber => return out.extend_from_slice(b"nan"),
        };
        if exponent >= 0 {
            out.extend_from_slice(sign);
            return match exponent {
                0..=64 => out.extend_from_slice((u128::from(mantissa) << exponent).to_string().as_bytes()),
                _ => Natural::shifted(mantissa, exponent as u32).write_decimal(out),
            };
        }
        let (whole, decimals) = split_at_point(mantissa, exponent.unsigned_abs());
        if whole == 0 && decimals == 0 {
            return out.push(b'0');
        }
        out.extend_from_slice(sign);
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
        if decimals > 0 {
            let digits = format!(".{decimals:0width$}", width = DECIMALS);
            out.extend_from_slice(digits.trim_end_matches('0').as_bytes());
        }
    }

    /// What [`LongDouble::write_human`] writes.
    pub fn to_human(self) -> Vec<u8> {
        let mut text = Vec::new();
        self.write_human(&mut text);
        text
    }

    /// Rounds to nearest, from halfway to even; beyond the largest number to infinity.
    fn round(is_negative: bool, unrounded: Unrounded) -> LongDouble {
        if unrounded.bits == 0 {
            return LongDouble {
                is_negative,
                ..LongDouble::ZERO
            };
        }
        let mut exponent = (unrounded.top() - 63).max(EXPONENT_MIN);
        let mut rounded = unrounded.rounded_at(exponent);
        if rounded >> 64 != 0 {
            // All ones rounded up: a power of two now.
            rounded >>= 1;
            exponent += 1;
        }
        let magnitude = if exponent > EXPONENT_MAX {
            Magnitude::Infinite
        } else {
            Magnitude::Finite {
                mantissa: rounded as u64,
                exponent,
            }
        };
        LongDouble { is_negative, magnitude }
    }
}

impl Add for LongDouble {
    type Output = LongDouble;

    fn add(self, other: LongDouble) -> LongDouble {
        let (large, small) = match (self.magnitude, other.magnitude) {
            (Magnitude::NotANumber, _) => return self,
            (_, Magnitude::NotANumber) => return other,
            (Magnitude::Infinite, Magnitude::Infinite) if self.is_negative != other.is_negative => {
                return LongDouble {
                    is_negative: true,
                    magnitude: Magnitude::NotANumber,
                };
            }
            (Magnitude::Infinite, _) => return self,
            (_, Magnitude::Infinite) => return other,
            (
                Magnitude::Finite { mantissa, exponent },
                Magnitude::Finite {
                    mantissa: other_mantissa,
                    exponent: other_exponent,
                },
            ) => {
                let (this, that) = (
                    (exponent, mantissa, self.is_negative),
                    (other_exponent, other_mantissa, other.is_negative),
                );
                if (exponent, mantissa) >= (other_exponent, other_mantissa) {
                    (this, that)
                } else {
                    (that, this)
                }
            }
        };
        let ((exponent, large_mantissa, large_negative), (small_exponent, small_mantissa, small_negative)) =
            (large, small);
        // One bit is left free for the carry, and 62 below for what the smaller number hangs over.
        let large_bits = u128::from(large_mantissa) << 62;
        let small_bits = u128::from(small_mantissa) << 62;
        let small_bits = match (exponent - small_exponent).unsigned_abs() {
            0 => small_bits,
            shift @ 1..=127 => {
                let is_inexact = small_bits << (128 - shift) != 0;
                small_bits >> shift | u128::from(is_inexact)
            }
            _ => u128::from(small_bits != 0),
        };
        if large_negative == small_negative {
            return LongDouble::round(
                large_negative,
                Unrounded::normalized(large_bits + small_bits, exponent - 62),
            );
        }
        let difference = large_bits - small_bits;
        // Equal numbers of opposite sign make a positive zero.
        LongDouble::round(
            large_negative && difference != 0,
            Unrounded::normalized(difference, exponent - 62),
        )
    }
}

/// The whole part of `mantissa / 2^point`, and its decimals rounded to nearest, from halfway to even.
fn split_at_point(mantissa: u64, point: u32) -> (u64, u64) {
    let (whole, fraction) = match point {
        1..=63 => (mantissa >> point, mantissa & ((1 << point) - 1)),
        _ => (0, mantissa),
    };
    if point > 127 {
        // fraction × 10^17 is below 2^121: less than half of the last decimal.
        return (whole, 0);
    }
    let scaled = u128::from(fraction) * u128::from(TEN_TO_DECIMALS);
    let decimals = (scaled >> point) as u64;
    let rest = scaled & ((1 << point) - 1);
    let is_up = match rest.cmp(&(1 << (point - 1))) {
        Ordering::Less => false,
        Ordering::Equal => decimals & 1 == 1,
        Ordering::Greater => true,
    };
    match decimals + u64::from(is_up) {
        TEN_TO_DECIMALS => (whole + 1, 0),
        decimals => (whole, decimals),
    }
}

/// A positive number `bits × 2^exponent` before it is rounded: `bits` has its top bit set (or is 0 for zero), and its lowest bit is
/// also set when something smaller than that bit was dropped, so that rounding to fewer than 127 bits comes out right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unrounded {
    pub(super) bits: u128,
    pub(super) exponent: i32,
}

/// No finite number of any format here has an exponent beyond this, and no text can make one overflow an `i32` that stops here.
const EXPONENT_FAR: i64 = 1 << 20;

impl Unrounded {
    pub(super) const ZERO: Unrounded = Unrounded { bits: 0, exponent: 0 };

    /// Moves the top bit of `bits` to its place.
    pub(super) fn normalized(bits: u128, exponent: i32) -> Unrounded {
        if bits == 0 {
            return Unrounded::ZERO;
        }
        let shift = bits.leading_zeros();
        Unrounded {
            bits: bits << shift,
            exponent: exponent - shift as i32,
        }
    }

    /// The exponent of the top bit: the number lies in `2^top .. 2^(top + 1)`.
    pub(super) fn top(self) -> i32 {
        self.exponent + 127
    }

    /// How many times 2^`last_bit` it is, rounded to nearest and from halfway to even. At least 64 bits must be dropped.
    pub(super) fn rounded_at(self, last_bit: i32) -> u128 {
        let dropped = last_bit - self.exponent;
        debug_assert!(dropped >= 64);
        let (kept, half) = match dropped {
            ..=127 => (self.bits >> dropped, 1u128 << (dropped - 1)),
            128 => (0, 1u128 << 127),
            _ => return 0,
        };
        let is_half = self.bits & half != 0;
        let is_more = self.bits & (half - 1) != 0;
        kept + u128::from(is_half && (is_more || kept & 1 == 1))
    }
}

/// Reads what follows `0x` in a hexadecimal floating-point number: digits with at most one point, and `p` with a decimal power of two.
pub(super) fn read_radix16(text: &[u8]) -> Option<Unrounded> {
    let mut bits = 0u128;
    let mut exponent = 0i64;
    let (mut has_digits, mut is_fraction) = (false, false);
    let mut rest = text;
    while let [byte, behind @ ..] = rest {
        match byte {
            b'.' if !is_fraction => is_fraction = true,
            byte if byte.is_ascii_hexdigit() => {
                let digit = (*byte as char).to_digit(16).expect("a hexadecimal digit");
                has_digits = true;
                if bits >> 124 == 0 {
                    bits = bits << 4 | u128::from(digit);
                    exponent -= if is_fraction { 4 } else { 0 };
                } else {
                    bits |= u128::from(digit != 0);
                    exponent += if is_fraction { 0 } else { 4 };
                }
            }
            _ => break,
        }
        rest = behind;
    }
    if !has_digits {
        return None;
    }
    if let [b'p' | b'P', power @ ..] = rest {
        exponent += read_exponent(power)?;
    } else if !rest.is_empty() {
        return None;
    }
    Some(Unrounded::normalized(
        bits,
        exponent.clamp(-EXPONENT_FAR, EXPONENT_FAR) as i32,
    ))
}

/// Reads a decimal exponent with an optional sign; far ones stop at a bound.
fn read_exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = (value * 10 + i64::from(byte - b'0')).min(EXPONENT_FAR);
    }
    Some(if is_negative { -value } else { value })
}

/// Reads an unsigned decimal floating-point number: digits with at most one point, and `e` with an exponent.
fn read_radix10(text: &[u8]) -> Option<Unrounded> {
    let mantissa_bytes = text
        .iter()
        .position(|byte| matches!(byte, b'e' | b'E'))
        .unwrap_or(text.len());
    let (mantissa, behind) = text.split_at(mantissa_bytes);
    let mut exponent = match behind {
        [] => 0,
        [_, power @ ..] => read_exponent(power)?,
    };
    let mut digits = Vec::new();
    let mut value = 0u64;
    let (mut has_digits, mut is_fraction) = (false, false);
    for &byte in mantissa {
        match byte {
            b'.' if !is_fraction => is_fraction = true,
            b'0'..=b'9' => {
                has_digits = true;
                exponent -= i64::from(is_fraction);
                if byte != b'0' || !digits.is_empty() {
                    digits.push(byte - b'0');
                    value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                }
            }
            _ => return None,
        }
    }
    if !has_digits {
        return None;
    }
    if digits.is_empty() {
        return Some(Unrounded::ZERO);
    }
    // Nineteen digits fit 64 bits, and so does 5^27.
    if digits.len() <= 19 && (-27..=27).contains(&exponent) {
        let power_of_five = u128::from(5u64.pow(exponent.unsigned_abs() as u32));
        if exponent >= 0 {
            return Some(Unrounded::normalized(
                u128::from(value) * power_of_five,
                exponent as i32,
            ));
        }
        return Some(quotient(value, power_of_five as u64, exponent as i32));
    }
    // The number lies in 10^(point - 1) .. 10^point: what is surely too large or too small need not be computed.
    let point = digits.len() as i64 + exponent;
    if point.abs() > 5000 {
        return Some(Unrounded {
            bits: 1 << 127,
            exponent: if point > 0 { 1 << 20 } else { -(1 << 20) },
        });
    }
    let mut numerator = Natural::from_digits(&digits);
    if exponent >= 0 {
        numerator.multiply_by_power_of_ten(exponent as u32);
        return Some(numerator.leading_bits());
    }
    let mut denominator = Natural(vec![1]);
    denominator.multiply_by_power_of_ten(exponent.unsigned_abs() as u32);
    Some(numerator.divide(denominator))
}

/// `value / divisor × 2^exponent`, to more than 64 bits. The divisor is odd, so that a remainder of zero means an exact result.
fn quotient(value: u64, divisor: u64, exponent: i32) -> Unrounded {
    let shift = value.leading_zeros() + 64;
    let dividend = u128::from(value) << shift;
    let divisor = u128::from(divisor);
    // The quotient has 65 to 128 bits; the long division goes on below them for 64 more.
    let (high, remainder) = (dividend / divisor, dividend % divisor);
    let exponent = exponent - shift as i32;
    let room = high.leading_zeros().min(64);
    let low = (remainder << room) / divisor;
    let is_inexact = (remainder << room) % divisor != 0;
    let bits = high << room | low;
    Unrounded::normalized(bits | u128::from(is_inexact), exponent - room as i32)
}

/// A natural number of any size, 64 bits to a limb, the lowest first, without zero limbs at the top.
#[derive(Clone)]
struct Natural(Vec<u64>);

impl Natural {
    fn from_digits(digits: &[u8]) -> Natural {
        let mut number = Natural(Vec::new());
        for chunk in digits.chunks(19) {
            let value = chunk.iter().fold(0, |value, &digit| value * 10 + u64::from(digit));
            number.multiply_add(10u64.pow(chunk.len() as u32), value);
        }
        number
    }

    fn shifted(mantissa: u64, shift: u32) -> Natural {
        let mut number = Natural(vec![mantissa]);
        number.shift_left(shift);
        number
    }

    fn multiply_add(&mut self, factor: u64, addend: u64) {
        let mut carry = addend;
        for limb in &mut self.0 {
            let product = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            (*limb, carry) = (product as u64, (product >> 64) as u64);
        }
        if carry != 0 {
            self.0.push(carry);
        }
    }

    fn multiply_by_power_of_ten(&mut self, mut power: u32) {
        while power > 0 {
            let step = power.min(19);
            self.multiply_add(10u64.pow(step), 0);
            power -= step;
        }
    }

    fn bit_count(&self) -> u32 {
        self.0
            .last()
            .map_or(0, |top| self.0.len() as u32 * 64 - top.leading_zeros())
    }

    fn shift_left(&mut self, shift: u32) {
        if !shift.is_multiple_of(64) {
            self.multiply_add(1 << (shift % 64), 0);
        }
        self.0.splice(0..0, std::iter::repeat_n(0, shift as usize / 64));
    }

    /// The number with its top 128 bits and a sticky one.
    fn leading_bits(mut self) -> Unrounded {
        let bit_count = self.bit_count();
        self.shift_left(128 + (64 - bit_count % 64) % 64);
        let limb_count = self.0.len();
        let (low, high) = self.0.split_at(limb_count - 2);
        let is_inexact = low.iter().any(|&limb| limb != 0);
        let bits = u128::from(high[1]) << 64 | u128::from(high[0]) | u128::from(is_inexact);
        Unrounded {
            bits,
            exponent: bit_count as i32 - 128,
        }
    }

    /// `self / divisor` to 128 bits and a sticky one, bit by bit.
    fn divide(mut self, mut divisor: Natural) -> Unrounded {
        let mut shift = divisor.bit_count() as i32 - self.bit_count() as i32;
        if shift >= 0 {
            self.shift_left(shift.unsigned_abs());
        } else {
            divisor.shift_left(shift.unsigned_abs());
        }
        if self.compare(&divisor) == Ordering::Less {
            self.shift_left(1);
            shift += 1;
        }
        let mut bits = 0u128;
        for _ in 0..128 {
            bits <<= 1;
            if self.compare(&divisor) != Ordering::Less {
                self.subtract(&divisor);
                bits |= 1;
            }
            self.shift_left(1);
        }
        Unrounded {
            bits: bits | u128::from(!self.0.is_empty()),
            exponent: -127 - shift,
        }
    }

    fn compare(&self, other: &Natural) -> Ordering {
        self.0
            .len()
            .cmp(&other.0.len())
            .then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Subtracts a number that is not larger.
    fn subtract(&mut self, other: &Natural) {
        let mut is_borrowed = false;
        for (index, limb) in self.0.iter_mut().enumerate() {
            let subtrahend = other.0.get(index).copied().unwrap_or(0);
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(u64::from(is_borrowed));
            *limb = difference;
            is_borrowed = first || second;
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn write_decimal(mut self, out: &mut Vec<u8>) {
        const CHUNK: u64 = 10u64.pow(19);
        let mut chunks = Vec::new();
        while !self.0.is_empty() {
            let mut remainder = 0u64;
            for limb in self.0.iter_mut().rev() {
                let dividend = u128::from(remainder) << 64 | u128::from(*limb);
                *limb = (dividend / u128::from(CHUNK)) as u64;
                remainder = (dividend % u128::from(CHUNK)) as u64;
            }
            while self.0.last() == Some(&0) {
                self.0.pop();
            }
            chunks.push(remainder);
        }
        let top = chunks.pop().unwrap_or(0);
        out.extend_from_slice(top.to_string().as_bytes());
        for chunk in chunks.iter().rev() {
            out.extend_from_slice(format!("{chunk:019}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(left: &str, right: &str) -> String {
        let [left, right] = [left, right].map(|text| LongDouble::parse(text.as_bytes()).expect("a number"));
        String::from_utf8((left + right).to_human()).expect("ASCII")
    }

    // Answers of redis-server 7.0.15 on x86-64; thousands more are compared in tests/base_oracle.rs.
    #[test]
    fn sums_as_incrbyfloat_answers() {
        for (left, right, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "200", "5200"),
            ("0", "0x10", "16"),
            ("0", "18446744073709551617", "18446744073709551616"),
            ("0", "9223372036854775807", "9223372036854775807"),
            ("0", "1e-30", "0"),
            ("-0", "-1e-30", "0"),
            ("0", "1e-4950", "0"),
            ("0", "0x1p-16445", "0"),
            ("1", "-1", "0"),
            ("1e17", "0.5", "100000000000000000.5"),
            ("3", "1.000000000000000005", "4.00000000000000001"),
        ] {
            assert_eq!(sum(left, right), expected);
        }
        assert!(sum("0", "1e4932").starts_with("1000000000000000000006018949387963891323"));
        assert_eq!(sum("0", "1e4932").len(), 4933);
    }

    #[test]
    fn what_is_no_number() {
        let long = "1".repeat(TEXT_BYTES_MAX + 1);
        let zeros = format!("0.{}1", "0".repeat(5000));
        let refused = [
            "",
            " 1",
            "1 ",
            "nan",
            "-nan",
            "1e",
            "1e+",
            ".",
            "-",
            "+",
            "1.2.3",
            "0x",
            "0x.p1",
            "1e5000",
            "1e4933",
            "1e-4951",
            "1e-99999999999999999999",
            "1e99999999999999999999",
            "0x1p16384",
            "0x1p-16446",
            "1\0",
            "e5",
            &long,
            &zeros,
        ];
        for text in refused {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        for text in [
            "inf",
            "-Infinity",
            "0e99999999999999999999",
            "0x0p99999999999999999999",
            "+1",
            "1.",
            ".5",
            &long[1..4900],
        ] {
            assert!(LongDouble::parse(text.as_bytes()).is_some(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_finite() {
        let infinity = LongDouble::from_f64(f64::INFINITY);
        let large = LongDouble::parse(b"1.1e4932").expect("a number");
        assert_eq!(large + large, infinity);
        assert_eq!((infinity + LongDouble::from_f64(f64::NEG_INFINITY)).to_human(), b"nan");
        assert_eq!((LongDouble::from_f64(f64::NEG_INFINITY) + large).to_human(), b"-inf");
        assert!(!(infinity + infinity).is_finite());
    }

    #[test]
    fn the_long_way_gives_what_the_short_way_gives() {
        let mut generator = fastrand::Rng::with_seed(11);
        for _ in 0..5000 {
            let value = generator.u64(..10u64.pow(19)) >> generator.u32(..60);
            let exponent = generator.i32(-27..=27);
            let short = LongDouble::parse(format!("{value}e{exponent}").as_bytes());
            // Zeros behind the digits make more than nineteen of them.
            let long = LongDouble::parse(format!("{value}{}e{}", "0".repeat(20), exponent - 20).as_bytes());
            assert_eq!(short, long, "{value}e{exponent}");
        }
    }

    #[test]
    fn doubles_and_integers_are_exact() {
        assert_eq!(LongDouble::from_i64(i64::MIN).to_human(), b"-9223372036854775808");
        assert_eq!(LongDouble::from_f64(0.1).to_human(), b"0.10000000000000001");
        assert_eq!(LongDouble::from_f64(5e-324).to_human(), b"0");
        assert_eq!(LongDouble::from_f64(-1.5).to_human(), b"-1.5");
        assert_eq!(
            LongDouble::from_f64(2f64.powi(100)).to_human(),
            b"1267650600228229401496703205376"
        );
    }
}
