//! Beginning and ending rewrites of the append-only file, and turning it on and off: what of it concerns the shards.
//!
//! Files are made by threads that may wait; the base is a snapshot (`saves`), which brings each shard its new increment. What is periodic is
//! the first shard's cron's.

use super::aof::{Aof, Directory, Mode, Rewrite};
use super::local::{Local, LocalHandle, on_another_thread};
use super::node::Node;
use super::saves;
use super::snapshot::Reason;
use std::sync::Arc;

/// What came of asking for a rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Started,
    Scheduled,
    UnderWay,
}

/// BGREWRITEAOF. `is_nested`: whoever asks holds what the cut needs.
pub fn ask(local: &mut Local, is_nested: bool) -> Asked {
    let node = local.node.clone();
    if node.aof.is_rewriting() {
        return Asked::UnderWay;
    }
    node.aof.forget_failures();
    if is_nested || node.snapshots.is_under_way() {
        node.aof.schedule();
        return Asked::Scheduled;
    }
    begin(local);
    Asked::Started
}

/// Begins a rewrite: nothing else is under way.
fn begin(local: &mut Local) {
    let (node, settings) = (local.node.clone(), local.env.settings.clone());
    if !node.aof.claim(local.env.now) {
        return;
    }
    tracing::info!("Background append only file rewriting started");
    let (handle, executor) = (local.handle(), local.executor());
    local.executor().spawn(Box::pin(async move {
        let aof = node.aof.clone();
        let prepared = on_another_thread(&*executor, move || match aof.take_prepared() {
            Some(rewrite) => Ok(rewrite),
            None => Rewrite::prepare(&aof, &settings),
        });
        match prepared.await {
            Err(failure) => {
                tracing::warn!("{failure}");
                node.aof.note_rewrite(Some(false), None, 0);
            }
            Ok(rewrite) => handle.with(|local| {
                if saves::begin_for(local, Reason::Background, Some(rewrite.clone())).is_none() {
                    // Somebody saves, who was quicker.
                    node.aof.put_off(rewrite);
                }
            }),
        }
    }));
}

/// `CONFIG SET appendonly yes`: from the first rewrite on, which begins here, there is an append-only file. The error is said in the log.
pub async fn turn_on(local: &LocalHandle) -> Result<(), String> {
    let (node, executor, settings) =
        local.with(|local| (local.node.clone(), local.executor(), local.env.settings.clone()));
    if node.aof.mode() != Mode::Off {
        return Ok(());
    }
    // One without files may be under way.
    call_off(&node, local);
    node.aof.log_everything();
    // Passes that began before may have let slots go before what was changed in them had a number.
    local.ask_all(|_: &mut Local| ()).await;
    let aof = node.aof.clone();
    let directory = Directory::of(&settings);
    let outcome = on_another_thread(&*executor, move || aof.turn_on(directory)).await;
    if let Err(failure) = outcome {
        tracing::warn!("{failure}");
        node.aof.log_nothing();
        return Err(failure);
    }
    local.with(|local| {
        if local.node.snapshots.is_under_way() {
            tracing::warn!(
                "AOF was enabled but there is already another background operation. An AOF background was scheduled to start when possible."
            );
        } else {
            begin(local);
        }
    });
    Ok(())
}

/// `CONFIG SET appendonly no`: what was written is synced, and nothing is written any more.
pub async fn turn_off(local: &LocalHandle) {
    let (node, executor) = local.with(|local| (local.node.clone(), local.executor()));
    if node.aof.mode() == Mode::Off {
        return;
    }
    call_off(&node, local);
    node.aof.close();
    local.ask_all(|shard: &mut Local| shard.env.log.detach_file()).await;
    let aof = node.aof.clone();
    on_another_thread(&*executor, move || aof.turn_off()).await;
    node.aof.log_nothing();
}

/// Gives up a rewrite that is under way; whether there was one.
pub(super) fn call_off(node: &Node, local: &LocalHandle) -> bool {
    let now = local.with(|local| local.env.now);
    let was_under_way = node.aof.is_rewriting();
    node.snapshots.call_off(now);
    was_under_way
}

/// What the end of the process does about it: False: it must not end.
pub(super) async fn finish(local: &LocalHandle, node: &Node, is_forced: bool) -> bool {
    if node.aof.mode() == Mode::Off {
        call_off(node, local);
        return true;
    }
    if node.aof.mode() == Mode::Waiting {
        if !is_forced {
            tracing::warn!("Writing initial AOF, can't exit.");
            return false;
        }
        tracing::warn!("Writing initial AOF. Exit anyway.");
    }
    if call_off(node, local) {
        tracing::warn!("There is a child rewriting the AOF. Killing it!");
    }
    true
}

/// Writes and syncs what there is, at the end of the process, when nobody writes any more.
pub(super) async fn sync(local: &LocalHandle, node: &Node) {
    if node.aof.mode() == Mode::Off {
        return;
    }
    let aof: Arc<Aof> = node.aof.clone();
    let executor = local.with(|local| local.executor());
    on_another_thread(&*executor, move || finish_files(&aof)).await;
}

/// The same, where it may block.
pub(super) fn finish_files(aof: &Aof) {
    tracing::info!("Calling fsync() on the AOF file.");
    if let Err(error) = aof.finish() {
        tracing::warn!("Fail to fsync the AOF file: {error}.");
    }
}

/// To be called by the cron of each shard.
pub(super) fn look_after(local: &mut Local) {
    if local.env.shard.0 != 0 {
        return;
    }
    let node = local.node.clone();
    let (aof, writers) = (&node.aof, &node.aof.writers);
    if aof.mode() != Mode::Off {
        for (event, elapsed_ms) in writers.take_slow() {
            local.env.stats.latency.note(event, elapsed_ms, local.env.now);
        }
        let late = writers.take_late(local.env.ticks);
        if late > 0 {
            aof.count_delayed(late);
            tracing::info!(
                "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for fsync to complete, this may slow down Redis."
            );
        }
        writers.retry();
        if writers.take_lost() {
            // What the kernel has dropped is not in the file; a new base has it.
            aof.schedule();
        }
    }
    if local.env.is_loading || aof.is_rewriting() || node.snapshots.is_under_way() {
        return;
    }
    if aof.is_due(&local.env.settings, local.env.now) {
        begin(local);
    }
}
