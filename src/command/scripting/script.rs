//! SCRIPT: the cache of scripts.

use super::{FLUSH_TYPE, check_flush};
use crate::engine::help::{HelpEntry, help_command, reply_help};
use crate::engine::{Command, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::scripting;
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, arg, command};

pub(super) const SCRIPT: Command = Command {
    summary: "Contains the commands about the cache of scripts.",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        SCRIPT_DEBUG,
        SCRIPT_EXISTS,
        SCRIPT_FLUSH,
        help_command(Group::Scripting, Categories::SCRIPTING, "5.0.0", script_help),
        SCRIPT_KILL,
        SCRIPT_LOAD,
    ],
    ..command("script", Run::Container)
};

const SCRIPT_EXISTS: Command = Command {
    summary: "Answers which scripts are in the cache.",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: "O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).",
    arity: -3,
    flags: Flags::NOSCRIPT,
    categories: Categories::SCRIPTING,
    tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
    arguments: &[arg("sha1", ArgumentKind::String).multiple()],
    ..command("exists", Run::Session(script_exists))
};

fn script_exists(op: &mut SessionOp) -> Result<(), ReplyError> {
    let named = op.args.slice_from(2);
    op.reply.array(named.len());
    for digest in named.iter() {
        op.reply.integer(i64::from(scripting::exists(op.node, digest)));
    }
    Ok(())
}

const SCRIPT_FLUSH: Command = Command {
    summary: "Empties the cache of scripts.",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: "O(N) with N being the number of scripts in cache",
    arity: -2,
    flags: Flags::NOSCRIPT,
    categories: Categories::SCRIPTING,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    arguments: &[FLUSH_TYPE.since("6.2.0")],
    history: &[("6.2.0", "Takes `ASYNC` and `SYNC`.")],
    ..command("flush", Run::Session(script_flush))
};

fn script_flush(op: &mut SessionOp) -> Result<(), ReplyError> {
    check_flush(op.args, error::SCRIPT_FLUSH_MODE)?;
    scripting::flush(op);
    op.reply.ok();
    Ok(())
}

const SCRIPT_LOAD: Command = Command {
    summary: "Loads a script into the cache, where it stays, and answers its SHA1.",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: "O(N) with N being the length in bytes of the script body.",
    arity: 3,
    flags: Flags::NOSCRIPT.union(Flags::STALE),
    categories: Categories::SCRIPTING,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    arguments: &[arg("script", ArgumentKind::String)],
    ..command("load", Run::Session(script_load))
};

fn script_load(op: &mut SessionOp) -> Result<(), ReplyError> {
    let body = op.args.at(2);
    let digest = scripting::load(op, body)?;
    op.reply.bulk(&digest);
    Ok(())
}

const SCRIPT_KILL: Command = Command {
    summary: "Ends a script that runs for too long and has written nothing.",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::NOSCRIPT.union(Flags::ALLOW_BUSY),
    categories: Categories::SCRIPTING,
    tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
    ..command("kill", Run::Session(script_kill))
};

fn script_kill(op: &mut SessionOp) -> Result<(), ReplyError> {
    scripting::kill(op.node)?;
    op.reply.ok();
    Ok(())
}

const SCRIPT_DEBUG: Command = Command {
    summary: "Would choose how scripts are debugged: there is no debugger here.",
    since: "3.2.0",
    group: Group::Scripting,
    complexity: "O(1)",
    arity: 3,
    flags: Flags::NOSCRIPT,
    categories: Categories::SCRIPTING,
    arguments: &[arg(
        "mode",
        ArgumentKind::OneOf(&[
            Argument::word("yes", "YES"),
            Argument::word("sync", "SYNC"),
            Argument::word("no", "NO"),
        ]),
    )],
    ..command("debug", Run::Session(script_debug))
};

/// Who asks for no debugger has none.
fn script_debug(op: &mut SessionOp) -> Result<(), ReplyError> {
    let mode = op.args.at(2);
    let is = |word: &str| mode.eq_ignore_ascii_case(word.as_bytes());
    if is("no") {
        op.reply.ok();
        return Ok(());
    }
    Err(match is("yes") || is("sync") {
        true => error::SCRIPT_NO_DEBUGGER,
        false => error::SCRIPT_DEBUG_MODE,
    })
}

const SCRIPT_HELP: &[HelpEntry] = &[
    (
        "DEBUG (YES|SYNC|NO)",
        &["There is no debugger: only NO is answered with OK."],
    ),
    (
        "EXISTS <sha1> [<sha1> ...]",
        &["Answer for each SHA1 whether its script is in the cache."],
    ),
    ("FLUSH [ASYNC|SYNC]", &["Empty the cache of scripts."]),
    (
        "KILL",
        &["End a script that runs for too long and has written nothing."],
    ),
    (
        "LOAD <script>",
        &["Load a script into the cache, where it stays, and answer its SHA1."],
    ),
];

fn script_help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "SCRIPT", SCRIPT_HELP);
    Ok(())
}
