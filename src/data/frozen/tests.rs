//! Frozen values against a model: the value as it was at the freeze, copied.
//!
//! A run freezes a value for both uses at any time, changes it in any way that commands would, reads slices, rolls back, thaws,
//! and looks after each step that nothing is lost, twice, or as it became later.

use super::*;
use crate::base::random::{Random, fewer_if_checked};
use crate::data::copying::Copying;
use crate::data::hash::FieldExpiry;
use crate::data::list::{End, NewNode};
use crate::data::listpack::Listpack;
use crate::data::sorted_set::AddOptions;
use crate::data::stream::{Block, Claim, Group, Numbers, Stream, StreamId, Trim, TrimBound};
use crate::data::{Limits, TypedValue};
use std::collections::BTreeMap;

const SEED: HashSeed = HashSeed([21, 34]);

/// One part as it was read, in a form that can be compared.
type Written = (Vec<u8>, Vec<u8>, Option<u64>);

/// Everything of a value, in an order of its own: what a type does not order is sorted.
fn picture(object: ObjectRef<'_>) -> Vec<Written> {
    let mut all = Vec::new();
    match object {
        ObjectRef::Set(set) => set.for_each(|member| all.push((member.to_vec(), Vec::new(), None))),
        ObjectRef::Hash(hash) => hash.for_each_with_expiry(|field, value, expiry| {
            all.push((field.to_vec(), value.to_vec(), expiry.map(|at| at.0)));
        }),
        ObjectRef::List(list) => {
            list.for_each(|item| all.push((item.to_vec(), Vec::new(), None)));
            return all;
        }
        ObjectRef::SortedSet(set) => {
            for element in set.iter() {
                let score = element.score.to_bits().to_be_bytes().to_vec();
                all.push((element.member.to_vec(), score, None));
            }
        }
        ObjectRef::Stream(stream) => {
            stream.entries.blocks().for_each(|block| all.push(of_block(block)));
            of_rest(stream, &mut all);
            return all;
        }
    }
    all.sort();
    all
}

fn of_block(block: &Block) -> Written {
    (
        format!("{:?}", block.id()).into_bytes(),
        block.listpack().as_bytes().to_vec(),
        None,
    )
}

fn of_numbers(numbers: &Numbers, group_count: usize) -> Written {
    told(&(numbers, group_count))
}

fn told(what: &dyn std::fmt::Debug) -> Written {
    (format!("{what:?}").into_bytes(), Vec::new(), None)
}

/// Everything of a stream behind its blocks.
fn of_rest(stream: &Stream, all: &mut Vec<Written>) {
    all.push(of_numbers(&stream.entries.numbers(), stream.groups.len()));
    for group in stream.groups.iter() {
        all.push(told(&group.head()));
        group
            .pending_from(StreamId::MIN)
            .for_each(|pending| all.push(told(pending)));
        all.push(told(&group.consumer_count()));
        for consumer in group.consumers() {
            all.push(told(&consumer.head()));
            consumer.pending_from(StreamId::MIN).for_each(|id| all.push(told(&id)));
        }
    }
}

/// Collects what is read of a frozen value, and compares it with what it was.
#[derive(Default)]
struct Reading {
    head: Option<Head>,
    parts: Vec<Written>,
    nodes: usize,
}

impl Sink for Reading {
    fn whole(&mut self, _object: ObjectRef<'_>) {
        panic!("it is frozen");
    }

    fn begin(&mut self, head: Head) {
        assert!(self.head.replace(head).is_none() && self.parts.is_empty());
    }

