//! The values of parameters that take one (or several) of a fixed set of words.
//!
//! Each type carries its words in the order in which Redis lists them, because that order is what
//! `argument(s) must be one of the following: ...` prints. A word may stand for the same value as another
//! (`oom-score-adj yes` is `relative`); the first one is how the value is written back.

/// Declares an enum whose variants have one or more names, and the list of all names in order.
macro_rules! choice {
    ($(#[$meta:meta])* $type:ident { $($(#[doc = $doc:literal])+ $variant:ident = $name:literal $(| $other:literal)*;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[doc = $doc])+ $variant,)+ }

        impl $type {
            /// Every accepted name with the number of its variant, in the order of Redis's error text.
            pub const NAMES: &'static [(&'static str, u32)] =
                &[$(($name, Self::$variant as u32), $(($other, Self::$variant as u32),)*)+];

            /// The name under which the value is written.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            pub(super) fn from_number(number: u32) -> Self {
                $(if number == Self::$variant as u32 { return Self::$variant; })+
                unreachable!("{} has no value {number}", stringify!($type))
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str(self.name())
            }
        }
    };
}

choice! {
    /// How much is written to the log; each level includes those after it.
    LogLevel {
        /// Everything, for development.
        Debug = "debug";
        /// What happens to connections and tables.
        Verbose = "verbose";
        /// What an operator wants to know.
        Notice = "notice";
        /// Only what needs attention.
        Warning = "warning";
    }
}

choice! {
    /// Which supervisor is told when the server is ready.
    Supervised {
        /// Raise SIGSTOP when ready.
        Upstart = "upstart";
        /// Write to `$NOTIFY_SOCKET`.
        Systemd = "systemd";
        /// Find out from the environment.
        Auto = "auto";
        /// None.
        No = "no";
    }
}

choice! {
    /// The oldest version that a replica may have.
    ReplCompat {
        /// What each says of itself; 7.0 where it says nothing.
        Auto = "auto";
        /// Redis 6.2
        V6_2 = "6.2";
        /// Redis 7.0
        V7_0 = "7.0";
        /// Redis 7.2, and Valkey up to 8
        V7_2 = "7.2";
        /// Redis 7.4 to 8.4
        V7_4 = "7.4";
        /// Valkey 9
        Valkey9 = "valkey-9";
    }
}

choice! {
    /// The syslog facility.
    SyslogFacility {
        /// LOG_USER
        User = "user";
        /// LOG_LOCAL0
        Local0 = "local0";
        /// LOG_LOCAL1
        Local1 = "local1";
        /// LOG_LOCAL2
        Local2 = "local2";
        /// LOG_LOCAL3
        Local3 = "local3";
        /// LOG_LOCAL4
        Local4 = "local4";
        /// LOG_LOCAL5
        Local5 = "local5";
        /// LOG_LOCAL6
        Local6 = "local6";
        /// LOG_LOCAL7
        Local7 = "local7";
    }
}

choice! {
    /// Who may use something dangerous: `DEBUG`, `MODULE`, protected parameters.
    Permission {
        /// Nobody.
        No = "no";
        /// Everybody.
        Yes = "yes";
        /// Clients of the loopback interface and of the Unix socket.
        Local = "local";
    }
}

impl Permission {
    /// Whether a client may, given where it comes from.
    pub fn allows(self, is_local_client: bool) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Local => is_local_client,
        }
    }
}

choice! {
    /// What to evict when `maxmemory` is reached.
    MaxmemoryPolicy {
        /// Least recently used of the keys that expire.
        VolatileLru = "volatile-lru";
        /// Least frequently used of the keys that expire.
        VolatileLfu = "volatile-lfu";
        /// Any of the keys that expire.
        VolatileRandom = "volatile-random";
        /// The key that expires first.
        VolatileTtl = "volatile-ttl";
        /// Least recently used of all keys.
        AllkeysLru = "allkeys-lru";
        /// Least frequently used of all keys.
        AllkeysLfu = "allkeys-lfu";
        /// Any key.
        AllkeysRandom = "allkeys-random";
        /// Nothing: writes that need memory fail.
        Noeviction = "noeviction";
    }
}

choice! {
    /// When the append-only file is forced to disk.
    AppendFsync {
        /// Once a second.
        Everysec = "everysec";
        /// Before any reply leaves.
        Always = "always";
        /// When the kernel pleases.
        No = "no";
    }
}

