//! The server. Everything is in the library; see `shardis::server`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads before it serves the first allocation: slabs of 512 regions for the sizes that entries and elements have,
/// where it would take 64 to 256. Each slab costs jemalloc some 150 bytes of its own; with 2 million keys of 16 bytes and values of 64
/// this is one byte less for each key, and about as much for each member of a large set.
// SAFETY: jemalloc looks for a symbol of this name, and takes it for a pointer to text that ends with a zero. The first word of
// a slice is that pointer.
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8] = b"slab_sizes:16-16:2|32-32:4|48-48:6|64-64:8|80-80:10|96-96:12|112-112:14|128-128:16\0";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    shardis::server::run(&arguments)
}
