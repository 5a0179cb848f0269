//! The stream put together from what shards log, and the end of it that is kept for those who come back.
//!
//! Each pass has taken a range of offsets with its turn; its piece comes when the pass is released, so pieces of several shards come in any
//! order. What comes before its time waits. What is whole from the beginning on is handed on, and kept in the *backlog* up to `repl-backlog-size`.
//!
//! ```text
//!      first kept       end            early
//!  ------|----------------|   [====]  [==]
//!        '--- backlog ----'
//! ```
//!
//! Since every piece was released before it came, so is all that is handed on: whoever reads the stream sees a prefix of what anybody
//! could have seen. Under `appendfsync always` each stretch says which log number it must not leave the process before.
//!
//! Invariants: (1) the end is where the next byte goes, and nothing below it ever comes again; (2) the backlog ends at the end.

use std::collections::{BTreeMap, VecDeque};

/// What one pass has in the stream: whole units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// The log number of its pass; 0: it has none.
    pub number: u64,
}

/// What has become whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Stretch {
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// The highest log number of its passes.
    pub number: u64,
}

/// See the essay above.
#[derive(Debug)]
pub struct Stream {
    early: BTreeMap<u64, Piece>,
    backlog: VecDeque<u8>,
    backlog_bytes_max: usize,
    end: u64,
}

impl Stream {
    /// One that begins here, and of which nothing is kept.
    pub fn new(offset: u64, backlog_bytes_max: usize) -> Stream {
        Stream {
            early: BTreeMap::new(),
            backlog: VecDeque::new(),
            backlog_bytes_max,
            end: offset,
        }
    }

    /// Where the next byte goes.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The first offset that is kept.
    pub fn first_kept(&self) -> u64 {
        self.end - self.backlog.len() as u64
    }

    /// Bytes that are kept.
    pub fn kept_bytes(&self) -> usize {
        self.backlog.len()
    }

    /// Takes in a piece; answers what has become whole by it.
    pub fn take_in(&mut self, piece: Piece) -> Option<Stretch> {
        if piece.offset < self.end {
            // From before the stream was wanted.
            debug_assert!(piece.offset + piece.bytes.len() as u64 <= self.end);
            return None;
        }
        if piece.offset > self.end {
            self.early.insert(piece.offset, piece);
            return None;
        }
        let Piece {
            offset,
            mut bytes,
            mut number,
        } = piece;
        let mut end = offset + bytes.len() as u64;
        while let Some(next) = self.early.remove(&end) {
            end += next.bytes.len() as u64;
            bytes.extend_from_slice(&next.bytes);
            number = number.max(next.number);
        }
        self.end = end;
        self.backlog.extend(&bytes);
        self.forget();
        Some(Stretch { offset, bytes, number })
    }

    /// Keeps as much as that from now on.
    pub fn resize(&mut self, backlog_bytes_max: usize) {
        if self.backlog_bytes_max != backlog_bytes_max {
            self.backlog_bytes_max = backlog_bytes_max;
            self.forget();
            self.backlog.shrink_to_fit();
        }
    }

    fn forget(&mut self) {
        let excess = self.backlog.len().saturating_sub(self.backlog_bytes_max);
        self.backlog.drain(..excess);
    }

    /// All from that offset on; None: it is not kept any more, or has not come to be.
    pub fn since(&self, offset: u64) -> Option<Vec<u8>> {
        if offset < self.first_kept() || offset > self.end {
            return None;
        }
        let skipped = (offset - self.first_kept()) as usize;
        Some(self.backlog.range(skipped..).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, text: &str, number: u64) -> Piece {
        Piece {
            offset,
            bytes: text.as_bytes().to_vec(),
            number,
        }
    }

    fn whole(stretch: Option<Stretch>) -> (u64, String, u64) {
        let stretch = stretch.expect("something has become whole");
        (
            stretch.offset,
            String::from_utf8(stretch.bytes).unwrap(),
            stretch.number,
        )
    }

    #[test]
    fn pieces_are_put_together_in_whatever_order_they_come() {
        let mut stream = Stream::new(100, 1000);
        assert_eq!(stream.take_in(piece(90, "0123456789", 1)), None, "it was before");
        assert_eq!(stream.take_in(piece(106, "gh", 4)), None);
        assert_eq!(stream.take_in(piece(103, "def", 0)), None);
        assert_eq!(whole(stream.take_in(piece(100, "abc", 3))), (100, "abcdefgh".into(), 4));
        assert_eq!(whole(stream.take_in(piece(108, "i", 0))), (108, "i".into(), 0));
        assert_eq!((stream.end(), stream.first_kept()), (109, 100));
        assert_eq!(stream.since(107).as_deref(), Some(&b"hi"[..]));
        assert_eq!(stream.since(109).as_deref(), Some(&b""[..]));
        assert_eq!((stream.since(99), stream.since(110)), (None, None));
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut stream = Stream::new(0, 4);
        stream.take_in(piece(0, "abcdef", 0));
        assert_eq!((stream.first_kept(), stream.kept_bytes()), (2, 4));
        assert_eq!(stream.since(1), None);
        assert_eq!(stream.since(2).as_deref(), Some(&b"cdef"[..]));
        stream.resize(2);
        assert_eq!(stream.since(4).as_deref(), Some(&b"ef"[..]));
        assert_eq!(stream.since(3), None);
        stream.resize(4);
        stream.take_in(piece(6, "g", 0));
        assert_eq!(stream.since(4).as_deref(), Some(&b"efg"[..]));
    }
}
