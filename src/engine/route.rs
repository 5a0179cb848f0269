//! Where a command over keys runs, and how its reply finds the way back.
//!
//! Over the request's own bytes, if its slots are at home here and free; as bytes in the link to its home, if it has one slot, and that is
//! at home elsewhere; as a unit of work (`Task`) else. Order within a connection is kept here: a command on a single slot may start while
//! earlier ones of the same kind are still under way on other shards; every other command waits until all before it are answered, and what
//! comes after it waits for its answer (`pipeline-order strict` makes the first kind wait as well, unless it goes to the same shard as those
//! under way).

use super::attempt::Attempt;
use super::delivery::keep_reply;
use super::env::{Ended, Observation};
use super::exec::ExecStep;
use super::gates::{Refusal, any_writes, let_in_shipped, writes};
use super::literal::{Caller, Control, Registered, Run};
use super::local::{Envelope, Local};
use super::receipts::KeptReply;
use super::run::{Outcome, give_up, run_keys};
use super::saves::cut_has_run;
use super::serve::end_unit;
use super::task::{Task, TaskKind};
use super::tracked::tracker_of;
use super::unblock;
use crate::base::limits::REQUEST_ARGS_KEPT_MAX;
use crate::base::slot::key_slot;
use crate::client::{Client, ReplyMode, Stall};
use crate::config::PipelineOrder;
use crate::resp::{Args, Mark, OwnedArgs, Proto, Reply, ReplyBuf, ReplyError, error};
use crate::shard::durable::Need;
use crate::shard::link::{CommandHeader, ReplyHeader};
use crate::shard::{ConnRef, Footprint, Route, ShardId, Unit};
use crate::spec::Flags;
use crate::store::DbIndex;

/// A command's bytes beyond which it goes to another shard as an object of its own instead of a copy in the link's ring.
const SHIPPED_BYTES_MAX: usize = 16 * 1024;

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It was answered, or will be; go on with the next one.
    Go,
    /// It has begun, and nothing else may before it is answered.
    Started,
    /// It has not begun; try again later.
    Wait(Stall),
}

/// [`ReplyHeader::flags`]: the command was one that writes.
pub(super) const REPLY_TO_WRITE: u16 = 1;
/// It waits for the pass of the sender that it left with.
const REPLY_NEEDS_PASS: u16 = 2;
/// It waits for what some shard had numbered before.
const REPLY_NEEDS_ALL: u16 = 4;

const CALLER_RESP3: u16 = 1;
const CALLER_LEAVES_CLOCKS: u16 = 2;
const CALLER_IS_LOCAL: u16 = 4;
const CALLER_WRITES: u16 = 8;
const CALLER_IS_SILENT: u16 = 16;
const CALLER_CACHES: u16 = 32;

