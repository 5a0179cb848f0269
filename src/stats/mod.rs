//! What one shard counts: calls, errors, latencies, slow commands, bytes.
//!
//! Every shard counts for itself, in plain integers; INFO and its relatives ask all shards and add up. What is counted so is not
//! shared, so counting costs an addition; a command is counted on the shard that ran it. Plain counters are declared once
//! ([`counters`]). Shared is only the account of memory ([`MemoryAccount`]), which every shard must know at every moment.
//!
//! Units: `*_us` microseconds, `*_bytes` bytes.

mod allocator;
mod commands;
mod counters;
mod figures;
mod latency;
mod loading;
mod memory;
mod rate;
mod slow_log;

pub use allocator::{ALL_ARENAS, Held, Memory, ScriptFigures, allocator_figure};
pub use commands::{CommandStats, ErrorStats, write_calls, write_latencies};
pub use counters::{COUNTERS, Combine, Counter, Counts};
pub use figures::StatsFigures;
pub use latency::{LatencyEvent, LatencyMonitor};
pub use loading::Loading;
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
    pub counts: Counts,
    /// Share of the keys looked at by active expiry that had expired, in per cent, as a moving average.
    pub expired_stale_percent: f64,
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
            counts: Counts::default(),
            expired_stale_percent: 0.0,
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
        self.counts.commands_processed += 1;
        self.counts.command_us += elapsed_us;
        self.commands[id as usize].record(elapsed_us, self.is_tracking_latency);
    }

    /// A turn of the loop ended that began when commands had taken `command_us_before`.
    #[inline]
    pub fn count_pass(&mut self, elapsed_us: u64, command_us_before: u64) {
        self.counts.loop_passes += 1;
        self.counts.loop_us += elapsed_us;
        self.counts.loop_command_us += self.counts.command_us.saturating_sub(command_us_before);
    }

    /// Whether it is to be measured what passes take of a CPU: that costs a call of the kernel in each.
    #[inline]
    pub fn measures_passes(&self) -> bool {
        self.latency.threshold_ms() > 0
    }

    /// A turn of the loop took so much of a CPU.
    pub fn note_pass_cpu(&mut self, cpu_us: u64) {
        self.counts.loop_longest_cpu_us = self.counts.loop_longest_cpu_us.max(cpu_us);
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
            counts: Counts {
                changes: self.counts.changes,
                ..Counts::default()
            },
            access_policy: self.access_policy,
            slow_limit_us: self.slow_limit_us,
            is_tracking_latency: self.is_tracking_latency,
            ..fresh
        };
    }
}

/// How accesses to keys are counted, by these settings.
pub fn access_policy(settings: &Settings) -> AccessPolicy {
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
