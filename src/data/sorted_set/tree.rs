//! The order of a large sorted set: a B+ tree that counts, over elements that somebody else owns.
//!
//! ```text
//!            inner   first | first | first       the first place of each child,
//!                    count | count | count       and how many places the child holds
//!                      |       |       |
//!            leaf    (score image, handle) ...   up to 64 places of 16 bytes, in order
//!                               |
//!            element of the dict: score, member
//! ```
//!
//! Every question that a command asks is one of two: *how many places lie before this border* (ZRANK, ZCOUNT, where a range by
//! score or by member begins and ends) and *which place has this rank* (ZRANGE, LIMIT, ZRANDMEMBER). The counts in the inner
//! nodes answer both on one way down. So no iterator keeps a path: it holds a slice of one leaf, and goes down again by rank
//! when that is used up, once for some fifty elements.
//!
//! A place holds the score besides the handle, as an integer that sorts as the score does: a search then reads the leaf's
//! own cache lines, where handles alone would cost a cache miss for each probe. Eight bytes for each element are the price.
//! Only where scores are equal are members compared. A leaf's allocation follows its length through the size classes, so a leaf
//! that was just split does not hold the place of another half. By the account, 373,086 elements that came with 1 M calls of
//! `add` (the others changed a score) had 19.0 bytes each in the tree with random scores, 17.1 with ascending ones and 19.1 with
//! equal ones. Other sizes of nodes, and times, have not been compared yet.
//!
//! Invariants:
//! 1. Places are in strict order of (image, member), over the whole tree.
//! 2. `images[i]`, `firsts[i]` and `counts[i]` of an inner node are the first place and the number of places of `children[i]`.
//! 3. All leaves lie equally deep. Only the root may be without places, and then it is a leaf.
//! 4. `bytes` is the sum of what all nodes have taken from the allocator (the root's own header lies in the `Tree`).
//! 5. The element of every handle lives: see [`Handle::of`].

use std::cmp::Ordering;
use std::ops::Range;

use super::handle::Handle;
use crate::base::size_class::{allocated, size_class};

/// Places of a leaf: 1 KiB, what an insert copies at most. Chosen, not measured.
const LEAF_PLACES_MAX: usize = 64;
const LEAF_BYTES_MIN: usize = 32;

/// Children of an inner node: as many as fit 1280 bytes.
const INNER_CHILDREN_MAX: usize = 26;

/// How full nodes are made that are built at once: room for some inserts before the first split.
const LEAF_PLACES_BUILT: usize = 56;
const INNER_CHILDREN_BUILT: usize = 22;

/// One element in its place.
#[derive(Clone, Copy)]
pub(super) struct Place {
    image: u64,
    element: Handle,
}

impl Place {
    pub(super) fn of(element: Handle) -> Place {
        Place {
            image: image(element.score()),
            element,
        }
    }

    /// What sorts as the score does.
    #[inline]
    pub(super) fn image(&self) -> u64 {
        self.image
    }

    #[inline]
    pub(super) fn element(&self) -> &Handle {
        &self.element
    }

    /// How this place lies to an element with this score and member.
    #[inline]
    pub(super) fn compare(&self, image: u64, member: &[u8]) -> Ordering {
        self.image.cmp(&image).then_with(|| self.element.member().cmp(member))
    }
}

