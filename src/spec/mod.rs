//! What a command declares.
//!
//! All that a command *is* stands in one literal of [`Command`], in the file of its family. Everything that needs to
//! know something about a command reads it from there: arity errors, routing by keys, ACL categories, `COMMAND INFO`,
//! `COMMAND DOCS`, `COMMAND GETKEYS`, MULTI's rules, statistics, and the generator of the differential tests. The
//! vocabulary is that of Redis's own command description files (<https://redis.io/docs/latest/develop/reference/command-tips/>,
//! `.../key-specs/`, `.../command-arguments/`), so that the answers of `COMMAND` can be compared field by field.
//!
//! This module knows neither what runs a command nor what it runs on: the type of [`Command::run`] is a parameter.
//!
//! Invariants, checked by the registry's own tests:
//! 1. names are lower case and unique among their siblings;
//! 2. a command without subcommands has a positive or negative arity, never zero;
//! 3. a command that writes is not `READONLY`, and a key spec that changes a key stands only in a command that writes
//!    (PFCOUNT is none, and keeps its estimate in the value).

mod arguments;
mod flags;
mod keys;

pub use arguments::{Argument, ArgumentKind, arg};
pub use flags::{Categories, Flags, Group};
pub use keys::{Begin, Find, InvalidKeys, KeyFlags, KeyPosition, KeySpec, key_positions};

/// A parameter that says who may call a command: nobody, everybody, or clients of this host. Whoever may not is told
/// before anything else but a wrong number of arguments, and EXEC fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// `enable-module-command`
    ModuleCommand,
}

/// What a literal says of one call, read from its arguments (the name is the first).
pub type OfCall<T> = fn(call: &[&[u8]]) -> T;

/// One command or subcommand. `H` is what runs it; this layer does not look at it.
pub struct Command<H: 'static> {
    /// Lower-case name; of a subcommand its own name only (`get` of `config|get`).
    pub name: &'static str,
    /// One sentence for `COMMAND DOCS`.
    pub summary: &'static str,
    /// The version of Redis that introduced it.
    pub since: &'static str,
    pub group: Group,
    /// Time complexity as text.
    pub complexity: &'static str,
    /// Number of arguments with the name: exact when positive, at least `-arity` when negative. A subcommand counts
    /// its container's name as well.
    pub arity: i16,
    pub flags: Flags,
    /// The parameter that allows it.
    pub protection: Option<Protection>,
    /// ACL categories beyond those that follow from the flags and the group.
    pub categories: Categories,
    /// Hints for clients and proxies.
    pub tips: &'static [&'static str],
    pub keys: &'static [KeySpec],
    /// Where a key spec has `VARIABLE_FLAGS`: what a call with these arguments does with its key.
    pub key_flags_of: Option<OfCall<KeyFlags>>,
    /// Which arguments of a call are secrets; logs show `(redacted)` in their places.
    pub secrets_of: Option<OfCall<Vec<usize>>>,
    pub arguments: &'static [Argument],
    /// Changes of behaviour: version and text.
    pub history: &'static [(&'static str, &'static str)],
    /// Since when it is deprecated, and what replaces it.
    pub deprecated: Option<(&'static str, &'static str)>,
    pub subcommands: &'static [Command<H>],
    /// A client in RESP2 that has subscriptions may send it.
    pub is_for_subscribers: bool,
    /// It changes what its client listens to: it runs where its client is.
    pub changes_subscriptions: bool,
    /// It is answered in the way of messages, each thing by itself: whether replies are wanted or not, and inside EXEC, too.
    pub answers_in_messages: bool,
    /// What CLIENT CACHING has said for the next command is not for its subcommands.
    pub keeps_caching: bool,
    /// How it runs while a script does not end, if that is another way.
    pub while_busy: Option<H>,
    pub run: H,
}

/// The literal that the others are updates of: everything empty but the name and what runs it.
pub const fn command<H>(name: &'static str, run: H) -> Command<H> {
    Command {
        name,
        summary: "",
        since: "1.0.0",
        group: Group::Generic,
        complexity: "O(1)",
        arity: 0,
        flags: Flags::NONE,
        protection: None,
        categories: Categories::NONE,
        tips: &[],
        keys: &[],
        key_flags_of: None,
        secrets_of: None,
        arguments: &[],
        history: &[],
        deprecated: None,
        subcommands: &[],
        is_for_subscribers: false,
        changes_subscriptions: false,
        answers_in_messages: false,
        keeps_caching: false,
        while_busy: None,
        run,
    }
}

impl<H> Command<H> {
    /// Whether `count` arguments (the name included) satisfy the declared arity.
    #[inline]
    pub fn accepts(&self, count: usize) -> bool {
        let arity = self.arity as isize;
        if arity >= 0 {
            count as isize == arity
        } else {
            count as isize >= -arity
        }
    }

    /// All ACL categories: the declared ones and those that follow from flags and group.
    pub fn all_categories(&self) -> Categories {
        self.categories.union(flags::implied_categories(self.flags, self.group))
    }

    /// Whether the keys cannot be found from first/last/step alone.
    pub fn has_movable_keys(&self) -> bool {
        self.keys.iter().any(|spec| spec.is_movable())
    }

    /// First key, last key and step, as `COMMAND INFO` has had them since before key specs: zeros when there are
    /// none.
    pub fn legacy_range(&self) -> (i64, i64, i64) {
        keys::legacy_range(self.keys)
    }
}
