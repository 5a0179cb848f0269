//! Ways through a dict: SCAN, and elements drawn at random.
//!
//! A cursor is a *position*: the top 38 bits of a hash, so that slot and position together fit the 53 bits which every
//! client language keeps exactly. A call visits all elements from a position up to another one, in the order of their
//! hashes, and elements of equal position always together. Where the pages begin and end plays no part in it: an element
//! that is there all the time is met when the cursor passes its position, whatever the dict has done in between.
//!
//! Within a page the order comes from the 16 hash bits of the words. A page at level 0 tells 2^16 positions apart, and the
//! cursor can only stop between these; a deeper page tells more. When a dict has become shallower between two calls, a
//! cursor may point between positions that the page no longer tells apart: then elements may be met twice, which SCAN may.

use super::tree::{Dict, PageView, Spot};
use super::{Element, ElementRef};
use crate::base::hash::HashSeed;
use crate::base::random::Random;
use std::ops::ControlFlow;

/// Bits of a position.
pub const POSITION_BITS: u32 = 38;

/// A hash is at position `hash >> POSITION_SHIFT`.
pub const POSITION_SHIFT: u32 = 64 - POSITION_BITS;

/// A page is drawn with this many times the probability that it would need if it were as full as the average: more than
/// pages deviate, which is one in six for the emptiest of them (35 elements), and few enough to be drawn in vain.
const DENSITY_MAX: u64 = 2;

impl<E: Element> Dict<E> {
    /// Visits about `count` elements from position `from` on (0 to begin) and returns where to go on, which is above 0 and
    /// below `1 << POSITION_BITS`; None at the end.
    pub fn scan<'t>(&'t self, from: u64, count: usize, mut visit: impl FnMut(E::Ref<'t>)) -> Option<u64> {
        let mut left = count.max(1);
        let mut next = Some(from).filter(|position| *position < 1 << POSITION_BITS);
        while let Some(position) = next
            && left > 0
        {
            next = self
                .page_view(position << POSITION_SHIFT)
                .visit_from(position, &mut left, &mut visit);
        }
        next
    }

    /// An element, each equally likely; None if there is none.
    ///
    /// A hash is drawn, and with it a page, as often as hashes belong to the page: that is how many elements it is expected to
    /// have. One that has fewer is refused the more often, so that every element has the same chance. (With twice as many as
    /// expected, which only small pages of few elements ever have, it would have to be refused less than never.)
    pub fn random(&self, seed: HashSeed, random: &mut Random) -> Option<Spot> {
        if self.is_empty() {
            return None;
        }
        loop {
            let view = self.page_view(random.next_u64());
            let expected = (self.len() as u64 * DENSITY_MAX).checked_shr(view.bits).unwrap_or(0);
            let count = view.len() as u64;
            if count > 0 && (view.bits == 0 || expected <= count || random.chance(count, expected)) {
                let index = random.below(view.len());
                let hash = seed.hash(view.page.entry(index).key());
                return Some(Spot::new(hash, index));
            }
        }
    }

    /// Lends the elements of the page that `hash` belongs to, until `touch` breaks off. Answers where the next page begins; None: that was
    /// the last.
    ///
    /// # Safety
    /// As for [`Dict::touch`].
    pub unsafe fn touch_page(
        &mut self,
        hash: u64,
        mut touch: impl FnMut(&mut E) -> ControlFlow<()>,
    ) -> ControlFlow<(), Option<u64>> {
        let view = self.page_view(hash);
        let (count, next) = (view.len(), view.next_hash);
        for index in 0..count {
            // SAFETY: the caller's promise.
            unsafe { self.touch(Spot::new(hash, index), &mut touch) }?;
        }
        ControlFlow::Continue(next)
    }

    /// All elements, in no useful order.
    pub fn iter(&self) -> impl Iterator<Item = E::Ref<'_>> {
        self.pages().flat_map(|view| view.elements())
    }
}

