//! The table `redis`: what a script asks of the server.
//!
//! `redis.call` is the hottest function of all. It takes the arguments where they lie on Lua's stack, has the host run the command, and makes values
//! of the reply; its buffers are the core's and keep their memory from call to call, so that a call allocates nothing but what the script gets.

use std::ffi::{CStr, c_int};

use mlua_sys as ffi;
use sha1::{Digest, Sha1};

use super::host::{LogLevel, Replication};
use super::lua::{Core, Function, Piece, Thread, bytes_at, push_bytes, push_error, push_error_of_text, refuse};
use super::values::{push_field, push_reply};
use crate::base::numbers::format_f64;
use crate::config::REDIS_VERSION;
use crate::resp::{Proto, error};

/// What scripts, and the functions of libraries, find in `redis`.
pub(super) const FUNCTIONS: &[(&CStr, Function)] = &[
    (c"call", call),
    (c"pcall", pcall),
    (c"log", log),
    (c"setresp", setresp),
    (c"error_reply", error_reply),
    (c"status_reply", status_reply),
    (c"sha1hex", sha1hex),
    (c"set_repl", set_repl),
    (c"acl_check_cmd", acl_check_cmd),
];

/// What only scripts find there.
pub(super) const SCRIPT_FUNCTIONS: &[(&CStr, Function)] = &[
    (c"replicate_commands", replicate_commands),
    (c"breakpoint", breakpoint),
    (c"debug", debug),
];

/// The constants that a library finds while it is loaded, too.
pub(super) const LOG_LEVELS: &[(&CStr, c_int)] = &[
    (c"LOG_DEBUG", 0),
    (c"LOG_VERBOSE", 1),
    (c"LOG_NOTICE", 2),
    (c"LOG_WARNING", 3),
];

pub(super) const REPLICATION: &[(&CStr, c_int)] = &[
    (c"REPL_NONE", 0),
    (c"REPL_AOF", TO_AOF),
    (c"REPL_SLAVE", TO_REPLICAS),
    (c"REPL_REPLICA", TO_REPLICAS),
    (c"REPL_ALL", TO_AOF | TO_REPLICAS),
];

const TO_AOF: c_int = 1;
const TO_REPLICAS: c_int = 2;

/// `redis.REDIS_VERSION_NUM`: a byte for each part of the version.
pub(super) fn version_number() -> c_int {
    let parts = REDIS_VERSION
        .split('.')
        .map(|part| part.parse::<c_int>().unwrap_or_default());
    parts.fold(0, |number, part| number << 8 | part)
}

unsafe extern "C-unwind" fn call(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { run_command(thread, true) }
}

unsafe extern "C-unwind" fn pcall(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { run_command(thread, false) }
}

/// # Safety
/// Called by Lua, the arguments on the stack.
unsafe fn run_command(thread: Thread, raises: bool) -> c_int {
    // SAFETY: where this raises, the core's buffers alone are alive. Strings on the stack do not move while the host runs, and the host knows no Lua.
    unsafe {
        if !take_args(thread) {
            return return_error(thread, raises);
        }
        let core = Core::of(thread);
        let mut reply = std::mem::take(&mut core.reply);
        reply.clear();
        let outcome = with_args(thread, |core, args| {
            let protocol = core.protocol;
            match core.host() {
                Some(host) => host.call(args, protocol, &mut reply),
                None => Err(super::Refusal::Error(error::CALL_WITHOUT_SCRIPT)),
            }
        });
        let core = Core::of(thread);
        core.reply = reply;
        if let Err(refusal) = outcome {
            refuse(thread, refusal);
            mark_counted(thread);
            return return_error(thread, raises);
        }
        let text: *const [u8] = match core.reply.as_single() {
            Some(text) => text,
            None => {
                core.flat.clear();
                for segment in core.reply.segments() {
                    core.flat.extend_from_slice(segment);
                }
                core.flat.as_slice()
            }
        };
        match push_reply(thread, &*text) {
            true => 1,
            false => return_error(thread, raises),
        }
    }
}

/// A refusal is counted by the engine as the command's failure: see [`Host::call`](super::Host::call).
///
/// # Safety
/// The error's table is on top. May raise.
unsafe fn mark_counted(thread: Thread) {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_pushboolean(thread, 1);
        ffi::lua_setfield(thread, -2, super::lua::IS_COUNTED.as_ptr());
    }
}

