//! What one shard reports of itself.

use crate::command::server::memory::TABLE_BYTES_EACH;
use crate::engine::Local;
use crate::stats::{CommandStats, Counts, ErrorStats};
use std::collections::BTreeMap;

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
    pub counts: Counts,
    pub commands_per_second: u64,
    pub input_bytes_per_second: u64,
    pub output_bytes_per_second: u64,
    pub expired_stale_percent: f64,
    pub lazy_pending_objects: usize,
    pub passes_per_second: u64,
    pub us_per_pass: u64,
    pub slow_log_len: usize,
}

impl Report {
    /// What `local` reports now.
    pub fn of(local: &mut Local) -> Report {
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
        report.commands = stats.commands.iter().map(CommandStats::snapshot).collect();
        report.errors = stats.errors.clone();
        report.counts = stats.counts.clone();
        report.commands_per_second = stats.rates.commands_per_second();
        report.input_bytes_per_second = stats.rates.input_bytes_per_second();
        report.output_bytes_per_second = stats.rates.output_bytes_per_second();
        report.expired_stale_percent = stats.expired_stale_percent;
        report.lazy_pending_objects = local.env.garbage.pending_count();
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
        self.counts.add(&other.counts);
        self.clients += other.clients;
        self.clients_watching += other.clients_watching;
        self.watched_keys += other.watched_keys;
        self.query_bytes_max = self.query_bytes_max.max(other.query_bytes_max);
        self.output_bytes_max = self.output_bytes_max.max(other.output_bytes_max);
        self.client_bytes += other.client_bytes;
        self.commands_per_second += other.commands_per_second;
        self.input_bytes_per_second += other.input_bytes_per_second;
        self.output_bytes_per_second += other.output_bytes_per_second;
        self.expired_stale_percent = self.expired_stale_percent.max(other.expired_stale_percent);
        self.lazy_pending_objects += other.lazy_pending_objects;
        self.passes_per_second += other.passes_per_second;
        self.us_per_pass = self.us_per_pass.max(other.us_per_pass);
        self.slow_log_len += other.slow_log_len;
    }
}
