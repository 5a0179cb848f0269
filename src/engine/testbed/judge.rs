//! Whether what clients see is right.
//!
//! The shards report each unit of work at the moment at which it takes effect. That order is taken as the order of everything:
//! the [`Reference`] runs the units one after another in it, each at its own time, and what it answers is what the clients must
//! get, byte for byte. As a unit must lie between the arrival of its request and its reply, such an order is a witness of strict
//! serializability.
//!
//! Beside that it is checked that
//!
//! 1. replies come in the order of the requests, one for each, and none before its unit has taken effect;
//! 2. of the units of one connection only those on single slots of different shards change places, and none do where the order is
//!    strict;
//! 3. the time of units goes back neither on a slot nor for a connection, is at most a millisecond old when they begin, and is not
//!    in the future; where the host's clock was set back, it goes on at nine tenths of its speed at least;
//! 4. nothing is written while clients are paused;
//! 5. what has arrived is run, be the connection closed behind it or not;
//! 6. what cannot run while a data set is read is refused until it is whole, and nothing is refused for that reason later.

use super::Recovery;
use super::ears::{Ears, is_message};
use super::engine::{Call, Record, Reference, What};
use super::history::{History, Origin};
use super::judged::{Expected, Judged, State, is_refusal};
use super::reply;
use super::restarts::Estate;
use super::roles::Role;
use super::saves::CutSeen;
use super::story::{Meaning, Request, Story, shortened};
use super::syncs::{Policy, has_file, is_plain};
use super::times::{Floor, PauseWindow};
use super::waits::{Waits, lets_go};
use crate::base::clock::UnixMs;
use crate::base::slot::key_slot;
use crate::engine::Registry;
use crate::shard::turns::Turn;
use crate::shard::{ConnRef, Footprint, ShardId, SlotSet};
use std::collections::BTreeMap;

/// What is wrong, with a word for its kind.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: &'static str,
    pub text: String,
}

impl Failure {
    pub(super) fn new(kind: &'static str, text: impl Into<String>) -> Failure {
        Failure {
            kind,
            text: text.into(),
        }
    }
}

/// What an answer may take that no reference gives: an error, or what an asynchronous command says of the whole server.
const ANSWER_BYTES_MAX: usize = 512;
const REPORT_BYTES_MAX: usize = 16 << 10;

/// See the essay above.
pub(super) struct Judge {
    pub(super) registry: &'static Registry,
    pub(super) reference: Reference,
    pub(super) history: History,
    pub(super) clients: Vec<Judged>,
    pub(super) by_origin: BTreeMap<ConnRef, usize>,
    pub(super) waits: Waits,
    /// The time of the last unit that each shard has run.
    pub(super) last_units: Vec<UnixMs>,
    pub(super) ears: Ears,
    /// The last unit on each slot.
    pub(super) slot_times: BTreeMap<u16, UnixMs>,
    shard_count: usize,
    slot_count: u16,
    /// How far the calendars were apart at the beginning.
    pub(super) skews_ms: Vec<i64>,
    /// How far the host's clock was set back since.
    pub(super) set_back_ms: u64,
    /// Of each shard, when its last pass began.
    pub(super) floors: Vec<Floor>,
    pub(super) is_strict: bool,
    /// What shards log goes into an append-only file.
    has_file: bool,
    /// Values are so large that a command may go in steps: its time is that of the first.
    pub(super) has_huge: bool,
    policy: Policy,
    pub(super) is_short_of_memory: bool,
    pub(super) pauses: Vec<PauseWindow>,
    /// Requests that end pauses and are under way.
    unpausing: usize,
    /// How many have begun and how many were answered.
    unpause_count: u64,
    /// Units and replies, to see whether anything happens.
    pub(super) progress: u64,
    /// The cuts that were made, as far as a file may be of one of them.
    pub(super) cuts: Vec<CutSeen>,
    /// Snapshots of this process have numbers above.
    pub(super) numbers_from: u64,
    /// No shard may serve yet.
    pub(super) is_loading: bool,
    /// Some shard may still take what is over for alive, as its file is being read.
    pub(super) is_replaying: bool,
    /// Of each shard, when it served what it had read at the latest; None: it does not yet.
    loaded_ns: Vec<Option<u64>>,
}

