//! SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE: asking for snapshots. None of them stops anybody but the client of a SAVE, which waits for its end.

use crate::engine::rewrites::{self, Asked};
use crate::engine::snapshot::Reason;
use crate::engine::{Command, Context, Local, NodeFuture, Run, SessionOp, saves};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, arg, command};

pub(super) const SAVE: Command = Command {
    summary: "Saves all keys to disk, and answers when that is done.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the total number of keys in all databases",
    arity: 1,
    flags: Flags::ADMIN
        .union(Flags::NOSCRIPT)
        .union(Flags::NO_ASYNC_LOADING)
        .union(Flags::NO_MULTI),
    ..command("save", Run::Node(save))
};

fn save(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let number = loop {
            let begun = context.with(|local| (saves::begin(local, Reason::Awaited), local.node.snapshots.is_saving()));
            match begun {
                (Some(number), _) => break number,
                (None, true) => return Err(error::SAVE_IN_PROGRESS),
                // A rewrite does not stand in the way in Redis either, but there the whole server waits.
                (None, false) => context.sleep(saves::LOOKED_AT_EVERY).await,
            }
        };
        if !is_saved(context, number).await {
            return Err(error::SAVE_FAILED);
        }
        context.reply().ok();
        Ok(())
    })
}

/// Waits for the end of a snapshot; whether it was saved.
pub(super) async fn is_saved(context: &Context, number: u64) -> bool {
    let handle = context.with(|local| local.handle());
    saves::is_saved(&handle, number, || false).await
}

pub(super) const BGSAVE: Command = Command {
    summary: "Saves all keys to disk in the background.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: -1,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::NO_ASYNC_LOADING),
    arguments: &[arg(
        "operation",
        ArgumentKind::OneOf(&[
            Argument::word("schedule", "SCHEDULE").since("3.2.2"),
            Argument::word("cancel", "CANCEL").since("8.1.0"),
        ]),
    )
    .optional()],
    history: &[
        ("3.2.2", "Added the `SCHEDULE` option."),
        ("8.1.0", "Added the `CANCEL` option."),
    ],
    ..command("bgsave", Run::Node(bgsave))
};

/// What BGSAVE is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Request {
    Begin,
    Schedule,
    Cancel,
}

fn bgsave(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let args = context.args();
        let request = match args.len() {
            1 => Request::Begin,
            2 if args[1].eq_ignore_ascii_case(b"schedule") => Request::Schedule,
            2 if args[1].eq_ignore_ascii_case(b"cancel") => Request::Cancel,
            _ => return Err(error::SYNTAX),
        };
        let is_nested = context.is_nested;
        let answer = context.with(|local| match request {
            Request::Begin => begin(local, is_nested, false),
            Request::Schedule => begin(local, is_nested, true),
            Request::Cancel => cancel(local),
        })?;
        context.reply().simple(answer);
        Ok(())
    })
}

fn begin(local: &mut Local, is_nested: bool, may_wait: bool) -> Result<&'static str, ReplyError> {
    let snapshots = &local.node.snapshots;
    if snapshots.is_saving() {
        return Err(error::SAVE_IN_PROGRESS);
    }
    let is_rewriting = local.node.aof.is_rewriting();
    // (A transaction holds what the cut needs.)
    if is_nested || is_rewriting && may_wait {
        snapshots.schedule();
        return Ok("Background saving scheduled");
    }
    if is_rewriting {
        return Err(error::SAVE_BEHIND_REWRITE);
    }
    match saves::begin(local, Reason::Background) {
        Some(_) => {
            tracing::info!("Background saving started");
            Ok("Background saving started")
        }
        None => Err(error::SAVE_IN_PROGRESS),
    }
}

fn cancel(local: &mut Local) -> Result<&'static str, ReplyError> {
    let snapshots = &local.node.snapshots;
    if snapshots.cancel(true, local.env.now) {
        tracing::info!("Background saving will be aborted due to user request");
        return Ok("Background saving cancelled");
    }
    match snapshots.unschedule() {
        true => Ok("Scheduled background saving cancelled"),
        false => Err(error::NO_SAVE_IN_PROGRESS),
    }
}

pub(super) const BGREWRITEAOF: Command = Command {
    summary: "Rewrites the append-only file in the background.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: 1,
    flags: Flags::ADMIN.union(Flags::NOSCRIPT).union(Flags::NO_ASYNC_LOADING),
    ..command("bgrewriteaof", Run::Node(bgrewriteaof))
};

fn bgrewriteaof(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let is_nested = context.is_nested;
        let answer = match context.with(|local| rewrites::ask(local, is_nested)) {
            Asked::Started => "Background append only file rewriting started",
            Asked::Scheduled => "Background append only file rewriting scheduled",
            Asked::UnderWay => return Err(error::REWRITE_IN_PROGRESS),
        };
        context.reply().simple(answer);
        Ok(())
    })
}

pub(super) const LASTSAVE: Command = Command {
    summary: "Answers when the last snapshot that is on disk was begun, in Unix seconds.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "O(1)",
    arity: 1,
    flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
    categories: Categories::ADMIN.union(Categories::DANGEROUS),
    tips: &["nondeterministic_output"],
    ..command("lastsave", Run::Session(lastsave))
};

fn lastsave(op: &mut SessionOp) -> Result<(), ReplyError> {
    let saved_at = op.node.snapshots.last_saved_at();
    op.reply.integer(saved_at.seconds() as i64);
    Ok(())
}
