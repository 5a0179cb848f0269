//! The list family: looking into lists ([`read`]), adding to them ([`write`]), taking from them ([`remove`]), and moving an
//! element from one to another ([`relocate`]); and those that wait for a list ([`blocking`]).
//!
//! How a list is laid out is `data::list`'s matter. Replies are written from its stored bytes, element by element; the one
//! element that is ever copied out is the one that moves.
//!
//! What is wrong with a call is found in Redis's order, which the errors make visible. Ranges and counts are read before the
//! key is looked for, but the index of LINDEX and LSET after it: on a missing key nobody looks at the index.
//!
//! | command | its effect |
//! |---|---|
//! | LMPOP BLMPOP | `LPOP key count` or `RPOP key count`, with the count that was there |
//! | BLPOP BRPOP | `LPOP key` or `RPOP key` |
//! | BLMOVE BRPOPLPUSH | `LMOVE` or `RPOPLPUSH` |

mod blocking;
mod read;
mod relocate;
mod remove;
#[cfg(test)]
mod tests;
mod write;

use crate::data::list::End;
use crate::engine::{Command, Event};
use crate::resp::{ReplyError, error};
use crate::spec::{Argument, ArgumentKind, arg};
use std::ops::Range;

pub const COMMANDS: &[Command] = &[
    blocking::BLMOVE,
    blocking::BLMPOP,
    blocking::BLPOP,
    blocking::BRPOP,
    blocking::BRPOPLPUSH,
    read::LINDEX,
    write::LINSERT,
    read::LLEN,
    relocate::LMOVE,
    remove::LMPOP,
    remove::LPOP,
    read::LPOS,
    write::LPUSH,
    write::LPUSHX,
    read::LRANGE,
    remove::LREM,
    write::LSET,
    remove::LTRIM,
    remove::RPOP,
    relocate::RPOPLPUSH,
    write::RPUSH,
    write::RPUSHX,
];

const SIDES: &[Argument] = &[Argument::word("left", "LEFT"), Argument::word("right", "RIGHT")];

/// `LEFT` or `RIGHT`.
const fn side(name: &'static str) -> Argument {
    arg(name, ArgumentKind::OneOf(SIDES))
}

/// The end that a word names.
fn end_of(word: &[u8]) -> Result<End, ReplyError> {
    if word.eq_ignore_ascii_case(b"LEFT") {
        Ok(End::Front)
    } else if word.eq_ignore_ascii_case(b"RIGHT") {
        Ok(End::Back)
    } else {
        Err(error::SYNTAX)
    }
}

/// Elements were added at this end.
fn pushed(end: End) -> Event {
    Event::list(match end {
        End::Front => "lpush",
        End::Back => "rpush",
    })
}

/// Elements were taken from this end.
fn popped(end: End) -> Event {
    Event::list(match end {
        End::Front => "lpop",
        End::Back => "rpop",
    })
}

/// The elements from `start` to `stop`, both of them, counted from the end where they are negative.
fn elements_between(start: i64, stop: i64, len: usize) -> Range<usize> {
    let count = len as i64;
    let from_front = |index: i64| if index < 0 { index + count } else { index };
    let start = from_front(start).max(0);
    let stop = from_front(stop).min(count - 1);
    if start > stop {
        return 0..0;
    }
    start as usize..stop as usize + 1
}
