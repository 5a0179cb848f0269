//! The state machine of one shard: what it does with a unit of work and with a message.
//!
//! It never waits, reads no clock and opens no socket: each step takes something in and puts what follows from it
//! into an [`Outbox`]. So a scheduler in one thread can run any number of shards, in any order of their messages,
//! and a run is repeated from its seed.
//!
//! Ways of a unit of work through a shard, from the fastest to the slowest:
//!
//! 1. [`Shard::try_view`]: all slots in their places. The caller runs over the view; no message, no allocation.
//! 2. [`Shard::submit`], all slots in their places: the same, but the unit may hold, or lack slots.
//! 3. One slot, which is lent: the unit waits in the queue of that slot. It takes no ticket, since who waits for
//!    one slot and holds nothing can be part of no deadlock.
//! 4. Anything else collects its slots under a ticket, from this shard as from any other.
//!
//! While a connection has a unit on way 3 or 4 (or one that holds), its later units on this shard wait behind it.
//!
//! Invariants: (1) a connection has at most one unit that is under way on a shard, and `pending` has an entry for it
//! exactly then; (2) between steps, a unit waits in the queue of a slot only while that slot is lent or reserved;
//! (3) `is_plain` is true exactly when no connection is pending and no slot is reserved.

use super::gather::{Gather, GatherState};
use super::home::Home;
use super::places::{Loan, Places};
use super::post::Post;
use super::view::{Extras, View};
use super::work::{ConnRef, Message, Outbox, Route, Ticket, TicketSource, Unit, Verdict, Work};
use super::{Footprint, ShardId, SlotSet};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What all shards of a process have in common.
#[derive(Clone, Debug)]
pub struct Realm {
    pub shard_count: u16,
    /// 16384 in a server; models have fewer.
    pub slot_count: u16,
    pub tickets: TicketSource,
}

/// One shard: its places, and the units of work that wait for slots.
///
/// It can be cloned, compared and hashed if the slots and the work can (the server's cannot): a model checker needs
/// that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shard<S, W> {
    id: ShardId,
    shard_count: u16,
    /// The home of each slot.
    owners: Arc<[ShardId]>,
    home: Home<S>,
    /// The units of work that this shard coordinates.
    gathers: BTreeMap<Ticket, Box<Gather<S, W>>>,
    /// The units of one slot that wait for it.
    queues: BTreeMap<u16, VecDeque<Unit<W>>>,
    /// The connections that have a unit under way here, each with the units that wait behind it.
    pending: BTreeMap<ConnRef, VecDeque<Unit<W>>>,
    /// Whether there is nothing that the fast path would have to look at but the places.
    is_plain: bool,
    /// Messages of this step to this shard.
    loopback: VecDeque<Message<S, W>>,
    /// Units of this step whose turn within their connection has come.
    ready: VecDeque<Unit<W>>,
    tickets: TicketSource,
}

impl<S, W: Work<S>> Shard<S, W> {
    /// The shard with this number, which owns an even, contiguous share of the slots; `make_slot` makes each.
    pub fn new(id: ShardId, realm: &Realm, mut make_slot: impl FnMut(u16) -> Box<S>) -> Self {
        assert!(id.0 < realm.shard_count && realm.shard_count <= realm.slot_count);
        let owners = initial_owners(realm.shard_count, realm.slot_count);
        let places = Places::new(realm.slot_count, |slot| {
            (owners[slot as usize] == id).then(|| make_slot(slot))
        });
        Shard {
            id,
            shard_count: realm.shard_count,
            owners,
            home: Home::new(places),
            gathers: BTreeMap::new(),
            queues: BTreeMap::new(),
            pending: BTreeMap::new(),
            is_plain: true,
            loopback: VecDeque::new(),
            ready: VecDeque::new(),
            tickets: realm.tickets.clone(),
        }
    }

    /// The number of this shard.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The home of a slot.
    #[inline]
    pub fn owner(&self, slot: u16) -> ShardId {
        self.owners[slot as usize]
    }

    /// Where a unit of work with this footprint is to be submitted.
    pub fn route(&self, footprint: &Footprint) -> Route {
        let Footprint::Slots(slots) = footprint else {
            return Route::Coordinate(self.id);
        };
        self.route_slots(slots.as_slice())
    }

