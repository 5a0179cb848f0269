//! What reaches a shard from the others, and what its units of work leave to be handed out.
//!
//! Two entries. [`Local::drain_links`] takes what has come by the links: commands for slots that are at home here, replies for clients of this
//! shard, slots and what the protocol of loans says, visits. [`Local::post`] puts what came of running onto the links and hands out what
//! has ended; to be called when the client that was at work is back in its place.
//!
//! A transaction whose commands ask other shards is run here from one of them to the next: the unit is *held*, and each step may have
//! something to be posted.
//!
//! A command that goes in steps is held in the same way, and each step is background work ([`Local::step_held`]).

use super::asynchronous::run_asynchronous;
use super::delivery;
use super::env::Env;
use super::literal::Context;
use super::local::{Envelope, Local, LocalHandle};
use super::receipts::{KeptReply, ReceiptId};
use super::registry::CommandId;
use super::route::REPLY_TO_WRITE;
use super::task::Task;
use super::unblock;
use crate::client::Client;
use crate::resp::ReplyBuf;
use crate::shard::link::{CommandHeader, Frame, ReplyHeader, Take};
use crate::shard::{ConnRef, ShardId, Ticket, Verdict, View, Work};
use crate::store::Slot;

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
            Frame::Reply { header, resp } => self.0.answer_shipped(from, header, resp),
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
                self.on_core(|core, env, outbox| core.handle(from, message, env, outbox));
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
            Envelope::Slow { place, entries } => self.log_slow(place, entries),
            Envelope::Announcement(announcement) => self.env.mailbox.take_in(announcement),
            Envelope::Word(word) => delivery::take_word(self, word),
            Envelope::Kept(kept) => self.keep_shipped(from, *kept),
            Envelope::Served(answer) => unblock::take_answer(self, *answer),
        }
    }

    fn answer_shipped(&mut self, from: ShardId, header: ReplyHeader, resp: &[u8]) {
        self.end_write(header.flags & REPLY_TO_WRITE != 0);
        let place = ConnRef {
            shard: self.env.shard,
            index: header.connection,
            generation: header.generation,
        };
        let need = self.need_of_flags(from, header.flags);
        let Some(client) = self.clients.get(place) else { return };
        client.needs(need);
        let Client { pending, out, .. } = &mut **client;
        pending.answer(header.sequence, out, |buffer| buffer.push(resp));
        self.upkeep.under_way.count_output(client);
        self.clients.answered(place.index);
    }

    /// A command was run elsewhere that others are told of: its reply is kept until they have heard.
    fn keep_shipped(&mut self, from: ShardId, (id, header, reply): (ReceiptId, ReplyHeader, ReplyBuf)) {
        self.end_write(header.flags & REPLY_TO_WRITE != 0);
        let place = ConnRef {
            shard: self.env.shard,
            index: header.connection,
            generation: header.generation,
        };
        let need = self.need_of_flags(from, header.flags);
        if let Some(client) = self.clients.get(place) {
            client.needs(need);
        }
        delivery::keep_reply(self, id, KeptReply::of_reply(place, header.sequence, reply));
    }

    /// Makes a step of one of the commands that go in steps, if there is any.
    pub(super) fn step_held(&mut self) -> bool {
        let Some(ticket) = self.upkeep.held.pop_front() else {
            return false;
        };
        self.env.tick();
        let mut goes_on = false;
        self.on_core(|core, env, outbox| {
            let run = |task: &mut Box<Task>, view: &mut View<'_, Slot>, env: &mut Env| {
                let verdict = task.run(view, env);
                goes_on = task.goes_in_steps();
                verdict
            };
            core.continue_held(ticket, run, env, outbox);
        });
        if goes_on {
            self.upkeep.held.push_back(ticket);
        }
        self.post();
        self.upkeep.note_step(&mut self.env);
        true
    }

    /// Sends what the shard wants sent, and hands out what it has finished.
    pub(super) fn post(&mut self) {
        while !self.outbox.is_empty() || !self.env.waiting.is_empty() {
            if !self.env.waiting.is_empty() {
                unblock::hand_out(self);
            }
            self.post_messages();
            for (ticket, origin) in std::mem::take(&mut self.outbox.held) {
                if self.core.held(ticket).is_some_and(|task| task.goes_in_steps()) {
                    self.upkeep.held.push_back(ticket);
                    continue;
                }
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
            let mut asynchronous = None;
            shard.on_core(|core, env, outbox| {
                let run = |task: &mut Box<Task>, view: &mut View<'_, Slot>, env: &mut Env| {
                    task.run_until_asynchronous(view, env, &mut asynchronous)
                };
                core.continue_held(ticket, run, env, outbox);
            });
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
                |task, _, env| {
                    task.take_asynchronous(session, &mut output, env.shows_commands());
                    Verdict::Hold
                },
                env,
                outbox,
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Ms, UnixMs};
    use crate::engine::assembly::Assembly;
    use crate::engine::{Command, Op, Registry, Run};
    use crate::resp::ReplyError;
    use crate::spec::{KeyFlags, KeySpec, command};

    /// Pauses three times, and answers how much time has passed for it since the first.
    fn in_steps(op: &mut Op) -> Result<(), ReplyError> {
        op.keys.slot(op.args.at(1))?;
        let now = op.keys.moment.now;
        let (left, began) = op.resumed::<(usize, UnixMs)>().unwrap_or((3, now));
        if left > 0 && op.may_pause() {
            return Err(op.pause((left - 1, began)));
        }
        op.reply.integer((now - began).0 as i64);
        Ok(())
    }

    fn touch(op: &mut Op) -> Result<(), ReplyError> {
        op.keys.slot(op.args.at(1))?;
        op.reply.ok();
        Ok(())
    }

    const FIRST: &[KeySpec] = &[KeySpec::one(1, KeyFlags::RW)];

    const fn of_a_key(name: &'static str, run: Run) -> Command {
        Command {
            arity: 2,
            keys: FIRST,
            ..command(name, run)
        }
    }

    const COMMANDS: &[Command] = &[
        of_a_key("in-steps", Run::Keys(in_steps)),
        of_a_key("touch", Run::Keys(touch)),
    ];

    /// Two clients of the first shard.
    fn assembly(shards: usize) -> Assembly {
        let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
        let assembly = Assembly::new(registry, shards);
        let mut first = assembly.shards[0].borrow_mut();
        assert!(first.connect(1, 0, "127.0.0.1:3", "127.0.0.1:2", true));
        drop(first);
        assembly
    }

    fn answers(shard: &mut Local, client: u32) -> String {
        let Some(client) = shard.clients.at(client) else {
            return "gone".into();
        };
        String::from_utf8_lossy(&client.out.take().to_contiguous()).into_owned()
    }

    #[test]
    fn between_the_steps_of_a_command_others_run_but_not_on_its_slots() {
        let assembly = assembly(1);
        let mut shard = assembly.shards[0].borrow_mut();
        shard.receive(0, b"in-steps key\r\ntouch other\r\n");
        shard.receive(1, b"touch other\r\ntouch key\r\n");
        assert_eq!(answers(&mut shard, 0), "", "its client waits for it");
        assert_eq!(answers(&mut shard, 1), "+OK\r\n", "and who wants its slot");
        drop(shard);
        assembly.pass(Ms(1000));
        let mut shard = assembly.shards[0].borrow_mut();
        for _ in 0..2 {
            assert!(shard.background_step(), "each step is work in the background");
            assert!(answers(&mut shard, 0).is_empty() && answers(&mut shard, 1).is_empty());
        }
        assert!(shard.background_step());
        shard.resume_listed();
        assert_eq!(answers(&mut shard, 0), ":0\r\n+OK\r\n", "time has stood still for it");
        assert_eq!(answers(&mut shard, 1), "+OK\r\n");
        assert!(!shard.background_step() && shard.core.is_idle());
    }

    #[test]
    fn a_command_whose_client_has_gone_goes_on_to_its_end() {
        let assembly = assembly(1);
        let mut shard = assembly.shards[0].borrow_mut();
        shard.receive(0, b"in-steps key\r\n");
        assert!(shard.step_held());
        drop(shard.clients.remove(0));
        shard.receive(1, b"touch key\r\n");
        while shard.step_held() {}
        assert_eq!(answers(&mut shard, 1), "+OK\r\n");
        assert!(shard.core.is_idle());
    }

    #[test]
    fn commands_in_steps_take_turns_on_any_shard() {
        let assembly = assembly(2);
        let keys = [0, 1].map(|shard| assembly.key_on(shard, 0));
        for key in &keys {
            assert_eq!(assembly.run(&[b"in-steps", key.as_bytes()]), b":0\r\n");
        }
        assert_eq!(assembly.steps.take(), 6);
        let other = assembly.key_on(0, 1);
        let mut shard = assembly.shards[0].borrow_mut();
        shard.receive(0, format!("in-steps {other}\r\n").as_bytes());
        shard.receive(1, format!("in-steps {}\r\n", keys[0]).as_bytes());
        (0..5).for_each(|_| assert!(shard.step_held()));
        assert_eq!(
            (answers(&mut shard, 0), answers(&mut shard, 1)),
            (":0\r\n".into(), String::new())
        );
        assert!(shard.step_held() && !shard.step_held());
        assert_eq!(answers(&mut shard, 1), ":0\r\n");
    }
}
