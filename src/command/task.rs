//! Units of work as this server knows them: what the shards carry to where the slots are, and run there.
//!
//! A [`Task`] exists only where work cannot run at once in the handler of its request: its slots are lent, or lie on
//! several shards, or it is an EXEC. It owns all it needs: arguments, the session, and the reply it writes.
//!
//! Running it is one function for all ways to get here: [`run_keys`] runs a command over keys in any view, be it the
//! shard's own slots or loans; the dispatcher's direct path calls the same function.

use super::counted::{Counted, Expirations};
use super::effects::Effects;
use super::local::{Env, Observation};
use super::op::{Caller, Journal, Keyspace, Op};
use super::session_op::SessionOp;
use super::{CommandId, Registered, Run};
use crate::base::clock::UnixMs;
use crate::base::limits;
use crate::base::random::Random;
use crate::client::{Client, Queued, ReplyMode, Session};
use crate::resp::{Args, OwnedArgs, Proto, Reply, ReplyBuf};
use crate::shard::{ConnRef, ShardId, SlotMarks, Verdict, View, Work};
use crate::stats::SlowEntry;
use crate::store::{DbIndex, Slot, WatchToken};
use std::cell::Cell;

/// One unit of work.
pub struct Task {
    /// The place of its reply among the replies of its connection.
    pub sequence: u32,
    /// The connection that it came from.
    pub origin: ConnRef,
    /// The command that the client sent.
    pub command: CommandId,
    /// It counts in [`Local::writes_under_way`](super::Local).
    pub is_write: bool,
    pub caller: Caller,
    pub reply: ReplyBuf,
    /// Commands of it that took long, for the slow log of the client's shard.
    pub slow_entries: Vec<SlowEntry>,
    pub kind: TaskKind,
}

/// What a unit of work does.
pub enum TaskKind {
    /// One command over keys.
    Command { args: OwnedArgs },
    /// WATCH: notes the versions of keys.
    Watch {
        keys: OwnedArgs,
        tokens: Vec<(u16, WatchToken)>,
    },
    /// Forgets watched keys.
    Unwatch { tokens: Vec<(u16, WatchToken)> },
    /// A transaction.
    Exec(Box<ExecStep>),
}

/// A transaction, and how far it has got.
///
/// It may be run again from its beginning, with more slots, when one of its commands finds out late which slots it needs. Nothing of
/// the first attempt is seen then: `journal` takes the changes back and has what was to be counted, the session is the one
/// that the client had, the queue is as it was, and random numbers are the same ones. (Time is not: the second attempt sees what
/// others have done since, and must not be earlier than they were.)
pub struct ExecStep {
    pub queue: Vec<Queued>,
    pub watched: Vec<(u16, WatchToken)>,
    /// The session that its commands see and change; it goes back to the client.
    pub session: Session,
    /// It has commands that ask other shards, so it is run in steps, and time stands still at `now` across them. It holds
    /// everything if any of its commands may find out late what it needs: what has asked other shards cannot be taken back.
    pub asks_other_shards: bool,
    /// The next command to run.
    pub next_index: usize,
    journal: Journal,
    /// What it began with, if it may have to begin again.
    beginning: Option<Box<Beginning>>,
    now: UnixMs,
}

struct Beginning {
    session: Session,
    random: Random,
}

impl ExecStep {
    pub fn new(
        queue: Vec<Queued>,
        watched: Vec<(u16, WatchToken)>,
        asks_other_shards: bool,
        client: &Client,
    ) -> ExecStep {
        ExecStep {
            queue,
            watched,
            session: client.session.taken_along(),
            asks_other_shards,
            next_index: 0,
            journal: Journal::default(),
            beginning: None,
            now: UnixMs::EPOCH,
        }
    }
}

impl Task {
    /// A task of `client`; its place among the replies is taken when it is started.
    pub fn new(client: &Client, command: CommandId, kind: TaskKind) -> Task {
        Task {
            sequence: 0,
            origin: client.place,
            command,
            is_write: false,
            caller: Caller::of(&client.session),
            reply: ReplyBuf::default(),
            slow_entries: Vec::new(),
            kind,
        }
    }

