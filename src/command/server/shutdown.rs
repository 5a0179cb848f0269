//! SHUTDOWN: ends the process, as a signal does. It never answers when it succeeds: the connection just ends.
//!
//! It waits for the data to be saved, where that is asked for; ABORT takes it back meanwhile.

use crate::engine::node::Shutdown;
use crate::engine::{Command, Context, Node, NodeFuture, Run, SessionOp, shutdown as ending};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Flags, Group, arg, command};

pub(super) const SHUTDOWN: Command = Command {
    summary: "Ends the server, saving the data first where it is configured to.",
    since: "1.0.0",
    group: Group::Server,
    complexity: "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
    arity: -1,
    flags: Flags::ADMIN
        .union(Flags::NOSCRIPT)
        .union(Flags::LOADING)
        .union(Flags::STALE)
        .union(Flags::NO_MULTI)
        .union(Flags::ALLOW_BUSY),
    arguments: &[
        arg(
            "nosave_save",
            ArgumentKind::OneOf(&[Argument::word("nosave", "NOSAVE"), Argument::word("save", "SAVE")]),
        )
        .optional(),
        Argument::word("now", "NOW").optional().since("7.0.0"),
        Argument::word("force", "FORCE").optional().since("7.0.0"),
        Argument::word("abort", "ABORT").optional().since("7.0.0"),
    ],
    history: &[("7.0.0", "`NOW`, `FORCE` and `ABORT` were added.")],
    while_busy: Some(Run::Session(shutdown_while_busy)),
    ..command("shutdown", Run::Node(shutdown))
};

/// A script that does not end can be left to its end only by not saving.
fn shutdown_while_busy(op: &mut SessionOp) -> Result<(), ReplyError> {
    match parse(op.args)? {
        Request::Abort => abort(op.node)?,
        Request::End(asked) => match op.env.node().busy_scripts.refusal() {
            Some(refusal) if !asked.nosave => return Err(refusal),
            _ => ending::end_in_spite_of_script(op.node, &op.env.settings, op.env.now),
        },
    }
    op.reply.ok();
    Ok(())
}

fn abort(node: &Node) -> Result<(), ReplyError> {
    match ending::abort(node) {
        true => Ok(()),
        false => Err(error::NO_SHUTDOWN),
    }
}

fn shutdown(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        match parse(context.args())? {
            Request::Abort => {
                context.with(|local| abort(&local.node))?;
                context.reply().ok();
                Ok(())
            }
            Request::End(asked) => {
                let handle = context.with(|local| local.handle());
                ending::shut_down(&handle, asked).await;
                Err(error::SHUTDOWN_FAILED)
            }
        }
    })
}

/// What the arguments ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Request {
    End(Shutdown),
    Abort,
}

fn parse(args: Args) -> Result<Request, ReplyError> {
    let mut asked = Shutdown::default();
    let mut aborts = false;
    for word in args.iter().skip(1) {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"NOSAVE") {
            asked.nosave = true;
        } else if is(b"SAVE") {
            asked.save = true;
        } else if is(b"NOW") {
            asked.now = true;
        } else if is(b"FORCE") {
            asked.force = true;
        } else if is(b"ABORT") {
            aborts = true;
        } else {
            return Err(error::SYNTAX);
        }
    }
    if (aborts && asked != Shutdown::default()) || (asked.nosave && asked.save) {
        return Err(error::SYNTAX);
    }
    Ok(if aborts { Request::Abort } else { Request::End(asked) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn contradictions_are_refused() {
        let parsed = |words: &[&str]| parse(OwnedArgs::from_slices(words).as_args());
        assert_eq!(parsed(&["SHUTDOWN"]), Ok(Request::End(Shutdown::default())));
        assert_eq!(parsed(&["SHUTDOWN", "abort", "ABORT"]), Ok(Request::Abort));
        for words in [["SHUTDOWN", "SAVE", "NOSAVE"], ["SHUTDOWN", "ABORT", "NOW"]] {
            assert_eq!(parsed(&words), Err(error::SYNTAX));
        }
        let all = parsed(&["SHUTDOWN", "nosave", "now", "force"]);
        assert!(matches!(all, Ok(Request::End(asked)) if asked.nosave && asked.now && asked.force && !asked.save));
    }
}
