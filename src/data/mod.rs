//! Values: what they are and how they behave, apart from where they are kept and who asks.
//!
//! | module | what |
//! |---|---|
//! | `string` | how a string is encoded, which part of it a range names |
//! | `lcs` | the longest common subsequence of two strings |
//! | `limits` | when a small value stops being packed |
//! | `bitmap` | strings as rows of bits |
//! | `hyperloglog` | estimating how many different elements were seen, in a string |
//! | `geo` | positions as scores of a sorted set |
//! | `access` | the 24 bits that remember when or how often an entry was used |
//!
//! Only strings lie directly in an entry of the store. Every other type (list, hash, set, sorted set, stream) joins here:
//! a module with its structure, a line in `ValueType`, its lines in `Encoding`; the store then keeps one boxed object for
//! it as the payload of an entry (`store::entry`).
//!
//! Nothing in here reads a clock, draws a random number, or has heard of a client.

pub mod access;
pub mod bitmap;
pub mod geo;
pub mod hyperloglog;
pub mod lcs;
pub mod limits;
pub mod string;

pub use limits::Limits;

/// The type of a value, as TYPE names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// A string of bytes, or an integer that looks like one.
    String,
}

impl ValueType {
    /// What TYPE answers.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::String => "string",
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
}

impl Encoding {
    /// What OBJECT ENCODING answers.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::Embstr => "embstr",
            Encoding::Raw => "raw",
        }
    }
}
