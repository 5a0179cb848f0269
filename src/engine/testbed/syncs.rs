//! The disks under `appendfsync always`: what is written to a shard's file is synced when it is drawn, by a sync that begins and ends as
//! steps of their own, and until then it would be lost with the machine.
//!
//! What is on disk is known here by itself: the turns whose chunks were written when a sync began that has ended. A reply that a client is
//! sent, and all that it was sent before, must show nothing beyond that (`judge`).

use super::engine::Engine;
use super::fault::Fault;
use super::judge::Failure;
use super::run::Run;
use crate::shard::ShardId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the essay above.
#[derive(Default)]
pub(super) struct Syncs {
    /// Of each shard, the turns that the sync under way is for.
    under_way: Vec<Option<Vec<u64>>>,
    /// Shards that were rung for.
    rung: Arc<Vec<AtomicBool>>,
}

impl Syncs {
    /// Of shards whose replies wait for the disk.
    pub(super) fn new(engine: &Engine, shard_count: usize) -> Syncs {
        let rung: Arc<Vec<_>> = Arc::new((0..shard_count).map(|_| AtomicBool::new(false)).collect());
        let bells = rung.clone();
        let turns = engine.shards[0].borrow().node.turns.clone();
        turns.durable.ring_by(Box::new(move |shard| {
            bells[usize::from(shard.0)].store(true, Ordering::Relaxed);
        }));
        turns.durable.hold(true);
        Syncs {
            under_way: vec![None; shard_count],
            rung,
        }
    }

    /// Whether a sync of that shard's file can begin, or end.
    pub(super) fn can_go_on(&self, engine: &Engine, shard: usize) -> bool {
        let Some(under_way) = self.under_way.get(shard) else {
            return false;
        };
        let turns = &engine.shards[0].borrow().node.turns;
        under_way.is_some() || turns.durable.is_unsynced(ShardId(shard as u16))
    }
}

/// Begins a sync of a shard's file, or ends the one that is under way.
pub(super) fn sync(run: &mut Run<'_>, shard: usize) -> Result<(), Failure> {
    let turns = run.engine.shards[0].borrow().node.turns.clone();
    let id = ShardId(shard as u16);
    match run.syncs.under_way[shard].take() {
        None => {
            if turns.begin_sync(id) {
                run.syncs.under_way[shard] = Some(run.judge.history.unsynced(shard));
            }
        }
        Some(synced) => {
            // What nobody has synced is said to be synced.
            if run.manner.fault != Fault::LoseSync || !run.random.chance(1, 8) {
                run.judge.history.synced(&synced);
            }
            turns.end_sync(id);
            run.tell_at(|| format!("shard {shard} has synced turns {synced:?}"));
        }
    }
    for (state, rung) in run.shards.iter_mut().zip(&*run.syncs.rung) {
        state.is_woken |= rung.swap(false, Ordering::Relaxed);
    }
    Ok(())
}
