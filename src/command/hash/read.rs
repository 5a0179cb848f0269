//! Reading: single fields, all of them, some by chance (HRANDFIELD), piece by piece (HSCAN).
//!
//! Replies are written while the hash is walked, from the bytes where they lie: nothing is allocated for a field.

use crate::base::clock::UnixMs;
use crate::base::glob;
use crate::base::numbers::parse_i64;
use crate::data::hash::HashRef;
use crate::data::listpack::Item;
use crate::engine::Op;
use crate::engine::arguments::element_scan::ElementScan;
use crate::engine::arguments::is_word;
use crate::engine::arguments::numbers;
use crate::resp::{Args, Reply, ReplyError, error};
use std::ops::ControlFlow;

pub(super) fn hget(op: &mut Op) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let hash = op.keys.read_hash(op.args.at(1))?;
    reply_value(
        &mut op.reply,
        hash.and_then(|hash| hash.get(op.args.at(2), now, seed)),
        &mut itoa::Buffer::new(),
    );
    Ok(())
}

pub(super) fn hmget(op: &mut Op) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let fields = op.args.slice_from(2);
    let hash = op.keys.read_hash(op.args.at(1))?;
    let mut digits = itoa::Buffer::new();
    op.reply.array(fields.len());
    for field in fields.iter() {
        let value = hash.and_then(|hash| hash.get(field, now, seed));
        reply_value(&mut op.reply, value, &mut digits);
    }
    Ok(())
}

pub(super) fn hstrlen(op: &mut Op) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let hash = op.keys.read_hash(op.args.at(1))?;
    let value = hash.and_then(|hash| hash.get(op.args.at(2), now, seed));
    op.reply.integer(value.map_or(0, |value| value.len() as i64));
    Ok(())
}

pub(super) fn hexists(op: &mut Op) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let hash = op.keys.read_hash(op.args.at(1))?;
    let exists = hash.is_some_and(|hash| hash.contains(op.args.at(2), now, seed));
    op.reply.integer(i64::from(exists));
    Ok(())
}

pub(super) fn hlen(op: &mut Op) -> Result<(), ReplyError> {
    let now = op.keys.moment.now;
    let hash = op.keys.read_hash(op.args.at(1))?;
    op.reply.integer(hash.map_or(0, |hash| hash.live_len(now)) as i64);
    Ok(())
}

pub(super) fn hgetall(op: &mut Op) -> Result<(), ReplyError> {
    let now = op.keys.moment.now;
    let Some(hash) = op.keys.read_hash(op.args.at(1))? else {
        op.reply.map(0);
        return Ok(());
    };
    let reply = &mut op.reply;
    let mut digits = itoa::Buffer::new();
    reply.map(hash.live_len(now));
    hash.for_each(now, |field, value| {
        reply.bulk(field.as_bytes(&mut digits));
        reply.bulk(value.as_bytes(&mut digits));
    });
    Ok(())
}

pub(super) fn hkeys(op: &mut Op) -> Result<(), ReplyError> {
    each(op, |field, _| field)
}

pub(super) fn hvals(op: &mut Op) -> Result<(), ReplyError> {
    each(op, |_, value| value)
}

fn each(op: &mut Op, part: impl for<'h> Fn(Item<'h>, Item<'h>) -> Item<'h>) -> Result<(), ReplyError> {
    let now = op.keys.moment.now;
    let Some(hash) = op.keys.read_hash(op.args.at(1))? else {
        op.reply.array(0);
        return Ok(());
    };
    let reply = &mut op.reply;
    let mut digits = itoa::Buffer::new();
    reply.array(hash.live_len(now));
    hash.for_each(now, |field, value| reply.bulk(part(field, value).as_bytes(&mut digits)));
    Ok(())
}

/// A value, or nil.
pub(super) fn reply_value(reply: &mut Reply<'_>, value: Option<Item<'_>>, digits: &mut itoa::Buffer) {
    match value {
        Some(value) => reply.bulk(value.as_bytes(digits)),
        None => reply.null(),
    }
}

pub(super) fn hrandfield(op: &mut Op) -> Result<(), ReplyError> {
    let (now, seed) = (op.keys.moment.now, op.env.seed);
    let mut digits = itoa::Buffer::new();
    if op.args.len() == 2 {
        let hash = op.keys.read_hash(op.args.at(1))?;
        let drawn = hash.and_then(|hash| hash.random(now, &mut op.env.random, seed));
        reply_value(&mut op.reply, drawn.map(|(field, _)| field), &mut digits);
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
        reply.bulk(field.as_bytes(&mut digits));
        if with_values {
            reply.bulk(value.as_bytes(&mut digits));
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
    let count = parse_i64(args.at(2)).ok_or(error::NOT_AN_INTEGER)?;
    if count == i64::MIN {
        return Err(error::out_of_bounds(-i64::MAX, i64::MAX));
    }
    let with_values = args.len() == 4 && is_word(args, 3, b"WITHVALUES");
    if args.len() > 3 && !with_values {
        return Err(error::SYNTAX);
    }
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(error::OUT_OF_RANGE);
    }
    Ok((count, with_values))
}

pub(super) fn hscan(op: &mut Op) -> Result<(), ReplyError> {
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
    let mut digits = itoa::Buffer::new();
    reply.array(2);
    reply.bulk(digits.format(next).as_bytes());
    reply.array(found.len() * if scan.with_values { 2 } else { 1 });
    for (field, value) in found {
        reply.bulk(field.as_bytes(&mut digits));
        if scan.with_values {
            reply.bulk(value.as_bytes(&mut digits));
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
