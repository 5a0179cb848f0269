//! How chunks come into increments, and what happens when they do not.
//!
//! A shard writes the chunk of its pass itself, into the page cache. Where each shard has increments of its own ([`OwnFile`]), that is all. Where
//! all shards write one file ([`MergedFile`]), chunks are handed in, and whoever brings the next log number writes all that follow each other from
//! there; a chunk counts as written when its number is.
//!
//! **A write that fails** (rule 6). Under `appendfsync always` the process ends before anything that came of it is released. Otherwise the whole
//! process stops writing: the failed chunk is taken back, it and every later one go into one waiting list, and what had run is answered as it
//! ran. Writes are refused from then on, nothing expires and nothing is evicted. Again and again ([`Writers::retry`]) the list is
//! written in the order of numbers, each chunk into the increment that it was meant for; when nothing is left in it, the stop is over.
//!
//! ```text
//!  write --ok--> counts as written            stopped: write --> waiting list --retry, in order of numbers--> increments
//!    '--error--> taken back --> stopped                               '--> counts as written, for those who wait in their passes
//! ```
//!
//! Invariants: (1) while the process is stopped nothing is written but by `retry`, and no sync begins; (2) within an increment chunks stand
//! in the order of their numbers, stop or no stop.

use super::increment::{Failed, Increment, Tail, clear};
use super::sync::Place;
use crate::base::clock::{Ticks, UnixMs};
use crate::config::{AppendFsync, Settings};
use crate::engine::log::{Chunk, LogFile};
use crate::engine::snapshot::Snapshots;
use crate::shard::ShardId;
use crate::shard::turns::Turns;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a write that fails again and again is logged, as in Redis.
const LOGGED_EVERY_NS: u64 = 30_000_000_000;

/// What all writers and syncers of a process share.
pub struct Writers {
    pub(super) turns: Arc<Turns>,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) places: Box<[Place]>,
    /// Without threads, whoever simulates syncs; and the process does not end, but is dead.
    pub(super) is_simulated: bool,
    is_dead: AtomicBool,
    is_stopped: AtomicBool,
    stop: Mutex<Stop>,
    /// `errno` of the last sync, if that has failed.
    pub(super) sync_errno: AtomicI32,
    pub(super) has_lost: AtomicBool,
    /// How many syncs have failed.
    pub(super) failed_syncs: AtomicU64,
    policy: AtomicU8,
    pub(super) spares_disk_meanwhile: AtomicBool,
    stamps: AtomicBool,
    /// `latency-monitor-threshold`
    pub(super) latency_ms: AtomicU64,
    /// `DEBUG AOF-FLUSH-SLEEP`
    pub flush_sleep_us: AtomicU64,
    has_slow: AtomicBool,
    slow: Mutex<Vec<(&'static str, u64)>>,
}

/// What waits while the process is stopped.
#[derive(Default)]
struct Stop {
    is_on: bool,
    /// By the number of the first chunk in it.
    waiting: BTreeMap<u64, Waiting>,
    errno: i32,
    logged_at: Option<Ticks>,
}

struct Waiting {
    increment: Arc<Increment>,
    bytes: Vec<u8>,
}

impl Writers {
    pub(super) fn new(turns: Arc<Turns>, snapshots: Arc<Snapshots>, place_count: usize, is_simulated: bool) -> Writers {
        Writers {
            turns,
            snapshots,
            places: (0..place_count).map(|_| Place::default()).collect(),
            is_simulated,
            is_dead: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            stop: Mutex::default(),
            sync_errno: AtomicI32::new(0),
            has_lost: AtomicBool::new(false),
            failed_syncs: AtomicU64::new(0),
            policy: AtomicU8::new(AppendFsync::Everysec as u8),
            spares_disk_meanwhile: AtomicBool::new(false),
            stamps: AtomicBool::new(false),
            latency_ms: AtomicU64::new(0),
            flush_sleep_us: AtomicU64::new(0),
            has_slow: AtomicBool::new(false),
            slow: Mutex::default(),
        }
    }

    /// Works by these settings from now on.
    pub fn follow(&self, settings: &Settings) {
        let threshold = settings.latency_monitor_threshold;
        self.latency_ms.store(threshold, Ordering::Relaxed);
        self.stamps.store(settings.aof_timestamp_enabled, Ordering::Relaxed);
        let spares = settings.no_appendfsync_on_rewrite;
        self.spares_disk_meanwhile.store(spares, Ordering::Relaxed);
        let policy = settings.appendfsync as u8;
        if self.policy.swap(policy, Ordering::SeqCst) != policy {
            (0..self.places.len()).for_each(|place| self.places[place].rouse());
        }
    }

    pub(super) fn policy(&self) -> AppendFsync {
        match self.policy.load(Ordering::SeqCst) {
            policy if policy == AppendFsync::Always as u8 => AppendFsync::Always,
            policy if policy == AppendFsync::No as u8 => AppendFsync::No,
            _ => AppendFsync::Everysec,
        }
    }

