//! Pasts. A value of each type that can be frozen is changed in any way, frozen, read in slices, copied in slices, taken back and thawed in
//! between; what is read, what is copied and what comes back is what was frozen, and the value stays sound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardis::base::clock::UnixMs;
use shardis::base::hash::HashSeed;
use shardis::base::random::Random;
use shardis::data::copying::Copying;
use shardis::data::frozen::{Head, Lent, Part, Sink, Use};
use shardis::data::hash::{FieldExpiry, Hash};
use shardis::data::list::{End, List, NewNode};
use shardis::data::listpack::Listpack;
use shardis::data::set::Set;
use shardis::data::sorted_set::{AddOptions, SortedSet};
use shardis::data::stream::{Block, Group, Numbers, Stream, StreamId, Trim, TrimBound};
use shardis::data::string::LongString;
use shardis::data::{Limits, Object, ObjectRef, TypedValue};

const SEED: HashSeed = HashSeed([3, 4]);
const BEGINNING: UnixMs = UnixMs(0);

fn limits() -> Limits {
    Limits {
        hash_max_listpack_entries: 4,
        set_max_intset_entries: 4,
        set_max_listpack_entries: 4,
        zset_max_listpack_entries: 4,
        list_max_listpack_size: 3,
        list_compress_depth: 1,
        list_packed_threshold: 60,
        stream_node_max_entries: 4,
        ..Limits::default()
    }
}

/// One of few texts, of many lengths.
fn text(choice: u8) -> Vec<u8> {
    vec![b'a' + choice % 16; 1 + usize::from(choice / 3)]
}

fn of_block(block: &Block) -> Vec<u8> {
    [format!("{:?} ", block.id()).as_bytes(), block.listpack().as_bytes()].concat()
}

fn of_numbers(numbers: &Numbers, group_count: usize) -> Vec<u8> {
    told(&(numbers, group_count))
}

fn told(what: &dyn std::fmt::Debug) -> Vec<u8> {
    format!("{what:?}").into_bytes()
}

/// What a stream has behind its blocks.
fn of_rest(stream: &Stream, all: &mut Vec<Vec<u8>>) {
    all.push(of_numbers(&stream.entries.numbers(), stream.groups.len()));
    for group in stream.groups.iter() {
        all.push(told(&group.head()));
        group.pending_from(StreamId::MIN).for_each(|pending| all.push(told(pending)));
        all.push(told(&group.consumer_count()));
        for consumer in group.consumers() {
            all.push(told(&consumer.head()));
            consumer.pending_from(StreamId::MIN).for_each(|id| all.push(told(&id)));
        }
    }
}

/// The elements: in order, if it is a list or a stream.
fn picture(object: ObjectRef<'_>) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    match object {
        ObjectRef::Set(set) => set.for_each(|member| all.push(member.to_vec())),
        ObjectRef::Hash(hash) => hash.for_each_with_expiry(|field, value, expiry| {
            all.push(format!("{:?} {:?} {expiry:?}", field.to_vec(), value.to_vec()).into_bytes());
        }),
        ObjectRef::SortedSet(set) => {
            all.extend(
                set.iter()
                    .map(|it| format!("{:?} {:?}", it.member.to_vec(), it.score).into_bytes()),
            );
        }
        ObjectRef::List(list) => {
            list.for_each(|item| all.push(item.to_vec()));
            return all;
        }
        ObjectRef::Stream(stream) => {
            all.extend(stream.entries.blocks().map(of_block));
            of_rest(stream, &mut all);
            return all;
        }
    }
    all.sort();
    all
}

/// What has been read of a frozen value.
#[derive(Default)]
struct Reading {
    has_begun: bool,
    parts: Vec<Vec<u8>>,
}

impl Sink for Reading {
    fn whole(&mut self, _object: ObjectRef<'_>) {
        panic!("it is frozen");
    }

    fn begin(&mut self, _head: Head) {
        assert!(!std::mem::replace(&mut self.has_begun, true));
    }

    fn part(&mut self, part: Part<'_>) {
        assert!(self.has_begun);
        match part {
            Part::Member(member) => self.parts.push(member.to_vec()),
            Part::Bytes(bytes) => self.parts.push(bytes.to_vec()),
            Part::Field(field, value, expiry) => {
                self.parts.push(format!("{field:?} {value:?} {expiry:?}").into_bytes());
            }
            Part::Scored(member, score) => self.parts.push(format!("{member:?} {score:?}").into_bytes()),
            Part::Block(block) => self.parts.push(of_block(block)),
            Part::Numbers(numbers, group_count) => self.parts.push(of_numbers(numbers, group_count)),
            Part::Group(group) => self.parts.push(told(group)),
            Part::Pending(pending) => self.parts.push(told(pending)),
            Part::Consumers(count) => self.parts.push(told(&count)),
            Part::Consumer(consumer) => self.parts.push(told(consumer)),
            Part::Ids(ids) => self.parts.extend(ids.iter().map(|id| told(id))),
            Part::Node(node) => {
                let node = match node.is_plain() {
                    true => NewNode::Plain(node.bytes()),
                    false => NewNode::Packed(Listpack::from_bytes(node.bytes()).expect("it is sound")),
                };
                let list = List::from_nodes([node], &Limits::default());
                list.as_ref().for_each(|item| self.parts.push(item.to_vec()));
            }
        }
    }
}

