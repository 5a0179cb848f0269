//! INFO replication, in Redis's order.

use super::{BacklogFigures, LinkState, ReplicaState, Replication, Report, Transfer, lag_s};
use crate::base::clock::UnixMs;
use crate::base::section::Section;
use crate::config::Settings;
use std::time::Instant;

/// What stands for a name that is not there.
const NOBODY: &str = "0000000000000000000000000000000000000000";

/// `end_offset` is that of the stream.
pub fn write_section(replication: &Replication, settings: &Settings, end_offset: u64, now: UnixMs, out: &mut Section) {
    let state = replication.lock();
    let mut offset = end_offset;
    match replication.following.report() {
        None => out.field("role", "master"),
        Some(report) => {
            offset = report.applied_offset();
            write_link(&report, settings, out);
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
fn write_link(report: &Report, settings: &Settings, out: &mut Section) {
    let is_up = report.link == LinkState::Connected;
    let is_syncing = report.link == LinkState::Transfer;
    let seconds_since = |since: Instant| since.elapsed().as_secs() as i64;
    let last_io = report.last_io.map_or(-1, seconds_since);
    out.field("role", "slave");
    out.field("master_host", report.master.host.to_string_lossy());
    out.field("master_port", report.master.port);
    out.field("master_link_status", if is_up { "up" } else { "down" });
    // As in Redis, what comes of a data set counts by itself.
    out.field("master_last_io_seconds_ago", if is_up { last_io } else { -1 });
    out.field("master_sync_in_progress", u8::from(is_syncing));
    out.field("slave_read_repl_offset", report.read_offset);
    out.field("slave_repl_offset", report.applied_offset());
    if is_syncing {
        let Transfer {
            total_bytes,
            read_bytes,
        } = report.transfer;
        let percent = match total_bytes {
            0 => 0.0,
            total => read_bytes as f64 / total as f64 * 100.0,
        };
        out.field("master_sync_total_bytes", total_bytes);
        out.field("master_sync_read_bytes", read_bytes);
        out.field("master_sync_left_bytes", total_bytes as i64 - read_bytes as i64);
        out.field("master_sync_perc", format_args!("{percent:.2}"));
        out.field("master_sync_last_io_seconds_ago", last_io);
    }
    if !is_up {
        let down_since = report.down_since.map_or(-1, seconds_since);
        out.field("master_link_down_since_seconds", down_since);
    }
    out.field("slave_priority", settings.replica_priority);
    out.field("slave_read_only", u8::from(settings.replica_read_only));
    out.field("replica_announced", u8::from(settings.replica_announced));
}
