//! Passes, step by step, and what must hold in every state.
//!
//! Each step is what others can see at one stroke; what nobody else can see (delivering to a client's output) is done on the way
//! to the next step. A step that only waits for others is not offered until it can be done.

use super::case::{Behind, Case};
use super::pass::Flaw::*;
use super::pass::Stage::*;
use super::pass::{Flaw, LISTENER, NUMBER, Stage, TURN};
use super::state::Kind::*;
use super::state::*;
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The next step of this shard's pass, or the first of a new one.
    Step(usize),
    /// The next request of this client is run.
    Accept(usize),
    /// The oldest frame that is staged between these two enters the ring.
    Push(usize, usize),
    /// The sockets of this shard are written, and read by the clients.
    Send(usize),
    /// The next step of the syncer of this shard's part.
    Sync(usize),
    /// The next reply of this client leaves, which has waited for the disk.
    Leave(usize),
}

pub const ORDER_OF_WRITES: &str = "the writes of a slot have ascending turns";
pub const WRITTEN: &str = "what was shown is written, with all that it depends on";
pub const DURABLE: &str = "what a client was shown is on disk, with all that it depends on";
pub const WHOLE: &str = "units are whole, and closed under what they saw";
pub const ORDER_OF_MESSAGES: &str = "messages come in the order of turns, after their causes, once";
pub const SUBSCRIPTION: &str = "nothing comes from before the subscription";
pub const CACHES: &str = "at rest no cache is stale";
pub const REST: &str = "at rest nothing waits, and no message is missing";

impl Case {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn stage(&self, state: &State, shard: usize) -> Option<Stage> {
        let at = state.stage[shard].checked_sub(1)?;
        Some(self.plans[shard][at as usize])
    }

    fn others(&self, shard: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.shard_count).filter(move |other| *other != shard)
    }

    fn clients_of(&self, shard: usize) -> impl Iterator<Item = usize> {
        (0..self.connection.len()).filter(move |client| self.connection[*client] == shard)
    }
}

/// How far a syncer is.
const LOCKING: u8 = 1;
const SYNCING: u8 = 2;
const SYNCED: u8 = 3;
const PUBLISHING: u8 = 4;

// What can happen.
impl Case {
    fn next_unit(&self, state: &State, client: usize) -> Option<usize> {
        let mut own = (0..self.units.len()).filter(|unit| self.units[*unit].0 == client);
        let unit = own.nth(state.sent_count[client] as usize)?;
        let is_reply = |frame: &&Frame| matches!(frame.kind, Job | Reply);
        let reply_count = state.output[client].as_slice().iter().filter(is_reply).count();
        let lacks_cause = self.has_answer && unit + 1 == self.units.len() && state.told & bit(0) == 0;
        (reply_count < self.window && !lacks_cause).then_some(unit)
    }

    fn has_request(&self, state: &State, shard: usize) -> bool {
        self.clients_of(shard)
            .any(|client| self.next_unit(state, client).is_some())
    }

    fn can_send_to(&self, state: &State, client: usize) -> bool {
        !self.always && self.has_ready(state, client)
    }

    fn has_ready(&self, state: &State, client: usize) -> bool {
        let first = state.output[client].as_slice().first();
        first.is_some_and(|frame| frame.kind != Job)
    }

    /// Rule 5. (What goes out in order waits for what its connection was shown before.)
    fn can_leave(&self, state: &State, client: usize) -> bool {
        let is_met = |frame: &Frame| {
            let need = state.need[frame.unit as usize];
            need != NONE && need <= state.prefix
        };
        self.always && self.has_ready(state, client) && is_met(&state.output[client].as_slice()[0])
    }

    fn can_sync(&self, state: &State, shard: usize) -> bool {
        let has_written = |oldest: u8| oldest != NONE && self.unwritten(state, shard) > oldest;
        self.always && (state.sync_stage[shard] > 0 || has_written(state.oldest[shard]))
    }

    /// The bound of what the shard has taken and not written.
    fn unwritten(&self, state: &State, shard: usize) -> u8 {
        state.number_bound[shard]
    }

    fn can_send(&self, state: &State, shard: usize) -> bool {
        self.clients_of(shard).any(|client| self.can_send_to(state, client))
    }

    fn has_room(&self, state: &State, shard: usize, to: usize) -> bool {
        state.ring[shard][to].len() < self.room
    }

