//! A rewrite: a generation of increments, and the snapshot before it, from its beginning to its name.
//!
//! ```text
//!  prepare: increments are made, the manifest with them is on the disk      (a thread that may wait)
//!  cut:     C = the next log number; each shard goes on in its new increment when the word of the cut comes
//!  name:    the base gets its name; manifest: new base with C, this generation, all else history; on the disk
//!  ended:   figures; what is history is taken away
//! ```
//!
//! Before the manifest of the last step is on the disk a start reads the old base and all increments, also those of this generation;
//! afterwards the new base and this generation. Both come to the same.
//!
//! Chunks say which they are only in annotated increments. Where they are plain, one that is followed by another must be whole on the disk
//! before anything stands in that: a crash of the machine could otherwise keep later commands and lose earlier ones, and nobody would see it.
//! So the increment of before is synced in the cut, while everybody stands still anyhow; nearly all of it was synced a moment before, by
//! the thread that prepares the rewrite.
//!
//! The first rewrite after `CONFIG SET appendonly yes` differs: what the manifest knows is of another time, so its increments have temporary
//! names until there is a base to go before them.

use super::files::{Directory, Files};
use super::increment::Increment;
use super::{Aof, Mode};
use crate::base::clock::{Ms, UnixMs};
use crate::config::Settings;
use crate::engine::log::LogFile;
use crate::engine::order::Order;
use crate::persist::file::writer::Sealed;
use crate::runtime::disk::DiskFile;
use crate::shard::ShardId;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a base is of no use.
const OUTDATED: &str = "The append-only file was turned on or off while it was rewritten";

/// See the essay above.
pub struct Rewrite {
    aof: Arc<Aof>,
    /// None where there is no append-only file: then only a base is made.
    increments: Vec<Arc<Increment>>,
    /// The same files once more, for those who sync them.
    synced: Mutex<Vec<Box<dyn DiskFile>>>,
    /// What they are called until there is a base, if the manifest does not know them.
    temporary: Vec<PathBuf>,
    /// The sequence number of the first increment, where the manifest knows it; all that is lower is history in the end.
    first_seq: u64,
    /// It is the first one since the append-only file was turned on, and a life begins with it.
    is_first: bool,
    life: u64,
    next_number: AtomicU64,
    /// How many syncs had failed by the cut.
    failed_syncs: AtomicU64,
    is_script: bool,
    directory: Directory,
    era: u64,
}

impl Rewrite {
    /// Makes the increments. Blocks.
    pub fn prepare(aof: &Arc<Aof>, settings: &Settings) -> Result<Arc<Rewrite>, String> {
        let mut lock = aof.lock_files();
        let mode = aof.mode();
        let mut rewrite = Rewrite {
            aof: aof.clone(),
            increments: Vec::new(),
            synced: Mutex::default(),
            temporary: Vec::new(),
            first_seq: u64::MAX,
            life: 0,
            is_first: mode == Mode::Waiting,
            next_number: AtomicU64::new(0),
            failed_syncs: AtomicU64::new(0),
            // Libraries of functions are not written as commands: nobody could read them yet.
            is_script: !settings.aof_use_rdb_preamble && aof.writers.snapshots.libraries.codes().is_empty(),
            directory: Directory::of(settings),
            era: aof.era.load(Ordering::SeqCst),
        };
        if let Err(error) = aof.sync_plain() {
            // (Which is tried again in the cut.)
            tracing::warn!("Fail to fsync the AOF file before it is rewritten: {error}");
        }
        if let (Some(files), Mode::On) = (&mut *lock, mode) {
            rewrite.first_seq = files.next_increment_seq();
            rewrite.increments = files.add_generation("on background rewrite")?;
        } else if let (Some(files), Mode::Waiting) = (&*lock, mode) {
            rewrite.life = aof.turns.next_number();
            (rewrite.increments, rewrite.temporary) = files.create_temporary(rewrite.life)?;
        }
        let again = rewrite.increments.iter().map(|increment| increment.again());
        let again: Result<Vec<_>, _> = again.collect();
        *rewrite.synced() = again.map_err(|error| format!("Can't open the append-only file: {error}"))?;
        Ok(Arc::new(rewrite))
    }

