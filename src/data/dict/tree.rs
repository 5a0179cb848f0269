//! The tree of pages, addressed by the bits of the hash from the top.
//!
//! A small table is one page. When the page is full it is split by the next bit of the hash, and a *node* appears above
//! the halves: a directory, indexed by as many bits as its deepest page needs, that doubles when a page must be split
//! which has used them all (extendible hashing; Fagin, Nievergelt, Pippenger, Strong 1979). A directory stops at 8 bits.
//! A page that is full at that depth gets a node of its own, one *level* down, for the next 8 bits.
//!
//! ```text
//!   level 0 page              level 0 node, 2 bits               level 0 node, 8 bits
//!   +-------------+           00 01 10 11                        ......... 256 .........
//!   | all entries |   ->      |  |   \ /                   ->    |    |     |         |
//!   +-------------+         page page page                     page page  node      page
//!                        depth 2  2    1                                (level 1, bits 8..)
//! ```
//!
//! Why not one open-addressing table: it must be copied as a whole to grow, its load factor leaves a third
//! of its places empty on average, and SCAN has to be taught what a resize does to its cursor. Here every step is bounded
//! by the size of a page (141 entries) and of a node (256 branches), whatever the size of the table; places are filled to
//! the end; and the order of the entries *by hash* never changes, only the page borders between them do.
//!
//! Invariants:
//! 1. A branch of depth `d` in a node holds exactly the entries of the table whose bits above agree with the path to the
//!    node and whose next `d` bits agree with the directory places that name it: `2^(bits - d)` places, side by side.
//! 2. A node below a node hangs in a branch of depth 8.
//! 3. At least one branch of a node has depth `bits`, unless `bits` is 0, which only lasts within one operation.
//! 4. `bytes` is the sum of `allocated_bytes` of all entries, pages and nodes; `len` counts the entries.

use super::page::{PAGE_ENTRIES_MAX, Page, prefetch};
use super::{Element, ElementRef};
use crate::base::hash::HashSeed;
use crate::base::size_class::allocated;

/// Bits that one node may use; at most 256 branches, so that a directory entry is one byte.
const NODE_BITS_MAX: u32 = 8;

/// A page below the deepest level is not split again but grows: 40 bits of equal hash do not happen.
const LEVEL_MAX: u32 = 4;

/// Neighbours come together when they fill half a page: a page that was just split does not.
const MERGE_ENTRIES_MAX: usize = PAGE_ENTRIES_MAX / 2;

/// A hash table; see the essay above.
#[derive(Clone)]
pub struct Dict<E: Element> {
    pub(super) root: Child<E>,
    bytes: usize,
    len: usize,
}

/// What a directory points to.
#[derive(Clone)]
pub(super) enum Child<E: Element> {
    Page(Page<E>),
    Node(Box<Node<E>>),
}

pub(super) struct Node<E: Element> {
    bits: u32,
    /// Which branch each of the `2^bits` values of the bits belongs to.
    directory: Vec<u8>,
    branches: Vec<Branch<E>>,
}

#[derive(Clone)]
struct Branch<E: Element> {
    depth: u32,
    child: Child<E>,
}

impl<E: Element + Clone> Clone for Node<E> {
    /// With the same capacities, so that it takes the same memory.
    fn clone(&self) -> Node<E> {
        let mut directory = Vec::with_capacity(self.directory.capacity());
        directory.extend_from_slice(&self.directory);
        let mut branches = Vec::with_capacity(self.branches.capacity());
        branches.extend_from_slice(&self.branches);
        Node {
            bits: self.bits,
            directory,
            branches,
        }
    }
}

/// A page and the part of the hashes that belongs to it.
pub struct PageView<'t, E: Element> {
    pub(super) page: &'t Page<E>,
    pub(super) level: u32,
    /// How many bits of the hash have led here.
    pub(super) bits: u32,
    /// The lowest hash that belongs here.
    pub first_hash: u64,
    /// The lowest hash that belongs to the page after it; None for the last page.
    pub next_hash: Option<u64>,
}

