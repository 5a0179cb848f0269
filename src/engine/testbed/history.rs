//! Whether the logs of all shards are one history: merged by turn they must make of another server what this one is, and any beginning of
//! them a state that clients could have seen.
//!
//! Each unit is followed from when it ran to when its pass was released:
//!
//! 1. it runs over slots whose last unit has a turn that was released, or is of the same pass (rule 3: slots leave last);
//! 2. its pass takes a turn: a later one than any unit has on its slots, and than its client knew of when it sent it. So whatever
//!    a beginning of the turns holds, it holds all that this depends on;
//! 3. its effects are in the chunk of that turn, framed as they should be, and nothing else is;
//! 4. when its pass is released, every chunk up to the newest that it shows is written (rules 2 and 3);
//! 5. what it has told is heard on every shard that listens, once, in the order of turns (rule 8);
//! 6. chunks have dense log numbers and lie end to end in the stream, a SELECT where its db changes.
//!
//! The effects are run on a server of their own, chunk by chunk in the order of turns, and whenever all turns that were taken have been
//! run there, the two are compared: keys, values, and when each expires.

use super::engine::{Picture, Record, Reference, What};
use super::judge::Failure;
use super::roles::keys_of_logged;
use super::saves::first_difference;
use super::story::shortened;
use crate::base::clock::UnixMs;
use crate::base::slot::key_slot;
use crate::engine::Registry;
use crate::engine::attempt::encode_command;
use crate::shard::Footprint;
use crate::shard::turns::Turn;
use crate::store::DbIndex;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// So many units and replies apart what the logs make is compared.
const COMPARED_EVERY: u64 = 16;

/// An event of a unit: its name, and the key.
pub(super) type Told = (&'static str, DbIndex, Vec<u8>);

/// A request of a client: who, and which.
pub(super) type Origin = (usize, usize);

/// A chunk as a shard's file has got it.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) file: Vec<u8>,
    pub(super) stream: Vec<u8>,
}

/// What was heard on a shard: turns, and the messages of each.
pub(super) type Heard = Rc<RefCell<Vec<(u64, Vec<Told>)>>>;

/// See the essay above.
pub(super) struct History {
    registry: &'static Registry,
    is_logged: bool,
    /// What is written goes into the append-only file of the engine, and is looked at when somebody has read that.
    has_file: bool,
    /// And says nothing of chunks: it is cut between any two units.
    is_plain: bool,
    /// Turns and numbers go on behind what was read.
    is_adrift: bool,
    replica: Reference,
    /// One that has what is durable only, where there is an append-only file; all turns before this one have been run on it.
    durable: Option<(Reference, u64)>,
    shards: Vec<Pass>,
    /// The last unit on each slot.
    slots: BTreeMap<u16, LastUnit>,
    /// The last change of each slot.
    changes: BTreeMap<u16, LastUnit>,
    taken: BTreeMap<u64, Taken>,
    /// All turns before this one have been run on the replica.
    next_turn: u64,
    next_number: u64,
    /// All chunks before this turn are known to be written.
    written_before: u64,
    end_offset: u64,
    /// Of each shard that listens.
    heard: Vec<Option<Heard>>,
    /// The latest time of any unit.
    latest: UnixMs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastUnit {
    /// Its pass is under way on that shard.
    Open(usize),
    Turn(u64),
}

/// What a shard has run since its last turn.
#[derive(Default)]
struct Pass {
    units: Vec<Unit>,
    /// The newest turn that its units have seen.
    saw: u64,
}

struct Unit {
    /// The turn that its client knew of when it was sent.
    floor: u64,
    saw: u64,
    /// What must be on disk before its reply may leave: the last change of the only slot that it looks at, or of its own pass.
    need: Option<LastUnit>,
    origin: Option<Origin>,
    now: UnixMs,
    effects: Vec<(DbIndex, Vec<u8>)>,
    told: Vec<Told>,
    text: String,
}

struct Taken {
    shard: usize,
    turn: Turn,
    units: Vec<Unit>,
    /// Its chunk in the stream.
    stream: Vec<u8>,
    is_written: bool,
    is_released: bool,
    is_synced: bool,
}

/// What a client will know of when it is answered.
pub(super) struct Shown {
    pub(super) origin: Origin,
    pub(super) turn: u64,
    /// All up to this turn must be on disk before.
    pub(super) durable_turn: u64,
}

fn wrong(text: String) -> Failure {
    Failure::new("history", text)
}

impl History {
    pub(super) fn new(registry: &'static Registry, is_logged: bool, replica: Reference, shard_count: usize) -> History {
        History {
            registry,
            is_logged,
            has_file: false,
            is_plain: false,
            is_adrift: false,
            replica,
            durable: None,
            shards: (0..shard_count).map(|_| Pass::default()).collect(),
            slots: BTreeMap::new(),
            changes: BTreeMap::new(),
            taken: BTreeMap::new(),
            next_turn: 1,
            next_number: 1,
            written_before: 1,
            end_offset: 0,
            heard: vec![None; shard_count],
            latest: UnixMs::EPOCH,
        }
    }

