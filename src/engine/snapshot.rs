//! Snapshots, as the process knows them: which one is under way, how the last one ended, and what the next one will be.
//!
//! A snapshot begins with a *cut*: a unit of work that holds all slots turns the side of the process round (`store::Cut`), and with that
//! everything that was there is the snapshot's. Each shard then saves what of it is at home with it, into a part of its own (`saver`); the
//! one that is last lays the parts together, or gives all files their names at once, where each shard has made a file of its own
//! (`rdb-layout`). No client waits for any of it, and no memory is copied but what changes before it is saved.
//!
//! ```text
//!            begin                    cut                     the last shard is done
//!  (nothing) ------> waits for a cut -----> every shard saves ----------------------> (nothing)
//!                          ^                     | cancel, or a part that cannot be written
//!                          |                     v
//!                          '------------- given up: every shard walks on without saving anything
//! ```
//!
//! What is given up counts as ended at once; but slots that were not walked to their end have entries of both sides, and another cut would
//! take them for what they are not. So the walk goes on, and a snapshot that is asked for meanwhile has its cut when it is over.
//!
//! Everything here is behind one lock, which is held for moments and by few: commands about snapshots, the cron of the first shard, and
//! each shard when it is done.

use super::libraries::Libraries;
use super::order::Order;
use crate::base::clock::{Ms, UnixMs};
use crate::base::random::Random;
use crate::base::section::Section;
use crate::config::{REDIS_VERSION, RdbLayout, Settings};
use crate::persist::file::set::{self, Member, Replaced, SetId, Temporary};
use crate::persist::file::writer::{Head, Laid, Part, Sealed, Usage, Writing, lay, usage_of};
use crate::persist::payload::Form;
use crate::runtime::disk::Disk;
use crate::shard::ShardId;
use crate::store::Cut;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How long save points wait after a save that failed.
const RETRY_AFTER: Ms = Ms(5000);

/// How long the writing of a key is slept over at a time, where it is slowed down: a change of the parameter is obeyed after that.
const DELAY_STEP: Duration = Duration::from_millis(1);

/// How many endings are remembered: whoever waits looks every few milliseconds.
const ENDINGS_MAX: usize = 64;

/// Why a snapshot is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// SAVE, or the end of the process: somebody waits for it.
    Awaited,
    /// BGSAVE, a save point, FLUSHALL.
    Background,
}

/// What writers have to know of snapshots, and of what else keeps the data set safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotState {
    /// `stop-writes-on-bgsave-error`, and the last one has failed.
    pub refuses_writes: bool,
    /// As much is captured as may be: whoever would have more captured waits.
    pub is_at_limit: bool,
    /// What is logged cannot be written, or not be synced.
    pub has_log_failed: bool,
    /// Fewer replicas are near than `min-replicas-to-write` asks for.
    pub lacks_replicas: bool,
}

impl SnapshotState {
    #[inline]
    pub fn is_calm(self) -> bool {
        !self.refuses_writes && !self.is_at_limit && !self.has_log_failed && !self.lacks_replicas
    }
}

/// See the essay above.
pub struct Snapshots {
    pub disk: Arc<dyn Disk>,
    cut: Arc<Cut>,
    state: Mutex<State>,
    /// What of the data set is in no slot.
    pub libraries: Libraries,
    /// `rdb-key-save-delay`, as of now.
    key_delay_us: AtomicI32,
    /// The changes that each shard has counted, as of its last pass.
    changes: Box<[Count]>,
    /// The last one that has ended has failed. Written under the lock, and looked at in each pass.
    last_has_failed: AtomicBool,
    /// As much was captured as may be, when somebody looked last, and how often that came to be.
    was_at_limit: AtomicBool,
    held_count: AtomicU64,
    /// How long the last cut took (`latest_fork_usec`).
    cut_us: AtomicU64,
    /// The last snapshot whose files were to be given their names. From then on its temporary files are not to be taken away.
    named: AtomicU64,
}

