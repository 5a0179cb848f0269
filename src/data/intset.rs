//! Redis's intset: a set of integers in order, its bytes exactly as RDB files and DUMP payloads have them, so that both are
//! a copy of [`Intset::as_bytes`].
//!
//! ```text
//!  0           4           8
//! +-----------+-----------+---------+-----+---------+
//! | width u32 | count u32 | integer | ... | integer |      little endian, each integer 2, 4 or 8 bytes, signed
//! +-----------+-----------+---------+-----+---------+
//! ```
//!
//! All integers have the width that the widest one needed when it came; a set never becomes narrower again, as in Redis.
//! Lookup is by bisection, a change moves what is behind it: right for the few hundred members that a set may have
//! in this form. The whole is a `Block`: one pointer, no capacity.
//!
//! Invariants: the width is 2, 4 or 8; the integers ascend strictly.

use std::fmt;
use std::ptr::NonNull;

use super::block::{Block, Format};
use super::damaged::{Damaged, Fault};
use super::listpack::Item;
use crate::base::random::Random;

const HEADER_BYTES: usize = 8;
const EMPTY: [u8; HEADER_BYTES] = [2, 0, 0, 0, 0, 0, 0, 0];

/// A set of integers: one thin pointer.
#[derive(Clone)]
#[repr(transparent)]
pub struct Intset(Block<IntsetFormat>);

struct IntsetFormat;

impl Format for IntsetFormat {
    const HEADER_BYTES: usize = HEADER_BYTES;

    #[inline]
    fn total(header: &[u8]) -> usize {
        HEADER_BYTES + usize::from(header[0]) * word(header, 4) as usize
    }

    fn set_total(header: &mut [u8], total: usize) {
        let count = (total - HEADER_BYTES) / usize::from(header[0]);
        let count = u32::try_from(count).expect("a packed set is converted long before it has 2^32 members");
        header[4..8].copy_from_slice(&count.to_le_bytes());
    }
}

impl Intset {
    /// An empty one.
    pub fn new() -> Intset {
        Intset(Block::new(&EMPTY))
    }

    /// A copy of bytes that claim to be an intset, if they are a sound one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Intset, Damaged> {
        if bytes.len() < HEADER_BYTES {
            return Err(Damaged::at(0, Fault::TooShort(bytes.len())));
        }
        let width = word(bytes, 0);
        if !matches!(width, 2 | 4 | 8) {
            return Err(Damaged::at(0, Fault::Width(width)));
        }
        let announced = HEADER_BYTES as u64 + u64::from(width) * u64::from(word(bytes, 4));
        if announced != bytes.len() as u64 {
            return Err(Damaged::at(
                4,
                Fault::Total {
                    announced,
                    found: bytes.len(),
                },
            ));
        }
        let set = Intset(Block::new(bytes));
        for index in 1..set.len() {
            if set.at(index - 1) >= set.at(index) {
                return Err(Damaged::at(HEADER_BYTES + index * set.width(), Fault::Order));
            }
        }
        Ok(set)
    }

    /// The one pointer, given away: back with [`Intset::from_raw`].
    pub fn into_raw(self) -> NonNull<u8> {
        self.0.into_raw()
    }

    /// Back from the pointer.
    ///
    /// # Safety
    /// `start` came from [`Intset::into_raw`], and from here on nobody else uses it.
    pub unsafe fn from_raw(start: NonNull<u8>) -> Intset {
        // SAFETY: the caller's promise.
        Intset(unsafe { Block::from_raw(start) })
    }

    /// All of its bytes, header included.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// How many bytes that is.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Bytes that the allocator gave.
    pub fn allocated_bytes(&self) -> usize {
        self.0.allocated_bytes()
    }

    /// Members.
    #[inline]
    pub fn len(&self) -> usize {
        word(self.as_bytes(), 4) as usize
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a member.
    pub fn contains(&self, integer: i64) -> bool {
        width_of(integer) <= self.width() && self.search(integer).is_ok()
    }

    /// The member with this index, in ascending order.
    pub fn get(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| self.at(index))
    }

    /// The least member.
    pub fn min(&self) -> Option<i64> {
        self.get(0)
    }

    /// The greatest member.
    pub fn max(&self) -> Option<i64> {
        self.get(self.len().checked_sub(1)?)
    }

    /// A member, each equally likely.
    pub fn random(&self, random: &mut Random) -> Option<i64> {
        (!self.is_empty()).then(|| self.at(random.below(self.len())))
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + '_ {
        (0..self.len()).map(|index| self.at(index))
    }

    /// The members as elements, ascending.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = Item<'static>> + ExactSizeIterator + Clone + '_ {
        self.iter().map(Item::Int)
    }

    /// Adds a member; whether it is new.
    pub fn insert(&mut self, integer: i64) -> bool {
        if width_of(integer) > self.width() {
            self.widen(width_of(integer));
        }
        match self.search(integer) {
            Ok(_) => false,
            Err(index) => {
                let width = self.width();
                self.0
                    .splice(HEADER_BYTES + index * width, 0, [&integer.to_le_bytes()[..width]]);
                true
            }
        }
    }

    /// Removes a member; whether it was one.
    pub fn remove(&mut self, integer: i64) -> bool {
        if width_of(integer) > self.width() {
            return false;
        }
        let Ok(index) = self.search(integer) else { return false };
        let width = self.width();
        self.0.splice(HEADER_BYTES + index * width, width, [&[]]);
        true
    }

    /// Bytes of each integer.
    #[inline]
    fn width(&self) -> usize {
        usize::from(self.as_bytes()[0])
    }

    #[inline]
    fn at(&self, index: usize) -> i64 {
        let bytes = self.as_bytes();
        let width = usize::from(bytes[0]);
        read(&bytes[HEADER_BYTES + index * width..][..width])
    }

    /// The index of the integer, or where it would be.
    fn search(&self, integer: i64) -> Result<usize, usize> {
        let bytes = self.as_bytes();
        // One loop for each width: the compiler knows it, and the loads are plain.
        match bytes[0] {
            2 => search::<2>(&bytes[HEADER_BYTES..], integer),
            4 => search::<4>(&bytes[HEADER_BYTES..], integer),
            _ => search::<8>(&bytes[HEADER_BYTES..], integer),
        }
    }

    fn widen(&mut self, width: usize) {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.len() * width);
        bytes.extend_from_slice(&(width as u32).to_le_bytes());
        bytes.extend_from_slice(&self.as_bytes()[4..8]);
        for integer in self.iter() {
            bytes.extend_from_slice(&integer.to_le_bytes()[..width]);
        }
        self.0 = Block::new(&bytes);
    }
}

