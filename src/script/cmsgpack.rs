//! The library `cmsgpack`: MessagePack (<https://github.com/msgpack/msgpack/blob/master/spec.md>) as Redis's scripts have it.
//!
//! A table whose keys are 1 to n is an array, an empty one too; every other one is a map. Whole numbers are integers; others are floats of 32 bits where nothing is lost, else
//! of 64. Tables within tables end at the sixteenth level, with nil. Types `bin` and `ext` are not known.

use std::ffi::{CStr, c_int};

use mlua_sys as ffi;

use super::lua::{Core, Frame, Thread, bytes_at, check_bytes, push_bytes, raise_argument, raise_here, raise_text_here};
use super::sandbox::{set_functions, set_texts};

/// Pushes the library's table.
///
/// # Safety
/// May raise.
pub(super) unsafe fn push(thread: Thread) {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_createtable(thread, 0, 8);
        set_functions(
            thread,
            &[
                (c"pack", pack),
                (c"unpack", unpack),
                (c"unpack_one", unpack_one),
                (c"unpack_limit", unpack_limit),
            ],
        );
        set_texts(
            thread,
            &[
                (c"_NAME", "cmsgpack"),
                (c"_VERSION", "lua-cmsgpack 0.4.0"),
                (c"_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
                (c"_DESCRIPTION", "MessagePack C implementation for Lua"),
            ],
        );
    }
}

/// Levels of tables that are packed.
const DEPTH_MAX: usize = 16;

unsafe extern "C-unwind" fn pack(thread: Thread) -> c_int {
    // SAFETY: called by Lua; what is packed is the core's.
    unsafe {
        let count = ffi::lua_gettop(thread);
        if count == 0 {
            raise_argument(thread, 0, c"MessagePack pack needs input.");
        }
        Core::of(thread).text.clear();
        for index in 1..=count {
            ffi::luaL_checkstack_(thread, 4, c"in function mp_check".as_ptr());
            ffi::lua_pushvalue(thread, index);
            pack_value(thread, 0);
        }
        let text: *const Vec<u8> = &Core::of(thread).text;
        push_bytes(thread, &*text);
        1
    }
}

/// Packs the value on top of the stack, and pops it.
///
/// # Safety
/// Called by Lua. Calls itself at most [`DEPTH_MAX`] deep.
unsafe fn pack_value(thread: Thread, depth: usize) {
    // SAFETY: as the caller promises; nothing here runs code of a script.
    unsafe {
        ffi::luaL_checkstack_(thread, 5, c"in function mp_encode_lua_type".as_ptr());
        let out = &mut Core::of(thread).text;
        match ffi::lua_type(thread, -1) {
            ffi::LUA_TSTRING => put_string(out, bytes_at(thread, -1).unwrap_or_default()),
            ffi::LUA_TBOOLEAN => out.push(if ffi::lua_toboolean(thread, -1) != 0 {
                0xc3
            } else {
                0xc2
            }),
            ffi::LUA_TNUMBER => put_number(out, ffi::lua_tonumber(thread, -1)),
            ffi::LUA_TTABLE if depth < DEPTH_MAX => pack_table(thread, depth),
            _ => out.push(0xc0),
        }
        ffi::lua_pop(thread, 1);
    }
}

/// # Safety
/// As [`pack_value`].
unsafe fn pack_table(thread: Thread, depth: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        if let Some(proxy) = Core::of(thread).proxy(ffi::lua_topointer(thread, -1)) {
            ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, proxy.reference);
            ffi::lua_replace(thread, -2);
        }
        let (count, is_array) = shape(thread);
        if is_array {
            let count = ffi::lua_objlen(thread, -1).min(count);
            put_header(&mut Core::of(thread).text, count, (0x90, 0xdc, 0xdd));
            for index in 1..=count {
                ffi::lua_rawgeti_(thread, -1, index as c_int);
                pack_value(thread, depth + 1);
            }
            return;
        }
        put_header(&mut Core::of(thread).text, count, (0x80, 0xde, 0xdf));
        ffi::lua_pushnil(thread);
        while ffi::lua_next(thread, -2) != 0 {
            ffi::lua_pushvalue(thread, -2);
            pack_value(thread, depth + 1);
            pack_value(thread, depth + 1);
        }
    }
}

/// How many pairs the table on top has, and whether they are an array.
///
/// # Safety
/// As [`pack_value`].
unsafe fn shape(thread: Thread) -> (usize, bool) {
    let (mut count, mut max, mut is_array) = (0, 0.0, true);
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_pushnil(thread);
        while ffi::lua_next(thread, -2) != 0 {
            ffi::lua_pop(thread, 1);
            count += 1;
            let is_index = ffi::lua_type(thread, -1) == ffi::LUA_TNUMBER && {
                let key = ffi::lua_tonumber(thread, -1);
                max = f64::max(max, key);
                key > 0.0 && f64::from(key as i32) == key
            };
            is_array &= is_index;
        }
    }
    (count, is_array && max == count as f64)
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        length @ 0..=31 => out.push(0xa0 | length as u8),
        length @ 32..=0xff => out.extend_from_slice(&[0xd9, length as u8]),
        length @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xdb);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

