//! Replies in the order of the requests.
//!
//! Commands of one connection may end in another order than they came (they run on different shards). Each command
//! that is answered later takes a place in this queue; whoever answers names the place by its sequence number, and
//! what stands at the front moves to the client's output as soon as it is there. While the queue is empty, replies go
//! straight to the output and nothing here is touched: that is the case of a client whose keys live on its own shard.
//!
//! Invariants:
//! 1. the front place is always unanswered (an answered front has been moved out);
//! 2. sequence numbers are consecutive: the front's is `front_sequence`, the next one's one more, wrapping.

use crate::resp::ReplyBuf;
use std::collections::VecDeque;

#[derive(Default, Debug)]
struct Place {
    is_answered: bool,
    /// The command was sent under `CLIENT REPLY OFF` or `SKIP`: its answer is dropped.
    is_silent: bool,
    reply: ReplyBuf,
}

/// The unanswered commands of one connection.
#[derive(Default, Debug)]
pub struct PendingReplies {
    front_sequence: u32,
    places: VecDeque<Place>,
    unanswered: usize,
}

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

    /// A place at the end, to be answered later.
    pub fn reserve(&mut self, is_silent: bool) -> u32 {
        let sequence = self.front_sequence.wrapping_add(self.places.len() as u32);
        self.places.push_back(Place {
            is_silent,
            ..Place::default()
        });
        self.unanswered += 1;
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
        let place = self
            .places
            .get_mut(index)
            .expect("an answer names a place that was reserved");
        assert!(!place.is_answered, "a command is answered once");
        self.unanswered -= 1;
        if index > 0 {
            place.is_answered = true;
            write(&mut place.reply);
            if place.is_silent {
                place.reply.clear();
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
                out.append(&mut place.reply);
            }
        }
        if self.places.is_empty() && self.places.capacity() > 64 {
            self.places = VecDeque::new();
        }
    }

    fn pop_front(&mut self) -> Option<Place> {
        self.front_sequence = self.front_sequence.wrapping_add(1);
        self.places.pop_front()
    }

    /// Bytes of replies that are kept back because an earlier one is missing.
    pub fn kept_bytes(&self) -> usize {
        self.places.iter().map(|place| place.reply.len()).sum()
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

    #[test]
    fn answers_leave_in_the_order_of_the_requests() {
        let mut out = ReplyBuf::default();
        let mut pending = PendingReplies::default();
        let write = |n: i64| move |buf: &mut ReplyBuf| Reply::new(buf, Proto::Resp2).integer(n);
        let first = pending.reserve(false);
        let second = pending.reserve(false);
        write(3)(pending.tail());
        write(4)(pending.tail());
        let silent = pending.reserve(true);
        let last = pending.reserve(false);
        pending.answer(last, &mut out, write(6));
        pending.answer(second, &mut out, write(2));
        assert!(out.is_empty());
        assert_eq!(pending.kept_bytes(), 16);
        pending.answer(first, &mut out, write(1));
        assert_eq!(text(&out), ":1\r\n:2\r\n:3\r\n:4\r\n");
        assert_eq!(pending.unanswered(), 1);
        pending.answer(silent, &mut out, write(5));
        assert_eq!(text(&out), ":1\r\n:2\r\n:3\r\n:4\r\n:6\r\n");
        assert!(pending.is_empty());
    }
}
