//! What stands in the files of an append-only file; which they are says the manifest, which needs a disk.

#[path = "../../../../../src/persist/aof/chunk.rs"]
pub mod chunk;
#[path = "../../../../../src/persist/aof/command.rs"]
pub mod command;