    fn part(&mut self, part: Part<'_>) {
        assert!(self.head.is_some(), "the beginning comes first");
        if let Part::Node(node) = part {
            self.nodes += 1;
            let list = match node.is_plain() {
                true => NewNode::Plain(node.bytes()),
                false => NewNode::Packed(Listpack::from_bytes(node.bytes()).unwrap()),
            };
            let list = List::from_nodes([list], &Limits::default());
            self.parts.extend(picture(ObjectRef::List(list.as_ref())));
            return;
        }
        self.parts.push(match part {
            Part::Block(block) => of_block(block),
            Part::Numbers(numbers, group_count) => of_numbers(numbers, group_count),
            Part::Group(group) => told(group),
            Part::Pending(pending) => told(pending),
            Part::Consumers(count) => told(&count),
            Part::Consumer(consumer) => told(consumer),
            Part::Ids(ids) => return self.parts.extend(ids.iter().map(|id| told(id))),
            Part::Node(_) => unreachable!("it has been taken above"),
            Part::Bytes(_) => unreachable!("it is no string"),
            Part::Member(member) => (member.to_vec(), Vec::new(), None),
            Part::Scored(member, score) => (member.to_vec(), score.to_bits().to_be_bytes().to_vec(), None),
            Part::Field(field, value, expiry) => (field.to_vec(), value.to_vec(), expiry.map(|at| at.0)),
        });
    }
}

impl Reading {
    fn check(mut self, was: &ObjectRef<'_>) {
        match self.head.expect("it was read") {
            Head::Set { len } | Head::SortedSet { len } => assert_eq!(len, was.len()),
            Head::List { node_count } => match was {
                ObjectRef::List(list) => assert_eq!((node_count, self.nodes), (list.node_count(), node_count)),
                other => panic!("{other:?} is no list"),
            },
            Head::Stream { block_count } => {
                let ObjectRef::Stream(stream) = was else {
                    panic!("{was:?} is no stream")
                };
                assert_eq!(block_count, stream.entries.block_count());
            }
            Head::String { .. } => unreachable!("it is no string"),
            Head::Hash { len, earliest } => {
                assert_eq!(len, was.len());
                let expiries = self.parts.iter().filter_map(|part| part.2);
                assert!(earliest.is_none_or(|UnixMs(bound)| expiries.clone().all(|at| bound <= at)));
                assert_eq!(earliest.is_none(), expiries.count() == 0);
            }
        }
        if !matches!(was, ObjectRef::List(_) | ObjectRef::Stream(_)) {
            self.parts.sort();
        }
        assert!(self.parts == picture(*was), "what was read is not what was frozen");
    }
}

/// What a type needs to take part.
struct Kind {
    /// A value with about so many elements.
    make: fn(&mut Random, usize) -> Object,
    /// Changes it as one command would.
    change: fn(&mut Object, &mut Random),
    check: fn(&Object),
}

fn text(random: &mut Random, range: usize) -> Vec<u8> {
    let n = random.below(range);
    // Several size classes, so that a change in place moves some elements and leaves others.
    format!("{n:0width$}", width = 1 + n % 40).into_bytes()
}

/// A run with one value; what it was at each freeze is kept as a copy.
struct Run<'k> {
    kind: &'k Kind,
    random: Random,
    object: Object,
    undo: Option<Object>,
    snapshot: Option<(Object, Reading)>,
    copy: Option<(Object, Copying)>,
    copied: usize,
    finished: usize,
    taken_back: usize,
}

impl<'k> Run<'k> {
    fn new(kind: &'k Kind, seed: u64) -> Run<'k> {
        let mut random = Random::with_seed(seed);
        let len = [70, 200, 3000][random.below(3)];
        Run {
            kind,
            object: (kind.make)(&mut random, len),
            random,
            undo: None,
            snapshot: None,
            copy: None,
            copied: 0,
            finished: 0,
            taken_back: 0,
        }
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0 if self.undo.is_none() && self.object.as_ref().freezes() => {
                self.undo = Some(self.object.clone());
                self.object.freeze(Use::Undo);
            }
            1 | 2 if self.snapshot.is_none() && self.object.as_ref().freezes() => {
                self.snapshot = Some((self.object.clone(), Reading::default()));
                self.object.freeze(Use::Snapshot);
            }
            3 => self.end_undo(),
            4 if self.random.below(8) == 0 && self.snapshot.take().is_some() => {
                self.free(Use::Snapshot);
            }
            5..12 => self.read(),
            12 if self.copy.is_none() && self.object.as_ref().freezes() => {
                let was = self.object.clone();
                self.copy = Some((was, Copying::begin(&mut self.object, &limits())));
            }
            13..16 => self.go_on_copying(),
            _ => {
                for _ in 0..1 + self.random.below(20) {
                    (self.kind.change)(&mut self.object, &mut self.random);
                }
            }
        }
        let seen = self.object.as_ref();
        assert_eq!(seen.is_frozen(Use::Undo), self.undo.is_some());
        assert_eq!(seen.is_frozen(Use::Snapshot), self.snapshot.is_some());
        assert_eq!(seen.is_frozen(Use::Copy), self.copy.is_some());
        if self.undo.is_none() && self.snapshot.is_none() && self.copy.is_none() {
            assert_eq!(seen.kept_bytes(), 0);
        }
    }

