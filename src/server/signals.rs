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
    // What is half read is saved by nobody.
    let is_loading = node.loading.is_loading();
    match is_loading {
        true => tracing::warn!("Received shutdown signal during loading, exiting now."),
        false => tracing::warn!("Received {name} scheduling shutdown..."),
    }
    *shutdown = Some(Shutdown {
        save: !is_loading && flags.contains(ShutdownFlags::SAVE),
        nosave: is_loading || flags.contains(ShutdownFlags::NOSAVE),
        now: flags.contains(ShutdownFlags::NOW),
        force: flags.contains(ShutdownFlags::FORCE),
    });
    drop(shutdown);
    tracing::warn!("User requested shutdown...");
    node.surroundings.shut_down();
}
