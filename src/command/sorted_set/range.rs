//! Ranges of elements: ZRANGE with all that it can do, ZRANGESTORE, and the six older commands that are ZRANGE with some of its options
//! fixed.
//!
//! What is wrong with a call is found in Redis's order: options from left to right, then combinations of them, then the two ends
//! of the range, and only then the key. What has no options fixed takes each of `BYSCORE`, `BYLEX` and `REV` once.
//!
//! A range is turned into ranks ([`Selector`]), so an element that is not answered is not read either.

use super::{
    GROWING, KEY, MAX_MEMBER, MAX_SCORE, MIN_MEMBER, MIN_SCORE, ONE_KEY, READ, TARGET, WITHSCORES, reply_elements,
    store,
};
use crate::data::sorted_set::{
    Accumulator, LexRange, ScoreRange, SortedSet, SortedSetRef, limit, resolve_ranks, resolve_ranks_reversed,
};
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::integer;
use crate::engine::{Command, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeySpec, arg, command};
use std::ops::Range;

const LIMIT: Argument = arg(
    "limit",
    ArgumentKind::Block(&[
        arg("offset", ArgumentKind::Integer),
        arg("count", ArgumentKind::Integer),
    ]),
)
.token("LIMIT")
.optional();

const SORT_BY: Argument = arg(
    "sortby",
    ArgumentKind::OneOf(&[Argument::word("byscore", "BYSCORE"), Argument::word("bylex", "BYLEX")]),
)
.optional();

const REV: Argument = Argument::word("rev", "REV").optional();

/// What all that answer a range have in common.
const fn answering(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        group: Group::SortedSet,
        complexity: "O(log(N)+M), N being the number of elements there are, M how many are answered.",
        arity: -4,
        flags: Flags::READONLY,
        categories: Categories::SORTEDSET,
        keys: ONE_KEY,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const ZRANGE: Command = Command {
    summary: "Answers a range of elements of a sorted set: by rank, by score or by member, from either end.",
    since: "1.2.0",
    arguments: &[
        KEY,
        arg("start", ArgumentKind::String),
        arg("stop", ArgumentKind::String),
        SORT_BY.since("6.2.0"),
        REV.since("6.2.0"),
        LIMIT.since("6.2.0"),
        WITHSCORES,
    ],
    history: &[("6.2.0", "The options `REV`, `BYSCORE`, `BYLEX` and `LIMIT` were added.")],
    ..answering("zrange", zrange)
};

fn zrange(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, None, None)
}