fn make(choice: u8) -> Object {
    let (limits, mut random) = (limits(), Random::with_seed(u64::from(choice)));
    let mut object = match choice % 5 {
        0 => Set::default().into_object(),
        1 => Hash::default().into_object(),
        2 => SortedSet::default().into_object(),
        3 => List::default().into_object(),
        _ => {
            let mut stream = Stream::new();
            stream.groups.add(Group::new(b"group0", StreamId::MIN, None));
            stream.into_object()
        }
    };
    for n in 0..300 {
        // Beside the texts that change, those that make it large.
        let element = format!("element {}", n * random.below(9)).into_bytes();
        add(&mut object, &element, n as u8, &limits);
    }
    object
}

fn add(object: &mut Object, element: &[u8], choice: u8, limits: &Limits) {
    match object {
        Object::Set(set) => {
            set.add(element, limits, SEED);
        }
        Object::Hash(hash) => {
            hash.set(element, &text(choice), FieldExpiry::Keep, BEGINNING, limits, SEED);
            if choice % 3 == 0 {
                let expiry = Some(UnixMs(1 + u64::from(choice)));
                hash.set_expiry(element, expiry, BEGINNING, SEED);
            }
        }
        Object::SortedSet(set) => {
            set.add(SEED, element, f64::from(choice % 7), AddOptions::default(), limits);
        }
        Object::List(list) => {
            let end = if choice % 2 == 0 { End::Front } else { End::Back };
            list.push(end, element, limits);
        }
        Object::Stream(stream) => {
            let id = StreamId::new(stream.entries.last_id().ms + 1, 0);
            let _ = stream.entries.append(id, [element, b"value"].into_iter(), limits);
            let name = [b"group", &[b'0' + choice % 3][..]].concat();
            if choice % 64 == 7 {
                stream.groups.add(Group::new(&name, StreamId::MIN, None));
            }
            if let Some(group) = stream.groups.get_mut(&name)
                && choice % 8 < 3
            {
                let (consumer, _) = group.add_consumer(&[choice % 32], UnixMs(1));
                group.deliver(id, consumer, UnixMs(2));
            }
        }
    }
}

fn remove(object: &mut Object, choice: u8, count: u8, limits: &Limits) {
    let element = text(choice);
    let mut random = Random::with_seed(u64::from(choice));
    match object {
        Object::Set(set) if count > 200 => set.pop(usize::from(count), &mut random, SEED, |_| ()),
        Object::Set(set) => {
            set.remove(&element, SEED);
        }
        Object::Hash(hash) if count > 200 => {
            hash.expire_fields(UnixMs(u64::from(choice)), 10, SEED);
        }
        Object::Hash(hash) => {
            hash.remove(&element, BEGINNING, SEED);
        }
        Object::SortedSet(set) if count > 200 => {
            let first = usize::from(choice).min(set.len());
            set.remove_ranks(SEED, first..(first + usize::from(count)).min(set.len()));
        }
        Object::SortedSet(set) => {
            set.remove(SEED, &element);
        }
        Object::List(list) => match count % 4 {
            0 => list.pop_many(End::Front, usize::from(choice % 16), limits, |_| ()),
            1 => list.pop_many(End::Back, usize::from(choice % 16), limits, |_| ()),
            2 => {
                list.set(i64::from(choice) * 3, &element, limits);
            }
            _ => {
                list.remove(1, &element, limits);
            }
        },
        Object::Stream(stream) => {
            let first = stream.entries.first_id().ms;
            let id = StreamId::new(first + u64::from(choice) * 2, 0);
            match count % 16 {
                0 => {
                    stream.entries.trim(&Trim {
                        bound: TrimBound::MinId(StreamId::new(first + u64::from(choice % 16), 0)),
                        is_approximate: choice % 2 == 0,
                        limit: None,
                    });
                }
                2 => drop(stream.groups.remove(&[b"group", &[b'0' + choice % 3][..]].concat())),
                3 | 4 => {
                    if let Some(group) = stream.groups.get_mut(&[b"group", &[b'0' + choice % 3][..]].concat()) {
                        let pending = group.pending_from(id).next().map(|pending| pending.id);
                        match count % 16 == 3 {
                            true => drop(group.acknowledge(pending.unwrap_or(id))),
                            false => drop(group.remove_consumer(&[choice % 32])),
                        }
                    }
                }
                1 => {
                    // Back behind what was deleted at the end.
                    (0..choice % 16).for_each(|_| {
                        if let Some(last) = stream.entries.last().map(|entry| entry.id) {
                            stream.entries.delete(last);
                        }
                    });
                    let last = stream.entries.last().map_or(StreamId::MIN, |entry| entry.id);
                    stream.entries.set_id(last, None, None);
                }
                _ => {
                    stream.entries.delete(id);
                }
            }
        }
    }
}

