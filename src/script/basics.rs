//! Functions of Lua's own libraries that scripts get in another form.
//!
//! Lua 5.1 has no read-only tables, and Redis's has. Here a table that must not be changed is hidden behind an empty one, its *proxy*, whose metatable reads from it
//! and refuses to write ([`super::sandbox`] makes them). What reads or writes tables raw would see the proxy, so these functions look through it, or
//! refuse, as Redis's interpreter does.
//!
//! The rest are holes of 5.1, closed:
//!
//! | function | what for |
//! |---|---|
//! | `pcall`, `xpcall`, `coroutine.resume` | an error that ends the run is not caught; `pcall` hands out the text of an error's table, as Redis's does |
//! | `load`, `loadstring` | text only; no collection while it is compiled, so the pieces of `load` are fetched before |
//! | `unpack` | the count of results is computed in 64 bits (CVE-2025-46817) |
//! | `getmetatable` | that of strings cannot be changed (CVE-2025-46818) |
//! | `string.find` and its kin | a pattern of many repetitions would exhaust the thread's stack: the matcher calls itself for each |
//! | `table.insert` | far below the first place it would move nothing two thousand million times, which nobody could end |
//! | `string.rep` | asks for its memory at once, and does nothing for long when there is nothing to repeat |
//! | `collectgarbage` | what a script stops or sets is as before after it |
//! | `math.random` | C's generator is the process's; see [`super::random`] |

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;

use mlua_sys as ffi;

use super::lua::{
    Core, Function, Thread, bytes_at, check_bytes, compile, must_end, push_bytes, raise, raise_argument, raise_here,
};
use super::random::NUMBER_MAX;

/// Lua's own function behind one of ours.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(super) enum Behind {
    SetMetatable,
    CollectGarbage,
    Resume,
    Find,
    Match,
    GlobalMatch,
    Substitute,
    Insert,
    ForEach,
}

pub(super) const BEHIND_COUNT: usize = Behind::ForEach as usize + 1;

/// Ours, by the table and the name under which Lua's stands; where it goes on to that, its number.
pub(super) const REPLACED: &[(Option<&CStr>, &CStr, Function, Option<Behind>)] = &[
    (None, c"pcall", pcall, None),
    (None, c"xpcall", xpcall, None),
    (None, c"load", load, None),
    (None, c"loadstring", loadstring, None),
    (None, c"unpack", unpack, None),
    (None, c"getmetatable", getmetatable, None),
    (None, c"setmetatable", setmetatable, Some(Behind::SetMetatable)),
    (None, c"next", next, None),
    (None, c"rawget", rawget, None),
    (None, c"rawset", rawset, None),
    (None, c"collectgarbage", collectgarbage, Some(Behind::CollectGarbage)),
    (Some(c"coroutine"), c"resume", resume, Some(Behind::Resume)),
    (Some(c"string"), c"rep", rep, None),
    (Some(c"string"), c"find", find, Some(Behind::Find)),
    (Some(c"string"), c"match", match_, Some(Behind::Match)),
    (Some(c"string"), c"gmatch", gmatch, Some(Behind::GlobalMatch)),
    (Some(c"string"), c"gfind", gmatch, None),
    (Some(c"string"), c"gsub", gsub, Some(Behind::Substitute)),
    (Some(c"table"), c"insert", insert, Some(Behind::Insert)),
    (Some(c"table"), c"foreach", foreach, Some(Behind::ForEach)),
    (Some(c"math"), c"random", random, None),
    (Some(c"math"), c"randomseed", randomseed, None),
];

/// What Redis's interpreter says of a table that must not be changed.
pub(super) const READ_ONLY: &[u8] = b"Attempt to modify a readonly table";

/// Goes on to Lua's own function, in the same frame.
///
/// # Safety
/// Called by Lua.
unsafe fn go_on(thread: Thread, behind: Behind) -> c_int {
    // SAFETY: it is Lua's function for the same arguments.
    unsafe {
        match Core::of(thread).behind[behind as usize] {
            Some(function) => function(thread),
            None => 0,
        }
    }
}