/// What is under way, and what was.
struct State {
    current: Option<Arc<Plan>>,
    /// It was given up, and shards walk on still.
    settling: Option<Arc<Plan>>,
    /// BGSAVE SCHEDULE, or one inside EXEC.
    is_scheduled: bool,
    next_number: u64,
    ids: Random,
    /// The last that have ended, and whether they have saved what there was.
    endings: VecDeque<(u64, Ending)>,
    /// When the last one that succeeded began; at first, when the process did.
    last_saved_at: UnixMs,
    last_tried_at: UnixMs,
    last_duration: Option<Ms>,
    last_captured_bytes: u64,
    /// How many have been begun in the background (`total_forks`), and how many have succeeded (`rdb_saves`).
    begun_count: u64,
    saved_count: u64,
    /// The changes that the last one has.
    saved_changes: u64,
}

/// What one shard writes in each of its passes, away from what others write.
#[derive(Default)]
#[repr(align(64))]
struct Count(AtomicU64);

/// One snapshot.
pub struct Plan {
    pub number: u64,
    pub reason: Reason,
    pub began: UnixMs,
    pub form: Form,
    pub usage: Usage,
    pub writing: Writing,
    /// Whose it is, if it is not the data set's own.
    pub order: Option<Arc<dyn Order>>,
    layout: RdbLayout,
    id: SetId,
    /// Of all its files, without what only one of them says.
    head: Head,
    functions: Vec<Vec<u8>>,
    directory: PathBuf,
    /// `dbfilename`
    name: PathBuf,
    shard_count: usize,
    /// What was there under this name when the first part was begun, or why that cannot be found out.
    replaced: OnceLock<Result<Replaced, String>>,
    /// Shards that are not done.
    left: AtomicUsize,
    handed: Mutex<Handed>,
    failure: Mutex<Option<String>>,
    is_given_up: AtomicBool,
    keys_written: AtomicU64,
    captured_peak_bytes: AtomicU64,
    /// How many there had been at the cut.
    changes: AtomicU64,
}

/// What shards have handed in.
#[derive(Default)]
struct Handed {
    /// By their numbers; all that lie in one file.
    parts: Vec<Option<Part>>,
    /// Files of shards, by the shards' numbers.
    files: Vec<Option<Sealed>>,
    /// What one of them had no success with.
    failure: Option<String>,
}

impl Handed {
    fn discard(self, disk: &dyn Disk) {
        self.parts.into_iter().flatten().for_each(|part| part.discard(disk));
        self.files.into_iter().flatten().for_each(|file| file.discard(disk));
    }
}

/// A shard writes two parts, since a large value is written in slices and nothing may come between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    Small,
    Large,
}

/// What to do about a snapshot that was asked for.
pub enum Begun {
    /// The cut is to be made now.
    Now(Arc<Plan>),
    /// It will be made when the last one that was given up is out of the way.
    Later(Arc<Plan>),
}

impl Begun {
    pub fn number(&self) -> u64 {
        match self {
            Begun::Now(plan) | Begun::Later(plan) => plan.number,
        }
    }
}

/// What came of all parts together.
pub enum Whole {
    /// The snapshot was given up, and its parts are gone.
    GivenUp,
    Laid(Result<Laid, String>),
}

/// How a snapshot ended that somebody waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    UnderWay,
    Saved,
    Failed,
}

