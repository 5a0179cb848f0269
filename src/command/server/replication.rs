//! What replicas say to the server that they copy: REPLCONF, SYNC and PSYNC.
//!
//! A replica says what it is and can (REPLCONF), asks once (PSYNC; long ago SYNC), and from then on only says how far it has got (`REPLCONF ACK`,
//! which nobody answers). What it is sent in return is no reply: [`followers`] puts it into its output.

use crate::base::numbers::{parse_i64, parse_u64};
use crate::client::ReplicaWords;
use crate::engine::followers::{self, Wish};
use crate::engine::{Command, Context, NodeFuture, Run, SessionOp};
use crate::resp::{ReplyError, error};
use crate::spec::{ArgumentKind, Flags, Group, arg, command};

/// Longer names are no host's.
const IP_BYTES_MAX: usize = 255;

const REPLICATES: Flags = Flags::ADMIN
    .union(Flags::NOSCRIPT)
    .union(Flags::NO_ASYNC_LOADING)
    .union(Flags::NO_MULTI);

pub(super) const REPLCONF: Command = Command {
    summary: "Says what a replica is and can, and how far it has got.",
    since: "3.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: -1,
    flags: Flags::ADMIN
        .union(Flags::NOSCRIPT)
        .union(Flags::LOADING)
        .union(Flags::STALE)
        .union(Flags::ALLOW_BUSY),
    ..command("replconf", Run::Session(replconf))
};

pub(super) const SYNC: Command = Command {
    summary: "Sends the data set, and then every change of it.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "",
    arity: 1,
    flags: REPLICATES,
    ..command("sync", Run::Node(sync))
};

pub(super) const PSYNC: Command = Command {
    summary: "Sends what a replica lacks, and then every change.",
    since: "2.8.0",
    group: Group::Server,
    complexity: "",
    arity: -3,
    flags: REPLICATES,
    arguments: &[
        arg("replicationid", ArgumentKind::String),
        arg("offset", ArgumentKind::Integer),
    ],
    ..command("psync", Run::Node(psync))
};

fn replconf(op: &mut SessionOp) -> Result<(), ReplyError> {
    let args = op.args;
    if args.len().is_multiple_of(2) {
        return Err(error::SYNTAX);
    }
    let mut words = op.session.replica.take().unwrap_or_default();
    let mut outcome = Ok(true);
    for at in (1..args.len()).step_by(2) {
        match option(op, &mut words, args.at(at), args.at(at + 1)) {
            Ok(is_answered) => outcome = outcome.map(|so_far| so_far && is_answered),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    op.session.replica = Some(words);
    if outcome? {
        op.reply.ok();
    }
    Ok(())
}

/// Takes one option in. False: there is nothing to be answered.
fn option(op: &SessionOp, words: &mut ReplicaWords, name: &[u8], value: &[u8]) -> Result<bool, ReplyError> {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    if is("listening-port") {
        let port = parse_i64(value).ok_or(error::NOT_AN_INTEGER)?;
        words.port = u16::try_from(port).map_err(|_| error::NOT_AN_INTEGER)?;
    } else if is("ip-address") {
        if value.len() > IP_BYTES_MAX {
            return Err(error::replica_address_too_long(value.len() as i64));
        }
        words.ip = String::from_utf8_lossy(value).into_owned();
    } else if is("capa") {
        words.reads_marks |= value.eq_ignore_ascii_case(b"eof");
        words.knows_histories |= value.eq_ignore_ascii_case(b"psync2");
    } else if is("rdb-only") {
        words.is_served_once = parse_i64(value).ok_or(error::NOT_AN_INTEGER)? != 0;
    } else if is("version") {
        // What it can read is asked for with `repl-compat`.
    } else if is("ack") {
        words.has_acked = true;
        if let Some(offset) = parse_u64(value) {
            note_ack(op, offset);
        }
        return Ok(false);
    } else if is("fack") {
        if let Some(offset) = parse_u64(value) {
            note_durable(op, offset);
        }
        return Ok(false);
    } else if is("getack") {
        // Who has a master hears that from it.
        return Ok(false);
    } else {
        return Err(error::unrecognized_replconf_option(name));
    }
    Ok(true)
}

fn note_ack(op: &SessionOp, offset: u64) {
    let (id, now) = (op.session.id, op.env.now);
    if let Some(replica) = op.node.replication.lock().replica(id) {
        replica.acked_offset = replica.acked_offset.max(offset);
        replica.acked_at = now;
    }
}

fn note_durable(op: &SessionOp, offset: u64) {
    let id = op.session.id;
    if let Some(replica) = op.node.replication.lock().replica(id) {
        replica.durable_offset = replica.durable_offset.max(Some(offset));
    }
}

fn sync(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move { begin(context, Wish::Sync) })
}

fn psync(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let args = context.args();
        let offset = parse_i64(args.at(2)).ok_or(error::NOT_AN_INTEGER)?;
        let wish = Wish::From(args.at(1).to_vec(), offset);
        begin(context, wish)
    })
}

fn begin(context: &mut Context, wish: Wish) -> Result<(), ReplyError> {
    let place = context.place;
    context.with(|local| {
        if local.node.replication.is_replica() {
            // What it gets of its master is not handed on.
            return Err(error::NO_MASTER_LINK);
        }
        followers::ask(local, place, wish);
        Ok(())
    })
}
