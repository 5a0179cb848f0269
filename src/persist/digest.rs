//! DEBUG DIGEST: a fingerprint of a data set that does not depend on the order in which it is walked.
//!
//! Two servers with the same keys, values and kinds of expiry have the same fingerprint, Redis's included: tests of replication and
//! persistence compare it. It is built of two operations on 20 bytes:
//!
//! * *add*: exclusive-or with the SHA-1 of some bytes. The order of additions does not matter.
//! * *mix*: add, then replace the whole by its own SHA-1. The order matters.
//!
//! ```text
//! value   = mix(type number, 4 bytes big-endian) elements add("!!expire!!" if it has an expiry)
//!           elements of a string: mix(string); of a list: mix(each element)
//!           of a set: add(each member)
//!           of a hash, for each field: add(mix(field) mix(value), begun anew, add("!!hexpire!!") if it has an expiry)
//!           of a sorted set, for each member: add(mix(member) mix(score), begun anew), the score with 17 digits
//!           of a stream, for each entry: mix(ms.seq) and for each field: mix(name) mix(value)
//! key     = mix(key) and then as the value, on the same 20 bytes
//! dataset = for each db that has keys, ascending: mix(db number, 4 bytes big-endian), then add each key's 20 bytes
//! ```
//!
//! Since keys of a db are only added, shards can each answer for theirs ([`DbDigest`]), and one of them puts it together
//! ([`DatasetDigest`]). When a key expires does not count, only that it does.

use crate::base::numbers::format_f64_shortest;
use crate::data::stream::StreamId;
use crate::data::{ObjectRef, ValueType};
use crate::store::{EntryRef, ValueRef};
use sha1::{Digest as _, Sha1};

/// The fingerprint of a value, a key, or more.
pub type Digest = [u8; 20];

/// The fingerprint of nothing: what a key that does not exist has.
pub const EMPTY: Digest = [0; 20];

/// Redis's number of a type.
fn type_number(value_type: ValueType) -> u32 {
    match value_type {
        ValueType::String => 0,
        ValueType::List => 1,
        ValueType::Set => 2,
        ValueType::SortedSet => 3,
        ValueType::Hash => 4,
        ValueType::Stream => 6,
    }
}

/// The fingerprint of an entry's value and of whether it expires (DEBUG DIGEST-VALUE).
pub fn digest_value(entry: EntryRef<'_>) -> Digest {
    let mut digest = EMPTY;
    mix_value(&mut digest, entry);
    digest
}

/// The fingerprint of an entry with its key.
pub fn digest_entry(entry: EntryRef<'_>) -> Digest {
    let mut digest = EMPTY;
    mix(&mut digest, entry.key());
    mix_value(&mut digest, entry);
    digest
}

/// The fingerprint of some of the keys of one db.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DbDigest {
    keys: Digest,
    /// How many keys it covers: a db without any has no part in the whole.
    pub key_count: usize,
}

impl DbDigest {
    /// Counts a key in.
    pub fn mix_key(&mut self, entry: EntryRef<'_>) {
        add(&mut self.keys, &digest_entry(entry));
        self.key_count += 1;
    }

    /// Counts in what another shard has of the same db.
    pub fn merge(&mut self, other: &DbDigest) {
        xor(&mut self.keys, &other.keys);
        self.key_count += other.key_count;
    }
}

/// The fingerprint of a data set, db by db.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatasetDigest(Digest);

impl DatasetDigest {
    /// Counts the next db in: dbs come in ascending order, each once.
    pub fn mix_db(&mut self, number: u32, db: &DbDigest) {
        if db.key_count > 0 {
            mix(&mut self.0, &number.to_be_bytes());
            xor(&mut self.0, &db.keys);
        }
    }

    /// The whole.
    pub fn finish(self) -> Digest {
        self.0
    }
}

/// The 40 hexadecimal digits that DEBUG answers.
pub fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mix_value(digest: &mut Digest, entry: EntryRef<'_>) {
    mix(digest, &type_number(entry.type_of()).to_be_bytes());
    match entry.value() {
        ValueRef::Int(number) => mix(digest, itoa::Buffer::new().format(number).as_bytes()),
        ValueRef::Inline(text) => mix(digest, text),
        ValueRef::Shared(text) => mix(digest, text),
        ValueRef::Object(object) => mix_object(digest, object),
    }
    if entry.expiry().is_some() {
        add(digest, b"!!expire!!");
    }
}

