//! Who is blocked and why no longer: clients that enter the [`Room`](super::room::Room) of their shard, and the ways out of it.
//!
//! | way out | claim | answer |
//! |---|---|---|
//! | a unit of work serves it ([`take_answer`]) | the unit's | what its command answers |
//! | its time is over ([`end_overdue`]) | taken here | a null array |
//! | CLIENT UNBLOCK ([`unblock`]) | taken here | the same, or an error |
//! | the node begins to follow a master ([`end_all`]) | taken here | an error, and its connection ends |
//! | its connection ends ([`leave`]) | taken here, or left word | none |
//!
//! Whoever takes the claim here has its places in the queues of keys taken away by a unit of work in the background ([`hand_out`]).

use super::blocked::{Blocked, Taken};
use super::local::{Envelope, Local};
use super::room::Entry;
use super::task::{Task, TaskKind};
use super::waiting::{Place, Served, Unserved};
use crate::client::{Client, Mode, Stall};
use crate::resp::{Reply, ReplyBuf, error};
use crate::shard::durable::Need;
use crate::shard::{ConnRef, Footprint, ShardId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How CLIENT UNBLOCK ends a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unblock {
    /// As if its time were over.
    AsTimeout,
    /// With an error.
    WithError,
    /// The node has another role: with another error, and there the connection ends.
    ByRole,
}

/// A command of a client of this shard has been run, and waits.
pub(super) fn block(local: &mut Local, sequence: u32, wait: Arc<Blocked>) {
    let place = wait.origin;
    let Some(client) = local.clients.get(place) else {
        local.room.early.remove(&wait.number);
        return forsake(local, &wait);
    };
    let Client { pending, out, .. } = &mut **client;
    pending.answer(sequence, out, |_| ());
    let mode_before = std::mem::replace(&mut client.mode, Mode::Blocked);
    client.stall = Stall::Blocked;
    if let Some(deadline) = wait.deadline {
        local.room.timers.insert((deadline, wait.number), wait.clone());
    }
    let number = wait.number;
    local.room.blocked.insert(place.index, Entry { wait, mode_before });
    local.clients.list(place.index);
    if let Some(answer) = local.room.early.remove(&number) {
        take_answer(local, answer);
    }
}

/// Somebody has served a client of this shard.
pub(super) fn take_answer(local: &mut Local, answer: Served) {
    if local.clients.get(answer.place).is_none() {
        return;
    }
    let entry = local.room.blocked.get(&answer.place.index);
    if entry.is_none_or(|entry| entry.wait.number != answer.number) {
        local.room.early.insert(answer.number, answer);
        return;
    }
    let Served {
        place,
        number: _,
        reply,
        need,
        ran_on,
        slow_entries,
    } = answer;
    if !slow_entries.is_empty() {
        local.log_slow(place, slow_entries);
    }
    let need = match ran_on == local.env.shard {
        true => need,
        false => need.resolved(local.env.durable().last_number(ran_on)),
    };
    end(local, place.index, reply, need);
}

/// Ends the wait of a client with a reply.
fn end(local: &mut Local, index: u32, mut reply: ReplyBuf, need: Need) {
    let Some(Entry { wait, mode_before }) = local.room.remove(index) else {
        return;
    };
    let Some(client) = local.clients.get(wait.origin) else {
        return;
    };
    client.mode = mode_before;
    client.stall = Stall::Not;
    // Its idle time begins now: it must not be closed before it has its answer.
    client.last_interaction = local.env.now;
    if need != Need::NONE {
        client.needs(need);
    }
    if !wait.caller.is_silent {
        client.out.append(&mut reply);
    }
    local.upkeep.under_way.count_output(client);
    local.clients.list(index);
}

/// Ends the waits whose time is over.
pub(super) fn end_overdue(local: &mut Local) {
    let now = local.env.now;
    let timers = &local.room.timers;
    if timers
        .first_key_value()
        .is_none_or(|((deadline, _), _)| *deadline >= now)
    {
        return;
    }
    let due: Vec<Arc<Blocked>> = timers.range(..(now, 0)).map(|(_, wait)| wait.clone()).collect();
    for wait in due {
        end_wait(local, &wait, Unblock::AsTimeout);
    }
    local.post();
}

/// Ends a wait, if it is not being served or over.
fn end_wait(local: &mut Local, wait: &Arc<Blocked>, how: Unblock) -> Taken {
    let taken = wait.take();
    if taken != Taken::Ours {
        return taken;
    }
    let unserved = match how {
        Unblock::AsTimeout => Unserved::WithNothing,
        Unblock::WithError | Unblock::ByRole => Unserved::WithError,
    };
    note_end(local, wait, unserved);
    let mut reply = ReplyBuf::default();
    let stats = &mut local.env.stats;
    match how {
        Unblock::AsTimeout => {
            Reply::new(&mut reply, wait.caller.proto).null_array();
            stats.count_call(wait.found.id, wait.spent_us);
        }
        Unblock::WithError | Unblock::ByRole => {
            let error = match how {
                Unblock::ByRole => &error::UNBLOCKED_ROLE_CHANGED,
                _ => &error::UNBLOCKED,
            };
            Reply::new(&mut reply, wait.caller.proto).error(error);
            stats.count_error(error);
            stats.count_failure(wait.found.id, wait.spent_us);
        }
    }
    local
        .env
        .note_slow(wait.found.command, wait.args.as_args(), wait.spent_us);
    let entries = local.env.stats.take_slow_entries();
    if !entries.is_empty() {
        local.log_slow(wait.origin, entries);
    }
    local.env.waiting.stale.extend(wait.places());
    // What its first attempt has seen its client waits for already.
    end(local, wait.origin.index, reply, Need::NONE);
    taken
}

/// CLIENT UNBLOCK of a client of this shard. None: it is being served right now, and may have to wait on; ask again.
pub fn unblock(local: &mut Local, place: ConnRef, how: Unblock) -> Option<bool> {
    if local.clients.get(place).is_none() {
        return Some(false);
    }
    let Some(entry) = local.room.blocked.get(&place.index) else {
        return Some(false);
    };
    let wait = entry.wait.clone();
    match end_wait(local, &wait, how) {
        Taken::Ours => {
            local.post();
            Some(true)
        }
        Taken::Busy => None,
        Taken::Lost => Some(false),
    }
}

/// Ends all waits of this shard's clients: what they wait for is another server's affair now. Who is being served right now has his answer.
#[cold]
pub(super) fn end_all(local: &mut Local) {
    let waits: Vec<Arc<Blocked>> = local.room.blocked.values().map(|entry| entry.wait.clone()).collect();
    for wait in waits {
        if end_wait(local, &wait, Unblock::ByRole) == Taken::Ours
            && let Some(client) = local.clients.get(wait.origin)
        {
            client.is_closing = true;
        }
    }
    local.post();
}

/// The connection has ended.
pub(super) fn leave(local: &mut Local, index: u32) {
    if let Some(Entry { wait, .. }) = local.room.remove(index) {
        forsake(local, &wait);
    }
}

/// Nobody waits for this answer.
fn forsake(local: &mut Local, wait: &Arc<Blocked>) {
    if wait.abandon() {
        note_end(local, wait, Unserved::Abandoned);
        local.env.waiting.stale.extend(wait.places());
    }
}

fn note_end(local: &mut Local, wait: &Blocked, how: Unserved) {
    let (origin, command, db) = (wait.origin, wait.found.id, wait.caller.db);
    local.env.note_end_of_wait(origin, command, db, how);
}

/// Hands out what units have left to be done for those who wait.
#[cold]
pub(super) fn hand_out(local: &mut Local) {
    let shard = local.env.shard;
    for answer in std::mem::take(&mut local.env.waiting.answers) {
        if answer.place.shard == shard {
            take_answer(local, answer);
        } else {
            let to = answer.place.shard;
            local.link().message(to, Envelope::Served(Box::new(answer)));
        }
    }
    // A unit for each home: none of them has to borrow anything.
    let mut stale: BTreeMap<ShardId, Vec<Place>> = BTreeMap::new();
    for place in std::mem::take(&mut local.env.waiting.stale) {
        stale.entry(local.core.owner(place.slot)).or_default().push(place);
    }
    for places in stale.into_values() {
        let slots = places.iter().map(|place| place.slot).collect();
        local.start_in_background(TaskKind::EndWaits { places }, Footprint::Slots(slots));
    }
    let mut ready = std::mem::take(&mut local.env.waiting.ready);
    local.env.waiting.put_off.append(&mut ready);
    look_again(local);
}

/// Looks again at keys at which it could not be looked when they became ready. While clients are paused nobody is served.
pub(super) fn look_again(local: &mut Local) {
    if local.env.waiting.put_off.is_empty() || local.env.is_paused() {
        return;
    }
    let signals = std::mem::take(&mut local.env.waiting.put_off);
    let footprint = Task::footprint_of_signals(&signals);
    local.start_in_background(TaskKind::Serve { signals }, footprint);
}
