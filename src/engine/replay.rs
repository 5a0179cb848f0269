//! Commands that come from a file: what was logged once, run again; and those that come from a master.
//!
//! A shard that loads runs them as it runs those of clients, by the same handlers; what is different follows from `Env::is_replaying`
//! ([`Env::moment`](super::Env::moment)): nothing is over, nothing is logged, counted or told.
//!
//! What lies on one shard is run there at once ([`run_here`]). The rest is a unit of work like any other, which collects its slots
//! ([`run_apart`]); whoever reads the file waits until it has run. What a master sends is a unit of work in any case ([`apply`]).

use super::attempt::Attempt;
use super::env::{Ended, Observation};
use super::literal::{Caller, Registered, key_slots};
use super::local::Local;
use super::run::{Outcome, run_keys};
use super::streamed::Batch;
use super::task::{Task, TaskKind};
use crate::resp::{Args, OwnedArgs, ReplyBuf};
use crate::shard::{ConnRef, Footprint, Unit};
use crate::store::DbIndex;

/// What became of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Replayed {
    Ran,
    /// It was answered with this error. As in Redis that is told, and no more.
    Refused(Vec<u8>),
    /// A slot of its is on loan: again, later.
    Later,
}

/// Runs a command whose keys are all at home here, and which finds out nothing late. `first` is its only key, where it has one.
pub fn run_here(
    local: &mut Local,
    found: &'static Registered,
    args: Args,
    first: Option<(&[u8], u16)>,
    db: DbIndex,
    reply: &mut ReplyBuf,
) -> Replayed {
    let background = ConnRef::background(local.env.shard);
    let all;
    let slots = match &first {
        Some((_, slot)) => std::slice::from_ref(slot),
        None => {
            all = key_slots(found.command, args);
            all.as_slice()
        }
    };
    local.env.begin_unit();
    let Some(mut view) = local.core.try_view(slots, background) else {
        return Replayed::Later;
    };
    let mut attempt = Attempt::default();
    let caller = Caller::in_background(db, true);
    let outcome = run_keys(
        found,
        args,
        &caller,
        first,
        &mut view,
        &mut attempt,
        &mut local.env,
        reply,
    );
    assert!(
        outcome == Outcome::Ran,
        "{} has all the slots that it can name",
        found.full_name
    );
    let ended = Ended {
        origin: background,
        command: found.id,
        db,
        what: Observation::Ran(args),
    };
    local.env.end_unit(&mut attempt, &mut view, ended);
    let refusal = reply.as_error().map(<[u8]>::to_vec);
    reply.clear();
    refusal.map_or(Replayed::Ran, Replayed::Refused)
}

/// Has any other command run, and calls `then` when it has.
pub fn run_apart(
    local: &mut Local,
    found: &'static Registered,
    args: OwnedArgs,
    db: DbIndex,
    footprint: Footprint,
    then: Box<dyn FnOnce() + Send>,
) {
    let origin = ConnRef::background(local.env.shard);
    let work = Task {
        then: Some(then),
        ..Task::of(
            origin,
            Some(found),
            Caller::in_background(db, true),
            TaskKind::Command { args },
        )
    };
    dispatch(local, work, footprint);
}

/// Has what a master has sent take effect, and calls `then` when it has.
pub fn apply(local: &mut Local, mut batch: Box<Batch>, then: Box<dyn FnOnce() + Send>) {
    let footprint = batch.footprint();
    let work = Task {
        then: Some(then),
        ..Task::in_background(local.env.shard, TaskKind::Stream(batch))
    };
    dispatch(local, work, footprint);
}

/// Has a unit of nobody's collect its slots.
fn dispatch(local: &mut Local, work: Task, footprint: Footprint) {
    let origin = ConnRef::background(local.env.shard);
    let unit = Unit {
        work: Box::new(work),
        footprint,
        origin,
        ticket: None,
    };
    local.core.dispatch(unit, &mut local.env, &mut local.outbox);
    local.post();
}
