//! Several sorted sets at once: ZUNION ZINTER ZDIFF, with their `STORE` forms, and ZINTERCARD.
//!
//! A plain set may stand for a sorted set in which each score is 1; a key that is missing is an empty one. Every key is looked up
//! first, so that types are compared and slots are asked for; only then are the options read, as in Redis; then all of them are
//! looked at side by side. The result is built beside whatever the target holds, as that may be among the sources.
//!
//! The sum of doubles depends on the order of addition, so the order is part of the contract: unions and intersections take
//! the smallest source first, and sources of equal size as they were given. What becomes of infinities is Redis's too:
//! infinity times the weight 0 is no number, and counts as 0 wherever it comes first for its member and everywhere in a
//! union; later in an intersection it makes a sum 0, and loses against any score as a minimum or maximum.

use super::{GROWING, KEY, READ, TARGET, WITHSCORES, reply_elements, store};
use crate::base::numbers::parse_f64;
use crate::data::listpack::Item;
use crate::data::set::{Set, SetRef};
use crate::data::sorted_set::{Accumulator, Aggregate, SortedSet, SortedSetRef, weighted};
use crate::data::{TypedValue, ValueType};
use crate::engine::Keyspace;
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::{integer, natural};
use crate::engine::{Command, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeySpec, arg, command};
use crate::store::HashSeed;
use std::ops::ControlFlow;

const UNION_COMPLEXITY: &str =
    "O(N)+O(M*log(M)), N being the number of elements of all the sources, M that of the result.";
const INTERSECTION_COMPLEXITY: &str = "O(N*K)+O(M*log(M)), N being the number of elements of the smallest source, K the number of sources, M the number of elements of the result.";
const DIFFERENCE_COMPLEXITY: &str = "O(N*K)+O(M*log(M)), N being the number of elements of the first source, K the number of sources, M the number of elements of the result.";

const SOURCES: &[KeySpec] = &[KeySpec::counted(1, READ)];
const TARGET_AND_SOURCES: &[KeySpec] = &[KeySpec::one(1, TARGET), KeySpec::counted(2, READ)];
const DESTINATION: Argument = Argument::key("destination", 0);
const NUMKEYS: Argument = arg("numkeys", ArgumentKind::Integer);
const SOURCE_OF_STORE: Argument = Argument::key("key", 1).multiple();
const WEIGHTS: Argument = arg("weight", ArgumentKind::Integer)
    .token("WEIGHTS")
    .optional()
    .multiple();
const AGGREGATE: Argument = arg(
    "aggregate",
    ArgumentKind::OneOf(&[
        Argument::word("sum", "SUM"),
        Argument::word("min", "MIN"),
        Argument::word("max", "MAX"),
    ]),
)
.token("AGGREGATE")
.optional();

const ANSWER_ARGUMENTS: &[Argument] = &[NUMKEYS, KEY.multiple(), WEIGHTS, AGGREGATE, WITHSCORES];

/// What those that answer have in common.
const fn answering(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "6.2.0",
        group: Group::SortedSet,
        arity: -3,
        flags: Flags::READONLY,
        categories: Categories::SORTEDSET,
        keys: SOURCES,
        arguments: ANSWER_ARGUMENTS,
        ..command(name, Run::Keys(run))
    }
}

/// What those that store have in common.
const fn storing(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "2.0.0",
        group: Group::SortedSet,
        arity: -4,
        flags: GROWING,
        categories: Categories::SORTEDSET,
        keys: TARGET_AND_SOURCES,
        arguments: &[DESTINATION, NUMKEYS, SOURCE_OF_STORE, WEIGHTS, AGGREGATE],
        ..command(name, Run::Keys(run))
    }
}

pub(super) const ZUNION: Command = Command {
    summary: "Answers the elements of several sorted sets together.",
    complexity: UNION_COMPLEXITY,
    ..answering("zunion", zunion)
};

