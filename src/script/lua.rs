//! The border to Lua: what a function written in Rust may do when a script has called it.
//!
//! Lua's C library reports errors, the want of memory included, by `longjmp`: it leaves the functions between the error and the protected call
//! without running what they have left to do. So the rule of this folder, for whatever is called by Lua:
//!
//! 1. While something that must be dropped is alive, nothing is called that can raise. What must outlive a call (buffers of text, replies) belongs to
//!    the [`Core`], which the interpreter's state owns and nobody drops on the way.
//! 2. References into the core are short: none is held over a call into Lua, since the function that Lua calls next takes its own.
//! 3. Nothing raises outside of a protected call. Outside, [`State`](super::State) only pushes onto its own reserved stack, and calls.
//!
//! A function reaches the core through the allocator's user data, which costs a load and no look-up, from every coroutine too.
//!
//! The core counts the memory. An allocation that would lead beyond the bound is refused, and Lua ends the script with "not enough memory". Lua 5.1 has no
//! collection of last resort, so [`tend`](Core::tend) and [`rest`](Core::rest) collect ahead of time, within long scripts and after each, beyond half of the bound.

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

use mlua_sys as ffi;

use super::basics::BEHIND_COUNT;
use super::host::{Host, Refusal};
use super::library::Registration;
use super::random::Random48;
use crate::resp::{Proto, ReplyBuf};

/// A thread of the interpreter.
pub(super) type Thread = *mut ffi::lua_State;
/// What Lua calls.
pub(super) type Function = ffi::lua_CFunction;

/// What the functions of one interpreter share. See the module's text.
pub(super) struct Core {
    /// Bytes that Lua has allocated.
    pub(super) used_bytes: usize,
    /// Bytes that it may have.
    pub(super) bytes_max: usize,
    /// Bytes that were left after the last collection that `tend` made in this run, or that `rest` made before it.
    kept_bytes: usize,
    /// Bytes that were left after the last collection that `rest` made.
    rest_bytes: usize,
    /// The server, while a script runs.
    host: Option<NonNull<dyn Host>>,
    /// Set when the run ends at once: no script may catch the error that travels.
    pub(super) must_end: bool,
    /// As `must_end`, and nobody wants to hear of it.
    pub(super) is_unwinding: bool,
    /// What `redis.setresp` asked for.
    pub(super) protocol: Proto,
    /// What the handler of errors has found out.
    pub(super) failure: Failure,
    /// Whether the script has stopped the collection of garbage.
    pub(super) is_collection_stopped: bool,
    /// Whether it has set how often garbage is collected.
    pub(super) is_collection_tuned: bool,
    pub(super) random: Random48,
    /// The arguments of a call, and the digits of those that are numbers.
    pub(super) args: Vec<Piece>,
    pub(super) digits: Vec<u8>,
    /// The reply to a call, and the same in one piece.
    pub(super) reply: ReplyBuf,
    pub(super) flat: Vec<u8>,
    /// Text under construction, of whoever runs.
    pub(super) text: Vec<u8>,
    /// Tables that are being written or read, outermost first.
    pub(super) frames: Vec<Frame>,
    /// Tables that stand for others, by their address.
    pub(super) proxies: Vec<Proxy>,
    /// What `getmetatable("")` answers, in the registry.
    pub(super) string_metatable: c_int,
    /// The library that is being loaded.
    pub(super) registration: Option<Registration>,
    /// Functions of Lua's own that ours go on to, by the numbers of [`Behind`](super::basics::Behind).
    pub(super) behind: [Option<Function>; BEHIND_COUNT],
}

/// Bytes of a string that stands on the stack, or of digits.
#[derive(Clone, Copy)]
pub(super) enum Piece {
    Text(*const u8, usize),
    /// From and to in `digits`.
    Digits(usize, usize),
}

/// A table that is being written or read. Depth is bounded by Lua's stack only, so it is kept in a list and not on the thread's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) is_map: bool,
    /// Elements that are done.
    pub(super) done: usize,
    /// Elements in all, where that is known.
    pub(super) count: usize,
}

/// See [`Core::proxies`].
#[derive(Clone, Copy)]
pub(super) struct Proxy {
    pub(super) address: usize,
    /// The table it stands for, in the registry.
    pub(super) reference: c_int,
    /// What `getmetatable` answers, in the registry; nothing, if nil.
    pub(super) metatable: Option<c_int>,
}

/// An error that nothing has caught.
#[derive(Default)]
pub(super) struct Failure {
    pub(super) is_described: bool,
    pub(super) message: Vec<u8>,
    /// Where it was raised: the source's name and the line.
    pub(super) place: Option<(Vec<u8>, i64)>,
    pub(super) is_counted: bool,
}

