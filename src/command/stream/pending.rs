//! What is pending in a group: XPENDING looks at it, XCLAIM and XAUTOCLAIM give it to another consumer.

use super::read::{parse_end, parse_start};
use super::{
    CONSUMER, COUNT, DELETE, END, FAST_WRITE, GROUP, GroupEffects, IDS, KEY, NONDETERMINISTIC, READ, START, UPDATE,
    no_key_or_group, on_stream, parse_id, reply_entry, reply_id,
};
use crate::base::clock::{Ms, UnixMs};
use crate::base::numbers::parse_i64;
use crate::data::stream::{Claim, Claimed, Entries, Group, Pending, Stream, StreamId};
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::integer;
use crate::engine::typed::Edited;
use crate::engine::{Command, Op};
use crate::resp::{Args, Reply, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Flags, KeySpec, arg};

const JUSTID: Argument = Argument::word("justid", "JUSTID").optional();
const MIN_IDLE: Argument = arg("min-idle-time", ArgumentKind::String);

/// What XAUTOCLAIM looks at for each entry that it may claim.
const AUTOCLAIM_ATTEMPTS: usize = 10;

/// What XAUTOCLAIM claims unless it is told otherwise.
const AUTOCLAIM_COUNT: i64 = 100;

/// The most that may be asked of it, as in Redis: its array of IDs fits the address space.
const AUTOCLAIM_COUNT_MAX: i64 = i64::MAX / 16;

/// A call of XPENDING that asks for entries.
struct Wanted<'a> {
    idle_min: Ms,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Wanted<'a> {
    /// None: a summary is asked for.
    fn parse(args: Args<'a>) -> Result<Option<Wanted<'a>>, ReplyError> {
        if args.len() == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&args.len()) {
            return Err(error::SYNTAX);
        }
        let (mut at, mut idle_min) = (3, Ms::ZERO);
        if args.at(3).eq_ignore_ascii_case(b"IDLE") {
            idle_min = Ms(integer(args.at(4))?.max(0) as u64);
            if args.len() < 8 {
                return Err(error::SYNTAX);
            }
            at = 5;
        }
        let count = integer(args.at(at + 2))?;
        Ok(Some(Wanted {
            idle_min,
            start: parse_start(args.at(at))?,
            end: parse_end(args.at(at + 1))?,
            count: usize::try_from(count).unwrap_or(0),
            consumer: args.get(at + 3),
        }))
    }
}

pub(super) const XPENDING: Command = Command {
    summary: "Answers what is pending in a consumer group.",
    complexity: "O(N), N being the number of entries answered, or looked at with IDLE; the summary is O(M) for M consumers.",
    arity: -3,
    flags: Flags::READONLY,
    tips: NONDETERMINISTIC,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        KEY,
        GROUP,
        arg(
            "filters",
            ArgumentKind::Block(&[
                arg("min-idle-time", ArgumentKind::Integer)
                    .token("IDLE")
                    .optional()
                    .since("6.2.0"),
                START,
                END,
                arg("count", ArgumentKind::Integer),
                CONSUMER.optional(),
            ]),
        )
        .optional(),
    ],
    history: &[("6.2.0", "The option `IDLE` and exclusive ranges were added.")],
    ..on_stream("xpending", xpending)
};

fn xpending(op: &mut Op) -> Result<(), ReplyError> {
    let wanted = Wanted::parse(op.args)?;
    let now = op.env.now;
    let missing = no_key_or_group(op);
    let group = op
        .keys
        .read_stream(op.args.at(1))?
        .and_then(|stream| stream.groups.get(op.args.at(2)))
        .ok_or(missing)?;
    match wanted {
        None => reply_summary(&mut op.reply, group),
        Some(wanted) => reply_wanted(&mut op.reply, group, &wanted, now),
    }
    Ok(())
}

fn reply_summary(reply: &mut Reply<'_>, group: &Group) {
    reply.array(4);
    reply.integer(group.pending_count() as i64);
    let Some((first, last)) = group.pending_ends() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply_id(reply, first);
    reply_id(reply, last);
    let mark = reply.deferred();
    let mut count = 0;
    for consumer in group.consumers().filter(|consumer| consumer.pending_count() > 0) {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_integer(consumer.pending_count() as i64);
        count += 1;
    }
    reply.end_array(mark, count);
}