impl<'t, E: Element> PageView<'t, E> {
    /// How many elements the page has.
    pub fn len(&self) -> usize {
        self.page.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.page.len() == 0
    }

    /// Its elements, in no order.
    pub fn elements(&self) -> impl Iterator<Item = E::Ref<'t>> + use<'t, E> {
        self.page.entries()
    }

    /// The same with their addresses, by which a past tells them apart: to be compared, never followed.
    pub fn addressed(&self) -> impl Iterator<Item = (u64, E::Ref<'t>)> + use<'t, E> {
        self.page.addressed()
    }

    /// Those of its elements whose words have the flag, found without looking at the others.
    pub fn flagged(&self) -> impl Iterator<Item = E::Ref<'t>> + use<'t, E> {
        self.page.flagged()
    }
}

/// What [`Dict::foresee`] asks for: each stage reads what the one before has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foresight {
    /// The node of the second level, where there is one: in a dict of more than some ten thousand elements.
    Node,
    /// Its directory.
    Directory,
    /// The tags of the page.
    Tags,
    /// The words behind those tags that are equal.
    Words,
    /// The elements behind those words.
    Elements,
}

/// Where an element is, until the dict changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spot {
    hash: u64,
    index: usize,
}

impl Spot {
    #[inline]
    pub(super) fn new(hash: u64, index: usize) -> Spot {
        Spot { hash, index }
    }

    /// The hash of its key.
    #[inline]
    pub fn hash(self) -> u64 {
        self.hash
    }
}

impl<E: Element> Default for Dict<E> {
    fn default() -> Dict<E> {
        Dict::new()
    }
}

impl<E: Element> Dict<E> {
    /// An empty one, which takes nothing from the allocator.
    pub fn new() -> Dict<E> {
        Dict {
            root: Child::Page(Page::empty()),
            bytes: 0,
            len: 0,
        }
    }

