//! A shard as the home of its slots: to whom it lends them, who waits for them, whom it calls back.
//!
//! This half of the protocol is a lock manager whose locks are the slots themselves. Units of work that run at
//! home, from start to end and without waiting, are not its business: they use a slot while it lies in its place
//! and delay nobody. It decides about units that want a slot for longer, because they collect slots of several
//! homes, or because they hold. Those ask with a ticket, and for all that they want of this home at once.
//!
//! ```text
//!            ask                      all slots here,
//!  (nothing) ----> request, waiting ------------------> loan, out ----> (nothing)
//!                   ^                older ones served    |      return
//!                   |                                     | recall by an older request
//!                   +-------------------------------------+
//!                             return, again
//! ```
//!
//! A request reserves its slots against younger *requests*, so it gets them in the order of tickets; it does not
//! reserve them against units that run in place, which would leave slots idle. But a unit that runs in place may
//! turn out to *hold* ([`Verdict::Hold`](super::Verdict::Hold)), and a stream of such units could keep two slots
//! of one home from ever being in their places at the same time. So the oldest request that such a unit has
//! overtaken becomes *reserved*: from then until it is served nothing new runs in place on its slots.
//!
//! Why nobody starves: the oldest ticket of the process is the oldest at each home it asks. What it wants there is
//! held by loans of younger units that still collect (recalled), by units that have run (on their way home), or by
//! units that hold (which end, as they wait for no other unit; and the reservation lets no further one in). So it
//! gets all its slots, runs, and the next ticket is the oldest. And a unit that waits in the queue of one slot gets
//! its turn when the slot comes back, before any request does: it waits for the loan that is out, and for
//! those units before it in the queue that hold.
//!
//! Invariants: (1) a slot is lent to at most one ticket, whose loan names it; (2) a ticket has at most one
//! request or one loan at a home, never both; (3) no loan is granted over an older waiting request that wants one
//! of the same slots, so a request has to wound only as it arrives; (4) a loan is recalled at most once;
//! (5) the array is lent as a whole only when no single slot is lent; (6) a reserved ticket is a waiting request.

use super::places::{Loan, Places};
use super::post::Post;
use super::{Footprint, Message, ShardId, SlotSet, Ticket};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Home<S> {
    /// `None` while the array is lent as a whole.
    places: Option<Box<Places<S>>>,
    loans: BTreeMap<Ticket, Lent>,
    requests: BTreeMap<Ticket, Request>,
    /// For each slot that is asked for by number: the tickets of the requests that wait for it.
    queues: BTreeMap<u16, BTreeSet<Ticket>>,
    /// The tickets of the requests that want everything.
    want_everything: BTreeSet<Ticket>,
    reserved: Option<Ticket>,
}

/// A loan that is out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lent {
    to: ShardId,
    what: Footprint,
    /// A loan is recalled once.
    was_recalled: bool,
    /// The unit has run and holds: a recall is in vain.
    holds: bool,
}

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Request {
    from: ShardId,
    want: Footprint,
}

/// What came back with a loan.
pub(super) struct Freed {
    pub(super) what: Footprint,
    /// Whether it was held by a unit that had not asked for it: then a reserved request comes before the queues.
    pub(super) was_held: bool,
}

impl<S> Home<S> {
    pub(super) fn new(places: Places<S>) -> Self {
        Home {
            places: Some(Box::new(places)),
            loans: BTreeMap::new(),
            requests: BTreeMap::new(),
            queues: BTreeMap::new(),
            want_everything: BTreeSet::new(),
            reserved: None,
        }
    }

    #[inline]
    pub(super) fn places(&self) -> Option<&Places<S>> {
        self.places.as_deref()
    }

    #[inline]
    pub(super) fn places_mut(&mut self) -> Option<&mut Places<S>> {
        self.places.as_deref_mut()
    }

    /// Whether a unit may run in place on these slots now.
    #[inline]
    pub(super) fn lets_run(&self, slots: &[u16]) -> bool {
        let Some(places) = self.places() else {
            return slots.is_empty();
        };
        places.all_home(slots) && (self.reserved.is_none() || !self.reserves(slots))
    }