fn mix_object(digest: &mut Digest, object: ObjectRef<'_>) {
    let mut digits = itoa::Buffer::new();
    match object {
        ObjectRef::List(list) => {
            list.for_each(|element| mix(digest, element.as_bytes(&mut itoa::Buffer::new())));
        }
        ObjectRef::Hash(hash) => hash.for_each_with_expiry(|field, value, expiry| {
            let mut pair = EMPTY;
            mix(&mut pair, field.as_bytes(&mut itoa::Buffer::new()));
            mix(&mut pair, value.as_bytes(&mut itoa::Buffer::new()));
            if expiry.is_some() {
                add(&mut pair, b"!!hexpire!!");
            }
            add(digest, &pair);
        }),
        ObjectRef::Set(set) => set.for_each(|member| add(digest, member.as_bytes(&mut itoa::Buffer::new()))),
        ObjectRef::SortedSet(set) => {
            for element in set.iter() {
                let mut pair = EMPTY;
                mix(&mut pair, element.member.as_bytes(&mut digits));
                // By the fewest digits that read back, as in 7.2; 7.0 took 17.
                mix(&mut pair, &format_f64_shortest(element.score));
                add(digest, &pair);
            }
        }
        ObjectRef::Stream(stream) => {
            for entry in stream.entries.range(StreamId::MIN, StreamId::MAX) {
                mix(digest, format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                for (name, value) in entry.fields() {
                    mix(digest, name.as_bytes(&mut digits));
                    mix(digest, value.as_bytes(&mut digits));
                }
            }
        }
    }
}

fn xor(digest: &mut Digest, other: &Digest) {
    for (byte, other) in digest.iter_mut().zip(other) {
        *byte ^= other;
    }
}

fn add(digest: &mut Digest, bytes: &[u8]) {
    xor(digest, &Sha1::digest(bytes).into());
}

fn mix(digest: &mut Digest, bytes: &[u8]) {
    add(digest, bytes);
    *digest = Sha1::digest(*digest).into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMs;
    use crate::base::hash::HashSeed;
    use crate::data::sorted_set::{AddOptions, SortedSet};
    use crate::data::string::StringForm;
    use crate::data::{Limits, TypedValue};
    use crate::store::OwnedEntry;

    #[test]
    fn redis_answers_these() {
        // DEBUG DIGEST-VALUE and DEBUG DIGEST after `SET k hello` in db 0 alone, redis-server 7.0.15.
        let entry = OwnedEntry::string(b"k", b"hello", StringForm::Detect, None, 0);
        assert_eq!(
            hex(&digest_value(entry.as_ref())),
            "36b23a1456b2dce2c3ed252c456761301dba8060"
        );
        let mut db = DbDigest::default();
        db.mix_key(entry.as_ref());
        let mut whole = DatasetDigest::default();
        whole.mix_db(0, &db);
        assert_eq!(hex(&whole.finish()), "d101db227d1e3b31616b18b0b8700f84c3ffa5e9");
    }

    #[test]
    fn scores_are_mixed_by_their_shortest_digits() {
        // DEBUG DIGEST-VALUE after `ZADD z SCORE m`, redis-server 8.2.3 and valkey-server 9.1.2.
        for (score, start) in [
            (0.1, "7e1bae26"),
            (1e17, "70af2b12"),
            (123456789012345678.0, "27353e3c"),
            (1e-7, "d8fb3b79"),
            (0.00001, "4cbaeaf1"),
            (5e-324, "a102ea8b"),
            (3e300, "bcf0e305"),
            (f64::NEG_INFINITY, "c882cc3e"),
        ] {
            let mut set = SortedSet::new();
            set.add(HashSeed([1, 2]), b"m", score, AddOptions::default(), &Limits::default());
            let entry = OwnedEntry::object(b"z", set.into_object(), None, 0);
            assert_eq!(hex(&digest_value(entry.as_ref()))[..8], *start, "{score}");
        }
    }

    #[test]
    fn order_and_partition_do_not_matter_but_expiry_does() {
        let entries: Vec<OwnedEntry> = (0..10)
            .map(|n| OwnedEntry::int(format!("key:{n}").as_bytes(), n, None, 0))
            .collect();
        let over = |range: &mut dyn Iterator<Item = &OwnedEntry>| {
            let mut db = DbDigest::default();
            range.for_each(|entry| db.mix_key(entry.as_ref()));
            db
        };
        let whole = over(&mut entries.iter());
        let mut parts = over(&mut entries[6..].iter());
        parts.merge(&over(&mut entries[..6].iter().rev()));
        assert_eq!(parts, whole);
        assert_ne!(over(&mut entries[1..].iter()), whole);
        let expiring = OwnedEntry::int(b"key:0", 0, Some(UnixMs(5)), 0);
        assert_ne!(digest_value(expiring.as_ref()), digest_value(entries[0].as_ref()));
        let mut digest = DatasetDigest::default();
        digest.mix_db(3, &DbDigest::default());
        assert_eq!(digest.finish(), EMPTY, "a db without keys has no part");
    }
}