    fn end_undo(&mut self) {
        let Some(was) = self.undo.take() else { return };
        if self.random.below(4) == 0 {
            self.free(Use::Undo);
            return;
        }
        self.object.roll_back(SEED);
        (self.kind.check)(&self.object);
        assert!(
            picture(self.object.as_ref()) == picture(was.as_ref()),
            "what was taken back is not as it was"
        );
        self.taken_back += 1;
    }

    fn go_on_copying(&mut self) {
        let Some((was, mut copying)) = self.copy.take() else {
            return;
        };
        if !copying.step(&mut self.object, SEED, 1 + self.random.below(400)) {
            self.copy = Some((was, copying));
            return;
        }
        self.free(Use::Copy);
        let copy = copying.into_object().expect("it is whole");
        (self.kind.check)(&copy);
        assert!(
            picture(copy.as_ref()) == picture(was.as_ref()),
            "it is of when it was begun"
        );
        assert_eq!(copy.as_ref().encoding(), was.as_ref().encoding());
        assert_eq!(
            copy.as_ref().next_expiry().is_some(),
            was.as_ref().next_expiry().is_some()
        );
        self.copied += 1;
    }

    fn free(&mut self, to: Use) {
        let mut spent = self.object.thaw(to);
        while !spent.free_step(50) {}
    }

    fn read(&mut self) {
        let Some((_, reading)) = &mut self.snapshot else {
            return;
        };
        let effort = 1 + self.random.below(400);
        let before = reading.parts.len();
        let is_done = self.object.read_slice(Use::Snapshot, SEED, effort, reading);
        // A page is shown whole, and a node counts as one part if it has few bytes.
        let shown = reading.parts.len() - before;
        assert!(shown < effort * 6 + 300, "a slice has its length");
        if is_done {
            let (was, reading) = self.snapshot.take().unwrap();
            reading.check(&was.as_ref());
            self.free(Use::Snapshot);
            self.finished += 1;
        }
    }
}

fn run(kind: &Kind, seeds: u64) {
    let seeds = fewer_if_checked(seeds);
    let (mut finished, mut taken_back, mut copied) = (0, 0, 0);
    for seed in 0..seeds {
        let mut run = Run::new(kind, seed);
        for step in 0..300 {
            run.step();
            if step % 25 == 0 {
                (kind.check)(&run.object);
            }
        }
        // What it was outlives what has become of it since.
        while run.snapshot.is_some() {
            run.read();
        }
        while run.copy.is_some() {
            run.go_on_copying();
        }
        run.end_undo();
        (kind.check)(&run.object);
        finished += run.finished;
        taken_back += run.taken_back;
        copied += run.copied;
        if seed % 2 == 0 && run.object.as_ref().freezes() {
            run.object.freeze(Use::Snapshot);
            (0..100).for_each(|_| (kind.change)(&mut run.object, &mut run.random));
        }
        while !run.object.free_step(20) {}
    }
    assert!(
        finished as u64 > seeds && taken_back as u64 >= seeds && copied as u64 > seeds,
        "{finished} read, {taken_back} taken back, {copied} copied"
    );
}

/// Small limits, so that what is large enough to freeze is in a table.
fn limits() -> Limits {
    Limits {
        hash_max_listpack_entries: 10,
        set_max_intset_entries: 10,
        set_max_listpack_entries: 10,
        zset_max_listpack_entries: 10,
        ..Limits::default()
    }
}

fn of<T: TypedValue>(object: &mut Object) -> &mut T {
    T::of_mut(object).expect("the type stays")
}

const RANGE: usize = 4000;