    /// How many files are appended to at a time.
    pub fn place_count(&self) -> usize {
        self.places.len()
    }

    /// Which increments a shard writes.
    pub(super) fn place_of(&self, shard: ShardId) -> usize {
        usize::from(shard.0) % self.places.len()
    }

    /// Whether nothing can be written, or the last sync has failed: writes are refused.
    #[inline]
    pub fn refuses(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed) || self.sync_errno.load(Ordering::Relaxed) != 0
    }

    /// Whether nothing can be written.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// What waits is of no use any more.
    pub(super) fn forget(&self) {
        *self.lock_stop() = Stop::default();
        self.is_stopped.store(false, Ordering::SeqCst);
        self.sync_errno.store(0, Ordering::SeqCst);
    }

    /// Whether something was lost since this was last asked: a sync has failed, and what the kernel has dropped nobody will write again.
    pub fn take_lost(&self) -> bool {
        self.has_lost.swap(false, Ordering::SeqCst)
    }

    /// What went wrong, in the system's words.
    pub fn reason(&self) -> &'static str {
        let errno = match self.is_stopped.load(Ordering::Relaxed) {
            true => self.lock_stop().errno,
            false => self.sync_errno.load(Ordering::Relaxed),
        };
        text_of(errno)
    }

    /// Bytes that wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        let stop = self.lock_stop();
        stop.waiting.values().map(|waiting| waiting.bytes.len()).sum()
    }

    /// Whether the process would have ended, were it not simulated.
    pub fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }

    /// Ends the process: nobody may see what cannot be kept.
    pub(super) fn die(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
        if !self.is_simulated {
            std::process::exit(1);
        }
    }

    /// Does something that nobody may do while the process is stopped; None: it is.
    pub(super) fn unless_stopped<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let stop = self.lock_stop();
        (!stop.is_on).then(work)
    }

    fn lock_stop(&self) -> MutexGuard<'_, Stop> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamp_s(&self) -> Option<u64> {
        let stamps = self.stamps.load(Ordering::Relaxed);
        stamps.then(|| UnixMs::now().seconds())
    }

    /// Appends what is encoded, of chunks from that number on. False: never.
    fn append(&self, increment: &Arc<Increment>, tail: &mut Tail, number: u64, bytes: &[u8]) -> bool {
        if self.is_dead() {
            return false;
        }
        if self.is_stopped.load(Ordering::SeqCst) {
            let mut stop = self.lock_stop();
            if stop.is_on {
                stop.wait(number, increment, bytes);
                return true;
            }
        }
        let sleep_us = self.flush_sleep_us.load(Ordering::Relaxed);
        if sleep_us > 0 {
            std::thread::sleep(Duration::from_micros(sleep_us));
        }
        let began = (self.latency_ms.load(Ordering::Relaxed) > 0).then(Ticks::now);
        let outcome = increment.append(tail, bytes);
        if let Some(began) = began {
            self.note_write(Ticks::now().ns_since(began) / 1_000_000);
        }
        match outcome {
            Ok(()) => true,
            Err(failed) => self.fail(increment, number, bytes, failed),
        }
    }

    #[cold]
    fn fail(&self, increment: &Arc<Increment>, number: u64, bytes: &[u8], failed: Failed) -> bool {
        let mut stop = self.lock_stop();
        stop.say(&failed, bytes.len());
        if self.policy() == AppendFsync::Always {
            tracing::warn!("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...");
            drop(stop);
            self.die();
            return false;
        }
        stop.is_on = true;
        stop.errno = errno_of(&failed.error);
        stop.wait(number, increment, bytes);
        self.is_stopped.store(true, Ordering::SeqCst);
        true
    }

    /// Writes what waits, if something does. Blocks as long as writes do.
    pub fn retry(&self) {
        while self.is_stopped.load(Ordering::SeqCst) {
            let mut stop = self.lock_stop();
            let Some((number, Waiting { increment, bytes })) = stop.waiting.pop_first() else {
                stop.is_on = false;
                stop.logged_at = None;
                self.is_stopped.store(false, Ordering::SeqCst);
                tracing::warn!("AOF write error looks solved, the server can write again.");
                return;
            };
            // What a shard has in hand it puts behind this.
            drop(stop);
            let outcome = increment.append(&mut increment.lock(), &bytes);
            if let Err(failed) = outcome {
                let mut stop = self.lock_stop();
                stop.say(&failed, bytes.len());
                stop.waiting.insert(number, Waiting { increment, bytes });
                return;
            }
        }
    }

    /// A write took so long, beside what else is going on.
    pub(super) fn note_write(&self, elapsed_ms: u64) {
        let is_syncing = self.places.iter().any(Place::is_syncing);
        let event = match (is_syncing, self.snapshots.is_under_way()) {
            (true, _) => "aof-write-pending-fsync",
            (false, true) => "aof-write-active-child",
            (false, false) => "aof-write-alone",
        };
        self.note_slow("aof-write", elapsed_ms);
        self.note_slow(event, elapsed_ms);
    }

    /// Keeps an event for the latency monitor, if it took long.
    pub(super) fn note_slow(&self, event: &'static str, elapsed_ms: u64) {
        let threshold_ms = self.latency_ms.load(Ordering::Relaxed);
        if threshold_ms > 0 && elapsed_ms >= threshold_ms {
            let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
            slow.push((event, elapsed_ms));
            self.has_slow.store(true, Ordering::Release);
        }
    }

    /// What took long since this was last asked.
    pub fn take_slow(&self) -> Vec<(&'static str, u64)> {
        if !self.has_slow.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.slow.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Stop {
    fn wait(&mut self, number: u64, increment: &Arc<Increment>, bytes: &[u8]) {
        let waiting = Waiting {
            increment: increment.clone(),
            bytes: bytes.to_vec(),
        };
        self.waiting.insert(number, waiting);
    }

    /// Logs why a write has failed, unless that was said a moment ago.
    fn say(&mut self, failed: &Failed, expected_bytes: usize) {
        let now = Ticks::now();
        if self.logged_at.is_some_and(|at| now.ns_since(at) < LOGGED_EVERY_NS) {
            return;
        }
        self.logged_at = Some(now);
        if failed.written_bytes > 0 {
            tracing::warn!(
                "Short write while writing to the AOF file: (nwritten={}, expected={expected_bytes})",
                failed.written_bytes
            );
        }
        tracing::warn!("Error writing to the AOF file: {}", failed.error);
        if let Some(torn) = &failed.torn {
            tracing::warn!(
                "Could not remove short write from the append-only file.  Redis may refuse to load the AOF the next time it starts.  \
                 ftruncate: {torn}"
            );
        }
    }
}

/// An error in the system's words.
pub(super) fn text_of(errno: i32) -> &'static str {
    nix::errno::Errno::from_raw(errno).desc()
}

