//! Moving an element from one list to another, or from one end of a list to the other: LMOVE RPOPLPUSH.
//!
//! The element is copied once, because the two lists may be one. What is missing or of the wrong type is found before
//! anything is taken: the source first, and the target only if there is a source.

use super::{end_of, popped, pushed, side};
use crate::data::list::End;
use crate::engine::typed::Edited;
use crate::engine::{Command, Op, Run};
use crate::resp::ReplyError;
use crate::spec::{Argument, Categories, Flags, Group, KeyFlags, KeySpec, command};

pub(super) const KEYS: &[KeySpec] = &[
    KeySpec::one(1, KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE)),
    KeySpec::one(2, KeyFlags::RW.union(KeyFlags::INSERT)),
];

pub(super) const LMOVE: Command = Command {
    summary: "Takes an element from an end of a list, puts it at an end of another one, and answers it.",
    since: "6.2.0",
    group: Group::List,
    complexity: "O(1)",
    arity: 5,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    categories: Categories::LIST,
    keys: KEYS,
    arguments: &[
        Argument::key("source", 0),
        Argument::key("destination", 1),
        side("wherefrom"),
        side("whereto"),
    ],
    ..command("lmove", Run::Keys(lmove))
};

fn lmove(op: &mut Op) -> Result<(), ReplyError> {
    let (from, to) = (end_of(op.args.at(3))?, end_of(op.args.at(4))?);
    relocate(op, from, to)
}

pub(super) const RPOPLPUSH: Command = Command {
    summary: "Takes the last element of a list, makes it the first one of another list, and answers it.",
    since: "1.2.0",
    group: Group::List,
    complexity: "O(1)",
    arity: 3,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    categories: Categories::LIST,
    keys: KEYS,
    arguments: &[Argument::key("source", 0), Argument::key("destination", 1)],
    deprecated: Some(("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")),
    ..command("rpoplpush", Run::Keys(rpoplpush))
};

fn rpoplpush(op: &mut Op) -> Result<(), ReplyError> {
    relocate(op, End::Back, End::Front)
}

fn relocate(op: &mut Op, from: End, to: End) -> Result<(), ReplyError> {
    if !try_to_relocate(op, from, to)? {
        op.reply.null();
    }
    Ok(())
}

/// Moves an element and answers it; false: there is no source, and nothing is answered.
pub(super) fn try_to_relocate(op: &mut Op, from: End, to: End) -> Result<bool, ReplyError> {
    let (source, target) = (op.args.at(1), op.args.at(2));
    if op.keys.peek_list(source)?.is_none() {
        return Ok(false);
    }
    op.keys.peek_list(target)?;
    let limits = &op.env.limits;
    let element = op.keys.edit_list(source, |list| {
        let element = list.pop(from, limits, |item| item.to_vec());
        if source == target
            && let Some(element) = &element
        {
            list.push(to, element, limits);
        }
        Edited::Changed(element)
    })?;
    let element = element.flatten().expect("a list that is stored has elements");
    if source != target {
        op.keys.edit_or_create_list(target, |list| {
            list.push(to, &element, limits);
            Edited::Changed(())
        })?;
    }
    // In Redis too the event of the target is the first one.
    op.wrote(target, pushed(to));
    op.also(source, popped(from));
    op.reply.bulk(&element);
    Ok(true)
}