    /// Bytes of what it carries.
    pub fn memory_bytes(&self) -> usize {
        match &self.kind {
            TaskKind::Command { args } | TaskKind::Watch { keys: args, .. } => args.memory_bytes(),
            TaskKind::Unwatch { .. } => 0,
            TaskKind::Exec(step) => step.queue.iter().map(|queued| queued.args.memory_bytes()).sum(),
        }
    }

    /// A task that no client waits for.
    pub fn in_background(shard: ShardId, kind: TaskKind) -> Task {
        let caller = Caller {
            db: DbIndex(0),
            proto: Proto::Resp2,
            leaves_clocks: true,
            is_local: true,
            is_nested: false,
            is_silent: false,
        };
        Task {
            sequence: 0,
            origin: ConnRef::background(shard),
            command: 0,
            is_write: false,
            caller,
            reply: ReplyBuf::default(),
            slow_entries: Vec::new(),
            kind,
        }
    }
}

impl Caller {
    pub fn of(session: &Session) -> Caller {
        Caller {
            db: DbIndex(session.db),
            proto: session.proto,
            leaves_clocks: session.leaves_clocks,
            is_local: session.is_local,
            is_nested: false,
            is_silent: session.reply_mode != ReplyMode::On,
        }
    }
}

/// Boxed, because it travels: from link to queue to link, a pointer each time.
impl Work<Slot> for Box<Task> {
    type Env = Env;

    fn run(&mut self, view: &mut View<'_, Slot>, env: &mut Env) -> Verdict {
        env.begin_unit();
        let others = env.stats.take_slow_entries();
        let verdict = self.run_kind(view, env);
        self.slow_entries.append(&mut env.stats.take_slow_entries());
        env.stats.put_slow_entries_back(others);
        verdict
    }
}

impl Task {
    fn run_kind(&mut self, view: &mut View<'_, Slot>, env: &mut Env) -> Verdict {
        match &mut self.kind {
            TaskKind::Command { args } => {
                let found = env.registry;
                let found = found.get(self.command);
                // A single command looks for its slots before it changes any of them, so nothing is ever taken back.
                let mut journal = Journal::default();
                let outcome = run_keys(
                    found,
                    args.as_args(),
                    &self.caller,
                    None,
                    view,
                    &mut journal,
                    env,
                    &mut self.reply,
                );
                let verdict = settle(outcome, &mut journal, view, env, &mut self.reply);
                if verdict == Verdict::Done {
                    env.observe(
                        self.origin,
                        self.command,
                        self.caller.db,
                        Observation::Ran(args.as_args()),
                    );
                }
                verdict
            }
            TaskKind::Watch { keys, tokens } => {
                tokens.clear();
                for key in keys.as_args().iter() {
                    let slot = crate::base::slot::key_slot(key);
                    let found = view
                        .slot(slot)
                        .expect("the slots of the watched keys are the unit's footprint");
                    tokens.push((slot, found.watch(self.caller.db, key, env.moment())));
                    if let Some(discarded) = found.take_discarded() {
                        env.garbage.absorb(*discarded);
                    }
                }
                env.stats.count_call(self.command, 0);
                env.observe(
                    self.origin,
                    self.command,
                    self.caller.db,
                    Observation::Watched(keys.as_args()),
                );
                Reply::new(&mut self.reply, self.caller.proto).ok();
                Verdict::Done
            }
            TaskKind::Unwatch { tokens } => {
                for (slot, token) in tokens.drain(..) {
                    view.slot(slot)
                        .expect("the slots of the watched keys are the unit's footprint")
                        .unwatch(token);
                }
                Verdict::Done
            }
            TaskKind::Exec(step) => {
                let began = env.tick();
                if !step.begin(view, env, &mut self.reply, self.caller.proto) {
                    let elapsed_us = env.tick().us_since(began);
                    env.stats.count_call(self.command, elapsed_us);
                    env.observe(self.origin, self.command, self.caller.db, Observation::Aborted);
                    return Verdict::Done;
                }
                if step.asks_other_shards {
                    step.now = env.now;
                    return Verdict::Hold;
                }
                if let Err(verdict) = step.run_all(view, env, &mut self.reply) {
                    return verdict;
                }
                step.finish(view, env);
                env.observe(self.origin, self.command, self.caller.db, Observation::Committed);
                let elapsed_us = env.tick().us_since(began);
                env.stats.count_call(self.command, elapsed_us);
                Verdict::Done
            }
        }
    }
}

