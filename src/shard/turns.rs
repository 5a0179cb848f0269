//! Turns: the one order of all that happens in a process of several shards.
//!
//! Each shard has a log of its own. What makes one history of them is that whatever a pass has produced leaves the shard together, at
//! the pass's end. The rules, by whose numbers the code cites them:
//!
//! 1. **Take.** Under one lock, held for some ten nanoseconds, a pass that has effects or messages takes the next *turn*, one that has
//!    effects for the file also the next *log number* (dense), and one that has effects for the stream its range of offsets there. From
//!    before that until it has released, its shard *shows* a lower bound of the turn; until it has written, one of the number.
//! 2. **Write.** The shard writes its chunk at once and says so, before it runs anything else: a unit of seconds never stands between a
//!    number that is taken and its write.
//! 3. **Release.** When every earlier log number is written, what the pass has produced leaves: replies, results and messages first,
//!    then slots, since whoever gets a slot may overtake the rest. Passes are released in their order, those without a turn too, for
//!    they may show what the one before has changed: a shard runs nothing until its pass is released.
//! 8. **Messages** are stamped with the turn of their pass and go straight to the shards of those who listen. A receiver reads the
//!    counter of turns, then every lower bound that is shown, then drains all its links; then it delivers in the order of turns
//!    what it holds up to the least of these. Frames that found no room in a link stay behind: the link shows a bound for them.
//!
//! (4 to 7 and 9 are about recovery, disks, cuts and replicas, and stand where these do; how far the numbers are on disk is
//! [`durable`](super::durable)'s.)
//!
//! So whatever anyone has seen, with all that it depends on, is a prefix of the log numbers, and is written. And a slot, a reply or
//! a message can only be seen elsewhere after the turn of what it shows was taken: turns agree with the order of the changes of each slot
//! (loans included), with the order of each client, and with real time.
//!
//! Nothing is shown or taken while nobody wants it: no reader of logs, no listener, no cost.
//!
//! Memory: what must be seen in one order by all (the counter and the bounds) is sequentially consistent. A receiver that reads a counter
//! of at least some turn reads a bound below it, or that pass's frames are in its link.

use super::ShardId;
use super::durable::Durable;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// No pass is under way.
const NONE: u64 = u64::MAX;

/// The order of one process.
#[derive(Debug)]
pub struct Turns {
    taken: Mutex<Taken>,
    /// The last turn that was taken. Changed under the lock only.
    counter: AtomicU64,
    /// The next log number. Changed under the lock only.
    next_number: AtomicU64,
    shown: Box<[Shown]>,
    /// How far the numbers are on disk.
    pub durable: Durable,
}

/// What a lock is needed for.
#[derive(Debug, Default)]
struct Taken {
    offset: u64,
    /// The db that the stream is in; None: nothing is in it yet.
    stream_db: Option<u32>,
}

/// What one shard shows to the others, on cache lines of its own (two, since processors fetch them in pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Shown {
    /// The turn of the pass under way is above this.
    turn: AtomicU64,
    /// The log number that is not written is this one at least.
    number: AtomicU64,
}

/// What a pass has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// Effects for the file.
    pub has_number: bool,
    /// Effects for the stream.
    pub stream: Option<StreamShare>,
}

/// A pass's part of the stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamShare {
    pub bytes: u64,
    /// The db of its first effect, and what a SELECT of it takes, which comes before if the stream is in another db.
    pub first_db: u32,
    pub select_bytes: u64,
    pub last_db: u32,
}

/// What a pass has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub turn: u64,
    /// Its log number, if it has effects for the file.
    pub number: Option<u64>,
    /// All log numbers below this one have an earlier turn.
    pub earlier_numbers: u64,
    /// Its bytes in the stream, the SELECT included.
    pub offsets: Range<u64>,
    pub has_select: bool,
}

impl Turns {
    /// The order of so many shards, of which nobody has taken a turn.
    pub fn new(shard_count: usize) -> Turns {
        let shown = || Shown {
            turn: AtomicU64::new(NONE),
            number: AtomicU64::new(NONE),
        };
        Turns {
            taken: Mutex::default(),
            counter: AtomicU64::new(0),
            next_number: AtomicU64::new(1),
            shown: std::iter::repeat_with(shown).take(shard_count).collect(),
            durable: Durable::new(shard_count),
        }
    }

