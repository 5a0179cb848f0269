//! What upkeep works on: the shard's slots, what their units may know and count, and the process with its account of memory.

use super::env::Env;
use super::node::Node;
use super::task::Task;
use super::under_way::UnderWay;
use crate::shard::Shard;
use crate::store::Slot;

/// The slots of a shard, and the units of work that wait for them.
pub type Core = Shard<Slot, Box<Task>>;

/// See above.
pub(super) struct Ground<'a> {
    pub core: &'a mut Core,
    pub env: &'a mut Env,
    pub node: &'a Node,
}

impl Ground<'_> {
    /// Tells the other shards what memory this one has; answers what of it counts.
    pub fn publish(&self, under_way: &UnderWay) -> isize {
        self.node
            .memory
            .publish(usize::from(self.env.shard.0), under_way.bytes())
    }
}
