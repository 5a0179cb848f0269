//! EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT and PERSIST.
//!
//! Inside there is one kind of time: an instant in Unix milliseconds. The four commands differ in the unit of their argument and in
//! what it counts from. An instant that is not in the future deletes the key at once; what is logged is `PEXPIREAT`, or that
//! deletion, since a reader of the log has another clock than we.
//!
//! The order of the checks is Redis's, and is seen by clients: options, then the number, then its range, then the key.

use crate::base::clock::UnixMs;
use crate::engine::arguments::expiry::{GivenTime, TimeForm};
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

const CONDITIONS: ArgumentKind = ArgumentKind::OneOf(&[
    Argument::word("nx", "NX"),
    Argument::word("xx", "XX"),
    Argument::word("gt", "GT"),
    Argument::word("lt", "LT"),
]);

const HISTORY: &[(&str, &str)] = &[("7.0.0", "The options `NX`, `XX`, `GT` and `LT`.")];

/// The key of the four commands.
const KEY: &[KeySpec] = &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::UPDATE))];

/// What the four commands have in common.
const fn expiring(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        group: Group::Generic,
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        categories: Categories::KEYSPACE,
        keys: KEY,
        history: HISTORY,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const EXPIRE: Command = Command {
    summary: "Sets after how many seconds a key expires.",
    since: "1.0.0",
    arguments: &[
        Argument::key("key", 0),
        arg("seconds", ArgumentKind::Integer),
        arg("condition", CONDITIONS).optional().since("7.0.0"),
    ],
    ..expiring("expire", expire)
};

fn expire(op: &mut Op) -> Result<(), ReplyError> {
    set_expiry(op, TimeForm::Seconds)
}

pub(super) const PEXPIRE: Command = Command {
    summary: "Sets after how many milliseconds a key expires.",
    since: "2.6.0",
    arguments: &[
        Argument::key("key", 0),
        arg("milliseconds", ArgumentKind::Integer),
        arg("condition", CONDITIONS).optional().since("7.0.0"),
    ],
    ..expiring("pexpire", pexpire)
};

fn pexpire(op: &mut Op) -> Result<(), ReplyError> {
    set_expiry(op, TimeForm::Milliseconds)
}

pub(super) const EXPIREAT: Command = Command {
    summary: "Sets at which Unix time, in seconds, a key expires.",
    since: "1.2.0",
    arguments: &[
        Argument::key("key", 0),
        arg("unix-time-seconds", ArgumentKind::UnixTime),
        arg("condition", CONDITIONS).optional().since("7.0.0"),
    ],
    ..expiring("expireat", expireat)
};

fn expireat(op: &mut Op) -> Result<(), ReplyError> {
    set_expiry(op, TimeForm::UnixSeconds)
}

pub(super) const PEXPIREAT: Command = Command {
    summary: "Sets at which Unix time, in milliseconds, a key expires.",
    since: "2.6.0",
    arguments: &[
        Argument::key("key", 0),
        arg("unix-time-milliseconds", ArgumentKind::UnixTime),
        arg("condition", CONDITIONS).optional().since("7.0.0"),
    ],
    ..expiring("pexpireat", pexpireat)
};

fn pexpireat(op: &mut Op) -> Result<(), ReplyError> {
    set_expiry(op, TimeForm::UnixMilliseconds)
}

pub(super) const PERSIST: Command = Command {
    summary: "Takes the expiry from a key.",
    since: "2.2.0",
    group: Group::Generic,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::WRITE.union(Flags::FAST),
    categories: Categories::KEYSPACE,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::UPDATE))],
    arguments: &[Argument::key("key", 0)],
    ..command("persist", Run::Keys(persist))
};

fn persist(op: &mut Op) -> Result<(), ReplyError> {
    let (key, db, moment) = (op.args.at(1), op.keys.db, op.keys.moment);
    let has_expiry = op.keys.peek(key)?.is_some_and(|entry| entry.expiry().is_some());
    if has_expiry {
        op.keys.slot(key)?.set_expiry(db, key, None, moment);
        op.wrote(key, Event::generic("persist"));
    }
    op.reply.integer(i64::from(has_expiry));
    Ok(())
}