impl ExecStep {
    /// Compares the watched keys and writes the head of the reply. False: a watched key has changed.
    fn begin(&mut self, view: &mut View<'_, Slot>, env: &mut Env, reply: &mut ReplyBuf, proto: Proto) -> bool {
        let moment = env.moment();
        let mut is_unchanged = true;
        for (slot, token) in &self.watched {
            let found = view
                .slot(*slot)
                .expect("the slots of the watched keys are in the footprint");
            is_unchanged &= found.is_unchanged(token, moment);
            if let Some(discarded) = found.take_discarded() {
                env.garbage.absorb(*discarded);
            }
        }
        let mut reply = Reply::new(reply, proto);
        if is_unchanged {
            reply.array(self.queue.len());
        } else {
            reply.null_array();
        }
        if !is_unchanged {
            self.forget_watches(view);
        }
        // Without such a command nothing is kept to be taken back: a copy of a large value would cost what the value does.
        // With everything on loan, nothing can be lacking.
        let reaches_further = |queued: &Queued| env.registry.get(queued.command).command.run.may_reach_further();
        if is_unchanged && !view.has_everything() && self.queue.iter().any(reaches_further) {
            self.journal.can_undo = true;
            self.beginning.get_or_insert_with(|| {
                Box::new(Beginning {
                    session: self.session.clone(),
                    random: env.random.fork(),
                })
            });
        }
        is_unchanged
    }

    /// Runs all commands; the error is the verdict on a unit that lacks slots, when everything has been taken back.
    fn run_all(&mut self, view: &mut View<'_, Slot>, env: &mut Env, reply: &mut ReplyBuf) -> Result<(), Verdict> {
        let others = self.beginning.as_deref().map(|beginning| {
            // The same random numbers in each attempt, or it might never find all its slots.
            std::mem::replace(&mut env.random, beginning.random.clone())
        });
        let mut is_whole = true;
        while is_whole && self.next_index < self.queue.len() {
            is_whole = self.run_next(view, env, reply);
        }
        if let Some(others) = others {
            env.random = others;
        }
        if is_whole {
            Ok(())
        } else {
            Err(self.start_over(view, env, reply))
        }
    }

    fn forget_watches(&mut self, view: &mut View<'_, Slot>) {
        for (slot, token) in self.watched.drain(..) {
            view.slot(slot)
                .expect("the slots of the watched keys are in the footprint")
                .unwatch(token);
        }
    }

    /// Whether the next command asks other shards.
    pub fn next_is_asynchronous(&self, env: &Env) -> bool {
        self.queue
            .get(self.next_index)
            .is_some_and(|queued| matches!(env.registry.get(queued.command).command.run, Run::Node(_)))
    }

    /// Runs the next command, which is not asynchronous. False: slots are lacking, and everything is taken back.
    pub fn run_next(&mut self, view: &mut View<'_, Slot>, env: &mut Env, reply: &mut ReplyBuf) -> bool {
        let registry = env.registry;
        let queued = &self.queue[self.next_index];
        let found = registry.get(queued.command);
        let args = queued.args.as_args();
        let counted = match found.command.run {
            Run::Session(_) => run_session(found, args, &mut self.session, true, env, reply),
            Run::Transaction(_) => {
                // Only UNWATCH is ever queued: EXEC has just dealt with the watched keys.
                Reply::new(reply, self.session.proto).ok();
                Counted::without_keys(found.id, 0, None)
            }
            _ => {
                let mut caller = Caller::of(&self.session);
                caller.is_nested = true;
                // What is silent is the reply to EXEC, and that was settled when it came.
                caller.is_silent = false;
                if run_keys(found, args, &caller, None, view, &mut self.journal, env, reply) == Outcome::Lacking {
                    return false;
                }
                self.next_index += 1;
                return true;
            }
        };
        if self.journal.can_undo {
            self.journal.defer(counted);
        } else {
            counted.count(&mut env.stats);
            env.note_slow(found, args, counted.elapsed_us);
        }
        self.next_index += 1;
        true
    }

    /// Ends the transaction: changes are final, watches are forgotten, what was put aside is counted.
    pub fn finish(&mut self, view: &mut View<'_, Slot>, env: &mut Env) {
        self.journal.commit(view, |detached| env.garbage.absorb(detached));
        self.forget_watches(view);
        // While things can be taken back, each command of the queue puts aside one count.
        for (counted, queued) in self.journal.take_deferred().into_iter().zip(&self.queue) {
            counted.count(&mut env.stats);
            env.note_slow(
                env.registry.get(queued.command),
                queued.args.as_args(),
                counted.elapsed_us,
            );
        }
    }

