//! Commands on the keyspace as a whole: DBSIZE, FLUSHALL, FLUSHDB, SWAPDB; and TIME and ROLE, which have none.
//!
//! The whole keyspace is borrowed for them, so each is one step for everybody: no client ever sees a db half flushed or
//! half swapped, and DBSIZE is the size of one moment.

use crate::base::numbers::parse_i64;
use crate::engine::replication::{LinkState, Replica, ReplicaState};
use crate::engine::{Command, Op, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, arg, command};
use crate::store::DbIndex;

const FLUSH_MODE: &[Argument] = &[arg(
    "flush-type",
    ArgumentKind::OneOf(&[
        Argument::word("async", "ASYNC").since("4.0.0"),
        Argument::word("sync", "SYNC").since("6.2.0"),
    ]),
)
.optional()];

pub(super) const DBSIZE: Command = Command {
    summary: "Counts the keys of the selected db.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: 1,
    flags: Flags::READONLY.union(Flags::FAST),
    categories: Categories::KEYSPACE,
    tips: &["request_policy:all_shards", "response_policy:agg_sum"],
    ..command("dbsize", Run::Everything(dbsize))
};

fn dbsize(op: &mut Op) -> Result<(), ReplyError> {
    let db = op.keys.db;
    let mut count = 0;
    let Some(slots) = op.keys.view.all_slots() else {
        return Err(op.keys.need_everything());
    };
    for (_, slot) in slots {
        count += slot.len(db);
    }
    op.reply.integer(count as i64);
    Ok(())
}

pub(super) const FLUSHALL: Command = Command {
    summary: "Removes all keys from all dbs.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the total number of keys in all databases",
    arity: -1,
    flags: Flags::WRITE,
    categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    arguments: FLUSH_MODE,
    history: &[("4.0.0", "ASYNC was added."), ("6.2.0", "SYNC was added.")],
    ..command("flushall", Run::Everything(flushall))
};

fn flushall(op: &mut Op) -> Result<(), ReplyError> {
    flush(op, None)
}

pub(super) const FLUSHDB: Command = Command {
    summary: "Removes all keys from the selected db.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the number of keys in the selected database",
    arity: -1,
    flags: Flags::WRITE,
    categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    arguments: FLUSH_MODE,
    history: &[("4.0.0", "ASYNC was added."), ("6.2.0", "SYNC was added.")],
    ..command("flushdb", Run::Everything(flushdb))
};

fn flushdb(op: &mut Op) -> Result<(), ReplyError> {
    let db = op.keys.db;
    flush(op, Some(db))
}

pub(super) const SWAPDB: Command = Command {
    summary: "Exchanges the keys of two dbs.",
    since: "4.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the count of clients watching or blocking on keys from both databases.",
    arity: 3,
    flags: Flags::WRITE.union(Flags::FAST),
    categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
    arguments: &[
        arg("index1", ArgumentKind::Integer),
        arg("index2", ArgumentKind::Integer),
    ],
    ..command("swapdb", Run::Everything(swapdb))
};

fn swapdb(op: &mut Op) -> Result<(), ReplyError> {
    let read = |arg: &[u8], invalid: ReplyError| {
        let number = parse_i64(arg).and_then(|number| i32::try_from(number).ok());
        number.map(i64::from).ok_or(invalid)
    };
    let first = read(&op.args[1], error::DB_FIRST_INVALID)?;
    let second = read(&op.args[2], error::DB_SECOND_INVALID)?;
    let (databases, at) = (op.env.settings.databases as i64, op.keys.moment);
    if !(0..databases).contains(&first) || !(0..databases).contains(&second) {
        return Err(error::DB_OUT_OF_RANGE);
    }
    let Some(slots) = op.keys.view.all_slots() else {
        return Err(op.keys.need_everything());
    };
    let mut telling = Vec::new();
    for (number, slot) in slots {
        slot.swap_dbs(DbIndex(first as u32), DbIndex(second as u32), at);
        if slot.has_told() {
            telling.push(number);
        }
    }
    listen(op, &telling)?;
    op.changed(1);
    op.reply.ok();
    Ok(())
}