fn zunion(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Algebra::Union)
}

pub(super) const ZINTER: Command = Command {
    summary: "Answers the elements that several sorted sets have in common.",
    complexity: INTERSECTION_COMPLEXITY,
    ..answering("zinter", zinter)
};

fn zinter(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Algebra::Intersection)
}

pub(super) const ZDIFF: Command = Command {
    summary: "Answers the elements of a sorted set that none of several others has.",
    complexity: DIFFERENCE_COMPLEXITY,
    arguments: &[NUMKEYS, KEY.multiple(), WITHSCORES],
    ..answering("zdiff", zdiff)
};

fn zdiff(op: &mut Op) -> Result<(), ReplyError> {
    answer(op, Algebra::Difference)
}

pub(super) const ZUNIONSTORE: Command = Command {
    summary: "Stores the elements of several sorted sets together as a sorted set.",
    complexity: UNION_COMPLEXITY,
    ..storing("zunionstore", zunionstore)
};

fn zunionstore(op: &mut Op) -> Result<(), ReplyError> {
    store_result(op, Algebra::Union, "zunionstore")
}

pub(super) const ZINTERSTORE: Command = Command {
    summary: "Stores the elements that several sorted sets have in common as a sorted set.",
    complexity: INTERSECTION_COMPLEXITY,
    ..storing("zinterstore", zinterstore)
};

fn zinterstore(op: &mut Op) -> Result<(), ReplyError> {
    store_result(op, Algebra::Intersection, "zinterstore")
}

pub(super) const ZDIFFSTORE: Command = Command {
    summary: "Stores the elements of a sorted set that none of several others has as a sorted set.",
    since: "6.2.0",
    complexity: DIFFERENCE_COMPLEXITY,
    arguments: &[DESTINATION, NUMKEYS, SOURCE_OF_STORE],
    ..storing("zdiffstore", zdiffstore)
};

fn zdiffstore(op: &mut Op) -> Result<(), ReplyError> {
    store_result(op, Algebra::Difference, "zdiffstore")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Algebra {
    Union,
    Intersection,
    Difference,
}

/// What a source holds.
#[derive(Clone, Copy)]
enum Elements<'a> {
    /// Nothing.
    None,
    Scored(SortedSetRef<'a>),
    /// A plain set.
    Plain(SetRef<'a>),
}

/// The score of the members of plain sets.
const PLAIN_SCORE: f64 = 1.0;

impl<'a> Elements<'a> {
    fn len(self) -> usize {
        match self {
            Elements::None => 0,
            Elements::Scored(set) => set.len(),
            Elements::Plain(set) => set.len(),
        }
    }

    fn score(self, seed: HashSeed, member: &[u8]) -> Option<f64> {
        match self {
            Elements::None => None,
            Elements::Scored(set) => set.score(seed, member),
            Elements::Plain(set) => set.contains(member, seed).then_some(PLAIN_SCORE),
        }
    }

    fn try_for_each(self, mut visit: impl FnMut(Item<'a>, f64) -> ControlFlow<()>) -> ControlFlow<()> {
        match self {
            Elements::None => ControlFlow::Continue(()),
            Elements::Scored(set) => set.iter().try_for_each(|element| visit(element.member, element.score)),
            Elements::Plain(set) => set.try_for_each(|member| visit(member, PLAIN_SCORE)),
        }
    }
}

/// A source and the weight of its scores.
struct Source<'a> {
    elements: Elements<'a>,
    weight: f64,
}

/// A call, understood.
struct Call<'a> {
    keys: Args<'a>,
    weights: Option<Args<'a>>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Where ZINTERCARD stops counting; 0 is nowhere.
    limit: usize,
}

/// Which options a command takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Answer,
    Store,
    Count,
}

