//! How far the one history is on disk, and what may be told of it before.
//!
//! Log numbers are dense over all shards, and each shard's part of the log goes to a disk of its own time. A number is *durable* when it
//! and every number before it would be found again after a crash of the machine: the *durable prefix*. Under `appendfsync always` nothing
//! that depends on a number leaves the process before (rule 5 of [`turns`](super::turns)).
//!
//! ```text
//!  shard:    mark --> take the number --> write ----------------------------> (goes on at once)
//!  syncer:                                  begin_sync --> fdatasync --> end_sync --> publish the prefix, ring for those who wait
//! ```
//!
//! A shard marks its part *before* it takes a number, with a bound not above it; a syncer notes, before it syncs, what that sync cannot
//! cover: the number that is taken and not written, and whatever is taken from then on. So a number that is taken while a sync
//! completes does not count as synced. Whoever publishes reads the counter of numbers first, then the marks of all parts: a
//! number below the counter had its mark before.
//!
//! What a slot shows depends on its last change only, since its number is above that of all changes before and of all that they had
//! seen. So one number for each slot is enough to say how long a reply about it waits. These numbers are kept for the process and not in the
//! slots, as whoever holds the slot writes them, and a slot without keys has one as well.
//!
//! Invariants: (1) the prefix never goes back; (2) every number of a part that is not covered by a sync which has ended lies at or above
//! its mark; (3) after a sync that failed the prefix stands still until everything begins anew ([`Durable::begin`]).

use super::ShardId;
use crate::base::slot::SLOT_COUNT;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Nothing.
const NONE: u64 = u64::MAX;

/// What a reply waits for under `appendfsync always`: that so much of the history is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    number: u64,
    /// And up to the number that the pass under way takes at its end.
    has_own: bool,
}

impl Need {
    /// Nothing.
    pub const NONE: Need = Need {
        number: 0,
        has_own: false,
    };
    /// The number that the pass under way takes at its end.
    pub const OWN: Need = Need {
        number: 0,
        has_own: true,
    };

    /// All log numbers up to this one.
    pub fn of(number: u64) -> Need {
        Need { number, has_own: false }
    }

    /// Both.
    pub fn and(self, other: Need) -> Need {
        Need {
            number: self.number.max(other.number),
            has_own: self.has_own || other.has_own,
        }
    }

    /// Whether it is for the pass under way.
    pub fn has_own(self) -> bool {
        self.has_own
    }

    /// What it is where the pass has taken that number, or a pass before it.
    pub fn resolved(self, own: u64) -> Need {
        match self.has_own {
            true => Need::of(self.number.max(own)),
            false => self,
        }
    }

    /// Whether it is satisfied.
    pub fn is_met(self, prefix: u64) -> bool {
        !self.has_own && self.number <= prefix
    }
}

/// Rings for a shard that sleeps.
pub type Ring = Box<dyn Fn(ShardId) + Send + Sync>;

/// See the essay above.
pub struct Durable {
    /// Replies wait for the disk.
    holds: AtomicBool,
    /// After a failed sync: what the kernel has dropped nobody will write again.
    is_broken: AtomicBool,
    prefix: AtomicU64,
    parts: Box<[Part]>,
    slots: Box<[AtomicU64]>,
    /// As if every slot had changed then.
    floor: AtomicU64,
    ring: OnceLock<Ring>,
}

/// What concerns one shard, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Part {
    marks: Mutex<Marks>,
    /// The last number that the shard has taken.
    last_number: AtomicU64,
    /// Clients of the shard wait for a newer prefix than it has seen.
    waits: AtomicBool,
}

#[derive(Debug)]
struct Marks {
    /// All numbers of the part that are not durable are this one or later ones.
    oldest: u64,
    /// The same, when the sync under way has succeeded.
    newer: u64,
    is_syncing: bool,
}

impl Durable {
    /// Nothing is logged, and nobody waits.
    pub fn new(shard_count: usize) -> Durable {
        let part = || Part {
            marks: Mutex::new(Marks {
                oldest: NONE,
                newer: NONE,
                is_syncing: false,
            }),
            last_number: AtomicU64::new(0),
            waits: AtomicBool::new(false),
        };
        Durable {
            holds: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            prefix: AtomicU64::new(0),
            parts: std::iter::repeat_with(part).take(shard_count).collect(),
            slots: std::iter::repeat_with(AtomicU64::default).take(SLOT_COUNT).collect(),
            floor: AtomicU64::new(0),
            ring: OnceLock::new(),
        }
    }

