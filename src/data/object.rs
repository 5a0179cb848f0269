//! A value that is not a string: one of the types, owned or looked at, and how it is kept in one word.
//!
//! [`Object`] is what a change gets, [`ObjectRef`] what a reader gets: the same enum of references, `Copy`, straight into the
//! structures, so that a reply is written from the stored bytes. Between uses an object lies in an entry of the store as a *kind*
//! (a byte) and a *word*:
//!
//! ```text
//! Object::Hash(Hash::Packed(Listpack))      kind 2, word = the pointer in the Listpack
//! Object::Hash(Hash::Table(Box<..>))        kind 4, word = the pointer in the Box
//! ```
//!
//! For that every variant of every type holds exactly one thin pointer ([`ThinPointer`]): a box, or a packed structure that is one
//! pointer itself. A type joins with its name in `types!` and a line for each of its variants in `kinds!`.
//!
//! Invariants:
//! 1. A kind belongs to one variant of one type, and stays within the process: no file has it.
//! 2. A kind and a word that came from [`Object::into_word`] together stay together.

use std::fmt;
use std::ptr::NonNull;

use super::dict::Foresight;
use super::hash::{Hash, HashRef, HashTable, PackedTtl};
use super::intset::Intset;
use super::list::{List, ListRef, NodeList};
use super::listpack::Listpack;
use super::set::{Set, SetRef, SetTable};
use super::sorted_set::{SortedSet, SortedSetRef, SortedTree};
use super::stream::Stream;
use super::{Encoding, ValueType};
use crate::base::clock::UnixMs;
use crate::base::hash::HashSeed;

/// A type of values that are not strings.
pub trait TypedValue: Sized {
    /// The type, for reading.
    type Ref<'a>: Copy;

    /// Its name among the types.
    const TYPE: ValueType;

    /// An empty value, as a command creates it before it adds the first element.
    fn empty() -> Self;

    /// The value, if the object is of this type.
    fn of<'a>(object: ObjectRef<'a>) -> Option<Self::Ref<'a>>;

    /// The value to change, if the object is of this type.
    fn of_mut(object: &mut Object) -> Option<&mut Self>;

    /// As an object.
    fn into_object(self) -> Object;

    /// What is counted of it before and after a change.
    fn gauge(&self) -> Gauge;
}

/// What a change of a value may change of what is counted outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// Bytes taken from the allocator.
    pub allocated_bytes: usize,
    /// A key must not hold it: [`Object::is_void`].
    pub is_void: bool,
}

/// Something that is one pointer, which it owns.
///
/// # Safety
/// `from_word` of what `into_word` gave is the same value again, and `borrow` sees it without taking it.
unsafe trait ThinPointer: Sized {
    /// What a reader gets a reference to.
    type Target;

    fn into_word(self) -> NonNull<u8>;

    /// # Safety
    /// `word` came from `into_word`, and nobody else uses it from here on.
    unsafe fn from_word(word: NonNull<u8>) -> Self;

    /// # Safety
    /// `word` came from `into_word`, and is not changed as long as the reference lives.
    unsafe fn borrow(word: &NonNull<u8>) -> &Self::Target;

    /// A deep copy.
    fn copy_of(target: &Self::Target) -> Self;
}

// SAFETY: a box of a sized value is one pointer to it.
unsafe impl<T: Clone> ThinPointer for Box<T> {
    type Target = T;

    fn into_word(self) -> NonNull<u8> {
        NonNull::from(Box::leak(self)).cast()
    }

    unsafe fn from_word(word: NonNull<u8>) -> Box<T> {
        // SAFETY: it is the pointer of a box, given up by `into_word`.
        unsafe { Box::from_raw(word.cast().as_ptr()) }
    }

    unsafe fn borrow(word: &NonNull<u8>) -> &T {
        // SAFETY: the box is alive and unchanged for `'a`, as the caller promises.
        unsafe { word.cast().as_ref() }
    }

    fn copy_of(target: &T) -> Box<T> {
        Box::new(target.clone())
    }
}

/// A structure that is itself nothing but a pointer.
macro_rules! is_a_pointer {
    ($($type:ty),+) => {
        $(
            const _: () = assert!(size_of::<$type>() == size_of::<NonNull<u8>>());

            // SAFETY: the type is transparent over one pointer.
            unsafe impl ThinPointer for $type {
                type Target = $type;

                fn into_word(self) -> NonNull<u8> {
                    self.into_raw()
                }

                unsafe fn from_word(word: NonNull<u8>) -> $type {
                    // SAFETY: the pointer was one of these, and nobody else uses it.
                    unsafe { <$type>::from_raw(word) }
                }

                unsafe fn borrow(word: &NonNull<u8>) -> &$type {
                    // SAFETY: transparent, so the word in its place is the structure in its place.
                    unsafe { &*std::ptr::from_ref(word).cast() }
                }

                fn copy_of(target: &$type) -> $type {
                    target.clone()
                }
            }
        )+
    };
}

is_a_pointer!(Listpack, Intset);

