//! When a small value stops being packed: the thresholds of Redis's `*-max-listpack-*` parameters and their relatives.
//!
//! They are parameters of every change that may convert a value, never state of a value: CONFIG SET takes effect with the
//! next change, and a value that is already converted stays as it is, as in Redis.

/// The thresholds, named as the parameters are. [`Default`] gives Redis 7.2's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fields of a packed hash.
    pub hash_max_listpack_entries: usize,
    /// Bytes of a field or value in a packed hash.
    pub hash_max_listpack_value: usize,
    /// Members of a set of integers.
    pub set_max_intset_entries: usize,
    /// Members of a packed set.
    pub set_max_listpack_entries: usize,
    /// Bytes of a member in a packed set.
    pub set_max_listpack_value: usize,
    /// Members of a packed sorted set.
    pub zset_max_listpack_entries: usize,
    /// Bytes of a member in a packed sorted set.
    pub zset_max_listpack_value: usize,
    /// Elements of a list's node if positive; -1 to -5: 4, 8, 16, 32, 64 KiB.
    pub list_max_listpack_size: i64,
    /// Nodes at each end of a list that are not compressed; 0: none is compressed.
    pub list_compress_depth: usize,
    /// Bytes from which on an element of a list gets a node of its own, not packed (DEBUG QUICKLIST-PACKED-THRESHOLD).
    pub list_packed_threshold: usize,
    /// Bytes of a stream's block; 0: no bound.
    pub stream_node_max_bytes: usize,
    /// Entries of a stream's block; 0: no bound.
    pub stream_node_max_entries: usize,
    /// Bytes of a sparse HyperLogLog.
    pub hll_sparse_max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            list_packed_threshold: 1 << 30,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            hll_sparse_max_bytes: 3000,
        }
    }
}