    /// Of an engine with an append-only file; both references have what that held at the start.
    pub(super) fn of_file(
        registry: &'static Registry,
        is_plain: bool,
        replica: Reference,
        durable: Reference,
        shard_count: usize,
    ) -> History {
        History {
            has_file: true,
            is_plain,
            is_adrift: true,
            durable: Some((durable, 1)),
            ..History::new(registry, true, replica, shard_count)
        }
    }

    /// What is heard on that shard.
    pub(super) fn listen(&mut self, shard: usize, heard: Heard) {
        self.heard[shard] = Some(heard);
    }

    /// A unit has run: a client's, who knew of turns up to `floor` when it sent it, or nobody's.
    pub(super) fn ran(
        &mut self,
        record: &Record,
        footprint: &Footprint,
        origin: Option<Origin>,
        floor: u64,
        text: String,
    ) -> Result<(), Failure> {
        self.latest = self.latest.max(record.now);
        let all: Vec<u16> = match (&record.what, footprint) {
            (What::Evicted(key), _) => vec![key_slot(key)],
            // It has looked at nothing of what it would have used.
            (What::Aborted, _) => Vec::new(),
            (What::Expired, _) => record
                .effects
                .iter()
                .filter_map(|(_, command)| self.slot_of(command))
                .collect(),
            (_, Footprint::Slots(slots)) => slots.iter().collect(),
            (_, Footprint::Everything) => self.slots.keys().copied().collect(),
        };
        let mut saw = 0;
        for slot in &all {
            match self.slots.get(slot) {
                Some(LastUnit::Turn(turn)) => {
                    if !self
                        .taken
                        .get(turn)
                        .is_none_or(|taken| taken.is_released || taken.shard == record.shard)
                    {
                        return Err(wrong(format!(
                            "{text} on shard {} uses slot {slot} of turn {turn}, which is not released",
                            record.shard
                        )));
                    }
                    saw = saw.max(*turn);
                }
                Some(LastUnit::Open(shard)) if *shard != record.shard => {
                    return Err(wrong(format!(
                        "{text} on shard {} uses slot {slot}, which a pass of shard {shard} has changed that has no turn yet",
                        record.shard
                    )));
                }
                Some(LastUnit::Open(_)) | None => {}
            }
        }
        let has_turn = self.is_logged && !record.effects.is_empty() || self.is_heard() && !record.told.is_empty();
        if has_turn {
            self.slots
                .extend(all.iter().map(|slot| (*slot, LastUnit::Open(record.shard))));
        }
        let need = match (&record.effects[..], &all[..]) {
            ([], [slot]) => self.changes.get(slot).copied(),
            ([], _) => None,
            (effects, _) => {
                let changed = effects.iter().filter_map(|(_, command)| self.slot_of(command));
                let changed: Vec<u16> = changed.collect();
                let open = LastUnit::Open(record.shard);
                self.changes.extend(changed.into_iter().map(|slot| (slot, open)));
                Some(open)
            }
        };
        let pass = &mut self.shards[record.shard];
        pass.saw = pass.saw.max(saw);
        pass.units.push(Unit {
            floor,
            saw,
            need,
            origin,
            now: record.now,
            effects: record.effects.clone(),
            told: record.told.clone(),
            text,
        });
        Ok(())
    }

