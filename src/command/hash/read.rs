//! Reading: single fields, all of them, some by chance (HRANDFIELD), piece by piece (HSCAN).
//!
//! Replies are written while the hash is walked, from the bytes where they lie: nothing is allocated for a field.

use super::{EACH_FIELD, FAST_READ, FIELD, KEY, READ, hash};
use crate::base::clock::UnixMs;
use crate::base::glob;
use crate::data::hash::HashRef;
use crate::data::listpack::Item;
use crate::engine::arguments::element_scan::ElementScan;
use crate::engine::arguments::{Options, numbers};
use crate::engine::stored::{reply_item, reply_item_or_null};
use crate::engine::{Command, Op};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Flags, KeyFlags, KeySpec, arg};
use std::ops::ControlFlow;

const KEY_ONLY: &[Argument] = &[KEY];
const KEY_AND_FIELD: &[Argument] = &[KEY, FIELD];
const WHOLE: &str = "O(N), N being the number of fields of the hash.";

pub(super) const HGET: Command = Command {
    summary: "Answers the value of a field of a hash.",
    arity: 3,
    flags: FAST_READ,
    keys: &[KeySpec::one(1, READ)],
    arguments: KEY_AND_FIELD,
    ..hash("hget", hget)
};

fn hget(op: &mut Op) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let hash = op.keys.read_hash(op.args.at(1))?;
    let value = hash.and_then(|hash| hash.get(op.args.at(2), now, seed));
    reply_item_or_null(&mut op.reply, value);
    Ok(())
}

pub(super) const HMGET: Command = Command {
    summary: "Answers the values of several fields of a hash, nil for those that are missing.",
    complexity: EACH_FIELD,
    arity: -3,
    flags: FAST_READ,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[KEY, FIELD.multiple()],
    ..hash("hmget", hmget)
};

fn hmget(op: &mut Op) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let fields = op.args.slice_from(2);
    let hash = op.keys.read_hash(op.args.at(1))?;
    op.reply.array(fields.len());
    for field in fields.iter() {
        let value = hash.and_then(|hash| hash.get(field, now, seed));
        reply_item_or_null(&mut op.reply, value);
    }
    Ok(())
}

pub(super) const HSTRLEN: Command = Command {
    summary: "Answers the length of the value of a field of a hash, in bytes.",
    since: "3.2.0",
    arity: 3,
    flags: FAST_READ,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: KEY_AND_FIELD,
    ..hash("hstrlen", hstrlen)
};

fn hstrlen(op: &mut Op) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let hash = op.keys.read_hash(op.args.at(1))?;
    let value = hash.and_then(|hash| hash.get(op.args.at(2), now, seed));
    op.reply.integer(value.map_or(0, |value| value.len() as i64));
    Ok(())
}

pub(super) const HEXISTS: Command = Command {
    summary: "Says whether a hash has a field.",
    arity: 3,
    flags: FAST_READ,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: KEY_AND_FIELD,
    ..hash("hexists", hexists)
};

fn hexists(op: &mut Op) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let hash = op.keys.read_hash(op.args.at(1))?;
    let exists = hash.is_some_and(|hash| hash.contains(op.args.at(2), now, seed));
    op.reply.integer(i64::from(exists));
    Ok(())
}

pub(super) const HLEN: Command = Command {
    summary: "Answers how many fields a hash has.",
    arity: 2,
    flags: FAST_READ,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: KEY_ONLY,
    ..hash("hlen", hlen)
};

fn hlen(op: &mut Op) -> Result<(), ReplyError> {
    let now = op.keys.moment.now;
    let hash = op.keys.read_hash(op.args.at(1))?;
    op.reply.integer(hash.map_or(0, |hash| hash.live_len(now)) as i64);
    Ok(())
}

pub(super) const HGETALL: Command = Command {
    summary: "Answers all fields of a hash with their values.",
    complexity: WHOLE,
    arity: 2,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output_order"],
    keys: &[KeySpec::one(1, READ)],
    arguments: KEY_ONLY,
    ..hash("hgetall", hgetall)
};

fn hgetall(op: &mut Op) -> Result<(), ReplyError> {
    let now = op.keys.moment.now;
    let Some(hash) = op.keys.read_hash(op.args.at(1))? else {
        op.reply.map(0);
        return Ok(());
    };
    let reply = &mut op.reply;
    reply.map(hash.live_len(now));
    hash.for_each(now, |field, value| {
        reply_item(reply, field);
        reply_item(reply, value);
    });
    Ok(())
}

pub(super) const HKEYS: Command = Command {
    summary: "Answers the names of all fields of a hash.",
    complexity: WHOLE,
    arity: 2,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output_order"],
    keys: &[KeySpec::one(1, READ)],
    arguments: KEY_ONLY,
    ..hash("hkeys", hkeys)
};

fn hkeys(op: &mut Op) -> Result<(), ReplyError> {
    each(op, |field, _| field)
}

pub(super) const HVALS: Command = Command {
    summary: "Answers the values of all fields of a hash.",
    complexity: WHOLE,
    arity: 2,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output_order"],
    keys: &[KeySpec::one(1, READ)],
    arguments: KEY_ONLY,
    ..hash("hvals", hvals)
};

fn hvals(op: &mut Op) -> Result<(), ReplyError> {
    each(op, |_, value| value)
}

fn each(op: &mut Op, part: impl for<'h> Fn(Item<'h>, Item<'h>) -> Item<'h>) -> Result<(), ReplyError> {
    let now = op.keys.moment.now;
    let Some(hash) = op.keys.read_hash(op.args.at(1))? else {
        op.reply.array(0);
        return Ok(());
    };
    let reply = &mut op.reply;
    reply.array(hash.live_len(now));
    hash.for_each(now, |field, value| reply_item(reply, part(field, value)));
    Ok(())
}