    fn start_over(&mut self, view: &mut View<'_, Slot>, env: &mut Env, reply: &mut ReplyBuf) -> Verdict {
        let beginning = self.beginning.as_deref();
        let beginning = beginning.expect("only what can be taken back was let find out late what it needs");
        self.session = beginning.session.clone();
        self.journal.roll_back(view, |detached| env.garbage.absorb(detached));
        self.next_index = 0;
        reply.clear();
        let lacking = std::mem::take(&mut self.journal);
        Verdict::Lacks(lacking.into_footprint())
    }
}

/// How the run of a command over keys ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It has replied, with an error or not.
    Ran,
    /// It needs more slots; its reply is gone, its changes are still to be taken back.
    Lacking,
}

fn settle(
    outcome: Outcome,
    journal: &mut Journal,
    view: &mut View<'_, Slot>,
    env: &mut Env,
    reply: &mut ReplyBuf,
) -> Verdict {
    match outcome {
        Outcome::Ran => {
            journal.commit(view, |detached| env.garbage.absorb(detached));
            Verdict::Done
        }
        Outcome::Lacking => {
            journal.roll_back(view, |detached| env.garbage.absorb(detached));
            reply.clear();
            Verdict::Lacks(std::mem::take(journal).into_footprint())
        }
    }
}

/// Runs one command over keys in `view` and appends its reply.
///
/// `first` is the first key with its slot, where the caller knows it.
#[allow(
    clippy::too_many_arguments,
    reason = "each is one thing that a run depends on; a struct would be taken apart at once"
)]
pub fn run_keys(
    found: &Registered,
    args: Args,
    caller: &Caller,
    first: Option<(&[u8], u16)>,
    view: &mut View<'_, Slot>,
    journal: &mut Journal,
    env: &mut Env,
    reply: &mut ReplyBuf,
) -> Outcome {
    let (Run::Keys(handler) | Run::Reaching(_, handler) | Run::Slots(_, handler) | Run::Everything(handler)) =
        found.command.run
    else {
        unreachable!("only commands over keys get here: {}", found.full_name);
    };
    let mark = reply.mark();
    let bytes_max = match caller.is_silent {
        true => reply.len() + limits::REPLY_SILENT_BYTES_MAX,
        false => env.reply_bytes_max,
    };
    let began = env.ticks;
    LAST_COMMAND.set(found.id);
    let moment = env.moment();
    let mut effects = Effects::default();
    if view.wants_effects() {
        effects.is_wanted = true;
        effects.is_spread = env.shards > 1 && is_spread(found, args, view);
    }
    let mut op = Op {
        args,
        reply: Reply::bounded(reply, caller.proto, bytes_max),
        keys: Keyspace::new(view, journal, caller, moment, first),
        effects: &mut effects,
        env,
        caller: *caller,
        command: found.command,
    };
    let result = handler(&mut op);
    let (hits, misses) = (op.keys.hits, op.keys.misses);
    if journal.is_lacking() {
        reply.truncate(mark);
        return Outcome::Lacking;
    }
    let mut expired = Expirations::default();
    let is_wanted = effects.is_wanted;
    journal
        .touched
        .for_each(|slot| clear_up(slot, view, env, is_wanted, &mut expired));
    let changes = effects.changes();
    if is_wanted {
        let first_slot = first.map(|(_, slot)| slot).or_else(|| journal.touched.iter().next());
        effects.log(view, caller.db, args, first_slot);
    }
    // The next command of the unit looks at its own slots only.
    journal.touched = SlotMarks::new();
    let elapsed_us = env.tick().us_since(began);
    let error = result.err();
    if let Some(error) = &error {
        reply.truncate(mark);
        Reply::new(reply, caller.proto).error(error);
    }
    let counted = Counted {
        id: found.id,
        elapsed_us,
        error,
        hits,
        misses,
        changes,
        expired,
    };
    if journal.can_undo {
        journal.defer(counted);
    } else {
        counted.count(&mut env.stats);
        env.note_slow(found, args, elapsed_us);
    }
    Outcome::Ran
}

