//! Units of work as this server knows them: what the shards carry to where the slots are, and run there.
//!
//! A [`Task`] exists only where work cannot run at once in the handler of its request: its slots are lent, or lie on
//! several shards, or it is an EXEC. It owns all it needs: arguments, the session, and the reply it writes.
//!
//! Running it is one function for all ways to get here: [`run_keys`] runs a command over keys in any view, be it the
//! shard's own slots or loans; the dispatcher's direct path calls the same function.

use super::again::Again;
use super::attempt::{Attempt, Paused, Signal};
use super::blocked::Blocked;
use super::env::{Ended, Env, Observation, shown_arguments};
use super::exec::ExecStep;
use super::literal::{Caller, Command, Registered, Run};
use super::receipts::Owed;
use super::registry::CommandId;
use super::run::{Outcome, give_up, lacking_of_chains, run_keys};
use super::serve::{end_unit, serve};
use super::snapshot::Plan;
use super::streamed::Batch;
use super::waiting::Place;
use crate::base::clock::UnixMs;
use crate::base::slot::key_slot;
use crate::client::{Client, Session};
use crate::resp::{Args, OwnedArgs, Proto, Reply, ReplyBuf};
use crate::shard::durable::Need;
use crate::shard::{ConnRef, Footprint, ShardId, Verdict, View, Work};
use crate::spec::Flags;
use crate::stats::SlowEntry;
use crate::store::{DbIndex, Slot, WatchToken};
use std::sync::Arc;

/// One unit of work.
pub struct Task {
    /// The place of its reply among the replies of its connection.
    pub sequence: u32,
    /// The connection that it came from.
    pub origin: ConnRef,
    /// The command that the client sent; None: no client waits for it.
    pub found: Option<&'static Registered>,
    /// It counts in [`Local::writes_under_way`](super::Local).
    pub is_write: bool,
    pub caller: Caller,
    pub reply: ReplyBuf,
    /// Commands of it that took long, for the slow log of the client's shard.
    pub slow_entries: Vec<SlowEntry>,
    pub kind: TaskKind,
    /// It holds its slots between two steps.
    pub(super) steps: Option<Box<Steps>>,
    /// What it begins with again: a script.
    pub(super) again: Option<Box<Again>>,
    /// What its reply waits for: its own pass's number is that of the shard on which it ran.
    pub(super) need: Need,
    pub(super) ran_on: ShardId,
    /// Its reply waits until its messages are delivered.
    pub(super) receipt: Option<Owed>,
    /// Its command waits for keys.
    pub(super) parked: Option<Arc<Blocked>>,
    /// Called when it has run, by whoever has no client to be answered.
    pub(super) then: Option<Box<dyn FnOnce() + Send>>,
}

/// A command between two of its steps.
pub(super) struct Steps {
    paused: Paused,
    /// Time stands still for it.
    now: UnixMs,
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
    /// Takes away places in the queues of keys.
    EndWaits { places: Vec<Place> },
    /// Looks whether somebody waits for these keys who can be served.
    Serve { signals: Vec<Signal> },
    /// Applies what a master has sent.
    Stream(Box<Batch>),
    /// The cut of a snapshot, if that is not given up before.
    Cut { plan: Arc<Plan>, is_made: bool },
}

impl Task {
    /// A task of `client`; its place among the replies is taken when it is started.
    pub fn new(client: &Client, found: &'static Registered, kind: TaskKind) -> Box<Task> {
        let caller = Caller::of(&client.session);
        Box::new(Task::of(client.place, Some(found), caller, kind))
    }

    /// A task that has not run.
    pub(super) fn of(origin: ConnRef, found: Option<&'static Registered>, caller: Caller, kind: TaskKind) -> Task {
        Task {
            sequence: 0,
            origin,
            found,
            is_write: false,
            caller,
            reply: ReplyBuf::default(),
            slow_entries: Vec::new(),
            kind,
            steps: None,
            again: None,
            need: Need::NONE,
            ran_on: origin.shard,
            receipt: None,
            parked: None,
            then: None,
        }
    }

