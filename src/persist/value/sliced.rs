//! A large value written in slices, while it changes.
//!
//! What is written is what the value was when it was frozen (`data::frozen`), and is a value of the same type and layout as
//! [`write()`](super::write()) makes of it at once: whoever reads it sees no difference. There are three that can be seen in the bytes. A
//! string is not compressed, since that takes all of it at once. The
//! elements of a set, a sorted set or a hash that has changed since stand in another order. And a hash with expiries begins with a time before which no
//! field expires, rather than with the earliest expiry itself: finding that would take a walk over the whole value before its first slice, and
//! the format means no more by it than what the expiries are counted from.

use super::super::rdb::RdbWriter;
use super::{STRING, hash, list, lowest_version, set, sorted_set, stream, write_object};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;
use crate::data::ObjectRef;
use crate::data::frozen::{Head, Lent, Part, Sink, Use};

/// The writing of one value, from its first slice to its last.
#[derive(Clone, Debug)]
pub struct SlicedValue {
    compresses: bool,
    rdb_version: u16,
    /// What stands behind the type byte in a file.
    key: Option<Box<[u8]>>,
    kind: u8,
    /// What the expiries of a hash are counted from.
    earliest: Option<UnixMs>,
}

impl SlicedValue {
    /// Nothing is written yet. `rdb_version` and `compresses` are as for [`write()`](super::write()).
    pub fn new(rdb_version: u16, compresses: bool) -> SlicedValue {
        SlicedValue {
            compresses,
            rdb_version,
            key: None,
            kind: 0,
            earliest: None,
        }
    }

    /// The same, with the key between type byte and value, as [`write_keyed()`](super::write_keyed()).
    pub fn keyed(rdb_version: u16, compresses: bool, key: &[u8]) -> SlicedValue {
        SlicedValue {
            key: Some(key.into()),
            ..SlicedValue::new(rdb_version, compresses)
        }
    }

    /// Writes about `effort` more parts of a value behind what is in `out`; true when that were the last. One that is not frozen is written
    /// whole, as it is.
    pub fn write_slice(&mut self, out: &mut Vec<u8>, value: &mut Lent<'_>, seed: HashSeed, effort: usize) -> bool {
        let key = self.key.take();
        let mut writing = Writing {
            writer: match &key {
                Some(key) => RdbWriter::keyed(out, self.compresses, key),
                None => RdbWriter::new(out, self.compresses),
            },
            value: self,
        };
        value.read_slice(Use::Snapshot, seed, effort, &mut writing)
    }

    /// The RDB version whose layout it took, known from the first slice on.
    pub fn rdb_version(&self) -> u16 {
        self.rdb_version
    }

    /// The lowest version that can hold what was written, known from the first slice on.
    pub fn lowest_rdb_version(&self) -> u16 {
        lowest_version(self.kind)
    }
}

/// One slice.
struct Writing<'w, 'o> {
    writer: RdbWriter<'o>,
    value: &'w mut SlicedValue,
}

impl Sink for Writing<'_, '_> {
    fn whole(&mut self, object: ObjectRef<'_>) {
        self.value.rdb_version = write_object(&mut self.writer, object, self.value.rdb_version);
        self.value.kind = self.writer.last_kind();
    }

    fn begin(&mut self, head: Head) {
        match head {
            Head::Set { len } => set::begin(&mut self.writer, len),
            Head::List { node_count } => list::begin(&mut self.writer, node_count),
            Head::Stream { block_count } => stream::begin(&mut self.writer, block_count, self.value.rdb_version),
            Head::String { len } => {
                self.writer.kind(STRING);
                self.writer.length(len as u64);
            }
            Head::SortedSet { len } => sorted_set::begin(&mut self.writer, len),
            Head::Hash { len, earliest } => {
                self.value.earliest = earliest;
                self.value.rdb_version = hash::begin(&mut self.writer, len, earliest, self.value.rdb_version);
            }
        }
        self.value.kind = self.writer.last_kind();
    }

