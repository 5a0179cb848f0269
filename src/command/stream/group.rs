//! XGROUP, which makes and ends groups and their consumers, and XACK.

use super::{CONSUMER, DELETE, FAST_WRITE, GROUP, IDS, KEY, UPDATE, container, help_of, on_stream, parse_id};
use crate::data::stream::{Entries, Group, Stream, StreamId};
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::integer;
use crate::engine::help::{HelpEntry, reply_help};
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Flags, KeyFlags, KeySpec, arg};

const INSERT: KeyFlags = KeyFlags::RW.union(KeyFlags::INSERT);

const ENTRIES_READ: Argument = arg("entries-read-id", ArgumentKind::Integer)
    .token("ENTRIESREAD")
    .shown_as("entries-read")
    .optional();

/// `id` or `$`.
const GROUP_ID: Argument = arg(
    "id-selector",
    ArgumentKind::OneOf(&[arg("id", ArgumentKind::String), Argument::word("new-id", "$")]),
);

pub(super) const XGROUP: Command = Command {
    summary: "Holds the commands for consumer groups.",
    subcommands: &[CREATE, CREATE_CONSUMER, DELETE_CONSUMER, DESTROY, help_of(help), SET_ID],
    ..container("xgroup")
};

/// Where a group begins to read.
#[derive(Clone, Copy)]
enum Position<'a> {
    /// `$`
    End,
    /// Not read yet: a wrong key is told first.
    Given(&'a [u8]),
}

