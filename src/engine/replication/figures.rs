//! INFO replication, in Redis's order.

use super::{BacklogFigures, Link, LinkState, ReplicaState, Replication, Role, lag_s};
use crate::base::clock::UnixMs;
use crate::base::section::Section;
use crate::config::Settings;

/// What stands for a name that is not there.
const NOBODY: &str = "0000000000000000000000000000000000000000";

/// `end_offset` is that of the stream.
pub fn write_section(replication: &Replication, settings: &Settings, end_offset: u64, now: UnixMs, out: &mut Section) {
    let state = replication.lock();
    let mut offset = end_offset;
    match &state.role {
        Role::Master => out.field("role", "master"),
        Role::Replica(link) => {
            offset = link.applied_offset;
            write_link(link, settings, now, out);
        }
    }
    out.field("connected_slaves", state.replicas.len());
    if settings.min_replicas_to_write > 0 && settings.min_replicas_max_lag > 0 {
        out.field("min_slaves_good_slaves", replication.near_count());
    }
    for (index, replica) in state.replicas.iter().enumerate() {
        let Some(name) = replica.state.name() else { continue };
        let lag_s = match replica.state {
            ReplicaState::Online => lag_s(replica, now),
            _ => 0,
        };
        let (ip, port, acked) = (&replica.ip, replica.port, replica.acked_offset);
        out.field(
            format_args!("slave{index}"),
            format_args!("ip={ip},port={port},state={name},offset={acked},lag={lag_s}"),
        );
    }
    let earlier = state.history.earlier.as_ref();
    out.field("master_failover_state", "no-failover");
    out.field("master_replid", &state.history.replid);
    out.field("master_replid2", earlier.map_or(NOBODY, |earlier| &earlier.replid));
    out.field("master_repl_offset", offset);
    out.field(
        "second_repl_offset",
        earlier.map_or(-1, |earlier| earlier.end_offset as i64),
    );
    let BacklogFigures {
        first_offset,
        byte_count,
    } = state.backlog.unwrap_or(BacklogFigures {
        first_offset: 0,
        byte_count: 0,
    });
    out.field("repl_backlog_active", u8::from(state.backlog.is_some()));
    out.field("repl_backlog_size", settings.repl_backlog_size);
    out.field("repl_backlog_first_byte_offset", first_offset);
    out.field("repl_backlog_histlen", byte_count);
}

/// What a replica says of its master.
fn write_link(link: &Link, settings: &Settings, now: UnixMs, out: &mut Section) {
    let is_up = link.state == LinkState::Connected;
    let seconds_since = |since: UnixMs| now.since(since).seconds() as i64;
    out.field("role", "slave");
    out.field("master_host", &link.host);
    out.field("master_port", link.port);
    out.field("master_link_status", if is_up { "up" } else { "down" });
    out.field(
        "master_last_io_seconds_ago",
        link.last_heard_at.map_or(-1, seconds_since),
    );
    out.field("master_sync_in_progress", u8::from(link.state == LinkState::Sync));
    out.field("slave_read_repl_offset", link.received_offset);
    out.field("slave_repl_offset", link.applied_offset);
    if let (LinkState::Sync, Some(transfer)) = (link.state, &link.transfer) {
        let total = transfer.total_bytes.unwrap_or(0);
        let percent = match total {
            0 => 0.0,
            total => transfer.read_bytes as f64 / total as f64 * 100.0,
        };
        out.field("master_sync_total_bytes", total);
        out.field("master_sync_read_bytes", transfer.read_bytes);
        out.field("master_sync_left_bytes", total as i64 - transfer.read_bytes as i64);
        out.field("master_sync_perc", format_args!("{percent:.2}"));
        out.field("master_sync_last_io_seconds_ago", seconds_since(transfer.last_heard_at));
    }
    if !is_up {
        out.field(
            "master_link_down_since_seconds",
            link.down_since.map_or(-1, seconds_since),
        );
    }
    out.field("slave_priority", settings.replica_priority);
    out.field("slave_read_only", u8::from(settings.replica_read_only));
    out.field("replica_announced", u8::from(settings.replica_announced));
}
