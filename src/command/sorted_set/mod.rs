//! The sorted set family: elements that come ([`add`]) and go ([`remove`], [`pop`], waited for: [`blocking`]), what is asked about one of them or about all
//! ([`read`]), ranges of them ([`range`]), and what several sorted sets have in common or apart ([`algebra`]).
//!
//! How a sorted set is laid out, what ranks a range has, and what scores are combined to is `data::sorted_set`'s matter. What is
//! kept here is what clients and replicas can see: which error comes first, the shape of each reply in either protocol, what counts as a
//! hit. A write is logged as itself, but ZMPOP and BZMPOP as `ZPOPMIN key n` or `ZPOPMAX key n`, `n` being how many were taken, and
//! BZPOPMIN and BZPOPMAX without a B.
//!
//! In RESP3 a score is a double, and elements with their scores are pairs; in RESP2 a score is its text, and the pairs
//! lie flat in one array. What departs from this rule says so where it is written.
//!
//! Invariants: all keys of a call are looked at before any is changed; and no command allocates for each element, but where
//! it builds a new sorted set.

mod add;
mod algebra;
mod blocking;
mod pop;
mod range;
mod read;
mod remove;
#[cfg(test)]
mod tests;

use crate::data::sorted_set::{ScoredMember, SortedSet};
use crate::engine::stored::reply_item;
use crate::engine::{Command, Event, Op};
use crate::resp::{Reply, ReplyError};
use crate::spec::{Argument, ArgumentKind, Flags, KeyFlags, KeySpec, arg};

pub const COMMANDS: &[Command] = &[
    blocking::BZMPOP,
    blocking::BZPOPMAX,
    blocking::BZPOPMIN,
    add::ZADD,
    read::ZCARD,
    read::ZCOUNT,
    algebra::ZDIFF,
    algebra::ZDIFFSTORE,
    add::ZINCRBY,
    algebra::ZINTER,
    algebra::ZINTERCARD,
    algebra::ZINTERSTORE,
    read::ZLEXCOUNT,
    pop::ZMPOP,
    read::ZMSCORE,
    pop::ZPOPMAX,
    pop::ZPOPMIN,
    read::ZRANDMEMBER,
    range::ZRANGE,
    range::ZRANGEBYLEX,
    range::ZRANGEBYSCORE,
    range::ZRANGESTORE,
    read::ZRANK,
    remove::ZREM,
    remove::ZREMRANGEBYLEX,
    remove::ZREMRANGEBYRANK,
    remove::ZREMRANGEBYSCORE,
    range::ZREVRANGE,
    range::ZREVRANGEBYLEX,
    range::ZREVRANGEBYSCORE,
    read::ZREVRANK,
    read::ZSCAN,
    read::ZSCORE,
    algebra::ZUNION,
    algebra::ZUNIONSTORE,
];

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const TARGET: KeyFlags = KeyFlags::OW.union(KeyFlags::UPDATE);
const TAKE: KeyFlags = KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE);
const FAST_READ: Flags = Flags::READONLY.union(Flags::FAST);
const GROWING: Flags = Flags::WRITE.union(Flags::DENYOOM);

const ONE_KEY: &[KeySpec] = &[KeySpec::one(1, READ)];
const KEY: Argument = Argument::key("key", 0);
const MEMBER: Argument = arg("member", ArgumentKind::String);
const MIN_SCORE: Argument = arg("min", ArgumentKind::Double);
const MAX_SCORE: Argument = arg("max", ArgumentKind::Double);
const MIN_MEMBER: Argument = arg("min", ArgumentKind::String);
const MAX_MEMBER: Argument = arg("max", ArgumentKind::String);
const COUNT: Argument = arg("count", ArgumentKind::Integer);
const WITHSCORES: Argument = Argument::word("withscores", "WITHSCORES").optional();

/// Begins an array of `count` elements with their scores.
fn begin_scored(reply: &mut Reply<'_>, count: usize) {
    reply.array(if reply.is_resp3() { count } else { 2 * count });
}

/// One element of it.
#[inline]
fn reply_scored(reply: &mut Reply<'_>, element: ScoredMember<'_>) {
    if reply.is_resp3() {
        reply.array(2);
    }
    reply_item(reply, element.member);
    reply.double(element.score);
}

/// Elements as an array, with their scores or without.
fn reply_elements<'e>(
    reply: &mut Reply<'_>,
    elements: impl ExactSizeIterator<Item = ScoredMember<'e>>,
    with_scores: bool,
) {
    if with_scores {
        begin_scored(reply, elements.len());
        elements.for_each(|element| reply_scored(reply, element));
    } else {
        reply.array(elements.len());
        elements.for_each(|element| reply_item(reply, element.member));
    }
}

/// Stores what a command has found over whatever is under the key (nothing deletes it), and replies with how much that is. The slot of
/// the key has been looked at.
fn store(op: &mut Op, target: &[u8], found: SortedSet, event: &'static str) -> Result<(), ReplyError> {
    let len = found.len();
    if op.keys.replace(target, found)? {
        let event = match len {
            0 => Event::generic("del"),
            _ => Event::sorted_set(event),
        };
        op.wrote(target, event);
    }
    op.reply.integer(len as i64);
    Ok(())
}
