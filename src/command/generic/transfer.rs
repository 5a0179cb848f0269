//! DUMP and RESTORE: a value as bytes, and back, in Redis's own format ([`crate::persist::payload`]).

use crate::base::clock::UnixMs;
use crate::data::access::{AccessPolicy, lfu_clock, lru_clock_idle};
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::integer;
use crate::engine::{Command, Event, Op, Run};
use crate::persist::payload::{self, PayloadError};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

pub(super) const DUMP: Command = Command {
    summary: "Answers the value of a key in a form that RESTORE takes.",
    since: "2.6.0",
    group: Group::Generic,
    complexity: "O(1) to find the key and O(N*M) to write it, for N objects of average size M. For small strings that is O(1).",
    arity: 2,
    flags: Flags::READONLY,
    categories: Categories::KEYSPACE,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, KeyFlags::RO.union(KeyFlags::ACCESS))],
    arguments: &[Argument::key("key", 0)],
    ..command("dump", Run::Keys(dump))
};

fn dump(op: &mut Op) -> Result<(), ReplyError> {
    let form = payload::Form::of(&op.env.settings);
    match op.keys.read(op.args.at(1))? {
        Some(entry) => op.reply.bulk_shared(payload::dump(entry, form).into()),
        None => op.reply.null(),
    }
    Ok(())
}

pub(super) const RESTORE: Command = Command {
    summary: "Creates a key from what DUMP has answered.",
    since: "2.6.0",
    group: Group::Generic,
    complexity: "O(1) to create the key and O(N*M) to rebuild its value, for N objects of average size M. For small strings that is O(1); for sorted sets it is O(N*M*log(N)).",
    arity: -4,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    categories: Categories::KEYSPACE.union(Categories::DANGEROUS),
    keys: &[KeySpec::one(1, KeyFlags::OW.union(KeyFlags::UPDATE))],
    arguments: &[
        Argument::key("key", 0),
        arg("ttl", ArgumentKind::Integer),
        arg("serialized-value", ArgumentKind::String),
        Argument::word("replace", "REPLACE").optional().since("3.0.0"),
        Argument::word("absttl", "ABSTTL").optional().since("5.0.0"),
        arg("seconds", ArgumentKind::Integer)
            .token("IDLETIME")
            .optional()
            .since("5.0.0"),
        arg("frequency", ArgumentKind::Integer)
            .token("FREQ")
            .optional()
            .since("5.0.0"),
    ],
    history: &[
        ("3.0.0", "The option `REPLACE`."),
        ("5.0.0", "The option `ABSTTL`."),
        ("5.0.0", "The options `IDLETIME` and `FREQ`."),
    ],
    ..command("restore", Run::Keys(restore))
};

fn restore(op: &mut Op) -> Result<(), ReplyError> {
    let options = RestoreOptions::parse(Options::behind(op.args, 4))?;
    let (key, db, moment) = (op.args.at(1), op.keys.db, op.keys.moment);
    if !options.replaces && op.keys.exists(key)? {
        return Err(error::RESTORE_BUSY_KEY);
    }
    let ttl = integer(op.args.at(2))?;
    if ttl < 0 {
        return Err(error::RESTORE_TTL_INVALID);
    }
    let value =
        payload::restore_if(op.args.at(3), op.env.making(), !op.env.skips_checksums).map_err(
            |refused| match refused {
                PayloadError::Seal => error::RESTORE_CHECKSUM,
                PayloadError::Value(_) => error::RESTORE_BAD_FORMAT,
            },
        )?;
    let expiry = match ttl {
        0 => None,
        ttl if options.is_absolute => Some(UnixMs::from_signed(ttl)),
        // A sum that is too large wraps, as Redis's does: such a key is over at once.
        ttl => Some(UnixMs::from_signed(ttl.wrapping_add(op.env.now.signed()))),
    };
    if expiry.is_some_and(|expiry| expiry <= moment.now) {
        // It would be over at once: all that remains of it is that the key is not there.
        if options.replaces && op.keys.slot(key)?.remove(db, key, moment) {
            op.wrote(key, Event::generic("del"));
            op.instead(&[b"DEL", key]);
        }
        op.reply.ok();
        return Ok(());
    }
    let clock = match (moment.policy, options.idle_s, options.frequency) {
        (AccessPolicy::Lru, Some(idle_s), _) => lru_clock_idle(moment.now, idle_s),
        (AccessPolicy::Lfu { .. }, _, Some(frequency)) => lfu_clock(moment.now, frequency),
        _ => moment.new_clock(),
    };
    let entry = value.into_entry(key, expiry, clock);
    op.keys.slot(key)?.put(db, key, entry, moment);
    op.wrote(key, Event::generic("restore"));
    if let Some(expiry) = expiry
        && !options.is_absolute
    {
        let expiry = itoa::Buffer::new().format(expiry.signed()).to_owned();
        let mut words: Vec<&[u8]> = op.args.iter().collect();
        words[2] = expiry.as_bytes();
        words.push(b"ABSTTL");
        op.instead(&words);
    }
    op.reply.ok();
    Ok(())
}

/// The options of RESTORE.
#[derive(Default)]
struct RestoreOptions {
    replaces: bool,
    is_absolute: bool,
    idle_s: Option<u64>,
    frequency: Option<u8>,
}

impl RestoreOptions {
    fn parse(mut options: Options) -> Result<RestoreOptions, ReplyError> {
        let mut found = RestoreOptions::default();
        while !options.is_empty() {
            if options.flag(b"REPLACE") {
                found.replaces = true;
            } else if options.flag(b"ABSTTL") {
                found.is_absolute = true;
            } else if found.frequency.is_none() && options.flag(b"IDLETIME") {
                let idle_s = u64::try_from(options.integer()?).map_err(|_| error::RESTORE_IDLETIME_INVALID)?;
                found.idle_s = Some(idle_s);
            } else if found.idle_s.is_none() && options.flag(b"FREQ") {
                let frequency = u8::try_from(options.integer()?).map_err(|_| error::RESTORE_FREQ_INVALID)?;
                found.frequency = Some(frequency);
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(found)
    }
}
