//! Clients that wait for keys: whether each is served once, in its turn, and none for whom there is something waits on.
//!
//! The shards report when a request begins to wait, when one that waits is run again, and when a wait has ended that nobody has served. From
//! that it is known at each moment of the order of units who waits for which key since when. The reference never waits: it runs what has begun to wait, which
//! must find nothing, and what was served at the moment at which it was, which must find what the client gets. So queues, claims and
//! timers, which the engine serves by, are checked by something that has none of them:
//!
//! 1. who is served has waited, and was not served before, nor had its wait ended otherwise: each wait ends once;
//! 2. of those who wait for a key the one who came first is served first, if it can be served from what is there; of the keys of one request the first;
//! 3. when all is quiet nobody waits for a key that could serve him (and has not just changed its type), or was given up whose client is there, and the shards have as many blocked clients as there are
//!    waits;
//! 4. a wait ends with nothing when its time is over, not before, and in the first pass of its client's shard that begins after that (so late by
//!    what a shard sleeps at most), or for CLIENT UNBLOCK, and with an error for that alone; and that says truly whom it has let go.
//!
//! What can serve a request, and what it is about when it says `$`, is the workload's to say ([`Wish`]).

use super::engine::{Call, Record, What};
use super::fault::Fault;
use super::judge::{Failure, Judge, tell};
use super::judged::Expected;
use super::reply;
use super::roles::keys_of_logged;
use super::run::Run;
use super::story::{Meaning, Wish, shortened};
use crate::base::clock::UnixMs;
use crate::base::slot::key_slot;
use crate::data::ValueType;
use crate::engine::blocked::Blocked;
use crate::engine::unblock::{Unblock, unblock};
use crate::engine::waiting::Unserved;
use crate::engine::{CommandId, Local};
use crate::resp::{Proto, Reply, ReplyBuf, error};
use crate::shard::{ConnRef, Footprint, SlotSet};
use crate::store::DbIndex;
use std::collections::{BTreeMap, BTreeSet};

/// Calendars count in milliseconds, a time in seconds is rounded up to them, and a pass looks at its calendar once.
const ROUNDED_MS: u64 = 3;

/// See the essay above.
#[derive(Default)]
pub(super) struct Waits {
    /// By client.
    parked: BTreeMap<usize, Wait>,
    last_number: u64,
    /// Of each client.
    let_go: BTreeMap<usize, LetGo>,
    /// Who was given up, each with what it waited with.
    forsaken: Vec<(usize, String)>,
}

/// A key that a client waits for, and its type.
type Awaited = (usize, Vec<u8>, Option<ValueType>);

struct Wait {
    index: usize,
    command: CommandId,
    db: DbIndex,
    /// As it will be run again.
    words: Vec<Vec<u8>>,
    wish: Box<Wish>,
    /// Who has come first has the lowest.
    number: u64,
    /// It was run again and waits on: it has a new place for some of its keys.
    has_moved: bool,
    deadline: Option<UnixMs>,
    /// The shard of its client knows of it.
    is_known: bool,
    /// Keys where a value has taken the place of one of another type, which wakes nobody, in Redis either.
    overwritten: BTreeSet<Vec<u8>>,
}

/// How CLIENT UNBLOCK has ended the waits of a client, with nothing and with an error.
#[derive(Default)]
struct LetGo {
    /// Requests that were sent for that.
    asked: [usize; 2],
    /// Those that have answered that they did, and that they did not.
    have: [usize; 2],
    have_not: [usize; 2],
    /// Waits that have ended in a way that nothing else explains, and those that it may have been.
    surely: [usize; 2],
    maybe: usize,
}

impl Waits {
    /// Whether this client waits.
    pub(super) fn holds(&self, client: usize) -> bool {
        self.parked.contains_key(&client)
    }

    /// Whether it does so until somebody ends that.
    pub(super) fn holds_for_ever(&self, client: usize) -> bool {
        self.parked.get(&client).is_some_and(|wait| wait.deadline.is_none())
    }

    /// The number of its wait, if its shard knows of it.
    fn known_number(&self, client: usize) -> Option<u64> {
        let known = self.parked.get(&client).filter(|wait| wait.is_known);
        known.map(|wait| wait.number)
    }
}

