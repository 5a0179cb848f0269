//! The append-only file at a start.
//!
//! What a start finds is read, cut to what is kept and made last, and then handed on to whoever writes: [`Recovered`].

use crate::persist::aof::manifest::Manifest;

/// What a start has found, and where writing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// What is on the disk, synced. All its lives are closed, and every file is cut to what is kept. Without base and increments: there was
    /// nothing.
    pub manifest: Manifest,
    /// The next log number: it is above every one that was ever found, those that were dropped included, and above what the base holds.
    pub next_number: u64,
    /// The last turn, and the end of the stream, as the last chunk that is kept tells.
    pub last_turn: u64,
    pub end_offset: u64,
    /// Bytes of the base, and of all files together.
    pub base_bytes: u64,
    pub bytes: u64,
}
