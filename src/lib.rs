//! shardis: a data server that speaks Redis's protocol and uses every core of a Linux host.
//!
//! The map of the house, in reading order; each module's own first lines say what it owns and why. A module uses only
//! what stands above it here (a test reads the sources and keeps that true).
//!
//! | layer | modules | what they must not know |
//! |---|---|---|
//! | 0 | [`base`]: clocks, numbers, hashes, patterns, bounds | Redis |
//! | 1 | [`resp`] the protocol, [`spec`] what a command declares, [`config`] parameters, [`data`] values, [`runtime`] threads, [`net`] sockets | each other |
//! | 2 | [`store`]: one hash slot with its keys | other shards, files, async |
//! | 3 | [`shard`]: slots in their places, units of work, loans, links, turns | what a command is, files, sockets |
//! | 4 | [`stats`], [`pubsub`] who listens to what, [`client`], [`persist`], [`script`] the language of scripts | handlers |
//! | 5 | [`engine`]: what runs commands: literals, registry, units of work, upkeep, the testbed | families, sockets |
//! | 6 | [`durability`]: files read and written: the data set at the start; [`scripting`] scripts on shards; [`replication`] masters and replicas | families |
//! | 7 | [`command`]: one folder for each family | sockets |
//! | 8 | [`server`]: boot, connections, signals | |

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the library's documentation is read by those who work on it, with private items"
)]

pub mod base;
pub mod client;
pub mod command;
pub mod config;
pub mod data;
pub mod durability;
pub mod engine;
pub mod net;
pub mod persist;
pub mod pubsub;
pub mod replication;
pub mod resp;
pub mod runtime;
pub mod script;
pub mod scripting;
pub mod server;
pub mod shard;
pub mod spec;
pub mod stats;
pub mod store;
