//! What INFO says of subsystems that are not there yet: what a server says that does without them.
//!
//! Nothing else knows of them, so their sections stand here. Whoever builds the subsystem writes its section there, and takes it from here.

use super::Overview;
use crate::base::section::Section;

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
