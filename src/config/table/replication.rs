//! Parameters of masters and replicas.

/// Adds this file's rows and hands all of them to `$next`.
macro_rules! replication_parameters {
    ($next:ident $($after:ident)*; $($rows:tt)*) => { $next! { $($after)*; $($rows)*

chapter "REPLICATION";

    /// The master that this server copies: host and port, or `no one`.
    "replicaof" | "slaveof" => replicaof: Option<Endpoint> = Kind::Master, "no one", Flags::IMMUTABLE, Replication;

    /// The password for the master.
    "masterauth" => masterauth: Text = Kind::Text(check::any), "", Flags::SENSITIVE, Replication;

    /// The user for the master; empty is the default user.
    "masteruser" => masteruser: Text = Kind::Text(check::any), "", Flags::SENSITIVE, Replication;

    /// Whether a replica without its master goes on answering with what it has.
    "replica-serve-stale-data" | "slave-serve-stale-data" => replica_serve_stale_data: bool = Kind::Bool, "yes", Flags::NONE, Replication;

    /// Whether a replica refuses writes.
    "replica-read-only" | "slave-read-only" => replica_read_only: bool = Kind::Bool, "yes", Flags::NONE, Replication;

    /// Whether a full sync is sent straight to the socket, without a file on the master.
    "repl-diskless-sync" => repl_diskless_sync: bool = Kind::Bool, "yes", Flags::NONE, Replication;

    /// How many seconds a full sync waits for more replicas that want the same.
    "repl-diskless-sync-delay" => repl_diskless_sync_delay: u32 = integer(0, I32), "5", Flags::NONE, Replication;

    /// Do not wait any longer once this many replicas want a full sync. 0 always waits.
    "repl-diskless-sync-max-replicas" => repl_diskless_sync_max_replicas: u32 = integer(0, I32), "0", Flags::NONE, Replication;

    /// How a replica loads a full sync: from a file, or straight from the socket.
    "repl-diskless-load" => repl_diskless_load: DisklessLoad = Kind::Choice(DisklessLoad::NAMES), "disabled", Flags::DENY_LOADING.and(Flags::LATER), Replication;

    /// How often a master pings its replicas, in seconds.
    "repl-ping-replica-period" | "repl-ping-slave-period" => repl_ping_replica_period: u32 = integer(1, I32), "10", Flags::NONE, Replication;

    /// After how many silent seconds a master or a replica is taken for lost.
    "repl-timeout" => repl_timeout: u32 = integer(1, I32), "60", Flags::NONE, Replication;

    /// Whether small packets to replicas are gathered, which saves traffic and adds delay.
    "repl-disable-tcp-nodelay" => repl_disable_tcp_nodelay: bool = Kind::Bool, "no", Flags::LATER, Replication;

    /// The oldest version that a replica may have, which says in which form a full sync is sent to it.
    /// `auto` goes by what each replica says of itself, and is 7.0 for those that say nothing.
    "repl-compat" => repl_compat: ReplCompat = Kind::Choice(ReplCompat::NAMES), "auto", Flags::OWN, Replication;

    /// How much of the stream of changes is remembered for replicas that reconnect.
    "repl-backlog-size" => repl_backlog_size: u64 = memory_of_at_least(16384, 1, BYTES), "1mb", Flags::NONE, Replication;

    /// After how many seconds without a replica the backlog is freed. 0 keeps it.
    "repl-backlog-ttl" => repl_backlog_ttl: u64 = integer(0, I64), "3600", Flags::NONE, Replication;

    /// Which replica Sentinel promotes: the lowest number first, 0 never.
    "replica-priority" | "slave-priority" => replica_priority: u32 = integer(0, I32), "100", Flags::NONE, Replication;

    /// Whether this replica is among those that Sentinel reports.
    "replica-announced" => replica_announced: bool = Kind::Bool, "yes", Flags::NONE, Replication;

    /// The address that a replica tells its master, where its own is translated on the way.
    "replica-announce-ip" | "slave-announce-ip" => replica_announce_ip: Text = Kind::Text(check::any), "", Flags::NONE, Replication;

    /// The port that a replica tells its master.
    "replica-announce-port" | "slave-announce-port" => replica_announce_port: u16 = integer(0, 65535), "0", Flags::NONE, Replication;

    /// A master refuses writes when fewer replicas than this are up to date. 0 never does.
    "min-replicas-to-write" | "min-slaves-to-write" => min_replicas_to_write: u32 = integer(0, I32), "0", Flags::NONE, Replication;

    /// How many seconds ago a replica must have been heard of to count as up to date.
    "min-replicas-max-lag" | "min-slaves-max-lag" => min_replicas_max_lag: u32 = integer(0, I32), "10", Flags::NONE, Replication;

    /// Whether a replica frees its old dataset in the background before a full sync.
    "replica-lazy-flush" | "slave-lazy-flush" => replica_lazy_flush: bool = Kind::Bool, "no", Flags::LATER, Replication;

    /// What to do when a command of the master or of the append-only file fails.
    "propagation-error-behavior" => propagation_error_behavior: PropagationErrorBehavior = Kind::Choice(PropagationErrorBehavior::NAMES),
        "ignore", Flags::LATER, Replication;

    /// Whether a replica goes on when it cannot write its append-only file.
    "replica-ignore-disk-write-errors" => replica_ignore_disk_write_errors: bool = Kind::Bool, "no", Flags::LATER, Replication;

    } };
}

pub(in crate::config) use replication_parameters;
