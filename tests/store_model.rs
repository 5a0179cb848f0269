//! The store against a model of it: random operations on a slot and on a plain map give the same answers.
//!
//! The model is as naive as can be: a sorted map of values, from which everything whose time is over vanishes at once when
//! the clock advances, and of which an undo keeps a whole copy.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use shardis::base::clock::UnixMs;
use shardis::base::numbers::parse_i64;
use shardis::base::random::Random;
use shardis::data::access::Moment;
use shardis::data::list::{End, List};
use shardis::data::set::Set;
use shardis::data::string::StringForm;
use shardis::data::{Encoding, Limits, ObjectRef, TypedValue};
use shardis::store::{
    Access, DbIndex, Edited, Expiry, Happening, HashSeed, OwnedEntry, Slot, Told, WatchToken, WrongType,
};

const DB_COUNT: u32 = 3;
const BULK_DB: u32 = 1;
/// What the model has for the encoding of a set, whichever it is.
const OF_SETS: Encoding = Encoding::Hashtable;

type Name = (u32, Vec<u8>);

#[derive(Clone, Debug, PartialEq)]
struct Value {
    bytes: Vec<u8>,
    encoding: Encoding,
    expiry: Option<u64>,
}

#[derive(Clone, Default)]
struct Model {
    entries: BTreeMap<Name, Value>,
    /// For each open watch: the key, and whether it has changed.
    watches: Vec<(Name, bool)>,
}

impl Model {
    fn touch(&mut self, name: &Name) {
        for (watched, is_changed) in &mut self.watches {
            *is_changed |= watched == name;
        }
    }

    fn set(&mut self, name: Name, value: Value) {
        self.touch(&name);
        self.entries.insert(name, value);
    }

    fn remove(&mut self, name: &Name) -> Option<Value> {
        let value = self.entries.remove(name)?;
        self.touch(name);
        Some(value)
    }

    fn clear(&mut self, db: u32) {
        let names: Vec<Name> = self.entries.keys().filter(|name| name.0 == db).cloned().collect();
        names.iter().for_each(|name| drop(self.remove(name)));
    }

    fn swap(&mut self, a: u32, b: u32) {
        let other = |db| {
            if db == a {
                b
            } else if db == b {
                a
            } else {
                db
            }
        };
        for (name, is_changed) in &mut self.watches {
            let exists = |db: u32| self.entries.contains_key(&(db, name.1.clone()));
            *is_changed |= (name.0 == a || name.0 == b) && a != b && (exists(a) || exists(b));
        }
        let entries = std::mem::take(&mut self.entries);
        self.entries = entries
            .into_iter()
            .map(|((db, key), value)| ((other(db), key), value))
            .collect();
    }

    fn len(&self, db: u32) -> usize {
        self.entries.keys().filter(|name| name.0 == db).count()
    }
}

#[derive(Clone, Debug)]
enum Change {
    Set(StringForm, Vec<u8>, Expiry),
    SetInt(i64),
    Append(Vec<u8>),
    SetRange(usize, Vec<u8>),
    Remove,
    Rename(u32, u8),
    Copy(u32, u8),
    Expire(Option<u64>),
    Get,
    /// Adds members of a range of numbers to a set, or removes them.
    Members(u16, u16, bool),
    /// Stores a set of a range of numbers over anything.
    SetMembers(u16, u16, Expiry),
}

#[derive(Clone, Debug)]
enum Step {
    Change(u32, u8, Change),
    Fill(u16, u16, bool),
    Unfill(u16, u16),
    Clear(u32),
    ClearAll,
    Swap(u32, u32),
    Advance(u64),
    ExpireSome(usize),
    Watch(u32, u8),
    Unwatch(usize),
    Begin,
    Rollback,
    Commit,
    ScanBegin(u32),
    ScanOn(usize),
    RandomKey(u32, u64),
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..60),
        2 => any::<i64>().prop_map(|integer| integer.to_string().into_bytes()),
        1 => (0usize..20_000).prop_map(|len| (0..len).map(|i| (i * 7) as u8).collect()),
    ]
}

