//! Fields that expire, as in Redis 7.4: HEXPIRE and its relatives, HPERSIST, HTTL and its relatives.
//!
//! There is one kind of time inside, an instant in Unix milliseconds; it has 46 bits at most, as in Redis, so that a file of ours can be
//! read there. The order of the checks is Redis's, and is seen by clients: type of the key, time, condition, fields. A
//! key that is missing is a hash without fields.

use super::{
    EACH_FIELD, FAST_READ, FAST_WRITE, FIELDS, FieldChanges, KEY, KEY_AND_FIELDS, MILLISECONDS, READ, SECONDS,
    UNIX_MILLISECONDS, UNIX_SECONDS, UPDATE, hash, listed_fields,
};
use crate::base::clock::UnixMs;
use crate::base::numbers::parse_i64;
use crate::engine::arguments::expiry::TimeForm;
use crate::engine::arguments::is_word;
use crate::engine::typed::Edited;
use crate::engine::{Command, Op};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, KeySpec, arg};

const CONDITION: Argument = arg(
    "condition",
    ArgumentKind::OneOf(&[
        Argument::word("nx", "NX"),
        Argument::word("xx", "XX"),
        Argument::word("gt", "GT"),
        Argument::word("lt", "LT"),
    ]),
)
.optional();

const UPDATED_KEY: &[KeySpec] = &[KeySpec::one(1, UPDATE)];
const READ_KEY: &[KeySpec] = &[KeySpec::one(1, READ)];

/// What the commands that make fields expire have in common.
const fn expiring(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "7.4.0",
        complexity: EACH_FIELD,
        arity: -6,
        flags: FAST_WRITE,
        keys: UPDATED_KEY,
        ..hash(name, run)
    }
}

/// What the commands that tell when fields expire have in common.
const fn telling(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "7.4.0",
        complexity: EACH_FIELD,
        arity: -5,
        flags: FAST_READ,
        keys: READ_KEY,
        arguments: KEY_AND_FIELDS,
        ..hash(name, run)
    }
}

/// The latest time at which a field can expire, in Unix milliseconds: Redis's limit, 46 bits.
const LATEST_MS: i64 = ((1 << 48) - 2) >> 2;

/// The time that an argument means. `command` is named by the error.
pub(super) fn instant(text: &[u8], form: TimeForm, now: UnixMs, command: &str) -> Result<UnixMs, ReplyError> {
    let given = parse_i64(text).ok_or(error::NOT_AN_INTEGER)?;
    if given < 0 {
        return Err(error::HASH_EXPIRE_NEGATIVE);
    }
    let ms_each = match form {
        TimeForm::Seconds | TimeForm::UnixSeconds => 1000,
        TimeForm::Milliseconds | TimeForm::UnixMilliseconds => 1,
    };
    let base = if form.is_absolute() { 0 } else { now.signed() };
    let at = given.checked_mul(ms_each).and_then(|ms| ms.checked_add(base));
    let at = at.filter(|at| *at <= LATEST_MS);
    at.map(UnixMs::from_signed)
        .ok_or_else(|| error::invalid_expire(command))
}

/// Under which condition a field gets the new expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Condition {
    Always,
    /// `NX`
    Without,
    /// `XX`
    With,
    /// `GT`
    Later,
    /// `LT`
    Earlier,
}

impl Condition {
    /// The condition at `index`, if one stands there.
    fn at(args: Args, index: usize) -> Condition {
        let words: [(&[u8], Condition); 4] = [
            (b"NX", Condition::Without),
            (b"XX", Condition::With),
            (b"GT", Condition::Later),
            (b"LT", Condition::Earlier),
        ];
        let found = words.into_iter().find(|(word, _)| is_word(args, index, word));
        found.map_or(Condition::Always, |(_, condition)| condition)
    }

    /// Whether `at` may take the place of the present expiry; none counts as infinitely late.
    fn holds(self, present: Option<UnixMs>, at: UnixMs) -> bool {
        match self {
            Condition::Always => true,
            Condition::Without => present.is_none(),
            Condition::With => present.is_some(),
            Condition::Later => present.is_some_and(|present| at > present),
            Condition::Earlier => present.is_none_or(|present| at < present),
        }
    }
}

pub(super) const HEXPIRE: Command = Command {
    summary: "Sets after how many seconds fields of a hash expire.",
    arguments: &[KEY, SECONDS, CONDITION, FIELDS],
    ..expiring("hexpire", hexpire)
};

fn hexpire(op: &mut Op) -> Result<(), ReplyError> {
    set_expiries(op, TimeForm::Seconds)
}

pub(super) const HPEXPIRE: Command = Command {
    summary: "Sets after how many milliseconds fields of a hash expire.",
    arguments: &[KEY, MILLISECONDS, CONDITION, FIELDS],
    ..expiring("hpexpire", hpexpire)
};

fn hpexpire(op: &mut Op) -> Result<(), ReplyError> {
    set_expiries(op, TimeForm::Milliseconds)
}