/// The number of an error, or that of one that has none.
pub(super) fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(nix::libc::EIO)
}

/// An increment of one shard.
pub(super) struct OwnFile {
    pub writers: Arc<Writers>,
    pub increment: Arc<Increment>,
    pub place: usize,
    pub buffer: Vec<u8>,
}

impl LogFile for OwnFile {
    fn write(&mut self, chunk: &Chunk) -> bool {
        let OwnFile {
            writers,
            increment,
            buffer,
            ..
        } = self;
        let mut tail = increment.lock();
        increment.encode(&mut tail, chunk, writers.stamp_s(), buffer);
        let number = chunk.turn.number.unwrap_or_default();
        let is_written = writers.append(increment, &mut tail, number, buffer);
        clear(buffer);
        is_written
    }

    fn written(&mut self) {
        self.writers.places[self.place].ring(self.writers.policy());
    }
}

/// The one increment of all shards.
pub(super) struct Merged(Mutex<Queue>);

struct Queue {
    /// None: nothing is written any more.
    increment: Option<Arc<Increment>>,
    next_number: u64,
    /// Chunks that came before their turn.
    handed_in: BTreeMap<u64, Chunk>,
    buffer: Vec<u8>,
}

impl Merged {
    pub fn new() -> Merged {
        Merged(Mutex::new(Queue {
            increment: None,
            next_number: 0,
            handed_in: BTreeMap::new(),
            buffer: Vec::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From that number on chunks go there; or nowhere.
    pub fn switch(&self, increment: Option<Arc<Increment>>, next_number: u64) {
        let mut queue = self.lock();
        queue.increment = increment;
        queue.next_number = next_number;
        queue.handed_in.clear();
    }
}

/// A shard's way to it.
pub(super) struct MergedFile {
    pub writers: Arc<Writers>,
    pub merged: Arc<Merged>,
    /// What the shard has handed in.
    pub handed_in: Option<u64>,
}

impl LogFile for MergedFile {
    fn write(&mut self, chunk: &Chunk) -> bool {
        let number = chunk.turn.number.unwrap_or_default();
        let mut queue = self.merged.lock();
        let Queue {
            increment,
            next_number,
            handed_in,
            buffer,
        } = &mut *queue;
        let Some(increment) = increment else { return true };
        if number < *next_number {
            return true;
        }
        if number > *next_number {
            if self.handed_in != Some(number) {
                self.handed_in = Some(number);
                handed_in.insert(number, chunk.for_file());
            }
            return false;
        }
        let mut tail = increment.lock();
        let stamp_s = self.writers.stamp_s();
        increment.encode(&mut tail, chunk, stamp_s, buffer);
        let mut next = number + 1;
        while let Some(chunk) = handed_in.remove(&next) {
            increment.encode(&mut tail, &chunk, stamp_s, buffer);
            next += 1;
        }
        let is_written = self.writers.append(increment, &mut tail, number, buffer);
        clear(buffer);
        if is_written {
            *next_number = next;
        }
        is_written
    }

    fn written(&mut self) {
        self.writers.places[0].ring(self.writers.policy());
    }
}
