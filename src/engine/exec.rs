//! EXEC: a transaction as one unit of work, run in one go, or in steps where its commands ask other shards.

use super::again::Again;
use super::attempt::Attempt;
use super::counted::Counted;
use super::env::{Ended, Env, shown_arguments};
use super::literal::{Caller, Registry, Run, each_key};
use super::node::Node;
use super::run::{Outcome, count, lacking_of_chains, run_keys, run_session};
use super::serve::end_unit;
use crate::base::clock::UnixMs;
use crate::client::{Client, Queued, Session};
use crate::resp::{Proto, Reply, ReplyBuf};
use crate::shard::{SlotSet, Verdict, View};
use crate::store::{DbIndex, Slot, WatchToken};
use std::sync::Arc;

/// A transaction, and how far it has got.
///
/// It may be run again from its beginning, with more slots, when one of its commands finds out late which slots it needs. Nothing of
/// the first attempt is seen then: `attempt` takes the changes back and has what was to be counted, the session is the one
/// that the client had, the queue is as it was, and random numbers are the same ones. (Time is not: the second attempt sees what
/// others have done since, and must not be earlier than they were.)
pub struct ExecStep {
    registry: &'static Registry,
    /// What commands over the session may know.
    node: Arc<Node>,
    pub queue: Vec<Queued>,
    pub watched: Vec<(u16, WatchToken)>,
    /// The session that its commands see and change; it goes back to the client.
    pub session: Session,
    /// It has commands that ask other shards, so it is run in steps, and time stands still at `now` across them. It holds
    /// everything if any of its commands may find out late what it needs: what has asked other shards cannot be taken back.
    pub asks_other_shards: bool,
    /// The next command to run.
    pub next_index: usize,
    /// As what it is shown itself, behind its commands, if somebody watches.
    pub(super) shown_as: Option<String>,
    attempt: Attempt,
    /// What it began with, if it may have to begin again.
    beginning: Option<Box<Beginning>>,
    pub(super) now: UnixMs,
}

struct Beginning {
    session: Session,
    again: Again,
}

impl ExecStep {
    pub fn new(
        registry: &'static Registry,
        node: Arc<Node>,
        queue: Vec<Queued>,
        watched: Vec<(u16, WatchToken)>,
        asks_other_shards: bool,
        client: &Client,
    ) -> ExecStep {
        ExecStep {
            registry,
            node,
            queue,
            watched,
            session: client.session.taken_along(),
            asks_other_shards,
            next_index: 0,
            shown_as: None,
            attempt: Attempt::default(),
            beginning: None,
            now: UnixMs::EPOCH,
        }
    }
}

impl ExecStep {
    /// Compares the watched keys and writes the head of the reply. False: a watched key has changed.
    pub(super) fn begin(
        &mut self,
        view: &mut View<'_, Slot>,
        env: &mut Env,
        reply: &mut ReplyBuf,
        proto: Proto,
    ) -> bool {
        let moment = env.moment();
        let mut is_unchanged = true;
        env.arm(&mut self.attempt);
        for (slot, token) in &self.watched {
            let found = self.attempt.held(view, *slot);
            let found = found.expect("the slots of the watched keys are in the footprint");
            is_unchanged &= found.is_unchanged(token, moment);
        }
        let expired = self.attempt.collect(view, |detached| env.garbage.absorb(detached));
        expired.count(&mut env.stats);
        let mut reply = Reply::new(reply, proto);
        if is_unchanged {
            reply.array(self.queue.len());
        } else {
            reply.null_array();
        }
        // Without such a command nothing is kept to be taken back: a copy of a large value would cost what the value does.
        // With everything on loan, nothing can be lacking.
        let reaches_further = |queued: &Queued| self.registry.get(queued.command).command.run.may_reach_further();
        if is_unchanged && !view.has_everything() && self.queue.iter().any(reaches_further) {
            // A watched key may have been over: that is no part of what can be taken back.
            env.hand_on_expiries(&mut self.attempt);
            self.attempt.can_undo = true;
            self.beginning.get_or_insert_with(|| {
                Box::new(Beginning {
                    session: self.session.clone(),
                    again: Again::new(env),
                })
            });
        }
        is_unchanged
    }

