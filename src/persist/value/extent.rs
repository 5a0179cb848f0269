//! Where a value ends, found without making it.
//!
//! Who reads a file hands its values to many threads, and has to know first where each of them begins. That takes a look at the lengths
//! only: what is packed is one string, and nothing is allocated. It proves nothing about what lies in between; whoever makes the value does.

use super::super::rdb::{Damage, ModuleType, RdbError, RdbReader};
use super::{
    HASH, HASH_LISTPACK, HASH_LISTPACK_EX, HASH_LISTPACK_EX_PRE_GA, HASH_METADATA, HASH_OF_VALKEY, HASH_ZIPLIST,
    HASH_ZIPMAP, LIST, LIST_QUICKLIST, LIST_QUICKLIST_2, LIST_ZIPLIST, OF_VALKEY_9, SET, SET_INTSET, SET_LISTPACK,
    STREAM_LISTPACKS, STREAM_LISTPACKS_2, STREAM_LISTPACKS_3, STRING, ZSET, ZSET_2, ZSET_LISTPACK, ZSET_ZIPLIST,
};

/// Types of modules: as 4.0 had them first, which nobody but the module can pass over, and since.
const MODULE: u8 = 6;
const MODULE_2: u8 = 7;

/// The parts that a module's value consists of.
const MODULE_END: u64 = 0;
const MODULE_SIGNED: u64 = 1;
const MODULE_UNSIGNED: u64 = 2;
const MODULE_FLOAT: u64 = 3;
const MODULE_DOUBLE: u64 = 4;
const MODULE_STRING: u64 = 5;

/// Lengths of a score's text from this on are none, and no text follows.
const SCORE_WITHOUT_TEXT_MIN: u8 = 253;

/// Passes over a value of that type, which was written in that RDB version.
#[inline]
pub fn skip(kind: u8, reader: &mut RdbReader<'_>, rdb_version: u16) -> Result<(), RdbError> {
    match kind {
        STRING | HASH_ZIPMAP | LIST_ZIPLIST | SET_INTSET | ZSET_ZIPLIST | HASH_ZIPLIST | HASH_LISTPACK
        | ZSET_LISTPACK | SET_LISTPACK => reader.skip_string(),
        other => skip_composed(other, reader, rdb_version),
    }
}

/// Whether making such a value can take long, for each byte of it.
pub fn is_composed(kind: u8) -> bool {
    kind != STRING
}

fn skip_composed(kind: u8, reader: &mut RdbReader<'_>, rdb_version: u16) -> Result<(), RdbError> {
    match kind {
        LIST | SET | LIST_QUICKLIST => skip_strings(reader, 1),
        HASH => skip_strings(reader, 2),
        LIST_QUICKLIST_2 => {
            for _ in 0..reader.length()? {
                reader.length()?;
                reader.skip_string()?;
            }
            Ok(())
        }
        ZSET => {
            for _ in 0..reader.length()? {
                reader.skip_string()?;
                let length = reader.byte()?;
                if length < SCORE_WITHOUT_TEXT_MIN {
                    reader.take(u64::from(length))?;
                }
            }
            Ok(())
        }
        ZSET_2 => {
            for _ in 0..reader.length()? {
                reader.skip_string()?;
                reader.take(8)?;
            }
            Ok(())
        }
        HASH_OF_VALKEY if rdb_version >= OF_VALKEY_9 => {
            for _ in 0..reader.length()? {
                reader.skip_string()?;
                reader.skip_string()?;
                reader.take(8)?;
            }
            Ok(())
        }
        // 22 in Redis: the same but for the earliest.
        HASH_METADATA | HASH_OF_VALKEY => {
            if kind == HASH_METADATA {
                reader.take(8)?;
            }
            for _ in 0..reader.length()? {
                reader.length()?;
                reader.skip_string()?;
                reader.skip_string()?;
            }
            Ok(())
        }
        HASH_LISTPACK_EX => {
            reader.take(8)?;
            reader.skip_string()
        }
        HASH_LISTPACK_EX_PRE_GA if rdb_version < OF_VALKEY_9 => reader.skip_string(),
        STREAM_LISTPACKS => skip_stream(reader, 1),
        STREAM_LISTPACKS_2 => skip_stream(reader, 2),
        STREAM_LISTPACKS_3 => skip_stream(reader, 3),
        MODULE | MODULE_2 => {
            let module = ModuleType(reader.length()?);
            Err(reader.error(Damage::Module(module)))
        }
        other => Err(reader.error(Damage::Type(other))),
    }
}

/// A length, and so many times that many strings.
fn skip_strings(reader: &mut RdbReader<'_>, each: usize) -> Result<(), RdbError> {
    for _ in 0..reader.length()? {
        for _ in 0..each {
            reader.skip_string()?;
        }
    }
    Ok(())
}

fn skip_stream(reader: &mut RdbReader<'_>, layout: u8) -> Result<(), RdbError> {
    const ID_BYTES: u64 = 16;
    const TIME_BYTES: u64 = 8;
    skip_strings(reader, 2)?;
    // Entries and last ID; first and greatest deleted ID, entries added.
    for _ in 0..if layout >= 2 { 8 } else { 3 } {
        reader.length()?;
    }
    for _ in 0..reader.length()? {
        reader.skip_string()?;
        for _ in 0..if layout >= 2 { 3 } else { 2 } {
            reader.length()?;
        }
        for _ in 0..reader.length()? {
            reader.take(ID_BYTES + TIME_BYTES)?;
            reader.length()?;
        }
        for _ in 0..reader.length()? {
            reader.skip_string()?;
            reader.take(if layout >= 3 { 2 * TIME_BYTES } else { TIME_BYTES })?;
            let pending = reader.length()?;
            reader.take(pending.saturating_mul(ID_BYTES))?;
        }
    }
    Ok(())
}

/// Passes over what a module has written, which ends by itself.
pub fn skip_module(reader: &mut RdbReader<'_>) -> Result<(), RdbError> {
    loop {
        match reader.length()? {
            MODULE_END => return Ok(()),
            MODULE_SIGNED | MODULE_UNSIGNED => {
                reader.length()?;
            }
            MODULE_FLOAT => {
                reader.take(4)?;
            }
            MODULE_DOUBLE => {
                reader.take(8)?;
            }
            MODULE_STRING => reader.skip_string()?,
            other => return Err(reader.error(Damage::ModulePart(other))),
        }
    }
}
