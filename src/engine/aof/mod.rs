//! The append-only file of the process: whether there is one, what its files are, and how the last rewrite ended.
//!
//! ```text
//!         begin (at the start), or a first rewrite that succeeds
//!  off ------------------------------------------------------------> on
//!   |  ^-------------------------- turn_off ------------------------- |
//!   |                                                                 | begin_rewrite .. ended: on, whatever comes of it
//!   '-- turn_on --> waiting for the first rewrite: increments under temporary names, not in the manifest; tried again until it succeeds
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `increment` | a file that is appended to, and how chunks stand in it |
//! | `writers` | how shards write, and what happens when that fails |
//! | `sync` | when what is written comes to the disk |
//! | `files` | the manifest: which files there are |
//! | `rewrite` | a generation of increments and the base before it, from its beginning to its name |
//!
//! A *generation* is as many increments as are written at a time. It begins at a start and with each rewrite, and is in the
//! manifest, on the disk, before anything is written into it. A rewrite is a snapshot ([`Order`]): at its cut every shard goes on in the new
//! generation, and when the snapshot is whole it is the new base, and all files from before are history.
//!
//! Two locks: that of the figures is held for moments, that of the files while files are made and renamed, by threads that may wait. Who has
//! the second may take the first.

mod files;
mod increment;
mod rewrite;
mod sync;
mod writers;

pub use self::files::Directory;
pub use self::rewrite::Rewrite;
pub use self::sync::Sync;
pub use self::writers::Writers;

use self::files::Files;
use self::increment::Increment;
use self::writers::{Merged, MergedFile, OwnFile};
use crate::base::clock::{Ms, UnixMs};
use crate::base::section::Section;
use crate::config::{AofLayout, AppendFsync, Settings};
use crate::engine::log::{LogFile, LogSwitch};
use crate::engine::snapshot::Snapshots;
use crate::persist::aof::recovered::Recovered;
use crate::runtime::disk::Disk;
use crate::shard::ShardId;
use crate::shard::turns::Turns;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// From so many rewrites on that have failed one after the other, automatic ones are put off, as in Redis.
const FAILURES_UNTIL_DELAY: u64 = 3;

/// The longest that they are put off.
const DELAY_MAX: Ms = Ms(60 * 60 * 1000);
const DELAY_FIRST: Ms = Ms(60 * 1000);

/// Whether there is an append-only file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Off,
    On,
    /// It was turned on while the process ran, and has no base yet.
    Waiting,
}

/// See the essay above.
pub struct Aof {
    pub writers: Arc<Writers>,
    pub(super) disk: Arc<dyn Disk>,
    turns: Arc<Turns>,
    log_switch: LogSwitch,
    /// How many shards have increments of their own; None: one is written for all.
    annotated: Option<u16>,
    /// All shards write one file.
    merged: Option<Arc<Merged>>,
    mode: AtomicU8,
    /// While the mode is not `Off`.
    files: Mutex<Option<Files>>,
    /// Changes with each `turn_on` and `turn_off`: a rewrite that was begun before is of no use.
    era: AtomicU64,
    figures: Mutex<Figures>,
    delayed_count: AtomicU64,
    /// `aof-disable-auto-gc`
    keeps_history: AtomicBool,
}

/// What INFO tells, and what rewrites are decided by.
struct Figures {
    /// The increments that are written now.
    increments: Vec<Arc<Increment>>,
    /// Bytes of the files before them.
    older_bytes: u64,
    /// How much there was after the last rewrite, or at the start.
    base_bytes: u64,
    is_scheduled: bool,
    /// Of the rewrite under way.
    began: Option<UnixMs>,
    /// It could not begin, since somebody was quicker, and is to begin when that is over.
    prepared: Option<Arc<Rewrite>>,
    last_duration: Option<Ms>,
    last_has_failed: bool,
    last_captured_bytes: u64,
    rewrite_count: u64,
    failures_in_a_row: u64,
    delay: Ms,
    next_try_at: Option<UnixMs>,
}

