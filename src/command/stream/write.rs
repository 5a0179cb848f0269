//! Adding entries (XADD), dropping them (XDEL, XTRIM), and XSETID.
//!
//! XADD and XTRIM read the same options, up to where XADD's ID stands; only XADD says which words are options by
//! what is no ID. An approximate trim gives another result on another server, so what is logged is an exact one with what came out.

use super::{DELETE, FAST_WRITE, IDS, KEY, NONDETERMINISTIC, UPDATE, on_stream, parse_id, reply_id};
use crate::base::clock::UnixMs;
use crate::data::Limits;
use crate::data::stream::{AppendError, NewId, Stream, StreamId, Trim, TrimBound};
use crate::engine::arguments::Options;
use crate::engine::arguments::numbers::integer;
use crate::engine::typed::Edited;
use crate::engine::{Command, Event, Op};
use crate::resp::{Args, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Flags, KeySpec, arg};

/// How XADD and XTRIM drop entries.
const TRIM: Argument = arg(
    "trim",
    ArgumentKind::Block(&[
        arg(
            "strategy",
            ArgumentKind::OneOf(&[
                Argument::word("maxlen", "MAXLEN"),
                Argument::word("minid", "MINID").since("6.2.0"),
            ]),
        ),
        arg(
            "operator",
            ArgumentKind::OneOf(&[Argument::word("equal", "="), Argument::word("approximately", "~")]),
        )
        .optional(),
        arg("threshold", ArgumentKind::String),
        arg("count", ArgumentKind::Integer)
            .token("LIMIT")
            .optional()
            .since("6.2.0"),
    ]),
);

/// What stands before the fields of an XADD, or behind the key of an XTRIM.
struct Adding {
    trim: Option<Trim>,
    /// Where the bound of the trim stands; before it its operator, if there is one.
    bound_at: usize,
    has_operator: bool,
    /// Where `LIMIT` stands.
    limit_at: Option<usize>,
    creates: bool,
    /// XADD's ID and where it stands.
    id: Option<(NewId, usize)>,
}

impl Adding {
    fn parse(args: Args, is_add: bool, limits: &Limits) -> Result<Adding, ReplyError> {
        let mut options = Adding {
            trim: None,
            bound_at: 0,
            has_operator: false,
            limit_at: None,
            creates: true,
            id: None,
        };
        let mut limit = None;
        let mut index = 2;
        while index < args.len() {
            let word = args.at(index);
            let more = args.len() - 1 - index;
            let is_max_len = word.eq_ignore_ascii_case(b"MAXLEN");
            if is_add && word == b"*" {
                options.id = Some((NewId::Auto, index));
                break;
            } else if more > 0 && (is_max_len || word.eq_ignore_ascii_case(b"MINID")) {
                index = options.take_bound(args, index, is_max_len)?;
            } else if more > 0 && word.eq_ignore_ascii_case(b"LIMIT") {
                let count = u64::try_from(integer(args.at(index + 1))?);
                limit = Some(count.map_err(|_| error::STREAM_LIMIT_NEGATIVE)?);
                options.limit_at = Some(index);
                index += 1;
            } else if is_add && word.eq_ignore_ascii_case(b"NOMKSTREAM") {
                options.creates = false;
            } else if is_add {
                options.id = Some((NewId::parse(word).ok_or(error::STREAM_ID_INVALID)?, index));
                break;
            } else {
                return Err(error::SYNTAX);
            }
            index += 1;
        }
        let is_approximate = match &mut options.trim {
            None if limit.is_some_and(|limit| limit > 0) => return Err(error::STREAM_LIMIT_WITHOUT_TRIM),
            None if !is_add => return Err(error::STREAM_TRIM_WITHOUT_BOUND),
            Some(trim) if trim.is_approximate => {
                // LIMIT 0 is none.
                let limit = limit.unwrap_or_else(|| Trim::default_limit(limits));
                trim.limit = (limit > 0).then_some(limit);
                true
            }
            _ => false,
        };
        if limit.is_some() && !is_approximate {
            return Err(error::STREAM_LIMIT_WITHOUT_TILDE);
        }
        Ok(options)
    }