/// What is answered while a data set is read.
const LOADING: &[u8] = b"-LOADING Redis is loading the dataset in memory\r\n";

/// Whether replies leave when what they show is on disk.
pub(super) fn waits_for_disk(story: &Story) -> bool {
    story.features.has("always") && (story.features.has("logged") || has_file(story))
}

impl Judge {
    pub(super) fn new(
        story: &Story,
        registry: &'static Registry,
        estate: &Estate,
        recovery: &dyn Recovery,
    ) -> Result<Judge, String> {
        let is_set = |name: &str, value: &str| story.parameters.iter().any(|(n, v)| n == name && v == value);
        let clients = story
            .clients
            .iter()
            .map(|client| (client.number, client.program.clone()));
        let closing = std::iter::once((usize::MAX, story.closing.clone()));
        let mut judge = Judge {
            registry,
            reference: Reference::new(story, registry, estate, recovery)?,
            history: match has_file(story) {
                true => {
                    let durable = Reference::new(story, registry, estate, recovery)?;
                    History::of_file(
                        registry,
                        is_plain(story),
                        Reference::new(story, registry, estate, recovery)?,
                        durable,
                        story.shard_count,
                    )
                }
                false => History::new(
                    registry,
                    story.features.has("logged"),
                    Reference::new(story, registry, estate, recovery)?,
                    story.shard_count,
                ),
            },
            clients: clients
                .chain(closing)
                .map(|(number, program)| Judged::new(registry, number, program))
                .collect(),
            by_origin: BTreeMap::new(),
            waits: Waits::default(),
            last_units: vec![UnixMs(0); story.shard_count],
            ears: Ears::new(story.shard_count),
            slot_times: BTreeMap::new(),
            shard_count: story.shard_count,
            slot_count: story.slot_count,
            skews_ms: story.schedule.skews_ms.clone(),
            set_back_ms: 0,
            floors: vec![Floor::default(); story.shard_count],
            is_strict: is_set("pipeline-order", "strict"),
            has_file: has_file(story),
            has_huge: story.features.has("huge"),
            policy: Policy::of(story),
            is_short_of_memory: story.parameters.iter().any(|(name, _)| name == "maxmemory"),
            pauses: Vec::new(),
            unpausing: 0,
            unpause_count: 0,
            progress: 0,
            cuts: estate.cuts.clone(),
            numbers_from: estate.numbers_from,
            is_loading: false,
            is_replaying: false,
            loaded_ns: vec![Some(0); story.shard_count],
        };
        for (client, judged) in judge.clients.iter().enumerate() {
            if judged.program.iter().any(|request| request.listens.is_some()) {
                judge.ears.listens(client);
            }
        }
        if !estate.is_first && !judge.has_file {
            // What was found is on the disk until something else is saved.
            judge.cut(estate.numbers_from, estate.now());
        }
        Ok(judge)
    }

    /// A data set is read.
    pub(super) fn begins_to_load(&mut self) {
        self.is_loading = true;
        self.is_replaying = true;
        self.loaded_ns.fill(None);
    }

    /// A shard serves what it has read.
    pub(super) fn loaded(&mut self, shard: usize, course_ns: u64) {
        self.loaded_ns[shard].get_or_insert(course_ns);
    }

    /// Whether a request that has arrived may be refused because a data set was read.
    fn may_find_it_loading(&self, client: usize, index: usize) -> bool {
        let judged = &self.clients[client];
        let state = &judged.states[index];
        let was_loading =
            self.loaded_ns[judged.shard].is_none_or(|loaded_ns| state.arrived_ns <= loaded_ns && loaded_ns > 0);
        was_loading && !state.traits.runs_while_loading
    }

    /// Whether this request may be what was taken for an earlier one of the same words, which was refused while a data set was read.
    fn may_stand_for_it(&self, client: usize, index: usize) -> bool {
        let judged = &self.clients[client];
        let is_it = |earlier: usize| {
            let is_same = judged.program[earlier].words == judged.program[index].words;
            is_same && judged.states[earlier].is_executed && self.may_find_it_loading(client, earlier)
        };
        (judged.next_reply.min(index)..index).any(is_it)
    }

    /// A snapshot has what there is at this time.
    fn cut(&mut self, number: u64, now: UnixMs) {
        self.cuts.push(CutSeen {
            number,
            now,
            picture: self.reference.picture(now),
            fading: self.reference.fading(now),
            changes: self.reference.changes(),
        });
    }