pub(super) const HEXPIREAT: Command = Command {
    summary: "Sets at which Unix time, in seconds, fields of a hash expire.",
    arguments: &[KEY, UNIX_SECONDS, CONDITION, FIELDS],
    ..expiring("hexpireat", hexpireat)
};

fn hexpireat(op: &mut Op) -> Result<(), ReplyError> {
    set_expiries(op, TimeForm::UnixSeconds)
}

pub(super) const HPEXPIREAT: Command = Command {
    summary: "Sets at which Unix time, in milliseconds, fields of a hash expire.",
    arguments: &[KEY, UNIX_MILLISECONDS, CONDITION, FIELDS],
    ..expiring("hpexpireat", hpexpireat)
};

fn hpexpireat(op: &mut Op) -> Result<(), ReplyError> {
    set_expiries(op, TimeForm::UnixMilliseconds)
}

fn set_expiries(op: &mut Op, form: TimeForm) -> Result<(), ReplyError> {
    let (key, now, seed) = (op.args.at(1), op.keys.moment.now, op.env.seed);
    let is_there = op.keys.peek_hash(key)?.is_some();
    let at = instant(op.args.at(2), form, now, op.command.name)?;
    let condition = Condition::at(op.args, 3);
    let fields_at = if condition == Condition::Always { 3 } else { 4 };
    let fields = listed_fields(op.args, fields_at, error::HASH_NUMFIELDS_NOT_POSITIVE)?;
    let reply = &mut op.reply;
    reply.array(fields.len());
    if !is_there {
        fields.iter().for_each(|_| reply.integer(-2));
        return Ok(());
    }
    let changes = op.keys.edit_hash(key, |hash| {
        let mut changes = FieldChanges::default();
        for field in fields.iter() {
            let Some(present) = hash.as_ref().expiry(field, now, seed) else {
                reply.integer(-2);
                continue;
            };
            if !condition.holds(present, at) {
                reply.integer(0);
                continue;
            }
            reply.integer(if at <= now { 2 } else { 1 });
            changes.expire(hash, field, at, now, seed);
        }
        Edited::when(changes.count() > 0, changes)
    })?;
    changes.unwrap_or_default().finish(op, key, Some(at));
    Ok(())
}

pub(super) const HPERSIST: Command = Command {
    summary: "Takes the expiry from fields of a hash.",
    since: "7.4.0",
    complexity: EACH_FIELD,
    arity: -5,
    flags: FAST_WRITE,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: KEY_AND_FIELDS,
    ..hash("hpersist", hpersist)
};

fn hpersist(op: &mut Op) -> Result<(), ReplyError> {
    let (key, now, seed) = (op.args.at(1), op.keys.moment.now, op.env.seed);
    let is_there = op.keys.peek_hash(key)?.is_some();
    let fields = listed_fields(op.args, 2, error::HASH_FIELD_COUNT_NOT_POSITIVE)?;
    let reply = &mut op.reply;
    reply.array(fields.len());
    if !is_there {
        fields.iter().for_each(|_| reply.integer(-2));
        return Ok(());
    }
    let changes = op.keys.edit_hash(key, |hash| {
        let mut changes = FieldChanges::default();
        for field in fields.iter() {
            match hash.as_ref().expiry(field, now, seed) {
                None => reply.integer(-2),
                Some(None) => reply.integer(-1),
                Some(Some(_)) => {
                    changes.persist(hash, field, now, seed);
                    reply.integer(1);
                }
            }
        }
        Edited::when(changes.count() > 0, changes)
    })?;
    changes.unwrap_or_default().finish(op, key, None);
    Ok(())
}

pub(super) const HTTL: Command = Command {
    summary: "Answers in how many seconds fields of a hash expire.",
    tips: &["nondeterministic_output"],
    ..telling("httl", httl)
};

fn httl(op: &mut Op) -> Result<(), ReplyError> {
    super::read::expiries(op, |at, now| (at - now).div_ceil(1000))
}

pub(super) const HPTTL: Command = Command {
    summary: "Answers in how many milliseconds fields of a hash expire.",
    tips: &["nondeterministic_output"],
    ..telling("hpttl", hpttl)
};

fn hpttl(op: &mut Op) -> Result<(), ReplyError> {
    super::read::expiries(op, |at, now| at - now)
}

pub(super) const HEXPIRETIME: Command = Command {
    summary: "Answers at which Unix time, in seconds, fields of a hash expire.",
    ..telling("hexpiretime", hexpiretime)
};

fn hexpiretime(op: &mut Op) -> Result<(), ReplyError> {
    super::read::expiries(op, |at, _| at.div_ceil(1000))
}

pub(super) const HPEXPIRETIME: Command = Command {
    summary: "Answers at which Unix time, in milliseconds, fields of a hash expire.",
    ..telling("hpexpiretime", hpexpiretime)
};

fn hpexpiretime(op: &mut Op) -> Result<(), ReplyError> {
    super::read::expiries(op, |at, _| at)
}
