//! A copy of a large value, made in slices.
//!
//! The value is frozen for it ([`Use::Copy`]) and read as any frozen value is; what is read becomes a value of the same type and layout. So the
//! copy is that of the moment at which it was begun, whatever becomes of the value meanwhile. Two things may differ from a copy
//! that is made at once, and nobody but the account of memory sees them: how full pages and leaves are, and which nodes of a list are
//! compressed (by the settings of now).

use super::frozen::{Head, Part, Sink, Use};
use super::hash::{Hash, HashTable};
use super::list::{List, NodeList};
use super::set::{Set, SetTable};
use super::sorted_set::{SortedSet, SortedTree};
use super::stream::{ConsumerNumber, Group, Stream};
use super::{Limits, Object, ObjectRef};
use crate::base::hash::HashSeed;

/// A copy that is under way.
pub struct Copying {
    copy: Option<Object>,
    /// The group of a stream that is being copied, and the consumer in it.
    reader: Option<(Box<[u8]>, Option<ConsumerNumber>)>,
    limits: Limits,
}

impl Copying {
    /// Begins to copy a value as it is now. Asserts that it is one that can be frozen ([`ObjectRef::freezes`]).
    pub fn begin(value: &mut Object, limits: &Limits) -> Copying {
        value.freeze(Use::Copy);
        Copying {
            copy: None,
            reader: None,
            limits: *limits,
        }
    }

    /// Copies about `effort` more parts of the value; true after the last, and then it is to be thawed.
    pub fn step(&mut self, value: &mut Object, seed: HashSeed, effort: usize) -> bool {
        value.read_slice(Use::Copy, seed, effort, &mut Adding { copying: self, seed })
    }

    /// The copy; None: nothing has been copied.
    pub fn into_object(self) -> Option<Object> {
        self.copy
    }
}

/// One slice.
struct Adding<'c> {
    copying: &'c mut Copying,
    seed: HashSeed,
}

impl Sink for Adding<'_> {
    fn whole(&mut self, _object: ObjectRef<'_>) {
        unreachable!("it was frozen when the copy began");
    }

    fn begin(&mut self, head: Head) {
        self.copying.copy = Some(match head {
            Head::Set { .. } => Object::Set(Set::Table(Box::<SetTable>::default())),
            Head::Hash { .. } => Object::Hash(Hash::Table(Box::<HashTable>::default())),
            Head::SortedSet { .. } => Object::SortedSet(SortedSet::Tree(Box::new(SortedTree::new()))),
            Head::List { .. } => Object::List(List::Nodes(Box::<NodeList>::default())),
            Head::Stream { .. } => Object::Stream(Box::new(Stream::new())),
            Head::String { .. } => unreachable!("a string is no object: a copy shares it"),
        });
    }

    fn part(&mut self, part: Part<'_>) {
        let seed = self.seed;
        match (part, &mut self.copying.copy) {
            (Part::Member(member), Some(Object::Set(Set::Table(set)))) => set.append(member, seed),
            (Part::Field(field, value, expiry), Some(Object::Hash(Hash::Table(hash)))) => {
                hash.append(field, value, expiry, seed);
            }
            (Part::Scored(member, score), Some(Object::SortedSet(SortedSet::Tree(set)))) => {
                set.insert(seed, member, score);
            }
            (Part::Node(node), Some(Object::List(List::Nodes(list)))) => list.append(node, &self.copying.limits),
            (Part::Block(block), Some(Object::Stream(stream))) => stream.append_block(block),
            (Part::Numbers(numbers, _), Some(Object::Stream(stream))) => stream.append_numbers(numbers),
            (Part::Group(head), Some(Object::Stream(stream))) => {
                let group = Group::new(head.name, head.last_delivered_id, head.entries_read);
                self.copying.reader = Some((head.name.into(), None));
                stream.groups.add(group);
            }
            (part, Some(Object::Stream(stream))) => {
                let Some((name, consumer)) = &mut self.copying.reader else {
                    unreachable!("{part:?} comes behind its group");
                };
                let group = stream.groups.get_mut(name).expect("it was put there");
                match (part, &consumer) {
                    (Part::Pending(pending), _) => group.append_pending(pending),
                    (Part::Consumers(_), _) => {}
                    (Part::Consumer(head), _) => *consumer = Some(group.append_consumer(head)),
                    (Part::Ids(ids), Some(consumer)) => group.append_ids(*consumer, ids),
                    (part, _) => unreachable!("{part:?} is no part of a group"),
                }
            }
            (part, _) => unreachable!("{part:?} is no part of what has begun"),
        }
    }
}