fn reply_wanted(reply: &mut Reply<'_>, group: &Group, wanted: &Wanted, now: UnixMs) {
    let mark = reply.deferred();
    let mut count = 0;
    let mut answer = |pending: &Pending| {
        reply.array(4);
        reply_id(reply, pending.id);
        reply.bulk(group.owner(pending).name());
        reply.integer(pending.idle(now).0 as i64);
        reply.integer(pending.delivery_count as i64);
        count += 1;
    };
    let is_wanted = |pending: &&Pending| pending.idle(now) >= wanted.idle_min;
    if let Some(name) = wanted.consumer {
        let ids = group.consumer(name).map(|consumer| consumer.pending_from(wanted.start));
        ids.into_iter()
            .flatten()
            .take_while(|id| *id <= wanted.end)
            .filter_map(|id| group.pending(id))
            .filter(is_wanted)
            .take(wanted.count)
            .for_each(&mut answer);
    } else {
        group
            .pending_from(wanted.start)
            .take_while(|pending| pending.id <= wanted.end)
            .filter(is_wanted)
            .take(wanted.count)
            .for_each(&mut answer);
    }
    reply.end_array(mark, count);
}

/// A call of XCLAIM, understood.
struct Claiming {
    ids: Vec<StreamId>,
    claim: Claim,
    only_ids: bool,
    /// `LASTID`: the group has read so far at least.
    last_id: StreamId,
}

/// The shortest idle time of what is claimed.
fn parse_idle_min(text: &[u8], command: &str) -> Result<Ms, ReplyError> {
    let idle = parse_i64(text).ok_or_else(|| error::invalid_argument_for("min-idle-time", command))?;
    Ok(Ms(idle.max(0) as u64))
}

impl Claiming {
    fn parse(args: Args, now: UnixMs) -> Result<Claiming, ReplyError> {
        let mut claim = Claim {
            idle_min: parse_idle_min(args.at(4), "XCLAIM")?,
            delivered_at: now,
            delivery_count: None,
            counts: true,
            force: false,
            now,
        };
        // What is no ID is an option.
        let ids: Vec<StreamId> = args
            .slice_from(5)
            .iter()
            .map_while(|text| parse_id(text).ok())
            .collect();
        let mut options = args.slice_from(5 + ids.len()).iter();
        let (mut only_ids, mut last_id) = (false, StreamId::MIN);
        while let Some(word) = options.next() {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            let mut value = || options.next().ok_or_else(|| error::unrecognized_xclaim_option(word));
            let number = |text: &[u8], name| parse_i64(text).ok_or_else(|| error::invalid_argument_for(name, "XCLAIM"));
            if is(b"FORCE") {
                claim.force = true;
            } else if is(b"JUSTID") {
                only_ids = true;
            } else if is(b"IDLE") {
                let idle = number(value()?, "IDLE option")?;
                claim.delivered_at = past(now.signed().wrapping_sub(idle), now);
            } else if is(b"TIME") {
                claim.delivered_at = past(number(value()?, "TIME option")?, now);
            } else if is(b"RETRYCOUNT") {
                let count = number(value()?, "RETRYCOUNT option")?;
                claim.delivery_count = u64::try_from(count).ok();
            } else if is(b"LASTID") {
                last_id = parse_id(value()?)?;
            } else {
                return Err(error::unrecognized_xclaim_option(word));
            }
        }
        claim.counts = !only_ids;
        Ok(Claiming {
            ids,
            claim,
            only_ids,
            last_id,
        })
    }
}

/// A time of delivery as it was given; what lies in the future, or before 1970, is now.
fn past(given: i64, now: UnixMs) -> UnixMs {
    u64::try_from(given).map_or(now, UnixMs).min(now)
}

/// NOGROUP unless key and group are there: that is told before anything about the other arguments.
fn check_group(op: &mut Op) -> Result<(), ReplyError> {
    let missing = no_key_or_group(op);
    let stream = op.keys.read_stream(op.args.at(1))?;
    stream
        .and_then(|stream| stream.groups.get(op.args.at(2)))
        .map(|_| ())
        .ok_or(missing)
}

/// Answers what was claimed: an entry, or only its ID.
fn reply_claimed(reply: &mut Reply<'_>, entries: &Entries, id: StreamId, only_id: bool) {
    match entries.get(id) {
        Some(entry) if !only_id => reply_entry(reply, entry),
        _ => reply_id(reply, id),
    }
}

pub(super) const XCLAIM: Command = Command {
    summary: "Gives a consumer certain entries that are pending for others.",
    complexity: "O(log N) for each ID, N being the number of entries pending in the group.",
    arity: -6,
    flags: FAST_WRITE,
    tips: NONDETERMINISTIC,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: &[
        KEY,
        GROUP,
        CONSUMER,
        MIN_IDLE,
        IDS,
        arg("ms", ArgumentKind::Integer).token("IDLE").optional(),
        arg("unix-time-milliseconds", ArgumentKind::UnixTime)
            .token("TIME")
            .optional(),
        arg("count", ArgumentKind::Integer).token("RETRYCOUNT").optional(),
        Argument::word("force", "FORCE").optional(),
        JUSTID,
        arg("lastid", ArgumentKind::String).token("LASTID").optional(),
    ],
    ..on_stream("xclaim", xclaim)
};

