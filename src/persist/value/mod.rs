//! One value with the byte that says what it is.
//!
//! The byte is the RDB format's: it names a type and the layout in which it was written, and there are more layouts than types, since
//! every version of Redis that changed a layout took a new number. Written is the layout of the RDB version asked for, read are all:
//!
//! | type | written | also read |
//! |---|---|---|
//! | string | 0 | |
//! | list | 18: nodes of listpacks, long elements by themselves | 1: elements; 10: a ziplist; 14: nodes of ziplists |
//! | hash | 16: a listpack; 4: fields and values; with expiries, in version 12's way whatever was asked for: 25, 24 | 9: a zipmap; 13: a ziplist; 22: Valkey's with expiries; 22, 23: those of 7.4's release candidates |
//! | set | 11: an intset; 20: a listpack, from version 11 on; 2: members | |
//! | sorted set | 17: a listpack; 5: elements with binary scores | 3: elements with scores as text; 12: a ziplist |
//! | stream | 21, below version 11: 19 | 15 |
//!
//! | module | what |
//! |---|---|
//! | [`extent`] | where a value ends, found without making it |
//! | [`list`], [`hash`], [`set`], [`sorted_set`], [`stream`] | the layouts of each type |
//! | [`sliced`] | a large value written in slices, while it changes |
//!
//! Nothing that a value holds is dropped because the version asked for has no place for it: such a value is written as the first
//! version that has one has it, and [`write()`] says so. Who reads no such version refuses it, which is better than fields that live for
//! ever. (The one thing that version 10 cannot say and that is no part of the data is when a consumer of a stream was last given an
//! entry: 7.0 does not know such a time, and whoever reads its format takes it to be the time at which the consumer was last seen.)
//!
//! Valkey's own versions begin at 80: what they have in common with Redis is read, and their hashes with expiries.
//!
//! What is packed in Redis's way is copied as it is, once it has been checked from end to end; everything else is built up element
//! by element, as commands would. Either way a value that comes out is as sound as one that a client has made, and is kept as
//! the thresholds of the configuration say.
//!
//! A further type joins with its numbers here, and an arm in [`Value::read`] and [`write_object`].

pub mod extent;
mod hash;
mod list;
mod set;
mod sliced;
mod sorted_set;
mod stream;

pub use self::sliced::SlicedValue;
use self::sorted_set::Score;
use super::rdb::{Damage, RdbError, RdbReader, RdbWriter};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::data::listpack::{Item, Listpack};
use crate::data::string::StringForm;
use crate::data::ziplist::Ziplist;
use crate::data::{Limits, Object, ObjectRef, TypedValue};
use crate::store::{EntryRef, OwnedEntry, ValueRef};
use std::borrow::Cow;

const STRING: u8 = 0;
const LIST: u8 = 1;
const SET: u8 = 2;
const ZSET: u8 = 3;
const HASH: u8 = 4;
const ZSET_2: u8 = 5;
const HASH_ZIPMAP: u8 = 9;
const LIST_ZIPLIST: u8 = 10;
const SET_INTSET: u8 = 11;
const ZSET_ZIPLIST: u8 = 12;
const HASH_ZIPLIST: u8 = 13;
const LIST_QUICKLIST: u8 = 14;
const STREAM_LISTPACKS: u8 = 15;
const HASH_LISTPACK: u8 = 16;
const ZSET_LISTPACK: u8 = 17;
const LIST_QUICKLIST_2: u8 = 18;
const STREAM_LISTPACKS_2: u8 = 19;
const SET_LISTPACK: u8 = 20;
const STREAM_LISTPACKS_3: u8 = 21;
/// Valkey's; the number was Redis's in pre-releases only.
const HASH_OF_VALKEY: u8 = 22;
const HASH_METADATA_PRE_GA: u8 = 22;
const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
const HASH_METADATA: u8 = 24;
const HASH_LISTPACK_EX: u8 = 25;

/// The first RDB version that has streams with the times at which consumers were active: Redis 7.2's.
const WITH_ACTIVE_TIMES: u16 = 11;

/// The first RDB version that has packed sets: Redis 7.2's.
const WITH_PACKED_SETS: u16 = 11;
/// The first RDB version that has fields with expiries: Redis 7.4's.
const WITH_FIELD_EXPIRIES: u16 = 12;

/// The newest of Redis's versions that is read: Redis 7.4's, and 8.2's. (Redis 7.0: 10, 7.2: 11.) Valkey 9's is read too.
pub const RDB_VERSION_MAX: u16 = 12;

/// Valkey 9's RDB version.
pub const OF_VALKEY_9: u16 = 80;

/// What a value is made by, apart from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    pub limits: &'a Limits,
    pub seed: HashSeed,
}

