//! A run: steps, drawn one after another, until every client has what it is owed, and what must be true then.
//!
//! A step is one of: a pass of a shard, a poll of a task, a connection that comes, bytes that arrive, the end of what a client
//! sends, a break, bytes that a client reads, and time that moves on. A shard that has announced its sleep makes no pass until it
//! is rung at, or has something from its sockets, or its next deadline has come: so a wake-up that is lost shows.
//!
//! When all clients are done, one more comes, asks what the data has become, and removes it. Then all leave, time goes on for a
//! while, and it is checked that nothing waits, nobody runs without end, and memory is as it was.

use super::ears::spoil_messages;
use super::engine::{Engine, Record, What};
use super::fault::Fault;
use super::host::Host;
use super::judge::{Failure, Judge, tell, waits_for_disk};
use super::limits::Limits;
use super::passes::Torn;
use super::peer::{Peer, Phase};
use super::restarts::{Estate, die, fail_to_start, is_to_die, look_at_loading};
use super::saves::{Saves, look_at_disk};
use super::sockets::{Brought, Closed, Event, Sockets};
use super::story::{ClientStory, End, NO_ID, Story};
use super::syncs::{Syncs, has_file, is_garbage_at_the_end, survives, sync};
use super::waits::{free_one, is_stuck, lets_go, look_at_waits};
use super::{Recovery, Testbed};
use crate::base::clock::Ticks;
use crate::base::random::Random;
use crate::engine::Local;
use crate::shard::{ConnRef, ShardId};

/// More steps than may pass before somebody gets on, or everything rests: large replies leave by small sockets.
const STEPS_MAX: usize = 400_000;
/// So long nobody may have anything to do while somebody waits.
const HANG_NS: u64 = 4_000_000_000;
/// How long everything is left alone before it is looked at: longer than any shrinking and background work waits.
const REST_NS: u64 = 1_500_000_000;
const LEAKED_BYTES: isize = 4 << 20;
/// Of the beginning or the end of a sync, beside the weights of a story.
const SYNC_WEIGHT: u32 = 6;

/// What a run is asked for beside its story.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub(super) fault: Fault,
    /// Write down what happens.
    pub(super) is_told: bool,
}

/// How a run has gone.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) failure: Option<Failure>,
    pub(super) told: Vec<String>,
    /// Differs from that of another run if anything was different.
    pub(super) digest: u64,
    pub(super) units: u64,
}

/// See the essay above.
pub(super) fn run(story: &Story, bed: &Testbed<'_>, manner: Manner) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut act, mut estate) = (story, Estate::new(story));
    loop {
        if let Err(failure) = fail_to_start(act, bed, &estate) {
            outcome.failure = Some(failure);
            return outcome;
        }
        let left_behind = estate.history.take();
        let (has_crashed, disk) = (estate.has_crashed, estate.disk.clone());
        let mut run = match Run::new(act, bed, manner, estate) {
            Ok(run) => run,
            // Whoever runs the server has to mend that: what a plain file says of itself does not tell garbage from damage.
            Err(text) if has_crashed && is_garbage_at_the_end(&disk, &text) => return outcome,
            Err(text) => {
                outcome.failure = Some(Failure::new("story", text));
                return outcome;
            }
        };
        (run.told, run.digest) = (outcome.told, outcome.digest);
        if let Some(failure) = left_behind.and_then(|history| survives(&mut run, history, has_crashed).err()) {
            outcome = Outcome {
                failure: Some(failure),
                told: run.told,
                ..Outcome::default()
            };
            return outcome;
        }
        let ended = run.all();
        let left = ended.and_then(|()| act.after.as_ref().map(|(death, _)| die(&mut run, *death)).transpose());
        outcome = Outcome {
            failure: None,
            units: outcome.units + run.judge.progress,
            told: run.told,
            digest: run.digest,
        };
        match (left, &act.after) {
            (Ok(Some(left)), Some((_, next))) => {
                // What a process has only read, and not synced, a crash may take.
                let is_kept = !(run.is_unseen && left.has_crashed);
                let history = (has_file(act) && is_kept).then_some(run.judge.history);
                (act, estate) = (next, Estate { history, ..left });
            }
            (ended, _) => {
                outcome.failure = ended.err();
                return outcome;
            }
        }
    }
}

