//! The end of the process, as a command or a signal asks for it: writers are held, what is to be saved is saved, and then it ends.
//!
//! Nothing that a client was told is lost by it: writes are held on all shards, those under way are let end, and only then the cut is made.
//! A save that fails refuses the shutdown, unless it is forced; writers go on as if nothing had been.

use super::aof::Mode;
use super::env::Pause;
use super::local::{Local, LocalHandle};
use super::node::{Node, Shutdown};
use super::rewrites;
use super::saves;
use super::snapshot::Reason;
use crate::base::clock::UnixMs;
use crate::config::Settings;
use std::sync::PoisonError;

/// Why the process does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is ending already.
    UnderWay,
    /// What was to be saved could not be, or somebody has taken the order back.
    Failed,
}

/// Ends the process; comes back only if that fails.
pub async fn shut_down(local: &LocalHandle, asked: Shutdown) -> Refused {
    let node = local.with(|shard| shard.node.clone());
    if !claim(&node, asked) {
        return Refused::UnderWay;
    }
    tracing::warn!("User requested shutdown...");
    let settings = local.with(|shard| shard.env.settings.clone());
    // What is half read must not take the place of the whole.
    let saves = !node.loading.is_loading() && (asked.save || (!settings.save.is_empty() && !asked.nosave));
    let may_end = rewrites::finish(local, &node, asked.force).await;
    let is_saved = may_end && (!saves || save(local, &node).await || asked.force);
    if !is_saved {
        let is_aborted = withdraw(&node);
        local
            .ask_all(|shard: &mut Local| shard.env.end_pause(&mut shard.clients))
            .await;
        match is_aborted {
            true => tracing::warn!("Shutdown manually aborted."),
            false if !may_end => {}
            false => tracing::warn!("Error trying to save the DB, can't exit."),
        }
        return Refused::Failed;
    }
    let now = local.with(|shard| shard.env.now);
    if node.snapshots.cancel(false, now) {
        tracing::warn!("There is a child saving an .rdb. Killing it!");
    }
    if node.aof.mode() != Mode::Off {
        // What is answered from here on would not be synced.
        hold_writers(local, &node).await;
        rewrites::sync(local, &node).await;
    }
    node.snapshots.remove_temporary_files(&settings);
    node.surroundings.shut_down();
    // The loops end now, and this task with them.
    std::future::pending().await
}

/// Ends the process without saving, while a script runs that holds what an orderly end would wait for. What was answered is in the files, if there are any;
/// what the script has done is nowhere but in memory. It is as if it had never been called.
pub fn end_in_spite_of_script(node: &Node, settings: &Settings, now: UnixMs) -> ! {
    tracing::warn!("User requested shutdown...");
    if node.snapshots.cancel(false, now) {
        tracing::warn!("There is a child saving an .rdb. Killing it!");
    }
    if node.aof.mode() != Mode::Off {
        rewrites::finish_files(&node.aof);
    }
    node.snapshots.remove_temporary_files(settings);
    node.surroundings.end_now()
}

/// Holds writers, and waits for what they have begun; false if the order is taken back meanwhile.
async fn hold_writers(local: &LocalHandle, node: &Node) -> bool {
    let pause = Pause {
        until: UnixMs(u64::MAX),
        writes_only: true,
    };
    local
        .ask_all(move |shard: &mut Local| shard.env.begin_pause(pause))
        .await;
    let executor = local.with(|shard| shard.executor());
    while local.is_any_write_under_way().await {
        if is_withdrawn(node) {
            return false;
        }
        executor.sleep(saves::LOOKED_AT_EVERY).await;
    }
    true
}

/// Holds writers and saves; whether that has succeeded.
async fn save(local: &LocalHandle, node: &Node) -> bool {
    if !hold_writers(local, node).await {
        return false;
    }
    tracing::warn!("Saving the final RDB snapshot before exiting.");
    let number = local.with(|shard| {
        // One that is under way has not all that was written since.
        node.snapshots.cancel(false, shard.env.now);
        saves::begin(shard, Reason::Awaited)
    });
    let Some(number) = number else { return false };
    if saves::is_saved(local, number, || is_withdrawn(node)).await {
        return true;
    }
    if is_withdrawn(node) {
        node.snapshots.cancel(false, local.with(|shard| shard.env.now));
    }
    false
}

/// Takes the order back; false: there was none.
pub fn abort(node: &Node) -> bool {
    node.shutdown
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .is_some()
}

/// Ends the process, if a signal has asked for it and nobody is at it yet. To be called by the cron of each shard.
pub(super) fn obey_signal(local: &mut Local) {
    if local.env.shard.0 != 0 {
        return;
    }
    let asked = *local.node.shutdown.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(asked) = asked.filter(|asked| !asked.has_begun) else {
        return;
    };
    let handle = local.handle();
    // (If the cron comes again before this has begun, the second one finds it under way.)
    local.executor().spawn(Box::pin(async move {
        if shut_down(&handle, asked).await == Refused::Failed {
            tracing::warn!(
                "Signal received but errors trying to shut down the server, check the logs for more information"
            );
        }
    }));
}

fn claim(node: &Node, asked: Shutdown) -> bool {
    let mut shutdown = node.shutdown.lock().unwrap_or_else(PoisonError::into_inner);
    if shutdown.is_some_and(|earlier| earlier.has_begun) {
        return false;
    }
    *shutdown = Some(Shutdown {
        has_begun: true,
        ..asked
    });
    true
}

/// Forgets the order; whether somebody else has done that before.
fn withdraw(node: &Node) -> bool {
    !abort(node)
}

fn is_withdrawn(node: &Node) -> bool {
    node.shutdown.lock().unwrap_or_else(PoisonError::into_inner).is_none()
}
