//! One node of a long list, and what fits into it.

use crate::base::lzf;
use crate::base::size_class::allocated;
use crate::data::Limits;
use crate::data::listpack::{Item, Listpack};

/// Bytes of a node for -1 to -5.
const NODE_BYTES: [usize; 5] = [4096, 8192, 16_384, 32_768, 65_536];
/// Where the limit counts elements, a node of several elements still stays within so many bytes.
const COUNTED_NODE_BYTES_MAX: usize = 8192;
/// What Redis reckons for the head and the backward length of an element, whatever they really take.
const ENTRY_OVERHEAD_BYTES: usize = 8;
/// A node of fewer bytes is not compressed.
const COMPRESSED_BYTES_MIN: usize = 48;
/// Compression must save so much.
const COMPRESSED_SAVING_MIN: usize = 8;

/// `list-max-listpack-size`: how much fits into a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeLimit {
    bytes: usize,
    count: usize,
}

impl NodeLimit {
    pub(super) fn of(limits: &Limits) -> NodeLimit {
        match limits.list_max_listpack_size {
            size @ ..0 => {
                let index = (size.unsigned_abs() - 1).min(NODE_BYTES.len() as u64 - 1);
                NodeLimit {
                    bytes: NODE_BYTES[index as usize],
                    count: usize::MAX,
                }
            }
            count => NodeLimit {
                bytes: usize::MAX,
                count: usize::try_from(count).unwrap_or(usize::MAX).max(1),
            },
        }
    }

    /// Whether so many bytes and elements fit into one node.
    pub(super) fn holds(self, bytes: usize, count: usize) -> bool {
        let bytes_max = if self.bytes == usize::MAX {
            COUNTED_NODE_BYTES_MAX
        } else {
            self.bytes
        };
        bytes <= bytes_max && count <= self.count
    }

    /// Whether a node is small enough for the whole list to become one listpack again: half of what a node holds, so that a
    /// list at the limit does not go back and forth; or all of it, when a list is loaded.
    pub(super) fn holds_again(self, bytes: usize, count: usize, is_shrinking: bool) -> bool {
        let part = if is_shrinking { 2 } else { 1 };
        bytes <= self.bytes / part && count <= self.count / part
    }
}

/// Some elements that stand next to each other.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A listpack, never an empty one.
    Packed {
        /// As in the listpack, here so that looking for an index does not touch it.
        count: u32,
        listpack: Listpack,
    },
    /// A listpack in LZF.
    Compressed { count: u32, lzf: Box<Lzf> },
    /// One element that is too large to be packed.
    Plain(Box<Box<[u8]>>),
}

/// A compressed listpack.
#[derive(Clone, Debug)]
pub(super) struct Lzf {
    compressed: Box<[u8]>,
    /// Bytes of the listpack.
    text_bytes: usize,
}

/// A node to read from: its elements are in a listpack, which may have had to be decompressed, or it is one large element.
#[derive(Clone, Debug)]
pub enum NodeView<'a> {
    /// A listpack.
    Packed(&'a Listpack),
    /// A listpack that is kept compressed.
    Decompressed(Listpack),
    /// One element.
    Plain(&'a [u8]),
}

impl NodeView<'_> {
    /// The listpack, or the element as it is: what an RDB file has for a node.
    pub fn bytes(&self) -> &[u8] {
        match self {
            NodeView::Packed(listpack) => listpack.as_bytes(),
            NodeView::Decompressed(listpack) => listpack.as_bytes(),
            NodeView::Plain(element) => element,
        }
    }

    /// Whether it is one element that is not packed.
    pub fn is_plain(&self) -> bool {
        matches!(self, NodeView::Plain(_))
    }

    /// The elements from index `skip` on.
    pub(super) fn elements(&self, skip: usize) -> Elements<'_> {
        let listpack = match self {
            NodeView::Packed(listpack) => listpack,
            NodeView::Decompressed(listpack) => listpack,
            NodeView::Plain(element) => return Elements::Plain((skip == 0).then_some(Item::Bytes(element))),
        };
        match i64::try_from(skip).ok().and_then(|skip| listpack.seek(skip)) {
            Some(place) => Elements::Packed(listpack.iter_from(place)),
            None => Elements::Plain(None),
        }
    }

    /// The elements up to the one that has `skip` behind it: to be read from the end.
    pub(super) fn elements_back(&self, skip: usize) -> Elements<'_> {
        let listpack = match self {
            NodeView::Packed(listpack) => listpack,
            NodeView::Decompressed(listpack) => listpack,
            NodeView::Plain(_) => return self.elements(skip),
        };
        match i64::try_from(skip).ok().and_then(|skip| listpack.seek(-1 - skip)) {
            Some(place) => Elements::Packed(listpack.iter_to(place)),
            None => Elements::Plain(None),
        }
    }
}

