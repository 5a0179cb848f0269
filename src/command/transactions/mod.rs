//! The literals of transactions. What they do with a connection's queue and its watched keys is the engine's own
//! ([`Control`]).

use crate::engine::Control;
use crate::engine::{Command, Run};
use crate::spec::{Argument, Categories, Flags, Group, KeyFlags, KeySpec, command};

const TRANSACTION: Flags = Flags::NOSCRIPT
    .union(Flags::LOADING)
    .union(Flags::STALE)
    .union(Flags::FAST)
    .union(Flags::ALLOW_BUSY);

pub const COMMANDS: &[Command] = &[MULTI, EXEC, DISCARD, WATCH, UNWATCH, RESET];

const MULTI: Command = Command {
    summary: "Begins a transaction: the commands that follow are queued.",
    since: "1.2.0",
    group: Group::Transactions,
    complexity: "O(1)",
    arity: 1,
    flags: TRANSACTION,
    categories: Categories::TRANSACTION,
    ..command("multi", Run::Transaction(Control::Multi))
};

const EXEC: Command = Command {
    summary: "Runs all queued commands as one unit.",
    since: "1.2.0",
    group: Group::Transactions,
    complexity: "Depends on commands in the transaction",
    arity: 1,
    flags: Flags::NOSCRIPT
        .union(Flags::LOADING)
        .union(Flags::STALE)
        .union(Flags::SKIP_SLOWLOG),
    categories: Categories::TRANSACTION,
    ..command("exec", Run::Transaction(Control::Exec))
};

const DISCARD: Command = Command {
    summary: "Forgets all queued commands.",
    since: "2.0.0",
    group: Group::Transactions,
    complexity: "O(N), when N is the number of queued commands",
    arity: 1,
    flags: TRANSACTION,
    categories: Categories::TRANSACTION,
    ..command("discard", Run::Transaction(Control::Discard))
};

const WATCH: Command = Command {
    summary: "Makes the next EXEC depend on these keys staying as they are.",
    since: "2.2.0",
    group: Group::Transactions,
    complexity: "O(1) for every key.",
    arity: -2,
    flags: TRANSACTION,
    categories: Categories::TRANSACTION,
    keys: &[KeySpec::range(1, -1, 1, KeyFlags::RO)],
    arguments: &[Argument::key("key", 0).multiple()],
    ..command("watch", Run::Transaction(Control::Watch))
};

const UNWATCH: Command = Command {
    summary: "Forgets all watched keys.",
    since: "2.2.0",
    group: Group::Transactions,
    complexity: "O(1)",
    arity: 1,
    flags: TRANSACTION,
    categories: Categories::TRANSACTION,
    ..command("unwatch", Run::Transaction(Control::Unwatch))
};

const RESET: Command = Command {
    summary: "Puts the connection back into the state in which it began.",
    since: "6.2.0",
    group: Group::Connection,
    complexity: "O(1)",
    arity: 1,
    flags: TRANSACTION.union(Flags::NO_AUTH),
    categories: Categories::CONNECTION,
    is_for_subscribers: true,
    ..command("reset", Run::Transaction(Control::Reset))
};