/// Relative to the present: a past expiry is a command's business and never reaches the store.
fn expiry() -> impl Strategy<Value = Expiry> {
    prop_oneof![
        Just(Expiry::Keep),
        Just(Expiry::Clear),
        (0u64..50).prop_map(|ms| Expiry::At(UnixMs(ms)))
    ]
}

fn form() -> impl Strategy<Value = StringForm> {
    prop_oneof![4 => Just(StringForm::Detect), 1 => Just(StringForm::Text), 1 => Just(StringForm::Raw)]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (form(), bytes(), expiry()).prop_map(|(form, bytes, expiry)| Change::Set(form, bytes, expiry)),
        1 => any::<i64>().prop_map(Change::SetInt),
        2 => bytes().prop_map(Change::Append),
        2 => (0usize..9000, bytes()).prop_map(|(offset, part)| Change::SetRange(offset, part)),
        2 => Just(Change::Remove),
        1 => (0..DB_COUNT, 0u8..8).prop_map(|(db, key)| Change::Rename(db, key)),
        1 => (0..DB_COUNT, 0u8..8).prop_map(|(db, key)| Change::Copy(db, key)),
        2 => prop::option::of(0u64..50).prop_map(Change::Expire),
        2 => Just(Change::Get),
        4 => (0u16..300, 0u16..200, any::<bool>()).prop_map(|(from, count, adds)| Change::Members(from, count, adds)),
        1 => (0u16..300, 1u16..200, expiry()).prop_map(|(from, count, expiry)| Change::SetMembers(from, count, expiry)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0..DB_COUNT, 0u8..8, change()).prop_map(|(db, key, change)| Step::Change(db, key, change)),
        2 => (0u16..2000, 0u16..600, any::<bool>()).prop_map(|(from, count, expire)| Step::Fill(from, count, expire)),
        2 => (0u16..2000, 0u16..1500).prop_map(|(from, count)| Step::Unfill(from, count)),
        1 => (0..DB_COUNT).prop_map(Step::Clear),
        1 => Just(Step::ClearAll),
        2 => (0..DB_COUNT, 0..DB_COUNT).prop_map(|(a, b)| Step::Swap(a, b)),
        6 => (0u64..20).prop_map(Step::Advance),
        3 => (1usize..300).prop_map(Step::ExpireSome),
        6 => (0..DB_COUNT, 0u8..8).prop_map(|(db, key)| Step::Watch(db, key)),
        2 => any::<usize>().prop_map(Step::Unwatch),
        3 => Just(Step::Begin),
        2 => Just(Step::Rollback),
        2 => Just(Step::Commit),
        3 => (0..DB_COUNT).prop_map(Step::ScanBegin),
        12 => (1usize..200).prop_map(Step::ScanOn),
        2 => (0..DB_COUNT, any::<u64>()).prop_map(|(db, seed)| Step::RandomKey(db, seed)),
    ]
}

/// A SCAN under way.
struct Scan {
    db: u32,
    next: Option<u64>,
    /// What was there at the beginning and has been there all the time.
    stable: BTreeSet<Vec<u8>>,
    seen: BTreeSet<Vec<u8>>,
}

struct World {
    slot: Slot,
    model: Model,
    before_undo: Option<Model>,
    tokens: Vec<WatchToken>,
    scan: Option<Scan>,
    now: u64,
    expired: BTreeMap<Name, usize>,
    reported: BTreeMap<Name, usize>,
}

fn hot_key(key: u8) -> Vec<u8> {
    format!("key:{key}").into_bytes()
}

fn bulk_key(n: u16) -> Vec<u8> {
    format!("bulk:{n}").into_bytes()
}

fn member(n: u16) -> Vec<u8> {
    format!("member:{n}").into_bytes()
}

/// What the model has for the bytes of a set.
fn bytes_of(members: &BTreeSet<Vec<u8>>) -> Vec<u8> {
    members.iter().cloned().collect::<Vec<_>>().join(&b'\n')
}

