//! DEL, UNLINK, EXISTS, TOUCH and TYPE: keys, whatever they hold.
//!
//! UNLINK is DEL that leaves the freeing to the background. For a small value the detour costs more than the freeing, so
//! only what is large takes it; `lazyfree-lazy-user-del yes` makes DEL do the same. A value of many elements goes to the
//! background whoever deletes it (the store sees to that): only for a long string, which is one allocation, there is a
//! difference.

use crate::engine::{Command, Event, Op, Run};
use crate::resp::ReplyError;
use crate::spec::{Argument, Categories, Flags, Group, KeyFlags, KeySpec, command};
use crate::store::{Access, Detached};

/// Strings that take more than this are freed in the background. Freeing less is one call of the allocator that touches no page
/// it has to give back.
const BACKGROUND_BYTES_MIN: usize = 32 * 1024;

pub(super) const DEL: Command = Command {
    summary: "Deletes one or more keys with their values.",
    since: "1.0.0",
    group: Group::Generic,
    complexity: "O(N) for N keys. A key that holds something other than a string takes O(M) by itself, M being the number of its elements.",
    arity: -2,
    flags: Flags::WRITE,
    categories: Categories::KEYSPACE,
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RM.union(KeyFlags::DELETE))],
    arguments: &[Argument::key("key", 0).multiple()],
    ..command("del", Run::Keys(del))
};

fn del(op: &mut Op) -> Result<(), ReplyError> {
    let in_background = op.env.settings.lazyfree_lazy_user_del;
    delete(op, in_background)
}

pub(super) const UNLINK: Command = Command {
    summary: "Deletes one or more keys at once and frees their values in the background.",
    since: "4.0.0",
    group: Group::Generic,
    complexity: "O(1) for each key, whatever its size. The background then does O(N) work to free N allocations.",
    arity: -2,
    flags: Flags::WRITE.union(Flags::FAST),
    categories: Categories::KEYSPACE,
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RM.union(KeyFlags::DELETE))],
    arguments: &[Argument::key("key", 0).multiple()],
    ..command("unlink", Run::Keys(unlink))
};

fn unlink(op: &mut Op) -> Result<(), ReplyError> {
    delete(op, true)
}

pub(super) const EXISTS: Command = Command {
    summary: "Counts how many of the named keys exist.",
    since: "1.0.0",
    group: Group::Generic,
    complexity: "O(N) for N keys.",
    arity: -2,
    flags: Flags::READONLY.union(Flags::FAST),
    categories: Categories::KEYSPACE,
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RO)],
    arguments: &[Argument::key("key", 0).multiple()],
    history: &[("3.0.3", "Several keys in one call.")],
    ..command("exists", Run::Keys(exists))
};

fn exists(op: &mut Op) -> Result<(), ReplyError> {
    op.keys.access = Access::Peek;
    count_found(op)
}

pub(super) const TOUCH: Command = Command {
    summary: "Counts how many of the named keys exist, and counts the call as an access to them.",
    since: "3.2.1",
    group: Group::Generic,
    complexity: "O(N) for N keys.",
    arity: -2,
    flags: Flags::READONLY.union(Flags::FAST),
    categories: Categories::KEYSPACE,
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RO)],
    arguments: &[Argument::key("key", 0).multiple()],
    ..command("touch", Run::Keys(touch))
};

fn touch(op: &mut Op) -> Result<(), ReplyError> {
    // Even for a client that has asked for CLIENT NO-TOUCH.
    op.keys.access = Access::Read;
    count_found(op)
}

pub(super) const TYPE: Command = Command {
    summary: "Names the type of the value that a key holds.",
    since: "1.0.0",
    group: Group::Generic,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    categories: Categories::KEYSPACE,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: &[Argument::key("key", 0)],
    ..command("type", Run::Keys(type_of))
};

fn type_of(op: &mut Op) -> Result<(), ReplyError> {
    op.keys.access = Access::Peek;
    match op.keys.read(op.args.at(1))? {
        Some(entry) => op.reply.simple(entry.type_of().name()),
        None => op.reply.simple("none"),
    }
    Ok(())
}

fn delete(op: &mut Op, in_background: bool) -> Result<(), ReplyError> {
    // What is lacking must be known before anything is changed.
    for key in op.args.slice_from(1).iter() {
        op.keys.slot(key)?;
    }
    let mut deleted_count = 0;
    for key in op.args.slice_from(1).iter() {
        let was_there = if in_background {
            remove_in_background(op, key)?
        } else {
            let (db, moment) = (op.keys.db, op.keys.moment);
            op.keys.slot(key)?.remove(db, key, moment)
        };
        if was_there {
            op.wrote(key, Event::generic("del"));
            deleted_count += 1;
        }
    }
    op.reply.integer(deleted_count);
    Ok(())
}

/// Deletes a key; a large value is freed later.
fn remove_in_background(op: &mut Op, key: &[u8]) -> Result<bool, ReplyError> {
    let (db, moment) = (op.keys.db, op.keys.moment);
    let slot = op.keys.slot(key)?;
    let is_large = slot
        .peek(db, key, moment.now)
        .is_some_and(|entry| entry.allocated_bytes() >= BACKGROUND_BYTES_MIN);
    // What an undo keeps is freed in steps when that ends.
    if !is_large || slot.is_undo_open() {
        return Ok(slot.remove(db, key, moment));
    }
    if let Some(entry) = slot.take(db, key, moment) {
        let mut large = Detached::default();
        large.push(entry);
        op.env.garbage.absorb(large);
    }
    Ok(true)
}

fn count_found(op: &mut Op) -> Result<(), ReplyError> {
    let mut found_count = 0;
    for key in op.args.slice_from(1).iter() {
        found_count += i64::from(op.keys.read(key)?.is_some());
    }
    op.reply.integer(found_count);
    Ok(())
}
