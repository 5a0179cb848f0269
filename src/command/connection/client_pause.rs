//! CLIENT PAUSE, UNPAUSE and UNBLOCK: holding clients back, and letting them go.
//!
//! A pause is known to every shard, and each holds its own clients' requests back until the pause ends. A second pause
//! never shortens the first, nor makes it milder. PAUSE answers when no write is under way any more: who has its answer may rely on
//! the data set to stay as it is.

use super::client::CLIENT_FLAGS;
use crate::base::clock::UnixMs;
use crate::base::numbers::parse_i64;
use crate::engine::Context;
use crate::engine::env::Pause;
use crate::engine::{Command, Local, NodeFuture, Run, Unblock, unblock as unblock_client};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, arg, command};
use std::time::Duration;

/// How often PAUSE looks whether writes that had begun before it have been run. They wait for slots at the longest, which are not
/// held for long.
const WRITES_LOOKED_AT_EVERY: Duration = Duration::from_millis(1);

pub(super) const PAUSE: Command = Command {
    summary: "Holds the commands of clients back for a time.",
    since: "2.9.50",
    group: Group::Connection,
    complexity: "O(1)",
    arity: -3,
    flags: CLIENT_FLAGS.union(Flags::ADMIN),
    categories: Categories::CONNECTION,
    arguments: &[
        arg("timeout", ArgumentKind::Integer),
        arg(
            "mode",
            ArgumentKind::OneOf(&[Argument::word("write", "WRITE"), Argument::word("all", "ALL")]),
        )
        .optional()
        .since("6.2.0"),
    ],
    history: &[("6.2.0", "Can hold writes only: `WRITE`.")],
    ..command("pause", Run::Node(pause))
};

fn pause(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let asked = parse_pause(context)?;
        context
            .ask_all(move |local: &mut Local| local.env.begin_pause(asked))
            .await;
        // Inside EXEC they may wait for the slots that the transaction itself holds; there the pause begins with what comes next.
        let handle = context.with(|local| local.handle());
        while !context.is_nested && handle.is_any_write_under_way().await {
            context.sleep(WRITES_LOOKED_AT_EVERY).await;
        }
        context.reply().ok();
        Ok(())
    })
}

fn parse_pause(context: &Context) -> Result<Pause, ReplyError> {
    let args = context.args();
    let writes_only = match (args.len(), args.get(3)) {
        (_, None) => false,
        (4, Some(mode)) if mode.eq_ignore_ascii_case(b"WRITE") => true,
        (4, Some(mode)) if mode.eq_ignore_ascii_case(b"ALL") => false,
        (4, Some(_)) => return Err(error::PAUSE_MODE_INVALID),
        _ => return Err(error::unknown_subcommand_or_arity("CLIENT", args.at(1))),
    };
    let timeout_ms = parse_i64(args.at(2)).ok_or(error::TIMEOUT_NOT_AN_INTEGER)?;
    if timeout_ms < 0 {
        return Err(error::TIMEOUT_NEGATIVE);
    }
    let until = context
        .now()
        .signed()
        .checked_add(timeout_ms)
        .ok_or(error::TIMEOUT_OUT_OF_RANGE)?;
    Ok(Pause {
        until: UnixMs::from_signed(until),
        writes_only,
    })
}

pub(super) const UNPAUSE: Command = Command {
    summary: "Ends a pause before its time.",
    since: "6.2.0",
    group: Group::Connection,
    complexity: "O(N) Where N is the number of paused clients",
    arity: 2,
    flags: CLIENT_FLAGS.union(Flags::ADMIN),
    categories: Categories::CONNECTION,
    ..command("unpause", Run::Node(unpause))
};

fn unpause(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        context
            .ask_all(|local: &mut Local| local.env.end_pause(&mut local.clients))
            .await;
        context.reply().ok();
        Ok(())
    })
}

pub(super) const UNBLOCK: Command = Command {
    summary: "Ends the wait of a client that a blocking command holds.",
    since: "5.0.0",
    group: Group::Connection,
    complexity: "O(log N) where N is the number of client connections",
    arity: -3,
    flags: CLIENT_FLAGS.union(Flags::ADMIN),
    categories: Categories::CONNECTION,
    arguments: &[
        arg("client-id", ArgumentKind::Integer),
        arg(
            "unblock-type",
            ArgumentKind::OneOf(&[Argument::word("timeout", "TIMEOUT"), Argument::word("error", "ERROR")]),
        )
        .optional(),
    ],
    ..command("unblock", Run::Node(unblock))
};

/// How soon UNBLOCK asks again for a client that is just being served, and may have to wait on.
const SERVED_LOOKED_AT_EVERY: Duration = Duration::from_micros(100);

fn unblock(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let args = context.args();
        let how = match (args.len(), args.get(3)) {
            (_, None) => Unblock::AsTimeout,
            (4, Some(reason)) if reason.eq_ignore_ascii_case(b"TIMEOUT") => Unblock::AsTimeout,
            (4, Some(reason)) if reason.eq_ignore_ascii_case(b"ERROR") => Unblock::WithError,
            (4, Some(_)) => return Err(error::UNBLOCK_REASON_INVALID),
            _ => return Err(error::unknown_subcommand_or_arity("CLIENT", args.at(1))),
        };
        let id = parse_i64(&args[2]).ok_or(error::NOT_AN_INTEGER)?;
        let was_blocked = loop {
            let place = u64::try_from(id)
                .ok()
                .and_then(|id| context.with(|local| local.node.clients.find(id)));
            let Some(place) = place else { break false };
            let answer = context.ask(place.shard, move |local: &mut Local| unblock_client(local, place, how));
            match answer.await {
                Some(was_blocked) => break was_blocked,
                None => context.sleep(SERVED_LOOKED_AT_EVERY).await,
            }
        };
        context.reply().integer(i64::from(was_blocked));
        Ok(())
    })
}
