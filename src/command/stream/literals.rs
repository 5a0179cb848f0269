//! The literals of the stream family. Facts (arity, flags, key specs, syntax) are Redis 7.2's; the sentences are ours.

use super::{group, info, pending, read, write};
use crate::engine::{Command, Op, Run, SessionOp};
use crate::resp::ReplyError;
use crate::spec::{Argument, ArgumentKind, Begin, Categories, Find, Flags, Group, KeyFlags, KeySpec, arg, command};

pub(super) const COMMANDS: &[Command] = &[
    XACK, XADD, XAUTOCLAIM, XCLAIM, XDEL, XGROUP, XINFO, XLEN, XPENDING, XRANGE, XREAD, XREADGROUP, XREVRANGE, XSETID,
    XTRIM,
];

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const UPDATE: KeyFlags = KeyFlags::RW.union(KeyFlags::UPDATE);
const INSERT: KeyFlags = KeyFlags::RW.union(KeyFlags::INSERT);
const DELETE: KeyFlags = KeyFlags::RW.union(KeyFlags::DELETE);
const FAST_WRITE: Flags = Flags::WRITE.union(Flags::FAST);
const NONDETERMINISTIC: &[&str] = &["nondeterministic_output"];

const KEY: Argument = Argument::key("key", 0);
const GROUP: Argument = arg("group", ArgumentKind::String);
const CONSUMER: Argument = arg("consumer", ArgumentKind::String);
const IDS: Argument = arg("id", ArgumentKind::String).multiple();
const START: Argument = arg("start", ArgumentKind::String);
const END: Argument = arg("end", ArgumentKind::String);
const COUNT: Argument = arg("count", ArgumentKind::Integer).token("COUNT").optional();
const JUSTID: Argument = Argument::word("justid", "JUSTID").optional();
const MIN_IDLE: Argument = arg("min-idle-time", ArgumentKind::String);
const BLOCK: Argument = arg("milliseconds", ArgumentKind::Integer).token("BLOCK").optional();
const ENTRIES_READ: Argument = arg("entries-read-id", ArgumentKind::Integer)
    .token("ENTRIESREAD")
    .shown_as("entries-read")
    .optional();

/// `id` or `$`.
const GROUP_ID: Argument = arg(
    "id-selector",
    ArgumentKind::OneOf(&[arg("id", ArgumentKind::String), Argument::word("new-id", "$")]),
);

const STREAMS: Argument = arg(
    "streams",
    ArgumentKind::Block(&[
        KEY.multiple(),
        arg("id", ArgumentKind::String).shown_as("id").multiple(),
    ]),
)
.token("STREAMS");

/// How XADD and XTRIM drop entries.
const TRIM: Argument = arg(
    "trim",
    ArgumentKind::Block(&[
        arg(
            "strategy",
            ArgumentKind::OneOf(&[
                Argument::word("maxlen", "MAXLEN"),
                Argument::word("minid", "MINID").since("6.2.0"),
            ]),
        ),
        arg(
            "operator",
            ArgumentKind::OneOf(&[Argument::word("equal", "="), Argument::word("approximately", "~")]),
        )
        .optional(),
        arg("threshold", ArgumentKind::String),
        arg("count", ArgumentKind::Integer)
            .token("LIMIT")
            .optional()
            .since("6.2.0"),
    ]),
);

/// A command of the family over one key, with what is the same for most of them.
const fn on_stream(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "5.0.0",
        group: Group::Stream,
        complexity: "O(1)",
        categories: Categories::STREAM,
        ..command(name, Run::Keys(run))
    }
}

/// A container of such commands.
const fn container(name: &'static str) -> Command {
    Command {
        since: "5.0.0",
        group: Group::Stream,
        complexity: "Depends on subcommand.",
        arity: -2,
        ..command(name, Run::Container)
    }
}

const fn help(run: fn(&mut SessionOp) -> Result<(), ReplyError>) -> Command {
    crate::engine::help::help_command(Group::Stream, Categories::STREAM, "5.0.0", run)
}

/// Keys behind the word STREAMS, each with an ID behind all of them.
const fn keys_of_streams(from: i32) -> KeySpec {
    KeySpec {
        flags: READ,
        begin: Begin::Keyword {
            keyword: "STREAMS",
            from,
        },
        find: Find::Range {
            last: -1,
            step: 1,
            limit: 2,
        },
        notes: "",
    }
}