/// A value that was read and belongs to no key yet.
#[derive(Debug)]
pub enum Value<'a> {
    String(Cow<'a, [u8]>),
    Object(Object),
}

impl<'a> Value<'a> {
    /// Reads a type byte and the value behind it, which was written in that RDB version.
    pub fn read(reader: &mut RdbReader<'a>, making: Making<'_>, rdb_version: u16) -> Result<Value<'a>, RdbError> {
        let kind = reader.byte()?;
        Value::read_kind(kind, reader, making, rdb_version)
    }

    /// Reads a value whose type byte stood elsewhere, which was written in that RDB version.
    pub fn read_kind(
        kind: u8,
        reader: &mut RdbReader<'a>,
        making: Making<'_>,
        rdb_version: u16,
    ) -> Result<Value<'a>, RdbError> {
        let start = reader.offset();
        let object = match kind {
            STRING => return Ok(Value::String(reader.string()?)),
            LIST => list::read_elements(reader, making)?.into_object(),
            LIST_ZIPLIST => list::read_ziplist(reader, making)?.into_object(),
            LIST_QUICKLIST => list::read_ziplist_nodes(reader, making)?.into_object(),
            LIST_QUICKLIST_2 => list::read_nodes(reader, making)?.into_object(),
            SET => set::read_members(reader, making)?.into_object(),
            SET_INTSET => set::read_intset(reader, making)?.into_object(),
            SET_LISTPACK => set::read_listpack(reader, making)?.into_object(),
            HASH => hash::read_fields(reader, making)?.into_object(),
            HASH_ZIPMAP => hash::read_zipmap(reader, making)?.into_object(),
            HASH_ZIPLIST => hash::read_ziplist(reader, making)?.into_object(),
            HASH_LISTPACK => hash::read_listpack(reader, making)?.into_object(),
            HASH_OF_VALKEY if rdb_version >= OF_VALKEY_9 => hash::read_of_valkey(reader, making)?.into_object(),
            HASH_METADATA => hash::read_expiring(reader, making)?.into_object(),
            HASH_METADATA_PRE_GA => hash::read_expiring_pre_ga(reader, making)?.into_object(),
            HASH_LISTPACK_EX_PRE_GA if rdb_version < OF_VALKEY_9 => {
                hash::read_expiring_listpack_pre_ga(reader, making)?.into_object()
            }
            HASH_LISTPACK_EX => hash::read_expiring_listpack(reader, making)?.into_object(),
            ZSET => sorted_set::read_elements(reader, making, Score::Text)?.into_object(),
            ZSET_2 => sorted_set::read_elements(reader, making, Score::Binary)?.into_object(),
            ZSET_ZIPLIST => sorted_set::read_ziplist(reader, making)?.into_object(),
            ZSET_LISTPACK => sorted_set::read_listpack(reader, making)?.into_object(),
            STREAM_LISTPACKS => stream::read(reader, 1)?.into_object(),
            STREAM_LISTPACKS_2 => stream::read(reader, 2)?.into_object(),
            STREAM_LISTPACKS_3 => stream::read(reader, 3)?.into_object(),
            other => return Err(Damage::Type(other).at(start)),
        };
        if object.is_void() {
            return Err(Damage::Empty.at(start));
        }
        Ok(Value::Object(object))
    }

    /// As an entry for the store.
    pub fn into_entry(self, key: &[u8], expiry: Option<UnixMs>, access_clock: u32) -> OwnedEntry {
        match self {
            Value::String(text) => OwnedEntry::string(key, &text, StringForm::Detect, expiry, access_clock),
            Value::Object(object) => OwnedEntry::object(key, object, expiry, access_clock),
        }
    }
}

/// Writes an entry's value with its type byte; key and expiry are not part of it. It is written as that RDB version has it, or as the
/// first later one that can hold it; answers which that was.
pub fn write(writer: &mut RdbWriter<'_>, entry: EntryRef<'_>, rdb_version: u16) -> u16 {
    match entry.value() {
        ValueRef::Object(object) => return write_object(writer, object, rdb_version),
        ValueRef::Int(number) => {
            writer.kind(STRING);
            writer.integer_string(number);
        }
        ValueRef::Inline(text) => {
            writer.kind(STRING);
            writer.string(text);
        }
        ValueRef::Shared(text) => {
            writer.kind(STRING);
            writer.string(text);
        }
    }
    rdb_version
}

/// Writes an entry with its key, as a file has it: the type byte, the key, the value. Answers the lowest RDB version that can hold what was
/// written.
pub fn write_keyed(out: &mut Vec<u8>, entry: EntryRef<'_>, compresses: bool, rdb_version: u16) -> u16 {
    let mut writer = RdbWriter::keyed(out, compresses, entry.key());
    write(&mut writer, entry, rdb_version);
    lowest_version(writer.last_kind())
}

