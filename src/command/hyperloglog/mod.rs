//! The HyperLogLog family: strings that estimate how many different elements were added to them.
//!
//! The format and the estimate are [`crate::data::hyperloglog`]'s. A value is a string like any other: GET, SET, DUMP and
//! APPEND take it, and every command here looks first whether it (still) is a HyperLogLog.
//!
//! A value that is dense is changed in place; a sparse one is at most `hll-sparse-max-bytes` long and is replaced. A
//! command that finds a value damaged changes nothing.
//!
//! | command | its effect |
//! |---|---|
//! | PFADD | the command itself, if a register changed or the key is new |
//! | PFCOUNT of one key | the command itself, if the estimate in the value was outdated: replicas then have it too |
//! | PFMERGE | the command itself |
//! | PFDEBUG GETREG, TODENSE | the command itself, if the value became dense |
//!
//! PFCOUNT of one key writes the estimate into the value and yet is a command that only reads, as in Redis.

#[cfg(test)]
mod tests;

use crate::data::Encoding;
use crate::data::hyperloglog::{self, Added, Corrupted, Form, NotAHyperLogLog, REGISTER_COUNT, Registers, View};
use crate::data::string::StringForm;
use crate::engine::{Command, Event, Op, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};
use crate::store::{Edited, EntryRef, Expiry, ValueRef};
use bytes::Bytes;

pub const COMMANDS: &[Command] = &[PFADD, PFCOUNT, PFDEBUG, PFMERGE, PFSELFTEST];

const WRITE: Flags = Flags::WRITE.union(Flags::DENYOOM);

impl From<NotAHyperLogLog> for ReplyError {
    fn from(_: NotAHyperLogLog) -> ReplyError {
        error::HLL_WRONG_TYPE
    }
}

impl From<Corrupted> for ReplyError {
    fn from(_: Corrupted) -> ReplyError {
        error::HLL_CORRUPTED
    }
}

/// The value of a string.
fn view(entry: EntryRef<'_>) -> Result<View<'_>, NotAHyperLogLog> {
    match entry.value() {
        ValueRef::Inline(bytes) => View::new(bytes),
        ValueRef::Shared(bytes) => View::new(bytes),
        // An integer is too short for a header; other types the caller has refused.
        ValueRef::Int(_) | ValueRef::Object(_) => Err(NotAHyperLogLog),
    }
}

/// Stores a value; a key that was there keeps its expiry.
fn store(op: &mut Op, key: &[u8], value: impl Into<Bytes>) -> Result<(), ReplyError> {
    let (db, moment) = (op.keys.db, op.keys.moment);
    op.keys
        .slot(key)?
        .set_shared(db, key, value.into(), StringForm::Raw, Expiry::Keep, moment);
    Ok(())
}

/// Changes the bytes of a value that keeps its length.
fn edit<R>(op: &mut Op, key: &[u8], edit: impl FnOnce(&mut [u8]) -> R) -> Result<R, ReplyError> {
    let (db, moment) = (op.keys.db, op.keys.moment);
    Ok(op
        .keys
        .slot(key)?
        .edit_string(db, key, 0, moment, |bytes| Edited::Changed(edit(bytes.write_all()))))
}

const PFADD: Command = Command {
    summary: "Adds elements to a HyperLogLog; creates the key if it is missing.",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: "O(1) for each element.",
    arity: -2,
    flags: WRITE.union(Flags::FAST),
    categories: Categories::HYPERLOGLOG,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::INSERT))],
    arguments: &[
        Argument::key("key", 0),
        arg("element", ArgumentKind::String).optional().multiple(),
    ],
    ..command("pfadd", Run::Keys(pfadd))
};

