//! The library `cjson`: JSON as Lua CJSON 2.1.0 reads and writes it (<https://kyne.au/~mark/software/lua-cjson-manual.html>).
//!
//! Its options belong to an instance of the library (`cjson.new`) and stay as a script has set them. They lie in a block of Lua's own that the instance's
//! functions share.
//!
//! | option | at first | means |
//! |---|---|---|
//! | `encode_sparse_array(convert, ratio, safe)` | off, 2, 10 | an array of more than `safe` places, fewer than one in `ratio` of them taken, is an error, or with `convert` an object |
//! | `encode_max_depth`, `decode_max_depth` | 1000 | levels of arrays and objects |
//! | `encode_number_precision` | 14 | significant digits |
//! | `encode_invalid_numbers` | off | NaN and infinity: an error, as they are, or `null` |
//! | `decode_invalid_numbers` | on | numbers that JSON has not: hexadecimal ones, NaN, infinity |
//! | `encode_keep_buffer` | on | without effect: the buffer is the interpreter's |

use std::ffi::{CStr, c_char, c_int};

use mlua_sys as ffi;

use super::lua::{Function, Thread, raise_argument};
use super::sandbox::set_texts;

mod decode;
mod encode;

/// The options of an instance.
#[derive(Clone, Copy, Debug)]
struct Options {
    sparse_is_converted: c_int,
    sparse_ratio: c_int,
    sparse_safe: c_int,
    encode_depth_max: c_int,
    decode_depth_max: c_int,
    encode_invalid: c_int,
    decode_invalid: c_int,
    is_buffer_kept: c_int,
    precision: c_int,
}

const DEFAULTS: Options = Options {
    sparse_is_converted: 0,
    sparse_ratio: 2,
    sparse_safe: 10,
    encode_depth_max: 1000,
    decode_depth_max: 1000,
    encode_invalid: 0,
    decode_invalid: 1,
    is_buffer_kept: 1,
    precision: PRECISION_MAX,
};

const PRECISION_MAX: c_int = 14;

const FUNCTIONS: &[(&CStr, Function)] = &[
    (c"encode", encode::encode),
    (c"decode", decode::decode),
    (c"encode_sparse_array", encode_sparse_array),
    (c"encode_max_depth", encode_max_depth),
    (c"decode_max_depth", decode_max_depth),
    (c"encode_number_precision", encode_number_precision),
    (c"encode_keep_buffer", encode_keep_buffer),
    (c"encode_invalid_numbers", encode_invalid_numbers),
    (c"decode_invalid_numbers", decode_invalid_numbers),
    (c"new", new),
];

/// Pushes an instance of the library.
///
/// # Safety
/// May raise.
pub(super) unsafe fn push(thread: Thread) {
    // SAFETY: the block has room for the options, which need no more alignment than Lua's numbers.
    unsafe {
        ffi::lua_createtable(thread, 0, 16);
        let options = ffi::lua_newuserdata(thread, size_of::<Options>()).cast::<Options>();
        options.write(DEFAULTS);
        for &(name, function) in FUNCTIONS {
            ffi::lua_pushvalue(thread, -1);
            ffi::lua_pushcclosure(thread, function, 1);
            ffi::lua_setfield(thread, -3, name.as_ptr());
        }
        ffi::lua_pop(thread, 1);
        ffi::lua_pushlightuserdata(thread, std::ptr::null_mut());
        ffi::lua_setfield(thread, -2, c"null".as_ptr());
        set_texts(thread, &[(c"_NAME", "cjson"), (c"_VERSION", "2.1.0")]);
    }
}

/// The options of the function that runs.
///
/// # Safety
/// Called by Lua, as a function of an instance.
unsafe fn options<'a>(thread: Thread) -> &'a mut Options {
    // SAFETY: the function's upvalue is the block that `push` has filled; nobody else holds a reference while the function runs.
    unsafe { &mut *ffi::lua_touserdata(thread, ffi::lua_upvalueindex(1)).cast::<Options>() }
}

unsafe extern "C-unwind" fn new(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { push(thread) };
    1
}

