//! The globals that scripts find, and nothing else.
//!
//! Lua's libraries are opened whole, and what scripts may have is taken out of them, by name; what Lua gains later stays outside. Tables that belong to all scripts
//! (the globals, the libraries) are read-only: a script sees a *proxy*, an empty table whose metatable reads from the real one and refuses to
//! write.
//!
//! ```text
//! chunk's globals = proxy {} --__index--> real { pairs, string = proxy {} --__index--> real { format, ... }, KEYS, ... }
//!                                          `--__index--> raises "Script attempted to access nonexistent global variable"
//! ```
//!
//! While the code of a library is loaded, the globals' proxy reads from another table, in which there is only a `redis` to register functions with.

use std::ffi::{CStr, c_int};

use mlua_sys as ffi;

use super::basics::{self, READ_ONLY, REPLACED};
use super::calls;
use super::library::register_function;
use super::lua::{Core, Function, Proxy, Thread, check_bytes, push_bytes, raise_here, raise_text_here};
use super::{bit, cjson, cmsgpack, structs};
use crate::config::REDIS_VERSION;

/// Places of the globals in the registry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Globals {
    /// The real table, into which KEYS and ARGV are put.
    pub(super) real: c_int,
    /// The metatable of the proxy.
    metatable: c_int,
    /// What a library sees while it is loaded.
    loading: c_int,
}

/// Whether an interpreter runs scripts, or functions of libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Scripts,
    Functions,
}

/// What stays of Lua's own globals.
const ALLOWED: &[&CStr] = &[
    c"assert",
    c"collectgarbage",
    c"coroutine",
    c"error",
    c"gcinfo",
    c"getmetatable",
    c"ipairs",
    c"load",
    c"loadstring",
    c"math",
    c"next",
    c"pairs",
    c"pcall",
    c"rawequal",
    c"rawget",
    c"rawset",
    c"select",
    c"setmetatable",
    c"string",
    c"table",
    c"tonumber",
    c"tostring",
    c"type",
    c"unpack",
    c"xpcall",
    c"_VERSION",
];

/// The tables among the globals that are read-only.
const LIBRARIES: &[&CStr] = &[
    c"string",
    c"table",
    c"math",
    c"coroutine",
    c"os",
    c"bit",
    c"cjson",
    c"cmsgpack",
    c"struct",
    c"redis",
];

/// Makes the globals of a new interpreter.
///
/// # Safety
/// In a protected call of a new interpreter.
pub(super) unsafe fn set_up(thread: Thread, purpose: Purpose) -> Globals {
    // SAFETY: as the caller promises; references hold what must stay.
    unsafe {
        for open in [
            ffi::luaopen_base as Function,
            ffi::luaopen_table,
            ffi::luaopen_string,
            ffi::luaopen_math,
            ffi::luaopen_os,
        ] {
            ffi::lua_pushcclosure(thread, open, 0);
            ffi::lua_call(thread, 0, 0);
        }
        ffi::lua_createtable(thread, 0, 64);
        let real = ffi::lua_gettop(thread);
        for name in ALLOWED {
            ffi::lua_getfield_(thread, ffi::LUA_GLOBALSINDEX, name.as_ptr());
            ffi::lua_setfield(thread, real, name.as_ptr());
        }
        ffi::lua_getfield_(thread, ffi::LUA_GLOBALSINDEX, c"os".as_ptr());
        ffi::lua_createtable(thread, 0, 1);
        ffi::lua_getfield_(thread, -2, c"clock".as_ptr());
        ffi::lua_setfield(thread, -2, c"clock".as_ptr());
        ffi::lua_setfield(thread, real, c"os".as_ptr());
        ffi::lua_pop(thread, 1);

        replace(thread, real);
        for (name, push) in [
            (c"bit", bit::push as unsafe fn(Thread)),
            (c"cjson", cjson::push),
            (c"cmsgpack", cmsgpack::push),
            (c"struct", structs::push),
        ] {
            push(thread);
            ffi::lua_setfield(thread, real, name.as_ptr());
        }
        push_redis(thread, purpose);
        ffi::lua_setfield(thread, real, c"redis".as_ptr());

        for name in LIBRARIES {
            ffi::lua_getfield_(thread, real, name.as_ptr());
            protect(thread, None);
            ffi::lua_setfield(thread, real, name.as_ptr());
        }
        show_string_metatable(thread, real);

        // The globals themselves.
        push_nonexistent(thread);
        ffi::lua_pushvalue(thread, -1);
        ffi::lua_setmetatable(thread, real);
        protect(thread, None);
        let shown = ffi::luaL_ref(thread, ffi::LUA_REGISTRYINDEX);
        ffi::lua_pushvalue(thread, real);
        protect(thread, Some(shown));
        ffi::lua_pushvalue(thread, -1);
        ffi::lua_setfield(thread, real, c"_G".as_ptr());
        ffi::lua_getmetatable(thread, -1);
        let metatable = ffi::luaL_ref(thread, ffi::LUA_REGISTRYINDEX);
        ffi::lua_replace(thread, ffi::LUA_GLOBALSINDEX);

        push_loading(thread);
        let loading = ffi::luaL_ref(thread, ffi::LUA_REGISTRYINDEX);
        ffi::lua_pushvalue(thread, real);
        Globals {
            real: ffi::luaL_ref(thread, ffi::LUA_REGISTRYINDEX),
            metatable,
            loading,
        }
    }
}