#[derive(Default)]
pub(super) struct ShardState {
    pub(super) is_asleep: bool,
    pub(super) is_woken: bool,
    pub(super) events: Vec<Event>,
    pub(super) spins: u32,
    /// The pass that it is in the middle of.
    pub(super) torn: Option<Torn>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Pass(usize),
    Poll(usize),
    Connect(usize),
    Send(usize),
    Break(usize),
    HalfClose(usize),
    Read(usize),
    Sync(usize),
    Time,
}

pub(super) struct Run<'a> {
    pub(super) story: &'a Story,
    pub(super) manner: Manner,
    pub(super) without: &'a [String],
    pub(super) recovery: &'a dyn Recovery,
    pub(super) engine: Engine,
    pub(super) judge: Judge,
    pub(super) random: Random,
    pub(super) peers: Vec<Peer>,
    pub(super) shards: Vec<ShardState>,
    pub(super) sockets: Vec<Sockets>,
    steps: Vec<(u32, Step)>,
    pub(super) told: Vec<String>,
    pub(super) digest: u64,
    pub(super) begin_ns: u64,
    pub(super) taken_at_start: isize,
    /// The time in which there was nothing to do but wait.
    idle_ns: u64,
    /// That time and the judge's progress when something happened last.
    last_progress: (u64, u64),
    pub(super) has_struck: bool,
    /// All clients that are there wait for keys: nothing is begun, so that all comes to rest.
    pub(super) are_waiting: bool,
    pub(super) host: Host,
    pub(super) limits: Limits,
    pub(super) saves: Saves,
    pub(super) syncs: Syncs,
    /// Steps of this process.
    pub(super) step_count: usize,
    /// What was loaded is still to be looked at.
    pub(super) is_unseen: bool,
}

/// How often it is waited for shards to hear of each other's clients.
const SETTLINGS_MAX: usize = 3;

