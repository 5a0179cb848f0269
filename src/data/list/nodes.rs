//! A long list: nodes in a deque of deques.
//!
//! A node is a listpack of some kilobytes (`node`), 16 bytes here: a pointer and how many elements it has. Nodes stand in
//! chunks of up to 256, chunks in a deque. So either end is reached at once; finding an index adds up the counts of
//! chunks and then of one chunk's nodes; a node in the middle moves at most half a chunk aside; and when a deque
//! grows, what is copied is 4 KiB of nodes or one small record for each chunk, never one for each node. One
//! deque of nodes would do all of this for the usual list, but stalls for milliseconds when elements are so large that
//! each has a node of its own.
//!
//! Invariants:
//! 1. No node and no chunk is empty.
//! 2. `len`, `node_count`, `node_bytes` and each chunk's `len` are the sums over the nodes, `chunk_bytes` is the sum over the
//!    chunks: nodes change only through `edit`, `insert_node` and `remove_node`.
//! 3. With a compress depth d, the d nodes at either end are not compressed, from the last change on. (A rollback may bring nodes to
//!    the ends that were compressed since: they are then until the next change.)
//!
//! A list can be frozen (`past`): nodes come, go and change only through `insert_node`, `remove_node`, `remove_node_with` and `edit`, and
//! these tell the pasts.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::End;
use super::node::{Elements, Node, NodeView};
use super::past::{Next, PastNodes};
use crate::base::hash::HashSeed;
use crate::base::size_class::allocated;
use crate::data::Limits;
use crate::data::frozen::{Freezable, Head, Part, Sink, Spent, Use};
use crate::data::listpack::{Item, Listpack};
use crate::data::past::{BYTES_COPIED_MAX, NOT_FROZEN, PART_BYTES, PARTS_COPIED_MAX, Pasts};

/// Nodes of a chunk: moving half of them aside (2 KiB) costs less than the change of the node itself.
const CHUNK_NODES_MAX: usize = 256;

/// The nodes of a long list.
#[derive(Debug, Default)]
pub struct NodeList {
    chunks: VecDeque<Chunk>,
    /// Elements.
    len: usize,
    node_count: usize,
    /// What the allocator gave for what hangs on the nodes.
    node_bytes: usize,
    /// What it gave for the chunks' own deques.
    chunk_bytes: usize,
    pasts: Pasts<PastNodes>,
}

impl Clone for NodeList {
    fn clone(&self) -> NodeList {
        let chunks = self.chunks.clone();
        // A copy of a deque need not have its capacity.
        let chunk_bytes = chunks.iter().map(Chunk::allocated_bytes).sum();
        NodeList {
            chunks,
            chunk_bytes,
            len: self.len,
            node_count: self.node_count,
            node_bytes: self.node_bytes,
            pasts: Pasts::default(),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    nodes: VecDeque<Node>,
    /// Elements.
    len: usize,
}

impl Chunk {
    /// Bytes that the allocator gave for the deque.
    fn allocated_bytes(&self) -> usize {
        allocated(self.nodes.capacity() * size_of::<Node>())
    }
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    chunk: usize,
    node: usize,
}

impl NodeList {
    /// Elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Nodes.
    pub fn node_count(&self) -> usize {
        self.node_count
    }

    /// Bytes that the allocator gave, for this structure too.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        let chunks = allocated(self.chunks.capacity() * size_of::<Chunk>());
        allocated(size_of::<NodeList>()) + chunks + self.chunk_bytes + self.node_bytes
    }

    /// The nodes in order, ready to be read.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeView<'_>> {
        self.chunks.iter().flat_map(|chunk| chunk.nodes.iter()).map(Node::view)
    }

