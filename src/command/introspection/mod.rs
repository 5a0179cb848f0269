//! COMMAND and its subcommands: what the registry knows, told to clients.
//!
//! Nothing here knows a command; all of it is read from the literals. Clients build their routing and their help from
//! these answers, so their shape is Redis's to the detail, maps and sets in RESP3 included
//! (<https://redis.io/docs/latest/commands/command/>).
//!
//! | file | owns |
//! |---|---|
//! | this one | the literals; COUNT, LIST, GETKEYS, GETKEYSANDFLAGS |
//! | `info` | COMMAND and COMMAND INFO: arity, flags, categories, tips, key specs |
//! | `docs` | COMMAND DOCS: texts, history, the syntax of arguments |

mod docs;
mod info;

use crate::base::glob;
use crate::engine::help::{HelpEntry, help_command, reply_help};
use crate::engine::literal::each_key;
use crate::engine::{Command, Registered, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeyPosition, arg, command};

pub use info::reply_info;

pub const COMMANDS: &[Command] = &[Command {
    summary: "Answers what is known of all commands.",
    since: "2.8.13",
    group: Group::Server,
    complexity: "O(N) where N is the total number of Redis commands",
    arity: -1,
    flags: FLAGS,
    categories: Categories::CONNECTION,
    tips: ANY_ORDER,
    subcommands: &[
        COUNT,
        DOCS,
        GETKEYS,
        GETKEYSANDFLAGS,
        help_command(Group::Server, Categories::CONNECTION, "5.0.0", help),
        INFO,
        LIST,
    ],
    ..command("command", Run::Session(info::all))
}];

const FLAGS: Flags = Flags::LOADING.union(Flags::STALE);
const ANY_ORDER: &[&str] = &["nondeterministic_output_order"];

const COUNT: Command = Command {
    summary: "Answers how many commands there are.",
    since: "2.8.13",
    group: Group::Server,
    complexity: "O(1)",
    arity: 2,
    flags: FLAGS,
    categories: Categories::CONNECTION,
    ..command("count", Run::Session(count))
};

fn count(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.reply.integer(op.registry.reachable().count() as i64);
    Ok(())
}

const DOCS: Command = Command {
    summary: "Answers the documentation of commands.",
    since: "7.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the number of commands to look up",
    arity: -2,
    flags: FLAGS,
    categories: Categories::CONNECTION,
    tips: ANY_ORDER,
    arguments: &[arg("command-name", ArgumentKind::String).optional().multiple()],
    ..command("docs", Run::Session(docs::docs))
};

const INFO: Command = Command {
    summary: "Answers what is known of some commands, of all when none is named.",
    since: "2.8.13",
    group: Group::Server,
    complexity: "O(N) where N is the number of commands to look up",
    arity: -2,
    flags: FLAGS,
    categories: Categories::CONNECTION,
    tips: ANY_ORDER,
    arguments: &[arg("command-name", ArgumentKind::String).optional().multiple()],
    history: &[("7.0.0", "Without a name it answers for all commands.")],
    ..command("info", Run::Session(info::info))
};

const LIST: Command = Command {
    summary: "Answers the names of commands.",
    since: "7.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the total number of Redis commands",
    arity: -2,
    flags: FLAGS,
    categories: Categories::CONNECTION,
    tips: ANY_ORDER,
    arguments: &[arg(
        "filterby",
        ArgumentKind::OneOf(&[
            arg("module-name", ArgumentKind::String).token("MODULE"),
            arg("category", ArgumentKind::String).token("ACLCAT"),
            arg("pattern", ArgumentKind::Pattern).token("PATTERN"),
        ]),
    )
    .token("FILTERBY")
    .optional()],
    ..command("list", Run::Session(list))
};

fn list(op: &mut SessionOp) -> Result<(), ReplyError> {
    let registry = op.registry;
    let is_listed: Box<dyn Fn(&Registered) -> bool> = match (op.args.len(), op.args.get(2)) {
        (2, _) => Box::new(|_| true),
        (5, Some(word)) if word.eq_ignore_ascii_case(b"FILTERBY") => {
            let (kind, value) = (op.args.at(3), op.args.at(4));
            if kind.eq_ignore_ascii_case(b"MODULE") {
                // There are no modules, so no command is a module's.
                Box::new(|_| false)
            } else if kind.eq_ignore_ascii_case(b"ACLCAT") {
                let category = std::str::from_utf8(value).ok().and_then(Categories::named);
                Box::new(move |found| {
                    category.is_some_and(|category| found.command.all_categories().contains(category))
                })
            } else if kind.eq_ignore_ascii_case(b"PATTERN") {
                Box::new(move |found| glob::matches_ignoring_case(value, found.full_name.as_bytes()))
            } else {
                return Err(error::SYNTAX);
            }
        }
        _ => return Err(error::SYNTAX),
    };
    let commands = registry.reachable();
    let all = commands.flat_map(|found| std::iter::once(found).chain(registry.children(found)));
    let listed: Vec<&Registered> = all.filter(|found| is_listed(found)).collect();
    op.reply.array(listed.len());
    for found in listed {
        op.reply.bulk_string(&found.full_name);
    }
    Ok(())
}

