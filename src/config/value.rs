//! What a parameter's value is: the types of the fields of [`Settings`](super::Settings), and the one dynamic type
//! [`Value`] through which the generic code (CONFIG GET, SET, REWRITE, the parser) reads and writes them.
//!
//! Why two forms: the server wants `settings.port: u16`, the generic code wants to treat 200 parameters alike. A field's
//! type implements [`Field`], a lossless conversion in both directions; the declaration ties a field to a
//! [`Kind`](super::kind::Kind), and the kind only produces values that the field's type can hold (tested for every
//! parameter at the ends of its range).

use super::choices::*;
use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

/// A parameter's value, in the form that generic code handles.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `yes` or `no`.
    Bool(bool),
    /// Any whole number, of bytes too.
    Integer(i128),
    /// The number of a [`choices`](super::choices) value, or its bits.
    Choice(u32),
    /// Bytes.
    Text(Text),
    /// Several words.
    Words(Vec<Text>),
    /// `maxmemory-clients`.
    MemoryOrPercent(MemoryOrPercent),
    /// `save`.
    SavePoints(Vec<SavePoint>),
    /// `client-output-buffer-limit`.
    OutputLimits(OutputLimits),
    /// `oom-score-adj-values`.
    OomScores([i32; 3]),
    /// `latency-tracking-info-percentiles`.
    Percentiles(Vec<f64>),
    /// `replicaof`.
    Master(Option<Endpoint>),
}

/// A typed field of [`Settings`](super::Settings).
pub trait Field: Sized {
    /// The field's value in generic form.
    fn to_value(&self) -> Value;
    /// The typed form of a value that the field's own kind has made.
    fn from_value(value: Value) -> Self;
}

/// Says why a value of the wrong shape cannot reach a field.
#[cold]
fn mismatched(value: &Value) -> ! {
    unreachable!("the kind that a parameter is declared with made a value that its field cannot hold: {value:?}")
}

/// A string of bytes: names, paths, passwords. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Text(Arc<[u8]>);

impl Text {
    /// Copies `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether there is nothing in it, which for most parameters means "not set".
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As UTF-8, with what is not UTF-8 replaced.
    pub fn to_string_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.to_string_lossy())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.to_string_lossy())
    }
}

/// Save a snapshot when this long has passed and this many keys have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds since the last snapshot.
    pub seconds: i64,
    /// Changes since the last snapshot.
    pub changes: i64,
}

/// The class of a client, as `client-output-buffer-limit` distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientClass {
    /// Everybody else.
    Normal,
    /// Replicas.
    Replica,
    /// Clients with a subscription.
    Pubsub,
}

impl ClientClass {
    /// All classes, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Replica, Self::Pubsub];

    /// The name in the configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Replica => "replica",
            Self::Pubsub => "pubsub",
        }
    }
}

/// When a client that does not read its replies is closed. Zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Closed at once beyond this.
    pub hard_bytes: u64,
    /// Closed when beyond this for `soft_seconds` without a pause.
    pub soft_bytes: u64,
    /// How long the soft limit may be exceeded.
    pub soft_seconds: u64,
}

/// The limits of the three classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimits([OutputLimit; 3]);

impl OutputLimits {
    /// The limit of one class.
    pub fn of(&self, class: ClientClass) -> OutputLimit {
        self.0[class as usize]
    }

    /// Replaces the limit of one class.
    pub fn set(&mut self, class: ClientClass, limit: OutputLimit) {
        self.0[class as usize] = limit;
    }
}

/// A number of bytes, or a part of `maxmemory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryOrPercent {
    /// That many; zero is no limit.
    Bytes(u64),
    /// 1 to 100 per cent of `maxmemory`.
    Percent(u8),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address.
    pub host: Text,
    /// Port.
    pub port: u16,
}

/// The classes of keyspace events that are published (`notify-keyspace-events`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEvents(pub(super) u32);