    /// The number of its command.
    fn id(&self) -> CommandId {
        self.found.map_or(0, |found| found.id)
    }

    /// Bytes of what it carries.
    pub fn memory_bytes(&self) -> usize {
        match &self.kind {
            TaskKind::Command { args } | TaskKind::Watch { keys: args, .. } => args.memory_bytes(),
            TaskKind::Unwatch { .. } | TaskKind::EndWaits { .. } | TaskKind::Serve { .. } | TaskKind::Cut { .. } => 0,
            TaskKind::Stream(batch) => batch.memory_bytes(),
            TaskKind::Exec(step) => step.queue.iter().map(|queued| queued.args.memory_bytes()).sum(),
        }
    }

    /// What it takes to look at the keys of these signals.
    pub(super) fn footprint_of_signals(signals: &[Signal]) -> Footprint {
        let keys: Option<Vec<&[u8]>> = signals.iter().map(Signal::key).collect();
        match keys {
            Some(keys) => Footprint::Slots(keys.into_iter().map(key_slot).collect()),
            None => Footprint::Everything,
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
            tracker: None,
            is_script: false,
        };
        Task::of(ConnRef::background(shard), None, caller, kind)
    }
}

/// Boxed, because it travels: from link to queue to link, a pointer each time.
impl Work<Slot> for Box<Task> {
    type Env = Env;

    fn run(&mut self, view: &mut View<'_, Slot>, env: &mut Env) -> Verdict {
        env.begin_unit();
        let others = env.stats.take_slow_entries();
        let verdict = self.run_kind(view, env);
        self.note_need(env);
        self.slow_entries.append(&mut env.stats.take_slow_entries());
        env.stats.put_slow_entries_back(others);
        verdict
    }
}