impl<'a> Call<'a> {
    /// Reads the arguments from the number of keys on, and looks the keys up on the way, each as a read.
    fn read(op: &mut Op<'a, '_>, first: usize, algebra: Algebra, form: Form) -> Result<Call<'a>, ReplyError> {
        let args = op.args;
        let key_count = integer(args.at(first))?;
        if key_count < 1 {
            return Err(error::input_key_needed(op.command.name));
        }
        let left = args.len() - first - 1;
        let key_count = usize::try_from(key_count).unwrap_or(usize::MAX);
        if key_count > left {
            return Err(error::SYNTAX);
        }
        let mut options = Options::behind(args, first + 1 + key_count);
        let mut call = Call {
            keys: args.range(first + 1, options.index()),
            weights: None,
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
        };
        for key in call.keys.iter() {
            let found = op.keys.read(key)?.map(|entry| entry.type_of());
            if !matches!(found, None | Some(ValueType::SortedSet | ValueType::Set)) {
                return Err(error::WRONG_TYPE);
            }
        }
        let combines = algebra != Algebra::Difference && form != Form::Count;
        while !options.is_empty() {
            if combines && options.flag(b"WEIGHTS") {
                let first = options.index();
                // All of them must be there before the first one is judged.
                for _ in 0..key_count {
                    options.word()?;
                }
                let weights = args.range(first, options.index());
                if weights.iter().any(|weight| parse_f64(weight).is_none()) {
                    return Err(error::WEIGHT_NOT_A_FLOAT);
                }
                call.weights = Some(weights);
            } else if combines && options.flag(b"AGGREGATE") {
                call.aggregate = aggregate(options.word()?)?;
            } else if form == Form::Answer && options.flag(b"WITHSCORES") {
                call.with_scores = true;
            } else if form == Form::Count && options.flag(b"LIMIT") {
                call.limit = natural(options.word()?, 0, error::LIMIT_NEGATIVE)?;
            } else {
                return Err(error::SYNTAX);
            }
        }
        Ok(call)
    }

    /// The sources side by side, in the order in which they are combined.
    fn sources<'k>(&self, keyspace: &'k Keyspace<'_, '_>, algebra: Algebra) -> Vec<Source<'k>> {
        let mut sources: Vec<Source<'k>> = self
            .keys
            .iter()
            .enumerate()
            .map(|(index, key)| Source {
                elements: elements(keyspace, key),
                weight: self
                    .weights
                    .and_then(|weights| parse_f64(weights.at(index)))
                    .unwrap_or(1.0),
            })
            .collect();
        if algebra != Algebra::Difference {
            sources.sort_by_key(|source| source.elements.len());
        }
        sources
    }

    /// What comes of it.
    fn combine(&self, op: &Op, algebra: Algebra) -> SortedSet {
        let sources = self.sources(&op.keys, algebra);
        let seed = op.env.seed;
        let mut result = Accumulator::new();
        let mut digits = itoa::Buffer::new();
        let mut gather = |member: Item<'_>, score: f64| {
            result.insert(seed, member.as_bytes(&mut digits), score);
            ControlFlow::Continue(())
        };
        let _ = match algebra {
            Algebra::Union => sources.iter().try_for_each(|source| {
                source.elements.try_for_each(|member, score| {
                    let score = weighted(score, source.weight);
                    result.combine(seed, member.as_bytes(&mut digits), score, self.aggregate);
                    ControlFlow::Continue(())
                })
            }),
            Algebra::Intersection => intersect(&sources, self.aggregate, seed, &mut gather),
            Algebra::Difference => subtract(&sources, seed, &mut gather),
        };
        result.into_sorted_set(&op.env.limits)
    }
}

fn aggregate(name: &[u8]) -> Result<Aggregate, ReplyError> {
    let names: [(&[u8], Aggregate); 3] = [
        (b"SUM", Aggregate::Sum),
        (b"MIN", Aggregate::Min),
        (b"MAX", Aggregate::Max),
    ];
    let found = names.into_iter().find(|(word, _)| name.eq_ignore_ascii_case(word));
    found.map(|(_, aggregate)| aggregate).ok_or(error::SYNTAX)
}

