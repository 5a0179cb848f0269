//! Members by chance: SPOP SRANDMEMBER.
//!
//! What chance has chosen is logged by name: a replica throws no dice.

use super::{READ, TAKE};
use crate::data::set::SetRef;
use crate::engine::arguments::numbers::{element_count, negatable};
use crate::engine::stored::reply_item;
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeySpec, arg, command};

pub(super) const SPOP: Command = Command {
    summary: "Takes a member of a set by chance, or several, and answers them.",
    since: "1.0.0",
    group: Group::Set,
    complexity: "O(N), N being the number of members taken.",
    arity: -2,
    flags: Flags::WRITE.union(Flags::FAST),
    categories: Categories::SET,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, TAKE)],
    arguments: &[
        Argument::key("key", 0),
        arg("count", ArgumentKind::Integer).optional().since("3.2.0"),
    ],
    history: &[("3.2.0", "The argument `count`.")],
    ..command("spop", Run::Keys(spop))
};

fn spop(op: &mut Op) -> Result<(), ReplyError> {
    if op.args.len() > 3 {
        return Err(error::SYNTAX);
    }
    match op.args.get(2) {
        None => pop_one(op),
        Some(count) => {
            let count = element_count(count)?;
            pop_many(op, count)
        }
    }
}

fn pop_one(op: &mut Op) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let Some(taken) = take(op, key, 1)? else {
        op.reply.null();
        return Ok(());
    };
    for member in &taken {
        op.reply.bulk(member);
    }
    finish_pop(op, key, &taken);
    Ok(())
}

fn pop_many(op: &mut Op, count: usize) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let len = op.keys.peek_set(key)?.map_or(0, SetRef::len);
    if count.min(len) == 0 {
        op.reply.set(0);
        return Ok(());
    }
    if count >= len {
        return pop_all(op, key);
    }
    if let Some(taken) = take(op, key, count)? {
        op.reply.set(taken.len());
        for member in &taken {
            op.reply.bulk(member);
        }
        finish_pop(op, key, &taken);
    }
    Ok(())
}

fn take(op: &mut Op, key: &[u8], count: usize) -> Result<Option<Vec<Vec<u8>>>, ReplyError> {
    let (random, seed) = (&mut op.env.random, op.env.seed);
    op.keys.edit_set(key, |set| {
        let mut taken = Vec::with_capacity(count.min(set.len()));
        set.pop(count, random, seed, |item| taken.push(item.to_vec()));
        Edited::Changed(taken)
    })
}

/// Members that one logged SREM names at most, so that no effect grows without bound. The number is Redis 7.2's.
const LOGGED_MEMBERS_MAX: usize = 1024;

fn finish_pop(op: &mut Op, key: &[u8], taken: &[Vec<u8>]) {
    op.wrote_times(key, Event::set("spop"), taken.len() as u64);
    if !op.is_logged() {
        return op.logs_nothing();
    }
    for some in taken.chunks(LOGGED_MEMBERS_MAX) {
        let mut words: Vec<&[u8]> = Vec::with_capacity(some.len() + 2);
        words.extend([&b"SREM"[..], key]);
        words.extend(some.iter().map(Vec::as_slice));
        op.instead(&words);
    }
}

/// Takes a set as a whole. It is the key that is deleted, so what takes long to free is freed in the background.
fn pop_all(op: &mut Op, key: &[u8]) -> Result<(), ReplyError> {
    let Some(set) = op.keys.peek_set(key)? else {
        return Ok(());
    };
    let reply = &mut op.reply;
    reply.set(set.len());
    set.for_each(|item| reply_item(reply, item));
    let count = set.len() as u64;
    let (db, moment) = (op.keys.db, op.keys.moment);
    let slot = op.keys.slot_of(key);
    op.keys.numbered(slot)?.remove(db, key, moment);
    let verb: &[u8] = match op.env.settings.lazyfree_lazy_server_del {
        true => b"UNLINK",
        false => b"DEL",
    };
    op.instead(&[verb, key]);
    op.wrote_times(key, Event::set("spop"), count);
    op.also(key, Event::generic("del"));
    Ok(())
}

pub(super) const SRANDMEMBER: Command = Command {
    summary: "Answers a member of a set by chance, or several of them.",
    since: "1.0.0",
    group: Group::Set,
    complexity: "O(N), N being the number of members answered.",
    arity: -2,
    flags: Flags::READONLY,
    categories: Categories::SET,
    tips: &["nondeterministic_output"],
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        arg("count", ArgumentKind::Integer).optional().since("2.6.0"),
    ],
    history: &[("2.6.0", "The argument `count`.")],
    ..command("srandmember", Run::Keys(srandmember))
};

fn srandmember(op: &mut Op) -> Result<(), ReplyError> {
    if op.args.len() > 3 {
        return Err(error::SYNTAX);
    }
    let count = op.args.get(2).map(negatable).transpose()?;
    let set = op.keys.read_set(op.args.at(1))?;
    let (reply, random, seed) = (&mut op.reply, &mut op.env.random, op.env.seed);
    let Some(count) = count else {
        match set.and_then(|set| set.random(random, seed)) {
            Some(item) => reply_item(reply, item),
            None => reply.null(),
        }
        return Ok(());
    };
    let Some(set) = set else {
        reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 {
        // Each is drawn anew.
        reply.array(wanted);
        for _ in 0..wanted {
            if let Some(item) = set.random(random, seed) {
                reply_item(reply, item);
            }
            if reply.is_full() {
                break;
            }
        }
    } else if wanted >= set.len() {
        reply.array(set.len());
        set.for_each(|item| reply_item(reply, item));
    } else {
        let chosen = set.random_distinct(wanted, random, seed);
        reply.array(chosen.len());
        chosen.into_iter().for_each(|item| reply_item(reply, item));
    }
    Ok(())
}