fn xclaim(op: &mut Op) -> Result<(), ReplyError> {
    check_group(op)?;
    let claiming = Claiming::parse(op.args, op.env.now)?;
    let (key, name, consumer) = (op.args.at(1), op.args.at(2), op.args.at(3));
    let mut effects = GroupEffects::new(op.is_logged());
    let reply = &mut op.reply;
    op.keys.edit_stream(key, |stream| {
        let Stream { entries, groups } = stream;
        let Some(group) = groups.get_mut(name) else {
            return Edited::Same(());
        };
        let has_moved = claiming.last_id > group.last_delivered_id;
        group.last_delivered_id = group.last_delivered_id.max(claiming.last_id);
        let number = effects.consumer(group, consumer, claiming.claim.now);
        let mark = reply.deferred();
        let mut count = 0;
        for id in &claiming.ids {
            match group.claim(*id, number, &claiming.claim, entries) {
                Claimed::Yes(pending) => {
                    reply_claimed(reply, entries, *id, claiming.only_ids);
                    count += 1;
                    effects.deliver(group, pending);
                }
                Claimed::Gone(pending) => effects.deliver(group, pending),
                Claimed::No => {}
            }
        }
        reply.end_array(mark, count);
        if has_moved && effects.delivered_count == 0 {
            effects.moved(group);
        }
        Edited::Same(())
    })?;
    effects.log(op, key, name, consumer);
    Ok(())
}

pub(super) const XAUTOCLAIM: Command = Command {
    summary: "Gives a consumer what has been pending for others for long.",
    since: "6.2.0",
    complexity: "O(1) if COUNT is small.",
    arity: -6,
    flags: FAST_WRITE,
    tips: NONDETERMINISTIC,
    keys: &[KeySpec::one(1, DELETE)],
    arguments: &[KEY, GROUP, CONSUMER, MIN_IDLE, START, COUNT, JUSTID],
    history: &[(
        "7.0.0",
        "A third element of the answer names entries that were pending but no longer in the stream.",
    )],
    ..on_stream("xautoclaim", xautoclaim)
};

fn xautoclaim(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    let now = op.env.now;
    let idle_min = parse_idle_min(args.at(4), "XAUTOCLAIM")?;
    let start = parse_start(args.at(5))?;
    let (mut count, mut only_ids) = (AUTOCLAIM_COUNT, false);
    let mut options = Options::behind(args, 6);
    while !options.is_empty() {
        if options.flag(b"JUSTID") {
            only_ids = true;
        } else if options.flag(b"COUNT") {
            let given = parse_i64(options.word()?).filter(|count| (1..=AUTOCLAIM_COUNT_MAX).contains(count));
            count = given.ok_or(error::GEO_COUNT_NOT_POSITIVE)?;
        } else {
            return Err(error::SYNTAX);
        }
    }
    check_group(op)?;
    let claim = Claim {
        idle_min,
        delivered_at: now,
        delivery_count: None,
        counts: !only_ids,
        force: false,
        now,
    };
    let (key, name, consumer) = (args.at(1), args.at(2), args.at(3));
    let mut effects = GroupEffects::new(op.is_logged());
    let reply = &mut op.reply;
    op.keys.edit_stream(key, |stream| {
        let Stream { entries, groups } = stream;
        let Some(group) = groups.get_mut(name) else {
            return Edited::Same(());
        };
        let number = effects.consumer(group, consumer, now);
        let mut left = count as usize;
        let mut attempts = left.saturating_mul(AUTOCLAIM_ATTEMPTS);
        let (mut claimed, mut gone) = (Vec::new(), Vec::new());
        let mut next = Some(start);
        while let Some(from) = next
            && attempts > 0
            && left > 0
        {
            let Some(id) = group.pending_from(from).next().map(|pending| pending.id) else {
                next = None;
                break;
            };
            match group.claim(id, number, &claim, entries) {
                Claimed::Yes(pending) => {
                    claimed.push(id);
                    effects.deliver(group, pending);
                    left -= 1;
                }
                Claimed::Gone(pending) => {
                    gone.push(id);
                    effects.deliver(group, pending);
                    left -= 1;
                }
                Claimed::No => {}
            }
            attempts -= 1;
            next = id.next();
        }
        let next = next.and_then(|from| group.pending_from(from).next().map(|pending| pending.id));
        reply.array(3);
        reply_id(reply, next.unwrap_or(StreamId::MIN));
        reply.array(claimed.len());
        for id in claimed {
            reply_claimed(reply, entries, id, only_ids);
        }
        reply.array(gone.len());
        for id in gone {
            reply_id(reply, id);
        }
        Edited::Same(())
    })?;
    effects.log(op, key, name, consumer);
    Ok(())
}
