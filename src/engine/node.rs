//! The node: process-wide facts, and the few things that are changed from any shard.

use super::aof::Aof;
use super::listening::Hearers;
use super::log::LogSwitch;
use super::replication::Replication;
use super::snapshot::Snapshots;
use crate::base::clock::UnixMs;
use crate::client::ClientTable;
use crate::config::{Config, Effect, Settings};
use crate::resp::{ReplyError, error};
use crate::shard::turns::Turns;
use crate::stats::{Loading, MemoryAccount};
use crate::store::{Attention, Cut, Occupancy};
use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// See above.
pub struct Node {
    pub started_at: UnixMs,
    /// 40 hex digits, new for each process.
    pub run_id: String,
    pub shards: usize,
    pub clients: Arc<ClientTable>,
    /// How many commands there are, subcommands included.
    pub command_count: usize,
    /// The configuration as it is now; each shard has the typed settings of it (`Env::settings`).
    pub config: Mutex<Config>,
    pub executable: String,
    /// What is used now, as every shard knows it.
    pub memory: MemoryAccount,
    /// Which slots may have keys: what SCAN passes over without holding it.
    pub occupancy: Arc<Occupancy>,
    /// Who wants to be told what happens to keys, and who reads what is logged: nobody, mostly, and then neither is made up.
    pub attention: Arc<Attention>,
    /// The moment of the last snapshot.
    pub cut: Arc<Cut>,
    pub snapshots: Arc<Snapshots>,
    pub aof: Arc<Aof>,
    pub log_switch: LogSwitch,
    /// The order of all that is logged or told.
    pub turns: Arc<Turns>,
    pub hearers: Arc<Hearers>,
    /// Whose history the data set is, and who copies whom.
    pub replication: Replication,
    /// How far the data set has been read, at the start.
    pub loading: Loading,
    /// Scripts that have run for too long.
    pub busy_scripts: BusyScripts,
    /// What scripts share over all shards, which stands above the engine.
    pub scripts: OnceLock<Box<dyn Any + Send + Sync>>,
    /// Set when the process is to end: `shutdown` does it.
    pub shutdown: Mutex<Option<Shutdown>>,
    /// What the surroundings do for commands that change them (listeners, log file, limits).
    pub surroundings: Box<dyn Surroundings>,
}

/// How many scripts have run for longer than `busy-reply-threshold`: while there are any, most commands are refused.
#[derive(Debug, Default)]
pub struct BusyScripts {
    scripts: AtomicUsize,
    functions: AtomicUsize,
}

impl BusyScripts {
    /// One more; `is_function`: one of a library's.
    pub fn begin(&self, is_function: bool) {
        self.of(is_function).fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended.
    pub fn end(&self, is_function: bool) {
        self.of(is_function).fetch_sub(1, Ordering::Relaxed);
    }

    /// What others are answered, if there is any.
    #[inline]
    pub fn refusal(&self) -> Option<ReplyError> {
        let any = |is_function| self.of(is_function).load(Ordering::Relaxed) > 0;
        match () {
            () if any(false) => Some(error::BUSY_SCRIPT),
            () if any(true) => Some(error::BUSY_FUNCTION),
            () => None,
        }
    }

    fn of(&self, is_function: bool) -> &AtomicUsize {
        match is_function {
            true => &self.functions,
            false => &self.scripts,
        }
    }
}

/// How the process is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shutdown {
    pub nosave: bool,
    pub save: bool,
    pub now: bool,
    pub force: bool,
    /// Somebody is at it.
    pub has_begun: bool,
}

/// What commands ask of the process around the shards.
pub trait Surroundings: Send + Sync {
    /// Gives effect to a changed parameter that reaches beyond the shards. The error is the reason that CONFIG SET answers.
    fn apply(&self, effect: Effect, settings: &Settings) -> Result<(), String>;
    /// Ends the process's service: called when all has been saved that is to be saved.
    fn shut_down(&self);
    /// Ends the process now, whatever its threads are at.
    fn end_now(&self) -> !;
}

impl Node {
    pub fn lock_config(&self) -> std::sync::MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
