//! The past of a long list: see `data::past` for what a past is.
//!
//! A list is read in order, so its past must know where each gone node stood. It is a sequence of pieces, in the order of the list; in
//! each the nodes that have come and gone at one place, and then those that are still as they were:
//!
//! ```text
//! frozen    A B C D E F          pieces   gone A, fresh x y, same 2 | gone D, fresh z, same 1 | gone F
//! living    x y B C z E
//! ```
//!
//! Where a fresh node stands among the gone ones means nothing. Nodes are known by their index in the living list. Finding the piece
//! of an index begins at the nearer end, so pushing and popping cost nothing more; in the middle a change looks at as many
//! pieces as there were changes in other places. What has been read is made fresh, so the first piece is also the cursor.
//!
//! Invariants: 1. `fresh` and `same` of all pieces are together the living nodes; 2. `same` is 0 at most in the last piece; 3. a piece
//! other than the first has a gone or a fresh node.

use std::collections::VecDeque;

use super::node::Node;
use crate::data::past::Remains;

/// See the essay above.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) gone: VecDeque<Node>,
    pub(super) fresh: usize,
    pub(super) same: usize,
}

impl Piece {
    fn living(&self) -> usize {
        self.fresh + self.same
    }
}

/// The past of a list.
#[derive(Debug)]
pub(super) struct PastNodes {
    pieces: VecDeque<Piece>,
    /// Invariant 1.
    living: usize,
    gone_count: usize,
    gone_bytes: usize,
    /// Nodes at the freeze.
    len: usize,
    written: usize,
    has_begun: bool,
}

impl PastNodes {
    pub(super) fn new(node_count: usize) -> PastNodes {
        let piece = Piece {
            same: node_count,
            ..Piece::default()
        };
        PastNodes {
            pieces: VecDeque::from([piece]),
            living: node_count,
            gone_count: 0,
            gone_bytes: 0,
            len: node_count,
            written: 0,
            has_begun: false,
        }
    }

    /// Nodes at the freeze, the first time that this is asked.
    pub(super) fn begin_read(&mut self) -> Option<usize> {
        (!std::mem::replace(&mut self.has_begun, true)).then_some(self.len)
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.gone_bytes + self.gone_count * size_of::<Node>() + self.pieces.len() * size_of::<Piece>()
    }

    /// The pieces, for a rollback.
    pub(super) fn into_pieces(self) -> impl Iterator<Item = Piece> {
        self.pieces.into_iter()
    }