/// Puts the table behind a proxy in its place, if the argument is one.
///
/// # Safety
/// Called by Lua.
#[inline]
unsafe fn look_through(thread: Thread, index: c_int) {
    // SAFETY: the reference names a table of the registry.
    unsafe {
        if let Some(proxy) = Core::of(thread).proxy(ffi::lua_topointer(thread, index)) {
            ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, proxy.reference);
            ffi::lua_replace(thread, index);
        }
    }
}

/// Raises if the argument is a proxy.
///
/// # Safety
/// Called by Lua.
unsafe fn refuse_proxy(thread: Thread, index: c_int) {
    // SAFETY: nothing that must be dropped is alive.
    unsafe {
        if Core::of(thread).proxy(ffi::lua_topointer(thread, index)).is_some() {
            raise(thread, READ_ONLY);
        }
    }
}

unsafe extern "C-unwind" fn pcall(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let args = ffi::lua_gettop(thread) - 1;
        if args < 0 {
            // In Redis it calls the true that it has put in front for the result.
            ffi::lua_pushboolean(thread, 0);
            push_bytes(thread, b"attempt to call a boolean value");
            return 2;
        }
        // Before the call, since behind its results there may be no room.
        ffi::lua_pushboolean(thread, 1);
        ffi::lua_insert(thread, 1);
        if ffi::lua_pcall(thread, args, ffi::LUA_MULTRET, 0) == ffi::LUA_OK {
            return ffi::lua_gettop(thread);
        }
        if must_end(thread) {
            ffi::lua_error(thread);
        }
        // A table without a text stays, and with it, as in Redis, what was found in the text's place.
        ffi::lua_remove(thread, 1);
        if ffi::lua_type(thread, -1) == ffi::LUA_TTABLE {
            ffi::lua_getfield_(thread, -1, c"err".as_ptr());
            if ffi::lua_isstring(thread, -1) != 0 {
                ffi::lua_replace(thread, -2);
            }
        }
        ffi::lua_pushboolean(thread, 0);
        ffi::lua_insert(thread, 1);
        ffi::lua_gettop(thread)
    }
}

unsafe extern "C-unwind" fn xpcall(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        ffi::luaL_checkany(thread, 2);
        ffi::lua_settop(thread, 2);
        ffi::lua_pushcclosure(thread, handler_of_xpcall, 1);
        ffi::lua_insert(thread, 1);
        ffi::lua_pushboolean(thread, 1);
        ffi::lua_insert(thread, 1);
        if ffi::lua_pcall(thread, 0, ffi::LUA_MULTRET, 2) == ffi::LUA_OK {
            ffi::lua_remove(thread, 2);
            return ffi::lua_gettop(thread);
        }
        if must_end(thread) {
            ffi::lua_error(thread);
        }
        ffi::lua_pushboolean(thread, 0);
        ffi::lua_insert(thread, -2);
        2
    }
}

/// Calls the script's handler, unless the error ends the run.
unsafe extern "C-unwind" fn handler_of_xpcall(thread: Thread) -> c_int {
    // SAFETY: called by Lua with the error.
    unsafe {
        if !must_end(thread) {
            ffi::lua_pushvalue(thread, ffi::lua_upvalueindex(1));
            // What can be called but is no function is no handler in 5.1.
            if ffi::lua_type(thread, -1) != ffi::LUA_TFUNCTION {
                ffi::lua_error(thread);
            }
            ffi::lua_insert(thread, 1);
            ffi::lua_call(thread, 1, 1);
        }
        1
    }
}

unsafe extern "C-unwind" fn resume(thread: Thread) -> c_int {
    // SAFETY: called by Lua; a failed resume leaves false and the error on top.
    unsafe {
        let count = go_on(thread, Behind::Resume);
        if must_end(thread) {
            ffi::lua_error(thread);
        }
        count
    }
}