pub(super) const HRANDFIELD: Command = Command {
    summary: "Answers fields of a hash that chance has chosen.",
    since: "6.2.0",
    complexity: "O(N), N being the number of fields that are answered; a packed hash is walked through.",
    arity: -2,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        KEY,
        arg(
            "options",
            ArgumentKind::Block(&[
                arg("count", ArgumentKind::Integer),
                Argument::word("withvalues", "WITHVALUES").optional(),
            ]),
        )
        .optional(),
    ],
    ..hash("hrandfield", hrandfield)
};

fn hrandfield(op: &mut Op) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    if op.args.len() == 2 {
        let hash = op.keys.read_hash(op.args.at(1))?;
        let drawn = hash.and_then(|hash| hash.random(now, &mut op.env.random, seed));
        reply_item_or_null(&mut op.reply, drawn.map(|(field, _)| field));
        return Ok(());
    }
    let (count, with_values) = random_count(op.args)?;
    let hash = op.keys.read_hash(op.args.at(1))?;
    let live = hash.map_or(0, |hash| hash.live_len(now));
    let Some(hash) = hash.filter(|_| live > 0 && count != 0) else {
        op.reply.array(0);
        return Ok(());
    };
    let is_repeated = count < 0;
    let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let count = if is_repeated { count } else { count.min(live) };
    let reply = &mut op.reply;
    // RESP3 has a pair for each field, RESP2 all in one row.
    let in_pairs = with_values && reply.is_resp3();
    reply.array(if with_values && !in_pairs { 2 * count } else { count });
    let mut write = |field: Item<'_>, value: Item<'_>| -> ControlFlow<()> {
        if in_pairs {
            reply.array(2);
        }
        reply_item(reply, field);
        if with_values {
            reply_item(reply, value);
        }
        if reply.is_full() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    if is_repeated {
        hash.random_repeated(count, now, &mut op.env.random, seed, write);
    } else if count == live {
        hash.for_each(now, |field, value| {
            let _ = write(field, value);
        });
    } else {
        for (field, value) in hash.random_distinct(count, now, &mut op.env.random, seed) {
            if write(field, value).is_break() {
                break;
            }
        }
    }
    Ok(())
}

/// HRANDFIELD's count, and whether it has `WITHVALUES`.
fn random_count(args: Args) -> Result<(i64, bool), ReplyError> {
    let count = numbers::negatable(args.at(2))?;
    let mut options = Options::behind(args, 3);
    let with_values = options.flag(b"WITHVALUES");
    if !options.is_empty() {
        return Err(error::SYNTAX);
    }
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(error::OUT_OF_RANGE);
    }
    Ok((count, with_values))
}

pub(super) const HSCAN: Command = Command {
    summary: "Lists the fields of a hash piece by piece.",
    since: "2.8.0",
    complexity: "O(1) for a call, O(N) for all the calls that walk through N fields.",
    arity: -3,
    flags: Flags::READONLY,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        KEY,
        arg("cursor", ArgumentKind::Integer),
        arg("pattern", ArgumentKind::Pattern).token("MATCH").optional(),
        arg("count", ArgumentKind::Integer).token("COUNT").optional(),
        Argument::word("novalues", "NOVALUES").optional().since("7.4.0"),
    ],
    history: &[("7.4.0", "The option `NOVALUES`.")],
    ..hash("hscan", hscan)
};

fn hscan(op: &mut Op) -> Result<(), ReplyError> {
    let now = op.keys.moment.now;
    let cursor = numbers::cursor(op.args.at(2))?;
    let Some(hash) = op.keys.read_hash(op.args.at(1))? else {
        op.reply.array(2);
        op.reply.bulk(b"0");
        op.reply.array(0);
        return Ok(());
    };
    let scan = ElementScan::parse(op.args, true)?;
    let mut found = Vec::new();
    let next = visit(hash, cursor, &scan, now, &mut found);
    let reply = &mut op.reply;
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    reply.array(found.len() * if scan.with_values { 2 } else { 1 });
    for (field, value) in found {
        reply_item(reply, field);
        if scan.with_values {
            reply_item(reply, value);
        }
    }
    Ok(())
}

fn visit<'h>(
    hash: HashRef<'h>,
    cursor: u64,
    scan: &ElementScan<'_>,
    now: UnixMs,
    found: &mut Vec<(Item<'h>, Item<'h>)>,
) -> u64 {
    let mut digits = itoa::Buffer::new();
    hash.scan(cursor, scan.count, now, |field, value| {
        let is_wanted = scan
            .pattern
            .is_none_or(|pattern| glob::matches(pattern, field.as_bytes(&mut digits)));
        if is_wanted {
            found.push((field, value));
        }
    })
}

/// HTTL and its relatives: what `answer` makes of the expiry of each field that is listed, -1 for none and -2 for no such field.
pub(super) fn expiries(op: &mut Op, answer: impl Fn(u64, u64) -> u64) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let hash = op.keys.read_hash(op.args.at(1))?;
    let fields = super::listed_fields(op.args, 2, error::HASH_FIELD_COUNT_NOT_POSITIVE)?;
    op.reply.array(fields.len());
    for field in fields.iter() {
        op.reply
            .integer(match hash.and_then(|hash| hash.expiry(field, now, seed)) {
                None => -2,
                Some(None) => -1,
                Some(Some(at)) => answer(at.0, now.0) as i64,
            });
    }
    Ok(())
}