fn members_of(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn encoding_of(bytes: &[u8], form: StringForm) -> Encoding {
    match form {
        StringForm::Detect if parse_i64(bytes).is_some() => Encoding::Int,
        StringForm::Detect | StringForm::Text if bytes.len() <= 44 => Encoding::Embstr,
        _ => Encoding::Raw,
    }
}

impl World {
    fn new() -> World {
        World {
            slot: Slot::new(7, HashSeed([1, 2])),
            model: Model::default(),
            before_undo: None,
            tokens: Vec::new(),
            scan: None,
            now: 1_000_000,
            expired: BTreeMap::new(),
            reported: BTreeMap::new(),
        }
    }

    fn at(&self) -> Moment {
        Moment::lru(UnixMs(self.now))
    }

    fn change(&mut self, db: u32, key: &[u8], change: Change) {
        let (at, index) = (self.at(), DbIndex(db));
        let name = (db, key.to_vec());
        let old = self.model.entries.get(&name).cloned();
        let old_expiry = old.as_ref().and_then(|value| value.expiry);
        let slot = &mut self.slot;
        let (limits, seed) = (Limits::default(), HashSeed([1, 2]));
        let later = |expiry| match expiry {
            Expiry::At(UnixMs(ms)) => Expiry::At(UnixMs(self.now + ms)),
            other => other,
        };
        let resolved = |expiry| match expiry {
            Expiry::Keep => old_expiry,
            Expiry::Clear => None,
            Expiry::At(UnixMs(ms)) => Some(ms),
        };
        let is_set = old.as_ref().is_some_and(|old| old.encoding == OF_SETS);
        match change {
            // Who changes a string in place has looked at the type.
            Change::Append(_) | Change::SetRange(..) if is_set => {}
            Change::Members(from, count, adds) => {
                let edit = |set: &mut Set| {
                    let range = from..from + count;
                    let changed = match adds {
                        true => range.filter(|n| set.add(&member(*n), &limits, seed)).count(),
                        false => range.filter(|n| set.remove(&member(*n), seed)).count(),
                    };
                    Edited::when(changed > 0, changed)
                };
                let changed = match adds {
                    true => slot.edit_or_create(index, key, at, edit).map(Some),
                    false => slot.edit(index, key, at, edit),
                };
                if old.is_some() && !is_set {
                    assert_eq!(changed, Err(WrongType));
                    return;
                }
                let mut members = old.map_or(BTreeSet::new(), |old| members_of(&old.bytes));
                let count_before = members.len();
                for n in from..from + count {
                    match adds {
                        true => members.insert(member(n)),
                        false => members.remove(&member(n)),
                    };
                }
                let difference = members.len().abs_diff(count_before);
                assert_eq!(changed.map(Option::unwrap_or_default), Ok(difference));
                if members.is_empty() {
                    self.model.remove(&name);
                } else if difference > 0 {
                    let value = Value {
                        bytes: bytes_of(&members),
                        encoding: OF_SETS,
                        expiry: old_expiry,
                    };
                    self.model.set(name, value);
                }
            }
            Change::SetMembers(from, count, expiry) => {
                let expiry = later(expiry);
                let mut set = Set::default();
                let members: BTreeSet<Vec<u8>> = (from..from + count).map(member).collect();
                for member in &members {
                    set.add(member, &limits, seed);
                }
                slot.set_object(index, key, set.into_object(), expiry, at);
                let value = Value {
                    bytes: bytes_of(&members),
                    encoding: OF_SETS,
                    expiry: resolved(expiry),
                };
                self.model.set(name, value);
            }
            Change::Set(form, bytes, expiry) => {
                let expiry = later(expiry);
                if bytes.len() % 2 == 0 {
                    slot.set_string(index, key, &bytes, form, expiry, at);
                } else {
                    slot.set_shared(index, key, bytes.clone().into(), form, expiry, at);
                }
                let expiry = resolved(expiry);
                let encoding = encoding_of(&bytes, form);
                self.model.set(
                    name,
                    Value {
                        bytes,
                        encoding,
                        expiry,
                    },
                );
            }
            Change::SetInt(integer) => {
                slot.set_int(index, key, integer, Expiry::Keep, at);
                let bytes = integer.to_string().into_bytes();
                self.model.set(
                    name,
                    Value {
                        bytes,
                        encoding: Encoding::Int,
                        expiry: old_expiry,
                    },
                );
            }
            Change::Append(tail) => {
                let len = slot.append(index, key, &tail, at);
                let value = match old {
                    None => Value {
                        encoding: encoding_of(&tail, StringForm::Detect),
                        bytes: tail,
                        expiry: None,
                    },
                    Some(old) => Value {
                        bytes: [old.bytes, tail].concat(),
                        encoding: Encoding::Raw,
                        expiry: old.expiry,
                    },
                };
                assert_eq!(len, value.bytes.len());
                self.model.set(name, value);
            }
            Change::SetRange(offset, part) => {
                let len = slot.set_range(index, key, offset, &part, at);
                let mut bytes = old.map_or(Vec::new(), |value| value.bytes);
                bytes.resize(bytes.len().max(offset + part.len()), 0);
                bytes[offset..offset + part.len()].copy_from_slice(&part);
                assert_eq!(len, bytes.len());
                self.model.set(
                    name,
                    Value {
                        bytes,
                        encoding: Encoding::Raw,
                        expiry: old_expiry,
                    },
                );
            }
            Change::Remove => {
                assert_eq!(slot.remove(index, key, at), old.is_some());
                self.model.remove(&name);
            }
            Change::Rename(to_db, to) => {
                let taken = slot.take(index, key, at);
                assert_eq!(taken.is_some(), old.is_some());
                if let Some(entry) = taken {
                    slot.put(DbIndex(to_db), &hot_key(to), entry, at);
                    let value = self.model.remove(&name).unwrap();
                    self.model.set((to_db, hot_key(to)), value);
                }
            }
            Change::Copy(to_db, to) => {
                let copy = slot.get(index, key, at, Access::Read).map(|entry| entry.to_owned());
                assert_eq!(copy.is_some(), old.is_some());
                if let Some(entry) = copy {
                    slot.put(DbIndex(to_db), &hot_key(to), entry, at);
                    self.model.set((to_db, hot_key(to)), old.unwrap());
                }
            }
            Change::Expire(ms) => {
                let expiry = ms.map(|ms| self.now + ms);
                assert_eq!(slot.set_expiry(index, key, expiry.map(UnixMs), at), old.is_some());
                if let Some(old) = old {
                    self.model.set(name, Value { expiry, ..old });
                }
            }
            Change::Get => {
                let found = slot
                    .get(index, key, at, Access::Read)
                    .map(|entry| read(entry.to_owned()));
                assert_eq!(found, old);
            }
        }
    }

    /// What is no longer there, or not the same any more in the sense of SCAN's promise.
    fn keep_stable(&mut self) {
        let World { scan, model, .. } = self;
        if let Some(scan) = scan {
            scan.stable
                .retain(|key| model.entries.contains_key(&(scan.db, key.clone())));
        }
    }

    fn finish_expiry(&mut self) {
        while self.slot.expire_step(UnixMs(self.now), 1000).is_unfinished {}
    }

    fn collect_reports(&mut self) {
        for Told { db, key, .. } in self.slot.take_told() {
            *self.reported.entry((db.0, key.to_vec())).or_default() += 1;
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change(db, key, change) => self.change(db, &hot_key(key), change),
            Step::Fill(from, count, expires) => {
                for n in from..from + count {
                    let expiry = if expires {
                        Expiry::At(UnixMs(u64::from(n % 40)))
                    } else {
                        Expiry::Clear
                    };
                    let value = format!("{n}");
                    self.change(
                        BULK_DB,
                        &bulk_key(n),
                        Change::Set(StringForm::Text, value.into_bytes(), expiry),
                    );
                }
            }
            Step::Unfill(from, count) => {
                (from..from + count).for_each(|n| self.change(BULK_DB, &bulk_key(n), Change::Remove));
            }
            // Redis (and the store) let an entry whose time is over count as existing in these two until it is noticed;
            // the model has no such entries.
            Step::Clear(db) => {
                self.finish_expiry();
                let mut detached = self.slot.clear_db(DbIndex(db));
                while !detached.free_step(100) {}
                self.model.clear(db);
            }
            Step::ClearAll => {
                self.finish_expiry();
                drop(self.slot.clear_all());
                (0..DB_COUNT).for_each(|db| self.model.clear(db));
            }
            Step::Swap(a, b) => {
                self.finish_expiry();
                self.slot.swap_dbs(DbIndex(a), DbIndex(b), self.at());
                self.model.swap(a, b);
                if let Some(scan) = &mut self.scan
                    && a != b
                    && (scan.db == a || scan.db == b)
                {
                    scan.stable.clear();
                }
            }
            Step::Advance(ms) if self.before_undo.is_none() => {
                self.now += ms;
                let over: Vec<Name> = self
                    .model
                    .entries
                    .iter()
                    .filter(|(_, value)| value.expiry.is_some_and(|expiry| self.now > expiry))
                    .map(|(name, _)| name.clone())
                    .collect();
                for name in over {
                    self.model.remove(&name);
                    *self.expired.entry(name).or_default() += 1;
                }
            }
            Step::ExpireSome(budget) => {
                let step = self.slot.expire_step(UnixMs(self.now), budget);
                assert!(step.examined_count < budget + 141);
                if !step.is_unfinished {
                    assert!(self.slot.next_expiry().is_none_or(|UnixMs(bound)| bound >= self.now));
                }
            }
            Step::Watch(db, key) if self.before_undo.is_none() => {
                self.tokens.push(self.slot.watch(DbIndex(db), &hot_key(key), self.at()));
                self.model.watches.push(((db, hot_key(key)), false));
            }
            Step::Unwatch(index) if self.before_undo.is_none() && !self.tokens.is_empty() => {
                let index = index % self.tokens.len();
                self.slot.unwatch(self.tokens.remove(index));
                self.model.watches.remove(index);
            }
            Step::Begin if self.before_undo.is_none() => {
                self.slot.begin_undo();
                self.before_undo = Some(self.model.clone());
            }
            Step::Rollback => {
                if let Some(model) = self.before_undo.take() {
                    self.slot.rollback();
                    self.model = model;
                    self.check_all();
                }
            }
            Step::Commit => {
                if self.before_undo.take().is_some() {
                    let mut detached = self.slot.commit_undo();
                    while !detached.free_step(50) {}
                }
            }
            Step::ScanBegin(db) => {
                let stable = self
                    .model
                    .entries
                    .keys()
                    .filter(|name| name.0 == db)
                    .map(|name| name.1.clone());
                self.scan = Some(Scan {
                    db,
                    next: Some(0),
                    stable: stable.collect(),
                    seen: BTreeSet::new(),
                });
            }
            Step::ScanOn(count) => self.scan_on(count),
            Step::RandomKey(db, seed) => {
                let mut random = Random::with_seed(seed);
                let drawn = self.slot.random_key(DbIndex(db), &mut random, self.at());
                let drawn = drawn.map(|entry| entry.key().to_vec());
                match drawn {
                    Some(key) => assert!(self.model.entries.contains_key(&(db, key))),
                    None => assert_eq!(self.model.len(db), 0),
                }
            }
            Step::Advance(_) | Step::Watch(..) | Step::Unwatch(_) | Step::Begin => {}
        }
        self.keep_stable();
        if let Some(mut discarded) = self.slot.take_discarded() {
            while !discarded.free_step(20) {}
        }
        if self.before_undo.is_none() {
            self.collect_reports();
        }
        for (token, (_, is_changed)) in self.tokens.iter().zip(&self.model.watches) {
            assert_eq!(self.slot.is_unchanged(token, self.at()), !is_changed, "{token:?}");
        }
    }

    fn scan_on(&mut self, count: usize) {
        let Some(mut scan) = self.scan.take() else {
            return;
        };
        let Some(from) = scan.next else { return };
        let mut visited = 0;
        scan.next = self.slot.scan(DbIndex(scan.db), from, count, self.at(), |entry| {
            visited += 1;
            assert!(self.model.entries.contains_key(&(scan.db, entry.key().to_vec())));
            scan.seen.insert(entry.key().to_vec());
        });
        // Entries of equal position come together; more than a few of them there are not.
        assert!(visited <= count + 4, "{visited} of {count}");
        match scan.next {
            Some(next) => assert!(next > from && next < 1 << 38),
            None => {
                let missed: Vec<_> = scan.stable.difference(&scan.seen).collect();
                assert!(missed.is_empty(), "missed {missed:?}");
            }
        }
        self.scan = Some(scan);
    }

    fn check_all(&mut self) {
        self.slot.check();
        let now = UnixMs(self.now);
        let mut found = BTreeMap::new();
        for db in 0..DB_COUNT {
            self.slot.for_each(DbIndex(db), now, |entry| {
                found.insert((db, entry.key().to_vec()), read(entry.to_owned()));
                assert_eq!(
                    self.slot
                        .peek(DbIndex(db), entry.key(), now)
                        .map(|e| read(e.to_owned())),
                    Some(read(entry.to_owned()))
                );
            });
        }
        assert_eq!(found, self.model.entries);
    }

    /// When everything that is due has been noticed, counts agree too.
    fn check_counts(&mut self) {
        self.finish_expiry();
        self.collect_reports();
        self.check_all();
        for db in 0..DB_COUNT {
            let of_db = || {
                self.model
                    .entries
                    .iter()
                    .filter(move |(name, _)| name.0 == db)
                    .map(|(_, value)| value)
            };
            assert_eq!(self.slot.len(DbIndex(db)), of_db().count());
            assert_eq!(
                self.slot.expires(DbIndex(db)),
                of_db().filter(|value| value.expiry.is_some()).count()
            );
            let sum: u128 = of_db().filter_map(|value| value.expiry).map(u128::from).sum();
            assert_eq!(self.slot.expiry_sum_ms(DbIndex(db)), sum);
        }
        assert_eq!(self.slot.key_count(), self.model.entries.len());
        let dbs: BTreeSet<u32> = self.model.entries.keys().map(|name| name.0).collect();
        assert_eq!(
            self.slot.dbs().map(|db| db.0).collect::<Vec<_>>(),
            dbs.into_iter().collect::<Vec<_>>()
        );
        assert_eq!(self.reported, self.expired, "each expiry is reported once");
    }
}

fn read(entry: OwnedEntry) -> Value {
    let entry = entry.as_ref();
    if let Some(ObjectRef::Set(set)) = entry.object() {
        let mut members = BTreeSet::new();
        set.for_each(|member| {
            members.insert(member.to_vec());
        });
        return Value {
            bytes: bytes_of(&members),
            encoding: OF_SETS,
            expiry: entry.expiry().map(|expiry| expiry.0),
        };
    }
    Value {
        bytes: entry.value().as_bytes(&mut itoa::Buffer::new()).to_vec(),
        encoding: entry.encoding(),
        expiry: entry.expiry().map(|expiry| expiry.0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_its_model(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.check_all();
        world.step(Step::Commit);
        world.check_counts();
        for token in std::mem::take(&mut world.tokens) {
            world.slot.unwatch(token);
        }
        assert_eq!(world.slot.watched_count(), 0);
        drop(world.slot.clear_all());
        assert_eq!((world.slot.used_bytes(), world.slot.key_count()), (0, 0));
    }

    /// Over tables that become two levels deep and flat again between two steps of the cursor.
    #[test]
    fn scan_keeps_its_promise_while_the_table_changes_shape(
        seed in any::<[u64; 2]>(),
        rounds in prop::collection::vec((any::<bool>(), 0u32..60_000, 1usize..400), 1..40),
    ) {
        let mut slot = Slot::new(0, HashSeed(seed));
        let (db, at) = (DbIndex(5), Moment::lru(UnixMs(1)));
        let stable: BTreeSet<Vec<u8>> = (0..300u32).map(|n| format!("stable:{n}").into_bytes()).collect();
        for key in &stable {
            slot.set_string(db, key, b"", StringForm::Detect, Expiry::Clear, at);
        }
        let mut seen = BTreeSet::new();
        let mut next = Some(0);
        let mut rounds = rounds.into_iter().cycle().take(2000);
        while let Some(from) = next {
            if let Some((grows, size, count)) = rounds.next() {
                // Doing little is cheap, and a jump in size happens often enough.
                let range = if size % 7 == 0 { 0..size } else { 0..size % 64 };
                for n in range {
                    if grows {
                        slot.set_int(db, &n.to_be_bytes(), 0, Expiry::Clear, at);
                    } else {
                        slot.remove(db, &n.to_be_bytes(), at);
                    }
                }
                next = slot.scan(db, from, count, at, |entry| {
                    seen.insert(entry.key().to_vec());
                });
            } else {
                next = slot.scan(db, from, 1000, at, |entry| {
                    seen.insert(entry.key().to_vec());
                });
            }
        }
        slot.check();
        prop_assert!(stable.is_subset(&seen));
    }
}

#[test]
fn large_strings_grow_in_place_unless_they_are_held() {
    let mut slot = Slot::new(0, HashSeed([1, 2]));
    let (db, at) = (DbIndex(0), Moment::lru(UnixMs(0)));
    slot.set_string(db, b"k", &vec![b'x'; 1 << 20], StringForm::Detect, Expiry::Clear, at);
    let held = match slot.get(db, b"k", at, Access::Read).unwrap().value() {
        shardis::store::ValueRef::Shared(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    slot.append(db, b"k", b"y", at);
    assert_eq!(
        (held.len(), held[held.len() - 1]),
        (1 << 20, b'x'),
        "what is held does not change"
    );
    let address = |slot: &Slot| match slot.peek(db, b"k", at.now).unwrap().value() {
        shardis::store::ValueRef::Shared(bytes) => bytes.as_ptr() as usize,
        other => panic!("{other:?}"),
    };
    // The buffer doubles: few moves in many appends.
    let mut moves = 0;
    let mut last = address(&slot);
    for _ in 0..20_000 {
        slot.append(db, b"k", &[b'z'; 100], at);
        let here = address(&slot);
        moves += usize::from(here != last);
        last = here;
    }
    assert!(moves <= 3, "{moves} moves");
    assert!(
        slot.used_bytes() >= (1 << 20) + 2_000_001,
        "what the buffer has beyond its length is accounted"
    );
    slot.check();
}

fn expired(db: DbIndex, key: &[u8]) -> Told {
    Told {
        db,
        key: key.into(),
        what: Happening::Expired,
    }
}

#[test]
fn an_expired_key_is_gone_for_every_operation() {
    let (db, key) = (DbIndex(0), b"k".as_slice());
    let (before, after) = (Moment::lru(UnixMs(10)), Moment::lru(UnixMs(11)));
    let slot_with_key = || {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        slot.set_string(db, key, b"1", StringForm::Detect, Expiry::At(UnixMs(10)), before);
        assert!(
            slot.get(db, key, before, Access::Read).is_some(),
            "at its last millisecond it lives"
        );
        slot
    };
    let operations: [fn(&mut Slot, Moment); 10] = [
        |slot, at| assert!(slot.get(DbIndex(0), b"k", at, Access::Peek).is_none()),
        |slot, at| assert!(!slot.remove(DbIndex(0), b"k", at)),
        |slot, at| assert!(slot.take(DbIndex(0), b"k", at).is_none()),
        |slot, at| assert!(!slot.set_expiry(DbIndex(0), b"k", None, at)),
        |slot, at| assert_eq!(slot.append(DbIndex(0), b"k", b"xy", at), 2),
        |slot, at| assert_eq!(slot.set_range(DbIndex(0), b"k", 1, b"x", at), 2),
        |slot, at| slot.set_int(DbIndex(0), b"k", 5, Expiry::Keep, at),
        |slot, at| assert_eq!(slot.scan(DbIndex(0), 0, 10, at, |_| panic!("it is gone")), None),
        |slot, at| assert_eq!(slot.expire_step(at.now, 10).expired_count, 1),
        |slot, at| assert!(slot.random_key(DbIndex(0), &mut Random::with_seed(1), at).is_none()),
    ];
    for (index, operation) in operations.iter().enumerate() {
        let mut slot = slot_with_key();
        operation(&mut slot, after);
        let expected = [expired(db, key)];
        assert_eq!(slot.take_told(), expected, "operation {index}");
        assert_eq!(slot.expires(db), 0, "operation {index}: what came after has no expiry");
        slot.check();
    }
    let slot = slot_with_key();
    assert!(slot.peek(db, key, after.now).is_none());
    assert_eq!(slot.len(db), 1, "peek only hides it");
}

#[test]
fn an_expired_key_that_is_kept_is_gone_for_everybody_and_there() {
    const DB: DbIndex = DbIndex(0);
    const KEY: &[u8] = b"k";
    let before = Moment::lru(UnixMs(10));
    let during = Moment::lru(UnixMs(11)).keeping_stale();
    let after = Moment::lru(UnixMs(11));
    let slot_with_key = || {
        let mut slot = Slot::new(0, HashSeed([1, 2]));
        slot.set_string(DB, KEY, b"1", StringForm::Detect, Expiry::At(UnixMs(10)), before);
        slot
    };
    let leaving: [fn(&mut Slot, Moment); 8] = [
        |slot, at| assert!(slot.get(DB, KEY, at, Access::Read).is_none()),
        |slot, at| assert!(!slot.remove(DB, KEY, at)),
        |slot, at| assert!(slot.take(DB, KEY, at).is_none()),
        |slot, at| assert!(!slot.set_expiry(DB, KEY, None, at)),
        |slot, at| assert!(slot.change_int(DB, KEY, at, |old| old.map(|_| 1).ok_or(())).is_err()),
        |slot, at| assert_eq!(slot.scan(DB, 0, 10, at, |_| panic!("it is hidden")), None),
        |slot, at| assert!(slot.random_key(DB, &mut Random::with_seed(1), at).is_none()),
        |slot, at| {
            let token = slot.watch(DB, KEY, at);
            assert!(slot.is_unchanged(&token, at));
            slot.unwatch(token);
        },
    ];
    for (index, operation) in leaving.iter().enumerate() {
        let mut slot = slot_with_key();
        operation(&mut slot, during);
        assert_eq!(slot.take_told(), [], "operation {index}");
        assert_eq!((slot.len(DB), slot.expires(DB)), (1, 1), "operation {index}");
        slot.check();
        assert!(slot.get(DB, KEY, after, Access::Peek).is_none());
        assert_eq!((slot.len(DB), slot.take_told().len()), (0, 1), "operation {index}");
    }
    let replacing: [fn(&mut Slot, Moment); 6] = [
        |slot, at| assert_eq!(slot.append(DB, KEY, b"xy", at), 2),
        |slot, at| assert_eq!(slot.set_range(DB, KEY, 1, b"x", at), 2),
        |slot, at| slot.set_int(DB, KEY, 5, Expiry::Keep, at),
        |slot, at| {
            assert_eq!(
                slot.change_int(DB, KEY, at, |old| old.map_or(Ok(3), |_| Err(()))),
                Ok(3)
            )
        },
        |slot, at| {
            slot.set_int(DB, b"other", 7, Expiry::Clear, at);
            let entry = slot.take(DB, b"other", at).unwrap();
            slot.put(DB, KEY, entry, at);
        },
        |slot, at| {
            let pushed = slot.edit_or_create(DB, KEY, at, |list: &mut List| {
                list.push(End::Back, b"x", &Limits::default());
                Edited::Changed(list.len())
            });
            assert_eq!(pushed, Ok(1));
        },
    ];
    for (index, operation) in replacing.iter().enumerate() {
        let mut slot = slot_with_key();
        operation(&mut slot, during);
        assert_eq!(
            slot.take_told(),
            [expired(DB, KEY)],
            "operation {index}: the log must tell"
        );
        assert_eq!((slot.len(DB), slot.expires(DB)), (1, 0), "operation {index}");
        assert!(slot.get(DB, KEY, after, Access::Peek).is_some(), "operation {index}");
        slot.check();
    }
}

#[test]
fn where_most_keys_are_over_and_kept_a_live_one_is_drawn() {
    let during = Moment::lru(UnixMs(11)).keeping_stale();
    let mut slot = Slot::new(0, HashSeed([1, 2]));
    for n in 0..2000u32 {
        let expiry = Expiry::At(UnixMs(10));
        slot.set_int(DbIndex(0), &n.to_be_bytes(), 0, expiry, Moment::lru(UnixMs(1)));
    }
    slot.set_int(DbIndex(0), b"live", 0, Expiry::Clear, during);
    for seed in 0..20 {
        let drawn = slot.random_key(DbIndex(0), &mut Random::with_seed(seed), during);
        assert_eq!(drawn.map(|entry| entry.key().to_vec()).as_deref(), Some(&b"live"[..]));
    }
    assert_eq!(slot.len(DbIndex(0)), 2001);
}
