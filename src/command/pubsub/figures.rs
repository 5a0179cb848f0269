//! PUBSUB: who listens to what, on the whole node.

use crate::base::glob;
use crate::engine::help::{HelpEntry, help_command, reply_help};
use crate::engine::{Command, Run, SessionOp};
use crate::pubsub::Kind;
use crate::resp::{ReplyError, error};
use crate::spec::{ArgumentKind, Categories, Flags, Group, arg, command};

pub(super) const PUBSUB: Command = Command {
    summary: "Contains the commands that tell who listens.",
    since: "2.8.0",
    group: Group::PubSub,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        CHANNELS,
        help_command(Group::PubSub, Categories::NONE, "6.2.0", help),
        NUMPAT,
        NUMSUB,
        SHARDCHANNELS,
        SHARDNUMSUB,
    ],
    ..command("pubsub", Run::Container)
};

const FLAGS: Flags = Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE);

const CHANNELS: Command = Command {
    summary: "Answers the channels that somebody is subscribed to.",
    since: "2.8.0",
    group: Group::PubSub,
    complexity: "O(N) where N is the number of these channels",
    arity: -2,
    flags: FLAGS,
    arguments: &[arg("pattern", ArgumentKind::Pattern).optional()],
    ..command("channels", Run::Session(|op| names(op, Kind::Channel)))
};

const SHARDCHANNELS: Command = Command {
    summary: "Answers the shard channels that somebody is subscribed to.",
    since: "7.0.0",
    group: Group::PubSub,
    complexity: "O(N) where N is the number of these shard channels",
    arity: -2,
    flags: FLAGS,
    arguments: &[arg("pattern", ArgumentKind::Pattern).optional()],
    ..command("shardchannels", Run::Session(|op| names(op, Kind::ShardChannel)))
};

fn names(op: &mut SessionOp, kind: Kind) -> Result<(), ReplyError> {
    if op.args.len() > 3 {
        return Err(error::unknown_subcommand_or_arity("pubsub", op.args.at(1)));
    }
    let mut names = op.node.hearers.directory.names(kind);
    if let Some(pattern) = op.args.get(2) {
        names.retain(|name| glob::matches(pattern, name));
    }
    op.reply.array(names.len());
    for name in names {
        op.reply.bulk(&name);
    }
    Ok(())
}

const NUMSUB: Command = Command {
    summary: "Answers how many subscribers channels have, patterns excepted.",
    since: "2.8.0",
    group: Group::PubSub,
    complexity: "O(N) where N is the number of channels asked for",
    arity: -2,
    flags: FLAGS,
    arguments: &[arg("channel", ArgumentKind::String).optional().multiple()],
    ..command("numsub", Run::Session(|op| subscribers(op, Kind::Channel)))
};

const SHARDNUMSUB: Command = Command {
    summary: "Answers how many subscribers shard channels have.",
    since: "7.0.0",
    group: Group::PubSub,
    complexity: "O(N) where N is the number of shard channels asked for",
    arity: -2,
    flags: FLAGS,
    arguments: &[arg("shardchannel", ArgumentKind::String).optional().multiple()],
    ..command("shardnumsub", Run::Session(|op| subscribers(op, Kind::ShardChannel)))
};

fn subscribers(op: &mut SessionOp, kind: Kind) -> Result<(), ReplyError> {
    let names = op.args.slice_from(2);
    op.reply.array(2 * names.len());
    for name in names.iter() {
        op.reply.bulk(name);
        op.reply
            .integer(op.node.hearers.directory.subscribers(kind, name) as i64);
    }
    Ok(())
}

const NUMPAT: Command = Command {
    summary: "Answers how many patterns somebody is subscribed to.",
    since: "2.8.0",
    group: Group::PubSub,
    complexity: "O(1)",
    arity: 2,
    flags: FLAGS,
    ..command("numpat", Run::Session(numpat))
};

fn numpat(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.reply.integer(op.node.hearers.directory.figures().patterns as i64);
    Ok(())
}

const HELP: &[HelpEntry] = &[
    (
        "CHANNELS [<pattern>]",
        &["Return the currently active channels matching a <pattern> (default: '*')."],
    ),
    ("NUMPAT", &["Return number of subscriptions to patterns."]),
    (
        "NUMSUB [<channel> ...]",
        &[
            "Return the number of subscribers for the specified channels, excluding",
            "pattern subscriptions(default: no channels).",
        ],
    ),
    (
        "SHARDCHANNELS [<pattern>]",
        &["Return the currently active shard level channels matching a <pattern> (default: '*')."],
    ),
    (
        "SHARDNUMSUB [<shardchannel> ...]",
        &["Return the number of subscribers for the specified shard level channel(s)"],
    ),
];

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(&mut op.reply, "PUBSUB", HELP);
    Ok(())
}
