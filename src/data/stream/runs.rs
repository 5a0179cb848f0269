//! An ordered sequence in short runs: what a stream keeps its blocks, its pending entries and its consumers in.
//!
//! Almost everything in a stream is appended in order and taken away at the front, and is looked up by its key in between. A
//! sorted array is the smallest thing that can do that, but moves half of itself for each change in the middle and copies
//! all of itself when it grows. So it is cut into runs of at most [`RUN_MAX`] elements, and only the runs' headers are one array:
//!
//! ```text
//! runs: [ run | run | run ]        appending fills the last run and then begins another: no slack
//!          |     |     |           inserting splits a full run in two halves
//!        e e e  e e   e e e e      removing joins a run that has become short with its neighbour
//! ```
//!
//! A B-tree of the standard library has the same costs, but leaves its nodes half empty when it is filled in order, and
//! cannot say how many bytes it takes.
//!
//! Invariants: 1. no run is empty; 2. keys ascend strictly over all runs; 3. `bytes` is what the runs' allocations take.

use crate::base::size_class::allocated;
use std::collections::VecDeque;

/// Elements of one run. Runs of 16-byte elements take 2 KiB then: short enough to move, long enough for few headers.
const RUN_MAX: usize = 128;

/// What has a key to be ordered by.
pub trait Ordered {
    type Key: Ord + ?Sized;
    fn order_key(&self) -> &Self::Key;
}

impl<T: Ordered> Ordered for Box<T> {
    type Key = T::Key;

    fn order_key(&self) -> &T::Key {
        (**self).order_key()
    }
}

/// Elements in ascending order of their keys, each key once.
#[derive(Debug)]
pub struct Runs<T> {
    runs: VecDeque<VecDeque<T>>,
    len: usize,
    bytes: usize,
}

/// The place of an element; valid until the next change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    run: usize,
    index: usize,
}

impl<T: Clone> Clone for Runs<T> {
    /// With the same capacities, so that it takes the same memory, and so does whatever has it as a part.
    fn clone(&self) -> Runs<T> {
        let mut runs = VecDeque::with_capacity(self.runs.capacity());
        runs.extend(self.runs.iter().map(|run| {
            let mut copy = VecDeque::with_capacity(run.capacity());
            copy.extend(run.iter().cloned());
            copy
        }));
        Runs {
            runs,
            len: self.len,
            bytes: self.bytes,
        }
    }
}

impl<T> Default for Runs<T> {
    fn default() -> Runs<T> {
        Runs {
            runs: VecDeque::new(),
            len: 0,
            bytes: 0,
        }
    }
}

