//! COPY, MOVE, RENAME and RENAMENX: a value under another key, or in another db.
//!
//! The entry is taken out of one table and put into another, whichever slots these belong to; its value is not copied (long
//! strings are shared even by COPY).
//!
//! When the two keys are at home on the same shard, the effect is the command itself. Otherwise no single log could replay it: the
//! source's log gets a DEL, and the target's log a RESTORE with the whole value, its expiry as an absolute time.

use super::db_index;
use crate::base::clock::UnixMs;
use crate::engine::{Command, Op, Run};
use crate::persist::payload;
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};
use crate::store::DbIndex;

pub(super) const COPY: Command = Command {
    summary: "Copies the value of a key to another key.",
    since: "6.2.0",
    group: Group::Generic,
    complexity: "O(1) for strings, O(N) for N elements of anything else.",
    arity: -3,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    categories: Categories::KEYSPACE,
    keys: &[
        KeySpec::one(1, KeyFlags::RO.union(KeyFlags::ACCESS)),
        KeySpec::one(2, KeyFlags::OW.union(KeyFlags::UPDATE)),
    ],
    arguments: &[
        Argument::key("source", 0),
        Argument::key("destination", 1),
        arg("destination-db", ArgumentKind::Integer).token("DB").optional(),
        Argument::word("replace", "REPLACE").optional(),
    ],
    ..command("copy", Run::Keys(copy))
};

pub(super) const MOVE: Command = Command {
    summary: "Moves a key to another db.",
    since: "1.0.0",
    group: Group::Generic,
    complexity: "O(1)",
    arity: 3,
    flags: Flags::WRITE.union(Flags::FAST),
    categories: Categories::KEYSPACE,
    keys: &[KeySpec::one(
        1,
        KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::UPDATE),
    )],
    arguments: &[Argument::key("key", 0), arg("db", ArgumentKind::Integer)],
    ..command("move", Run::Keys(move_to_db))
};

pub(super) const RENAME: Command = Command {
    summary: "Renames a key, over whatever the new name holds.",
    since: "1.0.0",
    group: Group::Generic,
    complexity: "O(1), and what deleting the value costs that was under the new name.",
    arity: 3,
    flags: Flags::WRITE,
    categories: Categories::KEYSPACE,
    keys: &[
        KeySpec::one(1, KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE)),
        KeySpec::one(2, KeyFlags::OW.union(KeyFlags::UPDATE)),
    ],
    arguments: &[Argument::key("key", 0), Argument::key("newkey", 1)],
    ..command("rename", Run::Keys(rename))
};

pub(super) const RENAMENX: Command = Command {
    summary: "Renames a key if the new name is free.",
    since: "1.0.0",
    group: Group::Generic,
    complexity: "O(1)",
    arity: 3,
    flags: Flags::WRITE.union(Flags::FAST),
    categories: Categories::KEYSPACE,
    keys: &[
        KeySpec::one(1, KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::DELETE)),
        KeySpec::one(2, KeyFlags::OW.union(KeyFlags::INSERT)),
    ],
    arguments: &[Argument::key("key", 0), Argument::key("newkey", 1)],
    history: &[("3.2.0", "Equal names are no error any more.")],
    ..command("renamenx", Run::Keys(renamenx))
};

fn rename(op: &mut Op) -> Result<(), ReplyError> {
    let (source, target) = (op.args.at(1), op.args.at(2));
    if !find_both(op, source, target)?.source {
        return Err(error::NO_SUCH_KEY);
    }
    if source != target {
        relocate(op, source, target)?;
    }
    op.reply.ok();
    Ok(())
}

fn renamenx(op: &mut Op) -> Result<(), ReplyError> {
    let (source, target) = (op.args.at(1), op.args.at(2));
    let found = find_both(op, source, target)?;
    if !found.source {
        return Err(error::NO_SUCH_KEY);
    }
    if !found.target {
        relocate(op, source, target)?;
    }
    op.reply.integer(i64::from(!found.target));
    Ok(())
}

/// Which of two keys exist.
struct Found {
    source: bool,
    target: bool,
}

fn find_both(op: &mut Op, source: &[u8], target: &[u8]) -> Result<Found, ReplyError> {
    // The target first, so that its slot is known to be held before anything is changed.
    let target = op.keys.exists(target)?;
    Ok(Found {
        source: op.keys.exists(source)?,
        target,
    })
}

/// Moves an entry that exists to another key of the same db.
fn relocate(op: &mut Op, source: &[u8], target: &[u8]) -> Result<(), ReplyError> {
    let (db, moment) = (op.keys.db, op.keys.moment);
    let Some(entry) = op.keys.slot(source)?.take(db, source, moment) else {
        return Err(error::NO_SUCH_KEY);
    };
    op.keys.slot(target)?.put(db, target, entry, moment);
    op.changed(1);
    Ok(())
}

fn copy(op: &mut Op) -> Result<(), ReplyError> {
    let (source, target) = (op.args.at(1), op.args.at(2));
    let source_db = op.keys.db;
    let mut target_db = source_db;
    let mut replaces = false;
    let mut options = op.args.slice_from(3).iter();
    while let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"replace") {
            replaces = true;
        } else if option.eq_ignore_ascii_case(b"db")
            && let Some(number) = options.next()
        {
            target_db = db_index(number, op.env.settings.databases)?;
        } else {
            return Err(error::SYNTAX);
        }
    }
    if op.env.settings.cluster_enabled && target_db != source_db {
        return Err(error::COPY_IN_CLUSTER);
    }
    if target_db == source_db && source == target {
        return Err(error::SAME_OBJECT);
    }
    op.keys.slot(target)?;
    let Some(mut entry) = op.keys.read(source)?.map(|entry| entry.to_owned()) else {
        op.reply.integer(0);
        return Ok(());
    };
    let clock = op.keys.moment.new_clock();
    let moment = op.keys.moment;
    let place = op.keys.slot(target)?;
    if !replaces
        && place
            .get(target_db, target, moment, crate::store::Access::Peek)
            .is_some()
    {
        op.reply.integer(0);
        return Ok(());
    }
    entry.set_access_clock(clock);
    place.put(target_db, target, entry, moment);
    op.changed(1);
    op.reply.integer(1);
    Ok(())
}

fn move_to_db(op: &mut Op) -> Result<(), ReplyError> {
    if op.env.settings.cluster_enabled {
        return Err(error::MOVE_IN_CLUSTER);
    }
    let key = op.args.at(1);
    let source_db = op.keys.db;
    let target_db = db_index(op.args.at(2), op.env.settings.databases)?;
    if source_db == target_db {
        return Err(error::SAME_OBJECT);
    }
    let moment = op.keys.moment;
    let slot = op.keys.slot(key)?;
    let is_target_taken = slot.get(target_db, key, moment, crate::store::Access::Peek).is_some();
    let moved = if is_target_taken {
        None
    } else {
        slot.take(source_db, key, moment)
    };
    let has_moved = moved.is_some();
    if let Some(entry) = moved {
        slot.put(target_db, key, entry, moment);
        op.changed(1);
    }
    op.reply.integer(i64::from(has_moved));
    Ok(())
}
