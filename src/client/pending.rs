//! Replies in the order of the requests, and how much of a client's work may be under way.
//!
//! Commands of one connection may end in another order than they came (they run on different shards). Each command
//! that is answered later takes a place in this queue; whoever answers names the place by its sequence number, and
//! what stands at the front moves to the client's output as soon as it is there. While the queue is empty, replies go
//! straight to the output and nothing here is touched: that is the case of a client whose keys live on its own shard.
//!
//! What is under way lies in links and in queues of other shards, where nobody sees it as this client's. So it is counted here
//! and has a bound ([`PendingReplies::is_full`]): a client whose earlier work waits does not send on for ever.
//!
//! Invariants:
//! 1. the front place is always unanswered (an answered front has been moved out);
//! 2. sequence numbers are consecutive: the front's is `front_sequence`, the next one's one more, wrapping;
//! 3. `under_way_bytes` is the sum over the unanswered places, `kept_bytes` and `kept_memory_bytes` those over the answered ones, the
//!    last one excepted (it may still grow).

use crate::base::limits::{UNDER_WAY_BYTES_MAX, UNDER_WAY_COUNT_MAX};
use crate::base::size_class::allocated;
use crate::resp::ReplyBuf;
use std::collections::VecDeque;

#[derive(Default, Debug)]
struct Place {
    is_answered: bool,
    /// The command was sent under `CLIENT REPLY OFF` or `SKIP`: its answer is dropped.
    is_silent: bool,
    /// Of the command, as long as it is unanswered.
    command_bytes: usize,
    reply: ReplyBuf,
}

impl Place {
    fn reply_memory_bytes(&self) -> usize {
        allocated(self.reply.memory_bytes())
    }
}

/// The unanswered commands of one connection.
#[derive(Default, Debug)]
pub struct PendingReplies {
    front_sequence: u32,
    places: VecDeque<Place>,
    unanswered: usize,
    under_way_bytes: usize,
    kept_bytes: usize,
    /// What the buffers of these replies take.
    kept_memory_bytes: usize,
}

/// A queue that has held more places gives its memory back when it is empty.
const PLACES_KEPT: usize = 64;

impl PendingReplies {
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many commands wait for their answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether the newest command is one that waits for its answer.
    pub fn is_last_unanswered(&self) -> bool {
        self.places.back().is_some_and(|place| !place.is_answered)
    }

    /// Whether so much is under way, or kept back behind it, that nothing more may begin. One command alone may be of any size.
    #[inline]
    pub fn is_full(&self) -> bool {
        !self.has_room_within(UNDER_WAY_COUNT_MAX, UNDER_WAY_BYTES_MAX)
    }

    /// Whether half of the bound is free: the client that was full goes on only then, so that it does so in batches.
    pub fn is_half_free(&self) -> bool {
        self.has_room_within(UNDER_WAY_COUNT_MAX / 2, UNDER_WAY_BYTES_MAX / 2)
    }

    #[inline]
    fn has_room_within(&self, count: usize, bytes: usize) -> bool {
        self.unanswered < count && self.under_way_bytes + self.kept_bytes() < bytes
    }

    /// A place at the end, to be answered later, for a command of so many bytes.
    pub fn reserve(&mut self, is_silent: bool, command_bytes: usize) -> u32 {
        self.keep_last();
        let sequence = self.front_sequence.wrapping_add(self.places.len() as u32);
        self.places.push_back(Place {
            is_silent,
            command_bytes,
            ..Place::default()
        });
        self.unanswered += 1;
        self.under_way_bytes += command_bytes;
        sequence
    }

    /// Where the reply of a command that is answered at once goes while others are outstanding.
    ///
    /// Must not be called on an empty queue (the reply then belongs into the output itself).
    pub fn tail(&mut self) -> &mut ReplyBuf {
        debug_assert!(!self.places.is_empty());
        if !self.places.back().is_some_and(|place| place.is_answered) {
            self.places.push_back(Place {
                is_answered: true,
                ..Place::default()
            });
        }
        &mut self
            .places
            .back_mut()
            .expect("a place was pushed if there was none")
            .reply
    }

