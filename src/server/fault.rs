//! The report of a crash by a signal: a memory fault, an illegal instruction, an abort from below.
//!
//! What runs in a signal handler may have interrupted anything, the allocator and the log's lock included. So the report
//! is put together on the stack and written to the log's descriptor with write(2), the most useful lines first; the stack
//! trace, which asks most of a process that is damaged, comes last. It is addresses (`addr2line -e shardis` names the
//! places). Then the signal's default action ends the process, so that its status shows the signal and a core is written.
//!
//! Invariants:
//! 1. one report: of several threads that fault the first one writes, and a fault within the report ends the process;
//! 2. nothing here allocates or locks. (glibc's backtrace does when it is first called; so it is called at the start.)

use crate::config::REDIS_VERSION;
use crate::engine::Registry;
use crate::engine::run::last_command;
use nix::libc;
use std::ffi::{CStr, c_int, c_void};
use std::fmt::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// What ends the process with a report.
const SIGNALS: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// The handler's own stack, for each shard: a stack that has overflowed is no place for it, and what the standard library
/// sets aside (8 KiB) is too small for a stack trace.
const STACK_BYTES: usize = 128 * 1024;

/// How long a thread that faults too waits for the report of the first.
const OTHER_REPORT_S: libc::time_t = 5;

const STACK_FRAMES_MAX: usize = 100;

static IS_ENABLED: AtomicBool = AtomicBool::new(true);
static LOG_DESCRIPTOR: AtomicI32 = AtomicI32::new(libc::STDOUT_FILENO);
static REGISTRY: OnceLock<&'static Registry> = OnceLock::new();
/// The thread that writes a report; 0: none yet.
static REPORTER: AtomicI32 = AtomicI32::new(0);

/// `crash-log-enabled`.
pub fn set_enabled(is_enabled: bool) {
    IS_ENABLED.store(is_enabled, Ordering::Relaxed);
}

/// Whether a crash is to be reported.
pub fn is_enabled() -> bool {
    IS_ENABLED.load(Ordering::Relaxed)
}

/// Says that the calling thread has reported its crash by itself: the signal that ends it needs no report.
pub fn skip_report() {
    REPORTER.store(thread_id(), Ordering::Relaxed);
}

/// Installs the handler; reports go to this descriptor.
pub fn install(log_descriptor: c_int, registry: &'static Registry) {
    LOG_DESCRIPTOR.store(log_descriptor, Ordering::Relaxed);
    // A second server in one process (tests) reports with the registry of the first.
    let _ = REGISTRY.set(registry);
    trace(&mut [std::ptr::null_mut(); 1]);
    give_stack();
    // SAFETY: the structure is plain data, for which zeros are a value; every field that matters is set. The handler has
    // the type that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        for signal in SIGNALS {
            // Fails for no signal of the list.
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Gives the calling thread a stack for the handler, as long as the process. It is mapped and not allocated, as other stacks are: it
/// costs no memory until it is used, and is nothing that `maxmemory` could be about.
pub fn give_stack() {
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory that exists; it is never unmapped and
    // never used for anything else.
    unsafe {
        let start = libc::mmap(
            std::ptr::null_mut(),
            STACK_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if start == libc::MAP_FAILED {
            // The handler then runs on the stack of the thread, which does for all faults but its overflow.
            return;
        }
        let stack = libc::stack_t {
            ss_sp: start,
            ss_flags: 0,
            ss_size: STACK_BYTES,
        };
        libc::sigaltstack(&raw const stack, std::ptr::null_mut());
    }
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let this_thread = thread_id();
    match REPORTER.compare_exchange(0, this_thread, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) if is_enabled() => {
            // SAFETY: the kernel hands a handler with SA_SIGINFO valid pointers to both.
            let (info, context) = unsafe { (&*info, &*context.cast::<libc::ucontext_t>()) };
            report(signal, info, context);
        }
        Err(reporter) if reporter != this_thread => {
            let rest = libc::timespec {
                tv_sec: OTHER_REPORT_S,
                tv_nsec: 0,
            };
            // SAFETY: the structure is valid; what is left of the time is not asked for.
            unsafe { libc::nanosleep(&raw const rest, std::ptr::null_mut()) };
        }
        _ => {}
    }
    // SAFETY: plain system calls on valid structures. The signal is blocked while its handler runs, so it is unblocked to
    // end the process here, and not at the end of whatever comes after.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::raise(signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

fn report(signal: c_int, info: &libc::siginfo_t, context: &libc::ucontext_t) {
    let mut page = Page::new();
    // Writing to a page cannot fail.
    let _ = head(&mut page, signal, info, context);
    page.flush();
    let _ = registers(&mut page, context);
    page.line("\n------ STACK TRACE ------\n");
    page.flush();
    let mut frames = [std::ptr::null_mut(); STACK_FRAMES_MAX];
    let count = trace(&mut frames);
    write_frames(&frames[..count]);
    page.line("\n=== REDIS BUG REPORT END. Make sure to include from START to END. ===\n");
    page.flush();
}

fn head(page: &mut Page, signal: c_int, info: &libc::siginfo_t, context: &libc::ucontext_t) -> fmt::Result {
    page.line("\n\n=== REDIS BUG REPORT START: Cut & paste starting from here ===\n");
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        page,
        "shardis {version} crashed by signal: {signal} ({}), si_code: {}",
        name(signal),
        info.si_code
    )?;
    if info.si_code <= 0 {
        // SAFETY: signals that a process has sent have the sender's ids (sigaction(2)).
        let (pid, uid) = unsafe { (info.si_pid(), info.si_uid()) };
        writeln!(page, "Killed by PID: {pid}, UID: {uid}")?;
    } else {
        // SAFETY: the faults of SIGNALS have an address; the kernel sets it for all signals that it sends by itself.
        writeln!(page, "Accessing address: {:p}", unsafe { info.si_addr() })?;
    }
    writeln!(page, "Crashed running the instruction at: {:#x}", instruction(context))?;
    // SAFETY: a plain system call.
    let pid = unsafe { libc::getpid() };
    writeln!(page, "redis_version:{REDIS_VERSION} pid:{pid}")?;
    let mut name = [0u8; 17];
    // SAFETY: PR_GET_NAME writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let name = CStr::from_bytes_until_nul(&name).map_or("", |name| name.to_str().unwrap_or(""));
    writeln!(page, "thread: {name}")?;
    match super::crash::notes() {
        Some(notes) => {
            let command = last_command().zip(REGISTRY.get());
            let command = command.map_or("none", |(id, registry)| registry.get(id).full_name.as_str());
            writeln!(
                page,
                "shard: {} last command: {command} clients: {} events of this pass: {}",
                notes.shard, notes.clients, notes.queued_events
            )
        }
        None => writeln!(page, "shard: none"),
    }
}

fn name(signal: c_int) -> &'static str {
    match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        _ => "SIGABRT",
    }
}

