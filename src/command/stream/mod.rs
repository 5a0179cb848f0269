//! The stream family: adding and dropping entries ([`write`]), reading them ([`read`]), consumer groups ([`group`]), what is pending in
//! them ([`pending`]), and what XINFO tells ([`info`]).
//!
//! How a stream is kept is `data::stream`'s matter. What is kept here is what clients and replicas can see: the order in which
//! arguments and keys are looked at (errors make it visible), and what a write is logged as when that is not the command itself.
//!
//! | command | its effect |
//! |---|---|
//! | XADD with `*` or `ms-*` | the same with the ID that was given |
//! | XADD, XTRIM with `~` | the same with `=` and the length or first ID that came out |
//! | XREADGROUP with `>` | for each entry, unless `NOACK`: the XCLAIM below; then `XGROUP SETID key group last-id ENTRIESREAD n` |
//! | XREADGROUP with an ID | nothing: how often a consumer looks at its history is its own affair, as in Redis |
//! | XCLAIM, XAUTOCLAIM | for each entry `XCLAIM key group consumer 0 id TIME ms RETRYCOUNT n FORCE JUSTID LASTID id`; it also drops what is no longer in the stream |
//! | any of the three, for a new consumer that got nothing | `XGROUP CREATECONSUMER key group consumer` |
//!
//! What changes only a group is no change of the key for clients that watch it.

mod group;
mod info;
mod pending;
mod read;
#[cfg(test)]
mod tests;
mod write;

use crate::data::stream::{ConsumerNumber, Entry, Group, Pending, StreamId};
use crate::engine::stored::reply_item;
use crate::engine::{Command, Event, Op, Run, SessionOp};
use crate::resp::{Reply, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, KeyFlags, arg, command};

pub const COMMANDS: &[Command] = &[
    group::XACK,
    write::XADD,
    pending::XAUTOCLAIM,
    pending::XCLAIM,
    write::XDEL,
    group::XGROUP,
    info::XINFO,
    read::XLEN,
    pending::XPENDING,
    read::XRANGE,
    read::XREAD,
    read::XREADGROUP,
    read::XREVRANGE,
    write::XSETID,
    write::XTRIM,
];

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const UPDATE: KeyFlags = KeyFlags::RW.union(KeyFlags::UPDATE);
const DELETE: KeyFlags = KeyFlags::RW.union(KeyFlags::DELETE);
const FAST_WRITE: Flags = Flags::WRITE.union(Flags::FAST);
const NONDETERMINISTIC: &[&str] = &["nondeterministic_output"];
const KEY: Argument = Argument::key("key", 0);
const GROUP: Argument = arg("group", ArgumentKind::String);
const CONSUMER: Argument = arg("consumer", ArgumentKind::String);
const IDS: Argument = arg("id", ArgumentKind::String).multiple();
const START: Argument = arg("start", ArgumentKind::String);
const END: Argument = arg("end", ArgumentKind::String);
const COUNT: Argument = arg("count", ArgumentKind::Integer).token("COUNT").optional();

/// A command of the family over one key, with what is the same for most of them.
const fn on_stream(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "5.0.0",
        group: crate::spec::Group::Stream,
        complexity: "O(1)",
        categories: Categories::STREAM,
        ..command(name, Run::Keys(run))
    }
}

/// A container of such commands.
const fn container(name: &'static str) -> Command {
    Command {
        since: "5.0.0",
        group: crate::spec::Group::Stream,
        complexity: "Depends on subcommand.",
        arity: -2,
        ..command(name, Run::Container)
    }
}

const fn help_of(run: fn(&mut SessionOp) -> Result<(), ReplyError>) -> Command {
    crate::engine::help::help_command(crate::spec::Group::Stream, Categories::STREAM, "5.0.0", run)
}

/// An ID where a command takes nothing but an ID; `ms` alone is `ms-0`.
fn parse_id(text: &[u8]) -> Result<StreamId, ReplyError> {
    StreamId::parse(text, 0).ok_or(error::STREAM_ID_INVALID)
}

/// The group, or NOGROUP as XCLAIM, XAUTOCLAIM and XPENDING say it.
fn no_key_or_group(op: &Op) -> ReplyError {
    error::no_key_or_group(op.args.at(1), op.args.at(2))
}