/// Raises the error on top, or returns it.
///
/// # Safety
/// Nothing that must be dropped is alive.
unsafe fn return_error(thread: Thread, raises: bool) -> c_int {
    if raises {
        // SAFETY: as the caller promises.
        unsafe { ffi::lua_error(thread) }
    }
    1
}

/// Takes the arguments of a call from the stack into the core; false: an error has been pushed.
///
/// # Safety
/// As [`run_command`].
unsafe fn take_args(thread: Thread) -> bool {
    // SAFETY: nothing here can raise but the pushing of the error, which comes last.
    unsafe {
        let count = ffi::lua_gettop(thread);
        if count == 0 {
            push_error(thread, "Please specify at least one argument for this redis lib call");
            return false;
        }
        let core = Core::of(thread);
        core.args.clear();
        core.digits.clear();
        for index in 1..=count {
            if let Some(text) = bytes_at(thread, index) {
                core.args.push(Piece::Text(text.as_ptr(), text.len()));
            } else if ffi::lua_type(thread, index) == ffi::LUA_TNUMBER {
                let from = core.digits.len();
                let number = ffi::lua_tonumber(thread, index);
                if number.is_nan() && number.is_sign_negative() {
                    core.digits.push(b'-');
                }
                core.digits.extend_from_slice(&format_f64(number));
                core.args.push(Piece::Digits(from, core.digits.len()));
            } else {
                push_error(thread, "Lua redis lib command arguments must be strings or integers");
                return false;
            }
        }
        true
    }
}

/// Arguments of a call up to so many are handed over without an allocation.
const INLINE_ARGS: usize = 16;

/// Hands out the arguments that `take_args` has taken. `run` calls no Lua.
///
/// # Safety
/// They are still on the stack.
unsafe fn with_args<R>(thread: Thread, run: impl FnOnce(&mut Core, &[&[u8]]) -> R) -> R {
    // SAFETY: strings on the stack do not move, and the digits are written by `take_args` only, which the host cannot call.
    unsafe {
        let core = Core::of(thread);
        let digits: *const u8 = core.digits.as_ptr();
        let resolve = |piece: &Piece| -> &'static [u8] {
            match *piece {
                Piece::Text(start, length) => std::slice::from_raw_parts(start, length),
                Piece::Digits(from, to) => std::slice::from_raw_parts(digits.add(from), to - from),
            }
        };
        if core.args.len() <= INLINE_ARGS {
            let mut args: [&[u8]; INLINE_ARGS] = [&[]; INLINE_ARGS];
            let count = core.args.len();
            for (slot, piece) in args.iter_mut().zip(&core.args) {
                *slot = resolve(piece);
            }
            run(core, &args[..count])
        } else {
            let args: Vec<&[u8]> = core.args.iter().map(resolve).collect();
            run(core, &args)
        }
    }
}

unsafe extern "C-unwind" fn log(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the text is the core's.
    unsafe {
        let count = ffi::lua_gettop(thread);
        if count < 2 {
            push_error(thread, "redis.log() requires two arguments or more.");
            return return_error(thread, true);
        }
        if ffi::lua_isnumber(thread, 1) == 0 {
            push_error(thread, "First argument must be a number (log level).");
            return return_error(thread, true);
        }
        let level = match integer_at(thread, 1) {
            0 => LogLevel::Debug,
            1 => LogLevel::Verbose,
            2 => LogLevel::Notice,
            3 => LogLevel::Warning,
            _ => {
                push_error(thread, "Invalid log level.");
                return return_error(thread, true);
            }
        };
        Core::of(thread).text.clear();
        for index in 2..=count {
            let mut length = 0;
            let start = ffi::lua_tolstring(thread, index, &mut length);
            if start.is_null() {
                continue;
            }
            let text = &mut Core::of(thread).text;
            if index > 2 {
                text.push(b' ');
            }
            text.extend_from_slice(std::slice::from_raw_parts(start.cast(), length));
        }
        let core = Core::of(thread);
        let text = std::mem::take(&mut core.text);
        if let Some(host) = core.host() {
            host.log(level, &text);
        }
        core.text = text;
        0
    }
}

/// A number as C's `int`: what does not fit is the smallest one.
///
/// # Safety
/// Called by Lua.
unsafe fn integer_at(thread: Thread, index: c_int) -> c_int {
    // SAFETY: as the caller promises.
    let number = unsafe { ffi::lua_tonumber(thread, index) };
    match number.trunc() {
        whole if (f64::from(c_int::MIN)..=f64::from(c_int::MAX)).contains(&whole) => whole as c_int,
        _ => c_int::MIN,
    }
}

