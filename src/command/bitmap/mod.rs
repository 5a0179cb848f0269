//! The bitmap family: commands that take a string for a row of bits.
//!
//! The bits themselves are [`crate::data::bitmap`]'s. What is kept here is what clients and replicas can see: the order in
//! which arguments are refused, which commands count hits and misses, and that a command that changed nothing is not
//! logged. SETBIT that writes the bit which was there already, and BITFIELD none of whose operations changed anything, are
//! no changes to watchers either; but the string is `raw` after them, as in Redis, which makes it writable first. Every effect is the
//! command itself.
//!
//! BITFIELD and BITFIELD_RO read all of their operations before the first one is done: an error in any of them does nothing.

#[cfg(test)]
mod tests;

use crate::base::numbers::parse_i64;
use crate::data::Encoding;
use crate::data::bitmap::{self, Combination, FieldKind, Overflow};
use crate::data::string::StringForm;
use crate::engine::arguments::is_word;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, Reply, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};
use crate::store::{Edited, Expiry, ValueRef};
use bytes::Bytes;
use std::ops::Range;

pub const COMMANDS: &[Command] = &[BITCOUNT, BITFIELD, BITFIELD_RO, BITOP, BITPOS, GETBIT, SETBIT];

const READ: KeyFlags = KeyFlags::RO.union(KeyFlags::ACCESS);
const CHANGE: KeyFlags = KeyFlags::RW.union(KeyFlags::ACCESS).union(KeyFlags::UPDATE);
const WRITE: Flags = Flags::WRITE.union(Flags::DENYOOM);

const UNIT: Argument = arg(
    "unit",
    ArgumentKind::OneOf(&[Argument::word("byte", "BYTE"), Argument::word("bit", "BIT")]),
)
.optional()
.since("7.0.0");

const SETBIT: Command = Command {
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
            bitmap::set(bytes, bit, is_set);
            Edited::when(is_changed, ())
        });
    }
    if is_changed {
        op.wrote(key, Event::string("setbit"));
    }
    op.reply.integer(i64::from(was_set));
    Ok(())
}

/// The number of a bit, in a string of at most `bytes_max`.
fn bit_offset(text: &[u8], bytes_max: u64) -> Result<u64, ReplyError> {
    parse_i64(text)
        .and_then(|offset| u64::try_from(offset).ok())
        .filter(|offset| offset / 8 < bytes_max)
        .ok_or(error::BIT_OFFSET_INVALID)
}