/// An integer that sorts as the score does. The two zeros are one, as they are equal scores.
#[inline]
pub(super) fn image(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// See the essay above.
pub(super) struct Tree {
    root: Node,
    bytes: usize,
}

enum Node {
    Leaf(Leaf),
    Inner(Box<Inner>),
}

#[derive(Default)]
struct Leaf {
    places: Vec<Place>,
}

struct Inner {
    len: usize,
    images: [u64; INNER_CHILDREN_MAX],
    firsts: [Option<Handle>; INNER_CHILDREN_MAX],
    counts: [usize; INNER_CHILDREN_MAX],
    children: [Node; INNER_CHILDREN_MAX],
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree {
            root: Node::Leaf(Leaf::default()),
            bytes: 0,
        }
    }

    /// A tree of places that are in order already.
    pub(super) fn from_sorted(places: &[Place]) -> Tree {
        let mut bytes = 0;
        let mut nodes: Vec<Node> = evenly(places.len(), LEAF_PLACES_BUILT)
            .map(|range| Node::Leaf(Leaf::from_places(&places[range], &mut bytes)))
            .collect();
        while nodes.len() > 1 {
            let ranges = evenly(nodes.len(), INNER_CHILDREN_BUILT);
            let mut children = nodes.into_iter();
            nodes = ranges
                .map(|range| {
                    let mut inner = Inner::new(&mut bytes);
                    for (index, child) in children.by_ref().take(range.len()).enumerate() {
                        inner.insert(index, child);
                    }
                    Node::Inner(inner)
                })
                .collect();
        }
        Tree {
            root: nodes.pop().unwrap_or_else(|| Node::Leaf(Leaf::default())),
            bytes,
        }
    }

    /// Bytes taken from the allocator by the nodes.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.root.len()
    }

    /// Adds a place whose element is not in the tree.
    pub(super) fn insert(&mut self, place: Place) {
        if let Some(right) = self.root.insert(place, &mut self.bytes) {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Leaf::default()));
            let mut inner = Inner::new(&mut self.bytes);
            inner.insert(0, left);
            inner.insert(1, right);
            self.root = Node::Inner(inner);
        }
    }

    /// Takes out the place of the element with this score and member, which must be there.
    pub(super) fn remove(&mut self, score: f64, member: &[u8]) {
        let removed = self.root.remove(image(score), member, &mut self.bytes);
        assert!(removed, "an element of the dict is missing in the tree");
        self.lower_root();
    }

    /// Notes that the score of an element is about to change from `old` to `new`, if that can be done in its place. When
    /// this answers false, the element must be taken out and put in again.
    pub(super) fn rescore(&mut self, old: f64, new: f64, member: &[u8]) -> bool {
        self.root.rescore(image(old), image(new), member)
    }

    /// Takes out the places of these ranks and shows them in order.
    pub(super) fn remove_range(&mut self, ranks: Range<usize>, visit: &mut impl FnMut(Place)) {
        if !ranks.is_empty() {
            self.root.remove_range(ranks, visit, &mut self.bytes);
            self.lower_root();
        }
    }

    /// How many places come before the border that `is_before` draws: true for these, false for all after them.
    #[inline]
    pub(super) fn partition_point(&self, is_before: impl Fn(&Place) -> bool) -> usize {
        let mut node = &self.root;
        let mut rank = 0;
        loop {
            match node {
                Node::Leaf(leaf) => return rank + leaf.places.partition_point(is_before),
                Node::Inner(inner) => {
                    let Some(index) = inner.partition_point(&is_before).checked_sub(1) else {
                        return rank;
                    };
                    rank += inner.counts[..index].iter().sum::<usize>();
                    node = &inner.children[index];
                }
            }
        }
    }

    /// The rank that an element with this score and member has or would have.
    pub(super) fn rank(&self, score: f64, member: &[u8]) -> usize {
        self.rank_of(image(score), member)
    }

    /// As `rank`, by the image of the score.
    pub(super) fn rank_of(&self, image: u64, member: &[u8]) -> usize {
        self.partition_point(|place| place.compare(image, member) == Ordering::Less)
    }

    /// The leaf that holds this rank (which must exist), and where in it.
    #[inline]
    pub(super) fn leaf_of(&self, mut rank: usize) -> (&[Place], usize) {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return (&leaf.places, rank),
                Node::Inner(inner) => {
                    let mut index = 0;
                    while rank >= inner.counts[index] {
                        rank -= inner.counts[index];
                        index += 1;
                    }
                    node = &inner.children[index];
                }
            }
        }
    }

    fn lower_root(&mut self) {
        while let Node::Inner(inner) = &mut self.root
            && inner.len < 2
        {
            let only = match inner.len {
                0 => Node::Leaf(Leaf::default()),
                _ => inner.take(0),
            };
            self.bytes -= Inner::BYTES;
            self.root = only;
        }
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.places.len(),
            Node::Inner(inner) => inner.counts[..inner.len].iter().sum(),
        }
    }

    fn first(&self) -> Place {
        match self {
            Node::Leaf(leaf) => leaf.places[0],
            Node::Inner(inner) => inner.first(0),
        }
    }

    /// Adds a place; when the node had to be split, the part to its right is handed back.
    fn insert(&mut self, place: Place, bytes: &mut usize) -> Option<Node> {
        match self {
            Node::Leaf(leaf) => leaf.insert(place, bytes).map(Node::Leaf),
            Node::Inner(inner) => {
                let member = place.element.member();
                let after = inner.partition_point(|first| first.compare(place.image, member) == Ordering::Less);
                let index = after.saturating_sub(1);
                let right = inner.children[index].insert(place, bytes);
                inner.refresh(index);
                inner.insert_or_split(index + 1, right?, bytes).map(Node::Inner)
            }
        }
    }

    fn remove(&mut self, image: u64, member: &[u8], bytes: &mut usize) -> bool {
        match self {
            Node::Leaf(leaf) => {
                let index = leaf
                    .places
                    .partition_point(|place| place.compare(image, member) == Ordering::Less);
                let found = leaf
                    .places
                    .get(index)
                    .is_some_and(|place| place.compare(image, member) == Ordering::Equal);
                if found {
                    leaf.places.remove(index);
                    leaf.shrink(bytes);
                }
                found
            }
            Node::Inner(inner) => {
                let Some(index) = inner.child_of(image, member) else {
                    return false;
                };
                let found = inner.children[index].remove(image, member, bytes);
                if found {
                    inner.counts[index] -= 1;
                    if inner.counts[index] == 0 {
                        inner.take(index).free(bytes);
                    } else {
                        // The count is right; only when the first one went is there another one.
                        let first = inner.children[index].first();
                        inner.set_first(index, first);
                        inner.merge_if_small(index, bytes);
                    }
                }
                found
            }
        }
    }

    fn rescore(&mut self, old: u64, new: u64, member: &[u8]) -> bool {
        match self {
            Node::Leaf(leaf) => {
                let places = &mut leaf.places;
                let index = places.partition_point(|place| place.compare(old, member) == Ordering::Less);
                // The neighbour that the place comes nearer to must lie in this leaf and stay on its side.
                let keeps_order = match new.cmp(&old) {
                    Ordering::Equal => true,
                    Ordering::Less => index > 0 && places[index - 1].compare(new, member) == Ordering::Less,
                    Ordering::Greater => places
                        .get(index + 1)
                        .is_some_and(|next| next.compare(new, member) == Ordering::Greater),
                };
                if keeps_order {
                    places[index].image = new;
                }
                keeps_order
            }
            Node::Inner(inner) => {
                let Some(index) = inner.child_of(old, member) else {
                    return false;
                };
                let done = inner.children[index].rescore(old, new, member);
                if done {
                    let first = inner.children[index].first();
                    inner.set_first(index, first);
                }
                done
            }
        }
    }

    fn remove_range(&mut self, ranks: Range<usize>, visit: &mut impl FnMut(Place), bytes: &mut usize) {
        match self {
            Node::Leaf(leaf) => {
                leaf.places.drain(ranks).for_each(visit);
                leaf.shrink(bytes);
            }
            Node::Inner(inner) => {
                let mut cut = [None; 2];
                let (mut index, mut start) = (0, 0);
                while index < inner.len && start < ranks.end {
                    let count = inner.counts[index];
                    let (from, to) = (ranks.start.max(start), ranks.end.min(start + count));
                    start += count;
                    if from >= to {
                        index += 1;
                    } else if to - from == count {
                        let child = inner.take(index);
                        child.for_each(visit);
                        child.free(bytes);
                    } else {
                        let before = start - count;
                        inner.children[index].remove_range(from - before..to - before, visit, bytes);
                        inner.refresh(index);
                        cut[usize::from(cut[0].is_some())] = Some(index);
                        index += 1;
                    }
                }
                for index in cut.into_iter().rev().flatten() {
                    if index < inner.len {
                        inner.merge_if_small(index, bytes);
                    }
                }
            }
        }
    }

    fn for_each(&self, visit: &mut impl FnMut(Place)) {
        match self {
            Node::Leaf(leaf) => leaf.places.iter().for_each(|place| visit(*place)),
            Node::Inner(inner) => inner.children[..inner.len]
                .iter()
                .for_each(|child| child.for_each(visit)),
        }
    }

    /// Frees the node and all below it, and strikes them from the account.
    fn free(self, bytes: &mut usize) {
        match self {
            Node::Leaf(leaf) => *bytes -= leaf.allocated_bytes(),
            Node::Inner(mut inner) => {
                *bytes -= Inner::BYTES;
                while inner.len > 0 {
                    inner.take(inner.len - 1).free(bytes);
                }
            }
        }
    }

    /// Whether the node may come together with its neighbour: it has a quarter of what it could have.
    fn is_small(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.places.len() <= LEAF_PLACES_MAX / 4,
            Node::Inner(inner) => inner.len <= INNER_CHILDREN_MAX / 4,
        }
    }

    /// Takes in the node to the right of this one, if the two then still have room for some inserts.
    fn absorb(&mut self, right: &mut Node, bytes: &mut usize) -> bool {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                let len = left.places.len() + right.places.len();
                if len > LEAF_PLACES_MAX * 3 / 4 {
                    return false;
                }
                left.reserve(right.places.len(), bytes);
                left.places.extend_from_slice(&right.places);
                true
            }
            (Node::Inner(left), Node::Inner(right)) => {
                if left.len + right.len > INNER_CHILDREN_MAX * 3 / 4 {
                    return false;
                }
                left.append(right, 0);
                true
            }
            _ => unreachable!("the leaves lie equally deep"),
        }
    }
}

