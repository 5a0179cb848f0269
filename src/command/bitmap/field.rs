//! BITFIELD and BITFIELD_RO: integers of any width that lie in a string.
//!
//! All operations of a call are read before the first one is done: an error in any of them does nothing.

use super::{CHANGE, READ, WRITE, bit_offset};
use crate::base::numbers::parse_i64;
use crate::data::Encoding;
use crate::data::bitmap::{FieldKind, Overflow};
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::integer;
use crate::engine::{Command, Event, Op, Run};
use crate::resp::{Args, Reply, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Categories, Flags, Group, KeyFlags, KeySpec, arg, command};
use crate::store::Edited;

const ENCODING_OFFSET: &[Argument] = &[
    arg("encoding", ArgumentKind::String),
    arg("offset", ArgumentKind::Integer),
];

pub(super) const BITFIELD: Command = Command {
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
                let at = (operation.at / 8) as usize;
                let end = (operation.at + u64::from(operation.kind.width())).div_ceil(8) as usize;
                operation.kind.write(bytes.write(at..end), operation.at % 8, new);
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

pub(super) const BITFIELD_RO: Command = Command {
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
        let mut options = Options::behind(args, 2);
        while !options.is_empty() {
            if options.flag(b"OVERFLOW") {
                overflow = overflow_named(options.word()?)?;
                continue;
            }
            let action: fn(i64) -> Action = if options.flag(b"GET") {
                |_| Action::Get
            } else if options.flag(b"SET") {
                Action::Set
            } else if options.flag(b"INCRBY") {
                Action::Add
            } else {
                return Err(error::SYNTAX);
            };
            // All words of it must be there before the first one is judged.
            let (kind, at) = (options.word()?, options.word()?);
            let value = match action(0) {
                Action::Get => None,
                Action::Set(_) | Action::Add(_) => Some(options.word()?),
            };
            let kind = field_kind(kind)?;
            let at = field_offset(at, kind, bytes_max)?;
            let action = action(value.map_or(Ok(0), integer)?);
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

fn overflow_named(name: &[u8]) -> Result<Overflow, ReplyError> {
    let named: [(&[u8], Overflow); 3] = [
        (b"WRAP", Overflow::Wrap),
        (b"SAT", Overflow::Saturate),
        (b"FAIL", Overflow::Fail),
    ];
    let found = named.into_iter().find(|(word, _)| name.eq_ignore_ascii_case(word));
    found
        .map(|(_, overflow)| overflow)
        .ok_or(error::BITFIELD_OVERFLOW_INVALID)
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
