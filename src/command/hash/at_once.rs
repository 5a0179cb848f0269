//! Fields and their expiries at once, as in Redis 8.0: HGETDEL, HGETEX, HSETEX.
//!
//! The order of the checks is seen by clients, and is not the same in the two: HGETEX looks at the type of the key first and takes one
//! option, HSETEX reads any number of options before it looks at the key. What stands behind the fields is too much in either.

use super::expiry::instant;
use super::read::reply_value;
use super::{FieldChanges, listed_fields, remove};
use crate::base::clock::UnixMs;
use crate::base::numbers::parse_i64;
use crate::data::hash::FieldExpiry;
use crate::engine::arguments::expiry::TimeForm;
use crate::engine::arguments::is_word;
use crate::engine::typed::Edited;
use crate::engine::{Event, Op};
use crate::resp::{Args, ReplyError, error};

pub(super) fn hgetdel(op: &mut Op) -> Result<(), ReplyError> {
    let (key, now, seed) = (op.args.at(1), op.keys.moment.now, op.env.seed);
    let is_there = op.keys.peek_hash(key)?.is_some();
    let fields = listed_fields(op.args, 2, error::HASH_FIELD_COUNT_NOT_POSITIVE)?;
    let reply = &mut op.reply;
    reply.array(fields.len());
    if !is_there {
        fields.iter().for_each(|_| reply.null());
        return Ok(());
    }
    let changes = op.keys.edit_hash(key, |hash| {
        let mut changes = FieldChanges::default();
        let mut digits = itoa::Buffer::new();
        for field in fields.iter() {
            reply_value(reply, hash.as_ref().get(field, now, seed), &mut digits);
            if remove(hash, field, now, seed) {
                changes.deleted.push(field);
            }
        }
        changes.is_gone = hash.is_empty();
        Edited::when(changes.count() > 0, changes)
    })?;
    changes.unwrap_or_default().finish(op, key, None);
    Ok(())
}

/// What HGETEX and HSETEX do with the expiries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Time {
    /// HGETEX leaves them, HSETEX drops them.
    Unsaid,
    At(UnixMs),
    /// `PERSIST` of HGETEX.
    Persist,
    /// `KEEPTTL` of HSETEX.
    Keep,
}

/// `FNX` and `FXX` of HSETEX.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Condition {
    Always,
    NoneExist,
    AllExist,
}

/// The options of HSETEX.
struct Options<'a> {
    time: Time,
    condition: Condition,
    /// The fields and their values in turn.
    pairs: Args<'a>,
}

impl<'a> Options<'a> {
    fn parse(op: &Op<'a, '_>) -> Result<Options<'a>, ReplyError> {
        let (args, now, name) = (op.args, op.keys.moment.now, op.command.name);
        let mut time = Time::Unsaid;
        let mut condition = Condition::Always;
        let mut index = 2;
        while let Some(word) = args.get(index) {
            let form = TimeForm::named(word);
            if is_word(args, index, b"FIELDS") {
                // A field and its value at least; only then the number is looked at.
                if index + 4 > args.len() {
                    return Err(error::wrong_arity(name));
                }
                let count = parse_i64(args.at(index + 1)).filter(|count| (1..=i64::from(i32::MAX)).contains(count));
                let count = count.ok_or(error::HASH_FIELD_COUNT_INVALID)?;
                let pairs = args.slice_from(index + 2);
                if count * 2 != pairs.len() as i64 {
                    return Err(error::wrong_arity(name));
                }
                return Ok(Options { time, condition, pairs });
            } else if is_word(args, index, b"FNX") || is_word(args, index, b"FXX") {
                if condition != Condition::Always {
                    return Err(error::HSETEX_FNX_WITH_FXX);
                }
                condition = if is_word(args, index, b"FNX") {
                    Condition::NoneExist
                } else {
                    Condition::AllExist
                };
            } else if form.is_some() || is_word(args, index, b"KEEPTTL") {
                if time != Time::Unsaid {
                    return Err(error::HSETEX_TIMES);
                }
                time = Time::Keep;
                if let Some(form) = form {
                    index += 1;
                    let text = args.get(index).ok_or(error::HASH_EXPIRE_MISSING)?;
                    time = Time::At(instant(text, form, now, name)?);
                }
            } else {
                return Err(error::unknown_hash_argument(word));
            }
            index += 1;
        }
        Err(error::HASH_FIELDS_ABSENT)
    }
}