#[cfg(target_arch = "x86_64")]
fn instruction(context: &libc::ucontext_t) -> i64 {
    context.uc_mcontext.gregs[libc::REG_RIP as usize]
}

#[cfg(target_arch = "aarch64")]
fn instruction(context: &libc::ucontext_t) -> u64 {
    context.uc_mcontext.pc
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction(_: &libc::ucontext_t) -> u64 {
    0
}

#[cfg(target_arch = "x86_64")]
fn registers(page: &mut Page, context: &libc::ucontext_t) -> fmt::Result {
    const NAMES: [(&str, c_int); 17] = [
        ("RAX", libc::REG_RAX),
        ("RBX", libc::REG_RBX),
        ("RCX", libc::REG_RCX),
        ("RDX", libc::REG_RDX),
        ("RDI", libc::REG_RDI),
        ("RSI", libc::REG_RSI),
        ("RBP", libc::REG_RBP),
        ("RSP", libc::REG_RSP),
        ("R8", libc::REG_R8),
        ("R9", libc::REG_R9),
        ("R10", libc::REG_R10),
        ("R11", libc::REG_R11),
        ("R12", libc::REG_R12),
        ("R13", libc::REG_R13),
        ("R14", libc::REG_R14),
        ("R15", libc::REG_R15),
        ("EFL", libc::REG_EFL),
    ];
    page.line("\n------ REGISTERS ------\n");
    for (index, (name, register)) in NAMES.iter().enumerate() {
        let end = if index % 4 == 3 { '\n' } else { ' ' };
        write!(
            page,
            "{name}:{:016x}{end}",
            context.uc_mcontext.gregs[*register as usize]
        )?;
    }
    page.line("\n");
    page.flush();
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn registers(_: &mut Page, _: &libc::ucontext_t) -> fmt::Result {
    Ok(())
}

/// Fills in the return addresses of the calling thread; how many there are.
#[cfg(target_env = "gnu")]
fn trace(frames: &mut [*mut c_void]) -> usize {
    // SAFETY: it writes as many addresses as it is told there is room for.
    unsafe { libc::backtrace(frames.as_mut_ptr(), frames.len() as c_int) as usize }
}

#[cfg(not(target_env = "gnu"))]
fn trace(_: &mut [*mut c_void]) -> usize {
    0
}

#[cfg(target_env = "gnu")]
fn write_frames(frames: &[*mut c_void]) {
    // SAFETY: it reads these addresses as numbers, and allocates nothing (backtrace(3)).
    unsafe {
        libc::backtrace_symbols_fd(
            frames.as_ptr(),
            frames.len() as c_int,
            LOG_DESCRIPTOR.load(Ordering::Relaxed),
        );
    }
}

#[cfg(not(target_env = "gnu"))]
fn write_frames(_: &[*mut c_void]) {}

fn thread_id() -> c_int {
    // SAFETY: a plain system call.
    unsafe { libc::gettid() }
}

/// Text on its way to the log, on the stack. What does not fit is left out.
struct Page {
    bytes: [u8; 2048],
    length: usize,
}

impl Page {
    fn new() -> Page {
        Page {
            bytes: [0; 2048],
            length: 0,
        }
    }

    fn line(&mut self, text: &str) {
        let room = &mut self.bytes[self.length..];
        let count = text.len().min(room.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count;
    }

    fn flush(&mut self) {
        let mut rest = &self.bytes[..self.length];
        while !rest.is_empty() {
            // SAFETY: the bytes are there for the length of the call.
            let count =
                unsafe { libc::write(LOG_DESCRIPTOR.load(Ordering::Relaxed), rest.as_ptr().cast(), rest.len()) };
            // A log that cannot be written has nobody to tell.
            let Ok(count @ 1..) = usize::try_from(count) else { break };
            rest = &rest[count..];
        }
        self.length = 0;
    }
}

impl fmt::Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.line(text);
        Ok(())
    }
}
