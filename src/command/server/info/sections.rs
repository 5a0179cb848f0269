//! The sections of INFO, in its order. Each writes `field:value` lines; names and order are those of Redis 7.2.

use super::Overview;
use crate::config::REDIS_VERSION;
use std::fmt::Write as _;

/// One section.
pub struct Section {
    /// As INFO's argument.
    pub name: &'static str,
    /// As its heading.
    pub title: &'static str,
    /// Shown without arguments.
    pub is_default: bool,
    pub is_of_modules: bool,
    pub write: fn(&Overview, &mut String),
}

const fn section(
    name: &'static str,
    title: &'static str,
    is_default: bool,
    write: fn(&Overview, &mut String),
) -> Section {
    Section {
        name,
        title,
        is_default,
        is_of_modules: false,
        write,
    }
}

pub const SECTIONS: &[Section] = &[
    section("server", "Server", true, server),
    section("clients", "Clients", true, clients),
    section("memory", "Memory", true, memory),
    section("persistence", "Persistence", true, persistence),
    section("stats", "Stats", true, stats),
    section("replication", "Replication", true, replication),
    section("cpu", "CPU", true, cpu),
    Section {
        is_of_modules: true,
        ..section("modules", "Modules", true, modules)
    },
    section("commandstats", "Commandstats", false, commandstats),
    section("errorstats", "Errorstats", true, errorstats),
    section("latencystats", "Latencystats", false, latencystats),
    section("cluster", "Cluster", true, cluster),
    section("keyspace", "Keyspace", true, keyspace),
    section("shards", "Shards", true, shards),
];

/// Appends `field:value` lines. A field without a value is a counter, which knows where it is shown.
macro_rules! lines {
    ($overview:expr, $out:expr; $($field:literal $(: $value:expr)?),* $(,)?) => {
        // Writing to a String cannot fail.
        $(let _ = write!($out, concat!($field, ":{}\r\n"), lines!(@value $overview, $field $(, $value)?));)*
    };
    (@value $overview:expr, $field:literal) => { $overview.total.counts.shown($field) };
    (@value $overview:expr, $field:literal, $value:expr) => { $value };
}

fn server(o: &Overview, out: &mut String) {
    let uptime_s = o.now.since(o.node.started_at).seconds();
    let host = nix::sys::utsname::uname();
    let system = host.as_ref().map_or_else(
        |_| "Linux".to_owned(),
        |name| {
            let part = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
            format!(
                "{} {} {}",
                part(name.sysname()),
                part(name.release()),
                part(name.machine())
            )
        },
    );
    let file = o
        .node
        .lock_config()
        .file()
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let process_us = o.now.0 * 1000;
    lines!(o, out;
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": format_args!("shardis-{}", env!("CARGO_PKG_VERSION")),
        "redis_mode": "standalone",
        "os": system,
        "arch_bits": usize::BITS,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "io_uring",
        "atomicvar_api": "c11-builtin",
        "gcc_version": "0.0.0",
        "process_id": std::process::id(),
        "process_supervised": o.settings.supervised,
        "run_id": o.node.run_id,
        "tcp_port": o.settings.port,
        "server_time_usec": process_us,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s / 86400,
        "hz": o.settings.hz,
        "configured_hz": o.settings.hz,
        "lru_clock": (o.now.0 / 1000) & 0xff_ffff,
        "executable": o.node.executable,
        "config_file": file,
        "io_threads_active": 0,
        "shardis_version": env!("CARGO_PKG_VERSION"),
    );
    let _ = write!(out, "listener0:name=tcp");
    for address in &o.settings.bind {
        let _ = write!(out, ",bind={}", address.to_string_lossy());
    }
    let _ = write!(out, ",port={}\r\n", o.settings.port);
}

fn clients(o: &Overview, out: &mut String) {
    lines!(o, out;
        "connected_clients": o.total.clients,
        "cluster_connections": 0,
        "maxclients": o.settings.maxclients,
        "client_recent_max_input_buffer": o.total.query_bytes_max,
        "client_recent_max_output_buffer": o.total.output_bytes_max,
        "blocked_clients": 0,
        "tracking_clients": 0,
        "pubsub_clients": 0,
        "watching_clients": o.total.clients_watching,
        "clients_in_timeout_table": 0,
        "total_watched_keys": o.total.watched_keys,
        "total_blocking_keys": 0,
        "total_blocking_keys_on_nokey": 0,
    );
}

