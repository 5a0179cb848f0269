//! What reaches a shard from the others, and what its units of work leave to be handed out.
//!
//! Two entries. [`Local::drain_links`] takes what has come by the links: commands for slots that are at home here, replies for clients of this
//! shard, slots and what the protocol of loans says, visits. [`Local::post`] puts what came of running onto the links and hands out what
//! has ended; to be called when the client that was at work is back in its place.
//!
//! A transaction whose commands ask other shards is run here from one of them to the next: the unit is *held*, and each step may have
//! something to be posted.

use super::asynchronous::run_asynchronous;
use super::literal::Context;
use super::local::{Envelope, Local, LocalHandle};
use super::registry::CommandId;
use super::route::REPLY_TO_WRITE;
use crate::client::Client;
use crate::resp::ReplyBuf;
use crate::shard::link::{CommandHeader, Frame, ReplyHeader, Take};
use crate::shard::{ConnRef, ShardId, Ticket, Verdict};

/// What arrives by the links of a shard, on its way to it.
struct Intake<'a>(&'a mut Local);

impl Take<Envelope> for Intake<'_> {
    #[inline]
    fn foresee(&mut self, header: &CommandHeader, arguments: &[u8]) {
        let Local {
            foreseen,
            registry,
            env,
            ..
        } = &mut *self.0;
        foreseen.note_shipped(env.seed, registry.get(header.command).single_key, header, arguments);
    }

    #[inline]
    fn take(&mut self, from: ShardId, frame: Frame<'_, Envelope>) {
        match frame {
            Frame::Command { header, arguments } => {
                self.0.foreseen.ask_noted(&self.0.core);
                self.0.run_shipped(from, header, arguments);
                self.0.post();
            }
            Frame::Reply { header, resp } => self.0.answer_shipped(header, resp),
            Frame::Message(envelope) => self.0.open(from, envelope),
            Frame::Clock(now) => self.0.env.hear(now),
        }
    }
}

impl Local {
    /// Handles all that has come from other shards. Returns how much that was.
    pub(super) fn drain_links(&mut self) -> usize {
        let mut inbound = self.inbound.take().expect("links are drained by one caller at a time");
        let count = inbound.drain_into(Intake(self));
        self.foreseen.clear();
        self.outbound.owe_wakes(inbound.relieved());
        self.inbound = Some(inbound);
        count
    }

    fn open(&mut self, from: ShardId, envelope: Envelope) {
        match envelope {
            Envelope::Shard(message) => {
                self.core.handle(from, message, &mut self.env, &mut self.outbox);
                self.post();
            }
            Envelope::Visit(visit) => {
                self.env.begin_unit();
                visit(self);
                self.env.tick();
            }
            Envelope::Command(command) => {
                self.run_shipped_whole(from, command.0, command.1);
                self.post();
            }
            Envelope::Adopt(socket) => self.adopted.push(socket),
            Envelope::Slow { place, entries } => self.log_slow(place, entries),
            Envelope::Announcement(announcement) => self.mailbox.take_in(announcement),
        }
    }

    fn answer_shipped(&mut self, header: ReplyHeader, resp: &[u8]) {
        self.end_write(header.flags & REPLY_TO_WRITE != 0);
        let place = ConnRef {
            shard: self.env.shard,
            index: header.connection,
            generation: header.generation,
        };
        let Some(client) = self.clients.get(place) else { return };
        let Client { pending, out, .. } = &mut **client;
        pending.answer(header.sequence, out, |buffer| buffer.push(resp));
        self.upkeep.under_way.count_output(client);
        self.clients.answered(place.index);
    }

    /// Sends what the shard wants sent, and hands out what it has finished.
    pub(super) fn post(&mut self) {
        while !self.outbox.is_empty() {
            self.post_messages();
            for (ticket, origin) in std::mem::take(&mut self.outbox.held) {
                let handle = self.handle();
                self.executor.spawn(Box::pin(run_transaction(handle, ticket, origin)));
            }
            for (origin, task) in std::mem::take(&mut self.outbox.finished) {
                self.finish(origin, *task);
            }
        }
    }
}

/// Runs a transaction that holds its slots and has commands that ask other shards.
async fn run_transaction(local: LocalHandle, ticket: Ticket, origin: ConnRef) {
    loop {
        // Everything up to the next asynchronous command, in one go.
        let next: Option<(CommandId, Context)> = local.with(|shard| {
            let mut next = None;
            let Local { core, env, outbox, .. } = shard;
            let mut asynchronous = None;
            core.continue_held(
                ticket,
                |task, view, env| task.run_until_asynchronous(view, env, &mut asynchronous),
                env,
                outbox,
            );
            shard.post();
            if let Some((id, arguments, session)) = asynchronous {
                let command = shard.registry.get(id).command;
                next = Some((
                    id,
                    Context {
                        shard: shard.handle().0,
                        arguments,
                        session,
                        output: ReplyBuf::default(),
                        place: origin,
                        is_nested: true,
                        command,
                    },
                ));
            }
            next
        });
        let Some((id, context)) = next else { return };
        let context = run_asynchronous(id, context).await;
        let Context {
            session, mut output, ..
        } = context;
        local.with(|shard| {
            let Local { core, env, outbox, .. } = shard;
            core.continue_held(
                ticket,
                |task, _, _| {
                    task.take_asynchronous(session, &mut output);
                    Verdict::Hold
                },
                env,
                outbox,
            );
        });
    }
}