    /// Rule 4: goes on behind what a start has found, before anybody takes a turn: the next log number, the last turn, and the end of the stream.
    pub fn begin_at(&self, next_number: u64, last_turn: u64, end_offset: u64) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        debug_assert!(self.shown.iter().all(|shown| shown.turn.load(Ordering::SeqCst) == NONE));
        self.counter.store(last_turn, Ordering::SeqCst);
        self.next_number.store(next_number, Ordering::SeqCst);
        *taken = Taken {
            offset: end_offset,
            stream_db: None,
        };
        self.durable.begin(next_number);
    }

    /// The stream goes on from there, as that of another history. To be called by who holds all slots.
    pub fn go_on_at(&self, end_offset: u64) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = Taken {
            offset: end_offset,
            stream_db: None,
        };
    }

    /// Rule 1: shows the bounds, and takes a turn.
    pub fn take(&self, shard: ShardId, share: Share) -> Turn {
        let shown = &self.shown[shard.0 as usize];
        debug_assert_eq!(shown.turn.load(Ordering::Relaxed), NONE, "one pass at a time");
        shown.turn.store(self.counter.load(Ordering::SeqCst), Ordering::SeqCst);
        if share.has_number {
            let bound = self.next_number.load(Ordering::SeqCst);
            shown.number.store(bound, Ordering::SeqCst);
            self.durable.mark(shard, bound);
        }
        // What another thread has left is whole: nothing in here can fail.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.counter.load(Ordering::Relaxed) + 1;
        self.counter.store(turn, Ordering::SeqCst);
        let earlier_numbers = self.next_number.load(Ordering::Relaxed);
        if share.has_number {
            self.next_number.store(earlier_numbers + 1, Ordering::SeqCst);
        }
        let start = taken.offset;
        let mut has_select = false;
        if let Some(stream) = share.stream {
            has_select = taken.stream_db != Some(stream.first_db);
            taken.offset += stream.bytes + if has_select { stream.select_bytes } else { 0 };
            taken.stream_db = Some(stream.last_db);
        }
        let offsets = start..taken.offset;
        drop(taken);
        if share.has_number {
            // The bound was low; the sooner the others know, the sooner they release.
            shown.number.store(earlier_numbers, Ordering::SeqCst);
            self.durable.note_taken(shard, earlier_numbers);
        }
        Turn {
            turn,
            number: share.has_number.then_some(earlier_numbers),
            earlier_numbers,
            offsets,
            has_select,
        }
    }

    /// Rule 2: the shard has written its chunk.
    pub fn written(&self, shard: ShardId) {
        self.shown[shard.0 as usize].number.store(NONE, Ordering::SeqCst);
    }

    /// Rule 3: whether all log numbers below this one are written.
    pub fn are_written(&self, below: u64) -> bool {
        self.shown
            .iter()
            .all(|shown| shown.number.load(Ordering::SeqCst) >= below)
    }

    /// Rule 3: all that the shard's pass has produced has left it, or a link shows a bound for what has not.
    pub fn released(&self, shard: ShardId) {
        self.shown[shard.0 as usize].turn.store(NONE, Ordering::SeqCst);
    }

    /// The last turn that was taken.
    pub fn counter(&self) -> u64 {
        self.counter.load(Ordering::SeqCst)
    }

    /// Rule 8: all messages of turns up to this one are in the links to their receivers, but for what a link shows a bound for. To be read
    /// before the links are drained.
    pub fn stable(&self) -> u64 {
        let counter = self.counter();
        let bounds = self.shown.iter().map(|shown| shown.turn.load(Ordering::SeqCst));
        bounds.fold(counter, u64::min)
    }

    /// A sync of the shard's part of the log begins: what is written by now will be durable when it has succeeded. False: nothing is
    /// to be synced.
    pub fn begin_sync(&self, shard: ShardId) -> bool {
        let shown = &self.shown[shard.0 as usize].number;
        self.durable.begin_sync(shard, || {
            let unwritten = shown.load(Ordering::SeqCst);
            (unwritten != NONE).then_some(unwritten)
        })
    }

    /// It has succeeded: whoever waits for it is told.
    pub fn end_sync(&self, shard: ShardId) {
        self.durable.end_sync(shard);
        self.durable.publish(self.next_number.load(Ordering::SeqCst));
    }

    /// After a sync that failed: a base has everything that it concerned, and is on the disk.
    pub fn is_whole_again(&self) {
        self.durable.go_on();
        self.durable.publish(self.next_number.load(Ordering::SeqCst));
    }

    /// The number that the next effects for the file get.
    pub fn next_number(&self) -> u64 {
        self.next_number.load(Ordering::SeqCst)
    }

    /// Takes a range of the stream for so many bytes that belong to no pass, and are in no db.
    pub fn take_offsets(&self, bytes: u64) -> Range<u64> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let start = taken.offset;
        taken.offset += bytes;
        start..taken.offset
    }

    /// The end of the stream, from which on it can be read by whoever knows nothing of what came before: its db is said anew.
    pub fn cut_stream(&self) -> u64 {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.stream_db = None;
        taken.offset
    }

    /// The end of the stream.
    pub fn end_offset(&self) -> u64 {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::thread;

    const FILE: Share = Share {
        has_number: true,
        stream: None,
    };
    const MESSAGES: Share = Share {
        has_number: false,
        stream: None,
    };

    #[test]
    fn a_pass_waits_for_the_numbers_before_its_own() {
        let turns = Turns::new(3);
        let first = turns.take(ShardId(0), FILE);
        let second = turns.take(ShardId(1), FILE);
        let third = turns.take(ShardId(2), MESSAGES);
        assert_eq!((first.turn, first.number), (1, Some(1)));
        assert_eq!((second.turn, second.number), (2, Some(2)));
        assert_eq!((third.turn, third.number, third.earlier_numbers), (3, None, 3));
        turns.written(ShardId(1));
        assert!(turns.are_written(first.earlier_numbers));
        assert!(!turns.are_written(second.earlier_numbers));
        assert!(!turns.are_written(third.earlier_numbers));
        turns.written(ShardId(0));
        assert!(turns.are_written(second.earlier_numbers) && turns.are_written(third.earlier_numbers));
    }

    #[test]
    fn turns_go_on_behind_what_was_found() {
        let turns = Turns::new(1);
        turns.begin_at(42, 70, 1000);
        let turn = turns.take(ShardId(0), FILE);
        assert_eq!((turn.turn, turn.number, turn.offsets), (71, Some(42), 1000..1000));
    }

    #[test]
    fn what_is_stable_lies_below_every_pass_under_way() {
        let turns = Turns::new(2);
        assert_eq!(turns.stable(), 0);
        turns.take(ShardId(0), MESSAGES);
        turns.take(ShardId(1), FILE);
        assert_eq!((turns.counter(), turns.stable()), (2, 0));
        turns.released(ShardId(0));
        assert_eq!(turns.stable(), 1);
        turns.written(ShardId(1));
        assert_eq!(turns.stable(), 1, "written is not released");
        turns.released(ShardId(1));
        assert_eq!(turns.stable(), 2);
    }

    #[test]
    fn the_stream_selects_a_db_where_it_changes() {
        let turns = Turns::new(1);
        let take = |first_db, last_db| {
            let share = Share {
                has_number: false,
                stream: Some(StreamShare {
                    bytes: 100,
                    first_db,
                    select_bytes: 23,
                    last_db,
                }),
            };
            let turn = turns.take(ShardId(0), share);
            turns.released(ShardId(0));
            (turn.offsets, turn.has_select)
        };
        assert_eq!(take(0, 3), (0..123, true));
        assert_eq!(take(3, 3), (123..223, false));
        assert_eq!(take(0, 0), (223..346, true));
        assert_eq!(turns.end_offset(), 346);
        // What is in no db changes none.
        assert_eq!(turns.take_offsets(14), 346..360);
        assert_eq!(take(0, 0), (360..460, false));
        assert_eq!(turns.cut_stream(), 460);
        assert_eq!(take(0, 0), (460..583, true));
    }

    /// With real threads: what is released has all earlier numbers written, and a listener that goes by what is stable never hears of a
    /// turn behind a later one.
    #[test]
    fn threads_agree_on_one_order() {
        const SHARDS: u16 = 3;
        const PASSES: u64 = 5_000;
        let turns = Turns::new(usize::from(SHARDS) + 1);
        let all = u64::from(SHARDS) * PASSES;
        let written: Vec<AtomicBool> = (0..=all).map(|_| AtomicBool::new(false)).collect();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| mpsc::channel()).unzip();
        thread::scope(|scope| {
            for (shard, sender) in senders.into_iter().enumerate() {
                let (turns, written) = (&turns, &written);
                scope.spawn(move || {
                    let shard = ShardId(shard as u16);
                    for pass in 0..PASSES {
                        let has_number = (pass + u64::from(shard.0)) % 4 > 0;
                        let share = Share {
                            has_number,
                            stream: None,
                        };
                        let turn = turns.take(shard, share);
                        if let Some(number) = turn.number {
                            written[number as usize].store(true, Ordering::Relaxed);
                            turns.written(shard);
                        }
                        while !turns.are_written(turn.earlier_numbers) {
                            thread::yield_now();
                        }
                        let from = turn.earlier_numbers.saturating_sub(50).max(1);
                        let missing = (from..turn.earlier_numbers)
                            .find(|number| !written[*number as usize].load(Ordering::Relaxed));
                        assert_eq!(missing, None, "before {turn:?}");
                        sender.send(turn.turn).expect("somebody listens");
                        turns.released(shard);
                    }
                });
            }
            let (mut held, mut heard) = (BTreeSet::new(), 0);
            while heard < all {
                let stable = turns.stable();
                for receiver in &receivers {
                    held.extend(receiver.try_iter());
                }
                while let Some(turn) = held.first().copied().filter(|turn| *turn <= stable) {
                    held.pop_first();
                    heard += 1;
                    assert_eq!(turn, heard, "every turn is heard, in its order");
                }
                thread::yield_now();
            }
        });
    }
}