    /// Reads `MAXLEN [=|~] n` or `MINID [=|~] id`; the index of the last word of it.
    fn take_bound(&mut self, args: Args, index: usize, is_max_len: bool) -> Result<usize, ReplyError> {
        if self.trim.is_some() {
            return Err(error::STREAM_MAXLEN_AND_MINID);
        }
        let operator = args.get(index + 2).map(|_| args.at(index + 1));
        self.has_operator = matches!(operator, Some(b"~" | b"="));
        self.bound_at = index + 1 + usize::from(self.has_operator);
        let text = args.at(self.bound_at);
        let bound = if is_max_len {
            let count = u64::try_from(integer(text)?);
            TrimBound::MaxLen(count.map_err(|_| error::STREAM_MAXLEN_NEGATIVE)?)
        } else {
            TrimBound::MinId(parse_id(text)?)
        };
        self.trim = Some(Trim {
            bound,
            is_approximate: operator == Some(b"~"),
            limit: None,
        });
        Ok(self.bound_at)
    }

    /// The command as it is logged: the ID that was given, and an exact trim with this bound.
    fn log(&self, op: &mut Op, id: Option<StreamId>, bound: &[u8]) {
        if !op.is_logged() {
            return op.logs_nothing();
        }
        let is_approximate = self.trim.is_some_and(|trim| trim.is_approximate);
        let id = id.map(StreamId::text);
        let args = op.args;
        let words = args.iter().enumerate().filter_map(|(index, word)| match &id {
            Some(text) if self.id.is_some_and(|(_, at)| at == index) => Some(&**text),
            _ if !is_approximate => Some(word),
            _ if self.limit_at.is_some_and(|at| (at..at + 2).contains(&index)) => None,
            _ if index == self.bound_at => Some(bound),
            _ if index + 1 == self.bound_at => Some(b"="),
            _ => Some(word),
        });
        let words: Vec<&[u8]> = words.collect();
        op.instead(&words);
    }
}

/// The exact bound that a trim came to.
fn bound_reached(trim: Option<Trim>, stream: &Stream) -> Vec<u8> {
    match trim.map(|trim| trim.bound) {
        Some(TrimBound::MinId(_)) => stream.entries.first_id().text().to_vec(),
        _ => stream.entries.len().to_string().into_bytes(),
    }
}

/// What an XADD did.
struct Added {
    id: StreamId,
    trimmed: u64,
    bound: Vec<u8>,
}

pub(super) const XADD: Command = Command {
    summary: "Adds an entry at the end of a stream; creates the key if it is missing.",
    complexity: "O(1), and O(N) for the N entries that a trim drops.",
    arity: -5,
    flags: FAST_WRITE.union(Flags::DENYOOM),
    tips: NONDETERMINISTIC,
    keys: &[KeySpec {
        notes: "UPDATE instead of INSERT because of the optional trimming feature",
        ..KeySpec::one(1, UPDATE)
    }],
    arguments: &[
        KEY,
        Argument::word("nomkstream", "NOMKSTREAM").optional().since("6.2.0"),
        TRIM.optional(),
        arg(
            "id-selector",
            ArgumentKind::OneOf(&[Argument::word("auto-id", "*"), arg("id", ArgumentKind::String)]),
        ),
        arg(
            "data",
            ArgumentKind::Block(&[arg("field", ArgumentKind::String), arg("value", ArgumentKind::String)]),
        )
        .multiple(),
    ],
    history: &[
        ("6.2.0", "The options `NOMKSTREAM`, `MINID` and `LIMIT` were added."),
        ("7.0.0", "An ID may be given as `<ms>-*`."),
    ],
    ..on_stream("xadd", xadd)
};