fn wrong(kind: &'static str, text: String) -> Failure {
    Failure::new(kind, text)
}

impl Judge {
    /// A request that has arrived has found nothing, and waits.
    pub(super) fn begins_to_wait(&mut self, client: usize, index: usize, record: &Record) -> Result<(), Failure> {
        let request = &self.clients[client].program[index];
        let Some(wish) = request.waits.clone() else {
            let what = self.clients[client].describe(index);
            return Err(wrong("wait", format!("{what} waits, and should not")));
        };
        let words = (wish.settled)(&request.words.clone(), &mut |words| {
            self.ask(client, words, record.db, record.now)
        });
        let reply = self.run_at_once(client, index, &words, record);
        if !reply::is_null(&reply) {
            let what = self.clients[client].describe(index);
            return Err(wrong(
                "wait",
                format!("{what} waits, and there was {} for it", shortened(&reply)),
            ));
        }
        self.waits.last_number += 1;
        let wait = Wait {
            index,
            command: record.command,
            db: record.db,
            words,
            number: self.waits.last_number,
            has_moved: false,
            deadline: (wish.for_ms > 0).then(|| UnixMs(record.now.0 + wish.for_ms)),
            is_known: false,
            overwritten: BTreeSet::new(),
            wish,
        };
        self.waits.parked.insert(client, wait);
        Ok(())
    }

    /// The request that a client waits with was run again.
    pub(super) fn goes_on_waiting(&mut self, client: usize, record: &Record, step_ns: u64) -> Result<(), Failure> {
        let wait = self.waits.parked.remove(&client).expect("it waits");
        let described = self.clients[client].describe(wait.index);
        let (args, is_served) = match &record.what {
            What::Ran(args) | What::Refused(args) => (args, true),
            What::Parked(args) => (args, false),
            _ => return Err(wrong("order", format!("{} ran while {described} waits", tell(record)))),
        };
        if *args != wait.words || record.command != wait.command {
            return Err(wrong("order", format!("{} ran while {described} waits", tell(record))));
        }
        let key = self.key_of(client, record, &wait);
        let slots: SlotSet = match (&key, record.effects.is_empty()) {
            (Some(_), false) => self.slots_of_effects(record),
            (Some(key), true) => [key_slot(key)].into_iter().collect(),
            (None, _) => SlotSet::new(),
        };
        let footprint = Footprint::Slots(slots);
        // A transaction that asks other shards ends at the time at which it has begun, and so does what it serves.
        let is_of_the_last = self.last_units[record.shard] == record.now;
        self.check_time(client, wait.index, record, &footprint, (step_ns, is_of_the_last))?;
        let index = wait.index;
        if is_served {
            // That its peer has ended may be on its way already, and then nobody is handed the reply.
            let judged = &mut self.clients[client];
            judged.is_lost |= judged.has_half_closed;
            let writes = self.clients[client].states[index].traits.writes;
            self.check_pause(record, writes, || described.clone())?;
            if let Some(key) = &key {
                self.check_turn(client, &wait, key, record)?;
            }
            // What is ready of its other keys is not for whoever does not hold them.
            let place = wait.wish.keys.iter().position(|other| Some(other) == key.as_ref());
            let alone = place.and_then(|place| wait.wish.alone.get(place));
            let before = self.awaited_types(record.now);
            let reply = self.run_at_once(client, index, alone.unwrap_or(&wait.words), record);
            self.note_overwritten(before, record.now);
            if reply::is_null(&reply) {
                return Err(wrong(
                    "wait",
                    format!("{described} is served, and there is nothing for it"),
                ));
            }
            self.answered_after_wait(client, index, reply, record.now);
        } else {
            self.run_at_once(client, index, &wait.words, record);
            self.waits.last_number += 1;
            let number = self.waits.last_number;
            let has_moved = true;
            self.waits.parked.insert(
                client,
                Wait {
                    number,
                    has_moved,
                    ..wait
                },
            );
        }
        // What is looked at in vain is not shown.
        let origin = is_served.then_some((client, index));
        self.note(record, origin, &footprint)
    }