impl Core {
    pub(super) fn new(bytes_max: usize) -> Core {
        Core {
            used_bytes: 0,
            bytes_max,
            kept_bytes: 0,
            rest_bytes: 0,
            host: None,
            must_end: false,
            is_unwinding: false,
            protocol: Proto::Resp2,
            failure: Failure::default(),
            is_collection_stopped: false,
            is_collection_tuned: false,
            random: Random48::new(),
            args: Vec::new(),
            digits: Vec::new(),
            reply: ReplyBuf::new(),
            flat: Vec::new(),
            text: Vec::new(),
            frames: Vec::new(),
            proxies: Vec::new(),
            string_metatable: ffi::LUA_REFNIL,
            registration: None,
            behind: [None; BEHIND_COUNT],
        }
    }

    /// The core of the interpreter that this thread belongs to.
    ///
    /// # Safety
    /// The thread is one of a [`Vm`](super::vm::Vm), and no other reference to its core is alive.
    #[inline]
    pub(super) unsafe fn of<'a>(thread: Thread) -> &'a mut Core {
        let mut data: *mut c_void = std::ptr::null_mut();
        // SAFETY: every interpreter of ours is made with its core as the allocator's user data, and the core outlives it.
        unsafe {
            ffi::lua_getallocf(thread, &mut data);
            &mut *data.cast::<Core>()
        }
    }

