//! Key specs: where in its arguments a command's keys stand, and what it does with them.
//!
//! A spec has two steps, as in Redis: where the search *begins* (an index, or behind a keyword) and how the keys are
//! *found* from there (a range with a step, or a count argument followed by the keys). What two steps cannot say
//! (`SORT ... STORE`, `MIGRATE`) is [`Find::Unknown`] or [`Begin::Unknown`], with the literal's own function in the
//! command layer finding the keys.

use super::flags::bit_set;

bit_set! {
    /// What a command does with the keys of a spec, with Redis's names.
    KeyFlags: u16 {
        RO = "RO",
        RW = "RW",
        OW = "OW",
        RM = "RM",
        ACCESS = "access",
        UPDATE = "update",
        INSERT = "insert",
        DELETE = "delete",
        NOT_KEY = "not_key",
        INCOMPLETE = "incomplete",
        VARIABLE_FLAGS = "variable_flags",
    }
}

/// Where the search for keys begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// At this argument (the command's name is 0).
    Index(usize),
    /// Behind this keyword (any letter case), looked for from `from` on; negative counts from the end and searches
    /// backwards.
    Keyword {
        keyword: &'static str,
        from: i32,
    },
    Unknown,
}

/// How the keys are found from where the search begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Find {
    /// From the beginning to `last` (relative to it; negative: from the end of the arguments, -1 the last one), every
    /// `step`-th. A `limit` of 2 or more stops after 1/limit of the remaining arguments (for `last` = -1).
    Range {
        last: i32,
        step: usize,
        limit: usize,
    },
    /// A count stands `count_at` behind the beginning, the first key `first` behind it, every `step`-th from there.
    Count {
        count_at: usize,
        first: usize,
        step: usize,
    },
    Unknown,
}

/// One key spec.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub flags: KeyFlags,
    pub begin: Begin,
    pub find: Find,
    /// Remarks shown by `COMMAND INFO`.
    pub notes: &'static str,
}

impl KeySpec {
    /// One key at an index.
    pub const fn one(index: usize, flags: KeyFlags) -> KeySpec {
        KeySpec::range(index, 0, 1, flags)
    }

    /// Keys from `first` to `last` (relative to first, or from the end when negative), every `step`-th.
    pub const fn range(first: usize, last: i32, step: usize, flags: KeyFlags) -> KeySpec {
        KeySpec {
            flags,
            begin: Begin::Index(first),
            find: Find::Range { last, step, limit: 0 },
            notes: "",
        }
    }

    /// A count at `index`, followed by that many keys.
    pub const fn counted(index: usize, flags: KeyFlags) -> KeySpec {
        KeySpec {
            flags,
            begin: Begin::Index(index),
            find: Find::Count {
                count_at: 0,
                first: 1,
                step: 1,
            },
            notes: "",
        }
    }

    /// Whether first/last/step cannot express it.
    pub fn is_movable(&self) -> bool {
        !matches!((self.begin, self.find), (Begin::Index(_), Find::Range { limit: 0, .. }))
            || self.flags.contains(KeyFlags::INCOMPLETE)
    }

    /// Whether the command may change these keys.
    pub fn writes(&self) -> bool {
        !self.flags.contains(KeyFlags::RO) && !self.flags.contains(KeyFlags::NOT_KEY)
    }
}

/// The place of one key in the arguments, and what the command does with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyPosition {
    pub index: usize,
    pub flags: KeyFlags,
}

/// Why the keys of a call could not be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidKeys;

/// Calls `found` with the position of each key of a call with these arguments, in the order of the specs.
///
/// Specs that begin or end in `Unknown` are passed over: the caller has another way to find those keys. A count that
/// is not a number, is negative, or reaches beyond the arguments, and a range without any key, is `InvalidKeys`.
pub fn key_positions<'a>(
    specs: &[KeySpec],
    arg_count: usize,
    arg: impl Fn(usize) -> &'a [u8],
    mut found: impl FnMut(KeyPosition),
) -> Result<(), InvalidKeys> {
    for spec in specs {
        if spec.flags.contains(KeyFlags::NOT_KEY) {
            continue;
        }
        let begin = match spec.begin {
            Begin::Index(index) => index,
            Begin::Keyword { keyword, from } => match keyword_position(keyword, from, arg_count, &arg) {
                Some(index) => index + 1,
                None => continue,
            },
            Begin::Unknown => continue,
        };
        if begin >= arg_count {
            return Err(InvalidKeys);
        }
        let (first, last, step) = match spec.find {
            Find::Range { last, step, limit } => {
                let last = if last >= 0 {
                    begin + last as usize
                } else if limit <= 1 {
                    (arg_count as i64 + last as i64).max(0) as usize
                } else {
                    (begin as i64 + (arg_count - begin) as i64 / limit as i64 + last as i64).max(0) as usize
                };
                (begin, last, step)
            }
            Find::Count { count_at, first, step } => {
                if begin + count_at >= arg_count {
                    return Err(InvalidKeys);
                }
                let count = parse_count(arg(begin + count_at)).ok_or(InvalidKeys)?;
                if count == 0 {
                    continue;
                }
                let first = begin + first;
                (first, first.saturating_add((count - 1).saturating_mul(step)), step)
            }
            Find::Unknown => continue,
        };
        if last >= arg_count || last < first {
            return Err(InvalidKeys);
        }
        let mut index = first;
        while index <= last {
            found(KeyPosition {
                index,
                flags: spec.flags,
            });
            index += step;
        }
    }
    Ok(())
}

