//! What a command counts in the statistics.
//!
//! A command that runs alone counts as it ends. One of a transaction that may be run again (it may find out late which slots it
//! needs) must not be counted twice: what it counts is put aside until the transaction has ended, and is dropped when everything
//! is taken back.

use super::registry::CommandId;
use crate::resp::{OwnedArgs, ReplyError};
use crate::spec::Flags;
use crate::stats::Stats;
use crate::store::{Happening, Told};

/// What one run of one command counts.
#[derive(Clone, Debug)]
pub struct Counted {
    pub id: CommandId,
    pub elapsed_us: u64,
    /// What it answered, if that was an error.
    pub error: Option<ReplyError>,
    /// Look-ups that found a key, and that did not.
    pub hits: u32,
    pub misses: u32,
    /// Changes to the keyspace.
    pub changes: u64,
    pub expired: Expirations,
    /// Its call, if that took long and is counted later.
    pub slow: Option<Box<SlowCall>>,
}

/// A call that took long, as the slow log and the latency monitor want it.
#[derive(Clone, Debug)]
pub struct SlowCall {
    pub args: OwnedArgs,
    /// Which of the arguments are nobody's affair.
    pub secrets: Vec<usize>,
    pub flags: Flags,
}

impl Counted {
    /// A run that looked no key up.
    pub fn without_keys(id: CommandId, elapsed_us: u64, error: Option<ReplyError>) -> Counted {
        Counted {
            id,
            elapsed_us,
            error,
            hits: 0,
            misses: 0,
            changes: 0,
            expired: Expirations::default(),
            slow: None,
        }
    }

    /// Adds it to the statistics.
    #[inline(always)]
    pub fn count(&self, stats: &mut Stats) {
        stats.counts.keyspace_hits += u64::from(self.hits);
        stats.counts.keyspace_misses += u64::from(self.misses);
        stats.counts.changes += self.changes;
        self.expired.count(stats);
        match &self.error {
            None => stats.count_call(self.id, self.elapsed_us),
            Some(error) => {
                stats.count_error(error);
                stats.count_failure(self.id, self.elapsed_us);
            }
        }
    }
}

/// What was deleted because its time was over.
#[derive(Clone, Copy, Default, Debug)]
pub struct Expirations {
    pub keys: u32,
    /// Fields of hashes.
    pub fields: u32,
}

impl Expirations {
    pub fn add(&mut self, told: &[Told]) {
        for Told { what, .. } in told {
            match what {
                Happening::Expired => self.keys += 1,
                Happening::FieldsExpired(fields) => self.fields += fields.len() as u32,
                _ => {}
            }
        }
    }

    /// Adds what was found later.
    pub fn merge(&mut self, other: Expirations) {
        self.keys += other.keys;
        self.fields += other.fields;
    }

    #[inline]
    pub fn count(&self, stats: &mut Stats) {
        stats.counts.expired_keys += u64::from(self.keys);
        stats.counts.expired_subkeys += u64::from(self.fields);
    }
}
