//! One interpreter: how it is made, and how chunks are compiled and run in it.
//!
//! On the interpreter's own stack stand two functions for good: the handler of errors, and the one that runs a compiled function. A run pushes the second and a
//! pointer to what it shall do, and makes one protected call. Everything that can fail is done inside: the tables of keys and arguments are filled there, and the result
//! is written there. So outside nothing raises, and a run allocates the two tables and their strings, no more.

use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use mlua_sys as ffi;

use super::host::{Ending, Host};
use super::library::Registration;
use super::lua::{Core, Function, IS_COUNTED, Thread, allocate, bytes_at, compile, count_hook, push_bytes};
use super::sandbox::{self, Globals, Purpose};
use super::values::{Level, write_value};
use crate::base::numbers::as_c_text;
use crate::resp::{Proto, Reply, ReplyError, error};

/// An interpreter.
pub(super) struct Vm {
    thread: Thread,
    core: NonNull<Core>,
    globals: Globals,
    purpose: Purpose,
    /// What is open in the result that is being written.
    levels: Vec<Level>,
}

/// A compiled function's place in the registry.
pub(super) type Compiled = c_int;

/// What one run does.
struct Run<'a, 'r> {
    function: Compiled,
    globals: Option<Globals>,
    keys: &'a [&'a [u8]],
    args: &'a [&'a [u8]],
    reply: &'a mut Reply<'r>,
    levels: &'a mut Vec<Level>,
}

/// Places on the interpreter's own stack.
const HANDLER: c_int = 1;
const RUNNER: c_int = 2;

/// When a collection begins, and how fast it goes: as Lua has it at first.
const COLLECTION_PERCENT: c_int = 200;

/// Memory that scripts keep between runs in the core's buffers.
const BUFFER_BYTES_KEPT: usize = 64 << 10;

impl Vm {
    /// A new interpreter that may have so much memory.
    pub(super) fn new(purpose: Purpose, bytes_max: usize) -> Vm {
        // While it is set up it has what it needs.
        let core = NonNull::from(Box::leak(Box::new(Core::new(usize::MAX))));
        // SAFETY: the core is freed after the interpreter, in `drop`.
        let thread = unsafe { ffi::lua_newstate(allocate, core.as_ptr().cast()) };
        assert!(!thread.is_null(), "there is memory for an interpreter");
        let mut set_up = SetUp { purpose, globals: None };
        // SAFETY: the function is called with the pointer that it expects, in a protected call.
        unsafe {
            let status = ffi::lua_cpcall(thread, run_set_up, (&raw mut set_up).cast());
            assert_eq!(status, ffi::LUA_OK, "an interpreter can be set up");
            ffi::lua_sethook(
                thread,
                Some(count_hook),
                ffi::LUA_MASKCOUNT,
                super::INSTRUCTIONS_PER_QUESTION,
            );
            ffi::lua_pushcclosure(thread, describe, 0);
            ffi::lua_pushcclosure(thread, run, 0);
            Core::of(thread).bytes_max = bytes_max;
        }
        Vm {
            thread,
            core,
            globals: set_up.globals.expect("the set-up has ended"),
            purpose,
            levels: Vec::new(),
        }
    }

    fn core(&mut self) -> &mut Core {
        // SAFETY: the core lives as long as this, and nothing of Lua runs meanwhile.
        unsafe { self.core.as_mut() }
    }

    /// Bytes that Lua has.
    pub(super) fn used_bytes(&self) -> usize {
        // SAFETY: as above.
        unsafe { self.core.as_ref() }.used_bytes
    }

