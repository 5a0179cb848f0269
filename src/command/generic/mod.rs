//! The Generic family: commands over keys of any type, and over the keyspace as a whole.
//!
//! | module | commands |
//! |---|---|
//! | [`keys`] | DEL UNLINK EXISTS TOUCH TYPE |
//! | [`expire`] | EXPIRE and its kin, PERSIST |
//! | [`ttl`] | TTL and its kin |
//! | [`relocate`] | COPY MOVE RENAME RENAMENX |
//! | [`traverse`] | KEYS RANDOMKEY SCAN |
//! | [`transfer`] | DUMP RESTORE |
//! | [`object`] | OBJECT |
//! | [`wait`] | WAIT WAITAOF |
//!
//! Most effects are the commands themselves. The others, so that every reader of a log sees what happened whenever it
//! reads it: a relative time becomes an absolute one, and a time in the past becomes a deletion.

mod expire;
mod keys;
mod object;
mod relocate;
mod transfer;
mod traverse;
mod ttl;
mod wait;

#[cfg(test)]
mod tests;

use crate::engine::Command;
use crate::engine::arguments::numbers::integer;
use crate::resp::{ReplyError, error};
use crate::store::DbIndex;

pub const COMMANDS: &[Command] = &[
    relocate::COPY,
    keys::DEL,
    transfer::DUMP,
    keys::EXISTS,
    expire::EXPIRE,
    expire::EXPIREAT,
    ttl::EXPIRETIME,
    traverse::KEYS,
    relocate::MOVE,
    object::OBJECT,
    expire::PERSIST,
    expire::PEXPIRE,
    expire::PEXPIREAT,
    ttl::PEXPIRETIME,
    ttl::PTTL,
    traverse::RANDOMKEY,
    relocate::RENAME,
    relocate::RENAMENX,
    transfer::RESTORE,
    traverse::SCAN,
    keys::TOUCH,
    ttl::TTL,
    keys::TYPE,
    keys::UNLINK,
    wait::WAIT,
    wait::WAITAOF,
];

/// The number of a db, as COPY and MOVE take it.
fn db_index(text: &[u8], db_count: u32) -> Result<DbIndex, ReplyError> {
    let number = integer(text)?;
    if i32::try_from(number).is_err() {
        return Err(error::out_of_bounds(i64::from(i32::MIN), i64::from(i32::MAX)));
    }
    match u32::try_from(number) {
        Ok(index) if index < db_count => Ok(DbIndex(index)),
        _ => Err(error::DB_OUT_OF_RANGE),
    }
}
