//! A full sync: a snapshot that replicas wait for, and not a file of the data set's own.
//!
//! With the same cut, walk and parts as any snapshot; all replicas that wait at the cut, and can read the same form, share it. The file loses its
//! name as soon as it is whole: it lives as long as somebody is being sent it, and whatever becomes of the process, nothing is left behind.
//!
//! ```text
//!  begin --> cut: offset of the history, the stream says its db anew --> whole: the file --> replicas
//! ```

use super::log::LogFile;
use super::order::Order;
use crate::base::clock::{Ms, UnixMs};
use crate::config::Settings;
use crate::persist::file::writer::Sealed;
use crate::persist::payload::Form;
use crate::runtime::disk::{Disk, DiskFile};
use crate::shard::ShardId;
use crate::shard::turns::Turns;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A file to be sent, and its length.
pub type Laid = (Arc<dyn DiskFile + Sync>, u64);

/// See the essay above.
pub struct FullSync {
    turns: Arc<Turns>,
    disk: Arc<dyn Disk>,
    replid: String,
    /// The highest version of the format that all who wait can read.
    rdb_version: u16,
    /// All of the stream before it is in the data set.
    cut: OnceLock<u64>,
    file: Mutex<Option<Laid>>,
    /// How it has ended; the error is None if it was called off.
    ended: OnceLock<Result<(), Option<String>>>,
}

impl FullSync {
    /// One of the history of that name.
    pub fn new(turns: Arc<Turns>, disk: Arc<dyn Disk>, replid: String, rdb_version: u16) -> FullSync {
        FullSync {
            turns,
            disk,
            replid,
            rdb_version,
            cut: OnceLock::new(),
            file: Mutex::new(None),
            ended: OnceLock::new(),
        }
    }

    /// The name of the history.
    pub fn replid(&self) -> &str {
        &self.replid
    }

    /// The offset of the moment that it shows, when that has come.
    pub fn cut(&self) -> Option<u64> {
        self.cut.get().copied()
    }

    /// What came of it, when it has ended. The file is handed out once.
    pub fn outcome(&self) -> Option<Result<Laid, Option<String>>> {
        let ended = self.ended.get()?.clone();
        let none = || Some("the file was handed out before".to_owned());
        Some(ended.and_then(|()| self.file().take().ok_or_else(none)))
    }

    fn file(&self) -> MutexGuard<'_, Option<Laid>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order for FullSync {
    fn is_script(&self) -> bool {
        false
    }

    fn is_base(&self) -> bool {
        false
    }

    fn form(&self, settings: &Settings) -> Form {
        Form {
            rdb_version: self.rdb_version,
            ..Form::of(settings)
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let offset = self.cut().unwrap_or(0);
        vec![
            ("repl-stream-db", "0".to_owned()),
            ("repl-id", self.replid.clone()),
            ("repl-offset", offset.to_string()),
        ]
    }

    fn at_cut(&self, _: u64) {
        // A snapshot has one cut.
        let _ = self.cut.set(self.turns.cut_stream());
    }

    fn file_of(&self, _: ShardId) -> Option<Box<dyn LogFile + Send>> {
        None
    }

    fn name(&self, sealed: &Sealed) -> Result<(), String> {
        if sealed.version() > self.rdb_version {
            return Err(format!(
                "The data set has something that only version {} of the format can hold, and a replica reads version {} (repl-compat)",
                sealed.version(),
                self.rdb_version
            ));
        }
        let failed = |error| {
            format!(
                "Can't open the file of a full sync, {}: {error}",
                sealed.path().display()
            )
        };
        let file = self.disk.open_shared(sealed.path()).map_err(failed)?;
        let bytes = file.len().map_err(failed)?;
        // Whoever has it open goes on reading it.
        self.disk.remove(sealed.path()).map_err(failed)?;
        *self.file() = Some((file, bytes));
        Ok(())
    }

    fn ended(&self, outcome: Option<Result<(), &str>>, _: Ms, _: u64, _: UnixMs) {
        let ended = match outcome {
            Some(Ok(())) => Ok(()),
            Some(Err(failure)) => Err(Some(failure.to_owned())),
            None => Err(None),
        };
        // Nothing ends twice.
        let _ = self.ended.set(ended);
    }
}
