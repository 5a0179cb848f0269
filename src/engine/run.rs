//! Running one command: the one way into handlers that do not wait, for all ways to get there.
//!
//! [`run_keys`] runs a command over keys in any view, be it the shard's own slots or loans, [`run_session`] one over the session. They write the
//! reply, take a failed command's reply back, and say what is to be counted; what has followed from the command is in its
//! unit's [`Attempt`].

use super::attempt::Attempt;
use super::blocked::Blocked;
use super::counted::Counted;
use super::env::{Env, shown_arguments, text_of_arguments};
use super::keyspace::Keyspace;
use super::literal::{Caller, Op, Registered, Registry, Run, SessionOp, each_key};
use super::node::Node;
use super::registry::CommandId;
use super::tracked::TrackedStep;
use crate::base::limits;
use crate::base::slot::key_slot;
use crate::client::Session;
use crate::resp::{Args, Reply, ReplyBuf};
use crate::shard::{SlotMarks, SlotSet, View};
use crate::spec::Flags;
use crate::store::{Slot, Tracker};
use std::cell::Cell;
use std::collections::HashSet;

/// How the run of a command over keys ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It has replied, with an error or not.
    Ran,
    /// It needs more slots, or goes on in another step; its reply is gone, its changes are still to be taken back.
    Lacking,
    /// It has found nothing, and waits for what its attempt says. Nothing is counted yet.
    Parked {
        /// How long it has taken so far.
        spent_us: u64,
    },
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
    attempt: &mut Attempt,
    env: &mut Env,
    reply: &mut ReplyBuf,
) -> Outcome {
    let (Run::Keys(handler)
    | Run::Reaching(_, handler)
    | Run::Slots(_, handler)
    | Run::Script(handler)
    | Run::Everything(handler)) = found.command.run
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
    let is_script = matches!(found.command.run, Run::Script(_));
    // What is nested was looked at as a whole, but for what a script calls: nobody knows that sooner.
    let is_looked_at = caller.is_nested && !caller.is_script || is_script;
    if env.is_anybody_reaching() && !is_looked_at && !attempt.is_serving && !view.has_everything() {
        lack_chains(found, args, view, attempt);
        if attempt.is_lacking() {
            return Outcome::Lacking;
        }
    }
    let moment = env.moment();
    attempt.can_undo |= is_script && !view.has_everything();
    env.arm(attempt);
    if is_script {
        show(found, args, caller, attempt, env);
    }
    let mut op = Op {
        args,
        reply: Reply::bounded(reply, caller.proto, bytes_max),
        keys: Keyspace::new(view, attempt, caller.leaves_clocks, caller.db, moment, first),
        env,
        caller: *caller,
        command: found.command,
        changes: 0,
        is_replaced: false,
    };
    let result = match op.env.refusal_of_replica(found.command.flags) {
        None => handler(&mut op),
        Some(refusal) => Err(refusal),
    };
    let Op {
        changes,
        is_replaced,
        keys: Keyspace {
            hits,
            misses,
            mut expirations,
            ..
        },
        ..
    } = op;
    if attempt.is_lacking() {
        if !attempt.can_undo {
            // They are gone, whatever becomes of the command.
            expirations.count(&mut env.stats);
        }
        reply.truncate(mark);
        return Outcome::Lacking;
    }
    if let Some(consequences) = &mut attempt.consequences {
        consequences.has_seen_all |= !matches!(found.command.run, Run::Keys(_) | Run::Script(_));
        consequences.has_held_all |= view.has_everything();
    }
    expirations.merge(attempt.collect(view, |detached| env.garbage.absorb(detached)));
    if let Some(tracker) = caller.tracker
        && found.command.flags.contains(Flags::READONLY)
        && !is_script
    {
        track_reads(found, args, tracker, first, view, attempt, env);
    }
    // Who has waited was shown when it began to.
    if !is_script && !attempt.is_serving {
        show(found, args, caller, attempt, env);
    }
    if let Some(consequences) = &mut attempt.consequences {
        consequences.end_command(caller.db, args, changes > 0, is_replaced);
    }
    let elapsed_us = attempt.spent_us() + env.tick().us_since(began);
    if attempt.is_parked() {
        reply.truncate(mark);
        expirations.count(&mut env.stats);
        env.stats.counts.changes += changes;
        return Outcome::Parked { spent_us: elapsed_us };
    }
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
        expired: expirations,
        slow: None,
    };
    // (What runs over keys while a data set is read comes from a file.)
    if attempt.can_undo || !env.is_replaying {
        count(found, args, counted, attempt, env);
    }
    Outcome::Ran
}

