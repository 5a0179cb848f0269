//! Lua's values as JSON. Tables that are open are kept in the core's list, since they may be as deep as Lua's stack is high.

use std::ffi::c_int;

use mlua_sys as ffi;

use super::{Options, PRECISION_MAX, options};
use crate::script::lua::{Core, Frame, Thread, bytes_at, push_bytes, raise_argument, raise_text_here};

pub(super) unsafe extern "C-unwind" fn encode(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the text is the core's, and nothing here runs code of a script.
    unsafe {
        if ffi::lua_gettop(thread) != 1 {
            raise_argument(thread, 1, c"expected 1 argument");
        }
        let options = *options(thread);
        let core = Core::of(thread);
        core.text.clear();
        core.frames.clear();
        append(thread, options);
        while let Some(&Frame { is_map, done, count }) = Core::of(thread).frames.last() {
            let is_over = match is_map {
                false => done == count,
                true => ffi::lua_next(thread, -2) == 0,
            };
            let core = Core::of(thread);
            if is_over {
                core.text.push(if is_map { b'}' } else { b']' });
                core.frames.pop();
                ffi::lua_pop(thread, 1);
                continue;
            }
            if done > 0 {
                core.text.push(b',');
            }
            if let Some(frame) = core.frames.last_mut() {
                frame.done += 1;
            }
            match is_map {
                false => ffi::lua_rawgeti_(thread, -1, done as c_int + 1),
                true => append_key(thread, options),
            }
            append(thread, options);
        }
        let text: *const Vec<u8> = &Core::of(thread).text;
        push_bytes(thread, &*text);
        1
    }
}

/// Appends the value on top of the stack, and pops it; a table stays there, begun.
///
/// # Safety
/// Called by Lua.
unsafe fn append(thread: Thread, options: Options) {
    // SAFETY: called by Lua.
    unsafe {
        let out = &mut Core::of(thread).text;
        match ffi::lua_type(thread, -1) {
            ffi::LUA_TSTRING => append_string(out, bytes_at(thread, -1).unwrap_or_default()),
            ffi::LUA_TNUMBER => append_number(thread, ffi::lua_tonumber(thread, -1), options),
            ffi::LUA_TBOOLEAN => out.extend_from_slice(match ffi::lua_toboolean(thread, -1) {
                0 => b"false",
                _ => b"true",
            }),
            ffi::LUA_TNIL => out.extend_from_slice(b"null"),
            ffi::LUA_TLIGHTUSERDATA if ffi::lua_touserdata(thread, -1).is_null() => out.extend_from_slice(b"null"),
            ffi::LUA_TTABLE => return begin(thread, options),
            kind => refuse(thread, kind, "type not supported"),
        }
        ffi::lua_pop(thread, 1);
    }
}

/// Begins the table on top of the stack.
///
/// # Safety
/// Called by Lua.
unsafe fn begin(thread: Thread, options: Options) {
    // SAFETY: called by Lua.
    unsafe {
        let core = Core::of(thread);
        let depth = core.frames.len() + 1;
        if depth > options.encode_depth_max as usize || ffi::lua_checkstack(thread, 3) == 0 {
            let text = &mut core.text;
            text.clear();
            text.extend_from_slice(b"Cannot serialise, excessive nesting (");
            text.extend_from_slice(itoa::Buffer::new().format(depth).as_bytes());
            text.push(b')');
            raise_text_here(thread);
        }
        if let Some(proxy) = core.proxy(ffi::lua_topointer(thread, -1)) {
            ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, proxy.reference);
            ffi::lua_replace(thread, -2);
        }
        let count = array_count(thread, options);
        let core = Core::of(thread);
        let is_map = count == 0;
        core.text.push(if is_map { b'{' } else { b'[' });
        core.frames.push(Frame { is_map, done: 0, count });
        if is_map {
            ffi::lua_pushnil(thread);
        }
    }
}

