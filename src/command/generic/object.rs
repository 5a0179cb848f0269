//! OBJECT: how a value is kept, and how it is used. Asking is not using: no access clock moves.

use crate::data::access::{AccessPolicy, frequency, idle_s};
use crate::engine::help::reply_help;
use crate::engine::{Command, Op, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, Categories, Flags, Group, KeyFlags, KeySpec, command};
use crate::store::{Access, EntryRef, ValueRef};

const KEY: &[KeySpec] = &[KeySpec::one(2, KeyFlags::RO)];
const ARGUMENTS: &[Argument] = &[Argument::key("key", 0)];

/// What is asked about one key.
const fn asking(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        group: Group::Generic,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::READONLY,
        categories: Categories::KEYSPACE,
        tips: &["nondeterministic_output"],
        keys: KEY,
        arguments: ARGUMENTS,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const OBJECT: Command = Command {
    summary: "Holds the commands that ask how a value is kept.",
    since: "2.2.3",
    group: Group::Generic,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        OBJECT_ENCODING,
        OBJECT_FREQ,
        OBJECT_HELP,
        OBJECT_IDLETIME,
        OBJECT_REFCOUNT,
    ],
    ..command("object", Run::Container)
};

const OBJECT_ENCODING: Command = Command {
    summary: "Names the encoding of the value that a key holds.",
    since: "2.2.3",
    ..asking("encoding", encoding)
};

fn encoding(op: &mut Op) -> Result<(), ReplyError> {
    let name = subject(op)?.map(|entry| entry.encoding().name());
    match name {
        Some(name) => op.reply.bulk_string(name),
        None => op.reply.null(),
    }
    Ok(())
}

const OBJECT_FREQ: Command = Command {
    summary: "Answers the logarithmic counter of accesses to a key.",
    since: "4.0.0",
    ..asking("freq", freq)
};

fn freq(op: &mut Op) -> Result<(), ReplyError> {
    let moment = op.keys.moment;
    let Some(clock) = subject(op)?.map(EntryRef::access_clock) else {
        op.reply.null();
        return Ok(());
    };
    let AccessPolicy::Lfu { decay_minutes, .. } = moment.policy else {
        return Err(error::OBJECT_FREQ_NOT_LFU);
    };
    op.reply.integer(i64::from(frequency(clock, moment.now, decay_minutes)));
    Ok(())
}

const OBJECT_HELP: Command = Command {
    summary: "Describes the subcommands.",
    since: "6.2.0",
    group: Group::Generic,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::LOADING.union(Flags::STALE),
    categories: Categories::KEYSPACE,
    ..command("help", Run::Session(help))
};

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "OBJECT", HELP);
    Ok(())
}

const OBJECT_IDLETIME: Command = Command {
    summary: "Answers for how many seconds a key has not been accessed.",
    since: "2.2.3",
    ..asking("idletime", idletime)
};

fn idletime(op: &mut Op) -> Result<(), ReplyError> {
    let moment = op.keys.moment;
    let Some(clock) = subject(op)?.map(EntryRef::access_clock) else {
        op.reply.null();
        return Ok(());
    };
    if matches!(moment.policy, AccessPolicy::Lfu { .. }) {
        return Err(error::OBJECT_IDLETIME_LFU);
    }
    op.reply.integer(idle_s(clock, moment.now) as i64);
    Ok(())
}

const OBJECT_REFCOUNT: Command = Command {
    summary: "Answers how many references there are to the value of a key.",
    since: "2.2.3",
    ..asking("refcount", refcount)
};

fn refcount(op: &mut Op) -> Result<(), ReplyError> {
    // A policy that needs an access clock for each value cannot share them; without a limit no policy is at work.
    let shares = op.env.settings.maxmemory == 0 || !evicts_by_clock(op);
    let shared =
        subject(op)?.map(|entry| matches!(entry.value(), ValueRef::Int(number) if SHARED_INTEGERS.contains(&number)));
    match shared {
        Some(true) if shares => op.reply.integer(i64::from(i32::MAX)),
        Some(_) => op.reply.integer(1),
        None => op.reply.null(),
    }
    Ok(())
}

const HELP: &[(&str, &[&str])] = &[
    (
        "ENCODING <key>",
        &["Name the representation in which the value of <key> is kept."],
    ),
    (
        "FREQ <key>",
        &[
            "Return the access counter of <key>, which grows with the logarithm of its",
            "recent use. Needs an LFU maxmemory policy.",
        ],
    ),
    (
        "IDLETIME <key>",
        &["Return for how many seconds <key> has not been used, approximately."],
    ),
    (
        "REFCOUNT <key>",
        &["Return the number of references to the value of <key>."],
    ),
];

/// Redis shares the objects of the integers below this, and shows the largest `int` as their count of references.
const SHARED_INTEGERS: std::ops::Range<i64> = 0..10_000;

/// The entry that the call is about.
fn subject<'o>(op: &'o mut Op) -> Result<Option<EntryRef<'o>>, ReplyError> {
    let key = op.args.at(2);
    if !op.keys.exists(key)? {
        // A miss, but no event.
        op.keys.misses += 1;
        return Ok(None);
    }
    op.keys.access = Access::Peek;
    op.keys.read(key)
}

fn evicts_by_clock(op: &Op) -> bool {
    use crate::config::MaxmemoryPolicy as Policy;
    matches!(
        op.env.settings.maxmemory_policy,
        Policy::AllkeysLru | Policy::VolatileLru | Policy::AllkeysLfu | Policy::VolatileLfu
    )
}