fn pfadd(op: &mut Op) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let elements = op.args.slice_from(2);
    let sparse_bytes_max = op.env.settings.hll_sparse_max_bytes as usize;
    let changes = match op.keys.peek_string(key)? {
        None => {
            let empty = hyperloglog::empty();
            let (mut value, count) = match hyperloglog::add(View::new(&empty)?, elements.iter(), sparse_bytes_max)? {
                Added::Replaced(value, count) => (value, count),
                Added::Unchanged | Added::InPlace => (empty, 0),
            };
            hyperloglog::outdate(&mut value);
            store(op, key, value)?;
            count + 1
        }
        Some(entry) => {
            let is_raw = entry.encoding() == Encoding::Raw;
            match hyperloglog::add(view(entry)?, elements.iter(), sparse_bytes_max)? {
                Added::Unchanged if is_raw => 0,
                // Redis makes it `raw` before it looks at the elements.
                Added::Unchanged => edit(op, key, |_| 0)?,
                Added::InPlace => edit(op, key, |value| hyperloglog::add_to_dense(value, elements.iter()))?,
                Added::Replaced(value, count) => {
                    store(op, key, value)?;
                    count
                }
            }
        }
    };
    if changes > 0 {
        op.wrote_times(key, Event::string("pfadd"), changes as u64);
    }
    op.reply.integer(i64::from(changes > 0));
    Ok(())
}

const PFCOUNT: Command = Command {
    summary: "Estimates how many different elements were added to a HyperLogLog, or to several together.",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: "O(1) for one key, from the estimate that it keeps where that is not outdated; O(N) for N keys, with a \
                 large constant.",
    arity: -2,
    flags: Flags::READONLY,
    categories: Categories::HYPERLOGLOG,
    keys: &[KeySpec {
        notes: "RW because it may change the internal representation of the key, and propagate to replicas",
        ..KeySpec::range(1, -1, 1, KeyFlags::RW.union(KeyFlags::ACCESS))
    }],
    arguments: &[Argument::key("key", 0).multiple()],
    ..command("pfcount", Run::Keys(pfcount))
};

fn pfcount(op: &mut Op) -> Result<(), ReplyError> {
    if op.args.len() > 2 {
        let merged = merge(op, 1)?;
        op.reply.integer(hyperloglog::estimate_of(&merged.registers) as i64);
        return Ok(());
    }
    let key = op.args.at(1);
    let Some(entry) = op.keys.read_string(key)? else {
        op.reply.integer(0);
        return Ok(());
    };
    let is_raw = entry.encoding() == Encoding::Raw;
    let value = view(entry)?;
    let estimate = match value.cached_estimate() {
        Some(estimate) => {
            if !is_raw {
                edit(op, key, |_| ())?;
            }
            estimate
        }
        None => {
            let estimate = value.estimate()?;
            edit(op, key, |value| hyperloglog::set_estimate(value, estimate))?;
            // No event: to clients the value is the same.
            op.changed(1);
            estimate
        }
    };
    op.reply.integer(estimate as i64);
    Ok(())
}

/// Several values together.
struct Merged {
    registers: Box<Registers>,
    /// One of them was dense.
    has_dense: bool,
}

/// Merges the values of the keys from an argument on; keys that are missing add nothing.
fn merge(op: &mut Op, first: usize) -> Result<Merged, ReplyError> {
    let mut merged = Merged {
        registers: Box::new([0; REGISTER_COUNT]),
        has_dense: false,
    };
    for key in op.args.slice_from(first).iter() {
        if let Some(entry) = op.keys.read_string(key)? {
            let value = view(entry)?;
            merged.has_dense |= value.form() == Form::Dense;
            value.merge_into(&mut merged.registers)?;
        }
    }
    Ok(merged)
}

const PFMERGE: Command = Command {
    summary: "Merges HyperLogLogs into one, which then is as if all elements had been added to it.",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: "O(N) for N keys, with a large constant.",
    arity: -2,
    flags: WRITE,
    categories: Categories::HYPERLOGLOG,
    keys: &[
        KeySpec::one(1, KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::INSERT)),
        KeySpec::range(2, -1, 1, KeyFlags::RO.union(KeyFlags::ACCESS)),
    ],
    arguments: &[
        Argument::key("destkey", 0),
        Argument::key("sourcekey", 1).optional().multiple(),
    ],
    ..command("pfmerge", Run::Keys(pfmerge))
};