    /// What has run for one request has run for the other, and the other way round.
    pub(super) fn exchange(&mut self, one: Origin, other: Origin) {
        let units = self.shards.iter_mut().flat_map(|pass| &mut pass.units);
        for origin in units.filter_map(|unit| unit.origin.as_mut()) {
            *origin = match *origin {
                origin if origin == one => other,
                origin if origin == other => one,
                origin => origin,
            };
        }
    }

    /// A pass has taken a turn, or none. Answers what its clients will know of when they are answered.
    pub(super) fn took(&mut self, shard: usize, turn: Option<Turn>) -> Result<Vec<Shown>, Failure> {
        let Pass { units, saw } = std::mem::take(&mut self.shards[shard]);
        let known = |turn: u64| {
            units
                .iter()
                .filter_map(move |unit| {
                    let durable_turn = match unit.need {
                        None => 0,
                        Some(LastUnit::Open(_)) => turn,
                        Some(LastUnit::Turn(turn)) => turn,
                    };
                    Some(Shown {
                        origin: unit.origin?,
                        turn: turn.max(unit.saw),
                        durable_turn,
                    })
                })
                .collect()
        };
        let Some(turn) = turn else {
            let is_missing =
                |unit: &&Unit| self.is_logged && !unit.effects.is_empty() || self.is_heard() && !unit.told.is_empty();
            let answer = known(0);
            if let Some(unit) = units.iter().find(is_missing) {
                return Err(wrong(format!(
                    "{} has changed something, and its pass took no turn",
                    unit.text
                )));
            }
            self.shards[shard].saw = saw;
            return Ok(answer);
        };
        if std::mem::take(&mut self.is_adrift) {
            self.next_turn = turn.turn;
            self.written_before = turn.turn;
            self.next_number = turn.earlier_numbers;
            self.end_offset = turn.offsets.start;
            if let Some((_, next_turn)) = &mut self.durable {
                *next_turn = turn.turn;
            }
        }
        let Turn {
            turn: number_of_turn,
            number,
            ref offsets,
            ..
        } = turn;
        if self.taken.contains_key(&number_of_turn) && self.has_file {
            // What was logged before a cut had a turn of its own, and nothing has been logged since.
            let answer = known(number_of_turn);
            self.shards[shard].saw = saw;
            return Ok(answer);
        }
        for unit in &units {
            let (saw, floor) = (unit.saw, unit.floor);
            if saw >= number_of_turn || floor >= number_of_turn {
                return Err(wrong(format!(
                    "{} has turn {number_of_turn}, has seen turn {saw}, and its client knew of turn {floor}",
                    unit.text
                )));
            }
        }
        if number.is_some_and(|number| number != self.next_number) || turn.earlier_numbers != self.next_number {
            return Err(wrong(format!(
                "turn {turn:?} where log number {} is next",
                self.next_number
            )));
        }
        self.next_number += u64::from(number.is_some());
        if offsets.start != self.end_offset {
            return Err(wrong(format!(
                "turn {turn:?} where the stream ends at {}",
                self.end_offset
            )));
        }
        self.end_offset = offsets.end;
        let answer = known(number_of_turn);
        for last in self.slots.values_mut().chain(self.changes.values_mut()) {
            if *last == LastUnit::Open(shard) {
                *last = LastUnit::Turn(number_of_turn);
            }
        }
        self.shards[shard].saw = saw;
        let taken = Taken {
            shard,
            turn,
            units,
            stream: Vec::new(),
            is_written: number.is_none(),
            is_released: false,
            is_synced: number.is_none(),
        };
        if self.taken.insert(number_of_turn, taken).is_some() {
            return Err(wrong(format!("turn {number_of_turn} was taken twice")));
        }
        Ok(answer)
    }

