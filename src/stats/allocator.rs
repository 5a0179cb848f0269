//! The process's memory as the allocator and the kernel know it, for INFO, MEMORY and the account that eviction goes by.

use super::MemoryAccount;
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
