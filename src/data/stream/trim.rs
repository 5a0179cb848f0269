//! What XTRIM, and XADD on its way, drop at the front of a stream.
//!
//! An exact trim drops whole blocks as long as it may and then deletes entries in the next one. An approximate one (`~`)
//! only drops whole blocks, which costs next to nothing; it may be given a limit of entries, so that a client's XADD never
//! pays for another client's million. The rules are Redis's: streams trimmed by both must stay alike.

use super::id::StreamId;
use crate::data::Limits;

/// How much of the front of a stream may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    pub bound: TrimBound,
    /// `~`: whole blocks only.
    pub is_approximate: bool,
    /// Drop no more entries than these. Only for approximate trims.
    pub limit: Option<u64>,
}

/// What stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimBound {
    /// So many entries.
    MaxLen(u64),
    /// Entries from this ID on.
    MinId(StreamId),
}

impl Trim {
    /// The limit of an approximate trim that was given none: as many entries as fit a hundred blocks, a million at most.
    pub fn default_limit(limits: &Limits) -> u64 {
        match (limits.stream_node_max_entries as u64).saturating_mul(100) {
            0 => 10_000,
            entries => entries.min(1_000_000),
        }
    }

    /// Whether a stream of `len` entries is short enough.
    pub(super) fn is_satisfied(&self, len: u64) -> bool {
        matches!(self.bound, TrimBound::MaxLen(max) if len <= max)
    }

    /// Whether the first block may go: it has `live` of the `len` entries, the last of all that it ever had is `last_id`.
    pub(super) fn covers(&self, len: u64, live: u64, last_id: StreamId) -> bool {
        match self.bound {
            TrimBound::MaxLen(max) => len - live >= max,
            TrimBound::MinId(min) => last_id < min,
        }
    }

    /// Whether the first entry, `id`, of `len` has to go.
    pub(super) fn takes(&self, len: u64, id: StreamId) -> bool {
        match self.bound {
            TrimBound::MaxLen(max) => len > max,
            TrimBound::MinId(min) => id < min,
        }
    }
}
