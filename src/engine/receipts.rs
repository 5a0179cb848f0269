//! Receipts: what a publisher's reply waits for.
//!
//! Whoever publishes is answered when all who listen have the message in their queues, and so is who changes what others have cached. So each
//! unit that does so for a client makes out a receipt, which goes along with its messages; each shard that has delivered them sends word to the publisher's shard; and there the reply is
//! kept until all have ([`Awaited`]). A reply and the words on it come in any order, as they may come from different shards.
//!
//! Invariant: every receipt gets its words and its reply, whether anybody was left to hear or to be answered or not. So nothing stays here.

use crate::resp::ReplyBuf;
use crate::shard::{ConnRef, ShardId};
use hashbrown::HashMap;
use std::ops::Range;

/// Who waits until messages of a pass have been delivered: of a publisher's unit.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub id: ReceiptId,
    /// The publisher.
    pub origin: ConnRef,
    /// Which messages of the pass.
    pub messages: Range<usize>,
}

/// Names a receipt in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReceiptId {
    /// On which it was made out.
    pub shard: ShardId,
    pub number: u64,
}

/// What the reply to a unit waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owed {
    pub id: ReceiptId,
    /// The unit has published: if it is a single command, the reply is how many were reached.
    pub counts: bool,
}

/// A shard says that it has delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    pub id: ReceiptId,
    pub origin: ConnRef,
    /// How many shards send one.
    pub of: usize,
    /// To how many the messages went.
    pub deliveries: u64,
}

impl Receipt {
    pub fn word(&self, of: usize, deliveries: u64) -> Word {
        Word {
            id: self.id,
            origin: self.origin,
            of,
            deliveries,
        }
    }
}

/// A reply that is known, but for how many were reached.
#[derive(Debug)]
pub struct KeptReply {
    pub place: ConnRef,
    /// Among the client's pending replies.
    pub sequence: u32,
    /// None: it is the number of deliveries.
    pub reply: Option<ReplyBuf>,
    pub deliveries: u64,
}

impl KeptReply {
    /// This reply, when all is delivered.
    pub(super) fn of_reply(place: ConnRef, sequence: u32, reply: ReplyBuf) -> KeptReply {
        KeptReply {
            reply: Some(reply),
            ..KeptReply::of_deliveries(place, sequence)
        }
    }

    /// A reply that says how many deliveries there were.
    pub(super) fn of_deliveries(place: ConnRef, sequence: u32) -> KeptReply {
        KeptReply {
            place,
            sequence,
            reply: None,
            deliveries: 0,
        }
    }
}

/// Replies that wait for deliveries.
#[derive(Default)]
pub struct Awaited(HashMap<ReceiptId, Waiting>);

/// One of them.
#[derive(Default)]
struct Waiting {
    reply: Option<KeptReply>,
    words: usize,
    /// How many there are to be, once the first has said so.
    of: Option<usize>,
    deliveries: u64,
}

impl Awaited {
    /// A shard has delivered. Answers the reply that need not wait any more.
    pub(super) fn take_word(&mut self, word: Word) -> Option<KeptReply> {
        let waiting = self.0.entry(word.id).or_default();
        waiting.of = Some(word.of);
        waiting.deliveries += word.deliveries;
        // One that says that there are none is not one of them.
        waiting.words += usize::from(word.of > 0);
        self.take_if_over(word.id)
    }

    /// Here is the reply. Answers it if it need not wait.
    pub(super) fn keep(&mut self, id: ReceiptId, reply: KeptReply) -> Option<KeptReply> {
        self.0.entry(id).or_default().reply = Some(reply);
        self.take_if_over(id)
    }

    fn take_if_over(&mut self, id: ReceiptId) -> Option<KeptReply> {
        let waiting = self.0.get(&id)?;
        if waiting.reply.is_none() || waiting.of != Some(waiting.words) {
            return None;
        }
        let Waiting { reply, deliveries, .. } = self.0.remove(&id)?;
        reply.map(|reply| KeptReply { deliveries, ..reply })
    }

    /// Whether no reply waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_waits_for_every_word_and_they_come_in_any_order() {
        let place = ConnRef::background(ShardId(2));
        let receipt = |number| Receipt {
            id: ReceiptId {
                shard: ShardId(1),
                number,
            },
            origin: place,
            messages: 0..1,
        };
        let reply = |sequence| KeptReply::of_deliveries(place, sequence);
        let mut awaited = Awaited::default();
        assert!(awaited.take_word(receipt(1).word(2, 3)).is_none());
        assert!(awaited.keep(receipt(1).id, reply(7)).is_none());
        assert!(awaited.keep(receipt(2).id, reply(8)).is_none());
        let kept = awaited.take_word(receipt(1).word(2, 4)).expect("all have sent word");
        assert_eq!((kept.sequence, kept.deliveries), (7, 7));
        assert!(!awaited.is_empty());
        let kept = awaited.take_word(receipt(2).word(0, 0)).expect("nobody listens");
        assert_eq!((kept.sequence, kept.deliveries), (8, 0));
        assert!(awaited.is_empty());
    }
}
