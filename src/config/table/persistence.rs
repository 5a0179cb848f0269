//! Parameters of snapshots and of the append-only file.

/// Adds this file's rows and hands all of them to `$next`.
macro_rules! persistence_parameters {
    ($next:ident $($after:ident)*; $($rows:tt)*) => { $next! { $($after)*; $($rows)*

chapter "SNAPSHOTS";

    /// Save a snapshot after so many seconds if so many keys have changed; several pairs may follow each other, and several
    /// lines add up. `save ""` turns it off.
    "save" => save: Vec<SavePoint> = Kind::SavePoints, "3600 1 300 100 60 10000", Flags::NONE, Snapshot;

    /// Whether writes are refused after a snapshot has failed, until one succeeds.
    "stop-writes-on-bgsave-error" => stop_writes_on_bgsave_error: bool = Kind::Bool, "yes", Flags::NONE, Snapshot;

    /// Whether strings in a snapshot are compressed with LZF.
    "rdbcompression" => rdbcompression: bool = Kind::Bool, "yes", Flags::NONE, Keyspace;

    /// Whether a snapshot ends with a checksum, and whether it is checked.
    "rdbchecksum" => rdbchecksum: bool = Kind::Bool, "yes", Flags::IMMUTABLE, Snapshot;

    /// The version of the format in which snapshots, DUMP payloads and full syncs are written: 10 is read by Redis 7.0,
    /// 11 by Redis 7.2 and Valkey, 12 by Redis 7.4 and newer. All are read. A hash with fields that expire is always written
    /// as 12.
    "rdb-version" => rdb_version: u8 = integer(10, 12), "11", Flags::OWN, Keyspace;

    /// Whether Redis checks payloads and files down to every element before it loads them. Here that is always done.
    "sanitize-dump-payload" => sanitize_dump_payload: SanitizeDumpPayload = Kind::Choice(SanitizeDumpPayload::NAMES), "no", Flags::NONE, Unneeded;

    /// The name of the snapshot within `dir`.
    "dbfilename" => dbfilename: Text = Kind::Text(check::dump_file), "dump.rdb", Flags::PROTECTED, Snapshot;

    /// What a snapshot is on the disk: one file (`merged`), or a file for each shard (`per-shard`), complete only together
    /// and named `dump.<i>-of-<n>.rdb` after `dbfilename`: nothing is copied then, which counts with large data sets. Both
    /// are loaded by any number of shards.
    "rdb-layout" => rdb_layout: RdbLayout = Kind::Choice(RdbLayout::NAMES), "merged", Flags::OWN, Snapshot;

    /// Whether a snapshot that was only needed for replication is deleted where nothing else is kept on disk.
    "rdb-del-sync-files" => rdb_del_sync_files: bool = Kind::Bool, "no", Flags::LATER, Snapshot;

    /// How many bytes of what has changed since a snapshot began are kept as it was, until it is saved: for each shard.
    /// Beyond that, writers of keys that are not saved yet wait.
    "snapshot-memory-max" => snapshot_memory_max: u64 = memory(1024, u64::MAX), "64mb", Flags::OWN, Snapshot;

    /// Whether a snapshot is forced to disk bit by bit as it grows, instead of all at its end.
    "rdb-save-incremental-fsync" => rdb_save_incremental_fsync: bool = Kind::Bool, "yes", Flags::NONE, Snapshot;

chapter "APPEND-ONLY FILE";

    /// Whether every change is logged, and the log is loaded at the start instead of the snapshot.
    "appendonly" => appendonly: bool = Kind::Bool, "no", Flags::DENY_LOADING, AppendOnly;

    /// What the names of the log's files begin with.
    "appendfilename" => appendfilename: Text = Kind::Text(check::append_file), "appendonly.aof", Flags::IMMUTABLE, AppendOnly;

    /// The directory of the log's files within `dir`.
    "appenddirname" => appenddirname: Text = Kind::Text(check::append_directory), "appendonlydir", Flags::IMMUTABLE, AppendOnly;

    /// What the log is on the disk: increments for each shard (`per-shard`), of which servers of this kind read all, or one
    /// (`single`), which Redis reads as well. With one shard both are the same.
    "aof-layout" => aof_layout: AofLayout = Kind::Choice(AofLayout::NAMES), "per-shard", Flags::OWN.and(Flags::IMMUTABLE), AppendOnly;

    /// When the log is forced to disk: once a second, before every reply, or when the kernel pleases.
    "appendfsync" => appendfsync: AppendFsync = Kind::Choice(AppendFsync::NAMES), "everysec", Flags::NONE, AppendOnly;

    /// Whether the log is not forced to disk while a snapshot or a rewrite is written. It spares waiting and may lose more.
    "no-appendfsync-on-rewrite" => no_appendfsync_on_rewrite: bool = Kind::Bool, "no", Flags::NONE, AppendOnly;

    /// Rewrite the log when it has grown by this percentage since the last rewrite. 0 never does.
    "auto-aof-rewrite-percentage" => auto_aof_rewrite_percentage: u32 = integer(0, I32), "100", Flags::NONE, AppendOnly;

    /// But not while it is smaller than this.
    "auto-aof-rewrite-min-size" => auto_aof_rewrite_min_size: u64 = memory(0, BYTES), "64mb", Flags::NONE, AppendOnly;

    /// Whether a log whose last command was cut off is loaded without it, instead of ending the start.
    "aof-load-truncated" => aof_load_truncated: bool = Kind::Bool, "yes", Flags::NONE, AppendOnly;

    /// Whether a rewritten log begins with a snapshot, which loads faster than commands.
    "aof-use-rdb-preamble" => aof_use_rdb_preamble: bool = Kind::Bool, "yes", Flags::NONE, AppendOnly;

    /// Whether times are written into the log, so that it can be loaded up to a moment.
    "aof-timestamp-enabled" => aof_timestamp_enabled: bool = Kind::Bool, "no", Flags::NONE, AppendOnly;

    /// Whether a rewritten log is forced to disk bit by bit as it grows.
    "aof-rewrite-incremental-fsync" => aof_rewrite_incremental_fsync: bool = Kind::Bool, "yes", Flags::NONE, AppendOnly;

    /// Whether files that a rewrite has replaced are kept, for finding errors.
    "aof-disable-auto-gc" => aof_disable_auto_gc: bool = Kind::Bool, "no", Flags::NONE, AppendOnly;

    } };
}

pub(in crate::config) use persistence_parameters;