impl Snapshots {
    /// Of a process that has begun at that time, with so many shards.
    pub fn new(disk: Arc<dyn Disk>, cut: Arc<Cut>, shard_count: usize, started_at: UnixMs) -> Snapshots {
        Snapshots {
            disk,
            cut,
            libraries: Libraries::default(),
            key_delay_us: AtomicI32::new(0),
            changes: (0..shard_count).map(|_| Count::default()).collect(),
            last_has_failed: AtomicBool::new(false),
            was_at_limit: AtomicBool::new(false),
            held_count: AtomicU64::new(0),
            cut_us: AtomicU64::new(0),
            named: AtomicU64::new(0),
            state: Mutex::new(State {
                current: None,
                settling: None,
                is_scheduled: false,
                next_number: 1,
                ids: Random::from_entropy(),
                endings: VecDeque::new(),
                last_saved_at: started_at,
                last_tried_at: UnixMs::EPOCH,
                last_duration: None,
                last_captured_bytes: 0,
                begun_count: 0,
                saved_count: 0,
                saved_changes: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one; None: one is under way.
    pub fn begin(&self, reason: Reason, settings: &Settings, now: UnixMs, used_bytes: usize) -> Option<Begun> {
        self.begin_for(reason, None, settings, now, used_bytes)
    }

    /// The same, for whoever orders it.
    pub fn begin_for(
        &self,
        reason: Reason,
        order: Option<Arc<dyn Order>>,
        settings: &Settings,
        now: UnixMs,
        used_bytes: usize,
    ) -> Option<Begun> {
        let mut state = self.lock();
        if state.current.is_some() {
            return None;
        }
        let number = state.next_number;
        state.next_number += 1;
        if order.is_none() {
            state.is_scheduled = false;
            state.last_tried_at = now;
        }
        state.begun_count += u64::from(reason == Reason::Background);
        let id = SetId(state.ids.next_u64());
        let purpose = (reason, order);
        let mut plan = Plan::new(number, id, purpose, settings, now, used_bytes, self.changes.len());
        plan.functions = self.libraries.codes().clone();
        let plan = Arc::new(plan);
        state.current = Some(plan.clone());
        Some(match state.settling {
            None => Begun::Now(plan),
            Some(_) => Begun::Later(plan),
        })
    }

    /// Remembers that one is to begin as soon as possible.
    pub fn schedule(&self) {
        self.lock().is_scheduled = true;
    }

    /// Whether one was scheduled and none is under way.
    pub fn is_due(&self) -> bool {
        let state = self.lock();
        state.is_scheduled && state.current.is_none()
    }

    /// Forgets one that was scheduled; false if none was.
    pub fn unschedule(&self) -> bool {
        std::mem::take(&mut self.lock().is_scheduled)
    }

    /// Whether something is being written still, be it what was given up.
    pub fn is_writing(&self) -> bool {
        let state = self.lock();
        state.current.is_some() || state.settling.is_some()
    }

    pub fn is_under_way(&self) -> bool {
        self.lock().current.is_some()
    }

    /// Whether the data set is being saved.
    pub fn is_saving(&self) -> bool {
        self.lock().current.as_ref().is_some_and(|plan| plan.order.is_none())
    }

    /// Gives up the saving of the data set. `fails`: it counts as a save that failed. False: there was none.
    pub fn cancel(&self, fails: bool, now: UnixMs) -> bool {
        let mut state = self.lock();
        let Some(plan) = state.current.take_if(|plan| plan.order.is_none()) else {
            return false;
        };
        self.drop_current(&mut state, &plan);
        if fails {
            self.end(&mut state, &plan, now, Err(plan.failure()));
        } else {
            state.note_ending(plan.number, Ending::Failed);
        }
        true
    }

    /// Gives up what was ordered by somebody. False: there was nothing.
    pub fn call_off(&self, now: UnixMs) -> bool {
        let mut state = self.lock();
        let Some(plan) = state.current.take_if(|plan| plan.order.is_some()) else {
            return false;
        };
        self.drop_current(&mut state, &plan);
        state.note_ending(plan.number, Ending::Failed);
        if let Some(order) = &plan.order {
            order.ended(None, plan.elapsed(now), plan.note_captured(0), now);
        }
        true
    }

    fn drop_current(&self, state: &mut State, plan: &Arc<Plan>) {
        plan.give_up("it was cancelled");
        self.cut.close();
        if state.settling.is_none() {
            state.settling = Some(plan.clone());
        }
    }

    /// How many shards there are.
    pub fn shard_count(&self) -> usize {
        self.changes.len()
    }

    /// A shard could not write its part, and has not handed it in.
    pub fn fail(&self, plan: &Arc<Plan>, failure: &str, now: UnixMs) {
        let mut state = self.lock();
        if !plan.give_up(failure) {
            return;
        }
        self.cut.close();
        state.current = None;
        state.settling = Some(plan.clone());
        self.end(&mut state, plan, now, Err(failure.to_owned()));
    }

    /// All shards are done with it. Answers the snapshot whose cut has waited for that.
    pub fn settle(&self, plan: &Arc<Plan>, whole: Whole, now: UnixMs) -> Option<Arc<Plan>> {
        let mut state = self.lock();
        self.cut.close();
        if let Whole::Laid(result) = whole
            && !plan.is_given_up()
        {
            state.current = None;
            self.end(&mut state, plan, now, result);
            return None;
        }
        state.settling = None;
        state.current.clone()
    }

    fn end(&self, state: &mut State, plan: &Plan, now: UnixMs, result: Result<Laid, String>) {
        let ending = if result.is_ok() { Ending::Saved } else { Ending::Failed };
        state.note_ending(plan.number, ending);
        let captured_bytes = plan.note_captured(0);
        if let Some(order) = &plan.order {
            let outcome = result.as_ref().map(|_| ()).map_err(String::as_str);
            return order.ended(Some(outcome), plan.elapsed(now), captured_bytes, now);
        }
        state.last_duration = Some(plan.elapsed(now));
        state.last_captured_bytes = captured_bytes;
        self.last_has_failed.store(result.is_err(), Ordering::Relaxed);
        match result {
            Ok(laid) => {
                state.last_saved_at = plan.began;
                state.saved_count += 1;
                state.saved_changes = plan.changes.load(Ordering::Relaxed);
                tracing::info!("DB saved on disk");
                tracing::debug!(
                    "{} keys in {} bytes, version {}",
                    laid.key_count,
                    laid.bytes,
                    laid.version
                );
                if plan.reason == Reason::Background {
                    tracing::info!("Background saving terminated with success");
                }
            }
            Err(failure) => {
                tracing::warn!("{failure}");
                if plan.reason == Reason::Background {
                    tracing::warn!("Background saving error");
                }
            }
        }
    }

    /// How the snapshot of that number stands.
    pub fn ending(&self, number: u64) -> Ending {
        let state = self.lock();
        let found = state.endings.iter().find(|(ended, _)| *ended == number);
        found.map_or(Ending::UnderWay, |(_, ending)| *ending)
    }

    /// When the last one that succeeded began.
    pub fn last_saved_at(&self) -> UnixMs {
        self.lock().last_saved_at
    }

    /// Obeys parameters that snapshots under way must obey at once.
    pub fn follow(&self, settings: &Settings) {
        self.key_delay_us.store(settings.rdb_key_save_delay, Ordering::Relaxed);
    }

    fn last_has_failed(&self) -> bool {
        self.last_has_failed.load(Ordering::Relaxed)
    }

    /// Publishes what a shard has counted. To be called before slots leave it, so that whoever has them knows all that was changed in them.
    #[inline]
    pub fn publish_changes(&self, shard: ShardId, changes: u64) {
        let Count(published) = &self.changes[usize::from(shard.0)];
        if published.load(Ordering::Relaxed) != changes {
            published.store(changes, Ordering::Relaxed);
        }
    }

    /// The cut is made by that shard, which has counted so many: it holds all slots, so no other one counts any more.
    pub fn note_changes_at_cut(&self, plan: &Plan, shard: ShardId, changes: u64) {
        self.publish_changes(shard, changes);
        plan.changes.store(self.counted_changes(), Ordering::Relaxed);
    }

    /// The changes of all shards.
    fn counted_changes(&self) -> u64 {
        let counts = self.changes.iter();
        counts.map(|Count(changes)| changes.load(Ordering::Relaxed)).sum()
    }

    /// What has been published of changes counts as saved.
    pub fn forget_changes(&self) {
        self.lock().saved_changes = self.counted_changes();
    }

    /// How many of so many changes the last one that was saved lacks.
    pub fn unsaved_changes(&self, changes: u64) -> u64 {
        changes.saturating_sub(self.lock().saved_changes)
    }

    /// Whether a save point wants a snapshot now: changes and seconds, for the log.
    pub fn save_point(&self, settings: &Settings, now: UnixMs) -> Option<(i64, i64)> {
        let state = self.lock();
        if state.current.is_some() || state.settling.is_some() {
            return None;
        }
        if self.last_has_failed() && now.since(state.last_tried_at) <= RETRY_AFTER {
            return None;
        }
        let unsaved = self.counted_changes().saturating_sub(state.saved_changes);
        let points = settings.save.iter();
        let elapsed_s = i64::try_from(now.since(state.last_saved_at).seconds()).unwrap_or(i64::MAX);
        let unsaved = i64::try_from(unsaved).unwrap_or(i64::MAX);
        let mut met = points.filter(|point| unsaved >= point.changes && elapsed_s > point.seconds);
        met.next().map(|point| (point.changes, point.seconds))
    }

    /// How things stand for writers.
    #[inline]
    pub fn state_for_writers(&self, settings: &Settings) -> SnapshotState {
        SnapshotState {
            refuses_writes: self.last_has_failed() && settings.stop_writes_on_bgsave_error && !settings.save.is_empty(),
            is_at_limit: self.cut.is_open() && self.is_at_limit(settings),
            ..SnapshotState::default()
        }
    }

    #[cold]
    fn is_at_limit(&self, settings: &Settings) -> bool {
        let limit = settings.snapshot_memory_max.saturating_mul(self.changes.len() as u64);
        let is_at_limit = self.cut.captured_bytes() as u64 >= limit;
        if is_at_limit && !self.was_at_limit.swap(true, Ordering::Relaxed) {
            self.held_count.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "A snapshot has {limit} bytes of what has changed since it began, as much as snapshot-memory-max allows: writers \
                 of keys that are not saved yet wait"
            );
        } else if !is_at_limit {
            self.was_at_limit.store(false, Ordering::Relaxed);
        }
        is_at_limit
    }

    /// INFO persistence, as far as it is of snapshots; `key_count` and `changes` are what there is now.
    pub fn write_figures(&self, key_count: u64, changes: u64, now: UnixMs, out: &mut Section) {
        let state = self.lock();
        let current = state.current.as_deref();
        let captured = current.map_or(0, |_| self.cut.captured_bytes() as u64);
        let peak = current.map_or(0, |plan| plan.note_captured(captured));
        let written = current.map_or(0, |plan| plan.keys_written.load(Ordering::Relaxed));
        let total = if current.is_some() { key_count.max(written) } else { 0 };
        let percent = if total > 0 {
            100.0 * written as f64 / total as f64
        } else {
            0.0
        };
        let seconds = |duration: Option<Ms>| duration.map_or(-1, |duration| duration.seconds() as i64);
        out.field("current_cow_peak", peak);
        out.field("current_cow_size", captured);
        out.field("current_cow_size_age", 0);
        out.field("current_fork_perc", format_args!("{percent:.2}"));
        out.field("current_save_keys_processed", written);
        out.field("current_save_keys_total", total);
        let unsaved = changes.saturating_sub(state.saved_changes);
        let saving = current.filter(|plan| plan.order.is_none());
        out.field("rdb_changes_since_last_save", unsaved);
        out.field("rdb_bgsave_in_progress", u8::from(saving.is_some()));
        out.field("rdb_last_save_time", state.last_saved_at.seconds());
        out.field(
            "rdb_last_bgsave_status",
            if self.last_has_failed() { "err" } else { "ok" },
        );
        out.field("rdb_last_bgsave_time_sec", seconds(state.last_duration));
        let running = saving.map(|plan| plan.elapsed(now));
        out.field("rdb_current_bgsave_time_sec", seconds(running));
        out.field("rdb_saves", state.saved_count);
        out.field("rdb_last_cow_size", state.last_captured_bytes);
    }

    /// How often writers had to wait because too much was captured.
    pub fn held_count(&self) -> u64 {
        self.held_count.load(Ordering::Relaxed)
    }

    /// Takes away what snapshots of this process have left unfinished. To be called when nothing is saved any more.
    pub fn remove_temporary_files(&self, settings: &Settings) {
        let own = std::process::id();
        // One that was given up too late may be about to rename its files. (`Plan::name_files` looks the other way round.)
        let named = SetId(self.named.load(Ordering::SeqCst));
        set::tidy(&*self.disk, settings.dir.as_path(), |found| {
            found.pid == own && found.id != Some(named)
        });
    }

    /// A cut took so long.
    pub fn note_cut(&self, elapsed_us: u64) {
        self.cut_us.store(elapsed_us, Ordering::Relaxed);
    }

    /// How long the last cut took, in microseconds.
    pub fn last_cut_us(&self) -> u64 {
        self.cut_us.load(Ordering::Relaxed)
    }

    /// How many were begun in the background.
    pub fn begun_count(&self) -> u64 {
        self.lock().begun_count
    }
}

impl State {
    fn note_ending(&mut self, number: u64, ending: Ending) {
        if self.endings.len() == ENDINGS_MAX {
            self.endings.pop_front();
        }
        self.endings.push_back((number, ending));
    }
}

impl Plan {
    fn new(
        number: u64,
        id: SetId,
        (reason, order): (Reason, Option<Arc<dyn Order>>),
        settings: &Settings,
        now: UnixMs,
        used_bytes: usize,
        shard_count: usize,
    ) -> Plan {
        let layout = match order {
            // What is part of something else is one file.
            Some(_) => RdbLayout::Merged,
            None => settings.rdb_layout,
        };
        let syncs_on_the_way = match order {
            Some(_) => settings.aof_rewrite_incremental_fsync,
            None => settings.rdb_save_incremental_fsync,
        };
        Plan {
            number,
            reason,
            began: now,
            form: order
                .as_ref()
                .map_or_else(|| Form::of(settings), |order| order.form(settings)),
            usage: usage_of(settings),
            writing: Writing {
                syncs_on_the_way,
                has_checksum: settings.rdbchecksum,
            },
            layout,
            id,
            head: Head {
                redis_version: REDIS_VERSION,
                created_at: now,
                used_bytes: used_bytes as u64,
                fields: Vec::new(),
                is_base: order.as_ref().is_some_and(|order| order.is_base()),
                part_count: match layout {
                    RdbLayout::Merged => 2 * shard_count,
                    RdbLayout::PerShard => 2,
                },
                functions: Vec::new(),
            },
            order,
            functions: Vec::new(),
            directory: settings.dir.as_path().to_owned(),
            name: settings.dbfilename.as_path().to_owned(),
            shard_count,
            replaced: OnceLock::new(),
            left: AtomicUsize::new(shard_count),
            handed: Mutex::new(Handed {
                parts: (0..2 * shard_count).map(|_| None).collect(),
                files: (0..shard_count).map(|_| None).collect(),
                failure: None,
            }),
            failure: Mutex::new(None),
            is_given_up: AtomicBool::new(false),
            keys_written: AtomicU64::new(0),
            captured_peak_bytes: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }

    fn elapsed(&self, now: UnixMs) -> Ms {
        Ms(now.since(self.began).0)
    }

    /// Remembers how much was captured at most; answers that.
    pub fn note_captured(&self, bytes: u64) -> u64 {
        self.captured_peak_bytes.fetch_max(bytes, Ordering::Relaxed).max(bytes)
    }

    /// Whether nothing of it is saved any more.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::SeqCst)
    }

    /// False: it was given up before.
    fn give_up(&self, why: &str) -> bool {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_some() {
            return false;
        }
        *failure = Some(why.to_owned());
        self.is_given_up.store(true, Ordering::SeqCst);
        true
    }

    fn failure(&self) -> String {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().unwrap_or_default()
    }

    /// Where a part is written.
    fn part_path(&self, number: usize) -> PathBuf {
        let temporary = Temporary {
            pid: std::process::id(),
            id: Some(self.id),
            number,
        };
        self.directory.join(temporary.name())
    }

    /// Begins a part of a shard. Blocks.
    pub fn create_part(&self, disk: &dyn Disk, shard: ShardId, kind: PartKind) -> Result<Part, String> {
        let number = self.number_of(shard, kind);
        let path = self.part_path(number);
        let failed = |error: &dyn std::fmt::Display| {
            format!(
                "Failed opening the temp RDB file {} for saving: {error}",
                path.display()
            )
        };
        let replaced = self.replaced(disk).as_ref().map_err(|error| failed(error))?;
        let begins = self.file_of(number).filter(|_| !self.is_script());
        let head = begins.map(|index| self.head_of_file(index, replaced));
        Part::create(disk, &path, self.writing, head).map_err(|error| {
            // The file may be there, without what belongs into it; mostly it is not.
            let _ = disk.remove(&path);
            failed(&error)
        })
    }

    /// Whether it is written as commands.
    pub fn is_script(&self) -> bool {
        self.order.as_ref().is_some_and(|order| order.is_script())
    }

    fn number_of(&self, shard: ShardId, kind: PartKind) -> usize {
        let shard = usize::from(shard.0);
        match kind {
            PartKind::Small => shard,
            PartKind::Large => self.shard_count + shard,
        }
    }

    /// How many files it is.
    fn file_count(&self) -> usize {
        match self.layout {
            RdbLayout::Merged => 1,
            RdbLayout::PerShard => self.shard_count,
        }
    }

    /// The file that begins with this part.
    fn file_of(&self, part_number: usize) -> Option<usize> {
        (part_number < self.file_count()).then_some(part_number)
    }

    /// The final name of a file.
    fn path_of_file(&self, index: usize) -> PathBuf {
        match self.layout {
            RdbLayout::Merged => self.directory.join(&self.name),
            RdbLayout::PerShard => self.directory.join(set::name_of(&self.name, index, self.file_count())),
        }
    }

    fn head_of_file(&self, index: usize, replaced: &Replaced) -> Head {
        let member = Member {
            id: self.id,
            index,
            count: self.file_count(),
        };
        Head {
            fields: match &self.order {
                Some(order) => order.fields(),
                None => replaced.told(member),
            },
            // A library must not stand twice in what is one data set.
            functions: match index {
                0 => self.functions.clone(),
                _ => Vec::new(),
            },
            ..self.head.clone()
        }
    }

    fn replaced(&self, disk: &dyn Disk) -> &Result<Replaced, String> {
        let find = || match self.order {
            Some(_) => Ok(Replaced::default()),
            None => Replaced::find(disk, &self.directory, &self.name).map_err(|error| error.to_string()),
        };
        self.replaced.get_or_init(find)
    }

    /// Says that so many keys are written, having slept as `rdb-key-save-delay` says. Blocks for that long, but not when the snapshot is
    /// given up.
    pub fn count_keys(&self, snapshots: &Snapshots, count: u64) {
        let delay = |snapshots: &Snapshots| snapshots.key_delay_us.load(Ordering::Relaxed);
        if delay(snapshots) == 0 {
            self.keys_written.fetch_add(count, Ordering::Relaxed);
            return;
        }
        for key in 1..=count {
            // A negative one is so many keys for each microsecond.
            let each = match delay(snapshots) {
                us @ 0.. => Duration::from_micros(us.unsigned_abs().into()),
                keys if key % u64::from(keys.unsigned_abs()) == 0 => Duration::from_micros(1),
                _ => Duration::ZERO,
            };
            let mut slept = Duration::ZERO;
            while slept < each && delay(snapshots) != 0 && !self.is_given_up() {
                let step = DELAY_STEP.min(each - slept);
                std::thread::sleep(step);
                slept += step;
            }
            self.keys_written.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A shard hands in its parts; of large values it need not have one. Where each shard has a file, it lays it together here. The last shard
    /// lays all together, if that is not done, and gives the whole its name, or takes away what there is; the others get None. Blocks.
    pub fn hand_in(
        &self,
        snapshots: &Snapshots,
        shard: ShardId,
        parts: Result<[Option<Part>; 2], String>,
    ) -> Option<Whole> {
        let disk = &*snapshots.disk;
        let is_alone = self.layout == RdbLayout::PerShard && !self.is_given_up();
        let (parts, file) = match parts {
            Ok(parts) if is_alone => (Ok([None, None]), self.lay(disk, parts.into_iter().flatten().collect())),
            parts => (parts, Ok(None)),
        };
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        match parts {
            Ok([small, large]) => {
                handed.parts[self.number_of(shard, PartKind::Small)] = small;
                handed.parts[self.number_of(shard, PartKind::Large)] = large;
            }
            Err(failure) => handed.failure = Some(failure),
        }
        match file {
            Ok(file) => handed.files[usize::from(shard.0)] = file,
            Err(failure) => handed.failure = Some(failure),
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return None;
        }
        let mut handed = std::mem::take(&mut *handed);
        if self.is_given_up() {
            handed.discard(disk);
            return Some(Whole::GivenUp);
        }
        if let Some(failure) = handed.failure.take() {
            handed.discard(disk);
            return Some(Whole::Laid(Err(failure)));
        }
        if self.layout == RdbLayout::Merged {
            let parts = std::mem::take(&mut handed.parts);
            match self.lay(disk, parts.into_iter().flatten().collect()) {
                Ok(file) => handed.files = vec![file],
                Err(failure) => return Some(Whole::Laid(Err(failure))),
            }
        }
        Some(self.name_files(snapshots, handed))
    }

    /// None: there are no parts, since it was given up in the middle.
    fn lay(&self, disk: &dyn Disk, parts: Vec<Part>) -> Result<Option<Sealed>, String> {
        if parts.is_empty() {
            return Ok(None);
        }
        lay(disk, parts).map(Some).map_err(|error| self.failed_to_lay(&error))
    }

    fn failed_to_lay(&self, error: &std::io::Error) -> String {
        format!(
            "Error moving temp DB file on the final destination {}: {error}",
            self.path_of_file(0).display()
        )
    }

    /// Gives the files their names.
    fn name_files(&self, snapshots: &Snapshots, mut handed: Handed) -> Whole {
        let disk = &*snapshots.disk;
        snapshots.named.store(self.id.0, Ordering::SeqCst);
        if self.is_given_up() {
            // Perhaps by the end of the process, which takes such files away.
            handed.discard(disk);
            return Whole::GivenUp;
        }
        if let Some(order) = &self.order {
            let file = handed.files.pop().flatten().expect("all parts lie in one file");
            let mut laid = Laid::default();
            laid.add(&file);
            let named = order.name(&file);
            if named.is_err() {
                file.discard(disk);
            }
            return Whole::Laid(named.map(|()| laid));
        }
        let files = std::mem::take(&mut handed.files).into_iter().enumerate();
        let files = files.map(|(index, file)| {
            let file = file.expect("each shard has handed its file in");
            (file, self.path_of_file(index))
        });
        let replaced = self.replaced(disk).as_ref();
        let replaced = replaced.expect("parts were begun only when this was known");
        let laid = set::commit(disk, &self.directory, files.collect(), replaced);
        Whole::Laid(laid.map_err(|error| self.failed_to_lay(&error)))
    }
}