impl<T: Ordered> Runs<T> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What its own allocations take, not what its elements point to.
    pub fn allocated_bytes(&self) -> usize {
        self.bytes + allocated(self.runs.capacity() * size_of::<VecDeque<T>>())
    }

    /// The smallest element.
    pub fn first(&self) -> Option<&T> {
        self.runs.front().and_then(VecDeque::front)
    }

    /// The greatest element.
    pub fn last(&self) -> Option<&T> {
        self.runs.back().and_then(VecDeque::back)
    }

    /// As [`Runs::last`], to be changed. Its key must stay.
    pub fn last_mut(&mut self) -> Option<&mut T> {
        self.runs.back_mut().and_then(VecDeque::back_mut)
    }

    /// The place of the first element.
    pub fn begin(&self) -> Spot {
        Spot { run: 0, index: 0 }
    }

    /// The place behind the last element.
    pub fn end(&self) -> Spot {
        Spot {
            run: self.runs.len(),
            index: 0,
        }
    }

    /// The place of the first element whose key is not smaller.
    pub fn lower_bound(&self, key: &T::Key) -> Spot {
        if self.last().is_none_or(|last| last.order_key() < key) {
            return self.end();
        }
        let run = self
            .runs
            .partition_point(|run| run.back().is_some_and(|last| last.order_key() < key));
        let index = self.runs[run].partition_point(|element| element.order_key() < key);
        Spot { run, index }
    }

    /// The place of the last element whose key is not greater; the first place if there is none.
    pub fn floor(&self, key: &T::Key) -> Spot {
        let spot = self.lower_bound(key);
        match self.get(spot) {
            Some(element) if element.order_key() == key => spot,
            _ => self.previous(spot).unwrap_or(spot),
        }
    }

    /// The place of the element with that key.
    pub fn find(&self, key: &T::Key) -> Option<Spot> {
        let spot = self.lower_bound(key);
        self.get(spot)
            .filter(|element| element.order_key() == key)
            .map(|_| spot)
    }

    /// The element at a place; none behind the last one.
    pub fn get(&self, spot: Spot) -> Option<&T> {
        self.runs.get(spot.run)?.get(spot.index)
    }

    /// As [`Runs::get`], to be changed. Its key must stay.
    pub fn get_mut(&mut self, spot: Spot) -> Option<&mut T> {
        self.runs.get_mut(spot.run)?.get_mut(spot.index)
    }

    /// The element with that key.
    pub fn by_key(&self, key: &T::Key) -> Option<&T> {
        self.find(key).and_then(|spot| self.get(spot))
    }

    /// As [`Runs::by_key`], to be changed. Its key must stay.
    pub fn by_key_mut(&mut self, key: &T::Key) -> Option<&mut T> {
        self.find(key).and_then(|spot| self.get_mut(spot))
    }

    /// The first element whose key is greater; the first of all if none is given.
    pub fn after(&self, key: Option<&T::Key>) -> Option<&T> {
        let Some(key) = key else { return self.first() };
        let spot = self.lower_bound(key);
        match self.get(spot) {
            Some(element) if element.order_key() == key => self.get(self.next(spot)),
            other => other,
        }
    }

    /// The place behind that one.
    pub fn next(&self, spot: Spot) -> Spot {
        match self.runs.get(spot.run) {
            Some(run) if spot.index + 1 < run.len() => Spot {
                index: spot.index + 1,
                ..spot
            },
            Some(_) => Spot {
                run: spot.run + 1,
                index: 0,
            },
            None => spot,
        }
    }

    /// The place before that one, unless it is the first.
    pub fn previous(&self, spot: Spot) -> Option<Spot> {
        if spot.index > 0 {
            return Some(Spot {
                index: spot.index - 1,
                ..spot
            });
        }
        let run = spot.run.checked_sub(1)?;
        Some(Spot {
            run,
            index: self.runs.get(run)?.len() - 1,
        })
    }

    /// The elements from a place on.
    pub fn iter_from(&self, spot: Spot) -> impl Iterator<Item = &T> + Clone {
        let from = spot.run.min(self.runs.len());
        self.runs
            .range(from..)
            .enumerate()
            .flat_map(move |(number, run)| run.range(if number == 0 { spot.index } else { 0 }..))
    }

    /// The elements before a place, the last one first.
    pub fn iter_back_from(&self, spot: Spot) -> impl Iterator<Item = &T> + Clone {
        let part = self.runs.get(spot.run).map(|run| run.range(..spot.index).rev());
        let whole = self.runs.range(..spot.run.min(self.runs.len())).rev();
        part.into_iter().flatten().chain(whole.flat_map(|run| run.iter().rev()))
    }

    /// All elements.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.iter_from(self.begin())
    }

    /// Adds an element. Gives it back if its key is there already.
    pub fn insert(&mut self, element: T) -> Result<Spot, T> {
        let spot = self.lower_bound(element.order_key());
        if self.get(spot).is_some_and(|at| at.order_key() == element.order_key()) {
            return Err(element);
        }
        self.len += 1;
        if spot.run < self.runs.len() {
            return Ok(self.insert_at(spot, element));
        }
        // Behind all others.
        if self.runs.back().is_none_or(|run| run.len() >= RUN_MAX) {
            if self.runs.is_empty() {
                self.runs.reserve_exact(1);
            }
            self.runs.push_back(VecDeque::with_capacity(1));
            self.bytes += run_bytes(&self.runs[self.runs.len() - 1]);
        }
        let run = self.runs.len() - 1;
        self.in_run(run, |elements| elements.push_back(element));
        Ok(Spot {
            run,
            index: self.runs[run].len() - 1,
        })
    }

    fn insert_at(&mut self, mut spot: Spot, element: T) -> Spot {
        if self.runs[spot.run].len() >= RUN_MAX {
            let upper = self.in_run(spot.run, |elements| {
                let upper = elements.split_off(RUN_MAX / 2);
                elements.shrink_to_fit();
                upper
            });
            self.bytes += run_bytes(&upper);
            self.runs.insert(spot.run + 1, upper);
            if spot.index > RUN_MAX / 2 {
                spot = Spot {
                    run: spot.run + 1,
                    index: spot.index - RUN_MAX / 2,
                };
            }
        }
        self.in_run(spot.run, |elements| elements.insert(spot.index, element));
        spot
    }

    /// Takes an element away.
    ///
    /// # Panics
    /// If there is none at that place.
    pub fn remove(&mut self, spot: Spot) -> T {
        self.len -= 1;
        let removed = self.in_run(spot.run, |elements| {
            let removed = elements.remove(spot.index).expect("the caller has found it there");
            if elements.len() <= elements.capacity() / 4 {
                elements.shrink_to(elements.len() * 2);
            }
            removed
        });
        let len = self.runs[spot.run].len();
        if len == 0 {
            self.drop_run(spot.run);
        } else if len < RUN_MAX / 4 {
            let left = if spot.run + 1 < self.runs.len() {
                spot.run
            } else {
                spot.run.saturating_sub(1)
            };
            if left + 1 < self.runs.len() && self.runs[left].len() + self.runs[left + 1].len() <= RUN_MAX / 2 {
                let mut right = std::mem::take(&mut self.runs[left + 1]);
                self.bytes -= run_bytes(&right);
                self.runs.remove(left + 1);
                self.in_run(left, |elements| elements.append(&mut right));
            }
        }
        removed
    }

    /// Takes the element with that key away.
    pub fn remove_key(&mut self, key: &T::Key) -> Option<T> {
        self.find(key).map(|spot| self.remove(spot))
    }

    /// Takes the first element away.
    pub fn pop_first(&mut self) -> Option<T> {
        (!self.is_empty()).then(|| self.remove(self.begin()))
    }

    /// Frees about `count` elements (whole runs of them) at the end; `freed` may free what one points to. True when nothing is left.
    pub fn free_step(&mut self, mut count: usize) -> bool {
        while count > 0 {
            let Some(run) = self.runs.back() else { return true };
            count = count.saturating_sub(run.len());
            self.len -= run.len();
            self.drop_run(self.runs.len() - 1);
        }
        self.runs.is_empty()
    }

    fn drop_run(&mut self, run: usize) {
        if let Some(dropped) = self.runs.remove(run) {
            self.bytes -= run_bytes(&dropped);
        }
        if self.runs.len() <= self.runs.capacity() / 4 {
            self.runs.shrink_to(self.runs.len() * 2);
        }
    }

    /// Changes a run and keeps the account.
    fn in_run<R>(&mut self, run: usize, change: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        let elements = &mut self.runs[run];
        self.bytes -= run_bytes(elements);
        let answer = change(elements);
        self.bytes += run_bytes(elements);
        answer
    }

    /// Checks the invariants.
    pub(super) fn check(&self) {
        assert!(self.runs.iter().all(|run| !run.is_empty() && run.len() <= RUN_MAX));
        assert_eq!(self.len, self.runs.iter().map(VecDeque::len).sum::<usize>());
        assert_eq!(self.bytes, self.runs.iter().map(run_bytes).sum::<usize>());
        assert!(
            self.iter()
                .zip(self.iter().skip(1))
                .all(|(a, b)| a.order_key() < b.order_key())
        );
    }
}