impl Local {
    /// Runs a command over slots, or has it run, or puts it off.
    #[inline]
    pub(super) fn run_over_slots(&mut self, client: &mut Client, found: &'static Registered, args: Args) -> Flow {
        if let Some(position) = found.single_key {
            let key = &args[position];
            let slot = self.foreseen.take_slot(key).unwrap_or_else(|| key_slot(key));
            let owner = self.core.owner(slot);
            if owner == self.env.shard {
                return self.run_here(client, found, args, &[slot], Some((key, slot)));
            }
            return self.ship(client, found, args, slot, owner);
        }
        let footprint = match found.command.run.footprint(found.command, args) {
            Some(Ok(footprint)) => footprint,
            Some(Err(error)) => {
                self.fail_now(client, found, &error);
                return Flow::Go;
            }
            None => unreachable!("commands over slots have a footprint"),
        };
        // What may wait is a unit of its own: it owns its arguments, and nothing of its client overtakes it.
        if found.command.flags.contains(Flags::BLOCKING) {
            if !client.pending.is_empty() {
                return Flow::Wait(Stall::Barrier);
            }
            let task = Task::new(client, found, TaskKind::Command { args: args.to_owned() });
            return self.start(client, task, footprint);
        }
        // What may reach further is a command on a single slot by chance only, and overtakes nothing.
        if let Footprint::Slots(slots) = &footprint
            && let [slot] = *slots.as_slice()
            && !found.command.run.may_reach_further()
        {
            let owner = self.core.owner(slot);
            if owner == self.env.shard {
                return self.run_among(client, found, args, &[slot]);
            }
            return self.ship(client, found, args, slot, owner);
        }
        // What has no keys may start where those before it wait for deliveries only.
        let may_start = match &footprint {
            Footprint::Slots(slots) if slots.is_empty() => !client.has_commands_to_run(),
            _ => client.pending.is_empty(),
        };
        if !may_start {
            return Flow::Wait(Stall::Barrier);
        }
        if let (Footprint::Slots(slots), Route::Here) = (&footprint, self.core.route(&footprint)) {
            let slots = slots.clone();
            let db = DbIndex(client.session.db);
            self.foreseen.ask_keys(&self.core, self.env.seed, found, args, db);
            return self.run_among(client, found, args, slots.as_slice());
        }
        let task = Task::new(client, found, TaskKind::Command { args: args.to_owned() });
        self.start(client, task, footprint)
    }

    /// As [`Local::run_here`], for a command whose slots are not just that of its only key.
    #[inline(never)]
    fn run_among(&mut self, client: &mut Client, found: &'static Registered, args: Args, slots: &[u16]) -> Flow {
        let is_script = matches!(found.command.run, Run::Script(_));
        if !slots.is_empty() {
            return self.run_here(client, found, args, slots, None);
        }
        let mark = client.reply_buffer().mark();
        let flow = self.run_here(client, found, args, slots, None);
        if let Some(owed) = self.env.take_receipt() {
            // To how many it went is known when all have it.
            let reply = client.reply_buffer().split_off(mark);
            let is_silent = client.is_silent();
            let sequence = client.pending.reserve(is_silent, args.byte_len());
            client.undelivered += 1;
            let kept = KeptReply {
                reply: is_script.then_some(reply),
                ..KeptReply::of_deliveries(client.place, sequence)
            };
            self.awaited.keep(owed.id, kept);
        }
        flow
    }

    /// Runs a command whose slots are at home here.
    #[inline(always)]
    fn run_here(
        &mut self,
        client: &mut Client,
        found: &'static Registered,
        args: Args,
        slots: &[u16],
        first: Option<(&[u8], u16)>,
    ) -> Flow {
        if !client.pending.is_empty() {
            if self.is_strict() && client.pending_home != Some(self.env.shard) {
                return Flow::Wait(Stall::Barrier);
            }
            if client.pending.is_full() {
                return Flow::Wait(Stall::Full);
            }
        }
        self.env.begin_unit();
        let caller = Caller::of(&client.session);
        let Some(mut view) = self.core.try_view(slots, client.place) else {
            if let [slot] = *slots
                && !found.command.run.may_reach_further()
            {
                return self.start_single(client, found, args, slot);
            }
            if !client.pending.is_empty() {
                // It has no keys, and the whole keyspace is lent.
                return Flow::Wait(Stall::Barrier);
            }
            let task = Task::new(client, found, TaskKind::Command { args: args.to_owned() });
            let footprint = Footprint::Slots(slots.iter().copied().collect());
            return self.start(client, task, footprint);
        };
        let mut attempt = Attempt::default();
        let buffer = if client.pending.is_empty() {
            &mut client.out
        } else {
            client.pending.tail()
        };
        let mark = buffer.mark();
        let is_script = matches!(found.command.run, Run::Script(_));
        if is_script {
            self.env.lobby.take_in(&mut self.clients);
        }
        let outcome = run_keys(
            found,
            args,
            &caller,
            first,
            &mut view,
            &mut attempt,
            &mut self.env,
            buffer,
        );
        if is_script {
            self.env.lobby.give_back(&mut self.clients);
        }
        match outcome {
            Outcome::Ran => {
                let ended = Ended {
                    origin: client.place,
                    command: found.id,
                    db: caller.db,
                    what: Observation::Ran(args),
                };
                end_unit(&mut self.env, &mut attempt, &mut view, ended);
                if self.env.promises.hold() {
                    client.needs(self.env.promises.of_unit());
                }
                if self.env.has_receipt() && !slots.is_empty() {
                    self.owe(client, mark, args.byte_len());
                }
                Flow::Go
            }
            Outcome::Lacking => {
                // It found out late what it needs. A view of its own slots has changed nothing yet: handlers look for
                // slots before they change any, and those that cannot run as tasks, with an undo.
                give_up(&mut attempt, &mut view, &mut self.env);
                if !client.pending.is_empty() {
                    return Flow::Wait(Stall::Barrier);
                }
                let task = Task::new(client, found, TaskKind::Command { args: args.to_owned() });
                let mut footprint = Footprint::Slots(slots.iter().copied().collect());
                footprint.merge(&attempt.into_footprint());
                self.start(client, task, footprint)
            }
            Outcome::Parked { .. } => unreachable!("what may wait runs as a task"),
        }
    }