impl Task {
    fn run_kind(&mut self, view: &mut View<'_, Slot>, env: &mut Env) -> Verdict {
        let id = self.id();
        match &mut self.kind {
            TaskKind::Command { args } => {
                let found = self.found.expect("a command was found before it became a unit of work");
                // A single command looks for its slots before it changes any of them, so nothing is ever taken back.
                let mut attempt = Attempt::default();
                attempt.may_park = found.command.flags.contains(Flags::BLOCKING) && !env.is_replaying;
                let (began, now) = (env.ticks, env.now);
                if let Some(steps) = self.steps.take() {
                    attempt.resume(steps.paused);
                    env.now = steps.now;
                }
                // The same random numbers in each attempt, or it might never find all its slots.
                let is_script = matches!(found.command.run, Run::Script(_));
                let others = is_script.then(|| {
                    let again = self.again.get_or_insert_with(|| Box::new(Again::new(env)));
                    std::mem::replace(&mut env.random, again.random.clone())
                });
                let outcome = run_keys(
                    found,
                    args.as_args(),
                    &self.caller,
                    None,
                    view,
                    &mut attempt,
                    env,
                    &mut self.reply,
                );
                if let Some(others) = others {
                    env.random = others;
                }
                match outcome {
                    Outcome::Ran => {
                        let ended = Ended {
                            origin: self.origin,
                            command: id,
                            db: self.caller.db,
                            what: Observation::Ran(args.as_args()),
                        };
                        end_unit(env, &mut attempt, view, ended);
                        env.now = now;
                        Verdict::Done
                    }
                    Outcome::Parked { spent_us } => {
                        let park = attempt.take_parked().expect("it says what it waits for");
                        let ended = Ended {
                            origin: self.origin,
                            command: id,
                            db: self.caller.db,
                            what: Observation::Parked(args.as_args()),
                        };
                        end_unit(env, &mut attempt, view, ended);
                        env.forgo_receipt();
                        env.now = now;
                        let args = std::mem::take(args);
                        let blocked = Blocked::enter(*park, self.origin, found, args, self.caller, spent_us, view);
                        self.parked = Some(blocked);
                        Verdict::Done
                    }
                    Outcome::Lacking => {
                        give_up(&mut attempt, view, env);
                        self.reply.clear();
                        let began_at = std::mem::replace(&mut env.now, now);
                        match attempt.take_paused(env.tick().us_since(began)) {
                            Some(paused) => {
                                let now = began_at;
                                self.steps = Some(Box::new(Steps { paused, now }));
                                Verdict::Hold
                            }
                            None => Verdict::Lacks(match &mut self.again {
                                Some(again) => again.widen(attempt.into_footprint()),
                                None => attempt.into_footprint(),
                            }),
                        }
                    }
                }
            }
            TaskKind::Watch { keys, tokens } => {
                tokens.clear();
                let mut attempt = Attempt::default();
                env.arm(&mut attempt);
                for key in keys.as_args().iter() {
                    let slot = crate::base::slot::key_slot(key);
                    let found = attempt.held(view, slot);
                    let found = found.expect("the slots of the watched keys are the unit's footprint");
                    tokens.push((slot, found.watch(self.caller.db, key, env.moment())));
                }
                let expired = attempt.collect(view, |detached| env.garbage.absorb(detached));
                expired.count(&mut env.stats);
                env.stats.count_call(id, 0);
                let ended = Ended {
                    origin: self.origin,
                    command: id,
                    db: self.caller.db,
                    what: Observation::Watched(keys.as_args()),
                };
                env.end_unit(&mut attempt, view, ended);
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
            TaskKind::EndWaits { places } => {
                for Place { slot, db, key, number } in places.drain(..) {
                    view.slot(slot)
                        .expect("the slots of the places are in the footprint")
                        .end_wait(db, &key, number);
                }
                Verdict::Done
            }
            TaskKind::Serve { signals } => {
                let keys = signals.iter().filter_map(Signal::key);
                let lacking = lacking_of_chains(view, keys.map(Into::into));
                if !lacking.is_empty() && !view.has_everything() {
                    return Verdict::Lacks(Footprint::Slots(lacking));
                }
                env.waiting.ready.append(signals);
                serve(env, view);
                Verdict::Done
            }
            TaskKind::Stream(batch) => {
                batch.run(view, env, &mut self.reply);
                Verdict::Done
            }
            TaskKind::Cut { plan, is_made } => {
                assert!(view.has_everything(), "a cut is made by who holds all slots");
                if !plan.is_given_up() {
                    let began = env.tick();
                    if let Some(order) = &plan.order {
                        order.at_cut(env.log.split(env.shard));
                    }
                    env.cut.open();
                    *is_made = true;
                    env.snapshots
                        .note_changes_at_cut(plan, env.shard, env.stats.counts.changes);
                    // What a fork is elsewhere: the moment at which everybody waits.
                    let elapsed_us = env.tick().us_since(began);
                    env.snapshots.note_cut(elapsed_us);
                    if env.stats.latency.is_noted(elapsed_us / 1000) {
                        env.stats.latency.note("fork", elapsed_us / 1000, env.now);
                    }
                    let ended = Ended {
                        origin: self.origin,
                        command: id,
                        db: self.caller.db,
                        what: Observation::Cut {
                            number: plan.number,
                            early: env.log.early().cloned(),
                        },
                    };
                    env.end_unit(&mut Attempt::default(), view, ended);
                }
                Verdict::Done
            }
            TaskKind::Exec(step) => {
                if let Some(lacking) = step.lacks_chains(view, env) {
                    return Verdict::Lacks(Footprint::Slots(lacking));
                }
                let began = env.tick();
                let mut ended = Ended {
                    origin: self.origin,
                    command: id,
                    db: self.caller.db,
                    what: Observation::Committed,
                };
                if !step.begin(view, env, &mut self.reply, self.caller.proto) {
                    ended.what = Observation::Aborted;
                } else if step.asks_other_shards {
                    step.now = env.now;
                    return Verdict::Hold;
                } else if let Err(verdict) = step.run_all(view, env, &mut self.reply) {
                    return verdict;
                }
                step.finish(view, env, ended);
                let elapsed_us = env.tick().us_since(began);
                env.stats.count_call(id, elapsed_us);
                Verdict::Done
            }
        }
    }
}

impl Task {
    /// Takes down what its reply waits for, if it has ended here and now.
    #[inline]
    fn note_need(&mut self, env: &mut Env) {
        self.receipt = env.take_receipt();
        if env.promises.hold() {
            self.ran_on = env.shard;
            self.need = env.promises.of_unit();
            if matches!(&self.kind, TaskKind::Exec(step) if step.asks_other_shards) {
                self.need = self.need.and(env.need_of_everything());
            }
        }
    }

