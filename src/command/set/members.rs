//! Members by name: SADD SREM SMOVE SCARD SISMEMBER SMISMEMBER SMEMBERS SSCAN.

use super::{INSERT, READ, TAKE};
use crate::base::glob;
use crate::data::set::{Set, SetRef};
use crate::engine::arguments::element_scan::ElementScan;
use crate::engine::arguments::numbers;
use crate::engine::stored::reply_item;
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, ReplyError};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

const MEMBER: Argument = arg("member", ArgumentKind::String);
const WRITE: Flags = Flags::WRITE.union(Flags::FAST);
const LOOK: Flags = Flags::READONLY.union(Flags::FAST);

pub(super) const SADD: Command = Command {
    summary: "Adds members to a set; creates the set if it is missing.",
    since: "1.0.0",
    group: Group::Set,
    complexity: "O(N), N being the number of members added.",
    arity: -3,
    flags: WRITE.union(Flags::DENYOOM),
    categories: Categories::SET,
    keys: &[KeySpec::one(1, INSERT)],
    arguments: &[Argument::key("key", 0), MEMBER.multiple()],
    history: &[("2.4.0", "Several members in one call.")],
    ..command("sadd", Run::Keys(sadd))
};

fn sadd(op: &mut Op) -> Result<(), ReplyError> {
    let (key, members) = (op.args.at(1), op.args.slice_from(2));
    let added_count = add(op, key, members)?;
    if added_count > 0 {
        op.wrote_times(key, Event::set("sadd"), added_count);
    }
    op.reply.integer(added_count as i64);
    Ok(())
}

/// Adds members; how many are new.
fn add(op: &mut Op, key: &[u8], members: Args) -> Result<u64, ReplyError> {
    let (limits, seed) = (&op.env.limits, op.env.seed);
    op.keys.edit_or_create_set(key, |set| {
        if set.is_empty() {
            *set = Set::for_members(members.at(0), members.len(), limits);
        } else {
            set.prepare(members.len(), limits, seed);
        }
        let added = members.iter().filter(|member| set.add(member, limits, seed));
        let added_count = added.count() as u64;
        Edited::when(added_count > 0, added_count)
    })
}

pub(super) const SREM: Command = Command {
    summary: "Removes members from a set.",
    since: "1.0.0",
    group: Group::Set,
    complexity: "O(N), N being the number of members to remove.",
    arity: -3,
    flags: WRITE,
    categories: Categories::SET,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::DELETE))],
    arguments: &[Argument::key("key", 0), MEMBER.multiple()],
    history: &[("2.4.0", "Several members in one call.")],
    ..command("srem", Run::Keys(srem))
};

fn srem(op: &mut Op) -> Result<(), ReplyError> {
    let (key, members) = (op.args.at(1), op.args.slice_from(2));
    let seed = op.env.seed;
    let removed = op.keys.edit_set(key, |set| {
        let removed_count = members.iter().filter(|member| set.remove(member, seed)).count();
        Edited::when(removed_count > 0, removed_count)
    })?;
    let removed_count = removed.unwrap_or(0);
    if removed_count > 0 {
        op.wrote_times(key, Event::set("srem"), removed_count as u64);
    }
    op.reply.integer(removed_count as i64);
    Ok(())
}

pub(super) const SMOVE: Command = Command {
    summary: "Moves a member from one set to another.",
    since: "1.0.0",
    group: Group::Set,
    complexity: "O(1)",
    arity: 4,
    flags: WRITE,
    categories: Categories::SET,
    keys: &[KeySpec::one(1, TAKE), KeySpec::one(2, INSERT)],
    arguments: &[Argument::key("source", 0), Argument::key("destination", 1), MEMBER],
    ..command("smove", Run::Keys(smove))
};

fn smove(op: &mut Op) -> Result<(), ReplyError> {
    let (source, target, member) = (op.args.at(1), op.args.at(2), op.args.at(3));
    let seed = op.env.seed;
    let has_it = op.keys.peek_set(source)?.map(|set| set.contains(member, seed));
    let Some(has_it) = has_it else {
        op.reply.integer(0);
        return Ok(());
    };
    op.keys.peek_set(target)?;
    if !has_it || source == target {
        op.reply.integer(i64::from(has_it));
        return Ok(());
    }
    // If the time of the target was over, that comes before all else.
    op.came(target);
    op.keys.edit_set(source, |set| {
        set.remove(member, seed);
        Edited::Changed(())
    })?;
    op.wrote(source, Event::set("srem"));
    if add(op, target, op.args.slice_from(3))? > 0 {
        op.wrote(target, Event::set("sadd"));
    }
    op.reply.integer(1);
    Ok(())
}

