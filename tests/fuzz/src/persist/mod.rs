//! Of persistence only what reads: the rest needs the configuration and a disk.

pub mod aof;
pub mod file;
#[path = "../../../../src/persist/rdb.rs"]
pub mod rdb;
#[path = "../../../../src/persist/value/mod.rs"]
pub mod value;