fn check(object: &Object) {
    match object {
        Object::Set(set) => set.check(SEED),
        Object::Hash(hash) => hash.check(SEED),
        Object::SortedSet(set) => set.check(SEED),
        Object::List(list) => list.check(0),
        Object::Stream(stream) => stream.check(),
    }
}

/// The same for a long string.
fn change_string(steps: &[u8]) {
    let bytes: Vec<u8> = (0..300_000u32).map(|at| (at / 7) as u8).collect();
    let mut string = LongString::with_capacity(bytes.len(), &bytes);
    let (mut undo, mut snapshot): (Option<Vec<u8>>, Option<(Vec<u8>, Reading)>) = (None, None);
    let mut shared = None;
    for step in steps.chunks_exact(3) {
        let (choice, count) = (step[1], step[2]);
        let len = string.bytes().len();
        match step[0] % 8 {
            0 => match undo.take() {
                None => {
                    undo = Some(string.bytes().to_vec());
                    Lent::String(&mut string).freeze(Use::Undo);
                }
                Some(was) => {
                    Lent::String(&mut string).roll_back(SEED);
                    assert!(string.bytes() == &was);
                }
            },
            1 if snapshot.is_none() => {
                snapshot = Some((string.bytes().to_vec(), Reading::default()));
                Lent::String(&mut string).freeze(Use::Snapshot);
            }
            1 | 2 => {
                if let Some((was, mut reading)) = snapshot.take() {
                    let effort = 1 + 16 * usize::from(count);
                    if !Lent::String(&mut string).read_slice(Use::Snapshot, SEED, effort, &mut reading) {
                        snapshot = Some((was, reading));
                        continue;
                    }
                    while !Lent::String(&mut string).thaw(Use::Snapshot).free_step(10) {}
                    assert!(reading.parts.concat() == was);
                }
            }
            3 if choice == 0 => {
                let to = [Use::Undo, Use::Snapshot][usize::from(count % 2)];
                let _ = Lent::String(&mut string).thaw(to).free_step(1000);
                match to {
                    Use::Undo => undo = None,
                    _ => snapshot = None,
                }
            }
            3 => shared = (choice % 2 == 0).then(|| string.bytes().clone()),
            4 => string.append(&text(choice).repeat(usize::from(count))),
            _ => {
                let from = usize::from(choice) * 2000 % len;
                let end = from + usize::from(count) * 60;
                string.edit(end, |bytes| bytes.write(from..end).fill(count));
            }
        }
    }
    drop(shared);
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, steps)) = data.split_first() else {
        return;
    };
    if kind % 6 == 5 {
        return change_string(steps);
    }
    let limits = limits();
    let mut object = make(kind);
    let (mut undo, mut snapshot): (Option<Object>, Option<(Object, Reading)>) = (None, None);
    let mut copy: Option<(Object, Copying)> = None;
    for step in steps.chunks_exact(3) {
        let (choice, count) = (step[1], step[2]);
        match step[0] % 8 {
            0 if undo.is_none() && object.as_ref().freezes() => {
                undo = Some(object.clone());
                object.freeze(Use::Undo);
            }
            0 => {
                if let Some(was) = undo.take() {
                    object.roll_back(SEED);
                    check(&object);
                    assert_eq!(picture(object.as_ref()), picture(was.as_ref()));
                }
            }
            1 if snapshot.is_none() && object.as_ref().freezes() => {
                snapshot = Some((object.clone(), Reading::default()));
                object.freeze(Use::Snapshot);
            }
            1 | 2 => {
                if let Some((was, mut reading)) = snapshot.take() {
                    if !object.read_slice(Use::Snapshot, SEED, 1 + usize::from(count), &mut reading) {
                        snapshot = Some((was, reading));
                        continue;
                    }
                    while !object.thaw(Use::Snapshot).free_step(10) {}
                    if !matches!(was, Object::List(_) | Object::Stream(_)) {
                        reading.parts.sort();
                    }
                    assert_eq!(reading.parts, picture(was.as_ref()));
                }
            }
            3 if choice == 0 => {
                let to = [Use::Undo, Use::Snapshot, Use::Copy][usize::from(count % 3)];
                let _ = object.thaw(to).free_step(1000);
                match to {
                    Use::Undo => undo = None,
                    Use::Snapshot => snapshot = None,
                    Use::Copy => copy = None,
                }
            }
            3 if choice == 1 && copy.is_none() && object.as_ref().freezes() => {
                copy = Some((object.clone(), Copying::begin(&mut object, &limits)));
            }
            3 if choice % 4 == 1 => {
                if let Some((was, mut copying)) = copy.take() {
                    if !copying.step(&mut object, SEED, 1 + usize::from(count)) {
                        copy = Some((was, copying));
                        continue;
                    }
                    while !object.thaw(Use::Copy).free_step(10) {}
                    let made = copying.into_object().expect("it is whole");
                    check(&made);
                    assert_eq!(picture(made.as_ref()), picture(was.as_ref()));
                }
            }
            3 | 4 => remove(&mut object, choice, count, &limits),
            _ => add(&mut object, &text(choice), count, &limits),
        }
    }
    check(&object);
});
