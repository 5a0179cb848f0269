//! A pass of a shard, in the parts between which other shards may make theirs: it runs, takes its turn, writes, waits for those that
//! have an earlier log number, and lets out what came of it.
//!
//! Each part is a step of its own where a run has torn passes, and the parts of different shards come in any order. The disk is here,
//! too: it may refuse what is written to it, for as long as it likes.

use super::fault::Fault;
use super::judge::Failure;
use super::run::Run;
use super::sockets::{Brought, Event, Hand, Sockets};
use super::story::address_of;
use super::waits::{check_overdue, spoil_waits};
use crate::base::clock::Ticks;
use crate::engine::Local;
use crate::shard::turns::Turn;

/// Passes without a cause, one after another.
const SPINS_MAX: u32 = 100;

/// A pass that has begun and is not released.
pub(super) struct Torn {
    /// What it has done.
    part: Part,
    turn: Option<Turn>,
    /// So many events were handled in it.
    count: usize,
    has_cause: bool,
    began_ns: u64,
    brought: Brought,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Ran,
    Took,
    Wrote,
    MayLeave,
}

impl Run<'_> {
    /// A pass of a shard, or what is left of one that was torn: its parts are steps, between which other shards make theirs.
    pub(super) fn pass(&mut self, shard: usize) -> Result<(), Failure> {
        if self.shards[shard].torn.is_none() {
            self.begin_pass(shard)?;
        }
        while let Some(mut torn) = self.shards[shard].torn.take() {
            let may_go_on = match torn.part {
                Part::Ran => self.take_turn(shard, &mut torn)?,
                Part::Took => self.write(shard, &mut torn)?,
                Part::Wrote => self.wait(shard, &mut torn),
                Part::MayLeave => return self.end_pass(shard, torn),
            };
            let tears = self.story.features.has("torn-passes") && self.random.chance(1, 3);
            self.shards[shard].torn = Some(torn);
            if !may_go_on || tears {
                break;
            }
        }
        Ok(())
    }

    fn begin_pass(&mut self, shard: usize) -> Result<(), Failure> {
        let fault = self.manner.fault;
        let has_frames = !self.shards[shard].is_asleep && self.has_frames(shard);
        let state = &mut self.shards[shard];
        let is_due = state.is_asleep && !state.is_woken && state.events.is_empty();
        (state.is_asleep, state.is_woken) = (false, false);
        let count = match state.events.len() {
            0 => 0,
            all if self.random.chance(3, 4) => all,
            all => self.random.usize_in(1..=all),
        };
        let events: Vec<Event> = state.events.drain(..count).collect();
        let step_ns = self.slow_step();
        self.engine.step_ns.set(step_ns);
        if fault == Fault::StopCalendar && shard == 0 {
            let passed_ms = (self.engine.course_ns.get() - self.begin_ns) / 1_000_000;
            self.engine.set_skew_ms(0, self.skew_ms(0) - passed_ms as i64);
        }
        let began_ns = self.engine.course_ns.get();
        self.judge.pass_begins(shard, began_ns);
        let mut torn = Torn {
            part: Part::Ran,
            turn: None,
            count,
            has_cause: count > 0 || has_frames || is_due,
            began_ns,
            brought: Brought::default(),
        };
        let sockets = &mut self.sockets[shard];
        let random = &mut self.random;
        self.engine.with(shard, |local| {
            local.awake();
            local.begin_pass();
            for event in &events {
                handle(event, local, sockets, fault);
            }
            local.run_pass(&mut Hand {
                sockets,
                brought: &mut torn.brought,
                fault,
                random,
            });
        });
        self.shards[shard].torn = Some(torn);
        for event in events {
            match event {
                Event::Connected { index, client } => {
                    let id = self.engine.shards[shard]
                        .borrow_mut()
                        .clients
                        .at(index)
                        .map(|client| client.session.id);
                    id.into_iter().for_each(|id| self.is_known_as(client, id));
                }
                Event::Accepted { client } => self.connect(client),
                _ => {}
            }
        }
        self.judge_units_after(step_ns)
    }

    /// Rule 1.
    fn take_turn(&mut self, shard: usize, torn: &mut Torn) -> Result<bool, Failure> {
        torn.turn = self.engine.with(shard, |local| local.take_turn().cloned());
        torn.part = match torn.turn {
            Some(_) => Part::Took,
            None => Part::MayLeave,
        };
        self.judge.took_turn(shard, torn.turn.clone())?;
        if let Some(turn) = &torn.turn {
            let (turn, number) = (turn.turn, turn.number);
            self.tell_at(|| format!("shard {shard} takes turn {turn}, log number {number:?}"));
        }
        Ok(true)
    }

    /// Rule 2.
    fn write(&mut self, shard: usize, torn: &mut Torn) -> Result<bool, Failure> {
        let refuses = self.story.features.has("slow-disk") && self.random.chance(1, 3);
        let loses = self.manner.fault == Fault::LoseChunk && self.random.chance(1, 8);
        self.engine.set_disk(shard, refuses, loses);
        if !self.engine.with(shard, Local::write_pass) {
            return Ok(false);
        }
        torn.part = Part::Wrote;
        let turn = torn.turn.as_ref().map_or(0, |turn| turn.turn);
        let written = self.engine.written(shard);
        self.judge.history.wrote(turn, written)?;
        self.judge.follow_history()?;
        Ok(true)
    }

    /// Rule 3.
    fn wait(&mut self, shard: usize, torn: &mut Torn) -> bool {
        let may_leave = self.engine.with(shard, |local| local.may_release());
        if may_leave || self.manner.fault == Fault::LeaveEarly {
            torn.part = Part::MayLeave;
        }
        torn.part == Part::MayLeave
    }

    fn end_pass(&mut self, shard: usize, torn: Torn) -> Result<(), Failure> {
        let Torn {
            turn,
            count,
            mut has_cause,
            began_ns,
            mut brought,
            ..
        } = torn;
        let fault = self.manner.fault;
        let turn = turn.map(|turn| turn.turn);
        self.judge.history.releases(shard, turn)?;
        let sockets = &mut self.sockets[shard];
        let random = &mut self.random;
        let is_busy = self.engine.with(shard, |local| {
            local.release_pass(&mut Hand {
                sockets,
                brought: &mut brought,
                fault,
                random,
            })
        });
        self.judge.history.released(turn);
        if fault == Fault::LoseMessage
            && let Some(heard) = &self.engine.heard[shard]
            && self.random.chance(1, 8)
        {
            heard.borrow_mut().pop();
        }
        let is_busy = is_busy || fault == Fault::Spin;
        self.engine.tasks[shard].fire();
        let step_ns = self.engine.step_ns.get();
        self.judge_units_after(step_ns)?;
        self.engine.step_ns.set(self.story.schedule.step_ns);
        has_cause |= !brought.output.is_empty() || !brought.woken.is_empty();
        spoil_waits(self, shard)?;
        self.check_buffers(shard, began_ns)?;
        check_overdue(self, shard, began_ns)?;
        self.settle(shard, brought)?;
        self.go_to_sleep(shard, is_busy || count > 0, has_cause)
    }

    fn go_to_sleep(&mut self, shard: usize, is_busy: bool, had_cause: bool) -> Result<(), Failure> {
        let is_ready = self.engine.tasks[shard].ready_count() > 0;
        if !is_busy && !is_ready && self.shards[shard].events.is_empty() {
            let is_due = self.deadline(shard) <= Ticks(self.engine.course_ns.get());
            if !is_due && self.engine.with(shard, Local::announce_sleep) {
                let state = &mut self.shards[shard];
                state.is_asleep = true;
                state.spins = 0;
                return Ok(());
            }
        }
        let has_background_work = !self.engine.shards[shard].borrow().env.garbage.is_empty();
        let state = &mut self.shards[shard];
        if !is_busy || had_cause || is_ready || has_background_work {
            state.spins = 0;
            return Ok(());
        }
        state.spins += 1;
        if state.spins > SPINS_MAX && !self.without.iter().any(|check| check == "spin-check") {
            return Err(Failure::new(
                "spin",
                format!("shard {shard} makes pass after pass and has nothing to do"),
            ));
        }
        Ok(())
    }
}