    /// Keeps the reply that was written from `mark` on until others have heard of what the command has done.
    #[cold]
    fn owe(&mut self, client: &mut Client, mark: Mark, command_bytes: usize) {
        let Some(owed) = self.env.take_receipt() else { return };
        let reply = client.reply_buffer().split_off(mark);
        let sequence = client.pending.reserve(client.is_silent(), command_bytes);
        client.undelivered += 1;
        self.awaited
            .keep(owed.id, KeptReply::of_reply(client.place, sequence, reply));
    }

    /// Sends a command on one slot to the slot's home.
    #[inline]
    fn ship(&mut self, client: &mut Client, found: &'static Registered, args: Args, slot: u16, home: ShardId) -> Flow {
        if !client.pending.is_empty() {
            if self.is_strict() && client.pending_home != Some(home) {
                return Flow::Wait(Stall::Barrier);
            }
            if client.pending.is_full() {
                return Flow::Wait(Stall::Full);
            }
        }
        if !self.outbound.has_room(home) {
            self.clients.wait_for_room(client.place);
            return Flow::Wait(Stall::Link);
        }
        let bytes = args.byte_len();
        let is_write = writes(found.command);
        let sequence = self.reserve_single(client, home, bytes, is_write);
        let session = &client.session;
        let flag = |is_set: bool, bit: u16| if is_set { bit } else { 0 };
        let header = CommandHeader {
            connection: client.place.index,
            generation: client.place.generation,
            sequence,
            db: session.db,
            slot,
            command: found.id,
            flags: flag(session.proto == Proto::Resp3, CALLER_RESP3)
                | flag(session.leaves_clocks, CALLER_LEAVES_CLOCKS)
                | flag(session.is_local, CALLER_IS_LOCAL)
                | flag(is_write, CALLER_WRITES)
                | flag(client.is_silent(), CALLER_IS_SILENT)
                | flag(Caller::tracker(session).is_some(), CALLER_CACHES),
            protocol: 0,
        };
        self.env.stats.counts.hops += 1;
        if bytes > SHIPPED_BYTES_MAX {
            let command = Box::new((header, args.to_owned()));
            self.link().message(home, Envelope::Command(command));
        } else {
            self.link().command(home, &header, |frame| args.encode_append(frame));
        }
        Flow::Go
    }

    /// A place for the reply of a command on a single slot that is run later, at `home`.
    #[inline]
    fn reserve_single(&mut self, client: &mut Client, home: ShardId, bytes: usize, is_write: bool) -> u32 {
        let is_alone = client.pending.is_empty() || client.pending_home == Some(home);
        client.pending_home = is_alone.then_some(home);
        self.writes_under_way += usize::from(is_write);
        let is_silent = client.is_silent();
        client.pending.reserve(is_silent, bytes)
    }