fn search<const WIDTH: usize>(bytes: &[u8], integer: i64) -> Result<usize, usize> {
    let (integers, _) = bytes.as_chunks::<WIDTH>();
    integers.binary_search_by(|found| read(found).cmp(&integer))
}

/// The integer in 2, 4 or 8 bytes.
#[inline(always)]
fn read(bytes: &[u8]) -> i64 {
    match *bytes {
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => unreachable!("a width is 2, 4 or 8"),
    }
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Bytes that an integer needs.
fn width_of(integer: i64) -> usize {
    if i16::try_from(integer).is_ok() {
        2
    } else if i32::try_from(integer).is_ok() {
        4
    } else {
        8
    }
}

impl Default for Intset {
    fn default() -> Intset {
        Intset::new()
    }
}

impl PartialEq for Intset {
    fn eq(&self, other: &Intset) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Intset {}

impl fmt::Debug for Intset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn any_integer() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => -20i64..20,
            1 => any::<i16>().prop_map(i64::from),
            1 => any::<i32>().prop_map(i64::from),
            1 => any::<i64>(),
            1 => prop::sample::select(vec![
                i64::from(i16::MIN), i64::from(i16::MAX), i64::from(i16::MIN) - 1, i64::from(i16::MAX) + 1,
                i64::from(i32::MIN), i64::from(i32::MAX), i64::from(i32::MIN) - 1, i64::from(i32::MAX) + 1,
                i64::MIN, i64::MAX,
            ]),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_an_ordered_set(steps in prop::collection::vec((any::<bool>(), any_integer()), 0..300)) {
            let (mut set, mut model) = (Intset::new(), BTreeSet::new());
            for (adds, integer) in steps {
                if adds {
                    prop_assert_eq!(set.insert(integer), model.insert(integer));
                } else {
                    prop_assert_eq!(set.remove(integer), model.remove(&integer));
                }
                prop_assert_eq!(set.contains(integer), adds);
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.allocated_bytes(), crate::base::size_class::size_class(set.bytes()));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert!(set.iter().rev().eq(model.iter().rev().copied()));
            prop_assert_eq!(set.min(), model.first().copied());
            prop_assert_eq!(set.max(), model.last().copied());
            let again = Intset::from_bytes(set.as_bytes()).unwrap();
            prop_assert_eq!(again.as_bytes(), set.as_bytes());
            let mut random = Random::with_seed(1);
            prop_assert!(set.random(&mut random).is_none_or(|member| model.contains(&member)));
        }

        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40), width in 0u8..9, count in 0u8..8) {
            let mut bytes = bytes;
            if bytes.len() >= HEADER_BYTES {
                bytes[..8].copy_from_slice(&[width, 0, 0, 0, count, 0, 0, 0]);
            }
            if let Ok(set) = Intset::from_bytes(&bytes) {
                prop_assert!(set.iter().is_sorted_by(|one, two| one < two));
            }
        }
    }

    #[test]
    fn bytes_are_those_of_redis() {
        let mut set = Intset::new();
        for integer in [5, -1, 300] {
            assert!(set.insert(integer));
        }
        assert_eq!(set.as_bytes(), [2, 0, 0, 0, 3, 0, 0, 0, 0xff, 0xff, 5, 0, 0x2c, 1]);
        set.insert(70000);
        assert_eq!(set.as_bytes()[..8], [4, 0, 0, 0, 4, 0, 0, 0]);
        set.remove(70000);
        assert_eq!(set.as_bytes()[..8], [4, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(set.get(2), Some(300));
        assert_eq!(set.get(3), None);
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let says = |bytes: &[u8]| Intset::from_bytes(bytes).unwrap_err().to_string();
        assert_eq!(says(&[2, 0, 0]), "3 bytes, too few for a header at offset 0");
        assert_eq!(
            says(&[3, 0, 0, 0, 0, 0, 0, 0]),
            "no integers are 3 bytes wide at offset 0"
        );
        assert_eq!(
            says(&[2, 0, 0, 0, 2, 0, 0, 0, 1, 0]),
            "the header announces 12 bytes, there are 10 at offset 4"
        );
        assert_eq!(
            says(&[8, 0, 0, 0, 255, 255, 255, 255]),
            "the header announces 34359738368 bytes, there are 8 at offset 4"
        );
        assert_eq!(
            says(&[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0]),
            "integers out of order at offset 10"
        );
    }
}