/// What a shard does with an event, as a reactor does.
fn handle(event: &Event, local: &mut Local, sockets: &mut Sockets, fault: Fault) {
    match *event {
        Event::Connected { index, client } => {
            let generation = sockets.at(index).map_or(0, |socket| socket.generation);
            let is_taken = local.connect(index, generation, &address_of(client), "127.0.0.1:6379", true);
            assert!(is_taken, "there is room for every client");
        }
        // It goes to the shard that is to have it, past the links.
        Event::Accepted { .. } => {}
        Event::Received {
            index,
            generation,
            ref bytes,
        } => {
            if sockets.get(index, generation).is_some_and(|socket| !socket.is_closed) {
                local.receive(index, bytes);
            }
        }
        Event::Drained { index, generation } => {
            if sockets.get(index, generation).is_some_and(|socket| !socket.is_closed) {
                local.clients.list(index);
            }
        }
        Event::Ended { index, generation } => {
            if sockets.get(index, generation).is_some_and(|socket| !socket.is_closed) {
                local.peer_closed(index);
            }
        }
        Event::Broke { index, generation } => {
            if let Some(socket) = sockets.get(index, generation) {
                if !socket.is_closed && fault != Fault::KeepClient {
                    local.disconnect(index);
                }
                sockets.free(index);
            }
        }
    }
}