    fn part(&mut self, part: Part<'_>) {
        match part {
            Part::Member(member) => self.writer.string(member),
            Part::Bytes(bytes) => self.writer.raw(bytes),
            Part::Block(block) => stream::write_block(&mut self.writer, block),
            Part::Numbers(numbers, group_count) => stream::write_numbers(&mut self.writer, numbers, group_count),
            Part::Group(group) => stream::write_group(&mut self.writer, group),
            Part::Pending(pending) => stream::write_pending(&mut self.writer, pending),
            Part::Consumers(count) => stream::write_consumer_count(&mut self.writer, count),
            Part::Consumer(consumer) => stream::write_consumer(&mut self.writer, consumer, self.value.rdb_version),
            Part::Ids(ids) => stream::write_ids(&mut self.writer, ids),
            Part::Node(node) => list::write_node(&mut self.writer, node),
            Part::Scored(member, score) => sorted_set::write_element(&mut self.writer, member, score),
            Part::Field(field, value, expiry) => {
                hash::write_field(&mut self.writer, field, value, expiry, self.value.earliest);
            }
        }
    }
}

// Not among the fuzzers, whose copy of this module knows no digests.
#[cfg(test)]
#[cfg(not(fuzzing))]
mod tests {
    use super::super::super::digest::digest_value;
    use super::super::super::rdb::RdbReader;
    use super::super::{Making, Value, write_keyed};
    use super::*;
    use crate::data::Object;
    use crate::data::hash::{FieldExpiry, Hash};
    use crate::data::list::{End, List};
    use crate::data::set::Set;
    use crate::data::sorted_set::{AddOptions, SortedSet};
    use crate::data::stream::{Group, Stream, StreamId, Trim, TrimBound};
    use crate::data::string::LongString;
    use crate::data::{Limits, TypedValue};
    use crate::store::OwnedEntry;

    const SEED: HashSeed = HashSeed([55, 89]);
    const BEGINNING: UnixMs = UnixMs(0);
    const VERSION: u16 = 11;

    /// A large value, and a change that touches some of it.
    struct Case {
        object: Object,
        change: fn(&mut Object, usize),
    }

    fn of<T: TypedValue>(object: &mut Object) -> &mut T {
        T::of_mut(object).expect("the type stays")
    }

    fn set() -> Case {
        let mut set = Set::default();
        for n in 0..2000 {
            set.add(format!("member {n}").as_bytes(), &Limits::default(), SEED);
        }
        Case {
            object: set.into_object(),
            change: |object, n| {
                let set: &mut Set = of(object);
                set.add(format!("other {n}").as_bytes(), &Limits::default(), SEED);
                set.remove(format!("member {}", n * 7).as_bytes(), SEED);
            },
        }
    }

    fn set_field(hash: &mut Hash, n: usize, value: &str) {
        let (field, expiry) = (format!("field {n}"), FieldExpiry::Clear);
        hash.set(
            field.as_bytes(),
            value.as_bytes(),
            expiry,
            BEGINNING,
            &Limits::default(),
            SEED,
        );
    }

    fn hash(expires: bool) -> Case {
        let mut hash = Hash::default();
        for n in 0..2000 {
            // Long enough to be compressed.
            set_field(&mut hash, n, &format!("value {n} {}", "v".repeat(n % 50)));
            if expires && n % 3 > 0 {
                let expiry = Some(UnixMs(1_000_000 + 7 * n as u64));
                hash.set_expiry(format!("field {n}").as_bytes(), expiry, BEGINNING, SEED);
            }
        }
        Case {
            object: hash.into_object(),
            change: |object, n| {
                let hash: &mut Hash = of(object);
                set_field(hash, n * 3, "new");
                set_field(hash, 10_000 + n, "new");
                hash.remove(format!("field {}", n * 7).as_bytes(), BEGINNING, SEED);
                let expiry = Some(UnixMs(1000 + n as u64));
                hash.set_expiry(format!("field {}", n * 11).as_bytes(), expiry, BEGINNING, SEED);
            },
        }
    }

    fn sorted_set() -> Case {
        fn add(set: &mut SortedSet, n: usize, score: f64) {
            let member = format!("member {n}");
            set.add(
                SEED,
                member.as_bytes(),
                score,
                AddOptions::default(),
                &Limits::default(),
            );
        }
        let mut set = SortedSet::default();
        (0..2000).for_each(|n| add(&mut set, n, (n * 37 % 500) as f64 / 3.0));
        Case {
            object: set.into_object(),
            change: |object, n| {
                let set: &mut SortedSet = of(object);
                add(set, 10_000 + n, n as f64);
                add(set, n * 3, -(n as f64));
                add(set, n * 5, n as f64 + 1000.0);
                set.remove(SEED, format!("member {}", n * 7).as_bytes());
            },
        }
    }

