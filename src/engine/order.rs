//! What snapshots are asked for besides the data set's own file, as the snapshots see it.
//!
//! The base of an append-only file is a snapshot, too, and so is a full sync: with the same cut, walk and parts. What differs is said here: that somebody is told of the
//! cut, where each shard logs from there on, which name the file gets, and who counts how it ended.

use super::log::LogFile;
use crate::base::clock::{Ms, UnixMs};
use crate::config::Settings;
use crate::persist::file::writer::Sealed;
use crate::persist::payload::Form;
use crate::shard::ShardId;

/// Who wants a snapshot that is not the data set's own file: the base of an append-only file, or what replicas are sent.
pub trait Order: Send + Sync {
    /// Whether it is written as commands.
    fn is_script(&self) -> bool;
    /// Whether it is the base of an append-only file, and says so.
    fn is_base(&self) -> bool {
        true
    }
    /// In which form it is written.
    fn form(&self, settings: &Settings) -> Form {
        Form::of(settings)
    }
    /// What it says of itself beyond what each snapshot says. To be asked when the cut is made.
    fn fields(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// The cut is made, by somebody who holds everything: all effects with lower log numbers are in the snapshot, no others.
    fn at_cut(&self, next_number: u64);
    /// Where what that shard logs from the cut on goes. To be asked once.
    fn file_of(&self, shard: ShardId) -> Option<Box<dyn LogFile + Send>>;
    /// The file is whole and on the disk: gives it its name. Blocks.
    fn name(&self, file: &Sealed) -> Result<(), String>;
    /// It has ended; None: it was called off.
    fn ended(&self, outcome: Option<Result<(), &str>>, elapsed: Ms, captured_bytes: u64, now: UnixMs);
}
