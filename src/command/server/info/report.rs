//! What one shard reports of itself, and what the process knows of its memory.

use crate::command::server::memory::{ALL_ARENAS, TABLE_BYTES_EACH, allocator_figure};
use crate::command::{Local, Node};
use crate::stats::{CommandStats, ErrorStats};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::Ordering;

/// Keys of one db.
#[derive(Clone, Copy, Debug, Default)]
pub struct DbReport {
    pub keys: usize,
    pub expires: usize,
    pub expiry_sum_ms: u128,
}

/// One shard's figures, or the sum of several.
#[derive(Default)]
pub struct Report {
    pub shard: usize,
    pub slots_owned: usize,
    pub slots_seen: usize,
    pub dbs: BTreeMap<u32, DbReport>,
    pub keyspace_bytes: usize,
    pub table_bytes: usize,
    pub commands: Vec<CommandStats>,
    pub errors: ErrorStats,
    pub clients: usize,
    pub clients_watching: usize,
    pub watched_keys: usize,
    pub query_bytes_max: usize,
    pub output_bytes_max: usize,
    pub client_bytes: usize,
    pub commands_processed: u64,
    pub connections_received: u64,
    pub rejected_connections: u64,
    pub input_bytes: u64,
    pub output_bytes: u64,
    pub commands_per_second: u64,
    pub input_bytes_per_second: u64,
    pub output_bytes_per_second: u64,
    pub keyspace_hits: u64,
    pub keyspace_misses: u64,
    pub expired_keys: u64,
    pub expired_subkeys: u64,
    pub evicted_keys: u64,
    pub evicted_clients: u64,
    pub eviction_exceeded_us: u64,
    pub expired_stale_percent: f64,
    pub expire_time_cap_reached: u64,
    pub active_expire_us: u64,
    pub changes: u64,
    pub hops: u64,
    pub query_limit_disconnections: u64,
    pub output_limit_disconnections: u64,
    pub lazy_freed_objects: u64,
    pub lazy_pending_objects: usize,
    pub acl_denied_auth: u64,
    pub reads_processed: u64,
    pub writes_processed: u64,
    pub loop_passes: u64,
    pub loop_us: u64,
    pub loop_command_us: u64,
    pub passes_per_second: u64,
    pub us_per_pass: u64,
    pub slow_log_len: usize,
}

impl Report {
    /// What `local` reports now; of each command only if that is asked for.
    pub fn of(local: &mut Local, tells_commands: bool) -> Report {
        let mut report = Report {
            shard: local.env.shard.0 as usize,
            ..Report::default()
        };
        report.slots_owned = (0..crate::base::slot::SLOT_COUNT as u16)
            .filter(|&slot| local.core.owner(slot) == local.env.shard)
            .count();
        for (_, slot) in local.core.contents_here() {
            report.slots_seen += 1;
            if slot.key_count() == 0 {
                continue;
            }
            report.keyspace_bytes += slot.used_bytes();
            for db in slot.dbs() {
                let sum = report.dbs.entry(db.0).or_default();
                sum.keys += slot.len(db);
                report.table_bytes += slot.len(db) * TABLE_BYTES_EACH;
                sum.expires += slot.expires(db);
                sum.expiry_sum_ms += slot.expiry_sum_ms(db);
            }
        }
        for client in local.clients.iter() {
            report.clients += 1;
            report.clients_watching += usize::from(!client.watched.is_empty());
            report.watched_keys += client.watched.len();
            let memory = client.memory();
            let query_bytes = memory.arriving_bytes + memory.query_bytes + memory.query_free_bytes;
            report.query_bytes_max = report.query_bytes_max.max(query_bytes);
            report.output_bytes_max = report.output_bytes_max.max(memory.waiting_bytes + memory.behind_bytes);
            report.client_bytes += memory.total_bytes;
        }
        let stats = &local.env.stats;
        if tells_commands {
            report.commands = stats.commands.iter().map(CommandStats::snapshot).collect();
        }
        report.errors = stats.errors.clone();
        report.commands_processed = stats.commands_processed;
        report.connections_received = stats.connections_received;
        report.rejected_connections = stats.rejected_connections;
        report.input_bytes = stats.input_bytes;
        report.output_bytes = stats.output_bytes;
        report.commands_per_second = stats.rates.commands_per_second();
        report.input_bytes_per_second = stats.rates.input_bytes_per_second();
        report.output_bytes_per_second = stats.rates.output_bytes_per_second();
        report.keyspace_hits = stats.keyspace_hits;
        report.keyspace_misses = stats.keyspace_misses;
        report.expired_keys = stats.expired_keys;
        report.expired_subkeys = stats.expired_subkeys;
        report.evicted_keys = stats.evicted_keys;
        report.evicted_clients = stats.evicted_clients;
        report.eviction_exceeded_us = stats.eviction_exceeded_us;
        report.expired_stale_percent = stats.expired_stale_percent;
        report.expire_time_cap_reached = stats.expire_time_cap_reached;
        report.active_expire_us = stats.active_expire_us;
        report.changes = stats.changes;
        report.hops = stats.hops;
        report.query_limit_disconnections = stats.query_limit_disconnections;
        report.output_limit_disconnections = stats.output_limit_disconnections;
        report.lazy_freed_objects = stats.lazy_freed_objects;
        report.lazy_pending_objects = local.env.garbage.pending_count();
        report.acl_denied_auth = stats.acl_denied_auth;
        report.reads_processed = stats.reads_processed;
        report.writes_processed = stats.writes_processed;
        report.loop_passes = stats.loop_passes;
        report.loop_us = stats.loop_us;
        report.loop_command_us = stats.loop_command_us;
        report.passes_per_second = stats.rates.passes_per_second();
        report.us_per_pass = stats.rates.us_per_pass();
        report.slow_log_len = stats.slow_log.len();
        report
    }