    /// Rule 2.
    fn check_turn(&mut self, client: usize, wait: &Wait, key: &[u8], record: &Record) -> Result<(), Failure> {
        let is_older = |other: &&Wait| {
            let may_be_told = !other.has_moved && !wait.has_moved;
            may_be_told && other.number < wait.number && other.db == wait.db
        };
        let parked = self.waits.parked.iter();
        let older = parked.filter(|(_, other)| is_older(other) && other.wish.keys.iter().any(|of| of == key));
        let older: Vec<_> = older
            .map(|(older, other)| (*older, other.index, other.words.clone(), other.wish.is_served_by))
            .collect();
        for (other, index, words, is_served_by) in older {
            if is_served_by(&words, key, &mut |words| self.ask(other, words, wait.db, record.now)) {
                return Err(wrong(
                    "turn",
                    format!(
                        "client {}: {} is served from {}, for which {} of client {} has waited longer",
                        self.clients[client].number,
                        self.clients[client].describe(wait.index),
                        shortened(key),
                        self.clients[other].describe(index),
                        self.clients[other].number
                    ),
                ));
            }
        }
        // While clients are paused, several keys may become ready before anybody is served.
        for earlier in wait.wish.keys.iter().take_while(|earlier| *earlier != key) {
            let is_held = key_slot(earlier) == key_slot(key);
            let now = self.time_of_slot(earlier, record.now);
            let ask = &mut |words: &[&[u8]]| self.ask(client, words, wait.db, now);
            if is_held && (wait.wish.is_served_by)(&wait.words, earlier, ask) {
                let what = self.clients[client].describe(wait.index);
                let text = format!(
                    "{what} is served from {}, and not from {}",
                    shortened(key),
                    shortened(earlier)
                );
                return Err(wrong("turn", text));
            }
        }
        Ok(())
    }

    /// A wait has ended that nobody has served.
    pub(super) fn wait_ended(&mut self, record: &Record, how: Unserved) -> Result<(), Failure> {
        let client = self.by_origin.get(&record.origin).copied();
        let Some((client, wait)) = client.and_then(|client| Some((client, self.waits.parked.remove(&client)?))) else {
            return Err(wrong(
                "wait",
                format!("a wait has ended that there was not: {record:?}"),
            ));
        };
        let described = format!(
            "client {}: {}",
            self.clients[client].number,
            self.clients[client].describe(wait.index)
        );
        let latest = self.latest_calendar(record.course_ns);
        if record.now.signed() > latest {
            return Err(wrong(
                "time",
                format!("{described}: its wait ends ahead of everybody's time"),
            ));
        }
        let let_go = self.waits.let_go.entry(client).or_default();
        let is_over = wait.deadline.is_some_and(|deadline| record.now >= deadline);
        match how {
            Unserved::Abandoned => {
                let judged = &mut self.clients[client];
                // Why it is ended may be known only when it is.
                judged.is_lost |= judged.has_half_closed;
                self.waits.forsaken.push((client, described));
                return Ok(());
            }
            Unserved::WithNothing if is_over => let_go.maybe += 1,
            Unserved::WithNothing | Unserved::WithError => {
                let place = usize::from(how == Unserved::WithError);
                let_go.surely[place] += 1;
                if let_go.surely[place] + let_go.have_not[place] > let_go.asked[place] {
                    return Err(wrong(
                        "wait",
                        format!(
                            "{described}: its wait has ended at {} by {how:?}, its time is over at {:?}, and nobody has asked for it",
                            record.now, wait.deadline
                        ),
                    ));
                }
            }
        }
        let mut reply = ReplyBuf::default();
        let mut writer = Reply::new(&mut reply, self.clients[client].program[wait.index].proto);
        match how {
            Unserved::WithError => writer.error(&error::UNBLOCKED),
            _ => writer.null_array(),
        }
        self.answered_after_wait(client, wait.index, reply.to_contiguous().into_owned(), record.now);
        Ok(())
    }