    fn list(compress_depth: usize) -> Case {
        let limits = Limits {
            list_max_listpack_size: 10,
            list_compress_depth: compress_depth,
            list_packed_threshold: 200,
            ..Limits::default()
        };
        let mut list = List::default();
        for n in 0..3000 {
            // Some too long to be packed.
            list.push(End::Back, "element ".repeat(1 + n % 27).as_bytes(), &limits);
        }
        Case {
            object: list.into_object(),
            change: |object, n| {
                let (list, limits): (&mut List, _) = (of(object), Limits::default());
                list.push(End::Front, b"front", &limits);
                list.push(End::Back, b"back", &limits);
                list.set((n * 7) as i64, b"set", &limits);
                list.pop(End::Back, &limits, |_| ());
                if n % 4 > 0 {
                    list.pop(End::Front, &limits, |_| ());
                }
                list.insert_before(b"set", b"inserted", &limits);
            },
        }
    }

    fn stream() -> Case {
        fn append(stream: &mut Stream, n: usize) {
            let words = [b"field".to_vec(), format!("value {n}").into_bytes()];
            let id = StreamId::new(n as u64, 0);
            let words = words.iter().map(Vec::as_slice);
            assert!(stream.entries.append(id, words, &Limits::default()).is_ok());
        }
        let mut stream = Stream::new();
        stream.groups.add(Group::new(b"group", StreamId::MIN, Some(0)));
        (1..10_000).for_each(|n| append(&mut stream, n));
        Case {
            object: stream.into_object(),
            change: |object, n| {
                let stream: &mut Stream = of(object);
                append(stream, 1_000_000 + stream.entries.added() as usize);
                stream.entries.delete(StreamId::new((n * 7 + 1) as u64, 0));
                stream.entries.trim(&Trim {
                    bound: TrimBound::MinId(StreamId::new(n as u64, 0)),
                    is_approximate: false,
                    limit: None,
                });
                if let Some(group) = stream.groups.get_mut(b"group") {
                    let (consumer, _) = group.add_consumer(format!("consumer {n}").as_bytes(), UnixMs(n as u64));
                    group.deliver(StreamId::new(n as u64, 0), consumer, UnixMs(7));
                    group.advance(StreamId::new(n as u64, 0), &stream.entries);
                }
            },
        }
    }

    fn cases() -> Vec<Case> {
        vec![stream(), set(), hash(false), hash(true), sorted_set(), list(0), list(2)]
    }

    fn write_whole(object: ObjectRef<'_>) -> (Vec<u8>, u16) {
        let mut out = Vec::new();
        let version = write_object(&mut RdbWriter::new(&mut out, true), object, VERSION);
        (out, version)
    }

    fn write_sliced(object: &mut Object, mut between: impl FnMut(&mut Object, usize)) -> (Vec<u8>, u16, usize) {
        let (mut out, mut slices) = (Vec::new(), 0);
        let mut value = SlicedValue::new(VERSION, true);
        while !value.write_slice(&mut out, &mut Lent::Object(object), SEED, 100) {
            slices += 1;
            between(object, slices);
        }
        (out, value.rdb_version(), slices)
    }

    fn read(bytes: &[u8]) -> Object {
        let (mut reader, limits) = (RdbReader::new(bytes), Limits::default());
        let making = Making {
            limits: &limits,
            seed: SEED,
        };
        let value = Value::read(&mut reader, making, VERSION).unwrap();
        assert_eq!(reader.left(), 0, "the value ends where its bytes end");
        match value {
            Value::Object(object) => object,
            Value::String(_) => panic!("an object was written"),
        }
    }

