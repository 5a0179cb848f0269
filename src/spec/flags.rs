//! Flags, ACL categories and groups of commands, with Redis's names.

/// Declares a set of named bits: the type, its constants, and the names in declaration order.
macro_rules! bit_set {
    ($(#[$doc:meta])* $type:ident: $repr:ty { $($(#[$item:meta])* $constant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $type($repr);

        #[allow(non_camel_case_types, clippy::upper_case_acronyms)] // positions only: the constants below carry the names
        #[repr(u8)]
        enum Position { $($constant,)* }

        impl $type {
            pub const NONE: $type = $type(0);
            $($(#[$item])* pub const $constant: $type = $type(1 << Position::$constant as u8);)*
            /// Every bit with the name that Redis prints for it.
            pub const NAMES: &'static [(&'static str, $type)] = &[$(($name, $type::$constant),)*];

            #[inline]
            pub const fn union(self, other: $type) -> $type {
                $type(self.0 | other.0)
            }

            /// Whether all bits of `other` are set.
            #[inline]
            pub const fn contains(self, other: $type) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any bit of `other` is set.
            #[inline]
            pub const fn intersects(self, other: $type) -> bool {
                self.0 & other.0 != 0
            }

            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The names of the set bits, in declaration order.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                Self::NAMES.iter().filter(move |(_, bit)| self.contains(*bit)).map(|(name, _)| *name)
            }

            /// The bit of that name.
            pub fn named(name: &str) -> Option<$type> {
                Self::NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, bit)| *bit)
            }
        }
    };
}
pub(super) use bit_set;

bit_set! {
    /// How a command behaves, as `COMMAND INFO` lists it.
    Flags: u32 {
        WRITE = "write",
        READONLY = "readonly",
        DENYOOM = "denyoom",
        MODULE = "module",
        ADMIN = "admin",
        PUBSUB = "pubsub",
        NOSCRIPT = "noscript",
        BLOCKING = "blocking",
        LOADING = "loading",
        STALE = "stale",
        SKIP_MONITOR = "skip_monitor",
        SKIP_SLOWLOG = "skip_slowlog",
        ASKING = "asking",
        FAST = "fast",
        NO_AUTH = "no_auth",
        MAY_REPLICATE = "may_replicate",
        NO_ASYNC_LOADING = "no_async_loading",
        NO_MULTI = "no_multi",
        NO_MANDATORY_KEYS = "no_mandatory_keys",
        ALLOW_BUSY = "allow_busy",
    }
}

mod categories {
    bit_set! {
        /// ACL categories.
        Categories: u32 {
            KEYSPACE = "keyspace",
            READ = "read",
            WRITE = "write",
            SET = "set",
            SORTEDSET = "sortedset",
            LIST = "list",
            HASH = "hash",
            STRING = "string",
            BITMAP = "bitmap",
            HYPERLOGLOG = "hyperloglog",
            GEO = "geo",
            STREAM = "stream",
            PUBSUB = "pubsub",
            ADMIN = "admin",
            FAST = "fast",
            SLOW = "slow",
            BLOCKING = "blocking",
            DANGEROUS = "dangerous",
            CONNECTION = "connection",
            TRANSACTION = "transaction",
            SCRIPTING = "scripting",
        }
    }
}
pub use categories::Categories;

/// The group a command is documented under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Bitmap,
    Cluster,
    Connection,
    Generic,
    Geo,
    Hash,
    HyperLogLog,
    List,
    PubSub,
    Scripting,
    Sentinel,
    Server,
    Set,
    SortedSet,
    Stream,
    String,
    Transactions,
}

impl Group {
    /// The name in `COMMAND DOCS`.
    pub fn name(self) -> &'static str {
        match self {
            Group::Bitmap => "bitmap",
            Group::Cluster => "cluster",
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::Geo => "geo",
            Group::Hash => "hash",
            Group::HyperLogLog => "hyperloglog",
            Group::List => "list",
            Group::PubSub => "pubsub",
            Group::Scripting => "scripting",
            Group::Sentinel => "sentinel",
            Group::Server => "server",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Stream => "stream",
            Group::String => "string",
            Group::Transactions => "transactions",
        }
    }
}

/// The categories that Redis derives: from the flags, and `slow` for whatever is not fast.
pub(super) fn implied_categories(flags: Flags, group: Group) -> Categories {
    let mut out = Categories::NONE;
    for (flag, category) in [
        (Flags::WRITE, Categories::WRITE),
        (Flags::READONLY, Categories::READ),
        (Flags::ADMIN, Categories::ADMIN.union(Categories::DANGEROUS)),
        (Flags::PUBSUB, Categories::PUBSUB),
        (Flags::FAST, Categories::FAST),
        (Flags::BLOCKING, Categories::BLOCKING),
    ] {
        // What a script reads is its commands' affair.
        let is_scripts = flag == Flags::READONLY && group == Group::Scripting;
        if flags.contains(flag) && !is_scripts {
            out = out.union(category);
        }
    }
    if !out.contains(Categories::FAST) {
        out = out.union(Categories::SLOW);
    }
    out
}
