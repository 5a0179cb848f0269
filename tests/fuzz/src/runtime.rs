//! Of the runtime what stands between files and who reads them.

#[path = "../../../src/runtime/disk/mod.rs"]
pub mod disk;