    /// Answers the command at `sequence` by calling `write` with the buffer its reply belongs into, and moves to `out`
    /// what is now in front.
    pub fn answer(&mut self, sequence: u32, out: &mut ReplyBuf, write: impl FnOnce(&mut ReplyBuf)) {
        let index = sequence.wrapping_sub(self.front_sequence) as usize;
        let is_last = index + 1 == self.places.len();
        let place = self
            .places
            .get_mut(index)
            .expect("an answer names a place that was reserved");
        assert!(!place.is_answered, "a command is answered once");
        self.unanswered -= 1;
        self.under_way_bytes -= std::mem::take(&mut place.command_bytes);
        if index > 0 {
            place.is_answered = true;
            write(&mut place.reply);
            if place.is_silent {
                place.reply.clear();
            }
            if !is_last {
                self.kept_bytes += place.reply.len();
                self.kept_memory_bytes += place.reply_memory_bytes();
            }
            return;
        }
        if place.is_silent {
            let mut dropped = ReplyBuf::default();
            write(&mut dropped);
        } else {
            write(out);
        }
        self.pop_front();
        while self.places.front().is_some_and(|place| place.is_answered) {
            if let Some(mut place) = self.pop_front() {
                if !self.places.is_empty() {
                    self.kept_bytes -= place.reply.len();
                    self.kept_memory_bytes -= place.reply_memory_bytes();
                }
                out.append(&mut place.reply);
            }
        }
        if self.places.is_empty() && self.places.capacity() > PLACES_KEPT {
            self.places = VecDeque::new();
        }
    }

    /// The last place is the last one no more.
    fn keep_last(&mut self) {
        if let Some(last) = self.places.back().filter(|last| last.is_answered) {
            self.kept_bytes += last.reply.len();
            self.kept_memory_bytes += last.reply_memory_bytes();
        }
    }

    fn pop_front(&mut self) -> Option<Place> {
        self.front_sequence = self.front_sequence.wrapping_add(1);
        self.places.pop_front()
    }

    /// Bytes of replies that are kept back because an earlier one is missing.
    pub fn kept_bytes(&self) -> usize {
        let last = self.places.back().filter(|last| last.is_answered);
        self.kept_bytes + last.map_or(0, |last| last.reply.len())
    }

    /// Bytes of memory that the queue takes, and the replies that are kept back in it.
    pub fn memory_bytes(&self) -> usize {
        let last = self.places.back().filter(|last| last.is_answered);
        allocated(self.places.capacity() * size_of::<Place>())
            + self.kept_memory_bytes
            + last.map_or(0, Place::reply_memory_bytes)
    }

    /// Bytes of commands that are under way on other shards or wait for slots.
    pub fn under_way_bytes(&self) -> usize {
        self.under_way_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Proto, Reply};

    fn text(out: &ReplyBuf) -> String {
        out.segments()
            .map(|s| String::from_utf8_lossy(s).into_owned())
            .collect()
    }

    fn write(n: i64) -> impl FnOnce(&mut ReplyBuf) {
        move |buf: &mut ReplyBuf| Reply::new(buf, Proto::Resp2).integer(n)
    }

