//! Reading strings: GET, MGET, STRLEN, GETRANGE and its old name SUBSTR, LCS.

use super::reply_string;
use crate::base::numbers::parse_i64;
use crate::data::ValueType;
use crate::data::lcs::Lcs;
use crate::data::string::get_range;
use crate::engine::arguments::is_word;
use crate::engine::{Command, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};
use crate::store::ValueRef;

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);

pub(super) const GET: Command = Command {
    summary: "Answers the string that a key holds.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[Argument::key("key", 0)],
    ..command("get", Run::Keys(get))
};

fn get(op: &mut Op) -> Result<(), ReplyError> {
    match op.keys.read_string(op.args.at(1))? {
        Some(entry) => reply_string(&mut op.reply, entry),
        None => op.reply.null(),
    }
    Ok(())
}

pub(super) const MGET: Command = Command {
    summary: "Answers the strings that several keys hold, nil for what is no string.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(N), N being the number of keys.",
    arity: -2,
    flags: Flags::READONLY.union(Flags::FAST),
    categories: Categories::STRING,
    tips: &["request_policy:multi_shard"],
    keys: &[KeySpec::range(1, -1, 1, READ)],
    arguments: &[Argument::key("key", 0).multiple()],
    ..command("mget", Run::Keys(mget))
};

fn mget(op: &mut Op) -> Result<(), ReplyError> {
    op.reply.array(op.args.len() - 1);
    for key in op.args.slice_from(1).iter() {
        match op.keys.read(key)? {
            Some(entry) if entry.type_of() == ValueType::String => reply_string(&mut op.reply, entry),
            _ => op.reply.null(),
        }
    }
    Ok(())
}

pub(super) const STRLEN: Command = Command {
    summary: "Answers the length of the string that a key holds, in bytes.",
    since: "2.2.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, KeyFlags::RO)],
    arguments: &[Argument::key("key", 0)],
    ..command("strlen", Run::Keys(strlen))
};

fn strlen(op: &mut Op) -> Result<(), ReplyError> {
    let found = op.keys.read_string(op.args.at(1))?;
    op.reply
        .integer(found.map_or(0, |entry| entry.value().string_len() as i64));
    Ok(())
}

const RANGE_ARGUMENTS: &[Argument] = &[
    Argument::key("key", 0),
    arg("start", ArgumentKind::Integer),
    arg("end", ArgumentKind::Integer),
];

pub(super) const GETRANGE: Command = Command {
    summary: "Answers a part of the string that a key holds.",
    since: "2.4.0",
    group: Group::String,
    complexity: "O(N), N being the length of the answer; a long one is sent without being copied.",
    arity: 4,
    flags: Flags::READONLY,
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, READ)],
    arguments: RANGE_ARGUMENTS,
    ..command("getrange", Run::Keys(getrange))
};

pub(super) const SUBSTR: Command = Command {
    summary: "Answers a part of the string that a key holds.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(N), N being the length of the answer; a long one is sent without being copied.",
    arity: 4,
    flags: Flags::READONLY,
    categories: Categories::STRING,
    keys: &[KeySpec::one(1, READ)],
    arguments: RANGE_ARGUMENTS,
    deprecated: Some(("2.0.0", "`GETRANGE`")),
    ..command("substr", Run::Keys(getrange))
};

fn getrange(op: &mut Op) -> Result<(), ReplyError> {
    let start = parse_i64(op.args.at(2)).ok_or(error::NOT_AN_INTEGER)?;
    let end = parse_i64(op.args.at(3)).ok_or(error::NOT_AN_INTEGER)?;
    let Some(entry) = op.keys.read_string(op.args.at(1))? else {
        op.reply.bulk(b"");
        return Ok(());
    };
    let value = entry.value();
    let range = get_range(value.string_len(), start, end);
    match value {
        ValueRef::Shared(bytes) => op.reply.bulk_shared(bytes.slice(range)),
        short => op.reply.bulk(&short.as_bytes(&mut itoa::Buffer::new())[range]),
    }
    Ok(())
}

