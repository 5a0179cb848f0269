//! What of this shard's memory is on its way, and is no data: it does not count against `maxmemory` (`stats::memory`).
//!
//! A burst of requests takes memory for a moment: in the links, in the buffers of clients. All of that has bounds of its own. If it
//! counted, a burst would evict keys to make room for itself, and when it has passed the room would stand empty. So eviction goes by
//! what is left without:
//!
//! * the links' rings, and what waits for room in them;
//! * the buffers of clients: what they have sent and is not run, what they are sent and have not read. (A reply that shares its bytes
//!   with a value is no memory of its own.)
//! * the rings and queues that the shard's executor and its network plane have taken at the start, whatever is stored.
//!
//! Nothing is walked over for that. A client's part is renewed whenever it was at work, the links' in each pass and when it matters,
//! the network's at both ends of a pass. A part that has shrunk unseen would be taken for room: what is subtracted must never be
//! more than what is there.
//! INFO says how much it is in all, as `mem_not_counted_for_evict`; `used_memory` is everything.
//!
//! Invariant: `client_bytes` is the sum of what the shard's clients were counted with.

use crate::client::{Client, CountedBuffers};

/// See above.
#[derive(Default)]
pub struct UnderWay {
    machinery_bytes: usize,
    client_bytes: usize,
    wire_bytes: usize,
    /// As of when they were looked at last.
    link_bytes: usize,
}

impl UnderWay {
    /// Of what was counted, what may have gone since: the links' staged frames.
    #[inline]
    pub(super) fn unsure_bytes(&self) -> usize {
        self.link_bytes
    }

    pub(super) fn bytes(&self) -> usize {
        self.machinery_bytes + self.client_bytes + self.wire_bytes + self.link_bytes
    }

    /// So many bytes were taken by what carries the shard, before there was a shard.
    pub(super) fn leave_out(&mut self, machinery_bytes: usize) {
        self.machinery_bytes = machinery_bytes;
    }

    /// So much the links hold now.
    pub(super) fn count_links(&mut self, links_bytes: usize) {
        self.link_bytes = links_bytes;
    }

    /// What a client has sent and is not run yet. (While its requests run, its buffer is elsewhere: not to be called then.)
    #[inline]
    pub(super) fn count_input(&mut self, client: &mut Client) {
        let bytes = client.input_memory_bytes();
        let before = std::mem::replace(&mut client.counted.input_bytes, bytes);
        self.client_bytes = self.client_bytes + bytes - before;
    }

    /// What a client is to be sent.
    #[inline]
    pub(super) fn count_output(&mut self, client: &mut Client) {
        let bytes = client.output_memory_bytes();
        let before = std::mem::replace(&mut client.counted.output_bytes, bytes);
        self.client_bytes = self.client_bytes + bytes - before;
    }

    /// What has been handed over to be sent.
    #[inline]
    pub(super) fn count_wire(&mut self, held_bytes: usize) {
        self.wire_bytes = held_bytes;
    }

    /// A client has gone.
    pub(super) fn forget(&mut self, client: &mut Client) {
        let CountedBuffers {
            input_bytes,
            output_bytes,
        } = std::mem::take(&mut client.counted);
        self.client_bytes -= input_bytes + output_bytes;
    }
}
