//! The libraries of functions, as what a data set has of them: their code.
//!
//! They belong to no slot. Whoever changes them holds the whole keyspace, so that a cut, a transaction and a script each see them as they are at one
//! moment; files hold them beside the keys. What compiles them stands above the engine, on each shard for itself, and looks at
//! a number whether what it has compiled are still these.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the essay above.
#[derive(Default)]
pub struct Libraries {
    codes: Mutex<Vec<Vec<u8>>>,
    changes: AtomicU64,
}

impl Libraries {
    /// The code of each, in the order in which they came.
    pub fn codes(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes them. (Who does so holds the whole keyspace, or nobody is served yet.)
    pub fn change<R>(&self, change: impl FnOnce(&mut Vec<Vec<u8>>) -> R) -> R {
        let answer = change(&mut self.codes());
        self.changes.fetch_add(1, Ordering::Release);
        answer
    }

    /// How often they were changed.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }
}