unsafe extern "C-unwind" fn load(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the buffer is Lua's and needs no end.
    unsafe {
        ffi::luaL_checktype(thread, 1, ffi::LUA_TFUNCTION);
        if ffi::lua_isnoneornil(thread, 2) != 0 {
            ffi::lua_settop(thread, 1);
            push_bytes(thread, b"=(load)");
        }
        let name = CStr::from_ptr(ffi::luaL_checkstring(thread, 2));
        ffi::lua_settop(thread, 2);
        let mut buffer = MaybeUninit::<ffi::luaL_Buffer>::uninit();
        let buffer = buffer.as_mut_ptr();
        ffi::luaL_buffinit(thread, buffer);
        loop {
            ffi::lua_pushvalue(thread, 1);
            if ffi::lua_pcall(thread, 0, 1, 0) != ffi::LUA_OK {
                if must_end(thread) {
                    ffi::lua_error(thread);
                }
                ffi::lua_pushnil(thread);
                ffi::lua_insert(thread, -2);
                return 2;
            }
            if ffi::lua_type(thread, -1) == ffi::LUA_TNIL {
                ffi::lua_pop(thread, 1);
                break;
            }
            if ffi::lua_isstring(thread, -1) == 0 {
                ffi::lua_pushnil(thread);
                push_bytes(thread, b"reader function must return a string");
                return 2;
            }
            if check_bytes(thread, -1).is_empty() {
                ffi::lua_pop(thread, 1);
                break;
            }
            ffi::luaL_addvalue(buffer);
        }
        ffi::luaL_pushresult(buffer);
        let text = bytes_at(thread, -1).unwrap_or_default();
        return_chunk(thread, text, name)
    }
}

unsafe extern "C-unwind" fn loadstring(thread: Thread) -> c_int {
    // SAFETY: called by Lua; both strings stay on the stack.
    unsafe {
        let text = check_bytes(thread, 1);
        let name = ffi::luaL_optlstring(thread, 2, text.as_ptr().cast(), std::ptr::null_mut());
        return_chunk(thread, text, CStr::from_ptr(name))
    }
}

/// Compiles, and returns the function, or nil and a message.
///
/// # Safety
/// Called by Lua.
unsafe fn return_chunk(thread: Thread, text: &[u8], name: &CStr) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        if compile(thread, text, name) {
            return 1;
        }
        ffi::lua_pushnil(thread);
        ffi::lua_insert(thread, -2);
        2
    }
}

unsafe extern "C-unwind" fn unpack(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the stack has room for all results before the first is pushed.
    unsafe {
        ffi::luaL_checktype(thread, 1, ffi::LUA_TTABLE);
        let from = ffi::luaL_optinteger(thread, 2, 1) as c_int;
        let to = match ffi::lua_isnoneornil(thread, 3) {
            0 => ffi::luaL_checkinteger(thread, 3) as c_int,
            _ => ffi::lua_objlen(thread, 1) as c_int,
        };
        let count = i64::from(to) - i64::from(from) + 1;
        if count <= 0 {
            return 0;
        }
        let Ok(count) = c_int::try_from(count) else {
            raise_here(thread, TOO_MANY_RESULTS);
        };
        if ffi::lua_checkstack(thread, count) == 0 {
            raise_here(thread, TOO_MANY_RESULTS);
        }
        for offset in 0..count {
            ffi::lua_rawgeti_(thread, 1, from + offset);
        }
        count
    }
}

const TOO_MANY_RESULTS: &[u8] = b"too many results to unpack";

