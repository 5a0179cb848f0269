//! Changing: HSET, HMSET, HSETNX, HDEL, HINCRBY, HINCRBYFLOAT.

use super::{COUNT, EACH_FIELD, FAST_WRITE, FIELD, GROWING, KEY, UPDATE, VALUE, hash, may_be_stale, remove};
use crate::base::long_double::LongDouble;
use crate::base::numbers::parse_i64;
use crate::data::hash::{FieldExpiry, IncrementError};
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, KeyFlags, KeySpec, arg};

const PAIRS: &[Argument] = &[KEY, arg("data", ArgumentKind::Block(&[FIELD, VALUE])).multiple()];

pub(super) const HSET: Command = Command {
    summary: "Sets fields of a hash; the key is created if it is missing.",
    complexity: EACH_FIELD,
    arity: -4,
    flags: GROWING,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: PAIRS,
    history: &[("4.0.0", "Takes several fields with their values.")],
    ..hash("hset", hset)
};

fn hset(op: &mut Op) -> Result<(), ReplyError> {
    let added = set_pairs(op)?;
    op.reply.integer(added as i64);
    Ok(())
}

pub(super) const HMSET: Command = Command {
    summary: "Sets several fields of a hash; the key is created if it is missing.",
    complexity: EACH_FIELD,
    arity: -4,
    flags: GROWING,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: PAIRS,
    deprecated: Some(("4.0.0", "`HSET` with multiple field-value pairs")),
    ..hash("hmset", hmset)
};

fn hmset(op: &mut Op) -> Result<(), ReplyError> {
    set_pairs(op)?;
    op.reply.ok();
    Ok(())
}

/// Sets the fields that the arguments name; how many of them are new.
fn set_pairs(op: &mut Op) -> Result<usize, ReplyError> {
    if !op.args.len().is_multiple_of(2) {
        return Err(error::wrong_arity(op.command.name));
    }
    let (key, now, seed) = (op.args.at(1), op.keys.moment.now, op.env.seed);
    let (limits, args) = (&op.env.limits, op.args);
    let added = op.keys.edit_or_create_hash(key, |hash| {
        let mut added = 0;
        for index in (2..args.len()).step_by(2) {
            let (field, value) = (args.at(index), args.at(index + 1));
            added += usize::from(hash.set(field, value, FieldExpiry::Clear, now, limits, seed));
        }
        Edited::Changed(added)
    })?;
    op.wrote_times(key, Event::hash("hset"), (args.len() / 2 - 1) as u64);
    Ok(added)
}

pub(super) const HSETNX: Command = Command {
    summary: "Sets a field of a hash if the field is missing.",
    arity: 4,
    flags: GROWING,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::INSERT))],
    arguments: &[KEY, FIELD, VALUE],
    ..hash("hsetnx", hsetnx)
};

fn hsetnx(op: &mut Op) -> Result<(), ReplyError> {
    let (key, field, value) = (op.args.at(1), op.args.at(2), op.args.at(3));
    let (now, seed, limits) = (op.keys.moment.now, op.env.seed, &op.env.limits);
    let (is_set, was_stale) = op.keys.edit_or_create_hash(key, |hash| {
        if hash.as_ref().contains(field, now, seed) {
            return Edited::Same((false, false));
        }
        let was_stale = may_be_stale(hash.as_ref(), now);
        hash.set(field, value, FieldExpiry::Clear, now, limits, seed);
        Edited::Changed((true, was_stale))
    })?;
    if is_set {
        op.wrote(key, Event::hash("hset"));
        if was_stale {
            log_set(op, key, field, value);
        }
    }
    op.reply.integer(i64::from(is_set));
    Ok(())
}

fn log_set(op: &mut Op, key: &[u8], field: &[u8], value: &[u8]) {
    op.instead(&[b"HSET", key, field, value]);
}

pub(super) const HDEL: Command = Command {
    summary: "Deletes fields of a hash, and the key with the last of them.",
    complexity: EACH_FIELD,
    arity: -3,
    flags: FAST_WRITE,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::DELETE))],
    arguments: &[KEY, FIELD.multiple()],
    history: &[("2.4.0", "Takes several fields.")],
    ..hash("hdel", hdel)
};