    /// Rule 3: a slot leaves when all else of its pass has left, and of the passes before, on whatever link: whoever gets it may
    /// overtake the rest.
    fn can_push(&self, state: &State, shard: usize, to: usize) -> bool {
        let Some(first) = state.staged[shard][to].as_slice().first() else {
            return false;
        };
        let keeps_back = |other: usize, staged: &Staged| match self.flaw {
            Some(SlotsPastStaged) => staged.age == first.age && self.has_room(state, shard, other),
            Some(SlotsPastEarlierPasses) => staged.age == first.age,
            _ => staged.age >= first.age,
        };
        let is_kept_back = |other: usize| {
            let mut staged = state.staged[shard][other].as_slice().iter();
            staged.any(|staged| !staged.frame.moves_a_slot() && keeps_back(other, staged))
        };
        let must_wait = first.frame.moves_a_slot()
            && !self.has(SlotsAnyTime)
            && (first.age == 0 && self.can_send(state, shard) || self.others(shard).any(is_kept_back));
        self.has_room(state, shard, to) && !must_wait
    }

    fn can_begin(&self, state: &State, shard: usize) -> bool {
        // Its timer lets it look at any time. A look that would begin where the last one did is left out: whatever it may still
        // meet, the last one may have met. So there is rest.
        let is_due = (state.is_stirred || self.has(Restless)) && !self.has(SleepOnMessages);
        let looks = shard == LISTENER && !state.held.is_empty() && is_due;
        let has_come = |other: usize| !state.ring[other][shard].is_empty() || self.can_push(state, shard, other);
        looks || self.others(shard).any(has_come) || self.has_request(state, shard)
    }

    fn wants_turn(&self, state: &State, shard: usize) -> bool {
        state.effects[shard] != 0 || state.unstamped[shard] != 0
    }

    fn has_staged(&self, state: &State, shard: usize, is_meant: fn(&Staged) -> bool) -> bool {
        state.staged[shard].iter().flat_map(Row::as_slice).any(is_meant)
    }
}

// What happens.
impl Case {
    fn step(&self, state: &mut State, shard: usize) {
        if state.stage[shard] == 0 {
            state.stage[shard] = 1;
            if shard == LISTENER {
                state.limit = NONE;
                state.old_count = state.held.len() as u8;
                state.is_stirred = false;
            }
        }
        let stage = self.stage(state, shard).expect("it is in a pass");
        match stage {
            Count => state.limit = state.limit.min(state.counter),
            ShardBound(other) => state.limit = state.limit.min(state.turn_bound[other]),
            LinkBound(other) => state.limit = state.limit.min(state.link_bound[other][shard]),
            Drain(other) => {
                let frames = std::mem::take(&mut state.ring[other][shard]);
                frames
                    .as_slice()
                    .iter()
                    .for_each(|frame| self.handle(state, shard, *frame));
            }
            // What is shown may be old by then.
            Read(what) => {
                if what & TURN != 0 {
                    state.turn[shard] = state.counter;
                }
                if what & NUMBER != 0 {
                    state.number[shard] = state.next_number;
                }
            }
            Show(TURN) => state.turn_bound[shard] = state.turn[shard] - u8::from(self.has(TurnShownLate)),
            Show(_) => state.number_bound[shard] = state.number[shard],
            Take(what) => self.take(state, shard, what),
            Mark => {
                let bound = state.number[shard];
                let is_syncing = (SYNCING..PUBLISHING).contains(&state.sync_stage[shard]);
                let mark = match is_syncing && !self.has(CoversWhatComes) {
                    true => &mut state.newer[shard],
                    false => &mut state.oldest[shard],
                };
                *mark = (*mark).min(bound);
            }
            Write => state.written |= 1 << state.number[shard],
            Say => state.number_bound[shard] = NONE,
            Settle => self.settle(state, shard),
            Lift => state.turn_bound[shard] = NONE,
            Deliver | Run | Wait(_) | Release => {}
        }
        state.is_stirred |= matches!(stage, Show(TURN) | Take(_) | Settle | Lift);
        self.advance(state, shard);
    }