unsafe extern "C-unwind" fn getmetatable(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the references name tables of the registry.
    unsafe {
        ffi::luaL_checkany(thread, 1);
        let core = Core::of(thread);
        if ffi::lua_type(thread, 1) == ffi::LUA_TSTRING {
            let reference = core.string_metatable;
            ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, reference);
            return 1;
        }
        if let Some(proxy) = core.proxy(ffi::lua_topointer(thread, 1)) {
            match proxy.metatable {
                Some(reference) => ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, reference),
                None => ffi::lua_pushnil(thread),
            }
            return 1;
        }
        if ffi::lua_getmetatable(thread, 1) == 0 {
            ffi::lua_pushnil(thread);
            return 1;
        }
        // What the table wants to be shown in the metatable's place, or that.
        ffi::luaL_getmetafield_(thread, 1, c"__metatable".as_ptr());
        1
    }
}

unsafe extern "C-unwind" fn setmetatable(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        // Another kind of metatable is refused first.
        if matches!(ffi::lua_type(thread, 2), ffi::LUA_TNIL | ffi::LUA_TTABLE) {
            refuse_proxy(thread, 1);
        }
        go_on(thread, Behind::SetMetatable)
    }
}

/// Also what `pairs` hands out for a proxy.
pub(super) unsafe extern "C-unwind" fn next(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        ffi::luaL_checktype(thread, 1, ffi::LUA_TTABLE);
        ffi::lua_settop(thread, 2);
        look_through(thread, 1);
        if ffi::lua_next(thread, 1) != 0 {
            return 2;
        }
        ffi::lua_pushnil(thread);
        1
    }
}

/// With Lua's `next` and ours as upvalues: ours costs a look at the proxies for each step.
pub(super) unsafe extern "C-unwind" fn pairs(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        ffi::luaL_checktype(thread, 1, ffi::LUA_TTABLE);
        let is_proxy = Core::of(thread).proxy(ffi::lua_topointer(thread, 1)).is_some();
        ffi::lua_pushvalue(thread, ffi::lua_upvalueindex(if is_proxy { 2 } else { 1 }));
        ffi::lua_pushvalue(thread, 1);
        ffi::lua_pushnil(thread);
        3
    }
}

unsafe extern "C-unwind" fn rawget(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        ffi::luaL_checktype(thread, 1, ffi::LUA_TTABLE);
        ffi::luaL_checkany(thread, 2);
        ffi::lua_settop(thread, 2);
        look_through(thread, 1);
        ffi::lua_rawget_(thread, 1);
        1
    }
}

unsafe extern "C-unwind" fn rawset(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        ffi::luaL_checktype(thread, 1, ffi::LUA_TTABLE);
        ffi::luaL_checkany(thread, 2);
        ffi::luaL_checkany(thread, 3);
        ffi::lua_settop(thread, 3);
        refuse_proxy(thread, 1);
        ffi::lua_rawset(thread, 1);
        1
    }
}

unsafe extern "C-unwind" fn collectgarbage(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        match bytes_at(thread, 1) {
            Some(b"stop") => Core::of(thread).is_collection_stopped = true,
            Some(b"restart") => Core::of(thread).is_collection_stopped = false,
            Some(b"setpause" | b"setstepmul") => Core::of(thread).is_collection_tuned = true,
            _ => {}
        }
        go_on(thread, Behind::CollectGarbage)
    }
}

unsafe extern "C-unwind" fn rep(thread: Thread) -> c_int {
    // SAFETY: called by Lua; the text under construction is the core's.
    unsafe {
        let piece = check_bytes(thread, 1);
        let count = ffi::luaL_checkinteger(thread, 2) as c_int;
        let count = usize::try_from(count).unwrap_or_default();
        let bytes = piece.len().saturating_mul(count);
        let core = Core::of(thread);
        if bytes.saturating_add(core.used_bytes) > core.bytes_max {
            raise(thread, NO_MEMORY);
        }
        core.text.clear();
        core.text.reserve(bytes);
        if bytes > 0 {
            core.text.extend_from_slice(piece);
            while core.text.len() < bytes {
                let more = (bytes - core.text.len()).min(core.text.len());
                core.text.extend_from_within(..more);
            }
        }
        let text: *const Vec<u8> = &core.text;
        push_bytes(thread, &*text);
        1
    }
}