const SET: Kind = Kind {
    make: |random, len| {
        let mut set = Set::default();
        while set.len() < len {
            set.add(&text(random, RANGE), &limits(), SEED);
        }
        set.into_object()
    },
    change: |object, random| {
        let set: &mut Set = of(object);
        match random.below(20) {
            0..8 => {
                set.add(&text(random, RANGE), &limits(), SEED);
            }
            8..15 => {
                set.remove(&text(random, RANGE), SEED);
            }
            15..18 => set.pop(1, random, SEED, |_| ()),
            // Most of the value goes, and pages come together.
            18 if random.below(30) == 0 => set.pop(set.len() - set.len() / 8, random, SEED, |_| ()),
            // And comes, and they are split.
            _ if random.below(30) == 0 => {
                (0..RANGE / 2).for_each(|_| {
                    set.add(&text(random, RANGE), &limits(), SEED);
                });
            }
            _ => {}
        }
    },
    check: |object| match object {
        Object::Set(set) => set.check(SEED),
        other => panic!("{other:?}"),
    },
};

const HASH: Kind = Kind {
    make: |random, len| {
        let mut hash = Hash::default();
        while hash.len() < len {
            set_field(&mut hash, random);
        }
        hash.into_object()
    },
    change: |object, random| {
        let hash: &mut Hash = of(object);
        let now = UnixMs(random.below(2000) as u64);
        match random.below(20) {
            0..9 => set_field(hash, random),
            9..14 => {
                hash.remove(&text(random, RANGE), now, SEED);
            }
            14..17 => {
                let expiry = (random.below(4) > 0).then(|| UnixMs(1 + random.below(3000) as u64));
                hash.set_expiry(&text(random, RANGE), expiry, UnixMs(0), SEED);
            }
            17 => {
                hash.expire_fields(now, 20, SEED);
            }
            18 => {
                let _ = hash.increment(&text(random, RANGE), 10_000_000, UnixMs(0), &limits(), SEED);
            }
            _ if random.below(30) == 0 => {
                (0..RANGE).for_each(|_| {
                    hash.remove(&text(random, RANGE), UnixMs(0), SEED);
                });
            }
            _ => {}
        }
    },
    check: |object| match object {
        Object::Hash(hash) => hash.check(SEED),
        other => panic!("{other:?}"),
    },
};

fn set_field(hash: &mut Hash, random: &mut Random) {
    let (field, value) = (text(random, RANGE), text(random, 1000));
    let expiry = if random.below(2) == 0 {
        FieldExpiry::Keep
    } else {
        FieldExpiry::Clear
    };
    hash.set(&field, &value, expiry, UnixMs(0), &limits(), SEED);
}

const SORTED_SET: Kind = Kind {
    make: |random, len| {
        let mut set = SortedSet::default();
        while set.len() < len {
            add_scored(&mut set, random);
        }
        set.into_object()
    },
    change: |object, random| {
        let set: &mut SortedSet = of(object);
        match random.below(20) {
            0..12 => add_scored(set, random),
            12..17 => {
                set.remove(SEED, &text(random, RANGE));
            }
            17 => {
                let from = random.below(set.len() + 1);
                set.remove_ranks(SEED, from..(from + random.below(10)).min(set.len()));
            }
            _ if random.below(50) == 0 => {
                set.remove_ranks(SEED, 0..set.len() - set.len() / 8);
            }
            _ if random.below(50) == 0 => (0..RANGE / 2).for_each(|_| add_scored(set, random)),
            _ => {}
        }
    },
    check: |object| match object {
        Object::SortedSet(set) => set.check(SEED),
        other => panic!("{other:?}"),
    },
};

fn add_scored(set: &mut SortedSet, random: &mut Random) {
    // Few scores, so that members decide, and both zeros among them.
    let score = [random.below(50) as f64 - 25.0, -0.0, random.below(100_000) as f64][random.below(3)];
    set.add(SEED, &text(random, RANGE), score, AddOptions::default(), &limits());
}