    /// Goes to the next step, and does on the way what nobody else can see.
    fn advance(&self, state: &mut State, shard: usize) {
        loop {
            state.stage[shard] += 1;
            let Some(stage) = self.plans[shard].get(state.stage[shard] as usize - 1) else {
                return self.end(state, shard);
            };
            let has_effects = state.effects[shard] != 0;
            let has_turn = self.wants_turn(state, shard);
            let happens = match stage {
                Count | ShardBound(_) | LinkBound(_) | Drain(_) => true,
                Deliver => {
                    self.deliver(state);
                    false
                }
                Run => self.has_request(state, shard),
                Read(TURN) | Take(TURN) => true,
                Show(TURN) | Read(_) | Take(_) => has_turn || self.has(TurnAtBegin),
                Show(_) | Mark | Write | Say => has_effects,
                Wait(_) => has_effects || has_turn && !self.has(MessagesDoNotWait),
                Release => self.can_send(state, shard) || self.has_staged(state, shard, |_| true),
                Settle => self.has_staged(state, shard, |_| true) || state.link_bound[shard] != [NONE; SHARDS],
                Lift => state.turn_bound[shard] != NONE,
            };
            if happens {
                return;
            }
        }
    }

    fn end(&self, state: &mut State, shard: usize) {
        state.stage[shard] = 0;
        state.turn[shard] = 0;
        state.number[shard] = 0;
        state.effects[shard] = 0;
        state.unstamped[shard] = 0;
        if self.has_staged(state, shard, |staged| staged.age == 0) {
            let staged = state.staged[shard].iter_mut().flat_map(Row::as_mut_slice);
            staged.for_each(|staged| staged.age += 1);
        }
    }

    /// Rule 1: one atomic step. A pass that has messages only learns which number would be next.
    fn take(&self, state: &mut State, shard: usize, what: u8) {
        if what & TURN != 0 {
            state.counter += 1;
            state.turn[shard] = state.counter;
            units_of(state.unstamped[shard]).for_each(|unit| state.unit_turn[unit] = state.counter);
            let staged = state.staged[shard].iter_mut().flat_map(Row::as_mut_slice);
            staged
                .filter(|staged| staged.age == 0)
                .for_each(|staged| staged.turn = state.counter);
        }
        if what & NUMBER != 0 {
            state.number[shard] = state.next_number;
            state.next_number += u8::from(state.effects[shard] != 0);
            let number = state.number[shard];
            units_of(std::mem::take(&mut state.needing[shard])).for_each(|unit| state.need[unit] = number);
            for effect in (0..UNITS * SLOTS).filter(|effect| state.effects[shard] & 1 << effect != 0) {
                state.effect_turn[effect] = state.turn[shard];
                state.effect_number[effect] = state.number[shard];
                state.slot_number[effect % SLOTS] = state.number[shard];
            }
        }
    }

    /// Rule 8: a link shows what its shard would show for the oldest pass that has frames there.
    fn settle(&self, state: &mut State, shard: usize) {
        for to in self.others(shard) {
            let turns = state.staged[shard][to].as_slice().iter().map(|staged| staged.turn);
            let oldest = turns.filter(|turn| *turn != 0 && !self.has(LinkShowsNothing)).min();
            state.link_bound[shard][to] = oldest.map_or(NONE, |turn| turn - 1);
        }
    }

    fn push(&self, state: &mut State, shard: usize, to: usize) {
        let frame = state.staged[shard][to].remove(0).frame;
        let shows = match frame.kind {
            Reply | Message | Invalidation => frame.unit,
            Grant | Return => state.value[frame.slot as usize],
            Job | Ask => NONE,
        };
        if shows != NONE {
            state.seen |= bit(shows as usize) | state.depends[shows as usize];
        }
        state.ring[shard][to].push(frame);
        state.is_stirred |= to == LISTENER;
    }

    fn send(&self, state: &mut State, shard: usize) {
        for client in self.clients_of(shard) {
            while self.can_send_to(state, client) {
                let frame = state.output[client].remove(0);
                self.consume(state, frame);
            }
        }
    }