    /// Sets the bound of its memory.
    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.core().bytes_max = bytes_max;
    }

    /// Compiles a script or the code of a library; an error is the compiler's message.
    pub(super) fn compile(&mut self, text: &[u8]) -> Result<Compiled, Vec<u8>> {
        let name = match self.purpose {
            Purpose::Scripts => c"@user_script",
            Purpose::Functions => c"@user_function",
        };
        let mut compilation = Compilation {
            text,
            name,
            function: ffi::LUA_REFNIL,
        };
        if self.protected(run_compilation, (&raw mut compilation).cast()) {
            return Ok(compilation.function);
        }
        let message = self.message();
        self.settle();
        Err(message)
    }

    /// Forgets a compiled function.
    pub(super) fn release(&mut self, function: Compiled) {
        // SAFETY: a reference is given back by writing into slots that the registry has; if it has to grow nonetheless, in protected mode.
        let mut function = function;
        self.protected(run_release, (&raw mut function).cast());
        self.settle();
    }

    /// Runs a compiled function, and writes its result. `name` is what errors call it.
    pub(super) fn run(
        &mut self,
        function: Compiled,
        name: &[u8],
        keys: &[&[u8]],
        args: &[&[u8]],
        host: &mut dyn Host,
        reply: &mut Reply<'_>,
    ) -> Result<(), Ending> {
        let mark = reply.buf().mark();
        let mut levels = std::mem::take(&mut self.levels);
        let globals = (self.purpose == Purpose::Scripts).then_some(self.globals);
        let mut run = Run {
            function,
            globals,
            keys,
            args,
            reply,
            levels: &mut levels,
        };
        let status = self.call(host, (&raw mut run).cast());
        let outcome = match status {
            ffi::LUA_OK => Ok(()),
            _ => {
                reply.buf().truncate(mark);
                Err(self.ending(name))
            }
        };
        self.levels = levels;
        match status {
            // SAFETY: nothing runs.
            ffi::LUA_OK => unsafe { Core::rest(self.thread) },
            _ => self.settle(),
        }
        outcome
    }

    /// Runs the code of a library; what it has registered, or the error.
    pub(super) fn load(&mut self, code: &[u8], host: &mut dyn Host) -> Result<Registration, ReplyError> {
        let function = self
            .compile(code)
            .map_err(|message| error::library_not_compiled(&message))?;
        self.core().registration = Some(Registration::default());
        let mut reading = (self.globals, true);
        let is_ready = self.protected(run_reading, (&raw mut reading).cast());
        let mut out = crate::resp::ReplyBuf::new();
        let mut nothing = Reply::new(&mut out, Proto::Resp2);
        let outcome = match is_ready {
            true => self.run(function, b"", &[], &[], host, &mut nothing),
            false => Err(self.ending(b"")),
        };
        let mut reading = (self.globals, false);
        // Only tables that are there are written to, and fields that they have: this does not fail.
        self.protected(run_reading, (&raw mut reading).cast());
        self.release(function);
        let registration = self.core().registration.take().unwrap_or_default();
        let failure = match outcome {
            Ok(()) if registration.functions.is_empty() => error::LIBRARY_EMPTY,
            Ok(()) => return Ok(registration),
            Err(_) => error::library_not_registered(&std::mem::take(&mut self.core().failure.message)),
        };
        for (_, function) in registration.functions {
            self.release(function);
        }
        Err(failure)
    }

    /// Calls the runner with this run, and everything around it.
    fn call(&mut self, host: &mut dyn Host, run: *mut c_void) -> c_int {
        let thread = self.thread;
        let core = self.core();
        core.random.start(host.random_seed());
        core.lend_host(host);
        core.protocol = Proto::Resp2;
        core.failure.is_described = false;
        core.must_end = false;
        core.is_unwinding = false;
        // SAFETY: the stack has its two functions and room for more; the run is one, and lives until the call has ended.
        let status = unsafe {
            ffi::lua_pushvalue(thread, RUNNER);
            ffi::lua_pushlightuserdata(thread, run);
            ffi::lua_pcall(thread, 1, 0, HANDLER)
        };
        let core = self.core();
        core.return_host();
        let (is_stopped, is_tuned) = (core.is_collection_stopped, core.is_collection_tuned);
        if is_stopped || is_tuned {
            (core.is_collection_stopped, core.is_collection_tuned) = (false, false);
            // SAFETY: this only sets when the next collection is due.
            unsafe {
                ffi::lua_gc(thread, ffi::LUA_GCSETPAUSE, COLLECTION_PERCENT);
                ffi::lua_gc(thread, ffi::LUA_GCSETSTEPMUL, COLLECTION_PERCENT);
                ffi::lua_gc(thread, ffi::LUA_GCRESTART, 0);
            }
        }
        let core = self.core();
        if core.text.capacity() + core.flat.capacity() > BUFFER_BYTES_KEPT {
            core.text = Vec::new();
            core.flat = Vec::new();
        }
        status
    }

    /// How the run ended that has failed. The error is on top of the stack.
    fn ending(&mut self, name: &[u8]) -> Ending {
        if self.core().is_unwinding {
            return Ending::Unwind;
        }
        if !self.core().failure.is_described {
            let message = self.message();
            self.core().failure.message = message.clone();
            return Ending::Error {
                error: error::script_failed(name, &message[..message.len().min(100)]),
                is_counted: false,
            };
        }
        let failure = &self.core().failure;
        let mut text = failure.message.clone();
        if let Some((source, line)) = &failure.place {
            text.extend_from_slice(b" script: ");
            text.extend_from_slice(name);
            text.extend_from_slice(b", on ");
            text.extend_from_slice(source);
            text.extend_from_slice(format!(":{line}.").as_bytes());
        }
        Ending::Error {
            error: ReplyError::owned(text),
            is_counted: failure.is_counted,
        }
    }

    /// The text on top of the stack.
    fn message(&mut self) -> Vec<u8> {
        // SAFETY: strings are only read.
        unsafe { bytes_at(self.thread, -1) }
            .unwrap_or(b"execution failure")
            .to_vec()
    }

    /// After a failure: clears the stack, and collects what a script has left that has run out of memory.
    fn settle(&mut self) {
        let (thread, core) = (self.thread, self.core());
        let is_full = core.used_bytes > core.bytes_max / 2;
        // SAFETY: there are no finalizers that could raise in a collection.
        unsafe {
            ffi::lua_settop(thread, RUNNER);
            if is_full {
                Core::collect(thread);
            }
        }
    }

    /// Calls a function with this pointer; false: it has raised, and the error is on top of the stack.
    fn protected(&mut self, function: Function, data: *mut c_void) -> bool {
        // SAFETY: the callers pass the pointers that their functions expect.
        unsafe { ffi::lua_cpcall(self.thread, function, data) == ffi::LUA_OK }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // SAFETY: nothing runs; the interpreter gives its memory back to the core's account, and the core goes last.
        unsafe {
            ffi::lua_close(self.thread);
            drop(Box::from_raw(self.core.as_ptr()));
        }
    }
}

