//! Taking from lists, waiting for one where there is none: BLPOP BRPOP BLMPOP BLMOVE BRPOPLPUSH.
//!
//! Each does what its sister without a B does, and logs that. Where the sister answers that there is nothing, it waits, and is run again
//! when one of its keys has become a list: [`Op::wait`].

use super::relocate::{KEYS, try_to_relocate};
use super::remove::{MultiPop, TAKE, pop_command};
use super::{end_of, popped, side};
use crate::base::clock::UnixMs;
use crate::data::ValueType;
use crate::data::list::End;
use crate::engine::arguments::timeout::deadline_s;
use crate::engine::stored::reply_item;
use crate::engine::typed::Edited;
use crate::engine::{Command, Nothing, Op, Park, Run};
use crate::resp::ReplyError;
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeySpec, arg, command};

const TIMEOUT: Argument = arg("timeout", ArgumentKind::Double);
const FRACTIONS: &[(&str, &str)] = &[("6.0.0", "`timeout` may be a fraction of seconds.")];

/// All arguments but the last.
const POP_KEYS: &[KeySpec] = &[KeySpec::range(1, -2, 1, TAKE)];

const POP_ARGUMENTS: &[Argument] = &[Argument::key("key", 0).multiple(), TIMEOUT];

/// What BLPOP and BRPOP have in common.
const fn pop(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "2.0.0",
        group: Group::List,
        complexity: "O(N), N being the number of keys.",
        arity: -3,
        flags: Flags::WRITE.union(Flags::BLOCKING),
        categories: Categories::LIST,
        keys: POP_KEYS,
        arguments: POP_ARGUMENTS,
        history: FRACTIONS,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const BLPOP: Command = Command {
    summary: "Takes the first element of the first of several lists that exists, and answers both; waits for one if there is none.",
    ..pop("blpop", blpop)
};

fn blpop(op: &mut Op) -> Result<(), ReplyError> {
    pop_at(op, End::Front)
}

pub(super) const BRPOP: Command = Command {
    summary: "Takes the last element of the first of several lists that exists, and answers both; waits for one if there is none.",
    ..pop("brpop", brpop)
};

fn brpop(op: &mut Op) -> Result<(), ReplyError> {
    pop_at(op, End::Back)
}

fn pop_at(op: &mut Op, end: End) -> Result<(), ReplyError> {
    let timeout_at = op.args.len() - 1;
    let deadline = deadline_s(op.args.at(timeout_at), op.env.now)?;
    let keys = op.args.range(1, timeout_at);
    for key in keys.iter() {
        if !op.is_within_reach(key) || op.keys.peek_list(key)?.is_none() {
            continue;
        }
        op.reply.array(2);
        op.reply.bulk(key);
        let (reply, limits) = (&mut op.reply, &op.env.limits);
        op.keys.edit_list(key, |list| {
            list.pop(end, limits, |item| reply_item(reply, item));
            Edited::Changed(())
        })?;
        op.wrote(key, popped(end));
        op.instead(&[pop_command(end), key]);
        return Ok(());
    }
    op.wait(Park::until(ValueType::List, keys.iter(), deadline))
}

pub(super) const BLMPOP: Command = Command {
    summary: "Takes elements from the first of several lists that exists, and answers them; waits for one if there is none.",
    since: "7.0.0",
    group: Group::List,
    complexity: "O(N+M), N being the number of keys, M the number of elements taken.",
    arity: -5,
    flags: Flags::WRITE.union(Flags::BLOCKING),
    categories: Categories::LIST,
    keys: &[KeySpec::counted(2, TAKE)],
    arguments: &[
        TIMEOUT,
        arg("numkeys", ArgumentKind::Integer),
        Argument::key("key", 0).multiple(),
        side("where"),
        arg("count", ArgumentKind::Integer).token("COUNT").optional(),
    ],
    ..command("blmpop", Run::Keys(blmpop))
};

fn blmpop(op: &mut Op) -> Result<(), ReplyError> {
    let call = MultiPop::parse(op.args, 2)?;
    let deadline = deadline_s(op.args.at(1), op.env.now)?;
    if call.run(op)? {
        return Ok(());
    }
    op.wait(Park::until(ValueType::List, call.keys.iter(), deadline))
}

/// What both have in common that move an element.
const fn relocating(
    name: &'static str,
    since: &'static str,
    arity: i16,
    run: fn(&mut Op) -> Result<(), ReplyError>,
) -> Command {
    Command {
        since,
        group: Group::List,
        complexity: "O(1)",
        arity,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::BLOCKING),
        categories: Categories::LIST,
        keys: KEYS,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const BLMOVE: Command = Command {
    summary: "Takes an element from an end of a list, puts it at an end of another one, and answers it; waits for the list if there is none.",
    arguments: &[
        Argument::key("source", 0),
        Argument::key("destination", 1),
        side("wherefrom"),
        side("whereto"),
        TIMEOUT,
    ],
    ..relocating("blmove", "6.2.0", 6, blmove)
};

fn blmove(op: &mut Op) -> Result<(), ReplyError> {
    let (from, to) = (end_of(op.args.at(3))?, end_of(op.args.at(4))?);
    let deadline = deadline_s(op.args.at(5), op.env.now)?;
    if !relocate(op, from, to, deadline)? {
        return Ok(());
    }
    op.instead(&[b"LMOVE", op.args.at(1), op.args.at(2), op.args.at(3), op.args.at(4)]);
    Ok(())
}

pub(super) const BRPOPLPUSH: Command = Command {
    summary: "Takes the last element of a list, makes it the first one of another list, and answers it; waits for the list if there is none.",
    arguments: &[Argument::key("source", 0), Argument::key("destination", 1), TIMEOUT],
    history: FRACTIONS,
    deprecated: Some(("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments")),
    ..relocating("brpoplpush", "2.2.0", 4, brpoplpush)
};

fn brpoplpush(op: &mut Op) -> Result<(), ReplyError> {
    let deadline = deadline_s(op.args.at(3), op.env.now)?;
    if !relocate(op, End::Back, End::Front, deadline)? {
        return Ok(());
    }
    op.instead(&[b"RPOPLPUSH", op.args.at(1), op.args.at(2)]);
    Ok(())
}

/// Moves an element; false: there was none, and that has been answered.
fn relocate(op: &mut Op, from: End, to: End, deadline: Option<UnixMs>) -> Result<bool, ReplyError> {
    if try_to_relocate(op, from, to)? {
        return Ok(true);
    }
    let (source, target) = (op.args.at(1), op.args.at(2));
    op.wait(Park {
        target: Some(target.into()),
        nothing: Nothing::Null,
        ..Park::until(ValueType::List, [source], deadline)
    })?;
    Ok(false)
}
