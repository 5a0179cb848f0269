//! CLIENT, and those of its subcommands that concern the caller's own session.
//!
//! Names and the like stand in the lines of CLIENT LIST, between spaces: so none may hold a space, a line end or
//! anything else that does not print.

use super::{client_kill, client_list, client_pause, client_tracking};
use crate::client::ReplyMode;
use crate::engine::help::{HelpEntry, help_command, reply_help};
use crate::engine::{Command, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, arg, command};

pub(super) const CLIENT: Command = Command {
    summary: "Contains the commands about client connections.",
    since: "2.4.0",
    group: Group::Connection,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        client_tracking::CACHING,
        GETNAME,
        client_tracking::GETREDIR,
        help_command(Group::Connection, Categories::CONNECTION, "5.0.0", help),
        ID,
        client_list::INFO,
        client_kill::KILL,
        client_list::LIST,
        NO_EVICT,
        NO_TOUCH,
        client_pause::PAUSE,
        REPLY,
        SETINFO,
        SETNAME,
        client_tracking::TRACKING,
        client_tracking::TRACKINGINFO,
        client_pause::UNBLOCK,
        client_pause::UNPAUSE,
    ],
    keeps_caching: true,
    ..command("client", Run::Container)
};

/// What CLIENT's subcommands have in common.
pub(super) const CLIENT_FLAGS: Flags = Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE);

const ON_OFF: ArgumentKind = ArgumentKind::OneOf(&[Argument::word("on", "ON"), Argument::word("off", "OFF")]);

const GETNAME: Command = Command {
    summary: "Answers the name of the connection.",
    since: "2.6.9",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 2,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    ..command("getname", Run::Session(getname))
};

fn getname(op: &mut SessionOp) -> Result<(), ReplyError> {
    match op.session.name.as_slice() {
        b"" => op.reply.null(),
        name => op.reply.bulk(name),
    }
    Ok(())
}

const SETNAME: Command = Command {
    summary: "Names the connection.",
    since: "2.6.9",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 3,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    arguments: &[arg("connection-name", ArgumentKind::String)],
    ..command("setname", Run::Session(setname))
};

fn setname(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.session.name = checked_name(&op.args[2])?.to_vec();
    op.reply.ok();
    Ok(())
}

/// The name, if it may be the name of a client.
pub(super) fn checked_name(name: &[u8]) -> Result<&[u8], ReplyError> {
    if is_printable(name) {
        Ok(name)
    } else {
        Err(error::CLIENT_NAME_INVALID)
    }
}

fn is_printable(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

const SETINFO: Command = Command {
    summary: "Notes a property of the client's library.",
    since: "7.2.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 4,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    arguments: &[arg(
        "attr",
        ArgumentKind::OneOf(&[
            arg("libname", ArgumentKind::String).token("LIB-NAME"),
            arg("libver", ArgumentKind::String).token("LIB-VER"),
        ]),
    )],
    ..command("setinfo", Run::Session(setinfo))
};

fn setinfo(op: &mut SessionOp) -> Result<(), ReplyError> {
    let (property, value) = (op.args.at(2), op.args.at(3));
    let place = if property.eq_ignore_ascii_case(b"LIB-NAME") {
        &mut op.session.lib_name
    } else if property.eq_ignore_ascii_case(b"LIB-VER") {
        &mut op.session.lib_ver
    } else {
        return Err(error::unrecognized_option(property));
    };
    if !is_printable(value) {
        return Err(error::client_property_invalid(property));
    }
    *place = value.to_vec();
    op.reply.ok();
    Ok(())
}

const ID: Command = Command {
    summary: "Answers the number of the connection.",
    since: "5.0.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 2,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    ..command("id", Run::Session(id))
};

fn id(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.reply.integer(op.session.id as i64);
    Ok(())
}

const NO_EVICT: Command = Command {
    summary: "Says whether the connection may be closed when clients take too much memory.",
    since: "7.0.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 3,
    flags: CLIENT_FLAGS.union(Flags::ADMIN),
    categories: Categories::CONNECTION,
    arguments: &[arg("enabled", ON_OFF)],
    ..command("no-evict", Run::Session(no_evict))
};

fn no_evict(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.session.is_exempt_from_eviction = on_or_off(&op.args[2])?;
    op.reply.ok();
    Ok(())
}

const NO_TOUCH: Command = Command {
    summary: "Says whether the connection's commands leave the access clocks of keys alone.",
    since: "7.2.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 3,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    arguments: &[arg("enabled", ON_OFF)],
    ..command("no-touch", Run::Session(no_touch))
};

