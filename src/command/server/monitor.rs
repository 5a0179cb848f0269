//! MONITOR: a client is shown every command that runs, on all shards, in the order in which they take effect.
//!
//! A line is written when the command has run: `<time> [<db> <address>] "<word>" ...`. Commands of administrators are hidden, and secrets
//! are. What EXEC has run comes before EXEC itself. The time is that of the unit of work, in whole milliseconds.

use crate::engine::{Command, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{Flags, Group, command};

pub(super) const MONITOR: Command = Command {
    summary: "Shows the client all commands that run.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "",
    arity: 1,
    flags: Flags::ADMIN
        .union(Flags::NOSCRIPT)
        .union(Flags::LOADING)
        .union(Flags::STALE),
    ..command("monitor", Run::Session(monitor))
};

fn monitor(op: &mut SessionOp) -> Result<(), ReplyError> {
    if op.is_nested {
        return Err(error::MONITOR_DENIED);
    }
    // Whoever is one is not answered, as in Redis.
    if !op.session.is_monitor {
        op.session.is_monitor = true;
        op.env.watch_commands(op.session.place);
        op.reply.ok();
    }
    Ok(())
}