impl<'a> Run<'a> {
    fn new(story: &'a Story, bed: &'a Testbed<'_>, manner: Manner, estate: Estate) -> Result<Run<'a>, String> {
        let mut engine = Engine::new(story, bed.registry, &estate, bed.recovery)?;
        let mut judge = Judge::new(story, bed.registry, &estate, bed.recovery)?;
        let is_loading = engine.is_loading();
        if is_loading {
            judge.begins_to_load();
        }
        if is_loading && manner.fault == Fault::EndLoading {
            engine.with(0, Local::end_loading);
        }
        for (shard, heard) in engine.heard.iter().enumerate() {
            if let Some(heard) = heard {
                judge.history.listen(shard, heard.clone());
            }
        }
        let mut random = Random::with_seed(story.schedule_seed);
        let mut peers: Vec<Peer> = story.clients.iter().cloned().map(Peer::new).collect();
        for (client, peer) in peers.iter_mut().enumerate() {
            if judge.must_go_slowly(client) {
                peer.story.depth = 1;
            }
        }
        let shard = random.below(story.shard_count);
        peers.push(Peer::new(ClientStory {
            number: story.clients.iter().map(|client| client.number + 1).max().unwrap_or(0) + 100,
            shard,
            accepted_by: shard,
            depth: usize::MAX,
            cut_bytes: 1 << 14,
            socket_bytes: 1 << 18,
            read_weight: 20,
            send_weight: 20,
            connect_weight: 20,
            program: story.closing.clone(),
            end: End::Done,
        }));
        let begin_ns = engine.course_ns.get();
        Ok(Run {
            story,
            manner,
            without: &bed.without,
            recovery: bed.recovery,
            judge,
            random,
            peers,
            shards: (0..story.shard_count).map(|_| ShardState::default()).collect(),
            sockets: (0..story.shard_count).map(|_| Sockets::default()).collect(),
            steps: Vec::new(),
            told: Vec::new(),
            digest: 0,
            begin_ns,
            taken_at_start: engine.taken_bytes(),
            idle_ns: 0,
            last_progress: (0, 0),
            has_struck: false,
            are_waiting: false,
            host: Host::default(),
            limits: Limits::of(story),
            saves: Saves::new(engine.disk.clone(), estate.saved),
            syncs: match waits_for_disk(story) || has_file(story) {
                true => Syncs::new(&engine, story),
                false => Syncs::default(),
            },
            step_count: 0,
            is_unseen: is_loading,
            engine,
        })
    }

    fn all(&mut self) -> Result<(), Failure> {
        let closing = self.peers.len() - 1;
        self.play(0..closing)?;
        if self.story.after.is_some() {
            return Ok(());
        }
        // What a client that has left had under way may still take effect.
        self.rest(0..closing, self.limits.settling_ns())?;
        // A shard that was held up, or over which time has leapt, may have told the others only a moment ago what its clients take.
        for _ in 0..SETTLINGS_MAX {
            if self.check_clients().is_ok() {
                break;
            }
            self.rest(0..closing, self.limits.settling_ns())?;
        }
        self.check_clients()?;
        self.judge.check_ears()?;
        self.judge.compare_replica()?;
        // What the data has become is asked for with no limit.
        self.limits.lift_output();
        if self.limits.bound_all() {
            // Who comes last would be ended for what exempt ones have.
            self.leave(0..closing)?;
            self.rest(0..closing, self.limits.settling_ns())?;
        }
        self.play(closing..closing + 1)?;
        self.leave(0..closing + 1)?;
        self.rest(0..closing + 1, REST_NS)?;
        self.check_rest()
    }

    /// These clients leave, if they are still there.
    fn leave(&mut self, clients: std::ops::Range<usize>) -> Result<(), Failure> {
        for client in clients.clone() {
            self.judge.check_end(client)?;
        }
        for client in clients {
            match self.peers[client].phase {
                Phase::Open if self.random.chance(1, 2) => self.break_off(client),
                Phase::Open => self.half_close(client),
                _ => {}
            }
        }
        Ok(())
    }

    /// Steps until these clients are done.
    fn play(&mut self, clients: std::ops::Range<usize>) -> Result<(), Failure> {
        self.last_progress = (self.idle_ns, self.judge.progress);
        let mut left = STEPS_MAX;
        while left > 0 {
            left -= 1;
            let open = clients.clone().filter(|client| !self.is_done(*client));
            let is_over = open.clone().next().is_none();
            let are_waiting = open.clone().all(|client| self.judge.waits.holds(client));
            let are_stuck = are_waiting && open.clone().all(|client| is_stuck(self, client));
            drop(open);
            self.are_waiting = are_waiting;
            if is_over || is_to_die(self) {
                return Ok(());
            }
            if are_stuck && self.is_nothing_to_do() && look_at_waits(self)? && free_one(self, clients.clone()) {
                continue;
            }
            let step = self.draw(clients.clone());
            self.step(step)?;
            let now = (self.idle_ns, self.judge.progress);
            if now.1 != self.last_progress.1 {
                self.last_progress = now;
                left = STEPS_MAX;
            } else if now.0 - self.last_progress.0 > HANG_NS {
                return Err(Failure::new("hang", self.what_waits(clients)));
            }
        }
        Err(Failure::new("endless", self.what_waits(clients)))
    }

    /// Lets everything come to rest, and time go on for so long.
    fn rest(&mut self, clients: std::ops::Range<usize>, rest_ns: u64) -> Result<(), Failure> {
        let until_ns = self.engine.course_ns.get() + rest_ns;
        for _ in 0..STEPS_MAX {
            let step = self.draw(clients.clone());
            let now = Ticks(self.engine.course_ns.get());
            // One that is held up may be late.
            let is_none_due = (0..self.shards.len()).all(|shard| self.deadline(shard) > now);
            let is_at_rest = self.steps.is_empty() && self.is_nothing_to_do() && is_none_due;
            if is_at_rest && now.0 >= until_ns {
                return Ok(());
            }
            self.step(step)?;
        }
        Err(Failure::new("endless", "the shards do not come to rest"))
    }

    fn what_waits(&self, clients: std::ops::Range<usize>) -> String {
        let waiting = clients.filter(|client| !self.is_done(*client));
        let all: Vec<String> = waiting
            .map(|client| {
                let peer = &self.peers[client];
                format!("{} ({:?})", self.judge.waits_for(client), peer.phase)
            })
            .collect();
        all.join("; ")
    }

    /// Whether a client has sent all that it sends and got all that it is owed.
    fn is_done(&self, client: usize) -> bool {
        let peer = &self.peers[client];
        match peer.phase {
            Phase::Gone => true,
            Phase::Before | Phase::HandedOver | Phase::HalfClosed => false,
            Phase::Open => {
                peer.story.end == End::Done
                    && peer.arrived == peer.stream_end
                    && self.judge.is_all_answered(client)
                    // The last may be one without a reply, and wait.
                    && self.judge.check_end(client).is_ok()
                    && peer.kernel_bytes == 0
            }
        }
    }

    /// Draws what is done next, of all that could be.
    fn draw(&mut self, clients: std::ops::Range<usize>) -> Step {
        let now = Ticks(self.engine.course_ns.get());
        let held = self.hold_up();
        let mut steps = std::mem::take(&mut self.steps);
        steps.clear();
        for (shard, state) in self.shards.iter().enumerate() {
            if held == Some(shard) {
                continue;
            }
            let is_due = || self.deadline(shard) <= now;
            // Whatever wakes a task, from whatever thread, ends the shard's sleep.
            let has_tasks = self.engine.tasks[shard].ready_count() > 0;
            if !state.is_asleep || state.is_woken || !state.events.is_empty() || has_tasks || is_due() {
                steps.push((self.story.schedule.shard_weights[shard], Step::Pass(shard)));
            }
            if self.syncs.can_go_on(&self.engine, shard) {
                steps.push((SYNC_WEIGHT, Step::Sync(shard)));
            }
            if !state.is_asleep && state.torn.is_none() && has_tasks {
                steps.push((self.story.schedule.task_weight, Step::Poll(shard)));
            }
        }
        for client in clients {
            self.peers[client].steps(client, &mut steps);
            let peer = &self.peers[client];
            if peer.phase == Phase::Open && peer.can_send() {
                let socket = self.sockets[peer.story.shard].get(peer.index, peer.generation);
                if socket.is_some_and(|socket| socket.is_read) {
                    steps.push((peer.story.send_weight, Step::Send(client)));
                }
            }
        }
        let has_more = !steps.is_empty();
        if !has_more || self.random.chance(u64::from(self.story.schedule.time_weight), 200) {
            self.steps = steps;
            return Step::Time;
        }
        let total = steps.iter().map(|(weight, _)| weight).sum::<u32>();
        let mut drawn = self.random.u64_in(0..u64::from(total)) as u32;
        let chosen = steps.iter().find(|(weight, _)| {
            let is_it = drawn < *weight;
            drawn = drawn.wrapping_sub(*weight);
            is_it
        });
        let step = chosen.map_or(Step::Time, |(_, step)| *step);
        self.steps = steps;
        step
    }

    fn step(&mut self, step: Step) -> Result<(), Failure> {
        self.note_digest(step);
        self.step_count += 1;
        self.take_step(step)?;
        if self.engine.disk.has_crashed() {
            return Ok(());
        }
        look_at_loading(self)?;
        look_at_disk(self)
    }

    fn take_step(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Pass(shard) => self.pass(shard),
            Step::Poll(shard) => {
                let ready = self.engine.tasks[shard].ready_count();
                let number = self.random.below(ready);
                self.engine.poll(shard, number);
                self.shards[shard].spins = 0;
                self.judge_units()
            }
            Step::Connect(client) => {
                self.accept(client);
                Ok(())
            }
            Step::Send(client) => {
                self.send(client);
                Ok(())
            }
            Step::HalfClose(client) => {
                self.half_close(client);
                Ok(())
            }
            Step::Break(client) => {
                self.break_off(client);
                Ok(())
            }
            Step::Read(client) => {
                self.read(client);
                Ok(())
            }
            Step::Sync(shard) => sync(self, shard),
            Step::Time => self.move_time(),
        }
    }

