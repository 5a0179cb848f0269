//! A shard as the coordinator of units of work: what each has collected so far, and what it gives back.
//!
//! ```text
//!   asks sent ----> Collecting ----- all granted -----> runs ----- Done ----> loans sent home
//!                    ^     |                            |  ^
//!                    +-----+                       Hold |  | continue_held
//!           recalled: given back,                       v  |
//!           the home asks itself again                  Held
//! ```
//!
//! A unit that lacks slots as it runs gives everything back and starts over with the larger footprint and the same
//! ticket. It could keep what it has while it collects the rest, but then its loans would be of two kinds, and what
//! is rare should be simple. (The ticket makes it the oldest sooner or later, so it gets through.)
//!
//! Invariants: (1) while a unit collects, it has changed nothing, so a recall needs no undo; (2) a unit that holds
//! or has run ignores recalls; (3) what is granted is exactly what was asked for, from the shard that owns it;
//! (4) parts stand in the order of their homes, one for each home.

use super::{Footprint, Loan, ShardId, SlotSet, Ticket, Unit};

/// A unit of work that collects slots, or holds them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gather<S, W> {
    pub(super) unit: Unit<W>,
    pub(super) state: GatherState,
    pub(super) parts: Vec<Part<S>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum GatherState {
    /// So many homes have not granted yet.
    Collecting { missing_count: usize },
    /// It has run, or begun to, and keeps its loans.
    Held,
}

/// What a unit of work borrows from one home.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part<S> {
    pub(super) home: ShardId,
    pub(super) want: Footprint,
    /// `None` while it is not granted.
    pub(super) loan: Option<Loan<S>>,
}

impl<S, W> Gather<S, W> {
    /// A unit that has nothing yet. Each part's `want` is to be asked for.
    pub(super) fn new(unit: Unit<W>, owners: &[ShardId], shard_count: u16) -> Self {
        let parts: Vec<Part<S>> = match &unit.footprint {
            Footprint::Everything => (0..shard_count)
                .map(|home| Part {
                    home: ShardId(home),
                    want: Footprint::Everything,
                    loan: None,
                })
                .collect(),
            Footprint::Slots(slots) => {
                // Few homes, and the slots ascend, so each home's set is only appended to.
                let mut parts: Vec<Part<S>> = Vec::with_capacity(usize::from(shard_count).min(slots.len()));
                for slot in slots.iter() {
                    let home = owners[slot as usize];
                    let at = parts.partition_point(|part| part.home < home);
                    if parts.get(at).is_none_or(|part| part.home != home) {
                        let want = Footprint::Slots(SlotSet::new());
                        parts.insert(at, Part { home, want, loan: None });
                    }
                    if let Footprint::Slots(wanted) = &mut parts[at].want {
                        wanted.insert(slot);
                    }
                }
                parts
            }
        };
        let state = GatherState::Collecting {
            missing_count: parts.len(),
        };
        Gather { unit, state, parts }
    }

    /// Takes a grant; answers whether the unit now has all it asked for.
    pub(super) fn take_grant(&mut self, from: ShardId, ticket: Ticket, loan: Loan<S>) -> bool {
        let GatherState::Collecting { missing_count } = &mut self.state else {
            panic!("{ticket:?} was granted slots after it had run");
        };
        let part = self.parts.iter_mut().find(|part| part.home == from);
        let part = part.unwrap_or_else(|| panic!("{ticket:?} was granted slots by {from:?}, which it had not asked"));
        assert!(part.loan.is_none(), "{ticket:?} was granted slots twice by {from:?}");
        assert!(
            loan.answers(&part.want),
            "{ticket:?} was granted other slots than {:?}",
            part.want
        );
        part.loan = Some(loan);
        *missing_count -= 1;
        *missing_count == 0
    }

    /// Gives up the loan from this home, if the unit has it and has not run.
    pub(super) fn give_back(&mut self, home: ShardId) -> Option<Loan<S>> {
        let GatherState::Collecting { missing_count } = &mut self.state else {
            return None;
        };
        let loan = self.parts.iter_mut().find(|part| part.home == home)?.loan.take()?;
        *missing_count += 1;
        Some(loan)
    }

    /// Adds slots that the unit holds from now on, of a home that it may have had nothing of.
    pub(super) fn add(&mut self, home: ShardId, slots: &SlotSet, content: Vec<(u16, Box<S>)>) {
        if content.is_empty() {
            return;
        }
        match self.parts.binary_search_by_key(&home, |part| part.home) {
            Ok(at) => {
                let part = &mut self.parts[at];
                part.want.merge(&Footprint::Slots(slots.clone()));
                let Some(Loan::Slots(held)) = &mut part.loan else {
                    unreachable!("slots cannot be in their places while all places are lent");
                };
                held.extend(content);
                held.sort_unstable_by_key(|entry| entry.0);
            }
            Err(at) => {
                let want = Footprint::Slots(slots.clone());
                self.parts.insert(
                    at,
                    Part {
                        home,
                        want,
                        loan: Some(Loan::Slots(content)),
                    },
                );
            }
        }
    }
}
