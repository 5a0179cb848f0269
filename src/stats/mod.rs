//! What one shard counts: calls, errors, latencies, slow commands, bytes.
//!
//! Every shard counts for itself, in plain integers; INFO and its relatives ask all shards and add up. Nothing here is
//! shared, so counting costs an addition. A command is counted on the shard that ran it.
//!
//! Units: `*_us` microseconds, `*_bytes` bytes. The meaning of each figure is that of the INFO field of the same name.

mod allocator;
mod commands;
mod latency;
mod memory;
mod rate;
mod slow_log;

pub use allocator::{ALL_ARENAS, Memory, allocator_figure};
pub use commands::{CommandStats, ErrorStats};
pub use latency::{LatencyEvent, LatencyMonitor};
pub use memory::{CLIENT_CLASS_COUNT, MemoryAccount, client_class};
pub use rate::{Counters, Rates};
pub use slow_log::{SlowEntry, SlowLog, next_slow_id};

use crate::base::clock::UnixMs;
use crate::config::Settings;
use crate::data::access::AccessPolicy;
use crate::resp::{Args, ReplyError};

/// One shard's counters.
pub struct Stats {
    pub commands: Vec<CommandStats>,
    pub errors: ErrorStats,
    pub slow_log: SlowLog,
    pub latency: LatencyMonitor,
    pub rates: Rates,
    /// Commands that were run, rejected ones not included.
    pub commands_processed: u64,
    pub connections_received: u64,
    pub rejected_connections: u64,
    pub input_bytes: u64,
    pub output_bytes: u64,
    pub keyspace_hits: u64,
    pub keyspace_misses: u64,
    pub expired_keys: u64,
    /// Fields of hashes that were deleted because their time was over.
    pub expired_subkeys: u64,
    pub evicted_keys: u64,
    pub evicted_clients: u64,
    /// Microseconds during which memory was above its limit because eviction had run out of time.
    pub eviction_exceeded_us: u64,
    /// Microseconds spent in active expiry.
    pub active_expire_us: u64,
    /// Share of the keys looked at by active expiry that had expired, in per cent, as a moving average.
    pub expired_stale_percent: f64,
    /// How often active expiry ran out of time.
    pub expire_time_cap_reached: u64,
    /// Changes to the keyspace.
    pub changes: u64,
    /// Commands that this shard sent to another one.
    pub hops: u64,
    pub query_limit_disconnections: u64,
    pub output_limit_disconnections: u64,
    /// How often bytes came from a client, and how often output was handed to the network.
    pub reads_processed: u64,
    pub writes_processed: u64,
    /// Turns of the shard's loop, and the time that they took, sleeping excepted.
    pub loop_passes: u64,
    pub loop_us: u64,
    /// The part of it that commands took.
    pub loop_command_us: u64,
    /// Time that commands took.
    pub command_us: u64,
    pub lazy_freed_objects: u64,
    pub acl_denied_auth: u64,
    /// How accesses to keys are counted (`maxmemory-policy`, `lfu-*`).
    pub access_policy: AccessPolicy,
    /// `slowlog-log-slower-than`; negative: never.
    pub slow_limit_us: i64,
    is_tracking_latency: bool,
    /// Slow commands whose client is still to be named.
    slow_entries: Vec<SlowEntry>,
}

impl Stats {
    /// Zeros, for a registry of that many commands.
    pub fn new(command_count: usize) -> Stats {
        Stats {
            commands: (0..command_count).map(|_| CommandStats::default()).collect(),
            errors: ErrorStats::default(),
            slow_log: SlowLog::default(),
            latency: LatencyMonitor::default(),
            rates: Rates::default(),
            commands_processed: 0,
            connections_received: 0,
            rejected_connections: 0,
            input_bytes: 0,
            output_bytes: 0,
            keyspace_hits: 0,
            keyspace_misses: 0,
            expired_keys: 0,
            expired_subkeys: 0,
            evicted_keys: 0,
            evicted_clients: 0,
            eviction_exceeded_us: 0,
            active_expire_us: 0,
            expired_stale_percent: 0.0,
            expire_time_cap_reached: 0,
            changes: 0,
            hops: 0,
            query_limit_disconnections: 0,
            output_limit_disconnections: 0,
            reads_processed: 0,
            writes_processed: 0,
            loop_passes: 0,
            loop_us: 0,
            loop_command_us: 0,
            command_us: 0,
            lazy_freed_objects: 0,
            acl_denied_auth: 0,
            access_policy: AccessPolicy::Lru,
            slow_limit_us: 10_000,
            is_tracking_latency: true,
            slow_entries: Vec::new(),
        }
    }