    /// A client reads what its connection has sent.
    fn consume(&self, state: &mut State, frame: Frame) {
        let (unit, slot) = (frame.unit as usize, frame.slot as usize);
        state.known |= bit(unit) | state.depends[unit];
        state.seen |= state.known;
        match frame.kind {
            Reply if self.units[unit].1.contains('t') => {
                let slots = self.units[unit].2.iter();
                slots.for_each(|slot| state.cached[*slot] = state.saw[effect(unit, *slot)]);
            }
            Invalidation => state.cached[slot] = UNCACHED,
            Message => {
                let mut causes = units_of(state.depends[unit] & self.publishers & !state.told);
                state.is_disordered |= state.unit_turn[unit] < state.told_turn
                    || state.told & bit(unit) != 0
                    || causes.any(|cause| state.unit_turn[cause] > state.subscribed_at);
                state.told |= bit(unit);
                state.told_turn = state.unit_turn[unit];
            }
            _ => {}
        }
    }

    /// Rule 8: in order, all that is not above the counter and the bounds, whenever it came; but nothing from before the
    /// subscription.
    fn deliver(&self, state: &mut State) {
        loop {
            let turn = |at: &usize| state.unit_turn[state.held.as_slice()[*at].unit as usize];
            let count = if self.has(OldOnly) {
                state.old_count as usize
            } else {
                state.held.len()
            };
            let mut safe = (0..count).filter(|at| turn(at) <= state.limit);
            let next = if self.has(Unsorted) {
                safe.next()
            } else {
                safe.min_by_key(turn)
            };
            let Some(next) = next else {
                break;
            };
            let is_early = turn(&next) <= state.subscribed_at && !self.has(BeforeSubscription);
            let message = state.held.remove(next);
            state.old_count = state.old_count.saturating_sub(1);
            if message.kind == Invalidation || !is_early {
                self.place(state, message);
            }
        }
        state.limit = 0;
        state.old_count = 0;
        // What is new in this look is old in the next.
        state.is_stirred |= self.has(OldOnly);
    }

    /// Rule 8: a message goes behind every reply that its connection has.
    fn place(&self, state: &mut State, message: Frame) {
        let output = state.output[0].as_slice();
        let at = match self.behind {
            _ if self.has(PassReplies) => output
                .iter()
                .take_while(|frame| !matches!(frame.kind, Job | Reply))
                .count(),
            Behind::Came => output
                .iter()
                .rposition(|frame| frame.kind != Job)
                .map_or(0, |last| last + 1),
            Behind::Outstanding => output.len(),
        };
        state.output[0].insert(at, message);
    }

    fn accept(&self, state: &mut State, client: usize) {
        let unit = self.next_unit(state, client).expect("it was asked before");
        let shard = self.connection[client];
        let job = Frame::new(Job, unit, 0);
        state.sent_count[client] += 1;
        state.depends[unit] = state.known;
        state.output[client].push(job);
        self.emit(state, shard, self.units[unit].3, job);
        if !self.has_request(state, shard) {
            self.advance(state, shard);
        }
    }

    /// Stages a frame. Rule 3: the slots of a pass go behind the rest of it.
    fn emit(&self, state: &mut State, shard: usize, to: usize, frame: Frame) {
        if to == shard {
            return self.handle(state, shard, frame);
        }
        let may_pass = |staged: &Staged| staged.age == 0 && staged.frame.moves_a_slot() && !frame.moves_a_slot();
        let staged = &mut state.staged[shard][to];
        let at = staged
            .as_slice()
            .iter()
            .position(|staged| may_pass(staged) && !self.has(SlotsAnyTime));
        let (turn, age) = (0, 0);
        staged.insert(at.unwrap_or(staged.len()), Staged { frame, turn, age });
    }

    fn handle(&self, state: &mut State, shard: usize, frame: Frame) {
        let (unit, slot) = (frame.unit as usize, frame.slot as usize);
        match frame.kind {
            Job => self.collect(state, shard, unit),
            Grant => {
                state.slot_count[unit] += 1;
                self.collect(state, shard, unit);
            }
            Ask if state.holder[slot] != NONE => state.queue[slot].push(frame.unit),
            Ask => self.lend(state, shard, unit, slot),
            Return => {
                if self.has(HalfAtEachHome) && self.writers & bit(unit) != 0 {
                    state.effects[shard] |= 1 << effect(unit, slot);
                }
                self.free(state, shard, slot);
            }
            Reply => {
                let mut output = state.output[self.units[unit].0].as_mut_slice().iter_mut();
                let kept = output.find(|kept| kept.kind == Job && kept.unit == frame.unit);
                kept.expect("the place of a reply is kept").kind = Reply;
            }
            Message | Invalidation => state.held.push(frame),
        }
    }

