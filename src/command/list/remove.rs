//! Taking from lists: LPOP RPOP LMPOP LREM LTRIM.

use super::{elements_between, end_of, pop_from, reply_item, side, tell_removal};
use crate::data::list::End;
use crate::engine::arguments::is_word;
use crate::engine::arguments::numbers::{element_count, integer, natural, negatable};
use crate::engine::typed::Edited;
use crate::engine::{Command, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

const TAKE: KeyFlags = KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE);
const REMOVE: KeyFlags = KeyFlags::RW.union(KeyFlags::DELETE);

const POP_KEYS: &[KeySpec] = &[KeySpec::one(1, TAKE)];
const POP_ARGUMENTS: &[Argument] = &[
    Argument::key("key", 0),
    arg("count", ArgumentKind::Integer).optional().since("6.2.0"),
];
const POP_HISTORY: &[(&str, &str)] = &[("6.2.0", "The argument `count`.")];

/// What LPOP and RPOP have in common.
const fn pop(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "1.0.0",
        group: Group::List,
        complexity: "O(N), N being the number of elements taken.",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        categories: Categories::LIST,
        keys: POP_KEYS,
        arguments: POP_ARGUMENTS,
        history: POP_HISTORY,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const LPOP: Command = Command {
    summary: "Takes the first element of a list, or several, and answers them.",
    ..pop("lpop", lpop)
};

pub(super) const RPOP: Command = Command {
    summary: "Takes the last element of a list, or several, and answers them.",
    ..pop("rpop", rpop)
};

fn lpop(op: &mut Op) -> Result<(), ReplyError> {
    pop_at(op, End::Front)
}

fn rpop(op: &mut Op) -> Result<(), ReplyError> {
    pop_at(op, End::Back)
}

fn pop_at(op: &mut Op, end: End) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    if op.args.len() > 3 {
        return Err(error::wrong_arity(op.command.name));
    }
    if let Some(count) = op.args.get(2) {
        let count = element_count(count)?;
        if !pop_many(op, key, end, count)? {
            op.reply.null_array();
        }
        return Ok(());
    }
    let (reply, limits) = (&mut op.reply, &op.env.limits);
    let is_gone = op.keys.edit_list(key, |list| {
        list.pop(end, limits, |item| reply_item(reply, item));
        Edited::Changed(list.is_empty())
    })?;
    match is_gone {
        None => op.reply.null(),
        Some(is_gone) => {
            op.changed(1);
            tell_removal(op, pop_from(end), key);
        }
    }
    Ok(())
}

/// Takes up to `count` elements and answers them as an array; false: there is no such list, and nothing is answered.
fn pop_many(op: &mut Op, key: &[u8], end: End, count: usize) -> Result<bool, ReplyError> {
    let (reply, limits) = (&mut op.reply, &op.env.limits);
    let popped = op.keys.edit_list(key, |list| {
        let count = count.min(list.len());
        reply.array(count);
        if count > 0 {
            list.pop_many(end, count, limits, |item| reply_item(reply, item));
        }
        Edited::when(count > 0, (count, list.is_empty()))
    })?;
    let Some((count, is_gone)) = popped else {
        return Ok(false);
    };
    if count > 0 {
        op.changed(count as u64);
        tell_removal(op, pop_from(end), key);
    }
    Ok(true)
}

pub(super) const LMPOP: Command = Command {
    summary: "Takes elements from the first of several lists that exists, and answers them.",
    since: "7.0.0",
    group: Group::List,
    complexity: "O(N+M), N being the number of keys, M the number of elements taken.",
    arity: -4,
    flags: Flags::WRITE,
    categories: Categories::LIST,
    keys: &[KeySpec::counted(1, TAKE)],
    arguments: &[
        arg("numkeys", ArgumentKind::Integer),
        Argument::key("key", 0).multiple(),
        side("where"),
        arg("count", ArgumentKind::Integer).token("COUNT").optional(),
    ],
    ..command("lmpop", Run::Keys(lmpop))
};

/// LMPOP with its options read.
struct MultiPop<'a> {
    keys: Args<'a>,
    end: End,
    count: usize,
}