    /// Takes over the parameters that say what is counted.
    pub fn follow(&mut self, settings: &Settings) {
        self.slow_limit_us = settings.slowlog_log_slower_than;
        self.is_tracking_latency = settings.latency_tracking;
        self.slow_log.set_capacity(settings.slowlog_max_len as usize);
        self.latency.set_threshold_ms(settings.latency_monitor_threshold);
        self.access_policy = access_policy(settings);
    }

    /// A command ran and took that long.
    #[inline]
    pub fn count_call(&mut self, id: u16, elapsed_us: u64) {
        self.commands_processed += 1;
        self.command_us += elapsed_us;
        self.commands[id as usize].record(elapsed_us, self.is_tracking_latency);
    }

    /// A turn of the loop ended that began when commands had taken `command_us_before`.
    #[inline]
    pub fn count_pass(&mut self, elapsed_us: u64, command_us_before: u64) {
        self.loop_passes += 1;
        self.loop_us += elapsed_us;
        self.loop_command_us += self.command_us.saturating_sub(command_us_before);
    }

    /// A command ran and answered an error.
    pub fn count_failure(&mut self, id: u16, elapsed_us: u64) {
        self.count_call(id, elapsed_us);
        self.commands[id as usize].failed_calls += 1;
    }

    /// A command was refused before it ran.
    pub fn count_rejection(&mut self, id: u16) {
        self.commands[id as usize].rejected_calls += 1;
    }

    /// An error was answered.
    pub fn count_error(&mut self, error: &ReplyError) {
        self.errors.count(&error.code());
    }

    /// Puts a slow command aside: whoever knows its client takes it from here to the log.
    #[cold]
    pub fn note_slow(&mut self, args: Args, secrets: &[usize], elapsed_us: u64, now: UnixMs) {
        self.slow_entries.push(SlowEntry::new(args, secrets, elapsed_us, now));
    }

    /// Whether slow commands wait for [`Stats::take_slow_entries`].
    #[inline]
    pub fn has_slow_entries(&self) -> bool {
        !self.slow_entries.is_empty()
    }

    /// The slow commands put aside.
    pub fn take_slow_entries(&mut self) -> Vec<SlowEntry> {
        std::mem::take(&mut self.slow_entries)
    }

    /// Puts back what [`Stats::take_slow_entries`] took.
    pub fn put_slow_entries_back(&mut self, entries: Vec<SlowEntry>) {
        self.slow_entries = entries;
    }

    /// `CONFIG RESETSTAT`.
    pub fn reset(&mut self) {
        let fresh = Stats::new(self.commands.len());
        let slow_log = std::mem::take(&mut self.slow_log);
        let latency = std::mem::take(&mut self.latency);
        *self = Stats {
            slow_log,
            latency,
            changes: self.changes,
            access_policy: self.access_policy,
            slow_limit_us: self.slow_limit_us,
            is_tracking_latency: self.is_tracking_latency,
            ..fresh
        };
    }
}

fn access_policy(settings: &Settings) -> AccessPolicy {
    use crate::config::MaxmemoryPolicy;
    if matches!(
        settings.maxmemory_policy,
        MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu
    ) {
        AccessPolicy::Lfu {
            log_factor: settings.lfu_log_factor,
            decay_minutes: settings.lfu_decay_time,
        }
    } else {
        AccessPolicy::Lru
    }
}