    /// When a shard is due if nothing comes.
    pub(super) fn deadline(&self, shard: usize) -> Ticks {
        let own = self.engine.shards[shard].borrow().next_deadline();
        self.engine.tasks[shard]
            .next_timer()
            .map_or(own, |timer| timer.min(own))
    }

    fn is_nothing_to_do(&self) -> bool {
        let mut shards = self.shards.iter().zip(&self.engine.tasks);
        shards.all(|(state, tasks)| {
            state.is_asleep && !state.is_woken && state.events.is_empty() && tasks.ready_count() == 0
        })
    }

    fn move_time(&mut self) -> Result<(), Failure> {
        self.set_clock_back();
        let now_ns = self.engine.course_ns.get();
        if self.is_nothing_to_do() {
            self.check_wakes()?;
            look_at_waits(self)?;
            let next = (0..self.shards.len()).map(|shard| self.deadline(shard)).min();
            let next = next.expect("there is a shard");
            let next_ns = next.0.max(now_ns + 1);
            self.idle_ns += next_ns - now_ns;
            self.engine.course_ns.set(next_ns);
            return Ok(());
        }
        let random = &mut self.random;
        let us = match random.below(20) {
            0 if self.story.features.has("leaps") => random.u64_in(5_000..150_000),
            0..4 => random.u64_in(300..3_000),
            _ => random.u64_in(1..300),
        };
        self.engine.course_ns.set(now_ns + us * 1000);
        Ok(())
    }