    /// Lends the host to what runs until `return_host`.
    pub(super) fn lend_host(&mut self, host: &mut dyn Host) {
        // SAFETY: only the lifetime changes, and `return_host` takes the pointer away before the borrow of the caller ends.
        let host: &mut (dyn Host + 'static) = unsafe { std::mem::transmute(host) };
        self.host = Some(NonNull::from(host));
    }

    pub(super) fn return_host(&mut self) {
        self.host = None;
    }

    /// The server, if a script runs.
    pub(super) fn host(&mut self) -> Option<&mut dyn Host> {
        // SAFETY: it is there only while the caller of the run has lent it, and nobody else uses it meanwhile.
        self.host.map(|mut host| unsafe { host.as_mut() })
    }

    /// The proxy at this address.
    #[inline]
    pub(super) fn proxy(&self, address: *const c_void) -> Option<Proxy> {
        self.proxies
            .iter()
            .copied()
            .find(|proxy| proxy.address == address as usize)
    }

    /// Collects all garbage. This can need a little memory first, for tables that become smaller, and gets it beyond the bound: it must not raise.
    ///
    /// # Safety
    /// A place where Lua may collect.
    pub(super) unsafe fn collect(thread: Thread) {
        // SAFETY: the references are not held over the collection.
        unsafe {
            let bytes_max = std::mem::replace(&mut Core::of(thread).bytes_max, usize::MAX);
            ffi::lua_gc(thread, ffi::LUA_GCCOLLECT, 0);
            Core::of(thread).bytes_max = bytes_max;
        }
    }

    /// Collects garbage when a script has come near to its bound.
    ///
    /// # Safety
    /// A place where Lua may collect: a hook, or between two runs.
    unsafe fn tend(thread: Thread) {
        // SAFETY: the references are not held over the collection.
        unsafe {
            let core = Core::of(thread);
            if core.used_bytes < core.bytes_max / 2 || core.used_bytes < core.kept_bytes + core.kept_bytes / 4 {
                return;
            }
            Core::collect(thread);
            let core = Core::of(thread);
            core.kept_bytes = core.used_bytes;
            if core.is_collection_stopped {
                ffi::lua_gc(thread, ffi::LUA_GCSTOP, 0);
            }
        }
    }

    /// The same after a run: what it leaves must not stop the next. What it needed itself says nothing of what is left.
    ///
    /// # Safety
    /// Nothing runs.
    pub(super) unsafe fn rest(thread: Thread) {
        // SAFETY: the references are not held over the collection.
        unsafe {
            let core = Core::of(thread);
            core.kept_bytes = core.rest_bytes;
            Core::tend(thread);
            let core = Core::of(thread);
            core.rest_bytes = core.kept_bytes;
        }
    }
}

/// Lua's allocator: counts, and refuses what would lead beyond the bound.
pub(super) unsafe extern "C" fn allocate(
    data: *mut c_void,
    block: *mut c_void,
    old_bytes: usize,
    new_bytes: usize,
) -> *mut c_void {
    // Lua's values need no more than eight.
    const ALIGNMENT: usize = 8;
    // SAFETY: the user data is the core; blocks come from here, and Lua says how long they are.
    unsafe {
        let core = data.cast::<Core>();
        let layout = |bytes| Layout::from_size_align_unchecked(bytes, ALIGNMENT);
        let used_bytes = (*core).used_bytes - old_bytes + new_bytes;
        if new_bytes > old_bytes && used_bytes > (*core).bytes_max {
            return std::ptr::null_mut();
        }
        let result = match (old_bytes, new_bytes) {
            (0, 0) => return std::ptr::null_mut(),
            (0, _) => alloc(layout(new_bytes)),
            (_, 0) => {
                dealloc(block.cast(), layout(old_bytes));
                std::ptr::null_mut()
            }
            _ => realloc(block.cast(), layout(old_bytes), new_bytes),
        };
        if new_bytes == 0 || !result.is_null() {
            (*core).used_bytes = used_bytes;
        }
        result.cast()
    }
}

/// Called every so many instructions: asks the host whether the run shall go on.
pub(super) unsafe extern "C-unwind" fn count_hook(thread: Thread, _: *mut ffi::lua_Debug) {
    // SAFETY: nothing that must be dropped is alive where this raises.
    unsafe {
        Core::tend(thread);
        let core = Core::of(thread);
        let is_over = core.must_end
            || core
                .host()
                .is_some_and(|host| host.interrupted().is_err_and(|why| end(thread, why)));
        if is_over {
            ffi::lua_error(thread);
        }
    }
}

/// Ends the run with this refusal: pushes the error that is to be raised. Always true.
///
/// # Safety
/// There is a slot on the stack. May raise.
unsafe fn end(thread: Thread, refusal: Refusal) -> bool {
    // SAFETY: the text is moved into the core before anything is pushed.
    unsafe {
        let core = Core::of(thread);
        core.must_end = true;
        core.text.clear();
        match refusal {
            Refusal::Unwind => core.is_unwinding = true,
            Refusal::Error(error) => core.text.extend_from_slice(error.text()),
        }
        push_error_of_text(thread, false);
        true
    }
}

/// What the caller does with a refusal of [`Host::call`]: unwinds, or pushes the error as a table.
///
/// # Safety
/// As [`end`].
pub(super) unsafe fn refuse(thread: Thread, refusal: Refusal) {
    // SAFETY: as in `end`; an unwinding raises with nothing alive.
    unsafe {
        let is_unwinding = matches!(refusal, Refusal::Unwind);
        end(thread, refusal);
        if is_unwinding {
            ffi::lua_error(thread);
        }
        Core::of(thread).must_end = false;
    }
}

/// Pushes `{err = text}` with the text that stands in the core.
///
/// # Safety
/// May raise.
pub(super) unsafe fn push_error_of_text(thread: Thread, is_counted: bool) {
    // SAFETY: the core's text is only read, and is there until somebody writes it anew.
    unsafe {
        ffi::lua_createtable(thread, 0, 2);
        let text: *const Vec<u8> = &Core::of(thread).text;
        push_bytes(thread, &*text);
        ffi::lua_setfield(thread, -2, c"err".as_ptr());
        if is_counted {
            ffi::lua_pushboolean(thread, 1);
            ffi::lua_setfield(thread, -2, IS_COUNTED.as_ptr());
        }
    }
}

/// The field of an error's table that says that a command has counted it.
pub(super) const IS_COUNTED: &CStr = c"ignore_error_stats_update";

/// Pushes `{err = "ERR " .. text}`.
///
/// # Safety
/// May raise.
pub(super) unsafe fn push_error(thread: Thread, text: &str) {
    // SAFETY: the core's text is whole before anything is pushed.
    unsafe {
        let own = &mut Core::of(thread).text;
        own.clear();
        own.extend_from_slice(b"ERR ");
        own.extend_from_slice(text.as_bytes());
        push_error_of_text(thread, false);
    }
}

/// Raises a text, with the place of the caller in front.
///
/// # Safety
/// Nothing that must be dropped is alive.
pub(super) unsafe fn raise_here(thread: Thread, text: &[u8]) -> ! {
    // SAFETY: as the caller promises.
    unsafe {
        make_room(thread);
        ffi::luaL_where(thread, 1);
        push_bytes(thread, text);
        ffi::lua_concat(thread, 2);
        ffi::lua_error(thread)
    }
}

/// Raises the text that stands in the core, with the place of the caller in front.
///
/// # Safety
/// As [`raise_here`].
pub(super) unsafe fn raise_text_here(thread: Thread) -> ! {
    // SAFETY: the core's text is only read.
    unsafe {
        let text: *const Vec<u8> = &Core::of(thread).text;
        raise_here(thread, &*text)
    }
}

/// Raises a text as it is.
///
/// # Safety
/// As [`raise_here`].
pub(super) unsafe fn raise(thread: Thread, text: &[u8]) -> ! {
    // SAFETY: as the caller promises.
    unsafe {
        make_room(thread);
        push_bytes(thread, text);
        ffi::lua_error(thread)
    }
}

/// Makes room for an error: a function that has filled its stack needs nothing of it any more.
///
/// # Safety
/// Called by Lua.
unsafe fn make_room(thread: Thread) {
    // SAFETY: as the caller promises.
    unsafe {
        if ffi::lua_checkstack(thread, 4) == 0 {
            ffi::lua_settop(thread, 0);
        }
    }
}

/// Raises that an argument is wrong.
///
/// # Safety
/// As [`raise_here`].
pub(super) unsafe fn raise_argument(thread: Thread, index: c_int, text: &CStr) -> ! {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::luaL_argerror(thread, index, text.as_ptr());
    }
    unreachable!("Lua has left this function")
}

