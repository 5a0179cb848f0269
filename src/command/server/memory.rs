//! MEMORY: where the memory is.
//!
//! Figures of the process come from the allocator and the kernel, figures of keys from the account that each table
//! keeps of itself. Nothing is estimated from samples: what a key takes is known, so SAMPLES is read and not needed.

use super::info::Overview;
use crate::engine::arguments::Options;
use crate::engine::help::reply_help;
use crate::engine::{Command, Context, NodeFuture, Op, Run, SessionOp};
use crate::resp::{Reply, ReplyError, error};
use crate::spec::{Argument, ArgumentKind, Flags, Group, KeyFlags, KeySpec, arg, command};
use crate::stats::{ALL_ARENAS, Memory, allocator_figure};
use crate::store::{Access, TABLE_BYTES_EACH};
use std::fmt::Write as _;
use tikv_jemalloc_ctl::{Access as _, AsName, arenas, epoch};

const TIPS: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_shards",
    "response_policy:special",
];

/// A subcommand on the memory of the process.
const fn asking(name: &'static str, run: Run) -> Command {
    Command {
        since: "4.0.0",
        group: Group::Server,
        arity: 2,
        tips: TIPS,
        ..command(name, run)
    }
}

pub(super) const MEMORY: Command = Command {
    summary: "Contains the commands on memory.",
    since: "4.0.0",
    group: Group::Server,
    complexity: "Depends on subcommand.",
    arity: -2,
    subcommands: &[
        MEMORY_MALLOC_STATS,
        MEMORY_HELP,
        MEMORY_DOCTOR,
        MEMORY_PURGE,
        MEMORY_STATS,
        MEMORY_USAGE,
    ],
    ..command("memory", Run::Container)
};

const MEMORY_MALLOC_STATS: Command = Command {
    summary: "Answers the allocator's own statistics.",
    complexity: "Depends on how much memory is allocated, could be slow",
    ..asking("malloc-stats", Run::Session(malloc_stats))
};

fn malloc_stats(op: &mut SessionOp) -> Result<(), ReplyError> {
    op.reply.verbatim("txt", allocator_report().as_bytes());
    Ok(())
}

const MEMORY_HELP: Command = Command {
    summary: "Explains the subcommands.",
    flags: Flags::LOADING.union(Flags::STALE),
    tips: &[],
    ..asking("help", Run::Session(help))
};

fn help(op: &mut SessionOp) -> Result<(), ReplyError> {
    reply_help(
        &mut op.reply,
        "MEMORY",
        &[
            ("DOCTOR", &["Answer a report on problems with memory."]),
            ("MALLOC-STATS", &["Answer the statistics of the memory allocator."]),
            ("PURGE", &["Give memory that is not used back to the system."]),
            ("STATS", &["Answer what the memory of the server is used for."]),
            (
                "USAGE <key> [SAMPLES <count>]",
                &[
                    "Answer how many bytes <key> and its value take. All of it is counted,",
                    "whatever <count> says.",
                ],
            ),
        ],
    );
    Ok(())
}

const MEMORY_DOCTOR: Command = Command {
    summary: "Says in words what is wrong with the use of memory.",
    ..asking("doctor", Run::Node(doctor))
};

fn doctor(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let overview = Overview::ask(context, false).await;
        let clients = &overview.total.clients;
        let text = diagnose(&overview.memory, clients.total_bytes, clients.count);
        context.reply().verbatim("txt", text.as_bytes());
        Ok(())
    })
}

const MEMORY_PURGE: Command = Command {
    summary: "Has the allocator give unused memory back.",
    complexity: "Depends on how much memory is allocated, could be slow",
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    ..asking("purge", Run::Session(purge))
};

/// Unused pages are given back when their decay time is over; with a decay time of zero that is at once. Arenas that
/// nobody uses have no such setting, and nothing to give back.
fn purge(op: &mut SessionOp) -> Result<(), ReplyError> {
    let count = arenas::narenas::read().map_err(|failed| ReplyError::owned(format!("ERR {failed}")))?;
    for arena in 0..count {
        for kind in ["dirty", "muzzy"] {
            let key = format!("arena.{arena}.{kind}_decay_ms\0");
            let name = key.as_str().name();
            if let Ok(decay_ms) = name.update(0isize) {
                // It was valid a moment ago.
                let _ = name.write(decay_ms);
            }
        }
    }
    op.reply.ok();
    Ok(())
}

const MEMORY_STATS: Command = Command {
    summary: "Answers where the memory is.",
    ..asking("stats", Run::Node(stats))
};

