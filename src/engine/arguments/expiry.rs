//! Times that commands are given: `EX`, `PX`, `EXAT`, `PXAT`, and the arguments of SETEX, EXPIRE and their relatives.
//!
//! Redis has two rules for the same texts, and clients see the difference:
//!
//! | rule | who | accepts |
//! |---|---|---|
//! | [`GivenTime::in_future_of`] | SET, GETEX, SETEX, PSETEX | positive numbers only; an absolute time may lie in the past |
//! | [`GivenTime::any_time`] | EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT | negative ones too, which delete the key |
//!
//! Both answer NOT_AN_INTEGER for what is no 64-bit integer in canonical form, and `invalid expire time in '<command>'
//! command` where the sum with the present, in milliseconds, leaves the 64 bits. Seconds are multiplied first, so
//! numbers are refused that would fit after all; this is Redis's arithmetic, kept as it is.
//!
//! Syntax and value are read in two steps ([`ExpiryOptions`] keeps the text), because commands look at their key in
//! between: `GETEX missing EX 0` is nil and no error.

use super::is_word;
use crate::base::clock::UnixMs;
use crate::base::numbers::parse_i64;
use crate::resp::{Args, ReplyError, error};

/// In what a time is counted, and from when on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeForm {
    /// `EX`, SETEX, EXPIRE.
    Seconds,
    /// `PX`, PSETEX, PEXPIRE.
    Milliseconds,
    /// `EXAT`, EXPIREAT: since 1970.
    UnixSeconds,
    /// `PXAT`, PEXPIREAT: since 1970.
    UnixMilliseconds,
}

/// A time as it was given: nothing but its place among the options has been checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GivenTime<'a> {
    pub form: TimeForm,
    pub text: &'a [u8],
}

/// The options of one call that concern the expiry. At most one of the three kinds is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExpiryOptions<'a> {
    pub time: Option<GivenTime<'a>>,
    /// `KEEPTTL`.
    pub keeps_ttl: bool,
    /// `PERSIST`.
    pub persists: bool,
}

impl TimeForm {
    /// The form that an option's word names.
    pub fn named(word: &[u8]) -> Option<TimeForm> {
        let forms: [(&[u8], TimeForm); 4] = [
            (b"EX", TimeForm::Seconds),
            (b"PX", TimeForm::Milliseconds),
            (b"EXAT", TimeForm::UnixSeconds),
            (b"PXAT", TimeForm::UnixMilliseconds),
        ];
        forms
            .into_iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name))
            .map(|(_, form)| form)
    }

    /// Whether it is counted from 1970 on and not from now.
    pub fn is_absolute(self) -> bool {
        matches!(self, TimeForm::UnixSeconds | TimeForm::UnixMilliseconds)
    }

    fn is_seconds(self) -> bool {
        matches!(self, TimeForm::Seconds | TimeForm::UnixSeconds)
    }
}

impl GivenTime<'_> {
    /// The point of time that SET and its relatives mean. `command` is named by the error.
    pub fn in_future_of(self, now: UnixMs, command: &str) -> Result<UnixMs, ReplyError> {
        let given = parse_i64(self.text).ok_or(error::NOT_AN_INTEGER)?;
        let invalid = || error::invalid_expire(command);
        if given <= 0 {
            return Err(invalid());
        }
        self.absolute_ms(given, now)
            .map(UnixMs::from_signed)
            .ok_or_else(invalid)
    }

    /// The point of time that EXPIRE and its relatives mean, in signed milliseconds since 1970: what is not in the future
    /// deletes the key. `command` is named by the error.
    pub fn any_time(self, now: UnixMs, command: &str) -> Result<i64, ReplyError> {
        let given = parse_i64(self.text).ok_or(error::NOT_AN_INTEGER)?;
        self.absolute_ms(given, now)
            .ok_or_else(|| error::invalid_expire(command))
    }

    /// `None`: beyond 64 bits on the way.
    fn absolute_ms(self, given: i64, now: UnixMs) -> Option<i64> {
        let ms = if self.form.is_seconds() {
            given.checked_mul(1000)?
        } else {
            given
        };
        if self.form.is_absolute() {
            Some(ms)
        } else {
            ms.checked_add(now.signed())
        }
    }
}

impl<'a> ExpiryOptions<'a> {
    /// Takes the option at `index` if it is a time, and answers the index behind it. An option may be given twice, the
    /// last one counts; a different one beside it is a syntax error, which here means that nothing is taken.
    pub fn take_time(&mut self, args: Args<'a>, index: usize) -> Option<usize> {
        let form = TimeForm::named(args.get(index)?)?;
        let text = args.get(index + 1)?;
        if self.keeps_ttl || self.persists || self.time.is_some_and(|time| time.form != form) {
            return None;
        }
        self.time = Some(GivenTime { form, text });
        Some(index + 2)
    }