    /// All sleep and nobody was rung at: then nothing may lie in any link, or wait for room in one.
    fn check_wakes(&mut self) -> Result<(), Failure> {
        for shard in 0..self.shards.len() {
            if self.engine.shards[shard].borrow_mut().link().has_backlog() {
                return Err(Failure::new(
                    "wake",
                    format!(
                        "shard {shard} sleeps, has something to send for which there is room, and nobody has woken it"
                    ),
                ));
            }
            if self.has_frames(shard) {
                return Err(Failure::new(
                    "wake",
                    format!("shard {shard} sleeps, something was sent to it, and nobody has woken it"),
                ));
            }
        }
        Ok(())
    }

    /// Whether something lies in the links to a shard. It sleeps after that if it did before.
    pub(super) fn has_frames(&mut self, shard: usize) -> bool {
        let mut local = self.engine.shards[shard].borrow_mut();
        let is_empty = local.announce_sleep();
        if !self.shards[shard].is_asleep {
            local.awake();
        }
        !is_empty
    }

    fn judge_units(&mut self) -> Result<(), Failure> {
        let step_ns = self.engine.step_ns.get();
        self.judge_units_after(step_ns)
    }

    pub(super) fn judge_units_after(&mut self, step_ns: u64) -> Result<(), Failure> {
        let mut records = std::mem::take(&mut *self.engine.records.borrow_mut());
        self.spoil(&mut records);
        for record in &records {
            let (judge, now) = (&self.judge, record.now);
            self.digest = mix(self.digest, now.0 ^ u64::from(record.command) << 48);
            if self.manner.is_told {
                let line = match &record.what {
                    What::Ran(_)
                    | What::Parked(_)
                    | What::Watched(_)
                    | What::Evicted(_)
                    | What::Expired
                    | What::Cut { .. } => tell(record),
                    _ => format!("{} ({})", judge.name_of(record), tell(record)),
                };
                let (at, origin) = (record.course_ns - self.begin_ns, record.origin);
                self.told.push(format!(
                    "{:>10.3} ms  shard {} runs for {}/{}: {line} at {}",
                    at as f64 / 1e6,
                    record.shard,
                    origin.shard.0,
                    origin.index,
                    now.0
                ));
            }
        }
        self.judge.take(records, step_ns)
    }