    /// Runs a command that another shard has shipped here, from the bytes in the link.
    pub(super) fn run_shipped(&mut self, from: ShardId, header: CommandHeader, arguments: &[u8]) {
        let mut spans = std::mem::take(&mut self.spans);
        let args = Args::decode(arguments, &mut spans);
        if let Err(footprint) = self.run_shipped_args(from, &header, args) {
            let args = args.to_owned();
            self.start_shipped(from, &header, args, footprint);
        }
        spans.clear();
        spans.shrink_to(REQUEST_ARGS_KEPT_MAX);
        self.spans = spans;
    }

    /// The same for one that came as a whole.
    pub(super) fn run_shipped_whole(&mut self, from: ShardId, header: CommandHeader, args: OwnedArgs) {
        if let Err(footprint) = self.run_shipped_args(from, &header, args.as_args()) {
            self.start_shipped(from, &header, args, footprint);
        }
    }

    /// Runs it if its slot is free; the error is what it needs.
    #[inline]
    fn run_shipped_args(&mut self, from: ShardId, header: &CommandHeader, args: Args) -> Result<(), Footprint> {
        let place = origin_of(from, header);
        let caller = caller_of(from, header);
        let found = self.registry.get(header.command);
        // The memory is used here.
        let refusal = let_in_shipped(self, found, args).err();
        self.env.begin_unit();
        let first = found.single_key.map(|position| (&args[position], header.slot));
        let mut reply = std::mem::take(&mut self.scratch);
        let mut footprint = Footprint::one(header.slot);
        let mut waits = 0;
        let view = match &refusal {
            None => self.core.try_view(&[header.slot], place),
            Some(_) => None,
        };
        let is_done = match (view, &refusal) {
            (None, Some(Refusal::Error(error))) => {
                self.env.stats.count_rejection(found.id);
                self.env.stats.count_error(error);
                Reply::new(&mut reply, caller.proto).error(error);
                true
            }
            (Some(mut view), _) => {
                let mut attempt = Attempt::default();
                let outcome = run_keys(
                    found,
                    args,
                    &caller,
                    first,
                    &mut view,
                    &mut attempt,
                    &mut self.env,
                    &mut reply,
                );
                if outcome == Outcome::Ran {
                    let ended = Ended {
                        origin: place,
                        command: found.id,
                        db: caller.db,
                        what: Observation::Ran(args),
                    };
                    end_unit(&mut self.env, &mut attempt, &mut view, ended);
                    if self.env.promises.hold() {
                        waits = self.waiting_flags();
                    }
                } else {
                    self.env.hand_on_expiries(&mut attempt);
                    footprint.merge(&attempt.into_footprint());
                }
                outcome == Outcome::Ran
            }
            // Its slot is lent.
            (None, _) => false,
        };
        if is_done {
            if self.env.stats.has_slow_entries() {
                let entries = self.env.stats.take_slow_entries();
                self.link().message(from, Envelope::Slow { place, entries });
            }
            let CommandHeader {
                connection,
                generation,
                sequence,
                flags,
                ..
            } = *header;
            let flags = waits | if flags & CALLER_WRITES != 0 { REPLY_TO_WRITE } else { 0 };
            let header = ReplyHeader {
                connection,
                generation,
                sequence,
                flags,
            };
            match self.env.take_receipt() {
                None => self.send_reply(from, header, &reply),
                Some(owed) => {
                    let kept = Box::new((owed.id, header, reply.take()));
                    self.link().message(from, Envelope::Kept(kept));
                }
            }
        }
        reply.clear();
        self.scratch = reply;
        if is_done { Ok(()) } else { Err(footprint) }
    }