/// Enters a client that caches what it reads with the keys of a command that has run, whatever that has answered.
fn track_reads(
    found: &Registered,
    args: Args,
    tracker: Tracker,
    first: Option<(&[u8], u16)>,
    view: &mut View<'_, Slot>,
    attempt: &mut Attempt,
    env: &mut Env,
) {
    // Of a call with an error in it nothing can be cached.
    let _ = each_key(found.command, args, |position| {
        let key = args.at(position.index);
        let number = match first {
            Some((first, number)) if std::ptr::eq(first, key) => number,
            _ => key_slot(key),
        };
        let Some(slot) = view.slot(number) else { return };
        if slot.track(key, tracker) && attempt.can_undo {
            attempt
                .consequences
                .get_or_insert_default()
                .put_down(TrackedStep::Begun {
                    slot: number,
                    key: key.into(),
                    tracker,
                });
        }
        env.holds = true;
    });
}

/// Has a command shown to those who watch all of them: what a script calls stands behind the script.
#[inline]
pub(super) fn show(found: &Registered, args: Args, caller: &Caller, attempt: &mut Attempt, env: &Env) {
    if let Some(consequences) = &mut attempt.consequences
        && env.shows_commands()
    {
        // A script is shown as it begins, though what is hidden is shown by its handler as a rule.
        let arguments = match found.command.run {
            Run::Script(_) => Some(text_of_arguments(found.command, args)),
            _ => shown_arguments(found.command, args),
        };
        consequences.show(caller.db, caller.is_script, arguments);
    }
}

/// Counts a command that has run; in a unit that can be taken back that is put aside until it cannot.
#[inline]
pub(super) fn count(found: &Registered, args: Args, mut counted: Counted, attempt: &mut Attempt, env: &mut Env) {
    if attempt.can_undo {
        counted.slow = env.slow_call(found.command, args, counted.elapsed_us);
        attempt.put_aside(counted);
    } else {
        counted.count(&mut env.stats);
        env.note_slow(found.command, args, counted.elapsed_us);
    }
}

/// An attempt is over, and its unit is to be run again with what it lacks.
pub(super) fn give_up(attempt: &mut Attempt, view: &mut View<'_, Slot>, env: &mut Env) {
    if attempt.can_undo {
        attempt.roll_back(view, |detached| env.garbage.absorb(detached));
    } else {
        env.hand_on_expiries(attempt);
    }
}

/// What a command makes ready may be moved on by those who wait, to keys of other slots: asks for these slots, so that all of it is one unit.
#[cold]
fn lack_chains(found: &Registered, args: Args, view: &View<'_, Slot>, attempt: &mut Attempt) {
    if !found.command.flags.contains(Flags::WRITE) {
        return;
    }
    let mut keys: Vec<Box<[u8]>> = Vec::new();
    // Of a call with an error in it nothing becomes ready.
    let _ = each_key(found.command, args, |position| keys.push(args[position.index].into()));
    for slot in lacking_of_chains(view, keys).iter() {
        attempt.lack(slot);
    }
}