    /// Takes the slots of a unit, one after the other, and runs it when it has them all.
    fn collect(&self, state: &mut State, shard: usize, unit: usize) {
        let slots = self.units[unit].2;
        while let Some(slot) = slots.get(state.slot_count[unit] as usize).copied() {
            if self.home[slot] != shard {
                return self.emit(state, shard, self.home[slot], Frame::new(Ask, unit, slot));
            }
            if state.holder[slot] != NONE {
                return state.queue[slot].push(unit as u8);
            }
            state.holder[slot] = unit as u8;
            state.slot_count[unit] += 1;
        }
        self.run(state, shard, unit);
    }

    fn run(&self, state: &mut State, shard: usize, unit: usize) {
        let (client, does, slots, _) = self.units[unit];
        for slot in slots.iter().copied() {
            let writer = state.value[slot];
            state.saw[effect(unit, slot)] = writer;
            if writer != NONE {
                state.depends[unit] |= bit(writer as usize) | state.depends[writer as usize];
            }
        }
        self.find_need(state, shard, unit);
        if does.contains('s') {
            state.subscribed_at = state.counter;
        }
        if does.contains(['w', 'm']) {
            state.unstamped[shard] |= bit(unit);
            state.unit_turn[unit] = if self.has(TurnAtBegin) { state.turn[shard] } else { 0 };
        }
        for slot in slots.iter().copied().filter(|_| does.contains('w')) {
            state.value[slot] = unit as u8;
            state.writers[slot].push(unit as u8);
            if !self.has(HalfAtEachHome) || self.home[slot] == shard {
                state.effects[shard] |= 1 << effect(unit, slot);
            }
            if state.tracked & 1 << slot != 0 {
                state.tracked &= !(1 << slot);
                self.emit(state, shard, LISTENER, Frame::new(Invalidation, unit, slot));
            }
        }
        if does.contains('t') {
            slots.iter().for_each(|slot| state.tracked |= 1 << slot);
        }
        if does.contains('m') {
            self.emit(state, shard, LISTENER, Frame::new(Message, unit, 0));
        }
        self.emit(state, shard, self.connection[client], Frame::new(Reply, unit, 0));
        slots
            .iter()
            .for_each(|slot| self.emit(state, shard, self.home[*slot], Frame::new(Return, unit, *slot)));
    }

    /// Rule 5: what the reply of a unit waits for, which is about to write.
    fn find_need(&self, state: &mut State, shard: usize, unit: usize) {
        let (_, does, slots, _) = self.units[unit];
        if !self.always {
            return;
        }
        let is_open =
            |slot: &usize| state.effects[shard] & (0..UNITS).map(|unit| 1 << effect(unit, *slot)).sum::<u32>() != 0;
        let writes = does.contains('w');
        state.need[unit] = 0;
        if writes && self.has(WritersDoNotWait) || !writes && self.has(ReadersDoNotWait) {
            return;
        }
        if writes || slots.iter().any(is_open) {
            state.need[unit] = NONE;
            state.needing[shard] |= bit(unit);
        } else {
            let numbers = slots.iter().map(|slot| state.slot_number[*slot]);
            state.need[unit] = numbers.max().unwrap_or(0);
        }
    }