    /// What a fault makes of what was reported.
    fn spoil(&mut self, records: &mut Vec<Record>) {
        match self.manner.fault {
            Fault::HideUnit if !records.is_empty() && self.random.chance(1, 8) => {
                records.pop();
            }
            Fault::LoseEffects => {
                if let Some(record) = records.last_mut() {
                    record.effects.clear();
                }
            }
            Fault::SwapUnits if records.len() > 1 => records.reverse(),
            Fault::ServeTwice => {
                let is_served = |record: &&Record| self.judge.is_served(record);
                records.extend(records.iter().find(is_served).cloned());
            }
            Fault::LateCut => self.saves.delay_cut(records),
            Fault::LieAboutTime if self.random.chance(1, 4) => {
                for record in records {
                    record.now.0 += 40;
                }
            }
            _ => {}
        }
    }

    /// What a pass has brought about: output, ends, bells.
    pub(super) fn settle(&mut self, shard: usize, brought: Brought) -> Result<(), Failure> {
        let course_ns = self.engine.course_ns.get();
        let mut output = brought.output;
        if self.manner.fault == Fault::SwapOutput && output.len() > 1 {
            let last = output.len() - 1;
            let (first, second) = output.split_at_mut(last);
            std::mem::swap(&mut first[0].2, &mut second[0].2);
        }
        for (client, index, bytes) in output {
            let bytes = spoil_messages(self, client, bytes);
            self.digest = mix(self.digest, bytes.len() as u64);
            self.tell_at(|| format!("client {client} is sent {}", super::story::shortened(&bytes)));
            let before = self.judge.answered(client);
            self.judge.output(client, &bytes, course_ns)?;
            let peer = &mut self.peers[client];
            peer.written_bytes += bytes.len();
            let answered = self.judge.answered(client);
            if answered > before {
                peer.reply_ends.push((peer.written_bytes, answered));
            }
            self.pump(shard, index);
        }
        for closed in brought.closed {
            self.tell_at(|| {
                format!(
                    "client {} is disconnected{}",
                    closed.client,
                    if closed.at_once { " at once" } else { "" }
                )
            });
            self.closed(&closed)?;
            self.pump(shard, closed.index);
        }
        for target in brought.woken {
            let state = &mut self.shards[usize::from(target.0)];
            if !state.is_asleep {
                return Err(Failure::new("wake", format!("{target:?} was woken, and did not sleep")));
            }
            state.is_woken = true;
        }
        if self.manner.fault == Fault::EndPause && shard == 0 && self.random.chance(1, 3) {
            let has_ended = self.engine.with(0, |local| {
                let is_paused = local.env.pause.is_some();
                local.env.end_pause(&mut local.clients);
                is_paused
            });
            self.has_struck |= has_ended;
        }
        if self.manner.fault == Fault::LeakMemory && !self.has_struck {
            self.has_struck = true;
            self.engine.leak(shard, LEAKED_BYTES);
        }
        Ok(())
    }

    /// The server has ended a connection.
    pub(super) fn closed(&mut self, closed: &Closed) -> Result<(), Failure> {
        let Closed { client, at_once, .. } = *closed;
        if at_once && !self.judge.is_lost(client) && self.has_taken_too_much(closed) {
            self.judge.lost(client);
        }
        let peer = &self.peers[client];
        if peer.phase == Phase::Open && !self.judge.is_lost(client) && !self.judge.has_quit(client) {
            return Err(Failure::new(
                "ended",
                format!("client {}: the server has ended its connection", peer.story.number),
            ));
        }
        if at_once && !self.judge.is_lost(client) {
            return Err(Failure::new(
                "ended",
                format!("client {}: the server has broken its connection off", peer.story.number),
            ));
        }
        // What it was owed must have been handed over by now.
        self.judge.check_end(client)?;
        self.judge.hears_no_more(client);
        self.peers[client].phase = Phase::Gone;
        Ok(())
    }

