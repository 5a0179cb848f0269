//! Elements that come or get another score: ZADD and ZINCRBY, which is ZADD with `INCR` and a reply that is never nil.
//!
//! Options are judged before scores, scores before the key's type; only then is anything changed. The one error that is left, a
//! sum that is no number, needs `INCR`, and that takes just one element: so no call stops halfway.

use super::{GROWING, KEY, MEMBER};
use crate::base::numbers::parse_f64;
use crate::data::sorted_set::{AddOptions, AddOutcome};
use crate::engine::arguments::Options;
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

pub(super) const ZADD: Command = Command {
    summary: "Adds elements to a sorted set or changes their scores; the key is created if it is missing.",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: "O(log(N)) for each element, N being the number of elements there are.",
    arity: -4,
    flags: GROWING.union(Flags::FAST),
    categories: Categories::SORTEDSET,
    keys: &[KeySpec::one(1, KeyFlags::RW.union(KeyFlags::UPDATE))],
    arguments: &[
        KEY,
        arg(
            "condition",
            ArgumentKind::OneOf(&[Argument::word("nx", "NX"), Argument::word("xx", "XX")]),
        )
        .optional()
        .since("3.0.2"),
        arg(
            "comparison",
            ArgumentKind::OneOf(&[Argument::word("gt", "GT"), Argument::word("lt", "LT")]),
        )
        .optional()
        .since("6.2.0"),
        Argument::word("change", "CH").optional().since("3.0.2"),
        Argument::word("increment", "INCR").optional().since("3.0.2"),
        arg(
            "data",
            ArgumentKind::Block(&[arg("score", ArgumentKind::Double), MEMBER]),
        )
        .multiple(),
    ],
    history: &[
        ("2.4.0", "Several elements may be given."),
        ("3.0.2", "The options `XX`, `NX`, `CH` and `INCR` were added."),
        ("6.2.0", "The options `GT` and `LT` were added."),
    ],
    ..command("zadd", Run::Keys(zadd))
};

/// Reads the options, which begin behind the key: they, whether CH is among them, and where they end.
fn read_options(args: Args) -> (AddOptions, bool, usize) {
    let mut options = AddOptions::default();
    let mut counts_changes = false;
    let mut words = Options::behind(args, 2);
    loop {
        if words.flag(b"NX") {
            options.only_new = true;
        } else if words.flag(b"XX") {
            options.only_existing = true;
        } else if words.flag(b"CH") {
            counts_changes = true;
        } else if words.flag(b"INCR") {
            options.increment = true;
        } else if words.flag(b"GT") {
            options.only_greater = true;
        } else if words.flag(b"LT") {
            options.only_less = true;
        } else {
            return (options, counts_changes, words.index());
        }
    }
}

fn zadd(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    let (options, counts_changes, first) = read_options(args);
    let elements = args.slice_from(first);
    if elements.is_empty() || !elements.len().is_multiple_of(2) {
        return Err(error::SYNTAX);
    }
    if options.only_new && options.only_existing {
        return Err(error::ZADD_NX_WITH_XX);
    }
    let directions = [options.only_new, options.only_greater, options.only_less];
    if directions.into_iter().filter(|is_set| *is_set).count() > 1 {
        return Err(error::ZADD_GT_LT_NX);
    }
    if options.increment {
        if elements.len() > 2 {
            return Err(error::ZADD_INCR_PAIRS);
        }
        return increment(op, elements.at(0), elements.at(1), options);
    }
    add(op, elements, options, counts_changes)
}

/// Scores and members by turns.
fn add(op: &mut Op, elements: Args, options: AddOptions, counts_changes: bool) -> Result<(), ReplyError> {
    let (one, several);
    let scores: &[f64] = if elements.len() == 2 {
        one = [score(elements.at(0))?];
        &one
    } else {
        let texts = elements.iter().step_by(2);
        several = texts.map(score).collect::<Result<Vec<f64>, ReplyError>>()?;
        &several
    };
    let key = op.args.at(1);
    let (seed, limits) = (op.env.seed, &op.env.limits);
    let (added, updated) = op.keys.edit_or_create_sorted_set(key, |set| {
        set.prepare(scores.len(), limits, seed);
        let (mut added, mut updated) = (0, 0);
        for (index, score) in scores.iter().enumerate() {
            match set.add(seed, elements.at(2 * index + 1), *score, options, limits) {
                AddOutcome::Added(_) => added += 1,
                AddOutcome::Updated(_) => updated += 1,
                AddOutcome::Same(_) | AddOutcome::Refused | AddOutcome::NotANumber => {}
            }
        }
        Edited::when(added + updated > 0, (added, updated))
    })?;
    if added + updated > 0 {
        op.wrote_times(key, Event::sorted_set("zadd"), added + updated);
    }
    let changed = if counts_changes { added + updated } else { added };
    op.reply.integer(changed as i64);
    Ok(())
}

fn score(text: &[u8]) -> Result<f64, ReplyError> {
    parse_f64(text).ok_or(error::NOT_A_FLOAT)
}

pub(super) const ZINCRBY: Command = Command {
    summary: "Adds a number to the score of an element, which is added if it is missing.",
    since: "1.2.0",
    group: Group::SortedSet,
    complexity: "O(log(N)), N being the number of elements there are.",
    arity: 4,
    flags: GROWING.union(Flags::FAST),
    categories: Categories::SORTEDSET,
    keys: &[KeySpec::one(
        1,
        KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::UPDATE),
    )],
    arguments: &[KEY, arg("increment", ArgumentKind::Integer), MEMBER],
    ..command("zincrby", Run::Keys(zincrby))
};

fn zincrby(op: &mut Op) -> Result<(), ReplyError> {
    // To Redis it is a ZADD of one element; with an option there is a word too few for it.
    if read_options(op.args).2 > 2 {
        return Err(error::SYNTAX);
    }
    let options = AddOptions {
        increment: true,
        ..AddOptions::default()
    };
    increment(op, op.args.at(2), op.args.at(3), options)
}

/// Adds to one score, and replies with it; nil if the options did not allow it.
fn increment(op: &mut Op, by: &[u8], member: &[u8], options: AddOptions) -> Result<(), ReplyError> {
    let by = score(by)?;
    let key = op.args.at(1);
    let (seed, limits) = (op.env.seed, &op.env.limits);
    let outcome = op.keys.edit_or_create_sorted_set(key, |set| {
        let outcome = set.add(seed, member, by, options, limits);
        Edited::when(
            matches!(outcome, AddOutcome::Added(_) | AddOutcome::Updated(_)),
            outcome,
        )
    })?;
    match outcome {
        AddOutcome::Added(score) | AddOutcome::Updated(score) => {
            op.wrote(key, Event::sorted_set("zincr"));
            op.reply.double(score);
        }
        AddOutcome::Same(score) => op.reply.double(score),
        AddOutcome::Refused => op.reply.null(),
        AddOutcome::NotANumber => return Err(error::SCORE_NAN),
    }
    Ok(())
}
