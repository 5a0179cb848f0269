//! Numbers among the arguments, refused with the texts that Redis has for each kind of them.

use crate::base::numbers::{as_c_text, parse_i64, parse_u64};
use crate::resp::{ReplyError, error};
use std::ops::RangeInclusive;

/// A signed integer in its canonical form.
#[inline]
pub fn integer(text: &[u8]) -> Result<i64, ReplyError> {
    parse_i64(text).ok_or(error::NOT_AN_INTEGER)
}

/// An integer of this range; anything else is refused with this error.
pub fn integer_in(text: &[u8], range: RangeInclusive<i64>, otherwise: ReplyError) -> Result<i64, ReplyError> {
    parse_i64(text).filter(|number| range.contains(number)).ok_or(otherwise)
}

/// A cursor of SCAN and its relatives. Redis reads an integer in its own form first, which must not be negative, and anything else by
/// strtoull, which takes space in front, a sign (-01 is the greatest number), zeros in front, and ends at a zero byte.
pub fn cursor(text: &[u8]) -> Result<u64, ReplyError> {
    let text = as_c_text(text);
    if let Some(number) = parse_i64(text) {
        return u64::try_from(number).map_err(|_| error::INVALID_CURSOR);
    }
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\x0b';
    let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let (digits, is_negative) = match &text[start..] {
        [b'-', digits @ ..] => (digits, true),
        [b'+', digits @ ..] => (digits, false),
        digits => (digits, false),
    };
    let significant = digits.iter().position(|&digit| digit != b'0').unwrap_or(digits.len());
    let number = match &digits[significant..] {
        [] if !digits.is_empty() => Some(0),
        rest => parse_u64(rest),
    };
    let number = number.ok_or(error::INVALID_CURSOR)?;
    Ok(if is_negative { number.wrapping_neg() } else { number })
}

/// An integer that can be negated: the smallest one of 64 bits is out of range.
pub fn negatable(text: &[u8]) -> Result<i64, ReplyError> {
    match integer(text)? {
        i64::MIN => Err(error::out_of_bounds(-i64::MAX, i64::MAX)),
        number => Ok(number),
    }
}

/// How many elements to take: LPOP, SPOP and their like.
pub fn element_count(text: &[u8]) -> Result<usize, ReplyError> {
    natural(text, 0, error::NOT_POSITIVE)
}

/// An integer from `low` up; what is no such number is refused with this error.
pub fn natural(text: &[u8], low: i64, otherwise: ReplyError) -> Result<usize, ReplyError> {
    let number = integer_in(text, low.max(0)..=i64::MAX, otherwise)?;
    // Only where addresses are shorter than 64 bits, and there no value has so many elements.
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}
