//! Frozen values: the only face of what `past` does.
//!
//! A value is frozen for a [`Use`]: to be read as it was while it goes on changing (a snapshot, or a copy, in slices), or to become again what
//! it was (an undo). Freezing takes constant time whatever the value's size, each change then costs one part, and both ends of it
//! (rolling back, thawing) cost the changes that were made.
//!
//! That pays for values of many parts only. Smaller and packed ones are copied ([`ObjectRef::to_owned`]) by whoever would freeze them,
//! which [`ObjectRef::freezes`] tells: copying 64 elements takes some 10 µs, and a change of a packed value may move all of it anyway.
//! A copy is read through the same function as a frozen value, so who writes one needs to know no difference.
//!
//! What is read goes into a [`Sink`], which gets what a writer of files needs: first how much there is and what must be known
//! beforehand, then the parts, in the order in which the format has them where it has one.
//!
//! Strings are no [`Object`]s, and long ones freeze all the same: whoever has a value in his hands that may be either gets it as a [`Lent`].
//!
//! A frozen value must not be dropped or freed before it has been thawed, if what was to be done with it still matters: its past goes
//! with it. (The store moves it aside instead.) A clone of a frozen value is not frozen.

#[cfg(test)]
mod tests;

use super::hash::{Hash, HashRef};
use super::list::{List, ListRef, NodeView};
pub use super::past::{Spent, Use};
use super::set::{Set, SetRef};
use super::sorted_set::{SortedSet, SortedSetRef};
use super::stream::{Block, ConsumerHead, GroupHead, Numbers, Pending, StreamId};
use super::string::LongString;
use super::{Object, ObjectRef};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;