    /// The slot of the first key of a logged command.
    fn slot_of(&self, command: &[u8]) -> Option<u16> {
        let keys = keys_of_logged(self.registry, command);
        keys.first().map(|key| key_slot(key))
    }

    fn is_heard(&self) -> bool {
        self.heard.iter().any(Option::is_some)
    }

    /// A pass has written its chunk.
    pub(super) fn wrote(&mut self, turn: u64, written: Option<Written>) -> Result<(), Failure> {
        let Some(taken) = self.taken.get_mut(&turn) else {
            return Err(wrong(format!("turn {turn} is written, and nobody took it")));
        };
        taken.is_written = true;
        let effects: Vec<_> = taken
            .units
            .iter()
            .map(|unit| &unit.effects)
            .filter(|effects| !effects.is_empty())
            .collect();
        if taken.turn.number.is_none() {
            return match written {
                None if effects.is_empty() => Ok(()),
                _ => Err(wrong(format!(
                    "turn {turn} has no log number, and has effects or was written"
                ))),
            };
        }
        if self.has_file {
            return Ok(());
        }
        let Some(Written { file, stream }) = written else {
            return Err(wrong(format!("turn {turn} is said to be written and is in no file")));
        };
        // It was written as for a file that is in no db yet.
        let (mut expected, mut db) = (Vec::new(), None);
        for effects in effects {
            frame(&mut expected, effects, &mut db);
        }
        taken.stream = stream;
        match file == expected {
            true => Ok(()),
            false => Err(wrong(format!(
                "the file has {} of turn {turn}, and should have {}",
                shortened(&file),
                shortened(&expected)
            ))),
        }
    }

    /// The turns of a shard whose chunks are written and not on disk.
    pub(super) fn unsynced(&self, shard: usize) -> Vec<u64> {
        let mine = self.taken.iter().filter(|(_, taken)| taken.shard == shard);
        let unsynced = mine.filter(|(_, taken)| taken.is_written && !taken.is_synced);
        unsynced.map(|(turn, _)| *turn).collect()
    }

    /// These are on disk.
    pub(super) fn synced(&mut self, turns: &[u64]) {
        for turn in turns {
            if let Some(taken) = self.taken.get_mut(turn) {
                taken.is_synced = true;
            }
        }
    }

    /// The first turn up to this one that is not on disk.
    pub(super) fn first_unsynced(&self, up_to: u64) -> Option<u64> {
        let mut turns = self.taken.range(..=up_to);
        turns.find(|(_, taken)| !taken.is_synced).map(|(turn, _)| *turn)
    }

    /// A pass is about to be released, with its turn if it has one: whatever it shows must be written.
    pub(super) fn releases(&mut self, shard: usize, turn: Option<u64>) -> Result<(), Failure> {
        let saw = std::mem::take(&mut self.shards[shard].saw).max(turn.unwrap_or(0));
        while self
            .taken
            .get(&self.written_before)
            .is_some_and(|taken| taken.is_written)
        {
            self.written_before += 1;
        }
        let mut unknown = self
            .taken
            .range(self.written_before..)
            .take_while(|(turn, _)| **turn <= saw);
        match unknown.find(|(_, taken)| !taken.is_written) {
            Some((earlier, taken)) => Err(wrong(format!(
                "shard {shard} shows what has turn {saw}, and turn {earlier} of shard {} is not written",
                taken.shard
            ))),
            None => Ok(()),
        }
    }

    /// The last turn that was taken.
    pub(super) fn last_turn(&self) -> u64 {
        self.taken.last_key_value().map_or(0, |(turn, _)| *turn)
    }

    /// Whether the pass that has taken this turn has been released.
    pub(super) fn is_released(&self, turn: u64) -> bool {
        self.taken.get(&turn).is_some_and(|taken| taken.is_released)
    }

