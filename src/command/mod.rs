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
mod pubsub;
mod scripting;
mod server;
mod set;
mod sort;
mod sorted_set;
mod stream;
mod string;
#[cfg(test)]
mod tests;
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
    pubsub::COMMANDS,
    connection::COMMANDS,
    introspection::COMMANDS,
    cluster::COMMANDS,
    scripting::COMMANDS,
    transactions::COMMANDS,
    server::COMMANDS,
];
