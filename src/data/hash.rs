//! Hashes: a listpack of fields and values while there are few and short ones, then a hash table.
//!
//! ```text
//! Packed      field value field value ...                          `listpack`
//! PackedTtl   field value expiry field value expiry ...            `listpackex`, once a field has had an expiry; 0 is none
//! Table       a dict of `FieldValue`s, which know their expiry     `hashtable`
//! ```
//!
//! A hash becomes a table when it has more fields than `hash-max-listpack-entries`, or a field or value is longer than
//! `hash-max-listpack-value`; nothing is converted back. Conversion costs as much as these limits allow, once.
//!
//! **Fields that expire** (Redis 7.4: HEXPIRE and its family). Who reads or changes a field says what time it is, and never
//! sees one whose time is over; it is there, and counted by `len` (HLEN), until `expire_fields` takes it out, or a change of the
//! same field. As with keys, a field still lives at the very millisecond of its expiry.
//!
//! Invariants:
//! 1. Fields differ: no text stands twice as a field of a listpack.
//! 2. The hashes of the table are by the process's one seed, which every call hands in.
//! 3. No field has an expiry before `bound`, which is `u64::MAX` if none has any.
//! 4. `volatile_count` of a table's expiries is how many fields have an expiry.

mod read;
#[cfg(test)]
mod tests;

use super::Encoding;
use super::dict::{Element, Foresight};
use super::element::FieldValue;
use super::frozen::{Freezable, Head, Part, Sink, Spent, Use};
use super::limits::Limits;
use super::listpack::{Item, Listpack, Place};
use super::past::{ByHash, PARTS_COPIED_MAX, Tracked};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::base::long_double::LongDouble;

/// A hash: fields with values.
#[derive(Clone)]
pub enum Hash {
    /// Few and short fields, in the order in which they were added.
    Packed(Listpack),
    /// The same, where fields may expire.
    PackedTtl(Box<PackedTtl>),
    /// Any number of fields.
    Table(Box<HashTable>),
}

