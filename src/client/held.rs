//! Replies that wait for the disk.
//!
//! Under `appendfsync always` what a client's commands have answered leaves the process when all that it shows is durable. What one pass
//! has answered is put down as one piece with its [`Need`], behind what waits already: a client is shown nothing out of order.
//!
//! Invariant: pieces leave in the order in which they came, each not before its own need and those before it are met.

use crate::base::size_class::allocated;
use crate::resp::ReplyBuf;
use crate::shard::durable::Need;
use std::collections::VecDeque;

/// What waits of one client.
#[derive(Debug, Default)]
pub struct HeldReplies {
    pieces: VecDeque<(Need, ReplyBuf)>,
    bytes: usize,
    memory_bytes: usize,
    /// It stands in the shard's list of clients that wait for the disk.
    pub is_listed: bool,
}

impl HeldReplies {
    /// Takes in what a pass has answered.
    pub fn push(&mut self, need: Need, out: &mut ReplyBuf) {
        let piece = std::mem::take(out);
        self.bytes += piece.len();
        self.memory_bytes += allocated(piece.memory_bytes());
        self.pieces.push_back((need, piece));
    }

    /// Takes back what was let go and could not leave: it comes first again, and waits for no disk.
    pub fn put_back(&mut self, out: &mut ReplyBuf) {
        let piece = std::mem::take(out);
        self.bytes += piece.len();
        self.memory_bytes += allocated(piece.memory_bytes());
        self.pieces.push_front((Need::NONE, piece));
    }

    /// Moves what may leave to `out`.
    pub fn release(&mut self, out: &mut ReplyBuf, is_met: impl Fn(Need) -> bool) {
        while let Some((need, _)) = self.pieces.front()
            && is_met(*need)
            && let Some((_, mut piece)) = self.pieces.pop_front()
        {
            self.bytes -= piece.len();
            self.memory_bytes -= allocated(piece.memory_bytes());
            out.append(&mut piece);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes of the replies.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that they take, without the values that they share with the keyspace.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes + allocated(self.pieces.capacity() * size_of::<(Need, ReplyBuf)>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str) -> ReplyBuf {
        let mut piece = ReplyBuf::default();
        piece.push(text.as_bytes());
        piece
    }

    #[test]
    fn pieces_leave_in_their_order_when_their_need_is_met() {
        let mut held = HeldReplies::default();
        for (number, text) in [(3, "a"), (2, "bb"), (5, "c")] {
            held.push(Need::of(number), &mut piece(text));
        }
        assert_eq!(held.bytes(), 4);
        assert!(held.memory_bytes() >= 4);
        let mut out = ReplyBuf::default();
        let mut released = |prefix| {
            held.release(&mut out, |need| need.is_met(prefix));
            out.take().to_contiguous().into_owned()
        };
        assert_eq!(released(2), b"", "the second one waits behind the first");
        assert_eq!(released(4), b"abb");
        held.put_back(&mut piece("z"));
        let mut released = |prefix| {
            held.release(&mut out, |need| need.is_met(prefix));
            out.take().to_contiguous().into_owned()
        };
        assert_eq!(released(0), b"z");
        assert_eq!(released(5), b"c");
        assert!(held.is_empty());
        assert_eq!((held.bytes(), held.memory_bytes), (0, 0));
    }
}