/// What Lua says itself.
const NO_MEMORY: &[u8] = b"not enough memory";

/// Repetitions that a pattern may have: as many as later versions of Lua allow.
const REPETITIONS_MAX: usize = 200;

/// Raises if the pattern would need too deep a stack.
///
/// # Safety
/// Called by Lua.
#[inline]
unsafe fn check_pattern(thread: Thread) {
    // SAFETY: the pattern stays on the stack.
    unsafe {
        let pattern = bytes_at(thread, 2).unwrap_or_default();
        if pattern.len() > REPETITIONS_MAX {
            let marks = pattern.iter().filter(|byte| b"*+-?".contains(byte));
            if marks.count() > REPETITIONS_MAX {
                raise_here(thread, b"pattern too complex");
            }
        }
    }
}

unsafe extern "C-unwind" fn find(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        // A plain search knows no repetitions.
        if ffi::lua_toboolean(thread, 4) == 0 {
            check_pattern(thread);
        }
        go_on(thread, Behind::Find)
    }
}

unsafe extern "C-unwind" fn match_(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        check_pattern(thread);
        go_on(thread, Behind::Match)
    }
}

unsafe extern "C-unwind" fn gmatch(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        check_pattern(thread);
        go_on(thread, Behind::GlobalMatch)
    }
}

unsafe extern "C-unwind" fn gsub(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        check_pattern(thread);
        go_on(thread, Behind::Substitute)
    }
}

unsafe extern "C-unwind" fn insert(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let count = ffi::lua_gettop(thread);
        if matches!(count, 2 | 3) && ffi::lua_type(thread, 1) == ffi::LUA_TTABLE {
            // As Lua reads it.
            if count == 3 && (ffi::luaL_checkinteger(thread, 2) as c_int) < INSERTED_MIN {
                raise_argument(thread, 2, c"position out of bounds");
            }
            refuse_proxy(thread, 1);
        }
        go_on(thread, Behind::Insert)
    }
}

/// The first place that `table.insert` takes.
const INSERTED_MIN: c_int = -1_000_000;

unsafe extern "C-unwind" fn foreach(thread: Thread) -> c_int {
    // SAFETY: called by Lua; it hands out keys and values only.
    unsafe {
        if ffi::lua_gettop(thread) > 0 {
            look_through(thread, 1);
        }
        go_on(thread, Behind::ForEach)
    }
}

unsafe extern "C-unwind" fn random(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let drawn = Core::of(thread).random.next();
        let fraction = (drawn % NUMBER_MAX) as f64 / NUMBER_MAX as f64;
        let result = match ffi::lua_gettop(thread) {
            0 => fraction,
            1 => {
                let to = ffi::luaL_checkinteger(thread, 1) as c_int;
                if to < 1 {
                    raise_argument(thread, 1, EMPTY_INTERVAL);
                }
                (fraction * f64::from(to)).floor() + 1.0
            }
            2 => {
                let from = ffi::luaL_checkinteger(thread, 1) as c_int;
                let to = ffi::luaL_checkinteger(thread, 2) as c_int;
                if from > to {
                    raise_argument(thread, 2, EMPTY_INTERVAL);
                }
                let width = f64::from(to.wrapping_sub(from).wrapping_add(1));
                (fraction * width).floor() + f64::from(from)
            }
            _ => raise_here(thread, b"wrong number of arguments"),
        };
        ffi::lua_pushnumber(thread, result);
        1
    }
}

const EMPTY_INTERVAL: &CStr = c"interval is empty";

unsafe extern "C-unwind" fn randomseed(thread: Thread) -> c_int {
    // SAFETY: called by Lua.
    unsafe {
        let seed = ffi::luaL_checkinteger(thread, 1) as i32;
        Core::of(thread).random.seed(seed);
        0
    }
}