    /// How sleeping shards are woken; until that is said nobody sleeps.
    pub fn ring_by(&self, ring: Ring) {
        let is_first = self.ring.set(ring).is_ok();
        debug_assert!(is_first, "bells are hung up once");
    }

    /// Whether replies wait for the disk.
    #[inline]
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    /// From now on replies wait for the disk, or do not any more.
    pub fn hold(&self, holds: bool) {
        self.holds.store(holds, Ordering::SeqCst);
        self.wake_waiting();
    }

    /// All that was numbered below this is durable or needed by nobody: to be called where no number is taken or being synced.
    pub fn begin(&self, next_number: u64) {
        for part in &self.parts {
            let mut marks = lock(part);
            debug_assert!(
                !marks.is_syncing,
                "a sync that is under way covers what nobody asks for any more"
            );
            *marks = Marks {
                oldest: NONE,
                newer: NONE,
                is_syncing: false,
            };
        }
        self.is_broken.store(false, Ordering::SeqCst);
        self.prefix.fetch_max(next_number.saturating_sub(1), Ordering::SeqCst);
        self.wake_waiting();
    }

    /// All log numbers up to this one are durable.
    #[inline]
    pub fn prefix(&self) -> u64 {
        self.prefix.load(Ordering::SeqCst)
    }

    /// The shard is about to take a number that is not below this one.
    pub(super) fn mark(&self, shard: ShardId, bound: u64) {
        let mut marks = lock(self.part(shard));
        let mark = match marks.is_syncing {
            true => &mut marks.newer,
            false => &mut marks.oldest,
        };
        *mark = (*mark).min(bound);
    }

    /// The shard has taken that number.
    pub(super) fn note_taken(&self, shard: ShardId, number: u64) {
        self.part(shard).last_number.store(number, Ordering::SeqCst);
    }

    /// The last number that the shard has taken.
    pub fn last_number(&self, shard: ShardId) -> u64 {
        self.part(shard).last_number.load(Ordering::SeqCst)
    }

    /// The last number that any shard has taken.
    pub fn last_of_all(&self) -> u64 {
        let numbers = self.parts.iter().map(|part| part.last_number.load(Ordering::SeqCst));
        numbers.max().unwrap_or(0)
    }

    /// A sync of the shard's part begins; `unwritten` reads the bound of a number that it has taken, or is about to take, and not written.
    /// False: there is nothing to be synced.
    pub(super) fn begin_sync(&self, shard: ShardId, unwritten: impl FnOnce() -> Option<u64>) -> bool {
        let mut marks = lock(self.part(shard));
        // Under the lock: a mark that has come before has its bound shown by now, and one that comes later is not of this sync.
        let unwritten = unwritten();
        debug_assert!(!marks.is_syncing, "a part has one sync at a time");
        if marks.oldest == NONE || unwritten.is_some_and(|unwritten| unwritten <= marks.oldest) {
            return false;
        }
        marks.newer = unwritten.unwrap_or(NONE);
        marks.is_syncing = true;
        true
    }

    /// It has succeeded.
    pub(super) fn end_sync(&self, shard: ShardId) {
        let mut marks = lock(self.part(shard));
        marks.oldest = std::mem::replace(&mut marks.newer, NONE);
        marks.is_syncing = false;
    }

    /// A sync has failed: nothing more counts as durable.
    pub fn stand_still(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
    }

    /// A new base has what was lost by it, and nothing has been lost since: what is synced counts again.
    pub(super) fn go_on(&self) {
        self.is_broken.store(false, Ordering::SeqCst);
    }

    /// That sync has failed.
    pub fn fail_sync(&self, shard: ShardId) {
        self.stand_still();
        let mut marks = lock(self.part(shard));
        marks.newer = NONE;
        marks.is_syncing = false;
    }

    /// Whether the shard's part has something that no sync has covered.
    pub fn is_unsynced(&self, shard: ShardId) -> bool {
        lock(self.part(shard)).oldest != NONE
    }

