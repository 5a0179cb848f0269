//! Elements that are taken and answered: ZPOPMIN, ZPOPMAX, ZMPOP.
//!
//! | | RESP2 | RESP3 |
//! |---|---|---|
//! | ZPOPMIN without a count | member, score | member, score |
//! | ZPOPMIN with a count | member, score, member, score... | pairs |
//! | ZMPOP | the key, and pairs | the key, and pairs |

use super::{COUNT, KEY, TAKE, begin_scored, reply_scored};
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::{element_count, natural};
use crate::engine::stored::reply_item;
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeySpec, arg, command};

const TAKE_ONE: &[KeySpec] = &[KeySpec::one(1, TAKE)];
const TAKE_ARGUMENTS: &[Argument] = &[KEY, COUNT.optional()];

/// What both have in common.
const fn popping(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "5.0.0",
        group: Group::SortedSet,
        complexity: "O(log(N)+M), N being the number of elements there are, M how many are taken.",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        categories: Categories::SORTEDSET,
        keys: TAKE_ONE,
        arguments: TAKE_ARGUMENTS,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const ZPOPMIN: Command = Command {
    summary: "Takes the elements with the lowest scores out of a sorted set and answers them.",
    ..popping("zpopmin", zpopmin)
};

fn zpopmin(op: &mut Op) -> Result<(), ReplyError> {
    pop(op, End::Lowest)
}

pub(super) const ZPOPMAX: Command = Command {
    summary: "Takes the elements with the highest scores out of a sorted set and answers them.",
    ..popping("zpopmax", zpopmax)
};

fn zpopmax(op: &mut Op) -> Result<(), ReplyError> {
    pop(op, End::Highest)
}

/// From where elements are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Lowest,
    Highest,
}

impl End {
    pub(super) fn event(self) -> Event {
        Event::sorted_set(match self {
            End::Lowest => "zpopmin",
            End::Highest => "zpopmax",
        })
    }

    pub(super) fn command(self) -> &'static [u8] {
        match self {
            End::Lowest => b"ZPOPMIN",
            End::Highest => b"ZPOPMAX",
        }
    }
}

fn pop(op: &mut Op, end: End) -> Result<(), ReplyError> {
    if op.args.len() > 3 {
        return Err(error::SYNTAX);
    }
    let given = op.args.get(2).map(element_count).transpose()?;
    let key = op.args.at(1);
    let (seed, reply) = (op.env.seed, &mut op.reply);
    let taken = op.keys.edit_sorted_set(key, |set| {
        let count = given.unwrap_or(1).min(set.len());
        if given.is_some() {
            begin_scored(reply, count);
            set.pop(seed, count, end == End::Highest, |element| reply_scored(reply, element));
        } else {
            reply.array(2);
            set.pop(seed, count, end == End::Highest, |element| {
                reply_item(reply, element.member);
                reply.double(element.score);
            });
        }
        Edited::when(count > 0, count)
    })?;
    match taken {
        None => op.reply.array(0),
        Some(0) => {}
        Some(count) => op.wrote_times(key, end.event(), count as u64),
    }
    Ok(())
}

pub(super) const ZMPOP: Command = Command {
    summary: "Takes the elements with the lowest or highest scores out of the first of several sorted sets that has any.",
    since: "7.0.0",
    group: Group::SortedSet,
    complexity: "O(K)+O(log(N)+M), K being the number of keys, N that of the elements there are, M how many are taken.",
    arity: -4,
    flags: Flags::WRITE,
    categories: Categories::SORTEDSET,
    keys: &[KeySpec::counted(1, TAKE)],
    arguments: &[
        arg("numkeys", ArgumentKind::Integer),
        KEY.multiple(),
        arg(
            "where",
            ArgumentKind::OneOf(&[Argument::word("min", "MIN"), Argument::word("max", "MAX")]),
        ),
        COUNT.token("COUNT").optional(),
    ],
    ..command("zmpop", Run::Keys(zmpop))
};

fn zmpop(op: &mut Op) -> Result<(), ReplyError> {
    if !MultiPop::parse(op.args, 1)?.run(op)? {
        op.reply.null_array();
    }
    Ok(())
}

/// ZMPOP or BZMPOP with its options read.
pub(super) struct MultiPop<'a> {
    pub(super) keys: Args<'a>,
    end: End,
    count: usize,
}

impl<'a> MultiPop<'a> {
    /// `at` is where the number of keys stands.
    pub(super) fn parse(args: Args<'a>, at: usize) -> Result<MultiPop<'a>, ReplyError> {
        let key_count = natural(args.at(at), 1, error::NUMKEYS_NOT_POSITIVE)?;
        if key_count >= args.len() - at - 1 {
            return Err(error::SYNTAX);
        }
        let end_at = at + 1 + key_count;
        let mut options = Options::behind(args, end_at);
        let end = if options.flag(b"MIN") {
            End::Lowest
        } else if options.flag(b"MAX") {
            End::Highest
        } else {
            return Err(error::SYNTAX);
        };
        let mut given = None;
        while !options.is_empty() {
            if given.is_some() || !options.flag(b"COUNT") {
                return Err(error::SYNTAX);
            }
            given = Some(natural(options.word()?, 1, error::COUNT_NOT_POSITIVE)?);
        }
        let (keys, count) = (args.range(at + 1, end_at), given.unwrap_or(1));
        Ok(MultiPop { keys, end, count })
    }

    /// Takes from the first sorted set that there is, and answers; false: there is none, and nothing is answered.
    pub(super) fn run(&self, op: &mut Op) -> Result<bool, ReplyError> {
        let Some(key) = first_of(op, self.keys)? else {
            return Ok(false);
        };
        let end = self.end;
        let (seed, reply) = (op.env.seed, &mut op.reply);
        let taken = op.keys.edit_sorted_set(key, |set| {
            let count = self.count.min(set.len());
            reply.array(2);
            reply.bulk(key);
            reply.array(count);
            set.pop(seed, count, end == End::Highest, |element| {
                reply.array(2);
                reply_item(reply, element.member);
                reply.double(element.score);
            });
            Edited::when(count > 0, count)
        })?;
        let count = taken.expect("the key has just been looked at");
        op.wrote_times(key, end.event(), count as u64);
        let mut digits = itoa::Buffer::new();
        op.instead(&[end.command(), key, digits.format(count).as_bytes()]);
        Ok(true)
    }
}

/// The first of these keys within reach that has a sorted set.
pub(super) fn first_of<'k>(op: &mut Op, keys: Args<'k>) -> Result<Option<&'k [u8]>, ReplyError> {
    for key in keys.iter() {
        if op.is_within_reach(key) && op.keys.peek_sorted_set(key)?.is_some() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}
