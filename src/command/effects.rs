//! What a unit of work has changed, as AOF, replicas and slot migration will see it.
//!
//! A handler says how much it changed ([`Effects::changed`]). If nothing was, nothing is logged. Otherwise the effect
//! is the command itself, unless the handler says otherwise: [`Effects::instead`] replaces it (EXPIRE logs PEXPIREAT,
//! INCRBYFLOAT logs SET). A command whose keys belong to several shards has one effect for each key, so that each
//! shard's log is whole by itself; such handlers ask [`Effects::is_spread`].
//!
//! Nothing is encoded while nobody reads the logs.

use crate::resp::{Args, OwnedArgs};
use crate::shard::View;
use crate::store::{DbIndex, ExpiredKey, Slot};

/// The effects of the command that runs.
#[derive(Default, Debug)]
pub struct Effects {
    /// Whether any log has a reader.
    pub is_wanted: bool,
    /// Keys of this command are at home on different shards.
    pub is_spread: bool,
    changes: u64,
    is_replaced: bool,
    is_everywhere: bool,
    logged: Vec<(u16, DbIndex, Box<[u8]>)>,
}

impl Effects {
    /// Notes `count` changes to the keyspace (Redis's `rdb_changes_since_last_save` counts them).
    #[inline]
    pub fn changed(&mut self, count: u64) {
        self.changes += count;
    }

    /// How much the command has changed so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Logs this instead of the command itself; may be called several times. `slot` is that of the key it changes.
    pub fn instead(&mut self, slot: u16, db: DbIndex, words: &[&[u8]]) {
        self.is_replaced = true;
        if self.is_wanted {
            let mut encoded = Vec::new();
            OwnedArgs::from_slices(words).as_args().encode_resp(&mut encoded);
            self.logged.push((slot, db, encoded.into_boxed_slice()));
        }
    }

    /// Logs what has expired in a slot: DEL for a key, HDEL for a field. Nothing else may have been noted so far.
    pub(super) fn flush_expired(view: &mut View<'_, Slot>, slot: u16, expired: &[ExpiredKey]) {
        let mut effects = Effects {
            is_wanted: true,
            ..Effects::default()
        };
        for ExpiredKey { db, key, fields } in expired {
            if fields.is_empty() {
                effects.instead(slot, *db, &[b"DEL", key]);
            }
            for field in fields {
                effects.instead(slot, *db, &[b"HDEL", key, field]);
            }
        }
        effects.changed(expired.len() as u64);
        effects.log(view, DbIndex(0), Args::EMPTY, Some(slot));
    }

    /// The command concerns all slots: it is logged by every shard.
    pub fn everywhere(&mut self) {
        self.is_everywhere = true;
    }

    /// Logs nothing, whatever was changed.
    pub fn nothing(&mut self) {
        self.is_replaced = true;
    }

    /// Writes what the command that has just run changed into the log.
    pub(super) fn log(self, view: &mut View<'_, Slot>, db: DbIndex, args: Args, first_slot: Option<u16>) {
        if self.changes == 0 || !self.is_wanted {
            return;
        }
        for (slot, db, command) in self.logged {
            view.log(slot, db.0, command);
        }
        if !self.is_replaced {
            let mut encoded = Vec::new();
            args.encode_resp(&mut encoded);
            if self.is_everywhere {
                for slot in one_slot_of_each_shard(view) {
                    view.log(slot, db.0, encoded.as_slice());
                }
            } else {
                view.log(first_slot.unwrap_or(0), db.0, encoded);
            }
        }
    }
}

/// The first slot of each shard.
fn one_slot_of_each_shard(view: &View<'_, Slot>) -> Vec<u16> {
    let mut shards = hashbrown::HashSet::new();
    (0..crate::base::slot::SLOT_COUNT as u16)
        .filter(|&slot| shards.insert(view.owner(slot)))
        .collect()
}