impl Leaf {
    fn from_places(places: &[Place], bytes: &mut usize) -> Leaf {
        let mut leaf = Leaf::default();
        leaf.reserve(places.len(), bytes);
        leaf.places.extend_from_slice(places);
        leaf
    }

    fn allocated_bytes(&self) -> usize {
        allocated(self.places.capacity() * size_of::<Place>())
    }

    /// Places of the smallest size class that holds this many.
    fn capacity_for(len: usize) -> usize {
        size_class((len * size_of::<Place>()).max(LEAF_BYTES_MIN)) / size_of::<Place>()
    }

    fn reserve(&mut self, added: usize, bytes: &mut usize) {
        let len = self.places.len() + added;
        if len > self.places.capacity() {
            *bytes -= self.allocated_bytes();
            self.places.reserve_exact(Leaf::capacity_for(len) - self.places.len());
            *bytes += self.allocated_bytes();
        }
    }

    fn shrink(&mut self, bytes: &mut usize) {
        let len = self.places.len();
        // A fifth of slack stays, so that a leaf at a limit does not go back and forth.
        if len == 0 || Leaf::capacity_for(len + len / 4 + 2) < self.places.capacity() {
            *bytes -= self.allocated_bytes();
            self.places
                .shrink_to(if len == 0 { 0 } else { Leaf::capacity_for(len) });
            *bytes += self.allocated_bytes();
        }
    }