    /// Where a unit of work on these slots (each named once) is to be submitted.
    pub fn route_slots(&self, slots: &[u16]) -> Route {
        let Some((&first, rest)) = slots.split_first() else {
            return Route::Here;
        };
        let home = self.owner(first);
        if rest.iter().all(|&slot| self.owner(slot) == home) {
            return if home == self.id {
                Route::Here
            } else {
                Route::Home(home)
            };
        }
        // Most slots first; among equals this shard, then the lowest number, so that all shards agree. The slots ascend, so
        // those of one home mostly stand together, and a short list of counts is found by looking at its end.
        let mut counts: Vec<(ShardId, usize)> = Vec::with_capacity(8);
        for &slot in slots {
            let owner = self.owner(slot);
            match counts.iter_mut().rev().find(|(shard, _)| *shard == owner) {
                Some((_, count)) => *count += 1,
                None => counts.push((owner, 1)),
            }
        }
        let best = counts
            .into_iter()
            .max_by_key(|&(shard, count)| (count, shard == self.id, std::cmp::Reverse(shard)));
        Route::Coordinate(best.expect("there are slots, so there is a home").0)
    }

    /// The fast path: a view, if all `slots` are in their places and this connection has nothing under way here.
    /// The caller runs over it at once; one that finds that it lacks a slot undoes what it did, and submits a unit with
    /// the larger footprint. What may hold must be submitted.
    #[inline]
    pub fn try_view(&mut self, slots: &[u16], conn: ConnRef) -> Option<View<'_, S>> {
        if !self.is_plain && (self.pending.contains_key(&conn) || self.home.reserves(slots)) {
            return None;
        }
        let places = self.home.places_mut()?;
        if !places.all_home(slots) {
            return None;
        }
        Some(View {
            shard: self.id,
            owners: &self.owners,
            places: Some(places),
            parts: &mut [],
            extras: None,
        })
    }

    /// Runs a unit of work here, or coordinates it from here, whatever its footprint.
    pub fn submit(&mut self, unit: Unit<W>, env: &mut W::Env, out: &mut Outbox<S, W>) {
        self.admit(unit, env, out);
        self.settle(env, out);
    }

    /// Submits a unit of work where [`Shard::route`] says: here, or by a message.
    pub fn dispatch(&mut self, unit: Unit<W>, env: &mut W::Env, out: &mut Outbox<S, W>) {
        match self.route(&unit.footprint) {
            Route::Home(shard) | Route::Coordinate(shard) if shard != self.id => {
                out.send(shard, Message::Submit(unit));
            }
            _ => self.submit(unit, env, out),
        }
    }

    /// A message came by the link from `from`.
    pub fn handle(&mut self, from: ShardId, message: Message<S, W>, env: &mut W::Env, out: &mut Outbox<S, W>) {
        self.deliver(from, message, env, out);
        self.settle(env, out);
    }

    /// The unit of work that holds its slots here under this ticket ([`Outbox::held`] named it).
    pub fn held(&mut self, ticket: Ticket) -> Option<&mut W> {
        let gather = self.gathers.get_mut(&ticket)?;
        (gather.state == GatherState::Held).then_some(&mut gather.unit.work)
    }

    /// Runs a unit further that holds its slots here under this ticket.
    pub fn continue_held(
        &mut self,
        ticket: Ticket,
        run: impl FnOnce(&mut W, &mut View<'_, S>, &mut W::Env) -> Verdict,
        env: &mut W::Env,
        out: &mut Outbox<S, W>,
    ) {
        let gather = self
            .gathers
            .remove(&ticket)
            .unwrap_or_else(|| panic!("no unit of {ticket:?} is here"));
        assert_eq!(gather.state, GatherState::Held, "the unit of {ticket:?} does not hold");
        self.run_on_loans(ticket, gather, run, env, out);
        self.settle(env, out);
    }

    /// Every slot that is on this shard now: at home and not lent, or on loan to a unit of work here. Over all shards
    /// that is every slot once, those under way between two shards excepted.
    pub fn contents_here(&self) -> impl Iterator<Item = (u16, &S)> {
        let home = self.home.places().into_iter().flat_map(Places::iter);
        let loans = self
            .gathers
            .values()
            .flat_map(|gather| &gather.parts)
            .filter_map(|part| part.loan.as_ref());
        home.chain(loans.flat_map(Loan::iter))
    }

    /// Whether nothing is lent, collected or waiting here.
    pub fn is_idle(&self) -> bool {
        self.home.is_idle() && self.gathers.is_empty() && self.queues.is_empty() && self.pending.is_empty()
    }

    /// The slots that are in their places; `None` while all are lent as a whole. For statistics.
    pub fn places(&self) -> Option<&Places<S>> {
        self.home.places()
    }

    /// All slots whose content is on this shard now: in its places, or on loan to a unit that it coordinates. A slot
    /// is on exactly one shard, or in a message. For checks.
    pub fn slots_here(&self) -> impl Iterator<Item = u16> {
        self.contents_here().map(|(slot, _)| slot)
    }

    /// Takes in a unit of work, behind the earlier ones of its connection.
    fn admit(&mut self, unit: Unit<W>, env: &mut W::Env, out: &mut Outbox<S, W>) {
        match self.pending.get_mut(&unit.origin) {
            Some(behind) => behind.push_back(unit),
            None => self.start(unit, env, out),
        }
    }

    /// Starts a unit of work that is the next of its connection.
    fn start(&mut self, unit: Unit<W>, env: &mut W::Env, out: &mut Outbox<S, W>) {
        let Footprint::Slots(slots) = &unit.footprint else {
            return self.gather(unit, out);
        };
        if slots.iter().any(|slot| self.owner(slot) != self.id) {
            return self.gather(unit, out);
        }
        let lets_run = self.home.lets_run(slots.as_slice());
        match *slots.as_slice() {
            [slot] if !lets_run => {
                self.mark_pending(unit.origin);
                self.queues.entry(slot).or_default().push_back(unit);
            }
            _ if lets_run => self.run_in_place(unit, env, out),
            _ => self.gather(unit, out),
        }
    }

    /// Runs a unit whose slots are all in their places.
    fn run_in_place(&mut self, mut unit: Unit<W>, env: &mut W::Env, out: &mut Outbox<S, W>) {
        let touched = RefCell::new(SlotSet::new());
        let mut view = View {
            shard: self.id,
            owners: &self.owners,
            places: self.home.places_mut(),
            parts: &mut [],
            extras: Some(Extras {
                footprint: &unit.footprint,
                touched: &touched,
            }),
        };
        let verdict = unit.work.run(&mut view, env);

        let touched = touched.into_inner();
        match verdict {
            Verdict::Done => self.complete(unit, out),
            Verdict::Hold => {
                let ticket = self.ticket_of(&mut unit);
                self.mark_pending(unit.origin);
                unit.footprint.merge(&Footprint::Slots(touched));
                let Footprint::Slots(slots) = unit.footprint.clone() else {
                    unreachable!("a unit that wants everything collects it");
                };
                let content = self.home.hold(self.id, ticket, &slots);
                let origin = unit.origin;
                let mut gather = Box::new(Gather {
                    unit,
                    state: GatherState::Held,
                    parts: Vec::new(),
                });
                gather.add(self.id, &slots, content);
                self.insert_gather(ticket, gather);
                out.held.push((ticket, origin));
            }
            Verdict::Lacks(more) => {
                grow(&mut unit.footprint, touched, &more);
                self.gather(unit, out);
            }
        }
    }

    /// Asks the homes for what a unit of work needs.
    fn gather(&mut self, mut unit: Unit<W>, out: &mut Outbox<S, W>) {
        let ticket = self.ticket_of(&mut unit);
        self.mark_pending(unit.origin);
        let gather = Box::new(Gather::new(unit, &self.owners, self.shard_count));
        assert!(!gather.parts.is_empty(), "a unit that wants nothing runs in place");
        let (_, mut post) = self.home_and_post(out);
        for part in &gather.parts {
            post.send(
                part.home,
                Message::Ask {
                    ticket,
                    want: part.want.clone(),
                },
            );
        }
        self.insert_gather(ticket, gather);
    }

    /// Runs a unit that has everything it asked for, or that holds.
    fn run_on_loans(
        &mut self,
        ticket: Ticket,
        mut gather: Box<Gather<S, W>>,
        run: impl FnOnce(&mut W, &mut View<'_, S>, &mut W::Env) -> Verdict,
        env: &mut W::Env,
        out: &mut Outbox<S, W>,
    ) {
        let touched = RefCell::new(SlotSet::new());
        let mut view = View {
            shard: self.id,
            owners: &self.owners,
            places: self.home.places_mut(),
            parts: &mut gather.parts,
            extras: Some(Extras {
                footprint: &gather.unit.footprint,
                touched: &touched,
            }),
        };
        let verdict = run(&mut gather.unit.work, &mut view, env);

        let touched = touched.into_inner();
        match verdict {
            Verdict::Done => {
                self.send_home(ticket, &mut gather, out);
                self.complete(gather.unit, out);
            }
            Verdict::Hold => {
                if gather.state != GatherState::Held {
                    out.held.push((ticket, gather.unit.origin));
                }
                gather.state = GatherState::Held;
                let content = self.home.hold(self.id, ticket, &touched);
                gather.add(self.id, &touched, content);
                gather.unit.footprint.merge(&Footprint::Slots(touched));
                self.insert_gather(ticket, gather);
            }
            Verdict::Lacks(more) => {
                grow(&mut gather.unit.footprint, touched, &more);
                self.send_home(ticket, &mut gather, out);
                self.gather(gather.unit, out);
            }
        }
    }

    /// Gives all loans of a unit back.
    fn send_home(&mut self, ticket: Ticket, gather: &mut Gather<S, W>, out: &mut Outbox<S, W>) {
        let (_, mut post) = self.home_and_post(out);
        for part in gather.parts.drain(..) {
            let loan = part.loan.expect("a unit that has run held all its parts");
            post.send(
                part.home,
                Message::Return {
                    ticket,
                    loan,
                    again: false,
                },
            );
        }
    }

    /// Hands a finished unit to its origin, and gives the next one of its connection its turn.
    fn complete(&mut self, unit: Unit<W>, out: &mut Outbox<S, W>) {
        let Unit { work, origin, .. } = unit;
        if origin.shard == self.id {
            out.finished.push((origin, work));
        } else {
            out.send(origin.shard, Message::Finished { origin, work });
        }
        if let Some(behind) = self.pending.get_mut(&origin) {
            match behind.pop_front() {
                Some(next) => self.ready.push_back(next),
                None => {
                    self.pending.remove(&origin);
                }
            }
        }
    }

    fn deliver(&mut self, from: ShardId, message: Message<S, W>, env: &mut W::Env, out: &mut Outbox<S, W>) {
        match message {
            Message::Submit(unit) => self.admit(unit, env, out),
            Message::Ask { ticket, want } => {
                if let Footprint::Slots(slots) = &want {
                    assert!(
                        slots.iter().all(|slot| self.owner(slot) == self.id),
                        "{want:?} is not all at home here"
                    );
                }
                let (home, mut post) = self.home_and_post(out);
                home.ask(from, ticket, want, &mut post);
            }
            Message::Grant { ticket, loan } => {
                let gather = self.gathers.get_mut(&ticket);
                let gather =
                    gather.unwrap_or_else(|| panic!("{from:?} granted slots to {ticket:?}, which is not here"));
                if gather.take_grant(from, ticket, loan)
                    && let Some(gather) = self.gathers.remove(&ticket)
                {
                    self.run_on_loans(ticket, gather, |work, view, env| work.run(view, env), env, out);
                }
            }
            Message::Recall { ticket } => {
                // A unit that has run is gone or holds: its return is on the way, or comes when it ends.
                if let Some(gather) = self.gathers.get_mut(&ticket)
                    && let Some(loan) = gather.give_back(from)
                {
                    let (_, mut post) = self.home_and_post(out);
                    post.send(
                        from,
                        Message::Return {
                            ticket,
                            loan,
                            again: true,
                        },
                    );
                }
            }
            Message::Return { ticket, loan, again } => self.take_back(from, ticket, loan, again, env, out),
            Message::Finished { origin, work } => {
                assert_eq!(
                    origin.shard, self.id,
                    "a finished unit of another shard's connection came here"
                );
                out.finished.push((origin, work));
            }
        }
    }

    /// A loan comes home: first the units in the queues of its slots, then the requests.
    fn take_back(
        &mut self,
        from: ShardId,
        ticket: Ticket,
        loan: Loan<S>,
        again: bool,
        env: &mut W::Env,
        out: &mut Outbox<S, W>,
    ) {
        let freed = self.home.take_back(from, ticket, loan, again);
        let waited_for: Vec<u16> = match &freed.what {
            Footprint::Slots(slots) => slots.iter().filter(|slot| self.queues.contains_key(slot)).collect(),
            Footprint::Everything => self.queues.keys().copied().collect(),
        };
        for slot in waited_for {
            self.run_queue(slot, freed.was_held, env, out);
        }
        let (home, mut post) = self.home_and_post(out);
        home.serve(&freed.what, &mut post);
    }

    /// Runs the units that wait for a slot which is back, until one holds it.
    fn run_queue(&mut self, slot: u16, reserved_first: bool, env: &mut W::Env, out: &mut Outbox<S, W>) {
        let is_here = |home: &Home<S>| {
            home.places().is_some_and(|places| places.home(slot).is_some())
                && !(reserved_first && home.reserves(&[slot]))
        };
        while is_here(&self.home) {
            let Some(unit) = self.queues.get_mut(&slot).and_then(VecDeque::pop_front) else {
                break;
            };
            self.run_in_place(unit, env, out);
        }
        if self.queues.get(&slot).is_some_and(VecDeque::is_empty) {
            self.queues.remove(&slot);
        }
    }

    /// Works off what this step has for this shard itself.
    fn settle(&mut self, env: &mut W::Env, out: &mut Outbox<S, W>) {
        loop {
            if let Some(message) = self.loopback.pop_front() {
                self.deliver(self.id, message, env, out);
            } else if let Some(unit) = self.ready.pop_front() {
                self.start(unit, env, out);
            } else {
                break;
            }
        }
        self.is_plain = self.pending.is_empty() && !self.home.has_reservation();
        if cfg!(debug_assertions) {
            for &slot in self.queues.keys() {
                assert!(
                    !self.home.lets_run(&[slot]),
                    "invariant 2: a unit waits for slot {slot}, which is free"
                );
            }
        }
    }

    fn insert_gather(&mut self, ticket: Ticket, gather: Box<Gather<S, W>>) {
        let previous = self.gathers.insert(ticket, gather);
        assert!(previous.is_none(), "two units of work have {ticket:?}");
    }

    fn mark_pending(&mut self, origin: ConnRef) {
        if origin.keeps_order() {
            self.pending.entry(origin).or_default();
        }
    }

    fn ticket_of(&self, unit: &mut Unit<W>) -> Ticket {
        *unit.ticket.get_or_insert_with(|| self.tickets.take())
    }

    fn home_and_post<'a>(&'a mut self, out: &'a mut Outbox<S, W>) -> (&'a mut Home<S>, Post<'a, S, W>) {
        (
            &mut self.home,
            Post {
                shard: self.id,
                loopback: &mut self.loopback,
                out,
            },
        )
    }
}

/// A footprint that a unit of work found too small becomes larger, or the unit would lack for ever.
fn grow(footprint: &mut Footprint, touched: SlotSet, more: &Footprint) {
    footprint.merge(&Footprint::Slots(touched));
    assert!(footprint.merge(more), "a unit of work lacks {more:?}, which it held");
}

/// Shard `i` of `n` owns the slots from `i * slot_count / n` up to where the next one's begin.
pub fn initial_owners(shard_count: u16, slot_count: u16) -> Arc<[ShardId]> {
    let start = |shard: u16| (shard as u32 * slot_count as u32 / shard_count as u32) as u16;
    let share = |shard: u16| std::iter::repeat_n(ShardId(shard), (start(shard + 1) - start(shard)) as usize);
    (0..shard_count).flat_map(share).collect()
}

impl PartialEq for TicketSource {
    fn eq(&self, other: &Self) -> bool {
        self.taken_count() == other.taken_count()
    }
}

impl Eq for TicketSource {}

impl std::hash::Hash for TicketSource {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.taken_count().hash(state);
    }
}
