//! The string family: what reads strings ([`read`]), what writes whole strings ([`write`]), what changes a part of one
//! ([`change`]).
//!
//! How a string is encoded is the store's matter. What is kept here is what clients and replicas can see: which command
//! counts hits and misses, which one drops the expiry and which keeps it, and what a write is logged as when that is not
//! the command itself. INCR, INCRBY, DECR and DECRBY are one event to Redis, `incrby`.
//!
//! | command | its effect |
//! |---|---|
//! | SET with `EX`, `PX`, `EXAT`, `PXAT`; SETEX, PSETEX | `SET key value PXAT ms` |
//! | SET with `GET`; GETSET | the same without `GET`; `SET key value` |
//! | GETEX | `PEXPIREAT key ms`, `PERSIST key`, or `DEL key` when the time has passed |
//! | GETDEL | `DEL key` |
//! | INCRBYFLOAT | `SET key value KEEPTTL`: no replica has to round as we do |
//!
//! Invariant: a write searches for its key once where it does not have to look at the old value as a whole. INCR and its
//! relatives, plain SET and GET do one search and allocate nothing but the entry.

mod change;
mod read;
#[cfg(test)]
mod tests;
mod write;

use crate::engine::Command;
use crate::resp::Reply;
use crate::store::{EntryRef, ValueRef};

pub const COMMANDS: &[Command] = &[
    change::APPEND,
    change::DECR,
    change::DECRBY,
    read::GET,
    write::GETDEL,
    write::GETEX,
    read::GETRANGE,
    write::GETSET,
    change::INCR,
    change::INCRBY,
    change::INCRBYFLOAT,
    read::LCS,
    read::MGET,
    write::MSET,
    write::MSETNX,
    write::PSETEX,
    write::SET,
    write::SETEX,
    write::SETNX,
    change::SETRANGE,
    read::STRLEN,
    read::SUBSTR,
];

/// Replies with a string entry: a large one goes by reference.
pub(super) fn reply_string(reply: &mut Reply<'_>, entry: EntryRef<'_>) {
    match entry.value() {
        ValueRef::Int(number) => reply.bulk_integer(number),
        ValueRef::Inline(bytes) => reply.bulk(bytes),
        ValueRef::Shared(bytes) => reply.bulk_shared(bytes.clone()),
        ValueRef::Object(_) => unreachable!("the caller knows that the value is a string"),
    }
}