unsafe extern "C-unwind" fn setresp(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        if ffi::lua_gettop(thread) != 1 {
            push_error(thread, "redis.setresp() requires one argument.");
            return return_error(thread, true);
        }
        let version = integer_at(thread, 1);
        Core::of(thread).protocol = match version {
            2 => Proto::Resp2,
            3 => Proto::Resp3,
            _ => {
                push_error(thread, "RESP version must be 2 or 3.");
                return return_error(thread, true);
            }
        };
        0
    }
}

unsafe extern "C-unwind" fn error_reply(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the core's text is whole before anything is pushed.
    unsafe {
        let argument = (ffi::lua_gettop(thread) == 1).then(|| bytes_at(thread, 1)).flatten();
        let Some(given) = argument else {
            push_error(thread, "wrong number or type of arguments");
            return 1;
        };
        let given = &given[..memchr::memchr(0, given).unwrap_or(given.len())];
        let given = given.strip_prefix(b"-").unwrap_or(given);
        let end = given.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
        let given = &given[..end.map_or(0, |last| last + 1)];
        let text = &mut Core::of(thread).text;
        text.clear();
        // The first word is the code. One word alone has none.
        if memchr::memchr(b' ', given).is_none() {
            text.extend_from_slice(b"ERR ");
        }
        text.extend_from_slice(given);
        push_error_of_text(thread, false);
        1
    }
}

unsafe extern "C-unwind" fn status_reply(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let argument = (ffi::lua_gettop(thread) == 1).then(|| bytes_at(thread, 1)).flatten();
        match argument {
            Some(text) => push_field(thread, c"ok", text),
            None => push_error(thread, "wrong number or type of arguments"),
        }
        1
    }
}

unsafe extern "C-unwind" fn sha1hex(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the digest is nothing that must be dropped.
    unsafe {
        if ffi::lua_gettop(thread) != 1 {
            push_error(thread, "wrong number of arguments");
            return return_error(thread, true);
        }
        let mut length = 0;
        let start = ffi::lua_tolstring(thread, 1, &mut length);
        let text: &[u8] = match start.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(start.cast(), length),
        };
        push_bytes(thread, &hex_digest(text));
        1
    }
}

/// The SHA1 of a text in lower-case hexadecimal digits: a script's name.
pub fn hex_digest(text: &[u8]) -> [u8; 40] {
    let mut hex = [0; 40];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(Sha1::digest(text)) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    hex
}

unsafe extern "C-unwind" fn set_repl(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        if ffi::lua_gettop(thread) != 1 {
            push_error(thread, "redis.set_repl() requires one argument.");
            return return_error(thread, true);
        }
        let flags = integer_at(thread, 1);
        if flags & !(TO_AOF | TO_REPLICAS) != 0 {
            push_error(
                thread,
                "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
            );
            return return_error(thread, true);
        }
        if let Some(host) = Core::of(thread).host() {
            host.set_replication(Replication {
                to_aof: flags & TO_AOF != 0,
                to_replicas: flags & TO_REPLICAS != 0,
            });
        }
        0
    }
}

unsafe extern "C-unwind" fn acl_check_cmd(thread: Thread) -> c_int {
    // SAFETY: called by Lua; what the host answers is dropped before anything raises.
    unsafe {
        if !take_args(thread) {
            return return_error(thread, true);
        }
        let is_allowed = with_args(thread, |core, args| {
            core.host().map_or(Some(false), |host| host.may_call(args))
        });
        match is_allowed {
            Some(is_allowed) => ffi::lua_pushboolean(thread, c_int::from(is_allowed)),
            None => {
                push_error(thread, "Invalid command passed to redis.acl_check_cmd()");
                return return_error(thread, true);
            }
        }
        1
    }
}

unsafe extern "C-unwind" fn replicate_commands(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { ffi::lua_pushboolean(thread, 1) };
    1
}

/// There is no debugger that would stop here.
unsafe extern "C-unwind" fn breakpoint(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe { ffi::lua_pushboolean(thread, 0) };
    1
}

/// There is no debugger that would show the arguments.
unsafe extern "C-unwind" fn debug(_: Thread) -> c_int {
    0
}