    /// Runs all commands; the error is the verdict on a unit that lacks slots, when everything has been taken back.
    pub(super) fn run_all(
        &mut self,
        view: &mut View<'_, Slot>,
        env: &mut Env,
        reply: &mut ReplyBuf,
    ) -> Result<(), Verdict> {
        let others = self.beginning.as_deref().map(|beginning| {
            // The same random numbers in each attempt, or it might never find all its slots.
            std::mem::replace(&mut env.random, beginning.again.random.clone())
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

    /// The slots that it lacks of keys to which those can move what it pushes who wait for it.
    pub(super) fn lacks_chains(&self, view: &View<'_, Slot>, env: &Env) -> Option<SlotSet> {
        if !env.is_anybody_reaching() || view.has_everything() {
            return None;
        }
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        for queued in &self.queue {
            let command = self.registry.get(queued.command).command;
            let args = queued.args.as_args();
            // Of a call with an error in it nothing becomes ready.
            let _ = each_key(command, args, |position| keys.push(args[position.index].into()));
        }
        let lacking = lacking_of_chains(view, keys);
        (!lacking.is_empty()).then_some(lacking)
    }

    fn forget_watches(&mut self, view: &mut View<'_, Slot>) {
        for (slot, token) in self.watched.drain(..) {
            view.slot(slot)
                .expect("the slots of the watched keys are in the footprint")
                .unwatch(token);
        }
    }

    /// Whether the next command asks other shards.
    pub fn next_is_asynchronous(&self) -> bool {
        self.queue
            .get(self.next_index)
            .is_some_and(|queued| matches!(self.registry.get(queued.command).command.run, Run::Node(_)))
    }

    /// Runs the next command, which is not asynchronous. False: slots are lacking, and everything is taken back.
    pub fn run_next(&mut self, view: &mut View<'_, Slot>, env: &mut Env, reply: &mut ReplyBuf) -> bool {
        let registry = self.registry;
        let queued = &self.queue[self.next_index];
        let found = registry.get(queued.command);
        let args = queued.args.as_args();
        let counted = match found.command.run {
            Run::Session(_) => run_session(found, args, &mut self.session, true, env, &self.node, registry, reply),
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
                if run_keys(found, args, &caller, None, view, &mut self.attempt, env, reply) == Outcome::Lacking {
                    return false;
                }
                self.next_index += 1;
                return true;
            }
        };
        count(found, args, counted, &mut self.attempt, env);
        if env.shows_commands() {
            self.show_next();
        }
        self.next_index += 1;
        true
    }

    /// Has the command that comes next shown, which has run: one that is not over keys.
    #[cold]
    pub(super) fn show_next(&mut self) {
        let queued = &self.queue[self.next_index];
        let command = self.registry.get(queued.command).command;
        let arguments = shown_arguments(command, queued.args.as_args());
        let consequences = self.attempt.consequences.get_or_insert_default();
        consequences.show(DbIndex(self.session.db), false, arguments);
    }

    /// Ends the transaction: watches are forgotten, what was put aside is counted, and the unit has its end.
    pub(super) fn finish(&mut self, view: &mut View<'_, Slot>, env: &mut Env, ended: Ended<'_>) {
        self.forget_watches(view);
        if let Some(line) = self.shown_as.take() {
            let consequences = self.attempt.consequences.get_or_insert_default();
            consequences.show(DbIndex(self.session.db), false, Some(line));
        }
        end_unit(env, &mut self.attempt, view, ended);
    }

    fn start_over(&mut self, view: &mut View<'_, Slot>, env: &mut Env, reply: &mut ReplyBuf) -> Verdict {
        let beginning = self.beginning.as_deref_mut();
        let beginning = beginning.expect("only what can be taken back was let find out late what it needs");
        self.session = beginning.session.clone();
        self.attempt.roll_back(view, |detached| env.garbage.absorb(detached));
        self.next_index = 0;
        reply.clear();
        let lacking = std::mem::take(&mut self.attempt);
        Verdict::Lacks(beginning.again.widen(lacking.into_footprint()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Command;
    use crate::engine::assembly::Assembly;
    use crate::engine::literal::{Control, Op};
    use crate::resp::ReplyError;
    use crate::spec::command;

    /// Answers whether what it changes could be taken back.
    fn tell(op: &mut Op) -> Result<(), ReplyError> {
        op.reply.integer(i64::from(op.keys.attempt.can_undo));
        Ok(())
    }

    const fn without_arguments(name: &'static str, run: Run) -> Command {
        Command {
            arity: 1,
            ..command(name, run)
        }
    }

    const COMMANDS: &[Command] = &[
        without_arguments("multi", Run::Transaction(Control::Multi)),
        without_arguments("exec", Run::Transaction(Control::Exec)),
        without_arguments("plain", Run::Keys(tell)),
        without_arguments("reach", Run::Reaching(|_| None, tell)),
        without_arguments("all", Run::Everything(tell)),
    ];

    /// To keep what a large value was costs what the value does.
    #[test]
    fn only_what_may_begin_again_is_kept_to_be_taken_back() {
        let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
        let assembly = Assembly::new(registry, 1);
        for (queue, answers) in [
            ("plain\r\nplain\r\n", ":0\r\n:0\r\n"),
            ("plain\r\nreach\r\n", ":1\r\n:1\r\n"),
            ("reach\r\nall\r\n", ":0\r\n:0\r\n"),
        ] {
            let mut shard = assembly.shards[0].borrow_mut();
            shard.receive(0, format!("multi\r\n{queue}exec\r\n").as_bytes());
            let replies = shard.clients.at(0).unwrap().out.take().to_contiguous().into_owned();
            let expected = format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n{answers}");
            assert_eq!(String::from_utf8_lossy(&replies), expected);
        }
    }
}
