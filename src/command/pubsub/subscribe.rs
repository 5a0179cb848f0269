//! The commands that change what a client listens to.
//!
//! Each name of a call is answered by itself, in the form of a message: what was done, the name, and how many subscriptions the client has now
//! (channels and patterns together, shard channels by themselves). Whoever leaves everything and has nothing gets one answer without a name.
//!
//! A subscription stands in the directory of the process when it is answered, so whatever is published from then on reaches it.

use crate::engine::{Command, Run, SessionOp};
use crate::pubsub::{Kind, Name};
use crate::resp::{ReplyError, error};
use crate::spec::{ArgumentKind, Flags, Group, KeyFlags, KeySpec, arg, command};
use std::sync::Arc;

const FLAGS: Flags = Flags::PUBSUB
    .union(Flags::NOSCRIPT)
    .union(Flags::LOADING)
    .union(Flags::STALE);

const CHANNELS_AS_KEYS: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyFlags::NOT_KEY)];

/// What the literals have in common.
const fn changing(name: &'static str, run: fn(&mut SessionOp) -> Result<(), ReplyError>) -> Command {
    Command {
        group: Group::PubSub,
        since: "2.0.0",
        flags: FLAGS,
        is_for_subscribers: true,
        changes_subscriptions: true,
        answers_in_messages: true,
        ..command(name, Run::Session(run))
    }
}

pub(super) const SUBSCRIBE: Command = Command {
    summary: "Listens to channels.",
    complexity: "O(N) where N is the number of channels",
    arity: -2,
    arguments: &[arg("channel", ArgumentKind::String).multiple()],
    ..changing("subscribe", |op| subscribe(op, Kind::Channel))
};

pub(super) const PSUBSCRIBE: Command = Command {
    summary: "Listens to all channels whose names match patterns.",
    complexity: "O(N) where N is the number of patterns",
    arity: -2,
    arguments: &[arg("pattern", ArgumentKind::Pattern).multiple()],
    ..changing("psubscribe", |op| subscribe(op, Kind::Pattern))
};

pub(super) const SSUBSCRIBE: Command = Command {
    summary: "Listens to shard channels.",
    since: "7.0.0",
    complexity: "O(N) where N is the number of shard channels",
    arity: -2,
    keys: CHANNELS_AS_KEYS,
    arguments: &[arg("shardchannel", ArgumentKind::String).multiple()],
    ..changing("ssubscribe", |op| subscribe(op, Kind::ShardChannel))
};

pub(super) const UNSUBSCRIBE: Command = Command {
    summary: "Stops listening to channels.",
    complexity: "O(N) where N is the number of channels",
    arity: -1,
    arguments: &[arg("channel", ArgumentKind::String).optional().multiple()],
    ..changing("unsubscribe", |op| unsubscribe(op, Kind::Channel))
};

pub(super) const PUNSUBSCRIBE: Command = Command {
    summary: "Stops listening to channels whose names match patterns.",
    complexity: "O(N) where N is the number of patterns",
    arity: -1,
    arguments: &[arg("pattern", ArgumentKind::Pattern).optional().multiple()],
    ..changing("punsubscribe", |op| unsubscribe(op, Kind::Pattern))
};

pub(super) const SUNSUBSCRIBE: Command = Command {
    summary: "Stops listening to shard channels.",
    since: "7.0.0",
    complexity: "O(N) where N is the number of shard channels",
    arity: -1,
    keys: CHANNELS_AS_KEYS,
    arguments: &[arg("shardchannel", ArgumentKind::String).optional().multiple()],
    ..changing("sunsubscribe", |op| unsubscribe(op, Kind::ShardChannel))
};

fn subscribe(op: &mut SessionOp, kind: Kind) -> Result<(), ReplyError> {
    if op.is_nested && kind == Kind::ShardChannel {
        return Err(error::SSUBSCRIBE_DENIED);
    }
    for name in op.args.slice_from(1).iter() {
        let name = Name::from(name);
        let subscriptions = Arc::make_mut(op.session.subscriptions.get_or_insert_default());
        if subscriptions.add(kind, name.clone()) {
            op.env.subscribe(kind, &name, op.session.place);
        }
        let word = match kind {
            Kind::Channel => "subscribe",
            Kind::Pattern => "psubscribe",
            Kind::ShardChannel => "ssubscribe",
        };
        tell(op, kind, word, Some(&name));
    }
    Ok(())
}

fn unsubscribe(op: &mut SessionOp, kind: Kind) -> Result<(), ReplyError> {
    let word = match kind {
        Kind::Channel => "unsubscribe",
        Kind::Pattern => "punsubscribe",
        Kind::ShardChannel => "sunsubscribe",
    };
    let names: Vec<Name> = match op.args.len() {
        1 => {
            let subscriptions = op.session.subscriptions.iter();
            subscriptions.flat_map(|all| all.names(kind)).cloned().collect()
        }
        _ => op.args.slice_from(1).iter().map(Name::from).collect(),
    };
    if names.is_empty() {
        tell(op, kind, word, None);
    }
    for name in names {
        if let Some(subscriptions) = &mut op.session.subscriptions {
            let subscriptions = Arc::make_mut(subscriptions);
            if subscriptions.remove(kind, &name) {
                op.env.unsubscribe(kind, &name, op.session.place);
            }
            if subscriptions.is_empty() {
                op.session.subscriptions = None;
            }
        }
        tell(op, kind, word, Some(&name));
    }
    Ok(())
}

/// Answers one change.
fn tell(op: &mut SessionOp, kind: Kind, word: &str, name: Option<&Name>) {
    let subscriptions = op.session.subscriptions.as_ref();
    let count = subscriptions.map_or(0, |subscriptions| subscriptions.told_count(kind));
    op.reply.push(3);
    op.reply.bulk_string(word);
    match name {
        Some(name) => op.reply.bulk(name),
        None => op.reply.null(),
    }
    op.reply.integer(count as i64);
}
