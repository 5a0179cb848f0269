//! Replies become Lua's values, and Lua's values replies.
//!
//! | RESP | Lua |
//! |---|---|
//! | integer, string | number, string |
//! | status, error | `{ok = ...}`, `{err = ...}` |
//! | array, no array, no string | table from 1, `false`, `false` |
//! | map, set | `{map = {k = v}}`, `{set = {e = true}}` |
//! | double, big number, verbatim | `{double = n}`, `{big_number = s}`, `{verbatim_string = {format, string}}` |
//! | boolean, null | boolean, `nil` |
//!
//! The way back is the same, with these losses: numbers are cut to integers, an array ends at its first `nil`, `false` is null (unless the script has asked
//! for RESP3: then it is a boolean), and what has no counterpart (functions, threads) is null. Tables are read raw, so no code of the script runs while its
//! result is written.
//!
//! A result may be as deep as Lua's stack allows a C function to be; there the words "reached lua stack limit" stand in its place. That is some eight thousand levels,
//! so what is open is kept in a list, not on the thread's stack. A table that contains itself twice would make a result without end: one that grows beyond
//! the bound of the interpreter's memory is an error.

use std::ffi::{CStr, c_int};

use mlua_sys as ffi;

use super::lua::{Core, IS_COUNTED, Thread, bytes_at, push_bytes, raise};
use crate::base::numbers::{as_c_text, parse_f64, parse_i64};
use crate::resp::reply::Mark;
use crate::resp::{Proto, Reply, ReplyError};

/// Pushes the value of a reply, which is one in the protocol that was asked for and comes from our own commands. False: it is an error.
///
/// # Safety
/// May raise; nothing that must be dropped is alive. The reply is not the core's text.
pub(super) unsafe fn push_reply(thread: Thread, reply: &[u8]) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let mut reader = Reader { rest: reply };
        reader.push(thread);
        reply.first() != Some(&b'-')
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> &'a [u8] {
        let end = memchr::memchr(b'\r', self.rest).unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.get(2..).unwrap_or_default();
        line
    }

    /// What has so many bytes and a line end.
    fn block(&mut self, bytes: usize) -> &'a [u8] {
        let block = &self.rest[..bytes.min(self.rest.len())];
        self.rest = self.rest.get(bytes + 2..).unwrap_or_default();
        block
    }

    /// # Safety
    /// As [`push_reply`].
    unsafe fn push(&mut self, thread: Thread) {
        // SAFETY: the stack has room for what a level pushes; a reader owns nothing.
        unsafe {
            ffi::luaL_checkstack_(thread, 6, c"reached lua stack limit".as_ptr());
            let line = self.line();
            let Some((&kind, line)) = line.split_first() else {
                ffi::lua_pushnil(thread);
                return;
            };
            match kind {
                b':' => ffi::lua_pushnumber(thread, integer(line) as f64),
                b'$' if line == b"-1" => ffi::lua_pushboolean(thread, 0),
                b'$' => push_bytes(thread, self.block(integer(line) as usize)),
                b'+' => push_field(thread, c"ok", line),
                b'-' => {
                    ffi::lua_createtable(thread, 0, 2);
                    push_bytes(thread, line);
                    ffi::lua_setfield(thread, -2, c"err".as_ptr());
                    ffi::lua_pushboolean(thread, 1);
                    ffi::lua_setfield(thread, -2, IS_COUNTED.as_ptr());
                }
                b'*' if line == b"-1" => ffi::lua_pushboolean(thread, 0),
                b'*' | b'>' => {
                    let count = integer(line);
                    ffi::lua_createtable(thread, count as c_int, 0);
                    for index in 1..=count {
                        self.push(thread);
                        ffi::lua_rawseti_(thread, -2, index as c_int);
                    }
                }
                b'%' => {
                    let count = integer(line);
                    ffi::lua_createtable(thread, 0, 1);
                    ffi::lua_createtable(thread, 0, count as c_int);
                    for _ in 0..count {
                        self.push(thread);
                        self.push(thread);
                        ffi::lua_rawset(thread, -3);
                    }
                    ffi::lua_setfield(thread, -2, c"map".as_ptr());
                }
                b'~' => {
                    let count = integer(line);
                    ffi::lua_createtable(thread, 0, 1);
                    ffi::lua_createtable(thread, 0, count as c_int);
                    for _ in 0..count {
                        self.push(thread);
                        ffi::lua_pushboolean(thread, 1);
                        ffi::lua_rawset(thread, -3);
                    }
                    ffi::lua_setfield(thread, -2, c"set".as_ptr());
                }
                b',' => {
                    ffi::lua_createtable(thread, 0, 1);
                    ffi::lua_pushnumber(thread, parse_f64(line).unwrap_or(f64::NAN));
                    ffi::lua_setfield(thread, -2, c"double".as_ptr());
                }
                b'#' => ffi::lua_pushboolean(thread, c_int::from(line == b"t")),
                b'(' => push_field(thread, c"big_number", line),
                b'=' => {
                    let block = self.block(integer(line) as usize);
                    let (format, text) = block.split_at(block.len().min(3));
                    ffi::lua_createtable(thread, 0, 1);
                    push_field(thread, c"string", text.get(1..).unwrap_or_default());
                    push_bytes(thread, format);
                    ffi::lua_setfield(thread, -2, c"format".as_ptr());
                    ffi::lua_setfield(thread, -2, c"verbatim_string".as_ptr());
                }
                b'|' => {
                    // Scripts see no attributes.
                    for _ in 0..2 * integer(line) {
                        self.push(thread);
                        ffi::lua_pop(thread, 1);
                    }
                    self.push(thread);
                }
                _ => ffi::lua_pushnil(thread),
            }
        }
    }
}

