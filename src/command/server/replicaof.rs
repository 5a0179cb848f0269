//! REPLICAOF: whom this server copies.
//!
//! It holds the whole keyspace for the moment of the change, and answers when the role is another: connecting, and all that follows, is the
//! link's.

use crate::base::numbers::parse_i64;
use crate::config::{Endpoint, Text};
use crate::engine::{Command, Op, Run};
use crate::replication::role;
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Flags, Group, arg, command};

const FLAGS: Flags = Flags::ADMIN
    .union(Flags::NOSCRIPT)
    .union(Flags::STALE)
    .union(Flags::NO_ASYNC_LOADING);

pub(super) const REPLICAOF: Command = Command {
    summary: "Makes this server the replica of another one, or a master.",
    since: "5.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: 3,
    flags: FLAGS,
    arguments: ARGUMENTS,
    ..command("replicaof", Run::Everything(replicaof))
};

pub(super) const SLAVEOF: Command = Command {
    summary: "Makes this server the replica of another one, or a master.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: 3,
    flags: FLAGS,
    arguments: ARGUMENTS,
    deprecated: Some(("5.0.0", "`REPLICAOF`")),
    ..command("slaveof", Run::Everything(replicaof))
};

const ARGUMENTS: &[Argument] = &[arg("host", ArgumentKind::String), arg("port", ArgumentKind::Integer)];

fn replicaof(op: &mut Op) -> Result<(), ReplyError> {
    if op.env.settings.cluster_enabled {
        return Err(error::REPLICAOF_IN_CLUSTER);
    }
    let (host, port) = (op.args.at(1), op.args.at(2));
    let master = match host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        true => None,
        false => {
            let port = parse_i64(port).and_then(|port| u16::try_from(port).ok());
            let port = port.ok_or(error::MASTER_PORT_INVALID)?;
            let host = Text::new(host);
            Some(Endpoint { host, port })
        }
    };
    if op.keys.view.all_slots().is_none() {
        return Err(op.keys.need_everything());
    }
    match master {
        None => {
            if role::lead(op.env) {
                tracing::info!("MASTER MODE enabled (user request)");
            }
            op.reply.ok();
        }
        Some(master) => {
            let name = format!("{}:{}", master.host.to_string_lossy(), master.port);
            match role::follow(op.env, master) {
                true => {
                    tracing::info!("REPLICAOF {name} enabled (user request)");
                    op.reply.ok();
                }
                false => op.reply.simple("OK Already connected to specified master"),
            }
        }
    }
    Ok(())
}
