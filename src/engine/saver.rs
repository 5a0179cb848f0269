//! A shard's part of a snapshot: walking its slots in small steps, and handing what it has written to a thread that may wait.
//!
//! ```text
//!  slots at home --walk--.
//!                         >-- Scribe --batch--> job on another thread: append to the part --.
//!  captured entries -----'                                                                  |
//!       ^                                     (one at a time)  <----------------------------'
//!       '-- come home with their slots
//! ```
//!
//! A step ([`Saver::step`]) is background work of the shard: it encodes what was captured first, since that takes memory, then walks on.
//! When a batch is full and the one before is not written, it waits: a disk that is slow slows the snapshot, not the clients, until what
//! is captured meanwhile reaches its limit.
//!
//! Slots that are on loan are passed over and come back to. Whatever a snapshot that is given up has left is walked, too, but not written.
//!
//! Invariants:
//! 1. one job of a saver is under way at most that is not its last, and the part is with it;
//! 2. the part is handed in once, when every slot of the shard has been walked and nothing that was captured is left;
//! 3. who has handed in is done, whether it has heard of that or not: the last of all shards may end the snapshot, and the next one may
//!    begin here, before this shard hears that its own job has been run.

use super::ground::Ground;
use super::snapshot::{PartKind, Plan, Snapshots, Whole};
use crate::base::clock::{Clock, Ticks, UnixMs};
use crate::persist::file::writer::{Batch, Part, Scribe, SlicedEntry};
use crate::shard::{ConnRef, ShardId};
use crate::store::{Captured, Cut, OwnedEntry};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How much is given to the file at a time: enough that the way to the other thread is cheap for each byte.
const BATCH_BYTES: usize = 256 * 1024;
/// Entries between two looks at the clock.
const ENTRIES_BETWEEN_CLOCKS: u32 = 16;
/// Bytes written between two looks at the clock, whatever number of entries that is.
const BYTES_BETWEEN_CLOCKS: usize = 16 * 1024;

/// Parts of a large value that are written between two looks at the clock.
const PARTS_AT_ONCE: usize = 128;

/// The scribe, and the part, of what is written in one go, and that of what is written in slices.
const SMALL: usize = 0;
const LARGE: usize = 1;

/// What is said when a snapshot has lost something: that is a fault of this program, and the file of before stays.
const LOST: &str = "A value was not where the snapshot had left it: the snapshot is given up. Please report this.";

/// Work for a thread that may wait.
pub type Job = Box<dyn FnOnce() -> Written + Send>;

/// What came of a job.
pub struct Written {
    plan: Arc<Plan>,
    parts: [Option<Part>; 2],
    /// To be filled again.
    buffers: [Vec<u8>; 2],
    failure: Option<String>,
    /// The parts were handed in; of the shard that was last, what came of the whole.
    handed_in: Option<Option<Whole>>,
}

/// See the essay above.
#[derive(Default)]
pub struct Saver {
    work: Option<Box<Saving>>,
    job: Option<Job>,
}

struct Saving {
    plan: Arc<Plan>,
    /// What is small, and what is written in slices.
    scribes: [Scribe; 2],
    /// Written, to be filled again.
    spares: [Vec<u8>; 2],
    parts: [Option<Part>; 2],
    /// What is being written in slices.
    large: Option<Large>,
    is_writing: bool,
    is_handed_in: bool,
    captured: Captured,
    todo: VecDeque<u16>,
    /// The shard's slots are numbered from and to.
    first_slot: u16,
    last_slot: u16,
    /// Nothing can be done before something else happens.
    is_stuck: bool,
}

/// A value that is being written in slices.
struct Large {
    place: LargePlace,
    writing: SlicedEntry,
}

enum LargePlace {
    /// The first that is frozen there, if the slot knows of no other one where it is now.
    Slot(u16),
    Captured(OwnedEntry),
}