const XACK: Command = Command {
    summary: "Notes that a consumer is done with entries: they are not pending any more. Answers how many were.",
    complexity: "O(1) for each ID.",
    arity: -4,
    flags: FAST_WRITE,
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: &[KEY, GROUP, IDS],
    ..on_stream("xack", group::xack)
};

const XADD: Command = Command {
    summary: "Adds an entry at the end of a stream; creates the key if it is missing.",
    complexity: "O(1), and O(N) for the N entries that a trim drops.",
    arity: -5,
    flags: FAST_WRITE.union(Flags::DENYOOM),
    tips: NONDETERMINISTIC,
    keys: &[KeySpec {
        notes: "UPDATE instead of INSERT because of the optional trimming feature",
        ..KeySpec::one(1, UPDATE)
    }],
    arguments: &[
        KEY,
        Argument::word("nomkstream", "NOMKSTREAM").optional().since("6.2.0"),
        TRIM.optional(),
        arg(
            "id-selector",
            ArgumentKind::OneOf(&[Argument::word("auto-id", "*"), arg("id", ArgumentKind::String)]),
        ),
        arg(
            "data",
            ArgumentKind::Block(&[arg("field", ArgumentKind::String), arg("value", ArgumentKind::String)]),
        )
        .multiple(),
    ],
    history: &[
        ("6.2.0", "The options `NOMKSTREAM`, `MINID` and `LIMIT` were added."),
        ("7.0.0", "An ID may be given as `<ms>-*`."),
    ],
    ..on_stream("xadd", write::xadd)
};

const XAUTOCLAIM: Command = Command {
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
    ..on_stream("xautoclaim", pending::xautoclaim)
};

const XCLAIM: Command = Command {
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
    ..on_stream("xclaim", pending::xclaim)
};

const XDEL: Command = Command {
    summary: "Deletes entries. Answers how many were there.",
    complexity: "O(1) for each ID, however long the stream is.",
    arity: -3,
    flags: FAST_WRITE,
    keys: &[KeySpec::one(1, DELETE)],
    arguments: &[KEY, IDS],
    ..on_stream("xdel", write::xdel)
};

const XGROUP: Command = Command {
    summary: "Holds the commands for consumer groups.",
    subcommands: &[
        Command {
            summary: "Makes a consumer group.",
            arity: -5,
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(2, INSERT)],
            arguments: &[
                KEY,
                GROUP,
                GROUP_ID,
                Argument::word("mkstream", "MKSTREAM").optional(),
                ENTRIES_READ,
            ],
            history: &[("7.0.0", "The argument `entries_read` was added.")],
            ..on_stream("create", group::create)
        },
        Command {
            summary: "Makes a consumer of a group.",
            since: "6.2.0",
            arity: 5,
            flags: Flags::WRITE.union(Flags::DENYOOM),
            keys: &[KeySpec::one(2, INSERT)],
            arguments: &[KEY, GROUP, CONSUMER],
            ..on_stream("createconsumer", group::create_consumer)
        },
        Command {
            summary: "Removes a consumer from a group, with what is pending for it.",
            arity: 5,
            flags: Flags::WRITE,
            keys: &[KeySpec::one(2, DELETE)],
            arguments: &[KEY, GROUP, CONSUMER],
            ..on_stream("delconsumer", group::delete_consumer)
        },
        Command {
            summary: "Removes a consumer group.",
            complexity: "O(N), N being the number of entries pending in the group.",
            arity: 4,
            flags: Flags::WRITE,
            keys: &[KeySpec::one(2, DELETE)],
            arguments: &[KEY, GROUP],
            ..on_stream("destroy", group::destroy)
        },
        help(group::help),
        Command {
            summary: "Lets a consumer group go on reading from another ID.",
            arity: -5,
            flags: Flags::WRITE,
            keys: &[KeySpec::one(2, UPDATE)],
            arguments: &[KEY, GROUP, GROUP_ID, ENTRIES_READ],
            history: &[("7.0.0", "The optional argument `entries_read` was added.")],
            ..on_stream("setid", group::set_id)
        },
    ],
    ..container("xgroup")
};