const LIST: Kind = Kind {
    make: |random, len| {
        let mut list = List::default();
        // Of few elements that are long, or of many.
        (0..len).for_each(|_| list.push(End::Back, &element(random), &list_limits(random)));
        while !ObjectRef::List(list.as_ref()).freezes() {
            list.push(End::Back, &element(random), &list_limits(random));
        }
        list.into_object()
    },
    change: |object, random| {
        let list: &mut List = of(object);
        let limits = list_limits(random);
        let end = if random.below(2) == 0 { End::Front } else { End::Back };
        let index = random.below(list.len() + 1);
        match random.below(20) {
            0..6 => list.push(end, &element(random), &limits),
            6..10 => {
                list.pop(end, &limits, |_| ());
            }
            10 => list.pop_many(end, random.below(40), &limits, |_| ()),
            11..14 => {
                list.set(index as i64, &element(random), &limits);
            }
            14..17 => {
                let mut pivot = None;
                list.as_ref().get(index as i64, |item| pivot = Some(item.to_vec()));
                if let Some(pivot) = pivot {
                    list.insert_after(&pivot, &element(random), &limits);
                }
            }
            17 => {
                list.remove(random.below(5) as i64 - 2, &element(random), &limits);
            }
            _ if random.below(30) == 0 => list.keep(index / 2..index, &limits),
            _ if random.below(10) == 0 => {
                (0..500).for_each(|_| list.push(end, &element(random), &limits));
            }
            _ => {}
        }
    },
    check: |object| match object {
        Object::List(list) => list.check(0),
        other => panic!("{other:?}"),
    },
};

fn element(random: &mut Random) -> Vec<u8> {
    let mut element = text(random, 300);
    if random.below(50) == 0 {
        element.resize(200, b'p');
    }
    element
}

/// Nodes of few elements, mostly compressed within, and sometimes of one that is not packed.
fn list_limits(random: &mut Random) -> Limits {
    Limits {
        list_max_listpack_size: 3 + random.below(3) as i64,
        list_compress_depth: random.below(3),
        list_packed_threshold: 150,
        ..Limits::default()
    }
}

const STREAM: Kind = Kind {
    make: |random, len| {
        let mut stream = Stream::new();
        (0..len + 500).for_each(|_| append(&mut stream, random));
        (0..5).for_each(|_| add_group(&mut stream, random));
        (0..300).for_each(|_| change_group(&mut stream, random));
        stream.into_object()
    },
    change: |object, random| {
        let stream: &mut Stream = of(object);
        let (first, last) = (stream.entries.first_id().ms, stream.entries.last_id().ms);
        let id = StreamId::new(first + random.below((last - first + 2) as usize) as u64, 0);
        match random.below(20) {
            0..8 => append(stream, random),
            8..14 => {
                stream.entries.delete(id);
            }
            14 => {
                let is_approximate = random.below(2) == 0;
                stream.entries.trim(&Trim {
                    bound: TrimBound::MinId(StreamId::new(first + random.below(5) as u64, 0)),
                    is_approximate,
                    limit: None,
                });
            }
            15..17 => (0..random.below(5)).for_each(|_| change_group(stream, random)),
            17 => add_group(stream, random),
            18 => {
                // Back behind entries that were deleted: a block may come to have the ID of one that has gone.
                while let Some(entry) = stream.entries.last().map(|entry| entry.id)
                    && random.below(4) > 0
                {
                    stream.entries.delete(entry);
                }
                let last = stream.entries.last().map_or(StreamId::MIN, |entry| entry.id);
                stream.entries.set_id(last, None, None);
            }
            _ if random.below(30) == 0 => (0..1000).for_each(|_| append(stream, random)),
            _ if random.below(30) == 0 => {
                stream.entries.trim(&Trim {
                    bound: TrimBound::MinId(id),
                    is_approximate: true,
                    limit: None,
                });
            }
            _ => {}
        }
    },
    check: |object| match object {
        Object::Stream(stream) => stream.check(),
        other => panic!("{other:?}"),
    },
};

/// Adds a group, or takes one away.
fn add_group(stream: &mut Stream, random: &mut Random) {
    let name = group_name(random);
    match random.below(3) {
        0 => drop(stream.groups.remove(&name)),
        _ => drop(stream.groups.add(Group::new(&name, StreamId::MIN, Some(0)))),
    }
}