/// Takes what is read of a frozen value: either all of it at once, or a beginning and then its parts.
pub trait Sink {
    /// A value that was not frozen, as it is.
    fn whole(&mut self, object: ObjectRef<'_>);

    /// What a frozen value was, before any part of it.
    fn begin(&mut self, head: Head);

    /// The next part.
    fn part(&mut self, part: Part<'_>);
}

/// What a frozen value was. The encoding is that of all values of this type which can be frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A set in a table. [`Part::Member`]s follow, in no order.
    Set { len: usize },
    /// A hash in a table. [`Part::Field`]s follow, in no order. No field expires before `earliest`; None: none ever does.
    Hash { len: usize, earliest: Option<UnixMs> },
    /// A sorted set in a tree. [`Part::Scored`]s follow, mostly from the greatest to the smallest.
    SortedSet { len: usize },
    /// A list of nodes. So many [`Part::Node`]s follow, in their order.
    List { node_count: usize },
    /// A stream. So many [`Part::Block`]s follow, in their order, and then [`Part::Numbers`].
    Stream { block_count: usize },
    /// A long string. [`Part::Bytes`] follow, in their order, which are `len` bytes together.
    String { len: usize },
}

/// A part of a frozen value.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// A member of a set.
    Member(&'a [u8]),
    /// A field of a hash, its value, and when it expires.
    Field(&'a [u8], &'a [u8], Option<UnixMs>),
    /// A member of a sorted set with its score.
    Scored(&'a [u8], f64),
    /// A node of a list.
    Node(&'a NodeView<'a>),
    /// A block of a stream.
    Block(&'a Block),
    /// What else is known of a stream, and how many groups it has: [`Part::Group`]s follow.
    Numbers(&'a Numbers, usize),
    /// A group of a stream. As many [`Part::Pending`]s follow as it says, and then [`Part::Consumers`].
    Group(&'a GroupHead<'a>),
    /// An entry that is pending in the group.
    Pending(&'a Pending),
    /// How many [`Part::Consumer`]s of the group follow.
    Consumers(usize),
    /// A consumer. As many IDs follow as it says.
    Consumer(&'a ConsumerHead<'a>),
    /// IDs of entries that are pending for the consumer.
    Ids(&'a [StreamId]),
    /// Some of the bytes of a string.
    Bytes(&'a [u8]),
}

/// A structure that can be frozen.
pub(super) trait Freezable {
    /// Whether it is large enough.
    fn freezes(&self) -> bool;

    /// Begins a past; there must be none of this use.
    fn freeze(&mut self, to: Use);

    fn is_frozen(&self, to: Use) -> bool;

    /// What its pasts have taken over, and what they take themselves.
    fn kept_bytes(&self) -> usize;

    /// Ends a past, if there is one.
    fn thaw(&mut self, to: Use) -> Spent;

    /// Ends the undo's past by taking back all changes.
    fn roll_back(&mut self, seed: HashSeed);

    /// See [`Object::read_slice`].
    fn read_slice(&mut self, to: Use, seed: HashSeed, effort: usize, sink: &mut impl Sink) -> bool;
}

/// Does the same with whichever structure it is that can be frozen, and something other with all else. The names are those of
/// the enums: the owned ones, or those that are looked at.
macro_rules! with_freezable {
    ([$object_type:ident $list:ident $hash:ident $set:ident $sorted_set:ident] $object:expr, $it:ident => $does:expr, else $other:expr) => {
        match $object {
            $object_type::List($list::Nodes($it)) => $does,
            $object_type::Set($set::Table($it)) => $does,
            $object_type::Hash($hash::Table($it)) => $does,
            $object_type::SortedSet($sorted_set::Tree($it)) => $does,
            $object_type::Stream($it) => $does,
            _ => $other,
        }
    };
}

const NOT_FREEZABLE: &str = "what does not freeze is copied instead";

impl ObjectRef<'_> {
    /// Whether it has so many parts that it is frozen instead of copied.
    pub fn freezes(self) -> bool {
        with_freezable!([ObjectRef ListRef HashRef SetRef SortedSetRef] self, it => it.freezes(), else false)
    }

    /// Whether it is frozen for this use.
    #[inline]
    pub fn is_frozen(self, to: Use) -> bool {
        with_freezable!([ObjectRef ListRef HashRef SetRef SortedSetRef] self, it => it.is_frozen(to), else false)
    }

    /// Bytes that are kept because it is frozen; they are no part of what it takes itself.
    pub fn kept_bytes(self) -> usize {
        with_freezable!([ObjectRef ListRef HashRef SetRef SortedSetRef] self, it => it.kept_bytes(), else 0)
    }
}

impl Object {
    /// Freezes it as it is now. Asserts that it is of a kind that can be frozen ([`ObjectRef::freezes`]), and not frozen for this use yet.
    pub fn freeze(&mut self, to: Use) {
        with_freezable!([Object List Hash Set SortedSet] self, it => it.freeze(to), else panic!("{NOT_FREEZABLE}"));
    }

    /// Shows the next of what it was when it was frozen for this use, about `effort` parts of it; true after the last, and then it is to be
    /// thawed. What is shown is no longer kept. A value that is not frozen is shown whole, as it is.
    ///
    /// Between two slices the value may change in any way, and may be on another thread.
    pub fn read_slice(&mut self, to: Use, seed: HashSeed, effort: usize, sink: &mut impl Sink) -> bool {
        if !self.as_ref().is_frozen(to) {
            sink.whole(self.as_ref());
            return true;
        }
        with_freezable!([Object List Hash Set SortedSet] self, it => it.read_slice(to, seed, effort, sink), else panic!("{NOT_FREEZABLE}"))
    }

    /// Makes it what it was when it was frozen for an undo, and thaws it. What a structure does not promise (the order within a
    /// page of a table) may be another. Asserts that it was frozen.
    pub fn roll_back(&mut self, seed: HashSeed) {
        with_freezable!([Object List Hash Set SortedSet] self, it => it.roll_back(seed), else panic!("{NOT_FREEZABLE}"));
    }

    /// Forgets what it was, if it was frozen for this use.
    pub fn thaw(&mut self, to: Use) -> Spent {
        with_freezable!([Object List Hash Set SortedSet] self, it => it.thaw(to), else Spent::default())
    }
}

/// A value that is large enough to be frozen, or not, lent to whoever asks or does something about that.
pub enum Lent<'v> {
    Object(&'v mut Object),
    String(&'v mut LongString),
}

/// The same, only to be looked at.
#[derive(Clone, Copy)]
pub enum LentRef<'v> {
    Object(ObjectRef<'v>),
    String(&'v LongString),
}

impl LentRef<'_> {
    /// See [`ObjectRef::freezes`].
    #[inline]
    pub fn freezes(self) -> bool {
        match self {
            LentRef::Object(object) => object.freezes(),
            LentRef::String(string) => string.freezes(),
        }
    }

    /// See [`ObjectRef::is_frozen`].
    #[inline]
    pub fn is_frozen(self, to: Use) -> bool {
        match self {
            LentRef::Object(object) => object.is_frozen(to),
            LentRef::String(string) => string.is_frozen(to),
        }
    }

    /// See [`ObjectRef::kept_bytes`].
    pub fn kept_bytes(self) -> usize {
        match self {
            LentRef::Object(object) => object.kept_bytes(),
            LentRef::String(string) => string.kept_bytes(),
        }
    }
}

impl Lent<'_> {
    /// To look at it.
    pub fn as_ref(&self) -> LentRef<'_> {
        match self {
            Lent::Object(object) => LentRef::Object(object.as_ref()),
            Lent::String(string) => LentRef::String(string),
        }
    }

    /// See [`Object::freeze`].
    pub fn freeze(&mut self, to: Use) {
        match self {
            Lent::Object(object) => object.freeze(to),
            Lent::String(string) => string.freeze(to),
        }
    }

    /// See [`Object::read_slice`]. A string that is not frozen is shown as one part.
    pub fn read_slice(&mut self, to: Use, seed: HashSeed, effort: usize, sink: &mut impl Sink) -> bool {
        match self {
            Lent::Object(object) => object.read_slice(to, seed, effort, sink),
            Lent::String(string) => string.read_slice(to, seed, effort, sink),
        }
    }

    /// See [`Object::roll_back`].
    pub fn roll_back(&mut self, seed: HashSeed) {
        match self {
            Lent::Object(object) => object.roll_back(seed),
            Lent::String(string) => string.roll_back(seed),
        }
    }

    /// See [`Object::thaw`].
    pub fn thaw(&mut self, to: Use) -> Spent {
        match self {
            Lent::Object(object) => object.thaw(to),
            Lent::String(string) => string.thaw(to),
        }
    }
}
