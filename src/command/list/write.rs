//! Adding to lists, and putting an element in another's place: LPUSH RPUSH LPUSHX RPUSHX LINSERT LSET.

use super::pushed;
use crate::data::list::End;
use crate::engine::arguments::numbers::integer;
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

const GROWS: Flags = Flags::WRITE.union(Flags::DENYOOM);
const INSERT: KeyFlags = KeyFlags::RW.union(KeyFlags::INSERT);
const PUSH_COMPLEXITY: &str = "O(N), N being the number of elements added.";
const PUSH_KEYS: &[KeySpec] = &[KeySpec::one(1, INSERT)];
const PUSH_ARGUMENTS: &[Argument] = &[Argument::key("key", 0), arg("element", ArgumentKind::String).multiple()];

/// What LPUSH and its three relatives have in common.
const fn push(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        group: Group::List,
        complexity: PUSH_COMPLEXITY,
        arity: -3,
        flags: GROWS.union(Flags::FAST),
        categories: Categories::LIST,
        keys: PUSH_KEYS,
        arguments: PUSH_ARGUMENTS,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const LPUSH: Command = Command {
    summary: "Puts elements at the front of a list, one after the other; creates the list if it is missing.",
    since: "1.0.0",
    history: &[("2.4.0", "Several elements in one call.")],
    ..push("lpush", lpush)
};

fn lpush(op: &mut Op) -> Result<(), ReplyError> {
    push_or_create(op, End::Front)
}

pub(super) const RPUSH: Command = Command {
    summary: "Puts elements at the end of a list; creates the list if it is missing.",
    since: "1.0.0",
    history: &[("2.4.0", "Several elements in one call.")],
    ..push("rpush", rpush)
};

fn rpush(op: &mut Op) -> Result<(), ReplyError> {
    push_or_create(op, End::Back)
}

pub(super) const LPUSHX: Command = Command {
    summary: "Puts elements at the front of a list that exists.",
    since: "2.2.0",
    history: &[("4.0.0", "Several elements in one call.")],
    ..push("lpushx", lpushx)
};

fn lpushx(op: &mut Op) -> Result<(), ReplyError> {
    push_if_there(op, End::Front)
}

pub(super) const RPUSHX: Command = Command {
    summary: "Puts elements at the end of a list that exists.",
    since: "2.2.0",
    history: &[("4.0.0", "Several elements in one call.")],
    ..push("rpushx", rpushx)
};

fn rpushx(op: &mut Op) -> Result<(), ReplyError> {
    push_if_there(op, End::Back)
}

fn push_or_create(op: &mut Op, end: End) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let elements = op.args.slice_from(2);
    let limits = &op.env.limits;
    let len = op.keys.edit_or_create_list(key, |list| {
        list.push_all(end, elements.iter(), limits);
        Edited::Changed(list.len())
    })?;
    finish_push(op, key, end, len);
    Ok(())
}

fn push_if_there(op: &mut Op, end: End) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let elements = op.args.slice_from(2);
    let limits = &op.env.limits;
    let len = op.keys.edit_list(key, |list| {
        list.push_all(end, elements.iter(), limits);
        Edited::Changed(list.len())
    })?;
    match len {
        Some(len) => finish_push(op, key, end, len),
        None => op.reply.integer(0),
    }
    Ok(())
}

fn finish_push(op: &mut Op, key: &[u8], end: End, len: usize) {
    op.wrote_times(key, pushed(end), op.args.len() as u64 - 2);
    op.reply.integer(len as i64);
}

pub(super) const LINSERT: Command = Command {
    summary: "Puts an element before or behind another one of a list.",
    since: "2.2.0",
    group: Group::List,
    complexity: "O(N), N being the number of elements in front of the one that is looked for.",
    arity: 5,
    flags: GROWS,
    categories: Categories::LIST,
    keys: &[KeySpec::one(1, INSERT)],
    arguments: &[
        Argument::key("key", 0),
        arg(
            "where",
            ArgumentKind::OneOf(&[Argument::word("before", "BEFORE"), Argument::word("after", "AFTER")]),
        ),
        arg("pivot", ArgumentKind::String),
        arg("element", ArgumentKind::String),
    ],
    ..command("linsert", Run::Keys(linsert))
};

fn linsert(op: &mut Op) -> Result<(), ReplyError> {
    let (key, side, pivot, element) = (op.args.at(1), op.args.at(2), op.args.at(3), op.args.at(4));
    let is_behind = side.eq_ignore_ascii_case(b"AFTER");
    if !is_behind && !side.eq_ignore_ascii_case(b"BEFORE") {
        return Err(error::SYNTAX);
    }
    let limits = &op.env.limits;
    let inserted = op.keys.edit_list(key, |list| {
        let is_there = if is_behind {
            list.insert_after(pivot, element, limits)
        } else {
            list.insert_before(pivot, element, limits)
        };
        Edited::when(is_there, is_there.then(|| list.len()))
    })?;
    match inserted {
        None => op.reply.integer(0),
        Some(None) => op.reply.integer(-1),
        Some(Some(len)) => {
            op.wrote(key, Event::list("linsert"));
            op.reply.integer(len as i64);
        }
    }
    Ok(())
}

pub(super) const LSET: Command = Command {
    summary: "Puts an element in the place of the one at an index of a list.",
    since: "1.0.0",
    group: Group::List,
    complexity: "O(N), N being the length of the list; O(1) for both ends.",
    arity: 4,
    flags: GROWS,
    categories: Categories::LIST,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::UPDATE))],
    arguments: &[
        Argument::key("key", 0),
        arg("index", ArgumentKind::Integer),
        arg("element", ArgumentKind::String),
    ],
    ..command("lset", Run::Keys(lset))
};

fn lset(op: &mut Op) -> Result<(), ReplyError> {
    let (key, element) = (op.args.at(1), op.args.at(3));
    // It is refused only when there is a list.
    let index = integer(op.args.at(2));
    let limits = &op.env.limits;
    let is_set = op.keys.edit_list(key, |list| {
        let is_set = index.as_ref().is_ok_and(|index| list.set(*index, element, limits));
        Edited::when(is_set, is_set)
    })?;
    let is_set = is_set.ok_or(error::NO_SUCH_KEY)?;
    index?;
    if !is_set {
        return Err(error::INDEX_OUT_OF_RANGE);
    }
    op.wrote(key, Event::list("lset"));
    op.reply.ok();
    Ok(())
}
