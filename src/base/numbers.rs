//! Numbers as Redis reads and writes them: integers exactly in their shortest decimal form, doubles as C's `strtod` reads
//! them and as Redis 7.2 prints them.
//!
//! Reading an integer is strict because a string that reads as one may be *stored* as one: only the text that the number
//! would print as again is accepted. Reading a double is generous (hexadecimal, `inf`, exponents) because scores come from
//! everywhere, but never NaN, spaces, or a number too large or too small for a double. Checked against redis-server 7.0.15
//! (INCRBY, ZADD). Printing follows Redis 7.2: few digits that read back as the same double, where 7.0 still printed seventeen.
//!
//! `str::parse` does the decimal doubles (correctly rounded, as glibc's), [`grisu`] finds the digits; the layout of those
//! digits, below, is Redis's (`1e+20`, `1.2345e-7`).

use super::grisu::{self, DIGIT_COUNT_MAX};
use super::long_double::{Unrounded, read_radix16};

/// The longest text [`format_f64`] makes: sign, 18 digits, point, and `e-308`; or 25 digits and zeros.
const F64_TEXT_BYTES_MAX: usize = 32;

/// As much of a text as C sees of it, which is what Redis reads in some places: it ends before the first zero byte.
pub fn as_c_text(text: &[u8]) -> &[u8] {
    memchr::memchr(0, text).map_or(text, |end| &text[..end])
}

/// Reads a signed integer in its one canonical form: no sign but `-`, no leading zeros, no `-0`, no spaces.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let magnitude = parse_u64(digits)?;
    if !is_negative {
        return i64::try_from(magnitude).ok();
    }
    match magnitude {
        0 => None,
        1..=0x8000_0000_0000_0000 => Some((magnitude as i64).wrapping_neg()),
        _ => None,
    }
}

/// Reads an unsigned integer in its one canonical form: digits only, no leading zeros.
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    let (&first, rest) = digits.split_first()?;
    let first = first.wrapping_sub(b'0');
    if first > 9 || (first == 0 && !rest.is_empty()) {
        return None;
    }
    let mut value = u64::from(first);
    if digits.len() < 20 {
        // Nineteen digits always fit.
        for byte in rest {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + u64::from(digit);
        }
        return Some(value);
    }
    if digits.len() > 20 {
        return None;
    }
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// Reads a double as C's `strtod` in the C locale does, all of `text` and nothing else: decimal, hexadecimal (`0x1.8p3`), `inf`
/// and `infinity` in any case. `None` for NaN, for what is not a number, and for a number that a double cannot hold: one that
/// would become infinite, or zero without being zero.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let unsigned = match text {
        [b'+' | b'-', rest @ ..] => rest,
        rest => rest,
    };
    if let [b'0', b'x' | b'X', hexadecimal @ ..] = unsigned {
        let magnitude = radix16_to_f64(read_radix16(hexadecimal)?)?;
        return Some(if text[0] == b'-' { -magnitude } else { magnitude });
    }
    let value: f64 = str::from_utf8(text).ok()?.parse().ok()?;
    if value.is_nan() {
        return None;
    }
    // The text is a number now, so the first byte tells the words from the digits.
    let is_word = unsigned[0].is_ascii_alphabetic();
    if value.is_infinite() && !is_word {
        return None;
    }
    if value == 0.0 {
        let mantissa = unsigned.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
        if mantissa.into_iter().any(|byte| matches!(byte, b'1'..=b'9')) {
            return None;
        }
    }
    Some(value)
}

/// Rounds to a double, to nearest and ties to even; `None` when it overflows or vanishes.
fn radix16_to_f64(number: Unrounded) -> Option<f64> {
    if number.bits == 0 {
        return Some(0.0);
    }
    if number.top() > 1023 {
        return None;
    }
    // Below 2^-1022 a double keeps fewer than 53 bits: its last bit is worth 2^-1074.
    let last_bit = (number.top() - 52).max(-1074);
    let rounded = number.rounded_at(last_bit) as u64;
    // Both factors are exact, as rounded has at most 54 bits and is even when it has 54. So is the product, unless it overflows.
    let value = rounded as f64 * power_of_two(last_bit);
    (value.is_finite() && value != 0.0).then_some(value)
}