    /// How many elements it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes taken from the allocator for elements, pages and nodes.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        self.bytes
    }

    /// Asks for the memory that a lookup of `hash` will read, one stage further with each call: nothing is waited for, so a
    /// caller that is about to look several up brings all of them forward by a stage before the next ([`Foresight`]).
    #[inline]
    pub fn foresee(&self, hash: u64, stage: Foresight) {
        let page = || self.page(hash);
        match stage {
            Foresight::Node => {
                if let Some(node) = self.second_node(hash) {
                    prefetch(node);
                }
            }
            Foresight::Directory => {
                if let Some(node) = self.second_node(hash) {
                    prefetch(&node.directory[node.place(hash, 1)]);
                }
            }
            Foresight::Tags => page().0.foresee_tags(),
            Foresight::Words => page().0.foresee_words(hash),
            Foresight::Elements => {
                let (page, level) = page();
                page.foresee_elements(hash, level);
            }
        }
    }

    /// The node below the root's that a hash leads to; the node itself is not looked at.
    #[inline]
    fn second_node(&self, hash: u64) -> Option<&Node<E>> {
        let Child::Node(root) = &self.root else { return None };
        match &root.branch(hash, 0).child {
            Child::Node(node) => Some(node),
            Child::Page(_) => None,
        }
    }

    /// An element whose key has probably this hash: 24 bits of it are compared, keys are not.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<E::Ref<'_>> {
        let (page, level) = self.page(hash);
        page.guess(hash, level)
    }

    /// Where the element with this key is; `hash` is the hash of the key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Spot> {
        let (page, level) = self.page(hash);
        page.find(hash, level, key).map(|index| Spot { hash, index })
    }

    /// The element with this key.
    #[inline]
    pub fn lookup(&self, hash: u64, key: &[u8]) -> Option<E::Ref<'_>> {
        let (page, level) = self.page(hash);
        page.find(hash, level, key).map(|index| page.entry(index))
    }

    /// The element at a spot.
    #[inline]
    pub fn get(&self, spot: Spot) -> E::Ref<'_> {
        self.page(spot.hash).0.entry(spot.index)
    }

    /// The address of the element at a spot: to be compared, never followed.
    pub fn address_at(&self, spot: Spot) -> u64 {
        self.page(spot.hash).0.address(spot.index)
    }

    /// Where the element with this hash and address is.
    pub fn find_address(&self, hash: u64, address: u64) -> Option<Spot> {
        let index = self.page(hash).0.find_address(address)?;
        Some(Spot { hash, index })
    }

    /// Lets `edit` change an element, but not its key.
    #[inline]
    pub fn edit<R>(&mut self, spot: Spot, edit: impl FnOnce(&mut E) -> R) -> R {
        self.edit_sized(spot, |element| {
            let before = element.as_ref().allocated_bytes();
            let result = edit(element);
            ([before, element.as_ref().allocated_bytes()], result)
        })
    }

    /// As `edit`, where `edit` itself answers how many bytes there were before and are after it, beside its result: cheaper, if it
    /// knows them without looking at the whole element.
    #[inline]
    pub fn edit_sized<R>(&mut self, spot: Spot, edit: impl FnOnce(&mut E) -> ([usize; 2], R)) -> R {
        let ([before, after], result) = self.page_mut(spot.hash).edit(spot.index, edit);
        self.bytes = self.bytes - before + after;
        result
    }

    /// Lets `touch` change what moves nothing, leaves the flags as they are and takes no memory: cheaper than `edit`.
    ///
    /// # Safety
    /// `touch` must not do more than that: afterwards `into_word` of the element would give the same word.
    #[inline]
    pub unsafe fn touch<R>(&mut self, spot: Spot, touch: impl FnOnce(&mut E) -> R) -> R {
        self.page_mut(spot.hash).touch(spot.index, touch)
    }

    /// As `touch`, for what takes or gives back memory elsewhere: `touch` answers how many bytes there were before and are
    /// after it, beside its result.
    ///
    /// # Safety
    /// As for `touch`.
    #[inline]
    pub unsafe fn touch_sized<R>(&mut self, spot: Spot, touch: impl FnOnce(&mut E) -> ([usize; 2], R)) -> R {
        // SAFETY: the caller's promise.
        let ([before, after], result) = unsafe { self.touch(spot, touch) };
        self.bytes = self.bytes - before + after;
        result
    }

    /// Adds an element whose key is not there yet; `hash` is the hash of its key by `seed`.
    pub fn insert(&mut self, hash: u64, entry: E, seed: HashSeed) -> Spot {
        self.bytes += entry.as_ref().allocated_bytes();
        self.len += 1;
        if let Child::Page(page) = &mut self.root
            && page.is_full()
        {
            let page = std::mem::replace(page, Page::empty());
            self.root = Child::Node(Node::above(page, &mut self.bytes));
        }
        let mut child = &mut self.root;
        let mut level = 0;
        loop {
            match child {
                Child::Page(page) => {
                    self.bytes -= page.allocated_bytes();
                    page.push(hash, level, entry);
                    self.bytes += page.allocated_bytes();
                    // It was appended.
                    return Spot {
                        hash,
                        index: page.len() - 1,
                    };
                }
                Child::Node(node) => {
                    node.make_room(hash, level, seed, &mut self.bytes);
                    child = &mut node.branch_mut(hash, level).child;
                    level += u32::from(child.is_node());
                }
            }
        }
    }

    /// Takes an element out.
    pub fn remove(&mut self, spot: Spot, seed: HashSeed) -> E {
        let entry = match &mut self.root {
            Child::Page(page) => {
                self.bytes -= page.allocated_bytes();
                let entry = page.swap_remove(spot.index);
                self.bytes += page.allocated_bytes();
                entry
            }
            Child::Node(node) => {
                let entry = node.remove(spot, 0, seed, &mut self.bytes);
                if let Some(page) = node.take_only_page(&mut self.bytes) {
                    self.root = Child::Page(page);
                }
                entry
            }
        };
        self.bytes -= entry.as_ref().allocated_bytes();
        self.len -= 1;
        entry
    }

    /// The page that a hash belongs to, with its place among the others.
    pub fn page_view(&self, hash: u64) -> PageView<'_, E> {
        let (mut child, mut level, mut depth) = (&self.root, 0, 0);
        while let Child::Node(node) = child {
            let branch = node.branch(hash, level);
            child = &branch.child;
            depth = branch.depth;
            level += u32::from(child.is_node());
        }
        let Child::Page(page) = child else {
            unreachable!("the loop ends at a page")
        };
        let bits = level * NODE_BITS_MAX + depth;
        let rest = u64::MAX.checked_shr(bits).unwrap_or(0);
        let first_hash = hash & !rest;
        PageView {
            page,
            level,
            bits,
            first_hash,
            next_hash: (first_hash | rest).checked_add(1),
        }
    }

    /// All pages in the order of their hashes.
    pub fn pages(&self) -> impl Iterator<Item = PageView<'_, E>> {
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let view = self.page_view(next?);
            next = view.next_hash;
            Some(view)
        })
    }

    #[inline]
    fn page(&self, hash: u64) -> (&Page<E>, u32) {
        let (mut child, mut level) = (&self.root, 0);
        loop {
            match child {
                Child::Page(page) => return (page, level),
                Child::Node(node) => {
                    child = &node.branch(hash, level).child;
                    level += u32::from(child.is_node());
                }
            }
        }
    }

    #[inline]
    fn page_mut(&mut self, hash: u64) -> &mut Page<E> {
        let (mut child, mut level) = (&mut self.root, 0);
        loop {
            match child {
                Child::Page(page) => return page,
                Child::Node(node) => {
                    child = &mut node.branch_mut(hash, level).child;
                    level += u32::from(child.is_node());
                }
            }
        }
    }
}