impl Aof {
    /// None yet. `is_simulated`: no thread is started.
    pub fn new(
        disk: Arc<dyn Disk>,
        turns: Arc<Turns>,
        snapshots: Arc<Snapshots>,
        log_switch: LogSwitch,
        settings: &Settings,
        is_simulated: bool,
    ) -> Aof {
        let shard_count = snapshots.shard_count();
        let is_merged = shard_count > 1 && settings.aof_layout == AofLayout::Single;
        let place_count = if is_merged { 1 } else { shard_count };
        let writers = Writers::new(turns.clone(), snapshots, place_count, is_simulated);
        writers.follow(settings);
        Aof {
            writers: Arc::new(writers),
            disk,
            turns,
            log_switch,
            annotated: (place_count > 1).then_some(place_count as u16),
            merged: is_merged.then(|| Arc::new(Merged::new())),
            mode: AtomicU8::new(Mode::Off as u8),
            files: Mutex::new(None),
            era: AtomicU64::new(0),
            figures: Mutex::new(Figures {
                increments: Vec::new(),
                older_bytes: 0,
                base_bytes: 0,
                is_scheduled: false,
                began: None,
                prepared: None,
                last_duration: None,
                last_has_failed: false,
                last_captured_bytes: 0,
                rewrite_count: 0,
                failures_in_a_row: 0,
                delay: Ms::ZERO,
                next_try_at: None,
            }),
            delayed_count: AtomicU64::new(0),
            keeps_history: AtomicBool::new(settings.aof_disable_auto_gc),
        }
    }

    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::SeqCst) {
            mode if mode == Mode::On as u8 => Mode::On,
            mode if mode == Mode::Waiting as u8 => Mode::Waiting,
            _ => Mode::Off,
        }
    }

    fn enter(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
        self.obey_policy();
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_files(&self) -> MutexGuard<'_, Option<Files>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works by these settings from now on.
    pub fn follow(&self, settings: &Settings) {
        self.writers.follow(settings);
        self.keeps_history
            .store(settings.aof_disable_auto_gc, Ordering::Relaxed);
        if self.mode() == Mode::On {
            self.obey_policy();
        }
    }

    /// Replies wait for the disk where there is a file and `always`.
    fn obey_policy(&self) {
        let durable = &self.turns.durable;
        let holds = self.writers.policy() == AppendFsync::Always && self.mode() == Mode::On;
        if durable.holds() != holds {
            durable.hold(holds);
        }
    }

    /// What a shard writes its chunks to.
    fn file(&self, increments: &[Arc<Increment>], shard: ShardId) -> Option<Box<dyn LogFile + Send>> {
        let writers = self.writers.clone();
        if let Some(merged) = &self.merged {
            return Some(Box::new(MergedFile {
                writers,
                merged: merged.clone(),
                handed_in: None,
            }));
        }
        let place = self.writers.place_of(shard);
        Some(Box::new(OwnFile {
            writers,
            increment: increments.get(place)?.clone(),
            place,
            buffer: Vec::new(),
        }))
    }

    /// At the start: what that shard writes its chunks to, if there is an append-only file.
    pub fn file_of(&self, shard: ShardId) -> Option<Box<dyn LogFile + Send>> {
        let increments = self.figures().increments.clone();
        (self.mode() != Mode::Off)
            .then(|| self.file(&increments, shard))
            .flatten()
    }

    /// At the start, before anybody is served: goes on behind what was found, in a new generation. What was found may be nothing. Blocks.
    pub fn begin(&self, directory: Directory, found: Recovered) -> Result<(), String> {
        let Recovered {
            manifest,
            next_number,
            last_turn,
            end_offset,
            mut base_bytes,
            mut bytes,
        } = found;
        self.turns.begin_at(next_number, last_turn, end_offset);
        let mut files = Files::new(self.disk.clone(), directory, manifest, self.annotated);
        files.make_directory()?;
        // A process that has died before its first rewrite was over has left them.
        files.remove_temporary();
        files.tidy();
        files.life = next_number;
        if files.is_empty() {
            base_bytes = files.add_empty_base(next_number)?;
            bytes = base_bytes;
        }
        let increments = files.add_generation("on server start")?;
        if files.has_history() && !self.keeps_history.load(Ordering::Relaxed) {
            // The process of before did not come to it.
            files.remove_history();
        }
        *self.lock_files() = Some(files);
        self.log_switch.hold();
        self.adopt(&increments, next_number)?;
        let mut figures = self.figures();
        figures.increments = increments;
        figures.older_bytes = bytes;
        figures.base_bytes = base_bytes;
        drop(figures);
        self.writers
            .start_threads()
            .map_err(|error| format!("Can't start the threads that sync the append-only file: {error}"))?;
        self.enter(Mode::On);
        Ok(())
    }

    /// Has these increments written and synced from here on, if that is one place for all.
    fn adopt(&self, increments: &[Arc<Increment>], next_number: u64) -> Result<(), String> {
        for (place, increment) in self.writers.places.iter().zip(increments) {
            let again = increment.again();
            place.follow(again.map_err(|error| format!("Can't open the append-only file: {error}"))?);
        }
        if let (Some(merged), Some(increment)) = (&self.merged, increments.first()) {
            merged.switch(Some(increment.clone()), next_number);
        }
        Ok(())
    }

    /// From here on everything is logged that passes log which begin now.
    pub fn log_everything(&self) {
        self.log_switch.hold();
    }

    /// It need not be.
    pub fn log_nothing(&self) {
        self.log_switch.let_go();
    }

    /// While the process runs: from now on there is an append-only file, as soon as it has a base. The increments are made by the first
    /// rewrite. Everything is logged by now. Blocks.
    pub fn turn_on(&self, directory: Directory) -> Result<(), String> {
        let files = Files::find(self.disk.clone(), directory, self.annotated)?;
        self.writers
            .start_threads()
            .map_err(|error| format!("Can't start the threads that sync the append-only file: {error}"))?;
        *self.lock_files() = Some(files);
        self.era.fetch_add(1, Ordering::SeqCst);
        self.figures().is_scheduled = true;
        self.enter(Mode::Waiting);
        Ok(())
    }

    /// Nothing more is written, and nobody waits for what is not.
    pub fn close(&self) {
        self.era.fetch_add(1, Ordering::SeqCst);
        self.enter(Mode::Off);
        if let Some(merged) = &self.merged {
            merged.switch(None, 0);
        }
    }

    /// There is none any more, and all that was written to it is on the disk. To be called when it was closed, and no shard writes to it.
    /// Blocks.
    pub fn turn_off(&self) {
        self.writers.retry();
        if let Err(error) = self.writers.sync_all() {
            tracing::warn!("Fail to fsync the AOF file: {error}");
        }
        self.writers.forget();
        self.writers.places.iter().for_each(|place| place.close());
        if let Some(files) = self.lock_files().take() {
            files.remove_temporary();
        }
        let mut figures = self.figures();
        figures.increments.clear();
        figures.older_bytes = 0;
        figures.prepared = None;
        figures.is_scheduled = false;
        figures.next_try_at = None;
    }

    /// At the end of the process: writes and syncs what there is. Blocks.
    pub fn finish(&self) -> Result<(), String> {
        self.writers.retry();
        self.writers.sync_all()
    }

    /// Syncs the increment that is written now, if it is plain. Blocks.
    fn sync_plain(&self) -> io::Result<()> {
        let increment = match self.annotated {
            None => self.figures().increments.first().cloned(),
            Some(_) => None,
        };
        // (Not under its lock, which a shard would wait for.)
        increment.map_or(Ok(()), |increment| increment.again()?.sync())
    }

    /// Bytes of all files that a start would read.
    fn current_bytes(figures: &Figures) -> u64 {
        let increments = figures.increments.iter().map(|increment| increment.bytes());
        figures.older_bytes + increments.sum::<u64>()
    }

    /// Claims the right to begin a rewrite; false: one is under way.
    pub(super) fn claim(&self, now: UnixMs) -> bool {
        let mut figures = self.figures();
        if figures.began.is_some() {
            return false;
        }
        figures.began = Some(now);
        figures.is_scheduled = false;
        figures.rewrite_count += 1;
        true
    }

    /// Whether one is under way.
    pub fn is_rewriting(&self) -> bool {
        self.figures().began.is_some()
    }

    /// What was made for one that could not begin.
    pub(super) fn take_prepared(&self) -> Option<Arc<Rewrite>> {
        let prepared = self.figures().prepared.take();
        prepared.filter(|rewrite| rewrite.is_of_now())
    }

    /// It cannot begin now, and is to begin as soon as it can.
    pub(super) fn put_off(&self, rewrite: Arc<Rewrite>) {
        let mut figures = self.figures();
        figures.prepared = Some(rewrite);
        figures.began = None;
        figures.is_scheduled = true;
        figures.rewrite_count -= 1;
    }

    /// The rewrite under way has ended. `succeeded`: None: it was called off.
    pub(super) fn note_rewrite(&self, succeeded: Option<bool>, elapsed: Option<Ms>, captured_bytes: u64) {
        let waits = self.mode() == Mode::Waiting;
        let mut figures = self.figures();
        figures.began = None;
        figures.last_captured_bytes = captured_bytes;
        if elapsed.is_some() {
            figures.last_duration = elapsed;
        }
        match succeeded {
            Some(true) => {
                figures.last_has_failed = false;
                figures.failures_in_a_row = 0;
            }
            Some(false) => {
                figures.last_has_failed = true;
                figures.failures_in_a_row += 1;
            }
            None => {}
        }
        // What has no base yet must get one.
        figures.is_scheduled |= waits && succeeded != Some(true);
    }

    /// Somebody wants one at once, however many have failed.
    pub(super) fn forget_failures(&self) {
        self.figures().failures_in_a_row = 0;
    }

    /// Remembers that a rewrite is to begin as soon as possible.
    pub fn schedule(&self) {
        self.figures().is_scheduled = true;
    }

    /// Whether a rewrite is to begin now, nothing else being under way: it was asked for, or the file has grown enough.
    pub fn is_due(&self, settings: &Settings, now: UnixMs) -> bool {
        if self.writers.is_stopped() {
            return false;
        }
        let mut figures = self.figures();
        if figures.is_scheduled {
            return self.mode() != Mode::Waiting || !figures.is_put_off(now);
        }
        let percentage = u64::from(settings.auto_aof_rewrite_percentage);
        let current = Self::current_bytes(&figures);
        if self.mode() != Mode::On || percentage == 0 || current <= settings.auto_aof_rewrite_min_size {
            return false;
        }
        let base = figures.base_bytes.max(1);
        let growth = (u128::from(current) * 100 / u128::from(base)).saturating_sub(100);
        if growth < u128::from(percentage) || figures.is_put_off(now) {
            return false;
        }
        tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
        true
    }

    /// INFO persistence, as far as it is of the append-only file.
    pub fn write_figures(&self, now: UnixMs, out: &mut Section) {
        let figures = self.figures();
        let seconds = |duration: Option<Ms>| duration.map_or(-1, |duration| duration.seconds() as i64);
        let status = |is_bad: bool| if is_bad { "err" } else { "ok" };
        let is_rewriting = figures.began.is_some();
        let running = figures.began.map(|began| Ms(now.since(began).0));
        out.field("aof_enabled", u8::from(self.mode() != Mode::Off));
        out.field("aof_rewrite_in_progress", u8::from(is_rewriting));
        out.field("aof_rewrite_scheduled", u8::from(figures.is_scheduled));
        out.field("aof_last_rewrite_time_sec", seconds(figures.last_duration));
        out.field("aof_current_rewrite_time_sec", seconds(running));
        out.field("aof_last_bgrewrite_status", status(figures.last_has_failed));
        out.field("aof_rewrites", figures.rewrite_count);
        out.field("aof_rewrites_consecutive_failures", figures.failures_in_a_row);
        out.field("aof_last_write_status", status(self.writers.refuses()));
        out.field("aof_last_cow_size", figures.last_captured_bytes);
    }

    /// The fields that stand there only where there is a file.
    pub fn write_sizes(&self, out: &mut Section) {
        if self.mode() == Mode::Off {
            return;
        }
        let figures = self.figures();
        out.field("aof_current_size", Self::current_bytes(&figures));
        out.field("aof_base_size", figures.base_bytes);
        out.field("aof_pending_rewrite", u8::from(figures.is_scheduled));
        out.field("aof_buffer_length", self.writers.waiting_bytes());
        out.field("aof_pending_bio_fsync", self.writers.syncs_under_way());
        out.field("aof_delayed_fsync", self.delayed_count.load(Ordering::Relaxed));
    }

    /// So many syncs have turned out to take long.
    pub fn count_delayed(&self, count: usize) {
        self.delayed_count.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// `CONFIG RESETSTAT`
    pub fn reset_counts(&self) {
        self.delayed_count.store(0, Ordering::Relaxed);
    }
}

impl Figures {
    /// Whether automatic rewrites are put off, since too many have failed.
    fn is_put_off(&mut self, now: UnixMs) -> bool {
        if self.failures_in_a_row < FAILURES_UNTIL_DELAY {
            (self.delay, self.next_try_at) = (Ms::ZERO, None);
            return false;
        }
        if let Some(at) = self.next_try_at {
            if now >= at {
                self.next_try_at = None;
            }
            return now < at;
        }
        self.delay = match self.delay {
            Ms::ZERO => DELAY_FIRST,
            Ms(delay) => Ms((2 * delay).min(DELAY_MAX.0)),
        };
        self.next_try_at = Some(now + self.delay);
        tracing::warn!(
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {} minutes",
            self.delay.seconds() / 60
        );
        true
    }
}

#[cfg(test)]
mod tests;