fn integer(line: &[u8]) -> i64 {
    parse_i64(line).unwrap_or_default()
}

/// Pushes `{name = text}`.
///
/// # Safety
/// As [`push_reply`].
pub(super) unsafe fn push_field(thread: Thread, name: &CStr, text: &[u8]) {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_createtable(thread, 0, 1);
        push_bytes(thread, text);
        ffi::lua_setfield(thread, -2, name.as_ptr());
    }
}

/// A table whose elements are being written. On the stack stand the table and, for maps and sets, the key that comes next.
#[derive(Clone, Copy)]
struct Open {
    kind: Kind,
    /// Where the length goes, if it is not written yet.
    mark: Option<Mark>,
    count: usize,
    /// Elements to come, where they have been counted.
    end: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Array,
    Set,
    /// The key comes next, or the value of the key that has been written.
    Map {
        is_value_next: bool,
    },
}

/// From this depth on arrays are counted before they are written: a length that is put in afterwards moves all that is inside.
const COUNTED_DEPTH: usize = 8;

/// Writes the value on top of the stack, and pops it.
///
/// # Safety
/// `writer` and `open` are empty or owned by somebody outside of the protected call; may raise.
pub(super) unsafe fn write_value(thread: Thread, reply: &mut Reply<'_>, open: &mut Vec<Level>) {
    // SAFETY: tables are read raw; what raises here (the want of memory for a name) leaves nothing behind that must be dropped.
    unsafe {
        open.clear();
        let bytes_max = reply.buf().len().saturating_add(Core::of(thread).bytes_max);
        write_one(thread, reply, open);
        while let Some(Level(state)) = open.last_mut() {
            if reply.is_full() {
                return;
            }
            if reply.buf().len() > bytes_max {
                raise(thread, b"the result is too large");
            }
            match state.kind {
                Kind::Array => {
                    ffi::lua_rawgeti_(thread, -1, (state.count + 1) as c_int);
                    let is_over = match state.mark {
                        Some(_) => ffi::lua_type(thread, -1) == ffi::LUA_TNIL,
                        None => state.count == state.end,
                    };
                    if is_over {
                        // The element that is none, and the table.
                        ffi::lua_pop(thread, 2);
                        if let Some(mark) = state.mark {
                            reply.end_array(mark, state.count);
                        }
                        open.pop();
                        continue;
                    }
                    state.count += 1;
                }
                Kind::Set | Kind::Map { is_value_next: false } => {
                    if ffi::lua_next(thread, -2) == 0 {
                        // The inner table, and the outer one.
                        ffi::lua_pop(thread, 2);
                        let Open { kind, mark, count, .. } = *state;
                        if let Some(mark) = mark {
                            match kind {
                                Kind::Set => reply.end_set(mark, count),
                                _ => reply.end_map(mark, count),
                            }
                        }
                        open.pop();
                        continue;
                    }
                    state.count += 1;
                    if state.kind == Kind::Set {
                        ffi::lua_pop(thread, 1);
                        ffi::lua_pushvalue(thread, -1);
                    } else {
                        state.kind = Kind::Map { is_value_next: true };
                        // Key, value: the key is written first, from a copy.
                        ffi::lua_pushvalue(thread, -2);
                    }
                }
                Kind::Map { is_value_next: true } => {
                    // The value is on top, written last, and popped: the key stays for the next step.
                    state.kind = Kind::Map { is_value_next: false };
                }
            }
            write_one(thread, reply, open);
        }
    }
}