fn put_header(out: &mut Vec<u8>, count: usize, (small, middle, large): (u8, u8, u8)) {
    match count {
        0..=15 => out.push(small | count as u8),
        16..=0xffff => {
            out.push(middle);
            out.extend_from_slice(&(count as u16).to_be_bytes());
        }
        _ => {
            out.push(large);
            out.extend_from_slice(&(count as u32).to_be_bytes());
        }
    }
}

fn put_number(out: &mut Vec<u8>, number: f64) {
    let whole = number as i64;
    // Within these bounds the conversion is exact in C, too.
    let is_whole = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    if !is_whole || whole as f64 != number {
        let single = number as f32;
        if f64::from(single) == number {
            out.push(0xca);
            out.extend_from_slice(&single.to_be_bytes());
        } else {
            out.push(0xcb);
            out.extend_from_slice(&number.to_be_bytes());
        }
        return;
    }
    match whole {
        0..=0x7f => out.push(whole as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, whole as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(whole as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(whole as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend_from_slice(&whole.to_be_bytes());
        }
        -32..=-1 => out.push(whole as u8),
        -128..=-33 => out.extend_from_slice(&[0xd0, whole as u8]),
        -0x8000..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(whole as i16).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend_from_slice(&(whole as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&whole.to_be_bytes());
        }
    }
}

unsafe extern "C-unwind" fn unpack(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { unpack_from(thread, 0, 0) }
}

unsafe extern "C-unwind" fn unpack_one(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let offset = ffi::luaL_optinteger(thread, 2, 0);
        // None at all stays none, for the error's sake.
        ffi::lua_settop(thread, ffi::lua_gettop(thread).min(1));
        unpack_from(thread, 1, offset as i64)
    }
}

unsafe extern "C-unwind" fn unpack_limit(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let limit = ffi::luaL_checkinteger(thread, 2);
        let offset = ffi::luaL_optinteger(thread, 3, 0);
        ffi::lua_settop(thread, 1);
        unpack_from(thread, limit as i64, offset as i64)
    }
}

/// Pushes the values that stand one behind the other; unless all were asked for, the offset of what follows before them.
///
/// # Safety
/// Called by Lua; the data is argument 1.
unsafe fn unpack_from(thread: Thread, limit: i64, offset: i64) -> c_int {
    // SAFETY: the data stays on the stack.
    unsafe {
        let data = check_bytes(thread, 1);
        let is_all = limit == 0 && offset == 0;
        let length = data.len();
        if offset < 0 || limit < 0 {
            say(
                thread,
                &["Invalid request to unpack with offset of ", " and limit of ", "."],
                [offset as i32, length as i32],
            );
        }
        let Some(rest) = usize::try_from(offset).ok().and_then(|offset| data.get(offset..)) else {
            say(
                thread,
                &["Start offset ", " greater than input length ", "."],
                [offset as i32, length as i32],
            );
        };
        let mut data = Data { rest };
        let mut count = 0;
        while !data.rest.is_empty() && (is_all || count < limit) {
            match unpack_value(thread, &mut data) {
                Ok(()) => count += 1,
                Err(Damage::Missing) => raise_here(thread, b"Missing bytes in input."),
                Err(Damage::Unknown) => raise_here(thread, b"Bad data format in input."),
            }
        }
        if !is_all {
            ffi::luaL_checkstack_(thread, 1, c"in function mp_unpack_full".as_ptr());
            let next = match data.rest.len() {
                0 => -1.0,
                left => (length - left) as f64,
            };
            ffi::lua_pushnumber(thread, next);
            ffi::lua_insert(thread, 2);
            count += 1;
        }
        count as c_int
    }
}

/// Raises a text with two numbers in it.
///
/// # Safety
/// Called by Lua.
unsafe fn say(thread: Thread, [first, second, third]: &[&str; 3], numbers: [i32; 2]) -> ! {
    // SAFETY: nothing that must be dropped is alive.
    unsafe {
        let text = &mut Core::of(thread).text;
        text.clear();
        text.extend_from_slice(first.as_bytes());
        text.extend_from_slice(itoa::Buffer::new().format(numbers[0]).as_bytes());
        text.extend_from_slice(second.as_bytes());
        text.extend_from_slice(itoa::Buffer::new().format(numbers[1]).as_bytes());
        text.extend_from_slice(third.as_bytes());
        raise_text_here(thread)
    }
}

/// What Lua says when values are more than its stack can hold.
const TOO_MANY_VALUES: &CStr = c"too many return values at once; use unpack_one or unpack_limit instead.";

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// The data ends too early.
    Missing,
    /// A type that is not known.
    Unknown,
}

struct Data<'a> {
    rest: &'a [u8],
}

