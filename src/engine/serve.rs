//! Serving those who wait for keys: what the end of a unit of work leads to.
//!
//! A unit that has made keys ready runs, before it lets go of their slots, the commands of those who wait for them ([`end_unit`]): key by
//! key in the order in which they became ready, for each key the oldest first. The command is run again whole, with the gates that hold for
//! somebody who has waited, over what the unit holds. Each is a unit of its own for the log (so nobody finds it inside the MULTI of who has
//! pushed), in the same pass. What that makes ready (BLMOVE) is the next round.
//!
//! Of the keys of a blocked command only those count whose slots are held: argument order decides among them. A push so serves on its own
//! shard, with no loans. A key that a served command makes is another matter: whoever may make a key ready holds the slots of all keys to
//! which those who wait can move it on, or asks for them before it runs (`run::lacking_of_chains`); so a chain over any shards is one unit
//! of work, and nobody ever sees the middle of it.
//!
//! Invariant: between two units of work nobody waits for a key that could serve him, but for those keys that are in `Waiting::put_off`, or
//! in the units that look at them again.

use super::attempt::{Attempt, Signal};
use super::blocked::Blocked;
use super::env::{Ended, Env, Observation};
use super::literal::{Caller, Registered};
use super::run::{Outcome, run_keys};
use super::waiting::Served;
use crate::base::slot::key_slot;
use crate::resp::{OwnedArgs, Reply, ReplyBuf};
use crate::shard::{ConnRef, View};
use crate::spec::Flags;
use crate::store::{DbIndex, Slot};
use std::collections::HashSet;
use std::sync::Arc;

/// Ends a unit of work, and serves those who wait for what it has made ready.
#[inline]
pub(super) fn end_unit(env: &mut Env, attempt: &mut Attempt, view: &mut View<'_, Slot>, unit: Ended<'_>) {
    env.end_unit(attempt, view, unit);
    if !env.waiting.ready.is_empty() {
        serve(env, view);
    }
}

/// Serves those who wait for keys that are ready, round by round.
#[cold]
pub(super) fn serve(env: &mut Env, view: &mut View<'_, Slot>) {
    let (need_of_unit, owed) = (env.promises.of_unit(), env.take_receipt());
    serve_rounds(env, view);
    env.promises.put_unit_back(need_of_unit);
    env.put_receipt_back(owed);
}

fn serve_rounds(env: &mut Env, view: &mut View<'_, Slot>) {
    while !env.waiting.ready.is_empty() {
        let signals = std::mem::take(&mut env.waiting.ready);
        let mut seen = HashSet::new();
        for signal in signals {
            match signal {
                Signal::Ready(db, key) => {
                    if !seen.contains(&(db, key.clone())) {
                        serve_key(env, view, db, &key);
                        seen.insert((db, key));
                    }
                }
                Signal::Gone(db, key) => {
                    let minds = |slot: &Slot| slot.is_minded(db, &key);
                    match view.peek(key_slot(&key)) {
                        // What nobody minds has no place in the order.
                        Some(slot) if !minds(slot) || seen.contains(&(db, key.clone())) => {}
                        _ => {
                            serve_key(env, view, db, &key);
                            seen.insert((db, key));
                        }
                    }
                }
                Signal::Flushed(db) => serve_dbs(env, view, &[db]),
                Signal::Swapped(one, other) => serve_dbs(env, view, &[one, other]),
            }
        }
    }
}

/// Looks at all keys of these dbs that are awaited. (Who changes a whole db holds everything.)
fn serve_dbs(env: &mut Env, view: &mut View<'_, Slot>, dbs: &[DbIndex]) {
    let slots = view.all_slots().into_iter().flatten();
    let keys = slots.filter(|(_, slot)| slot.has_waiters());
    let keys: Vec<_> = keys.flat_map(|(_, slot)| slot.awaited_keys(dbs)).collect();
    for (db, key) in keys {
        serve_key(env, view, db, &key);
    }
}

