//! Taking from sorted sets, waiting for one where there is none: BZPOPMIN BZPOPMAX BZMPOP.
//!
//! BZPOPMIN answers the key, the member and the score, in RESP3 as in RESP2; BZMPOP answers what ZMPOP does. Each logs what its sister
//! without a B does.

use super::TAKE;
use super::pop::{End, MultiPop, first_of};
use crate::data::ValueType;
use crate::engine::arguments::timeout::deadline_s;
use crate::engine::stored::reply_item;
use crate::engine::typed::Edited;
use crate::engine::{Command, Op, Park, Run};
use crate::resp::ReplyError;
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeySpec, arg, command};

const TIMEOUT: Argument = arg("timeout", ArgumentKind::Double);

/// All arguments but the last.
const POP_KEYS: &[KeySpec] = &[KeySpec::range(1, -2, 1, TAKE)];
const POP_ARGUMENTS: &[Argument] = &[super::KEY.multiple(), TIMEOUT];

/// What BZPOPMIN and BZPOPMAX have in common.
const fn popping(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "5.0.0",
        group: Group::SortedSet,
        complexity: "O(log(N)), N being the number of elements there are.",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST).union(Flags::BLOCKING),
        categories: Categories::SORTEDSET,
        keys: POP_KEYS,
        arguments: POP_ARGUMENTS,
        history: &[("6.0.0", "`timeout` may be a fraction of seconds.")],
        ..command(name, Run::Keys(run))
    }
}

pub(super) const BZPOPMIN: Command = Command {
    summary: "Takes the element with the lowest score out of the first of several sorted sets that exists, and answers it with the key; waits for one if there is none.",
    ..popping("bzpopmin", bzpopmin)
};

fn bzpopmin(op: &mut Op) -> Result<(), ReplyError> {
    pop(op, End::Lowest)
}

pub(super) const BZPOPMAX: Command = Command {
    summary: "Takes the element with the highest score out of the first of several sorted sets that exists, and answers it with the key; waits for one if there is none.",
    ..popping("bzpopmax", bzpopmax)
};

fn bzpopmax(op: &mut Op) -> Result<(), ReplyError> {
    pop(op, End::Highest)
}

fn pop(op: &mut Op, end: End) -> Result<(), ReplyError> {
    let timeout_at = op.args.len() - 1;
    let deadline = deadline_s(op.args.at(timeout_at), op.env.now)?;
    let keys = op.args.range(1, timeout_at);
    let Some(key) = first_of(op, keys)? else {
        return op.wait(Park::until(ValueType::SortedSet, keys.iter(), deadline));
    };
    let (seed, reply) = (op.env.seed, &mut op.reply);
    op.keys.edit_sorted_set(key, |set| {
        reply.array(3);
        reply.bulk(key);
        set.pop(seed, 1, end == End::Highest, |element| {
            reply_item(reply, element.member);
            reply.double(element.score);
        });
        Edited::Changed(())
    })?;
    op.wrote(key, end.event());
    op.instead(&[end.command(), key]);
    Ok(())
}

pub(super) const BZMPOP: Command = Command {
    summary: "Takes the elements with the lowest or highest scores out of the first of several sorted sets that has any; waits for one if there is none.",
    since: "7.0.0",
    group: Group::SortedSet,
    complexity: "O(K)+O(log(N)+M), K being the number of keys, N that of the elements there are, M how many are taken.",
    arity: -5,
    flags: Flags::WRITE.union(Flags::BLOCKING),
    categories: Categories::SORTEDSET,
    keys: &[KeySpec::counted(2, TAKE)],
    arguments: &[
        TIMEOUT,
        arg("numkeys", ArgumentKind::Integer),
        super::KEY.multiple(),
        arg(
            "where",
            ArgumentKind::OneOf(&[Argument::word("min", "MIN"), Argument::word("max", "MAX")]),
        ),
        super::COUNT.token("COUNT").optional(),
    ],
    ..command("bzmpop", Run::Keys(bzmpop))
};

fn bzmpop(op: &mut Op) -> Result<(), ReplyError> {
    let call = MultiPop::parse(op.args, 2)?;
    let deadline = deadline_s(op.args.at(1), op.env.now)?;
    if call.run(op)? {
        return Ok(());
    }
    op.wait(Park::until(ValueType::SortedSet, call.keys.iter(), deadline))
}