impl<E: Element> Child<E> {
    #[inline]
    fn is_node(&self) -> bool {
        matches!(self, Child::Node(_))
    }
}

impl<E: Element> Node<E> {
    /// A node whose only branch is this page.
    fn above(page: Page<E>, bytes: &mut usize) -> Box<Node<E>> {
        let branches = vec![Branch {
            depth: 0,
            child: Child::Page(page),
        }];
        let node = Box::new(Node {
            bits: 0,
            directory: vec![0],
            branches,
        });
        *bytes += node.allocated_bytes();
        node
    }

    fn allocated_bytes(&self) -> usize {
        allocated(size_of::<Node<E>>())
            + allocated(self.directory.capacity())
            + allocated(self.branches.capacity() * size_of::<Branch<E>>())
    }

    /// The place of a hash in the directory of this node of this level.
    #[inline]
    fn place(&self, hash: u64, level: u32) -> usize {
        // Shifted in two steps, because a shift by all 64 bits (for a directory of one place) is not defined.
        (hash << (NODE_BITS_MAX * level) >> 1 >> (63 - self.bits)) as usize
    }

    #[inline]
    fn branch(&self, hash: u64, level: u32) -> &Branch<E> {
        &self.branches[usize::from(self.directory[self.place(hash, level)])]
    }

    #[inline]
    fn branch_mut(&mut self, hash: u64, level: u32) -> &mut Branch<E> {
        let index = self.directory[self.place(hash, level)];
        &mut self.branches[usize::from(index)]
    }

    /// Splits the page of this hash until it has room, or puts a node above it when it cannot be split here.
    fn make_room(&mut self, hash: u64, level: u32, seed: HashSeed, bytes: &mut usize) {
        loop {
            let place = self.place(hash, level);
            let index = usize::from(self.directory[place]);
            let branch = &mut self.branches[index];
            let Child::Page(page) = &mut branch.child else {
                return;
            };
            if !page.is_full() || (branch.depth == NODE_BITS_MAX && level == LEVEL_MAX) {
                return;
            }
            let mut page = std::mem::replace(page, Page::empty());
            if branch.depth == NODE_BITS_MAX {
                page.change_level(level + 1, seed);
                branch.child = Child::Node(Node::above(page, bytes));
                return;
            }
            *bytes -= page.allocated_bytes();
            self.split(index, place, page, bytes);
        }
    }

