//! The hash family: what reads fields ([`read`]), what changes them ([`write`]), fields that expire ([`expiry`], Redis 7.4), and what reads
//! or writes fields and their expiries at once ([`at_once`], Redis 8.0).
//!
//! How a hash is kept is `data::hash`'s matter. What is kept here is what clients and replicas can see: replies straight from the stored
//! bytes, the order in which arguments and keys are looked at, and what a write is logged as when that is not the command itself.
//!
//! | command | its effect |
//! |---|---|
//! | HINCRBYFLOAT | `HSET key field value`, and `HPEXPIREAT` for a field that expires: no replica has to round as we do |
//! | HINCRBY, HSETNX where a field may be over | `HSET key field value`: no replica has to have seen it go |
//! | HEXPIRE and its relatives | `HPEXPIREAT key ms FIELDS n field ...` for the fields that got an expiry, `HDEL key field ...` for those whose time had passed |
//! | HPERSIST | `HPERSIST key FIELDS n field ...` for the fields that had an expiry |
//! | HGETDEL | `HDEL key field ...` |
//! | HGETEX | as HEXPIRE or HPERSIST |
//! | HSETEX | `HSETEX key [PXAT ms\|KEEPTTL] FIELDS n field value ...`, or `HDEL key field ...` when the time had passed |
//! | a field whose time is over | `HDEL key field`, by the active expiry |
//!
//! A field whose time is over is seen by nobody from that millisecond on: every look at a hash says what time it is. It takes memory until the
//! active expiry takes it out (`store::expire`); no command does that on its way, so the end of a field is logged once, and a
//! key is there until then even if all of its fields are over.

mod at_once;
mod expiry;
mod read;
#[cfg(test)]
mod tests;
mod write;

use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::base::numbers::parse_i64;
use crate::data::hash::{Hash, HashRef};
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, arg, command};

pub const COMMANDS: &[Command] = &[
    write::HDEL,
    read::HEXISTS,
    expiry::HEXPIRE,
    expiry::HEXPIREAT,
    expiry::HEXPIRETIME,
    read::HGET,
    read::HGETALL,
    at_once::HGETDEL,
    at_once::HGETEX,
    write::HINCRBY,
    write::HINCRBYFLOAT,
    read::HKEYS,
    read::HLEN,
    read::HMGET,
    write::HMSET,
    expiry::HPERSIST,
    expiry::HPEXPIRE,
    expiry::HPEXPIREAT,
    expiry::HPEXPIRETIME,
    expiry::HPTTL,
    read::HRANDFIELD,
    read::HSCAN,
    write::HSET,
    at_once::HSETEX,
    write::HSETNX,
    read::HSTRLEN,
    expiry::HTTL,
    read::HVALS,
];

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const UPDATE: KeyFlags = KeyFlags::RW.union(KeyFlags::UPDATE);
const COUNT: KeyFlags = UPDATE.union(KeyFlags::ACCESS);
const FAST_READ: Flags = Flags::READONLY.union(Flags::FAST);
const FAST_WRITE: Flags = Flags::WRITE.union(Flags::FAST);
const GROWING: Flags = FAST_WRITE.union(Flags::DENYOOM);
const KEY: Argument = Argument::key("key", 0);
const FIELD: Argument = arg("field", ArgumentKind::String);
const VALUE: Argument = arg("value", ArgumentKind::String);
const NUMFIELDS: Argument = arg("numfields", ArgumentKind::Integer);
const FIELDS: Argument = arg("fields", ArgumentKind::Block(&[NUMFIELDS, FIELD.multiple()])).token("FIELDS");
const KEY_AND_FIELDS: &[Argument] = &[KEY, FIELDS];
const SECONDS: Argument = arg("seconds", ArgumentKind::Integer);
const MILLISECONDS: Argument = arg("milliseconds", ArgumentKind::Integer);
const UNIX_SECONDS: Argument = arg("unix-time-seconds", ArgumentKind::UnixTime);
const UNIX_MILLISECONDS: Argument = arg("unix-time-milliseconds", ArgumentKind::UnixTime);
const EACH_FIELD: &str = "O(N), N being the number of fields that are named.";