    /// Whether the append-only file was neither turned on nor off since it began.
    pub(super) fn is_of_now(&self) -> bool {
        self.aof.era.load(Ordering::SeqCst) == self.era
    }

    fn synced(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn DiskFile>>> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_in_place(&self, file: &Sealed) -> Result<(), String> {
        let aof = &self.aof;
        let mut lock = aof.lock_files();
        let number = self.next_number.load(Ordering::SeqCst);
        let mut alone = None;
        if !self.is_of_now() {
            return Err(OUTDATED.to_owned());
        }
        let files = match &mut *lock {
            Some(files) => files,
            None => alone.insert(Files::find(aof.disk.clone(), self.directory.clone(), aof.annotated)?),
        };
        if self.is_first {
            files.life = self.life;
        }
        let put = files.put_base(file.path(), !self.is_script, number, self.first_seq, &self.temporary);
        for elapsed_ms in put? {
            aof.writers.note_slow("aof-rename", elapsed_ms);
        }
        // What a sync has lost before the cut is in the base.
        let failed_syncs = aof.writers.failed_syncs.load(Ordering::SeqCst);
        if !self.increments.is_empty() && failed_syncs == self.failed_syncs.load(Ordering::SeqCst) {
            aof.turns.is_whole_again();
        }
        let base_bytes = file.bytes();
        let mut figures = aof.figures();
        figures.older_bytes = base_bytes;
        figures.base_bytes = Aof::current_bytes(&figures);
        drop(figures);
        if self.is_first {
            aof.enter(Mode::On);
        }

        if !aof.keeps_history.load(Ordering::Relaxed) {
            files.remove_history();
        }
        files.tidy();
        Ok(())
    }
}

impl Order for Rewrite {
    fn is_script(&self) -> bool {
        self.is_script
    }

    fn at_cut(&self, next_number: u64) {
        let aof = &self.aof;
        self.next_number.store(next_number, Ordering::SeqCst);
        if self.increments.is_empty() || !self.is_of_now() {
            return;
        }
        if let Err(error) = aof.sync_plain() {
            aof.writers.note_failed_sync(&error);
        }
        let failed_syncs = aof.writers.failed_syncs.load(Ordering::SeqCst);
        self.failed_syncs.store(failed_syncs, Ordering::SeqCst);
        for (place, file) in aof.writers.places.iter().zip(self.synced().drain(..)) {
            place.follow(file);
        }
        if let (Some(merged), Some(increment)) = (&aof.merged, self.increments.first()) {
            merged.switch(Some(increment.clone()), next_number);
        }
        let mut figures = aof.figures();
        figures.older_bytes = Aof::current_bytes(&figures);
        figures.increments = self.increments.clone();
    }

    fn file_of(&self, shard: ShardId) -> Option<Box<dyn LogFile + Send>> {
        if self.increments.is_empty() || !self.is_of_now() {
            return None;
        }
        self.aof.file(&self.increments, shard)
    }

    fn name(&self, file: &Sealed) -> Result<(), String> {
        self.put_in_place(file)
    }

    fn ended(&self, outcome: Option<Result<(), &str>>, elapsed: Ms, captured_bytes: u64, _: UnixMs) {
        match outcome {
            Some(Ok(())) => {
                tracing::info!("Background AOF rewrite terminated with success");
                tracing::info!("Background AOF rewrite finished successfully");
            }
            Some(Err(failure)) => {
                tracing::warn!("{failure}");
                tracing::warn!("Background AOF rewrite terminated with error");
            }
            None => tracing::warn!("Background AOF rewrite was called off"),
        }
        self.aof
            .note_rewrite(outcome.map(|outcome| outcome.is_ok()), Some(elapsed), captured_bytes);
    }
}