/// The elements of the table on top of the stack, if it is an array that is not empty; else nothing.
///
/// # Safety
/// Called by Lua.
unsafe fn array_count(thread: Thread, options: Options) -> usize {
    // SAFETY: called by Lua.
    unsafe {
        let (mut max, mut count) = (0, 0u64);
        ffi::lua_pushnil(thread);
        while ffi::lua_next(thread, -2) != 0 {
            ffi::lua_pop(thread, 1);
            let key = match ffi::lua_type(thread, -1) {
                ffi::LUA_TNUMBER => ffi::lua_tonumber(thread, -1),
                _ => 0.0,
            };
            if key < 1.0 || key.floor() != key {
                ffi::lua_pop(thread, 1);
                return 0;
            }
            // What is beyond C's integers does not count as a place.
            if key <= f64::from(c_int::MAX) {
                max = max.max(key as u64);
            }
            count += 1;
        }
        let ratio = options.sparse_ratio as u64;
        if ratio > 0 && max > count.saturating_mul(ratio) && max > options.sparse_safe as u64 {
            if options.sparse_is_converted == 0 {
                refuse(thread, ffi::LUA_TTABLE, "excessively sparse array");
            }
            return 0;
        }
        max as usize
    }
}

/// Appends the key below the top of the stack.
///
/// # Safety
/// Called by Lua.
unsafe fn append_key(thread: Thread, options: Options) {
    // SAFETY: called by Lua.
    unsafe {
        match ffi::lua_type(thread, -2) {
            ffi::LUA_TSTRING => {
                append_string(&mut Core::of(thread).text, bytes_at(thread, -2).unwrap_or_default());
                Core::of(thread).text.push(b':');
            }
            ffi::LUA_TNUMBER => {
                Core::of(thread).text.push(b'"');
                append_number(thread, ffi::lua_tonumber(thread, -2), options);
                Core::of(thread).text.extend_from_slice(b"\":");
            }
            kind => refuse(thread, kind, "table key must be a number or string"),
        }
    }
}

/// # Safety
/// Called by Lua.
unsafe fn append_number(thread: Thread, number: f64, options: Options) {
    // SAFETY: called by Lua; the buffer is longer than any number of so few digits.
    unsafe {
        if !number.is_finite() {
            match options.encode_invalid {
                0 => refuse(thread, ffi::LUA_TNUMBER, "must not be NaN or Inf"),
                1 => {}
                _ => return Core::of(thread).text.extend_from_slice(b"null"),
            }
        }
        let out = &mut Core::of(thread).text;
        if number.is_nan() {
            return out.extend_from_slice(b"nan");
        }
        // Whole numbers of no more than fourteen digits are printed as they are.
        let is_short =
            options.precision == PRECISION_MAX && number.abs() < 1e14 && number.to_bits() != (-0.0f64).to_bits();
        if is_short && number as i64 as f64 == number {
            return out.extend_from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
        }
        let mut text = [0u8; 32];
        let length = libc::snprintf(
            text.as_mut_ptr().cast(),
            text.len(),
            c"%.*g".as_ptr(),
            options.precision,
            number,
        );
        out.extend_from_slice(&text[..usize::try_from(length).unwrap_or_default().min(text.len())]);
    }
}

fn append_string(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut from = 0;
    for (at, &byte) in text.iter().enumerate() {
        let escape = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'/' => b'/',
            8 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            12 => b'f',
            b'\r' => b'r',
            0..=31 | 127 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text[from..at]);
        from = at + 1;
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
            out.extend_from_slice(&[b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out.extend_from_slice(&text[from..]);
    out.push(b'"');
}

/// Raises that a value has no JSON.
///
/// # Safety
/// Called by Lua.
unsafe fn refuse(thread: Thread, kind: c_int, reason: &str) -> ! {
    // SAFETY: a type's name is a constant of Lua.
    unsafe {
        let name = std::ffi::CStr::from_ptr(ffi::lua_typename(thread, kind));
        let text = &mut Core::of(thread).text;
        text.clear();
        text.extend_from_slice(b"Cannot serialise ");
        text.extend_from_slice(name.to_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(reason.as_bytes());
        raise_text_here(thread)
    }
}
