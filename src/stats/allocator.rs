//! The process's memory as the allocator and the kernel know it, for INFO, MEMORY and the account that eviction goes by.

use super::{Counts, MemoryAccount};
use crate::base::section::Section;
use crate::config::Settings;
use std::fs;
use tikv_jemalloc_ctl::{Access as _, AsName as _};

/// The index under which jemalloc keeps the sum of all arenas (`MALLCTL_ARENAS_ALL`).
pub const ALL_ARENAS: usize = 4096;

/// One of the allocator's own figures (the names stand in jemalloc's manual); 0 where it has none.
pub fn allocator_figure(name: &str) -> u64 {
    let name = format!("{name}\0");
    let bytes: Result<usize, _> = name.as_str().name().read();
    bytes.map_or(0, |bytes| bytes as u64)
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

/// What the shards know of what is used, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// What clients take.
    pub client_bytes: usize,
    /// What tables take beside their entries.
    pub table_bytes: usize,
    /// Keys whose values wait to be freed.
    pub lazy_pending_objects: usize,
    /// The end of the stream that is kept for replicas.
    pub backlog_bytes: usize,
}

/// What scripts and functions take, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScriptFigures {
    /// The interpreters of scripts, of all shards.
    pub eval_vm_bytes: usize,
    /// Those of functions.
    pub function_vm_bytes: usize,
    pub cached_scripts: usize,
    /// What the cache of scripts takes.
    pub cache_bytes: usize,
    pub libraries: usize,
    pub functions: usize,
    /// The code of the libraries.
    pub library_bytes: usize,
}

impl ScriptFigures {
    fn write(&self, out: &mut Section) {
        let vm_bytes = self.eval_vm_bytes + self.function_vm_bytes;
        let script_bytes = self.cache_bytes + self.library_bytes;
        out.field("used_memory_lua", self.eval_vm_bytes);
        out.field("used_memory_vm_eval", self.eval_vm_bytes);
        out.field("used_memory_lua_human", human(self.eval_vm_bytes));
        out.field("used_memory_scripts_eval", self.cache_bytes);
        out.field("number_of_cached_scripts", self.cached_scripts);
        out.field("number_of_functions", self.functions);
        out.field("number_of_libraries", self.libraries);
        out.field("used_memory_vm_functions", self.function_vm_bytes);
        out.field("used_memory_vm_total", vm_bytes);
        out.field("used_memory_vm_total_human", human(vm_bytes));
        out.field("used_memory_functions", self.library_bytes);
        out.field("used_memory_scripts", script_bytes);
        out.field("used_memory_scripts_human", human(script_bytes));
    }
}

impl Memory {
    /// Reads the allocator's statistics and the kernel's.
    pub fn read(account: &MemoryAccount) -> Memory {
        use tikv_jemalloc_ctl::{epoch, stats};
        // The statistics are a snapshot that is renewed by advancing the epoch. An allocator without them (tests run on
        // the system's) counts as zero.
        let _ = epoch::advance();
        // What threads have freed and keep for their next allocations counts as allocated.
        let cached = allocator_figure(&format!("stats.arenas.{ALL_ARENAS}.tcache_bytes"));
        let allocated = stats::allocated::read().unwrap_or(0).saturating_sub(cached as usize);
        // What is compared with `maxmemory`, without what whoever reads this has taken to find out.
        let used = match account.used_bytes() {
            0 => allocated,
            known => known,
        };
        let peak = account.note_peak(used);
        Memory {
            used,
            not_counted: account.under_way_bytes(),
            allocated,
            peak,
            startup: account.at_start_bytes().min(used),
            active: stats::active::read().unwrap_or(0),
            allocator_resident: stats::resident::read().unwrap_or(0),
            resident: resident_bytes(),
            system_total: system_bytes(),
        }
    }

    /// What is no data, in bytes.
    pub fn overhead_bytes(&self, held: &Held) -> usize {
        self.startup + held.client_bytes + held.table_bytes + held.backlog_bytes
    }

    /// What is data, in bytes.
    pub fn dataset_bytes(&self, held: &Held) -> usize {
        self.used.saturating_sub(self.overhead_bytes(held))
    }

    /// Writes what INFO says of memory.
    pub fn write_section(
        &self,
        held: &Held,
        scripts: &ScriptFigures,
        counts: &Counts,
        settings: &Settings,
        out: &mut Section,
    ) {
        let Memory {
            used,
            not_counted,
            allocated,
            peak,
            startup,
            active,
            allocator_resident,
            resident,
            system_total,
        } = *self;
        let dataset = self.dataset_bytes(held);
        let maxmemory = settings.maxmemory as usize;
        out.field("used_memory", used);
        out.field("used_memory_human", human(used));
        out.field("used_memory_rss", resident);
        out.field("used_memory_rss_human", human(resident));
        out.field("used_memory_peak", peak);
        out.field("used_memory_peak_human", human(peak));
        out.field("used_memory_peak_perc", percent(used, peak));
        out.field("used_memory_overhead", self.overhead_bytes(held));
        out.field("used_memory_startup", startup);
        out.field("used_memory_dataset", dataset);
        out.field(
            "used_memory_dataset_perc",
            percent(dataset, used.saturating_sub(startup)),
        );
        out.field("allocator_allocated", allocated);
        out.field("allocator_active", active);
        out.field("allocator_resident", allocator_resident);
        out.field("total_system_memory", system_total);
        out.field("total_system_memory_human", human(system_total));
        scripts.write(out);
        out.field("maxmemory", maxmemory);
        out.field("maxmemory_human", human(maxmemory));
        out.field("maxmemory_policy", settings.maxmemory_policy);
        out.field("allocator_frag_ratio", quotient(active, allocated));
        out.field("allocator_frag_bytes", active.saturating_sub(allocated));
        out.field("allocator_rss_ratio", quotient(allocator_resident, active));
        out.field("allocator_rss_bytes", difference(allocator_resident, active));
        out.field("rss_overhead_ratio", quotient(resident, allocator_resident));
        out.field("rss_overhead_bytes", difference(resident, allocator_resident));
        out.field("mem_fragmentation_ratio", quotient(resident, used));
        out.field("mem_fragmentation_bytes", difference(resident, used));
        out.field("mem_not_counted_for_evict", not_counted);
        out.field("mem_replication_backlog", held.backlog_bytes);
        out.field("mem_total_replication_buffers", held.backlog_bytes);
        out.field("mem_clients_slaves", 0);
        out.field("mem_clients_normal", held.client_bytes);
        out.field("mem_cluster_links", 0);
        out.field("mem_aof_buffer", 0);
        out.field("mem_allocator", "jemalloc-5.3.0");
        out.field("active_defrag_running", 0);
        out.field("lazyfree_pending_objects", held.lazy_pending_objects);
        counts.write_field("lazyfreed_objects", out);
    }
}

/// Bytes as people read them, as Redis writes them (`1.50M`).
fn human(bytes: usize) -> String {
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

fn quotient(part: usize, whole: usize) -> String {
    format!("{:.2}", ratio(part, whole))
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.2}%", 100.0 * ratio(part, whole))
}

fn difference(more: usize, less: usize) -> i64 {
    more as i64 - less as i64
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

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn bytes_are_written_as_redis_writes_them() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1023), "1023B");
        assert_eq!(human(1536), "1.50K");
        assert_eq!(human(1 << 30), "1.00G");
    }
}