    /// What the reply to the unit that has just ended says of what it waits for.
    #[cold]
    fn waiting_flags(&mut self) -> u16 {
        match self.env.promises.of_unit() {
            // It is above all that there was.
            need if need.has_own() => REPLY_NEEDS_PASS,
            need if need.is_met(self.env.durable().prefix()) => 0,
            _ => REPLY_NEEDS_ALL,
        }
    }

    /// What a reply waits for that has come from there with these flags: at least what its command needs, since numbers only grow.
    #[inline]
    pub(super) fn need_of_flags(&self, from: ShardId, flags: u16) -> Need {
        match flags & (REPLY_NEEDS_PASS | REPLY_NEEDS_ALL) {
            0 => Need::NONE,
            REPLY_NEEDS_PASS => Need::of(self.env.durable().last_number(from)),
            _ => Need::of(self.env.durable().last_of_all()),
        }
    }

    /// Makes a unit of work of a command that was shipped here and has to wait.
    fn start_shipped(&mut self, from: ShardId, header: &CommandHeader, args: OwnedArgs, footprint: Footprint) {
        let origin = origin_of(from, header);
        let found = Some(self.registry.get(header.command));
        let work = Box::new(Task {
            sequence: header.sequence,
            is_write: header.flags & CALLER_WRITES != 0,
            ..Task::of(origin, found, caller_of(from, header), TaskKind::Command { args })
        });
        let unit = Unit {
            work,
            footprint,
            origin,
            ticket: None,
        };
        self.on_core(|core, env, outbox| core.submit(unit, env, outbox));
    }

    /// Sends a reply back to the shard of its connection: small ones as bytes in the link.
    fn send_reply(&mut self, to: ShardId, header: ReplyHeader, reply: &ReplyBuf) {
        self.link().reply(to, &header, |frame| {
            for segment in reply.segments() {
                frame.extend_from_slice(segment);
            }
        });
    }

    /// Starts a command on a single slot of this shard, which is lent: later commands need not wait for it.
    fn start_single(&mut self, client: &mut Client, found: &'static Registered, args: Args, slot: u16) -> Flow {
        let mut task = Task::new(client, found, TaskKind::Command { args: args.to_owned() });
        task.is_write = writes(found.command);
        task.sequence = self.reserve_single(client, self.env.shard, args.byte_len(), task.is_write);
        self.submit(client.place, task, Footprint::one(slot));
        Flow::Go
    }

    /// Starts a task that nothing of the same client may overtake.
    pub(super) fn start(&mut self, client: &mut Client, mut task: Box<Task>, footprint: Footprint) -> Flow {
        debug_assert!(client.pending.is_empty());
        task.is_write = match &task.kind {
            TaskKind::Command { .. } => task.found.is_some_and(|found| writes(found.command)),
            TaskKind::Exec(step) => any_writes(self.registry, &step.queue),
            _ => false,
        };
        self.writes_under_way += usize::from(task.is_write);
        task.sequence = client.pending.reserve(client.is_silent(), task.memory_bytes());
        client.stall = Stall::Underway;
        self.submit(client.place, task, footprint);
        Flow::Started
    }

    fn submit(&mut self, origin: ConnRef, task: Box<Task>, footprint: Footprint) {
        let runs_in_steps = matches!(&task.kind, TaskKind::Exec(step) if step.asks_other_shards);
        let unit = Unit {
            work: task,
            footprint,
            origin,
            ticket: None,
        };
        if runs_in_steps {
            // Its asynchronous commands are tasks of this shard's executor.
            self.on_core(|core, env, outbox| core.submit(unit, env, outbox));
        } else {
            self.on_core(|core, env, outbox| core.dispatch(unit, env, outbox));
        }
        // What has finished already is handed out when the client is back in its place; what is for others goes before all that
        // this client sends next.
        self.post_messages();
    }

