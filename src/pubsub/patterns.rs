//! Which of many patterns match a name, without looking at each.
//!
//! A pattern begins and ends, mostly, with text that stands for itself: `room:*:joined` matches only names that begin with `room:` and end
//! with `:joined`. Patterns are kept by these two texts, their *frame*: first by the beginning, then by the end. To look a name up, its
//! beginnings of all lengths that occur among the patterns are looked up, and behind each that is there, its ends of the lengths that
//! occur there. What is found so is matched in full, unless the frame says all (one star between the two texts).
//!
//! Where more than one star stands between the two, the longest text among them is a third key: the name must have it somewhere. So the pieces of
//! the name of the lengths that occur are looked up, too.
//!
//! So a look-up costs as many look-ups in hash tables as there are different lengths of these texts (behind a beginning and an end that the
//! name has, times its length for the third), and as many matches as there are patterns that very nearly match: not as many as there are patterns.
//!
//! What is in brackets or behind a backslash belongs to none of the texts, nor does what stands behind either: to tell where a class ends is
//! [`glob`]'s affair.

use crate::base::glob;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// A pattern, as long as somebody is subscribed to it. Numbers are not used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PatternId(pub u64);

/// See above.
#[derive(Debug, Default)]
pub struct PatternIndex {
    by_prefix: HashMap<Vec<u8>, Node>,
    /// How many beginnings there are of each length.
    prefix_lengths: BTreeMap<usize, usize>,
}

/// The patterns of one beginning.
#[derive(Debug, Default)]
struct Node {
    by_suffix: HashMap<Vec<u8>, Bucket>,
    suffix_lengths: BTreeMap<usize, usize>,
}

/// The patterns of one frame.
#[derive(Debug, Default)]
struct Bucket {
    /// Those with no text within.
    plain: Vec<Entry>,
    by_inner: HashMap<Vec<u8>, Vec<Entry>>,
    inner_lengths: BTreeMap<usize, usize>,
}

#[derive(Debug)]
struct Entry {
    id: PatternId,
    pattern: Box<[u8]>,
    /// There is nothing but one star between beginning and end.
    is_frame_only: bool,
}

/// A pattern taken apart.
struct Frame<'a> {
    prefix: &'a [u8],
    suffix: &'a [u8],
    /// Empty if there is none.
    inner: &'a [u8],
    is_all: bool,
}

impl Frame<'_> {
    fn of(pattern: &[u8]) -> Frame<'_> {
        let is_special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
        let prefix_length = pattern.iter().position(is_special).unwrap_or(pattern.len());
        let (prefix, rest) = pattern.split_at(prefix_length);
        let has_only_stars = !rest.iter().any(|byte| matches!(byte, b'[' | b'\\'));
        let (suffix, inner): (&[u8], &[u8]) = match rest.iter().rposition(is_special) {
            Some(last) if has_only_stars => {
                let within = rest[..last].split(is_special);
                (
                    &rest[last + 1..],
                    within.max_by_key(|text| text.len()).unwrap_or_default(),
                )
            }
            _ => (b"", b""),
        };
        Frame {
            prefix,
            suffix,
            inner,
            is_all: rest.len() == suffix.len() + 1 && rest[0] == b'*',
        }
    }
}

impl PatternIndex {
    /// Adds a pattern that is not there.
    pub fn insert(&mut self, id: PatternId, pattern: &[u8]) {
        let frame = Frame::of(pattern);
        let node = self.by_prefix.entry_ref(frame.prefix).or_insert_with(|| {
            *self.prefix_lengths.entry(frame.prefix.len()).or_default() += 1;
            Node::default()
        });
        let bucket = node.by_suffix.entry_ref(frame.suffix).or_insert_with(|| {
            *node.suffix_lengths.entry(frame.suffix.len()).or_default() += 1;
            Bucket::default()
        });
        let entries = match frame.inner {
            b"" => &mut bucket.plain,
            inner => bucket.by_inner.entry_ref(inner).or_insert_with(|| {
                *bucket.inner_lengths.entry(inner.len()).or_default() += 1;
                Vec::new()
            }),
        };
        entries.push(Entry {
            id,
            pattern: pattern.into(),
            is_frame_only: frame.is_all,
        });
    }

    /// Takes a pattern out.
    pub fn remove(&mut self, id: PatternId, pattern: &[u8]) {
        let frame = Frame::of(pattern);
        let Some(node) = self.by_prefix.get_mut(frame.prefix) else {
            return;
        };
        let Some(bucket) = node.by_suffix.get_mut(frame.suffix) else {
            return;
        };
        bucket.remove(id, frame.inner);
        if bucket.plain.is_empty() && bucket.by_inner.is_empty() {
            node.by_suffix.remove(frame.suffix);
            count_down(&mut node.suffix_lengths, frame.suffix.len());
        }
        if node.by_suffix.is_empty() {
            self.by_prefix.remove(frame.prefix);
            count_down(&mut self.prefix_lengths, frame.prefix.len());
        }
    }

