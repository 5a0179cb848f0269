//! [`Settings`], the typed side of the configuration, and [`PARAMETERS`], its generic side: both written out of the one
//! declaration in [`table`](super::table).
//!
//! How: each file of the table is a macro that adds its rows to those it is given and hands them on to the next file;
//! the last one is [`declare_parameters`], which sees all rows at once and makes a struct with a field for each, its
//! defaults, and a static array with a [`Parameter`] for each. A struct for each chapter would need no such chain, but
//! every reader would have to know which chapter of redis.conf a parameter stands in.

use super::{
    choices::*,
    kind::{Kind, integer, integer_kept, memory, memory_of_at_least},
    parameter::{Effect, Flags, Parameter, Subsystem},
    table::*,
    value::{Endpoint, Field, KeyspaceEvents, MemoryOrPercent, OutputLimits, SavePoint, Text},
};

/// Bounds that many rows share: those of the C types in which Redis holds the values.
const I32: i128 = i32::MAX as i128;
const U32: i128 = u32::MAX as i128;
const I64: i128 = i64::MAX as i128;
const BYTES: u64 = i64::MAX as u64;

/// The effect that a row names.
macro_rules! effect {
    () => {
        None
    };
    ($effect:ident) => {
        Some(Effect::$effect)
    };
}

macro_rules! declare_parameters {
    (; $(
        chapter $group:literal;
        $(
            $(#[doc = $doc:literal])+
            $name:literal $(| $alias:literal)* => $field:ident: $type:ty = $kind:expr, $default:literal, $flags:expr, $subsystem:ident $(, effect $effect:ident)?;
        )+
    )+) => {
        /// The value of every parameter, each in its own type. Immutable once it is shared: a change makes a new one.
        #[derive(Clone, PartialEq)]
        pub struct Settings {
            $($( $(#[doc = $doc])+ pub $field: $type, )+)+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($( $field: Field::from_value(Parameter::parse_default($kind, $default)), )+)+ }
            }
        }

        /// Every parameter, in the order of the sample file.
        pub static PARAMETERS: &[Parameter] = &[$($(
            Parameter {
                name: $name,
                aliases: &[$($alias),*],
                field: stringify!($field),
                kind: $kind,
                default: $default,
                flags: $flags,
                group: $group,
                subsystem: Subsystem::$subsystem,
                effect: effect!($($effect)?),
                doc: &[$($doc),+],
                get: |settings| settings.$field.to_value(),
                put: |settings, value| settings.$field = Field::from_value(value),
            },
        )+)+];
    };
}

server_parameters! { network_parameters memory_parameters persistence_parameters replication_parameters cluster_parameters
statistics_parameters declare_parameters; }

impl Settings {
    /// The port of a shard's own, with `shard-ports`. It may be one that does not exist (above 65535).
    pub fn shard_port(&self, index: usize) -> Option<usize> {
        (self.shard_ports && self.port != 0).then(|| usize::from(self.port) + 1 + index)
    }
}

/// Writes every parameter that is not at its default, and none of the secrets.
impl std::fmt::Debug for Settings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = out.debug_map();
        for parameter in PARAMETERS.iter().filter(|parameter| !parameter.is_default(self)) {
            let text = parameter.text(self);
            let text = if parameter.is(Flags::SENSITIVE) {
                "(redacted)".into()
            } else {
                String::from_utf8_lossy(&text)
            };
            shown.entry(&parameter.name, &text);
        }
        shown.finish_non_exhaustive()
    }
}
