//! Random schedules of the shard layer, in one thread, from a seed.
//!
//! A simulation drives two to five real [`Shard`]s with a toy content (the list of the units of work that wrote the
//! slot) and toy units of work, and delivers their messages in a random order; only the order on each link is kept.
//! Several connections issue units: on one slot or several, of everything, units that hold, and units that find out
//! as they run which slot they need. When all have ended it is checked that
//!
//! 1. there is an order of all units, one after another, that explains what each has seen, and in which each unit
//!    that ended before another was issued comes before it (strict serializability): the graph of who must come
//!    before whom has no cycle;
//! 2. units that one connection submitted to one shard took effect in their order;
//! 3. every unit ended once, within a bounded number of steps, though others go on without end;
//! 4. every slot is in its place, and nothing waits any more; and on the way, every slot is on one shard or in one message.
//!
//! And the checks are checked: with a fault put into the system on purpose, they must fail.
//!
//! `SHARDIS_SIM_SEED=n cargo test --test simulation` runs the one schedule of that seed;
//! `SHARDIS_SIM_SEEDS=n` runs so many.

mod checks;
mod fault;
mod job;

use fault::{FAULTS, Fault};
use job::{Access, Content, Job};
use shardis::shard::{
    ConnRef, Message, Outbox, Realm, Route, Shard, ShardId, SlotSet, Ticket, TicketSource, Unit, Verdict, View, Work,
};
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;

/// What is on its way on a link.
enum Parcel {
    Message(Message<Content, Job>),
    /// A small command: the receiver tries its fast path.
    Command(Unit<Job>),
}

struct Connection {
    origin: ConnRef,
    program: VecDeque<Job>,
    /// Goes on as long as others have something to do.
    is_endless: bool,
    /// What it has issued: unit, target shard, whether it is on one slot.
    in_flight: VecDeque<(u32, Option<ShardId>, bool)>,
}

struct History {
    origin: ConnRef,
    target: Option<ShardId>,
    issued_at: usize,
    finished_at: Option<usize>,
    seen: Vec<Access>,
}

struct Simulation {
    random: fastrand::Rng,
    fault: Fault,
    slot_count: u16,
    shards: Vec<Shard<Content, Job>>,
    links: BTreeMap<(ShardId, ShardId), VecDeque<Parcel>>,
    /// A link that is rarely served.
    slow_link: Option<(ShardId, ShardId)>,
    held: Vec<(ShardId, Ticket)>,
    connections: Vec<Connection>,
    histories: Vec<History>,
    /// The halves of units that a fault has split: how many are to come.
    halves: BTreeMap<u32, (usize, Vec<Access>)>,
    stale: BTreeMap<(Ticket, u16), Content>,
    clock: usize,
    hotness: u16,
}

const STEPS_MAX: usize = 20_000;