choice! {
    /// What the append-only file is on the disk.
    AofLayout {
        /// Increments for each shard.
        PerShard = "per-shard";
        /// One for all of them.
        Single = "single";
    }
}

choice! {
    /// How a replica takes in an RDB that arrives over the socket.
    DisklessLoad {
        /// By way of a file.
        Disabled = "disabled";
        /// Straight from the socket if the dataset is empty.
        OnEmptyDb = "on-empty-db";
        /// Straight from the socket, the old dataset kept until the new one is complete.
        Swapdb = "swapdb";
    }
}

choice! {
    /// How deep payloads of RESTORE and RDB are checked.
    SanitizeDumpPayload {
        /// Never.
        No = "no";
        /// Always.
        Yes = "yes";
        /// Only what clients send.
        Clients = "clients";
    }
}

choice! {
    /// Which Pub/Sub channels a new ACL user may use.
    AclPubsubDefault {
        /// All.
        Allchannels = "allchannels";
        /// None.
        Resetchannels = "resetchannels";
    }
}

choice! {
    /// Whether TLS clients must show a certificate.
    TlsAuthClients {
        /// It is not asked for.
        No = "no";
        /// It is required.
        Yes = "yes";
        /// It is checked when shown.
        Optional = "optional";
    }
}

choice! {
    /// What a cluster node tells clients to connect to.
    EndpointType {
        /// The address.
        Ip = "ip";
        /// The announced host name.
        Hostname = "hostname";
        /// Nothing: the client reuses the endpoint it knows.
        UnknownEndpoint = "unknown-endpoint";
    }
}

choice! {
    /// Whether the server writes its own OOM score.
    OomScoreAdj {
        /// Leave it alone.
        No = "no";
        /// `oom-score-adj-values` are added to the score at the start.
        Relative = "yes" | "relative";
        /// `oom-score-adj-values` are written as they are.
        Absolute = "absolute";
    }
}

choice! {
    /// What to do when a replica or the loading of an AOF meets a command that fails.
    PropagationErrorBehavior {
        /// Go on.
        Ignore = "ignore";
        /// End the process.
        Panic = "panic";
        /// End the process if it is a replica.
        PanicOnReplicas = "panic-on-replicas";
    }
}

choice! {
    /// How strictly the order of one connection's pipelined commands is kept.
    PipelineOrder {
        /// Single-slot commands of different shards may overlap; replies stay in order.
        Relaxed = "relaxed";
        /// Each command waits for the one before it.
        Strict = "strict";
    }
}

choice! {
    /// What a snapshot is on the disk.
    RdbLayout {
        /// One file.
        Merged = "merged";
        /// A file for each shard, complete only together.
        PerShard = "per-shard";
    }
}

/// What SIGTERM or SIGINT does: a set of words (`shutdown-on-sigterm nosave force`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownFlags(pub(super) u32);

impl ShutdownFlags {
    /// Save if there are save points.
    pub const DEFAULT: Self = Self(0);
    /// Save even without save points.
    pub const SAVE: Self = Self(1);
    /// Do not save.
    pub const NOSAVE: Self = Self(2);
    /// Do not wait for lagging replicas.
    pub const NOW: Self = Self(4);
    /// Exit even when saving fails.
    pub const FORCE: Self = Self(8);

    /// Every accepted name with its bits, in the order of Redis's error text.
    pub const NAMES: &'static [(&'static str, u32)] = &[
        ("default", Self::DEFAULT.0),
        ("save", Self::SAVE.0),
        ("nosave", Self::NOSAVE.0),
        ("now", Self::NOW.0),
        ("force", Self::FORCE.0),
    ];

    /// Whether every flag of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_agree() {
        assert_eq!(
            OomScoreAdj::NAMES,
            &[("no", 0), ("yes", 1), ("relative", 1), ("absolute", 2)]
        );
        assert_eq!(OomScoreAdj::from_number(1).name(), "yes");
        assert_eq!(MaxmemoryPolicy::from_number(7), MaxmemoryPolicy::Noeviction);
        assert_eq!(AppendFsync::Always.to_string(), "always");
    }

    #[test]
    fn local_permission_looks_at_the_client() {
        assert!(Permission::Local.allows(true) && !Permission::Local.allows(false));
        assert!(Permission::Yes.allows(false) && !Permission::No.allows(true));
    }
}
