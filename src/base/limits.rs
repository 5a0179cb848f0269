//! Every bound of the process, each with its reason.
//!
//! A server that reads from strangers must bound whatever a stranger can make grow. Where Redis 7.2 has the bound it is taken over,
//! so that what one server accepts the other accepts; the others say what they protect. Bounds that the operator may change
//! are parameters, and what stands here is their default, with `DEFAULT` in the name.

/// Bytes of one inline command, and of one `*<count>` or `$<length>` line, that may arrive without their line end. Redis 7.2
/// (64 KiB): what looks like a line and is none must not be collected for ever. A longer line that is complete is accepted.
pub const REQUEST_LINE_BYTES_MAX: usize = 64 * 1024;

/// Arguments in one request. Redis 7.0 and later take any count that fits a C `int`; the memory is bounded by the query buffer
/// instead, since an argument costs at least six bytes of it.
pub const REQUEST_ARGS_MAX: u64 = i32::MAX as u64;

/// Bytes of one argument: default of `proto-max-bulk-len`, Redis 7.2.
pub const BULK_BYTES_MAX_DEFAULT: u64 = 512 * 1024 * 1024;

/// Arguments in one request of a client that must still authenticate, Redis 6.2 and later: HELLO with AUTH and SETNAME needs
/// seven.
pub const UNAUTHENTICATED_ARGS_MAX: u64 = 10;

/// Bytes of one argument of a client that must still authenticate, Redis 6.2 and later.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: u64 = 16 * 1024;

/// Bytes that one client may have sent and not yet had executed: default of `client-query-buffer-limit`, Redis 7.2. Beyond it
/// the connection is closed.
pub const QUERY_BUFFER_BYTES_MAX_DEFAULT: usize = 1024 * 1024 * 1024;

/// Argument places that a parser makes room for on the word of a client alone. More are made as arguments arrive: the count of a
/// request is one line, and must not cost gigabytes.
pub const REQUEST_ARGS_RESERVED_MAX: usize = 1024;

/// Argument places that a parser keeps between requests; what a larger request needed is given back after it.
pub const REQUEST_ARGS_KEPT_MAX: usize = 1024;

/// Bytes of unescaped inline arguments that a parser keeps between requests.
pub const REQUEST_SCRATCH_KEPT_BYTES_MAX: usize = 4 * 1024;

/// A value of at least so many bytes is put into a reply by reference, a smaller one is copied. A reference costs about 40 ns here and
/// a further segment in the send. Copying 16 KiB costs 130 ns when all is in the cache, and several µs when it is not or when the buffer must grow.
pub const REPLY_SHARED_BYTES_MIN: usize = 16 * 1024;

/// Bytes of a reply buffer that are kept for the next reply when it is emptied. Redis's fixed reply buffer has the same size.
pub const REPLY_KEPT_BYTES_MAX: usize = 16 * 1024;

/// Bytes that are made of a reply which nobody gets (CLIENT REPLY OFF and SKIP): it is made before it is dropped, and need not be whole.
pub const REPLY_SILENT_BYTES_MAX: usize = 64 * 1024;

/// Bytes of unread replies that are put into one send. Larger sends do not go out faster, and hold their memory longer.
pub const REPLY_SEND_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a user's text that an error reply repeats: of the name of an unknown command, and of its arguments together. Redis 7.2.
pub const ERROR_ECHO_BYTES_MAX: usize = 128;

/// Bytes of one string value that APPEND, SETRANGE and SETBIT may make: `proto-max-bulk-len`, which also bounds what a client could
/// have sent as one value.
pub const STRING_BYTES_MAX_DEFAULT: u64 = BULK_BYTES_MAX_DEFAULT;

/// Clients connected at once: default of `maxclients`, Redis 7.2.
pub const CLIENTS_MAX_DEFAULT: u32 = 10_000;

/// Databases: default of `databases`, Redis 7.2.
pub const DATABASES_DEFAULT: u32 = 16;

/// Commands of one client that may be under way on other shards, or wait for slots there. A pipeline's batches are smaller; each
/// takes some hundred bytes outside of what the client is seen to use.
pub const UNDER_WAY_COUNT_MAX: usize = 1024;

/// Bytes of such commands, and of replies that are kept back behind them: what a client that does not wait for its replies may take
/// of the memory of links and queues. A single command may be larger.
pub const UNDER_WAY_BYTES_MAX: usize = 256 * 1024;

/// Bytes that wait for room in the link to one shard. Beyond that, clients with further commands for it wait: four rings' worth, so
/// that a shard which is late for a few passes stops nobody.
pub const LINK_STAGED_BYTES_MAX: usize = 256 * 1024;

/// Levels of arrays and maps in one value that is read (replies of peers) or walked recursively. Redis bounds its Lua conversions the same way; deeper
/// is an attack on the stack, not data.
pub const NESTING_MAX: usize = 128;

/// What a reader of a shard's log may lag behind before it is detached, in bytes: one stuck replica must not take the server down.
/// Redis's hard limit for replicas is 256 MB for the process.
pub const LOG_LAG_BYTES_MAX: u64 = 64 * 1024 * 1024;
