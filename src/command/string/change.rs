//! Changing a string that is there: counting (INCR and its relatives, INCRBYFLOAT), APPEND, SETRANGE. All of them keep
//! the key's expiry and create the key if it is missing.

use crate::base::long_double::LongDouble;
use crate::base::numbers::parse_i64;
use crate::data::ValueType;
use crate::data::string::{StringForm, exceeds_limit};
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};
use crate::store::{EntryRef, Expiry, ValueRef};

const WRITE: Flags = Flags::WRITE.union(Flags::DENYOOM);
const COUNT: KeyFlags = KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::UPDATE);

pub(super) const INCR: Command = Command {
    summary: "Adds one to the integer that a key holds; a missing key is 0.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 2,
    flags: WRITE.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, COUNT)],
    arguments: &[Argument::key("key", 0)],
    ..command("incr", Run::Keys(incr))
};

fn incr(op: &mut Op) -> Result<(), ReplyError> {
    add(op, 1)
}

pub(super) const DECR: Command = Command {
    summary: "Subtracts one from the integer that a key holds; a missing key is 0.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 2,
    flags: WRITE.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, COUNT)],
    arguments: &[Argument::key("key", 0)],
    ..command("decr", Run::Keys(decr))
};

fn decr(op: &mut Op) -> Result<(), ReplyError> {
    add(op, -1)
}

pub(super) const INCRBY: Command = Command {
    summary: "Adds a number to the integer that a key holds; a missing key is 0.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 3,
    flags: WRITE.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, COUNT)],
    arguments: &[Argument::key("key", 0), arg("increment", ArgumentKind::Integer)],
    ..command("incrby", Run::Keys(incrby))
};

fn incrby(op: &mut Op) -> Result<(), ReplyError> {
    let increment = parse_i64(op.args.at(2)).ok_or(error::NOT_AN_INTEGER)?;
    add(op, increment)
}

pub(super) const DECRBY: Command = Command {
    summary: "Subtracts a number from the integer that a key holds; a missing key is 0.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 3,
    flags: WRITE.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, COUNT)],
    arguments: &[Argument::key("key", 0), arg("decrement", ArgumentKind::Integer)],
    ..command("decrby", Run::Keys(decrby))
};

fn decrby(op: &mut Op) -> Result<(), ReplyError> {
    let decrement = parse_i64(op.args.at(2)).ok_or(error::NOT_AN_INTEGER)?;
    // The smallest integer has no counterpart to add.
    let increment = decrement.checked_neg().ok_or(error::DECREMENT_OVERFLOW)?;
    add(op, increment)
}

#[inline]
fn add(op: &mut Op, increment: i64) -> Result<(), ReplyError> {
    let (db, moment, key) = (op.keys.db, op.keys.moment, op.args.at(1));
    let sum = op.keys.slot(key)?.change_int(db, key, moment, |old| {
        let old = old.map_or(Ok(0), integer)?;
        old.checked_add(increment).ok_or(error::INCREMENT_OVERFLOW)
    })?;
    // One event for all four of them, as in Redis.
    op.wrote(key, Event::string("incrby"));
    op.reply.integer(sum);
    Ok(())
}

/// The integer of an entry.
fn integer(entry: EntryRef<'_>) -> Result<i64, ReplyError> {
    if entry.type_of() != ValueType::String {
        return Err(error::WRONG_TYPE);
    }
    match entry.value() {
        ValueRef::Int(value) => Ok(value),
        text => parse_i64(text.as_bytes(&mut itoa::Buffer::new())).ok_or(error::NOT_AN_INTEGER),
    }
}

pub(super) const INCRBYFLOAT: Command = Command {
    summary: "Adds a number with decimals to the one that a key holds; a missing key is 0.",
    since: "2.6.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 3,
    flags: WRITE.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, COUNT)],
    arguments: &[Argument::key("key", 0), arg("increment", ArgumentKind::Double)],
    ..command("incrbyfloat", Run::Keys(incrbyfloat))
};