impl<'a> Data<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Damage::Missing)?;
        self.rest = rest;
        Ok(taken)
    }

    fn unsigned(&mut self, bytes: usize) -> Result<u64, Damage> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, bytes: usize) -> Result<f64, Damage> {
        let unused_bits = 64 - 8 * bytes as u32;
        Ok(((self.unsigned(bytes)? << unused_bits) as i64 >> unused_bits) as f64)
    }
}

/// What one byte and what follows it stand for.
enum Token<'a> {
    Nil,
    Boolean(bool),
    Number(f64),
    String(&'a [u8]),
    Array(usize),
    Map(usize),
}

fn token<'a>(data: &mut Data<'a>) -> Result<Token<'a>, Damage> {
    let kind = data.take(1)?[0];
    let string = |data: &mut Data<'a>, width| {
        let length = data.unsigned(width)? as usize;
        Ok(Token::String(data.take(length)?))
    };
    Ok(match kind {
        0x00..=0x7f => Token::Number(f64::from(kind)),
        0xe0..=0xff => Token::Number(f64::from(kind as i8)),
        0x80..=0x8f => Token::Map(usize::from(kind & 15)),
        0x90..=0x9f => Token::Array(usize::from(kind & 15)),
        0xa0..=0xbf => Token::String(data.take(usize::from(kind & 31))?),
        0xc0 => Token::Nil,
        0xc2 | 0xc3 => Token::Boolean(kind == 0xc3),
        0xd9..=0xdb => string(data, 1 << (kind - 0xd9))?,
        0xca => Token::Number(f64::from(f32::from_bits(data.unsigned(4)? as u32))),
        0xcb => Token::Number(f64::from_bits(data.unsigned(8)?)),
        0xcc..=0xce => Token::Number(data.unsigned(1 << (kind - 0xcc))? as f64),
        // As Redis reads it: with a sign.
        0xcf | 0xd3 => Token::Number(data.signed(8)?),
        0xd0..=0xd2 => Token::Number(data.signed(1 << (kind - 0xd0))?),
        0xdc | 0xdd => Token::Array(data.unsigned(2 << (kind - 0xdc))? as usize),
        0xde | 0xdf => Token::Map(data.unsigned(2 << (kind - 0xde))? as usize),
        _ => return Err(Damage::Unknown),
    })
}

/// Pushes one value with all that is in it.
///
/// # Safety
/// Called by Lua.
unsafe fn unpack_value(thread: Thread, data: &mut Data<'_>) -> Result<(), Damage> {
    // SAFETY: the open tables are the core's list; nothing here runs code of a script. The stack holds, for each open table, itself, and in a map
    // perhaps the key whose value comes next.
    unsafe {
        Core::of(thread).frames.clear();
        loop {
            // The place in an array stands below its value, as a key does.
            if let Some(&Frame {
                is_map: false, done, ..
            }) = Core::of(thread).frames.last()
            {
                ffi::lua_pushnumber(thread, (done + 1) as f64);
            }
            ffi::luaL_checkstack_(thread, 1, TOO_MANY_VALUES.as_ptr());
            let opened = match token(data)? {
                Token::Nil => {
                    ffi::lua_pushnil(thread);
                    None
                }
                Token::Boolean(value) => {
                    ffi::lua_pushboolean(thread, c_int::from(value));
                    None
                }
                Token::Number(number) => {
                    ffi::lua_pushnumber(thread, number);
                    None
                }
                Token::String(text) => {
                    push_bytes(thread, text);
                    None
                }
                Token::Array(count) => Some((false, count)),
                Token::Map(count) => Some((true, 2 * count)),
            };
            if let Some((is_map, count)) = opened {
                let (slots, place) = match is_map {
                    true => (1, c"in function mp_decode_to_lua_hash"),
                    false => (2, c"in function mp_decode_to_lua_array"),
                };
                ffi::luaL_checkstack_(thread, slots, place.as_ptr());
                ffi::lua_createtable(thread, 0, 0);
                Core::of(thread).frames.push(Frame { is_map, done: 0, count });
            } else if let Some(frame) = Core::of(thread).frames.last_mut() {
                frame.done += 1;
                let frame = *frame;
                set_last(thread, frame);
            }
            // What is full is a value itself.
            while let Some(frame) = Core::of(thread).frames.last().copied() {
                if frame.done < frame.count {
                    break;
                }
                Core::of(thread).frames.pop();
                if let Some(outer) = Core::of(thread).frames.last_mut() {
                    outer.done += 1;
                    let outer = *outer;
                    set_last(thread, outer);
                }
            }
            if Core::of(thread).frames.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Puts the value on top into the table below it, unless it is a key.
///
/// # Safety
/// As [`unpack_value`].
unsafe fn set_last(thread: Thread, frame: Frame) {
    // SAFETY: as the caller promises; a key that is nil raises.
    unsafe {
        match frame.is_map {
            true if frame.done % 2 == 1 => {}
            _ => ffi::lua_rawset(thread, -3),
        }
    }
}
