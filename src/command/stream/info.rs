//! XINFO: a stream, its groups and their consumers, as maps.
//!
//! Redis keeps blocks in a radix tree and tells its size. `radix-tree-keys` is the number of blocks here as there;
//! `radix-tree-nodes` has no counterpart: one more than the keys, which is what a tree without branches has.

use super::{COUNT, GROUP, KEY, NONDETERMINISTIC, READ, container, help_of, on_stream, reply_entry, reply_id};
use crate::base::clock::UnixMs;
use crate::data::stream::{Consumer, Entry, Group, Stream, StreamId};
use crate::engine::arguments::numbers::integer;
use crate::engine::help::{HelpEntry, reply_help};
use crate::engine::{Command, Op, SessionOp};
use crate::resp::{Reply, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Flags, KeySpec, arg};

pub(super) const XINFO: Command = Command {
    summary: "Holds the commands that look into streams.",
    subcommands: &[CONSUMERS, GROUPS, help_of(help), STREAM],
    ..container("xinfo")
};

/// Entries and pending entries that `FULL` shows unless it is told otherwise.
const FULL_COUNT: usize = 10;

const HELP: &[HelpEntry] = &[
    ("CONSUMERS <key> <groupname>", &["Show the consumers of <groupname>."]),
    ("GROUPS <key>", &["Show the groups that read the stream."]),
    (
        "STREAM <key> [FULL [COUNT <count>]",
        &["Show the stream itself; FULL adds its entries, groups and what is pending."],
    ),
];

pub(super) fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "XINFO", HELP);
    Ok(())
}

const STREAM: Command = Command {
    summary: "Describes a stream.",
    arity: -3,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(2, READ)],
    arguments: &[
        KEY,
        arg(
            "full-block",
            ArgumentKind::Block(&[Argument::word("full", "FULL"), COUNT]),
        )
        .optional(),
    ],
    history: &[
        ("6.0.0", "The option `FULL` was added."),
        (
            "7.0.0",
            "The fields `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag` were added.",
        ),
        (
            "7.2.0",
            "The field `active-time` was added, and `seen-time` tells the last attempt, successful or not.",
        ),
    ],
    ..on_stream("stream", stream)
};

pub(super) fn stream(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    let stream = op.keys.read_stream(args.at(2))?.ok_or(error::NO_SUCH_KEY)?;
    let wrong = || error::unknown_subcommand_or_arity("xinfo", args.at(1));
    let count = match args.len() {
        3 => None,
        4 | 6 if args.at(3).eq_ignore_ascii_case(b"FULL") => match args.get(4) {
            None => Some(FULL_COUNT),
            Some(word) if word.eq_ignore_ascii_case(b"COUNT") => match integer(args.at(5))? {
                0 => Some(usize::MAX),
                count => Some(usize::try_from(count).unwrap_or(FULL_COUNT)),
            },
            Some(_) => return Err(wrong()),
        },
        _ => return Err(wrong()),
    };
    let reply = &mut op.reply;
    reply.map(if count.is_some() { 9 } else { 10 });
    reply_head(reply, stream);
    match count {
        Some(count) => reply_rest(reply, stream, count),
        None => {
            reply_field(reply, "groups", stream.groups.len() as i64);
            reply.bulk_string("first-entry");
            reply_edge(reply, stream.entries.first());
            reply.bulk_string("last-entry");
            reply_edge(reply, stream.entries.last());
        }
    }
    Ok(())
}

/// What both forms begin with.
fn reply_head(reply: &mut Reply<'_>, stream: &Stream) {
    let entries = &stream.entries;
    let blocks = entries.block_count() as i64;
    reply_field(reply, "length", entries.len() as i64);
    reply_field(reply, "radix-tree-keys", blocks);
    reply_field(reply, "radix-tree-nodes", blocks + 1);
    reply_id_field(reply, "last-generated-id", entries.last_id());
    reply_id_field(reply, "max-deleted-entry-id", entries.max_deleted_id());
    reply_field(reply, "entries-added", entries.added() as i64);
    reply_id_field(reply, "recorded-first-entry-id", entries.first_id());
}

fn reply_edge(reply: &mut Reply<'_>, entry: Option<Entry<'_>>) {
    match entry {
        Some(entry) => reply_entry(reply, entry),
        None => reply.null(),
    }
}