fn xadd(op: &mut Op) -> Result<(), ReplyError> {
    let limits = op.env.limits;
    let options = Adding::parse(op.args, true, &limits)?;
    let fields = options.id.map(|(_, at)| op.args.slice_from(at + 1));
    let (Some((wanted, _)), Some(fields)) = (options.id, fields) else {
        return Err(error::wrong_arity("xadd"));
    };
    if fields.len() < 2 || !fields.len().is_multiple_of(2) {
        return Err(error::wrong_arity("xadd"));
    }
    if wanted == NewId::Exact(StreamId::MIN) {
        return Err(error::STREAM_ID_ZERO);
    }
    let (key, now) = (op.args.at(1), op.env.now);
    let change = |stream: &mut Stream| match append(stream, wanted, fields, options.trim, now, &limits) {
        Ok(added) => Edited::Changed(Ok(added)),
        Err(error) => Edited::Same(Err(error)),
    };
    let added = if options.creates {
        op.keys.edit_or_create_stream(key, change)?
    } else if let Some(added) = op.keys.edit_stream(key, change)? {
        added
    } else {
        op.reply.null();
        return Ok(());
    };
    let added = added.map_err(|why| match why {
        AppendError::Exhausted => error::STREAM_ID_EXHAUSTED,
        // Redis has no words of its own for a millisecond that is full.
        AppendError::IdTooSmall | AppendError::SeqExhausted => error::STREAM_ID_TOO_SMALL,
        AppendError::TooLarge => error::STREAM_ELEMENTS_TOO_LARGE,
    })?;
    op.wrote(key, Event::stream("xadd"));
    if added.trimmed > 0 {
        op.also(key, Event::stream("xtrim"));
    }
    let is_approximate = options.trim.is_some_and(|trim| trim.is_approximate);
    if is_approximate || !matches!(wanted, NewId::Exact(_)) {
        options.log(op, Some(added.id), &added.bound);
    }
    reply_id(&mut op.reply, added.id);
    Ok(())
}

fn append(
    stream: &mut Stream,
    wanted: NewId,
    fields: Args,
    trim: Option<Trim>,
    now: UnixMs,
    limits: &Limits,
) -> Result<Added, AppendError> {
    let id = stream.entries.new_id(wanted, now)?;
    stream.entries.append(id, fields.iter(), limits)?;
    Ok(Added {
        id,
        trimmed: trim.map_or(0, |trim| stream.entries.trim(&trim)),
        bound: match trim {
            Some(trim) if trim.is_approximate => bound_reached(Some(trim), stream),
            _ => Vec::new(),
        },
    })
}

pub(super) const XTRIM: Command = Command {
    summary: "Drops entries at the front of a stream.",
    complexity: "O(N), N being the number of entries dropped; whole blocks of them go at once.",
    arity: -4,
    flags: Flags::WRITE,
    tips: NONDETERMINISTIC,
    keys: &[KeySpec::one(1, DELETE)],
    arguments: &[KEY, TRIM],
    history: &[("6.2.0", "The options `MINID` and `LIMIT` were added.")],
    ..on_stream("xtrim", xtrim)
};

fn xtrim(op: &mut Op) -> Result<(), ReplyError> {
    let options = Adding::parse(op.args, false, &op.env.limits)?;
    let Some(trim) = options.trim else {
        return Err(error::STREAM_TRIM_WITHOUT_BOUND);
    };
    let key = op.args.at(1);
    let trimmed = op.keys.edit_stream(key, |stream| {
        let trimmed = stream.entries.trim(&trim);
        Edited::when(trimmed > 0, (trimmed, bound_reached(Some(trim), stream)))
    })?;
    let (trimmed, bound) = trimmed.unwrap_or_default();
    if trimmed > 0 {
        op.wrote_times(key, Event::stream("xtrim"), trimmed);
        if trim.is_approximate {
            options.log(op, None, &bound);
        }
    }
    op.reply.integer(trimmed as i64);
    Ok(())
}

