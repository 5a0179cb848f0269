//! Fields and their expiries at once, as in Redis 8.0: HGETDEL, HGETEX, HSETEX.
//!
//! The order of the checks is seen by clients, and is not the same in the two: HGETEX looks at the type of the key first and takes one
//! option, HSETEX reads any number of options before it looks at the key. What stands behind the fields is too much in either.

use super::expiry::instant;
use super::{
    COUNT, EACH_FIELD, FAST_WRITE, FIELD, FIELDS, FieldChanges, GROWING, KEY, KEY_AND_FIELDS, MILLISECONDS, NUMFIELDS,
    SECONDS, UNIX_MILLISECONDS, UNIX_SECONDS, UPDATE, VALUE, hash, listed_fields, remove,
};
use crate::base::clock::UnixMs;
use crate::base::numbers::parse_i64;
use crate::data::hash::FieldExpiry;
use crate::engine::arguments::expiry::TimeForm;
use crate::engine::arguments::{Options, is_word};
use crate::engine::stored::reply_item_or_null;
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, KeyFlags, KeySpec, arg};

pub(super) const HGETDEL: Command = Command {
    summary: "Answers the values of fields of a hash and deletes the fields.",
    since: "8.0.0",
    complexity: EACH_FIELD,
    arity: -5,
    flags: FAST_WRITE,
    keys: &[KeySpec::one(
        1,
        KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE),
    )],
    arguments: KEY_AND_FIELDS,
    ..hash("hgetdel", hgetdel)
};

fn hgetdel(op: &mut Op) -> Result<(), ReplyError> {
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
        for field in fields.iter() {
            reply_item_or_null(reply, hash.as_ref().get(field, now, seed));
            if remove(hash, field, now, seed) {
                changes.deleted.push(field);
            }
        }
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

/// HSETEX with its options read.
struct Setting<'a> {
    time: Time,
    condition: Condition,
    /// The fields and their values in turn.
    pairs: Args<'a>,
}

impl<'a> Setting<'a> {
    fn parse(op: &Op<'a, '_>) -> Result<Setting<'a>, ReplyError> {
        let (now, name) = (op.keys.moment.now, op.command.name);
        let mut time = Time::Unsaid;
        let mut condition = Condition::Always;
        let mut options = Options::behind(op.args, 2);
        while let Some(word) = options.peek() {
            if options.flag(b"FIELDS") {
                let rest = options.rest();
                // A field and its value at least; only then the number is looked at.
                if rest.len() < 3 {
                    return Err(error::wrong_arity(name));
                }
                let count = parse_i64(rest.at(0)).filter(|count| (1..=i64::from(i32::MAX)).contains(count));
                let count = count.ok_or(error::HASH_FIELD_COUNT_INVALID)?;
                let pairs = rest.slice_from(1);
                if count * 2 != pairs.len() as i64 {
                    return Err(error::wrong_arity(name));
                }
                return Ok(Setting { time, condition, pairs });
            }
            options.word()?;
            let given = match () {
                () if word.eq_ignore_ascii_case(b"FNX") => Some(Condition::NoneExist),
                () if word.eq_ignore_ascii_case(b"FXX") => Some(Condition::AllExist),
                () => None,
            };
            let form = TimeForm::named(word);
            if let Some(given) = given {
                if condition != Condition::Always {
                    return Err(error::HSETEX_FNX_WITH_FXX);
                }
                condition = given;
            } else if form.is_some() || word.eq_ignore_ascii_case(b"KEEPTTL") {
                if time != Time::Unsaid {
                    return Err(error::HSETEX_TIMES);
                }
                time = match form {
                    None => Time::Keep,
                    Some(form) => {
                        let text = options.word().map_err(|_| error::HASH_EXPIRE_MISSING)?;
                        Time::At(instant(text, form, now, name)?)
                    }
                };
            } else {
                return Err(error::unknown_hash_argument(word));
            }
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

pub(super) const HGETEX: Command = Command {
    summary: "Answers the values of fields of a hash, and sets or removes the fields' expiry.",
    since: "8.0.0",
    complexity: EACH_FIELD,
    arity: -5,
    flags: FAST_WRITE,
    keys: &[KeySpec {
        notes: "RW and UPDATE because it changes the TTL",
        ..KeySpec::one(1, COUNT)
    }],
    arguments: &[
        KEY,
        arg(
            "expiration",
            ArgumentKind::OneOf(&[
                SECONDS.token("EX"),
                MILLISECONDS.token("PX"),
                UNIX_SECONDS.token("EXAT"),
                UNIX_MILLISECONDS.token("PXAT"),
                Argument::word("persist", "PERSIST"),
            ]),
        )
        .optional(),
        FIELDS,
    ],
    ..hash("hgetex", hgetex)
};

fn hgetex(op: &mut Op) -> Result<(), ReplyError> {
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
        for field in fields.iter() {
            reply_item_or_null(reply, hash.as_ref().get(field, now, seed));
            match (hash.as_ref().expiry(field, now, seed), time) {
                (Some(_), Time::At(at)) => changes.expire(hash, field, at, now, seed),
                (Some(Some(_)), Time::Persist) => changes.persist(hash, field, now, seed),
                _ => {}
            }
        }
        Edited::when(changes.count() > 0, changes)
    })?;
    let at = match time {
        Time::At(at) => Some(at),
        _ => None,
    };
    changes.unwrap_or_default().finish(op, key, at);
    Ok(())
}

