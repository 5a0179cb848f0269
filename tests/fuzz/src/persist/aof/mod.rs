//! The append-only file as bytes: which files it consists of, and what stands in them.

#[path = "../../../../../src/persist/aof/chunk.rs"]
pub mod chunk;
#[path = "../../../../../src/persist/aof/command.rs"]
pub mod command;
#[path = "../../../../../src/persist/aof/manifest/mod.rs"]
pub mod manifest;
#[path = "../../../../../src/persist/aof/recovered.rs"]
pub mod recovered;
