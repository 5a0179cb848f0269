//! Lists: one listpack while that is small, else a sequence of them (`nodes`), as in Redis.
//!
//! `list-max-listpack-size` and `list-compress-depth` come in with every change; what is there already stays as it is
//! until it is changed. When a list changes its form is visible to clients (OBJECT ENCODING), so it follows Redis 7.2:
//!
//! * A listpack becomes a quicklist when its bytes together with the bare bytes of all elements that one command adds
//!   exceed what a node holds, or its elements do; this is decided once for the command, before it adds anything.
//! * A quicklist becomes a listpack when a removal leaves one node that is at most half full, or one that is not overfull when
//!   the list is loaded.
//!
//! Elements are handed to a closure instead of being returned: a node may be compressed, and what it decompresses to lives
//! only as long as it is looked at. It is also the fastest way to write a reply: a loop over the bytes of one listpack.

mod node;
mod nodes;
mod past;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::{ControlFlow, Range};

pub use node::NodeView;
pub use nodes::NodeList;

use super::listpack::{Item, Listpack};
use super::{Encoding, Limits};
use node::{Node, NodeLimit};

/// A list: one word that owns it.
#[derive(Clone)]
pub enum List {
    /// All elements in one listpack.
    Packed(Listpack),
    /// Several nodes.
    Nodes(Box<NodeList>),
}

