//! Writing whole strings: SET with all its options, its older relatives, MSET; and the commands that answer a string and
//! then change its expiry or delete it.
//!
//! SET decides in a fixed order, which errors make visible: the syntax of all options, then the expiry's number, then
//! (with `GET`) the type of the old value, then the condition.

use super::reply_string;
use crate::base::clock::UnixMs;
use crate::data::string::StringForm;
use crate::engine::arguments::Options;
use crate::engine::arguments::expiry::{ExpiryOptions, GivenTime, TimeForm};
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, Reply, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};
use crate::store::{EntryRef, Expiry};

const WRITE: Flags = Flags::WRITE.union(Flags::DENYOOM);
const OVERWRITE: KeyFlags = KeyFlags::OW.union(KeyFlags::UPDATE);
const INSERT: KeyFlags = KeyFlags::OW.union(KeyFlags::INSERT);
const READ_UPDATE: KeyFlags = KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::UPDATE);

pub(super) const SET: Command = Command {
    summary: "Stores a string under a key, over whatever is there; creates the key if it is missing.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: -3,
    flags: WRITE,
    categories: Categories::STRING,
    keys: &[KeySpec {
        notes: "RW and ACCESS due to the optional `GET` argument",
        ..KeySpec::one(1, READ_UPDATE.union(KeyFlags::VARIABLE_FLAGS))
    }],
    key_flags_of: Some(set_key_flags),
    arguments: &[
        Argument::key("key", 0),
        arg("value", ArgumentKind::String),
        arg(
            "condition",
            ArgumentKind::OneOf(&[Argument::word("nx", "NX"), Argument::word("xx", "XX")]),
        )
        .optional()
        .since("2.6.12"),
        Argument::word("get", "GET").optional().since("6.2.0"),
        arg(
            "expiration",
            ArgumentKind::OneOf(&[
                arg("seconds", ArgumentKind::Integer).token("EX").since("2.6.12"),
                arg("milliseconds", ArgumentKind::Integer).token("PX").since("2.6.12"),
                arg("unix-time-seconds", ArgumentKind::UnixTime)
                    .token("EXAT")
                    .since("6.2.0"),
                arg("unix-time-milliseconds", ArgumentKind::UnixTime)
                    .token("PXAT")
                    .since("6.2.0"),
                Argument::word("keepttl", "KEEPTTL").since("6.0.0"),
            ]),
        )
        .optional(),
    ],
    history: &[
        ("2.6.12", "The options `EX`, `PX`, `NX` and `XX` were added."),
        ("6.0.0", "The option `KEEPTTL` was added."),
        ("6.2.0", "The options `GET`, `EXAT` and `PXAT` were added."),
        ("7.0.0", "`NX` and `GET` may be given together."),
    ],
    ..command("set", Run::Keys(set))
};

/// Without GET the old value is only overwritten. (As Redis does, this takes an expiry called GET for the option.)
fn set_key_flags(call: &[&[u8]]) -> KeyFlags {
    match call.iter().skip(3).any(|option| option.eq_ignore_ascii_case(b"GET")) {
        true => READ_UPDATE,
        false => KeyFlags::OW.union(KeyFlags::UPDATE),
    }
}

/// When a write happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Condition {
    Always,
    /// `NX`
    Missing,
    /// `XX`
    Present,
}

/// What SET answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    /// `OK`, or nil if the condition did not hold.
    Ok,
    /// 1, or 0 if the condition did not hold (SETNX).
    Flag,
    /// The old value, or nil (`GET`).
    OldValue,
}

/// A SET with its options read.
struct SetOptions<'a> {
    condition: Condition,
    answer: Answer,
    expiry: ExpiryOptions<'a>,
}

