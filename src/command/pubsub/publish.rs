//! PUBLISH and SPUBLISH.
//!
//! They look at no key, so they run on the shard of their client, in the order of its commands, and inside EXEC with its other commands: what is
//! published leaves with the rest of what the unit of work has done. The answer is how many deliveries that makes. Alone, the engine answers it
//! when all have been made; within another unit it is what the directory of subscriptions says at this moment.

use crate::engine::{Command, Op, Post, Run};
use crate::pubsub::Kind;
use crate::resp::ReplyError;
use crate::spec::{ArgumentKind, Flags, Group, KeyFlags, KeySpec, arg, command};
use bytes::Bytes;

const FLAGS: Flags = Flags::PUBSUB
    .union(Flags::LOADING)
    .union(Flags::STALE)
    .union(Flags::FAST)
    .union(Flags::MAY_REPLICATE);

pub(super) const PUBLISH: Command = Command {
    summary: "Sends a message to those who listen to a channel.",
    since: "2.0.0",
    group: Group::PubSub,
    complexity: "O(N+M) where N is the number of subscribers of the channel, and M that of the patterns that nearly match",
    arity: 3,
    flags: FLAGS,
    arguments: &[
        arg("channel", ArgumentKind::String),
        arg("message", ArgumentKind::String),
    ],
    ..command("publish", Run::Keys(publish))
};

fn publish(op: &mut Op) -> Result<(), ReplyError> {
    post(op, Kind::Channel)
}

pub(super) const SPUBLISH: Command = Command {
    summary: "Sends a message to those who listen to a shard channel.",
    since: "7.0.0",
    group: Group::PubSub,
    complexity: "O(N) where N is the number of subscribers of the shard channel",
    arity: 3,
    flags: FLAGS,
    keys: &[KeySpec::one(1, KeyFlags::NOT_KEY)],
    arguments: &[
        arg("shardchannel", ArgumentKind::String),
        arg("message", ArgumentKind::String),
    ],
    ..command("spublish", Run::Keys(spublish))
};

fn spublish(op: &mut Op) -> Result<(), ReplyError> {
    post(op, Kind::ShardChannel)
}

fn post(op: &mut Op, kind: Kind) -> Result<(), ReplyError> {
    let (channel, payload) = (op.args.at(1), op.args.at(2));
    op.reply.integer(op.env.deliveries(kind, channel) as i64);
    op.post(Post {
        kind,
        channel: Bytes::copy_from_slice(channel),
        payload: Bytes::copy_from_slice(payload),
    });
    Ok(())
}