fn keyword_position<'a>(keyword: &str, from: i32, arg_count: usize, arg: &impl Fn(usize) -> &'a [u8]) -> Option<usize> {
    let matches = |index: usize| arg(index).eq_ignore_ascii_case(keyword.as_bytes());
    if from >= 0 {
        (from as usize..arg_count).find(|&index| matches(index))
    } else {
        let start = arg_count.checked_sub(from.unsigned_abs() as usize)?;
        (1..=start).rev().find(|&index| matches(index))
    }
}

fn parse_count(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits
        .iter()
        .try_fold(0usize, |n, &c| c.is_ascii_digit().then(|| n * 10 + (c - b'0') as usize))
}

/// First key, last key and step over all specs, as Redis computes them for `COMMAND INFO`.
pub(super) fn legacy_range(specs: &[KeySpec]) -> (i64, i64, i64) {
    let mut whole: Option<(i64, i64, i64)> = None;
    for spec in specs {
        let (Begin::Index(first), Find::Range { last, step, limit: 0 }) = (spec.begin, spec.find) else {
            // Redis stops at the first spec that has no range.
            if whole.is_none() {
                continue;
            }
            break;
        };
        let first = first as i64;
        let last = if last >= 0 { first + last as i64 } else { last as i64 };
        let step = step as i64;
        whole = Some(match whole {
            None => (first, last, step),
            // Only specs that touch each other make one range.
            Some((f, l, s)) if first == l + 1 && s == step => (f, last, s),
            Some(kept) => kept,
        });
    }
    whole.unwrap_or((0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(specs: &[KeySpec], line: &str) -> Result<Vec<String>, InvalidKeys> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut out = Vec::new();
        key_positions(
            specs,
            args.len(),
            |i| args[i],
            |p| out.push(String::from_utf8_lossy(args[p.index]).into_owned()),
        )?;
        Ok(out)
    }

    #[test]
    fn ranges_counts_and_keywords() {
        let rw = KeyFlags::RW;
        assert_eq!(find(&[KeySpec::one(1, rw)], "get a").unwrap(), ["a"]);
        assert_eq!(
            find(&[KeySpec::range(1, -1, 2, rw)], "mset a 1 b 2").unwrap(),
            ["a", "b"]
        );
        assert_eq!(
            find(&[KeySpec::range(1, -2, 1, rw)], "blpop a b 0").unwrap(),
            ["a", "b"]
        );
        let counted = [KeySpec::one(1, rw), KeySpec::counted(2, rw)];
        assert_eq!(
            find(&counted, "zunionstore d 2 a b weights 1 2").unwrap(),
            ["d", "a", "b"]
        );
        assert_eq!(find(&counted, "zunionstore d 3 a b"), Err(InvalidKeys));
        assert_eq!(find(&counted, "zunionstore d x a b"), Err(InvalidKeys));
        let streams = [KeySpec {
            flags: rw,
            begin: Begin::Keyword {
                keyword: "STREAMS",
                from: 1,
            },
            find: Find::Range {
                last: -1,
                step: 1,
                limit: 2,
            },
            notes: "",
        }];
        assert_eq!(find(&streams, "xread count 1 streams a b 0 0").unwrap(), ["a", "b"]);
        assert_eq!(find(&streams, "xread count 1").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_first_last_and_step_cannot_say_is_movable() {
        let flags = KeyFlags::RW;
        assert!(!KeySpec::one(1, flags).is_movable());
        assert!(
            !KeySpec::one(1, flags.union(KeyFlags::VARIABLE_FLAGS)).is_movable(),
            "SET"
        );
        assert!(KeySpec::one(1, flags.union(KeyFlags::INCOMPLETE)).is_movable());
        assert!(KeySpec::counted(1, flags).is_movable());
    }

    #[test]
    fn legacy_ranges_merge_neighbours() {
        assert_eq!(
            legacy_range(&[KeySpec::one(1, KeyFlags::RW), KeySpec::one(2, KeyFlags::OW)]),
            (1, 2, 1)
        );
        assert_eq!(legacy_range(&[KeySpec::range(1, -1, 2, KeyFlags::OW)]), (1, -1, 2));
        assert_eq!(legacy_range(&[KeySpec::counted(1, KeyFlags::RO)]), (0, 0, 0));
    }
}