pub(super) const XDEL: Command = Command {
    summary: "Deletes entries. Answers how many were there.",
    complexity: "O(1) for each ID, however long the stream is.",
    arity: -3,
    flags: FAST_WRITE,
    keys: &[KeySpec::one(1, DELETE)],
    arguments: &[KEY, IDS],
    ..on_stream("xdel", xdel)
};

fn xdel(op: &mut Op) -> Result<(), ReplyError> {
    let (key, ids) = (op.args.at(1), op.args.slice_from(2));
    let deleted = op.keys.edit_stream(key, |stream| {
        // All or nothing: an ID that is none must not come too late.
        let ids: Result<Vec<StreamId>, ReplyError> = ids.iter().map(parse_id).collect();
        match ids {
            Ok(ids) => {
                let deleted = ids.into_iter().filter(|id| stream.entries.delete(*id)).count();
                Edited::when(deleted > 0, Ok(deleted))
            }
            Err(error) => Edited::Same(Err(error)),
        }
    })?;
    let deleted = deleted.unwrap_or(Ok(0))?;
    if deleted > 0 {
        op.wrote_times(key, Event::stream("xdel"), deleted as u64);
    }
    op.reply.integer(deleted as i64);
    Ok(())
}

pub(super) const XSETID: Command = Command {
    summary: "Sets what a stream remembers beside its entries; replication uses it.",
    arity: -3,
    flags: FAST_WRITE.union(Flags::DENYOOM),
    keys: &[KeySpec::one(1, UPDATE)],
    arguments: &[
        KEY,
        arg("last-id", ArgumentKind::String),
        arg("entries-added", ArgumentKind::Integer)
            .token("ENTRIESADDED")
            .optional()
            .since("7.0.0"),
        arg("max-deleted-id", ArgumentKind::String)
            .token("MAXDELETEDID")
            .optional()
            .since("7.0.0"),
    ],
    history: &[(
        "7.0.0",
        "The arguments `entries_added` and `max_deleted_entry_id` were added.",
    )],
    ..on_stream("xsetid", xsetid)
};

fn xsetid(op: &mut Op) -> Result<(), ReplyError> {
    let args = op.args;
    let (key, id) = (args.at(1), parse_id(args.at(2))?);
    let (mut added, mut max_deleted) = (None, None);
    let mut options = Options::behind(args, 3);
    while !options.is_empty() {
        if options.flag(b"ENTRIESADDED") {
            let count = u64::try_from(options.integer()?);
            added = Some(count.map_err(|_| error::STREAM_ENTRIES_ADDED_NEGATIVE)?);
        } else if options.flag(b"MAXDELETEDID") {
            let given = parse_id(options.word()?)?;
            if id < given {
                return Err(error::STREAM_SETID_BEHIND_DELETED);
            }
            max_deleted = Some(given).filter(|id| !id.is_zero());
        } else {
            return Err(error::SYNTAX);
        }
    }
    let set = op.keys.edit_stream(key, |stream| {
        let entries = &mut stream.entries;
        // What MAXDELETEDID says is for later: what counts is what the stream knows.
        if id < entries.max_deleted_id() {
            return Edited::Same(Err(error::STREAM_SETID_BELOW_DELETED));
        }
        if entries.last().is_some_and(|last| id < last.id) {
            return Edited::Same(Err(error::STREAM_SETID_TOO_SMALL));
        }
        if added.is_some_and(|added| added < entries.len()) {
            return Edited::Same(Err(error::STREAM_SETID_ENTRIES_TOO_FEW));
        }
        entries.set_id(id, added, max_deleted);
        Edited::Changed(Ok(()))
    })?;
    set.ok_or(error::NO_SUCH_KEY)??;
    op.wrote(key, Event::stream("xsetid"));
    op.reply.ok();
    Ok(())
}