impl<'a> SetOptions<'a> {
    fn parse(args: Args<'a>) -> Result<SetOptions<'a>, ReplyError> {
        let mut options = SetOptions {
            condition: Condition::Always,
            answer: Answer::Ok,
            expiry: ExpiryOptions::default(),
        };
        let mut words = Options::behind(args, 3);
        while !words.is_empty() {
            options.take(&mut words)?;
        }
        Ok(options)
    }

    fn take(&mut self, words: &mut Options<'a>) -> Result<(), ReplyError> {
        if self.condition != Condition::Present && words.flag(b"NX") {
            self.condition = Condition::Missing;
        } else if self.condition != Condition::Missing && words.flag(b"XX") {
            self.condition = Condition::Present;
        } else if words.flag(b"GET") {
            self.answer = Answer::OldValue;
        } else if !(self.expiry.take_time(words)? || self.expiry.take_keep(words)) {
            return Err(error::SYNTAX);
        }
        Ok(())
    }
}

fn set(op: &mut Op) -> Result<(), ReplyError> {
    let (key, value) = (op.args.at(1), op.args.at(2));
    if op.args.len() == 3 {
        let (db, moment) = (op.keys.db, op.keys.moment);
        let slot = op.keys.slot(key)?;
        slot.set_string(db, key, value, StringForm::Detect, Expiry::Clear, moment);
        op.wrote(key, Event::string("set"));
        op.reply.ok();
        return Ok(());
    }
    let options = SetOptions::parse(op.args)?;
    store(op, key, value, options)
}

/// SET and its relatives, once their arguments are told apart.
fn store<'a>(op: &mut Op<'a, '_>, key: &'a [u8], value: &'a [u8], options: SetOptions<'a>) -> Result<(), ReplyError> {
    let time = resolve(op, options.expiry.time)?;
    let gets = options.answer == Answer::OldValue;
    let is_present = if gets {
        let old = op.keys.read_string(key)?;
        answer_old(&mut op.reply, old)
    } else {
        match options.condition {
            Condition::Always => false,
            Condition::Missing => op.keys.visit(key)?.is_some(),
            Condition::Present => op.keys.peek(key)?.is_some(),
        }
    };
    let is_refused = match options.condition {
        Condition::Always => false,
        Condition::Missing => is_present,
        Condition::Present => !is_present,
    };
    if is_refused {
        match options.answer {
            Answer::Ok => op.reply.null(),
            Answer::Flag => op.reply.integer(0),
            Answer::OldValue => {}
        }
        return Ok(());
    }
    let expiry = match time {
        Some(at) => Expiry::At(at),
        None if options.expiry.keeps_ttl => Expiry::Keep,
        None => Expiry::Clear,
    };
    let (db, moment) = (op.keys.db, op.keys.moment);
    let slot = op.keys.slot_of(key);
    op.keys
        .numbered(slot)?
        .set_string(db, key, value, StringForm::Detect, expiry, moment);
    op.wrote(key, Event::string("set"));
    if time.is_some() {
        op.also(key, Event::generic("expire"));
    }
    if op.is_logged() {
        log_set(op, key, value, time, gets);
    }
    match options.answer {
        Answer::Ok => op.reply.ok(),
        Answer::Flag => op.reply.integer(1),
        Answer::OldValue => {}
    }
    Ok(())
}

/// Logs a SET whose effect is not the command itself: relative times become absolute ones, and `GET` is left out.
fn log_set(op: &mut Op, key: &[u8], value: &[u8], time: Option<UnixMs>, gets: bool) {
    if let Some(at) = time {
        let mut digits = itoa::Buffer::new();
        let at = digits.format(at.signed()).as_bytes();
        op.instead(&[b"SET", key, value, b"PXAT", at]);
    } else if gets {
        let options = op.args.slice_from(3);
        let mut words = vec![b"SET", key, value];
        words.extend(options.iter().filter(|word| !word.eq_ignore_ascii_case(b"GET")));
        op.instead(&words);
    }
}

/// The point of time that was given, if one was.
fn resolve(op: &Op, time: Option<GivenTime>) -> Result<Option<UnixMs>, ReplyError> {
    time.map(|time| time.in_future_of(op.env.now, op.command.name))
        .transpose()
}

/// Answers the old value, or nil; says whether there was one.
fn answer_old(reply: &mut Reply<'_>, old: Option<EntryRef<'_>>) -> bool {
    match old {
        Some(entry) => reply_string(reply, entry),
        None => reply.null(),
    }
    old.is_some()
}

/// Options that stand for a fixed command: a condition, an answer, and perhaps a time.
fn fixed<'a>(condition: Condition, answer: Answer, time: Option<GivenTime<'a>>) -> SetOptions<'a> {
    SetOptions {
        condition,
        answer,
        expiry: ExpiryOptions {
            time,
            ..ExpiryOptions::default()
        },
    }
}