/// A hash that is looked at.
#[derive(Clone, Copy)]
pub enum HashRef<'a> {
    /// Few and short fields.
    Packed(&'a Listpack),
    /// The same, where fields may expire.
    PackedTtl(&'a PackedTtl),
    /// Any number of fields.
    Table(&'a HashTable),
}

/// Fields, values and expiries, one after another.
#[derive(Clone)]
pub struct PackedTtl {
    triples: Listpack,
    bound: u64,
}

/// The fields of a big hash.
#[derive(Clone)]
pub struct HashTable {
    fields: Tracked<FieldValue, ByHash, Expiries>,
    expiries: Expiries,
}

/// What a table knows of the expiries of its fields.
#[derive(Clone, Copy)]
struct Expiries {
    volatile_count: usize,
    bound: u64,
    /// The hash at which the walk of `expire_fields` goes on; 0 when none is under way.
    walk: u64,
    /// The earliest expiry that the walk has seen and that was set behind its back since it began.
    earliest_seen: u64,
}

impl HashTable {
    /// See [`Dict::foresee`](super::dict::Dict::foresee).
    #[inline]
    pub(in crate::data) fn foresee(&self, hash: u64, stage: Foresight) {
        self.fields.foresee(hash, stage);
    }

    /// Adds a field that is not there.
    pub(super) fn append(&mut self, field: &[u8], value: &[u8], expiry: Option<UnixMs>, seed: HashSeed) {
        self.fields
            .insert(seed.hash(field), FieldValue::new(field, value, expiry), seed);
        self.expiries.enter(expiry);
    }
}

impl Freezable for HashTable {
    fn freezes(&self) -> bool {
        self.fields.len() > PARTS_COPIED_MAX
    }

    fn freeze(&mut self, to: Use) {
        self.fields.freeze(to, self.expiries);
    }

    fn is_frozen(&self, to: Use) -> bool {
        self.fields.is_frozen(to)
    }

    fn kept_bytes(&self) -> usize {
        self.fields.kept_bytes()
    }

    fn thaw(&mut self, to: Use) -> Spent {
        self.fields.thaw(to)
    }

    fn roll_back(&mut self, seed: HashSeed) {
        // The fields are those of the freeze, so what was known of their expiries is true again.
        self.expiries = self.fields.roll_back(seed);
    }

    fn read_slice(&mut self, to: Use, seed: HashSeed, effort: usize, sink: &mut impl Sink) -> bool {
        if let Some((len, expiries)) = self.fields.begin_read(to) {
            sink.begin(Head::Hash {
                len,
                earliest: (expiries.volatile_count > 0).then_some(UnixMs(expiries.bound)),
            });
        }
        self.fields.read(to, seed, effort, &mut |field| {
            let (name, value) = field.parts();
            sink.part(Part::Field(name, value, field.expiry()));
        })
    }
}

/// What becomes of a field's expiry when its value is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldExpiry {
    /// What was there stays (HINCRBY); a new field gets none.
    Keep,
    /// None from now on (HSET).
    Clear,
}

/// Why a value cannot be incremented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncrementError {
    /// The value is no number of the kind.
    NotANumber,
    /// The result is no number of the kind: it overflows, or is not finite.
    OutOfRange,
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

impl Default for HashTable {
    fn default() -> HashTable {
        HashTable {
            fields: Tracked::default(),
            expiries: Expiries {
                volatile_count: 0,
                bound: u64::MAX,
                walk: 0,
                earliest_seen: u64::MAX,
            },
        }
    }
}

impl Hash {
    /// An empty one.
    pub fn new() -> Hash {
        Hash::Packed(Listpack::new())
    }

    /// To look at it.
    #[inline]
    pub fn as_ref(&self) -> HashRef<'_> {
        match self {
            Hash::Packed(packed) => HashRef::Packed(packed),
            Hash::PackedTtl(packed) => HashRef::PackedTtl(packed),
            Hash::Table(table) => HashRef::Table(table),
        }
    }

    /// How many fields it has; those whose time is over are counted until they are taken out.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.as_ref().is_empty()
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding(&self) -> Encoding {
        self.as_ref().encoding()
    }

    /// Bytes taken from the allocator.
    pub fn allocated_bytes(&self) -> usize {
        self.as_ref().allocated_bytes()
    }

    /// Sets a field; true if it is new (one whose time is over counts as gone, and its expiry is not kept).
    pub fn set(
        &mut self,
        field: &[u8],
        value: &[u8],
        expiry: FieldExpiry,
        now: UnixMs,
        limits: &Limits,
        seed: HashSeed,
    ) -> bool {
        let longest = field.len().max(value.len());
        if !self.packed_takes(
            longest,
            Listpack::entry_bytes(field) + Listpack::entry_bytes(value),
            limits,
        ) {
            self.convert_to_table(seed);
        }
        let is_new = match self {
            Hash::Packed(packed) => match find(packed, field, 1) {
                Some(place) => {
                    if let Some(place) = packed.next(place) {
                        packed.replace(place, value);
                    }
                    false
                }
                None => {
                    packed.push_back(field);
                    packed.push_back(value);
                    true
                }
            },
            Hash::PackedTtl(packed) => packed.set(field, value, expiry, now),
            Hash::Table(table) => return table.set(field, value, expiry, now, seed),
        };
        if self.len() > limits.hash_max_listpack_entries {
            self.convert_to_table(seed);
        }
        is_new
    }

    /// Removes a field; true if there was one whose time is not over.
    pub fn remove(&mut self, field: &[u8], now: UnixMs, seed: HashSeed) -> bool {
        match self {
            Hash::Packed(packed) => {
                let place = find(packed, field, 1);
                place.map(|place| packed.delete_range(place, 2)).is_some()
            }
            Hash::PackedTtl(packed) => {
                let triples = &mut packed.triples;
                let Some(place) = find(triples, field, 2) else {
                    return false;
                };
                let is_live = !is_over(expiry_at(triples, place), now);
                triples.delete_range(place, 3);
                is_live
            }
            Hash::Table(table) => {
                let Some(spot) = table.fields.find(seed.hash(field), field) else {
                    return false;
                };
                let expiry = table.fields.remove(spot, seed, |field| field.expiry());
                table.expiries.strike(expiry);
                !is_over(expiry, now)
            }
        }
    }

    /// Adds to the integer in a field, 0 if there is none, and keeps the expiry (HINCRBY).
    pub fn increment(
        &mut self,
        field: &[u8],
        delta: i64,
        now: UnixMs,
        limits: &Limits,
        seed: HashSeed,
    ) -> Result<i64, IncrementError> {
        let old = match self.as_ref().get(field, now, seed) {
            Some(item) => item.to_i64().ok_or(IncrementError::NotANumber)?,
            None => 0,
        };
        let new = old.checked_add(delta).ok_or(IncrementError::OutOfRange)?;
        let mut digits = itoa::Buffer::new();
        self.set(
            field,
            digits.format(new).as_bytes(),
            FieldExpiry::Keep,
            now,
            limits,
            seed,
        );
        Ok(new)
    }

    /// Adds to the number in a field, 0 if there is none, and keeps the expiry (HINCRBYFLOAT). Answers the new text.
    pub fn increment_float(
        &mut self,
        field: &[u8],
        delta: LongDouble,
        now: UnixMs,
        limits: &Limits,
        seed: HashSeed,
    ) -> Result<Vec<u8>, IncrementError> {
        let old = match self.as_ref().get(field, now, seed) {
            Some(Item::Int(integer)) => LongDouble::from_i64(integer),
            Some(Item::Bytes(text)) => LongDouble::parse(text).ok_or(IncrementError::NotANumber)?,
            None => LongDouble::from_i64(0),
        };
        let new = old + delta;
        if !new.is_finite() {
            return Err(IncrementError::OutOfRange);
        }
        let text = new.to_human();
        self.set(field, &text, FieldExpiry::Keep, now, limits, seed);
        Ok(text)
    }

    /// Sets, changes or removes the expiry of a field; false if there is no such field whose time is not over.
    pub fn set_expiry(&mut self, field: &[u8], expiry: Option<UnixMs>, now: UnixMs, seed: HashSeed) -> bool {
        let Some(old) = self.as_ref().expiry(field, now, seed) else {
            return false;
        };
        if old == expiry {
            return true;
        }
        if let Hash::Packed(packed) = self {
            *self = Hash::PackedTtl(Box::new(PackedTtl::of(packed)));
        }
        match self {
            Hash::Packed(_) => unreachable!("it was converted above"),
            Hash::PackedTtl(packed) => packed.set_expiry(field, expiry),
            Hash::Table(table) => {
                if let Some(spot) = table.fields.find(seed.hash(field), field) {
                    table.fields.edit(spot, |field| field.set_expiry(expiry));
                    table.expiries.strike(old);
                    table.expiries.enter(expiry);
                }
            }
        }
        true
    }

    /// Takes out fields whose time is over, looking at about `examined_max` that have an expiry (a page of the table more at
    /// most), and answers which. As long as `next_expiry` is in the past there may be more.
    pub fn expire_fields(&mut self, now: UnixMs, examined_max: usize, seed: HashSeed) -> Vec<Box<[u8]>> {
        match self {
            Hash::Packed(_) => Vec::new(),
            Hash::PackedTtl(packed) => packed.expire(now),
            Hash::Table(table) => table.expire(now, examined_max, seed),
        }
    }

    /// Frees about as many fields; true when nothing is left. After the first call it can only be freed further or dropped.
    pub fn free_step(&mut self, elements_max: usize) -> bool {
        match self {
            Hash::Packed(_) | Hash::PackedTtl(_) => {
                *self = Hash::new();
                true
            }
            Hash::Table(table) => table.fields.free_step(elements_max),
        }
    }

    /// Whether a packed hash may take a field and value of at most `longest` bytes each, `added` in all.
    fn packed_takes(&self, longest: usize, added: usize, limits: &Limits) -> bool {
        let packed = match self {
            Hash::Packed(packed) => packed,
            Hash::PackedTtl(packed) => &packed.triples,
            Hash::Table(_) => return true,
        };
        longest <= limits.hash_max_listpack_value && packed.fits(added + Listpack::entry_bytes(&[b'9'; 20]))
    }

    /// Makes it a hash table.
    fn convert_to_table(&mut self, seed: HashSeed) {
        let mut table = Box::<HashTable>::default();
        let (mut field_digits, mut value_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        self.as_ref().for_each_with_expiry(|field, value, expiry| {
            let field = field.as_bytes(&mut field_digits);
            let element = FieldValue::new(field, value.as_bytes(&mut value_digits), expiry);
            table.expiries.enter(expiry);
            table.fields.insert(seed.hash(field), element, seed);
        });
        *self = Hash::Table(table);
    }
}

/// Whether an expiry is in the past.
#[inline]
fn is_over(expiry: Option<UnixMs>, now: UnixMs) -> bool {
    expiry.is_some_and(|expiry| now > expiry)
}

/// Where a field is, in a listpack where `skip` elements follow each field.
#[inline]
fn find(packed: &Listpack, field: &[u8], skip: usize) -> Option<Place> {
    packed.find(packed.first()?, field, skip)
}

/// The place of the expiry that belongs to the field there.
fn expiry_place(triples: &Listpack, field: Place) -> Place {
    let place = triples.next(field).and_then(|value| triples.next(value));
    place.expect("three elements belong to each field")
}

fn expiry_at(triples: &Listpack, field: Place) -> Option<UnixMs> {
    expiry_of(triples.get(expiry_place(triples, field)))
}

/// An expiry as an element: 0 for none.
fn expiry_of(item: Item<'_>) -> Option<UnixMs> {
    let at = item.to_i64().map_or(0, |at| at as u64);
    (at != 0).then_some(UnixMs(at))
}

/// The other way round. What lies beyond an `i64` comes back as it was.
fn expiry_number(expiry: Option<UnixMs>) -> i64 {
    // The very beginning of time stands for none, and is over just as much a millisecond later.
    expiry.map_or(0, |UnixMs(at)| at.max(1) as i64)
}

impl PackedTtl {
    /// The same fields, without expiries.
    fn of(packed: &Listpack) -> PackedTtl {
        let mut triples = Listpack::new();
        for (index, item) in packed.iter().enumerate() {
            triples.push_item(item);
            if index % 2 == 1 {
                triples.push_int(0);
            }
        }
        PackedTtl {
            triples,
            bound: u64::MAX,
        }
    }

    fn set(&mut self, field: &[u8], value: &[u8], expiry: FieldExpiry, now: UnixMs) -> bool {
        let Some(place) = find(&self.triples, field, 2) else {
            self.triples.push_back(field);
            self.triples.push_back(value);
            self.triples.push_int(0);
            return true;
        };
        let old = expiry_at(&self.triples, place);
        if old.is_some() && (expiry == FieldExpiry::Clear || is_over(old, now)) {
            self.triples.replace_int(expiry_place(&self.triples, place), 0);
        }
        let value_place = self.triples.next(place).expect("three elements belong to each field");
        self.triples.replace(value_place, value);
        is_over(old, now)
    }

    fn set_expiry(&mut self, field: &[u8], expiry: Option<UnixMs>) {
        if let Some(place) = find(&self.triples, field, 2) {
            let place = expiry_place(&self.triples, place);
            let number = expiry_number(expiry);
            self.triples.replace_int(place, number);
            if number != 0 {
                self.bound = self.bound.min(number as u64);
            }
        }
    }

    fn expire(&mut self, now: UnixMs) -> Vec<Box<[u8]>> {
        let mut over = Vec::new();
        if now.0 <= self.bound {
            return over;
        }
        self.bound = u64::MAX;
        let mut next = self.triples.first();
        while let Some(place) = next {
            match expiry_at(&self.triples, place) {
                Some(expiry) if now > expiry => {
                    over.push(self.triples.get(place).to_vec().into());
                    next = self.triples.delete_range(place, 3);
                    continue;
                }
                Some(UnixMs(at)) => self.bound = self.bound.min(at),
                None => {}
            }
            next = self.triples.next(expiry_place(&self.triples, place));
        }
        over
    }
}

impl Expiries {
    fn enter(&mut self, expiry: Option<UnixMs>) {
        if let Some(UnixMs(at)) = expiry {
            self.volatile_count += 1;
            self.bound = self.bound.min(at);
            self.earliest_seen = self.earliest_seen.min(at);
        }
    }

    fn strike(&mut self, expiry: Option<UnixMs>) {
        if expiry.is_some() {
            self.volatile_count -= 1;
            if self.volatile_count == 0 {
                (self.bound, self.walk, self.earliest_seen) = (u64::MAX, 0, u64::MAX);
            }
        }
    }
}

impl HashTable {
    fn set(&mut self, field: &[u8], value: &[u8], expiry: FieldExpiry, now: UnixMs, seed: HashSeed) -> bool {
        let hash = seed.hash(field);
        let Some(spot) = self.fields.find(hash, field) else {
            self.fields.insert(hash, FieldValue::new(field, value, None), seed);
            return true;
        };
        let mut old = None;
        let mut is_kept = true;
        self.fields.edit(spot, |element| {
            old = element.as_ref().expiry();
            if old.is_some() && (expiry == FieldExpiry::Clear || is_over(old, now)) {
                element.set_expiry(None);
                is_kept = false;
            }
            element.set_value(value);
        });
        if !is_kept {
            self.expiries.strike(old);
        }
        is_over(old, now)
    }

    /// A walk over the pages that goes on where it stopped; when it has come round, the next bound is known.
    fn expire(&mut self, now: UnixMs, examined_max: usize, seed: HashSeed) -> Vec<Box<[u8]>> {
        let mut over: Vec<Box<[u8]>> = Vec::new();
        let mut examined = 0;
        while now.0 > self.expiries.bound && examined < examined_max {
            if self.expiries.walk == 0 {
                self.expiries.earliest_seen = u64::MAX;
            }
            let first_over = over.len();
            let view = self.fields.page_view(self.expiries.walk);
            // A page without any still counts for one: a walk over a large table must end.
            examined += 1;
            for field in view.flagged() {
                examined += 1;
                match field.expiry() {
                    Some(expiry) if now > expiry => over.push(field.field().into()),
                    Some(UnixMs(at)) => self.expiries.earliest_seen = self.expiries.earliest_seen.min(at),
                    None => {}
                }
            }
            self.expiries.walk = view.next_hash.unwrap_or(0);
            if self.expiries.walk == 0 {
                self.expiries.bound = self.expiries.earliest_seen;
            }
            for field in &over[first_over..] {
                if let Some(spot) = self.fields.find(seed.hash(field), field) {
                    let expiry = self.fields.remove(spot, seed, |field| field.expiry());
                    self.expiries.strike(expiry);
                }
            }
        }
        over
    }
}

impl Hash {
    /// Asserts all invariants, by counting again.
    pub fn check(&self, seed: HashSeed) {
        let mut fields = std::collections::HashSet::new();
        let (mut volatile_count, mut earliest) = (0, u64::MAX);
        self.as_ref().for_each_with_expiry(|field, _, expiry| {
            assert!(fields.insert(field.to_vec()), "invariant 1");
            if let Some(UnixMs(at)) = expiry {
                volatile_count += 1;
                earliest = earliest.min(at);
            }
        });
        assert_eq!(fields.len(), self.len());
        match self {
            Hash::Packed(_) => {}
            Hash::PackedTtl(packed) => assert!(packed.bound <= earliest, "invariant 3"),
            Hash::Table(table) => {
                table.fields.check(seed);
                assert!(table.expiries.bound <= earliest, "invariant 3");
                assert_eq!(table.expiries.volatile_count, volatile_count, "invariant 4");
            }
        }
    }
}
