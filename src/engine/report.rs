//! What the node and its shards say of themselves.
//!
//! A [`Report`] is what one shard answers when somebody asks all of them, or the sum over several. Each part of it is counted by whoever
//! knows it (`store`, `client`, `stats`); here they are put together.

use super::local::Local;
use super::node::Node;
use crate::base::clock::UnixMs;
use crate::base::section::Section;
use crate::base::slot::SLOT_COUNT;
use crate::client::ClientFigures;
use crate::config::{REDIS_VERSION, Settings};
use crate::stats::{Held, StatsFigures};
use crate::store::KeyFigures;

/// What one shard says, or several together.
#[derive(Default)]
pub struct Report {
    shard: usize,
    slots_owned: usize,
    /// Of the slots that the shard holds.
    pub keys: KeyFigures,
    pub clients: ClientFigures,
    pub stats: StatsFigures,
    lazy_pending_objects: usize,
    backlog_bytes: usize,
}

impl Report {
    /// What `local` says now; of each command only if that is asked for.
    pub fn of(local: &Local, tells_commands: bool) -> Report {
        let mut report = Report {
            shard: local.env.shard.0 as usize,
            stats: local.env.stats.figures(tells_commands),
            lazy_pending_objects: local.env.garbage.pending_count(),
            backlog_bytes: local.feed.backlog_bytes(),
            ..Report::default()
        };
        report.slots_owned = (0..SLOT_COUNT as u16)
            .filter(|&slot| local.core.owner(slot) == local.env.shard)
            .count();
        for (_, slot) in local.core.contents_here() {
            report.keys.count(slot);
        }
        for client in local.clients.iter() {
            report.clients.count(client);
        }
        report.clients.timed = local.room.timed_count();
        report
    }

    /// Adds another shard's.
    pub fn add(&mut self, other: &Report) {
        self.slots_owned += other.slots_owned;
        self.keys.add(&other.keys);
        self.clients.add(&other.clients);
        self.stats.add(&other.stats);
        self.lazy_pending_objects += other.lazy_pending_objects;
        self.backlog_bytes += other.backlog_bytes;
    }

    /// What of the memory is no data, and what waits to be freed.
    pub fn held(&self) -> Held {
        Held {
            client_bytes: self.clients.total_bytes,
            table_bytes: self.keys.table_bytes,
            lazy_pending_objects: self.lazy_pending_objects,
            backlog_bytes: self.backlog_bytes,
        }
    }
}

/// Writes a line for each shard.
pub fn write_shards(reports: &[Report], out: &mut Section) {
    out.field("shard_count", reports.len());
    for report in reports {
        let counts = &report.stats.counts;
        out.field(
            format_args!("shard{}", report.shard),
            format_args!(
                "slots={},keys={},clients={},commands={},ops_per_sec={},hops={},keyspace_bytes={}",
                report.slots_owned,
                report.keys.keys(),
                report.clients.count,
                counts.commands_processed,
                report.stats.commands_per_second,
                counts.hops,
                report.keys.used_bytes
            ),
        );
    }
}

/// Writes what INFO says of the server as a process.
pub fn write_server(node: &Node, settings: &Settings, now: UnixMs, out: &mut Section) {
    let version = env!("CARGO_PKG_VERSION");
    let uptime_s = now.since(node.started_at).seconds();
    let file = node.lock_config().file().map(|path| path.display().to_string());
    out.field("redis_version", REDIS_VERSION);
    out.field("redis_git_sha1", "00000000");
    out.field("redis_git_dirty", 0);
    out.field("redis_build_id", format_args!("shardis-{version}"));
    out.field("redis_mode", "standalone");
    out.field("os", operating_system());
    out.field("arch_bits", usize::BITS);
    out.field("monotonic_clock", "POSIX clock_gettime");
    out.field("multiplexing_api", "io_uring");
    out.field("atomicvar_api", "c11-builtin");
    out.field("gcc_version", "0.0.0");
    out.field("process_id", std::process::id());
    out.field("process_supervised", settings.supervised);
    out.field("run_id", &node.run_id);
    out.field("tcp_port", settings.port);
    out.field("server_time_usec", now.0 * 1000);
    out.field("uptime_in_seconds", uptime_s);
    out.field("uptime_in_days", uptime_s / 86400);
    out.field("hz", settings.hz);
    out.field("configured_hz", settings.hz);
    out.field("lru_clock", now.seconds() & 0xff_ffff);
    out.field("executable", &node.executable);
    out.field("config_file", file.unwrap_or_default());
    out.field("io_threads_active", 0);
    out.field("shardis_version", version);
    let mut listener = "name=tcp".to_owned();
    for address in &settings.bind {
        listener.push_str(&format!(",bind={}", address.to_string_lossy()));
    }
    out.field("listener0", format_args!("{listener},port={}", settings.port));
}

/// The kernel's name, release and machine.
fn operating_system() -> String {
    match nix::sys::utsname::uname() {
        Ok(name) => [name.sysname(), name.release(), name.machine()]
            .map(|part| part.to_string_lossy())
            .join(" "),
        Err(_) => "Linux".to_owned(),
    }
}
