//! What there is goes, before something else is read in its place.

use crate::engine::{Local, LocalHandle};
use crate::shard::ConnRef;
use std::time::Duration;

/// How often it is looked whether slots that are on loan have come home.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(1);

/// Removes all keys, and what stands beside them. To be called while commands that need them are refused.
pub async fn empty_all(local: &LocalHandle) {
    let (node, executor) = local.with(|local| (local.node.clone(), local.executor()));
    while local.ask_all(empty).await.contains(&false) {
        executor.sleep(LOOKED_AT_EVERY).await;
    }
    local.with(|local| local.env.invalidate_all());
    node.snapshots.libraries.change(Vec::clear);
}

/// Removes all keys of a shard; false if some of its slots are on loan.
fn empty(local: &mut Local) -> bool {
    let slots: Vec<u16> = local.core.slots_here().collect();
    let background = ConnRef::background(local.id());
    let Some(mut view) = local.core.try_view(&slots, background) else {
        return false;
    };
    for slot in slots {
        let slot = view.slot(slot).expect("a view has the slots it was asked for");
        local.env.garbage.absorb(slot.clear_all());
        // Nobody follows from what a file says.
        drop(slot.take_told());
        drop(slot.take_all_tracked());
    }
    true
}
