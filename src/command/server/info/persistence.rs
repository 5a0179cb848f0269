//! INFO persistence: what loading, snapshots and the append-only file say of themselves, in Redis's order.

use super::Overview;
use crate::base::section::Section;

pub(super) fn write(overview: &Overview, out: &mut Section) {
    let loading = &overview.node.loading;
    out.field("loading", u8::from(loading.is_refusing()));
    out.field("async_loading", 0);
    let key_count: usize = overview.total.keys.dbs.values().map(|db| db.keys).sum();
    let changes = overview.total.stats.counts.changes;
    overview
        .node
        .snapshots
        .write_figures(key_count as u64, changes, overview.now, out);
    out.field("rdb_last_load_keys_expired", loading.keys_expired());
    out.field("rdb_last_load_keys_loaded", loading.keys_loaded());
    let aof = &overview.node.aof;
    aof.write_figures(overview.now, out);
    out.field("module_fork_in_progress", 0);
    out.field("module_fork_last_cow_size", 0);
    aof.write_sizes(out);
    out.field("rdb_writers_held_count", overview.node.snapshots.held_count());
    loading.write_progress(overview.now, out);
}
