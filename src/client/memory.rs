//! What a client takes of the server's memory, part by part, as it is at this moment.
//!
//! One function says it ([`Client::memory`]), and everybody who tells or bounds the memory of clients reads from it: CLIENT LIST, INFO,
//! MEMORY STATS, and the eviction of clients. Nothing of it is kept in a counter that a change could forget: the parts are looked
//! at when somebody asks, about once in a tenth of a second.
//!
//! The parts are those of Redis 7.2 (<https://redis.io/docs/latest/commands/client-list/>), and so is where one ends and the next begins:
//!
//! ```text
//! input    |- arguments that have arrived -|- not understood yet -|-- room --|
//!              argv-mem                       qbuf                  qbuf-free
//! output   |-- first 16 KiB --|---- what does not fit, and what the network has ----|
//!              obl                             omem, in oll pieces
//! MULTI    |- arguments of the queue -|   watched keys: in the total only
//!              multi-mem
//! ```
//!
//! Redis collects the arguments of a request that is arriving outside of its input buffer; here they stay where they are until
//! the request is complete, so the division of the input is one of figures. A reply buffer begins empty here, and with Redis's fixed
//! buffer there; `rbs` is what it takes, `rbp` the most that was in it of late.
//!
//! What a client has needed and needs no more is given back ([`Client::give_back`]) when it has been idle for two seconds, or when it
//! is far more than the client has used since the last look, as in Redis's `clientsCron`.

use super::{Client, QUERY_RESERVED_BYTES_MAX, Queued};
use crate::base::clock::{Ms, UnixMs};
use crate::base::limits;
use crate::store::WatchToken;

/// An idle client gives its buffers back after that time. Redis's figure.
const IDLE_AFTER: Ms = Ms(2000);
/// A busy client keeps an input buffer of that size in any case. Redis's figure.
const QUERY_KEPT_BYTES: usize = 32 * 1024;
/// Less free room than that is not worth giving back. Redis's figure.
const QUERY_FREE_BYTES_MIN: usize = 4 * 1024;
/// A reply buffer of that size is kept in any case. Redis's figure.
const REPLY_KEPT_BYTES: usize = 1024;
/// What the slot of a watched key keeps for it beside the key: an entry of a hash table.
const WATCHED_BYTES_EACH: usize = 64;

/// The memory of one client, in bytes where nothing else is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientMemory {
    /// Arguments of a request that has not arrived whole.
    pub arriving_bytes: usize,
    /// Input that is not understood yet.
    pub query_bytes: usize,
    /// Room behind it.
    pub query_free_bytes: usize,
    /// Arguments in the queue of MULTI.
    pub queued_bytes: usize,
    /// Keys under WATCH.
    pub watched_count: usize,
    /// The reply buffer, and the most that was in it of late.
    pub reply_buffer_bytes: usize,
    pub reply_peak_bytes: usize,
    /// Output in the part of it that Redis has for each client.
    pub waiting_bytes: usize,
    /// Output beyond that: what the network has, what must wait for an earlier reply, what is too much.
    pub behind_bytes: usize,
    /// In how many pieces of 16 KiB that is.
    pub behind_count: usize,
    /// Everything that the client takes.
    pub total_bytes: usize,
}

/// Whether reply buffers that are larger than needed are given back, and for how long they are taken to be needed (`DEBUG REPLYBUFFER`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyResizing {
    pub is_on: bool,
    /// The most that was in a buffer is forgotten after that time; None: never.
    pub peak_for: Option<Ms>,
}

impl ReplyResizing {
    /// Redis's figures.
    pub const DEFAULT: ReplyResizing = ReplyResizing {
        is_on: true,
        peak_for: Some(Ms(5000)),
    };
}

/// What the periodic look at a client remembers until the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// The most input since the last look.
    query_peak_bytes: usize,
    /// The most output in the buffer since `reply_peak_since`.
    reply_peak_bytes: usize,
    reply_peak_since: UnixMs,
}

impl Usage {
    /// Notes how full the buffers are, when they are fullest: input before it is run, output before it is sent.
    #[inline]
    pub fn note(&mut self, query_bytes: usize, reply_bytes: usize) {
        self.query_peak_bytes = self.query_peak_bytes.max(query_bytes);
        self.reply_peak_bytes = self.reply_peak_bytes.max(reply_bytes);
    }
}

