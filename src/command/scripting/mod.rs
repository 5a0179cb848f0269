//! SCRIPT and FUNCTION, as far as they concern the registry of scripts and of function libraries.
//!
//! There is no interpreter yet, so nothing can be loaded and both registries are empty: what is answered here is true of
//! empty ones. Tools and client libraries flush and list at the start of a test or a session.

use crate::engine::help::{HelpEntry, help_command, reply_help};
use crate::engine::{Command, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, arg, command};

pub const COMMANDS: &[Command] = &[FUNCTION, FUNCTION_SCRIPT];

const FUNCTION: Command = Command {
    summary: "Contains the commands about function libraries.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        FUNCTION_FLUSH,
        help_command(Group::Scripting, Categories::SCRIPTING, "7.0.0", function_help),
        FUNCTION_LIST,
    ],
    ..command("function", Run::Container)
};

const FUNCTION_SCRIPT: Command = Command {
    summary: "Contains the commands about the cache of scripts.",
    since: "2.6.0",
    group: Group::Scripting,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        SCRIPT_EXISTS,
        SCRIPT_FLUSH,
        help_command(Group::Scripting, Categories::SCRIPTING, "5.0.0", script_help),
    ],
    ..command("script", Run::Container)
};

const FLUSH_TYPE: Argument = arg(
    "flush-type",
    ArgumentKind::OneOf(&[Argument::word("async", "ASYNC"), Argument::word("sync", "SYNC")]),
)
.optional();

const FUNCTION_FLUSH: Command = Command {
    summary: "Deletes all function libraries.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: "O(N) where N is the number of functions deleted",
    arity: -2,
    flags: Flags::WRITE.union(Flags::NOSCRIPT),
    categories: Categories::SCRIPTING,
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    arguments: &[FLUSH_TYPE],
    ..command("flush", Run::Session(function_flush))
};

fn function_flush(op: &mut SessionOp) -> Result<(), ReplyError> {
    if op.args.len() > 3 {
        return Err(error::unknown_subcommand_or_arity("FUNCTION", op.args.at(1)));
    }
    flush(op, error::FUNCTION_FLUSH_MODE)
}

/// Checks the mode of a flush. There is nothing to delete.
fn flush(op: &mut SessionOp, mode_error: ReplyError) -> Result<(), ReplyError> {
    let is_known = op
        .args
        .get(2)
        .is_none_or(|mode| mode.eq_ignore_ascii_case(b"SYNC") || mode.eq_ignore_ascii_case(b"ASYNC"));
    if !is_known || op.args.len() > 3 {
        return Err(mode_error);
    }
    op.reply.ok();
    Ok(())
}

const FUNCTION_LIST: Command = Command {
    summary: "Lists the function libraries.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: "O(N) where N is the number of functions",
    arity: -2,
    flags: Flags::NOSCRIPT,
    categories: Categories::SCRIPTING,
    tips: &["nondeterministic_output_order"],
    arguments: &[
        arg("library-name-pattern", ArgumentKind::String)
            .token("LIBRARYNAME")
            .optional(),
        Argument::word("withcode", "WITHCODE").optional(),
    ],
    ..command("list", Run::Session(function_list))
};

fn function_list(op: &mut SessionOp) -> Result<(), ReplyError> {
    let mut options = op.args.slice_from(2).iter();
    let (mut pattern, mut is_with_code) = (None, false);
    while let Some(option) = options.next() {
        if !is_with_code && option.eq_ignore_ascii_case(b"WITHCODE") {
            is_with_code = true;
        } else if pattern.is_none() && option.eq_ignore_ascii_case(b"LIBRARYNAME") {
            pattern = Some(options.next().ok_or(error::FUNCTION_NAME_MISSING)?);
        } else {
            return Err(error::unknown_argument(option));
        }
    }
    op.reply.array(0);
    Ok(())
}

const FUNCTION_HELP: &[HelpEntry] = &[
    ("FLUSH [ASYNC|SYNC]", &["Delete all function libraries."]),
    (
        "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
        &["List the function libraries, or those whose names match, with their functions."],
    ),
];

fn function_help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "FUNCTION", FUNCTION_HELP);
    Ok(())
}

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
    let asked_count = op.args.len() - 2;
    op.reply.array(asked_count);
    for _ in 0..asked_count {
        op.reply.integer(0);
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
    flush(op, error::SCRIPT_FLUSH_MODE)
}

const SCRIPT_HELP: &[HelpEntry] = &[
    (
        "EXISTS <sha1> [<sha1> ...]",
        &["Answer for each SHA1 whether its script is in the cache."],
    ),
    ("FLUSH [ASYNC|SYNC]", &["Empty the cache of scripts."]),
];

fn script_help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "SCRIPT", SCRIPT_HELP);
    Ok(())
}