    /// Hands the elements from `index` on (in the direction away from `end`, from which the index counts) to `visit`,
    /// until it breaks.
    pub(super) fn visit<B>(
        &self,
        end: End,
        index: usize,
        mut visit: impl FnMut(Item<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some((mut spot, mut skip)) = self.locate(end, index) else {
            return ControlFlow::Continue(());
        };
        loop {
            let view = self.node(spot).view();
            match end {
                End::Front => match view.elements(skip) {
                    Elements::Packed(mut items) => items.try_for_each(&mut visit)?,
                    Elements::Plain(item) => item.into_iter().try_for_each(&mut visit)?,
                },
                End::Back => match view.elements_back(skip) {
                    Elements::Packed(items) => items.rev().try_for_each(&mut visit)?,
                    Elements::Plain(item) => item.into_iter().try_for_each(&mut visit)?,
                },
            }
            skip = 0;
            match self.neighbour(spot, end.other()) {
                Some(next) => spot = next,
                None => return ControlFlow::Continue(()),
            }
        }
    }

    /// Adds an element at an end.
    pub(super) fn push(&mut self, end: End, text: &[u8], limits: &Limits) {
        if let Some(spot) = self.end(end)
            && self.node(spot).takes(text, limits)
        {
            self.edit(spot, |node| {
                let listpack = node.listpack_mut().expect("only a packed node takes an element");
                match end {
                    End::Front => listpack.push_front(text),
                    End::Back => listpack.push_back(text),
                }
            });
        } else {
            self.push_node(end, Node::of(text, limits), limits);
        }
    }

    /// Adds a node at an end.
    pub(super) fn push_node(&mut self, end: End, node: Node, limits: &Limits) {
        let spot = match (self.end(end), end) {
            (None, _) => Spot { chunk: 0, node: 0 },
            (Some(first), End::Front) => first,
            (Some(last), End::Back) => Spot {
                node: last.node + 1,
                ..last
            },
        };
        self.insert_node(spot, node);
        self.settle(limits);
    }

    /// Adds a copy of a node of another list at the back.
    pub(in crate::data) fn append(&mut self, node: &NodeView<'_>, limits: &Limits) {
        let copy = match node {
            NodeView::Packed(listpack) => Node::packed((*listpack).clone()),
            NodeView::Decompressed(listpack) => Node::packed(listpack.clone()),
            NodeView::Plain(element) => Node::plain(element),
        };
        self.push_node(End::Back, copy, limits);
    }

    /// Removes up to `count` elements from an end, one node at a time, and hands each to `visit` before.
    pub(super) fn pop(&mut self, end: End, count: usize, mut visit: impl FnMut(Item<'_>), limits: &Limits) {
        let mut left = count;
        while left > 0
            && let Some(spot) = self.end(end)
        {
            let node = self.node(spot);
            let taken = left.min(node.count());
            let view = node.view();
            match (end, view.elements(0)) {
                (End::Front, Elements::Packed(items)) => items.take(taken).for_each(&mut visit),
                (End::Back, Elements::Packed(items)) => items.rev().take(taken).for_each(&mut visit),
                (_, Elements::Plain(item)) => item.into_iter().for_each(&mut visit),
            }
            self.cut(spot, end, taken);
            left -= taken;
        }
        self.settle(limits);
    }

    /// Removes `count` elements from an end.
    pub(super) fn drop_elements(&mut self, end: End, count: usize, limits: &Limits) {
        let mut left = count;
        while left > 0
            && let Some(spot) = self.end(end)
        {
            let taken = left.min(self.node(spot).count());
            self.cut(spot, end, taken);
            left -= taken;
        }
        self.settle(limits);
    }

    /// Removes elements of a node, from this end of it; the whole node if these are all.
    fn cut(&mut self, spot: Spot, end: End, count: usize) {
        let whole = self.node(spot).count();
        if count >= whole {
            self.remove_node(spot);
            return;
        }
        let from = match end {
            End::Front => 0,
            End::Back => whole - count,
        };
        self.edit(spot, |node| {
            let listpack = node.listpack_mut().expect("a plain node has one element");
            if let Some(place) = listpack.seek(from as i64) {
                listpack.delete_range(place, count);
            }
        });
    }

    /// Puts an element before the one with this index (at the end if there is none).
    pub(super) fn insert(&mut self, index: usize, text: &[u8], limits: &Limits) {
        let Some((spot, within)) = self.locate(End::Front, index) else {
            self.push(End::Back, text, limits);
            return;
        };
        if self.node(spot).takes(text, limits) {
            self.insert_within(spot, within, text, limits);
            return;
        }
        if within == 0 {
            if let Some(before) = self.neighbour(spot, End::Front)
                && self.node(before).takes(text, limits)
            {
                self.insert_within(before, self.node(before).count(), text, limits);
                return;
            }
            self.insert_node(spot, Node::of(text, limits));
            self.settle(limits);
            return;
        }
        // The node is full: it is cut in two, and the first half usually takes the element.
        let tail = self.edit(spot, |node| {
            let listpack = node.listpack_mut().expect("a plain node has no element within");
            let place = listpack.seek(within as i64).expect("the index is within the node");
            listpack.split_off(place)
        });
        self.insert_node(
            Spot {
                node: spot.node + 1,
                ..spot
            },
            Node::packed(tail),
        );
        let (first, _) = self.locate(End::Front, index - 1).expect("the first half is not empty");
        if self.node(first).takes(text, limits) {
            self.insert_within(first, within, text, limits);
        } else {
            let (second, _) = self.locate(End::Front, index).expect("the second half is not empty");
            self.insert_node(second, Node::of(text, limits));
        }
        self.merge_around(index, limits);
        // What was cut, filled or merged was decompressed for it.
        if let Some((spot, _)) = self.locate(End::Front, index) {
            for near in [
                self.neighbour(spot, End::Front),
                Some(spot),
                self.neighbour(spot, End::Back),
            ] {
                near.into_iter().for_each(|spot| self.compress_if_inner(spot, limits));
            }
        }
        self.settle(limits);
    }

    fn insert_within(&mut self, spot: Spot, within: usize, text: &[u8], limits: &Limits) {
        self.edit(spot, |node| {
            let listpack = node.listpack_mut().expect("only a packed node takes an element");
            match listpack.seek(within as i64) {
                Some(place) => {
                    listpack.insert_before(place, text);
                }
                None => listpack.push_back(text),
            }
        });
        self.compress_if_inner(spot, limits);
    }

    /// Joins the nodes around the element with this index, as far as they fit together: else a list that is often
    /// inserted into would fall into ever smaller nodes.
    fn merge_around(&mut self, index: usize, limits: &Limits) {
        let Some((spot, within)) = self.locate(End::Front, index) else {
            return;
        };
        let first_index = index - within;
        if let Some(next) = self.neighbour(spot, End::Back) {
            self.merge(spot, next, limits);
        }
        if first_index > 0
            && let Some((spot, _)) = self.locate(End::Front, first_index)
            && let Some(before) = self.neighbour(spot, End::Front)
        {
            self.merge(before, spot, limits);
        }
    }

    fn merge(&mut self, one: Spot, two: Spot, limits: &Limits) {
        if !self.node(one).takes_all(self.node(two), limits) {
            return;
        }
        let mut node = self.remove_node_with(two);
        // The first one stands before the second: removing that did not move it.
        self.edit(one, |target| {
            let tail = node.listpack_mut().expect("only packed nodes are merged");
            let listpack = target.listpack_mut().expect("only packed nodes are merged");
            listpack.append(tail);
        });
    }

    /// Puts an element in place of the one with this index, which exists.
    pub(super) fn set(&mut self, index: usize, text: &[u8], limits: &Limits) {
        let Some((spot, within)) = self.locate(End::Front, index) else {
            return;
        };
        let node = self.node(spot);
        let is_small = text.len() < limits.list_packed_threshold;
        if node.count() == 1 {
            let node = Node::of(text, limits);
            self.edit(spot, |old| *old = node);
            self.compress_if_inner(spot, limits);
        } else if is_small && node.takes(text, limits) {
            self.edit(spot, |node| {
                let listpack = node.listpack_mut().expect("a plain node has one element");
                let place = listpack.seek(within as i64).expect("the index is within the node");
                listpack.replace(place, text);
            });
            self.compress_if_inner(spot, limits);
        } else {
            self.edit(spot, |node| {
                let listpack = node.listpack_mut().expect("a plain node has one element");
                let place = listpack.seek(within as i64).expect("the index is within the node");
                listpack.delete(place);
            });
            self.compress_if_inner(spot, limits);
            self.insert(index, text, limits);
        }
    }

    /// Removes up to `count` of the elements that `matches` accepts, beginning at an end; answers how many.
    pub(super) fn remove(
        &mut self,
        end: End,
        count: usize,
        matches: impl Fn(Item<'_>) -> bool,
        limits: &Limits,
    ) -> usize {
        let mut left = count;
        let mut next = self.end(end);
        while left > 0
            && let Some(spot) = next
        {
            let found = match self.node(spot).view().elements(0) {
                Elements::Packed(items) => items.filter(|item| matches(*item)).count(),
                Elements::Plain(item) => usize::from(item.is_some_and(&matches)),
            };
            let taken = found.min(left);
            left -= taken;
            if taken == self.node(spot).count() {
                // Where the walk goes on when this node is gone: what was behind it now stands in its place.
                let before = self.neighbour(spot, End::Front);
                let is_last = self.neighbour(spot, End::Back).is_none();
                let is_chunk_gone = self.chunks[spot.chunk].nodes.len() == 1;
                self.remove_node(spot);
                next = match end {
                    End::Back => before,
                    End::Front if is_last => None,
                    End::Front if is_chunk_gone || spot.node < self.chunks[spot.chunk].nodes.len() => Some(Spot {
                        chunk: spot.chunk,
                        node: if is_chunk_gone { 0 } else { spot.node },
                    }),
                    End::Front => Some(Spot {
                        chunk: spot.chunk + 1,
                        node: 0,
                    }),
                };
                continue;
            }
            if taken > 0 {
                // From the back, the first ones of the node are those that stay.
                let mut spared = if end == End::Back { found - taken } else { 0 };
                let mut quota = taken;
                self.edit(spot, |node| {
                    let listpack = node.listpack_mut().expect("a plain node has one element");
                    listpack.retain(|item| {
                        if quota == 0 || !matches(item) {
                            return true;
                        }
                        if spared > 0 {
                            spared -= 1;
                            return true;
                        }
                        quota -= 1;
                        false
                    });
                });
                self.compress_if_inner(spot, limits);
            }
            next = self.neighbour(spot, end.other());
        }
        self.settle(limits);
        count - left
    }

    /// Frees up to `count` nodes; whether none is left.
    pub(super) fn free_step(&mut self, count: usize) -> bool {
        if !self.pasts.free_step(count) {
            return false;
        }
        for _ in 0..count {
            let Some(spot) = self.end(End::Back) else { break };
            self.remove_node(spot);
        }
        self.is_empty()
    }

    /// Whether it is frozen for anything.
    #[inline]
    pub(super) fn has_past(&self) -> bool {
        self.pasts.is_any()
    }

    /// The only node, if it is a listpack.
    pub(super) fn single(&self) -> Option<&Node> {
        let spot = self.end(End::Front).filter(|_| self.node_count == 1)?;
        Some(self.node(spot)).filter(|node| !matches!(node, Node::Plain(_)))
    }

    /// Takes the listpack of the only node out.
    pub(super) fn take_single(&mut self) -> Option<Listpack> {
        let mut node = self.remove_node_with(self.end(End::Front)?);
        node.listpack_mut().map(std::mem::take)
    }

    /// The node with the element of this index (counted from an end), and the element's index in it, from the same end.
    fn locate(&self, end: End, index: usize) -> Option<(Spot, usize)> {
        if index >= self.len {
            return None;
        }
        if index > self.len / 2 {
            let (spot, within) = self.walk(end.other(), self.len - 1 - index)?;
            return Some((spot, self.node(spot).count() - 1 - within));
        }
        self.walk(end, index)
    }

    fn walk(&self, end: End, index: usize) -> Option<(Spot, usize)> {
        fn find(lens: impl Iterator<Item = usize>, index: &mut usize) -> Option<usize> {
            for (at, len) in lens.enumerate() {
                if *index < len {
                    return Some(at);
                }
                *index -= len;
            }
            None
        }
        let mut left = index;
        match end {
            End::Front => {
                let chunk = find(self.chunks.iter().map(|chunk| chunk.len), &mut left)?;
                let node = find(self.chunks[chunk].nodes.iter().map(Node::count), &mut left)?;
                Some((Spot { chunk, node }, left))
            }
            End::Back => {
                let chunk = find(self.chunks.iter().rev().map(|chunk| chunk.len), &mut left)?;
                let chunk = self.chunks.len() - 1 - chunk;
                let nodes = &self.chunks[chunk].nodes;
                let node = find(nodes.iter().rev().map(Node::count), &mut left)?;
                Some((
                    Spot {
                        chunk,
                        node: nodes.len() - 1 - node,
                    },
                    left,
                ))
            }
        }
    }

    #[inline]
    fn node(&self, spot: Spot) -> &Node {
        &self.chunks[spot.chunk].nodes[spot.node]
    }

    /// The node at an end.
    #[inline]
    fn end(&self, end: End) -> Option<Spot> {
        let chunk = match end {
            End::Front => 0,
            End::Back => self.chunks.len().checked_sub(1)?,
        };
        let nodes = &self.chunks.get(chunk)?.nodes;
        let node = match end {
            End::Front => 0,
            End::Back => nodes.len() - 1,
        };
        Some(Spot { chunk, node })
    }

    /// The next node towards an end.
    fn neighbour(&self, spot: Spot, towards: End) -> Option<Spot> {
        match towards {
            End::Back if spot.node + 1 < self.chunks[spot.chunk].nodes.len() => Some(Spot {
                node: spot.node + 1,
                ..spot
            }),
            End::Back => (spot.chunk + 1 < self.chunks.len()).then_some(Spot {
                chunk: spot.chunk + 1,
                node: 0,
            }),
            End::Front if spot.node > 0 => Some(Spot {
                node: spot.node - 1,
                ..spot
            }),
            End::Front => {
                let chunk = spot.chunk.checked_sub(1)?;
                Some(Spot {
                    chunk,
                    node: self.chunks[chunk].nodes.len() - 1,
                })
            }
        }
    }

    /// Changes a node and keeps the sums.
    #[inline]
    fn edit<R>(&mut self, spot: Spot, change: impl FnOnce(&mut Node) -> R) -> R {
        if self.pasts.is_any() {
            self.keep(spot, true);
        }
        self.alter(spot, change)
    }

    /// As `edit`, for what changes nothing that the node holds.
    #[inline]
    fn alter<R>(&mut self, spot: Spot, change: impl FnOnce(&mut Node) -> R) -> R {
        let chunk = &mut self.chunks[spot.chunk];
        let node = &mut chunk.nodes[spot.node];
        let (count, bytes) = (node.count(), node.allocated_bytes());
        let result = change(node);
        node.recount();
        chunk.len = chunk.len - count + node.count();
        self.len = self.len - count + node.count();
        self.node_bytes = self.node_bytes - bytes + node.allocated_bytes();
        result
    }

    /// Puts a node before the one at the spot. The spot may be one behind the last of a chunk.
    fn insert_node(&mut self, spot: Spot, node: Node) {
        let mut spot = spot;
        if self.chunks.is_empty() {
            self.chunks.reserve_exact(1);
            self.chunks.push_back(Chunk::default());
        }
        if self.chunks[spot.chunk].nodes.len() >= CHUNK_NODES_MAX {
            // At an end of the list full chunks are left full; elsewhere they are cut in two.
            if spot.chunk == 0 && spot.node == 0 {
                self.chunks.push_front(Chunk::default());
            } else if spot.chunk + 1 == self.chunks.len() && spot.node >= CHUNK_NODES_MAX {
                self.chunks.push_back(Chunk::default());
                spot = Spot {
                    chunk: spot.chunk + 1,
                    node: 0,
                };
            } else {
                let nodes = self.chunks[spot.chunk].nodes.split_off(CHUNK_NODES_MAX / 2);
                let len = nodes.iter().map(Node::count).sum();
                self.chunks[spot.chunk].len -= len;
                let half = Chunk { nodes, len };
                self.chunk_bytes += half.allocated_bytes();
                self.chunks.insert(spot.chunk + 1, half);
                if spot.node > CHUNK_NODES_MAX / 2 {
                    spot = Spot {
                        chunk: spot.chunk + 1,
                        node: spot.node - CHUNK_NODES_MAX / 2,
                    };
                }
            }
        }
        self.len += node.count();
        self.node_count += 1;
        self.node_bytes += node.allocated_bytes();
        let chunk = &mut self.chunks[spot.chunk];
        chunk.len += node.count();
        self.chunk_bytes -= chunk.allocated_bytes();
        chunk.nodes.insert(spot.node, node);
        self.chunk_bytes += chunk.allocated_bytes();
        if self.pasts.is_any() {
            let index = self.index_of(spot);
            self.pasts.iter_mut().for_each(|past| past.insert(index));
        }
    }

    fn remove_node(&mut self, spot: Spot) {
        if self.pasts.is_any() {
            self.remove_kept(spot);
        } else {
            drop(self.cut_out(spot));
        }
    }

    fn remove_node_with(&mut self, spot: Spot) -> Node {
        if self.pasts.is_any() {
            self.keep(spot, false);
        }
        self.cut_out(spot)
    }

    /// What the pasts need of a node that is about to go, or to change.
    #[cold]
    fn keep(&mut self, spot: Spot, stays: bool) {
        let index = self.index_of(spot);
        let node = &self.chunks[spot.chunk].nodes[spot.node];
        for past in self.pasts.iter_mut() {
            if !past.is_fresh(index) {
                past.keep(index, node.clone(), stays);
            } else if !stays {
                past.strike(index);
            }
        }
    }

    /// Removes a node that goes to one of the pasts, if any of them needs it.
    #[cold]
    fn remove_kept(&mut self, spot: Spot) {
        let index = self.index_of(spot);
        let node = self.cut_out(spot);
        let mut wanting = None;
        for past in self.pasts.iter_mut() {
            if past.is_fresh(index) {
                past.strike(index);
            } else if let Some(other) = wanting.replace(past) {
                other.keep(index, node.clone(), false);
            }
        }
        if let Some(past) = wanting {
            past.keep(index, node, false);
        }
    }

    /// Which of the nodes it is.
    fn index_of(&self, spot: Spot) -> usize {
        let nodes_of = |chunk: &Chunk| chunk.nodes.len();
        if spot.chunk < self.chunks.len() / 2 {
            self.chunks.range(..spot.chunk).map(nodes_of).sum::<usize>() + spot.node
        } else {
            self.node_count - self.chunks.range(spot.chunk..).map(nodes_of).sum::<usize>() + spot.node
        }
    }

    /// The spot of the node with this index among the nodes; for one behind the last, a spot behind the last.
    fn spot_of(&self, index: usize) -> Spot {
        let mut node = index;
        for (chunk, nodes) in self.chunks.iter().map(|chunk| &chunk.nodes).enumerate() {
            if node < nodes.len() || chunk + 1 == self.chunks.len() {
                return Spot { chunk, node };
            }
            node -= nodes.len();
        }
        Spot { chunk: 0, node: 0 }
    }

    /// Takes a node out, whatever the pasts say.
    fn cut_out(&mut self, spot: Spot) -> Node {
        let chunk = &mut self.chunks[spot.chunk];
        let node = chunk.nodes.remove(spot.node).expect("a spot is where a node is");
        chunk.len -= node.count();
        if chunk.nodes.is_empty() {
            self.chunk_bytes -= chunk.allocated_bytes();
            self.chunks.remove(spot.chunk);
            if self.chunks.len() * 4 < self.chunks.capacity() {
                self.chunks.shrink_to(self.chunks.len() * 2);
            }
        }
        self.len -= node.count();
        self.node_count -= 1;
        self.node_bytes -= node.allocated_bytes();
        node
    }

    /// Brings the nodes at the ends in order after nodes came or went there: those within the compress depth are not
    /// compressed, the next ones are.
    fn settle(&mut self, limits: &Limits) {
        let depth = limits.list_compress_depth;
        if depth == 0 {
            return;
        }
        for end in [End::Front, End::Back] {
            let mut next = self.end(end);
            for _ in 0..depth {
                let Some(spot) = next else { return };
                if matches!(self.node(spot), Node::Compressed { .. }) {
                    self.alter(spot, Node::decompress);
                }
                next = self.neighbour(spot, end.other());
            }
            if let Some(spot) = next {
                self.compress_if_inner(spot, limits);
            }
        }
    }

    /// Compresses a node if the compress depth says so.
    fn compress_if_inner(&mut self, spot: Spot, limits: &Limits) {
        let depth = limits.list_compress_depth;
        if depth == 0 || self.node_count <= depth.saturating_mul(2) {
            return;
        }
        let is_inner = [End::Front, End::Back].into_iter().all(|end| {
            let mut at = Some(spot);
            for _ in 0..depth {
                at = at.and_then(|spot| self.neighbour(spot, end));
            }
            at.is_some()
        });
        if is_inner && matches!(self.node(spot), Node::Packed { .. }) {
            self.alter(spot, Node::compress);
        }
    }
}

impl Freezable for NodeList {
    fn freezes(&self) -> bool {
        self.node_count > PARTS_COPIED_MAX || self.node_bytes > BYTES_COPIED_MAX
    }

    fn freeze(&mut self, to: Use) {
        self.pasts.begin(to, PastNodes::new(self.node_count));
    }

    fn is_frozen(&self, to: Use) -> bool {
        self.pasts.get(to).is_some()
    }

    fn kept_bytes(&self) -> usize {
        self.pasts.iter().map(PastNodes::kept_bytes).sum()
    }

    fn thaw(&mut self, to: Use) -> Spent {
        self.pasts.end(to).map(Spent::of).unwrap_or_default()
    }

    fn roll_back(&mut self, _seed: HashSeed) {
        let past = self.pasts.end(Use::Undo).expect(NOT_FROZEN);
        let mut index = 0;
        for piece in past.into_pieces() {
            for _ in 0..piece.fresh {
                self.remove_node(self.spot_of(index));
            }
            for node in piece.gone {
                self.insert_node(self.spot_of(index), node);
                index += 1;
            }
            index += piece.same;
        }
    }

    fn read_slice(&mut self, to: Use, _seed: HashSeed, effort: usize, sink: &mut impl Sink) -> bool {
        // It is taken out, so that the nodes can be looked at; nothing changes them meanwhile.
        let mut pasts = std::mem::take(&mut self.pasts);
        let past = pasts.get_mut(to).expect(NOT_FROZEN);
        if let Some(node_count) = past.begin_read() {
            sink.begin(Head::List { node_count });
        }
        let mut left = effort;
        let mut last: Option<(usize, Spot)> = None;
        let is_done = loop {
            if left == 0 {
                break false;
            }
            let Some(next) = past.next() else { break true };
            let gone;
            let node = match next {
                Next::Gone(node) => {
                    gone = node;
                    &gone
                }
                Next::Living(index) => {
                    let neighbour = last.filter(|(before, _)| before + 1 == index);
                    let spot = neighbour.and_then(|(_, spot)| self.neighbour(spot, End::Back));
                    let spot = spot.unwrap_or_else(|| self.spot_of(index));
                    last = Some((index, spot));
                    self.node(spot)
                }
            };
            sink.part(Part::Node(&node.view()));
            left = left.saturating_sub(1 + node.bytes() / PART_BYTES);
        };
        self.pasts = pasts;
        is_done
    }
}

impl NodeList {
    /// Checks the invariants.
    pub(super) fn check(&self, compress_depth: usize) {
        self.pasts.iter().for_each(|past| past.check(self.node_count));
        let nodes = || self.chunks.iter().flat_map(|chunk| chunk.nodes.iter());
        for chunk in &self.chunks {
            assert!(!chunk.nodes.is_empty() && chunk.nodes.len() <= CHUNK_NODES_MAX);
            assert_eq!(chunk.len, chunk.nodes.iter().map(Node::count).sum::<usize>());
        }
        assert!(nodes().all(|node| node.count() > 0));
        assert_eq!(self.len, nodes().map(Node::count).sum::<usize>());
        assert_eq!(self.node_count, nodes().count());
        assert_eq!(self.node_bytes, nodes().map(Node::allocated_bytes).sum::<usize>());
        assert_eq!(
            self.chunk_bytes,
            self.chunks.iter().map(Chunk::allocated_bytes).sum::<usize>()
        );
        for node in nodes()
            .take(compress_depth)
            .chain(nodes().skip(self.node_count.saturating_sub(compress_depth)))
        {
            assert!(compress_depth == 0 || !matches!(node, Node::Compressed { .. }));
        }
        for node in nodes() {
            if let Node::Packed { count, listpack } = node {
                assert_eq!(*count as usize, listpack.len());
            }
        }
    }

    /// Nodes that are compressed.
    #[cfg(test)]
    pub(super) fn compressed_count(&self) -> usize {
        let nodes = self.chunks.iter().flat_map(|chunk| chunk.nodes.iter());
        nodes.filter(|node| matches!(node, Node::Compressed { .. })).count()
    }
}