impl Simulation {
    fn new(seed: u64, fault: Fault) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let shard_count = random.u16(2..=5);
        let slot_count = random.u16(shard_count.max(4)..=12);
        let realm = Realm {
            shard_count,
            slot_count,
            tickets: TicketSource::new(),
        };
        let shards: Vec<Shard<Content, Job>> = (0..shard_count)
            .map(|id| Shard::new(ShardId(id), &realm, |_| Box::default()))
            .collect();
        let slow_link = random.bool().then(|| {
            let from = random.u16(..shard_count);
            (
                ShardId(from),
                ShardId((from + random.u16(1..shard_count)) % shard_count),
            )
        });
        let mut simulation = Simulation {
            fault,
            slot_count,
            shards,
            links: BTreeMap::new(),
            slow_link,
            held: Vec::new(),
            connections: Vec::new(),
            histories: Vec::new(),
            halves: BTreeMap::new(),
            stale: BTreeMap::new(),
            clock: 0,
            hotness: random.u16(2..=slot_count),
            random,
        };
        let is_holding = simulation.random.bool();
        for index in 0..simulation.random.u32(1..=6) {
            let origin = ConnRef {
                shard: ShardId(simulation.random.u16(..shard_count)),
                index,
                generation: 1,
            };
            let length = simulation.random.usize(1..10);
            let program = (0..length).map(|_| simulation.job(is_holding)).collect();
            let is_endless = index > 0 && simulation.random.u8(..4) == 0;
            simulation.connections.push(Connection {
                origin,
                program,
                is_endless,
                in_flight: VecDeque::new(),
            });
        }
        simulation
    }

    fn job(&mut self, may_hold: bool) -> Job {
        let random = &mut self.random;
        let count = match random.u8(..10) {
            0 => 0,
            1..6 => 1,
            6..8 => 2,
            _ => random.usize(1..=self.slot_count as usize),
        };
        let slots: SlotSet = (0..count)
            .map(|_| {
                let is_hot = random.bool();
                random.u16(..if is_hot { self.hotness } else { self.slot_count })
            })
            .collect();
        let writes = random.u8(..4);
        Job {
            // The number is given when it is issued.
            id: 0,
            slots: slots.iter().map(|slot| (slot, random.u8(..4) < writes)).collect(),
            wants_everything: random.u8(..16) == 0,
            hold_count: if may_hold && random.u8(..4) == 0 {
                random.u8(1..3)
            } else {
                0
            },
            seek_count: if random.u8(..5) == 0 { random.u8(1..4) } else { 0 },
            slot_count: self.slot_count,
            seen: Vec::new(),
            held_count: 0,
            attempt_count: 0,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            if !self.step() {
                return self.check();
            }
            if self.clock.is_multiple_of(16) {
                self.check_slots_exist_once()?;
            }
        }
        let waiting = self
            .histories
            .iter()
            .filter(|history| history.finished_at.is_none())
            .count();
        Err(format!("{waiting} units have not ended after {STEPS_MAX} steps"))
    }

    /// Does one random thing; `false`: there is nothing more to do.
    fn step(&mut self) -> bool {
        self.clock += 1;
        let is_ending = self.connections.iter().all(|connection| {
            connection.is_endless || (connection.program.is_empty() && connection.in_flight.is_empty())
        });
        let mut links: Vec<(ShardId, ShardId)> = self
            .links
            .iter()
            .filter(|(_, parcels)| !parcels.is_empty())
            .map(|(link, _)| *link)
            .collect();
        if let Some(slow) = self.slow_link
            && links.len() > 1
            && self.random.u8(..16) > 0
        {
            links.retain(|link| *link != slow);
        }
        let issuers: Vec<usize> = (0..self.connections.len())
            .filter(|&at| {
                let connection = &self.connections[at];
                let goes_on = connection.is_endless && !is_ending;
                (goes_on || !connection.program.is_empty())
                    && connection.in_flight.len() < 4
                    && self.can_issue(connection)
            })
            .collect();
        let total = links.len() + self.held.len() + issuers.len();
        if total == 0 {
            return false;
        }
        let choice = self.random.usize(..total);
        if choice < links.len() {
            self.deliver(links[choice]);
        } else if choice < links.len() + self.held.len() {
            let (shard, ticket) = self.held.swap_remove(choice - links.len());
            self.go_on(shard, ticket);
        } else {
            self.issue(issuers[choice - links.len() - self.held.len()]);
        }
        true
    }

    fn route(&self, shard: ShardId, job: &Job) -> (Option<ShardId>, bool) {
        let is_single = job.slots.len() == 1 && !job.wants_everything;
        match self.shards[shard.0 as usize].route(&job.footprint()) {
            Route::Here => (Some(shard), is_single),
            Route::Home(home) => (Some(home), is_single),
            Route::Coordinate(_) => (None, false),
        }
    }

    /// What a server lets a connection do: units on one slot side by side, units to one shard one after the other,
    /// everything else only when what went before has ended.
    fn can_issue(&self, connection: &Connection) -> bool {
        let Some(job) = connection.program.front() else {
            return connection.is_endless;
        };
        let (target, is_single) = self.route(connection.origin.shard, job);
        let mut before = connection.in_flight.iter();
        connection.in_flight.is_empty()
            || (target.is_some() && before.all(|(_, other, single)| (is_single && *single) || *other == target))
    }

    fn issue(&mut self, at: usize) {
        if self.connections[at].program.is_empty() {
            let job = self.job(true);
            self.connections[at].program.push_back(job);
        }
        if !self.can_issue(&self.connections[at]) {
            return;
        }
        let connection = &mut self.connections[at];
        let origin = connection.origin;
        let mut job = connection.program.pop_front().expect("there is one");
        job.id = self.histories.len() as u32;
        let (target, is_single) = self.route(origin.shard, &job);
        let issued_at = self.clock;
        self.histories.push(History {
            origin,
            target,
            issued_at,
            finished_at: None,
            seen: Vec::new(),
        });
        self.connections[at].in_flight.push_back((job.id, target, is_single));
        if self.fault == Fault::RunEarly && job.slots.len() > 1 && !job.wants_everything {
            job.seek_count = 0;
            let mut rest = job.clone();
            rest.slots = job.slots.split_off(job.slots.len() / 2);
            self.halves.insert(job.id, (2, Vec::new()));
            self.submit(origin, rest);
        }
        self.submit(origin, job);
    }

    fn submit(&mut self, origin: ConnRef, job: Job) {
        let unit = Unit {
            footprint: job.footprint(),
            work: job,
            origin,
            ticket: None,
        };
        let shard = origin.shard;
        match self.shards[shard.0 as usize].route(&unit.footprint) {
            Route::Home(home) => self.put(shard, home, Parcel::Command(unit)),
            Route::Here => self.run_here(shard, unit),
            Route::Coordinate(_) => {
                let mut out = Outbox::new();
                self.shards[shard.0 as usize].dispatch(unit, &mut (), &mut out);
                self.take_out(shard, out);
            }
        }
    }

    /// A unit that has come to its home: by the fast path if it may take it.
    fn run_here(&mut self, shard: ShardId, mut unit: Unit<Job>) {
        let mut out = Outbox::new();
        let slots: Vec<u16> = unit.work.slots.iter().map(|(slot, _)| *slot).collect();
        let is_simple = unit.work.hold_count == 0 && unit.work.seek_count == 0;
        let machine = &mut self.shards[shard.0 as usize];
        if is_simple
            && self.random.bool()
            && let Some(mut view) = machine.try_view(&slots, unit.origin)
        {
            assert_eq!(unit.work.run(&mut view, &mut ()), Verdict::Done);
            if unit.origin.shard == shard {
                out.finished.push((unit.origin, unit.work));
            } else {
                out.send(
                    unit.origin.shard,
                    Message::Finished {
                        origin: unit.origin,
                        work: unit.work,
                    },
                );
            }
        } else {
            machine.submit(unit, &mut (), &mut out);
        }
        self.take_out(shard, out);
    }

    fn go_on(&mut self, shard: ShardId, ticket: Ticket) {
        let mut out = Outbox::new();
        let machine = &mut self.shards[shard.0 as usize];
        assert!(machine.held(ticket).is_some_and(|job| job.held_count > 0));
        let mut holds_on = false;
        let run = |job: &mut Job, view: &mut View<'_, Content>, _: &mut ()| {
            let verdict = job.go_on(view);
            holds_on = verdict == Verdict::Hold;
            verdict
        };
        machine.continue_held(ticket, run, &mut (), &mut out);
        if holds_on {
            self.held.push((shard, ticket));
        }
        self.take_out(shard, out);
    }

    fn deliver(&mut self, (from, to): (ShardId, ShardId)) {
        let link = self.links.get_mut(&(from, to)).expect("a chosen link exists");
        let parcel = match self.fault == Fault::Reorder && self.random.u8(..4) == 0 {
            true => link.pop_back(),
            false => link.pop_front(),
        };
        match parcel.expect("a chosen link has something") {
            Parcel::Command(unit) => self.run_here(to, unit),
            Parcel::Message(message) => {
                let mut out = Outbox::new();
                self.shards[to.0 as usize].handle(from, message, &mut (), &mut out);
                self.take_out(to, out);
            }
        }
    }

    fn put(&mut self, from: ShardId, to: ShardId, parcel: Parcel) {
        assert_ne!(from, to, "a shard sends nothing to itself");
        let link = self.links.entry((from, to)).or_default();
        if self.fault == Fault::SwapUnits
            && let Parcel::Command(unit) = &parcel
            && let Some(Parcel::Command(last)) = link.back()
            && last.origin == unit.origin
        {
            let last = link.pop_back().expect("there is one");
            link.push_back(parcel);
            link.push_back(last);
            return;
        }
        link.push_back(parcel);
    }

    fn take_out(&mut self, shard: ShardId, out: Outbox<Content, Job>) {
        for (to, message) in out.messages {
            for message in self.spoil(message) {
                self.put(shard, to, Parcel::Message(message));
            }
        }
        self.held
            .extend(out.held.into_iter().map(|(ticket, _)| (shard, ticket)));
        for (origin, job) in out.finished {
            assert_eq!(origin.shard, shard);
            self.finish(origin, job);
        }
    }

    fn finish(&mut self, origin: ConnRef, job: Job) {
        let mut seen = job.seen;
        if let Some((missing, gathered)) = self.halves.get_mut(&job.id) {
            *missing -= 1;
            gathered.append(&mut seen);
            if *missing > 0 {
                return;
            }
            seen = std::mem::take(gathered);
        }
        let history = &mut self.histories[job.id as usize];
        assert_eq!(
            history.origin, origin,
            "unit {} was handed to another connection",
            job.id
        );
        assert!(history.finished_at.is_none(), "unit {} ended twice", job.id);
        history.finished_at = Some(if self.fault == Fault::FinishEarly {
            history.issued_at
        } else {
            self.clock
        });
        history.seen = seen;
        let connection = self
            .connections
            .iter_mut()
            .find(|other| other.origin == origin)
            .expect("it exists");
        let at = connection
            .in_flight
            .iter()
            .position(|(id, ..)| *id == job.id)
            .expect("it is in flight");
        if let Some(target) = history.target {
            let earlier = connection
                .in_flight
                .iter()
                .take(at)
                .find(|(_, other, _)| *other == Some(target));
            assert!(
                earlier.is_none() || self.fault == Fault::SwapUnits,
                "unit {} overtook an earlier one of its connection",
                job.id
            );
        }
        connection.in_flight.remove(at);
    }
}