    /// A unit of work of one of this shard's clients has been run.
    pub(super) fn finish(&mut self, origin: ConnRef, task: Task) {
        let Task {
            sequence,
            found,
            mut reply,
            kind,
            slow_entries,
            is_write,
            need,
            ran_on,
            receipt,
            parked,
            then,
            ..
        } = task;
        self.end_write(is_write);
        if let Some(then) = then {
            then();
        }
        if !slow_entries.is_empty() {
            self.log_slow(origin, slow_entries);
        }
        let kind = match kind {
            TaskKind::Cut { plan, is_made } => return cut_has_run(self, plan, is_made),
            kind => kind,
        };
        // Whoever waits has seen that there was nothing, whatever ends that.
        if need != Need::NONE {
            let is_own = ran_on == self.env.shard;
            let need = match is_own {
                true => need,
                false => need.resolved(self.env.durable().last_number(ran_on)),
            };
            if let Some(client) = self.clients.get(origin) {
                client.needs(need);
            }
        }
        if let Some(wait) = parked {
            return unblock::block(self, sequence, wait);
        }
        let Some(client) = self.clients.get(origin) else {
            // Its watches must not stay behind, nor what it listens to.
            match kind {
                TaskKind::Watch { tokens, .. } => self.forget_watches(tokens),
                TaskKind::Exec(mut step) => self.env.stop_listening(&mut step.session),
                _ => {}
            }
            if let Some(owed) = receipt {
                keep_reply(self, owed.id, KeptReply::of_deliveries(origin, sequence));
            }
            return;
        };
        let Client {
            pending, out, watched, ..
        } = &mut **client;
        let is_script = found.is_some_and(|found| matches!(found.command.run, Run::Script(_)));
        let is_counted =
            matches!(kind, TaskKind::Command { .. }) && !is_script && receipt.is_some_and(|owed| owed.counts);
        if receipt.is_none() {
            pending.answer(sequence, out, |buffer| buffer.append(&mut reply));
        }
        match kind {
            TaskKind::Watch { tokens, .. } => watched.extend(tokens),
            TaskKind::Exec(step) => {
                let ExecStep { session, .. } = *step;
                self.clients.take_session_back(origin, session);
            }
            _ => {}
        }
        if let Some(owed) = receipt {
            let kept = KeptReply {
                reply: (!is_counted).then_some(reply),
                ..KeptReply::of_deliveries(origin, sequence)
            };
            return keep_reply(self, owed.id, kept);
        }
        self.clients.answered(origin.index);
    }

    fn is_strict(&self) -> bool {
        self.env.settings.pipeline_order == PipelineOrder::Strict
    }

    /// Refuses a request before it is run: an error, and a transaction that is being queued is aborted.
    pub(super) fn reject(
        &mut self,
        client: &mut Client,
        found: Option<&'static Registered>,
        error: &ReplyError,
    ) -> Flow {
        if let Some(found) = found {
            self.env.stats.count_rejection(found.id);
        }
        // An EXEC that is refused ends the transaction all the same, and says so.
        let ended = found
            .is_some_and(|found| matches!(found.command.run, Run::Transaction(Control::Exec)))
            .then(|| error::exec_aborted_because(error));
        if ended.is_some() {
            client.transaction = None;
            self.unwatch(client);
        }
        let error = ended.as_ref().unwrap_or(error);
        self.env.stats.count_error(error);
        if let Some(transaction) = &mut client.transaction {
            transaction.is_aborted = true;
        }
        let proto = client.session.proto;
        let silent = client.is_silent();
        if client.session.reply_mode == ReplyMode::SkipNext {
            client.session.reply_mode = ReplyMode::On;
        }
        if !silent {
            Reply::new(client.reply_buffer(), proto).error(error);
        }
        Flow::Go
    }

    /// Answers a command that was run and failed.
    pub(super) fn fail_now(&mut self, client: &mut Client, found: &'static Registered, error: &ReplyError) {
        self.env.stats.count_failure(found.id, 0);
        self.env.stats.count_error(error);
        let proto = client.session.proto;
        Reply::new(client.reply_buffer(), proto).error(error);
    }