    /// A syncer: it looks what is not written and takes the marks, it syncs, it takes the marks again, and it publishes: the counter of
    /// numbers first, then every mark.
    fn sync(&self, state: &mut State, shard: usize) {
        let numbers = |state: &State, shard: usize| {
            let is_own = |number: &u16| {
                let mut effects = 0..UNITS * SLOTS;
                effects.any(|effect| {
                    u16::from(state.effect_number[effect]) == *number && self.units[effect / SLOTS].3 == shard
                })
            };
            (1..16)
                .filter(is_own)
                .filter(|number| state.written & 1 << number != 0)
                .map(|number| 1 << number)
                .sum::<u16>()
        };
        match state.sync_stage[shard] {
            0 if self.has(LooksBeforeLock) => {
                state.sync_read[shard] = self.unwritten(state, shard);
                state.sync_stage[shard] = LOCKING;
            }
            0 | LOCKING => {
                let unwritten = match state.sync_stage[shard] {
                    0 => self.unwritten(state, shard),
                    _ => state.sync_read[shard],
                };
                state.newer[shard] = if self.has(CoversUnwritten) { NONE } else { unwritten };
                state.sync_stage[shard] = SYNCING;
            }
            // The disk takes what is written when the sync begins, and no more.
            SYNCING => {
                state.covered[shard] = numbers(state, shard);
                state.sync_stage[shard] = SYNCED;
            }
            SYNCED => {
                state.on_disk[shard] |= std::mem::take(&mut state.covered[shard]);
                state.oldest[shard] = match self.has(CoversWhatComes) {
                    true => NONE,
                    false => std::mem::replace(&mut state.newer[shard], NONE),
                };
                state.sync_read[shard] = NONE;
                state.sync_stage[shard] = PUBLISHING;
            }
            stage => {
                let step = usize::from(stage - PUBLISHING);
                let counts_last = self.has(NumbersReadLast);
                let counts = if counts_last {
                    step == self.shard_count
                } else {
                    step == 0
                };
                let other = if counts_last { step } else { step.wrapping_sub(1) };
                let read = match counts {
                    true => state.next_number,
                    false if self.has(OwnPartOnly) && other != shard => NONE,
                    false => state.oldest[other],
                };
                state.sync_read[shard] = state.sync_read[shard].min(read);
                state.sync_stage[shard] += 1;
                if step == self.shard_count {
                    state.prefix = state.prefix.max(state.sync_read[shard] - 1);
                    state.sync_stage[shard] = 0;
                    state.sync_read[shard] = 0;
                }
            }
        }
    }

    fn free(&self, state: &mut State, shard: usize, slot: usize) {
        state.holder[slot] = NONE;
        if !state.queue[slot].is_empty() {
            let next = state.queue[slot].remove(0);
            self.lend(state, shard, next as usize, slot);
        }
    }

    fn lend(&self, state: &mut State, shard: usize, unit: usize, slot: usize) {
        state.holder[slot] = unit as u8;
        self.emit(state, shard, self.units[unit].3, Frame::new(Grant, unit, slot));
    }
}

// What must hold.
impl Case {
    /// Those that have no turn yet are the last.
    fn writes_ascend(&self, state: &State) -> bool {
        let turn = |unit: &u8| state.unit_turn[*unit as usize].wrapping_sub(1);
        state
            .writers
            .iter()
            .all(|writers| writers.as_slice().is_sorted_by_key(turn))
    }

    fn shown_is_written(&self, state: &State) -> bool {
        // Numbers begin at 1.
        let end = (state.written | 1).trailing_ones() as u8;
        units_of(state.seen & self.writers).all(|unit| {
            let mut numbers = self.units[unit]
                .2
                .iter()
                .map(|slot| state.effect_number[effect(unit, *slot)]);
            numbers.all(|number| number != 0 && number < end)
        })
    }

    /// Rule 5: if the machine died now, and of what was not synced nothing were left.
    fn shown_is_durable(&self, state: &State) -> bool {
        let on_disk = state.on_disk.iter().fold(1, |all, own| all | own);
        let end = u16::trailing_ones(on_disk) as u8;
        !self.always
            || units_of(state.known & self.writers).all(|unit| {
                let slots = self.units[unit].2.iter();
                let mut numbers = slots.map(|slot| state.effect_number[effect(unit, *slot)]);
                numbers.all(|number| number != 0 && number < end)
            })
    }

    /// No prefix of turns cuts a unit, and it holds with each all that it depends on.
    fn prefixes_are_whole(&self, state: &State) -> bool {
        let turns = |unit: usize| {
            self.units[unit]
                .2
                .iter()
                .map(move |slot| state.effect_turn[effect(unit, *slot)])
        };
        units_of(self.writers).all(|unit| {
            let turn = turns(unit).max().expect("who writes has a slot");
            let mut causes = units_of(state.depends[unit] & self.writers);
            let is_closed = causes.all(|cause| turns(cause).all(|other| other != 0 && other <= turn));
            turn == 0 || is_closed && turns(unit).all(|other| other == turn)
        })
    }

    fn none_is_early(&self, state: &State) -> bool {
        self.subscriber.is_none_or(|unit| state.told & state.depends[unit] == 0)
    }

    fn caches_are_fresh(&self, state: &State) -> bool {
        let mut slots = state.cached.iter().zip(state.value);
        slots.all(|(cached, value)| *cached == UNCACHED || *cached == value)
    }