    /// Divides a branch by its next bit, and gives `page`, which was its child, to the halves.
    fn split(&mut self, index: usize, place: usize, page: Page<E>, bytes: &mut usize) {
        *bytes -= self.allocated_bytes();
        let depth = self.branches[index].depth;
        let mut place = place;
        if depth == self.bits {
            self.directory = self.directory.iter().flat_map(|branch| [*branch, *branch]).collect();
            self.bits += 1;
            place *= 2;
        }
        let [zeros, ones] = page.split(depth);
        *bytes += zeros.allocated_bytes() + ones.allocated_bytes();
        let ones_index = self.branches.len();
        self.branches[index] = Branch {
            depth: depth + 1,
            child: Child::Page(zeros),
        };
        self.branches.push(Branch {
            depth: depth + 1,
            child: Child::Page(ones),
        });
        let half = 1 << (self.bits - depth - 1);
        let first = place & !(2 * half - 1);
        self.directory[first + half..first + 2 * half].fill(ones_index as u8);
        *bytes += self.allocated_bytes();
    }

    fn remove(&mut self, spot: Spot, level: u32, seed: HashSeed, bytes: &mut usize) -> E {
        let branch = self.branch_mut(spot.hash, level);
        match &mut branch.child {
            Child::Page(page) => {
                *bytes -= page.allocated_bytes();
                let entry = page.swap_remove(spot.index);
                *bytes += page.allocated_bytes();
                // Looking at the neighbour costs a cache miss, so not every time.
                if page.len().is_multiple_of(8) {
                    self.merge(spot.hash, level, bytes);
                }
                entry
            }
            Child::Node(node) => {
                let entry = node.remove(spot, level + 1, seed, bytes);
                if let Some(mut page) = node.take_only_page(bytes) {
                    page.change_level(level, seed);
                    branch.child = Child::Page(page);
                    self.merge(spot.hash, level, bytes);
                }
                entry
            }
        }
    }

    /// Unites the page of this hash with its neighbour as long as they are small enough, and halves the directory as long
    /// as no branch needs all of it.
    fn merge(&mut self, hash: u64, level: u32, bytes: &mut usize) {
        *bytes -= self.allocated_bytes();
        loop {
            let place = self.place(hash, level);
            let index = usize::from(self.directory[place]);
            let depth = self.branches[index].depth;
            if depth == 0 {
                break;
            }
            let width = 1 << (self.bits - depth);
            let other_index = usize::from(self.directory[place ^ width]);
            let [branch, other] = self
                .branches
                .get_disjoint_mut([index, other_index])
                .expect("neighbours are two branches");
            let (Child::Page(page), Child::Page(other_page)) = (&mut branch.child, &mut other.child) else {
                break;
            };
            if other.depth != depth || page.len() + other_page.len() > MERGE_ENTRIES_MAX {
                break;
            }
            *bytes -= page.allocated_bytes() + other_page.allocated_bytes();
            page.absorb(std::mem::replace(other_page, Page::empty()));
            *bytes += page.allocated_bytes();
            branch.depth -= 1;
            let first = place & !(2 * width - 1);
            self.directory[first..first + 2 * width].fill(index as u8);
            self.forget_branch(other_index);
            while self.bits > 0 && self.branches.iter().all(|branch| branch.depth < self.bits) {
                self.directory = self.directory.iter().step_by(2).copied().collect();
                self.bits -= 1;
            }
        }
        *bytes += self.allocated_bytes();
    }

    /// Takes a branch out that the directory no longer names; the last one takes its place.
    fn forget_branch(&mut self, index: usize) {
        let last = self.branches.len() - 1;
        self.branches.swap_remove(index);
        for place in &mut self.directory {
            if usize::from(*place) == last {
                *place = index as u8;
            }
        }
        if self.branches.len() * 4 <= self.branches.capacity() {
            self.branches.shrink_to(self.branches.len() * 2);
        }
    }

