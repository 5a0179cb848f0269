//! The append-only file as bytes: which files it consists of, and what stands in them.
//!
//! ```text
//! appendonly.aof.manifest      the list of the others                                          [`manifest`]
//! appendonly.aof.1.base.rdb    everything up to some moment
//! appendonly.aof.1.incr.aof    what was done since: commands, in chunks where there are several  [`chunk`]
//! appendonly.aof.2.incr.aof
//! ```
//!
//! An *increment* is plain, Redis's own, or it is annotated: one of several that together hold what the shards of one process have done,
//! each its own part. In front of each chunk of commands of an annotated one stands a line that begins with `#`, which every server and
//! every tool skips.
//!
//! Words: a *generation* is what the shards began together, one increment for each of them: at a start, and at each rewrite. A *life* is what one
//! process has written, in one generation or in several. Log numbers are dense within a life. It is *closed* when a later start has
//! found out where it ends.
//!
//! What follows the annotations, and all that stands in a plain increment, are commands ([`command`]).
//!
//! Nothing here decides anything: how a start goes through all that is `durability`'s.

pub mod chunk;
pub mod command;
pub mod manifest;
pub mod recovered;
pub mod script;
