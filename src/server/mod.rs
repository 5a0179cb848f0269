//! The process: from the command line to the shards' loops, and to the end.
//!
//! | module | what |
//! |---|---|
//! | `boot` | reads the configuration, binds the sockets, starts the shards, waits for the end |
//! | `reactor` | one shard's loop: sockets, links, periodic work |
//! | `listeners` | the listening sockets, and how they change |
//! | `shared` | what the loops have in common |
//! | `log`, `syslog` | the log: lines as Redis writes them |
//! | `process`, `title`, `signals` | the process among others: supervisor, pid file, limits, its title; how it ends |
//! | `crash`, `fault` | what it leaves behind when it ends by a panic or by a fault |

mod boot;
mod crash;
mod fault;
mod listeners;
mod log;
mod process;
mod reactor;
mod shared;
mod signals;
mod syslog;
mod title;

pub use boot::run;
