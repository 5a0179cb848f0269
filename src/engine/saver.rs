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
//! 1. one job of a saver is under way at most, and the part is with it;
//! 2. the part is handed in once, when every slot of the shard has been walked and nothing that was captured is left.

use super::ground::Ground;
use super::snapshot::{Plan, Snapshots, Whole};
use crate::base::clock::{Ticks, UnixMs};
use crate::persist::file::writer::{Batch, Part, Scribe};
use crate::shard::{ConnRef, ShardId};
use crate::store::{Captured, Cut, DbIndex, OwnedEntry};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How much is given to the file at a time: enough that the way to the other thread is cheap for each byte.
const BATCH_BYTES: usize = 256 * 1024;
/// Entries between two looks at the clock.
const ENTRIES_BETWEEN_CLOCKS: u32 = 16;
/// Bytes written between two looks at the clock, whatever number of entries that is.
const BYTES_BETWEEN_CLOCKS: usize = 16 * 1024;

/// Work for a thread that may wait.
pub type Job = Box<dyn FnOnce() -> Written + Send>;

/// What came of a job.
pub struct Written {
    plan: Arc<Plan>,
    part: Option<Part>,
    /// To be filled again.
    buffer: Vec<u8>,
    failure: Option<String>,
    /// The part was handed in; of the shard that was last, what came of the whole.
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
    scribe: Scribe,
    /// Written, to be filled again.
    spare: Vec<u8>,
    part: Option<Part>,
    is_writing: bool,
    is_handed_in: bool,
    captured: Captured,
    queue: VecDeque<(DbIndex, OwnedEntry)>,
    todo: VecDeque<u16>,
    /// The shard's slots are numbered from and to.
    first_slot: u16,
    last_slot: u16,
    /// Nothing can be done before something else happens.
    is_stuck: bool,
}

