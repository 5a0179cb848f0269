//! The loan protocol, checked exhaustively on small cases.
//!
//! The model is the real [`Shard`], with a toy content and toy units of work: a state is a few shards and what is on
//! their links, and an action issues a unit, delivers the oldest message of some link, or lets a unit that holds go
//! on. All states that can be reached are visited, and
//!
//! 1. in each of them every slot is in exactly one place: on one shard or in one message;
//! 2. when nothing more can happen, every unit has ended, and every slot is at home;
//! 3. that moment always comes: the count of steps is part of the state and has a bound.
//!
//! (2) and (3) together say that there is neither a deadlock nor a livelock. Besides, all assertions inside the shards
//! hold in every state. Tickets are given beforehand and units are issued in any order, so that an older unit may
//! come later than a younger one, as it can when two shards take tickets at the same time.

use shardis::shard::{
    ConnRef, Footprint, Loan, Message, Outbox, Realm, Shard, ShardId, Ticket, TicketSource, Unit, Verdict, View, Work,
};
use stateright::{Checker, Model, Property};
use std::collections::{BTreeMap, VecDeque};

/// A toy unit of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Job {
    number: u8,
    /// It holds once.
    holds: bool,
    /// It finds out as it runs that it needs this slot.
    seeks: Option<u16>,
}

impl Work<()> for Job {
    type Env = ();

    fn run(&mut self, view: &mut View<'_, ()>, _: &mut ()) -> Verdict {
        if let Some(slot) = self.seeks
            && view.slot(slot).is_none()
        {
            return Verdict::Lacks(Footprint::one(slot));
        }
        if self.holds { Verdict::Hold } else { Verdict::Done }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    shards: Vec<Shard<(), Job>>,
    links: BTreeMap<(ShardId, ShardId), VecDeque<Message<(), Job>>>,
    held: Vec<(ShardId, Ticket)>,
    /// Bits of the units that were issued, and that have ended.
    issued: u8,
    ended: u8,
    step_count: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Issue(u8),
    Deliver(ShardId, ShardId),
    GoOn(ShardId, Ticket),
}

struct Case {
    shard_count: u16,
    slot_count: u16,
    units: Vec<Unit<Job>>,
    step_count_max: u16,
    /// Whether some loan is recalled by another shard in some order of events.
    has_recalls: bool,
}

/// A unit issued at a shard, on some slots; none stands for everything. Its place in the list is its age.
struct Plan(u16, &'static [u16], Kind);

enum Kind {
    Plain,
    Holds,
    Seeks(u16),
}

use Kind::{Holds, Plain, Seeks};

impl Case {
    fn new(shard_count: u16, slot_count: u16, plans: &[Plan]) -> Self {
        let unit = |(number, Plan(shard, slots, kind)): (usize, &Plan)| Unit {
            work: Job {
                number: number as u8,
                holds: matches!(kind, Holds),
                seeks: if let Seeks(slot) = kind { Some(*slot) } else { None },
            },
            footprint: match slots {
                [] => Footprint::Everything,
                slots => Footprint::Slots((*slots).into()),
            },
            origin: ConnRef {
                shard: ShardId(*shard),
                index: number as u32,
                generation: 0,
            },
            ticket: Some(Ticket(number as u64)),
        };
        Case {
            shard_count,
            slot_count,
            units: plans.iter().enumerate().map(unit).collect(),
            // Far more than any of these cases takes, far less than for ever.
            step_count_max: 200,
            has_recalls: true,
        }
    }

    fn take_out(&self, state: &mut State, shard: ShardId, out: Outbox<(), Job>) {
        for (to, message) in out.messages {
            state.links.entry((shard, to)).or_default().push_back(message);
        }
        state
            .held
            .extend(out.held.into_iter().map(|(ticket, _)| (shard, ticket)));
        state.held.sort_unstable();
        for (origin, job) in out.finished {
            assert_eq!(origin.shard, shard);
            assert_eq!(state.ended & (1 << job.number), 0, "unit {} ended twice", job.number);
            state.ended |= 1 << job.number;
        }
    }

    fn has_ended(&self, state: &State) -> bool {
        state.ended.count_ones() as usize == self.units.len()
            && state.shards.iter().all(Shard::is_idle)
            && state
                .shards
                .iter()
                .map(|shard| shard.slots_here().count())
                .sum::<usize>()
                == self.slot_count as usize
    }

    fn check(self, name: &str) {
        let checker = self.checker().threads(2).spawn_bfs().join();
        println!("{name}: {} states", checker.unique_state_count());
        checker.assert_properties();
    }
}

impl Model for Case {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let realm = Realm {
            shard_count: self.shard_count,
            slot_count: self.slot_count,
            tickets: TicketSource::new(),
        };
        let shard = |id| Shard::new(ShardId(id), &realm, |_| Box::new(()));
        vec![State {
            shards: (0..self.shard_count).map(shard).collect(),
            links: BTreeMap::new(),
            held: Vec::new(),
            issued: 0,
            ended: 0,
            step_count: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let not_issued = (0..self.units.len() as u8).filter(|number| state.issued & (1 << number) == 0);
        actions.extend(not_issued.map(Action::Issue));
        actions.extend(state.links.keys().map(|(from, to)| Action::Deliver(*from, *to)));
        actions.extend(state.held.iter().map(|(shard, ticket)| Action::GoOn(*shard, *ticket)));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        state.step_count += 1;
        let mut out = Outbox::new();
        let shard = match action {
            Action::Issue(number) => {
                let unit = self.units[number as usize].clone();
                state.issued |= 1 << number;
                let shard = unit.origin.shard;
                state.shards[shard.0 as usize].dispatch(unit, &mut (), &mut out);
                shard
            }
            Action::Deliver(from, to) => {
                let link = state.links.get_mut(&(from, to))?;
                let message = link.pop_front()?;
                if link.is_empty() {
                    state.links.remove(&(from, to));
                }
                state.shards[to.0 as usize].handle(from, message, &mut (), &mut out);
                to
            }
            Action::GoOn(shard, ticket) => {
                state.held.retain(|held| *held != (shard, ticket));
                state.shards[shard.0 as usize].continue_held(ticket, |_, _, _| Verdict::Done, &mut (), &mut out);
                shard
            }
        };
        self.take_out(&mut state, shard, out);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every slot is in exactly one place", |case: &Case, state: &State| {
                let in_messages = state.links.values().flatten().filter_map(|message| match message {
                    Message::Grant { loan, .. } | Message::Return { loan, .. } => Some(loan),
                    _ => None,
                });
                let mut slots: Vec<u16> = in_messages.flat_map(Loan::slots).collect();
                slots.extend(state.shards.iter().flat_map(Shard::slots_here));
                slots.sort_unstable();
                slots.into_iter().eq(0..case.slot_count)
            }),
            Property::always(
                "when nothing more happens, all has ended",
                |case: &Case, state: &State| {
                    let mut actions = Vec::new();
                    case.actions(state, &mut actions);
                    !actions.is_empty() || case.has_ended(state)
                },
            ),
            Property::always("it ends", |case: &Case, state: &State| {
                state.step_count < case.step_count_max
            }),
            // A case in which nobody is called back would not show much. (Calls within one shard leave no trace.)
            Property::sometimes("a unit is called back", |case: &Case, state: &State| {
                let mut messages = state.links.values().flatten();
                !case.has_recalls || messages.any(|message| matches!(message, Message::Return { again: true, .. }))
            }),
        ]
    }
}