    /// The piece with the living node of this index, and its index there. One behind the last is in the last piece.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index <= self.living / 2 {
            let mut within = index;
            for (at, piece) in self.pieces.iter().enumerate() {
                if within < piece.living() {
                    return (at, within);
                }
                within -= piece.living();
            }
        } else {
            // How many stand behind the beginning of each piece.
            let mut behind = 0;
            for (at, piece) in self.pieces.iter().enumerate().rev() {
                behind += piece.living();
                if self.living - index <= behind {
                    return (at, behind - (self.living - index));
                }
            }
        }
        unreachable!("no living node has the index {index} of {}", self.living)
    }

    /// Whether the living node of this index is not as it was, or need not be known any more.
    pub(super) fn is_fresh(&self, index: usize) -> bool {
        let (piece, within) = self.locate(index);
        within < self.pieces[piece].fresh
    }

    /// A node has come, and has this index now.
    pub(super) fn insert(&mut self, index: usize) {
        let (at, within) = match index == self.living {
            true => (self.pieces.len() - 1, self.pieces[self.pieces.len() - 1].living()),
            false => self.locate(index),
        };
        self.living += 1;
        let piece = &mut self.pieces[at];
        if within <= piece.fresh {
            piece.fresh += 1;
            return;
        }
        self.split(at, within).fresh += 1;
    }

    /// A fresh node of this index has gone.
    pub(super) fn strike(&mut self, index: usize) {
        let (at, _) = self.locate(index);
        self.living -= 1;
        let piece = &mut self.pieces[at];
        piece.fresh -= 1;
        if at > 0 && piece.fresh == 0 && piece.gone.is_empty() {
            let same = piece.same;
            self.pieces.remove(at);
            self.pieces[at - 1].same += same;
        }
    }

    /// The node of this index, which is not fresh, goes, or becomes another one in its place.
    pub(super) fn keep(&mut self, index: usize, node: Node, is_replaced: bool) {
        let (at, within) = self.locate(index);
        self.gone_count += 1;
        self.gone_bytes += node.allocated_bytes();
        self.living -= usize::from(!is_replaced);
        let fresh = usize::from(is_replaced);
        let piece = &mut self.pieces[at];
        if within == piece.fresh {
            piece.gone.push_back(node);
            piece.fresh += fresh;
            piece.same -= 1;
            self.join(at);
        } else {
            let next = self.split(at, within);
            next.gone.push_front(node);
            next.fresh += fresh;
            next.same -= 1;
            self.join(at + 1);
        }
    }

    /// Ends a piece before the node that has this index in it, which is not one of its fresh ones. Answers the piece that follows.
    fn split(&mut self, at: usize, within: usize) -> &mut Piece {
        let rest = self.pieces[at].living() - within;
        if rest > 0 || at + 1 == self.pieces.len() {
            self.pieces[at].same -= rest;
            let next = Piece {
                same: rest,
                ..Piece::default()
            };
            self.pieces.insert(at + 1, next);
        }
        &mut self.pieces[at + 1]
    }

    /// Keeps invariant 2 for this piece.
    fn join(&mut self, at: usize) {
        if self.pieces[at].same > 0 || at + 1 == self.pieces.len() {
            return;
        }
        if let Some(mut piece) = self.pieces.remove(at) {
            let next = &mut self.pieces[at];
            next.fresh += piece.fresh;
            // The shorter one moves.
            if piece.gone.len() <= next.gone.len() {
                while let Some(node) = piece.gone.pop_back() {
                    next.gone.push_front(node);
                }
            } else {
                piece.gone.append(&mut next.gone);
                next.gone = piece.gone;
            }
        }
    }

    /// What is to be read next, if anything is left.
    pub(super) fn next(&mut self) -> Option<Next> {
        let first = &mut self.pieces[0];
        let next = if let Some(node) = first.gone.pop_front() {
            self.gone_count -= 1;
            self.gone_bytes -= node.allocated_bytes();
            Next::Gone(node)
        } else if first.same > 0 {
            let index = first.fresh;
            first.fresh += 1;
            first.same -= 1;
            self.join(0);
            Next::Living(index)
        } else {
            assert_eq!(self.written, self.len, "a past has lost nodes of its list");
            return None;
        };
        self.written += 1;
        Some(next)
    }

    /// Checks the invariants.
    pub(super) fn check(&self, node_count: usize) {
        assert_eq!(self.living, node_count, "invariant 1");
        assert_eq!(
            self.living,
            self.pieces.iter().map(Piece::living).sum::<usize>(),
            "invariant 1"
        );
        for (at, piece) in self.pieces.iter().enumerate() {
            assert!(piece.same > 0 || at + 1 == self.pieces.len(), "invariant 2");
            assert!(at == 0 || piece.fresh > 0 || !piece.gone.is_empty(), "invariant 3");
        }
        let gone = || self.pieces.iter().flat_map(|piece| &piece.gone);
        assert_eq!(self.gone_count, gone().count());
        assert_eq!(self.gone_bytes, gone().map(Node::allocated_bytes).sum::<usize>());
    }
}

/// What a past has to be read next.
pub(super) enum Next {
    /// A node that is kept, and is no more.
    Gone(Node),
    /// The living node of this index.
    Living(usize),
}

impl Remains for PastNodes {
    fn left(&self) -> usize {
        self.gone_count + self.pieces.len()
    }

    fn free_step(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(last) = self.pieces.back_mut() else {
                return true;
            };
            if last.gone.pop_back().is_some() {
                self.gone_count -= 1;
            } else {
                self.pieces.pop_back();
            }
        }
        self.pieces.is_empty()
    }
}
