//! A blocked client, as those know it who may end its wait.
//!
//! A command that waits is entered with each of its keys, in their slots ([`Waiter`](crate::store::Waiter)), while its unit of work holds
//! all of them; what is entered is one [`Blocked`], shared. From then on several may want to end the wait at once, on any shards: units
//! that make one of the keys ready, the timer, CLIENT UNBLOCK, the end of the connection. One atomic, the *claim*, decides; nobody has to
//! borrow the other slots for that.
//!
//! ```text
//!              take (timer, UNBLOCK), abandon
//!   Waiting ----------------------------------------> Over
//!    ^   |                                             ^
//!    |   | begin_serving                               | end_serving
//!    |   v                                             |
//!   Serving -------------------------------------------+
//!        |  abandon                                    |
//!        v                                             |
//!   Abandoned -----------------------------------------+
//! ```
//!
//! Who serves runs the command again, which may find that it has to wait on ([`Blocked::wait_on`]). A timer that comes meanwhile looks again
//! later; a connection that ends meanwhile leaves word.
//!
//! Whoever has got the claim sees to it that the places of the wait in its queues go: at once as far as it holds their slots, and for the
//! others by a unit of work in the background. Who meets such a place before that unit passes over it, as the claim is taken.

use super::literal::{Caller, Registered};
use super::parked::Park;
use super::waiting::Place;
use crate::base::clock::UnixMs;
use crate::base::slot::key_slot;
use crate::data::ValueType;
use crate::resp::OwnedArgs;
use crate::shard::{ConnRef, View};
use crate::store::{Slot, Waiter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const WAITING: u8 = 0;
const SERVING: u8 = 1;
const ABANDONED: u8 = 2;
const OVER: u8 = 3;

/// See the essay above.
pub struct Blocked {
    claim: AtomicU8,
    /// The number of the wait.
    pub number: u64,
    pub origin: ConnRef,
    pub found: &'static Registered,
    pub args: OwnedArgs,
    pub caller: Caller,
    pub deadline: Option<UnixMs>,
    /// What its first attempt has taken.
    pub spent_us: u64,
    pub target: Option<Box<[u8]>>,
    kind: ValueType,
    minds_absence: bool,
    keys: Vec<Awaited>,
}

/// A key that it waits for.
struct Awaited {
    slot: u16,
    key: Box<[u8]>,
    /// Its number in the queue of the key; changed only by who holds the slot, before it lets go of the claim.
    number: AtomicU64,
}

/// What came of an attempt to end a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It is the caller's to answer.
    Ours,
    /// Somebody serves it right now, and may let it wait on.
    Busy,
    /// Somebody else has ended it.
    Lost,
}

impl Blocked {
    /// Enters a command with all its keys, whose slots are all held.
    pub(super) fn enter(
        park: Park,
        origin: ConnRef,
        found: &'static Registered,
        args: OwnedArgs,
        caller: Caller,
        spent_us: u64,
        view: &mut View<'_, Slot>,
    ) -> Arc<Blocked> {
        let Park {
            kind,
            keys,
            target,
            minds_absence,
            deadline,
            nothing: _,
            instead,
        } = park;
        let mut awaited: Vec<Awaited> = Vec::with_capacity(keys.len());
        for key in keys {
            // A key that is named twice is waited for once.
            if awaited.iter().all(|other| other.key != key) {
                let number = AtomicU64::new(0);
                let slot = key_slot(&key);
                awaited.push(Awaited { slot, key, number });
            }
        }
        let mut blocked = Blocked {
            claim: AtomicU8::new(WAITING),
            number: 0,
            origin,
            found,
            args: instead.unwrap_or(args),
            caller,
            deadline,
            spent_us,
            target,
            kind,
            minds_absence,
            keys: awaited,
        };
        blocked.number = view_slot(view, blocked.keys.first().map_or(0, |key| key.slot)).number_wait();
        let blocked = Arc::new(blocked);
        blocked.stand_behind(view);
        blocked
    }

    /// Stands behind all others who wait for those of its keys whose slots are held.
    pub(super) fn stand_behind(self: &Arc<Blocked>, view: &mut View<'_, Slot>) {
        for awaited in &self.keys {
            if let Some(slot) = view.slot(awaited.slot) {
                let number = slot.begin_wait(self.caller.db, &awaited.key, self.waiter());
                awaited.number.store(number, Ordering::Relaxed);
            }
        }
    }

    /// Stands where it has stood before.
    pub(super) fn stand_again(self: &Arc<Blocked>, view: &mut View<'_, Slot>) {
        for awaited in &self.keys {
            if let Some(slot) = view.slot(awaited.slot) {
                let number = awaited.number.load(Ordering::Relaxed);
                slot.resume_wait(self.caller.db, &awaited.key, number, self.waiter());
            }
        }
    }