/// Bytes as people read them, as Redis writes them (`1.50M`).
pub fn human(bytes: usize) -> String {
    const UNITS: [(&str, u64); 5] = [
        ("P", 1 << 50),
        ("T", 1 << 40),
        ("G", 1 << 30),
        ("M", 1 << 20),
        ("K", 1 << 10),
    ];
    match UNITS.iter().find(|(_, size)| bytes as u64 >= *size) {
        Some((unit, size)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => format!("{bytes}B"),
    }
}

/// `part / whole`, 0 when there is no whole.
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn memory(o: &Overview, out: &mut String) {
    let m = &o.memory;
    let overhead = m.startup + o.total.client_bytes + o.total.table_bytes;
    let dataset = m.used.saturating_sub(overhead);
    let maxmemory = o.settings.maxmemory as usize;
    lines!(o, out;
        "used_memory": m.used,
        "used_memory_human": human(m.used),
        "used_memory_rss": m.resident,
        "used_memory_rss_human": human(m.resident),
        "used_memory_peak": m.peak,
        "used_memory_peak_human": human(m.peak),
        "used_memory_peak_perc": format_args!("{:.2}%", 100.0 * ratio(m.used, m.peak)),
        "used_memory_overhead": overhead,
        "used_memory_startup": m.startup,
        "used_memory_dataset": dataset,
        "used_memory_dataset_perc": format_args!("{:.2}%", 100.0 * ratio(dataset, m.used.saturating_sub(m.startup))),
        "allocator_allocated": m.allocated,
        "allocator_active": m.active,
        "allocator_resident": m.allocator_resident,
        "total_system_memory": m.system_total,
        "total_system_memory_human": human(m.system_total),
        "used_memory_lua": 0,
        "used_memory_vm_eval": 0,
        "used_memory_lua_human": human(0),
        "used_memory_scripts_eval": 0,
        "number_of_cached_scripts": 0,
        "number_of_functions": 0,
        "number_of_libraries": 0,
        "used_memory_vm_functions": 0,
        "used_memory_vm_total": 0,
        "used_memory_vm_total_human": human(0),
        "used_memory_functions": 0,
        "used_memory_scripts": 0,
        "used_memory_scripts_human": human(0),
        "maxmemory": maxmemory,
        "maxmemory_human": human(maxmemory),
        "maxmemory_policy": o.settings.maxmemory_policy,
        "allocator_frag_ratio": format_args!("{:.2}", ratio(m.active, m.allocated)),
        "allocator_frag_bytes": m.active.saturating_sub(m.allocated),
        "allocator_rss_ratio": format_args!("{:.2}", ratio(m.allocator_resident, m.active)),
        "allocator_rss_bytes": m.allocator_resident as i64 - m.active as i64,
        "rss_overhead_ratio": format_args!("{:.2}", ratio(m.resident, m.allocator_resident)),
        "rss_overhead_bytes": m.resident as i64 - m.allocator_resident as i64,
        "mem_fragmentation_ratio": format_args!("{:.2}", ratio(m.resident, m.used)),
        "mem_fragmentation_bytes": m.resident as i64 - m.used as i64,
        "mem_not_counted_for_evict": o.node.memory.under_way_bytes(),
        "mem_replication_backlog": 0,
        "mem_total_replication_buffers": 0,
        "mem_clients_slaves": 0,
        "mem_clients_normal": o.total.client_bytes,
        "mem_cluster_links": 0,
        "mem_aof_buffer": 0,
        "mem_allocator": "jemalloc-5.3.0",
        "active_defrag_running": 0,
        "lazyfree_pending_objects": o.total.lazy_pending_objects,
        "lazyfreed_objects",
    );
}

fn persistence(o: &Overview, out: &mut String) {
    lines!(o, out;
        "loading": 0,
        "async_loading": 0,
        "current_cow_peak": 0,
        "current_cow_size": 0,
        "current_cow_size_age": 0,
        "current_fork_perc": "0.00",
        "current_save_keys_processed": 0,
        "current_save_keys_total": 0,
        "rdb_changes_since_last_save",
        "rdb_bgsave_in_progress": 0,
        "rdb_last_save_time": o.node.started_at.seconds(),
        "rdb_last_bgsave_status": "ok",
        "rdb_last_bgsave_time_sec": -1,
        "rdb_current_bgsave_time_sec": -1,
        "rdb_saves": 0,
        "rdb_last_cow_size": 0,
        "rdb_last_load_keys_expired": 0,
        "rdb_last_load_keys_loaded": 0,
        "aof_enabled": 0,
        "aof_rewrite_in_progress": 0,
        "aof_rewrite_scheduled": 0,
        "aof_last_rewrite_time_sec": -1,
        "aof_current_rewrite_time_sec": -1,
        "aof_last_bgrewrite_status": "ok",
        "aof_rewrites": 0,
        "aof_rewrites_consecutive_failures": 0,
        "aof_last_write_status": "ok",
        "aof_last_cow_size": 0,
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
    );
}

fn stats(o: &Overview, out: &mut String) {
    let t = &o.total;
    let kib = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    lines!(o, out;
        "total_connections_received",
        "total_commands_processed",
        "instantaneous_ops_per_sec": t.commands_per_second,
        "total_net_input_bytes",
        "total_net_output_bytes",
        "total_net_repl_input_bytes": 0,
        "total_net_repl_output_bytes": 0,
        "instantaneous_input_kbps": kib(t.input_bytes_per_second),
        "instantaneous_output_kbps": kib(t.output_bytes_per_second),
        "instantaneous_input_repl_kbps": "0.00",
        "instantaneous_output_repl_kbps": "0.00",
        "rejected_connections",
        "sync_full": 0,
        "sync_partial_ok": 0,
        "sync_partial_err": 0,
        "expired_subkeys",
        "expired_keys",
        "expired_stale_perc": format_args!("{:.2}", t.expired_stale_percent),
        "expired_time_cap_reached_count",
        "expire_cycle_cpu_milliseconds",
        "evicted_keys",
        "evicted_clients",
        "total_eviction_exceeded_time",
        "current_eviction_exceeded_time": 0,
        "keyspace_hits",
        "keyspace_misses",
        "pubsub_channels": 0,
        "pubsub_patterns": 0,
        "pubsubshard_channels": 0,
        "latest_fork_usec": 0,
        "total_forks": 0,
        "migrate_cached_sockets": 0,
        "slave_expires_tracked_keys": 0,
        "active_defrag_hits": 0,
        "active_defrag_misses": 0,
        "active_defrag_key_hits": 0,
        "active_defrag_key_misses": 0,
        "total_active_defrag_time": 0,
        "current_active_defrag_time": 0,
        "tracking_total_keys": 0,
        "tracking_total_items": 0,
        "tracking_total_prefixes": 0,
        "unexpected_error_replies": 0,
        "total_error_replies": t.errors.total,
        "dump_payload_sanitizations": 0,
        "total_reads_processed",
        "total_writes_processed",
        "io_threaded_reads_processed": 0,
        "io_threaded_writes_processed": 0,
        "reply_buffer_shrinks": 0,
        "reply_buffer_expands": 0,
        "eventloop_cycles",
        "eventloop_duration_sum",
        "eventloop_duration_cmd_sum",
        "instantaneous_eventloop_cycles_per_sec": t.passes_per_second,
        "instantaneous_eventloop_duration_usec": t.us_per_pass,
        "acl_access_denied_auth",
        "acl_access_denied_cmd": 0,
        "acl_access_denied_key": 0,
        "acl_access_denied_channel": 0,
        "client_query_buffer_limit_disconnections",
        "client_output_buffer_limit_disconnections",
    );
}

fn replication(o: &Overview, out: &mut String) {
    lines!(o, out;
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": o.node.replid,
        "master_replid2": "0".repeat(40),
        "master_repl_offset": 0,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
        "repl_backlog_size": o.settings.repl_backlog_size,
        "repl_backlog_first_byte_offset": 0,
        "repl_backlog_histlen": 0,
    );
}

fn cpu(_: &Overview, out: &mut String) {
    use nix::sys::resource::{UsageWho, getrusage};
    let seconds = |time: nix::sys::time::TimeVal| format!("{}.{:06}", time.tv_sec(), time.tv_usec());
    // The thread that answers stands for the main thread.
    for (field, who) in [
        ("", UsageWho::RUSAGE_SELF),
        ("_children", UsageWho::RUSAGE_CHILDREN),
        ("_main_thread", UsageWho::RUSAGE_THREAD),
    ] {
        if let Ok(usage) = getrusage(who) {
            let _ = write!(out, "used_cpu_sys{field}:{}\r\n", seconds(usage.system_time()));
            let _ = write!(out, "used_cpu_user{field}:{}\r\n", seconds(usage.user_time()));
        }
    }
}

fn modules(_: &Overview, _: &mut String) {}

fn commandstats(o: &Overview, out: &mut String) {
    for (found, stats) in o.registry.all().iter().zip(&o.total.commands) {
        if stats.calls == 0 && stats.rejected_calls == 0 {
            continue;
        }
        let each = if stats.calls == 0 {
            0.0
        } else {
            stats.us as f64 / stats.calls as f64
        };
        let _ = write!(
            out,
            "cmdstat_{}:calls={},usec={},usec_per_call={each:.2},rejected_calls={},failed_calls={}\r\n",
            found.full_name, stats.calls, stats.us, stats.rejected_calls, stats.failed_calls
        );
    }
}

fn errorstats(o: &Overview, out: &mut String) {
    for (code, count) in o.total.errors.sorted() {
        let _ = write!(out, "errorstat_{code}:count={count}\r\n");
    }
}

fn latencystats(o: &Overview, out: &mut String) {
    for (found, stats) in o.registry.all().iter().zip(&o.total.commands) {
        let Some(histogram) = stats.histogram() else { continue };
        let shown: Vec<String> = o
            .settings
            .latency_tracking_info_percentiles
            .iter()
            .map(|percentile| {
                format!(
                    "p{percentile}={:.3}",
                    histogram.value_at_quantile(percentile / 100.0) as f64
                )
            })
            .collect();
        let _ = write!(
            out,
            "latency_percentiles_usec_{}:{}\r\n",
            found.full_name,
            shown.join(",")
        );
    }
}

fn cluster(_: &Overview, out: &mut String) {
    lines!(o, out; "cluster_enabled": 0);
}

fn keyspace(o: &Overview, out: &mut String) {
    for (db, report) in &o.total.dbs {
        if report.keys == 0 && report.expires == 0 {
            continue;
        }
        let average = match report.expires as u128 {
            0 => 0,
            count => (report.expiry_sum_ms / count).saturating_sub(u128::from(o.now.0)),
        };
        let _ = write!(
            out,
            "db{db}:keys={},expires={},avg_ttl={average}\r\n",
            report.keys, report.expires
        );
    }
}

fn shards(o: &Overview, out: &mut String) {
    let _ = write!(out, "shard_count:{}\r\n", o.shards.len());
    for report in &o.shards {
        let keys: usize = report.dbs.values().map(|db| db.keys).sum();
        let _ = write!(
            out,
            "shard{}:slots={},keys={keys},clients={},commands={},ops_per_sec={},hops={},keyspace_bytes={}\r\n",
            report.shard,
            report.slots_owned,
            report.clients,
            report.counts.commands_processed,
            report.commands_per_second,
            report.counts.hops,
            report.keyspace_bytes
        );
    }
}

#[cfg(test)]
mod tests {
    use super::human;
    use crate::stats::COUNTERS;

    #[test]
    fn every_counter_is_shown_in_its_section() {
        let source = include_str!("sections.rs");
        for counter in COUNTERS.iter().filter(|counter| !counter.field.is_empty()) {
            let head = format!("fn {}(", counter.section);
            let body = source.split(&*head).nth(1).expect("the section has a writer");
            let body = body.split("\n}\n").next().expect("a split has a first part");
            assert!(body.contains(&format!("\"{}\",", counter.field)), "{}", counter.field);
        }
    }

    #[test]
    fn bytes_are_written_as_redis_writes_them() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1023), "1023B");
        assert_eq!(human(1536), "1.50K");
        assert_eq!(human(1 << 30), "1.00G");
    }
}