fn no_touch(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.session.leaves_clocks = on_or_off(&op.args[2])?;
    op.reply.ok();
    Ok(())
}

fn on_or_off(word: &[u8]) -> Result<bool, ReplyError> {
    if word.eq_ignore_ascii_case(b"ON") {
        Ok(true)
    } else if word.eq_ignore_ascii_case(b"OFF") {
        Ok(false)
    } else {
        Err(error::SYNTAX)
    }
}

const REPLY: Command = Command {
    summary: "Says whether commands are answered.",
    since: "3.2.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 3,
    flags: CLIENT_FLAGS,
    categories: Categories::CONNECTION,
    arguments: &[arg(
        "on-off-skip",
        ArgumentKind::OneOf(&[
            Argument::word("on", "ON"),
            Argument::word("off", "OFF"),
            Argument::word("skip", "SKIP"),
        ]),
    )],
    ..command("reply", Run::Session(reply))
};

fn reply(op: &mut SessionOp) -> Result<(), ReplyError> {
    let word = &op.args[2];
    if word.eq_ignore_ascii_case(b"ON") {
        op.session.reply_mode = ReplyMode::On;
        op.reply.ok();
    } else if word.eq_ignore_ascii_case(b"OFF") {
        op.session.reply_mode = ReplyMode::Off;
    } else if word.eq_ignore_ascii_case(b"SKIP") {
        // Where nothing is answered, there is no next reply to leave out.
        if op.session.reply_mode != ReplyMode::Off {
            op.session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(error::SYNTAX);
    }
    Ok(())
}

const HELP: &[HelpEntry] = &[
    (
        "CACHING (YES|NO)",
        &["Say whether the keys of the next command are tracked, where that is OPTIN or OPTOUT."],
    ),
    ("GETNAME", &["Answer the name of this connection."]),
    (
        "GETREDIR",
        &["Answer the id of the client that invalidation messages go to, -1 without tracking."],
    ),
    ("ID", &["Answer the id of this connection."]),
    (
        "INFO",
        &["Answer the line of CLIENT LIST that describes this connection."],
    ),
    ("KILL <ip:port>", &["Close the connection that comes from <ip:port>."]),
    (
        "KILL <option> <value> [<option> <value> [...]]",
        &[
            "Close all connections that every option holds for:",
            "* ADDR (<ip:port>|<unixsocket>:0)",
            "  It comes from this address.",
            "* LADDR (<ip:port>|<unixsocket>:0)",
            "  It came in at this address of the server.",
            "* TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "  It is of this type.",
            "* USER <username>",
            "  It is authenticated as this user.",
            "* ID <client-id>",
            "  It has this id.",
            "* MAXAGE <seconds>",
            "  It is at least so old.",
            "* SKIPME (YES|NO)",
            "  Whether this connection is spared (default: yes).",
        ],
    ),
    (
        "LIST [options ...]",
        &[
            "Describe the connections, one in a line. Options:",
            "* TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "  Only those of this type.",
            "* ID <client-id> [<client-id> ...]",
            "  Only those with one of these ids.",
        ],
    ),
    (
        "NO-EVICT (ON|OFF)",
        &["Protect this connection from being closed to free memory of clients."],
    ),
    (
        "NO-TOUCH (ON|OFF)",
        &["Leave LRU and LFU clocks of keys alone in the commands of this connection."],
    ),
    (
        "PAUSE <timeout> [WRITE|ALL]",
        &["Hold back all commands, or just writes, for <timeout> milliseconds."],
    ),
    (
        "REPLY (ON|OFF|SKIP)",
        &["Say which commands of this connection are answered."],
    ),
    (
        "SETINFO <option> <value>",
        &[
            "Note what the client's library is. Options:",
            "* LIB-NAME",
            "  The name of the library.",
            "* LIB-VER",
            "  Its version.",
        ],
    ),
    ("SETNAME <name>", &["Give this connection the name <name>."]),
    (
        "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
        &[
            "         [OPTIN] [OPTOUT] [NOLOOP]",
            "Say whether and how keys are tracked that this connection caches.",
        ],
    ),
    (
        "TRACKINGINFO",
        &["Answer whether keys are tracked for this connection."],
    ),
    (
        "UNBLOCK <clientid> [TIMEOUT|ERROR]",
        &["End the wait of a blocked client, as if its time had run out or with an error."],
    ),
    ("UNPAUSE", &["End a CLIENT PAUSE before its time."]),
];

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "CLIENT", HELP);
    Ok(())
}
