//! The keyspace of one hash slot: a single-threaded object that has never heard of other slots, shards, files or clients.
//!
//! ```text
//! Slot                      all dbs of one slot; the only way to change a key      slot, tables
//!  +- Table                 a `data::dict` of entries, the books of expiry         table
//!  |   +- entry             key, value, expiry, access clock: one allocation       entry, value
//!  |                        ... of which a value that is not a string is one word  object
//!  +- ExpiryWalk            when something is due next, how far the walk has come  expire
//!  +- Watches               versions of the keys that somebody watches             watch
//!  +- Undo                  the entries as they were                               undo
//!  +- Captured              the entries as they were at a snapshot's cut            cut
//!  |                        a value as it was, or still to be freed                frozen
//!  +- Detached              what takes long to free                                detached
//!                           positions in the order of the hashes                   scan
//! KeyFigures               how many keys, and what they take, for people          figures
//! Told                     what happened to keys, for who ran the command          told
//! Waiter                   who waits for a key                                  wait
//! Tracker                  who may have cached a key                            track
//! Cut                      the last snapshot's moment, and what of it is unsaved   cut
//! Occupancy                which slots may have keys, for who does not hold them  occupancy
//! ```
//!
//! A [`Slot`] is `Send` and owns all that belongs to it, so that it can move to another thread as a whole. It reads no clock
//! and draws no random numbers: the time is part of every call, by which expired entries are never seen; what is random
//! comes from a seed or from the caller.
//!
//! Memory, for 2 million keys of 16 bytes with values of 64 over 16384 slots (`benches/table.rs`): 96 bytes of entry, about
//! ten of page, under two for the slots themselves.

mod cut;
mod detached;
mod draw;
mod enter;
mod entry;
mod expire;
mod figures;
mod frozen;
mod object;
mod occupancy;
mod scan;
mod slot;
mod table;
mod tables;
mod told;
mod track;
mod undo;
mod value;
mod wait;
mod watch;

pub use crate::base::hash::HashSeed;
pub use cut::{Captured, Cut, Destination, FrozenEntry, Taken};
pub use detached::Detached;
pub use entry::{EntryRef, OwnedEntry};
pub use expire::ExpireStep;
pub use figures::KeyFigures;
pub use object::{Edited, WrongType};
pub use occupancy::Occupancy;
pub use scan::POSITION_BITS;
pub use slot::{Access, DbIndex, Expiry, Slot, SlotCommon};
pub use table::{TABLE_BYTES_EACH, TableStats};
pub use told::{Attention, Happening, Told};
pub use track::{TrackedKey, Tracker};
pub use undo::MovedBack;
pub use value::{INLINE_BYTES_MAX, ValueRef};
pub use wait::Waiter;
pub use watch::WatchToken;

// What an entry says about its value.
pub use crate::data::{Encoding, ValueType};
