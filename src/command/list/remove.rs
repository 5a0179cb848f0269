//! Taking from lists: LPOP RPOP LMPOP LREM LTRIM.

use super::{elements_between, end_of, popped, side};
use crate::data::list::End;
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::{element_count, integer, natural, negatable};
use crate::engine::stored::reply_item;
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

pub(super) const TAKE: KeyFlags = KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE);
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

fn lpop(op: &mut Op) -> Result<(), ReplyError> {
    pop_at(op, End::Front)
}

pub(super) const RPOP: Command = Command {
    summary: "Takes the last element of a list, or several, and answers them.",
    ..pop("rpop", rpop)
};

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
    let taken = op.keys.edit_list(key, |list| {
        list.pop(end, limits, |item| reply_item(reply, item));
        Edited::Changed(())
    })?;
    match taken {
        None => op.reply.null(),
        Some(()) => op.wrote(key, popped(end)),
    }
    Ok(())
}

/// Takes up to `count` elements and answers them as an array; false: there is no such list, and nothing is answered.
fn pop_many(op: &mut Op, key: &[u8], end: End, count: usize) -> Result<bool, ReplyError> {
    let (reply, limits) = (&mut op.reply, &op.env.limits);
    let taken = op.keys.edit_list(key, |list| {
        let count = count.min(list.len());
        reply.array(count);
        if count > 0 {
            list.pop_many(end, count, limits, |item| reply_item(reply, item));
        }
        Edited::when(count > 0, count)
    })?;
    if let Some(count @ 1..) = taken {
        op.wrote_times(key, popped(end), count as u64);
    }
    Ok(taken.is_some())
}

/// LMPOP or BLMPOP with its options read.
pub(super) struct MultiPop<'a> {
    pub(super) keys: Args<'a>,
    end: End,
    count: usize,
}

impl<'a> MultiPop<'a> {
    /// `at` is where the number of keys stands.
    pub(super) fn parse(args: Args<'a>, at: usize) -> Result<MultiPop<'a>, ReplyError> {
        let key_count = natural(args.at(at), 1, error::NUMKEYS_NOT_POSITIVE)?;
        let side_at = key_count.checked_add(at + 1).ok_or(error::SYNTAX)?;
        let mut options = Options::behind(args, side_at);
        let end = end_of(options.word()?)?;
        let mut count = 1;
        if options.flag(b"COUNT") {
            count = natural(options.word()?, 1, error::COUNT_NOT_POSITIVE)?;
        }
        if !options.is_empty() {
            return Err(error::SYNTAX);
        }
        let keys = args.range(at + 1, side_at);
        Ok(MultiPop { keys, end, count })
    }

    /// Takes from the first list that there is, and answers; false: there is none, and nothing is answered.
    pub(super) fn run(&self, op: &mut Op) -> Result<bool, ReplyError> {
        for key in self.keys.iter() {
            if !op.is_within_reach(key) {
                continue;
            }
            let Some(len) = op.keys.peek_list(key)?.map(|list| list.len()) else {
                continue;
            };
            let count = self.count.min(len);
            op.reply.array(2);
            op.reply.bulk(key);
            pop_many(op, key, self.end, count)?;
            let mut digits = itoa::Buffer::new();
            op.instead(&[pop_command(self.end), key, digits.format(count).as_bytes()]);
            return Ok(true);
        }
        Ok(false)
    }
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

fn lmpop(op: &mut Op) -> Result<(), ReplyError> {
    if !MultiPop::parse(op.args, 1)?.run(op)? {
        op.reply.null_array();
    }
    Ok(())
}

/// The command that takes from this end.
pub(super) fn pop_command(end: End) -> &'static [u8] {
    match end {
        End::Front => b"LPOP",
        End::Back => b"RPOP",
    }
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
        Edited::when(removed_count > 0, removed_count)
    })?;
    let removed_count = removed.unwrap_or(0);
    if removed_count > 0 {
        op.wrote_times(key, Event::list("lrem"), removed_count as u64);
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
        Edited::Changed(before - list.len())
    })?;
    if let Some(removed_count) = trimmed {
        op.wrote_times(key, Event::list("ltrim"), removed_count as u64);
    }
    op.reply.ok();
    Ok(())
}