impl<'a> MultiPop<'a> {
    fn parse(args: Args<'a>) -> Result<MultiPop<'a>, ReplyError> {
        let key_count = natural(args.at(1), 1, error::NUMKEYS_NOT_POSITIVE)?;
        let side_at = key_count.checked_add(2).ok_or(error::SYNTAX)?;
        let end = end_of(args.get(side_at).ok_or(error::SYNTAX)?)?;
        let count = match args.slice_from(side_at + 1).len() {
            0 => 1,
            2 if is_word(args, side_at + 1, b"COUNT") => natural(args.at(side_at + 2), 1, error::COUNT_NOT_POSITIVE)?,
            _ if !is_word(args, side_at + 1, b"COUNT") => return Err(error::SYNTAX),
            1 => return Err(error::SYNTAX),
            // The first count is read before what stands behind it.
            _ => {
                natural(args.at(side_at + 2), 1, error::COUNT_NOT_POSITIVE)?;
                return Err(error::SYNTAX);
            }
        };
        let keys = args.range(2, side_at);
        Ok(MultiPop { keys, end, count })
    }
}

fn lmpop(op: &mut Op) -> Result<(), ReplyError> {
    let MultiPop { keys, end, count } = MultiPop::parse(op.args)?;
    for key in keys.iter() {
        let Some(len) = op.keys.peek_list(key)?.map(|list| list.len()) else {
            continue;
        };
        let count = count.min(len);
        op.reply.array(2);
        op.reply.bulk(key);
        pop_many(op, key, end, count)?;
        let verb = match end {
            End::Front => b"LPOP",
            End::Back => b"RPOP",
        };
        let mut digits = itoa::Buffer::new();
        op.instead(&[verb, key, digits.format(count).as_bytes()]);
        return Ok(());
    }
    op.reply.null_array();
    Ok(())
}

pub(super) const LREM: Command = Command {
    summary: "Removes elements of a list that are equal to one: from the front, from the end, or all.",
    since: "1.0.0",
    group: Group::List,
    complexity: "O(N+M), N being the length of the list, M the number of elements removed.",
    arity: 4,
    flags: Flags::WRITE,
    categories: Categories::LIST,
    keys: &[KeySpec::one(1, REMOVE)],
    arguments: &[
        Argument::key("key", 0),
        arg("count", ArgumentKind::Integer),
        arg("element", ArgumentKind::String),
    ],
    ..command("lrem", Run::Keys(lrem))
};

fn lrem(op: &mut Op) -> Result<(), ReplyError> {
    let (key, element) = (op.args.at(1), op.args.at(3));
    let count = negatable(op.args.at(2))?;
    let limits = &op.env.limits;
    let removed = op.keys.edit_list(key, |list| {
        let removed_count = list.remove(count, element, limits);
        Edited::when(removed_count > 0, (removed_count, list.is_empty()))
    })?;
    let (removed_count, is_gone) = removed.unwrap_or_default();
    if removed_count > 0 {
        op.changed(removed_count as u64);
        tell_removal(op, "lrem", key);
    }
    op.reply.integer(removed_count as i64);
    Ok(())
}

pub(super) const LTRIM: Command = Command {
    summary: "Removes all elements of a list but those from one index to another.",
    since: "1.0.0",
    group: Group::List,
    complexity: "O(N), N being the number of elements removed.",
    arity: 4,
    flags: Flags::WRITE,
    categories: Categories::LIST,
    keys: &[KeySpec::one(1, REMOVE)],
    arguments: &[
        Argument::key("key", 0),
        arg("start", ArgumentKind::Integer),
        arg("stop", ArgumentKind::Integer),
    ],
    ..command("ltrim", Run::Keys(ltrim))
};

fn ltrim(op: &mut Op) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let (start, stop) = (integer(op.args.at(2))?, integer(op.args.at(3))?);
    let limits = &op.env.limits;
    let trimmed = op.keys.edit_list(key, |list| {
        let before = list.len();
        list.keep(elements_between(start, stop, before), limits);
        // Redis tells watchers and subscribers of every LTRIM, but logs only one that has removed something.
        Edited::Changed((before - list.len(), list.is_empty()))
    })?;
    if let Some((removed_count, is_gone)) = trimmed {
        op.changed(removed_count as u64);
        tell_removal(op, "ltrim", key);
    }
    op.reply.ok();
    Ok(())
}
