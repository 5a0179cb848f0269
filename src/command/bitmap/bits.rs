//! Single bits, and strings as a whole or in a range: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP.

use super::{CHANGE, READ, WRITE, bit_offset};
use crate::data::Encoding;
use crate::data::bitmap::{self, Combination};
use crate::data::string::StringForm;
use crate::engine::arguments::is_word;
use crate::engine::arguments::numbers::integer;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};
use crate::store::{Edited, Expiry, ValueRef};
use bytes::Bytes;
use std::ops::Range;

const UNIT: Argument = arg(
    "unit",
    ArgumentKind::OneOf(&[Argument::word("byte", "BYTE"), Argument::word("bit", "BIT")]),
)
.optional()
.since("7.0.0");

pub(super) const SETBIT: Command = Command {
    summary: "Sets or clears one bit of a string, which is made longer with zero bytes as needed; answers what it was.",
    since: "2.2.0",
    group: Group::Bitmap,
    complexity: "O(1)",
    arity: 4,
    flags: WRITE,
    categories: Categories::BITMAP,
    keys: &[KeySpec::one(1, CHANGE)],
    arguments: &[
        Argument::key("key", 0),
        arg("offset", ArgumentKind::Integer),
        arg("value", ArgumentKind::Integer),
    ],
    ..command("setbit", Run::Keys(setbit))
};

fn setbit(op: &mut Op) -> Result<(), ReplyError> {
    let key = op.args.at(1);
    let bit = bit_offset(op.args.at(2), op.env.settings.proto_max_bulk_len)?;
    let is_set = match op.args.at(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(error::BIT_VALUE_INVALID),
    };
    let len_min = (bit / 8) as usize + 1;
    let mut digits = itoa::Buffer::new();
    let old = op.keys.peek_string(key)?;
    let is_long_enough = old.is_some_and(|entry| entry.value().string_len() >= len_min);
    let was_set = old.is_some_and(|entry| bitmap::get(entry.value().as_bytes(&mut digits), bit));
    let is_changed = !is_long_enough || was_set != is_set;
    if is_changed || old.is_some_and(|entry| entry.encoding() != Encoding::Raw) {
        let (db, moment) = (op.keys.db, op.keys.moment);
        op.keys.slot(key)?.edit_string(db, key, len_min, moment, |bytes| {
            let at = (bit / 8) as usize;
            bitmap::set(bytes.write(at..at + 1), bit % 8, is_set);
            Edited::when(is_changed, ())
        });
    }
    if is_changed {
        op.wrote(key, Event::string("setbit"));
    }
    op.reply.integer(i64::from(was_set));
    Ok(())
}

pub(super) const GETBIT: Command = Command {
    summary: "Answers one bit of a string; behind its end all are 0.",
    since: "2.2.0",
    group: Group::Bitmap,
    complexity: "O(1)",
    arity: 3,
    flags: Flags::READONLY.union(Flags::FAST),
    categories: Categories::BITMAP,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[Argument::key("key", 0), arg("offset", ArgumentKind::Integer)],
    ..command("getbit", Run::Keys(getbit))
};

fn getbit(op: &mut Op) -> Result<(), ReplyError> {
    let bit = bit_offset(op.args.at(2), op.env.settings.proto_max_bulk_len)?;
    let mut digits = itoa::Buffer::new();
    let is_set = op
        .keys
        .read_string(op.args.at(1))?
        .is_some_and(|entry| bitmap::get(entry.value().as_bytes(&mut digits), bit));
    op.reply.integer(i64::from(is_set));
    Ok(())
}

pub(super) const BITCOUNT: Command = Command {
    summary: "Counts the bits of a string that are set, in the whole of it or in a range.",
    since: "2.6.0",
    group: Group::Bitmap,
    complexity: "O(N), N being the length of what is counted.",
    arity: -2,
    flags: Flags::READONLY,
    categories: Categories::BITMAP,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        arg(
            "range",
            ArgumentKind::Block(&[
                arg("start", ArgumentKind::Integer),
                arg("end", ArgumentKind::Integer),
                UNIT,
            ]),
        )
        .optional(),
    ],
    history: &[("7.0.0", "The option `BYTE` or `BIT` was added.")],
    ..command("bitcount", Run::Keys(bitcount))
};

fn bitcount(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    let given = match args.len() {
        2 => GivenRange::default(),
        4 | 5 => {
            let (start, end) = (integer(args.at(2))?, integer(args.at(3))?);
            if start < 0 && end < 0 && start > end {
                // The wrong way round: as an empty range, while BITPOS looks at where such a range is cut off.
                GivenRange {
                    is_empty: true,
                    is_bits: is_in_bits(args, 4)?,
                    ..GivenRange::default()
                }
            } else {
                GivenRange {
                    start,
                    end: Some(end),
                    is_bits: is_in_bits(args, 4)?,
                    is_empty: false,
                }
            }
        }
        _ => return Err(error::SYNTAX),
    };
    let mut digits = itoa::Buffer::new();
    let count = match op.keys.read_string(args.at(1))? {
        Some(entry) => {
            let bytes = entry.value().as_bytes(&mut digits);
            bitmap::count_range(bytes, given.of(bytes.len()))
        }
        None => 0,
    };
    op.reply.integer(count as i64);
    Ok(())
}