    /// The patterns that the name matches, in the order of their numbers.
    pub fn matching(&self, name: &[u8]) -> Vec<PatternId> {
        let mut found = Vec::new();
        for &prefix_length in self.prefix_lengths.keys().take_while(|length| **length <= name.len()) {
            let (prefix, rest) = name.split_at(prefix_length);
            let Some(node) = self.by_prefix.get(prefix) else {
                continue;
            };
            for &suffix_length in node.suffix_lengths.keys().take_while(|length| **length <= rest.len()) {
                let (within, suffix) = rest.split_at(rest.len() - suffix_length);
                if let Some(bucket) = node.by_suffix.get(suffix) {
                    bucket.find(name, within, &mut found);
                }
            }
        }
        found.sort_unstable();
        // A text may stand in a name twice.
        found.dedup();
        found
    }

    pub fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }
}

impl Bucket {
    fn remove(&mut self, id: PatternId, inner: &[u8]) {
        if inner.is_empty() {
            return self.plain.retain(|entry| entry.id != id);
        }
        let Some(entries) = self.by_inner.get_mut(inner) else {
            return;
        };
        entries.retain(|entry| entry.id != id);
        if entries.is_empty() {
            self.by_inner.remove(inner);
            count_down(&mut self.inner_lengths, inner.len());
        }
    }

    /// Those that a name matches which has this within the frame.
    fn find(&self, name: &[u8], within: &[u8], found: &mut Vec<PatternId>) {
        let mut look_at = |entries: &[Entry]| {
            // A star alone matches every name but the empty one, which only glob knows.
            let is_match =
                |entry: &&Entry| entry.is_frame_only && !name.is_empty() || glob::matches(&entry.pattern, name);
            found.extend(entries.iter().filter(is_match).map(|entry| entry.id));
        };
        look_at(&self.plain);
        for &length in self.inner_lengths.keys().take_while(|length| **length <= within.len()) {
            for piece in within.windows(length) {
                if let Some(entries) = self.by_inner.get(piece) {
                    look_at(entries);
                }
            }
        }
    }
}

fn count_down(lengths: &mut BTreeMap<usize, usize>, length: usize) {
    if let Some(count) = lengths.get_mut(&length) {
        *count -= 1;
        if *count == 0 {
            lengths.remove(&length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn matching(index: &PatternIndex, name: &[u8]) -> Vec<u64> {
        index.matching(name).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn a_frame_is_what_stands_for_itself_on_both_sides() {
        let frame = |pattern: &str| {
            let frame = Frame::of(pattern.as_bytes());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            ([frame.prefix, frame.inner, frame.suffix].map(text), frame.is_all)
        };
        let expected = |texts: [&str; 3], is_all| (texts.map(str::to_owned), is_all);
        assert_eq!(frame("a:*:b"), expected(["a:", "", ":b"], true));
        assert_eq!(frame("*"), expected(["", "", ""], true));
        assert_eq!(frame("a*b*c"), expected(["a", "b", "c"], false));
        assert_eq!(frame("a*b?cde*"), expected(["a", "cde", ""], false));
        assert_eq!(frame("a?"), expected(["a", "", ""], false));
        assert_eq!(frame("plain"), expected(["plain", "", ""], false));
        assert_eq!(frame("a[xy]b"), expected(["a", "", ""], false));
        assert_eq!(frame("a*b*\\*b"), expected(["a", "", ""], false));
        assert_eq!(frame("[a*b*"), expected(["", "", ""], false));
    }

    #[test]
    fn what_was_taken_out_leaves_nothing_behind() {
        let mut index = PatternIndex::default();
        let patterns = ["a*", "a*b", "a*b", "*", "ab", "*a*a*"];
        for (id, pattern) in patterns.iter().enumerate() {
            index.insert(PatternId(id as u64), pattern.as_bytes());
        }
        assert_eq!(matching(&index, b"ab"), [0, 1, 2, 3, 4]);
        assert_eq!(matching(&index, b"a"), [0, 3]);
        assert_eq!(matching(&index, b"xaaa"), [3, 5]);
        for (id, pattern) in patterns.iter().enumerate() {
            index.remove(PatternId(id as u64), pattern.as_bytes());
        }
        assert!(index.is_empty() && index.prefix_lengths.is_empty());
        assert!(matching(&index, b"ab").is_empty());
    }

    proptest! {
        #[test]
        fn it_finds_what_matching_each_would_find(
            patterns in vec("[ab*?\\[\\]\\\\^-]{0,7}", 0..40),
            removed in vec(any::<bool>(), 40),
            names in vec("[ab*\\]^-]{0,7}", 1..20),
        ) {
            let mut index = PatternIndex::default();
            for (id, pattern) in patterns.iter().enumerate() {
                index.insert(PatternId(id as u64), pattern.as_bytes());
            }
            let mut left: Vec<(u64, &String)> = Vec::new();
            for (id, pattern) in patterns.iter().enumerate() {
                if removed[id] {
                    index.remove(PatternId(id as u64), pattern.as_bytes());
                } else {
                    left.push((id as u64, pattern));
                }
            }
            for name in names {
                let is_match = |(_, pattern): &&(u64, &String)| glob::matches(pattern.as_bytes(), name.as_bytes());
                let expected: Vec<u64> = left.iter().filter(is_match).map(|(id, _)| *id).collect();
                prop_assert_eq!(matching(&index, name.as_bytes()), expected, "{}", name);
            }
        }
    }
}