/// Elements of one node.
pub(super) enum Elements<'a> {
    Packed(crate::data::listpack::Iter<'a>),
    Plain(Option<Item<'a>>),
}

impl Node {
    /// A node of one element.
    pub(super) fn of(text: &[u8], limits: &Limits) -> Node {
        if text.len() >= limits.list_packed_threshold {
            return Node::plain(text);
        }
        let mut listpack = Listpack::new();
        listpack.push_back(text);
        Node::Packed { count: 1, listpack }
    }

    pub(super) fn plain(text: &[u8]) -> Node {
        Node::Plain(Box::new(text.into()))
    }

    pub(super) fn packed(listpack: Listpack) -> Node {
        Node::Packed {
            count: listpack.len() as u32,
            listpack,
        }
    }

    #[inline]
    pub(super) fn count(&self) -> usize {
        match self {
            Node::Packed { count, .. } | Node::Compressed { count, .. } => *count as usize,
            Node::Plain(_) => 1,
        }
    }

    /// Bytes of the listpack or element, not compressed.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Node::Packed { listpack, .. } => listpack.bytes(),
            Node::Compressed { lzf, .. } => lzf.text_bytes,
            Node::Plain(element) => element.len(),
        }
    }

    /// Bytes that the allocator gave for what hangs on it.
    #[inline]
    pub(super) fn allocated_bytes(&self) -> usize {
        match self {
            Node::Packed { listpack, .. } => listpack.allocated_bytes(),
            Node::Compressed { lzf, .. } => allocated(size_of::<Lzf>()) + allocated(lzf.compressed.len()),
            Node::Plain(element) => allocated(size_of::<Box<[u8]>>()) + allocated(element.len()),
        }
    }

    /// Whether the element may be put into this node.
    #[inline]
    pub(super) fn takes(&self, text: &[u8], limits: &Limits) -> bool {
        !matches!(self, Node::Plain(_))
            && text.len() < limits.list_packed_threshold
            && NodeLimit::of(limits).holds(self.bytes() + text.len() + ENTRY_OVERHEAD_BYTES, self.count() + 1)
    }

    /// Whether all elements of the other node may be put into this one.
    pub(super) fn takes_all(&self, other: &Node, limits: &Limits) -> bool {
        !matches!(self, Node::Plain(_))
            && !matches!(other, Node::Plain(_))
            && NodeLimit::of(limits).holds(self.bytes() + other.bytes(), self.count() + other.count())
    }

    #[inline]
    pub(super) fn view(&self) -> NodeView<'_> {
        match self {
            Node::Packed { listpack, .. } => NodeView::Packed(listpack),
            Node::Compressed { lzf, .. } => NodeView::Decompressed(lzf.listpack()),
            Node::Plain(element) => NodeView::Plain(element),
        }
    }

    /// The listpack to change, decompressed for good; nothing for a plain node. Whoever changes it calls `recount`.
    #[inline]
    pub(super) fn listpack_mut(&mut self) -> Option<&mut Listpack> {
        self.decompress();
        match self {
            Node::Packed { listpack, .. } => Some(listpack),
            _ => None,
        }
    }

    /// Takes over the count of the listpack.
    #[inline]
    pub(super) fn recount(&mut self) {
        if let Node::Packed { count, listpack } = self {
            *count = listpack.len() as u32;
        }
    }

    pub(super) fn decompress(&mut self) {
        if let Node::Compressed { count, lzf } = self {
            *self = Node::Packed {
                count: *count,
                listpack: lzf.listpack(),
            };
        }
    }

    /// Compresses a listpack if that is worth it.
    pub(super) fn compress(&mut self) {
        let Node::Packed { count, listpack } = self else { return };
        let text = listpack.as_bytes();
        if text.len() < COMPRESSED_BYTES_MIN {
            return;
        }
        let Some(compressed) = lzf::compress(text) else { return };
        if compressed.len() + COMPRESSED_SAVING_MIN < text.len() {
            let lzf = Box::new(Lzf {
                text_bytes: text.len(),
                compressed: compressed.into_boxed_slice(),
            });
            *self = Node::Compressed { count: *count, lzf };
        }
    }
}

impl Lzf {
    fn listpack(&self) -> Listpack {
        let bytes = lzf::decompress(&self.compressed, self.text_bytes).expect("we compressed it ourselves");
        Listpack::of_sound_bytes(&bytes)
    }
}
