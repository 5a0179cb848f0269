//! The modules under test, compiled from the main package's own files.
//!
//! Taken by path rather than as a dependency: with the whole package would come its allocator, which the address sanitizer replaces,
//! and glommio, which is not wanted under instrumentation. A module can be added here as soon as everything that it uses is.

#[path = "../../../src/base/mod.rs"]
pub mod base;
pub mod config;
#[path = "../../../src/data/mod.rs"]
pub mod data;
pub mod durability;
#[path = "../../../src/net/mod.rs"]
pub mod net;
pub mod persist;
#[path = "../../../src/resp/mod.rs"]
pub mod resp;
pub mod runtime;
#[path = "../../../src/script/mod.rs"]
pub mod script;
#[path = "../../../src/store/mod.rs"]
pub mod store;
