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
use super::literal::{Control, Registered, Run};
use super::local::Local;
use super::task::{Task, TaskKind};
use crate::base::slot::key_slot;
use crate::client::{Client, Queued, Stall, Transaction};
use crate::resp::{Args, Reply, error};
use crate::shard::{Footprint, SlotSet};
use crate::spec::Flags;

use super::route::Flow;

impl Local {
    /// Runs a command that controls the transaction.
    pub(super) fn control(
        &mut self,
        client: &mut Client,
        control: Control,
        found: &'static Registered,
        args: Args,
    ) -> Flow {
        // UNWATCH inside MULTI is queued as any command is; everything else acts now.
        if control == Control::Unwatch && client.is_in_transaction() {
            return self.queue(client, found, args);
        }
        if !client.pending.is_empty() {
            return Flow::Wait(Stall::Barrier);
        }
        let began = self.env.ticks;
        match control {
            // An error inside MULTI is a call that failed, and leaves the transaction as it is.
            Control::Multi => match client.transaction {
                Some(_) => self.fail_now(client, found, &error::MULTI_NESTED),
                None => {
                    client.transaction = Some(Box::default());
                    self.answer_now(client, found, |reply| reply.ok());
                }
            },
            Control::Discard => match client.transaction.take() {
                None => self.fail_now(client, found, &error::DISCARD_WITHOUT_MULTI),
                Some(_) => {
                    self.unwatch(client);
                    self.answer_now(client, found, |reply| reply.ok());
                }
            },
            Control::Unwatch => {
                self.unwatch(client);
                self.answer_now(client, found, |reply| reply.ok());
            }
            Control::Reset => {
                client.transaction = None;
                self.unwatch(client);
                let is_open = self.env.settings.requirepass.is_empty();
                client.session.reset(is_open);
                self.answer_now(client, found, |reply| reply.simple("RESET"));
            }
            Control::Watch => {
                if client.is_in_transaction() {
                    self.fail_now(client, found, &error::WATCH_IN_MULTI);
                    return Flow::Go;
                }
                let ended = self.env.tick();
                self.env.note_slow(found.command, args, ended.us_since(began));
                let keys = args.range(1, args.len()).to_owned();
                let slots: SlotSet = keys.as_args().iter().map(key_slot).collect();
                let task = Task::new(
                    client,
                    found,
                    TaskKind::Watch {
                        keys,
                        tokens: Vec::new(),
                    },
                );
                return self.start(client, task, Footprint::Slots(slots));
            }
            Control::Quit => {
                self.answer_now(client, found, |reply| reply.ok());
                client.is_closing = true;
            }
            Control::Exec => return self.exec(client, found),
        }
        let ended = self.env.tick();
        self.env.note_slow(found.command, args, ended.us_since(began));
        Flow::Go
    }

    fn exec(&mut self, client: &mut Client, found: &'static Registered) -> Flow {
        let Some(transaction) = client.transaction.take() else {
            self.fail_now(client, found, &error::EXEC_WITHOUT_MULTI);
            return Flow::Go;
        };
        if transaction.is_aborted {
            self.unwatch(client);
            self.fail_now(client, found, &error::EXEC_ABORTED);
            return Flow::Go;
        }
        let mut slots: Vec<u16> = Vec::with_capacity(transaction.queue.len());
        let mut needs_everything = false;
        let mut asks_other_shards = false;
        let mut may_reach_further = false;
        for queued in &transaction.queue {
            let command = self.registry.get(queued.command).command;
            asks_other_shards |= matches!(command.run, Run::Node(_));
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
            self.registry,
            self.node.clone(),
            transaction.queue,
            watched,
            asks_other_shards,
            client,
        )));
        let task = Task::new(client, found, kind);
        self.start(client, task, footprint)
    }

    /// Adds a command to the queue of MULTI.
    pub(super) fn queue(&mut self, client: &mut Client, found: &'static Registered, args: Args) -> Flow {
        if found.command.flags.contains(Flags::NO_MULTI) {
            return self.reject(client, Some(found), &error::NOT_ALLOWED_IN_MULTI);
        }
        let proto = client.session.proto;
        let transaction = client.transaction.get_or_insert_with(Box::<Transaction>::default);
        if !transaction.is_aborted {
            transaction.queued_bytes += args.byte_len() + args.len() * size_of::<usize>();
            transaction.queue.push(Queued {
                command: found.id,
                args: args.to_owned(),
            });
        }
        Reply::new(client.reply_buffer(), proto).simple("QUEUED");
        Flow::Go
    }

    /// Forgets the client's watched keys.
    pub fn unwatch(&mut self, client: &mut Client) {
        if client.watched.is_empty() {
            return;
        }
        let tokens = std::mem::take(&mut client.watched);
        let slots: SlotSet = tokens.iter().map(|(slot, _)| *slot).collect();
        self.start_in_background(TaskKind::Unwatch { tokens }, Footprint::Slots(slots));
    }
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