    /// Makes known how far it has come; `next_number` was read before.
    pub(super) fn publish(&self, next_number: u64) {
        if self.is_broken.load(Ordering::SeqCst) {
            return;
        }
        let oldest = self.parts.iter().map(|part| lock(part).oldest);
        let end = oldest.fold(next_number, u64::min);
        let prefix = end.saturating_sub(1);
        if self.prefix.fetch_max(prefix, Ordering::SeqCst) < prefix {
            self.wake_waiting();
        }
    }

    /// The shard is about to sleep while clients of it wait, and has last looked at this prefix. False: there is a newer one.
    pub fn announce_waiting(&self, shard: ShardId, seen_prefix: u64) -> bool {
        self.part(shard).waits.store(true, Ordering::SeqCst);
        self.prefix() <= seen_prefix && self.holds() && self.ring.get().is_some()
    }

    fn wake_waiting(&self) {
        let Some(ring) = self.ring.get() else { return };
        for (shard, part) in self.parts.iter().enumerate() {
            if part.waits.swap(false, Ordering::SeqCst) {
                ring(ShardId(shard as u16));
            }
        }
    }

    /// What the slot shows was last changed under this number. To be asked by whoever holds it.
    #[inline]
    pub fn number_of(&self, slot: u16) -> u64 {
        let own = self.slots[usize::from(slot)].load(Ordering::Relaxed);
        own.max(self.floor.load(Ordering::Relaxed))
    }

    /// The slot was changed under that number. To be said before the slot is let go.
    #[inline]
    pub fn note_change(&self, slot: u16, number: u64) {
        self.slots[usize::from(slot)].store(number, Ordering::Relaxed);
    }

    /// All slots were changed under that number, by somebody who held them all.
    pub fn note_change_of_all(&self, number: u64) {
        self.floor.fetch_max(number, Ordering::Relaxed);
    }

    fn part(&self, shard: ShardId) -> &Part {
        &self.parts[usize::from(shard.0)]
    }
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Durable");
        shown.field("prefix", &self.prefix()).field("parts", &self.parts);
        shown.finish_non_exhaustive()
    }
}