fn stats(context: &mut Context) -> NodeFuture<'_> {
    Box::pin(async move {
        let overview = Overview::ask(context, false).await;
        let (before, after) = figures(&overview);
        let dbs: Vec<(u32, usize)> = overview
            .total
            .keys
            .dbs
            .iter()
            .filter(|(_, db)| db.keys > 0)
            .map(|(number, db)| (*number, db.keys))
            .collect();
        let mut reply = context.reply();
        reply.map(before.len() + dbs.len() + after.len());
        reply_figures(&mut reply, &before);
        for (number, keys) in dbs {
            reply.bulk(format!("db.{number}").as_bytes());
            reply.map(3);
            reply.bulk(b"overhead.hashtable.main");
            reply.integer((keys * TABLE_BYTES_EACH) as i64);
            reply.bulk(b"overhead.hashtable.expires");
            reply.integer(0);
            reply.bulk(b"overhead.hashtable.slot-to-keys");
            reply.integer(0);
        }
        reply_figures(&mut reply, &after);
        Ok(())
    })
}

const MEMORY_USAGE: Command = Command {
    summary: "Answers how many bytes a key takes.",
    since: "4.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the number of samples.",
    arity: -3,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(2, KeyFlags::RO)],
    arguments: &[
        Argument::key("key", 0),
        arg("count", ArgumentKind::Integer).token("SAMPLES").optional(),
    ],
    ..command("usage", Run::Keys(usage))
};

fn usage(op: &mut Op) -> Result<(), ReplyError> {
    let mut options = Options::behind(op.args, 3);
    while !options.is_empty() {
        if !options.flag(b"SAMPLES") || options.integer()? < 0 {
            return Err(error::SYNTAX);
        }
    }
    op.keys.access = Access::Peek;
    let key = op.args.at(2);
    let found = op.keys.peek(key)?.map(|entry| {
        let expires = entry.expiry().is_some() || entry.field_expiry().is_some();
        (entry.allocated_bytes(), expires)
    });
    let Some((bytes, expires)) = found else {
        op.reply.null();
        return Ok(());
    };
    let db = op.keys.db;
    let books_bytes = if expires {
        op.keys.slot(key)?.expiry_bytes_each(db)
    } else {
        0
    };
    op.reply.integer((bytes + TABLE_BYTES_EACH + books_bytes) as i64);
    Ok(())
}

