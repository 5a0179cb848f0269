//! What a shard remembers of the work that nobody asks it for: `cron` does it.

use super::eviction::Eviction;
use super::expiry::Expiry;
use super::saver::Saver;
use super::under_way::UnderWay;
use crate::base::clock::{Ticks, UnixMs};

/// See above.
#[derive(Default)]
pub struct Upkeep {
    pub expiry: Expiry,
    pub eviction: Eviction,
    pub saver: Saver,
    pub under_way: UnderWay,
    pub sampled_at: UnixMs,
    pub memory_read_at: UnixMs,
    /// The next client to be looked at.
    pub next_client: u32,
    /// When the last step of background work ended.
    pub stepped_at: Ticks,
}