/// A list to read from.
#[derive(Clone, Copy)]
pub enum ListRef<'a> {
    /// All elements in one listpack.
    Packed(&'a Listpack),
    /// Several nodes.
    Nodes(&'a NodeList),
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where LPUSH adds; Redis's left, its head.
    Front,
    /// Where RPUSH adds; Redis's right, its tail.
    Back,
}

impl End {
    /// The other one.
    pub fn other(self) -> End {
        match self {
            End::Front => End::Back,
            End::Back => End::Front,
        }
    }
}

/// A node as an RDB file has it.
#[derive(Debug)]
pub enum NewNode<'a> {
    /// Some elements, or none.
    Packed(Listpack),
    /// One element.
    Plain(&'a [u8]),
}

impl List {
    /// An empty one.
    pub fn new() -> List {
        List::Packed(Listpack::new())
    }

    /// A list of these nodes, as they come from an RDB file. Nodes without elements are left out.
    pub fn from_nodes<'a>(nodes: impl IntoIterator<Item = NewNode<'a>>, limits: &Limits) -> List {
        let mut list = NodeList::default();
        for node in nodes {
            match node {
                NewNode::Packed(listpack) if listpack.is_empty() => {}
                NewNode::Packed(listpack) => list.push_node(End::Back, Node::packed(listpack), limits),
                NewNode::Plain(element) => list.push_node(End::Back, Node::plain(element), limits),
            }
        }
        if list.is_empty() {
            return List::new();
        }
        let mut list = List::Nodes(Box::new(list));
        list.pack(limits, false);
        list
    }

    /// To read from.
    #[inline]
    pub fn as_ref(&self) -> ListRef<'_> {
        match self {
            List::Packed(listpack) => ListRef::Packed(listpack),
            List::Nodes(nodes) => ListRef::Nodes(nodes),
        }
    }

    /// Elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.as_ref().is_empty()
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> Encoding {
        self.as_ref().encoding()
    }

    /// Bytes that the allocator gave.
    pub fn allocated_bytes(&self) -> usize {
        self.as_ref().allocated_bytes()
    }

    /// Frees up to so many nodes of a long list, or a short one as a whole; whether nothing is left.
    pub fn free_step(&mut self, nodes_max: usize) -> bool {
        match self {
            List::Packed(_) => {
                *self = List::new();
                true
            }
            List::Nodes(nodes) => nodes.free_step(nodes_max),
        }
    }

    /// Adds an element at an end.
    #[inline]
    pub fn push(&mut self, end: End, text: &[u8], limits: &Limits) {
        self.make_room(text.len(), 1, limits);
        self.push_prepared(end, text, limits);
    }

    /// Adds elements at an end, one after the other: at the front, the last one becomes the first. For all that one
    /// command adds, as they decide together whether the list stays a listpack.
    pub fn push_all<'t>(&mut self, end: End, texts: impl Iterator<Item = &'t [u8]> + Clone, limits: &Limits) {
        let (bytes, count) = texts
            .clone()
            .fold((0, 0), |(bytes, count), text| (bytes + text.len(), count + 1));
        self.make_room(bytes, count, limits);
        for text in texts {
            self.push_prepared(end, text, limits);
        }
    }

    fn push_prepared(&mut self, end: End, text: &[u8], limits: &Limits) {
        match (self, end) {
            (List::Packed(listpack), End::Front) => listpack.push_front(text),
            (List::Packed(listpack), End::Back) => listpack.push_back(text),
            (List::Nodes(nodes), end) => nodes.push(end, text, limits),
        }
    }

    /// Removes the element at an end and hands it to `visit`. Nothing if the list is empty.
    pub fn pop<R>(&mut self, end: End, limits: &Limits, visit: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let mut visit = Some(visit);
        let mut result = None;
        self.pop_many(end, 1, limits, |item| result = visit.take().map(|visit| visit(item)));
        result
    }

    /// Removes up to `count` elements from an end and hands each to `visit`, the outermost first.
    pub fn pop_many(&mut self, end: End, count: usize, limits: &Limits, mut visit: impl FnMut(Item<'_>)) {
        match self {
            List::Packed(listpack) => {
                match end {
                    End::Front => listpack.iter().take(count).for_each(&mut visit),
                    End::Back => listpack.iter_rev().take(count).for_each(&mut visit),
                }
                drop_packed(listpack, end, count);
            }
            List::Nodes(nodes) => nodes.pop(end, count, visit, limits),
        }
        self.pack(limits, true);
    }

    /// Puts an element before the first one with the text `pivot`; whether there is one.
    pub fn insert_before(&mut self, pivot: &[u8], text: &[u8], limits: &Limits) -> bool {
        self.insert_beside(pivot, 0, text, limits)
    }

    /// Puts an element behind the first one with the text `pivot`; whether there is one.
    pub fn insert_after(&mut self, pivot: &[u8], text: &[u8], limits: &Limits) -> bool {
        self.insert_beside(pivot, 1, text, limits)
    }

    fn insert_beside(&mut self, pivot: &[u8], distance: usize, text: &[u8], limits: &Limits) -> bool {
        // As in Redis, before it is known whether the pivot is there.
        self.make_room(text.len(), 1, limits);
        let mut found = None;
        self.as_ref()
            .positions(pivot, 1, 1, 0, |index| found = Some(index + distance));
        let Some(index) = found else { return false };
        match self {
            List::Packed(listpack) => match listpack.seek(index as i64) {
                Some(place) => {
                    listpack.insert_before(place, text);
                }
                None => listpack.push_back(text),
            },
            List::Nodes(nodes) => nodes.insert(index, text, limits),
        }
        true
    }

    /// Puts an element in place of the one with this index, negative ones counted from the end; whether there is one.
    pub fn set(&mut self, index: i64, text: &[u8], limits: &Limits) -> bool {
        // As in Redis, before it is known whether there is such an index.
        self.make_room(text.len(), 1, limits);
        let Some(index) = self.as_ref().absolute(index) else {
            return false;
        };
        match self {
            List::Packed(listpack) => {
                let place = listpack.seek(index as i64).expect("the index is within the list");
                listpack.replace(place, text);
            }
            List::Nodes(nodes) => nodes.set(index, text, limits),
        }
        self.pack(limits, true);
        true
    }

    /// Removes elements with this text: the first `count`, the last `-count` if it is negative, all if it is 0. Answers how
    /// many.
    pub fn remove(&mut self, count: i64, text: &[u8], limits: &Limits) -> usize {
        let end = if count < 0 { End::Back } else { End::Front };
        let count = match count {
            0 => usize::MAX,
            count => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
        };
        let needle = Needle::of(text);
        let removed = match self {
            List::Packed(listpack) => remove_packed(listpack, end, count, needle),
            List::Nodes(nodes) => nodes.remove(end, count, |item| needle.is(item), limits),
        };
        if removed > 0 {
            self.pack(limits, true);
        }
        removed
    }

    /// Removes all elements but those with these indices.
    pub fn keep(&mut self, range: Range<usize>, limits: &Limits) {
        let len = self.len();
        let start = range.start.min(len);
        let end = range.end.clamp(start, len);
        for (side, count) in [(End::Back, len - end), (End::Front, start)] {
            match self {
                List::Packed(listpack) => drop_packed(listpack, side, count),
                List::Nodes(nodes) => nodes.drop_elements(side, count, limits),
            }
        }
        self.pack(limits, true);
    }

    /// Asserts all invariants of a list of nodes, of which as many at either end must not be compressed.
    pub fn check(&self, compress_depth: usize) {
        if let List::Nodes(nodes) = self {
            nodes.check(compress_depth);
        }
    }

    /// Gives up the one listpack if it would be too large for a node with so many bytes and elements more.
    #[inline]
    fn make_room(&mut self, added_bytes: usize, added_count: usize, limits: &Limits) {
        let List::Packed(listpack) = self else { return };
        if NodeLimit::of(limits).holds(listpack.bytes() + added_bytes, listpack.len() + added_count) {
            return;
        }
        let listpack = std::mem::take(listpack);
        let mut nodes = NodeList::default();
        if !listpack.is_empty() {
            nodes.push_node(End::Back, Node::packed(listpack), limits);
        }
        *self = List::Nodes(Box::new(nodes));
    }

    /// Goes back to one listpack if there is one small node left.
    #[inline]
    fn pack(&mut self, limits: &Limits, is_shrinking: bool) {
        let List::Nodes(nodes) = self else { return };
        // A frozen one stays, as its past hangs on it.
        if nodes.has_past() {
            return;
        }
        let is_small = nodes
            .single()
            .is_some_and(|node| NodeLimit::of(limits).holds_again(node.bytes(), node.count(), is_shrinking));
        if is_small && let Some(listpack) = nodes.take_single() {
            *self = List::Packed(listpack);
        }
    }
}