struct SetUp {
    purpose: Purpose,
    globals: Option<Globals>,
}

unsafe extern "C-unwind" fn run_set_up(thread: Thread) -> c_int {
    // SAFETY: `Vm::new` passes this.
    unsafe {
        let set_up = &mut *ffi::lua_touserdata(thread, 1).cast::<SetUp>();
        set_up.globals = Some(sandbox::set_up(thread, set_up.purpose));
    }
    0
}

struct Compilation<'a> {
    text: &'a [u8],
    name: &'a CStr,
    function: Compiled,
}

unsafe extern "C-unwind" fn run_compilation(thread: Thread) -> c_int {
    // SAFETY: `Vm::compile` passes this.
    unsafe {
        let compilation = &mut *ffi::lua_touserdata(thread, 1).cast::<Compilation<'_>>();
        if !compile(thread, compilation.text, compilation.name) {
            ffi::lua_error(thread);
        }
        compilation.function = ffi::luaL_ref(thread, ffi::LUA_REGISTRYINDEX);
    }
    0
}

unsafe extern "C-unwind" fn run_release(thread: Thread) -> c_int {
    // SAFETY: `Vm::release` passes this.
    unsafe {
        let function = *ffi::lua_touserdata(thread, 1).cast::<Compiled>();
        ffi::luaL_unref(thread, ffi::LUA_REGISTRYINDEX, function);
    }
    0
}

unsafe extern "C-unwind" fn run_reading(thread: Thread) -> c_int {
    // SAFETY: `Vm::load` passes this.
    unsafe {
        let (globals, is_loading) = *ffi::lua_touserdata(thread, 1).cast::<(Globals, bool)>();
        sandbox::read_from(thread, globals, is_loading);
    }
    0
}