/// Two to the power of `exponent`, which must lie in -1074 ..= 1023.
fn power_of_two(exponent: i32) -> f64 {
    if exponent >= -1022 {
        f64::from_bits(((exponent + 1023) as u64) << 52)
    } else {
        f64::from_bits(1u64 << (exponent + 1074))
    }
}

/// The text of a double; see [`format_f64`]. Reads as a byte slice.
#[derive(Clone, Copy)]
pub struct F64Text {
    bytes: [u8; F64_TEXT_BYTES_MAX],
    length: u8,
}

impl F64Text {
    const EMPTY: F64Text = F64Text {
        bytes: [0; F64_TEXT_BYTES_MAX],
        length: 0,
    };

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn push(&mut self, bytes: &[u8]) {
        let from = usize::from(self.length);
        self.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }

    fn push_zeros(&mut self, count: usize) {
        for _ in 0..count {
            self.push(b"0");
        }
    }
}

impl std::ops::Deref for F64Text {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Prints a double as Redis 7.2 does in replies and in stored values: `inf`, `-inf`, `nan`, `-0`; whole numbers up to 2^62 in
/// full; all others by their shortest digits, plain where that stays short and else as `d.ddde+x`.
pub fn format_f64(value: f64) -> F64Text {
    // Within ±2^62 the conversion is defined and reversible, so whole numbers take the cheap way.
    const WHOLE_MAX: f64 = (1u64 << 62) as f64;
    if value != 0.0 && (-WHOLE_MAX..=WHOLE_MAX).contains(&value) {
        let whole = value as i64;
        if whole as f64 == value {
            let mut text = F64Text::EMPTY;
            text.push(itoa::Buffer::new().format(whole).as_bytes());
            return text;
        }
    }
    format_f64_shortest(value)
}

/// As [`format_f64`], but whole numbers by their shortest digits too: 10^17 is `1e+17`.
pub fn format_f64_shortest(value: f64) -> F64Text {
    let mut text = F64Text::EMPTY;
    if value.is_nan() {
        text.push(b"nan");
        return text;
    }
    if value.is_infinite() {
        text.push(if value > 0.0 { b"inf" } else { b"-inf" });
        return text;
    }
    if value == 0.0 {
        text.push(if value.is_sign_negative() { b"-0" } else { b"0" });
        return text;
    }
    if value < 0.0 {
        text.push(b"-");
    }
    Shortest::of(value.abs()).lay_out(&mut text);
    text
}

/// Prints a double with 17 significant digits, as C's `%.17g` does: 3.3 is `3.2999999999999998`, and 10^17 is `1e+17`.
pub fn format_f64_long(value: f64) -> F64Text {
    if !value.is_finite() || value == 0.0 {
        return format_f64_shortest(value);
    }
    let mut text = F64Text::EMPTY;
    if value < 0.0 {
        text.push(b"-");
    }
    // One digit, the point, sixteen digits, and the exponent.
    let printed = format!("{:.16e}", value.abs());
    let (mantissa, exponent) = printed.split_once('e').expect("such a number has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0').as_bytes();
    if !(-4..17).contains(&exponent) {
        text.push(&digits[..1]);
        if digits.len() > 1 {
            text.push(b".");
            text.push(&digits[1..]);
        }
        text.push(
            format!(
                "e{}{:02}",
                if exponent < 0 { '-' } else { '+' },
                exponent.unsigned_abs()
            )
            .as_bytes(),
        );
    } else if exponent < 0 {
        text.push(b"0.");
        text.push_zeros(exponent.unsigned_abs() as usize - 1);
        text.push(digits);
    } else {
        let whole = exponent as usize + 1;
        text.push(&digits[..whole.min(digits.len())]);
        text.push_zeros(whole.saturating_sub(digits.len()));
        if digits.len() > whole {
            text.push(b".");
            text.push(&digits[whole..]);
        }
    }
    text
}

/// A positive number as `digits` times ten to the power `exponent`.
struct Shortest {
    digits: [u8; DIGIT_COUNT_MAX],
    count: usize,
    exponent: i32,
}

impl Shortest {
    fn of(value: f64) -> Shortest {
        let mut digits = [0; DIGIT_COUNT_MAX];
        let (count, exponent) = grisu::digits(value, &mut digits);
        Shortest {
            digits,
            count,
            exponent,
        }
    }

    fn lay_out(&self, text: &mut F64Text) {
        let digits = &self.digits[..self.count];
        let point = self.count as i32 + self.exponent;
        // The exponent if one digit stands before the point.
        let scientific = point - 1;
        if self.exponent >= 0 && scientific.abs() < self.count as i32 + 7 {
            text.push(digits);
            text.push_zeros(self.exponent as usize);
        } else if self.exponent < 0 && (self.exponent > -7 || scientific.abs() < 4) {
            if point <= 0 {
                text.push(b"0.");
                text.push_zeros(-point as usize);
                text.push(digits);
            } else {
                text.push(&digits[..point as usize]);
                text.push(b".");
                text.push(&digits[point as usize..]);
            }
        } else {
            text.push(&digits[..1]);
            if self.count > 1 {
                text.push(b".");
                text.push(&digits[1..]);
            }
            text.push(if scientific < 0 { b"e-" } else { b"e+" });
            text.push(itoa::Buffer::new().format(scientific.unsigned_abs()).as_bytes());
        }
    }
}

/// Appends the decimal text of `value`.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the decimal text of `value`.
pub fn write_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// How many bytes the decimal text of `value` has.
pub fn i64_text_bytes(value: i64) -> usize {
    usize::from(value < 0)
        + value
            .unsigned_abs()
            .checked_ilog10()
            .map_or(1, |power| power as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_canonical_form_only() {
        for value in [0, 1, -1, 9, 10, 99, i64::MAX, i64::MIN, i64::MIN + 1, 1 << 40] {
            let text = value.to_string();
            assert_eq!(parse_i64(text.as_bytes()), Some(value));
            assert_eq!(i64_text_bytes(value), text.len());
        }
        let refused = [
            "",
            "-",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "--1",
            "-01",
            "1.0",
            "9223372036854775808",
            "-9223372036854775809",
            "00000000000000000001",
            "18446744073709551616",
            "1\0",
            "99999999999999999999",
            "１",
        ];
        for text in refused {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"-1"), None);
        assert_eq!(parse_u64(b"1844674407370955161a"), None);
    }

    #[test]
    fn doubles_as_zadd_reads_them() {
        let accepted: [(&str, f64); 27] = [
            ("1", 1.0),
            ("+1", 1.0),
            ("-1", -1.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("1e5", 1e5),
            ("1E+5", 1e5),
            ("inf", f64::INFINITY),
            ("+inf", f64::INFINITY),
            ("-INF", f64::NEG_INFINITY),
            ("Infinity", f64::INFINITY),
            ("-infinity", f64::NEG_INFINITY),
            ("0x10", 16.0),
            ("0X1p3", 8.0),
            ("0x1.8", 1.5),
            ("0x.8p1", 1.0),
            ("-0x1p-2", -0.25),
            ("0e-400", 0.0),
            ("4e-324", 5e-324),
            ("3e-324", 5e-324),
            ("0x1p-1074", 5e-324),
            ("0x1.8p-1075", 5e-324),
            ("0x1p1023", 8.98846567431158e307),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.fffffffffffff7ffffp0", 1.9999999999999998),
            ("0x0p99999999999999999999", 0.0),
            ("0e99999999999999999999", 0.0),
        ];
        for (text, value) in accepted {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
        let refused = [
            "",
            " 1",
            "1 ",
            "\t1",
            ".",
            "1e",
            "infinit",
            "nan",
            "NaN",
            "-nan",
            "nan(1)",
            "0x",
            "0x.",
            "0x1p",
            "0x1p+",
            "1e400",
            "-1e400",
            "1e-400",
            "2e-324",
            "1.8e308",
            "0x1p1024",
            "0x1.fffffffffffff8p1023",
            "0x1p-1075",
            "0x1p-1080",
            "1d",
            "1f",
            "1_0",
            "1\0",
            "0x1p99999999999999999999",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "0x1p-99999999999999999999",
            "+",
            "-",
            "--1",
            "+-1",
            "0x+1",
            "0x1p0x1",
            "1e5.5",
        ];
        for text in refused {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text:?}");
        }
        assert!(parse_f64(b"-0").is_some_and(|zero| zero.is_sign_negative()));
        assert!(parse_f64(b"-0x0").is_some_and(|zero| zero.is_sign_negative()));
    }

    #[test]
    fn doubles_as_redis_7_2_prints_them() {
        let printed: [(f64, &str); 30] = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (100000.0, "100000"),
            (1e15, "1000000000000000"),
            (1e18, "1000000000000000000"),
            (4.611686018427388e18, "4611686018427387904"),
            (1e19, "1e+19"),
            (1e20, "1e+20"),
            (1.2345678901234567e19, "12345678901234567000"),
            (1e21, "1e+21"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (1e-7, "1e-7"),
            (1.2345e-7, "1.2345e-7"),
            (0.00001, "0.00001"),
            (0.000001, "0.000001"),
            (3.0000000000000004, "3.0000000000000004"),
            (13.361389338970184, "13.361389338970184"),
            (12345.12345678, "1.234512345678e+4"),
            (1234.12345678, "1234.12345678"),
            (0.0012345678, "0.0012345678"),
            (0.00012345678, "1.2345678e-4"),
            (-2.5e-10, "-2.5e-10"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in printed {
            assert_eq!(str::from_utf8(&format_f64(value)), Ok(text));
        }
        assert_eq!(&*format_f64(f64::NAN), b"nan");
    }

    #[test]
    fn seventeen_digits_are_those_of_c() {
        let printed = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (3.3, "3.2999999999999998"),
            (-0.1, "-0.10000000000000001"),
            (1234.5, "1234.5"),
            (100.0, "100"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (-123456789012345678.0, "-1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (1.7e308, "1.6999999999999999e+308"),
            (-2.2250738585072014e-308, "-2.2250738585072014e-308"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in printed {
            assert_eq!(str::from_utf8(&format_f64_long(value)), Ok(text));
        }
        let mut generator = fastrand::Rng::with_seed(9);
        for _ in 0..50_000 {
            let value = match generator.bool() {
                true => f64::from_bits(generator.u64(..)),
                false => generator.i64(-999_999..999_999) as f64 / 10f64.powi(generator.i32(0..10)),
            };
            if value.is_finite() {
                let mut buffer = [0u8; 64];
                // SAFETY: the format takes one double, and at most as much is written as there is room.
                let length =
                    unsafe { libc::snprintf(buffer.as_mut_ptr().cast(), buffer.len(), c"%.17g".as_ptr(), value) };
                assert_eq!(&*format_f64_long(value), &buffer[..length as usize], "{value:e}");
            }
        }
    }

    #[test]
    fn any_double_reads_back_as_itself() {
        let mut generator = fastrand::Rng::with_seed(7);
        for _ in 0..200_000 {
            let value = match generator.u8(..4) {
                0 => f64::from_bits(generator.u64(..)),
                1 => generator.i64(..) as f64 / 10f64.powi(generator.i32(0..20)),
                2 => (generator.f64() * 1e6).round() / 1e3,
                _ => generator.i64(..) as f64,
            };
            if value.is_nan() {
                continue;
            }
            let text = format_f64(value);
            assert_eq!(
                parse_f64(&text).map(f64::to_bits),
                Some(value.to_bits()),
                "{}",
                String::from_utf8_lossy(&text)
            );
        }
    }

    #[test]
    fn hexadecimal_agrees_with_the_bits() {
        let mut generator = fastrand::Rng::with_seed(8);
        for _ in 0..50_000 {
            let value = f64::from_bits(generator.u64(..) & (u64::MAX >> 1));
            if !value.is_finite() || value == 0.0 {
                continue;
            }
            let bits = value.to_bits();
            let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
            let text = match exponent {
                0 => format!("0x0.{fraction:013x}p-1022"),
                _ => format!("0x1.{fraction:013x}p{}", exponent - 1023),
            };
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
    }
}
