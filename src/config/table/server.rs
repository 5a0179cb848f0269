//! Parameters of the process as a whole: shards, start and stop, log, what clients may do to the server.

/// Adds this file's rows and hands all of them to `$next`.
macro_rules! server_parameters {
    ($next:ident $($after:ident)*; $($rows:tt)*) => { $next! { $($after)*; $($rows)*

chapter "SHARDS";

    /// How many shards there are: threads, each with its own part of the keyspace. `auto` (or 0) starts one for each CPU
    /// that the process may use, by its affinity and by the quota of its control group.
    "shards" => shards: u16 = Kind::CountOrAuto { max: 1024 }, "auto", Flags::IMMUTABLE.and(Flags::OWN), Shards;

    /// Whether each shard's thread stays on one CPU. Turn it off where other processes compete for the same CPUs.
    "pin-shards" => pin_shards: bool = Kind::Bool, "yes", Flags::IMMUTABLE.and(Flags::OWN), Shards;

    /// Whether shard i also listens on a port of its own, `port` + 1 + i, and CLUSTER SLOTS, SHARDS and NODES name these
    /// ports. A cluster-aware client then talks to the thread that owns a key with no detour. Every port serves every key.
    "shard-ports" => shard_ports: bool = Kind::Bool, "no", Flags::IMMUTABLE.and(Flags::OWN), Shards;

    /// Replies always come in the order of the requests. With `relaxed`, single-slot commands that one client pipelines
    /// to different shards may run at the same time, as they may on the nodes of a Redis Cluster; with `strict`, each
    /// waits for the one before it.
    "pipeline-order" => pipeline_order: PipelineOrder = Kind::Choice(PipelineOrder::NAMES), "relaxed", Flags::OWN, Shards;

    /// Whether every request is answered with a constant instead of being run: what the sockets and the parser cost by
    /// themselves, as the ceiling that benchmarks measure against.
    "echo-ceiling" => echo_ceiling: bool = Kind::Bool, "no", Flags::IMMUTABLE.and(Flags::OWN).and(Flags::HIDDEN), Shards;

chapter "GENERAL";

    /// Whether to detach from the terminal and run in the background. Under systemd or in a container, say no.
    "daemonize" => daemonize: bool = Kind::Bool, "no", Flags::IMMUTABLE, Process;

    /// Which supervisor to tell that the server is ready: `upstart` raises SIGSTOP, `systemd` writes READY=1 to
    /// $NOTIFY_SOCKET, `auto` looks which of the two the environment names.
    "supervised" => supervised: Supervised = Kind::Choice(Supervised::NAMES), "no", Flags::IMMUTABLE, Process;

    /// The file that holds the process id while the server runs. If it is empty and `daemonize` is on,
    /// /var/run/redis.pid.
    "pidfile" => pidfile: Text = Kind::Text(check::any), "", Flags::IMMUTABLE, Process;

    /// How much is logged. Each level includes the ones after it.
    "loglevel" => loglevel: LogLevel = Kind::Choice(LogLevel::NAMES), "notice", Flags::NONE, Process, effect LogLevel;

    /// The file that the log is appended to; empty is standard output, or nothing if `daemonize` is on.
    "logfile" => logfile: Text = Kind::Text(check::any), "", Flags::IMMUTABLE, Process;

    /// Whether the log also goes to syslog.
    "syslog-enabled" => syslog_enabled: bool = Kind::Bool, "no", Flags::IMMUTABLE, Process;

    /// The name of the program in syslog.
    "syslog-ident" => syslog_ident: Text = Kind::Text(check::any), "redis", Flags::IMMUTABLE, Process;

    /// The facility in syslog.
    "syslog-facility" => syslog_facility: SyslogFacility = Kind::Choice(SyslogFacility::NAMES), "local0", Flags::IMMUTABLE, Process;

    /// Whether a crash writes its report to the log.
    "crash-log-enabled" => crash_log_enabled: bool = Kind::Bool, "yes", Flags::NONE, Debugging, effect CrashReport;

    /// Whether a crash is followed by a test of the memory.
    "crash-memcheck-enabled" => crash_memcheck_enabled: bool = Kind::Bool, "yes", Flags::LATER, Debugging;

    /// How many databases SELECT can choose from, counted from 0.
    "databases" => databases: u32 = integer(1, I32), "16", Flags::IMMUTABLE, Keyspace;

    /// Whether the logo is shown even when standard output is not a terminal.
    "always-show-logo" => always_show_logo: bool = Kind::Bool, "no", Flags::IMMUTABLE, Process;

    /// Whether the server changes the title by which `ps` and `top` show it.
    "set-proc-title" => set_proc_title: bool = Kind::Bool, "yes", Flags::IMMUTABLE, Process;

    /// What the title is made of. Known are {title} {listen-addr} {server-mode} {port} {tls-port} {unixsocket}
    /// {config-file}.
    "proc-title-template" => proc_title_template: Text = Kind::Text(check::title_template),
        "{title} {listen-addr} {server-mode}", Flags::NONE, Process, effect Title;

    /// The locale by whose rules strings are compared where they are meant for people (SORT ALPHA, sorted by `strcoll`).
    /// Empty takes it from the environment.
    "locale-collate" => locale_collate: Text = Kind::Text(check::any), "", Flags::LATER, Process;

    /// The directory of all files that are written: snapshots, append-only files, nodes.conf.
    "dir" => dir: Text = Kind::Directory, "./", Flags::PROTECTED.and(Flags::DENY_LOADING), Process, effect Directory;

    /// How many times a second background work runs (expiry, timeouts of clients, statistics).
    "hz" => hz: u32 = integer_kept(0, I32, (1, 500)), "10", Flags::NONE, Keyspace;

    /// Whether background work runs more often while many clients are connected.
    "dynamic-hz" => dynamic_hz: bool = Kind::Bool, "yes", Flags::NONE, Unneeded;

    /// Warnings of the start that are not to end the process (`ARM64-COW-BUG`).
    "ignore-warnings" => ignore_warnings: Text = Kind::Text(check::any), "", Flags::NONE, Unneeded;

    /// What SIGTERM does: `default` saves if there are save points; `save` always, `nosave` never; `now` does not wait
    /// for replicas that lag behind; `force` exits even if saving fails.
    "shutdown-on-sigterm" => shutdown_on_sigterm: ShutdownFlags = Kind::Bits(ShutdownFlags::NAMES, check::shutdown_flags),
        "default", Flags::NONE, Process;

    /// What SIGINT does, in the same words.
    "shutdown-on-sigint" => shutdown_on_sigint: ShutdownFlags = Kind::Bits(ShutdownFlags::NAMES, check::shutdown_flags),
        "default", Flags::NONE, Process;

    /// How many seconds a shutdown waits for replicas that lag behind.
    "shutdown-timeout" => shutdown_timeout: u32 = integer(0, I32), "10", Flags::LATER, Replication;

chapter "SECURITY";

    /// Who may change protected parameters (`dir`, `dbfilename`) with CONFIG SET: nobody, everybody, or clients of this
    /// host.
    "enable-protected-configs" => enable_protected_configs: Permission = Kind::Choice(Permission::NAMES), "no", Flags::IMMUTABLE, Acl;

    /// Who may use DEBUG.
    "enable-debug-command" => enable_debug_command: Permission = Kind::Choice(Permission::NAMES), "no", Flags::IMMUTABLE, Debugging;

    /// Who may use MODULE LOAD, LOADEX and UNLOAD.
    "enable-module-command" => enable_module_command: Permission = Kind::Choice(Permission::NAMES), "no", Flags::IMMUTABLE, Acl;

    /// The password of the default user. Empty lets everybody in.
    "requirepass" => requirepass: Text = Kind::Text(check::any), "", Flags::SENSITIVE, Acl;

    /// The file that users are loaded from and ACL SAVE writes to. It excludes `user` lines in this file.
    "aclfile" => aclfile: Text = Kind::Text(check::any), "", Flags::IMMUTABLE.and(Flags::LATER), Acl;

    /// How many refusals ACL LOG remembers.
    "acllog-max-len" => acllog_max_len: u64 = integer(0, I64), "128", Flags::LATER, Acl;

    /// Which Pub/Sub channels a new user may use before rules say more.
    "acl-pubsub-default" => acl_pubsub_default: AclPubsubDefault = Kind::Choice(AclPubsubDefault::NAMES), "resetchannels", Flags::LATER, Acl;

chapter "SCRIPTS";

    /// After this many milliseconds in a script, other clients are answered BUSY and may SCRIPT KILL or SHUTDOWN NOSAVE.
    /// 0 never answers BUSY.
    "busy-reply-threshold" | "lua-time-limit" => busy_reply_threshold: u64 = integer(0, I64), "5000", Flags::NONE, Scripting;

    /// How much memory the interpreter of each shard may take: a script that needs more ends with an error. 0: no bound.
    "lua-memory-max" => lua_memory_max: u64 = memory(0, u64::MAX), "256mb", Flags::OWN, Scripting;

chapter "KERNEL AND THREADS";

    /// Whether the server sets its own score for the kernel's out-of-memory killer: `relative` (or yes) adds
    /// `oom-score-adj-values` to the score at the start, `absolute` writes them.
    "oom-score-adj" => oom_score_adj: OomScoreAdj = Kind::Choice(OomScoreAdj::NAMES), "no", Flags::NONE, Process, effect OomScore;

    /// The scores of a master, of a replica, and of a process that saves in the background.
    "oom-score-adj-values" => oom_score_adj_values: [i32; 3] = Kind::OomScores, "0 200 800", Flags::NONE, Process, effect OomScore;

    /// Whether transparent huge pages are turned off for this process.
    "disable-thp" => disable_thp: bool = Kind::Bool, "yes", Flags::IMMUTABLE, Process;

    /// Redis's I/O threads. Shards replace them.
    "io-threads" => io_threads: u8 = integer(1, 128), "1", Flags::IMMUTABLE, Unneeded;

    /// Whether Redis's I/O threads read too. Shards replace them.
    "io-threads-do-reads" => io_threads_do_reads: bool = Kind::Bool, "no", Flags::IMMUTABLE, Unneeded;

    /// The CPUs that shards may be pinned to, as `0-3,8` or `0-7:2`. Empty is all that the process may use.
    "server_cpulist" => server_cpulist: Text = Kind::Text(check::any), "", Flags::IMMUTABLE, Shards;

    /// The CPUs of background threads.
    "bio_cpulist" => bio_cpulist: Text = Kind::Text(check::any), "", Flags::IMMUTABLE, Unneeded;

    /// The CPUs of Redis's child that rewrites the append-only file. Here the shards do it.
    "aof_rewrite_cpulist" => aof_rewrite_cpulist: Text = Kind::Text(check::any), "", Flags::IMMUTABLE, Unneeded;

    /// The CPUs of Redis's child that saves a snapshot. Here the shards do it.
    "bgsave_cpulist" => bgsave_cpulist: Text = Kind::Text(check::any), "", Flags::IMMUTABLE, Unneeded;

    /// Whether the allocator gives unused memory back in a thread of its own, also while nothing happens.
    "jemalloc-bg-thread" => jemalloc_bg_thread: bool = Kind::Bool, "yes", Flags::NONE, Process, effect AllocatorThread;

    } };
}

pub(in crate::config) use server_parameters;