    /// Takes `KEEPTTL`.
    pub fn take_keep(&mut self, args: Args<'a>, index: usize) -> Option<usize> {
        let is_taken = is_word(args, index, b"KEEPTTL") && !self.persists && self.time.is_none();
        self.keeps_ttl |= is_taken;
        is_taken.then_some(index + 1)
    }

    /// Takes `PERSIST`.
    pub fn take_persist(&mut self, args: Args<'a>, index: usize) -> Option<usize> {
        let is_taken = is_word(args, index, b"PERSIST") && !self.keeps_ttl && self.time.is_none();
        self.persists |= is_taken;
        is_taken.then_some(index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn future(form: TimeForm, text: &str) -> Result<u64, String> {
        let time = GivenTime {
            form,
            text: text.as_bytes(),
        };
        time.in_future_of(NOW, "set").map(|at| at.0).map_err(|e| e.to_string())
    }

    fn any(form: TimeForm, text: &str) -> Result<i64, String> {
        let time = GivenTime {
            form,
            text: text.as_bytes(),
        };
        time.any_time(NOW, "expire").map_err(|e| e.to_string())
    }

    #[test]
    fn times_of_set() {
        use TimeForm::*;
        assert_eq!(future(Seconds, "10"), Ok(NOW.0 + 10_000));
        assert_eq!(future(Milliseconds, "10"), Ok(NOW.0 + 10));
        assert_eq!(future(UnixSeconds, "10"), Ok(10_000));
        assert_eq!(future(UnixMilliseconds, "10"), Ok(10));
        assert_eq!(future(UnixMilliseconds, "9223372036854775807"), Ok(i64::MAX as u64));
        let invalid = Err("ERR invalid expire time in 'set' command".to_owned());
        assert_eq!(future(Seconds, "0"), invalid);
        assert_eq!(future(Seconds, "-1"), invalid);
        assert_eq!(future(Seconds, "9223372036854776"), invalid);
        assert_eq!(
            future(Seconds, "9223372036854775"),
            invalid,
            "the sum leaves the 64 bits"
        );
        assert_eq!(future(Milliseconds, "9223372036854775807"), invalid);
        assert_eq!(future(UnixSeconds, "9223372036854776"), invalid);
        for text in ["", "x", "1.5", " 1", "9223372036854775808"] {
            assert_eq!(
                future(Seconds, text),
                Err(error::NOT_AN_INTEGER.to_string()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn times_of_expire() {
        use TimeForm::*;
        assert_eq!(any(Seconds, "-1"), Ok(NOW.0 as i64 - 1000));
        assert_eq!(any(Milliseconds, "-9223372036854775808"), Ok(i64::MIN + NOW.0 as i64));
        assert_eq!(any(UnixMilliseconds, "-5"), Ok(-5));
        let invalid = Err("ERR invalid expire time in 'expire' command".to_owned());
        assert_eq!(any(Seconds, "-9223372036854776"), invalid);
        assert_eq!(any(Milliseconds, "9223372036854775807"), invalid);
        assert_eq!(any(Seconds, "1x"), Err(error::NOT_AN_INTEGER.to_string()));
    }

    #[test]
    fn options_exclude_each_other() {
        let taken = |line: &str| {
            let owned = OwnedArgs::from_slices(&line.split(' ').collect::<Vec<_>>());
            let args = owned.as_args();
            let mut options = ExpiryOptions::default();
            let mut index = 0;
            while index < args.len() {
                let next = options.take_time(args, index);
                let next = next.or_else(|| options.take_keep(args, index));
                index = next.or_else(|| options.take_persist(args, index))?;
            }
            let text = options.time.map(|time| String::from_utf8_lossy(time.text).into_owned());
            Some((text.unwrap_or_default(), options.keeps_ttl, options.persists))
        };
        assert_eq!(taken("ex 1"), Some(("1".into(), false, false)));
        assert_eq!(taken("EX 1 ex 2"), Some(("2".into(), false, false)));
        assert_eq!(taken("keepTTL KEEPTTL"), Some((String::new(), true, false)));
        assert_eq!(taken("persist"), Some((String::new(), false, true)));
        for refused in [
            "ex",
            "ex 1 px 1",
            "exat 1 ex 1",
            "keepttl ex 1",
            "px 1 keepttl",
            "persist keepttl",
            "pxat 1 persist",
            "foo",
        ] {
            assert_eq!(taken(refused), None, "{refused}");
        }
    }
}