/// Serves those who waited for a key when it became ready.
fn serve_key(env: &mut Env, view: &mut View<'_, Slot>, db: DbIndex, key: &[u8]) {
    let number = key_slot(key);
    let Some(slot) = view.slot(number) else {
        env.waiting.put_off.push(Signal::Ready(db, key.into()));
        return;
    };
    // Who has to wait on stands behind this one, and is not looked at again.
    let Some(last) = slot.newest_waiter(db, key) else {
        return;
    };
    let mut after = 0;
    while let Some(slot) = view.slot(number) {
        let kind = slot.peek(db, key, env.now).map(|entry| entry.type_of());
        let Some((found, waiter)) = slot.next_waiter(db, key, after, last, kind) else {
            return;
        };
        after = found;
        let who = waiter.who.clone().downcast::<Blocked>();
        let blocked = who.unwrap_or_else(|_| unreachable!("only blocked clients wait for keys"));
        if env.holds_back(blocked.found.command.flags) {
            env.waiting.put_off.push(Signal::Ready(db, key.into()));
            return;
        }
        if blocked.begin_serving() {
            serve_one(env, view, &blocked);
        }
    }
}

/// Runs the command of somebody who has waited again.
fn serve_one(env: &mut Env, view: &mut View<'_, Slot>, blocked: &Arc<Blocked>) {
    blocked.step_out(view);
    let Blocked {
        found, args, caller, ..
    } = &**blocked;
    let mut reply = ReplyBuf::default();
    let others = env.stats.take_slow_entries();
    let refusal = match found.command.flags.contains(Flags::WRITE) {
        true => env.refusal_of_writes(),
        false => None,
    };
    let is_over = if let Some(error) = refusal {
        env.stats.count_rejection(found.id);
        env.stats.count_error(&error);
        Reply::new(&mut reply, caller.proto).error(&error);
        true
    } else {
        let mut attempt = Attempt::default();
        attempt.is_serving = true;
        match run_blocking(env, found, args, caller, blocked.origin, view, &mut attempt, &mut reply) {
            Outcome::Ran => true,
            Outcome::Parked { .. } => {
                blocked.stand_behind(view);
                wait_on(blocked, view)
            }
            Outcome::Lacking => {
                // Its place in the order is kept for the unit that looks at it again.
                env.hand_on_expiries(&mut attempt);
                reply.clear();
                blocked.stand_again(view);
                let is_over = wait_on(blocked, view);
                if !is_over {
                    let places = blocked.places().filter(|place| view.peek(place.slot).is_some());
                    let signals = places.map(|place| Signal::Ready(place.db, place.key));
                    env.waiting.put_off.extend(signals.collect::<Vec<_>>());
                }
                is_over
            }
        }
    };
    let slow_entries = env.stats.take_slow_entries();
    env.stats.put_slow_entries_back(others);
    if !is_over {
        return;
    }
    blocked.end_serving();
    let elsewhere = blocked.places().filter(|place| view.peek(place.slot).is_none());
    env.waiting.stale.extend(elsewhere);
    env.waiting.answers.push(Served {
        place: blocked.origin,
        number: blocked.number,
        reply,
        need: env.promises.of_unit(),
        ran_on: env.shard,
        slow_entries,
    });
}

/// It has to wait on. True: its connection has ended meanwhile, and it is over.
fn wait_on(blocked: &Arc<Blocked>, view: &mut View<'_, Slot>) -> bool {
    let is_over = !blocked.wait_on();
    if is_over {
        blocked.step_out(view);
    }
    is_over
}

/// Runs a command that may wait, and ends its unit; what came before for others is theirs to end.
#[allow(
    clippy::too_many_arguments,
    reason = "each is one thing that a run depends on; a struct would be taken apart at once"
)]
fn run_blocking(
    env: &mut Env,
    found: &'static Registered,
    args: &OwnedArgs,
    caller: &Caller,
    origin: ConnRef,
    view: &mut View<'_, Slot>,
    attempt: &mut Attempt,
    reply: &mut ReplyBuf,
) -> Outcome {
    attempt.may_park = true;
    let outcome = run_keys(found, args.as_args(), caller, None, view, attempt, env, reply);
    let what = match outcome {
        Outcome::Ran if reply.as_error().is_some() => Observation::Refused(args.as_args()),
        Outcome::Ran => Observation::Ran(args.as_args()),
        Outcome::Parked { .. } => Observation::Parked(args.as_args()),
        Outcome::Lacking => return outcome,
    };
    let ended = Ended {
        origin,
        command: found.id,
        db: caller.db,
        what,
    };
    env.end_unit(attempt, view, ended);
    env.forgo_receipt();
    outcome
}