/// Declares the classes with their letters, in the order in which they are written.
macro_rules! keyspace_events {
    ($($(#[doc = $doc:literal])+ $name:ident = $letter:literal, $bit:literal;)+) => {
        impl KeyspaceEvents {
            $($(#[doc = $doc])+ pub const $name: Self = Self(1 << $bit);)+

            /// Each class with its letter, in the order in which they are written.
            pub(super) const LETTERS: &'static [(u8, u32)] = &[$(($letter, 1 << $bit),)+];
        }
    };
}

keyspace_events! {
    /// `g`: DEL, EXPIRE, RENAME and others that do not depend on the type.
    GENERIC = b'g', 0;
    /// `$`: strings.
    STRING = b'$', 1;
    /// `l`: lists.
    LIST = b'l', 2;
    /// `s`: sets.
    SET = b's', 3;
    /// `h`: hashes.
    HASH = b'h', 4;
    /// `z`: sorted sets.
    SORTED_SET = b'z', 5;
    /// `x`: a key has expired.
    EXPIRED = b'x', 6;
    /// `e`: a key was evicted.
    EVICTED = b'e', 7;
    /// `t`: streams.
    STREAM = b't', 8;
    /// `d`: types of modules.
    MODULE = b'd', 9;
    /// `n`: a key was created. Not part of `A`.
    NEW = b'n', 10;
    /// `K`: published as `__keyspace@<db>__:<key>`.
    KEYSPACE = b'K', 11;
    /// `E`: published as `__keyevent@<db>__:<event>`.
    KEYEVENT = b'E', 12;
    /// `m`: a key was looked for and not there. Not part of `A`.
    KEY_MISS = b'm', 13;
}

impl KeyspaceEvents {
    /// `A`: all classes that do not have to be asked for by name.
    pub const ALL: Self = Self(0x3ff);

    /// The classes of both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every class of `other` is on.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is published.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Implements [`Field`] for types that one variant of [`Value`] holds as it is.
macro_rules! field_as_is {
    ($($type:ty => $variant:ident),+ $(,)?) => {$(
        impl Field for $type {
            fn to_value(&self) -> Value {
                Value::$variant(self.clone())
            }
            fn from_value(value: Value) -> Self {
                match value {
                    Value::$variant(inner) => inner,
                    other => mismatched(&other),
                }
            }
        }
    )+};
}

field_as_is! {
    bool => Bool,
    Text => Text,
    Vec<Text> => Words,
    MemoryOrPercent => MemoryOrPercent,
    Vec<SavePoint> => SavePoints,
    OutputLimits => OutputLimits,
    [i32; 3] => OomScores,
    Vec<f64> => Percentiles,
    Option<Endpoint> => Master,
}

/// Implements [`Field`] for whole numbers.
macro_rules! field_as_integer {
    ($($type:ty),+) => {$(
        impl Field for $type {
            fn to_value(&self) -> Value {
                Value::Integer(i128::from(*self))
            }
            fn from_value(value: Value) -> Self {
                match value {
                    Value::Integer(number) => {
                        <$type>::try_from(number).expect("the bounds of a parameter lie within its field's type")
                    }
                    other => mismatched(&other),
                }
            }
        }
    )+};
}

field_as_integer!(u8, u16, u32, i32, u64, i64);

/// Implements [`Field`] for the types of [`choices`](super::choices).
macro_rules! field_as_choice {
    ($($type:ty),+ $(,)?) => {$(
        impl Field for $type {
            fn to_value(&self) -> Value {
                Value::Choice(*self as u32)
            }
            fn from_value(value: Value) -> Self {
                match value {
                    Value::Choice(number) => <$type>::from_number(number),
                    other => mismatched(&other),
                }
            }
        }
    )+};
}

field_as_choice!(
    LogLevel,
    Supervised,
    SyslogFacility,
    Permission,
    MaxmemoryPolicy,
    AppendFsync,
    DisklessLoad,
    ReplCompat,
    SanitizeDumpPayload,
    AclPubsubDefault,
    TlsAuthClients,
    EndpointType,
    OomScoreAdj,
    PropagationErrorBehavior,
    PipelineOrder,
    RdbLayout,
    AofLayout,
);

/// Implements [`Field`] for sets of bits.
macro_rules! field_as_bits {
    ($($type:ident),+) => {$(
        impl Field for $type {
            fn to_value(&self) -> Value {
                Value::Choice(self.0)
            }
            fn from_value(value: Value) -> Self {
                match value {
                    Value::Choice(bits) => $type(bits),
                    other => mismatched(&other),
                }
            }
        }
    )+};
}

field_as_bits!(ShutdownFlags, KeyspaceEvents);