impl Client {
    /// What it takes now.
    pub fn memory(&self) -> ClientMemory {
        let arriving_bytes = self.parser.arrived_bytes();
        let unread_bytes = self.query_bytes();
        let query_bytes = unread_bytes.saturating_sub(self.parser.understood_bytes());
        let transaction = self.transaction.as_deref();
        let queued_bytes = transaction.map_or(0, |transaction| transaction.queued_bytes);
        let queue_bytes = transaction.map_or(0, |transaction| {
            let queue = &transaction.queue;
            let arguments: usize = queue.iter().map(|queued| queued.args.memory_bytes()).sum();
            queue.capacity() * size_of::<Queued>() + arguments
        });
        let watched_keys: usize = self.watched.iter().map(|(_, token)| token.key().len()).sum();
        // The key is here, and in its slot once more.
        let watched_bytes = self.watched.capacity() * size_of::<(u16, WatchToken)>()
            + self.watched.len() * WATCHED_BYTES_EACH
            + 2 * watched_keys;
        let output_bytes = self.output_bytes();
        let waiting_bytes = self.out.len().min(limits::REPLY_KEPT_BYTES_MAX);
        let behind_bytes = output_bytes - waiting_bytes;
        let reply_buffer_bytes = self.out.memory_bytes();
        let shared_bytes = self.out.shared_bytes();
        ClientMemory {
            arriving_bytes,
            query_bytes,
            query_free_bytes: self.query.capacity() - self.query.len(),
            queued_bytes,
            watched_count: self.watched.len(),
            reply_buffer_bytes,
            reply_peak_bytes: self.usage.reply_peak_bytes.max(self.out.len()),
            waiting_bytes,
            behind_bytes,
            behind_count: behind_bytes.div_ceil(limits::REPLY_KEPT_BYTES_MAX),
            total_bytes: size_of::<Client>()
                + self.query.capacity()
                + self.parser.memory_bytes()
                + reply_buffer_bytes
                + shared_bytes
                + self.in_flight_bytes
                + self.pending.kept_bytes()
                + self.pending.under_way_bytes()
                + queue_bytes
                + watched_bytes
                + self.session.name.capacity()
                + self
                    .session
                    .subscriptions
                    .as_ref()
                    .map_or(0, |subscriptions| subscriptions.memory_bytes())
                + self
                    .session
                    .tracking
                    .as_ref()
                    .map_or(0, |tracking| tracking.memory_bytes()),
        }
    }

    /// Gives back what its buffers have too much. To be called about once a second.
    pub fn give_back(&mut self, now: UnixMs, resizing: ReplyResizing) {
        let is_idle = now.since(self.last_interaction) > IDLE_AFTER;
        let arriving_bytes = self.parser.awaited_bytes().min(QUERY_RESERVED_BYTES_MAX);
        if self.query.capacity() - self.query_bytes() > QUERY_FREE_BYTES_MIN {
            if is_idle {
                self.query.drain(..std::mem::take(&mut self.query_start));
                self.query.shrink_to_fit();
            } else if self.query.capacity() > QUERY_KEPT_BYTES
                && self.query.capacity() / 2 > self.usage.query_peak_bytes
            {
                self.query.drain(..std::mem::take(&mut self.query_start));
                self.query.shrink_to(self.usage.query_peak_bytes.max(arriving_bytes));
            }
        }
        self.usage.query_peak_bytes = self.query.len().max(arriving_bytes);
        if is_idle {
            self.parser.give_back();
        }
        if self.out.is_empty() && resizing.is_on {
            let reply_bytes = self.out.memory_bytes();
            if reply_bytes > REPLY_KEPT_BYTES && self.usage.reply_peak_bytes < reply_bytes / 2 {
                self.out.give_back();
            }
        }
        if resizing
            .peak_for
            .is_some_and(|lasts| now.since(self.usage.reply_peak_since) >= lasts)
        {
            self.usage.reply_peak_since = now;
            self.usage.reply_peak_bytes = self.out.len();
        }
    }
}