fn lock(part: &Part) -> MutexGuard<'_, Marks> {
    // Nothing in here can fail half done.
    part.marks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::turns::{Share, Turns};
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::thread;

    const FILE: Share = Share {
        has_number: true,
        stream: None,
    };
    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(1);

    fn write(turns: &Turns, shard: ShardId) -> u64 {
        let turn = turns.take(shard, FILE);
        turns.written(shard);
        turns.released(shard);
        turn.number.expect("it has effects for the file")
    }

    fn sync(turns: &Turns, shard: ShardId) {
        assert!(turns.begin_sync(shard));
        turns.end_sync(shard);
    }

    #[test]
    fn a_need_for_several_things_is_for_all_of_them() {
        let need = Need::OWN.and(Need::of(5));
        assert!(!need.is_met(9), "its pass has no number yet");
        for (own, number) in [(3, 5), (7, 7)] {
            assert!(!need.resolved(own).is_met(number - 1));
            assert!(need.resolved(own).is_met(number));
        }
        assert!(Need::NONE.is_met(0) && Need::of(4).resolved(9).is_met(4));
    }

    #[test]
    fn the_prefix_ends_before_the_first_number_that_no_sync_has_covered() {
        let turns = Turns::new(2);
        assert!(!turns.begin_sync(A), "there is nothing");
        for shard in [A, B, A] {
            write(&turns, shard);
        }
        sync(&turns, A);
        assert_eq!(turns.durable.prefix(), 1, "2 is not on disk");
        sync(&turns, B);
        assert_eq!(turns.durable.prefix(), 3);
        assert!(!turns.durable.is_unsynced(A) && !turns.begin_sync(B));
    }

    #[test]
    fn what_is_taken_while_a_sync_is_under_way_is_not_covered_by_it() {
        let turns = Turns::new(1);
        write(&turns, A);
        assert!(turns.begin_sync(A));
        write(&turns, A);
        turns.end_sync(A);
        assert_eq!(turns.durable.prefix(), 1);
        sync(&turns, A);
        assert_eq!(turns.durable.prefix(), 2);
    }

    #[test]
    fn nor_is_what_is_taken_and_not_written() {
        let turns = Turns::new(1);
        write(&turns, A);
        turns.take(A, FILE);
        sync(&turns, A);
        assert_eq!(turns.durable.prefix(), 1);
        assert!(!turns.begin_sync(A), "there is nothing that a sync could cover");
        turns.written(A);
        turns.released(A);
        sync(&turns, A);
        assert_eq!(turns.durable.prefix(), 2);
    }

    #[test]
    fn after_a_sync_that_failed_nothing_counts_until_all_begins_anew() {
        let turns = Turns::new(1);
        write(&turns, A);
        assert!(turns.begin_sync(A));
        turns.durable.fail_sync(A);
        write(&turns, A);
        sync(&turns, A);
        assert_eq!(turns.durable.prefix(), 0);
        turns.durable.begin(turns.next_number());
        assert_eq!(turns.durable.prefix(), 2);
        write(&turns, A);
        sync(&turns, A);
        assert_eq!(turns.durable.prefix(), 3);
    }

    #[test]
    fn whoever_waits_is_rung_for_once() {
        let turns = Turns::new(2);
        let (sender, rung) = channel();
        turns
            .durable
            .ring_by(Box::new(move |shard| sender.send(shard).expect("the test listens")));
        turns.durable.hold(true);
        write(&turns, A);
        assert!(turns.durable.announce_waiting(B, turns.durable.prefix()));
        sync(&turns, A);
        assert!(!turns.durable.announce_waiting(A, 0), "there is a newer one already");
        write(&turns, A);
        sync(&turns, A);
        assert_eq!(rung.try_iter().collect::<Vec<_>>(), [B, A]);
        turns.durable.hold(false);
        assert!(
            !turns.durable.announce_waiting(B, turns.durable.prefix()),
            "nobody waits any more"
        );
    }

    #[test]
    fn a_slot_knows_the_last_change_be_it_its_own_or_of_all() {
        let durable = Durable::new(1);
        durable.note_change(7, 3);
        assert_eq!((durable.number_of(7), durable.number_of(8)), (3, 0));
        durable.note_change_of_all(5);
        assert_eq!((durable.number_of(7), durable.number_of(8)), (5, 5));
        durable.note_change(7, 6);
        assert_eq!((durable.number_of(7), durable.number_of(8)), (6, 5));
    }

    /// With real threads: whatever the prefix says is in what a sync has covered.
    #[test]
    fn threads_never_count_what_is_not_on_disk() {
        const SHARDS: u16 = 3;
        const PASSES: usize = 3_000;
        let turns = Arc::new(Turns::new(usize::from(SHARDS)));
        let files: Vec<Mutex<Vec<u64>>> = (0..SHARDS).map(|_| Mutex::default()).collect();
        let disk: Mutex<BTreeSet<u64>> = Mutex::default();
        let all = u64::from(SHARDS) * PASSES as u64;
        thread::scope(|scope| {
            for (shard, file) in files.iter().enumerate() {
                let (turns, disk) = (&turns, &disk);
                let shard = ShardId(shard as u16);
                scope.spawn(move || {
                    for _ in 0..PASSES {
                        let number = turns.take(shard, FILE).number.expect("it has effects for the file");
                        file.lock().expect("nobody has failed").push(number);
                        turns.written(shard);
                        turns.released(shard);
                        if number % 7 == 0 {
                            thread::yield_now();
                        }
                    }
                });
                scope.spawn(move || {
                    while turns.durable.prefix() < all {
                        if turns.begin_sync(shard) {
                            let written = std::mem::take(&mut *file.lock().expect("nobody has failed"));
                            disk.lock().expect("nobody has failed").extend(written);
                            turns.end_sync(shard);
                        }
                        thread::yield_now();
                    }
                });
            }
            let mut checked = 0;
            while checked < all {
                let prefix = turns.durable.prefix();
                let disk = disk.lock().expect("nobody has failed");
                let missing = (checked + 1..=prefix).find(|number| !disk.contains(number));
                // A thread that waits for what will never come must end.
                if missing.is_some() {
                    turns.durable.begin(all + 1);
                }
                assert_eq!(missing, None, "the prefix is {prefix}");
                checked = prefix;
                drop(disk);
                thread::yield_now();
            }
        });
    }
}