pub(super) const BITPOS: Command = Command {
    summary: "Finds the first bit of a string that is set, or that is clear.",
    since: "2.8.7",
    group: Group::Bitmap,
    complexity: "O(N), N being how much is looked through.",
    arity: -3,
    flags: Flags::READONLY,
    categories: Categories::BITMAP,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        arg("bit", ArgumentKind::Integer),
        arg(
            "range",
            ArgumentKind::Block(&[
                arg("start", ArgumentKind::Integer),
                arg(
                    "end-unit-block",
                    ArgumentKind::Block(&[arg("end", ArgumentKind::Integer), UNIT]),
                )
                .optional(),
            ]),
        )
        .optional(),
    ],
    history: &[("7.0.0", "The option `BYTE` or `BIT` was added.")],
    ..command("bitpos", Run::Keys(bitpos))
};

fn bitpos(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    let is_set = match integer(args.at(2))? {
        0 => false,
        1 => true,
        _ => return Err(error::BITPOS_BIT_INVALID),
    };
    if args.len() > 6 {
        return Err(error::SYNTAX);
    }
    let given = GivenRange {
        start: args.get(3).map_or(Ok(0), integer)?,
        is_bits: is_in_bits(args, 5)?,
        end: args.get(4).map(integer).transpose()?,
        is_empty: false,
    };
    let mut digits = itoa::Buffer::new();
    let position = match op.keys.read_string(args.at(1))? {
        Some(entry) => {
            let bytes = entry.value().as_bytes(&mut digits);
            let range = given.of(bytes.len());
            // A string goes on with zeros behind its end, unless the client has said where it ends.
            let behind = (!is_set && given.end.is_none() && !range.is_empty()).then_some(range.end);
            bitmap::find(bytes, is_set, range).or(behind)
        }
        None => (!is_set).then_some(0),
    };
    op.reply.integer(position.map_or(-1, |position| position as i64));
    Ok(())
}

/// A range as a client has given it.
#[derive(Default)]
struct GivenRange {
    start: i64,
    end: Option<i64>,
    is_bits: bool,
    is_empty: bool,
}

impl GivenRange {
    /// The bits that are meant in a string of so many bytes.
    fn of(&self, len: usize) -> Range<u64> {
        if self.is_empty {
            return 0..0;
        }
        let end = self.end.unwrap_or(-1);
        if self.is_bits {
            return bitmap::inclusive_range(len as u64 * 8, self.start, end);
        }
        let bytes = bitmap::inclusive_range(len as u64, self.start, end);
        bytes.start * 8..bytes.end * 8
    }
}

/// Whether a range counts in bits: what the word at `index` says, if there is one.
fn is_in_bits(args: Args, index: usize) -> Result<bool, ReplyError> {
    if is_word(args, index, b"BIT") {
        Ok(true)
    } else if args.len() <= index || is_word(args, index, b"BYTE") {
        Ok(false)
    } else {
        Err(error::SYNTAX)
    }
}

pub(super) const BITOP: Command = Command {
    summary: "Combines strings bit by bit, and stores the result.",
    since: "2.6.0",
    group: Group::Bitmap,
    complexity: "O(N), N being the sum of the lengths.",
    arity: -4,
    flags: WRITE,
    categories: Categories::BITMAP,
    keys: &[
        KeySpec::one(2, KeyFlags::OW.union(KeyFlags::UPDATE)),
        KeySpec::range(3, -1, 1, READ),
    ],
    arguments: &[
        arg(
            "operation",
            ArgumentKind::OneOf(&[
                Argument::word("and", "AND"),
                Argument::word("or", "OR"),
                Argument::word("xor", "XOR"),
                Argument::word("not", "NOT"),
            ]),
        ),
        Argument::key("destkey", 0),
        Argument::key("key", 1).multiple(),
    ],
    ..command("bitop", Run::Keys(bitop))
};

fn bitop(op: &mut Op) -> Result<(), ReplyError> {
    let named: [(&[u8], Combination); 4] = [
        (b"AND", Combination::And),
        (b"OR", Combination::Or),
        (b"XOR", Combination::Xor),
        (b"NOT", Combination::Not),
    ];
    let combination = named
        .into_iter()
        .find(|(name, _)| is_word(op.args, 1, name))
        .map(|(_, combination)| combination)
        .ok_or(error::SYNTAX)?;
    if combination == Combination::Not && op.args.len() != 4 {
        return Err(error::BITOP_NOT_ARITY);
    }
    let mut sources = Vec::with_capacity(op.args.len() - 3);
    for key in op.args.slice_from(3).iter() {
        sources.push(match op.keys.read_string(key)?.map(|entry| entry.value()) {
            None => Bytes::new(),
            Some(ValueRef::Shared(bytes)) => bytes.clone(),
            Some(short) => Bytes::copy_from_slice(short.as_bytes(&mut itoa::Buffer::new())),
        });
    }
    let slices: Vec<&[u8]> = sources.iter().map(|source| &source[..]).collect();
    let result = Bytes::from(bitmap::combine(combination, &slices));
    let (db, moment, key) = (op.keys.db, op.keys.moment, op.args.at(2));
    let number = op.keys.slot_of(key);
    let slot = op.keys.numbered(number)?;
    op.reply.integer(result.len() as i64);
    if result.is_empty() {
        if slot.remove(db, key, moment) {
            op.wrote(key, Event::generic("del"));
        }
        return Ok(());
    }
    slot.set_shared(db, key, result, StringForm::Raw, Expiry::Clear, moment);
    op.wrote(key, Event::string("set"));
    Ok(())
}