impl Default for List {
    fn default() -> List {
        List::new()
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl<'a> ListRef<'a> {
    /// Elements.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            ListRef::Packed(listpack) => listpack.len(),
            ListRef::Nodes(nodes) => nodes.len(),
        }
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(self) -> bool {
        match self {
            ListRef::Packed(listpack) => listpack.is_empty(),
            ListRef::Nodes(nodes) => nodes.is_empty(),
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(self) -> Encoding {
        match self {
            ListRef::Packed(_) => Encoding::Listpack,
            ListRef::Nodes(_) => Encoding::Quicklist,
        }
    }

    /// Bytes that the allocator gave.
    pub fn allocated_bytes(self) -> usize {
        match self {
            ListRef::Packed(listpack) => listpack.allocated_bytes(),
            ListRef::Nodes(nodes) => nodes.allocated_bytes(),
        }
    }

    /// What `visit` makes of the element with this index, negative ones counted from the end.
    pub fn get<R>(self, index: i64, visit: impl FnOnce(Item<'_>) -> R) -> Option<R> {
        let index = self.absolute(index)?;
        let mut visit = Some(visit);
        let mut result = None;
        self.range(index..index + 1, |item| result = visit.take().map(|visit| visit(item)));
        result
    }

    /// Hands the elements with these indices to `visit`, in order.
    #[inline]
    pub fn range(self, range: Range<usize>, visit: impl FnMut(Item<'_>)) {
        self.some(End::Front, range.start, range.len(), visit);
    }

    /// Hands the elements with these indices to `visit`, the last one first.
    #[inline]
    pub fn range_rev(self, range: Range<usize>, visit: impl FnMut(Item<'_>)) {
        let len = self.len();
        let end = range.end.min(len);
        self.some(End::Back, len - end, end.saturating_sub(range.start), visit);
    }

    /// Hands all elements to `visit`, in order.
    pub fn for_each(self, visit: impl FnMut(Item<'_>)) {
        self.some(End::Front, 0, usize::MAX, visit);
    }

    /// Hands the indices of elements with this text to `visit`, in the order in which they are found. As LPOS: the
    /// `rank`-th one first, from the end with a negative rank (0 counts as 1); up to `count` of them, all with 0; looking at
    /// up to `maxlen` elements, all with 0.
    pub fn positions(self, text: &[u8], rank: i64, count: usize, maxlen: usize, mut visit: impl FnMut(usize)) {
        let needle = Needle::of(text);
        let end = if rank < 0 { End::Back } else { End::Front };
        let mut passed = rank.unsigned_abs().saturating_sub(1);
        let mut left = if count == 0 { usize::MAX } else { count };
        let maxlen = if maxlen == 0 { usize::MAX } else { maxlen };
        let len = self.len();
        let mut seen = 0;
        let _ = self.visit(end, 0, |item| {
            if seen == maxlen {
                return ControlFlow::Break(());
            }
            seen += 1;
            if !needle.is(item) {
                return ControlFlow::Continue(());
            }
            if passed > 0 {
                passed -= 1;
                return ControlFlow::Continue(());
            }
            visit(if end == End::Front { seen - 1 } else { len - seen });
            left -= 1;
            if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
    }

    /// The nodes in order: what an RDB file has of a list.
    pub fn nodes(self) -> impl Iterator<Item = NodeView<'a>> {
        let (packed, nodes) = match self {
            ListRef::Packed(listpack) => (Some(NodeView::Packed(listpack)), None),
            ListRef::Nodes(nodes) => (None, Some(nodes.nodes())),
        };
        packed.into_iter().chain(nodes.into_iter().flatten())
    }

    /// How many that is.
    pub fn node_count(self) -> usize {
        match self {
            ListRef::Packed(_) => 1,
            ListRef::Nodes(nodes) => nodes.node_count(),
        }
    }

    /// Hands up to `count` elements to `visit`, from the one with this index (counted from `end`) on.
    #[inline]
    fn some(self, end: End, index: usize, count: usize, mut visit: impl FnMut(Item<'_>)) {
        if count == 0 {
            return;
        }
        let mut left = count;
        let _ = self.visit(end, index, |item| {
            visit(item);
            left -= 1;
            if left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
    }

    #[inline]
    fn visit(self, end: End, index: usize, mut visit: impl FnMut(Item<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let listpack = match self {
            ListRef::Packed(listpack) => listpack,
            ListRef::Nodes(nodes) => return nodes.visit(end, index, visit),
        };
        let Ok(index) = i64::try_from(index) else {
            return ControlFlow::Continue(());
        };
        let place = listpack.seek(if end == End::Front { index } else { -1 - index });
        let Some(place) = place else {
            return ControlFlow::Continue(());
        };
        match end {
            End::Front => listpack.iter_from(place).try_for_each(&mut visit),
            End::Back => listpack.iter_to(place).rev().try_for_each(&mut visit),
        }
    }

    /// The index counted from the front, if there is such an element.
    fn absolute(self, index: i64) -> Option<usize> {
        let len = self.len();
        let magnitude = usize::try_from(index.unsigned_abs()).ok()?;
        let index = if index < 0 {
            len.checked_sub(magnitude)?
        } else {
            magnitude
        };
        (index < len).then_some(index)
    }
}

impl fmt::Debug for ListRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        self.for_each(|item| {
            list.entry(&item);
        });
        list.finish()
    }
}

/// A text to look for, with the integer that it is.
#[derive(Clone, Copy)]
struct Needle<'t> {
    text: &'t [u8],
    integer: Option<i64>,
}

impl<'t> Needle<'t> {
    fn of(text: &'t [u8]) -> Needle<'t> {
        Needle {
            text,
            integer: Item::of(text).to_i64(),
        }
    }

    #[inline]
    fn is(self, item: Item<'_>) -> bool {
        match item {
            Item::Int(integer) => self.integer == Some(integer),
            Item::Bytes(text) => self.text == text,
        }
    }
}

/// Removes up to `count` elements from an end.
fn drop_packed(listpack: &mut Listpack, end: End, count: usize) {
    let count = count.min(listpack.len());
    if count == 0 {
        return;
    }
    let start = match end {
        End::Front => listpack.first(),
        End::Back => listpack.seek(-(count as i64)),
    };
    if let Some(start) = start {
        listpack.delete_range(start, count);
    }
}

/// Removes up to `count` elements with this text, beginning at an end.
fn remove_packed(listpack: &mut Listpack, end: End, count: usize, needle: Needle<'_>) -> usize {
    let mut spared = match end {
        End::Front => 0,
        // From the back, the first ones are those that stay.
        End::Back => listpack
            .iter()
            .filter(|item| needle.is(*item))
            .count()
            .saturating_sub(count),
    };
    let mut left = count;
    listpack.retain(|item| {
        if left == 0 || !needle.is(item) {
            return true;
        }
        if spared > 0 {
            spared -= 1;
            return true;
        }
        left -= 1;
        false
    })
}