    /// Whether one of these slots is kept free for a reserved request.
    pub(super) fn reserves(&self, slots: &[u16]) -> bool {
        let Some(reserved) = self.reserved else {
            return false;
        };
        let want = &self
            .requests
            .get(&reserved)
            .expect("invariant 6: a reserved ticket waits")
            .want;
        slots.iter().any(|&slot| want.contains(slot))
    }

    #[inline]
    pub(super) fn has_reservation(&self) -> bool {
        self.reserved.is_some()
    }

    /// Whether nothing is lent and nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.loans.is_empty() && self.requests.is_empty() && self.places.is_some()
    }

    /// A unit of work coordinated by `from` wants slots of this home: grants them, or lets it wait and calls back
    /// what younger units have of it.
    pub(super) fn ask<W>(&mut self, from: ShardId, ticket: Ticket, want: Footprint, post: &mut Post<'_, S, W>) {
        assert!(
            !self.loans.contains_key(&ticket),
            "{ticket:?} asks for slots while it has a loan"
        );
        if self.is_free(&want) {
            return self.lend(from, ticket, want, post);
        }
        self.enqueue(ticket, Request { from, want });
        if self.is_grantable(ticket) {
            self.grant(ticket, post);
        } else {
            self.wound(ticket, post);
        }
    }

    /// A unit that ran in place on these slots holds them from now on.
    pub(super) fn hold(&mut self, holder: ShardId, ticket: Ticket, slots: &SlotSet) -> Vec<(u16, Box<S>)> {
        if slots.is_empty() {
            return Vec::new();
        }
        let places = self
            .places
            .as_deref_mut()
            .expect("slots were found in their places, so those are here");
        let content = places.lend(slots, ticket);
        let what = Footprint::Slots(slots.clone());
        if self.reserved.is_none() {
            let overtaken = self.requests.iter().find(|(_, request)| request.want.conflicts(&what));
            self.reserved = overtaken.map(|(ticket, _)| *ticket);
        }
        match self.loans.get_mut(&ticket) {
            Some(loan) => {
                loan.what.merge(&what);
                loan.holds = true;
            }
            None => {
                self.loans.insert(
                    ticket,
                    Lent {
                        to: holder,
                        what,
                        was_recalled: false,
                        holds: true,
                    },
                );
            }
        }
        content
    }

    /// Puts a loan back into its places. With `again`, the request waits once more.
    pub(super) fn take_back(&mut self, from: ShardId, ticket: Ticket, loan: Loan<S>, again: bool) -> Freed {
        let lent = self
            .loans
            .remove(&ticket)
            .unwrap_or_else(|| panic!("{ticket:?} returns what it had not on loan"));
        assert_eq!(lent.to, from, "the loan of {ticket:?} was given to another shard");
        assert!(
            loan.answers(&lent.what),
            "{ticket:?} returns other slots than {:?}",
            lent.what
        );
        assert!(
            !again || lent.was_recalled,
            "{ticket:?} gives back a loan that was not recalled"
        );
        match loan {
            Loan::Slots(slots) => {
                let places = self
                    .places
                    .as_deref_mut()
                    .expect("invariant 5: slots are out, so the array is here");
                for (slot, content) in slots {
                    places.put_back(slot, content);
                }
            }
            Loan::Whole(places) => {
                assert!(
                    self.places.is_none(),
                    "the places of this shard came back a second time"
                );
                self.places = Some(places);
            }
        }
        if again {
            self.enqueue(
                ticket,
                Request {
                    from,
                    want: lent.what.clone(),
                },
            );
        }
        Freed {
            what: lent.what,
            was_held: lent.holds,
        }
    }

    /// After slots came back and the units in their queues had their turn: serves the requests that can be served.
    pub(super) fn serve<W>(&mut self, freed: &Footprint, post: &mut Post<'_, S, W>) {
        // Only a request that is the oldest for a slot that came back can have become grantable, or the oldest
        // one that wants everything; after everything came back, any.
        let candidates: BTreeSet<Ticket> = match freed {
            _ if self.requests.is_empty() => return,
            Footprint::Everything => self.requests.keys().copied().collect(),
            Footprint::Slots(slots) => {
                let first_in_queue = |slot: u16| self.queues.get(&slot).and_then(|queue| queue.first());
                slots
                    .iter()
                    .filter_map(first_in_queue)
                    .chain(self.want_everything.first())
                    .copied()
                    .collect()
            }
        };
        for ticket in candidates {
            if self.is_grantable(ticket) {
                self.grant(ticket, post);
            }
        }
    }

    fn enqueue(&mut self, ticket: Ticket, request: Request) {
        match &request.want {
            Footprint::Slots(slots) => {
                for slot in slots.iter() {
                    self.queues.entry(slot).or_default().insert(ticket);
                }
            }
            Footprint::Everything => {
                self.want_everything.insert(ticket);
            }
        }
        let previous = self.requests.insert(ticket, request);
        assert!(previous.is_none(), "{ticket:?} asks twice");
    }

    fn is_grantable(&self, ticket: Ticket) -> bool {
        let Some(places) = self.places() else {
            return false;
        };
        if self.want_everything.first().is_some_and(|&older| older < ticket) {
            return false;
        }
        match &self.requests[&ticket].want {
            Footprint::Slots(slots) => {
                let is_first = |slot: u16| self.queues[&slot].first() == Some(&ticket);
                places.all_home(slots.as_slice()) && slots.iter().all(is_first)
            }
            Footprint::Everything => {
                self.loans.is_empty()
                    && self
                        .requests
                        .first_key_value()
                        .is_some_and(|(first, _)| *first == ticket)
            }
        }
    }

    fn grant<W>(&mut self, ticket: Ticket, post: &mut Post<'_, S, W>) {
        let Request { from, want } = self
            .requests
            .remove(&ticket)
            .expect("only a waiting request is granted");
        let loan = match &want {
            Footprint::Slots(slots) => {
                for slot in slots.iter() {
                    let queue = self
                        .queues
                        .get_mut(&slot)
                        .expect("a waiting request is in the queue of each slot");
                    queue.remove(&ticket);
                    if queue.is_empty() {
                        self.queues.remove(&slot);
                    }
                }
                let places = self
                    .places
                    .as_deref_mut()
                    .expect("a grantable request finds the places here");
                Loan::Slots(places.lend(slots, ticket))
            }
            Footprint::Everything => {
                self.want_everything.remove(&ticket);
                Loan::Whole(self.places.take().expect("a grantable request finds the places here"))
            }
        };
        if self.reserved == Some(ticket) {
            self.reserved = None;
        }
        self.hand_over(from, ticket, want, loan, post);
    }

    /// Whether slots are in their places and nobody waits for any of them: the usual case, in which a request need not be
    /// written down.
    fn is_free(&self, want: &Footprint) -> bool {
        let (Footprint::Slots(slots), Some(places)) = (want, self.places()) else {
            return false;
        };
        self.want_everything.is_empty()
            && places.all_home(slots.as_slice())
            && (self.queues.is_empty() || !slots.iter().any(|slot| self.queues.contains_key(&slot)))
    }

    /// Lends slots that are free.
    fn lend<W>(&mut self, from: ShardId, ticket: Ticket, want: Footprint, post: &mut Post<'_, S, W>) {
        let (Footprint::Slots(slots), Some(places)) = (&want, self.places.as_deref_mut()) else {
            unreachable!("only slots are free, and they are in their places");
        };
        let loan = Loan::Slots(places.lend(slots, ticket));
        self.hand_over(from, ticket, want, loan, post);
    }

    fn hand_over<W>(
        &mut self,
        from: ShardId,
        ticket: Ticket,
        want: Footprint,
        loan: Loan<S>,
        post: &mut Post<'_, S, W>,
    ) {
        self.loans.insert(
            ticket,
            Lent {
                to: from,
                what: want,
                was_recalled: false,
                holds: false,
            },
        );
        post.send(from, Message::Grant { ticket, loan });
    }

    /// Calls back what younger units that may still be collecting have of what the request of `ticket` wants.
    fn wound<W>(&mut self, ticket: Ticket, post: &mut Post<'_, S, W>) {
        let want = &self.requests[&ticket].want;
        let younger = self.loans.range_mut(ticket..);
        for (&holder, loan) in younger.filter(|(_, loan)| loan.what.conflicts(want)) {
            if !loan.was_recalled && !loan.holds {
                loan.was_recalled = true;
                post.send(loan.to, Message::Recall { ticket: holder });
            }
        }
    }
}