    /// Moves what is in flight into the kernel's buffer as far as there is room, and frees a connection that has ended.
    fn pump(&mut self, shard: usize, index: u32) {
        let Some(socket) = self.sockets[shard].at(index) else {
            return;
        };
        let peer = &mut self.peers[socket.client];
        let is_read = peer.phase != Phase::Gone || !self.judge.is_lost(socket.client);
        let room = match is_read {
            true => peer.story.socket_bytes.saturating_sub(peer.kernel_bytes),
            false => usize::MAX,
        };
        let moved = socket.flight_bytes.min(room);
        socket.flight_bytes -= moved;
        peer.kernel_bytes += moved;
        if socket.flight_bytes > 0 {
            return;
        }
        if socket.is_closed {
            return self.sockets[shard].free(index);
        }
        if std::mem::take(&mut socket.is_refused) && self.manner.fault != Fault::DropDrained {
            let generation = socket.generation;
            self.shards[shard].events.push(Event::Drained { index, generation });
        }
    }

    /// A connection comes: to its own shard, or to another one that hands it over.
    fn accept(&mut self, client: usize) {
        let ClientStory { shard, accepted_by, .. } = self.peers[client].story;
        if shard == accepted_by {
            return self.connect(client);
        }
        self.peers[client].phase = Phase::HandedOver;
        self.shards[accepted_by].events.push(Event::Accepted { client });
    }

    /// A connection comes to its own shard.
    pub(super) fn connect(&mut self, client: usize) {
        let shard = self.peers[client].story.shard;
        let (index, generation) = self.sockets[shard].open(client);
        let peer = &mut self.peers[client];
        (peer.index, peer.generation, peer.phase) = (index, generation, Phase::Open);
        let origin = ConnRef {
            shard: ShardId(shard as u16),
            index,
            generation,
        };
        self.judge.connected(client, origin);
        let number = self.peers[client].story.number;
        self.shards[shard]
            .events
            .push(Event::Connected { index, client: number });
    }

    /// A client has this id: whoever names it can do so now.
    pub(super) fn is_known_as(&mut self, number: usize, id: u64) {
        let id = id.to_string();
        for peer in &mut self.peers {
            for index in 0..peer.story.program.len() {
                let names_it = lets_go(peer.story.program[index].meaning).is_some_and(|(of, _)| of == number);
                let from = peer.starts(index);
                let request = &mut peer.stream[from..peer.ends[index]];
                if names_it && let Some(at) = memchr::memmem::find(request, NO_ID.as_bytes()) {
                    request[at..at + id.len()].copy_from_slice(id.as_bytes());
                }
            }
        }
    }

    /// Bytes of a client arrive.
    fn send(&mut self, client: usize) {
        let peer = &mut self.peers[client];
        let may = peer.may_send_until();
        let most = peer.story.cut_bytes.min(may - peer.arrived);
        let count = if self.random.chance(1, 2) {
            most
        } else {
            self.random.usize_in(1..=most)
        };
        let mut bytes = peer.stream[peer.arrived..peer.arrived + count].to_vec();
        let from = peer.arrived;
        peer.arrived += count;
        while peer.sent < peer.ends.len() && peer.arrived > peer.starts(peer.sent) {
            peer.sent += 1;
        }
        let whole = peer.ends.partition_point(|end| *end <= peer.arrived);
        let (shard, index, generation, sent) = (peer.story.shard, peer.index, peer.generation, peer.sent);
        self.spoil_requests(client, from, &mut bytes);
        self.judge.progress += 1;
        self.judge.arrived(client, sent, whole, self.engine.course_ns.get());
        self.shards[shard].events.push(Event::Received {
            index,
            generation,
            bytes,
        });
        if self.peers[client].is_at_end() && matches!(self.peers[client].story.end, End::HalfCloses(_)) {
            self.half_close(client);
        }
    }