/// Pushes a string.
///
/// # Safety
/// May raise.
#[inline]
pub(super) unsafe fn push_bytes(thread: Thread, bytes: &[u8]) {
    // SAFETY: Lua copies the bytes.
    unsafe {
        ffi::lua_pushlstring_(thread, bytes.as_ptr().cast(), bytes.len());
    }
}

/// The string at an index, if there is one (numbers are none). It lives as long as it stays on the stack.
///
/// # Safety
/// The index is one of the stack.
#[inline]
pub(super) unsafe fn bytes_at<'a>(thread: Thread, index: c_int) -> Option<&'a [u8]> {
    // SAFETY: strings do not move; for a string this neither allocates nor raises.
    unsafe {
        if ffi::lua_type(thread, index) != ffi::LUA_TSTRING {
            return None;
        }
        let mut length = 0;
        let start = ffi::lua_tolstring(thread, index, &mut length);
        Some(std::slice::from_raw_parts(start.cast(), length))
    }
}

/// The string at an index; a number becomes one in its place. Raises if it is neither.
///
/// # Safety
/// Nothing that must be dropped is alive. As [`bytes_at`].
pub(super) unsafe fn check_bytes<'a>(thread: Thread, index: c_int) -> &'a [u8] {
    // SAFETY: strings do not move.
    unsafe {
        let mut length = 0;
        let start = ffi::luaL_checklstring(thread, index, &mut length);
        std::slice::from_raw_parts(start.cast(), length)
    }
}

/// Whether the error on top of the stack must go on: no function may catch it.
///
/// # Safety
/// The thread is one of a [`Vm`](super::vm::Vm).
pub(super) unsafe fn must_end(thread: Thread) -> bool {
    // SAFETY: the reference ends here.
    unsafe { Core::of(thread).must_end }
}

/// Compiles text, and never anything else: pushes the function, or a message and false. `name` is the chunk's.
///
/// The parser of 5.1 does not keep everything that it uses safe from the collection of garbage (CVE-2025-49844), so there is none
/// meanwhile; and it counts in `int`, so that texts are bounded well below 2 GB (CVE-2025-46819).
///
/// # Safety
/// Three slots on the stack. Raises only for want of memory outside of the compiler.
pub(super) unsafe fn compile(thread: Thread, text: &[u8], name: &CStr) -> bool {
    // SAFETY: the reader hands out `text`, which is there until `lua_load` has ended.
    unsafe {
        if text.len() > TEXT_BYTES_MAX {
            push_bytes(thread, b"chunk has too many bytes");
            return false;
        }
        let mut source = Source {
            // What begins with an escape would be taken for compiled code. A blank in front makes it what it is, an error.
            is_blank_due: text.first() == Some(&ffi::LUA_SIGNATURE[0]),
            text: text.as_ptr(),
            length: text.len(),
        };
        ffi::lua_gc(thread, ffi::LUA_GCSTOP, 0);
        let status = ffi::lua_load(thread, read, (&raw mut source).cast(), name.as_ptr());
        if !Core::of(thread).is_collection_stopped {
            ffi::lua_gc(thread, ffi::LUA_GCRESTART, 0);
        }
        status == ffi::LUA_OK
    }
}

/// Bytes of one chunk.
pub(super) const TEXT_BYTES_MAX: usize = 512 << 20;

struct Source {
    is_blank_due: bool,
    text: *const u8,
    length: usize,
}

unsafe extern "C-unwind" fn read(_: Thread, data: *mut c_void, length: *mut usize) -> *const std::ffi::c_char {
    // SAFETY: the data is the source that `compile` has on its stack.
    unsafe {
        let source = &mut *data.cast::<Source>();
        if std::mem::take(&mut source.is_blank_due) {
            *length = 1;
            return c" ".as_ptr();
        }
        *length = std::mem::take(&mut source.length);
        source.text.cast()
    }
}