/// The runner: calls a compiled function with its keys and arguments, and writes what it returns.
unsafe extern "C-unwind" fn run(thread: Thread) -> c_int {
    // SAFETY: `Vm::call` passes a run, which outlives this call. It is borrowed from outside the protected call, so nothing of it is dropped here.
    unsafe {
        let run = &mut *ffi::lua_touserdata(thread, 1).cast::<Run<'_, '_>>();
        match run.globals {
            Some(globals) => {
                ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, globals.real);
                push_bytes(thread, b"KEYS");
                push_list(thread, run.keys);
                ffi::lua_rawset(thread, -3);
                push_bytes(thread, b"ARGV");
                push_list(thread, run.args);
                ffi::lua_rawset(thread, -3);
                ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, run.function);
                ffi::lua_call(thread, 0, 1);
            }
            None => {
                ffi::lua_rawgeti_(thread, ffi::LUA_REGISTRYINDEX, run.function);
                push_list(thread, run.keys);
                push_list(thread, run.args);
                ffi::lua_call(thread, 2, 1);
            }
        }
        // What the result does not need goes: it may be as deep as the stack is high, to the level as in Redis.
        ffi::lua_insert(thread, 2);
        ffi::lua_settop(thread, 2);
        write_value(thread, run.reply, run.levels);
    }
    0
}

/// # Safety
/// May raise.
unsafe fn push_list(thread: Thread, list: &[&[u8]]) {
    // SAFETY: as the caller promises.
    unsafe {
        ffi::lua_createtable(thread, list.len() as c_int, 0);
        for (index, text) in list.iter().enumerate() {
            push_bytes(thread, text);
            ffi::lua_rawseti_(thread, -2, index as c_int + 1);
        }
    }
}

/// The handler of errors that nothing has caught: keeps the message and the place in the core, while the stack still shows where it was.
unsafe extern "C-unwind" fn describe(thread: Thread) -> c_int {
    // SAFETY: called by Lua with the error. What may raise is done before the core is written to.
    unsafe {
        let place = place(thread);
        let is_table = ffi::lua_type(thread, 1) == ffi::LUA_TTABLE;
        let mut is_counted = false;
        if is_table {
            push_bytes(thread, IS_COUNTED.to_bytes());
            ffi::lua_rawget_(thread, 1);
            is_counted = ffi::lua_toboolean(thread, -1) != 0;
            push_bytes(thread, b"err");
            ffi::lua_rawget_(thread, 1);
            if ffi::lua_isstring(thread, -1) == 0 {
                push_bytes(thread, b"ERR unknown error");
            }
        } else {
            ffi::luaL_tolstring(thread, 1, std::ptr::null_mut());
        }
        let mut length = 0;
        let start = ffi::lua_tolstring(thread, -1, &mut length);
        let text: &[u8] = match start.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(start.cast(), length),
        };
        let failure = &mut Core::of(thread).failure;
        failure.message.clear();
        if !is_table {
            failure.message.extend_from_slice(b"ERR ");
        }
        failure.message.extend_from_slice(as_c_text(text));
        failure.is_counted = is_counted;
        failure.is_described = true;
        failure.place = place.map(|debug| {
            let source = CStr::from_ptr(debug.source).to_bytes().to_vec();
            (source, i64::from(debug.currentline))
        });
        ffi::lua_settop(thread, 1);
    }
    1
}

/// The function that has raised, or its caller, if it is not written in Lua.
///
/// # Safety
/// Called by the handler.
unsafe fn place(thread: Thread) -> Option<ffi::lua_Debug> {
    // SAFETY: Lua fills in what is asked for.
    unsafe {
        let mut debug = MaybeUninit::<ffi::lua_Debug>::zeroed().assume_init();
        for level in [1, 2] {
            if ffi::lua_getstack(thread, level, &mut debug) == 0 {
                return None;
            }
            ffi::lua_getinfo(thread, c"Slf".as_ptr(), &mut debug);
            let function = ffi::lua_tocfunction(thread, -1);
            ffi::lua_pop(thread, 1);
            // Our own runner is nothing that a script knows.
            if function.is_some_and(|function| std::ptr::fn_addr_eq(function, run as Function)) {
                return None;
            }
            if function.is_none() {
                break;
            }
        }
        Some(debug)
    }
}
