//! The server itself: the keyspace as a whole, the configuration, and what it knows of itself.

mod config;
mod debug;
mod debug_reload;
mod debug_values;
mod info;
mod keyspace;
mod latency;
mod lolwut;
mod memory;
mod module;
mod monitor;
mod replicaof;
mod replication;
mod save;
mod shutdown;
mod slowlog;

use crate::engine::Command;

pub const COMMANDS: &[Command] = &[
    keyspace::DBSIZE,
    keyspace::FLUSHALL,
    keyspace::FLUSHDB,
    keyspace::SWAPDB,
    keyspace::TIME,
    keyspace::ROLE,
    replicaof::REPLICAOF,
    replicaof::SLAVEOF,
    config::CONFIG,
    info::INFO,
    save::SAVE,
    save::BGSAVE,
    save::BGREWRITEAOF,
    save::LASTSAVE,
    shutdown::SHUTDOWN,
    slowlog::SLOWLOG,
    debug::DEBUG,
    latency::LATENCY,
    memory::MEMORY,
    lolwut::LOLWUT,
    module::MODULE,
    monitor::MONITOR,
    replication::REPLCONF,
    replication::SYNC,
    replication::PSYNC,
];
