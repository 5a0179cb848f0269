//! One parameter: a row of the table, and what can be done with any row.
//!
//! The rows are declared in [`table`](super::table). All that is known of a parameter is in its row; CONFIG GET, SET and
//! REWRITE, the parser of files, the sample file and the tests are readers of rows. Nothing anywhere compares a
//! parameter's name with a literal to treat it specially: if a parameter is special, its kind or its flags say how.

use super::{
    kind::{Circumstances, Kind, Source},
    settings::Settings,
    value::Value,
};
use std::{
    collections::HashMap,
    path::Path,
    sync::{LazyLock, OnceLock},
};

/// A row of the table.
pub struct Parameter {
    /// The name of Redis 7.2.
    pub name: &'static str,
    /// Older names that mean the same.
    pub aliases: &'static [&'static str],
    /// The field of [`Settings`] that holds it.
    pub field: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The default as it would stand in a file, words separated by blanks.
    pub default: &'static str,
    /// What is allowed with it.
    pub flags: Flags,
    /// The chapter of the sample file.
    pub group: &'static str,
    /// What reads it.
    pub subsystem: Subsystem,
    /// What the process does when it changes, beyond the shards.
    pub effect: Option<Effect>,
    /// What it does, line by line.
    pub doc: &'static [&'static str],
    pub(super) get: fn(&Settings) -> Value,
    pub(super) put: fn(&mut Settings, Value),
}

/// What is allowed with a parameter: any of these, joined with `|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Nothing special: CONFIG SET may change it.
    pub const NONE: Self = Self(0);
    /// Only the file and the command line can set it.
    pub const IMMUTABLE: Self = Self(1);
    /// CONFIG SET needs `enable-protected-configs`.
    pub const PROTECTED: Self = Self(2);
    /// The value is a secret: not to be logged.
    pub const SENSITIVE: Self = Self(4);
    /// CONFIG GET answers only to the exact name.
    pub const HIDDEN: Self = Self(8);
    /// CONFIG SET is refused while the dataset is loaded.
    pub const DENY_LOADING: Self = Self(16);
    /// Shardis's own: Redis does not have it.
    pub const OWN: Self = Self(32);
    /// Its subsystem exists, and the part of it that the parameter is about does not, yet.
    pub const LATER: Self = Self(64);

    /// Both sets of flags. (`const`, which `|` could not be.)
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What the process does when a parameter changes that reaches beyond the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The log says more, or less.
    LogLevel,
    /// The process may open other numbers of files.
    Descriptors,
    /// It listens on another port.
    Port,
    /// It listens on other addresses.
    Addresses,
    /// Connections are kept alive otherwise.
    KeepAlive,
    /// The process has another title.
    Title,
    /// The kernel's killer prefers or spares the process.
    OomScore,
    /// The allocator's own thread.
    AllocatorThread,
    /// What a crash leaves behind.
    CrashReport,
    /// The files are in another directory.
    Directory,
}

/// What reads a parameter. As long as a subsystem does not exist, its parameters keep their values and the log says
/// once that they have no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subsystem {
    /// The process: start, stop, log, limits of the system.
    Process,
    /// Listening, connections and their buffers.
    Network,
    /// TLS.
    Tls,
    /// The threads of the shards.
    Shards,
    /// The keyspace: encodings, table growth, expiry.
    Keyspace,
    /// `maxmemory` and eviction.
    Eviction,
    /// Freeing in the background.
    LazyFree,
    /// RDB files.
    Snapshot,
    /// The append-only file.
    AppendOnly,
    /// Masters and replicas.
    Replication,
    /// Redis Cluster.
    Cluster,
    /// Users and passwords.
    Acl,
    /// Scripts and functions.
    Scripting,
    /// Slow log, latency monitor, latency histograms.
    Statistics,
    /// Client-side caching.
    Tracking,
    /// Keyspace events.
    Notifications,
    /// Active defragmentation.
    Defragmentation,
    /// What Redis needs and a thread-per-core server does not: I/O threads, forked children.
    Unneeded,
    /// DEBUG and crash reports.
    Debugging,
}

impl Subsystem {
    /// Whether this version has it.
    fn exists(self) -> bool {
        match self {
            Self::Process
            | Self::Network
            | Self::Shards
            | Self::Keyspace
            | Self::LazyFree
            | Self::Eviction
            | Self::Acl
            | Self::Statistics
            | Self::Tracking
            | Self::Snapshot
            | Self::AppendOnly
            | Self::Scripting
            | Self::Notifications
            | Self::Replication
            | Self::Unneeded
            | Self::Debugging => true,
            Self::Tls | Self::Cluster | Self::Defragmentation => false,
        }
    }
}

impl Parameter {
    /// Whether this version does what the parameter says. The others keep their values for the versions that will. (A
    /// test looks whether anybody reads those that are said to have an effect.)
    pub fn is_in_effect(&self) -> bool {
        self.subsystem.exists() && !self.is(Flags::LATER)
    }

    /// Whether all of these flags are set.
    pub fn is(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }

    /// The value in `settings`.
    pub fn value(&self, settings: &Settings) -> Value {
        (self.get)(settings)
    }

    /// The value in `settings`, as CONFIG GET shows it.
    pub fn text(&self, settings: &Settings) -> Vec<u8> {
        self.kind.text(&self.value(settings))
    }

    /// Reads `words` and puts the value into `settings`. On an error `settings` is as it was.
    pub(super) fn parse_into(
        &self,
        settings: &mut Settings,
        words: &[&[u8]],
        source: Source,
        directory: &Path,
    ) -> Result<(), String> {
        let old = self.value(settings);
        let value = self.kind.parse(
            words,
            &Circumstances {
                source,
                old: &old,
                directory,
            },
        )?;
        (self.put)(settings, value);
        Ok(())
    }

    /// Whether the value in `settings` is the default.
    pub fn is_default(&self, settings: &Settings) -> bool {
        self.value(settings) == self.value(defaults())
    }

    /// The value of the default column, before there are any settings.
    pub(super) fn parse_default(kind: Kind, default: &str) -> Value {
        let around = Circumstances {
            source: Source::Default,
            old: &Value::Bool(false),
            directory: Path::new("."),
        };
        kind.parse(&[default.as_bytes()], &around)
            .expect("every default of the table is a value of its kind")
    }

    /// Finds a parameter by its name or one of its older names, in any case. Also answers the name that matched.
    pub fn find(name: &[u8]) -> Option<(&'static str, &'static Self)> {
        static BY_NAME: LazyLock<HashMap<&'static str, &'static Parameter>> = LazyLock::new(|| {
            let rows = super::PARAMETERS.iter();
            rows.flat_map(|row| row.names().map(move |name| (name, row))).collect()
        });
        let lower = str::from_utf8(name).ok()?.to_ascii_lowercase();
        BY_NAME.get_key_value(lower.as_str()).map(|(name, row)| (*name, *row))
    }

    /// The name and the older names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

impl PartialEq for Parameter {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Parameter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

/// The settings of a server that was started with nothing.
pub(super) fn defaults() -> &'static Settings {
    static DEFAULTS: OnceLock<Settings> = OnceLock::new();
    DEFAULTS.get_or_init(Settings::default)
}