const XINFO: Command = Command {
    summary: "Holds the commands that look into streams.",
    subcommands: &[
        Command {
            summary: "Lists the consumers of a group.",
            arity: 4,
            flags: Flags::READONLY,
            tips: NONDETERMINISTIC,
            keys: &[KeySpec::one(2, READ)],
            arguments: &[KEY, GROUP],
            history: &[("7.2.0", "The field `inactive` was added.")],
            ..on_stream("consumers", info::consumers)
        },
        Command {
            summary: "Lists the consumer groups of a stream.",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, READ)],
            arguments: &[KEY],
            history: &[("7.0.0", "The fields `entries-read` and `lag` were added.")],
            ..on_stream("groups", info::groups)
        },
        help(info::help),
        Command {
            summary: "Describes a stream.",
            arity: -3,
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, READ)],
            arguments: &[
                KEY,
                arg(
                    "full-block",
                    ArgumentKind::Block(&[Argument::word("full", "FULL"), COUNT]),
                )
                .optional(),
            ],
            history: &[
                ("6.0.0", "The option `FULL` was added."),
                (
                    "7.0.0",
                    "The fields `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag` were added.",
                ),
                (
                    "7.2.0",
                    "The field `active-time` was added, and `seen-time` tells the last attempt, successful or not.",
                ),
            ],
            ..on_stream("stream", info::stream)
        },
    ],
    ..container("xinfo")
};

const XLEN: Command = Command {
    summary: "Answers how many entries a stream has.",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: &[KEY],
    ..on_stream("xlen", read::xlen)
};

const XPENDING: Command = Command {
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
    ..on_stream("xpending", pending::xpending)
};

const RANGE_HISTORY: &[(&str, &str)] = &[("6.2.0", "Exclusive ranges were added.")];
const RANGE_COMPLEXITY: &str = "O(N), N being the number of entries answered; O(1) for a constant COUNT.";

const XRANGE: Command = Command {
    summary: "Answers the entries whose IDs lie in a range.",
    complexity: RANGE_COMPLEXITY,
    arity: -4,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[KEY, START, END, COUNT],
    history: RANGE_HISTORY,
    ..on_stream("xrange", read::xrange)
};

const XREVRANGE: Command = Command {
    summary: "Answers the entries whose IDs lie in a range, the greatest first.",
    complexity: RANGE_COMPLEXITY,
    arity: -4,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[KEY, END, START, COUNT],
    history: RANGE_HISTORY,
    ..on_stream("xrevrange", read::xrevrange)
};

const XREAD: Command = Command {
    summary: "Answers the entries of streams behind given IDs; waits for some if asked to.",
    complexity: "O(N) for each stream, N being the number of entries answered.",
    arity: -4,
    flags: Flags::READONLY.union(Flags::BLOCKING),
    keys: &[keys_of_streams(1)],
    arguments: &[COUNT, BLOCK, STREAMS],
    ..on_stream("xread", read::xread)
};

const XREADGROUP: Command = Command {
    summary: "Gives a consumer of a group new entries of streams, or those that are pending for it; waits for new ones if asked to.",
    complexity: "O(M) for each stream, M being the number of entries answered.",
    arity: -7,
    flags: Flags::WRITE.union(Flags::BLOCKING),
    keys: &[keys_of_streams(4)],
    arguments: &[
        arg("group-block", ArgumentKind::Block(&[GROUP, CONSUMER])).token("GROUP"),
        COUNT,
        BLOCK,
        Argument::word("noack", "NOACK").optional(),
        STREAMS,
    ],
    ..on_stream("xreadgroup", read::xreadgroup)
};

const XSETID: Command = Command {
    summary: "Sets what a stream remembers beside its entries; replication uses it.",
    arity: -3,
    flags: FAST_WRITE.union(Flags::DENYOOM),
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: &[
        KEY,
        arg("last-id", ArgumentKind::String),
        arg("entries-added", ArgumentKind::Integer)
            .token("ENTRIESADDED")
            .optional()
            .since("7.0.0"),
        arg("max-deleted-id", ArgumentKind::String)
            .token("MAXDELETEDID")
            .optional()
            .since("7.0.0"),
    ],
    history: &[(
        "7.0.0",
        "The arguments `entries_added` and `max_deleted_entry_id` were added.",
    )],
    ..on_stream("xsetid", write::xsetid)
};

const XTRIM: Command = Command {
    summary: "Drops entries at the front of a stream.",
    complexity: "O(N), N being the number of entries dropped; whole blocks of them go at once.",
    arity: -4,
    flags: Flags::WRITE,
    tips: NONDETERMINISTIC,
    keys: &[KeySpec::one(1, DELETE)],
    arguments: &[KEY, TRIM],
    history: &[("6.2.0", "The options `MINID` and `LIMIT` were added.")],
    ..on_stream("xtrim", write::xtrim)
};
