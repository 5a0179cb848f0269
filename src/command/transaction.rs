//! MULTI, EXEC, DISCARD, WATCH, UNWATCH, and RESET and QUIT, which end them all.
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

use super::local::Local;
use super::task::{ExecStep, Task, TaskKind};
use super::{Command, Registered, Run};
use crate::base::slot::key_slot;
use crate::client::{Client, Queued, Stall, Transaction};
use crate::resp::{Args, Reply, ReplyError, error};
use crate::shard::{Footprint, SlotSet};
use crate::spec::{Argument, Categories, Flags, Group, KeyFlags, KeySpec, command};

use super::dispatch::Flow;

/// What a command does with the connection's transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
    Reset,
    Quit,
}

const TRANSACTION: Flags = Flags::NOSCRIPT
    .union(Flags::LOADING)
    .union(Flags::STALE)
    .union(Flags::FAST)
    .union(Flags::ALLOW_BUSY);

pub const COMMANDS: &[Command] = &[
    Command {
        summary: "Begins a transaction: the commands that follow are queued.",
        since: "1.2.0",
        group: Group::Transactions,
        complexity: "O(1)",
        arity: 1,
        flags: TRANSACTION,
        categories: Categories::TRANSACTION,
        ..command("multi", Run::Transaction(Control::Multi))
    },
    Command {
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
    },
    Command {
        summary: "Forgets all queued commands.",
        since: "2.0.0",
        group: Group::Transactions,
        complexity: "O(N), when N is the number of queued commands",
        arity: 1,
        flags: TRANSACTION,
        categories: Categories::TRANSACTION,
        ..command("discard", Run::Transaction(Control::Discard))
    },
    Command {
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
    },
    Command {
        summary: "Forgets all watched keys.",
        since: "2.2.0",
        group: Group::Transactions,
        complexity: "O(1)",
        arity: 1,
        flags: TRANSACTION,
        categories: Categories::TRANSACTION,
        ..command("unwatch", Run::Transaction(Control::Unwatch))
    },
    Command {
        summary: "Puts the connection back into the state in which it began.",
        since: "6.2.0",
        group: Group::Connection,
        complexity: "O(1)",
        arity: 1,
        flags: TRANSACTION.union(Flags::NO_AUTH),
        categories: Categories::CONNECTION,
        ..command("reset", Run::Transaction(Control::Reset))
    },
];

impl Local {
    /// Runs a command that controls the transaction.
    pub(super) fn control(&mut self, client: &mut Client, control: Control, found: &Registered, args: Args) -> Flow {
        // UNWATCH inside MULTI is queued as any command is; everything else acts now.
        if control == Control::Unwatch && client.is_in_transaction() {
            return self.queue(client, found, args);
        }
        if !client.pending.is_empty() {
            return Flow::Wait(Stall::Barrier);
        }
        let began = self.env.ticks;
        match control {
            Control::Multi => match client.transaction {
                Some(_) => self.refuse_nested(client, error::MULTI_NESTED),
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
                    self.refuse_nested(client, error::WATCH_IN_MULTI);
                    return Flow::Go;
                }
                let ended = self.env.tick();
                self.env.note_slow(found, args, ended.us_since(began));
                let keys = args.range(1, args.len()).to_owned();
                let mut slots = SlotSet::new();
                for key in keys.as_args().iter() {
                    slots.insert(key_slot(key));
                }
                let task = Task::new(
                    client,
                    found.id,
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
        self.env.note_slow(found, args, ended.us_since(began));
        Flow::Go
    }

    /// MULTI inside MULTI, WATCH inside MULTI: an error that leaves the transaction as it is.
    fn refuse_nested(&mut self, client: &mut Client, error: ReplyError) {
        self.env.stats.count_error(&error);
        let proto = client.session.proto;
        Reply::new(client.reply_buffer(), proto).error(&error);
    }

    fn exec(&mut self, client: &mut Client, found: &Registered) -> Flow {
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
            let command = self.env.registry.get(queued.command).command;
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
            transaction.queue,
            watched,
            asks_other_shards,
            client,
        )));
        let task = Task::new(client, found.id, kind);
        self.start(client, task, footprint)
    }

    /// Adds a command to the queue of MULTI.
    pub(super) fn queue(&mut self, client: &mut Client, found: &Registered, args: Args) -> Flow {
        if found.command.flags.contains(Flags::NO_MULTI) {
            return self.reject(client, Some(found), &error::NOT_ALLOWED_IN_MULTI);
        }
        let proto = client.session.proto;
        let transaction = client.transaction.get_or_insert_with(Box::<Transaction>::default);
        if !transaction.is_aborted {
            transaction.queued_bytes += args.byte_len();
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
        let mut slots = SlotSet::new();
        for (slot, _) in &tokens {
            slots.insert(*slot);
        }
        self.start_in_background(TaskKind::Unwatch { tokens }, Footprint::Slots(slots));
    }
}
