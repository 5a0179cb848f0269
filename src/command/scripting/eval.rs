//! EVAL and its kin: scripts that a client brings, or names; FCALL: functions of a library.

use crate::engine::{Command, Op, Run};
use crate::resp::ReplyError;
use crate::scripting::{Source, call_function, run};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

const WRITING: Flags = Flags::NOSCRIPT
    .union(Flags::SKIP_MONITOR)
    .union(Flags::MAY_REPLICATE)
    .union(Flags::NO_MANDATORY_KEYS)
    .union(Flags::STALE);

const READING: Flags = Flags::NOSCRIPT
    .union(Flags::SKIP_MONITOR)
    .union(Flags::NO_MANDATORY_KEYS)
    .union(Flags::STALE)
    .union(Flags::READONLY);

const ANY_USE: &[KeySpec] = &[KeySpec {
    notes: "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE",
    ..KeySpec::counted(2, KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::UPDATE))
}];

const ANY_READING: &[KeySpec] = &[KeySpec {
    notes: "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS",
    ..KeySpec::counted(2, KeyFlags::RO.union(KeyFlags::ACCESS))
}];

const fn arguments(named: &'static str) -> [Argument; 4] {
    [
        arg(named, ArgumentKind::String),
        arg("numkeys", ArgumentKind::Integer),
        Argument::key("key", 0).optional().multiple(),
        arg("arg", ArgumentKind::String).optional().multiple(),
    ]
}

const TEXT_ARGUMENTS: &[Argument] = &arguments("script");
const DIGEST_ARGUMENTS: &[Argument] = &arguments("sha1");
const FUNCTION_ARGUMENTS: &[Argument] = &arguments("function");

/// What the four have in common.
const fn evaluating(
    name: &'static str,
    since: &'static str,
    arguments: &'static [Argument],
    run: fn(&mut Op) -> Result<(), ReplyError>,
) -> Command {
    Command {
        since,
        group: Group::Scripting,
        complexity: "Depends on the script that is executed.",
        arity: -3,
        flags: WRITING,
        categories: Categories::SCRIPTING,
        keys: ANY_USE,
        arguments,
        ..command(name, Run::Script(run))
    }
}

pub(super) const EVAL: Command = Command {
    summary: "Runs a Lua script.",
    ..evaluating("eval", "2.6.0", TEXT_ARGUMENTS, |op| run(op, Source::Text, false))
};

pub(super) const EVALSHA: Command = Command {
    summary: "Runs a Lua script of the cache, named by its SHA1.",
    ..evaluating("evalsha", "2.6.0", DIGEST_ARGUMENTS, |op| {
        run(op, Source::Digest, false)
    })
};

pub(super) const EVAL_RO: Command = Command {
    summary: "Runs a Lua script that only reads.",
    flags: READING,
    keys: ANY_READING,
    ..evaluating("eval_ro", "7.0.0", TEXT_ARGUMENTS, |op| run(op, Source::Text, true))
};

pub(super) const EVALSHA_RO: Command = Command {
    summary: "Runs a Lua script of the cache that only reads, named by its SHA1.",
    flags: READING,
    keys: ANY_READING,
    ..evaluating("evalsha_ro", "7.0.0", DIGEST_ARGUMENTS, |op| {
        run(op, Source::Digest, true)
    })
};

pub(super) const FCALL: Command = Command {
    summary: "Calls a function of a library.",
    complexity: "Depends on the function that is executed.",
    ..evaluating("fcall", "7.0.0", FUNCTION_ARGUMENTS, |op| call_function(op, false))
};

pub(super) const FCALL_RO: Command = Command {
    summary: "Calls a function of a library that only reads.",
    complexity: "Depends on the function that is executed.",
    flags: READING,
    keys: ANY_READING,
    ..evaluating("fcall_ro", "7.0.0", FUNCTION_ARGUMENTS, |op| call_function(op, true))
};