    #[test]
    fn answers_leave_in_the_order_of_the_requests() {
        let mut out = ReplyBuf::default();
        let mut pending = PendingReplies::default();
        assert!(!pending.is_last_unanswered());
        let first = pending.reserve(false, 10);
        let second = pending.reserve(false, 20);
        assert!(pending.is_last_unanswered());
        write(3)(pending.tail());
        assert!(!pending.is_last_unanswered());
        write(4)(pending.tail());
        assert_eq!(pending.kept_bytes(), 8);
        let silent = pending.reserve(true, 30);
        let last = pending.reserve(false, 40);
        assert_eq!((pending.under_way_bytes(), pending.kept_bytes()), (100, 8));
        pending.answer(last, &mut out, write(6));
        pending.answer(second, &mut out, write(22));
        assert!(out.is_empty());
        assert_eq!((pending.under_way_bytes(), pending.kept_bytes()), (40, 17));
        let queue_bytes = allocated(pending.places.capacity() * size_of::<Place>());
        let replies = pending.places.iter().map(Place::reply_memory_bytes);
        assert_eq!(pending.memory_bytes(), queue_bytes + replies.sum::<usize>());
        assert!(pending.memory_bytes() >= queue_bytes + 16);
        pending.answer(first, &mut out, write(1));
        assert_eq!(text(&out), ":1\r\n:22\r\n:3\r\n:4\r\n");
        assert_eq!(pending.unanswered(), 1);
        assert_eq!((pending.under_way_bytes(), pending.kept_bytes()), (30, 4));
        pending.answer(silent, &mut out, write(5));
        assert_eq!(text(&out), ":1\r\n:22\r\n:3\r\n:4\r\n:6\r\n");
        assert!(pending.is_empty());
        assert_eq!((pending.under_way_bytes(), pending.kept_bytes()), (0, 0));
        assert_eq!(pending.kept_memory_bytes, 0);
    }

    #[test]
    fn what_is_kept_is_counted_while_it_waits() {
        let mut out = ReplyBuf::default();
        let mut pending = PendingReplies::default();
        let places: Vec<u32> = (0..5).map(|_| pending.reserve(false, 1)).collect();
        for at in [3, 1] {
            pending.answer(places[at], &mut out, write(7));
        }
        let one = allocated(pending.places[1].reply.memory_bytes());
        assert_eq!((pending.kept_bytes(), pending.kept_memory_bytes), (8, 2 * one));
        pending.answer(places[0], &mut out, write(7));
        assert_eq!((pending.kept_bytes(), pending.kept_memory_bytes), (4, one));
        pending.answer(places[2], &mut out, write(7));
        assert_eq!((pending.kept_bytes(), pending.kept_memory_bytes), (0, 0));
    }

    #[test]
    fn what_is_under_way_has_a_bound() {
        let mut out = ReplyBuf::default();
        let mut pending = PendingReplies::default();
        assert!(!pending.is_full());
        let large = pending.reserve(false, 100 * UNDER_WAY_BYTES_MAX);
        assert!(pending.is_full(), "in bytes");
        pending.answer(large, &mut out, write(1));
        assert!(!pending.is_full() && pending.is_half_free());
        for (bytes, is_full, is_half_free) in [
            (UNDER_WAY_BYTES_MAX, true, false),
            (UNDER_WAY_BYTES_MAX - 1, false, false),
            (UNDER_WAY_BYTES_MAX / 2, false, false),
            (UNDER_WAY_BYTES_MAX / 2 - 1, false, true),
        ] {
            let only = pending.reserve(false, bytes);
            assert_eq!((pending.is_full(), pending.is_half_free()), (is_full, is_half_free));
            pending.answer(only, &mut out, write(1));
        }
        let places: Vec<u32> = (0..UNDER_WAY_COUNT_MAX).map(|_| pending.reserve(false, 1)).collect();
        assert!(pending.is_full(), "in commands");
        for sequence in places.iter().take(UNDER_WAY_COUNT_MAX / 2) {
            assert!(!pending.is_half_free());
            pending.answer(*sequence, &mut out, write(1));
        }
        assert!(!pending.is_full() && !pending.is_half_free());
        pending.answer(places[UNDER_WAY_COUNT_MAX / 2], &mut out, write(1));
        assert!(pending.is_half_free());
        // Replies that wait behind the front.
        for _ in 0..UNDER_WAY_BYTES_MAX {
            write(1)(pending.tail());
        }
        assert!(pending.is_full(), "in replies");
    }
}