fn group_name(random: &mut Random) -> Vec<u8> {
    format!("group {}", random.below(8)).into_bytes()
}

/// Changes a group as one command would.
fn change_group(stream: &mut Stream, random: &mut Random) {
    let (first, last) = (stream.entries.first_id().ms, stream.entries.last_id().ms);
    let id = |random: &mut Random| StreamId::new(first + random.below((last - first + 2) as usize) as u64, 0);
    let Stream { entries, groups } = stream;
    let Some(group) = groups.get_mut(&group_name(random)) else {
        return;
    };
    let now = UnixMs(last);
    let name = [b'a' + random.below(6) as u8];
    let id = id(random);
    match random.below(16) {
        0..6 => {
            let (consumer, _) = group.add_consumer(&name, now);
            group.numbered_mut(consumer).seen_at = now;
            group.deliver(id, consumer, now);
        }
        6 => group.advance(id, entries),
        7..10 => {
            let pending = group.pending_from(id).next().map(|pending| pending.id);
            group.acknowledge(pending.unwrap_or(id));
        }
        10 if random.below(4) == 0 => drop(group.remove_consumer(&name)),
        11 => {
            let (consumer, _) = group.add_consumer(&name, now);
            let claim = Claim {
                idle_min: crate::base::clock::Ms(0),
                delivered_at: now,
                delivery_count: None,
                counts: true,
                force: random.below(2) == 0,
                now,
            };
            group.claim(id, consumer, &claim, entries);
        }
        12 => {
            let pending = group.pending_from(id).next().map(|pending| pending.id);
            group.deliver_again(pending.unwrap_or(id), now);
        }
        13 => group.last_delivered_id = id,
        _ if random.below(30) == 0 => {
            let (consumer, _) = group.add_consumer(&name, now);
            (first..=last).for_each(|ms| group.deliver(StreamId::new(ms, 0), consumer, now));
        }
        _ if random.below(30) == 0 => {
            for ms in first..=last {
                group.acknowledge(StreamId::new(ms, 0));
            }
        }
        _ => {}
    }
}

/// Blocks of few entries.
fn append(stream: &mut Stream, random: &mut Random) {
    let id = StreamId::new(stream.entries.last_id().ms + 1, 0);
    let words = [b"field".to_vec(), text(random, 100)];
    let limits = Limits {
        stream_node_max_entries: 4,
        ..Limits::default()
    };
    stream
        .entries
        .append(id, words.iter().map(Vec::as_slice), &limits)
        .unwrap();
}

#[test]
fn a_stream_is_read_and_taken_back_as_it_was() {
    run(&STREAM, 15);
}

#[test]
fn a_list_is_read_and_taken_back_as_it_was() {
    run(&LIST, 40);
}

#[test]
fn a_sorted_set_is_read_and_taken_back_as_it_was() {
    run(&SORTED_SET, 40);
}

#[test]
fn a_set_is_read_and_taken_back_as_it_was() {
    run(&SET, 40);
}

#[test]
fn a_hash_is_read_and_taken_back_as_it_was() {
    run(&HASH, 40);
}

/// What was known of expiries at the freeze is known again, though the walk over them has gone on in between.
#[test]
fn a_hash_that_is_taken_back_knows_its_expiries() {
    let mut random = Random::with_seed(7);
    let mut object = (HASH.make)(&mut random, 2000);
    let hash: &mut Hash = of(&mut object);
    let fields: Vec<Vec<u8>> = picture(ObjectRef::Hash(hash.as_ref()))
        .into_iter()
        .map(|part| part.0)
        .collect();
    for (n, field) in fields.iter().enumerate() {
        hash.set_expiry(field, Some(UnixMs(1000 + n as u64)), UnixMs(0), SEED);
    }
    hash.expire_fields(UnixMs(1100), 10, SEED);
    let before = (hash.len(), hash.as_ref().next_expiry());
    object.freeze(Use::Undo);
    let hash: &mut Hash = of(&mut object);
    while hash.as_ref().next_expiry().is_some() {
        hash.expire_fields(UnixMs(100_000), 50, SEED);
    }
    assert!(hash.is_empty());
    object.roll_back(SEED);
    (HASH.check)(&object);
    let hash: &mut Hash = of(&mut object);
    assert_eq!((hash.len(), hash.as_ref().next_expiry()), before);
    // A walk that had begun comes to the end with the true bound.
    while hash.as_ref().next_expiry().is_some_and(|next| next <= UnixMs(1100)) {
        hash.expire_fields(UnixMs(1101), 10, SEED);
    }
    assert_eq!(hash.as_ref().next_expiry(), Some(UnixMs(1101)));
}

