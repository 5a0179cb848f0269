//! Elements that go: ZREM by name, ZREMRANGEBYRANK, ZREMRANGEBYSCORE and ZREMRANGEBYLEX by range. What takes elements to answer them
//! is in [`super::pop`].

use super::range::Selector;
use super::{KEY, MAX_MEMBER, MAX_SCORE, MEMBER, MIN_MEMBER, MIN_SCORE};
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::ReplyError;
use crate::spec::{ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

const DELETE: &[KeySpec] = &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::DELETE))];

pub(super) const ZREM: Command = Command {
    summary: "Removes elements from a sorted set; the key goes with the last one.",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: "O(M*log(N)), N being the number of elements there are, M how many are named.",
    arity: -3,
    flags: Flags::WRITE.union(Flags::FAST),
    categories: Categories::SORTEDSET,
    keys: DELETE,
    arguments: &[KEY, MEMBER.multiple()],
    history: &[("2.4.0", "Several members may be given.")],
    ..command("zrem", Run::Keys(zrem))
};

fn zrem(op: &mut Op) -> Result<(), ReplyError> {
    let (key, members) = (op.args.at(1), op.args.slice_from(2));
    let seed = op.env.seed;
    let removed = op.keys.edit_sorted_set(key, |set| {
        let count = members
            .iter()
            .filter(|member| set.remove(seed, member).is_some())
            .count();
        Edited::when(count > 0, count)
    })?;
    finish(op, key, "zrem", removed);
    Ok(())
}

/// Tells and replies how many were removed; None: there was no such key.
fn finish(op: &mut Op, key: &[u8], event: &'static str, removed: Option<usize>) {
    let count = removed.unwrap_or(0);
    if count > 0 {
        op.wrote_times(key, Event::sorted_set(event), count as u64);
    }
    op.reply.integer(count as i64);
}

/// What the three by range have in common.
const fn by_range(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(log(N)+M), N being the number of elements there are, M how many are removed.",
        arity: 4,
        flags: Flags::WRITE,
        categories: Categories::SORTEDSET,
        keys: DELETE,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const ZREMRANGEBYRANK: Command = Command {
    summary: "Removes the elements of a sorted set from one rank to another.",
    arguments: &[
        KEY,
        arg("start", ArgumentKind::Integer),
        arg("stop", ArgumentKind::Integer),
    ],
    ..by_range("zremrangebyrank", zremrangebyrank)
};

fn zremrangebyrank(op: &mut Op) -> Result<(), ReplyError> {
    let selector = Selector::ranks(op.args.at(2), op.args.at(3))?;
    remove(op, selector, "zremrangebyrank")
}

pub(super) const ZREMRANGEBYSCORE: Command = Command {
    summary: "Removes the elements of a sorted set whose scores lie in a range.",
    since: "1.2.0",
    arguments: &[KEY, MIN_SCORE, MAX_SCORE],
    ..by_range("zremrangebyscore", zremrangebyscore)
};

fn zremrangebyscore(op: &mut Op) -> Result<(), ReplyError> {
    let selector = Selector::scores(op.args.at(2), op.args.at(3))?;
    remove(op, selector, "zremrangebyscore")
}

pub(super) const ZREMRANGEBYLEX: Command = Command {
    summary: "Removes the members of a sorted set of equal scores that lie in a range of texts.",
    since: "2.8.9",
    arguments: &[KEY, MIN_MEMBER, MAX_MEMBER],
    ..by_range("zremrangebylex", zremrangebylex)
};

fn zremrangebylex(op: &mut Op) -> Result<(), ReplyError> {
    let selector = Selector::members(op.args.at(2), op.args.at(3))?;
    remove(op, selector, "zremrangebylex")
}

fn remove(op: &mut Op, selector: Selector, event: &'static str) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let seed = op.env.seed;
    let removed = op.keys.edit_sorted_set(key, |set| {
        let ranks = selector.resolve(set.as_ref(), false);
        let count = set.remove_ranks(seed, ranks);
        Edited::when(count > 0, count)
    })?;
    finish(op, key, event, removed);
    Ok(())
}