    /// A pass has been released.
    pub(super) fn released(&mut self, turn: Option<u64>) {
        let Some((turn, shard)) = turn.and_then(|turn| Some((turn, self.taken.get(&turn)?.shard))) else {
            return;
        };
        // What was logged before a cut has a turn of its own, and leaves with the rest of its pass.
        let own = self
            .taken
            .range_mut(..=turn)
            .rev()
            .filter(|(_, taken)| taken.shard == shard);
        for (_, taken) in own.take_while(|(_, taken)| !taken.is_released) {
            taken.is_released = true;
        }
    }

    /// Runs what is written on the replica, as far as no turn is missing, and compares it if it is time for that.
    pub(super) fn follow(&mut self, reference: &Reference, progress: u64) -> Result<(), Failure> {
        if !self.is_logged {
            return Ok(());
        }
        while let Some(taken) = self.taken.get(&self.next_turn).filter(|taken| taken.is_written) {
            apply(&mut self.replica, taken)?;
            self.next_turn += 1;
        }
        self.follow_disk()?;
        match progress.is_multiple_of(COMPARED_EVERY) {
            true => self.compare(reference),
            false => Ok(()),
        }
    }

    /// Runs what is durable on the reference for that.
    fn follow_disk(&mut self) -> Result<(), Failure> {
        let Some((durable, next_turn)) = &mut self.durable else {
            return Ok(());
        };
        while let Some(taken) = self.taken.get(next_turn).filter(|taken| taken.is_synced) {
            apply(durable, taken)?;
            *next_turn += 1;
        }
        Ok(())
    }

    /// The process has died, and this is what the next one finds: all that was written by then, or, if the machine has crashed, what was
    /// durable; and it may be a few turns more, in their order. `fading` is what nobody promises anything of.
    pub(super) fn survives(
        mut self,
        found: &Picture,
        fading: &BTreeSet<(u32, Vec<u8>)>,
        now: UnixMs,
        has_crashed: bool,
    ) -> Result<(), Failure> {
        self.follow_disk()?;
        let (mut least, mut next_turn) = match (has_crashed, self.durable.take()) {
            (true, Some(durable)) => durable,
            _ => (self.replica, self.next_turn),
        };
        let expected_of = |server: &Reference| {
            let (mut expected, own) = (server.picture(now), server.fading(now));
            expected.retain(|key, _| !fading.contains(key) && !own.contains(key));
            expected
        };
        // What is over may be gone here and not there.
        let holds = |server: &Reference| {
            let own = server.fading(now);
            let mut known = found.iter().filter(|(key, _)| !own.contains(*key));
            let expected = expected_of(server);
            expected.iter().all(|one| known.next() == Some(one)) && known.next().is_none()
        };
        let first_turn = next_turn;
        let mut difference = None;
        loop {
            if holds(&least) {
                return Ok(());
            }
            difference.get_or_insert_with(|| first_difference(found, &expected_of(&least)));
            let Some(taken) = self.taken.get(&next_turn) else { break };
            for unit in &taken.units {
                if self.is_plain && holds(&least) {
                    return Ok(());
                }
                apply_unit(&mut least, unit)?;
            }
            next_turn += 1;
        }
        let difference = difference.unwrap_or_default();
        Err(Failure::new(
            "survival",
            format!(
                "what was found after {} is not what there was at a turn from {first_turn} to {next_turn}: {difference}",
                if has_crashed {
                    "a crash of the machine"
                } else {
                    "the death of the process"
                }
            ),
        ))
    }