    /// The page of a node that has come down to one page; the node ends.
    fn take_only_page(&mut self, bytes: &mut usize) -> Option<Page<E>> {
        match &mut self.branches[..] {
            [
                Branch {
                    depth: 0,
                    child: Child::Page(page),
                },
            ] => {
                let page = std::mem::replace(page, Page::empty());
                *bytes -= self.allocated_bytes();
                Some(page)
            }
            _ => None,
        }
    }
}

impl<E: Element> Dict<E> {
    /// Frees about `count_max` elements, whole pages; true when nothing is left. After the first call it can only be freed
    /// further, asked for its length, or dropped.
    pub fn free_step(&mut self, count_max: usize) -> bool {
        let mut freed = 0;
        while freed < count_max {
            match self.free_page() {
                Some(count) => freed += count,
                None => break,
            }
        }
        self.len == 0
    }

    /// Hands out the elements of one page; false when nothing is left. As with `free_step`, nothing else may follow but more of it.
    pub fn take_page(&mut self, take: impl FnMut(E)) -> bool {
        let Some(page) = self.root.take_page() else {
            return false;
        };
        self.len -= page.len();
        page.into_entries(take);
        true
    }

    /// As `free_step`, one page: how many elements it had, or None when nothing is left.
    pub fn free_page(&mut self) -> Option<usize> {
        let freed = self.root.take_page()?.len();
        self.len -= freed;
        Some(freed)
    }
}

impl<E: Element> Child<E> {
    fn take_page(&mut self) -> Option<Page<E>> {
        match self {
            Child::Page(page) if page.len() == 0 => None,
            Child::Page(page) => Some(std::mem::replace(page, Page::empty())),
            Child::Node(node) => {
                while let Some(branch) = node.branches.last_mut() {
                    if let Some(page) = branch.child.take_page() {
                        return Some(page);
                    }
                    node.branches.pop();
                }
                None
            }
        }
    }
}

impl<E: Element> Dict<E> {
    /// Asserts all invariants, by counting again.
    pub fn check(&self, seed: HashSeed) {
        let (mut len, mut bytes) = (0, 0);
        for view in self.pages() {
            bytes += view.page.allocated_bytes();
            for (index, entry) in view.page.entries().enumerate() {
                let hash = seed.hash(entry.key());
                assert!(
                    hash >= view.first_hash && view.next_hash.is_none_or(|next| hash < next),
                    "invariant 1"
                );
                assert_eq!(view.page.find(hash, view.level, entry.key()), Some(index));
                len += 1;
                bytes += entry.allocated_bytes();
            }
        }
        if let Child::Node(node) = &self.root {
            bytes += node.check();
        }
        assert_eq!((self.len, self.bytes), (len, bytes), "invariant 4");
    }
}