fn pfmerge(op: &mut Op) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let sparse_bytes_max = op.env.settings.hll_sparse_max_bytes as usize;
    let merged = merge(op, 1)?;
    let mut value = match op.keys.peek_string(key)? {
        // It has been looked at: it is no integer.
        Some(entry) => entry.value().as_bytes(&mut itoa::Buffer::new()).to_vec(),
        None => hyperloglog::empty(),
    };
    if merged.has_dense {
        hyperloglog::make_dense(&mut value)?;
    }
    hyperloglog::raise_all(&mut value, &merged.registers, sparse_bytes_max)?;
    store(op, key, value)?;
    // Redis has no event of its own for it.
    op.wrote(key, Event::string("pfadd"));
    op.reply.ok();
    Ok(())
}

const PFDEBUG: Command = Command {
    summary: "Shows and changes how a HyperLogLog is kept.",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: "N/A",
    arity: 3,
    flags: WRITE.union(Flags::ADMIN),
    categories: Categories::HYPERLOGLOG,
    keys: &[KeySpec::one(2, KeyFlags::RW.union(KeyFlags::ACCESS))],
    arguments: &[arg("subcommand", ArgumentKind::String), Argument::key("key", 0)],
    ..command("pfdebug", Run::Keys(pfdebug))
};

fn pfdebug(op: &mut Op) -> Result<(), ReplyError> {
    let (subcommand, key) = (op.args.at(1), op.args.at(2));
    let entry = op.keys.peek_string(key)?.ok_or(error::HLL_NO_KEY)?;
    let is_raw = entry.encoding() == Encoding::Raw;
    let value = view(entry)?;
    let is_sparse = value.form() == Form::Sparse;
    let is = |word: &[u8]| subcommand.eq_ignore_ascii_case(word);
    if is(b"GETREG") || is(b"TODENSE") {
        let mut registers = Box::new([0; REGISTER_COUNT]);
        value.merge_into(&mut registers)?;
        if is_sparse {
            let mut value = entry.value().as_bytes(&mut itoa::Buffer::new()).to_vec();
            let sparse_bytes = value.len();
            hyperloglog::make_dense(&mut value)?;
            // Only a client's own text is ever longer than the dense form.
            if sparse_bytes <= value.len() {
                reform(op, key, &value)?;
            } else {
                store(op, key, value)?;
            }
            // No event, in Redis neither.
            op.changed(1);
        }
        if is(b"TODENSE") {
            op.reply.integer(i64::from(is_sparse));
            return Ok(());
        }
        op.reply.array(REGISTER_COUNT);
        for register in registers.iter() {
            op.reply.integer(i64::from(*register));
        }
        return Ok(());
    }
    if is(b"DECODE") {
        let text = value.decoded().ok_or(error::HLL_NOT_SPARSE)?;
        op.reply.bulk(text.as_bytes());
    } else if is(b"ENCODING") {
        op.reply.simple(if is_sparse { "sparse" } else { "dense" });
    } else {
        return Err(error::unknown_pfdebug_subcommand(subcommand));
    }
    if !is_raw {
        reform(op, key, b"")?;
    }
    Ok(())
}

/// Makes a value raw, and `value` of it, which says the same in another form and is not shorter; or nothing else of it, if there is none.
/// To watchers that is no change.
fn reform(op: &mut Op, key: &[u8], value: &[u8]) -> Result<(), ReplyError> {
    let (db, moment) = (op.keys.db, op.keys.moment);
    let slot = op.keys.slot(key)?;
    slot.edit_string(db, key, value.len(), moment, |bytes| {
        bytes.write(0..value.len()).copy_from_slice(value);
        Edited::Same(())
    });
    Ok(())
}

const PFSELFTEST: Command = Command {
    summary: "Tests the estimates of HyperLogLogs, sparse and dense, against known numbers of elements.",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: "N/A",
    arity: 1,
    flags: Flags::ADMIN,
    categories: Categories::HYPERLOGLOG,
    ..command("pfselftest", Run::Session(pfselftest))
};

fn pfselftest(op: &mut SessionOp) -> Result<(), ReplyError> {
    match hyperloglog::self_test() {
        Ok(()) => op.reply.ok(),
        Err(failure) => return Err(ReplyError::owned(format!("TESTFAILED {failure}"))),
    }
    Ok(())
}