    fn all_has_ended(&self, state: &State) -> bool {
        let must_come = |unit: &usize| {
            self.subscriber
                .is_none_or(|first| state.depends[*unit] & bit(first) != 0)
        };
        let is_silent = |client: usize| state.output[client].is_empty() && self.next_unit(state, client).is_none();
        let bounds = [state.turn_bound, state.number_bound];
        units_of(self.publishers)
            .filter(must_come)
            .all(|unit| state.told & bit(unit) != 0)
            && state.held.is_empty()
            && state.holder == [NONE; SLOTS]
            && (0..self.connection.len()).all(is_silent)
            && state.sent_count.iter().sum::<u8>() as usize == self.units.len()
            && state.stage == [0; SHARDS]
            && bounds
                .iter()
                .chain(&state.link_bound)
                .flatten()
                .all(|bound| *bound == NONE)
            && state.ring.iter().flatten().all(Row::is_empty)
            && state.staged.iter().flatten().all(Row::is_empty)
    }

    fn is_at_rest(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        actions.is_empty()
    }
}

impl Model for Case {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            next_number: 1,
            turn_bound: [NONE; SHARDS],
            number_bound: [NONE; SHARDS],
            link_bound: [[NONE; SHARDS]; SHARDS],
            oldest: [NONE; SHARDS],
            newer: [NONE; SHARDS],
            subscribed_at: if self.subscriber.is_some() { NONE } else { 0 },
            holder: [NONE; SLOTS],
            value: [NONE; SLOTS],
            cached: [UNCACHED; SLOTS],
            ..State::default()
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for shard in 0..self.shard_count {
            let step = Action::Step(shard);
            match self.stage(state, shard) {
                None => actions.extend(self.can_begin(state, shard).then_some(step)),
                Some(Run) => {
                    let ready = self
                        .clients_of(shard)
                        .filter(|client| self.next_unit(state, *client).is_some());
                    actions.extend(ready.map(Action::Accept));
                    // A pass that has begun for requests runs one at least.
                    let has_run = self.wants_turn(state, shard)
                        || self.has_staged(state, shard, |staged| staged.age == 0)
                        || self.can_send(state, shard);
                    actions.extend(has_run.then_some(step));
                }
                // Rule 3. Once another shard's bound is not below, no earlier number is left that it could write.
                Some(Wait(other)) if state.number_bound[other] < state.number[shard] => {}
                Some(Release) => {
                    let before = actions.len();
                    actions.extend(self.can_send(state, shard).then_some(Action::Send(shard)));
                    let open = self.others(shard).filter(|to| self.can_push(state, shard, *to));
                    actions.extend(open.map(|to| Action::Push(shard, to)));
                    if actions.len() == before {
                        actions.push(step);
                    }
                }
                Some(_) => actions.push(step),
            }
            actions.extend(self.can_sync(state, shard).then_some(Action::Sync(shard)));
        }
        let clients = (0..self.connection.len()).filter(|client| self.can_leave(state, *client));
        actions.extend(clients.map(Action::Leave));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Step(shard) => self.step(&mut state, shard),
            Action::Accept(client) => self.accept(&mut state, client),
            Action::Push(shard, to) => self.push(&mut state, shard, to),
            Action::Send(shard) => self.send(&mut state, shard),
            Action::Sync(shard) => self.sync(&mut state, shard),
            Action::Leave(client) => {
                let frame = state.output[client].remove(0);
                self.consume(&mut state, frame);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let at_rest = |case: &Case, state: &State| case.all_has_ended(state) || !case.is_at_rest(state);
        let fresh = |case: &Case, state: &State| case.caches_are_fresh(state) || !case.is_at_rest(state);
        let mut properties = vec![
            Property::always(ORDER_OF_WRITES, Case::writes_ascend),
            Property::always(WRITTEN, Case::shown_is_written),
            Property::always(DURABLE, Case::shown_is_durable),
            Property::always(WHOLE, Case::prefixes_are_whole),
            Property::always(ORDER_OF_MESSAGES, |_, state: &State| !state.is_disordered),
            Property::always(SUBSCRIPTION, Case::none_is_early),
            Property::always(CACHES, fresh),
            Property::always(REST, at_rest),
        ];
        properties.retain(|property| self.only.is_none_or(|only| property.name == only));
        properties
    }
}