fn reply_id(reply: &mut Reply<'_>, id: StreamId) {
    reply.bulk(&id.text());
}

/// An entry: its ID and its fields.
fn reply_entry(reply: &mut Reply<'_>, entry: Entry<'_>) {
    reply.array(2);
    reply_id(reply, entry.id);
    reply.array(2 * entry.field_count());
    for (name, value) in entry.fields() {
        reply_item(reply, name);
        reply_item(reply, value);
    }
}

/// Entries, as an array.
fn reply_entries<'e>(reply: &mut Reply<'_>, entries: impl Iterator<Item = Entry<'e>>) {
    let mark = reply.deferred();
    let mut count = 0;
    for entry in entries {
        reply_entry(reply, entry);
        count += 1;
    }
    reply.end_array(mark, count);
}

/// What was pending for whom, to be logged as XCLAIM.
struct Delivered {
    consumer: Box<[u8]>,
    pending: Pending,
    last_id: StreamId,
}

impl Delivered {
    fn of(group: &Group, pending: Pending) -> Delivered {
        Delivered {
            consumer: group.owner(&pending).name().into(),
            pending,
            last_id: group.last_delivered_id,
        }
    }
}

/// What a command did to a group, as far as it is logged.
#[derive(Default)]
struct GroupEffects {
    /// Nobody reads logs: nothing is remembered but that there was something.
    is_wanted: bool,
    delivered: Vec<Delivered>,
    delivered_count: u64,
    /// How far the group has read now.
    moved: Option<(StreamId, Option<u64>)>,
    /// The consumer was made for this.
    is_new_consumer: bool,
}

impl GroupEffects {
    fn new(is_wanted: bool) -> GroupEffects {
        GroupEffects {
            is_wanted,
            ..GroupEffects::default()
        }
    }

    /// The consumer of that name, which was seen just now.
    fn consumer(&mut self, group: &mut Group, name: &[u8], now: crate::base::clock::UnixMs) -> ConsumerNumber {
        let (number, is_new) = group.add_consumer(name, now);
        group.numbered_mut(number).seen_at = now;
        self.is_new_consumer = is_new;
        number
    }

    fn deliver(&mut self, group: &Group, pending: Pending) {
        self.delivered_count += 1;
        if self.is_wanted {
            self.delivered.push(Delivered::of(group, pending));
        }
    }

    fn moved(&mut self, group: &Group) {
        self.moved = Some((group.last_delivered_id, group.entries_read));
    }

    /// Logs all of it and tells the events.
    fn log(self, op: &mut Op, key: &[u8], group: &[u8], consumer: &[u8]) {
        let is_alone = self.is_new_consumer && self.delivered_count == 0;
        // Moves within pending lists have no event.
        op.changed(self.delivered_count + u64::from(self.moved.is_some()));
        if self.is_new_consumer {
            op.wrote_times(key, Event::stream("xgroup-createconsumer"), u64::from(is_alone));
        }
        if is_alone {
            let words: [&[u8]; 5] = [b"XGROUP", b"CREATECONSUMER", key, group, consumer];
            op.instead(&words);
        }
        let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
        for Delivered {
            consumer,
            pending,
            last_id,
        } in &self.delivered
        {
            let words: [&[u8]; 14] = [
                b"XCLAIM",
                key,
                group,
                consumer,
                b"0",
                &pending.id.text(),
                b"TIME",
                time.format(pending.delivered_at.0).as_bytes(),
                b"RETRYCOUNT",
                count.format(pending.delivery_count).as_bytes(),
                b"FORCE",
                b"JUSTID",
                b"LASTID",
                &last_id.text(),
            ];
            op.instead(&words);
        }
        if let Some((last_id, read)) = self.moved {
            let read = read.map_or(-1, |read| read as i64);
            let words: [&[u8]; 7] = [
                b"XGROUP",
                b"SETID",
                key,
                group,
                &last_id.text(),
                b"ENTRIESREAD",
                count.format(read).as_bytes(),
            ];
            op.instead(&words);
        }
    }
}
