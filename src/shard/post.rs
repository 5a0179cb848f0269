//! Where a step of a shard puts its messages: those for other shards into the outbox, those for itself into a queue
//! that the same step works off. So a shard lends slots to itself by the same code as to any other, in the same
//! order in which a link would have delivered the messages, and without recursion.

use super::{Message, Outbox, ShardId};
use std::collections::VecDeque;

pub(super) struct Post<'a, S, W> {
    pub(super) shard: ShardId,
    pub(super) loopback: &'a mut VecDeque<Message<S, W>>,
    pub(super) out: &'a mut Outbox<S, W>,
}

impl<S, W> Post<'_, S, W> {
    pub(super) fn send(&mut self, to: ShardId, message: Message<S, W>) {
        if to == self.shard {
            self.loopback.push_back(message);
        } else {
            self.out.send(to, message);
        }
    }
}