pub(super) const ZREVRANGE: Command = Command {
    summary: "Answers the elements of a sorted set from one rank to another, the highest first.",
    since: "1.2.0",
    arguments: &[
        KEY,
        arg("start", ArgumentKind::Integer),
        arg("stop", ArgumentKind::Integer),
        WITHSCORES,
    ],
    deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` argument")),
    ..answering("zrevrange", zrevrange)
};

fn zrevrange(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Some(By::Rank), Some(true))
}

pub(super) const ZRANGEBYSCORE: Command = Command {
    summary: "Answers the elements of a sorted set whose scores lie in a range.",
    since: "1.0.5",
    arguments: &[KEY, MIN_SCORE, MAX_SCORE, WITHSCORES.since("2.0.0"), LIMIT],
    history: &[("2.0.0", "The option `WITHSCORES` was added.")],
    deprecated: Some(("6.2.0", "`ZRANGE` with the `BYSCORE` argument")),
    ..answering("zrangebyscore", zrangebyscore)
};

fn zrangebyscore(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Some(By::Score), Some(false))
}

pub(super) const ZREVRANGEBYSCORE: Command = Command {
    summary: "Answers the elements of a sorted set whose scores lie in a range, the highest first.",
    since: "2.2.0",
    arguments: &[KEY, MAX_SCORE, MIN_SCORE, WITHSCORES, LIMIT],
    history: &[("2.1.6", "Either end may be left out of the range.")],
    deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments")),
    ..answering("zrevrangebyscore", zrevrangebyscore)
};

fn zrevrangebyscore(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Some(By::Score), Some(true))
}

pub(super) const ZRANGEBYLEX: Command = Command {
    summary: "Answers the members of a sorted set of equal scores that lie in a range of texts.",
    since: "2.8.9",
    arguments: &[KEY, MIN_MEMBER, MAX_MEMBER, LIMIT],
    deprecated: Some(("6.2.0", "`ZRANGE` with the `BYLEX` argument")),
    ..answering("zrangebylex", zrangebylex)
};

fn zrangebylex(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Some(By::Member), Some(false))
}

pub(super) const ZREVRANGEBYLEX: Command = Command {
    summary: "Answers the members of a sorted set of equal scores that lie in a range of texts, the last first.",
    since: "2.8.9",
    arguments: &[KEY, MAX_MEMBER, MIN_MEMBER, LIMIT],
    deprecated: Some(("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments")),
    ..answering("zrevrangebylex", zrevrangebylex)
};

fn zrevrangebylex(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Some(By::Member), Some(true))
}

fn answer(op: &mut Op, by: Option<By>, is_reversed: Option<bool>) -> Result<(), ReplyError> {
    let query = Query::read(op.args.slice_from(2), by, is_reversed, true)?;
    let Some(set) = op.keys.read_sorted_set(op.args.at(1))? else {
        op.reply.array(0);
        return Ok(());
    };
    let elements = set.range(query.resolve(set));
    if query.is_reversed {
        reply_elements(&mut op.reply, elements.rev(), query.with_scores);
    } else {
        reply_elements(&mut op.reply, elements, query.with_scores);
    }
    Ok(())
}

pub(super) const ZRANGESTORE: Command = Command {
    summary: "Stores a range of elements of a sorted set under another key.",
    since: "6.2.0",
    group: Group::SortedSet,
    complexity: "O(log(N)+M*log(M)), N being the number of elements there are, M how many are stored.",
    arity: -5,
    flags: GROWING,
    categories: Categories::SORTEDSET,
    keys: &[KeySpec::one(1, TARGET), KeySpec::one(2, READ)],
    arguments: &[
        Argument::key("dst", 0),
        Argument::key("src", 1),
        MIN_MEMBER,
        MAX_MEMBER,
        SORT_BY,
        REV,
        LIMIT,
    ],
    ..command("zrangestore", Run::Keys(zrangestore))
};

fn zrangestore(op: &mut Op) -> Result<(), ReplyError> {
    let query = Query::read(op.args.slice_from(3), None, None, false)?;
    let (target, source) = (op.args.at(1), op.args.at(2));
    op.keys.slot(target)?;
    let found = match op.keys.read_sorted_set(source)? {
        None => SortedSet::new(),
        Some(set) => copy(set, query.resolve(set), op.env.seed, &op.env.limits),
    };
    store(op, target, found, "zrangestore")
}

/// A sorted set of these elements of another one.
fn copy(
    set: SortedSetRef<'_>,
    ranks: Range<usize>,
    seed: crate::store::HashSeed,
    limits: &crate::data::Limits,
) -> SortedSet {
    let mut digits = itoa::Buffer::new();
    let mut gathered = Accumulator::new();
    for element in set.range(ranks) {
        gathered.insert(seed, element.member.as_bytes(&mut digits), element.score);
    }
    gathered.into_sorted_set(limits)
}

/// What a range is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Rank,
    Score,
    Member,
}

/// The two ends of a range, understood.
pub(super) enum Selector<'a> {
    Ranks(i64, i64),
    Scores(ScoreRange),
    Members(LexRange<'a>),
}

impl<'a> Selector<'a> {
    pub(super) fn ranks(start: &[u8], stop: &[u8]) -> Result<Selector<'a>, ReplyError> {
        Ok(Selector::Ranks(integer(start)?, integer(stop)?))
    }

    pub(super) fn scores(min: &[u8], max: &[u8]) -> Result<Selector<'a>, ReplyError> {
        ScoreRange::parse(min, max)
            .map(Selector::Scores)
            .ok_or(error::SCORE_RANGE_INVALID)
    }

    pub(super) fn members(min: &'a [u8], max: &'a [u8]) -> Result<Selector<'a>, ReplyError> {
        LexRange::parse(min, max)
            .map(Selector::Members)
            .ok_or(error::LEX_RANGE_INVALID)
    }

    /// The ranks of the elements in it. `is_reversed`: they are read from the end, from where ranks are counted then as well.
    pub(super) fn resolve(&self, set: SortedSetRef<'_>, is_reversed: bool) -> Range<usize> {
        match self {
            Selector::Ranks(start, stop) if is_reversed => resolve_ranks_reversed(*start, *stop, set.len()),
            Selector::Ranks(start, stop) => resolve_ranks(*start, *stop, set.len()),
            Selector::Scores(range) => set.ranks_by_score(range),
            Selector::Members(range) => set.ranks_by_lex(range, is_reversed),
        }
    }
}

/// A call of ZRANGE or one of its kin, understood.
struct Query<'a> {
    selector: Selector<'a>,
    is_reversed: bool,
    /// Offset and count; a range of ranks has none.
    limit: Option<(i64, i64)>,
    with_scores: bool,
}

impl<'a> Query<'a> {
    /// Reads both ends and the options behind them; what the command's name fixes is no option.
    fn read(
        args: Args<'a>,
        mut by: Option<By>,
        mut is_reversed: Option<bool>,
        may_have_scores: bool,
    ) -> Result<Query<'a>, ReplyError> {
        let (mut offset, mut count) = (0, -1);
        let mut with_scores = false;
        let mut options = Options::behind(args, 2);
        while !options.is_empty() {
            if may_have_scores && options.flag(b"WITHSCORES") {
                with_scores = true;
            } else if options.flag(b"LIMIT") {
                let (first, second) = (options.word()?, options.word()?);
                (offset, count) = (integer(first)?, integer(second)?);
            } else if is_reversed.is_none() && options.flag(b"REV") {
                is_reversed = Some(true);
            } else if by.is_none() && options.flag(b"BYLEX") {
                by = Some(By::Member);
            } else if by.is_none() && options.flag(b"BYSCORE") {
                by = Some(By::Score);
            } else {
                return Err(error::SYNTAX);
            }
        }
        let by = by.unwrap_or(By::Rank);
        let is_reversed = is_reversed.unwrap_or(false);
        // A count of -1 is the same as none: then Redis does not notice that there is a LIMIT.
        if by == By::Rank && count != -1 {
            return Err(error::ZRANGE_LIMIT_WITHOUT_BY);
        }
        if by == By::Member && with_scores {
            return Err(error::ZRANGE_WITHSCORES_BYLEX);
        }
        let (first, last) = (args.at(0), args.at(1));
        // Whoever reads from the end says the upper end first.
        let (min, max) = if is_reversed { (last, first) } else { (first, last) };
        Ok(Query {
            selector: match by {
                By::Rank => Selector::ranks(first, last)?,
                By::Score => Selector::scores(min, max)?,
                By::Member => Selector::members(min, max)?,
            },
            is_reversed,
            limit: (by != By::Rank).then_some((offset, count)),
            with_scores,
        })
    }

    fn resolve(&self, set: SortedSetRef<'_>) -> Range<usize> {
        let ranks = self.selector.resolve(set, self.is_reversed);
        match self.limit {
            Some((offset, count)) => limit(ranks, offset, count, self.is_reversed),
            None => ranks,
        }
    }
}