    /// What a fault makes of requests on their way.
    fn spoil_requests(&mut self, client: usize, from: usize, bytes: &mut Vec<u8>) {
        if !matches!(
            self.manner.fault,
            Fault::SwapRequests | Fault::RepeatRequest | Fault::LoseRequest
        ) {
            return;
        }
        let peer = &self.peers[client];
        let to = from + bytes.len();
        let is_whole = |place: &usize| peer.starts(*place) >= from && peer.ends[*place] <= to;
        let whole: Vec<usize> = (0..peer.ends.len()).filter(is_whole).collect();
        if whole.len() < 2 || !self.random.chance(1, 2) {
            return;
        }
        let (one, next) = (whole[0], whole[1]);
        let of = |place: usize| peer.stream[peer.starts(place)..peer.ends[place]].to_vec();
        let (first, second) = (of(one), of(next));
        let spoilt = match self.manner.fault {
            Fault::SwapRequests => [second, first].concat(),
            Fault::RepeatRequest => [first.clone(), first, second].concat(),
            _ => second,
        };
        let range = peer.starts(one) - from..peer.ends[next] - from;
        bytes.splice(range, spoilt);
    }

    /// A client closes its sending side.
    fn half_close(&mut self, client: usize) {
        let peer = &mut self.peers[client];
        peer.phase = Phase::HalfClosed;
        self.judge.half_closed(client);
        let (index, generation) = (peer.index, peer.generation);
        self.shards[peer.story.shard]
            .events
            .push(Event::Ended { index, generation });
        self.tell_at(|| format!("client {client} closes its sending side"));
    }

    /// A client's connection breaks.
    pub(super) fn break_off(&mut self, client: usize) {
        self.judge.lost(client);
        let peer = &mut self.peers[client];
        peer.phase = Phase::Gone;
        let (shard, index, generation) = (peer.story.shard, peer.index, peer.generation);
        self.shards[shard].events.push(Event::Broke { index, generation });
        self.tell_at(|| format!("the connection of client {client} breaks"));
    }

    /// A client reads.
    fn read(&mut self, client: usize) {
        let peer = &mut self.peers[client];
        let most = peer.kernel_bytes;
        let count = if self.random.chance(1, 2) {
            most
        } else {
            self.random.usize_in(1..=most)
        };
        peer.kernel_bytes -= count;
        peer.read_bytes += count;
        self.judge.progress += 1;
        let read = peer.read_bytes;
        let known = peer.reply_ends.partition_point(|(end, _)| *end <= read);
        if let Some((_, answered)) = peer.reply_ends[..known].last() {
            peer.answered = *answered;
        }
        peer.reply_ends.drain(..known);
        let (shard, index, generation) = (peer.story.shard, peer.index, peer.generation);
        if self.sockets[shard].get(index, generation).is_some() {
            self.pump(shard, index);
        }
    }

    fn note_digest(&mut self, step: Step) {
        let (kind, number) = match step {
            Step::Pass(shard) => (1, shard),
            Step::Poll(shard) => (2, shard),
            Step::Connect(client) => (3, client),
            Step::Send(client) => (4, client),
            Step::Break(client) => (5, client),
            Step::HalfClose(client) => (6, client),
            Step::Read(client) => (7, client),
            Step::Time => (8, 0),
            Step::Sync(shard) => (9, shard),
        };
        self.digest = mix(self.digest, kind << 32 | number as u64);
        self.digest = mix(self.digest, self.engine.course_ns.get());
    }

    pub(super) fn tell_at(&mut self, text: impl FnOnce() -> String) {
        if self.manner.is_told {
            let at = self.engine.course_ns.get() - self.begin_ns;
            self.told.push(format!("{:>10.3} ms  {}", at as f64 / 1e6, text()));
        }
    }
}

fn mix(digest: u64, value: u64) -> u64 {
    (digest ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}