fn run_bytes<T>(run: &VecDeque<T>) -> usize {
    allocated(run.capacity() * size_of::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair(u32, u64);

    impl Ordered for Pair {
        type Key = u32;
        fn order_key(&self) -> &u32 {
            &self.0
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(u8),
        Insert(u32),
        Remove(u32),
        PopFront(u8),
        Look(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => any::<u8>().prop_map(Step::Append),
            4 => (0..3000u32).prop_map(Step::Insert),
            4 => (0..3000u32).prop_map(Step::Remove),
            1 => any::<u8>().prop_map(Step::PopFront),
            2 => (0..3000u32).prop_map(Step::Look),
        ];
        proptest::collection::vec(step, 1..300)
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map(steps in steps()) {
            let mut runs: Runs<Pair> = Runs::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Append(count) => for _ in 0..count {
                        let key = model.last_key_value().map_or(0, |(key, _)| key + 3);
                        model.insert(key, number as u64);
                        runs.insert(Pair(key, number as u64)).unwrap();
                    },
                    Step::Insert(key) => {
                        let fresh = !model.contains_key(&key);
                        prop_assert_eq!(runs.insert(Pair(key, number as u64)).is_ok(), fresh);
                        model.entry(key).or_insert(number as u64);
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(runs.remove_key(&key).map(|pair| pair.1), model.remove(&key));
                    }
                    Step::PopFront(count) => for _ in 0..count {
                        prop_assert_eq!(runs.pop_first().map(|pair| pair.0), model.pop_first().map(|pair| pair.0));
                    },
                    Step::Look(key) => {
                        let spot = runs.lower_bound(&key);
                        let above: Vec<u32> = runs.iter_from(spot).map(|pair| pair.0).collect();
                        prop_assert_eq!(above, model.range(key..).map(|pair| *pair.0).collect::<Vec<_>>());
                        let below: Vec<u32> = runs.iter_back_from(spot).map(|pair| pair.0).collect();
                        prop_assert_eq!(below, model.range(..key).rev().map(|pair| *pair.0).collect::<Vec<_>>());
                        let floor = model.range(..=key).next_back().or(model.first_key_value());
                        prop_assert_eq!(runs.get(runs.floor(&key)).map(|pair| pair.0), floor.map(|pair| *pair.0));
                        let mut walked = runs.begin();
                        let mut count = 0;
                        while runs.get(walked).is_some() { walked = runs.next(walked); count += 1; }
                        prop_assert_eq!(count, model.len());
                    }
                }
                runs.check();
                prop_assert_eq!(runs.len(), model.len());
            }
            prop_assert!(runs.iter().map(|pair| (pair.0, pair.1)).eq(model.into_iter()));
            while !runs.free_step(100) { runs.check(); }
            prop_assert_eq!(runs.len(), 0);
        }
    }

    #[test]
    fn a_copy_takes_as_much_as_is_counted() {
        let mut runs = Runs::default();
        for key in 0..1000 {
            runs.insert(Pair(key * 7 % 1000, 0)).unwrap();
            let copy = runs.clone();
            copy.check();
            assert_eq!(copy.allocated_bytes(), runs.allocated_bytes());
        }
    }

    #[test]
    fn filled_in_order_it_has_no_slack() {
        let mut runs = Runs::default();
        for key in 0..100_000 {
            runs.insert(Pair(key, 0)).unwrap();
        }
        let bytes = runs.allocated_bytes();
        assert!(bytes < 100_000 * 16 * 105 / 100, "{bytes}");
        for _ in 0..99_999 {
            runs.pop_first();
        }
        assert!(runs.allocated_bytes() < 1024, "{}", runs.allocated_bytes());
    }
}
