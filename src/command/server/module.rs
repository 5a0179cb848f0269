//! MODULE: what is loaded, which is nothing. A module of Redis is a shared library that calls into redis-server's own C
//! code, and there is none of that here to call.
//!
//! Tools list the modules when they connect, so LIST answers the truth, an empty list. LOAD, LOADEX and UNLOAD answer as
//! Redis does where no such library, or no such module, is found. Before that `enable-module-command` is asked, `no` by
//! default, which refuses these three and neither LIST nor HELP ([`Protection`]).

use crate::engine::help::{HelpEntry, help_command, reply_help};
use crate::engine::{Command, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, Protection, arg, command};

pub(super) const MODULE: Command = Command {
    summary: "Contains the commands about modules.",
    since: "4.0.0",
    group: Group::Server,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        help_command(Group::Server, Categories::NONE, "5.0.0", help),
        MODULE_LIST,
        MODULE_LOAD,
        MODULE_LOADEX,
        MODULE_UNLOAD,
    ],
    ..command("module", Run::Container)
};

const MODULE_LIST: Command = Command {
    summary: "Lists the loaded modules.",
    since: "4.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the number of loaded modules.",
    arity: 2,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT),
    tips: &["nondeterministic_output_order"],
    ..command("list", Run::Session(list))
};

fn list(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.reply.array(0);
    Ok(())
}

const MODULE_LOAD: Command = Command {
    summary: "Loads a module.",
    since: "4.0.0",
    group: Group::Server,
    arity: -3,
    flags: CHANGES_MODULES,
    protection: Some(Protection::ModuleCommand),
    arguments: &[
        arg("path", ArgumentKind::String),
        arg("arg", ArgumentKind::String).optional().multiple(),
    ],
    ..command("load", Run::Session(load))
};

fn load(op: &mut SessionOp) -> Result<(), ReplyError> {
    let path = op.args.at(2).escape_ascii();
    tracing::warn!("Module {path} failed to load: this server has no modules");
    Err(error::MODULE_NOT_LOADED)
}

const MODULE_LOADEX: Command = Command {
    summary: "Loads a module with parameters of its own.",
    since: "7.0.0",
    group: Group::Server,
    arity: -3,
    flags: CHANGES_MODULES,
    protection: Some(Protection::ModuleCommand),
    arguments: LOADEX_ARGUMENTS,
    ..command("loadex", Run::Session(load))
};

const MODULE_UNLOAD: Command = Command {
    summary: "Unloads a module.",
    since: "4.0.0",
    group: Group::Server,
    arity: 3,
    flags: CHANGES_MODULES,
    protection: Some(Protection::ModuleCommand),
    arguments: &[arg("name", ArgumentKind::String)],
    ..command("unload", Run::Session(unload))
};

fn unload(op: &mut SessionOp) -> Result<(), ReplyError> {
    let name = op.args.at(2).escape_ascii();
    tracing::warn!("Error unloading module {name}: no such module with that name");
    Err(error::NO_SUCH_MODULE)
}

const CHANGES_MODULES: Flags = Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::NO_ASYNC_LOADING);

const LOADEX_ARGUMENTS: &[Argument] = &[
    arg("path", ArgumentKind::String),
    arg(
        "configs",
        ArgumentKind::Block(&[arg("name", ArgumentKind::String), arg("value", ArgumentKind::String)]),
    )
    .token("CONFIG")
    .optional()
    .token_repeated(),
    arg("args", ArgumentKind::Block(&[arg("arg", ArgumentKind::String)]))
        .token("ARGS")
        .optional()
        .multiple(),
];

const HELP: &[HelpEntry] = &[
    ("LIST", &["List the loaded modules."]),
    (
        "LOAD <path> [<arg> ...]",
        &["Load the module at <path> with these arguments."],
    ),
    (
        "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
        &["Load the module at <path> with values for its parameters, and with arguments."],
    ),
    ("UNLOAD <name>", &["Unload the module of that name."]),
];

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "MODULE", HELP);
    Ok(())
}