/// The lowest RDB version that has this layout, as far as any that is written here lacks it.
fn lowest_version(kind: u8) -> u16 {
    match kind {
        HASH_METADATA | HASH_LISTPACK_EX => 12,
        SET_LISTPACK | STREAM_LISTPACKS_3 => 11,
        HASH_LISTPACK..=STREAM_LISTPACKS_2 => 10,
        _ => 0,
    }
}

/// Reads a string that is a listpack.
fn read_pack(reader: &mut RdbReader<'_>) -> Result<Listpack, RdbError> {
    let start = reader.offset();
    let bytes = reader.string()?;
    Listpack::from_bytes(&bytes).map_err(|inner| Damage::Packed(inner).at(start))
}

/// Reads a string that is a ziplist.
fn read_old_pack(reader: &mut RdbReader<'_>) -> Result<Listpack, RdbError> {
    let start = reader.offset();
    let bytes = reader.string()?;
    let pack = Ziplist::new(&bytes).and_then(Ziplist::to_listpack);
    pack.map_err(|inner| Damage::Packed(inner).at(start))
}

/// So many elements are compared with each other, which takes no memory; more are hashed.
const COMPARED_MAX: usize = 32;

/// Looks whether elements that come one after the other are all different.
///
/// Almost all are told apart by a bit that some of their bytes choose: only where it is taken are elements compared.
#[derive(Default)]
struct Distinct {
    taken: [u64; 4],
    count: usize,
    many: hashbrown::HashSet<Vec<u8>>,
}

impl Distinct {
    /// Whether no element of before is equal; `all` gives all of them again, in their order.
    fn takes<'i, I: Iterator<Item = Item<'i>>>(&mut self, element: Item<'i>, all: impl FnOnce() -> I) -> bool {
        let before = self.count;
        self.count += 1;
        if before < COMPARED_MAX {
            let chosen = sketch(element);
            let word = &mut self.taken[usize::from(chosen >> 6)];
            let was_taken = *word >> (chosen & 63) & 1 != 0;
            *word |= 1 << (chosen & 63);
            return !(was_taken && all().take(before).any(|other| other == element));
        }
        if self.many.is_empty() {
            self.many.extend(all().take(before).map(|other| other.to_vec()));
        }
        self.many.insert(element.to_vec())
    }
}

/// A number that equal elements have in common, and others seldom: of their ends, where those that are counted up differ.
fn sketch(element: Item<'_>) -> u8 {
    let word = match element {
        Item::Int(number) => number as u64,
        Item::Bytes(bytes) => {
            let first = bytes.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
            let last = match bytes.last_chunk::<8>() {
                Some(word) => u64::from_le_bytes(*word),
                None => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
            };
            first.rotate_left(29) ^ last ^ bytes.len() as u64
        }
    };
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// The elements of a listpack two by two; None instead of the second, if that is lacking.
fn pairs(pack: &Listpack) -> impl Iterator<Item = (Item<'_>, Option<Item<'_>>)> {
    let mut items = pack.iter();
    std::iter::from_fn(move || Some((items.next()?, items.next())))
}

fn write_object(writer: &mut RdbWriter<'_>, object: ObjectRef<'_>, rdb_version: u16) -> u16 {
    match object {
        ObjectRef::List(value) => list::write(writer, value),
        ObjectRef::Hash(value) => return hash::write(writer, value, rdb_version),
        ObjectRef::Set(value) => set::write(writer, value, rdb_version),
        ObjectRef::SortedSet(value) => sorted_set::write(writer, value),
        ObjectRef::Stream(value) => stream::write(writer, value, rdb_version),
    }
    rdb_version
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_distinct(texts: &[Item<'_>]) -> bool {
        let mut distinct = Distinct::default();
        texts.iter().all(|text| distinct.takes(*text, || texts.iter().copied()))
    }

    #[test]
    fn elements_that_are_there_twice_are_found_however_many_there_are() {
        for count in [0usize, 1, 2, 31, 32, 33, 34, 200, 1000] {
            for ending in ["", "x", "of a longer name"] {
                let texts: Vec<Vec<u8>> = (0..count)
                    .map(|number| format!("{number}{ending}").into_bytes())
                    .collect();
                let mut items: Vec<Item<'_>> = texts.iter().map(|text| Item::of(text)).collect();
                assert!(are_distinct(&items), "{count}");
                for twice in [0, count / 2, count.saturating_sub(1)] {
                    let Some(again) = items.get(twice).copied() else {
                        continue;
                    };
                    items.push(again);
                    assert!(!are_distinct(&items), "{twice} of {count}");
                    items.pop();
                }
            }
        }
        assert!(!are_distinct(&[Item::Int(7), Item::Bytes(b"x"), Item::of(b"7")]));
    }
}
