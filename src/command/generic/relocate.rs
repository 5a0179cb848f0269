//! COPY, MOVE, RENAME and RENAMENX: a value under another key, or in another db.
//!
//! The entry is taken out of one table and put into another, whichever slots these belong to; its value is not copied (long
//! strings are shared even by COPY). The effect is the command itself.
//!
//! COPY copies a large value in steps, and lets others run in between, but not on the two slots, which its unit of work holds until the copy
//! is in its place. (Freezing the source and letting its slot go would not do: who has changed the source and then finds no
//! copy would later find one that is older than his change.) So nothing of a copy is seen before all of it, and what needs all
//! slots (FLUSHALL, the cut of a snapshot) comes before or after it. Within EXEC a copy is made at once. RENAME makes such a copy only if what
//! the value was must stay where it is for a snapshot (`store::cut`).
//!
//! What is under the new key goes before the value comes, as in Redis: so the key is new even where there was one before.

use super::db_index;
use crate::data::copying::Copying;
use crate::data::frozen::Use;
use crate::data::{Object, ObjectRef};
use crate::engine::arguments::Options;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};
use crate::store::{Access, DbIndex, EntryRef, OwnedEntry};

/// A value of more elements, or more bytes, is copied in steps: so much takes a few hundred microseconds.
const ELEMENTS_COPIED_MAX: usize = 1024;
const BYTES_COPIED_MAX: usize = 256 * 1024;
/// Parts that are copied between two looks at the clock, and slices of a step, whatever the clock says.
const PARTS_AT_ONCE: usize = 128;
const SLICES_MAX: usize = 64;

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

fn copy(op: &mut Op) -> Result<(), ReplyError> {
    let (source, target) = (op.args.at(1), op.args.at(2));
    let source_db = op.keys.db;
    let mut target_db = source_db;
    let mut replaces = false;
    let mut options = Options::behind(op.args, 3);
    while !options.is_empty() {
        if options.flag(b"REPLACE") {
            replaces = true;
        } else if options.flag(b"DB") {
            target_db = db_index(options.word()?, op.env.settings.databases)?;
        } else {
            return Err(error::SYNTAX);
        }
    }
    if op.env.settings.cluster_enabled && target_db != source_db {
        return Err(error::COPY_DB_IN_CLUSTER);
    }
    if target_db == source_db && source == target {
        return Err(error::SAME_OBJECT);
    }
    op.keys.slot(target)?;
    let copy = copy_in_steps(op, source, (target_db, target), replaces)?;
    let made = |entry: EntryRef<'_>| match copy {
        Some(copy) => OwnedEntry::object(source, copy, entry.expiry(), 0),
        None => entry.to_owned(),
    };
    let Some(mut entry) = op.keys.read(source)?.map(made) else {
        op.reply.integer(0);
        return Ok(());
    };
    let clock = op.keys.moment.new_clock();
    let moment = op.keys.moment;
    let place = op.keys.slot(target)?;
    if !replaces && place.get(target_db, target, moment, Access::Peek).is_some() {
        op.reply.integer(0);
        return Ok(());
    }
    entry.set_access_clock(clock);
    place.put(target_db, target, entry, moment);
    op.wrote_in(target_db, target, Event::generic("copy_to"), 1);
    op.reply.integer(1);
    Ok(())
}

/// The copy of a large value, when it is whole; None: it is copied at once, or not at all.
fn copy_in_steps(
    op: &mut Op,
    source: &[u8],
    (target_db, target): (DbIndex, &[u8]),
    replaces: bool,
) -> Result<Option<Object>, ReplyError> {
    if let Some(begun) = op.resumed::<Option<Copying>>() {
        return go_on_copying(op, source, begun);
    }
    let is_large = op.keys.peek(source)?.and_then(EntryRef::object).is_some_and(is_large);
    if !is_large || !op.may_pause() {
        return Ok(None);
    }
    let moment = op.keys.moment;
    let place = op.keys.slot(target)?;
    if !replaces && place.get(target_db, target, moment, Access::Peek).is_some() {
        return Ok(None);
    }
    Err(op.pause(None::<Copying>))
}

/// One step of a copy; the error ends the step, if it is not the last.
fn go_on_copying(op: &mut Op, source: &[u8], begun: Option<Copying>) -> Result<Option<Object>, ReplyError> {
    let source_db = op.keys.db;
    let (limits, end) = (op.env.limits, op.end_of_step());
    let mut begun = begun;
    for _ in 0..SLICES_MAX {
        let lent = op.keys.slot(source)?.lend_object(source_db, source, |object, seed| {
            let mut copying = begun.take().unwrap_or_else(|| Copying::begin(object, &limits));
            let is_whole = copying.step(object, seed, PARTS_AT_ONCE);
            if is_whole {
                // It has not changed meanwhile, so there is nothing to be freed.
                drop(object.thaw(Use::Copy));
            }
            (copying, is_whole)
        });
        let (copying, is_whole) = lent.expect("the slot of the source has been held since it was there");
        if is_whole {
            return Ok(copying.into_object());
        }
        begun = Some(copying);
        if op.is_over(end) {
            break;
        }
    }
    Err(op.pause(begun))
}

fn is_large(object: ObjectRef<'_>) -> bool {
    object.freezes() && (object.len() > ELEMENTS_COPIED_MAX || object.allocated_bytes() > BYTES_COPIED_MAX)
}

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
    let is_target_taken = slot.get(target_db, key, moment, Access::Peek).is_some();
    let moved = if is_target_taken {
        None
    } else {
        let here = slot.as_destination();
        slot.take_for(source_db, key, here, None, moment)
    };
    let has_moved = moved.is_some();
    if let Some(entry) = moved {
        slot.put_taken(target_db, key, entry, moment);
        op.wrote(key, Event::generic("move_from"));
        op.wrote_in(target_db, key, Event::generic("move_to"), 0);
    }
    op.reply.integer(i64::from(has_moved));
    Ok(())
}

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
    let to = op.keys.slot(target)?.as_destination();
    let copy = match op.resumed::<Option<Copying>>() {
        Some(begun) => go_on_copying(op, source, begun)?,
        None => {
            let is_large = op.keys.peek(source)?.and_then(EntryRef::object).is_some_and(is_large);
            if is_large && op.may_pause() && op.keys.slot(source)?.must_stay(db, source, to, moment) {
                return Err(op.pause(None::<Copying>));
            }
            None
        }
    };
    let Some(entry) = op.keys.slot(source)?.take_for(db, source, to, copy, moment) else {
        return Err(error::NO_SUCH_KEY);
    };
    op.keys.slot(target)?.put_taken(db, target, entry, moment);
    op.came(target);
    op.wrote(source, Event::generic("rename_from"));
    op.also(target, Event::generic("rename_to"));
    Ok(())
}