/// What a change costs while the value is frozen: the element that was there.
#[test]
fn a_past_keeps_what_has_changed_and_nothing_else() {
    let mut random = Random::with_seed(1);
    let mut object = (SET.make)(&mut random, 3000);
    let was: BTreeMap<Vec<u8>, usize> = picture(object.as_ref()).into_iter().map(|part| (part.0, 0)).collect();
    let living = object.as_ref().allocated_bytes();
    object.freeze(Use::Snapshot);
    assert_eq!(
        (object.as_ref().allocated_bytes(), object.as_ref().kept_bytes()),
        (living, 0)
    );
    let set: &mut Set = of(&mut object);
    let gone: Vec<&Vec<u8>> = was.keys().take(100).collect();
    gone.iter().for_each(|member| assert!(set.remove(member, SEED)));
    let kept = object.as_ref().kept_bytes();
    let expected: usize = gone
        .iter()
        .map(|member| crate::base::size_class::size_class(member.len() + 1))
        .sum();
    assert!(
        kept >= 100 * 8 && kept <= expected + 128 * 8,
        "{kept} bytes, {expected} in elements"
    );
    assert!(
        object.as_ref().allocated_bytes() < living,
        "the account is that of the living"
    );
    // A whole slice frees what is gone.
    let mut reading = Reading::default();
    object.read_slice(Use::Snapshot, SEED, 100, &mut reading);
    assert_eq!((reading.parts.len(), object.as_ref().kept_bytes()), (100, 0));
    assert!(object.thaw(Use::Snapshot).is_empty());
}

/// The same for the groups of a stream: neither the freeze nor a change takes over a group with all that is pending in it, nor does a group that
/// goes have to be copied for each use that wants it.
#[test]
fn a_group_keeps_what_has_changed_and_nothing_else() {
    let mut stream = Stream::new();
    let now = UnixMs(1);
    for name in [&b"one"[..], b"other"] {
        let mut group = Group::new(name, StreamId::MIN, Some(0));
        let (consumer, _) = group.add_consumer(b"consumer", now);
        (1..10_000).for_each(|ms| group.deliver(StreamId::new(ms, 0), consumer, now));
        stream.groups.add(group);
    }
    let mut object = stream.into_object();
    assert!(
        object.as_ref().freezes(),
        "what is pending counts, though there is no entry"
    );
    let was = object.clone();
    for to in [Use::Undo, Use::Snapshot, Use::Copy] {
        object.freeze(to);
    }
    assert_eq!(object.as_ref().kept_bytes(), 0);
    let stream: &mut Stream = of(&mut object);
    let group_bytes = stream.groups.get(b"one").unwrap().allocated_bytes();
    for name in [b"one", b"two"] {
        if let Some(group) = stream.groups.get_mut(name) {
            (1..11).for_each(|ms| assert!(group.acknowledge(StreamId::new(ms, 0))));
        }
    }
    let kept = object.as_ref().kept_bytes();
    assert!(kept > 30 * 40 && kept < 6000, "{kept} bytes for ten of {group_bytes}");
    let stream: &mut Stream = of(&mut object);
    assert!(stream.groups.remove(b"one"));
    let kept = object.as_ref().kept_bytes();
    assert!(kept < group_bytes + 8000, "{kept} bytes, of a group of {group_bytes}");
    object.roll_back(SEED);
    assert!(picture(object.as_ref()) == picture(was.as_ref()));
    let kept = object.as_ref().kept_bytes();
    assert!(kept < 8000, "{kept} bytes: the group lives again");
    for to in [Use::Snapshot, Use::Copy] {
        let mut spent = object.thaw(to);
        while !spent.free_step(10) {}
    }
    assert_eq!(object.as_ref().kept_bytes(), 0);
}
