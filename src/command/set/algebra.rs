//! Several sets at once: SINTER SUNION SDIFF, with their `STORE` forms, and SINTERCARD.
//!
//! Every key is looked up first, so that types are compared and slots are asked for, before the sets are looked at side
//! by side. A key that is missing is a set without members. The result of a `STORE` form is built beside whatever the target
//! holds, as that may be among the sources.

use super::READ;
use crate::base::hash::HashSeed;
use crate::data::TypedValue;
use crate::data::listpack::Item;
use crate::data::set::{self, Set, SetRef};
use crate::engine::Keyspace;
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::natural;
use crate::engine::stored::reply_item;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};
use std::ops::ControlFlow;

const TARGET: KeyFlags = KeyFlags::OW.union(KeyFlags::UPDATE);
const COMPLEXITY: &str = "O(N), N being the number of members of all the sets.";
const INTERSECTION_COMPLEXITY: &str = "O(N*M), N being the number of members of the smallest set, M the number of sets; less where members are ruled out early.";
const ALL_KEYS: &[KeySpec] = &[KeySpec::range(1, -1, 1, READ)];
const ALL_KEYS_ARGUMENTS: &[Argument] = &[Argument::key("key", 0).multiple()];
const STORE_ARGUMENTS: &[Argument] = &[Argument::key("destination", 0), Argument::key("key", 1).multiple()];
const STORE_KEYS: &[KeySpec] = &[KeySpec::one(1, TARGET), KeySpec::range(2, -1, 1, READ)];
const UNORDERED: &[&str] = &["nondeterministic_output_order"];

/// What the three that answer have in common.
const fn answering(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "1.0.0",
        group: Group::Set,
        complexity: COMPLEXITY,
        arity: -2,
        flags: Flags::READONLY,
        categories: Categories::SET,
        tips: UNORDERED,
        keys: ALL_KEYS,
        arguments: ALL_KEYS_ARGUMENTS,
        ..command(name, Run::Keys(run))
    }
}

/// What the three that store have in common.
const fn storing(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "1.0.0",
        group: Group::Set,
        complexity: COMPLEXITY,
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        categories: Categories::SET,
        keys: STORE_KEYS,
        arguments: STORE_ARGUMENTS,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const SINTER: Command = Command {
    summary: "Answers the members that several sets have in common.",
    complexity: INTERSECTION_COMPLEXITY,
    ..answering("sinter", sinter)
};

fn sinter(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Algebra::Intersection)
}

pub(super) const SUNION: Command = Command {
    summary: "Answers the members of several sets together.",
    ..answering("sunion", sunion)
};

fn sunion(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Algebra::Union)
}

pub(super) const SDIFF: Command = Command {
    summary: "Answers the members of a set that none of several others has.",
    ..answering("sdiff", sdiff)
};

fn sdiff(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Algebra::Difference)
}

pub(super) const SINTERSTORE: Command = Command {
    summary: "Stores the members that several sets have in common as a set.",
    complexity: INTERSECTION_COMPLEXITY,
    keys: &[
        KeySpec::one(1, KeyFlags::OW.union(KeyFlags::UPDATE)),
        KeySpec::range(2, -1, 1, READ),
    ],
    ..storing("sinterstore", sinterstore)
};

fn sinterstore(op: &mut Op) -> Result<(), ReplyError> {
    store(op, Algebra::Intersection, "sinterstore")
}

pub(super) const SUNIONSTORE: Command = Command {
    summary: "Stores the members of several sets together as a set.",
    ..storing("sunionstore", sunionstore)
};

fn sunionstore(op: &mut Op) -> Result<(), ReplyError> {
    store(op, Algebra::Union, "sunionstore")
}

pub(super) const SDIFFSTORE: Command = Command {
    summary: "Stores the members of a set that none of several others has as a set.",
    ..storing("sdiffstore", sdiffstore)
};

