//! The blocked clients of a shard, as the shard of their connections sees them: when they have waited long enough, and who else may end
//! their wait.
//!
//! A client whose command waits is in `Mode::Blocked` and has nothing under way: its earlier replies have left, and what it sends stays
//! unread behind its command. It costs nothing but memory: an entry here, one in the timers if it has a deadline, and its places in the
//! queues of its keys. Which shard serves it is nobody's to foresee; the answer comes as a message, once, from whoever has won the claim
//! (`blocked`).
//!
//! A deadline is over when it lies before the time of the shard, in whole milliseconds: so nobody's wait ends early. A shard that has
//! nothing else to do wakes for the first one.
//!
//! An answer may overtake the news that its client is blocked, since both can come from different shards; it is kept until then.
//!
//! Invariants: (1) a client is in `blocked` exactly while it is in `Mode::Blocked` here; (2) `timers` has an entry for each that has a
//! deadline.

use super::blocked::Blocked;
use super::waiting::Served;
use crate::base::clock::{Ticks, UnixMs};
use crate::client::Mode;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// See above.
#[derive(Default)]
pub struct Room {
    /// By the index of the connection.
    pub(super) blocked: HashMap<u32, Entry>,
    /// When each has waited long enough, with the number of the wait.
    pub(super) timers: BTreeMap<(UnixMs, u64), Arc<Blocked>>,
    /// Answers to waits that are not known here yet, by number.
    pub(super) early: HashMap<u64, Served>,
}

pub(super) struct Entry {
    pub(super) wait: Arc<Blocked>,
    pub(super) mode_before: Mode,
}

impl Room {
    /// How many clients are blocked.
    pub fn len(&self) -> usize {
        self.blocked.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocked.is_empty()
    }

    /// How many of them have a deadline.
    pub fn timed_count(&self) -> usize {
        self.timers.len()
    }

    /// When the first deadline will be over.
    pub(super) fn next_due(&self, now: UnixMs, ticks: Ticks) -> Option<Ticks> {
        let ((deadline, _), _) = self.timers.first_key_value()?;
        // One that is over already belongs to somebody who is being served.
        let wait_ms = (deadline.0.saturating_add(1)).saturating_sub(now.0).max(1);
        Some(Ticks(ticks.0.saturating_add(wait_ms.saturating_mul(1_000_000))))
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, index: u32) -> Option<Entry> {
        let entry = self.blocked.remove(&index)?;
        if let Some(deadline) = entry.wait.deadline {
            self.timers.remove(&(deadline, entry.wait.number));
        }
        Some(entry)
    }
}