    /// It is known what a request that waited, or could have, is answered.
    pub(super) fn answered_after_wait(&mut self, client: usize, index: usize, reply: Vec<u8>, now: UnixMs) {
        let judged = &mut self.clients[client];
        let state = &mut judged.states[index];
        state.expected = Expected::Reply(reply);
        state.is_executed = true;
        state.now = state.now.max(now);
        judged.latest = judged.latest.max(now);
        judged.move_on();
    }

    /// A request has begun to arrive that is to end the wait of the client of that number. Answers the wait that there is.
    pub(super) fn is_to_let_go(&mut self, number: usize, with_error: bool) -> Option<u64> {
        let client = self.clients.iter().position(|client| client.number == number)?;
        self.waits.let_go.entry(client).or_default().asked[usize::from(with_error)] += 1;
        self.waits.known_number(client)
    }

    /// It is answered. `waited` is what there was when it came.
    pub(super) fn has_let_go(
        &mut self,
        number: usize,
        with_error: bool,
        waited: Option<u64>,
        reply: &[u8],
    ) -> Result<(), Failure> {
        let Some(client) = self.clients.iter().position(|client| client.number == number) else {
            return Ok(());
        };
        let place = usize::from(with_error);
        let let_go = self.waits.let_go.entry(client).or_default();
        match reply {
            b":1\r\n" => let_go.have[place] += 1,
            _ => let_go.have_not[place] += 1,
        }
        let most = let_go.surely[place] + if with_error { 0 } else { let_go.maybe };
        if let_go.have[place] > most {
            return Err(wrong(
                "unblock",
                format!("client {number} is said to be unblocked, and is not"),
            ));
        }
        let least = let_go.asked[place] - let_go.have_not[place];
        if let_go.surely[place] > least {
            return Err(wrong(
                "unblock",
                format!("client {number} was unblocked, and is said not to be"),
            ));
        }
        if reply != b":1\r\n" && waited.is_some() && self.waits.known_number(client) == waited {
            return Err(wrong(
                "unblock",
                format!("client {number} has waited all the time, and is said not to be blocked"),
            ));
        }
        Ok(())
    }