pub(super) const HSETEX: Command = Command {
    summary: "Sets fields of a hash, and the fields' expiry; the key is created if it is missing.",
    since: "8.0.0",
    complexity: EACH_FIELD,
    arity: -6,
    flags: GROWING,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: &[
        KEY,
        arg(
            "condition",
            ArgumentKind::OneOf(&[Argument::word("fnx", "FNX"), Argument::word("fxx", "FXX")]),
        )
        .optional(),
        arg(
            "expiration",
            ArgumentKind::OneOf(&[
                SECONDS.token("EX"),
                MILLISECONDS.token("PX"),
                UNIX_SECONDS.token("EXAT"),
                UNIX_MILLISECONDS.token("PXAT"),
                Argument::word("keepttl", "KEEPTTL"),
            ]),
        )
        .optional(),
        arg(
            "fields",
            ArgumentKind::Block(&[NUMFIELDS, arg("data", ArgumentKind::Block(&[FIELD, VALUE])).multiple()]),
        )
        .token("FIELDS"),
    ],
    ..hash("hsetex", hsetex)
};

fn hsetex(op: &mut Op) -> Result<(), ReplyError> {
    let (key, now, seed) = (op.args.at(1), op.keys.moment.now, op.env.seed);
    let setting = Setting::parse(op)?;
    let (pairs, limits) = (setting.pairs, &op.env.limits);
    let fields = || pairs.iter().step_by(2);
    let is_set = op.keys.edit_or_create_hash(key, |hash| {
        let exists = |field| hash.as_ref().contains(field, now, seed);
        let is_refused = match setting.condition {
            Condition::Always => false,
            Condition::NoneExist => fields().any(exists),
            Condition::AllExist => !fields().all(exists),
        };
        if is_refused {
            return Edited::Same(false);
        }
        let kept = if setting.time == Time::Keep {
            FieldExpiry::Keep
        } else {
            FieldExpiry::Clear
        };
        for index in (0..pairs.len()).step_by(2) {
            hash.set(pairs.at(index), pairs.at(index + 1), kept, now, limits, seed);
        }
        if let Time::At(at) = setting.time
            && at > now
        {
            for field in fields() {
                hash.set_expiry(field, Some(at), now, seed);
            }
        }
        Edited::Changed(true)
    })?;
    op.reply.integer(i64::from(is_set));
    if !is_set {
        return Ok(());
    }
    log_hsetex(op, key, &setting);
    op.wrote_times(key, Event::hash("hset"), (pairs.len() / 2) as u64);
    match setting.time {
        Time::At(at) if at <= now => {
            // They have come, for those who listen, and go.
            op.keys.edit_hash(key, |hash| {
                for field in fields() {
                    hash.remove(field, now, seed);
                }
                Edited::Changed(())
            })?;
            op.also(key, Event::hash("hdel"));
        }
        Time::At(_) => op.also(key, Event::hash("hexpire")),
        _ => {}
    }
    Ok(())
}

/// Logs an HSETEX without its condition and with an absolute time, or the deletion that it came to.
fn log_hsetex(op: &mut Op, key: &[u8], setting: &Setting<'_>) {
    let now = op.keys.moment.now;
    if !op.is_logged() {
        return op.logs_nothing();
    }
    let pairs = setting.pairs;
    let (mut at_digits, mut count_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    let mut words: Vec<&[u8]> = vec![b"HSETEX", key];
    match setting.time {
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
