//! What is asked about one element or about all: how many there are, which score or rank one has, one by chance, and ZSCAN.

use super::range::Selector;
use super::{
    COUNT, FAST_READ, KEY, MAX_MEMBER, MAX_SCORE, MEMBER, MIN_MEMBER, MIN_SCORE, ONE_KEY, WITHSCORES, begin_scored,
    reply_elements, reply_scored,
};
use crate::base::glob;
use crate::base::numbers::{format_f64, format_f64_long};
use crate::data::Encoding;
use crate::data::sorted_set::{ScoredMember, SortedSetRef};
use crate::engine::arguments::element_scan::ElementScan;
use crate::engine::arguments::is_word;
use crate::engine::arguments::numbers;
use crate::engine::arguments::numbers::negatable;
use crate::engine::stored::reply_item;
use crate::engine::{Command, Op, Run};
use crate::resp::{Reply, ReplyBuf, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};

/// What the quick ones have in common.
const fn asking(name: &'static str, run: fn(&mut Op) -> Result<(), ReplyError>) -> Command {
    Command {
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(log(N)), N being the number of elements there are.",
        flags: FAST_READ,
        categories: Categories::SORTEDSET,
        keys: ONE_KEY,
        ..command(name, Run::Keys(run))
    }
}

pub(super) const ZCARD: Command = Command {
    summary: "Counts the elements of a sorted set.",
    since: "1.2.0",
    complexity: "O(1)",
    arity: 2,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: &[KEY],
    ..asking("zcard", zcard)
};

fn zcard(op: &mut Op) -> Result<(), ReplyError> {
    let set = op.keys.read_sorted_set(op.args.at(1))?;
    op.reply.integer(set.map_or(0, SortedSetRef::len) as i64);
    Ok(())
}

pub(super) const ZCOUNT: Command = Command {
    summary: "Counts the elements of a sorted set whose scores lie in a range.",
    arity: 4,
    arguments: &[KEY, MIN_SCORE, MAX_SCORE],
    ..asking("zcount", zcount)
};

fn zcount(op: &mut Op) -> Result<(), ReplyError> {
    let selector = Selector::scores(op.args.at(2), op.args.at(3))?;
    count(op, selector)
}

pub(super) const ZLEXCOUNT: Command = Command {
    summary: "Counts the members of a sorted set of equal scores that lie in a range of texts.",
    since: "2.8.9",
    arity: 4,
    arguments: &[KEY, MIN_MEMBER, MAX_MEMBER],
    ..asking("zlexcount", zlexcount)
};

fn zlexcount(op: &mut Op) -> Result<(), ReplyError> {
    let selector = Selector::members(op.args.at(2), op.args.at(3))?;
    count(op, selector)
}

fn count(op: &mut Op, selector: Selector) -> Result<(), ReplyError> {
    let set = op.keys.read_sorted_set(op.args.at(1))?;
    let count = set.map_or(0, |set| selector.resolve(set, false).len());
    op.reply.integer(count as i64);
    Ok(())
}

pub(super) const ZSCORE: Command = Command {
    summary: "Answers the score of an element.",
    since: "1.2.0",
    complexity: "O(1)",
    arity: 3,
    arguments: &[KEY, MEMBER],
    ..asking("zscore", zscore)
};

fn zscore(op: &mut Op) -> Result<(), ReplyError> {
    let set = op.keys.read_sorted_set(op.args.at(1))?;
    let score = set.and_then(|set| set.score(op.env.seed, op.args.at(2)));
    reply_score(&mut op.reply, score);
    Ok(())
}

