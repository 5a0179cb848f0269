//! Syncs: when what is written comes to the disk.
//!
//! Each file that is appended to has a *place*, and each place a thread that does nothing but sync it, so that no loop ever waits for a disk.
//! `everysec` syncs each second what is not, `always` as soon as something is not, `no` leaves it to the kernel. What a sync covers, and
//! what may be told when it has ended, is [`Durable`](crate::shard::durable::Durable)'s.
//!
//! A rewrite switches a place to another file: the next sync covers both, and then the old one is closed.
//!
//! A simulation has no threads: it begins and ends syncs itself ([`Writers::begin_sync`], [`Writers::end_sync`]).

use super::writers::{Writers, errno_of, text_of};
use crate::base::clock::Ticks;
use crate::config::AppendFsync;
use crate::runtime::disk::DiskFile;
use crate::shard::ShardId;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// How often `everysec` syncs.
const EVERY: Duration = Duration::from_secs(1);

/// A sync of `everysec` that takes longer than this is told of, as in Redis, where a write has waited for it that long.
const LATE_NS: u64 = 2_000_000_000;

/// Where one file at a time is appended to.
#[derive(Default)]
pub(super) struct Place {
    /// The file that is appended to now is the last one; those before it are to be synced once more.
    files: Mutex<Vec<Box<dyn DiskFile>>>,
    is_syncing: AtomicBool,
    /// When the sync under way began, until it was said that it takes long; 0: there is nothing to be said.
    began_ns: AtomicU64,
    thread: OnceLock<Thread>,
}

/// A sync that is under way.
pub struct Sync {
    place: usize,
    shards: Vec<ShardId>,
    files: Vec<Box<dyn DiskFile>>,
    began: Ticks,
}