    /// Answers a command that was run.
    pub(super) fn answer_now(
        &mut self,
        client: &mut Client,
        found: &'static Registered,
        write: impl FnOnce(&mut Reply<'_>),
    ) {
        self.env.stats.count_call(found.id, 0);
        let proto = client.session.proto;
        write(&mut Reply::new(client.reply_buffer(), proto));
    }
}

/// The connection of a command that was shipped from another shard.
fn origin_of(from: ShardId, header: &CommandHeader) -> ConnRef {
    ConnRef {
        shard: from,
        index: header.connection,
        generation: header.generation,
    }
}

/// Who has sent a command that was shipped from another shard.
fn caller_of(from: ShardId, header: &CommandHeader) -> Caller {
    Caller {
        db: DbIndex(header.db),
        proto: if header.flags & CALLER_RESP3 != 0 {
            Proto::Resp3
        } else {
            Proto::Resp2
        },
        leaves_clocks: header.flags & CALLER_LEAVES_CLOCKS != 0,
        is_local: header.flags & CALLER_IS_LOCAL != 0,
        is_nested: false,
        is_silent: header.flags & CALLER_IS_SILENT != 0,
        tracker: (header.flags & CALLER_CACHES != 0).then(|| tracker_of(origin_of(from, header))),
        is_script: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Command;
    use crate::engine::assembly::Assembly;
    use crate::engine::literal::{Op, Registry};
    use crate::spec::{KeyFlags, KeySpec, command};
    use std::sync::Arc;

    const KEYS: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyFlags::NONE)];

    /// Looks at its keys.
    fn touch(op: &mut Op) -> Result<(), ReplyError> {
        for key in op.args.range(1, op.args.len()).iter() {
            op.keys.slot(key)?;
        }
        op.reply.ok();
        Ok(())
    }

    /// Answers what it knows of its caller.
    fn tell_caller(op: &mut Op) -> Result<(), ReplyError> {
        let Caller {
            db,
            proto,
            leaves_clocks,
            is_local,
            is_nested,
            is_silent,
            tracker,
            is_script: _,
        } = op.caller;
        let text = format!("{db:?} {proto:?} {leaves_clocks} {is_local} {is_nested} {is_silent} {tracker:?}");
        op.reply.simple(&text);
        Ok(())
    }

    const COMMANDS: &[Command] = &[
        Command {
            arity: 2,
            keys: &[KeySpec::one(1, KeyFlags::NONE)],
            ..command("caller", Run::Keys(tell_caller))
        },
        Command {
            arity: 2,
            keys: &[KeySpec::one(1, KeyFlags::NONE)],
            ..command("touch", Run::Keys(touch))
        },
        Command {
            arity: -2,
            keys: KEYS,
            ..command("touch-all", Run::Keys(touch))
        },
        Command {
            arity: -2,
            keys: KEYS,
            ..command("reach", Run::Reaching(|_| None, touch))
        },
    ];

    /// Two shards with a client on each, and keys of both.
    struct Bed {
        assembly: Assembly,
        here: [String; 2],
        there: [String; 2],
    }

    impl Bed {
        fn new(order: PipelineOrder) -> Bed {
            let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
            let assembly = Assembly::new(registry, 2);
            let mut second = assembly.shards[1].borrow_mut();
            assert!(second.connect(0, 0, "127.0.0.1:3", "127.0.0.1:2", true));
            drop(second);
            for shard in &assembly.shards {
                let settings = &mut shard.borrow_mut().env.settings;
                Arc::make_mut(settings).pipeline_order = order;
            }
            Bed {
                here: [0, 1].map(|number| assembly.key_on(0, number)),
                there: [0, 1].map(|number| assembly.key_on(1, number)),
                assembly,
            }
        }

        fn send(&self, shard: usize, line: &str) {
            let line = format!("{line}\r\n");
            self.assembly.shards[shard].borrow_mut().receive(0, line.as_bytes());
        }