/// The option of HGETEX, and its fields.
fn read_hgetex<'a>(op: &Op<'a, '_>) -> Result<(Time, Args<'a>), ReplyError> {
    let (args, now) = (op.args, op.keys.moment.now);
    let (time, fields_at) = if is_word(args, 2, b"PERSIST") {
        (Time::Persist, 3)
    } else if let Some(form) = TimeForm::named(args.at(2)) {
        (Time::At(instant(args.at(3), form, now, op.command.name)?), 4)
    } else {
        (Time::Unsaid, 2)
    };
    if fields_at + 2 > args.len() {
        return Err(error::wrong_arity(op.command.name));
    }
    let fields = listed_fields(args, fields_at, error::HASH_FIELD_COUNT_NOT_POSITIVE)?;
    Ok((time, fields))
}

pub(super) fn hgetex(op: &mut Op) -> Result<(), ReplyError> {
    let (key, now, seed) = (op.args.at(1), op.keys.moment.now, op.env.seed);
    let is_there = op.keys.peek_hash(key)?.is_some();
    let (time, fields) = read_hgetex(op)?;
    let reply = &mut op.reply;
    reply.array(fields.len());
    if !is_there {
        fields.iter().for_each(|_| reply.null());
        return Ok(());
    }
    let changes = op.keys.edit_hash(key, |hash| {
        let mut changes = FieldChanges::default();
        let mut digits = itoa::Buffer::new();
        for field in fields.iter() {
            reply_value(reply, hash.as_ref().get(field, now, seed), &mut digits);
            match (hash.as_ref().expiry(field, now, seed), time) {
                (Some(_), Time::At(at)) => changes.expire(hash, field, at, now, seed),
                (Some(Some(_)), Time::Persist) => changes.persist(hash, field, now, seed),
                _ => {}
            }
        }
        changes.is_gone = hash.is_empty();
        Edited::when(changes.count() > 0, changes)
    })?;
    let at = match time {
        Time::At(at) => Some(at),
        _ => None,
    };
    changes.unwrap_or_default().finish(op, key, at);
    Ok(())
}

pub(super) fn hsetex(op: &mut Op) -> Result<(), ReplyError> {
    let (key, now, seed) = (op.args.at(1), op.keys.moment.now, op.env.seed);
    let options = Options::parse(op)?;
    let was_there = op.keys.peek_hash(key)?.is_some();
    let (pairs, limits) = (options.pairs, &op.env.limits);
    let fields = || pairs.iter().step_by(2);
    let is_gone = op.keys.edit_or_create_hash(key, |hash| {
        let exists = |field| hash.as_ref().contains(field, now, seed);
        let is_refused = match options.condition {
            Condition::Always => false,
            Condition::NoneExist => fields().any(exists),
            Condition::AllExist => !fields().all(exists),
        };
        if is_refused {
            return Edited::Same(None);
        }
        let kept = if options.time == Time::Keep {
            FieldExpiry::Keep
        } else {
            FieldExpiry::Clear
        };
        for index in (0..pairs.len()).step_by(2) {
            hash.set(pairs.at(index), pairs.at(index + 1), kept, now, limits, seed);
        }
        if let Time::At(at) = options.time {
            for field in fields() {
                if at <= now {
                    hash.remove(field, now, seed);
                } else {
                    hash.set_expiry(field, Some(at), now, seed);
                }
            }
        }
        Edited::Changed(Some(hash.is_empty()))
    })?;
    let Some(is_gone) = is_gone else {
        op.reply.integer(0);
        return Ok(());
    };
    op.reply.integer(1);
    op.changed((pairs.len() / 2) as u64);
    log_hsetex(op, key, &options);
    op.also(key, Event::hash("hset"));
    match options.time {
        Time::At(at) if at <= now => super::tell_deleted(op, key),
        Time::At(_) => op.also(key, Event::hash("hexpire")),
        _ => {}
    }
    Ok(())
}

/// Logs an HSETEX without its condition and with an absolute time, or the deletion that it came to.
fn log_hsetex(op: &mut Op, key: &[u8], options: &Options<'_>) {
    let now = op.keys.moment.now;
    if !op.is_logged() {
        return op.logs_nothing();
    }
    let pairs = options.pairs;
    let (mut at_digits, mut count_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    let mut words: Vec<&[u8]> = vec![b"HSETEX", key];
    match options.time {
        Time::At(at) if at <= now => {
            words[0] = b"HDEL";
            words.extend(pairs.iter().step_by(2));
            return op.instead(&words);
        }
        Time::At(at) => {
            words.push(b"PXAT");
            words.push(at_digits.format(at.0).as_bytes());
        }
        Time::Keep => words.push(b"KEEPTTL"),
        Time::Unsaid | Time::Persist => {}
    }
    words.push(b"FIELDS");
    words.push(count_digits.format(pairs.len() / 2).as_bytes());
    words.extend(pairs.iter());
    op.instead(&words);
}
