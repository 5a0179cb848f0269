//! What is told to those who listen: messages, delivered on every shard in the order of turns.
//!
//! Who listens is known process-wide, for each shard ([`Hearers`]). What the units of a pass have to tell gathers until the pass has
//! taken its turn; then it goes, stamped with it, straight to each shard that listens, by whatever link: so it may arrive before what has
//! an earlier turn, and is held ([`Mailbox`]) until nothing earlier can come any more (rule 8 of [`turns`](crate::shard::turns)). That is
//! a matter of microseconds, and no shard that runs a long unit is waited for: between its passes a shard shows no bound.
//!
//! A message never overtakes a reply of its own pass or of an earlier one: it is delivered within a pass of the listening shard, whose
//! replies leave after it, and whoever puts it into a client's output puts it behind every reply that has come for this client, be that
//! held for its order.
//!
//! So far keyspace events are the only messages.
//!
//! Invariants: (1) every listener hears each message of a turn after the one at which it began to listen, once; (2) in the order of
//! turns, and of what the pass did; (3) who holds messages asks for another pass soon ([`Mailbox::next_look`]).

use super::attempt::KeyEvent;
use crate::base::clock::Ticks;
use crate::shard::ShardId;
use crate::shard::turns::Turns;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// When a shard looks again whether what it holds can be delivered: it waits for passes that are being released, which takes
/// microseconds, but for one that a disk holds back.
const LOOK_AGAIN_AFTER: Duration = Duration::from_micros(50);

/// Which shards of the process have somebody who listens.
#[derive(Debug)]
pub struct Hearers {
    shards: Box<[AtomicBool]>,
    count: AtomicUsize,
}

impl Hearers {
    /// Nobody, on so many shards.
    pub fn new(shard_count: usize) -> Hearers {
        Hearers {
            shards: std::iter::repeat_with(AtomicBool::default).take(shard_count).collect(),
            count: AtomicUsize::new(0),
        }
    }

    /// Whether anybody listens.
    #[inline]
    pub fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// The shards with somebody who listens. To be asked once the turn is taken: who is not among them then has begun at that turn or
    /// later.
    pub(super) fn iter(&self) -> impl Iterator<Item = ShardId> {
        let listens = |(_, listens): &(usize, &AtomicBool)| listens.load(Ordering::SeqCst);
        let shards = self.shards.iter().enumerate().filter(listens);
        shards.map(|(shard, _)| ShardId(shard as u16))
    }

    fn set(&self, shard: ShardId, listens: bool) {
        if self.shards[shard.0 as usize].swap(listens, Ordering::SeqCst) == listens {
            return;
        }
        match listens {
            true => self.count.fetch_add(1, Ordering::SeqCst),
            false => self.count.fetch_sub(1, Ordering::SeqCst),
        };
    }
}

/// What one pass has to tell, in the order in which it happened.
#[derive(Clone, Debug)]
pub struct Announcement {
    pub turn: u64,
    pub messages: Arc<[KeyEvent]>,
}

/// Who hears what is delivered on a shard: the turn, and its messages.
pub type Hearer = Box<dyn FnMut(u64, &[KeyEvent])>;

/// What a shard holds for those who listen on it.
#[derive(Default)]
pub struct Mailbox {
    hearer: Option<Hearer>,
    /// The last turn when it began to listen: what came up to then is not for it.
    since: u64,
    /// By their turns.
    held: BTreeMap<u64, Arc<[KeyEvent]>>,
    /// What has been delivered, at least.
    delivered: u64,
}

impl Mailbox {
    /// Begins to listen.
    pub(super) fn listen(&mut self, shard: ShardId, hearers: &Hearers, turns: &Turns, hearer: Hearer) {
        self.hearer = Some(hearer);
        // In this order: a pass that takes a later turn finds this shard among the listeners.
        hearers.set(shard, true);
        self.since = turns.counter();
    }

    /// Listens no more.
    pub(super) fn stop(&mut self, shard: ShardId, hearers: &Hearers) {
        if self.hearer.take().is_some() {
            hearers.set(shard, false);
            self.held.clear();
        }
    }

    /// Whether anybody listens here.
    #[inline]
    pub(super) fn listens(&self) -> bool {
        self.hearer.is_some()
    }

    /// Something has come.
    pub(super) fn take_in(&mut self, announcement: Announcement) {
        let Announcement { turn, messages } = announcement;
        if self.listens() && turn > self.since {
            assert!(
                turn > self.delivered,
                "rule 8: turn {turn} comes behind one that was delivered"
            );
            self.held.insert(turn, messages);
        }
    }

    /// Delivers what it holds up to that turn, before which nothing can come any more.
    pub(super) fn deliver(&mut self, stable: u64) {
        let Some(hearer) = &mut self.hearer else { return };
        while let Some(first) = self.held.first_entry()
            && *first.key() <= stable
        {
            let (turn, messages) = first.remove_entry();
            self.delivered = turn;
            hearer(turn, &messages);
        }
    }

    /// Whether something waits to be delivered.
    #[inline]
    pub(super) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// When it is to be looked at again, if it was now.
    pub(super) fn next_look(&self, now: Ticks) -> Option<Ticks> {
        self.holds_any()
            .then(|| Ticks(now.0 + LOOK_AGAIN_AFTER.as_nanos() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Event;
    use crate::shard::turns::Share;
    use crate::store::DbIndex;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn announcement(turn: u64) -> Announcement {
        let message = KeyEvent {
            event: Event::generic("del"),
            db: DbIndex(0),
            key: turn.to_string().as_bytes().into(),
        };
        Announcement {
            turn,
            messages: [message].into(),
        }
    }

    #[test]
    fn what_comes_too_early_is_held_and_what_is_older_than_the_listener_is_dropped() {
        let (turns, hearers) = (Turns::new(2), Hearers::new(2));
        let heard = Rc::<RefCell<Vec<u64>>>::default();
        let hears = {
            let heard = heard.clone();
            Box::new(move |turn, _: &[KeyEvent]| heard.borrow_mut().push(turn))
        };
        let (here, there) = (ShardId(0), ShardId(1));
        for _ in 0..3 {
            turns.take(there, Share::default());
            turns.released(there);
        }
        let mut mailbox = Mailbox::default();
        assert!(!hearers.is_any());
        mailbox.listen(here, &hearers, &turns, hears);
        assert!(hearers.is_any());
        assert_eq!(hearers.iter().collect::<Vec<_>>(), [here]);
        for turn in [6, 3, 4, 5] {
            mailbox.take_in(announcement(turn));
        }
        mailbox.deliver(4);
        assert_eq!(*heard.borrow(), [4]);
        assert!(mailbox.holds_any());
        assert_eq!(mailbox.next_look(Ticks(3)), Some(Ticks(50_003)));
        mailbox.deliver(9);
        assert_eq!(*heard.borrow(), [4, 5, 6]);
        assert_eq!(mailbox.next_look(Ticks(1)), None);
        mailbox.stop(here, &hearers);
        assert!(!hearers.is_any());
        mailbox.take_in(announcement(7));
        assert!(!mailbox.holds_any(), "nobody listens");
    }
}