/// See [`write_value`]: what is open there, outermost first.
#[derive(Clone, Copy)]
pub(super) struct Level(Open);

/// Writes the value on top of the stack and pops it, or leaves it there as what is open.
///
/// # Safety
/// As [`write_value`].
unsafe fn write_one(thread: Thread, reply: &mut Reply<'_>, open: &mut Vec<Level>) {
    // SAFETY: as the caller promises.
    unsafe {
        if ffi::lua_checkstack(thread, 4) == 0 {
            reply.error(&crate::resp::error::LUA_STACK_LIMIT);
            ffi::lua_pop(thread, 1);
            return;
        }
        match ffi::lua_type(thread, -1) {
            ffi::LUA_TSTRING => {
                if let Some(text) = bytes_at(thread, -1) {
                    reply.bulk(text);
                }
            }
            ffi::LUA_TNUMBER => reply.integer(cut(ffi::lua_tonumber(thread, -1))),
            ffi::LUA_TBOOLEAN => {
                let value = ffi::lua_toboolean(thread, -1) != 0;
                match Core::of(thread).protocol {
                    Proto::Resp2 if value => reply.integer(1),
                    Proto::Resp2 => reply.null(),
                    Proto::Resp3 => reply.boolean(value),
                }
            }
            ffi::LUA_TTABLE => return write_table(thread, reply, open),
            _ => reply.null(),
        }
        ffi::lua_pop(thread, 1);
    }
}

/// A number as an integer, as C cuts it: what does not fit is the smallest one.
fn cut(number: f64) -> i64 {
    match number {
        number if number >= i64::MAX as f64 || number.is_nan() => i64::MIN,
        number => number as i64,
    }
}

/// # Safety
/// As [`write_value`].
unsafe fn write_table(thread: Thread, reply: &mut Reply<'_>, open: &mut Vec<Level>) {
    // SAFETY: as the caller promises.
    unsafe {
        if field_is(thread, c"err", ffi::LUA_TSTRING) {
            ffi::lua_pop(thread, 1);
            write_error(thread, reply);
            ffi::lua_pop(thread, 1);
            return;
        }
        if field_is(thread, c"ok", ffi::LUA_TSTRING) {
            one_line(thread, |line| {
                reply.raw(b"+");
                reply.raw(line);
                reply.raw(b"\r\n");
            });
            ffi::lua_pop(thread, 2);
            return;
        }
        if field_is(thread, c"double", ffi::LUA_TNUMBER) {
            reply.double(ffi::lua_tonumber(thread, -1));
            ffi::lua_pop(thread, 2);
            return;
        }
        for (name, kind) in [(c"map", Kind::Map { is_value_next: false }), (c"set", Kind::Set)] {
            if field_is(thread, name, ffi::LUA_TTABLE) {
                ffi::lua_pushnil(thread);
                let (mark, count) = begin(thread, reply, kind, open.len());
                open.push(Level(Open {
                    kind,
                    mark,
                    count: 0,
                    end: count,
                }));
                return;
            }
        }
        if field_is(thread, c"big_number", ffi::LUA_TSTRING) {
            one_line(thread, |line| match reply.proto() {
                Proto::Resp2 => reply.bulk(line),
                Proto::Resp3 => {
                    reply.raw(b"(");
                    reply.raw(line);
                    reply.raw(b"\r\n");
                }
            });
            ffi::lua_pop(thread, 2);
            return;
        }
        if field_is(thread, c"verbatim_string", ffi::LUA_TTABLE) {
            let has_format = field_is(thread, c"format", ffi::LUA_TSTRING);
            if has_format {
                // The format stays on top of the inner table, which `field_is` looks into.
                ffi::lua_insert(thread, -2);
                if field_is(thread, c"string", ffi::LUA_TSTRING) {
                    let text = bytes_at(thread, -1).unwrap_or_default();
                    let format = bytes_at(thread, -3).unwrap_or_default();
                    let mut letters = [b' '; 3];
                    let count = format.len().min(3);
                    letters[..count].copy_from_slice(&format[..count]);
                    reply.verbatim(std::str::from_utf8(&letters).unwrap_or("txt"), text);
                    ffi::lua_pop(thread, 4);
                    return;
                }
                ffi::lua_remove(thread, -2);
            }
            ffi::lua_pop(thread, 1);
        }
        let (mark, end) = begin(thread, reply, Kind::Array, open.len());
        open.push(Level(Open {
            kind: Kind::Array,
            mark,
            count: 0,
            end,
        }));
    }
}