impl Saver {
    /// Begins to save this shard's slots, as they were at a cut that was made.
    pub fn begin(&mut self, plan: Arc<Plan>, cut: &Cut, on: &mut Ground<'_>) {
        let owned = (0..cut.slot_count()).filter(|slot| on.core.owner(*slot) == on.env.shard);
        let todo: VecDeque<u16> = owned.collect();
        assert!(
            self.work.as_ref().is_none_or(|work| work.is_handed_in),
            "a cut is made when the last snapshot is out of the way"
        );
        self.work = Some(Box::new(Saving {
            scribes: [(); 2].map(|()| {
                let scribe = Scribe::new(plan.form, plan.usage, plan.began);
                match plan.is_script() {
                    true => scribe.of_commands(),
                    false => scribe,
                }
            }),
            plan,
            spares: Default::default(),
            parts: [None, None],
            large: None,
            is_writing: false,
            is_handed_in: false,
            captured: Captured::default(),
            first_slot: todo.front().copied().unwrap_or_default(),
            last_slot: todo.back().copied().unwrap_or_default(),
            todo,
            is_stuck: false,
        }));
    }

    /// Whether a step may find something to do.
    pub fn has_work(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !work.is_stuck)
    }

    /// Something has happened: slots may be back.
    pub fn look_again(&mut self) {
        if let Some(work) = &mut self.work {
            work.is_stuck = work.is_handed_in;
        }
    }

    /// Saves until the deadline, or until there is nothing to be done at once.
    pub fn step(&mut self, on: &mut Ground<'_>, deadline: Ticks) {
        let cut = &*on.env.cut.clone();
        let Some(work) = self.work.as_deref_mut() else { return };
        if work.is_handed_in {
            work.is_stuck = true;
            return;
        }
        if !work.is_full() {
            work.fill(cut, on, deadline);
        }
        if cut.take_lost() {
            debug_assert!(false, "{LOST}");
            on.env.snapshots.fail(&work.plan, LOST, on.env.now);
        }
        let is_full = work.is_full();
        let is_done = work.is_done(cut);
        if work.is_writing {
            work.is_stuck |= is_full || is_done;
        } else if is_full || is_done {
            self.job = Some(work.job(on.env.snapshots.clone(), on.env.shard, is_done));
        }
    }

    /// A job that is to be run on another thread.
    pub fn take_job(&mut self) -> Option<Job> {
        self.job.take()
    }

    /// A job has been run. When that ends the snapshot for all shards: what came of it.
    pub fn written(&mut self, written: Written, snapshots: &Snapshots, now: UnixMs) -> Option<(Arc<Plan>, Whole)> {
        let Written {
            plan,
            parts,
            mut buffers,
            failure,
            handed_in,
        } = written;
        let is_of_this = |work: &&mut Saving| Arc::ptr_eq(&work.plan, &plan);
        let Some(work) = self.work.as_deref_mut().filter(is_of_this) else {
            // The next one has begun since (invariant 3).
            return handed_in.flatten().map(|whole| (plan, whole));
        };
        buffers.iter_mut().for_each(Vec::clear);
        work.spares = buffers;
        work.parts = parts;
        work.is_writing = false;
        work.is_stuck = false;
        if let Some(failure) = failure {
            snapshots.fail(&plan, &failure, now);
        }
        if let Some(whole) = handed_in {
            self.work = None;
            return whole.map(|whole| (plan, whole));
        }
        None
    }
}

impl Saving {
    fn is_full(&self) -> bool {
        self.scribes.iter().any(|scribe| scribe.waiting_bytes() >= BATCH_BYTES)
    }

    fn is_done(&self, cut: &Cut) -> bool {
        let has_captured = !self.captured.is_empty() || self.large.is_some();
        self.todo.is_empty() && !has_captured && self.captured_slots(cut).next().is_none()
    }