/// The types: name, the structure, how an object owns it and refers to it, and how it gets there.
macro_rules! types {
    ($($name:ident: $type:ty, $owned:ty, $ref:ty, |$value:ident| $wrap:expr;)+) => {
        /// A value that is not a string.
        #[derive(Clone)]
        pub enum Object {
            $(
                #[doc = concat!("What `TYPE` calls a ", stringify!($name), ".")]
                $name($owned),
            )+
        }

        /// A value that is not a string, to look at.
        #[derive(Clone, Copy)]
        pub enum ObjectRef<'a> {
            $(
                #[doc = concat!("What `TYPE` calls a ", stringify!($name), ".")]
                $name($ref),
            )+
        }

        impl Object {
            /// To look at it.
            pub fn as_ref(&self) -> ObjectRef<'_> {
                match self {
                    $( Object::$name(it) => ObjectRef::$name(it.as_ref()), )+
                }
            }

            /// Frees up to so many elements or nodes; true when nothing is left. In between nothing else may be done with it but
            /// to drop it.
            pub fn free_step(&mut self, elements_max: usize) -> bool {
                match self {
                    $( Object::$name(it) => it.free_step(elements_max), )+
                }
            }
        }

        impl ObjectRef<'_> {
            /// What TYPE answers.
            pub fn type_of(self) -> ValueType {
                match self {
                    $( ObjectRef::$name(_) => ValueType::$name, )+
                }
            }

            /// What OBJECT ENCODING answers.
            pub fn encoding(self) -> Encoding {
                match self {
                    $( ObjectRef::$name(it) => it.encoding(), )+
                }
            }

            /// Elements, fields, members or entries.
            pub fn len(self) -> usize {
                match self {
                    $( ObjectRef::$name(it) => it.len(), )+
                }
            }

            /// Bytes taken from the allocator.
            pub fn allocated_bytes(self) -> usize {
                match self {
                    $( ObjectRef::$name(it) => it.allocated_bytes(), )+
                }
            }
        }

        $(
            impl TypedValue for $type {
                type Ref<'a> = $ref;

                const TYPE: ValueType = ValueType::$name;

                fn empty() -> $type {
                    <$type>::default()
                }

                fn of<'a>(object: ObjectRef<'a>) -> Option<$ref> {
                    match object {
                        ObjectRef::$name(it) => Some(it),
                        _ => None,
                    }
                }

                fn of_mut(object: &mut Object) -> Option<&mut $type> {
                    match object {
                        Object::$name(it) => Some(it),
                        _ => None,
                    }
                }

                fn into_object(self) -> Object {
                    let $value = self;
                    Object::$name($wrap)
                }

                #[inline]
                fn gauge(&self) -> Gauge {
                    Gauge {
                        allocated_bytes: self.allocated_bytes(),
                        is_void: may_be_void(ValueType::$name) && self.len() == 0,
                    }
                }
            }
        )+
    };
}

types! {
    List: List, List, ListRef<'a>, |it| it;
    Hash: Hash, Hash, HashRef<'a>, |it| it;
    Set: Set, Set, SetRef<'a>, |it| it;
    SortedSet: SortedSet, SortedSet, SortedSetRef<'a>, |it| it;
    Stream: Stream, Box<Stream>, &'a Stream, |it| Box::new(it);
}