    /// A client has a connection now.
    pub(super) fn connected(&mut self, client: usize, origin: ConnRef) {
        self.by_origin.insert(origin, client);
        self.clients[client].shard = usize::from(origin.shard.0);
    }

    /// So many requests of a client have begun to arrive, and so many have arrived as a whole.
    pub(super) fn arrived(&mut self, client: usize, begun: usize, whole: usize, course_ns: u64) {
        let judged = &mut self.clients[client];
        let news = judged.begun..begun;
        judged.begun = begun;
        for index in judged.arrived..whole {
            judged.states[index].arrived_ns = course_ns;
            judged.states[index].unpause_count = self.unpause_count;
            judged.states[index].floor = judged.known;
            judged.states[index].floor_turn = judged.known_turn;
        }
        judged.arrived = judged.arrived.max(whole);
        for index in news {
            self.clients[client].states[index].asked = self.progress;
            self.clients[client].states[index].floor_turn = self.clients[client].known_turn;
            match self.clients[client].program[index].meaning {
                Meaning::Unpauses => {
                    self.pauses.clear();
                    self.unpausing += 1;
                    self.unpause_count += 1;
                }
                Meaning::Kills(number) => {
                    for other in self.clients.iter_mut().filter(|other| other.number == number) {
                        other.is_lost = true;
                    }
                }
                Meaning::Unblocks { number, with_error } => {
                    let waited = self.is_to_let_go(number, with_error);
                    self.clients[client].states[index].waited = waited;
                }
                Meaning::Promises { .. } => self.policy.asked(),
                Meaning::Plain | Meaning::Pauses { .. } | Meaning::Exempts => {}
            }
            if self.clients[client].states[index].traits.role == Role::Reset {
                self.clients[client].is_exempt = false;
            }
        }
    }

    /// Whether a client knows that it is not ended for what all of them take.
    pub(super) fn is_exempt(&self, client: usize) -> bool {
        self.clients[client].is_exempt
    }

    /// The bytes of the replies that a client is still to be handed, at most.
    pub(super) fn owed_bytes(&self, client: usize) -> usize {
        let judged = &self.clients[client];
        let open = judged.next_reply.min(judged.arrived)..judged.arrived;
        let reports = |place: usize| usize::from(judged.states[place].traits.is_asynchronous) * REPORT_BYTES_MAX;
        open.filter(|index| judged.program[*index].is_answered)
            .map(|index| {
                let state = &judged.states[index];
                let known_bytes = match &state.expected {
                    Expected::Reply(reply) => reply.len(),
                    Expected::InOtherWords(reply) => 2 * reply.len() + ANSWER_BYTES_MAX,
                    Expected::Unknown => ANSWER_BYTES_MAX,
                };
                let asked_bytes = match state.traits.role {
                    Role::Exec(multi) => (multi..index).map(reports).sum(),
                    _ => reports(index),
                };
                known_bytes + asked_bytes
            })
            .sum()
    }

    /// A client has closed its sending side.
    pub(super) fn half_closed(&mut self, client: usize) {
        self.clients[client].has_half_closed = true;
    }

    /// What a client is owed from now on is not known.
    pub(super) fn lost(&mut self, client: usize) {
        self.clients[client].is_lost = true;
    }

    pub(super) fn is_lost(&self, client: usize) -> bool {
        self.clients[client].is_lost
    }

    /// Whether a client must wait for each reply before it sends on. Where memory may be lacking, only the replies tell which
    /// transactions have been queued as a whole.
    pub(super) fn must_go_slowly(&self, client: usize) -> bool {
        let is_exec = |state: &State| matches!(state.traits.role, Role::Exec(_));
        let may_lack = self.is_short_of_memory || self.is_loading;
        may_lack && self.clients[client].states.iter().any(is_exec)
    }

    /// Whether a client has asked for the end of its connection.
    pub(super) fn has_quit(&self, client: usize) -> bool {
        let judged = &self.clients[client];
        let mut begun = judged.states[..judged.begun].iter();
        begun.any(|state| state.traits.role == Role::Quit)
    }

    /// How many of a client's replies have been sent.
    pub(super) fn answered(&self, client: usize) -> usize {
        self.clients[client].next_reply
    }

