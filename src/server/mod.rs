//! The process: from the command line to the shards' loops, and to the end.
//!
//! | module | what |
//! |---|---|
//! | `boot` | reads the configuration, binds the sockets, starts the shards, waits for the end |
//! | `reactor` | one shard's loop: sockets, links, periodic work |
//! | `shared` | what the loops have in common |
//! | `log`, `syslog` | the log: lines as Redis writes them |
//! | `process`, `signals`, `crash` | the process among others: supervisor, pid file, limits; how it ends |

mod boot;
mod crash;
mod log;
mod process;
mod reactor;
mod shared;
mod signals;
mod syslog;

pub use boot::run;