impl Saver {
    /// Begins to save this shard's slots, as they were at a cut that was made.
    pub fn begin(&mut self, plan: Arc<Plan>, cut: &Cut, on: &mut Ground<'_>) {
        let owned = (0..cut.slot_count()).filter(|slot| on.core.owner(*slot) == on.env.shard);
        let todo: VecDeque<u16> = owned.collect();
        plan.note_changes(on.env.shard, on.env.stats.counts.changes);
        assert!(
            self.work.is_none(),
            "a cut is made when the last snapshot is out of the way"
        );
        self.work = Some(Box::new(Saving {
            scribe: Scribe::new(plan.form, plan.usage, plan.began),
            plan,
            spare: Vec::new(),
            part: None,
            is_writing: false,
            is_handed_in: false,
            captured: Captured::default(),
            queue: VecDeque::new(),
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
        if work.scribe.waiting_bytes() < BATCH_BYTES {
            work.fill(cut, on, deadline);
        }
        let is_full = work.scribe.waiting_bytes() >= BATCH_BYTES;
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
            part,
            mut buffer,
            failure,
            handed_in,
        } = written;
        let work = self.work.as_deref_mut().expect("a saver waits for its job");
        buffer.clear();
        work.spare = buffer;
        work.part = part;
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
    fn is_done(&self, cut: &Cut) -> bool {
        self.todo.is_empty() && self.captured.is_empty() && self.queue.is_empty() && self.next_captured(cut).is_none()
    }

    /// A slot of this shard with captured entries.
    fn next_captured(&self, cut: &Cut) -> Option<u16> {
        cut.next_captured(self.first_slot)
            .filter(|slot| *slot <= self.last_slot)
    }

    /// Writes into the scribe's buffer.
    fn fill(&mut self, cut: &Cut, on: &mut Ground<'_>, deadline: Ticks) {
        self.plan.note_captured(cut.captured_bytes() as u64);
        self.collect(cut, on);
        let mut pace = Pace::new(deadline);
        while let Some((db, entry)) = self.next_in_queue() {
            cut.release(entry.as_ref().allocated_bytes());
            if self.plan.is_given_up() {
                on.env.garbage.push(entry);
            } else {
                self.scribe.write(db, entry.as_ref());
                on.env.garbage.push(entry);
            }
            if pace.is_over(&self.scribe, on) {
                return;
            }
        }
        let mut passed_over = 0;
        while passed_over < self.todo.len() {
            let Some(&slot) = self.todo.front() else { return };
            let Saving { plan, scribe, todo, .. } = self;
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
        }
        self.is_stuck = !self.todo.is_empty();
    }

    fn next_in_queue(&mut self) -> Option<(DbIndex, OwnedEntry)> {
        loop {
            if let Some(next) = self.queue.pop_front() {
                return Some(next);
            }
            if !self.captured.open_table() {
                return None;
            }
            self.queue.extend(self.captured.entries.drain(..));
        }
    }

    /// Takes in what was captured in slots that are at home.
    fn collect(&mut self, cut: &Cut, on: &mut Ground<'_>) {
        let mut from = self.first_slot;
        while let Some(slot) = cut.next_captured(from).filter(|slot| *slot <= self.last_slot) {
            if let Some(mut view) = on.core.try_view(&[slot], ConnRef::background(on.env.shard))
                && let Some(content) = view.slot(slot)
            {
                let mut captured = content.take_captured();
                self.queue.extend(captured.entries.drain(..));
                self.captured.absorb(captured);
            }
            let Some(next) = slot.checked_add(1) else { return };
            from = next;
        }
    }

    fn job(&mut self, snapshots: Arc<Snapshots>, shard: ShardId, is_last: bool) -> Job {
        let batch = self.scribe.take(std::mem::take(&mut self.spare));
        let version = self.scribe.version();
        let plan = self.plan.clone();
        let part = self.part.take();
        self.is_writing = true;
        self.is_handed_in = is_last;
        Box::new(move || write(&snapshots, plan, shard, part, batch, version, is_last))
    }
}

/// What a job does, on its thread.
fn write(
    snapshots: &Snapshots,
    plan: Arc<Plan>,
    shard: ShardId,
    part: Option<Part>,
    batch: Batch,
    version: u16,
    is_last: bool,
) -> Written {
    let mut written = Written {
        part,
        buffer: Vec::new(),
        failure: None,
        handed_in: None,
        plan,
    };
    let plan = &written.plan;
    if !plan.is_given_up() {
        let appended = append(snapshots, plan, shard, &mut written.part, &batch, version);
        plan.count_keys(snapshots, batch.key_count);
        written.failure = appended.err();
    }
    written.buffer = batch.bytes;
    if is_last {
        // A part that could not be written must not be taken for one that is whole.
        let part = written.part.take();
        if written.failure.is_some() {
            if let Some(part) = &part {
                // Nothing can be done about it; the next start finds it.
                let _ = snapshots.disk.remove(part.path());
            }
            written.handed_in = Some(plan.hand_in(&*snapshots.disk, shard, None));
        } else {
            written.handed_in = Some(plan.hand_in(&*snapshots.disk, shard, part));
        }
    }
    written
}

fn append(
    snapshots: &Snapshots,
    plan: &Plan,
    shard: ShardId,
    part: &mut Option<Part>,
    batch: &Batch,
    version: u16,
) -> Result<(), String> {
    let part = match part {
        Some(part) => part,
        None => part.insert(plan.create_part(&*snapshots.disk, shard)?),
    };
    part.seal(version);
    let path = part.path().to_owned();
    part.append(batch)
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

    fn is_over(&mut self, scribe: &Scribe, on: &Ground<'_>) -> bool {
        self.counts(scribe, &on.env.clock)
    }

    /// Counts an entry that was written; whether that was enough.
    fn counts(&mut self, scribe: &Scribe, clock: &crate::base::clock::Clock) -> bool {
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