/// Begins an array, a set or a map: with a place for its length, or deep inside, with its length.
///
/// # Safety
/// As [`write_value`]: the table is on top, or below the key that a walk begins with.
unsafe fn begin(thread: Thread, reply: &mut Reply<'_>, kind: Kind, depth: usize) -> (Option<Mark>, usize) {
    if depth < COUNTED_DEPTH {
        return (Some(reply.deferred()), 0);
    }
    let mut count = 0;
    // SAFETY: as the caller promises; what is pushed is popped.
    unsafe {
        match kind {
            Kind::Array => {
                loop {
                    ffi::lua_rawgeti_(thread, -1, (count + 1) as c_int);
                    let is_over = ffi::lua_type(thread, -1) == ffi::LUA_TNIL;
                    ffi::lua_pop(thread, 1);
                    if is_over {
                        break;
                    }
                    count += 1;
                }
                reply.array(count);
            }
            Kind::Set | Kind::Map { .. } => {
                ffi::lua_pushnil(thread);
                while ffi::lua_next(thread, -3) != 0 {
                    ffi::lua_pop(thread, 1);
                    count += 1;
                }
                match kind {
                    Kind::Set => reply.set(count),
                    _ => reply.map(count),
                }
            }
        }
    }
    (None, count)
}

/// Writes the error of the table on top of the stack, and leaves it there.
///
/// # Safety
/// As [`write_value`].
unsafe fn write_error(thread: Thread, reply: &mut Reply<'_>) {
    // SAFETY: the error is dropped before anything else can raise; counting calls no Lua.
    unsafe {
        let is_counted = field_is(thread, IS_COUNTED, ffi::LUA_TBOOLEAN) && {
            let is_counted = ffi::lua_toboolean(thread, -1) != 0;
            ffi::lua_pop(thread, 1);
            is_counted
        };
        if field_is(thread, c"err", ffi::LUA_TSTRING) {
            {
                let text = bytes_at(thread, -1).unwrap_or_default();
                let error = ReplyError::owned(as_c_text(text));
                reply.error(&error);
                if !is_counted && let Some(host) = Core::of(thread).host() {
                    host.count_error(error.text());
                }
            }
            ffi::lua_pop(thread, 1);
        }
    }
}

/// Whether the table on top has a field of this type; it is pushed then.
///
/// # Safety
/// As [`write_value`].
unsafe fn field_is(thread: Thread, name: &CStr, kind: c_int) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        push_bytes(thread, name.to_bytes());
        ffi::lua_rawget(thread, -2);
        let is = ffi::lua_type(thread, -1) == kind;
        if !is {
            ffi::lua_pop(thread, 1);
        }
        is
    }
}

/// Hands out the string on top of the stack, line ends replaced by blanks.
///
/// # Safety
/// There is a string on top.
unsafe fn one_line(thread: Thread, write: impl FnOnce(&[u8])) {
    // SAFETY: nothing here calls Lua but to read the string.
    unsafe {
        let text = bytes_at(thread, -1).unwrap_or_default();
        if !text.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return write(text);
        }
        let line = text
            .iter()
            .map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte });
        write(&line.collect::<Vec<u8>>());
    }
}