fn hdel(op: &mut Op) -> Result<(), ReplyError> {
    let (key, fields) = (op.args.at(1), op.args.slice_from(2));
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let done = op.keys.edit_hash(key, |hash| {
        let mut deleted = 0;
        for field in fields.iter() {
            deleted += usize::from(remove(hash, field, now, seed));
            if hash.is_empty() {
                break;
            }
        }
        Edited::when(deleted > 0, deleted)
    })?;
    let deleted = done.unwrap_or(0);
    if deleted > 0 {
        op.wrote_times(key, Event::hash("hdel"), deleted as u64);
    }
    op.reply.integer(deleted as i64);
    Ok(())
}

/// A value that cannot be incremented, as each of the two commands says it.
fn refusal(why: IncrementError, not_a_number: ReplyError, out_of_range: ReplyError) -> ReplyError {
    match why {
        IncrementError::NotANumber => not_a_number,
        IncrementError::OutOfRange => out_of_range,
    }
}

pub(super) const HINCRBY: Command = Command {
    summary: "Adds a number to the integer in a field of a hash; a missing field is 0.",
    arity: 4,
    flags: GROWING,
    keys: &[KeySpec::one(1, COUNT)],
    arguments: &[KEY, FIELD, arg("increment", ArgumentKind::Integer)],
    ..hash("hincrby", hincrby)
};

fn hincrby(op: &mut Op) -> Result<(), ReplyError> {
    let (key, field) = (op.args.at(1), op.args.at(2));
    let increment = parse_i64(op.args.at(3)).ok_or(error::NOT_AN_INTEGER)?;
    let (now, seed, limits) = (op.keys.moment.now, op.env.seed, &op.env.limits);
    let done = op.keys.edit_or_create_hash(key, |hash| {
        // Of a field that was over a replica may still have the number.
        let was_over = may_be_stale(hash.as_ref(), now) && !hash.as_ref().contains(field, now, seed);
        match hash.increment(field, increment, now, limits, seed) {
            Ok(sum) => Edited::Changed(Ok((sum, was_over))),
            Err(why) => Edited::Same(Err(why)),
        }
    })?;
    let (sum, was_over) = done.map_err(|why| refusal(why, error::HASH_NOT_AN_INTEGER, error::INCREMENT_OVERFLOW))?;
    op.wrote(key, Event::hash("hincrby"));
    if was_over {
        log_set(op, key, field, itoa::Buffer::new().format(sum).as_bytes());
    }
    op.reply.integer(sum);
    Ok(())
}

pub(super) const HINCRBYFLOAT: Command = Command {
    summary: "Adds a number with decimals to the one in a field of a hash; a missing field is 0.",
    since: "2.6.0",
    arity: 4,
    flags: GROWING,
    keys: &[KeySpec::one(1, COUNT)],
    arguments: &[KEY, FIELD, arg("increment", ArgumentKind::Double)],
    ..hash("hincrbyfloat", hincrbyfloat)
};

fn hincrbyfloat(op: &mut Op) -> Result<(), ReplyError> {
    let (key, field) = (op.args.at(1), op.args.at(2));
    let increment = LongDouble::parse(op.args.at(3)).ok_or(error::NOT_A_FLOAT)?;
    if !increment.is_finite() {
        return Err(error::HASH_INCREMENT_NOT_FINITE);
    }
    let (now, seed, limits) = (op.keys.moment.now, op.env.seed, &op.env.limits);
    let done = op.keys.edit_or_create_hash(key, |hash| {
        match hash.increment_float(field, increment, now, limits, seed) {
            Ok(text) => {
                let expiry = hash.as_ref().expiry(field, now, seed).flatten();
                Edited::Changed(Ok((text, expiry)))
            }
            Err(why) => Edited::Same(Err(why)),
        }
    })?;
    let (text, expiry) = done.map_err(|why| refusal(why, error::HASH_NOT_A_FLOAT, error::INCREMENT_NOT_FINITE))?;
    op.wrote(key, Event::hash("hincrbyfloat"));
    log_set(op, key, field, &text);
    if let Some(at) = expiry {
        let mut digits = itoa::Buffer::new();
        let at = digits.format(at.0).as_bytes();
        op.instead(&[b"HPEXPIREAT", key, at, b"FIELDS", b"1", field]);
    }
    op.reply.bulk(&text);
    Ok(())
}
