//! Which elements a command names: ranges by rank, by score, by member, and what LIMIT leaves of them.
//!
//! Each kind of range ends up as a `Range<usize>` of ranks (`SortedSetRef::ranks_by_score` and its relatives), counted from
//! the lowest element; a direction is only how such a range is read. So ZCOUNT is its length, ZREMRANGEBY* cuts it out, and
//! LIMIT takes something off its ends without reading what it skips.
//!
//! The text forms are Redis's (documented at ZRANGE, ZRANGEBYSCORE, ZRANGEBYLEX); what happens to odd ones was asked of
//! redis-server 7.0.15. Wordings of errors are not known here: a text that is refused is `None`.

use std::ops::Range;

use crate::base::numbers::{as_c_text, parse_f64};

/// The ranks that `start` and `stop` name in a sorted set of `len` elements: both included, negative ones counted from the
/// end (-1 is the last element), and cut to what exists.
pub fn resolve_ranks(start: i64, stop: i64, len: usize) -> Range<usize> {
    let from_end = |index: i64| {
        if index < 0 {
            index.saturating_add_unsigned(len as u64)
        } else {
            index
        }
    };
    let from = from_end(start).max(0) as usize;
    let Ok(last) = usize::try_from(from_end(stop)) else {
        return 0..0;
    };
    if from > last || from >= len {
        return 0..0;
    }
    from..last.min(len - 1) + 1
}

/// The same for ranks that are counted from the highest element (REV).
pub fn resolve_ranks_reversed(start: i64, stop: i64, len: usize) -> Range<usize> {
    let reversed = resolve_ranks(start, stop, len);
    if reversed.is_empty() {
        return 0..0;
    }
    len - reversed.end..len - reversed.start
}

/// What `LIMIT offset count` leaves of a range that is read forwards or, if `is_reversed`, backwards. A negative count is no bound;
/// a negative offset leaves nothing, as in Redis.
pub fn limit(ranks: Range<usize>, offset: i64, count: i64, is_reversed: bool) -> Range<usize> {
    let Ok(offset) = usize::try_from(offset) else {
        return 0..0;
    };
    if offset >= ranks.len() {
        return 0..0;
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(ranks.len() - offset);
    if is_reversed {
        let end = ranks.end - offset;
        end - count..end
    } else {
        let start = ranks.start + offset;
        start..start + count
    }
}

/// One end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    /// The score; never NaN.
    pub score: f64,
    /// Whether elements with just this score are left out.
    pub is_exclusive: bool,
}

impl ScoreBound {
    /// Reads `1.5`, `(1.5`, `-inf`. Redis hands this to `strtod` without looking at anything but where it stopped: spaces before the
    /// number are fine, nothing at all is 0, and what is too large for a double is infinite. Only NaN and rubbish are refused.
    pub fn parse(text: &[u8]) -> Option<ScoreBound> {
        let (number, is_exclusive) = match text {
            [b'(', rest @ ..] => (rest, true),
            rest => (rest, false),
        };
        let number = as_c_text(number);
        if number.is_empty() {
            return Some(ScoreBound {
                score: 0.0,
                is_exclusive,
            });
        }
        let spaces = number
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b)
            .count();
        let number = &number[spaces..];
        let score = parse_f64(number).or_else(|| {
            let rounded: f64 = str::from_utf8(number).ok()?.parse().ok()?;
            (!rounded.is_nan()).then_some(rounded)
        })?;
        Some(ScoreBound { score, is_exclusive })
    }
}

/// A range of scores. The lower bound comes first, whatever the direction of reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    /// The lower end.
    pub min: ScoreBound,
    /// The upper end.
    pub max: ScoreBound,
}

impl ScoreRange {
    /// Every score.
    pub const ALL: ScoreRange = ScoreRange {
        min: ScoreBound {
            score: f64::NEG_INFINITY,
            is_exclusive: false,
        },
        max: ScoreBound {
            score: f64::INFINITY,
            is_exclusive: false,
        },
    };

    /// Reads both ends.
    pub fn parse(min: &[u8], max: &[u8]) -> Option<ScoreRange> {
        Some(ScoreRange {
            min: ScoreBound::parse(min)?,
            max: ScoreBound::parse(max)?,
        })
    }

    /// Whether a score lies below the range.
    #[inline]
    pub fn is_below(&self, score: f64) -> bool {
        score < self.min.score || (self.min.is_exclusive && score == self.min.score)
    }

    /// Whether a score lies above the range.
    #[inline]
    pub fn is_above(&self, score: f64) -> bool {
        score > self.max.score || (self.max.is_exclusive && score == self.max.score)
    }
}