impl<'t, E: Element> PageView<'t, E> {
    /// Visits elements from `position` on until `left` of them have been seen, or the page ends; returns where to go on.
    fn visit_from(self, position: u64, left: &mut usize, visit: &mut impl FnMut(E::Ref<'t>)) -> Option<u64> {
        // Page borders finer than a position (a table of more than 2^38 pages) do not happen: `tree::LEVEL_MAX`.
        let end = self.next_hash.map(|hash| hash >> POSITION_SHIFT);
        let page = self.page;
        if page.len() <= *left && position <= self.first_hash >> POSITION_SHIFT {
            *left -= page.len();
            page.entries().for_each(visit);
            return end;
        }
        // Each position that this page tells apart, with how many positions of a cursor it stands for.
        let known_bits = (8 * self.level + 16).min(POSITION_BITS);
        let width = 1 << (POSITION_BITS - known_bits);
        let above = self.first_hash & !(u64::MAX >> (8 * self.level));
        let mut order: Vec<(u64, usize)> = (0..page.len())
            .map(|index| {
                let hash = above | u64::from(page.hash_bits(index)) << (48 - 8 * self.level);
                (hash >> POSITION_SHIFT, index)
            })
            .filter(|(start, _)| start + width > position)
            .collect();
        order.sort_unstable();
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            if *left == 0 {
                return Some(group[0].0);
            }
            *left = left.saturating_sub(group.len());
            group.iter().for_each(|(_, index)| visit(page.entry(*index)));
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::element::Member;
    use std::collections::HashMap;

    const SEED: HashSeed = HashSeed([11, 13]);

    fn filled(count: u32) -> Dict<Member> {
        let mut dict = Dict::new();
        for n in 0..count {
            let key = n.to_be_bytes();
            dict.insert(SEED.hash(&key), Member::new(&key), SEED);
        }
        dict
    }

    #[test]
    fn an_undisturbed_scan_meets_everything_once_in_steps_of_its_count() {
        for count in [0, 1, 100, 141, 142, 5_000, 60_000] {
            let dict = filled(count);
            for step in [1, 10, 1000] {
                let mut seen: HashMap<&[u8], u32> = HashMap::new();
                let (mut calls, mut next) = (0, Some(0));
                while let Some(from) = next {
                    calls += 1;
                    next = dict.scan(from, step, |member| *seen.entry(member).or_default() += 1);
                    assert!(next.is_none_or(|next| next > from));
                }
                assert_eq!(seen.len(), count as usize);
                assert!(seen.values().all(|times| *times == 1));
                assert!(
                    calls <= count as usize / step + 2,
                    "{calls} calls for {count} by {step}"
                );
            }
            assert_eq!(dict.iter().count(), count as usize);
        }
    }

    #[test]
    fn a_cursor_beyond_the_end_ends() {
        let dict = filled(10);
        for from in [1 << POSITION_BITS, u64::MAX] {
            assert_eq!(dict.scan(from, 10, |_| panic!("there is nothing")), None);
        }
    }

    /// Chi-squared over all elements: the mean is their number, the deviation the root of twice that.
    #[test]
    fn every_element_is_drawn_equally_often_though_pages_differ() {
        let mut random = Random::with_seed(3);
        for count in [1u32, 7, 141, 150, 1000, 40_000] {
            let mut dict = filled(count);
            // Thin the lower half of the hashes out a little, as no fair hash would.
            let thinned: Vec<u32> = (0..count)
                .filter(|n| n % 4 == 0 && SEED.hash(&n.to_be_bytes()) >> 63 == 0)
                .collect();
            for n in thinned.iter().take(count as usize - 1) {
                let spot = dict.find(SEED.hash(&n.to_be_bytes()), &n.to_be_bytes()).unwrap();
                dict.remove(spot, SEED);
            }
            let mut drawn: HashMap<Vec<u8>, f64> = HashMap::new();
            let mean = 20.0;
            for _ in 0..dict.len() * mean as usize {
                let spot = dict.random(SEED, &mut random).expect("it is not empty");
                *drawn.entry(dict.get(spot).to_vec()).or_default() += 1.0;
            }
            let len = dict.len() as f64;
            let seen: f64 = drawn.values().map(|times| (times - mean) * (times - mean) / mean).sum();
            let chi_squared = seen + (len - drawn.len() as f64) * mean;
            assert!(
                chi_squared < len + 5.0 * (2.0 * len).sqrt() + 1.0,
                "{chi_squared} for {len}"
            );
        }
        assert!(Dict::<Member>::new().random(SEED, &mut random).is_none());
    }
}
