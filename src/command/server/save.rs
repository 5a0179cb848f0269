//! SAVE, BGSAVE, LASTSAVE: asking for snapshots. Neither stops anybody but the client of a SAVE, which waits for its end.

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
        let begun = context.with(|local| saves::begin(local, Reason::Awaited));
        let Some(number) = begun else {
            return Err(error::SAVE_IN_PROGRESS);
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
    Cancel,
}

fn bgsave(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let args = context.args();
        let request = match args.len() {
            1 => Request::Begin,
            // Nothing else ever stands in the way of a snapshot that has not begun.
            2 if args[1].eq_ignore_ascii_case(b"schedule") => Request::Begin,
            2 if args[1].eq_ignore_ascii_case(b"cancel") => Request::Cancel,
            _ => return Err(error::SYNTAX),
        };
        let is_nested = context.is_nested;
        let answer = context.with(|local| match request {
            Request::Begin => begin(local, is_nested),
            Request::Cancel => cancel(local),
        })?;
        context.reply().simple(answer);
        Ok(())
    })
}

fn begin(local: &mut Local, is_nested: bool) -> Result<&'static str, ReplyError> {
    let snapshots = &local.node.snapshots;
    if is_nested {
        // The transaction holds what the cut needs.
        if snapshots.is_under_way() {
            return Err(error::SAVE_IN_PROGRESS);
        }
        snapshots.schedule();
        return Ok("Background saving scheduled");
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