/// Runs the schedule of a seed; a broken invariant inside the shards counts as an error too.
fn simulate(seed: u64, fault: Fault) -> Result<(), String> {
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| Simulation::new(seed, fault).run()));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text
            .or(panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or("a panic".to_string()))
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_schedule_is_serializable() {
    if let Some(seed) = number("SHARDIS_SIM_SEED") {
        simulate(seed, Fault::None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        return;
    }
    let seed_count = number("SHARDIS_SIM_SEEDS").unwrap_or(10_000);
    let thread_count = 4;
    let run_share = |share: u64| {
        (share..seed_count)
            .step_by(thread_count)
            .find_map(|seed| Some((seed, simulate(seed, Fault::None).err()?)))
    };
    let failure = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..thread_count as u64)
            .map(|share| scope.spawn(move || run_share(share)))
            .collect();
        shares
            .into_iter()
            .filter_map(|share| share.join().expect("errors are values"))
            .min()
    });
    if let Some((seed, error)) = failure {
        panic!("SHARDIS_SIM_SEED={seed} cargo test --test simulation # {error}");
    }
}

#[test]
fn every_fault_is_found() {
    const SEEDS: u64 = 400;
    for fault in FAULTS {
        let found = (0..SEEDS).find_map(|seed| Some((seed, simulate(seed, fault).err()?)));
        let (seed, error) = found.unwrap_or_else(|| panic!("{fault:?} was not found in {SEEDS} schedules"));
        println!("{fault:?}: seed {seed}: {error}");
    }
}