pub(super) const SCARD: Command = Command {
    summary: "Counts the members of a set.",
    since: "1.0.0",
    group: Group::Set,
    complexity: "O(1)",
    arity: 2,
    flags: LOOK,
    categories: Categories::SET,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: &[Argument::key("key", 0)],
    ..command("scard", Run::Keys(scard))
};

fn scard(op: &mut Op) -> Result<(), ReplyError> {
    let set = op.keys.read_set(op.args.at(1))?;
    op.reply.integer(set.map_or(0, SetRef::len) as i64);
    Ok(())
}

pub(super) const SISMEMBER: Command = Command {
    summary: "Says whether a set has a member.",
    since: "1.0.0",
    group: Group::Set,
    complexity: "O(1)",
    arity: 3,
    flags: LOOK,
    categories: Categories::SET,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: &[Argument::key("key", 0), MEMBER],
    ..command("sismember", Run::Keys(sismember))
};

fn sismember(op: &mut Op) -> Result<(), ReplyError> {
    let set = op.keys.read_set(op.args.at(1))?;
    let has_it = set.is_some_and(|set| set.contains(op.args.at(2), op.env.seed));
    op.reply.integer(i64::from(has_it));
    Ok(())
}

pub(super) const SMISMEMBER: Command = Command {
    summary: "Says of each of several members whether a set has it.",
    since: "6.2.0",
    group: Group::Set,
    complexity: "O(N), N being the number of members asked for.",
    arity: -3,
    flags: LOOK,
    categories: Categories::SET,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[Argument::key("key", 0), MEMBER.multiple()],
    ..command("smismember", Run::Keys(smismember))
};

fn smismember(op: &mut Op) -> Result<(), ReplyError> {
    let set = op.keys.read_set(op.args.at(1))?;
    let members = op.args.slice_from(2);
    op.reply.array(members.len());
    for member in members.iter() {
        let has_it = set.is_some_and(|set| set.contains(member, op.env.seed));
        op.reply.integer(i64::from(has_it));
    }
    Ok(())
}

pub(super) const SMEMBERS: Command = Command {
    summary: "Answers all members of a set.",
    since: "1.0.0",
    group: Group::Set,
    complexity: "O(N), N being the number of members.",
    arity: 2,
    flags: Flags::READONLY,
    categories: Categories::SET,
    tips: &["nondeterministic_output_order"],
    keys: &[KeySpec::one(1, READ)],
    arguments: &[Argument::key("key", 0)],
    ..command("smembers", Run::Keys(smembers))
};

fn smembers(op: &mut Op) -> Result<(), ReplyError> {
    let set = op.keys.read_set(op.args.at(1))?;
    let reply = &mut op.reply;
    reply.set(set.map_or(0, SetRef::len));
    if let Some(set) = set {
        set.for_each(|item| reply_item(reply, item));
    }
    Ok(())
}

pub(super) const SSCAN: Command = Command {
    summary: "Lists the members of a set piece by piece.",
    since: "2.8.0",
    group: Group::Set,
    complexity: "O(1) for a call, O(N) for all the calls that walk through N members.",
    arity: -3,
    flags: Flags::READONLY,
    categories: Categories::SET,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        arg("cursor", ArgumentKind::Integer),
        arg("pattern", ArgumentKind::Pattern).token("MATCH").optional(),
        arg("count", ArgumentKind::Integer).token("COUNT").optional(),
    ],
    ..command("sscan", Run::Keys(sscan))
};

fn sscan(op: &mut Op) -> Result<(), ReplyError> {
    let cursor = numbers::cursor(op.args.at(2))?;
    let Some(set) = op.keys.read_set(op.args.at(1))? else {
        op.reply.array(2);
        op.reply.bulk(b"0");
        op.reply.array(0);
        return Ok(());
    };
    let ElementScan { count, pattern, .. } = ElementScan::parse(op.args, false)?;
    // The cursor comes first and is known last: members are kept until then.
    let mut found = Vec::new();
    let mut digits = itoa::Buffer::new();
    let next = set.scan(cursor, count, |item| {
        if pattern.is_none_or(|pattern| glob::matches(pattern, item.as_bytes(&mut digits))) {
            found.push(item);
        }
    });
    let reply = &mut op.reply;
    reply.array(2);
    reply.bulk(digits.format(next).as_bytes());
    reply.array(found.len());
    found.into_iter().for_each(|item| reply_item(reply, item));
    Ok(())
}