fn incrbyfloat(op: &mut Op) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let old = match op.keys.peek_string(key)?.map(|entry| entry.value()) {
        None => LongDouble::ZERO,
        Some(ValueRef::Int(value)) => LongDouble::from_i64(value),
        Some(text) => LongDouble::parse(text.as_bytes(&mut itoa::Buffer::new())).ok_or(error::NOT_A_FLOAT)?,
    };
    let increment = LongDouble::parse(op.args.at(2)).ok_or(error::NOT_A_FLOAT)?;
    let sum = old + increment;
    if !sum.is_finite() {
        return Err(error::INCREMENT_NOT_FINITE);
    }
    let text = sum.to_human();
    let (db, moment) = (op.keys.db, op.keys.moment);
    let slot = op.keys.slot_of(key);
    op.keys
        .numbered(slot)?
        .set_string(db, key, &text, StringForm::Text, Expiry::Keep, moment);
    op.wrote(key, Event::string("incrbyfloat"));
    op.instead(&[b"SET", key, &text, b"KEEPTTL"]);
    op.reply.bulk(&text);
    Ok(())
}

pub(super) const APPEND: Command = Command {
    summary: "Appends to the string that a key holds; creates the key if it is missing.",
    since: "2.0.0",
    group: Group::String,
    complexity: "O(N), N being the length of what is appended, on average over many calls.",
    arity: 3,
    flags: WRITE.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::INSERT))],
    arguments: &[Argument::key("key", 0), arg("value", ArgumentKind::String)],
    ..command("append", Run::Keys(append))
};

fn append(op: &mut Op) -> Result<(), ReplyError> {
    let (key, tail) = (op.args.at(1), op.args.at(2));
    if let Some(entry) = op.keys.peek_string(key)? {
        let len = entry.value().string_len();
        check_length(op, len as u64, tail)?;
    }
    let (db, moment) = (op.keys.db, op.keys.moment);
    let len = op.keys.slot(key)?.append(db, key, tail, moment);
    op.wrote(key, Event::string("append"));
    op.reply.integer(len as i64);
    Ok(())
}

/// Refuses a string that would be longer than `proto-max-bulk-len`.
fn check_length(op: &Op, offset: u64, part: &[u8]) -> Result<(), ReplyError> {
    if exceeds_limit(offset, part.len() as u64, op.env.settings.proto_max_bulk_len) {
        return Err(error::STRING_TOO_LONG);
    }
    Ok(())
}

pub(super) const SETRANGE: Command = Command {
    summary: "Overwrites a part of the string that a key holds, which is made longer with zero bytes as needed.",
    since: "2.2.0",
    group: Group::String,
    complexity: "O(N), N being the length of what is written, plus the zero bytes in front of it.",
    arity: 4,
    flags: WRITE,
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::UPDATE))],
    arguments: &[
        Argument::key("key", 0),
        arg("offset", ArgumentKind::Integer),
        arg("value", ArgumentKind::String),
    ],
    ..command("setrange", Run::Keys(setrange))
};

fn setrange(op: &mut Op) -> Result<(), ReplyError> {
    let (key, part) = (op.args.at(1), op.args.at(3));
    let offset = parse_i64(op.args.at(2)).ok_or(error::NOT_AN_INTEGER)?;
    let offset = u64::try_from(offset).map_err(|_| error::OFFSET_OUT_OF_RANGE)?;
    let len = op.keys.peek_string(key)?.map(|entry| entry.value().string_len());
    if part.is_empty() {
        // Writes nothing: no key is created and none is made longer.
        op.reply.integer(len.unwrap_or(0) as i64);
        return Ok(());
    }
    check_length(op, offset, part)?;
    let (db, moment) = (op.keys.db, op.keys.moment);
    let len = op.keys.slot(key)?.set_range(db, key, offset as usize, part, moment);
    op.wrote(key, Event::string("setrange"));
    op.reply.integer(len as i64);
    Ok(())
}