    /// Whether nothing that has arrived of a client waits for its reply.
    pub(super) fn is_all_answered(&self, client: usize) -> bool {
        let judged = &self.clients[client];
        judged.program[judged.next_reply.min(judged.arrived)..judged.arrived]
            .iter()
            .all(|request| !request.is_answered)
    }

    /// Units of work have taken effect. `step_ns` is what each reading of a clock takes at this time.
    pub(super) fn take(&mut self, records: Vec<Record>, step_ns: u64) -> Result<(), Failure> {
        for record in records {
            self.progress += 1;
            if self.has_file && self.is_loading && !record.origin.keeps_order() {
                // What the file tells is run again.
                continue;
            }
            if matches!(record.what, What::Expired) {
                self.note(&record, None, &Footprint::Slots(SlotSet::new()))?;
                continue;
            }
            if let What::WaitEnded(how) = record.what {
                self.wait_ended(&record, how)?;
                continue;
            }
            if let What::Cut { number, early } = record.what {
                match (self.has_file, early) {
                    (false, _) => self.cut(self.numbers_from + number, record.now),
                    (true, Some(early)) => {
                        let turn = early.turn;
                        self.took_turn(record.shard, Some(early))?;
                        self.history.wrote(turn, None)?;
                    }
                    (true, None) => {}
                }
                continue;
            }
            if let What::Evicted(key) = &record.what {
                let slot = key_slot(key);
                self.check_pause(&record, true, || format!("eviction of {}", shortened(key)))?;
                if !self.reference.remove(slot, record.db, key, record.now) {
                    return Err(Failure::new(
                        "eviction",
                        format!("{} was evicted, and should not be there", shortened(key)),
                    ));
                }
                self.note(&record, None, &Footprint::Slots(SlotSet::new()))?;
                continue;
            }
            let Some(&client) = self.by_origin.get(&record.origin) else {
                return Err(Failure::new(
                    "origin",
                    format!("nobody has sent what took effect: {record:?}"),
                ));
            };
            if self.waits.holds(client) {
                self.goes_on_waiting(client, &record, step_ns)?;
                continue;
            }
            let index = self.find(client, &record)?;
            if self.is_loading && !self.clients[client].states[index].traits.runs_while_loading {
                let what = self.clients[client].describe(index);
                return Err(Failure::new(
                    "loading",
                    format!("{what} ran while the data set was read"),
                ));
            }
            let footprint = self.clients[client].footprint(index);
            self.check_time(client, index, &record, &footprint, (step_ns, false))?;
            if let What::Parked(_) = record.what {
                self.begins_to_wait(client, index, &record)?;
            } else {
                let writes = self.writes(client, index);
                self.check_pause(&record, writes, || self.clients[client].describe(index))?;
                let before = self.awaited_types(record.now);
                self.execute(client, index, &record);
                self.note_overwritten(before, record.now);
            }
            self.note(&record, Some((client, index)), &footprint)?;
        }
        Ok(())
    }

    /// Has the unit followed on its way into the logs.
    pub(super) fn note(
        &mut self,
        record: &Record,
        origin: Option<Origin>,
        footprint: &Footprint,
    ) -> Result<(), Failure> {
        let floor = origin.map_or(0, |(client, index)| self.clients[client].states[index].floor_turn);
        self.last_units[record.shard] = record.now;
        self.ears.told(record, origin, self.progress);
        let text = tell(record);
        self.history.ran(record, footprint, origin, floor, text)
    }

    /// A shard's pass has taken a turn, or none.
    pub(super) fn took_turn(&mut self, shard: usize, turn: Option<Turn>) -> Result<(), Failure> {
        self.ears.took_turn(shard, turn.as_ref().map(|turn| turn.turn));
        for shown in self.history.took(shard, turn)? {
            let (client, index) = shown.origin;
            let state = &mut self.clients[client].states[index];
            (state.turn, state.durable_turn) = (shown.turn, shown.durable_turn);
        }
        Ok(())
    }

    /// Runs on the replica what is written, and looks at it now and then.
    pub(super) fn follow_history(&mut self) -> Result<(), Failure> {
        self.history.follow(&self.reference, self.progress)
    }

    /// What the logs make must be what is there.
    pub(super) fn compare_replica(&mut self) -> Result<(), Failure> {
        self.history.compare(&self.reference)
    }