/// One end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    /// `-`: before every member.
    Lowest,
    /// `+`: after every member.
    Highest,
    /// `[member`.
    Inclusive(&'a [u8]),
    /// `(member`.
    Exclusive(&'a [u8]),
}

impl<'a> LexBound<'a> {
    /// Reads `-`, `+`, `[member`, `(member`.
    pub fn parse(text: &'a [u8]) -> Option<LexBound<'a>> {
        match text {
            b"-" => Some(LexBound::Lowest),
            b"+" => Some(LexBound::Highest),
            [b'[', member @ ..] => Some(LexBound::Inclusive(member)),
            [b'(', member @ ..] => Some(LexBound::Exclusive(member)),
            _ => None,
        }
    }
}

/// A range of members, meant for elements of equal score. The lower bound comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LexRange<'a> {
    /// The lower end.
    pub min: LexBound<'a>,
    /// The upper end.
    pub max: LexBound<'a>,
}

impl<'a> LexRange<'a> {
    /// Reads both ends.
    pub fn parse(min: &'a [u8], max: &'a [u8]) -> Option<LexRange<'a>> {
        Some(LexRange {
            min: LexBound::parse(min)?,
            max: LexBound::parse(max)?,
        })
    }

    /// Whether a member lies below the range.
    #[inline]
    pub fn is_below(&self, member: &[u8]) -> bool {
        match self.min {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::Inclusive(min) => member < min,
            LexBound::Exclusive(min) => member <= min,
        }
    }

    /// Whether a member lies above the range.
    #[inline]
    pub fn is_above(&self, member: &[u8]) -> bool {
        match self.max {
            LexBound::Lowest => true,
            LexBound::Highest => false,
            LexBound::Inclusive(max) => member > max,
            LexBound::Exclusive(max) => member >= max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_cut_to_what_exists() {
        let cases = [
            (0, -1, 5, 0..5),
            (1, 2, 5, 1..3),
            (-2, -1, 5, 3..5),
            (-100, 100, 5, 0..5),
            (3, 2, 5, 0..0),
            (5, 9, 5, 0..0),
            (0, -6, 5, 0..0),
            (i64::MIN, i64::MAX, 5, 0..5),
            (0, -1, 0, 0..0),
        ];
        for (start, stop, len, ranks) in cases {
            assert_eq!(resolve_ranks(start, stop, len), ranks, "{start} {stop}");
        }
        assert_eq!(resolve_ranks_reversed(0, 1, 5), 3..5);
        assert_eq!(resolve_ranks_reversed(-1, -1, 5), 0..1);
        assert_eq!(resolve_ranks_reversed(7, 9, 5), 0..0);
    }

    #[test]
    fn limit_takes_from_the_end_where_reading_begins() {
        assert_eq!(limit(10..20, 0, -1, false), 10..20);
        assert_eq!(limit(10..20, 3, 2, false), 13..15);
        assert_eq!(limit(10..20, 3, 2, true), 15..17);
        assert_eq!(limit(10..20, 8, 100, true), 10..12);
        assert_eq!(limit(10..20, 10, 1, false), 0..0);
        assert_eq!(limit(10..20, -1, 1, false), 0..0);
        assert_eq!(limit(10..20, 0, 0, false), 10..10);
        assert_eq!(limit(10..20, i64::MAX, i64::MAX, true), 0..0);
    }

    #[test]
    fn bounds_as_redis_reads_them() {
        let accepted: [(&str, f64, bool); 11] = [
            ("", 0.0, false),
            (" 1", 1.0, false),
            ("(", 0.0, true),
            ("( 1", 1.0, true),
            ("1e400", f64::INFINITY, false),
            ("(-1e400", f64::NEG_INFINITY, true),
            ("0x2", 2.0, false),
            ("+1", 1.0, false),
            ("1e-400", 0.0, false),
            ("INF", f64::INFINITY, false),
            ("-inf", f64::NEG_INFINITY, false),
        ];
        for (text, score, is_exclusive) in accepted {
            let bound = ScoreBound { score, is_exclusive };
            assert_eq!(ScoreBound::parse(text.as_bytes()), Some(bound), "{text:?}");
        }
        for text in ["1 ", "nan", "(nan", "((1", "1x", "[1", " ", "+-1"] {
            assert_eq!(ScoreBound::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(LexBound::parse(b"-"), Some(LexBound::Lowest));
        assert_eq!(LexBound::parse(b"+"), Some(LexBound::Highest));
        assert_eq!(LexBound::parse(b"["), Some(LexBound::Inclusive(b"")));
        assert_eq!(LexBound::parse(b"(a"), Some(LexBound::Exclusive(b"a")));
        for text in ["", "a", "+a", "-a"] {
            assert_eq!(LexBound::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
