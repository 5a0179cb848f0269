//! Of the configuration, what modules under test use: the words of a line, and a version to tell.

#[path = "../../../src/config/words.rs"]
pub mod words;

/// What scripts are told. The main package says its own.
pub const REDIS_VERSION: &str = "7.2.0";