pub(super) const TIME: Command = Command {
    summary: "Answers the server's time: seconds, and microseconds of the running second.",
    since: "2.6.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: 1,
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
    tips: &["nondeterministic_output"],
    ..command("time", Run::Session(time))
};

fn time(op: &mut SessionOp) -> Result<(), ReplyError> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    op.reply.array(2);
    op.reply.bulk_integer(now.as_secs() as i64);
    op.reply.bulk_integer(now.subsec_micros() as i64);
    Ok(())
}

pub(super) const ROLE: Command = Command {
    summary: "Tells the role of this server in replication.",
    since: "2.8.12",
    group: Group::Server,
    complexity: "O(1)",
    arity: 1,
    flags: Flags::NOSCRIPT
        .union(Flags::LOADING)
        .union(Flags::STALE)
        .union(Flags::FAST),
    categories: Categories::ADMIN.union(Categories::DANGEROUS),
    ..command("role", Run::Session(role))
};

fn role(op: &mut SessionOp) -> Result<(), ReplyError> {
    if let Some(report) = op.node.replication.following.report() {
        let is_synced = report.link == LinkState::Connected;
        op.reply.array(5);
        op.reply.bulk(b"slave");
        op.reply.bulk_string(&report.master.host.to_string_lossy());
        op.reply.integer(i64::from(report.master.port));
        op.reply.bulk_string(report.link.name());
        // As in Redis: while there is no stream, none of it is here.
        op.reply
            .integer(if is_synced { report.applied_offset() as i64 } else { -1 });
        return Ok(());
    }
    let state = op.node.replication.lock();
    op.reply.array(3);
    op.reply.bulk(b"master");
    op.reply.integer(op.node.turns.end_offset() as i64);
    let is_online = |replica: &&Replica| replica.state == ReplicaState::Online;
    let online = state.replicas.iter().filter(is_online);
    op.reply.array(online.clone().count());
    for replica in online {
        op.reply.array(3);
        op.reply.bulk_string(&replica.ip);
        op.reply.bulk_integer(i64::from(replica.port));
        op.reply.bulk_integer(replica.acked_offset as i64);
    }
    Ok(())
}

/// Reads the optional mode; true: the caller waits until the memory is free again. Only who asks for that by name waits, and
/// everybody else with him: without a mode it is the background that frees, whatever `lazyfree-lazy-user-flush` says.
fn reads_sync(op: &Op) -> Result<bool, ReplyError> {
    match op.args.len() {
        1 => Ok(false),
        2 if op.args[1].eq_ignore_ascii_case(b"sync") => Ok(true),
        2 if op.args[1].eq_ignore_ascii_case(b"async") => Ok(false),
        _ => Err(error::SYNTAX),
    }
}

/// Empties one db or all. The tables leave the slots at once; their memory is freed here or in the background.
fn flush(op: &mut Op, db: Option<DbIndex>) -> Result<(), ReplyError> {
    let is_sync = reads_sync(op)?;
    if db.is_none() && op.keys.view.has_everything() {
        op.env.end_snapshots();
    }
    let Some(slots) = op.keys.view.all_slots() else {
        return Err(op.keys.need_everything());
    };
    let mut removed = 0;
    let mut telling = Vec::new();
    for (number, slot) in slots {
        let detached = match db {
            Some(db) => {
                removed += slot.len(db);
                slot.clear_db(db)
            }
            None => {
                removed += slot.key_count();
                slot.clear_all()
            }
        };
        if is_sync {
            drop(detached);
        } else {
            op.env.garbage.absorb(detached);
        }
        if slot.has_told() {
            telling.push(number);
        }
    }
    listen(op, &telling)?;
    op.flushed();
    // Logged even when there was nothing: whoever reads the log may have keys that expired here already.
    op.changed(removed.max(1) as u64);
    op.reply.ok();
    Ok(())
}

/// Touches the slots that have something to tell: it belongs to this command (what has expired is logged in front of the exchange), and
/// would else be taken for another's.
fn listen(op: &mut Op, telling: &[u16]) -> Result<(), ReplyError> {
    telling
        .iter()
        .try_for_each(|number| op.keys.numbered(*number).map(|_| ()))
}
