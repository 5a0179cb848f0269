//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH, and RESET and QUIT, which end them all.
//!
//! What is queued is data of the connection; EXEC makes one unit of work of it. The unit needs the slots of all queued
//! commands and of all watched keys, so that comparing the watched versions and running the commands is one step that
//! nobody can come between, on however many shards the keys lie.
//!
//! WATCH is a unit of work over its keys too: each slot keeps the version of a key while somebody watches it. The
//! tokens come back to the connection, and go to the slots again with EXEC, or with the unit that forgets them
//! (UNWATCH, DISCARD, RESET, or the end of the connection).
//!
//! A queue with commands that ask other shards (INFO, CONFIG SET) is run in steps: the unit holds its slots between
//! them. Nothing that such a command asks for ever waits for a slot, so holding cannot end in a deadlock. What it has done elsewhere
//! cannot be taken back, so such a queue must not find out late that it lacks slots: if any of its commands might, it
//! holds the whole keyspace from the beginning.

use super::exec::ExecStep;
use super::literal::{Control, Registered, Registry, Run};
use super::node::Node;
use super::task::{Task, TaskKind};
use crate::base::slot::key_slot;
use crate::client::{Client, Transaction};
use crate::resp::{Args, ReplyError, error};
use crate::shard::{Footprint, SlotSet};
use std::sync::Arc;

/// What a command that controls the transaction leads to.
pub(super) enum Controlled {
    Answer {
        /// An error here is a call that failed.
        reply: Result<&'static str, ReplyError>,
        /// The client's watched keys are watched no more.
        unwatches: bool,
    },
    /// It needs slots.
    Start(Box<Task>, Footprint),
}

impl Controlled {
    fn done(reply: &'static str) -> Controlled {
        Controlled::Answer {
            reply: Ok(reply),
            unwatches: false,
        }
    }

    /// The transaction is over, or what it was to depend on.
    fn ended(reply: &'static str) -> Controlled {
        Controlled::Answer {
            reply: Ok(reply),
            unwatches: true,
        }
    }

    /// The transaction stays as it is.
    fn failed(error: ReplyError) -> Controlled {
        Controlled::Answer {
            reply: Err(error),
            unwatches: false,
        }
    }
}

/// Runs a command that controls the transaction of a client, as far as that needs no slots. `is_open`: clients need no password.
pub(super) fn control(
    client: &mut Client,
    control: Control,
    found: &'static Registered,
    args: Args,
    registry: &'static Registry,
    node: &Arc<Node>,
    is_open: bool,
) -> Controlled {
    match control {
        Control::Multi if client.is_in_transaction() => Controlled::failed(error::MULTI_NESTED),
        Control::Multi => {
            client.transaction = Some(Box::default());
            Controlled::done("OK")
        }
        Control::Discard => match client.transaction.take() {
            None => Controlled::failed(error::DISCARD_WITHOUT_MULTI),
            Some(_) => Controlled::ended("OK"),
        },
        Control::Unwatch => Controlled::ended("OK"),
        Control::Reset => {
            client.transaction = None;
            client.session.reset(is_open);
            Controlled::ended("RESET")
        }
        Control::Watch if client.is_in_transaction() => Controlled::failed(error::WATCH_IN_MULTI),
        Control::Watch => {
            let keys = args.range(1, args.len()).to_owned();
            let slots: SlotSet = keys.as_args().iter().map(key_slot).collect();
            let tokens = Vec::new();
            let task = Task::new(client, found, TaskKind::Watch { keys, tokens });
            Controlled::Start(task, Footprint::Slots(slots))
        }
        Control::Quit => {
            client.is_closing = true;
            Controlled::done("OK")
        }
        Control::Exec => match client.transaction.take() {
            None => Controlled::failed(error::EXEC_WITHOUT_MULTI),
            Some(transaction) if transaction.is_aborted => Controlled::Answer {
                reply: Err(error::EXEC_ABORTED),
                unwatches: true,
            },
            Some(transaction) => exec(client, *transaction, found, registry, node),
        },
    }
}

/// The unit of work that a transaction is, with what it needs.
fn exec(
    client: &mut Client,
    transaction: Transaction,
    found: &'static Registered,
    registry: &'static Registry,
    node: &Arc<Node>,
) -> Controlled {
    let mut slots: Vec<u16> = Vec::with_capacity(transaction.queue.len());
    let mut needs_everything = false;
    let mut asks_other_shards = false;
    let mut may_reach_further = false;
    for queued in &transaction.queue {
        let command = registry.get(queued.command).command;
        // What its client listens to is changed where the client is: such a unit must not be run elsewhere, nor again.
        asks_other_shards |= matches!(command.run, Run::Node(_)) || command.changes_subscriptions;
        may_reach_further |= command.run.may_reach_further();
        match command.run.footprint(command, queued.args.as_args()) {
            Some(Ok(Footprint::Everything)) => needs_everything = true,
            Some(Ok(Footprint::Slots(more))) => slots.extend(more.iter()),
            // The command will answer the same error when it is run.
            Some(Err(_)) | None => {}
        }
    }
    let watched = std::mem::take(&mut client.watched);
    slots.extend(watched.iter().map(|(slot, _)| *slot));
    let footprint = if needs_everything || asks_other_shards && may_reach_further {
        Footprint::Everything
    } else {
        Footprint::Slots(slots.into_iter().collect())
    };
    let kind = TaskKind::Exec(Box::new(ExecStep::new(
        registry,
        node.clone(),
        transaction.queue,
        watched,
        asks_other_shards,
        client,
    )));
    Controlled::Start(Task::new(client, found, kind), footprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Command;
    use crate::engine::assembly::Assembly;
    use crate::engine::literal::Registry;
    use crate::spec::command;

    const COMMANDS: &[Command] = &[
        Command {
            arity: 1,
            ..command("multi", Run::Transaction(Control::Multi))
        },
        Command {
            arity: 1,
            ..command("exec", Run::Transaction(Control::Exec))
        },
        Command {
            arity: -1,
            ..command(
                "reach",
                Run::Reaching(
                    |_| None,
                    |op| {
                        op.reply.ok();
                        Ok(())
                    },
                ),
            )
        },
    ];

    #[test]
    fn a_transaction_weighs_what_is_queued_and_borrows_only_what_it_must() {
        let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
        let assembly = Assembly::new(registry, 2);
        let mut shard = assembly.shards[0].borrow_mut();
        shard.receive(0, b"multi\r\nreach\r\nreach a bcd\r\n");
        let transaction = shard.clients.at(0).unwrap().transaction.as_ref().unwrap();
        assert_eq!(transaction.queued_bytes, 5 + 9 + 4 * size_of::<usize>());
        shard.receive(0, b"exec\r\n");
        // Had it borrowed more than it knows to need, the other shard would have been asked first.
        let replies = shard.clients.at(0).unwrap().out.take();
        assert_eq!(
            &*replies.to_contiguous(),
            b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n"
        );
    }
}
