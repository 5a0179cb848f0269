//! Parameters of what the server measures and reports, and of finding errors in it.

/// Adds this file's rows and hands all of them to `$next`.
macro_rules! statistics_parameters {
    ($next:ident $($after:ident)*; $($rows:tt)*) => { $next! { $($after)*; $($rows)*

chapter "SLOW LOG AND LATENCY";

    /// Commands that take longer than this many microseconds enter the slow log. 0 logs all, -1 none.
    "slowlog-log-slower-than" => slowlog_log_slower_than: i64 = integer(-1, I64), "10000", Flags::NONE, Statistics;

    /// How many entries the slow log keeps.
    "slowlog-max-len" => slowlog_max_len: u64 = integer(0, I64), "128", Flags::NONE, Statistics;

    /// Events that take at least this many milliseconds enter the latency monitor. 0 turns it off.
    "latency-monitor-threshold" => latency_monitor_threshold: u64 = integer(0, I64), "0", Flags::NONE, Statistics;

    /// Whether the latency of every command is recorded in a histogram.
    "latency-tracking" => latency_tracking: bool = Kind::Bool, "yes", Flags::NONE, Statistics;

    /// The percentiles of these histograms that INFO shows.
    "latency-tracking-info-percentiles" => latency_tracking_info_percentiles: Vec<f64> = Kind::Percentiles, "50 99 99.9", Flags::NONE, Statistics;

chapter "KEYSPACE EVENTS";

    /// Which events are published. K: to channels named by key; E: to channels named by event (at least one of these);
    /// g $ l s h z x e t d: classes of commands; A: all of these; n: new keys; m: misses. Empty publishes nothing.
    "notify-keyspace-events" => notify_keyspace_events: KeyspaceEvents = Kind::KeyspaceEvents, "", Flags::NONE, Notifications;

chapter "FINDING ERRORS";

    /// Milliseconds after which a command that still runs is reported with its stack. 0 is off.
    "watchdog-period" => watchdog_period: u32 = integer(0, I32), "0", Flags::HIDDEN.and(Flags::LATER), Debugging;

    /// Microseconds to wait after each key that is loaded; a negative number waits once in so many keys.
    "key-load-delay" => key_load_delay: i32 = integer(-I32 - 1, I32), "0", Flags::HIDDEN, Snapshot;

    /// Microseconds to wait after each key that is saved; a negative number waits once in so many keys.
    "rdb-key-save-delay" => rdb_key_save_delay: i32 = integer(-I32 - 1, I32), "0", Flags::HIDDEN, Snapshot;

    /// While loading, serve clients after each so many bytes.
    "loading-process-events-interval-bytes" => loading_process_events_interval_bytes: u32 = integer(1024, I32), "2097152", Flags::HIDDEN, Unneeded;

    /// Whether a broken invariant ends the process with an exit code instead of a signal.
    "use-exit-on-panic" => use_exit_on_panic: bool = Kind::Bool, "no", Flags::HIDDEN, Debugging, effect CrashReport;

    /// Whether costly checks of invariants are on.
    "enable-debug-assert" => enable_debug_assert: bool = Kind::Bool, "no", Flags::HIDDEN.and(Flags::IMMUTABLE).and(Flags::LATER), Debugging;

    } };
}

pub(in crate::config) use statistics_parameters;