/// What all commands of the family have in common.
const fn hash(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(1)",
        categories: Categories::HASH,
        ..command(name, Run::Keys(run))
    }
}

/// The fields behind `FIELDS numfields` at `at`, which must be the last arguments. `count_error` is for what is no count.
fn listed_fields<'a>(args: Args<'a>, at: usize, count_error: ReplyError) -> Result<Args<'a>, ReplyError> {
    if !crate::engine::arguments::is_word(args, at, b"FIELDS") {
        return Err(error::HASH_FIELDS_MISSING);
    }
    let count = args.get(at + 1).and_then(parse_i64).filter(|count| *count > 0);
    let count = count.ok_or(count_error)?;
    let fields = args.slice_from(at + 2);
    if count != fields.len() as i64 {
        return Err(error::HASH_NUMFIELDS_MISMATCH);
    }
    Ok(fields)
}

/// Whether fields may be there whose time is over.
fn may_be_stale(hash: HashRef<'_>, now: UnixMs) -> bool {
    hash.next_expiry().is_some_and(|bound| now > bound)
}

/// Removes a field that can be seen; one whose time is over is left to the active expiry.
fn remove(hash: &mut Hash, field: &[u8], now: UnixMs, seed: HashSeed) -> bool {
    if may_be_stale(hash.as_ref(), now) && !hash.as_ref().contains(field, now, seed) {
        return false;
    }
    hash.remove(field, now, seed)
}

/// What a command did to the fields of a hash, as far as it is counted, logged and told.
#[derive(Default)]
struct FieldChanges<'a> {
    /// Fields that have got an expiry.
    expiring: Vec<&'a [u8]>,
    /// Fields that have lost theirs.
    persisted: Vec<&'a [u8]>,
    deleted: Vec<&'a [u8]>,
}

impl<'a> FieldChanges<'a> {
    fn count(&self) -> usize {
        self.expiring.len() + self.persisted.len() + self.deleted.len()
    }

    /// Gives a field that is there an expiry, or deletes it if that has passed.
    fn expire(&mut self, hash: &mut Hash, field: &'a [u8], at: UnixMs, now: UnixMs, seed: HashSeed) {
        if at <= now {
            hash.remove(field, now, seed);
            self.deleted.push(field);
        } else {
            hash.set_expiry(field, Some(at), now, seed);
            self.expiring.push(field);
        }
    }

    /// Takes the expiry from a field that has one.
    fn persist(&mut self, hash: &mut Hash, field: &'a [u8], now: UnixMs, seed: HashSeed) {
        hash.set_expiry(field, None, now, seed);
        self.persisted.push(field);
    }

    /// Logs and counts all of it, and tells the events.
    fn finish(self, op: &mut Op, key: &[u8], at: Option<UnixMs>) {
        if self.count() == 0 {
            return;
        }
        let mut log = |head: &[&[u8]], fields: &[&[u8]], counts: bool| {
            if fields.is_empty() {
                return;
            }
            let mut digits = itoa::Buffer::new();
            let mut words: Vec<&[u8]> = Vec::with_capacity(head.len() + 2 + fields.len());
            words.extend(head.iter().copied());
            if counts {
                words.push(b"FIELDS");
                words.push(digits.format(fields.len()).as_bytes());
            }
            words.extend(fields.iter().copied());
            op.instead(&words);
        };
        if let Some(at) = at {
            let mut digits = itoa::Buffer::new();
            let at = digits.format(at.0).as_bytes();
            log(&[b"HPEXPIREAT", key, at], &self.expiring, true);
        }
        log(&[b"HPERSIST", key], &self.persisted, true);
        log(&[b"HDEL", key], &self.deleted, false);
        for (fields, event) in [
            (&self.expiring, "hexpire"),
            (&self.persisted, "hpersist"),
            (&self.deleted, "hdel"),
        ] {
            if !fields.is_empty() {
                op.wrote_times(key, Event::hash(event), fields.len() as u64);
            }
        }
    }
}