const GETBIT: Command = Command {
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

const BITCOUNT: Command = Command {
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

const BITPOS: Command = Command {
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

fn integer(text: &[u8]) -> Result<i64, ReplyError> {
    parse_i64(text).ok_or(error::NOT_AN_INTEGER)
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

const BITOP: Command = Command {
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

const ENCODING_OFFSET: &[Argument] = &[
    arg("encoding", ArgumentKind::String),
    arg("offset", ArgumentKind::Integer),
];

const BITFIELD: Command = Command {
    summary: "Reads and changes integers of any width that lie in a string.",
    since: "3.2.0",
    group: Group::Bitmap,
    complexity: "O(1) for each operation.",
    arity: -2,
    flags: WRITE,
    categories: Categories::BITMAP,
    keys: &[KeySpec {
        notes: "This command allows both access and modification of the key",
        ..KeySpec::one(1, CHANGE.union(KeyFlags::VARIABLE_FLAGS))
    }],
    arguments: &[
        Argument::key("key", 0),
        arg(
            "operation",
            ArgumentKind::OneOf(&[
                arg("get-block", ArgumentKind::Block(ENCODING_OFFSET)).token("GET"),
                arg(
                    "write",
                    ArgumentKind::Block(&[
                        arg(
                            "overflow-block",
                            ArgumentKind::OneOf(&[
                                Argument::word("wrap", "WRAP"),
                                Argument::word("sat", "SAT"),
                                Argument::word("fail", "FAIL"),
                            ]),
                        )
                        .token("OVERFLOW")
                        .optional(),
                        arg(
                            "write-operation",
                            ArgumentKind::OneOf(&[
                                arg(
                                    "set-block",
                                    ArgumentKind::Block(&[
                                        arg("encoding", ArgumentKind::String),
                                        arg("offset", ArgumentKind::Integer),
                                        arg("value", ArgumentKind::Integer),
                                    ]),
                                )
                                .token("SET"),
                                arg(
                                    "incrby-block",
                                    ArgumentKind::Block(&[
                                        arg("encoding", ArgumentKind::String),
                                        arg("offset", ArgumentKind::Integer),
                                        arg("increment", ArgumentKind::Integer),
                                    ]),
                                )
                                .token("INCRBY"),
                            ]),
                        ),
                    ]),
                ),
            ]),
        )
        .optional()
        .multiple(),
    ],
    ..command("bitfield", Run::Keys(bitfield))
};

fn bitfield(op: &mut Op) -> Result<(), ReplyError> {
    let operations = Operation::parse_all(op.args, op.env.settings.proto_max_bulk_len)?;
    let written = operations
        .iter()
        .filter(|operation| !matches!(operation.action, Action::Get))
        .map(|operation| operation.at + u64::from(operation.kind.width()))
        .max();
    let Some(end) = written else {
        return read_fields(op, &operations);
    };
    let key = op.args.at(1);
    let len_min = end.div_ceil(8) as usize;
    let mut digits = itoa::Buffer::new();
    let old = op.keys.peek_string(key)?;
    let is_long_enough = old.is_some_and(|entry| entry.value().string_len() >= len_min);
    if let Some(entry) = old
        && is_long_enough
        && entry.encoding() == Encoding::Raw
    {
        let bytes = entry.value().as_bytes(&mut digits);
        // As long as nothing changes, each operation sees what the first one sees.
        if operations
            .iter()
            .all(|operation| operation.outcome(bytes).new.is_none())
        {
            op.reply.array(operations.len());
            for operation in &operations {
                answer(&mut op.reply, operation.outcome(bytes).answer);
            }
            return Ok(());
        }
    }
    let (db, moment) = (op.keys.db, op.keys.moment);
    let mut changes = 0;
    op.reply.array(operations.len());
    let reply = &mut op.reply;
    op.keys.slot(key)?.edit_string(db, key, len_min, moment, |bytes| {
        for operation in &operations {
            let outcome = operation.outcome(bytes);
            if let Some(new) = outcome.new {
                operation.kind.write(bytes, operation.at, new);
                changes += 1;
            }
            answer(reply, outcome.answer);
        }
        if !is_long_enough {
            // A string that has become longer is another one, even if no operation did anything.
            changes = changes.max(1);
        }
        Edited::when(changes > 0, ())
    });
    if changes > 0 {
        op.wrote_times(key, Event::string("setbit"), changes);
    }
    Ok(())
}

const BITFIELD_RO: Command = Command {
    summary: "Reads integers of any width that lie in a string.",
    since: "6.0.0",
    group: Group::Bitmap,
    complexity: "O(1) for each operation.",
    arity: -2,
    flags: Flags::READONLY.union(Flags::FAST),
    categories: Categories::BITMAP,
    keys: &[KeySpec::one(1, READ)],
    arguments: &[
        Argument::key("key", 0),
        arg("get-block", ArgumentKind::Block(ENCODING_OFFSET))
            .token("GET")
            .optional()
            .token_repeated(),
    ],
    ..command("bitfield_ro", Run::Keys(bitfield_ro))
};

fn bitfield_ro(op: &mut Op) -> Result<(), ReplyError> {
    let operations = Operation::parse_all(op.args, op.env.settings.proto_max_bulk_len)?;
    if operations
        .iter()
        .any(|operation| !matches!(operation.action, Action::Get))
    {
        return Err(error::BITFIELD_RO_NOT_GET);
    }
    read_fields(op, &operations)
}

/// One operation of BITFIELD.
#[derive(Clone, Copy)]
struct Operation {
    kind: FieldKind,
    at: u64,
    action: Action,
    overflow: Overflow,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

/// What an operation answers (nothing: it did not fit), and what it writes, if that is not there already.
struct Outcome {
    answer: Option<i64>,
    new: Option<i64>,
}

impl Operation {
    fn outcome(&self, bytes: &[u8]) -> Outcome {
        let old = self.kind.read(bytes, self.at);
        let (answer, new) = match self.action {
            Action::Get => {
                return Outcome {
                    answer: Some(old),
                    new: None,
                };
            }
            Action::Set(value) => {
                let new = self.kind.take(value, self.overflow);
                (new.map(|_| old), new)
            }
            Action::Add(increment) => {
                let new = self.kind.add(old, increment, self.overflow);
                (new, new)
            }
        };
        Outcome {
            answer,
            new: new.filter(|new| *new != old),
        }
    }

    /// Reads all operations of a call.
    fn parse_all(args: Args, bytes_max: u64) -> Result<Vec<Operation>, ReplyError> {
        let mut operations = Vec::new();
        let mut overflow = Overflow::Wrap;
        let mut index = 2;
        while index < args.len() {
            let left = args.len() - index - 1;
            if is_word(args, index, b"OVERFLOW") && left >= 1 {
                overflow = if is_word(args, index + 1, b"WRAP") {
                    Overflow::Wrap
                } else if is_word(args, index + 1, b"SAT") {
                    Overflow::Saturate
                } else if is_word(args, index + 1, b"FAIL") {
                    Overflow::Fail
                } else {
                    return Err(error::BITFIELD_OVERFLOW_INVALID);
                };
                index += 2;
                continue;
            }
            let action: fn(i64) -> Action = if is_word(args, index, b"GET") && left >= 2 {
                |_| Action::Get
            } else if is_word(args, index, b"SET") && left >= 3 {
                Action::Set
            } else if is_word(args, index, b"INCRBY") && left >= 3 {
                Action::Add
            } else {
                return Err(error::SYNTAX);
            };
            let kind = field_kind(args.at(index + 1))?;
            let at = field_offset(args.at(index + 2), kind, bytes_max)?;
            index += 3;
            let mut action = action(0);
            if let Action::Set(value) | Action::Add(value) = &mut action {
                *value = integer(args.at(index))?;
                index += 1;
            }
            operations.push(Operation {
                kind,
                at,
                action,
                overflow,
            });
        }
        Ok(operations)
    }
}

/// `i8`, `u63`.
fn field_kind(text: &[u8]) -> Result<FieldKind, ReplyError> {
    let (sign, width) = text.split_at_checked(1).ok_or(error::BITFIELD_TYPE_INVALID)?;
    let is_signed = match sign {
        b"i" => true,
        b"u" => false,
        _ => return Err(error::BITFIELD_TYPE_INVALID),
    };
    parse_i64(width)
        .and_then(|width| FieldKind::new(is_signed, u32::try_from(width).ok()?))
        .ok_or(error::BITFIELD_TYPE_INVALID)
}

/// A bit, or with `#` the number of a field when all of them are that wide.
fn field_offset(text: &[u8], kind: FieldKind, bytes_max: u64) -> Result<u64, ReplyError> {
    match text.strip_prefix(b"#") {
        None => bit_offset(text, bytes_max),
        Some(index) => parse_i64(index)
            .and_then(|index| u64::try_from(index).ok()?.checked_mul(u64::from(kind.width())))
            .filter(|offset| offset / 8 < bytes_max)
            .ok_or(error::BIT_OFFSET_INVALID),
    }
}

fn read_fields(op: &mut Op, operations: &[Operation]) -> Result<(), ReplyError> {
    let mut digits = itoa::Buffer::new();
    let bytes = match op.keys.read_string(op.args.at(1))? {
        Some(entry) => entry.value().as_bytes(&mut digits),
        None => b"",
    };
    op.reply.array(operations.len());
    for operation in operations {
        answer(&mut op.reply, operation.outcome(bytes).answer);
    }
    Ok(())
}

fn answer(reply: &mut Reply<'_>, value: Option<i64>) {
    match value {
        Some(value) => reply.integer(value),
        None => reply.null(),
    }
}