/// Raises if there are more arguments; those that are missing become nil.
///
/// # Safety
/// Called by Lua.
unsafe fn take(thread: Thread, count: c_int) {
    // SAFETY: called by Lua.
    unsafe {
        if ffi::lua_gettop(thread) > count {
            raise_argument(thread, count + 1, c"found too many arguments");
        }
        ffi::lua_settop(thread, count);
    }
}

/// Sets an option to the argument, unless it is nil, and pushes it.
///
/// # Safety
/// Called by Lua.
unsafe fn integer(thread: Thread, index: c_int, option: &mut c_int, min: c_int, max: c_int) {
    // SAFETY: called by Lua.
    unsafe {
        if ffi::lua_type(thread, index) != ffi::LUA_TNIL {
            let value = ffi::luaL_checkinteger(thread, index);
            if value < min as isize as ffi::lua_Integer || value > max as isize as ffi::lua_Integer {
                let text = ffi::lua_pushfstring(thread, c"expected integer between %d and %d".as_ptr(), min, max);
                ffi::luaL_argerror(thread, 1, text);
            }
            *option = value as c_int;
        }
        ffi::lua_pushnumber(thread, f64::from(*option));
    }
}

/// The names of what a choice can be, ended by a null pointer.
struct Choices<const N: usize>([*const c_char; N]);

// SAFETY: the names are constants.
unsafe impl<const N: usize> Sync for Choices<N> {}

static SWITCH: Choices<3> = Choices([c"off".as_ptr(), c"on".as_ptr(), std::ptr::null()]);
static INVALID: Choices<4> = Choices([c"off".as_ptr(), c"on".as_ptr(), c"null".as_ptr(), std::ptr::null()]);

/// As [`integer`], for a choice; off and on are booleans, too.
///
/// # Safety
/// Called by Lua.
unsafe fn choice<const N: usize>(thread: Thread, index: c_int, option: &mut c_int, choices: &Choices<N>) {
    // SAFETY: called by Lua.
    unsafe {
        match ffi::lua_type(thread, index) {
            ffi::LUA_TNIL => {}
            ffi::LUA_TBOOLEAN => *option = ffi::lua_toboolean(thread, index),
            _ => *option = ffi::luaL_checkoption(thread, index, std::ptr::null(), choices.0.as_ptr()),
        }
        match *option {
            0 | 1 => ffi::lua_pushboolean(thread, *option),
            other => ffi::lua_pushstring_(thread, choices.0[other as usize]),
        }
    }
}

unsafe extern "C-unwind" fn encode_sparse_array(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        take(thread, 3);
        let options = options(thread);
        choice(thread, 1, &mut options.sparse_is_converted, &SWITCH);
        integer(thread, 2, &mut options.sparse_ratio, 0, c_int::MAX);
        integer(thread, 3, &mut options.sparse_safe, 0, c_int::MAX);
        3
    }
}

unsafe extern "C-unwind" fn encode_max_depth(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        take(thread, 1);
        integer(thread, 1, &mut options(thread).encode_depth_max, 1, c_int::MAX);
        1
    }
}

unsafe extern "C-unwind" fn decode_max_depth(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        take(thread, 1);
        integer(thread, 1, &mut options(thread).decode_depth_max, 1, c_int::MAX);
        1
    }
}

unsafe extern "C-unwind" fn encode_number_precision(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        take(thread, 1);
        integer(thread, 1, &mut options(thread).precision, 1, PRECISION_MAX);
        1
    }
}

unsafe extern "C-unwind" fn encode_keep_buffer(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        take(thread, 1);
        choice(thread, 1, &mut options(thread).is_buffer_kept, &SWITCH);
        1
    }
}

unsafe extern "C-unwind" fn encode_invalid_numbers(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        take(thread, 1);
        choice(thread, 1, &mut options(thread).encode_invalid, &INVALID);
        1
    }
}

unsafe extern "C-unwind" fn decode_invalid_numbers(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        take(thread, 1);
        choice(thread, 1, &mut options(thread).decode_invalid, &SWITCH);
        1
    }
}