/// The variants of all types, each with its kind: number, pointer, how it is owned, how it is referred to.
macro_rules! kinds {
    ($it:ident; $($kind:literal: $pointer:ty, [$($owned:tt)+], [$($seen:tt)+];)+) => {
        impl Object {
            /// Invariant 1.
            pub(crate) fn kind(&self) -> u8 {
                match self {
                    $( $($owned)+ => { let _ = $it; $kind } )+
                }
            }

            /// Gives the object up for its word; `kind` is to be asked before.
            pub(crate) fn into_word(self) -> NonNull<u8> {
                match self {
                    $( $($owned)+ => <$pointer as ThinPointer>::into_word($it), )+
                }
            }

            /// The object again.
            ///
            /// # Safety
            /// `kind` and `word` are those of one object (invariant 2), and nobody else uses the word from here on.
            pub(crate) unsafe fn from_word(kind: u8, word: NonNull<u8>) -> Object {
                match kind {
                    $(
                        $kind => {
                            // SAFETY: the kind says that the word is such a pointer.
                            let $it = unsafe { <$pointer as ThinPointer>::from_word(word) };
                            $($owned)+
                        }
                    )+
                    other => unreachable!("no object has the kind {other}"),
                }
            }
        }

        impl<'a> ObjectRef<'a> {
            /// The object in its place.
            ///
            /// # Safety
            /// `kind` and `word` are those of one object (invariant 2), which does not change for `'a`.
            pub(crate) unsafe fn from_word(kind: u8, word: &'a NonNull<u8>) -> ObjectRef<'a> {
                match kind {
                    $(
                        $kind => {
                            // SAFETY: the kind says that the word is such a pointer.
                            let $it = unsafe { <$pointer as ThinPointer>::borrow(word) };
                            $($seen)+
                        }
                    )+
                    other => unreachable!("no object has the kind {other}"),
                }
            }

            /// A deep copy.
            pub fn to_owned(self) -> Object {
                match self {
                    $(
                        $($seen)+ => {
                            let $it = <$pointer as ThinPointer>::copy_of($it);
                            $($owned)+
                        }
                    )+
                }
            }
        }
    };
}

kinds! { it;
    0: Listpack, [Object::List(List::Packed(it))], [ObjectRef::List(ListRef::Packed(it))];
    1: Box<NodeList>, [Object::List(List::Nodes(it))], [ObjectRef::List(ListRef::Nodes(it))];
    2: Listpack, [Object::Hash(Hash::Packed(it))], [ObjectRef::Hash(HashRef::Packed(it))];
    3: Box<PackedTtl>, [Object::Hash(Hash::PackedTtl(it))], [ObjectRef::Hash(HashRef::PackedTtl(it))];
    4: Box<HashTable>, [Object::Hash(Hash::Table(it))], [ObjectRef::Hash(HashRef::Table(it))];
    5: Intset, [Object::Set(Set::Ints(it))], [ObjectRef::Set(SetRef::Ints(it))];
    6: Listpack, [Object::Set(Set::Packed(it))], [ObjectRef::Set(SetRef::Packed(it))];
    7: Box<SetTable>, [Object::Set(Set::Table(it))], [ObjectRef::Set(SetRef::Table(it))];
    8: Listpack, [Object::SortedSet(SortedSet::Packed(it))], [ObjectRef::SortedSet(SortedSetRef::Packed(it))];
    9: Box<SortedTree>, [Object::SortedSet(SortedSet::Tree(it))], [ObjectRef::SortedSet(SortedSetRef::Tree(it))];
    10: Box<Stream>, [Object::Stream(it)], [ObjectRef::Stream(it)];
}

/// Freeing this many allocations takes a few microseconds; what has more is freed in steps. The number is Redis's.
pub(super) const FREED_AT_ONCE_MAX: usize = 64;

impl Object {
    /// Takes out what is over in it by `now` (fields of a hash), as `Hash::expire_fields`.
    pub fn expire_fields(&mut self, now: UnixMs, examined_max: usize, seed: HashSeed) -> Vec<Box<[u8]>> {
        match self {
            Object::Hash(hash) => hash.expire_fields(now, examined_max, seed),
            _ => Vec::new(),
        }
    }

    /// Whether a key must not hold it: it has no elements any more. (A stream without entries stays.)
    pub fn is_void(&self) -> bool {
        may_be_void(self.as_ref().type_of()) && self.as_ref().is_empty()
    }
}

/// Whether a value of this type ends with its last element.
const fn may_be_void(value_type: ValueType) -> bool {
    !matches!(value_type, ValueType::Stream)
}

impl<'a> ObjectRef<'a> {
    /// The listpack that it is, if it is one as a whole.
    pub fn listpack(self) -> Option<&'a Listpack> {
        match self {
            ObjectRef::List(ListRef::Packed(pack))
            | ObjectRef::Hash(HashRef::Packed(pack))
            | ObjectRef::Set(SetRef::Packed(pack))
            | ObjectRef::SortedSet(SortedSetRef::Packed(pack)) => Some(pack),
            _ => None,
        }
    }

    /// Whether its elements lie in a table, so that [`ObjectRef::foresee`] has something to ask for.
    #[inline]
    pub fn has_table(self) -> bool {
        matches!(
            self,
            ObjectRef::Hash(HashRef::Table(_))
                | ObjectRef::Set(SetRef::Table(_))
                | ObjectRef::SortedSet(SortedSetRef::Tree(_))
        )
    }

    /// Asks for the memory that a lookup of the element with this hash will read; for other encodings nothing.
    #[inline]
    pub fn foresee(self, hash: u64, stage: Foresight) {
        match self {
            ObjectRef::Hash(HashRef::Table(table)) => table.foresee(hash, stage),
            ObjectRef::Set(SetRef::Table(table)) => table.foresee(hash, stage),
            ObjectRef::SortedSet(SortedSetRef::Tree(tree)) => tree.foresee(hash, stage),
            _ => {}
        }
    }

    /// Before this nothing in it expires by itself (fields of a hash); None: nothing ever does.
    #[inline]
    pub fn next_expiry(self) -> Option<UnixMs> {
        match self {
            ObjectRef::Hash(hash) => hash.next_expiry(),
            _ => None,
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// About how many allocations there are to free.
    pub fn free_effort(self) -> usize {
        match (self, self.encoding()) {
            (_, Encoding::Listpack | Encoding::ListpackEx | Encoding::Intset) => 1,
            (ObjectRef::Stream(stream), _) => stream.entries.block_count() + stream.groups.effort(),
            (ObjectRef::List(list), _) => list.node_count(),
            _ => self.len(),
        }
    }

    /// Whether freeing it takes so long that it must be done in steps.
    pub fn is_heavy(self) -> bool {
        self.free_effort() > FREED_AT_ONCE_MAX
    }
}

impl fmt::Debug for ObjectRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}) of {}",
            self.type_of().name(),
            self.encoding().name(),
            self.len()
        )
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// An entry of the store moves between threads with all that it holds.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Object>();
};