        fn drain(&self, shard: usize) {
            let mut shard = self.assembly.shards[shard].borrow_mut();
            shard.drain_links();
            shard.link().flush(|_| {});
        }

        /// Of the first shard's client: commands that are under way, why it does not go on, and bytes of replies that wait for earlier ones.
        fn state(&self) -> (usize, Stall, usize) {
            let mut shard = self.assembly.shards[0].borrow_mut();
            let client = shard.clients.at(0).expect("the client is there");
            (client.pending.unanswered(), client.stall, client.pending.kept_bytes())
        }

        fn settle(&self) -> String {
            for shard in [0, 1, 0, 1, 0, 1, 0, 1] {
                self.drain(shard);
            }
            let mut shard = self.assembly.shards[0].borrow_mut();
            let replies = shard.clients.at(0).expect("the client is there").out.take();
            String::from_utf8_lossy(&replies.to_contiguous()).into_owned()
        }
    }

    #[test]
    fn a_command_at_home_waits_for_one_elsewhere_only_under_strict_order() {
        for (order, state, replies) in [
            (PipelineOrder::Relaxed, (1, Stall::Not, 5), "+OK\r\n+OK\r\n"),
            (PipelineOrder::Strict, (1, Stall::Barrier, 0), "+OK\r\n"),
        ] {
            let bed = Bed::new(order);
            let Bed { here, there, .. } = &bed;
            bed.send(0, &format!("touch {}", there[0]));
            bed.send(0, &format!("touch {}", here[0]));
            assert_eq!(bed.state(), state);
            assert_eq!(bed.settle(), replies, "{order:?}");
        }
    }

    #[test]
    fn commands_for_the_same_shard_are_under_way_at_once() {
        for order in [PipelineOrder::Relaxed, PipelineOrder::Strict] {
            let bed = Bed::new(order);
            for key in [&bed.there[0], &bed.there[1], &bed.there[0]] {
                bed.send(0, &format!("touch {key}"));
            }
            assert_eq!(bed.state(), (3, Stall::Not, 0));
            assert_eq!(bed.settle(), "+OK\r\n".repeat(3));
            assert_eq!(bed.assembly.shards[0].borrow().env.stats.counts.hops, 3);
        }
    }

    #[test]
    fn a_command_knows_its_caller_wherever_it_runs() {
        let changes: [fn(&mut Client); 6] = [
            |_| {},
            |client| client.session.db = 3,
            |client| client.session.proto = Proto::Resp3,
            |client| client.session.leaves_clocks = true,
            |client| client.session.is_local = false,
            |client| client.session.tracking = Some(Arc::default()),
        ];
        let mut seen = Vec::new();
        for change in changes {
            let bed = Bed::new(PipelineOrder::Relaxed);
            let mut shard = bed.assembly.shards[0].borrow_mut();
            change(shard.clients.at(0).expect("the client is there"));
            drop(shard);
            let [here, there] = [&bed.here, &bed.there].map(|keys| {
                bed.send(0, &format!("caller {}", keys[0]));
                bed.settle()
            });
            assert_eq!(here, there);
            assert!(!seen.contains(&here), "each change is seen: {here}");
            seen.push(here);
        }
    }

    /// The slot of the first key is on its way to the other shard.
    #[test]
    fn what_waits_for_a_slot_stops_its_client_only_if_it_may_reach_further() {
        for (command, state) in [("touch", (1, Stall::Not, 0)), ("reach", (1, Stall::Underway, 0))] {
            let bed = Bed::new(PipelineOrder::Relaxed);
            let Bed { here, there, .. } = &bed;
            bed.send(1, &format!("touch-all {} {} {}", here[0], there[0], there[1]));
            bed.assembly.shards[1].borrow_mut().link().flush(|_| {});
            bed.drain(0);
            bed.send(0, &format!("{command} {}", here[0]));
            assert_eq!(bed.state(), state, "{command}");
            assert_eq!(bed.settle(), "+OK\r\n");
        }
    }
}
