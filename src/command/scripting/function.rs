//! FUNCTION: libraries of functions.

use super::{FLUSH_TYPE, check_flush};
use crate::engine::help::{HelpEntry, help_command, reply_help};
use crate::engine::{Command, Op, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::scripting::{self, Policy};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, arg, command};

pub(super) const FUNCTION: Command = Command {
    summary: "Contains the commands about function libraries.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        FUNCTION_DELETE,
        FUNCTION_DUMP,
        FUNCTION_FLUSH,
        help_command(Group::Scripting, Categories::SCRIPTING, "7.0.0", function_help),
        FUNCTION_KILL,
        FUNCTION_LIST,
        FUNCTION_LOAD,
        FUNCTION_RESTORE,
        FUNCTION_STATS,
    ],
    ..command("function", Run::Container)
};

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
    ..command("flush", Run::Everything(function_flush))
};

fn function_flush(op: &mut Op) -> Result<(), ReplyError> {
    if op.args.len() > 3 {
        return Err(error::unknown_subcommand_or_arity("FUNCTION", op.args.at(1)));
    }
    check_flush(op.args, error::FUNCTION_FLUSH_MODE)?;
    scripting::flush_libraries(op)?;
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
    scripting::list_libraries(op, pattern, is_with_code)
}

const FUNCTION_LOAD: Command = Command {
    summary: "Loads a library.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: "O(1) (considering compilation time is redundant)",
    arity: -3,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::NOSCRIPT),
    categories: Categories::SCRIPTING,
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    arguments: &[
        Argument::word("replace", "REPLACE").optional(),
        arg("function-code", ArgumentKind::String),
    ],
    ..command("load", Run::Everything(function_load))
};

fn function_load(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    let last = args.len() - 1;
    let mut replaces = false;
    for option in args.range(2, last).iter() {
        match option.eq_ignore_ascii_case(b"REPLACE") {
            true => replaces = true,
            false => return Err(error::function_option(option)),
        }
    }
    let name = scripting::load_function(op, args.at(last), replaces)?;
    op.reply.bulk(&name);
    Ok(())
}

const FUNCTION_DELETE: Command = Command {
    summary: "Deletes a library with its functions.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: "O(1)",
    arity: 3,
    flags: Flags::WRITE.union(Flags::NOSCRIPT),
    categories: Categories::SCRIPTING,
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    arguments: &[arg("library-name", ArgumentKind::String)],
    ..command("delete", Run::Everything(function_delete))
};

fn function_delete(op: &mut Op) -> Result<(), ReplyError> {
    let name = op.args.at(2);
    scripting::delete_library(op, name)?;
    op.reply.ok();
    Ok(())
}

const FUNCTION_DUMP: Command = Command {
    summary: "Answers all libraries in one payload, for FUNCTION RESTORE.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: "O(N) where N is the number of functions",
    arity: 2,
    flags: Flags::NOSCRIPT,
    categories: Categories::SCRIPTING,
    ..command("dump", Run::Session(function_dump))
};

fn function_dump(op: &mut SessionOp) -> Result<(), ReplyError> {
    let payload = scripting::dump_libraries(op);
    op.reply.bulk(&payload);
    Ok(())
}

const FUNCTION_RESTORE: Command = Command {
    summary: "Loads the libraries of a payload.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: "O(N) where N is the number of functions on the payload",
    arity: -3,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::NOSCRIPT),
    categories: Categories::SCRIPTING,
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    arguments: &[
        arg("serialized-value", ArgumentKind::String),
        arg(
            "policy",
            ArgumentKind::OneOf(&[
                Argument::word("flush", "FLUSH"),
                Argument::word("append", "APPEND"),
                Argument::word("replace", "REPLACE"),
            ]),
        )
        .optional(),
    ],
    ..command("restore", Run::Everything(function_restore))
};

fn function_restore(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    if args.len() > 4 {
        return Err(error::unknown_subcommand_or_arity("FUNCTION", args.at(1)));
    }
    let is = |word: &str| args.at(3).eq_ignore_ascii_case(word.as_bytes());
    let policy = match () {
        () if args.len() == 3 || is("APPEND") => Policy::Append,
        () if is("REPLACE") => Policy::Replace,
        () if is("FLUSH") => Policy::Flush,
        () => return Err(error::FUNCTION_RESTORE_POLICY),
    };
    scripting::restore_libraries(op, args.at(2), policy)?;
    op.reply.ok();
    Ok(())
}

const FUNCTION_KILL: Command = Command {
    summary: "Ends a function that runs for too long and has written nothing.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::NOSCRIPT.union(Flags::ALLOW_BUSY),
    categories: Categories::SCRIPTING,
    tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
    ..command("kill", Run::Session(function_kill))
};

fn function_kill(op: &mut SessionOp) -> Result<(), ReplyError> {
    scripting::kill_function(op.node)?;
    op.reply.ok();
    Ok(())
}

const FUNCTION_STATS: Command = Command {
    summary: "Answers which function runs, and how many there are.",
    since: "7.0.0",
    group: Group::Scripting,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::NOSCRIPT.union(Flags::ALLOW_BUSY),
    categories: Categories::SCRIPTING,
    tips: &[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ],
    ..command("stats", Run::Session(function_stats))
};

fn function_stats(op: &mut SessionOp) -> Result<(), ReplyError> {
    let running = scripting::running_function(op)?;
    let (libraries, functions) = scripting::count_libraries(op.env);
    let reply = &mut op.reply;
    reply.map(2);
    reply.bulk(b"running_script");
    match running {
        None => reply.null(),
        Some(running) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(running.command.get(1).map_or(b"", |name| name));
            reply.bulk(b"command");
            reply.array(running.command.len());
            running.command.iter().for_each(|word| reply.bulk(word));
            reply.bulk(b"duration_ms");
            reply.integer(running.elapsed_ms as i64);
        }
    }
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.integer(libraries as i64);
    reply.bulk(b"functions_count");
    reply.integer(functions as i64);
    Ok(())
}

const FUNCTION_HELP: &[HelpEntry] = &[
    ("DELETE <library-name>", &["Delete a library with its functions."]),
    ("DUMP", &["Answer all libraries in one payload, for FUNCTION RESTORE."]),
    ("FLUSH [ASYNC|SYNC]", &["Delete all function libraries."]),
    (
        "KILL",
        &["End a function that runs for too long and has written nothing."],
    ),
    (
        "LOAD [REPLACE] <function-code>",
        &["Load a library and answer its name."],
    ),
    (
        "RESTORE <serialized-value> [FLUSH|APPEND|REPLACE]",
        &[
            "Load the libraries of a payload: in the place of all, beside them, or in the place of those with the same names.",
        ],
    ),
    ("STATS", &["Answer which function runs, and how many there are."]),
    (
        "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
        &["List the function libraries, or those whose names match, with their functions."],
    ),
];

fn function_help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "FUNCTION", FUNCTION_HELP);
    Ok(())
}