    /// It is a transaction, and is shown to those who watch all commands.
    pub(super) fn show_as(&mut self, command: &Command, args: Args) {
        if let TaskKind::Exec(step) = &mut self.kind {
            step.shown_as = shown_arguments(command, args);
        }
    }

    /// Whether it holds its slots between two steps.
    pub(super) fn goes_in_steps(&self) -> bool {
        self.steps.is_some()
    }

    /// Runs a held transaction up to its next asynchronous command, which is handed out, or to its end.
    pub(super) fn run_until_asynchronous(
        &mut self,
        view: &mut View<'_, Slot>,
        env: &mut Env,
        asynchronous: &mut Option<(CommandId, OwnedArgs, Session)>,
    ) -> Verdict {
        let id = self.id();
        let TaskKind::Exec(step) = &mut self.kind else {
            unreachable!("only a transaction is ever held")
        };
        // Others have run since it began.
        let now = std::mem::replace(&mut env.now, step.now);
        while step.next_index < step.queue.len() {
            if step.next_is_asynchronous() {
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
        let ended = Ended {
            origin: self.origin,
            command: id,
            db: self.caller.db,
            what: Observation::Committed,
        };
        step.finish(view, env, ended);
        self.note_need(env);
        env.now = now;
        env.stats.count_call(id, 0);
        Verdict::Done
    }

    /// Takes the reply and the session of the asynchronous command that has just run. `is_shown`: somebody watches all commands.
    pub(super) fn take_asynchronous(&mut self, session: Session, output: &mut ReplyBuf, is_shown: bool) {
        let TaskKind::Exec(step) = &mut self.kind else {
            unreachable!("only a transaction is ever held")
        };
        step.session = session;
        if is_shown {
            step.show_next();
        }
        step.next_index += 1;
        self.reply.append(output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::client::{ClientTable, ReplyMode};

    #[test]
    fn a_task_weighs_what_it_carries_and_knows_its_caller() {
        let background = ShardId(0);
        let args = OwnedArgs::from_slices(&["set", "key", "a value of some length"]);
        let bytes = args.memory_bytes();
        assert!(bytes > 22);
        let command = Task::in_background(background, TaskKind::Command { args: args.clone() });
        let watch = TaskKind::Watch {
            keys: args,
            tokens: Vec::new(),
        };
        assert_eq!(command.memory_bytes(), bytes);
        assert_eq!(Task::in_background(background, watch).memory_bytes(), bytes);
        let unwatch = TaskKind::Unwatch { tokens: Vec::new() };
        assert_eq!(Task::in_background(background, unwatch).memory_bytes(), 0);

        let place = ConnRef::background(background);
        let registration = ClientTable::new()
            .register(place, "127.0.0.1:1", 1)
            .expect("there is room");
        let session = Session::new(1, "127.0.0.1:1", "127.0.0.1:2", true);
        let mut client = Client::new(session, place, registration, UnixMs(0));
        assert!(!Caller::of(&client.session).is_silent);
        client.session.reply_mode = ReplyMode::Off;
        assert!(Caller::of(&client.session).is_silent);
    }
}