    /// Rule 3. So many clients are blocked for the shards.
    pub(super) fn check_waits(&mut self, blocked_count: usize) -> Result<(), Failure> {
        let parked: Vec<_> = self
            .waits
            .parked
            .iter()
            .map(|(client, wait)| (*client, wait.number))
            .collect();
        if parked.len() != blocked_count {
            return Err(wrong(
                "forgotten",
                format!(
                    "{} requests wait, and {blocked_count} clients are blocked",
                    parked.len()
                ),
            ));
        }
        for (client, _) in parked {
            let wait = &self.waits.parked[&client];
            let (db, index, words, wish) = (wait.db, wait.index, wait.words.clone(), wait.wish.clone());
            let overwritten = wait.overwritten.clone();
            for key in wish.keys.iter().filter(|key| !overwritten.contains(*key)) {
                let now = self.time_of_slot(key, UnixMs(0));
                if (wish.is_served_by)(&words, key, &mut |words| self.ask(client, words, db, now)) {
                    return Err(wrong(
                        "forgotten",
                        format!(
                            "client {}: {} waits, and could be served from {}",
                            self.clients[client].number,
                            self.clients[client].describe(index),
                            shortened(key)
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The types of all keys that are awaited, by client.
    pub(super) fn awaited_types(&mut self, now: UnixMs) -> Vec<Awaited> {
        let Judge { waits, reference, .. } = self;
        let parked = waits.parked.iter();
        let keys = parked.flat_map(|(client, wait)| wait.wish.keys.iter().map(move |key| (*client, wait.db, key)));
        keys.map(|(client, db, key)| (client, key.clone(), reference.type_of(db, key, now)))
            .collect()
    }

    /// A unit has run, before which the awaited keys had these types.
    pub(super) fn note_overwritten(&mut self, before: Vec<Awaited>, now: UnixMs) {
        for (client, key, before) in before {
            let Some(wait) = self.waits.parked.get_mut(&client) else {
                continue;
            };
            match (before, self.reference.type_of(wait.db, &key, now)) {
                (_, None) => drop(wait.overwritten.remove(&key)),
                (Some(before), Some(behind)) if before != behind => drop(wait.overwritten.insert(key)),
                _ => {}
            }
        }
    }

    /// When a key's slot was used last.
    fn time_of_slot(&self, key: &[u8], otherwise: UnixMs) -> UnixMs {
        self.slot_times.get(&key_slot(key)).copied().unwrap_or(otherwise)
    }

    /// What the reference says to somebody who only looks.
    fn ask(&mut self, client: usize, words: &[&[u8]], db: DbIndex, now: UnixMs) -> Vec<u8> {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        let call = Call {
            words: &words,
            db,
            proto: Proto::Resp2,
            now,
        };
        self.reference.run(client as u32 * 4 + 3, &call)
    }

    /// What the reference answers to what may not wait.
    pub(super) fn run_at_once(&mut self, client: usize, index: usize, words: &[Vec<u8>], record: &Record) -> Vec<u8> {
        let call = Call {
            words,
            db: record.db,
            proto: self.clients[client].program[index].proto,
            now: record.now,
        };
        self.reference.run_at_once(client as u32 * 4 + 3, &call)
    }

    /// The awaited key that a request was served from.
    fn key_of(&mut self, client: usize, record: &Record, wait: &Wait) -> Option<Vec<u8>> {
        if let [key] = &wait.wish.keys[..] {
            return Some(key.clone());
        }
        let mut keys = record
            .effects
            .iter()
            .flat_map(|(_, command)| self.keys_of_logged(command));
        if let Some(key) = keys.find(|key| wait.wish.keys.contains(key)) {
            return Some(key);
        }
        // Nothing is logged: it is the first from which it could be served, or, of those that were held, one of a type that it does not take.
        let is_refused = matches!(record.what, What::Refused(_)) && !wait.wish.alone.is_empty();
        let mut keys = wait.wish.keys.iter();
        keys.find(|key| {
            let now = self.time_of_slot(key, record.now);
            let could_be =
                (wait.wish.is_served_by)(&wait.words, key, &mut |words| self.ask(client, words, wait.db, now));
            match is_refused {
                true => !could_be && self.ask(client, &[b"TYPE", key], wait.db, now) != b"+none\r\n",
                false => could_be,
            }
        })
        .cloned()
    }

    /// Whether a unit that was not judged yet is one of somebody who has waited.
    pub(super) fn is_served(&self, record: &Record) -> bool {
        let client = self.by_origin.get(&record.origin);
        let wait = client.and_then(|client| self.waits.parked.get(client));
        let is_it = |wait: &Wait| matches!(&record.what, What::Ran(args) | What::Refused(args) if *args == wait.words);
        wait.is_some_and(is_it)
    }

    fn slots_of_effects(&self, record: &Record) -> SlotSet {
        let keys = record
            .effects
            .iter()
            .flat_map(|(_, command)| self.keys_of_logged(command));
        keys.map(|key| key_slot(&key)).collect()
    }

    fn keys_of_logged(&self, command: &[u8]) -> Vec<Vec<u8>> {
        keys_of_logged(self.registry, command)
    }
}

/// What a fault makes of who waits for the keys of a shard.
pub(super) fn spoil_waits(run: &mut Run<'_>, shard: usize) -> Result<(), Failure> {
    let fault = run.manner.fault;
    let is_meant = matches!(
        fault,
        Fault::ForgetWaiter | Fault::TurnWaitersRound | Fault::EndWait | Fault::LoseTimer
    );
    if !is_meant || run.has_struck || !run.random.chance(1, 3) {
        return Ok(());
    }
    run.has_struck = run.engine.with(shard, |local| match fault {
        Fault::EndWait => {
            let waits = local.room.blocked.values();
            let place = waits.map(|entry| entry.wait.origin).min_by_key(|place| place.index);
            place.is_some_and(|place| unblock(local, place, Unblock::AsTimeout) == Some(true))
        }
        Fault::LoseTimer => local.room.timers.pop_first().is_some(),
        _ => spoil_queue(local, fault) && fault == Fault::ForgetWaiter,
    });
    run.judge_units_after(run.engine.step_ns.get())
}

/// Who waits for ever is let go at last: its connection breaks. False: there is nobody.
pub(super) fn free_one(run: &mut Run<'_>, clients: std::ops::Range<usize>) -> bool {
    let stuck: Vec<usize> = clients.filter(|client| is_stuck(run, *client)).collect();
    if !stuck.is_empty() {
        let client = stuck[run.random.below(stuck.len())];
        run.break_off(client);
    }
    !stuck.is_empty()
}

/// Whether a client is there and waits for what only others can bring about.
pub(super) fn is_stuck(run: &Run<'_>, client: usize) -> bool {
    run.peers[client].phase == super::peer::Phase::Open && run.judge.waits.holds_for_ever(client)
}

/// Nothing is to be done. False: somebody may be held back.
pub(super) fn look_at_waits(run: &mut Run<'_>) -> Result<bool, Failure> {
    let shards = run.engine.shards.iter();
    let is_open = |state: &super::run::ShardState| state.torn.is_some();
    let holds_anything = shards.clone().any(|shard| {
        let shard = shard.borrow();
        shard.env.is_paused() || !shard.core.is_idle() || shard.env.is_loading
    });
    if holds_anything || run.shards.iter().any(is_open) || run.engine.is_loading() {
        return Ok(false);
    }
    let count = shards.map(|shard| shard.borrow().room.len()).sum();
    run.judge.check_waits(count)?;
    Ok(true)
}

/// Rule 4: of the clients of a shard whose pass has begun at that time, and has ended.
pub(super) fn check_overdue(run: &mut Run<'_>, shard: usize, began_ns: u64) -> Result<(), Failure> {
    let local = run.engine.shards[shard].borrow();
    let judge = &mut run.judge;
    let calendar_ms = judge.calendar_ns(shard, began_ns) / 1_000_000;
    for (client, wait) in &mut judge.waits.parked {
        let peer = &run.peers[*client];
        if peer.story.shard != shard || !local.room.blocked.contains_key(&peer.index) {
            continue;
        }
        wait.is_known = true;
        let is_late = |deadline: UnixMs| deadline.0 + ROUNDED_MS < calendar_ms;
        if wait.deadline.is_some_and(is_late) {
            return Err(wrong(
                "late",
                format!(
                    "client {}: {} waits at {calendar_ms}, and its time is over at {:?}",
                    peer.story.number,
                    judge.clients[*client].describe(wait.index),
                    wait.deadline
                ),
            ));
        }
    }
    Ok(())
}

/// Makes something of the first queue of this shard that is long enough.
fn spoil_queue(local: &mut Local, fault: Fault) -> bool {
    let slots: Vec<u16> = local.core.slots_here().collect();
    let nobody = ConnRef::background(local.id());
    slots.into_iter().any(|index| {
        let Some(mut view) = local.core.try_view(&[index], nobody) else {
            return false;
        };
        let slot = view.slot(index).expect("the view was given this slot");
        let dbs: Vec<DbIndex> = (0..16).map(DbIndex).collect();
        let queues = slot.awaited_keys(&dbs).into_iter().filter_map(|(db, key)| {
            let last = slot.newest_waiter(db, &key)?;
            let kinds = [ValueType::List, ValueType::SortedSet];
            let first = kinds
                .iter()
                .find_map(|kind| slot.next_waiter(db, &key, 0, last, Some(*kind)));
            let (number, waiter) = first?;
            Some((db, key, number, last, waiter.who.clone()))
        });
        let queues: Vec<_> = queues.collect();
        if fault == Fault::ForgetWaiter {
            let mut queues = queues.iter();
            return queues.any(|(db, key, number, ..)| slot.end_wait(*db, key, *number));
        }
        let Some((.., who)) = queues.into_iter().find(|(_, _, number, last, _)| number < last) else {
            return false;
        };
        let who = who.downcast::<Blocked>().expect("only blocked clients wait");
        who.step_out(&mut view);
        who.stand_behind(&mut view);
        true
    })
}

/// What a request is that ends somebody's wait: of whom, and whether with an error.
pub(super) fn lets_go(meaning: Meaning) -> Option<(usize, bool)> {
    match meaning {
        Meaning::Unblocks { number, with_error } => Some((number, with_error)),
        _ => None,
    }
}