    /// Compares the two as of the latest time of any unit, if all that has run is in the logs.
    pub(super) fn compare(&self, reference: &Reference) -> Result<(), Failure> {
        let is_open = |pass: &Pass| pass.units.iter().any(|unit| !unit.effects.is_empty());
        if !self.is_logged || self.taken.contains_key(&self.next_turn) || self.shards.iter().any(is_open) {
            return Ok(());
        }
        let (here, there) = (reference.picture(self.latest), self.replica.picture(self.latest));
        let differs = here.iter().find(|(key, value)| there.get(*key) != Some(*value));
        let differs = differs
            .map(|(key, _)| key)
            .or_else(|| there.keys().find(|key| !here.contains_key(*key)));
        match differs {
            None => Ok(()),
            Some((db, key)) => Err(Failure::new(
                "log",
                format!(
                    "key {} of db {db} is {:?} here, and the log makes {:?} of it",
                    shortened(key),
                    here.get(&(*db, key.clone())),
                    there.get(&(*db, key.clone()))
                ),
            )),
        }
    }

    /// At rest: everything was written and released, everything told has been heard by all who listen, and the stream is what it should be.
    pub(super) fn check_rest(&self, end_offset: u64) -> Result<(), Failure> {
        if let Some((turn, _)) = self
            .taken
            .iter()
            .find(|(_, taken)| !taken.is_written || !taken.is_released)
        {
            return Err(wrong(format!("turn {turn} was not written or not released")));
        }
        let (mut db, mut at) = (None, 0);
        let streamed = self.taken.iter().filter(|_| !self.has_file);
        for (number, taken) in streamed {
            let before = at;
            let mut bytes = Vec::new();
            for unit in taken.units.iter().filter(|unit| !unit.effects.is_empty()) {
                frame(&mut bytes, &unit.effects, &mut db);
            }
            at += bytes.len() as u64;
            if taken.turn.offsets != (before..at) || taken.stream != bytes {
                return Err(wrong(format!(
                    "the stream has {} of turn {number} at {:?}, and should have {} at {before}",
                    shortened(&taken.stream),
                    taken.turn.offsets,
                    shortened(&bytes)
                )));
            }
        }
        if at != end_offset && !self.has_file {
            return Err(wrong(format!("the stream ends at {end_offset}, and should at {at}")));
        }
        for (shard, heard) in self.heard.iter().enumerate() {
            let Some(heard) = heard else { continue };
            let told = |unit: &Unit| unit.told.clone();
            let all = self
                .taken
                .iter()
                .map(|(turn, taken)| (*turn, taken.units.iter().flat_map(told).collect::<Vec<_>>()));
            let expected: Vec<_> = all.filter(|(_, told)| !told.is_empty()).collect();
            let heard = heard.borrow();
            if let Some(at) = (0..expected.len().max(heard.len())).find(|at| expected.get(*at) != heard.get(*at)) {
                return Err(Failure::new(
                    "message",
                    format!(
                        "shard {shard} heard {:?} where it should hear {:?}",
                        heard.get(at),
                        expected.get(at)
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// The channel and the payload of what was published.
pub(super) fn parted(told: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b' ', told).expect("it is told with a space between them");
    (&told[..end], &told[end + 1..])
}

/// Runs on a server what was logged in a turn.
fn apply(server: &mut Reference, taken: &Taken) -> Result<(), Failure> {
    taken.units.iter().try_for_each(|unit| apply_unit(server, unit))
}

fn apply_unit(server: &mut Reference, unit: &Unit) -> Result<(), Failure> {
    for (db, command) in &unit.effects {
        server.apply(*db, command, unit.now).map_err(|error| {
            let text = format!("{} was logged, and elsewhere it answers {error}", shortened(command));
            Failure::new("log", text)
        })?;
    }
    Ok(())
}

/// What a unit's effects are in a log that is in that db.
fn frame(out: &mut Vec<u8>, effects: &[(DbIndex, Vec<u8>)], db: &mut Option<DbIndex>) {
    if effects.len() > 1 {
        encode_command(out, &[b"MULTI"]);
    }
    for (of, command) in effects {
        if *db != Some(*of) {
            encode_command(out, &[b"SELECT", of.0.to_string().as_bytes()]);
            *db = Some(*of);
        }
        out.extend_from_slice(command);
    }
    if effects.len() > 1 {
        encode_command(out, &[b"EXEC"]);
    }
}
