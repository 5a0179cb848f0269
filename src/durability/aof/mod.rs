//! The append-only file at a start: what of it is there, what of it is kept, and how it comes into the shards.
//!
//! ```text
//!  find      the manifest, or the single file of before Redis 7, which gets one
//!  walk      all commands in one order: base, plain increments, lives      <- a replay (`super::load::replay`), and the check
//!  life          the chunks of one life, merged by log number
//!  keep      files cut to what was kept, and synced; the manifest says so, and is synced
//!            -> Recovered: whoever writes begins new increments
//!            -> clients are served
//! ```
//!
//! What a start does with the log is rule 4 of the turns (`shard::turns`): it ends at the first number that is missing or damaged, in all
//! increments. A number that is missing was seen by nobody, or was not on the disk when the machine stopped. So nothing is guessed: what
//! is behind it is dropped, and the log says how much that is, and of which file. A life that an earlier start has closed is whole, or the
//! file is damaged, and the process ends.
//!
//! Invariants:
//! 1. Nothing is changed before everything has been read: a start that fails leaves the files as they were.
//! 2. What is dropped is gone from the disk before the manifest calls the life closed, and that is synced before a number is taken.

mod buffer;
pub mod check;
mod error;
mod find;
pub mod keep;
pub mod life;
pub mod walk;

pub use crate::persist::aof::recovered::Recovered;
pub use error::{AofError, Found};

#[cfg(test)]
mod tests;
