//! Which of many patterns match a name, without looking at each.
//!
//! A pattern begins and ends, mostly, with text that stands for itself: `room:*:joined` matches only names that begin with `room:` and end
//! with `:joined`. Patterns are kept by these two texts, their *frame*: first by the beginning, then by the end. To look a name up, its
//! beginnings of all lengths that occur among the patterns are looked up, and behind each that is there, its ends of the lengths that
//! occur there. What is found so is matched in full, unless the frame says all (one star between the two texts).
//!
//! So a look-up costs as many look-ups in a hash table as there are different lengths of beginnings (and of ends, behind beginnings that the
//! name has), and as many matches as there are patterns that very nearly match: not as many as there are patterns.
//!
//! What is in brackets or behind a backslash does not belong to a frame, nor does an end that either stands before: to tell where a class ends is
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
    by_suffix: HashMap<Vec<u8>, Vec<Entry>>,
    suffix_lengths: BTreeMap<usize, usize>,
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
    is_all: bool,
}

impl Frame<'_> {
    fn of(pattern: &[u8]) -> Frame<'_> {
        let is_special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
        let prefix_length = pattern.iter().position(is_special).unwrap_or(pattern.len());
        let (prefix, rest) = pattern.split_at(prefix_length);
        let suffix: &[u8] = match rest.iter().rposition(is_special) {
            Some(last) if !rest.iter().any(|byte| matches!(byte, b'[' | b'\\')) => &rest[last + 1..],
            _ => b"",
        };
        Frame {
            prefix,
            suffix,
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
        let entries = node.by_suffix.entry_ref(frame.suffix).or_insert_with(|| {
            *node.suffix_lengths.entry(frame.suffix.len()).or_default() += 1;
            Vec::new()
        });
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
        let Some(entries) = node.by_suffix.get_mut(frame.suffix) else {
            return;
        };
        entries.retain(|entry| entry.id != id);
        if entries.is_empty() {
            node.by_suffix.remove(frame.suffix);
            count_down(&mut node.suffix_lengths, frame.suffix.len());
        }
        if node.by_suffix.is_empty() {
            self.by_prefix.remove(frame.prefix);
            count_down(&mut self.prefix_lengths, frame.prefix.len());
        }
    }

    /// Calls `found` with each pattern that the name matches, in no order.
    pub fn each_match(&self, name: &[u8], mut found: impl FnMut(PatternId)) {
        for &prefix_length in self.prefix_lengths.keys().take_while(|length| **length <= name.len()) {
            let (prefix, rest) = name.split_at(prefix_length);
            let Some(node) = self.by_prefix.get(prefix) else {
                continue;
            };
            for &suffix_length in node.suffix_lengths.keys().take_while(|length| **length <= rest.len()) {
                let suffix = &rest[rest.len() - suffix_length..];
                for entry in node.by_suffix.get(suffix).into_iter().flatten() {
                    // A star alone matches every name but the empty one, which only glob knows.
                    let is_match = entry.is_frame_only && !name.is_empty() || glob::matches(&entry.pattern, name);
                    if is_match {
                        found(entry.id);
                    }
                }
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
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
        let mut found = Vec::new();
        index.each_match(name, |id| found.push(id.0));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_frame_is_what_stands_for_itself_on_both_sides() {
        let frame = |pattern: &str| {
            let frame = Frame::of(pattern.as_bytes());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (text(frame.prefix), text(frame.suffix), frame.is_all)
        };
        let expected = |prefix: &str, suffix: &str, is_all| (prefix.to_owned(), suffix.to_owned(), is_all);
        assert_eq!(frame("a:*:b"), expected("a:", ":b", true));
        assert_eq!(frame("*"), expected("", "", true));
        assert_eq!(frame("a*b*c"), expected("a", "c", false));
        assert_eq!(frame("a?"), expected("a", "", false));
        assert_eq!(frame("plain"), expected("plain", "", false));
        assert_eq!(frame("a[xy]b"), expected("a", "", false));
        assert_eq!(frame("a*\\*b"), expected("a", "", false));
        assert_eq!(frame("[a*b"), expected("", "", false));
    }

    #[test]
    fn what_was_taken_out_leaves_nothing_behind() {
        let mut index = PatternIndex::default();
        let patterns = ["a*", "a*b", "a*b", "*", "ab"];
        for (id, pattern) in patterns.iter().enumerate() {
            index.insert(PatternId(id as u64), pattern.as_bytes());
        }
        assert_eq!(matching(&index, b"ab"), [0, 1, 2, 3, 4]);
        assert_eq!(matching(&index, b"a"), [0, 3]);
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
