//! Reading: XLEN, XRANGE, XREVRANGE; and XREAD and XREADGROUP, which read several streams and are one command with two names.
//!
//! XREAD looks at all its keys and IDs before it answers anything: an error in the last one is the answer to all. What it
//! then answers has a place for each stream that has something to say; if none has, the whole answer is nil.

use super::{GroupEffects, parse_id, parse_integer, reply_entries, reply_entry, reply_id};
use crate::data::stream::{BoundError, Group, Stream, StreamId};
use crate::engine::Op;
use crate::engine::typed::Edited;
use crate::resp::{Args, Reply, ReplyError, error};

pub(super) fn xlen(op: &mut Op) -> Result<(), ReplyError> {
    let len = op.keys.read_stream(op.args.at(1))?.map_or(0, Stream::len);
    op.reply.integer(len as i64);
    Ok(())
}

pub(super) fn xrange(op: &mut Op) -> Result<(), ReplyError> {
    range(op, 2, 3, false)
}

pub(super) fn xrevrange(op: &mut Op) -> Result<(), ReplyError> {
    range(op, 3, 2, true)
}

fn range(op: &mut Op, start_at: usize, end_at: usize, is_reverse: bool) -> Result<(), ReplyError> {
    let start = parse_start(op.args.at(start_at))?;
    let end = parse_end(op.args.at(end_at))?;
    let mut count = None;
    let mut options = op.args.slice_from(4).iter();
    while let Some(word) = options.next() {
        let value = options.next().filter(|_| word.eq_ignore_ascii_case(b"COUNT"));
        let value = parse_integer(value.ok_or(error::SYNTAX)?)?;
        count = Some(usize::try_from(value).unwrap_or(0));
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
    keys: Args<'a>,
    ids: Args<'a>,
}

impl<'a> Reading<'a> {
    fn parse(args: Args<'a>, is_group: bool) -> Result<Reading<'a>, ReplyError> {
        let mut reading = Reading {
            count: usize::MAX,
            group: None,
            leaves_nothing_pending: false,
            keys: args,
            ids: args,
        };
        let mut streams_at = None;
        let mut index = 1;
        while index < args.len() && streams_at.is_none() {
            let word = args.at(index);
            let more = args.len() - 1 - index;
            if word.eq_ignore_ascii_case(b"BLOCK") && more > 0 {
                check_timeout(args.at(index + 1))?;
                index += 1;
            } else if word.eq_ignore_ascii_case(b"COUNT") && more > 0 {
                // None, and fewer than none, is no limit.
                let count = usize::try_from(parse_integer(args.at(index + 1))?).unwrap_or(0);
                reading.count = if count == 0 { usize::MAX } else { count };
                index += 1;
            } else if word.eq_ignore_ascii_case(b"STREAMS") && more > 0 {
                if !more.is_multiple_of(2) {
                    return Err(match is_group {
                        true => error::unbalanced_streams("xreadgroup", ">"),
                        false => error::unbalanced_streams("xread", "$"),
                    });
                }
                streams_at = Some(index + 1);
            } else if word.eq_ignore_ascii_case(b"GROUP") && more >= 2 {
                if !is_group {
                    return Err(error::STREAM_GROUP_IN_XREAD);
                }
                reading.group = Some((args.at(index + 1), args.at(index + 2)));
                index += 2;
            } else if word.eq_ignore_ascii_case(b"NOACK") {
                if !is_group {
                    return Err(error::STREAM_NOACK_IN_XREAD);
                }
                reading.leaves_nothing_pending = true;
            } else {
                return Err(error::SYNTAX);
            }
            index += 1;
        }
        let first = streams_at.ok_or(error::SYNTAX)?;
        if is_group && reading.group.is_none() {
            return Err(error::STREAM_XREADGROUP_NO_GROUP);
        }
        let count = (args.len() - first) / 2;
        reading.keys = args.range(first, first + count);
        reading.ids = args.slice_from(first + count);
        Ok(reading)
    }
}

/// Refuses what is no timeout of BLOCK.
fn check_timeout(text: &[u8]) -> Result<(), ReplyError> {
    match parse_integer(text) {
        Err(_) => Err(error::TIMEOUT_NOT_AN_INTEGER),
        Ok(timeout) if timeout < 0 => Err(error::TIMEOUT_NEGATIVE),
        Ok(_) => Ok(()),
    }
}

pub(super) fn xread(op: &mut Op) -> Result<(), ReplyError> {
    let reading = Reading::parse(op.args, false)?;
    read(op, &reading)
}

pub(super) fn xreadgroup(op: &mut Op) -> Result<(), ReplyError> {
    let reading = Reading::parse(op.args, true)?;
    read(op, &reading)
}

fn read(op: &mut Op, reading: &Reading) -> Result<(), ReplyError> {
    let mut froms = Vec::with_capacity(reading.keys.len());
    for (key, id) in reading.keys.iter().zip(reading.ids.iter()) {
        froms.push(begin(op, reading, key, id)?);
    }
    let mark = op.reply.deferred();
    let mut count = 0;
    for (key, from) in reading.keys.iter().zip(froms) {
        let has_answered = match (reading.group, from) {
            (Some((group, consumer)), from) => read_group(op, reading, key, group, consumer, from)?,
            (None, From::After(id)) => read_stream(op, key, id, reading.count)?,
            (None, From::Undelivered) => false,
        };
        count += usize::from(has_answered);
    }
    if count == 0 {
        // Here a client that said BLOCK begins to wait, unless it may not (MULTI, a script).
        op.reply.null_array();
    } else if op.reply.is_resp3() {
        op.reply.end_map(mark, count);
    } else {
        op.reply.end_array(mark, count);
    }
    Ok(())
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
    let now = op.keys.moment.now;
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