/// The slots that are not held of keys to which those can move what they are served who wait for these keys, and so on.
pub(super) fn lacking_of_chains(view: &View<'_, Slot>, keys: impl IntoIterator<Item = Box<[u8]>>) -> SlotSet {
    let mut open: Vec<Box<[u8]>> = keys.into_iter().collect();
    let mut seen: HashSet<Box<[u8]>> = open.iter().cloned().collect();
    let mut lacking = SlotMarks::new();
    while let Some(key) = open.pop() {
        let number = key_slot(&key);
        let Some(slot) = view.peek(number) else {
            lacking.insert(number);
            continue;
        };
        for waiter in slot.reaching_waiters(&key) {
            let target = waiter.who.downcast_ref::<Blocked>().and_then(|who| who.target.clone());
            if let Some(target) = target
                && seen.insert(target.clone())
            {
                open.push(target);
            }
        }
    }
    lacking.into_set()
}

/// Runs one command over the session and appends its reply. What comes back is still to be counted.
#[allow(
    clippy::too_many_arguments,
    reason = "each is one thing that a run depends on; a struct would be taken apart at once"
)]
pub fn run_session(
    found: &Registered,
    args: Args,
    session: &mut Session,
    is_nested: bool,
    env: &mut Env,
    node: &Node,
    registry: &'static Registry,
    reply: &mut ReplyBuf,
) -> Counted {
    let ((Run::Session(handler), _) | (_, Some(Run::Session(handler)))) = (found.command.run, found.command.while_busy)
    else {
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
        node,
        registry,
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

thread_local! {
    /// The number of the last command that this thread began, for the report of a crash.
    static LAST_COMMAND: Cell<CommandId> = const { Cell::new(CommandId::MAX) };
}

/// The last command that this thread began.
pub fn last_command() -> Option<CommandId> {
    Some(LAST_COMMAND.get()).filter(|&id| id != CommandId::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ReplyMode;
    use crate::engine::Command;
    use crate::engine::assembly::Assembly;
    use crate::spec::command;

    const COMMANDS: &[Command] = &[
        Command {
            arity: 1,
            ..command("over-session", Run::Session(|_| Ok(())))
        },
        Command {
            arity: 1,
            ..command("over-keys", Run::Keys(|_| Ok(())))
        },
    ];

    #[test]
    fn a_thread_knows_the_last_command_that_it_began() {
        // A thread that has run nothing yet.
        let look = || {
            let registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
            let assembly = Assembly::new(registry, 1);
            assert_eq!(last_command(), None);
            for name in ["over-keys", "over-session", "over-keys"] {
                let mut shard = assembly.shards[0].borrow_mut();
                shard.receive(0, format!("{name}\r\n").as_bytes());
                let found = registry.by_name(name.as_bytes()).map(|found| found.id);
                assert_eq!(last_command(), found);
            }
        };
        std::thread::spawn(look).join().expect("it finds what it expects");
    }

    thread_local! {
        static WRITTEN_BYTES: Cell<usize> = const { Cell::new(0) };
    }

    const PIECE: &[u8] = &[b'x'; 1000];

    const FILLING: &[Command] = &[Command {
        arity: 1,
        ..command(
            "fill",
            Run::Keys(|op| {
                let mut written_bytes = 0;
                while !op.reply.is_full() {
                    op.reply.bulk(PIECE);
                    written_bytes += PIECE.len();
                }
                WRITTEN_BYTES.set(written_bytes);
                Ok(())
            }),
        )
    }];

    #[test]
    fn of_a_reply_that_nobody_gets_little_is_made_whatever_waits_before_it() {
        let registry = Box::leak(Box::new(Registry::new(&[FILLING], &[]).unwrap()));
        let assembly = Assembly::new(registry, 1);
        let mut shard = assembly.shards[0].borrow_mut();
        let client = shard.clients.at(0).expect("the client is there");
        client.session.reply_mode = ReplyMode::Off;
        for waiting in [0, 1000] {
            let client = shard.clients.at(0).expect("the client is there");
            client.out.push(&PIECE[..waiting]);
            shard.receive(0, b"fill\r\n");
            let made = limits::REPLY_SILENT_BYTES_MAX..limits::REPLY_SILENT_BYTES_MAX + 2 * PIECE.len();
            assert!(
                made.contains(&(WRITTEN_BYTES.get() + PIECE.len())),
                "{}",
                WRITTEN_BYTES.get()
            );
        }
    }
}