impl Sync {
    /// Does it. Blocks.
    pub fn run(&mut self) -> io::Result<()> {
        self.files.iter_mut().try_for_each(|file| file.sync())
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Vec<Box<dyn DiskFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it is this file that is appended to.
    pub fn follow(&self, file: Box<dyn DiskFile>) {
        self.lock().push(file);
    }

    /// Nothing is appended to any more.
    pub fn close(&self) {
        self.lock().clear();
    }

    pub fn is_syncing(&self) -> bool {
        self.is_syncing.load(Ordering::SeqCst)
    }

    /// Something has been written that counts as written.
    #[inline]
    pub fn ring(&self, policy: AppendFsync) {
        if policy == AppendFsync::Always {
            self.rouse();
        }
    }

    /// Wakes its thread.
    pub fn rouse(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Writers {
    /// The shards whose numbers lie in the files of a place.
    fn shards_of(&self, place: usize) -> impl Iterator<Item = ShardId> {
        let count = self.snapshots.shard_count() as u16;
        (0..count)
            .map(ShardId)
            .filter(move |shard| self.place_of(*shard) == place)
    }

    /// Begins to sync what is written at a place; None: nothing is, or it is being synced already.
    pub fn begin_sync(&self, place: usize) -> Option<Sync> {
        if self.places[place].is_syncing.swap(true, Ordering::SeqCst) {
            return None;
        }
        let begin = || -> Vec<ShardId> {
            let shards = self.shards_of(place);
            shards.filter(|shard| self.turns.begin_sync(*shard)).collect()
        };
        let shards = self.unless_stopped(begin).unwrap_or_default();
        if shards.is_empty() {
            self.places[place].is_syncing.store(false, Ordering::SeqCst);
            return None;
        }
        let began = Ticks::now();
        self.places[place].began_ns.store(began.0.max(1), Ordering::Relaxed);
        // Behind what was written by then.
        let files = std::mem::take(&mut *self.places[place].lock());
        Some(Sync {
            place,
            shards,
            files,
            began,
        })
    }

    /// It has ended so.
    pub fn end_sync(&self, sync: Sync, outcome: io::Result<()>) {
        let Sync {
            place,
            shards,
            mut files,
            began,
        } = sync;
        let policy = self.policy();
        let at = &self.places[place];
        at.began_ns.store(0, Ordering::Relaxed);
        if policy == AppendFsync::Always {
            self.note_slow("aof-fsync-always", Ticks::now().ns_since(began) / 1_000_000);
        }
        match outcome {
            Ok(()) => {
                // What was switched away from is on the disk, and nothing more comes.
                files.drain(..files.len().saturating_sub(1));
                at.put_back(files);
                shards.into_iter().for_each(|shard| self.turns.end_sync(shard));
                self.sync_errno.store(0, Ordering::SeqCst);
            }
            Err(error) => {
                at.put_back(files);
                self.note_failed_sync(&error);
                shards.into_iter().for_each(|shard| self.turns.durable.fail_sync(shard));
            }
        }
        at.is_syncing.store(false, Ordering::SeqCst);
    }

    /// A sync has failed: what the kernel has dropped by that nobody will write again.
    pub(super) fn note_failed_sync(&self, error: &io::Error) {
        let errno = errno_of(error);
        if self.policy() == AppendFsync::Always {
            tracing::warn!(
                "Can't persist AOF for fsync error when the AOF fsync policy is 'always': {}. Exiting...",
                text_of(errno)
            );
            self.die();
        }
        if self.sync_errno.swap(errno, Ordering::SeqCst) == 0 {
            tracing::warn!("Fail to fsync the AOF file: {}", text_of(errno));
        }
        self.turns.durable.stand_still();
        self.failed_syncs.fetch_add(1, Ordering::SeqCst);
        self.has_lost.store(true, Ordering::SeqCst);
    }

    /// Begins a sync, does it, and ends it; false: there was nothing to sync.
    pub(super) fn sync(&self, place: usize) -> bool {
        let Some(mut sync) = self.begin_sync(place) else {
            return false;
        };
        let outcome = sync.run();
        self.end_sync(sync, outcome);
        true
    }

    /// Syncs everything that is written; blocks. The error is of the last sync that failed.
    pub fn sync_all(&self) -> Result<(), String> {
        for (number, place) in self.places.iter().enumerate() {
            while place.is_syncing() {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.sync(number);
        }
        match self.sync_errno.load(Ordering::SeqCst) {
            0 => Ok(()),
            errno => Err(text_of(errno).to_owned()),
        }
    }

    /// Whether a sync may begin that nobody waits for.
    fn may_sync(&self) -> bool {
        !self.spares_disk_meanwhile.load(Ordering::Relaxed) || !self.snapshots.is_under_way()
    }

    /// How many syncs are under way.
    pub fn syncs_under_way(&self) -> usize {
        self.places.iter().filter(|place| place.is_syncing()).count()
    }

    /// How many syncs have turned out to take long, since this was last asked.
    pub fn take_late(&self, now: Ticks) -> usize {
        let is_late = |place: &&Place| {
            let began_ns = place.began_ns.load(Ordering::Relaxed);
            began_ns > 0
                && now.ns_since(Ticks(began_ns)) > LATE_NS
                && place.began_ns.swap(0, Ordering::Relaxed) == began_ns
        };
        self.places.iter().filter(is_late).count()
    }

    /// Starts the thread of each place, if there are to be any and they are not there.
    pub(super) fn start_threads(self: &Arc<Self>) -> io::Result<()> {
        if self.is_simulated {
            return Ok(());
        }
        for place in 0..self.places.len() {
            if self.places[place].thread.get().is_some() {
                continue;
            }
            let writers = self.clone();
            let thread = std::thread::Builder::new()
                .name(format!("aof-sync-{place}"))
                .spawn(move || writers.sync_on(place))?;
            // Nobody else starts any: the caller holds the AOF's lock.
            let _ = self.places[place].thread.set(thread.thread().clone());
        }
        Ok(())
    }

    /// What the thread of a place does, as long as the process lives.
    fn sync_on(&self, place: usize) {
        let mut due = Ticks::now();
        loop {
            match self.policy() {
                AppendFsync::Always => {
                    while self.sync(place) {}
                    std::thread::park();
                }
                AppendFsync::No => std::thread::park(),
                AppendFsync::Everysec => {
                    let now = Ticks::now();
                    if now >= due {
                        if self.may_sync() {
                            self.sync(place);
                        }
                        due = Ticks(now.0 + EVERY.as_nanos() as u64);
                    }
                    std::thread::park_timeout(Duration::from_nanos(due.ns_since(Ticks::now())));
                }
            }
        }
    }
}

impl Place {
    /// Files that were synced go before those that have come meanwhile.
    fn put_back(&self, mut files: Vec<Box<dyn DiskFile>>) {
        let mut now = self.lock();
        files.append(&mut now);
        *now = files;
    }
}
