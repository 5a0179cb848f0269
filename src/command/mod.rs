//! The commands: one folder for each family, with its literals and handlers. What runs them is [`engine`](crate::engine)'s.
//!
//! The groups are Redis's own. All that a command is stands in its literal, next to the function that runs it; no other
//! place says anything about it.

#[cfg(test)]
mod bench;
mod bitmap;
mod cluster;
mod connection;
mod generic;
mod geo;
mod hash;
mod hyperloglog;
pub mod introspection;
mod list;
mod scripting;
mod server;
mod set;
mod sort;
mod sorted_set;
mod stream;
mod string;
mod transactions;

use crate::engine::Command;

/// The families, in the order in which COMMAND lists them.
pub const FAMILIES: &[&[Command]] = &[
    string::COMMANDS,
    list::COMMANDS,
    set::COMMANDS,
    sort::COMMANDS,
    sorted_set::COMMANDS,
    bitmap::COMMANDS,
    hash::COMMANDS,
    hyperloglog::COMMANDS,
    geo::COMMANDS,
    stream::COMMANDS,
    generic::COMMANDS,
    connection::COMMANDS,
    introspection::COMMANDS,
    cluster::COMMANDS,
    scripting::COMMANDS,
    transactions::COMMANDS,
    server::KEYSPACE,
    server::CONFIG,
    server::INFO,
    server::SHUTDOWN,
    server::SLOWLOG,
    server::DEBUG,
    server::LATENCY,
    server::MEMORY,
    server::LOLWUT,
    server::MODULE,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Registry;
    use crate::spec::{Begin, Find, Flags, KeyFlags};

    #[test]
    fn literals_keep_the_invariants() {
        let registry = Registry::new(FAMILIES, &[]).expect("no renames");
        let mut names = std::collections::HashSet::new();
        for entry in registry.all() {
            let command = entry.command;
            assert!(
                names.insert(entry.full_name.clone()),
                "{} stands twice",
                entry.full_name
            );
            assert_eq!(command.name, command.name.to_ascii_lowercase());
            assert_ne!(command.arity, 0, "{}", entry.full_name);
            assert!(!command.summary.is_empty(), "{} has no summary", entry.full_name);
            assert!(
                !(command.flags.contains(Flags::WRITE) && command.flags.contains(Flags::READONLY)),
                "{} is both",
                entry.full_name
            );
            for spec in command.keys {
                // PFCOUNT writes what it has found into the value, which is no other value for that.
                let keeps_an_estimate = command.name == "pfcount";
                if spec.writes() && !spec.flags.contains(KeyFlags::INCOMPLETE) && !keeps_an_estimate {
                    assert!(command.flags.contains(Flags::WRITE), "{} writes a key", entry.full_name);
                }
                if let (Begin::Index(first), Find::Range { last: 0.., .. }) = (spec.begin, spec.find) {
                    assert!(command.accepts((command.arity.unsigned_abs() as usize).max(first + 1)));
                }
            }
            assert!(
                command.subcommands.is_empty() || command.subcommands.iter().any(|s| s.name == "help"),
                "{} has no HELP",
                command.name
            );
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_renamed() {
        let registry = Registry::new(FAMILIES, &[]).expect("no renames");
        assert_eq!(registry.by_name(b"gEt").map(|c| c.full_name.as_str()), Some("get"));
        assert!(registry.by_name(b"get\0").is_none());
        assert_eq!(
            registry.by_full_name(b"OBJECT|Encoding").map(|c| c.full_name.as_str()),
            Some("object|encoding")
        );
        let renames = [
            ("GET".to_owned(), "fetch".to_owned()),
            ("set".to_owned(), String::new()),
        ];
        let registry = Registry::new(FAMILIES, &renames).expect("both exist");
        assert!(registry.by_name(b"get").is_none() && registry.by_name(b"set").is_none());
        assert_eq!(registry.by_name(b"FETCH").map(|c| c.full_name.as_str()), Some("get"));
        assert!(Registry::new(FAMILIES, &[("nosuch".to_owned(), "x".to_owned())]).is_err());
        assert!(Registry::new(FAMILIES, &[("get".to_owned(), "set".to_owned())]).is_err());
    }
}