    fn insert(&mut self, place: Place, bytes: &mut usize) -> Option<Leaf> {
        let member = place.element.member();
        let index = self
            .places
            .partition_point(|other| other.compare(place.image, member) == Ordering::Less);
        let len = self.places.len();
        if len < LEAF_PLACES_MAX {
            self.reserve(1, bytes);
            self.places.insert(index, place);
            return None;
        }
        if index == len {
            // Scores often ascend (times, counters): then the full leaf stays full.
            return Some(Leaf::from_places(&[place], bytes));
        }
        if index == 0 {
            // Before all others of the tree: some descend, as those of a file and of a copy do.
            let first = Leaf::from_places(&[place], bytes);
            return Some(std::mem::replace(self, first));
        }
        let half = len / 2;
        let mut right = Leaf::from_places(&self.places[half..], bytes);
        self.places.truncate(half);
        self.shrink(bytes);
        let (leaf, index) = if index <= half {
            (self, index)
        } else {
            (&mut right, index - half)
        };
        leaf.reserve(1, bytes);
        leaf.places.insert(index, place);
        Some(right)
    }
}

impl Inner {
    const BYTES: usize = size_class(size_of::<Inner>());

    fn new(bytes: &mut usize) -> Box<Inner> {
        *bytes += Inner::BYTES;
        Box::new(Inner {
            len: 0,
            images: [0; INNER_CHILDREN_MAX],
            firsts: [const { None }; INNER_CHILDREN_MAX],
            counts: [0; INNER_CHILDREN_MAX],
            children: [const { Node::Leaf(Leaf { places: Vec::new() }) }; INNER_CHILDREN_MAX],
        })
    }

    #[inline]
    fn first(&self, index: usize) -> Place {
        Place {
            image: self.images[index],
            element: self.firsts[index].expect("every child below len has a first place"),
        }
    }

    fn set_first(&mut self, index: usize, first: Place) {
        self.images[index] = first.image;
        self.firsts[index] = Some(first.element);
    }

    /// Takes first place and count anew from the child.
    fn refresh(&mut self, index: usize) {
        self.counts[index] = self.children[index].len();
        let first = self.children[index].first();
        self.set_first(index, first);
    }