    /// The request that a unit was: the first that is as the unit was, has arrived and was not run.
    fn find(&self, client: usize, record: &Record) -> Result<usize, Failure> {
        let judged = &self.clients[client];
        let is_it = |index: &usize| {
            let state = &judged.states[*index];
            let words = &judged.program[*index].words;
            !state.is_executed
                && !state.is_refused
                && match (&record.what, state.traits.role) {
                    (What::Ran(args) | What::Parked(args), Role::Data) => args == words,
                    (What::Watched(keys), Role::Watch) => words[1..] == **keys,
                    (What::Committed | What::Aborted, Role::Exec(_)) => !judged.is_doomed(*index),
                    _ => false,
                }
        };
        let Some(index) = (judged.first_open..judged.arrived).find(is_it) else {
            return Err(Failure::new(
                "unasked",
                format!(
                    "client {}: what took effect was not asked for, or ran before: {}",
                    judged.number,
                    tell(record)
                ),
            ));
        };
        let traits = &judged.states[index].traits;
        for earlier in judged.first_open..index {
            let state = &judged.states[earlier];
            let is_open = match state.traits.role {
                Role::Data => !(self.is_short_of_memory && state.traits.needs_memory),
                Role::Watch => true,
                Role::Exec(_) => !self.is_short_of_memory && !judged.is_doomed(earlier),
                _ => false,
            };
            let is_refused = self.may_find_it_loading(client, earlier) || self.may_stand_for_it(client, earlier);
            if state.is_executed || !is_open || is_refused {
                continue;
            }
            let may_change_places = !self.is_strict
                && traits.is_single
                && state.traits.is_single
                && self.home(&traits.footprint) != self.home(&state.traits.footprint);
            if !may_change_places {
                return Err(Failure::new(
                    "order",
                    format!(
                        "client {}: {} took effect before {}",
                        judged.number,
                        judged.describe(index),
                        judged.describe(earlier)
                    ),
                ));
            }
        }
        Ok(index)
    }

    /// The shard of a single slot.
    fn home(&self, footprint: &Footprint) -> Option<ShardId> {
        let Footprint::Slots(slots) = footprint else {
            return None;
        };
        let slot = usize::from(*slots.as_slice().first()?);
        let (slots, shards) = (usize::from(self.slot_count), self.shard_count);
        let home = (0..shards).find(|shard| slot < (shard + 1) * slots / shards);
        home.map(|shard| ShardId(shard as u16))
    }

    fn writes(&self, client: usize, index: usize) -> bool {
        let judged = &self.clients[client];
        match judged.states[index].traits.role {
            Role::Exec(multi) => judged.states[multi..index].iter().any(|state| state.traits.writes),
            _ => judged.states[index].traits.writes,
        }
    }

    /// Has the reference run what a unit was.
    fn execute(&mut self, client: usize, index: usize, record: &Record) {
        let is_replaying = self.has_file && self.is_replaying;
        if self.clients[client].program[index].waits.is_some() {
            let words = self.clients[client].program[index].words.clone();
            let reply = self.run_at_once(client, index, &words, record);
            return self.answered_after_wait(client, index, reply, record.now);
        }
        let Judge { reference, clients, .. } = self;
        let judged = &mut clients[client];
        let protos = client as u32 * 4;
        let call = |request: &Request| {
            let proto = request.proto;
            // Commands of one client may have changed places, so each way of speaking has a client of its own; what is watched
            // belongs to another one.
            (protos + if proto == crate::resp::Proto::Resp3 { 1 } else { 0 }, proto)
        };
        let run = |reference: &mut Reference, who: u32, request: &Request| {
            let call = Call {
                words: &request.words,
                db: record.db,
                proto: request.proto,
                now: record.now,
            };
            reference.run(who, &call)
        };
        let watcher = protos + 2;
        let role = judged.states[index].traits.role;
        let reply = match role {
            Role::Data => {
                let (who, _) = call(&judged.program[index]);
                run(reference, who, &judged.program[index])
            }
            _ => {
                if judged.has_let_go(index) {
                    reference.unwatch(watcher);
                    judged.watched_replay = false;
                }
                judged.watched_until = index + 1;
                judged.watched_replay |= role == Role::Watch && is_replaying;
                match (role, &record.what) {
                    // A command of the file has changed the key since: the reference had read all of it before anybody came.
                    (Role::Exec(_), What::Aborted) if std::mem::take(&mut judged.watched_replay) => {
                        reference.unwatch(watcher);
                        reply::null_array(judged.program[index].proto).to_vec()
                    }
                    (Role::Exec(multi), _) => {
                        judged.watched_replay = false;
                        for place in multi..index {
                            if !judged.states[place].traits.is_asynchronous {
                                run(reference, watcher, &judged.program[place]);
                            }
                        }
                        run(reference, watcher, &judged.program[index])
                    }
                    _ => run(reference, watcher, &judged.program[index]),
                }
            }
        };
        let state = &mut judged.states[index];
        state.expected = Expected::Reply(reply);
        state.is_executed = true;
        state.now = record.now;
        judged.latest = judged.latest.max(record.now);
        judged.move_on();
    }