    /// Adds another shard's figures.
    pub fn add(&mut self, other: &Report) {
        self.slots_owned += other.slots_owned;
        self.slots_seen += other.slots_seen;
        for (db, theirs) in &other.dbs {
            let ours = self.dbs.entry(*db).or_default();
            ours.keys += theirs.keys;
            ours.expires += theirs.expires;
            ours.expiry_sum_ms += theirs.expiry_sum_ms;
        }
        self.keyspace_bytes += other.keyspace_bytes;
        self.table_bytes += other.table_bytes;
        self.commands
            .resize_with(self.commands.len().max(other.commands.len()), CommandStats::default);
        for (ours, theirs) in self.commands.iter_mut().zip(&other.commands) {
            ours.add(theirs);
        }
        self.errors.add(&other.errors);
        self.clients += other.clients;
        self.clients_watching += other.clients_watching;
        self.watched_keys += other.watched_keys;
        self.query_bytes_max = self.query_bytes_max.max(other.query_bytes_max);
        self.output_bytes_max = self.output_bytes_max.max(other.output_bytes_max);
        self.client_bytes += other.client_bytes;
        self.commands_processed += other.commands_processed;
        self.connections_received += other.connections_received;
        self.rejected_connections += other.rejected_connections;
        self.input_bytes += other.input_bytes;
        self.output_bytes += other.output_bytes;
        self.commands_per_second += other.commands_per_second;
        self.input_bytes_per_second += other.input_bytes_per_second;
        self.output_bytes_per_second += other.output_bytes_per_second;
        self.keyspace_hits += other.keyspace_hits;
        self.keyspace_misses += other.keyspace_misses;
        self.expired_keys += other.expired_keys;
        self.expired_subkeys += other.expired_subkeys;
        self.evicted_keys += other.evicted_keys;
        self.evicted_clients += other.evicted_clients;
        self.eviction_exceeded_us = self.eviction_exceeded_us.max(other.eviction_exceeded_us);
        self.expired_stale_percent = self.expired_stale_percent.max(other.expired_stale_percent);
        self.expire_time_cap_reached += other.expire_time_cap_reached;
        self.active_expire_us += other.active_expire_us;
        self.changes += other.changes;
        self.hops += other.hops;
        self.query_limit_disconnections += other.query_limit_disconnections;
        self.output_limit_disconnections += other.output_limit_disconnections;
        self.lazy_freed_objects += other.lazy_freed_objects;
        self.lazy_pending_objects += other.lazy_pending_objects;
        self.acl_denied_auth += other.acl_denied_auth;
        self.reads_processed += other.reads_processed;
        self.writes_processed += other.writes_processed;
        self.loop_passes += other.loop_passes;
        self.loop_us += other.loop_us;
        self.loop_command_us += other.loop_command_us;
        self.passes_per_second += other.passes_per_second;
        self.us_per_pass = self.us_per_pass.max(other.us_per_pass);
        self.slow_log_len += other.slow_log_len;
    }
}

/// The process's memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Taken from the allocator by the program, as all shards know it.
    pub used: usize,
    /// What of it does not count against `maxmemory`.
    pub not_counted: usize,
    /// The same as the allocator says.
    pub allocated: usize,
    pub peak: usize,
    /// What the program took before it served anyone.
    pub startup: usize,
    pub active: usize,
    pub allocator_resident: usize,
    pub resident: usize,
    pub system_total: usize,
}

impl Memory {
    /// Reads the allocator's statistics and the kernel's.
    pub fn read(node: &Node) -> Memory {
        use tikv_jemalloc_ctl::{epoch, stats};
        // The statistics are a snapshot that is renewed by advancing the epoch. An allocator without them (tests run on
        // the system's) counts as zero.
        let _ = epoch::advance();
        // What threads have freed and keep for their next allocations counts as allocated.
        let cached = allocator_figure(&format!("stats.arenas.{ALL_ARENAS}.tcache_bytes"));
        let allocated = stats::allocated::read().unwrap_or(0).saturating_sub(cached as usize);
        // What is compared with `maxmemory`, without what whoever reads this has taken to find out.
        let used = match node.memory.used_bytes() {
            0 => allocated,
            known => known,
        };
        let peak = node.memory_peak.fetch_max(used, Ordering::Relaxed).max(used);
        Memory {
            used,
            not_counted: node.memory.under_way_bytes(),
            allocated,
            peak,
            startup: node.memory_at_start.load(Ordering::Relaxed).min(used),
            active: stats::active::read().unwrap_or(0),
            allocator_resident: stats::resident::read().unwrap_or(0),
            resident: resident_bytes(),
            system_total: system_bytes(),
        }
    }
}

/// Resident bytes of the process (`/proc/self/statm`).
fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages
        .as_deref()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<usize>().ok());
    let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .unwrap_or(4096);
    pages.unwrap_or(0) * page_bytes as usize
}

/// Memory of the machine (`/proc/meminfo`).
fn system_bytes() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse()
            .ok()
    });
    kib.unwrap_or(0usize) * 1024
}