#[test]
fn two_units_on_two_slots() {
    let case = Case::new(2, 2, &[Plan(0, &[0, 1], Plain), Plan(1, &[0, 1], Plain)]);
    Case {
        has_recalls: false,
        ..case
    }
    .check("two on two");
}

#[test]
fn units_in_a_circle() {
    let units = [
        Plan(0, &[0, 1], Plain),
        Plan(1, &[1, 2], Plain),
        Plan(2, &[0, 2], Plain),
    ];
    Case::new(3, 3, &units).check("circle of three");
    let units = [
        Plan(3, &[0, 3], Plain),
        Plan(1, &[1, 2], Plain),
        Plan(0, &[0, 1], Plain),
        Plan(2, &[2, 3], Plain),
    ];
    Case::new(4, 4, &units).check("circle of four");
}

#[test]
fn many_units_on_the_same_slots() {
    let units = [
        Plan(0, &[0, 1], Plain),
        Plan(1, &[0, 1], Plain),
        Plan(0, &[0, 1], Plain),
    ];
    Case::new(2, 2, &units).check("three on two");
    let all: &[u16] = &[0, 1, 2];
    let units = [
        Plan(0, all, Plain),
        Plan(1, all, Plain),
        Plan(2, all, Plain),
        Plan(0, &[0, 1], Plain),
    ];
    Case::new(3, 3, &units[..3]).check("three on three");
    Case::new(3, 3, &units).check("four on three");
}

#[test]
fn overlapping_units() {
    let units = [
        Plan(0, &[0, 1, 2], Plain),
        Plan(1, &[0, 1], Plain),
        Plan(1, &[1, 2], Plain),
        Plan(2, &[0, 2], Plain),
    ];
    Case::new(3, 3, &units).check("overlapping");
}

#[test]
fn everything_among_others() {
    let units = [
        Plan(1, &[0, 2], Plain),
        Plan(0, &[], Plain),
        Plan(0, &[1, 3], Plain),
        Plan(1, &[0], Plain),
    ];
    Case::new(2, 4, &units).check("everything among others");
    let units = [
        Plan(2, &[1, 2], Plain),
        Plan(0, &[], Plain),
        Plan(1, &[], Plain),
        Plan(0, &[1], Plain),
    ];
    Case::new(3, 3, &units).check("everything twice");
}

#[test]
fn units_that_hold() {
    // Two slots of one home, which units hold that had not asked for them, and one of another home.
    let units = [
        Plan(1, &[0, 1, 2], Plain),
        Plan(0, &[0], Holds),
        Plan(0, &[1], Holds),
        Plan(1, &[0], Holds),
        Plan(1, &[1, 3], Holds),
    ];
    let case = Case::new(2, 4, &units);
    Case {
        has_recalls: false,
        ..case
    }
    .check("holding");
}

#[test]
fn units_that_lack() {
    let units = [
        Plan(0, &[0], Seeks(3)),
        Plan(1, &[3], Seeks(0)),
        Plan(1, &[1, 2], Seeks(0)),
        Plan(0, &[0], Plain),
    ];
    Case::new(2, 4, &units).check("lacking");
    let units = [
        Plan(0, &[0, 1], Seeks(2)),
        Plan(1, &[1, 2], Seeks(0)),
        Plan(2, &[2], Seeks(1)),
    ];
    Case::new(3, 3, &units).check("lacking in a circle");
}

#[test]
fn everything_against_units_that_hold_and_lack() {
    let units = [
        Plan(2, &[], Plain),
        Plan(1, &[1, 2], Seeks(0)),
        Plan(0, &[0, 1], Holds),
        Plan(0, &[0], Holds),
    ];
    Case::new(3, 3, &units).check("everything, holding, lacking");
}