/// One field of STATS.
enum Figure {
    Count(i64),
    Ratio(f64),
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

fn reply_figures(reply: &mut Reply<'_>, figures: &[(&str, Figure)]) {
    for (name, figure) in figures {
        reply.bulk(name.as_bytes());
        match figure {
            Figure::Count(count) => reply.integer(*count),
            Figure::Ratio(ratio) => reply.double(*ratio),
        }
    }
}

type Figures = Vec<(&'static str, Figure)>;

/// The fields of STATS before and after those of the dbs.
fn figures(overview: &Overview) -> (Figures, Figures) {
    let Memory {
        used,
        peak,
        startup,
        active,
        allocator_resident,
        resident,
        ..
    } = overview.memory;
    let keys = overview.total.keys.keys();
    let held = overview.total.held();
    let overhead = overview.memory.overhead_bytes(&held);
    let dataset = overview.memory.dataset_bytes(&held);
    let net = used.saturating_sub(startup);
    let count = |bytes: usize| Figure::Count(bytes as i64);
    let quotient = |part: usize, whole: usize| Figure::Ratio(ratio(part as f64, whole as f64));
    let percent = |part: usize, whole: usize| Figure::Ratio(100.0 * ratio(part as f64, whole as f64));
    let difference = |more: usize, less: usize| Figure::Count(more as i64 - less as i64);
    let before = vec![
        ("peak.allocated", count(peak)),
        ("total.allocated", count(used)),
        ("startup.allocated", count(startup)),
        ("replication.backlog", count(held.backlog_bytes)),
        ("clients.slaves", count(0)),
        ("clients.normal", count(held.client_bytes)),
        ("cluster.links", count(0)),
        ("aof.buffer", count(0)),
        ("lua.caches", count(overview.scripts.cache_bytes)),
        ("functions.caches", count(overview.scripts.library_bytes)),
    ];
    let after = vec![
        ("overhead.total", count(overhead)),
        ("keys.count", count(keys)),
        ("keys.bytes-per-key", count(net.checked_div(keys).unwrap_or(0))),
        ("dataset.bytes", count(dataset)),
        ("dataset.percentage", percent(dataset, net)),
        ("peak.percentage", percent(used, peak)),
        ("allocator.allocated", count(used)),
        ("allocator.active", count(active)),
        ("allocator.resident", count(allocator_resident)),
        ("allocator-fragmentation.ratio", quotient(active, used)),
        ("allocator-fragmentation.bytes", difference(active, used)),
        ("allocator-rss.ratio", quotient(allocator_resident, active)),
        ("allocator-rss.bytes", difference(allocator_resident, active)),
        ("rss-overhead.ratio", quotient(resident, allocator_resident)),
        ("rss-overhead.bytes", difference(resident, allocator_resident)),
        ("fragmentation", quotient(resident, used)),
        ("fragmentation.bytes", difference(resident, used)),
    ];
    (before, after)
}

/// Below this nothing that ratios say means anything, as in Redis.
const DIAGNOSED_BYTES_MIN: usize = 5 << 20;
/// A difference below this is no problem, whatever the ratio.
const WASTED_BYTES_MIN: usize = 10 << 20;
/// Mean bytes of a client's buffers beyond which clients are a problem, as in Redis.
const CLIENT_BYTES_MAX: usize = 200 << 10;

/// What DOCTOR says.
fn diagnose(memory: &Memory, client_bytes: usize, client_count: usize) -> String {
    if memory.used < DIAGNOSED_BYTES_MIN {
        return "This instance is empty or is using very little memory: there is nothing to be found yet.\n".to_owned();
    }
    let exceeds = |more: usize, less: usize, times: f64| {
        more as f64 > less as f64 * times && more - less.min(more) > WASTED_BYTES_MIN
    };
    let mut found: Vec<&str> = Vec::new();
    if memory.peak as f64 > memory.used as f64 * 1.5 {
        found.push(
            "Peak memory: more than one and a half times what is used now was used in the past. The allocator may not \
             give all of it back at once, so the resident size can look too large.",
        );
    }
    if exceeds(memory.active, memory.used, 1.1) {
        found.push("High allocator fragmentation: pages of the allocator are partly empty. MEMORY PURGE may help.");
    }
    if exceeds(memory.allocator_resident, memory.active, 1.1) {
        found.push(
            "High allocator RSS overhead: the allocator holds pages that it does not use. MEMORY PURGE may help.",
        );
    }
    if exceeds(memory.resident, memory.allocator_resident, 1.1) {
        found.push("High process RSS overhead: memory that is not the allocator's takes more than a tenth.");
    }
    if client_bytes.checked_div(client_count).unwrap_or(0) > CLIENT_BYTES_MAX {
        found.push("Big client buffers: clients take more than 200 kB each. CLIENT LIST shows which (omem, qbuf).");
    }
    if found.is_empty() {
        return "No memory issues were found in this instance.\n".to_owned();
    }
    let mut text = "Issues were found in this instance:\n\n".to_owned();
    for line in found {
        text.push_str(&format!(" * {line}\n\n"));
    }
    text
}

/// What the allocator has, in all and by size class.
fn allocator_report() -> String {
    // The statistics are a snapshot that is renewed by advancing the epoch.
    let _ = epoch::advance();
    let version = tikv_jemalloc_ctl::version::read().unwrap_or("unknown");
    let mut text = format!("___ Begin jemalloc statistics ___\nVersion: \"{version}\"\n");
    // Writing to a String cannot fail.
    for name in ["allocated", "active", "metadata", "resident", "mapped", "retained"] {
        let _ = writeln!(text, "{name}: {}", allocator_figure(&format!("stats.{name}")));
    }
    let arena_count = arenas::narenas::read().unwrap_or(0);
    let _ = writeln!(text, "arenas: {arena_count}\n\nbins: size regions bytes");
    let bin_count = "arenas.nbins\0".name().read().unwrap_or(0u32);
    for bin in 0..bin_count {
        let size = allocator_figure(&format!("arenas.bin.{bin}.size"));
        let regions = allocator_figure(&format!("stats.arenas.{ALL_ARENAS}.bins.{bin}.curregs"));
        if regions > 0 {
            let _ = writeln!(text, "{size:>14} {regions:>10} {:>14}", size * regions);
        }
    }
    text.push_str("--- End jemalloc statistics ---\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_finds_what_is_wasted() {
        let small = Memory {
            used: 1 << 20,
            ..Memory::default()
        };
        assert!(diagnose(&small, 0, 0).contains("very little"));
        let healthy = Memory {
            used: 100 << 20,
            peak: 100 << 20,
            active: 101 << 20,
            allocator_resident: 102 << 20,
            resident: 103 << 20,
            ..Memory::default()
        };
        assert!(diagnose(&healthy, 1000, 1).contains("No memory issues"));
        let holey = Memory {
            active: 150 << 20,
            peak: 500 << 20,
            ..healthy
        };
        let text = diagnose(&holey, 1 << 30, 10);
        assert!(text.contains("Peak") && text.contains("fragmentation") && text.contains("client buffers"));
        assert!(!text.contains("process RSS"));
    }
}