impl<E: Element> Node<E> {
    /// Asserts the invariants of the nodes, and returns their bytes.
    fn check(&self) -> usize {
        assert_eq!(self.directory.len(), 1 << self.bits);
        assert!(
            self.bits > 0 && self.branches.iter().any(|branch| branch.depth == self.bits),
            "invariant 3"
        );
        let mut bytes = self.allocated_bytes();
        for (index, branch) in self.branches.iter().enumerate() {
            let places: Vec<usize> = (0..self.directory.len())
                .filter(|place| usize::from(self.directory[*place]) == index)
                .collect();
            let width = 1 << (self.bits - branch.depth);
            assert_eq!(places.len(), width, "invariant 1");
            assert_eq!(places[0] % width, 0, "invariant 1");
            assert_eq!(places[width - 1], places[0] + width - 1, "invariant 1");
            if let Child::Node(node) = &branch.child {
                assert_eq!(branch.depth, NODE_BITS_MAX, "invariant 2");
                bytes += node.check();
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::element::Member;

    type Table = Dict<Member>;

    const SEED: HashSeed = HashSeed([3, 5]);

    fn key(n: u32) -> [u8; 4] {
        n.to_be_bytes()
    }

    fn insert(table: &mut Table, n: u32) {
        let entry = Member::new(&key(n));
        table.insert(SEED.hash(&key(n)), entry, SEED);
    }

    fn remove(table: &mut Table, n: u32) {
        let spot = table.find(SEED.hash(&key(n)), &key(n)).unwrap();
        assert_eq!(table.remove(spot, SEED).as_bytes(), key(n));
    }

    #[test]
    fn handles_are_small() {
        // 16384 slots have one table each.
        assert_eq!(size_of::<Child<Member>>(), 16);
        assert!(size_of::<Table>() <= 32);
    }

    #[test]
    fn grows_to_two_levels_and_shrinks_to_nothing() {
        // 256 pages of 141 entries at most is where the second level must begin.
        let count = 60_000;
        let mut table = Table::new();
        for n in 0..count {
            insert(&mut table, n);
            if n % 5_000 == 0 || n == 141 || n == 142 {
                table.check(SEED);
            }
        }
        table.check(SEED);
        assert!(table.pages().any(|view| view.level == 1));
        assert!((0..count).all(|n| table.find(SEED.hash(&key(n)), &key(n)).is_some()));
        assert!(table.find(SEED.hash(&key(count)), &key(count)).is_none());
        let overhead = table.allocated_bytes() - count as usize * 8;
        assert!(overhead <= count as usize * 12, "{overhead} bytes");
        let mut order: Vec<u32> = (0..count).collect();
        fastrand::Rng::with_seed(1).shuffle(&mut order);
        for (done, n) in order.iter().enumerate() {
            remove(&mut table, *n);
            if done % 5_000 == 0 || done + 200 > count as usize {
                table.check(SEED);
            }
        }
        assert_eq!((table.len(), table.allocated_bytes()), (0, 0));
    }

    #[test]
    fn pages_shrink_together_when_most_is_deleted() {
        let mut table = Table::new();
        (0..20_000).for_each(|n| insert(&mut table, n));
        (500..20_000).for_each(|n| remove(&mut table, n));
        table.check(SEED);
        let pages = table.pages().count();
        assert!(pages <= 16, "{pages} pages for 500 entries");
    }

    #[test]
    fn a_clone_is_whole_and_its_own() {
        for count in [0, 1, 141, 142, 50_000] {
            let mut table = Table::new();
            (0..count).for_each(|n| insert(&mut table, n));
            let copy = table.clone();
            copy.check(SEED);
            (0..count).for_each(|n| remove(&mut table, n));
            assert_eq!(copy.len(), count as usize);
            assert!((0..count).all(|n| copy.find(SEED.hash(&key(n)), &key(n)).is_some()));
        }
    }

    #[test]
    fn is_freed_page_by_page() {
        let mut table = Table::new();
        (0..50_000).for_each(|n| insert(&mut table, n));
        let mut freed = 0;
        while let Some(entries) = table.free_page() {
            assert!(entries <= PAGE_ENTRIES_MAX);
            freed += entries;
        }
        assert_eq!((freed, table.len()), (50_000, 0));
        let mut table = Table::new();
        (0..50_000).for_each(|n| insert(&mut table, n));
        assert!(!table.free_step(1000));
        assert!(table.len() > 48_000 && table.len() <= 49_000, "{}", table.len());
        assert!(table.free_step(usize::MAX));
    }

    #[test]
    fn foresight_changes_nothing_and_guesses_what_is_there() {
        let mut table = Table::new();
        for size in [0, 1, 100, 1000, 60_000] {
            for n in table.len()..size {
                insert(&mut table, n as u32);
            }
            for n in (0..size as u32 + 50).step_by(7) {
                let hash = SEED.hash(&key(n));
                use Foresight::{Directory, Elements, Node, Tags, Words};
                for stage in [Node, Directory, Tags, Words, Elements] {
                    table.foresee(hash, stage);
                }
                if table.find(hash, &key(n)).is_some() {
                    assert_eq!(SEED.hash(table.guess(hash).unwrap()) & 0xff, hash & 0xff);
                }
            }
            assert_eq!(table.len(), size);
        }
        assert!(table.second_node(0).is_some(), "large enough for a second level");
        table.check(SEED);
    }
}
