//! The node: process-wide facts, and the few things that are changed from any shard.

use super::aof::Aof;
use super::listening::Hearers;
use super::log::LogSwitch;
use super::snapshot::Snapshots;
use crate::base::clock::UnixMs;
use crate::client::ClientTable;
use crate::config::{Config, Effect, Settings};
use crate::shard::turns::Turns;
use crate::stats::{Loading, MemoryAccount};
use crate::store::{Attention, Cut, Occupancy};
use std::sync::{Arc, Mutex, PoisonError};

/// See above.
pub struct Node {
    pub started_at: UnixMs,
    /// 40 hex digits, new for each process.
    pub run_id: String,
    /// 40 hex digits: the history of the data set.
    pub replid: String,
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
    /// How far the data set has been read, at the start.
    pub loading: Loading,
    /// Set when the process is to end: `shutdown` does it.
    pub shutdown: Mutex<Option<Shutdown>>,
    /// What the surroundings do for commands that change them (listeners, log file, limits).
    pub surroundings: Box<dyn Surroundings>,
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
}

impl Node {
    pub fn lock_config(&self) -> std::sync::MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