    /// How many of the children begin with a place before the border.
    #[inline]
    fn partition_point(&self, is_before: impl Fn(&Place) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len);
        while from < to {
            let middle = (from + to) / 2;
            if is_before(&self.first(middle)) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// The child that has this element if any has.
    fn child_of(&self, image: u64, member: &[u8]) -> Option<usize> {
        self.partition_point(|first| first.compare(image, member) != Ordering::Greater)
            .checked_sub(1)
    }

    fn insert(&mut self, index: usize, child: Node) {
        let end = self.len + 1;
        self.images[index..end].rotate_right(1);
        self.firsts[index..end].rotate_right(1);
        self.counts[index..end].rotate_right(1);
        self.children[index..end].rotate_right(1);
        self.children[index] = child;
        self.len = end;
        self.refresh(index);
    }

    fn take(&mut self, index: usize) -> Node {
        let end = self.len;
        let child = std::mem::replace(&mut self.children[index], Node::Leaf(Leaf::default()));
        self.images[index..end].rotate_left(1);
        self.firsts[index..end].rotate_left(1);
        self.counts[index..end].rotate_left(1);
        self.children[index..end].rotate_left(1);
        self.len = end - 1;
        child
    }

    /// Moves the children of `other` from `from` on to the end of this node.
    fn append(&mut self, other: &mut Inner, from: usize) {
        for index in from..other.len {
            let child = std::mem::replace(&mut other.children[index], Node::Leaf(Leaf::default()));
            self.children[self.len] = child;
            self.images[self.len] = other.images[index];
            self.firsts[self.len] = other.firsts[index];
            self.counts[self.len] = other.counts[index];
            self.len += 1;
        }
        other.len = from;
    }

    fn insert_or_split(&mut self, index: usize, child: Node, bytes: &mut usize) -> Option<Box<Inner>> {
        if self.len < INNER_CHILDREN_MAX {
            self.insert(index, child);
            return None;
        }
        let mut right = Inner::new(bytes);
        if index == self.len {
            right.insert(0, child);
            return Some(right);
        }
        let half = self.len / 2;
        right.append(self, half);
        if index <= half {
            self.insert(index, child);
        } else {
            right.insert(index - half, child);
        }
        Some(right)
    }

    /// Brings a child that has become small together with a neighbour, if there is one that is not full.
    fn merge_if_small(&mut self, index: usize, bytes: &mut usize) {
        if !self.children[index].is_small() {
            return;
        }
        for left in [index.wrapping_sub(1), index] {
            if left >= self.len || left + 1 >= self.len {
                continue;
            }
            let (before, after) = self.children.split_at_mut(left + 1);
            if before[left].absorb(&mut after[0], bytes) {
                let mut emptied = self.take(left + 1);
                if let Node::Leaf(leaf) = &mut emptied {
                    *bytes -= leaf.allocated_bytes();
                } else {
                    *bytes -= Inner::BYTES;
                }
                self.refresh(left);
                return;
            }
        }
    }
}

/// Divides `0..len` into as few ranges of at most `len_max` as possible, of about the same length.
fn evenly(len: usize, len_max: usize) -> impl Iterator<Item = Range<usize>> {
    let count = len.div_ceil(len_max);
    (0..count).map(move |index| len * index / count..len * (index + 1) / count)
}

impl Tree {
    /// Checks the invariants.
    pub(super) fn check(&self) {
        let mut bytes = 0;
        let mut places = Vec::new();
        self.root.check(true, &mut bytes, &mut places);
        assert_eq!(bytes, self.bytes, "invariant 4");
        assert_eq!(places.len(), self.len());
        for pair in places.windows(2) {
            assert!(pair[0].compare(pair[1].image, pair[1].element.member()) == Ordering::Less);
        }
        for place in &places {
            assert_eq!(place.image, image(place.element.score()));
        }
    }
}

impl Node {
    fn check(&self, is_root: bool, bytes: &mut usize, places: &mut Vec<Place>) -> usize {
        match self {
            Node::Leaf(leaf) => {
                assert!(is_root || !leaf.places.is_empty());
                assert!(leaf.places.len() <= LEAF_PLACES_MAX);
                places.extend_from_slice(&leaf.places);
                *bytes += leaf.allocated_bytes();
                0
            }
            Node::Inner(inner) => {
                assert!(inner.len >= if is_root { 2 } else { 1 });
                *bytes += Inner::BYTES;
                let mut depths = Vec::new();
                for index in 0..inner.len {
                    let child = &inner.children[index];
                    assert_eq!(inner.counts[index], child.len(), "invariant 2");
                    assert!(inner.first(index).image == child.first().image);
                    assert_eq!(inner.first(index).element.member(), child.first().element.member());
                    depths.push(child.check(false, bytes, places));
                }
                assert!(depths.iter().all(|depth| *depth == depths[0]), "invariant 3");
                depths[0] + 1
            }
        }
    }
}