/// What `FULL` goes on with.
fn reply_rest(reply: &mut Reply<'_>, stream: &Stream, count: usize) {
    reply.bulk_string("entries");
    super::reply_entries(reply, stream.entries.range(StreamId::MIN, StreamId::MAX).take(count));
    reply.bulk_string("groups");
    reply.array(stream.groups.len());
    for group in stream.groups.iter() {
        reply.map(7);
        reply.bulk_string("name");
        reply.bulk(group.name());
        reply_id_field(reply, "last-delivered-id", group.last_delivered_id);
        reply_progress(reply, stream, group);
        reply_field(reply, "pel-count", group.pending_count() as i64);
        reply.bulk_string("pending");
        reply.array(group.pending_count().min(count));
        for pending in group.pending_from(StreamId::MIN).take(count) {
            reply.array(4);
            reply_id(reply, pending.id);
            reply.bulk(group.owner(pending).name());
            reply.integer(pending.delivered_at.signed());
            reply.integer(pending.delivery_count as i64);
        }
        reply.bulk_string("consumers");
        reply.array(group.consumer_count());
        for consumer in group.consumers() {
            reply_consumer(reply, group, consumer, count);
        }
    }
}

fn reply_consumer(reply: &mut Reply<'_>, group: &Group, consumer: &Consumer, count: usize) {
    reply.map(5);
    reply.bulk_string("name");
    reply.bulk(consumer.name());
    reply_field(reply, "seen-time", consumer.seen_at.signed());
    reply_field(reply, "active-time", consumer.active_at.map_or(-1, UnixMs::signed));
    reply_field(reply, "pel-count", consumer.pending_count() as i64);
    reply.bulk_string("pending");
    reply.array(consumer.pending_count().min(count));
    let ids = consumer.pending_from(StreamId::MIN).take(count);
    for pending in ids.filter_map(|id| group.pending(id)) {
        reply.array(3);
        reply_id(reply, pending.id);
        reply.integer(pending.delivered_at.signed());
        reply.integer(pending.delivery_count as i64);
    }
}

const GROUPS: Command = Command {
    summary: "Lists the consumer groups of a stream.",
    arity: 3,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(2, READ)],
    arguments: &[KEY],
    history: &[("7.0.0", "The fields `entries-read` and `lag` were added.")],
    ..on_stream("groups", groups)
};

pub(super) fn groups(op: &mut Op) -> Result<(), ReplyError> {
    let stream = op.keys.read_stream(op.args.at(2))?.ok_or(error::NO_SUCH_KEY)?;
    let reply = &mut op.reply;
    reply.array(stream.groups.len());
    for group in stream.groups.iter() {
        reply.map(6);
        reply.bulk_string("name");
        reply.bulk(group.name());
        reply_field(reply, "consumers", group.consumer_count() as i64);
        reply_field(reply, "pending", group.pending_count() as i64);
        reply_id_field(reply, "last-delivered-id", group.last_delivered_id);
        reply_progress(reply, stream, group);
    }
    Ok(())
}

/// How far a group has read, as far as that is known.
fn reply_progress(reply: &mut Reply<'_>, stream: &Stream, group: &Group) {
    let read = group.entries_read.map(|read| read as i64);
    for (name, value) in [("entries-read", read), ("lag", group.lag(&stream.entries))] {
        reply.bulk_string(name);
        match value {
            Some(value) => reply.integer(value),
            None => reply.null(),
        }
    }
}

const CONSUMERS: Command = Command {
    summary: "Lists the consumers of a group.",
    arity: 4,
    flags: Flags::READONLY,
    tips: NONDETERMINISTIC,
    keys: &[KeySpec::one(2, READ)],
    arguments: &[KEY, GROUP],
    history: &[("7.2.0", "The field `inactive` was added.")],
    ..on_stream("consumers", consumers)
};

pub(super) fn consumers(op: &mut Op) -> Result<(), ReplyError> {
    let (key, name, now) = (op.args.at(2), op.args.at(3), op.keys.moment.now);
    let stream = op.keys.read_stream(key)?.ok_or(error::NO_SUCH_KEY)?;
    let group = stream.groups.get(name);
    let group = group.ok_or_else(|| error::no_group_of_key(name, key))?;
    let reply = &mut op.reply;
    reply.array(group.consumer_count());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk_string("name");
        reply.bulk(consumer.name());
        reply_field(reply, "pending", consumer.pending_count() as i64);
        reply_field(reply, "idle", (now - consumer.seen_at).0 as i64);
        let inactive = consumer.active_at.map_or(-1, |active_at| (now - active_at).0 as i64);
        reply_field(reply, "inactive", inactive);
    }
    Ok(())
}

fn reply_field(reply: &mut Reply<'_>, name: &str, value: i64) {
    reply.bulk_string(name);
    reply.integer(value);
}

fn reply_id_field(reply: &mut Reply<'_>, name: &str, id: StreamId) {
    reply.bulk_string(name);
    reply_id(reply, id);
}
