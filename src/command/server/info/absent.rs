//! What INFO says of subsystems that are not there yet: what a server says that does without them.
//!
//! Nothing else knows of them, so their sections stand here. Whoever builds the subsystem writes its section there, and takes it from here.

use super::Overview;
use crate::base::section::Section;

/// Nothing is saved, and what changes is only counted.
pub(super) fn persistence(overview: &Overview, out: &mut Section) {
    let loading = &overview.node.loading;
    out.field("loading", u8::from(loading.is_loading()));
    out.field("async_loading", 0);
    let key_count: usize = overview.total.keys.dbs.values().map(|db| db.keys).sum();
    let changes = overview.total.stats.counts.changes;
    overview
        .node
        .snapshots
        .write_figures(key_count as u64, changes, overview.now, out);
    out.field("rdb_last_load_keys_expired", loading.keys_expired());
    out.field("rdb_last_load_keys_loaded", loading.keys_loaded());
    out.field("aof_enabled", 0);
    out.field("aof_rewrite_in_progress", 0);
    out.field("aof_rewrite_scheduled", 0);
    out.field("aof_last_rewrite_time_sec", -1);
    out.field("aof_current_rewrite_time_sec", -1);
    out.field("aof_last_bgrewrite_status", "ok");
    out.field("aof_rewrites", 0);
    out.field("aof_rewrites_consecutive_failures", 0);
    out.field("aof_last_write_status", "ok");
    out.field("aof_last_cow_size", 0);
    out.field("module_fork_in_progress", 0);
    out.field("module_fork_last_cow_size", 0);
    out.field("rdb_writers_held_count", overview.node.snapshots.held_count());
    loading.write_progress(overview.now, out);
}

/// A master that nobody follows.
pub(super) fn replication(overview: &Overview, out: &mut Section) {
    out.field("role", "master");
    out.field("connected_slaves", 0);
    out.field("master_failover_state", "no-failover");
    out.field("master_replid", &overview.node.replid);
    out.field("master_replid2", "0".repeat(40));
    out.field("master_repl_offset", 0);
    out.field("second_repl_offset", -1);
    out.field("repl_backlog_active", 0);
    out.field("repl_backlog_size", overview.settings.repl_backlog_size);
    out.field("repl_backlog_first_byte_offset", 0);
    out.field("repl_backlog_histlen", 0);
}

/// There are none, and each would have a line.
pub(super) fn modules(_: &Overview, _: &mut Section) {}

/// This node stands alone.
pub(super) fn cluster(_: &Overview, out: &mut Section) {
    out.field("cluster_enabled", 0);
}
