//! TTL, PTTL, EXPIRETIME and PEXPIRETIME: one question in four units.
//!
//! All answer -2 for a key that does not exist and -1 for one without an expiry. Seconds are rounded to the nearest, so that a key
//! set to expire in 10 seconds answers 10 right afterwards.

use crate::base::clock::Ms;
use crate::engine::{Command, Op, Run};
use crate::resp::ReplyError;
use crate::spec::{Argument, Categories, Flags, Group, KeyFlags, KeySpec, command};
use crate::store::Access;

const KEY: &[KeySpec] = &[KeySpec::one(1, KeyFlags::RO.union(KeyFlags::ACCESS))];
const ARGUMENTS: &[Argument] = &[Argument::key("key", 0)];

/// What the four commands have in common.
const fn asking(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        group: Group::Generic,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        categories: Categories::KEYSPACE,
        keys: KEY,
        arguments: ARGUMENTS,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const TTL: Command = Command {
    summary: "Answers in how many seconds a key expires.",
    since: "1.0.0",
    tips: &["nondeterministic_output"],
    history: &[("2.8.0", "-2 for a key that does not exist.")],
    ..asking("ttl", ttl)
};

fn ttl(op: &mut Op) -> Result<(), ReplyError> {
    let now = op.keys.moment.now.0;
    answer(op, |expiry| Ms(expiry.saturating_sub(now)).seconds_rounded())
}

pub(super) const PTTL: Command = Command {
    summary: "Answers in how many milliseconds a key expires.",
    since: "2.6.0",
    tips: &["nondeterministic_output"],
    history: &[("2.8.0", "-2 for a key that does not exist.")],
    ..asking("pttl", pttl)
};

fn pttl(op: &mut Op) -> Result<(), ReplyError> {
    let now = op.keys.moment.now.0;
    answer(op, |expiry| expiry.saturating_sub(now))
}

pub(super) const EXPIRETIME: Command = Command {
    summary: "Answers at which Unix time, in seconds, a key expires.",
    since: "7.0.0",
    ..asking("expiretime", expiretime)
};

fn expiretime(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, |expiry| Ms(expiry).seconds_rounded())
}

pub(super) const PEXPIRETIME: Command = Command {
    summary: "Answers at which Unix time, in milliseconds, a key expires.",
    since: "7.0.0",
    ..asking("pexpiretime", pexpiretime)
};

fn pexpiretime(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, |expiry| expiry)
}

fn answer(op: &mut Op, in_unit: impl FnOnce(u64) -> u64) -> Result<(), ReplyError> {
    op.keys.access = Access::Peek;
    let value = match op.keys.read(op.args.at(1))? {
        None => -2,
        Some(entry) => match entry.expiry() {
            None => -1,
            Some(expiry) => in_unit(expiry.0) as i64,
        },
    };
    op.reply.integer(value);
    Ok(())
}