    /// Everything that is known of a value: what the digest sees, and when which field expires.
    fn picture(object: &Object) -> impl PartialEq + use<> {
        let mut expiries = Vec::new();
        if let Object::Hash(hash) = object {
            hash.as_ref()
                .for_each_with_expiry(|field, _, expiry| expiries.push((field.to_vec(), expiry)));
        }
        expiries.sort();
        // Groups and numbers of a stream, which the digest does not see.
        let bytes = matches!(object, Object::Stream(_)).then(|| write_whole(object.as_ref()).0);
        let entry = OwnedEntry::object(b"", object.clone(), None, 0);
        (
            bytes,
            digest_value(entry.as_ref()),
            object.as_ref().encoding(),
            expiries,
        )
    }

    #[test]
    fn slices_of_what_does_not_change_are_the_whole() {
        for mut case in cases() {
            let whole = write_whole(case.object.as_ref());
            case.object.freeze(Use::Snapshot);
            let (bytes, version, slices) = write_sliced(&mut case.object, |_, _| ());
            assert!(slices > 3, "{:?} takes several slices", case.object);
            assert!((&bytes, version) == (&whole.0, whole.1), "{:?}", case.object);
        }
    }

    #[test]
    fn slices_of_what_changes_make_what_it_was() {
        for mut case in cases() {
            let was = case.object.clone();
            (case.change)(&mut case.object, 1000);
            // Frozen when it is no longer as it was made, so that nothing depends on that.
            let frozen = case.object.clone();
            case.object.freeze(Use::Snapshot);
            (0..20).for_each(|n| (case.change)(&mut case.object, n));
            let (bytes, version, slices) = write_sliced(&mut case.object, |object, slice| {
                (0..20).for_each(|n| (case.change)(object, slice * 20 + n));
            });
            assert!(slices > 3);
            assert_eq!(version, write_whole(frozen.as_ref()).1);
            let read = read(&bytes);
            assert!(picture(&read) == picture(&frozen), "{frozen:?}");
            assert!(picture(&read) != picture(&was) && picture(&read) != picture(&case.object));
        }
    }

    /// What a file has of an entry, and what it says of it, whether it is written at once or not.
    #[test]
    fn a_key_stands_once_and_at_its_place() {
        for mut case in cases() {
            let entry = OwnedEntry::object(b"the key", case.object.clone(), None, 0);
            let mut whole = Vec::new();
            let lowest = write_keyed(&mut whole, entry.as_ref(), true, VERSION);
            for is_frozen in [false, true] {
                if is_frozen {
                    case.object.freeze(Use::Snapshot);
                }
                let (mut out, mut value) = (Vec::new(), SlicedValue::keyed(VERSION, true, b"the key"));
                while !value.write_slice(&mut out, &mut Lent::Object(&mut case.object), SEED, 100) {}
                assert!(
                    (out == whole) && value.lowest_rdb_version() == lowest,
                    "{:?}",
                    case.object
                );
            }
        }
    }

    /// A string is written as it is, as no slice of it can be compressed by itself; read it is the same.
    #[test]
    fn slices_of_a_string_are_its_bytes() {
        let was = b"a text that could be compressed ".repeat(10_000);
        for is_frozen in [false, true] {
            let mut string = LongString::with_capacity(was.len(), &was);
            if is_frozen {
                Lent::String(&mut string).freeze(Use::Snapshot);
            }
            let (mut out, mut value) = (Vec::new(), SlicedValue::keyed(VERSION, true, b"key"));
            let mut slices = 1;
            while !value.write_slice(&mut out, &mut Lent::String(&mut string), SEED, 100) {
                slices += 1;
                string.edit(0, |bytes| bytes.write_all().fill(b'x'));
                string.append(b"tail");
            }
            assert_eq!((slices > 20, value.lowest_rdb_version()), (is_frozen, 0));
            let mut reader = RdbReader::new(&out);
            assert_eq!(reader.byte(), Ok(STRING));
            assert_eq!(reader.string().unwrap(), &b"key"[..]);
            assert!(reader.string().unwrap() == was && reader.left() == 0);
        }
    }

    #[test]
    fn what_is_not_frozen_is_one_slice() {
        for mut case in cases() {
            let whole = write_whole(case.object.as_ref());
            let (bytes, version, slices) = write_sliced(&mut case.object, |_, _| ());
            assert_eq!((bytes, version, slices), (whole.0, whole.1, 0));
        }
    }
}
