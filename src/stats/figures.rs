//! What the statistics of a shard say at one moment, or those of several together.
//!
//! A shard makes up its own ([`Stats::figures`]); whoever has asked all shards adds them up and has the sections written.

use super::{CommandStats, Counts, ErrorStats, Stats};
use crate::base::section::Section;
use crate::pubsub;
use crate::store::Attention;

/// See above.
#[derive(Default)]
pub struct StatsFigures {
    pub counts: Counts,
    pub errors: ErrorStats,
    /// Of each command, by its number; empty if nobody has asked for it.
    pub commands: Vec<CommandStats>,
    pub commands_per_second: u64,
    input_bytes_per_second: u64,
    output_bytes_per_second: u64,
    passes_per_second: u64,
    us_per_pass: u64,
    expired_stale_percent: f64,
}

impl Stats {
    /// What they say now; of each command only if that is asked for, since it is a good part of a hundred kilobytes.
    pub fn figures(&self, tells_commands: bool) -> StatsFigures {
        let commands: &[CommandStats] = if tells_commands { &self.commands } else { &[] };
        StatsFigures {
            counts: self.counts.clone(),
            errors: self.errors.clone(),
            commands: commands.iter().map(CommandStats::snapshot).collect(),
            commands_per_second: self.rates.commands_per_second(),
            input_bytes_per_second: self.rates.input_bytes_per_second(),
            output_bytes_per_second: self.rates.output_bytes_per_second(),
            passes_per_second: self.rates.passes_per_second(),
            us_per_pass: self.rates.us_per_pass(),
            expired_stale_percent: self.expired_stale_percent,
        }
    }
}

impl StatsFigures {
    /// Adds another shard's.
    pub fn add(&mut self, other: &StatsFigures) {
        self.counts.add(&other.counts);
        self.errors.add(&other.errors);
        self.commands
            .resize_with(self.commands.len().max(other.commands.len()), CommandStats::default);
        for (ours, theirs) in self.commands.iter_mut().zip(&other.commands) {
            ours.add(theirs);
        }
        self.commands_per_second += other.commands_per_second;
        self.input_bytes_per_second += other.input_bytes_per_second;
        self.output_bytes_per_second += other.output_bytes_per_second;
        self.passes_per_second += other.passes_per_second;
        self.us_per_pass = self.us_per_pass.max(other.us_per_pass);
        self.expired_stale_percent = self.expired_stale_percent.max(other.expired_stale_percent);
    }

    /// Writes what INFO says in its section of statistics.
    /// `heard` is what somebody is subscribed to, `attention` knows what clients cache; `begun_snapshots` have been begun in the background, and the cut of the last one took `cut_us` microseconds.
    pub fn write_section(
        &self,
        begun_snapshots: u64,
        cut_us: u64,
        heard: pubsub::Figures,
        attention: &Attention,
        out: &mut Section,
    ) {
        let kib = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
        let counts = &self.counts;
        counts.write_field("total_connections_received", out);
        counts.write_field("total_commands_processed", out);
        out.field("instantaneous_ops_per_sec", self.commands_per_second);
        counts.write_field("total_net_input_bytes", out);
        counts.write_field("total_net_output_bytes", out);
        out.field("total_net_repl_input_bytes", 0);
        out.field("total_net_repl_output_bytes", 0);
        out.field("instantaneous_input_kbps", kib(self.input_bytes_per_second));
        out.field("instantaneous_output_kbps", kib(self.output_bytes_per_second));
        out.field("instantaneous_input_repl_kbps", "0.00");
        out.field("instantaneous_output_repl_kbps", "0.00");
        counts.write_field("rejected_connections", out);
        counts.write_field("sync_full", out);
        counts.write_field("sync_partial_ok", out);
        counts.write_field("sync_partial_err", out);
        counts.write_field("expired_subkeys", out);
        counts.write_field("expired_keys", out);
        out.field("expired_stale_perc", format_args!("{:.2}", self.expired_stale_percent));
        counts.write_field("expired_time_cap_reached_count", out);
        counts.write_field("expire_cycle_cpu_milliseconds", out);
        counts.write_field("evicted_keys", out);
        counts.write_field("evicted_clients", out);
        counts.write_field("total_eviction_exceeded_time", out);
        out.field("current_eviction_exceeded_time", 0);
        counts.write_field("keyspace_hits", out);
        counts.write_field("keyspace_misses", out);
        out.field("pubsub_channels", heard.channels);
        out.field("pubsub_patterns", heard.patterns);
        out.field("pubsubshard_channels", heard.shard_channels);
        out.field("latest_fork_usec", cut_us);
        out.field("total_forks", begun_snapshots);
        out.field("migrate_cached_sockets", 0);
        out.field("slave_expires_tracked_keys", 0);
        out.field("active_defrag_hits", 0);
        out.field("active_defrag_misses", 0);
        out.field("active_defrag_key_hits", 0);
        out.field("active_defrag_key_misses", 0);
        out.field("total_active_defrag_time", 0);
        out.field("current_active_defrag_time", 0);
        out.field("tracking_total_keys", attention.tracked_keys());
        out.field("tracking_total_items", attention.tracked_items());
        out.field("tracking_total_prefixes", heard.prefixes);
        out.field("unexpected_error_replies", 0);
        out.field("total_error_replies", self.errors.total);
        out.field("dump_payload_sanitizations", 0);
        counts.write_field("total_reads_processed", out);
        counts.write_field("total_writes_processed", out);
        out.field("io_threaded_reads_processed", 0);
        out.field("io_threaded_writes_processed", 0);
        out.field("reply_buffer_shrinks", 0);
        out.field("reply_buffer_expands", 0);
        counts.write_field("eventloop_cycles", out);
        counts.write_field("eventloop_duration_sum", out);
        counts.write_field("eventloop_duration_cmd_sum", out);
        counts.write_field("eventloop_longest_cpu_usec", out);
        out.field("instantaneous_eventloop_cycles_per_sec", self.passes_per_second);
        out.field("instantaneous_eventloop_duration_usec", self.us_per_pass);
        counts.write_field("acl_access_denied_auth", out);
        out.field("acl_access_denied_cmd", 0);
        out.field("acl_access_denied_key", 0);
        out.field("acl_access_denied_channel", 0);
        counts.write_field("client_query_buffer_limit_disconnections", out);
        counts.write_field("client_output_buffer_limit_disconnections", out);
    }
}
