//! Parameters of memory: the limit and eviction, freeing in the background, encodings, defragmentation.

/// Adds this file's rows and hands all of them to `$next`.
macro_rules! memory_parameters {
    ($next:ident $($after:ident)*; $($rows:tt)*) => { $next! { $($after)*; $($rows)*

chapter "MEMORY";

    /// The memory that the dataset may take. Beyond it keys are evicted by `maxmemory-policy`. 0 is no limit.
    "maxmemory" => maxmemory: u64 = memory(0, u64::MAX), "0", Flags::NONE, Eviction;

    /// Which keys go first when memory is short. With noeviction none do, and commands that need memory fail.
    "maxmemory-policy" => maxmemory_policy: MaxmemoryPolicy = Kind::Choice(MaxmemoryPolicy::NAMES), "noeviction", Flags::NONE, Eviction;

    /// How many keys are looked at to find a good one to evict. More is closer to true LRU and costs more time.
    "maxmemory-samples" => maxmemory_samples: u32 = integer(1, I32), "5", Flags::NONE, Eviction;

    /// How much time eviction may take from commands: 0 is least, 10 the usual, 100 as much as it needs.
    "maxmemory-eviction-tenacity" => maxmemory_eviction_tenacity: u8 = integer(0, 100), "10", Flags::NONE, Eviction;

    /// How quickly the LFU counter saturates. With 10, a million hits reach its end.
    "lfu-log-factor" => lfu_log_factor: u32 = integer(0, I32), "10", Flags::NONE, Keyspace;

    /// After how many minutes without a hit the LFU counter goes down by one. 0 never lowers it.
    "lfu-decay-time" => lfu_decay_time: u32 = integer(0, I32), "1", Flags::NONE, Keyspace;

    /// Whether a replica leaves eviction to its master.
    "replica-ignore-maxmemory" | "slave-ignore-maxmemory" => replica_ignore_maxmemory: bool = Kind::Bool, "yes", Flags::NONE, Eviction;

    /// How hard expired keys that nobody asks for are hunted, from 1 to 10. More frees memory earlier and takes more time.
    "active-expire-effort" => active_expire_effort: u8 = integer(1, 10), "1", Flags::NONE, Keyspace;

chapter "FREEING IN THE BACKGROUND";

    /// Whether evicted values are freed in the background. Here large ones always are, in small steps.
    "lazyfree-lazy-eviction" => lazyfree_lazy_eviction: bool = Kind::Bool, "no", Flags::NONE, Unneeded;

    /// Whether expired values are freed in the background. Here large ones always are, in small steps.
    "lazyfree-lazy-expire" => lazyfree_lazy_expire: bool = Kind::Bool, "no", Flags::NONE, Unneeded;

    /// Whether values that a command replaces (RENAME, SUNIONSTORE) are freed in the background.
    "lazyfree-lazy-server-del" => lazyfree_lazy_server_del: bool = Kind::Bool, "no", Flags::NONE, LazyFree;

    /// Whether DEL behaves as UNLINK.
    "lazyfree-lazy-user-del" => lazyfree_lazy_user_del: bool = Kind::Bool, "no", Flags::NONE, LazyFree;

    /// Whether FLUSHALL, FLUSHDB, SCRIPT FLUSH and FUNCTION FLUSH work in the background when they do not say. Here they
    /// always do.
    "lazyfree-lazy-user-flush" => lazyfree_lazy_user_flush: bool = Kind::Bool, "no", Flags::NONE, Unneeded;

chapter "ENCODINGS";

    /// The most fields of a hash that is kept as a listpack.
    "hash-max-listpack-entries" | "hash-max-ziplist-entries" => hash_max_listpack_entries: u64 = integer(0, I64), "512", Flags::NONE, Keyspace;

    /// The longest field or value in such a hash.
    "hash-max-listpack-value" | "hash-max-ziplist-value" => hash_max_listpack_value: u64 = memory(0, BYTES), "64", Flags::NONE, Keyspace;

    /// How large a node of a list may be: a positive number counts elements; -1 to -5 are 4, 8, 16, 32 and 64 kilobytes.
    "list-max-listpack-size" | "list-max-ziplist-size" => list_max_listpack_size: i32 = integer(-I32 - 1, I32), "-2", Flags::NONE, Keyspace;

    /// How many nodes at each end of a list stay uncompressed. 0 compresses none.
    "list-compress-depth" => list_compress_depth: u32 = integer(0, I32), "0", Flags::NONE, Keyspace;

    /// The most members of a set of integers that is kept as an array of integers.
    "set-max-intset-entries" => set_max_intset_entries: u64 = integer(0, I64), "512", Flags::NONE, Keyspace;

    /// The most members of any other set that is kept as a listpack.
    "set-max-listpack-entries" => set_max_listpack_entries: u64 = integer(0, I64), "128", Flags::NONE, Keyspace;

    /// The longest member of such a set.
    "set-max-listpack-value" => set_max_listpack_value: u64 = memory(0, BYTES), "64", Flags::NONE, Keyspace;

    /// The most members of a sorted set that is kept as a listpack.
    "zset-max-listpack-entries" | "zset-max-ziplist-entries" => zset_max_listpack_entries: u64 = integer(0, I64), "128", Flags::NONE, Keyspace;

    /// The longest member of such a sorted set.
    "zset-max-listpack-value" | "zset-max-ziplist-value" => zset_max_listpack_value: u64 = memory(0, BYTES), "64", Flags::NONE, Keyspace;

    /// Up to what size a HyperLogLog keeps its sparse form.
    "hll-sparse-max-bytes" => hll_sparse_max_bytes: u64 = memory(0, BYTES), "3000", Flags::NONE, Keyspace;

    /// The largest node of a stream. 0 is no limit.
    "stream-node-max-bytes" => stream_node_max_bytes: u64 = memory(0, BYTES), "4096", Flags::NONE, Keyspace;

    /// The most entries of a node of a stream. 0 is no limit.
    "stream-node-max-entries" => stream_node_max_entries: u64 = integer(0, I64), "100", Flags::NONE, Keyspace;

    /// Whether hash tables go on moving to their new size while nothing else is to be done.
    "activerehashing" => activerehashing: bool = Kind::Bool, "yes", Flags::NONE, Unneeded;

chapter "DEFRAGMENTATION";

    /// Whether values are moved to make fragmented memory free again.
    "activedefrag" => activedefrag: bool = Kind::Bool, "no", Flags::NONE, Defragmentation;

    /// Do nothing below this much fragmented memory.
    "active-defrag-ignore-bytes" => active_defrag_ignore_bytes: u64 = memory(1, BYTES), "100mb", Flags::NONE, Defragmentation;

    /// Begin at this percentage of fragmentation.
    "active-defrag-threshold-lower" => active_defrag_threshold_lower: u16 = integer(0, 1000), "10", Flags::NONE, Defragmentation;

    /// From this percentage on, work as hard as is allowed.
    "active-defrag-threshold-upper" => active_defrag_threshold_upper: u16 = integer(0, 1000), "100", Flags::NONE, Defragmentation;

    /// The least share of a CPU to use, in per cent.
    "active-defrag-cycle-min" => active_defrag_cycle_min: u8 = integer(1, 99), "1", Flags::NONE, Defragmentation;

    /// The greatest share of a CPU to use, in per cent.
    "active-defrag-cycle-max" => active_defrag_cycle_max: u8 = integer(1, 99), "25", Flags::NONE, Defragmentation;

    /// Values with more elements than this are put off and done in pieces.
    "active-defrag-max-scan-fields" => active_defrag_max_scan_fields: u64 = integer(1, I64), "1000", Flags::NONE, Defragmentation;

    } };
}

pub(in crate::config) use memory_parameters;
