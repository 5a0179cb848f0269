//! Beginning and ending snapshots: what of it concerns the shard as a whole.
//!
//! The cut is a unit of work on the shard that begins the snapshot; when it has run, every shard is told to save, in front of the slots
//! that go home (`pass`, rule 3). What a shard's saver wants written goes to another thread, and comes back as a task of the shard.

use super::local::{Envelope, Local, LocalHandle, on_another_thread};
use super::order::Order;
use super::snapshot::{Begun, Ending, Plan, Reason, Whole};
use super::task::TaskKind;
use crate::shard::{Footprint, ShardId};
use std::sync::Arc;
use std::time::Duration;

/// How often somebody who waits for a snapshot, or for writes to end, looks whether that has come.
pub const LOOKED_AT_EVERY: Duration = Duration::from_millis(1);

/// Begins a snapshot; its number, or None: there is one under way.
pub fn begin(local: &mut Local, reason: Reason) -> Option<u64> {
    begin_for(local, reason, None)
}

/// The same, for whoever orders it.
pub fn begin_for(local: &mut Local, reason: Reason, order: Option<Arc<dyn Order>>) -> Option<u64> {
    let Local { node, env, .. } = local;
    let used_bytes = node.memory.counted_bytes();
    let begun = node
        .snapshots
        .begin_for(reason, order, &env.settings, env.now, used_bytes)?;
    let number = begun.number();
    if let Begun::Now(plan) = begun {
        make_cut(local, plan);
    }
    Some(number)
}

/// Waits for the end of a snapshot, or until `gives_up`; whether it was saved.
pub async fn is_saved(local: &LocalHandle, number: u64, gives_up: impl Fn() -> bool) -> bool {
    let (snapshots, executor) = local.with(|shard| (shard.node.snapshots.clone(), shard.executor()));
    loop {
        match snapshots.ending(number) {
            Ending::UnderWay if gives_up() => return false,
            Ending::UnderWay => executor.sleep(LOOKED_AT_EVERY).await,
            ending => return ending == Ending::Saved,
        }
    }
}

fn make_cut(local: &mut Local, plan: Arc<Plan>) {
    let cut = TaskKind::Cut { plan, is_made: false };
    local.start_in_background(cut, Footprint::Everything);
    local.post();
}

/// The unit of work that makes a cut has ended.
pub(super) fn cut_has_run(local: &mut Local, plan: Arc<Plan>, is_made: bool) {
    if !is_made {
        // It was given up before.
        return settle(local, &plan, Whole::GivenUp);
    }
    let (here, shard_count) = (local.env.shard, local.env.shards as u16);
    for other in (0..shard_count).map(ShardId).filter(|other| *other != here) {
        let plan = plan.clone();
        let visit = Box::new(move |there: &mut Local| begin_saving(there, plan));
        local.link().message(other, Envelope::Visit(visit));
    }
    begin_saving(local, plan);
}

/// All shards are done with a snapshot: one that has waited for that has its cut now.
fn settle(local: &mut Local, plan: &Arc<Plan>, whole: Whole) {
    let next = local.node.snapshots.settle(plan, whole, local.env.now);
    if let Some(next) = next {
        make_cut(local, next);
    }
}

fn begin_saving(local: &mut Local, plan: Arc<Plan>) {
    // In front of the slots that come home: what is changed from here on is not in the snapshot.
    if let Some(file) = plan.order.as_ref().and_then(|order| order.file_of(local.env.shard)) {
        local.env.log.attach_file(file);
    }
    let cut = local.node.cut.clone();
    local.on_ground(|upkeep, on| upkeep.saver.begin(plan, &cut, on));
}

/// Has the job done that the saver wants done, if it wants one.
pub(super) fn run_job(local: &mut Local) {
    let Some(job) = local.upkeep.saver.take_job() else {
        return;
    };
    let (handle, executor) = (local.handle(), local.executor());
    local.executor().spawn(Box::pin(async move {
        let written = on_another_thread(&*executor, job).await;
        handle.with(|local| {
            let Local { upkeep, node, env, .. } = local;
            let ended = upkeep.saver.written(written, &node.snapshots, env.now);
            if let Some((plan, whole)) = ended {
                settle(local, &plan, whole);
            }
        });
    }));
}

/// To be called in each pass: what a command has left to be done.
#[inline]
pub(super) fn follow_flush(local: &mut Local) {
    if std::mem::take(&mut local.env.wants_save) && !local.env.is_loading {
        begin(local, Reason::Background);
    }
}

/// To be called by the cron of each shard.
pub(super) fn look_after(local: &mut Local) {
    let (node, env) = (&local.node, &local.env);
    let snapshots = &node.snapshots;
    if env.shard.0 != 0 {
        return;
    }
    if env.is_loading {
        // What is half read is not to take the place of the whole.
        return;
    }
    if node.aof.is_rewriting() {
        // It may be about to begin: then this would be quicker, and put it off.
        return;
    }
    let point = snapshots.save_point(&env.settings, env.now);
    if let Some((changes, seconds)) = point {
        tracing::info!("{changes} changes in {seconds} seconds. Saving...");
    }
    if point.is_some() || snapshots.is_due() {
        begin(local, Reason::Background);
    }
}