fn reply_score(reply: &mut Reply<'_>, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

pub(super) const ZMSCORE: Command = Command {
    summary: "Answers the scores of several elements.",
    since: "6.2.0",
    complexity: "O(1) for each member.",
    arity: -3,
    arguments: &[KEY, MEMBER.multiple()],
    ..asking("zmscore", zmscore)
};

fn zmscore(op: &mut Op) -> Result<(), ReplyError> {
    let members = op.args.slice_from(2);
    let set = op.keys.read_sorted_set(op.args.at(1))?;
    op.reply.array(members.len());
    for member in members.iter() {
        let score = set.and_then(|set| set.score(op.env.seed, member));
        reply_score(&mut op.reply, score);
    }
    Ok(())
}

const RANK_ARGUMENTS: &[Argument] = &[
    KEY,
    MEMBER,
    Argument::word("withscore", "WITHSCORE").optional().since("7.2.0"),
];
const RANK_HISTORY: &[(&str, &str)] = &[("7.2.0", "The option `WITHSCORE` was added.")];

pub(super) const ZRANK: Command = Command {
    summary: "Answers the rank of an element, counted from the lowest score.",
    arity: -3,
    arguments: RANK_ARGUMENTS,
    history: RANK_HISTORY,
    ..asking("zrank", zrank)
};

fn zrank(op: &mut Op) -> Result<(), ReplyError> {
    rank(op, false)
}

pub(super) const ZREVRANK: Command = Command {
    summary: "Answers the rank of an element, counted from the highest score.",
    arity: -3,
    arguments: RANK_ARGUMENTS,
    history: RANK_HISTORY,
    ..asking("zrevrank", zrevrank)
};

fn zrevrank(op: &mut Op) -> Result<(), ReplyError> {
    rank(op, true)
}

fn rank(op: &mut Op, is_reversed: bool) -> Result<(), ReplyError> {
    let args = op.args;
    let with_score = match args.len() {
        3 => false,
        4 if is_word(args, 3, b"WITHSCORE") => true,
        4 => return Err(error::SYNTAX),
        _ => return Err(error::wrong_arity(op.command.name)),
    };
    let set = op.keys.read_sorted_set(args.at(1))?;
    let found = set.and_then(|set| {
        let (rank, score) = set.rank(op.env.seed, args.at(2))?;
        Some((if is_reversed { set.len() - 1 - rank } else { rank }, score))
    });
    match found {
        Some((rank, score)) if with_score => {
            op.reply.array(2);
            op.reply.integer(rank as i64);
            op.reply.double(score);
        }
        Some((rank, _)) => op.reply.integer(rank as i64),
        None if with_score => op.reply.null_array(),
        None => op.reply.null(),
    }
    Ok(())
}

pub(super) const ZRANDMEMBER: Command = Command {
    summary: "Answers an element by chance, or several.",
    since: "6.2.0",
    group: Group::SortedSet,
    complexity: "O(M*log(N)), N being the number of elements there are, M how many are answered.",
    arity: -2,
    flags: Flags::READONLY,
    categories: Categories::SORTEDSET,
    tips: &["nondeterministic_output"],
    keys: ONE_KEY,
    arguments: &[
        KEY,
        arg("options", ArgumentKind::Block(&[COUNT, WITHSCORES])).optional(),
    ],
    ..command("zrandmember", Run::Keys(zrandmember))
};

fn zrandmember(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    let Some(count) = args.get(2) else {
        let random = &mut op.env.random;
        let set = op.keys.read_sorted_set(args.at(1))?;
        match set.and_then(|set| set.random(random)) {
            Some(element) => reply_item(&mut op.reply, element.member),
            None => op.reply.null(),
        }
        return Ok(());
    };
    let count = negatable(count)?;
    let with_scores = is_word(args, 3, b"WITHSCORES");
    if args.len() > 4 || (args.len() == 4 && !with_scores) {
        return Err(error::SYNTAX);
    }
    // Twice as many words must be countable.
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(error::OUT_OF_RANGE);
    }
    let (reply, random) = (&mut op.reply, &mut op.env.random);
    let Some(set) = op.keys.read_sorted_set(args.at(1))? else {
        reply.array(0);
        return Ok(());
    };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let answered = if count < 0 { wanted } else { wanted.min(set.len()) };
    if answered == set.len() && count > 0 {
        reply_elements(reply, set.iter(), with_scores);
        return Ok(());
    }
    if with_scores {
        begin_scored(reply, answered);
    } else {
        reply.array(answered);
    }
    let mut write = |element: ScoredMember<'_>| {
        if with_scores {
            reply_scored(reply, element);
        } else {
            reply_item(reply, element.member);
        }
        reply.is_full()
    };
    if count < 0 {
        // Each is drawn anew.
        for _ in 0..answered {
            if set.random(random).is_some_and(&mut write) {
                break;
            }
        }
    } else {
        set.sample(answered, random, |element| {
            write(element);
        });
    }
    Ok(())
}

pub(super) const ZSCAN: Command = Command {
    summary: "Lists the elements of a sorted set piece by piece.",
    since: "2.8.0",
    group: Group::SortedSet,
    complexity: "O(1) for a call, O(N) for all the calls that walk through N elements.",
    arity: -3,
    flags: Flags::READONLY,
    categories: Categories::SORTEDSET,
    tips: &["nondeterministic_output"],
    keys: ONE_KEY,
    arguments: &[
        KEY,
        arg("cursor", ArgumentKind::Integer),
        arg("pattern", ArgumentKind::Pattern).token("MATCH").optional(),
        COUNT.token("COUNT").optional(),
    ],
    ..command("zscan", Run::Keys(zscan))
};

fn zscan(op: &mut Op) -> Result<(), ReplyError> {
    let cursor = numbers::cursor(op.args.at(2))?;
    let Some(set) = op.keys.read_sorted_set(op.args.at(1))? else {
        // The options are not looked at then, as in Redis.
        op.reply.array(2);
        op.reply.bulk(b"0");
        op.reply.array(0);
        return Ok(());
    };
    let ElementScan {
        count: wanted, pattern, ..
    } = ElementScan::parse(op.args, false)?;
    // The cursor comes first and is known last: the elements are written apart. A score is a text in RESP3 as well.
    let mut written = ReplyBuf::new();
    let mut elements = Reply::new(&mut written, op.reply.proto());
    let mut count = 0;
    let is_packed = set.encoding() == Encoding::Listpack;
    let next = set.scan(cursor, wanted, |member, score| {
        if pattern.is_none_or(|pattern| glob::matches(pattern, member)) {
            elements.bulk(member);
            // A packed score is the text that is stored; of a larger set, Redis prints all digits here and nowhere else.
            match is_packed {
                true => elements.bulk(&format_f64(score)),
                false => elements.bulk(&format_f64_long(score)),
            }
            count += 1;
        }
    });
    op.reply.array(2);
    op.reply.bulk(itoa::Buffer::new().format(next.unwrap_or(0)).as_bytes());
    op.reply.array(2 * count);
    op.reply.buf().append(&mut written);
    Ok(())
}
