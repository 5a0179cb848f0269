//! The longest common subsequence of two strings (LCS).
//!
//! The textbook table: `lengths[i][j]` is the answer for the first `i` bytes of one and the first `j` of the other; from
//! its last corner one walks back and finds the bytes. Redis reports the walk as it happens, from the end to the front,
//! and that order, and which of several equally long answers is found, is what clients see: on a tie the walk leaves the
//! second string's byte out first.

use std::ops::RangeInclusive;

/// What is known about two strings once they have been compared.
pub struct Lcs<'s> {
    a: &'s [u8],
    b: &'s [u8],
    /// Row by row, `b.len() + 1` columns.
    lengths: Vec<u32>,
}

/// A run of bytes that both strings have, and that belongs to the common subsequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LcsMatch {
    /// Where it lies in the first string.
    pub a: RangeInclusive<usize>,
    /// Where it lies in the second one.
    pub b: RangeInclusive<usize>,
}

impl LcsMatch {
    /// Its length in bytes (WITHMATCHLEN).
    pub fn byte_count(&self) -> usize {
        self.a.end() - self.a.start() + 1
    }
}

impl<'s> Lcs<'s> {
    /// Bytes of working memory that two strings of these lengths need; None if it cannot be expressed. Redis refuses
    /// what is beyond `proto-max-bulk-len`.
    pub fn working_bytes(a_len: usize, b_len: usize) -> Option<usize> {
        a_len
            .checked_add(1)?
            .checked_mul(b_len.checked_add(1)?)?
            .checked_mul(size_of::<u32>())
    }

    /// Compares two strings, in time and memory proportional to the product of their lengths.
    pub fn new(a: &'s [u8], b: &'s [u8]) -> Lcs<'s> {
        let columns = b.len() + 1;
        let mut lengths = vec![0u32; (a.len() + 1) * columns];
        for (i, &byte) in a.iter().enumerate() {
            let (above, row) = lengths[i * columns..(i + 2) * columns].split_at_mut(columns);
            for (j, &other) in b.iter().enumerate() {
                row[j + 1] = if byte == other {
                    above[j] + 1
                } else {
                    above[j + 1].max(row[j])
                };
            }
        }
        Lcs { a, b, lengths }
    }

    /// Length of the common subsequence (LEN).
    pub fn len(&self) -> usize {
        self.length(self.a.len(), self.b.len()) as usize
    }

    /// Whether the strings have nothing in common.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The common subsequence itself.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.walk(|i, _| bytes.push(self.a[i]));
        bytes.reverse();
        bytes
    }

    /// The matching runs of at least `len_min` bytes (IDX, MINMATCHLEN), the last one first.
    pub fn matches(&self, len_min: usize) -> Vec<LcsMatch> {
        let mut matches: Vec<LcsMatch> = Vec::new();
        self.walk(|i, j| match matches.last_mut() {
            Some(run) if *run.a.start() == i + 1 && *run.b.start() == j + 1 => {
                *run = LcsMatch {
                    a: i..=*run.a.end(),
                    b: j..=*run.b.end(),
                };
            }
            _ => matches.push(LcsMatch { a: i..=i, b: j..=j }),
        });
        matches.retain(|run| run.byte_count() >= len_min);
        matches
    }

    /// The pairs of equal bytes that make up the subsequence, from the end to the front.
    fn walk(&self, mut matched: impl FnMut(usize, usize)) {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                i -= 1;
                j -= 1;
                matched(i, j);
            } else if self.length(i - 1, j) > self.length(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }

    fn length(&self, i: usize, j: usize) -> u32 {
        self.lengths[i * (self.b.len() + 1) + j]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documented_example() {
        let lcs = Lcs::new(b"ohmytext", b"mynewtext");
        assert_eq!(lcs.bytes(), b"mytext");
        assert_eq!(lcs.len(), 6);
        let runs = [LcsMatch { a: 4..=7, b: 5..=8 }, LcsMatch { a: 2..=3, b: 0..=1 }];
        assert_eq!(lcs.matches(0), runs);
        assert_eq!(lcs.matches(4), runs[..1]);
        assert_eq!(lcs.matches(0)[0].byte_count(), 4);
    }

    #[test]
    fn nothing_in_common() {
        for (a, b) in [("", ""), ("a", ""), ("", "a"), ("abc", "xyz")] {
            let lcs = Lcs::new(a.as_bytes(), b.as_bytes());
            assert!(lcs.is_empty());
            assert_eq!(lcs.bytes(), b"");
            assert_eq!(lcs.matches(0), []);
        }
        assert_eq!(Lcs::working_bytes(usize::MAX, 1), None);
        assert_eq!(Lcs::working_bytes(9, 9), Some(400));
    }

    fn is_subsequence(part: &[u8], whole: &[u8]) -> bool {
        let mut rest = whole.iter();
        part.iter().all(|byte| rest.any(|other| other == byte))
    }

    proptest! {
        #[test]
        fn is_common_and_longest(a in "[abc]{0,9}", b in "[abc]{0,9}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let lcs = Lcs::new(a, b);
            let found = lcs.bytes();
            prop_assert!(is_subsequence(&found, a) && is_subsequence(&found, b));
            let longest = (0u32..1 << a.len())
                .map(|mask| (0..a.len()).filter(|i| mask >> i & 1 == 1).map(|i| a[i]).collect::<Vec<u8>>())
                .filter(|part| is_subsequence(part, b))
                .map(|part| part.len())
                .max();
            prop_assert_eq!(Some(found.len()), longest);
            prop_assert_eq!(lcs.matches(0).iter().map(LcsMatch::byte_count).sum::<usize>(), found.len());
            for run in lcs.matches(0) {
                prop_assert_eq!(&a[run.a.clone()], &b[run.b.clone()]);
            }
        }
    }
}