/// What is under a key whose type has been compared.
fn elements<'k>(keyspace: &'k Keyspace<'_, '_>, key: &[u8]) -> Elements<'k> {
    let entry = keyspace
        .view
        .peek(keyspace.slot_of(key))
        .and_then(|slot| slot.peek(keyspace.db, key, keyspace.moment.now));
    let Some(object) = entry.and_then(|entry| entry.object()) else {
        return Elements::None;
    };
    let scored = SortedSet::of(object).map(Elements::Scored);
    scored
        .or_else(|| Set::of(object).map(Elements::Plain))
        .unwrap_or(Elements::None)
}

/// Visits what all sources have, with the combined scores.
fn intersect<'a>(
    sources: &[Source<'a>],
    aggregate: Aggregate,
    seed: HashSeed,
    visit: &mut impl FnMut(Item<'a>, f64) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some((smallest, others)) = sources.split_first() else {
        return ControlFlow::Continue(());
    };
    let mut digits = itoa::Buffer::new();
    smallest.elements.try_for_each(|member, score| {
        let bytes = member.as_bytes(&mut digits);
        let mut combined = weighted(score, smallest.weight);
        for other in others {
            let Some(score) = other.elements.score(seed, bytes) else {
                return ControlFlow::Continue(());
            };
            combined = aggregate.combine(combined, score * other.weight);
        }
        visit(member, combined)
    })
}

/// Visits what only the first source has.
fn subtract<'a>(
    sources: &[Source<'a>],
    seed: HashSeed,
    visit: &mut impl FnMut(Item<'a>, f64) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some((first, others)) = sources.split_first() else {
        return ControlFlow::Continue(());
    };
    // The largest first: most are found there.
    let mut others: Vec<Elements> = others.iter().map(|source| source.elements).collect();
    others.sort_by_key(|elements| std::cmp::Reverse(elements.len()));
    let mut digits = itoa::Buffer::new();
    first.elements.try_for_each(|member, score| {
        let bytes = member.as_bytes(&mut digits);
        if others.iter().any(|other| other.score(seed, bytes).is_some()) {
            return ControlFlow::Continue(());
        }
        visit(member, score)
    })
}

fn answer(op: &mut Op, algebra: Algebra) -> Result<(), ReplyError> {
    let call = Call::read(op, 1, algebra, Form::Answer)?;
    let result = call.combine(op, algebra);
    reply_elements(&mut op.reply, result.as_ref().iter(), call.with_scores);
    Ok(())
}

fn store_result(op: &mut Op, algebra: Algebra, event: &'static str) -> Result<(), ReplyError> {
    let target = op.args.at(1);
    op.keys.slot(target)?;
    let call = Call::read(op, 2, algebra, Form::Store)?;
    let result = call.combine(op, algebra);
    store(op, target, result, event)
}

pub(super) const ZINTERCARD: Command = Command {
    summary: "Counts the elements that several sorted sets have in common.",
    since: "7.0.0",
    complexity: "O(N*K), N being the number of elements of the smallest source, K the number of sources.",
    arguments: &[
        NUMKEYS,
        KEY.multiple(),
        arg("limit", ArgumentKind::Integer).token("LIMIT").optional(),
    ],
    ..answering("zintercard", zintercard)
};

fn zintercard(op: &mut Op) -> Result<(), ReplyError> {
    let call = Call::read(op, 1, Algebra::Intersection, Form::Count)?;
    let sources = call.sources(&op.keys, Algebra::Intersection);
    let mut count = 0;
    let _ = intersect(&sources, Aggregate::Sum, op.env.seed, &mut |_, _| {
        count += 1;
        if count == call.limit {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    op.reply.integer(count as i64);
    Ok(())
}