/// Has the globals read from what a library sees while it is loaded, or from what scripts and functions see.
///
/// # Safety
/// May raise.
pub(super) unsafe fn read_from(thread: Thread, globals: Globals, is_loading: bool) {
    // SAFETY: the references name tables of the registry.
    unsafe {
        ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, globals.metatable);
        let from = if is_loading { globals.loading } else { globals.real };
        ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, from);
        ffi::lua_setfield(thread, -2, c"__index".as_ptr());
        ffi::lua_pop(thread, 1);
    }
}

/// Puts our functions in the place of Lua's.
///
/// # Safety
/// As [`set_up`].
unsafe fn replace(thread: Thread, real: c_int) {
    // SAFETY: as the caller promises.
    unsafe {
        for &(library, name, function, behind) in REPLACED {
            match library {
                Some(library) => ffi::lua_getfield_(thread, real, library.as_ptr()),
                None => ffi::lua_pushvalue(thread, real),
            }
            if let Some(behind) = behind {
                ffi::lua_getfield_(thread, -1, name.as_ptr());
                Core::of(thread).behind[behind as usize] = ffi::lua_tocfunction(thread, -1);
                ffi::lua_pop(thread, 1);
            }
            if name == c"next" {
                // `pairs` knows Lua's own, and ours.
                ffi::lua_getfield_(thread, -1, name.as_ptr());
                ffi::lua_pushcclosure(thread, basics::next, 0);
                ffi::lua_pushcclosure(thread, basics::pairs, 2);
                ffi::lua_setfield(thread, -2, c"pairs".as_ptr());
            }
            ffi::lua_pushcclosure(thread, function, 0);
            ffi::lua_setfield(thread, -2, name.as_ptr());
            ffi::lua_pop(thread, 1);
        }
    }
}

/// Replaces the table on top by a proxy of it.
///
/// # Safety
/// As [`set_up`].
unsafe fn protect(thread: Thread, metatable: Option<c_int>) {
    // SAFETY: as the caller promises; a proxy lives as long as the interpreter, so its address stays its own.
    unsafe {
        ffi::lua_createtable(thread, 0, 0);
        ffi::lua_createtable(thread, 0, 2);
        ffi::lua_pushvalue(thread, -3);
        ffi::lua_setfield(thread, -2, c"__index".as_ptr());
        ffi::lua_pushcclosure(thread, refuse_write, 0);
        ffi::lua_setfield(thread, -2, c"__newindex".as_ptr());
        ffi::lua_setmetatable(thread, -2);
        ffi::lua_insert(thread, -2);
        let reference = ffi::luaL_ref(thread, ffi::LUA_REGISTRYINDEX);
        ffi::lua_pushvalue(thread, -1);
        ffi::luaL_ref(thread, ffi::LUA_REGISTRYINDEX);
        let address = ffi::lua_topointer(thread, -1) as usize;
        Core::of(thread).proxies.push(Proxy {
            address,
            reference,
            metatable,
        });
    }
}

