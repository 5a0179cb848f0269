//! `redis.register_function`: what the code of a library does while it is loaded.
//!
//! The functions it registers are collected in a [`Registration`] and become callable only when the whole code has run without an error, so that a library
//! that fails leaves the one that it would have replaced as it was.

use std::ffi::c_int;

use mlua_sys as ffi;

use super::header::{ScriptFlags, is_name};
use super::lua::{Core, Thread, bytes_at, check_bytes, push_error};
use crate::resp::{ReplyError, error};

/// A library as it has described itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    pub name: Vec<u8>,
    /// In the order in which they were registered.
    pub functions: Vec<LibraryFunction>,
}

/// What FUNCTION LIST shows of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryFunction {
    pub name: Vec<u8>,
    pub description: Option<Vec<u8>>,
    pub flags: ScriptFlags,
}

/// The functions of a library under way, each with its place in the registry.
#[derive(Default)]
pub(super) struct Registration {
    pub(super) functions: Vec<(LibraryFunction, c_int)>,
}

/// A function's name is a library's in this text, as in Redis.
const NAME_INVALID: &str = match error::LIBRARY_NAME_INVALID {
    ReplyError::Static(text) => text.split_at("ERR ".len()).1,
    ReplyError::Owned(_) => "",
};

/// Where `register_function` keeps what it is given, on its stack.
const NAME: c_int = 1;
const CALLBACK: c_int = 2;
const FLAGS: c_int = 3;
const DESCRIPTION: c_int = 4;
const NAMED: c_int = 5;

pub(super) unsafe extern "C-unwind" fn register_function(thread: Thread) -> c_int {
    // SAFETY: called by Lua. Where this raises nothing that must be dropped is alive: texts are copied into the core when nothing can raise any more.
    unsafe {
        let taken = match ffi::lua_gettop(thread) {
            _ if Core::of(thread).registration.is_none() => {
                Err("redis.register_function can only be called on FUNCTION LOAD command")
            }
            1 => take_named(thread),
            2 => take_positional(thread),
            _ => Err("wrong number of arguments to redis.register_function"),
        };
        let flags = taken.and_then(|()| take_flags(thread)).and_then(|flags| {
            check(thread)?;
            Ok(flags)
        });
        match flags {
            Ok(flags) => {
                ffi::lua_pushvalue(thread, CALLBACK);
                let reference = ffi::luaL_ref(thread, ffi::LUA_REGISTRYINDEX);
                if let Some(registration) = &mut Core::of(thread).registration {
                    let function = LibraryFunction {
                        name: bytes_at(thread, NAME).unwrap_or_default().to_vec(),
                        description: bytes_at(thread, DESCRIPTION).map(<[u8]>::to_vec),
                        flags,
                    };
                    registration.functions.push((function, reference));
                }
                0
            }
            Err(text) => {
                push_error(thread, text);
                ffi::lua_error(thread)
            }
        }
    }
}

/// # Safety
/// As [`register_function`].
unsafe fn take_positional(thread: Thread) -> Result<(), &'static str> {
    // SAFETY: as the caller promises.
    unsafe {
        if ffi::lua_isstring(thread, NAME) == 0 {
            return Err("first argument to redis.register_function must be a string");
        }
        if ffi::lua_type(thread, CALLBACK) != ffi::LUA_TFUNCTION {
            return Err("second argument to redis.register_function must be a function");
        }
        ffi::lua_settop(thread, DESCRIPTION);
        Ok(())
    }
}

/// # Safety
/// As [`register_function`].
unsafe fn take_named(thread: Thread) -> Result<(), &'static str> {
    // SAFETY: as the caller promises; the walk leaves the table as it is.
    unsafe {
        if ffi::lua_type(thread, 1) != ffi::LUA_TTABLE {
            return Err(
                "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
            );
        }
        ffi::lua_settop(thread, NAMED);
        ffi::lua_pushvalue(thread, 1);
        ffi::lua_replace(thread, NAMED);
        ffi::lua_pushnil(thread);
        ffi::lua_replace(thread, NAME);
        ffi::lua_pushnil(thread);
        while ffi::lua_next(thread, NAMED) != 0 {
            // A number would pass for a string, but for none that is known.
            let key = match ffi::lua_isstring(thread, -2) {
                0 => return Err("named argument key given to redis.register_function is not a string"),
                _ => bytes_at(thread, -2).unwrap_or_default(),
            };
            let kind = match ffi::lua_isstring(thread, -1) {
                0 => ffi::lua_type(thread, -1),
                _ => ffi::LUA_TSTRING,
            };
            let (place, wanted, refusal) = if key.eq_ignore_ascii_case(b"function_name") {
                (
                    NAME,
                    ffi::LUA_TSTRING,
                    "function_name argument given to redis.register_function must be a string",
                )
            } else if key.eq_ignore_ascii_case(b"description") {
                (
                    DESCRIPTION,
                    ffi::LUA_TSTRING,
                    "description argument given to redis.register_function must be a string",
                )
            } else if key.eq_ignore_ascii_case(b"callback") {
                (
                    CALLBACK,
                    ffi::LUA_TFUNCTION,
                    "callback argument given to redis.register_function must be a function",
                )
            } else if key.eq_ignore_ascii_case(b"flags") {
                (
                    FLAGS,
                    ffi::LUA_TTABLE,
                    "flags argument to redis.register_function must be a table representing function flags",
                )
            } else {
                return Err("unknown argument given to redis.register_function");
            };
            if kind != wanted {
                return Err(refusal);
            }
            ffi::lua_replace(thread, place);
        }
        if ffi::lua_isstring(thread, NAME) == 0 {
            return Err("redis.register_function must get a function name argument");
        }
        if ffi::lua_type(thread, CALLBACK) != ffi::LUA_TFUNCTION {
            return Err("redis.register_function must get a callback argument");
        }
        Ok(())
    }
}

/// # Safety
/// As [`register_function`].
unsafe fn take_flags(thread: Thread) -> Result<ScriptFlags, &'static str> {
    let mut flags = ScriptFlags::default();
    // SAFETY: as the caller promises.
    unsafe {
        if ffi::lua_type(thread, FLAGS) != ffi::LUA_TTABLE {
            return Ok(flags);
        }
        for index in 1.. {
            ffi::lua_rawgeti_(thread, FLAGS, index);
            if ffi::lua_type(thread, -1) == ffi::LUA_TNIL {
                break;
            }
            let is_known = bytes_at(thread, -1).is_some_and(|name| flags.set(name));
            ffi::lua_pop(thread, 1);
            if !is_known {
                return Err("unknown flag given");
            }
        }
    }
    Ok(flags)
}

/// # Safety
/// As [`register_function`].
unsafe fn check(thread: Thread) -> Result<(), &'static str> {
    // SAFETY: the name stays on the stack, and becomes a string there if it is a number; so does the description.
    let name = unsafe {
        if ffi::lua_isstring(thread, DESCRIPTION) != 0 {
            check_bytes(thread, DESCRIPTION);
        }
        check_bytes(thread, NAME)
    };
    if !is_name(name) {
        return Err(NAME_INVALID);
    }
    // SAFETY: the reference ends here.
    let Some(registration) = (unsafe { &Core::of(thread).registration }) else {
        return Ok(());
    };
    if registration.functions.iter().any(|(function, _)| function.name == name) {
        return Err("Function already exists in the library");
    }
    Ok(())
}
