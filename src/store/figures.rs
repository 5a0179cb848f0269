//! How many keys there are and what they take, over any number of slots, for those who tell people.
//!
//! A slot counts for itself; here the counts are added up, slot by slot, and then shard by shard. Nothing is kept: who asks counts.

use super::slot::Slot;
use super::table::TABLE_BYTES_EACH;
use crate::base::clock::UnixMs;
use crate::base::section::Section;
use std::collections::BTreeMap;

/// The keys of one db.
#[derive(Clone, Copy, Debug, Default)]
pub struct DbFigures {
    pub keys: usize,
    /// How many of them have an expiry.
    pub expires: usize,
    /// The sum of all expiries, each in Unix milliseconds.
    expiry_sum_ms: u128,
}

/// The keys of some slots.
#[derive(Debug, Default)]
pub struct KeyFigures {
    /// How many slots were counted.
    pub slot_count: usize,
    pub dbs: BTreeMap<u32, DbFigures>,
    /// What the slots with keys take, in bytes.
    pub used_bytes: usize,
    /// What of it the tables hold beside the entries.
    pub table_bytes: usize,
}

impl KeyFigures {
    /// Counts a slot.
    pub fn count(&mut self, slot: &Slot) {
        self.slot_count += 1;
        if slot.key_count() == 0 {
            return;
        }
        self.used_bytes += slot.used_bytes();
        for db in slot.dbs() {
            let sum = self.dbs.entry(db.0).or_default();
            sum.keys += slot.len(db);
            self.table_bytes += slot.len(db) * TABLE_BYTES_EACH;
            sum.expires += slot.expires(db);
            sum.expiry_sum_ms += slot.expiry_sum_ms(db);
        }
    }

    /// Adds the figures of other slots.
    pub fn add(&mut self, other: &KeyFigures) {
        self.slot_count += other.slot_count;
        for (db, theirs) in &other.dbs {
            let ours = self.dbs.entry(*db).or_default();
            ours.keys += theirs.keys;
            ours.expires += theirs.expires;
            ours.expiry_sum_ms += theirs.expiry_sum_ms;
        }
        self.used_bytes += other.used_bytes;
        self.table_bytes += other.table_bytes;
    }

    /// Keys in all dbs.
    pub fn keys(&self) -> usize {
        self.dbs.values().map(|db| db.keys).sum()
    }

    /// Writes a line for each db that has keys: how many, and how long those that expire still live in the mean, in milliseconds.
    pub fn write_section(&self, now: UnixMs, out: &mut Section) {
        for (db, figures) in &self.dbs {
            let DbFigures {
                keys,
                expires,
                expiry_sum_ms,
            } = *figures;
            if keys == 0 && expires == 0 {
                continue;
            }
            let mean_ms = expiry_sum_ms.checked_div(expires as u128).unwrap_or(0);
            let left_ms = mean_ms.saturating_sub(u128::from(now.0));
            out.field(
                format_args!("db{db}"),
                format_args!("keys={keys},expires={expires},avg_ttl={left_ms}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn db(keys: usize, expiries_ms: &[u128]) -> DbFigures {
        DbFigures {
            keys,
            expires: expiries_ms.len(),
            expiry_sum_ms: expiries_ms.iter().sum(),
        }
    }

    #[test]
    fn the_time_left_is_the_mean_over_all_that_expire() {
        let mut all = KeyFigures {
            dbs: BTreeMap::from([(0, db(3, &[1_000, 3_000])), (5, db(1, &[]))]),
            ..KeyFigures::default()
        };
        all.add(&KeyFigures {
            dbs: BTreeMap::from([(0, db(1, &[8_000])), (7, db(0, &[])), (9, db(1, &[400]))]),
            ..KeyFigures::default()
        });
        assert_eq!(all.keys(), 6);
        let mut out = Section::new("");
        all.write_section(UnixMs(500), &mut out);
        // What is over and not noticed has no time left.
        assert_eq!(
            out.into_text(),
            "# \r\ndb0:keys=4,expires=3,avg_ttl=3500\r\ndb5:keys=1,expires=0,avg_ttl=0\r\ndb9:keys=1,expires=1,avg_ttl=0\r\n"
        );
    }
}