fn set_expiry(op: &mut Op, form: TimeForm) -> Result<(), ReplyError> {
    let condition = Condition::parse(op.args.slice_from(3))?;
    let moment = op.keys.moment;
    let given = GivenTime {
        form,
        text: op.args.at(2),
    };
    let when = given.any_time(op.env.now, op.command.name)?;
    let (key, db) = (op.args.at(1), op.keys.db);
    let Some(entry) = op.keys.peek(key)? else {
        op.reply.integer(0);
        return Ok(());
    };
    if !condition.holds(entry.expiry().map(UnixMs::signed), when) {
        op.reply.integer(0);
        return Ok(());
    }
    if when <= moment.now.signed() {
        op.keys.slot(key)?.remove(db, key, moment);
        op.wrote(key, Event::generic("del"));
        op.instead(&[b"DEL", key]);
    } else {
        op.keys
            .slot(key)?
            .set_expiry(db, key, Some(UnixMs::from_signed(when)), moment);
        op.wrote(key, Event::generic("expire"));
        let when = itoa::Buffer::new().format(when).to_owned();
        op.instead(&[b"PEXPIREAT", key, when.as_bytes()]);
    }
    op.reply.integer(1);
    Ok(())
}

/// Under which condition the expiry is changed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    /// Reads the options; each may stand several times.
    fn parse(options: Args) -> Result<Condition, ReplyError> {
        let mut found = Condition::default();
        for option in options.iter() {
            let flag = match option {
                word if word.eq_ignore_ascii_case(b"nx") => &mut found.nx,
                word if word.eq_ignore_ascii_case(b"xx") => &mut found.xx,
                word if word.eq_ignore_ascii_case(b"gt") => &mut found.gt,
                word if word.eq_ignore_ascii_case(b"lt") => &mut found.lt,
                // Redis shows it as a C string.
                word => {
                    let shown = word.split(|&byte| byte == 0).next().unwrap_or_default();
                    return Err(ReplyError::owned([b"ERR Unsupported option ", shown].concat()));
                }
            };
            *flag = true;
        }
        if found.nx && (found.xx || found.gt || found.lt) {
            return Err(error::EXPIRE_NX_WITH_OTHERS);
        }
        if found.gt && found.lt {
            return Err(error::EXPIRE_GT_WITH_LT);
        }
        Ok(found)
    }

    /// Whether `when` may take the place of the key's present expiry; none counts as infinitely late.
    fn holds(self, present: Option<i64>, when: i64) -> bool {
        !(self.nx && present.is_some()
            || self.xx && present.is_none()
            || self.gt && present.is_none_or(|present| when <= present)
            || self.lt && present.is_some_and(|present| when >= present))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    fn condition(words: &[&str]) -> Result<Condition, ReplyError> {
        Condition::parse(OwnedArgs::from_slices(words).as_args())
    }

    #[test]
    fn conditions_compare_with_no_expiry_as_the_latest() {
        let holds = |words: &[&str], present, when| condition(words).expect("a legal condition").holds(present, when);
        assert!(holds(&[], None, 5) && holds(&[], Some(9), 5));
        assert!(holds(&["nx"], None, 5) && !holds(&["NX"], Some(1), 5));
        assert!(!holds(&["xx"], None, 5) && holds(&["XX", "xx"], Some(1), 5));
        assert!(!holds(&["gt"], None, 5) && !holds(&["gt"], Some(5), 5) && holds(&["gt"], Some(4), 5));
        assert!(holds(&["lt"], None, 5) && !holds(&["lt"], Some(5), 5) && holds(&["lt"], Some(6), 5));
        assert!(!holds(&["lt", "xx"], None, 5) && holds(&["xx", "lt"], Some(6), 5));
    }

    #[test]
    fn conditions_that_exclude_each_other() {
        for words in [&["nx", "xx"][..], &["gt", "nx"], &["gt", "lt", "nx"]] {
            assert_eq!(condition(words), Err(error::EXPIRE_NX_WITH_OTHERS), "{words:?}");
        }
        assert_eq!(condition(&["lt", "gt"]), Err(error::EXPIRE_GT_WITH_LT));
        assert_eq!(
            condition(&["nx", "xx", "foo"]),
            Err(ReplyError::owned("ERR Unsupported option foo"))
        );
    }
}
