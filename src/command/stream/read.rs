//! Reading: XLEN, XRANGE, XREVRANGE; and XREAD and XREADGROUP, which read several streams and are one command with two names.
//!
//! XREAD looks at all its keys and IDs before it answers anything: an error in the last one is the answer to all. What it
//! then answers has a place for each stream that has something to say; if none has, the whole answer is nil.

use super::{
    CONSUMER, COUNT, END, GROUP, GroupEffects, KEY, READ, START, on_stream, parse_id, reply_entries, reply_entry,
    reply_id,
};
use crate::base::clock::UnixMs;
use crate::data::ValueType;
use crate::data::stream::{BoundError, Group, Stream, StreamId};
use crate::engine::arguments::Options;
use crate::engine::arguments::timeout::deadline_ms;
use crate::engine::typed::Edited;
use crate::engine::{Command, Op, Park};
use crate::resp::{Args, OwnedArgs, Reply, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Begin, Find, Flags, KeyFlags, KeySpec, arg};

const BLOCK: Argument = arg("milliseconds", ArgumentKind::Integer).token("BLOCK").optional();

const STREAMS: Argument = arg(
    "streams",
    ArgumentKind::Block(&[
        KEY.multiple(),
        arg("id", ArgumentKind::String).shown_as("id").multiple(),
    ]),
)
.token("STREAMS");

/// Keys behind the word STREAMS, each with an ID behind all of them.
const fn keys_of_streams(from: i32) -> KeySpec {
    KeySpec {
        flags: READ,
        begin: Begin::Keyword {
            keyword: "STREAMS",
            from,
        },
        find: Find::Range {
            last: -1,
            step: 1,
            limit: 2,
        },
        notes: "",
    }
}

const RANGE_HISTORY: &[(&str, &str)] = &[("6.2.0", "Exclusive ranges were added.")];
const RANGE_COMPLEXITY: &str = "O(N), N being the number of entries answered; O(1) for a constant COUNT.";

pub(super) const XLEN: Command = Command {
    summary: "Answers how many entries a stream has.",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: &[KEY],
    ..on_stream("xlen", xlen)
};

fn xlen(op: &mut Op) -> Result<(), ReplyError> {
    let len = op.keys.read_stream(op.args.at(1))?.map_or(0, Stream::len);
    op.reply.integer(len as i64);
    Ok(())
}

pub(super) const XRANGE: Command = Command {
    summary: "Answers the entries whose IDs lie in a range.",
    complexity: RANGE_COMPLEXITY,
    arity: -4,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[KEY, START, END, COUNT],
    history: RANGE_HISTORY,
    ..on_stream("xrange", xrange)
};

fn xrange(op: &mut Op) -> Result<(), ReplyError> {
    range(op, 2, 3, false)
}

pub(super) const XREVRANGE: Command = Command {
    summary: "Answers the entries whose IDs lie in a range, the greatest first.",
    complexity: RANGE_COMPLEXITY,
    arity: -4,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[KEY, END, START, COUNT],
    history: RANGE_HISTORY,
    ..on_stream("xrevrange", xrevrange)
};

fn xrevrange(op: &mut Op) -> Result<(), ReplyError> {
    range(op, 3, 2, true)
}

fn range(op: &mut Op, start_at: usize, end_at: usize, is_reverse: bool) -> Result<(), ReplyError> {
    let start = parse_start(op.args.at(start_at))?;
    let end = parse_end(op.args.at(end_at))?;
    let mut count = None;
    let mut options = Options::behind(op.args, 4);
    while !options.is_empty() {
        if !options.flag(b"COUNT") {
            return Err(error::SYNTAX);
        }
        count = Some(usize::try_from(options.integer()?).unwrap_or(0));
    }
    let Some(stream) = op.keys.read_stream(op.args.at(1))? else {
        op.reply.array(0);
        return Ok(());
    };
    match count {
        Some(0) => op.reply.null_array(),
        count => {
            let count = count.unwrap_or(usize::MAX);
            if is_reverse {
                reply_entries(&mut op.reply, stream.entries.range_rev(end, start).take(count));
            } else {
                reply_entries(&mut op.reply, stream.entries.range(start, end).take(count));
            }
        }
    }
    Ok(())
}

/// The first ID of a range.
pub(super) fn parse_start(text: &[u8]) -> Result<StreamId, ReplyError> {
    StreamId::parse_start(text).map_err(|why| match why {
        BoundError::Syntax => error::STREAM_ID_INVALID,
        BoundError::Empty => error::STREAM_RANGE_START_INVALID,
    })
}

/// The last ID of a range.
pub(super) fn parse_end(text: &[u8]) -> Result<StreamId, ReplyError> {
    StreamId::parse_end(text).map_err(|why| match why {
        BoundError::Syntax => error::STREAM_ID_INVALID,
        BoundError::Empty => error::STREAM_RANGE_END_INVALID,
    })
}

