//! Values: what they are and how they behave, apart from where they are kept and who asks.
//!
//! | module | what |
//! |---|---|
//! | `string` | how a string is encoded, which part of it a range names; long ones, which can be frozen |
//! | `lcs` | the longest common subsequence of two strings |
//! | `list` | lists: one listpack, or a sequence of them |
//! | `listpack`, `intset` | small values in one piece of memory, in Redis's formats; `block` is what they stand on |
//! | `ziplist` | readers of what Redis wrote before listpacks |
//! | `damaged` | what is wrong with bytes that claim to be one |
//! | `sorted_set` | sorted sets: one listpack, or a tree beside a dict |
//! | `stream` | streams and their groups |
//! | `limits` | when a small value stops being packed |
//! | `bitmap` | strings as rows of bits |
//! | `hyperloglog` | estimating how many different elements were seen, in a string |
//! | `geo` | positions as scores of a sorted set |
//! | `object` | one value of any of the types that are not strings |
//! | `hash`, `set` | two of the types: packed while they are small, a `dict` when they are big |
//! | `dict` | a hash table of packed pages: the keyspace, big hashes, sets and sorted sets |
//! | `element` | what they keep in it |
//! | `past` | what large values keep of themselves while they are frozen |
//! | `frozen` | freezing a value, reading it as it was, taking its changes back |
//! | `copying` | copying a large value in slices |
//! | `access` | the 24 bits that remember when or how often an entry was used |
//!
//! Only strings lie directly in an entry of the store. Every other type (list, hash, set, sorted set, stream) is an
//! [`Object`], which an entry keeps as one word and a byte (`object` says how a type joins).
//!
//! Nothing in here reads a clock, draws a random number, or has heard of a client.

pub mod access;
pub mod bitmap;
mod block;
pub mod copying;
pub mod damaged;
pub mod dict;
pub mod element;
pub mod frozen;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod intset;
pub mod lcs;
pub mod limits;
pub mod list;
pub mod listpack;
pub mod object;
mod past;
pub mod set;
pub mod sorted_set;
pub mod stream;
pub mod string;
pub mod ziplist;

pub use damaged::Damaged;
pub use limits::Limits;
pub use object::{Object, ObjectRef, TypedValue};

/// The type of a value, as TYPE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A string of bytes, or an integer that looks like one.
    String,
    /// A list of strings.
    List,
    /// A map of fields to values.
    Hash,
    /// A set of strings.
    Set,
    /// A set of strings, each with a score, in the order of the scores.
    SortedSet,
    /// A log of entries, each with fields and values.
    Stream,
}

impl ValueType {
    /// What TYPE answers.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::String => "string",
            ValueType::List => "list",
            ValueType::Hash => "hash",
            ValueType::Set => "set",
            ValueType::SortedSet => "zset",
            ValueType::Stream => "stream",
        }
    }
}

/// How a value is encoded, as OBJECT ENCODING names it. Clients see it and test for it; the layout in memory is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// A string that is a 64-bit integer.
    Int,
    /// A string that was set with at most 44 bytes.
    Embstr,
    /// A longer string, or one that was changed in place.
    Raw,
    /// A small list, hash, set or sorted set, packed into one allocation.
    Listpack,
    /// A small hash of which some fields have an expiry.
    ListpackEx,
    /// A list of packed nodes.
    Quicklist,
    /// A small set of integers.
    Intset,
    /// A hash or a set of any size.
    Hashtable,
    /// A sorted set of any size. (Redis has a skip list there, and clients know it by that name.)
    Skiplist,
    /// A stream.
    Stream,
}

impl Encoding {
    /// What OBJECT ENCODING answers.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::Embstr => "embstr",
            Encoding::Raw => "raw",
            Encoding::Listpack => "listpack",
            Encoding::ListpackEx => "listpackex",
            Encoding::Quicklist => "quicklist",
            Encoding::Intset => "intset",
            Encoding::Hashtable => "hashtable",
            Encoding::Skiplist => "skiplist",
            Encoding::Stream => "stream",
        }
    }
}