/// What `getmetatable("")` answers: a read-only image. Lua itself goes on to use the real one.
///
/// # Safety
/// As [`set_up`].
unsafe fn show_string_metatable(thread: Thread, real: c_int) {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_createtable(thread, 0, 1);
        ffi::lua_getfield_(thread, real, c"string".as_ptr());
        ffi::lua_setfield(thread, -2, c"__index".as_ptr());
        protect(thread, None);
        let reference = ffi::luaL_ref(thread, ffi::LUA_REGISTRYINDEX);
        Core::of(thread).string_metatable = reference;
    }
}

/// Pushes a metatable that refuses to read what is not there.
///
/// # Safety
/// As [`set_up`].
unsafe fn push_nonexistent(thread: Thread) {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_createtable(thread, 0, 1);
        ffi::lua_pushcclosure(thread, refuse_read, 0);
        ffi::lua_setfield(thread, -2, c"__index".as_ptr());
    }
}

/// Pushes the table `redis`.
///
/// # Safety
/// As [`set_up`].
unsafe fn push_redis(thread: Thread, purpose: Purpose) {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_createtable(thread, 0, 32);
        set_functions(thread, calls::FUNCTIONS);
        if purpose == Purpose::Scripts {
            set_functions(thread, calls::SCRIPT_FUNCTIONS);
        }
        set_numbers(thread, calls::LOG_LEVELS);
        set_numbers(thread, calls::REPLICATION);
        set_version(thread);
    }
}

/// Pushes what a library sees while it is loaded.
///
/// # Safety
/// As [`set_up`].
unsafe fn push_loading(thread: Thread) {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_createtable(thread, 0, 1);
        ffi::lua_createtable(thread, 0, 8);
        set_functions(thread, &[(c"register_function", register_function)]);
        for &(name, function) in calls::FUNCTIONS.iter().filter(|(name, _)| *name == c"log") {
            set_functions(thread, &[(name, function)]);
        }
        set_numbers(thread, calls::LOG_LEVELS);
        set_version(thread);
        push_nonexistent(thread);
        ffi::lua_setmetatable(thread, -2);
        protect(thread, None);
        ffi::lua_setfield(thread, -2, c"redis".as_ptr());
        push_nonexistent(thread);
        ffi::lua_setmetatable(thread, -2);
    }
}

/// Sets functions in the table on top.
///
/// # Safety
/// As [`set_up`].
pub(super) unsafe fn set_functions(thread: Thread, functions: &[(&CStr, Function)]) {
    // SAFETY: as the caller promises.
    unsafe {
        for &(name, function) in functions {
            ffi::lua_pushcclosure(thread, function, 0);
            ffi::lua_setfield(thread, -2, name.as_ptr());
        }
    }
}

/// # Safety
/// As [`set_functions`].
unsafe fn set_numbers(thread: Thread, numbers: &[(&CStr, c_int)]) {
    // SAFETY: as the caller promises.
    unsafe {
        for &(name, number) in numbers {
            ffi::lua_pushnumber(thread, f64::from(number));
            ffi::lua_setfield(thread, -2, name.as_ptr());
        }
    }
}

/// Sets texts in the table on top.
///
/// # Safety
/// As [`set_functions`].
pub(super) unsafe fn set_texts(thread: Thread, texts: &[(&CStr, &str)]) {
    // SAFETY: as the caller promises.
    unsafe {
        for &(name, text) in texts {
            push_bytes(thread, text.as_bytes());
            ffi::lua_setfield(thread, -2, name.as_ptr());
        }
    }
}

/// # Safety
/// As [`set_functions`].
unsafe fn set_version(thread: Thread) {
    // SAFETY: as the caller promises.
    unsafe {
        set_texts(thread, &[(c"REDIS_VERSION", REDIS_VERSION)]);
        set_numbers(thread, &[(c"REDIS_VERSION_NUM", calls::version_number())]);
    }
}

unsafe extern "C-unwind" fn refuse_write(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { raise_here(thread, READ_ONLY) }
}

unsafe extern "C-unwind" fn refuse_read(thread: Thread) -> c_int {
    // SAFETY: called by Lua with the table and the key.
    unsafe {
        if ffi::lua_isstring(thread, 2) == 0 {
            raise_here(
                thread,
                b"Second argument to luaProtectedTableError must be a string or number",
            );
        }
        let name = check_bytes(thread, 2);
        let text = &mut Core::of(thread).text;
        text.clear();
        text.extend_from_slice(b"Script attempted to access nonexistent global variable '");
        text.extend_from_slice(name);
        text.push(b'\'');
        raise_text_here(thread)
    }
}