pub(super) const LCS: Command = Command {
    summary: "Finds the longest common subsequence of two strings.",
    since: "7.0.0",
    group: Group::String,
    complexity: "O(N*M), N and M being the lengths of the strings.",
    arity: -3,
    flags: Flags::READONLY,
    categories: Categories::STRING,
    keys: &[KeySpec::range(1, 1, 1, READ)],
    arguments: &[
        Argument::key("key1", 0),
        Argument::key("key2", 0),
        Argument::word("len", "LEN").optional(),
        Argument::word("idx", "IDX").optional(),
        arg("min-match-len", ArgumentKind::Integer)
            .token("MINMATCHLEN")
            .optional(),
        Argument::word("withmatchlen", "WITHMATCHLEN").optional(),
    ],
    ..command("lcs", Run::Keys(lcs))
};

#[derive(Default)]
struct LcsOptions {
    wants_length: bool,
    wants_matches: bool,
    wants_match_lengths: bool,
    match_bytes_min: usize,
}

impl LcsOptions {
    fn parse(args: Args) -> Result<LcsOptions, ReplyError> {
        let mut options = LcsOptions::default();
        let mut index = 3;
        while index < args.len() {
            if is_word(args, index, b"IDX") {
                options.wants_matches = true;
            } else if is_word(args, index, b"LEN") {
                options.wants_length = true;
            } else if is_word(args, index, b"WITHMATCHLEN") {
                options.wants_match_lengths = true;
            } else if is_word(args, index, b"MINMATCHLEN") && index + 1 < args.len() {
                index += 1;
                let given = parse_i64(args.at(index)).ok_or(error::NOT_AN_INTEGER)?;
                options.match_bytes_min = usize::try_from(given).unwrap_or(0);
            } else {
                return Err(error::SYNTAX);
            }
            index += 1;
        }
        if options.wants_length && options.wants_matches {
            return Err(error::LCS_LEN_AND_IDX);
        }
        Ok(options)
    }
}

fn lcs(op: &mut Op) -> Result<(), ReplyError> {
    // Copies, because the two keys may lie in different slots; the comparison costs far more.
    let (first, second) = (lcs_text(op, 1)?, lcs_text(op, 2)?);
    let (Some(first), Some(second)) = (first, second) else {
        return Err(error::LCS_NOT_STRINGS);
    };
    let options = LcsOptions::parse(op.args)?;
    let lengths_max = u32::MAX as usize - 1;
    if first.len() >= lengths_max || second.len() >= lengths_max {
        return Err(error::LCS_TOO_LONG);
    }
    let working_bytes = Lcs::working_bytes(first.len(), second.len());
    if working_bytes.is_none_or(|bytes| bytes as u64 > op.env.settings.proto_max_bulk_len) {
        return Err(error::LCS_MEMORY);
    }
    let lcs = Lcs::new(&first, &second);
    if options.wants_matches {
        let matches = lcs.matches(options.match_bytes_min);
        op.reply.map(2);
        op.reply.bulk_string("matches");
        op.reply.array(matches.len());
        for run in matches {
            op.reply.array(2 + usize::from(options.wants_match_lengths));
            for place in [&run.a, &run.b] {
                op.reply.array(2);
                op.reply.integer(*place.start() as i64);
                op.reply.integer(*place.end() as i64);
            }
            if options.wants_match_lengths {
                op.reply.integer(run.byte_count() as i64);
            }
        }
        op.reply.bulk_string("len");
        op.reply.integer(lcs.len() as i64);
    } else if options.wants_length {
        op.reply.integer(lcs.len() as i64);
    } else {
        op.reply.bulk(&lcs.bytes());
    }
    Ok(())
}

/// The string of the key at `index`; a missing key is an empty one, any other type is `None`.
fn lcs_text(op: &mut Op, index: usize) -> Result<Option<Vec<u8>>, ReplyError> {
    Ok(match op.keys.read(op.args.at(index))? {
        None => Some(Vec::new()),
        Some(entry) if entry.type_of() == ValueType::String => {
            Some(entry.value().as_bytes(&mut itoa::Buffer::new()).to_vec())
        }
        Some(_) => None,
    })
}