fn sdiffstore(op: &mut Op) -> Result<(), ReplyError> {
    store(op, Algebra::Difference, "sdiffstore")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Algebra {
    Intersection,
    Union,
    Difference,
}

impl Algebra {
    /// Hands every member of the result to `visit`, until that breaks off.
    fn each<'a>(
        self,
        sets: &[Option<SetRef<'a>>],
        seed: HashSeed,
        visit: impl FnMut(Item<'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let there: Vec<SetRef<'a>> = sets.iter().flatten().copied().collect();
        match self {
            Algebra::Intersection if there.len() < sets.len() => ControlFlow::Continue(()),
            Algebra::Intersection => set::intersection(&there, seed, visit),
            Algebra::Union => set::union(&there, seed, visit),
            Algebra::Difference => match (sets, there.as_slice()) {
                ([Some(first), ..], [_, others @ ..]) => set::difference(*first, others, seed, visit),
                _ => ControlFlow::Continue(()),
            },
        }
    }
}

/// Looks all keys up, each as a read; errors are found here.
fn look_up(op: &mut Op, keys: Args) -> Result<(), ReplyError> {
    for key in keys.iter() {
        op.keys.read_set(key)?;
    }
    Ok(())
}

/// The sets under keys that have been looked up.
fn side_by_side<'k>(keyspace: &'k Keyspace<'_, '_>, keys: Args) -> Vec<Option<SetRef<'k>>> {
    let (db, now) = (keyspace.db, keyspace.moment.now);
    keys.iter()
        .map(|key| {
            let entry = keyspace.view.peek(keyspace.slot_of(key))?.peek(db, key, now)?;
            Set::of(entry.object()?)
        })
        .collect()
}

fn answer(op: &mut Op, algebra: Algebra) -> Result<(), ReplyError> {
    let keys = op.args.slice_from(1);
    look_up(op, keys)?;
    let sets = side_by_side(&op.keys, keys);
    let reply = &mut op.reply;
    if let [only] = sets[..] {
        reply.set(only.map_or(0, SetRef::len));
        if let Some(only) = only {
            only.for_each(|item| reply_item(reply, item));
        }
        return Ok(());
    }
    let mark = reply.deferred();
    let mut count = 0;
    let _ = algebra.each(&sets, op.env.seed, |item| {
        count += 1;
        reply_item(reply, item);
        ControlFlow::Continue(())
    });
    reply.end_set(mark, count);
    Ok(())
}

fn store(op: &mut Op, algebra: Algebra, event: &'static str) -> Result<(), ReplyError> {
    let (target, keys) = (op.args.at(1), op.args.slice_from(2));
    op.keys.slot(target)?;
    look_up(op, keys)?;
    let (limits, seed) = (&op.env.limits, op.env.seed);
    let mut result = Set::default();
    let mut digits = itoa::Buffer::new();
    let sets = side_by_side(&op.keys, keys);
    let _ = algebra.each(&sets, seed, |item| {
        result.add(item.as_bytes(&mut digits), limits, seed);
        ControlFlow::Continue(())
    });
    let len = result.len();
    if op.keys.replace(target, result)? {
        let event = if len == 0 {
            Event::generic("del")
        } else {
            Event::set(event)
        };
        op.wrote(target, event);
    }
    op.reply.integer(len as i64);
    Ok(())
}

pub(super) const SINTERCARD: Command = Command {
    summary: "Counts the members that several sets have in common.",
    since: "7.0.0",
    group: Group::Set,
    complexity: INTERSECTION_COMPLEXITY,
    arity: -3,
    flags: Flags::READONLY,
    categories: Categories::SET,
    keys: &[KeySpec::counted(1, READ)],
    arguments: &[
        arg("numkeys", ArgumentKind::Integer),
        Argument::key("key", 0).multiple(),
        arg("limit", ArgumentKind::Integer).token("LIMIT").optional(),
    ],
    ..command("sintercard", Run::Keys(sintercard))
};

fn sintercard(op: &mut Op) -> Result<(), ReplyError> {
    let key_count = natural(op.args.at(1), 1, error::NUMKEYS_NOT_POSITIVE)?;
    if key_count > op.args.len() - 2 {
        return Err(error::NUMKEYS_BEYOND_ARGS);
    }
    let keys = op.args.range(2, 2 + key_count);
    let mut limit = 0;
    let mut options = Options::behind(op.args, 2 + key_count);
    while !options.is_empty() {
        if !options.flag(b"LIMIT") {
            return Err(error::SYNTAX);
        }
        limit = natural(options.word()?, 0, error::LIMIT_NEGATIVE)?;
    }
    look_up(op, keys)?;
    let sets = side_by_side(&op.keys, keys);
    let mut count = 0;
    let _ = Algebra::Intersection.each(&sets, op.env.seed, |_| {
        count += 1;
        if count == limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    op.reply.integer(count as i64);
    Ok(())
}