    /// The slots of this shard in which something captured waits, in ascending order.
    fn captured_slots<'c>(&self, cut: &'c Cut) -> impl Iterator<Item = u16> + use<'c> {
        let last = self.last_slot;
        let next = move |from: u16| cut.next_captured(from).filter(|slot| *slot <= last);
        std::iter::successors(next(self.first_slot), move |slot| next(slot.checked_add(1)?))
    }

    /// Writes into the scribes' buffers.
    fn fill(&mut self, cut: &Cut, on: &mut Ground<'_>, deadline: Ticks) {
        self.plan.note_captured(cut.captured_bytes() as u64);
        let mut pace = Pace::new(deadline);
        self.collect(cut, on);
        self.write_captured(cut, on, &mut pace);
        self.write_large(cut, on, &mut pace);
        if !pace.has_ended {
            self.walk(on, &mut pace);
        }
        self.is_stuck = !pace.has_ended;
    }

    /// Writes what was captured, up to a value that goes in slices.
    fn write_captured(&mut self, cut: &Cut, on: &mut Ground<'_>, pace: &mut Pace) {
        while self.large.is_none()
            && !pace.has_ended
            && let Some((db, entry)) = self.captured.next(cut)
        {
            if self.plan.is_given_up() {
                on.env.garbage.push(entry);
            } else if entry.is_sliced() {
                let seen = entry.as_ref();
                let writing = self.scribes[LARGE].begin_sliced(db, seen.key(), seen.expiry(), seen.access_clock());
                self.large = Some(Large {
                    place: LargePlace::Captured(entry),
                    writing,
                });
            } else {
                self.scribes[SMALL].write(db, entry.as_ref());
                on.env.garbage.push(entry);
            }
            pace.counts(&self.scribes[SMALL], &on.env.clock);
        }
    }

    /// Writes slices of what goes in slices: of what has been begun, then of whatever was frozen.
    fn write_large(&mut self, cut: &Cut, on: &mut Ground<'_>, pace: &mut Pace) {
        loop {
            if self.large.is_none() && !pace.has_ended {
                self.write_captured(cut, on, pace);
            }
            if self.large.is_none() && !pace.has_ended {
                self.begin_frozen(cut, on);
            }
            let is_given_up = self.plan.is_given_up();
            let Saving { large, scribes, .. } = self;
            let (false, Some(Large { place, writing })) = (pace.has_ended, large) else {
                return;
            };
            let scribe = &mut scribes[LARGE];
            let seed = on.env.seed;
            let is_written = match place {
                LargePlace::Captured(entry) => {
                    entry.read_captured(|value| is_given_up || scribe.write_slice(writing, value, seed, PARTS_AT_ONCE))
                }
                LargePlace::Slot(slot) => {
                    let Some(mut view) = on.core.try_view(&[*slot], ConnRef::background(on.env.shard)) else {
                        return;
                    };
                    let content = view.slot(*slot).expect("the view was given this slot");
                    if let Some(other) = content.take_forward() {
                        *slot = other;
                        continue;
                    }
                    let (is_written, spent) = content.read_frozen(|value, seed| {
                        is_given_up || scribe.write_slice(writing, value, seed, PARTS_AT_ONCE)
                    });
                    on.env.garbage.absorb(spent);
                    is_written
                }
            };
            pace.looks_at_clock(scribe, &on.env.clock);
            if is_written
                && let Some(Large {
                    place: LargePlace::Captured(entry),
                    ..
                }) = self.large.take()
            {
                on.env.garbage.push(entry);
            }
        }
    }

    /// Begins with a frozen value of a slot that is at home.
    fn begin_frozen(&mut self, cut: &Cut, on: &mut Ground<'_>) {
        for slot in self.captured_slots(cut) {
            if let Some(mut view) = on.core.try_view(&[slot], ConnRef::background(on.env.shard))
                && let Some(content) = view.slot(slot)
                && content.first_frozen().is_some()
            {
                // Of a value that was read before.
                content.take_forward();
                let frozen = content.first_frozen().expect("it was there just now");
                let scribe = &mut self.scribes[LARGE];
                self.large = Some(Large {
                    place: LargePlace::Slot(slot),
                    writing: scribe.begin_sliced(frozen.db, &frozen.key, frozen.expiry, frozen.access_clock),
                });
                return;
            }
        }
    }

    /// Walks on through the slots.
    fn walk(&mut self, on: &mut Ground<'_>, pace: &mut Pace) {
        let mut passed_over = 0;
        while passed_over < self.todo.len() {
            let Some(&slot) = self.todo.front() else { return };
            let Saving {
                plan, scribes, todo, ..
            } = self;
            let scribe = &mut scribes[SMALL];
            let Some(mut view) = on.core.try_view(&[slot], ConnRef::background(on.env.shard)) else {
                passed_over += 1;
                todo.rotate_left(1);
                continue;
            };
            let clock = &on.env.clock;
            let content = view.slot(slot).expect("the view was given this slot");
            let is_through = content.save_some(|db, entry| {
                if !plan.is_given_up() {
                    scribe.write(db, entry);
                }
                match pace.counts(scribe, clock) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            if is_through {
                todo.pop_front();
                passed_over = 0;
            }
            if pace.has_ended {
                return;
            }
            if content.first_frozen().is_some() {
                // What it has frozen comes first: it keeps what changes meanwhile.
                pace.has_ended = true;
                return;
            }
        }
    }

    /// Takes in what was captured in slots that are at home.
    fn collect(&mut self, cut: &Cut, on: &mut Ground<'_>) {
        for slot in self.captured_slots(cut) {
            if let Some(mut view) = on.core.try_view(&[slot], ConnRef::background(on.env.shard))
                && let Some(content) = view.slot(slot)
            {
                self.captured.absorb(content.take_captured());
            }
        }
    }

    fn job(&mut self, snapshots: Arc<Snapshots>, shard: ShardId, is_last: bool) -> Job {
        let spares = std::mem::take(&mut self.spares);
        let mut spares = spares.into_iter();
        let batches = self.scribes.each_mut().map(|scribe| Handed {
            batch: scribe.take(spares.next().unwrap_or_default()),
            version: scribe.version(),
        });
        let plan = self.plan.clone();
        let parts = std::mem::take(&mut self.parts);
        self.is_writing = true;
        self.is_handed_in = is_last;
        Box::new(move || write(&snapshots, plan, shard, parts, batches, is_last))
    }
}

/// What a scribe hands over.
struct Handed {
    batch: Batch,
    version: u16,
}

/// What a job does, on its thread.
fn write(
    snapshots: &Snapshots,
    plan: Arc<Plan>,
    shard: ShardId,
    mut parts: [Option<Part>; 2],
    batches: [Handed; 2],
    is_last: bool,
) -> Written {
    let mut failure = None;
    let mut buffers = Vec::with_capacity(2);
    for ((part, handed), kind) in parts.iter_mut().zip(batches).zip([PartKind::Small, PartKind::Large]) {
        // The part of what is small is there in any case.
        let is_wanted = kind == PartKind::Small || part.is_some() || !handed.batch.bytes.is_empty();
        if is_wanted && failure.is_none() && !plan.is_given_up() {
            failure = append(snapshots, &plan, shard, kind, part, &handed).err();
            plan.count_keys(snapshots, handed.batch.key_count);
        }
        buffers.push(handed.batch.bytes);
    }
    let mut handed_in = None;
    if is_last {
        let mut parts = std::mem::take(&mut parts);
        // Who is last tells of it: here that could come after the end of the whole.
        let outcome = match failure.take() {
            Some(failure) => {
                // Parts that could not be written must not be taken for whole ones.
                let parts = parts.iter_mut().filter_map(Option::take);
                parts.for_each(|part| part.discard(&*snapshots.disk));
                Err(failure)
            }
            None => Ok(parts),
        };
        handed_in = Some(plan.hand_in(snapshots, shard, outcome));
    }
    Written {
        plan,
        parts,
        buffers: buffers.try_into().unwrap_or_default(),
        failure,
        handed_in,
    }
}

fn append(
    snapshots: &Snapshots,
    plan: &Plan,
    shard: ShardId,
    kind: PartKind,
    part: &mut Option<Part>,
    handed: &Handed,
) -> Result<(), String> {
    let part = match part {
        Some(part) => part,
        None => part.insert(plan.create_part(&*snapshots.disk, shard, kind)?),
    };
    part.seal(handed.version);
    let path = part.path().to_owned();
    part.append(&handed.batch)
        .map_err(|error| format!("Write error saving DB on disk, {}: {error}", path.display()))
}

/// When a step is to end.
struct Pace {
    deadline: Ticks,
    entries: u32,
    bytes_seen: usize,
    has_ended: bool,
}

impl Pace {
    fn new(deadline: Ticks) -> Pace {
        Pace {
            deadline,
            entries: 0,
            bytes_seen: 0,
            has_ended: false,
        }
    }

    /// Something has been written that took long.
    fn looks_at_clock(&mut self, scribe: &Scribe, clock: &Clock) {
        self.has_ended = scribe.waiting_bytes() >= BATCH_BYTES || clock.ticks() >= self.deadline;
    }

    /// Counts an entry that was written; whether that was enough.
    fn counts(&mut self, scribe: &Scribe, clock: &Clock) -> bool {
        self.entries += 1;
        let bytes = scribe.waiting_bytes();
        if bytes >= BATCH_BYTES {
            self.has_ended = true;
        } else if self.entries >= ENTRIES_BETWEEN_CLOCKS || bytes >= self.bytes_seen + BYTES_BETWEEN_CLOCKS {
            self.entries = 0;
            self.bytes_seen = bytes;
            self.has_ended = clock.ticks() >= self.deadline;
        }
        self.has_ended
    }
}
