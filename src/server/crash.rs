//! The report of a panic: a broken invariant ends the process, and this is what it leaves behind.
//!
//! A shard that has lost an invariant must not go on acknowledging writes, so a panic aborts. Before, the report goes to
//! the log, under the heading that supervisors look for. (Crashes by a signal are [`fault`]'s.)

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fmt::Write as _;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fault;
use super::log::Log;
use crate::config::Settings;
use crate::engine::Registry;
use crate::engine::run::last_command;

thread_local! {
    /// What the thread was doing, for the report; none on threads that run no commands.
    static NOTES: Cell<Option<Notes>> = const { Cell::new(None) };
}

/// What a shard's loop notes at the beginning of each pass.
#[derive(Clone, Copy, Debug)]
pub struct Notes {
    pub shard: usize,
    pub clients: usize,
    pub queued_events: usize,
}

/// Notes what this thread is doing.
pub fn note(notes: Notes) {
    NOTES.set(Some(notes));
}

/// What this thread has noted last.
pub fn notes() -> Option<Notes> {
    NOTES.get()
}

/// `use-exit-on-panic`: whether a panic ends the process with status 1 instead of SIGABRT.
static EXITS: AtomicBool = AtomicBool::new(false);

/// Follows the parameters that say what a crash does.
pub fn follow(settings: &Settings) {
    fault::set_enabled(settings.crash_log_enabled);
    EXITS.store(settings.use_exit_on_panic, Ordering::Relaxed);
}

/// Installs the reports, of panics and of signals.
pub fn install(log: &Log, registry: &'static Registry) {
    fault::install(log.descriptor(), registry);
    let log = log.clone();
    std::panic::set_hook(Box::new(move |info| {
        if fault::is_enabled() {
            log.write_always(&report(info, registry));
        } else {
            tracing::error!("shardis {} crashed: {info}", env!("CARGO_PKG_VERSION"));
        }
        fault::skip_report();
        if EXITS.load(Ordering::Relaxed) {
            std::process::exit(1);
        }
        std::process::abort();
    }));
}

fn report(info: &PanicHookInfo<'_>, registry: &Registry) -> String {
    let mut text = String::from("\n\n=== REDIS BUG REPORT START: Cut & paste starting from here ===\n");
    let thread = std::thread::current();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "shardis {} crashed: {info}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(
        text,
        "redis_version:{} pid:{}",
        crate::config::REDIS_VERSION,
        std::process::id()
    );
    let _ = writeln!(text, "thread: {}", thread.name().unwrap_or("unnamed"));
    match NOTES.get() {
        Some(notes) => {
            let command = last_command().map_or("none", |id| registry.get(id).full_name.as_str());
            let _ = writeln!(
                text,
                "shard: {} last command: {command} clients: {} events of this pass: {}",
                notes.shard, notes.clients, notes.queued_events
            );
        }
        None => {
            let _ = writeln!(text, "shard: none");
        }
    }
    let _ = writeln!(text, "\n------ STACK TRACE ------\n{}", Backtrace::force_capture());
    text.push_str("=== REDIS BUG REPORT END. Make sure to include from START to END. ===\n");
    text
}