    /// Output of a client was handed over.
    pub(super) fn output(&mut self, client: usize, bytes: &[u8], course_ns: u64) -> Result<(), Failure> {
        self.clients[client].output.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let judged = &mut self.clients[client];
            let number = judged.number;
            let rest = &judged.output[at..];
            let length = reply::length(rest)
                .map_err(|error| Failure::new("reply", format!("client {number}: {error}: {}", shortened(rest))))?;
            let Some(length) = length else { break };
            let reply = rest[..length].to_vec();
            at += length;
            self.progress += 1;
            match self.is_listener(client) && is_message(&reply) {
                true => self.hears(client, &reply)?,
                false => self.judge(client, &reply, course_ns)?,
            }
        }
        self.clients[client].output.drain(..at);
        Ok(())
    }

    fn judge(&mut self, client: usize, reply: &[u8], course_ns: u64) -> Result<(), Failure> {
        let is_short_of_memory = self.is_short_of_memory;
        let judged = &mut self.clients[client];
        let is_silent = |request: &Request| !request.is_answered;
        while judged.program.get(judged.next_reply).is_some_and(is_silent) {
            judged.next_reply += 1;
        }
        let index = judged.next_reply;
        if index >= judged.arrived {
            return Err(Failure::new(
                "reply-too-many",
                format!(
                    "client {} got a reply too many, or before its request: {}",
                    judged.number,
                    shortened(reply)
                ),
            ));
        }
        if judged.program[index].listens.is_some() && !self.confirms(client, index, reply)? {
            return Ok(());
        }
        let judged = &mut self.clients[client];
        judged.next_reply += 1;
        if judged.states[index].traits.role == Role::Reset {
            self.listens_no_more(client);
        }
        let judged = &mut self.clients[client];
        judged.speaks = judged.program[index].proto;
        let is_alone = judged.states[index].traits.role == Role::Data;
        self.ears.answered((client, index), self.progress, reply, is_alone);
        let is_loading = reply == LOADING && self.may_find_it_loading(client, index);
        let judged = &mut self.clients[client];
        if is_loading || is_short_of_memory && is_refusal(reply) {
            for later in judged.was_refused(index) {
                self.history.exchange((client, index), (client, later));
            }
        }
        let error = match is_loading {
            true => None,
            false => judged.objection(index, reply, is_short_of_memory),
        };
        if let Some((kind, text)) = error {
            return Err(Failure::new(
                kind,
                format!("client {}: {}: {text}", judged.number, judged.describe(index)),
            ));
        }
        judged.known = judged.known.max(judged.states[index].now);
        judged.known_turn = judged.known_turn.max(judged.states[index].turn);
        // What is refused may have looked at none of its keys.
        if !reply::has_error(reply) {
            judged.durable_turn = judged.durable_turn.max(judged.states[index].durable_turn);
            let up_to = judged.durable_turn;
            if self.policy.holds(up_to)
                && let Some(turn) = self.history.first_unsynced(up_to)
            {
                return Err(Failure::new(
                    "durable",
                    format!(
                        "client {}: {} is answered when turn {} is to be on disk, and turn {turn} is not",
                        judged.number,
                        judged.describe(index),
                        judged.durable_turn
                    ),
                ));
            }
        }
        let state = &mut judged.states[index];
        state.is_queue_error = state.traits.role == Role::Queued && reply::is_error(reply);
        let (arrived_ns, unpause_count) = (state.arrived_ns, state.unpause_count);
        if let Some((number, with_error)) = lets_go(judged.program[index].meaning) {
            let waited = judged.states[index].waited;
            return self.has_let_go(number, with_error, waited, reply);
        }
        match judged.program[index].meaning {
            Meaning::Pauses { for_ms, .. } if !reply::is_error(reply) => {
                let text = judged.describe(index);
                let (least, most) = (self.skews_ms.iter().min(), self.skews_ms.iter().max());
                let apart_ms = most.unwrap_or(&0) - least.unwrap_or(&0);
                let sure_ms = (for_ms as i64 - apart_ms - 3).max(0) as u64;
                let until_ns = arrived_ns + sure_ms * 1_000_000;
                // One that ends pauses may have come between; and calendars that slow down do not do so at the same moment.
                let is_sure = self.unpausing == 0 && self.unpause_count == unpause_count && self.set_back_ms == 0;
                if is_sure && until_ns > course_ns {
                    self.pauses.push(PauseWindow { until_ns, text });
                }
            }
            Meaning::Promises { always } => {
                let always = always && !reply::is_error(reply);
                self.policy.answered(always, self.history.last_turn());
            }
            Meaning::Unpauses => {
                self.unpausing -= 1;
                self.unpause_count += 1;
            }
            Meaning::Exempts => {
                let is_reset = |state: &State| state.traits.role == Role::Reset;
                judged.is_exempt = !judged.states[index..judged.begun].iter().any(is_reset);
            }
            _ => {}
        }
        Ok(())
    }

    /// All has ended: what was sent by clients that are not lost must have been run and answered.
    pub(super) fn check_end(&self, client: usize) -> Result<(), Failure> {
        let judged = &self.clients[client];
        if judged.is_lost {
            return Ok(());
        }
        let missing = |what: &str, index: usize| {
            Err(Failure::new(
                "lost",
                format!(
                    "client {}: {} has arrived and was not {what}",
                    judged.number,
                    judged.describe(index)
                ),
            ))
        };
        for index in 0..judged.arrived {
            let state = &judged.states[index];
            let must_run = match state.traits.role {
                Role::Data => !self.is_short_of_memory,
                Role::Watch => true,
                Role::Exec(_) => !self.is_short_of_memory && !judged.is_doomed(index),
                Role::Quit => break,
                _ => false,
            };
            if must_run && !state.is_executed && !self.may_find_it_loading(client, index) {
                return missing("run", index);
            }
            if judged.program[index].is_answered && index >= judged.next_reply {
                return missing("answered", index);
            }
        }
        if !judged.output.is_empty() {
            return Err(Failure::new(
                "reply-half",
                format!(
                    "client {} got half a reply: {}",
                    judged.number,
                    shortened(&judged.output)
                ),
            ));
        }
        Ok(())
    }

    /// What a client waits for, for people.
    pub(super) fn waits_for(&self, client: usize) -> String {
        let judged = &self.clients[client];
        match judged.next_reply < judged.arrived {
            true => format!(
                "client {} waits for the reply of {}",
                judged.number,
                judged.describe(judged.next_reply)
            ),
            false => format!(
                "client {} has sent {} requests, of which {} have arrived",
                judged.number,
                judged.program.len(),
                judged.arrived
            ),
        }
    }

    /// The name of a unit's command, for people.
    pub(super) fn name_of(&self, record: &Record) -> &'static str {
        self.registry.get(record.command).command.name
    }
}

/// A unit for people.
pub(super) fn tell(record: &Record) -> String {
    let words = |words: &[Vec<u8>]| words.iter().map(|word| shortened(word)).collect::<Vec<_>>().join(" ");
    match &record.what {
        What::Ran(args) => words(args),
        What::Parked(args) => format!("{}, which waits", words(args)),
        What::Refused(args) => format!("{}, which is refused", words(args)),
        What::WaitEnded(how) => format!("a wait that ends: {how:?}"),
        What::Watched(keys) => format!("watch {}", words(keys)),
        What::Committed => "a transaction".to_owned(),
        What::Aborted => "a transaction whose keys had changed".to_owned(),
        What::Evicted(key) => format!("eviction of {}", shortened(key)),
        What::Expired => "expiry".to_owned(),
        What::Cut { number, .. } => format!("the cut of snapshot {number}"),
    }
}
