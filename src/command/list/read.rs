//! Looking into lists: LINDEX LLEN LPOS LRANGE.

use super::elements_between;
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::{integer, natural, negatable};
use crate::engine::stored::reply_item;
use crate::engine::{Command, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);

pub(super) const LINDEX: Command = Command {
    summary: "Answers the element at an index of a list.",
    since: "1.0.0",
    group: Group::List,
    complexity: "O(N), N being the number of elements between the nearer end and the index; O(1) for both ends.",
    arity: 3,
    flags: Flags::READONLY,
    categories: Categories::LIST,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[Argument::key("key", 0), arg("index", ArgumentKind::Integer)],
    ..command("lindex", Run::Keys(lindex))
};

fn lindex(op: &mut Op) -> Result<(), ReplyError> {
    let Some(list) = op.keys.read_list(op.args.at(1))? else {
        op.reply.null();
        return Ok(());
    };
    let index = integer(op.args.at(2))?;
    let reply = &mut op.reply;
    if list.get(index, |item| reply_item(reply, item)).is_none() {
        reply.null();
    }
    Ok(())
}

pub(super) const LLEN: Command = Command {
    summary: "Counts the elements of a list.",
    since: "1.0.0",
    group: Group::List,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    categories: Categories::LIST,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: &[Argument::key("key", 0)],
    ..command("llen", Run::Keys(llen))
};

fn llen(op: &mut Op) -> Result<(), ReplyError> {
    let list = op.keys.read_list(op.args.at(1))?;
    op.reply.integer(list.map_or(0, |list| list.len()) as i64);
    Ok(())
}

pub(super) const LRANGE: Command = Command {
    summary: "Answers the elements of a list from one index to another.",
    since: "1.0.0",
    group: Group::List,
    complexity: "O(S+N), S being the distance of the first one from the nearer end, N the number of elements answered.",
    arity: 4,
    flags: Flags::READONLY,
    categories: Categories::LIST,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        arg("start", ArgumentKind::Integer),
        arg("stop", ArgumentKind::Integer),
    ],
    ..command("lrange", Run::Keys(lrange))
};

fn lrange(op: &mut Op) -> Result<(), ReplyError> {
    let (start, stop) = (integer(op.args.at(2))?, integer(op.args.at(3))?);
    let Some(list) = op.keys.read_list(op.args.at(1))? else {
        op.reply.array(0);
        return Ok(());
    };
    let range = elements_between(start, stop, list.len());
    let reply = &mut op.reply;
    reply.array(range.len());
    list.range(range, |item| reply_item(reply, item));
    Ok(())
}

/// LPOS with its options read.
struct Search {
    rank: i64,
    /// With it an array is answered; 0 is all.
    count: Option<usize>,
    maxlen: usize,
}

impl Search {
    fn parse(args: Args) -> Result<Search, ReplyError> {
        let mut search = Search {
            rank: 1,
            count: None,
            maxlen: 0,
        };
        let mut options = Options::behind(args, 3);
        while !options.is_empty() {
            if options.flag(b"RANK") {
                search.rank = negatable(options.word()?)?;
                if search.rank == 0 {
                    return Err(error::LPOS_RANK_ZERO);
                }
            } else if options.flag(b"COUNT") {
                search.count = Some(natural(options.word()?, 0, error::LPOS_COUNT_NEGATIVE)?);
            } else if options.flag(b"MAXLEN") {
                search.maxlen = natural(options.word()?, 0, error::LPOS_MAXLEN_NEGATIVE)?;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(search)
    }
}

pub(super) const LPOS: Command = Command {
    summary: "Looks for an element of a list and answers its index, or those of several that are equal.",
    since: "6.0.6",
    group: Group::List,
    complexity: "O(N), N being the number of elements that are looked at: all of them, or as many as `MAXLEN` allows.",
    arity: -3,
    flags: Flags::READONLY,
    categories: Categories::LIST,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        arg("element", ArgumentKind::String),
        arg("rank", ArgumentKind::Integer).token("RANK").optional(),
        arg("num-matches", ArgumentKind::Integer).token("COUNT").optional(),
        arg("len", ArgumentKind::Integer).token("MAXLEN").optional(),
    ],
    ..command("lpos", Run::Keys(lpos))
};

fn lpos(op: &mut Op) -> Result<(), ReplyError> {
    let search = Search::parse(op.args)?;
    let list = op.keys.read_list(op.args.at(1))?;
    let reply = &mut op.reply;
    let mark = reply.deferred();
    let mut found_count = 0;
    if let Some(list) = list {
        let count = search.count.unwrap_or(1);
        list.positions(op.args.at(2), search.rank, count, search.maxlen, |index| {
            found_count += 1;
            reply.integer(index as i64);
        });
    }
    if search.count.is_some() {
        reply.end_array(mark, found_count);
    } else if found_count == 0 {
        reply.null();
    }
    Ok(())
}