pub(super) const SETNX: Command = Command {
    summary: "Stores a string under a key if the key is missing.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 3,
    flags: WRITE.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, INSERT)],
    arguments: &[Argument::key("key", 0), arg("value", ArgumentKind::String)],
    deprecated: Some(("2.6.12", "`SET` with the `NX` argument")),
    ..command("setnx", Run::Keys(setnx))
};

fn setnx(op: &mut Op) -> Result<(), ReplyError> {
    let (key, value) = (op.args.at(1), op.args.at(2));
    store(op, key, value, fixed(Condition::Missing, Answer::Flag, None))
}

pub(super) const SETEX: Command = Command {
    summary: "Stores a string under a key that expires after so many seconds.",
    since: "2.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 4,
    flags: WRITE,
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, OVERWRITE)],
    arguments: &[
        Argument::key("key", 0),
        arg("seconds", ArgumentKind::Integer),
        arg("value", ArgumentKind::String),
    ],
    deprecated: Some(("2.6.12", "`SET` with the `EX` argument")),
    ..command("setex", Run::Keys(setex))
};

fn setex(op: &mut Op) -> Result<(), ReplyError> {
    set_with_time(op, TimeForm::Seconds)
}

pub(super) const PSETEX: Command = Command {
    summary: "Stores a string under a key that expires after so many milliseconds.",
    since: "2.6.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 4,
    flags: WRITE,
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, OVERWRITE)],
    arguments: &[
        Argument::key("key", 0),
        arg("milliseconds", ArgumentKind::Integer),
        arg("value", ArgumentKind::String),
    ],
    deprecated: Some(("2.6.12", "`SET` with the `PX` argument")),
    ..command("psetex", Run::Keys(psetex))
};

fn psetex(op: &mut Op) -> Result<(), ReplyError> {
    set_with_time(op, TimeForm::Milliseconds)
}

fn set_with_time(op: &mut Op, form: TimeForm) -> Result<(), ReplyError> {
    let (key, text, value) = (op.args.at(1), op.args.at(2), op.args.at(3));
    let time = GivenTime { form, text };
    store(op, key, value, fixed(Condition::Always, Answer::Ok, Some(time)))
}

pub(super) const GETSET: Command = Command {
    summary: "Stores a string under a key and answers the old one.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 3,
    flags: WRITE.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, READ_UPDATE)],
    arguments: &[Argument::key("key", 0), arg("value", ArgumentKind::String)],
    deprecated: Some(("6.2.0", "`SET` with the `!GET` argument")),
    ..command("getset", Run::Keys(getset))
};

fn getset(op: &mut Op) -> Result<(), ReplyError> {
    let (key, value) = (op.args.at(1), op.args.at(2));
    store(op, key, value, fixed(Condition::Always, Answer::OldValue, None))
}

pub(super) const GETDEL: Command = Command {
    summary: "Answers the string that a key holds and deletes the key.",
    since: "6.2.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::WRITE.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(
        1,
        KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE),
    )],
    arguments: &[Argument::key("key", 0)],
    ..command("getdel", Run::Keys(getdel))
};

fn getdel(op: &mut Op) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let old = op.keys.read_string(key)?;
    if answer_old(&mut op.reply, old) {
        delete(op, key)?;
    }
    Ok(())
}

/// Deletes a key that exists, and logs it as DEL.
fn delete(op: &mut Op, key: &[u8]) -> Result<(), ReplyError> {
    let (db, moment) = (op.keys.db, op.keys.moment);
    let slot = op.keys.slot_of(key);
    op.keys.numbered(slot)?.remove(db, key, moment);
    op.wrote(key, Event::generic("del"));
    op.instead(&[b"DEL", key]);
    Ok(())
}

pub(super) const GETEX: Command = Command {
    summary: "Answers the string that a key holds, and sets or removes the key's expiry.",
    since: "6.2.0",
    group: Group::String,
    complexity: "O(1)",
    arity: -2,
    flags: Flags::WRITE.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec {
        notes: "RW and UPDATE because it changes the TTL",
        ..KeySpec::one(1, READ_UPDATE)
    }],
    arguments: &[
        Argument::key("key", 0),
        arg(
            "expiration",
            ArgumentKind::OneOf(&[
                arg("seconds", ArgumentKind::Integer).token("EX"),
                arg("milliseconds", ArgumentKind::Integer).token("PX"),
                arg("unix-time-seconds", ArgumentKind::UnixTime).token("EXAT"),
                arg("unix-time-milliseconds", ArgumentKind::UnixTime).token("PXAT"),
                Argument::word("persist", "PERSIST"),
            ]),
        )
        .optional(),
    ],
    ..command("getex", Run::Keys(getex))
};

