//! How a data set outlives the process: files are found and read at the start.
//!
//! | module | owns |
//! |---|---|
//! | [`aof`] | reading the append-only file: what of it is kept, and how it comes into the shards |
//! | [`directory`] | the directory of the files: whose it is, and what of it is the data set |
//! | [`load`] | reading a data set into all shards, while they serve |
//! | [`start`] | what a process does about all that when it starts |
//!
//! What stands in the files is `persist`'s, what runs on a shard is the engine's; here it is decided when which of it happens, and on which
//! thread: what waits for a disk waits on threads of its own.

pub mod aof;
pub mod directory;
pub mod load;
pub mod start;
