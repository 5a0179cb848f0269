//! What a start has found of an append-only file, and where writing goes on: handed from who reads it to who writes it.

use super::manifest::Manifest;

/// See above.
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

impl Recovered {
    /// There was nothing; files are to have names that begin so.
    pub fn nothing(stem: &[u8]) -> Recovered {
        Recovered {
            manifest: Manifest::new(stem),
            next_number: 1,
            last_turn: 0,
            end_offset: 0,
            base_bytes: 0,
            bytes: 0,
        }
    }
}