fn getex(op: &mut Op) -> Result<(), ReplyError> {
    let mut options = ExpiryOptions::default();
    let mut words = Options::behind(op.args, 2);
    while !words.is_empty() {
        if !(options.take_time(&mut words)? || options.take_persist(&mut words)) {
            return Err(error::SYNTAX);
        }
    }
    let key = op.args.at(1);
    let old = op.keys.read_string(key)?;
    let had_expiry = old.is_some_and(|entry| entry.expiry().is_some());
    // A number that is refused takes this reply back; on a missing key nobody looks at it.
    if !answer_old(&mut op.reply, old) {
        return Ok(());
    }
    let (db, moment) = (op.keys.db, op.keys.moment);
    let slot = op.keys.slot_of(key);
    match (resolve(op, options.time)?, options.time) {
        (Some(at), Some(given)) if given.form.is_absolute() && at <= moment.now => delete(op, key)?,
        (Some(at), _) => {
            op.keys.numbered(slot)?.set_expiry(db, key, Some(at), moment);
            op.wrote(key, Event::generic("expire"));
            let mut digits = itoa::Buffer::new();
            let at = digits.format(at.signed()).as_bytes();
            op.instead(&[b"PEXPIREAT", key, at]);
        }
        (None, _) if options.persists && had_expiry => {
            op.keys.numbered(slot)?.set_expiry(db, key, None, moment);
            op.wrote(key, Event::generic("persist"));
            op.instead(&[b"PERSIST", key]);
        }
        (None, _) => {}
    }
    Ok(())
}

const PAIRS: &[Argument] = &[arg(
    "data",
    ArgumentKind::Block(&[Argument::key("key", 0), arg("value", ArgumentKind::String)]),
)
.multiple()];

pub(super) const MSET: Command = Command {
    summary: "Stores strings under several keys at once, over whatever is there.",
    since: "1.0.1",
    group: Group::String,
    complexity: "O(N), N being the number of keys.",
    arity: -3,
    flags: WRITE,
    categories: Categories::STRING,
    tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
    keys: &[KeySpec::range(1, -1, 2, OVERWRITE)],
    arguments: PAIRS,
    ..command("mset", Run::Keys(mset))
};

fn mset(op: &mut Op) -> Result<(), ReplyError> {
    check_pairs(op)?;
    store_pairs(op)?;
    op.reply.ok();
    Ok(())
}

pub(super) const MSETNX: Command = Command {
    summary: "Stores strings under several keys at once if none of the keys exists.",
    since: "1.0.1",
    group: Group::String,
    complexity: "O(N), N being the number of keys.",
    arity: -3,
    flags: WRITE,
    categories: Categories::STRING,
    keys: &[KeySpec::range(1, -1, 2, INSERT)],
    arguments: PAIRS,
    ..command("msetnx", Run::Keys(msetnx))
};

fn msetnx(op: &mut Op) -> Result<(), ReplyError> {
    check_pairs(op)?;
    for key in op.args.slice_from(1).iter().step_by(2) {
        if op.keys.visit(key)?.is_some() {
            op.reply.integer(0);
            return Ok(());
        }
    }
    store_pairs(op)?;
    op.reply.integer(1);
    Ok(())
}

/// Refuses a key without a value.
fn check_pairs(op: &Op) -> Result<(), ReplyError> {
    if op.args.len().is_multiple_of(2) {
        return Err(error::wrong_arity(op.command.name));
    }
    Ok(())
}

fn store_pairs(op: &mut Op) -> Result<(), ReplyError> {
    let (db, moment) = (op.keys.db, op.keys.moment);
    for index in (1..op.args.len()).step_by(2) {
        let (key, value) = (op.args.at(index), op.args.at(index + 1));
        let slot = op.keys.slot(key)?;
        slot.set_string(db, key, value, StringForm::Detect, Expiry::Clear, moment);
        op.wrote(key, Event::string("set"));
    }
    Ok(())
}
