//! SIGTERM and SIGINT end the server; a second SIGINT ends it at once. SIGHUP and SIGPIPE do nothing.

use crate::config::ShutdownFlags;
use crate::engine::Node;
use crate::engine::node::Shutdown;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::{Arc, PoisonError};
use std::thread;

/// Starts the thread that waits for signals.
pub fn watch(node: Arc<Node>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGPIPE])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGTERM | SIGINT => end(&node, signal == SIGINT),
                _ => {}
            }
        }
    })?;
    Ok(())
}

fn end(node: &Node, is_interrupt: bool) {
    let settings = node.lock_config().shared_settings();
    let flags = if is_interrupt {
        settings.shutdown_on_sigint
    } else {
        settings.shutdown_on_sigterm
    };
    let mut shutdown = node.shutdown.lock().unwrap_or_else(PoisonError::into_inner);
    if shutdown.is_some() {
        if is_interrupt {
            tracing::warn!("You insist... exiting now.");
            std::process::exit(1);
        }
        return;
    }
    let name = if is_interrupt { "SIGINT" } else { "SIGTERM" };
    match node.loading.is_loading() {
        true => tracing::warn!("Received shutdown signal during loading, exiting now."),
        false => tracing::warn!("Received {name} scheduling shutdown..."),
    }
    *shutdown = Some(Shutdown {
        save: flags.contains(ShutdownFlags::SAVE),
        nosave: flags.contains(ShutdownFlags::NOSAVE),
        now: flags.contains(ShutdownFlags::NOW),
        force: flags.contains(ShutdownFlags::FORCE),
        has_begun: false,
    });
    // The first shard looks at it ten times a second, as Redis does.
}