impl<'a> Position<'a> {
    fn of(text: &'a [u8]) -> Position<'a> {
        if text == b"$" {
            Position::End
        } else {
            Position::Given(text)
        }
    }

    fn resolve(self, entries: &Entries) -> Result<StreamId, ReplyError> {
        match self {
            Position::End => Ok(entries.last_id()),
            Position::Given(text) => parse_id(text),
        }
    }

    /// SETID knows the least and the greatest of all IDs too, by the signs that ranges have for them; CREATE does not.
    fn resolve_signs(self, entries: &Entries) -> Result<StreamId, ReplyError> {
        match self {
            Position::Given(b"-") => Ok(StreamId::MIN),
            Position::Given(b"+") => Ok(StreamId::MAX),
            other => other.resolve(entries),
        }
    }
}

/// What stands behind the ID of XGROUP CREATE and SETID.
#[derive(Default)]
struct Making {
    creates: bool,
    entries_read: Option<u64>,
}

impl Making {
    fn parse(op: &Op, takes_mkstream: bool) -> Result<Making, ReplyError> {
        let mut making = Making::default();
        let unknown = || error::unknown_subcommand_or_arity("xgroup", op.args.at(1));
        let mut options = Options::behind(op.args, 5);
        while !options.is_empty() {
            if takes_mkstream && options.flag(b"MKSTREAM") {
                making.creates = true;
            } else if options.flag(b"ENTRIESREAD") {
                making.entries_read = match integer(options.word().map_err(|_| unknown())?)? {
                    -1 => None,
                    count => Some(u64::try_from(count).map_err(|_| error::STREAM_ENTRIES_READ_INVALID)?),
                };
            } else {
                return Err(unknown());
            }
        }
        Ok(making)
    }
}

/// Lets `change` change the group; its answer, or NOGROUP.
fn with_group<R>(op: &mut Op, change: impl FnOnce(&mut Group, &Entries) -> R) -> Result<R, ReplyError> {
    let (key, name) = (op.args.at(2), op.args.at(3));
    let changed = op.keys.edit_stream(key, |stream| {
        let Stream { entries, groups } = stream;
        Edited::Same(groups.get_mut(name).map(|group| change(group, entries)))
    })?;
    let found = changed.ok_or(error::STREAM_GROUP_NO_KEY)?;
    found.ok_or_else(|| error::no_group_of_key(name, key))
}

fn changed(op: &mut Op, event: &'static str) {
    op.wrote(op.args.at(2), Event::stream(event));
}

const CREATE: Command = Command {
    summary: "Makes a consumer group.",
    arity: -5,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: &[KeySpec::one(2, INSERT)],
    arguments: &[
        KEY,
        GROUP,
        GROUP_ID,
        Argument::word("mkstream", "MKSTREAM").optional(),
        ENTRIES_READ,
    ],
    history: &[("7.0.0", "The argument `entries_read` was added.")],
    ..on_stream("create", create)
};

fn create(op: &mut Op) -> Result<(), ReplyError> {
    let making = Making::parse(op, true)?;
    let (key, name, position) = (op.args.at(2), op.args.at(3), Position::of(op.args.at(4)));
    let is_new = op.keys.peek_stream(key)?.is_none();
    if is_new && !making.creates {
        return Err(error::STREAM_GROUP_NO_KEY);
    }
    let created = op.keys.edit_or_create_stream(key, |stream| {
        let made = position.resolve(&stream.entries).and_then(|id| {
            let is_added = stream.groups.add(Group::new(name, id, making.entries_read));
            is_added.then_some(()).ok_or(error::STREAM_GROUP_EXISTS)
        });
        Edited::when(is_new && made.is_ok(), made)
    })?;
    created?;
    changed(op, "xgroup-create");
    op.reply.ok();
    Ok(())
}

const SET_ID: Command = Command {
    summary: "Lets a consumer group go on reading from another ID.",
    arity: -5,
    flags: Flags::WRITE,
    keys: &[KeySpec::one(2, UPDATE)],
    arguments: &[KEY, GROUP, GROUP_ID, ENTRIES_READ],
    history: &[("7.0.0", "The optional argument `entries_read` was added.")],
    ..on_stream("setid", set_id)
};

pub(super) fn set_id(op: &mut Op) -> Result<(), ReplyError> {
    let making = Making::parse(op, false)?;
    let position = Position::of(op.args.at(4));
    with_group(op, |group, entries| {
        group.last_delivered_id = position.resolve_signs(entries)?;
        group.entries_read = making.entries_read;
        Ok::<(), ReplyError>(())
    })??;
    changed(op, "xgroup-setid");
    op.reply.ok();
    Ok(())
}

const DESTROY: Command = Command {
    summary: "Removes a consumer group.",
    complexity: "O(N), N being the number of entries pending in the group.",
    arity: 4,
    flags: Flags::WRITE,
    keys: &[KeySpec::one(2, DELETE)],
    arguments: &[KEY, GROUP],
    ..on_stream("destroy", destroy)
};

fn destroy(op: &mut Op) -> Result<(), ReplyError> {
    let (key, name) = (op.args.at(2), op.args.at(3));
    let removed = op
        .keys
        .edit_stream(key, |stream| Edited::Same(stream.groups.remove(name)))?;
    let is_removed = removed.ok_or(error::STREAM_GROUP_NO_KEY)?;
    if is_removed {
        changed(op, "xgroup-destroy");
    }
    op.reply.integer(i64::from(is_removed));
    Ok(())
}

const CREATE_CONSUMER: Command = Command {
    summary: "Makes a consumer of a group.",
    since: "6.2.0",
    arity: 5,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: &[KeySpec::one(2, INSERT)],
    arguments: &[KEY, GROUP, CONSUMER],
    ..on_stream("createconsumer", create_consumer)
};

fn create_consumer(op: &mut Op) -> Result<(), ReplyError> {
    let (consumer, now) = (op.args.at(4), op.env.now);
    let (_, is_new) = with_group(op, |group, _| group.add_consumer(consumer, now))?;
    if is_new {
        changed(op, "xgroup-createconsumer");
    }
    op.reply.integer(i64::from(is_new));
    Ok(())
}

const DELETE_CONSUMER: Command = Command {
    summary: "Removes a consumer from a group, with what is pending for it.",
    arity: 5,
    flags: Flags::WRITE,
    keys: &[KeySpec::one(2, DELETE)],
    arguments: &[KEY, GROUP, CONSUMER],
    ..on_stream("delconsumer", delete_consumer)
};

fn delete_consumer(op: &mut Op) -> Result<(), ReplyError> {
    let consumer = op.args.at(4);
    let pending = with_group(op, |group, _| group.remove_consumer(consumer))?;
    if pending.is_some() {
        changed(op, "xgroup-delconsumer");
    }
    op.reply.integer(pending.unwrap_or(0) as i64);
    Ok(())
}

const HELP: &[HelpEntry] = &[
    (
        "CREATE <key> <groupname> <id|$> [option]",
        &[
            "Make a group that reads from <id> on, or from the end of the stream. Options:",
            "* MKSTREAM",
            "  Make an empty stream if there is none.",
            "* ENTRIESREAD entries_read",
            "  How many entries the group has read so far (for replicas).",
        ],
    ),
    (
        "CREATECONSUMER <key> <groupname> <consumer>",
        &["Make a consumer of the group."],
    ),
    (
        "DELCONSUMER <key> <groupname> <consumer>",
        &["Remove a consumer and what is pending for it."],
    ),
    ("DESTROY <key> <groupname>", &["Remove the group."]),
    (
        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
        &["Let the group go on reading from another place."],
    ),
];

pub(super) fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "XGROUP", HELP);
    Ok(())
}

pub(super) const XACK: Command = Command {
    summary: "Notes that a consumer is done with entries: they are not pending any more. Answers how many were.",
    complexity: "O(1) for each ID.",
    arity: -4,
    flags: FAST_WRITE,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: &[KEY, GROUP, IDS],
    ..on_stream("xack", xack)
};

fn xack(op: &mut Op) -> Result<(), ReplyError> {
    let (key, name, ids) = (op.args.at(1), op.args.at(2), op.args.slice_from(3));
    let done = op.keys.edit_stream(key, |stream| {
        let Some(group) = stream.groups.get_mut(name) else {
            return Edited::Same(Ok(0));
        };
        // All or nothing: an ID that is none must not come too late.
        let ids: Result<Vec<StreamId>, ReplyError> = ids.iter().map(parse_id).collect();
        Edited::Same(ids.map(|ids| ids.into_iter().filter(|id| group.acknowledge(*id)).count()))
    })?;
    let done = done.unwrap_or(Ok(0))?;
    op.changed(done as u64);
    op.reply.integer(done as i64);
    Ok(())
}
