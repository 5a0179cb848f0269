//! What the tests over TCP share: servers that end with the test, a client that hides nothing, replies as values.
//!
//! The client is not one of the published ones on purpose: those convert, retry and reconnect, and a test wants to see the
//! bytes. The published clients have tests of their own (`clients.rs`, `python/`).

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod client;
pub mod oracle;
pub mod rulings;
pub mod scenes;
pub mod server;
pub mod value;

pub use client::Client;
pub use oracle::Oracle;
pub use server::Server;
pub use value::Value;

use std::time::{Duration, Instant};

/// How long anything that should happen at once may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `holds` does; panics with `what` if it never does.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to pass: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