/// Whether the keys of a call are at home on different shards.
fn is_spread(found: &Registered, args: Args, view: &View<'_, Slot>) -> bool {
    let mut owners = super::op::key_slots(found.command, args)
        .iter()
        .map(|slot| view.owner(slot))
        .collect::<Vec<_>>();
    owners.dedup();
    owners.len() > 1
}

/// Keys of a slot that expired while the command looked at them are deleted: counts them, and logs a DEL for each. What the unit has
/// removed or overwritten and takes long to free goes to the background.
#[inline]
fn clear_up(slot: u16, view: &mut View<'_, Slot>, env: &mut Env, is_wanted: bool, expirations: &mut Expirations) {
    if let Some(found) = view.slot(slot)
        && found.has_leavings()
    {
        take_leavings(slot, view, env, is_wanted, expirations);
    }
}

/// As [`clear_up`], for the few slots that have something.
#[cold]
fn take_leavings(slot: u16, view: &mut View<'_, Slot>, env: &mut Env, is_wanted: bool, expirations: &mut Expirations) {
    let Some(found) = view.slot(slot) else { return };
    if let Some(discarded) = found.take_discarded() {
        env.garbage.absorb(*discarded);
    }
    let expired = found.take_expired();
    expirations.add(&expired);
    if is_wanted && !expired.is_empty() {
        Effects::flush_expired(view, slot, &expired);
    }
}

/// Runs one command over the session and appends its reply. What comes back is still to be counted.
pub fn run_session(
    found: &Registered,
    args: Args,
    session: &mut Session,
    is_nested: bool,
    env: &mut Env,
    reply: &mut ReplyBuf,
) -> Counted {
    let Run::Session(handler) = found.command.run else {
        unreachable!("only commands over the session get here: {}", found.full_name);
    };
    let mark = reply.mark();
    let began = env.ticks;
    LAST_COMMAND.set(found.id);
    let proto = session.proto;
    let result = handler(&mut SessionOp {
        args,
        reply: Reply::new(reply, proto),
        session,
        env,
        is_nested,
        command: found.command,
    });
    let elapsed_us = env.tick().us_since(began);
    let error = result.err();
    if let Some(error) = &error {
        reply.truncate(mark);
        Reply::new(reply, proto).error(error);
    }
    Counted::without_keys(found.id, elapsed_us, error)
}

impl Task {
    /// Runs a held transaction up to its next asynchronous command, which is handed out, or to its end.
    pub(super) fn run_until_asynchronous(
        &mut self,
        view: &mut View<'_, Slot>,
        env: &mut Env,
        asynchronous: &mut Option<(CommandId, OwnedArgs, Session)>,
    ) -> Verdict {
        let TaskKind::Exec(step) = &mut self.kind else {
            unreachable!("only a transaction is ever held")
        };
        // Others have run since it began.
        let now = std::mem::replace(&mut env.now, step.now);
        while step.next_index < step.queue.len() {
            if step.next_is_asynchronous(env) {
                let queued = &step.queue[step.next_index];
                *asynchronous = Some((queued.command, queued.args.clone(), step.session.clone()));
                env.now = now;
                return Verdict::Hold;
            }
            let is_whole = step.run_next(view, env, &mut self.reply);
            assert!(
                is_whole,
                "a transaction that asks other shards holds all that it may need"
            );
        }
        step.finish(view, env);
        env.observe(self.origin, self.command, self.caller.db, Observation::Committed);
        env.now = now;
        env.stats.count_call(self.command, 0);
        Verdict::Done
    }

    /// Takes the reply and the session of the asynchronous command that has just run.
    pub(super) fn take_asynchronous(&mut self, session: Session, output: &mut ReplyBuf) {
        let TaskKind::Exec(step) = &mut self.kind else {
            unreachable!("only a transaction is ever held")
        };
        step.session = session;
        step.next_index += 1;
        self.reply.append(output);
    }
}

thread_local! {
    /// The number of the last command that this thread began, for the report of a crash.
    static LAST_COMMAND: Cell<CommandId> = const { Cell::new(CommandId::MAX) };
}

/// The last command that this thread began.
pub fn last_command() -> Option<CommandId> {
    Some(LAST_COMMAND.get()).filter(|&id| id != CommandId::MAX)
}