    /// Leaves the queues of those keys whose slots are held.
    pub(super) fn step_out(&self, view: &mut View<'_, Slot>) {
        for awaited in &self.keys {
            if let Some(slot) = view.slot(awaited.slot) {
                slot.end_wait(self.caller.db, &awaited.key, awaited.number.load(Ordering::Relaxed));
            }
        }
    }

    /// Its places in queues, to be asked for by who has the claim.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.keys.iter().map(|awaited| Place {
            slot: awaited.slot,
            db: self.caller.db,
            key: awaited.key.clone(),
            number: awaited.number.load(Ordering::Relaxed),
        })
    }

    fn waiter(self: &Arc<Blocked>) -> Waiter {
        Waiter {
            kind: self.kind,
            minds_absence: self.minds_absence,
            reaches_further: self.target.is_some(),
            who: self.clone(),
        }
    }

    fn change(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.claim
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Takes the claim to run the command again. False: somebody else has it.
    pub(super) fn begin_serving(&self) -> bool {
        self.change(WAITING, SERVING).is_ok()
    }

    /// It is served.
    pub(super) fn end_serving(&self) {
        self.claim.store(OVER, Ordering::Release);
    }

    /// It has been run again, and waits on. False: its connection has ended meanwhile, so it is over.
    pub(super) fn wait_on(&self) -> bool {
        let waits = self.change(SERVING, WAITING).is_ok();
        if !waits {
            self.end_serving();
        }
        waits
    }

    /// Ends the wait, to answer it.
    pub(super) fn take(&self) -> Taken {
        match self.change(WAITING, OVER) {
            Ok(_) => Taken::Ours,
            Err(SERVING) => Taken::Busy,
            Err(_) => Taken::Lost,
        }
    }

    /// The connection has ended. True: its places are the caller's to take away.
    pub(super) fn abandon(&self) -> bool {
        loop {
            match self.take() {
                Taken::Ours => return true,
                Taken::Lost => return false,
                Taken::Busy if self.change(SERVING, ABANDONED).is_ok() => return false,
                Taken::Busy => {}
            }
        }
    }
}

fn view_slot<'k>(view: &'k mut View<'_, Slot>, slot: u16) -> &'k mut Slot {
    view.slot(slot)
        .expect("whoever begins to wait holds the slots of its keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Command, Registry, Run};
    use crate::resp::Proto;
    use crate::shard::ShardId;
    use crate::spec::command;
    use crate::store::DbIndex;

    const COMMANDS: &[Command] = &[Command {
        arity: 1,
        ..command("wait-for", Run::Keys(|_| Ok(())))
    }];

    fn waiting() -> Blocked {
        let registry: &'static Registry = Box::leak(Box::new(Registry::new(&[COMMANDS], &[]).unwrap()));
        Blocked {
            claim: AtomicU8::new(WAITING),
            number: 1,
            origin: ConnRef::background(ShardId(0)),
            found: &registry.all()[0],
            args: OwnedArgs::from_slices(&["wait-for"]),
            caller: Caller {
                db: DbIndex(0),
                proto: Proto::Resp2,
                leaves_clocks: false,
                is_local: true,
                is_nested: false,
                is_silent: false,
                tracker: None,
                is_script: false,
            },
            deadline: None,
            spent_us: 0,
            target: None,
            kind: ValueType::List,
            minds_absence: false,
            keys: Vec::new(),
        }
    }

    #[test]
    fn one_of_those_who_would_end_a_wait_does() {
        let wait = waiting();
        assert!(wait.begin_serving() && !wait.begin_serving());
        assert_eq!(wait.take(), Taken::Busy);
        assert!(wait.wait_on(), "it waits again");
        assert_eq!(wait.take(), Taken::Ours);
        assert_eq!(wait.take(), Taken::Lost);
        assert!(!wait.begin_serving() && !wait.abandon());
        let served = waiting();
        assert!(served.begin_serving());
        served.end_serving();
        assert!(served.take() == Taken::Lost && !served.abandon() && !served.begin_serving());
        let abandoned = waiting();
        assert!(abandoned.abandon() && !abandoned.abandon() && !abandoned.begin_serving());
    }

    #[test]
    fn a_connection_that_ends_while_it_is_served_does_not_wait_again() {
        let wait = waiting();
        assert!(wait.begin_serving());
        assert!(!wait.abandon(), "its places are those of who serves it");
        assert_eq!(wait.take(), Taken::Lost);
        assert!(!wait.wait_on());
        assert!(!wait.begin_serving() && wait.take() == Taken::Lost);
    }
}