/// From where a stream is read.
#[derive(Clone, Copy)]
enum From {
    /// Behind this ID: XREAD's entries, XREADGROUP's history of the consumer.
    After(StreamId),
    /// `>`: what no consumer of the group has been given yet.
    Undelivered,
}

/// A call of XREAD or XREADGROUP, understood.
struct Reading<'a> {
    count: usize,
    /// `GROUP`: the group and the consumer.
    group: Option<(&'a [u8], &'a [u8])>,
    /// `NOACK`
    leaves_nothing_pending: bool,
    /// `BLOCK`: it waits, until then if that is said.
    waits_until: Option<Option<UnixMs>>,
    keys: Args<'a>,
    ids: Args<'a>,
}

impl<'a> Reading<'a> {
    fn parse(args: Args<'a>, is_group: bool, now: UnixMs) -> Result<Reading<'a>, ReplyError> {
        let mut reading = Reading {
            count: usize::MAX,
            group: None,
            leaves_nothing_pending: false,
            waits_until: None,
            keys: args,
            ids: args,
        };
        let mut options = Options::behind(args, 1);
        let streams = loop {
            if options.flag(b"BLOCK") {
                reading.waits_until = Some(deadline_ms(options.word()?, now)?);
            } else if options.flag(b"COUNT") {
                // None, and fewer than none, is no limit.
                let count = usize::try_from(options.integer()?).unwrap_or(0);
                reading.count = if count == 0 { usize::MAX } else { count };
            } else if options.flag(b"STREAMS") {
                break options.rest();
            } else if options.flag(b"GROUP") {
                let names = (options.word()?, options.word()?);
                if !is_group {
                    return Err(error::STREAM_GROUP_IN_XREAD);
                }
                reading.group = Some(names);
            } else if options.flag(b"NOACK") {
                if !is_group {
                    return Err(error::STREAM_NOACK_IN_XREAD);
                }
                reading.leaves_nothing_pending = true;
            } else {
                return Err(error::SYNTAX);
            }
        };
        match streams.len() {
            0 => return Err(error::SYNTAX),
            count if count.is_multiple_of(2) => {}
            _ if is_group => return Err(error::unbalanced_streams("xreadgroup", ">")),
            _ => return Err(error::unbalanced_streams("xread", "$")),
        }
        if is_group && reading.group.is_none() {
            return Err(error::STREAM_XREADGROUP_NO_GROUP);
        }
        let count = streams.len() / 2;
        reading.keys = streams.range(0, count);
        reading.ids = streams.slice_from(count);
        Ok(reading)
    }
}

pub(super) const XREAD: Command = Command {
    summary: "Answers the entries of streams behind given IDs; waits for some if asked to.",
    complexity: "O(N) for each stream, N being the number of entries answered.",
    arity: -4,
    flags: Flags::READONLY.union(Flags::BLOCKING),
    keys: &[keys_of_streams(1)],
    arguments: &[COUNT, BLOCK, STREAMS],
    ..on_stream("xread", xread)
};

fn xread(op: &mut Op) -> Result<(), ReplyError> {
    let reading = Reading::parse(op.args, false, op.env.now)?;
    read(op, &reading)
}

pub(super) const XREADGROUP: Command = Command {
    summary: "Gives a consumer of a group new entries of streams, or those that are pending for it; waits for new ones if asked to.",
    complexity: "O(M) for each stream, M being the number of entries answered.",
    arity: -7,
    flags: Flags::WRITE.union(Flags::BLOCKING),
    keys: &[keys_of_streams(4)],
    arguments: &[
        arg("group-block", ArgumentKind::Block(&[GROUP, CONSUMER])).token("GROUP"),
        COUNT,
        BLOCK,
        Argument::word("noack", "NOACK").optional(),
        STREAMS,
    ],
    ..on_stream("xreadgroup", xreadgroup)
};

fn xreadgroup(op: &mut Op) -> Result<(), ReplyError> {
    let reading = Reading::parse(op.args, true, op.env.now)?;
    read(op, &reading)
}

fn read(op: &mut Op, reading: &Reading) -> Result<(), ReplyError> {
    let mut froms = Vec::with_capacity(reading.keys.len());
    for (key, id) in reading.keys.iter().zip(reading.ids.iter()) {
        if op.is_within_reach(key) {
            froms.push((key, begin(op, reading, key, id)?));
        }
    }
    let mark = op.reply.deferred();
    let mut count = 0;
    for &(key, from) in &froms {
        let has_answered = match (reading.group, from) {
            (Some((group, consumer)), from) => read_group(op, reading, key, group, consumer, from)?,
            (None, From::After(id)) => read_stream(op, key, id, reading.count)?,
            (None, From::Undelivered) => false,
        };
        count += usize::from(has_answered);
    }
    if count == 0 {
        match reading.waits_until {
            Some(deadline) if op.may_wait() => return wait(op, reading, deadline, &froms),
            _ => op.reply.null_array(),
        }
    } else if op.reply.is_resp3() {
        op.reply.end_map(mark, count);
    } else {
        op.reply.end_array(mark, count);
    }
    Ok(())
}

/// Waits for entries. Who reads on from the end of a stream means the end that it has now. A group goes with its stream, which who waits
/// for it is to know.
fn wait(op: &mut Op, reading: &Reading, deadline: Option<UnixMs>, froms: &[(&[u8], From)]) -> Result<(), ReplyError> {
    let mut instead = None;
    if reading.ids.iter().any(|id| id == b"$") {
        let mut words: Vec<Vec<u8>> = op.args.iter().map(<[u8]>::to_vec).collect();
        let first = words.len() - reading.ids.len();
        for (word, (_, from)) in words[first..].iter_mut().zip(froms) {
            if let (b"$", From::After(id)) = (word.as_slice(), from) {
                *word = id.to_string().into_bytes();
            }
        }
        instead = Some(OwnedArgs::from_slices(&words));
    }
    op.wait(Park {
        minds_absence: reading.group.is_some(),
        instead,
        ..Park::until(ValueType::Stream, reading.keys.iter(), deadline)
    })
}

/// From where the stream at `key` is read, if that can be done at all.
fn begin(op: &mut Op, reading: &Reading, key: &[u8], id: &[u8]) -> Result<From, ReplyError> {
    let stream = op.keys.read_stream(key)?;
    if let Some((group, _)) = reading.group
        && stream.is_none_or(|stream| stream.groups.get(group).is_none())
    {
        return Err(error::no_group_to_read(key, group));
    }
    match (id, reading.group.is_some()) {
        (b"$", true) => Err(error::STREAM_DOLLAR_IN_XREADGROUP),
        (b"$", false) => Ok(From::After(
            stream.map_or(StreamId::MIN, |stream| stream.entries.last_id()),
        )),
        (b">", true) => Ok(From::Undelivered),
        (b">", false) => Err(error::STREAM_GT_IN_XREAD),
        (id, _) => parse_id(id).map(From::After),
    }
}

/// What stands before the entries of one stream.
fn reply_key(reply: &mut Reply<'_>, key: &[u8]) {
    if !reply.is_resp3() {
        reply.array(2);
    }
    reply.bulk(key);
}

/// Answers the entries behind an ID; false if there are none.
fn read_stream(op: &mut Op, key: &[u8], after: StreamId, count: usize) -> Result<bool, ReplyError> {
    let (Some(stream), Some(start)) = (op.keys.read_stream(key)?, after.next()) else {
        return Ok(false);
    };
    let mut entries = stream.entries.range(start, StreamId::MAX).take(count).peekable();
    if entries.peek().is_none() {
        return Ok(false);
    }
    reply_key(&mut op.reply, key);
    reply_entries(&mut op.reply, entries);
    Ok(true)
}

/// Answers what a consumer asks of its group; false if it asked for what is new, and nothing is.
fn read_group(
    op: &mut Op,
    reading: &Reading,
    key: &[u8],
    group_name: &[u8],
    consumer: &[u8],
    from: From,
) -> Result<bool, ReplyError> {
    let now = op.env.now;
    let mut effects = GroupEffects::new(op.is_logged());
    let reply = &mut op.reply;
    let has_answered = op.keys.edit_stream(key, |stream| {
        let Stream { entries, groups } = stream;
        let Some(group) = groups.get_mut(group_name) else {
            return Edited::Same(false);
        };
        let number = effects.consumer(group, consumer, now);
        let start = match from {
            From::After(id) => {
                let ids = history(group, consumer, id, reading.count);
                reply_key(reply, key);
                reply.array(ids.len());
                for id in ids {
                    match entries.get(id) {
                        Some(entry) => {
                            reply_entry(reply, entry);
                            group.deliver_again(id, now);
                        }
                        None => {
                            reply.array(2);
                            reply_id(reply, id);
                            reply.null_array();
                        }
                    }
                }
                return Edited::Same(true);
            }
            From::Undelivered => group.last_delivered_id.next(),
        };
        let range = start.map(|start| entries.range(start, StreamId::MAX).take(reading.count));
        let mut fresh = range.into_iter().flatten().peekable();
        if fresh.peek().is_none() {
            return Edited::Same(false);
        }
        reply_key(reply, key);
        let mark = reply.deferred();
        let mut count = 0;
        for entry in fresh {
            group.advance(entry.id, entries);
            if !reading.leaves_nothing_pending {
                group.deliver(entry.id, number, now);
                let pending = *group.pending(entry.id).expect("it has just been delivered");
                effects.deliver(group, pending);
            }
            reply_entry(reply, entry);
            count += 1;
        }
        reply.end_array(mark, count);
        effects.moved(group);
        Edited::Same(true)
    })?;
    effects.log(op, key, group_name, consumer);
    Ok(has_answered.unwrap_or(false))
}

/// The IDs that are pending for a consumer behind `after`.
fn history(group: &Group, consumer: &[u8], after: StreamId, count: usize) -> Vec<StreamId> {
    match (group.consumer(consumer), after.next()) {
        (Some(consumer), Some(start)) => consumer.pending_from(start).take(count).collect(),
        _ => Vec::new(),
    }
}