const WHOLE_COMMAND: &[Argument] = &[
    arg("command", ArgumentKind::String),
    arg("arg", ArgumentKind::String).optional().multiple(),
];

const GETKEYS: Command = Command {
    summary: "Answers the keys of a call.",
    since: "2.8.13",
    group: Group::Server,
    complexity: "O(N) where N is the number of arguments to the command",
    arity: -3,
    flags: FLAGS,
    categories: Categories::CONNECTION,
    arguments: WHOLE_COMMAND,
    ..command("getkeys", Run::Session(getkeys))
};

fn getkeys(op: &mut SessionOp) -> Result<(), ReplyError> {
    let keys = keys_of_call(op)?;
    op.reply.array(keys.len());
    for key in keys {
        op.reply.bulk(&op.args[2 + key.index]);
    }
    Ok(())
}

const GETKEYSANDFLAGS: Command = Command {
    summary: "Answers the keys of a call, and what it does with each.",
    since: "7.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the number of arguments to the command",
    arity: -3,
    flags: FLAGS,
    categories: Categories::CONNECTION,
    arguments: WHOLE_COMMAND,
    ..command("getkeysandflags", Run::Session(getkeysandflags))
};

fn getkeysandflags(op: &mut SessionOp) -> Result<(), ReplyError> {
    let keys = keys_of_call(op)?;
    let call: Vec<&[u8]> = op.args.slice_from(2).iter().collect();
    let found = op.registry.resolve(op.args.slice_from(2));
    let of_call = found.ok().and_then(|found| found.command.key_flags_of);
    op.reply.array(keys.len());
    for key in keys {
        op.reply.array(2);
        op.reply.bulk(&op.args[2 + key.index]);
        let flags = match of_call {
            Some(flags_of) if key.flags.contains(KeyFlags::VARIABLE_FLAGS) => flags_of(&call),
            _ => key.flags,
        };
        // How a spec describes itself is no property of the key.
        let own = [KeyFlags::VARIABLE_FLAGS, KeyFlags::INCOMPLETE];
        let own_names: Vec<&str> = own.iter().flat_map(|flag| flag.names()).collect();
        let names: Vec<&str> = flags.names().filter(|name| !own_names.contains(name)).collect();
        info::reply_names(&mut op.reply, names);
    }
    Ok(())
}

/// The keys of the call that stands in the arguments from the third on; positions count from there.
fn keys_of_call(op: &SessionOp) -> Result<Vec<KeyPosition>, ReplyError> {
    let call = op.args.slice_from(2);
    let found = op.registry.resolve(call).map_err(|_| error::INVALID_COMMAND)?;
    let command = found.command;
    if command.keys.iter().all(|spec| spec.flags.contains(KeyFlags::NOT_KEY)) {
        return Err(error::NO_KEY_ARGUMENTS);
    }
    if !command.accepts(call.len()) {
        return Err(error::INVALID_ARG_COUNT);
    }
    let mut keys = Vec::new();
    let outcome = each_key(command, call, |key| keys.push(key));
    if outcome.is_err() {
        keys.clear();
    }
    if keys.is_empty() && !command.flags.contains(Flags::NO_MANDATORY_KEYS) {
        return Err(error::INVALID_KEY_ARGUMENTS);
    }
    Ok(keys)
}

const HELP: &[HelpEntry] = &[
    ("(no subcommand)", &["Answer what is known of all commands."]),
    ("COUNT", &["Answer how many commands there are."]),
    (
        "LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
        &["Answer the names of all commands, or of those that the filter holds for."],
    ),
    (
        "INFO [<command-name> ...]",
        &[
            "Answer arity, flags, categories and key specs of these commands,",
            "of all commands if none is named.",
        ],
    ),
    (
        "DOCS [<command-name> ...]",
        &["Answer the documentation of these commands, of all if none is named."],
    ),
    ("GETKEYS <full-command>", &["Answer the keys of this call."]),
    (
        "GETKEYSANDFLAGS <full-command>",
        &["Answer the keys of this call, each with what is done with it."],
    ),
];

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "COMMAND", HELP);
    Ok(())
}
